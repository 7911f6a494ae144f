/* sample_step: one step of a linear sampler (op.h). What the coefficients are is the sampler's business (diffusion/).
 */
#include "rules.h"

LUN_RULE(sample_step)
{
    if ((unsigned)op->attrs.sample.clip > LUN_CLIP_XT)
        return lun_rule_fail(op, "there is no clip mode number %d", (int)op->attrs.sample.clip);
    LUN_TRY(lun_rule_operand(op, 0, "x", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_like_first(op, 1, "eps"));
    LUN_TRY(lun_rule_like_first(op, 2, "z"));
    LUN_TRY(lun_rule_vector(op, 3, "coef", 8));
    op->dst[0] = op->src[0];
    return LUN_OK;
}
