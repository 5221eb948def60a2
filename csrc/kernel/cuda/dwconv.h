#ifndef FACS_KERNEL_CUDA_DWCONV_H
#define FACS_KERNEL_CUDA_DWCONV_H

#include "kernel/cuda/cuda.h"

#include <limits.h>

/* What both directions of the depthwise convolution share. With a 3x3 kernel and stride 1 or
 * 2 a thread owns two neighbouring channels and walks down a strip of pixels, with weights and
 * sums in registers. `lanes` threads take the channels of a strip, so that a warp
 * (threadIdx.x) has DW_LANES / lanes strips beside each other; a block is DW_WARPS of them
 * (threadIdx.y) and blockIdx.y tells which channels. Anything else is computed number by
 * number. */

enum { DW_LANES = 32, DW_WARPS = 4, DW_THREADS = DW_WARPS * DW_LANES, DW_COLUMNS = 7 };
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

/* i pixels behind p; one wide multiplication makes the address. */
template <class T>
__device__ static inline void store_pair(T *p, int i, int stride,
                                         typename dw_stored<T>::pair pair)
{
    *(typename dw_stored<T>::pair *)(p + (int64_t)i * stride) = pair;
}

/* Whether a tensor can be read by pairs, with ints to count pixels and to tell where a number
 * is in its image. */
template <class T> static inline int dw_by_pairs(const facs_tensor *t)
{
    return t->c % 2 == 0 && t->stride % 2 == 0 && (uintptr_t)t->data % (2 * sizeof(T)) == 0 &&
           (int64_t)(t->h + 2) * t->w * t->stride < INT_MAX && facs_tensor_pixels(t) < INT_MAX;
}

static inline int dw_is_3x3(const facs_conv *g)
{
    return g->kh == 3 && g->kw == 3 && (g->stride == 1 || g->stride == 2);
}

/* --- how a 3x3 convolution is cut */

/* A piece is `rows` lines of the strips of a warp in an image. */
typedef struct dw_cut {
    int lanes, groups;
    int strips, segments, rows; /* strips: those of a warp are one */
    int64_t pieces, blocks;     /* blocks of a group */
} dw_cut;

/* The most lanes that leave few of them without a channel. */
static inline int dw_lanes(int channels)
{
    const int pairs = channels / 2;
    int lanes = DW_LANES;
    for (; lanes > 4; lanes /= 2) {
        const int padded = (pairs + lanes - 1) / lanes * lanes;
        if (8 * (padded - pairs) <= pairs) break;
    }
    return lanes;
}
static inline int dw_groups(int channels)
{
    const int across = 2 * dw_lanes(channels);
    return (channels + across - 1) / across;
}

/* The blocks of a group that there may be, where the device holds `resident` at a time. They
 * come in one wave, so that all end together and what they add up stays small. */
static inline int64_t dw_most_blocks(int channels, int resident)
{
    const int groups = dw_groups(channels);
    return groups < resident ? resident / (groups ? groups : 1) : 1;
}

/* Of n images, `height` lines of `strips` strips. A piece costs its lines and `halo` more. */
static inline dw_cut dw_cut_of(int channels, int64_t n, int height, int strips, int resident,
                               int halo)
{
    const int64_t most = dw_most_blocks(channels, resident) * DW_WARPS;
    dw_cut cut = {};
    int64_t best = 0;

    cut.lanes = dw_lanes(channels);
    cut.groups = dw_groups(channels);
    const int together = DW_LANES / cut.lanes;
    cut.strips = (strips + together - 1) / together;
    for (int rows = height; rows > 0; rows--) {
        const int segments = (height + rows - 1) / rows;
        const int64_t pieces = n * segments * cut.strips, walks = (pieces + most - 1) / most;
        const int64_t cost = walks * (rows + halo), round = walks * DW_WARPS;
        if (best && cost >= best) continue;
        best = cost;
        cut.rows = rows;
        cut.segments = segments;
        cut.pieces = pieces;
        cut.blocks = (pieces + round - 1) / round;
    }
    return cut;
}

/* Which part of a strip a thread is. */
typedef struct dw_part {
    int strip, lane, lanes; /* the strip of the warp */
    int group, channel;     /* the first channels of the block and of the thread */
} dw_part;

__device__ static inline dw_part dw_part_of_thread(const dw_cut &cut)
{
    dw_part part;
    part.lanes = cut.lanes;
    part.strip = threadIdx.x / cut.lanes;
    part.lane = threadIdx.x % cut.lanes;
    part.group = 2 * blockIdx.y * cut.lanes;
    part.channel = part.group + 2 * part.lane;
    return part;
}

/* Where a thread's strip of a piece lies. */
typedef struct dw_piece {
    int image, strip, row, rows;
} dw_piece;

__device__ static inline dw_piece dw_piece_at(const dw_cut &cut, const dw_part &part, int piece,
                                              int height)
{
    dw_piece at;
    const int line = piece / cut.strips;
    at.strip = piece % cut.strips * (DW_LANES / cut.lanes) + part.strip;
    at.image = line / cut.segments;
    at.row = line % cut.segments * cut.rows;
    at.rows = min(cut.rows, height - at.row);
    return at;
}

/* A row of numbers of all threads, and a little so that two rows are in different banks. */
enum { DW_SUMS_ROW = DW_THREADS + DW_LANES / 2 };

/* to[i][channels] of the block = what its strips have in v[i], for COUNT vectors. All threads
 * must call; all[2 * COUNT] is in shared memory, where they may still be at other work. */
template <int COUNT>
__device__ static inline void dw_block_sums(float *to, const float (&v)[COUNT][2],
                                            float (*all)[DW_SUMS_ROW], const dw_cut &cut,
                                            int channels)
{
    const int across = 2 * cut.lanes, thread = threadIdx.y * DW_LANES + threadIdx.x;

    __syncthreads();
#pragma unroll
    for (int i = 0; i < 2 * COUNT; i++) all[i][thread] = v[i / 2][i % 2];
    __syncthreads();
    const int inner = thread % across, channel = blockIdx.y * across + inner;
    if (channel >= channels) return;
    for (int i = thread / across; i < COUNT; i += DW_THREADS / across) {
        const float *const of_strips = all[2 * i + inner % 2] + inner / 2;
        float sum = 0;
        for (int first = 0; first < DW_THREADS; first += cut.lanes) sum += of_strips[first];
        to[(int64_t)i * channels + channel] = sum;
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
