/* Speed of the kernels on the layers of MobileNet-v1 (width 1, 224 x 224) and on the 3x3
 * convolutions of DenseNet and VGG: GFLOP/s and the part of the FMA peak for convolutions
 * (counted as direct sums, so that a fast algorithm may pass it), GB/s (each tensor once) for
 * the rest, beside the speed of copying memory. Peak and copy are measured in the same rounds,
 * because a shared machine changes speed.
 *
 *   make bench-kernels, or, after a build,
 *   bench_kernels [rung [batch [threads [start of a row's name [network]]]]]
 */

#include "core/clock.h"
#include "core/memory.h"
#include "kernel/kernel.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/threads.h"

enum { ROUNDS = 7, ACCUMULATORS = 12, PROBE_STEPS = 200000 };

/* --- probes */

#if defined(__x86_64__)
#    define WITH(isa) __attribute__((target(isa), noinline))
#else
#    define WITH(isa) __attribute__((noinline))
#endif

/* The sums start apart, or the compiler would see that they stay equal. */
#define PROBE(name, isa, lanes)                                                                \
    typedef float name##_vector __attribute__((vector_size(4 * (lanes))));                     \
    WITH(isa) static double name(void)                                                         \
    {                                                                                          \
        name##_vector sum[ACCUMULATORS] = {0}, a = sum[0] + 0.5f, b = sum[0] + 1e-7f;          \
        for (int i = 0; i < ACCUMULATORS; i++) sum[i] += (float)i;                             \
        for (int step = 0; step < PROBE_STEPS; step++) {                                       \
            __asm__ volatile("" : "+x"(a), "+x"(b));                                           \
            _Pragma("GCC unroll 12") for (int i = 0; i < ACCUMULATORS; i++) sum[i] =           \
                sum[i] * a + b;                                                                \
        }                                                                                      \
        for (int i = 1; i < ACCUMULATORS; i++) sum[0] += sum[i];                               \
        volatile float kept = sum[0][0];                                                       \
        (void)kept;                                                                            \
        return 2.0 * (lanes)*ACCUMULATORS * PROBE_STEPS;                                       \
    }
#if defined(__x86_64__)
PROBE(probe_avx512, "avx512f", 16)
PROBE(probe_avx2, "avx2,fma", 8)
#endif
PROBE(probe_plain, "sse2", 4)

typedef double probe_function(void);

static void probe_task(void *context, int64_t block, int worker)
{
    (void)block, (void)worker;
    (void)(*(probe_function **)context)();
}

/* FLOP per second of multiply-adds in registers, on all threads. */
static double measure_peak(const char *rung, int threads)
{
    probe_function *probe = probe_plain;
#if defined(__x86_64__)
    if (strcmp(rung, "avx512") == 0) probe = probe_avx512;
    if (strcmp(rung, "avx2") == 0) probe = probe_avx2;
#endif
    const double start = facs_clock_seconds();
    facs_parallel(threads, threads, probe_task, &probe);
    const double used = facs_clock_seconds() - start;
    const int lanes = probe == probe_plain ? 4 : strcmp(rung, "avx2") == 0 ? 8 : 16;
    return threads * 2.0 * lanes * ACCUMULATORS * PROBE_STEPS / used;
}

enum { COPY_NUMBERS = 8 << 20 };

typedef struct copy_block {
    float *to;
    const float *from;
    int64_t blocks;
} copy_block;

static void copy_task(void *context, int64_t block, int worker)
{
    const copy_block *c = context;
    const int64_t first = COPY_NUMBERS * block / c->blocks;
    const int64_t end = COPY_NUMBERS * (block + 1) / c->blocks;
    (void)worker;
    memcpy(c->to + first, c->from + first, (size_t)(end - first) * sizeof(float));
}

static double measure_copy(copy_block *c, int threads)
{
    const double start = facs_clock_seconds();
    facs_parallel(threads, c->blocks, copy_task, c);
    return 2.0 * COPY_NUMBERS * sizeof(float) / (facs_clock_seconds() - start);
}

/* --- layers */

typedef struct layer {
    int h, ci, co, kernel, stride;
} layer;

static const layer mobilenet_layers[] = {
    {224, 3, 32, 3, 2},   {112, 32, 0, 3, 1}, {112, 32, 64, 1, 1},   {112, 64, 0, 3, 2},
    {56, 64, 128, 1, 1},  {56, 128, 0, 3, 1}, {56, 128, 128, 1, 1},  {56, 128, 0, 3, 2},
    {28, 128, 256, 1, 1}, {28, 256, 0, 3, 1}, {28, 256, 256, 1, 1},  {28, 256, 0, 3, 2},
    {14, 256, 512, 1, 1}, {14, 512, 0, 3, 1}, {14, 512, 512, 1, 1},  {14, 512, 0, 3, 2},
    {7, 512, 1024, 1, 1}, {7, 1024, 0, 3, 1}, {7, 1024, 1024, 1, 1},
};
static const layer densenet_layers[] = {
    {224, 3, 64, 7, 2},  {56, 128, 32, 3, 1}, {28, 128, 32, 3, 1},
    {14, 128, 32, 3, 1}, {7, 128, 32, 3, 1},
};
static const layer vgg_layers[] = {
    {224, 3, 64, 3, 1},   {112, 64, 128, 3, 1}, {112, 128, 128, 3, 1},
    {56, 256, 256, 3, 1}, {28, 512, 512, 3, 1}, {14, 512, 512, 3, 1},
};

typedef struct network {
    const char *name;
    const layer *layers;
    size_t count;
} network;

#define NETWORK(name)                                                                          \
    {                                                                                          \
#        name, name##_layers, sizeof name##_layers / sizeof *name##_layers                     \
    }
static const network networks[] = {NETWORK(mobilenet), NETWORK(densenet), NETWORK(vgg)};
enum { NETWORKS = sizeof networks / sizeof *networks };

typedef struct bench {
    facs_kernels k;
    facs_context ctx;
    facs_conv g;
    facs_tensor x, y, dx, dy;
    float *w, *packed, *packed_bwd, *dw;
    float *vector[6]; /* (co) each */
} bench;

static const facs_clamp RELU6 = {0, 6}, NO_CLAMP = {-INFINITY, INFINITY};

static void dense_fwd(bench *b)
{
    b->k.conv_fwd(&b->ctx, &b->g, &b->y, &b->x, NULL, b->packed, b->vector[0], RELU6, NULL);
}
static void dense_bwd_x(bench *b)
{
    b->k.conv_bwd_x(&b->ctx, &b->g, &b->dx, &b->x, NULL, &b->dy, NULL, b->packed_bwd, 0);
}
static void dense_bwd_w(bench *b)
{
    b->k.conv_bwd_w(&b->ctx, &b->g, b->dw, &b->x, NULL, &b->dy, NULL);
}
static void dw_fwd(bench *b)
{
    b->k.dwconv_fwd(&b->ctx, &b->g, &b->y, &b->x, NULL, b->packed, b->vector[0], RELU6, NULL);
}
static void dw_bwd(bench *b)
{
    b->k.dwconv_bwd(&b->ctx, &b->g, &b->dx, b->dw, &b->x, NULL, &b->dy, NULL, b->packed, 0);
}
/* The same with the BatchNorms of the neighbours, as in training. */
static facs_norm norm_of(const bench *b)
{
    return (facs_norm){b->vector[0], b->vector[1], b->vector[2],
                       RELU6,        b->vector[4], b->vector[5]};
}
static void dense_fwd_normed(bench *b)
{
    const facs_norm norm = norm_of(b);
    const facs_moments moments = {b->vector[4], b->vector[5]};
    b->k.conv_fwd(&b->ctx, &b->g, &b->y, &b->x, &norm, b->packed, NULL, NO_CLAMP, &moments);
}
static void dense_bwd_normed(bench *b)
{
    const facs_norm norm = norm_of(b);
    const facs_correction correction = {&b->y, b->vector[2], b->vector[3]};
    b->k.conv_bwd_x(&b->ctx, &b->g, &b->dx, &b->x, &norm, &b->dy, &correction, b->packed_bwd,
                    0);
    b->k.conv_bwd_w(&b->ctx, &b->g, b->dw, &b->x, &norm, &b->dy, NULL);
}
static void dw_fwd_normed(bench *b)
{
    const facs_norm norm = norm_of(b);
    const facs_moments moments = {b->vector[4], b->vector[5]};
    b->k.dwconv_fwd(&b->ctx, &b->g, &b->y, &b->x, &norm, b->packed, NULL, NO_CLAMP, &moments);
}
static void dw_bwd_normed(bench *b)
{
    const facs_norm norm = norm_of(b);
    const facs_correction correction = {&b->y, b->vector[2], b->vector[3]};
    b->k.dwconv_bwd(&b->ctx, &b->g, &b->dx, b->dw, &b->x, &norm, &b->dy, &correction, b->packed,
                    0);
}
static void bn_stats(bench *b)
{
    b->k.batchnorm_stats(&b->ctx, b->vector[4], b->vector[5], &b->y);
}
static void affine(bench *b)
{
    b->k.affine_fwd(&b->ctx, &b->dy, &b->y, b->vector[0], b->vector[1], RELU6);
}
static void norm_bwd(bench *b)
{
    const facs_norm norm = norm_of(b);
    b->k.norm_bwd(&b->ctx, &b->dy, &b->y, &norm, &b->dy, 0);
}

typedef struct row {
    const char *name;
    void (*run)(bench *b);
    int depthwise, dense; /* how many products it makes for the layers; 0: not one of theirs */
    int x, y;             /* how often it moves a tensor of x's, of y's size */
} row;

static const row rows[] = {
    {"conv_fwd", dense_fwd, 0, 1, 1, 1},
    {"conv_bwd_x", dense_bwd_x, 0, 1, 1, 1},
    {"conv_bwd_w", dense_bwd_w, 0, 1, 1, 1},
    {"conv_fwd, normed", dense_fwd_normed, 0, 1, 1, 1},
    {"conv_bwd, normed", dense_bwd_normed, 0, 2, 4, 5},
    {"dwconv_fwd", dw_fwd, 1, 0, 1, 1},
    {"dwconv_bwd", dw_bwd, 2, 0, 2, 1},
    {"dwconv_fwd, normed", dw_fwd_normed, 1, 0, 1, 1},
    {"dwconv_bwd, normed", dw_bwd_normed, 2, 0, 2, 2},
    {"batchnorm_stats", bn_stats, 1, 1, 0, 1},
    {"affine_fwd", affine, 1, 1, 0, 2},
    {"norm_bwd", norm_bwd, 1, 1, 0, 3},
};

static float *slab(int64_t count)
{
    float *numbers = NULL;
    if (facs_allocate_slab(&numbers, (size_t)count * sizeof(float), "benchmark")) exit(1);
    for (int64_t i = 0; i < count; i++)
        numbers[i] = (float)((i * 2654435761u >> 8) & 1023) / 512 - 1;
    return numbers;
}

static facs_tensor tensor(int64_t n, int h, int w, int c)
{
    return (facs_tensor){slab(n * h * w * c), n, h, w, c, c};
}

static void bench_open(bench *b, const layer *l, int64_t n)
{
    const int depthwise = l->co == 0, co = depthwise ? l->ci : l->co, oh = l->h / l->stride;
    const int pad = l->kernel == 7 ? 3 : l->kernel == 3 && l->stride == 1;
    b->g = (facs_conv){l->h,      l->h,      l->ci,     oh,  oh,  co,
                       l->kernel, l->kernel, l->stride, pad, pad, depthwise ? l->ci : 1};
    const facs_conv *g = &b->g;
    const int threads = b->ctx.threads;
    const size_t wanted[] = {
        (depthwise ? b->k.dwconv_fwd_scratch : b->k.conv_fwd_scratch)(g, n, threads),
        (depthwise ? b->k.dwconv_bwd_scratch : b->k.conv_bwd_scratch)(g, n, threads),
        b->k.reduce_scratch(co, n * oh * oh, threads),
    };
    size_t scratch = 0;
    for (int i = 0; i < 3; i++) scratch = wanted[i] > scratch ? wanted[i] : scratch;
    b->ctx.scratch = slab((int64_t)(scratch / sizeof(float)) + 16);
    b->x = tensor(n, l->h, l->h, l->ci), b->dx = tensor(n, l->h, l->h, l->ci);
    b->y = tensor(n, oh, oh, co), b->dy = tensor(n, oh, oh, co);
    const int64_t weights = (int64_t)l->kernel * l->kernel * l->ci * (depthwise ? 1 : co);
    b->w = slab(weights), b->dw = slab(weights);
    b->packed = slab(depthwise ? b->k.dwconv_packed(g) : b->k.conv_packed(g));
    b->packed_bwd = slab(depthwise ? 1 : b->k.conv_packed_bwd(g));
    if (depthwise)
        b->k.dwconv_pack(b->packed, g, b->w, NULL);
    else
        b->k.conv_pack(b->packed, g, b->w, NULL), b->k.conv_pack_bwd(b->packed_bwd, g, b->w);
    for (int i = 0; i < 6; i++) b->vector[i] = slab(co > l->ci ? co : l->ci);
}

static void bench_close(bench *b)
{
    facs_free(b->ctx.scratch);
    facs_free(b->x.data), facs_free(b->dx.data), facs_free(b->y.data), facs_free(b->dy.data);
    facs_free(b->w), facs_free(b->dw), facs_free(b->packed), facs_free(b->packed_bwd);
    for (int i = 0; i < 6; i++) facs_free(b->vector[i]);
}

static int compare(const void *a, const void *b)
{
    const double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static double median(double *values)
{
    qsort(values, ROUNDS, sizeof *values, compare);
    return values[ROUNDS / 2];
}

static void bench_row(bench *b, const row *r, copy_block *copy, const layer *l)
{
    const facs_conv *g = &b->g;
    const int depthwise = l->co == 0;
    const double flops = 2.0 * (double)facs_tensor_pixels(&b->y) * g->co * g->kh * g->kw *
                         (depthwise ? r->depthwise : r->dense * (double)g->ci);
    const double bytes = 4.0 * ((double)r->x * (double)facs_tensor_pixels(&b->x) * g->ci +
                                (double)r->y * (double)facs_tensor_pixels(&b->y) * g->co);
    double times[ROUNDS], parts[ROUNDS], copies[ROUNDS];

    r->run(b);
    for (int i = 0; i < ROUNDS; i++) {
        const double peak = measure_peak(b->k.name, b->ctx.threads);
        const double copied = measure_copy(copy, b->ctx.threads);
        const double start = facs_clock_seconds();
        r->run(b);
        times[i] = facs_clock_seconds() - start;
        parts[i] = flops / times[i] / peak;
        copies[i] = bytes / times[i] / copied;
    }
    const double time = median(times);
    const int arithmetic = r->x > 0;
    printf("%-18s %3dx%-3d %4d -> %4d k%d s%d | %8.3f ms | ", r->name, g->h, g->w, g->ci, g->co,
           g->kh, g->stride, time * 1e3);
    if (arithmetic)
        printf("%7.1f GFLOP/s, %3.0f%% of FMA peak | ", flops / time * 1e-9,
               median(parts) * 100);
    else
        printf("%35s | ", "");
    printf("%6.1f GB/s, %3.0f%% of copy\n", bytes / time * 1e-9, median(copies) * 100);
    fflush(stdout);
}

static void bench_network(bench *b, const network *net, int64_t n, const char *wanted,
                          copy_block *copy)
{
    for (size_t i = 0; i < net->count; i++) {
        bench_open(b, net->layers + i, n);
        for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
            if ((net->layers[i].co ? rows[r].dense : rows[r].depthwise) &&
                strncmp(rows[r].name, wanted, strlen(wanted)) == 0)
                bench_row(b, rows + r, copy, net->layers + i);
        bench_close(b);
    }
}

int main(int argc, char **argv)
{
    const char *rung = argc > 1 ? argv[1] : "", *wanted = argc > 4 ? argv[4] : "";
    const char *name = argc > 5 ? argv[5] : "mobilenet";
    const int64_t n = argc > 2 ? atoi(argv[2]) : 64;
    bench b = {.ctx.threads = argc > 3 ? atoi(argv[3]) : facs_threads_default()};
    copy_block copy = {slab(COPY_NUMBERS), slab(COPY_NUMBERS), 64};

    if (!facs_kernels_select(&b.k, rung) || n < 1 || b.ctx.threads < 1) {
        fprintf(stderr, "usage: bench_kernels [rung [batch [threads [row [network]]]]]\n");
        return 1;
    }
    printf("rung %s, batch %d, %d threads: FMA peak %.0f GFLOP/s, copy %.1f GB/s\n", b.k.name,
           (int)n, b.ctx.threads, measure_peak(b.k.name, b.ctx.threads) * 1e-9,
           measure_copy(&copy, b.ctx.threads) * 1e-9);
    for (int i = 0; i < NETWORKS; i++)
        if (strcmp(networks[i].name, name) == 0)
            bench_network(&b, networks + i, n, wanted, &copy);
    facs_free(copy.to), facs_free((void *)copy.from);
    return 0;
}
