/* Concat and slice without copies (src/graph/views.c): what becomes a view, what must not, where it lies, and that the
 * numbers are the same to the last bit. */
#include <lunette/model.h>

#include "graph_net.h"

#define WIDE 64 /* channels, of which a view begins on a boundary */
#define SIDE 8
enum { COUNT = N * WIDE * SIDE * SIDE };

static int count_kind(const lun_graph *g, lun_op_kind kind)
{
    int count = 0;
    for (int n = 0; n < g->node_count; n++)
        count += g->nodes[n].op.kind == kind;
    return count;
}

static int count_views(const lun_graph *g)
{
    int count = 0;
    for (int v = 0; v < g->tensor_count; v++)
        count += lun_is_view(g, v);
    return count;
}

static int pitched(const lun_op *op)
{
    int count = 0;
    for (int s = 0; s < op->nsrc; s++)
        count += op->src_pitch[s] > 0;
    for (int d = 0; d < op->ndst; d++)
        count += op->dst_pitch[d] > 0;
    return count;
}

/* Operands are made before they are read, producers and results agree, and pitches say what views are. */
static void well_formed(const lun_graph *g)
{
    for (int v = 0; v < g->tensor_count; v++) {
        const lun_tensor *t = &g->tensors[v];
        if (!lun_is_view(g, v))
            continue;
        ck_assert_int_eq(g->tensors[t->root].root, t->root);
        ck_assert_int_le(t->first + t->desc.shape.c, g->tensors[t->root].desc.shape.c);
        ck_assert(t->grad_of < 0 && !t->output);
    }
    for (int n = 0; n < g->node_count; n++) {
        const lun_node *node = &g->nodes[n];
        if (node->whole_store)
            continue;
        for (int s = 0; s < node->op.nsrc; s++) {
            const lun_tensor *t = &g->tensors[node->src[s]];
            ck_assert(t->source != LUN_SOURCE_TEMP || (t->node >= 0 && t->node < n));
            ck_assert(lun_shape_equal(t->desc.shape, node->op.src[s].shape));
            ck_assert_int_eq(node->op.src_pitch[s],
                             lun_is_view(g, node->src[s]) ? g->tensors[t->root].desc.shape.c : 0);
        }
        for (int d = 0; d < node->op.ndst; d++) {
            const lun_tensor *t = &g->tensors[node->dst[d]];
            ck_assert_int_eq(t->node, n);
            ck_assert_int_eq(node->op.dst_pitch[d],
                             lun_is_view(g, node->dst[d]) ? g->tensors[t->root].desc.shape.c : 0);
        }
    }
}

static lun_graph *viewed(const lun_graph *g)
{
    lun_graph *f = NULL;
    OK(lun_graph_fuse(g, &f));
    OK(lun_graph_make_views(f));
    well_formed(f);
    return f;
}

/* A net whose joins meet every kind of op that can write or read a view in a training step. */
static void record_wide(net *m)
{
    const lun_init zero = {LUN_INIT_ZERO, 0}, one = {LUN_INIT_ONE, 0};
    OK(lun_store_create(&m->store));
    OK(lun_graph_create(m->store, &m->graph));
    lun_graph *g = m->graph;
    m->x = lun_graph_input(g, "x", lun_image(N, 3, SIDE, SIDE));
    m->target = lun_graph_input(g, "target", lun_image(N, 3, SIDE, SIDE));
    const lun_value skip = lun_relu(g, lun_conv2d(g, m->x, filter(g, "first", WIDE, 3, 3, 0.3f),
                                                  vector(g, "first.bias", WIDE, LUN_ROLE_PARAM, uniform(0.3f)), 1, 1));
    const lun_value down = lun_conv2d(g, skip, filter(g, "down", WIDE, WIDE, 4, 0.05f),
                                      vector(g, "down.bias", WIDE, LUN_ROLE_PARAM, uniform(0.05f)), 2, 1);
    lun_value shift = lun_linear(g, lun_graph_constant(g, "ones", lun_image(N, 1, 1, 1), (float[N]){1, -1}),
                                 filter(g, "shift", WIDE, 1, 1, 0.5f), -1);
    lun_value norm = lun_batch_norm(g, down, vector(g, "gamma", WIDE, LUN_ROLE_PARAM, one),
                                    vector(g, "beta", WIDE, LUN_ROLE_PARAM, uniform(0.1f)),
                                    vector(g, "mean", WIDE, LUN_ROLE_BUFFER, zero),
                                    vector(g, "var", WIDE, LUN_ROLE_BUFFER, one), 1e-5f, 0.1f, 1, 1);
    norm = lun_add_channel(g, norm, shift);
    const lun_value sum = lun_add(g, down, lun_conv2d(g, down, filter(g, "side", WIDE, WIDE, 1, 0.1f), -1, 1, 0));
    lun_value h = lun_conv2d(g, lun_concat(g, norm, sum), filter(g, "deep", WIDE, 2 * WIDE, 3, 0.03f), -1, 1, 1);
    h = lun_concat(g, h, h);
    h = lun_conv2d_transpose(g, h, filter(g, "up", 2 * WIDE, WIDE, 4, 0.03f),
                             vector(g, "up.bias", WIDE, LUN_ROLE_PARAM, uniform(0.1f)), 2, 1, 0);
    m->y = lun_conv2d(g, lun_concat(g, h, skip), filter(g, "last", 3, 2 * WIDE, 3, 0.1f),
                      vector(g, "last.bias", 3, LUN_ROLE_PARAM, uniform(0.1f)), 1, 1);
    m->loss = lun_loss(g, m->y, m->target, LUN_L2, 1);
    lun_graph_output(g, m->y);
    lun_graph_output(g, m->loss);
    lun_graph_backward(g, m->loss);
    OK(lun_graph_check(g));
}

static void feed_wide(const net *m, lun_plan *plan)
{
    float x[N * 3 * SIDE * SIDE], target[N * 3 * SIDE * SIDE];
    draw(x, LUN_COUNT(x), 100);
    draw(target, LUN_COUNT(target), 101);
    OK(lun_plan_write(plan, m->x, x));
    OK(lun_plan_write(plan, m->target, target));
}

/* What is an output stays no view: so all copies stay, and nothing else changes. */
static void keep_copies(lun_graph *g)
{
    for (int n = 0; n < g->node_count; n++) {
        const lun_node *node = &g->nodes[n];
        for (int s = 0; node->op.kind == LUN_OP_CONCAT && s < node->op.nsrc; s++)
            lun_graph_output(g, node->src[s]);
        if (node->op.kind == LUN_OP_SLICE)
            lun_graph_output(g, node->dst[0]);
    }
}

START_TEST(a_training_step_has_views)
{
    net m = {0};
    lun_graph *fused = NULL;
    lun_placement *copied = NULL, *placed = NULL;
    record_wide(&m);
    OK(lun_graph_fuse(m.graph, &fused));
    const int nodes = fused->node_count;
    ck_assert_int_eq(count_kind(fused, LUN_OP_CONCAT), 3);
    ck_assert_int_eq(count_kind(fused, LUN_OP_SLICE), 6);
    OK(lun_placement_create(fused, 0, &copied));
    lun_graph_free_fused(&fused);
    lun_graph *f = viewed(m.graph);
    ck_assert_int_eq(count_kind(f, LUN_OP_CONCAT), 1); /* of h and h */
    ck_assert_int_eq(count_kind(f, LUN_OP_SLICE), 0);
    ck_assert_int_eq(f->node_count, nodes - 8);
    ck_assert_int_eq(count_views(f), 4 + 6);
    int kinds[LUN_OP_KIND_COUNT] = {0};
    for (int n = 0; n < f->node_count; n++)
        kinds[f->nodes[n].op.kind] += pitched(&f->nodes[n].op);
    /* Each of them writes or reads one at least. */
    const lun_op_kind touched[] = {LUN_OP_CONV2D,        LUN_OP_CONV2D_TRANSPOSE, LUN_OP_CONV2D_WGRAD,
                                   LUN_OP_ADD,           LUN_OP_CHANNEL_SUM,      LUN_OP_BATCH_NORM_BACKWARD,
                                   LUN_OP_RELU_BACKWARD, LUN_OP_BATCH_NORM};
    for (size_t i = 0; i < LUN_COUNT(touched); i++)
        ck_assert_msg(kinds[touched[i]] > 0, "%s", lun_op_info_of(touched[i])->name);
    OK(lun_placement_create(f, 0, &placed));
    ck_assert_uint_lt(placed->arena.total, copied->arena.total);
    for (int v = 0; v < f->tensor_count; v++) {
        const lun_spot *spot = &placed->spot[v], *root = &placed->spot[f->tensors[v].root];
        if (!lun_is_view(f, v))
            continue;
        ck_assert(spot->region == LUN_REGION_ARENA && spot->pool == root->pool && !spot->inplace);
        ck_assert_uint_eq(spot->offset, root->offset + (size_t)f->tensors[v].first * 4);
        ck_assert(root->first <= spot->first && root->last >= spot->last);
    }
    lun_placement_destroy(&copied);
    lun_placement_destroy(&placed);
    lun_graph_free_fused(&f);
    end_net(&m);
}
END_TEST

typedef struct result {
    float loss, y[N * 3 * SIDE * SIDE], *grad[32];
} result;

static result run_wide(lun_device *on, bool copies, int fallbacks)
{
    net m = {0};
    lun_plan *plan = NULL;
    result r = {0};
    record_wide(&m);
    if (copies)
        keep_copies(m.graph);
    start_net(&m, on);
    OK(lun_graph_compile(m.graph, on, &(lun_compile_params){.allow_fallback = 1}, &plan));
    ck_assert_int_eq(count_views(plan->graph), copies ? 0 : 10);
    ck_assert_int_eq(lun_plan_get_info(plan).launches_fallback > 0, fallbacks);
    feed_wide(&m, plan);
    r.loss = run_loss(&m, plan);
    ck_assert_float_eq(run_loss(&m, plan), r.loss);
    OK(lun_plan_read(plan, m.y, r.y));
    for (size_t i = 0; i < lun_store_count(m.store); i++)
        if (lun_store_info(m.store, i)->role == LUN_ROLE_PARAM)
            r.grad[i] = read_slot(m.store, i, LUN_SLOT_GRAD);
    lun_plan_destroy(&plan);
    end_net(&m);
    return r;
}

static void same(const result *a, const result *b)
{
    net m = {0};
    record_wide(&m);
    ck_assert_float_eq(a->loss, b->loss);
    ck_assert_mem_eq(a->y, b->y, sizeof a->y);
    for (size_t i = 0; i < lun_store_count(m.store); i++)
        if (a->grad[i])
            ck_assert_msg(memcmp(a->grad[i], b->grad[i], elements(m.store, i) * sizeof(float)) == 0, "%s",
                          lun_store_info(m.store, i)->name);
    end_net(&m);
}

static void forget(result *r)
{
    for (size_t i = 0; i < LUN_COUNT(r->grad); i++)
        free(r->grad[i]);
}

/* Plain C with and without views; where ops fall back, and results between others' channels travel; and on two devices
 * side by side. */
START_TEST(numbers_stay)
{
    result want = run_wide(dev, true, 0), got = run_wide(dev, false, 0);
    same(&want, &got);
    forget(&got);
    lun_device *check = NULL;
    OK(lun_device_open("check:cpu,cpu", &(lun_device_params){.threads = 1}, &check));
    got = run_wide(check, false, 0);
    same(&want, &got);
    forget(&got);
    setenv("LUNETTE_DECLINE", "conv2d,conv2d_wgrad,add,batch_norm,relu_backward,channel_sum", 1);
    got = run_wide(check, false, 1);
    unsetenv("LUNETTE_DECLINE");
    same(&want, &got);
    forget(&got);
    forget(&want);
    lun_device_close(&check);
}
END_TEST

/* The notebook's network, with channels as its own are multiples of 64: its skips are views, its deepest join is not.
 */
START_TEST(a_whole_network)
{
    const lun_model_config config = {
        .image_channels = 3, .levels = 3, .channels = {WIDE, WIDE, 2 * WIDE}, .time_dim = 8, .steps = 10};
    float losses[2], *grads[2] = {NULL};
    size_t arena[2];
    for (int copies = 0; copies < 2; copies++) {
        net m = {0};
        lun_plan *plan = NULL;
        OK(lun_store_create(&m.store));
        OK(lun_graph_create(m.store, &m.graph));
        lun_graph *g = m.graph;
        m.x = lun_graph_input(g, "x", lun_image(N, 3, SIDE, SIDE));
        m.target = lun_graph_input(g, "target", lun_image(N, 3, SIDE, SIDE));
        m.t = lun_graph_input(g, "t", lun_typed(lun_image(N, 1, 1, 1), LUN_I32));
        m.y = lun_model_forward(g, &config, m.x, m.t, LUN_NORM_TRAIN);
        m.loss = lun_loss(g, m.y, m.target, LUN_L2, 1);
        lun_graph_output(g, m.loss);
        lun_graph_backward(g, m.loss);
        OK(lun_graph_check(g));
        if (copies)
            keep_copies(g);
        start_net(&m, dev);
        OK(lun_graph_compile(g, dev, NULL, &plan));
        /* One join of two sources, whose gradient has two parts; and the two parts of the deepest's. */
        ck_assert_int_eq(count_views(plan->graph), copies ? 0 : 6);
        ck_assert_int_eq(count_kind(plan->graph, LUN_OP_CONCAT), copies ? 2 : 1);
        feed_wide(&m, plan);
        OK(lun_plan_write(plan, m.t, (int32_t[N]){3, 7}));
        losses[copies] = run_loss(&m, plan);
        arena[copies] = lun_plan_get_info(plan).activation_bytes + lun_plan_get_info(plan).fixed_bytes;
        grads[copies] = read_slot(m.store, (size_t)lun_store_find(m.store, "downs.0.conv1.weight"), LUN_SLOT_GRAD);
        if (copies)
            ck_assert_mem_eq(grads[0], grads[1], WIDE * WIDE * 9 * sizeof(float));
        lun_plan_destroy(&plan);
        end_net(&m);
    }
    ck_assert_float_eq(losses[0], losses[1]);
    ck_assert_uint_lt(arena[0], arena[1]);
    free(grads[0]);
    free(grads[1]);
}
END_TEST

/* Joins of which the copy must stay, and such that look like them. Each gives |x| and x, side by side. */
START_TEST(what_stays_a_copy)
{
    enum { PLAIN, OUTPUT, WIDE_OUTPUT, INPUT, TWICE, TWO_JOINS, READER, INTERLEAVED, ODD, NEST, CASES };
    static const int views[CASES] = {2, 0, 2, 0, 0, 2, 0, 2, 0, 2};
    static const int concats[CASES] = {0, 1, 0, 1, 1, 1, 1, 0, 1, 1};
    for (int which = 0; which < CASES; which++) {
        lun_graph *g = NULL;
        lun_plan *plan = NULL;
        const int c = which == ODD ? WIDE - 1 : WIDE, count = 2 * c;
        OK(lun_graph_create(NULL, &g));
        const lun_value x = lun_graph_input(g, "x", lun_image(2, c, 1, 1));
        const lun_value t = lun_graph_input(g, "t", lun_typed(lun_image(2, 1, 1, 1), LUN_I32));
        const lun_value table = lun_graph_constant(g, "table", lun_image(1, 2, 1, 1), (float[]){1, 0});
        lun_value b = which == INPUT ? x : lun_add(g, x, x);
        lun_value a = which == INTERLEAVED ? lun_relu(g, b) : which == TWICE ? b : lun_relu(g, x);
        lun_value wide = lun_concat(g, a, b), other = -1;
        if (which == OUTPUT)
            lun_graph_output(g, b);
        if (which == WIDE_OUTPUT)
            lun_graph_output(g, wide);
        if (which == TWO_JOINS)
            lun_graph_output(g, other = lun_relu(g, lun_concat(g, b, a)));
        if (which == READER)
            lun_graph_output(g, other = lun_noise(g, a, b, t, table));
        if (which == NEST)
            lun_graph_output(g, other = lun_relu(g, lun_concat(g, wide, x)));
        const lun_value y = lun_add(g, wide, wide);
        lun_graph_output(g, y);
        OK(lun_graph_check(g));
        OK(lun_graph_compile(g, dev, NULL, &plan));
        well_formed(plan->graph);
        ck_assert_msg(count_views(plan->graph) == views[which], "case %d: %d views", which, count_views(plan->graph));
        ck_assert_msg(count_kind(plan->graph, LUN_OP_CONCAT) == concats[which], "case %d", which);
        float in[2 * WIDE], out[6 * WIDE];
        draw(in, (size_t)count, 7);
        OK(lun_plan_write(plan, x, in));
        OK(lun_plan_write(plan, t, (int32_t[]){0, 0}));
        OK(lun_plan_run(plan));
        OK(lun_plan_read(plan, y, out));
        for (int n = 0; n < 2; n++)
            for (int i = 0; i < c; i++) {
                const float v = in[n * c + i], positive = v > 0 ? v : 0, right = which == INPUT ? v : 2 * v;
                const float left = which == INTERLEAVED ? 2 * positive : which == TWICE ? 2 * v : positive;
                ck_assert_msg(out[n * 2 * c + i] == 2 * left && out[(n * 2 + 1) * c + i] == 2 * right,
                              "case %d, channel %d", which, i);
            }
        if (which == WIDE_OUTPUT) {
            OK(lun_plan_read(plan, wide, out));
            ck_assert_float_eq(out[c], 2 * in[0]);
        }
        if (other >= 0)
            OK(lun_plan_read(plan, other, out));
        if (which == TWO_JOINS)
            ck_assert_float_eq(out[c], in[0] > 0 ? in[0] : 0);
        if (which == NEST)
            ck_assert_float_eq(out[2 * c], in[0] > 0 ? in[0] : 0);
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
    }
}
END_TEST

/* A slice is a view of what a node makes; not of an input, nor where its reader cannot, nor as an output, nor of a part
 * of a join; and nothing is then placed in place of what it looks at. */
START_TEST(slices)
{
    enum { PLAIN, INPUT, READER, OUTPUT, PART, ASKEW, CASES };
    static const int views[CASES] = {1, 0, 0, 0, 2, 0};
    for (int which = 0; which < CASES; which++) {
        lun_graph *g = NULL;
        lun_plan *plan = NULL;
        OK(lun_graph_create(NULL, &g));
        const lun_value x = lun_graph_input(g, "x", lun_image(1, 2 * WIDE, 1, 2));
        const lun_value rows = lun_graph_input(g, "add", lun_image(1, WIDE, 1, 1));
        const lun_value wide = which == INPUT ? x : lun_relu(g, x);
        lun_value part = lun_slice(g, wide, which == ASKEW ? 1 : WIDE, WIDE), joined = -1;
        if (which == PART)
            lun_graph_output(g, joined = lun_relu(g, lun_concat(g, wide, lun_relu(g, wide))));
        if (which == OUTPUT)
            lun_graph_output(g, part);
        /* The first would be placed in place of `wide`, were nobody looking at it. */
        const lun_value twice = lun_relu(g, lun_add(g, wide, wide));
        const lun_value sum = which == READER ? lun_add_channel(g, part, rows) : lun_add(g, part, part);
        lun_graph_output(g, twice);
        const lun_value y = lun_relu(g, sum);
        lun_graph_output(g, y);
        OK(lun_graph_check(g));
        OK(lun_graph_compile(g, dev, NULL, &plan));
        well_formed(plan->graph);
        ck_assert_msg(count_views(plan->graph) == views[which], "case %d: %d views", which, count_views(plan->graph));
        ck_assert_int_eq(count_kind(plan->graph, LUN_OP_SLICE), which != PLAIN);
        float in[4 * WIDE], add[WIDE] = {0}, out[4 * WIDE];
        for (int i = 0; i < 4 * WIDE; i++)
            in[i] = (float)(i + 1);
        OK(lun_plan_write(plan, x, in));
        OK(lun_plan_write(plan, rows, add));
        OK(lun_plan_run(plan));
        OK(lun_plan_read(plan, y, out));
        const int first = 2 * (which == ASKEW ? 1 : WIDE);
        for (int i = 0; i < 2 * WIDE; i++)
            ck_assert_float_eq(out[i], (which == READER ? 1 : 2) * in[first + i]);
        OK(lun_plan_read(plan, twice, out));
        ck_assert_float_eq(out[0], 2);
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
    }
}
END_TEST

/* The checker knows where views belong, when a wide value is whole, and what destroys it. */
START_TEST(placement_is_checked)
{
    net m = {0};
    lun_placement *p = NULL;
    record_wide(&m);
    lun_graph *f = viewed(m.graph);
    OK(lun_placement_create(f, 0, &p));
    int moved = 0, tried = 0, caught = 0;
    for (int v = 0; v < f->tensor_count; v++) {
        if (!lun_is_view(f, v))
            continue;
        lun_spot *spot = &p->spot[v];
        const size_t old = spot->offset;
        spot->offset = old + (spot->offset == p->spot[f->tensors[v].root].offset ? 256 : (size_t)-256);
        NOT_OK(lun_placement_check(f, p, 0), LUN_ERR_INTERNAL);
        spot->offset = old;
        moved++;
    }
    ck_assert_int_eq(moved, 10);
    /* Whatever is made between the first part and the last reader of the wide value destroys it. */
    for (int v = 0; v < f->tensor_count; v++) {
        for (int w = 0; w < f->tensor_count; w++) {
            lun_spot *spot = &p->spot[v];
            const lun_spot *root = &p->spot[f->tensors[w].root];
            if (!lun_is_view(f, w) || f->tensors[v].root != v || f->tensors[w].root == v ||
                spot->region != LUN_REGION_ARENA || spot->first <= root->first || spot->first >= root->last ||
                lun_bytes(f->tensors[v].desc) + root->offset > p->arena.bytes[0] ||
                lun_bytes(f->tensors[v].desc) <= 2 * WIDE * sizeof(float)) /* within one pixel */
                continue;
            bool viewed_itself = false;
            for (int u = 0; u < f->tensor_count; u++)
                viewed_itself = viewed_itself || (u != v && f->tensors[u].root == v);
            if (viewed_itself || spot->offset == root->offset || !p->live[f->tensors[v].node])
                continue;
            const size_t old = spot->offset;
            spot->offset = root->offset;
            tried++;
            caught += lun_placement_check(f, p, 0) == LUN_ERR_INTERNAL;
            spot->offset = old;
        }
    }
    ck_assert_int_gt(tried, 20);
    ck_assert_int_eq(caught, tried);
    OK(lun_placement_check(f, p, 0));
    /* Two parts of one wide value that overlap. */
    for (int v = 0; v < f->tensor_count; v++) {
        if (!lun_is_view(f, v) || f->tensors[v].first == 0 ||
            f->nodes[f->tensors[v].node].dst[0] != v) /* a part, not a slice */
            continue;
        f->tensors[v].first = 0;
        p->spot[v].offset = p->spot[f->tensors[v].root].offset;
        NOT_OK(lun_placement_check(f, p, 0), LUN_ERR_INTERNAL);
        f->tensors[v].first = WIDE;
        p->spot[v].offset += WIDE * 4;
    }
    OK(lun_placement_check(f, p, 0));
    lun_placement_destroy(&p);
    lun_graph_free_fused(&f);
    end_net(&m);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("views");
    TCase *tc = tcase_create("views");
    tcase_add_checked_fixture(tc, open_cpu, close_cpu);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_training_step_has_views);
    tcase_add_test(tc, numbers_stay);
    tcase_add_test(tc, a_whole_network);
    tcase_add_test(tc, what_stays_a_copy);
    tcase_add_test(tc, slices);
    tcase_add_test(tc, placement_is_checked);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
