#include "py/network_object.h"

#include <string.h>

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

static int images_from(images *in, facs_network_object *self, PyObject *object)
{
    const int side = facs_py_network_of((PyObject *)self)->options.input_size;
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

static PyObject *finish(facs_network_object *self, facs_status status, facs_py_array *result)
{
    facs_py_network_leave((PyObject *)self);
    if (status == FACS_OK) return facs_py_array_detach(result);
    facs_py_array_release(result);
    return facs_py_raise(status);
}

static int new_output(facs_network_object *self, facs_py_array *out, int64_t n,
                      facs_stretch stretch)
{
    const facs_network *net = facs_py_network_of((PyObject *)self);
    const int node = stretch == FACS_STRETCH_FEATURES ? net->features : net->logits;
    const int64_t shape[2] = {n, net->graph.nodes[node].shape.c};
    return facs_py_array_new(out, FACS_PY_FLOAT32, 2, shape);
}

static PyObject *infer(facs_network_object *self, const uint8_t *pixels, const float *numbers,
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

static PyObject *train_forward(facs_network_object *self, const images *in, facs_mode mode,
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

PyObject *facs_py_network_forward(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "training", "seed", "step", NULL};
    facs_network_object *self = (facs_network_object *)object;
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

PyObject *facs_py_network_features(PyObject *object, PyObject *x)
{
    facs_network_object *self = (facs_network_object *)object;
    images in;
    if (images_from(&in, self, x) < 0) return NULL;
    PyObject *result = infer(self, in.pixels, in.numbers, in.n, FACS_STRETCH_FEATURES);
    facs_py_array_release(&in.array);
    return result;
}

PyObject *facs_py_network_head(PyObject *object, PyObject *features)
{
    facs_network_object *self = (facs_network_object *)object;
    const facs_network *net = facs_py_network_of((PyObject *)self);
    int64_t shape[2] = {FACS_PY_ANY, net->graph.nodes[net->features].shape.c};
    facs_py_array x;
    if (facs_py_array_from(&x, features, "features", FACS_PY_FLOAT32, 2, shape) < 0)
        return NULL;
    PyObject *result = infer(self, NULL, x.data, shape[0], FACS_STRETCH_HEAD);
    facs_py_array_release(&x);
    return result;
}

/* After an inference forward nothing is kept for backward: run it again, keeping. */
static int replay_pending(facs_network_object *self)
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

PyObject *facs_py_network_backward(PyObject *object, PyObject *dlogits)
{
    facs_network_object *self = (facs_network_object *)object;
    int64_t shape[2] = {FACS_PY_ANY, facs_py_network_of((PyObject *)self)->options.labels};
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
