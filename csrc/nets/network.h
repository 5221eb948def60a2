#ifndef FACS_NETS_NETWORK_H
#define FACS_NETS_NETWORK_H

#include "graph/graph.h"

/* A backbone, its head and their parameters. Backbones are tables in files of their own,
 * listed in network.c. */

typedef enum facs_head {
    FACS_HEAD_ACTION_UNITS, /* BatchNorm, ReLU, dropout, fully connected: the paper's */
    FACS_HEAD_CLASSIFIER,   /* fully connected, as in the ImageNet checkpoints */
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

/* Parameters that train, without running statistics; multiply-accumulates per image. */
int64_t facs_network_trainable(const facs_network *network);
int64_t facs_network_macs(const facs_network *network);

/* Name of network i, NULL past the last. */
const char *facs_network_names(int i);

/* A backbone appends its nodes after x and returns its last map. */
typedef int facs_backbone(facs_builder *b, int x, const facs_network_options *options);
facs_backbone facs_mobilenet_v1;

#endif
