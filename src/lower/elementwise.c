/* Ops whose kernels are in cl/elementwise.cl. */
#include "elementwise.h"
#include "base/base.h"
#include "lowerings.h"

static const char *const file = "elementwise.cl";

#define LOWER(name) lun_status lun_lower_##name(const lun_op *op, const lun_caps *caps, lun_lowering *out)

/* Sources in order, then destination 0. */
static void emit_all(lun_launch *launch, const lun_op *op)
{
    for (int i = 0; i < op->nsrc; i++)
        lun_emit_src(launch, i);
    lun_emit_dst(launch, 0);
}

static lun_status pitched(const char *kernel, const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->dst[0].shape;
    const lun_cut cut = lun_cut_rows(caps, s.n * s.h * s.w, s.c);
    const struct pitched_args args = {.pixels = (int)(s.n * s.h * s.w),
                                      .channels = (int)s.c,
                                      .rows = (int)cut.rows,
                                      .width = (int)cut.width,
                                      .blocks = (int)cut.blocks,
                                      .a_pitch = lun_src_pitch(op, 0),
                                      .b_pitch = lun_src_pitch(op, op->nsrc - 1),
                                      .dst_pitch = lun_dst_pitch(op, 0)};
    lun_launch *launch = lun_emit(out, file, kernel, cut.pieces);
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

/* `with_pitches` is the same kernel for images of which one has a pitch. */
static lun_status flat(const char *kernel, const char *with_pitches, const lun_op *op, const lun_caps *caps,
                       lun_lowering *out)
{
    bool dense = !op->dst_pitch[0];
    for (int i = 0; i < op->nsrc; i++)
        dense = dense && !op->src_pitch[i];
    if (!dense)
        return pitched(with_pitches, op, caps, out);
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct flat_args args = {.count = (int)count, .grain = (int)grain};
    lun_launch *launch = lun_emit(out, file, kernel, lun_ceil_div(count, grain));
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(relu)
{
    return flat("relu", "relu_pitched", op, caps, out);
}
LOWER(relu_backward)
{
    return flat("relu_backward", "relu_backward_pitched", op, caps, out);
}
LOWER(add)
{
    return flat("add", "add_pitched", op, caps, out);
}

LOWER(add_channel)
{
    const lun_shape s = op->dst[0].shape;
    const lun_cut cut = lun_cut_rows(caps, s.h * s.w, s.c);
    const struct channel_args args = {.pixels = (int)(s.h * s.w),
                                      .channels = (int)s.c,
                                      .rows = (int)cut.rows,
                                      .width = (int)cut.width,
                                      .blocks = (int)cut.blocks,
                                      .pieces = (int)cut.pieces};
    lun_launch *launch = lun_emit(out, file, "add_channel", s.n * cut.pieces);
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

/* `count` channels of all pixels, from channel `from` of source `src` to channel `to` of destination 0. */
static void copy_channels(const lun_op *op, const lun_caps *caps, lun_lowering *out, int src, int64_t from, int64_t to,
                          int64_t count)
{
    const lun_shape s = op->src[src].shape;
    const lun_cut cut = lun_cut_rows(caps, s.n * s.h * s.w, count);
    const struct copy_args args = {.pixels = (int)(s.n * s.h * s.w),
                                   .channels = (int)count,
                                   .src_first = (int)from,
                                   .src_channels = lun_src_pitch(op, src),
                                   .dst_first = (int)to,
                                   .dst_channels = lun_dst_pitch(op, 0),
                                   .rows = (int)cut.rows,
                                   .width = (int)cut.width,
                                   .blocks = (int)cut.blocks};
    lun_launch *launch = lun_emit(out, file, "copy_channels", cut.pieces);
    lun_emit_src(launch, src);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
}

LOWER(concat)
{
    const int64_t a = op->src[0].shape.c, b = op->src[1].shape.c;
    copy_channels(op, caps, out, 0, 0, 0, a);
    copy_channels(op, caps, out, 1, 0, a, b);
    return LUN_OK;
}

LOWER(slice)
{
    copy_channels(op, caps, out, 0, op->attrs.slice.first, 0, op->attrs.slice.count);
    return LUN_OK;
}

LOWER(embed)
{
    const lun_shape table = op->src[1].shape;
    const lun_cut cut = lun_cut_rows(caps, 1, table.c);
    const struct embed_args args = {
        .steps = (int)table.n, .channels = (int)table.c, .width = (int)cut.width, .blocks = (int)cut.blocks};
    lun_launch *launch = lun_emit(out, file, "embed", op->dst[0].shape.n * cut.blocks);
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(embed_backward)
{
    const lun_shape table = op->dst[0].shape;
    const lun_cut cut = lun_cut_rows(caps, 1, table.c);
    const struct embed_backward_args args = {.batch = (int)op->src[0].shape.n,
                                             .rows = (int)table.n,
                                             .channels = (int)table.c,
                                             .width = (int)cut.width,
                                             .blocks = (int)cut.blocks};
    lun_launch *launch = lun_emit(out, file, "embed_backward", table.n * cut.blocks);
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(noise)
{
    const lun_shape s = op->dst[0].shape;
    const int64_t count = s.c * s.h * s.w, grain = lun_grain(caps, count), pieces = lun_ceil_div(count, grain);
    const struct noise_args args = {
        .count = (int)count, .grain = (int)grain, .pieces = (int)pieces, .steps = (int)op->src[3].shape.n};
    lun_launch *launch = lun_emit(out, file, "noise", s.n * pieces);
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

static lun_status sample_step_wide(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->dst[0].shape;
    const lun_cut cut = lun_cut_rows(caps, s.n * s.h * s.w, s.c);
    const struct sample_wide_args args = {.pixels = (int)(s.n * s.h * s.w),
                                          .channels = (int)s.c,
                                          .rows = (int)cut.rows,
                                          .width = (int)cut.width,
                                          .blocks = (int)cut.blocks,
                                          .clip = (int)op->attrs.sample.clip,
                                          .learned = op->attrs.sample.learned};
    lun_launch *launch = lun_emit(out, file, "sample_step_wide", cut.pieces);
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(sample_step)
{
    _Static_assert(LUN_CLIP_X0 == 1 && LUN_CLIP_XT == 2, "elementwise.cl knows these numbers");
    if (op->src[1].shape.c != op->src[0].shape.c)
        return sample_step_wide(op, caps, out);
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct sample_args args = {.count = (int)count, .grain = (int)grain, .clip = (int)op->attrs.sample.clip};
    lun_launch *launch = lun_emit(out, file, "sample_step", lun_ceil_div(count, grain));
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(store)
{
    (void)caps;
    const struct store_args args = {.slots = (int)op->dst[0].shape.c};
    lun_launch *launch = lun_emit(out, file, "store", 1);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 2);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(loss_backward)
{
    _Static_assert(LUN_LOSS_L1 == 0 && LUN_LOSS_L2 == 1 && LUN_LOSS_HUBER == 2, "the kernels know these numbers");
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct loss_backward_args args = {.count = (int)count,
                                            .grain = (int)grain,
                                            .kind = (int)op->attrs.loss.kind,
                                            .delta = op->attrs.loss.delta,
                                            .scale = (float)(1.0 / (double)count)};
    lun_launch *launch = lun_emit(out, file, "loss_backward", lun_ceil_div(count, grain));
    emit_all(launch, op);
    lun_emit_args(launch, args);
    return LUN_OK;
}
