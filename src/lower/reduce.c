/* Sums over rows, and the loss: cl/reduce.cl. */
#include <stdio.h>

#include "base/base.h"
#include "lowerings.h"
#include "reduce.h"

static lun_launch *emit(lun_lowering *out, const lun_caps *caps, const char *kernel, int64_t items)
{
    lun_launch *launch = lun_emit(out, "reduce.cl", kernel, items);
    snprintf(launch->options, sizeof launch->options, "-DREDUCE_COLUMNS=%d", lun_columns(caps));
    return launch;
}

static void emit_pass(lun_lowering *out, const lun_caps *caps, lun_launch_buffer from, int64_t pitch, int64_t groups,
                      int64_t rows, int64_t columns, float scale, lun_launch_buffer to)
{
    const int64_t chunk = lun_chunk(caps), chunks = lun_ceil_div(rows, chunk);
    /* Few items, as where sums are joined, are cut narrower. */
    int64_t width = lun_columns(caps);
    while (width > 32 && groups * chunks * lun_ceil_div(columns, width) < 16)
        width /= 2;
    const int64_t blocks = lun_ceil_div(columns, width);
    const struct sum_args args = {.rows = (int)rows,
                                  .columns = (int)columns,
                                  .pitch = (int)pitch,
                                  .chunk = (int)chunk,
                                  .chunks = (int)chunks,
                                  .width = (int)width,
                                  .blocks = (int)blocks,
                                  .scale = scale};
    lun_launch *launch = emit(out, caps, "sum_rows", groups * chunks * blocks);
    lun_emit_buffer(launch, from);
    lun_emit_buffer(launch, to);
    lun_emit_args(launch, args);
}

void lun_emit_sum_pass(lun_lowering *out, const lun_caps *caps, lun_launch_buffer from, int64_t groups, int64_t rows,
                       int64_t columns, float scale, lun_launch_buffer to)
{
    emit_pass(out, caps, from, columns, groups, rows, columns, scale, to);
}

static void emit_passes(lun_lowering *out, const lun_caps *caps, lun_launch_buffer from, int64_t pitch, int64_t groups,
                        int64_t rows, int64_t columns, float scale, int dst)
{
    while (rows > lun_chunk(caps)) {
        const int64_t chunks = lun_ceil_div(rows, lun_chunk(caps));
        const lun_launch_buffer part = {LUN_SPACE_WORKSPACE, 0, lun_book(out, (size_t)(groups * chunks * columns) * 4)};
        emit_pass(out, caps, from, pitch, groups, rows, columns, 1, part);
        from = part;
        pitch = columns;
        rows = chunks;
    }
    emit_pass(out, caps, from, pitch, groups, rows, columns, scale, (lun_launch_buffer){LUN_SPACE_DST, dst, 0});
}

void lun_emit_sum(lun_lowering *out, const lun_caps *caps, lun_launch_buffer from, int64_t groups, int64_t rows,
                  int64_t columns, float scale, int dst)
{
    emit_passes(out, caps, from, columns, groups, rows, columns, scale, dst);
}

lun_status lun_lower_channel_sum(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->src[0].shape;
    emit_passes(out, caps, (lun_launch_buffer){LUN_SPACE_SRC, 0, 0}, lun_src_pitch(op, 0), 1, s.n * s.h * s.w, s.c, 1,
                0);
    return LUN_OK;
}

lun_status lun_lower_spatial_sum(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->src[0].shape;
    emit_passes(out, caps, (lun_launch_buffer){LUN_SPACE_SRC, 0, 0}, lun_src_pitch(op, 0), s.n, s.h * s.w, s.c, 1, 0);
    return LUN_OK;
}

lun_status lun_lower_loss(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    enum { STEPS = 64 };
    const int64_t count = lun_count(op->src[0].shape), spans = lun_ceil_div(count, lun_columns(caps));
    const int64_t items = lun_ceil_div(spans, STEPS);
    /* A CPU's item goes through memory in one piece; on a GPU neighbouring items stay neighbours. */
    const struct loss_args args = {.count = (int)count,
                                   .width = lun_columns(caps),
                                   .spans = (int)spans,
                                   .steps = STEPS,
                                   .first = caps->gpu ? 1 : STEPS,
                                   .step = caps->gpu ? (int)items : 1,
                                   .kind = (int)op->attrs.loss.kind,
                                   .delta = op->attrs.loss.delta};
    const lun_launch_buffer partial = {LUN_SPACE_WORKSPACE, 0, lun_book(out, (size_t)items * 4)};
    lun_launch *launch = emit(out, caps, "loss_sum", items);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_workspace(launch, partial.offset);
    lun_emit_args(launch, args);
    lun_emit_sum(out, caps, partial, 1, items, 1, (float)(1.0 / (double)count), 0);
    return LUN_OK;
}
