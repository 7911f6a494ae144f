/* Batch norm: cl/norm.cl, and cl/reduce.cl for the last sums of its gradient. */
#include <stdio.h>

#include "base/base.h"
#include "lowerings.h"
#include "norm.h"

lun_launch *lun_emit_norm(lun_lowering *out, const lun_caps *caps, const char *file, const char *kernel, int64_t items)
{
    lun_launch *launch = lun_emit(out, file, kernel, items);
    snprintf(launch->options, sizeof launch->options, "-DNORM_COLUMNS=%d", lun_columns(caps));
    return launch;
}

static lun_launch *emit(lun_lowering *out, const lun_caps *caps, const char *kernel, int64_t items)
{
    return lun_emit_norm(out, caps, "norm.cl", kernel, items);
}

/* Groups of so many rows: the batch is one, or each sample. */
static struct norm_chunk_args chunk_args(const lun_caps *caps, int64_t groups, int64_t rows, int64_t columns)
{
    return (struct norm_chunk_args){.groups = (int)groups,
                                    .rows = (int)rows,
                                    .columns = (int)columns,
                                    .chunk = (int)lun_chunk(caps),
                                    .chunks = (int)lun_ceil_div(rows, lun_chunk(caps)),
                                    .width = lun_columns(caps),
                                    .blocks = (int)lun_ceil_div(columns, lun_columns(caps))};
}

int64_t lun_norm_height(const lun_caps *caps, int64_t rows, int64_t columns)
{
    const int64_t width = lun_min_i64(columns, lun_columns(caps));
    return caps->gpu ? 1 : lun_min_i64(rows, lun_max_i64(1, lun_grain(caps, INT32_MAX) / width));
}

/* Columns of an item of the small passes in between: more items than whole rows would be. */
static int narrow(const lun_caps *caps)
{
    return caps->gpu ? 1 : 32;
}

lun_norm_partials lun_emit_norm_partials(lun_lowering *out, const lun_caps *caps, const char *file,
                                         lun_launch_buffer src, int64_t groups, int64_t rows, int64_t columns)
{
    const struct norm_chunk_args chunk = chunk_args(caps, groups, rows, columns);
    size_t bytes = (size_t)(groups * chunk.chunks * chunk.columns) * 4;
    size_t mean = lun_book(out, bytes), m2 = lun_book(out, bytes);
    lun_launch *launch = lun_emit_norm(out, caps, file, "norm_chunk", groups * chunk.chunks * chunk.blocks);
    lun_emit_buffer(launch, src);
    lun_emit_workspace(launch, mean);
    lun_emit_workspace(launch, m2);
    lun_emit_args(launch, chunk);

    int64_t partials = chunk.chunks, span = chunk.chunk;
    const int64_t fan = lun_chunk(caps);
    while (partials > fan) {
        const int64_t merged = lun_ceil_div(partials, fan);
        const struct norm_merge_args args = {.rows = chunk.rows,
                                             .columns = chunk.columns,
                                             .span = (int)span,
                                             .partials = (int)partials,
                                             .fan = (int)fan,
                                             .merged = (int)merged,
                                             .width = chunk.width,
                                             .blocks = chunk.blocks};
        bytes = (size_t)(groups * merged * chunk.columns) * 4;
        const size_t mean_out = lun_book(out, bytes), m2_out = lun_book(out, bytes);
        launch = lun_emit_norm(out, caps, file, "norm_merge", groups * merged * chunk.blocks);
        lun_emit_workspace(launch, mean);
        lun_emit_workspace(launch, m2);
        lun_emit_workspace(launch, mean_out);
        lun_emit_workspace(launch, m2_out);
        lun_emit_args(launch, args);
        mean = mean_out;
        m2 = m2_out;
        partials = merged;
        span = lun_min_i64(span * fan, INT32_MAX);
    }
    return (lun_norm_partials){mean, m2, partials, span};
}

/* Batch statistics into destinations 1 and 2 (and, with update, 3 and 4). */
static void statistics(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_norm_attrs *a = &op->attrs.norm;
    const lun_shape s = op->src[0].shape;
    const lun_norm_partials partials =
        lun_emit_norm_partials(out, caps, "norm.cl", (lun_launch_buffer){LUN_SPACE_SRC, 0, 0}, 1, s.n * s.h * s.w, s.c);
    const double rows = (double)(s.n * s.h * s.w);
    const struct norm_finish_args args = {.rows = (int)rows,
                                          .columns = (int)s.c,
                                          .span = (int)partials.span,
                                          .partials = (int)partials.partials,
                                          .width = narrow(caps),
                                          .eps = a->eps,
                                          .fresh = a->momentum,
                                          .kept = (float)(1.0 - (double)a->momentum),
                                          .unbias = a->update ? (float)(rows / (rows - 1)) : 0.0f};
    lun_launch *launch =
        emit(out, caps, a->update ? "norm_finish_update" : "norm_finish", lun_ceil_div(s.c, narrow(caps)));
    lun_emit_workspace(launch, partials.mean);
    lun_emit_workspace(launch, partials.m2);
    for (int i = 1; i < op->ndst; i++)
        lun_emit_dst(launch, i);
    lun_emit_args(launch, args);
}

/* The last pass: `kernel` with gamma, beta, two vectors of statistics and what is added to each sample's channels. */
static void apply(const lun_op *op, const lun_caps *caps, lun_lowering *out, const char *kernel,
                  lun_launch_buffer statistic[2])
{
    const lun_shape s = op->src[0].shape;
    const bool shifted = op->nsrc > 5;
    const int64_t groups = shifted ? s.n : 1, rows = s.n / groups * s.h * s.w,
                  height = lun_norm_height(caps, rows, s.c);
    const struct norm_apply_args args = {.rows = (int)rows,
                                         .columns = (int)s.c,
                                         .height = (int)height,
                                         .pieces = (int)lun_ceil_div(rows, height),
                                         .width = lun_columns(caps),
                                         .blocks = (int)lun_ceil_div(s.c, lun_columns(caps)),
                                         .shifted = shifted,
                                         .eps = op->attrs.norm.eps};
    lun_launch *launch = emit(out, caps, kernel, groups * args.pieces * args.blocks);
    for (int i = 0; i < 3; i++)
        lun_emit_src(launch, i);
    for (int i = 0; i < 2; i++)
        lun_emit_buffer(launch, statistic[i]);
    lun_emit_src(launch, shifted ? 5 : 2); /* some buffer, where nothing is added */
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
}

lun_status lun_lower_batch_norm(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    lun_launch_buffer used[2] = {{LUN_SPACE_DST, 1, 0}, {LUN_SPACE_DST, 2, 0}};
    lun_launch_buffer running[2] = {{LUN_SPACE_SRC, 3, 0}, {LUN_SPACE_SRC, 4, 0}};
    if (op->attrs.norm.training) {
        statistics(op, caps, out);
    } else if (op->ndst > 1) {
        const int64_t c = op->src[0].shape.c;
        const struct norm_fixed_args args = {.columns = (int)c, .width = narrow(caps), .eps = op->attrs.norm.eps};
        lun_launch *launch = emit(out, caps, "norm_fixed", lun_ceil_div(c, narrow(caps)));
        lun_emit_src(launch, 3);
        lun_emit_src(launch, 4);
        lun_emit_dst(launch, 1);
        lun_emit_dst(launch, 2);
        lun_emit_args(launch, args);
    } else {
        apply(op, caps, out, "norm_fixed_apply", running);
        return LUN_OK;
    }
    apply(op, caps, out, "norm_apply", used);
    return LUN_OK;
}

/* Sums over chunks, joined until few are left for norm_back_finish. Returns where they lie; *partials: a group's. */
static size_t back_sums(const lun_caps *caps, lun_lowering *out, const struct norm_chunk_args *chunk, int64_t *partials)
{
    const int64_t groups = chunk->groups, columns = chunk->columns;
    int64_t left = chunk->chunks;
    size_t part = lun_book(out, (size_t)(2 * groups * left * columns) * 4);
    lun_launch *launch = emit(out, caps, "norm_back_chunk", groups * left * chunk->blocks);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 3);
    lun_emit_workspace(launch, part);
    lun_emit_args(launch, *chunk);
    while (left > 1 && groups * left > lun_chunk(caps)) {
        const int64_t fewer = lun_ceil_div(left, lun_chunk(caps));
        const size_t joined = lun_book(out, (size_t)(2 * groups * fewer * columns) * 4);
        lun_emit_sum_pass(out, caps, (lun_launch_buffer){LUN_SPACE_WORKSPACE, 0, part}, 2 * groups, left, columns, 1,
                          (lun_launch_buffer){LUN_SPACE_WORKSPACE, 0, joined});
        part = joined;
        left = fewer;
    }
    *partials = left;
    return part;
}

lun_status lun_lower_batch_norm_backward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_norm_attrs *a = &op->attrs.norm;
    const lun_shape s = op->src[0].shape;
    const int64_t rows = s.n * s.h * s.w;
    const int64_t groups = a->dshift ? s.n : 1;
    const struct norm_chunk_args chunk = chunk_args(caps, groups, rows / groups, s.c);
    int64_t partials = 0;
    const size_t part = back_sums(caps, out, &chunk, &partials), coef = lun_book(out, (size_t)(3 * s.c) * 4);
    const struct norm_back_finish_args finish = {.groups = chunk.groups,
                                                 .partials = (int)partials,
                                                 .columns = chunk.columns,
                                                 .width = narrow(caps),
                                                 .shifted = a->dshift,
                                                 .inverse = a->training ? (float)(1.0 / (double)rows) : 0.0f};
    lun_launch *launch = emit(out, caps, "norm_back_finish", lun_ceil_div(s.c, narrow(caps)));
    lun_emit_workspace(launch, part);
    lun_emit_src(launch, 2);
    lun_emit_src(launch, 4);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 2);
    lun_emit_dst(launch, a->dshift ? op->ndst - 1 : 2); /* some buffer, where there is none */
    lun_emit_workspace(launch, coef);
    lun_emit_args(launch, finish);

    const int64_t height = a->dbias ? lun_min_i64(rows, lun_chunk(caps)) : lun_norm_height(caps, rows, s.c);
    const int64_t pieces = lun_ceil_div(rows, height);
    const struct norm_back_apply_args args = {.rows = (int)rows,
                                              .columns = chunk.columns,
                                              .height = (int)height,
                                              .width = chunk.width,
                                              .blocks = chunk.blocks,
                                              .relu = a->relu,
                                              .sums = a->dbias};
    lun_launch_buffer sums = {LUN_SPACE_WORKSPACE, 0, coef};
    if (a->dbias && pieces > 1)
        sums.offset = lun_book(out, (size_t)(pieces * s.c) * 4);
    else if (a->dbias)
        sums = (lun_launch_buffer){LUN_SPACE_DST, 3, 0};
    launch = emit(out, caps, "norm_back_apply", pieces * chunk.blocks);
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 3);
    lun_emit_workspace(launch, coef);
    lun_emit_buffer(launch, sums);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    if (a->dbias && pieces > 1)
        lun_emit_sum(out, caps, sums, 1, pieces, s.c, 1, 3);
    return LUN_OK;
}
