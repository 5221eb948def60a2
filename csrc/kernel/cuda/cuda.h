#ifndef FACS_KERNEL_CUDA_CUDA_H
#define FACS_KERNEL_CUDA_CUDA_H

extern "C" {
#include "kernel/plugin.h"
}

#include "kernel/cuda/launch.h"
#include "kernel/cuda/ptx.h"

/* What the kernels of CUDA share. Every tensor, vector and scratch is in the device's memory
 * except scale and shift of normalise_u8 and the structs that describe a call.
 * Kernels take structs of the table by value; numbers are computed in float. */

typedef __nv_bfloat16 bfloat16;

/* The rows of a device for tensors of T; each file of this folder defines some of them. */
template <class T> struct facs_cuda_rows {
#define KERNEL(type, name, arguments) static type name arguments;
#include "kernel/kernel.def"
#undef KERNEL
};

/* To be named once for every row, behind its definition. */
#define FACS_CUDA_ROW(name)                                                                    \
    template decltype(facs_cuda_rows<float>::name) facs_cuda_rows<float>::name;                \
    template decltype(facs_cuda_rows<bfloat16>::name) facs_cuda_rows<bfloat16>::name;

/* Whether convolutions of float32 go through the tensor cores, rounded to TF32: where
 * FACS_CUDA_TF32 was 1 when the plugin was opened. */
int facs_cuda_tf32(void);

/* Of an H100 or H200, for which work is cut; other GPUs take more or fewer rounds. */
#ifndef FACS_CUDA_MULTIPROCESSORS
#    define FACS_CUDA_MULTIPROCESSORS 132
#endif
enum { MULTIPROCESSORS = FACS_CUDA_MULTIPROCESSORS };

static inline unsigned facs_cuda_blocks(int64_t items, int per_block)
{
    return (unsigned)((items + per_block - 1) / per_block);
}

/* --- numbers of a tensor */

__device__ static inline float number_of(float x)
{
    return x;
}
__device__ static inline float number_of(bfloat16 x)
{
    return __bfloat162float(x);
}
__device__ static inline void put_number(float *to, float x)
{
    *to = x;
}
__device__ static inline void put_number(bfloat16 *to, float x)
{
    *to = __float2bfloat16_rn(x);
}

/* Eight neighbouring numbers, aligned to their size. */
__device__ static inline void load_eight(float v[8], const float *p)
{
    const float4 a = ((const float4 *)p)[0], b = ((const float4 *)p)[1];
    v[0] = a.x, v[1] = a.y, v[2] = a.z, v[3] = a.w;
    v[4] = b.x, v[5] = b.y, v[6] = b.z, v[7] = b.w;
}
__device__ static inline void store_eight(float *p, const float v[8])
{
    ((float4 *)p)[0] = make_float4(v[0], v[1], v[2], v[3]);
    ((float4 *)p)[1] = make_float4(v[4], v[5], v[6], v[7]);
}
__device__ static inline void load_eight(float v[8], const bfloat16 *p)
{
    const uint4 raw = *(const uint4 *)p;
    const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        v[2 * i] = __uint_as_float(words[i] << 16);
        v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
    }
}
__device__ static inline void store_eight(bfloat16 *p, const float v[8])
{
    unsigned words[4];
#pragma unroll
    for (int i = 0; i < 4; i++) {
        const __nv_bfloat162 pair = __floats2bfloat162_rn(v[2 * i], v[2 * i + 1]);
        words[i] = *(const unsigned *)&pair;
    }
    *(uint4 *)p = make_uint4(words[0], words[1], words[2], words[3]);
}

/* Whether all of a tensor can be read eight numbers at a time. */
template <class T> static inline int facs_cuda_by_eight(const facs_tensor *t)
{
    return t->c % 8 == 0 && t->stride % 8 == 0 && (uintptr_t)t->data % (8 * sizeof(T)) == 0;
}

template <class T> __host__ __device__ static inline T *data_of(const facs_tensor &t)
{
    return (T *)(void *)t.data;
}

__device__ static inline float clamped(float x, facs_clamp clamp)
{
    return clamped_between(x, clamp.low, clamp.high);
}

/* x of channel c as the reader of a norm sees it */
__device__ static inline float normed(const facs_norm &norm, float x, int c)
{
    return clamped(norm.scale[c] * x + norm.shift[c], norm.clamp);
}

/* Whether a gradient passes the norm's activation at x. */
__device__ static inline int passes(const facs_norm &norm, float x, int c)
{
    const float y = norm.scale[c] * x + norm.shift[c];
    return y > norm.clamp.low && y < norm.clamp.high;
}

/* Structs of optional arguments by value: scale, slope or mean is NULL where there are none. */
static inline facs_norm facs_cuda_norm(const facs_norm *norm)
{
    return norm ? *norm : facs_norm{};
}
typedef struct correction_value {
    const void *y; /* of the tensor's type */
    int64_t stride;
    const float *slope, *offset;
} correction_value;
static inline correction_value facs_cuda_correction(const facs_correction *correction)
{
    if (!correction) return correction_value{};
    return correction_value{correction->y->data, correction->y->stride, correction->slope,
                            correction->offset};
}

/* What a correction that there is adds to dy at channel c of a pixel. */
template <class T>
__device__ static inline float due_of(const correction_value &correction, int64_t pixel, int c)
{
    const T *y = (const T *)correction.y + pixel * correction.stride;
    return correction.slope[c] * number_of(y[c]) + correction.offset[c];
}

/* --- sums of threads, for all of them; all must call */

template <class T> __device__ static inline T warp_sum(T x)
{
    for (int apart = 16; apart; apart /= 2) x += __shfl_xor_sync(~0u, x, apart);
    return x;
}

template <int THREADS, class T> __device__ static inline T block_sum(T x)
{
    __shared__ T warps[THREADS / 32];
    x = warp_sum(x);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = x;
    __syncthreads();
    x = 0;
    for (int i = 0; i < THREADS / 32; i++) x += warps[i];
    __syncthreads();
    return x;
}

/* --- what follows the moments of a norm's input, for a channel */

/* As batchnorm_fold; returns the scale. */
__device__ static inline double facs_cuda_fold(float *scale, float *shift, float gamma,
                                               float beta, float mean, float variance,
                                               float epsilon)
{
    const double factor = gamma * rsqrt((double)variance + epsilon);
    *scale = (float)factor;
    *shift = (float)(beta - mean * factor);
    return factor;
}

struct facs_cuda_norm_begin {
    facs_norm_begin to;
    float unbiased;

    struct channel {
        float gamma, beta, running_mean, running_variance;
    };
    __device__ channel at(int c) const
    {
        return {to.gamma[c], to.beta[c], to.running_mean[c], to.running_variance[c]};
    }
    __device__ void run(const channel &k, int c, int channels, float mean, float variance) const
    {
        to.running_mean[c] = k.running_mean + to.momentum * (mean - k.running_mean);
        to.running_variance[c] =
            k.running_variance + to.momentum * (variance * unbiased - k.running_variance);
        to.sums[c] = to.sums[channels + c] = 0;
        (void)facs_cuda_fold(to.scale + c, to.shift + c, k.gamma, k.beta, mean, variance,
                             to.epsilon);
    }
};

static inline facs_cuda_norm_begin facs_cuda_norm_begin_of(const facs_norm_begin &begin,
                                                           int64_t count)
{
    return {begin, count > 1 ? (float)((double)count / (double)(count - 1)) : 1};
}

/* --- what follows a norm's sums, for a channel */

struct facs_cuda_norm_end {
    float *dgamma, *dbeta, *slope, *offset; /* dgamma and dbeta, or slope and offset, or NULL */
    const float *scale, *mean, *variance;
    float epsilon;
    double share; /* of a pixel */

    /* What is read, so that it can be asked for before the sums are there. */
    struct channel {
        float scale, mean, variance, slope, offset;
    };
    __device__ channel at(int c) const
    {
        return {scale[c], mean[c], variance[c], slope ? slope[c] : 0, slope ? offset[c] : 0};
    }
    __device__ void run(const channel &k, int c, float sum, float weighted) const
    {
        const double inverse = rsqrt((double)k.variance + epsilon);
        const double per_pixel = k.scale * share;
        const double factor = -per_pixel * weighted * inverse * inverse;
        if (dgamma) {
            dgamma[c] = (float)(weighted * inverse);
            dbeta[c] = sum;
        }
        if (!slope) return;
        slope[c] = k.slope + (float)factor;
        offset[c] = k.offset + (float)(-per_pixel * sum - factor * k.mean);
    }
};

static inline facs_cuda_norm_end facs_cuda_norm_end_of(const facs_norm &norm,
                                                       const facs_norm_end &end)
{
    return {end.dgamma, end.dbeta,    end.slope,   end.offset,           norm.scale,
            norm.mean,  end.variance, end.epsilon, 1 / (double)end.count};
}

/* --- sums over blocks, in their order, so that a result is the same every time */

/* sum[c] and weighted[c] += sums over blocks of partials [blocks][2][channels]; then what
 * norm->end says. */
void facs_cuda_add_norm_sums(const float *partials, int64_t blocks, int channels,
                             const facs_norm *norm);

/* mean and variance from partials [blocks][2][channels]: sums of y and of y^2 over `pixels`;
 * then what moments->begin says. */
void facs_cuda_finish_moments(const float *partials, int64_t blocks, int channels,
                              int64_t pixels, const facs_moments *moments);

/* out[i] = sum over blocks of partials [blocks][count]. */
void facs_cuda_sum_blocks(float *out, const float *partials, int64_t blocks, int64_t count);

#endif
