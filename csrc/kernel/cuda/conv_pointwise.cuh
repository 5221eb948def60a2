#ifndef FACS_KERNEL_CUDA_CONV_POINTWISE_CUH
#define FACS_KERNEL_CUDA_CONV_POINTWISE_CUH

#include "kernel/cuda/conv_fragments.cuh"

/* The product of a 1x1 convolution of bfloat16 whose rows are read as they lie, [rows][inner]
 * times packed weights [depth][padded]. Each thread brings its chunks from pointers that move
 * by constants; the norm of the rows is applied to the fragments in registers. */

struct pointwise_factors {
    const bfloat16 *x;
    int64_t stride;
    int inner; /* a multiple of 8 */
    const bfloat16 *weights;
    int padded, depth; /* depth: inner, padded to a multiple of 16 or more */
    facs_norm norm;
};

/* Four warps share a tile; the larger a warp's part, the less it reads of shared memory, which
 * is what bounds large products. */
template <int ROWS, int COLUMNS> struct pointwise_plan {
    static const int WARPS = 4, LANES = 32 * WARPS;
    static const int DEEP = 64, CHUNKS = DEEP / 8; /* numbers of depth in a stage */
    static const int WARPS_DOWN = COLUMNS == 128 || ROWS + COLUMNS == 128 ? 2 : 4;
    static const int WARP_ROWS = ROWS / WARPS_DOWN, WARP_COLUMNS = COLUMNS * WARPS_DOWN / WARPS;
    static const int DOWN = WARP_ROWS / 16, PAIRS = WARP_COLUMNS / 16, GROUPS = PAIRS / 2;
    static const int RIGHT_STRIDE = COLUMNS + 8;
    static const int LEFT = ROWS * DEEP, STAGE = LEFT + DEEP * RIGHT_STRIDE;
    static const int RESIDENT = ROWS + COLUMNS > 192 ? 2 : ROWS + COLUMNS > 160 ? 3 : 4;
    static const int STAGES = RESIDENT == 3 || COLUMNS == 32 ? 2 : 3;
    static const size_t BYTES = STAGES * STAGE * sizeof(bfloat16);
};

/* Two neighbouring channels' {scale, shift}. */
typedef float4 norm_pair;

__device__ static inline unsigned normed_pair(unsigned raw, const norm_pair &f,
                                              const __nv_bfloat162 &low,
                                              const __nv_bfloat162 &high)
{
    const float a = f.x * __uint_as_float(raw << 16) + f.y;
    const float b = f.z * __uint_as_float(raw & 0xffff0000u) + f.w;
    const __nv_bfloat162 pair =
        __hmin2_nan(__hmax2_nan(__floats2bfloat162_rn(a, b), low), high);
    return *(const unsigned *)&pair;
}

/* A thread's part in bringing a tile's factors to shared memory, step by step. The chunks of a
 * row of the left factor are turned by its number, so that eight rows of a column meet no bank
 * twice. */
template <int ROWS, int COLUMNS> struct pointwise_copies {
    typedef pointwise_plan<ROWS, COLUMNS> P;
    static const int ROW_STEP = P::LANES / P::CHUNKS, MINE = ROWS / ROW_STEP;
    static const int ACROSS = COLUMNS / 8, RIGHT_STEP = P::LANES / ACROSS;
    static const int RIGHT_MINE = P::DEEP / RIGHT_STEP;

    const pointwise_factors &f;
    int64_t rows;
    int first_column, steps, step; /* the step that is next */
    int64_t first_row;
    int64_t left_step, right_step; /* in bytes, between the thread's chunks */
    const char *left, *right;      /* its first chunks of the next step */
    int left_to, right_to;         /* where they go in a stage, in bytes */
    int left_depth, right_depth;   /* how much of the factors' depth is still to come */
    unsigned rows_inside;          /* 16 << i: the row of its chunk i is there */

    __device__ pointwise_copies(const pointwise_factors &factors, int64_t all, int column,
                                int deep)
        : f(factors), rows(all), first_column(column), steps(deep), step(0),
          first_row((int64_t)blockIdx.x * ROWS)
    {
        const int chunk = (int)threadIdx.x % P::CHUNKS, row = (int)threadIdx.x / P::CHUNKS;
        left_step = ROW_STEP * f.stride * (int)sizeof(bfloat16);
        right_step = (int64_t)RIGHT_STEP * f.padded * (int)sizeof(bfloat16);
        left_to = (row * P::DEEP + ((chunk ^ row) & 7) * 8) * (int)sizeof(bfloat16);
        right_to = (P::LEFT + (int)threadIdx.x / ACROSS * P::RIGHT_STRIDE +
                    (int)threadIdx.x % ACROSS * 8) *
                   (int)sizeof(bfloat16);
        begin_tile();
    }

    __device__ void begin_tile()
    {
        const int chunk = (int)threadIdx.x % P::CHUNKS * 8, depth = (int)threadIdx.x / ACROSS;
        const int64_t row = first_row + (int)threadIdx.x / P::CHUNKS;
        const int column = first_column + (int)threadIdx.x % ACROSS * 8;
        left = (const char *)(f.x + row * f.stride + chunk);
        right = (const char *)(f.weights + (int64_t)depth * f.padded + column);
        left_depth = f.inner - chunk;
        right_depth = column < f.padded ? f.depth - depth : 0;
        step = 0, rows_inside = 0;
#pragma unroll
        for (int i = 0; i < MINE; i++) rows_inside |= row + i * ROW_STEP < rows ? 16u << i : 0;
    }

    /* Brings the next step, of the block's next tile where one is over; nothing behind the
     * last. */
    __device__ void bring(unsigned stage)
    {
        if (first_row >= rows) return;
        const unsigned inside = left_depth > 0 ? rows_inside : 0;
#pragma unroll
        for (int i = 0; i < MINE; i++)
            copy_sixteen_to(stage + left_to + i * ROW_STEP * P::DEEP * (int)sizeof(bfloat16),
                            left + i * left_step, inside >> i & 16);
#pragma unroll
        for (int i = 0; i < RIGHT_MINE; i++)
            copy_sixteen_to(stage + right_to +
                                i * RIGHT_STEP * P::RIGHT_STRIDE * (int)sizeof(bfloat16),
                            right + i * right_step, i * RIGHT_STEP < right_depth ? 16 : 0);
        left += P::DEEP * sizeof(bfloat16), right += RIGHT_MINE * right_step;
        left_depth -= P::DEEP, right_depth -= P::DEEP;
        if (++step < steps) return;
        first_row += (int64_t)gridDim.x * ROWS;
        begin_tile();
    }
};

/* The sums of a tile, in the registers of its warps. */
template <int ROWS, int COLUMNS, bool NORM> struct pointwise_sums {
    typedef pointwise_plan<ROWS, COLUMNS> P;
    float sum[P::DOWN][2 * P::PAIRS][4];

    __device__ static int first_row()
    {
        return (int)threadIdx.x / 32 % P::WARPS_DOWN * P::WARP_ROWS;
    }
    __device__ static int first_column()
    {
        return (int)threadIdx.x / 32 / P::WARPS_DOWN * P::WARP_COLUMNS;
    }

    __device__ void clear()
    {
#pragma unroll
        for (int i = 0; i < P::DOWN; i++)
#pragma unroll
            for (int j = 0; j < 2 * P::PAIRS; j++)
#pragma unroll
                for (int k = 0; k < 4; k++) sum[i][j][k] = 0;
    }

    /* pairs: those of the stage's first channel on; limit: how much of its depth counts. */
    __device__ void add(unsigned stage, const norm_pair *pairs, facs_clamp clamp, int limit)
    {
        const int lane = threadIdx.x % 32;
        const unsigned left =
            stage + (first_row() + lane % 16) * P::DEEP * 2 + ((lane / 16) ^ (lane & 7)) * 16;
        const unsigned right =
            stage +
            (P::LEFT + lane % 16 * P::RIGHT_STRIDE + first_column() + lane / 16 * 8) * 2;
        const __nv_bfloat162 low = __float2bfloat162_rn(clamp.low);
        const __nv_bfloat162 high = __float2bfloat162_rn(clamp.high);

#pragma unroll
        for (int depth = 0; depth < P::DEEP; depth += 16) {
            if (depth >= limit) break;
            unsigned a[P::DOWN][4];
#pragma unroll
            for (int i = 0; i < P::DOWN; i++)
                load_matrices(a[i], (left ^ 2 * depth) + 16 * i * P::DEEP * 2);
            if (NORM) {
                const norm_pair near = pairs[depth / 2 + lane % 4];
                const norm_pair far = pairs[depth / 2 + 4 + lane % 4];
#pragma unroll
                for (int i = 0; i < P::DOWN; i++)
#pragma unroll
                    for (int k = 0; k < 4; k++)
                        a[i][k] = normed_pair(a[i][k], k < 2 ? near : far, low, high);
            }
#pragma unroll
            for (int j = 0; j < P::PAIRS; j++) {
                unsigned b[4];
                load_transposed(b, right + (depth * P::RIGHT_STRIDE + 16 * j) * 2);
#pragma unroll
                for (int i = 0; i < P::DOWN; i++) {
                    multiply(sum[i][2 * j], a[i], b[0], b[1]);
                    multiply(sum[i][2 * j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }
};

/* What lies behind the stages: scale and shift of all channels read, 0 for those of the
 * padding. */
__device__ static inline void keep_norm(norm_pair *pairs, const pointwise_factors &f, int depth)
{
    float2 *to = (float2 *)pairs;
    for (int c = threadIdx.x; c < depth; c += blockDim.x)
        to[c] = c < f.inner ? make_float2(f.norm.scale[c], f.norm.shift[c]) : make_float2(0, 0);
}

template <int ROWS, int COLUMNS, bool NORM, class End>
__global__ static void __launch_bounds__(pointwise_plan<ROWS, COLUMNS>::LANES,
                                         pointwise_plan<ROWS, COLUMNS>::RESIDENT)
    pointwise(const pointwise_factors f, int64_t rows, const End end)
{
    facs_cuda_begin();
    typedef pointwise_plan<ROWS, COLUMNS> P;
    typedef pointwise_sums<ROWS, COLUMNS, NORM> M;
    extern __shared__ __align__(128) char shared[];
    static const unsigned STAGE = P::STAGE * sizeof(bfloat16), ALL = P::STAGES * STAGE;
    const unsigned stages = shared_address(shared);
    norm_pair *pairs = (norm_pair *)(shared + P::BYTES);
    const int first_column = blockIdx.y * COLUMNS, steps = (f.depth + P::DEEP - 1) / P::DEEP;
    pointwise_copies<ROWS, COLUMNS> copies(f, rows, first_column, steps);
    fragment_totals<P::GROUPS> totals;
    unsigned stage = 0, later = ALL - STAGE; /* from the first stage on */

    if (NORM) keep_norm(pairs, f, steps * P::DEEP);
#pragma unroll
    for (int step = 0; step < P::STAGES - 1; step++) {
        copies.bring(stages + step * STAGE);
        end_copies();
    }
#pragma unroll 1
    for (int64_t first_row = (int64_t)blockIdx.x * ROWS; first_row < rows;
         first_row += (int64_t)gridDim.x * ROWS) {
        M m;
        m.clear();
#pragma unroll 1
        for (int step = 0; step < steps; step++) {
            wait_for_copies<P::STAGES - 2>();
            __syncthreads();
            copies.bring(stages + later);
            end_copies();
            m.add(stages + stage, pairs + step * P::DEEP / 2, f.norm.clamp,
                  f.depth - step * P::DEEP);
            stage = stage + STAGE < ALL ? stage + STAGE : 0;
            later = later + STAGE < ALL ? later + STAGE : 0;
        }
        finish_fragments<P::DOWN, P::GROUPS>(end, m.sum, rows_from(first_row, rows, ROWS),
                                             M::first_row(), first_column + M::first_column(),
                                             totals);
    }
    wait_for_copies<0>();
    if (end.partials)
        write_fragment_totals<COLUMNS, P::WARPS_DOWN>(end, (float *)shared,
                                                      M::first_row() / P::WARP_ROWS,
                                                      M::first_column(), first_column, totals);
}

/* --- launching */

/* A launch of tiles of one size, and what it takes. */
template <class End> struct pointwise_choice {
    void (*launch)(const dim3 &grid, const pointwise_factors &f, int64_t rows, const End &end);
    dim3 grid;
    int64_t time;
};

/* What a block of a tile has of shared memory: its stages and the norm of the channels read. */
template <int ROWS, int COLUMNS> static inline size_t pointwise_bytes(int depth)
{
    typedef pointwise_plan<ROWS, COLUMNS> P;
    return P::BYTES + (size_t)(depth + P::DEEP - 1) / P::DEEP * P::DEEP * sizeof(float2);
}

template <int ROWS, int COLUMNS, class End>
static void launch_pointwise(const dim3 &grid, const pointwise_factors &f, int64_t rows,
                             const End &end)
{
    typedef pointwise_plan<ROWS, COLUMNS> P;
    if constexpr (End::NORMED)
        if (f.norm.scale) {
            const size_t bytes = pointwise_bytes<ROWS, COLUMNS>(f.depth);
            /* The same for every depth: what is allowed is the process's, and threads launch
             * at a time. */
            facs_cuda_allow_shared(pointwise<ROWS, COLUMNS, true, End>,
                                   facs_cuda_shared_limit());
            FACS_LAUNCH_BEGINNING("pointwise", (pointwise<ROWS, COLUMNS, true, End>), grid,
                                  P::LANES, bytes, f, rows, end);
            return;
        }
    facs_cuda_allow_shared(pointwise<ROWS, COLUMNS, false, End>, P::BYTES);
    FACS_LAUNCH_BEGINNING("pointwise", (pointwise<ROWS, COLUMNS, false, End>), grid, P::LANES,
                          P::BYTES, f, rows, end);
}

/* What a tile takes, in units of one multiplication: the product itself, the factors it brings
 * and its end. */
template <int ROWS, int COLUMNS, class End>
static inline void consider_tile(pointwise_choice<End> *best, size_t shared, int64_t rows,
                                 int columns, int depth)
{
    static const int RESIDENT = pointwise_plan<ROWS, COLUMNS>::RESIDENT * MULTIPROCESSORS;
    if (COLUMNS > 32 && columns <= COLUMNS / 2) return;
    if (pointwise_bytes<ROWS, COLUMNS>(depth) > shared) return;
    const unsigned across = facs_cuda_blocks(columns, COLUMNS);
    const unsigned tiles = facs_cuda_blocks(rows, ROWS);
    const unsigned most = across < RESIDENT ? RESIDENT / across : 1;
    const unsigned blocks = tiles < most ? tiles : most;
    const int64_t rounds = (tiles + blocks - 1) / blocks;
    const int64_t work =
        (int64_t)ROWS * COLUMNS * (depth + 100) + 67 * (ROWS + COLUMNS) * depth;
    const int64_t time = rounds * work * pointwise_plan<ROWS, COLUMNS>::RESIDENT;
    if (best->launch && time >= best->time) return;
    *best = {launch_pointwise<ROWS, COLUMNS, End>, dim3(blocks, across), time};
}

/* With the tile whose rounds of resident blocks are over first. Returns how many blocks there
 * are partial sums of: none, and nothing is done, where no tile has the shared memory it wants.
 */
template <class End>
static unsigned run_pointwise(const pointwise_factors &f, int64_t rows, const End &end)
{
    const size_t shared = facs_cuda_shared_limit();
    pointwise_choice<End> best = {};
    consider_tile<128, 128>(&best, shared, rows, end.columns, f.depth);
    consider_tile<128, 64>(&best, shared, rows, end.columns, f.depth);
    consider_tile<64, 128>(&best, shared, rows, end.columns, f.depth);
    consider_tile<64, 64>(&best, shared, rows, end.columns, f.depth);
    consider_tile<128, 32>(&best, shared, rows, end.columns, f.depth);
    consider_tile<64, 32>(&best, shared, rows, end.columns, f.depth);
    if (!best.launch) return 0;
    best.launch(best.grid, f, rows, end);
    return best.grid.x;
}

#endif
