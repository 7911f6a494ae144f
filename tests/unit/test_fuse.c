/* Merging neighbouring ops (src/graph/fuse.c): what is merged, what must not be, and that the numbers stay. */
#include "graph_net.h"

static int count_kind(const lun_graph *g, lun_op_kind kind)
{
    int count = 0;
    for (int n = 0; n < g->node_count; n++)
        count += g->nodes[n].op.kind == kind;
    return count;
}

static const lun_node *only(const lun_graph *g, lun_op_kind kind)
{
    ck_assert_int_eq(count_kind(g, kind), 1);
    for (int n = 0; n < g->node_count; n++)
        if (g->nodes[n].op.kind == kind)
            return &g->nodes[n];
    return NULL;
}

/* Every operand is made before it is read, and producers and results agree. */
static void well_formed(const lun_graph *g)
{
    for (int n = 0; n < g->node_count; n++) {
        const lun_node *node = &g->nodes[n];
        for (int s = 0; s < node->op.nsrc; s++) {
            const lun_tensor *t = &g->tensors[node->src[s]];
            ck_assert(t->source != LUN_SOURCE_TEMP || (t->node >= 0 && t->node < n));
            ck_assert(node->whole_store || lun_shape_equal(t->desc.shape, node->op.src[s].shape));
        }
        for (int d = 0; d < node->op.ndst; d++) {
            ck_assert_int_eq(g->tensors[node->dst[d]].node, n);
            ck_assert(lun_shape_equal(g->tensors[node->dst[d]].desc.shape, node->op.dst[d].shape));
        }
    }
}

START_TEST(a_training_step_is_merged)
{
    net m = {0};
    lun_graph *f = NULL;
    record_net(&m, true);
    const int nodes = m.graph->node_count, relus = count_kind(m.graph, LUN_OP_RELU);
    const int relu_backwards = count_kind(m.graph, LUN_OP_RELU_BACKWARD),
              sums = count_kind(m.graph, LUN_OP_CHANNEL_SUM);
    OK(lun_graph_fuse(m.graph, &f));
    well_formed(f);
    ck_assert_int_eq(m.graph->node_count, nodes); /* the recording stays */
    ck_assert_int_eq(count_kind(m.graph, LUN_OP_RELU), relus);
    ck_assert_int_eq(count_kind(f, LUN_OP_RELU), 0);
    ck_assert_int_eq(count_kind(f, LUN_OP_ADD_CHANNEL), 0);
    ck_assert_int_eq(count_kind(f, LUN_OP_SPATIAL_SUM), 0);
    ck_assert_int_eq(count_kind(f, LUN_OP_RELU_BACKWARD), relu_backwards - 1);
    ck_assert_int_eq(count_kind(f, LUN_OP_CHANNEL_SUM), sums - 1);
    ck_assert_int_eq(f->node_count, nodes - relus - 4);
    const lun_node *norm = only(f, LUN_OP_BATCH_NORM), *back = only(f, LUN_OP_BATCH_NORM_BACKWARD);
    ck_assert_int_eq(norm->op.nsrc, 7);
    ck_assert_int_eq(norm->op.ndst, 5);
    ck_assert(norm->op.attrs.norm.given && lun_norm_is_shifted(&norm->op));
    const lun_node *conv = &f->nodes[f->tensors[norm->src[0]].node];
    ck_assert_int_eq(conv->op.kind, LUN_OP_CONV2D);
    ck_assert(conv->op.attrs.conv.stats && conv->op.attrs.conv.relu && conv->dst[1] == norm->src[6]);
    ck_assert_int_eq(conv->dst[1], m.graph->tensor_count); /* after all that were recorded */
    ck_assert_int_eq(f->tensor_count, m.graph->tensor_count + 1);
    ck_assert(back->op.attrs.norm.relu && back->op.attrs.norm.dbias && back->op.attrs.norm.dshift);
    ck_assert_int_eq(back->op.ndst, 5);
    ck_assert_int_eq(f->tensors[back->dst[3]].grad_of, lun_store_find(m.store, "conv.bias"));
    ck_assert(f->backward_start > 0 && f->backward_start < f->node_count);
    ck_assert_int_eq(f->nodes[f->backward_start].op.kind, LUN_OP_LOSS_BACKWARD);
    lun_graph_free_fused(&f);
    end_net(&m);
}
END_TEST

/* Where every value is to be read, hardly anything may be merged. The gradients are the same but for rounding, and so
 * is everything that the fused step still has. */
START_TEST(numbers_stay)
{
    float *grads[2][32] = {{0}}, losses[2], mean[2][4];
    int nodes[2];
    for (int apart = 0; apart < 2; apart++) {
        net m = {0};
        lun_plan *plan = NULL;
        record_net(&m, true);
        for (int v = 0; apart && v < m.graph->tensor_count; v++)
            if (m.graph->tensors[v].source == LUN_SOURCE_TEMP && m.graph->tensors[v].grad_of < 0)
                lun_graph_output(m.graph, v);
        start_net(&m, dev);
        OK(lun_graph_compile(m.graph, dev, NULL, &plan));
        nodes[apart] = plan->graph->node_count;
        feed_net(&m, plan);
        losses[apart] = run_loss(&m, plan);
        OK(lun_store_read(m.store, (size_t)lun_store_find(m.store, "norm.running_mean"), LUN_SLOT_VALUE, mean[apart]));
        for (size_t i = 0; i < lun_store_count(m.store); i++) {
            if (lun_store_info(m.store, i)->role != LUN_ROLE_PARAM)
                continue;
            float *grad = grads[apart][i] = read_slot(m.store, i, LUN_SLOT_GRAD);
            float error = 0, size = 0;
            for (size_t e = 0; apart && e < elements(m.store, i); e++) {
                error += (grad[e] - grads[0][i][e]) * (grad[e] - grads[0][i][e]);
                size += grad[e] * grad[e];
            }
            ck_assert_msg(error <= 1e-11f * size, "%s: %g of %g", lun_store_info(m.store, i)->name, (double)error,
                          (double)size);
        }
        lun_plan_destroy(&plan);
        end_net(&m);
    }
    ck_assert_int_lt(nodes[0] + 4, nodes[1]);
    ck_assert_float_eq_tol(losses[0], losses[1], 1e-6f * losses[1]);
    /* Sums of the same few hundred numbers of size 1, in the convolution's order and in the norm's. */
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq_tol(mean[0][i], mean[1][i], 1e-6f);
    for (int i = 0; i < 32; i++) {
        free(grads[0][i]);
        free(grads[1][i]);
    }
}
END_TEST

/* A convolution whose unclamped result is wanted: by the host, by another op, by relu twice. */
START_TEST(other_readers_keep_ops_apart)
{
    for (int wanted = 0; wanted < 5; wanted++) {
        lun_store *s = NULL;
        lun_graph *g = NULL, *f = NULL;
        lun_plan *plan = NULL;
        OK(lun_store_create(&s));
        OK(lun_graph_create(s, &g));
        const lun_value x = lun_graph_input(g, "x", lun_image(1, 1, 2, 2));
        const lun_value c = lun_conv2d(g, x, filter(g, "w", 1, 1, 1, 1), -1, 1, 0), r = lun_relu(g, c);
        lun_value other = -1;
        if (wanted == 1)
            lun_graph_output(g, other = c);
        if (wanted == 2)
            lun_graph_output(g, other = lun_add(g, c, r));
        if (wanted == 3)
            lun_graph_output(g, other = lun_relu(g, c));
        if (wanted == 4) /* relu of relu */
            lun_graph_output(g, other = lun_relu(g, r));
        lun_graph_output(g, r);
        OK(lun_store_allocate(s, dev, 0));
        OK(lun_store_write(s, 0, LUN_SLOT_VALUE, (float[]){2}));
        OK(lun_graph_fuse(g, &f));
        well_formed(f);
        ck_assert_int_eq(count_kind(f, LUN_OP_RELU), wanted == 0 ? 0 : wanted == 3 ? 2 : 1);
        ck_assert_int_eq(only(f, LUN_OP_CONV2D)->op.attrs.conv.relu, wanted == 0 || wanted == 4);
        lun_graph_free_fused(&f);
        OK(lun_graph_compile(g, dev, NULL, &plan));
        OK(lun_plan_write(plan, x, (float[]){1, -2, NAN, -0.5f}));
        OK(lun_plan_run(plan));
        float got[4];
        OK(lun_plan_read(plan, r, got));
        ck_assert(got[0] == 2 && got[1] == 0 && isnan(got[2]) && got[3] == 0);
        if (wanted) {
            OK(lun_plan_read(plan, other, got));
            ck_assert(got[0] == (wanted == 2 ? 4 : 2) && got[1] == (wanted < 3 ? -4 : 0) && isnan(got[2]));
        }
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
        lun_store_destroy(&s);
    }
}
END_TEST

/* A norm that is merged runs in the place of what is added to it; not if something in between looks at the running
 * statistics that it changes, or reads its result. */
START_TEST(order_of_changes_is_kept)
{
    for (int between = 0; between < 3; between++) {
        lun_store *s = NULL;
        lun_graph *g = NULL, *f = NULL;
        lun_plan *plan = NULL;
        OK(lun_store_create(&s));
        OK(lun_graph_create(s, &g));
        const lun_init zero = {LUN_INIT_ZERO, 0}, one = {LUN_INIT_ONE, 0};
        const lun_value x = lun_graph_input(g, "x", lun_image(2, 1, 1, 1));
        const lun_value mean = vector(g, "mean", 1, LUN_ROLE_BUFFER, zero);
        const lun_value y =
            lun_batch_norm(g, x, vector(g, "gamma", 1, LUN_ROLE_PARAM, one), vector(g, "beta", 1, LUN_ROLE_PARAM, zero),
                           mean, vector(g, "var", 1, LUN_ROLE_BUFFER, one), 1e-5f, 0.5f, 1, 1);
        lun_value seen = lun_add(g, mean, mean), shift = lun_add(g, x, x);
        if (between == 1)
            lun_graph_output(g, seen);
        if (between == 2)
            shift = lun_relu(g, y);
        const lun_value z = lun_add_channel(g, y, shift);
        lun_graph_output(g, z);
        OK(lun_store_allocate(s, dev, 0));
        OK(lun_store_init(s, 1));
        OK(lun_graph_fuse(g, &f));
        well_formed(f);
        /* `seen` counts although nobody wants it: liveness is found later, and refusing costs nothing here. */
        ck_assert_int_eq(count_kind(f, LUN_OP_ADD_CHANNEL), 1);
        lun_graph_free_fused(&f);
        OK(lun_graph_compile(g, dev, NULL, &plan));
        OK(lun_plan_write(plan, x, (float[]){1, 3}));
        OK(lun_plan_run(plan));
        float got[2];
        OK(lun_plan_read(plan, z, got));
        ck_assert_float_eq_tol(got[0], between == 2 ? -1 : 1, 1e-4f);
        ck_assert_float_eq_tol(got[1], between == 2 ? 2 : 7, 1e-4f);
        if (between == 1) {
            OK(lun_plan_read(plan, seen, got));
            ck_assert_float_eq(got[0], 2);
        }
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
        lun_store_destroy(&s);
    }
}
END_TEST

/* Whose statistics a convolution leaves: of its own result, once, whoever reads that, and in training only. */
START_TEST(statistics_come_from_the_convolution)
{
    for (int wanted = 0; wanted < 5; wanted++) {
        lun_store *s = NULL;
        lun_graph *g = NULL, *f = NULL;
        lun_plan *plan = NULL;
        OK(lun_store_create(&s));
        OK(lun_graph_create(s, &g));
        const lun_init zero = {LUN_INIT_ZERO, 0}, one = {LUN_INIT_ONE, 0};
        const lun_value x = lun_graph_input(g, "x", lun_image(1, 1, 2, 2)), w = filter(g, "w", 1, 1, 1, 1);
        const lun_value gamma = vector(g, "gamma", 1, LUN_ROLE_PARAM, one),
                        beta = vector(g, "beta", 1, LUN_ROLE_PARAM, zero);
        const lun_value mean = vector(g, "mean", 1, LUN_ROLE_BUFFER, zero),
                        var = vector(g, "var", 1, LUN_ROLE_BUFFER, one);
        lun_value c = wanted == 4 ? lun_conv2d_transpose(g, x, w, -1, 1, 0, 0) : lun_conv2d(g, x, w, -1, 1, 0);
        const lun_value made = c;
        if (wanted == 1) /* something in between */
            c = lun_add(g, c, x);
        const int training = wanted != 2;
        const lun_value y = lun_batch_norm(g, c, gamma, beta, mean, var, 3, 0.5f, training, training);
        lun_graph_output(g, y);
        lun_graph_output(g, y + 1);
        lun_graph_output(g, y + 2);
        lun_value other = -1;
        if (wanted == 3) { /* two norms of one result, which is read otherwise as well */
            lun_graph_output(g, made);
            lun_graph_output(g, other = lun_batch_norm(g, c, gamma, beta, mean, var, 3, 0.5f, 1, 0));
        }
        OK(lun_store_allocate(s, dev, 0));
        OK(lun_store_init(s, 1));
        OK(lun_store_write(s, 0, LUN_SLOT_VALUE, (float[]){2}));
        OK(lun_graph_fuse(g, &f));
        well_formed(f);
        const bool merged = wanted == 0 || wanted > 2;
        ck_assert_int_eq(f->node_count, g->node_count);
        ck_assert_int_eq(f->tensor_count, g->tensor_count + merged);
        ck_assert_int_eq(f->nodes[0].op.attrs.conv.stats, merged);
        for (int n = 0; n < f->node_count; n++)
            if (f->nodes[n].op.kind == LUN_OP_BATCH_NORM) {
                ck_assert_int_eq(f->nodes[n].op.attrs.norm.given, merged);
                ck_assert_int_eq(f->nodes[n].op.nsrc, merged ? 6 : 5);
            }
        lun_graph_free_fused(&f);
        OK(lun_graph_compile(g, dev, NULL, &plan));
        OK(lun_plan_write(plan, x, (float[]){1000.5f, 1000.5f, 999.5f, 999.5f}));
        OK(lun_plan_run(plan));
        float got[4], value;
        /* The convolution doubles: mean 2000, variance 1, and rstd 1 / 2. x more: 3000 and 9 / 4. */
        const float want_mean = wanted == 1 ? 3000 : wanted == 2 ? 0 : 2000;
        const float rstd = wanted == 1 ? 1 / sqrtf(5.25f) : 0.5f;
        OK(lun_plan_read(plan, y + 1, &value));
        ck_assert_float_eq(value, want_mean);
        OK(lun_plan_read(plan, y + 2, &value));
        ck_assert_float_eq_tol(value, rstd, 1e-6f);
        OK(lun_plan_read(plan, y, got));
        ck_assert_float_eq_tol(got[0], wanted == 2 ? 1000.5f : wanted == 1 ? 1.5f * rstd : 0.5f, 1e-5f);
        ck_assert_float_eq_tol(got[3], wanted == 2 ? 999.5f : wanted == 1 ? -1.5f * rstd : -0.5f, 1e-5f);
        if (wanted == 3) {
            float again[4];
            OK(lun_plan_read(plan, other, again));
            ck_assert_mem_eq(again, got, sizeof got);
            OK(lun_plan_read(plan, made, got));
            ck_assert_float_eq(got[0], 2001);
        }
        if (training) {
            OK(lun_store_read(s, (size_t)lun_store_find(s, "mean"), LUN_SLOT_VALUE, &value));
            ck_assert_float_eq(value, want_mean / 2);
            OK(lun_store_read(s, (size_t)lun_store_find(s, "var"), LUN_SLOT_VALUE, &value));
            ck_assert_float_eq_tol(value, 0.5f + 0.5f * 4 / 3 * (wanted == 1 ? 2.25f : 1), 1e-5f);
        }
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
        lun_store_destroy(&s);
    }
}
END_TEST

/* Evaluation mode: one op, and its statistics where they are wanted. */
START_TEST(evaluation_is_one_pass)
{
    for (int wanted = 0; wanted < 2; wanted++) {
        lun_store *s = NULL;
        lun_graph *g = NULL, *f = NULL;
        lun_plan *plan = NULL;
        OK(lun_store_create(&s));
        OK(lun_graph_create(s, &g));
        const lun_init zero = {LUN_INIT_ZERO, 0}, one = {LUN_INIT_ONE, 0};
        const lun_value x = lun_graph_input(g, "x", lun_image(1, 2, 2, 1)),
                        add = lun_graph_input(g, "add", lun_image(1, 2, 1, 1));
        const lun_value y = lun_batch_norm(
            g, x, vector(g, "gamma", 2, LUN_ROLE_PARAM, one), vector(g, "beta", 2, LUN_ROLE_PARAM, zero),
            vector(g, "mean", 2, LUN_ROLE_BUFFER, zero), vector(g, "var", 2, LUN_ROLE_BUFFER, one), 3, 0, 0, 0);
        const lun_value z = lun_add_channel(g, y, add);
        lun_graph_output(g, z);
        if (wanted)
            lun_graph_output(g, y + 2); /* rstd */
        OK(lun_store_allocate(s, dev, 0));
        OK(lun_store_init(s, 1));
        OK(lun_graph_fuse(g, &f));
        well_formed(f);
        ck_assert_int_eq(f->node_count, 1);
        ck_assert_int_eq(f->nodes[0].op.ndst, wanted ? 3 : 1);
        lun_graph_free_fused(&f);
        OK(lun_graph_compile(g, dev, NULL, &plan));
        ck_assert_int_eq(plan->steps[0].op.attrs.norm.bare, !wanted);
        OK(lun_plan_write(plan, x, (float[]){2, 4, 6, -8}));
        OK(lun_plan_write(plan, add, (float[]){1, -1}));
        OK(lun_plan_run(plan));
        float got[4];
        OK(lun_plan_read(plan, z, got));
        ck_assert_mem_eq(got, ((float[]){2, 3, 2, -5}), sizeof got);
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
        lun_store_destroy(&s);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fuse");
    TCase *tc = tcase_create("fuse");
    tcase_add_checked_fixture(tc, open_cpu, close_cpu);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_training_step_is_merged);
    tcase_add_test(tc, numbers_stay);
    tcase_add_test(tc, other_readers_keep_ops_apart);
    tcase_add_test(tc, order_of_changes_is_kept);
    tcase_add_test(tc, statistics_come_from_the_convolution);
    tcase_add_test(tc, evaluation_is_one_pass);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
