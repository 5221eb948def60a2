#include "kernel_check.h"

/* Sums per channel, elementwise kernels, pooling and optimisers of every rung against the
 * reference. */

static const facs_clamp NO_CLAMP = {-INFINITY, INFINITY};

typedef enum row {
    CHANNEL_SUMS,
    BATCHNORM_STATS,
    NORM_SUMS,
    NORM_BWD,
    CORRECT,
    NORMALISE_U8,
    AFFINE_FWD,
    CLAMP_FWD,
    CLAMP_BWD,
    ADD_FWD,
    ADD_FWD_NORMED,
    LOAD_NUMBERS,
    COPY,
    MAXPOOL_FWD,
    MAXPOOL_BWD,
    AVGPOOL_FWD,
    AVGPOOL_FWD_NORMED,
    AVGPOOL_BWD,
    GLOBALPOOL_FWD,
    GLOBALPOOL_BWD,
    ADAM_STEP,
    SGD_STEP,
    EMA_STEP,
    SUM_OF_SQUARES,
    ROWS
} row;

static const char *const row_names[ROWS] = {
    "channel_sums",
    "batchnorm_stats",
    "norm_bwd, sums",
    "norm_bwd",
    "correct",
    "normalise_u8",
    "affine_fwd",
    "clamp_fwd",
    "clamp_bwd",
    "add_fwd",
    "add_fwd with a norm",
    "load and store numbers",
    "copy",
    "maxpool_fwd",
    "maxpool_bwd",
    "avgpool_fwd",
    "avgpool_fwd with a norm",
    "avgpool_bwd",
    "globalpool_fwd",
    "globalpool_bwd",
    "adam_step",
    "sgd_step",
    "ema_step",
    "sum_of_squares",
};

enum { SCALE, SHIFT, MEAN, VARIANCE, SLOPE, OFFSET, VECTORS };

typedef struct pixel_case {
    row row;
    sample a, b;       /* x and dy, or the two summands */
    sample v[VECTORS]; /* (c) each */
    uint8_t *bytes;
    facs_pool pool;
    facs_clamp clamp;
    facs_update update;
    int accumulate;
} pixel_case;

static facs_norm norm_of(const pixel_case *p, float *sum, float *weighted)
{
    return (facs_norm){
        p->v[SCALE].t.data, p->v[SHIFT].t.data, p->v[MEAN].t.data, p->clamp, sum, weighted};
}

static void run_sums(const facs_kernels *k, const facs_context *ctx, const pixel_case *p,
                     facs_tensor *out)
{
    const facs_norm norm = norm_of(p, out->data, out->data + out->stride);
    if (p->row == CHANNEL_SUMS)
        k->channel_sums(ctx, out->data, &p->a.t);
    else if (p->row == BATCHNORM_STATS)
        k->batchnorm_stats(ctx, out->data, out->data + out->stride, &p->a.t);
    else
        k->norm_bwd(ctx, NULL, &p->a.t, &norm, &p->b.t, 0);
}

static void run_pool(const facs_kernels *k, const facs_context *ctx, const pixel_case *p,
                     facs_tensor *out)
{
    const facs_pool *g = &p->pool;
    const facs_norm norm = norm_of(p, NULL, NULL);
    switch (p->row) {
    case MAXPOOL_FWD:
        k->maxpool_fwd(ctx, g, out, &p->a.t);
        break;
    case MAXPOOL_BWD:
        k->maxpool_bwd(ctx, g, out, &p->b.t, &p->a.t, NULL, p->accumulate);
        break;
    case AVGPOOL_FWD:
        k->avgpool_fwd(ctx, g, out, &p->a.t, NULL);
        break;
    case AVGPOOL_FWD_NORMED:
        k->avgpool_fwd(ctx, g, out, &p->a.t, &norm);
        break;
    case AVGPOOL_BWD:
        k->avgpool_bwd(ctx, g, out, &p->b.t, p->accumulate);
        break;
    case GLOBALPOOL_FWD:
        k->globalpool_fwd(ctx, out, &p->a.t);
        break;
    default:
        k->globalpool_bwd(ctx, out, &p->b.t, p->accumulate);
        break;
    }
}

/* Output pixels of the optimisers: w, m, v. */
static void run_step(const facs_kernels *k, const facs_context *ctx, const pixel_case *p,
                     facs_tensor *out)
{
    float *w = out->data, *m = w + out->stride, *v = m + out->stride;
    const float *dw = p->a.t.data;
    if (p->row == ADAM_STEP)
        k->adam_step(ctx, w, dw, m, v, out->c, &p->update);
    else if (p->row == SGD_STEP)
        k->sgd_step(ctx, w, dw, m, out->c, &p->update);
    else if (p->row == EMA_STEP)
        k->ema_step(ctx, w, dw, out->c, 0.9f);
    else
        *w = (float)k->sum_of_squares(ctx, dw, p->a.t.c);
}

static void run_map(const facs_kernels *k, const facs_context *ctx, const pixel_case *p,
                    facs_tensor *out)
{
    const float *scale = p->v[SCALE].t.data, *shift = p->v[SHIFT].t.data;
    const facs_norm norm = norm_of(p, NULL, NULL);
    const facs_correction correction = {&p->a.t, p->v[SLOPE].t.data, p->v[OFFSET].t.data};
    switch (p->row) {
    case NORM_BWD:
        k->norm_bwd(ctx, out, &p->a.t, &norm, &p->b.t, p->accumulate);
        break;
    case CORRECT:
        k->correct(ctx, out, &correction);
        break;
    case NORMALISE_U8:
        k->normalise_u8(ctx, out, p->bytes, scale, shift);
        break;
    case AFFINE_FWD:
        k->affine_fwd(ctx, out, &p->a.t, scale, shift, p->clamp);
        break;
    case CLAMP_FWD:
        k->clamp_fwd(ctx, out, &p->a.t, p->clamp);
        break;
    case CLAMP_BWD:
        k->clamp_bwd(ctx, out, &p->b.t, &p->a.t, p->clamp, p->accumulate);
        break;
    case ADD_FWD:
        k->add_fwd(ctx, out, &p->a.t, NULL, &p->b.t, NULL);
        break;
    case LOAD_NUMBERS: {
        const int64_t count = facs_tensor_pixels(out) * out->c;
        float *numbers = block_allocate((size_t)count * sizeof *numbers);
        k->store_numbers(ctx, numbers, &p->a.t);
        k->load_numbers(ctx, out, numbers);
        block_free(numbers);
        break;
    }
    case ADD_FWD_NORMED:
        k->add_fwd(ctx, out, &p->a.t, &norm, &p->b.t, &norm);
        break;
    default:
        k->copy(ctx, out, &p->a.t, p->accumulate);
        break;
    }
}

/* Rows that write vectors of facs_real rather than a tensor. */
static int writes_vectors(row row)
{
    return row <= NORM_SUMS || row == GLOBALPOOL_FWD || row > GLOBALPOOL_BWD;
}

static void run(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    pixel_case p = *(const pixel_case *)data;
    const size_t size = k->reduce_scratch(p.a.t.c, facs_tensor_pixels(&p.a.t), threads);
    facs_context ctx = context_create(size, threads);
    held a = hold(k, &p.a.t), b = hold(k, &p.b.t), y = hold(k, out);
    const int vectors = writes_vectors(p.row);
    facs_tensor *target = vectors ? out : &y.t;

    p.a.t = a.t;
    if (p.row != GLOBALPOOL_BWD) p.b.t = b.t; /* its dy is of facs_real */
    if (p.row <= NORM_SUMS)
        run_sums(k, &ctx, &p, target);
    else if (p.row <= COPY)
        run_map(k, &ctx, &p, target);
    else if (p.row <= GLOBALPOOL_BWD)
        run_pool(k, &ctx, &p, target);
    else
        run_step(k, &ctx, data, out);
    release(&a, NULL);
    release(&b, NULL);
    release(&y, vectors ? NULL : out);
    context_check_and_free(&ctx, size);
}

static pixel_case case_create(facs_rng *rng, int64_t n, int h, int w, int c, int gap, int oh,
                              int ow)
{
    pixel_case p = {.clamp = {-0.5f, 0.6f}};
    p.a = sample_random(rng, n, h, w, c, gap);
    p.b = sample_random(rng, n, oh, ow, c, 2 * gap);
    for (int i = 0; i < VECTORS; i++) p.v[i] = sample_random(rng, 1, 1, 1, c, 0);
    for (int i = 0; i < c; i++) p.v[VARIANCE].t.data[i] += 1.5f;
    p.bytes = block_allocate((size_t)(n * h * w * c));
    for (int64_t i = 0; i < n * h * w * c; i++) p.bytes[i] = (uint8_t)facs_rng_below(rng, 256);
    p.update = (facs_update){0.1f, 0.9f, 0.99f, 1e-3f, 0.05f, 0.19f, 0.0199f, 0.5f, 0, 0};
    return p;
}

static pixel_case case_magnitudes(const pixel_case *p)
{
    pixel_case m = *p;
    m.a = sample_magnitudes(&p->a);
    m.b = sample_magnitudes(&p->b);
    for (int i = 0; i < VECTORS; i++) m.v[i] = sample_magnitudes(p->v + i);
    for (int c = 0; c < m.a.t.c; c++) m.v[MEAN].t.data[c] *= -1; /* x - mean adds up */
    m.clamp = NO_CLAMP;
    return m;
}

static void case_free(pixel_case *p, pixel_case *m)
{
    block_free(p->bytes);
    block_free(p->a.block), block_free(p->b.block);
    block_free(m->a.block), block_free(m->b.block);
    for (int i = 0; i < VECTORS; i++) block_free(p->v[i].block), block_free(m->v[i].block);
}

/* Keeps scale x + shift clear of the clamp's edges, where a rounding decides whether the
 * gradient passes. */
static void avoid_edges(pixel_case *p)
{
    const float edges[] = {p->clamp.low, p->clamp.high};
    for (int64_t i = 0; i < facs_tensor_pixels(&p->a.t); i++)
        for (int c = 0; c < p->a.t.c; c++)
            for (int e = 0; e < 2; e++) {
                float *x = p->a.t.data + i * p->a.t.stride + c;
                const float y = p->v[SCALE].t.data[c] * *x + p->v[SHIFT].t.data[c];
                if (fabsf(y - edges[e]) < 1e-5f) *x = 0; /* shift is elsewhere */
            }
}

static void check_row(pixel_case *p, pixel_case *m, row row, int accumulate, const sample *out,
                      double ulps)
{
    char name[192];
    p->row = m->row = row;
    p->accumulate = m->accumulate = accumulate;
    snprintf(name, sizeof name, "%s n %d, %dx%dx%d, stride %d", row_names[row], (int)p->a.t.n,
             p->a.t.h, p->a.t.w, p->a.t.c, (int)p->a.t.stride);
    check_rungs(name, run, p, m, out, ulps);
}

static void check_maps(facs_rng *rng, int64_t n, int h, int w, int c, int gap)
{
    pixel_case p = case_create(rng, n, h, w, c, gap, h, w);
    avoid_edges(&p);
    pixel_case m = case_magnitudes(&p);
    sample out = sample_random(rng, n, h, w, c, gap), pair = sample_random(rng, 1, 1, 2, c, 3);
    sample one = sample_random(rng, 1, 1, 1, c, 0),
           pooled = sample_random(rng, n, 1, 1, c, gap);
    const double sum_ulps = 4 + 2 * sqrt((double)(n * h * w));

    check_row(&p, &m, CHANNEL_SUMS, 0, &one, sum_ulps);
    check_row(&p, &m, NORM_SUMS, 0, &pair, sum_ulps);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        check_row(&p, &m, NORM_BWD, accumulate, &out, 4);
        check_row(&p, &m, CLAMP_BWD, accumulate, &out, 0.5);
        check_row(&p, &m, COPY, accumulate, &out, 0.5);
    }
    check_row(&p, &m, NORMALISE_U8, 0, &out, 2);
    check_row(&p, &m, AFFINE_FWD, 0, &out, 2);
    check_row(&p, &m, CLAMP_FWD, 0, &out, 0);
    check_row(&p, &m, ADD_FWD, 0, &out, 0.5);
    check_row(&p, &m, ADD_FWD_NORMED, 0, &out, 4);
    check_row(&p, &m, CORRECT, 0, &out, 4);
    check_row(&p, &m, LOAD_NUMBERS, 0, &out, 0);
    check_row(&p, &m, GLOBALPOOL_FWD, 0, &pooled, sum_ulps);
    block_free(p.b.block), block_free(m.b.block);
    p.b = sample_random(rng, n, 1, 1, c, 2);
    m.b = sample_magnitudes(&p.b);
    check_row(&p, &m, GLOBALPOOL_BWD, 0, &out, 1);
    check_row(&p, &m, GLOBALPOOL_BWD, 1, &out, 1);
    block_free(out.block), block_free(pair.block), block_free(one.block),
        block_free(pooled.block);
    case_free(&p, &m);
}

/* The mean is far from 0 against the spread: a plain sum of squares would be all noise. */
static void check_stats(facs_rng *rng, int64_t n, int h, int w, int c, int gap)
{
    pixel_case p = case_create(rng, n, h, w, c, gap, h, w);
    for (int64_t i = 0; i < n * h * w; i++)
        for (int k = 0; k < c; k++) p.a.t.data[i * p.a.t.stride + k] += (float)(k % 3) * 100;
    pixel_case m = case_magnitudes(&p);
    sample pair = sample_random(rng, 1, 1, 2, c, 3);
    /* Bounds: a mean of the size of the numbers, a variance near 1. */
    for (int64_t i = 0; i < n * h * w; i += 2)
        for (int k = 0; k < c; k++) m.a.t.data[i * m.a.t.stride + k] += 2;
    /* rounding of a mean of 200 in a spread of 1 moves the variance by 2^-16 at most */
    check_row(&p, &m, BATCHNORM_STATS, 0, &pair, 128);
    block_free(pair.block);
    case_free(&p, &m);
}

static void check_pool(facs_rng *rng, const facs_pool *g, int64_t n, int gap)
{
    pixel_case p = case_create(rng, n, g->h, g->w, g->c, gap, g->oh, g->ow);
    /* Few distinct values, so that windows have several maxima. */
    for (int64_t i = 0; i < facs_tensor_pixels(&p.a.t) * p.a.t.stride; i++)
        if (!is_guard(p.a.t.data + i)) p.a.t.data[i] = (float)facs_rng_below(rng, 4);
    pixel_case m = case_magnitudes(&p);
    sample y = sample_random(rng, n, g->oh, g->ow, g->c, 2);
    sample dx = sample_random(rng, n, g->h, g->w, g->c, gap);

    p.pool = m.pool = *g;
    check_row(&p, &m, MAXPOOL_FWD, 0, &y, 0);
    check_row(&p, &m, AVGPOOL_FWD, 0, &y, 4);
    check_row(&p, &m, AVGPOOL_FWD_NORMED, 0, &y, 8);
    for (int accumulate = 0; accumulate < 2; accumulate++) {
        check_row(&p, &m, MAXPOOL_BWD, accumulate, &dx, 8);
        check_row(&p, &m, AVGPOOL_BWD, accumulate, &dx, 8);
    }
    block_free(y.block), block_free(dx.block);
    case_free(&p, &m);
}

static void check_steps(facs_rng *rng, int count)
{
    pixel_case p = case_create(rng, 1, 1, 1, count, 0, 1, 1);
    pixel_case m = case_magnitudes(&p);
    sample state = sample_random(rng, 1, 1, 3, count, 5);
    sample one = sample_random(rng, 1, 1, 1, 1, 0);
    for (int i = 0; i < count; i++)
        state.t.data[2 * state.t.stride + i] = fabsf(state.t.data[2 * state.t.stride + i]);

    for (int i = 0; i < 2; i++) {
        p.update.decoupled = p.update.nesterov = i;
        m.update = p.update;
        m.update.rate = -p.update.rate; /* so that magnitudes add up */
        check_row(&p, &m, ADAM_STEP, 0, &state, 8);
        check_row(&p, &m, SGD_STEP, 0, &state, 8);
    }
    check_row(&p, &m, EMA_STEP, 0, &state, 20);
    check_row(&p, &m, SUM_OF_SQUARES, 0, &one, 8);
    block_free(state.block), block_free(one.block);
    case_free(&p, &m);
}

int main(void)
{
    static const int channels[] = {1, 3, 5, 8, 16, 17, 32, 33, 64, 100};
    static const int sizes[][2] = {{1, 1}, {2, 3}, {7, 7}, {17, 13}};
    static const int counts[] = {1, 5, 16, 33, 1000, 16384, 40001};
    facs_rng rng = facs_rng_stream(2, FACS_RNG_SYNTHETIC, 0, 0);

    for (int i = 0; i < 10; i++)
        for (int s = 0; s < 4; s++) {
            const int n = 1 + (i + s) % 5, gap = (i + s) % 2 * 7, c = channels[i];
            const int h = sizes[s][0], w = sizes[s][1];
            const facs_pool pools[] = {
                {h, w, c, (h + 1) / 2, (w + 1) / 2, 3, 3, 2, 1, 1},
                {h, w, c, h, w, 3, 3, 1, 1, 1},
                {h, w, c, (h + 1) / 2, (w + 1) / 2, 2, 2, 2, 0, 0},
                {h, w, c, (h + 2) / 3, (w + 2) / 3, 2, 1, 3, 0, 0},
            };
            for (narrow_samples = 0; narrow_samples < 2; narrow_samples++) {
                check_maps(&rng, n, h, w, c, gap);
                for (int k = 0; k < 4; k++) check_pool(&rng, pools + k, n, gap);
            }
            narrow_samples = 0;
            check_stats(&rng, n, h, w, c, gap);
        }
    check_maps(&rng, 2, 4, 5, 3, 0);    /* images: eight numbers are of all channels */
    check_maps(&rng, 3, 60, 50, 17, 1); /* several blocks */
    check_stats(&rng, 3, 160, 150, 5, 1);
    for (int i = 0; i < 7; i++) check_steps(&rng, counts[i]);
    return check_report("kernels_pixels");
}
