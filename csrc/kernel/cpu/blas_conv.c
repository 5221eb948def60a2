#ifndef FACS_DOUBLE

#    include "core/blas.h"
#    include "core/threads.h"
#    include "kernel/cpu/columns.h"
#    include "kernel/kernel.h"

/* Dense convolution through the system's matrix product, for processors without kernels
 * of our own. Each call runs on one of our workers. Packed weights are plain matrices:
 * forward [kh kw ci][co]; backward, for every phase of the stride, [its taps co][ci]. */

enum { BLOCK_NUMBERS = 65536, BLOCK_LEAST = 32, BLOCK_MOST = 512 };
enum { RUN_NUMBERS = 1 << 20, MOST_RUNS = 16, CHUNK = 512, GROUP_COLUMNS = 128, SUMS = 4096 };

typedef struct product {
    facs_columns in;
    const facs_tensor *out;
    int columns, out_step, out_y, out_x; /* grid point q is pixel q out_step + out_y */
    const float *b, *bias;
    facs_clamp clamp;
    int accumulate;
    int64_t rows, block_rows, depth, worker_size;
    float *scratch;
} product;

static int64_t smaller(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static int64_t ceil_divide(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static product product_of(facs_columns in, const facs_tensor *out, int step, int y, int x)
{
    product p = {
        .in = in, .out = out, .columns = out->c, .out_step = step, .out_y = y, .out_x = x};
    p.depth = facs_columns_depth(&in);
    p.rows = out->n * in.grid_h * in.grid_w;
    p.block_rows = smaller(larger(BLOCK_NUMBERS / larger(p.depth, 1), BLOCK_LEAST), BLOCK_MOST);
    p.worker_size = p.block_rows * (p.depth + (step > 1 ? p.columns : 0));
    return p;
}

static product product_backward(const facs_conv *g, const facs_tensor *dx,
                                const facs_tensor *dy, int phase)
{
    const int y = phase / g->stride, x = phase % g->stride;
    return product_of(facs_columns_backward(g, dy, y, x), dx, g->stride, y, x);
}

static float *product_pixel(const product *p, int64_t row)
{
    const int64_t area = (int64_t)p->in.grid_h * p->in.grid_w;
    const int point = (int)(row % area), qy = point / p->in.grid_w, qx = point % p->in.grid_w;
    const int y = qy * p->out_step + p->out_y, x = qx * p->out_step + p->out_x;
    return facs_tensor_image(p->out, row / area) +
           ((int64_t)y * p->out->w + x) * p->out->stride;
}

static void finish_pixel(const product *p, float *pixel)
{
    for (int c = 0; c < p->columns; c++) {
        const float value = p->bias ? pixel[c] + p->bias[c] : pixel[c];
        const float raised = value < p->clamp.low ? p->clamp.low : value;
        pixel[c] = raised > p->clamp.high ? p->clamp.high : raised;
    }
}

static const float *columns_rows(const facs_columns *m, float *buffer, int64_t first,
                                 int64_t rows, int64_t *stride)
{
    if (facs_columns_direct(m)) {
        *stride = m->source->stride;
        return m->source->data + first * *stride;
    }
    *stride = facs_columns_depth(m);
    for (int64_t i = 0; i < rows; i++) facs_columns_row(m, buffer + i * *stride, first + i);
    return buffer;
}

static void product_task(void *context, int64_t block, int worker)
{
    const product *p = context;
    const int64_t first = block * p->block_rows, rows = smaller(p->block_rows, p->rows - first);
    float *buffer = p->scratch + worker * p->worker_size,
          *result = buffer + p->block_rows * p->depth;
    const int direct = p->out_step == 1;
    int64_t stride = 1;

    if (direct) result = p->out->data + first * p->out->stride;
    const float *a = columns_rows(&p->in, buffer, first, rows, &stride);
    const int result_stride = direct ? (int)p->out->stride : p->columns;
    /* A phase that no tap reaches has no factors. */
    if (p->depth == 0)
        memset(result, 0, (size_t)(rows * p->columns) * sizeof *result);
    else
        facs_blas_gemm(0, 0, (int)rows, p->columns, (int)p->depth, a, (int)stride, p->b,
                       p->columns, direct && p->accumulate ? 1.0f : 0.0f, result,
                       result_stride);
    for (int64_t i = 0; i < rows; i++) {
        const float *row = result + i * result_stride;
        float *pixel = product_pixel(p, first + i);
        for (int c = 0; c < p->columns && !direct; c++)
            pixel[c] = p->accumulate ? pixel[c] + row[c] : row[c];
        if (p->in.direction > 0) finish_pixel(p, pixel);
    }
}

static void product_run(const facs_context *ctx, product *p)
{
    p->scratch = ctx->scratch;
    facs_parallel(ctx->threads, ceil_divide(p->rows, p->block_rows), product_task, p);
}

static int64_t packed(const facs_conv *g)
{
    return (int64_t)g->kh * g->kw * g->ci * g->co;
}

static void pack(float *packed, const facs_conv *g, const float *w, const float *scale)
{
    const int64_t depth = (int64_t)g->kh * g->kw * g->ci;
    for (int64_t k = 0; k < depth; k++)
        for (int o = 0; o < g->co; o++, packed++, w++) *packed = scale ? *w * scale[o] : *w;
}

static void pack_bwd(float *packed, const facs_conv *g, const float *w)
{
    for (int phase = 0; phase < g->stride * g->stride; phase++) {
        const int ky0 = facs_columns_first_tap(g, phase / g->stride, g->pad_top);
        const int kx0 = facs_columns_first_tap(g, phase % g->stride, g->pad_left);
        for (int ky = ky0; ky < g->kh; ky += g->stride)
            for (int kx = kx0; kx < g->kw; kx += g->stride) {
                const float *tap = w + (int64_t)(ky * g->kw + kx) * g->ci * g->co;
                for (int o = 0; o < g->co; o++)
                    for (int i = 0; i < g->ci; i++) *packed++ = tap[(int64_t)i * g->co + o];
            }
    }
}

static void fwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *y,
                const facs_tensor *x, const float *packed, const float *bias, facs_clamp clamp)
{
    product p = product_of(facs_columns_forward(g, x), y, 1, 0, 0);
    p.b = packed;
    p.bias = bias;
    p.clamp = clamp;
    product_run(ctx, &p);
}

static void bwd_x(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                  const facs_tensor *dy, const float *packed, int accumulate)
{
    for (int phase = 0; phase < g->stride * g->stride; phase++) {
        product p = product_backward(g, dx, dy, phase);
        p.b = packed;
        p.accumulate = accumulate;
        product_run(ctx, &p);
        packed += p.depth * g->ci;
    }
}

typedef struct gradient {
    facs_columns in;
    const facs_tensor *dy;
    float *partials, *dw, *scratch; /* partials: runs x dw; with one run dw itself */
    int64_t rows, depth, runs, groups, worker_size;
} gradient;

static gradient gradient_of(const facs_conv *g, const facs_tensor *x, const facs_tensor *dy)
{
    gradient p = {.in = facs_columns_forward(g, x), .dy = dy};
    p.rows = dy->n * g->oh * g->ow;
    p.depth = facs_columns_depth(&p.in);
    p.runs = smaller(RUN_NUMBERS / (p.depth * g->co), ceil_divide(p.rows, CHUNK));
    p.runs = smaller(larger(p.runs, 1), MOST_RUNS);
    p.groups = ceil_divide(g->co, GROUP_COLUMNS);
    p.worker_size = facs_columns_direct(&p.in) ? 0 : CHUNK * p.depth;
    return p;
}

static void gradient_task(void *context, int64_t block, int worker)
{
    const gradient *p = context;
    const int64_t run = block / p->groups, first = block % p->groups * GROUP_COLUMNS;
    const int columns = (int)smaller(GROUP_COLUMNS, p->dy->c - first);
    const int64_t chunks = ceil_divide(p->rows, CHUNK), begin = chunks * run / p->runs;
    float *result = p->partials + run * p->depth * p->dy->c + first;

    for (int64_t chunk = begin; chunk < chunks * (run + 1) / p->runs; chunk++) {
        const int64_t row = chunk * CHUNK, rows = smaller(CHUNK, p->rows - row);
        int64_t stride;
        const float *x =
            columns_rows(&p->in, p->scratch + worker * p->worker_size, row, rows, &stride);
        facs_blas_gemm(1, 0, (int)p->depth, columns, (int)rows, x, (int)stride,
                       p->dy->data + row * p->dy->stride + first, (int)p->dy->stride,
                       chunk > begin ? 1.0f : 0.0f, result, p->dy->c);
    }
}

static void sum_task(void *context, int64_t block, int worker)
{
    const gradient *p = context;
    const int64_t count = p->depth * p->dy->c, end = smaller((block + 1) * SUMS, count);
    (void)worker;
    for (int64_t i = block * SUMS; i < end; i++) {
        float sum = p->partials[i];
        for (int64_t run = 1; run < p->runs; run++) sum += p->partials[run * count + i];
        p->dw[i] = sum;
    }
}

static void bwd_w(const facs_context *ctx, const facs_conv *g, float *dw, const facs_tensor *x,
                  const facs_tensor *dy)
{
    gradient p = gradient_of(g, x, dy);
    const int64_t count = packed(g);

    p.dw = dw;
    p.partials = p.runs > 1 ? ctx->scratch : dw;
    p.scratch = (float *)ctx->scratch + (p.runs > 1 ? p.runs * count : 0);
    facs_parallel(ctx->threads, p.runs * p.groups, gradient_task, &p);
    if (p.runs > 1) facs_parallel(ctx->threads, ceil_divide(count, SUMS), sum_task, &p);
}

static size_t fwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    const facs_tensor x = {NULL, n, g->h, g->w, g->ci, g->ci};
    const facs_tensor y = {NULL, n, g->oh, g->ow, g->co, g->co};
    const product p = product_of(facs_columns_forward(g, &x), &y, 1, 0, 0);
    return (size_t)(p.worker_size * threads) * sizeof(float);
}

static size_t bwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    const facs_tensor x = {NULL, n, g->h, g->w, g->ci, g->ci};
    const facs_tensor y = {NULL, n, g->oh, g->ow, g->co, g->co};
    const gradient weights = gradient_of(g, &x, &y);
    int64_t most = 0;

    for (int phase = 0; phase < g->stride * g->stride; phase++)
        most = larger(most, product_backward(g, &x, &y, phase).worker_size * threads);
    most = larger(most, (weights.runs > 1 ? weights.runs * packed(g) : 0) +
                            weights.worker_size * threads);
    return (size_t)most * sizeof(float);
}

const facs_kernels facs_kernels_blas = {
    .name = "blas",
    .conv_fwd_scratch = fwd_scratch,
    .conv_bwd_scratch = bwd_scratch,
    .conv_packed = packed,
    .conv_pack = pack,
    .conv_packed_bwd = packed,
    .conv_pack_bwd = pack_bwd,
    .conv_fwd = fwd,
    .conv_bwd_x = bwd_x,
    .conv_bwd_w = bwd_w,
};

#endif
