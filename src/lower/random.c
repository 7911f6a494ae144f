/* Integers, normals and masks from Philox: cl/random.cl. */
#include "random.h"

#include <stdio.h>

#include "base/base.h"
#include "lowerings.h"

static lun_status draw(const char *kernel, uint32_t bound, const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->dst[0].shape;
    const int64_t blocks = lun_ceil_div(s.c * s.h * s.w, 4), grain = caps->gpu ? 1 : lun_min_i64(blocks, 1024);
    const int64_t pieces = lun_ceil_div(blocks, grain);
    const struct random_args args = {.channels = (int)s.c,
                                     .pixels = (int)(s.h * s.w),
                                     .blocks = (int)blocks,
                                     .grain = (int)grain,
                                     .pieces = (int)pieces,
                                     .bound = bound};
    lun_launch *launch = lun_emit(out, "random.cl", kernel, s.n * pieces);
    snprintf(launch->options, sizeof launch->options, "-DRANDOM_BLOCKS=%d", caps->gpu ? 1 : 16);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

/* Masks: cl/random.cl draws them where they are used, in storage order. */
lun_status lun_lower_dropout(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_dropout_attrs *a = &op->attrs.dropout;
    const lun_shape s = op->src[0].shape;
    const int64_t pixels = s.h * s.w, least = pixels % 4 == 0 ? 4 : 1;
    int64_t width = 1, height = least;
    if (!caps->gpu) {
        width = lun_min_i64(s.c, 4096);
        height = lun_min_i64(pixels, lun_max_i64(least, 16384 / width / 4 * 4));
    }
    const int64_t blocks = lun_ceil_div(s.c, width), pieces = blocks * lun_ceil_div(pixels, height);
    const struct dropout_args args = {.channels = (int)s.c,
                                      .pixels = (int)pixels,
                                      .height = (int)height,
                                      .width = (int)width,
                                      .blocks = (int)blocks,
                                      .pieces = (int)pieces,
                                      .threshold = (uint32_t)((double)a->p * 0x1p32),
                                      .stream = a->stream,
                                      .scale = (float)(1 / (1 - (double)a->p))};
    lun_launch *launch = lun_emit(out, "random.cl", "dropout", s.n * pieces);
    snprintf(launch->options, sizeof launch->options, "-DRANDOM_BLOCKS=%d", caps->gpu ? 1 : 16);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_randint(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return draw("randint", op->attrs.random.bound, op, caps, out);
}

lun_status lun_lower_randn(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    return draw("randn", 0, op, caps, out);
}
