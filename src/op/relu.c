/* relu: dst = max(src, 0); NaN stays NaN. Its gradient is ddst where dst > 0, and 0 at 0. */
#include "rules.h"

LUN_RULE(relu)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, op->src[0].layout));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_RULE(relu_backward)
{
    LUN_TRY(lun_rule_operand(op, 0, "dst", LUN_F32, op->src[0].layout));
    LUN_TRY(lun_rule_like_first(op, 1, "ddst"));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(relu)
{
    const lun_value src[] = {b->dst[0], b->ddst[0]};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_RELU_BACKWARD, NULL, src, 2));
}
