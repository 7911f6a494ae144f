/* Losses by sample, the variational bound, guidance: cl/objective.cl. */
#include "objective.h"
#include "base/base.h"
#include "lowerings.h"

static const char *const file = "objective.cl";

/* Pixels that an item of a sum takes. */
enum { STEPS = 64 };

#define LOWER(name) lun_status lun_lower_##name(const lun_op *op, const lun_caps *caps, lun_lowering *out)

typedef struct sum_cut {
    int64_t pieces;
    int first, step;
} sum_cut;

static sum_cut cut_sum(const lun_caps *caps, int64_t pixels)
{
    const int64_t pieces = lun_ceil_div(pixels, STEPS);
    return (sum_cut){pieces, caps->gpu ? 1 : STEPS, caps->gpu ? (int)pieces : 1};
}

LOWER(loss_each)
{
    _Static_assert(LUN_LOSS_L1 == 0 && LUN_LOSS_L2 == 1 && LUN_LOSS_HUBER == 2, "the kernels know these numbers");
    const lun_shape s = op->src[0].shape;
    const int64_t pixels = s.h * s.w, used = op->src[1].shape.c;
    const sum_cut cut = cut_sum(caps, pixels);
    const struct each_args args = {.pixels = (int)pixels,
                                   .channels = (int)s.c,
                                   .used = (int)used,
                                   .pieces = (int)cut.pieces,
                                   .steps = STEPS,
                                   .first = cut.first,
                                   .step = cut.step,
                                   .kind = (int)op->attrs.loss.kind,
                                   .weighted = op->nsrc > 2,
                                   .delta = op->attrs.loss.delta};
    const lun_launch_buffer partial = {LUN_SPACE_WORKSPACE, 0, lun_book(out, (size_t)(s.n * cut.pieces) * 4)};
    lun_launch *launch = lun_emit(out, file, "loss_each", s.n * cut.pieces);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, op->nsrc > 2 ? 2 : 1);
    lun_emit_workspace(launch, partial.offset);
    lun_emit_args(launch, args);
    lun_emit_sum(out, caps, partial, s.n, cut.pieces, 1, (float)(1.0 / (double)(pixels * used)), 0);
    return LUN_OK;
}

LOWER(loss_each_backward)
{
    const lun_shape s = op->src[0].shape;
    const int64_t pixels = s.h * s.w, used = op->src[1].shape.c;
    const lun_cut cut = lun_cut_rows(caps, pixels, s.c);
    const struct each_backward_args args = {.pixels = (int)pixels,
                                            .channels = (int)s.c,
                                            .used = (int)used,
                                            .rows = (int)cut.rows,
                                            .width = (int)cut.width,
                                            .blocks = (int)cut.blocks,
                                            .pieces = (int)cut.pieces,
                                            .kind = (int)op->attrs.loss.kind,
                                            .weighted = op->nsrc > 3,
                                            .delta = op->attrs.loss.delta,
                                            .scale = (float)(1.0 / (double)(pixels * used))};
    lun_launch *launch = lun_emit(out, file, "loss_each_backward", s.n * cut.pieces);
    for (int i = 0; i < 3; i++)
        lun_emit_src(launch, i);
    lun_emit_src(launch, op->nsrc > 3 ? 3 : 2);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(weighted_mean)
{
    (void)caps;
    const int64_t count = op->src[0].shape.n;
    const struct mean_args args = {.count = (int)count, .grain = (int)count, .scale = (float)(1.0 / (double)count)};
    lun_launch *launch = lun_emit(out, file, "weighted_mean", 1);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(weighted_mean_backward)
{
    const int64_t count = op->src[0].shape.n, grain = lun_grain(caps, count);
    const struct mean_args args = {.count = (int)count, .grain = (int)grain, .scale = (float)(1.0 / (double)count)};
    lun_launch *launch = lun_emit(out, file, "weighted_mean_backward", lun_ceil_div(count, grain));
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

/* Of the mean over a sample's elements: nats to bits, and the caller's factor. */
static float factor_of(const lun_op *op)
{
    const lun_shape s = op->src[1].shape;
    return (float)((double)op->attrs.variational.scale / (0.69314718055994530942 * (double)(s.c * s.h * s.w)));
}

LOWER(variational)
{
    const lun_shape s = op->src[1].shape;
    const int64_t pixels = s.h * s.w;
    const sum_cut cut = cut_sum(caps, pixels);
    const struct variational_args args = {.pixels = (int)pixels,
                                          .used = (int)s.c,
                                          .pieces = (int)cut.pieces,
                                          .steps = STEPS,
                                          .first = cut.first,
                                          .step = cut.step,
                                          .table = (int)op->src[4].shape.n};
    const lun_launch_buffer partial = {LUN_SPACE_WORKSPACE, 0, lun_book(out, (size_t)(s.n * cut.pieces) * 4)};
    lun_launch *launch = lun_emit(out, file, "variational", s.n * cut.pieces);
    for (int i = 0; i < 5; i++)
        lun_emit_src(launch, i);
    lun_emit_workspace(launch, partial.offset);
    lun_emit_args(launch, args);
    lun_emit_sum(out, caps, partial, s.n, cut.pieces, 1, factor_of(op), 0);
    return LUN_OK;
}

LOWER(variational_backward)
{
    const lun_shape s = op->src[1].shape;
    const int64_t pixels = s.h * s.w;
    const lun_cut cut = lun_cut_rows(caps, pixels, 2 * s.c);
    const struct variational_backward_args args = {.pixels = (int)pixels,
                                                   .used = (int)s.c,
                                                   .rows = (int)cut.rows,
                                                   .width = (int)cut.width,
                                                   .blocks = (int)cut.blocks,
                                                   .pieces = (int)cut.pieces,
                                                   .table = (int)op->src[4].shape.n,
                                                   .scale = factor_of(op)};
    lun_launch *launch = lun_emit(out, file, "variational_backward", s.n * cut.pieces);
    for (int i = 0; i < 6; i++)
        lun_emit_src(launch, i);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

LOWER(guide)
{
    const lun_shape s = op->src[0].shape;
    const int64_t pixels = s.n / 2 * s.h * s.w;
    const lun_cut cut = lun_cut_rows(caps, pixels, s.c);
    const struct guide_args args = {.pixels = (int)pixels,
                                    .channels = (int)s.c,
                                    .guided = op->attrs.guide.channels,
                                    .rows = (int)cut.rows,
                                    .width = (int)cut.width,
                                    .blocks = (int)cut.blocks};
    lun_launch *launch = lun_emit(out, file, "guide", cut.pieces);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}
