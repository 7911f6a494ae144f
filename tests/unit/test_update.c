/* What works on the whole store: accumulated gradients, their norm, Adam with a scale, moving averages, and graphs that
 * run on an average. */
#include "graph_net.h"

static void setup(void)
{
    open_cpu();
}

/* ---- A network without batch norms, whose batch may come in parts ------------------------------------------------ */

enum { BATCH = 16, SIDE = 5, PIXELS_EACH = 3 * SIDE * SIDE };

typedef struct plain {
    lun_store *store;
    lun_graph *graph;
    lun_plan *plan;
    lun_value x, target, first, loss;
} plain;

/* `parts` 1: gradients in LUN_SLOT_GRAD; else in LUN_SLOT_SUM after that many runs. */
static void make_plain(plain *m, int parts)
{
    const int batch = BATCH / parts;
    memset(m, 0, sizeof *m);
    OK(lun_store_create(&m->store));
    OK(lun_graph_create(m->store, &m->graph));
    lun_graph *g = m->graph;
    m->x = lun_graph_input(g, "x", lun_image(batch, 3, SIDE, SIDE));
    m->target = lun_graph_input(g, "target", lun_image(batch, 3, SIDE, SIDE));
    lun_value h = lun_conv2d(g, m->x, filter(g, "a.weight", 8, 3, 3, 0.3f),
                             vector(g, "a.bias", 8, LUN_ROLE_PARAM, uniform(0.3f)), 1, 1);
    h = lun_conv2d(g, lun_relu(g, h), filter(g, "b.weight", 3, 8, 3, 0.2f),
                   vector(g, "b.bias", 3, LUN_ROLE_PARAM, uniform(0.2f)), 1, 1);
    m->loss = lun_loss(g, h, m->target, LUN_L2, 1);
    lun_graph_output(g, m->loss);
    lun_graph_backward_weighted(g, m->loss, 1.0 / parts);
    if (parts > 1) {
        m->first = lun_graph_input(g, "first", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
        lun_graph_accumulate(g, m->first);
    }
    OK(lun_graph_check(g));
    OK(lun_store_allocate(m->store, dev, 1));
    OK(lun_store_init(m->store, 1));
    OK(lun_graph_compile(g, dev, NULL, &m->plan));
}

static void end_plain(plain *m)
{
    lun_plan_destroy(&m->plan);
    lun_graph_destroy(&m->graph);
    lun_store_destroy(&m->store);
}

static float run_part(plain *m, int parts, int part)
{
    static float x[BATCH * PIXELS_EACH], target[BATCH * PIXELS_EACH];
    const int32_t first = part == 0;
    float loss = NAN;
    draw(x, LUN_COUNT(x), 200);
    draw(target, LUN_COUNT(target), 201);
    const size_t offset = (size_t)part * (size_t)(BATCH / parts) * PIXELS_EACH;
    OK(lun_plan_write(m->plan, m->x, x + offset));
    OK(lun_plan_write(m->plan, m->target, target + offset));
    if (parts > 1)
        OK(lun_plan_write(m->plan, m->first, &first));
    OK(lun_plan_run(m->plan));
    OK(lun_plan_read(m->plan, m->loss, &loss));
    return loss;
}

/* 1 x 16, 4 x 4, 16 x 1: one gradient, to rounding. An element is a sum of 16 x 25 products and more: two orders differ
 * by about sqrt(400) u of the terms' size, 1.2e-6; the gradient is not much smaller than its terms here. */
START_TEST(accumulated_gradients_are_those_of_the_batch)
{
    plain whole;
    make_plain(&whole, 1);
    const float loss = run_part(&whole, 1, 0);
    for (int parts = 4; parts <= 16; parts *= 4) {
        plain m;
        double mean = 0, error = 0, size = 0;
        make_plain(&m, parts);
        /* twice: the second time begins anew */
        for (int run = 0; run < 2 * parts; run++)
            mean += (double)run_part(&m, parts, run % parts) / (2 * parts);
        ck_assert(fabs(mean - (double)loss) <= 1e-6 * (double)loss);
        for (size_t i = 0; i < lun_store_count(whole.store); i++) {
            float *want = read_slot(whole.store, i, LUN_SLOT_GRAD), *got = read_slot(m.store, i, LUN_SLOT_SUM);
            for (size_t e = 0; e < elements(whole.store, i); e++) {
                error += pow((double)got[e] - (double)want[e], 2);
                size += pow((double)want[e], 2);
            }
            free(want);
            free(got);
        }
        ck_assert(size > 0);
        ck_assert_msg(sqrt(error / size) <= 2e-6, "%d parts: %g", parts, sqrt(error / size));
        end_plain(&m);
    }
    end_plain(&whole);
}
END_TEST

/* The order of the parts decides the bits, and nothing else does. */
START_TEST(accumulation_repeats_bit_for_bit)
{
    plain a, b;
    make_plain(&a, 4);
    make_plain(&b, 4);
    for (int part = 0; part < 4; part++) {
        run_part(&a, 4, part);
        run_part(&b, 4, part);
        run_part(&b, 4, part == 0 ? 0 : 3); /* rubbish that the next first part forgets */
    }
    for (int part = 0; part < 4; part++)
        run_part(&b, 4, part);
    for (size_t i = 0; i < lun_store_count(a.store); i++) {
        float *x = read_slot(a.store, i, LUN_SLOT_SUM), *y = read_slot(b.store, i, LUN_SLOT_SUM);
        ck_assert_int_eq(memcmp(x, y, elements(a.store, i) * sizeof *x), 0);
        free(x);
        free(y);
    }
    end_plain(&a);
    end_plain(&b);
}
END_TEST

/* ---- Norm, scale, averages -------------------------------------------------------------------------------------- */

/* Three steps over several chunks: the norm, the scale and what Adam makes of them, against the formulas in double. */
START_TEST(adam_takes_the_clipped_gradient)
{
    static const double limits[] = {0.25, 1e9};
    for (size_t k = 0; k < LUN_COUNT(limits); k++) {
        net m = {0};
        lun_plan *plan = NULL;
        lun_value norm = -1;
        record_net(&m, true);
        const double beta1 = 0.9, beta2 = 0.99, eps = 1e-3, lr = 0.05;
        const lun_value hyper = lun_graph_input(m.graph, "hyper", lun_image(1, 4, 1, 1));
        const lun_value scale = lun_graph_clip(m.graph, LUN_SLOT_GRAD, limits[k], &norm);
        lun_graph_output(m.graph, scale);
        lun_graph_output(m.graph, norm);
        lun_graph_adam_from(m.graph, LUN_SLOT_GRAD, scale, hyper, beta1, beta2, eps, 0, 0);
        dev->info.max_alloc_bytes = 2048;
        start_net(&m, dev);
        ck_assert_int_gt(m.store->trained_chunks, 1);
        OK(lun_graph_compile(m.graph, dev, NULL, &plan));
        feed_net(&m, plan);
        const size_t i = (size_t)lun_store_find(m.store, "conv.weight");
        double p[108], mean[108] = {0}, square[108] = {0};
        float *start = read_slot(m.store, i, LUN_SLOT_VALUE);
        for (int e = 0; e < 108; e++)
            p[e] = (double)start[e];
        free(start);
        for (int step = 1; step <= 3; step++) {
            const float h[4] = {(float)lr, (float)(1 - pow(beta1, step)), (float)sqrt(1 - pow(beta2, step)), 0};
            float got_norm = NAN, got_scale = NAN;
            OK(lun_plan_write(plan, hyper, h));
            run_loss(&m, plan);
            OK(lun_plan_read(plan, norm, &got_norm));
            OK(lun_plan_read(plan, scale, &got_scale));
            double squares = 0;
            for (size_t t = 0; t < lun_store_count(m.store); t++) {
                if (lun_store_info(m.store, t)->role != LUN_ROLE_PARAM)
                    continue;
                float *grad = read_slot(m.store, t, LUN_SLOT_GRAD);
                for (size_t e = 0; e < elements(m.store, t); e++)
                    squares += (double)grad[e] * (double)grad[e];
                free(grad);
            }
            const double size = sqrt(squares), want = fmin(1, (double)(float)limits[k] / (size + 1e-6));
            ck_assert_msg(fabs((double)got_norm - size) <= 1e-6 * size, "norm %g, not %g", (double)got_norm, size);
            ck_assert_msg(fabs((double)got_scale - want) <= 2e-6 * want, "scale %g, not %g", (double)got_scale, want);
            ck_assert(k == 1 ? got_scale == 1 : got_scale < 0.9f);
            float *grad = read_slot(m.store, i, LUN_SLOT_GRAD), *got = read_slot(m.store, i, LUN_SLOT_VALUE);
            for (int e = 0; e < 108; e++) {
                const double g = want * (double)grad[e];
                mean[e] = beta1 * mean[e] + (1 - beta1) * g;
                square[e] = beta2 * square[e] + (1 - beta2) * g * g;
                p[e] -= lr / (1 - pow(beta1, step)) * mean[e] / (sqrt(square[e]) / sqrt(1 - pow(beta2, step)) + eps);
                ck_assert_msg(fabs((double)got[e] - p[e]) <= 2e-5, "step %d element %d: %g, not %g", step, e,
                              (double)got[e], p[e]);
            }
            free(grad);
            free(got);
        }
        lun_plan_destroy(&plan);
        end_net(&m);
        dev->info.max_alloc_bytes = 0;
    }
}
END_TEST

/* With a limit that is never met, every bit is as without clipping. */
START_TEST(a_scale_of_one_changes_no_bit)
{
    float *values[2][32] = {{0}};
    for (int k = 0; k < 2; k++) {
        net n = {0};
        lun_plan *p = NULL;
        lun_value norm = -1, scale = -1;
        record_net(&n, true);
        const lun_value hyper = lun_graph_input(n.graph, "hyper", lun_image(1, 4, 1, 1));
        if (k)
            scale = lun_graph_clip(n.graph, LUN_SLOT_GRAD, 1e9, &norm);
        lun_graph_adam_from(n.graph, LUN_SLOT_GRAD, scale, hyper, 0.9, 0.999, 1e-8, 0.01, 0);
        start_net(&n, dev);
        OK(lun_graph_compile(n.graph, dev, NULL, &p));
        feed_net(&n, p);
        for (int step = 0; step < 3; step++) {
            OK(lun_plan_write(p, hyper, (float[]){1e-3f, 0.1f, 0.0316f, 0}));
            run_loss(&n, p);
        }
        for (size_t i = 0; i < lun_store_count(n.store); i++) {
            values[k][i] = read_slot(n.store, i, LUN_SLOT_VALUE);
            if (k)
                ck_assert_int_eq(memcmp(values[0][i], values[1][i], elements(n.store, i) * sizeof(float)), 0);
            if (k) {
                free(values[0][i]);
                free(values[1][i]);
            }
        }
        lun_plan_destroy(&p);
        end_net(&n);
    }
}
END_TEST

static const float move[][LUN_MAX_EMA] = {{1, 0.1f, 0.01f, 0.5f}, {0.25f, 0.1f, 0.01f, 1}, {1e-4f, 0.1f, 0.01f, 0.3f}};

/* Each average follows the values as its weights say; a graph can run on one. A single one moves in Adam's pass, with a
 * gradient that is scaled or as it is. */
START_TEST(averages_follow_the_values)
{
    for (int turn = 0; turn <= LUN_MAX_EMA; turn++) {
        const int count = turn > 0 ? turn : 1;
        net m = {0};
        lun_plan *plan = NULL;
        lun_value norm = -1;
        record_net(&m, true);
        const lun_value hyper = lun_graph_input(m.graph, "hyper", lun_image(1, 4, 1, 1));
        const lun_value weights = lun_graph_input(m.graph, "weights", lun_image(1, LUN_MAX_EMA, 1, 1));
        const lun_value scale = turn == 0 ? lun_graph_clip(m.graph, LUN_SLOT_GRAD, 1e-2, &norm) : -1;
        lun_graph_adam_from(m.graph, LUN_SLOT_GRAD, scale, hyper, 0.9, 0.99, 1e-3, 0, 1);
        lun_graph_ema(m.graph, weights, count);
        dev->info.max_alloc_bytes = 2048;
        start_net(&m, dev);
        dev->info.max_alloc_bytes = 0;
        for (int r = 0; r < LUN_MAX_EMA; r++) {
            const lun_slot slot = (lun_slot)(LUN_SLOT_EMA + r);
            ck_assert_int_eq(lun_store_bytes(m.store, slot) > 0, r < count);
            NOT_OK(lun_store_copy(m.store, slot, LUN_SLOT_VALUE), r < count ? LUN_OK : LUN_ERR_USAGE);
        }
        OK(lun_graph_compile(m.graph, dev, NULL, &plan));
        feed_net(&m, plan);
        const size_t i = (size_t)lun_store_find(m.store, "up.weight"), n = elements(m.store, i);
        double *want[LUN_MAX_EMA];
        for (int r = 0; r < count; r++) {
            float *start = read_slot(m.store, i, (lun_slot)(LUN_SLOT_EMA + r));
            want[r] = malloc(n * sizeof *want[r]);
            for (size_t e = 0; e < n; e++)
                want[r][e] = (double)start[e];
            free(start);
        }
        for (int step = 0; step < 3; step++) {
            OK(lun_plan_write(plan, hyper, (float[]){0.05f, 0.1f, 0.1f, 0}));
            OK(lun_plan_write(plan, weights, move[step]));
            run_loss(&m, plan);
            float *value = read_slot(m.store, i, LUN_SLOT_VALUE);
            for (int r = 0; r < count; r++) {
                float *got = read_slot(m.store, i, (lun_slot)(LUN_SLOT_EMA + r));
                for (size_t e = 0; e < n; e++) {
                    want[r][e] += (double)move[step][r] * ((double)value[e] - want[r][e]);
                    ck_assert(fabs((double)got[e] - want[r][e]) <= 1e-6);
                }
                free(got);
            }
            free(value);
        }
        for (int r = 0; r < count; r++)
            free(want[r]);
        lun_plan_destroy(&plan);
        end_net(&m);
    }
}
END_TEST

static lun_value record_forward(lun_graph *g, lun_value *x)
{
    *x = lun_graph_input(g, "x", lun_image(1, 3, 4, 4));
    const lun_value h =
        lun_conv2d(g, *x, filter(g, "w", 3, 3, 3, 0.5f), vector(g, "b", 3, LUN_ROLE_PARAM, uniform(0.5f)), 1, 1);
    return lun_batch_norm(g, h, vector(g, "gamma", 3, LUN_ROLE_PARAM, (lun_init){LUN_INIT_ONE, 0}),
                          vector(g, "beta", 3, LUN_ROLE_PARAM, (lun_init){LUN_INIT_ZERO, 0}),
                          vector(g, "mean", 3, LUN_ROLE_BUFFER, (lun_init){LUN_INIT_ZERO, 0}),
                          vector(g, "var", 3, LUN_ROLE_BUFFER, (lun_init){LUN_INIT_ONE, 0}), 1e-5f, 0.1f, 0, 0);
}

/* The same graph on the values and on an average: each gives what the other would with those numbers as values. What is
 * not trained is one for both. */
START_TEST(a_graph_runs_on_an_average)
{
    lun_store *store = NULL;
    lun_graph *g = NULL, *trains = NULL;
    lun_plan *plan = NULL, *refused = NULL;
    lun_value x;
    float image[48], on_value[48], on_average[48], again[48];
    OK(lun_store_create(&store));
    OK(lun_graph_create(store, &g));
    const lun_value y = record_forward(g, &x);
    lun_graph_output(g, y);
    OK(lun_graph_create(store, &trains));
    lun_graph_ema(trains, lun_graph_input(trains, "weights", lun_image(1, LUN_MAX_EMA, 1, 1)), 2);
    OK(lun_graph_check(g));
    OK(lun_store_allocate(store, dev, 1));
    OK(lun_store_init(store, 3));
    const size_t w = (size_t)lun_store_find(store, "w");
    float other[81], *values = read_slot(store, w, LUN_SLOT_VALUE);
    draw(other, 81, 9);
    for (int r = 0; r < 2; r++)
        OK(lun_store_copy(store, (lun_slot)(LUN_SLOT_EMA + r), LUN_SLOT_VALUE));
    OK(lun_store_write(store, w, (lun_slot)(LUN_SLOT_EMA + 1), other));
    OK(lun_store_write(store, (size_t)lun_store_find(store, "var"), LUN_SLOT_VALUE, (float[]){4, 5, 6}));
    draw(image, 48, 10);
    for (int r = -1; r < 2; r++) {
        const lun_compile_params params = {.values = r < 0 ? LUN_SLOT_VALUE : (lun_slot)(LUN_SLOT_EMA + r)};
        OK(lun_graph_compile(g, dev, &params, &plan));
        OK(lun_plan_write(plan, x, image));
        OK(lun_plan_run(plan));
        OK(lun_plan_read(plan, y, r < 0 ? on_value : r == 0 ? again : on_average));
        lun_plan_destroy(&plan);
    }
    ck_assert_int_eq(memcmp(on_value, again, sizeof again), 0);
    ck_assert_int_ne(memcmp(on_value, on_average, sizeof again), 0);
    OK(lun_store_write(store, w, LUN_SLOT_VALUE, other));
    OK(lun_graph_compile(g, dev, NULL, &plan));
    OK(lun_plan_write(plan, x, image));
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, y, again));
    ck_assert_int_eq(memcmp(on_average, again, sizeof again), 0);

    NOT_OK(lun_graph_compile(g, dev, &(lun_compile_params){.values = LUN_SLOT_EMA + 2}, &refused), LUN_ERR_USAGE);
    NOT_OK(lun_graph_compile(g, dev, &(lun_compile_params){.values = LUN_SLOT_GRAD}, &refused), LUN_ERR_USAGE);
    NOT_OK(lun_graph_compile(g, dev, &(lun_compile_params){.values = LUN_SLOT_LAST + 1}, &refused), LUN_ERR_USAGE);
    NOT_OK(lun_graph_compile(trains, dev, &(lun_compile_params){.values = LUN_SLOT_EMA}, &refused), LUN_ERR_USAGE);
    NOT_OK(lun_store_copy(store, LUN_SLOT_SUM, LUN_SLOT_GRAD), LUN_ERR_USAGE);
    NOT_OK(lun_store_copy(store, (lun_slot)-1, LUN_SLOT_GRAD), LUN_ERR_USAGE);
    ck_assert_ptr_null(refused);
    free(values);
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    lun_graph_destroy(&trains);
    lun_store_destroy(&store);
}
END_TEST

START_TEST(refusals)
{
    for (int wrong = 0; wrong < 16; wrong++) {
        net m = {0};
        lun_value norm = -1;
        record_net(&m, wrong != 15);
        lun_graph *g = m.graph, *bare = NULL;
        OK(lun_graph_create(NULL, &bare));
        const lun_value hyper = lun_graph_input(g, "hyper", lun_image(1, 4, 1, 1));
        const lun_value one = lun_graph_input(g, "one", lun_image(1, 1, 1, 1));
        lun_graph *of = g;
        switch (wrong) {
        case 0: lun_graph_accumulate(g, one); break; /* float */
        case 1: lun_graph_accumulate(g, 9999); break;
        case 2: lun_graph_clip(g, LUN_SLOT_M, 1, &norm); break;
        case 3: lun_graph_clip(g, LUN_SLOT_GRAD, 0, &norm); break;
        case 4: lun_graph_clip(g, LUN_SLOT_GRAD, NAN, &norm); break;
        case 5: lun_graph_clip(g, LUN_SLOT_GRAD, 1e-60, &norm); break;
        case 6: lun_graph_adam_from(g, LUN_SLOT_VALUE, -1, hyper, 0.9, 0.99, 1e-8, 0, 0); break;
        case 7: lun_graph_adam_from(g, LUN_SLOT_GRAD, hyper, hyper, 0.9, 0.99, 1e-8, 0, 0); break;
        case 8: lun_graph_adam_from(g, LUN_SLOT_GRAD, -2, hyper, 0.9, 0.99, 1e-8, 0, 0); break;
        case 9: lun_graph_ema(g, hyper, 0); break;
        case 10: lun_graph_ema(g, hyper, LUN_MAX_EMA + 1); break;
        case 11: lun_graph_ema(g, one, 1); break;
        case 12:
            of = bare;
            lun_graph_clip(bare, LUN_SLOT_GRAD, 1, &norm);
            break;
        case 13:
            of = bare;
            lun_graph_ema(bare, lun_graph_input(bare, "w", lun_image(1, LUN_MAX_EMA, 1, 1)), 1);
            break;
        case 14: /* the store has its memory, without averages */
            OK(lun_store_allocate(m.store, dev, 1));
            lun_graph_ema(g, hyper, 1);
            break;
        case 15: lun_graph_backward_weighted(g, m.loss, 0); break;
        }
        ck_assert_msg(lun_graph_check(of) == LUN_ERR_USAGE, "case %d: %s", wrong, lun_error_detail());
        ck_assert_int_eq(norm, -1);
        lun_graph_destroy(&bare);
        end_net(&m);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("update");
    TCase *tc = tcase_create("update");
    tcase_add_checked_fixture(tc, setup, close_cpu);
    tcase_add_test(tc, accumulated_gradients_are_those_of_the_batch);
    tcase_add_test(tc, accumulation_repeats_bit_for_bit);
    tcase_add_test(tc, adam_takes_the_clipped_gradient);
    tcase_add_test(tc, a_scale_of_one_changes_no_bit);
    tcase_add_test(tc, averages_follow_the_values);
    tcase_add_test(tc, a_graph_runs_on_an_average);
    tcase_add_test(tc, refusals);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
