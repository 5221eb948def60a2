#ifndef FACS_KERNEL_CUDA_PTX_H
#define FACS_KERNEL_CUDA_PTX_H

#include <cuda_bf16.h>
#include <cuda_runtime.h>

/* Instructions of PTX that C++ has no words for, from sm_80 on; all assembler of the kernels
 * stands here. tests/emulator has the same functions for a processor. */

/* --- programmatic dependent launch, from sm_90 on */

/* Waits for the kernels before, and lets the one behind be made ready: as it waits for this
 * one, and this one has waited, all that was launched before it is done when it begins. */
__device__ static inline void wait_for_kernels_before(void)
{
#if defined __CUDA_ARCH__ && __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

/* --- copies into shared memory that go on while the thread does. What is not inside becomes
 * 0, and its source only has to be an address of memory. */

/* Bytes from the beginning of shared memory on. */
__device__ static inline unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* bytes: 16, or 0 where nothing is read */
__device__ static inline void copy_sixteen_to(unsigned to, const void *from, unsigned bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(bytes)
                 : "memory");
}

__device__ static inline void copy_sixteen(void *to, const void *from, int inside)
{
    copy_sixteen_to(shared_address(to), from, inside ? 16 : 0);
}

/* copy_sixteen that asks for 256 bytes on the way to the cache. */
__device__ static inline void copy_sixteen_of_row(void *to, const void *from, int inside)
{
    asm volatile(
        "cp.async.cg.shared.global.L2::256B [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
        "l"(from), "r"(inside ? 16 : 0)
        : "memory");
}

__device__ static inline void copy_eight_bytes(void *to, const void *from, int inside)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(inside ? 8 : 0)
                 : "memory");
}

/* Nothing at all unless `wanted`. NEAR: other warps of the multiprocessor read it soon, so L1
 * may keep it. */
template <int BYTES, int NEAR>
__device__ static inline void copy_if(void *to, const void *from, unsigned inside, int wanted)
{
    const unsigned address = shared_address(to);
    if (NEAR || BYTES < 16)
        asm volatile("{\n"
                     ".reg .pred outside, wanted;\n"
                     "setp.eq.u32 outside, %3, 0;\n"
                     "setp.ne.s32 wanted, %4, 0;\n"
                     "@wanted cp.async.ca.shared.global [%0], [%1], %2, outside;\n"
                     "}" ::"r"(address),
                     "l"(from), "n"(BYTES), "r"(inside), "r"(wanted)
                     : "memory");
    else
        asm volatile("{\n"
                     ".reg .pred outside, wanted;\n"
                     "setp.eq.u32 outside, %2, 0;\n"
                     "setp.ne.s32 wanted, %3, 0;\n"
                     "@wanted cp.async.cg.shared.global [%0], [%1], 16, outside;\n"
                     "}" ::"r"(address),
                     "l"(from), "r"(inside), "r"(wanted)
                     : "memory");
}

/* Ends a group of copies; wait_for_copies lets the last LEFT groups be under way. */
__device__ static inline void end_copies(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

template <int LEFT> __device__ static inline void wait_for_copies(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
}

/* --- between the threads of a block */

/* Waits for the other warp of a pair; pairs: 0 to 14. */
__device__ static inline void wait_for_pair(int pair)
{
    asm volatile("bar.sync %0, 64;" ::"r"(pair + 1) : "memory");
}

/* --- products of matrices of bfloat16, by all threads of a warp */

/* Four matrices of 8x8, whose rows lie at the addresses of the lanes. */
__device__ static inline void load_matrices(unsigned r[4], unsigned p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(p));
}

__device__ static inline void load_transposed(unsigned r[4], unsigned p)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(p));
}

/* sum += a b of 16x16 and 16x8 numbers. */
__device__ static inline void multiply(float sum[4], const unsigned a[4], unsigned b0,
                                       unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* A float as the tensor cores read it: 10 bits of its fraction, rounded to the nearest. */
__device__ static inline unsigned rounded_to_tf32(float x)
{
    unsigned bits;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
    return bits;
}

/* sum += a b of 16x8 and 8x8 numbers of TF32. */
__device__ static inline void multiply_tf32(float sum[4], const unsigned a[4], unsigned b0,
                                            unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/* --- numbers */

/* In two instructions; NaN stays. */
__device__ static inline float clamped_between(float x, float low, float high)
{
    asm("max.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(low));
    asm("min.NaN.f32 %0, %0, %1;" : "+f"(x) : "f"(high));
    return x;
}

/* Two numbers rounded, 0 in place of negative ones; NaN stays. */
__device__ static inline __nv_bfloat162 positive_pair(float first, float second)
{
    unsigned pair;
    asm("cvt.rn.relu.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
    return *(const __nv_bfloat162 *)&pair;
}

/* The same number, from which nothing can be worked out ahead of a loop: that would take
 * registers which the sums need. */
__device__ static inline int known_here(int number)
{
    asm volatile("" : "+r"(number));
    return number;
}

#endif
