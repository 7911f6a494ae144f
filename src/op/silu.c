/* silu: dst = src sigmoid(src) (also called swish). gelu: dst = src Phi(src), Phi the normal distribution function: the
 * form with erf, not the one with tanh. Any layout.
 *
 * silu_backward: dsrc = ddst s (1 + src (1 - s)), s = sigmoid(src).
 * gelu_backward: dsrc = ddst (Phi(src) + src phi(src)), phi the normal density. */
#include "rules.h"

static lun_status check_one(lun_op *op)
{
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, op->src[0].layout));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

static lun_status check_two(lun_op *op)
{
    LUN_TRY(check_one(op));
    return lun_rule_like_first(op, 1, "ddst");
}

static void differentiate(lun_backward *b, lun_op_kind kind)
{
    const lun_value src[] = {b->src[0], b->ddst[0]};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, kind, NULL, src, 2));
}

LUN_RULE(silu)
{
    return check_one(op);
}

LUN_RULE(silu_backward)
{
    return check_two(op);
}

LUN_GRADIENT(silu)
{
    differentiate(b, LUN_OP_SILU_BACKWARD);
}

LUN_RULE(gelu)
{
    return check_one(op);
}

LUN_RULE(gelu_backward)
{
    return check_two(op);
}

LUN_GRADIENT(gelu)
{
    differentiate(b, LUN_OP_GELU_BACKWARD);
}
