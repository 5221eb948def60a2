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

static inline void facs_ref_store(facs_real *target, facs_real value, int accumulate)
{
    *target = accumulate ? *target + value : value;
}

static inline facs_real *facs_ref_pixel(const facs_tensor *t, int64_t n, int y, int x)
{
    return t->data + ((n * t->h + y) * t->w + x) * t->stride;
}

#endif
