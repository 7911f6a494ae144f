/* Attention, resampling, padding by side, embeddings of labels and of time: in graphs, with gradients. */
#include "graph_net.h"

enum { CHANNELS = 6, LABELS = 5 };

typedef struct seen {
    net base;
    lun_value label;
} seen;

/* A network without kinks: half as large by a padding of (0, 1, 0, 1), labels, attention with a skip, twice as large.
 */
static void record(seen *m, lun_qkv_order order)
{
    OK(lun_store_create(&m->base.store));
    OK(lun_graph_create(m->base.store, &m->base.graph));
    lun_graph *g = m->base.graph;
    const lun_role role = LUN_ROLE_PARAM;
    m->base.x = lun_graph_input(g, "x", lun_image(N, 3, SIZE, SIZE));
    m->base.target = lun_graph_input(g, "target", lun_image(N, 3, SIZE, SIZE));
    m->label = lun_graph_input(g, "label", lun_typed(lun_image(N, 1, 1, 1), LUN_I32));
    lun_value h = lun_conv2d_padded(g, m->base.x, filter(g, "down.weight", CHANNELS, 3, 3, 0.5f),
                                    vector(g, "down.bias", CHANNELS, role, uniform(0.5f)), 2, 0, 0, 1, 1);
    const lun_value table =
        lun_graph_param(g, "label_emb.weight", lun_image(LABELS, CHANNELS, 1, 1), 2, role, uniform(1));
    h = lun_add_channel(g, h, lun_embed(g, m->label, table));
    const lun_value qkv = lun_conv2d(g, h, filter(g, "qkv.weight", 3 * CHANNELS, CHANNELS, 1, 1),
                                     vector(g, "qkv.bias", 3 * CHANNELS, role, uniform(0.5f)), 1, 0);
    const lun_value proj =
        lun_conv2d(g, lun_attention(g, qkv, 2, order), filter(g, "proj.weight", CHANNELS, CHANNELS, 1, 1),
                   vector(g, "proj.bias", CHANNELS, role, uniform(0.5f)), 1, 0);
    h = lun_add(g, h, proj);
    const lun_value weight = filter(g, "out.weight", 3, CHANNELS, 3, 0.5f),
                    bias = vector(g, "out.bias", 3, role, uniform(0.5f));
    h = order == LUN_QKV_SPLIT ? lun_conv2d_upsampled(g, h, weight, bias, 1)
                               : lun_conv2d(g, lun_upsample2(g, h), weight, bias, 1, 1);
    m->base.y = lun_add(g, h, lun_upsample2(g, lun_avg_pool2(g, h)));
    m->base.loss = lun_loss(g, m->base.y, m->base.target, LUN_L2, 1);
    lun_graph_output(g, m->base.loss);
    lun_graph_backward(g, m->base.loss);
    OK(lun_graph_check(g));
}

static void feed(const seen *m, lun_plan *plan, const int32_t *labels)
{
    float x[N * 3 * PIXELS], target[N * 3 * PIXELS];
    draw(x, LUN_COUNT(x), 100);
    draw(target, LUN_COUNT(target), 101);
    OK(lun_plan_write(plan, m->base.x, x));
    OK(lun_plan_write(plan, m->base.target, target));
    OK(lun_plan_write(plan, m->label, labels));
}

/* Both orders of q, k and v; the convolution after upsampling by itself and with it; labels that differ, and that are
 * the same, so that their gradients meet. */
START_TEST(gradients_equal_finite_differences)
{
    for (int turn = 0; turn < 2; turn++) {
        seen m = {{0}, 0};
        lun_plan *plan = NULL;
        record(&m, turn ? LUN_QKV_SPLIT : LUN_QKV_HEADS);
        start_net(&m.base, dev);
        OK(lun_graph_compile(m.base.graph, dev, NULL, &plan));
        feed(&m, plan, (const int32_t[]){3, turn ? 3 : 1});
        int checked = 0;
        for (size_t i = 0; i < lun_store_count(m.base.store); i++) {
            const double loss = run_loss(&m.base, plan);
            float *value = read_slot(m.base.store, i, LUN_SLOT_VALUE),
                  *grad = read_slot(m.base.store, i, LUN_SLOT_GRAD);
            const float step = 1e-2f;
            double error = 0, norm = 0;
            for (size_t e = 0; e < elements(m.base.store, i); e++) {
                const float old = value[e];
                value[e] = old + step;
                OK(lun_store_write(m.base.store, i, LUN_SLOT_VALUE, value));
                const double up = run_loss(&m.base, plan);
                value[e] = old - step;
                OK(lun_store_write(m.base.store, i, LUN_SLOT_VALUE, value));
                const double down = run_loss(&m.base, plan);
                value[e] = old;
                const double slope = (up - down) / ((double)(old + step) - (double)(old - step));
                error += (slope - grad[e]) * (slope - grad[e]);
                norm += slope * slope;
            }
            OK(lun_store_write(m.base.store, i, LUN_SLOT_VALUE, value));
            /* The loss is off by a few units in its last place, so a slope by that over two steps; and the differences
             * see some of the third derivative. A wrong term shows as 10 % and more. */
            const double noise = 8 * 0x1p-24 * loss / (double)step * sqrt((double)elements(m.base.store, i));
            ck_assert_msg(norm > 1e-6 && sqrt(error) <= 5e-3 * sqrt(norm) + noise, "%s: error %g of %g",
                          lun_store_info(m.base.store, i)->name, sqrt(error), sqrt(norm));
            checked++;
            free(value);
            free(grad);
        }
        ck_assert_int_eq(checked, 9);
        lun_plan_destroy(&plan);
        end_net(&m.base);
    }
}
END_TEST

START_TEST(wrong_recordings_are_refused)
{
    for (int wrong = 0; wrong < 16; wrong++) {
        lun_graph *g = NULL;
        OK(lun_graph_create(NULL, &g));
        const lun_value x = lun_graph_input(g, "x", lun_image(1, 12, 5, 6)),
                        w = lun_graph_input(g, "w", lun_filter(4, 12, 3, 3));
        const lun_value t = lun_graph_input(g, "t", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
        const char *words = "";
        switch (wrong) {
        case 0: lun_conv2d_padded(g, x, w, -1, 2, 0, 0, -1, 1), words = "0, 0, -1, 1"; break;
        case 1: lun_conv2d_padded(g, x, w, -1, 2, 0, 0, 1, 40000), words = "on the right, 1x40000"; break;
        case 2: lun_attention(g, x, 3, LUN_QKV_HEADS), words = "q, k and v of 3 heads"; break;
        case 3: lun_attention(g, x, 0, LUN_QKV_HEADS), words = "at least 1"; break;
        case 4: lun_attention(g, x, 2, (lun_qkv_order)2), words = "no order"; break;
        case 5: lun_attention(g, w, 2, LUN_QKV_SPLIT), words = "image"; break;
        case 6: lun_avg_pool2(g, x), words = "even"; break;
        case 7: lun_time_embed_as(g, t, 10, 2, (lun_time_style){.shift = 1, .scale = 1}), words = "at least 4"; break;
        case 8: lun_time_embed_as(g, t, 10, 5, (lun_time_style){.scale = 1}), words = "even"; break;
        case 9: lun_time_embed_as(g, t, 10, 8, (lun_time_style){.shift = 2, .scale = 1}), words = "shift 2"; break;
        case 10: lun_time_embed_as(g, t, 10, 8, (lun_time_style){.scale = 0}), words = "scale 0"; break;
        case 11: lun_time_embed_as(g, t, 10, 8, (lun_time_style){.scale = NAN}), words = "scale"; break;
        case 12: lun_upsample2(g, w), words = "image"; break;
        case 13: lun_conv2d_upsampled(g, x, w, -1, 3), words = "larger than the pad"; break;
        case 14: lun_conv2d_upsampled(g, x, x, -1, 1), words = "square"; break;
        case 15: lun_conv2d_upsampled(g, x, -1, -1, 1), words = "not a value"; break;
        }
        ck_assert_msg(lun_graph_check(g) == LUN_ERR_USAGE && strstr(lun_error_detail(), words), "case %d: %s", wrong,
                      lun_error_detail());
        lun_graph_destroy(&g);
    }
}
END_TEST

START_TEST(shapes_are_known_at_recording)
{
    lun_graph *g = NULL;
    OK(lun_graph_create(NULL, &g));
    const lun_value x = lun_graph_input(g, "x", lun_image(2, 12, 8, 6)),
                    w = lun_graph_input(g, "w", lun_filter(4, 12, 3, 3));
    const struct {
        lun_value value;
        lun_shape shape;
    } have[] = {{lun_conv2d_padded(g, x, w, -1, 2, 0, 0, 1, 1), {2, 4, 4, 3}},
                {lun_conv2d_padded(g, x, w, -1, 1, 2, 0, 0, 3), {2, 4, 8, 7}},
                {lun_conv2d_padded(g, x, w, -1, 1, 1, 1, 1, 1), {2, 4, 8, 6}},
                {lun_attention(g, x, 4, LUN_QKV_SPLIT), {2, 4, 8, 6}},
                {lun_upsample2(g, x), {2, 12, 16, 12}},
                {lun_conv2d_upsampled(g, x, w, -1, 1), {2, 4, 16, 12}},
                {lun_conv2d_upsampled(g, x, w, -1, 0), {2, 4, 14, 10}},
                {lun_avg_pool2(g, x), {2, 12, 4, 3}}};
    OK(lun_graph_check(g));
    for (size_t i = 0; i < LUN_COUNT(have); i++)
        ck_assert_msg(lun_shape_equal(lun_graph_desc(g, have[i].value).shape, have[i].shape), "value %zu", i);
    lun_graph_destroy(&g);
}
END_TEST

/* Every size of filter and pad that it takes, against the two steps that it stands for. */
START_TEST(convolution_of_the_upsampled)
{
    enum { C = 5, K = 3, H = 4, W = 3, MOST = N * K * (2 * H + 5) * (2 * W + 5) };
    for (int r = 1; r <= 4; r++)
        for (int pad = 0; pad < r; pad++) {
            lun_graph *g = NULL;
            lun_plan *plan = NULL;
            OK(lun_graph_create(NULL, &g));
            const lun_value x = lun_graph_input(g, "x", lun_image(N, C, H, W)),
                            w = lun_graph_input(g, "w", lun_filter(K, C, r, r)),
                            b = lun_graph_input(g, "b", lun_image(1, K, 1, 1));
            const lun_value two = lun_conv2d(g, lun_upsample2(g, x), w, b, 1, pad),
                            one = lun_conv2d_upsampled(g, x, w, b, pad);
            lun_graph_output(g, two);
            lun_graph_output(g, one);
            OK(lun_graph_compile(g, dev, NULL, &plan));
            float from[N * C * H * W], taps[K * C * 16], bias[K], expected[MOST], got[MOST];
            draw(from, LUN_COUNT(from), 1);
            draw(taps, LUN_COUNT(taps), 2);
            draw(bias, LUN_COUNT(bias), 3);
            OK(lun_plan_write(plan, x, from));
            OK(lun_plan_write(plan, w, taps));
            OK(lun_plan_write(plan, b, bias));
            OK(lun_plan_run(plan));
            OK(lun_plan_read(plan, two, expected));
            OK(lun_plan_read(plan, one, got));
            const lun_shape shape = lun_graph_desc(g, two).shape;
            ck_assert(lun_shape_equal(lun_graph_desc(g, one).shape, shape));
            for (int64_t i = 0; i < lun_count(shape); i++) /* 81 roundings of sums below 81 */
                ck_assert_float_eq_tol(got[i], expected[i], 81 * 81 * 0x1p-24f);
            lun_plan_destroy(&plan);
            lun_graph_destroy(&g);
        }
}
END_TEST

START_TEST(time_embeddings_of_every_style)
{
    enum { DIM = 16, STEPS = 1000 };
    for (int which = 0; which < 8; which++) {
        lun_graph *g = NULL;
        lun_plan *plan = NULL;
        const lun_time_style style = {.cos_first = which & 1, .shift = which >> 1 & 1, .scale = which & 4 ? 0.25f : 1};
        OK(lun_graph_create(NULL, &g));
        const lun_value t = lun_graph_input(g, "t", lun_typed(lun_image(2, 1, 1, 1), LUN_I32)),
                        e = lun_time_embed_as(g, t, STEPS, DIM, style);
        lun_graph_output(g, e);
        OK(lun_graph_compile(g, dev, NULL, &plan));
        OK(lun_plan_write(plan, t, (int32_t[]){7, STEPS - 1}));
        OK(lun_plan_run(plan));
        float got[2][DIM];
        OK(lun_plan_read(plan, e, got));
        for (int n = 0; n < 2; n++)
            for (int k = 0; k < DIM / 2; k++) {
                const double f = pow(10000, -(double)k / (DIM / 2 - style.shift)) * (double)style.scale;
                const double angle = (n == 0 ? 7 : STEPS - 1) * f;
                ck_assert_float_eq_tol(got[n][style.cos_first ? DIM / 2 + k : k], (float)sin(angle), 1e-6f);
                ck_assert_float_eq_tol(got[n][style.cos_first ? k : DIM / 2 + k], (float)cos(angle), 1e-6f);
            }
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
    }
}
END_TEST

/* Four times the pixels may take four times the memory, and a little, but not sixteen times. */
START_TEST(memory_is_linear_in_the_pixels)
{
    static const char *const candidates[] = {"panel", "direct"};
    for (int kind = 0; kind < 2; kind++) {
        for (size_t c = 0; c < LUN_COUNT(candidates); c++) {
            size_t workspace[2];
            for (int side = 0; side < 2; side++) {
                const int64_t size = side ? 64 : 32;
                lun_op op = {.kind = kind ? LUN_OP_ATTENTION_BACKWARD : LUN_OP_ATTENTION, .nsrc = kind ? 4 : 1};
                op.src[0] = lun_image(1, 3 * 64, size, size);
                op.src[1] = op.src[2] = lun_image(1, 64, size, size);
                op.src[3] = lun_image(1, 1, size, size);
                op.attrs.attention.heads = 1;
                lun_op_plan *plan = NULL;
                OK(lun_op_infer(&op));
                OK(lun_op_plan_create(dev, &op, candidates[c], &plan));
                workspace[side] = plan->workspace;
                lun_op_plan_destroy(&plan);
            }
            ck_assert_msg(workspace[1] <= 4 * workspace[0] + (1 << 20), "%s: %zu and %zu bytes", candidates[c],
                          workspace[0], workspace[1]);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("attention");
    TCase *tc = tcase_create("attention");
    tcase_add_checked_fixture(tc, open_cpu, close_cpu);
    tcase_add_test(tc, gradients_equal_finite_differences);
    tcase_add_test(tc, wrong_recordings_are_refused);
    tcase_add_test(tc, shapes_are_known_at_recording);
    tcase_add_test(tc, convolution_of_the_upsampled);
    tcase_add_test(tc, time_embeddings_of_every_style);
    tcase_add_test(tc, memory_is_linear_in_the_pixels);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
