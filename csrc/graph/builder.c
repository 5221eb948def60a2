#include "core/memory.h"
#include "graph/graph.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

facs_builder facs_builder_begin(facs_graph *graph)
{
    return (facs_builder){
        .graph = graph, .epsilon = (facs_real)1e-5, .momentum = (facs_real)0.1};
}

/* Makes room for one more item of an array that doubles. */
static facs_status grow(void *array, int count, int *capacity, size_t size)
{
    void *old, *larger;
    if (count < *capacity) return FACS_OK;
    const int wanted = *capacity ? 2 * *capacity : 64;
    FACS_TRY(facs_allocate(&larger, (size_t)wanted, size, "graph"));
    memcpy(&old, array, sizeof old);
    if (count) memcpy(larger, old, (size_t)count * size);
    facs_free(old);
    memcpy(array, &larger, sizeof larger);
    *capacity = wanted;
    return FACS_OK;
}

void facs_builder_block(facs_builder *b, const char *name)
{
    facs_graph *g = b->graph;
    if (b->status != FACS_OK) return;
    b->status = grow(&g->blocks, g->block_count, &g->block_capacity, sizeof *g->blocks);
    if (b->status == FACS_OK)
        snprintf(g->blocks[g->block_count++], sizeof *g->blocks, "%s", name);
}

void facs_builder_scope(facs_builder *b, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(b->scope, sizeof b->scope, format, arguments);
    va_end(arguments);
}

static facs_status add_parameter(facs_graph *g, int index, const facs_parameter_spec *spec)
{
    facs_node *node = &g->nodes[index];
    FACS_TRY(grow(&g->parameters, g->parameter_count, &g->parameter_capacity,
                  sizeof *g->parameters));
    facs_parameter *p = &g->parameters[g->parameter_count];
    *p = (facs_parameter){.kind = spec->kind,
                          .ndim = spec->ndim,
                          .count = 1,
                          .offset = g->parameter_numbers,
                          .node = index,
                          .block = node->block};
    snprintf(p->name, sizeof p->name, "%s.%s", node->name, spec->suffix);
    for (int i = 0; i < spec->ndim; i++) {
        p->dims[i] = spec->dims[i];
        p->count *= spec->dims[i];
    }
    g->parameter_numbers += p->count;
    node->parameter[spec->slot] = g->parameter_count++;
    return FACS_OK;
}

static facs_status add_node(facs_graph *g, facs_node *node)
{
    const facs_op_row *row = facs_op_get(node->op);
    facs_shape x[FACS_MAX_INPUTS] = {{0}};
    facs_parameter_spec specs[FACS_MAX_PARAMETERS];

    if (facs_graph_find_node(g, node->name) >= 0)
        return facs_fail(FACS_E_ARG, "graph: two nodes are named %s", node->name);
    for (int i = 0; i < row->inputs; i++) {
        if (node->input[i] < 0 || node->input[i] >= g->count)
            return facs_fail(FACS_E_INTERNAL, "node %s reads node %d of %d", node->name,
                             node->input[i], g->count);
        x[i] = g->nodes[node->input[i]].shape;
    }
    FACS_TRY(row->op->infer(node, x));
    FACS_TRY(grow(&g->nodes, g->count, &g->capacity, sizeof *g->nodes));
    g->nodes[g->count] = *node;
    const int count = row->op->parameters ? row->op->parameters(node, x, specs) : 0;
    for (int i = 0; i < count; i++) FACS_TRY(add_parameter(g, g->count, &specs[i]));
    g->count++;
    return FACS_OK;
}

static facs_node new_node(const facs_builder *b, facs_op_kind op, const char *name, int x0,
                          int x1, int x2)
{
    facs_node node = {.op = op,
                      .input = {x0, x1, x2},
                      .clamp = facs_clamp_none(),
                      .epsilon = b->epsilon,
                      .momentum = b->momentum,
                      .block = b->graph->block_count - 1};
    for (int i = 0; i < FACS_MAX_PARAMETERS; i++) node.parameter[i] = -1;
    /* Both parts are short literals of a network table. */
    const int written = snprintf(node.name, sizeof node.name, "%s%s", b->scope, name);
    if (written >= (int)sizeof node.name) node.name[sizeof node.name - 1] = 0;
    return node;
}

static int emit(facs_builder *b, facs_node *node)
{
    if (b->status == FACS_OK) b->status = add_node(b->graph, node);
    return b->status == FACS_OK ? b->graph->count - 1 : -1;
}

int facs_build_input(facs_builder *b, const char *name, int h, int w, int c)
{
    facs_node node = new_node(b, FACS_OP_INPUT, name, -1, -1, -1);
    node.shape = (facs_shape){h, w, c};
    return emit(b, &node);
}

int facs_build_conv(facs_builder *b, const char *name, int x, int out, int kernel, int stride,
                    int groups, int bias)
{
    facs_node node = new_node(b, FACS_OP_CONV, name, x, -1, -1);
    node.u.conv.geometry =
        (facs_conv){.co = out, .kh = kernel, .kw = kernel, .stride = stride, .groups = groups};
    node.u.conv.padding = b->padding;
    node.u.conv.bias = bias;
    return emit(b, &node);
}

int facs_build_batchnorm(facs_builder *b, const char *name, int x)
{
    facs_node node = new_node(b, FACS_OP_BATCHNORM, name, x, -1, -1);
    return emit(b, &node);
}

int facs_build_activation(facs_builder *b, const char *name, int x, facs_clamp clamp)
{
    facs_node node = new_node(b, FACS_OP_ACTIVATION, name, x, -1, -1);
    node.clamp = clamp;
    return emit(b, &node);
}

int facs_build_add(facs_builder *b, const char *name, int x0, int x1)
{
    facs_node node = new_node(b, FACS_OP_ADD, name, x0, x1, -1);
    return emit(b, &node);
}

int facs_build_concat(facs_builder *b, const char *name, int x0, int x1)
{
    facs_node node = new_node(b, FACS_OP_CONCAT, name, x0, x1, -1);
    return emit(b, &node);
}

int facs_build_pool(facs_builder *b, const char *name, int x, facs_op_kind kind, int kernel,
                    int stride, int pad)
{
    facs_node node = new_node(b, kind, name, x, -1, -1);
    node.u.pool = (facs_pool){
        .kh = kernel, .kw = kernel, .stride = stride, .pad_top = pad, .pad_left = pad};
    return emit(b, &node);
}

int facs_build_globalpool(facs_builder *b, const char *name, int x)
{
    facs_node node = new_node(b, FACS_OP_GLOBALPOOL, name, x, -1, -1);
    return emit(b, &node);
}

int facs_build_dropout(facs_builder *b, const char *name, int x, facs_real rate)
{
    facs_node node = new_node(b, FACS_OP_DROPOUT, name, x, -1, -1);
    node.u.dropout.rate = rate;
    return emit(b, &node);
}

int facs_build_loss(facs_builder *b, const char *name, int logits, int target, int mask,
                    facs_loss_kind kind, const facs_loss_options *options)
{
    facs_node node = new_node(b, FACS_OP_LOSS, name, logits, target, mask);
    node.u.loss.kind = kind;
    node.u.loss.options = *options;
    return emit(b, &node);
}

int facs_builder_channels(const facs_builder *b, int node)
{
    return b->status == FACS_OK ? b->graph->nodes[node].shape.c : 0;
}
