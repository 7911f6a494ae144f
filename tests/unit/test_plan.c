/* Placing, compiling and running; the store. */
#include "device/null.h"
#include "graph_net.h"

/* ---- memory ---- */

START_TEST(placement_is_checked)
{
    net m = {0};
    record_net(&m, true);
    lun_placement *p = NULL;
    OK(lun_placement_create(m.graph, 0, &p));
    ck_assert_int_eq(p->arena.count, 1);
    ck_assert_uint_gt(p->saved_bytes, 0);
    ck_assert_uint_gt(p->temporary_bytes, 0);
    /* Sharing in time saves something, and in-place happens. */
    ck_assert_uint_lt(p->arena.total, p->saved_bytes + p->temporary_bytes);
    int inplace = 0;
    for (int v = 0; v < m.graph->tensor_count; v++)
        inplace += p->spot[v].inplace;
    ck_assert_int_gt(inplace, 2);
    /* The checker must see: two values that live at once moved onto each other, a value outside, an offset off the
     * grid. */
    int caught = 0, tried = 0;
    for (int a = 0; a < m.graph->tensor_count; a++) {
        for (int b = a + 1; b < m.graph->tensor_count; b++) {
            lun_spot *x = &p->spot[a], *y = &p->spot[b];
            if (x->region != LUN_REGION_ARENA || y->region != LUN_REGION_ARENA || x->offset == y->offset)
                continue;
            if (!(x->first < y->first && y->first < x->last)) /* b is written while a waits for a reader */
                continue;
            const size_t old = y->offset;
            y->offset = x->offset;
            if (lun_bytes(m.graph->tensors[b].desc) <= p->arena.bytes[0] - x->offset) {
                tried++;
                caught += lun_placement_check(m.graph, p, 0) == LUN_ERR_INTERNAL;
            }
            y->offset = old;
        }
    }
    ck_assert_int_gt(tried, 20);
    ck_assert_int_eq(caught, tried);
    /* A result on an operand that dies there, but that the op must not overwrite. */
    caught = tried = 0;
    for (int n = 0; n < m.graph->node_count; n++) {
        const lun_node *node = &m.graph->nodes[n];
        for (int i = 0; i < node->op.nsrc; i++) {
            lun_spot *to = &p->spot[node->src[i]], *from = &p->spot[node->dst[0]];
            if (to->region != LUN_REGION_ARENA || from->region != LUN_REGION_ARENA || to->last != n ||
                lun_op_info_of(node->op.kind)->inplace >> i & 1)
                continue;
            const size_t old = from->offset;
            from->offset = to->offset;
            tried++;
            caught += lun_placement_check(m.graph, p, 0) == LUN_ERR_INTERNAL;
            from->offset = old;
        }
    }
    ck_assert_int_gt(tried, 2);
    ck_assert_int_eq(caught, tried);
    OK(lun_placement_check(m.graph, p, 0));
    NOT_OK(lun_placement_check(m.graph, p, p->arena.total - 256), LUN_ERR_INTERNAL);
    for (int v = 0; v < m.graph->tensor_count; v++) {
        if (p->spot[v].region != LUN_REGION_FIXED)
            continue;
        p->spot[v].offset += p->fixed.total;
        NOT_OK(lun_placement_check(m.graph, p, 0), LUN_ERR_INTERNAL);
        p->spot[v].offset -= p->fixed.total;
    }
    lun_placement_destroy(&p);
    end_net(&m);
}
END_TEST

/* An operand that may be overwritten in one position and not in the other must stay. */
START_TEST(inplace_looks_at_every_position)
{
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    OK(lun_graph_create(NULL, &g));
    const lun_value x = lun_graph_input(g, "x", lun_image(2, 4, 1, 1)), once = lun_add(g, x, x);
    const lun_value both = lun_add_channel(g, once, once), next = lun_relu(g, both), end = lun_add(g, next, next);
    lun_graph_output(g, end);
    OK(lun_graph_compile(g, dev, NULL, &plan));
    ck_assert(!plan->placement->spot[both].inplace);
    ck_assert(plan->placement->spot[next].inplace);
    OK(lun_plan_write(plan, x, (float[]){1, 2, 3, 4, 5, 6, 7, -8}));
    OK(lun_plan_run(plan));
    float got[8];
    OK(lun_plan_read(plan, end, got));
    ck_assert_mem_eq(got, ((float[]){8, 16, 24, 32, 40, 48, 56, 0}), sizeof got);
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
}
END_TEST

START_TEST(allocations_are_split)
{
    net m = {0};
    record_net(&m, true);
    size_t largest = 0;
    for (int v = 0; v < m.graph->tensor_count; v++)
        if (lun_bytes(m.graph->tensors[v].desc) > largest)
            largest = lun_bytes(m.graph->tensors[v].desc);
    largest = (largest + 255) / 256 * 256;
    lun_placement *p = NULL;
    for (size_t limit = largest; limit < 16 * largest; limit += 256 * 3) {
        OK(lun_placement_create(m.graph, limit, &p));
        OK(lun_placement_check(m.graph, p, limit));
        if (limit == largest)
            ck_assert_int_gt(p->arena.count, 2);
        lun_placement_destroy(&p);
    }
    NOT_OK(lun_placement_create(m.graph, largest - 256, &p), LUN_ERR_MEMORY);
    ck_assert_ptr_null(p);
    end_net(&m);

    /* The whole step under a limit is the same to the last bit. */
    float *grads[2][32] = {{0}};
    float losses[2];
    const size_t free_limit = dev->caps.max_alloc;
    for (int run = 0; run < 2; run++) {
        lun_plan *plan = NULL;
        record_net(&m, true);
        dev->caps.max_alloc = free_limit;
        /* The workspace is no tensor and has its own minimum. */
        if (run == 1)
            dev->caps.max_alloc = 32768;
        dev->info.max_alloc_bytes = run == 1 ? 2048 : 0; /* the store's chunks */
        start_net(&m, dev);
        ck_assert_int_eq(m.store->trained_chunks > 1, run == 1);
        OK(lun_graph_compile(m.graph, dev, NULL, &plan));
        feed_net(&m, plan);
        losses[run] = run_loss(&m, plan);
        for (size_t i = 0; i < lun_store_count(m.store); i++)
            if (lun_store_info(m.store, i)->role == LUN_ROLE_PARAM)
                grads[run][i] = read_slot(m.store, i, LUN_SLOT_GRAD);
        if (run == 1)
            for (size_t i = 0; i < lun_store_count(m.store); i++)
                if (grads[0][i])
                    ck_assert_mem_eq(grads[0][i], grads[1][i], elements(m.store, i) * sizeof(float));
        lun_plan_destroy(&plan);
        end_net(&m);
    }
    ck_assert_float_eq(losses[0], losses[1]);
    dev->caps.max_alloc = free_limit;
    for (int i = 0; i < 32; i++) {
        free(grads[0][i]);
        free(grads[1][i]);
    }
}
END_TEST

START_TEST(running_allocates_nothing)
{
    net m = {0};
    lun_plan *plan = NULL;
    record_net(&m, true);
    start_net(&m, dev);
    OK(lun_graph_compile(m.graph, dev, NULL, &plan));
    size_t now[2], peak[2];
    lun_device_memory(dev, &now[0], &peak[0]);
    feed_net(&m, plan);
    const float first = run_loss(&m, plan);
    for (int i = 0; i < 5; i++)
        ck_assert_float_eq(run_loss(&m, plan), first); /* and it repeats bit for bit */
    lun_device_memory(dev, &now[1], &peak[1]);
    ck_assert_uint_eq(now[0], now[1]);
    ck_assert_uint_eq(peak[0], peak[1]);
    const lun_plan_info info = lun_plan_get_info(plan);
    size_t store = 0;
    for (int slot = 0; slot < 4; slot++)
        store += lun_store_bytes(m.store, (lun_slot)slot);
    ck_assert_uint_eq(now[1], info.activation_bytes + info.fixed_bytes + info.workspace_bytes + store);
    ck_assert_uint_eq(info.nodes, (size_t)plan->step_count);
    ck_assert_uint_eq(info.launches_fallback, 0);
    ck_assert(info.flops > 0 && info.bytes > 0);
    lun_plan_destroy(&plan);
    end_net(&m);
}
END_TEST

/* ---- the store ---- */

START_TEST(store_draws_and_permutes)
{
    net m = {0};
    record_net(&m, false);
    float nothing[4];
    NOT_OK(lun_store_read(m.store, 0, LUN_SLOT_VALUE, nothing), LUN_ERR_USAGE);
    dev->info.max_alloc_bytes = 2048;
    start_net(&m, dev);
    uint64_t trained = 0;
    for (size_t i = 0; i < lun_store_count(m.store); i++) {
        const lun_param_info *info = lun_store_info(m.store, i);
        float *value = read_slot(m.store, i, LUN_SLOT_VALUE);
        ck_assert_int_eq(lun_store_find(m.store, info->name), (int)i);
        for (size_t e = 0; e < elements(m.store, i); e++) {
            const float u = lun_random_uniform(1, LUN_RANDOM_INIT, i, 0, (uint32_t)e);
            ck_assert_float_eq(value[e], info->init.kind == LUN_INIT_UNIFORM ? info->init.bound * (2 * u - 1)
                                                                             : info->init.kind == LUN_INIT_ONE);
        }
        if (info->role == LUN_ROLE_PARAM) {
            trained += elements(m.store, i);
        } else {
            NOT_OK(lun_store_read(m.store, i, LUN_SLOT_GRAD, value), LUN_ERR_USAGE);
        }
        draw(value, elements(m.store, i), i);
        OK(lun_store_write(m.store, i, LUN_SLOT_VALUE, value));
        float *again = read_slot(m.store, i, LUN_SLOT_VALUE);
        ck_assert_mem_eq(value, again, elements(m.store, i) * sizeof(float));
        ck_assert_uint_eq(m.store->entries[i].offset % 256, 0);
        free(again);
        free(value);
    }
    ck_assert_uint_eq(lun_store_param_elements(m.store), trained);
    ck_assert_uint_ge(lun_store_bytes(m.store, LUN_SLOT_GRAD), trained * 4);
    ck_assert_uint_gt(lun_store_bytes(m.store, LUN_SLOT_VALUE), lun_store_bytes(m.store, LUN_SLOT_M));
    /* conv.weight lies as R S C K. */
    const int w = lun_store_find(m.store, "conv.weight");
    float *value = read_slot(m.store, (size_t)w, LUN_SLOT_VALUE), stored[4 * 3 * 9];
    OK(lun_buffer_read(lun_store_place(m.store, w, LUN_SLOT_VALUE), stored, sizeof stored));
    ck_assert_float_eq(stored[((2 * 3 + 1) * 3 + 2) * 4 + 3], value[((3 * 3 + 2) * 3 + 2) * 3 + 1]);
    free(value);
    ck_assert_int_eq(lun_store_find(m.store, "nothing"), -1);
    ck_assert_ptr_null(lun_store_info(m.store, 999));
    NOT_OK(lun_store_allocate(m.store, dev, 1), LUN_ERR_USAGE);
    end_net(&m);
}
END_TEST

START_TEST(two_graphs_share_a_store)
{
    net m = {0};
    lun_graph *second = NULL;
    lun_plan *a = NULL, *b = NULL;
    record_net(&m, true);
    NOT_OK(lun_graph_compile(m.graph, dev, NULL, &a), LUN_ERR_USAGE); /* no memory yet */
    OK(lun_graph_create(m.store, &second));
    const lun_value v = vector(second, "out.bias", 3, LUN_ROLE_PARAM, uniform(9));
    const lun_value mean = vector(second, "norm.running_mean", 4, LUN_ROLE_BUFFER, (lun_init){LUN_INIT_ZERO, 0});
    const lun_value twice = lun_add(second, v, v), same = lun_add(second, mean, mean);
    lun_graph_output(second, twice);
    lun_graph_output(second, same);
    start_net(&m, dev);
    OK(lun_graph_compile(m.graph, dev, NULL, &a));
    OK(lun_graph_compile(second, dev, NULL, &b));
    const float bias[3] = {1, 2, 3};
    OK(lun_store_write(m.store, (size_t)lun_store_find(m.store, "out.bias"), LUN_SLOT_VALUE, bias));
    feed_net(&m, a);
    run_loss(&m, a);
    OK(lun_plan_run(b));
    float got[3], mean_twice[4], mean_now[4];
    OK(lun_plan_read(b, twice, got));
    for (int i = 0; i < 3; i++)
        ck_assert_float_eq(got[i], 2 * bias[i]);
    /* What the first graph updated in place, the second reads. */
    OK(lun_plan_read(b, same, mean_twice));
    OK(lun_store_read(m.store, (size_t)lun_store_find(m.store, "norm.running_mean"), LUN_SLOT_VALUE, mean_now));
    for (int i = 0; i < 4; i++) {
        ck_assert(mean_now[i] != 0);
        ck_assert_float_eq(mean_twice[i], 2 * mean_now[i]);
    }
    filter(second, "late", 1, 1, 1, 1);
    NOT_OK(lun_graph_check(second), LUN_ERR_USAGE);
    lun_plan_destroy(&a);
    lun_plan_destroy(&b);
    lun_graph_destroy(&second);
    end_net(&m);
}
END_TEST

/* ---- running ---- */

START_TEST(states_live_from_run_to_run)
{
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    OK(lun_graph_create(NULL, &g));
    const lun_value ring = lun_graph_state(g, "ring", lun_image(1, 5, 1, 1)),
                    x = lun_graph_input(g, "x", lun_image(1, 1, 1, 1));
    const lun_value slot = lun_graph_input(g, "slot", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
    const lun_value y = lun_add(g, x, x), unused = lun_relu(g, y);
    lun_store_at(g, ring, y, slot);
    OK(lun_graph_compile(g, dev, NULL, &plan));
    ck_assert_int_eq(plan->step_count, 2); /* nothing needs the relu */
    float got[5], in;
    OK(lun_plan_read(plan, ring, got));
    for (int i = 0; i < 5; i++)
        ck_assert_float_eq(got[i], 0);
    for (int32_t i = 0; i < 4; i++) {
        in = (float)(i + 1);
        OK(lun_plan_write(plan, x, &in));
        OK(lun_plan_write(plan, slot, &i));
        OK(lun_plan_run(plan));
    }
    OK(lun_plan_read(plan, ring, got));
    ck_assert_mem_eq(got, ((float[]){2, 4, 6, 8, 0}), sizeof got);
    OK(lun_plan_write(plan, ring, (float[]){9, 9, 9, 9, 9}));
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, ring, got));
    ck_assert_mem_eq(got, ((float[]){9, 9, 9, 8, 9}), sizeof got);
    OK(lun_plan_read(plan, x, &in));
    ck_assert_float_eq(in, 4);
    /* Only what was asked for can be read, and only inputs and states written. */
    NOT_OK(lun_plan_read(plan, unused, got), LUN_ERR_USAGE);
    NOT_OK(lun_plan_read(plan, 99, got), LUN_ERR_USAGE);
    NOT_OK(lun_plan_write(plan, y, got), LUN_ERR_USAGE);
    NOT_OK(lun_plan_copy(plan, ring, x), LUN_ERR_USAGE);
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
}
END_TEST

/* On each device: the sampler feeds itself this way. */
START_TEST(results_copied_to_inputs)
{
    static const char *const specs[] = {"cpu", "opencl", "check"};
    for (size_t d = 0; d < LUN_COUNT(specs); d++) {
        lun_device *on = NULL;
        lun_graph *g = NULL;
        lun_plan *plan = NULL;
        if (lun_device_open(specs[d], NULL, &on) != LUN_OK) {
            printf("skipped %s: %s\n", specs[d], lun_error_detail());
            continue;
        }
        OK(lun_graph_create(NULL, &g));
        const lun_value x = lun_graph_input(g, "x", lun_image(2, 3, 4, 5)), y = lun_add(g, x, x);
        lun_graph_output(g, y);
        OK(lun_graph_compile(g, on, NULL, &plan));
        float start[120], got[120];
        draw(start, 120, 1);
        OK(lun_plan_write(plan, x, start));
        for (int i = 0; i < 3; i++) {
            OK(lun_plan_run(plan));
            OK(lun_plan_copy(plan, x, y));
        }
        OK(lun_plan_read(plan, x, got));
        for (int i = 0; i < 120; i++)
            ck_assert_float_eq(got[i], 8 * start[i]);
        lun_plan_destroy(&plan);
        lun_graph_destroy(&g);
        lun_device_close(&on);
    }
}
END_TEST

START_TEST(time_embedding_values)
{
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    OK(lun_graph_create(NULL, &g));
    const lun_value t = lun_graph_input(g, "t", lun_typed(lun_image(2, 1, 1, 1), LUN_I32)),
                    e = lun_time_embed(g, t, 300, 32);
    lun_graph_output(g, e);
    OK(lun_graph_compile(g, dev, NULL, &plan));
    OK(lun_plan_write(plan, t, (int32_t[]){0, 299}));
    OK(lun_plan_run(plan));
    float got[64];
    OK(lun_plan_read(plan, e, got));
    for (int k = 0; k < 16; k++) {
        const double f = pow(10000, -k / 15.0);
        ck_assert_float_eq(got[k], 0);
        ck_assert_float_eq(got[16 + k], 1);
        ck_assert_float_eq_tol(got[32 + k], (float)sin(299 * f), 1e-6f);
        ck_assert_float_eq_tol(got[48 + k], (float)cos(299 * f), 1e-6f);
    }
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
}
END_TEST

/* Three steps of Adam and AdamW over several chunks, against the formula in double. */
START_TEST(adam_moves_parameters)
{
    for (int decoupled = 0; decoupled < 2; decoupled++) {
        net m = {0};
        lun_plan *plan = NULL;
        record_net(&m, true);
        const double beta1 = 0.9, beta2 = 0.99, eps = 1e-3, decay = 0.1, lr = 0.05;
        const lun_value hyper = lun_graph_input(m.graph, "hyper", lun_image(1, 4, 1, 1));
        lun_graph_adam(m.graph, hyper, beta1, beta2, eps, decay, decoupled);
        dev->info.max_alloc_bytes = 2048;
        start_net(&m, dev);
        OK(lun_graph_compile(m.graph, dev, NULL, &plan));
        feed_net(&m, plan);
        const size_t i = (size_t)lun_store_find(m.store, "conv.weight"),
                     buffer = (size_t)lun_store_find(m.store, "norm.running_var");
        double p[108], mean[108] = {0}, square[108] = {0};
        float *start = read_slot(m.store, i, LUN_SLOT_VALUE);
        for (int e = 0; e < 108; e++)
            p[e] = start[e];
        for (int step = 1; step <= 3; step++) {
            const float h[4] = {(float)lr, (float)(1 - pow(beta1, step)), (float)sqrt(1 - pow(beta2, step)), 0};
            OK(lun_plan_write(plan, hyper, h));
            run_loss(&m, plan);
            float *grad = read_slot(m.store, i, LUN_SLOT_GRAD), *got = read_slot(m.store, i, LUN_SLOT_VALUE);
            float *first = read_slot(m.store, i, LUN_SLOT_M), *second = read_slot(m.store, i, LUN_SLOT_V);
            for (int e = 0; e < 108; e++) {
                double g = grad[e];
                if (decoupled)
                    p[e] -= lr * decay * p[e];
                else
                    g += decay * p[e];
                mean[e] = beta1 * mean[e] + (1 - beta1) * g;
                square[e] = beta2 * square[e] + (1 - beta2) * g * g;
                p[e] -= lr / (1 - pow(beta1, step)) * mean[e] / (sqrt(square[e]) / sqrt(1 - pow(beta2, step)) + eps);
                ck_assert(fabs(first[e] - mean[e]) <= 1e-6 && fabs(second[e] - square[e]) <= 1e-6);
                ck_assert_msg(fabs(got[e] - p[e]) <= 2e-5, "step %d element %d: %g, not %g", step, e, (double)got[e],
                              p[e]);
            }
            ck_assert(fabs(p[0] - (double)start[0]) > 0.01);
            free(grad);
            free(got);
            free(first);
            free(second);
        }
        free(start);
        /* Every trained tensor moved; statistics were not decayed; the padding between tensors is still zero. */
        float *variance = read_slot(m.store, buffer, LUN_SLOT_VALUE);
        ck_assert(variance[0] > 0.5f && variance[0] < 1.0f);
        free(variance);
        int padding = 0;
        for (int c = 0; c < m.store->trained_chunks; c++) {
            const size_t words = m.store->chunks[c].bytes / 4;
            float *all = malloc(words * 4);
            OK(lun_buffer_read((lun_place){m.store->chunks[c].buffer[LUN_SLOT_VALUE], 0}, all, words * 4));
            for (int k = 0; k < m.store->count; k++) {
                const lun_store_entry *entry = &m.store->entries[k];
                if (entry->chunk != c)
                    continue;
                for (size_t w = entry->offset / 4 + elements(m.store, (size_t)k); w % 64; w++, padding++)
                    ck_assert(all[w] == 0);
            }
            free(all);
        }
        ck_assert_int_gt(padding, 100);
        ck_assert_int_gt(m.store->trained_chunks, 1);
        lun_plan_destroy(&plan);
        end_net(&m);
    }
}
END_TEST

/* ---- candidates and fallback ---- */

typedef struct seen {
    int count, fallback;
    char op[64][128], candidate[64][64];
    double seconds;
} seen;

static void see(void *payload, const lun_plan_op *op)
{
    seen *s = payload;
    ck_assert_int_lt(s->count, 64);
    snprintf(s->op[s->count], 128, "%s", op->description);
    snprintf(s->candidate[s->count++], 64, "%s", op->candidate);
    s->fallback += op->fallback;
    s->seconds += op->seconds;
    ck_assert_ptr_nonnull(strstr(op->description, op->kind));
}

static const char *pin_seen(void *payload, const char *op)
{
    const seen *s = payload;
    for (int i = 0; i < s->count; i++)
        if (strncmp(s->op[i], op, 127) == 0)
            return s->candidate[i];
    return NULL;
}

static const char *pin_wrong(void *payload, const char *op)
{
    (void)payload;
    return strncmp(op, "concat ", 7) == 0 ? "no_such_kernel" : NULL;
}

START_TEST(candidates_are_pinned)
{
    net m = {0};
    lun_plan *plan = NULL, *again = NULL;
    static seen first, second;
    memset(&first, 0, sizeof first);
    memset(&second, 0, sizeof second);
    record_net(&m, true);
    start_net(&m, dev);
    OK(lun_graph_compile(m.graph, dev, NULL, &plan));
    lun_plan_visit(plan, see, &first);
    ck_assert_int_eq(first.count, plan->step_count);
    OK(lun_graph_compile(m.graph, dev, &(lun_compile_params){.pin = pin_seen, .payload = &first}, &again));
    OK(lun_plan_profile(again, 3, see, &second));
    ck_assert_int_eq(second.count, first.count);
    ck_assert(second.seconds > 0);
    for (int i = 0; i < first.count; i++)
        ck_assert_str_eq(first.candidate[i], second.candidate[i]);
    lun_plan_destroy(&again);
    NOT_OK(lun_graph_compile(m.graph, dev, &(lun_compile_params){.pin = pin_wrong}, &again), LUN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "no_such_kernel"));
    ck_assert_ptr_null(again);
    /* The listing shows all of it. */
    FILE *file = tmpfile();
    ck_assert_ptr_nonnull(file);
    OK(lun_graph_dump(m.graph, plan, file));
    OK(lun_graph_dump(m.graph, NULL, file));
    static char text[1 << 17];
    rewind(file);
    text[fread(text, 1, sizeof text - 1, file)] = 0;
    fclose(file);
    ck_assert_ptr_nonnull(strstr(text, "-- backward"));
    ck_assert_ptr_nonnull(strstr(text, "gradient of conv.weight"));
    for (int i = 0; i < first.count; i++)
        ck_assert_ptr_nonnull(strstr(text, first.op[i]));
    lun_plan_destroy(&plan);
    end_net(&m);
}
END_TEST

static int warnings;

static void count_warning(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    if (level == LUN_LOG_WARN && strstr(line, "plain C"))
        warnings++;
}

START_TEST(refusal_without_fallback)
{
    net m = {0};
    lun_device *null = NULL;
    lun_plan *plan = NULL;
    OK(lun_device_open("null", NULL, &null));
    record_net(&m, true);
    start_net(&m, null);
    NOT_OK(lun_graph_compile(m.graph, dev, NULL, &plan), LUN_ERR_USAGE); /* the store lies elsewhere */
    OK(lun_graph_compile(m.graph, null, NULL, &plan));
    const uint64_t ops = lun_null_get_counts(null).ops;
    OK(lun_plan_run(plan));
    OK(lun_plan_run(plan));
    ck_assert_uint_eq(lun_null_get_counts(null).ops - ops, 2 * lun_plan_get_info(plan).nodes); /* a run only enqueues */
    lun_plan_destroy(&plan);
    setenv("LUNETTE_DECLINE", "concat", 1);
    const lun_status status = lun_graph_compile(m.graph, null, NULL, &plan);
    unsetenv("LUNETTE_DECLINE");
    ck_assert_int_eq(status, LUN_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "concat 2x4x6x6"));
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "LUNETTE_DECLINE"));
    ck_assert_ptr_null(plan);
    size_t now = 1;
    end_net(&m);
    lun_device_memory(null, &now, NULL);
    ck_assert_uint_eq(now, 0);
    lun_device_close(&null);
}
END_TEST

/* The step on `on`, with some ops declined: the same as in plain C. */
static void compare_with_fallback(lun_device *on)
{
    net m = {0};
    lun_plan *plan = NULL;
    float *want[32] = {0}, loss[2];
    for (int side = 0; side < 2; side++) {
        lun_device *used = side ? on : dev;
        static seen ops;
        memset(&ops, 0, sizeof ops);
        record_net(&m, true);
        lun_graph_adam(m.graph, lun_graph_input(m.graph, "hyper", lun_image(1, 4, 1, 1)), 0.9, 0.999, 1e-8, 0, 0);
        start_net(&m, used);
        if (side)
            setenv("LUNETTE_DECLINE", "conv2d,concat,relu_backward,batch_norm,adam,loss", 1);
        warnings = 0;
        lun_log_set(count_warning, NULL, LUN_LOG_WARN);
        const lun_status status = lun_graph_compile(m.graph, used, &(lun_compile_params){.allow_fallback = 1}, &plan);
        lun_log_set(NULL, NULL, LUN_LOG_WARN);
        OK(status);
        lun_plan_visit(plan, see, &ops);
        ck_assert_int_eq(warnings, side ? 6 : 0);
        ck_assert_uint_eq(lun_plan_get_info(plan).launches_fallback, (size_t)ops.fallback);
        ck_assert_int_eq(ops.fallback > 6, side);
        if (side) { /* what is recorded can be pinned, without the list, and is then refused only if fallback is */
            lun_plan *pinned = NULL;
            unsetenv("LUNETTE_DECLINE");
            OK(lun_graph_compile(
                m.graph, used, &(lun_compile_params){.allow_fallback = 1, .pin = pin_seen, .payload = &ops}, &pinned));
            ck_assert_uint_eq(lun_plan_get_info(pinned).launches_fallback, (size_t)ops.fallback);
            lun_plan_destroy(&pinned);
            NOT_OK(lun_graph_compile(m.graph, used, &(lun_compile_params){.pin = pin_seen, .payload = &ops}, &pinned),
                   LUN_ERR_USAGE);
        }
        feed_net(&m, plan);
        OK(lun_plan_write(plan, m.graph->nodes[m.graph->node_count - 1].src[0], (float[]){1e-3f, 0.1f, 0.0316f, 0}));
        loss[side] = run_loss(&m, plan);
        for (size_t i = 0; i < lun_store_count(m.store); i++) {
            const size_t count = elements(m.store, i);
            if (lun_store_info(m.store, i)->role != LUN_ROLE_PARAM)
                continue;
            float *grad = read_slot(m.store, i, LUN_SLOT_GRAD), error = 0, norm = 0;
            for (size_t e = 0; side && e < count; e++) {
                error += (grad[e] - want[i][e]) * (grad[e] - want[i][e]);
                norm += want[i][e] * want[i][e];
            }
            ck_assert_msg(error <= 1e-10f * norm, "%s: %g of %g", lun_store_info(m.store, i)->name, (double)error,
                          (double)norm);
            if (side) {
                free(grad);
                free(want[i]);
            } else {
                want[i] = grad;
            }
        }
        lun_plan_destroy(&plan);
        end_net(&m);
    }
    ck_assert_float_eq_tol(loss[0], loss[1], 1e-5f * loss[0]);
}

START_TEST(fallback_equals_plain_c)
{
    lun_device *opencl = NULL;
    if (lun_device_open("opencl", NULL, &opencl) != LUN_OK) {
        printf("skipped: %s\n", lun_error_detail());
        return;
    }
    compare_with_fallback(opencl);
    lun_device_close(&opencl);
}
END_TEST

/* Every op of a training step side by side in plain C and OpenCL; memory that one of them finds reused too early would
 * differ. */
START_TEST(devices_agree)
{
    lun_device *both = NULL;
    net m = {0};
    lun_plan *plan = NULL;
    if (lun_device_open("check:cpu,opencl", NULL, &both) != LUN_OK) {
        printf("skipped: %s\n", lun_error_detail());
        return;
    }
    record_net(&m, true);
    start_net(&m, both);
    OK(lun_graph_compile(m.graph, both, NULL, &plan));
    feed_net(&m, plan);
    run_loss(&m, plan);
    lun_plan_destroy(&plan);
    end_net(&m);
    lun_device_close(&both);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *tc = tcase_create("plan");
    tcase_add_checked_fixture(tc, open_cpu, close_cpu);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, placement_is_checked);
    tcase_add_test(tc, inplace_looks_at_every_position);
    tcase_add_test(tc, allocations_are_split);
    tcase_add_test(tc, running_allocates_nothing);
    tcase_add_test(tc, store_draws_and_permutes);
    tcase_add_test(tc, two_graphs_share_a_store);
    tcase_add_test(tc, states_live_from_run_to_run);
    tcase_add_test(tc, results_copied_to_inputs);
    tcase_add_test(tc, time_embedding_values);
    tcase_add_test(tc, adam_moves_parameters);
    tcase_add_test(tc, candidates_are_pinned);
    tcase_add_test(tc, refusal_without_fallback);
    tcase_add_test(tc, fallback_equals_plain_c);
    tcase_add_test(tc, devices_agree);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
