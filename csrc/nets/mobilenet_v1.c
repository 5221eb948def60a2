#include "nets/network.h"

#include <math.h>
#include <stdio.h>

/* MobileNet-v1, Howard et al., arXiv 1704.04861, table 1: output channels and stride of
 * each depthwise-separable pair. Parameter names are those of the transformers library. */
static const struct {
    int channels, stride;
} rows[] = {
    {64, 1},  {128, 2}, {128, 1}, {256, 2}, {256, 1},  {512, 2},  {512, 1},
    {512, 1}, {512, 1}, {512, 1}, {512, 1}, {1024, 2}, {1024, 1},
};

static int scaled(int channels, double width)
{
    const int rounded = (int)lround(channels * width);
    return rounded < 8 ? 8 : rounded;
}

/* convolution, normalization, activation under one scope */
static int unit(facs_builder *b, int x, int out, int kernel, int stride, int groups,
                facs_clamp activation)
{
    x = facs_build_conv(b, "convolution", x, out, kernel, stride, groups, 0);
    x = facs_build_batchnorm(b, "normalization", x);
    return facs_build_activation(b, "activation", x, activation);
}

static int features(facs_builder *b, int x, const facs_network_options *o)
{
    char block[16];

    facs_builder_block(b, "stem");
    facs_builder_scope(b, "mobilenet_v1.conv_stem.");
    x = unit(b, x, scaled(32, o->width), 3, 2, 1, o->activation);
    for (int i = 0; i < (int)(sizeof rows / sizeof *rows); i++) {
        const int channels = facs_builder_channels(b, x);
        snprintf(block, sizeof block, "block%d", i + 1);
        facs_builder_block(b, block);
        facs_builder_scope(b, "mobilenet_v1.layer.%d.", 2 * i);
        x = unit(b, x, channels, 3, rows[i].stride, channels ? channels : 1, o->activation);
        facs_builder_scope(b, "mobilenet_v1.layer.%d.", 2 * i + 1);
        x = unit(b, x, scaled(rows[i].channels, o->width), 1, 1, 1, o->activation);
    }
    return x;
}

static int classifier(facs_builder *b, int map, int pooled, const facs_network_options *o)
{
    (void)map;
    return facs_build_conv(b, "classifier", pooled, o->labels, 1, 1, 1, 1);
}

const facs_backbone facs_backbones_mobilenet_v1[] = {
    {"mobilenet_v1", features, classifier},
    {0},
};
