/* upsample2 (nearest): dst[n,c,h,w] = src[n,c,h/2,w/2] a. pool2: dst[n,c,h,w] = a times the sum of src[n,c,2h+i,2w+j]
 * over i, j = 0, 1. a is 1, with .mean 1/4. Each is the other's transpose, so its gradient.
 *
 * A convolution with stride 1 and pad p of what upsample2 makes is a transposed one with stride 2 of the small picture:
 * pixel (2y + a) of the large picture is pixel y of the small one for a = 0, 1, so a tap r of the filter and pixel y
 * reach row 2y + a + p - r, which is what tap R - 1 - r + a reaches with pad R - 1 - p. Taps that meet are added:
 *
 * upsample2_filter: dst[c,k,r,s] = sum over a, b = 0, 1 of weight[k,c, R-1-r+a, S-1-s+b], zeros outside;
 * pool2_filter: dst[k,c,r,s] = sum over a, b = 0, 1 of src[c,k, R-1-r+a, S-1-s+b], R and S being dst's.
 *
 * These two are each other's transposes as well. */
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

LUN_RULE(upsample2_filter)
{
    LUN_TRY(lun_rule_operand(op, 0, "weight", LUN_F32, LUN_FILTER));
    const lun_shape s = op->src[0].shape;
    op->dst[0] = lun_filter(s.c, s.n, s.h + 1, s.w + 1);
    return LUN_OK;
}

LUN_RULE(pool2_filter)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_FILTER));
    const lun_shape s = op->src[0].shape;
    if (s.h < 2 || s.w < 2)
        return lun_rule_fail(op, "src is %" PRId64 "x%" PRId64 ", but both sides must be at least 2", s.h, s.w);
    op->dst[0] = lun_filter(s.c, s.n, s.h - 1, s.w - 1);
    return LUN_OK;
}

LUN_GRADIENT(upsample2_filter)
{
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_POOL2_FILTER, NULL, &b->ddst[0], 1));
}

LUN_GRADIENT(pool2_filter)
{
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_UPSAMPLE2_FILTER, NULL, &b->ddst[0], 1));
}
