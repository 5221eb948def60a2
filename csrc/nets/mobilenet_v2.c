#include "nets/network.h"

#include <stdio.h>

/* MobileNet-v2, Sandler et al., CVPR 2018, table 2: expansion, output channels, repeats and
 * stride of the first of them. Parameter names are torchvision's. */
static const struct {
    int t, c, n, s;
} rows[] = {
    {1, 16, 1, 1}, {6, 24, 2, 2},  {6, 32, 3, 2},  {6, 64, 4, 2},
    {6, 96, 3, 1}, {6, 160, 3, 2}, {6, 320, 1, 1},
};

/* The nearest multiple of 8 that is not below nine tenths of the wanted number. */
static int scaled(int channels, double width)
{
    const double wanted = channels * width;
    const int rounded = (int)(wanted + 4) / 8 * 8, least = rounded < 8 ? 8 : rounded;
    return least < 0.9 * wanted ? least + 8 : least;
}

/* Convolution, BatchNorm and activation, named as the entries 0, 1 and 2 of `scope`. */
static int unit(facs_builder *b, int x, const char *scope, int out, int kernel, int stride,
                int groups, facs_clamp activation)
{
    facs_builder_scope(b, "%s.", scope);
    x = facs_build_conv(b, "0", x, out, kernel, stride, groups, 0);
    x = facs_build_batchnorm(b, "1", x);
    return facs_build_activation(b, "2", x, activation);
}

/* Inverted residual: expand, depthwise, project without an activation, add the input where
 * the shapes allow it. */
static int inverted_residual(facs_builder *b, int x, int index, int t, int out, int stride,
                             facs_clamp activation)
{
    const int in = facs_builder_channels(b, x), wide = t * in, last = t > 1 ? 2 : 1;
    char scope[32], name[8];
    int y = x;

    for (int part = 0; part < last; part++) {
        const int depthwise = part == last - 1;
        snprintf(scope, sizeof scope, "features.%d.conv.%d", index, part);
        y = depthwise ? unit(b, y, scope, wide, 3, stride, wide ? wide : 1, activation)
                      : unit(b, y, scope, wide, 1, 1, 1, activation);
    }
    facs_builder_scope(b, "features.%d.conv.", index);
    snprintf(name, sizeof name, "%d", last);
    y = facs_build_conv(b, name, y, out, 1, 1, 1, 0);
    snprintf(name, sizeof name, "%d", last + 1);
    y = facs_build_batchnorm(b, name, y);
    return stride == 1 && in == out ? facs_build_add(b, "add", x, y) : y;
}

static int features(facs_builder *b, int x, const facs_network_options *o)
{
    char name[32];
    int index = 0;

    facs_builder_block(b, "stem");
    x = unit(b, x, "features.0", scaled(32, o->width), 3, 2, 1, o->activation);
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++)
        for (int i = 0; i < rows[row].n; i++) {
            snprintf(name, sizeof name, "block%d", ++index);
            facs_builder_block(b, name);
            x = inverted_residual(b, x, index, rows[row].t, scaled(rows[row].c, o->width),
                                  i ? 1 : rows[row].s, o->activation);
        }
    facs_builder_block(b, "last");
    snprintf(name, sizeof name, "features.%d", index + 1);
    return unit(b, x, name, scaled(1280, o->width > 1 ? o->width : 1), 1, 1, 1, o->activation);
}

static int classifier(facs_builder *b, int map, int pooled, const facs_network_options *o)
{
    (void)map;
    pooled = facs_build_dropout(b, "classifier.0", pooled, (facs_real)o->dropout);
    return facs_build_conv(b, "classifier.1", pooled, o->labels, 1, 1, 1, 1);
}

const facs_backbone facs_backbones_mobilenet_v2[] = {
    {"mobilenet_v2", features, classifier},
    {0},
};
