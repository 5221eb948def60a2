#include "py/bridge.h"

#define NPY_NO_DEPRECATED_API NPY_2_0_API_VERSION
#define NPY_TARGET_VERSION    NPY_1_25_API_VERSION
#include <numpy/arrayobject.h>
#include <stdint.h>

#include <math.h>
#include <string.h>

static const struct {
    int type;
    const char *name;
    size_t bytes;
} dtypes[FACS_PY_DTYPE_COUNT] = {
    [FACS_PY_FLOAT32] = {NPY_FLOAT32, "float32", 4},
    [FACS_PY_FLOAT64] = {NPY_FLOAT64, "float64", 8},
    [FACS_PY_UINT8] = {NPY_UINT8, "uint8", 1},
    [FACS_PY_UINT16] = {NPY_UINT16, "uint16", 2},
    [FACS_PY_INT64] = {NPY_INT64, "int64", 8},
    [FACS_PY_BOOL] = {NPY_BOOL, "bool", 1},
};

size_t facs_py_item_bytes(facs_py_dtype dtype)
{
    return dtypes[dtype].bytes;
}

int facs_py_bridge_init(PyObject *module)
{
    (void)module;
    import_array1(-1);
    return 0;
}

/* "(3, any, 8)" for messages. */
static void print_shape(char *text, size_t size, int ndim, const int64_t *shape)
{
    size_t used = (size_t)snprintf(text, size, "(");
    for (int i = 0; i < ndim && used < size; i++) {
        const char *separator = i + 1 < ndim ? ", " : ndim == 1 ? "," : "";
        if (shape[i] == FACS_PY_ANY)
            used += (size_t)snprintf(text + used, size - used, "any%s", separator);
        else
            used += (size_t)snprintf(text + used, size - used, "%lld%s", (long long)shape[i],
                                     separator);
    }
    if (used < size) snprintf(text + used, size - used, ")");
}

static int shape_matches(int ndim, const int64_t *shape, int wanted_ndim, const int64_t *wanted)
{
    if (ndim != wanted_ndim) return 0;
    for (int i = 0; i < ndim; i++)
        if (wanted[i] != FACS_PY_ANY && shape[i] != wanted[i]) return 0;
    return 1;
}

int facs_py_check_shape(const char *argument, int ndim, const int64_t *shape, int wanted_ndim,
                        const int64_t *wanted)
{
    char want[96], found[96];

    if (shape_matches(ndim, shape, wanted_ndim, wanted)) return 0;
    print_shape(want, sizeof want, wanted_ndim, wanted);
    print_shape(found, sizeof found, ndim, shape);
    PyErr_Format(PyExc_ValueError, "%s: shape is %s, want %s", argument, found, want);
    return -1;
}

static void fill(facs_py_array *array, PyArrayObject *object)
{
    array->object = (PyObject *)object;
    array->data = PyArray_DATA(object);
    array->ndim = PyArray_NDIM(object);
    for (int i = 0; i < array->ndim; i++) array->shape[i] = PyArray_DIM(object, i);
}

static int castable(PyArrayObject *array, int type)
{
    const int from = PyArray_TYPE(array);
    if (from == type) return 1;
    const int to_float = type == NPY_FLOAT32 || type == NPY_FLOAT64;
    if (to_float)
        return PyTypeNum_ISINTEGER(from) || PyTypeNum_ISBOOL(from) || PyTypeNum_ISFLOAT(from);
    PyArray_Descr *wanted = PyArray_DescrFromType(type);
    const int allowed = PyArray_CanCastTypeTo(PyArray_DESCR(array), wanted, NPY_SAFE_CASTING);
    Py_DECREF(wanted);
    return allowed;
}

int facs_py_array_from(facs_py_array *array, PyObject *object, const char *argument,
                       facs_py_dtype dtype, int ndim, int64_t *shape)
{
    int64_t found[NPY_MAXDIMS];

    memset(array, 0, sizeof *array);
    PyArrayObject *any = (PyArrayObject *)PyArray_FROM_O(object);
    if (!any) return -1;
    if (!castable(any, dtypes[dtype].type)) {
        PyErr_Format(PyExc_TypeError, "%s: dtype %S does not convert to %s", argument,
                     (PyObject *)PyArray_DESCR(any), dtypes[dtype].name);
        Py_DECREF(any);
        return -1;
    }
    for (int i = 0; i < PyArray_NDIM(any); i++) found[i] = PyArray_DIM(any, i);
    if (facs_py_check_shape(argument, PyArray_NDIM(any), found, ndim, shape) < 0) {
        Py_DECREF(any);
        return -1;
    }
    PyArrayObject *cast =
        (PyArrayObject *)PyArray_FROMANY((PyObject *)any, dtypes[dtype].type, ndim, ndim,
                                         NPY_ARRAY_CARRAY_RO | NPY_ARRAY_FORCECAST);
    Py_DECREF(any);
    if (!cast) return -1;
    fill(array, cast);
    memcpy(shape, array->shape, (size_t)ndim * sizeof *shape);
    return 0;
}

int facs_py_array_any(facs_py_array *array, PyObject *object, const char *argument,
                      facs_py_dtype *dtype)
{
    int64_t shape[FACS_PY_MAX_DIMS] = {FACS_PY_ANY, FACS_PY_ANY, FACS_PY_ANY, FACS_PY_ANY};
    int known = FACS_PY_DTYPE_COUNT;

    memset(array, 0, sizeof *array);
    PyArrayObject *any = (PyArrayObject *)PyArray_FROM_O(object);
    if (!any) return -1;
    for (int i = 0; i < FACS_PY_DTYPE_COUNT; i++)
        if (dtypes[i].type == PyArray_TYPE(any)) known = i;
    const int ndim = PyArray_NDIM(any);
    int status = -1;
    if (known == FACS_PY_DTYPE_COUNT)
        PyErr_Format(PyExc_TypeError, "%s: its dtype is %S", argument,
                     (PyObject *)PyArray_DESCR(any));
    else if (ndim < 1 || ndim > FACS_PY_MAX_DIMS)
        PyErr_Format(PyExc_ValueError, "%s has %d axes, want 1 to %d", argument, ndim,
                     FACS_PY_MAX_DIMS);
    else
        status = facs_py_array_from(array, (PyObject *)any, argument, (facs_py_dtype)known,
                                    ndim, shape);
    *dtype = (facs_py_dtype)known;
    Py_DECREF(any);
    return status;
}

int facs_py_images_from(facs_py_array *array, PyObject *object, const char *argument,
                        int64_t *shape, int *bytes)
{
    memset(array, 0, sizeof *array);
    PyArrayObject *any = (PyArrayObject *)PyArray_FROM_O(object);
    if (!any) return -1;
    *bytes = PyArray_TYPE(any) == NPY_UINT8;
    int status = -1;
    if (*bytes || PyTypeNum_ISFLOAT(PyArray_TYPE(any)))
        status = facs_py_array_from(array, (PyObject *)any, argument,
                                    *bytes ? FACS_PY_UINT8 : FACS_PY_FLOAT32, 4, shape);
    else
        PyErr_Format(PyExc_TypeError,
                     "%s: dtype is %S, want uint8 (pixels) or floating point (scaled)",
                     argument, (PyObject *)PyArray_DESCR(any));
    Py_DECREF(any);
    return status;
}

/* Without a branch for each, so that the compiler makes vectors of it. */
int facs_py_are_finite(const float *values, int64_t count)
{
    uint32_t found = 0;
    for (int64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, values + i, sizeof bits);
        found |= (bits & 0x7f800000) == 0x7f800000;
    }
    return !found;
}

static int64_t first_not_finite(const float *values, int64_t count)
{
    enum { RUN = 4096 };
    int64_t i = 0;
    while (i + RUN <= count && facs_py_are_finite(values + i, RUN)) i += RUN;
    while (i < count && isfinite(values[i])) i++;
    return i;
}

int facs_py_array_check_finite(const facs_py_array *array, const char *argument)
{
    const float *values = array->data;
    int64_t index[FACS_PY_MAX_DIMS], count = 1, found;
    char text[96];

    for (int i = 0; i < array->ndim; i++) count *= array->shape[i];
    FACS_PY_UNLOCKED(found = first_not_finite(values, count));
    if (found == count) return 0;
    int64_t rest = found;
    for (int i = array->ndim - 1; i >= 0; i--) {
        index[i] = rest % array->shape[i];
        rest /= array->shape[i];
    }
    print_shape(text, sizeof text, array->ndim, index);
    PyErr_Format(PyExc_ValueError, "%s: entry %s is %s", argument, text,
                 isnan(values[found]) ? "NaN" : "infinite");
    return -1;
}

int facs_py_choice(const char *argument, const char *name, const char *const *names, int count)
{
    char wanted[160];
    size_t used = 0;

    for (int i = 0; i < count; i++)
        if (strcmp(names[i], name) == 0) return i;
    for (int i = 0; i < count && used < sizeof wanted; i++)
        used += (size_t)snprintf(wanted + used, sizeof wanted - used, "%s'%s'",
                                 i == 0           ? ""
                                 : i + 1 == count ? " or "
                                                  : ", ",
                                 names[i]);
    PyErr_Format(PyExc_ValueError, "%s is '%s', want %s", argument, name, wanted);
    return -1;
}

int facs_py_array_new(facs_py_array *array, facs_py_dtype dtype, int ndim, const int64_t *shape)
{
    npy_intp dims[FACS_PY_MAX_DIMS];
    memset(array, 0, sizeof *array);
    for (int i = 0; i < ndim; i++) dims[i] = (npy_intp)shape[i];
    PyArrayObject *object = (PyArrayObject *)PyArray_ZEROS(ndim, dims, dtypes[dtype].type, 0);
    if (!object) return -1;
    fill(array, object);
    return 0;
}

PyObject *facs_py_array_view(PyObject *owner, void *data, facs_py_dtype dtype, int ndim,
                             const int64_t *shape, int writable)
{
    npy_intp dims[FACS_PY_MAX_DIMS];
    for (int i = 0; i < ndim; i++) dims[i] = (npy_intp)shape[i];
    const int flags = writable ? NPY_ARRAY_CARRAY : NPY_ARRAY_CARRAY_RO;
    PyObject *view =
        PyArray_New(&PyArray_Type, ndim, dims, dtypes[dtype].type, NULL, data, 0, flags, NULL);
    if (!view) return NULL;
    Py_INCREF(owner);
    if (PyArray_SetBaseObject((PyArrayObject *)view, owner) < 0) {
        Py_DECREF(view);
        return NULL;
    }
    return view;
}

PyObject *facs_py_array_detach(facs_py_array *array)
{
    PyObject *object = array->object;
    memset(array, 0, sizeof *array);
    return object;
}

int facs_py_is_array(PyObject *object, facs_py_dtype dtype)
{
    return PyArray_Check(object) && PyArray_TYPE((PyArrayObject *)object) == dtypes[dtype].type;
}

void facs_py_array_release(facs_py_array *array)
{
    Py_CLEAR(array->object);
    memset(array, 0, sizeof *array);
}
