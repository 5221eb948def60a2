#ifndef FACS_KERNEL_CUDA_POOL_H
#define FACS_KERNEL_CUDA_POOL_H

#include "kernel/cuda/pixels.h"

/* The windows of pooling. Gradients are gathered: a thread looks for the windows that hold its
 * pixels. */

struct span {
    int first, end;
};

/* Input lines of output line q. */
__device__ static inline span window(int q, int stride, int pad, int kernel, int size)
{
    const int first = q * stride - pad, end = first + kernel;
    return {first > 0 ? first : 0, end < size ? end : size};
}

/* Output lines whose window holds input line i. */
__device__ static inline span windows_of(int i, int stride, int pad, int kernel, int size)
{
    const int last = (i + pad) / stride, above = i + pad - kernel + stride;
    const int first = above > 0 ? above / stride : 0;
    return {first, last + 1 < size ? last + 1 : size};
}

__device__ static inline span window_y(const facs_pool &g, int oy)
{
    return window(oy, g.stride, g.pad_top, g.kh, g.h);
}
__device__ static inline span window_x(const facs_pool &g, int ox)
{
    return window(ox, g.stride, g.pad_left, g.kw, g.w);
}
__device__ static inline span windows_of_y(const facs_pool &g, int y)
{
    return windows_of(y, g.stride, g.pad_top, g.kh, g.oh);
}
__device__ static inline span windows_of_x(const facs_pool &g, int x)
{
    return windows_of(x, g.stride, g.pad_left, g.kw, g.ow);
}

/* f(v, iy, ix) for every pixel of a window, whose V numbers from channel c on are v; `image` is
 * the first pixel of its image, which is `width` across. */
template <int V, class T, class F>
__device__ static inline void for_window(const pixel_rows<T> &x, int64_t image, int width,
                                         span sy, span sx, int c, const F &f)
{
    for (int iy = sy.first; iy < sy.end; iy++)
        for (int ix = sx.first; ix < sx.end; ix++) {
            float v[V];
            get<V>(v, x.at(image + (int64_t)iy * width + ix, c));
            f(v, iy, ix);
        }
}

#endif
