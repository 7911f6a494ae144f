/* add: dst = a + b, any layout. add_channel: dst[n,c,h,w] = src[n,c,h,w] + bias[n,c]. */
#include "rules.h"

LUN_RULE(add)
{
    LUN_TRY(lun_rule_operand(op, 0, "a", LUN_F32, op->src[0].layout));
    LUN_TRY(lun_rule_like_first(op, 1, "b"));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(add)
{
    for (int i = 0; i < 2; i++)
        if (b->wants[i])
            b->give(b, i, b->ddst[0]);
}

LUN_RULE(add_channel)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const lun_shape s = op->src[0].shape;
    LUN_TRY(lun_rule_shape(op, 1, "bias", LUN_F32, LUN_IMAGE, lun_shape4(s.n, s.c, 1, 1)));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(add_channel)
{
    const lun_value ddst = b->ddst[0];
    if (b->wants[0])
        b->give(b, 0, ddst);
    if (b->wants[1])
        b->give(b, 1, b->emit(b, LUN_OP_SPATIAL_SUM, NULL, &ddst, 1));
}
