/* What surrounds an optimiser's step, over flat pieces of the store (op.h has the formulas). None has a gradient.
 *
 * accumulate: the gradients of several small batches, added in the order in which they come.
 * sum_squares, clip_norm: the global norm of a gradient that lies in several pieces, and how much to shrink it by.
 * ema: moving averages of the parameters, several rates in one pass. */
#include <math.h>

#include "rules.h"

LUN_RULE(accumulate)
{
    LUN_TRY(lun_rule_operand(op, 0, "sum", LUN_F32, op->src[0].layout));
    LUN_TRY(lun_rule_like_first(op, 1, "grad"));
    LUN_TRY(lun_rule_shape(op, 2, "first", LUN_I32, LUN_IMAGE, lun_shape4(1, 1, 1, 1)));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_RULE(sum_squares)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, op->src[0].layout));
    LUN_TRY(lun_rule_vector(op, 1, "parts", op->src[1].shape.c));
    const int slot = op->attrs.squares.slot;
    if (slot < 0 || slot >= op->src[1].shape.c)
        return lun_rule_fail(op, "slot %d is none of the parts", slot);
    op->dst[0] = op->src[1];
    return LUN_OK;
}

LUN_RULE(clip_norm)
{
    const float limit = op->attrs.clip.limit;
    LUN_TRY(lun_rule_vector(op, 0, "parts", op->src[0].shape.c));
    if (!(limit > 0) || !isfinite(limit))
        return lun_rule_fail(op, "limit %g must be above 0", (double)limit);
    op->dst[0] = op->dst[1] = lun_image(1, 1, 1, 1);
    return LUN_OK;
}

LUN_RULE(ema)
{
    LUN_TRY(lun_rule_operand(op, 0, "param", LUN_F32, op->src[0].layout));
    LUN_TRY(lun_rule_vector(op, 1, "weights", LUN_OP_MAX_EMA));
    op->ndst = op->nsrc - 2;
    for (int i = 0; i < op->ndst; i++) {
        LUN_TRY(lun_rule_like_first(op, 2 + i, "an average"));
        op->dst[i] = op->src[0];
    }
    return LUN_OK;
}
