/* Ops around an optimiser's step: cl/update.cl. */
#include "update.h"

#include <stdio.h>

#include "base/base.h"
#include "lowerings.h"

static const char *const file = "update.cl";

lun_status lun_lower_accumulate(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct update_args args = {.count = (int)count, .grain = (int)grain};
    lun_launch *launch = lun_emit(out, file, "accumulate", lun_ceil_div(count, grain));
    lun_emit_dst(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 2);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_ema(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    static const char *const kernels[LUN_OP_MAX_EMA] = {"ema1", "ema2", "ema3", "ema4"};
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct update_args args = {.count = (int)count, .grain = (int)grain};
    lun_launch *launch = lun_emit(out, file, kernels[op->ndst - 1], lun_ceil_div(count, grain));
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    for (int i = 0; i < op->ndst; i++)
        lun_emit_dst(launch, i);
    lun_emit_args(launch, args);
    return LUN_OK;
}

/* As the loss's mean (reduce.c): an item goes through memory in one piece on a CPU; on a GPU neighbours stay
 * neighbours. The partial sums are joined by cl/reduce.cl, in an order that the count alone decides. */
lun_status lun_lower_sum_squares(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    enum { STEPS = 64 };
    const int64_t count = lun_count(op->src[0].shape), spans = lun_ceil_div(count, lun_columns(caps));
    int64_t rows = lun_ceil_div(spans, STEPS);
    const struct squares_args args = {.count = (int)count,
                                      .width = lun_columns(caps),
                                      .spans = (int)spans,
                                      .steps = STEPS,
                                      .first = caps->gpu ? 1 : STEPS,
                                      .step = caps->gpu ? (int)rows : 1};
    lun_launch_buffer from = {LUN_SPACE_WORKSPACE, 0, lun_book(out, (size_t)rows * 4)};
    lun_launch *launch = lun_emit(out, file, "sum_squares", rows);
    snprintf(launch->options, sizeof launch->options, "-DSQUARE_COLUMNS=%d", lun_columns(caps));
    lun_emit_src(launch, 0);
    lun_emit_workspace(launch, from.offset);
    lun_emit_args(launch, args);
    while (rows > lun_chunk(caps)) {
        const int64_t chunks = lun_ceil_div(rows, lun_chunk(caps));
        const lun_launch_buffer part = {LUN_SPACE_WORKSPACE, 0, lun_book(out, (size_t)chunks * 4)};
        lun_emit_sum_pass(out, caps, from, 1, rows, 1, 1, part);
        from = part;
        rows = chunks;
    }
    const lun_launch_buffer to = {LUN_SPACE_DST, 0, (size_t)op->attrs.squares.slot * 4};
    lun_emit_sum_pass(out, caps, from, 1, rows, 1, 1, to);
    return LUN_OK;
}

lun_status lun_lower_clip_norm(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    (void)caps;
    const struct clip_args args = {.parts = (int)op->src[0].shape.c, .limit = op->attrs.clip.limit};
    lun_launch *launch = lun_emit(out, file, "clip_norm", 1);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_dst(launch, 1);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_loss_seed(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    (void)caps;
    const struct seed_args args = {.weight = op->attrs.seed.weight};
    lun_launch *launch = lun_emit(out, file, "loss_seed", 1);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_health(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    (void)caps;
    const struct health_args args = {.parts = (int)op->src[0].shape.c};
    lun_launch *launch = lun_emit(out, file, op->nsrc > 4 ? "health_averages" : "health", 1);
    lun_emit_src(launch, 0);
    lun_emit_dst(launch, 0);
    lun_emit_src(launch, 2);
    lun_emit_src(launch, 3);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 2);
    if (op->nsrc > 4) {
        lun_emit_src(launch, 4);
        lun_emit_dst(launch, 3);
    }
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_settle(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const int64_t count = lun_count(op->dst[0].shape), grain = lun_grain(caps, count);
    const struct update_args args = {.count = (int)count, .grain = (int)grain};
    lun_launch *launch = lun_emit(out, file, "settle", lun_ceil_div(count, grain));
    lun_emit_dst(launch, 0);
    lun_emit_dst(launch, 1);
    lun_emit_src(launch, 2);
    lun_emit_args(launch, args);
    return LUN_OK;
}
