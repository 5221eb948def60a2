/* Where the time of a network goes: milliseconds an image of every layer, forward and
 * backward, with the GFLOP/s of convolutions; then the sums by kind of layer.
 *
 *   make bench-kernels, then
 *   build/ctest/plain/bench_layers [network [infer|train [batch [threads [dtype [rung]]]]]]
 *
 * `infer` runs in lanes' chunks of two images on one thread, as inference does, and then gives
 * the speed of `batch` images on `threads` lanes; a single image is split among the threads. A
 * rung that is the path of a device's plugin runs there, whole batches at once; each layer is
 * then waited for, which costs some 10 us. */

#include "core/clock.h"
#include "core/memory.h"
#include "nets/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { ROUNDS = 5, KINDS = 32, LANE = 2 };

typedef struct setting {
    const char *network, *rung;
    int training, threads, narrow;
    int64_t batch;
} setting;

typedef struct kind_sum {
    char name[32];
    double forward, backward, flops;
} kind_sum;

static void stop(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, facs_last_message());
    exit(1);
}

/* Whether node i does the work of others, too. */
static int ends_chain(const facs_plan *plan, int i)
{
    return i > 0 && facs_plan_step_of(plan, i - 1) == i;
}

/* The kind of a convolution tells its kernel. */
static const char *kind_of(const facs_plan *plan, int i)
{
    static char text[32];
    const facs_node *node = facs_plan_node_at(plan, i);
    const facs_conv *g = &node->u.conv.geometry;
    if (ends_chain(plan, i)) return "separable";
    if (node->op != FACS_OP_CONV) return facs_op_get(node->op)->name;
    snprintf(text, sizeof text, "%s %dx%d", g->groups > 1 ? "depthwise" : "conv", g->kh, g->kw);
    return text;
}

/* GFLOP of an image in the step of node i. */
static double work_of(const facs_plan *plan, int i)
{
    double sum = 0;
    for (int j = 0; j <= i; j++) {
        const facs_node *node = facs_plan_node_at(plan, j);
        const facs_op *op = facs_op_get(node->op)->op;
        if (facs_plan_step_of(plan, j) == i && op->macs) sum += 2e-9 * (double)op->macs(node);
    }
    return sum;
}

static void add_kind(kind_sum *kinds, const char *name, double work, double forward,
                     double backward)
{
    kind_sum *k = kinds;
    while (k->name[0] && strcmp(k->name, name)) k++;
    snprintf(k->name, sizeof k->name, "%s", name);
    k->forward += forward;
    k->backward += backward;
    k->flops += work;
}

static void report(const facs_plan *plan, const double *seconds, int64_t images)
{
    const int count = facs_plan_count(plan);
    kind_sum kinds[KINDS] = {0};
    double forward = 0, backward = 0, all = 0;

    for (int i = 0; i < count; i++) {
        const facs_node *node = facs_plan_node_at(plan, i);
        const facs_shape s = node->shape;
        const double f = seconds[i] / (double)images, b = seconds[count + i] / (double)images;
        const double work = work_of(plan, i);
        if (facs_plan_step_of(plan, i) != i) continue;
        printf("%-44s %-14s %3d x %3d x %4d %9.4f %9.4f ms %7.0f %7.0f GFLOP/s\n", node->name,
               kind_of(plan, i), s.h, s.w, s.c, 1e3 * f, 1e3 * b, f > 0 ? work / f : 0,
               b > 0 ? 2 * work / b : 0);
        add_kind(kinds, kind_of(plan, i), work, f, b);
        forward += f, backward += b, all += work;
    }
    printf("\n");
    for (const kind_sum *k = kinds; k->name[0]; k++)
        printf("%-20s %9.3f %9.3f ms %7.0f %7.0f GFLOP/s\n", k->name, 1e3 * k->forward,
               1e3 * k->backward, k->flops / k->forward,
               k->backward > 0 ? 2 * k->flops / k->backward : 0);
    printf("%-20s %9.3f %9.3f ms %7.0f GFLOP/s, %.1f img/s\n", "all", 1e3 * forward,
           1e3 * backward, all / forward, 1 / (forward + backward));
}

/* Images per second of whole batches in lanes, the median of the rounds. */
static void run_lanes(const setting *o, facs_plan_options options, const facs_graph *graph,
                      const facs_kernels *kernels, facs_real *parameters)
{
    const int64_t count = o->batch * 224 * 224 * 3;
    facs_real *numbers = calloc((size_t)count, sizeof *numbers);
    facs_real *output = calloc((size_t)o->batch * 16, sizeof *output);
    const facs_source source = {.numbers = numbers};
    double seconds[2 * ROUNDS + 1];
    facs_plan *plan;

    options.threads = options.lanes = o->threads;
    if (facs_plan_create(&plan, graph, kernels, &options)) stop("plan");
    facs_plan_bind(plan, parameters, NULL);
    facs_plan_prepare(plan);
    for (int64_t i = 0; i < count; i++) numbers[i] = (facs_real)(i * 7919 % 2001) / 1000 - 1;
    for (int round = 0; round <= 2 * ROUNDS; round++) {
        const double start = facs_clock_seconds();
        facs_plan_infer(plan, &source, o->batch, output);
        const double passed = facs_clock_seconds() - start;
        int at = round;
        for (; at > 0 && seconds[at - 1] > passed; at--) seconds[at] = seconds[at - 1];
        seconds[at] = passed;
    }
    printf("%lld images on %d threads: %.1f img/s, %.1f at best\n", (long long)o->batch,
           o->threads, (double)o->batch / seconds[ROUNDS], (double)o->batch / seconds[0]);
    facs_plan_free(plan);
    free(numbers);
    free(output);
}

/* Kernels of a rung or of a plugin; the device is NULL for the CPU. */
static const facs_device *choose(const char *rung, facs_kernels *kernels, facs_kernels *narrow)
{
    facs_plugin plugin;
    if (rung && strchr(rung, '/')) {
        if (facs_plugin_load(&plugin, rung)) stop(rung);
        *kernels = *plugin.kernels;
        *narrow = *plugin.narrow;
        return plugin.device;
    }
    if (!facs_kernels_select(kernels, rung)) stop("rung");
    if (!facs_kernels_select_bfloat16(narrow, rung)) stop("rung");
    return NULL;
}

static void run(const setting *o)
{
    const facs_network_options options = {
        .input_size = 224, .labels = 16, .width = 1, .activation = {0, 6}, .epsilon = 1e-5};
    const facs_loss_options loss = {.epsilon = 1e-7f};
    facs_network *network;
    facs_training_graph t;
    facs_kernels kernels, narrow;
    facs_plan *plan;
    facs_real *gradients, *parameters;
    double *seconds;

    if (facs_network_create(&network, o->network, &options, 1)) stop(o->network);
    const facs_device *device = choose(o->rung, &kernels, &narrow);
    const facs_device *memory = device ? device : &facs_device_cpu;
    if (facs_training_graph_create(&t, network, FACS_LOSS_BCE, &loss)) stop("graph");
    const facs_plan_options plan_options = {
        .first = network->input,
        .last = o->training ? t.loss : network->logits,
        .boundary = o->training ? 0 : t.graph.count,
        .mode = o->training ? FACS_MODE_TRAIN : FACS_MODE_INFER,
        .batch = o->training || device || o->batch < LANE ? o->batch : LANE,
        .threads = (o->training || o->batch < LANE) && !device ? o->threads : 1,
        .lanes = 1,
        .device = device,
        .narrow = o->narrow ? &narrow : NULL};
    if (facs_plan_create(&plan, &t.graph, &kernels, &plan_options)) stop("plan");
    const int64_t n = plan_options.batch, count = n * 224 * 224 * 3;
    facs_real *numbers = calloc((size_t)count, sizeof *numbers);
    const size_t slab = (size_t)network->graph.parameter_numbers * sizeof *gradients;
    if (memory->allocate(&gradients, slab, "gradients")) stop("gradients");
    if (memory->allocate(&parameters, slab, "parameters")) stop("parameters");
    memory->upload(parameters, network->parameters, slab);
    seconds = calloc(2 * (size_t)facs_plan_count(plan), sizeof *seconds);
    for (int64_t i = 0; i < count; i++) numbers[i] = (facs_real)(i * 7919 % 2001) / 1000 - 1;
    facs_plan_bind(plan, parameters, gradients);
    const facs_source source = {.numbers = numbers};
    const int rounds = o->training ? ROUNDS : (int)(ROUNDS * o->batch / n);
    for (int round = 0; round <= rounds; round++) {
        if (round == 1) facs_plan_profile(plan, seconds);
        if (o->training || !round) facs_plan_prepare(plan);
        facs_plan_load(plan, &source, n);
        facs_plan_forward(plan, n, 1, 1);
        if (o->training) facs_plan_backward(plan);
    }
    printf("%s, %s, %lld images at once, %d threads, %s\n", o->network,
           o->training ? "training" : "inference", (long long)n, plan_options.threads,
           o->narrow ? narrow.name : kernels.name);
    report(plan, seconds, n * rounds);
    if (!o->training && !device)
        run_lanes(o, plan_options, &t.graph, &kernels, network->parameters);
    facs_plan_free(plan);
    facs_free(t.graph.nodes);
    facs_network_free(network);
    free(numbers);
    memory->release(gradients);
    memory->release(parameters);
    free(seconds);
}

int main(int argc, char **argv)
{
    const setting o = {.network = argc > 1 ? argv[1] : "mobilenet_v1",
                       .training = argc > 2 && !strcmp(argv[2], "train"),
                       .batch = argc > 3 ? atoll(argv[3]) : 64,
                       .threads = argc > 4 ? atoi(argv[4]) : 2,
                       .narrow = argc > 5 && !strcmp(argv[5], "bfloat16"),
                       .rung = argc > 6 ? argv[6] : NULL};
    run(&o);
    return 0;
}
