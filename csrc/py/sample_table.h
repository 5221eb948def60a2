#ifndef FACS_PY_SAMPLE_TABLE_H
#define FACS_PY_SAMPLE_TABLE_H

#include "py/bridge.h"

#include "data/loader.h"

/* A facs_sample_table of Python's objects, and what it borrows. Start from {0}. */
typedef struct facs_py_samples {
    facs_sample_table table;
    PyObject *path_list; /* of bytes */
    const char **paths;
    facs_image *images;
    facs_py_array *arrays; /* one array (n, h, w, 3), or one per image */
    int64_t array_count;
    facs_py_array labels;
} facs_py_samples;

void facs_py_samples_release(facs_py_samples *table);

/* Either images, an array (n, h, w, 3) or a sequence of (h, w, 3), or paths; the other is
 * None. -1 with an exception. */
int facs_py_samples_take(facs_py_samples *table, PyObject *images, PyObject *paths);
/* (count, labels); after facs_py_samples_take. */
int facs_py_samples_take_labels(facs_py_samples *table, PyObject *labels);

/* Raises what became of an image; OSError with errno and file name, so that a missing file is
 * a FileNotFoundError. row: of the image, -1 where it is none's. */
PyObject *facs_py_samples_raise(const facs_py_samples *table, facs_status status, int reason,
                                int64_t row);

#endif
