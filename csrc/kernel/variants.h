#ifndef FACS_KERNEL_VARIANTS_H
#define FACS_KERNEL_VARIANTS_H

#include <stddef.h>
#include <stdint.h>

/* Random variants of images where a device has them: what image/augment.h makes of the same
 * draw, to the bit. */

/* One variant of one image: a facs_augmentation_draw. */
typedef struct facs_variant {
    const uint8_t *pixels; /* (height, width, 3) */
    int32_t height, width;
    double x, y, box_width, box_height; /* the part that is kept, in fractions */
    double angle, cosine, sine;         /* by which it is turned, in degrees */
    double brightness, contrast;
    int32_t flip;
} facs_variant;

/* What n variants have in common. */
typedef struct facs_variants {
    int64_t n;
    int size;   /* side of what is made of them */
    int taps;   /* at least facs_vary_taps of every side of an image */
    int shaded; /* whether any has another brightness or contrast than 1 */
} facs_variants;

/* The most pixels in a row that one of the result is made of. */
static inline int facs_vary_taps(int side, int size)
{
    return 2 * (side > size ? (side + size - 1) / size : 1) + 1;
}

/* A device's. All pointers are to its memory; out is (n, size, size, 3). */
typedef struct facs_varying {
    size_t (*scratch)(const facs_variants *all); /* bytes */
    void (*vary)(uint8_t *out, const facs_variant *variants, const facs_variants *all,
                 void *scratch);
} facs_varying;

#endif
