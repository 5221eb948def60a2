#ifndef FACS_PY_METRIC_TABLE_H
#define FACS_PY_METRIC_TABLE_H

#include "py/bridge.h"

#include "metric/scores.h"

/* The arrays that measures take: scores, target and mask are (n, k); mask may be None. */
typedef struct facs_py_table {
    facs_py_array scores, target, mask;
    facs_score_table table; /* checked */
} facs_py_table;

/* 0, or -1 with everything released and an exception set. */
int facs_py_table_from(facs_py_table *in, PyObject *scores, PyObject *target, PyObject *mask);
void facs_py_table_release(facs_py_table *in);

/* The thresholds of k labels, none of them NaN; 0, or -1 with an exception. */
int facs_py_threshold_from(facs_py_array *array, PyObject *object, int64_t k);

#endif
