/* SiLU and GELU: cl/activation.cl. */
#include "base/base.h"
#include "elementwise.h"
#include "lowerings.h"

#define LOWER(name)                                                                                                    \
    lun_status lun_lower_##name(const lun_op *op, const lun_caps *caps, lun_lowering *out)                             \
    {                                                                                                                  \
        return flat(#name, op, caps, out);                                                                             \
    }

static lun_status flat(const char *kernel, const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct flat_args args = {.count = (int)count, .grain = (int)grain};
    lun_launch *launch = lun_emit(out, "activation.cl", kernel, lun_ceil_div(count, grain));
    for (int i = 0; i < op->nsrc; i++)
        lun_emit_src(launch, i);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(silu)
LOWER(silu_backward)
LOWER(gelu)
LOWER(gelu_backward)
