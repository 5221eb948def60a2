#ifndef FACS_PY_NETWORK_MODULE_H
#define FACS_PY_NETWORK_MODULE_H

#include "py/bridge.h"

#include "nets/session.h"

/* The session of a _core.Network (borrowed); NULL with an exception when object is not
 * one. */
facs_session *facs_py_network_session(PyObject *object);

/* A network is used by one thread at a time: takes its lock, or raises RuntimeError when
 * another thread holds it and returns -1. */
int facs_py_network_enter(PyObject *object);
void facs_py_network_leave(PyObject *object);

facs_py_adder facs_py_network_add;

#endif
