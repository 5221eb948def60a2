#include "py/network_object.h"

#include <string.h>

int facs_py_network_enter(PyObject *object)
{
    facs_network_object *self = (facs_network_object *)object;
    int locked;
    Py_BEGIN_ALLOW_THREADS locked = PyThread_acquire_lock(self->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS if (!locked)
        PyErr_SetString(PyExc_RuntimeError, "the network's lock failed");
    return locked ? 0 : -1;
}

void facs_py_network_leave(PyObject *object)
{
    PyThread_release_lock(((facs_network_object *)object)->lock);
}

/* --- life */

/* padding and head are indices of the names; relu6 stops at 6. */
static int parse_choices(facs_network_options *o, const char *padding, const char *activation,
                         const char *head)
{
    static const char *const paddings[] = {[FACS_PADDING_SYMMETRIC] = "symmetric",
                                           [FACS_PADDING_SAME] = "same",
                                           [FACS_PADDING_KERAS] = "keras"};
    static const char *const heads[] = {
        [FACS_HEAD_ACTION_UNITS] = "action_units", [FACS_HEAD_CLASSIFIER] = "classifier"};
    static const char *const activations[] = {"relu", "relu6"};
    const int p = facs_py_choice("padding", padding, paddings, 3);
    const int a = p < 0 ? -1 : facs_py_choice("activation", activation, activations, 2);
    const int h = a < 0 ? -1 : facs_py_choice("head", head, heads, FACS_HEAD_COUNT);
    if (h < 0) return -1;
    o->padding = (facs_padding)p;
    o->activation = (facs_clamp){0, a ? 6 : (facs_real)INFINITY};
    o->head = (facs_head)h;
    return 0;
}

/* plugin: path of a device's shared object, "" for the CPU. */
static facs_status create(facs_network_object *self, const char *name,
                          const facs_network_options *options, unsigned long long seed,
                          const char *cpu, int threads, facs_precision precision,
                          const char *plugin)
{
    facs_network *network;
    if (*plugin) FACS_TRY(facs_plugin_load(&self->plugin, plugin));
    FACS_TRY(facs_network_create(&network, name, options, seed));
    const facs_status status = facs_session_create(&self->session, network, cpu, threads,
                                                   precision, *plugin ? &self->plugin : NULL);
    if (status != FACS_OK) facs_network_free(network);
    return status;
}

static PyObject *network_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name",       "labels",  "width",   "input_size", "padding",
                            "activation", "epsilon", "dropout", "head",       "threads",
                            "seed",       "cpu",     "dtype",   "plugin",     NULL};
    static const char *const precisions[] = {
        [FACS_PRECISION_FLOAT32] = "float32", [FACS_PRECISION_BFLOAT16] = "bfloat16"};
    facs_network_options o = {0};
    const char *name, *padding, *activation, *head, *cpu, *dtype, *plugin;
    int threads;
    unsigned long long seed;
    facs_status status;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sidissddsiKzss", names, &name, &o.labels,
                                     &o.width, &o.input_size, &padding, &activation, &o.epsilon,
                                     &o.dropout, &head, &threads, &seed, &cpu, &dtype, &plugin))
        return NULL;
    const int precision = facs_py_choice("dtype", dtype, precisions, FACS_PRECISION_COUNT);
    if (precision < 0) return NULL;
    if (parse_choices(&o, padding, activation, head) < 0) return NULL;
    facs_network_object *self = (facs_network_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->lock = PyThread_allocate_lock();
    FACS_PY_UNLOCKED(
        status = create(self, name, &o, seed, cpu, threads, (facs_precision)precision, plugin));
    if (status != FACS_OK || !self->lock) {
        Py_DECREF(self);
        return status == FACS_OK ? PyErr_NoMemory() : facs_py_raise(status);
    }
    return (PyObject *)self;
}

static int network_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((facs_network_object *)object)->pending.array.object);
    return 0;
}

static int network_clear(PyObject *object)
{
    facs_network_object *self = (facs_network_object *)object;
    self->pending.n = 0;
    facs_py_array_release(&self->pending.array);
    return 0;
}

static void network_dealloc(PyObject *object)
{
    facs_network_object *self = (facs_network_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    network_clear(object);
    facs_session_free(self->session);
    if (self->lock) PyThread_free_lock(self->lock);
    type->tp_free(object);
    Py_DECREF(type);
}

/* --- settings */

static PyObject *network_touch(PyObject *object, PyObject *unused)
{
    (void)unused;
    if (facs_py_network_enter(object) < 0) return NULL;
    facs_session_touch(((facs_network_object *)object)->session);
    facs_py_network_leave(object);
    Py_RETURN_NONE;
}

static int find_block(PyObject *object, const char *block)
{
    const int index = facs_graph_find_block(&facs_py_network_of(object)->graph, block);
    if (index < 0) PyErr_Format(PyExc_ValueError, "block '%s' is not in this network", block);
    return index;
}

static PyObject *network_initialise(PyObject *object, PyObject *args)
{
    facs_network_object *self = (facs_network_object *)object;
    unsigned long long seed;
    const char *block;
    if (!PyArg_ParseTuple(args, "Ks", &seed, &block)) return NULL;
    const int index = find_block(object, block);
    if (index < 0 || facs_py_network_enter(object) < 0) return NULL;
    facs_status status;
    FACS_PY_UNLOCKED({
        status = facs_session_fetch(self->session);
        if (status == FACS_OK) {
            facs_network_initialise(facs_py_network_of(object), seed, index);
            facs_session_touch(self->session);
        }
    });
    facs_py_network_leave(object);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *network_set_pixels(PyObject *object, PyObject *args)
{
    facs_session *session = ((facs_network_object *)object)->session;
    facs_real scale[3], shift[3];
    if (!PyArg_ParseTuple(args, "(fff)(fff)", &scale[0], &scale[1], &scale[2], &shift[0],
                          &shift[1], &shift[2]) ||
        facs_py_network_enter(object) < 0)
        return NULL;
    const facs_status status = facs_session_fetch(session);
    facs_session_set_pixels(session, scale, shift);
    facs_session_touch(session);
    facs_py_network_leave(object);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *network_plan_bytes(PyObject *object, PyObject *args)
{
    facs_network_object *self = (facs_network_object *)object;
    long long batch;
    int training, recompute;
    const char *block;
    size_t bytes;
    facs_status status;
    if (!PyArg_ParseTuple(args, "Lpsp", &batch, &training, &block, &recompute)) return NULL;
    const int index = find_block(object, block);
    if (index < 0 || facs_py_network_enter(object) < 0) return NULL;
    FACS_PY_UNLOCKED(status = facs_session_measure(self->session, batch, training, index,
                                                   recompute, &bytes));
    facs_py_network_leave(object);
    return status == FACS_OK ? PyLong_FromSize_t(bytes) : facs_py_raise(status);
}

/* --- type */

static PyObject *network_get_threads(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromLong(facs_session_threads(((facs_network_object *)object)->session));
}

static PyObject *network_get_rung(PyObject *object, void *unused)
{
    const facs_session *session = ((facs_network_object *)object)->session;
    const facs_kernels *narrow = facs_session_narrow(session);
    (void)unused;
    return PyUnicode_FromString((narrow ? narrow : facs_session_kernels(session))->name);
}

static PyObject *network_get_device(PyObject *object, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(
        facs_session_device(((facs_network_object *)object)->session)->name);
}

PyDoc_STRVAR(forward_doc, "forward($self, /, x, training=False, seed=0, step=0)\n--\n\n"
                          "Logits (n, labels) of images x (n, h, w, 3).");

static PyMethodDef methods[] = {
    {"forward", (PyCFunction)(void (*)(void))facs_py_network_forward,
     METH_VARARGS | METH_KEYWORDS, forward_doc},
    {"features", facs_py_network_features, METH_O, "Pooled features (n, c) of images x."},
    {"head", facs_py_network_head, METH_O, "Logits (n, labels) of pooled features (n, c)."},
    {"boundary_shape", facs_py_network_boundary_shape, METH_O,
     "Shape (h, w, c) of the value that enters a block."},
    {"below", facs_py_network_below, METH_VARARGS,
     "below(x, block, bfloat16) -> that value of images x, float32 or the bits of bfloat16."},
    {"above", facs_py_network_above, METH_VARARGS,
     "above(values, block) -> logits (n, labels) of such values."},
    {"backward", facs_py_network_backward, METH_O,
     "Gradients of the last forward from dlogits."},
    {"parameter_rows", facs_py_network_parameter_rows, METH_NOARGS,
     "(name, kind, block, groups, array) rows."},
    {"gradients", facs_py_network_gradients, METH_NOARGS, "Name to gradient, read-only views."},
    {"touch", network_touch, METH_NOARGS, "Parameters were written."},
    {"initialise", network_initialise, METH_VARARGS, "Draw parameters anew from a block on."},
    {"set_pixels", network_set_pixels, METH_VARARGS, "(scale, shift) of 8-bit pixels."},
    {"plan_bytes", network_plan_bytes, METH_VARARGS,
     "Arena bytes (batch, training, block, recompute)."},
    {"node_rows", facs_py_network_node_rows, METH_NOARGS, "Rows of the summary."},
    {"block_names", facs_py_network_block_names, METH_NOARGS, "Blocks in order."},
    {NULL},
};

static PyGetSetDef properties[] = {
    {"threads", network_get_threads, NULL, "Worker threads.", NULL},
    {"instruction_set", network_get_rung, NULL, "Rung of the kernels in use.", NULL},
    {"device", network_get_device, NULL, "Where it runs.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"A backbone, its head and their parameters, ready to run."},
    {Py_tp_new, (void *)network_new},
    {Py_tp_traverse, (void *)network_traverse},
    {Py_tp_clear, (void *)network_clear},
    {Py_tp_dealloc, (void *)network_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "facsnet._core.Network",
    .basicsize = sizeof(facs_network_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

facs_session *facs_py_network_session(PyObject *object)
{
    PyObject *module = PyImport_ImportModule("facsnet._core");
    PyObject *type = module ? PyObject_GetAttrString(module, "Network") : NULL;
    const int matches = type ? PyObject_IsInstance(object, type) : -1;
    Py_XDECREF(module);
    Py_XDECREF(type);
    if (matches == 0)
        PyErr_Format(PyExc_TypeError, "network: got %s, want a Network",
                     Py_TYPE(object)->tp_name);
    return matches == 1 ? ((facs_network_object *)object)->session : NULL;
}

int facs_py_network_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type) return -1;
    const int status = PyModule_AddObjectRef(module, "Network", type);
    Py_DECREF(type);
    return status;
}
