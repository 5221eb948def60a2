#include "core/rng.h"

#include <math.h>

static void philox_round(uint32_t counter[4], const uint32_t key[2])
{
    const uint64_t a = (uint64_t)0xD2511F53u * counter[0];
    const uint64_t b = (uint64_t)0xCD9E8D57u * counter[2];
    const uint32_t next[4] = {(uint32_t)(b >> 32) ^ counter[1] ^ key[0], (uint32_t)b,
                              (uint32_t)(a >> 32) ^ counter[3] ^ key[1], (uint32_t)a};
    for (int i = 0; i < 4; i++) counter[i] = next[i];
}

static void refill(facs_rng *rng)
{
    uint32_t key[2] = {rng->key[0], rng->key[1]};
    for (int i = 0; i < 4; i++) rng->block[i] = rng->counter[i];
    for (int round = 0; round < 10; round++) {
        philox_round(rng->block, key);
        key[0] += 0x9E3779B9u;
        key[1] += 0xBB67AE85u;
    }
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
