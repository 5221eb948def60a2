#include "graph/graph.h"

#include "core/memory.h"

#include <string.h>

void facs_graph_free(facs_graph *graph)
{
    facs_free(graph->nodes);
    facs_free(graph->parameters);
    facs_free(graph->blocks);
    memset(graph, 0, sizeof *graph);
}

int facs_graph_find_node(const facs_graph *graph, const char *name)
{
    for (int i = 0; i < graph->count; i++)
        if (strcmp(graph->nodes[i].name, name) == 0) return i;
    return -1;
}

int facs_graph_find_block(const facs_graph *graph, const char *name)
{
    for (int i = 0; i < graph->block_count; i++)
        if (strcmp(graph->blocks[i], name) == 0) return i;
    return -1;
}

int facs_graph_block_start(const facs_graph *graph, int block)
{
    int i = 0;
    while (i < graph->count && graph->nodes[i].block < block) i++;
    return i;
}

facs_status facs_graph_boundary(const facs_graph *graph, int block, int *node)
{
    const int start = facs_graph_block_start(graph, block);

    *node = -1;
    for (int i = start; i < graph->count; i++)
        for (int j = 0; j < facs_op_get(graph->nodes[i].op)->inputs; j++) {
            const int x = graph->nodes[i].input[j];
            if (x >= start || x == *node) continue;
            if (*node >= 0)
                return facs_fail(
                    FACS_E_UNSUPPORTED, "block %s: more than one value enters it, %s and %s",
                    graph->blocks[block], graph->nodes[*node].name, graph->nodes[x].name);
            *node = x;
        }
    if (*node >= 0) return FACS_OK;
    return facs_fail(FACS_E_ARG, "block %s: no value of an earlier block enters it",
                     graph->blocks[block]);
}

int facs_parameter_is_trained(const facs_parameter *parameter)
{
    return parameter->kind != FACS_PARAMETER_MEAN && parameter->kind != FACS_PARAMETER_VARIANCE;
}

void facs_graph_part_parameters(facs_graph *graph)
{
    int64_t offset = 0;
    for (int trained = 1; trained >= 0; trained--)
        for (int i = 0; i < graph->parameter_count; i++) {
            facs_parameter *p = &graph->parameters[i];
            if (facs_parameter_is_trained(p) != trained) continue;
            p->offset = offset;
            offset += p->count;
        }
}

facs_status facs_graph_borrow(facs_graph *copy, const facs_graph *graph)
{
    *copy = *graph;
    FACS_TRY(facs_allocate(&copy->nodes, (size_t)graph->count, sizeof *copy->nodes, "graph"));
    memcpy(copy->nodes, graph->nodes, (size_t)graph->count * sizeof *copy->nodes);
    copy->capacity = graph->count;
    return FACS_OK;
}
