/* What a plan makes of parameters alone and keeps from run to run: right after every change of the parameters, equal to
 * the last bit to what is made anew in every run, and no memory where training is. On every device there is. */
#include <lunette/diffusion.h>

#include "device/null.h"
#include "graph_net.h"

/* A path through every kind of filter: 3x3, 4x4 with stride 2, its transpose, 1x1. */
typedef struct path {
    lun_store *store;
    lun_graph *graph;
    lun_value x, y;
} path;

#define BATCH 2
#define SIDE  8
#define WIDTH 20
enum { COUNT = BATCH * 3 * SIDE * SIDE };

static void record_path(path *p)
{
    OK(lun_store_create(&p->store));
    OK(lun_graph_create(p->store, &p->graph));
    lun_graph *g = p->graph;
    const lun_init u = uniform(0.2f);
    p->x = lun_graph_input(g, "x", lun_image(BATCH, 3, SIDE, SIDE));
    lun_value h = lun_relu(g, lun_conv2d(g, p->x, filter(g, "first", WIDTH, 3, 3, 0.3f), -1, 1, 1));
    h = lun_conv2d(g, h, filter(g, "middle", WIDTH, WIDTH, 3, 0.2f), vector(g, "bias", WIDTH, LUN_ROLE_PARAM, u), 1, 1);
    h = lun_relu(g, lun_conv2d(g, h, filter(g, "down", WIDTH, WIDTH, 4, 0.1f), -1, 2, 1));
    h = lun_conv2d_transpose(g, h, filter(g, "up", WIDTH, WIDTH, 4, 0.1f), -1, 2, 1, 0);
    p->y = lun_conv2d(g, h, filter(g, "last", 3, WIDTH, 1, 0.4f), -1, 1, 0);
    lun_graph_output(g, p->y);
    OK(lun_graph_check(g));
}

static void start_path(path *p, lun_device *on, int training)
{
    record_path(p);
    OK(lun_store_allocate(p->store, on, training));
    OK(lun_store_init(p->store, 1));
}

static void end_path(path *p)
{
    lun_graph_destroy(&p->graph);
    lun_store_destroy(&p->store);
}

static lun_plan *compile_path(const path *p, lun_device *on, int keep, const char *(*pin)(void *, const char *))
{
    const lun_compile_params params = {.keep = keep, .allow_fallback = 1, .pin = pin};
    lun_plan *plan = NULL;
    float x[COUNT];
    draw(x, COUNT, 1);
    OK(lun_graph_compile(p->graph, on, &params, &plan));
    OK(lun_plan_write(plan, p->x, x));
    return plan;
}

static void run_path(const path *p, lun_plan *plan, float y[COUNT])
{
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, p->y, y));
}

/* Other values for one parameter. */
static void change(lun_store *store, const char *name, uint64_t number)
{
    const int i = lun_store_find(store, name);
    ck_assert_int_ge(i, 0);
    float *values = malloc(elements(store, (size_t)i) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    draw(values, elements(store, (size_t)i), number);
    OK(lun_store_write(store, (size_t)i, LUN_SLOT_VALUE, values));
    free(values);
}

/* A plan that keeps and one that does not, through changes of the store. The second one is right because it has nothing
 * to remember. */
static void keeps_and_notices(lun_device *on, const char *(*pin)(void *, const char *))
{
    path p = {0};
    start_path(&p, on, 0);
    lun_plan *keeps = compile_path(&p, on, 1, pin), *plain = compile_path(&p, on, 0, pin);
    float first[COUNT], a[COUNT], b[COUNT];
    run_path(&p, plain, first);
    for (int run = 0; run < 3; run++) {
        run_path(&p, keeps, a);
        ck_assert_mem_eq(a, first, sizeof a);
    }
    /* Without a change nothing is made anew: what is spoilt stays so until there is one. */
    for (int i = 0; i < keeps->step_count; i++) {
        lun_buffer *kept = keeps->steps[i].kept;
        if (!kept)
            continue;
        OK(lun_buffer_fill((lun_place){kept, 0}, 0, kept->bytes));
        run_path(&p, keeps, a);
        ck_assert_mem_ne(a, first, sizeof a);
        change(p.store, "bias", 2);
        OK(lun_store_init(p.store, 1));
        run_path(&p, keeps, a);
        ck_assert_mem_eq(a, first, sizeof a);
    }
    const char *names[] = {"first", "middle", "down", "up", "last"};
    memcpy(b, first, sizeof b);
    for (size_t i = 0; i < LUN_COUNT(names); i++) {
        float before[COUNT];
        memcpy(before, b, sizeof b);
        change(p.store, names[i], 10 + i);
        run_path(&p, keeps, a);
        run_path(&p, plain, b);
        ck_assert_mem_eq(a, b, sizeof a);
        ck_assert_mem_ne(a, before, sizeof a);
    }
    OK(lun_store_init(p.store, 1));
    run_path(&p, keeps, a);
    ck_assert_mem_eq(a, first, sizeof a);
    lun_plan_destroy(&keeps);
    lun_plan_destroy(&plain);
    end_path(&p);
}

/* Every convolution that the Winograd kernels take, by them. */
static const char *winograd(void *payload, const char *op)
{
    (void)payload;
    return strncmp(op, "conv2d ", 7) == 0 && strstr(op, "(20,20,3,3)") ? "winograd_4x4" : NULL;
}

START_TEST(kept_in_plain_c)
{
    keeps_and_notices(dev, NULL);
    if (dev->caps.lanes >= 4)
        keeps_and_notices(dev, winograd);
}
END_TEST

static bool opened(const char *spec, lun_device **out)
{
    if (lun_device_open(spec, NULL, out) == LUN_OK)
        return true;
    printf("skipped: %s\n", lun_error_detail());
    return false;
}

START_TEST(kept_on_opencl)
{
    lun_device *opencl = NULL;
    if (!opened("opencl", &opencl))
        return;
    keeps_and_notices(opencl, NULL);
    if (!opencl->caps.gpu && opencl->caps.lanes >= 4)
        keeps_and_notices(opencl, winograd);
    lun_device_close(&opencl);
}
END_TEST

START_TEST(kept_by_the_check_device)
{
    lun_device *both = NULL;
    if (!opened("check:cpu,opencl", &both))
        return;
    keeps_and_notices(both, NULL);
    lun_device_close(&both);
}
END_TEST

/* Convolutions in plain C beside a device that declines them. */
START_TEST(kept_by_a_fallback)
{
    lun_device *opencl = NULL;
    setenv("LUNETTE_DECLINE", "conv2d", 1);
    if (opened("opencl", &opencl)) {
        path p = {0};
        start_path(&p, opencl, 0);
        lun_plan *plan = compile_path(&p, opencl, 1, NULL);
        int fallbacks = 0;
        for (int i = 0; i < plan->step_count; i++)
            fallbacks += plan->steps[i].fallback && plan->steps[i].kept;
        ck_assert_int_eq(fallbacks, 4);
        lun_plan_destroy(&plan);
        end_path(&p);
        keeps_and_notices(opencl, NULL);
        lun_device_close(&opencl);
    }
    unsetenv("LUNETTE_DECLINE");
}
END_TEST

static uint64_t launches(const path *p, lun_device *null, lun_plan *plan)
{
    const uint64_t before = lun_null_get_counts(null).launches;
    float y[COUNT];
    run_path(p, plan, y);
    return lun_null_get_counts(null).launches - before;
}

/* Prepared once, and again only when a value may have changed. */
START_TEST(prepared_once_a_change)
{
    lun_device *null = NULL;
    path p = {0};
    size_t now, later;
    OK(lun_device_open("null", NULL, &null));
    start_path(&p, null, 0);
    lun_plan *plain = compile_path(&p, null, 0, NULL);
    lun_device_memory(null, &now, NULL);
    lun_plan *keeps = compile_path(&p, null, 1, NULL);
    lun_device_memory(null, &later, NULL);
    const lun_plan_info a = lun_plan_get_info(plain), b = lun_plan_get_info(keeps);
    ck_assert_uint_eq(a.kept_bytes, 0);
    ck_assert_uint_gt(b.kept_bytes, 0);
    ck_assert_uint_lt(b.workspace_bytes, a.workspace_bytes);
    ck_assert_uint_eq(later - now, b.activation_bytes + b.fixed_bytes + b.workspace_bytes + b.kept_bytes);

    const uint64_t all = launches(&p, null, plain);
    ck_assert_uint_eq(launches(&p, null, plain), all);
    ck_assert_uint_eq(launches(&p, null, keeps), all);
    const uint64_t rest = launches(&p, null, keeps);
    ck_assert_uint_eq(rest, all - 5); /* one a filter */
    ck_assert_uint_eq(launches(&p, null, keeps), rest);
    change(p.store, "bias", 3);
    ck_assert_uint_eq(launches(&p, null, keeps), all);
    ck_assert_uint_eq(launches(&p, null, keeps), rest);
    OK(lun_store_init(p.store, 2));
    ck_assert_uint_eq(launches(&p, null, keeps), all);
    ck_assert_uint_eq(launches(&p, null, keeps), rest);
    lun_plan_destroy(&plain);
    lun_plan_destroy(&keeps);
    end_path(&p);
    lun_device_close(&null);
}
END_TEST

/* Another plan's in-place change of the store counts, and a plan that makes one keeps nothing itself. */
START_TEST(changes_by_other_plans)
{
    lun_device *null = NULL;
    path p = {0};
    lun_graph *other = NULL;
    lun_plan *changes = NULL;
    OK(lun_device_open("null", NULL, &null));
    record_path(&p);
    OK(lun_graph_create(p.store, &other));
    const lun_value x = lun_graph_input(other, "x", lun_image(BATCH, 3, SIDE, SIDE));
    const lun_value h = lun_conv2d(other, x, filter(other, "first", WIDTH, 3, 3, 0.3f), -1, 1, 1);
    const lun_init zero = {LUN_INIT_ZERO, 0};
    lun_batch_norm(other, h, vector(other, "gamma", WIDTH, LUN_ROLE_PARAM, zero),
                   vector(other, "beta", WIDTH, LUN_ROLE_PARAM, zero),
                   vector(other, "mean", WIDTH, LUN_ROLE_BUFFER, zero),
                   vector(other, "var", WIDTH, LUN_ROLE_BUFFER, zero), 1e-5f, 0.1f, 1, 1);
    OK(lun_graph_check(other));
    OK(lun_store_allocate(p.store, null, 0));
    lun_plan *keeps = compile_path(&p, null, 1, NULL);
    OK(lun_graph_compile(other, null, &(lun_compile_params){.keep = 1}, &changes));
    ck_assert_uint_eq(lun_plan_get_info(changes).kept_bytes, 0);
    const uint64_t all = launches(&p, null, keeps), rest = launches(&p, null, keeps);
    ck_assert_uint_lt(rest, all);
    OK(lun_plan_run(changes));
    ck_assert_uint_eq(launches(&p, null, keeps), all);
    ck_assert_uint_eq(launches(&p, null, keeps), rest);
    lun_plan_destroy(&changes);
    lun_plan_destroy(&keeps);
    lun_graph_destroy(&other);
    end_path(&p);
    lun_device_close(&null);
}
END_TEST

/* A filter that is no parameter may be another one in every run. */
START_TEST(filters_that_are_inputs)
{
    enum { IN = 2 * 5 * 4 * 4, FILTER = 7 * 5 * 3 * 3, OUT = 2 * 7 * 4 * 4 };
    float x[IN], w[2][FILTER], y[2][OUT], again[OUT];
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    OK(lun_graph_create(NULL, &g));
    const lun_value vx = lun_graph_input(g, "x", lun_image(2, 5, 4, 4));
    const lun_value vw = lun_graph_input(g, "w", lun_filter(7, 5, 3, 3));
    draw(w[0], FILTER, 3);
    const lun_value fixed = lun_graph_constant(g, "c", lun_filter(7, 5, 3, 3), w[0]);
    const lun_value vy = lun_conv2d(g, vx, vw, -1, 1, 1), same = lun_conv2d(g, vx, fixed, -1, 1, 1);
    lun_graph_output(g, vy);
    lun_graph_output(g, same);
    OK(lun_graph_compile(g, dev, &(lun_compile_params){.keep = 1}, &plan));
    ck_assert_ptr_null(plan->steps[0].kept);
    ck_assert_ptr_nonnull(plan->steps[1].kept); /* a constant's is kept */
    draw(x, IN, 2);
    draw(w[1], FILTER, 4);
    OK(lun_plan_write(plan, vx, x));
    for (int i = 0; i < 2; i++) {
        OK(lun_plan_write(plan, vw, w[i]));
        OK(lun_plan_run(plan));
        OK(lun_plan_read(plan, vy, y[i]));
        OK(lun_plan_read(plan, same, again));
        ck_assert_mem_eq(again, y[0], sizeof again);
    }
    ck_assert_mem_ne(y[0], y[1], sizeof again);
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
}
END_TEST

START_TEST(never_more_than_its_share_of_memory)
{
    path p = {0};
    start_path(&p, dev, 0);
    const uint64_t memory = dev->info.memory_bytes;
    lun_plan *plan = compile_path(&p, dev, 1, NULL);
    const size_t whole = lun_plan_get_info(plan).kept_bytes;
    float want[COUNT], got[COUNT];
    run_path(&p, plan, want);
    lun_plan_destroy(&plan);
    for (int part = 0; part < 4; part++) { /* none, some, some, all */
        dev->info.memory_bytes = part == 0 ? 4 : 4 * whole * (uint64_t)part / 3;
        plan = compile_path(&p, dev, 1, NULL);
        const size_t kept = lun_plan_get_info(plan).kept_bytes;
        ck_assert_uint_le(kept, dev->info.memory_bytes / 4);
        ck_assert(part == 0 ? kept == 0 : part == 3 ? kept == whole : kept > 0);
        run_path(&p, plan, got);
        ck_assert_mem_eq(got, want, sizeof got);
        lun_plan_destroy(&plan);
    }
    dev->info.memory_bytes = memory;
    end_path(&p);
}
END_TEST

START_TEST(training_keeps_nothing)
{
    net m = {0};
    path p = {0};
    lun_plan *plan = NULL;
    record_net(&m, true);
    const lun_value hyper = lun_graph_input(m.graph, "hyper", lun_image(1, 4, 1, 1));
    lun_graph_adam(m.graph, hyper, 0.9, 0.999, 1e-8, 0, 0);
    start_net(&m, dev);
    OK(lun_graph_compile(m.graph, dev, &(lun_compile_params){.keep = 1}, &plan));
    ck_assert_uint_eq(lun_plan_get_info(plan).kept_bytes, 0);
    feed_net(&m, plan);
    OK(lun_plan_write(plan, hyper, (float[]){1e-2f, 0.1f, 0.1f, 0}));
    const uint64_t version = m.store->version;
    const float first = run_loss(&m, plan), second = run_loss(&m, plan);
    ck_assert(first != second);
    ck_assert_uint_gt(m.store->version, version);
    lun_plan_destroy(&plan);
    end_net(&m);

    /* Nor what only reads a store that trains: the strips of a run take no memory from it. */
    start_path(&p, dev, 1);
    plan = compile_path(&p, dev, 1, NULL);
    ck_assert_uint_eq(lun_plan_get_info(plan).kept_bytes, 0);
    lun_plan_destroy(&plan);
    end_path(&p);
}
END_TEST

/* ---- sampling ---- */

typedef struct drawing {
    lun_model_config config;
    lun_schedule schedule;
    lun_store *store;
    lun_sampler *sampler;
} drawing;

static void start_drawing(drawing *d, int training)
{
    d->config = lun_model_config_notebook();
    d->config.levels = 2;
    d->config.channels[0] = 8;
    d->config.channels[1] = 20;
    d->config.steps = 6;
    lun_graph *g = NULL;
    OK(lun_store_create(&d->store));
    OK(lun_graph_create(d->store, &g));
    lun_model_forward(g, &d->config, lun_graph_input(g, "x", lun_image(1, 3, SIDE, SIDE)),
                      lun_graph_input(g, "t", lun_typed(lun_image(1, 1, 1, 1), LUN_I32)), LUN_NORM_EVAL);
    OK(lun_graph_check(g));
    lun_graph_destroy(&g);
    OK(lun_store_allocate(d->store, dev, training));
    OK(lun_store_init(d->store, 1));
    OK(lun_schedule_linear(6, 1e-4, 0.02, &d->schedule));
    const lun_sampler_params params = {.batch = 1,
                                       .height = SIDE,
                                       .width = SIDE,
                                       .clip = LUN_CLIP_MODE_XT,
                                       .norm = LUN_NORM_BATCH,
                                       .schedule = &d->schedule};
    OK(lun_sampler_create(d->store, dev, &d->config, &params, NULL, &d->sampler));
}

static void end_drawing(drawing *d)
{
    lun_sampler_destroy(&d->sampler);
    lun_schedule_free(&d->schedule);
    lun_store_destroy(&d->store);
}

static void draw_one(drawing *d, float image[3 * SIDE * SIDE])
{
    const uint64_t seed = 3;
    OK(lun_sampler_draw(d->sampler, &(lun_sampler_run){.seeds = &seed}, image));
}

/* With kept filters (a store that only holds a model) and without (one that trains): the same pictures to the last bit,
 * and after a change those of the new weights. */
START_TEST(samplers_see_new_weights)
{
    drawing keeps = {0}, plain = {0};
    float before[3 * SIDE * SIDE], a[3 * SIDE * SIDE], b[3 * SIDE * SIDE];
    start_drawing(&keeps, 0);
    start_drawing(&plain, 1);
    draw_one(&plain, before);
    draw_one(&keeps, a);
    ck_assert_mem_eq(a, before, sizeof a);
    draw_one(&keeps, a);
    ck_assert_mem_eq(a, before, sizeof a);
    for (uint64_t k = 0; k < 3; k++) {
        static const char *const names[] = {"ups.0.conv2.weight", "downs.0.transform.weight", "conv0.bias"};
        change(keeps.store, names[k], k);
        change(plain.store, names[k], k);
        draw_one(&keeps, a);
        draw_one(&plain, b);
        ck_assert_mem_eq(a, b, sizeof a);
        ck_assert_mem_ne(a, before, sizeof a);
        memcpy(before, a, sizeof a);
    }
    end_drawing(&keeps);
    end_drawing(&plain);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("kept");
    TCase *tc = tcase_create("kept");
    tcase_add_checked_fixture(tc, open_cpu, close_cpu);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, kept_in_plain_c);
    tcase_add_test(tc, kept_on_opencl);
    tcase_add_test(tc, kept_by_the_check_device);
    tcase_add_test(tc, kept_by_a_fallback);
    tcase_add_test(tc, prepared_once_a_change);
    tcase_add_test(tc, changes_by_other_plans);
    tcase_add_test(tc, filters_that_are_inputs);
    tcase_add_test(tc, never_more_than_its_share_of_memory);
    tcase_add_test(tc, training_keeps_nothing);
    tcase_add_test(tc, samplers_see_new_weights);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
