#define _POSIX_C_SOURCE 200809L /* fork */

#include "kernel_check.h"

#include "core/threads.h"

#include <sys/wait.h>
#include <unistd.h>

/* Convolutions of every rung against the reference, and as adjoints of each other; plain,
 * and with the BatchNorms of their neighbours; in float and in bfloat16. */

static const facs_clamp NO_CLAMP = {-INFINITY, INFINITY};

/* Whether a plugin is tested beside the CPU's rungs. */
static int on_device;

typedef struct conv_case {
    facs_conv g;
    int depthwise, accumulate;
    sample x, dy, w, scale, bias; /* w: (kh kw ci/groups) x co */
    int biased, scaled;
    facs_clamp clamp;
    int fused;        /* x is read through a norm, dy with a correction */
    sample norm;      /* scale, shift, mean: (3, ci) */
    sample y, linear; /* the correction's y; slope, offset: (2, co) */
    facs_clamp norm_clamp;
} conv_case;

static facs_norm norm_of(const conv_case *c, float *sum, float *weighted)
{
    const float *v = c->norm.t.data;
    const int64_t next = c->norm.t.stride;
    return (facs_norm){.scale = v,
                       .shift = v + next,
                       .mean = v + 2 * next,
                       .clamp = c->norm_clamp,
                       .sum = sum,
                       .weighted = weighted};
}

static facs_correction correction_of(const conv_case *c)
{
    return (facs_correction){&c->y.t, c->linear.t.data, c->linear.t.data + c->linear.t.stride};
}

/* Rounding must not decide on which side of a clamp an input lies. */
static void avoid_edges(conv_case *c)
{
    const facs_norm norm = norm_of(c, NULL, NULL);
    for (int64_t p = 0; p < facs_tensor_pixels(&c->x.t); p++)
        for (int i = 0; i < c->x.t.c; i++) {
            float *x = c->x.t.data + p * c->x.t.stride + i;
            const float y = norm.scale[i] * *x + norm.shift[i];
            if (fabsf(y - norm.clamp.low) < 1e-3f || fabsf(y - norm.clamp.high) < 1e-3f)
                *x = representable(*x +
                                   0.05f / (norm.scale[i] + copysignf(0.1f, norm.scale[i])));
        }
}

static int channels_below(facs_rng *rng, int limit)
{
    static const int choices[] = {1, 3, 5, 8, 16, 17, 32, 33, 64, 100};
    int c;
    do c = choices[facs_rng_below(rng, 10)];
    while (c > limit);
    return c;
}

static facs_conv random_geometry(facs_rng *rng, int depthwise)
{
    static const int kernels[][2] = {{1, 1}, {3, 3}, {3, 3}, {2, 2}, {5, 3}, {1, 7}};
    const int *kernel = kernels[facs_rng_below(rng, 6)];
    facs_conv g = {.kh = kernel[0], .kw = kernel[1], .groups = 1};

    g.stride = 1 + (int)facs_rng_below(rng, 3);
    g.pad_top = (int)facs_rng_below(rng, (uint32_t)g.kh);
    g.pad_left = (int)facs_rng_below(rng, (uint32_t)g.kw);
    g.h = 1 + (int)facs_rng_below(rng, 17);
    g.w = 1 + (int)facs_rng_below(rng, 17);
    g.ci = channels_below(rng, g.kh * g.kw > 1 && !depthwise ? 33 : 100);
    g.co = depthwise ? g.ci : channels_below(rng, 100);
    if (depthwise) g.groups = g.ci;
    /* As far as the padding behind is smaller than the kernel. */
    const int behind = (int)facs_rng_below(rng, (uint32_t)g.kh);
    g.oh = (g.h + g.pad_top + behind - g.kh) / g.stride + 1;
    g.ow = (g.w + g.pad_left + behind % g.kw - g.kw) / g.stride + 1;
    if (g.h + g.pad_top + behind < g.kh || g.w + g.pad_left + behind % g.kw < g.kw)
        return random_geometry(rng, depthwise);
    return g;
}

static conv_case case_create(facs_rng *rng, const facs_conv *g, int64_t n)
{
    static const int x_gaps[] = {0, 5, 8}, dy_gaps[] = {0, 7, 16};
    conv_case c = {.g = *g, .depthwise = g->groups > 1 || (g->ci == 1 && g->co == 1)};
    const int inputs = g->ci / g->groups;
    /* As images lie; large ones always. */
    const int four_a_pixel = g->ci == 3 && (facs_rng_below(rng, 2) || g->h >= 128);
    const int x_gap = four_a_pixel ? 1 : x_gaps[facs_rng_below(rng, 3)];
    c.x = sample_random(rng, n, g->h, g->w, g->ci, x_gap);
    c.dy = sample_random(rng, n, g->oh, g->ow, g->co, dy_gaps[facs_rng_below(rng, 3)]);
    c.w = sample_random(rng, 1, 1, g->kh * g->kw * inputs, g->co, 0);
    c.scale = sample_random(rng, 1, 1, 1, g->co, 0);
    c.bias = sample_random(rng, 1, 1, 1, g->co, 0);
    c.biased = (int)facs_rng_below(rng, 2);
    c.g.few = (int)facs_rng_below(rng, 2);
    c.scaled = (int)facs_rng_below(rng, 2);
    c.accumulate = (int)facs_rng_below(rng, 2);
    c.clamp = NO_CLAMP;
    c.norm = sample_random(rng, 1, 1, 3, g->ci, 2);
    c.y = sample_random(rng, n, g->oh, g->ow, g->co, n % 2 ? 8 : 4);
    c.linear = sample_random(rng, 1, 1, 2, g->co, 1);
    c.norm_clamp = (facs_clamp){-0.4f, 0.7f};
    avoid_edges(&c);
    return c;
}

static conv_case case_magnitudes(const conv_case *c)
{
    conv_case m = *c;
    m.x = sample_magnitudes(&c->x);
    m.dy = sample_magnitudes(&c->dy);
    m.w = sample_magnitudes(&c->w);
    m.scale = sample_magnitudes(&c->scale);
    m.bias = sample_magnitudes(&c->bias);
    m.clamp = m.norm_clamp = NO_CLAMP;
    m.norm = sample_magnitudes(&c->norm);
    for (int i = 0; i < c->g.ci; i++) m.norm.t.data[2 * m.norm.t.stride + i] *= -1;
    m.y = sample_magnitudes(&c->y);
    m.linear = sample_magnitudes(&c->linear);
    return m;
}

static void case_free(conv_case *c)
{
    block_free(c->x.block);
    block_free(c->dy.block);
    block_free(c->w.block);
    block_free(c->scale.block);
    block_free(c->bias.block);
    block_free(c->norm.block);
    block_free(c->y.block);
    block_free(c->linear.block);
}

static size_t fwd_scratch_of(const facs_kernels *k, const conv_case *c, int threads)
{
    return (c->depthwise ? k->dwconv_fwd_scratch : k->conv_fwd_scratch)(&c->g, c->x.t.n,
                                                                        threads);
}

static size_t bwd_scratch_of(const facs_kernels *k, const conv_case *c, int threads)
{
    return (c->depthwise ? k->dwconv_bwd_scratch : k->conv_bwd_scratch)(&c->g, c->x.t.n,
                                                                        threads);
}

static sample packed_of(const facs_kernels *k, const conv_case *c, int backward)
{
    const facs_conv *g = &c->g;
    const float *scale = c->scaled && !backward ? c->scale.t.data : NULL;
    int64_t count = backward ? k->conv_packed_bwd(g) : k->conv_packed(g);
    if (c->depthwise) count = k->dwconv_packed(g);
    sample packed = sample_create(1, 1, 1, (int)count, 0);
    if (c->depthwise)
        k->dwconv_pack(packed.t.data, g, c->w.t.data, scale);
    else if (backward)
        k->conv_pack_bwd(packed.t.data, g, c->w.t.data);
    else
        k->conv_pack(packed.t.data, g, c->w.t.data, scale);
    CHECK(sample_spoiled(&packed) == 0);
    return packed;
}

static void forward(const facs_kernels *k, int threads, const conv_case *c, facs_tensor *out,
                    const facs_moments *moments)
{
    const size_t size = fwd_scratch_of(k, c, threads);
    const facs_norm norm = norm_of(c, NULL, NULL);
    facs_context ctx = context_create(size, threads);
    sample packed = packed_of(k, c, 0);
    held x = hold(k, &c->x.t), y = hold(k, out);
    (c->depthwise ? k->dwconv_fwd : k->conv_fwd)(
        &ctx, &c->g, &y.t, &x.t, c->fused ? &norm : NULL, packed.t.data,
        c->biased ? c->bias.t.data : NULL, c->clamp, moments);
    release(&x, NULL);
    release(&y, out);
    block_free(packed.block);
    context_check_and_free(&ctx, size);
}

/* bwd_x leaves dy corrected. */
static void check_corrected(const conv_case *c, const sample *dy)
{
    const facs_correction due = correction_of(c);
    double worst = 0;
    for (int64_t p = 0; p < facs_tensor_pixels(&dy->t); p++)
        for (int i = 0; i < dy->t.c; i++) {
            const double wanted = (double)c->dy.t.data[p * c->dy.t.stride + i] +
                                  (double)due.slope[i] * c->y.t.data[p * c->y.t.stride + i] +
                                  due.offset[i];
            worst = fmax(worst, fabs(wanted - dy->t.data[p * dy->t.stride + i]));
        }
    CHECK(worst < (narrow_samples ? 0x1p-6 : 1e-6)); /* up to 3 in size */
}

/* Whichever of dx, dw and the norm's sums are not NULL. */
static void backward(const facs_kernels *k, int threads, const conv_case *c, facs_tensor *dx,
                     float *dw, float *sum, float *weighted)
{
    const size_t size = bwd_scratch_of(k, c, threads);
    const facs_norm own = norm_of(c, sum, weighted), *norm = c->fused ? &own : NULL;
    sample packed = packed_of(k, c, !c->depthwise), dy = sample_copy(&c->dy);
    const facs_tensor none = {0};
    held x = hold(k, &c->x.t), y = hold(k, &c->y.t), dx_held = hold(k, dx ? dx : &none);
    held dy_held = hold(k, &dy.t);
    facs_correction due = correction_of(c), *correction = c->fused ? &due : NULL;
    facs_tensor *target = dx ? &dx_held.t : NULL;
    facs_context ctx = context_create(size, threads);
    due.y = &y.t;
    if (c->depthwise)
        k->dwconv_bwd(&ctx, &c->g, target, dw, &x.t, norm, &dy_held.t, correction,
                      packed.t.data, c->accumulate);
    else if (dw && (dx || sum))
        k->conv_bwd(&ctx, &c->g, target, dw, &x.t, norm, &dy_held.t, correction, packed.t.data,
                    c->accumulate);
    else if (dw)
        k->conv_bwd_w(&ctx, &c->g, dw, &x.t, norm, &dy_held.t, correction);
    else if (dx || sum)
        k->conv_bwd_x(&ctx, &c->g, target, &x.t, norm, &dy_held.t, correction, packed.t.data,
                      c->accumulate);
    release(&x, NULL);
    release(&y, NULL);
    release(&dx_held, dx);
    release(&dy_held, &dy.t);
    CHECK(sample_spoiled(&dy) == 0);
    if (c->fused && !c->depthwise && !dw) check_corrected(c, &dy);
    block_free(packed.block);
    block_free(dy.block);
    context_check_and_free(&ctx, size);
}

static void run_fwd(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    forward(k, threads, data, out, NULL);
}

static void run_moments(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    const conv_case *c = data;
    const facs_moments moments = {out->data, out->data + out->stride};
    sample y = sample_create(c->dy.t.n, c->g.oh, c->g.ow, c->g.co, 2);
    forward(k, threads, c, &y.t, &moments);
    block_free(y.block);
}

static void run_bwd_x(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    backward(k, threads, data, out, NULL, NULL, NULL);
}

static void run_bwd_w(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    backward(k, threads, data, NULL, out->data, NULL, NULL);
}

static void run_bwd_sums(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    backward(k, threads, data, NULL, NULL, out->data, out->data + out->stride);
}

/* Both gradients at once, of which one is looked at. */
static void run_both(const facs_kernels *k, int threads, const conv_case *c, facs_tensor *dx,
                     float *dw, float *sums, int64_t stride)
{
    sample input = sample_create(c->dy.t.n, c->g.h, c->g.w, c->g.ci, 6);
    sample weights = sample_create(1, 1, c->g.kh * c->g.kw * c->g.ci, c->g.co, 0);
    backward(k, threads, c, dx ? dx : &input.t, dw ? dw : weights.t.data, sums,
             sums ? sums + stride : NULL);
    block_free(input.block);
    block_free(weights.block);
}

static void run_both_x(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    run_both(k, threads, data, out, NULL, NULL, 0);
}

static void run_both_w(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    run_both(k, threads, data, NULL, out->data, NULL, 0);
}

static void run_both_sums(const facs_kernels *k, int threads, const void *data,
                          facs_tensor *out)
{
    run_both(k, threads, data, NULL, NULL, out->data, out->stride);
}

/* Where what x is of is frozen: dw and the sums of the norm, no dx. */
static void run_sums_w(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    const conv_case *c = data;
    sample sums = sample_create(1, 1, 2, c->g.ci, 3);
    backward(k, threads, c, NULL, out->data, sums.t.data, sums.t.data + sums.t.stride);
    block_free(sums.block);
}

static void run_w_sums(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    const conv_case *c = data;
    sample weights = sample_create(1, 1, c->g.kh * c->g.kw * c->g.ci, c->g.co, 0);
    backward(k, threads, c, NULL, weights.t.data, out->data, out->data + out->stride);
    block_free(weights.block);
}

/* Rounding of a sum of count terms in any order grows like the root of their number. */
static double ulps_of(int64_t count)
{
    return 2 + 2 * sqrt((double)count);
}

/* The moments that a convolution takes are those of what it writes. */
static void check_moments(const conv_case *c, const char *name)
{
    facs_kernels k;
    for (int rung = 0; checked_rung(&k, rung); rung++) {
        sample y = sample_create(c->dy.t.n, c->g.oh, c->g.ow, c->g.co, 2);
        sample taken[3];
        double mean = 0, variance = 0;

        run_fwd(&k, 2, c, &y.t);
        for (int i = 0; i < 3; i++) taken[i] = sample_create(1, 1, 2, c->g.co, 1);
        run_moments(&k, 1, c, &taken[0].t);
        run_moments(&k, 7, c, &taken[1].t);
        facs_kernels ref;
        const facs_context ctx = {1, NULL};
        CHECK(facs_kernels_select(&ref, "ref"));
        ref.batchnorm_stats(&ctx, taken[2].t.data, taken[2].t.data + taken[2].t.stride, &y.t);
        for (int i = 0; i < c->g.co; i++) {
            const float *a = taken[0].t.data + i, *b = taken[2].t.data + i;
            mean = fmax(mean, fabs((double)a[0] - b[0]));
            variance =
                fmax(variance, fabs((double)a[taken[0].t.stride] - b[taken[2].t.stride]));
        }
        /* y is clamped to half a unit around 0 */
        if (!(mean < 1e-6) || !(variance < 1e-6))
            printf("%s, rung %s: moments are off by %g and %g\n", name, k.name, mean, variance);
        CHECK(mean < 1e-6);
        CHECK(variance < 1e-6);
        CHECK(memcmp(taken[0].block, taken[1].block, (size_t)taken[0].count * 4) == 0);
        for (int i = 0; i < 3; i++) CHECK(sample_spoiled(&taken[i]) == 0);
        for (int i = 0; i < 3; i++) block_free(taken[i].block);
        block_free(y.block);
    }
}

static void check_case(facs_rng *rng, const facs_conv *g, int64_t n)
{
    conv_case c = case_create(rng, g, n);
    conv_case m = case_magnitudes(&c);
    const int inputs = g->ci / g->groups, outputs = g->co / g->groups;
    sample y = sample_random(rng, n, g->oh, g->ow, g->co, n % 2 ? 8 : 3);
    sample dx = sample_random(rng, n, g->h, g->w, g->ci, n % 2 ? 8 : 6);
    sample dw = sample_random(rng, 1, 1, g->kh * g->kw * inputs, g->co, 0);
    sample sums = sample_random(rng, 1, 1, 2, g->ci, 3);
    const double depth = g->kh * g->kw * inputs, reached = g->kh * g->kw * outputs;
    const double pixels = (double)n * g->oh * g->ow, inner = (double)n * g->h * g->w;
    char name[160];

    snprintf(name, sizeof name,
             "%s n %d, %dx%dx%d to %dx%dx%d, kernel %dx%d, stride %d, pad %d %d",
             c.depthwise ? "depthwise" : "dense", (int)n, g->h, g->w, g->ci, g->oh, g->ow,
             g->co, g->kh, g->kw, g->stride, g->pad_top, g->pad_left);
    for (c.fused = 0; c.fused < 2; c.fused++) {
        m.fused = c.fused;
        c.clamp = NO_CLAMP;
        check_rungs(name, run_fwd, &c, &m, &y, ulps_of(depth));
        c.clamp = (facs_clamp){-0.2f, 0.3f};
        check_rungs(name, run_fwd, &c, &m, &y, ulps_of(depth));
        check_rungs(name, run_bwd_x, &c, &m, &dx, ulps_of(reached) + 4);
        check_rungs(name, run_bwd_w, &c, &m, &dw, ulps_of(pixels) + 4);
        if (c.depthwise || (g->kh > 1 && !on_device)) continue;
        check_rungs(name, run_both_x, &c, &m, &dx, ulps_of(reached) + 4);
        check_rungs(name, run_both_w, &c, &m, &dw, ulps_of(pixels) + 4);
    }
    c.fused = m.fused = 1;
    if (!c.depthwise && g->kh == 1) {
        check_rungs(name, run_both_sums, &c, &m, &sums, ulps_of(reached) + ulps_of(inner));
        check_rungs(name, run_sums_w, &c, &m, &dw, ulps_of(pixels) + 4);
        check_rungs(name, run_w_sums, &c, &m, &sums, ulps_of(reached) + ulps_of(inner));
    }
    check_rungs(name, run_bwd_sums, &c, &m, &sums, ulps_of(reached) + ulps_of(inner));
    check_moments(&c, name);
    block_free(sums.block);
    block_free(y.block);
    block_free(dx.block);
    block_free(dw.block);
    case_free(&c);
    case_free(&m);
}

static double inner_product(const facs_tensor *a, const facs_tensor *b)
{
    double sum = 0;
    for (int64_t p = 0; p < facs_tensor_pixels(a); p++)
        for (int c = 0; c < a->c; c++)
            sum += (double)a->data[p * a->stride + c] * b->data[p * b->stride + c];
    return sum;
}

/* <conv(x, w), dy> = <x, conv'(dy, w)> = <w, dw>, on every rung by itself. */
static void check_adjoint(facs_rng *rng, const facs_conv *g, int64_t n)
{
    conv_case c = case_create(rng, g, n);
    sample y = sample_random(rng, n, g->oh, g->ow, g->co, 3);
    sample dx = sample_random(rng, n, g->h, g->w, g->ci, 6);
    sample dw = sample_copy(&c.w);
    c.biased = c.scaled = c.accumulate = 0;
    facs_kernels k;
    for (int rung = 0; checked_rung(&k, rung); rung++) {
        run_fwd(&k, 2, &c, &y.t);
        run_bwd_x(&k, 2, &c, &dx.t);
        run_bwd_w(&k, 2, &c, &dw.t);
        const double product = inner_product(&y.t, &c.dy.t);
        /* float rounding of each side against the norms that bound the product */
        const double size = sqrt(inner_product(&y.t, &y.t) * inner_product(&c.dy.t, &c.dy.t));
        CHECK_CLOSE(inner_product(&dx.t, &c.x.t), product, 1e-5 * size);
        CHECK_CLOSE(inner_product(&dw.t, &c.w.t), product, 1e-5 * size);
    }
    block_free(y.block);
    block_free(dx.block);
    block_free(dw.block);
    case_free(&c);
}

/* Largest error of an output or a gradient against their root mean square, on every rung. A
 * fast algorithm adds terms larger than the direct ones, which the bounds of
 * check_case are too wide to see. */
static void check_precision(facs_rng *rng, const facs_conv *g, int64_t n, double limit)
{
    static run_function *const passes[] = {run_fwd, run_bwd_x, run_bwd_w};
    static const char *const names[] = {"forward", "input gradient", "weight gradient"};
    conv_case c = case_create(rng, g, n);
    facs_kernels ref;
    c.biased = c.scaled = c.accumulate = 0;
    for (int pass = 0; pass < 3; pass++) {
        run_function *run = passes[pass];
        sample expected = pass == 0   ? sample_create(n, g->oh, g->ow, g->co, 0)
                          : pass == 1 ? sample_create(n, g->h, g->w, g->ci, 0)
                                      : sample_create(1, g->kh * g->kw, g->ci, g->co, 0);
        CHECK(facs_kernels_select(&ref, "ref"));
        run(&ref, 1, &c, &expected.t);
        const int64_t count = facs_tensor_pixels(&expected.t) * expected.t.c;
        const double size = sqrt(inner_product(&expected.t, &expected.t) / (double)count);
        facs_kernels k;
        for (int rung = 0; checked_rung(&k, rung); rung++) {
            double worst = 0;
            sample got = sample_copy(&expected);
            run(&k, 2, &c, &got.t);
            for (int64_t i = 0; i < count; i++)
                worst = fmax(worst, fabs((double)got.t.data[i] - expected.t.data[i]));
            if (!(worst <= limit * size))
                printf("rung %s, %s: error %.1e of %.1e\n", k.name, names[pass], worst / size,
                       limit);
            CHECK(worst <= limit * size);
            block_free(got.block);
        }
        block_free(expected.block);
    }
    case_free(&c);
}

/* Real layers, and shapes at which blocks, squares and runs are cut. */
static const facs_conv fixed[] = {
    {17, 13, 3, 9, 7, 32, 3, 3, 2, 1, 1, 1},      {16, 12, 3, 8, 6, 32, 3, 3, 2, 0, 0, 1},
    {14, 14, 33, 14, 14, 100, 1, 1, 1, 0, 0, 1},  {9, 10, 300, 9, 10, 300, 1, 1, 1, 0, 0, 1},
    {1, 1, 512, 1, 1, 12, 1, 1, 1, 0, 0, 1},      {7, 7, 64, 7, 7, 33, 3, 3, 1, 1, 1, 1},
    {6, 6, 16, 6, 6, 16, 3, 3, 1, 1, 1, 1},       {13, 18, 17, 11, 16, 33, 3, 3, 1, 0, 0, 1},
    {9, 7, 31, 10, 7, 19, 3, 3, 1, 2, 0, 1},      {8, 8, 48, 10, 10, 65, 3, 3, 1, 2, 2, 1},
    {14, 14, 128, 14, 14, 32, 3, 3, 1, 1, 1, 1},  {30, 27, 16, 30, 27, 17, 3, 3, 1, 1, 1, 1},
    {12, 12, 40, 12, 12, 300, 3, 3, 1, 1, 1, 1},  {6, 7, 256, 6, 7, 160, 3, 3, 1, 1, 1, 1},
    {13, 17, 17, 7, 9, 33, 1, 1, 2, 0, 0, 1},     {17, 13, 32, 17, 13, 32, 3, 3, 1, 1, 1, 32},
    {16, 14, 33, 8, 7, 33, 3, 3, 2, 0, 0, 33},    {17, 13, 17, 9, 7, 17, 3, 3, 2, 1, 1, 17},
    {15, 9, 100, 15, 9, 100, 5, 5, 1, 2, 2, 100}, {1, 1, 64, 1, 1, 64, 3, 3, 1, 1, 1, 64},
    {23, 29, 8, 23, 29, 16, 1, 1, 1, 0, 0, 1},    {61, 61, 128, 61, 61, 136, 1, 1, 1, 0, 0, 1},
    {9, 10, 600, 9, 10, 96, 1, 1, 1, 0, 0, 1},    {8, 9, 400, 8, 9, 400, 1, 1, 1, 0, 0, 1},
    {2, 2, 5, 1, 1, 5, 3, 3, 2, 0, 0, 5},         {9, 270, 3, 5, 135, 40, 3, 3, 2, 1, 1, 1},
    {19, 21, 3, 10, 11, 64, 7, 7, 2, 3, 3, 1},    {7, 8, 1024, 7, 8, 528, 1, 1, 1, 0, 0, 1},
};

/* More tiles of every size than a GPU takes at a time, and depths that few kernels are for. */
static const struct {
    facs_conv g;
    int64_t n;
} many_tiles[] = {
    {{96, 96, 64, 96, 96, 64, 1, 1, 1, 0, 0, 1}, 8},
    {{72, 72, 128, 72, 72, 128, 1, 1, 1, 0, 0, 1}, 8},
    {{120, 120, 32, 120, 120, 32, 1, 1, 1, 0, 0, 1}, 8},
    {{96, 96, 32, 96, 96, 32, 3, 3, 1, 1, 1, 1}, 4},
    {{11, 9, 64, 11, 9, 32, 3, 3, 1, 1, 1, 1}, 3},
    {{14, 14, 96, 14, 14, 32, 3, 3, 1, 1, 1, 1}, 2},
    {{128, 128, 3, 64, 64, 32, 3, 3, 2, 1, 1, 1}, 9},
    {{7, 7, 1024, 7, 7, 1024, 3, 3, 1, 1, 1, 1024}, 140},
};

enum {
    FIXED = sizeof fixed / sizeof *fixed,
    DRAWN = 60,
    CASES = FIXED + DRAWN + 3,
    MANY = sizeof many_tiles / sizeof *many_tiles /* where a GPU is tested */
};

static void check_geometry(facs_rng *rng, const facs_conv *g, int64_t n)
{
    for (narrow_samples = 0; narrow_samples < 2; narrow_samples++) check_case(rng, g, n);
    narrow_samples = 0;
}

static void check_one(int i)
{
    /* Runs of more tiles than are transformed at once, squares of one channel. */
    static const facs_conv runs = {30, 27, 65, 30, 27, 65, 3, 3, 1, 1, 1, 1};
    /* Against the largest output a quarter of these; the error of a sum grows with its
     * depth, here 128 and 512. */
    static const facs_conv dense_block = {15, 13, 128, 15, 13, 32, 3, 3, 1, 1, 1, 1};
    static const facs_conv deep = {14, 14, 512, 14, 14, 64, 3, 3, 1, 1, 1, 1};
    facs_rng rng = facs_rng_stream(1, FACS_RNG_SYNTHETIC, 0, (uint32_t)i);

    if (i >= CASES) {
        narrow_samples = 1;
        check_case(&rng, &many_tiles[i - CASES].g, many_tiles[i - CASES].n);
        narrow_samples = 0;
    } else if (i < FIXED) {
        check_geometry(&rng, fixed + i, 1);
        check_geometry(&rng, fixed + i, 2);
        check_adjoint(&rng, fixed + i, 2);
    } else if (i < FIXED + DRAWN) {
        const facs_conv g = random_geometry(&rng, i % 2);
        check_geometry(&rng, &g, 1 + i % 5);
        check_adjoint(&rng, &g, 2);
    } else if (i == CASES - 3) {
        check_case(&rng, &runs, 9);
    } else if (i == CASES - 2) {
        check_precision(&rng, &dense_block, 2, 1.2e-5);
    } else {
        check_precision(&rng, &deep, 1, 2.5e-5);
    }
}

/* Every case in turn is taken by the next of `parts`, the largest first. FACS_TEST_SHARE=N:
 * only every Nth case. */
static void check_part(int part, int parts)
{
    const int many = on_device && !getenv("FACS_TEST_DRIVER") ? MANY : 0;
    const char *text = getenv("FACS_TEST_SHARE");
    const int share = text && atoi(text) > 0 ? atoi(text) : 1;
    for (int i = CASES + many - 1; i >= 0; i--)
        if (i % share == 0 && i / share % parts == part) check_one(i);
}

typedef struct child {
    pid_t process;
    int counts; /* where it writes what it counted */
} child;

static child child_create(int part, int parts)
{
    int ends[2], counted[2];
    if (pipe(ends) != 0) return (child){-1, -1};
    fflush(stdout);
    const pid_t process = fork();
    if (process != 0) {
        close(ends[1]);
        return (child){process, ends[0]};
    }
    check_part(part, parts);
    counted[0] = check_passed, counted[1] = check_failed;
    fflush(stdout);
    _exit(write(ends[1], counted, sizeof counted) != sizeof counted);
}

static void child_join(child c)
{
    int counted[2] = {0, 0}, status = 1;
    CHECK(c.process > 0 && read(c.counts, counted, sizeof counted) == sizeof counted);
    CHECK(c.process > 0 && waitpid(c.process, &status, 0) == c.process && status == 0);
    check_passed += counted[0], check_failed += counted[1];
    close(c.counts);
}

/* Most of the time goes into the reference, which a GPU waits for: several processes share it
 * then. Without one the kernels' own workers have the processors. */
int main(void)
{
    enum { MOST = 12 };
    const char *path = getenv("FACS_TEST_PLUGIN");
    on_device = path && *path;
    const int threads = on_device ? facs_threads_default() : 1;
    const int parts = threads < MOST ? threads : MOST;
    child children[MOST];

    for (int i = 1; i < parts; i++) children[i] = child_create(i, parts);
    check_part(0, parts);
    for (int i = 1; i < parts; i++) child_join(children[i]);
    return check_report("kernels_conv");
}
