#include "kernel/cuda/cuda.h"

/* Partial sums of blocks become results. A block here owns 32 channels; its rows of threads
 * take blocks in turn and are added in their order. */

enum { LANES = 32, ROWS = 32 };

/* Adds the rows' sums of a channel, for the threads of row 0; all threads must call. */
__device__ static double over_rows(double sum)
{
    __shared__ double rows[ROWS][LANES];
    rows[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    sum = 0;
    for (int i = 0; i < ROWS; i++) sum += rows[i][threadIdx.x];
    __syncthreads();
    return sum;
}

/* A channel's two sums over partials [blocks][2][channels]. */
struct two_sums {
    double first, second;
};

__device__ static two_sums sums_of(const float *partials, int64_t blocks, int channels, int c)
{
    two_sums s = {0, 0};
    if (c < channels)
#pragma unroll 8
        for (int64_t b = threadIdx.y; b < blocks; b += ROWS) {
            s.first += partials[2 * b * channels + c];
            s.second += partials[(2 * b + 1) * channels + c];
        }
    s.first = over_rows(s.first);
    s.second = over_rows(s.second);
    return s;
}

__global__ static void add_norm_sums(float *sum, float *weighted, const float *partials,
                                     int64_t blocks, int channels)
{
    const int c = blockIdx.x * LANES + threadIdx.x;
    const two_sums s = sums_of(partials, blocks, channels, c);
    if (threadIdx.y || c >= channels) return;
    sum[c] += (float)s.first;
    weighted[c] += (float)s.second;
}

void facs_cuda_add_norm_sums(const float *partials, int64_t blocks, int channels,
                             const facs_norm *norm)
{
    FACS_LAUNCH(add_norm_sums, facs_cuda_blocks(channels, LANES), dim3(LANES, ROWS), 0,
                norm->sum, norm->weighted, partials, blocks, channels);
}

__global__ static void finish_moments(float *mean, float *variance, const float *partials,
                                      int64_t blocks, int channels, double pixels)
{
    const int c = blockIdx.x * LANES + threadIdx.x;
    const two_sums s = sums_of(partials, blocks, channels, c);
    if (threadIdx.y || c >= channels) return;
    const double centre = s.first / pixels, spread = s.second / pixels - centre * centre;
    mean[c] = (float)centre;
    variance[c] = spread > 0 ? (float)spread : spread != spread ? (float)spread : 0;
}

void facs_cuda_finish_moments(const float *partials, int64_t blocks, int channels,
                              int64_t pixels, const facs_moments *moments)
{
    FACS_LAUNCH(finish_moments, facs_cuda_blocks(channels, LANES), dim3(LANES, ROWS), 0,
                moments->mean, moments->variance, partials, blocks, channels, (double)pixels);
}

__global__ static void sum_blocks(float *out, const float *partials, int64_t blocks,
                                  int64_t count)
{
    const int64_t i = (int64_t)blockIdx.x * LANES + threadIdx.x;
    double sum = 0;
    if (i < count)
#pragma unroll 8
        for (int64_t b = threadIdx.y; b < blocks; b += ROWS) sum += partials[b * count + i];
    sum = over_rows(sum);
    if (!threadIdx.y && i < count) out[i] = (float)sum;
}

/* The same where there are more sums than a GPU has threads. */
__global__ static void sum_many(float *out, const float *partials, int64_t blocks,
                                int64_t count)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= count) return;
    float sum = 0;
#pragma unroll 8
    for (int64_t b = 0; b < blocks; b++) sum += partials[b * count + i];
    out[i] = sum;
}

static const int64_t MANY = 1 << 16;

void facs_cuda_sum_blocks(float *out, const float *partials, int64_t blocks, int64_t count)
{
    if (count >= MANY) {
        FACS_LAUNCH(sum_many, facs_cuda_blocks(count, 256), 256, 0, out, partials, blocks,
                    count);
        return;
    }
    FACS_LAUNCH(sum_blocks, facs_cuda_blocks(count, LANES), dim3(LANES, ROWS), 0, out, partials,
                blocks, count);
}
