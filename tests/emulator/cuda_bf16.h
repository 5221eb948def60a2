#ifndef FACS_TESTS_CUDA_BF16_H
#define FACS_TESTS_CUDA_BF16_H

/* The part of CUDA's bfloat16 that csrc/kernel/cuda uses: see emulator.h. */

#include "cuda_runtime.h"

struct __nv_bfloat16 {
    unsigned short bits;
};
struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;
};

static inline unsigned short __bfloat16_as_ushort(__nv_bfloat16 x)
{
    return x.bits;
}
static inline __nv_bfloat16 __ushort_as_bfloat16(unsigned short bits)
{
    return {bits};
}
static inline float __bfloat162float(__nv_bfloat16 x)
{
    return __uint_as_float((unsigned)x.bits << 16);
}
static inline __nv_bfloat16 __float2bfloat16_rn(float x)
{
    const unsigned bits = facs_emulated_bits<unsigned>(x);
    if (x != x) return {0x7fff};
    return {(unsigned short)((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}
static inline __nv_bfloat162 __float2bfloat162_rn(float x)
{
    return __floats2bfloat162_rn(x, x);
}

/* NAN_STAYS: else the other number is the result. */
template <bool NAN_STAYS>
static inline __nv_bfloat16 facs_emulated_larger(__nv_bfloat16 a, __nv_bfloat16 b)
{
    const float x = __bfloat162float(a), y = __bfloat162float(b);
    if (x != x || y != y) {
        const __nv_bfloat16 nan = {0x7fff};
        if (NAN_STAYS || (x != x && y != y)) return nan;
        return x != x ? b : a;
    }
    return x > y || (x == y && !std::signbit(x)) ? a : b;
}
static inline __nv_bfloat16 facs_emulated_minus(__nv_bfloat16 x)
{
    return {(unsigned short)(x.bits ^ 0x8000)};
}
static inline __nv_bfloat162 __hmax2(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return {facs_emulated_larger<false>(a.x, b.x), facs_emulated_larger<false>(a.y, b.y)};
}
static inline __nv_bfloat162 __hmax2_nan(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return {facs_emulated_larger<true>(a.x, b.x), facs_emulated_larger<true>(a.y, b.y)};
}
static inline __nv_bfloat16 facs_emulated_smaller(__nv_bfloat16 a, __nv_bfloat16 b)
{
    const __nv_bfloat16 found =
        facs_emulated_larger<true>(facs_emulated_minus(a), facs_emulated_minus(b));
    return found.bits == 0x7fff ? found : facs_emulated_minus(found);
}
static inline __nv_bfloat162 __hmin2_nan(__nv_bfloat162 a, __nv_bfloat162 b)
{
    return {facs_emulated_smaller(a.x, b.x), facs_emulated_smaller(a.y, b.y)};
}
static inline unsigned __heq2_mask(__nv_bfloat162 a, __nv_bfloat162 b)
{
    const bool low = __bfloat162float(a.x) == __bfloat162float(b.x);
    const bool high = __bfloat162float(a.y) == __bfloat162float(b.y);
    return (low ? 0xffffu : 0) | (high ? 0xffff0000u : 0);
}

#endif
