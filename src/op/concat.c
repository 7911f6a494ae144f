/* concat: the channels of a, then those of b. slice: channels first .. first + count - 1; it is concat's gradient and
 * has none of its own. */
#include <inttypes.h>

#include "rules.h"

LUN_RULE(concat)
{
    LUN_TRY(lun_rule_operand(op, 0, "a", LUN_F32, LUN_IMAGE));
    LUN_TRY(lun_rule_operand(op, 1, "b", LUN_F32, LUN_IMAGE));
    const lun_shape a = op->src[0].shape, b = op->src[1].shape;
    if (a.n != b.n || a.h != b.h || a.w != b.w)
        return lun_rule_fail(
            op, "a is (%" PRId64 ", ., %" PRId64 ", %" PRId64 ") but b is (%" PRId64 ", ., %" PRId64 ", %" PRId64 ")",
            a.n, a.h, a.w, b.n, b.h, b.w);
    op->dst[0] = lun_image(a.n, a.c + b.c, a.h, a.w);
    return LUN_OK;
}

LUN_GRADIENT(concat)
{
    const lun_op *op = b->op;
    const lun_value ddst = b->ddst[0];
    int first = 0;
    for (int i = 0; i < 2; i++) {
        const lun_attrs attrs = {.slice = {.first = first, .count = (int)op->src[i].shape.c}};
        if (b->wants[i])
            b->give(b, i, b->emit(b, LUN_OP_SLICE, &attrs, &ddst, 1));
        first += attrs.slice.count;
    }
}

LUN_RULE(slice)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const lun_shape s = op->src[0].shape;
    const lun_slice_attrs a = op->attrs.slice;
    if (a.first < 0 || a.count < 1 || a.first > s.c - a.count)
        return lun_rule_fail(op, "%d channels from %d on do not lie in %" PRId64, a.count, a.first, s.c);
    op->dst[0] = lun_image(s.n, a.count, s.h, s.w);
    return LUN_OK;
}
