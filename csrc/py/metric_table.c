#include "py/metric_table.h"

#include <string.h>

void facs_py_table_release(facs_py_table *in)
{
    facs_py_array_release(&in->scores);
    facs_py_array_release(&in->target);
    facs_py_array_release(&in->mask);
}

static int take_arrays(facs_py_table *in, PyObject *scores, PyObject *target, PyObject *mask)
{
    int64_t shape[2] = {FACS_PY_ANY, FACS_PY_ANY};

    if (facs_py_array_from(&in->scores, scores, "scores", FACS_PY_FLOAT32, 2, shape) < 0 ||
        facs_py_array_from(&in->target, target, "target", FACS_PY_FLOAT32, 2, shape) < 0)
        return -1;
    if (mask != Py_None &&
        facs_py_array_from(&in->mask, mask, "mask", FACS_PY_FLOAT32, 2, shape) < 0)
        return -1;
    in->table =
        (facs_score_table){in->scores.data, in->target.data, in->mask.data, shape[0], shape[1]};
    return 0;
}

int facs_py_table_from(facs_py_table *in, PyObject *scores, PyObject *target, PyObject *mask)
{
    facs_status status = FACS_OK;

    memset(in, 0, sizeof *in);
    if (take_arrays(in, scores, target, mask) < 0) {
        facs_py_table_release(in);
        return -1;
    }
    FACS_PY_UNLOCKED(status = facs_score_table_check(&in->table));
    if (status == FACS_OK) return 0;
    facs_py_table_release(in);
    facs_py_raise(status);
    return -1;
}

int facs_py_threshold_from(facs_py_array *array, PyObject *object, int64_t k)
{
    int64_t shape[1] = {k};

    if (facs_py_array_from(array, object, "threshold", FACS_PY_FLOAT32, 1, shape) < 0)
        return -1;
    for (int64_t i = 0; i < k; i++) {
        const float value = ((const float *)array->data)[i];
        if (value == value) continue;
        PyErr_Format(PyExc_ValueError, "threshold: label %lld is nan", (long long)i);
        facs_py_array_release(array);
        return -1;
    }
    return 0;
}
