#ifndef FACS_KERNEL_CUDA_DWCONV_H
#define FACS_KERNEL_CUDA_DWCONV_H

#include "kernel/cuda/cuda.h"

/* What both directions of the depthwise convolution share. With a 3x3 kernel and stride 1 or
 * 2 a thread owns two neighbouring channels and walks down strips of pixels, with weights and
 * sums in registers. A block is lanes (threadIdx.x, pairs of channels) times slots
 * (threadIdx.y, strips at a time); blockIdx.y tells which pairs. Anything else is computed
 * number by number. */

enum { DW_THREADS = 128, DW_LANES = 32, DW_COLUMNS = 7 };
/* Number by number: 32 channels and 8 pixels at a time, at most so many blocks of pixels. */
enum { DW_PLAIN_ROWS = 8, DW_PLAIN_BLOCKS = 256 };

/* --- two neighbouring numbers */

template <class T> struct dw_stored;
template <> struct dw_stored<float> {
    typedef float2 pair;
};
template <> struct dw_stored<bfloat16> {
    typedef unsigned pair;
};

__device__ static inline void pair_numbers(float v[2], float2 pair)
{
    v[0] = pair.x, v[1] = pair.y;
}
__device__ static inline void pair_numbers(float v[2], unsigned pair)
{
    v[0] = __uint_as_float(pair << 16);
    v[1] = __uint_as_float(pair & 0xffff0000u);
}
__device__ static inline void make_pair(float2 *pair, const float v[2])
{
    *pair = make_float2(v[0], v[1]);
}
__device__ static inline void make_pair(unsigned *pair, const float v[2])
{
    const __nv_bfloat162 both = __floats2bfloat162_rn(v[0], v[1]);
    *pair = *(const unsigned *)&both;
}

/* The pair i pixels behind p; one wide multiplication makes the address. */
template <class T>
__device__ static inline typename dw_stored<T>::pair load_pair(const T *p, int i, int stride)
{
    return *(const typename dw_stored<T>::pair *)(p + (int64_t)i * stride);
}
template <class T>
__device__ static inline void store_pair(T *p, int i, int stride,
                                         typename dw_stored<T>::pair pair)
{
    *(typename dw_stored<T>::pair *)(p + (int64_t)i * stride) = pair;
}

template <class T> static inline int dw_by_pairs(const facs_tensor *t)
{
    return t->c % 2 == 0 && t->stride % 2 == 0 && (uintptr_t)t->data % (2 * sizeof(T)) == 0;
}

static inline int dw_is_3x3(const facs_conv *g)
{
    return g->kh == 3 && g->kw == 3 && (g->stride == 1 || g->stride == 2);
}

/* --- how a 3x3 convolution is cut */

/* A piece is `rows` lines of a strip of an image. */
typedef struct dw_cut {
    int lanes, slots, groups;
    int strips, segments, rows;
    int64_t pieces, blocks; /* blocks of a group */
} dw_cut;

/* The blocks of a group that there may be, where the device holds `resident` at a time. They
 * come in one wave, so that all end together and what they add up stays small. */
static inline int64_t dw_most_blocks(int channels, int resident)
{
    const int groups = (channels / 2 + DW_LANES - 1) / DW_LANES;
    return groups < resident ? resident / (groups ? groups : 1) : 1;
}

/* Of n images, `height` lines of `strips` strips. A piece costs its lines and `halo` more. */
static inline dw_cut dw_cut_of(int channels, int64_t n, int height, int strips, int resident,
                               int halo)
{
    const int pairs = channels / 2;
    dw_cut cut = {};
    int64_t best = 0;

    cut.groups = (pairs + DW_LANES - 1) / DW_LANES;
    cut.lanes = (pairs + cut.groups - 1) / cut.groups;
    cut.slots = DW_THREADS / cut.lanes;
    cut.strips = strips;
    const int64_t most = dw_most_blocks(channels, resident) * cut.slots;
    for (int rows = height; rows > 0; rows--) {
        const int segments = (height + rows - 1) / rows;
        const int64_t pieces = n * segments * strips, walks = (pieces + most - 1) / most;
        const int64_t cost = walks * (rows + halo), round = walks * cut.slots;
        if (best && cost >= best) continue;
        best = cost;
        cut.rows = rows;
        cut.segments = segments;
        cut.pieces = pieces;
        cut.blocks = (pieces + round - 1) / round;
    }
    return cut;
}

/* Where a piece lies. */
typedef struct dw_piece {
    int64_t image;
    int strip, row, rows;
} dw_piece;

__device__ static inline dw_piece dw_piece_at(const dw_cut &cut, int64_t piece, int height)
{
    dw_piece at;
    const int64_t line = piece / cut.strips;
    at.strip = (int)(piece % cut.strips);
    at.image = line / cut.segments;
    at.row = (int)(line % cut.segments) * cut.rows;
    at.rows = min(cut.rows, height - at.row);
    return at;
}

/* to[i][channels] of the block = what its slots have in v[i], for COUNT vectors. All threads
 * must call. */
template <int COUNT>
__device__ static inline void dw_block_sums(float *to, const float (&v)[COUNT][2],
                                            const dw_cut &cut, int channels)
{
    __shared__ float all[2 * COUNT][DW_THREADS];
    const int threads = cut.lanes * cut.slots, across = 2 * cut.lanes;
    const int thread = threadIdx.y * cut.lanes + threadIdx.x;

#pragma unroll
    for (int i = 0; i < 2 * COUNT; i++) all[i][thread] = v[i / 2][i % 2];
    __syncthreads();
    for (int k = thread; k < COUNT * across; k += threads) {
        const int i = k / across, inner = k % across;
        const int channel = blockIdx.y * across + inner;
        float sum = 0;
        for (int slot = 0; slot < cut.slots; slot++)
            sum += all[2 * i + inner % 2][slot * cut.lanes + inner / 2];
        if (channel < channels) to[(int64_t)i * channels + channel] = sum;
    }
}

/* --- number by number */

static inline unsigned dw_plain_blocks(int64_t pixels)
{
    const int64_t blocks = (pixels + DW_PLAIN_ROWS - 1) / DW_PLAIN_ROWS;
    return blocks < DW_PLAIN_BLOCKS ? (unsigned)blocks : (unsigned)DW_PLAIN_BLOCKS;
}

/* The sum of a column of threads of a block of DW_LANES x DW_PLAIN_ROWS; all must call. */
__device__ static inline float dw_column_sum(float v)
{
    __shared__ float rows[DW_PLAIN_ROWS][DW_LANES];
    rows[threadIdx.y][threadIdx.x] = v;
    __syncthreads();
    float sum = 0;
    for (int i = 0; i < DW_PLAIN_ROWS; i++) sum += rows[i][threadIdx.x];
    __syncthreads();
    return sum;
}

#endif
