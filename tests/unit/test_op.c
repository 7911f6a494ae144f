/* The ops' shape rules (every refusal), their descriptions, the table, and which nodes each gradient records. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "op/op.h"

static lun_op make(lun_op_kind kind, int nsrc, const lun_desc *src)
{
    lun_op op = {.kind = kind, .nsrc = nsrc};
    for (int i = 0; i < nsrc; i++)
        op.src[i] = src[i];
    return op;
}
#define OP(kind, ...)                                                                                                  \
    make(LUN_OP_##kind, (int)LUN_COUNT(((const lun_desc[]){__VA_ARGS__})), (const lun_desc[]){__VA_ARGS__})
#define V(c)    lun_image(1, c, 1, 1)
#define I32(n)  lun_typed(lun_image(n, 1, 1, 1), LUN_I32)
#define ROWS(n) lun_typed(lun_image(n, 8, 1, 1), LUN_U32)

/* The op is refused as misuse, with a reason that has these words and names it, and is left as it was. */
static void refused(lun_op op, const char *words, int line)
{
    lun_op before = op;
    ck_assert_msg(lun_op_infer(&op) == LUN_ERR_USAGE, "line %d: accepted", line);
    ck_assert_msg(strstr(lun_error_detail(), words) != NULL, "line %d: '%s' lacks '%s'", line, lun_error_detail(),
                  words);
    ck_assert_msg(memcmp(&op, &before, sizeof op) == 0, "line %d: outputs touched", line);
}
#define REFUSED(op, words) refused(op, words, __LINE__)

static void accepted(lun_op op, int ndst, const lun_desc *want, int line)
{
    ck_assert_msg(lun_op_infer(&op) == LUN_OK, "line %d: %s", line, lun_error_detail());
    ck_assert_msg(op.ndst == ndst, "line %d: %d destinations", line, op.ndst);
    for (int i = 0; i < ndst; i++)
        ck_assert_msg(op.dst[i].dtype == want[i].dtype && op.dst[i].layout == want[i].layout &&
                          lun_shape_equal(op.dst[i].shape, want[i].shape),
                      "line %d: destination %d", line, i);
}
#define ACCEPTED(op, ...)                                                                                              \
    accepted(op, (int)LUN_COUNT(((const lun_desc[]){__VA_ARGS__})), (const lun_desc[]){__VA_ARGS__}, __LINE__)

static lun_op conv(lun_op op, int stride_h, int stride_w, int pad_h, int pad_w)
{
    op.attrs.conv = (lun_conv_attrs){.stride_h = stride_h, .stride_w = stride_w, .pad_h = pad_h, .pad_w = pad_w};
    return op;
}

static lun_op sized(lun_op op, int kernel_h, int kernel_w, int out_h, int out_w)
{
    op.attrs.conv.kernel_h = kernel_h;
    op.attrs.conv.kernel_w = kernel_w;
    op.attrs.conv.out_h = out_h;
    op.attrs.conv.out_w = out_w;
    return op;
}

/* So much more padding below and on the right than above and on the left. */
static lun_op sided(lun_op op, int more_h, int more_w)
{
    op.attrs.conv.more_h = more_h;
    op.attrs.conv.more_w = more_w;
    return op;
}

START_TEST(conv2d_rules)
{
    const lun_desc x = lun_image(2, 3, 9, 11), w = lun_filter(5, 3, 3, 4);
    ACCEPTED(conv(OP(CONV2D, x, w), 1, 1, 0, 0), lun_image(2, 5, 7, 8));
    ACCEPTED(conv(OP(CONV2D, x, w, V(5)), 2, 3, 1, 2), lun_image(2, 5, 5, 4));
    ACCEPTED(conv(OP(CONV2D, lun_image(4, 32, 1, 1), lun_filter(8, 32, 1, 1), V(8)), 1, 1, 0, 0),
             lun_image(4, 8, 1, 1));
    ACCEPTED(conv(OP(CONV2D, lun_image(1, 1, 1, 1), lun_filter(1, 1, 3, 3)), 1, 1, 1, 1), lun_image(1, 1, 1, 1));
    lun_op counted = conv(OP(CONV2D, x, w), 1, 1, 0, 0); /* src/graph/fuse.c makes these */
    counted.attrs.conv.stats = true;
    ACCEPTED(counted, lun_image(2, 5, 7, 8), lun_image(2, 5, 1, 1));
    REFUSED(conv(OP(CONV2D, x), 1, 1, 0, 0), "conv2d: 1 sources");
    REFUSED(conv(OP(CONV2D, x, w, V(5), V(5)), 1, 1, 0, 0), "conv2d: 4 sources");
    REFUSED(conv(OP(CONV2D, lun_typed(x, LUN_I32), w), 1, 1, 0, 0), "src must be float");
    REFUSED(conv(OP(CONV2D, w, w), 1, 1, 0, 0), "src must be an image");
    REFUSED(conv(OP(CONV2D, x, x), 1, 1, 0, 0), "weight must be a filter");
    REFUSED(conv(OP(CONV2D, x, lun_filter(5, 4, 3, 4)), 1, 1, 0, 0), "wants 4 channels, src has 3");
    REFUSED(conv(OP(CONV2D, x, w, V(3)), 1, 1, 0, 0), "bias is (1, 3, 1, 1) but must be (1, 5, 1, 1)");
    REFUSED(conv(OP(CONV2D, x, w), 0, 1, 0, 0), "stride 0x1");
    REFUSED(conv(OP(CONV2D, x, w), 1, -1, 0, 0), "stride 1x-1");
    REFUSED(conv(OP(CONV2D, x, w), 1, 40000, 0, 0), "stride");
    REFUSED(conv(OP(CONV2D, x, w), 1, 1, -1, 0), "padding -1x0");
    REFUSED(conv(OP(CONV2D, x, w), 1, 1, 0, 40000), "padding");
    ACCEPTED(sided(conv(OP(CONV2D, lun_image(1, 3, 8, 8), lun_filter(5, 3, 3, 3)), 2, 2, 0, 0), 1, 1),
             lun_image(1, 5, 4, 4));
    ACCEPTED(sided(conv(OP(CONV2D, x, w), 2, 3, 1, 2), -1, 3), lun_image(2, 5, 4, 5));
    REFUSED(sided(conv(OP(CONV2D, x, w), 1, 1, 1, 1), -2, 0), "padding below and on the right, -1x1");
    REFUSED(sided(conv(OP(CONV2D, x, w), 1, 1, 1, 1), 0, 32767), "on the right, 1x32768");
    REFUSED(sided(conv(OP(CONV2D, x, w), 1, 1, 1, 1), INT32_MAX, INT32_MIN), "padding below");
    REFUSED(sided(conv(OP(CONV2D, x, lun_filter(5, 3, 11, 1)), 1, 1, 1, 0), -1, 0), "does not fit");
    REFUSED(conv(OP(CONV2D, x, lun_filter(5, 3, 10, 1)), 1, 1, 0, 0), "does not fit");
    REFUSED(conv(OP(CONV2D, x, lun_filter(5, 3, 1, 14)), 1, 1, 0, 1), "does not fit");
    REFUSED(conv(OP(CONV2D, lun_image(1, 1, 1, 1), lun_filter(1, 1, 1, 40000)), 1, 1, 0, 32767), "kernel");
    REFUSED(conv(OP(CONV2D, lun_image(1, 1, 1, 1), lun_filter(8, 1, 1, 1)), 1, 1, 32767, 32767), "below 2^31");
}
END_TEST

START_TEST(conv2d_transpose_rules)
{
    const lun_desc x = lun_image(2, 5, 4, 4), w = lun_filter(5, 3, 4, 4);
    ACCEPTED(sized(conv(OP(CONV2D_TRANSPOSE, x, w, V(3)), 2, 2, 1, 1), 0, 0, 8, 8), lun_image(2, 3, 8, 8));
    ACCEPTED(sized(conv(OP(CONV2D_TRANSPOSE, x, w), 2, 2, 1, 1), 0, 0, 9, 8),
             lun_image(2, 3, 9, 8)); /* output padding */
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, x, w), 2, 2, 1, 1), 0, 0, 10, 8), "goes with 5x4, not 4x4");
    ACCEPTED(sided(sized(conv(OP(CONV2D_TRANSPOSE, x, w), 2, 2, 1, 1), 0, 0, 10, 8), -1, 1), lun_image(2, 3, 10, 8));
    REFUSED(sided(sized(conv(OP(CONV2D_TRANSPOSE, x, w), 2, 2, 1, 1), 0, 0, 8, 8), -1, 0), "goes with 3x4, not 4x4");
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, x, w), 2, 2, 1, 1), 0, 0, 8, 7), "goes with 4x3");
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, x, w), 2, 2, 1, 1), 0, 0, 0, 8), "out size 0x8");
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, x, lun_filter(3, 5, 4, 4)), 2, 2, 1, 1), 0, 0, 8, 8), "wants 3 channels");
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, x, w, V(5)), 2, 2, 1, 1), 0, 0, 8, 8), "bias");
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, x, w), 2, 0, 1, 1), 0, 0, 8, 8), "stride");
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, w, w), 2, 2, 1, 1), 0, 0, 8, 8), "src must be an image");
    REFUSED(sized(conv(OP(CONV2D_TRANSPOSE, x, x), 2, 2, 1, 1), 0, 0, 8, 8), "weight must be a filter");
}
END_TEST

START_TEST(conv2d_wgrad_rules)
{
    const lun_desc big = lun_image(2, 3, 8, 8), little = lun_image(2, 5, 4, 4);
    ACCEPTED(sized(conv(OP(CONV2D_WGRAD, big, little), 2, 2, 1, 1), 4, 4, 0, 0), lun_filter(5, 3, 4, 4));
    REFUSED(sized(conv(OP(CONV2D_WGRAD, big, lun_image(3, 5, 4, 4)), 2, 2, 1, 1), 4, 4, 0, 0), "batches of 2 and 3");
    REFUSED(sized(conv(OP(CONV2D_WGRAD, big, little), 2, 2, 1, 1), 5, 4, 0, 0), "goes with 3x4");
    ACCEPTED(sided(sized(conv(OP(CONV2D_WGRAD, big, little), 2, 2, 0, 0), 3, 3, 0, 0), 1, 1), lun_filter(5, 3, 3, 3));
    REFUSED(sized(conv(OP(CONV2D_WGRAD, big, little), 2, 2, 0, 0), 3, 3, 0, 0), "goes with 3x3");
    REFUSED(sized(conv(OP(CONV2D_WGRAD, big, little), 2, 2, 1, 1), 0, 4, 0, 0), "kernel 0x4");
    REFUSED(sized(conv(OP(CONV2D_WGRAD, big, little), 2, 2, -1, 1), 4, 4, 0, 0), "padding");
    REFUSED(sized(conv(OP(CONV2D_WGRAD, big, lun_filter(2, 5, 4, 4)), 2, 2, 1, 1), 4, 4, 0, 0),
            "small must be an image");
}
END_TEST

static lun_op norm(lun_op op, float eps, float momentum, bool training, bool update)
{
    op.attrs.norm = (lun_norm_attrs){.eps = eps, .momentum = momentum, .training = training, .update = update};
    return op;
}

START_TEST(batch_norm_rules)
{
    const lun_desc x = lun_image(2, 6, 3, 3);
    const lun_op op = OP(BATCH_NORM, x, V(6), V(6), V(6), V(6));
    ACCEPTED(norm(op, 1e-5f, 0.1f, true, true), x, V(6), V(6), V(6), V(6));
    ACCEPTED(norm(op, 1e-5f, 0.1f, true, false), x, V(6), V(6));
    ACCEPTED(norm(op, 1e-5f, 0.1f, false, false), x, V(6), V(6));
    REFUSED(norm(op, 0, 0.1f, true, true), "eps");
    REFUSED(norm(op, -1, 0.1f, true, true), "eps");
    REFUSED(norm(op, 1e-5f, 1.5f, true, true), "momentum");
    REFUSED(norm(op, 1e-5f, 0.1f, false, true), "only updated in training");
    REFUSED(norm(OP(BATCH_NORM, lun_image(1, 6, 1, 1), V(6), V(6), V(6), V(6)), 1e-5f, 0.1f, true, true),
            "more than one value");
    ACCEPTED(norm(OP(BATCH_NORM, lun_image(1, 6, 1, 1), V(6), V(6), V(6), V(6)), 1e-5f, 0, true, false),
             lun_image(1, 6, 1, 1), V(6), V(6));
    static const char *const names[] = {"src", "gamma", "beta", "running_mean", "running_var"};
    for (int i = 1; i < 5; i++) {
        lun_op bad = norm(op, 1e-5f, 0.1f, true, true);
        bad.src[i] = V(5);
        REFUSED(bad, names[i]);
    }
    REFUSED(norm(OP(BATCH_NORM, x, V(6), V(6), V(6)), 1e-5f, 0.1f, true, true), "4 sources");

    const lun_op back = OP(BATCH_NORM_BACKWARD, x, x, V(6), V(6), V(6));
    ACCEPTED(norm(back, 1e-5f, 0.1f, true, false), x, V(6), V(6));
    ACCEPTED(norm(back, 1e-5f, 0.1f, false, false), x, V(6), V(6));
    static const char *const back_names[] = {"src", "ddst", "gamma", "mean", "rstd"};
    for (int i = 1; i < 5; i++) {
        lun_op bad = norm(back, 1e-5f, 0.1f, true, false);
        bad.src[i] = V(5);
        REFUSED(bad, back_names[i]);
    }
    REFUSED(norm(back, 0, 0, true, false), "eps");
    REFUSED(norm(back, 1e-5f, 0.1f, true, true), "changes no statistics");

    /* What fusion makes of them. */
    lun_op merged = OP(BATCH_NORM, x, V(6), V(6), V(6), V(6), lun_image(x.shape.n, 6, 1, 1));
    ACCEPTED(norm(merged, 1e-5f, 0.1f, true, true), x, V(6), V(6), V(6), V(6));
    merged = norm(merged, 1e-5f, 0.1f, false, false);
    merged.attrs.norm.bare = true;
    ACCEPTED(merged, x);
    merged.attrs.norm.training = true;
    REFUSED(merged, "evaluation mode only");
    merged = norm(OP(BATCH_NORM, x, V(6), V(6), V(6), V(6), V(6)), 1e-5f, 0.1f, true, true);
    REFUSED(merged, "shift is");
    merged = norm(op, 1e-5f, 0.1f, true, true);
    merged.attrs.norm.relu = true;
    REFUSED(merged, "of its gradient");
    const lun_desc stats = lun_image(2, 6, 1, 1), shift = lun_image(x.shape.n, 6, 1, 1);
    merged = norm(OP(BATCH_NORM, x, V(6), V(6), V(6), V(6), stats), 1e-5f, 0.1f, true, true);
    merged.attrs.norm.given = true;
    ACCEPTED(merged, x, V(6), V(6), V(6), V(6));
    merged.attrs.norm.training = merged.attrs.norm.update = false;
    REFUSED(merged, "for training only");
    merged = norm(OP(BATCH_NORM, x, V(6), V(6), V(6), V(6), shift, stats), 1e-5f, 0.1f, true, false);
    REFUSED(merged, "7 sources beside the statistics");
    merged.attrs.norm.given = true;
    ACCEPTED(merged, x, V(6), V(6));
    merged.src[6] = V(6);
    REFUSED(merged, "stats is");
    merged = norm(op, 1e-5f, 0.1f, true, true);
    merged.attrs.norm.given = true;
    REFUSED(merged, "4 sources beside the statistics");
    merged = norm(back, 1e-5f, 0.1f, true, false);
    merged.attrs.norm.relu = merged.attrs.norm.dshift = true;
    ACCEPTED(merged, x, V(6), V(6), lun_image(x.shape.n, 6, 1, 1));
    merged.attrs.norm.dbias = true;
    ACCEPTED(merged, x, V(6), V(6), V(6), lun_image(x.shape.n, 6, 1, 1));
}
END_TEST

START_TEST(elementwise_rules)
{
    const lun_desc x = lun_image(2, 6, 3, 4), f = lun_filter(2, 6, 3, 4), y = lun_image(2, 6, 4, 3);
    ACCEPTED(OP(RELU, x), x);
    REFUSED(OP(RELU, I32(1)), "src must be float");
    ACCEPTED(OP(RELU_BACKWARD, x, x), x);
    REFUSED(OP(RELU_BACKWARD, x, y), "ddst");
    ACCEPTED(OP(ADD, x, x), x);
    ACCEPTED(OP(ADD, f, f), f);
    REFUSED(OP(ADD, x, f), "b must be an image");
    REFUSED(OP(ADD, f, x), "b must be a filter");
    REFUSED(OP(ADD, x, y), "b is (2, 6, 4, 3) but must be (2, 6, 3, 4)");
    ACCEPTED(OP(ADD_CHANNEL, x, lun_image(2, 6, 1, 1)), x);
    REFUSED(OP(ADD_CHANNEL, x, V(6)), "bias");
    REFUSED(OP(ADD_CHANNEL, f, lun_image(2, 6, 1, 1)), "src must be an image");
    ACCEPTED(OP(CONCAT, x, lun_image(2, 1, 3, 4)), lun_image(2, 7, 3, 4));
    REFUSED(OP(CONCAT, x, lun_image(1, 6, 3, 4)), "concat: a is");
    REFUSED(OP(CONCAT, x, y), "concat: a is");
    REFUSED(OP(CONCAT, x, f), "b must be an image");
    ACCEPTED(OP(CHANNEL_SUM, x), V(6));
    REFUSED(OP(CHANNEL_SUM, f), "src must be an image");
    ACCEPTED(OP(SPATIAL_SUM, x), lun_image(2, 6, 1, 1));
    REFUSED(OP(SPATIAL_SUM, ROWS(2)), "src must be float");
    lun_op slice = OP(SLICE, x);
    static const int bad[][2] = {{-1, 2}, {0, 0}, {0, 7}, {5, 2}, {6, 1}, {INT32_MAX, 1}, {1, INT32_MAX}};
    for (size_t i = 0; i < LUN_COUNT(bad); i++) {
        slice.attrs.slice = (lun_slice_attrs){bad[i][0], bad[i][1]};
        REFUSED(slice, "do not lie in 6");
    }
    slice.attrs.slice = (lun_slice_attrs){4, 2};
    ACCEPTED(slice, lun_image(2, 2, 3, 4));
}
END_TEST

START_TEST(table_rules)
{
    const lun_desc x = lun_image(4, 3, 8, 8);
    ACCEPTED(OP(EMBED, I32(4), lun_image(300, 32, 1, 1)), lun_image(4, 32, 1, 1));
    REFUSED(OP(EMBED, lun_image(4, 1, 1, 1), lun_image(300, 32, 1, 1)), "index must be int32");
    REFUSED(OP(EMBED, lun_typed(V(4), LUN_I32), lun_image(300, 32, 1, 1)), "index is");
    REFUSED(OP(EMBED, I32(4), lun_image(300, 32, 2, 1)), "table is");
    ACCEPTED(OP(NOISE, x, x, I32(4), lun_image(300, 2, 1, 1)), x);
    REFUSED(OP(NOISE, x, lun_image(4, 3, 8, 9), I32(4), lun_image(300, 2, 1, 1)), "eps is");
    REFUSED(OP(NOISE, x, x, I32(3), lun_image(300, 2, 1, 1)), "t is");
    REFUSED(OP(NOISE, x, x, I32(4), lun_image(300, 3, 1, 1)), "table is");
    REFUSED(OP(NOISE, x, x, lun_image(4, 1, 1, 1), lun_image(300, 2, 1, 1)), "t must be int32");
    ACCEPTED(OP(STORE, V(100), V(1), I32(1)), V(100));
    REFUSED(OP(STORE, lun_image(2, 50, 1, 1), V(1), I32(1)), "ring");
    REFUSED(OP(STORE, V(100), V(2), I32(1)), "value");
    REFUSED(OP(STORE, V(100), V(1), I32(2)), "slot");

    lun_op step = OP(SAMPLE_STEP, x, x, x, V(8));
    step.attrs.sample.clip = LUN_CLIP_XT;
    ACCEPTED(step, x);
    step.attrs.sample.clip = (lun_clip)3;
    REFUSED(step, "clip mode number 3");
    REFUSED(OP(SAMPLE_STEP, x, x, V(3), V(8)), "z is");
    REFUSED(OP(SAMPLE_STEP, x, V(3), x, V(8)), "eps is");
    REFUSED(OP(SAMPLE_STEP, x, x, x, V(7)), "coef is");
    /* Twice the channels: a prediction with a variance behind it. */
    step = OP(SAMPLE_STEP, x, lun_image(4, 6, 8, 8), x, V(8));
    ACCEPTED(step, x);
    step.attrs.sample.learned = true;
    ACCEPTED(step, x);
    step.src[1] = x;
    REFUSED(step, "channels of its own");
    REFUSED(OP(SAMPLE_STEP, x, lun_image(4, 9, 8, 8), x, V(8)), "eps is");
    REFUSED(OP(SAMPLE_STEP, x, lun_image(4, 6, 8, 9), x, V(8)), "eps is");
}
END_TEST

START_TEST(objective_rules)
{
    const lun_desc x = lun_image(4, 3, 8, 8), wide = lun_image(4, 6, 8, 8), each = lun_image(4, 1, 1, 1);
    const lun_desc table = lun_image(300, 8, 1, 1);
    ACCEPTED(OP(LOSS_EACH, x, x), each);
    ACCEPTED(OP(LOSS_EACH, wide, x), each);
    ACCEPTED(OP(LOSS_EACH, wide, x, each), each);
    REFUSED(OP(LOSS_EACH, x, wide), "more channels");
    REFUSED(OP(LOSS_EACH, wide, lun_image(4, 3, 8, 7)), "target is");
    REFUSED(OP(LOSS_EACH, wide, x, V(4)), "weight is");
    lun_op loss = OP(LOSS_EACH, x, x);
    loss.attrs.loss.kind = LUN_LOSS_HUBER;
    REFUSED(loss, "delta");
    loss.attrs.loss.kind = (lun_loss_kind)3;
    REFUSED(loss, "loss number 3");
    ACCEPTED(OP(LOSS_EACH_BACKWARD, wide, x, each), wide);
    ACCEPTED(OP(LOSS_EACH_BACKWARD, wide, x, each, each), wide);
    REFUSED(OP(LOSS_EACH_BACKWARD, wide, x, V(1)), "deach is");

    ACCEPTED(OP(WEIGHTED_MEAN, each, each), V(1));
    REFUSED(OP(WEIGHTED_MEAN, each, V(4)), "weights is");
    REFUSED(OP(WEIGHTED_MEAN, x, each), "values is");
    ACCEPTED(OP(WEIGHTED_MEAN_BACKWARD, each, V(1)), each);
    REFUSED(OP(WEIGHTED_MEAN_BACKWARD, each, each), "dmean is");

    lun_op bound = OP(VARIATIONAL, wide, x, x, I32(4), table);
    bound.attrs.variational.scale = 1;
    ACCEPTED(bound, each);
    bound.attrs.variational.scale = NAN;
    REFUSED(bound, "not finite");
    REFUSED(OP(VARIATIONAL, x, x, x, I32(4), table), "no two halves");
    REFUSED(OP(VARIATIONAL, wide, wide, x, I32(4), table), "x0 is");
    REFUSED(OP(VARIATIONAL, wide, x, wide, I32(4), table), "xt is");
    REFUSED(OP(VARIATIONAL, wide, x, x, I32(3), table), "t is");
    REFUSED(OP(VARIATIONAL, wide, x, x, I32(4), lun_image(300, 7, 1, 1)), "table is");
    ACCEPTED(OP(VARIATIONAL_BACKWARD, wide, x, x, I32(4), table, each), wide);
    REFUSED(OP(VARIATIONAL_BACKWARD, wide, x, x, I32(4), table, V(4)), "deach is");

    lun_op guide = OP(GUIDE, wide, V(1));
    guide.attrs.guide.channels = 3;
    ACCEPTED(guide, wide);
    guide.attrs.guide.channels = 7;
    REFUSED(guide, "do not lie in 6");
    guide.attrs.guide.channels = 0;
    REFUSED(guide, "do not lie in 6");
    guide = OP(GUIDE, lun_image(3, 6, 8, 8), V(1));
    guide.attrs.guide.channels = 3;
    REFUSED(guide, "no two halves");
    guide = OP(GUIDE, wide, V(2));
    guide.attrs.guide.channels = 3;
    REFUSED(guide, "scale is");
}
END_TEST

START_TEST(loss_and_adam_rules)
{
    const lun_desc x = lun_image(4, 3, 8, 8), f = lun_filter(4, 3, 8, 8);
    lun_op loss = OP(LOSS, x, x), back = OP(LOSS_BACKWARD, x, x, V(1));
    for (int kind = 0; kind < 3; kind++) {
        loss.attrs.loss = back.attrs.loss = (lun_loss_attrs){(lun_loss_kind)kind, 0.5f};
        ACCEPTED(loss, V(1));
        ACCEPTED(back, x);
    }
    loss.attrs.loss.delta = back.attrs.loss.delta = 0;
    REFUSED(loss, "delta");
    REFUSED(back, "delta");
    loss.attrs.loss.kind = back.attrs.loss.kind = (lun_loss_kind)3;
    REFUSED(loss, "loss number 3");
    REFUSED(back, "loss number 3");
    REFUSED(OP(LOSS, x, f), "target must be an image");
    REFUSED(OP(LOSS_BACKWARD, x, V(3), V(1)), "target is");
    REFUSED(OP(LOSS_BACKWARD, x, x, V(2)), "dloss is");

    const lun_adam_attrs good = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    lun_op adam = OP(ADAM, f, f, f, f, V(4));
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f);
    static const char *const names[] = {"param", "grad", "m is", "v is", "hyper is"};
    for (int i = 1; i < 5; i++) {
        lun_op bad = adam;
        bad.src[i] = i < 4 ? lun_filter(4, 3, 8, 7) : V(5);
        REFUSED(bad, names[i]);
    }
    adam.attrs.adam.beta1 = 1;
    REFUSED(adam, "betas");
    adam.attrs.adam = good;
    adam.attrs.adam.beta2 = -0.1;
    REFUSED(adam, "betas");
    adam.attrs.adam = good;
    adam.attrs.adam.eps = 0;
    REFUSED(adam, "eps");
    adam.attrs.adam = good;
    adam.attrs.adam.weight_decay = -1;
    REFUSED(adam, "weight decay");
    adam = OP(ADAM, f, f, f, f, V(4), V(1));
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f);
    adam.src[5] = V(2);
    REFUSED(adam, "scale is");
    adam = OP(ADAM, f, f, f, f, V(4), V(4), f);
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f, f);
    adam.src[5] = V(1);
    REFUSED(adam, "weights is");
    adam = OP(ADAM, f, f, f, f, V(4), V(4), f, V(1));
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f, f);
    adam.src[6] = V(1);
    REFUSED(adam, "the average");
    adam.src[6] = f;
    adam.src[7] = V(3);
    REFUSED(adam, "scale is");
}
END_TEST

START_TEST(update_rules)
{
    const lun_desc f = lun_filter(4, 3, 8, 8), x = lun_image(1, 777, 1, 1);
    ACCEPTED(OP(ACCUMULATE, f, f, I32(1)), f);
    REFUSED(OP(ACCUMULATE, f, x, I32(1)), "grad must be");
    REFUSED(OP(ACCUMULATE, x, V(776), I32(1)), "grad is");
    REFUSED(OP(ACCUMULATE, x, x, I32(2)), "first is");
    REFUSED(OP(ACCUMULATE, x, x, V(1)), "first must be");
    lun_op squares = OP(SUM_SQUARES, f, V(64));
    squares.attrs.squares.slot = 63;
    ACCEPTED(squares, V(64));
    squares.attrs.squares.slot = 64;
    REFUSED(squares, "slot 64");
    squares.attrs.squares.slot = -1;
    REFUSED(squares, "slot -1");
    REFUSED(OP(SUM_SQUARES, f, lun_image(2, 32, 1, 1)), "parts is");
    lun_op clip = OP(CLIP_NORM, V(64));
    clip.attrs.clip.limit = 1;
    ACCEPTED(clip, V(1), V(1));
    clip.attrs.clip.limit = 0;
    REFUSED(clip, "limit 0");
    clip.attrs.clip.limit = (float)INFINITY;
    REFUSED(clip, "limit inf");
    ACCEPTED(OP(EMA, x, V(4), x), x);
    ACCEPTED(OP(EMA, f, V(4), f, f, f, f), f, f, f, f);
    REFUSED(OP(EMA, f, V(3), f), "weights is");
    REFUSED(OP(EMA, f, V(4), f, x), "average must be");
    REFUSED(OP(EMA, x, V(4), x, x, V(776)), "average is");
    lun_op seed = OP(LOSS_SEED, V(1));
    seed.attrs.seed.weight = 0.5f;
    ACCEPTED(seed, V(1));
    seed.attrs.seed.weight = 0;
    REFUSED(seed, "weight 0");
    seed.attrs.seed.weight = NAN;
    REFUSED(seed, "weight nan");
    REFUSED(OP(LOSS_SEED, V(2)), "loss is");
    ACCEPTED(OP(HEALTH, V(64), V(1), I32(1), V(4)), V(1), V(4), V(1));
    ACCEPTED(OP(HEALTH, V(3), V(1), I32(1), V(4), V(4)), V(1), V(4), V(1), V(4));
    REFUSED(OP(HEALTH, V(64), V(2), I32(1), V(4)), "state is");
    REFUSED(OP(HEALTH, V(64), V(1), V(1), V(4)), "slot must be");
    REFUSED(OP(HEALTH, V(64), V(1), I32(1), V(3)), "hyper is");
    REFUSED(OP(HEALTH, V(64), V(1), I32(1), V(4), V(5)), "weights is");
    ACCEPTED(OP(SETTLE, x, x, V(4)), x, x);
    REFUSED(OP(SETTLE, x, V(776), V(4)), "safe is");
    REFUSED(OP(SETTLE, x, x, V(3)), "hyper is");
}
END_TEST

static lun_op group(lun_op op, int groups, float eps)
{
    op.attrs.group = (lun_group_attrs){.eps = eps, .groups = groups};
    return op;
}

START_TEST(group_norm_rules)
{
    const lun_desc x = lun_image(2, 6, 3, 4), emb = lun_image(2, 12, 1, 1), s = lun_image(2, 3, 1, 1),
                   f = lun_filter(2, 6, 3, 4);
    ACCEPTED(group(OP(GROUP_NORM, x, V(6), V(6)), 3, 1e-5f), x, s, s);
    ACCEPTED(group(OP(GROUP_NORM, x, V(6), V(6), emb), 1, 1e-5f), x, lun_image(2, 1, 1, 1), lun_image(2, 1, 1, 1));
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6)), 4, 1e-5f), "4 groups do not divide 6");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6)), 0, 1e-5f), "0 groups");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6)), -3, 1e-5f), "-3 groups");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6)), 12, 1e-5f), "12 groups");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6)), 3, 0), "eps");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6)), 3, (float)NAN), "eps");
    REFUSED(group(OP(GROUP_NORM, x, V(3), V(6)), 3, 1), "gamma is");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(5)), 3, 1), "beta is");
    REFUSED(group(OP(GROUP_NORM, f, V(6), V(6)), 3, 1), "src must be an image");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6), V(12)), 3, 1), "emb is (1, 12, 1, 1) but must be (2, 12, 1, 1)");
    REFUSED(group(OP(GROUP_NORM, x, V(6), V(6), lun_image(2, 6, 1, 1)), 3, 1), "emb is");
    lun_op op = group(OP(GROUP_NORM, x, V(6), V(6)), 3, 1);
    op.attrs.group.dsum = true;
    REFUSED(op, "of its gradient");

    const lun_op plain = group(OP(GROUP_NORM_BACKWARD, x, x, V(6), V(6), s, s), 3, 1);
    ACCEPTED(plain, x, V(6), V(6));
    REFUSED(group(OP(GROUP_NORM_BACKWARD, x, V(6), V(6), V(6), s, s), 3, 1), "ddst is");
    REFUSED(group(OP(GROUP_NORM_BACKWARD, x, x, V(6), V(6), V(3), s), 3, 1), "mean is");
    REFUSED(group(OP(GROUP_NORM_BACKWARD, x, x, V(6), V(6), s, lun_image(2, 6, 1, 1)), 3, 1), "rstd is");
    REFUSED(group(OP(GROUP_NORM_BACKWARD, x, x, V(6), V(6), s, s, x), 3, 1), "emb is");
    op = group(OP(GROUP_NORM_BACKWARD, x, x, V(6), V(6), s, s, emb), 3, 1);
    ACCEPTED(op, x, V(6), V(6), emb);
    op.attrs.group.add = true;
    REFUSED(op, "acc is");
    op.src[6] = x;
    op.attrs.group.dsum = true;
    ACCEPTED(op, x, V(6), V(6), lun_image(2, 6, 1, 1));
    op = group(OP(GROUP_NORM_BACKWARD, x, x, V(6), V(6), s, s, emb, x), 3, 1);
    REFUSED(op, "8 sources, but 7");
    op.attrs.group.add = op.attrs.group.dbias = op.attrs.group.dsum = true;
    ACCEPTED(op, x, V(6), V(6), emb, V(6), lun_image(2, 6, 1, 1));
    op = plain;
    op.attrs.group.add = true;
    REFUSED(op, "6 sources, but 7");

    ACCEPTED(OP(SCALE_SHIFT, x, emb), x);
    REFUSED(OP(SCALE_SHIFT, x, x), "emb is");
    REFUSED(OP(SCALE_SHIFT, f, emb), "src must be an image");
    ACCEPTED(OP(SCALE_SHIFT_BACKWARD, x, x, emb), x, emb);
    REFUSED(OP(SCALE_SHIFT_BACKWARD, x, emb, emb), "ddst is");
    REFUSED(OP(SCALE_SHIFT_BACKWARD, x, x, V(12)), "emb is");
}
END_TEST

START_TEST(activation_rules)
{
    const lun_desc x = lun_image(2, 6, 3, 4), f = lun_filter(2, 6, 3, 4);
    for (int gelu = 0; gelu < 2; gelu++) {
        lun_op one = OP(SILU, x), two = OP(SILU_BACKWARD, f, f);
        one.kind = gelu ? LUN_OP_GELU : LUN_OP_SILU;
        two.kind = gelu ? LUN_OP_GELU_BACKWARD : LUN_OP_SILU_BACKWARD;
        ACCEPTED(one, x);
        ACCEPTED(two, f);
        two.src[1] = x;
        REFUSED(two, "ddst must be a filter");
        one.src[0] = I32(3);
        REFUSED(one, "src must be float");
    }
    lun_op drop = OP(DROPOUT, x, ROWS(2));
    drop.attrs.dropout = (lun_dropout_attrs){0, (1 << 24) - 1};
    ACCEPTED(drop, x);
    drop.attrs.dropout = (lun_dropout_attrs){0.5f, 1 << 24};
    REFUSED(drop, "stream");
    static const float bad[] = {1, -0.1f, 1.5f, (float)NAN};
    for (size_t i = 0; i < LUN_COUNT(bad); i++) {
        drop.attrs.dropout = (lun_dropout_attrs){bad[i], 0};
        REFUSED(drop, "below 1");
    }
    drop.attrs.dropout.p = 0.5f;
    drop.src[1] = ROWS(3);
    REFUSED(drop, "rows is");
    drop.src[1] = lun_image(2, 8, 1, 1);
    REFUSED(drop, "rows must be uint32");
}
END_TEST

START_TEST(attention_and_resampling_rules)
{
    const lun_desc qkv = lun_image(2, 24, 3, 5), dst = lun_image(2, 8, 3, 5), lse = lun_image(2, 4, 3, 5);
    lun_op op = OP(ATTENTION, qkv), back = OP(ATTENTION_BACKWARD, qkv, dst, dst, lse);
    op.attrs.attention.heads = back.attrs.attention.heads = 4;
    ACCEPTED(op, dst, lse);
    ACCEPTED(back, qkv);
    op.attrs.attention.split = true;
    ACCEPTED(op, dst, lse);
    static const char *const names[] = {"qkv must be", "dst is", "ddst is", "lse is"};
    for (int i = 0; i < 4; i++) {
        lun_op bad = back;
        bad.src[i] = i == 0 ? lun_filter(2, 24, 3, 5) : lun_image(2, 8, 5, 3);
        REFUSED(bad, names[i]);
    }
    op.attrs.attention.heads = back.attrs.attention.heads = 3;
    REFUSED(op, "24 channels");
    REFUSED(back, "24 channels");
    op.attrs.attention.heads = 0;
    REFUSED(op, "0 heads");
    op.attrs.attention.heads = INT32_MAX;
    REFUSED(op, "channels");

    ACCEPTED(OP(UPSAMPLE2, lun_image(2, 3, 5, 7)), lun_image(2, 3, 10, 14));
    REFUSED(OP(UPSAMPLE2, lun_image(1, 1 << 10, 1 << 10, 1 << 10)), "below 2^31");
    REFUSED(OP(UPSAMPLE2, lun_filter(2, 3, 5, 7)), "image");
    ACCEPTED(OP(POOL2, lun_image(2, 3, 10, 14)), lun_image(2, 3, 5, 7));
    REFUSED(OP(POOL2, lun_image(2, 3, 10, 7)), "even");
    REFUSED(OP(POOL2, lun_image(2, 3, 1, 2)), "even");
    REFUSED(OP(POOL2, I32(2)), "src must be float");
    ACCEPTED(OP(UPSAMPLE2_FILTER, lun_filter(2, 3, 5, 7)), lun_filter(3, 2, 6, 8));
    REFUSED(OP(UPSAMPLE2_FILTER, lun_image(2, 3, 5, 7)), "filter");
    ACCEPTED(OP(POOL2_FILTER, lun_filter(3, 2, 6, 8)), lun_filter(2, 3, 5, 7));
    REFUSED(OP(POOL2_FILTER, lun_filter(3, 2, 6, 1)), "at least 2");

    lun_op table = OP(EMBED_BACKWARD, I32(4), lun_image(4, 32, 1, 1));
    REFUSED(table, "0 rows");
    table.attrs.embed.rows = 10;
    ACCEPTED(table, lun_image(10, 32, 1, 1));
    table.src[1] = lun_image(3, 32, 1, 1);
    REFUSED(table, "ddst is");
    table.src[1] = lun_image(4, 32, 1, 2);
    REFUSED(table, "ddst is");
    table.src[0] = lun_image(4, 1, 1, 1);
    REFUSED(table, "index must be int32");
}
END_TEST

START_TEST(random_rules)
{
    lun_op integers = OP(RANDINT, ROWS(4)), normals = OP(RANDN, ROWS(4));
    normals.attrs.random = (lun_random_attrs){.c = 3, .h = 8, .w = 9};
    integers.attrs.random = (lun_random_attrs){.c = 1, .h = 1, .w = 1, .bound = 300};
    ACCEPTED(normals, lun_image(4, 3, 8, 9));
    ACCEPTED(integers, I32(4));
    integers.attrs.random.bound = 0x80000000u;
    ACCEPTED(integers, I32(4));
    integers.attrs.random.bound++;
    REFUSED(integers, "bound");
    integers.attrs.random.bound = 0;
    REFUSED(integers, "bound");
    normals.attrs.random.w = 0;
    REFUSED(normals, "size 3x8x0");
    normals.attrs.random = (lun_random_attrs){.c = 1 << 15, .h = 1 << 15, .w = 1 << 15};
    REFUSED(normals, "below 2^31");
    normals.attrs.random.c = -1;
    REFUSED(normals, "size");
    REFUSED(OP(RANDN, lun_image(4, 8, 1, 1)), "rows must be uint32");
    REFUSED(OP(RANDINT, lun_typed(lun_image(4, 7, 1, 1), LUN_U32)), "bound");
    REFUSED(OP(RANDN, lun_typed(lun_image(4, 7, 1, 1), LUN_U32)), "rows is");
}
END_TEST

START_TEST(any_op_refuses_nonsense)
{
    lun_op op = {.kind = LUN_OP_KIND_COUNT};
    REFUSED(op, "no op number");
    op.kind = (lun_op_kind)-1;
    REFUSED(op, "no op number");
    for (int kind = 0; kind < LUN_OP_KIND_COUNT; kind++) {
        const lun_op_info *info = lun_op_info_of((lun_op_kind)kind);
        ck_assert(info->name && info->shape && info->min_src >= 1 && info->max_src <= LUN_OP_MAX_SRC &&
                  info->max_src >= info->min_src);
        ck_assert(info->ndst >= 1 && info->ndst <= LUN_OP_MAX_DST);
        for (int d = 0; d < LUN_OP_MAX_DST; d++)
            ck_assert(info->alias[d] <= info->max_src && (d < info->ndst || info->alias[d] == 0));
        ck_assert(info->inplace >> info->max_src == 0 && !(info->inplace && info->alias[0]));
        op = (lun_op){.kind = (lun_op_kind)kind};
        op.nsrc = info->min_src - 1;
        REFUSED(op, info->name);
        op.nsrc = info->max_src + 1;
        REFUSED(op, info->name);
        op.nsrc = info->min_src;
        REFUSED(op, "at least 1"); /* all shapes are zero */
        op.src[0] = V(1);
        op.src[0].dtype = (lun_dtype)7;
        REFUSED(op, "valid element type");
    }
#define X(KIND, text) ck_assert_str_eq(lun_op_info_of(LUN_OP_##KIND)->name, #text);
    LUN_OP_KINDS(X)
#undef X
}
END_TEST

/* Operands with a pitch: which may have one, how large, and what they span. */
START_TEST(pitches)
{
    const lun_desc x = lun_image(2, 3, 4, 5);
    lun_op op = OP(ADD, x, x);
    ck_assert_int_eq(lun_op_infer(&op), LUN_OK);
    ck_assert_int_eq(lun_src_pitch(&op, 0), 3);
    ck_assert_uint_eq(lun_src_span(&op, 0), 480);
    ck_assert_uint_eq(lun_dst_span(&op, 0), 480);
    op.src_pitch[1] = 7;
    op.dst_pitch[0] = 3;
    ck_assert_int_eq(lun_op_infer(&op), LUN_OK);
    ck_assert_int_eq(lun_src_pitch(&op, 1), 7);
    ck_assert_int_eq(op.dst_pitch[0], 3);
    ck_assert_uint_eq(lun_src_span(&op, 1), (39 * 7 + 3) * 4);
    ck_assert_uint_eq(lun_dst_span(&op, 0), 480);
    op.src_pitch[1] = 2;
    REFUSED(op, "source 1 of 3 channels cannot have a pitch of 2");
    op.src_pitch[1] = -7;
    REFUSED(op, "cannot have a pitch of -7");
    op.src_pitch[1] = 0;
    op.dst_pitch[0] = INT32_MAX / 39 + 1;
    REFUSED(op, "destination 0 of 3 channels cannot have a pitch");
    op.dst_pitch[0] = (INT32_MAX - 3) / 39;
    ck_assert_int_eq(lun_op_infer(&op), LUN_OK);
    op = OP(ADD, lun_filter(3, 4, 3, 3), lun_filter(3, 4, 3, 3));
    op.src_pitch[0] = 8;
    REFUSED(op, "no image of floats");
    op = conv(OP(CONV2D, x, lun_filter(5, 3, 3, 3), V(5)), 1, 1, 1, 1);
    op.src_pitch[2] = 8;
    REFUSED(op, "source 2 must lie dense");
    op = sized(conv(OP(CONV2D_WGRAD, x, lun_image(2, 6, 4, 5)), 1, 1, 1, 1), 3, 3, 0, 0);
    op.src_pitch[0] = 4;
    op.src_pitch[1] = 9;
    ck_assert_int_eq(lun_op_infer(&op), LUN_OK);
    op.dst_pitch[0] = 64;
    REFUSED(op, "destination 0 must lie dense");
    op = OP(ADD_CHANNEL, x, lun_image(2, 3, 1, 1));
    op.src_pitch[0] = 4;
    REFUSED(op, "source 0 must lie dense");
}
END_TEST

START_TEST(descriptions)
{
    char text[128];
    lun_op op = conv(OP(CONV2D, lun_image(16, 64, 64, 64), lun_filter(128, 64, 3, 3)), 1, 1, 1, 1);
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "conv2d 16x64x64x64 (128,64,3,3) s1x1 p1x1");
    op.src_pitch[0] = 96;
    op.dst_pitch[0] = 256;
    ck_assert_int_eq(lun_op_infer(&op), LUN_OK);
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "conv2d 16x64x64x64/96 (128,64,3,3) s1x1 p1x1 into /256");
    op = conv(OP(CONV2D, lun_image(16, 64, 64, 64), lun_filter(128, 64, 3, 3)), 1, 1, 1, 1);
    char tiny[8];
    lun_op_describe(&op, tiny, sizeof tiny);
    ck_assert_str_eq(tiny, "conv2d ");
    lun_op_describe(&op, tiny, 1);
    ck_assert_str_eq(tiny, "");
    op = sized(conv(OP(CONV2D_TRANSPOSE, lun_image(1, 5, 4, 4), lun_filter(5, 3, 4, 4)), 2, 2, 1, 1), 0, 0, 8, 9);
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "conv2d_transpose 1x5x4x4 (5,3,4,4) s2x2 p1x1 to 8x9");
    op.attrs.conv.relu = op.attrs.conv.stats = true; /* the tuner tells ops apart by this text */
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "conv2d_transpose 1x5x4x4 (5,3,4,4) s2x2 p1x1 to 8x9 relu stats");
    op = sided(conv(OP(CONV2D, lun_image(1, 3, 8, 8), lun_filter(5, 3, 3, 3)), 2, 2, 0, 1), 1, 0);
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "conv2d 1x3x8x8 (5,3,3,3) s2x2 p0x1:1x1");
    op = OP(ATTENTION, lun_image(1, 24, 4, 4));
    op.attrs.attention = (lun_attention_attrs){2, true};
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "attention 1x24x4x4 2 heads split");
    op = OP(POOL2, lun_image(1, 24, 4, 4));
    op.attrs.resample.mean = true;
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "pool2 1x24x4x4 mean");
    op = OP(SLICE, lun_image(1, 5, 4, 4));
    op.attrs.slice = (lun_slice_attrs){2, 3};
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "slice 1x5x4x4 2+3");
    op = group(OP(GROUP_NORM, lun_image(1, 4, 2, 2), V(4), V(4)), 2, 1);
    op.attrs.group.silu = true;
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "group_norm 1x4x2x2 1x4x1x1 1x4x1x1 2 groups silu");
    op = OP(LOSS, V(2), V(2));
    op.attrs.loss.kind = LUN_LOSS_HUBER;
    lun_op_describe(&op, text, sizeof text);
    ck_assert_str_eq(text, "loss 1x2x1x1 1x2x1x1 huber");
}
END_TEST

/* A gradient rule without a graph: the functions that the graph tier would supply write down what is asked of them.
 * Sources are values 100.., destinations 200.., their gradients 300.., emitted nodes 400, 410, .. */
typedef struct fake_backward {
    lun_backward base;
    int emitted;
    struct {
        lun_op_kind kind;
        lun_attrs attrs;
        int nsrc;
        lun_value src[LUN_OP_MAX_SRC];
    } node[4];
    int given[LUN_OP_MAX_SRC]; /* 0: none */
} fake_backward;

static lun_value fake_emit(lun_backward *base, lun_op_kind kind, const lun_attrs *attrs, const lun_value *src, int nsrc)
{
    fake_backward *b = (fake_backward *)base;
    const int i = b->emitted++;
    b->node[i].kind = kind;
    if (attrs)
        b->node[i].attrs = *attrs;
    b->node[i].nsrc = nsrc;
    memcpy(b->node[i].src, src, (size_t)nsrc * sizeof *src);
    return 400 + 10 * i;
}

static void fake_give(lun_backward *base, int src_index, lun_value gradient)
{
    fake_backward *b = (fake_backward *)base;
    ck_assert(base->wants[src_index] && b->given[src_index] == 0);
    b->given[src_index] = gradient;
}

/* Run the rule of `op` for the wanted sources, then check that the emitted node, with the shapes of the values it
 * names, is accepted and makes gradients of the wanted sources' shapes. */
static fake_backward differentiate(lun_op op, unsigned wants)
{
    fake_backward b = {.base = {.op = &op, .emit = fake_emit, .give = fake_give}};
    ck_assert_msg(lun_op_infer(&op) == LUN_OK, "%s", lun_error_detail());
    for (int i = 0; i < op.nsrc; i++) {
        b.base.src[i] = 100 + i;
        b.base.wants[i] = wants >> i & 1;
    }
    for (int i = 0; i < op.ndst; i++) {
        b.base.dst[i] = 200 + i;
        b.base.ddst[i] = 300 + i;
    }
    lun_op_info_of(op.kind)->backward(&b.base);
    for (int i = 0; i < op.nsrc; i++) {
        ck_assert_int_eq(b.given[i] != 0, wants >> i & 1);
        const int value = b.given[i], which = (value - 400) / 10;
        if (value < 400)
            continue;
        lun_op node = {.kind = b.node[which].kind, .attrs = b.node[which].attrs, .nsrc = b.node[which].nsrc};
        for (int s = 0; s < node.nsrc; s++) {
            const int from = b.node[which].src[s];
            node.src[s] = from >= 200 ? op.dst[from % 100] : op.src[from - 100];
        }
        ck_assert_msg(lun_op_infer(&node) == LUN_OK, "%s", lun_error_detail());
        ck_assert(lun_shape_equal(node.dst[value % 10].shape, op.src[i].shape) &&
                  node.dst[value % 10].layout == op.src[i].layout);
    }
    return b;
}

START_TEST(gradients)
{
    const lun_op cv = conv(OP(CONV2D, lun_image(2, 3, 9, 11), lun_filter(5, 3, 3, 4), V(5)), 2, 3, 1, 2);
    fake_backward b = differentiate(cv, 7);
    ck_assert(b.emitted == 3 && b.node[0].kind == LUN_OP_CONV2D_TRANSPOSE && b.node[1].kind == LUN_OP_CONV2D_WGRAD &&
              b.node[2].kind == LUN_OP_CHANNEL_SUM);
    ck_assert(b.node[0].src[0] == 300 && b.node[0].src[1] == 101 && b.node[1].src[0] == 100 && b.node[1].src[1] == 300);
    ck_assert_int_eq(differentiate(cv, 1).emitted, 1);
    ck_assert_int_eq(differentiate(cv, 2).emitted, 1);
    ck_assert_int_eq(differentiate(cv, 4).emitted, 1);

    b = differentiate(sided(cv, 2, -1), 7);
    ck_assert(b.node[0].attrs.conv.more_h == 2 && b.node[1].attrs.conv.more_w == -1);

    const lun_op up =
        sized(conv(OP(CONV2D_TRANSPOSE, lun_image(2, 5, 4, 4), lun_filter(5, 3, 4, 4), V(3)), 2, 2, 1, 1), 0, 0, 9, 8);
    b = differentiate(up, 7);
    ck_assert(b.emitted == 3 && b.node[0].kind == LUN_OP_CONV2D && b.node[1].src[0] == 300 && b.node[1].src[1] == 100);

    const lun_desc x = lun_image(2, 6, 3, 3);
    for (int training = 0; training < 2; training++) {
        b = differentiate(norm(OP(BATCH_NORM, x, V(6), V(6), V(6), V(6)), 1e-5f, 0.1f, training, training), 7);
        ck_assert(b.emitted == 1 && b.given[0] == 400 && b.given[1] == 401 && b.given[2] == 402);
        ck_assert(b.node[0].src[3] == 201 && b.node[0].src[4] == 202 && b.node[0].attrs.norm.training == training);
    }
    for (int scaled = 0; scaled < 2; scaled++) {
        lun_op gn = group(OP(GROUP_NORM, x, V(6), V(6), lun_image(2, 12, 1, 1)), 3, 1e-5f);
        gn.nsrc = 3 + scaled;
        gn.attrs.group.silu = true;
        b = differentiate(gn, scaled ? 15 : 7);
        ck_assert(b.emitted == 1 && b.given[0] == 400 && b.given[2] == 402 && b.given[3] == (scaled ? 403 : 0));
        ck_assert(b.node[0].nsrc == 6 + scaled && b.node[0].src[1] == 300 && b.node[0].src[4] == 201);
        ck_assert(b.node[0].attrs.group.silu && (!scaled || b.node[0].src[6] == 103));
        ck_assert_int_eq(differentiate(gn, 0).emitted, 0);
        ck_assert_int_eq(differentiate(gn, 2).emitted, 1);
    }
    b = differentiate(OP(SCALE_SHIFT, x, lun_image(2, 12, 1, 1)), 3);
    ck_assert(b.emitted == 1 && b.given[0] == 400 && b.given[1] == 401 && b.node[0].src[2] == 101);
    b = differentiate(OP(SILU, x), 1);
    ck_assert(b.node[0].kind == LUN_OP_SILU_BACKWARD && b.node[0].src[0] == 100 && b.node[0].src[1] == 300);
    b = differentiate(OP(GELU, x), 1);
    ck_assert(b.node[0].kind == LUN_OP_GELU_BACKWARD && b.node[0].src[0] == 100 && b.node[0].src[1] == 300);
    lun_op drop = OP(DROPOUT, x, ROWS(2));
    drop.attrs.dropout = (lun_dropout_attrs){0.25f, 7};
    b = differentiate(drop, 1);
    ck_assert(b.node[0].kind == LUN_OP_DROPOUT && b.node[0].src[0] == 300 && b.node[0].src[1] == 101 &&
              b.node[0].attrs.dropout.stream == 7 && b.node[0].attrs.dropout.p == 0.25f);
    b = differentiate(OP(RELU, x), 1);
    ck_assert(b.node[0].src[0] == 200 && b.node[0].src[1] == 300);
    b = differentiate(OP(ADD, x, x), 3);
    ck_assert(b.emitted == 0 && b.given[0] == 300 && b.given[1] == 300);
    b = differentiate(OP(ADD_CHANNEL, x, lun_image(2, 6, 1, 1)), 3);
    ck_assert(b.emitted == 1 && b.given[0] == 300 && b.node[0].kind == LUN_OP_SPATIAL_SUM);
    b = differentiate(OP(CONCAT, x, lun_image(2, 1, 3, 3)), 3);
    ck_assert(b.emitted == 2 && b.node[0].attrs.slice.first == 0 && b.node[1].attrs.slice.first == 6);
    b = differentiate(OP(CONCAT, x, lun_image(2, 1, 3, 3)), 2);
    ck_assert(b.emitted == 1 && b.node[0].attrs.slice.first == 6);
    lun_op loss = OP(LOSS, x, x);
    loss.attrs.loss = (lun_loss_attrs){LUN_LOSS_HUBER, 0.5f};
    b = differentiate(loss, 1);
    ck_assert(b.emitted == 1 && b.node[0].src[2] == 300 && b.node[0].attrs.loss.delta == 0.5f);

    b = differentiate(OP(EMBED, I32(4), lun_image(9, 32, 1, 1)), 2);
    ck_assert(b.emitted == 1 && b.node[0].src[0] == 100 && b.node[0].src[1] == 300 && b.node[0].attrs.embed.rows == 9);
    ck_assert_int_eq(differentiate(OP(EMBED, I32(4), lun_image(9, 32, 1, 1)), 0).emitted, 0);
    lun_op resample = OP(POOL2, lun_image(2, 6, 4, 2));
    resample.attrs.resample.mean = true;
    b = differentiate(resample, 1);
    ck_assert(b.node[0].kind == LUN_OP_UPSAMPLE2 && b.node[0].attrs.resample.mean);
    b = differentiate(OP(UPSAMPLE2, x), 1);
    ck_assert(b.node[0].kind == LUN_OP_POOL2 && !b.node[0].attrs.resample.mean);
    b = differentiate(OP(UPSAMPLE2_FILTER, lun_filter(2, 3, 3, 3)), 1);
    ck_assert(b.emitted == 1 && b.node[0].kind == LUN_OP_POOL2_FILTER && b.node[0].src[0] == 300);
    b = differentiate(OP(POOL2_FILTER, lun_filter(2, 3, 3, 3)), 1);
    ck_assert(b.emitted == 1 && b.node[0].kind == LUN_OP_UPSAMPLE2_FILTER && b.node[0].src[0] == 300);
    lun_op attention = OP(ATTENTION, x);
    attention.attrs.attention.heads = 2;
    b = differentiate(attention, 1);
    ck_assert(b.emitted == 1 && b.node[0].src[0] == 100 && b.node[0].src[1] == 200 && b.node[0].src[2] == 300 &&
              b.node[0].src[3] == 201);
    const lun_desc each = lun_image(2, 1, 1, 1), half = lun_image(2, 3, 3, 3);
    lun_op some = OP(LOSS_EACH, x, half, each);
    some.attrs.loss = (lun_loss_attrs){LUN_LOSS_HUBER, 0.5f};
    b = differentiate(some, 1);
    ck_assert(b.emitted == 1 && b.node[0].nsrc == 4 && b.node[0].src[2] == 300 && b.node[0].src[3] == 102);
    b = differentiate(OP(LOSS_EACH, x, half), 1);
    ck_assert(b.emitted == 1 && b.node[0].nsrc == 3 && b.node[0].src[2] == 300);
    b = differentiate(OP(WEIGHTED_MEAN, each, each), 1);
    ck_assert(b.emitted == 1 && b.node[0].src[0] == 101 && b.node[0].src[1] == 300);
    lun_op bound = OP(VARIATIONAL, x, half, half, I32(2), lun_image(300, 8, 1, 1));
    bound.attrs.variational.scale = 0.3f;
    b = differentiate(bound, 1);
    ck_assert(b.emitted == 1 && b.node[0].src[5] == 300 && b.node[0].attrs.variational.scale == 0.3f);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("op");
    TCase *tests = tcase_create("op");
    tcase_add_test(tests, conv2d_rules);
    tcase_add_test(tests, conv2d_transpose_rules);
    tcase_add_test(tests, conv2d_wgrad_rules);
    tcase_add_test(tests, batch_norm_rules);
    tcase_add_test(tests, elementwise_rules);
    tcase_add_test(tests, table_rules);
    tcase_add_test(tests, objective_rules);
    tcase_add_test(tests, loss_and_adam_rules);
    tcase_add_test(tests, group_norm_rules);
    tcase_add_test(tests, activation_rules);
    tcase_add_test(tests, attention_and_resampling_rules);
    tcase_add_test(tests, update_rules);
    tcase_add_test(tests, random_rules);
    tcase_add_test(tests, any_op_refuses_nonsense);
    tcase_add_test(tests, pitches);
    tcase_add_test(tests, descriptions);
    tcase_add_test(tests, gradients);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
