#ifndef FACS_PY_BRIDGE_H
#define FACS_PY_BRIDGE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "core/status.h"

#include <stdint.h>

/* Between Python objects and C arrays. NumPy's C API is used in bridge.c alone; the
 * other files of the binding see arrays through facs_py_array. */

typedef enum facs_py_dtype {
    FACS_PY_FLOAT32,
    FACS_PY_FLOAT64,
    FACS_PY_UINT8,
    FACS_PY_UINT16,
    FACS_PY_INT64,
    FACS_PY_BOOL,
    FACS_PY_DTYPE_COUNT
} facs_py_dtype;

enum { FACS_PY_MAX_DIMS = 4, FACS_PY_ANY = -1 };

typedef struct facs_py_array {
    PyObject *object; /* owned reference, NULL when empty */
    void *data;       /* C-contiguous, aligned */
    int ndim;
    int64_t shape[FACS_PY_MAX_DIMS];
} facs_py_array;

/* Turns any array-like into a C-contiguous array of dtype (copied only where needed;
 * values are cast as NumPy's same_kind rule allows, integers and booleans to floats too).
 * shape has ndim wanted sizes, FACS_PY_ANY for any; it is completed with what was found,
 * so that one array can fix the sizes of the next. Returns 0, or -1 with an exception
 * that names the argument, what was found and what was wanted. */
int facs_py_array_from(facs_py_array *array, PyObject *object, const char *argument,
                       facs_py_dtype dtype, int ndim, int64_t *shape);

/* The same with the dtype and the 1 to 4 axes that an array-like has. */
int facs_py_array_any(facs_py_array *array, PyObject *object, const char *argument,
                      facs_py_dtype *dtype);

/* 0 where a shape is as wanted; else -1 with the ValueError of facs_py_array_from. */
int facs_py_check_shape(const char *argument, int ndim, const int64_t *shape, int wanted_ndim,
                        const int64_t *wanted);

size_t facs_py_item_bytes(facs_py_dtype dtype);

/* A new zeroed array. */
int facs_py_array_new(facs_py_array *array, facs_py_dtype dtype, int ndim,
                      const int64_t *shape);

/* A NumPy view of memory that `owner` keeps alive (a reference is taken). */
PyObject *facs_py_array_view(PyObject *owner, void *data, facs_py_dtype dtype, int ndim,
                             const int64_t *shape, int writable);

/* Gives the object away (for returning it); the array is empty afterwards. */
PyObject *facs_py_array_detach(facs_py_array *array);

/* As facs_py_array_from with 4 sizes, for images: uint8 stays what it is and *bytes is 1;
 * floating point becomes float32. Other dtypes are a TypeError: nothing says whether they are
 * pixels or scaled. */
int facs_py_images_from(facs_py_array *array, PyObject *object, const char *argument,
                        int64_t *shape, int *bytes);

/* Every number of a float32 array is finite; else -1 with a ValueError that has its index.
 * Looks without the GIL. */
int facs_py_array_check_finite(const facs_py_array *array, const char *argument);

/* All of these are; no message. */
int facs_py_are_finite(const float *values, int64_t count);

/* True when object is a NumPy array of exactly this dtype. */
int facs_py_is_array(PyObject *object, facs_py_dtype dtype);

void facs_py_array_release(facs_py_array *array);

/* Index of name in names; -1 with a ValueError that lists them. */
int facs_py_choice(const char *argument, const char *name, const char *const *names, int count);

/* Raises the exception of status with the thread's message; returns NULL. */
PyObject *facs_py_raise(facs_status status);

/* Runs a statement without the GIL. */
#define FACS_PY_UNLOCKED(statement)                                                            \
    do {                                                                                       \
        PyThreadState *thread_ = PyEval_SaveThread();                                          \
        statement;                                                                             \
        PyEval_RestoreThread(thread_);                                                         \
    } while (0)

/* Every file of the binding adds its functions and types to the module through one
 * function of this kind, listed in module.c. Returns 0, or -1 with an exception. */
typedef int facs_py_adder(PyObject *module);

int facs_py_bridge_init(PyObject *module);

#endif
