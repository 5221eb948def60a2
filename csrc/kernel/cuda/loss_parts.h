#ifndef FACS_KERNEL_CUDA_LOSS_PARTS_H
#define FACS_KERNEL_CUDA_LOSS_PARTS_H

#include "kernel/cuda/cuda.h"

/* What the losses share. A batch is small, so that a loss is one block, whose threads take
 * entries or images in turn; sums are in double. */

enum { LOSS_THREADS = 512 };

/* What every loss is called with. */
struct loss_call {
    float *loss, *dlogits;
    const float *logits, *target, *mask;
    int64_t n;
    facs_loss_options options;

    __device__ int64_t entries() const { return n * options.labels; }
    __device__ bool is_known(int64_t i) const { return !mask || mask[i] != 0; }
};

#define FOR_EACH_ENTRY(call, i)                                                                \
    for (int64_t i = threadIdx.x; i < (call).entries(); i += blockDim.x)

__device__ static inline double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

/* log(1 + exp(x)) */
__device__ static inline double softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

/* The sum of x over the threads of the block, for all of them; all must call. */
__device__ static inline double loss_sum(double x)
{
    return block_sum<LOSS_THREADS>(x);
}

/* Mean over the known entries of -y log p - (1 - y) log(1 - p), from logits, with the
 * weights of the options, for all threads; adds `factor` times the gradient. */
__device__ static inline double add_bce(const loss_call &call, double factor)
{
    const facs_loss_options &options = call.options;
    double known = 0, sum = 0;
    FOR_EACH_ENTRY(call, i) known += call.is_known(i);
    known = loss_sum(known);
    if (known == 0) return 0;
    FOR_EACH_ENTRY(call, i)
    {
        if (!call.is_known(i)) continue;
        const int label = (int)(i % options.labels);
        const double weight = options.class_weight ? options.class_weight[label] : 1;
        const double positive = options.pos_weight ? options.pos_weight[label] : 1;
        const double x = call.logits[i], y = call.target[i];
        sum += weight * (positive * y * softplus(-x) + (1 - y) * softplus(x));
        call.dlogits[i] += (float)(factor * weight / known *
                                   ((1 - y) * logistic(x) - positive * y * logistic(-x)));
    }
    return loss_sum(sum) / known;
}

#endif
