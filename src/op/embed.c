/* embed: dst[n] = table[index[n]], the index clamped to the table. The table is fixed numbers (sinusoids of the time
 * step), so there is no gradient. */
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
