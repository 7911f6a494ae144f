/* randint and randn: draws from Philox (base/philox.h) that depend on nothing but the row of each sample. */
#include <inttypes.h>

#include "base/philox.h"
#include "rules.h"

static lun_status check(lun_op *op, lun_dtype dtype)
{
    const lun_random_attrs *a = &op->attrs.random;
    const int64_t n = op->src[0].shape.n;
    LUN_TRY(lun_rule_shape(op, 0, "rows", LUN_U32, LUN_IMAGE, lun_shape4(n, LUN_RANDOM_ROW, 1, 1)));
    if (a->c < 1 || a->h < 1 || a->w < 1)
        return lun_rule_fail(op, "size %dx%dx%d must be at least 1", a->c, a->h, a->w);
    op->dst[0] = lun_typed(lun_image(n, a->c, a->h, a->w), dtype);
    return LUN_OK;
}

LUN_RULE(randint)
{
    const uint32_t bound = op->attrs.random.bound;
    if (bound < 1 || bound > 0x80000000u) /* results are int32 */
        return lun_rule_fail(op, "bound %" PRIu32 " must be 1 to 2^31", bound);
    return check(op, LUN_I32);
}

LUN_RULE(randn)
{
    return check(op, LUN_F32);
}
