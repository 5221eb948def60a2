#ifndef FACS_PY_LOSS_MODULE_H
#define FACS_PY_LOSS_MODULE_H

#include "py/bridge.h"

#include "ops/op.h"

/* A loss as Python names it: kind and options, with the arrays the options borrow. */
typedef struct facs_py_loss {
    facs_loss_kind kind;
    facs_loss_options options;
    facs_py_array class_weight, pos_weight;
} facs_py_loss;

/* From (name, bce_weight, epsilon, micro, class_weight or None, pos_weight or None, (alpha,
 * beta, gamma_positive, gamma_negative, margin, true_negatives)) for k labels. 0, or -1 with
 * an exception; release in either case. */
int facs_py_loss_parse(facs_py_loss *loss, PyObject *tuple, int labels);
void facs_py_loss_release(facs_py_loss *loss);

facs_py_adder facs_py_loss_add;

#endif
