#ifndef FACS_KERNEL_CUDA_TILE_CUH
#define FACS_KERNEL_CUDA_TILE_CUH

#include "kernel/cuda/cuda.h"

/* A block's tile of a matrix product, ROWS x COLUMNS sums, DEPTH deep at a time out of shared
 * memory. bfloat16 goes through the tensor cores (mma.sync, from sm_80), float through FMA. */

static const int DEPTH = 32, THREADS = 256;

/* Steps of DEPTH in shared memory at a time: one is multiplied while the others arrive. */
static const int STAGES = 4;

/* Eight neighbouring numbers as they lie in memory. */
template <class T> struct eight;
template <> struct eight<bfloat16> {
    uint4 raw;
};
template <> struct eight<float> {
    float4 low, high;
};

template <class T> __device__ static inline eight<T> eight_zeros()
{
    return eight<T>{};
}

template <class T> __device__ static inline void unpack(float v[8], const eight<T> &e)
{
    load_eight(v, (const T *)&e);
}

template <class T> __device__ static inline eight<T> packed_of(const float v[8])
{
    eight<T> e;
    store_eight((T *)&e, v);
    return e;
}

/* Clamps eight numbers as they are stored. Bounds of bfloat16 are rounded as numbers are, so
 * that this is the same as clamping before. NaN stays. */
__device__ static inline void clamp_eight(eight<float> &e, facs_clamp clamp)
{
    float v[8];
    unpack(v, e);
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = clamped(v[i], clamp);
    e = packed_of<float>(v);
}

__device__ static inline void clamp_eight(eight<bfloat16> &e, facs_clamp clamp)
{
    __nv_bfloat162 *pairs = (__nv_bfloat162 *)&e;
    const __nv_bfloat162 low = __float2bfloat162_rn(clamp.low);
    const __nv_bfloat162 high = __float2bfloat162_rn(clamp.high);
#pragma unroll
    for (int i = 0; i < 4; i++) pairs[i] = __hmax2_nan(pairs[i], low);
    if (clamp.high < INFINITY)
#pragma unroll
        for (int i = 0; i < 4; i++) pairs[i] = __hmin2_nan(pairs[i], high);
}

/* The first `count` of eight numbers, zeros behind; wide: all eight, aligned. */
template <class T>
__device__ static inline eight<T> fetch_eight(const T *p, int count, int wide)
{
    if (wide) return *(const eight<T> *)p;
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = i < count ? number_of(p[i]) : 0;
    return packed_of<T>(v);
}

/* Eight numbers, or zeros, by a copy that goes on while the thread does. */
template <class T> __device__ static inline void copy_numbers(T *to, const T *from, int inside)
{
#pragma unroll
    for (size_t i = 0; i < 8 * sizeof(T); i += 16)
        copy_sixteen((char *)to + i, (const char *)from + i, inside);
}

__device__ static inline void load_matrices(unsigned r[4], const bfloat16 *p)
{
    load_matrices(r, shared_address(p));
}

__device__ static inline void load_transposed(unsigned r[4], const bfloat16 *p)
{
    load_transposed(r, shared_address(p));
}

/* Floats between rows of a tile's sums in shared memory: float2 of eight rows meet no bank
 * twice. */
template <int COLUMNS> struct spilled {
    static const int STRIDE = COLUMNS + 8;
};

/* ACROSS_DEPTH: the left factor lies as [DEPTH][ROWS], else as [ROWS][DEPTH]; the right one as
 * [DEPTH][COLUMNS]. The strides keep eight rows of ldmatrix on different banks. */
template <class T, int ROWS, int COLUMNS, bool ACROSS_DEPTH> struct tile;

template <int ROWS, int COLUMNS, bool ACROSS_DEPTH>
struct tile<bfloat16, ROWS, COLUMNS, ACROSS_DEPTH> {
    static const int LEFT_STRIDE = (ACROSS_DEPTH ? ROWS : DEPTH) + 8;
    static const int LEFT = (ACROSS_DEPTH ? DEPTH : ROWS) * LEFT_STRIDE;
    static const int RIGHT_STRIDE = COLUMNS + 8, RIGHT = DEPTH * RIGHT_STRIDE;
    static const int WARPS_DOWN = ROWS == 128 && COLUMNS == 32 ? 8 : 4;
    static const int WARP_ROWS = ROWS / WARPS_DOWN, WARP_COLUMNS = COLUMNS * WARPS_DOWN / 8;
    static const int DOWN = WARP_ROWS / 16, PAIRS = WARP_COLUMNS / 16;

    float sum[DOWN][2 * PAIRS][4];

    __device__ int first_row() const { return (int)threadIdx.x / 32 % WARPS_DOWN * WARP_ROWS; }
    __device__ int first_column() const
    {
        return (int)threadIdx.x / 32 / WARPS_DOWN * WARP_COLUMNS;
    }

    __device__ void clear(int)
    {
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < 2 * PAIRS; j++)
#pragma unroll
                for (int k = 0; k < 4; k++) sum[i][j][k] = 0;
    }

    __device__ void load_left(unsigned a[4], const bfloat16 *left, int row, int depth) const
    {
        const int lane = threadIdx.x % 32;
        if (ACROSS_DEPTH)
            load_transposed(a, left + (depth + lane % 8 + lane / 16 * 8) * LEFT_STRIDE + row +
                                   lane / 8 % 2 * 8);
        else
            load_matrices(a, left + (row + lane % 16) * LEFT_STRIDE + depth + lane / 16 * 8);
    }

    __device__ void add(const bfloat16 *left, const bfloat16 *right)
    {
        const int lane = threadIdx.x % 32;
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 16) {
            unsigned a[DOWN][4];
#pragma unroll
            for (int i = 0; i < DOWN; i++) load_left(a[i], left, first_row() + 16 * i, depth);
#pragma unroll
            for (int j = 0; j < PAIRS; j++) {
                unsigned b[4];
                load_transposed(b, right + (depth + lane % 16) * RIGHT_STRIDE + first_column() +
                                       16 * j + lane / 16 * 8);
#pragma unroll
                for (int i = 0; i < DOWN; i++) {
                    multiply(sum[i][2 * j], a[i], b[0], b[1]);
                    multiply(sum[i][2 * j + 1], a[i], b[2], b[3]);
                }
            }
        }
    }

    /* To [ROWS][spilled::STRIDE] in shared memory. */
    __device__ void spill(float *to) const
    {
        const int lane = threadIdx.x % 32, stride = spilled<COLUMNS>::STRIDE;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < 2 * PAIRS; j++) {
                float *p = to + (first_row() + 16 * i + lane / 4) * stride + first_column() +
                           8 * j + lane % 4 * 2;
                *(float2 *)p = make_float2(sum[i][j][0], sum[i][j][1]);
                *(float2 *)(p + 8 * stride) = make_float2(sum[i][j][2], sum[i][j][3]);
            }
    }
};

template <int ROWS, int COLUMNS, bool ACROSS_DEPTH>
struct tile<float, ROWS, COLUMNS, ACROSS_DEPTH> {
    static const int LEFT_STRIDE = (ACROSS_DEPTH ? ROWS : DEPTH) + 4;
    static const int LEFT = (ACROSS_DEPTH ? DEPTH : ROWS) * LEFT_STRIDE;
    static const int RIGHT_STRIDE = COLUMNS + 4, RIGHT = DEPTH * RIGHT_STRIDE;
    static const int DOWN = ROWS / 16, ACROSS = COLUMNS / 16;
    static_assert(ROWS == 64 && COLUMNS == 64, "warps of tensor cores: four down, two across");

    float sum[DOWN][ACROSS];
    int tensor; /* through the tensor cores, rounded to TF32 */

    __device__ void clear(int through_tensor_cores)
    {
        tensor = through_tensor_cores;
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++) sum[i][j] = 0;
    }

    __device__ void add(const float *left, const float *right)
    {
        if (tensor)
            add_rounded(left, right);
        else
            add_exact(left, right);
    }

    __device__ static int first_row() { return (int)threadIdx.x / 32 % 4 * 16; }
    __device__ static int first_column() { return (int)threadIdx.x / 32 / 4 * 32; }

    /* A warp has 16 rows and 32 columns; sum[j] is of eight of these. */
    __device__ void add_rounded(const float *left, const float *right)
    {
        const int group = (int)threadIdx.x % 32 / 4, lane = (int)threadIdx.x % 4;
#pragma unroll
        for (int depth = 0; depth < DEPTH; depth += 8) {
            unsigned a[4];
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int row = first_row() + group + i % 2 * 8, at = depth + lane + i / 2 * 4;
                a[i] = rounded_to_tf32(ACROSS_DEPTH ? left[at * LEFT_STRIDE + row]
                                                    : left[row * LEFT_STRIDE + at]);
            }
#pragma unroll
            for (int j = 0; j < DOWN; j++) {
                const float *from =
                    right + (depth + lane) * RIGHT_STRIDE + first_column() + 8 * j + group;
                multiply_tf32(sum[j], a, rounded_to_tf32(from[0]),
                              rounded_to_tf32(from[4 * RIGHT_STRIDE]));
            }
        }
    }

    /* Thread (down, across) has rows down + 16 i and columns across + 16 j. */
    __device__ void add_exact(const float *left, const float *right)
    {
        const int down = threadIdx.x / 16, across = threadIdx.x % 16;
#pragma unroll 4
        for (int depth = 0; depth < DEPTH; depth++) {
            float a[DOWN], b[ACROSS];
#pragma unroll
            for (int i = 0; i < DOWN; i++)
                a[i] = ACROSS_DEPTH ? left[depth * LEFT_STRIDE + down + 16 * i]
                                    : left[(down + 16 * i) * LEFT_STRIDE + depth];
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
                b[j] = right[depth * RIGHT_STRIDE + across + 16 * j];
#pragma unroll
            for (int i = 0; i < DOWN; i++)
#pragma unroll
                for (int j = 0; j < ACROSS; j++) sum[i][j] += a[i] * b[j];
        }
    }

    __device__ void spill(float *to) const
    {
        const int down = threadIdx.x / 16, across = threadIdx.x % 16;
        const int stride = spilled<COLUMNS>::STRIDE;
        if (tensor) {
            const int group = (int)threadIdx.x % 32 / 4, lane = (int)threadIdx.x % 4;
#pragma unroll
            for (int j = 0; j < DOWN; j++) {
                float *p = to + (first_row() + group) * stride + first_column() + 8 * j + 2 * lane;
                *(float2 *)p = make_float2(sum[j][0], sum[j][1]);
                *(float2 *)(p + 8 * stride) = make_float2(sum[j][2], sum[j][3]);
            }
            return;
        }
#pragma unroll
        for (int i = 0; i < DOWN; i++)
#pragma unroll
            for (int j = 0; j < ACROSS; j++)
                to[(down + 16 * i) * stride + across + 16 * j] = sum[i][j];
    }
};

/* What a block has of shared memory: the stages of its factors, then its sums in their place.
 */
template <class T, int ROWS, int COLUMNS, bool ACROSS_DEPTH> struct shared_plan {
    typedef tile<T, ROWS, COLUMNS, ACROSS_DEPTH> M;
    static const int STAGE = M::LEFT + M::RIGHT;
    static const size_t FACTORS = STAGES * STAGE * sizeof(T);
    static const size_t SUMS = ROWS * spilled<COLUMNS>::STRIDE * sizeof(float);
    static const size_t BYTES = FACTORS > SUMS ? FACTORS : SUMS;
};

/* The sums of a tile over `steps` steps of DEPTH, in the registers of its warps. The parts
 * bring(left, right, step, stage) a step's factors and settle(left, step, stage) what has
 * arrived of the left one. All threads must call; the stages are free afterwards. */
template <class Plan, class T, class Parts>
__device__ static inline void multiply_stages(typename Plan::M &m, Parts &parts, T *factors,
                                              int steps)
{
    m.clear(parts.r.tensor);
#pragma unroll 1
    for (int step = 0; step < STAGES - 1; step++) {
        T *left = factors + step * Plan::STAGE;
        if (step < steps) parts.bring(left, left + Plan::M::LEFT, step, step);
        end_copies();
    }
    for (int step = 0; step < steps; step++) {
        const int stage = step % STAGES, later = step + STAGES - 1;
        T *left = factors + stage * Plan::STAGE, *far = factors + later % STAGES * Plan::STAGE;
        wait_for_copies<STAGES - 2>();
        parts.settle(left, step, stage);
        __syncthreads();
        if (later < steps) parts.bring(far, far + Plan::M::LEFT, later, later % STAGES);
        end_copies();
        m.add(left, left + Plan::M::LEFT);
    }
    wait_for_copies<0>();
    __syncthreads();
}

#endif
