#include "core/clock.h"
#include "core/threads.h"
#include "graph/run.h"

#include <string.h>

static void prepare_node(void *context, int64_t i, int worker)
{
    const facs_run *r = context;
    const facs_op *op = facs_op_get(r->plan->nodes[i].node.op)->op;
    (void)worker;
    if (!op->prepare) return;
    const facs_call call = facs_run_call(r, (int)i);
    op->prepare(&call);
}

/* Runs work, or what the device recorded of it. Times of a profile are those of the nodes. */
static void run_on_device(const facs_run *r, int which, void (*work)(void *run))
{
    facs_plan *plan = r->plan;
    void *context = (void *)(uintptr_t)r;
    if (plan->profile)
        work(context);
    else
        plan->device->run(&plan->recordings[which], work, context);
}

/* The same for work that depends on how many images there are: full batches alone repeat. */
static void run_images(const facs_run *r, int which, void (*work)(void *run))
{
    if (r->images == r->plan->options.batch)
        run_on_device(r, which, work);
    else
        work((void *)(uintptr_t)r);
}

static void prepare_all(void *context)
{
    facs_run *r = context;
    r->plan->device->parallel(r->plan->options.threads, r->plan->count, prepare_node, r);
}

void facs_plan_prepare(facs_plan *plan)
{
    const facs_run r = {plan, 0, 1, 1};
    run_on_device(&r, FACS_PLAN_PREPARE, prepare_all);
}

/* Adds what has passed since `start` to an entry of the profile, where there is one. */
static double lap(const facs_run *r, int entry, double start)
{
    if (!r->plan->profile) return 0;
    (void)r->plan->device->wait();
    const double now = facs_clock_seconds();
    if (entry >= 0) r->plan->profile[entry] += now - start;
    return now;
}

static void prepare_trained_node(void *context, int64_t i, int worker)
{
    const facs_run *r = context;
    if (r->plan->nodes[i].mode != FACS_MODE_INFER) prepare_node(context, i, worker);
}

static void prepare_trained(void *context)
{
    facs_run *r = context;
    r->plan->device->parallel(r->plan->options.threads, r->plan->count, prepare_trained_node,
                              r);
}

void facs_plan_prepare_trained(facs_plan *plan)
{
    const facs_run r = {plan, 0, 1, 1};
    run_on_device(&r, FACS_PLAN_PREPARE_TRAINED, prepare_trained);
}

static facs_layer layer_of(const facs_run *r, int i)
{
    const facs_call call = facs_run_call(r, i);
    return facs_conv_layer(&call);
}

/* The convolutions that node i ends, as one kernel. */
static void forward_chain(const facs_run *r, int i)
{
    const facs_plan *plan = r->plan;
    const facs_chain c = facs_plan_chain(plan, i);
    facs_chain chains[FACS_SEPARABLE_MOST];
    facs_separable s[FACS_SEPARABLE_MOST];
    const int count = facs_plan_chains(plan, c, chains);
    const facs_call end = facs_run_call(r, i);
    const facs_call begin = facs_run_call(r, facs_chain_first(chains[count - 1]));
    facs_tensor residual;

    for (int k = 0; k < count; k++) {
        s[k] = (facs_separable){.depthwise = layer_of(r, chains[k].depthwise),
                                .project = layer_of(r, chains[k].project),
                                .before = k + 1 < count ? &s[k + 1] : NULL};
        if (chains[k].expand >= 0) s[k].expand = layer_of(r, chains[k].expand);
    }
    if (c.residual >= 0)
        residual = facs_run_tensor(r, &plan->nodes[c.residual], plan->nodes[c.residual].value);
    end.kernels->separable_fwd(&end.context, s, &end.y, &begin.x[0],
                               c.residual >= 0 ? &residual : NULL);
}

static void forward(void *context)
{
    const facs_run *r = context;
    double time = lap(r, -1, 0);
    for (int i = 0; i < r->plan->count; i++) {
        if (facs_plan_is_inner(r->plan, i)) continue;
        facs_call call = facs_run_call(r, i);
        const facs_statistics counted = call.statistics;
        if (!facs_plan_op_counts(r->plan, i)) call.statistics.mean = NULL;
        const int begins = facs_run_beginner(r->plan, i);
        if (begins >= 0) {
            const facs_call norm = facs_run_call(r, begins);
            call.begin = facs_op_get(norm.node->op)->op->begin(&norm);
        }
        if (r->plan->nodes[i].chain >= 0)
            forward_chain(r, i);
        else
            facs_op_get(call.node->op)->op->forward(&call);
        if (counted.mean && !call.statistics.mean)
            facs_plan_kernels(r->plan, i)
                ->batchnorm_stats(&call.context, counted.mean, counted.variance, &call.y);
        time = lap(r, i, time);
    }
}

void facs_plan_forward(facs_plan *plan, int64_t n, uint64_t seed, uint32_t step)
{
    const facs_run r = {plan, 0, plan->options.threads, n};
    plan->images = n;
    plan->seed = seed;
    plan->step = step;
    if (plan->device->separate) {
        const uint32_t draw[3] = {(uint32_t)seed, (uint32_t)(seed >> 32), step};
        plan->device->upload(plan->arena, draw, sizeof draw);
    }
    run_images(&r, FACS_PLAN_FORWARD, forward);
}

/* Forward order, since what is replayed may read what is. */
static void replay(const facs_run *r, int step)
{
    for (int i = 0; i < r->plan->count; i++) {
        if (r->plan->nodes[i].replay_step != step) continue;
        const facs_call call = facs_run_backward_call(r, i);
        facs_op_get(call.node->op)->op->replay(&call);
    }
}

static void clear_gradient(const facs_run *r, const facs_plan_node *x)
{
    const facs_buffer *b = &r->plan->buffers[x->gradient.buffer];
    r->plan->kernels->zero((facs_real *)(facs_run_buffers(r) + b->offset),
                           (int64_t)(b->bytes / sizeof(facs_real)));
}

static void clear_corrections(const facs_plan *plan)
{
    const size_t bytes = plan->corrections_end - plan->corrections;
    if (bytes)
        plan->kernels->zero((facs_real *)(void *)(plan->arena + plan->corrections),
                            (int64_t)(bytes / sizeof(facs_real)));
}

static void backward_node(const facs_run *r, int i)
{
    const facs_plan *plan = r->plan;
    const facs_plan_node *p = &plan->nodes[i];
    const facs_op_row *row = facs_op_get(p->node.op);
    facs_call call = facs_run_backward_call(r, i);

    if (!p->applied) call.dy = facs_run_tensor(r, p, p->gradient);
    for (int j = 0; j < row->inputs; j++) {
        const facs_plan_node *x = &plan->nodes[p->node.input[j]];
        call.dx[j] = facs_run_tensor(r, x, x->gradient);
        call.accumulate[j] = p->accumulate[j];
        if (p->clear[j]) clear_gradient(r, x);
    }
    if (call.statistics.slope && !row->moments) {
        const facs_correction due = {&call.y, call.statistics.slope, call.statistics.offset};
        facs_plan_kernels(plan, i)->correct(&call.context, &call.dy, &due);
    }
    row->op->backward(&call);
}

static void backward(void *context)
{
    const facs_run *r = context;
    const facs_plan *plan = r->plan;
    double time = lap(r, -1, 0);
    clear_corrections(plan);
    for (int i = plan->count - 1; i >= 0; i--) {
        if (!plan->nodes[i].needs_gradient) continue;
        replay(r, facs_plan_backward_step(plan, i));
        backward_node(r, i);
        time = lap(r, plan->count + i, time);
    }
}

void facs_plan_backward(facs_plan *plan)
{
    const facs_run r = {plan, 0, plan->options.threads, plan->images};
    run_images(&r, FACS_PLAN_BACKWARD, backward);
    plan->images = 0; /* gradients lie where values were */
}

/* Fills y from row `row` of the source on. */
static void load_from(const facs_run *r, const facs_source *source, facs_tensor y, int64_t row)
{
    const facs_kernels *k = facs_plan_kernels(r->plan, 0);
    const facs_context context = facs_run_context(r);
    const int64_t skipped = row * y.h * y.w * y.c;

    if (source->pixels)
        k->normalise_u8(&context, &y, source->pixels + skipped, source->scale, source->shift);
    else if (source->bfloats)
        k->bfloat16_to(&context, &y, source->bfloats + skipped);
    else
        k->load_numbers(&context, &y, source->numbers + skipped);
}

typedef struct loading {
    const facs_run *run;
    const facs_source *source;
    facs_tensor y;
    int64_t first_image;
} loading;

static facs_tensor image_of(const facs_run *r, facs_tensor y, int64_t image)
{
    const size_t bytes = (size_t)(y.h * y.w * y.stride) * facs_plan_kernels(r->plan, 0)->number;
    y.data = (facs_real *)(void *)((char *)y.data + (size_t)image * bytes);
    y.n = 1;
    return y;
}

static void load_image(void *context, int64_t image, int worker)
{
    const loading *l = context;
    (void)worker;
    load_from(l->run, l->source, image_of(l->run, l->y, image),
              l->source->rows[l->first_image + image]);
}

/* Brings the images of a batch to a separate device as they are, and loads them there. */
static void load_inlet(const facs_run *r, const facs_source *source, facs_tensor y,
                       int64_t first_image)
{
    const facs_plan *plan = r->plan;
    const void *from = source->pixels    ? (const void *)source->pixels
                       : source->bfloats ? (const void *)source->bfloats
                                         : (const void *)source->numbers;
    const size_t number = source->pixels ? 1 : source->bfloats ? 2 : sizeof(facs_real);
    const size_t bytes = (size_t)(y.h * y.w * y.c) * number;
    void *inlet = plan->arena + plan->inlet;

    if (source->rows)
        plan->device->gather(inlet, from, source->rows + first_image, r->images, bytes);
    else
        plan->device->upload(inlet, (const char *)from + (size_t)first_image * bytes,
                             (size_t)r->images * bytes);
    const facs_source there = {.pixels = source->pixels ? inlet : NULL,
                               .bfloats = source->bfloats ? inlet : NULL,
                               .numbers = inlet,
                               .scale = source->scale,
                               .shift = source->shift};
    load_from(r, &there, y, 0);
}

static void load(const facs_run *r, const facs_source *source, int64_t first_image)
{
    const facs_plan *plan = r->plan;
    const facs_plan_node *p = &plan->nodes[plan->where[plan->options.first]];
    loading l = {r, source, facs_run_tensor(r, p, p->value), first_image};

    if (plan->device->separate)
        load_inlet(r, source, l.y, first_image);
    else if (source->rows)
        facs_parallel(r->threads, r->images, load_image, &l);
    else
        load_from(r, source, l.y, first_image);
}

void facs_plan_load(facs_plan *plan, const facs_source *source, int64_t n)
{
    const facs_run r = {plan, 0, plan->options.threads, n};
    load(&r, source, 0);
}

typedef struct inference {
    facs_run run;
    const facs_source *source;
    int64_t total, per_chunk;
    facs_real *output;
} inference;

static void infer_chunk(void *context, int64_t chunk, int worker)
{
    const inference *all = context;
    facs_run r = all->run;
    const int64_t first = chunk * all->per_chunk, left = all->total - first;
    const facs_plan_node *last = &r.plan->nodes[r.plan->count - 1];

    r.lane = worker;
    r.images = left < all->per_chunk ? left : all->per_chunk;
    for (int64_t i = 0; i < r.images && all->source->seen; i++)
        if (!all->source->seen(all->source->watcher, first + i, r.threads)) return;
    load(&r, all->source, first);
    run_images(&r, FACS_PLAN_FORWARD, forward);
    const facs_tensor y = facs_run_tensor(&r, last, last->value);
    const facs_context context_of_copy = facs_run_context(&r);
    const int64_t numbers = (int64_t)y.h * y.w * y.c;
    facs_real *output = all->output + first * numbers, *outlet = output;
    if (r.plan->device->separate)
        outlet = (facs_real *)(void *)(r.plan->arena + r.plan->outlet);
    facs_plan_kernels(r.plan, r.plan->count - 1)->store_numbers(&context_of_copy, outlet, &y);
    if (outlet != output)
        r.plan->device->download(output, outlet, (size_t)(r.images * numbers) * sizeof *output);
}

void facs_plan_infer(facs_plan *plan, const facs_source *source, int64_t n, facs_real *output)
{
    const facs_plan_options *o = &plan->options;
    /* Few images go to all lanes. */
    const int64_t share = n > o->lanes ? (n + o->lanes - 1) / o->lanes : 1;
    inference all = {.run = {plan, 0, 1, 0},
                     .source = source,
                     .total = n,
                     .per_chunk = share < o->batch ? share : o->batch,
                     .output = output};
    const int64_t chunks = (n + all.per_chunk - 1) / all.per_chunk;

    /* Too few images to fill the lanes: thread inside the kernels instead. */
    if (n < o->lanes || plan->device->separate) {
        all.run.threads = o->threads;
        for (int64_t chunk = 0; chunk < chunks; chunk++) infer_chunk(&all, chunk, 0);
        return;
    }
    facs_parallel(o->lanes, chunks, infer_chunk, &all);
}

facs_tensor facs_plan_value(const facs_plan *plan, int node, int64_t n)
{
    const facs_run r = {(facs_plan *)(uintptr_t)plan, 0, 1, n};
    if (node < 0 || node >= plan->graph_count || plan->where[node] < 0) return (facs_tensor){0};
    const facs_plan_node *p = &plan->nodes[plan->where[node]];
    return p->applied ? (facs_tensor){0} : facs_run_tensor(&r, p, p->value);
}

facs_tensor facs_plan_gradient(const facs_plan *plan, int node, int64_t n)
{
    const facs_run r = {(facs_plan *)(uintptr_t)plan, 0, 1, n};
    if (node < 0 || node >= plan->graph_count || plan->where[node] < 0) return (facs_tensor){0};
    const facs_plan_node *p = &plan->nodes[plan->where[node]];
    return p->applied ? (facs_tensor){0} : facs_run_tensor(&r, p, p->gradient);
}
