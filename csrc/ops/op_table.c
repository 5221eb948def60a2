#include "ops/op.h"

static const facs_op_row rows[FACS_OP_COUNT] = {
#define FACS_OP(kind, name, inputs, reads, in_place, moments)                                  \
    [FACS_OP_##kind] = {#name, inputs, reads, in_place, moments, &facs_op_##name},
#include "ops/op.def"
#undef FACS_OP
};

const facs_op_row *facs_op_get(facs_op_kind kind)
{
    return &rows[kind];
}
