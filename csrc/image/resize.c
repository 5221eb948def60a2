#include "image/resize.h"

#include "core/memory.h"

#include <math.h>
#include <string.h>

/* Two passes, columns before rows, each rounding to 8 bits, with weights in fixed point. The
 * order, the rounding and the 22 bits are those of Pillow's Resample.c, so that networks
 * trained on its output see the same pixels. */
enum { WEIGHT_BITS = 22, HALF = 1 << (WEIGHT_BITS - 1), CHANNELS = FACS_IMAGE_CHANNELS };

/* Where each output sample reads: `count` inputs from `first`, `taps` weights apart. */
typedef struct span {
    int first, count;
} span;

typedef struct axis {
    span *spans;
    int32_t *weights;
    int taps, in, out;
    double from, length; /* the box along this axis, in input samples */
} axis;

void facs_image_scratch_free(facs_image_scratch *scratch)
{
    if (!scratch) return;
    facs_free(scratch->bytes);
    *scratch = (facs_image_scratch){0};
}

facs_status facs_image_scratch_reserve(facs_image_scratch *scratch, size_t bytes)
{
    if (bytes <= scratch->capacity) return FACS_OK;
    facs_image_scratch_free(scratch);
    FACS_TRY(facs_allocate_slab(&scratch->bytes, bytes, "image scratch"));
    scratch->capacity = bytes;
    return FACS_OK;
}

facs_image_box facs_image_box_full(void)
{
    return (facs_image_box){0, 0, 1, 1};
}

facs_image_box facs_image_box_square(const facs_image *image)
{
    const int side = image->height < image->width ? image->height : image->width;
    const double width = (double)side / image->width, height = (double)side / image->height;
    return (facs_image_box){(1 - width) / 2, (1 - height) / 2, width, height};
}

static axis make_axis(int in, int out, double from_fraction, double fraction)
{
    axis a = {.in = in, .out = out, .from = from_fraction * in, .length = fraction * in};
    if (a.from + a.length > in) /* rounding of the fractions */
        a.length = in - a.from;
    const double scale = a.length / out;
    a.taps = 2 * (int)ceil(scale > 1 ? scale : 1) + 1;
    return a;
}

static size_t axis_bytes(const axis *a)
{
    return facs_align((size_t)a->out * sizeof *a->spans) +
           facs_align((size_t)a->out * (size_t)a->taps * sizeof *a->weights);
}

static uint8_t *place_axis(axis *a, uint8_t *at)
{
    a->spans = (span *)at;
    a->weights = (int32_t *)(at + facs_align((size_t)a->out * sizeof *a->spans));
    return at + axis_bytes(a);
}

static double triangle(double x)
{
    x = fabs(x);
    return x < 1 ? 1 - x : 0;
}

static void fill_axis(axis *a)
{
    const double scale = a->length / a->out, support = scale > 1 ? scale : 1;
    const double inverse = 1 / support;

    for (int i = 0; i < a->out; i++) {
        const double centre = a->from + (i + 0.5) * scale;
        int32_t *weights = a->weights + (int64_t)i * a->taps;
        int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
        double sum = 0;

        first = first < 0 ? 0 : first;
        last = last > a->in ? a->in : last;
        for (int j = first; j < last; j++) sum += triangle((j - centre + 0.5) * inverse);
        for (int j = first; j < last; j++)
            weights[j - first] = (int32_t)(0.5 + triangle((j - centre + 0.5) * inverse) / sum *
                                                     (1 << WEIGHT_BITS));
        a->spans[i] = (span){first, last - first};
    }
}

/* Weights are never negative and sum to 1 within rounding: only the top can overflow. */
static inline uint8_t to_pixel(int32_t sum)
{
    const int32_t v = sum >> WEIGHT_BITS;
    return (uint8_t)(v > 255 ? 255 : v);
}

static void resize_row(uint8_t *restrict out, const uint8_t *restrict in, const axis *a)
{
    for (int i = 0; i < a->out; i++) {
        const span s = a->spans[i];
        const int32_t *w = a->weights + (int64_t)i * a->taps;
        const uint8_t *p = in + (int64_t)s.first * CHANNELS;
        int32_t r = HALF, g = HALF, b = HALF;
        for (int j = 0; j < s.count; j++, p += CHANNELS) {
            r += p[0] * w[j];
            g += p[1] * w[j];
            b += p[2] * w[j];
        }
        out[CHANNELS * i] = to_pixel(r);
        out[CHANNELS * i + 1] = to_pixel(g);
        out[CHANNELS * i + 2] = to_pixel(b);
    }
}

/* One output row from `count` input rows of `length` bytes. */
static void mix_rows(uint8_t *restrict out, const uint8_t *restrict in, int length, int count,
                     const int32_t *restrict weights, int32_t *restrict sums)
{
    for (int i = 0; i < length; i++) sums[i] = HALF;
    for (int j = 0; j < count; j++) {
        const uint8_t *restrict row = in + (int64_t)j * length;
        const int32_t weight = weights[j];
        for (int i = 0; i < length; i++) sums[i] += row[i] * weight;
    }
    for (int i = 0; i < length; i++) out[i] = to_pixel(sums[i]);
}

static facs_status check_box(const facs_image *in, const facs_image_box *box, int height,
                             int width)
{
    const double slack = 1e-9;

    if (height < 1 || width < 1 || height > FACS_IMAGE_MAX_SIDE || width > FACS_IMAGE_MAX_SIDE)
        return facs_fail(FACS_E_ARG, "resize: output is %d x %d, want sides of 1 to %d", height,
                         width, FACS_IMAGE_MAX_SIDE);
    if (in->height < 1 || in->width < 1)
        return facs_fail(FACS_E_SHAPE, "resize: the image is empty (%d x %d)", in->height,
                         in->width);
    if (!(box->x >= 0 && box->y >= 0 && box->width > 0 && box->height > 0 &&
          box->x + box->width <= 1 + slack && box->y + box->height <= 1 + slack && box->x < 1 &&
          box->y < 1))
        return facs_fail(FACS_E_ARG,
                         "crop: box (%g, %g, %g, %g) leaves the image, want x, y, width and "
                         "height as fractions within [0, 1]",
                         box->x, box->y, box->width, box->height);
    return FACS_OK;
}

facs_status facs_image_resize_box(uint8_t *out, int height, int width, const facs_image *in,
                                  const facs_image_box *box, facs_image_scratch *scratch)
{
    FACS_TRY(check_box(in, box, height, width));
    axis columns = make_axis(in->width, width, box->x, box->width);
    axis rows = make_axis(in->height, height, box->y, box->height);
    const size_t row_bytes = (size_t)width * CHANNELS;
    const size_t sums_bytes = facs_align(row_bytes * sizeof(int32_t));

    /* Only rows that the second pass reads get a first pass. */
    const size_t reach = (size_t)rows.length + (size_t)rows.taps + 2;
    const size_t span_rows = reach < (size_t)in->height ? reach : (size_t)in->height;
    FACS_TRY(facs_image_scratch_reserve(scratch, axis_bytes(&columns) + axis_bytes(&rows) +
                                                     sums_bytes + span_rows * row_bytes));
    uint8_t *at = place_axis(&rows, place_axis(&columns, scratch->bytes));
    int32_t *sums = (int32_t *)at;
    uint8_t *narrow = at + sums_bytes;
    fill_axis(&columns);
    fill_axis(&rows);

    const span last = rows.spans[height - 1];
    const int begin = rows.spans[0].first, end = last.first + last.count;
    for (int y = begin; y < end; y++)
        resize_row(narrow + (size_t)(y - begin) * row_bytes,
                   in->pixels + (size_t)y * (size_t)in->width * CHANNELS, &columns);
    for (int y = 0; y < height; y++)
        mix_rows(out + (size_t)y * row_bytes,
                 narrow + (size_t)(rows.spans[y].first - begin) * row_bytes, (int)row_bytes,
                 rows.spans[y].count, rows.weights + (int64_t)y * rows.taps, sums);
    return FACS_OK;
}

facs_status facs_image_resize(uint8_t *out, int height, int width, const facs_image *in,
                              facs_image_scratch *scratch)
{
    const facs_image_box full = facs_image_box_full();
    return facs_image_resize_box(out, height, width, in, &full, scratch);
}

facs_status facs_image_crop_centre(uint8_t *out, int height, int width, const facs_image *in)
{
    if (height < 1 || width < 1 || height > in->height || width > in->width)
        return facs_fail(FACS_E_SHAPE,
                         "centre crop: %d x %d does not fit into an image of %d x %d", height,
                         width, in->height, in->width);
    const int top = (in->height - height) / 2, left = (in->width - width) / 2;
    for (int y = 0; y < height; y++)
        memcpy(out + (size_t)y * (size_t)width * CHANNELS,
               in->pixels + ((size_t)(top + y) * (size_t)in->width + (size_t)left) * CHANNELS,
               (size_t)width * CHANNELS);
    return FACS_OK;
}
