#ifndef FACS_KERNEL_KERNEL_H
#define FACS_KERNEL_KERNEL_H

#include "core/real.h"
#include "core/tensor.h"

#include <stddef.h>
#include <stdint.h>

/* The table of everything that computes on tensors. A device is a filled table.
 *
 * Kernels return void: all checks are made when a plan is. They allocate nothing;
 * what they need beside their arguments is context->scratch. Outputs come first. With
 * `accumulate` a gradient is added to what stands there, otherwise it overwrites. */

typedef struct facs_context {
    int threads;
    void *scratch; /* at least what the *_scratch row of the kernel asked for */
    /* In the memory of a device that replays what it recorded: seed (low, high) and step of
     * the dropout, in place of its arguments. NULL on the CPU. */
    const uint32_t *draw;
} facs_context;

/* A two-dimensional convolution of (n, h, w, ci) to (n, oh, ow, co). Padding not given
 * on the bottom and right is implied by oh and ow. Weights are [kh][kw][ci / groups][co]. */
typedef struct facs_conv {
    int h, w, ci, oh, ow, co;
    int kh, kw, stride, pad_top, pad_left, groups;
    int few; /* weights are packed for a few images at a time, as in inference */
} facs_conv;

static inline int facs_conv_is_depthwise(const facs_conv *g)
{
    return g->groups > 1 && g->groups == g->ci && g->ci == g->co;
}

/* Neither dense nor depthwise. */
static inline int facs_conv_is_grouped(const facs_conv *g)
{
    return g->groups > 1 && !facs_conv_is_depthwise(g);
}

typedef struct facs_pool {
    int h, w, c, oh, ow;
    int kh, kw, stride, pad_top, pad_left;
} facs_pool;

/* y = min(max(x, low), high): (-inf, inf) nothing, (0, inf) ReLU, (0, 6) ReLU6. The
 * gradient passes strictly inside, as in PyTorch. */
typedef struct facs_clamp {
    facs_real low, high;
} facs_clamp;

/* What follows once a norm's sums are complete: see norm_bwd_finish. */
typedef struct facs_norm_end {
    facs_real *dgamma, *dbeta, *slope, *offset;
    const facs_real *variance;
    facs_real epsilon;
    int64_t count; /* 0: nothing follows */
} facs_norm_end;

/* A BatchNorm with its activation that the readers of its output apply themselves: they read
 * x as clamp(scale x + shift). Backward they turn a gradient g of that into h = g where
 * low < scale x + shift < high, else 0; store scale h as the gradient of x; and add sum h to
 * `sum` and sum h (x - mean) to `weighted` (NULL: not wanted). Vectors are (c). */
typedef struct facs_norm {
    const facs_real *scale, *shift, *mean;
    facs_clamp clamp;
    facs_real *sum, *weighted;
    facs_norm_end end; /* to be done once sum and weighted are; only where finishes_norms */
} facs_norm;

/* What the statistics of a batch add to the gradient of y, whose mean and variance they are:
 * dy is read as dy + slope y + offset, per channel. */
typedef struct facs_correction {
    const facs_tensor *y;
    const facs_real *slope, *offset;
} facs_correction;

/* A convolution that is ready to run: its packed weights and what follows it. */
typedef struct facs_layer {
    const facs_conv *g; /* NULL: there is none */
    const facs_real *packed, *bias;
    facs_clamp clamp;
} facs_layer;

/* A depthwise convolution with the 1x1 behind it, and with the dense one or all of another such
 * kernel before it, if any, of which only the last result is written. */
typedef struct facs_separable {
    facs_layer expand, depthwise, project;
    const struct facs_separable *before; /* in place of expand, or NULL */
} facs_separable;

enum { FACS_SEPARABLE_MOST = 4 }; /* of them behind each other */

/* What a BatchNorm of some channels does once their moments are known: see batchnorm_begin. */
typedef struct facs_norm_begin {
    facs_real *scale, *shift, *sums; /* sums NULL: nothing follows */
    const facs_real *gamma, *beta;
    facs_real epsilon;
    facs_real *running_mean, *running_variance;
    facs_real momentum;
} facs_norm_begin;

/* Mean and variance of what a kernel writes, per channel. */
typedef struct facs_moments {
    facs_real *mean, *variance;
    facs_norm_begin begin; /* to be done once they are known; only where finishes_norms */
} facs_moments;

typedef struct facs_loss_options {
    int labels;                    /* k */
    int micro;                     /* pr, tversky: one count over all labels */
    int true_negatives;            /* tversky: the negatives' index counts as much */
    facs_real epsilon;             /* pr, tversky: added to denominators, more than 0 */
    facs_real bce_weight;          /* pr, tversky: how much bce is added */
    facs_real alpha, beta;         /* tversky: what a false positive, a false negative weighs;
                                      asymmetric: factors of positives, of negatives */
    facs_real gamma_positive;      /* asymmetric: exponent of 1 - p on positives */
    facs_real gamma_negative;      /* asymmetric: exponent of p - margin on negatives */
    facs_real margin;              /* asymmetric: p up to this is 0 on negatives; below 1 */
    const facs_real *class_weight; /* bce, (k): multiplies a label's loss; NULL is 1 */
    const facs_real *pos_weight;   /* bce, (k): multiplies its positives; NULL is 1 */
} facs_loss_options;

/* One step of Adam, AdamW or SGD over a run of parameters. */
typedef struct facs_update {
    facs_real rate, beta1, beta2, epsilon;
    facs_real weight_decay;             /* AdamW: decoupled; others: added to the gradient */
    facs_real correction1, correction2; /* 1 - beta^t */
    facs_real gradient_scale;           /* from clipping; 1 is none */
    int decoupled, nesterov;
} facs_update;

typedef struct facs_kernels {
    const char *name;
    size_t number; /* bytes of a number of the tensors it works on */
#define KERNEL(type, name, arguments) type(*name) arguments;
#include "kernel/kernel.def"
#undef KERNEL
} facs_kernels;

extern const facs_kernels facs_kernels_ref, facs_kernels_blas, facs_kernels_generic,
    facs_kernels_avx2, facs_kernels_avx512;
/* The same for tensors of bfloat16 (data points to uint16_t); vectors, weights and sums stay
 * facs_real. The last two multiply bfloat16, the others compute in float. A table without a
 * name was not compiled. */
extern const facs_kernels facs_kernels_generic_bfloat16, facs_kernels_avx2_bfloat16,
    facs_kernels_avx512_bfloat16, facs_kernels_avx512_pairs_bfloat16, facs_kernels_amx_bfloat16;

/* Fills *kernels with the best this machine has, no higher than the rung named limit
 * (NULL or "": no limit). Returns 0 when no rung has that name. */
int facs_kernels_select(facs_kernels *kernels, const char *limit);

/* The same for tensors of bfloat16. Rows that have no such tensors are those of
 * facs_kernels_select; grouped convolutions and dropout are missing. Rungs below generic
 * count as that one. */
int facs_kernels_select_bfloat16(facs_kernels *kernels, const char *limit);

/* Name of rung i, from the plainest; NULL past the last usable one. */
const char *facs_kernels_rung(int i);

#endif
