#include "ops/op.h"

static facs_status infer(facs_node *node, const facs_shape *x)
{
    node->shape = *x;
    return FACS_OK;
}

static int drops(const facs_call *call)
{
    return call->mode == FACS_MODE_TRAIN || call->mode == FACS_MODE_TRAIN_STORED;
}

static void pass(const facs_call *call, const facs_tensor *to, const facs_tensor *from,
                 int accumulate)
{
    if (drops(call))
        call->kernels->dropout(&call->context, to, from, call->node->u.dropout.rate, call->seed,
                               call->step, accumulate);
    else
        call->kernels->copy(&call->context, to, from, accumulate);
}

static void forward(const facs_call *call)
{
    pass(call, &call->y, &call->x[0], 0);
}

static void backward(const facs_call *call)
{
    if (call->dx[0].data) pass(call, &call->dx[0], &call->dy, call->accumulate[0]);
}

const facs_op facs_op_dropout = {.infer = infer, .forward = forward, .backward = backward};
