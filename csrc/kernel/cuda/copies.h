#ifndef FACS_KERNEL_CUDA_COPIES_H
#define FACS_KERNEL_CUDA_COPIES_H

#include "kernel/cuda/cuda.h"

/* Copies into shared memory that go on while the thread does (cp.async, from sm_80). */

__device__ static inline unsigned shared_address(const void *p)
{
    return (unsigned)__cvta_generic_to_shared(p);
}

/* Copies into shared memory that go on while the thread does; what is not inside becomes 0,
 * and its source only has to be an address of memory. */
__device__ static inline void copy_sixteen(void *to, const void *from, int inside)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(inside ? 16 : 0)
                 : "memory");
}

/* The same by addresses of shared memory; bytes: 16, or 0 where nothing is read. */
__device__ static inline void copy_sixteen_to(unsigned to, const void *from, unsigned bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from),
                 "r"(bytes)
                 : "memory");
}

__device__ static inline void copy_eight_bytes(void *to, const void *from, int inside)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(inside ? 8 : 0)
                 : "memory");
}

template <class T> __device__ static inline void copy_numbers(T *to, const T *from, int inside)
{
#pragma unroll
    for (size_t i = 0; i < 8 * sizeof(T); i += 16)
        copy_sixteen((char *)to + i, (const char *)from + i, inside);
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

#endif
