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

int facs_parameter_is_trained(const facs_parameter *parameter)
{
    return parameter->kind != FACS_PARAMETER_MEAN && parameter->kind != FACS_PARAMETER_VARIANCE;
}

facs_status facs_graph_borrow(facs_graph *copy, const facs_graph *graph)
{
    *copy = *graph;
    FACS_TRY(facs_allocate(&copy->nodes, (size_t)graph->count, sizeof *copy->nodes, "graph"));
    memcpy(copy->nodes, graph->nodes, (size_t)graph->count * sizeof *copy->nodes);
    copy->capacity = graph->count;
    return FACS_OK;
}
