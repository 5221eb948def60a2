#include "py/bridge.h"

#include "data/draw.h"
#include "data/sampler.h"

/* Which samples an epoch sees, and in which order. */

static PyObject *draw_sample(PyObject *module, PyObject *args)
{
    unsigned long long seed;
    unsigned epoch;
    long long every, per_group;
    PyObject *label_object, *group_object;
    facs_py_array labels = {0}, groups = {0}, rows = {0};
    facs_sampler_options o = {0};
    int64_t shape[2] = {FACS_PY_ANY, FACS_PY_ANY}, drawn = 0;
    facs_status status = FACS_OK;

    (void)module;
    if (!PyArg_ParseTuple(args, "OOLLpKI", &label_object, &group_object, &every, &per_group,
                          &o.balanced, &seed, &epoch) ||
        facs_py_array_from(&labels, label_object, "labels", FACS_PY_FLOAT32, 2, shape) < 0)
        return NULL;
    o.every = every, o.per_group = per_group;
    const int64_t count[1] = {shape[0]};
    int64_t same[1] = {shape[0]};
    int failed = group_object != Py_None && facs_py_array_from(&groups, group_object, "groups",
                                                               FACS_PY_INT64, 1, same) < 0;
    failed = failed || facs_py_array_new(&rows, FACS_PY_INT64, 1, count) < 0;
    if (!failed) {
        const facs_sampler_table table = {.count = shape[0],
                                          .groups = groups.data,
                                          .labels = labels.data,
                                          .label_count = (int)shape[1]};
        FACS_PY_UNLOCKED(status =
                             facs_sampler_draw(rows.data, &drawn, &table, &o, seed, epoch));
    }
    facs_py_array_release(&groups);
    facs_py_array_release(&labels);
    if (failed || status != FACS_OK) {
        facs_py_array_release(&rows);
        return failed ? NULL : facs_py_raise(status);
    }
    return Py_BuildValue("(NL)", facs_py_array_detach(&rows), (long long)drawn);
}

static PyObject *draw_epoch(PyObject *module, PyObject *args)
{
    unsigned long long seed;
    unsigned epoch;
    long long table_count;
    double flip;
    PyObject *object;
    facs_py_array rows = {0}, order = {0}, mirrored = {0};
    facs_status status;

    (void)module;
    if (!PyArg_ParseTuple(args, "KILdO", &seed, &epoch, &table_count, &flip, &object))
        return NULL;
    int64_t shape[1] = {object == Py_None ? table_count : FACS_PY_ANY};
    if (object != Py_None &&
        facs_py_array_from(&rows, object, "rows", FACS_PY_INT64, 1, shape) < 0)
        return NULL;
    if (facs_py_array_new(&order, FACS_PY_INT64, 1, shape) < 0 ||
        facs_py_array_new(&mirrored, FACS_PY_BOOL, 1, shape) < 0) {
        facs_py_array_release(&rows);
        facs_py_array_release(&order);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_draw_epoch(seed, epoch, flip, table_count, rows.data,
                                              shape[0], order.data, mirrored.data));
    facs_py_array_release(&rows);
    if (status == FACS_OK)
        return Py_BuildValue("(NN)", facs_py_array_detach(&order),
                             facs_py_array_detach(&mirrored));
    facs_py_array_release(&order);
    facs_py_array_release(&mirrored);
    return facs_py_raise(status);
}

static PyMethodDef functions[] = {
    {"draw_sample", draw_sample, METH_VARARGS,
     "draw_sample(labels, groups, every, per_group, balanced, seed, epoch) -> (rows, drawn): "
     "the "
     "first `drawn` of the rows are those of the epoch."},
    {"draw_epoch", draw_epoch, METH_VARARGS,
     "draw_epoch(seed, epoch, table_count, flip, rows) -> (order, mirrored): what a Loader "
     "draws "
     "of the rows (None: all)."},
    {NULL},
};

facs_py_adder facs_py_sampler_add;

int facs_py_sampler_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
