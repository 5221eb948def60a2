#include "core/memory.h"
#include "graph/plan_internal.h"

/* From the graph to the nodes a plan runs: keep what the result needs, fold BatchNorm
 * with stored statistics into the convolution before it, and let a convolution or a
 * BatchNorm do the activation behind it. */

static int is_pointwise(const facs_conv *g)
{
    return g->groups == 1 && g->kh == 1 && g->kw == 1 && g->stride == 1 && g->pad_top == 0 &&
           g->pad_left == 0;
}

/* Marks in `where` what the last node depends on, down to the first; counts readers. */
static void mark(const facs_plan *plan, const facs_graph *graph, int *readers)
{
    for (int i = 0; i < graph->count; i++) plan->where[i] = -1;
    plan->where[plan->options.last] = 0;
    for (int i = plan->options.last; i >= 0; i--) {
        const facs_node *node = &graph->nodes[i];
        if (plan->where[i] < 0 || i == plan->options.first) continue;
        for (int j = 0; j < facs_op_get(node->op)->inputs; j++) {
            plan->where[node->input[j]] = 0;
            readers[node->input[j]]++;
        }
    }
}

static facs_mode mode_of(const facs_plan *plan, int i)
{
    return i < plan->options.boundary ? FACS_MODE_INFER : plan->options.mode;
}

/* The plan node that may take node i in, or NULL: its only reader is i, and nobody wants
 * the value in between. */
static facs_plan_node *neighbour(const facs_plan *plan, const facs_node *node,
                                 const int *readers)
{
    const int x = node->input[0];
    if (x < 0 || readers[x] != 1 || x == plan->options.last) return NULL;
    return &plan->nodes[plan->where[x]];
}

static int try_activation(const facs_plan *plan, const facs_node *node, const int *readers)
{
    facs_plan_node *before = neighbour(plan, node, readers);
    if (!before || !facs_clamp_is_none(before->node.clamp)) return 0;
    /* A convolution that trains needs its raw output behind it. */
    const int takes = before->node.op == FACS_OP_BATCHNORM ||
                      (before->node.op == FACS_OP_CONV && before->mode == FACS_MODE_INFER);
    if (takes) before->node.clamp = node->clamp;
    return takes;
}

static int try_batchnorm(const facs_plan *plan, const facs_node *node, const int *readers)
{
    facs_plan_node *before = neighbour(plan, node, readers);
    if (!before || before->node.op != FACS_OP_CONV || before->mode != FACS_MODE_INFER ||
        !facs_clamp_is_none(before->node.clamp) || before->node.parameter[FACS_SLOT_GAMMA] >= 0)
        return 0;
    for (int slot = FACS_SLOT_GAMMA; slot <= FACS_SLOT_VARIANCE; slot++)
        before->node.parameter[slot] = node->parameter[slot];
    before->node.epsilon = node->epsilon;
    return 1;
}

static void emit(facs_plan *plan, const facs_node *node, int i)
{
    facs_plan_node *p = &plan->nodes[plan->count];
    *p = (facs_plan_node){.node = *node,
                          .mode = mode_of(plan, i),
                          .source = i,
                          .replay_step = -1,
                          .chain = -1,
                          .step = plan->count};
    if (i == plan->options.first) {
        p->node.op = FACS_OP_INPUT;
        for (int slot = 0; slot < FACS_MAX_PARAMETERS; slot++) p->node.parameter[slot] = -1;
    }
    /* Inference takes few images at a time. The frozen layers of training, which take more,
     * give the same bits. */
    if (p->node.op == FACS_OP_CONV) p->node.u.conv.geometry.few = p->mode == FACS_MODE_INFER;
    for (int j = 0; j < facs_op_get(p->node.op)->inputs; j++) {
        p->node.input[j] = plan->where[node->input[j]];
        plan->nodes[p->node.input[j]].consumers++;
    }
    plan->where[i] = plan->count++;
}

/* An average over whole windows of what a 1x1 convolution gives is that convolution of the
 * average, which has fewer pixels: they change places. */
static int try_pool(facs_plan *plan, const facs_node *node, int i, const int *readers)
{
    facs_plan_node *before = neighbour(plan, node, readers);
    const facs_pool *pool = &node->u.pool;
    const int whole = pool->pad_top == 0 && pool->pad_left == 0;

    if (!before || before != &plan->nodes[plan->count - 1] || !whole ||
        before->node.op != FACS_OP_CONV || before->mode != FACS_MODE_INFER ||
        !is_pointwise(&before->node.u.conv.geometry) || !facs_clamp_is_none(before->node.clamp))
        return 0;
    facs_node conv = before->node;
    facs_conv *g = &conv.u.conv.geometry;
    before->node = *node;
    before->node.input[0] = conv.input[0];
    before->node.u.pool.c = before->node.shape.c = g->ci;
    g->h = g->oh = pool->oh, g->w = g->ow = pool->ow;
    conv.shape.h = pool->oh, conv.shape.w = pool->ow;
    conv.input[0] = node->input[0];
    plan->where[node->input[0]] = plan->count - 1; /* for emit */
    emit(plan, &conv, i);
    plan->where[node->input[0]] = -1;
    return 1;
}

static void lower_node(facs_plan *plan, const facs_node *node, int i, const int *readers)
{
    const int fixed = mode_of(plan, i) == FACS_MODE_INFER;
    int fused = 0;
    if (fixed && node->op == FACS_OP_AVGPOOL && try_pool(plan, node, i, readers)) return;
    if (i != plan->options.first && node->op == FACS_OP_ACTIVATION)
        fused = try_activation(plan, node, readers);
    else if (i != plan->options.first && node->op == FACS_OP_BATCHNORM && fixed)
        fused = try_batchnorm(plan, node, readers);
    if (fused)
        plan->where[i] = plan->where[node->input[0]];
    else
        emit(plan, node, i);
}

/* Whether the value of a node lies behind the pooled features. */
static int is_pooled(const facs_graph *graph, int i)
{
    while (facs_op_get(graph->nodes[i].op)->inputs > 0) {
        if (graph->nodes[i].op == FACS_OP_GLOBALPOOL) return 1;
        i = graph->nodes[i].input[0];
    }
    return 0;
}

/* Everything up to the pooled features is narrow: what lies behind is small, and where
 * scores and the loss are made. */
static void mark_narrow(facs_plan *plan, const facs_graph *graph)
{
    for (int i = 0; i < plan->count && plan->options.narrow; i++) {
        facs_plan_node *p = &plan->nodes[i];
        if (p->node.op == FACS_OP_INPUT) /* others are targets and masks */
            p->narrow = i == 0 && !is_pooled(graph, p->source);
        else
            p->narrow =
                p->node.op != FACS_OP_GLOBALPOOL && plan->nodes[p->node.input[0]].narrow;
    }
}

static facs_status check_narrow(const facs_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        const facs_node *node = &plan->nodes[i].node;
        const facs_conv *g = &node->u.conv.geometry;
        const int grouped = node->op == FACS_OP_CONV && facs_conv_is_grouped(g);
        if (plan->nodes[i].narrow &&
            (grouped || node->op == FACS_OP_DROPOUT || node->op == FACS_OP_LOSS))
            return facs_fail(FACS_E_UNSUPPORTED, "%s: %s does not compute in bfloat16",
                             node->name,
                             grouped ? "a grouped convolution" : facs_op_get(node->op)->name);
    }
    return FACS_OK;
}

const facs_kernels *facs_plan_kernels(const facs_plan *plan, int i)
{
    return plan->nodes[i].narrow ? plan->options.narrow : plan->kernels;
}

const facs_kernels *facs_plan_op_kernels(const facs_plan *plan, int i)
{
    const facs_node *node = &plan->nodes[i].node;
    return facs_plan_kernels(plan, node->op == FACS_OP_INPUT ? i : node->input[0]);
}

facs_status facs_plan_lower(facs_plan *plan, const facs_graph *graph)
{
    const facs_plan_options *o = &plan->options;
    int *readers;

    if (o->first < 0 || o->last >= graph->count || o->first > o->last)
        return facs_fail(FACS_E_ARG, "plan: nodes %d to %d of %d", o->first, o->last,
                         graph->count);
    FACS_TRY(facs_allocate(&readers, (size_t)graph->count, sizeof *readers, "plan"));
    mark(plan, graph, readers);
    for (int i = 0; i <= o->last; i++)
        if (plan->where[i] >= 0) lower_node(plan, &graph->nodes[i], i, readers);
    facs_free(readers);
    if (plan->where[o->first] != 0)
        return facs_fail(FACS_E_ARG, "plan: %s does not depend on %s alone",
                         graph->nodes[o->last].name, graph->nodes[o->first].name);
    mark_narrow(plan, graph);
    FACS_TRY(check_narrow(plan));
    facs_plan_fuse(plan);
    return FACS_OK;
}
