#ifndef FACS_DATA_SAMPLER_H
#define FACS_DATA_SAMPLER_H

#include "core/status.h"

#include <stdint.h>

/* Which rows of a table an epoch sees. What is drawn depends on the table, the options and
 * (seed, epoch) alone; how many, on the table and the options. */

typedef struct facs_sampler_table {
    int64_t count;
    const int64_t *groups; /* (count), 0 to count - 1: the subject; NULL: all one group */
    const float *labels;   /* (count, label_count); 1 is positive. Read where balanced */
    int label_count;
} facs_sampler_table;

typedef struct facs_sampler_options {
    int64_t every;     /* of so many consecutive rows of a group one; 1 is all */
    int64_t per_group; /* no more than so many rows of a group; 0 is all */
    /* Of what is left, as many rows as there are, but so that every label with a positive, and
     * the rows without a positive, are drawn equally often: rows come several times or not. */
    int balanced;
} facs_sampler_options;

/* Writes the rows of an epoch to `rows` (count), without duplicates in ascending order, and
 * their number to *drawn. FACS_E_ARG names an option or group out of range. */
facs_status facs_sampler_draw(int64_t *rows, int64_t *drawn, const facs_sampler_table *table,
                              const facs_sampler_options *options, uint64_t seed,
                              uint32_t epoch) FACS_MUST_USE;

#endif
