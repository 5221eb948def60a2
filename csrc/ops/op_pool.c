#include "ops/op.h"

static facs_status infer_pool(facs_node *node, const facs_shape *x)
{
    facs_pool *g = &node->u.pool;
    g->h = x->h, g->w = x->w, g->c = x->c;
    g->oh = (g->h + 2 * g->pad_top - g->kh) / g->stride + 1;
    g->ow = (g->w + 2 * g->pad_left - g->kw) / g->stride + 1;
    if (g->h + 2 * g->pad_top < g->kh || g->w + 2 * g->pad_left < g->kw)
        return facs_fail(FACS_E_SHAPE,
                         "pool %s: a %d x %d map is too small for its %d x %d window",
                         node->name, g->h, g->w, g->kh, g->kw);
    node->shape = (facs_shape){g->oh, g->ow, g->c};
    return FACS_OK;
}

static void forward_max(const facs_call *call)
{
    call->kernels->maxpool_fwd(&call->context, &call->node->u.pool, &call->y, &call->x[0]);
}

static void backward_max(const facs_call *call)
{
    if (call->dx[0].data)
        call->kernels->maxpool_bwd(&call->context, &call->node->u.pool, &call->dx[0], &call->dy,
                                   &call->x[0], &call->y, call->accumulate[0]);
}

const facs_op facs_op_maxpool = {
    .infer = infer_pool, .forward = forward_max, .backward = backward_max};

/* Its gradient does not go through a norm. */
static int average_takes_norm(const facs_node *node, facs_mode mode)
{
    (void)node;
    return mode == FACS_MODE_INFER;
}

static void forward_average(const facs_call *call)
{
    call->kernels->avgpool_fwd(&call->context, &call->node->u.pool, &call->y, &call->x[0],
                               facs_call_norm(call, 0));
}

static void backward_average(const facs_call *call)
{
    if (call->dx[0].data)
        call->kernels->avgpool_bwd(&call->context, &call->node->u.pool, &call->dx[0], &call->dy,
                                   call->accumulate[0]);
}

const facs_op facs_op_avgpool = {.infer = infer_pool,
                                 .takes_norm = average_takes_norm,
                                 .forward = forward_average,
                                 .backward = backward_average};

static facs_status infer_global(facs_node *node, const facs_shape *x)
{
    node->shape = (facs_shape){1, 1, x->c};
    return FACS_OK;
}

static void forward_global(const facs_call *call)
{
    call->kernels->globalpool_fwd(&call->context, &call->y, &call->x[0]);
}

static void backward_global(const facs_call *call)
{
    if (call->dx[0].data)
        call->kernels->globalpool_bwd(&call->context, &call->dx[0], &call->dy,
                                      call->accumulate[0]);
}

const facs_op facs_op_globalpool = {
    .infer = infer_global, .forward = forward_global, .backward = backward_global};
