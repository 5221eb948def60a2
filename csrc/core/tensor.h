#ifndef FACS_CORE_TENSOR_H
#define FACS_CORE_TENSOR_H

#include "core/real.h"

#include <stdint.h>

/* A borrowed view of n images in NHWC: channels adjacent, `stride` numbers from one
 * pixel to the next (>= c, so that a slice of channels is a view too), rows and images
 * without further gaps. A vector per image has h = w = 1. */
typedef struct facs_tensor {
    facs_real *data;
    int64_t n;
    int h, w, c;
    int64_t stride;
} facs_tensor;

static inline int64_t facs_tensor_pixels(const facs_tensor *t)
{
    return t->n * t->h * t->w;
}

static inline facs_real *facs_tensor_image(const facs_tensor *t, int64_t image)
{
    return t->data + image * t->h * t->w * t->stride;
}

#endif
