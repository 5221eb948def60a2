#include "py/network_object.h"

#include "core/fingerprint.h"
#include "core/threads.h"
#include "py/device_array.h"

#include <stdatomic.h>
#include <string.h>

/* What an inference learns of images on their way: whether they are finite, and of those whose
 * gradient may be asked for a number to see that backward meets what forward saw. Nothing is
 * computed once an image was refused. */
typedef struct watch {
    const facs_py_images *in;
    size_t bytes; /* of an image */
    int sums;     /* wanted */
    _Atomic uint64_t sum;
    atomic_int refused;
} watch;

static int watch_image(void *watcher, int64_t image, int threads)
{
    watch *w = watcher;
    const char *bytes = (const char *)w->in->array.data + (size_t)image * w->bytes;
    const float *numbers = (const float *)(const void *)bytes;

    if (w->in->numbers && !facs_py_are_finite(numbers, w->bytes / sizeof *numbers))
        atomic_store(&w->refused, 1);
    if (atomic_load(&w->refused)) return 0;
    if (!w->sums) return 1;
    const uint64_t numbered[2] = {(uint64_t)image, facs_fingerprint(bytes, w->bytes, threads)};
    atomic_fetch_add(&w->sum, facs_fingerprint(numbered, sizeof numbered, 1));
    return 1;
}

static watch watch_of(const facs_py_images *in, int sums)
{
    watch w = {.in = in, .bytes = in->pixels ? 1 : sizeof(float), .sums = sums};
    for (int i = 1; i < in->array.ndim; i++) w.bytes *= (size_t)in->array.shape[i];
    return w;
}

static void watch_task(void *watcher, int64_t image, int worker)
{
    (void)worker;
    (void)watch_image(watcher, image, 1);
}

/* Of the images' bytes, as a forward pass sums them; 0 of those on a GPU. */
static uint64_t fingerprint(const facs_network_object *self, const facs_py_images *in)
{
    watch w = watch_of(in, 1);
    if (in->there) return 0;
    facs_parallel(facs_session_threads(self->session), in->n, watch_task, &w);
    return w.sum;
}

/* uint8 or float32 in the memory of the network's device: 1, 0 or -1 as facs_py_device_take. */
static int take_there(facs_py_images *in, facs_network_object *self, PyObject *object,
                      int64_t *shape, int *bytes)
{
    facs_py_dtype dtype;
    const int there = facs_py_device_take(
        &in->array, object, facs_session_device(self->session), "x", 4, shape, &dtype);
    if (there <= 0) return there;
    *bytes = dtype == FACS_PY_UINT8;
    if (*bytes || dtype == FACS_PY_FLOAT32) return 1;
    facs_py_array_release(&in->array);
    PyErr_SetString(PyExc_TypeError,
                    "x: dtype is bfloat16, want uint8 (pixels) or float32 (scaled)");
    return -1;
}

int facs_py_images_take(facs_py_images *in, facs_network_object *self, PyObject *object)
{
    const int side = facs_py_network_of((PyObject *)self)->options.input_size;
    int64_t shape[4] = {FACS_PY_ANY, side, side, 3};
    int bytes;

    memset(in, 0, sizeof *in);
    in->there = take_there(in, self, object, shape, &bytes);
    if (in->there < 0) return -1;
    if (!in->there && facs_py_images_from(&in->array, object, "x", shape, &bytes) < 0)
        return -1;
    in->n = shape[0];
    if (bytes)
        in->pixels = in->array.data;
    else
        in->numbers = in->array.data;
    if (in->n >= 1) return 0;
    PyErr_SetString(PyExc_ValueError, "x: there are no images");
    facs_py_array_release(&in->array);
    return -1;
}

int facs_py_images_check(const facs_py_images *in)
{
    return in->pixels || in->there ? 0 : facs_py_array_check_finite(&in->array, "x");
}

/* --- passes */

static int new_output(facs_network_object *self, facs_py_array *out, int64_t n,
                      facs_stretch stretch)
{
    const facs_network *net = facs_py_network_of((PyObject *)self);
    const int node = stretch == FACS_STRETCH_FEATURES ? net->features : net->logits;
    const int64_t shape[2] = {n, net->graph.nodes[node].shape.c};
    return facs_py_array_new(out, FACS_PY_FLOAT32, 2, shape);
}

/* Room for the result and the lock, or neither. */
static int begin(facs_network_object *self, facs_py_array *out, int64_t n, facs_stretch stretch)
{
    if (new_output(self, out, n, stretch) < 0) return -1;
    if (facs_py_network_enter((PyObject *)self) == 0) return 0;
    facs_py_array_release(out);
    return -1;
}

static PyObject *finish(facs_network_object *self, facs_status status, facs_py_array *result)
{
    facs_py_network_leave((PyObject *)self);
    if (status == FACS_OK) return facs_py_array_detach(result);
    facs_py_array_release(result);
    return facs_py_raise(status);
}

/* Exchanges *in and the pending images; the lock is held, and whoever held the others lets
 * go of them without it. */
static void swap_pending(facs_network_object *self, facs_py_images *in)
{
    const facs_py_images before = self->pending;
    self->pending = *in;
    *in = before;
}

/* A stretch of inference. w: of the images it is of, or NULL; keep: these images, for a later
 * backward, or NULL. */
static PyObject *infer(facs_network_object *self, facs_source source, int64_t n,
                       facs_stretch stretch, watch *w, facs_py_images *keep)
{
    facs_py_array out;
    facs_status status;

    if (begin(self, &out, n, stretch) < 0) return NULL;
    if (w && (w->sums || w->in->numbers) && !w->in->there) {
        source.seen = watch_image;
        source.watcher = w;
    }
    FACS_PY_UNLOCKED(status = facs_session_infer(self->session, stretch, source, n, out.data));
    if (w && w->refused) {
        facs_py_network_leave((PyObject *)self);
        facs_py_array_release(&out);
        if (facs_py_images_check(w->in) == 0)
            PyErr_SetString(PyExc_ValueError, "x: was written to during the pass");
        return NULL;
    }
    if (keep && status == FACS_OK) {
        self->fingerprint = w->sum;
        swap_pending(self, keep);
    }
    return finish(self, status, &out);
}

static facs_source source_of(const facs_py_images *in)
{
    return (facs_source){.pixels = in->pixels, .numbers = in->numbers};
}

static PyObject *forward(facs_network_object *self, facs_py_images *in)
{
    watch w = watch_of(in, 1);
    return infer(self, source_of(in), in->n, FACS_STRETCH_LOGITS, &w, in);
}

static PyObject *train_forward(facs_network_object *self, facs_py_images *in,
                               unsigned long long seed, unsigned step)
{
    facs_py_images none = {0};
    facs_py_array out;
    facs_status status;
    if (begin(self, &out, in->n, FACS_STRETCH_LOGITS) < 0) return NULL;
    FACS_PY_UNLOCKED(status = facs_session_forward(self->session, FACS_MODE_TRAIN, in->pixels,
                                                   in->numbers, in->n, seed, step, out.data));
    swap_pending(self, &none);
    PyObject *result = finish(self, status, &out);
    facs_py_array_release(&none.array);
    return result;
}

PyObject *facs_py_network_forward(PyObject *object, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"x", "training", "seed", "step", NULL};
    facs_network_object *self = (facs_network_object *)object;
    PyObject *x;
    int training = 0;
    unsigned long long seed = 0;
    unsigned step = 0;
    facs_py_images in;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|pKI", names, &x, &training, &seed,
                                     &step) ||
        facs_py_images_take(&in, self, x) < 0)
        return NULL;
    PyObject *result = NULL;
    if (!training)
        result = forward(self, &in);
    else if (facs_py_images_check(&in) == 0)
        result = train_forward(self, &in, seed, step);
    facs_py_array_release(&in.array);
    return result;
}

PyObject *facs_py_network_features(PyObject *object, PyObject *x)
{
    facs_network_object *self = (facs_network_object *)object;
    facs_py_images in;

    if (facs_py_images_take(&in, self, x) < 0) return NULL;
    watch w = watch_of(&in, 0);
    PyObject *result = infer(self, source_of(&in), in.n, FACS_STRETCH_FEATURES, &w, NULL);
    facs_py_array_release(&in.array);
    return result;
}

PyObject *facs_py_network_head(PyObject *object, PyObject *features)
{
    facs_network_object *self = (facs_network_object *)object;
    const facs_network *net = facs_py_network_of((PyObject *)self);
    int64_t shape[2] = {FACS_PY_ANY, net->graph.nodes[net->features].shape.c};
    facs_py_array x;
    PyObject *result = NULL;

    if (facs_py_array_from(&x, features, "features", FACS_PY_FLOAT32, 2, shape) < 0)
        return NULL;
    const facs_source source = {.numbers = x.data};
    if (shape[0] < 1)
        PyErr_SetString(PyExc_ValueError, "features: there are no rows");
    else if (facs_py_array_check_finite(&x, "features") == 0)
        result = infer(self, source, shape[0], FACS_STRETCH_HEAD, NULL, NULL);
    facs_py_array_release(&x);
    return result;
}

/* After an inference forward nothing is kept for backward: run it again, keeping. */
static facs_status differentiate(facs_network_object *self, const facs_py_array *dlogits)
{
    const facs_py_images *in = &self->pending;
    if (in->n && fingerprint(self, in) != self->fingerprint)
        return facs_fail(FACS_E_ARG, "backward: x was written to since forward; pass a copy");
    if (in->n)
        FACS_TRY(facs_session_forward(self->session, FACS_MODE_GRADIENT, in->pixels,
                                      in->numbers, in->n, 0, 0, NULL));
    return facs_session_backward(self->session, dlogits->data, dlogits->shape[0]);
}

PyObject *facs_py_network_backward(PyObject *object, PyObject *dlogits)
{
    facs_network_object *self = (facs_network_object *)object;
    int64_t shape[2] = {FACS_PY_ANY, facs_py_network_of(object)->options.labels};
    facs_py_array dy;
    facs_status status;

    if (facs_py_array_from(&dy, dlogits, "dlogits", FACS_PY_FLOAT32, 2, shape) < 0) return NULL;
    if (facs_py_array_check_finite(&dy, "dlogits") < 0 || facs_py_network_enter(object) < 0) {
        facs_py_array_release(&dy);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = differentiate(self, &dy));
    facs_py_network_leave(object);
    facs_py_array_release(&dy);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}
