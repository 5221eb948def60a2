#ifndef FACS_KERNEL_CPU_STORED_H
#define FACS_KERNEL_CPU_STORED_H

#include "core/tensor.h"
#include "kernel/cpu/pairs.h"
#include "kernel/cpu/simd.h"

/* What tensors hold in the rung that is compiled: floats, or bfloat16 under
 * FACS_STORES_BFLOAT16. Kernels compute in float either way. */

#ifdef FACS_STORES_BFLOAT16

typedef uint16_t stored;

SIMD_INLINE simd stored_get(const stored *p, int count)
{
    return simd_get_bfloat16(p, count);
}

SIMD_INLINE void stored_put(stored *p, simd x, int count)
{
    simd_put_bfloat16(p, x, count);
}

#else

typedef float stored;

SIMD_INLINE simd stored_get(const stored *p, int count)
{
    return simd_get(p, count);
}

SIMD_INLINE void stored_put(stored *p, simd x, int count)
{
    simd_put(p, x, count);
}

#endif

/* Whether tensors hold what kernels compute with. */
enum { STORED_AS_FLOAT = sizeof(stored) == sizeof(float) };

/* The elements of the factors of matrix products: floats, or where the processor multiplies
 * pairs of bfloat16 these, two neighbours along the depth in the room of a float. */
#if defined(FACS_STORES_BFLOAT16) && defined(__AVX512BF16__)
#    define FACS_PAIRS
typedef stored factor;
enum { PAIRED = 2 };
#    if defined(__AMX_BF16__)
#        define FACS_TILES
#    endif
#else
typedef float factor;
enum { PAIRED = 1 };
#endif

/* Pixel 0 of a tensor, and of one of its images. */
static inline stored *stored_of(const facs_tensor *t)
{
    return (stored *)(void *)t->data;
}

static inline stored *stored_image(const facs_tensor *t, int64_t image)
{
    return stored_of(t) + image * t->h * t->w * t->stride;
}

#endif
