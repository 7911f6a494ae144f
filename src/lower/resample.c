/* upsample2 and pool2: cl/resample.cl. */
#include "resample.h"

#include "base/base.h"
#include "lowerings.h"

static lun_status lower(const char *kernel, const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->dst[0].shape;
    const lun_cut cut = lun_cut_rows(caps, s.n * s.h * s.w, s.c);
    const struct resample_args args = {.pixels = (int)(s.n * s.h * s.w),
                                       .dst_w = (int)s.w,
                                       .channels = (int)s.c,
                                       .rows = (int)cut.rows,
                                       .width = (int)cut.width,
                                       .blocks = (int)cut.blocks,
                                       .scale = op->attrs.resample.mean ? 0.25f : 1.0f};
    lun_launch *launch = lun_emit(out, "resample.cl", kernel, cut.pieces);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_upsample2(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return lower("upsample2", op, caps, out);
}

lun_status lun_lower_pool2(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return lower("pool2", op, caps, out);
}
