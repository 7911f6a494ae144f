/* Small ops of every kind with data, ready to run on a device. For the tests of devices. */
#ifndef TEST_DEVICE_OPS_H
#define TEST_DEVICE_OPS_H

#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/philox.h"
#include "device/driver.h"

/* An op of every kind with small odd shapes; sources typed and shaped, destinations inferred. */
static lun_op small_op(lun_op_kind kind)
{
    lun_op op;
    memset(&op, 0, sizeof op);
    op.kind = kind;
    op.nsrc = lun_op_info_of(kind)->max_src;
    const lun_desc image = lun_image(3, 5, 7, 6), vector = lun_image(1, 5, 1, 1), one = lun_image(1, 1, 1, 1);
    for (int s = 0; s < op.nsrc; s++)
        op.src[s] = image;
    switch (kind) {
    case LUN_OP_CONV2D:
        op.src[1] = lun_filter(17, 5, 3, 2);
        op.src[2] = lun_image(1, 17, 1, 1);
        op.attrs.conv =
            (lun_conv_attrs){.stride_h = 1, .stride_w = 2, .pad_h = 1, .pad_w = 0, .relu = true, .stats = true};
        break;
    case LUN_OP_CONV2D_TRANSPOSE:
        op.src[1] = lun_filter(5, 9, 4, 4);
        op.src[2] = lun_image(1, 9, 1, 1);
        op.attrs.conv = (lun_conv_attrs){
            .stride_h = 2, .stride_w = 2, .pad_h = 1, .pad_w = 1, .out_h = 14, .out_w = 12, .stats = true};
        break;
    case LUN_OP_CONV2D_WGRAD:
        op.src[1] = lun_image(3, 17, 7, 6);
        op.attrs.conv =
            (lun_conv_attrs){.stride_h = 1, .stride_w = 1, .pad_h = 1, .pad_w = 1, .kernel_h = 3, .kernel_w = 3};
        break;
    case LUN_OP_BATCH_NORM:
        for (int s = 1; s < 5; s++)
            op.src[s] = vector;
        op.src[5] = lun_image(3, 5, 1, 1);
        op.src[6] = lun_image(2, 5, 1, 1);
        op.attrs.norm =
            (lun_norm_attrs){.eps = 1e-5f, .momentum = 0.1f, .training = true, .update = true, .given = true};
        break;
    case LUN_OP_BATCH_NORM_BACKWARD:
        for (int s = 2; s < 5; s++)
            op.src[s] = vector;
        op.attrs.norm = (lun_norm_attrs){.eps = 1e-5f, .training = true, .relu = true, .dbias = true, .dshift = true};
        break;
    case LUN_OP_GROUP_NORM:
    case LUN_OP_GROUP_NORM_BACKWARD: {
        const bool back = kind == LUN_OP_GROUP_NORM_BACKWARD;
        for (int s = 0; s < op.nsrc; s++) /* four channels more than `vector` has: groups of three */
            op.src[s] = lun_image(3, 9, 7, 6);
        op.src[back ? 2 : 1] = op.src[back ? 3 : 2] = lun_image(1, 9, 1, 1);
        op.src[back ? 6 : 3] = lun_image(3, 18, 1, 1);
        if (back)
            op.src[4] = op.src[5] = lun_image(3, 3, 1, 1);
        op.attrs.group =
            (lun_group_attrs){.eps = 1e-5f, .groups = 3, .silu = true, .add = back, .dbias = back, .dsum = back};
        break;
    }
    case LUN_OP_SCALE_SHIFT: op.src[1] = lun_image(3, 10, 1, 1); break;
    case LUN_OP_SCALE_SHIFT_BACKWARD: op.src[2] = lun_image(3, 10, 1, 1); break;
    case LUN_OP_DROPOUT:
        op.src[1] = lun_typed(lun_image(3, 8, 1, 1), LUN_U32);
        op.attrs.dropout = (lun_dropout_attrs){0.25f, 5};
        break;
    case LUN_OP_ADD_CHANNEL: op.src[1] = lun_image(3, 5, 1, 1); break;
    case LUN_OP_CONCAT: op.src[1] = lun_image(3, 2, 7, 6); break;
    case LUN_OP_SLICE: op.attrs.slice = (lun_slice_attrs){1, 3}; break;
    case LUN_OP_EMBED:
        op.src[0] = lun_typed(lun_image(4, 1, 1, 1), LUN_I32);
        op.src[1] = lun_image(9, 6, 1, 1);
        break;
    case LUN_OP_EMBED_BACKWARD:
        op.src[0] = lun_typed(lun_image(4, 1, 1, 1), LUN_I32);
        op.src[1] = lun_image(4, 6, 1, 1);
        op.attrs.embed.rows = 9;
        break;
    case LUN_OP_UPSAMPLE2:
    case LUN_OP_POOL2:
        op.src[0] = lun_image(3, 5, 8, 6);
        op.attrs.resample.mean = true;
        break;
    case LUN_OP_UPSAMPLE2_FILTER:
    case LUN_OP_POOL2_FILTER: op.src[0] = lun_filter(5, 19, 4, 3); break;
    case LUN_OP_ATTENTION:
    case LUN_OP_ATTENTION_BACKWARD:
        op.src[0] = lun_image(3, 30, 7, 6);
        op.src[1] = op.src[2] = lun_image(3, 10, 7, 6);
        op.src[3] = lun_image(3, 2, 7, 6);
        op.attrs.attention.heads = 2;
        break;
    case LUN_OP_NOISE:
        op.src[2] = lun_typed(lun_image(3, 1, 1, 1), LUN_I32);
        op.src[3] = lun_image(9, 2, 1, 1);
        break;
    case LUN_OP_LOSS: op.attrs.loss = (lun_loss_attrs){LUN_LOSS_HUBER, 0.5f}; break;
    case LUN_OP_LOSS_BACKWARD:
        op.src[2] = one;
        op.attrs.loss = (lun_loss_attrs){LUN_LOSS_L2, 1.0f};
        break;
    case LUN_OP_ADAM:
        op.src[4] = lun_image(1, 4, 1, 1);
        op.src[5] = lun_image(1, 4, 1, 1);
        op.src[7] = one;
        op.attrs.adam = (lun_adam_attrs){0.9f, 0.999f, 1e-8f, 0.01f, true};
        break;
    case LUN_OP_RANDINT:
    case LUN_OP_RANDN:
        op.src[0] = lun_typed(lun_image(3, 8, 1, 1), LUN_U32);
        op.attrs.random = (lun_random_attrs){300, 3, 5, 7};
        break;
    case LUN_OP_SAMPLE_STEP:
        op.src[3] = lun_image(1, 8, 1, 1);
        op.attrs.sample = (lun_sample_attrs){.clip = LUN_CLIP_X0};
        break;
    case LUN_OP_STORE:
        op.src[0] = lun_image(1, 6, 1, 1);
        op.src[1] = one;
        op.src[2] = lun_typed(one, LUN_I32);
        break;
    case LUN_OP_LOSS_EACH:
    case LUN_OP_LOSS_EACH_BACKWARD:
        op.src[1] = lun_image(3, 4, 7, 6);
        for (int s = 2; s < op.nsrc; s++)
            op.src[s] = lun_image(3, 1, 1, 1);
        op.attrs.loss = (lun_loss_attrs){LUN_LOSS_HUBER, 0.5f};
        break;
    case LUN_OP_WEIGHTED_MEAN: op.src[0] = op.src[1] = lun_image(3, 1, 1, 1); break;
    case LUN_OP_WEIGHTED_MEAN_BACKWARD:
        op.src[0] = lun_image(3, 1, 1, 1);
        op.src[1] = one;
        break;
    case LUN_OP_VARIATIONAL:
    case LUN_OP_VARIATIONAL_BACKWARD:
        op.src[0] = lun_image(3, 10, 7, 6);
        op.src[3] = lun_typed(lun_image(3, 1, 1, 1), LUN_I32);
        op.src[4] = lun_image(9, 8, 1, 1);
        if (op.nsrc > 5)
            op.src[5] = lun_image(3, 1, 1, 1);
        op.attrs.variational.scale = 0.3f;
        break;
    case LUN_OP_GUIDE:
        op.src[0] = lun_image(4, 5, 7, 6);
        op.src[1] = one;
        op.attrs.guide.channels = 3;
        break;
    case LUN_OP_ACCUMULATE: op.src[2] = lun_typed(one, LUN_I32); break;
    case LUN_OP_SUM_SQUARES:
        op.src[1] = lun_image(1, 6, 1, 1);
        op.attrs.squares = (lun_squares_attrs){4};
        break;
    case LUN_OP_CLIP_NORM:
        op.src[0] = lun_image(1, 6, 1, 1);
        op.attrs.clip = (lun_clip_attrs){0.5f};
        break;
    case LUN_OP_EMA: op.src[1] = lun_image(1, 4, 1, 1); break;
    case LUN_OP_LOSS_SEED:
        op.src[0] = one;
        op.attrs.seed = (lun_seed_attrs){0.5f};
        break;
    case LUN_OP_HEALTH:
        op.src[0] = lun_image(1, 6, 1, 1);
        op.src[1] = one;
        op.src[2] = lun_typed(one, LUN_I32);
        op.src[3] = op.src[4] = lun_image(1, 4, 1, 1);
        break;
    case LUN_OP_SETTLE: op.src[2] = lun_image(1, 4, 1, 1); break;
    default: break;
    }
    ck_assert_msg(lun_op_infer(&op) == LUN_OK, "%s: %s", lun_op_info_of(kind)->name, lun_error_detail());
    return op;
}

/* Numbers in (-1, 1); positive where a variance or a hyperparameter is meant. */
static float *source_data(const lun_op *op, int s)
{
    const int64_t count = lun_count(op->src[s].shape);
    float *data = malloc((size_t)count * 4);
    const bool positive = (op->kind == LUN_OP_BATCH_NORM && (s == 4 || s == 6)) ||
                          (op->kind == LUN_OP_BATCH_NORM_BACKWARD && s == 4) || (op->kind == LUN_OP_ADAM && s >= 3) ||
                          (op->kind == LUN_OP_GROUP_NORM_BACKWARD && s == 5) || op->kind == LUN_OP_CLIP_NORM ||
                          op->kind == LUN_OP_HEALTH;
    for (int64_t i = 0; i < count; i++) {
        const float u = lun_random_uniform(7, LUN_RANDOM_TEST, (uint64_t)op->kind, (uint32_t)s, (uint32_t)i);
        const int32_t small = (int32_t)(u * 4);
        data[i] = positive ? u : 2 * u - 1;
        if (op->src[s].dtype != LUN_F32)
            memcpy(&data[i], &small, 4);
    }
    return data;
}

typedef struct op_run {
    lun_op_plan *plan;
    lun_buffer *buffer[LUN_OP_MAX_SRC + LUN_OP_MAX_DST + 1];
    lun_place src[LUN_OP_MAX_SRC], dst[LUN_OP_MAX_DST], workspace;
} op_run;

/* Plan, buffers, data and binding. */
static lun_status op_begin(lun_device *dev, const lun_op *op, const char *candidate, op_run *run)
{
    memset(run, 0, sizeof *run);
    LUN_TRY(lun_op_plan_create(dev, op, candidate, &run->plan));
    int next = 0;
    for (int s = 0; s < op->nsrc; s++) {
        LUN_TRY(lun_buffer_create(dev, lun_bytes(op->src[s]), &run->buffer[next]));
        run->src[s].buffer = run->buffer[next++];
        float *data = source_data(op, s);
        const lun_status status = lun_buffer_write(run->src[s], data, lun_bytes(op->src[s]));
        free(data);
        LUN_TRY(status);
    }
    for (int d = 0; d < op->ndst; d++) {
        const int alias = lun_op_info_of(op->kind)->alias[d];
        if (alias) {
            run->dst[d] = run->src[alias - 1];
            continue;
        }
        LUN_TRY(lun_buffer_create(dev, lun_bytes(op->dst[d]), &run->buffer[next]));
        run->dst[d].buffer = run->buffer[next++];
    }
    if (run->plan->workspace > 0) {
        LUN_TRY(lun_buffer_create(dev, (run->plan->workspace + 3) / 4 * 4, &run->buffer[next]));
        run->workspace.buffer = run->buffer[next];
    }
    return lun_op_plan_bind(run->plan, run->src, run->dst, run->workspace);
}

static void op_end(op_run *run)
{
    lun_op_plan_destroy(&run->plan);
    for (size_t i = 0; i < LUN_COUNT(run->buffer); i++)
        lun_buffer_destroy(&run->buffer[i]);
}

static lun_status run_candidate(lun_device *dev, const lun_op *op, const char *candidate)
{
    op_run run;
    lun_status status = op_begin(dev, op, candidate, &run);
    if (status == LUN_OK)
        status = lun_op_plan_run(run.plan);
    if (status == LUN_OK)
        status = lun_device_finish(dev);
    op_end(&run);
    return status;
}

static lun_status run_once(lun_device *dev, const lun_op *op)
{
    return run_candidate(dev, op, NULL);
}

#endif
