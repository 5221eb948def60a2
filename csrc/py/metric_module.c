#include "py/metric_table.h"

#include "core/memory.h"
#include "metric/ranking.h"
#include "metric/thresholds.h"

#include <string.h>

/* Columns of the array: true and false positives, false and true negatives. */
static PyObject *metric_confusion(PyObject *module, PyObject *args)
{
    PyObject *scores, *target, *mask, *threshold;
    facs_py_array limits, out;
    facs_py_table in;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO:metric_confusion", &scores, &target, &threshold, &mask) ||
        facs_py_table_from(&in, scores, target, mask) < 0)
        return NULL;
    if (facs_py_threshold_from(&limits, threshold, in.table.k) < 0) {
        facs_py_table_release(&in);
        return NULL;
    }
    const int64_t shape[2] = {in.table.k, sizeof(facs_confusion) / sizeof(int64_t)};
    if (facs_py_array_new(&out, FACS_PY_INT64, 2, shape) == 0)
        FACS_PY_UNLOCKED(facs_confusion_count(out.data, &in.table, limits.data));
    facs_py_array_release(&limits);
    facs_py_table_release(&in);
    return facs_py_array_detach(&out);
}

static const char *const rate_names[FACS_RATE_COUNT] = {
    [FACS_RATE_PRECISION] = "precision",
    [FACS_RATE_RECALL] = "recall",
    [FACS_RATE_F1] = "f1",
    [FACS_RATE_ACCURACY] = "accuracy",
};

static PyObject *metric_rate(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *object;
    facs_py_array counts, out;
    int64_t shape[2] = {FACS_PY_ANY, sizeof(facs_confusion) / sizeof(int64_t)};

    (void)module;
    if (!PyArg_ParseTuple(args, "sO:metric_rate", &name, &object)) return NULL;
    const int rate = facs_py_choice("rate", name, rate_names, FACS_RATE_COUNT);
    if (rate < 0) return NULL;
    if (facs_py_array_from(&counts, object, "counts", FACS_PY_INT64, 2, shape) < 0) return NULL;
    if (facs_py_array_new(&out, FACS_PY_FLOAT64, 1, shape) == 0) {
        const facs_confusion *confusion = counts.data;
        double *values = out.data;
        for (int64_t label = 0; label < shape[0]; label++)
            values[label] = facs_confusion_rate(confusion + label, (facs_rate)rate);
    }
    facs_py_array_release(&counts);
    return facs_py_array_detach(&out);
}

typedef double ranking_measure(const facs_ranking *ranking);

enum { AVERAGE_PRECISION, ROC_AUC, BEST_THRESHOLD, MEASURES };

static const char *const measure_names[MEASURES] = {
    [AVERAGE_PRECISION] = "average_precision",
    [ROC_AUC] = "roc_auc",
    [BEST_THRESHOLD] = "best_threshold",
};

static ranking_measure *const measures[MEASURES] = {
    [AVERAGE_PRECISION] = facs_ranking_average_precision,
    [ROC_AUC] = facs_ranking_roc_auc,
    [BEST_THRESHOLD] = facs_ranking_best_threshold,
};

static facs_status measure_labels(double *values, const facs_score_table *table,
                                  ranking_measure *measure)
{
    facs_ranking *ranking;

    FACS_TRY(facs_ranking_create(&ranking, table->n));
    for (int64_t label = 0; label < table->k; label++) {
        facs_ranking_fill(ranking, table, label);
        values[label] = measure(ranking);
    }
    facs_ranking_free(ranking);
    return FACS_OK;
}

static PyObject *metric_ranking(PyObject *module, PyObject *args)
{
    const char *name;
    PyObject *scores, *target, *mask;
    facs_py_array out;
    facs_py_table in;
    facs_status status = FACS_OK;

    (void)module;
    if (!PyArg_ParseTuple(args, "sOOO:metric_ranking", &name, &scores, &target, &mask))
        return NULL;
    const int measure = facs_py_choice("measure", name, measure_names, MEASURES);
    if (measure < 0) return NULL;
    if (facs_py_table_from(&in, scores, target, mask) < 0) return NULL;
    if (facs_py_array_new(&out, FACS_PY_FLOAT64, 1, &in.table.k) == 0)
        FACS_PY_UNLOCKED(status = measure_labels(out.data, &in.table, measures[measure]));
    facs_py_table_release(&in);
    if (status == FACS_OK) return facs_py_array_detach(&out);
    facs_py_array_release(&out);
    return facs_py_raise(status);
}

/* (precision, recall, thresholds) of a ranking. */
static PyObject *curve_of(const facs_ranking *ranking)
{
    enum { PRECISION, RECALL, THRESHOLD, ARRAYS };
    facs_py_array out[ARRAYS] = {0};
    int failed = 0;

    for (int i = 0; i < ARRAYS && !failed; i++) {
        const int64_t length = ranking->steps + (i != THRESHOLD);
        failed = facs_py_array_new(&out[i], FACS_PY_FLOAT64, 1, &length) < 0;
    }
    if (failed) {
        for (int i = 0; i < ARRAYS; i++) facs_py_array_release(&out[i]);
        return NULL;
    }
    facs_ranking_pr_curve(ranking, out[PRECISION].data, out[RECALL].data, out[THRESHOLD].data);
    return Py_BuildValue("(NNN)", out[PRECISION].object, out[RECALL].object,
                         out[THRESHOLD].object);
}

static PyObject *curves_of(const facs_score_table *table, facs_ranking *ranking)
{
    PyObject *list = PyList_New((Py_ssize_t)table->k);

    for (int64_t label = 0; list && label < table->k; label++) {
        FACS_PY_UNLOCKED(facs_ranking_fill(ranking, table, label));
        PyObject *curve = curve_of(ranking);
        if (!curve)
            Py_CLEAR(list);
        else
            PyList_SET_ITEM(list, (Py_ssize_t)label, curve);
    }
    return list;
}

static PyObject *metric_pr_curve(PyObject *module, PyObject *args)
{
    PyObject *scores, *target, *mask;
    facs_ranking *ranking;
    facs_py_table in;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOO:metric_pr_curve", &scores, &target, &mask) ||
        facs_py_table_from(&in, scores, target, mask) < 0)
        return NULL;
    const facs_status status = facs_ranking_create(&ranking, in.table.n);
    PyObject *list = status == FACS_OK ? curves_of(&in.table, ranking) : facs_py_raise(status);
    facs_ranking_free(ranking);
    facs_py_table_release(&in);
    return list;
}

static PyObject *metric_shrink_thresholds(PyObject *module, PyObject *args)
{
    PyObject *thresholds, *positives;
    facs_py_array in, counts, out;
    int64_t shape[1] = {FACS_PY_ANY};
    double strength;
    facs_status status = FACS_E_OOM;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOd:metric_shrink_thresholds", &thresholds, &positives,
                          &strength) ||
        facs_py_array_from(&in, thresholds, "thresholds", FACS_PY_FLOAT64, 1, shape) < 0)
        return NULL;
    if (facs_py_array_from(&counts, positives, "positives", FACS_PY_INT64, 1, shape) < 0) {
        facs_py_array_release(&in);
        return NULL;
    }
    if (facs_py_array_new(&out, FACS_PY_FLOAT64, 1, shape) == 0) {
        memcpy(out.data, in.data, (size_t)shape[0] * sizeof(double));
        status = facs_shrink_thresholds(out.data, counts.data, shape[0], strength);
        if (status != FACS_OK) facs_py_raise(status);
    }
    facs_py_array_release(&in);
    facs_py_array_release(&counts);
    if (status == FACS_OK) return facs_py_array_detach(&out);
    facs_py_array_release(&out);
    return NULL;
}

static PyObject *metric_macro_mean(PyObject *module, PyObject *object)
{
    facs_py_array values;
    int64_t shape[1] = {FACS_PY_ANY};

    (void)module;
    if (facs_py_array_from(&values, object, "values", FACS_PY_FLOAT64, 1, shape) < 0)
        return NULL;
    const double mean = facs_macro_mean(values.data, shape[0]);
    facs_py_array_release(&values);
    return PyFloat_FromDouble(mean);
}

static PyMethodDef functions[] = {
    {"metric_confusion", metric_confusion, METH_VARARGS,
     "metric_confusion(scores, target, threshold, mask) -> (k, 4) int64"},
    {"metric_rate", metric_rate, METH_VARARGS, "metric_rate(name, counts) -> (k,)"},
    {"metric_ranking", metric_ranking, METH_VARARGS,
     "metric_ranking(name, scores, target, mask) -> (k,)"},
    {"metric_pr_curve", metric_pr_curve, METH_VARARGS,
     "metric_pr_curve(scores, target, mask) -> [(precision, recall, thresholds)]"},
    {"metric_shrink_thresholds", metric_shrink_thresholds, METH_VARARGS,
     "metric_shrink_thresholds(thresholds, positives, strength) -> (k,)"},
    {"metric_macro_mean", metric_macro_mean, METH_O, "metric_macro_mean(values) -> float"},
    {NULL, NULL, 0, NULL},
};

int facs_py_metric_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
