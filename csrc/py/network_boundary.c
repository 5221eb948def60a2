#include "py/device_array.h"
#include "py/network_object.h"

/* Passes up to the value that enters a block, and from it. */

static int find_entry(facs_network_object *self, const char *block, int *index,
                      facs_shape *shape)
{
    const facs_graph *graph = &facs_py_network_of((PyObject *)self)->graph;
    int node;

    *index = facs_graph_find_block(graph, block);
    if (*index < 0) {
        PyErr_Format(PyExc_ValueError, "block '%s' is not in this network", block);
        return -1;
    }
    const facs_status status = facs_graph_boundary(graph, *index, &node);
    if (status != FACS_OK) {
        facs_py_raise(status);
        return -1;
    }
    *shape = graph->nodes[node].shape;
    return 0;
}

PyObject *facs_py_network_boundary_shape(PyObject *object, PyObject *block)
{
    const char *name = PyUnicode_AsUTF8(block);
    facs_shape s;
    int index;
    if (!name || find_entry((facs_network_object *)object, name, &index, &s) < 0) return NULL;
    return Py_BuildValue("(iii)", s.h, s.w, s.c);
}

static void round_to_bfloat16(facs_network_object *self, uint16_t *y, float *x,
                              const int64_t shape[4])
{
    const facs_context context = {.threads = facs_session_threads(self->session)};
    const facs_tensor t = {.data = x,
                           .n = shape[0],
                           .h = (int)shape[1],
                           .w = (int)shape[2],
                           .c = (int)shape[3],
                           .stride = shape[3]};
    facs_kernels kernels;
    (void)facs_kernels_select(&kernels, NULL);
    kernels.bfloat16_from(&context, y, &t);
}

/* out is float32, or with `halves` that array and its bfloat16. */
static facs_status run_below(facs_network_object *self, int block, const facs_py_images *in,
                             facs_py_array *out, facs_py_array *halves)
{
    const facs_source source = {.pixels = in->pixels, .numbers = in->numbers};
    FACS_TRY(facs_session_infer_below(self->session, block, source, in->n, out->data));
    if (halves->object) round_to_bfloat16(self, halves->data, out->data, out->shape);
    return FACS_OK;
}

PyObject *facs_py_network_below(PyObject *object, PyObject *args)
{
    facs_network_object *self = (facs_network_object *)object;
    PyObject *x;
    const char *block;
    int index, bfloat16;
    facs_shape s;
    facs_py_images in;
    facs_py_array out = {0}, halves = {0};
    facs_status status = FACS_OK;

    if (!PyArg_ParseTuple(args, "Osp", &x, &block, &bfloat16) ||
        find_entry(self, block, &index, &s) < 0 || facs_py_images_take(&in, self, x) < 0)
        return NULL;
    const int64_t shape[4] = {in.n, s.h, s.w, s.c};
    int made = facs_py_images_check(&in);
    if (made == 0) made = facs_py_array_new(&out, FACS_PY_FLOAT32, 4, shape);
    if (made == 0 && bfloat16) made = facs_py_array_new(&halves, FACS_PY_UINT16, 4, shape);
    if (made == 0) made = facs_py_network_enter(object);
    if (made == 0) {
        FACS_PY_UNLOCKED(status = run_below(self, index, &in, &out, &halves));
        facs_py_network_leave(object);
        if (status != FACS_OK) facs_py_raise(status);
    }
    PyObject *result = NULL;
    if (made == 0 && status == FACS_OK)
        result = facs_py_array_detach(bfloat16 ? &halves : &out);
    facs_py_array_release(&in.array);
    facs_py_array_release(&out);
    facs_py_array_release(&halves);
    return result;
}

/* float32 or the bits of bfloat16, the host's or the device's; shape as in facs_py_array_from.
 */
static int take_values(facs_py_array *x, facs_network_object *self, PyObject *values,
                       int64_t *shape, int *bfloat16)
{
    facs_py_dtype dtype = FACS_PY_FLOAT32;
    const int there = facs_py_device_take(x, values, facs_session_device(self->session),
                                          "values", 4, shape, &dtype);
    if (there < 0) return -1;
    *bfloat16 = there ? dtype == FACS_PY_UINT16 : facs_py_is_array(values, FACS_PY_UINT16);
    if (!there)
        return facs_py_array_from(x, values, "values",
                                  *bfloat16 ? FACS_PY_UINT16 : FACS_PY_FLOAT32, 4, shape);
    if (dtype != FACS_PY_UINT8) return 0;
    facs_py_array_release(x);
    PyErr_SetString(PyExc_TypeError, "values: dtype is uint8, want float32 or bfloat16");
    return -1;
}

PyObject *facs_py_network_above(PyObject *object, PyObject *args)
{
    facs_network_object *self = (facs_network_object *)object;
    PyObject *values;
    const char *block;
    int index;
    facs_shape s;
    facs_py_array x, out = {0};
    facs_status status = FACS_OK;

    if (!PyArg_ParseTuple(args, "Os", &values, &block) ||
        find_entry(self, block, &index, &s) < 0)
        return NULL;
    int64_t shape[4] = {FACS_PY_ANY, s.h, s.w, s.c};
    int bfloat16;
    if (take_values(&x, self, values, shape, &bfloat16) < 0) return NULL;
    const int64_t wanted[2] = {shape[0], facs_py_network_of(object)->options.labels};
    const facs_source source = {.numbers = bfloat16 ? NULL : x.data,
                                .bfloats = bfloat16 ? x.data : NULL};
    int made = facs_py_array_new(&out, FACS_PY_FLOAT32, 2, wanted);
    if (made == 0) made = facs_py_network_enter(object);
    if (made == 0) {
        FACS_PY_UNLOCKED(status = facs_session_infer_above(self->session, index, source,
                                                           shape[0], out.data));
        facs_py_network_leave(object);
        if (status != FACS_OK) facs_py_raise(status);
    }
    PyObject *result = made == 0 && status == FACS_OK ? facs_py_array_detach(&out) : NULL;
    facs_py_array_release(&x);
    facs_py_array_release(&out);
    return result;
}
