#ifndef FACS_GRAPH_GRAPH_H
#define FACS_GRAPH_GRAPH_H

#include "ops/op.h"

/* A network as data: nodes in execution order, each reading only earlier ones, and the
 * parameters they name. Shapes are complete once a node is added. */

typedef struct facs_parameter {
    char name[FACS_NAME_SIZE + 16];
    facs_parameter_kind kind;
    int ndim, dims[4];
    int64_t count, offset; /* numbers, in the parameter slab */
    int node, block;
} facs_parameter;

typedef struct facs_graph {
    facs_node *nodes;
    int count, capacity;
    facs_parameter *parameters;
    int parameter_count, parameter_capacity;
    int64_t parameter_numbers; /* length of the slab */
    char (*blocks)[FACS_NAME_SIZE];
    int block_count, block_capacity;
} facs_graph;

void facs_graph_free(facs_graph *graph); /* its arrays; the struct is the caller's */

/* Index of a node, block or parameter by name; -1 when there is none. */
int facs_graph_find_node(const facs_graph *graph, const char *name);
int facs_graph_find_block(const facs_graph *graph, const char *name);

/* First node of a block; graph->count past the last one. */
int facs_graph_block_start(const facs_graph *graph, int block);

/* The one value of earlier blocks that nodes of `block` and later ones read. FACS_E_UNSUPPORTED
 * names two where there are more; FACS_E_ARG where there is none, so that nothing lies below.
 */
facs_status facs_graph_boundary(const facs_graph *graph, int block, int *node) FACS_MUST_USE;

int facs_parameter_is_trained(const facs_parameter *parameter); /* not running statistics */

/* Moves the running statistics behind all that is trained, where one copy takes them all; to be
 * called when the graph is complete and before its slab is filled. */
void facs_graph_part_parameters(facs_graph *graph);

/* Copies the node array; parameters and blocks are shared with the source (borrowed), so
 * free the copy with facs_free(copy.nodes). */
facs_status facs_graph_borrow(facs_graph *copy, const facs_graph *graph) FACS_MUST_USE;

/* Builds a graph node by node. The first failure sticks in `status` and turns the rest
 * into no-ops, so that a network reads as a table; functions return the new node's index.
 * Nodes are named scope + name. */
typedef struct facs_builder {
    facs_graph *graph;
    facs_status status;
    char scope[FACS_NAME_SIZE];
    facs_padding padding;
    facs_real epsilon, momentum; /* of every BatchNorm added from here */
} facs_builder;

facs_builder facs_builder_begin(facs_graph *graph); /* graph must be zeroed or unfinished */
void facs_builder_block(facs_builder *b, const char *name); /* following nodes belong to it */
void facs_builder_scope(facs_builder *b, const char *format, ...) FACS_PRINTF(2, 3);

int facs_build_input(facs_builder *b, const char *name, int h, int w, int c);
int facs_build_conv(facs_builder *b, const char *name, int x, int out, int kernel, int stride,
                    int groups, int bias);
int facs_build_batchnorm(facs_builder *b, const char *name, int x);
int facs_build_activation(facs_builder *b, const char *name, int x, facs_clamp clamp);
int facs_build_add(facs_builder *b, const char *name, int x0, int x1);
int facs_build_concat(facs_builder *b, const char *name, int x0, int x1);
int facs_build_pool(facs_builder *b, const char *name, int x, facs_op_kind kind, int kernel,
                    int stride, int pad);
int facs_build_globalpool(facs_builder *b, const char *name, int x);
int facs_build_dropout(facs_builder *b, const char *name, int x, facs_real rate);
int facs_build_loss(facs_builder *b, const char *name, int logits, int target, int mask,
                    facs_loss_kind kind, const facs_loss_options *options);

/* Channels of a node's output; 0 once the builder has failed. */
int facs_builder_channels(const facs_builder *b, int node);

#endif
