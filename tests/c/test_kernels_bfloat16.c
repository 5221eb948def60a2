#include "kernel_check.h"

#include "core/bfloat16.h"

/* Conversions to and from bfloat16 of every rung: single values, and tensors with gaps against
 * the reference, bit for bit. */

static uint32_t bits_of(float x)
{
    uint32_t bits;
    memcpy(&bits, &x, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float x;
    memcpy(&x, &bits, sizeof x);
    return x;
}

typedef struct rounding {
    uint32_t bits;
    uint16_t expected;
} rounding;

/* Ties, carries into the exponent and out of the range, denormal numbers, signs, NaN. */
static const rounding roundings[] = {
    {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f807fff, 0x3f80},
    {0x3f818000, 0x3f82}, {0x3fffffff, 0x4000}, {0x7f7fffff, 0x7f80}, {0x7f7f7fff, 0x7f7f},
    {0x7f800000, 0x7f80}, {0xff800000, 0xff80}, {0x80000000, 0x8000}, {0x00000001, 0x0000},
    {0x00018000, 0x0002}, {0xbf818000, 0xbf82}, {0x7f800001, 0x7fc0}, {0xffffffff, 0xffff},
};

enum { ROUNDINGS = sizeof roundings / sizeof *roundings, VALUES = 37 };

static void test_values(void)
{
    float *values = block_allocate(VALUES * sizeof *values);
    uint16_t *halves = block_allocate(VALUES * sizeof *halves);
    const facs_context ctx = {.threads = 1};
    const facs_tensor t = {values, VALUES, 1, 1, 1, 1};
    facs_kernels k;

    for (int i = 0; i < VALUES; i++) values[i] = float_of(roundings[i % ROUNDINGS].bits);
    for (int rung = 0; checked_rung(&k, rung); rung++) {
        k.bfloat16_from(&ctx, halves, &t);
        settle();
        for (int i = 0; i < VALUES; i++) CHECK(halves[i] == roundings[i % ROUNDINGS].expected);
    }
    block_free(values);
    block_free(halves);
}

/* Every bfloat16 but those that are not numbers comes back. */
static void test_there_and_back(void)
{
    for (uint32_t half = 0; half < 65536; half++) {
        const float x = facs_bfloat16_to((uint16_t)half);
        CHECK(bits_of(x) == half << 16);
        CHECK(isnan(x) || facs_bfloat16_from(x) == half);
    }
}

typedef struct bfloat16_case {
    sample x;
    uint16_t *halves;
    int64_t count;
    int from;
} bfloat16_case;

static void run(const facs_kernels *k, int threads, const void *data, facs_tensor *out)
{
    const bfloat16_case *c = data;
    const facs_context ctx = {threads, NULL};
    uint16_t *halves = c->halves;

    if (c->from) {
        halves = block_allocate((size_t)(c->count + 1) * sizeof *halves);
        halves[c->count] = 0x1234;
        k->bfloat16_from(&ctx, halves, &c->x.t);
        settle();
        CHECK(halves[c->count] == 0x1234);
        for (int64_t i = 0; i < c->count; i++)
            out->data[i / out->c * out->stride + i % out->c] = facs_bfloat16_to(halves[i]);
        block_free(halves);
        return;
    }
    k->bfloat16_to(&ctx, out, halves);
}

static void check_tensor(facs_rng *rng, int64_t n, int h, int w, int c, int gap)
{
    bfloat16_case p = {.x = sample_random(rng, n, h, w, c, gap), .count = n * h * w * c};
    sample out = sample_create(n, h, w, c, gap);

    p.halves = block_allocate((size_t)p.count * sizeof *p.halves);
    for (int64_t i = 0; i < p.count; i++)
        p.halves[i] = facs_bfloat16_from((float)facs_rng_between(rng, -9, 9));
    for (p.from = 0; p.from < 2; p.from++) check_rungs("bfloat16", run, &p, &p, &out, 0);
    block_free(p.halves);
    block_free(p.x.block), block_free(out.block);
}

int main(void)
{
    static const int channels[] = {1, 3, 16, 17, 33, 100};
    facs_rng rng = facs_rng_stream(8, FACS_RNG_SYNTHETIC, 0, 0);

    test_values();
    test_there_and_back();
    for (int i = 0; i < 6; i++)
        for (int gap = 0; gap < 2; gap++) {
            check_tensor(&rng, 1, 1, 1, channels[i], 5 * gap);
            check_tensor(&rng, 3, 7, 5, channels[i], 5 * gap);
            check_tensor(&rng, 2, 60, 50, channels[i], 5 * gap); /* several blocks */
        }
    return check_report("kernels_bfloat16");
}
