/* Group norm, scale_shift and their gradients: cl/group_norm.cl, and cl/reduce.cl where sums of pieces are joined.
 *
 * A norm passes twice over its operands. On a CPU the batch is done a few samples at a time, both passes over them
 * before the next ones, so that the second pass finds in the caches what the first one brought there. The sums and
 * their order are the same however the batch is cut.
 */
#include "group_norm.h"
#include "base/base.h"
#include "lowerings.h"

static const char *const file = "group_norm.cl";

#define MAX_ROUNDS   8 /* so many times the launches of a round are within LUN_MAX_LAUNCHES */
#define ROUND_BYTES  ((int64_t)8 << 20)
#define ROUND_PIECES 4 /* for each compute unit, at least */

/* Which samples, of the op's and the lowering's operands. */
typedef struct part {
    const lun_op *op;
    const lun_caps *caps;
    lun_lowering *out;
    int64_t first, count;
} part;

static lun_launch *emit(const part *p, const char *kernel, int64_t items)
{
    return lun_emit_norm(p->out, p->caps, file, kernel, items);
}

/* The part's samples in a buffer that has so many floats a sample. */
static lun_launch_buffer samples_of(const part *p, lun_launch_buffer whole, int64_t floats)
{
    whole.offset += (size_t)(p->first * floats) * 4;
    return whole;
}

static lun_launch_buffer src_of(const part *p, int index)
{
    const lun_shape s = p->op->src[index].shape;
    return samples_of(p, (lun_launch_buffer){LUN_SPACE_SRC, index, 0}, s.c * s.h * s.w);
}

static lun_launch_buffer dst_of(const part *p, int index)
{
    const lun_shape s = p->op->dst[index].shape;
    return samples_of(p, (lun_launch_buffer){LUN_SPACE_DST, index, 0}, s.c * s.h * s.w);
}

/* Pieces of `height` rows. */
static struct group_rows_args rows_args(const part *p, int64_t height, bool silu)
{
    const lun_shape s = p->op->src[0].shape;
    const int64_t rows = s.h * s.w, width = lun_norm_columns(p->caps);
    return (struct group_rows_args){.rows = (int)rows,
                                    .columns = (int)s.c,
                                    .height = (int)height,
                                    .pieces = (int)lun_ceil_div(rows, height),
                                    .width = (int)width,
                                    .blocks = (int)lun_ceil_div(s.c, width),
                                    .silu = silu};
}

static int64_t items_of(const part *p, const struct group_rows_args *args)
{
    return p->count * args->pieces * args->blocks;
}

/* Pieces for a pass that writes, and for one that leaves the sums of each. */
static struct group_rows_args apply_args(const part *p, bool silu)
{
    const lun_shape s = p->op->src[0].shape;
    return rows_args(p, lun_norm_height(p->caps, s.h * s.w, s.c), silu);
}

static struct group_rows_args sum_args_of(const part *p, bool silu)
{
    const lun_shape s = p->op->src[0].shape;
    return rows_args(p, lun_min_i64(s.h * s.w, lun_chunk(p->caps)), silu);
}

/* Room for so many floats for each of `samples`. */
static lun_launch_buffer book(lun_lowering *out, int64_t samples, int64_t floats)
{
    return (lun_launch_buffer){LUN_SPACE_WORKSPACE, 0, lun_book(out, (size_t)(samples * floats) * 4)};
}

/* Samples of one round: what they read and write, `images` times src, stays in a cache; enough pieces for all units. */
static int64_t samples_a_round(const lun_op *op, const lun_caps *caps, int images)
{
    const lun_shape s = op->src[0].shape;
    if (caps->gpu)
        return s.n;
    const int64_t bytes = s.c * s.h * s.w * 4 * images;
    const int64_t pieces = lun_ceil_div(s.h * s.w, lun_chunk(caps)) * lun_ceil_div(s.c, lun_norm_columns(caps));
    int64_t samples = lun_max_i64(ROUND_BYTES / bytes, lun_ceil_div(ROUND_PIECES * (int64_t)caps->units, pieces));
    samples = lun_max_i64(samples, lun_ceil_div(s.n, MAX_ROUNDS));
    return lun_min_i64(samples, s.n);
}

static void forward(const part *p, lun_launch_buffer coefs)
{
    const lun_op *op = p->op;
    const lun_group_attrs *a = &op->attrs.group;
    const lun_shape s = op->src[0].shape;
    const bool scaled = op->nsrc > 3;
    int64_t partials = 0;
    const size_t moments =
        lun_emit_column_moments(p->out, p->caps, file, src_of(p, 0), p->count, s.h * s.w, s.c, (int)s.c, &partials);
    const lun_launch_buffer coef = samples_of(p, coefs, GROUP_COEFS * s.c);
    const struct group_finish_args finish = {.rows = (int)(s.h * s.w),
                                             .columns = (int)s.c,
                                             .size = (int)(s.c / a->groups),
                                             .partials = (int)partials,
                                             .scaled = scaled,
                                             .eps = a->eps};
    lun_launch *launch = emit(p, "group_finish", p->count * a->groups);
    lun_emit_workspace(launch, moments);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 2);
    lun_emit_buffer(launch, scaled ? src_of(p, 3) : coef); /* some buffer, where there is none */
    lun_emit_buffer(launch, dst_of(p, 1));
    lun_emit_buffer(launch, dst_of(p, 2));
    lun_emit_buffer(launch, coef);
    lun_emit_args(launch, finish);

    const struct group_rows_args args = apply_args(p, a->silu);
    launch = emit(p, "group_apply", items_of(p, &args));
    lun_emit_buffer(launch, src_of(p, 0));
    lun_emit_buffer(launch, coef);
    lun_emit_buffer(launch, dst_of(p, 0));
    lun_emit_args(launch, args);
}

lun_status lun_lower_group_norm(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->src[0].shape;
    const lun_launch_buffer coefs = book(out, s.n, GROUP_COEFS * s.c);
    const int64_t samples = samples_a_round(op, caps, 2);
    for (int64_t first = 0; first < s.n; first += samples)
        forward(&(part){op, caps, out, first, lun_min_i64(samples, s.n - first)}, coefs);
    return LUN_OK;
}

/* The sums of each piece, three for each channel, and then of each sample, into `sums`. */
static void back_sums(const part *p, lun_launch_buffer coef, lun_launch_buffer sums)
{
    const int64_t floats = 3 * p->op->src[0].shape.c;
    const struct group_rows_args args = sum_args_of(p, p->op->attrs.group.silu);
    int64_t pieces = args.pieces;
    lun_launch_buffer from = pieces > 1 ? book(p->out, p->count, pieces * floats) : sums;
    lun_launch *launch = emit(p, "group_back_chunk", items_of(p, &args));
    lun_emit_buffer(launch, src_of(p, 0));
    lun_emit_buffer(launch, src_of(p, 1));
    lun_emit_buffer(launch, coef);
    lun_emit_buffer(launch, from);
    lun_emit_args(launch, args);
    while (pieces > 1) {
        const int64_t fewer = lun_ceil_div(pieces, lun_chunk(p->caps));
        const lun_launch_buffer to = fewer > 1 ? book(p->out, p->count, fewer * floats) : sums;
        lun_emit_sum_pass(p->out, p->caps, from, p->count, pieces, floats, 1, to);
        from = to;
        pieces = fewer;
    }
}

static void backward(const part *p, lun_launch_buffer all_coefs, lun_launch_buffer all_sums)
{
    const lun_op *op = p->op;
    const lun_group_attrs *a = &op->attrs.group;
    const lun_shape s = op->src[0].shape;
    const bool scaled = op->nsrc - a->add > 6;
    const int size = (int)(s.c / a->groups);
    const lun_launch_buffer coef = samples_of(p, all_coefs, GROUP_COEFS * s.c), sums = samples_of(p, all_sums, 3 * s.c);
    const struct group_finish_args prepare = {.columns = (int)s.c, .size = size, .scaled = scaled};
    lun_launch *launch = emit(p, "group_coefs", p->count * a->groups);
    lun_emit_src(launch, 2);
    lun_emit_src(launch, 3);
    lun_emit_buffer(launch, scaled ? src_of(p, 6) : coef); /* some buffer, where there is none */
    lun_emit_buffer(launch, src_of(p, 4));
    lun_emit_buffer(launch, src_of(p, 5));
    lun_emit_buffer(launch, coef);
    lun_emit_args(launch, prepare);

    back_sums(p, coef, sums);

    const struct group_back_finish_args finish = {
        .rows = (int)(s.h * s.w), .columns = (int)s.c, .size = size, .scaled = scaled, .dsum = a->dsum};
    launch = emit(p, "group_back_finish", p->count * a->groups);
    lun_emit_buffer(launch, sums);
    lun_emit_src(launch, 2);
    lun_emit_src(launch, 3);
    lun_emit_buffer(launch, src_of(p, 5));
    lun_emit_buffer(launch, coef);
    lun_emit_buffer(launch, scaled ? dst_of(p, 3) : coef);
    lun_emit_buffer(launch, a->dsum ? dst_of(p, op->ndst - 1) : coef);
    lun_emit_args(launch, finish);

    struct group_rows_args args = apply_args(p, a->silu);
    args.add = a->add;
    launch = emit(p, "group_back_apply", items_of(p, &args));
    lun_emit_buffer(launch, src_of(p, 0));
    lun_emit_buffer(launch, src_of(p, 1));
    lun_emit_buffer(launch, src_of(p, a->add ? op->nsrc - 1 : 0));
    lun_emit_buffer(launch, coef);
    lun_emit_buffer(launch, dst_of(p, 0));
    lun_emit_args(launch, args);
}

lun_status lun_lower_group_norm_backward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_group_attrs *a = &op->attrs.group;
    const lun_shape s = op->src[0].shape;
    const bool scaled = op->nsrc - a->add > 6;
    const lun_launch_buffer coefs = book(out, s.n, GROUP_COEFS * s.c), sums = book(out, s.n, 3 * s.c);
    const int64_t samples = samples_a_round(op, caps, 3);
    for (int64_t first = 0; first < s.n; first += samples)
        backward(&(part){op, caps, out, first, lun_min_i64(samples, s.n - first)}, coefs, sums);

    const int width = caps->gpu ? 1 : 32;
    const struct group_back_weights_args weights = {.samples = (int)s.n,
                                                    .rows = (int)(s.h * s.w),
                                                    .columns = (int)s.c,
                                                    .size = (int)(s.c / a->groups),
                                                    .scaled = scaled,
                                                    .dbias = a->dbias,
                                                    .width = width};
    lun_launch *launch = lun_emit_norm(out, caps, file, "group_back_weights", lun_ceil_div(s.c, width));
    launch->work = 3.0 / (double)(s.h * s.w); /* three sums a sample, where the others have its pixels */
    lun_emit_buffer(launch, sums);
    lun_emit_src(launch, 5);
    lun_emit_src(launch, scaled ? 6 : 3);
    lun_emit_buffer(launch, coefs);
    lun_emit_dst(launch, 1);
    lun_emit_dst(launch, 2);
    lun_emit_dst(launch, a->dbias ? 3 + scaled : 2);
    lun_emit_args(launch, weights);
    return LUN_OK;
}

lun_status lun_lower_scale_shift(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const part whole = {op, caps, out, 0, op->src[0].shape.n};
    const struct group_rows_args args = apply_args(&whole, false);
    lun_launch *launch = emit(&whole, "scale_shift", items_of(&whole, &args));
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    return LUN_OK;
}

lun_status lun_lower_scale_shift_backward(const lun_op *op, const lun_caps *caps, lun_lowering *out)
{
    const lun_shape s = op->src[0].shape;
    const part whole = {op, caps, out, 0, s.n};
    const struct group_rows_args args = sum_args_of(&whole, false);
    lun_launch_buffer parts = {LUN_SPACE_DST, 1, 0};
    if (args.pieces > 1)
        parts = book(out, s.n, args.pieces * 2 * s.c);
    lun_launch *launch = emit(&whole, "scale_shift_backward", items_of(&whole, &args));
    lun_emit_src(launch, 0);
    lun_emit_src(launch, 1);
    lun_emit_src(launch, 2);
    lun_emit_buffer(launch, parts);
    lun_emit_dst(launch, 0);
    lun_emit_args(launch, args);
    if (args.pieces > 1)
        lun_emit_sum(out, caps, parts, s.n, args.pieces, 2 * s.c, 1, 1);
    return LUN_OK;
}
