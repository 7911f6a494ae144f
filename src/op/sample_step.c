/* sample_step: one step of a linear sampler (op.h). What the coefficients are is the sampler's business (diffusion/).
 */
#include "rules.h"

LUN_RULE(sample_step)
{
    if ((unsigned)op->attrs.sample.clip > LUN_CLIP_XT)
        return lun_rule_fail(op, "there is no clip mode number %d", (int)op->attrs.sample.clip);
    LUN_TRY(lun_rule_operand(op, 0, "x", LUN_F32, LUN_IMAGE));
    const lun_shape x = op->src[0].shape;
    const bool wide = op->src[1].shape.c != x.c; /* so many channels for a variance too */
    LUN_TRY(lun_rule_shape(op, 1, "eps", LUN_F32, LUN_IMAGE, lun_shape4(x.n, wide ? 2 * x.c : x.c, x.h, x.w)));
    if (op->attrs.sample.learned && !wide)
        return lun_rule_fail(op, "a learned variance needs channels of its own behind those of eps");
    LUN_TRY(lun_rule_like_first(op, 2, "z"));
    LUN_TRY(lun_rule_vector(op, 3, "coef", 8));
    op->dst[0] = op->src[0];
    return LUN_OK;
}
