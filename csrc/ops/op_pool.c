#include "core/memory.h"
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

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* Of `images`, how many a BatchNorm in front of a maximum is applied to at a time, forward and
 * again backward, where the maxima are found again too: neither need be kept. */
static int64_t part_images(const facs_kernels *kernels, const facs_node *node, int64_t images)
{
    const facs_pool *g = &node->u.pool;
    const int64_t image = (int64_t)g->h * g->w * g->c, part = kernels->maxpool_part();
    return image < part ? smaller(images, part / image) : 1;
}

/* Scratch of a part, behind that of the kernels: what the window slides over, its gradient and
 * the maxima, dense. Returns the bytes. */
typedef struct part {
    facs_tensor x, dx, y;
} part;

static size_t place_part(part *p, const facs_kernels *kernels, const facs_node *node,
                         int64_t images, char *scratch)
{
    const facs_pool *g = &node->u.pool;
    const facs_tensor whole = {.n = images, .h = g->h, .w = g->w, .c = g->c, .stride = g->c};
    const facs_tensor pooled = {.n = images, .h = g->oh, .w = g->ow, .c = g->c, .stride = g->c};
    facs_tensor *const tensors[] = {&p->x, &p->dx, &p->y};
    size_t bytes = 0;

    *p = (part){whole, whole, pooled};
    for (int i = 0; i < 3; i++) {
        facs_tensor *t = tensors[i];
        if (scratch) t->data = (facs_real *)(void *)(scratch + bytes);
        bytes += facs_align((size_t)(facs_tensor_pixels(t) * t->c) * kernels->number);
    }
    return bytes;
}

/* Scratch of the kernels that take sums: of y's moments, or of a part's gradient. */
static size_t sums_scratch(const facs_kernels *kernels, const facs_node *node, int64_t batch,
                           int threads)
{
    const facs_pool *g = &node->u.pool;
    const size_t moments = kernels->reduce_scratch(g->c, batch * g->oh * g->ow, threads);
    const int64_t images = part_images(kernels, node, batch);
    const size_t part = kernels->reduce_scratch(g->c, images * g->h * g->w, threads);
    return facs_align(moments > part ? moments : part);
}

static facs_demand demand_max(const facs_kernels *kernels, const facs_node *node,
                              facs_mode mode, int64_t batch, int threads)
{
    part p;
    if (mode == FACS_MODE_INFER) return (facs_demand){0};
    const int64_t images = part_images(kernels, node, batch);
    return (facs_demand){.scratch = sums_scratch(kernels, node, batch, threads) +
                                    place_part(&p, kernels, node, images, NULL)};
}

/* Images first to first + count of a tensor. */
static facs_tensor images_of(const facs_call *call, const facs_tensor *t, int64_t first,
                             int64_t count)
{
    const size_t skipped = (size_t)(first * t->h * t->w * t->stride) * call->kernels->number;
    facs_tensor some = *t;
    some.n = count;
    if (t->data) some.data = (facs_real *)(void *)((char *)t->data + skipped);
    return some;
}

static part part_of(const facs_call *call, int64_t images)
{
    part p;
    const size_t sums =
        sums_scratch(call->kernels, call->node, call->x[0].n, call->context.threads);
    place_part(&p, call->kernels, call->node, images, (char *)call->context.scratch + sums);
    return p;
}

static int max_takes_norm(const facs_node *node, facs_mode mode)
{
    (void)node;
    return mode != FACS_MODE_INFER;
}

/* What the window slides over: images of x, or of what the norm makes of them. */
static void read_part(const facs_call *call, part *p, const facs_tensor *x)
{
    const facs_norm *norm = facs_call_norm(call, 0);
    if (norm)
        call->kernels->affine_fwd(&call->context, &p->x, x, norm->scale, norm->shift,
                                  norm->clamp);
    else
        p->x = *x;
}

static void forward_max(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    const int64_t n = call->x[0].n,
                  step = call->norm[0].scale ? part_images(call->kernels, call->node, n) : n;

    for (int64_t first = 0; first < n; first += step) {
        const int64_t count = smaller(step, n - first);
        const facs_tensor x = images_of(call, &call->x[0], first, count);
        const facs_tensor y = images_of(call, &call->y, first, count);
        part p = {0};
        if (call->norm[0].scale) p = part_of(call, count);
        read_part(call, &p, &x);
        k->maxpool_fwd(&call->context, &call->node->u.pool, &y, &p.x);
    }
    if (call->statistics.mean)
        k->batchnorm_stats(&call->context, call->statistics.mean, call->statistics.variance,
                           &call->y);
}

static void backward_part(const facs_call *call, int64_t first, int64_t count)
{
    const facs_kernels *k = call->kernels;
    const facs_pool *g = &call->node->u.pool;
    facs_norm norm = call->norm[0];
    const facs_tensor x = images_of(call, &call->x[0], first, count);
    const facs_tensor dx = images_of(call, &call->dx[0], first, count);
    const facs_tensor dy = images_of(call, &call->dy, first, count);
    part p = part_of(call, count);
    const facs_correction due = {&p.y, call->statistics.slope, call->statistics.offset};

    read_part(call, &p, &x);
    k->maxpool_fwd(&call->context, g, &p.y, &p.x);
    if (due.slope) k->correct(&call->context, &dy, &due);
    if (!norm.scale) {
        k->maxpool_bwd(&call->context, g, &dx, &dy, &p.x, &p.y, call->accumulate[0]);
        return;
    }
    k->maxpool_bwd(&call->context, g, &p.dx, &dy, &p.x, &p.y, 0);
    if (first + count < call->x[0].n) norm.end = (facs_norm_end){0};
    k->norm_bwd(&call->context, dx.data ? &dx : NULL, &x, &norm, &p.dx, call->accumulate[0]);
}

static void backward_max(const facs_call *call)
{
    const int64_t n = call->x[0].n, step = part_images(call->kernels, call->node, n);
    if (!call->dx[0].data && !call->norm[0].sum) return;
    for (int64_t first = 0; first < n; first += step)
        backward_part(call, first, smaller(step, n - first));
}

const facs_op facs_op_maxpool = {.infer = infer_pool,
                                 .demand = demand_max,
                                 .takes_norm = max_takes_norm,
                                 .forward = forward_max,
                                 .backward = backward_max};

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
