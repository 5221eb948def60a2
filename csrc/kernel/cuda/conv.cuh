#ifndef FACS_KERNEL_CUDA_CONV_CUH
#define FACS_KERNEL_CUDA_CONV_CUH

#include "kernel/cuda/tile.cuh"

/* What the files of dense convolutions share: how the pixels of a tensor become the left
 * factor of a product. Its depth runs over taps and the channels read, in chunks of eight:
 * the channels of a tap, padded to a multiple of eight; or where an image's few channels are
 * read (`paired`), four channels of two neighbouring taps of a line. The whole is padded to a
 * multiple of DEPTH. Packed weights are [depth][padded] numbers of the tensors' type; padded
 * are the channels written, in the order of dealt_column. What is padded is 0. */

/* Forward alone; backward nobody asks for the gradient of an image. */
__host__ __device__ static inline int facs_conv_paired(int inner, int backward)
{
    return inner <= 4 && !backward;
}

__host__ __device__ static inline int facs_conv_chunks(int kh, int kw, int inner, int paired)
{
    return paired ? kh * ((kw + 1) / 2) : kh * kw * ((inner + 7) / 8);
}

static inline int facs_conv_depth(const facs_conv *g, int inner, int paired)
{
    return (facs_conv_chunks(g->kh, g->kw, inner, paired) * 8 + DEPTH - 1) / DEPTH * DEPTH;
}

static inline int facs_conv_padded(int columns)
{
    return (columns + 31) / 32 * 32;
}

/* Division of numbers below 2^31 by one that is known before a launch: Granlund and Montgomery,
 * PLDI 1994. */
struct divisor {
    unsigned by, magic, shift;
};

static inline divisor divisor_of(int by)
{
    divisor d = {(unsigned)by, 0, 0};
    while ((1u << d.shift) < d.by) d.shift++;
    d.magic = (unsigned)((((uint64_t)1 << 32) * (((uint64_t)1 << d.shift) - d.by)) / d.by + 1);
    return d;
}

__device__ static inline unsigned divided(unsigned x, const divisor &d)
{
    return (__umulhi(x, d.magic) + x) >> d.shift;
}

/* Eight numbers of depth: channels `channel` and on of tap (ky, kx). */
struct tap_chunk {
    int ky, kx, channel, inside; /* not inside: behind the last tap */
};

/* Which chunk is which. */
struct tap_order {
    divisor per_tap, across;
    int kh, paired;
};

static inline tap_order tap_order_of(const facs_conv *g, int inner, int paired)
{
    tap_order o;
    o.per_tap = divisor_of(paired ? 1 : (inner + 7) / 8);
    o.across = divisor_of(paired ? (g->kw + 1) / 2 : g->kw);
    o.kh = g->kh, o.paired = paired;
    return o;
}

__device__ static inline tap_chunk tap_chunk_at(const tap_order &o, int chunk)
{
    const int tap = (int)divided((unsigned)chunk, o.per_tap);
    tap_chunk c;
    c.ky = (int)divided((unsigned)tap, o.across);
    c.kx = (tap - c.ky * (int)o.across.by) << o.paired;
    c.channel = (chunk - tap * (int)o.per_tap.by) * 8;
    c.inside = c.ky < o.kh;
    return c;
}

/* What is read for the pixels of the tensor written: for each tap `inner` channels of one
 * pixel of the tensor read. */
template <class T> struct reading {
    const T *data;
    int64_t stride;
    int h, w, inner;     /* of the tensor read */
    divisor area, width; /* of the tensor written, a map and a line */
    tap_order order;
    int kw, step, top, left;
    int backward; /* from a convolution's output to its input */
    int paired;
    int wide; /* a chunk lies in memory as it is wanted: it is copied, then settled */
    int tensor; /* floats are rounded for the tensor cores */
    facs_norm norm;
};

template <class T>
static inline reading<T> facs_conv_reading(const facs_conv *g, const facs_tensor *read,
                                           const facs_norm *norm, int backward)
{
    reading<T> r = {};
    r.data = data_of<T>(*read);
    r.stride = read->stride;
    r.h = backward ? g->oh : g->h, r.w = backward ? g->ow : g->w;
    r.inner = backward ? g->co : g->ci;
    r.area = divisor_of(backward ? g->h * g->w : g->oh * g->ow);
    r.width = divisor_of(backward ? g->w : g->ow);
    r.kw = g->kw, r.step = g->stride, r.top = g->pad_top, r.left = g->pad_left;
    r.backward = backward;
    r.paired = facs_conv_paired(r.inner, backward);
    r.order = tap_order_of(g, r.inner, r.paired);
    r.norm = facs_cuda_norm(norm);
    r.tensor = facs_cuda_tf32();
    if (r.paired)
        r.wide = sizeof(T) == 2 && !norm && r.stride % 4 == 0 && (uintptr_t)r.data % 8 == 0;
    else
        r.wide = r.inner % 8 == 0 && r.stride % 8 == 0 && (uintptr_t)r.data % 16 == 0 &&
                 (uintptr_t)r.norm.scale % 16 == 0 && (uintptr_t)r.norm.shift % 16 == 0;
    return r;
}

/* Whether pixel i of the tensor written reads pixel i alone. */
static inline int facs_conv_is_pointwise(const facs_conv *g)
{
    return g->kh * g->kw == 1 && g->stride == 1 && !g->pad_top && !g->pad_left &&
           g->h == g->oh && g->w == g->ow && g->ci > 4;
}

/* A pixel of the tensor written; inside: there is such a pixel. */
struct place {
    int image; /* where the tensor read has the first pixel of the same image */
    int y, x;  /* what tap (0, 0) reads; backward, times the step */
    int inside;
};

template <class T>
__device__ static inline place place_of(const reading<T> &r, int64_t row, int64_t rows)
{
    const int n = (int)divided((unsigned)row, r.area), rest = (int)row - n * (int)r.area.by;
    const int y = (int)divided((unsigned)rest, r.width), x = rest - y * (int)r.width.by;
    place p;
    p.image = n * r.h * r.w;
    p.y = r.backward ? y + r.top : y * r.step - r.top;
    p.x = r.backward ? x + r.left : x * r.step - r.left;
    p.inside = row < rows;
    return p;
}

/* The pixel that a tap reads, or -1. */
template <class T>
__device__ static inline int tap_pixel(const reading<T> &r, const place &p, int ky, int kx)
{
    int y = r.backward ? p.y - ky : p.y + ky, x = r.backward ? p.x - kx : p.x + kx;
    if (r.backward && r.step > 1) {
        if (y < 0 || x < 0 || y % r.step || x % r.step) return -1;
        y /= r.step, x /= r.step;
    }
    const int inside =
        p.inside && (unsigned)y < (unsigned)r.h && (unsigned)x < (unsigned)r.w && kx < r.kw;
    return inside ? p.image + y * r.w + x : -1;
}

/* `count` numbers of a pixel from a channel on, as the norm has them, zeros up to `of`. */
template <class T>
__device__ static inline void plain_numbers(float *v, const reading<T> &r, int64_t pixel,
                                            int channel, int of)
{
    for (int i = 0; i < of; i++) {
        const int c = channel + i;
        v[i] = 0;
        if (pixel < 0 || c >= r.inner) continue;
        v[i] = number_of(r.data[pixel * r.stride + c]);
        if (r.norm.scale) v[i] = normed(r.norm, v[i], c);
    }
}

/* Brings a chunk into shared memory; whether it must be settled once it has arrived. pixel is
 * what its tap reads, and `next` what the tap behind it does, where chunks are paired. */
template <class T>
__device__ static inline int read_chunk(T *to, const reading<T> &r, const tap_chunk &c,
                                        int64_t pixel, int64_t next)
{
    if (r.wide && !r.paired) {
        const int inside = pixel >= 0;
        copy_numbers(to, r.data + (inside ? pixel * r.stride + c.channel : 0), inside);
        return inside && r.norm.scale;
    }
    if (r.wide) {
        copy_eight_bytes(to, pixel >= 0 ? r.data + pixel * r.stride : r.data, pixel >= 0);
        copy_eight_bytes(to + 4, next >= 0 ? r.data + next * r.stride : r.data, next >= 0);
        return r.inner < 4;
    }
    float v[8];
    if (r.paired) {
        plain_numbers(v, r, pixel, 0, 4);
        plain_numbers(v + 4, r, next, 0, 4);
    } else {
        plain_numbers(v, r, pixel, c.channel, 8);
    }
    store_eight(to, v);
    return 0;
}

/* Scale and shift of a chunk's channels. */
struct chunk_norm {
    float scale[8], shift[8];
};

template <class T>
__device__ static inline chunk_norm chunk_norm_of(const reading<T> &r, const tap_chunk &c)
{
    chunk_norm n;
    if (r.norm.scale && r.wide && c.inside) {
        load_eight(n.scale, r.norm.scale + c.channel);
        load_eight(n.shift, r.norm.shift + c.channel);
    }
    return n;
}

/* Applies the norm to a chunk that has arrived, or takes out what lies beside few channels. */
template <class T>
__device__ static inline void settle_chunk(T *chunk, const reading<T> &r, const chunk_norm &n)
{
    float v[8];
    load_eight(v, chunk);
    if (r.paired) {
#pragma unroll
        for (int i = 0; i < 8; i++)
            if (i % 4 >= r.inner) v[i] = 0;
    } else {
#pragma unroll
        for (int i = 0; i < 8; i++) v[i] = n.scale[i] * v[i] + n.shift[i];
    }
    eight<T> e = packed_of<T>(v);
    if (!r.paired) clamp_eight(e, r.norm.clamp);
    *(eight<T> *)chunk = e;
}

#endif
