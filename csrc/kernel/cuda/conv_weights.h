#ifndef FACS_KERNEL_CUDA_CONV_WEIGHTS_H
#define FACS_KERNEL_CUDA_CONV_WEIGHTS_H

#include "kernel/cuda/cuda.h"

/* Weight gradients of the convolutions that have kernels of their own, in bfloat16. They write
 * to dw, through partial sums in scratch. Each says by returning 0 that the shape or the way
 * the tensors lie is not its own, and has done nothing then; *_scratch is in bytes, for any
 * number of images. */

/* 1x1, stride 1, channels in eights; no correction. */
size_t facs_cuda_pointwise_weights_scratch(const facs_conv *g);
int facs_cuda_pointwise_weights(float *dw, void *scratch, const facs_conv *g,
                                const facs_tensor *x, const facs_norm *norm,
                                const facs_tensor *dy);

#endif
