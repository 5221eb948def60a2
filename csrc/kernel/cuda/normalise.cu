#include "kernel/cuda/pixels.h"

#include <string.h>

/* normalise_u8: its scale and shift travel as arguments, so many channels at a time. */

enum { NORMALISED = 128 };
struct normalisation {
    float scale[NORMALISED], shift[NORMALISED];
};

template <class T> struct normalise {
    pixel_rows<T> y;
    const uint8_t *x;
    int64_t x_stride;
    normalisation n;

    template <int V> struct channels {
        float scale[V], shift[V];
    };
    template <int V> __device__ channels<V> at(int c) const
    {
        channels<V> k;
        get_vector<V>(k.scale, n.scale + c);
        get_vector<V>(k.shift, n.shift + c);
        return k;
    }
    template <int V> __device__ void run(const channels<V> &k, int64_t p, int c) const
    {
        float v[V];
#pragma unroll
        for (int i = 0; i < V; i++)
            v[i] = (float)x[p * x_stride + c + i] * k.scale[i] + k.shift[i];
        put<V>(y.at(p, c), v);
    }
};

/* Without gaps, and few channels: eight numbers at a time of whatever channels they are. */
template <class T>
__global__ static void normalise_dense(T *y, const uint8_t *x, int64_t eights, int channels,
                                       normalisation n)
{
    __shared__ normalisation own;
    for (int c = threadIdx.x; c < channels; c += blockDim.x) {
        own.scale[c] = n.scale[c];
        own.shift[c] = n.shift[c];
    }
    __syncthreads();
    for (int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; i < eights;
         i += (int64_t)gridDim.x * blockDim.x) {
        const uint2 raw = *(const uint2 *)(x + 8 * i);
        float v[8];
        int c;
        (void)divide(8 * i, channels, &c);
#pragma unroll
        for (int j = 0; j < 8; j++) {
            const unsigned byte = ((j < 4 ? raw.x : raw.y) >> (8 * (j % 4))) & 255;
            v[j] = (float)byte * own.scale[c] + own.shift[c];
            c = c + 1 < channels ? c + 1 : 0;
        }
        store_eight(y + 8 * i, v);
    }
}

/* Three numbers of a pixel that begins at an even one. */
__device__ static inline void put_three(float *p, const float v[3])
{
    for (int i = 0; i < 3; i++) p[i] = v[i];
}
__device__ static inline void put_three(bfloat16 *p, const float v[3])
{
    *(__nv_bfloat162 *)p = __floats2bfloat162_rn(v[0], v[1]);
    put_number(p + 2, v[2]);
}

/* Three channels of pixels that are wider, as convolutions want images: a thread asks for all
 * of its pixels before it stores the first. What is behind the channels is left alone. */
enum { PIXELS_AT_ONCE = 4 };
template <class T>
__global__ static void normalise_three(pixel_rows<T> y, const uint8_t *x, int64_t pixels,
                                       normalisation n)
{
    facs_cuda_begin();
    const int64_t step = (int64_t)gridDim.x * blockDim.x;
    for (int64_t first = (int64_t)blockIdx.x * blockDim.x + threadIdx.x; first < pixels;
         first += PIXELS_AT_ONCE * step) {
        uint8_t bytes[PIXELS_AT_ONCE][3];
#pragma unroll
        for (int k = 0; k < PIXELS_AT_ONCE; k++) {
            const int64_t p = first + k * step;
            const uint8_t *from = x + 3 * (p < pixels ? p : first);
            for (int i = 0; i < 3; i++) bytes[k][i] = from[i];
        }
#pragma unroll
        for (int k = 0; k < PIXELS_AT_ONCE; k++) {
            const int64_t p = first + k * step;
            float v[3];
#pragma unroll
            for (int i = 0; i < 3; i++) v[i] = (float)bytes[k][i] * n.scale[i] + n.shift[i];
            if (p < pixels) put_three(y.at(p, 0), v);
        }
    }
}

template <class T>
void facs_cuda_rows<T>::normalise_u8(const facs_context *, const facs_tensor *y,
                                     const uint8_t *x, const float *scale, const float *shift)
{
    const int64_t pixels = facs_tensor_pixels(y), numbers = pixels * y->c;
    const int dense = y->stride == y->c && numbers % 8 == 0 && (uintptr_t)x % 8 == 0 &&
                      (uintptr_t)y->data % (8 * sizeof(T)) == 0;

    for (int first = 0; first < y->c; first += NORMALISED) {
        const int count = y->c - first < NORMALISED ? y->c - first : NORMALISED;
        pixel_rows<T> rows = rows_of<T>(y);
        normalise<T> f = {rows, x + first, y->c, {}};
        f.y.data += first;
        memcpy(f.n.scale, scale + first, (size_t)count * sizeof *scale);
        memcpy(f.n.shift, shift + first, (size_t)count * sizeof *shift);
        if (dense && y->c <= NORMALISED && numbers) {
            FACS_LAUNCH(normalise_dense<T>, map_blocks(numbers / 8), PIXEL_THREADS, 0,
                        rows.data, x, numbers / 8, y->c, f.n);
            return;
        }
        if (y->c == 3 && y->stride % 2 == 0 && (uintptr_t)y->data % (2 * sizeof(T)) == 0 &&
            pixels) {
            FACS_LAUNCH_BEGINNING("normalise_u8", normalise_three<T>,
                                  map_blocks(ceil_divide(pixels, PIXELS_AT_ONCE)),
                                  PIXEL_THREADS, 0, rows, x, pixels, f.n);
            return;
        }
        for_each_pixel("normalise_u8", f, pixels, count, all_by_eight(count, f.y));
    }
}
FACS_CUDA_ROW(normalise_u8)
