#ifndef FACS_OPS_OP_H
#define FACS_OPS_OP_H

#include "core/status.h"
#include "kernel/kernel.h"

#include <math.h>

/* An op is a row of functions over a node: what shape it gives, what parameters it has,
 * what it costs, and how it runs forward and backward through the kernel table. Ops do no
 * arithmetic on tensors themselves, so they drive any device. */

/* FACS_REMAKES_Y: where its gradient is to be corrected, it makes y again from x. */
enum { FACS_READS_NOTHING = 0, FACS_READS_X = 1, FACS_READS_Y = 2, FACS_REMAKES_Y = 4 };
enum { FACS_MAX_INPUTS = 3, FACS_MAX_PARAMETERS = 6, FACS_NAME_SIZE = 96 };

typedef enum facs_op_kind {
#define FACS_OP(kind, name, inputs, reads, in_place, moments) FACS_OP_##kind,
#include "ops/op.def"
#undef FACS_OP
    FACS_OP_COUNT
} facs_op_kind;

typedef struct facs_shape {
    int h, w, c;
} facs_shape;

typedef enum facs_padding {
    FACS_PADDING_SYMMETRIC, /* (k - 1) / 2 on every side, as PyTorch models pad */
    FACS_PADDING_SAME,      /* TensorFlow's SAME: output ceil(h / stride), the odd one after */
    FACS_PADDING_KERAS,     /* SAME, but with groups and a stride (0, k - 2) whatever the size:
                               Keras' MobileNet-v1 */
    FACS_PADDING_NONE,
    FACS_PADDING_COUNT
} facs_padding;

/* How a node computes in a plan. */
typedef enum facs_mode {
    FACS_MODE_INFER,        /* stored statistics, no dropout, nothing kept for backward */
    FACS_MODE_TRAIN,        /* batch statistics, dropout */
    FACS_MODE_TRAIN_STORED, /* stored statistics, dropout */
    FACS_MODE_GRADIENT,     /* the function of INFER, with its backward */
    FACS_MODE_COUNT
} facs_mode;

typedef enum facs_loss_kind {
    FACS_LOSS_BCE,
    FACS_LOSS_LSEP,
    FACS_LOSS_PR,
    FACS_LOSS_TVERSKY,
    FACS_LOSS_ASYMMETRIC,
    FACS_LOSS_ZLPR,
    FACS_LOSS_COUNT
} facs_loss_kind;

/* Parameter slots of a node. A convolution has the slots of a folded BatchNorm too. */
enum {
    FACS_SLOT_WEIGHT,
    FACS_SLOT_BIAS,
    FACS_SLOT_GAMMA,
    FACS_SLOT_BETA,
    FACS_SLOT_MEAN,
    FACS_SLOT_VARIANCE
};

typedef struct facs_node {
    facs_op_kind op;
    int input[FACS_MAX_INPUTS]; /* node indices, -1 for none */
    union {
        struct {
            facs_conv geometry;
            facs_padding padding;
            int bias; /* has one of its own */
        } conv;
        facs_pool pool;
        struct {
            facs_real rate;
        } dropout;
        struct {
            facs_loss_kind kind;
            facs_loss_options options;
        } loss;
    } u;
    facs_real epsilon, momentum;        /* of a BatchNorm, also of a folded one */
    facs_clamp clamp;                   /* of an activation, also of a fused one */
    facs_shape shape;                   /* of the output */
    int parameter[FACS_MAX_PARAMETERS]; /* indices into the graph's parameters, -1 for none */
    int block;                          /* index into the graph's blocks */
    char name[FACS_NAME_SIZE];
} facs_node;

/* Of its output, for an image. */
static inline int64_t facs_node_numbers(const facs_node *node)
{
    return (int64_t)node->shape.h * node->shape.w * node->shape.c;
}

typedef enum facs_parameter_kind {
    FACS_PARAMETER_WEIGHT,
    FACS_PARAMETER_BIAS,
    FACS_PARAMETER_GAMMA,
    FACS_PARAMETER_BETA,
    FACS_PARAMETER_MEAN, /* running statistics: kept, not trained */
    FACS_PARAMETER_VARIANCE,
    FACS_PARAMETER_KIND_COUNT
} facs_parameter_kind;

typedef struct facs_parameter_spec {
    int slot, ndim, dims[4];
    facs_parameter_kind kind;
    const char *suffix;
} facs_parameter_spec;

/* What a node wants from a plan, in bytes: state lives as long as the plan, scratch for
 * one call. */
typedef struct facs_demand {
    size_t state, scratch;
} facs_demand;

/* What the batch's statistics of a value are, and what they add to its gradient: see
 * facs_correction. All NULL where no BatchNorm uses them. */
typedef struct facs_statistics {
    facs_real *mean, *variance, *slope, *offset;
} facs_statistics;

typedef struct facs_call {
    const facs_kernels *kernels;
    facs_context context;
    const facs_node *node;
    facs_mode mode;
    facs_tensor y, x[FACS_MAX_INPUTS]; /* y.data NULL: a BatchNorm that its readers apply */
    facs_norm norm[FACS_MAX_INPUTS]; /* of an input that is such a BatchNorm; else scale NULL */
    facs_statistics statistics, x_statistics; /* of y and of x[0] */
    facs_tensor dy, dx[FACS_MAX_INPUTS];      /* data is NULL where no gradient is wanted */
    int accumulate[FACS_MAX_INPUTS];
    facs_norm_begin begin; /* of who takes y's moments: the BatchNorm that follows them */
    int begun, finished;   /* of a BatchNorm: others do what follows its moments, its sums */
    facs_real *parameter[FACS_MAX_PARAMETERS];
    facs_real *gradient[FACS_MAX_PARAMETERS]; /* NULL where the parameter is frozen */
    void *state;
    uint64_t seed;
    uint32_t step;
} facs_call;

typedef struct facs_op {
    /* Completes node->shape and the geometry from the input shapes. */
    facs_status (*infer)(facs_node *node, const facs_shape *x);
    /* Writes at most FACS_MAX_PARAMETERS specs, returns how many; NULL: none. */
    int (*parameters)(const facs_node *node, const facs_shape *x, facs_parameter_spec *specs);
    /* Multiply-accumulates per image; NULL: none. */
    int64_t (*macs)(const facs_node *node);
    /* NULL: nothing. */
    facs_demand (*demand)(const facs_kernels *kernels, const facs_node *node, facs_mode mode,
                          int64_t batch, int threads);
    /* Turns parameters into what forward and backward read; run after they changed. */
    void (*prepare)(const facs_call *call);
    void (*forward)(const facs_call *call);
    /* What readers of a BatchNorm apply to its input themselves; NULL: they cannot. */
    facs_norm (*norm)(const facs_call *call);
    /* What a BatchNorm does once the moments of its input are known; NULL: no BatchNorm. */
    facs_norm_begin (*begin)(const facs_call *call);
    /* Whether the node can read such a BatchNorm, and go backward through it; NULL: no. */
    int (*takes_norm)(const facs_node *node, facs_mode mode);
    /* Computes y again from x and state, without side effects; NULL: y must be kept. */
    void (*replay)(const facs_call *call);
    void (*backward)(const facs_call *call);
} facs_op;

typedef struct facs_op_row {
    const char *name;
    int inputs;
    unsigned reads;
    int in_place, moments;
    const facs_op *op;
} facs_op_row;

const facs_op_row *facs_op_get(facs_op_kind kind);

/* What a kernel of several convolutions needs of one of them, whose call this is. */
facs_layer facs_conv_layer(const facs_call *call);

/* Value and gradient of a loss; the kernels' rows, chosen by kind. */
void facs_loss_run(const facs_kernels *kernels, facs_loss_kind kind,
                   const facs_context *context, facs_real *loss, facs_real *dlogits,
                   const facs_real *logits, const facs_real *target, const facs_real *mask,
                   int64_t n, const facs_loss_options *options);

static inline const facs_norm *facs_call_norm(const facs_call *call, int input)
{
    return call->norm[input].scale ? &call->norm[input] : NULL;
}

static inline facs_clamp facs_clamp_none(void)
{
    return (facs_clamp){-INFINITY, INFINITY};
}

static inline int facs_clamp_is_none(facs_clamp clamp)
{
    return clamp.low == -INFINITY && clamp.high == INFINITY;
}

#define FACS_OP(kind, name, inputs, reads, in_place, moments)                                  \
    extern const facs_op facs_op_##name;
#include "ops/op.def"
#undef FACS_OP

#endif
