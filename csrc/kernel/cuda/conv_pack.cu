#include "kernel/cuda/conv.cuh"
#include "kernel/cuda/conv_3x3.h"
#include "kernel/cuda/conv_end.cuh"

/* Weights [kh][kw][ci][co] to the factors of a product: see conv.cuh. */

/* Number (tap, read, written) of the factor is w[tap][read][written] times scale[written], or
 * for the way back w[tap][written][read]. */
template <class T>
__global__ static void pack(T *packed, const float *w, const float *scale, tap_order order,
                            int kw, int inner, int columns, int depth, int padded, int backward)
{
    const int64_t count = (int64_t)depth * padded;
    const int paired = order.paired;
    for (int64_t i = blockIdx.x * (int64_t)blockDim.x + threadIdx.x; i < count;
         i += (int64_t)gridDim.x * blockDim.x) {
        const int written = dealt_column<T>((int)(i % padded)), at = (int)(i / padded);
        const tap_chunk c = tap_chunk_at(order, at / 8);
        const int kx = c.kx + (paired ? at % 8 / 4 : 0), tap = c.ky * kw + kx;
        const int read = c.channel + (paired ? at % 4 : at % 8);
        float value = 0;
        if (c.inside && kx < kw && read < inner && written < columns) {
            value = backward ? w[((int64_t)tap * columns + written) * inner + read]
                             : w[((int64_t)tap * inner + read) * columns + written];
            if (scale) value *= scale[written];
        }
        put_number(packed + i, value);
    }
}

template <class T>
static void run_pack(facs_real *packed, const facs_conv *g, const facs_real *w,
                     const facs_real *scale, int backward)
{
    const int inner = backward ? g->co : g->ci, columns = backward ? g->ci : g->co;
    const int paired = facs_conv_paired(inner, backward);
    const int depth = facs_conv_depth(g, inner, paired);
    const int padded = facs_conv_padded(columns);
    const unsigned blocks = facs_cuda_blocks((int64_t)depth * padded, 256);
    FACS_LAUNCH(pack<T>, blocks < 1024 ? blocks : 1024, 256, 0, (T *)(void *)packed, w, scale,
                tap_order_of(g, inner, paired), g->kw, inner, columns, depth, padded, backward);
}

/* In facs_real, which the plan counts in; blocks of it are aligned for any of the types. */
template <class T>
static int64_t packed_numbers(const facs_conv *g, int inner, int columns, int backward)
{
    const int64_t bytes =
        (int64_t)facs_conv_depth(g, inner, facs_conv_paired(inner, backward)) *
        facs_conv_padded(columns) * (int64_t)sizeof(T);
    return (bytes + (int64_t)sizeof(facs_real) - 1) / (int64_t)sizeof(facs_real);
}

template <class T> int64_t facs_cuda_rows<T>::conv_packed(const facs_conv *g)
{
    if (facs_cuda_conv3x3_suits<T>(g)) return facs_cuda_conv3x3_packed(g);
    return packed_numbers<T>(g, g->ci, g->co, 0);
}

template <class T>
void facs_cuda_rows<T>::conv_pack(facs_real *packed, const facs_conv *g, const facs_real *w,
                                  const facs_real *scale)
{
    if (facs_cuda_conv3x3_suits<T>(g)) return facs_cuda_conv3x3_pack(packed, g, w, scale, 0);
    run_pack<T>(packed, g, w, scale, 0);
}

template <class T> int64_t facs_cuda_rows<T>::conv_packed_bwd(const facs_conv *g)
{
    if (facs_cuda_conv3x3_suits<T>(g)) return facs_cuda_conv3x3_packed(g);
    return packed_numbers<T>(g, g->co, g->ci, 1);
}

template <class T>
void facs_cuda_rows<T>::conv_pack_bwd(facs_real *packed, const facs_conv *g, const facs_real *w)
{
    if (facs_cuda_conv3x3_suits<T>(g)) return facs_cuda_conv3x3_pack(packed, g, w, NULL, 1);
    run_pack<T>(packed, g, w, NULL, 1);
}

FACS_CUDA_ROW(conv_packed)
FACS_CUDA_ROW(conv_pack)
FACS_CUDA_ROW(conv_packed_bwd)
FACS_CUDA_ROW(conv_pack_bwd)
