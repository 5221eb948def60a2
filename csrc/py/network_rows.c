#include "py/network_object.h"

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
PyObject *facs_py_network_parameter_rows(PyObject *object, PyObject *unused)
{
    const facs_network *net = facs_py_network_of(object);
    facs_status status;
    (void)unused;
    if (facs_py_network_enter(object) < 0) return NULL;
    FACS_PY_UNLOCKED(status = facs_session_fetch(((facs_network_object *)object)->session));
    facs_py_network_leave(object);
    if (status != FACS_OK) return facs_py_raise(status);
    PyObject *list = PyList_New(0);
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

PyObject *facs_py_network_gradients(PyObject *object, PyObject *unused)
{
    facs_network_object *self = (facs_network_object *)object;
    const facs_network *net = facs_py_network_of((PyObject *)self);
    facs_real *slab;
    (void)unused;
    if (facs_py_network_enter(object) < 0) return NULL;
    const facs_status status = facs_session_read_gradients(self->session, &slab);
    facs_py_network_leave(object);
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
PyObject *facs_py_network_node_rows(PyObject *object, PyObject *unused)
{
    const facs_graph *graph = &facs_py_network_of(object)->graph;
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

PyObject *facs_py_network_block_names(PyObject *object, PyObject *unused)
{
    const facs_graph *graph = &facs_py_network_of(object)->graph;
    PyObject *list = PyList_New(0);
    (void)unused;
    for (int i = 0; list && i < graph->block_count; i++) {
        PyObject *name = PyUnicode_FromString(graph->blocks[i]);
        if (!name || PyList_Append(list, name) < 0) Py_CLEAR(list);
        Py_XDECREF(name);
    }
    return list;
}
