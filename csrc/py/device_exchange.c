#include "py/device_array.h"
#include "py/dlpack.h"

#include <string.h>

/* Arrays of other libraries on the GPU, without a copy: DLPack and, for those that lack it,
 * __cuda_array_interface__; and ours for them. */

static const struct {
    DLDataType dlpack;
    const char *interface; /* NumPy's type string */
} types[FACS_PY_DTYPE_COUNT] = {
    [FACS_PY_FLOAT32] = {{DLPACK_FLOAT, 32, 1}, "<f4"},
    [FACS_PY_UINT8] = {{DLPACK_UINT, 8, 1}, "|u1"},
    [FACS_PY_UINT16] = {{DLPACK_BFLOAT, 16, 1}, "<u2"},
};

/* A new reference, or NULL without an exception where there is no such attribute. */
static PyObject *optional(PyObject *object, const char *name)
{
    PyObject *found = PyObject_GetAttrString(object, name);
    if (!found && PyErr_ExceptionMatches(PyExc_AttributeError)) PyErr_Clear();
    return found;
}

int facs_py_is_on_gpu(PyObject *object)
{
    int type, id;

    if (facs_py_is_device_array(object)) return 1;
    if (PyList_CheckExact(object) || PyTuple_CheckExact(object)) return 0;
    PyObject *ask = optional(object, "__dlpack_device__");
    if (ask) {
        PyObject *answer = PyObject_CallNoArgs(ask);
        Py_DECREF(ask);
        const int known = answer && PyArg_ParseTuple(answer, "ii", &type, &id);
        Py_XDECREF(answer);
        return known ? type == DLPACK_CUDA || type == DLPACK_CUDA_MANAGED : -1;
    }
    if (PyErr_Occurred()) return -1;
    PyObject *interface = optional(object, "__cuda_array_interface__");
    Py_XDECREF(interface);
    return interface ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* --- in */

static int type_from_dlpack(DLDataType found)
{
    if (found.lanes != 1) return -1;
    if (found.code == DLPACK_UINT && found.bits == 16) return FACS_PY_UINT16;
    for (int i = 0; i < FACS_PY_DTYPE_COUNT; i++)
        if (types[i].interface && types[i].dlpack.code == found.code &&
            types[i].dlpack.bits == found.bits)
            return i;
    return -1;
}

static int type_from_text(const char *text)
{
    for (int i = 0; i < FACS_PY_DTYPE_COUNT; i++)
        if (types[i].interface && strcmp(types[i].interface, text) == 0) return i;
    return -1;
}

static int fail_type(const char *argument)
{
    PyErr_Format(PyExc_TypeError,
                 "%s: its dtype on the GPU is none of uint8, float32 and bfloat16", argument);
    return -1;
}

static int fail_layout(const char *argument)
{
    PyErr_Format(PyExc_ValueError, "%s: on the GPU it must be C-contiguous, of 1 to %d axes",
                 argument, FACS_PY_MAX_DIMS);
    return -1;
}

static int is_dense(int ndim, const int64_t *shape, const int64_t *strides, int64_t item)
{
    int64_t step = item;
    for (int i = ndim - 1; i >= 0; i--) {
        if (shape[i] != 1 && strides[i] != step) return 0;
        step *= shape[i];
    }
    return 1;
}

static int fill_from_tensor(facs_py_device_array *self, const DLTensor *t, const char *argument)
{
    const int type = type_from_dlpack(t->dtype);
    if (type < 0) return fail_type(argument);
    if (t->device.device_id != 0) {
        PyErr_Format(PyExc_ValueError,
                     "%s lies on GPU %d, the network on GPU 0 (CUDA_VISIBLE_DEVICES chooses)",
                     argument, (int)t->device.device_id);
        return -1;
    }
    if (t->ndim < 1 || t->ndim > FACS_PY_MAX_DIMS ||
        (t->strides && !is_dense(t->ndim, t->shape, t->strides, 1)))
        return fail_layout(argument);
    self->data = (char *)t->data + t->byte_offset;
    self->dtype = (facs_py_dtype)type;
    self->ndim = t->ndim;
    memcpy(self->shape, t->shape, (size_t)t->ndim * sizeof *t->shape);
    return 0;
}

void facs_py_device_unmanage(void *managed)
{
    DLManagedTensor *tensor = managed;
    if (tensor && tensor->deleter) tensor->deleter(tensor);
}

/* Stream 1 is CUDA's legacy default stream, which the streams of our threads wait for. */
static int fill_from_dlpack(facs_py_device_array *self, PyObject *object, const char *argument)
{
    PyObject *give = PyObject_GetAttrString(object, "__dlpack__"), *capsule = NULL;
    PyObject *none = give ? PyTuple_New(0) : NULL;
    PyObject *stream = none ? Py_BuildValue("{s:i}", "stream", 1) : NULL;
    if (stream) capsule = PyObject_Call(give, none, stream);
    Py_XDECREF(stream);
    Py_XDECREF(none);
    Py_XDECREF(give);
    DLManagedTensor *managed = capsule ? PyCapsule_GetPointer(capsule, "dltensor") : NULL;
    int status = managed ? fill_from_tensor(self, &managed->dl_tensor, argument) : -1;
    if (status == 0) status = PyCapsule_SetName(capsule, "used_dltensor");
    if (status == 0) self->managed = managed;
    Py_XDECREF(capsule);
    return status;
}

/* A tuple of whole numbers; its length, or -1 with an exception. */
static int read_numbers(PyObject *tuple, int64_t *numbers, const char *argument)
{
    if (!PyTuple_Check(tuple) || PyTuple_GET_SIZE(tuple) > FACS_PY_MAX_DIMS)
        return fail_layout(argument);
    const int count = (int)PyTuple_GET_SIZE(tuple);
    for (int i = 0; i < count; i++) numbers[i] = PyLong_AsLongLong(PyTuple_GET_ITEM(tuple, i));
    return PyErr_Occurred() ? -1 : count;
}

/* Streams other than the default ones would have to be waited for. */
static int check_stream(PyObject *stream, const char *argument)
{
    if (!stream || stream == Py_None) return 0;
    const long number = PyLong_AsLong(stream);
    if (number == -1 && PyErr_Occurred()) return -1;
    if (number == 1 || number == 2) return 0;
    PyErr_Format(PyExc_ValueError,
                 "%s: its __cuda_array_interface__ names a stream; pass it through DLPack",
                 argument);
    return -1;
}

static int fill_from_interface(facs_py_device_array *self, PyObject *row, const char *argument)
{
    PyObject *data = PyDict_GetItemString(row, "data");
    PyObject *shape = PyDict_GetItemString(row, "shape");
    PyObject *type = PyDict_GetItemString(row, "typestr");
    PyObject *strides = PyDict_GetItemString(row, "strides");
    unsigned long long pointer;
    int64_t steps[FACS_PY_MAX_DIMS];
    int read_only;

    const char *text = type && PyUnicode_Check(type) ? PyUnicode_AsUTF8(type) : NULL;
    if (!data || !PyTuple_Check(data) || !shape || !text ||
        !PyArg_ParseTuple(data, "Kp", &pointer, &read_only)) {
        if (!PyErr_Occurred())
            PyErr_Format(PyExc_TypeError, "%s: its __cuda_array_interface__ is not whole",
                         argument);
        return -1;
    }
    const int known = type_from_text(text);
    if (known < 0) return fail_type(argument);
    self->dtype = (facs_py_dtype)known;
    self->ndim = read_numbers(shape, self->shape, argument);
    if (self->ndim < 0) return -1;
    if (self->ndim == 0) return fail_layout(argument);
    if (strides && strides != Py_None) {
        if (read_numbers(strides, steps, argument) < 0) return -1;
        if (!is_dense(self->ndim, self->shape, steps, (int64_t)facs_py_item_bytes(self->dtype)))
            return fail_layout(argument);
    }
    self->data = (void *)(uintptr_t)pointer;
    return check_stream(PyDict_GetItemString(row, "stream"), argument);
}

static int fill_from(facs_py_device_array *self, PyObject *object, const char *argument)
{
    PyObject *give = optional(object, "__dlpack__");
    if (!give && PyErr_Occurred()) return -1;
    Py_XDECREF(give);
    if (give) return fill_from_dlpack(self, object, argument);
    PyObject *row = PyObject_GetAttrString(object, "__cuda_array_interface__");
    if (!row) return -1;
    int status = -1;
    if (PyDict_Check(row))
        status = fill_from_interface(self, row, argument);
    else
        PyErr_Format(PyExc_TypeError, "%s: its __cuda_array_interface__ is no dict", argument);
    Py_DECREF(row);
    if (status == 0) self->owner = Py_NewRef(object);
    return status;
}

PyObject *facs_py_device_view(const facs_device *device, PyObject *object, const char *argument)
{
    if (facs_py_is_device_array(object)) return Py_NewRef(object);
    facs_py_device_array *self = facs_py_device_new(device);
    if (self && fill_from(self, object, argument) < 0) {
        self->data = NULL;
        Py_CLEAR(self);
    }
    return (PyObject *)self;
}

int facs_py_device_take(facs_py_array *array, PyObject *object, const facs_device *device,
                        const char *argument, int ndim, int64_t *shape, facs_py_dtype *dtype)
{
    memset(array, 0, sizeof *array);
    const int there = facs_py_is_on_gpu(object);
    if (there <= 0) return there;
    if (!device->separate) {
        PyErr_Format(PyExc_ValueError, "%s lies on a GPU, but the network's device is %s",
                     argument, device->name);
        return -1;
    }
    PyObject *view = facs_py_device_view(device, object, argument);
    if (!view) return -1;
    const facs_py_device_array *found = (facs_py_device_array *)view;
    if (facs_py_check_shape(argument, found->ndim, found->shape, ndim, shape) < 0) {
        Py_DECREF(view);
        return -1;
    }
    *dtype = found->dtype;
    array->object = view;
    array->data = found->data;
    array->ndim = ndim;
    memcpy(array->shape, found->shape, sizeof array->shape);
    memcpy(shape, found->shape, (size_t)ndim * sizeof *shape);
    return 1;
}

/* --- out */

typedef struct handout {
    DLManagedTensor tensor;
    PyObject *array;
} handout;

static void delete_handout(DLManagedTensor *tensor)
{
    handout *e = tensor->manager_ctx;
    const PyGILState_STATE state = PyGILState_Ensure();
    Py_DECREF(e->array);
    PyGILState_Release(state);
    PyMem_RawFree(e);
}

static void drop_capsule(PyObject *capsule)
{
    if (!PyCapsule_IsValid(capsule, "dltensor")) return; /* somebody took it */
    facs_py_device_unmanage(PyCapsule_GetPointer(capsule, "dltensor"));
}

/* What stands in the array is finished, so no stream has to wait. */
PyObject *facs_py_device_dlpack(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"stream", "max_version", "dl_device", "copy", NULL};
    facs_py_device_array *self = (facs_py_device_array *)object;
    PyObject *stream, *version, *device, *copy = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|$OOOO", names, &stream, &version, &device,
                                     &copy))
        return NULL;
    if (copy == Py_True) {
        PyErr_SetString(PyExc_BufferError, "a DeviceArray is given without a copy only");
        return NULL;
    }
    handout *e = PyMem_RawCalloc(1, sizeof *e);
    if (!e) return PyErr_NoMemory();
    e->array = Py_NewRef(object);
    e->tensor = (DLManagedTensor){.dl_tensor = {.data = self->data,
                                                .device = {DLPACK_CUDA, 0},
                                                .ndim = self->ndim,
                                                .dtype = types[self->dtype].dlpack,
                                                .shape = self->shape},
                                  .manager_ctx = e,
                                  .deleter = delete_handout};
    PyObject *capsule = PyCapsule_New(&e->tensor, "dltensor", drop_capsule);
    if (!capsule) delete_handout(&e->tensor);
    return capsule;
}

PyObject *facs_py_device_dlpack_device(PyObject *self, PyObject *unused)
{
    (void)self, (void)unused;
    return Py_BuildValue("(ii)", DLPACK_CUDA, 0);
}

PyObject *facs_py_device_interface(PyObject *object, void *unused)
{
    const facs_py_device_array *self = (facs_py_device_array *)object;
    PyObject *shape = PyObject_GetAttrString(object, "shape");
    (void)unused;
    if (!shape) return NULL;
    return Py_BuildValue("{s:N,s:s,s:(KO),s:O,s:i}", "shape", shape, "typestr",
                         types[self->dtype].interface, "data",
                         (unsigned long long)(uintptr_t)self->data, Py_False, "strides",
                         Py_None, "version", 3);
}
