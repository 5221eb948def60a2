#ifndef FACS_KERNEL_CUDA_DWCONV_LINES_H
#define FACS_KERNEL_CUDA_DWCONV_LINES_H

#include "kernel/cuda/dwconv.h"

/* Lines on their way to a warp. What its threads read next is copied into shared memory that
 * is the warp's own, a few lines ahead and without registers. There a row has a pair for every
 * lane, and a thread finds its own numbers in its lane, but it may have copied others: 16
 * bytes at a time where all tensors are aligned to that. */

/* Begins to copy BYTES if `wanted`; where `inside` is 0 they become 0, and `from` is not
 * read. */
template <int BYTES>
__device__ static inline void dw_copy(void *to, const void *from, unsigned inside, int wanted)
{
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("{\n"
                 ".reg .pred outside, wanted;\n"
                 "setp.eq.u32 outside, %3, 0;\n"
                 "setp.ne.s32 wanted, %4, 0;\n"
                 "@wanted cp.async.ca.shared.global [%0], [%1], %2, outside;\n"
                 "}" ::"r"(address),
                 "l"(from), "n"(BYTES), "r"(inside), "r"(wanted)
                 : "memory");
}

/* Ends a group of copies of the thread. */
__device__ static inline void dw_end_copies(void)
{
    asm volatile("cp.async.commit_group;" ::: "memory");
}

/* Waits for all groups of all threads of the warp but the last LEFT. */
template <int LEFT> __device__ static inline void dw_wait_for_copies(void)
{
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
    __syncwarp();
}

template <class T> static inline int dw_is_wide(const facs_tensor *t)
{
    return t->c % 8 == 0 && t->stride % 8 == 0 && (uintptr_t)t->data % 16 == 0;
}

/* PIXELS neighbouring pixels of the lines of a tensor. */
template <class T, int PIXELS> struct __align__(16) dw_lines
{
    typedef typename dw_stored<T>::pair pair;
    /* Pixels that the lanes of a strip copy at once, 16 bytes each. */
    enum { AT_ONCE = 16 / sizeof(pair) };
    typedef pair row[DW_LANES];

    const T *from;   /* what the thread copies first of line 0 */
    int stride, to;  /* to: its place behind the first row */
    unsigned inside; /* bit i: its copy i is in the image */

    /* Before `line` of an image of lines of `width` pixels, where the window begins at
     * `column`. Neither has to be inside. */
    __device__ __forceinline__ void go_to(const dw_part &part, int channels, int wide,
                                          const T *image, int stride, int line, int column,
                                          int width)
    {
        const int at_once = wide ? AT_ONCE : 1, across = part.lanes / at_once;
        const int place = part.lane % across * at_once, first = part.lane / across;
        const int c = part.group + 2 * place;
        from = image + ((int64_t)line * width + column + first) * stride + c;
        to = first * DW_LANES + part.strip * part.lanes + place;
        inside = 0;
#pragma unroll
        for (int i = 0; i < PIXELS; i++) {
            const int pixel = first + i * at_once, x = column + pixel;
            if (c < channels && pixel < PIXELS && x >= 0 && x < width) inside |= 1u << i;
        }
    }

    /* Begins to copy the next line, or zeros if it is not wanted, and goes `pixels` on. */
    template <int WIDE>
    __device__ __forceinline__ void copy(row * rows, int stride, int pixels, int wanted)
    {
        enum { STEP = WIDE ? AT_ONCE : 1, BYTES = STEP * sizeof(pair) };
        const T *const line = from;
        const unsigned mask = wanted ? inside : 0;
        pair *const place = rows[0] + to;
        const int first = to / DW_LANES;
#pragma unroll
        for (int i = 0; i < PIXELS; i += STEP)
            dw_copy<BYTES>(place + i * DW_LANES, line + i * stride, mask & 1u << i / STEP,
                           i + STEP <= PIXELS || first + i < PIXELS);
        from = line + pixels * stride;
    }
};

#endif
