#ifndef FACS_KERNEL_CUDA_CONV_STEM_CUH
#define FACS_KERNEL_CUDA_CONV_STEM_CUH

#include "kernel/cuda/conv.cuh"

/* What the directions of a network's first convolution share: stride 2, an image of at most
 * four channels, four numbers a pixel, bfloat16. A block works on tiles of 8 x 16 pixels of the
 * output. What a tile reads lies in shared memory as it is, two pixels to 16 bytes, and a line
 * of kernel taps reads it there through ldmatrix: a chunk of depth (two taps of a line, see
 * conv.cuh) of sixteen neighbouring outputs is sixteen such pieces behind each other. */

static const int STEM_LINES = 8, STEM_WIDTH = 16, STEM_TILE = STEM_LINES * STEM_WIDTH;

/* PAIRS of taps across a kernel of at most LINES lines. */
template <int PAIRS, int LINES> struct stem_plan {
    static const int HALO_LINES = 2 * (STEM_LINES - 1) + LINES;
    static const int HALO_PAIRS = STEM_WIDTH - 1 + PAIRS; /* of pixels, in a line */
    static const int HALO = HALO_LINES * HALO_PAIRS;      /* pieces of 16 bytes */
    static const int CHUNKS = PAIRS * LINES, STEPS = (CHUNKS + 1) / 2;
    static const int MINE =
        (2 * HALO + THREADS - 1) / THREADS; /* pixels that a thread brings */
};

struct stem_image {
    const bfloat16 *x; /* four numbers a pixel, the last of which may be anything */
    int channels, h, w, oh, ow, top, left;
    divisor across, down; /* tiles of an image */
    int tiles;            /* of all images */
};

/* The tiles' places: number `tile` of all. */
struct stem_tile {
    int image, line, column; /* of its first output */
    int lines, columns;      /* how many there are of them */

    __device__ stem_tile(const stem_image &s, int tile)
    {
        const int row = (int)divided((unsigned)tile, s.across);
        column = (tile - row * (int)s.across.by) * STEM_WIDTH;
        image = (int)divided((unsigned)row, s.down);
        line = (row - image * (int)s.down.by) * STEM_LINES;
        lines = min(STEM_LINES, s.oh - line);
        columns = min(STEM_WIDTH, s.ow - column);
    }
};

/* The pixels of a tile, line by line: see following_rows. */
struct stem_places {
    int64_t first;
    int width, columns, count;

    __device__ stem_places(const stem_image &s, const stem_tile &t)
        : first(((int64_t)t.image * s.oh + t.line) * s.ow + t.column), width(s.ow),
          columns(t.columns), count(t.lines * STEM_WIDTH)
    {
    }
    __device__ int64_t at(int i) const
    {
        const int line = i / STEM_WIDTH, column = i % STEM_WIDTH;
        return i < count && column < columns ? first + (int64_t)line * width + column : -1;
    }
};

/* What a thread brings of a tile's input: first to registers, then to shared memory. */
template <class P> struct stem_halo {
    uint2 pixel[P::MINE];

    __device__ void fetch(const stem_image &s, const stem_tile &t)
    {
        const int top = 2 * t.line - s.top, left = 2 * t.column - s.left;
        const unsigned last = s.channels > 3 ? 0xffffffffu : 0xffffu;
        const bfloat16 *from = s.x + (int64_t)t.image * s.h * s.w * 4;
#pragma unroll
        for (int i = 0; i < P::MINE; i++) {
            const int at = (int)threadIdx.x + i * THREADS;
            const int line = at / (2 * P::HALO_PAIRS), column = at % (2 * P::HALO_PAIRS);
            const int y = top + line, x = left + column;
            pixel[i] = make_uint2(0, 0);
            if (line >= P::HALO_LINES || y < 0 || y >= s.h || x < 0 || x >= s.w) continue;
            pixel[i] = *(const uint2 *)(from + (y * s.w + x) * 4);
            if (s.channels < 3) pixel[i].y = 0;
            if (s.channels < 2) pixel[i].x &= 0xffffu;
            pixel[i].y &= last;
        }
    }

    __device__ void put(bfloat16 *halo) const
    {
#pragma unroll
        for (int i = 0; i < P::MINE; i++) {
            const int at = (int)threadIdx.x + i * THREADS;
            if (at < 2 * P::HALO) ((uint2 *)halo)[at] = pixel[i];
        }
    }
};

/* Where in the halo the piece lies that output (line, column) reads as chunk `chunk`. A chunk
 * behind the last is the last, and a tap behind the kernel's last reads a pixel: both meet
 * weights of 0, so that a pixel which is not finite spoils one output more. */
template <class P, int PAIRS>
__device__ static inline const bfloat16 *stem_piece(const bfloat16 *halo, int line, int column,
                                                    int chunk)
{
    const int c = chunk < P::CHUNKS ? chunk : P::CHUNKS - 1;
    return halo + ((2 * line + c / PAIRS) * P::HALO_PAIRS + column + c % PAIRS) * 8;
}

static inline stem_image stem_image_of(const facs_conv *g, const facs_tensor *x)
{
    stem_image s = {};
    s.x = data_of<bfloat16>(*x);
    s.channels = g->ci, s.h = g->h, s.w = g->w, s.oh = g->oh, s.ow = g->ow;
    s.top = g->pad_top, s.left = g->pad_left;
    s.across = divisor_of((int)facs_cuda_blocks(g->ow, STEM_WIDTH));
    s.down = divisor_of((int)facs_cuda_blocks(g->oh, STEM_LINES));
    s.tiles = (int)(x->n * s.across.by * s.down.by);
    return s;
}

/* Whether the kernels of stems serve a convolution, reading x: two or four pairs of taps
 * across. */
static inline int facs_cuda_is_stem(const facs_conv *g, const facs_tensor *x)
{
    const int three = g->kh == 3 && (g->kw == 3 || g->kw == 4);
    const int seven = g->kh == 7 && (g->kw == 7 || g->kw == 8);
    return g->ci <= 4 && g->stride == 2 && (three || seven) && x->stride == 4 &&
           (uintptr_t)x->data % 8 == 0 && (g->co == 32 || g->co == 64) &&
           x->n * g->h * g->w < (int64_t)1 << 31;
}

enum { STEM_BLOCKS = 2 * MULTIPROCESSORS };

/* y and, where wanted, partial sums of blocks, whose number is returned; bias, clamp and
 * moments as of conv_fwd. */
unsigned facs_cuda_stem_fwd(const facs_conv *g, const facs_tensor *y, const facs_tensor *x,
                            const bfloat16 *packed, const float *bias, facs_clamp clamp,
                            float *partials);

/* Partial sums [STEM_BLOCKS][kh][kw][ci][co] of the weights' gradient; returns how many blocks
 * of them there are. */
unsigned facs_cuda_stem_bwd_w(const facs_conv *g, float *partials, const facs_tensor *x,
                              const facs_tensor *dy, const facs_correction *correction);

#endif
