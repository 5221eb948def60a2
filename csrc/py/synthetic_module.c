#include "py/synthetic_module.h"

#include "core/memory.h"
#include "core/threads.h"
#include "image/synthetic_face.h"

#include <string.h>

typedef struct drawing {
    uint8_t *pixels;
    float *labels, *work; /* work: one face per worker */
    int64_t *subjects;
    uint64_t seed;
    int subject_count;
    facs_face_task task;
} drawing;

enum { FACE_NUMBERS = FACS_FACE_SIZE * FACS_FACE_SIZE * 3 };

static int label_count(facs_face_task task)
{
    return task == FACS_FACE_TASK_UNITS ? FACS_FACE_UNITS : FACS_FACE_ATTRIBUTES;
}

static void draw_one(void *context, int64_t i, int worker)
{
    const drawing *d = context;
    const int k = label_count(d->task);
    const facs_face face = facs_face_sample(d->seed, (uint32_t)i, d->subject_count, d->task);
    const double *source = d->task == FACS_FACE_TASK_UNITS ? face.unit : face.attribute;
    for (int j = 0; j < k; j++) d->labels[i * k + j] = source[j] > 0.3;
    d->subjects[i] = face.subject;
    facs_face_draw(d->pixels + i * FACE_NUMBERS, &face,
                   d->work + (int64_t)worker * FACE_NUMBERS);
}

static PyObject *draw_faces(PyObject *module, PyObject *args)
{
    unsigned long long seed;
    long long n;
    int subjects, task, threads;
    facs_py_array pixels = {0}, labels = {0}, ids = {0};
    drawing d;

    (void)module;
    if (!PyArg_ParseTuple(args, "LKiii", &n, &seed, &subjects, &task, &threads)) return NULL;
    if (n < 1 || n > 1000000)
        return PyErr_Format(PyExc_ValueError, "n is %lld, want 1 to 1000000", n);
    if (subjects < 1)
        return PyErr_Format(PyExc_ValueError, "subjects is %d, want at least 1", subjects);
    d = (drawing){.seed = seed, .subject_count = subjects, .task = (facs_face_task)task};
    threads = threads > 0 ? threads : facs_threads_default();
    const facs_status status = facs_allocate_slab(
        &d.work, (size_t)threads * FACE_NUMBERS * sizeof *d.work, "drawing of faces");
    if (status != FACS_OK) return facs_py_raise(status);
    const int64_t image[4] = {n, FACS_FACE_SIZE, FACS_FACE_SIZE, 3};
    const int64_t label[2] = {n, label_count(d.task)};
    if (facs_py_array_new(&pixels, FACS_PY_UINT8, 4, image) == 0 &&
        facs_py_array_new(&labels, FACS_PY_FLOAT32, 2, label) == 0 &&
        facs_py_array_new(&ids, FACS_PY_INT64, 1, label) == 0) {
        d.pixels = pixels.data, d.labels = labels.data, d.subjects = ids.data;
        FACS_PY_UNLOCKED(facs_parallel(threads, n, draw_one, &d));
    }
    facs_free(d.work);
    if (PyErr_Occurred()) {
        facs_py_array_release(&pixels);
        facs_py_array_release(&labels);
        return NULL;
    }
    return Py_BuildValue("(NNN)", facs_py_array_detach(&pixels), facs_py_array_detach(&labels),
                         facs_py_array_detach(&ids));
}

static PyObject *face_labels(PyObject *module, PyObject *args)
{
    int task;
    (void)module;
    if (!PyArg_ParseTuple(args, "i", &task)) return NULL;
    const int k = label_count((facs_face_task)task);
    PyObject *tuple = PyTuple_New(k);
    for (int i = 0; tuple && i < k; i++) {
        PyObject *name =
            PyUnicode_FromString(task == FACS_FACE_TASK_UNITS ? facs_face_unit_name(i)
                                                              : facs_face_attribute_name(i));
        if (!name)
            Py_CLEAR(tuple);
        else
            PyTuple_SET_ITEM(tuple, i, name);
    }
    return tuple;
}

/* One face of a subject with chosen intensities, all else neutral: for pictures. */
static PyObject *draw_expression(PyObject *module, PyObject *args)
{
    unsigned long long seed;
    unsigned subject;
    PyObject *object;
    facs_py_array units, pixels;
    int64_t shape[1] = {FACS_FACE_UNITS};
    const int64_t image[3] = {FACS_FACE_SIZE, FACS_FACE_SIZE, 3};
    float *work;

    (void)module;
    if (!PyArg_ParseTuple(args, "KIO", &seed, &subject, &object) ||
        facs_py_array_from(&units, object, "intensities", FACS_PY_FLOAT64, 1, shape) < 0)
        return NULL;
    const facs_status status =
        facs_allocate_slab(&work, FACE_NUMBERS * sizeof *work, "drawing of faces");
    if (status != FACS_OK) {
        facs_py_array_release(&units);
        return facs_py_raise(status);
    }
    facs_face face = facs_face_sample(seed, subject, 1 << 20, FACS_FACE_TASK_UNITS);
    memcpy(face.unit, units.data, sizeof face.unit);
    for (int i = FACS_FACE_EYES_CLOSED; i <= FACS_FACE_CHEEKS_PUFFED; i++)
        face.attribute[i] = 0;
    face.yaw *= 0.3, face.roll = 0, face.pitch = 0, face.shift_x = face.shift_y = 0;
    if (facs_py_array_new(&pixels, FACS_PY_UINT8, 3, image) == 0)
        FACS_PY_UNLOCKED(facs_face_draw(pixels.data, &face, work));
    facs_free(work);
    facs_py_array_release(&units);
    return facs_py_array_detach(&pixels);
}

static PyMethodDef functions[] = {
    {"draw_faces", draw_faces, METH_VARARGS,
     "draw_faces(n, seed, subjects, task, threads) -> (pixels, labels, subjects)"},
    {"draw_expression", draw_expression, METH_VARARGS,
     "draw_expression(seed, subject, intensities) -> pixels"},
    {"face_labels", face_labels, METH_VARARGS, "face_labels(task) -> names"},
    {NULL},
};

int facs_py_synthetic_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
