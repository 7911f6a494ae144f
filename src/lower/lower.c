/* The table of candidates, and the helpers with which the files of this folder write launches. */
#include <string.h>

#include "base/base.h"
#include "lower/lower.h"
#include "lowerings.h"

#define PLAIN(op_name)                                                                                                 \
    static const lun_candidate plain_##op_name[] = {{.name = "plain", .lower = lun_lower_##op_name}, {.name = NULL}};
LUN_PLAIN_OPS(PLAIN)
#undef PLAIN

const lun_candidate *lun_candidates(lun_op_kind kind)
{
    switch (kind) {
    case LUN_OP_CONV2D: return lun_conv2d_candidates;
    case LUN_OP_CONV2D_TRANSPOSE: return lun_conv2d_transpose_candidates;
    case LUN_OP_CONV2D_WGRAD: return lun_conv2d_wgrad_candidates;
    case LUN_OP_CHANNEL_SUM: return plain_channel_sum;
    case LUN_OP_SPATIAL_SUM: return plain_spatial_sum;
    case LUN_OP_BATCH_NORM: return plain_batch_norm;
    case LUN_OP_BATCH_NORM_BACKWARD: return plain_batch_norm_backward;
    case LUN_OP_GROUP_NORM: return plain_group_norm;
    case LUN_OP_GROUP_NORM_BACKWARD: return plain_group_norm_backward;
    case LUN_OP_SCALE_SHIFT: return plain_scale_shift;
    case LUN_OP_SCALE_SHIFT_BACKWARD: return plain_scale_shift_backward;
    case LUN_OP_SILU: return plain_silu;
    case LUN_OP_SILU_BACKWARD: return plain_silu_backward;
    case LUN_OP_GELU: return plain_gelu;
    case LUN_OP_GELU_BACKWARD: return plain_gelu_backward;
    case LUN_OP_DROPOUT: return plain_dropout;
    case LUN_OP_RELU: return plain_relu;
    case LUN_OP_RELU_BACKWARD: return plain_relu_backward;
    case LUN_OP_ADD: return plain_add;
    case LUN_OP_ADD_CHANNEL: return plain_add_channel;
    case LUN_OP_CONCAT: return plain_concat;
    case LUN_OP_SLICE: return plain_slice;
    case LUN_OP_EMBED: return plain_embed;
    case LUN_OP_NOISE: return plain_noise;
    case LUN_OP_LOSS: return plain_loss;
    case LUN_OP_LOSS_BACKWARD: return plain_loss_backward;
    case LUN_OP_ADAM: return plain_adam;
    case LUN_OP_RANDINT: return plain_randint;
    case LUN_OP_RANDN: return plain_randn;
    case LUN_OP_SAMPLE_STEP: return plain_sample_step;
    case LUN_OP_STORE: return plain_store;
    case LUN_OP_EMBED_BACKWARD: return plain_embed_backward;
    case LUN_OP_UPSAMPLE2: return plain_upsample2;
    case LUN_OP_POOL2: return plain_pool2;
    case LUN_OP_ATTENTION: return lun_attention_candidates;
    case LUN_OP_ATTENTION_BACKWARD: return lun_attention_backward_candidates;
    case LUN_OP_LOSS_EACH: return plain_loss_each;
    case LUN_OP_LOSS_EACH_BACKWARD: return plain_loss_each_backward;
    case LUN_OP_WEIGHTED_MEAN: return plain_weighted_mean;
    case LUN_OP_WEIGHTED_MEAN_BACKWARD: return plain_weighted_mean_backward;
    case LUN_OP_VARIATIONAL: return plain_variational;
    case LUN_OP_VARIATIONAL_BACKWARD: return plain_variational_backward;
    case LUN_OP_GUIDE: return plain_guide;
    case LUN_OP_ACCUMULATE: return plain_accumulate;
    case LUN_OP_SUM_SQUARES: return plain_sum_squares;
    case LUN_OP_CLIP_NORM: return plain_clip_norm;
    case LUN_OP_EMA: return plain_ema;
    case LUN_OP_LOSS_SEED: return plain_loss_seed;
    case LUN_OP_HEALTH: return plain_health;
    case LUN_OP_SETTLE: return plain_settle;
    case LUN_OP_UPSAMPLE2_FILTER: return plain_upsample2_filter;
    case LUN_OP_POOL2_FILTER: return plain_pool2_filter;
    case LUN_OP_KIND_COUNT: break;
    }
    static const lun_candidate none[] = {{.name = NULL}};
    return none;
}

lun_launch *lun_emit(lun_lowering *out, const char *file, const char *kernel, int64_t items)
{
    /* A lowering has a few launches; a file that may want more than there is room for has to check before. */
    lun_launch *launch = &out->launch[lun_min_i64(out->count, LUN_MAX_LAUNCHES - 1)];
    out->count++;
    memset(launch, 0, sizeof *launch);
    launch->file = file;
    launch->kernel = kernel;
    launch->items = items;
    return launch;
}

lun_launch *lun_emit_prepare(lun_lowering *out, const char *file, const char *kernel, int64_t items)
{
    lun_launch *launch = lun_emit(out, file, kernel, items);
    launch->prepare = true;
    return launch;
}

void lun_emit_buffer(lun_launch *launch, lun_launch_buffer buffer)
{
    if (launch->buffers < LUN_LAUNCH_MAX_BUFFERS)
        launch->buffer[launch->buffers] = buffer;
    launch->buffers++;
}

void lun_emit_src(lun_launch *launch, int index)
{
    lun_emit_buffer(launch, (lun_launch_buffer){LUN_SPACE_SRC, index, 0});
}
void lun_emit_dst(lun_launch *launch, int index)
{
    lun_emit_buffer(launch, (lun_launch_buffer){LUN_SPACE_DST, index, 0});
}
void lun_emit_workspace(lun_launch *launch, size_t offset)
{
    lun_emit_buffer(launch, (lun_launch_buffer){LUN_SPACE_WORKSPACE, 0, offset});
}

void lun_emit_kept(lun_launch *launch, size_t offset)
{
    lun_emit_buffer(launch, (lun_launch_buffer){LUN_SPACE_KEPT, 0, offset});
}

void lun_emit_args_(lun_launch *launch, const void *args, size_t bytes)
{
    if (bytes <= sizeof launch->args)
        memcpy(launch->args, args, bytes);
    launch->args_bytes = bytes;
}

static size_t book(size_t *end, size_t bytes)
{
    const size_t offset = (*end + 255) & ~(size_t)255;
    *end = offset + bytes;
    return offset;
}

size_t lun_book(lun_lowering *out, size_t bytes)
{
    return book(&out->workspace, bytes);
}

size_t lun_book_kept(lun_lowering *out, size_t bytes)
{
    return book(&out->kept, bytes);
}

int64_t lun_grain(const lun_caps *caps, int64_t n)
{
    return caps->gpu ? 1 : lun_min_i64(n, 16384);
}

lun_cut lun_cut_rows(const lun_caps *caps, int64_t rows, int64_t columns)
{
    lun_cut cut = {.rows = 1, .width = 1};
    if (!caps->gpu) {
        cut.width = lun_min_i64(columns, 16384);
        cut.rows = lun_min_i64(rows, lun_max_i64(1, 16384 / cut.width));
    }
    cut.blocks = lun_ceil_div(columns, cut.width);
    cut.pieces = cut.blocks * lun_ceil_div(rows, cut.rows);
    return cut;
}
