/* Batch norm: cl/norm.cl, and cl/reduce.cl for the last sums of its gradient. */
#include <stdio.h>

#include "base/base.h"
#include "lowerings.h"
#include "norm.h"

lun_launch *lun_emit_norm(lun_lowering *out, const lun_caps *caps, const char *file, const char *kernel, int64_t items)
{
    lun_launch *launch = lun_emit(out, file, kernel, items);
    snprintf(launch->options, sizeof launch->options, "-DNORM_COLUMNS=%d", lun_norm_columns(caps));
    return launch;
}

static lun_launch *emit(lun_lowering *out, const lun_caps *caps, const char *kernel, int64_t items)
{
    return lun_emit_norm(out, caps, "norm.cl", kernel, items);
}

/* Groups of so many rows, `pitch` floats apart: the batch is one, or each sample. */
static struct norm_chunk_args chunk_args(const lun_caps *caps, int64_t groups, int64_t rows, int64_t columns, int pitch)
{
    return (struct norm_chunk_args){.groups = (int)groups,
                                    .rows = (int)rows,
                                    .columns = (int)columns,
                                    .pitch = pitch,
                                    .chunk = (int)lun_chunk(caps),
                                    .chunks = (int)lun_ceil_div(rows, lun_chunk(caps)),
                                    .width = lun_norm_columns(caps),
                                    .blocks = (int)lun_ceil_div(columns, lun_norm_columns(caps))};
}

int64_t lun_norm_height(const lun_caps *caps, int64_t rows, int64_t columns)
{
    const int64_t width = lun_min_i64(columns, lun_norm_columns(caps));
    return caps->gpu ? 1 : lun_min_i64(rows, lun_max_i64(1, lun_grain(caps, INT32_MAX) / width));
}

/* Columns of an item of the small passes in between: more items than whole rows would be. */
static int narrow(const lun_caps *caps)
{
    return caps->gpu ? 1 : 32;
}

size_t lun_book_moments(lun_lowering *out, int64_t partials, int64_t stride)
{
    return lun_book(out, (size_t)(3 * partials * stride) * sizeof(float));
}

void lun_emit_moments(lun_launch *launch, bool stats, size_t moments)
{
    if (stats)
        lun_emit_workspace(launch, moments);
    else
        lun_emit_dst(launch, 0);
}

/* Merge until few are left of each group; where those lie, *partials of them. `columns` of each line are used. */
static size_t merge_to_few(lun_lowering *out, const lun_caps *caps, const char *file, size_t moments, int64_t groups,
                           int64_t *partials, int64_t columns, int64_t stride)
{
    enum { FAN = 64 };
    const int width = narrow(caps);
    const int64_t blocks = lun_ceil_div(columns, width);
    while (*partials > FAN) {
        const int64_t merged = lun_ceil_div(*partials, FAN);
        const struct norm_merge_args args = {.partials = (int)*partials,
                                             .fan = FAN,
                                             .merged = (int)merged,
                                             .columns = (int)columns,
                                             .stride = (int)stride,
                                             .width = width,
                                             .blocks = (int)blocks};
        const size_t to = lun_book_moments(out, groups * merged, stride);
        lun_launch *launch = lun_emit_norm(out, caps, file, "norm_merge", groups * merged * blocks);
        lun_emit_workspace(launch, moments);
        lun_emit_workspace(launch, to);
        lun_emit_args(launch, args);
        moments = to;
        *partials = merged;
    }
    return moments;
}

size_t lun_emit_column_moments(lun_lowering *out, const lun_caps *caps, const char *file, lun_launch_buffer src,
                               int64_t groups, int64_t rows, int64_t columns, int pitch, int64_t *partials)
{
    const struct norm_chunk_args chunk = chunk_args(caps, groups, rows, columns, pitch);
    const size_t moments = lun_book_moments(out, groups * chunk.chunks, columns);
    lun_launch *launch = lun_emit_norm(out, caps, file, "norm_chunk", groups * chunk.chunks * chunk.blocks);
    lun_emit_buffer(launch, src);
    lun_emit_workspace(launch, moments);
    lun_emit_args(launch, chunk);
    *partials = chunk.chunks;
    return merge_to_few(out, caps, file, moments, groups, partials, columns, columns);
}

/* Moments of `rows` rows, few, into mean and variance. */
static void finish(lun_lowering *out, const lun_caps *caps, size_t moments, int64_t partials, int64_t rows,
                   int64_t columns, int64_t stride, lun_launch_buffer stats)
{
    const struct norm_finish_args args = {.partials = (int)partials,
                                          .rows = (int)rows,
                                          .columns = (int)columns,
                                          .stride = (int)stride,
                                          .width = narrow(caps)};
    lun_launch *launch = emit(out, caps, "norm_finish", lun_ceil_div(columns, narrow(caps)));
    launch->work = (double)partials / (double)rows;
    lun_emit_workspace(launch, moments);
    lun_emit_buffer(launch, stats);
    lun_emit_args(launch, args);
}

void lun_emit_merge(lun_lowering *out, const lun_caps *caps, size_t moments, int64_t partials, lun_shape image,
                    int64_t stride)
{
    moments = merge_to_few(out, caps, "norm.cl", moments, 1, &partials, image.c, stride);
    finish(out, caps, moments, partials, image.n * image.h * image.w, image.c, stride,
           (lun_launch_buffer){LUN_SPACE_DST, 1, 0});
}

/* The image's pixels lie `pitch` floats apart. */
static void emit_statistics(lun_lowering *out, const lun_caps *caps, lun_shape image, int pitch, lun_launch_buffer from,
                            lun_launch_buffer stats)
{
    const int64_t rows = image.n * image.h * image.w;
    int64_t partials = 0;
    const size_t moments = lun_emit_column_moments(out, caps, "norm.cl", from, 1, rows, image.c, pitch, &partials);
    finish(out, caps, moments, partials, rows, image.c, image.c, stats);
}

void lun_emit_result_statistics(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    if (op->attrs.conv.stats)
        emit_statistics(out, caps, op->dst[0].shape, lun_dst_pitch(op, 0), (lun_launch_buffer){LUN_SPACE_DST, 0, 0},
                        (lun_launch_buffer){LUN_SPACE_DST, 1, 0});
}

/* Destinations 1 and 2, and with update 3 and 4, from the mean and the variance used. */
static void emit_given(const lun_op *op, const lun_caps *caps, lun_lowering *out, const lun_launch_buffer used[2])
{
    const lun_norm_attrs *a = &op->attrs.norm;
    const lun_shape s = op->src[0].shape;
    const double rows = (double)(s.n * s.h * s.w);
    const struct norm_given_args args = {.columns = (int)s.c,
                                         .width = narrow(caps),
                                         .update = a->update,
                                         .eps = a->eps,
                                         .fresh = a->momentum,
                                         .kept = (float)(1.0 - (double)a->momentum),
                                         .unbias = a->update ? (float)(rows / (rows - 1)) : 0.0f};
    lun_launch *launch = emit(out, caps, "norm_given", lun_ceil_div(s.c, narrow(caps)));
    launch->work = 1 / rows;
    for (int i = 0; i < 2; i++)
        lun_emit_buffer(launch, used[i]);
    for (int i = 1; i < 5; i++)
        lun_emit_dst(launch, i < op->ndst ? i : 1); /* some buffer, where nothing is updated */
    lun_emit_args(launch, args);
}

/* The last pass: `kernel` with gamma, beta, two vectors of statistics and what is added to each sample's channels. */
static void apply(const lun_op *op, const lun_caps *caps, lun_lowering *out, const char *kernel,
                  const lun_launch_buffer statistic[2])
{
    const lun_shape s = op->src[0].shape;
    const bool shifted = lun_norm_is_shifted(op);
    const int64_t groups = shifted ? s.n : 1, rows = s.n / groups * s.h * s.w,
                  height = lun_norm_height(caps, rows, s.c);
    const struct norm_apply_args args = {.rows = (int)rows,
                                         .columns = (int)s.c,
                                         .dst_pitch = lun_dst_pitch(op, 0),
                                         .height = (int)height,
                                         .pieces = (int)lun_ceil_div(rows, height),
                                         .width = lun_norm_columns(caps),
                                         .blocks = (int)lun_ceil_div(s.c, lun_norm_columns(caps)),
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
    const lun_norm_attrs *a = &op->attrs.norm;
    const size_t row = (size_t)op->src[0].shape.c * sizeof(float);
    lun_launch_buffer used[2] = {{LUN_SPACE_SRC, 3, 0}, {LUN_SPACE_SRC, 4, 0}}; /* mean and variance */
    const lun_launch_buffer left[2] = {{LUN_SPACE_DST, 1, 0}, {LUN_SPACE_DST, 2, 0}};
    if (a->given) {
        used[0] = used[1] = (lun_launch_buffer){LUN_SPACE_SRC, op->nsrc - 1, 0};
        used[1].offset += row;
    } else if (a->training) {
        used[0] = used[1] = (lun_launch_buffer){LUN_SPACE_WORKSPACE, 0, lun_book(out, 2 * row)};
        used[1].offset += row;
        emit_statistics(out, caps, op->src[0].shape, lun_src_pitch(op, 0), (lun_launch_buffer){LUN_SPACE_SRC, 0, 0},
                        used[0]);
    }
    if (op->ndst == 1) {
        apply(op, caps, out, "norm_fixed_apply", used);
        return LUN_OK;
    }
    emit_given(op, caps, out, used);
    apply(op, caps, out, "norm_apply", left);
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
    const struct norm_chunk_args chunk = chunk_args(caps, groups, rows / groups, s.c, lun_src_pitch(op, 1));
    int64_t partials = 0;
    const size_t part = back_sums(caps, out, &chunk, &partials), coef = lun_book(out, (size_t)(3 * s.c) * 4);
    const struct norm_back_finish_args finish = {.groups = chunk.groups,
                                                 .partials = (int)partials,
                                                 .columns = chunk.columns,
                                                 .width = narrow(caps),
                                                 .shifted = a->dshift,
                                                 .inverse = a->training ? (float)(1.0 / (double)rows) : 0.0f};
    lun_launch *launch = emit(out, caps, "norm_back_finish", lun_ceil_div(s.c, narrow(caps)));
    launch->work = (double)(groups * partials) / (double)rows;
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
                                              .ddst_pitch = chunk.pitch,
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
