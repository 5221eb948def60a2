#include "core/memory.h"
#include "ops/op.h"

/* Convolution, also fully connected (1x1 on a 1x1 map). The kernel family follows from
 * the groups. A BatchNorm folded into it (slots GAMMA .. VARIANCE) scales the packed
 * weights and becomes the bias. */

typedef enum family { DENSE, DEPTHWISE, GROUPED } family;

static family family_of(const facs_conv *g)
{
    if (facs_conv_is_grouped(g)) return GROUPED;
    return facs_conv_is_depthwise(g) ? DEPTHWISE : DENSE;
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
    if (node->u.conv.bias || family_of(g) == GROUPED)
        sums = kernels->reduce_scratch(g->co, batch * g->oh * g->ow, threads);
    backward = sums > backward ? sums : backward;
    if (family_of(g) == GROUPED) forward = sums; /* of its moments */
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

facs_layer facs_conv_layer(const facs_call *call)
{
    const state s = divide_state(call->kernels, call->node, call->mode, call->state);
    return (facs_layer){.g = &call->node->u.conv.geometry,
                        .packed = s.packed,
                        .bias = s.shift ? s.shift : call->parameter[FACS_SLOT_BIAS],
                        .clamp = call->node->clamp};
}

static int takes_norm(const facs_node *node, facs_mode mode)
{
    (void)mode;
    return family_of(&node->u.conv.geometry) != GROUPED;
}

static void forward(const facs_call *call)
{
    const facs_kernels *k = call->kernels;
    const facs_conv *g = &call->node->u.conv.geometry;
    const facs_layer l = facs_conv_layer(call);
    const facs_norm *norm = facs_call_norm(call, 0);
    const facs_moments taken = {.mean = call->statistics.mean,
                                .variance = call->statistics.variance,
                                .begin = call->begin};
    const facs_moments *moments = taken.mean ? &taken : NULL;

    switch (family_of(g)) {
    case DENSE:
        k->conv_fwd(&call->context, g, &call->y, &call->x[0], norm, l.packed, l.bias, l.clamp,
                    moments);
        break;
    case DEPTHWISE:
        k->dwconv_fwd(&call->context, g, &call->y, &call->x[0], norm, l.packed, l.bias, l.clamp,
                      moments);
        break;
    case GROUPED:
        k->groupconv_fwd(&call->context, g, &call->y, &call->x[0], l.packed, l.bias, l.clamp);
        if (moments) k->batchnorm_stats(&call->context, taken.mean, taken.variance, &call->y);
        break;
    }
}

/* Its moments were taken when y was first computed. */
static void replay(const facs_call *call)
{
    facs_call again = *call;
    again.statistics = (facs_statistics){0};
    forward(&again);
}

static void backward_dense(const facs_call *call, const facs_correction *correction)
{
    const facs_kernels *k = call->kernels;
    const facs_conv *g = &call->node->u.conv.geometry;
    const facs_norm *norm = facs_call_norm(call, 0);
    const facs_tensor *x = &call->x[0], *dx = call->dx[0].data ? &call->dx[0] : NULL;
    const state s = divide_state(k, call->node, call->mode, call->state);

    if (call->gradient[FACS_SLOT_WEIGHT] && (dx || (norm && norm->sum))) {
        k->conv_bwd(&call->context, g, dx, call->gradient[FACS_SLOT_WEIGHT], x, norm, &call->dy,
                    correction, s.packed_bwd, call->accumulate[0]);
        return;
    }
    if (dx || (norm && norm->sum)) {
        k->conv_bwd_x(&call->context, g, dx, x, norm, &call->dy, correction, s.packed_bwd,
                      call->accumulate[0]);
        correction = NULL;
    }
    if (call->gradient[FACS_SLOT_WEIGHT])
        k->conv_bwd_w(&call->context, g, call->gradient[FACS_SLOT_WEIGHT], x, norm, &call->dy,
                      correction);
}

static void backward_depthwise(const facs_call *call, const facs_correction *correction)
{
    const facs_kernels *k = call->kernels;
    const state s = divide_state(k, call->node, call->mode, call->state);

    k->dwconv_bwd(&call->context, &call->node->u.conv.geometry,
                  call->dx[0].data ? &call->dx[0] : NULL, call->gradient[FACS_SLOT_WEIGHT],
                  &call->x[0], facs_call_norm(call, 0), &call->dy, correction, s.packed,
                  call->accumulate[0]);
}

static void backward_grouped(const facs_call *call, const facs_correction *correction)
{
    const facs_kernels *k = call->kernels;
    const facs_conv *g = &call->node->u.conv.geometry;
    const state s = divide_state(k, call->node, call->mode, call->state);

    if (correction) k->correct(&call->context, &call->dy, correction);
    if (call->gradient[FACS_SLOT_WEIGHT])
        k->groupconv_bwd_w(&call->context, g, call->gradient[FACS_SLOT_WEIGHT], &call->x[0],
                           &call->dy);
    if (call->dx[0].data)
        k->groupconv_bwd_x(&call->context, g, &call->dx[0], &call->dy, s.packed,
                           call->accumulate[0]);
}

static void backward(const facs_call *call)
{
    const facs_conv *g = &call->node->u.conv.geometry;
    const facs_correction due = {&call->y, call->statistics.slope, call->statistics.offset};
    const facs_correction *correction = due.slope ? &due : NULL;

    /* A batch's statistics take the bias out again, so its gradient is what remains. */
    if (call->gradient[FACS_SLOT_BIAS]) {
        if (correction) call->kernels->correct(&call->context, &call->dy, correction);
        correction = NULL;
        call->kernels->channel_sums(&call->context, call->gradient[FACS_SLOT_BIAS], &call->dy);
    }
    if (family_of(g) == DENSE)
        backward_dense(call, correction);
    else if (family_of(g) == DEPTHWISE)
        backward_depthwise(call, correction);
    else
        backward_grouped(call, correction);
}

const facs_op facs_op_conv = {
    .infer = infer,
    .parameters = parameters,
    .macs = macs,
    .demand = demand,
    .prepare = prepare,
    .takes_norm = takes_norm,
    .forward = forward,
    .replay = replay,
    .backward = backward,
};
