/* What surrounds an optimiser's step, over flat pieces of the store (op.h has the formulas). None has a gradient.
 *
 * accumulate: the gradients of several small batches, added in the order in which they come.
 * sum_squares, clip_norm: the global norm of a gradient that lies in several pieces, and how much to shrink it by.
 * ema: moving averages of the parameters, several rates in one pass.
 * loss_seed, health, settle: a step whose loss or gradient is not finite changes nothing. */
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

LUN_RULE(loss_seed)
{
    const float weight = op->attrs.seed.weight;
    LUN_TRY(lun_rule_vector(op, 0, "loss", 1));
    if (!isfinite(weight) || weight == 0)
        return lun_rule_fail(op, "weight %g must be finite and not 0", (double)weight);
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_RULE(health)
{
    LUN_TRY(lun_rule_vector(op, 0, "parts", op->src[0].shape.c));
    LUN_TRY(lun_rule_vector(op, 1, "state", 1));
    LUN_TRY(lun_rule_shape(op, 2, "slot", LUN_I32, LUN_IMAGE, lun_shape4(1, 1, 1, 1)));
    LUN_TRY(lun_rule_vector(op, 3, "hyper", 4));
    if (op->nsrc > 4)
        LUN_TRY(lun_rule_vector(op, 4, "weights", LUN_OP_MAX_EMA));
    op->ndst = op->nsrc > 4 ? 4 : 3;
    op->dst[0] = op->src[1];
    op->dst[1] = op->src[3];
    op->dst[2] = lun_image(1, 1, 1, 1);
    op->dst[3] = op->src[4];
    return LUN_OK;
}

LUN_RULE(settle)
{
    LUN_TRY(lun_rule_operand(op, 0, "value", LUN_F32, op->src[0].layout));
    LUN_TRY(lun_rule_like_first(op, 1, "safe"));
    LUN_TRY(lun_rule_vector(op, 2, "hyper", 4));
    op->dst[0] = op->dst[1] = op->src[0];
    return LUN_OK;
}
