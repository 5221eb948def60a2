#include "kernel/cuda/loss_parts.h"

/* Losses that are a sum over entries (image, label); sources in ref/. */

__global__ static void bce(loss_call call)
{
    FOR_EACH_ENTRY(call, i) call.dlogits[i] = 0;
    const double value = add_bce(call, 1);
    if (threadIdx.x == 0) *call.loss = (float)value;
}

template <class T>
void facs_cuda_rows<T>::loss_bce(const facs_context *, float *loss, float *dlogits,
                                 const float *logits, const float *target, const float *mask,
                                 int64_t n, const facs_loss_options *options)
{
    const loss_call call = {loss, dlogits, logits, target, mask, n, *options};
    FACS_LAUNCH(bce, 1, LOSS_THREADS, 0, call);
}
FACS_CUDA_ROW(loss_bce)

/* (1 - p)^gamma (-log p) and its derivative by the logit */
__device__ static double focused_positive(double x, double gamma, double *slope)
{
    const double p = logistic(x), q = logistic(-x);
    const double focus = pow(q, gamma), surprise = softplus(-x);
    *slope = -focus * (gamma * p * surprise + q);
    return focus * surprise;
}

/* s^gamma (-log(1 - s)) with the shifted probability s = max(p - margin, 0), and its
 * derivative by the logit. 1 - s is (1 - p) + margin, which does not round to 0; without a
 * margin it may, and then -log(1 - s) is the softplus and p (1 - p) / (1 - s) is p. */
__device__ static double focused_negative(double x, double gamma, double margin, double *slope)
{
    const double p = logistic(x), q = logistic(-x), shifted = p - margin;
    *slope = 0;
    if (!(shifted > 0)) return 0;
    const double surprise = margin > 0 ? -log(q + margin) : softplus(x);
    const double ratio = margin > 0 ? q / (q + margin) : 1;
    const double focus = pow(shifted, gamma);
    *slope = focus * (gamma * (surprise / shifted) * p * q + p * ratio);
    return focus * surprise;
}

__global__ static void asymmetric(loss_call call)
{
    const facs_loss_options &options = call.options;
    double sum = 0;
    FOR_EACH_ENTRY(call, i)
    {
        call.dlogits[i] = 0;
        if (!call.is_known(i)) continue;
        const bool positive = call.target[i] != 0;
        const double weight = positive ? options.alpha : options.beta, x = call.logits[i];
        double slope;
        sum += weight *
               (positive ? focused_positive(x, options.gamma_positive, &slope)
                         : focused_negative(x, options.gamma_negative, options.margin, &slope));
        call.dlogits[i] = (float)(weight * slope / (double)call.n);
    }
    sum = loss_sum(sum);
    if (threadIdx.x == 0) *call.loss = (float)(sum / (double)call.n);
}

template <class T>
void facs_cuda_rows<T>::loss_asymmetric(const facs_context *, float *loss, float *dlogits,
                                        const float *logits, const float *target,
                                        const float *mask, int64_t n,
                                        const facs_loss_options *options)
{
    const loss_call call = {loss, dlogits, logits, target, mask, n, *options};
    FACS_LAUNCH(asymmetric, 1, LOSS_THREADS, 0, call);
}
FACS_CUDA_ROW(loss_asymmetric)
