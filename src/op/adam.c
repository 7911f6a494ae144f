/* adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), the formula in op.h. param, m, v and
 * the average change in place. */
#include <math.h>

#include "rules.h"

LUN_RULE(adam)
{
    static const char *const names[] = {"param", "grad", "m", "v"};
    const lun_adam_attrs *a = &op->attrs.adam;
    if (!(a->beta1 >= 0 && a->beta1 < 1) || !(a->beta2 >= 0 && a->beta2 < 1))
        return lun_rule_fail(op, "betas %g and %g must be at least 0 and below 1", a->beta1, a->beta2);
    if (!(a->eps > 0) || !isfinite(a->eps))
        return lun_rule_fail(op, "eps %g must be above 0", a->eps);
    if (!(a->weight_decay >= 0) || !isfinite(a->weight_decay))
        return lun_rule_fail(op, "weight decay %g must be at least 0", a->weight_decay);
    LUN_TRY(lun_rule_operand(op, 0, "param", LUN_F32, op->src[0].layout));
    for (int i = 1; i < 4; i++)
        LUN_TRY(lun_rule_like_first(op, i, names[i]));
    LUN_TRY(lun_rule_vector(op, 4, "hyper", 4));
    op->ndst = op->nsrc > 6 ? 4 : 3;
    if (op->ndst > 3) {
        LUN_TRY(lun_rule_vector(op, 5, "weights", LUN_OP_MAX_EMA));
        LUN_TRY(lun_rule_like_first(op, 6, "the average"));
    }
    if (lun_adam_scale(op) >= 0)
        LUN_TRY(lun_rule_vector(op, lun_adam_scale(op), "scale", 1));
    for (int d = 0; d < op->ndst; d++)
        op->dst[d] = op->src[0];
    return LUN_OK;
}
