#ifndef FACS_PY_NETWORK_OBJECT_H
#define FACS_PY_NETWORK_OBJECT_H

#include "py/network_module.h"

/* facsnet._core.Network, shared by network_module.c (the type), network_run.c (passes),
 * network_boundary.c (passes to and from a block) and network_rows.c (parameters and facts);
 * nobody else includes it. */

/* The images of a call: 8-bit pixels or numbers, never both. */
typedef struct facs_py_images {
    facs_py_array array;
    const uint8_t *pixels;
    const float *numbers;
    int64_t n;
    int there; /* in the memory of the network's device: not looked at here */
} facs_py_images;

/* The lock guards the session and what stands below it. */
typedef struct facs_network_object {
    PyObject_HEAD facs_session *session;
    facs_plugin plugin; /* of the session's device, unless that is the CPU */
    PyThread_type_lock lock;
    facs_py_images pending; /* of the last forward if it was inference, for a later backward */
    uint64_t fingerprint;   /* of their bytes, which are the caller's */
} facs_network_object;

static inline facs_network *facs_py_network_of(PyObject *object)
{
    return facs_session_network(((facs_network_object *)object)->session);
}

/* Images of the network's size from any array-like; -1 with an exception. Whether they are
 * finite is seen by facs_py_images_check, or on their way through the network. */
int facs_py_images_take(facs_py_images *in, facs_network_object *self, PyObject *object);
int facs_py_images_check(const facs_py_images *in);

PyObject *facs_py_network_forward(PyObject *network, PyObject *args, PyObject *kwargs);
PyObject *facs_py_network_features(PyObject *network, PyObject *x);
PyObject *facs_py_network_head(PyObject *network, PyObject *features);
PyObject *facs_py_network_backward(PyObject *network, PyObject *dlogits);

PyObject *facs_py_network_boundary_shape(PyObject *network, PyObject *block);
PyObject *facs_py_network_below(PyObject *network, PyObject *args);
PyObject *facs_py_network_above(PyObject *network, PyObject *args);

PyObject *facs_py_network_parameter_rows(PyObject *network, PyObject *unused);
PyObject *facs_py_network_gradients(PyObject *network, PyObject *unused);
PyObject *facs_py_network_node_rows(PyObject *network, PyObject *unused);
PyObject *facs_py_network_block_names(PyObject *network, PyObject *unused);

#endif
