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

static PyMethodDef functions[] = {
    {"build_facts", build_facts, METH_NOARGS,
     "Compiler, BLAS, OpenMP date (0: none), usable kernel rungs from the plainest, threads."},
    {NULL},
};

facs_py_adder facs_py_about_add;

int facs_py_about_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
