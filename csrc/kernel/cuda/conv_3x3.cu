#include "kernel/cuda/conv_3x3.cuh"

/* Packing, and the convolutions forward. All packed weights stay in shared memory while a block
 * lives; slices of halos go through a ring of each warp. */

int facs_cuda_conv3x3_fits(const facs_conv *g)
{
    if (g->kh != 3 || g->kw != 3 || g->stride != 1 || g->pad_top != 1 || g->pad_left != 1 ||
        g->groups != 1 || g->oh != g->h || g->ow != g->w || g->co != GROUP || g->ci % GROUP ||
        g->ci > MOST_GROUPS * GROUP)
        return 0;
    return facs_cuda_shared_limit() >= SHARED_WANTED;
}

int64_t facs_cuda_conv3x3_packed(const facs_conv *g)
{
    const size_t bytes = (size_t)g->ci * 9 * GROUP * sizeof(bfloat16);
    return (int64_t)(bytes / sizeof(facs_real));
}

/* Which weight a number of the packed ones is, and the channel that it writes. */
struct weight_place {
    int64_t weight; /* of [3][3][ci][co] */
    int written;
};

__device__ static weight_place weight_place_of(int i, int ci, int backward)
{
    const int number = i % 8, lane = i / 8 % 32, half = i / 256 % 2, at = i / 512;
    const int ky = at % 3, kx = at / 3 % 3, depth = at / 9 % 2, group = at / 18;
    const int read = 16 * depth + 2 * (lane % 4) + number % 2 + number / 4 * 8;
    const int written = 4 * (lane / 4) + 2 * half + number / 2 % 2;
    weight_place p;
    if (backward) {
        p.written = group * GROUP + written;
        p.weight = ((int64_t)(8 - 3 * ky - kx) * ci + p.written) * GROUP + read;
    } else {
        p.written = written;
        p.weight = ((int64_t)(3 * ky + kx) * ci + group * GROUP + read) * GROUP + written;
    }
    return p;
}

__global__ static void pack(bfloat16 *packed, const float *w, const float *scale, int ci,
                            int backward)
{
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= ci * 9 * GROUP) return;
    const weight_place p = weight_place_of(i, ci, backward);
    put_number(packed + i, scale ? w[p.weight] * scale[p.written] : w[p.weight]);
}

void facs_cuda_conv3x3_pack(facs_real *packed, const facs_conv *g, const facs_real *w,
                            const facs_real *scale, int backward)
{
    FACS_LAUNCH(pack, facs_cuda_blocks(g->ci * 9 * GROUP, 256), 256, 0,
                (bfloat16 *)(void *)packed, w, scale, g->ci, backward);
}

/* --- forward */

static const int RING = 3; /* slices of a warp: two arrive while one is multiplied */

struct forward_end {
    bfloat16 *y;
    int64_t stride;
    int wide;
    const float *bias;
    facs_clamp clamp;
    float *partials; /* [blocks][2][GROUP] or NULL */
};

/* What becomes of a lane's four channels at a pixel. */
struct forward_lane {
    const forward_end &end;
    int channel;
    float4 bias;
    float first[4], second[4];

    __device__ explicit forward_lane(const forward_end &e) : end(e), first(), second()
    {
        channel = (int)threadIdx.x % 32 / 4 * 4;
        bias = make_float4(0, 0, 0, 0);
        if (end.bias)
            bias = make_float4(end.bias[channel], end.bias[channel + 1], end.bias[channel + 2],
                               end.bias[channel + 3]);
    }

    /* Where a pixel's channels are. */
    __device__ bfloat16 *at(int pixel) const { return end.y + pixel * end.stride + channel; }

    __device__ void finish(float4 v, bfloat16 *to)
    {
        v.x = clamped(v.x + bias.x, end.clamp), v.y = clamped(v.y + bias.y, end.clamp);
        v.z = clamped(v.z + bias.z, end.clamp), v.w = clamped(v.w + bias.w, end.clamp);
        store_four(to, v, end.wide);
        if (!end.partials) return;
        const float4 stored = unpack_four(pack_four(v)); /* moments are of what is read */
        const float s[4] = {stored.x, stored.y, stored.z, stored.w};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            first[i] += s[i];
            second[i] += s[i] * s[i];
        }
    }
};

/* The sums of a block's lanes to its partial sums; all threads must call. */
__device__ static void write_moments(const forward_lane &f, float *shared)
{
    const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    __syncthreads();
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float first = f.first[i], second = f.second[i];
        for (int distance = 1; distance < 4; distance *= 2) {
            first += __shfl_xor_sync(0xffffffffu, first, distance);
            second += __shfl_xor_sync(0xffffffffu, second, distance);
        }
        if (lane % 4 == 0) {
            shared[2 * warp * GROUP + f.channel + i] = first;
            shared[(2 * warp + 1) * GROUP + f.channel + i] = second;
        }
    }
    __syncthreads();
    if (threadIdx.x >= 2 * GROUP) return;
    float sum = 0;
    for (int i = 0; i < WARPS; i++) sum += shared[2 * i * GROUP + threadIdx.x];
    f.end.partials[blockIdx.x * 2 * GROUP + threadIdx.x] = sum;
}

/* A tile that its warp summed alone. */
__device__ static void finish_tile(forward_lane &f, const tile_sums &sums, const map_tiles &m,
                                   const tile_place &p)
{
    const int column = (int)threadIdx.x % 4 * 2;
    bfloat16 *to = f.at(p.first + column);
#pragma unroll
    for (int line = 0; line < SIDE; line++, to += m.w * f.end.stride)
#pragma unroll
        for (int i = 0; i < 2; i++)
            if (p.y + line < m.h && p.x + column + i < m.w)
                f.finish(sums.at(line, i), to + i * f.end.stride);
}

/* A tile whose channels MOST_GROUPS neighbouring warps summed, through the slices that they
 * have multiplied, four lines at a time; a warp then finishes one of them. */
__device__ static void finish_shared(forward_lane &f, const tile_sums &sums, const map_tiles &m,
                                     const tile_place &p, char *slice, size_t ring_bytes)
{
    const int lane = threadIdx.x % 32, part = threadIdx.x / 32 % MOST_GROUPS;
    const int column = lane % 4 * 2;
    float4 *mine = (float4 *)slice + lane;
    const char *others = slice - part * ring_bytes;
#pragma unroll
    for (int top = 0; top < SIDE; top += MOST_GROUPS) {
        __syncthreads();
#pragma unroll
        for (int line = 0; line < MOST_GROUPS; line++)
#pragma unroll
            for (int i = 0; i < 2; i++) mine[(2 * line + i) * 32] = sums.at(top + line, i);
        __syncthreads();
        const int line = top + part;
        for (int i = 0; i < 2; i++) {
            float4 v = make_float4(0, 0, 0, 0);
            for (int j = 0; j < MOST_GROUPS; j++) {
                const float4 a =
                    ((const float4 *)(others + j * ring_bytes))[(2 * part + i) * 32 + lane];
                v.x += a.x, v.y += a.y, v.z += a.z, v.w += a.w;
            }
            if (p.inside && p.y + line < m.h && p.x + column + i < m.w)
                f.finish(v, f.at(p.first + line * m.w + column + i));
        }
    }
    __syncthreads();
}

struct forward_shared {
    static const size_t VECTORS = 2 * MOST_GROUPS * GROUP * sizeof(float);
    static const size_t WEIGHTS = MOST_GROUPS * GROUP_WEIGHTS * sizeof(bfloat16);
    static const size_t BYTES = VECTORS + WEIGHTS + WARPS * slice_ring<RING, true>::BYTES;
};
static_assert(forward_shared::BYTES <= SHARED_WANTED, "shared memory");

/* A tile is one warp's, or SHARED, where tiles are few, that of MOST_GROUPS warps with a group
 * of channels each. */
template <bool SHARED>
__global__ static void __launch_bounds__(WARPS * 32, 1)
    forward(halo_source source, facs_norm norm, const bfloat16 *packed, int groups, map_tiles m,
            forward_end end)
{
    facs_cuda_begin();
    extern __shared__ __align__(16) char shared[];
    float *vectors = (float *)shared;
    bfloat16 *weights = (bfloat16 *)(shared + forward_shared::VECTORS);
    const int warp = threadIdx.x / 32, part = warp % MOST_GROUPS;
    char *slices = shared + forward_shared::VECTORS + forward_shared::WEIGHTS +
                   warp * slice_ring<RING, true>::BYTES;
    const int at_once = (int)gridDim.x * (SHARED ? WARPS / MOST_GROUPS : WARPS);
    int tile = (int)blockIdx.x + (int)gridDim.x * (SHARED ? warp / MOST_GROUPS : warp);
    const int from = SHARED ? part : 0, to = !SHARED ? groups : part < groups ? part + 1 : part;
    slice_ring<RING, true> ring = {
        source, m, (bfloat16 *)slices, {tile, at_once, from, from, to}, 0, {0, 0}};
    forward_lane lane(end);

    bring_norm(vectors, norm, 0, groups * GROUP, 0);
    ring.start(weights, packed, groups);
    /* Of a shared tile all of the block take part in every round. */
    for (int done = 0; SHARED ? done < m.count : tile < m.count; done += at_once) {
        const tile_place p = tile_place_of(m, tile);
        tile_sums sums;
        bfloat16 *slice = NULL;
        sums.clear();
        if (SHARED) {
            slice = ring.take(norm, vectors, groups * GROUP, part < groups ? part : 0);
            if (part < groups && p.inside) sums.add(slice, weights + part * GROUP_WEIGHTS);
            finish_shared(lane, sums, m, p, (char *)slice, slice_ring<RING, true>::BYTES);
        } else {
            for (int group = 0; group < groups; group++) {
                slice = ring.take(norm, vectors, groups * GROUP, group);
                sums.add(slice, weights + group * GROUP_WEIGHTS);
            }
            finish_tile(lane, sums, m, p);
        }
        tile += at_once;
    }
    wait_for_copies<0>();
    if (end.partials) write_moments(lane, (float *)shared);
}

template <bool SHARED>
static void launch_forward(const halo_source &source, const facs_norm &norm,
                           const facs_real *packed, int groups, const map_tiles &m,
                           const forward_end &end, unsigned blocks)
{
    facs_cuda_allow_shared(forward<SHARED>, forward_shared::BYTES);
    FACS_LAUNCH_BEGINNING("forward", forward<SHARED>, blocks, WARPS * 32, forward_shared::BYTES,
                          source, norm, (const bfloat16 *)(const void *)packed, groups, m, end);
}

void facs_cuda_conv3x3_fwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                           const facs_tensor *x, const facs_norm *norm, const facs_real *packed,
                           const facs_real *bias, facs_clamp clamp, const facs_moments *moments)
{
    const map_tiles m = map_tiles_of(g, y->n);
    const unsigned blocks = facs_cuda_conv3x3_blocks(m.count);
    const forward_end end = {data_of<bfloat16>(*y),
                             y->stride,
                             facs_cuda_by_eight<bfloat16>(y),
                             bias,
                             clamp,
                             moments ? (float *)ctx->scratch : NULL};
    if (m.count < 1) return;
    if (facs_cuda_conv3x3_few(m.count))
        launch_forward<true>(halo_source_of(x), facs_cuda_norm(norm), packed, g->ci / GROUP, m,
                             end, blocks);
    else
        launch_forward<false>(halo_source_of(x), facs_cuda_norm(norm), packed, g->ci / GROUP, m,
                              end, blocks);
    if (moments)
        facs_cuda_finish_moments(end.partials, blocks, g->co, facs_tensor_pixels(y), moments);
}
