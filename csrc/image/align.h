#ifndef FACS_IMAGE_ALIGN_H
#define FACS_IMAGE_ALIGN_H

#include "image/image.h"

/* Cutting faces out upright and at one size. Coordinates are those of detectors: (0, 0) is the
 * centre of the upper left pixel, x to the right, y down. */

typedef struct facs_position {
    double x, y;
} facs_position;

/* Rotation, uniform scale and shift: (x, y) of the output comes from
 * (a x - b y + shift.x, b x + a y + shift.y) of the image. */
typedef struct facs_similarity {
    double a, b;
    facs_position shift;
} facs_similarity;

/* The one that takes out[0], out[1] to in[0], in[1]. FACS_E_ARG where a coordinate is not
 * finite or two points are the same. */
facs_status facs_similarity_from_points(facs_similarity *similarity, const facs_position in[2],
                                        const facs_position out[2]) FACS_MUST_USE;

/* out (size, size, 3) from where the similarity says, bilinear; in a reduction the triangle
 * filter is as wide as the scale, so that every pixel counts. What lies outside of the image
 * repeats its edge. FACS_E_ARG where size is out of range, the part is wider than
 * FACS_IMAGE_MAX_SIDE, or it does not touch the image. Allocates nothing. */
facs_status facs_image_align(uint8_t *out, int size, const facs_image *in,
                             const facs_similarity *similarity) FACS_MUST_USE;

#endif
