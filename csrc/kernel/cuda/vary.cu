#include "kernel/cuda/cuda.h"

#include "kernel/cuda/runtime.h"

/* image/resize.c and image/augment.c pixel by pixel. Weights and places are worked out in
 * double, rounded after every operation as there, and pixels in integers. */

enum { WEIGHT_BITS = 22, HALF = 1 << (WEIGHT_BITS - 1), BLEND = 10, FRACTION = 32 };
enum { VARY_THREADS = 256, LEVEL_THREADS = 512 };

/* The pixels of an image that one of the result is made of along an axis. */
struct span {
    int first, count;
};

/* Cut from scratch; of an image first its columns, then its rows. */
struct vary_tables {
    span *spans;      /* [n][2][size] */
    int32_t *weights; /* [n][2][size][taps] */
    uint8_t *resized; /* [n][size][size][3] */
    uint8_t *levels;  /* [n][256] */
    int size, taps;

    __device__ int64_t at(int64_t image, int axis, int i) const
    {
        return (image * 2 + axis) * size + i;
    }
};

static size_t cut(vary_tables *t, const facs_variants *all, uint8_t *scratch)
{
    const size_t lines = (size_t)all->n * 2 * (size_t)all->size;
    const size_t weights = lines * sizeof(span);
    const size_t resized = weights + lines * (size_t)all->taps * sizeof(int32_t);
    const size_t levels = resized + (size_t)all->n * (size_t)all->size * (size_t)all->size * 3;
    *t = {(span *)scratch,   (int32_t *)(scratch + weights),
          scratch + resized, scratch + levels,
          all->size,         all->taps};
    return levels + (size_t)all->n * 256;
}

static size_t vary_scratch(const facs_variants *all)
{
    vary_tables tables;
    return cut(&tables, all, NULL);
}

__device__ static double triangle(int pixel, double centre, double inverse)
{
    const double x = fabs(__dmul_rn(pixel - centre + 0.5, inverse));
    return x < 1 ? 1 - x : 0;
}

/* fill_axis of image/resize.c; y: axis (0: columns). */
__global__ static void __launch_bounds__(VARY_THREADS)
    find_weights(const vary_tables t, const facs_variant *variants)
{
    const int i = (int)(blockIdx.x * blockDim.x + threadIdx.x), axis = (int)blockIdx.y;
    if (i >= t.size) return;
    const facs_variant &v = variants[blockIdx.z];
    const int in = axis ? v.height : v.width;
    const double from = __dmul_rn(axis ? v.y : v.x, in);
    double length = __dmul_rn(axis ? v.box_height : v.box_width, in);
    if (from + length > in) length = in - from;
    const double scale = length / t.size, support = scale > 1 ? scale : 1;
    const double inverse = 1 / support, centre = from + __dmul_rn(i + 0.5, scale);
    int first = (int)(centre - support + 0.5), last = (int)(centre + support + 0.5);
    int32_t *weights = t.weights + t.at(blockIdx.z, axis, i) * t.taps;
    double sum = 0;

    first = first < 0 ? 0 : first;
    last = last > in ? in : last;
    for (int j = first; j < last; j++) sum += triangle(j, centre, inverse);
    for (int j = first; j < last; j++)
        weights[j - first] =
            (int32_t)(0.5 + __dmul_rn(triangle(j, centre, inverse) / sum, 1 << WEIGHT_BITS));
    t.spans[t.at(blockIdx.z, axis, i)] = {first, last - first};
}

__device__ static int to_pixel(int32_t sum)
{
    const int v = sum >> WEIGHT_BITS;
    return v > 255 ? 255 : v;
}

/* Columns before rows, each rounded to 8 bits: of the image's rows that a pixel is made of,
 * every one is narrowed where it is wanted. */
__global__ static void __launch_bounds__(VARY_THREADS)
    resize(const vary_tables t, const facs_variant *variants)
{
    const int place = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (place >= t.size * t.size) return;
    const facs_variant &v = variants[blockIdx.y];
    const int64_t column = t.at(blockIdx.y, 0, place % t.size);
    const int64_t row = t.at(blockIdx.y, 1, place / t.size);
    const span across = t.spans[column], down = t.spans[row];
    const int32_t *const across_weights = t.weights + column * t.taps;
    const int32_t *const down_weights = t.weights + row * t.taps;
    int32_t sums[3] = {HALF, HALF, HALF};

    for (int y = 0; y < down.count; y++) {
        const uint8_t *p = v.pixels + ((int64_t)(down.first + y) * v.width + across.first) * 3;
        int32_t narrow[3] = {HALF, HALF, HALF};
        for (int x = 0; x < across.count; x++, p += 3)
            for (int k = 0; k < 3; k++) narrow[k] += p[k] * across_weights[x];
        for (int k = 0; k < 3; k++) sums[k] += to_pixel(narrow[k]) * down_weights[y];
    }
    uint8_t *out = t.resized + ((int64_t)blockIdx.y * t.size * t.size + place) * 3;
    for (int k = 0; k < 3; k++) out[k] = (uint8_t)to_pixel(sums[k]);
}

__device__ static int64_t to_fixed(double x)
{
    return __double2ll_rn(__dmul_rn(x, 0x1p32));
}

/* A coordinate's pixel, its neighbour and the neighbour's share of 2^BLEND. */
struct blend {
    int low, high, share;

    __device__ blend(int64_t at, int size)
    {
        const int64_t last = (int64_t)(size - 1) << FRACTION;
        at = at < 0 ? 0 : at > last ? last : at;
        low = (int)(at >> FRACTION);
        high = low + (low < size - 1);
        share = (int)(at >> (FRACTION - BLEND) & ((1 << BLEND) - 1));
    }
};

/* rotate of image/augment.c, and mirror. */
__global__ static void __launch_bounds__(VARY_THREADS)
    turn(uint8_t *out, const vary_tables t, const facs_variant *variants)
{
    const int place = (int)(blockIdx.x * blockDim.x + threadIdx.x), size = t.size;
    if (place >= size * size) return;
    const facs_variant &v = variants[blockIdx.y];
    const int64_t image = (int64_t)blockIdx.y * size * size;
    const uint8_t *in = t.resized + image * 3;
    const int row = place / size;
    const int column = v.flip ? size - 1 - place % size : place % size;
    out += (image + place) * 3;
    if (v.angle == 0) {
        for (int k = 0; k < 3; k++) out[k] = in[((int64_t)row * size + column) * 3 + k];
        return;
    }
    const double centre = (size - 1) / 2.0, down = row - centre;
    const double left = __dmul_rn(v.cosine, centre), top = __dmul_rn(v.sine, centre);
    const blend x(
        to_fixed(centre - left - __dmul_rn(v.sine, down)) + column * to_fixed(v.cosine), size);
    const blend y(
        to_fixed(centre - top + __dmul_rn(v.cosine, down)) + column * to_fixed(v.sine), size);
    const uint8_t *above = in + (int64_t)y.low * size * 3,
                  *below = in + (int64_t)y.high * size * 3;
    for (int k = 0; k < 3; k++) {
        const int a = above[x.low * 3 + k], b = above[x.high * 3 + k];
        const int c = below[x.low * 3 + k], d = below[x.high * 3 + k];
        const int upper = (a << BLEND) + (b - a) * x.share;
        const int lower = (c << BLEND) + (d - c) * x.share;
        const int sum = upper * ((1 << BLEND) - y.share) + lower * y.share;
        out[k] = (uint8_t)((sum + (1 << (2 * BLEND - 1))) >> (2 * BLEND));
    }
}

__device__ static uint8_t to_level(double x)
{
    return (uint8_t)(x <= 0 ? 0 : x >= 255 ? 255 : x + 0.5);
}

/* What becomes of every level: brightness, then contrast about the mean grey that the image
 * then has. A block an image. */
__global__ static void __launch_bounds__(LEVEL_THREADS)
    find_levels(const uint8_t *images, const vary_tables t, const facs_variant *variants)
{
    __shared__ uint8_t bright[256];
    const facs_variant &v = variants[blockIdx.x];
    const int64_t pixels = (int64_t)t.size * t.size;
    const uint8_t *image = images + blockIdx.x * pixels * 3;
    const int level = (int)threadIdx.x;
    unsigned long long sums[3] = {0, 0, 0};
    double mean = 0;

    if (level < 256) bright[level] = to_level(__dmul_rn(v.brightness, level));
    __syncthreads();
    if (v.contrast != 1) {
        for (int64_t i = threadIdx.x; i < pixels; i += LEVEL_THREADS)
            for (int k = 0; k < 3; k++) sums[k] += bright[image[i * 3 + k]];
        for (int k = 0; k < 3; k++) sums[k] = block_sum<LEVEL_THREADS>(sums[k]);
        mean = (__dmul_rn(0.299, (double)sums[0]) + __dmul_rn(0.587, (double)sums[1]) +
                __dmul_rn(0.114, (double)sums[2])) /
               (double)pixels;
    }
    if (level >= 256) return;
    t.levels[blockIdx.x * 256 + level] =
        v.contrast == 1 ? bright[level]
                        : to_level(mean + __dmul_rn(v.contrast, bright[level] - mean));
}

__global__ static void __launch_bounds__(VARY_THREADS)
    shade(uint8_t *images, const vary_tables t)
{
    __shared__ uint8_t levels[256];
    const int place = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    static_assert(VARY_THREADS == 256, "a level a thread");
    levels[threadIdx.x] = t.levels[blockIdx.y * 256 + threadIdx.x];
    __syncthreads();
    if (place >= t.size * t.size) return;
    uint8_t *p = images + ((int64_t)blockIdx.y * t.size * t.size + place) * 3;
    for (int k = 0; k < 3; k++) p[k] = levels[p[k]];
}

static void vary(uint8_t *out, const facs_variant *variants, const facs_variants *all,
                 void *scratch)
{
    const unsigned n = (unsigned)all->n;
    const dim3 pixels(facs_cuda_blocks((int64_t)all->size * all->size, VARY_THREADS), n);
    vary_tables t;

    (void)cut(&t, all, (uint8_t *)scratch);
    FACS_LAUNCH(find_weights, dim3(facs_cuda_blocks(all->size, VARY_THREADS), 2, n),
                VARY_THREADS, 0, t, variants);
    FACS_LAUNCH(resize, pixels, VARY_THREADS, 0, t, variants);
    FACS_LAUNCH(turn, pixels, VARY_THREADS, 0, out, t, variants);
    if (!all->shaded) return;
    FACS_LAUNCH(find_levels, n, LEVEL_THREADS, 0, out, t, variants);
    FACS_LAUNCH(shade, pixels, VARY_THREADS, 0, out, t);
}

const facs_varying facs_cuda_varying = {vary_scratch, vary};
