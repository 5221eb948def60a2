#ifndef FACS_PY_NETWORK_MODULE_H
#define FACS_PY_NETWORK_MODULE_H

#include "py/bridge.h"

#include "nets/session.h"

/* The session of a _core.Network (borrowed); NULL with an exception when object is not
 * one. */
facs_session *facs_py_network_session(PyObject *object);

/* A network is used by one thread at a time: waits for its lock without the GIL. -1 with an
 * exception when there is no lock to be had. */
int facs_py_network_enter(PyObject *object);
void facs_py_network_leave(PyObject *object);

facs_py_adder facs_py_network_add;

#endif
