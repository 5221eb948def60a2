#include "kernel/cuda/loss_parts.h"

/* Losses that compare the logits of one image with each other or with 0: a thread takes an
 * image. Sources in ref/. */

#define FOR_EACH_IMAGE(call, first)                                                            \
    for (int64_t first = (int64_t)threadIdx.x * (call).options.labels;                         \
         first < (call).entries(); first += (int64_t)blockDim.x * (call).options.labels)

/* log sum exp of sign * f over the known entries whose target is `positive`. */
__device__ static double log_sum_exp(const loss_call &call, int64_t first, bool positive,
                                     double sign)
{
    const int64_t end = first + call.options.labels;
    double largest = -INFINITY, sum = 0;
    for (int64_t i = first; i < end; i++)
        if (call.is_known(i) && (call.target[i] != 0) == positive &&
            sign * call.logits[i] > largest)
            largest = sign * call.logits[i];
    if (largest == -INFINITY) return largest;
    for (int64_t i = first; i < end; i++)
        if (call.is_known(i) && (call.target[i] != 0) == positive)
            sum += exp(sign * call.logits[i] - largest);
    return largest + log(sum);
}

__global__ static void lsep(loss_call call)
{
    double total = 0;
    FOR_EACH_IMAGE(call, first)
    {
        const double negatives = log_sum_exp(call, first, false, 1);
        const double positives = log_sum_exp(call, first, true, -1);
        const bool both = negatives != -INFINITY && positives != -INFINITY;
        const double pairs = negatives + positives, slope = logistic(pairs) / (double)call.n;
        if (both) total += softplus(pairs);
        for (int64_t i = first; i < first + call.options.labels; i++)
            if (!both || !call.is_known(i))
                call.dlogits[i] = 0;
            else
                call.dlogits[i] =
                    (float)(call.target[i] != 0 ? -slope * exp(-call.logits[i] - positives)
                                                : slope * exp(call.logits[i] - negatives));
    }
    total = loss_sum(total);
    if (threadIdx.x == 0) *call.loss = (float)(total / (double)call.n);
}

template <class T>
void facs_cuda_rows<T>::loss_lsep(const facs_context *, float *loss, float *dlogits,
                                  const float *logits, const float *target, const float *mask,
                                  int64_t n, const facs_loss_options *options)
{
    const loss_call call = {loss, dlogits, logits, target, mask, n, *options};
    FACS_LAUNCH(lsep, 1, LOSS_THREADS, 0, call);
}
FACS_CUDA_ROW(loss_lsep)

__global__ static void zlpr(loss_call call)
{
    double total = 0;
    FOR_EACH_IMAGE(call, first)
    {
        /* softplus(-inf) is 0: no label of that kind */
        const double negatives = softplus(log_sum_exp(call, first, false, 1));
        const double positives = softplus(log_sum_exp(call, first, true, -1));
        total += negatives + positives;
        for (int64_t i = first; i < first + call.options.labels; i++)
            if (!call.is_known(i))
                call.dlogits[i] = 0;
            else
                call.dlogits[i] =
                    (float)((call.target[i] != 0 ? -exp(-call.logits[i] - positives)
                                                 : exp(call.logits[i] - negatives)) /
                            (double)call.n);
    }
    total = loss_sum(total);
    if (threadIdx.x == 0) *call.loss = (float)(total / (double)call.n);
}

template <class T>
void facs_cuda_rows<T>::loss_zlpr(const facs_context *, float *loss, float *dlogits,
                                  const float *logits, const float *target, const float *mask,
                                  int64_t n, const facs_loss_options *options)
{
    const loss_call call = {loss, dlogits, logits, target, mask, n, *options};
    FACS_LAUNCH(zlpr, 1, LOSS_THREADS, 0, call);
}
FACS_CUDA_ROW(loss_zlpr)
