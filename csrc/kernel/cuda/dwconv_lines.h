#ifndef FACS_KERNEL_CUDA_DWCONV_LINES_H
#define FACS_KERNEL_CUDA_DWCONV_LINES_H

#include "kernel/cuda/dwconv.h"

/* Lines on their way to a warp. What its threads read next is copied into shared memory that
 * is the warp's own, a few lines ahead and without registers. There a row has a pair for every
 * lane, and a thread finds its own numbers in its lane, but it may have copied others: 16
 * bytes at a time where all tensors are aligned to that. */

/* Begins to copy BYTES; those not inside become 0, and `from` is not read. */
template <int BYTES>
__device__ static inline void dw_copy(void *to, const void *from, int inside)
{
    const unsigned address = (unsigned)__cvta_generic_to_shared(to);
    asm volatile("cp.async.ca.shared.global [%0], [%1], %2, %3;" ::"r"(address), "l"(from),
                 "n"(BYTES), "r"(inside ? BYTES : 0)
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
template <class T, int PIXELS> struct dw_lines {
    typedef typename dw_stored<T>::pair pair;
    /* Pixels that the lanes of a strip copy at once, 16 bytes each; so all copy equally often
     * into ROWS rows of shared memory. */
    enum { AT_ONCE = 16 / sizeof(pair), ROWS = (PIXELS + AT_ONCE - 1) / AT_ONCE * AT_ONCE };
    typedef pair row[DW_LANES];

    const T *from;   /* what the thread copies first of line 0 */
    int stride, to;  /* to: its place behind the first row */
    unsigned inside; /* bit i: its copy i is in the image */

    /* `line`: line 0 of the image, `width` pixels; the window begins at `column`. */
    __device__ __forceinline__ void go_to(const dw_part &part, int channels, int wide,
                                          const T *line, int stride_of_line, int column,
                                          int width)
    {
        const int at_once = wide ? AT_ONCE : 1, across = part.lanes / at_once;
        const int place = part.lane % across * at_once, first = part.lane / across;
        const int c = part.group + 2 * place;
        stride = stride_of_line;
        from = line + (int64_t)(column + first) * stride + c;
        to = first * DW_LANES + part.strip * part.lanes + place;
        inside = 0;
#pragma unroll
        for (int i = 0; i < PIXELS; i++) {
            const int pixel = first + i * at_once, x = column + pixel;
            if (c < channels && pixel < PIXELS && x >= 0 && x < width) inside |= 1u << i;
        }
    }

    /* Begins to copy the line that is `pixels` behind line 0, or zeros if it is not wanted. */
    template <int WIDE>
    __device__ __forceinline__ void copy(row *rows, int pixels, int wanted) const
    {
        enum { STEP = WIDE ? AT_ONCE : 1, BYTES = STEP * sizeof(pair) };
        const T *line = from + pixels * stride;
        const unsigned mask = wanted ? inside : 0;
#pragma unroll
        for (int i = 0; i < PIXELS; i += STEP)
            dw_copy<BYTES>(rows[i] + to, line + i * stride, mask >> (i / STEP) & 1);
    }
};

#endif
