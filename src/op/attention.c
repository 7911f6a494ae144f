/* attention: softmax over the pixels of an image (Vaswani et al. 2017, section 3.2), the formula in op.h. lse, the
 * logarithm of each row's sum, is a result for the gradient's sake, so that the probabilities can be made again piece
 * by piece and never have to lie in memory (Dao et al. 2022).
 *
 * attention_backward, with a = 1 / sqrt(C / heads) and delta_i = (dst_i, ddst_i):
 *   dv_j = sum over i of p_ij ddst_i
 *   g_ij = p_ij ((ddst_i, v_j) - delta_i)
 *   dq_i = a sum over j of g_ij k_j        dk_j = a sum over i of g_ij q_i
 */
#include <inttypes.h>

#include "rules.h"

/* C, with what goes for both. */
static lun_status check(const lun_op *op, int64_t *c)
{
    const int heads = op->attrs.attention.heads;
    LUN_TRY(lun_rule_operand(op, 0, "qkv", LUN_F32, LUN_IMAGE));
    if (heads < 1)
        return lun_rule_fail(op, "%d heads must be at least 1", heads);
    if (op->src[0].shape.c % (3 * (int64_t)heads) != 0)
        return lun_rule_fail(op, "qkv has %" PRId64 " channels, which are not q, k and v of %d heads",
                             op->src[0].shape.c, heads);
    *c = op->src[0].shape.c / 3;
    return LUN_OK;
}

LUN_RULE(attention)
{
    int64_t c = 0;
    LUN_TRY(check(op, &c));
    const lun_shape s = op->src[0].shape;
    op->dst[0] = lun_image(s.n, c, s.h, s.w);
    op->dst[1] = lun_image(s.n, op->attrs.attention.heads, s.h, s.w);
    return LUN_OK;
}

LUN_RULE(attention_backward)
{
    int64_t c = 0;
    LUN_TRY(check(op, &c));
    const lun_shape s = op->src[0].shape, dst = lun_shape4(s.n, c, s.h, s.w);
    LUN_TRY(lun_rule_shape(op, 1, "dst", LUN_F32, LUN_IMAGE, dst));
    LUN_TRY(lun_rule_shape(op, 2, "ddst", LUN_F32, LUN_IMAGE, dst));
    LUN_TRY(lun_rule_shape(op, 3, "lse", LUN_F32, LUN_IMAGE, lun_shape4(s.n, op->attrs.attention.heads, s.h, s.w)));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

/* lse is there for this rule alone: what else is made of it has no gradient. */
LUN_GRADIENT(attention)
{
    const lun_value src[] = {b->src[0], b->dst[0], b->ddst[0], b->dst[1]};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_ATTENTION_BACKWARD, &b->op->attrs, src, 4));
}
