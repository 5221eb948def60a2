#ifndef FACS_KERNEL_CUDA_CONV_3X3_CUH
#define FACS_KERNEL_CUDA_CONV_3X3_CUH

#include "kernel/cuda/conv_3x3.h"
#include "kernel/cuda/tile.cuh"

/* What the kernels of conv_3x3.h share. A warp takes tiles of 8x8 pixels of the map and brings
 * some channels of the 10x10 pixels around them into shared memory, where nobody else needs
 * them: warps wait for their own copies only. A line of eight pixels is one 8x8 matrix of
 * ldmatrix, so that a line that has been loaded serves the three taps above each other out of
 * registers. */

enum {
    SIDE = 8,
    HALO = 10,
    WARPS = 8,
    GROUP = 32, /* channels of a slice, and written at a time */
    MOST_GROUPS = 4,
    GROUP_WEIGHTS = 9 * GROUP * GROUP,
    SHARED_WANTED = 227 * 1024
};

/* --- tiles of n maps */

struct map_tiles {
    int h, w, across, per_map, count;
};

static inline map_tiles map_tiles_of(const facs_conv *g, int64_t n)
{
    map_tiles m = {g->h, g->w, (g->w + SIDE - 1) / SIDE, 0, 0};
    m.per_map = m.across * ((g->h + SIDE - 1) / SIDE);
    m.count = m.per_map * (int)n;
    return m;
}

/* Of a launch whose blocks take tiles in turn. */
static inline unsigned facs_cuda_conv3x3_blocks(int tiles)
{
    return (unsigned)(tiles < MULTIPROCESSORS ? tiles : MULTIPROCESSORS);
}

/* Whether tiles leave most warps without one. */
static inline int facs_cuda_conv3x3_few(int tiles)
{
    return tiles <= MULTIPROCESSORS * WARPS / 2;
}

/* inside: there is such a tile. first: its first pixel, of all of the tensor. */
struct tile_place {
    int inside, y, x, first;
};

__device__ static inline tile_place tile_place_of(const map_tiles &m, int tile)
{
    const int n = tile / m.per_map, rest = tile - n * m.per_map;
    tile_place p;
    p.inside = tile < m.count;
    p.y = rest / m.across * SIDE;
    p.x = rest % m.across * SIDE;
    p.first = (n * m.h + p.y) * m.w + p.x;
    return p;
}

/* --- slices of halos */

struct halo_source {
    const bfloat16 *data;
    int64_t stride;
    int wide; /* rows can be copied in chunks of eight numbers, and lines counted in an int */
};

static inline halo_source halo_source_of(const facs_tensor *t)
{
    const int64_t halo = (int64_t)HALO * t->w * t->stride;
    return halo_source{data_of<bfloat16>(*t), t->stride,
                       facs_cuda_by_eight<bfloat16>(t) && halo < INT32_MAX};
}

/* Eight numbers from anywhere. */
__device__ static inline void copy_unaligned(bfloat16 *to, const bfloat16 *from, int inside)
{
    float v[8];
#pragma unroll
    for (int i = 0; i < 8; i++) v[i] = inside ? number_of(from[i]) : 0;
    store_eight(to, v);
}

/* CHUNKS chunks of eight channels of 10x10 pixels, as [line][column][chunk]. Chunks of a pixel
 * change places from column to column, so that eight neighbouring pixels of a chunk lie on
 * different banks. A pass of a warp brings a chunk a lane: first the left eight columns, then
 * the two others. */
template <int CHUNKS> struct halo_slice {
    static const int NUMBERS = HALO * HALO * CHUNKS * 8;
    static const int AT_ONCE = 32 / CHUNKS, BODY = HALO * SIDE / AT_ONCE;
    static const int PASSES = BODY + (2 * HALO + AT_ONCE - 1) / AT_ONCE;

    struct spot {
        int line, column;
    };

    __device__ static int chunk() { return (int)threadIdx.x % CHUNKS; }

    /* line is HALO or more where a pass has nothing for a lane. */
    __device__ static spot spot_of(int pass)
    {
        const int at = (int)threadIdx.x % 32 / CHUNKS, side = (pass - BODY) * AT_ONCE + at;
        if (pass >= BODY) return spot{side / 2, SIDE + side % 2};
        return spot{pass * (AT_ONCE / SIDE) + at / SIDE, at % SIDE};
    }

    __device__ static int offset(int line, int column, int chunk)
    {
        return ((line * HALO + column) * CHUNKS + (chunk ^ column / (8 / CHUNKS) % CHUNKS)) * 8;
    }

    /* Whether a spot is a pixel of the map. */
    __device__ static int inside(const map_tiles &m, const tile_place &p, spot at)
    {
        const int y = p.y - 1 + at.line, x = p.x - 1 + at.column;
        return at.line < HALO && (unsigned)y < (unsigned)m.h && (unsigned)x < (unsigned)m.w;
    }

    /* Starts copying the slice from `channel` on; pixels beside the map are 0. Returns which
     * passes brought a pixel of the map. ROWS: the other channels will be wanted too. */
    template <bool ROWS>
    __device__ static unsigned bring(bfloat16 *to, const halo_source &s, const map_tiles &m,
                                     const tile_place &p, int channel)
    {
        const bfloat16 *corner =
            s.data + ((int64_t)p.first - m.w - 1) * s.stride + channel + chunk() * 8;
        unsigned brought = 0;
        if (!s.wide) return bring_unaligned(to, s, m, p, corner);
        const int stride = known_here((int)s.stride);
#pragma unroll
        for (int i = 0; i < PASSES; i++) {
            const spot at = spot_of(i);
            const int in = inside(m, p, at);
            const int from = at.line * (m.w * stride) + at.column * stride;
            brought |= (unsigned)in << i;
            bfloat16 *spot = to + offset(at.line, at.column, chunk());
            if (at.line >= HALO) continue;
            /* All of a row of 128 channels is asked for at once: memory would otherwise be read
             * a slice at a time, in pieces too small to be fast. */
            if (ROWS)
                copy_sixteen_of_row(spot, in ? corner + from : s.data, in);
            else
                copy_sixteen(spot, in ? corner + from : s.data, in);
        }
        return brought;
    }

    __device__ static unsigned bring_unaligned(bfloat16 *to, const halo_source &s,
                                               const map_tiles &m, const tile_place &p,
                                               const bfloat16 *corner)
    {
        unsigned brought = 0;
#pragma unroll 1
        for (int i = 0; i < PASSES; i++) {
            const spot at = spot_of(i);
            const int in = inside(m, p, at);
            brought |= (unsigned)in << i;
            if (at.line < HALO)
                copy_unaligned(to + offset(at.line, at.column, chunk()),
                               corner + ((int64_t)at.line * m.w + at.column) * s.stride, in);
        }
        return brought;
    }

    /* Applies the norm to what the lane brought, once it has arrived; scale and shift are of
     * its channels. */
    __device__ static void settle(bfloat16 *slice, unsigned brought, const float *scale,
                                  const float *shift, facs_clamp clamp)
    {
        float by[8], to[8];
        load_eight(by, scale);
        load_eight(to, shift);
#pragma unroll
        for (int i = 0; i < PASSES; i++) {
            const spot at = spot_of(i);
            bfloat16 *spot = slice + offset(at.line < HALO ? at.line : 0, at.column, chunk());
            float v[8];
            load_eight(v, spot);
#pragma unroll
            for (int j = 0; j < 8; j++) v[j] = by[j] * v[j] + to[j];
            eight<bfloat16> e = packed_of<bfloat16>(v);
            clamp_eight(e, clamp);
            if (brought >> i & 1) *(eight<bfloat16> *)spot = e;
        }
    }
};

/* The norm's vectors of `channels` channels from `first` on, to shared memory: scale, then
 * shift, then mean where it is wanted. */
__device__ static inline void bring_norm(float *to, const facs_norm &norm, int first,
                                         int channels, int with_mean)
{
    if (!norm.scale) return;
    for (int i = threadIdx.x; i < channels; i += blockDim.x) {
        to[i] = norm.scale[first + i];
        to[channels + i] = norm.shift[first + i];
        if (with_mean) to[2 * channels + i] = norm.mean[first + i];
    }
}

/* --- products with packed weights: [group][depth 2][kx][ky][half 2][lane][8], the fragments of
 * mma.sync for 32 channels read and 32 written. A lane's four rows of the two halves are
 * neighbouring channels. Backward, taps are turned round. */

__device__ static inline void bring_weights(bfloat16 *to, const bfloat16 *packed, int groups)
{
    for (int i = threadIdx.x; i < groups * GROUP_WEIGHTS / 8; i += blockDim.x)
        copy_sixteen(to + i * 8, packed + i * 8, 1);
}

/* The slices that a warp goes through: groups of channels of its tiles. */
struct slice_order {
    int tile, next_tile, group, from, to;
};

/* The warp's slices: one is multiplied while RING - 1 arrive. */
template <int RING, bool ROWS> struct slice_ring {
    const halo_source &source;
    const map_tiles &m;
    bfloat16 *slices;
    slice_order order; /* at what is brought next */
    int stage;         /* of what is taken next */
    unsigned brought[RING - 1];

    static const size_t BYTES = RING * halo_slice<4>::NUMBERS * sizeof(bfloat16);

    /* Number i behind what is taken next. */
    __device__ bfloat16 *slice(int i) const
    {
        return slices + (stage + i) % RING * halo_slice<4>::NUMBERS;
    }

    /* Into place i. */
    __device__ void bring(int i)
    {
        unsigned mask = 0;
        if (order.tile < m.count && order.group < order.to)
            mask = halo_slice<4>::bring<ROWS>(slice(i), source, m, tile_place_of(m, order.tile),
                                              order.group * GROUP);
        if (++order.group >= order.to) {
            order.group = order.from;
            order.tile += order.next_tile;
        }
#pragma unroll
        for (int k = 0; k < RING - 2; k++) brought[k] = brought[k + 1];
        brought[RING - 2] = mask;
    }

    /* Starts bringing the weights of a block and the first slices; all threads must call. */
    __device__ void start(bfloat16 *weights, const bfloat16 *packed, int groups)
    {
#pragma unroll 1
        for (int i = 0; i < RING - 1; i++) {
            bring(i);
            if (i == 0) bring_weights(weights, packed, groups);
            end_copies();
        }
        wait_for_copies<RING - 2>();
        __syncthreads();
    }

    /* Waits for the next slice, of a group, and starts bringing another in the place of the one
     * before. */
    __device__ bfloat16 *take(const facs_norm &norm, const float *vectors, int channels,
                              int group)
    {
        bfloat16 *taken = slice(0);
        wait_for_copies<RING - 2>();
        if (norm.scale) {
            const float *scale = vectors + group * GROUP + halo_slice<4>::chunk() * 8;
            halo_slice<4>::settle(taken, brought[0], scale, scale + channels, norm.clamp);
        }
        __syncwarp();
        bring(RING - 1);
        end_copies();
        stage = (stage + 1) % RING;
        return taken;
    }
};

/* The sums of a warp's tile: 32 channels of 8 lines. Lane `lane` has channels 4 (lane / 4) and
 * on of columns 2 (lane % 4) and the next. */
struct tile_sums {
    float half[2][SIDE][4];

    __device__ void clear()
    {
#pragma unroll
        for (int i = 0; i < 2; i++)
#pragma unroll
            for (int l = 0; l < SIDE; l++)
#pragma unroll
                for (int k = 0; k < 4; k++) half[i][l][k] = 0;
    }

    /* The channels of one of the two columns. */
    __device__ float4 at(int line, int column) const
    {
        return make_float4(half[0][line][column], half[0][line][2 + column],
                           half[1][line][column], half[1][line][2 + column]);
    }

    /* Adds 32 channels of a halo times their weights. */
    __device__ void add(const bfloat16 *halo, const bfloat16 *weights)
    {
        typedef halo_slice<4> slice;
        const int lane = threadIdx.x % 32, matrix = lane / 8;
#pragma unroll
        for (int kx = 0; kx < 3; kx++)
#pragma unroll
            for (int depth = 0; depth < 2; depth++) {
                const bfloat16 *from =
                    halo + slice::offset(matrix / 2, lane % 8 + kx, 2 * depth + matrix % 2);
                unsigned pixels[HALO / 2][4]; /* two lines each, of a line two depths */
#pragma unroll
                for (int i = 0; i < HALO / 2; i++)
                    load_matrices(pixels[i], from + 2 * i * HALO * GROUP);
#pragma unroll
                for (int ky = 0; ky < 3; ky++)
#pragma unroll
                    for (int i = 0; i < 2; i++) {
                        const int at = (((depth * 3 + kx) * 3 + ky) * 2 + i) * 32 + lane;
                        const uint4 raw = ((const uint4 *)weights)[at];
                        const unsigned a[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
                        for (int l = 0; l < SIDE; l++) {
                            const unsigned *b = pixels[(l + ky) / 2] + (l + ky) % 2 * 2;
                            multiply(half[i][l], a, b[0], b[1]);
                        }
                    }
            }
    }
};

/* Four neighbouring numbers; wide: they lie aligned. */
__device__ static inline uint2 pack_four(float4 v)
{
    const __nv_bfloat162 low = __floats2bfloat162_rn(v.x, v.y);
    const __nv_bfloat162 high = __floats2bfloat162_rn(v.z, v.w);
    return make_uint2(*(const unsigned *)&low, *(const unsigned *)&high);
}

__device__ static inline float4 unpack_four(uint2 raw)
{
    return make_float4(__uint_as_float(raw.x << 16), __uint_as_float(raw.x & 0xffff0000u),
                       __uint_as_float(raw.y << 16), __uint_as_float(raw.y & 0xffff0000u));
}

__device__ static inline uint2 fetch_four(const bfloat16 *p, int wide)
{
    if (wide) return *(const uint2 *)p;
    return pack_four(
        make_float4(number_of(p[0]), number_of(p[1]), number_of(p[2]), number_of(p[3])));
}

__device__ static inline void store_four(bfloat16 *to, float4 v, int wide)
{
    if (wide) {
        *(uint2 *)to = pack_four(v);
        return;
    }
    put_number(to, v.x);
    put_number(to + 1, v.y);
    put_number(to + 2, v.z);
    put_number(to + 3, v.w);
}

#endif
