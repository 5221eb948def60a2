#include "py/bridge.h"

#include "image/align.h"
#include "image/augment.h"
#include "image/image.h"
#include "image/resize.h"

#include <errno.h>
#include <string.h>

/* Images as functions of the module: everything in and out is (height, width, 3) uint8. */

enum { DIMS = 3 };

static int new_pixels(facs_py_array *array, int height, int width)
{
    const int64_t shape[DIMS] = {height, width, FACS_IMAGE_CHANNELS};
    return facs_py_array_new(array, FACS_PY_UINT8, DIMS, shape);
}

static int pixels_from(facs_py_array *array, facs_image *image, PyObject *object)
{
    int64_t shape[DIMS] = {FACS_PY_ANY, FACS_PY_ANY, FACS_IMAGE_CHANNELS};
    if (facs_py_array_from(array, object, "image", FACS_PY_UINT8, DIMS, shape) < 0) return -1;
    if (shape[0] < 1 || shape[1] < 1 || shape[0] > FACS_IMAGE_MAX_SIDE ||
        shape[1] > FACS_IMAGE_MAX_SIDE) {
        PyErr_Format(PyExc_ValueError, "image: is %lld x %lld pixels, want sides of 1 to %d",
                     (long long)shape[0], (long long)shape[1], FACS_IMAGE_MAX_SIDE);
        facs_py_array_release(array);
        return -1;
    }
    *image = (facs_image){array->data, (int)shape[0], (int)shape[1]};
    return 0;
}

/* None is 0, an int is a side. Converter for "O&". */
static int optional_side(PyObject *object, void *out)
{
    int *side = out;
    *side = 0;
    if (object == Py_None) return 1;
    const long value = PyLong_AsLong(object);
    if (value == -1 && PyErr_Occurred()) {
        if (PyErr_ExceptionMatches(PyExc_OverflowError))
            PyErr_Format(PyExc_ValueError, "size: is %S, want 1 to %d", object,
                         FACS_IMAGE_MAX_SIDE);
        return 0;
    }
    if (value < 1 || value > FACS_IMAGE_MAX_SIDE) {
        PyErr_Format(PyExc_ValueError, "size: is %ld, want 1 to %d", value,
                     FACS_IMAGE_MAX_SIDE);
        return 0;
    }
    *side = (int)value;
    return 1;
}

/* Gives the decoded image to Python, resized to size x size unless size is 0. Frees it. */
static PyObject *deliver(facs_image *image, int size)
{
    facs_image_scratch scratch = {0};
    facs_py_array array;
    facs_status status = FACS_OK;

    if (new_pixels(&array, size ? size : image->height, size ? size : image->width) < 0) {
        facs_image_free(image);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    if (size)
        status = facs_image_resize(array.data, size, size, image, &scratch);
    else
        memcpy(array.data, image->pixels,
               (size_t)image->height * (size_t)image->width * FACS_IMAGE_CHANNELS);
    facs_image_scratch_free(&scratch);
    facs_image_free(image);
    Py_END_ALLOW_THREADS;
    if (status != FACS_OK) {
        facs_py_array_release(&array);
        return facs_py_raise(status);
    }
    return facs_py_array_detach(&array);
}

static PyObject *read_image(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"path", "size", NULL};
    PyObject *path = NULL, *encoded = NULL;
    int size = 0, reason = 0;
    facs_image image = {0};
    facs_status status = FACS_OK;

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "O|O&:read_image", names, &path,
                                     optional_side, &size))
        return NULL;
    if (!PyUnicode_FSConverter(path, &encoded)) return NULL;
    FACS_PY_UNLOCKED({
        status = facs_image_read(&image, PyBytes_AS_STRING(encoded));
        reason = errno;
    });
    Py_DECREF(encoded);
    if (status == FACS_E_IO) {
        errno = reason; /* so that a missing file is a FileNotFoundError */
        return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, path);
    }
    return status == FACS_OK ? deliver(&image, size) : facs_py_raise(status);
}

static PyObject *decode_image(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"data", "size", "name", NULL};
    Py_buffer buffer;
    const char *name = "<bytes>";
    int size = 0;
    facs_image image = {0};
    facs_status status = FACS_OK;

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "y*|O&s:decode_image", names, &buffer,
                                     optional_side, &size, &name))
        return NULL;
    FACS_PY_UNLOCKED(status = facs_image_decode(&image, buffer.buf, (size_t)buffer.len, name));
    PyBuffer_Release(&buffer);
    return status == FACS_OK ? deliver(&image, size) : facs_py_raise(status);
}

/* Checks the sizes before an array of them is made. */
static int sides_valid(int height, int width)
{
    if (height >= 1 && width >= 1 && height <= FACS_IMAGE_MAX_SIDE &&
        width <= FACS_IMAGE_MAX_SIDE)
        return 1;
    PyErr_Format(PyExc_ValueError, "height, width: are %d, %d, want 1 to %d", height, width,
                 FACS_IMAGE_MAX_SIDE);
    return 0;
}

typedef struct resampling {
    int crop; /* the centre, unscaled */
    int height, width;
} resampling;

static PyObject *resample(PyObject *object, const resampling *how)
{
    facs_image_scratch scratch = {0};
    facs_py_array in = {0}, out = {0};
    facs_image image;
    facs_status status = FACS_OK;

    if (!sides_valid(how->height, how->width) || pixels_from(&in, &image, object) < 0)
        return NULL;
    if (new_pixels(&out, how->height, how->width) < 0) {
        facs_py_array_release(&in);
        return NULL;
    }
    Py_BEGIN_ALLOW_THREADS;
    if (how->crop)
        status = facs_image_crop_centre(out.data, how->height, how->width, &image);
    else
        status = facs_image_resize(out.data, how->height, how->width, &image, &scratch);
    facs_image_scratch_free(&scratch);
    Py_END_ALLOW_THREADS;
    facs_py_array_release(&in);
    if (status == FACS_OK) return facs_py_array_detach(&out);
    facs_py_array_release(&out);
    return facs_py_raise(status);
}

static PyObject *resize_image(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"image", "height", "width", NULL};
    resampling how = {0};
    PyObject *object = NULL;

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Oii:resize_image", names, &object,
                                     &how.height, &how.width))
        return NULL;
    return resample(object, &how);
}

static PyObject *crop_image(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"image", "height", "width", NULL};
    resampling how = {.crop = 1};
    PyObject *object = NULL;

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Oii:crop_image", names, &object,
                                     &how.height, &how.width))
        return NULL;
    return resample(object, &how);
}

static PyObject *augment_image(PyObject *module, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"image", "size",       "crop",     "flip",
                            "angle", "brightness", "contrast", NULL};
    facs_augmentation_draw draw = facs_augmentation_draw_neutral();
    facs_image_scratch scratch = {0};
    facs_py_array in = {0}, out = {0};
    facs_image image;
    PyObject *object = NULL;
    facs_status status = FACS_OK;
    int size = 0;

    (void)module;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Oi|$(dddd)pddd:augment_image", names,
                                     &object, &size, &draw.crop.x, &draw.crop.y,
                                     &draw.crop.width, &draw.crop.height, &draw.flip,
                                     &draw.angle, &draw.brightness, &draw.contrast))
        return NULL;
    if (!sides_valid(size, size) || pixels_from(&in, &image, object) < 0) return NULL;
    if (new_pixels(&out, size, size) < 0) {
        facs_py_array_release(&in);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_image_augment(out.data, &image, size, &draw, &scratch));
    facs_image_scratch_free(&scratch);
    facs_py_array_release(&in);
    if (status == FACS_OK) return facs_py_array_detach(&out);
    facs_py_array_release(&out);
    return facs_py_raise(status);
}

/* The two points of the image and where they go to, x and y each. */
static PyObject *align_image(PyObject *module, PyObject *args)
{
    facs_similarity similarity;
    facs_position from[2], to[2];
    facs_py_array in = {0}, out = {0};
    facs_image image;
    PyObject *object = NULL;
    facs_status status = FACS_OK;
    int size = 0;

    (void)module;
    if (!PyArg_ParseTuple(args, "Oi(dddd)(dddd):align_image", &object, &size, &from[0].x,
                          &from[0].y, &from[1].x, &from[1].y, &to[0].x, &to[0].y, &to[1].x,
                          &to[1].y))
        return NULL;
    status = facs_similarity_from_points(&similarity, from, to);
    if (status != FACS_OK) return facs_py_raise(status);
    if (!sides_valid(size, size) || pixels_from(&in, &image, object) < 0) return NULL;
    if (new_pixels(&out, size, size) < 0) {
        facs_py_array_release(&in);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_image_align(out.data, size, &image, &similarity));
    facs_py_array_release(&in);
    if (status == FACS_OK) return facs_py_array_detach(&out);
    facs_py_array_release(&out);
    return facs_py_raise(status);
}

#define WITH_KEYWORDS(function)                                                                \
    (PyCFunction)(void (*)(void))(function), METH_VARARGS | METH_KEYWORDS

static PyMethodDef functions[] = {
    {"read_image", WITH_KEYWORDS(read_image), "read_image(path, size=None)"},
    {"decode_image", WITH_KEYWORDS(decode_image),
     "decode_image(data, size=None, name='<bytes>')"},
    {"resize_image", WITH_KEYWORDS(resize_image), "resize_image(image, height, width)"},
    {"crop_image", WITH_KEYWORDS(crop_image), "crop_image(image, height, width)"},
    {"augment_image", WITH_KEYWORDS(augment_image),
     "augment_image(image, size, *, crop, flip, angle, brightness, contrast)"},
    {"align_image", align_image, METH_VARARGS, "align_image(image, size, points, targets)"},
    {NULL, NULL, 0, NULL},
};

int facs_py_image_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
