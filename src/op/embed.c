/* embed: dst[n] = table[index[n]], the index clamped to the table. embed_backward, its gradient: each row of the table
 * gets the sum of the gradients of those samples that point to it, in the batch's order, and rows that nobody points to
 * get zeros. An index has no gradient. */
#include "rules.h"

LUN_RULE(embed)
{
    LUN_TRY(lun_rule_operand(op, 0, "index", LUN_I32, LUN_IMAGE));
    LUN_TRY(lun_rule_operand(op, 1, "table", LUN_F32, LUN_IMAGE));
    const lun_shape table = op->src[1].shape;
    const int64_t n = op->src[0].shape.n;
    LUN_TRY(lun_rule_shape(op, 0, "index", LUN_I32, LUN_IMAGE, lun_shape4(n, 1, 1, 1)));
    LUN_TRY(lun_rule_shape(op, 1, "table", LUN_F32, LUN_IMAGE, lun_shape4(table.n, table.c, 1, 1)));
    op->dst[0] = lun_image(n, table.c, 1, 1);
    return LUN_OK;
}

LUN_RULE(embed_backward)
{
    const int64_t n = op->src[0].shape.n, c = op->src[1].shape.c;
    LUN_TRY(lun_rule_shape(op, 0, "index", LUN_I32, LUN_IMAGE, lun_shape4(n, 1, 1, 1)));
    LUN_TRY(lun_rule_shape(op, 1, "ddst", LUN_F32, LUN_IMAGE, lun_shape4(n, c, 1, 1)));
    if (op->attrs.embed.rows < 1)
        return lun_rule_fail(op, "a table of %d rows must have at least 1", op->attrs.embed.rows);
    op->dst[0] = lun_image(op->attrs.embed.rows, c, 1, 1);
    return LUN_OK;
}

LUN_GRADIENT(embed)
{
    const lun_attrs attrs = {.embed = {.rows = (int)b->op->src[1].shape.n}};
    const lun_value src[] = {b->src[0], b->ddst[0]};
    if (b->wants[1])
        b->give(b, 1, b->emit(b, LUN_OP_EMBED_BACKWARD, &attrs, src, 2));
}
