#include "py/bridge.h"

#include "core/memory.h"
#include "core/system_memory.h"

/* What a cache of activations is read by, beside the passes of Network. */

static PyObject *available_memory(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
    return PyLong_FromSize_t(facs_system_memory(""));
}

/* Rows of whatever type, C-contiguous. */
static PyObject *expect_rows(PyObject *module, PyObject *args)
{
    PyObject *values, *rows;
    Py_buffer buffer;
    facs_py_array index;
    int64_t shape[1] = {FACS_PY_ANY};

    (void)module;
    if (!PyArg_ParseTuple(args, "OO", &values, &rows) ||
        PyObject_GetBuffer(values, &buffer, PyBUF_ND | PyBUF_C_CONTIGUOUS) < 0)
        return NULL;
    if (facs_py_array_from(&index, rows, "rows", FACS_PY_INT64, 1, shape) < 0) {
        PyBuffer_Release(&buffer);
        return NULL;
    }
    const int64_t count = buffer.ndim && buffer.len ? buffer.shape[0] : 0, *row = index.data;
    for (int64_t i = 0; i < shape[0]; i++) {
        const size_t bytes = count ? (size_t)(buffer.len / count) : 0;
        if (row[i] >= 0 && row[i] < count)
            facs_memory_expect((const char *)buffer.buf + (size_t)row[i] * bytes, bytes);
    }
    facs_py_array_release(&index);
    PyBuffer_Release(&buffer);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"available_memory", available_memory, METH_NOARGS, "Bytes this process could still fill."},
    {"expect_rows", expect_rows, METH_VARARGS,
     "expect_rows(values, rows): let the system read ahead rows of a mapped file."},
    {NULL},
};

facs_py_adder facs_py_cache_add;

int facs_py_cache_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
