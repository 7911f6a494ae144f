/* Choosing candidates by measurement, and remembering the choices. The device is plain C behind a driver of this test,
 * which keeps the time by a clock of its own and can spoil what a candidate computes. */
#include <math.h>

#include "base/base.h"
#include "device/tune.h"
#include "scratch.h"

#define OK(expr) ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())

static lun_device *dev;
static lun_driver wrapped;
static const lun_driver *original;

static double now;               /* the clock */
static double usual;             /* seconds that a run takes */
static const char *fast, *wrong; /* candidates: one that takes 1 s instead, one whose results are spoiled */
static const char *not_allowed;  /* one that fails the test if it is run */
static int stalls_from, stalls;  /* so many runs of the fast one take 100 s, from that one on */
static int fast_runs;
static double spoil;    /* by how much, of every result */
static int spoilt;      /* which destination */
static size_t spoil_at; /* bytes from its start; where nothing was written it is spoilt by being written to */
static int runs;
static lun_place last_dst[64];
static lun_op_plan *last_plan[64];
static int bound;

static double fake_clock(void)
{
    return now;
}

static lun_status test_bind(lun_op_plan *plan, const lun_place *src, const lun_place *dst, lun_place workspace,
                            lun_place kept)
{
    last_plan[bound % 64] = plan;
    last_dst[bound++ % 64] = dst[spoilt];
    return original->bind(plan, src, dst, workspace, kept);
}

static lun_status test_run(lun_op_plan *plan, lun_part part)
{
    runs++;
    ck_assert_msg(!not_allowed || strcmp(plan->candidate, not_allowed) != 0, "%s was run", plan->candidate);
    const bool is_fast = fast && strcmp(plan->candidate, fast) == 0;
    const bool stalled = is_fast && fast_runs >= stalls_from && fast_runs < stalls_from + stalls;
    fast_runs += is_fast;
    now += stalled ? 100 : is_fast ? 1 : usual;
    LUN_TRY(original->run(plan, part));
    if (!wrong || strcmp(plan->candidate, wrong) != 0)
        return LUN_OK;
    for (int i = bound - 1; i >= 0 && i > bound - 64; i--) {
        if (last_plan[i % 64] != plan)
            continue;
        float value = 0;
        const lun_place at = {last_dst[i % 64].buffer, last_dst[i % 64].offset + spoil_at};
        OK(original->finish(dev));
        OK(original->read(at, &value, sizeof value));
        value = (isnan(value) ? 0 : value) + (float)spoil;
        OK(original->write(at, &value, sizeof value));
        break;
    }
    return LUN_OK;
}

static void begin(void)
{
    scratch_make();
    setenv("LUNETTE_CACHE", scratch("cache"), 1);
    unsetenv("LUNETTE_KERNELS");
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &dev));
    original = dev->driver;
    wrapped = *original;
    wrapped.bind = test_bind;
    wrapped.run = test_run;
    dev->driver = &wrapped;
    now = spoil = spoilt = 0;
    usual = 3;
    fast = wrong = not_allowed = NULL;
    runs = bound = fast_runs = stalls_from = stalls = 0;
    spoil_at = 0;
}

static void end(void)
{
    size_t held = 1;
    lun_device_memory(dev, &held, NULL);
    ck_assert_uint_eq(held, 0); /* tuning has given everything back */
    dev->driver = original;
    lun_device_close(&dev);
    scratch_remove();
}

static lun_tune_op conv(int k)
{
    lun_tune_op t = {.op = {.kind = LUN_OP_CONV2D, .nsrc = 2}};
    t.op.attrs.conv = (lun_conv_attrs){.stride_h = 1, .stride_w = 1, .pad_h = 1, .pad_w = 1};
    t.op.src[0] = lun_image(2, 5, 7, 6);
    t.op.src[1] = lun_filter(k, 5, 3, 3);
    OK(lun_op_infer(&t.op));
    return t;
}

typedef struct seen {
    int results, remembered, tries, notes;
    char chosen[32];
    double error, bound;
    int stop_after, calls;
} seen;

static void on_result(void *payload, const lun_tune_result *r)
{
    seen *s = payload;
    s->results++;
    s->remembered += r->remembered;
    s->tries = r->tries_count;
    snprintf(s->chosen, sizeof s->chosen, "%s", r->chosen);
    for (int i = 0; i < r->tries_count; i++) {
        s->notes += r->tries[i].note != NULL;
        if (wrong && strcmp(r->tries[i].candidate, wrong) == 0) {
            s->error = r->tries[i].error;
            s->bound = r->tries[i].bound;
        }
    }
}

static int on_progress(void *payload, const lun_tune_progress *p)
{
    seen *s = payload;
    ck_assert_int_ge(p->op, 0);
    ck_assert_int_lt(p->op, p->ops);
    return s->stop_after && ++s->calls > s->stop_after;
}

static seen tune_with(lun_tuning *tuning, const lun_tune_op *ops, size_t count, lun_tune_params params, int stop_after)
{
    seen s = {.stop_after = stop_after};
    params.result = on_result;
    params.progress = on_progress;
    params.payload = &s;
    OK(lun_tune_ops_by(dev, ops, count, &params, tuning, fake_clock));
    return s;
}

static lun_tuning *opened(void)
{
    lun_tuning *tuning = NULL;
    OK(lun_tuning_open(dev, &tuning));
    return tuning;
}

START_TEST(the_fastest_is_chosen)
{
    const char *const names[] = {"panel", "winograd_4x4", "direct"};
    for (size_t i = 0; i < LUN_COUNT(names); i++) {
        lun_tuning *tuning = opened();
        const lun_tune_op op = conv(9);
        char text[LUN_TUNE_TEXT];
        lun_tune_describe(&op, text);
        fast = names[i];
        const seen s = tune_with(tuning, &op, 1, (lun_tune_params){.force = 1, .seconds = 1e6}, 0);
        ck_assert_int_eq(s.results, 1);
        ck_assert_int_ge(s.tries, 3);
        ck_assert_int_eq(s.remembered, 0);
        ck_assert_str_eq(s.chosen, fast);
        ck_assert_str_eq(lun_tuning_candidate(tuning, text), fast);
        ck_assert(lun_tuning_seconds(tuning, text) == 1);
        lun_tuning_close(&tuning);
    }
}
END_TEST

/* An op that is large enough for a probe: two runs of each candidate on a small one come first. */
START_TEST(a_stall_condemns_nobody)
{
    for (int from = 0; from < 3; from++) {
        lun_tuning *tuning = opened();
        lun_tune_op op = conv(9);
        op.op.src[0] = lun_image(3, 64, 32, 32);
        op.op.src[1] = lun_filter(64, 64, 3, 3);
        OK(lun_op_infer(&op.op));
        double flops = 0, bytes = 0;
        lun_op_cost(&op.op, &flops, &bytes);
        ck_assert(flops > 2e8);
        fast = "winograd_4x4";
        fast_runs = 0;
        stalls_from = from;
        stalls = from == 0 ? 2 : 1;
        const seen s = tune_with(tuning, &op, 1, (lun_tune_params){.force = 1, .seconds = 1e6}, 0);
        ck_assert_str_eq(s.chosen, fast);
        ck_assert_int_gt(fast_runs, 4);
        lun_tuning_close(&tuning);
    }
}
END_TEST

START_TEST(a_wrong_candidate_is_never_chosen)
{
    const lun_tune_op op = conv(9);
    const double amounts[] = {(double)NAN, 1e-2, 1};
    for (size_t i = 0; i < LUN_COUNT(amounts); i++) {
        lun_tuning *tuning = opened();
        fast = wrong = "winograd_4x4";
        spoil = amounts[i];
        const seen s = tune_with(tuning, &op, 1, (lun_tune_params){.force = 1, .seconds = 1e6}, 0);
        ck_assert_int_eq(s.results, 1);
        ck_assert_str_ne(s.chosen, wrong);
        ck_assert_int_ge(s.notes, 1);
        ck_assert(!(s.error <= s.bound));
        lun_tuning_close(&tuning);
    }
    /* Within the bound of its class it is. */
    lun_tuning *tuning = opened();
    spoil = 1e-7;
    const seen s = tune_with(tuning, &op, 1, (lun_tune_params){.force = 1, .seconds = 1e6}, 0);
    ck_assert_str_eq(s.chosen, wrong);
    ck_assert(s.error <= s.bound);
    lun_tuning_close(&tuning);
}
END_TEST

/* Statistics that come with a result are held against the reference's too. */
START_TEST(wrong_statistics_are_seen)
{
    lun_tune_op op = conv(9);
    op.op.attrs.conv.relu = op.op.attrs.conv.stats = true;
    OK(lun_op_infer(&op.op));
    fast = wrong = "winograd_4x4";
    spoilt = 1;
    for (int seeing = 0; seeing < 2; seeing++) {
        lun_tuning *tuning = opened();
        spoil = seeing ? 1 : 1e-7;
        const seen s = tune_with(tuning, &op, 1, (lun_tune_params){.force = 1, .seconds = 1e6}, 0);
        ck_assert_int_eq(s.results, 1);
        ck_assert_int_eq(strcmp(s.chosen, wrong) == 0, !seeing);
        ck_assert_int_eq(s.error <= s.bound, !seeing);
        lun_tuning_close(&tuning);
    }
}
END_TEST

/* Channels of wider images are an op of their own; who writes between them is wrong. */
START_TEST(pitches_are_measured)
{
    lun_tuning *tuning = opened();
    lun_tune_op ops[2] = {conv(9), conv(9)};
    ops[1].op.src_pitch[0] = 8;
    ops[1].op.dst_pitch[0] = 32;
    OK(lun_op_infer(&ops[1].op));
    fast = "winograd_4x4";
    seen s = tune_with(tuning, ops, 2, (lun_tune_params){.seconds = 1e6}, 0);
    ck_assert_int_eq(s.results, 2);
    ck_assert_str_eq(s.chosen, fast);
    ck_assert_uint_eq(lun_tuning_count(tuning), 2);
    wrong = fast;
    spoil = 1e-7;
    spoil_at = 9 * 4;
    s = tune_with(tuning, ops + 1, 1, (lun_tune_params){.force = 1, .seconds = 1e6}, 0);
    ck_assert_str_ne(s.chosen, wrong);
    ck_assert(!(s.error <= s.bound));
    spoil_at = 8 * 4;
    s = tune_with(tuning, ops + 1, 1, (lun_tune_params){.force = 1, .seconds = 1e6}, 0);
    ck_assert_str_eq(s.chosen, wrong);
    lun_tuning_close(&tuning);
}
END_TEST

START_TEST(a_wrong_reference_chooses_nothing)
{
    lun_tuning *tuning = opened();
    const lun_tune_op op = conv(9);
    wrong = "panel";
    spoil = (double)NAN;
    const seen s = tune_with(tuning, &op, 1, (lun_tune_params){.seconds = 1e6}, 0);
    ck_assert_int_eq(s.results, 0);
    ck_assert_uint_eq(lun_tuning_count(tuning), 0);
    lun_tuning_close(&tuning);
}
END_TEST

/* However far behind the reference is at one op, it is there for the next of the class. */
START_TEST(the_reference_is_never_hopeless)
{
    lun_tuning *tuning = opened();
    const lun_tune_op ops[] = {conv(9), conv(10), conv(11)};
    fast = "winograd_4x4";
    usual = 20;
    const seen s = tune_with(tuning, ops, 3, (lun_tune_params){.seconds = 1e6}, 0);
    ck_assert_int_eq(s.results, 3);
    ck_assert_str_eq(s.chosen, fast);
    ck_assert_int_ge(s.notes, 1); /* another is passed over */
    lun_tuning_close(&tuning);
}
END_TEST

START_TEST(what_is_known_is_not_measured)
{
    lun_tuning *tuning = opened();
    const lun_tune_op ops[] = {conv(9), conv(10), conv(9)}; /* two kinds */
    fast = "direct";
    seen s = tune_with(tuning, ops, 3, (lun_tune_params){.seconds = 1e6}, 0);
    ck_assert_int_eq(s.results, 2);
    lun_tuning_close(&tuning);
    /* Another process, as it were. */
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 2);
    runs = 0;
    s = tune_with(tuning, ops, 3, (lun_tune_params){.seconds = 1e6}, 0);
    ck_assert_int_eq(s.remembered, 2);
    ck_assert_str_eq(s.chosen, "direct");
    ck_assert_int_eq(runs, 0);
    /* A kept filter is another op, and force measures again. */
    lun_tune_op kept = conv(9);
    kept.kept = true;
    fast = "panel";
    s = tune_with(tuning, &kept, 1, (lun_tune_params){.seconds = 1e6}, 0);
    ck_assert_int_eq(s.results - s.remembered, 1);
    s = tune_with(tuning, ops, 3, (lun_tune_params){.seconds = 1e6, .force = 1}, 0);
    ck_assert_int_eq(s.results, 2);
    ck_assert_int_eq(s.remembered, 0);
    lun_tuning_close(&tuning);
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 3);
    char text[LUN_TUNE_TEXT];
    lun_tune_describe(&ops[0], text);
    ck_assert_str_eq(lun_tuning_candidate(tuning, text), "panel");
    lun_tuning_close(&tuning);
}
END_TEST

START_TEST(stopping_keeps_what_was_measured)
{
    lun_tuning *tuning = opened();
    const lun_tune_op ops[] = {conv(9), conv(10), conv(11), conv(12)};
    fast = "panel";
    /* 3 s a run and 10 s in all: time for one op. */
    seen s = tune_with(tuning, ops, 4, (lun_tune_params){.seconds = 10}, 0);
    ck_assert_int_eq(s.results, 1);
    lun_tuning_close(&tuning);
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 1);
    s = tune_with(tuning, ops, 4, (lun_tune_params){.seconds = 1e6}, 1);
    ck_assert_int_eq(s.results - s.remembered, 0);
    lun_tuning_close(&tuning);
}
END_TEST

static const char line_of_panel[] = "panel\t1.5000 ms\tconv2d 1x2x3x4 (5,2,3,3) s1x1 p1x1";

START_TEST(the_file_is_read_again_and_merged)
{
    lun_tuning *a = opened(), *b = opened();
    ck_assert_ptr_nonnull(lun_tuning_path(a));
    OK(lun_tuning_set(a, "conv2d one", "panel", 0.001));
    OK(lun_tuning_set(b, "conv2d_wgrad two", "direct", 0.25));
    OK(lun_tuning_set(b, "conv2d one", "direct", 0.002));
    ck_assert_int_ne(lun_tuning_set(b, "conv2d one", "no such", 1), LUN_OK);
    ck_assert_int_ne(lun_tuning_set(b, "no_op one", "panel", 1), LUN_OK);
    lun_tuning_keep(b);
    lun_tuning_keep(a); /* the later one counts, and takes nothing away */
    lun_tuning_close(&b);
    b = opened();
    ck_assert_uint_eq(lun_tuning_count(b), 2);
    ck_assert_str_eq(lun_tuning_candidate(b, "conv2d one"), "panel");
    ck_assert_str_eq(lun_tuning_candidate(b, "conv2d_wgrad two"), "direct");
    ck_assert(lun_tuning_seconds(b, "conv2d_wgrad two") == 0.25);
    ck_assert_ptr_null(lun_tuning_candidate(b, "conv2d on"));
    ck_assert_int_eq(count_entries(scratch("cache")), 1);
    lun_tuning_close(&a);
    lun_tuning_close(&b);
}
END_TEST

START_TEST(damaged_lines_are_ignored)
{
    lun_tuning *tuning = opened();
    OK(lun_tuning_set(tuning, "conv2d one", "panel", 0.001));
    lun_tuning_keep(tuning);
    char path[1024], text[4096], head[2048];
    snprintf(path, sizeof path, "%s", lun_tuning_path(tuning));
    lun_tuning_close(&tuning);
    char *old = get_file(path, NULL);
    const char *third = strchr(strchr(old, '\n') + 1, '\n') + 1;
    snprintf(head, sizeof head, "%.*s", (int)(third - old), old);
    static const char *const bad[] = {"panel",
                                      "panel\t1.0 ms",
                                      "panel\tx ms\tconv2d a",
                                      "panel\t1.0\tconv2d a",
                                      "panel\t-1 ms\tconv2d a",
                                      "panel\tnan ms\tconv2d a",
                                      "panl\t1.0 ms\tconv2d a",
                                      "panel\t1.0 ms\tconv3d a",
                                      "panel\t1.0 ms\tconv2d a\tb",
                                      "plain\t1.0 ms\tconv2d a",
                                      "\t\t",
                                      "\t1.0 ms\tconv2d a",
                                      "",
                                      "\x01\xff"};
    for (size_t i = 0; i < LUN_COUNT(bad); i++) {
        const int length = snprintf(text, sizeof text, "%s%s\n%s\n%s", head, bad[i], line_of_panel, bad[i]);
        put_file(path, text, (size_t)length);
        tuning = opened();
        ck_assert_msg(lun_tuning_count(tuning) == 1, "line %zu was taken", i);
        ck_assert_str_eq(lun_tuning_candidate(tuning, strrchr(line_of_panel, '\t') + 1), "panel");
        lun_tuning_close(&tuning);
    }
    /* Without its head nothing counts; a cut and an empty file are no file; what is kept then makes it whole again. */
    put_file(path, line_of_panel, sizeof line_of_panel - 1);
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 0);
    OK(lun_tuning_set(tuning, "conv2d three", "panel", 0.001));
    lun_tuning_keep(tuning);
    lun_tuning_close(&tuning);
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 1);
    lun_tuning_close(&tuning);
    put_file(path, old, strlen(old) / 8);
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 0);
    lun_tuning_close(&tuning);
    put_file(path, "", 0);
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 0);
    lun_tuning_close(&tuning);
    free(old);
}
END_TEST

START_TEST(another_device_is_another_table)
{
    lun_tuning *tuning = opened();
    OK(lun_tuning_set(tuning, "conv2d one", "panel", 0.001));
    lun_tuning_keep(tuning);
    char path[1024];
    snprintf(path, sizeof path, "%s", lun_tuning_path(tuning));
    lun_tuning_close(&tuning);
    const lun_device_info info = dev->info;
    const lun_caps caps = dev->caps;
    for (int what = 0; what < 5; what++) {
        switch (what) {
        case 0: strcpy(dev->info.name, "another"); break;
        case 1: strcpy(dev->info.driver, "another"); break;
        case 2: strcpy(dev->info.platform, "another"); break;
        case 3: dev->info.units++; break;
        default: dev->caps.lanes *= 2; break;
        }
        tuning = opened();
        ck_assert_uint_eq(lun_tuning_count(tuning), 0);
        ck_assert_str_ne(lun_tuning_path(tuning), path);
        /* Nor where the name of the file says otherwise. */
        char *text = get_file(path, NULL);
        put_file(lun_tuning_path(tuning), text, strlen(text));
        free(text);
        lun_tuning_close(&tuning);
        tuning = opened();
        ck_assert_uint_eq(lun_tuning_count(tuning), 0);
        lun_tuning_close(&tuning);
        dev->info = info;
        dev->caps = caps;
    }
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 1);
    lun_tuning_close(&tuning);
    setenv("LUNETTE_KERNELS", "elsewhere", 1);
    tuning = opened();
    ck_assert_uint_eq(lun_tuning_count(tuning), 0);
    ck_assert_ptr_null(lun_tuning_path(tuning));
    lun_tuning_close(&tuning);
    unsetenv("LUNETTE_KERNELS");
}
END_TEST

START_TEST(null_and_check_have_nothing_to_tune)
{
    static const char *const specs[] = {"null", "check:cpu,cpu"};
    for (size_t i = 0; i < LUN_COUNT(specs); i++) {
        lun_device *other = NULL;
        lun_tuning *tuning = NULL;
        OK(lun_device_open(specs[i], NULL, &other));
        OK(lun_tuning_open(other, &tuning));
        ck_assert_ptr_null(lun_tuning_path(tuning));
        const lun_tune_op op = conv(9);
        OK(lun_tune_ops(other, &op, 1, &(lun_tune_params){.force = 1}, tuning));
        ck_assert_uint_eq(lun_tuning_count(tuning), 0);
        lun_tuning_close(&tuning);
        lun_device_close(&other);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tune");
    TCase *tests = tcase_create("tune");
    tcase_add_checked_fixture(tests, begin, end);
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, the_fastest_is_chosen);
    tcase_add_test(tests, a_stall_condemns_nobody);
    tcase_add_test(tests, a_wrong_candidate_is_never_chosen);
    tcase_add_test(tests, wrong_statistics_are_seen);
    tcase_add_test(tests, pitches_are_measured);
    tcase_add_test(tests, a_wrong_reference_chooses_nothing);
    tcase_add_test(tests, the_reference_is_never_hopeless);
    tcase_add_test(tests, what_is_known_is_not_measured);
    tcase_add_test(tests, stopping_keeps_what_was_measured);
    tcase_add_test(tests, the_file_is_read_again_and_merged);
    tcase_add_test(tests, damaged_lines_are_ignored);
    tcase_add_test(tests, another_device_is_another_table);
    tcase_add_test(tests, null_and_check_have_nothing_to_tune);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
