/* Steps whose loss or gradient is not finite, in the trainer and in whole runs. The linker's --wrap stands between the
 * run and the trainer's steps, and spoils a weight for as long as a step takes. */
#include "small_run.h"

#include <math.h>

#include "checkpoint/json.h"
#include "train/run.h"

enum { SLOTS = LUN_SLOT_LAST + 1 };

lun_status __real_lun_trainer_run(lun_trainer *t, const float *images);
lun_status __wrap_lun_trainer_run(lun_trainer *t, const float *images);
lun_status __real_lun_trainer_trace(lun_trainer *t, const float *images, char *text, size_t size);
lun_status __wrap_lun_trainer_trace(lun_trainer *t, const float *images, char *text, size_t size);

/* Which steps are spoilt, and what the first of the weight's values is then. */
static struct {
    bool (*when)(lun_trainer *t);
    const char *name;
    float value;
    int calls, hits;
    bool last; /* the last step was spoilt */
} spoil;

static size_t elements_of(lun_trainer *t, size_t index)
{
    return (size_t)lun_count(lun_store_info(lun_trainer_store(t), index)->desc.shape);
}

static float swap_weight(lun_trainer *t, const char *name, float value)
{
    lun_store *s = lun_trainer_store(t);
    const int index = lun_store_find(s, name);
    ck_assert_msg(index >= 0, "no %s", name);
    float *data = malloc(elements_of(t, (size_t)index) * sizeof *data);
    OK(lun_store_read(s, (size_t)index, LUN_SLOT_VALUE, data));
    const float was = data[0];
    data[0] = value;
    OK(lun_store_write(s, (size_t)index, LUN_SLOT_VALUE, data));
    free(data);
    return was;
}

lun_status __wrap_lun_trainer_run(lun_trainer *t, const float *images)
{
    spoil.calls++;
    spoil.last = spoil.when && spoil.when(t);
    if (!spoil.last)
        return __real_lun_trainer_run(t, images);
    spoil.hits++;
    const float was = swap_weight(t, spoil.name, spoil.value);
    const lun_status status = __real_lun_trainer_run(t, images);
    float health = 0;
    OK(lun_plan_read(t->update_plan ? t->update_plan : t->plan, t->health, &health));
    if (health != 0) /* else it has been trained on */
        swap_weight(t, spoil.name, was);
    return status;
}

lun_status __wrap_lun_trainer_trace(lun_trainer *t, const float *images, char *text, size_t size)
{
    const float was = spoil.last ? swap_weight(t, spoil.name, spoil.value) : 0;
    const lun_status status = __real_lun_trainer_trace(t, images, text, size);
    if (spoil.last)
        swap_weight(t, spoil.name, was);
    return status;
}

/* ---- The trainer ------------------------------------------------------------------------------------------------ */

static lun_train_config rich(void)
{
    lun_train_config c = small();
    c.optimizer = LUN_ADAMW;
    c.weight_decay = 0.01;
    c.clip_norm = 0.5;
    c.ema_count = 2;
    c.ema_rate[0] = 0.9;
    c.ema_rate[1] = 0.99;
    c.accumulate = 2;
    return c;
}

/* One average, which moves in Adam's own pass. */
static lun_train_config averaged(void)
{
    lun_train_config c = small();
    c.ema_count = 1;
    c.ema_rate[0] = 0.9;
    return c;
}

static lun_train_config aware(void)
{
    lun_train_config c = small();
    c.loss_aware = 1;
    c.model.steps = 2; /* so that the history fills, and counts, soon */
    return c;
}

static void run_steps(lun_trainer *t, int count)
{
    uint32_t index[BATCH];
    float images[BATCH * 3 * SIDE * SIDE];
    for (int i = 0; i < count; i++) {
        lun_trainer_next(t, index);
        OK(lun_dataset_images(dataset, index, BATCH, images));
        OK(__real_lun_trainer_run(t, images));
    }
}

static int take_losses(lun_trainer *t, float losses[LUN_TRAINER_RING])
{
    int count = 0;
    OK(lun_trainer_losses(t, losses, &count));
    return count;
}

/* Values, running statistics, moments and averages of all there is. */
static uint64_t state_of(lun_trainer *t)
{
    uint64_t sum = UINT64_C(14695981039346656037);
    lun_store *s = lun_trainer_store(t);
    for (size_t i = 0; i < lun_store_count(s); i++) {
        const bool trained = lun_store_info(s, i)->role == LUN_ROLE_PARAM;
        unsigned char *data = malloc(elements_of(t, i) * sizeof(float));
        for (int slot = 0; slot < SLOTS; slot++) {
            if ((slot != LUN_SLOT_VALUE && !trained) || slot == LUN_SLOT_GRAD || slot == LUN_SLOT_SUM ||
                slot == LUN_SLOT_SAFE || (slot >= LUN_SLOT_EMA && slot - LUN_SLOT_EMA >= t->config.ema_count))
                continue;
            OK(lun_store_read(s, i, (lun_slot)slot, (float *)(void *)data));
            for (size_t b = 0; b < elements_of(t, i) * sizeof(float); b++)
                sum = (sum ^ data[b]) * UINT64_C(1099511628211);
        }
        free(data);
    }
    return sum;
}

static const struct {
    const char *name;
    float value;
} spoilers[] = {{"conv0.weight", NAN}, {"conv0.weight", INFINITY}, {"output.weight", NAN}, {"conv0.weight", 3e38f}};

START_TEST(a_step_that_is_not_finite_changes_nothing)
{
    lun_train_config (*const configs[])(void) = {small, rich, averaged, aware};
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++)
        for (size_t i = 0; i < sizeof spoilers / sizeof *spoilers; i++) {
            const lun_train_config c = configs[k]();
            float losses[LUN_TRAINER_RING], same[LUN_TRAINER_RING];
            lun_step_report bad;
            lun_trainer *t = make(dev, &c), *u = make(dev, &c);
            run_steps(t, 3);
            run_steps(u, 3);
            const uint64_t before = state_of(u);
            ck_assert(state_of(t) == before);
            const float was = swap_weight(t, spoilers[i].name, spoilers[i].value);
            run_steps(t, 1);
            swap_weight(t, spoilers[i].name, was);
            ck_assert_msg(state_of(t) == before, "config %zu, case %zu", k, i);
            /* Nothing changes either in steps after it that are sound, as long as the host has not seen it. */
            run_steps(t, 2);
            ck_assert(state_of(t) == before);
            ck_assert_int_eq(take_losses(t, losses), 3);
            NOT_OK(lun_trainer_losses(t, losses, &(int){0}), LUN_ERR_DIVERGED);
            ck_assert_ptr_nonnull(strstr(lun_error_detail(), "step 4"));
            OK(lun_trainer_rewind(t, &bad));
            ck_assert(!isfinite(bad.loss) || !isfinite(bad.grad_norm));
            ck_assert_uint_eq(lun_trainer_step(t), 3);
            ck_assert(state_of(t) == before);
            run_steps(t, 12);
            run_steps(u, 12);
            ck_assert_int_eq(take_losses(t, losses), 12);
            ck_assert_int_eq(take_losses(u, same), 15);
            ck_assert_int_eq(memcmp(losses, same + 3, 12 * sizeof *losses), 0);
            ck_assert_msg(state_of(t) == state_of(u), "config %zu, case %zu: after 12 more", k, i);
            lun_trainer_destroy(&t);
            lun_trainer_destroy(&u);
        }
}
END_TEST

/* A gradient that overflows while the loss is finite is seen too. */
START_TEST(a_gradient_alone_can_be_at_fault)
{
    lun_train_config c = small();
    c.loss = LUN_L2;
    lun_trainer *t = make(dev, &c);
    lun_step_report bad, reports[LUN_TRAINER_RING];
    int count = 0;
    /* The last layer's bias moves the prediction: its square stays below float's end, its products with what comes
     * before do not when they are squared. */
    swap_weight(t, "output.bias", 1e17f);
    swap_weight(t, "output.weight", 1e17f);
    const uint64_t before = state_of(t);
    run_steps(t, 1);
    NOT_OK(lun_trainer_reports(t, reports, &count), LUN_ERR_DIVERGED);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "the gradient of step 1"));
    OK(lun_trainer_rewind(t, &bad));
    ck_assert_msg(isfinite(bad.loss) && !isfinite(bad.grad_norm), "loss %g, norm %g", (double)bad.loss,
                  (double)bad.grad_norm);
    ck_assert(state_of(t) == before);
    lun_trainer_destroy(&t);
}
END_TEST

static void trace_is(const lun_train_config *c, const char *name, float value, const char *want, const char *also)
{
    lun_trainer *t = make(dev, c);
    uint32_t index[BATCH];
    float images[BATCH * 3 * SIDE * SIDE], losses[LUN_TRAINER_RING];
    char text[300];
    lun_step_report bad;
    int count = 0;
    lun_trainer_next(t, index);
    OK(lun_dataset_images(dataset, index, BATCH, images));
    if (name)
        swap_weight(t, name, value);
    const uint64_t before = state_of(t);
    if (name) {
        OK(__real_lun_trainer_run(t, images));
        NOT_OK(lun_trainer_losses(t, losses, &count), LUN_ERR_DIVERGED);
        OK(lun_trainer_rewind(t, &bad));
    }
    OK(__real_lun_trainer_trace(t, images, text, sizeof text));
    ck_assert_uint_eq(lun_trainer_step(t), 0);
    ck_assert_msg(name ? strstr(text, want) && strstr(text, also) : !text[0], "%s: \"%s\"", name ? name : "sound",
                  text);
    ck_assert(!name || state_of(t) == before);
    lun_trainer_destroy(&t);
}

START_TEST(the_first_value_is_named)
{
    const lun_train_config plain = small(), parts = rich();
    trace_is(&plain, NULL, 0, "", "");
    trace_is(&plain, "conv0.bias", NAN, "the parameter conv0.bias", "");
    trace_is(&parts, "conv0.bias", NAN, "the parameter conv0.bias", "");
    trace_is(&plain, "conv0.weight", 3.4e38f, "the result of conv2d", "downs.0.conv1.weight");
    trace_is(&plain, "output.weight", 3.4e38f, "the result of loss", "l1");
}
END_TEST

/* ---- Runs ------------------------------------------------------------------------------------------------------- */

static char said[8192];
static void keep_warnings(void *payload, lun_log_level level, const char *line)
{
    (void)payload, (void)level;
    if (strstr(line, "batch norms: in")) /* of a batch in parts; no matter here */
        return;
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

static lun_status run_spoilt(const char *folder, const lun_train_config *c, uint64_t steps, int resume,
                             bool (*when)(lun_trainer *t), float value)
{
    const lun_run_params p = {.folder = scratch(folder),
                              .length = {.steps = steps},
                              .resume = resume,
                              .log_every = 3,
                              .checkpoint_every = 5,
                              .keep = 100,
                              .norm = LUN_NORM_BATCH};
    said[0] = 0;
    spoil.when = when;
    spoil.name = "conv0.weight";
    spoil.value = value;
    spoil.calls = spoil.hits = 0;
    lun_log_set(keep_warnings, NULL, LUN_LOG_WARN);
    const lun_status status = lun_train_run(dev, dataset, c, &p);
    lun_log_set(NULL, NULL, LUN_LOG_WARN);
    spoil.when = NULL;
    return status;
}

/* Steps of log lines with losses rise, and end with `last`; how many lines have an event. */
static int check_log(const char *folder, int last)
{
    char path[200];
    snprintf(path, sizeof path, "%s/log.jsonl", folder);
    char *text = get_file(scratch(path), NULL);
    int before = 0, events = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_error_t error;
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        ck_assert_msg(json != NULL, "%s", line);
        const int at = (int)json_integer_value(json_object_get(json, "step"));
        if (json_object_get(json, "event")) {
            events++;
            ck_assert_int_ge(at, before);
        } else {
            ck_assert(json_real_value(json_object_get(json, "loss")) > 0);
            ck_assert_int_gt(at, before);
            before = at;
        }
        json_decref(json);
    }
    ck_assert_int_eq(before, last);
    free(text);
    return events;
}

static bool ninth_call(lun_trainer *t)
{
    (void)t;
    return spoil.calls == 9;
}

START_TEST(a_fault_of_the_device_is_told_and_costs_nothing)
{
    const lun_train_config configs[] = {small(), rich(), aware()};
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++) {
        char whole[16], other[16];
        snprintf(whole, sizeof whole, "whole%zu", k);
        snprintf(other, sizeof other, "other%zu", k);
        OK(run_spoilt(whole, &configs[k], 20, 0, NULL, 0));
        ck_assert_str_eq(said, "");
        OK(run_spoilt(other, &configs[k], 20, 0, ninth_call, NAN));
        ck_assert_int_eq(spoil.hits, 1);
        ck_assert_int_eq(times_said("step 9 is not finite"), 1);
        ck_assert_int_eq(times_said("step 9 had two answers"), 1);
        for (int step = 5; step <= 20; step += 5)
            same_checkpoint(whole, other, step);
        ck_assert_int_eq(check_log(whole, 20), 0);
        ck_assert_int_eq(check_log(other, 20), 1);
    }
}
END_TEST

static bool some_calls(lun_trainer *t)
{
    (void)t;
    return spoil.calls == 3 || spoil.calls == 40 || spoil.calls == 70;
}

/* Twice in one step, another answer each time: that is no sign of the numbers either. */
static bool twice(lun_trainer *t)
{
    if (lun_trainer_step(t) != 6 || spoil.hits > 1)
        return false;
    spoil.name = "output.bias";
    spoil.value = spoil.hits ? INFINITY : NAN;
    return true;
}

START_TEST(a_device_that_errs_again_and_again_ends_the_run)
{
    const lun_train_config c = small();
    NOT_OK(run_spoilt("errs", &c, 100, 0, some_calls, NAN), LUN_ERR_DEVICE);
    ck_assert_int_eq(spoil.hits, 3);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "case 3 within"));
    ck_assert_int_eq(times_said("had two answers"), 2);
    OK(run_spoilt("errs", &c, 100, 1, NULL, 0)); /* what it has saved can be gone on with */

    OK(run_spoilt("whole", &c, 20, 0, NULL, 0));
    OK(run_spoilt("twice", &c, 20, 0, twice, NAN));
    ck_assert_int_eq(spoil.hits, 2);
    ck_assert_int_eq(times_said("had two answers"), 2);
    same_checkpoint("whole", "twice", 20);
}
END_TEST

static bool seventh_batch(lun_trainer *t)
{
    return lun_trainer_position(t) == 6;
}

static bool third_batch(lun_trainer *t)
{
    return lun_trainer_position(t) == 2;
}

START_TEST(numbers_that_break_are_gone_round)
{
    const lun_train_config configs[] = {small(), rich(), aware()};
    bool (*const when[])(lun_trainer * t) = {seventh_batch, third_batch}; /* after the first checkpoint, and before */
    for (size_t k = 0; k < sizeof configs / sizeof *configs; k++)
        for (int w = 0; w < 2; w++) {
            char whole[16], parts[16];
            snprintf(whole, sizeof whole, "whole%zu-%d", k, w);
            snprintf(parts, sizeof parts, "parts%zu-%d", k, w);
            OK(run_spoilt(whole, &configs[k], 20, 0, when[w], NAN));
            ck_assert_int_eq(spoil.hits, 2);
            ck_assert_int_eq(times_said("goes back"), 1);
            ck_assert_int_eq(times_said("had two answers"), 0);
            ck_assert_int_eq(times_said(w ? "from step 3 to 0 and" : "from step 7 to 5 and"), 1);
            ck_assert_int_eq(check_log(whole, 20), 1);
            /* The place in the data is kept with the optimiser's state, so going on is going on. */
            lun_safetensors *file = NULL;
            OK(lun_safetensors_open(checkpoint(whole, 20, ".optimizer"), &file));
            ck_assert_ptr_nonnull(lun_safetensors_metadata(file, "lunette.skipped"));
            ck_assert_str_eq(lun_safetensors_metadata(file, "lunette.skipped"), w ? "202" : "201");
            lun_safetensors_close(file);
            OK(run_spoilt(parts, &configs[k], 13, 0, when[w], NAN));
            OK(run_spoilt(parts, &configs[k], 20, 1, when[w], NAN));
            ck_assert_str_eq(said, "");
            same_checkpoint(whole, parts, 20);
        }
}
END_TEST

static bool from_the_eighth_step(lun_trainer *t)
{
    return lun_trainer_step(t) >= 7;
}

START_TEST(after_three_times_it_ends)
{
    const lun_train_config c = small();
    NOT_OK(run_spoilt("run", &c, 20, 0, from_the_eighth_step, NAN), LUN_ERR_DIVERGED);
    ck_assert_int_eq(times_said("goes back from step 8 to 5"), 3);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "gone back 3 times"));
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "of its values first the parameter conv0.weight;"));
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "step 5 is untouched"));
    OK(run_spoilt("run", &c, 20, 1, NULL, 0));
}
END_TEST

static bool late_call(lun_trainer *t)
{
    (void)t;
    spoil.name = "output.bias";
    return spoil.calls == 150;
}

START_TEST(a_loss_out_of_line_is_told)
{
    const lun_train_config c = small();
    OK(run_spoilt("calm", &c, 160, 0, NULL, 0));
    ck_assert_str_eq(said, "");
    OK(run_spoilt("spike", &c, 160, 0, late_call, 1e6f));
    ck_assert_int_eq(spoil.hits, 1);
    ck_assert_msg(times_said("the loss of step 150, ") == 1, "%s", said);
    ck_assert_int_eq(times_said("standard deviations above the mean of the last 128"), 1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("health");
    TCase *tc = tcase_create("health");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 300);
    tcase_add_test(tc, a_step_that_is_not_finite_changes_nothing);
    tcase_add_test(tc, a_gradient_alone_can_be_at_fault);
    tcase_add_test(tc, the_first_value_is_named);
    tcase_add_test(tc, a_fault_of_the_device_is_told_and_costs_nothing);
    tcase_add_test(tc, a_device_that_errs_again_and_again_ends_the_run);
    tcase_add_test(tc, numbers_that_break_are_gone_round);
    tcase_add_test(tc, after_three_times_it_ends);
    tcase_add_test(tc, a_loss_out_of_line_is_told);
    suite_add_tcase(s, tc);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
