#include "image/augment.h"

#include "core/memory.h"

#include <math.h>
#include <string.h>

enum { CHANNELS = FACS_IMAGE_CHANNELS };

facs_augmentation facs_augmentation_none(void)
{
    return (facs_augmentation){.crop_scale = 1};
}

facs_augmentation_draw facs_augmentation_draw_neutral(void)
{
    return (facs_augmentation_draw){
        .crop = facs_image_box_full(), .brightness = 1, .contrast = 1};
}

int facs_augmentation_is_none(const facs_augmentation *options)
{
    return options->crop_scale == 1 && options->flip_probability == 0 &&
           options->rotation == 0 && options->brightness == 0 && options->contrast == 0;
}

static facs_status check_range(const char *option, double value, double least, double most)
{
    if (value >= least && value <= most) return FACS_OK;
    return facs_fail(FACS_E_ARG, "%s: is %g, want %g to %g", option, value, least, most);
}

facs_status facs_augmentation_check(const facs_augmentation *options)
{
    if (!(options->crop_scale > 0 && options->crop_scale <= 1))
        return facs_fail(FACS_E_ARG, "crop_scale: is %g, want above 0 and at most 1",
                         options->crop_scale);
    FACS_TRY(check_range("flip_probability", options->flip_probability, 0, 1));
    FACS_TRY(check_range("rotation", options->rotation, 0, 180));
    FACS_TRY(check_range("brightness", options->brightness, 0, 1));
    return check_range("contrast", options->contrast, 0, 1);
}

facs_augmentation_draw facs_augmentation_make_draw(const facs_augmentation *options,
                                                   facs_rng *rng)
{
    const double side = sqrt(facs_rng_between(rng, options->crop_scale, 1));
    const double x = facs_rng_uniform(rng) * (1 - side), y = facs_rng_uniform(rng) * (1 - side);
    const int flip = facs_rng_uniform(rng) < options->flip_probability;
    const double angle = facs_rng_between(rng, -options->rotation, options->rotation);
    const double brightness =
        facs_rng_between(rng, 1 - options->brightness, 1 + options->brightness);
    const double contrast = facs_rng_between(rng, 1 - options->contrast, 1 + options->contrast);
    return (facs_augmentation_draw){.crop = {x, y, side, side},
                                    .flip = flip,
                                    .angle = angle,
                                    .brightness = brightness,
                                    .contrast = contrast};
}

facs_status facs_augmentation_draw_check(const facs_augmentation_draw *draw)
{
    if (!isfinite(draw->angle))
        return facs_fail(FACS_E_ARG, "angle: is %g, want a finite number of degrees",
                         draw->angle);
    if (!(draw->brightness >= 0 && isfinite(draw->brightness)))
        return facs_fail(FACS_E_ARG, "brightness: is %g, want a finite factor >= 0",
                         draw->brightness);
    if (!(draw->contrast >= 0 && isfinite(draw->contrast)))
        return facs_fail(FACS_E_ARG, "contrast: is %g, want a finite factor >= 0",
                         draw->contrast);
    return FACS_OK;
}

/* Coordinates in 32.32 fixed point, so that stepping along a row does not drift. */
enum { FRACTION = 32, BLEND = 10 };

static int64_t to_fixed(double x)
{
    return (int64_t)llrint(x * 0x1p32);
}

/* Splits a coordinate into a pixel, its neighbour and the neighbour's share of 2^BLEND. */
static inline void split(int64_t at, int size, int *low, int *high, int32_t *share)
{
    const int64_t last = (int64_t)(size - 1) << FRACTION;
    at = at < 0 ? 0 : at > last ? last : at;
    *low = (int)(at >> FRACTION);
    *high = *low + (*low < size - 1);
    *share = (int32_t)((at >> (FRACTION - BLEND)) & ((1 << BLEND) - 1));
}

static void rotate(uint8_t *restrict out, const uint8_t *restrict in, int size, double degrees)
{
    const double radians = degrees * 0.017453292519943295, centre = (size - 1) / 2.0;
    const double cosine = cos(radians), sine = sin(radians);
    const int64_t dx = to_fixed(cosine), dy = to_fixed(sine);

    for (int row = 0; row < size; row++) {
        const double down = row - centre;
        int64_t x = to_fixed(centre - cosine * centre - sine * down);
        int64_t y = to_fixed(centre - sine * centre + cosine * down);
        for (int column = 0; column < size; column++, x += dx, y += dy) {
            int x0, x1, y0, y1;
            int32_t fx, fy;
            split(x, size, &x0, &x1, &fx);
            split(y, size, &y0, &y1, &fy);
            const uint8_t *a = in + ((int64_t)y0 * size + x0) * CHANNELS;
            const uint8_t *b = in + ((int64_t)y0 * size + x1) * CHANNELS;
            const uint8_t *c = in + ((int64_t)y1 * size + x0) * CHANNELS;
            const uint8_t *d = in + ((int64_t)y1 * size + x1) * CHANNELS;
            for (int k = 0; k < CHANNELS; k++) {
                const int32_t top = (a[k] << BLEND) + (b[k] - a[k]) * fx;
                const int32_t bottom = (c[k] << BLEND) + (d[k] - c[k]) * fx;
                const int32_t sum = top * ((1 << BLEND) - fy) + bottom * fy;
                *out++ = (uint8_t)((sum + (1 << (2 * BLEND - 1))) >> (2 * BLEND));
            }
        }
    }
}

static void mirror(uint8_t *pixels, int size)
{
    for (int row = 0; row < size; row++) {
        uint8_t *left = pixels + (int64_t)row * size * CHANNELS;
        uint8_t *right = left + (int64_t)(size - 1) * CHANNELS;
        for (; left < right; left += CHANNELS, right -= CHANNELS)
            for (int k = 0; k < CHANNELS; k++) {
                const uint8_t swapped = left[k];
                left[k] = right[k];
                right[k] = swapped;
            }
    }
}

static uint8_t to_level(double x)
{
    return (uint8_t)(x <= 0 ? 0 : x >= 255 ? 255 : x + 0.5);
}

/* Mean luma (ITU-R BT.601) of the image seen through `levels`. */
static double mean_grey(const uint8_t *pixels, int64_t count, const uint8_t levels[256])
{
    int64_t r = 0, g = 0, b = 0;
    for (int64_t i = 0; i < count; i++) {
        r += levels[pixels[CHANNELS * i]];
        g += levels[pixels[CHANNELS * i + 1]];
        b += levels[pixels[CHANNELS * i + 2]];
    }
    return (0.299 * (double)r + 0.587 * (double)g + 0.114 * (double)b) / (double)count;
}

static void shade(uint8_t *pixels, int64_t count, double brightness, double contrast)
{
    uint8_t levels[256];

    for (int v = 0; v < 256; v++) levels[v] = to_level(brightness * v);
    if (contrast != 1) {
        const double mean = mean_grey(pixels, count, levels);
        for (int v = 0; v < 256; v++)
            levels[v] = to_level(mean + contrast * (levels[v] - mean));
    }
    for (int64_t i = 0; i < count * CHANNELS; i++) pixels[i] = levels[pixels[i]];
}

facs_status facs_image_augment(uint8_t *out, const facs_image *in, int size,
                               const facs_augmentation_draw *draw, facs_image_scratch *scratch)
{
    const int64_t pixels = (int64_t)size * size;

    FACS_TRY(facs_augmentation_draw_check(draw));
    FACS_TRY(facs_image_resize_box(out, size, size, in, &draw->crop, scratch));
    if (draw->angle != 0) {
        const size_t bytes = (size_t)pixels * CHANNELS;
        FACS_TRY(facs_image_scratch_reserve(scratch, bytes));
        memcpy(scratch->bytes, out, bytes);
        rotate(out, scratch->bytes, size, draw->angle);
    }
    if (draw->flip) mirror(out, size);
    if (draw->brightness != 1 || draw->contrast != 1)
        shade(out, pixels, draw->brightness, draw->contrast);
    return FACS_OK;
}
