#include "ops/op.h"

/* BatchNorm with an activation behind it. Batch statistics, which the plan has taken of the
 * input, or stored ones, by the mode. Readers that can do so apply it to its input
 * themselves, and take its sums backward; then only vectors are computed here. Otherwise the
 * output is cheap to compute again from the input, so training need not keep it. */

typedef enum vector { SCALE, SHIFT, SUM, WEIGHTED, VECTORS } vector;

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

static const facs_real *mean_of(const facs_call *call)
{
    return call->mode == FACS_MODE_TRAIN ? call->x_statistics.mean
                                         : call->parameter[FACS_SLOT_MEAN];
}

static const facs_real *variance_of(const facs_call *call)
{
    return call->mode == FACS_MODE_TRAIN ? call->x_statistics.variance
                                         : call->parameter[FACS_SLOT_VARIANCE];
}

static facs_norm_end end_of(const facs_call *call)
{
    return (facs_norm_end){.dgamma = call->gradient[FACS_SLOT_GAMMA],
                           .dbeta = call->gradient[FACS_SLOT_BETA],
                           .slope = call->x_statistics.slope,
                           .offset = call->x_statistics.offset,
                           .variance = variance_of(call),
                           .epsilon = call->node->epsilon,
                           .count = facs_tensor_pixels(&call->x[0])};
}

static facs_norm norm(const facs_call *call)
{
    const int trains = call->mode != FACS_MODE_INFER;
    return (facs_norm){.scale = vector_of(call, SCALE),
                       .shift = vector_of(call, SHIFT),
                       .mean = mean_of(call),
                       .clamp = call->node->clamp,
                       .sum = trains ? vector_of(call, SUM) : NULL,
                       .weighted = trains ? vector_of(call, WEIGHTED) : NULL,
                       .end = trains ? end_of(call) : (facs_norm_end){0}};
}

static void fold(const facs_call *call)
{
    call->kernels->batchnorm_fold(vector_of(call, SCALE), vector_of(call, SHIFT),
                                  call->node->shape.c, call->parameter[FACS_SLOT_GAMMA],
                                  call->parameter[FACS_SLOT_BETA], mean_of(call),
                                  variance_of(call), call->node->epsilon, NULL);
}

static void prepare(const facs_call *call)
{
    if (call->mode != FACS_MODE_TRAIN) fold(call);
}

static void apply(const facs_call *call)
{
    call->kernels->affine_fwd(&call->context, &call->y, &call->x[0], vector_of(call, SCALE),
                              vector_of(call, SHIFT), call->node->clamp);
}

static facs_norm_begin begin(const facs_call *call)
{
    if (call->mode != FACS_MODE_TRAIN) return (facs_norm_begin){0};
    return (facs_norm_begin){.scale = vector_of(call, SCALE),
                             .shift = vector_of(call, SHIFT),
                             .sums = vector_of(call, SUM),
                             .gamma = call->parameter[FACS_SLOT_GAMMA],
                             .beta = call->parameter[FACS_SLOT_BETA],
                             .epsilon = call->node->epsilon,
                             .running_mean = call->parameter[FACS_SLOT_MEAN],
                             .running_variance = call->parameter[FACS_SLOT_VARIANCE],
                             .momentum = call->node->momentum};
}

static void forward(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    const facs_norm_begin b = begin(call);

    if (b.sums && !call->begun)
        k->batchnorm_begin(b.scale, b.shift, b.sums, call->node->shape.c, b.gamma, b.beta,
                           mean_of(call), variance_of(call), b.epsilon, b.running_mean,
                           b.running_variance, b.momentum, facs_tensor_pixels(&call->x[0]));
    if (!b.sums && call->mode != FACS_MODE_INFER)
        k->zero(vector_of(call, SUM), 2 * (int64_t)call->node->shape.c);
    if (call->y.data) apply(call);
}

static void backward(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    facs_norm own = norm(call);
    const facs_norm_end end = own.end;

    own.end = (facs_norm_end){0};
    if (call->y.data)
        k->norm_bwd(&call->context, call->dx[0].data ? &call->dx[0] : NULL, &call->x[0], &own,
                    &call->dy, call->accumulate[0]);
    if (!call->finished)
        k->norm_bwd_finish(end.dgamma, end.dbeta, end.slope, end.offset, call->node->shape.c,
                           &own, end.variance, end.epsilon, end.count);
}

const facs_op facs_op_batchnorm = {
    .infer = infer,
    .parameters = parameters,
    .demand = demand,
    .prepare = prepare,
    .norm = norm,
    .begin = begin,
    .forward = forward,
    .replay = apply,
    .backward = backward,
};
