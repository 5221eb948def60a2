#include "kernel/ref/ref.h"

#include <math.h>

/* BatchNorm: Ioffe and Szegedy, ICML 2015. Per-channel loops over all pixels. */

size_t facs_ref_reduce_scratch(int c, int64_t pixels, int threads)
{
    (void)c, (void)pixels, (void)threads;
    return 0;
}

void facs_ref_channel_sums(const facs_context *ctx, facs_real *sum, const facs_tensor *x)
{
    const int64_t pixels = facs_tensor_pixels(x);
    (void)ctx;
    for (int c = 0; c < x->c; c++) {
        double total = 0;
        for (int64_t p = 0; p < pixels; p++) total += x->data[p * x->stride + c];
        sum[c] = (facs_real)total;
    }
}

void facs_ref_batchnorm_stats(const facs_context *ctx, facs_real *mean, facs_real *variance,
                              const facs_tensor *x)
{
    const int64_t pixels = facs_tensor_pixels(x);
    (void)ctx;
    for (int c = 0; c < x->c; c++) {
        double sum = 0, squares = 0;
        for (int64_t p = 0; p < pixels; p++) sum += x->data[p * x->stride + c];
        const double centre = sum / (double)pixels;
        for (int64_t p = 0; p < pixels; p++) {
            const double difference = x->data[p * x->stride + c] - centre;
            squares += difference * difference;
        }
        mean[c] = (facs_real)centre;
        variance[c] = (facs_real)(squares / (double)pixels);
    }
}

void facs_ref_batchnorm_fold(facs_real *scale, facs_real *shift, int c, const facs_real *gamma,
                             const facs_real *beta, const facs_real *mean,
                             const facs_real *variance, facs_real epsilon,
                             const facs_real *bias)
{
    for (int i = 0; i < c; i++) {
        const double factor = gamma[i] / sqrt((double)variance[i] + epsilon);
        scale[i] = (facs_real)factor;
        shift[i] = (facs_real)(beta[i] - mean[i] * factor + (bias ? bias[i] * factor : 0));
    }
}

void facs_ref_batchnorm_begin(facs_real *scale, facs_real *shift, facs_real *sums, int c,
                              const facs_real *gamma, const facs_real *beta,
                              const facs_real *mean, const facs_real *variance,
                              facs_real epsilon, facs_real *running_mean,
                              facs_real *running_variance, facs_real momentum, int64_t count)
{
    const facs_real unbiased = count > 1 ? (facs_real)((double)count / (double)(count - 1)) : 1;
    for (int i = 0; i < c; i++) {
        running_mean[i] += momentum * (mean[i] - running_mean[i]);
        running_variance[i] += momentum * (variance[i] * unbiased - running_variance[i]);
        sums[i] = sums[c + i] = 0;
    }
    facs_ref_batchnorm_fold(scale, shift, c, gamma, beta, mean, variance, epsilon, NULL);
}

void facs_ref_norm_bwd(const facs_context *ctx, const facs_tensor *dx, const facs_tensor *x,
                       const facs_norm *norm, const facs_tensor *dy, int accumulate)
{
    const int64_t pixels = facs_tensor_pixels(x);
    (void)ctx;
    for (int c = 0; c < x->c; c++) {
        facs_ref_norm_sums sums = {0};
        for (int64_t p = 0; p < pixels; p++) {
            const double g = facs_ref_through(norm, &sums, dy->data[p * dy->stride + c],
                                              x->data[p * x->stride + c], c);
            if (dx) facs_ref_store(dx->data + p * dx->stride + c, (facs_real)g, accumulate);
        }
        facs_ref_add_sums(norm, &sums, c);
    }
}

int facs_ref_finishes_norms(void)
{
    return 0;
}

void facs_ref_norm_bwd_finish(facs_real *dgamma, facs_real *dbeta, facs_real *slope,
                              facs_real *offset, int c, const facs_norm *norm,
                              const facs_real *variance, facs_real epsilon, int64_t count)
{
    for (int i = 0; i < c; i++) {
        const double inverse = 1 / sqrt((double)variance[i] + epsilon);
        const double per_pixel = norm->scale[i] / (double)count;
        const double factor = -per_pixel * norm->weighted[i] * inverse * inverse;
        if (dgamma) {
            dgamma[i] = (facs_real)(norm->weighted[i] * inverse);
            dbeta[i] = norm->sum[i];
        }
        if (!slope) continue;
        slope[i] += (facs_real)factor;
        offset[i] += (facs_real)(-per_pixel * norm->sum[i] - factor * norm->mean[i]);
    }
}

void facs_ref_correct(const facs_context *ctx, const facs_tensor *dy,
                      const facs_correction *correction)
{
    const int64_t pixels = facs_tensor_pixels(dy);
    (void)ctx;
    for (int64_t p = 0; p < pixels; p++)
        for (int c = 0; c < dy->c; c++)
            dy->data[p * dy->stride + c] = (facs_real)facs_ref_corrected(correction, dy, p, c);
}
