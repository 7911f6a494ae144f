/* noise: dst[n] = table[t[n]][0] x0[n] + table[t[n]][1] eps[n], t clamped to the table. With rows (sqrt(abar),
 * sqrt(1 - abar)) this is the forward process of Ho et al. 2020, equation 4. Nothing learns through it: no gradient. */
#include "rules.h"

LUN_RULE(noise)
{
    LUN_TRY(lun_rule_operand(op, 0, "x0", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_like_first(op, 1, "eps"));
    LUN_TRY(lun_rule_shape(op, 2, "t", LUN_I32, LUN_IMAGE, lun_shape4(op->src[0].shape.n, 1, 1, 1)));
    LUN_TRY(lun_rule_shape(op, 3, "table", LUN_F32, LUN_IMAGE, lun_shape4(op->src[3].shape.n, 2, 1, 1)));
    op->dst[0] = op->src[0];
    return LUN_OK;
}
