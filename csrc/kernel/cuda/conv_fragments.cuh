#ifndef FACS_KERNEL_CUDA_CONV_FRAGMENTS_CUH
#define FACS_KERNEL_CUDA_CONV_FRAGMENTS_CUH

#include "kernel/cuda/conv_end.cuh"

/* The end of a product whose sums stay in the registers that mma.sync left them in: of each 16
 * rows a thread has rows lane / 4 and lane / 4 + 8, of each 32 columns the eight from
 * 8 * (lane % 4) on (see dealt_column). */

/* A thread's two sums of the channels of its GROUPS of 32 columns, over all its tiles. */
template <int GROUPS> struct fragment_totals {
    float first[GROUPS][8], second[GROUPS][8];

    __device__ fragment_totals()
    {
#pragma unroll
        for (int g = 0; g < GROUPS; g++)
#pragma unroll
            for (int i = 0; i < 8; i++) first[g][i] = second[g][i] = 0;
    }
};

/* Ends DOWN x 16 rows from first_row of the tile on and GROUPS x 32 columns. */
template <int DOWN, int GROUPS, class End, class Places>
__device__ static inline void
finish_fragments(const End &end, const float (&sum)[DOWN][4 * GROUPS][4], const Places &places,
                 int first_row, int first_column, fragment_totals<GROUPS> &totals)
{
    static const int AHEAD = End::AHEAD < 2 * DOWN ? End::AHEAD : 2 * DOWN;
    const int lane = threadIdx.x % 32;
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        const int column = first_column + 32 * g + lane % 4 * 8;
        if (column >= end.columns) continue;
        const typename End::channels c = end.channels_of(column);
#pragma unroll
        for (int i = 0; i < 2 * DOWN; i += AHEAD) {
            typename End::ahead a[AHEAD];
            int64_t row[AHEAD];
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                row[j] = places.at(first_row + 8 * (i + j) + lane / 4);
                if (row[j] >= 0) a[j] = end.look(row[j], column);
            }
#pragma unroll
            for (int j = 0; j < AHEAD; j++) {
                const int half = (i + j) % 2;
                float v[8];
                if (row[j] < 0) continue;
#pragma unroll
                for (int k = 0; k < 8; k++)
                    v[k] = sum[(i + j) / 2][4 * g + k / 2][2 * half + k % 2];
                end.finish(row[j], column, v, c, a[j], totals.first[g], totals.second[g]);
            }
        }
    }
}

/* Writes the block's sums, of warps of which WARPS_DOWN lie below each other; `shared` has
 * 2 * WARPS_DOWN * COLUMNS floats. All threads must call. */
template <int COLUMNS, int WARPS_DOWN, int GROUPS, class End>
__device__ static inline void
write_fragment_totals(const End &end, float *shared, int warp_down, int warp_column,
                      int first_column, fragment_totals<GROUPS> &totals)
{
    const int lane = threadIdx.x % 32;
    __syncthreads();
#pragma unroll
    for (int g = 0; g < GROUPS; g++) {
        const int column = warp_column + 32 * g + lane % 4 * 8;
        end.centre(first_column + column, totals.first[g], totals.second[g]);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            float first = totals.first[g][i], second = totals.second[g][i];
#pragma unroll
            for (int distance = 4; distance < 32; distance *= 2) {
                first += __shfl_xor_sync(0xffffffffu, first, distance);
                second += __shfl_xor_sync(0xffffffffu, second, distance);
            }
            if (lane >= 4) continue;
            shared[2 * warp_down * COLUMNS + column + i] = first;
            shared[(2 * warp_down + 1) * COLUMNS + column + i] = second;
        }
    }
    __syncthreads();
    for (int at = threadIdx.x; at < 2 * COLUMNS; at += blockDim.x) {
        const int which = at / COLUMNS, column = at % COLUMNS;
        float sum = 0;
#pragma unroll
        for (int i = 0; i < WARPS_DOWN; i++) sum += shared[(2 * i + which) * COLUMNS + column];
        if (first_column + column < end.columns)
            end.partials[((int64_t)blockIdx.x * 2 + which) * end.columns + first_column +
                         column] = sum;
    }
}

#endif
