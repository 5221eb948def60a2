#include "py/metric_table.h"

#include "core/threads.h"
#include "metric/bootstrap.h"
#include "metric/calibration.h"
#include "metric/cooccurrence.h"

/* What a study of a detector asks beyond single measures: how sure they are, whether its
 * probabilities are, and which labels come together. */

static const char *const measure_names[FACS_RESAMPLED_COUNT] = {
    [FACS_RESAMPLED_F1] = "f1",
    [FACS_RESAMPLED_AVERAGE_PRECISION] = "average_precision",
    [FACS_RESAMPLED_ROC_AUC] = "roc_auc",
};

static int check_counts(long long subjects, long long draws, long long part)
{
    const char *name = subjects < 1 ? "subjects" : draws < 1 ? "draws" : "part";
    const long long value = subjects < 1 ? subjects : draws < 1 ? draws : part;

    if (subjects >= 1 && draws >= 1 && part >= 0 && part <= UINT32_MAX) return 0;
    PyErr_Format(PyExc_ValueError, "%s: %lld, want at least %d", name, value,
                 subjects < 1 || draws < 1);
    return -1;
}

static PyObject *run_bootstrap(facs_bootstrap *b, facs_resampled measure)
{
    const int64_t shape[2] = {b->draws, b->table->k};
    facs_status status = FACS_OK;
    facs_py_array out;

    if (facs_py_array_new(&out, FACS_PY_FLOAT64, 2, shape) < 0) return NULL;
    FACS_PY_UNLOCKED(status = facs_bootstrap_run(out.data, b, measure));
    if (status == FACS_OK) return facs_py_array_detach(&out);
    facs_py_array_release(&out);
    return facs_py_raise(status);
}

static PyObject *metric_bootstrap(PyObject *module, PyObject *args)
{
    PyObject *scores, *target, *mask, *threshold, *subject, *out = NULL;
    long long subjects, draws, part;
    unsigned long long seed;
    facs_py_array limits = {0}, ids = {0};
    facs_py_table in;
    const char *name;

    (void)module;
    if (!PyArg_ParseTuple(args, "sOOOOOLLKL:metric_bootstrap", &name, &scores, &target, &mask,
                          &threshold, &subject, &subjects, &draws, &seed, &part) ||
        check_counts(subjects, draws, part) < 0)
        return NULL;
    const int measure = facs_py_choice("measure", name, measure_names, FACS_RESAMPLED_COUNT);
    if (measure < 0 || facs_py_table_from(&in, scores, target, mask) < 0) return NULL;
    int64_t rows = in.table.n;
    if (facs_py_threshold_from(&limits, threshold, in.table.k) == 0 &&
        facs_py_array_from(&ids, subject, "subjects", FACS_PY_INT64, 1, &rows) == 0) {
        facs_bootstrap b = {.table = &in.table,
                            .threshold = limits.data,
                            .subject = ids.data,
                            .subjects = subjects,
                            .draws = draws,
                            .seed = seed,
                            .part = (uint32_t)part,
                            .threads = facs_threads_default()};
        out = run_bootstrap(&b, (facs_resampled)measure);
    }
    facs_py_array_release(&ids);
    facs_py_array_release(&limits);
    facs_py_table_release(&in);
    return out;
}

static PyObject *metric_bootstrap_draws(PyObject *module, PyObject *args)
{
    long long subjects, draws, part;
    unsigned long long seed;
    facs_py_array out;

    (void)module;
    if (!PyArg_ParseTuple(args, "LLKL:metric_bootstrap_draws", &subjects, &draws, &seed,
                          &part) ||
        check_counts(subjects, draws, part) < 0)
        return NULL;
    const facs_bootstrap b = {.subjects = subjects, .seed = seed, .part = (uint32_t)part};
    const int64_t shape[2] = {draws, subjects};
    if (facs_py_array_new(&out, FACS_PY_INT64, 2, shape) < 0) return NULL;
    for (int64_t draw = 0; draw < draws; draw++)
        facs_bootstrap_draw((int64_t *)out.data + draw * subjects, &b, draw);
    return facs_py_array_detach(&out);
}

/* ((k, bins, 3) of count and sums of scores and targets, (k,) errors). */
static PyObject *calibrate(const facs_score_table *table, int64_t bins)
{
    enum { FIELDS = sizeof(facs_calibration_bin) / sizeof(double) };
    const int64_t shape[3] = {table->k, bins, FIELDS};
    facs_py_array bin = {0}, error = {0};
    facs_status status = FACS_OK;

    if (facs_py_array_new(&bin, FACS_PY_FLOAT64, 3, shape) == 0 &&
        facs_py_array_new(&error, FACS_PY_FLOAT64, 1, shape) == 0) {
        FACS_PY_UNLOCKED(status = facs_calibration_count(bin.data, bins, table));
        for (int64_t label = 0; label < table->k; label++)
            ((double *)error.data)[label] = facs_calibration_error(
                (const facs_calibration_bin *)bin.data + label * bins, bins);
        if (status == FACS_OK) return Py_BuildValue("(NN)", bin.object, error.object);
        facs_py_raise(status);
    }
    facs_py_array_release(&bin);
    facs_py_array_release(&error);
    return NULL;
}

static PyObject *metric_calibration(PyObject *module, PyObject *args)
{
    PyObject *scores, *target, *mask;
    long long bins;
    facs_py_table in;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOOL:metric_calibration", &scores, &target, &mask, &bins))
        return NULL;
    if (bins < 1 || bins > 10000)
        return PyErr_Format(PyExc_ValueError, "bins: %lld, want 1 to 10000", bins);
    if (facs_py_table_from(&in, scores, target, mask) < 0) return NULL;
    PyObject *out = calibrate(&in.table, bins);
    facs_py_table_release(&in);
    return out;
}

/* ((k, k) rows with both, (k, k) rows with the first where the second is known). */
static PyObject *metric_cooccurrence(PyObject *module, PyObject *object)
{
    facs_py_table in;
    facs_py_array both = {0}, given = {0};
    PyObject *out = NULL;

    (void)module;
    /* The table's check is that of the targets; they stand for the scores too, since an
     * unknown one counts nowhere. */
    if (facs_py_table_from(&in, object, object, Py_None) < 0) return NULL;
    const int64_t shape[2] = {in.table.k, in.table.k};
    if (facs_py_array_new(&both, FACS_PY_INT64, 2, shape) == 0 &&
        facs_py_array_new(&given, FACS_PY_INT64, 2, shape) == 0) {
        FACS_PY_UNLOCKED(facs_cooccurrence_count(both.data, given.data, in.table.target,
                                                 in.table.n, in.table.k));
        out = Py_BuildValue("(OO)", both.object, given.object);
    }
    facs_py_array_release(&both);
    facs_py_array_release(&given);
    facs_py_table_release(&in);
    return out;
}

static PyMethodDef functions[] = {
    {"metric_bootstrap", metric_bootstrap, METH_VARARGS,
     "metric_bootstrap(measure, scores, target, mask, threshold, subject, subjects, draws, "
     "seed, part) -> (draws, k)"},
    {"metric_bootstrap_draws", metric_bootstrap_draws, METH_VARARGS,
     "metric_bootstrap_draws(subjects, draws, seed, part) -> (draws, subjects)"},
    {"metric_calibration", metric_calibration, METH_VARARGS,
     "metric_calibration(scores, target, mask, bins) -> ((k, bins, 3), (k,))"},
    {"metric_cooccurrence", metric_cooccurrence, METH_O,
     "metric_cooccurrence(target) -> ((k, k), (k, k))"},
    {NULL, NULL, 0, NULL},
};

int facs_py_study_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
