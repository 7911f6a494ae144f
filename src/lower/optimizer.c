/* Adam: cl/optimizer.cl. */
#include "optimizer.h"
#include "base/base.h"
#include "lowerings.h"

lun_status lun_lower_adam(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_adam_attrs *a = &op->attrs.adam;
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct adam_args args = {.count = (int)count,
                                   .grain = (int)grain,
                                   .beta1 = (float)a->beta1,
                                   .rest1 = (float)(1 - a->beta1),
                                   .beta2 = (float)a->beta2,
                                   .rest2 = (float)(1 - a->beta2),
                                   .eps = (float)a->eps,
                                   .weight_decay = (float)a->weight_decay,
                                   .decoupled = a->decoupled};
    const bool scaled = op->nsrc > 5;
    lun_launch *launch = lun_emit(out, "optimizer.cl", scaled ? "adam_scaled" : "adam", lun_ceil_div(count, grain));
    lun_emit_dst(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 2);
    lun_emit_src(launch, 4);
    if (scaled)
        lun_emit_src(launch, 5);
    lun_emit_args(launch, args);
    return LUN_OK;
}
