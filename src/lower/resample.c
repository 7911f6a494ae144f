/* upsample2, pool2 and the same of filters: cl/resample.cl. */
#include "resample.h"

#include <stdio.h>

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

static lun_status lower_filter(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->src[0].shape, d = op->dst[0].shape;
    const int64_t tile = caps->gpu ? 1 : 16;
    /* A row of a filter's storage is one c, its columns are k: src's become dst's columns and rows. */
    const struct filter_args args = {.rows = (int)s.c,
                                     .columns = (int)s.n,
                                     .src_h = (int)s.h,
                                     .src_w = (int)s.w,
                                     .dst_w = (int)d.w,
                                     .last_h = (int)(s.h < d.h ? s.h : d.h) - 1,
                                     .last_w = (int)(s.w < d.w ? s.w : d.w) - 1,
                                     .down = (int)lun_ceil_div(s.c, tile),
                                     .across = (int)lun_ceil_div(s.n, tile)};
    lun_launch *launch = lun_emit(out, "resample.cl", "filter_sums", d.h * d.w * args.down * args.across);
    snprintf(launch->options, sizeof launch->options, "-DFILTER_TILE=%d", (int)tile);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_upsample2_filter(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return lower_filter(op, caps, out);
}

lun_status lun_lower_pool2_filter(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return lower_filter(op, caps, out);
}
