#ifndef FACS_IMAGE_RESIZE_H
#define FACS_IMAGE_RESIZE_H

#include "image/image.h"

/* Working memory of resizing and augmenting, grown when a call needs more than any before
 * it and then kept; one per thread. Start from {0}; the caller frees it. */
typedef struct facs_image_scratch {
    uint8_t *bytes;
    size_t capacity;
} facs_image_scratch;

/* NULL is legal, and so is an empty scratch; it is empty afterwards. */
void facs_image_scratch_free(facs_image_scratch *scratch);

/* At least `bytes` of scratch; what was in it is lost. */
facs_status facs_image_scratch_reserve(facs_image_scratch *scratch, size_t bytes) FACS_MUST_USE;

/* A part of an image, in fractions of its width and height, from the upper left corner. */
typedef struct facs_image_box {
    double x, y, width, height;
} facs_image_box;

/* The whole image, and the largest square in its centre. */
facs_image_box facs_image_box_full(void);
facs_image_box facs_image_box_square(const facs_image *image);

/* Resamples the box of `in` to out (height, width, 3), antialiased bilinear, in fixed point:
 * the triangle filter is as wide as the reduction, so that every pixel of the box counts.
 * Equal to Pillow's Image.resize(size, BILINEAR, box) bit for bit, except that since 13.0
 * Pillow takes rows before columns where that is faster, which moves some samples by one
 * level. FACS_E_ARG for a box that is empty or leaves the image. */
facs_status facs_image_resize_box(uint8_t *out, int height, int width, const facs_image *in,
                                  const facs_image_box *box,
                                  facs_image_scratch *scratch) FACS_MUST_USE;

/* The same of the whole image. */
facs_status facs_image_resize(uint8_t *out, int height, int width, const facs_image *in,
                              facs_image_scratch *scratch) FACS_MUST_USE;

/* Copies the centre of `in` to out (height, width, 3); an odd margin leaves the extra row or
 * column below or to the right. FACS_E_SHAPE where the image is smaller. */
facs_status facs_image_crop_centre(uint8_t *out, int height, int width,
                                   const facs_image *in) FACS_MUST_USE;

#endif
