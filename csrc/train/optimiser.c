#include "train/optimiser.h"

#include "core/memory.h"

#include <math.h>
#include <string.h>

struct facs_optimiser {
    facs_optimiser_options options;
    const facs_graph *graph;
    const facs_kernels *kernels;
    const facs_device *device;
    int first_node;
    /* Of the slab from the first trained number to the end: behind what is trained lie all
     * running statistics, those of frozen blocks too, which stay as they are. */
    int64_t start, count;
    facs_real *first_moment, *second_moment, *average; /* of that part */
    double power1, power2;                             /* beta^t */
    double steps;                                      /* t */
};

static facs_status check_options(const facs_optimiser_options *o)
{
    if (!(o->beta1 >= 0 && o->beta1 < 1) || !(o->beta2 >= 0 && o->beta2 < 1))
        return facs_fail(FACS_E_ARG, "optimiser: betas are (%g, %g), want numbers in [0, 1)",
                         o->beta1, o->beta2);
    if (!(o->weight_decay >= 0) || !(o->clip_norm >= 0) || !(o->epsilon > 0))
        return facs_fail(FACS_E_ARG,
                         "optimiser: weight_decay %g, clip_norm %g, epsilon %g: none may be "
                         "negative, epsilon not 0",
                         o->weight_decay, o->clip_norm, o->epsilon);
    if (!(o->average_decay >= 0 && o->average_decay < 1))
        return facs_fail(FACS_E_ARG, "optimiser: average_decay is %g, want a number in [0, 1)",
                         o->average_decay);
    return FACS_OK;
}

static facs_status make_slabs(facs_optimiser *opt, const facs_real *parameters)
{
    const size_t bytes = (size_t)opt->count * sizeof(facs_real);
    FACS_TRY(opt->device->allocate(&opt->first_moment, bytes, "optimiser"));
    if (opt->options.kind != FACS_OPTIMISER_SGD)
        FACS_TRY(opt->device->allocate(&opt->second_moment, bytes, "optimiser"));
    if (opt->options.average_decay > 0) {
        FACS_TRY(opt->device->allocate(&opt->average, bytes, "average of the weights"));
        opt->device->copy(opt->average, parameters + opt->start, bytes);
    }
    return FACS_OK;
}

facs_status facs_optimiser_create(facs_optimiser **out, const facs_graph *graph,
                                  const facs_kernels *kernels, const facs_device *device,
                                  int first_node, const facs_real *parameters,
                                  const facs_optimiser_options *options)
{
    facs_optimiser *opt;

    *out = NULL;
    FACS_TRY(check_options(options));
    FACS_TRY(facs_allocate(&opt, 1, sizeof *opt, "optimiser"));
    *opt = (facs_optimiser){.options = *options,
                            .graph = graph,
                            .kernels = kernels,
                            .device = device,
                            .first_node = first_node,
                            .start = graph->parameter_numbers,
                            .power1 = 1,
                            .power2 = 1};
    for (int i = graph->parameter_count - 1; i >= 0; i--)
        if (graph->parameters[i].node >= first_node) opt->start = graph->parameters[i].offset;
    opt->count = graph->parameter_numbers - opt->start;
    const facs_status status = make_slabs(opt, parameters);
    if (status != FACS_OK) {
        facs_optimiser_free(opt);
        return status;
    }
    *out = opt;
    return FACS_OK;
}

void facs_optimiser_free(facs_optimiser *opt)
{
    if (!opt) return;
    opt->device->release(opt->first_moment);
    opt->device->release(opt->second_moment);
    opt->device->release(opt->average);
    facs_free(opt);
}

size_t facs_optimiser_scratch(const facs_optimiser *opt, int threads)
{
    return opt->kernels->reduce_scratch(1, opt->count, threads);
}

static int is_decayed(const facs_parameter *p)
{
    return p->kind == FACS_PARAMETER_WEIGHT;
}

/* Parameters that lie side by side and are moved alike. */
typedef struct stretch {
    int64_t offset, count;
    facs_real rate, weight_decay;
} stretch;

static void step_stretch(facs_optimiser *opt, const facs_context *context, const stretch *run,
                         facs_real *parameters, const facs_real *gradients, facs_update *u)
{
    const int64_t at = run->offset - opt->start;
    if (!run->count) return;
    u->rate = run->rate;
    u->weight_decay = run->weight_decay;
    if (opt->options.kind == FACS_OPTIMISER_SGD)
        opt->kernels->sgd_step(context, parameters + run->offset, gradients + run->offset,
                               opt->first_moment + at, run->count, u);
    else
        opt->kernels->adam_step(context, parameters + run->offset, gradients + run->offset,
                                opt->first_moment + at, opt->second_moment + at, run->count, u);
}

/* Takes the next parameters into a stretch, where they are moved as it is. */
static int extend(stretch *run, const stretch *next)
{
    if (!run->count || run->offset + run->count != next->offset || run->rate != next->rate ||
        run->weight_decay != next->weight_decay)
        return 0;
    run->count += next->count;
    return 1;
}

/* Running statistics have no gradient: their part of the slab stays 0. */
static double clipping(const facs_optimiser *opt, const facs_context *context,
                       const facs_real *gradients, double *norm)
{
    const double clip = opt->options.clip_norm;
    if (clip <= 0 && !norm) return 1;
    const double found =
        sqrt(opt->kernels->sum_of_squares(context, gradients + opt->start, opt->count));
    if (norm) *norm = found;
    return clip > 0 && found > clip ? clip / found : 1;
}

void facs_optimiser_step(facs_optimiser *opt, const facs_context *context,
                         facs_real *parameters, const facs_real *gradients, double rate,
                         const double *block_rates, double *norm)
{
    const facs_optimiser_options *o = &opt->options;

    opt->steps++;
    opt->power1 *= o->beta1;
    opt->power2 *= o->beta2;
    facs_update u = {.beta1 = (facs_real)o->beta1,
                     .beta2 = (facs_real)o->beta2,
                     .epsilon = (facs_real)o->epsilon,
                     .correction1 = (facs_real)(1 - opt->power1),
                     .correction2 = (facs_real)(1 - opt->power2),
                     .gradient_scale = (facs_real)clipping(opt, context, gradients, norm),
                     .decoupled = o->kind == FACS_OPTIMISER_ADAMW,
                     .nesterov = o->nesterov};
    stretch run = {.offset = opt->start};
    for (int i = 0; i < opt->graph->parameter_count; i++) {
        const facs_parameter *p = &opt->graph->parameters[i];
        if (p->node < opt->first_node || !facs_parameter_is_trained(p)) continue;
        const stretch own = {.offset = p->offset,
                             .count = p->count,
                             .rate =
                                 (facs_real)(rate * (block_rates ? block_rates[p->block] : 1)),
                             .weight_decay = is_decayed(p) ? (facs_real)o->weight_decay : 0};
        if (!extend(&run, &own)) {
            step_stretch(opt, context, &run, parameters, gradients, &u);
            run = own;
        }
    }
    step_stretch(opt, context, &run, parameters, gradients, &u);
    if (opt->average)
        opt->kernels->ema_step(
            context, opt->average, parameters + opt->start, opt->count,
            (facs_real)fmin(o->average_decay, (1 + opt->steps) / (10 + opt->steps)));
}

void facs_optimiser_swap_average(facs_optimiser *opt, facs_real *parameters)
{
    if (opt->average) opt->kernels->exchange(opt->average, parameters + opt->start, opt->count);
}
