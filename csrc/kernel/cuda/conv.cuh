#ifndef FACS_KERNEL_CUDA_CONV_CUH
#define FACS_KERNEL_CUDA_CONV_CUH

#include "kernel/cuda/tile.cuh"

/* What the files of dense convolutions share. Packed weights are [depth][padded] numbers of
 * the tensors' type: depth runs over (tap, channel read), the channels of a tap padded to a
 * multiple of eight and the whole to one of DEPTH; padded are the channels written. What is
 * padded is 0. */

static inline int facs_conv_depth(int taps, int inner)
{
    return (taps * ((inner + 7) / 8) * 8 + DEPTH - 1) / DEPTH * DEPTH;
}

static inline int facs_conv_padded(int columns)
{
    return (columns + 31) / 32 * 32;
}

#endif
