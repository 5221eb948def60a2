#include "metric/cooccurrence.h"

#include <string.h>

void facs_cooccurrence_count(int64_t *both, int64_t *given, const float *target, int64_t n,
                             int64_t k)
{
    memset(both, 0, (size_t)(k * k) * sizeof *both);
    memset(given, 0, (size_t)(k * k) * sizeof *given);
    for (const float *row = target; row < target + n * k; row += k)
        for (int64_t i = 0; i < k; i++) {
            if (row[i] != 1) continue;
            for (int64_t j = 0; j < k; j++) {
                given[i * k + j] += row[j] == row[j];
                both[i * k + j] += row[j] == 1;
            }
        }
}
