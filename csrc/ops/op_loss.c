#include "ops/op.h"

/* The inputs are logits, target and mask, (k) each; the output is one number for the
 * whole batch, in the first image. Value and gradient are computed together; the
 * gradient waits in the state. */

static facs_status infer(facs_node *node, const facs_shape *x)
{
    for (int i = 0; i < 3; i++)
        if (x[i].h != 1 || x[i].w != 1 || x[i].c != x[0].c)
            return facs_fail(FACS_E_SHAPE, "loss %s: input %d is %d x %d x %d, want 1 x 1 x %d",
                             node->name, i, x[i].h, x[i].w, x[i].c, x[0].c);
    node->u.loss.options.labels = x[0].c;
    node->shape = (facs_shape){1, 1, 1};
    return FACS_OK;
}

static facs_demand demand(const facs_kernels *kernels, const facs_node *node, facs_mode mode,
                          int64_t batch, int threads)
{
    const int k = node->u.loss.options.labels;
    (void)mode, (void)threads;
    return (facs_demand){.state = (size_t)batch * (size_t)k * sizeof(facs_real),
                         .scratch = kernels->loss_scratch(batch, k)};
}

void facs_loss_run(const facs_kernels *kernels, facs_loss_kind kind,
                   const facs_context *context, facs_real *loss, facs_real *dlogits,
                   const facs_real *logits, const facs_real *target, const facs_real *mask,
                   int64_t n, const facs_loss_options *options)
{
    void (*const losses[FACS_LOSS_COUNT])(
        const facs_context *, facs_real *, facs_real *, const facs_real *, const facs_real *,
        const facs_real *, int64_t, const facs_loss_options *) = {
        [FACS_LOSS_BCE] = kernels->loss_bce,
        [FACS_LOSS_LSEP] = kernels->loss_lsep,
        [FACS_LOSS_PR] = kernels->loss_pr,
        [FACS_LOSS_TVERSKY] = kernels->loss_tversky,
        [FACS_LOSS_ASYMMETRIC] = kernels->loss_asymmetric,
        [FACS_LOSS_ZLPR] = kernels->loss_zlpr,
    };
    losses[kind](context, loss, dlogits, logits, target, mask, n, options);
}

static void forward(const facs_call *call)
{
    facs_loss_run(call->kernels, call->node->u.loss.kind, &call->context, call->y.data,
                  call->state, call->x[0].data, call->x[1].data, call->x[2].data, call->x[0].n,
                  &call->node->u.loss.options);
}

static void backward(const facs_call *call)
{
    facs_tensor gradient = call->dx[0];
    gradient.data = call->state;
    gradient.stride = gradient.c;
    if (call->dx[0].data)
        call->kernels->copy(&call->context, &call->dx[0], &gradient, call->accumulate[0]);
}

const facs_op facs_op_loss = {
    .infer = infer, .demand = demand, .forward = forward, .backward = backward};
