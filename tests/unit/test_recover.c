/* Runs on devices that fail, and in less memory than they want. The linker's --wrap stands between a run and its
 * trainer's steps, and between everything and the device's buffers. */
#include "small_run.h"

#include "device/driver.h"
#include "train/run.h"

lun_status __real_lun_trainer_run(lun_trainer *t, const float *images);
lun_status __wrap_lun_trainer_run(lun_trainer *t, const float *images);
lun_status __real_lun_buffer_create(lun_device *device, size_t bytes, lun_buffer **out);
lun_status __wrap_lun_buffer_create(lun_device *device, size_t bytes, lun_buffer **out);

static lun_device *current; /* of the run at hand: lost where `lose` says so before a step */
static bool (*lose)(int call);
static lun_status lost_as = LUN_ERR_DEVICE;
static int calls, reopened;
static size_t limit; /* bytes of buffers; 0: none */

lun_status __wrap_lun_trainer_run(lun_trainer *t, const float *images)
{
    if (lose && lose(++calls)) {
        current->lost = lost_as;
        snprintf(current->lost_detail, sizeof current->lost_detail, "the context is gone");
    }
    return __real_lun_trainer_run(t, images);
}

lun_status __wrap_lun_buffer_create(lun_device *device, size_t bytes, lun_buffer **out)
{
    size_t now = 0;
    lun_device_memory(device, &now, NULL);
    if (limit && now + bytes > limit)
        return lun_fail(LUN_ERR_MEMORY, "a buffer of %zu bytes beside %zu", bytes, now);
    return __real_lun_buffer_create(device, bytes, out);
}

static char said[8192];
static void keep_warnings(void *payload, lun_log_level level, const char *line)
{
    (void)payload, (void)level;
    const size_t length = strlen(said);
    snprintf(said + length, sizeof said - length, "%s\n", line);
}

static int times_said(const char *what)
{
    int count = 0;
    for (const char *at = said; (at = strstr(at, what)); at++)
        count++;
    return count;
}

static lun_status reopen(void *payload, lun_device **device)
{
    (void)payload;
    reopened++;
    lun_device_close(&current);
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &current));
    *device = current;
    return LUN_OK;
}

static lun_run_params run_params(const char *folder, uint64_t steps)
{
    return (lun_run_params){.folder = scratch(folder),
                            .length = {.steps = steps},
                            .log_every = 3,
                            .checkpoint_every = 5,
                            .keep = 100,
                            .clip = LUN_CLIP_MODE_X0,
                            .norm = LUN_NORM_EVAL,
                            .reopen = reopen};
}

static lun_status run_with(const lun_train_config *c, const lun_run_params *p)
{
    said[0] = 0;
    calls = reopened = 0;
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &current));
    lun_log_set(keep_warnings, NULL, LUN_LOG_WARN);
    const lun_status status = lun_train_run(current, dataset, c, p);
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    size_t now = 1;
    lun_device_memory(current, &now, NULL);
    ck_assert_uint_eq(now, 0);
    lun_device_close(&current);
    lose = NULL;
    return status;
}

/* ---- Devices that fail ------------------------------------------------------------------------------------------ */

static bool at_twelve(int call)
{
    return call == 12;
}
static bool at_three(int call)
{
    return call == 3;
}
static bool often(int call)
{
    return call % 7 == 0;
}
static bool always(int call)
{
    return call >= 9;
}

START_TEST(a_lost_device_is_opened_anew)
{
    static const struct {
        const char *folder;
        bool (*when)(int call);
        int times;
    } cases[] = {{"twelve", at_twelve, 1}, {"three", at_three, 1}, {"often", often, 4}};
    lun_train_config c = small();
    c.ema_count = 1;
    c.ema_rate[0] = 0.9;
    lun_run_params p = run_params("whole", 30);
    OK(run_with(&c, &p));
    ck_assert_str_eq(said, "");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        p = run_params(cases[i].folder, 30);
        lose = cases[i].when;
        OK(run_with(&c, &p));
        ck_assert_int_ge(reopened, cases[i].times);
        ck_assert_int_eq(times_said("the context is gone; the device is opened anew"), reopened);
        for (int step = 5; step <= 30; step += 5) {
            same_checkpoint("whole", cases[i].folder, step);
            same_file(checkpoint("whole", step, ".ema-0.9"), checkpoint(cases[i].folder, step, ".ema-0.9"));
        }
        char path[64];
        snprintf(path, sizeof path, "%s/log.jsonl", cases[i].folder);
        char *log = get_file(scratch(path), NULL), *whole = get_file(scratch("whole/log.jsonl"), NULL);
        /* A line of each step that has one, whatever times they were taken at. */
        for (int step = 3; step <= 30; step += 3) {
            char want[32];
            snprintf(want, sizeof want, "\"step\": %d,", step);
            const char *first = strstr(log, want);
            ck_assert_msg(first && strstr(whole, want) && !strstr(first + 1, want), "%s: %s", cases[i].folder, want);
        }
        free(log);
        free(whole);
    }
}
END_TEST

START_TEST(a_device_that_never_recovers_ends_the_run)
{
    const lun_train_config c = small();
    lun_run_params p = run_params("never", 30);
    lose = always;
    NOT_OK(run_with(&c, &p), LUN_ERR_DEVICE);
    ck_assert_int_eq(reopened, LUN_RUN_REOPENS);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "opened anew 3 times"));
    /* the checkpoint of step 5 is sound */
    p.resume = 1;
    lun_train_config own;
    OK(lun_train_config_load(p.folder, &own, NULL));
    OK(run_with(&own, &p));

    p = run_params("closed", 30);
    p.reopen = NULL;
    lose = at_three;
    NOT_OK(run_with(&c, &p), LUN_ERR_DEVICE);
    ck_assert_str_eq(lun_error_detail(), "the context is gone");
    ck_assert_int_eq(reopened, 0);
}
END_TEST

/* ---- Too little memory ------------------------------------------------------------------------------------------ */

/* Without batch norms. */
static lun_train_config unet(void)
{
    lun_train_config c;
    OK(lun_train_preset("tiny", &c));
    c.model.levels = 2;
    memset(c.model.channels, 0, sizeof c.model.channels);
    c.model.channels[0] = 32;
    c.model.channels[1] = 32;
    c.model.steps = 25;
    c.width = c.height = 2 * SIDE; /* so that activations outweigh the sum of gradients */
    c.batch = BATCH;
    c.ema_count = 0;
    c.data.flip = 0;
    return c;
}

static size_t needs(lun_train_config c, int batch, int accumulate)
{
    size_t now = 0;
    c.batch = batch;
    c.accumulate = accumulate;
    lun_trainer *t = make(dev, &c);
    lun_device_memory(dev, &now, NULL);
    lun_trainer_destroy(&t);
    return now;
}

START_TEST(a_batch_is_computed_in_parts_where_memory_lacks)
{
    const lun_train_config c = unet();
    lun_dataset_close(&dataset);
    dataset = open_folder(scratch("pictures"), 2 * SIDE);
    const size_t whole = needs(c, BATCH, 1), two = needs(c, BATCH, 2), four = needs(c, BATCH, 4);
    ck_assert_msg(whole > two && two > four, "%zu, %zu, %zu bytes", whole, two, four);
    for (int parts = 2; parts <= 4; parts += 2) {
        char by_itself[16], asked[16];
        snprintf(by_itself, sizeof by_itself, "itself%d", parts);
        snprintf(asked, sizeof asked, "asked%d", parts);
        lun_run_params p = run_params(by_itself, 5);
        limit = parts == 2 ? (whole + two) / 2 : (two + four) / 2;
        OK(run_with(&c, &p));
        limit = 0;
        char want[64];
        snprintf(want, sizeof want, "each batch of 4 is computed in %d parts of %d,", parts, 4 / parts);
        ck_assert_msg(times_said(want) == 1 && times_said("\n") == 1, "%s", said);
        lun_train_config own;
        OK(lun_train_config_load(p.folder, &own, NULL));
        ck_assert_int_eq(own.accumulate, parts);
        lun_train_config same = c;
        same.accumulate = parts;
        p = run_params(asked, 5);
        OK(run_with(&same, &p));
        same_checkpoint(by_itself, asked, 5);
        /* Gone on with where memory is smaller still, or is there again: the record says how. */
        for (int half = 0; half < 2; half++) {
            p = run_params(by_itself, half ? 12 : 9);
            p.resume = 1;
            limit = half && parts == 2 ? (two + four) / 2 : 0;
            OK(lun_train_config_load(p.folder, &own, NULL));
            OK(run_with(&own, &p));
            limit = 0;
            OK(lun_train_config_load(p.folder, &own, NULL));
            ck_assert_int_eq(own.accumulate, half && parts == 2 ? 4 : parts);
        }
    }
    /* A device that says so only in a step. */
    lun_run_params p = run_params("late", 5);
    lose = at_three;
    lost_as = LUN_ERR_MEMORY;
    OK(run_with(&c, &p));
    lost_as = LUN_ERR_DEVICE;
    ck_assert_msg(reopened == 1 && times_said("each batch of 4 is computed in 2 parts of 2,") == 1, "%s", said);
    same_checkpoint("late", "asked2", 5);

    p = run_params("none", 5);
    limit = four / 2;
    NOT_OK(run_with(&c, &p), LUN_ERR_MEMORY);
    limit = 0;
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "not even room for one picture"));
    ck_assert(!lun_runfolder_holds_run(scratch("none")));
}
END_TEST

/* 6 pictures at a time become 3, not 4, and 3 become 2. */
START_TEST(parts_are_halved)
{
    lun_train_config c = unet();
    lun_dataset_close(&dataset);
    draw_folder(scratch("pictures"), 12, 2 * SIDE);
    dataset = open_folder(scratch("pictures"), 2 * SIDE);
    c.batch = 12;
    for (int parts = 2; parts <= 4; parts += 2) {
        const size_t now = needs(c, 12, parts), next = needs(c, 12, parts == 2 ? 3 : 6);
        ck_assert_uint_gt(now, next);
        c.accumulate = parts;
        lun_run_params p = run_params(parts == 2 ? "six" : "three", 2);
        limit = (now + next) / 2;
        OK(run_with(&c, &p));
        limit = 0;
        const char *want = parts == 2
                               ? "no room for 6 pictures at a time: each batch of 12 is computed in 4 parts of 3,"
                               : "no room for 3 pictures at a time: each batch of 12 is computed in 6 parts of 2,";
        ck_assert_msg(times_said(want) == 1, "%s", said);
    }
}
END_TEST

START_TEST(with_batch_norms_the_batch_that_fits_is_named)
{
    lun_train_config c = small();
    c.batch = 8;
    const size_t eight = needs(c, 8, 1), four = needs(c, 4, 1), two = needs(c, 2, 1);
    ck_assert_msg(eight > four && four > two, "%zu, %zu, %zu bytes", eight, four, two);
    lun_run_params p = run_params("four", 5);
    limit = (eight + four) / 2;
    NOT_OK(run_with(&c, &p), LUN_ERR_MEMORY);
    ck_assert_msg(strstr(lun_error_detail(), "room for --batch 4"), "%s", lun_error_detail());
    ck_assert(!lun_runfolder_holds_run(scratch("four")));
    c.batch = 4; /* and so it is */
    OK(run_with(&c, &p));
    ck_assert_str_eq(said, "");
    c.batch = 8;
    p = run_params("two", 5);
    limit = (four + two) / 2;
    NOT_OK(run_with(&c, &p), LUN_ERR_MEMORY);
    ck_assert_msg(strstr(lun_error_detail(), "room for --batch 2"), "%s", lun_error_detail());
    limit = two / 4;
    NOT_OK(run_with(&c, &p), LUN_ERR_MEMORY);
    ck_assert_msg(strstr(lun_error_detail(), "no room for a smaller batch"), "%s", lun_error_detail());
    limit = 0;
}
END_TEST

int main(void)
{
    Suite *s = suite_create("recover");
    TCase *tc = tcase_create("recover");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, a_lost_device_is_opened_anew);
    tcase_add_test(tc, a_device_that_never_recovers_ends_the_run);
    tcase_add_test(tc, a_batch_is_computed_in_parts_where_memory_lacks);
    tcase_add_test(tc, parts_are_halved);
    tcase_add_test(tc, with_batch_norms_the_batch_that_fits_is_named);
    suite_add_tcase(s, tc);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
