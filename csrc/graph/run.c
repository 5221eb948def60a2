#include "graph/run.h"

char *facs_run_buffers(const facs_run *r)
{
    const size_t before = (size_t)(r->plan->options.lanes - 1 - r->lane);
    return r->plan->arena + r->plan->lanes_offset + before * r->plan->lane_bytes;
}

static char *lane_scratch(const facs_run *r)
{
    return facs_run_buffers(r) + r->plan->buffer_bytes;
}

facs_tensor facs_run_tensor(const facs_run *r, const facs_plan_node *p, facs_view view)
{
    const facs_shape s = p->node.shape;
    if (view.buffer < 0) return (facs_tensor){0};
    const size_t number = p->narrow ? r->plan->options.narrow->number : sizeof(facs_real);
    char *base = facs_run_buffers(r) + r->plan->buffers[view.buffer].offset;
    return (facs_tensor){.data = (facs_real *)(void *)(base + (size_t)view.channel * number),
                         .n = r->images,
                         .h = s.h,
                         .w = s.w,
                         .c = s.c,
                         .stride = view.stride};
}

static facs_statistics statistics_of(const facs_plan *plan, facs_view view)
{
    if (view.buffer < 0 || !plan->buffers[view.buffer].counted) return (facs_statistics){0};
    const facs_buffer *b = &plan->buffers[view.buffer];
    facs_real *taken = (facs_real *)(plan->arena + b->statistics) + view.channel;
    facs_real *due = (facs_real *)(plan->arena + b->corrections) + view.channel;
    return (facs_statistics){.mean = taken,
                             .variance = taken + b->stride,
                             .slope = b->corrected ? due : NULL,
                             .offset = b->corrected ? due + b->stride : NULL};
}

facs_context facs_run_context(const facs_run *r)
{
    const void *draw = r->plan->device->separate ? r->plan->arena : NULL;
    return (facs_context){.threads = r->threads, .scratch = lane_scratch(r), .draw = draw};
}

/* The reader of BatchNorm i that goes backward after all others, where its kernels finish norms
 * with what they add to the sums; else -1. */
static int finisher_of(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    if (!p->applied || !p->needs_gradient) return -1;
    for (int k = i + 1; k < plan->count; k++) {
        const facs_node *reader = &plan->nodes[k].node;
        int reads = 0;
        for (int j = 0; j < facs_op_get(reader->op)->inputs; j++)
            reads += reader->input[j] == i;
        if (reads)
            return reads == 1 && facs_plan_op_kernels(plan, k)->finishes_norms() ? k : -1;
    }
    return -1;
}

/* What `reader` of a BatchNorm that it applies does to its input. */
static facs_norm norm_of(const facs_run *r, int i, int reader)
{
    const facs_plan_node *p = &r->plan->nodes[i];
    if (!p->applied) return (facs_norm){0};
    const facs_call call = facs_run_call(r, i);
    facs_norm norm = facs_op_get(p->node.op)->op->norm(&call);
    if (!p->needs_gradient) norm.sum = norm.weighted = NULL;
    if (finisher_of(r->plan, i) != reader) norm.end = (facs_norm_end){0};
    return norm;
}

int facs_run_beginner(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    const facs_conv *g = &p->node.u.conv.geometry;

    if (p->node.op != FACS_OP_CONV || !facs_plan_is_counted(plan, i) ||
        !facs_plan_op_counts(plan, i) || !facs_plan_op_kernels(plan, i)->finishes_norms() ||
        facs_conv_is_grouped(g))
        return -1;
    for (int k = i + 1; k < plan->count; k++)
        if (plan->nodes[k].node.op == FACS_OP_BATCHNORM && plan->nodes[k].node.input[0] == i)
            return plan->nodes[k].mode == FACS_MODE_TRAIN ? k : -1;
    return -1;
}

facs_call facs_run_call(const facs_run *r, int i)
{
    const facs_plan *plan = r->plan;
    const facs_plan_node *p = &plan->nodes[i];
    facs_call call = {.kernels = facs_plan_op_kernels(plan, i),
                      .context = facs_run_context(r),
                      .node = &p->node,
                      .mode = p->mode,
                      .y = p->applied ? (facs_tensor){0} : facs_run_tensor(r, p, p->value),
                      .state = plan->arena + p->state,
                      .seed = plan->seed,
                      .step = plan->step};
    for (int j = 0; j < facs_op_get(p->node.op)->inputs; j++) {
        const facs_plan_node *x = &plan->nodes[p->node.input[j]];
        call.x[j] = facs_run_tensor(r, x, x->value);
        call.norm[j] = norm_of(r, p->node.input[j], i);
        if (j == 0) call.x_statistics = statistics_of(plan, x->value);
    }
    if (facs_plan_is_counted(plan, i)) call.statistics = statistics_of(plan, p->value);
    if (!facs_plan_is_corrected(plan, i)) call.statistics.slope = NULL;
    call.finished = finisher_of(plan, i) >= 0;
    call.begun =
        p->node.op == FACS_OP_BATCHNORM && facs_run_beginner(plan, p->node.input[0]) == i;
    for (int slot = 0; slot < FACS_MAX_PARAMETERS; slot++) {
        if (p->node.parameter[slot] < 0) continue;
        const facs_parameter *parameter = &plan->parameters[p->node.parameter[slot]];
        call.parameter[slot] = plan->parameter_slab + parameter->offset;
        if (p->mode != FACS_MODE_INFER && facs_parameter_is_trained(parameter) &&
            plan->gradient_slab)
            call.gradient[slot] = plan->gradient_slab + parameter->offset;
    }
    return call;
}

facs_call facs_run_backward_call(const facs_run *r, int i)
{
    const facs_plan *plan = r->plan;
    const facs_plan_node *p = &plan->nodes[i];
    facs_call call = facs_run_call(r, i);

    if (p->replayed.buffer >= 0 && !p->applied) call.y = facs_run_tensor(r, p, p->replayed);
    for (int j = 0; j < facs_op_get(p->node.op)->inputs; j++) {
        const facs_plan_node *x = &plan->nodes[p->node.input[j]];
        if (x->replayed.buffer >= 0) call.x[j] = facs_run_tensor(r, x, x->replayed);
    }
    return call;
}
