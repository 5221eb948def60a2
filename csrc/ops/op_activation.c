#include "ops/op.h"

/* ReLU, ReLU6 and every other clamp that no neighbour took in. */

static facs_status infer(facs_node *node, const facs_shape *x)
{
    node->shape = *x;
    return FACS_OK;
}

static void forward(const facs_call *call)
{
    call->kernels->clamp_fwd(&call->context, &call->y, &call->x[0], call->node->clamp);
}

static void backward(const facs_call *call)
{
    if (call->dx[0].data)
        call->kernels->clamp_bwd(&call->context, &call->dx[0], &call->dy, &call->y,
                                 call->node->clamp, call->accumulate[0]);
}

const facs_op facs_op_activation = {.infer = infer, .forward = forward, .backward = backward};
