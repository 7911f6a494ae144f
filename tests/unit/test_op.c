/* What holds for ops of every kind: the table, pitches, descriptions, and which nodes each gradient records. */
#include "op_rules.h"
#include "scratch.h"

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
    tcase_add_test(tests, any_op_refuses_nonsense);
    tcase_add_test(tests, pitches);
    tcase_add_test(tests, descriptions);
    tcase_add_test(tests, gradients);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
