/* channel_sum: over n, h, w. spatial_sum: over h, w. Both are gradients (of a bias and of add_channel) and have none.
 */
#include "rules.h"

LUN_RULE(channel_sum)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    op->dst[0] = lun_image(1, op->src[0].shape.c, 1, 1);
    return LUN_OK;
}

LUN_RULE(spatial_sum)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    op->dst[0] = lun_image(op->src[0].shape.n, op->src[0].shape.c, 1, 1);
    return LUN_OK;
}
