#include "kernel/cuda/conv_3x3.cuh"

/* Weight gradients: dw = x' dy over all pixels. A block has GROUP channels read, a warp half of
 * them with all taps, in registers, over every fourth of the block's tiles; the four subsets of
 * tiles are added in the block, and the blocks' ranges of tiles behind it. */

static const int RING = 4, SUBSETS = 4, HALVES = 2;

/* dy as it is read. */
struct gradient_source {
    const bfloat16 *data;
    int64_t stride;
    int wide;
    correction_value correction;
};

/* 8x8 pixels of dy as [line][column][chunk], chunks in changing places as in halo_slice. */
struct dy_slice {
    static const int NUMBERS = SIDE * SIDE * GROUP;

    __device__ static int offset(int line, int column, int chunk)
    {
        return ((line * SIDE + column) * 4 + (chunk ^ column / 2 % 4)) * 8;
    }

    __device__ static int inside(const map_tiles &m, const tile_place &p, int line, int column)
    {
        return p.y + line < m.h && p.x + column < m.w;
    }

    /* Starts copying half of the lines; pixels beside the map are 0. */
    __device__ static void bring(bfloat16 *to, const gradient_source &s, const map_tiles &m,
                                 const tile_place &p, int half)
    {
        const int column = (int)threadIdx.x % 32 / 4, chunk = (int)threadIdx.x % 4;
        const int plain = s.wide && !s.correction.slope;
        const int first = half * (SIDE / HALVES);
        if (!plain) {
#pragma unroll 1
            for (int line = first; line < first + SIDE / HALVES; line++) {
                const int in = inside(m, p, line, column);
                copy_corrected(to + offset(line, column, chunk), s,
                               in ? p.first + line * m.w + column : 0, chunk * 8, in);
            }
            return;
        }
        const int width = known_here(m.w);
#pragma unroll
        for (int i = 0; i < SIDE / HALVES; i++) {
            const int line = first + i, in = inside(m, p, line, column);
            const int64_t pixel = in ? p.first + line * width + column : 0;
            copy_sixteen(to + offset(line, column, chunk),
                         s.data + pixel * s.stride + chunk * 8, in);
        }
    }

    __device__ static void copy_corrected(bfloat16 *to, const gradient_source &s, int64_t pixel,
                                          int channel, int inside)
    {
        const bfloat16 *dy = s.data + pixel * s.stride;
#pragma unroll 1
        for (int i = channel; i < channel + 8; i++) {
            float v = inside ? number_of(dy[i]) : 0;
            if (inside && s.correction.slope) v += due_of<bfloat16>(s.correction, pixel, i);
            put_number(to++, v);
        }
    }
};

/* The sums of a warp: its 16 channels read of each tap x the 32 written. */
struct gradient_sums {
    float tap[9][4][4];

    __device__ void clear()
    {
#pragma unroll
        for (int t = 0; t < 9; t++)
#pragma unroll
            for (int j = 0; j < 4; j++)
#pragma unroll
                for (int k = 0; k < 4; k++) tap[t][j][k] = 0;
    }

    /* Adds what a tile gives. Two lines of pixels are a step of depth. */
    __device__ void add(const bfloat16 *x, const bfloat16 *dy)
    {
        typedef halo_slice<2> slice;
        const int lane = threadIdx.x % 32, column = lane % 8, matrix = lane / 8;
        const bfloat16 *from[3], *right_from[2];
        unsigned even[3][SIDE / 2 + 1][4];
#pragma unroll
        for (int kx = 0; kx < 3; kx++) {
            from[kx] = x + slice::offset(matrix / 2, column + kx, matrix % 2);
            load_transposed(even[kx][0], from[kx]);
        }
#pragma unroll
        for (int j = 0; j < 2; j++)
            right_from[j] = dy + dy_slice::offset(matrix % 2, column, 2 * j + matrix / 2);
#pragma unroll
        for (int i = 0; i < SIDE / 2; i++) {
            unsigned right[2][4];
#pragma unroll
            for (int j = 0; j < 2; j++)
                load_transposed(right[j], right_from[j] + 2 * i * SIDE * GROUP);
#pragma unroll
            for (int kx = 0; kx < 3; kx++) {
                unsigned odd[4];
                load_transposed(odd, from[kx] + (2 * i + 1) * HALO * 16);
                load_transposed(even[kx][i + 1], from[kx] + (2 * i + 2) * HALO * 16);
                add_step(kx, even[kx][i], right);
                add_step(3 + kx, odd, right);
                add_step(6 + kx, even[kx][i + 1], right);
            }
        }
    }

    __device__ void add_step(int t, const unsigned left[4], const unsigned right[2][4])
    {
#pragma unroll
        for (int j = 0; j < 4; j++)
            multiply(tap[t][j], left, right[j / 2][j % 2 * 2], right[j / 2][j % 2 * 2 + 1]);
    }
};

struct gradient_shared {
    static const int SLICE = halo_slice<2>::NUMBERS, DY = dy_slice::NUMBERS;
    static const size_t VECTORS = 2 * GROUP * sizeof(float);
    static const size_t SLICES = RING * WARPS * SLICE * sizeof(bfloat16);
    static const size_t FACTORS = SLICES + RING * SUBSETS * DY * sizeof(bfloat16);
    static const size_t SUMS = WARPS * 36 * 32 * sizeof(float4);
    static const size_t BYTES = VECTORS + (FACTORS > SUMS ? FACTORS : SUMS);
};
static_assert(gradient_shared::BYTES <= SHARED_WANTED, "shared memory");

/* The subsets' sums [subset][half][9][4][lane][4], added, to dw [9][ci][GROUP]; all threads
 * must call. */
__device__ static void write_gradient(float *dw, int ci, int first_channel,
                                      const gradient_sums &mine, float4 *shared)
{
    const int warp = threadIdx.x / 32, count = HALVES * 36 * 32;
    __syncthreads();
#pragma unroll
    for (int t = 0; t < 36; t++) {
        const float *v = mine.tap[t / 4][t % 4];
        shared[(warp * 36 + t) * 32 + threadIdx.x % 32] = make_float4(v[0], v[1], v[2], v[3]);
    }
    __syncthreads();
    for (int i = threadIdx.x; i < count; i += blockDim.x) {
        const int lane = i % 32, column = i / 32 % 4, tap = i / 128 % 9, half = i / 1152;
        const int channel = first_channel + half * 16 + lane / 4;
        float4 sum = shared[i];
        for (int s = 1; s < SUBSETS; s++) {
            const float4 v = shared[s * count + i];
            sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
        }
        float *to = dw + ((int64_t)tap * ci + channel) * GROUP + column * 8 + lane % 4 * 2;
        to[0] = sum.x, to[1] = sum.y; /* a gradient may lie anywhere */
        to[8 * GROUP] = sum.z, to[8 * GROUP + 1] = sum.w;
    }
}

/* What a warp brings of the block's tiles in turn. */
struct gradient_parts {
    const halo_source &x;
    const gradient_source &dy;
    const map_tiles &m;
    bfloat16 *slices, *dys; /* of round 0 */
    int tile, next_tile, stage, half, channel;
    unsigned brought[RING - 1];

    __device__ const bfloat16 *slice() const
    {
        return slices + stage * WARPS * gradient_shared::SLICE;
    }
    __device__ const bfloat16 *dy_of() const
    {
        return dys + stage * SUBSETS * gradient_shared::DY;
    }

    /* Into place i behind that of this round. */
    __device__ void bring(int i)
    {
        const int place = (stage + i) % RING;
        unsigned mask = 0;
        if (tile < m.count) {
            const tile_place p = tile_place_of(m, tile);
            mask = halo_slice<2>::bring<true>(slices + place * WARPS * gradient_shared::SLICE,
                                              x, m, p, channel);
            dy_slice::bring(dys + place * SUBSETS * gradient_shared::DY, dy, m, p, half);
        }
        end_copies();
        tile += next_tile;
#pragma unroll
        for (int k = 0; k < RING - 2; k++) brought[k] = brought[k + 1];
        brought[RING - 2] = mask;
    }
};

__global__ static void __launch_bounds__(WARPS * 32, 1)
    weight_gradient(float *partials, halo_source x, facs_norm norm, gradient_source dy, int ci,
                    map_tiles m)
{
    facs_cuda_begin();
    extern __shared__ __align__(16) char shared[];
    const int warp = threadIdx.x / 32, subset = warp / HALVES, half = warp % HALVES;
    const int first_channel = (int)blockIdx.x * GROUP, ranges = (int)gridDim.y;
    const int at_once = ranges * SUBSETS;
    float *vectors = (float *)shared;
    bfloat16 *slices = (bfloat16 *)(shared + gradient_shared::VECTORS);
    bfloat16 *dys = slices + gradient_shared::SLICES / sizeof(bfloat16);
    const int first_tile = (int)blockIdx.y + subset * ranges;
    gradient_parts parts = {x,
                            dy,
                            m,
                            slices + warp * gradient_shared::SLICE,
                            dys + subset * gradient_shared::DY,
                            first_tile,
                            at_once,
                            0,
                            half,
                            first_channel + half * 16,
                            {}};
    gradient_sums sums;

    bring_norm(vectors, norm, first_channel, GROUP, 0);
    sums.clear();
#pragma unroll 1
    for (int i = 0; i < RING - 1; i++) parts.bring(i);
    __syncthreads();
    /* A tile of the round for each subset, if there is one. */
    for (int done = 0; done < m.count; done += at_once) {
        wait_for_copies<RING - 2>();
        if (norm.scale) {
            const float *scale = vectors + half * 16 + halo_slice<2>::chunk() * 8;
            halo_slice<2>::settle((bfloat16 *)parts.slice(), parts.brought[0], scale,
                                  scale + GROUP, norm.clamp);
        }
        wait_for_pair(subset);
        parts.bring(RING - 1);
        if (done + first_tile < m.count) sums.add(parts.slice(), parts.dy_of());
        parts.stage = (parts.stage + 1) % RING;
    }
    wait_for_copies<0>();
    write_gradient(partials + (int64_t)blockIdx.y * 9 * ci * GROUP, ci, first_channel, sums,
                   (float4 *)slices);
}

static unsigned ranges_of(const facs_conv *g)
{
    return facs_cuda_blocks(MULTIPROCESSORS, g->ci / GROUP);
}

size_t facs_cuda_conv3x3_scratch(const facs_conv *g)
{
    return (size_t)ranges_of(g) * 9 * (size_t)g->ci * GROUP * sizeof(float);
}

void facs_cuda_conv3x3_bwd_w(const facs_context *ctx, const facs_conv *g, facs_real *dw,
                             const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                             const facs_correction *correction)
{
    const map_tiles m = map_tiles_of(g, dy->n);
    const unsigned most = facs_cuda_blocks(m.count, SUBSETS), wanted = ranges_of(g);
    const unsigned ranges = wanted < most ? wanted : most;
    const gradient_source source = {data_of<bfloat16>(*dy), dy->stride,
                                    facs_cuda_by_eight<bfloat16>(dy),
                                    facs_cuda_correction(correction)};
    float *partials = ranges == 1 ? dw : (float *)ctx->scratch;
    if (m.count < 1) return;
    facs_cuda_allow_shared(weight_gradient, gradient_shared::BYTES);
    FACS_LAUNCH_BEGINNING("weight_gradient", weight_gradient, dim3(g->ci / GROUP, ranges),
                          WARPS * 32, gradient_shared::BYTES, partials, halo_source_of(x),
                          facs_cuda_norm(norm), source, g->ci, m);
    if (ranges > 1) facs_cuda_sum_blocks(dw, partials, ranges, (int64_t)9 * g->ci * GROUP);
}
