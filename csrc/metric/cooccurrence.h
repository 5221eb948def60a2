#ifndef FACS_METRIC_COOCCURRENCE_H
#define FACS_METRIC_COOCCURRENCE_H

#include <stdint.h>

/* Which labels come together. target is (n, k): 1, 0, or NaN for unknown. given[i * k + j] is
 * the number of rows where label i is present and j is known, both[i * k + j] that of those
 * where j is present too; so both / given is the share of j among i. */
void facs_cooccurrence_count(int64_t *both, int64_t *given, const float *target, int64_t n,
                             int64_t k);

#endif
