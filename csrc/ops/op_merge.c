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

static int takes_norm(const facs_node *node, facs_mode mode)
{
    (void)node, (void)mode;
    return 1;
}

static facs_demand demand_add(const facs_kernels *kernels, const facs_node *node,
                              facs_mode mode, int64_t batch, int threads)
{
    const facs_shape s = node->shape;
    if (mode == FACS_MODE_INFER) return (facs_demand){0};
    return (facs_demand){.scratch = kernels->reduce_scratch(s.c, batch * s.h * s.w, threads)};
}

static void forward_add(const facs_call *call)
{
    call->kernels->add_fwd(&call->context, &call->y, &call->x[0], facs_call_norm(call, 0),
                           &call->x[1], facs_call_norm(call, 1));
}

static void backward_add(const facs_call *call)
{
    for (int i = 0; i < 2; i++) {
        const facs_norm *norm = facs_call_norm(call, i);
        const facs_tensor *dx = call->dx[i].data ? &call->dx[i] : NULL;
        if (norm && norm->sum)
            call->kernels->norm_bwd(&call->context, dx, &call->x[i], norm, &call->dy,
                                    call->accumulate[i]);
        else if (dx)
            call->kernels->copy(&call->context, dx, &call->dy, call->accumulate[i]);
    }
}

const facs_op facs_op_add = {.infer = infer_add,
                             .demand = demand_add,
                             .takes_norm = takes_norm,
                             .forward = forward_add,
                             .backward = backward_add};

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
