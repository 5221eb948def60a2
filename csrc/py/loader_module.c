#include "py/loader_module.h"

#include "core/memory.h"
#include "data/loader.h"

#include <errno.h>
#include <string.h>

typedef struct loader_object {
    PyObject_HEAD facs_loader *loader;
    PyThread_type_lock lock; /* the loader has one consumer */
    int size, label_count;
    int64_t most_skipped;
    /* What the table borrows. */
    PyObject *paths; /* list of bytes */
    facs_py_array labels;
    facs_py_array *arrays; /* one array (n, h, w, 3), or one per image */
    int64_t array_count;
    const char **path_table;
    facs_image *image_table;
} loader_object;

static void loader_dealloc(PyObject *object)
{
    loader_object *self = (loader_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    FACS_PY_UNLOCKED(facs_loader_free(self->loader));
    for (int64_t i = 0; i < self->array_count; i++) facs_py_array_release(&self->arrays[i]);
    facs_py_array_release(&self->labels);
    Py_XDECREF(self->paths);
    facs_free(self->arrays);
    facs_free(self->path_table);
    facs_free(self->image_table);
    if (self->lock) PyThread_free_lock(self->lock);
    type->tp_free(object);
    Py_DECREF(type);
}

static int allocate(void *out, int64_t count, size_t size)
{
    const facs_status status = facs_allocate(out, (size_t)count, size, "loader's table");
    if (status != FACS_OK) facs_py_raise(status);
    return status == FACS_OK ? 0 : -1;
}

/* File names as the system spells them. */
static int take_paths(loader_object *self, facs_sample_table *table, PyObject *paths)
{
    const Py_ssize_t count = PySequence_Size(paths);
    if (count < 0) return -1;
    self->paths = PyList_New(0);
    if (!self->paths || allocate(&self->path_table, count, sizeof *self->path_table) < 0)
        return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(paths, i), *encoded = NULL;
        const int converted = item && PyUnicode_FSConverter(item, &encoded);
        Py_XDECREF(item);
        if (!converted) return -1;
        const int appended = PyList_Append(self->paths, encoded);
        self->path_table[i] = PyBytes_AS_STRING(encoded);
        Py_DECREF(encoded);
        if (appended < 0) return -1;
    }
    table->count = count;
    table->paths = self->path_table;
    return 0;
}

static int take_stack(loader_object *self, facs_sample_table *table, PyObject *images)
{
    int64_t shape[4] = {FACS_PY_ANY, FACS_PY_ANY, FACS_PY_ANY, 3};
    if (allocate(&self->arrays, 1, sizeof *self->arrays) < 0) return -1;
    self->array_count = 1;
    if (facs_py_array_from(&self->arrays[0], images, "images", FACS_PY_UINT8, 4, shape) < 0 ||
        allocate(&self->image_table, shape[0], sizeof *self->image_table) < 0)
        return -1;
    for (int64_t i = 0; i < shape[0]; i++)
        self->image_table[i] =
            (facs_image){(uint8_t *)self->arrays[0].data + i * shape[1] * shape[2] * 3,
                         (int)shape[1], (int)shape[2]};
    table->count = shape[0];
    table->images = self->image_table;
    return 0;
}

static int take_images(loader_object *self, facs_sample_table *table, PyObject *images)
{
    if (facs_py_is_array(images, FACS_PY_UINT8)) return take_stack(self, table, images);
    const Py_ssize_t count = PySequence_Size(images);
    if (count < 0 || allocate(&self->arrays, count, sizeof *self->arrays) < 0 ||
        allocate(&self->image_table, count, sizeof *self->image_table) < 0)
        return -1;
    self->array_count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        int64_t shape[3] = {FACS_PY_ANY, FACS_PY_ANY, 3};
        PyObject *item = PySequence_GetItem(images, i);
        const int status =
            item ? facs_py_array_from(&self->arrays[i], item, "images", FACS_PY_UINT8, 3, shape)
                 : -1;
        Py_XDECREF(item);
        if (status < 0) return -1;
        self->image_table[i] = (facs_image){self->arrays[i].data, (int)shape[0], (int)shape[1]};
    }
    table->count = count;
    table->images = self->image_table;
    return 0;
}

static int take_table(loader_object *self, facs_sample_table *table, PyObject *images,
                      PyObject *paths, PyObject *labels)
{
    int64_t shape[2] = {FACS_PY_ANY, FACS_PY_ANY};
    if ((images == Py_None) == (paths == Py_None)) {
        PyErr_SetString(PyExc_ValueError, "loader: want either images or paths");
        return -1;
    }
    const int taken =
        images != Py_None ? take_images(self, table, images) : take_paths(self, table, paths);
    if (taken < 0) return -1;
    shape[0] = table->count;
    if (facs_py_array_from(&self->labels, labels, "labels", FACS_PY_FLOAT32, 2, shape) < 0)
        return -1;
    table->labels = self->labels.data;
    table->label_count = self->label_count = (int)shape[1];
    return 0;
}

static PyObject *loader_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"images",       "paths",       "labels",       "batch",
                            "size",         "workers",     "seed",         "shuffle",
                            "augmentation", "cache_bytes", "most_skipped", NULL};
    PyObject *images, *paths, *labels;
    facs_loader_options o = {.slots = 3};
    facs_augmentation *a = &o.augmentation;
    facs_sample_table table = {0};
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
    if (!self->lock || take_table(self, &table, images, paths, labels) < 0) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_loader_create(&self->loader, &table, &o));
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
    const int64_t label[2] = {b->n, self->label_count};
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

/* OSError with errno and file name, so that a missing file is a FileNotFoundError. */
static PyObject *raise_failure(const loader_object *self, facs_status status, int reason,
                               int64_t row)
{
    if (status != FACS_E_IO || row < 0 || !self->path_table) return facs_py_raise(status);
    PyObject *path = PyUnicode_DecodeFSDefault(self->path_table[row]);
    if (!path) return NULL;
    errno = reason;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    Py_DECREF(path);
    return NULL;
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
    return status == FACS_OK ? tuple : raise_failure(self, status, reason, batch.failed_row);
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
