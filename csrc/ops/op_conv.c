#include "core/memory.h"
#include "ops/op.h"

/* Convolution, also fully connected (1x1 on a 1x1 map). The kernel family follows from
 * the groups. A BatchNorm folded into it (slots GAMMA .. VARIANCE) scales the packed
 * weights and becomes the bias. */

typedef enum family { DENSE, DEPTHWISE, GROUPED } family;

static family family_of(const facs_conv *g)
{
    if (g->groups == 1) return DENSE;
    return g->groups == g->ci && g->ci == g->co ? DEPTHWISE : GROUPED;
}

static int padding_before(facs_padding mode, int size, int kernel, int stride, int *output)
{
    if (mode == FACS_PADDING_SYMMETRIC || mode == FACS_PADDING_NONE) {
        const int pad = mode == FACS_PADDING_SYMMETRIC ? (kernel - 1) / 2 : 0;
        *output = (size + 2 * pad - kernel) / stride + 1;
        return pad;
    }
    if (mode == FACS_PADDING_KERAS && stride > 1) {
        *output = (size - 2) / stride + 1;
        return 0;
    }
    *output = (size + stride - 1) / stride;
    const int total = (*output - 1) * stride + kernel - size;
    return total > 0 ? total / 2 : 0;
}

static facs_status infer(facs_node *node, const facs_shape *x)
{
    facs_conv *g = &node->u.conv.geometry;

    if (g->groups < 1 || x->c % g->groups || g->co % g->groups)
        return facs_fail(FACS_E_SHAPE, "conv %s: %d input and %d output channels in %d groups",
                         node->name, x->c, g->co, g->groups);
    /* Keras pads by hand before its depthwise convolutions only. */
    const facs_padding padding = node->u.conv.padding == FACS_PADDING_KERAS && g->groups == 1
                                     ? FACS_PADDING_SAME
                                     : node->u.conv.padding;
    g->h = x->h, g->w = x->w, g->ci = x->c;
    g->pad_top = padding_before(padding, g->h, g->kh, g->stride, &g->oh);
    g->pad_left = padding_before(padding, g->w, g->kw, g->stride, &g->ow);
    if (g->oh < 1 || g->ow < 1)
        return facs_fail(FACS_E_SHAPE,
                         "conv %s: a %d x %d map is too small for its %d x %d kernel",
                         node->name, g->h, g->w, g->kh, g->kw);
    node->shape = (facs_shape){g->oh, g->ow, g->co};
    return FACS_OK;
}

static int parameters(const facs_node *node, const facs_shape *x, facs_parameter_spec *specs)
{
    const facs_conv *g = &node->u.conv.geometry;
    specs[0] = (facs_parameter_spec){FACS_SLOT_WEIGHT,
                                     4,
                                     {g->kh, g->kw, x->c / g->groups, g->co},
                                     FACS_PARAMETER_WEIGHT,
                                     "weight"};
    if (!node->u.conv.bias) return 1;
    specs[1] =
        (facs_parameter_spec){FACS_SLOT_BIAS, 1, {g->co, 1, 1, 1}, FACS_PARAMETER_BIAS, "bias"};
    return 2;
}

static int64_t macs(const facs_node *node)
{
    const facs_conv *g = &node->u.conv.geometry;
    return (int64_t)g->oh * g->ow * g->co * g->kh * g->kw * (g->ci / g->groups);
}

/* State: scale, shift (co each, when a BatchNorm is folded), packed, packed_bwd. */
typedef struct state {
    facs_real *scale, *shift, *packed, *packed_bwd;
    size_t bytes;
} state;

static state divide_state(const facs_kernels *kernels, const facs_node *node, facs_mode mode,
                          void *block)
{
    const facs_conv *g = &node->u.conv.geometry;
    const family kind = family_of(g);
    const int folded = node->parameter[FACS_SLOT_GAMMA] >= 0;
    const int64_t channels = folded ? g->co : 0;
    int64_t forward = (int64_t)g->kh * g->kw * (g->ci / g->groups) * g->co, backward = 0;
    state s = {0};

    if (kind == DENSE)
        forward = kernels->conv_packed(g);
    else if (kind == DEPTHWISE)
        forward = kernels->dwconv_packed(g);
    if (kind == DENSE && mode != FACS_MODE_INFER) backward = kernels->conv_packed_bwd(g);
    const int64_t counts[] = {channels, channels, forward, backward};
    facs_real **const parts[] = {&s.scale, &s.shift, &s.packed, &s.packed_bwd};
    for (int i = 0; i < 4; i++) {
        if (block && counts[i]) *parts[i] = (facs_real *)((char *)block + s.bytes);
        s.bytes += facs_align((size_t)counts[i] * sizeof(facs_real));
    }
    return s;
}

static facs_demand demand(const facs_kernels *kernels, const facs_node *node, facs_mode mode,
                          int64_t batch, int threads)
{
    const facs_conv *g = &node->u.conv.geometry;
    size_t forward = 0, backward = 0, sums = 0;

    if (family_of(g) == DENSE) {
        forward = kernels->conv_fwd_scratch(g, batch, threads);
        backward = kernels->conv_bwd_scratch(g, batch, threads);
    } else if (family_of(g) == DEPTHWISE) {
        forward = kernels->dwconv_fwd_scratch(g, batch, threads);
        backward = kernels->dwconv_bwd_scratch(g, batch, threads);
    }
    if (node->u.conv.bias)
        sums = kernels->reduce_scratch(g->co, batch * g->oh * g->ow, threads);
    backward = sums > backward ? sums : backward;
    return (facs_demand){.state = divide_state(kernels, node, mode, NULL).bytes,
                         .scratch = mode != FACS_MODE_INFER && backward > forward ? backward
                                                                                  : forward};
}

static void prepare(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    const facs_conv *g = &call->node->u.conv.geometry;
    const state s = divide_state(k, call->node, call->mode, call->state);
    const facs_real *w = call->parameter[FACS_SLOT_WEIGHT];
    facs_real *const *p = call->parameter;

    if (s.scale)
        k->batchnorm_fold(s.scale, s.shift, g->co, p[FACS_SLOT_GAMMA], p[FACS_SLOT_BETA],
                          p[FACS_SLOT_MEAN], p[FACS_SLOT_VARIANCE], call->node->epsilon,
                          p[FACS_SLOT_BIAS]);
    switch (family_of(g)) {
    case DENSE:
        k->conv_pack(s.packed, g, w, s.scale);
        if (s.packed_bwd) k->conv_pack_bwd(s.packed_bwd, g, w);
        break;
    case DEPTHWISE:
        k->dwconv_pack(s.packed, g, w, s.scale);
        break;
    case GROUPED:
        k->groupconv_pack(s.packed, g, w, s.scale);
        break;
    }
}

static void forward(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    const facs_conv *g = &call->node->u.conv.geometry;
    const state s = divide_state(k, call->node, call->mode, call->state);
    const facs_real *bias = s.shift ? s.shift : call->parameter[FACS_SLOT_BIAS];
    const facs_clamp clamp = call->node->clamp;

    switch (family_of(g)) {
    case DENSE:
        k->conv_fwd(&call->context, g, &call->y, &call->x[0], s.packed, bias, clamp);
        break;
    case DEPTHWISE:
        k->dwconv_fwd(&call->context, g, &call->y, &call->x[0], s.packed, bias, clamp);
        break;
    case GROUPED:
        k->groupconv_fwd(&call->context, g, &call->y, &call->x[0], s.packed, bias, clamp);
        break;
    }
}

static void backward_weights(const facs_call *call, const facs_conv *g)
{
    const facs_kernels *k = call->kernels;
    facs_real *dw = call->gradient[FACS_SLOT_WEIGHT];

    if (dw) {
        switch (family_of(g)) {
        case DENSE:
            k->conv_bwd_w(&call->context, g, dw, &call->x[0], &call->dy);
            break;
        case DEPTHWISE:
            k->dwconv_bwd_w(&call->context, g, dw, &call->x[0], &call->dy);
            break;
        case GROUPED:
            k->groupconv_bwd_w(&call->context, g, dw, &call->x[0], &call->dy);
            break;
        }
    }
    if (call->gradient[FACS_SLOT_BIAS])
        k->channel_sums(&call->context, call->gradient[FACS_SLOT_BIAS], &call->dy);
}

static void backward(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    const facs_conv *g = &call->node->u.conv.geometry;
    const state s = divide_state(k, call->node, call->mode, call->state);

    backward_weights(call, g);
    if (!call->dx[0].data) return;
    switch (family_of(g)) {
    case DENSE:
        k->conv_bwd_x(&call->context, g, &call->dx[0], &call->dy, s.packed_bwd,
                      call->accumulate[0]);
        break;
    case DEPTHWISE:
        k->dwconv_bwd_x(&call->context, g, &call->dx[0], &call->dy, s.packed,
                        call->accumulate[0]);
        break;
    case GROUPED:
        k->groupconv_bwd_x(&call->context, g, &call->dx[0], &call->dy, s.packed,
                           call->accumulate[0]);
        break;
    }
}

const facs_op facs_op_conv = {
    .infer = infer,
    .parameters = parameters,
    .macs = macs,
    .demand = demand,
    .prepare = prepare,
    .forward = forward,
    .backward = backward,
};
