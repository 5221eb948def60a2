#ifndef FACS_KERNEL_CPU_PAIRS_H
#define FACS_KERNEL_CPU_PAIRS_H

#include "kernel/cpu/simd.h"

#if defined(__AVX512BF16__)

/* Products of pairs of bfloat16: every 32-bit lane of a and b holds two, and the sum of
 * their products is added to c in float. */
SIMD_INLINE simd simd_dot(simd a, simd b, simd c)
{
    return _mm512_dpbf16_ps(c, (__m512bh)a, (__m512bh)b);
}

/* Elements of x in the lower, of y in the upper half of 32 bits; y NULL: 0. */
SIMD_INLINE simd simd_pair(const uint16_t *x, const uint16_t *y, int count)
{
    const __mmask16 lanes = (__mmask16)(count >= SIMD_WIDTH ? 0xffff : (1u << count) - 1);
    const __m512i low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(lanes, x));
    const __m256i above = y ? _mm256_maskz_loadu_epi16(lanes, y) : _mm256_setzero_si256();
    const __m512i high = _mm512_slli_epi32(_mm512_cvtepu16_epi32(above), 16);
    return _mm512_castsi512_ps(_mm512_or_si512(low, high));
}

/* The same of two vectors of floats. */
SIMD_INLINE __m512i simd_pair_floats(simd x, simd y)
{
    const __m512i order =
        _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7,
                         22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, (__m512i)_mm512_cvtne2ps_pbh(y, x));
}

/* Every other of up to twice SIMD_WIDTH numbers: the even ones or the odd. */
SIMD_INLINE simd simd_pairs_half(const uint16_t *p, int count, int odd)
{
    const __mmask32 lanes = count >= 32 ? ~(__mmask32)0 : ((__mmask32)1 << count) - 1;
    const __m512i pairs =
        count >= 32 ? _mm512_loadu_si512(p) : _mm512_maskz_loadu_epi16(lanes, p);
    return _mm512_castsi512_ps(odd ? _mm512_and_si512(pairs, _mm512_set1_epi32(-0x10000))
                                   : _mm512_slli_epi32(pairs, 16));
}

SIMD_INLINE simd simd_every_other(const float *p, int count, int odd)
{
    const __m512i even =
        _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    const __m512i places = odd ? _mm512_add_epi32(even, _mm512_set1_epi32(1)) : even;
    const simd low = count >= 16 ? simd_load(p) : simd_load_part(p, count);
    const simd high = count >= 32   ? simd_load(p + 16)
                      : count <= 16 ? _mm512_setzero_ps()
                                    : simd_load_part(p + 16, count - 16);
    return _mm512_permutex2var_ps(low, places, high);
}

/* Stores count numbers of which every other one is in `even`. */
SIMD_INLINE void simd_put_pairs(uint16_t *p, simd even, simd odd, int count)
{
    const __m512i pairs = simd_pair_floats(even, odd);
    if (count >= 32)
        _mm512_storeu_si512(p, pairs);
    else
        _mm512_mask_storeu_epi16(p, ((__mmask32)1 << count) - 1, pairs);
}

#endif

#endif
