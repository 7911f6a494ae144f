/* The table of ops, and what works for all of them. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "rules.h"

#define NAMED(op_name, least, most, results)                                                                           \
    .name = #op_name, .min_src = least, .max_src = most, .ndst = results, .shape = lun_shape_##op_name

#define PITCHED(sources, destination) .pitched_src = sources, .pitched_dst = destination

/* .ndst is the most an op has; convolutions and norms have fewer, depending on their attributes, adam, ema and health
 * on their sources. An op without
 * .backward gives its sources no gradient: it is a gradient itself, works on numbers, not parameters (noise), or
 * nothing differentiates it (slice). */
static const lun_op_info infos[LUN_OP_KIND_COUNT] = {
    [LUN_OP_CONV2D] = {NAMED(conv2d, 2, 3, 2), .backward = lun_gradient_conv2d, PITCHED(1, 1)},
    [LUN_OP_CONV2D_TRANSPOSE] = {NAMED(conv2d_transpose, 2, 3, 2), .backward = lun_gradient_conv2d_transpose,
                                 PITCHED(1, 1)},
    [LUN_OP_CONV2D_WGRAD] = {NAMED(conv2d_wgrad, 2, 2, 1), PITCHED(1 | 2, 0)},
    [LUN_OP_CHANNEL_SUM] = {NAMED(channel_sum, 1, 1, 1), PITCHED(1, 0)},
    [LUN_OP_SPATIAL_SUM] = {NAMED(spatial_sum, 1, 1, 1), PITCHED(1, 0)},
    [LUN_OP_BATCH_NORM] = {NAMED(batch_norm, 5, 7, 5), .backward = lun_gradient_batch_norm, .alias = {0, 0, 0, 4, 5},
                           .inplace = 1, PITCHED(0, 1)},
    [LUN_OP_BATCH_NORM_BACKWARD] = {NAMED(batch_norm_backward, 5, 5, 5), .inplace = 1 | 2, PITCHED(2, 0)},
    [LUN_OP_GROUP_NORM] = {NAMED(group_norm, 3, 4, 3), .backward = lun_gradient_group_norm, .inplace = 1},
    [LUN_OP_GROUP_NORM_BACKWARD] = {NAMED(group_norm_backward, 6, 8, 6), .inplace = 1 | 2},
    [LUN_OP_SCALE_SHIFT] = {NAMED(scale_shift, 2, 2, 1), .backward = lun_gradient_scale_shift, .inplace = 1},
    [LUN_OP_SCALE_SHIFT_BACKWARD] = {NAMED(scale_shift_backward, 3, 3, 2), .inplace = 1 | 2},
    [LUN_OP_SILU] = {NAMED(silu, 1, 1, 1), .backward = lun_gradient_silu, .inplace = 1},
    [LUN_OP_SILU_BACKWARD] = {NAMED(silu_backward, 2, 2, 1), .inplace = 1 | 2},
    [LUN_OP_GELU] = {NAMED(gelu, 1, 1, 1), .backward = lun_gradient_gelu, .inplace = 1},
    [LUN_OP_GELU_BACKWARD] = {NAMED(gelu_backward, 2, 2, 1), .inplace = 1 | 2},
    [LUN_OP_DROPOUT] = {NAMED(dropout, 2, 2, 1), .backward = lun_gradient_dropout, .inplace = 1},
    [LUN_OP_RELU] = {NAMED(relu, 1, 1, 1), .backward = lun_gradient_relu, .inplace = 1, PITCHED(1, 1)},
    [LUN_OP_RELU_BACKWARD] = {NAMED(relu_backward, 2, 2, 1), .inplace = 1 | 2, PITCHED(1 | 2, 1)},
    [LUN_OP_ADD] = {NAMED(add, 2, 2, 1), .backward = lun_gradient_add, .inplace = 1 | 2, PITCHED(1 | 2, 1)},
    [LUN_OP_ADD_CHANNEL] = {NAMED(add_channel, 2, 2, 1), .backward = lun_gradient_add_channel, .inplace = 1},
    [LUN_OP_CONCAT] = {NAMED(concat, 2, 2, 1), .backward = lun_gradient_concat, PITCHED(1 | 2, 1)},
    [LUN_OP_SLICE] = {NAMED(slice, 1, 1, 1), PITCHED(1, 1)},
    [LUN_OP_EMBED] = {NAMED(embed, 2, 2, 1), .backward = lun_gradient_embed},
    [LUN_OP_NOISE] = {NAMED(noise, 4, 4, 1), .inplace = 1 | 2},
    [LUN_OP_LOSS] = {NAMED(loss, 2, 2, 1), .backward = lun_gradient_loss},
    [LUN_OP_LOSS_BACKWARD] = {NAMED(loss_backward, 3, 3, 1), .inplace = 1 | 2},
    [LUN_OP_ADAM] = {NAMED(adam, 5, 8, 4), .alias = {1, 3, 4, 7}},
    [LUN_OP_RANDINT] = {NAMED(randint, 1, 1, 1)},
    [LUN_OP_RANDN] = {NAMED(randn, 1, 1, 1)},
    [LUN_OP_SAMPLE_STEP] = {NAMED(sample_step, 4, 4, 1), .inplace = 1 | 2 | 4},
    [LUN_OP_STORE] = {NAMED(store, 3, 3, 1), .alias = {1}},
    [LUN_OP_EMBED_BACKWARD] = {NAMED(embed_backward, 2, 2, 1)},
    [LUN_OP_UPSAMPLE2] = {NAMED(upsample2, 1, 1, 1), .backward = lun_gradient_upsample2},
    [LUN_OP_POOL2] = {NAMED(pool2, 1, 1, 1), .backward = lun_gradient_pool2},
    [LUN_OP_ATTENTION] = {NAMED(attention, 1, 1, 2), .backward = lun_gradient_attention},
    [LUN_OP_ATTENTION_BACKWARD] = {NAMED(attention_backward, 4, 4, 1)},
    [LUN_OP_LOSS_EACH] = {NAMED(loss_each, 2, 3, 1), .backward = lun_gradient_loss_each},
    [LUN_OP_LOSS_EACH_BACKWARD] = {NAMED(loss_each_backward, 3, 4, 1), .inplace = 1},
    [LUN_OP_WEIGHTED_MEAN] = {NAMED(weighted_mean, 2, 2, 1), .backward = lun_gradient_weighted_mean},
    [LUN_OP_WEIGHTED_MEAN_BACKWARD] = {NAMED(weighted_mean_backward, 2, 2, 1), .inplace = 1},
    [LUN_OP_VARIATIONAL] = {NAMED(variational, 5, 5, 1), .backward = lun_gradient_variational},
    [LUN_OP_VARIATIONAL_BACKWARD] = {NAMED(variational_backward, 6, 6, 1)},
    [LUN_OP_GUIDE] = {NAMED(guide, 2, 2, 1), .inplace = 1},
    [LUN_OP_ACCUMULATE] = {NAMED(accumulate, 3, 3, 1), .alias = {1}},
    [LUN_OP_SUM_SQUARES] = {NAMED(sum_squares, 2, 2, 1), .alias = {2}},
    [LUN_OP_CLIP_NORM] = {NAMED(clip_norm, 1, 1, 2)},
    [LUN_OP_EMA] = {NAMED(ema, 3, 2 + LUN_OP_MAX_EMA, LUN_OP_MAX_EMA), .alias = {3, 4, 5, 6}},
    [LUN_OP_LOSS_SEED] = {NAMED(loss_seed, 1, 1, 1)},
    [LUN_OP_HEALTH] = {NAMED(health, 4, 5, 4), .alias = {2}},
    [LUN_OP_SETTLE] = {NAMED(settle, 3, 3, 2), .alias = {1, 2}},
    [LUN_OP_UPSAMPLE2_FILTER] = {NAMED(upsample2_filter, 1, 1, 1), .backward = lun_gradient_upsample2_filter},
    [LUN_OP_POOL2_FILTER] = {NAMED(pool2_filter, 1, 1, 1), .backward = lun_gradient_pool2_filter},
};

const lun_op_info *lun_op_info_of(lun_op_kind kind)
{
    return &infos[kind];
}

/* Kernels index with 32-bit integers, so a span is bounded as an element count is (lun_desc_check). */
static lun_status check_pitch(const lun_op *op, const char *what, int index, lun_desc desc, int pitch, unsigned allowed)
{
    if (pitch == 0)
        return LUN_OK;
    if (!(allowed >> index & 1u))
        return lun_rule_fail(op, "%s %d must lie dense", what, index);
    if (desc.dtype != LUN_F32 || desc.layout != LUN_IMAGE)
        return lun_rule_fail(op, "%s %d is no image of floats, but has a pitch", what, index);
    if (pitch < desc.shape.c || (desc.shape.n * desc.shape.h * desc.shape.w - 1) * pitch + desc.shape.c > INT32_MAX)
        return lun_rule_fail(op, "%s %d of %" PRId64 " channels cannot have a pitch of %d", what, index, desc.shape.c,
                             pitch);
    return LUN_OK;
}

lun_status lun_op_infer(lun_op *op)
{
    if ((unsigned)op->kind >= LUN_OP_KIND_COUNT)
        return lun_fail(LUN_ERR_USAGE, "there is no op number %d", (int)op->kind);
    const lun_op_info *info = &infos[op->kind];
    if (op->nsrc < info->min_src || op->nsrc > info->max_src)
        return lun_fail(LUN_ERR_USAGE, "%s: %d sources, but it takes %d to %d", info->name, op->nsrc, info->min_src,
                        info->max_src);
    lun_op work = *op;
    for (int i = 0; i < work.nsrc; i++) {
        if ((unsigned)work.src[i].dtype > LUN_U32 || (unsigned)work.src[i].layout > LUN_FILTER)
            return lun_rule_fail(op, "source %d has no valid element type and layout", i);
        LUN_TRY(lun_desc_check(work.src[i]));
        LUN_TRY(check_pitch(&work, "source", i, work.src[i], work.src_pitch[i], info->pitched_src));
    }
    work.ndst = info->ndst;
    memset(work.dst, 0, sizeof work.dst);
    LUN_TRY(info->shape(&work));
    for (int i = 0; i < work.ndst; i++) {
        LUN_TRY(lun_desc_check(work.dst[i]));
        LUN_TRY(check_pitch(&work, "destination", i, work.dst[i], work.dst_pitch[i], info->pitched_dst));
    }
    *op = work;
    return LUN_OK;
}

lun_status lun_rule_fail(const lun_op *op, const char *format, ...)
{
    char reason[256];
    va_list list;
    va_start(list, format);
    vsnprintf(reason, sizeof reason, format, list);
    va_end(list);
    return lun_fail(LUN_ERR_USAGE, "%s: %s", infos[op->kind].name, reason);
}

lun_status lun_rule_operand(const lun_op *op, int index, const char *name, lun_dtype dtype, lun_layout layout)
{
    static const char *const dtypes[] = {"float", "int32", "uint32"};
    if (op->src[index].dtype != dtype)
        return lun_rule_fail(op, "%s must be %s, not %s", name, dtypes[dtype], dtypes[op->src[index].dtype]);
    if (op->src[index].layout != layout)
        return lun_rule_fail(op, "%s must be %s", name,
                             layout == LUN_FILTER ? "a filter" : "an image or vector, not a filter");
    return LUN_OK;
}

lun_status lun_rule_shape(const lun_op *op, int index, const char *name, lun_dtype dtype, lun_layout layout,
                          lun_shape shape)
{
    LUN_TRY(lun_rule_operand(op, index, name, dtype, layout));
    const lun_shape got = op->src[index].shape;
    if (!lun_shape_equal(got, shape))
        return lun_rule_fail(op,
                             "%s is (%" PRId64 ", %" PRId64 ", %" PRId64 ", %" PRId64 ") but must be (%" PRId64
                             ", %" PRId64 ", %" PRId64 ", %" PRId64 ")",
                             name, got.n, got.c, got.h, got.w, shape.n, shape.c, shape.h, shape.w);
    return LUN_OK;
}

lun_status lun_rule_vector(const lun_op *op, int index, const char *name, int64_t c)
{
    return lun_rule_shape(op, index, name, LUN_F32, LUN_IMAGE, lun_shape4(1, c, 1, 1));
}

lun_status lun_rule_like_first(const lun_op *op, int index, const char *name)
{
    return lun_rule_shape(op, index, name, LUN_F32, op->src[0].layout, op->src[0].shape);
}

static void append(char **at, char *end, const char *format, ...) LUN_PRINTF(3, 4);
static void append(char **at, char *end, const char *format, ...)
{
    va_list list;
    va_start(list, format);
    const int length = vsnprintf(*at, (size_t)(end - *at), format, list);
    va_end(list);
    if (length > 0)
        *at = length < end - *at ? *at + length : end - 1;
}

void lun_op_describe(const lun_op *op, char *text, size_t size)
{
    static const char *const losses[] = {"l1", "l2", "huber"}, *const clips[] = {"none", "x0", "xt"};
    if (size == 0)
        return;
    char *at = text, *const end = text + size;
    *at = 0;
    if ((unsigned)op->kind >= LUN_OP_KIND_COUNT) {
        append(&at, end, "op %d", (int)op->kind);
        return;
    }
    append(&at, end, "%s", infos[op->kind].name);
    for (int i = 0; i < op->nsrc && i < LUN_OP_MAX_SRC; i++) {
        const lun_shape s = op->src[i].shape;
        append(&at, end,
               op->src[i].layout == LUN_FILTER ? " (%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 ")"
                                               : " %" PRId64 "x%" PRId64 "x%" PRId64 "x%" PRId64,
               s.n, s.c, s.h, s.w);
        if (op->src_pitch[i])
            append(&at, end, "/%d", op->src_pitch[i]);
    }
    const lun_attrs *a = &op->attrs;
    switch (op->kind) {
    case LUN_OP_CONV2D:
    case LUN_OP_CONV2D_TRANSPOSE:
    case LUN_OP_CONV2D_WGRAD:
        append(&at, end, " s%dx%d p%dx%d", a->conv.stride_h, a->conv.stride_w, a->conv.pad_h, a->conv.pad_w);
        if (a->conv.more_h != 0 || a->conv.more_w != 0) /* below and on the right */
            append(&at, end, ":%dx%d", a->conv.pad_h + a->conv.more_h, a->conv.pad_w + a->conv.more_w);
        if (op->kind == LUN_OP_CONV2D_WGRAD)
            append(&at, end, " k%dx%d", a->conv.kernel_h, a->conv.kernel_w);
        if (op->kind == LUN_OP_CONV2D_TRANSPOSE)
            append(&at, end, " to %dx%d", a->conv.out_h, a->conv.out_w);
        if (a->conv.relu)
            append(&at, end, " relu");
        if (a->conv.stats)
            append(&at, end, " stats");
        break;
    case LUN_OP_BATCH_NORM:
    case LUN_OP_BATCH_NORM_BACKWARD:
        append(&at, end, " %s%s%s%s%s%s%s", a->norm.training ? "train" : "eval", a->norm.update ? " update" : "",
               a->norm.bare ? " bare" : "", a->norm.given ? " given" : "", a->norm.relu ? " relu" : "",
               a->norm.dbias ? " dbias" : "", a->norm.dshift ? " dshift" : "");
        break;
    case LUN_OP_GROUP_NORM:
    case LUN_OP_GROUP_NORM_BACKWARD:
        append(&at, end, " %d groups%s%s%s%s", a->group.groups, a->group.silu ? " silu" : "",
               a->group.add ? " add" : "", a->group.dbias ? " dbias" : "", a->group.dsum ? " dsum" : "");
        break;
    case LUN_OP_DROPOUT: append(&at, end, " %g", (double)a->dropout.p); break;
    case LUN_OP_SLICE: append(&at, end, " %d+%d", a->slice.first, a->slice.count); break;
    case LUN_OP_LOSS:
    case LUN_OP_LOSS_BACKWARD:
    case LUN_OP_LOSS_EACH:
    case LUN_OP_LOSS_EACH_BACKWARD: append(&at, end, " %s", losses[(unsigned)a->loss.kind % 3]); break;
    case LUN_OP_ADAM: append(&at, end, " %s", a->adam.decoupled ? "adamw" : "adam"); break;
    case LUN_OP_RANDINT:
    case LUN_OP_RANDN:
        append(&at, end, " to %dx%dx%d", a->random.c, a->random.h, a->random.w);
        if (op->kind == LUN_OP_RANDINT)
            append(&at, end, " below %" PRIu32, a->random.bound);
        break;
    case LUN_OP_EMBED_BACKWARD: append(&at, end, " to %d rows", a->embed.rows); break;
    case LUN_OP_UPSAMPLE2:
    case LUN_OP_POOL2: append(&at, end, "%s", a->resample.mean ? " mean" : ""); break;
    case LUN_OP_ATTENTION:
    case LUN_OP_ATTENTION_BACKWARD:
        append(&at, end, " %d heads%s", a->attention.heads, a->attention.split ? " split" : "");
        break;
    case LUN_OP_SAMPLE_STEP:
        append(&at, end, " clip %s%s", clips[(unsigned)a->sample.clip % 3], a->sample.learned ? " learned" : "");
        break;
    case LUN_OP_GUIDE: append(&at, end, " %d", a->guide.channels); break;
    case LUN_OP_SUM_SQUARES: append(&at, end, " slot %d", a->squares.slot); break;
    case LUN_OP_CLIP_NORM: append(&at, end, " at %g", (double)a->clip.limit); break;
    case LUN_OP_LOSS_SEED: append(&at, end, " %g", (double)a->seed.weight); break;
    default: break;
    }
    for (int i = 0; i < op->ndst && i < LUN_OP_MAX_DST; i++)
        if (op->dst_pitch[i])
            append(&at, end, " into /%d", op->dst_pitch[i]);
}
