#ifndef FACS_KERNEL_CPU_OPERAND_H
#define FACS_KERNEL_CPU_OPERAND_H

#include "kernel/cpu/simd.h"
#include "kernel/cpu/stored.h"
#include "kernel/kernel.h"

/* A tensor as a kernel reads it: as it is, through a norm, or with a correction. */
typedef struct facs_operand {
    const facs_tensor *t;
    const facs_norm *norm;
    const facs_correction *correction;
} facs_operand;

static inline int facs_operand_is_plain(const facs_operand *o)
{
    return !o->norm && !o->correction;
}

/* Kernels that want floats can read the tensor itself. */
static inline int facs_operand_is_ready(const facs_operand *o)
{
    return STORED_AS_FLOAT && facs_operand_is_plain(o);
}

/* Kernels that take factors can: matrix products, and depthwise ones of pairs. */
static inline int facs_operand_is_factors(const facs_operand *o)
{
    return sizeof(stored) == sizeof(factor) && facs_operand_is_plain(o);
}

/* Channels from c on of a pixel, through a norm. */
SIMD_INLINE simd norm_apply(const facs_norm *norm, simd x, int c, int lanes)
{
    const simd y =
        simd_fma(simd_get(norm->scale + c, lanes), x, simd_get(norm->shift + c, lanes));
    return simd_clamp(simd_set(norm->clamp.low), y, simd_set(norm->clamp.high));
}

/* Channels c .. c + lanes of a pixel. */
SIMD_INLINE simd operand_vector(const facs_operand *o, int64_t pixel, int c, int lanes)
{
    const simd x = stored_get(stored_of(o->t) + pixel * o->t->stride + c, lanes);
    const facs_correction *k = o->correction;
    if (o->norm) return norm_apply(o->norm, x, c, lanes);
    if (!k) return x;
    const simd y = stored_get(stored_of(k->y) + pixel * k->y->stride + c, lanes);
    return x + simd_fma(simd_get(k->slope + c, lanes), y, simd_get(k->offset + c, lanes));
}

/* Rows of a slice of channels are many streams, which the processor does not foresee. */
enum { OPERAND_AHEAD = 1024 };

/* A few pixels, so that what belongs to the channels is loaded once for all of them. kind: 0
 * plain, 1 norm, 2 correction; narrow: out holds what tensors do, else floats. Both and pixels
 * are constants where it is used. */
SIMD_INLINE void operand_some(const facs_operand *o, void *out, int64_t at, int64_t out_stride,
                              int64_t pixel, int c, int lanes, int pixels, int kind, int narrow)
{
    const facs_tensor *t = o->t, *y = kind == 2 ? o->correction->y : t;
    const stored *in = stored_of(t) + pixel * t->stride + c;
    const stored *in_y = stored_of(y) + pixel * y->stride + c;
    const simd low = simd_set(kind == 1 ? o->norm->clamp.low : 0);
    const simd high = simd_set(kind == 1 ? o->norm->clamp.high : 0);
    simd scale = simd_zero(), shift = simd_zero();

    if (kind == 1) scale = simd_get(o->norm->scale + c, lanes);
    if (kind == 1) shift = simd_get(o->norm->shift + c, lanes);
    if (kind == 2) scale = simd_get(o->correction->slope + c, lanes);
    if (kind == 2) shift = simd_get(o->correction->offset + c, lanes);
#pragma GCC unroll 2
    for (int i = 0; i < pixels; i++) {
        simd_prefetch(in + i * t->stride + OPERAND_AHEAD);
        if (kind == 2) simd_prefetch(in_y + i * y->stride + OPERAND_AHEAD);
        simd x = stored_get(in + i * t->stride, lanes);
        if (kind == 1) x = simd_clamp(low, simd_fma(scale, x, shift), high);
        if (kind == 2) x = x + simd_fma(scale, stored_get(in_y + i * y->stride, lanes), shift);
        if (narrow)
            stored_put((stored *)out + at + i * out_stride, x, lanes);
        else
            simd_put((float *)out + at + i * out_stride, x, lanes);
    }
}

SIMD_INLINE void operand_row(const facs_operand *o, void *out, int64_t at, int64_t out_stride,
                             int64_t pixel, int first, int count, int pixels, int kind,
                             int narrow)
{
    int i = 0;
    for (; i + SIMD_WIDTH <= count; i += SIMD_WIDTH)
        operand_some(o, out, at + i, out_stride, pixel, first + i, SIMD_WIDTH, pixels, kind,
                     narrow);
    if (i < count)
        operand_some(o, out, at + i, out_stride, pixel, first + i, count - i, pixels, kind,
                     narrow);
}

SIMD_INLINE void operand_pixels(const facs_operand *o, void *out, int64_t out_stride,
                                int64_t pixel, int64_t pixels, int first, int count, int kind,
                                int narrow)
{
    int64_t i = 0;
    for (; i + 2 <= pixels; i += 2)
        operand_row(o, out, i * out_stride, out_stride, pixel + i, first, count, 2, kind,
                    narrow);
    for (; i < pixels; i++)
        operand_row(o, out, i * out_stride, out_stride, pixel + i, first, count, 1, kind,
                    narrow);
}

/* Copies count channels from `first` on of some pixels as they are read. */
static inline void facs_operand_copy(const facs_operand *o, float *out, int64_t out_stride,
                                     int64_t pixel, int64_t pixels, int first, int count)
{
    if (o->norm)
        operand_pixels(o, out, out_stride, pixel, pixels, first, count, 1, 0);
    else if (o->correction)
        operand_pixels(o, out, out_stride, pixel, pixels, first, count, 2, 0);
    else if (!STORED_AS_FLOAT || count <= 64)
        operand_pixels(o, out, out_stride, pixel, pixels, first, count, 0, 0);
    else
        for (int64_t i = 0; i < pixels; i++)
            memcpy(out + i * out_stride, stored_of(o->t) + (pixel + i) * o->t->stride + first,
                   (size_t)count * sizeof *out);
}

/* The same as factors. */
static inline void facs_operand_factors(const facs_operand *o, factor *out, int64_t out_stride,
                                        int64_t pixel, int64_t pixels, int first, int count)
{
#ifdef FACS_PAIRS
    if (o->norm)
        operand_pixels(o, out, out_stride, pixel, pixels, first, count, 1, 1);
    else if (o->correction)
        operand_pixels(o, out, out_stride, pixel, pixels, first, count, 2, 1);
    else
        for (int64_t i = 0; i < pixels; i++)
            simd_copy_bfloat16(out + i * out_stride,
                               stored_of(o->t) + (pixel + i) * o->t->stride + first, count);
#else
    facs_operand_copy(o, out, out_stride, pixel, pixels, first, count);
#endif
}

/* Some channels of a norm in registers. */
typedef struct norm_lanes {
    simd scale, shift, mean, low, high;
} norm_lanes;

SIMD_INLINE norm_lanes norm_lanes_of(const facs_norm *norm, int c, int lanes)
{
    return (norm_lanes){simd_get(norm->scale + c, lanes), simd_get(norm->shift + c, lanes),
                        simd_get(norm->mean + c, lanes), simd_set(norm->clamp.low),
                        simd_set(norm->clamp.high)};
}

/* The gradient of x from that of its norm; adds to sum and weighted. */
SIMD_INLINE simd norm_through(const norm_lanes *norm, simd g, simd x, simd *sum, simd *weighted)
{
    const simd y = simd_fma(norm->scale, x, norm->shift);
    const simd h = simd_if_between(norm->low, y, norm->high, g);
    *sum = *sum + h;
    *weighted = simd_fma(h, x - norm->mean, *weighted);
    return norm->scale * h;
}

#endif
