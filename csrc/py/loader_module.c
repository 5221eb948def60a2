#include "py/loader_module.h"
#include "py/sample_table.h"

#include "data/loader.h"

#include <errno.h>
#include <string.h>

typedef struct loader_object {
    PyObject_HEAD facs_loader *loader;
    PyThread_type_lock lock; /* the loader has one consumer */
    int size;
    int64_t most_skipped;
    facs_py_samples samples;
} loader_object;

static void loader_dealloc(PyObject *object)
{
    loader_object *self = (loader_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    FACS_PY_UNLOCKED(facs_loader_free(self->loader));
    facs_py_samples_release(&self->samples);
    if (self->lock) PyThread_free_lock(self->lock);
    type->tp_free(object);
    Py_DECREF(type);
}

static PyObject *loader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"images",       "paths",       "labels",       "batch",
                            "size",         "workers",     "seed",         "shuffle",
                            "augmentation", "cache_bytes", "most_skipped", NULL};
    PyObject *images, *paths, *labels;
    facs_loader_options o = {.slots = 3};
    facs_augmentation *a = &o.augmentation;
    long long batch, cache_bytes, most_skipped;
    unsigned long long seed;
    facs_status status;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "$OOOLiiKp(ddddd)LL", names, &images, &paths,
                                     &labels, &batch, &o.size, &o.workers, &seed, &o.shuffle,
                                     &a->crop_scale, &a->flip_probability, &a->rotation,
                                     &a->brightness, &a->contrast, &cache_bytes, &most_skipped))
        return NULL;
    o.batch = batch, o.seed = seed, o.cache_bytes = cache_bytes, o.most_skipped = most_skipped;
    loader_object *self = (loader_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->lock = PyThread_allocate_lock();
    self->size = o.size;
    self->most_skipped = o.most_skipped;
    if (!self->lock || facs_py_samples_take(&self->samples, images, paths) < 0 ||
        facs_py_samples_take_labels(&self->samples, labels) < 0) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_loader_create(&self->loader, &self->samples.table, &o));
    if (status != FACS_OK) {
        Py_DECREF(self);
        return facs_py_raise(status);
    }
    return (PyObject *)self;
}

static PyObject *loader_start(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"epoch", "indices", "mirror", NULL};
    loader_object *self = (loader_object *)object;
    unsigned epoch;
    PyObject *indices = Py_None;
    int mirror = 0;
    facs_py_array rows = {0};
    int64_t shape[1] = {FACS_PY_ANY};
    facs_status status;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "I|Op", names, &epoch, &indices, &mirror))
        return NULL;
    if (indices != Py_None &&
        facs_py_array_from(&rows, indices, "indices", FACS_PY_INT64, 1, shape) < 0)
        return NULL;
    FACS_PY_UNLOCKED({
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        status =
            facs_loader_start(self->loader, epoch, rows.data, rows.data ? shape[0] : 0, mirror);
        PyThread_release_lock(self->lock);
    });
    facs_py_array_release(&rows);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *copied(const void *data, facs_py_dtype dtype, size_t item, int ndim,
                        const int64_t *shape)
{
    facs_py_array array;
    size_t bytes = item;
    for (int i = 0; i < ndim; i++) bytes *= (size_t)shape[i];
    if (facs_py_array_new(&array, dtype, ndim, shape) < 0) return NULL;
    if (bytes) FACS_PY_UNLOCKED(memcpy(array.data, data, bytes));
    return facs_py_array_detach(&array);
}

static PyObject *to_tuple(const loader_object *self, const facs_batch *b)
{
    const int64_t image[4] = {b->n, self->size, self->size, 3};
    const int64_t label[2] = {b->n, self->samples.table.label_count};
    PyObject *pixels = copied(b->pixels, FACS_PY_UINT8, 1, 4, image);
    PyObject *labels = copied(b->labels, FACS_PY_FLOAT32, sizeof *b->labels, 2, label);
    PyObject *mask = copied(b->mask, FACS_PY_FLOAT32, sizeof *b->mask, 2, label);
    PyObject *indices = copied(b->indices, FACS_PY_INT64, sizeof *b->indices, 1, label);
    PyObject *tuple = NULL;
    if (pixels && labels && mask && indices)
        tuple = PyTuple_Pack(4, pixels, labels, mask, indices);
    Py_XDECREF(pixels);
    Py_XDECREF(labels);
    Py_XDECREF(mask);
    Py_XDECREF(indices);
    return tuple;
}

static PyObject *loader_next(PyObject *object)
{
    loader_object *self = (loader_object *)object;
    facs_batch batch;
    facs_status status;
    int reason;
    PyObject *tuple = NULL;

    FACS_PY_UNLOCKED({
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        status = facs_loader_next(self->loader, &batch);
        reason = errno;
    });
    if (status == FACS_OK && batch.n) tuple = to_tuple(self, &batch);
    PyThread_release_lock(self->lock);
    return status == FACS_OK
               ? tuple
               : facs_py_samples_raise(&self->samples, status, reason, batch.failed_row);
}

static PyObject *loader_statistics(PyObject *object, PyObject *unused)
{
    loader_object *self = (loader_object *)object;
    facs_loader_statistics s;

    (void)unused;
    FACS_PY_UNLOCKED({
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        facs_loader_get_statistics(self->loader, &s);
    });
    const int64_t listed[1] = {s.skipped < self->most_skipped ? s.skipped : self->most_skipped};
    PyObject *rows = copied(s.skipped_rows, FACS_PY_INT64, sizeof *s.skipped_rows, 1, listed);
    PyThread_release_lock(self->lock);
    PyObject *reason = PyUnicode_DecodeFSDefault(s.first_skipped);
    if (rows && reason)
        return Py_BuildValue("{s:d,s:L,s:L,s:L,s:N,s:N}", "waited", s.waited, "decoded",
                             (long long)s.decoded, "cached", (long long)s.cached, "skipped",
                             (long long)s.skipped, "skipped_rows", rows, "first_skipped",
                             reason);
    Py_XDECREF(rows);
    Py_XDECREF(reason);
    return NULL;
}

static Py_ssize_t loader_length(PyObject *object)
{
    loader_object *self = (loader_object *)object;
    int64_t batches;
    FACS_PY_UNLOCKED({
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        batches = facs_loader_batches(self->loader);
        PyThread_release_lock(self->lock);
    });
    return (Py_ssize_t)batches;
}

static PyMethodDef methods[] = {
    {"start", (PyCFunction)(void (*)(void))loader_start, METH_VARARGS | METH_KEYWORDS,
     "start(epoch, indices=None, mirror=False): begin a pass."},
    {"statistics", loader_statistics, METH_NOARGS, "Counts of the current pass."},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Batches (pixels, labels, mask, indices) read by worker threads."},
    {Py_tp_new, (void *)loader_new},
    {Py_tp_dealloc, (void *)loader_dealloc},
    {Py_tp_iter, (void *)PyObject_SelfIter},
    {Py_tp_iternext, (void *)loader_next},
    {Py_sq_length, (void *)loader_length},
    {Py_tp_methods, methods},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "facsnet._core.Loader",
    .basicsize = sizeof(loader_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int facs_py_loader_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type) return -1;
    const int status = PyModule_AddObjectRef(module, "Loader", type);
    Py_DECREF(type);
    return status;
}
