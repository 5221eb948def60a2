#include "py/network_module.h"

#include <string.h>

typedef struct network_object {
    PyObject_HEAD facs_session *session;
    PyThread_type_lock lock;
    PyObject *pending; /* input of the last inference forward, for a later backward */
} network_object;

static facs_network *network_of(network_object *self)
{
    return facs_session_network(self->session);
}

int facs_py_network_enter(PyObject *object)
{
    network_object *self = (network_object *)object;
    int locked;
    Py_BEGIN_ALLOW_THREADS locked = PyThread_acquire_lock(self->lock, WAIT_LOCK);
    Py_END_ALLOW_THREADS if (!locked)
        PyErr_SetString(PyExc_RuntimeError, "the network's lock failed");
    return locked ? 0 : -1;
}

void facs_py_network_leave(PyObject *object)
{
    PyThread_release_lock(((network_object *)object)->lock);
}

/* --- life */

static const struct {
    const char *name;
    int value;
} paddings[] = {{"symmetric", FACS_PADDING_SYMMETRIC},
                {"same", FACS_PADDING_SAME},
                {"keras", FACS_PADDING_KERAS}},
  heads[] = {{"action_units", FACS_HEAD_ACTION_UNITS}, {"classifier", FACS_HEAD_CLASSIFIER}};

static int parse_padding(const char *name, facs_padding *padding)
{
    for (size_t i = 0; i < sizeof paddings / sizeof *paddings; i++)
        if (strcmp(paddings[i].name, name) == 0) {
            *padding = (facs_padding)paddings[i].value;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "padding is '%s', want 'same', 'symmetric' or 'keras'",
                 name);
    return -1;
}

static int parse_head(const char *name, facs_head *head)
{
    for (size_t i = 0; i < sizeof heads / sizeof *heads; i++)
        if (strcmp(heads[i].name, name) == 0) {
            *head = (facs_head)heads[i].value;
            return 0;
        }
    PyErr_Format(PyExc_ValueError, "head is '%s', want 'action_units' or 'classifier'", name);
    return -1;
}

static int parse_activation(const char *name, facs_clamp *clamp)
{
    const int six = strcmp(name, "relu6") == 0;
    if (!six && strcmp(name, "relu") != 0) {
        PyErr_Format(PyExc_ValueError, "activation is '%s', want 'relu' or 'relu6'", name);
        return -1;
    }
    *clamp = (facs_clamp){0, six ? 6 : (facs_real)INFINITY};
    return 0;
}

static PyObject *network_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"name",       "labels",  "width",   "input_size", "padding",
                            "activation", "epsilon", "dropout", "head",       "threads",
                            "seed",       "cpu",     NULL};
    facs_network_options o = {0};
    const char *name, *padding, *activation, *head, *cpu;
    int threads;
    unsigned long long seed;
    facs_network *network;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "sidissddsiKz", names, &name, &o.labels,
                                     &o.width, &o.input_size, &padding, &activation, &o.epsilon,
                                     &o.dropout, &head, &threads, &seed, &cpu))
        return NULL;
    if (parse_padding(padding, &o.padding) < 0 ||
        parse_activation(activation, &o.activation) < 0 || parse_head(head, &o.head) < 0)
        return NULL;
    network_object *self = (network_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->lock = PyThread_allocate_lock();
    facs_status status = facs_network_create(&network, name, &o, seed);
    if (status == FACS_OK) {
        status = facs_session_create(&self->session, network, cpu, threads);
        if (status != FACS_OK) facs_network_free(network);
    }
    if (status != FACS_OK || !self->lock) {
        Py_DECREF(self);
        return status == FACS_OK ? PyErr_NoMemory() : facs_py_raise(status);
    }
    return (PyObject *)self;
}

static int network_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((network_object *)object)->pending);
    return 0;
}

static int network_clear(PyObject *object)
{
    Py_CLEAR(((network_object *)object)->pending);
    return 0;
}

static void network_dealloc(PyObject *object)
{
    network_object *self = (network_object *)object;
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    network_clear(object);
    facs_session_free(self->session);
    if (self->lock) PyThread_free_lock(self->lock);
    type->tp_free(object);
    Py_DECREF(type);
}

/* --- images in */

/* The images of a call: 8-bit pixels or numbers, never both. */
typedef struct images {
    facs_py_array array;
    const uint8_t *pixels;
    const float *numbers;
    int64_t n;
} images;

static int check_finite(const float *values, int64_t count, const char *argument)
{
    for (int64_t i = 0; i < count; i++)
        if (!isfinite(values[i])) {
            PyErr_Format(PyExc_ValueError, "%s: number %lld is %s", argument, (long long)i,
                         isnan(values[i]) ? "NaN" : "infinite");
            return -1;
        }
    return 0;
}

static int images_from(images *in, network_object *self, PyObject *object)
{
    const int side = network_of(self)->options.input_size;
    int64_t shape[4] = {FACS_PY_ANY, side, side, 3};
    const int bytes = facs_py_is_array(object, FACS_PY_UINT8);

    memset(in, 0, sizeof *in);
    if (facs_py_array_from(&in->array, object, "x", bytes ? FACS_PY_UINT8 : FACS_PY_FLOAT32, 4,
                           shape) < 0)
        return -1;
    in->n = shape[0];
    if (in->n < 1) {
        PyErr_SetString(PyExc_ValueError, "x: there are no images");
    } else if (bytes) {
        in->pixels = in->array.data;
        return 0;
    } else if (check_finite(in->array.data, in->n * side * side * 3, "x") == 0) {
        in->numbers = in->array.data;
        return 0;
    }
    facs_py_array_release(&in->array);
    return -1;
}

/* --- running */

static PyObject *finish(network_object *self, facs_status status, facs_py_array *result)
{
    facs_py_network_leave((PyObject *)self);
    if (status == FACS_OK) return facs_py_array_detach(result);
    facs_py_array_release(result);
    return facs_py_raise(status);
}

static int new_output(network_object *self, facs_py_array *out, int64_t n, facs_stretch stretch)
{
    const facs_network *net = network_of(self);
    const int node = stretch == FACS_STRETCH_FEATURES ? net->features : net->logits;
    const int64_t shape[2] = {n, net->graph.nodes[node].shape.c};
    return facs_py_array_new(out, FACS_PY_FLOAT32, 2, shape);
}

static PyObject *infer(network_object *self, const uint8_t *pixels, const float *numbers,
                       int64_t n, facs_stretch stretch)
{
    facs_py_array out;
    facs_status status;
    if (new_output(self, &out, n, stretch) < 0) return NULL;
    if (facs_py_network_enter((PyObject *)self) < 0) {
        facs_py_array_release(&out);
        return NULL;
    }
    FACS_PY_UNLOCKED(
        status = facs_session_infer(self->session, stretch, pixels, numbers, n, out.data));
    return finish(self, status, &out);
}

static PyObject *train_forward(network_object *self, const images *in, facs_mode mode,
                               unsigned long long seed, unsigned step)
{
    facs_py_array out;
    facs_status status;
    if (new_output(self, &out, in->n, FACS_STRETCH_LOGITS) < 0) return NULL;
    if (facs_py_network_enter((PyObject *)self) < 0) {
        facs_py_array_release(&out);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_session_forward(self->session, mode, in->pixels, in->numbers,
                                                   in->n, seed, step, out.data));
    return finish(self, status, &out);
}

PyDoc_STRVAR(forward_doc, "forward($self, /, x, training=False, seed=0, step=0)\n--\n\n"
                          "Logits (n, labels) of images x (n, h, w, 3).");

static PyObject *network_forward(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "training", "seed", "step", NULL};
    network_object *self = (network_object *)object;
    PyObject *x, *result;
    int training = 0;
    unsigned long long seed = 0;
    unsigned step = 0;
    images in;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|pKI", names, &x, &training, &seed,
                                     &step) ||
        images_from(&in, self, x) < 0)
        return NULL;
    if (training) {
        Py_CLEAR(self->pending);
        result = train_forward(self, &in, FACS_MODE_TRAIN, seed, step);
    } else {
        Py_XSETREF(self->pending, Py_NewRef(in.array.object));
        result = infer(self, in.pixels, in.numbers, in.n, FACS_STRETCH_LOGITS);
    }
    facs_py_array_release(&in.array);
    return result;
}

static PyObject *network_features(PyObject *object, PyObject *x)
{
    network_object *self = (network_object *)object;
    images in;
    if (images_from(&in, self, x) < 0) return NULL;
    PyObject *result = infer(self, in.pixels, in.numbers, in.n, FACS_STRETCH_FEATURES);
    facs_py_array_release(&in.array);
    return result;
}

static PyObject *network_head(PyObject *object, PyObject *features)
{
    network_object *self = (network_object *)object;
    const facs_network *net = network_of(self);
    int64_t shape[2] = {FACS_PY_ANY, net->graph.nodes[net->features].shape.c};
    facs_py_array x;
    if (facs_py_array_from(&x, features, "features", FACS_PY_FLOAT32, 2, shape) < 0)
        return NULL;
    PyObject *result = infer(self, NULL, x.data, shape[0], FACS_STRETCH_HEAD);
    facs_py_array_release(&x);
    return result;
}

/* After an inference forward nothing is kept for backward: run it again, keeping. */
static int replay_pending(network_object *self)
{
    images in;
    if (!self->pending) return 0;
    if (images_from(&in, self, self->pending) < 0) return -1;
    PyObject *logits = train_forward(self, &in, FACS_MODE_GRADIENT, 0, 0);
    facs_py_array_release(&in.array);
    if (!logits) return -1;
    Py_DECREF(logits);
    Py_CLEAR(self->pending);
    return 0;
}

static PyObject *network_backward(PyObject *object, PyObject *dlogits)
{
    network_object *self = (network_object *)object;
    int64_t shape[2] = {FACS_PY_ANY, network_of(self)->options.labels};
    facs_py_array dy;
    facs_status status;

    if (replay_pending(self) < 0) return NULL;
    const int64_t images = facs_session_images(self->session);
    if (images) shape[0] = images;
    if (facs_py_array_from(&dy, dlogits, "dlogits", FACS_PY_FLOAT32, 2, shape) < 0) return NULL;
    if (facs_py_network_enter(object) < 0) {
        facs_py_array_release(&dy);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_session_backward(self->session, dy.data));
    facs_py_network_leave(object);
    facs_py_array_release(&dy);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}

/* --- parameters */

static const char *const kinds[FACS_PARAMETER_KIND_COUNT] = {
    [FACS_PARAMETER_WEIGHT] = "weight", [FACS_PARAMETER_BIAS] = "bias",
    [FACS_PARAMETER_GAMMA] = "gamma",   [FACS_PARAMETER_BETA] = "beta",
    [FACS_PARAMETER_MEAN] = "mean",     [FACS_PARAMETER_VARIANCE] = "variance",
};

static PyObject *slab_view(PyObject *owner, facs_real *slab, const facs_parameter *p,
                           int writable)
{
    int64_t shape[4];
    for (int i = 0; i < p->ndim; i++) shape[i] = p->dims[i];
    return facs_py_array_view(owner, slab + p->offset, FACS_PY_FLOAT32, p->ndim, shape,
                              writable);
}

/* [(name, kind, block, groups, array)] in the order of the network */
static PyObject *network_parameters(PyObject *object, PyObject *unused)
{
    const facs_network *net = network_of((network_object *)object);
    PyObject *list = PyList_New(0);
    (void)unused;
    for (int i = 0; list && i < net->graph.parameter_count; i++) {
        const facs_parameter *p = &net->graph.parameters[i];
        const facs_node *node = &net->graph.nodes[p->node];
        const int groups = node->op == FACS_OP_CONV ? node->u.conv.geometry.groups : 1;
        PyObject *view = slab_view(object, net->parameters, p, 1);
        PyObject *row = view ? Py_BuildValue("(sssiN)", p->name, kinds[p->kind],
                                             net->graph.blocks[p->block], groups, view)
                             : NULL;
        if (!row || PyList_Append(list, row) < 0) Py_CLEAR(list);
        Py_XDECREF(row);
    }
    return list;
}

static PyObject *network_gradients(PyObject *object, PyObject *unused)
{
    network_object *self = (network_object *)object;
    const facs_network *net = network_of(self);
    facs_real *slab;
    (void)unused;
    const facs_status status = facs_session_gradients(self->session, &slab);
    if (status != FACS_OK) return facs_py_raise(status);
    PyObject *dict = PyDict_New();
    for (int i = 0; dict && i < net->graph.parameter_count; i++) {
        const facs_parameter *p = &net->graph.parameters[i];
        if (!facs_parameter_is_trained(p)) continue;
        PyObject *view = slab_view(object, slab, p, 0);
        if (!view || PyDict_SetItemString(dict, p->name, view) < 0) Py_CLEAR(dict);
        Py_XDECREF(view);
    }
    return dict;
}

static PyObject *network_touch(PyObject *object, PyObject *unused)
{
    (void)unused;
    facs_session_touch(((network_object *)object)->session);
    Py_RETURN_NONE;
}

static PyObject *network_initialise(PyObject *object, PyObject *args)
{
    network_object *self = (network_object *)object;
    unsigned long long seed;
    const char *block;
    if (!PyArg_ParseTuple(args, "Ks", &seed, &block)) return NULL;
    const int index = facs_graph_find_block(&network_of(self)->graph, block);
    if (index < 0)
        return PyErr_Format(PyExc_ValueError, "block '%s' is not in this network", block);
    facs_network_initialise(network_of(self), seed, index);
    facs_session_touch(self->session);
    Py_RETURN_NONE;
}

static PyObject *network_set_pixels(PyObject *object, PyObject *args)
{
    facs_real scale[3], shift[3];
    if (!PyArg_ParseTuple(args, "(fff)(fff)", &scale[0], &scale[1], &scale[2], &shift[0],
                          &shift[1], &shift[2]))
        return NULL;
    facs_session_set_pixels(((network_object *)object)->session, scale, shift);
    facs_session_touch(((network_object *)object)->session);
    Py_RETURN_NONE;
}

/* --- facts */

static PyObject *network_plan_bytes(PyObject *object, PyObject *args)
{
    network_object *self = (network_object *)object;
    long long batch;
    int training;
    const char *block;
    size_t bytes;
    if (!PyArg_ParseTuple(args, "Lps", &batch, &training, &block)) return NULL;
    const int index = facs_graph_find_block(&network_of(self)->graph, block);
    if (index < 0)
        return PyErr_Format(PyExc_ValueError, "block '%s' is not in this network", block);
    const facs_status status =
        facs_session_measure(self->session, batch, training, index, &bytes);
    return status == FACS_OK ? PyLong_FromSize_t(bytes) : facs_py_raise(status);
}

static int64_t trained_count(const facs_graph *graph, const facs_node *node)
{
    int64_t count = 0;
    for (int slot = 0; slot < FACS_MAX_PARAMETERS; slot++)
        if (node->parameter[slot] >= 0 &&
            facs_parameter_is_trained(&graph->parameters[node->parameter[slot]]))
            count += graph->parameters[node->parameter[slot]].count;
    return count;
}

/* [(name, op, block, (h, w, c), trainable parameters, multiply-accumulates)] */
static PyObject *network_nodes(PyObject *object, PyObject *unused)
{
    const facs_graph *graph = &network_of((network_object *)object)->graph;
    PyObject *list = PyList_New(0);
    (void)unused;
    for (int i = 0; list && i < graph->count; i++) {
        const facs_node *node = &graph->nodes[i];
        const facs_op_row *row = facs_op_get(node->op);
        PyObject *item = Py_BuildValue("(sss(iii)LL)", node->name, row->name,
                                       graph->blocks[node->block], node->shape.h, node->shape.w,
                                       node->shape.c, (long long)trained_count(graph, node),
                                       (long long)(row->op->macs ? row->op->macs(node) : 0));
        if (!item || PyList_Append(list, item) < 0) Py_CLEAR(list);
        Py_XDECREF(item);
    }
    return list;
}

static PyObject *network_blocks(PyObject *object, PyObject *unused)
{
    const facs_graph *graph = &network_of((network_object *)object)->graph;
    PyObject *list = PyList_New(0);
    (void)unused;
    for (int i = 0; list && i < graph->block_count; i++) {
        PyObject *name = PyUnicode_FromString(graph->blocks[i]);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}

static PyObject *network_get_threads(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromLong(facs_session_threads(((network_object *)object)->session));
}

static PyObject *network_get_rung(PyObject *object, void *unused)
{
    (void)unused;
    return PyUnicode_FromString(
        facs_session_kernels(((network_object *)object)->session)->name);
}

static PyMethodDef methods[] = {
    {"forward", (PyCFunction)(void (*)(void))network_forward, METH_VARARGS | METH_KEYWORDS,
     forward_doc},
    {"features", network_features, METH_O, "Pooled features (n, c) of images x."},
    {"head", network_head, METH_O, "Logits (n, labels) of pooled features (n, c)."},
    {"backward", network_backward, METH_O, "Gradients of the last forward from dlogits."},
    {"parameter_rows", network_parameters, METH_NOARGS,
     "(name, kind, block, groups, array) rows."},
    {"gradients", network_gradients, METH_NOARGS, "Name to gradient, read-only views."},
    {"touch", network_touch, METH_NOARGS, "Parameters were written."},
    {"initialise", network_initialise, METH_VARARGS, "Draw parameters anew from a block on."},
    {"set_pixels", network_set_pixels, METH_VARARGS, "(scale, shift) of 8-bit pixels."},
    {"plan_bytes", network_plan_bytes, METH_VARARGS, "Arena bytes (batch, training, block)."},
    {"node_rows", network_nodes, METH_NOARGS, "Rows of the summary."},
    {"block_names", network_blocks, METH_NOARGS, "Blocks in order."},
    {NULL},
};

static PyGetSetDef properties[] = {
    {"threads", network_get_threads, NULL, "Worker threads.", NULL},
    {"instruction_set", network_get_rung, NULL, "Rung of the kernels in use.", NULL},
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
    .basicsize = sizeof(network_object),
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
    return matches == 1 ? ((network_object *)object)->session : NULL;
}

int facs_py_network_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type) return -1;
    const int status = PyModule_AddObjectRef(module, "Network", type);
    Py_DECREF(type);
    return status;
}
