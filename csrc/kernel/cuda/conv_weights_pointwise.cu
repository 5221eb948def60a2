#include "kernel/cuda/conv.cuh"
#include "kernel/cuda/conv_weights.h"

/* Weight gradients of pointwise convolutions of bfloat16: dw = x' dy over all pixels. A block
 * owns a tile of input x output channels for a range of pixels. Both factors lie in shared
 * memory as they do in memory, [pixel][channel]; the norm is applied to fragments of x in
 * registers, whose rows are channels, so that a thread has few scales and shifts, for good. */

/* Pixels that come at a time; a multiple of 16 for each group of warps. */
static const int PIXELS = 64;

/* Chunks of eight channels of a row of WIDTH; what ldmatrix reads at once, eight rows of a
 * chunk, is on different banks. */
template <int WIDTH> struct rows_of {
    static const bool SWIZZLED = WIDTH % 64 == 0;
    static const int STRIDE = SWIZZLED ? WIDTH : WIDTH + 8, NUMBERS = PIXELS * STRIDE;
    __device__ static int at(int row, int chunk)
    {
        return row * STRIDE + (SWIZZLED ? chunk ^ (row & 7) : chunk) * 8;
    }
};

/* Warps of a group cover the tile, each WARP_ROWS x WARP_COLUMNS of it; groups take pixels in
 * turn, sixteen at a time, and are added at the end: the larger the part of a warp, the less
 * it reads for a product. RESIDENT blocks are meant to share a multiprocessor, and
 * PARTS steps of pixels have a place in shared memory. */
template <int ROWS_, int COLUMNS_, int WARP_ROWS_, int WARP_COLUMNS_, int RESIDENT_, int PARTS_>
struct plan {
    static const int ROWS = ROWS_, COLUMNS = COLUMNS_, WARP_ROWS = WARP_ROWS_;
    static const int WARP_COLUMNS = WARP_COLUMNS_, RESIDENT = RESIDENT_, PARTS = PARTS_;
    static const int DOWN = WARP_ROWS / 16, PAIRS = WARP_COLUMNS / 16;
    static const int WARPS_DOWN = ROWS / WARP_ROWS;
    static const int GROUP = WARPS_DOWN * (COLUMNS / WARP_COLUMNS); /* warps */
    static const int GROUPS = THREADS / 32 / GROUP;
    typedef rows_of<ROWS> left;
    typedef rows_of<COLUMNS> right;
    static const int STAGE = left::NUMBERS + right::NUMBERS;
    static const size_t FACTORS = PARTS * STAGE * sizeof(bfloat16);
    static const size_t SUMS = GROUPS > 1 ? ROWS *COLUMNS * sizeof(float) : 0;
    static const size_t BYTES = FACTORS > SUMS ? FACTORS : SUMS;
};

/* One of the two factors in memory, and a thread's part in bringing it. */
template <int WIDTH> struct source {
    static const int CHUNKS = WIDTH / 8, STEP = THREADS / CHUNKS, MINE = PIXELS / STEP;

    const bfloat16 *from; /* the thread's first chunk of the next pixels */
    int stride, inside;   /* inside: the thread's channels are */

    __device__ source(const bfloat16 *data, int stride_, int64_t pixel, int channel,
                      int channels)
    {
        channel += (int)threadIdx.x % CHUNKS * 8;
        inside = channel < channels;
        stride = stride_;
        from = data + (pixel + row()) * (int64_t)stride + (inside ? channel : 0);
    }

    __device__ static int row() { return (int)threadIdx.x / CHUNKS; }

    /* Brings PIXELS pixels, of which `count` are there. */
    __device__ void bring(bfloat16 *to, int count)
    {
        const bfloat16 *p = from;
        to += rows_of<WIDTH>::at(row(), (int)threadIdx.x % CHUNKS);
        from += PIXELS * stride;
        if (count >= PIXELS) {
#pragma unroll
            for (int i = 0; i < MINE; i++)
                copy_sixteen(to + i * STEP * rows_of<WIDTH>::STRIDE, p + i * STEP * stride,
                             inside);
            return;
        }
#pragma unroll 1
        for (int i = 0; i < MINE; i++) {
            const int there = inside && row() + i * STEP < count;
            copy_sixteen(to + i * STEP * rows_of<WIDTH>::STRIDE,
                         there ? p + i * STEP * stride : p - row() * stride, there);
        }
    }
};

/* What is done to x: nothing; the norm with any clamp, with one from 0 on, with ReLU. */
enum { PLAIN, CLAMPED, RELU_CLAMPED, RELU };

/* Scales and shifts of the rows of a thread's fragments, and the clamp. */
template <int DOWN> struct fragment_norm {
    float scale[DOWN][2], shift[DOWN][2];
    __nv_bfloat162 low, high;

    __device__ void load(const facs_norm &norm, int row, int rows)
    {
        row += (int)threadIdx.x % 32 / 4;
#pragma unroll
        for (int i = 0; i < 2 * DOWN; i++) {
            const int channel = row + 8 * i, inside = channel < rows;
            scale[i / 2][i % 2] = inside ? norm.scale[channel] : 0;
            shift[i / 2][i % 2] = inside ? norm.shift[channel] : 0;
        }
        low = __float2bfloat162_rn(norm.clamp.low);
        high = __float2bfloat162_rn(norm.clamp.high);
    }

    /* As clamp_eight does: bounds are rounded as numbers are, and NaN stays. */
    template <int NORM> __device__ void apply(unsigned a[4], int i) const
    {
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const float s = scale[i][k % 2], t = shift[i][k % 2];
            const float first = s * __uint_as_float(a[k] << 16) + t;
            const float second = s * __uint_as_float(a[k] & 0xffff0000u) + t;
            __nv_bfloat162 pair;
            if (NORM == CLAMPED)
                pair = __hmax2_nan(__floats2bfloat162_rn(first, second), low);
            else
                pair = positive_pair(first, second);
            if (NORM != RELU) pair = __hmin2_nan(pair, high);
            a[k] = *(const unsigned *)&pair;
        }
    }
};

/* A warp's sums. */
template <class P> struct warp_sums {
    float sum[P::DOWN][2 * P::PAIRS][4] = {};
    int left_at[P::DOWN], right_at[P::PAIRS];

    __device__ static int warp() { return (int)threadIdx.x / 32 % P::GROUP; }
    __device__ static int group() { return (int)threadIdx.x / 32 / P::GROUP; }
    __device__ static int first_row() { return warp() % P::WARPS_DOWN * P::WARP_ROWS; }
    __device__ static int first_column() { return warp() / P::WARPS_DOWN * P::WARP_COLUMNS; }

    /* Of the fragments of a group's first sixteen pixels, in bytes from a stage's begin. */
    __device__ void place()
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int i = 0; i < P::DOWN; i++)
            left_at[i] = P::left::at(group() * 16 + lane % 8 + lane / 16 * 8,
                                     first_row() / 8 + lane / 8 % 2 + 2 * i) *
                         (int)sizeof(bfloat16);
#pragma unroll
        for (int j = 0; j < P::PAIRS; j++)
            right_at[j] =
                (P::left::NUMBERS + P::right::at(group() * 16 + lane % 16,
                                                 first_column() / 8 + lane / 16 + 2 * j)) *
                (int)sizeof(bfloat16);
    }

    template <int NORM> __device__ void add(unsigned stage, const fragment_norm<P::DOWN> &norm)
    {
#pragma unroll(P::RESIDENT > 1 ? 1 : PIXELS / 16)
        for (int pixel = 0; pixel < PIXELS; pixel += 16 * P::GROUPS) {
            unsigned a[P::DOWN][4], b[2][4]; /* the next columns are read ahead */
#pragma unroll
            for (int i = 0; i < P::DOWN; i++)
                load_transposed(a[i], stage + left_at[i] + pixel * P::left::STRIDE * 2);
            load_transposed(b[0], stage + right_at[0] + pixel * P::right::STRIDE * 2);
            if (NORM != PLAIN)
#pragma unroll
                for (int i = 0; i < P::DOWN; i++) norm.template apply<NORM>(a[i], i);
#pragma unroll
            for (int j = 0; j < P::PAIRS; j++) {
                if (j + 1 < P::PAIRS)
                    load_transposed(b[(j + 1) % 2],
                                    stage + right_at[j + 1] + pixel * P::right::STRIDE * 2);
#pragma unroll
                for (int i = 0; i < P::DOWN; i++) {
                    multiply(sum[i][2 * j], a[i], b[j % 2][0], b[j % 2][1]);
                    multiply(sum[i][2 * j + 1], a[i], b[j % 2][2], b[j % 2][3]);
                }
            }
        }
    }

    /* The other groups' sums are added to those of the first, from the last on; each thread
     * has the same numbers of the tile as its fellows, so that any order in memory will do. */
    __device__ void join(float4 *shared)
    {
        float4 *mine = shared + threadIdx.x % (32 * P::GROUP);
        for (int from = P::GROUPS - 1; from > 0; from--) {
            __syncthreads();
            if (group() == from)
#pragma unroll
                for (int i = 0; i < P::DOWN * 2 * P::PAIRS; i++) {
                    const float *s = sum[i / (2 * P::PAIRS)][i % (2 * P::PAIRS)];
                    mine[32 * P::GROUP * i] = make_float4(s[0], s[1], s[2], s[3]);
                }
            __syncthreads();
            if (group() == 0)
#pragma unroll
                for (int i = 0; i < P::DOWN * 2 * P::PAIRS; i++) {
                    float *s = sum[i / (2 * P::PAIRS)][i % (2 * P::PAIRS)];
                    const float4 other = mine[32 * P::GROUP * i];
                    s[0] += other.x, s[1] += other.y, s[2] += other.z, s[3] += other.w;
                }
        }
    }

    /* To [rows][columns], of which the tile's first is (row, column). */
    __device__ void write(float *to, int row, int column, int rows, int columns) const
    {
        const int lane = threadIdx.x % 32;
        row += first_row() + lane / 4;
        column += first_column() + lane % 4 * 2;
#pragma unroll
        for (int i = 0; i < 2 * P::DOWN; i++) {
            float *p = to + (int64_t)(row + 8 * i) * columns + column;
            if (row + 8 * i >= rows) break;
#pragma unroll
            for (int j = 0; j < 2 * P::PAIRS; j++)
                if (column + 8 * j < columns)
                    *(float2 *)(p + 8 * j) =
                        make_float2(sum[i / 2][j][i % 2 * 2], sum[i / 2][j][i % 2 * 2 + 1]);
        }
    }
};

struct pointwise {
    const bfloat16 *x, *dy;
    int64_t pixels, range;
    int x_stride, dy_stride, ci, co;
    facs_norm norm;
};

template <class P, int NORM>
__global__ static void __launch_bounds__(THREADS, P::RESIDENT)
    pointwise_gradient(float *partials, pointwise f)
{
    facs_cuda_begin();
    extern __shared__ __align__(16) char shared[];
    bfloat16 *factors = (bfloat16 *)shared;
    const int row = blockIdx.x * P::ROWS, column = blockIdx.y * P::COLUMNS;
    const int64_t begin = blockIdx.z * f.range;
    const int count = (int)(begin + f.range < f.pixels ? f.range : f.pixels - begin);
    const int steps = (count + PIXELS - 1) / PIXELS;
    source<P::ROWS> x(f.x, f.x_stride, begin, row, f.ci);
    source<P::COLUMNS> dy(f.dy, f.dy_stride, begin, column, f.co);
    fragment_norm<P::DOWN> norm;
    warp_sums<P> sums;

    if (NORM != PLAIN) norm.load(f.norm, row + sums.first_row(), f.ci);
    sums.place();
#pragma unroll 1
    for (int step = 0; step < P::PARTS - 1; step++) {
        bfloat16 *to = factors + step * P::STAGE;
        if (step < steps) {
            x.bring(to, count - step * PIXELS);
            dy.bring(to + P::left::NUMBERS, count - step * PIXELS);
        }
        end_copies();
    }
    int now = 0, far = (P::PARTS - 1) * P::STAGE;
#pragma unroll 1
    for (int step = 0; step < steps; step++) {
        const int later = step + P::PARTS - 1;
        wait_for_copies<P::PARTS - 2>();
        __syncthreads();
        if (later < steps) {
            x.bring(factors + far, count - later * PIXELS);
            dy.bring(factors + far + P::left::NUMBERS, count - later * PIXELS);
        }
        end_copies();
        sums.template add<NORM>(shared_address(factors + now), norm);
        far = now;
        now = now == (P::PARTS - 1) * P::STAGE ? 0 : now + P::STAGE;
    }
    wait_for_copies<0>();
    if (P::GROUPS > 1) sums.join((float4 *)shared);
    if (sums.group() == 0)
        sums.write(partials + blockIdx.z * (int64_t)f.ci * f.co, row, column, f.ci, f.co);
}

/* --- launching */

static const int64_t WIDEST = INT32_MAX / PIXELS; /* rows, so that a step's numbers are ints */

struct shape {
    int rows, columns; /* of a tile */
    unsigned down, across;
    int resident, most; /* ranges */
};

/* 64, or 128 where that pads little more. */
static int side_of(int channels)
{
    const unsigned small = facs_cuda_blocks(channels, 64) * 64;
    const unsigned large = facs_cuda_blocks(channels, 128) * 128;
    return channels > 64 && large * 4 <= small * 5 ? 128 : 64;
}

static shape shape_of(const facs_conv *g)
{
    shape s;
    s.rows = side_of(g->ci);
    s.columns = g->co <= 32 ? 32 : side_of(g->co);
    s.down = facs_cuda_blocks(g->ci, s.rows);
    s.across = facs_cuda_blocks(g->co, s.columns);
    s.resident = s.rows * s.columns == 128 * 128 ? 1 : 2;
    const int slots = s.resident * MULTIPROCESSORS, tiles = (int)(s.down * s.across);
    s.most = tiles >= slots ? 1 : tiles * 2 > slots ? 3 : slots / tiles;
    return s;
}

/* Into how many ranges to divide the pixels. Costs in nanoseconds, roughly: of a step of
 * PIXELS, of a block at its beginning and end, and of a partial sum written and read. */
static int ranges_of(const shape &s, int64_t pixels, int64_t size)
{
    const double STEP = 600, BLOCK = 2500, SUM = 8 / 3000.0;
    const int64_t steps = (pixels + PIXELS - 1) / PIXELS, tiles = (int64_t)s.down * s.across;
    const int slots = s.resident * MULTIPROCESSORS;
    double least = INFINITY;
    int best = 1;
    for (int ranges = 1; ranges <= s.most && ranges <= steps; ranges++) {
        const int64_t waves = (tiles * ranges + slots - 1) / slots;
        const double cost =
            (double)waves * ((double)((steps + ranges - 1) / ranges) * STEP + BLOCK) +
            (ranges > 1) * 2000 + (double)(ranges * size) * SUM;
        if (cost < least) least = cost, best = ranges;
    }
    return best;
}

template <class P, int NORM>
static void launch(float *partials, const shape &s, unsigned ranges, const pointwise &f)
{
    facs_cuda_allow_shared(pointwise_gradient<P, NORM>, P::BYTES);
    FACS_LAUNCH_BEGINNING("pointwise_gradient", (pointwise_gradient<P, NORM>),
                          dim3(s.down, s.across, ranges), THREADS, P::BYTES, partials, f);
}

template <class P>
static void choose_norm(float *partials, const shape &s, unsigned ranges, const pointwise &f)
{
    if (!f.norm.scale)
        launch<P, PLAIN>(partials, s, ranges, f);
    else if (f.norm.clamp.low != 0)
        launch<P, CLAMPED>(partials, s, ranges, f);
    else if (f.norm.clamp.high < INFINITY)
        launch<P, RELU_CLAMPED>(partials, s, ranges, f);
    else
        launch<P, RELU>(partials, s, ranges, f);
}

size_t facs_cuda_pointwise_weights_scratch(const facs_conv *g)
{
    if (!facs_conv_is_pointwise(g)) return 0;
    return (size_t)shape_of(g).most * (size_t)g->ci * (size_t)g->co * sizeof(float);
}

int facs_cuda_pointwise_weights(float *dw, void *scratch, const facs_conv *g,
                                const facs_tensor *x, const facs_norm *norm,
                                const facs_tensor *dy)
{
    if (!facs_conv_is_pointwise(g) || !facs_cuda_by_eight<bfloat16>(x) ||
        !facs_cuda_by_eight<bfloat16>(dy) || (uintptr_t)dw % 8 != 0 || x->stride > WIDEST ||
        dy->stride > WIDEST)
        return 0;
    const shape s = shape_of(g);
    const int64_t size = (int64_t)g->ci * g->co;
    pointwise f = {};
    f.x = data_of<bfloat16>(*x), f.x_stride = (int)x->stride;
    f.dy = data_of<bfloat16>(*dy), f.dy_stride = (int)dy->stride;
    f.pixels = facs_tensor_pixels(dy), f.ci = g->ci, f.co = g->co;
    f.norm = facs_cuda_norm(norm);
    const int wanted = ranges_of(s, f.pixels, size);
    f.range = ((f.pixels + wanted - 1) / wanted + PIXELS - 1) / PIXELS * PIXELS;
    const unsigned ranges = (unsigned)((f.pixels + f.range - 1) / f.range);
    float *partials = ranges == 1 ? dw : (float *)scratch;
    typedef plan<128, 128, 64, 64, 1, 5> deep;
    if (s.rows == 128 && s.columns == 128 && deep::BYTES <= facs_cuda_shared_limit())
        choose_norm<deep>(partials, s, ranges, f);
    else if (s.rows == 128 && s.columns == 128)
        choose_norm<plan<128, 128, 64, 64, 1, 3>>(partials, s, ranges, f);
    else if (s.rows == 128 && s.columns == 64)
        choose_norm<plan<128, 64, 32, 64, 2, 4>>(partials, s, ranges, f);
    else if (s.rows == 128)
        choose_norm<plan<128, 32, 32, 32, 2, 4>>(partials, s, ranges, f);
    else if (s.columns == 128)
        choose_norm<plan<64, 128, 32, 64, 2, 4>>(partials, s, ranges, f);
    else if (s.columns == 64)
        choose_norm<plan<64, 64, 32, 64, 2, 4>>(partials, s, ranges, f);
    else
        choose_norm<plan<64, 32, 32, 32, 2, 4>>(partials, s, ranges, f);
    if (ranges > 1) facs_cuda_sum_blocks(dw, partials, ranges, size);
    return 1;
}
