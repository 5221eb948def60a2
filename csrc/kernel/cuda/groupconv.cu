#include "kernel/cuda/pixels.h"

/* Grouped convolutions other than dense and depthwise, which no network here has: one sum for
 * each number of the result. */

__global__ static void pack(float *packed, const float *w, const float *scale, int64_t count,
                            int co)
{
    const int64_t i = (int64_t)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) packed[i] = scale ? w[i] * scale[i % co] : w[i];
}

template <class T>
void facs_cuda_rows<T>::groupconv_pack(float *packed, const facs_conv *g, const float *w,
                                       const float *scale)
{
    const int64_t count = (int64_t)g->kh * g->kw * (g->ci / g->groups) * g->co;
    FACS_LAUNCH(pack, facs_cuda_blocks(count, PIXEL_THREADS), PIXEL_THREADS, 0, packed, w,
                scale, count, g->co);
}
FACS_CUDA_ROW(groupconv_pack)

template <class T> struct group_output : keeps_nothing {
    facs_conv g;
    pixel_rows<T> y, x;
    const float *w, *bias;
    facs_clamp clamp;

    template <int V> __device__ void run(int, int64_t p, int o) const
    {
        const int inputs = g.ci / g.groups, first = o / (g.co / g.groups) * inputs;
        const place at = place_of(p, g.oh, g.ow);
        float sum[1] = {bias ? bias[o] : 0};

        for (int ky = 0; ky < g.kh; ky++)
            for (int kx = 0; kx < g.kw; kx++) {
                const int iy = at.y * g.stride - g.pad_top + ky;
                const int ix = at.x * g.stride - g.pad_left + kx;
                if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
                const T *pixel = x.at((at.n * g.h + iy) * g.w + ix, first);
                const float *tap = w + (int64_t)(ky * g.kw + kx) * inputs * g.co + o;
                for (int i = 0; i < inputs; i++)
                    sum[0] += number_of(pixel[i]) * tap[(int64_t)i * g.co];
            }
        sum[0] = clamped(sum[0], clamp);
        put<1>(y.at(p, o), sum);
    }
};

template <class T>
void facs_cuda_rows<T>::groupconv_fwd(const facs_context *, const facs_conv *g,
                                      const facs_tensor *y, const facs_tensor *x,
                                      const float *w, const float *bias, facs_clamp clamp)
{
    const group_output<T> f = {{}, *g, rows_of<T>(y), rows_of<T>(x), w, bias, clamp};
    for_each_pixel("groupconv_fwd", f, y->n * g->oh * g->ow, g->co, 0);
}
FACS_CUDA_ROW(groupconv_fwd)

template <class T> struct group_input_gradient : keeps_nothing {
    facs_conv g;
    pixel_rows<T> dx, dy;
    const float *w;
    int accumulate;

    template <int V> __device__ void run(int, int64_t p, int c) const
    {
        const int inputs = g.ci / g.groups, outputs = g.co / g.groups, group = c / inputs;
        const place at = place_of(p, g.h, g.w);
        float sum[1] = {0};

        for (int ky = 0; ky < g.kh; ky++)
            for (int kx = 0; kx < g.kw; kx++) {
                const int ty = at.y + g.pad_top - ky, tx = at.x + g.pad_left - kx;
                if (ty < 0 || tx < 0 || ty % g.stride || tx % g.stride ||
                    ty / g.stride >= g.oh || tx / g.stride >= g.ow)
                    continue;
                const T *pixel = dy.at((at.n * g.oh + ty / g.stride) * g.ow + tx / g.stride,
                                       group * outputs);
                const float *tap = w +
                                   ((int64_t)(ky * g.kw + kx) * inputs + c % inputs) * g.co +
                                   group * outputs;
                for (int o = 0; o < outputs; o++) sum[0] += number_of(pixel[o]) * tap[o];
            }
        put<1>(dx.at(p, c), sum, accumulate);
    }
};

template <class T>
void facs_cuda_rows<T>::groupconv_bwd_x(const facs_context *, const facs_conv *g,
                                        const facs_tensor *dx, const facs_tensor *dy,
                                        const float *w, int accumulate)
{
    const group_input_gradient<T> f = {{}, *g, rows_of<T>(dx), rows_of<T>(dy), w, accumulate};
    for_each_pixel("groupconv_bwd_x", f, dx->n * g->h * g->w, g->ci, 0);
}
FACS_CUDA_ROW(groupconv_bwd_x)

/* blockIdx.x: 32 output channels; blockIdx.y, and on from there: rows (ky, kx, i) of dw; rows
 * of threads share the output pixels. */
enum { GROUP_ROWS = 8 };
template <class T>
__global__ static void group_weights(facs_conv g, float *dw, pixel_rows<T> x, pixel_rows<T> dy,
                                     int64_t pixels)
{
    __shared__ double sums[GROUP_ROWS][32];
    const int inputs = g.ci / g.groups, taps = g.kh * g.kw * inputs;
    const int o = (int)blockIdx.x * 32 + threadIdx.x;

    for (int row = blockIdx.y; row < taps; row += gridDim.y) {
        const int ky = row / (g.kw * inputs), kx = row / inputs % g.kw, i = row % inputs;
        const int input = o / (g.co / g.groups) * inputs + i;
        double sum = 0;
        for (int64_t p = threadIdx.y; p < pixels && o < g.co; p += GROUP_ROWS) {
            const place at = place_of(p, g.oh, g.ow);
            const int iy = at.y * g.stride - g.pad_top + ky;
            const int ix = at.x * g.stride - g.pad_left + kx;
            if (iy < 0 || iy >= g.h || ix < 0 || ix >= g.w) continue;
            sum +=
                number_of(*x.at((at.n * g.h + iy) * g.w + ix, input)) * number_of(*dy.at(p, o));
        }
        sums[threadIdx.y][threadIdx.x] = sum;
        __syncthreads();
        if (threadIdx.y == 0 && o < g.co) {
            for (int j = 1; j < GROUP_ROWS; j++) sum += sums[j][threadIdx.x];
            dw[(int64_t)row * g.co + o] = (float)sum;
        }
        __syncthreads();
    }
}

template <class T>
void facs_cuda_rows<T>::groupconv_bwd_w(const facs_context *, const facs_conv *g, float *dw,
                                        const facs_tensor *x, const facs_tensor *dy)
{
    const int taps = g->kh * g->kw * (g->ci / g->groups), most = 65535;
    const dim3 grid(facs_cuda_blocks(g->co, 32), (unsigned)(taps < most ? taps : most));
    FACS_LAUNCH(group_weights<T>, grid, dim3(32, GROUP_ROWS), 0, *g, dw, rows_of<T>(x),
                rows_of<T>(dy), facs_tensor_pixels(dy));
}
FACS_CUDA_ROW(groupconv_bwd_w)
