#ifndef FACS_KERNEL_CUDA_CONV_END_CUH
#define FACS_KERNEL_CUDA_CONV_END_CUH

#include "kernel/cuda/tile.cuh"

#include <math.h>

/* What becomes of the sums of a product's tile: its end. An end has
 *     NORMED, whether what is multiplied may have a norm,
 *     AHEAD, how many rows a thread looks ahead for at a time,
 *     channels_of(column), what a thread keeps of its eight channels,
 *     look(row, column), what it reads beside the sums,
 *     finish(...), which writes eight numbers and adds to two sums of each channel, and
 *     centre(column, first, second), what becomes of these at the end of a tile. */

/* Forward: bias, clamp, moments. */
template <class T> struct forward_end {
    T *y;
    int64_t stride;
    int columns, wide;
    const float *bias;
    facs_clamp clamp;
    int plain;       /* neither a bias nor a clamp */
    float *partials; /* [blocks][2][columns] or NULL */

    static const bool NORMED = true;
    static const int AHEAD = 4;
    struct channels {
        float bias[8];
    };
    struct ahead {
    };

    __device__ channels channels_of(int column) const
    {
        channels c;
#pragma unroll
        for (int i = 0; i < 8; i++)
            c.bias[i] = bias && column + i < columns ? __ldg(bias + column + i) : 0;
        return c;
    }

    __device__ ahead look(int64_t, int) const
    {
        return ahead();
    }

    __device__ void centre(int, const float[8], float[8]) const {}

    __device__ void finish(int64_t row, int column, float v[8], const channels &c,
                           const ahead &, float first[8], float second[8]) const
    {
        T *to = y + row * stride + column;
        if (!plain)
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] = clamped(v[i] + c.bias[i], clamp);
        const eight<T> stored = packed_of<T>(v);
        if (wide)
            *(eight<T> *)to = stored;
        else
            for (int i = 0; i < 8 && column + i < columns; i++) put_number(to + i, v[i]);
        if (partials) unpack(v, stored);
        if (partials)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                first[i] += v[i];
                second[i] += v[i] * v[i];
            }
    }
};

template <class T>
static inline forward_end<T> forward_end_of(const facs_tensor *y, const float *bias,
                                            facs_clamp clamp, float *partials)
{
    const int plain = !bias && clamp.low == -INFINITY && clamp.high == INFINITY;
    return forward_end<T>{data_of<T>(*y), y->stride, y->c,  facs_cuda_by_eight<T>(y),
                          bias,           clamp,     plain, partials};
}

/* Backward: through the norm of what the convolution read, with its sums. */
template <class T> struct backward_end {
    T *dx; /* or NULL */
    const T *x;
    int64_t dx_stride, x_stride;
    int columns, wide, accumulate;
    facs_norm norm;
    float *partials;

    static const bool NORMED = false;
    static const int AHEAD = 2;
    struct channels {
        float scale[8], shift[8];
    };
    struct ahead {
        eight<T> x, before;
    };

    __device__ channels channels_of(int column) const
    {
        channels c;
        if (norm.scale)
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int at = column + i < columns ? column + i : column;
                c.scale[i] = __ldg(norm.scale + at);
                c.shift[i] = __ldg(norm.shift + at);
            }
        return c;
    }

    /* From sums of h and h x to those of h and h (x - mean). */
    __device__ void centre(int column, const float first[8], float second[8]) const
    {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (column + i < columns) second[i] -= first[i] * __ldg(norm.mean + column + i);
    }

    __device__ ahead look(int64_t row, int column) const
    {
        ahead a;
        const int count = columns - column;
        if (norm.scale) a.x = fetch_eight(x + row * x_stride + column, count, wide);
        if (dx && accumulate)
            a.before = fetch_eight<T>(dx + row * dx_stride + column, count, wide);
        return a;
    }

    __device__ void finish(int64_t row, int column, float v[8], const channels &c,
                           const ahead &a, float first[8], float second[8]) const
    {
        if (norm.scale) {
            float seen[8];
            unpack(seen, a.x);
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const float y = c.scale[i] * seen[i] + c.shift[i];
                const float h = y > norm.clamp.low && y < norm.clamp.high ? v[i] : 0;
                first[i] += h;
                second[i] += h * seen[i];
                v[i] = c.scale[i] * h;
            }
        }
        if (!dx) return;
        T *to = dx + row * dx_stride + column;
        if (accumulate) {
            float before[8];
            unpack(before, a.before);
#pragma unroll
            for (int i = 0; i < 8; i++) v[i] += before[i];
        }
        if (wide)
            store_eight(to, v);
        else
            for (int i = 0; i < 8 && column + i < columns; i++) put_number(to + i, v[i]);
    }
};

/* Where packed weights have a column. Those of bfloat16 are dealt so that a thread of a warp
 * finds eight neighbouring columns in its part of the sums of 32: two of each eight by
 * mma.sync. */
template <class T> __host__ __device__ static inline int dealt_column(int packed);
template <> __host__ __device__ inline int dealt_column<float>(int packed)
{
    return packed;
}
template <> __host__ __device__ inline int dealt_column<bfloat16>(int packed)
{
    return packed / 32 * 32 + packed % 8 / 2 * 8 + packed % 32 / 8 * 2 + packed % 2;
}

/* Eight columns from `chunk` on of a row of spilled sums. */
template <class T>
__device__ static inline void load_sums(float v[8], const float *row, int chunk)
{
    if constexpr (sizeof(T) == 4) {
        load_eight(v, row + chunk);
    } else {
        const float2 *pairs = (const float2 *)(row + chunk / 32 * 32 + chunk % 32 / 8 * 2);
#pragma unroll
        for (int i = 0; i < 4; i++) v[2 * i] = pairs[4 * i].x, v[2 * i + 1] = pairs[4 * i].y;
    }
}

/* The sums of a column of threads' eight channels, each added to the total of one thread:
 * thread (which, column) of 2 x COLUMNS. All threads must call. */
template <int COLUMNS>
__device__ static inline float tile_totals(float *shared, float first[8], float second[8])
{
    const int across = COLUMNS / 8, lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    const int chunk = threadIdx.x % across;

#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int distance = 16; distance >= across; distance /= 2) {
            first[i] += __shfl_xor_sync(0xffffffffu, first[i], distance);
            second[i] += __shfl_xor_sync(0xffffffffu, second[i], distance);
        }
    __syncthreads();
    if (lane < across)
#pragma unroll
        for (int i = 0; i < 8; i++) {
            shared[2 * warp * COLUMNS + chunk * 8 + i] = first[i];
            shared[(2 * warp + 1) * COLUMNS + chunk * 8 + i] = second[i];
        }
    __syncthreads();
    if ((int)threadIdx.x >= 2 * COLUMNS) return 0;
    const int which = threadIdx.x / COLUMNS, column = threadIdx.x % COLUMNS;
    float sum = 0;
#pragma unroll
    for (int i = 0; i < THREADS / 32; i++) sum += shared[(2 * i + which) * COLUMNS + column];
    return sum;
}

/* The pixels of a tile's rows, in order: row i is pixel at(i), or none for -1, as are all from
 * `count` on. */
struct following_rows {
    int64_t first;
    int count;

    __device__ int64_t at(int i) const { return i < count ? first + i : -1; }
};

__device__ static inline following_rows rows_from(int64_t first, int64_t rows, int most)
{
    return following_rows{first, rows - first < most ? (int)(rows - first) : most};
}

/* Ends a tile whose sums lie at `sums`. Returns what the thread adds to its total. All threads
 * must call; the shared memory is free again behind the next __syncthreads. */
template <class T, int COLUMNS, class End>
__device__ static inline float finish_tile(const End &end, float *sums,
                                           const following_rows &places, int first_column)
{
    static const int STEP = THREADS / (COLUMNS / 8), AHEAD = End::AHEAD;
    static const int STRIDE = spilled<COLUMNS>::STRIDE;
    const int chunk = (int)threadIdx.x % (COLUMNS / 8) * 8, column = first_column + chunk;
    float first[8] = {0}, second[8] = {0};

    if (column < end.columns) {
        const typename End::channels c = end.channels_of(column);
#pragma unroll 1
        for (int i = (int)threadIdx.x / (COLUMNS / 8); i < places.count; i += AHEAD * STEP) {
            typename End::ahead a[AHEAD];
            int64_t row[AHEAD];
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                row[j] = places.at(i + j * STEP);
                if (row[j] >= 0) a[j] = end.look(row[j], column);
            }
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                float v[8];
                if (row[j] < 0) continue;
                load_sums<T>(v, sums + (i + j * STEP) * STRIDE, chunk);
                end.finish(row[j], column, v, c, a[j], first, second);
            }
        }
    }
    if (!end.partials) return 0;
    end.centre(column, first, second);
    return tile_totals<COLUMNS>(sums, first, second);
}

/* Writes the block's totals of all its tiles. */
template <int COLUMNS>
__device__ static inline void write_totals(float *partials, int columns, int first_column,
                                           float total)
{
    const int which = threadIdx.x / COLUMNS, column = first_column + threadIdx.x % COLUMNS;
    if (which < 2 && column < columns)
        partials[((int64_t)blockIdx.x * 2 + which) * columns + column] = total;
}

#endif
