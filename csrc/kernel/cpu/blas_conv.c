#ifndef FACS_DOUBLE

#    include "core/blas.h"
#    include "core/threads.h"
#    include "kernel/cpu/columns.h"
#    include "kernel/cpu/cut.h"
#    include "kernel/kernel.h"

/* Dense convolution through the system's matrix product, for processors without kernels
 * of our own. Each call runs on one of our workers. Packed weights are plain matrices:
 * forward [kh kw ci][co]; backward, for every phase of the stride, [its taps co][ci]. */

enum { BLOCK_NUMBERS = 65536, BLOCK_LEAST = 32, BLOCK_MOST = 512 };
enum { RUN_NUMBERS = 1 << 20, MOST_RUNS = 16, CHUNK = 512, GROUP_COLUMNS = 128, SUMS = 4096 };

typedef struct product {
    facs_columns in;
    const facs_tensor *out; /* NULL: only the sums of `through` are wanted */
    int columns, out_h, out_w, out_step, out_y, out_x; /* point q is pixel q out_step + out_y */
    const float *b, *bias;
    facs_clamp clamp;
    int accumulate;
    const facs_norm *through; /* the result is the gradient of this norm of x */
    const facs_tensor *x;
    int64_t rows, block_rows, blocks, depth, worker_size;
    float *scratch, *partials; /* partials: blocks x 2 x columns */
} product;

static product product_of(facs_columns in, int64_t images, int h, int w, int columns)
{
    product p = {.in = in, .columns = columns, .out_h = h, .out_w = w, .out_step = 1};
    p.depth = facs_columns_depth(&in);
    p.rows = images * in.grid_h * in.grid_w;
    p.block_rows = smaller(larger(BLOCK_NUMBERS / larger(p.depth, 1), BLOCK_LEAST), BLOCK_MOST);
    p.blocks = ceil_divide(p.rows, p.block_rows);
    p.worker_size = p.block_rows * (p.depth + p.columns);
    return p;
}

static product product_backward(const facs_conv *g, const facs_tensor *dy,
                                const facs_correction *correction, int phase)
{
    const int y = phase / g->stride, x = phase % g->stride;
    product p =
        product_of(facs_columns_backward(g, dy, correction, y, x), dy->n, g->h, g->w, g->ci);
    p.out_step = g->stride, p.out_y = y, p.out_x = x;
    return p;
}

static int64_t product_pixel(const product *p, int64_t row)
{
    const int64_t area = (int64_t)p->in.grid_h * p->in.grid_w;
    const int point = (int)(row % area), qy = point / p->in.grid_w, qx = point % p->in.grid_w;
    const int y = qy * p->out_step + p->out_y, x = qx * p->out_step + p->out_x;
    return (row / area * p->out_h + y) * p->out_w + x;
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
    const facs_operand *source = &m->source;
    if (facs_columns_direct(m) && facs_operand_is_ready(source)) {
        *stride = source->t->stride;
        return source->t->data + first * *stride;
    }
    *stride = facs_columns_depth(m);
    facs_columns_rows(m, buffer, *stride, first, rows);
    return buffer;
}

/* A row of the gradient of a norm becomes that of its input; adds to parts. */
static void row_through(const product *p, float *parts, float *row, int64_t pixel)
{
    const facs_norm *norm = p->through;
    const float *x = p->x->data + pixel * p->x->stride;
    for (int c = 0; c < p->columns; c++) {
        const float y = norm->scale[c] * x[c] + norm->shift[c];
        const float h = y > norm->clamp.low && y < norm->clamp.high ? row[c] : 0;
        parts[c] += h;
        parts[p->columns + c] += h * (x[c] - norm->mean[c]);
        row[c] = norm->scale[c] * h;
    }
}

static void finish_rows(const product *p, float *parts, float *result, int64_t first,
                        int64_t rows)
{
    for (int64_t i = 0; i < rows; i++, result += p->columns) {
        const int64_t pixel = product_pixel(p, first + i);
        if (p->through) row_through(p, parts, result, pixel);
        if (!p->out) continue;
        float *out = p->out->data + pixel * p->out->stride;
        for (int c = 0; c < p->columns; c++)
            out[c] = p->accumulate ? out[c] + result[c] : result[c];
    }
}

static void product_task(void *context, int64_t block, int worker)
{
    const product *p = context;
    const int64_t first = block * p->block_rows, rows = smaller(p->block_rows, p->rows - first);
    const int direct = p->out_step == 1 && p->out && !p->through;
    float *buffer = p->scratch + worker * p->worker_size;
    float *parts = p->partials + block * 2 * p->columns;
    float *result =
        direct ? p->out->data + first * p->out->stride : buffer + p->block_rows * p->depth;
    const int result_stride = direct ? (int)p->out->stride : p->columns;
    int64_t stride = 1;

    const float *a = columns_rows(&p->in, buffer, first, rows, &stride);
    /* A phase that no tap reaches has no factors. */
    if (p->depth == 0)
        memset(result, 0, (size_t)(rows * p->columns) * sizeof *result);
    else
        facs_blas_gemm(0, 0, (int)rows, p->columns, (int)p->depth, a, (int)stride, p->b,
                       p->columns, direct && p->accumulate ? 1.0f : 0.0f, result,
                       result_stride);
    memset(parts, 0, 2 * (size_t)p->columns * sizeof *parts);
    if (!direct) finish_rows(p, parts, result, first, rows);
    for (int64_t i = 0; i < rows && p->in.direction > 0; i++)
        finish_pixel(p, result + i * result_stride);
}

static int64_t product_partials(const product *p)
{
    return p->blocks * 2 * p->columns;
}

static int64_t product_numbers(const product *p, int threads)
{
    return product_partials(p) + p->worker_size * threads;
}

static void product_run(const facs_context *ctx, product *p)
{
    p->partials = ctx->scratch;
    p->scratch = p->partials + product_partials(p);
    facs_parallel(ctx->threads, p->blocks, product_task, p);
    if (!p->through || !p->through->sum) return;
    for (int c = 0; c < p->columns; c++) {
        double sum = 0, weighted = 0;
        for (int64_t b = 0; b < p->blocks; b++) {
            sum += p->partials[b * 2 * p->columns + c];
            weighted += p->partials[(b * 2 + 1) * p->columns + c];
        }
        p->through->sum[c] += (float)sum;
        p->through->weighted[c] += (float)weighted;
    }
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
                const facs_tensor *x, const facs_norm *norm, const float *packed,
                const float *bias, facs_clamp clamp, const facs_moments *moments)
{
    product p = product_of(facs_columns_forward(g, x, norm), x->n, g->oh, g->ow, g->co);
    p.out = y;
    p.b = packed;
    p.bias = bias;
    p.clamp = clamp;
    product_run(ctx, &p);
    if (moments) facs_kernels_generic.batchnorm_stats(ctx, moments->mean, moments->variance, y);
}

static void bwd_x(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx,
                  const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                  const facs_correction *correction, const float *packed, int accumulate)
{
    if (correction) facs_kernels_generic.correct(ctx, dy, correction);
    for (int phase = 0; phase < g->stride * g->stride; phase++) {
        product p = product_backward(g, dy, NULL, phase);
        p.out = dx;
        p.x = x;
        p.through = norm;
        p.b = packed;
        p.accumulate = accumulate;
        product_run(ctx, &p);
        packed += p.depth * g->ci;
    }
}

typedef struct gradient {
    facs_columns in;
    facs_operand dy;
    float *partials, *dw, *scratch; /* partials: runs x dw; with one run dw itself */
    int64_t rows, depth, runs, groups, worker_size;
} gradient;

static gradient gradient_of(const facs_conv *g, const facs_tensor *x, const facs_norm *norm,
                            const facs_tensor *dy, const facs_correction *correction)
{
    gradient p = {.in = facs_columns_forward(g, x, norm), .dy = {dy, NULL, correction}};
    p.rows = dy->n * g->oh * g->ow;
    p.depth = facs_columns_depth(&p.in);
    p.runs = smaller(RUN_NUMBERS / (p.depth * g->co), ceil_divide(p.rows, CHUNK));
    p.runs = smaller(larger(p.runs, 1), MOST_RUNS);
    p.groups = ceil_divide(g->co, GROUP_COLUMNS);
    p.worker_size = CHUNK * (p.depth + smaller(g->co, GROUP_COLUMNS));
    return p;
}

/* Columns of dy as they are read, for some rows. */
static const float *gradient_rows(const gradient *p, float *buffer, int64_t row, int64_t rows,
                                  int64_t first, int columns, int *stride)
{
    const facs_operand *dy = &p->dy;
    if (facs_operand_is_ready(dy)) {
        *stride = (int)dy->t->stride;
        return dy->t->data + row * dy->t->stride + first;
    }
    *stride = columns;
    facs_operand_copy(dy, buffer, columns, row, rows, (int)first, columns);
    return buffer;
}

static void gradient_task(void *context, int64_t block, int worker)
{
    const gradient *p = context;
    const int64_t run = block / p->groups, first = block % p->groups * GROUP_COLUMNS;
    const int columns = (int)smaller(GROUP_COLUMNS, p->dy.t->c - first);
    const int64_t chunks = ceil_divide(p->rows, CHUNK), begin = chunks * run / p->runs;
    float *result = p->partials + run * p->depth * p->dy.t->c + first;

    for (int64_t chunk = begin; chunk < chunks * (run + 1) / p->runs; chunk++) {
        const int64_t row = chunk * CHUNK, rows = smaller(CHUNK, p->rows - row);
        float *buffer = p->scratch + worker * p->worker_size;
        int64_t stride;
        int dy_stride;
        const float *x = columns_rows(&p->in, buffer, row, rows, &stride);
        const float *dy =
            gradient_rows(p, buffer + CHUNK * p->depth, row, rows, first, columns, &dy_stride);
        facs_blas_gemm(1, 0, (int)p->depth, columns, (int)rows, x, (int)stride, dy, dy_stride,
                       chunk > begin ? 1.0f : 0.0f, result, p->dy.t->c);
    }
}

static void sum_task(void *context, int64_t block, int worker)
{
    const gradient *p = context;
    const int64_t count = p->depth * p->dy.t->c, end = smaller((block + 1) * SUMS, count);
    (void)worker;
    for (int64_t i = block * SUMS; i < end; i++) {
        float sum = p->partials[i];
        for (int64_t run = 1; run < p->runs; run++) sum += p->partials[run * count + i];
        p->dw[i] = sum;
    }
}

static void bwd_w(const facs_context *ctx, const facs_conv *g, float *dw, const facs_tensor *x,
                  const facs_norm *norm, const facs_tensor *dy,
                  const facs_correction *correction)
{
    gradient p = gradient_of(g, x, norm, dy, correction);
    const int64_t count = packed(g);

    p.dw = dw;
    p.partials = p.runs > 1 ? ctx->scratch : dw;
    p.scratch = (float *)ctx->scratch + (p.runs > 1 ? p.runs * count : 0);
    facs_parallel(ctx->threads, p.runs * p.groups, gradient_task, &p);
    if (p.runs > 1) facs_parallel(ctx->threads, ceil_divide(count, SUMS), sum_task, &p);
}

static void bwd(const facs_context *ctx, const facs_conv *g, const facs_tensor *dx, float *dw,
                const facs_tensor *x, const facs_norm *norm, const facs_tensor *dy,
                const facs_correction *correction, const float *packed, int accumulate)
{
    bwd_x(ctx, g, dx, x, norm, dy, correction, packed, accumulate);
    bwd_w(ctx, g, dw, x, norm, dy, NULL);
}

static size_t fwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    const facs_tensor x = {NULL, n, g->h, g->w, g->ci, g->ci};
    const product p = product_of(facs_columns_forward(g, &x, NULL), n, g->oh, g->ow, g->co);
    const size_t own = (size_t)product_numbers(&p, threads) * sizeof(float);
    const size_t moments =
        facs_kernels_generic.reduce_scratch(g->co, n * g->oh * g->ow, threads);
    return own > moments ? own : moments;
}

static size_t bwd_scratch(const facs_conv *g, int64_t n, int threads)
{
    const facs_tensor x = {NULL, n, g->h, g->w, g->ci, g->ci};
    const facs_tensor y = {NULL, n, g->oh, g->ow, g->co, g->co};
    const gradient weights = gradient_of(g, &x, NULL, &y, NULL);
    int64_t most =
        (weights.runs > 1 ? weights.runs * packed(g) : 0) + weights.worker_size * threads;

    for (int phase = 0; phase < g->stride * g->stride; phase++) {
        const product p = product_backward(g, &y, NULL, phase);
        most = larger(most, product_numbers(&p, threads));
    }
    return (size_t)most * sizeof(float);
}

/* The rows below read weights that are packed otherwise. */
static int suits(const facs_separable *s)
{
    (void)s;
    return 0;
}

const facs_kernels facs_kernels_blas = {
    .name = "blas",
    .number = sizeof(float),
    .conv_fwd_scratch = fwd_scratch,
    .conv_bwd_scratch = bwd_scratch,
    .conv_packed = packed,
    .conv_pack = pack,
    .conv_packed_bwd = packed,
    .conv_pack_bwd = pack_bwd,
    .conv_fwd = fwd,
    .conv_bwd_x = bwd_x,
    .conv_bwd_w = bwd_w,
    .conv_bwd = bwd,
    .separable_suits = suits,
};

#endif
