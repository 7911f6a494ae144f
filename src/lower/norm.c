/* Batch norm: cl/norm.cl, and cl/reduce.cl for the last sums of its gradient. */
#include <stdio.h>

#include "base/base.h"
#include "lowerings.h"
#include "norm.h"

static lun_launch *emit(lun_lowering *out, const lun_caps *caps, const char *kernel, int64_t items)
{
    lun_launch *launch = lun_emit(out, "norm.cl", kernel, items);
    snprintf(launch->options, sizeof launch->options, "-DNORM_COLUMNS=%d", lun_columns(caps));
    return launch;
}

static struct norm_chunk_args chunk_args(const lun_op *op, const lun_caps *caps)
{
    const lun_shape s = op->src[0].shape;
    const int64_t rows = s.n * s.h * s.w;
    return (struct norm_chunk_args){.rows = (int)rows,
                                    .columns = (int)s.c,
                                    .chunk = (int)lun_chunk(caps),
                                    .chunks = (int)lun_ceil_div(rows, lun_chunk(caps)),
                                    .width = lun_columns(caps),
                                    .blocks = (int)lun_ceil_div(s.c, lun_columns(caps))};
}

static struct norm_apply_args apply_args(const lun_op *op, const lun_caps *caps, int64_t *items)
{
    const lun_shape s = op->src[0].shape;
    const int64_t rows = s.n * s.h * s.w;
    const lun_cut cut = lun_cut_rows(caps, rows, s.c);
    *items = cut.pieces;
    return (struct norm_apply_args){.rows = (int)rows,
                                    .columns = (int)s.c,
                                    .height = (int)cut.rows,
                                    .width = (int)cut.width,
                                    .blocks = (int)cut.blocks,
                                    .inverse = op->attrs.norm.training ? (float)(1.0 / (double)rows) : 0.0f};
}

/* Batch statistics into destinations 1 and 2 (and, with update, 3 and 4). */
static void statistics(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_norm_attrs *a = &op->attrs.norm;
    const struct norm_chunk_args chunk = chunk_args(op, caps);
    size_t bytes = (size_t)chunk.chunks * (size_t)chunk.columns * 4;
    size_t mean = lun_book(out, bytes), m2 = lun_book(out, bytes);
    lun_launch *launch = emit(out, caps, "norm_chunk", (int64_t)chunk.chunks * chunk.blocks);
    lun_emit_src(launch, 0);
    lun_emit_workspace(launch, mean);
    lun_emit_workspace(launch, m2);
    lun_emit_args(launch, chunk);

    int64_t partials = chunk.chunks, span = chunk.chunk;
    const int64_t fan = lun_chunk(caps);
    while (partials > fan) {
        const struct norm_merge_args args = {.rows = chunk.rows,
                                             .columns = chunk.columns,
                                             .span = (int)span,
                                             .partials = (int)partials,
                                             .fan = (int)fan,
                                             .width = chunk.width,
                                             .blocks = chunk.blocks};
        const int64_t merged = lun_ceil_div(partials, fan);
        bytes = (size_t)merged * (size_t)chunk.columns * 4;
        const size_t mean_out = lun_book(out, bytes), m2_out = lun_book(out, bytes);
        launch = emit(out, caps, "norm_merge", merged * chunk.blocks);
        lun_emit_workspace(launch, mean);
        lun_emit_workspace(launch, m2);
        lun_emit_workspace(launch, mean_out);
        lun_emit_workspace(launch, m2_out);
        lun_emit_args(launch, args);
        mean = mean_out;
        m2 = m2_out;
        partials = merged;
        span *= fan;
    }

    const double rows = chunk.rows;
    const struct norm_finish_args args = {.rows = chunk.rows,
                                          .columns = chunk.columns,
                                          .span = (int)lun_min_i64(span, INT32_MAX),
                                          .partials = (int)partials,
                                          .width = chunk.width,
                                          .eps = a->eps,
                                          .fresh = a->momentum,
                                          .kept = (float)(1.0 - (double)a->momentum),
                                          .unbias = a->update ? (float)(rows / (rows - 1)) : 0.0f};
    launch = emit(out, caps, a->update ? "norm_finish_update" : "norm_finish", chunk.blocks);
    lun_emit_workspace(launch, mean);
    lun_emit_workspace(launch, m2);
    for (int i = 1; i < op->ndst; i++)
        lun_emit_dst(launch, i);
    lun_emit_args(launch, args);
}

lun_status lun_lower_batch_norm(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    if (op->attrs.norm.training) {
        statistics(op, caps, out);
    } else {
        const int64_t c = op->src[0].shape.c, blocks = lun_ceil_div(c, lun_columns(caps));
        const struct norm_fixed_args args = {.columns = (int)c, .width = lun_columns(caps), .eps = op->attrs.norm.eps};
        lun_launch *launch = emit(out, caps, "norm_fixed", blocks);
        lun_emit_src(launch, 3);
        lun_emit_src(launch, 4);
        lun_emit_dst(launch, 1);
        lun_emit_dst(launch, 2);
        lun_emit_args(launch, args);
    }
    int64_t items = 0;
    const struct norm_apply_args args = apply_args(op, caps, &items);
    lun_launch *launch = emit(out, caps, "norm_apply", items);
    for (int i = 0; i < 3; i++)
        lun_emit_src(launch, i);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 2);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_batch_norm_backward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const struct norm_chunk_args chunk = chunk_args(op, caps);
    const bool single = chunk.chunks == 1;
    lun_launch_buffer part[2] = {{LUN_SPACE_DST, 1, 0}, {LUN_SPACE_DST, 2, 0}};
    for (int i = 0; i < 2 && !single; i++)
        part[i] = (lun_launch_buffer){LUN_SPACE_WORKSPACE, 0,
                                      lun_book(out, (size_t)chunk.chunks * (size_t)chunk.columns * 4)};

    lun_launch *launch = emit(out, caps, "norm_back_chunk", (int64_t)chunk.chunks * chunk.blocks);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 3);
    lun_emit_src(launch, 4);
    for (int i = 0; i < 2; i++)
        lun_emit_buffer(launch, part[i]);
    lun_emit_args(launch, chunk);
    for (int i = 0; i < 2 && !single; i++)
        lun_emit_sum(out, caps, part[i], 1, chunk.chunks, chunk.columns, 1, 1 + i);

    int64_t items = 0;
    const struct norm_apply_args args = apply_args(op, caps, &items);
    launch = emit(out, caps, "norm_back_apply", items);
    for (int i = 0; i < 5; i++)
        lun_emit_src(launch, i);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 2);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}
