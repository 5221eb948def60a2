#ifndef FACS_KERNEL_CUDA_DWCONV_LINES_H
#define FACS_KERNEL_CUDA_DWCONV_LINES_H

#include "kernel/cuda/dwconv.h"

/* Lines on their way to a warp. What its threads read next is copied into shared memory that
 * is the warp's own, a few lines ahead and without registers. There a row has a pair for every
 * lane, and a thread finds its own numbers in its lane, but it may have copied others: 16
 * bytes at a time where all tensors are aligned to that. */

/* Waits for all groups of all threads of the warp but the last LEFT. */
template <int LEFT> __device__ static inline void dw_wait_for_copies(void)
{
    wait_for_copies<LEFT>();
    __syncwarp();
}

template <class T> static inline int dw_is_wide(const facs_tensor *t)
{
    return t->c % 8 == 0 && t->stride % 8 == 0 && (uintptr_t)t->data % 16 == 0;
}

/* What a thread copies of every line of a warp's strips: pixels from `first` of them on, at
 * channel; `to` is where behind the first row. */
typedef struct dw_place {
    int first, channel, to;
} dw_place;

/* Pixels that the lanes of a strip copy at once, 16 bytes each. */
template <class T> __host__ __device__ static constexpr int dw_at_once()
{
    return 16 / sizeof(typename dw_stored<T>::pair);
}

template <class T, int WIDE> __device__ static inline dw_place dw_place_of(const dw_part &part)
{
    const int at_once = WIDE ? dw_at_once<T>() : 1, across = part.lanes / at_once;
    const int place = part.lane % across * at_once, first = part.lane / across;
    return {first, part.group + 2 * place, first * DW_LANES + part.strip * part.lanes + place};
}

/* PIXELS neighbouring pixels of the lines of a tensor. */
template <class T, int PIXELS, int NEAR> struct dw_lines {
    typedef typename dw_stored<T>::pair pair;
    typedef pair row[DW_LANES];

    const T *from;   /* what the thread copies first of the next line */
    int to;          /* of its dw_place */
    unsigned inside; /* bit i: its copy i is in the image */

    /* Before `line` of an image of lines of `width` pixels, where the window begins at
     * `column`. Neither has to be inside. */
    template <int WIDE>
    __device__ __forceinline__ void go_to(const dw_place &place, int channels, const T *image,
                                          int stride, int line, int column, int width)
    {
        enum { STEP = WIDE ? dw_at_once<T>() : 1 };
        const int x = column + place.first;
        from = image + ((int64_t)line * width + x) * stride + place.channel;
        to = place.to;
        inside = 0;
#pragma unroll
        for (int i = 0; i < PIXELS; i += STEP)
            if (place.first + i < PIXELS && x + i >= 0 && x + i < width)
                inside |= 1u << i / STEP;
        if (place.channel >= channels) inside = 0;
    }

    /* Begins to copy the next line, or zeros if it is not wanted, and goes `pixels` on. */
    template <int WIDE>
    __device__ __forceinline__ void copy(row *rows, int stride, int pixels, int wanted)
    {
        enum { STEP = WIDE ? dw_at_once<T>() : 1, BYTES = STEP * sizeof(pair) };
        const unsigned mask = wanted ? inside : 0;
        pair *const place = rows[0] + to;
        const int first = to / DW_LANES;
#pragma unroll
        for (int i = 0; i < PIXELS; i += STEP)
            copy_if<BYTES, NEAR>(place + i * DW_LANES, from + i * stride, mask & 1u << i / STEP,
                                 i + STEP <= PIXELS || first + i < PIXELS);
        from += pixels * stride;
    }
};

#endif
