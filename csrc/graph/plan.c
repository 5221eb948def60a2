#include "core/memory.h"
#include "graph/plan_internal.h"

/* Places states, scratch and buffers in one arena:
 * [states][lane 0: scratch, buffers][lane 1: scratch, buffers] ... */
static void lay_out(facs_plan *plan)
{
    const facs_plan_options *o = &plan->options;
    size_t states = 0, scratch = 0;

    for (int i = 0; i < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        const facs_op *op = facs_op_get(p->node.op)->op;
        if (!op->demand) continue;
        const facs_demand wanted =
            op->demand(plan->kernels, &p->node, p->mode, o->batch, o->threads);
        p->state = states;
        states += facs_align(wanted.state);
        scratch = wanted.scratch > scratch ? wanted.scratch : scratch;
    }
    const size_t buffers = facs_plan_place(plan->buffers, plan->buffer_count);
    plan->scratch_offset = states;
    plan->scratch_bytes = facs_align(scratch);
    plan->lane_offset = states + plan->scratch_bytes;
    plan->lane_bytes = plan->scratch_bytes + facs_align(buffers);
    plan->arena_bytes = states + (size_t)o->lanes * plan->lane_bytes;
}

static facs_status check_options(const facs_plan_options *o)
{
    if (o->batch < 1)
        return facs_fail(FACS_E_ARG, "plan: batch is %lld, want at least 1",
                         (long long)o->batch);
    if (o->threads < 1)
        return facs_fail(FACS_E_ARG, "plan: threads is %d, want at least 1", o->threads);
    if (o->lanes < 1 || (o->lanes > 1 && o->mode != FACS_MODE_INFER))
        return facs_fail(FACS_E_ARG, "plan: %d lanes", o->lanes);
    return FACS_OK;
}

/* Everything but the arena. */
static facs_status make(facs_plan *plan, const facs_graph *graph)
{
    FACS_TRY(check_options(&plan->options));
    const size_t count = (size_t)graph->count;
    FACS_TRY(facs_allocate(&plan->nodes, count, sizeof *plan->nodes, "plan"));
    FACS_TRY(facs_allocate(&plan->where, count, sizeof *plan->where, "plan"));
    plan->parameters = graph->parameters;
    plan->graph_count = graph->count;
    FACS_TRY(facs_plan_lower(plan, graph));
    FACS_TRY(facs_plan_trace(plan));
    lay_out(plan);
    return FACS_OK;
}

facs_status facs_plan_create(facs_plan **out, const facs_graph *graph,
                             const facs_kernels *kernels, const facs_plan_options *options)
{
    facs_plan *plan;

    *out = NULL;
    FACS_TRY(facs_allocate(&plan, 1, sizeof *plan, "plan"));
    plan->options = *options;
    plan->kernels = kernels;
    facs_status status = make(plan, graph);
    if (status == FACS_OK)
        status = facs_allocate_slab(&plan->arena, plan->arena_bytes, "plan's arena");
    if (status != FACS_OK) {
        facs_plan_free(plan);
        return status;
    }
    *out = plan;
    return FACS_OK;
}

facs_status facs_plan_measure(size_t *bytes, const facs_graph *graph,
                              const facs_kernels *kernels, const facs_plan_options *options)
{
    facs_plan *plan;
    FACS_TRY(facs_allocate(&plan, 1, sizeof *plan, "plan"));
    plan->options = *options;
    plan->kernels = kernels;
    const facs_status status = make(plan, graph);
    *bytes = plan->arena_bytes;
    facs_plan_free(plan);
    return status;
}

void facs_plan_free(facs_plan *plan)
{
    if (!plan) return;
    facs_free(plan->arena);
    facs_free(plan->buffers);
    facs_free(plan->where);
    facs_free(plan->nodes);
    facs_free(plan);
}

void facs_plan_bind(facs_plan *plan, facs_real *parameters, facs_real *gradients)
{
    plan->parameter_slab = parameters;
    plan->gradient_slab = gradients;
}

size_t facs_plan_bytes(const facs_plan *plan)
{
    return plan->arena_bytes;
}

const facs_plan_options *facs_plan_get_options(const facs_plan *plan)
{
    return &plan->options;
}

int64_t facs_plan_images(const facs_plan *plan)
{
    return plan->images;
}
