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

/* ---- group norm, silu, scale_shift, dropout ---- */

static lun_value conv_layer(lun_graph *g, const char *name, lun_value src, int out, int size)
{
    char text[32];
    const int in = (int)lun_graph_desc(g, src).shape.c;
    snprintf(text, sizeof text, "%s.weight", name);
    const lun_value weight = filter(g, text, out, in, size, 0.4f);
    snprintf(text, sizeof text, "%s.bias", name);
    return lun_conv2d(g, src, weight, vector(g, text, out, LUN_ROLE_PARAM, uniform(0.4f)), 1, size / 2);
}

static lun_value group_layer(lun_graph *g, const char *name, lun_value src)
{
    char text[32];
    const int c = (int)lun_graph_desc(g, src).shape.c;
    snprintf(text, sizeof text, "%s.weight", name);
    const lun_value gamma = vector(g, text, c, LUN_ROLE_PARAM, uniform(1));
    snprintf(text, sizeof text, "%s.bias", name);
    return lun_group_norm(g, src, gamma, vector(g, text, c, LUN_ROLE_PARAM, uniform(0.5f)), c / 2, 1e-3f);
}

/* A residual block between two convolutions. The time goes in by scale and shift, or is added. */
static void record_block(net *m, bool shifts, lun_value *before_silu)
{
    OK(lun_store_create(&m->store));
    OK(lun_graph_create(m->store, &m->graph));
    lun_graph *g = m->graph;
    m->x = lun_graph_input(g, "x", lun_image(N, 3, SIZE, SIZE));
    m->t = lun_graph_input(g, "t", lun_typed(lun_image(N, 1, 1, 1), LUN_I32));
    m->target = lun_graph_input(g, "target", lun_image(N, 3, SIZE, SIZE));
    const lun_value time = lun_time_embed(g, m->t, 10, 8), in = conv_layer(g, "in", m->x, 6, 3);
    lun_value h = conv_layer(g, "first", lun_silu(g, group_layer(g, "norm1", in)), 4, 3);
    if (!shifts)
        h = lun_add_channel(g, h, conv_layer(g, "time", time, 4, 1));
    h = group_layer(g, "norm2", h);
    if (shifts) /* made after the norm that it goes into */
        h = lun_scale_shift(g, h, conv_layer(g, "time", time, 8, 1));
    *before_silu = h;
    h = lun_add(g, in, conv_layer(g, "second", lun_silu(g, h), 6, 3));
    m->y = conv_layer(g, "out", lun_gelu(g, h), 3, 1);
    m->loss = lun_loss(g, m->y, m->target, LUN_L2, 1);
    lun_graph_output(g, m->loss);
    lun_graph_backward(g, m->loss);
    OK(lun_graph_check(g));
}

START_TEST(a_residual_block_is_merged)
{
    for (int shifts = 0; shifts < 2; shifts++) {
        net m = {0};
        lun_graph *f = NULL;
        lun_value inner;
        record_block(&m, shifts, &inner);
        OK(lun_graph_fuse(m.graph, &f));
        well_formed(f);
        static const lun_op_kind gone[] = {LUN_OP_SILU, LUN_OP_SILU_BACKWARD, LUN_OP_SCALE_SHIFT, LUN_OP_SPATIAL_SUM,
                                           LUN_OP_SCALE_SHIFT_BACKWARD};
        for (size_t i = 0; i < LUN_COUNT(gone); i++)
            ck_assert_msg(count_kind(f, gone[i]) == 0, "%d of %s", count_kind(f, gone[i]),
                          lun_op_info_of(gone[i])->name);
        ck_assert_int_eq(count_kind(f, LUN_OP_GELU), 1);
        ck_assert_int_eq(count_kind(m.graph, LUN_OP_ADD), 2);
        ck_assert_int_eq(count_kind(f, LUN_OP_ADD), 1); /* the forward one */
        ck_assert_int_eq(count_kind(m.graph, LUN_OP_CHANNEL_SUM), 5);
        ck_assert_int_eq(count_kind(f, LUN_OP_CHANNEL_SUM), 4);
        ck_assert_int_eq(count_kind(f, LUN_OP_GROUP_NORM), 2);
        ck_assert_int_eq(count_kind(f, LUN_OP_GROUP_NORM_BACKWARD), 2);
        for (int n = 0; n < f->node_count; n++) {
            const lun_op *op = &f->nodes[n].op;
            const lun_group_attrs *a = &op->attrs.group;
            const bool second = op->src[0].shape.c == 4, scaled = shifts && second;
            if (op->kind == LUN_OP_GROUP_NORM) {
                ck_assert(a->silu && op->nsrc == (scaled ? 4 : 3));
            } else if (op->kind == LUN_OP_GROUP_NORM_BACKWARD) {
                ck_assert(a->silu && a->add == !second && a->dbias == second && a->dsum == (second && !shifts));
                ck_assert_int_eq(op->nsrc, 6 + scaled + a->add);
                const int bias = 3 + scaled;
                if (second)
                    ck_assert_int_eq(f->tensors[f->nodes[n].dst[bias]].grad_of, lun_store_find(m.store, "first.bias"));
            }
        }
        ck_assert_int_eq(f->nodes[f->backward_start].op.kind, LUN_OP_LOSS_BACKWARD);
        lun_graph_free_fused(&f);
        end_net(&m);
    }
}
END_TEST

/* What lies between a norm and silu is wanted by somebody else: those two stay apart, and their gradients too. */
START_TEST(inner_values_keep_norms_apart)
{
    for (int wanted = 0; wanted < 4; wanted++) {
        net m = {0};
        lun_graph *f = NULL;
        lun_value inner;
        record_block(&m, wanted % 2, &inner);
        if (wanted < 2)
            lun_graph_output(m.graph, inner);
        else
            lun_graph_output(m.graph, lun_gelu(m.graph, inner));
        OK(lun_graph_fuse(m.graph, &f));
        well_formed(f);
        ck_assert_int_eq(count_kind(f, LUN_OP_SILU), 1);
        ck_assert_int_eq(count_kind(f, LUN_OP_SILU_BACKWARD), 1);
        ck_assert_int_eq(count_kind(f, LUN_OP_SCALE_SHIFT), 0); /* this goes in all the same */
        lun_graph_free_fused(&f);
        end_net(&m);
    }
}
END_TEST

/* The same numbers as with every value readable, that is unmerged, but for rounding. */
START_TEST(numbers_of_a_block_stay)
{
    for (int shifts = 0; shifts < 2; shifts++) {
        float *grads[2][32] = {{0}}, losses[2];
        int nodes[2];
        for (int apart = 0; apart < 2; apart++) {
            net m = {0};
            lun_plan *plan = NULL;
            lun_value inner;
            record_block(&m, shifts, &inner);
            for (int v = 0; apart && v < m.graph->tensor_count; v++)
                if (m.graph->tensors[v].source == LUN_SOURCE_TEMP && m.graph->tensors[v].grad_of < 0)
                    lun_graph_output(m.graph, v);
            start_net(&m, dev);
            OK(lun_graph_compile(m.graph, dev, NULL, &plan));
            nodes[apart] = plan->graph->node_count;
            feed_net(&m, plan);
            losses[apart] = run_loss(&m, plan);
            for (size_t i = 0; i < lun_store_count(m.store); i++) {
                float *grad = grads[apart][i] = read_slot(m.store, i, LUN_SLOT_GRAD);
                double error = 0, size = 0;
                for (size_t e = 0; apart && e < elements(m.store, i); e++) {
                    error += pow((double)grad[e] - (double)grads[0][i][e], 2);
                    size += pow((double)grad[e], 2);
                }
                ck_assert_msg(error <= 1e-11 * size && (!apart || size > 0), "%s: %g of %g",
                              lun_store_info(m.store, i)->name, error, size);
            }
            lun_plan_destroy(&plan);
            end_net(&m);
        }
        ck_assert_int_le(nodes[0] + 5, nodes[1]);
        ck_assert_float_eq_tol(losses[0], losses[1], 1e-6f * losses[1]);
        for (int i = 0; i < 32; i++) {
            free(grads[0][i]);
            free(grads[1][i]);
        }
    }
}
END_TEST

/* Two dropouts on the same rows: other masks, the same ones in every run; the gradient goes where the values went. */
START_TEST(dropouts_share_rows)
{
    enum { COUNT = 2 * 3 * 8 * 8 };
    lun_graph *g = NULL;
    lun_store *s = NULL;
    lun_plan *plan = NULL;
    float first[COUNT], again[COUNT], second[COUNT], grad[3];
    OK(lun_store_create(&s));
    OK(lun_graph_create(s, &g));
    const lun_value rows = lun_graph_input(g, "rows", lun_typed(lun_image(2, 8, 1, 1), LUN_U32));
    const lun_value one = lun_graph_input(g, "one", lun_image(2, 3, 8, 8)),
                    zero = lun_graph_input(g, "0", lun_image(2, 3, 8, 8));
    const lun_value w = lun_graph_param(g, "w", lun_image(1, 3, 1, 1), 1, LUN_ROLE_PARAM, (lun_init){LUN_INIT_ONE, 0});
    const lun_value ones = vector(g, "1", 3, LUN_ROLE_BUFFER, (lun_init){LUN_INIT_ONE, 0});
    const lun_value nothing = vector(g, "zero", 3, LUN_ROLE_BUFFER, (lun_init){LUN_INIT_ZERO, 0});
    /* w one: a norm whose statistics are given does nothing else */
    const lun_value x = lun_batch_norm(g, one, w, nothing, nothing, ones, 1e-12f, 0, 0, 0);
    const lun_value a = lun_dropout(g, x, rows, 0.25f), b = lun_dropout(g, x, rows, 0.25f);
    lun_graph_output(g, a);
    lun_graph_output(g, b);
    const lun_value loss = lun_loss(g, a, zero, LUN_L1, 1);
    lun_graph_output(g, loss);
    lun_graph_backward(g, loss);
    OK(lun_graph_check(g));
    OK(lun_store_allocate(s, dev, 1));
    OK(lun_store_init(s, 1));
    OK(lun_graph_compile(g, dev, NULL, &plan));
    uint32_t row[2][LUN_RANDOM_ROW];
    for (int n = 0; n < 2; n++)
        lun_random_row(11, LUN_RANDOM_DROPOUT, (uint64_t)n, 0, row[n]);
    OK(lun_plan_write(plan, rows, row));
    for (int i = 0; i < COUNT; i++)
        first[i] = 3;
    OK(lun_plan_write(plan, one, first));
    memset(first, 0, sizeof first);
    OK(lun_plan_write(plan, zero, first));
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, a, first));
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, a, again));
    OK(lun_plan_read(plan, b, second));
    OK(lun_store_read(s, 0, LUN_SLOT_GRAD, grad));
    ck_assert_mem_eq(first, again, sizeof first);
    int kept[3] = {0}, both = 0, total = 0;
    for (int i = 0; i < COUNT; i++) {
        const uint32_t own = lun_random_u32(11, LUN_RANDOM_DROPOUT, (uint64_t)(i / 192), 0, (uint32_t)(i % 192));
        const uint32_t other = lun_random_u32(11, LUN_RANDOM_DROPOUT, (uint64_t)(i / 192), 1, (uint32_t)(i % 192));
        ck_assert_float_eq(first[i], own < 0x40000000u ? 0.0f : 4.0f);
        ck_assert_float_eq(second[i], other < 0x40000000u ? 0.0f : 4.0f);
        kept[i / 64 % 3] += first[i] != 0;
        total += first[i] != 0;
        both += first[i] != 0 && second[i] != 0;
    }
    /* 384 elements: 288 kept, deviation 8.5; both 216, deviation 9.7. */
    ck_assert(abs(total - 288) < 40 && abs(both - 216) < 45);
    for (int c = 0; c < 3; c++) /* d loss / d w: the kept elements' values over their number */
        ck_assert_float_eq_tol(grad[c], (float)kept[c] * 4 / COUNT, 1e-5f);
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    lun_store_destroy(&s);
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
    tcase_add_test(tc, a_residual_block_is_merged);
    tcase_add_test(tc, inner_values_keep_norms_apart);
    tcase_add_test(tc, numbers_of_a_block_stay);
    tcase_add_test(tc, dropouts_share_rows);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
