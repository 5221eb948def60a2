#include "kernel/cuda/conv_stem.cuh"

/* The weights' gradient of a network's first convolution. Sixteen numbers of depth (two chunks)
 * are a warp's at a time; sixteen outputs of a line are what is summed over. */

template <int PAIRS, int LINES, int COLUMNS> struct stem_gradient_plan {
    typedef stem_plan<PAIRS, LINES> P;
    static const int STRIDE = COLUMNS + 8;      /* of dy */
    static const int MINE = (P::STEPS + 7) / 8; /* tiles of sixteen numbers of a warp */
    static const int RIGHT = STEM_TILE * (COLUMNS / 8) / THREADS; /* chunks of dy of a thread */
};

template <int PAIRS, int LINES, int COLUMNS> struct stem_gradient_shared {
    bfloat16 dy[STEM_TILE * stem_gradient_plan<PAIRS, LINES, COLUMNS>::STRIDE];
    bfloat16 halo[stem_plan<PAIRS, LINES>::HALO * 8];
};

struct stem_dy {
    const bfloat16 *dy;
    int64_t stride;
    correction_value correction;
};

/* What a thread brings of dy: chunks of eight channels, corrected, 0 where there is no output.
 */
template <int COLUMNS, int COUNT> struct stem_right {
    eight<bfloat16> dy[COUNT], y[COUNT];
    unsigned inside; /* bit i: chunk i is there */

    __device__ static int place(int i)
    {
        return ((int)threadIdx.x + i * THREADS) / (COLUMNS / 8);
    }
    __device__ static int column() { return (int)threadIdx.x % (COLUMNS / 8) * 8; }

    __device__ void fetch(const stem_dy &f, const stem_places &places)
    {
        inside = 0;
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            const int64_t pixel = places.at(place(i));
            if (pixel < 0) continue;
            inside |= 1u << i;
            dy[i] = *(const eight<bfloat16> *)(f.dy + pixel * f.stride + column());
            if (f.correction.slope)
                y[i] = *(const eight<bfloat16> *)((const bfloat16 *)f.correction.y +
                                                  pixel * f.correction.stride + column());
        }
    }

    __device__ void put(bfloat16 *to, const stem_dy &f) const
    {
        float slope[8], offset[8];
        if (f.correction.slope)
#pragma unroll
            for (int i = 0; i < 8; i++)
                slope[i] = __ldg(f.correction.slope + column() + i),
                offset[i] = __ldg(f.correction.offset + column() + i);
#pragma unroll
        for (int i = 0; i < COUNT; i++) {
            eight<bfloat16> e = eight_zeros<bfloat16>();
            if (inside >> i & 1) {
                e = dy[i];
                if (f.correction.slope) {
                    float v[8], other[8];
                    unpack(v, e);
                    unpack(other, y[i]);
#pragma unroll
                    for (int k = 0; k < 8; k++) v[k] += slope[k] * other[k] + offset[k];
                    e = packed_of<bfloat16>(v);
                }
            }
            *(eight<bfloat16> *)(to + place(i) * (COLUMNS + 8) + column()) = e;
        }
    }
};

/* The number of depth `row` is a weight's of output channel 0, or -1. */
template <int PAIRS> __device__ static int stem_weight(const facs_conv &g, int row)
{
    const int chunk = row / 8, ky = chunk / PAIRS, kx = chunk % PAIRS * 2 + row % 8 / 4;
    if (ky >= g.kh || kx >= g.kw || row % 4 >= g.ci) return -1;
    return ((ky * g.kw + kx) * g.ci + row % 4) * g.co;
}

template <int PAIRS, int LINES, int COLUMNS>
__global__ static void __launch_bounds__(THREADS, COLUMNS == 64 ? 1 : 2)
    stem_gradient(float *partials, const facs_conv g, const stem_image s, const stem_dy f)
{
    facs_cuda_begin();
    typedef stem_plan<PAIRS, LINES> P;
    typedef stem_gradient_plan<PAIRS, LINES, COLUMNS> G;
    typedef stem_gradient_shared<PAIRS, LINES, COLUMNS> S;
    extern __shared__ __align__(128) char shared[];
    S &mine = *(S *)shared;
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    float sum[G::MINE][COLUMNS / 8][4] = {};
    stem_halo<P> halo;
    stem_right<COLUMNS, G::RIGHT> right;

    halo.fetch(s, stem_tile(s, blockIdx.x));
    right.fetch(f, stem_places(s, stem_tile(s, blockIdx.x)));
#pragma unroll 1
    for (int tile = blockIdx.x; tile < s.tiles; tile += gridDim.x) {
        halo.put(mine.halo);
        right.put(mine.dy, f);
        __syncthreads();
        if (tile + (int)gridDim.x < s.tiles) {
            const stem_tile next(s, tile + gridDim.x);
            halo.fetch(s, next);
            right.fetch(f, stem_places(s, next));
        }
#pragma unroll 1
        for (int line = 0; line < STEM_LINES && warp < P::STEPS; line++) {
            unsigned b[COLUMNS / 16][4];
#pragma unroll
            for (int j = 0; j < COLUMNS / 16; j++)
                load_transposed(b[j], mine.dy + (line * STEM_WIDTH + lane % 16) * G::STRIDE +
                                          16 * j + lane / 16 * 8);
#pragma unroll
            for (int i = 0; i < G::MINE; i++) {
                const int step = warp + 8 * i;
                unsigned a[4];
                if (step >= P::STEPS) break;
                load_transposed(a,
                                stem_piece<P, PAIRS>(mine.halo, line, lane % 8 + lane / 16 * 8,
                                                     2 * step + lane / 8 % 2));
#pragma unroll
                for (int j = 0; j < COLUMNS / 16; j++) {
                    multiply(sum[i][2 * j], a, b[j][0], b[j][1]);
                    multiply(sum[i][2 * j + 1], a, b[j][2], b[j][3]);
                }
            }
        }
        __syncthreads();
    }
    partials += (int64_t)blockIdx.x * g.kh * g.kw * g.ci * g.co;
#pragma unroll
    for (int i = 0; i < G::MINE; i++)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            const int row = (warp + 8 * i) * 16 + lane / 4 + k / 2 * 8;
            const int at = row < P::CHUNKS * 8 ? stem_weight<PAIRS>(g, row) : -1;
            if (at < 0) continue;
#pragma unroll
            for (int j = 0; j < COLUMNS / 8; j++)
                partials[at + 8 * j + lane % 4 * 2 + k % 2] = sum[i][j][k];
        }
}

template <int PAIRS, int LINES, int COLUMNS>
static void launch_gradient(unsigned blocks, float *partials, const facs_conv *g,
                            const stem_image &s, const stem_dy &f)
{
    const size_t bytes = sizeof(stem_gradient_shared<PAIRS, LINES, COLUMNS>);
    facs_cuda_allow_shared(stem_gradient<PAIRS, LINES, COLUMNS>, bytes);
    FACS_LAUNCH_BEGINNING("stem_gradient", (stem_gradient<PAIRS, LINES, COLUMNS>), blocks,
                          THREADS, bytes, partials, *g, s, f);
}

unsigned facs_cuda_stem_bwd_w(const facs_conv *g, float *partials, const facs_tensor *x,
                              const facs_tensor *dy, const facs_correction *correction)
{
    const stem_image s = stem_image_of(g, x);
    const stem_dy f = {data_of<bfloat16>(*dy), dy->stride, facs_cuda_correction(correction)};
    const unsigned tiles = (unsigned)s.tiles;
    const unsigned blocks = tiles < STEM_BLOCKS ? tiles : STEM_BLOCKS;
    if (g->kh == 3 && g->co == 32)
        launch_gradient<2, 3, 32>(blocks, partials, g, s, f);
    else if (g->kh == 3)
        launch_gradient<2, 3, 64>(blocks, partials, g, s, f);
    else if (g->co == 32)
        launch_gradient<4, 7, 32>(blocks, partials, g, s, f);
    else
        launch_gradient<4, 7, 64>(blocks, partials, g, s, f);
    return blocks;
}
