/* store: ring[slot] = value, so that a loss can wait on the device until somebody wants to see it. A slot outside the
 * ring changes nothing. */
#include "rules.h"

LUN_RULE(store)
{
    LUN_TRY(lun_rule_vector(op, 0, "ring", op->src[0].shape.c));
    LUN_TRY(lun_rule_vector(op, 1, "value", 1));
    LUN_TRY(lun_rule_shape(op, 2, "slot", LUN_I32, LUN_IMAGE, lun_shape4(1, 1, 1, 1)));
    op->dst[0] = op->src[0];
    return LUN_OK;
}
