#include "kernel/cuda/conv_stem.cuh"

#include "kernel/cuda/conv_fragments.cuh"

/* A network's first convolution forward. The packed weights stay in shared memory; a warp has
 * the sixteen outputs of a line. */

template <int PAIRS, int LINES, int COLUMNS> struct stem_shared {
    typedef stem_plan<PAIRS, LINES> P;
    static const int STRIDE = COLUMNS + 8; /* of weights */
    bfloat16 weights[P::STEPS * 16 * STRIDE];
    bfloat16 halo[2][P::HALO * 8]; /* of this tile and of the next */
    float totals[2 * STEM_LINES * COLUMNS];
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
    fragment_totals<COLUMNS / 32> totals;
    stem_halo<P> halo;
    int turn = 0;

    for (int i = threadIdx.x; i < P::STEPS * 16 * ACROSS; i += THREADS)
        *(uint4 *)(mine.weights + i / ACROSS * S::STRIDE + i % ACROSS * 8) =
            *(const uint4 *)(weights + i / ACROSS * padded + i % ACROSS * 8);
    halo.fetch(s, stem_tile(s, blockIdx.x));
#pragma unroll 1
    for (int tile = blockIdx.x; tile < s.tiles; tile += gridDim.x, turn ^= 1) {
        float sum[1][COLUMNS / 8][4] = {};

        halo.put(mine.halo[turn]);
        __syncthreads();
        if (tile + (int)gridDim.x < s.tiles) halo.fetch(s, stem_tile(s, tile + gridDim.x));
#pragma unroll
        for (int step = 0; step < P::STEPS; step++) {
            unsigned a[4];
            load_matrices(a, stem_piece<P, PAIRS>(mine.halo[turn], line, lane % 16,
                                                  2 * step + lane / 16));
#pragma unroll
            for (int j = 0; j < COLUMNS / 16; j++) {
                unsigned b[4];
                load_transposed(b, mine.weights + (16 * step + lane % 16) * S::STRIDE + 16 * j +
                                       lane / 16 * 8);
                multiply(sum[0][2 * j], a, b[0], b[1]);
                multiply(sum[0][2 * j + 1], a, b[2], b[3]);
            }
        }
        finish_fragments<1, COLUMNS / 32>(end, sum, stem_places(s, stem_tile(s, tile)),
                                          line * STEM_WIDTH, 0, totals);
    }
    if (end.partials)
        write_fragment_totals<COLUMNS, STEM_LINES>(end, mine.totals, line, 0, 0, totals);
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
    const unsigned tiles = (unsigned)s.tiles;
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
