#include "core/memory.h"
#include "graph/plan_internal.h"

#include <math.h>

/* Scratch for the statistics of node i, where its op does not take them itself. */
static size_t statistics_scratch(const facs_plan *plan, int i, int threads)
{
    const facs_plan_node *p = &plan->nodes[i];
    const facs_shape s = p->node.shape;
    if (!facs_plan_is_counted(plan, i) || facs_plan_op_counts(plan, i)) return 0;
    return facs_plan_kernels(plan, i)->reduce_scratch(s.c, plan->options.batch * s.h * s.w,
                                                      threads);
}

static size_t larger(size_t a, size_t b)
{
    return a > b ? a : b;
}

/* Two vectors of a buffer's channels. */
static size_t take_vectors(const facs_buffer *b, size_t *end)
{
    const size_t offset = *end;
    *end += facs_align(2 * (size_t)b->stride * sizeof(facs_real));
    return offset;
}

static void place_statistics(facs_plan *plan, size_t *end)
{
    facs_buffer *buffers = plan->buffers;
    for (int i = 0; i < plan->buffer_count; i++)
        if (buffers[i].counted) buffers[i].statistics = take_vectors(&buffers[i], end);
    plan->corrections = *end;
    for (int i = 0; i < plan->buffer_count; i++)
        if (buffers[i].corrected) buffers[i].corrections = take_vectors(&buffers[i], end);
    plan->corrections_end = *end;
}

/* States one behind the other, then statistics; and the largest scratch of a node. */
static facs_demand demand_of(facs_plan *plan, int threads)
{
    facs_demand all = {.state = plan->device->separate ? FACS_PLAN_DRAW_BYTES : 0};

    for (int i = 0; i < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        const facs_op *op = facs_op_get(p->node.op)->op;
        all.scratch = larger(all.scratch, statistics_scratch(plan, i, threads));
        if (p->chain >= 0 && !facs_plan_is_inner(plan, i))
            all.scratch = larger(all.scratch, facs_plan_chain_scratch(plan, i, threads));
        if (!op->demand) continue;
        const facs_demand wanted = op->demand(facs_plan_op_kernels(plan, i), &p->node, p->mode,
                                              plan->options.batch, threads);
        p->state = all.state;
        all.state += facs_align(wanted.state);
        if (!facs_plan_is_inner(plan, i) && p->chain < 0)
            all.scratch = larger(all.scratch, wanted.scratch);
    }
    place_statistics(plan, &all.state);
    return all;
}

static size_t dense_bytes(const facs_plan *plan, int i)
{
    const size_t numbers = (size_t)facs_node_numbers(&plan->nodes[i].node);
    return facs_align((size_t)plan->options.batch * numbers * sizeof(facs_real));
}

/* Places what goes in and out of a separate device at `offset`; returns the bytes. */
static size_t gates(facs_plan *plan, size_t offset)
{
    if (!plan->device->separate) return 0;
    const size_t in = dense_bytes(plan, 0), out = dense_bytes(plan, plan->count - 1);
    plan->inlet = offset;
    plan->outlet = offset + in;
    return in + out;
}

/* Places states, buffers and scratch in one arena: [states][last lane] ... [lane 0] */
static void lay_out(facs_plan *plan)
{
    const facs_plan_options *o = &plan->options;
    const facs_demand alone = demand_of(plan, 1), together = demand_of(plan, o->threads);

    plan->buffer_bytes = facs_align(facs_plan_place(plan->buffers, plan->buffer_count));
    plan->lanes_offset = together.state + gates(plan, together.state);
    plan->lane_bytes = plan->buffer_bytes + facs_align(alone.scratch);
    plan->arena_bytes = plan->lanes_offset + (size_t)(o->lanes - 1) * plan->lane_bytes +
                        plan->buffer_bytes + facs_align(together.scratch);
}

/* Nothing below is large enough to wrap around: no more than three buffers to a node, and
 * states and scratch of the order of a buffer. */
static facs_status check_size(const facs_plan *plan)
{
    double most = 0, pixels = 0;

    for (int i = 0; i < plan->count; i++) {
        const facs_shape s = plan->nodes[i].node.shape;
        most = fmax(most, (double)facs_node_numbers(&plan->nodes[i].node));
        pixels = fmax(pixels, (double)s.h * s.w);
    }
    /* Kernels of a separate device count pixels in int. */
    if (plan->device->separate && (double)plan->options.batch * pixels > INT32_MAX)
        return facs_fail(FACS_E_OOM, "plan: %lld images have more than 2^31 pixels",
                         (long long)plan->options.batch);
    const double bytes = (double)plan->options.batch * plan->options.lanes * plan->count * 8 *
                         sizeof(facs_real) * most;
    if (bytes < (double)(INT64_MAX / 2)) return FACS_OK;
    return facs_fail(FACS_E_OOM, "plan: %lld images are more than memory can be",
                     (long long)plan->options.batch);
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
    FACS_TRY(check_size(plan));
    FACS_TRY(facs_plan_trace(plan, graph));
    lay_out(plan);
    return FACS_OK;
}

static const facs_device *device_of(const facs_plan_options *options)
{
    return options->device ? options->device : &facs_device_cpu;
}

static void forget_runs(facs_plan *plan)
{
    for (int i = 0; i < FACS_PLAN_RUNS; i++) {
        plan->device->forget(plan->recordings[i]);
        plan->recordings[i] = NULL;
    }
}

facs_status facs_plan_create(facs_plan **out, const facs_graph *graph,
                             const facs_kernels *kernels, const facs_plan_options *options)
{
    facs_plan *plan;

    *out = NULL;
    FACS_TRY(facs_allocate(&plan, 1, sizeof *plan, "plan"));
    plan->options = *options;
    plan->kernels = kernels;
    plan->device = device_of(options);
    facs_status status = make(plan, graph);
    if (status == FACS_OK)
        status = plan->device->allocate(&plan->arena, plan->arena_bytes, "plan's arena");
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
    plan->device = device_of(options);
    const facs_status status = make(plan, graph);
    *bytes = plan->arena_bytes;
    facs_plan_free(plan);
    return status;
}

void facs_plan_free(facs_plan *plan)
{
    if (!plan) return;
    forget_runs(plan);
    plan->device->release(plan->arena);
    facs_free(plan->buffers);
    facs_free(plan->where);
    facs_free(plan->nodes);
    facs_free(plan);
}

void facs_plan_bind(facs_plan *plan, facs_real *parameters, facs_real *gradients)
{
    forget_runs(plan);
    plan->parameter_slab = parameters;
    plan->gradient_slab = gradients;
}

size_t facs_plan_bytes(const facs_plan *plan)
{
    return plan->arena_bytes;
}

int facs_plan_count(const facs_plan *plan)
{
    return plan->count;
}

const facs_node *facs_plan_node_at(const facs_plan *plan, int i)
{
    return &plan->nodes[i].node;
}

int facs_plan_step_of(const facs_plan *plan, int i)
{
    return plan->nodes[i].step;
}

void facs_plan_profile(facs_plan *plan, double *seconds)
{
    plan->profile = seconds;
}

const facs_plan_options *facs_plan_get_options(const facs_plan *plan)
{
    return &plan->options;
}

int64_t facs_plan_images(const facs_plan *plan)
{
    return plan->images;
}
