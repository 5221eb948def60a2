#include "metric/thresholds.h"

#include "core/memory.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static int compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Of the n defined values, which are sorted on the way. */
static double median(double *values, int64_t n)
{
    qsort(values, (size_t)n, sizeof *values, compare);
    return values[(n - 1) / 2] / 2 + values[n / 2] / 2;
}

facs_status facs_shrink_thresholds(double *thresholds, const int64_t *positives, int64_t k,
                                   double strength)
{
    double *defined;
    int64_t n = 0;

    if (!(strength >= 0) || !isfinite(strength))
        return facs_fail(FACS_E_ARG, "shrinkage is %g, want a number of at least 0", strength);
    FACS_TRY(facs_allocate(&defined, (size_t)k, sizeof *defined, "thresholds"));
    for (int64_t i = 0; i < k; i++)
        if (!isnan(thresholds[i])) defined[n++] = thresholds[i];
    const double centre = n ? median(defined, n) : NAN;
    facs_free(defined);
    for (int64_t i = 0; i < k; i++) {
        const double count = (double)positives[i];
        const double own = count > 0 ? count / (count + strength) : 0;
        thresholds[i] =
            (float)(isnan(thresholds[i]) ? centre : own * thresholds[i] + (1 - own) * centre);
    }
    return FACS_OK;
}
