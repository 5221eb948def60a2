#include "py/sample_table.h"

#include "core/memory.h"

#include <errno.h>

void facs_py_samples_release(facs_py_samples *self)
{
    for (int64_t i = 0; i < self->array_count; i++) facs_py_array_release(&self->arrays[i]);
    facs_py_array_release(&self->labels);
    Py_XDECREF(self->path_list);
    facs_free(self->arrays);
    facs_free(self->paths);
    facs_free(self->images);
    *self = (facs_py_samples){0};
}

static int allocate(void *out, int64_t count, size_t size)
{
    const facs_status status = facs_allocate(out, (size_t)count, size, "table of samples");
    if (status != FACS_OK) facs_py_raise(status);
    return status == FACS_OK ? 0 : -1;
}

/* File names as the system spells them. */
static int take_paths(facs_py_samples *self, PyObject *paths)
{
    const Py_ssize_t count = PySequence_Size(paths);
    if (count < 0) return -1;
    self->path_list = PyList_New(0);
    if (!self->path_list || allocate(&self->paths, count, sizeof *self->paths) < 0) return -1;
    for (Py_ssize_t i = 0; i < count; i++) {
        PyObject *item = PySequence_GetItem(paths, i), *encoded = NULL;
        const int converted = item && PyUnicode_FSConverter(item, &encoded);
        Py_XDECREF(item);
        if (!converted) return -1;
        const int appended = PyList_Append(self->path_list, encoded);
        self->paths[i] = PyBytes_AS_STRING(encoded);
        Py_DECREF(encoded);
        if (appended < 0) return -1;
    }
    self->table.count = count;
    self->table.paths = self->paths;
    return 0;
}

static int take_stack(facs_py_samples *self, PyObject *images)
{
    int64_t shape[4] = {FACS_PY_ANY, FACS_PY_ANY, FACS_PY_ANY, 3};
    if (allocate(&self->arrays, 1, sizeof *self->arrays) < 0) return -1;
    self->array_count = 1;
    if (facs_py_array_from(&self->arrays[0], images, "images", FACS_PY_UINT8, 4, shape) < 0 ||
        allocate(&self->images, shape[0], sizeof *self->images) < 0)
        return -1;
    for (int64_t i = 0; i < shape[0]; i++)
        self->images[i] =
            (facs_image){(uint8_t *)self->arrays[0].data + i * shape[1] * shape[2] * 3,
                         (int)shape[1], (int)shape[2]};
    self->table.count = shape[0];
    self->table.images = self->images;
    return 0;
}

static int take_images(facs_py_samples *self, PyObject *images)
{
    if (facs_py_is_array(images, FACS_PY_UINT8)) return take_stack(self, images);
    const Py_ssize_t count = PySequence_Size(images);
    if (count < 0 || allocate(&self->arrays, count, sizeof *self->arrays) < 0 ||
        allocate(&self->images, count, sizeof *self->images) < 0)
        return -1;
    self->array_count = count;
    for (Py_ssize_t i = 0; i < count; i++) {
        int64_t shape[3] = {FACS_PY_ANY, FACS_PY_ANY, 3};
        PyObject *item = PySequence_GetItem(images, i);
        const int status =
            item ? facs_py_array_from(&self->arrays[i], item, "images", FACS_PY_UINT8, 3, shape)
                 : -1;
        Py_XDECREF(item);
        if (status < 0) return -1;
        self->images[i] = (facs_image){self->arrays[i].data, (int)shape[0], (int)shape[1]};
    }
    self->table.count = count;
    self->table.images = self->images;
    return 0;
}

int facs_py_samples_take(facs_py_samples *self, PyObject *images, PyObject *paths)
{
    if ((images == Py_None) == (paths == Py_None)) {
        PyErr_SetString(PyExc_ValueError, "samples: want either images or paths");
        return -1;
    }
    return images != Py_None ? take_images(self, images) : take_paths(self, paths);
}

int facs_py_samples_take_labels(facs_py_samples *self, PyObject *labels)
{
    int64_t shape[2] = {self->table.count, FACS_PY_ANY};
    if (facs_py_array_from(&self->labels, labels, "labels", FACS_PY_FLOAT32, 2, shape) < 0)
        return -1;
    self->table.labels = self->labels.data;
    self->table.label_count = (int)shape[1];
    return 0;
}

PyObject *facs_py_samples_raise(const facs_py_samples *self, facs_status status, int reason,
                                int64_t row)
{
    if (status != FACS_E_IO || row < 0 || !self->paths) return facs_py_raise(status);
    PyObject *path = PyUnicode_DecodeFSDefault(self->paths[row]);
    if (!path) return NULL;
    errno = reason;
    PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    Py_DECREF(path);
    return NULL;
}
