#include "py/bridge.h"

#include "core/blas.h"
#include "core/threads.h"
#include "kernel/kernel.h"

#ifdef __clang__
#    define COMPILER "clang " __clang_version__
#else
#    define COMPILER "gcc " __VERSION__
#endif

static PyObject *rung_names(void)
{
    PyObject *list = PyList_New(0);
    for (int i = 0; list && facs_kernels_rung(i); i++) {
        PyObject *name = PyUnicode_FromString(facs_kernels_rung(i));
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    PyObject *names = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return names;
}

static PyObject *build_facts(PyObject *module, PyObject *unused)
{
    (void)module, (void)unused;
#ifdef _OPENMP
    const int openmp = _OPENMP;
#else
    const int openmp = 0;
#endif
    PyObject *rungs = rung_names();
    if (!rungs) return NULL;
    return Py_BuildValue("{s:s,s:s,s:i,s:N,s:i}", "compiler", COMPILER, "blas",
                         facs_blas_name(), "openmp", openmp, "instruction_sets", rungs,
                         "threads", facs_threads_default());
}

/* None where this machine does not have `limit`. */
static PyObject *kernels_in_use(PyObject *module, PyObject *args)
{
    facs_kernels kernels, narrow;
    const char *limit;
    (void)module;

    if (!PyArg_ParseTuple(args, "z", &limit)) return NULL;
    if (!facs_kernels_select(&kernels, limit) || !facs_kernels_select_bfloat16(&narrow, limit))
        Py_RETURN_NONE;
    return Py_BuildValue("(ss)", kernels.name, narrow.name);
}

static PyMethodDef functions[] = {
    {"build_facts", build_facts, METH_NOARGS,
     "Compiler, BLAS, OpenMP date (0: none), usable kernel rungs from the plainest, threads."},
    {"kernels_in_use", kernels_in_use, METH_VARARGS,
     "kernels_in_use(limit) -> rungs of float32 and of bfloat16 up to `limit`, or None."},
    {NULL},
};

facs_py_adder facs_py_about_add;

int facs_py_about_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
