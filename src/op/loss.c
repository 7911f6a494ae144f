/* loss: the mean over all elements of |d|, d^2 or Huber's function of d = pred - target (op.h).
 * loss_backward: dpred = dloss / count times that function's derivative. The gradient goes to pred only: a target is
 * data. */
#include <math.h>

#include "rules.h"

static lun_status check(const lun_op *op)
{
    const lun_loss_attrs *a = &op->attrs.loss;
    if ((unsigned)a->kind > LUN_LOSS_HUBER)
        return lun_rule_fail(op, "there is no loss number %d", (int)a->kind);
    if (a->kind == LUN_LOSS_HUBER && !(a->delta > 0 && isfinite(a->delta)))
        return lun_rule_fail(op, "Huber's delta %g must be above 0", (double)a->delta);
    LUN_TRY(lun_rule_operand(op, 0, "pred", LUN_F32, op->src[0].layout));
    return lun_rule_like_first(op, 1, "target");
}

LUN_RULE(loss)
{
    LUN_TRY(check(op));
    op->dst[0] = lun_image(1, 1, 1, 1);
    return LUN_OK;
}

LUN_RULE(loss_backward)
{
    LUN_TRY(check(op));
    LUN_TRY(lun_rule_vector(op, 2, "dloss", 1));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(loss)
{
    const lun_value src[] = {b->src[0], b->src[1], b->ddst[0]};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_LOSS_BACKWARD, &b->op->attrs, src, 3));
}
