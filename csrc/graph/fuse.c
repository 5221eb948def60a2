#include "graph/plan_internal.h"

/* Which convolutions of inference one kernel does: a depthwise one with the 1x1 behind it, the
 * dense one or another such chain before it and the addition behind them, where each has no
 * other reader. */

static const facs_plan_node *conv_at(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    const int fits = p->node.op == FACS_OP_CONV && p->mode == FACS_MODE_INFER &&
                     plan->nodes[p->node.input[0]].node.op != FACS_OP_BATCHNORM;
    return fits ? p : NULL;
}

/* The convolution that node i reads and nobody else does, or -1. */
static int conv_before(const facs_plan *plan, int i)
{
    const int x = plan->nodes[i].node.input[0];
    const facs_plan_node *p = conv_at(plan, x);
    return p && p->consumers == 1 && p->narrow == plan->nodes[i].narrow ? x : -1;
}

/* The addition of something computed before node `first` that reads node i and nobody else
 * does, or i itself. */
static int addition_behind(const facs_plan *plan, int i, int first)
{
    if (plan->nodes[i].consumers != 1) return i;
    for (int k = i + 1; k < plan->count; k++) {
        const facs_plan_node *p = &plan->nodes[k];
        if (p->node.op != FACS_OP_ADD) continue;
        const int j = p->node.input[1] == i, other = p->node.input[!j];
        if (p->node.input[j] != i) continue;
        const int fits = p->mode == FACS_MODE_INFER && other < first &&
                         p->narrow == plan->nodes[i].narrow &&
                         plan->nodes[other].node.op != FACS_OP_BATCHNORM;
        return fits ? k : i;
    }
    return i;
}

static const facs_conv *geometry_of(const facs_plan *plan, int i)
{
    return i < 0 ? NULL : &plan->nodes[i].node.u.conv.geometry;
}

/* Geometries alone, of a chain and those before it. */
static void separable_of(const facs_plan *plan, facs_chain c,
                         facs_separable parts[FACS_SEPARABLE_MOST])
{
    facs_chain chains[FACS_SEPARABLE_MOST];
    const int count = facs_plan_chains(plan, c, chains);
    for (int i = 0; i < count; i++)
        parts[i] = (facs_separable){.expand.g = geometry_of(plan, chains[i].expand),
                                    .depthwise.g = geometry_of(plan, chains[i].depthwise),
                                    .project.g = geometry_of(plan, chains[i].project),
                                    .before = i + 1 < count ? &parts[i + 1] : NULL};
}

static int suits(const facs_plan *plan, facs_chain c)
{
    facs_separable parts[FACS_SEPARABLE_MOST];
    separable_of(plan, c, parts);
    return facs_plan_op_kernels(plan, c.project)->separable_suits(parts);
}

/* Fuses what ends with the convolution i, if that suits. */
static void try_chain(facs_plan *plan, int i)
{
    facs_chain c = {.expand = -1, .depthwise = -1, .project = i, .before = -1, .residual = -1};
    facs_chain chains[FACS_SEPARABLE_MOST];

    if (!conv_at(plan, i) || geometry_of(plan, i)->groups != 1) return;
    c.depthwise = conv_before(plan, i);
    if (c.depthwise < 0 || !facs_conv_is_depthwise(geometry_of(plan, c.depthwise))) return;
    const int before = conv_before(plan, c.depthwise);
    if (before >= 0 && plan->nodes[before].chain < 0)
        c.expand = before;
    else if (before >= 0 && facs_plan_chains(plan, facs_plan_chain(plan, before), chains) <
                                FACS_SEPARABLE_MOST)
        c.before = before;
    if (!suits(plan, c)) c.expand = c.before = -1;
    if (!suits(plan, c)) return;

    const int first = facs_chain_first(chains[facs_plan_chains(plan, c, chains) - 1]);
    const int last = addition_behind(plan, i, first);
    for (int k = first; k < i && c.before >= 0; k++)
        if (plan->nodes[k].step == c.before) plan->nodes[k].step = last;
    if (c.expand >= 0) plan->nodes[c.expand].step = last;
    plan->nodes[c.depthwise].step = plan->nodes[i].step = last;
    plan->nodes[last].chain = c.depthwise;
}

void facs_plan_fuse(facs_plan *plan)
{
    for (int i = 0; i < plan->count; i++) try_chain(plan, i);
}

facs_chain facs_plan_chain(const facs_plan *plan, int i)
{
    const facs_plan_node *p = &plan->nodes[i];
    facs_chain c = {
        .expand = -1, .depthwise = p->chain, .project = i, .before = -1, .residual = -1};
    const int before = plan->nodes[c.depthwise].node.input[0];

    if (p->node.op == FACS_OP_ADD) {
        const int first = p->node.input[0];
        c.project = plan->nodes[first].node.input[0] == c.depthwise ? first : p->node.input[1];
        c.residual = p->node.input[c.project == first];
    }
    if (plan->nodes[before].step != p->step) return c;
    if (plan->nodes[before].chain >= 0)
        c.before = before;
    else
        c.expand = before;
    return c;
}

int facs_plan_chains(const facs_plan *plan, facs_chain c,
                     facs_chain chains[FACS_SEPARABLE_MOST])
{
    int count = 1;
    chains[0] = c;
    for (; count < FACS_SEPARABLE_MOST && chains[count - 1].before >= 0; count++)
        chains[count] = facs_plan_chain(plan, chains[count - 1].before);
    return count;
}

size_t facs_plan_chain_scratch(const facs_plan *plan, int i, int threads)
{
    facs_separable parts[FACS_SEPARABLE_MOST];
    separable_of(plan, facs_plan_chain(plan, i), parts);
    return facs_plan_op_kernels(plan, i)->separable_fwd_scratch(parts, plan->options.batch,
                                                                threads);
}
