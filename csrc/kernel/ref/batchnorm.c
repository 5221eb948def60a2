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

void facs_ref_batchnorm_track(facs_real *running_mean, facs_real *running_variance, int c,
                              const facs_real *mean, const facs_real *variance,
                              facs_real momentum, int64_t count)
{
    const facs_real unbiased = count > 1 ? (facs_real)((double)count / (double)(count - 1)) : 1;
    for (int i = 0; i < c; i++) {
        running_mean[i] += momentum * (mean[i] - running_mean[i]);
        running_variance[i] += momentum * (variance[i] * unbiased - running_variance[i]);
    }
}

/* dy where the clamp passed scale x + shift, else 0 */
static double passed(facs_real dy, facs_real x, facs_real scale, facs_real shift,
                     facs_clamp clamp)
{
    const facs_real y = scale * x + shift;
    return y > clamp.low && y < clamp.high ? dy : 0;
}

void facs_ref_batchnorm_bwd_sums(const facs_context *ctx, facs_real *dgamma, facs_real *dbeta,
                                 const facs_tensor *dy, const facs_tensor *x,
                                 const facs_real *scale, const facs_real *shift,
                                 const facs_real *mean, const facs_real *variance,
                                 facs_real epsilon, facs_clamp clamp)
{
    const int64_t pixels = facs_tensor_pixels(x);
    (void)ctx;
    for (int c = 0; c < x->c; c++) {
        double sum = 0, weighted = 0;
        for (int64_t p = 0; p < pixels; p++) {
            const facs_real value = x->data[p * x->stride + c];
            const double g =
                passed(dy->data[p * dy->stride + c], value, scale[c], shift[c], clamp);
            sum += g;
            weighted += g * ((double)value - mean[c]);
        }
        dbeta[c] = (facs_real)sum;
        dgamma[c] = (facs_real)(weighted / sqrt((double)variance[c] + epsilon));
    }
}

void facs_ref_batchnorm_bwd_fold(facs_real *slope, facs_real *offset, int c,
                                 const facs_real *scale, const facs_real *mean,
                                 const facs_real *variance, facs_real epsilon,
                                 const facs_real *dgamma, const facs_real *dbeta, int64_t count)
{
    for (int i = 0; i < c; i++) {
        const double per_pixel = scale[i] / (double)count;
        const double factor = -per_pixel * dgamma[i] / sqrt((double)variance[i] + epsilon);
        slope[i] = (facs_real)factor;
        offset[i] = (facs_real)(-per_pixel * dbeta[i] - factor * mean[i]);
    }
}

void facs_ref_batchnorm_bwd_x(const facs_context *ctx, const facs_tensor *dx,
                              const facs_tensor *dy, const facs_tensor *x,
                              const facs_real *scale, const facs_real *shift,
                              const facs_real *slope, const facs_real *offset, facs_clamp clamp,
                              int accumulate)
{
    const int64_t pixels = facs_tensor_pixels(x);
    (void)ctx;
    for (int64_t p = 0; p < pixels; p++)
        for (int c = 0; c < x->c; c++) {
            const facs_real value = x->data[p * x->stride + c];
            double g = scale[c] *
                       passed(dy->data[p * dy->stride + c], value, scale[c], shift[c], clamp);
            if (slope) g += (double)slope[c] * value + offset[c];
            facs_ref_store(dx->data + p * dx->stride + c, (facs_real)g, accumulate);
        }
}
