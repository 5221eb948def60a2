#ifndef FACS_KERNEL_CPU_SIMD_H
#define FACS_KERNEL_CPU_SIMD_H

#include "core/bfloat16.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* One vector of floats of the instruction set its unit is compiled for. + - * / work on
 * it as on a float. A part is the first count lanes, 0 < count <= SIMD_WIDTH: loading
 * gives 0 in the others and storing leaves their memory alone. SIMD_TILE_ROWS x 2 vectors
 * is the largest tile of sums that stays in registers. */

#if defined(__GNUC__)
#    define SIMD_INLINE static inline __attribute__((always_inline, unused))
#else
#    define SIMD_INLINE static inline
#endif

#if defined(__AVX512F__)

#    include <immintrin.h>

enum { SIMD_WIDTH = 16, SIMD_TILE_ROWS = 14 };
typedef __m512 simd;

SIMD_INLINE simd simd_set(float x)
{
    return _mm512_set1_ps(x);
}
SIMD_INLINE simd simd_load(const float *p)
{
    return _mm512_loadu_ps(p);
}
SIMD_INLINE void simd_store(float *p, simd x)
{
    _mm512_storeu_ps(p, x);
}
SIMD_INLINE simd simd_fma(simd a, simd b, simd c)
{
    return _mm512_fmadd_ps(a, b, c);
}
SIMD_INLINE simd simd_sqrt(simd x)
{
    return _mm512_sqrt_ps(x);
}

SIMD_INLINE simd simd_load_part(const float *p, int count)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), p);
}

SIMD_INLINE void simd_store_part(float *p, simd x, int count)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << count) - 1), x);
}

/* a > b ? a : b, so that b wins where one of them is not a number */
SIMD_INLINE simd simd_max(simd a, simd b)
{
    return _mm512_max_ps(a, b);
}
SIMD_INLINE simd simd_min(simd a, simd b)
{
    return _mm512_min_ps(a, b);
}

/* value where the condition holds, else 0 */
SIMD_INLINE simd simd_if_between(simd low, simd x, simd high, simd value)
{
    const __mmask16 above = _mm512_cmp_ps_mask(x, low, _CMP_GT_OQ);
    return _mm512_maskz_mov_ps(_mm512_mask_cmp_ps_mask(above, x, high, _CMP_LT_OQ), value);
}

SIMD_INLINE simd simd_if_equal(simd a, simd b, simd value)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ), value);
}

SIMD_INLINE simd simd_if_unequal(simd a, simd b, simd value)
{
    return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ), value);
}

SIMD_INLINE simd simd_load_bytes(const uint8_t *p)
{
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}

SIMD_INLINE simd simd_widen(__m256i x)
{
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(x), 16));
}

SIMD_INLINE __m256i simd_narrow(simd x)
{
#    if defined(__AVX512BF16__)
    return (__m256i)_mm512_cvtneps_pbh(x);
#    else
    const __m512i bits = _mm512_castps_si512(x), odd = _mm512_srli_epi32(bits, 16);
    const __m512i half = _mm512_add_epi32(_mm512_set1_epi32(0x7fff),
                                          _mm512_and_si512(odd, _mm512_set1_epi32(1)));
    const __mmask16 is_number = _mm512_cmp_ps_mask(x, x, _CMP_ORD_Q);
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    return _mm512_cvtepi32_epi16(
        _mm512_srli_epi32(_mm512_mask_add_epi32(quiet, is_number, bits, half), 16));
#    endif
}

SIMD_INLINE simd simd_load_bfloat16(const uint16_t *p)
{
    return simd_widen(_mm256_loadu_si256((const __m256i *)p));
}
SIMD_INLINE simd simd_load_part_bfloat16(const uint16_t *p, int count)
{
    return simd_widen(_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), p));
}
SIMD_INLINE void simd_store_bfloat16(uint16_t *p, simd x)
{
    _mm256_storeu_si256((__m256i *)p, simd_narrow(x));
}
SIMD_INLINE void simd_copy_bfloat16(uint16_t *out, const uint16_t *in, int64_t count)
{
    for (; count >= 32; count -= 32, in += 32, out += 32)
        _mm512_storeu_si512(out, _mm512_loadu_si512(in));
    const __mmask32 rest = ((__mmask32)1 << count) - 1;
    if (count) _mm512_mask_storeu_epi16(out, rest, _mm512_maskz_loadu_epi16(rest, in));
}
SIMD_INLINE void simd_store_part_bfloat16(uint16_t *p, simd x, int count)
{
    _mm256_mask_storeu_epi16(p, (__mmask16)((1u << count) - 1), simd_narrow(x));
}

#elif defined(__AVX2__) && defined(__FMA__)

#    include <immintrin.h>

enum { SIMD_WIDTH = 8, SIMD_TILE_ROWS = 6 };
typedef __m256 simd;

SIMD_INLINE simd simd_set(float x)
{
    return _mm256_set1_ps(x);
}
SIMD_INLINE simd simd_load(const float *p)
{
    return _mm256_loadu_ps(p);
}
SIMD_INLINE void simd_store(float *p, simd x)
{
    _mm256_storeu_ps(p, x);
}
SIMD_INLINE simd simd_fma(simd a, simd b, simd c)
{
    return _mm256_fmadd_ps(a, b, c);
}
SIMD_INLINE simd simd_sqrt(simd x)
{
    return _mm256_sqrt_ps(x);
}

SIMD_INLINE __m256i simd_lanes(int count)
{
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(count),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}

SIMD_INLINE simd simd_load_part(const float *p, int count)
{
    return _mm256_maskload_ps(p, simd_lanes(count));
}

SIMD_INLINE void simd_store_part(float *p, simd x, int count)
{
    _mm256_maskstore_ps(p, simd_lanes(count), x);
}

SIMD_INLINE simd simd_max(simd a, simd b)
{
    return _mm256_max_ps(a, b);
}
SIMD_INLINE simd simd_min(simd a, simd b)
{
    return _mm256_min_ps(a, b);
}

SIMD_INLINE simd simd_if_between(simd low, simd x, simd high, simd value)
{
    const __m256 inside =
        _mm256_and_ps(_mm256_cmp_ps(x, low, _CMP_GT_OQ), _mm256_cmp_ps(x, high, _CMP_LT_OQ));
    return _mm256_and_ps(inside, value);
}

SIMD_INLINE simd simd_if_equal(simd a, simd b, simd value)
{
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ), value);
}

SIMD_INLINE simd simd_if_unequal(simd a, simd b, simd value)
{
    return _mm256_and_ps(_mm256_cmp_ps(a, b, _CMP_NEQ_UQ), value);
}

SIMD_INLINE simd simd_load_bytes(const uint8_t *p)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}

SIMD_INLINE simd simd_load_bfloat16(const uint16_t *p)
{
    const __m256i bits = _mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(bits, 16));
}

SIMD_INLINE void simd_store_bfloat16(uint16_t *p, simd x)
{
    const __m256i bits = _mm256_castps_si256(x), one = _mm256_set1_epi32(1);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), one);
    const __m256i half = _mm256_add_epi32(_mm256_set1_epi32(0x7fff), odd);
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 number = _mm256_cmp_ps(x, x, _CMP_ORD_Q);
    const __m256 rounded = _mm256_blendv_ps(
        _mm256_castsi256_ps(quiet), _mm256_castsi256_ps(_mm256_add_epi32(bits, half)), number);
    const __m256i upper = _mm256_srli_epi32(_mm256_castps_si256(rounded), 16);
    const __m256i packed = _mm256_packus_epi32(upper, upper); /* each half twice */
    _mm_storeu_si128((__m128i *)p,
                     _mm256_castsi256_si128(_mm256_permute4x64_epi64(packed, 0x08)));
}

#else /* vector extensions of the compiler: SSE2, NEON and others */

enum { SIMD_WIDTH = 4, SIMD_TILE_ROWS = 6 };
typedef float simd __attribute__((vector_size(16)));
typedef int32_t simd_bits __attribute__((vector_size(16)));

SIMD_INLINE simd simd_set(float x)
{
    return (simd){x, x, x, x};
}
SIMD_INLINE simd simd_fma(simd a, simd b, simd c)
{
    return a * b + c;
}

SIMD_INLINE simd simd_load(const float *p)
{
    simd x;
    memcpy(&x, p, sizeof x);
    return x;
}

SIMD_INLINE void simd_store(float *p, simd x)
{
    memcpy(p, &x, sizeof x);
}

SIMD_INLINE simd simd_sqrt(simd x)
{
    return (simd){sqrtf(x[0]), sqrtf(x[1]), sqrtf(x[2]), sqrtf(x[3])};
}

SIMD_INLINE simd simd_load_part(const float *p, int count)
{
    float lanes[SIMD_WIDTH] = {0};
    for (int i = 0; i < count; i++) lanes[i] = p[i];
    return simd_load(lanes);
}

SIMD_INLINE void simd_store_part(float *p, simd x, int count)
{
    for (int i = 0; i < count; i++) p[i] = x[i];
}

SIMD_INLINE simd simd_keep(simd_bits condition, simd value)
{
    return (simd)(condition & (simd_bits)value);
}

SIMD_INLINE simd simd_max(simd a, simd b)
{
    const simd_bits first = a > b;
    return (simd)((first & (simd_bits)a) | (~first & (simd_bits)b));
}

SIMD_INLINE simd simd_min(simd a, simd b)
{
    const simd_bits first = a < b;
    return (simd)((first & (simd_bits)a) | (~first & (simd_bits)b));
}

SIMD_INLINE simd simd_if_between(simd low, simd x, simd high, simd value)
{
    return simd_keep((x > low) & (x < high), value);
}

SIMD_INLINE simd simd_if_equal(simd a, simd b, simd value)
{
    return simd_keep(a == b, value);
}
SIMD_INLINE simd simd_if_unequal(simd a, simd b, simd value)
{
    return simd_keep(a != b, value);
}

SIMD_INLINE simd simd_load_bytes(const uint8_t *p)
{
    return (simd){p[0], p[1], p[2], p[3]};
}

SIMD_INLINE simd simd_load_bfloat16(const uint16_t *p)
{
    float x[SIMD_WIDTH];
    for (int i = 0; i < SIMD_WIDTH; i++) x[i] = facs_bfloat16_to(p[i]);
    return simd_load(x);
}

SIMD_INLINE void simd_store_bfloat16(uint16_t *p, simd x)
{
    for (int i = 0; i < SIMD_WIDTH; i++) p[i] = facs_bfloat16_from(x[i]);
}

#endif

#if !defined(__AVX512F__)
SIMD_INLINE simd simd_load_part_bfloat16(const uint16_t *p, int count)
{
    uint16_t x[SIMD_WIDTH] = {0};
    for (int i = 0; i < count; i++) x[i] = p[i];
    return simd_load_bfloat16(x);
}

SIMD_INLINE void simd_store_part_bfloat16(uint16_t *p, simd value, int count)
{
    uint16_t x[SIMD_WIDTH];
    simd_store_bfloat16(x, value);
    for (int i = 0; i < count; i++) p[i] = x[i];
}
#endif

/* Towards the second-level cache; the address need not be valid. */
SIMD_INLINE void simd_prefetch(const void *p)
{
    __builtin_prefetch(p, 0, 2);
}

/* The same towards the first-level cache. */
SIMD_INLINE void simd_prefetch_near(const void *p)
{
    __builtin_prefetch(p, 0, 3);
}

SIMD_INLINE simd simd_zero(void)
{
    return simd_set(0);
}

/* As _part, for any count > 0: a whole vector where it is large enough. */
SIMD_INLINE simd simd_get(const float *p, int count)
{
    return count >= SIMD_WIDTH ? simd_load(p) : simd_load_part(p, count);
}

SIMD_INLINE void simd_put(float *p, simd x, int count)
{
    if (count >= SIMD_WIDTH)
        simd_store(p, x);
    else
        simd_store_part(p, x, count);
}

SIMD_INLINE simd simd_get_bfloat16(const uint16_t *p, int count)
{
    return count >= SIMD_WIDTH ? simd_load_bfloat16(p) : simd_load_part_bfloat16(p, count);
}

SIMD_INLINE void simd_put_bfloat16(uint16_t *p, simd x, int count)
{
    if (count >= SIMD_WIDTH)
        simd_store_bfloat16(p, x);
    else
        simd_store_part_bfloat16(p, x, count);
}

/* Keeps what is not a number. */
SIMD_INLINE simd simd_clamp(simd low, simd x, simd high)
{
    return simd_min(high, simd_max(low, x));
}

SIMD_INLINE float simd_sum(simd x)
{
    float lanes[SIMD_WIDTH], sum = 0;
    simd_store(lanes, x);
    for (int i = 0; i < SIMD_WIDTH; i++) sum += lanes[i];
    return sum;
}

#endif
