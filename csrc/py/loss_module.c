#include "py/loss_module.h"

#include "core/memory.h"

#include <string.h>

static const char *const names[FACS_LOSS_COUNT] = {[FACS_LOSS_BCE] = "bce",
                                                   [FACS_LOSS_LSEP] = "lsep",
                                                   [FACS_LOSS_PR] = "pr",
                                                   [FACS_LOSS_TVERSKY] = "tversky",
                                                   [FACS_LOSS_ASYMMETRIC] = "asymmetric",
                                                   [FACS_LOSS_ZLPR] = "zlpr"};

static int parse_weights(facs_py_array *array, const facs_real **weights, PyObject *object,
                         const char *argument, int labels)
{
    int64_t shape[1] = {labels};
    if (object == Py_None) return 0;
    if (facs_py_array_from(array, object, argument, FACS_PY_FLOAT32, 1, shape) < 0) return -1;
    *weights = array->data;
    for (int i = 0; i < labels; i++)
        if (!((*weights)[i] >= 0) || !isfinite((*weights)[i])) {
            PyErr_Format(PyExc_ValueError, "%s: entry %d is not a number of at least 0",
                         argument, i);
            return -1;
        }
    return 0;
}

static facs_status check_options(const facs_loss_options *o)
{
    const struct {
        const char *name;
        facs_real value;
    } factors[] = {{"bce_weight", o->bce_weight},
                   {"alpha", o->alpha},
                   {"beta", o->beta},
                   {"gamma_positive", o->gamma_positive},
                   {"gamma_negative", o->gamma_negative},
                   {"margin", o->margin}};
    for (size_t i = 0; i < sizeof factors / sizeof *factors; i++)
        if (!(factors[i].value >= 0) || !isfinite(factors[i].value))
            return facs_fail(FACS_E_ARG, "loss: %s is %g, want a number of at least 0",
                             factors[i].name, (double)factors[i].value);
    if (!(o->epsilon > 0) || !isfinite(o->epsilon))
        return facs_fail(FACS_E_ARG, "loss: epsilon is %g, want a number of more than 0",
                         (double)o->epsilon);
    if (o->margin >= 1)
        return facs_fail(FACS_E_ARG, "loss: margin is %g, want a number below 1",
                         (double)o->margin);
    return FACS_OK;
}

int facs_py_loss_parse(facs_py_loss *loss, PyObject *tuple, int labels)
{
    const char *name;
    facs_loss_options o = {.labels = labels};
    PyObject *class_weight, *pos_weight;

    memset(loss, 0, sizeof *loss);
    if (!PyArg_ParseTuple(tuple, "sffpOO(fffffp)", &name, &o.bce_weight, &o.epsilon, &o.micro,
                          &class_weight, &pos_weight, &o.alpha, &o.beta, &o.gamma_positive,
                          &o.gamma_negative, &o.margin, &o.true_negatives))
        return -1;
    const int kind = facs_py_choice("loss", name, names, FACS_LOSS_COUNT);
    if (kind < 0) return -1;
    loss->kind = (facs_loss_kind)kind;
    const facs_status status = check_options(&o);
    if (status != FACS_OK) {
        facs_py_raise(status);
        return -1;
    }
    loss->options = o;
    if (parse_weights(&loss->class_weight, &loss->options.class_weight, class_weight,
                      "class_weight", labels) < 0)
        return -1;
    return parse_weights(&loss->pos_weight, &loss->options.pos_weight, pos_weight, "pos_weight",
                         labels);
}

void facs_py_loss_release(facs_py_loss *loss)
{
    facs_py_array_release(&loss->class_weight);
    facs_py_array_release(&loss->pos_weight);
}

static facs_status check_values(const facs_py_array *logits, const facs_py_array *target,
                                const facs_py_array *mask)
{
    const float *f = logits->data, *y = target->data, *m = mask->data;
    const int64_t count = logits->shape[0] * logits->shape[1], k = logits->shape[1];
    for (int64_t i = 0; i < count; i++) {
        const int known = !m || m[i] != 0;
        if (!isfinite(f[i]))
            return facs_fail(FACS_E_ARG, "logits: entry (%lld, %lld) is not finite",
                             (long long)(i / k), (long long)(i % k));
        if (m && m[i] != 0 && m[i] != 1)
            return facs_fail(FACS_E_ARG, "mask: entry (%lld, %lld) is neither 0 nor 1",
                             (long long)(i / k), (long long)(i % k));
        if (known && y[i] != 0 && y[i] != 1)
            return facs_fail(FACS_E_ARG, "target: entry (%lld, %lld) is neither 0 nor 1",
                             (long long)(i / k), (long long)(i % k));
    }
    return FACS_OK;
}

static facs_status compute(const facs_py_loss *loss, float *value, float *dlogits,
                           const facs_py_array *logits, const facs_py_array *target,
                           const facs_py_array *mask)
{
    facs_kernels kernels;
    facs_context context = {.threads = 1};
    const int64_t n = logits->shape[0];

    FACS_TRY(check_values(logits, target, mask));
    (void)facs_kernels_select(&kernels, NULL);
    FACS_TRY(facs_allocate_slab(&context.scratch, kernels.loss_scratch(n, loss->options.labels),
                                "loss"));
    facs_loss_run(&kernels, loss->kind, &context, value, dlogits, logits->data, target->data,
                  mask->data, n, &loss->options);
    facs_free(context.scratch);
    return FACS_OK;
}

/* The value and the gradient of parsed arrays. */
static PyObject *evaluate(const facs_py_loss *loss, const facs_py_array *logits,
                          const facs_py_array *target, const facs_py_array *mask)
{
    facs_py_array gradient;
    facs_status status;
    float value = 0;

    if (facs_py_array_new(&gradient, FACS_PY_FLOAT32, 2, logits->shape) < 0) return NULL;
    FACS_PY_UNLOCKED(status = compute(loss, &value, gradient.data, logits, target, mask));
    if (status != FACS_OK) {
        facs_py_array_release(&gradient);
        return facs_py_raise(status);
    }
    return Py_BuildValue("(dN)", (double)value, facs_py_array_detach(&gradient));
}

static PyObject *loss_value(PyObject *module, PyObject *args)
{
    PyObject *specification, *f, *y, *m, *result = NULL;
    int64_t shape[2] = {FACS_PY_ANY, FACS_PY_ANY};
    facs_py_array logits = {0}, target = {0}, mask = {0};
    facs_py_loss loss = {0};

    (void)module;
    if (!PyArg_ParseTuple(args, "O!OOO", &PyTuple_Type, &specification, &f, &y, &m))
        return NULL;
    if (facs_py_array_from(&logits, f, "logits", FACS_PY_FLOAT32, 2, shape) == 0 &&
        facs_py_array_from(&target, y, "target", FACS_PY_FLOAT32, 2, shape) == 0 &&
        (m == Py_None ||
         facs_py_array_from(&mask, m, "mask", FACS_PY_FLOAT32, 2, shape) == 0) &&
        facs_py_loss_parse(&loss, specification, (int)shape[1]) == 0)
        result = shape[0] && shape[1] ? evaluate(&loss, &logits, &target, &mask)
                                      : PyErr_Format(PyExc_ValueError,
                                                     "logits: shape is (%lld, %lld), want no 0",
                                                     (long long)shape[0], (long long)shape[1]);
    facs_py_array_release(&logits);
    facs_py_array_release(&target);
    facs_py_array_release(&mask);
    facs_py_loss_release(&loss);
    return result;
}

static PyObject *sigmoid(PyObject *module, PyObject *object)
{
    int64_t shape[2] = {FACS_PY_ANY, FACS_PY_ANY};
    facs_py_array x, y;
    facs_kernels kernels;

    (void)module;
    if (facs_py_array_from(&x, object, "logits", FACS_PY_FLOAT32, 2, shape) < 0) return NULL;
    if (facs_py_array_new(&y, FACS_PY_FLOAT32, 2, shape) == 0) {
        (void)facs_kernels_select(&kernels, NULL);
        FACS_PY_UNLOCKED(kernels.sigmoid(y.data, x.data, shape[0] * shape[1]));
    }
    facs_py_array_release(&x);
    return facs_py_array_detach(&y);
}

static PyMethodDef functions[] = {
    {"loss", loss_value, METH_VARARGS,
     "loss(specification, logits, target, mask) -> (value, dlogits)"},
    {"sigmoid", sigmoid, METH_O, "Probabilities of logits (n, k)."},
    {NULL},
};

int facs_py_loss_add(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
