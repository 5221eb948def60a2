#include "kernel/cuda/conv.cuh"

/* Weight gradients of dense convolutions: dw = x' dy over all output pixels. A block owns a
 * tile of (tap, input channel) x (output channel) for a range of pixels; ranges are added
 * in their order. */

/* Blocks wanted in all, and pixels worth a range. */
static const int BLOCKS = 264, LEAST_PIXELS = 256;

template <class T> struct factors {
    const T *x, *dy;
    int64_t x_stride, dy_stride, pixels;
    facs_conv g;
    int x_wide, dy_wide, pointwise;
    facs_norm norm;
    correction_value correction;
};

/* What a thread's column of chunks on the left is: eight channels of one tap. */
struct chunk_of_taps {
    int ky, kx, channel, count; /* count 0: behind the last tap */
};

__device__ static chunk_of_taps chunk_at(const facs_conv &g, int chunk)
{
    const int per_tap = (g.ci + 7) / 8, tap = chunk / per_tap;
    chunk_of_taps c = {tap / g.kw, tap % g.kw, (chunk - tap * per_tap) * 8, 0};
    if (tap < g.kh * g.kw) c.count = g.ci - c.channel < 8 ? g.ci - c.channel : 8;
    return c;
}

/* The pixel of x that a tap of output pixel p reads, or -1. */
template <class T>
__device__ static int64_t tap_pixel(const factors<T> &f, const chunk_of_taps &c, int64_t p)
{
    if (p >= f.pixels) return -1;
    if (f.pointwise) return p;
    const unsigned area = (unsigned)(f.g.oh * f.g.ow);
    const unsigned n = (unsigned)(p / area), rest = (unsigned)(p - (int64_t)n * area);
    const int oy = (int)(rest / (unsigned)f.g.ow), ox = (int)(rest % (unsigned)f.g.ow);
    const int y = oy * f.g.stride - f.g.pad_top + c.ky;
    const int x = ox * f.g.stride - f.g.pad_left + c.kx;
    if (y < 0 || x < 0 || y >= f.g.h || x >= f.g.w) return -1;
    return ((int64_t)n * f.g.h + y) * f.g.w + x;
}

template <class T>
__device__ static eight<T> left_chunk(const factors<T> &f, const chunk_of_taps &c, int64_t p,
                                      const float scale[8], const float shift[8])
{
    const int64_t pixel = c.count ? tap_pixel(f, c, p) : -1;
    if (pixel < 0) return eight_zeros<T>();
    const eight<T> e = fetch_eight(f.x + pixel * f.x_stride + c.channel, c.count, f.x_wide);
    if (!f.norm.scale) return e;
    float v[8];
    unpack(v, e);
#pragma unroll
    for (int i = 0; i < 8; i++)
        v[i] = i < c.count ? clamped(scale[i] * v[i] + shift[i], f.norm.clamp) : 0;
    return packed_of<T>(v);
}

template <class T>
__device__ static eight<T> right_chunk(const factors<T> &f, int column, int64_t p)
{
    const int count = f.g.co - column < 8 ? f.g.co - column : 8;
    if (p >= f.pixels || count <= 0) return eight_zeros<T>();
    const eight<T> e = fetch_eight(f.dy + p * f.dy_stride + column, count, f.dy_wide);
    if (!f.correction.slope) return e;
    float v[8], y[8];
    unpack(v, e);
    unpack(y, fetch_eight((const T *)f.correction.y + p * f.correction.stride + column, count,
                          f.dy_wide));
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (i < count)
            v[i] += __ldg(f.correction.slope + column + i) * y[i] +
                    __ldg(f.correction.offset + column + i);
    return packed_of<T>(v);
}

template <class T, int ROWS, int COLUMNS>
__global__ static void __launch_bounds__(THREADS, 2)
    weight_gradient(float *partials, factors<T> f, int64_t range)
{
    typedef tile<T, ROWS, COLUMNS, true> M;
    static const int LEFT_CHUNKS = ROWS / 8, RIGHT_CHUNKS = COLUMNS / 8;
    static const int LEFT_MINE = DEPTH * LEFT_CHUNKS / THREADS;
    static const int RIGHT_STEP = THREADS / RIGHT_CHUNKS;
    static const int RIGHT_MINE = (DEPTH + RIGHT_STEP - 1) / RIGHT_STEP;
    __shared__ __align__(16) T factors_of_step[2][M::LEFT + M::RIGHT];
    const int left_column = (int)threadIdx.x % LEFT_CHUNKS * 8;
    const int left_depth = (int)threadIdx.x / LEFT_CHUNKS;
    const int right_column = (int)threadIdx.x % RIGHT_CHUNKS * 8;
    const int right_depth = (int)threadIdx.x / RIGHT_CHUNKS;
    const int column = blockIdx.y * COLUMNS + right_column;
    const chunk_of_taps c = chunk_at(f.g, blockIdx.x * LEFT_CHUNKS + left_column / 8);
    const int64_t begin = blockIdx.z * range;
    const int64_t end = begin + range < f.pixels ? begin + range : f.pixels;
    float scale[8], shift[8];
    eight<T> left[LEFT_MINE], right[RIGHT_MINE];
    M m;

    if (f.norm.scale)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            const int channel = i < c.count ? c.channel + i : 0;
            scale[i] = __ldg(f.norm.scale + channel);
            shift[i] = __ldg(f.norm.shift + channel);
        }
    m.clear();
    int which = 0;
    for (int64_t p = begin; p < end + DEPTH; p += DEPTH, which ^= 1) {
        T *to_left = factors_of_step[which], *to_right = to_left + M::LEFT;
        /* Step p is stored when the sums of the step before it are still to be added. */
        if (p < end) {
#pragma unroll
            for (int i = 0; i < LEFT_MINE; i++)
                left[i] = left_chunk(f, c, p + left_depth + i * (THREADS / LEFT_CHUNKS), scale,
                                     shift);
#pragma unroll
            for (int i = 0; i < RIGHT_MINE; i++)
                if (right_depth + i * RIGHT_STEP < DEPTH)
                    right[i] = right_chunk(f, column, p + right_depth + i * RIGHT_STEP);
        }
        if (p > begin) m.add(factors_of_step[which ^ 1], factors_of_step[which ^ 1] + M::LEFT);
        if (p < end) {
#pragma unroll
            for (int i = 0; i < LEFT_MINE; i++)
                *(eight<T> *)(to_left +
                              (left_depth + i * (THREADS / LEFT_CHUNKS)) * M::LEFT_STRIDE +
                              left_column) = left[i];
#pragma unroll
            for (int i = 0; i < RIGHT_MINE; i++)
                if (right_depth + i * RIGHT_STEP < DEPTH)
                    *(eight<T> *)(to_right + (right_depth + i * RIGHT_STEP) * M::RIGHT_STRIDE +
                                  right_column) = right[i];
        }
        __syncthreads();
    }
    /* The sums leave row by row through shared memory. */
    static const int STRIDE = COLUMNS + 4;
    extern __shared__ __align__(16) float sums[];
    m.spill(sums, STRIDE);
    __syncthreads();
    const int per_tap = (f.g.ci + 7) / 8 * 8;
    const int64_t size = (int64_t)f.g.kh * f.g.kw * f.g.ci * f.g.co;
    for (int i = threadIdx.x; i < ROWS * COLUMNS; i += THREADS) {
        const int row = blockIdx.x * ROWS + i / COLUMNS, o = blockIdx.y * COLUMNS + i % COLUMNS;
        const int tap = row / per_tap, channel = row % per_tap;
        if (tap < f.g.kh * f.g.kw && channel < f.g.ci && o < f.g.co)
            partials[blockIdx.z * size + ((int64_t)tap * f.g.ci + channel) * f.g.co + o] =
                sums[i / COLUMNS * STRIDE + i % COLUMNS];
    }
}

struct shape {
    int tile; /* rows and columns */
    unsigned down, across, ranges;
    int64_t range;
};

template <class T> static shape shape_of(const facs_conv *g, int64_t pixels)
{
    const int depth = g->kh * g->kw * ((g->ci + 7) / 8) * 8;
    shape s;
    s.tile = sizeof(T) == 2 && depth > 64 && g->co > 64 ? 128 : 64;
    s.down = facs_cuda_blocks(depth, s.tile);
    s.across = facs_cuda_blocks(g->co, s.tile);
    const int64_t wanted = (BLOCKS + s.down * s.across - 1) / (s.down * s.across);
    const int64_t most = (pixels + LEAST_PIXELS - 1) / LEAST_PIXELS;
    const int64_t ranges = wanted < most ? wanted : most;
    s.range = (pixels + ranges - 1) / ranges;
    s.range = (s.range + DEPTH - 1) / DEPTH * DEPTH;
    s.ranges = (unsigned)((pixels + s.range - 1) / s.range);
    return s;
}

template <class T>
size_t facs_cuda_rows<T>::conv_bwd_scratch(const facs_conv *g, int64_t n, int)
{
    const int64_t size = (int64_t)g->kh * g->kw * g->ci * g->co;
    const unsigned tiles =
        shape_of<T>(g, n * g->oh * g->ow).down * shape_of<T>(g, n * g->oh * g->ow).across;
    const int64_t ranges = (BLOCKS + tiles - 1) / tiles;
    const size_t weights = (size_t)(ranges * size) * sizeof(float);
    const size_t sums = facs_cuda_rows<T>::conv_fwd_scratch(g, n, 1) * (size_t)g->ci /
                        (size_t)g->co; /* partial sums of bwd_x are of the input channels */
    const size_t corrections = facs_cuda_rows<T>::reduce_scratch(g->co, n * g->oh * g->ow, 1);
    const size_t most = weights > sums ? weights : sums;
    return most > corrections ? most : corrections;
}

template <class T, int TILE>
static void launch(const shape &s, float *partials, const factors<T> &f)
{
    const size_t bytes = TILE * (TILE + 4) * sizeof(float);
    facs_cuda_allow_shared(weight_gradient<T, TILE, TILE>, bytes);
    FACS_LAUNCH((weight_gradient<T, TILE, TILE>), dim3(s.down, s.across, s.ranges), THREADS,
                bytes, partials, f, s.range);
}

template <class T>
void facs_cuda_rows<T>::conv_bwd_w(const facs_context *ctx, const facs_conv *g, facs_real *dw,
                                   const facs_tensor *x, const facs_norm *norm,
                                   const facs_tensor *dy, const facs_correction *correction)
{
    const int64_t pixels = facs_tensor_pixels(dy),
                  size = (int64_t)g->kh * g->kw * g->ci * g->co;
    const shape s = shape_of<T>(g, pixels);
    const factors<T> f = {data_of<T>(*x),
                          data_of<T>(*dy),
                          x->stride,
                          dy->stride,
                          pixels,
                          *g,
                          facs_cuda_by_eight<T>(x),
                          facs_cuda_by_eight<T>(dy) &&
                              (!correction || facs_cuda_by_eight<T>(correction->y)),
                          g->kh * g->kw == 1 && g->stride == 1 && !g->pad_top && !g->pad_left &&
                              g->h == g->oh && g->w == g->ow,
                          facs_cuda_norm(norm),
                          facs_cuda_correction(correction)};
    float *partials = s.ranges == 1 ? dw : (float *)ctx->scratch;
    if (pixels < 1) return;
    if constexpr (sizeof(T) == 2) {
        if (s.tile == 128)
            launch<T, 128>(s, partials, f);
        else
            launch<T, 64>(s, partials, f);
    } else {
        launch<T, 64>(s, partials, f);
    }
    if (s.ranges > 1) facs_cuda_sum_blocks(dw, partials, s.ranges, size);
}

FACS_CUDA_ROW(conv_bwd_scratch)
FACS_CUDA_ROW(conv_bwd_w)
