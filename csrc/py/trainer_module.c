#include "py/trainer_module.h"

#include "py/device_array.h"
#include "py/loss_module.h"
#include "py/network_module.h"
#include "train/trainer.h"

typedef struct trainer_object {
    PyObject_HEAD facs_trainer *trainer;
    PyObject *network; /* owns the session */
    int from_boundary, side, labels;
    facs_shape entry; /* of the value that enters the first block */
    const facs_device *device;
} trainer_object;

/* (kind, beta1, beta2, epsilon, weight_decay, nesterov, clip_norm, average_decay) */
static int parse_optimiser(facs_optimiser_options *o, PyObject *tuple)
{
    static const char *const kinds[] = {"adam", "adamw", "sgd"};
    const char *kind;
    if (!PyArg_ParseTuple(tuple, "sddddpdd", &kind, &o->beta1, &o->beta2, &o->epsilon,
                          &o->weight_decay, &o->nesterov, &o->clip_norm, &o->average_decay))
        return -1;
    const int index = facs_py_choice("optimiser", kind, kinds, FACS_OPTIMISER_COUNT);
    o->kind = (facs_optimiser_kind)index;
    return index < 0 ? -1 : 0;
}

/* (kind, warmup, epochs, factor, period) */
static int parse_schedule(facs_schedule *s, PyObject *tuple)
{
    static const char *const kinds[] = {"constant", "step", "cosine", "plateau"};
    const char *kind;
    if (!PyArg_ParseTuple(tuple, "sdddd", &kind, &s->warmup, &s->epochs, &s->factor,
                          &s->period))
        return -1;
    const int index = facs_py_choice("schedule", kind, kinds, FACS_SCHEDULE_COUNT);
    s->kind = (facs_schedule_kind)index;
    if (index >= 0 && !(s->warmup >= 0 && s->factor >= 0 && s->period > 0)) {
        PyErr_SetString(PyExc_ValueError, "schedule: warmup and factor may not be negative, "
                                          "period must be more than 0");
        return -1;
    }
    return index < 0 ? -1 : 0;
}

static int create(trainer_object *self, facs_session *session, facs_stage *stage,
                  PyObject *rates, long long batch, unsigned long long seed)
{
    const facs_network *net = facs_session_network(session);
    int64_t shape[1] = {net->graph.block_count};
    facs_py_array block_rates = {0};
    facs_status status;

    if (rates != Py_None) {
        if (facs_py_array_from(&block_rates, rates, "block_rates", FACS_PY_FLOAT64, 1, shape) <
            0)
            return -1;
        stage->block_rates = block_rates.data;
    }
    if (facs_py_network_enter(self->network) < 0) {
        facs_py_array_release(&block_rates);
        return -1;
    }
    FACS_PY_UNLOCKED(status = facs_trainer_create(&self->trainer, session, stage, batch, seed));
    facs_py_network_leave(self->network);
    facs_py_array_release(&block_rates);
    if (status != FACS_OK) facs_py_raise(status);
    return status == FACS_OK ? 0 : -1;
}

static int find_entry(trainer_object *self, const facs_network *net, const facs_stage *stage)
{
    int node;

    self->from_boundary = stage->from_boundary;
    if (!stage->from_boundary) return 0;
    const facs_status status = facs_graph_boundary(&net->graph, stage->first_block, &node);
    if (status != FACS_OK) {
        facs_py_raise(status);
        return -1;
    }
    self->entry = net->graph.nodes[node].shape;
    return 0;
}

static PyObject *trainer_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"network",     "block", "from_boundary", "stored_statistics",
                            "rate",        "loss",  "optimiser",     "schedule",
                            "block_rates", "batch", "seed",          "recompute",
                            NULL};
    PyObject *network, *loss_row, *optimiser, *schedule, *rates;
    const char *block;
    facs_stage stage = {0};
    facs_py_loss loss = {0};
    long long batch;
    unsigned long long seed;

    if (!PyArg_ParseTupleAndKeywords(
            args, kwargs, "OsppdO!O!O!OLK|p", names, &network, &block, &stage.from_boundary,
            &stage.stored_statistics, &stage.rate, &PyTuple_Type, &loss_row, &PyTuple_Type,
            &optimiser, &PyTuple_Type, &schedule, &rates, &batch, &seed, &stage.recompute))
        return NULL;
    facs_session *session = facs_py_network_session(network);
    if (!session || parse_optimiser(&stage.optimiser, optimiser) < 0 ||
        parse_schedule(&stage.schedule, schedule) < 0)
        return NULL;
    const facs_network *net = facs_session_network(session);
    stage.first_block = facs_graph_find_block(&net->graph, block);
    if (stage.first_block < 0)
        return PyErr_Format(PyExc_ValueError, "block '%s' is not in this network", block);
    trainer_object *self = (trainer_object *)type->tp_alloc(type, 0);
    if (!self) return NULL;
    self->network = Py_NewRef(network);
    self->side = net->options.input_size;
    self->labels = net->options.labels;
    self->device = facs_session_device(session);
    int status = find_entry(self, net, &stage);
    if (status == 0) status = facs_py_loss_parse(&loss, loss_row, net->options.labels);
    stage.loss = loss.kind;
    stage.loss_options = loss.options;
    if (status == 0) status = create(self, session, &stage, rates, batch, seed);
    facs_py_loss_release(&loss);
    if (status < 0) Py_CLEAR(self);
    return (PyObject *)self;
}

static int trainer_traverse(PyObject *object, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(object));
    Py_VISIT(((trainer_object *)object)->network);
    return 0;
}

static int trainer_clear(PyObject *object)
{
    trainer_object *self = (trainer_object *)object;
    facs_trainer_free(self->trainer);
    self->trainer = NULL;
    Py_CLEAR(self->network);
    return 0;
}

static void trainer_dealloc(PyObject *object)
{
    PyTypeObject *type = Py_TYPE(object);
    PyObject_GC_UnTrack(object);
    trainer_clear(object);
    type->tp_free(object);
    Py_DECREF(type);
}

typedef struct step_arrays {
    facs_py_array x, rows, target, mask;
} step_arrays;

static void release(step_arrays *a)
{
    facs_py_array_release(&a->x);
    facs_py_array_release(&a->rows);
    facs_py_array_release(&a->target);
    facs_py_array_release(&a->mask);
}

/* The same in the memory of the network's device. */
static int use_there(trainer_object *self, step_arrays *a, facs_training_batch *batch,
                     facs_py_dtype dtype)
{
    batch->pixels = dtype == FACS_PY_UINT8 ? a->x.data : NULL;
    batch->numbers = dtype == FACS_PY_FLOAT32 ? a->x.data : NULL;
    batch->bfloats = dtype == FACS_PY_UINT16 ? a->x.data : NULL;
    if (self->from_boundary ? !batch->pixels : !batch->bfloats) return 0;
    PyErr_Format(PyExc_TypeError, "x: its dtype on the GPU is %s, want %s",
                 self->from_boundary ? "uint8" : "bfloat16",
                 self->from_boundary ? "float32 or bfloat16" : "uint8 or float32");
    return -1;
}

/* Images, or what enters the first block: float32, or the bits of bfloat16. */
static int parse_values(trainer_object *self, step_arrays *a, facs_training_batch *batch,
                        PyObject *x)
{
    int64_t image[4] = {FACS_PY_ANY, self->side, self->side, 3};
    int64_t entry[4] = {FACS_PY_ANY, self->entry.h, self->entry.w, self->entry.c};
    facs_py_dtype dtype;
    int bytes = 0;

    const int there = facs_py_device_take(&a->x, x, self->device, "x", 4,
                                          self->from_boundary ? entry : image, &dtype);
    if (there) return there < 0 ? -1 : use_there(self, a, batch, dtype);
    if (!self->from_boundary) {
        if (facs_py_images_from(&a->x, x, "x", image, &bytes) < 0) return -1;
        batch->pixels = bytes ? a->x.data : NULL;
        batch->numbers = bytes ? NULL : a->x.data;
        return 0;
    }
    const int bfloat16 = facs_py_is_array(x, FACS_PY_UINT16);
    if (facs_py_array_from(&a->x, x, "x", bfloat16 ? FACS_PY_UINT16 : FACS_PY_FLOAT32, 4,
                           entry) < 0)
        return -1;
    batch->bfloats = bfloat16 ? a->x.data : NULL;
    batch->numbers = bfloat16 ? NULL : a->x.data;
    return 0;
}

static int parse_rows(step_arrays *a, facs_training_batch *batch, PyObject *rows)
{
    int64_t shape[1] = {FACS_PY_ANY};

    batch->n = a->x.shape[0];
    if (rows == Py_None) return 0;
    if (facs_py_array_from(&a->rows, rows, "rows", FACS_PY_INT64, 1, shape) < 0) return -1;
    const int64_t *row = a->rows.data;
    for (int64_t i = 0; i < shape[0]; i++)
        if (row[i] < 0 || row[i] >= batch->n) {
            PyErr_Format(PyExc_ValueError, "rows: entry %lld is %lld, want 0 to %lld",
                         (long long)i, (long long)row[i], (long long)batch->n - 1);
            return -1;
        }
    batch->n = shape[0];
    batch->rows = row;
    return 0;
}

static int parse_batch(trainer_object *self, step_arrays *a, facs_training_batch *batch,
                       PyObject *x, PyObject *rows, PyObject *target, PyObject *mask)
{
    *batch = (facs_training_batch){0};
    if (parse_values(self, a, batch, x) < 0 || parse_rows(a, batch, rows) < 0) return -1;
    int64_t labels[2] = {batch->n, self->labels};
    if (facs_py_array_from(&a->target, target, "target", FACS_PY_FLOAT32, 2, labels) < 0 ||
        facs_py_array_from(&a->mask, mask, "mask", FACS_PY_FLOAT32, 2, labels) < 0)
        return -1;
    batch->target = a->target.data;
    batch->mask = a->mask.data;
    return 0;
}

static PyObject *trainer_step(PyObject *object, PyObject *args)
{
    trainer_object *self = (trainer_object *)object;
    PyObject *x, *target, *mask, *rows = Py_None;
    double epoch;
    step_arrays arrays = {0};
    facs_training_batch batch;
    facs_step_report report;
    facs_status status = FACS_OK;

    if (!PyArg_ParseTuple(args, "OOOd|O", &x, &target, &mask, &epoch, &rows)) return NULL;
    if (parse_batch(self, &arrays, &batch, x, rows, target, mask) < 0 ||
        facs_py_network_enter(self->network) < 0) {
        release(&arrays);
        return NULL;
    }
    FACS_PY_UNLOCKED(status = facs_trainer_step(self->trainer, &batch, epoch, &report));
    facs_py_network_leave(self->network);
    release(&arrays);
    if (status != FACS_OK) return facs_py_raise(status);
    return Py_BuildValue("(ddd)", report.loss, report.rate, report.gradient_norm);
}

static PyObject *trainer_observe(PyObject *object, PyObject *score)
{
    trainer_object *self = (trainer_object *)object;
    const double value = PyFloat_AsDouble(score);
    if (PyErr_Occurred() || facs_py_network_enter(self->network) < 0) return NULL;
    facs_trainer_observe(self->trainer, value);
    facs_py_network_leave(self->network);
    Py_RETURN_NONE;
}

static PyObject *trainer_swap_average(PyObject *object, PyObject *unused)
{
    trainer_object *self = (trainer_object *)object;
    (void)unused;
    if (facs_py_network_enter(self->network) < 0) return NULL;
    facs_status status;
    FACS_PY_UNLOCKED(status = facs_trainer_swap_average(self->trainer));
    facs_py_network_leave(self->network);
    if (status != FACS_OK) return facs_py_raise(status);
    Py_RETURN_NONE;
}

static PyObject *trainer_bytes(PyObject *object, void *unused)
{
    (void)unused;
    return PyLong_FromSize_t(facs_trainer_bytes(((trainer_object *)object)->trainer));
}

static PyMethodDef methods[] = {
    {"step", trainer_step, METH_VARARGS,
     "step(x, target, mask, epoch, rows=None) -> (loss, rate, gradient norm); image i is "
     "x[rows[i]]"},
    {"observe", trainer_observe, METH_O, "The score of a finished epoch."},
    {"swap_average", trainer_swap_average, METH_NOARGS, "Exchange weights and their average."},
    {NULL},
};

static PyGetSetDef properties[] = {
    {"bytes", trainer_bytes, NULL, "Bytes of the plan's arena.", NULL},
    {NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_doc, (void *)"Trains one stage of a Network, step by step."},
    {Py_tp_new, (void *)trainer_new},
    {Py_tp_traverse, (void *)trainer_traverse},
    {Py_tp_clear, (void *)trainer_clear},
    {Py_tp_dealloc, (void *)trainer_dealloc},
    {Py_tp_methods, methods},
    {Py_tp_getset, properties},
    {0, NULL},
};

static PyType_Spec spec = {
    .name = "facsnet._core.StageTrainer",
    .basicsize = sizeof(trainer_object),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = slots,
};

int facs_py_trainer_add(PyObject *module)
{
    PyObject *type = PyType_FromModuleAndSpec(module, &spec, NULL);
    if (!type) return -1;
    const int status = PyModule_AddObjectRef(module, "StageTrainer", type);
    Py_DECREF(type);
    return status;
}
