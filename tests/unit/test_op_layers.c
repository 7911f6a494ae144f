/* The shape rules, every refusal, of the ops that networks are made of. */
#include <math.h>

#include "op_rules.h"
#include "scratch.h"

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

int main(void)
{
    Suite *suite = suite_create("op layers");
    TCase *tests = tcase_create("op layers");
    tcase_add_test(tests, conv2d_rules);
    tcase_add_test(tests, conv2d_transpose_rules);
    tcase_add_test(tests, conv2d_wgrad_rules);
    tcase_add_test(tests, batch_norm_rules);
    tcase_add_test(tests, group_norm_rules);
    tcase_add_test(tests, elementwise_rules);
    tcase_add_test(tests, activation_rules);
    tcase_add_test(tests, attention_and_resampling_rules);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
