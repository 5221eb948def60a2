#ifndef FACS_NETS_NETWORK_H
#define FACS_NETS_NETWORK_H

#include "graph/graph.h"

/* A backbone, its head and their parameters. Backbones are tables in files of their own,
 * listed in network.c. */

typedef enum facs_head {
    FACS_HEAD_ACTION_UNITS, /* BatchNorm, ReLU, dropout, fully connected: the paper's */
    FACS_HEAD_CLASSIFIER,   /* that of the ImageNet checkpoints */
    FACS_HEAD_COUNT
} facs_head;

typedef struct facs_network_options {
    int input_size; /* pixels on a side */
    int labels;
    double width; /* multiplies every channel count */
    facs_padding padding;
    facs_clamp activation;
    double epsilon; /* of the backbone's BatchNorm */
    double dropout;
    facs_head head;
} facs_network_options;

typedef struct facs_network {
    facs_network_options options;
    facs_graph graph;
    int input, features, logits; /* nodes */
    facs_real *parameters;       /* graph.parameter_numbers, owned */
} facs_network;

/* name: see facs_network_names. Parameters start at facs_network_initialise(seed). */
facs_status facs_network_create(facs_network **network, const char *name,
                                const facs_network_options *options,
                                uint64_t seed) FACS_MUST_USE;
void facs_network_free(facs_network *network);

/* He's initialisation for convolutions (fan out), uniform +-1/sqrt(fan in) for the fully
 * connected layer, identity for BatchNorm. Only parameters of blocks from first_block. */
void facs_network_initialise(facs_network *network, uint64_t seed, int first_block);

/* Name of network i, NULL past the last. */
const char *facs_network_names(int i);

/* The ends of a network. `features` appends its layers after x and returns the last map;
 * `classifier` gives the logits of its ImageNet checkpoints from that map, or from the same
 * after global average pooling. */
typedef struct facs_backbone {
    const char *name;
    int (*features)(facs_builder *b, int x, const facs_network_options *options);
    int (*classifier)(facs_builder *b, int map, int pooled,
                      const facs_network_options *options);
} facs_backbone;

/* One table of rows for each file of this folder, closed by a row without a name. */
extern const facs_backbone facs_backbones_mobilenet_v1[], facs_backbones_mobilenet_v2[],
    facs_backbones_densenet[], facs_backbones_vgg[];

#endif
