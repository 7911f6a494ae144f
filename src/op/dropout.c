/* dropout (Srivastava et al., 2014), scaled while training: dst = 0 where the element's draw is below p 2^32, else
 * src / (1 - p). A draw depends on the sample's row and on the op's stream alone, so the gradient is the same op. */
#include "base/philox.h"
#include "rules.h"

LUN_RULE(dropout)
{
    const lun_dropout_attrs *a = &op->attrs.dropout;
    if (!(a->p >= 0 && a->p < 1))
        return lun_rule_fail(op, "p %g must be at least 0 and below 1", (double)a->p);
    if (a->stream >= 1u << 24)
        return lun_rule_fail(op, "stream %u must be below 2^24", (unsigned)a->stream);
    LUN_TRY(lun_rule_operand(op, 0, "src", LUN_F32, LUN_IMAGE));
    const int64_t n = op->src[0].shape.n;
    LUN_TRY(lun_rule_shape(op, 1, "rows", LUN_U32, LUN_IMAGE, lun_shape4(n, LUN_RANDOM_ROW, 1, 1)));
    op->dst[0] = op->src[0];
    return LUN_OK;
}

LUN_GRADIENT(dropout)
{
    const lun_value src[] = {b->ddst[0], b->src[1]};
    if (b->wants[0])
        b->give(b, 0, b->emit(b, LUN_OP_DROPOUT, &b->op->attrs, src, 2));
}
