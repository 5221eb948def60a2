#include "kernel/cuda/conv_3x3.cuh"

/* Input gradients: the 3x3 convolution of dy with the taps turned round. A warp brings the
 * halo of a tile of dy once and writes the channels of dx a group at a time. */

static const int RING = 2;

struct backward_end {
    bfloat16 *dx; /* or NULL */
    const bfloat16 *x;
    int64_t dx_stride, x_stride;
    int channels, wide, accumulate;
    facs_norm norm;
    float *partials; /* [blocks][2][channels] or NULL */
};

/* Of blocks that write `groups` groups of channels. */
struct backward_shared {
    size_t vectors, weights, sums, bytes; /* where parts end */

    __host__ __device__ explicit backward_shared(int groups)
    {
        vectors = 3 * groups * GROUP * sizeof(float);
        weights = vectors + groups * GROUP_WEIGHTS * sizeof(bfloat16);
        sums = weights + groups * WARPS * 2 * 32 * sizeof(float4);
        bytes = sums + WARPS * slice_ring<RING, false>::BYTES;
    }
};

/* A lane's four channels of a group. */
struct backward_lane {
    const backward_end &end;
    const map_tiles &m;
    tile_place p;
    int channel; /* of the tensors */
    uint2 seen[SIDE][2];

    __device__ static int column() { return (int)threadIdx.x % 4 * 2; }
    __device__ int inside(int line, int i) const
    {
        return p.y + line < m.h && p.x + column() + i < m.w;
    }
    __device__ int64_t first(int64_t stride) const
    {
        return ((int64_t)p.first + column()) * stride + channel;
    }

    /* Fetches what was read forward, ahead of its use. */
    __device__ void look()
    {
        if (!end.norm.scale) return;
        if (end.wide)
            look_for<true>();
        else
            look_for<false>();
    }

    template <bool WIDE> __device__ void look_for()
    {
        const bfloat16 *x = end.x + first(end.x_stride);
#pragma unroll
        for (int line = 0; line < SIDE; line++, x += m.w * end.x_stride)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                seen[line][i] = make_uint2(0, 0);
                if (inside(line, i)) seen[line][i] = fetch_four(x + i * end.x_stride, WIDE);
            }
    }

    /* vectors: scale of the channels, shift and mean behind it at a distance of `apart`. The
     * sums of h and of h (x - mean) are added to two numbers in shared memory. */
    __device__ void finish(const tile_sums &sums, const float *vectors, int apart,
                           float4 *both) const
    {
        if (end.wide && end.dx && end.norm.scale && !end.accumulate)
            finish_for<true>(sums, vectors, apart, both);
        else
            finish_for<false>(sums, vectors, apart, both);
    }

    /* PLAIN: what mostly comes, free of branches. */
    template <bool PLAIN>
    __device__ void finish_for(const tile_sums &sums, const float *vectors, int apart,
                               float4 *both) const
    {
        const int normed = PLAIN || end.norm.scale;
        float scale[4], shift[4], mean[4], first_sum[4] = {0}, second_sum[4] = {0};
        bfloat16 *to = end.dx + (PLAIN || end.dx ? first(end.dx_stride) : 0);
        load_four(scale, vectors);
        load_four(shift, vectors + apart);
        load_four(mean, vectors + 2 * apart);
#pragma unroll
        for (int line = 0; line < SIDE; line++, to += m.w * end.dx_stride)
#pragma unroll
            for (int i = 0; i < 2; i++) {
                if (!inside(line, i)) continue;
                const float4 sum = sums.at(line, i), x = unpack_four(seen[line][i]);
                float v[4] = {sum.x, sum.y, sum.z, sum.w};
                const float read[4] = {x.x, x.y, x.z, x.w};
                if (normed)
#pragma unroll
                    for (int k = 0; k < 4; k++) {
                        const float y = scale[k] * read[k] + shift[k];
                        const float h =
                            y > end.norm.clamp.low && y < end.norm.clamp.high ? v[k] : 0;
                        first_sum[k] += h;
                        second_sum[k] += h * (read[k] - mean[k]);
                        v[k] = scale[k] * h;
                    }
                const float4 gradient = make_float4(v[0], v[1], v[2], v[3]);
                if (PLAIN)
                    store_four(to + i * end.dx_stride, gradient, 1);
                else if (end.dx)
                    store(to + i * end.dx_stride, gradient);
            }
        if (!end.partials) return;
        const float4 a = both[0], b = both[32];
        both[0] = make_float4(a.x + first_sum[0], a.y + first_sum[1], a.z + first_sum[2],
                              a.w + first_sum[3]);
        both[32] = make_float4(b.x + second_sum[0], b.y + second_sum[1], b.z + second_sum[2],
                               b.w + second_sum[3]);
    }

    __device__ static void load_four(float v[4], const float *p)
    {
        const float4 raw = *(const float4 *)p;
        v[0] = raw.x, v[1] = raw.y, v[2] = raw.z, v[3] = raw.w;
    }

    __device__ void store(bfloat16 *to, float4 v) const
    {
        if (end.accumulate) {
            const float4 before = unpack_four(fetch_four(to, end.wide));
            v = make_float4(v.x + before.x, v.y + before.y, v.z + before.z, v.w + before.w);
        }
        store_four(to, v, end.wide);
    }
};

/* Adds the lanes' sums [warp][group][2][lane][4]; all threads must call. */
__device__ static void write_sums(const backward_end &end, const float *sums, int groups)
{
    const int channels = groups * GROUP, first = (int)blockIdx.y * channels;
    __syncthreads();
    for (int i = threadIdx.x; i < 2 * channels; i += blockDim.x) {
        const int which = i / channels, c = i % channels;
        float sum = 0;
        for (int warp = 0; warp < WARPS; warp++)
            for (int lane = 0; lane < 4; lane++) {
                const int at = ((warp * groups + c / GROUP) * 2 + which) * 32;
                sum += sums[(at + c % GROUP / 4 * 4 + lane) * 4 + c % 4];
            }
        end.partials[((int64_t)blockIdx.x * 2 + which) * end.channels + first + c] = sum;
    }
}

/* A block writes `groups` groups of channels, of which blockIdx.y says. */
__global__ static void __launch_bounds__(WARPS * 32, 1)
    backward(halo_source source, const bfloat16 *packed, int groups, map_tiles m,
             backward_end end)
{
    facs_cuda_begin();
    extern __shared__ __align__(16) char shared[];
    const backward_shared plan(groups);
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, channels = groups * GROUP;
    const int at_once = (int)gridDim.x * WARPS, first_group = (int)blockIdx.y * groups;
    float *vectors = (float *)shared;
    bfloat16 *weights = (bfloat16 *)(shared + plan.vectors);
    float4 *sums = (float4 *)(shared + plan.weights) + warp * groups * 2 * 32 + lane;
    int tile = (int)blockIdx.x + (int)gridDim.x * warp;
    slice_ring<RING, false> ring = {
        source,
        m,
        (bfloat16 *)(shared + plan.sums + warp * slice_ring<RING, false>::BYTES),
        {tile, at_once, 0, 0, 1},
        0,
        {0}};

    bring_norm(vectors, end.norm, first_group * GROUP, channels, end.partials != NULL);
    for (int i = 0; i < 2 * groups; i++) sums[32 * i] = make_float4(0, 0, 0, 0);
    ring.start(weights, packed + first_group * GROUP_WEIGHTS, groups);
    for (; tile < m.count; tile += at_once) {
        const bfloat16 *slice = ring.take(facs_norm{}, vectors, channels, 0);
        backward_lane mine = {end, m, tile_place_of(m, tile), 0, {}};
        for (int group = 0; group < groups; group++) {
            const int channel = group * GROUP + lane / 4 * 4;
            tile_sums s;
            mine.channel = first_group * GROUP + channel;
            mine.look();
            s.clear();
            s.add(slice, weights + group * GROUP_WEIGHTS);
            mine.finish(s, vectors + channel, channels, sums + 64 * group);
        }
    }
    wait_for_copies<0>();
    if (end.partials) write_sums(end, (const float *)(shared + plan.weights), groups);
}

void facs_cuda_conv3x3_bwd_x(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                             const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                             const facs_real *packed, int accumulate)
{
    const map_tiles m = map_tiles_of(g, dy->n);
    const int few = facs_cuda_conv3x3_few(m.count), all = g->ci / GROUP;
    const int parts = few ? all : 1, most = (MULTIPROCESSORS + parts - 1) / parts;
    const int sums = norm && norm->sum;
    const unsigned blocks = (unsigned)(m.count < most ? m.count : most);
    const backward_shared plan(all / parts);
    const backward_end end = {dx ? data_of<bfloat16>(*dx) : NULL,
                              norm ? data_of<bfloat16>(*x) : NULL,
                              dx ? dx->stride : 0,
                              norm ? x->stride : 0,
                              g->ci,
                              (!dx || facs_cuda_by_eight<bfloat16>(dx)) &&
                                  (!norm || facs_cuda_by_eight<bfloat16>(x)),
                              accumulate,
                              facs_cuda_norm(norm),
                              sums ? (float *)ctx->scratch : NULL};
    if (m.count < 1) return;
    facs_cuda_allow_shared(backward, backward_shared(MOST_GROUPS).bytes);
    FACS_LAUNCH_BEGINNING("backward", backward, dim3(blocks, parts), WARPS * 32, plan.bytes,
                          halo_source_of(dy), (const bfloat16 *)(const void *)packed,
                          all / parts, m, end);
    if (sums) facs_cuda_add_norm_sums(end.partials, blocks, g->ci, norm);
}
