#include "ops/op.h"

/* Where two values meet. Concat is a view: the plan lets both inputs write their slice of
 * its buffer, so neither direction has anything to do. */

static facs_status infer_add(facs_node *node, const facs_shape *x)
{
    if (x[0].h != x[1].h || x[0].w != x[1].w || x[0].c != x[1].c)
        return facs_fail(FACS_E_SHAPE, "add %s: %d x %d x %d and %d x %d x %d", node->name,
                         x[0].h, x[0].w, x[0].c, x[1].h, x[1].w, x[1].c);
    node->shape = x[0];
    return FACS_OK;
}

static void forward_add(const facs_call *call)
{
    call->kernels->add_fwd(&call->context, &call->y, &call->x[0], &call->x[1]);
}

static void backward_add(const facs_call *call)
{
    for (int i = 0; i < 2; i++)
        if (call->dx[i].data)
            call->kernels->copy(&call->context, &call->dx[i], &call->dy, call->accumulate[i]);
}

const facs_op facs_op_add = {
    .infer = infer_add, .forward = forward_add, .backward = backward_add};

static facs_status infer_concat(facs_node *node, const facs_shape *x)
{
    if (x[0].h != x[1].h || x[0].w != x[1].w)
        return facs_fail(FACS_E_SHAPE, "concat %s: maps of %d x %d and %d x %d", node->name,
                         x[0].h, x[0].w, x[1].h, x[1].w);
    node->shape = (facs_shape){x[0].h, x[0].w, x[0].c + x[1].c};
    return FACS_OK;
}

static void nothing(const facs_call *call)
{
    (void)call;
}

const facs_op facs_op_concat = {.infer = infer_concat, .forward = nothing, .backward = nothing};
