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
    const int scale = lun_adam_scale(op);
    const bool scaled = scale >= 0, averages = op->ndst > 3;
    const char *kernel = scaled ? averages ? "adam_scaled_average" : "adam_scaled" : averages ? "adam_average" : "adam";
    lun_launch *launch = lun_emit(out, "optimizer.cl", kernel, lun_ceil_div(count, grain));
    lun_emit_dst(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 2);
    lun_emit_src(launch, 4);
    if (scaled)
        lun_emit_src(launch, scale);
    if (averages) {
        lun_emit_src(launch, 5);
        lun_emit_dst(launch, 3);
    }
    lun_emit_args(launch, args);
    return LUN_OK;
}
