/* adam (Kingma and Ba 2015) and AdamW (Loshchilov and Hutter 2019), the formula in op.h. param, m and v change in
 * place. */
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
    if (op->nsrc > 5)
        LUN_TRY(lun_rule_vector(op, 5, "scale", 1));
    op->dst[0] = op->dst[1] = op->dst[2] = op->src[0];
    return LUN_OK;
}
