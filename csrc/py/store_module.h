#ifndef FACS_PY_STORE_MODULE_H
#define FACS_PY_STORE_MODULE_H

#include "py/bridge.h"

facs_py_adder facs_py_store_add;

#endif
