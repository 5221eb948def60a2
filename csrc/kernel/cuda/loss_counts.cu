#include "kernel/cuda/loss_parts.h"

/* Losses of soft counts over the batch; sources in ref/. */

struct counts {
    double true_positive, predicted, actual, known;
};

template <class T> size_t facs_cuda_rows<T>::loss_scratch(int64_t, int k)
{
    return (size_t)k * sizeof(counts);
}
FACS_CUDA_ROW(loss_scratch)

/* counts of entries first, first + step, ... that this thread takes */
__device__ static counts count_some(const loss_call &call, int64_t first, int64_t step)
{
    counts c = {};
    for (int64_t i = first; i < call.entries(); i += step) {
        if (!call.is_known(i)) continue;
        const double p = logistic(call.logits[i]);
        c.true_positive += call.target[i] * p;
        c.predicted += p;
        c.actual += call.target[i];
        c.known++;
    }
    return c;
}

/* Fills the counts of every class and returns how many classes there are: a class is a
 * label, which a warp takes, or all of them, which the block takes. */
__device__ static int count(counts *classes, const loss_call &call)
{
    const int k = call.options.labels, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (call.options.micro) {
        const counts c = count_some(call, threadIdx.x, blockDim.x);
        const counts all = {loss_sum(c.true_positive), loss_sum(c.predicted),
                            loss_sum(c.actual), loss_sum(c.known)};
        if (threadIdx.x == 0) *classes = all;
    } else {
        for (int label = warp; label < k; label += LOSS_THREADS / 32) {
            const counts c = count_some(call, (int64_t)lane * k + label, 32 * (int64_t)k);
            const counts all = {warp_sum(c.true_positive), warp_sum(c.predicted),
                                warp_sum(c.actual), warp_sum(c.known)};
            if (lane == 0) classes[label] = all;
        }
    }
    __syncthreads();
    return call.options.micro ? 1 : k;
}

__device__ static int class_of(const loss_call &call, int64_t i)
{
    return call.options.micro ? 0 : (int)(i % call.options.labels);
}

/* The value of the loss so far, to which the weighted bce is added. */
__device__ static void finish(const loss_call &call, double value)
{
    const double weight = call.options.bce_weight;
    if (weight > 0) value += weight * add_bce(call, weight);
    if (threadIdx.x == 0) *call.loss = (float)value;
}

/* 1 - soft precision x soft recall. With TP = sum y p, S = sum p, N = sum y this is
 * 1 - TP^2 / (S N); classes without a positive in the batch do not count. */
__global__ static void precision_recall(loss_call call, counts *classes)
{
    const int number = count(classes, call);
    const double epsilon = call.options.epsilon;
    double defined = 0, product = 0;

    for (int j = threadIdx.x; j < number; j += blockDim.x) {
        const counts c = classes[j];
        if (c.actual <= 0) continue;
        defined++;
        product +=
            c.true_positive / (c.predicted + epsilon) * c.true_positive / (c.actual + epsilon);
    }
    defined = loss_sum(defined);
    product = loss_sum(product);
    FOR_EACH_ENTRY(call, i)
    {
        const counts c = classes[class_of(call, i)];
        call.dlogits[i] = 0;
        if (!call.is_known(i) || c.actual <= 0) continue;
        const double p = logistic(call.logits[i]), s = c.predicted + epsilon;
        const double precision = c.true_positive / s;
        const double recall = c.true_positive / (c.actual + epsilon);
        call.dlogits[i] =
            (float)(-recall / s * (2 * call.target[i] - precision) / defined * p * (1 - p));
    }
    finish(call, defined > 0 ? 1 - product / defined : 0);
}

template <class T>
void facs_cuda_rows<T>::loss_pr(const facs_context *ctx, float *loss, float *dlogits,
                                const float *logits, const float *target, const float *mask,
                                int64_t n, const facs_loss_options *options)
{
    const loss_call call = {loss, dlogits, logits, target, mask, n, *options};
    FACS_LAUNCH(precision_recall, 1, LOSS_THREADS, 0, call, (counts *)ctx->scratch);
}
FACS_CUDA_ROW(loss_pr)

/* The counts where 1 - p is the probability of what is looked for, a negative. */
__device__ static counts of_negatives(const counts &c)
{
    const double true_negative = c.known - c.actual - c.predicted + c.true_positive;
    return {true_negative > 0 ? true_negative : 0, c.known - c.predicted, c.known - c.actual,
            c.known};
}

/* TP / (TP + alpha FP + beta FN), and its derivative by the p of an entry:
 * slope y + offset. */
struct overlap {
    double value, slope, offset;
};

__device__ static overlap overlap_of(const counts &c, const facs_loss_options &options)
{
    const double a = options.alpha, b = options.beta, both = 1 - a - b;
    const double whole =
        both * c.true_positive + a * c.predicted + b * c.actual + options.epsilon;
    const double value = c.true_positive / whole;
    return {value, (1 - both * value) / whole, -a * value / whole};
}

__global__ static void tversky(loss_call call, counts *classes)
{
    const facs_loss_options &options = call.options;
    const int number = count(classes, call);
    double defined = 0, sum = 0;

    for (int j = threadIdx.x; j < number; j += blockDim.x) {
        const counts c = classes[j], negatives = of_negatives(c);
        if (c.actual > 0) defined++, sum += overlap_of(c, options).value;
        if (options.true_negatives && negatives.actual > 0)
            defined++, sum += overlap_of(negatives, options).value;
    }
    defined = loss_sum(defined);
    sum = loss_sum(sum);
    FOR_EACH_ENTRY(call, i)
    {
        const counts c = classes[class_of(call, i)], negatives = of_negatives(c);
        const double p = logistic(call.logits[i]), y = call.target[i];
        double slope = 0;
        call.dlogits[i] = 0;
        if (!call.is_known(i) || defined == 0) continue;
        if (c.actual > 0) {
            const overlap part = overlap_of(c, options);
            slope += part.slope * y + part.offset;
        }
        if (options.true_negatives && negatives.actual > 0) {
            const overlap part = overlap_of(negatives, options);
            slope -= part.slope * (1 - y) + part.offset;
        }
        call.dlogits[i] = (float)(-slope / defined * p * (1 - p));
    }
    finish(call, defined > 0 ? 1 - sum / defined : 0);
}

template <class T>
void facs_cuda_rows<T>::loss_tversky(const facs_context *ctx, float *loss, float *dlogits,
                                     const float *logits, const float *target,
                                     const float *mask, int64_t n,
                                     const facs_loss_options *options)
{
    const loss_call call = {loss, dlogits, logits, target, mask, n, *options};
    FACS_LAUNCH(tversky, 1, LOSS_THREADS, 0, call, (counts *)ctx->scratch);
}
FACS_CUDA_ROW(loss_tversky)
