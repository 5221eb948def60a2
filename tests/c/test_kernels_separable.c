#include "kernel_check.h"

/* Separable convolutions in one pass, and several of them in one: against the reference, and
 * bit for bit against the same rung's convolutions one behind the other; in float and in
 * bfloat16. */

static const facs_clamp NO_CLAMP = {-INFINITY, INFINITY};

enum { EXPAND, DEPTHWISE, PROJECT, LAYERS };

typedef struct separable_case {
    const struct separable_case *before; /* whose result this one reads, or NULL: x */
    facs_conv g[LAYERS];
    int expands, biased, added;
    sample x, residual, w[LAYERS], bias[LAYERS];
    facs_clamp clamp[LAYERS];
} separable_case;

typedef struct shape {
    int h, w, c, wide, out; /* wide: channels of the depthwise convolution */
    int expand, stride;     /* kernel of the dense convolution before it, 0: none; its stride */
    int dw_stride, pad;     /* pad of the depthwise convolution, before */
    int dw_end;             /* and behind */
} shape;

static int output_size(int size, int kernel, int stride, int before, int behind)
{
    return (size + before + behind - kernel) / stride + 1;
}

static separable_case case_create(facs_rng *rng, const shape *s, int64_t n)
{
    const int h = s->expand ? output_size(s->h, s->expand, s->stride, 0, s->expand / 2) : s->h;
    const int w = s->expand ? output_size(s->w, s->expand, s->stride, 0, s->expand / 2) : s->w;
    const int wide = s->expand ? s->wide : s->c;
    const int oh = output_size(h, 3, s->dw_stride, s->pad, s->dw_end);
    const int ow = output_size(w, 3, s->dw_stride, s->pad, s->dw_end);
    separable_case c = {.expands = s->expand > 0};

    c.g[EXPAND] =
        (facs_conv){s->h, s->w, s->c, h, w, wide, s->expand, s->expand, s->stride, 0, 0, 1};
    c.g[DEPTHWISE] =
        (facs_conv){h, w, wide, oh, ow, wide, 3, 3, s->dw_stride, s->pad, s->pad, wide};
    c.g[PROJECT] = (facs_conv){oh, ow, wide, oh, ow, s->out, 1, 1, 1, 0, 0, 1};
    c.x = sample_random(rng, n, s->h, s->w, s->c, (int)facs_rng_below(rng, 3) * 5);
    c.residual = sample_random(rng, n, oh, ow, s->out, (int)facs_rng_below(rng, 2) * 3);
    c.biased = (int)facs_rng_below(rng, 2);
    c.added = (int)facs_rng_below(rng, 2);
    for (int i = 0; i < LAYERS; i++) {
        const facs_conv *g = &c.g[i];
        const int inputs = g->ci / g->groups, taps = g->kh * g->kw * inputs;
        c.w[i] = sample_random(rng, 1, 1, taps ? taps : 1, g->co, 0);
        c.bias[i] = sample_random(rng, 1, 1, 1, g->co, 0);
        c.clamp[i] = i < PROJECT && facs_rng_below(rng, 3) ? (facs_clamp){0, 6} : NO_CLAMP;
    }
    return c;
}

static separable_case case_magnitudes(const separable_case *c)
{
    separable_case m = *c;
    m.x = sample_magnitudes(&c->x);
    m.residual = sample_magnitudes(&c->residual);
    for (int i = 0; i < LAYERS; i++) {
        m.w[i] = sample_magnitudes(&c->w[i]);
        m.bias[i] = sample_magnitudes(&c->bias[i]);
        m.clamp[i] = NO_CLAMP;
    }
    return m;
}

static void case_free(separable_case *c)
{
    block_free(c->x.block);
    block_free(c->residual.block);
    for (int i = 0; i < LAYERS; i++) {
        block_free(c->w[i].block);
        block_free(c->bias[i].block);
    }
}

static facs_separable shape_of(const separable_case *c)
{
    return (facs_separable){.expand.g = c->expands ? &c->g[EXPAND] : NULL,
                            .depthwise.g = &c->g[DEPTHWISE],
                            .project.g = &c->g[PROJECT]};
}

static facs_layer layer_create(const facs_kernels *k, const separable_case *c, int i)
{
    const facs_conv *g = &c->g[i];
    const int64_t count = i == DEPTHWISE ? k->dwconv_packed(g) : k->conv_packed(g);
    float *packed = block_allocate((size_t)count * sizeof *packed);
    if (i == DEPTHWISE)
        k->dwconv_pack(packed, g, c->w[i].t.data, NULL);
    else
        k->conv_pack(packed, g, c->w[i].t.data, NULL);
    return (facs_layer){g, packed, c->biased ? c->bias[i].t.data : NULL, c->clamp[i]};
}

static void layer_free(const facs_layer *l)
{
    block_free((void *)(uintptr_t)l->packed);
}

/* Those of a case, and of what is before it. */
static void layers_create(const facs_kernels *k, const separable_case *c,
                          facs_separable s[FACS_SEPARABLE_MOST])
{
    for (int i = 0; c && i < FACS_SEPARABLE_MOST; i++, c = c->before) {
        s[i] = (facs_separable){.depthwise = layer_create(k, c, DEPTHWISE),
                                .project = layer_create(k, c, PROJECT)};
        if (c->expands) s[i].expand = layer_create(k, c, EXPAND);
        if (c->before) s[i].before = &s[i + 1];
    }
}

static void layers_free(const facs_separable *s)
{
    for (; s; s = s->before) {
        if (s->expand.g) layer_free(&s->expand);
        layer_free(&s->depthwise);
        layer_free(&s->project);
    }
}

static const separable_case *first_of(const separable_case *c)
{
    while (c->before) c = c->before;
    return c;
}

/* But for the size of maps, by which a rung chooses what is worth it. */
static int rung_has(const facs_kernels *k, const separable_case *c)
{
    const facs_separable s = shape_of(c);
    return k->separable_suits(&s) && (!c->before || rung_has(k, c->before));
}

static void run_fused(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    const separable_case *c = data;
    facs_separable s[FACS_SEPARABLE_MOST];
    facs_kernels ref;

    CHECK(facs_kernels_select(&ref, "ref"));
    if (!rung_has(k, c)) k = &ref;
    layers_create(k, c, s);
    const size_t size = k->separable_fwd_scratch(s, c->x.t.n, threads);
    facs_context ctx = context_create(size, threads);
    held x = hold(k, &first_of(c)->x.t), residual = hold(k, &c->residual.t), y = hold(k, out);
    k->separable_fwd(&ctx, s, &y.t, &x.t, c->added ? &residual.t : NULL);
    release(&x, NULL);
    release(&residual, NULL);
    release(&y, out);
    layers_free(s);
    context_check_and_free(&ctx, size);
}

static void run_layer(const facs_kernels *k, const separable_case *c, int i, facs_tensor *y,
                      const facs_tensor *x)
{
    const facs_conv *g = &c->g[i];
    const size_t size =
        (i == DEPTHWISE ? k->dwconv_fwd_scratch : k->conv_fwd_scratch)(g, x->n, 1);
    facs_context ctx = context_create(size, 1);
    facs_layer l = layer_create(k, c, i);
    (i == DEPTHWISE ? k->dwconv_fwd : k->conv_fwd)(&ctx, g, y, x, NULL, l.packed, l.bias,
                                                   l.clamp, NULL);
    layer_free(&l);
    context_check_and_free(&ctx, size);
}

static void run_apart(const facs_kernels *k, const separable_case *c, facs_tensor *out)
{
    const facs_conv *d = &c->g[DEPTHWISE];
    const facs_context ctx = {1, NULL};
    sample wide = sample_create(c->x.t.n, d->h, d->w, d->ci, 0);
    sample middle = sample_create(c->x.t.n, d->oh, d->ow, d->co, 0);
    if (c->before) run_apart(k, c->before, &((separable_case *)(uintptr_t)c)->x.t);
    held x = hold(k, &c->x.t), residual = hold(k, &c->residual.t), y = hold(k, out);
    held a = hold(k, &wide.t), b = hold(k, &middle.t);

    if (c->expands) run_layer(k, c, EXPAND, &a.t, &x.t);
    run_layer(k, c, DEPTHWISE, &b.t, c->expands ? &a.t : &x.t);
    run_layer(k, c, PROJECT, &y.t, &b.t);
    if (c->added) k->add_fwd(&ctx, &y.t, &residual.t, NULL, &y.t, NULL);
    release(&x, NULL);
    release(&residual, NULL);
    release(&y, out);
    release(&a, NULL);
    release(&b, NULL);
    block_free(wide.block);
    block_free(middle.block);
}

/* Returns how many rungs fuse the case. */
static int check_apart(const char *name, const separable_case *c, const sample *start)
{
    int fusing = 0;
    facs_kernels k;
    for (int rung = 0; checked_rung(&k, rung); rung++) {
        if (!rung_has(&k, c)) continue;
        sample fused = sample_copy(start), apart = sample_copy(start);
        run_fused(&k, 2, c, &fused.t);
        run_apart(&k, c, &apart.t);
        const int equal =
            memcmp(fused.block, apart.block, (size_t)fused.count * sizeof(float)) == 0;
        if (!equal) printf("%s, rung %s: not the bits of the convolutions\n", name, k.name);
        CHECK(equal);
        block_free(fused.block);
        block_free(apart.block);
        fusing++;
    }
    return fusing;
}

static int check_case(facs_rng *rng, const shape *s, int64_t n)
{
    separable_case c = case_create(rng, s, n), m = case_magnitudes(&c);
    const facs_conv *q = &c.g[PROJECT];
    sample y = sample_random(rng, n, q->oh, q->ow, q->co, 3);
    char name[160];

    snprintf(name, sizeof name, "n %d, %dx%dx%d, %d wide, %d out, expand %d/%d, stride %d",
             (int)n, s->h, s->w, s->c, s->wide, s->out, s->expand, s->stride, s->dw_stride);
    /* Three sums, of which each rounds what the one before has rounded. */
    check_rungs(name, run_fused, &c, &m, &y, 6 + 6 * sqrt((double)q->ci));
    const int fusing = check_apart(name, &c, &y);
    block_free(y.block);
    case_free(&c);
    case_free(&m);
    return fusing;
}

/* Three of them, the last two of which expand nothing. */
static int check_chain(facs_rng *rng, const shape *s, int64_t n)
{
    separable_case c[3], m[3];
    shape next = *s;
    char name[160];

    for (int i = 0; i < 3; i++) {
        c[i] = case_create(rng, &next, n);
        if (i < 2) c[i].added = 0;
        m[i] = case_magnitudes(&c[i]);
        if (i > 0) c[i].before = &c[i - 1], m[i].before = &m[i - 1];
        const facs_conv *q = &c[i].g[PROJECT];
        next = (shape){q->oh, q->ow, q->co, 0, 24 + 9 * i, 0, 1, 1 + i % 2, 1, 1};
    }
    const facs_conv *q = &c[2].g[PROJECT];
    sample y = sample_random(rng, n, q->oh, q->ow, q->co, 3);
    snprintf(name, sizeof name, "chain, n %d, %dx%dx%d, %d wide, expand %d/%d", (int)n, s->h,
             s->w, s->c, s->wide, s->expand, s->stride);
    check_rungs(name, run_fused, &c[2], &m[2], &y, 40 + 20 * sqrt((double)q->ci));
    const int fusing = check_apart(name, &c[2], &y);
    block_free(y.block);
    for (int i = 0; i < 3; i++) case_free(&c[i]), case_free(&m[i]);
    return fusing;
}

static shape random_shape(facs_rng *rng)
{
    static const int channels[] = {1, 3, 5, 8, 16, 17, 24, 32, 33, 64};
    static const int kernels[] = {0, 1, 1, 1, 3, 2};
    shape s = {.h = 4 + (int)facs_rng_below(rng, 14), .w = 4 + (int)facs_rng_below(rng, 14)};
    s.c = channels[facs_rng_below(rng, 10)];
    s.wide = channels[facs_rng_below(rng, 10)];
    s.out = channels[facs_rng_below(rng, 10)];
    s.expand = kernels[facs_rng_below(rng, 6)];
    s.stride = 1 + (int)facs_rng_below(rng, s.h > 8 && s.w > 8 ? 2 : 1);
    s.dw_stride = 1 + (int)facs_rng_below(rng, 2);
    s.pad = (int)facs_rng_below(rng, 2);
    s.dw_end = (int)facs_rng_below(rng, 2);
    return s;
}

int main(void)
{
    facs_rng rng = facs_rng_stream(1, FACS_RNG_SYNTHETIC, 7, 0);
    /* Layers of MobileNets, rings that go round, buffers of several images. */
    const shape fixed[] = {
        {14, 14, 64, 384, 64, 1, 1, 1, 1, 1}, {28, 28, 32, 192, 64, 1, 1, 2, 1, 1},
        {56, 40, 24, 144, 24, 1, 1, 1, 1, 1}, {75, 112, 3, 32, 16, 3, 2, 1, 1, 1},
        {7, 7, 512, 512, 40, 0, 1, 1, 1, 1},  {56, 56, 64, 64, 33, 0, 1, 2, 0, 1},
        {112, 9, 16, 96, 24, 1, 1, 2, 0, 1},  {3, 3, 160, 512, 17, 1, 1, 1, 1, 1},
        {1, 1, 8, 16, 8, 1, 1, 1, 1, 1},      {6, 200, 7, 300, 5, 1, 1, 1, 1, 0},
    };
    /* Not every rung fuses it: lines of an image in tiles, of which a part of it takes more at
     * a time than the whole. */
    const shape several_taps = {11, 81, 64, 64, 16, 3, 1, 1, 1, 1};
    for (narrow_samples = 0; narrow_samples < 2; narrow_samples++) {
        check_case(&rng, &several_taps, 1);
        for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
            const int least = tested_plugin() ? 0 : 1; /* a GPU fuses none */
            CHECK(check_case(&rng, fixed + i, 1) >= least);
            CHECK(check_case(&rng, fixed + i, 5) >= least);
        }
        for (int i = 0; i < 60; i++) {
            const shape s = random_shape(&rng);
            check_case(&rng, &s, 1 + i % 5);
            check_chain(&rng, &s, 1 + i % 3);
        }
        const shape stem = {75, 112, 3, 32, 16, 3, 2, 1, 1, 1};
        CHECK(check_chain(&rng, &stem, 1) >= !tested_plugin());
    }
    return check_report("kernels_separable");
}
