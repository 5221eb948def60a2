#ifndef FACS_CORE_RNG_H
#define FACS_CORE_RNG_H

#include <stdint.h>

/* Counter-based random numbers: Philox4x32-10 (Salmon et al., SC 2011). A stream is
 * named by (seed, purpose, epoch, item), so that what is drawn depends neither on the
 * order of the work nor on the number of threads. */

typedef enum facs_rng_purpose {
    FACS_RNG_INITIALISE,
    FACS_RNG_SHUFFLE,
    FACS_RNG_AUGMENT,
    FACS_RNG_DROPOUT,
    FACS_RNG_SYNTHETIC,
    FACS_RNG_RESAMPLE,
    FACS_RNG_SAMPLE,
    FACS_RNG_PURPOSE_COUNT
} facs_rng_purpose;

typedef struct facs_rng {
    uint32_t key[2], counter[4], block[4];
    int left; /* numbers of block not yet given out */
} facs_rng;

facs_rng facs_rng_stream(uint64_t seed, facs_rng_purpose purpose, uint32_t epoch,
                         uint32_t item);

uint32_t facs_rng_bits(facs_rng *rng);
double facs_rng_uniform(facs_rng *rng);                     /* [0, 1) */
double facs_rng_between(facs_rng *rng, double a, double b); /* [a, b) */
double facs_rng_normal(facs_rng *rng);                      /* mean 0, variance 1 */
uint32_t facs_rng_below(facs_rng *rng, uint32_t limit);     /* 0 .. limit - 1, limit > 0 */

/* Fisher-Yates over count entries. */
void facs_rng_shuffle(facs_rng *rng, int64_t *order, int64_t count);

#endif
