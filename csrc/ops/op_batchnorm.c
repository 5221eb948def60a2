#include "ops/op.h"

/* BatchNorm with an activation behind it. Batch statistics or stored ones, by the mode.
 * The output is cheap to compute again from the input, so training need not keep it. */

typedef enum vector {
    MEAN,
    VARIANCE,
    SCALE,
    SHIFT,
    DGAMMA,
    DBETA,
    SLOPE,
    OFFSET,
    VECTORS
} vector;

static facs_real *vector_of(const facs_call *call, vector which)
{
    return (facs_real *)call->state + (int64_t)which * call->node->shape.c;
}

static facs_status infer(facs_node *node, const facs_shape *x)
{
    node->shape = *x;
    return FACS_OK;
}

static int parameters(const facs_node *node, const facs_shape *x, facs_parameter_spec *specs)
{
    (void)node;
    const facs_parameter_spec rows[] = {
        {FACS_SLOT_GAMMA, 1, {x->c, 1, 1, 1}, FACS_PARAMETER_GAMMA, "weight"},
        {FACS_SLOT_BETA, 1, {x->c, 1, 1, 1}, FACS_PARAMETER_BETA, "bias"},
        {FACS_SLOT_MEAN, 1, {x->c, 1, 1, 1}, FACS_PARAMETER_MEAN, "running_mean"},
        {FACS_SLOT_VARIANCE, 1, {x->c, 1, 1, 1}, FACS_PARAMETER_VARIANCE, "running_var"},
    };
    for (int i = 0; i < 4; i++) specs[i] = rows[i];
    return 4;
}

static facs_demand demand(const facs_kernels *kernels, const facs_node *node, facs_mode mode,
                          int64_t batch, int threads)
{
    const facs_shape s = node->shape;
    facs_demand wanted = {.state = VECTORS * (size_t)s.c * sizeof(facs_real)};
    if (mode != FACS_MODE_INFER)
        wanted.scratch = kernels->reduce_scratch(s.c, batch * s.h * s.w, threads);
    return wanted;
}

static void fold(const facs_call *call, const facs_real *mean, const facs_real *variance)
{
    call->kernels->batchnorm_fold(vector_of(call, SCALE), vector_of(call, SHIFT),
                                  call->node->shape.c, call->parameter[FACS_SLOT_GAMMA],
                                  call->parameter[FACS_SLOT_BETA], mean, variance,
                                  call->node->epsilon, NULL);
}

static void prepare(const facs_call *call)
{
    if (call->mode != FACS_MODE_TRAIN)
        fold(call, call->parameter[FACS_SLOT_MEAN], call->parameter[FACS_SLOT_VARIANCE]);
}

static void apply(const facs_call *call)
{
    call->kernels->affine_fwd(&call->context, &call->y, &call->x[0], vector_of(call, SCALE),
                              vector_of(call, SHIFT), call->node->clamp);
}

static void forward(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    facs_real *mean = vector_of(call, MEAN), *variance = vector_of(call, VARIANCE);

    if (call->mode == FACS_MODE_TRAIN) {
        k->batchnorm_stats(&call->context, mean, variance, &call->x[0]);
        k->batchnorm_track(call->parameter[FACS_SLOT_MEAN], call->parameter[FACS_SLOT_VARIANCE],
                           call->node->shape.c, mean, variance, call->node->momentum,
                           facs_tensor_pixels(&call->x[0]));
        fold(call, mean, variance);
    }
    apply(call);
}

static void backward(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    const int batch = call->mode == FACS_MODE_TRAIN;
    const facs_real *scale = vector_of(call, SCALE), *shift = vector_of(call, SHIFT);
    const facs_real *mean = batch ? vector_of(call, MEAN) : call->parameter[FACS_SLOT_MEAN];
    const facs_real *variance =
        batch ? vector_of(call, VARIANCE) : call->parameter[FACS_SLOT_VARIANCE];
    facs_real *dgamma = call->gradient[FACS_SLOT_GAMMA],
              *dbeta = call->gradient[FACS_SLOT_BETA];
    facs_real *slope = NULL, *offset = NULL;

    if (batch || dgamma) {
        dgamma = dgamma ? dgamma : vector_of(call, DGAMMA);
        dbeta = dbeta ? dbeta : vector_of(call, DBETA);
        k->batchnorm_bwd_sums(&call->context, dgamma, dbeta, &call->dy, &call->x[0], scale,
                              shift, mean, variance, call->node->epsilon, call->node->clamp);
    }
    if (!call->dx[0].data) return;
    if (batch) {
        slope = vector_of(call, SLOPE), offset = vector_of(call, OFFSET);
        k->batchnorm_bwd_fold(slope, offset, call->node->shape.c, scale, mean, variance,
                              call->node->epsilon, dgamma, dbeta,
                              facs_tensor_pixels(&call->x[0]));
    }
    k->batchnorm_bwd_x(&call->context, &call->dx[0], &call->dy, &call->x[0], scale, shift,
                       slope, offset, call->node->clamp, call->accumulate[0]);
}

const facs_op facs_op_batchnorm = {
    .infer = infer,
    .parameters = parameters,
    .demand = demand,
    .prepare = prepare,
    .forward = forward,
    .replay = apply,
    .backward = backward,
};
