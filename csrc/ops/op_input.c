#include "ops/op.h"

/* A value that the caller of the plan writes. */

static facs_status infer(facs_node *node, const facs_shape *x)
{
    (void)x;
    const facs_shape s = node->shape;
    if (s.h < 1 || s.w < 1 || s.c < 1)
        return facs_fail(FACS_E_SHAPE, "input %s: %d x %d x %d", node->name, s.h, s.w, s.c);
    return FACS_OK;
}

static void nothing(const facs_call *call)
{
    (void)call;
}

const facs_op facs_op_input = {.infer = infer, .forward = nothing, .backward = nothing};
