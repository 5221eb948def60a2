#include "kernel/cuda/conv_stem.cuh"

#include "kernel/cuda/conv_end.cuh"

/* A network's first convolution forward. The packed weights stay in shared memory; a warp has
 * the sixteen outputs of a line. */

template <int PAIRS, int LINES, int COLUMNS> struct stem_shared {
    typedef stem_plan<PAIRS, LINES> P;
    static const int STRIDE = COLUMNS + 8; /* of weights */
    float sums[STEM_TILE * spilled<COLUMNS>::STRIDE];
    bfloat16 weights[P::STEPS * 16 * STRIDE];
    bfloat16 halo[P::HALO * 8];
};

template <int PAIRS, int LINES, int COLUMNS>
__global__ static void __launch_bounds__(THREADS, 2)
    stem(const stem_image s, const bfloat16 *weights, int padded,
         const forward_end<bfloat16> end)
{
    facs_cuda_begin();
    typedef stem_plan<PAIRS, LINES> P;
    typedef stem_shared<PAIRS, LINES, COLUMNS> S;
    static const int ACROSS = COLUMNS / 8;
    extern __shared__ __align__(128) char shared[];
    S &mine = *(S *)shared;
    const int lane = threadIdx.x % 32, line = threadIdx.x / 32;
    const int tiles = s.images * s.down * s.across;
    stem_halo<P> halo;
    float total = 0;

    for (int i = threadIdx.x; i < P::STEPS * 16 * ACROSS; i += THREADS)
        *(uint4 *)(mine.weights + i / ACROSS * S::STRIDE + i % ACROSS * 8) =
            *(const uint4 *)(weights + i / ACROSS * padded + i % ACROSS * 8);
    halo.fetch(s, stem_tile(s, blockIdx.x));
#pragma unroll 1
    for (int tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
        float sum[2 * (COLUMNS / 16)][4] = {};

        halo.put(mine.halo);
        __syncthreads();
        if (tile + (int)gridDim.x < tiles) halo.fetch(s, stem_tile(s, tile + gridDim.x));
#pragma unroll
        for (int step = 0; step < P::STEPS; step++) {
            unsigned a[4];
            load_matrices(
                a, stem_piece<P, PAIRS>(mine.halo, line, lane % 16, 2 * step + lane / 16));
#pragma unroll
            for (int j = 0; j < COLUMNS / 16; j++) {
                unsigned b[4];
                load_transposed(b, mine.weights + (16 * step + lane % 16) * S::STRIDE + 16 * j +
                                       lane / 16 * 8);
                multiply(sum[2 * j], a, b[0], b[1]);
                multiply(sum[2 * j + 1], a, b[2], b[3]);
            }
        }
        float *to = mine.sums + (line * STEM_WIDTH + lane / 4) * spilled<COLUMNS>::STRIDE +
                    lane % 4 * 2;
#pragma unroll
        for (int j = 0; j < COLUMNS / 8; j++) {
            *(float2 *)(to + 8 * j) = make_float2(sum[j][0], sum[j][1]);
            *(float2 *)(to + 8 * spilled<COLUMNS>::STRIDE + 8 * j) =
                make_float2(sum[j][2], sum[j][3]);
        }
        __syncthreads();
        total += finish_tile<COLUMNS>(end, mine.sums, stem_places(s, stem_tile(s, tile)), 0);
    }
    if (end.partials) write_totals<COLUMNS>(end.partials, end.columns, 0, total);
}

template <int PAIRS, int LINES, int COLUMNS>
static void launch_stem(unsigned blocks, const stem_image &s, const bfloat16 *packed,
                        const forward_end<bfloat16> &end)
{
    const size_t bytes = sizeof(stem_shared<PAIRS, LINES, COLUMNS>);
    facs_cuda_allow_shared(stem<PAIRS, LINES, COLUMNS>, bytes);
    FACS_LAUNCH_BEGINNING("stem", (stem<PAIRS, LINES, COLUMNS>), blocks, THREADS, bytes, s,
                          packed, facs_conv_padded(end.columns), end);
}

unsigned facs_cuda_stem_fwd(const facs_conv *g, const facs_tensor *y, const facs_tensor *x,
                            const bfloat16 *packed, const float *bias, facs_clamp clamp,
                            float *partials)
{
    const stem_image s = stem_image_of(g, x);
    const forward_end<bfloat16> end = forward_end_of<bfloat16>(y, bias, clamp, partials);
    const unsigned tiles = (unsigned)stem_tiles(s);
    const unsigned blocks = tiles < STEM_BLOCKS ? tiles : STEM_BLOCKS;
    if (g->kh == 3 && g->co == 32)
        launch_stem<2, 3, 32>(blocks, s, packed, end);
    else if (g->kh == 3)
        launch_stem<2, 3, 64>(blocks, s, packed, end);
    else if (g->co == 32)
        launch_stem<4, 7, 32>(blocks, s, packed, end);
    else
        launch_stem<4, 7, 64>(blocks, s, packed, end);
    return blocks;
}
