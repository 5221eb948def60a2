#ifndef FACS_KERNEL_CUDA_PTX_H
#define FACS_KERNEL_CUDA_PTX_H

/* csrc/kernel/cuda/ptx.h for a processor (see emulator.h): included before it, it takes its
 * place by the same guard. */

#include "cuda_bf16.h"

static inline void wait_for_kernels_before() {}

static inline unsigned shared_address(const void *p)
{
    return emulator::shared_address(p);
}
static inline void copy_sixteen(void *to, const void *from, int inside)
{
    emulator::copy(to, from, 16, inside);
}
static inline void copy_sixteen_of_row(void *to, const void *from, int inside)
{
    emulator::copy(to, from, 16, inside);
}
static inline void copy_sixteen_to(unsigned to, const void *from, unsigned bytes)
{
    emulator::copy(emulator::shared_at(to), from, 16, bytes != 0);
}
static inline void copy_eight_bytes(void *to, const void *from, int inside)
{
    emulator::copy(to, from, 8, inside);
}
template <int BYTES, int NEAR>
static inline void copy_if(void *to, const void *from, unsigned inside, int wanted)
{
    if (wanted) emulator::copy(to, from, BYTES, inside);
}
static inline void end_copies()
{
    emulator::end_copies();
}
template <int LEFT> static inline void wait_for_copies()
{
    emulator::wait_for_copies(LEFT);
}
static inline void wait_for_pair(int pair)
{
    emulator::wait_for_pair(pair);
}
static inline void load_matrices(unsigned r[4], unsigned p)
{
    emulator::load_matrices(r, p, false);
}
static inline void load_transposed(unsigned r[4], unsigned p)
{
    emulator::load_matrices(r, p, true);
}
static inline void multiply(float sum[4], const unsigned a[4], unsigned b0, unsigned b1)
{
    emulator::multiply(sum, a, b0, b1);
}
static inline unsigned rounded_to_tf32(float x)
{
    const unsigned bits = facs_emulated_bits<unsigned>(x);
    return x == x ? (bits + 0x1000) & ~0x1fffu : bits;
}
static inline void multiply_tf32(float sum[4], const unsigned a[4], unsigned b0, unsigned b1)
{
    emulator::multiply_tf32(sum, a, b0, b1);
}
static inline float clamped_between(float x, float low, float high)
{
    if (x != x) return x;
    return x < low ? low : x > high ? high : x;
}
static inline __nv_bfloat162 positive_pair(float first, float second)
{
    return __floats2bfloat162_rn(first < 0 ? 0 : first, second < 0 ? 0 : second);
}
static inline int known_here(int number)
{
    return number;
}

#endif
