#ifndef FACS_KERNEL_REF_REF_H
#define FACS_KERNEL_REF_REF_H

#include "kernel/kernel.h"

/* The reference kernels: the plainest right C, one thread, sums in double. Every other
 * rung is checked against them, and what a rung leaves out runs here. */

#define KERNEL(type, name, arguments) type facs_ref_##name arguments;
#include "kernel/kernel.def"
#undef KERNEL

static inline facs_real facs_ref_clamp(facs_real x, facs_clamp clamp)
{
    return x < clamp.low ? clamp.low : x > clamp.high ? clamp.high : x;
}

/* x as the reader of a norm sees it */
static inline facs_real facs_ref_normed(const facs_norm *norm, facs_real x, int c)
{
    return norm ? facs_ref_clamp(norm->scale[c] * x + norm->shift[c], norm->clamp) : x;
}

/* Channel c of a pixel of dy, corrected; the pixel of correction->y is at the same place. */
static inline double facs_ref_corrected(const facs_correction *correction,
                                        const facs_tensor *dy, int64_t pixel, int c)
{
    const double g = dy->data[pixel * dy->stride + c];
    if (!correction) return g;
    const facs_tensor *y = correction->y;
    return g + (double)correction->slope[c] * y->data[pixel * y->stride + c] +
           correction->offset[c];
}

static inline void facs_ref_store(facs_real *target, facs_real value, int accumulate)
{
    *target = accumulate ? *target + value : value;
}

typedef struct facs_ref_norm_sums {
    double sum, weighted;
} facs_ref_norm_sums;

/* The gradient of x from that of its norm, channel c; adds to the sums. */
static inline double facs_ref_through(const facs_norm *norm, facs_ref_norm_sums *sums,
                                      double gradient, facs_real x, int c)
{
    const facs_real y = norm->scale[c] * x + norm->shift[c];
    const double h = y > norm->clamp.low && y < norm->clamp.high ? gradient : 0;
    sums->sum += h;
    sums->weighted += h * ((double)x - norm->mean[c]);
    return norm->scale[c] * h;
}

static inline void facs_ref_add_sums(const facs_norm *norm, const facs_ref_norm_sums *sums,
                                     int c)
{
    if (!norm->sum) return;
    norm->sum[c] += (facs_real)sums->sum;
    norm->weighted[c] += (facs_real)sums->weighted;
}

static inline int64_t facs_ref_place(const facs_tensor *t, int64_t n, int y, int x)
{
    return (n * t->h + y) * t->w + x;
}

static inline facs_real *facs_ref_pixel(const facs_tensor *t, int64_t n, int y, int x)
{
    return t->data + facs_ref_place(t, n, y, x) * t->stride;
}

#endif
