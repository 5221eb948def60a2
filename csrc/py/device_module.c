#include "py/device_array.h"

#include "kernel/plugin.h"

#include <string.h>

static const char *const names[FACS_PY_DTYPE_COUNT] = {
    [FACS_PY_FLOAT32] = "float32", [FACS_PY_UINT8] = "uint8", [FACS_PY_UINT16] = "bfloat16"};

static void array_dealloc(PyObject *object);

int facs_py_is_device_array(PyObject *object)
{
    return Py_TYPE(object)->tp_dealloc == array_dealloc;
}

size_t facs_py_device_bytes(const facs_py_device_array *self)
{
    size_t bytes = facs_py_item_bytes(self->dtype);
    for (int i = 0; i < self->ndim; i++) bytes *= (size_t)self->shape[i];
    return bytes;
}

facs_py_device_array *facs_py_device_new(const facs_device *device)
{
    PyObject *module = PyImport_ImportModule("facsnet._core");
    PyObject *type = module ? PyObject_GetAttrString(module, "DeviceArray") : NULL;
    Py_XDECREF(module);
    if (!type) return NULL;
    facs_py_device_array *self =
        (facs_py_device_array *)((PyTypeObject *)type)->tp_alloc((PyTypeObject *)type, 0);
    Py_DECREF(type);
    if (self) self->device = device;
    return self;
}

static facs_status fill(facs_py_device_array *self, const void *from)
{
    const size_t bytes = facs_py_device_bytes(self);
    FACS_TRY(self->device->allocate(&self->data, bytes, "device array"));
    self->owned = 1;
    self->device->upload(self->data, from, bytes);
    return self->device->wait();
}

static PyObject *copy_of(const facs_device *device, PyObject *object)
{
    facs_py_array array;
    facs_py_dtype dtype;
    facs_status status;

    if (facs_py_array_any(&array, object, "array", &dtype) < 0) return NULL;
    if (!names[dtype]) {
        facs_py_array_release(&array);
        return PyErr_Format(PyExc_TypeError,
                            "array: its dtype is none of uint8, float32 and uint16");
    }
    facs_py_device_array *self = facs_py_device_new(device);
    if (self) {
        self->dtype = dtype;
        self->ndim = array.ndim;
        for (int i = 0; i < array.ndim; i++) self->shape[i] = array.shape[i];
        FACS_PY_UNLOCKED(status = fill(self, array.data));
        if (status != FACS_OK) {
            Py_CLEAR(self);
            facs_py_raise(status);
        }
    }
    facs_py_array_release(&array);
    return (PyObject *)self;
}

/* DeviceArray(array, plugin) */
static PyObject *array_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *arguments[] = {"array", "plugin", NULL};
    facs_plugin plugin;
    facs_status status;
    PyObject *object;
    const char *path;

    (void)type;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "Os", arguments, &object, &path))
        return NULL;
    FACS_PY_UNLOCKED(status = facs_plugin_load(&plugin, path));
    if (status != FACS_OK) return facs_py_raise(status);
    const int there = facs_py_is_on_gpu(object);
    if (there < 0) return NULL;
    return there ? facs_py_device_view(plugin.device, object, "array")
                 : copy_of(plugin.device, object);
}

static void array_dealloc(PyObject *object)
{
    facs_py_device_array *self = (facs_py_device_array *)object;
    PyTypeObject *type = Py_TYPE(object);
    if (self->owned) self->device->release(self->data);
    facs_py_device_unmanage(self->managed);
    Py_XDECREF(self->owner);
    type->tp_free(object);
    Py_DECREF(type);
}

/* --- facts */

static PyObject *array_numpy(PyObject *object, PyObject *unused)
{
    facs_py_device_array *self = (facs_py_device_array *)object;
    facs_py_array out;
    facs_status status;

    (void)unused;
    if (facs_py_array_new(&out, self->dtype, self->ndim, self->shape) < 0) return NULL;
    FACS_PY_UNLOCKED({
        self->device->download(out.data, self->data, facs_py_device_bytes(self));
        status = self->device->wait();
    });
    if (status == FACS_OK) return facs_py_array_detach(&out);
    facs_py_array_release(&out);
    return facs_py_raise(status);
}

static PyObject *array_assign(PyObject *object, PyObject *from)
{
    facs_py_device_array *self = (facs_py_device_array *)object;
    int64_t shape[FACS_PY_MAX_DIMS];
    facs_py_array array;
    facs_status status;

    memcpy(shape, self->shape, sizeof shape);
    if (facs_py_array_from(&array, from, "array", self->dtype, self->ndim, shape) < 0)
        return NULL;
    FACS_PY_UNLOCKED({
        self->device->upload(self->data, array.data, facs_py_device_bytes(self));
        status = self->device->wait();
    });
    facs_py_array_release(&array);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *array_shape(PyObject *object, void *unused)
{
    const facs_py_device_array *self = (facs_py_device_array *)object;
    (void)unused;
    PyObject *shape = PyTuple_New(self->ndim);
    for (int i = 0; shape && i < self->ndim; i++) {
        PyObject *size = PyLong_FromLongLong(self->shape[i]);
        if (size)
            PyTuple_SET_ITEM(shape, i, size);
        else
            Py_CLEAR(shape);
    }
    return shape;
}

static PyObject *array_dtype(PyObject *object, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(names[((facs_py_device_array *)object)->dtype]);
}

static PyObject *array_nbytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(facs_py_device_bytes((facs_py_device_array *)object));
}

static Py_ssize_t array_length(PyObject *object)
{
    return (Py_ssize_t)((facs_py_device_array *)object)->shape[0];
}

static PyMethodDef methods[] = {
    {"numpy", array_numpy, METH_NOARGS, "A copy in the host's memory; uint16 of bfloat16."},
    {"assign", array_assign, METH_O, "assign(array): copies the numbers of an equal array."},
    {"__dlpack__", (PyCFunction)(void (*)(void))facs_py_device_dlpack,
     METH_VARARGS | METH_KEYWORDS, "A capsule over the same memory."},
    {"__dlpack_device__", facs_py_device_dlpack_device, METH_NOARGS, "CUDA's, and its index."},
    {NULL},
};

static PyGetSetDef properties[] = {
    {"shape", array_shape, NULL, "Sizes of the axes.", NULL},
    {"dtype", array_dtype, NULL, "uint8, float32 or bfloat16.", NULL},
    {"nbytes", array_nbytes, NULL, "Bytes of the memory.", NULL},
    {"__cuda_array_interface__", facs_py_device_interface, NULL, "For CuPy and Numba.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"A dense array in the memory of a GPU."},
    {Py_tp_new, (void *)array_new},
    {Py_tp_dealloc, (void *)array_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {Py_sq_length, (void *)array_length},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "facsnet._core.DeviceArray",
    .basicsize = sizeof(facs_py_device_array),
    .flags = Py_TPFLAGS_DEFAULT,
    .slots = slots,
};

/* --- the device itself */

static PyObject *device_facts(PyObject *module, PyObject *args)
{
    facs_plugin plugin;
    facs_status status;
    const char *path;

    (void)module;
    if (!PyArg_ParseTuple(args, "s", &path)) return NULL;
    FACS_PY_UNLOCKED(status = facs_plugin_load(&plugin, path));
    if (status != FACS_OK) return facs_py_raise(status);
    return Py_BuildValue("{s:s,s:s,s:n,s:n,s:i}", "name", plugin.description, "capability",
                         plugin.capability, "memory_free", (Py_ssize_t)plugin.memory_free,
                         "memory_total", (Py_ssize_t)plugin.memory_total, "driver",
                         plugin.driver);
}

static PyMethodDef functions[] = {
    {"device_facts", device_facts, METH_VARARGS,
     "device_facts(plugin) -> what the device of a plugin is; DeviceError says why there is "
     "none."},
    {NULL},
};

int facs_py_device_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type) return -1;
    const int status = PyModule_AddObjectRef(module, "DeviceArray", type);
    Py_DECREF(type);
    return status < 0 ? -1 : PyModule_AddFunctions(module, functions);
}
