#include "nets/network.h"

#include <math.h>
#include <stdio.h>

/* DenseNet, Huang et al., CVPR 2017, table 1: layers of the four dense blocks, growth 32,
 * bottleneck 128. Parameter names are torchvision's. A block's concatenations share one
 * buffer: each layer writes the channels it adds. */
enum { BLOCKS = 4, GROWTH = 32, BOTTLENECK = 4, STEM = 64 };

static int scaled(int channels, double width)
{
    const int rounded = (int)lround(channels * width);
    return rounded < 1 ? 1 : rounded;
}

/* BatchNorm, activation and convolution: the order of layers in all but the stem. */
static int unit(facs_builder *b, int x, const char *suffix, int out, int kernel,
                facs_clamp activation)
{
    char name[32];
    snprintf(name, sizeof name, "norm%s", suffix);
    x = facs_build_batchnorm(b, name, x);
    snprintf(name, sizeof name, "relu%s", suffix);
    x = facs_build_activation(b, name, x, activation);
    snprintf(name, sizeof name, "conv%s", suffix);
    return facs_build_conv(b, name, x, out, kernel, 1, 1, 0);
}

static int stem(facs_builder *b, int x, const facs_network_options *o)
{
    facs_builder_block(b, "stem");
    facs_builder_scope(b, "features.");
    x = facs_build_conv(b, "conv0", x, scaled(STEM, o->width), 7, 2, 1, 0);
    x = facs_build_batchnorm(b, "norm0", x);
    x = facs_build_activation(b, "relu0", x, o->activation);
    return facs_build_pool(b, "pool0", x, FACS_OP_MAXPOOL, 3, 2, 1);
}

static int dense_block(facs_builder *b, int x, int block, int layers,
                       const facs_network_options *o)
{
    const int growth = scaled(GROWTH, o->width);
    char name[32];

    snprintf(name, sizeof name, "denseblock%d", block);
    facs_builder_block(b, name);
    for (int layer = 1; layer <= layers; layer++) {
        facs_builder_scope(b, "features.denseblock%d.denselayer%d.", block, layer);
        int y = unit(b, x, "1", BOTTLENECK * growth, 1, o->activation);
        y = unit(b, y, "2", growth, 3, o->activation);
        x = facs_build_concat(b, "concat", x, y);
    }
    return x;
}

static int transition(facs_builder *b, int x, int block, const facs_network_options *o)
{
    char name[32];
    snprintf(name, sizeof name, "transition%d", block);
    facs_builder_block(b, name);
    facs_builder_scope(b, "features.transition%d.", block);
    x = unit(b, x, "", facs_builder_channels(b, x) / 2, 1, o->activation);
    return facs_build_pool(b, "pool", x, FACS_OP_AVGPOOL, 2, 2, 0);
}

static int features(facs_builder *b, int x, const facs_network_options *o,
                    const int layers[BLOCKS])
{
    x = stem(b, x, o);
    for (int block = 1; block <= BLOCKS; block++) {
        x = dense_block(b, x, block, layers[block - 1], o);
        if (block < BLOCKS) x = transition(b, x, block, o);
    }
    facs_builder_block(b, "norm5");
    facs_builder_scope(b, "features.");
    x = facs_build_batchnorm(b, "norm5", x);
    return facs_build_activation(b, "relu5", x, o->activation);
}

static int features_121(facs_builder *b, int x, const facs_network_options *o)
{
    return features(b, x, o, (const int[]){6, 12, 24, 16});
}

static int features_169(facs_builder *b, int x, const facs_network_options *o)
{
    return features(b, x, o, (const int[]){6, 12, 32, 32});
}

static int features_201(facs_builder *b, int x, const facs_network_options *o)
{
    return features(b, x, o, (const int[]){6, 12, 48, 32});
}

static int classifier(facs_builder *b, int map, int pooled, const facs_network_options *o)
{
    (void)map;
    return facs_build_conv(b, "classifier", pooled, o->labels, 1, 1, 1, 1);
}

const facs_backbone facs_backbones_densenet[] = {
    {"densenet121", features_121, classifier},
    {"densenet169", features_169, classifier},
    {"densenet201", features_201, classifier},
    {0},
};
