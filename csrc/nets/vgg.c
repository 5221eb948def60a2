#include "nets/network.h"

#include <math.h>
#include <stdio.h>

/* VGG-19, Simonyan and Zisserman, ICLR 2015, table 1 column E: channels and convolutions of
 * the five blocks, each closed by a maximum over 2 x 2. Parameter names are torchvision's:
 * positions in a list of convolutions, (BatchNorms,) activations and pools. */
static const struct {
    int channels, convolutions;
} rows[] = {{64, 2}, {128, 2}, {256, 4}, {512, 4}, {512, 4}};

enum { HIDDEN = 4096 };

static int scaled(int channels, double width)
{
    const int rounded = (int)lround(channels * width);
    return rounded < 1 ? 1 : rounded;
}

enum { DIGITS = 16 };

static const char *number(char text[DIGITS], int i)
{
    snprintf(text, DIGITS, "%d", i);
    return text;
}

static int features(facs_builder *b, int x, const facs_network_options *o, int normalised)
{
    char text[DIGITS], block[32];
    int index = 0;

    facs_builder_scope(b, "features.");
    for (size_t row = 0; row < sizeof rows / sizeof *rows; row++) {
        snprintf(block, sizeof block, "block%zu", row + 1);
        facs_builder_block(b, block);
        for (int i = 0; i < rows[row].convolutions; i++) {
            const int out = scaled(rows[row].channels, o->width);
            x = facs_build_conv(b, number(text, index++), x, out, 3, 1, 1, 1);
            if (normalised) x = facs_build_batchnorm(b, number(text, index++), x);
            x = facs_build_activation(b, number(text, index++), x, o->activation);
        }
        x = facs_build_pool(b, number(text, index++), x, FACS_OP_MAXPOOL, 2, 2, 0);
    }
    return x;
}

static int features_plain(facs_builder *b, int x, const facs_network_options *o)
{
    return features(b, x, o, 0);
}

static int features_normalised(facs_builder *b, int x, const facs_network_options *o)
{
    return features(b, x, o, 1);
}

/* Two hidden layers over the whole map; the first is a convolution as large as the map. */
static int classifier(facs_builder *b, int map, int pooled, const facs_network_options *o)
{
    const int hidden = scaled(HIDDEN, o->width);
    const int side = b->status == FACS_OK ? b->graph->nodes[map].shape.h : 1;

    (void)pooled;
    facs_builder_scope(b, "classifier.");
    b->padding = FACS_PADDING_NONE;
    int x = facs_build_conv(b, "0", map, hidden, side, 1, 1, 1);
    x = facs_build_activation(b, "1", x, o->activation);
    x = facs_build_dropout(b, "2", x, (facs_real)o->dropout);
    x = facs_build_conv(b, "3", x, hidden, 1, 1, 1, 1);
    x = facs_build_activation(b, "4", x, o->activation);
    x = facs_build_dropout(b, "5", x, (facs_real)o->dropout);
    return facs_build_conv(b, "6", x, o->labels, 1, 1, 1, 1);
}

const facs_backbone facs_backbones_vgg[] = {
    {"vgg19", features_plain, classifier},
    {"vgg19_bn", features_normalised, classifier},
    {0},
};
