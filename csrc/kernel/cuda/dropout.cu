#include "kernel/cuda/pixels.h"

extern "C" {
#include "core/philox.h"
#include "core/rng.h"
}

/* The same draws as the reference: a pixel is an item of the stream, and four channels take
 * the numbers of one counter, from the last to the first. */

template <class T> struct dropping {
    pixel_rows<T> y, x;
    float rate;
    uint64_t threshold; /* kept where 32 random bits are not below */
    uint32_t seed_low, seed_high, step;
    const uint32_t *draw;
    int accumulate;

    struct stream {
        uint32_t seed_low, seed_high, step;
    };
    template <int V> __device__ stream at(int) const
    {
        return draw ? stream{draw[0], draw[1], draw[2]} : stream{seed_low, seed_high, step};
    }
    __device__ float keep(const uint32_t numbers[4], int c, float x) const
    {
        return numbers[3 - c % 4] >= threshold ? x / (1 - rate) : 0;
    }
    __device__ void numbers_of(uint32_t numbers[4], const stream &s, int64_t p, int c) const
    {
        numbers[0] = (uint32_t)c / 4;
        numbers[1] = FACS_RNG_DROPOUT;
        numbers[2] = s.step;
        numbers[3] = (uint32_t)p;
        facs_philox(numbers, s.seed_low, s.seed_high);
    }
    template <int V> __device__ void run(const stream &s, int64_t p, int c) const
    {
        uint32_t numbers[4];
        float v[V];
        get<V>(v, x.at(p, c));
#pragma unroll
        for (int i = 0; i < V; i++) {
            if (i % 4 == 0) numbers_of(numbers, s, p, c + i);
            v[i] = keep(numbers, V == 1 ? c : i, v[i]);
        }
        put<V>(y.at(p, c), v, accumulate);
    }
};

template <class T>
void facs_cuda_rows<T>::dropout(const facs_context *ctx, const facs_tensor *y,
                                const facs_tensor *x, float rate, uint64_t seed, uint32_t step,
                                int accumulate)
{
    const dropping<T> f = {
        rows_of<T>(y),  rows_of<T>(x),          rate, (uint64_t)ceil((double)rate * 0x1p32),
        (uint32_t)seed, (uint32_t)(seed >> 32), step, ctx->draw,
        accumulate};
    for_each_pixel("dropout", f, facs_tensor_pixels(y), y->c, all_by_eight(y->c, f.y, f.x));
}
FACS_CUDA_ROW(dropout)
