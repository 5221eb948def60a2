#include "kernel_check.h"

#include <string.h>

/* Rows that work on vectors of facs_real, losses, dropout and grouped convolutions, of every
 * rung against the reference. */

typedef enum row {
    LOSS_BCE,
    LOSS_ASYMMETRIC,
    LOSS_LSEP,
    LOSS_ZLPR,
    LOSS_PR,
    LOSS_TVERSKY,
    BATCHNORM_FOLD,
    BATCHNORM_BEGIN,
    NORM_BWD_FINISH,
    SIGMOID,
    EXCHANGE,
    ZERO,
    DROPOUT,
    GROUPCONV_FWD,
    GROUPCONV_BWD_X,
    GROUPCONV_BWD_W,
    ROWS
} row;

static const char *const row_names[ROWS] = {
    "loss_bce",        "loss_asymmetric", "loss_lsep",       "loss_zlpr",
    "loss_pr",         "loss_tversky",    "batchnorm_fold",  "batchnorm_begin",
    "norm_bwd_finish", "sigmoid",         "exchange",        "zero",
    "dropout",         "groupconv_fwd",   "groupconv_bwd_x", "groupconv_bwd_w"};

typedef struct vector_case {
    row row;
    sample a, b, mask, w; /* logits and targets, x and dy, or vectors side by side */
    const float *mask_or_null;
    facs_loss_options options;
    facs_conv g;
    int accumulate;
    const uint32_t *draw;
} vector_case;

static void run_loss(const facs_kernels *k, const vector_case *c, facs_tensor *out)
{
    void (*const rows[])(const facs_context *, facs_real *, facs_real *, const facs_real *,
                         const facs_real *, const facs_real *, int64_t,
                         const facs_loss_options *) = {k->loss_bce,  k->loss_asymmetric,
                                                       k->loss_lsep, k->loss_zlpr,
                                                       k->loss_pr,   k->loss_tversky};
    const size_t size = k->loss_scratch(c->a.t.n, c->a.t.c);
    facs_context ctx = context_create(size, 1);
    rows[c->row](&ctx, out->data, out->data + 1, c->a.t.data, c->b.t.data, c->mask_or_null,
                 c->a.t.n, &c->options);
    context_check_and_free(&ctx, size);
}

/* The result is seven vectors, which some rows change where they stand. */
static void run_vectors(const facs_kernels *k, const vector_case *c, facs_tensor *out)
{
    const int64_t next = out->stride, from = c->a.t.stride;
    const float *a = c->a.t.data;
    float *y = out->data;
    const int count = out->c;
    switch (c->row) {
    case BATCHNORM_FOLD:
        k->batchnorm_fold(y, y + next, count, a, a + from, a + 2 * from, a + 3 * from, 1e-3f,
                          c->accumulate ? a + 4 * from : NULL);
        break;
    case BATCHNORM_BEGIN:
        /* the sums are two vectors without a gap */
        k->batchnorm_begin(y, y + next, c->w.t.data, count, a, a + from, a + 2 * from,
                           a + 3 * from, 1e-3f, y + 2 * next, y + 3 * next, 0.1f,
                           c->accumulate ? 50 : 1);
        settle();
        for (int i = 0; i < 2 * count; i++) CHECK(c->w.t.data[i] == 0);
        break;
    case NORM_BWD_FINISH: {
        const facs_norm norm = {.scale = a,
                                .mean = a + from,
                                .sum = c->a.t.data + 2 * from,
                                .weighted = c->a.t.data + 4 * from};
        k->norm_bwd_finish(y, y + next, c->accumulate ? y + 2 * next : NULL, y + 3 * next,
                           count, &norm, a + 3 * from, 1e-3f, 100);
        break;
    }
    case SIGMOID:
        k->sigmoid(y, a, count);
        break;
    case EXCHANGE:
        k->exchange(y, y + next, count);
        break;
    default:
        k->zero(y + next, count);
        break;
    }
}

static void run_tensors(const facs_kernels *k, int threads, const vector_case *c,
                        facs_tensor *out)
{
    const facs_clamp clamp = {-0.9f, 0.8f};
    const int weights = c->row == GROUPCONV_BWD_W;
    const int drawn = c->draw && strcmp(k->name, "ref") != 0;
    const facs_context ctx = {.threads = threads, .draw = c->draw};
    held x = hold(k, &c->a.t), dy = hold(k, &c->b.t), y = {.t = *out};
    if (!weights) y = hold(k, out);
    if (c->row == DROPOUT)
        k->dropout(&ctx, &y.t, &x.t, 0.4f, drawn ? 0 : 0x123456789abcdefull, drawn ? 0 : 17,
                   c->accumulate);
    else if (c->row == GROUPCONV_FWD)
        k->groupconv_fwd(&ctx, &c->g, &y.t, &x.t, c->w.t.data,
                         c->accumulate ? c->mask.t.data : NULL, clamp);
    else if (c->row == GROUPCONV_BWD_X)
        k->groupconv_bwd_x(&ctx, &c->g, &y.t, &dy.t, c->w.t.data, c->accumulate);
    else
        k->groupconv_bwd_w(&ctx, &c->g, out->data, &x.t, &dy.t);
    release(&x, NULL);
    release(&dy, NULL);
    release(&y, out);
}

static void run(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    const vector_case *c = data;
    if (c->row <= LOSS_TVERSKY)
        run_loss(k, c, out);
    else if (c->row <= ZERO)
        run_vectors(k, c, out);
    else
        run_tensors(k, threads, c, out);
}

/* Every rung against the reference, relative to numbers above 1. */
static void check_near(vector_case *c, row row, const sample *start, double tolerance)
{
    sample expected = sample_copy(start);
    facs_kernels k, ref;

    c->row = row;
    CHECK(facs_kernels_select(&ref, "ref"));
    run(&ref, 1, c, &expected.t);
    for (int rung = 0; checked_rung(&k, rung); rung++) {
        double worst = 0;
        sample got = sample_copy(start);
        run(&k, 2, c, &got.t);
        settle();
        for (int64_t p = 0; p < facs_tensor_pixels(&got.t); p++)
            for (int i = 0; i < got.t.c; i++) {
                const int64_t at = p * got.t.stride + i;
                const double off = fabs((double)got.t.data[at] - expected.t.data[at]) /
                                   (1 + fabs((double)expected.t.data[at]));
                if (!(off <= worst)) worst = off;
            }
        if (!(worst <= tolerance))
            printf("%s, rung %s: off by %g of %g\n", row_names[row], k.name, worst, tolerance);
        CHECK(worst <= tolerance);
        CHECK(sample_spoiled(&got) == 0);
        block_free(got.block);
    }
    block_free(expected.block);
}

static void check_losses(facs_rng *rng, int n, int k)
{
    vector_case c = {.a = sample_random(rng, n, 1, 1, k, 0),
                     .b = sample_random(rng, n, 1, 1, k, 0),
                     .mask = sample_random(rng, n, 1, 1, k, 0),
                     .w = sample_random(rng, 2, 1, 1, k, 0)};
    sample out = sample_random(rng, 1, 1, 1, 1 + n * k, 0);

    for (int i = 0; i < n * k; i++) {
        c.a.t.data[i] *= 4;
        c.b.t.data[i] = c.b.t.data[i] > 0.4f;
        c.mask.t.data[i] = c.mask.t.data[i] > -0.7f;
    }
    for (int i = 0; i < 2 * k; i++) c.w.t.data[i] += 1.5f;
    for (int masked = 0; masked < 2; masked++) {
        c.mask_or_null = masked ? c.mask.t.data : NULL;
        c.options = (facs_loss_options){.labels = k,
                                        .micro = masked,
                                        .true_negatives = masked,
                                        .epsilon = 1e-3f,
                                        .bce_weight = masked ? 0.5f : 0,
                                        .alpha = 0.7f,
                                        .beta = 0.4f,
                                        .gamma_positive = 1,
                                        .gamma_negative = 4,
                                        .margin = masked ? 0.05f : 0,
                                        .class_weight = masked ? c.w.t.data : NULL,
                                        .pos_weight = masked ? c.w.t.data + k : NULL};
        for (int row = LOSS_BCE; row <= LOSS_TVERSKY; row++)
            check_near(&c, (enum row)row, &out, 1e-6);
    }
    for (int i = 0; i < n * k; i++) c.mask.t.data[i] = 0;
    for (int row = LOSS_BCE; row <= LOSS_TVERSKY; row++)
        check_near(&c, (enum row)row, &out, 1e-6);
    block_free(c.a.block), block_free(c.b.block), block_free(c.mask.block);
    block_free(c.w.block), block_free(out.block);
}

static void check_vectors(facs_rng *rng, int count)
{
    vector_case c = {.a = sample_random(rng, 1, 1, 5, count, 0),
                     .w = sample_random(rng, 1, 1, 2, count, 0)};
    sample out = sample_random(rng, 1, 1, 4, count, 3);

    for (int i = 0; i < count; i++) c.a.t.data[3 * c.a.t.stride + i] += 1.5f;
    for (c.accumulate = 0; c.accumulate < 2; c.accumulate++)
        for (int row = BATCHNORM_FOLD; row <= ZERO; row++)
            check_near(&c, (enum row)row, &out, 1e-6);
    block_free(c.a.block), block_free(c.w.block), block_free(out.block);
}

/* A device's draw stands in place of the arguments, which the reference reads. */
static void check_dropout(facs_rng *rng, int64_t n, int h, int channels, int gap)
{
    vector_case c = {.a = sample_random(rng, n, h, 3, channels, gap)};
    sample out = sample_random(rng, n, h, 3, channels, 2 * gap);
    uint32_t *draw = block_allocate(3 * sizeof *draw);

    draw[0] = 0x89abcdefu, draw[1] = 0x1234567u, draw[2] = 17;
    for (int drawn = 0; drawn < (tested_plugin() ? 2 : 1); drawn++)
        for (c.accumulate = 0; c.accumulate < 2; c.accumulate++) {
            c.draw = drawn ? draw : NULL;
            check_near(&c, DROPOUT, &out, narrow_samples ? 0x1p-7 : 1e-7);
        }
    block_free(draw);
    block_free(c.a.block), block_free(out.block);
}

static void check_groups(facs_rng *rng, const facs_conv *g, int64_t n)
{
    const int inputs = g->ci / g->groups;
    vector_case c = {.g = *g,
                     .a = sample_random(rng, n, g->h, g->w, g->ci, 3),
                     .b = sample_random(rng, n, g->oh, g->ow, g->co, 2),
                     .mask = sample_random(rng, 1, 1, 1, g->co, 0),
                     .w = sample_random(rng, 1, 1, g->kh * g->kw * inputs, g->co, 0)};
    sample y = sample_random(rng, n, g->oh, g->ow, g->co, 1);
    sample dx = sample_random(rng, n, g->h, g->w, g->ci, 4);
    sample dw = sample_copy(&c.w);
    const double tolerance = narrow_samples ? 0x1p-7 : 1e-5;

    for (c.accumulate = 0; c.accumulate < 2; c.accumulate++) {
        check_near(&c, GROUPCONV_FWD, &y, tolerance);
        check_near(&c, GROUPCONV_BWD_X, &dx, tolerance);
        check_near(&c, GROUPCONV_BWD_W, &dw, 1e-5);
    }
    block_free(c.a.block), block_free(c.b.block), block_free(c.mask.block);
    block_free(c.w.block), block_free(y.block), block_free(dx.block), block_free(dw.block);
}

static void check_verdict(facs_rng *rng, int count)
{
    sample x = sample_random(rng, 1, 1, 1, count, 0), verdict = sample_create(1, 1, 1, 1, 0);
    facs_kernels k;

    for (int rung = 0; checked_rung(&k, rung); rung++)
        for (int bad = 0; bad < 3; bad++) {
            float *last = x.t.data + count - 1, kept = *last;
            if (bad) *last = bad == 1 ? INFINITY : NAN;
            k.check_finite(verdict.t.data, x.t.data, count);
            settle();
            CHECK(bad ? isnan(*verdict.t.data) : *verdict.t.data == 0);
            *last = kept;
        }
    block_free(x.block), block_free(verdict.block);
}

int main(void)
{
    facs_rng rng = facs_rng_stream(3, FACS_RNG_SYNTHETIC, 0, 0);
    const facs_conv groups[] = {
        {7, 6, 6, 7, 6, 4, 3, 3, 1, 1, 1, 2},
        {9, 8, 12, 5, 4, 36, 3, 2, 2, 1, 0, 3},
        {5, 5, 8, 5, 5, 8, 1, 1, 1, 0, 0, 4},
    };

    check_losses(&rng, 1, 1);
    check_losses(&rng, 64, 12);
    check_losses(&rng, 700, 5); /* more images than threads of a block */
    for (int count = 1; count < 2000; count = 3 * count + 2) check_vectors(&rng, count);
    check_verdict(&rng, 1);
    check_verdict(&rng, 70001);
    /* the CPU's rungs of bfloat16 have neither */
    for (narrow_samples = 0; narrow_samples < (tested_plugin() ? 2 : 1); narrow_samples++) {
        check_dropout(&rng, 5, 1, 64, 0);
        check_dropout(&rng, 2, 3, 32, 8);
        check_dropout(&rng, 3, 2, 7, 1);
        for (int i = 0; i < 3; i++) check_groups(&rng, groups + i, 1 + i);
    }
    return check_report("kernels_vectors");
}
