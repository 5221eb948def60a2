#include "kernel/cuda/cuda.h"

/* The convolutions one behind the other, each with its whole result in scratch: nothing here is
 * faster than that, so plans are told that nothing suits. */

template <class T> int facs_cuda_rows<T>::separable_suits(const facs_separable *)
{
    return 0;
}

static size_t map_bytes(const facs_conv *g, int64_t n, size_t number)
{
    const size_t bytes = g ? (size_t)(n * g->oh * g->ow * g->co) * number : 0;
    return (bytes + 63) / 64 * 64;
}

template <class T>
size_t facs_cuda_rows<T>::separable_fwd_scratch(const facs_separable *s, int64_t n, int)
{
    return map_bytes(s->expand.g, n, sizeof(T)) + map_bytes(s->depthwise.g, n, sizeof(T));
}

static facs_tensor map_of(const facs_conv *g, int64_t n, void *data)
{
    return facs_tensor{(facs_real *)data, n, g->oh, g->ow, g->co, g->co};
}

template <class T>
void facs_cuda_rows<T>::separable_fwd(const facs_context *ctx, const facs_separable *s,
                                      const facs_tensor *y, const facs_tensor *x,
                                      const facs_tensor *residual)
{
    const facs_layer &e = s->expand, &d = s->depthwise, &p = s->project;
    char *scratch = (char *)ctx->scratch;
    const facs_tensor middle = map_of(d.g, x->n, scratch + map_bytes(e.g, x->n, sizeof(T)));
    facs_tensor wide = *x;

    if (e.g) {
        wide = map_of(e.g, x->n, scratch);
        conv_fwd(ctx, e.g, &wide, x, NULL, e.packed, e.bias, e.clamp, NULL);
    }
    dwconv_fwd(ctx, d.g, &middle, &wide, NULL, d.packed, d.bias, d.clamp, NULL);
    conv_fwd(ctx, p.g, y, &middle, NULL, p.packed, p.bias, p.clamp, NULL);
    if (residual) add_fwd(ctx, y, residual, NULL, y, NULL);
}

FACS_CUDA_ROW(separable_suits)
FACS_CUDA_ROW(separable_fwd_scratch)
FACS_CUDA_ROW(separable_fwd)
