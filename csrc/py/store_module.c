#include "py/store_module.h"

#include "py/device_array.h"
#include "py/sample_table.h"

#include "data/store.h"

#include <errno.h>

typedef struct store_object {
    PyObject_HEAD facs_store *store;
    facs_plugin plugin;
    PyThread_type_lock lock; /* a store has one user */
    facs_py_samples samples; /* until all are loaded */
    int64_t count;
    int size;
} store_object;

static void store_dealloc(PyObject *object)
{
    store_object *self = (store_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    FACS_PY_UNLOCKED(facs_store_free(self->store));
    facs_py_samples_release(&self->samples);
    if (self->lock) PyThread_free_lock(self->lock);
    type->tp_free(object);
    Py_DECREF(type);
}

static facs_status create(store_object *self, const char *plugin,
                          const facs_store_options *options)
{
    FACS_TRY(facs_plugin_load(&self->plugin, plugin));
    return facs_store_create(&self->store, &self->plugin, &self->samples.table, options);
}

/* ImageStore(plugin, *, images, paths, batch, size, threads, seed, augmentation, most_bytes) */
static PyObject *store_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"plugin",  "images", "paths",        "batch",      "size",
                            "threads", "seed",   "augmentation", "most_bytes", NULL};
    PyObject *images, *paths;
    facs_store_options o = {0};
    facs_augmentation *a = &o.augmentation;
    const char *plugin;
    long long batch;
    unsigned long long seed;
    Py_ssize_t most;
    facs_status status;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "s$OOLiiK(ddddd)n", names, &plugin, &images,
                                     &paths, &batch, &o.size, &o.threads, &seed, &a->crop_scale,
                                     &a->flip_probability, &a->rotation, &a->brightness,
                                     &a->contrast, &most))
        return NULL;
    if (most < 0)
        return PyErr_Format(PyExc_ValueError, "most_bytes: is %zd, want at least 0", most);
    o.batch = batch, o.seed = seed, o.most_bytes = (size_t)most;
    store_object *self = (store_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->size = o.size;
    self->lock = PyThread_allocate_lock();
    if (!self->lock || facs_py_samples_take(&self->samples, images, paths) < 0) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        Py_DECREF(self);
        return NULL;
    }
    self->count = self->samples.table.count;
    FACS_PY_UNLOCKED(status = create(self, plugin, &o));
    if (status != FACS_OK) {
        Py_DECREF(self);
        return facs_py_raise(status);
    }
    return (PyObject *)self;
}

static PyObject *store_load(PyObject *object, PyObject *args)
{
    store_object *self = (store_object *)object;
    long long count;
    int64_t there = 0, failed_row = -1;
    facs_status status;
    int reason;

    if (!PyArg_ParseTuple(args, "L", &count)) return NULL;
    FACS_PY_UNLOCKED({
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        status = facs_store_load(self->store, count, &there, &failed_row);
        reason = errno;
    });
    PyThread_release_lock(self->lock);
    if (status != FACS_OK)
        return facs_py_samples_raise(&self->samples, status, reason, failed_row);
    if (there == self->count) facs_py_samples_release(&self->samples);
    return PyLong_FromLongLong(there);
}

static PyObject *store_start(PyObject *object, PyObject *args)
{
    store_object *self = (store_object *)object;
    int64_t shape[1] = {FACS_PY_ANY};
    facs_py_array order;
    PyObject *rows;
    unsigned epoch;
    facs_status status;

    if (!PyArg_ParseTuple(args, "IO", &epoch, &rows) ||
        facs_py_array_from(&order, rows, "order", FACS_PY_INT64, 1, shape) < 0)
        return NULL;
    FACS_PY_UNLOCKED({
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        status = facs_store_start(self->store, epoch, order.data, shape[0]);
        PyThread_release_lock(self->lock);
    });
    facs_py_array_release(&order);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *store_next(PyObject *object, PyObject *args)
{
    store_object *self = (store_object *)object;
    uint8_t *pixels = NULL;
    long long n;
    facs_status status;

    if (!PyArg_ParseTuple(args, "L", &n)) return NULL;
    FACS_PY_UNLOCKED({
        PyThread_acquire_lock(self->lock, WAIT_LOCK);
        status = facs_store_next(self->store, n, &pixels);
        PyThread_release_lock(self->lock);
    });
    if (status != FACS_OK) return facs_py_raise(status);
    facs_py_device_array *batch = facs_py_device_new(self->plugin.device);
    if (!batch) return NULL;
    batch->data = pixels;
    batch->dtype = FACS_PY_UINT8;
    batch->ndim = 4;
    batch->shape[0] = n, batch->shape[1] = batch->shape[2] = self->size, batch->shape[3] = 3;
    batch->owner = Py_NewRef(object);
    return (PyObject *)batch;
}

static PyObject *store_nbytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(facs_store_bytes(((store_object *)object)->store));
}

static Py_ssize_t store_length(PyObject *object)
{
    return (Py_ssize_t)((store_object *)object)->count;
}

static PyMethodDef methods[] = {
    {"load", store_load, METH_VARARGS,
     "load(count): decode the next images and put them on the device; how many are there."},
    {"start", store_start, METH_VARARGS, "start(epoch, order): begin an epoch over rows."},
    {"next", store_next, METH_VARARGS,
     "next(n): the next n images as a DeviceArray, valid until the next call."},
    {NULL},
};

static PyGetSetDef properties[] = {
    {"nbytes", store_nbytes, NULL, "Bytes of the images on the device.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Decoded images on a GPU, and their random variants, made there."},
    {Py_tp_new, (void *)store_new},
    {Py_tp_dealloc, (void *)store_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_sq_length, (void *)store_length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "facsnet._core.ImageStore",
    .basicsize = sizeof(store_object),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

int facs_py_store_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type) return -1;
    const int status = PyModule_AddObjectRef(module, "ImageStore", type);
    Py_DECREF(type);
    return status;
}
