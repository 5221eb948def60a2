#include "kernel/cuda/pixels.h"

/* Partial sums of blocks become results. These launches are short and many, so that what they
 * take is the latency of memory: a thread asks for all that it adds at once, V neighbouring
 * numbers of every ROWS-th block. Warps and then the block add their rows up, always in the
 * same order, in double; sums of which there are many are few blocks' and stay in float. */

enum { SUM_THREADS = 256, SUM_WARPS = SUM_THREADS / 32 };

/* Adds V numbers of blocks `block`, block + step, ... to sums; AT_ONCE of them are asked for
 * before the first is added. Behind the last the first is read again, since a load under a
 * condition would wait for those before it. */
template <int V, int AT_ONCE, class Sum>
__device__ static void add_blocks(Sum sums[V], const float *numbers, int64_t pitch, int block,
                                  int blocks, int step)
{
    for (; block < blocks; block += AT_ONCE * step) {
        float v[AT_ONCE][V];
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++) {
            const int wanted = block + k * step;
            get_numbers<V>(v[k], numbers + (wanted < blocks ? wanted : block) * pitch);
        }
#pragma unroll
        for (int k = 0; k < AT_ONCE; k++)
#pragma unroll
            for (int i = 0; i < V; i++)
                if (block + k * step < blocks) sums[i] += v[k][i];
    }
}

/* Which of COLUMNS columns of numbers a thread starts with, and which row it is in. */
template <int V, int COLUMNS> struct deal {
    enum { LANES = COLUMNS / V, ROWS = SUM_THREADS / LANES };
    static_assert(LANES <= 32, "a warp holds whole rows");

    __device__ static int column() { return (int)threadIdx.x % LANES * V; }
    __device__ static int row() { return (int)threadIdx.x / LANES; }
};

/* The sum of column threadIdx.x over the threads' sums, where there is one; all must call. */
template <int V, int COLUMNS> __device__ static double over_rows(double sums[V])
{
    typedef deal<V, COLUMNS> d;
    __shared__ double warps[SUM_WARPS][COLUMNS];
    double sum = 0;

#pragma unroll
    for (int apart = d::LANES; apart < 32; apart *= 2)
#pragma unroll
        for (int i = 0; i < V; i++) sums[i] += __shfl_xor_sync(~0u, sums[i], apart);
    if (threadIdx.x % 32 < d::LANES)
#pragma unroll
        for (int i = 0; i < V; i++) warps[threadIdx.x / 32][d::column() + i] = sums[i];
    __syncthreads();
    if (threadIdx.x < COLUMNS)
#pragma unroll
        for (int i = 0; i < SUM_WARPS; i++) sum += warps[i][threadIdx.x];
    return sum;
}

/* --- a channel's two sums over partials [blocks][2][channels] */

enum { PAIRS = 8 }; /* channels of a block */

/* F has at(channel), what it reads of the results, and run(that, channel, first sum, second
 * sum). */
template <int V, class F>
__global__ static void __launch_bounds__(SUM_THREADS, 4)
    sum_pairs(F f, const float *partials, int blocks, int channels)
{
    facs_cuda_begin();
    typedef deal<V, 2 * PAIRS> d;
    const int part = d::column() / PAIRS, c = (int)blockIdx.x * PAIRS + d::column() % PAIRS;
    const int own = (int)blockIdx.x * PAIRS + (int)threadIdx.x;
    const int owns = threadIdx.x < PAIRS && own < channels;
    typename F::channel kept = {};
    double sums[V] = {};

    if (owns) kept = f.at(own);
    if (c < channels)
        add_blocks<V, 8>(sums, partials + (int64_t)part * channels + c, 2 * (int64_t)channels,
                         d::row(), blocks, d::ROWS);
    const double first = over_rows<V, 2 * PAIRS>(sums);
    if (threadIdx.x >= 32) return;
    const double second = __shfl_down_sync(~0u, first, PAIRS);
    if (owns) f.run(kept, own, first, second);
}

template <class F>
static void sum_all_pairs(const F &f, const float *partials, int blocks, int channels)
{
    const unsigned grid = facs_cuda_blocks(channels, PAIRS);
    if (channels % 4 == 0 && (uintptr_t)partials % 16 == 0)
        FACS_LAUNCH_BEGINNING("sum_pairs", (sum_pairs<4, F>), grid, SUM_THREADS, 0, f, partials,
                              blocks, channels);
    else
        FACS_LAUNCH_BEGINNING("sum_pairs", (sum_pairs<1, F>), grid, SUM_THREADS, 0, f, partials,
                              blocks, channels);
}

struct norm_sums {
    float *sum, *weighted;

    struct channel {
        float sum, weighted;
    };
    __device__ channel at(int c) const { return {sum[c], weighted[c]}; }
    __device__ channel run(const channel &k, int c, double first, double second) const
    {
        const channel total = {k.sum + (float)first, k.weighted + (float)second};
        sum[c] = total.sum;
        weighted[c] = total.weighted;
        return total;
    }
};

struct last_norm_sums {
    norm_sums sums;
    facs_cuda_norm_end end;

    struct channel {
        norm_sums::channel sums;
        facs_cuda_norm_end::channel end;
    };
    __device__ channel at(int c) const { return {sums.at(c), end.at(c)}; }
    __device__ void run(const channel &k, int c, double first, double second) const
    {
        const norm_sums::channel total = sums.run(k.sums, c, first, second);
        end.run(k.end, c, total.sum, total.weighted);
    }
};

void facs_cuda_add_norm_sums(const float *partials, int64_t blocks, int channels,
                             const facs_norm *norm)
{
    const norm_sums sums = {norm->sum, norm->weighted};
    if (norm->end.count)
        sum_all_pairs(last_norm_sums{sums, facs_cuda_norm_end_of(*norm, norm->end)}, partials,
                      (int)blocks, channels);
    else
        sum_all_pairs(sums, partials, (int)blocks, channels);
}

struct moments {
    float *mean, *variance;
    double share; /* of a pixel */

    struct channel {
        float mean, variance;
    };
    __device__ channel at(int) const { return {}; }
    __device__ channel run(const channel &, int c, double first, double second) const
    {
        const double centre = first * share, spread = second * share - centre * centre;
        const channel found = {(float)centre, spread < 0 ? 0 : (float)spread}; /* NaN stays */
        mean[c] = found.mean;
        variance[c] = found.variance;
        return found;
    }
};

struct beginning_moments {
    moments taken;
    facs_cuda_norm_begin begin;
    int channels;

    typedef facs_cuda_norm_begin::channel channel;
    __device__ channel at(int c) const { return begin.at(c); }
    __device__ void run(const channel &k, int c, double first, double second) const
    {
        const moments::channel found = taken.run({}, c, first, second);
        begin.run(k, c, channels, found.mean, found.variance);
    }
};

void facs_cuda_finish_moments(const float *partials, int64_t blocks, int channels,
                              int64_t pixels, const facs_moments *to)
{
    const moments taken = {to->mean, to->variance, 1 / (double)pixels};
    if (to->begin.sums)
        sum_all_pairs(
            beginning_moments{taken, facs_cuda_norm_begin_of(to->begin, pixels), channels},
            partials, (int)blocks, channels);
    else
        sum_all_pairs(taken, partials, (int)blocks, channels);
}

/* --- sums over partials [blocks][count] */

template <int V, int COLUMNS, int AT_ONCE>
__global__ static void __launch_bounds__(SUM_THREADS, 4)
    sum_blocks(float *out, const float *partials, int blocks, int64_t count)
{
    facs_cuda_begin();
    typedef deal<V, COLUMNS> d;
    const int64_t i = (int64_t)blockIdx.x * COLUMNS + d::column();
    const int64_t own = (int64_t)blockIdx.x * COLUMNS + threadIdx.x;
    double sums[V] = {};

    if (i < count) add_blocks<V, AT_ONCE>(sums, partials + i, count, d::row(), blocks, d::ROWS);
    const double sum = over_rows<V, COLUMNS>(sums);
    if (threadIdx.x < COLUMNS && own < count) out[own] = (float)sum;
}

/* The same where there are more sums than a GPU has threads. */
template <int V>
__global__ static void __launch_bounds__(SUM_THREADS, 4)
    sum_many(float *out, const float *partials, int blocks, int64_t count)
{
    facs_cuda_begin();
    const int64_t i = ((int64_t)blockIdx.x * blockDim.x + threadIdx.x) * V;
    float sums[V] = {};
    if (i >= count) return;
    add_blocks<V, 8>(sums, partials + i, count, 0, blocks, 1);
    put_numbers<V>(out + i, sums);
}

template <int V>
static void sum_by(float *out, const float *partials, int blocks, int64_t count)
{
    static const int64_t SOME = 1 << 13, MANY = 1 << 18;
    enum { AT_ONCE = V == 4 ? 8 : 16 };
    if (count >= MANY)
        FACS_LAUNCH_BEGINNING("sum_many", sum_many<V>, facs_cuda_blocks(count, V * SUM_THREADS),
                              SUM_THREADS, 0, out, partials, blocks, count);
    else if (count >= SOME)
        FACS_LAUNCH_BEGINNING("sum_blocks", (sum_blocks<V, 16 * V, 4>),
                              facs_cuda_blocks(count, 16 * V), SUM_THREADS, 0, out, partials,
                              blocks, count);
    else
        FACS_LAUNCH_BEGINNING("sum_blocks", (sum_blocks<V, 16, AT_ONCE>),
                              facs_cuda_blocks(count, 16), SUM_THREADS, 0, out, partials,
                              blocks, count);
}

void facs_cuda_sum_blocks(float *out, const float *partials, int64_t blocks, int64_t count)
{
    if (count % 4 == 0 && ((uintptr_t)out | (uintptr_t)partials) % 16 == 0)
        sum_by<4>(out, partials, (int)blocks, count);
    else
        sum_by<1>(out, partials, (int)blocks, count);
}
