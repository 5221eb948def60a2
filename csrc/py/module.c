#include "py/bridge.h"

#include "core/blas.h"
#include "core/threads.h"
#include "py/device_array.h"
#include "py/loader_module.h"
#include "py/loss_module.h"
#include "py/network_module.h"
#include "py/store_module.h"
#include "py/synthetic_module.h"
#include "py/trainer_module.h"

/* The two exceptions that are ours; the others are Python's own. */
typedef struct module_state {
    PyObject *format_error, *device_error;
} module_state;

static struct PyModuleDef definition;

PyObject *facs_py_raise(facs_status status)
{
    const char *name = facs_status_exception(status);
    PyObject *module = PyImport_ImportModule("facsnet._core");
    if (!module) return NULL;
    PyObject *exception = PyObject_GetAttrString(module, name);
    Py_DECREF(module);
    if (!exception) {
        PyErr_Clear();
        PyObject *builtins = PyImport_ImportModule("builtins");
        exception = builtins ? PyObject_GetAttrString(builtins, name) : NULL;
        Py_XDECREF(builtins);
        if (!exception) return NULL;
    }
    PyErr_Format(exception, "%s", facs_last_message());
    Py_DECREF(exception);
    return NULL;
}

static int add_exceptions(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    state->format_error = PyErr_NewExceptionWithDoc(
        "facsnet.FormatError", "A file or buffer is not what its format wants.",
        PyExc_ValueError, NULL);
    state->device_error = PyErr_NewExceptionWithDoc(
        "facsnet.DeviceError", "A device is missing or failed.", PyExc_RuntimeError, NULL);
    if (!state->format_error || !state->device_error) return -1;
    if (PyModule_AddObjectRef(module, "FormatError", state->format_error) < 0) return -1;
    return PyModule_AddObjectRef(module, "DeviceError", state->device_error);
}

facs_py_adder facs_py_image_add, facs_py_metric_add, facs_py_study_add, facs_py_about_add,
    facs_py_cache_add, facs_py_sampler_add;

static facs_py_adder *const adders[] = {
    facs_py_bridge_init, add_exceptions,     facs_py_network_add, facs_py_loss_add,
    facs_py_trainer_add, facs_py_image_add,  facs_py_loader_add,  facs_py_synthetic_add,
    facs_py_metric_add,  facs_py_study_add,  facs_py_about_add,   facs_py_cache_add,
    facs_py_sampler_add, facs_py_device_add, facs_py_store_add,
};

static int execute(PyObject *module)
{
    facs_threads_survive_fork();
    facs_blas_init();
    for (size_t i = 0; i < sizeof adders / sizeof *adders; i++)
        if (adders[i](module) < 0) return -1;
    return 0;
}

static int traverse(PyObject *module, visitproc visit, void *arg)
{
    module_state *state = PyModule_GetState(module);
    Py_VISIT(state->format_error);
    Py_VISIT(state->device_error);
    return 0;
}

static int clear(PyObject *module)
{
    module_state *state = PyModule_GetState(module);
    Py_CLEAR(state->format_error);
    Py_CLEAR(state->device_error);
    return 0;
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, (void *)execute},
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_core",
    .m_doc = "The C core of facsnet.",
    .m_size = sizeof(module_state),
    .m_slots = slots,
    .m_traverse = traverse,
    .m_clear = clear,
};

PyMODINIT_FUNC PyInit__core(void)
{
    return PyModuleDef_Init(&definition);
}
