#include "image/align.h"

#include <math.h>

enum { CHANNELS = FACS_IMAGE_CHANNELS };

static int finite_points(const facs_position points[2])
{
    return isfinite(points[0].x) && isfinite(points[0].y) && isfinite(points[1].x) &&
           isfinite(points[1].y);
}

facs_status facs_similarity_from_points(facs_similarity *similarity, const facs_position in[2],
                                        const facs_position out[2])
{
    if (!finite_points(in) || !finite_points(out))
        return facs_fail(FACS_E_ARG,
                         "align: points are (%g, %g), (%g, %g), want finite coordinates",
                         in[0].x, in[0].y, in[1].x, in[1].y);
    const double u = out[1].x - out[0].x, v = out[1].y - out[0].y;
    const double x = in[1].x - in[0].x, y = in[1].y - in[0].y, square = u * u + v * v;
    if (!(square > 0) || !(x * x + y * y > 0))
        return facs_fail(FACS_E_ARG, "align: both points are (%g, %g), want two",
                         square > 0 ? in[0].x : out[0].x, square > 0 ? in[0].y : out[0].y);
    /* (a + b i) (u + v i) = x + y i */
    const double a = (x * u + y * v) / square, b = (y * u - x * v) / square;
    *similarity = (facs_similarity){
        a, b, {in[0].x - a * out[0].x + b * out[0].y, in[0].y - b * out[0].x - a * out[0].y}};
    return FACS_OK;
}

static facs_position apply(const facs_similarity *s, double x, double y)
{
    return (facs_position){s->a * x - s->b * y + s->shift.x, s->b * x + s->a * y + s->shift.y};
}

static facs_status check(int size, const facs_image *in, const facs_similarity *s, double scale)
{
    if (size < 1 || size > FACS_IMAGE_MAX_SIDE)
        return facs_fail(FACS_E_ARG, "align: size is %d, want 1 to %d", size,
                         FACS_IMAGE_MAX_SIDE);
    if (in->height < 1 || in->width < 1)
        return facs_fail(FACS_E_SHAPE, "align: the image is empty (%d x %d)", in->height,
                         in->width);
    if (!(scale * size <= FACS_IMAGE_MAX_SIDE))
        return facs_fail(FACS_E_ARG, "align: the part is %g pixels wide, want at most %d",
                         scale * size, FACS_IMAGE_MAX_SIDE);
    double left = INFINITY, right = -INFINITY, top = INFINITY, bottom = -INFINITY;
    for (int i = 0; i < 4; i++) {
        const facs_position p = apply(s, i & 1 ? size - 0.5 : -0.5, i & 2 ? size - 0.5 : -0.5);
        left = fmin(left, p.x), right = fmax(right, p.x);
        top = fmin(top, p.y), bottom = fmax(bottom, p.y);
    }
    if (right <= -0.5 || bottom <= -0.5 || left >= in->width - 0.5 || top >= in->height - 0.5)
        return facs_fail(
            FACS_E_ARG,
            "align: the part (%.1f to %.1f, %.1f to %.1f) lies outside of an image "
            "of %d x %d",
            left, right, top, bottom, in->width, in->height);
    return FACS_OK;
}

static inline int within(int at, int count)
{
    return at < 0 ? 0 : at >= count ? count - 1 : at;
}

/* One output pixel: the mean around (x, y) under a triangle of half width `reach`. */
static void sample(uint8_t *out, const facs_image *in, facs_position at, double reach)
{
    const int left = (int)ceil(at.x - reach), right = (int)floor(at.x + reach);
    const int top = (int)ceil(at.y - reach), bottom = (int)floor(at.y + reach);
    double sum[CHANNELS] = {0}, total = 0;

    for (int y = top; y <= bottom; y++) {
        const uint8_t *row =
            in->pixels + (size_t)within(y, in->height) * (size_t)in->width * CHANNELS;
        const double down = reach - fabs(y - at.y);
        for (int x = left; x <= right; x++) {
            const double weight = down * (reach - fabs(x - at.x));
            const uint8_t *pixel = row + (size_t)within(x, in->width) * CHANNELS;
            for (int k = 0; k < CHANNELS; k++) sum[k] += weight * pixel[k];
            total += weight;
        }
    }
    for (int k = 0; k < CHANNELS; k++) out[k] = (uint8_t)(sum[k] / total + 0.5);
}

facs_status facs_image_align(uint8_t *out, int size, const facs_image *in,
                             const facs_similarity *similarity)
{
    const double scale = hypot(similarity->a, similarity->b), reach = scale > 1 ? scale : 1;

    FACS_TRY(check(size, in, similarity, scale));
    for (int y = 0; y < size; y++)
        for (int x = 0; x < size; x++, out += CHANNELS)
            sample(out, in, apply(similarity, x, y), reach);
    return FACS_OK;
}
