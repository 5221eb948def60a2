#ifndef FACS_TESTS_KERNEL_CHECK_H
#define FACS_TESTS_KERNEL_CHECK_H

/* What the kernel tests share: tensors whose gaps and surroundings are watched, and the
 * comparison of every rung and number of threads with the reference. */

#include "check.h"
#include "reachable.h"

#include "core/bfloat16.h"
#include "core/rng.h"
#include "kernel/kernel.h"

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { GUARD = 64 };                            /* numbers before and after a tensor */
static const uint32_t GUARD_BITS = 0x7fd01234u; /* not a number: reading it shows too */

/* Whether the rungs of bfloat16 are checked, with samples that bfloat16 can hold. */
static int narrow_samples;

static inline float representable(float x)
{
    return narrow_samples ? facs_bfloat16_to(facs_bfloat16_from(x)) : x;
}

typedef struct sample {
    facs_tensor t;
    float *block;
    int64_t count;
} sample;

/* By how many numbers a tensor is off an aligned place: images and wide tensors are not. */
static inline int unaligned(int channels)
{
    return channels < 32 && channels != 3 ? 3 : 0;
}

static inline sample sample_create(int64_t n, int h, int w, int c, int gap)
{
    sample s = {{NULL, n, h, w, c, c + gap}, NULL, 0};
    const int lead = GUARD + unaligned(c);
    s.count = n * h * w * (c + gap) + lead + GUARD;
    s.block = block_allocate((size_t)s.count * sizeof(float));
    for (int64_t i = 0; i < s.count; i++) memcpy(s.block + i, &GUARD_BITS, sizeof GUARD_BITS);
    s.t.data = s.block + lead;
    return s;
}

static inline sample sample_random(facs_rng *rng, int64_t n, int h, int w, int c, int gap)
{
    sample s = sample_create(n, h, w, c, gap);
    for (int64_t p = 0; p < facs_tensor_pixels(&s.t); p++)
        for (int i = 0; i < c; i++)
            s.t.data[p * s.t.stride + i] = representable((float)facs_rng_between(rng, -1, 1));
    return s;
}

static inline sample sample_copy(const sample *s)
{
    sample copy = *s;
    copy.block = block_allocate((size_t)s->count * sizeof(float));
    memcpy(copy.block, s->block, (size_t)s->count * sizeof(float));
    copy.t.data = copy.block + (s->t.data - s->block);
    return copy;
}

static inline sample sample_magnitudes(const sample *s)
{
    sample copy = sample_copy(s);
    for (int64_t i = 0; i < copy.count; i++) copy.block[i] = fabsf(copy.block[i]);
    return copy;
}

static inline int is_guard(const float *p)
{
    uint32_t bits;
    memcpy(&bits, p, sizeof bits);
    return bits == GUARD_BITS;
}

/* Numbers outside the view that were written. */
static inline int64_t sample_spoiled(const sample *s)
{
    const int64_t size = facs_tensor_pixels(&s->t) * s->t.stride;
    int64_t spoiled = 0;
    settle();
    for (int64_t i = 0; i < s->count; i++) {
        const int64_t at = i - (s->t.data - s->block);
        const int inside = at >= 0 && at < size && at % s->t.stride < s->t.c;
        spoiled += !inside && !is_guard(s->block + i);
    }
    return spoiled;
}

/* Largest |a - b| / bound over the view. */
static inline double sample_distance(const sample *a, const sample *b, const sample *bound)
{
    double worst = 0;
    for (int64_t p = 0; p < facs_tensor_pixels(&a->t); p++)
        for (int c = 0; c < a->t.c; c++) {
            const int64_t i = p * a->t.stride + c;
            const double off = fabs((double)a->t.data[i] - b->t.data[i]);
            const double ratio = off / (fabs((double)bound->t.data[i]) + FLT_MIN);
            if (!(ratio <= worst)) worst = ratio;
        }
    return worst;
}

/* A tensor as the kernels hold it: itself, or a copy of bfloat16 with its gaps guarded. */
typedef struct held {
    facs_tensor t;
    uint16_t *block, *numbers;
} held;

enum { HELD_GUARD = 0x7fd1 };

static inline held hold(const facs_kernels *k, const facs_tensor *t)
{
    held h = {.t = *t};
    const int64_t count = facs_tensor_pixels(t) * t->stride;
    if (k->number == sizeof(float) || !t->data) return h;
    /* as unaligned as bfloat16 can be, or not at all */
    h.block = block_allocate((size_t)(count + 4) * sizeof *h.block);
    h.numbers = h.block + unaligned(t->c);
    for (int64_t i = 0; i < count; i++)
        h.numbers[i] = i % t->stride < t->c ? facs_bfloat16_from(t->data[i]) : HELD_GUARD;
    h.t.data = (float *)(void *)h.numbers;
    return h;
}

/* Gives it back, with what was written to it where that is wanted. */
static inline void release(held *h, facs_tensor *out)
{
    int spoiled = 0;
    settle();
    if (!h->block) return;
    for (int64_t i = 0; out && i < facs_tensor_pixels(out) * out->stride; i++)
        if (i % out->stride < out->c)
            out->data[i] = facs_bfloat16_to(h->numbers[i]);
        else
            spoiled += h->numbers[i] != HELD_GUARD;
    CHECK(spoiled == 0);
    block_free(h->block);
}

/* Rung i of those that are checked, a plugin's table alone; 0 past the last. */
static inline int checked_rung(facs_kernels *k, int i)
{
    static const char *const narrow[] = {"generic", "avx2", "avx512", "avx512_bf16", "amx"};
    enum { NARROW = sizeof narrow / sizeof *narrow };
    const facs_plugin *plugin = tested_plugin();
    if (plugin) {
        *k = narrow_samples ? *plugin->narrow : *plugin->kernels;
        return i == 0;
    }
    if (!narrow_samples)
        return facs_kernels_rung(i) && facs_kernels_select(k, facs_kernels_rung(i));
    /* a processor may lack one and have the next */
    for (int j = 0; j < NARROW; j++)
        if (facs_kernels_select_bfloat16(k, narrow[j]) && !strcmp(k->name, narrow[j]) &&
            i-- == 0)
            return 1;
    return 0;
}

enum { SCRATCH_GUARD = 64 };

static inline facs_context context_create(size_t scratch, int threads)
{
    facs_context ctx = {.threads = threads, .scratch = block_allocate(scratch + SCRATCH_GUARD)};
    memset(ctx.scratch, 0x5a, scratch + SCRATCH_GUARD);
    return ctx;
}

static inline void context_check_and_free(facs_context *ctx, size_t scratch)
{
    int untouched = 1;
    settle();
    for (int i = 0; i < SCRATCH_GUARD; i++)
        untouched &= ((unsigned char *)ctx->scratch)[scratch + (size_t)i] == 0x5a;
    CHECK(untouched);
    block_free(ctx->scratch);
}

/* Runs a kernel on case data; `out` holds what the kernel writes. */
typedef void run_function(const facs_kernels *k, int threads, const void *data,
                          facs_tensor *out);

/* Every rung and number of threads against the reference. `magnitudes` is data with
 * absolute values: run in place of it, the reference gives the sum of the magnitudes that
 * an output adds up, and rounding is at most `ulps` of that. */
static inline void check_rungs(const char *name, run_function *run, const void *data,
                               const void *magnitudes, const sample *start, double ulps)
{
    static const int threads[] = {1, 2, 7};
    sample expected = sample_copy(start), bound = sample_magnitudes(start);
    facs_kernels ref;

    CHECK(facs_kernels_select(&ref, "ref"));
    run(&ref, 1, data, &expected.t);
    run(&ref, 1, magnitudes, &bound.t);
    facs_kernels k;
    /* every factor may have been rounded, and the result up to nine times (maxpool_bwd) */
    const double allowed = narrow_samples ? 0x1p-6 : ulps * FLT_EPSILON;
    for (int rung = 0; checked_rung(&k, rung); rung++) {
        sample first = {0};
        for (int i = 0; i < 3; i++) {
            sample got = sample_copy(start);
            run(&k, threads[i], data, &got.t);
            settle();
            const double distance = sample_distance(&got, &expected, &bound);
            const int close = distance <= allowed, clean = sample_spoiled(&got) == 0;
            const int equal = i == 0 || memcmp(got.block, first.block,
                                               (size_t)got.count * sizeof(float)) == 0;
            if (!close || !clean || !equal)
                printf("%s, rung %s, %d threads: %g of %g, %d spoiled\n", name, k.name,
                       threads[i], distance, allowed, (int)sample_spoiled(&got));
            CHECK(close);
            CHECK(clean);
            CHECK(equal);
            if (i == 0)
                first = got;
            else
                block_free(got.block);
        }
        block_free(first.block);
    }
    block_free(expected.block);
    block_free(bound.block);
}

#endif
