#ifndef FACS_IMAGE_AUGMENT_H
#define FACS_IMAGE_AUGMENT_H

#include "image/resize.h"

#include "core/rng.h"

/* Random variants of an image. What is drawn and how it is applied are apart, so that a
 * sample can be drawn once, written down and made again. */

/* How far images may vary. facs_augmentation_none() varies nothing. */
typedef struct facs_augmentation {
    double crop_scale;       /* least share of the image's area kept, in (0, 1]; 1 keeps all */
    double flip_probability; /* of a mirror image, in [0, 1] */
    double rotation;         /* largest angle either way, degrees, in [0, 180] */
    double brightness;       /* factor drawn from 1 - b to 1 + b, b in [0, 1] */
    double contrast;         /* factor drawn from 1 - c to 1 + c, c in [0, 1] */
} facs_augmentation;

/* One variant. */
typedef struct facs_augmentation_draw {
    facs_image_box crop;
    int flip;
    double angle; /* degrees, counter-clockwise as seen */
    double brightness, contrast;
} facs_augmentation_draw;

facs_augmentation facs_augmentation_none(void);
facs_augmentation_draw facs_augmentation_draw_neutral(void);

/* True where every draw is neutral. */
int facs_augmentation_is_none(const facs_augmentation *options);

/* FACS_E_ARG names the option outside its range and its value. */
facs_status facs_augmentation_check(const facs_augmentation *options) FACS_MUST_USE;

/* Draws a variant. Crops keep the shape of the image and lie anywhere in it. Always takes the
 * same count of random numbers, so that one option does not change what another draws. */
facs_augmentation_draw facs_augmentation_make_draw(const facs_augmentation *options,
                                                   facs_rng *rng);

/* FACS_E_ARG names what is outside its range: factors are finite and >= 0, the angle finite. */
facs_status facs_augmentation_draw_check(const facs_augmentation_draw *draw) FACS_MUST_USE;

/* The variant of `in` as out (size, size, 3): crop and resize as facs_image_resize_box, then
 * rotate about the centre (bilinear, edge pixels repeated outwards), mirror, multiply by the
 * brightness, stretch by the contrast about the mean grey. A neutral draw equals
 * facs_image_resize byte for byte. */
facs_status facs_image_augment(uint8_t *out, const facs_image *in, int size,
                               const facs_augmentation_draw *draw,
                               facs_image_scratch *scratch) FACS_MUST_USE;

#endif
