/* upsample2 (nearest): dst[n,c,h,w] = src[n,c,h/2,w/2] a. pool2: dst[n,c,h,w] = a times the sum of src[n,c,2h+i,2w+j]
 * over i, j = 0, 1. a is 1, with .mean 1/4. Each is the other's transpose, so its gradient. */
#include <inttypes.h>

#include "rules.h"

LUN_RULE(upsample2)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const lun_shape s = op->src[0].shape;
    op->dst[0] = lun_image(s.n, s.c, 2 * s.h, 2 * s.w);
    return LUN_OK;
}

LUN_RULE(pool2)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const lun_shape s = op->src[0].shape;
    if (s.h % 2 != 0 || s.w % 2 != 0)
        return lun_rule_fail(op, "src is %" PRId64 "x%" PRId64 ", but both sides must be even", s.h, s.w);
    op->dst[0] = lun_image(s.n, s.c, s.h / 2, s.w / 2);
    return LUN_OK;
}

LUN_GRADIENT(upsample2)
{
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_POOL2, &b->op->attrs, &b->ddst[0], 1));
}

LUN_GRADIENT(pool2)
{
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_UPSAMPLE2, &b->op->attrs, &b->ddst[0], 1));
}
