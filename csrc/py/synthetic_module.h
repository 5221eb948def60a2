#ifndef FACS_PY_SYNTHETIC_MODULE_H
#define FACS_PY_SYNTHETIC_MODULE_H

#include "py/bridge.h"

facs_py_adder facs_py_synthetic_add;

#endif
