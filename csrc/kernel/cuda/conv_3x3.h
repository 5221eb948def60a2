#ifndef FACS_KERNEL_CUDA_CONV_3X3_H
#define FACS_KERNEL_CUDA_CONV_3X3_H

#include "kernel/cuda/cuda.h"

/* The 3x3 convolutions that DenseNets grow by, of few channels to 32: bfloat16, stride 1, the
 * map kept. Their halos come into shared memory once, not once a tap. Tensors may lie anywhere,
 * those of unaligned rows are slower. The rows of kernel.def, but that dy is corrected already
 * where its correction is no argument. */

/* Whether the convolution is one of those and the current device has the shared memory. */
int facs_cuda_conv3x3_fits(const facs_conv *g);

template <class T> static inline int facs_cuda_conv3x3_suits(const facs_conv *g)
{
    return sizeof(T) == 2 && facs_cuda_conv3x3_fits(g);
}

/* In facs_real; forward and backward alike. */
int64_t facs_cuda_conv3x3_packed(const facs_conv *g);

/* Bytes of scratch that any of the three below wants. */
size_t facs_cuda_conv3x3_scratch(const facs_conv *g);

/* scale: of the channels written, or NULL; forward alone. */
void facs_cuda_conv3x3_pack(facs_real *packed, const facs_conv *g, const facs_real *w,
                            const facs_real *scale, int backward);

void facs_cuda_conv3x3_fwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                           const facs_tensor *x, const facs_norm *norm, const facs_real *packed,
                           const facs_real *bias, facs_clamp clamp,
                           const facs_moments *moments);

void facs_cuda_conv3x3_bwd_x(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                             const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                             const facs_real *packed, int accumulate);

void facs_cuda_conv3x3_bwd_w(const facs_context *ctx, const facs_conv *g, facs_real *dw,
                             const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                             const facs_correction *correction);

#endif
