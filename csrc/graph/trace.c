#include "core/memory.h"
#include "graph/plan_internal.h"

#include <string.h>

/* Which gradients are wanted, where every value and gradient lives, and from when to
 * when. */

/* Of all numbers that a network's convolutions write, the part that makes a result one of the
 * largest: two depthwise ones of each MobileNet. Together they are an eighth of the memory of
 * fine-tuning it, and 1.5 to 2% of the time of a float32 step (Sapphire Rapids, batch 64). */
enum { LARGEST_PART = 20 };

static const facs_op_row *row_of(const facs_plan_node *p)
{
    return facs_op_get(p->node.op);
}

static int has_trained_parameter(const facs_plan *plan, const facs_plan_node *p)
{
    for (int slot = 0; slot < FACS_MAX_PARAMETERS; slot++)
        if (p->node.parameter[slot] >= 0 &&
            facs_parameter_is_trained(&plan->parameters[p->node.parameter[slot]]))
            return 1;
    return 0;
}

static void find_gradients(facs_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        p->needs_gradient = p->mode != FACS_MODE_INFER && has_trained_parameter(plan, p);
        for (int j = 0; j < row_of(p)->inputs; j++)
            p->needs_gradient |= plan->nodes[p->node.input[j]].needs_gradient;
    }
}

/* Whether every reader of node i takes a norm. */
static int readers_take_norm(const facs_plan *plan, int i)
{
    for (int k = i + 1; k < plan->count; k++) {
        const facs_plan_node *p = &plan->nodes[k];
        const facs_op *op = row_of(p)->op;
        for (int j = 0; j < row_of(p)->inputs; j++)
            if (p->node.input[j] == i &&
                (!op->takes_norm || !op->takes_norm(&p->node, p->mode)))
                return 0;
    }
    return 1;
}

static void find_applied(facs_plan *plan)
{
    for (int i = 0; i + 1 < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        const int kept = plan->options.keep && p->needs_gradient;
        p->applied = row_of(p)->op->norm && p->consumers && !kept && readers_take_norm(plan, i);
    }
}

static int is_input(const facs_plan_node *p)
{
    return p->node.op == FACS_OP_INPUT;
}

/* Has a buffer of its own, rather than a slice of a concat's. */
static int is_whole(const facs_plan_node *p)
{
    return p->value.stride == p->node.shape.c;
}

/* Whether all that reads node i, itself or through a BatchNorm that it applies, is of the block
 * (-1: of any) and leaves it as it is. */
static int is_read_inside(const facs_plan *plan, int i, int block)
{
    for (int k = i + 1; k < plan->count; k++) {
        const facs_plan_node *p = &plan->nodes[k];
        for (int j = 0; j < row_of(p)->inputs; j++) {
            if (p->node.input[j] != i) continue;
            if (block >= 0 && p->node.block != block) return 0;
            if (p->node.op == FACS_OP_ACTIVATION) return 0; /* writes over what it reads */
            if (p->applied && !is_read_inside(plan, k, block)) return 0;
        }
    }
    return 1;
}

/* What all convolutions of a network write, of an image, whatever of it a plan runs. */
static int64_t written_numbers(const facs_graph *graph)
{
    int64_t sum = 0;
    for (int i = 0; i < graph->count; i++)
        if (graph->nodes[i].op == FACS_OP_CONV) sum += facs_node_numbers(&graph->nodes[i]);
    return sum;
}

/* The output of a depthwise convolution of a first block is large, and cheap to compute. A
 * separate device has memory enough for it. */
static int is_light(const facs_plan *plan, const facs_plan_node *p, int64_t written)
{
    return plan->options.recompute != FACS_RECOMPUTE_NORMS && !plan->device->separate &&
           facs_conv_is_depthwise(&p->node.u.conv.geometry) &&
           LARGEST_PART * facs_node_numbers(&p->node) >= written;
}

/* A BatchNorm's output is cheap to compute again. A convolution's is where memory is worth
 * more than time, and then from no further than what enters its block, or the images. */
static int is_dropped(const facs_plan *plan, int i, int64_t written)
{
    const facs_plan_node *p = &plan->nodes[i];
    if (plan->options.keep || p->applied || !row_of(p)->op->replay || !p->needs_gradient ||
        p->mode == FACS_MODE_INFER || i + 1 == plan->count || !is_whole(p))
        return 0;
    if (p->node.op != FACS_OP_CONV) return 1;
    return (plan->options.recompute == FACS_RECOMPUTE_BLOCKS || is_light(plan, p, written)) &&
           is_read_inside(plan, i,
                          is_input(&plan->nodes[p->node.input[0]]) ? -1 : p->node.block);
}

static void find_dropped(facs_plan *plan, int64_t written)
{
    for (int i = 0; i < plan->count; i++) plan->nodes[i].dropped = is_dropped(plan, i, written);
}

/* Opens a buffer for node i's shape with `stride` channels to a pixel. */
static int new_buffer(facs_plan *plan, int i, int stride)
{
    const facs_shape s = plan->nodes[i].node.shape;
    facs_buffer *b = &plan->buffers[plan->buffer_count];
    const size_t numbers =
        (size_t)plan->options.batch * (size_t)s.h * (size_t)s.w * (size_t)stride;
    *b = (facs_buffer){.bytes = facs_align(numbers * facs_plan_kernels(plan, i)->number),
                       .begin = 2 * plan->count,
                       .end = -1,
                       .stride = stride};
    return plan->buffer_count++;
}

/* Channels to a pixel of a value of its own. Images of three get four on a separate device,
 * where what is read at once must be aligned. */
static int whole_stride(const facs_plan *plan, int i)
{
    const int c = plan->nodes[i].node.shape.c;
    return i == 0 && c == 3 && plan->device->separate ? 4 : c;
}

static void use(facs_plan *plan, facs_view view, int step)
{
    if (view.buffer < 0) return;
    facs_buffer *b = &plan->buffers[view.buffer];
    b->begin = step < b->begin ? step : b->begin;
    b->end = step > b->end ? step : b->end;
}

/* Gives every node its view: its own buffer, or a slice of the concat that reads it. From
 * the last node backwards, so that a concat has its view before its inputs. */
static facs_status assign_views(facs_plan *plan)
{
    const facs_view none = {-1, 0, 0};
    for (int i = 0; i < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        p->value = p->replayed = p->gradient = none;
    }
    for (int i = plan->count - 1; i >= 0; i--) {
        facs_plan_node *p = &plan->nodes[i];
        const int wants_gradient = p->needs_gradient && p->node.op != FACS_OP_LOSS;
        if (p->applied || facs_plan_is_inner(plan, i)) continue;
        if (p->value.buffer < 0) {
            const int stride = whole_stride(plan, i);
            p->value = (facs_view){new_buffer(plan, i, stride), 0, stride};
        }
        if (p->gradient.buffer < 0 && wants_gradient)
            p->gradient = (facs_view){new_buffer(plan, i, p->value.stride), p->value.channel,
                                      p->value.stride};
        if (p->node.op != FACS_OP_CONCAT) continue;
        int channel = p->value.channel;
        for (int j = 0; j < 2; j++) {
            facs_plan_node *x = &plan->nodes[p->node.input[j]];
            if (x->value.buffer >= 0)
                return facs_fail(FACS_E_UNSUPPORTED, "concat %s: %s is read by another concat",
                                 p->node.name, x->node.name);
            x->value = (facs_view){p->value.buffer, channel, p->value.stride};
            if (x->needs_gradient)
                x->gradient = (facs_view){p->gradient.buffer, channel, p->value.stride};
            channel += x->node.shape.c;
        }
    }
    return FACS_OK;
}

/* Marks the buffers that a BatchNorm with batch statistics reads. */
static void find_counted(facs_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        const facs_plan_node *p = &plan->nodes[i];
        if (p->node.op != FACS_OP_BATCHNORM || p->mode != FACS_MODE_TRAIN) continue;
        const facs_plan_node *x = &plan->nodes[p->node.input[0]];
        plan->buffers[x->value.buffer].counted = 1;
        plan->buffers[x->value.buffer].corrected |= x->needs_gradient;
    }
}

static int wrote_its_value(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    return !p->applied && !facs_plan_is_inner(plan, i) && p->node.op != FACS_OP_CONCAT;
}

int facs_plan_is_counted(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    return wrote_its_value(plan, i) && plan->buffers[p->value.buffer].counted;
}

int facs_plan_op_counts(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    return row_of(p)->moments && p->mode != FACS_MODE_INFER;
}

int facs_plan_is_corrected(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    return wrote_its_value(plan, i) && plan->buffers[p->value.buffer].corrected &&
           p->needs_gradient;
}

static int same_shape(facs_shape a, facs_shape b)
{
    return a.h == b.h && a.w == b.w && a.c == b.c;
}

static int can_share(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    /* A buffer that is counted holds one value. */
    if (p->applied || !row_of(p)->in_place || plan->buffers[p->value.buffer].counted) return 0;
    const facs_plan_node *x = &plan->nodes[p->node.input[0]];
    return x->consumers == 1 && is_whole(x) && is_whole(p) && !is_input(x) &&
           x->node.op != FACS_OP_CONCAT && same_shape(x->node.shape, p->node.shape);
}

/* Lets ops that may do so write over their input, and their gradient over the output's. */
static void share_in_place(facs_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        if (!can_share(plan, i)) continue;
        const facs_plan_node *x = &plan->nodes[p->node.input[0]];
        const int read_later = p->needs_gradient && (row_of(p)->reads & FACS_READS_X);
        const int reads_itself = x->needs_gradient && (row_of(x)->reads & FACS_READS_Y);
        if (!read_later && !reads_itself && !x->dropped) p->value = x->value;
    }
    for (int i = plan->count - 1; i >= 0; i--) {
        facs_plan_node *p = &plan->nodes[i];
        if (!can_share(plan, i)) continue;
        facs_plan_node *x = &plan->nodes[p->node.input[0]];
        if (x->gradient.buffer >= 0 && p->gradient.buffer >= 0) x->gradient = p->gradient;
    }
}

/* A BatchNorm that its readers apply has the views of its input, wherever these are by now. */
static void view_applied(facs_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        if (!p->applied) continue;
        p->value = plan->nodes[p->node.input[0]].value;
        p->gradient = plan->nodes[p->node.input[0]].gradient;
    }
}

/* The value of node i, or of what an applied BatchNorm shows, is read at a backward step. */
static void use_backward(facs_plan *plan, int i, int step)
{
    facs_plan_node *p = &plan->nodes[i];
    if (p->applied) p = &plan->nodes[p->node.input[0]];
    if (!p->dropped) {
        use(plan, p->value, step);
        return;
    }
    if (p->replayed.buffer < 0) {
        const int own = (int)(p - plan->nodes);
        p->replayed = (facs_view){new_buffer(plan, own, p->node.shape.c), 0, p->node.shape.c};
    }
    if (p->replay_step < 0 || step < p->replay_step) p->replay_step = step;
    use(plan, p->replayed, step);
}

static void trace_values(facs_plan *plan)
{
    for (int i = 0; i < plan->count; i++) {
        facs_plan_node *p = &plan->nodes[i];
        const unsigned reads = p->needs_gradient ? row_of(p)->reads : FACS_READS_NOTHING;
        const int backward = facs_plan_backward_step(plan, i);
        use(plan, p->value, is_input(p) ? 0 : i);
        for (int j = 0; j < row_of(p)->inputs; j++) {
            use(plan, plan->nodes[p->node.input[j]].value, p->step);
            if (reads & FACS_READS_X ||
                (plan->nodes[p->node.input[j]].applied && p->needs_gradient))
                use_backward(plan, p->node.input[j], backward);
        }
        if (reads & FACS_READS_Y ||
            (facs_plan_is_corrected(plan, i) && !(reads & FACS_REMAKES_Y)))
            use_backward(plan, i, backward);
        if (p->node.op == FACS_OP_LOSS) /* the caller reads the logits after the step */
            use(plan, plan->nodes[p->node.input[0]].value, 2 * plan->count);
    }
    use(plan, plan->nodes[plan->count - 1].value, 2 * plan->count);
}

/* What is replayed reads its inputs then, which may be replayed themselves: from the last node
 * on, so that a reader's step is final. */
static void trace_replays(facs_plan *plan)
{
    for (int i = plan->count - 1; i >= 0; i--) {
        const facs_plan_node *p = &plan->nodes[i];
        for (int j = 0; j < row_of(p)->inputs && p->replay_step >= 0; j++)
            use_backward(plan, p->node.input[j], p->replay_step);
    }
    for (int i = 0; i < plan->count; i++)
        if (plan->nodes[i].applied)
            plan->nodes[i].replayed = plan->nodes[plan->nodes[i].node.input[0]].replayed;
}

static void trace_gradients(facs_plan *plan, char *written)
{
    const facs_plan_node *last = &plan->nodes[plan->count - 1];
    if (last->gradient.buffer >= 0) {
        use(plan, last->gradient, plan->count);
        written[last->gradient.buffer] = 1;
    }
    for (int i = plan->count - 1; i >= 0; i--) {
        facs_plan_node *p = &plan->nodes[i];
        const int step = facs_plan_backward_step(plan, i);
        if (!p->needs_gradient || p->applied) continue;
        use(plan, p->gradient, step);
        for (int j = 0; j < row_of(p)->inputs && p->node.op != FACS_OP_CONCAT; j++) {
            const facs_plan_node *x = &plan->nodes[p->node.input[j]];
            if (x->gradient.buffer < 0) continue;
            use(plan, x->gradient, step);
            const int in_place =
                row_of(p)->in_place && x->gradient.buffer == p->gradient.buffer;
            const int first = !written[x->gradient.buffer];
            p->clear[j] = first && !is_whole(x);
            p->accumulate[j] = !in_place && (!first || p->clear[j]);
            written[x->gradient.buffer] = 1;
        }
    }
}

facs_status facs_plan_trace(facs_plan *plan, const facs_graph *graph)
{
    const size_t most = 3 * (size_t)plan->count;
    char *written;

    FACS_TRY(facs_allocate(&plan->buffers, most, sizeof *plan->buffers, "plan"));
    find_gradients(plan);
    find_applied(plan);
    FACS_TRY(assign_views(plan));
    find_dropped(plan, written_numbers(graph));
    find_counted(plan);
    share_in_place(plan);
    view_applied(plan);
    trace_values(plan);
    trace_replays(plan);
    FACS_TRY(facs_allocate(&written, most, sizeof *written, "plan"));
    trace_gradients(plan, written);
    facs_free(written);
    return FACS_OK;
}
