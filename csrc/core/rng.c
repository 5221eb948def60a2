#include "core/rng.h"

#include "core/philox.h"

#include <math.h>

static void refill(facs_rng *rng)
{
    for (int i = 0; i < 4; i++) rng->block[i] = rng->counter[i];
    facs_philox(rng->block, rng->key[0], rng->key[1]);
    rng->counter[0]++;
    rng->left = 4;
}

facs_rng facs_rng_stream(uint64_t seed, facs_rng_purpose purpose, uint32_t epoch, uint32_t item)
{
    return (facs_rng){.key = {(uint32_t)seed, (uint32_t)(seed >> 32)},
                      .counter = {0, (uint32_t)purpose, epoch, item}};
}

uint32_t facs_rng_bits(facs_rng *rng)
{
    if (!rng->left) refill(rng);
    return rng->block[--rng->left];
}

double facs_rng_uniform(facs_rng *rng)
{
    return facs_rng_bits(rng) * 0x1p-32;
}

double facs_rng_between(facs_rng *rng, double a, double b)
{
    return a + (b - a) * facs_rng_uniform(rng);
}

double facs_rng_normal(facs_rng *rng)
{
    const double radius = sqrt(-2.0 * log(1.0 - facs_rng_uniform(rng)));
    return radius * cos(6.283185307179586 * facs_rng_uniform(rng));
}

uint32_t facs_rng_below(facs_rng *rng, uint32_t limit)
{
    return (uint32_t)(((uint64_t)facs_rng_bits(rng) * limit) >> 32);
}

void facs_rng_shuffle(facs_rng *rng, int64_t *order, int64_t count)
{
    for (int64_t i = count - 1; i > 0; i--) {
        const int64_t j = facs_rng_below(rng, (uint32_t)(i + 1));
        const int64_t swapped = order[i];
        order[i] = order[j];
        order[j] = swapped;
    }
}
