#include "nets/network.h"

#include "core/memory.h"
#include "core/rng.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const facs_backbone *const families[] = {
    facs_backbones_mobilenet_v1,
    facs_backbones_mobilenet_v2,
    facs_backbones_densenet,
    facs_backbones_vgg,
};

static const facs_backbone *backbone_at(int i)
{
    for (size_t family = 0; family < sizeof families / sizeof *families; family++)
        for (const facs_backbone *row = families[family]; row->name; row++)
            if (i-- == 0) return row;
    return NULL;
}

const char *facs_network_names(int i)
{
    const facs_backbone *row = i >= 0 ? backbone_at(i) : NULL;
    return row ? row->name : NULL;
}

static facs_status find_backbone(const char *name, const facs_backbone **found)
{
    char known[256] = "";
    for (int i = 0; (*found = backbone_at(i)); i++) {
        if (strcmp((*found)->name, name) == 0) return FACS_OK;
        const size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", (*found)->name);
    }
    return facs_fail(FACS_E_ARG, "network '%s' is not known, there are: %s", name, known);
}

static facs_status check_options(const facs_network_options *o)
{
    if (o->labels < 1) return facs_fail(FACS_E_ARG, "labels is %d, want at least 1", o->labels);
    if (o->input_size < 1 || o->input_size > 4096)
        return facs_fail(FACS_E_ARG, "input_size is %d, want 1 to 4096", o->input_size);
    if (!(o->width > 0 && o->width <= 8))
        return facs_fail(FACS_E_ARG, "width is %g, want a number in (0, 8]", o->width);
    if (!(o->dropout >= 0 && o->dropout < 1))
        return facs_fail(FACS_E_ARG, "dropout is %g, want a number in [0, 1)", o->dropout);
    if (!(o->epsilon > 0 && o->epsilon < 1))
        return facs_fail(FACS_E_ARG, "epsilon is %g, want a number in (0, 1)", o->epsilon);
    return FACS_OK;
}

static int build_head(facs_builder *b, int x, const facs_network_options *o)
{
    facs_builder_scope(b, "head.");
    b->epsilon = (facs_real)1e-5;
    x = facs_build_batchnorm(b, "normalization", x);
    x = facs_build_activation(b, "activation", x, (facs_clamp){0, INFINITY});
    x = facs_build_dropout(b, "dropout", x, (facs_real)o->dropout);
    return facs_build_conv(b, "classifier", x, o->labels, 1, 1, 1, 1);
}

static facs_status build(facs_network *net, const facs_backbone *backbone, uint64_t seed)
{
    const facs_network_options *o = &net->options;
    facs_builder b = facs_builder_begin(&net->graph);

    b.padding = o->padding;
    b.epsilon = (facs_real)o->epsilon;
    facs_builder_block(&b, "input");
    net->input = facs_build_input(&b, "image", o->input_size, o->input_size, 3);
    const int map = backbone->features(&b, net->input, o);
    facs_builder_scope(&b, "%s", "");
    net->features = facs_build_globalpool(&b, "features", map);
    facs_builder_block(&b, "head");
    net->logits = o->head == FACS_HEAD_CLASSIFIER
                      ? backbone->classifier(&b, map, net->features, o)
                      : build_head(&b, net->features, o);
    FACS_TRY(b.status);
    facs_graph_part_parameters(&net->graph);
    FACS_TRY(facs_allocate_slab(&net->parameters,
                                (size_t)net->graph.parameter_numbers * sizeof(facs_real),
                                "parameters"));
    facs_network_initialise(net, seed, 0);
    return FACS_OK;
}

facs_status facs_network_create(facs_network **out, const char *name,
                                const facs_network_options *options, uint64_t seed)
{
    const facs_backbone *backbone;
    facs_network *net;

    *out = NULL;
    FACS_TRY(find_backbone(name, &backbone));
    FACS_TRY(check_options(options));
    FACS_TRY(facs_allocate(&net, 1, sizeof *net, "network"));
    net->options = *options;
    const facs_status status = build(net, backbone, seed);
    if (status != FACS_OK) {
        facs_network_free(net);
        return status;
    }
    *out = net;
    return FACS_OK;
}

void facs_network_free(facs_network *net)
{
    if (!net) return;
    facs_graph_free(&net->graph);
    facs_free(net->parameters);
    facs_free(net);
}

static void initialise_weight(facs_real *w, const facs_parameter *p, const facs_node *node,
                              facs_rng *rng)
{
    const int inputs = p->dims[0] * p->dims[1] * p->dims[2];
    const int outputs = p->dims[0] * p->dims[1] * p->dims[3] / node->u.conv.geometry.groups;
    const double deviation = sqrt(2.0 / outputs), bound = 1 / sqrt((double)inputs);
    const int connected = node->shape.h == 1 && node->shape.w == 1 && node->u.conv.bias;
    for (int64_t i = 0; i < p->count; i++)
        w[i] = (facs_real)(connected ? facs_rng_between(rng, -bound, bound)
                                     : deviation * facs_rng_normal(rng));
}

void facs_network_initialise(facs_network *net, uint64_t seed, int first_block)
{
    for (int i = 0; i < net->graph.parameter_count; i++) {
        const facs_parameter *p = &net->graph.parameters[i];
        facs_real *values = net->parameters + p->offset;
        facs_rng rng = facs_rng_stream(seed, FACS_RNG_INITIALISE, 0, (uint32_t)i);
        const int one = p->kind == FACS_PARAMETER_GAMMA || p->kind == FACS_PARAMETER_VARIANCE;
        if (p->block < first_block) continue;
        if (p->kind == FACS_PARAMETER_WEIGHT)
            initialise_weight(values, p, &net->graph.nodes[p->node], &rng);
        else
            for (int64_t j = 0; j < p->count; j++) values[j] = (facs_real)one;
    }
}
