/* Recording and differentiating. */
#include "graph_net.h"

/* ---- recording ---- */

START_TEST(first_error_sticks)
{
    lun_graph *g = NULL;
    OK(lun_graph_create(NULL, &g));
    const lun_value x = lun_graph_input(g, "x", lun_image(1, 3, 4, 4)),
                    y = lun_graph_input(g, "y", lun_image(1, 2, 4, 4));
    OK(lun_graph_check(g));
    ck_assert_int_eq(lun_add(g, x, y), -1);
    NOT_OK(lun_graph_check(g), LUN_ERR_USAGE);
    char first[256];
    snprintf(first, sizeof first, "%s", lun_error_detail());
    ck_assert_ptr_nonnull(strstr(first, "add"));
    const int nodes = g->node_count, values = g->tensor_count;
    ck_assert_int_eq(lun_relu(g, x), -1);
    ck_assert_int_eq(lun_graph_input(g, "z", lun_image(0, 0, 0, 0)), -1);
    lun_graph_output(g, -1);
    lun_graph_backward(g, x);
    ck_assert_int_eq(g->node_count, nodes);
    ck_assert_int_eq(g->tensor_count, values);
    lun_plan *plan = NULL;
    NOT_OK(lun_graph_compile(g, dev, NULL, &plan), LUN_ERR_USAGE);
    ck_assert_ptr_null(plan);
    ck_assert_str_eq(lun_error_detail(), first);
    lun_graph_destroy(&g);
}
END_TEST

START_TEST(wrong_recordings_are_refused)
{
    for (int wrong = 0; wrong < 14; wrong++) {
        lun_store *s = NULL;
        lun_graph *g = NULL;
        OK(lun_store_create(&s));
        OK(lun_graph_create(s, &g));
        const lun_value x = lun_graph_input(g, "x", lun_image(2, 4, 4, 4)), w = filter(g, "w", 4, 4, 3, 1);
        const lun_value one = lun_graph_input(g, "one", lun_image(1, 1, 1, 1)),
                        index = lun_graph_input(g, "i", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
        OK(lun_graph_check(g));
        switch (wrong) {
        case 0: lun_relu(g, 99); break;
        case 1: lun_relu(g, -1); break;
        case 2: filter(g, "w", 4, 4, 4, 1); break;
        case 3: lun_graph_param(g, "w", lun_filter(4, 4, 3, 3), 4, LUN_ROLE_BUFFER, uniform(1)); break;
        case 4: lun_graph_param(g, "v", lun_image(1, 4, 2, 1), 1, LUN_ROLE_PARAM, uniform(1)); break;
        case 5: lun_graph_param(g, "v", lun_image(1, 4, 1, 1), 1, LUN_ROLE_PARAM, uniform(NAN)); break;
        case 6: lun_conv2d_transpose(g, x, w, -1, 2, 1, 2); break;
        case 7: lun_time_embed(g, index, 10, 5); break;
        case 8: lun_graph_backward(g, x); break;
        case 9: lun_graph_backward(g, one); break;        /* no parameter behind it */
        case 10: lun_store_at(g, one, one, index); break; /* not a state */
        case 11: lun_graph_adam(g, one, 0.9, 0.99, 1e-8, 0, 0); break;
        case 12: lun_graph_adam(g, lun_graph_input(g, "hyper", lun_image(1, 4, 1, 1)), 0.9, 0.99, 0, 0, 0); break;
        case 13: { /* slice has no gradient: better no training than a wrong one */
            const lun_value part = lun_slice(g, lun_conv2d(g, x, w, -1, 1, 1), 0, 2);
            lun_graph_backward(g, lun_loss(g, part, part, LUN_L2, 1));
            break;
        }
        }
        ck_assert_msg(lun_graph_check(g) == LUN_ERR_USAGE, "case %d: %s", wrong, lun_error_detail());
        ck_assert_str_ne(lun_error_detail(), "");
        lun_graph_destroy(&g);
        lun_store_destroy(&s);
    }
}
END_TEST

static void has_shape(const lun_graph *g, lun_value v, int64_t n, int64_t c, int64_t h, int64_t w)
{
    ck_assert_msg(v >= 0, "%s", lun_error_detail());
    const lun_shape s = lun_graph_desc(g, v).shape;
    ck_assert_msg(lun_shape_equal(s, lun_shape4(n, c, h, w)), "(%d,%d,%d,%d)", (int)s.n, (int)s.c, (int)s.h, (int)s.w);
}

START_TEST(shapes_are_known_at_recording)
{
    lun_store *s = NULL;
    lun_graph *g = NULL;
    OK(lun_store_create(&s));
    OK(lun_graph_create(s, &g));
    const lun_value x = lun_graph_input(g, "x", lun_image(2, 3, 9, 7)), w = filter(g, "w", 5, 3, 3, 1);
    const lun_value down = lun_conv2d(g, x, w, -1, 2, 1);
    has_shape(g, down, 2, 5, 5, 4);
    has_shape(g, lun_conv2d_transpose(g, down, w, -1, 2, 1, 0), 2, 3, 9, 7);
    has_shape(g, lun_conv2d_transpose(g, down, w, -1, 2, 1, 1), 2, 3, 10, 8);
    has_shape(g, lun_concat(g, x, x), 2, 6, 9, 7);
    has_shape(g, lun_slice(g, down, 1, 3), 2, 3, 5, 4);
    has_shape(g, lun_loss(g, x, x, LUN_HUBER, 0.5f), 1, 1, 1, 1);
    const lun_value t = lun_graph_input(g, "t", lun_typed(lun_image(2, 1, 1, 1), LUN_I32));
    const lun_value time = lun_time_embed(g, t, 300, 32);
    has_shape(g, time, 2, 32, 1, 1);
    has_shape(g,
              lun_linear(g, time, lun_graph_param(g, "l", lun_filter(6, 32, 1, 1), 2, LUN_ROLE_PARAM, uniform(1)), -1),
              2, 6, 1, 1);
    const lun_value rows = lun_graph_input(g, "rows", lun_typed(lun_image(2, 8, 1, 1), LUN_U32));
    has_shape(g, lun_randn(g, rows, 3, 4, 5), 2, 3, 4, 5);
    const lun_value one = vector(g, "one", 5, LUN_ROLE_PARAM, uniform(1));
    const lun_value norm = lun_group_norm(g, down, one, one, 5, 1e-5f);
    has_shape(g, norm, 2, 5, 5, 4);
    has_shape(g, norm + 1, 2, 5, 1, 1);
    has_shape(g, lun_silu(g, lun_gelu(g, norm)), 2, 5, 5, 4);
    has_shape(g, lun_scale_shift(g, norm, lun_graph_input(g, "emb", lun_image(2, 10, 1, 1))), 2, 5, 5, 4);
    has_shape(g, lun_dropout(g, norm, rows, 0.5f), 2, 5, 5, 4);
    ck_assert_int_eq(lun_graph_desc(g, lun_randint(g, rows, 1, 1, 1, 300)).dtype, LUN_I32);
    ck_assert_int_eq(w, filter(g, "w", 5, 3, 3, 1)); /* one value a parameter */
    OK(lun_graph_check(g));
    lun_graph_destroy(&g);
    lun_store_destroy(&s);
}
END_TEST

/* ---- gradients ---- */

START_TEST(gradients_equal_finite_differences)
{
    net m = {0};
    lun_plan *plan = NULL;
    record_net(&m, true);
    start_net(&m, dev);
    OK(lun_graph_compile(m.graph, dev, NULL, &plan));
    feed_net(&m, plan);
    int checked = 0;
    for (size_t i = 0; i < lun_store_count(m.store); i++) {
        const lun_param_info *info = lun_store_info(m.store, i);
        if (info->role != LUN_ROLE_PARAM)
            continue;
        run_loss(&m, plan); /* every run overwrites the gradients, the displaced ones below too */
        float *value = read_slot(m.store, i, LUN_SLOT_VALUE), *grad = read_slot(m.store, i, LUN_SLOT_GRAD);
        const float step = 2e-3f;
        double error = 0, norm = 0;
        for (size_t e = 0; e < elements(m.store, i); e++) {
            const float old = value[e];
            value[e] = old + step;
            OK(lun_store_write(m.store, i, LUN_SLOT_VALUE, value));
            const double up = run_loss(&m, plan);
            value[e] = old - step;
            OK(lun_store_write(m.store, i, LUN_SLOT_VALUE, value));
            const double down = run_loss(&m, plan);
            value[e] = old;
            const double slope = (up - down) / ((double)(old + step) - (double)(old - step));
            error += (slope - grad[e]) * (slope - grad[e]);
            norm += slope * slope;
        }
        OK(lun_store_write(m.store, i, LUN_SLOT_VALUE, value));
        /* A step of the first layer carries some activations over the kink of the ReLU behind it, which costs 2 %
         * there; the rest is rounding of the loss. A wrong term shows as 10 % and more. */
        const double bound = strncmp(info->name, "conv.", 5) == 0 ? 4e-2 : 5e-3;
        ck_assert_msg(norm > 1e-6 && error <= bound * bound * norm, "%s: error %g of %g", info->name, sqrt(error),
                      sqrt(norm));
        checked++;
        free(value);
        free(grad);
    }
    ck_assert_int_eq(checked, 12);
    lun_plan_destroy(&plan);
    end_net(&m);
}
END_TEST

/* Along the whole gradient g the loss rises by |g|^2 a step: the sign counts. */
START_TEST(the_loss_rises_along_the_gradient)
{
    net m = {0};
    lun_plan *plan = NULL;
    record_net(&m, true);
    start_net(&m, dev);
    OK(lun_graph_compile(m.graph, dev, NULL, &plan));
    feed_net(&m, plan);
    run_loss(&m, plan);
    enum { MOST = 32 };
    const size_t count = lun_store_count(m.store);
    ck_assert_uint_le(count, MOST);
    float *value[MOST] = {0}, *grad[MOST] = {0};
    double norm = 0, loss[2];
    for (size_t i = 0; i < count; i++) {
        if (lun_store_info(m.store, i)->role != LUN_ROLE_PARAM)
            continue;
        value[i] = read_slot(m.store, i, LUN_SLOT_VALUE);
        grad[i] = read_slot(m.store, i, LUN_SLOT_GRAD);
        for (size_t e = 0; e < elements(m.store, i); e++)
            norm += (double)grad[i][e] * grad[i][e];
    }
    const double step = 2e-3 / sqrt(norm);
    for (int side = 0; side < 2; side++) {
        for (size_t i = 0; i < count; i++) {
            if (!value[i])
                continue;
            float *moved = malloc(elements(m.store, i) * sizeof *moved);
            ck_assert_ptr_nonnull(moved);
            for (size_t e = 0; e < elements(m.store, i); e++)
                moved[e] = (float)(value[i][e] + (side ? step : -step) * grad[i][e]);
            OK(lun_store_write(m.store, i, LUN_SLOT_VALUE, moved));
            free(moved);
        }
        loss[side] = run_loss(&m, plan);
    }
    const double ratio = (loss[1] - loss[0]) / (2 * step * norm);
    ck_assert_msg(fabs(ratio - 1) <= 1e-2, "slope along the gradient: %g of what it should be", ratio);
    for (size_t i = 0; i < count; i++) {
        free(value[i]);
        free(grad[i]);
    }
    lun_plan_destroy(&plan);
    end_net(&m);
}
END_TEST

/* Gradient of `w` (1x1 filter, 2 to 2 channels) in a graph that `build` makes of y = conv(x, w). */
static void fan_out_gradient(lun_value (*build)(lun_graph *g, lun_value y), float grad[4], float *loss)
{
    lun_store *s = NULL;
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    OK(lun_store_create(&s));
    OK(lun_graph_create(s, &g));
    const lun_value x = lun_graph_input(g, "x", lun_image(1, 2, 4, 4)), w = filter(g, "w", 2, 2, 1, 1);
    const lun_value y = build(g, lun_conv2d(g, x, w, -1, 1, 0));
    float zeros[1 * 4 * 16] = {0}, values[2 * 16];
    const lun_value l = lun_loss(g, y, lun_graph_constant(g, "zeros", lun_graph_desc(g, y), zeros), LUN_L2, 1);
    lun_graph_output(g, l);
    lun_graph_backward(g, l);
    OK(lun_store_allocate(s, dev, 1));
    OK(lun_graph_compile(g, dev, NULL, &plan));
    draw(values, LUN_COUNT(values), 7);
    OK(lun_plan_write(plan, x, values));
    OK(lun_store_write(s, 0, LUN_SLOT_VALUE, (float[]){0.5f, -1, 2, 0.25f}));
    for (int run = 0; run < 2; run++) /* overwritten, not summed up */
        OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, l, loss));
    OK(lun_store_read(s, 0, LUN_SLOT_GRAD, grad));
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    lun_store_destroy(&s);
}

static lun_value build_once(lun_graph *g, lun_value y)
{
    (void)g;
    return y;
}
static lun_value build_twice(lun_graph *g, lun_value y)
{
    return lun_add(g, y, y);
}
static lun_value build_concat(lun_graph *g, lun_value y)
{
    return lun_concat(g, y, y);
}
static lun_value build_chain(lun_graph *g, lun_value y)
{
    return lun_add(g, lun_add(g, y, y), lun_add(g, y, y));
}
/* y + relu(y) - relu's gradient must not overwrite the one that y still waits for. */
static lun_value build_relu(lun_graph *g, lun_value y)
{
    return lun_add(g, lun_relu(g, y), y);
}
static lun_value build_relu_other(lun_graph *g, lun_value y)
{
    return lun_add(g, y, lun_relu(g, y));
}

START_TEST(values_used_twice)
{
    float once[4], grad[4], other[4], loss, l;
    fan_out_gradient(build_once, once, &loss);
    ck_assert(fabsf(once[0]) > 1e-3f);
    fan_out_gradient(build_twice, grad, &l);
    ck_assert_float_eq_tol(l, 4 * loss, 1e-6f * l);
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq_tol(grad[i], 4 * once[i], 1e-5f);
    fan_out_gradient(build_concat, grad, &l);
    ck_assert_float_eq_tol(l, loss, 1e-6f * l);
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq_tol(grad[i], once[i], 1e-5f);
    fan_out_gradient(build_chain, grad, &l);
    for (int i = 0; i < 4; i++)
        ck_assert_float_eq_tol(grad[i], 16 * once[i], 1e-4f);
    fan_out_gradient(build_relu, grad, &l);
    fan_out_gradient(build_relu_other, other, &l);
    /* (y + relu y)^2 = 4 y^2 where y > 0, else y^2; in double by hand: */
    float x[32], w[4] = {0.5f, -1, 2, 0.25f};
    double want[4] = {0};
    draw(x, 32, 7);
    for (int p = 0; p < 16; p++)
        for (int k = 0; k < 2; k++) {
            const double y = (double)w[2 * k] * x[p] + (double)w[2 * k + 1] * x[16 + p];
            for (int c = 0; c < 2; c++)
                want[2 * k + c] += (y > 0 ? 8 : 2) * y * x[16 * c + p] / 32;
        }
    for (int i = 0; i < 4; i++) {
        ck_assert_float_eq_tol(grad[i], (float)want[i], 1e-5f);
        ck_assert_float_eq_tol(other[i], (float)want[i], 1e-5f);
    }
}
END_TEST

/* One gradient for two parameters, a parameter used twice, and a loss that is the parameter itself. */
START_TEST(gradients_shared_by_parameters)
{
    lun_store *s = NULL;
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    OK(lun_store_create(&s));
    OK(lun_graph_create(s, &g));
    const lun_init zero = {LUN_INIT_ZERO, 0};
    const lun_value p = vector(g, "p", 4, LUN_ROLE_PARAM, zero), q = vector(g, "q", 4, LUN_ROLE_PARAM, zero),
                    r = vector(g, "r", 4, LUN_ROLE_PARAM, zero);
    vector(g, "unused", 4, LUN_ROLE_PARAM, zero);
    const lun_value sum = lun_add(g, lun_add(g, p, q), lun_add(g, r, r));
    const float target[4] = {1, -2, 3, -4};
    const lun_value l = lun_loss(g, sum, lun_graph_constant(g, "target", lun_image(1, 4, 1, 1), target), LUN_L2, 1);
    lun_graph_backward(g, l);
    OK(lun_graph_check(g));
    OK(lun_store_allocate(s, dev, 1));
    OK(lun_graph_compile(g, dev, NULL, &plan));
    OK(lun_plan_run(plan));
    for (size_t i = 0; i < 4; i++) {
        float *grad = read_slot(s, i, LUN_SLOT_GRAD);
        for (int e = 0; e < 4; e++)
            ck_assert_float_eq(grad[e], (i == 3 ? 0 : i == 2 ? 2 : 1) * -target[e] / 2);
        free(grad);
    }
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    lun_store_destroy(&s);

    OK(lun_store_create(&s));
    OK(lun_graph_create(s, &g));
    lun_graph_backward(g, vector(g, "p", 1, LUN_ROLE_PARAM, zero));
    OK(lun_store_allocate(s, dev, 1));
    OK(lun_graph_compile(g, dev, NULL, &plan));
    OK(lun_plan_run(plan));
    float one = 0;
    OK(lun_store_read(s, 0, LUN_SLOT_GRAD, &one));
    ck_assert_float_eq(one, 1);
    lun_graph_backward(g, 0);
    NOT_OK(lun_graph_check(g), LUN_ERR_USAGE); /* twice */
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    lun_store_destroy(&s);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("graph");
    TCase *tc = tcase_create("graph");
    tcase_add_checked_fixture(tc, open_cpu, close_cpu);
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, first_error_sticks);
    tcase_add_test(tc, wrong_recordings_are_refused);
    tcase_add_test(tc, shapes_are_known_at_recording);
    tcase_add_test(tc, gradients_equal_finite_differences);
    tcase_add_test(tc, the_loss_rises_along_the_gradient);
    tcase_add_test(tc, values_used_twice);
    tcase_add_test(tc, gradients_shared_by_parameters);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
