#include "train/trainer.h"

#include "core/memory.h"

#include <math.h>
#include <string.h>

struct facs_trainer {
    facs_session *session;
    facs_stage stage;
    facs_training_graph training;
    facs_plan *plan;
    facs_optimiser *optimiser;
    const facs_device *device;
    facs_real *parameters, *gradients; /* the session's */
    void *scratch;                     /* of the optimiser */
    double *block_rates;
    facs_real *weights;    /* the device's copies of class_weight and pos_weight */
    facs_real *statistics; /* running ones as they were before the step */
    facs_real *verdict;    /* of check_finite */
    facs_plateau plateau;
    unsigned prepared; /* the session's version that the plan's frozen nodes are ready for */
    uint64_t seed;
    uint32_t steps;
};

/* Copies k weights of the caller to the device; returns where they are, or NULL. */
static const facs_real *keep_weights(const facs_trainer *t, facs_real *to,
                                     const facs_real *weights, int k)
{
    if (weights) t->device->upload(to, weights, (size_t)k * sizeof *weights);
    return weights ? to : NULL;
}

/* The stage's arrays belong to the caller: keep copies. */
static facs_status copy_arrays(facs_trainer *t, const facs_stage *stage)
{
    const facs_network *net = facs_session_network(t->session);
    const int k = net->options.labels, blocks = net->graph.block_count;
    facs_loss_options *o = &t->stage.loss_options;

    FACS_TRY(t->device->allocate(&t->weights, 2 * (size_t)k * sizeof *t->weights, "trainer"));
    FACS_TRY(t->device->allocate(&t->verdict, sizeof *t->verdict, "trainer"));
    FACS_TRY(facs_allocate(&t->block_rates, (size_t)blocks, sizeof *t->block_rates, "trainer"));
    for (int i = 0; i < blocks; i++)
        t->block_rates[i] = stage->block_rates ? stage->block_rates[i] : 1;
    t->stage.block_rates = t->block_rates;
    o->class_weight = keep_weights(t, t->weights, o->class_weight, k);
    o->pos_weight = keep_weights(t, t->weights + k, o->pos_weight, k);
    return FACS_OK;
}

/* Whether a training step moves a running statistic. */
static int is_moved(const facs_trainer *t, const facs_parameter *p)
{
    return p->block >= t->stage.first_block && !facs_parameter_is_trained(p);
}

/* Copies the running statistics to the side, or back, those that lie side by side at once. A
 * forward pass moves them before it is known whether its step can be taken. */
static void copy_statistics(const facs_trainer *t, int restore)
{
    const facs_graph *graph = &facs_session_network(t->session)->graph;
    facs_real *kept = t->statistics;

    for (int i = 0; i < graph->parameter_count; i++) {
        const facs_parameter *p = &graph->parameters[i];
        facs_real *own = t->parameters + p->offset;
        int64_t count = p->count;
        if (!is_moved(t, p)) continue;
        for (int j = i + 1; j < graph->parameter_count; j++) {
            const facs_parameter *next = &graph->parameters[j];
            if (!is_moved(t, next)) continue;
            if (next->offset != p->offset + count) break;
            count += next->count;
            i = j;
        }
        t->device->copy(restore ? own : kept, restore ? kept : own,
                        (size_t)count * sizeof *own);
        kept += count;
    }
}

static facs_status allocate_statistics(facs_trainer *t)
{
    const facs_graph *graph = &facs_session_network(t->session)->graph;
    size_t count = 1;

    for (int i = 0; i < graph->parameter_count; i++)
        if (is_moved(t, &graph->parameters[i])) count += (size_t)graph->parameters[i].count;
    return t->device->allocate(&t->statistics, count * sizeof *t->statistics, "trainer");
}

static facs_status make_plan(facs_trainer *t, int64_t batch)
{
    const facs_network *net = facs_session_network(t->session);
    int first = net->input;
    if (t->stage.from_boundary)
        FACS_TRY(facs_graph_boundary(&net->graph, t->stage.first_block, &first));
    const facs_plan_options options = {
        .first = first,
        .last = t->training.loss,
        .boundary = facs_graph_block_start(&t->training.graph, t->stage.first_block),
        .mode = t->stage.stored_statistics ? FACS_MODE_TRAIN_STORED : FACS_MODE_TRAIN,
        .batch = batch,
        .threads = facs_session_threads(t->session),
        .lanes = 1,
        .narrow = facs_session_narrow(t->session),
        .recompute = t->stage.recompute ? FACS_RECOMPUTE_BLOCKS : FACS_RECOMPUTE_LIGHT,
        .device = t->device,
    };
    FACS_TRY(facs_session_gradients(t->session, &t->gradients));
    FACS_TRY(facs_session_parameters(t->session, &t->parameters));
    FACS_TRY(facs_plan_create(&t->plan, &t->training.graph, facs_session_kernels(t->session),
                              &options));
    facs_plan_bind(t->plan, t->parameters, t->gradients);
    FACS_TRY(facs_optimiser_create(&t->optimiser, &net->graph, facs_session_kernels(t->session),
                                   t->device, options.boundary, t->parameters,
                                   &t->stage.optimiser));
    FACS_TRY(t->device->allocate(
        &t->scratch, facs_optimiser_scratch(t->optimiser, options.threads), "optimiser"));
    return t->device->wait(); /* steps may be another thread's */
}

static facs_status make(facs_trainer *t, const facs_stage *stage, int64_t batch)
{
    const facs_network *net = facs_session_network(t->session);

    if (stage->first_block < 0 || stage->first_block >= net->graph.block_count)
        return facs_fail(FACS_E_ARG, "stage: block %d of %d", stage->first_block,
                         net->graph.block_count);
    if (!(stage->rate > 0) || !isfinite(stage->rate))
        return facs_fail(FACS_E_ARG, "stage: the learning rate is %g, want more than 0",
                         stage->rate);
    FACS_TRY(copy_arrays(t, stage));
    FACS_TRY(allocate_statistics(t));
    FACS_TRY(
        facs_training_graph_create(&t->training, net, t->stage.loss, &t->stage.loss_options));
    return make_plan(t, batch);
}

facs_status facs_trainer_create(facs_trainer **out, facs_session *session,
                                const facs_stage *stage, int64_t batch, uint64_t seed)
{
    facs_trainer *t;

    *out = NULL;
    FACS_TRY(facs_allocate(&t, 1, sizeof *t, "trainer"));
    t->session = session;
    t->device = facs_session_device(session);
    t->stage = *stage;
    t->seed = seed;
    t->plateau = (facs_plateau){.best = -INFINITY, .factor = 1};
    const facs_status status = make(t, stage, batch);
    if (status != FACS_OK) {
        facs_trainer_free(t);
        return status;
    }
    *out = t;
    return FACS_OK;
}

void facs_trainer_free(facs_trainer *t)
{
    if (!t) return;
    facs_optimiser_free(t->optimiser);
    facs_plan_free(t->plan);
    facs_free(t->training.graph.nodes);
    facs_free(t->block_rates);
    t->device->release(t->scratch);
    t->device->release(t->weights);
    t->device->release(t->statistics);
    t->device->release(t->verdict);
    facs_free(t);
}

static void ask_finite(const facs_trainer *t, const facs_real *values, int64_t count)
{
    facs_session_kernels(t->session)->check_finite(t->verdict, values, count);
}

static int was_finite(const facs_trainer *t)
{
    facs_real verdict;
    t->device->download(&verdict, t->verdict, sizeof verdict);
    return verdict == 0;
}

static int first_parameter(const facs_trainer *t)
{
    const facs_graph *graph = &t->training.graph;
    const int first = facs_plan_get_options(t->plan)->boundary;
    int i = 0;
    while (i + 1 < graph->parameter_count && graph->parameters[i].node < first) i++;
    return i;
}

/* Asked of all gradients at once, before anything is waited for. */
static void ask_gradients(const facs_trainer *t)
{
    const facs_graph *graph = &t->training.graph;
    const int64_t start = graph->parameters[first_parameter(t)].offset;
    ask_finite(t, t->gradients + start, graph->parameter_numbers - start);
}

/* Names the layer nearest to the loss whose gradient is not finite; FACS_OK when all are. */
static facs_status check_gradients(const facs_trainer *t, double loss)
{
    const facs_graph *graph = &t->training.graph;
    const int first = facs_plan_get_options(t->plan)->boundary;
    if (isfinite(loss) && was_finite(t)) return FACS_OK;
    for (int i = graph->parameter_count - 1; i >= 0; i--) {
        const facs_parameter *p = &graph->parameters[i];
        if (p->node < first || !facs_parameter_is_trained(p)) continue;
        ask_finite(t, t->gradients + p->offset, p->count);
        if (!was_finite(t))
            return facs_fail(FACS_E_ARG,
                             "step %u: the gradient of %s is not finite (loss %g); "
                             "the step was not taken",
                             t->steps, p->name, loss);
    }
    if (!isfinite(loss))
        return facs_fail(FACS_E_ARG,
                         "step %u: the loss is not finite (%g); the step was not taken",
                         t->steps, loss);
    return FACS_OK;
}

static void load(facs_trainer *t, const facs_training_batch *batch)
{
    facs_real scale[3], shift[3];
    facs_session_get_pixels(t->session, scale, shift);
    const facs_source source = {.pixels = batch->pixels,
                                .numbers = batch->numbers,
                                .bfloats = batch->bfloats,
                                .rows = batch->rows,
                                .scale = scale,
                                .shift = shift};
    const size_t bytes = (size_t)batch->n *
                         (size_t)facs_session_network(t->session)->options.labels *
                         sizeof(facs_real);

    facs_plan_load(t->plan, &source, batch->n);
    t->device->upload(facs_plan_value(t->plan, t->training.target, batch->n).data,
                      batch->target, bytes);
    t->device->upload(facs_plan_value(t->plan, t->training.mask, batch->n).data, batch->mask,
                      bytes);
}

/* A step changes nothing below the boundary, so what is ready there stays so until somebody
 * else writes parameters. */
static void prepare(facs_trainer *t)
{
    if (t->prepared == facs_session_version(t->session))
        facs_plan_prepare_trained(t->plan);
    else
        facs_plan_prepare(t->plan);
}

static void touch(facs_trainer *t)
{
    facs_session_moved(t->session);
    t->prepared = facs_session_version(t->session);
}

facs_status facs_trainer_step(facs_trainer *t, const facs_training_batch *batch, double epoch,
                              facs_step_report *report)
{
    const facs_plan_options *o = facs_plan_get_options(t->plan);
    const facs_context context = {.threads = o->threads, .scratch = t->scratch};
    const int clips = t->stage.optimiser.clip_norm > 0;

    if (batch->n < 1 || batch->n > o->batch)
        return facs_fail(FACS_E_ARG, "step: %lld images, want 1 to %lld", (long long)batch->n,
                         (long long)o->batch);
    FACS_TRY(facs_session_parameters(t->session, &t->parameters));
    copy_statistics(t, 0);
    prepare(t);
    load(t, batch);
    facs_plan_forward(t->plan, batch->n, t->seed, t->steps++);
    facs_plan_backward(t->plan);
    ask_gradients(t);
    touch(t);
    facs_real loss;
    t->device->download(&loss, facs_plan_value(t->plan, t->training.loss, 1).data, sizeof loss);
    report->loss = loss;
    FACS_TRY(t->device->wait());
    report->rate = t->stage.rate * facs_schedule_factor(&t->stage.schedule, epoch, &t->plateau);
    report->gradient_norm = NAN;
    const facs_status status = check_gradients(t, report->loss);
    if (status != FACS_OK) {
        copy_statistics(t, 1);
        FACS_TRY(t->device->wait());
        return status;
    }
    facs_optimiser_step(t->optimiser, &context, t->parameters, t->gradients, report->rate,
                        t->block_rates, clips ? &report->gradient_norm : NULL);
    return t->device->wait();
}

void facs_trainer_observe(facs_trainer *t, double score)
{
    facs_plateau_observe(&t->plateau, &t->stage.schedule, score);
}

facs_status facs_trainer_swap_average(facs_trainer *t)
{
    facs_optimiser_swap_average(t->optimiser, t->parameters);
    facs_session_moved(t->session);
    return t->device->wait();
}

size_t facs_trainer_bytes(const facs_trainer *t)
{
    return facs_plan_bytes(t->plan);
}
