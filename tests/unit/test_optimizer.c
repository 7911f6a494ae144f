/* What surrounds plain Adam in training: schedules of the learning rate, clipping, moving averages, micro-batches; and
 * that a run with all of it goes on bit for bit. */
#include "small_run.h"

#include <math.h>

#define ELEMENTS (3 * SIDE * SIDE)

static lun_train_config everything(void)
{
    lun_train_config c = small();
    c.optimizer = LUN_ADAMW;
    c.weight_decay = 0.01;
    c.beta2 = 0.99;
    c.warmup = 4;
    c.decay = LUN_DECAY_COSINE;
    c.decay_steps = 12;
    c.lr_end = 1e-5;
    c.clip_norm = 0.5;
    c.ema_count = 2;
    c.ema_rate[0] = 0.9;
    c.ema_rate[1] = 0.999;
    c.ema_warmup = LUN_EMA_WARMUP_POWER;
    c.accumulate = 2;
    return c;
}

/* ---- Rates ------------------------------------------------------------------------------------------------------ */

static void near(double got, double want)
{
    ck_assert_msg(fabs(got - want) <= 1e-12 * fmax(fabs(want), 1e-3), "%.17g, not %.17g", got, want);
}

START_TEST(learning_rates)
{
    lun_train_config c = small();
    ck_assert(lun_train_lr(&c, 1) == 1e-3 && lun_train_lr(&c, 1000000) == 1e-3);
    c.lr = 0.5;
    c.warmup = 4;
    for (uint64_t s = 1; s <= 9; s++)
        near(lun_train_lr(&c, s), s < 4 ? 0.5 * (double)s / 4 : 0.5);
    c.decay = LUN_DECAY_LINEAR;
    c.decay_steps = 14;
    c.lr_end = 0.1;
    near(lun_train_lr(&c, 3), 0.375);
    near(lun_train_lr(&c, 4), 0.5);
    near(lun_train_lr(&c, 5), 0.5);
    near(lun_train_lr(&c, 6), 0.46);
    near(lun_train_lr(&c, 14), 0.14);
    near(lun_train_lr(&c, 15), 0.1);
    near(lun_train_lr(&c, UINT64_MAX), 0.1);
    c.decay = LUN_DECAY_COSINE;
    near(lun_train_lr(&c, 5), 0.5);
    near(lun_train_lr(&c, 10), 0.3); /* half of the way */
    near(lun_train_lr(&c, 7), 0.1 + 0.4 * 0.90450849718747371);
    near(lun_train_lr(&c, 15), 0.1);
    c.warmup = 0;
    c.decay_steps = 1;
    near(lun_train_lr(&c, 1), 0.5);
    near(lun_train_lr(&c, 2), 0.1);
}
END_TEST

START_TEST(rates_of_averages)
{
    near(lun_train_ema_decay(0.9999, LUN_EMA_WARMUP_NONE, 1), 0.9999);
    near(lun_train_ema_decay(0.9999, LUN_EMA_WARMUP_POWER, 1), 0);
    near(lun_train_ema_decay(0.9999, LUN_EMA_WARMUP_POWER, 2), 0.40539644249863949);
    near(lun_train_ema_decay(0.9999, LUN_EMA_WARMUP_POWER, 16), 0.875);
    near(lun_train_ema_decay(0.9999, LUN_EMA_WARMUP_POWER, 1000000), 0.9999);
    near(lun_train_ema_decay(0.999, LUN_EMA_WARMUP_RAMP, 20), 0.5);
    near(lun_train_ema_decay(0.999, LUN_EMA_WARMUP_RAMP, 200), 0.93303299153680741);
    near(lun_train_ema_decay(0.999, LUN_EMA_WARMUP_RAMP, 100000000), 0.999);
}
END_TEST

START_TEST(config_refusals)
{
    lun_train_config c = everything();
    OK(lun_train_config_check(&c));
    for (int wrong = 0; wrong < 22; wrong++) {
        c = everything();
        switch (wrong) {
        case 0: c.accumulate = 0; break;
        case 1: c.accumulate = 3; break;
        case 2: c.accumulate = 8; break;
        case 3: c.optimizer = (lun_optimizer_kind)2; break;
        case 4: c.decay = (lun_decay)3; break;
        case 5: c.decay_steps = 4; break;
        case 6: c.decay = LUN_DECAY_CONSTANT; break;
        case 7: c.lr_end = -1; break;
        case 8: c.lr_end = 2e-3; break;
        case 9: c.lr_end = NAN; break;
        case 10: c.clip_norm = -1; break;
        case 11: c.clip_norm = NAN; break;
        case 12: c.clip_norm = 1e-60; break;
        case 13: c.clip_norm = 1e39; break;
        case 14: c.ema_count = -1; break;
        case 15: c.ema_count = LUN_MAX_EMA + 1; break;
        case 16: c.ema_rate[1] = 1; break;
        case 17: c.ema_rate[1] = 0; break;
        case 18: c.ema_rate[1] = 0.9; break; /* twice */
        case 19: c.ema_rate[0] = 1.0 / 3; break;
        case 20: c.ema_warmup = (lun_ema_warmup)3; break;
        case 21: c.warmup = UINT64_MAX; break;
        }
        ck_assert_msg(lun_train_config_check(&c) == LUN_ERR_USAGE, "case %d", wrong);
    }
    /* Left open for a run to fill in, but a trainer alone has to know. */
    c = everything();
    c.decay_steps = 0;
    OK(lun_train_config_check(&c));
    lun_trainer *t = NULL;
    NOT_OK(lun_trainer_create(dev, &c, PICTURES, NULL, &t), LUN_ERR_USAGE);
    ck_assert_ptr_null(t);
}
END_TEST

/* ---- The trainer ------------------------------------------------------------------------------------------------ */

static lun_step_report step(lun_trainer *t, const lun_train_config *c)
{
    uint32_t index[BATCH];
    float images[BATCH * ELEMENTS];
    lun_step_report reports[LUN_TRAINER_RING];
    int count = 0;
    lun_trainer_next(t, index);
    OK(lun_dataset_images(dataset, index, (size_t)c->batch, images));
    OK(lun_trainer_run(t, images));
    OK(lun_trainer_reports(t, reports, &count));
    ck_assert_int_eq(count, 1);
    return reports[0];
}

static float *slot_of(lun_trainer *t, size_t index, lun_slot slot)
{
    lun_store *s = lun_trainer_store(t);
    float *data = malloc((size_t)lun_count(lun_store_info(s, index)->desc.shape) * sizeof *data);
    OK(lun_store_read(s, index, slot, data));
    return data;
}

/* In parts, a batch's loss and gradient are the means of what each part gives by itself, with the randomness of its
 * place in the batch. The learning rate is so small that the weights stay. */
START_TEST(parts_of_a_batch)
{
    lun_train_config whole = small(), half = small();
    whole.accumulate = 2;
    half.batch = BATCH / 2;
    whole.lr = half.lr = 1e-12;
    float images[BATCH * ELEMENTS];
    uint32_t index[BATCH] = {0, 1, 2, 3};
    lun_step_report got, each[2], reports[LUN_TRAINER_RING];
    int count = 0;
    OK(lun_dataset_images(dataset, index, BATCH, images));
    lun_trainer *a = make(dev, &whole), *b = make(dev, &half);
    ck_assert_ptr_null(lun_trainer_update_plan(b));
    ck_assert_ptr_nonnull(lun_trainer_update_plan(a));
    const size_t tensor = (size_t)lun_store_find(lun_trainer_store(a), "conv0.weight");
    const size_t elements = (size_t)lun_count(lun_store_info(lun_trainer_store(a), tensor)->desc.shape);
    float *mean = calloc(elements, sizeof *mean);
    OK(lun_trainer_run(a, images));
    OK(lun_trainer_reports(a, reports, &count));
    got = reports[0];
    for (int part = 0; part < 2; part++) {
        OK(lun_trainer_run(b, images + part * (BATCH / 2) * ELEMENTS));
        OK(lun_trainer_reports(b, reports, &count));
        each[part] = reports[0];
        float *grad = slot_of(b, tensor, LUN_SLOT_GRAD);
        for (size_t e = 0; e < elements; e++)
            mean[e] += grad[e] / 2;
        free(grad);
    }
    ck_assert(each[0].loss != each[1].loss && got.grad_norm > 0);
    ck_assert(fabsf(got.loss - (each[0].loss + each[1].loss) / 2) <= 1e-6f * got.loss);
    float *sum = slot_of(a, tensor, LUN_SLOT_SUM);
    double error = 0, size = 0;
    for (size_t e = 0; e < elements; e++) {
        error += pow((double)sum[e] - (double)mean[e], 2);
        size += pow((double)mean[e], 2);
    }
    ck_assert_msg(size > 0 && error <= 1e-10 * size, "%g of %g", error, size);
    free(sum);
    free(mean);
    lun_model_file_info info = lun_trainer_file_info(a);
    ck_assert(info.step == 1 && info.batches_tracked == 2);
    lun_trainer_destroy(&a);
    lun_trainer_destroy(&b);
}
END_TEST

static int warnings;
static void count_warning(void *payload, lun_log_level level, const char *line)
{
    (void)payload, (void)level;
    warnings += strstr(line, "batch norm") != NULL;
}

START_TEST(batch_norms_in_parts_are_warned_of)
{
    for (int accumulate = 1; accumulate <= 2; accumulate++) {
        lun_train_config c = small();
        c.accumulate = accumulate;
        warnings = 0;
        lun_log_set(count_warning, NULL, LUN_LOG_WARN);
        lun_trainer *t = make(dev, &c);
        ck_assert_int_eq(warnings, 0);
        lun_trainer_warn(t);
        lun_log_set(NULL, NULL, LUN_LOG_WARN);
        ck_assert_int_eq(warnings, accumulate - 1);
        lun_trainer_destroy(&t);
    }
}
END_TEST

/* The trainer's numbers of a step, by what Adam makes of the moments that it leaves: after step n
 *     p' = p - lr (m / (1 - beta1^n)) / (sqrt(v / (1 - beta2^n)) + eps)
 * to a few roundings of float32. */
START_TEST(moments_are_corrected_by_the_steps_number)
{
    const lun_train_config c = small();
    lun_trainer *t = make(dev, &c);
    for (int n = 1; n <= 4; n++) {
        const size_t all = lun_store_count(lun_trainer_store(t));
        float **before = malloc(all * sizeof *before);
        ck_assert_ptr_nonnull(before);
        for (size_t k = 0; k < all; k++)
            before[k] = slot_of(t, k, LUN_SLOT_VALUE);
        const lun_step_report report = step(t, &c);
        double moved = 0;
        for (size_t k = 0; k < all; k++) {
            const lun_param_info *info = lun_store_info(lun_trainer_store(t), k);
            float *after = NULL, *m = NULL, *v = NULL;
            if (info->role == LUN_ROLE_PARAM) {
                after = slot_of(t, k, LUN_SLOT_VALUE);
                m = slot_of(t, k, LUN_SLOT_M);
                v = slot_of(t, k, LUN_SLOT_V);
            }
            for (int64_t e = 0; after && e < lun_count(info->desc.shape); e++) {
                const double change = report.lr * ((double)m[e] / (1 - pow(c.beta1, n))) /
                                      (sqrt((double)v[e] / (1 - pow(c.beta2, n))) + c.eps);
                const double want = (double)before[k][e] - change;
                const double bound = 0x1p-23 * fabs(want) + 1e-5 * fabs(change) + 1e-12;
                ck_assert_msg(fabs((double)after[e] - want) <= bound, "step %d, %s[%d]: %.9g, not %.9g", n, info->name,
                              (int)e, (double)after[e], want);
                moved = fmax(moved, fabs(change));
            }
            free(after);
            free(m);
            free(v);
            free(before[k]);
        }
        free(before);
        ck_assert(moved > 0.5 * report.lr);
    }
    lun_trainer_destroy(&t);
}
END_TEST

/* Measuring the norm, or keeping averages, changes nothing that is trained. */
START_TEST(looking_changes_no_bit)
{
    lun_train_config plain = small(), watched = small();
    watched.clip_norm = 1e9;
    watched.ema_count = 1;
    watched.ema_rate[0] = 0.5;
    lun_trainer *a = make(dev, &plain), *b = make(dev, &watched);
    for (int i = 0; i < 5; i++) {
        const lun_step_report x = step(a, &plain), y = step(b, &watched);
        ck_assert(x.loss == y.loss && x.grad_norm == y.grad_norm && x.lr == 1e-3 && y.lr == 1e-3);
        double squares = 0;
        for (size_t k = 0; k < lun_store_count(lun_trainer_store(a)); k++) {
            const lun_param_info *info = lun_store_info(lun_trainer_store(a), k);
            const size_t count = (size_t)lun_count(info->desc.shape);
            float *p = slot_of(a, k, LUN_SLOT_VALUE), *q = slot_of(b, k, LUN_SLOT_VALUE);
            ck_assert_int_eq(memcmp(p, q, count * sizeof *p), 0);
            free(p);
            free(q);
            if (info->role != LUN_ROLE_PARAM)
                continue;
            float *grad = slot_of(b, k, LUN_SLOT_GRAD);
            for (size_t e = 0; e < count; e++)
                squares += (double)grad[e] * (double)grad[e];
            free(grad);
        }
        ck_assert_msg(fabs((double)y.grad_norm - sqrt(squares)) <= 1e-6 * sqrt(squares), "%g, not %g",
                      (double)y.grad_norm, sqrt(squares));
    }
    lun_trainer_destroy(&a);
    lun_trainer_destroy(&b);
}
END_TEST

/* An average that starts as the initial weights and follows them. */
START_TEST(averages_start_as_the_weights)
{
    lun_train_config c = small();
    c.ema_count = 2;
    c.ema_rate[0] = 0.75;
    c.ema_rate[1] = 0.5;
    lun_trainer *t = make(dev, &c);
    const size_t tensor = (size_t)lun_store_find(lun_trainer_store(t), "conv0.weight");
    float *start = slot_of(t, tensor, LUN_SLOT_VALUE);
    double want[2];
    for (int r = 0; r < 2; r++) {
        float *average = slot_of(t, tensor, (lun_slot)(LUN_SLOT_EMA + r));
        ck_assert(average[7] == start[7]);
        want[r] = (double)start[7];
        free(average);
    }
    for (int i = 0; i < 4; i++) {
        step(t, &c);
        float *value = slot_of(t, tensor, LUN_SLOT_VALUE);
        for (int r = 0; r < 2; r++) {
            float *average = slot_of(t, tensor, (lun_slot)(LUN_SLOT_EMA + r));
            want[r] = c.ema_rate[r] * want[r] + (1 - c.ema_rate[r]) * (double)value[7];
            ck_assert(fabs((double)average[7] - want[r]) <= 1e-7);
            free(average);
        }
        free(value);
    }
    ck_assert(fabs(want[0] - (double)start[7]) > 1e-4);
    free(start);
    lun_trainer_destroy(&t);
}
END_TEST

/* ---- Runs ------------------------------------------------------------------------------------------------------- */

static lun_run_params run_params(const char *folder, uint64_t count)
{
    return (lun_run_params){.folder = folder,
                            .length = {.steps = count},
                            .log_every = 2,
                            .keep = 2,
                            .clip = LUN_CLIP_MODE_XT,
                            .norm = LUN_NORM_BATCH};
}

/* Every line has the learning rate, and the norm if it is measured. */
static void check_log(const char *path, const lun_train_config *c, int lines)
{
    char *text = get_file(path, NULL);
    int seen = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"), seen++) {
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, NULL);
        ck_assert_msg(json != NULL, "%s", line);
        const uint64_t at = (uint64_t)json_integer_value(json_object_get(json, "step"));
        near(json_real_value(json_object_get(json, "lr")), lun_train_lr(c, at));
        const json_t *norm = json_object_get(json, "grad_norm");
        ck_assert_int_eq(norm != NULL, c->clip_norm > 0);
        ck_assert(!norm || json_real_value(norm) > 0);
        json_decref(json);
    }
    ck_assert_int_eq(seen, lines);
    free(text);
}

START_TEST(a_run_with_everything_goes_on_bit_for_bit)
{
    const lun_train_config c = everything();
    lun_run_params p = run_params(scratch("whole"), 12);
    OK(lun_train_run(dev, dataset, &c, &p));
    check_log(scratch("whole/log.jsonl"), &c, 6);

    p = run_params(scratch("parts"), 5);
    p.sample_every = 1;
    p.log_every = 1;
    p.checkpoint_every = 2;
    p.keep = 1;
    OK(lun_train_run(dev, dataset, &c, &p));
    /* weights, optimiser, two averages; of one step */
    ck_assert_int_eq(count_entries(scratch("parts/checkpoints")), 4);
    p = run_params(scratch("parts"), 12);
    p.resume = 1;
    p.log_every = 1;
    p.keep = 1;
    OK(lun_train_run(dev, dataset, &c, &p));
    same_checkpoint("whole", "parts", 12);
    same_file(checkpoint("whole", 12, ".ema-0.9"), checkpoint("parts", 12, ".ema-0.9"));
    same_file(checkpoint("whole", 12, ".ema-0.999"), checkpoint("parts", 12, ".ema-0.999"));
    check_log(scratch("parts/log.jsonl"), &c, 12);
    ck_assert_int_eq(count_entries(scratch("parts/checkpoints")), 4);
    lun_model_file_info info;
    OK(lun_model_inspect(checkpoint("parts", 12, ".ema-0.999"), &info));
    ck_assert(info.ema == 0.999 && info.step == 12 && info.batches_tracked == 24);
    OK(lun_model_inspect(checkpoint("parts", 12, ""), &info));
    ck_assert(info.ema == 0);

    /* another configuration is another run */
    lun_train_config other = c;
    p.folder = scratch("parts");
    for (int k = 0; k < 6; k++) {
        other = c;
        switch (k) {
        case 0: other.ema_rate[1] = 0.99; break;
        case 1: other.clip_norm = 1; break;
        case 2: other.warmup = 5; break;
        case 3: other.accumulate = 4; break;
        case 4: other.optimizer = LUN_ADAM; break;
        case 5: other.decay_steps = 13; break;
        }
        NOT_OK(lun_train_run(dev, dataset, &other, &p), LUN_ERR_USAGE);
    }
}
END_TEST

/* A damaged or missing average is a damaged checkpoint: the one before it serves. */
START_TEST(averages_are_part_of_their_checkpoint)
{
    const lun_train_config c = everything();
    lun_run_params p = run_params(scratch("run"), 12);
    OK(lun_train_run(dev, dataset, &c, &p));
    for (int way = 0; way < 3; way++) {
        char folder[32];
        snprintf(folder, sizeof folder, "run%d", way);
        p = run_params(scratch(folder), 12);
        p.checkpoint_every = 6;
        OK(lun_train_run(dev, dataset, &c, &p));
        const char *average = checkpoint(folder, 12, ".ema-0.999");
        size_t bytes = 0;
        char *data = get_file(average, &bytes);
        if (way == 0)
            ck_assert_int_eq(unlink(average), 0);
        data[bytes - 1] ^= 1;
        if (way == 1)
            put_file(average, data, bytes);
        free(data);
        if (way == 2) { /* that of another checkpoint */
            data = get_file(checkpoint(folder, 6, ".ema-0.999"), &bytes);
            put_file(average, data, bytes);
            free(data);
        }
        lun_checkpoint newest;
        lun_log_set(NULL, NULL, LUN_LOG_WARN);
        OK(lun_runfolder_newest(scratch(folder), true, &newest));
        ck_assert_uint_eq(newest.step, 6);
        ck_assert(newest.averages == 2 && newest.rate[0] == 0.9 && newest.rate[1] == 0.999);
        lun_checkpoint_free(&newest);
        p = run_params(scratch(folder), 12);
        p.resume = 1;
        OK(lun_train_run(dev, dataset, &c, &p));
        same_checkpoint("run", folder, 12);
        same_file(checkpoint("run", 12, ".ema-0.999"), checkpoint(folder, 12, ".ema-0.999"));
    }
}
END_TEST

START_TEST(averages_of_another_step_or_rate_are_refused)
{
    const lun_train_config c = everything();
    lun_run_params p = run_params(scratch("run"), 4);
    p.checkpoint_every = 2;
    OK(lun_train_run(dev, dataset, &c, &p));
    lun_trainer *t = make(dev, &c);
    OK(lun_trainer_load(t, checkpoint("run", 4, ""), checkpoint("run", 4, ".optimizer")));
    OK(lun_trainer_load_average(t, 1, checkpoint("run", 4, ".ema-0.999")));
    NOT_OK(lun_trainer_load_average(t, 0, checkpoint("run", 4, ".ema-0.999")), LUN_ERR_CHECKPOINT);
    NOT_OK(lun_trainer_load_average(t, 1, checkpoint("run", 2, ".ema-0.999")), LUN_ERR_CHECKPOINT);
    NOT_OK(lun_trainer_load_average(t, 0, checkpoint("run", 4, "")), LUN_ERR_CHECKPOINT);
    NOT_OK(lun_trainer_load_average(t, 2, checkpoint("run", 4, ".ema-0.999")), LUN_ERR_USAGE);
    lun_trainer_destroy(&t);
}
END_TEST

/* The end of a decay that is left open is that of the run, once and for all. */
START_TEST(a_decay_ends_with_the_run)
{
    lun_train_config c = small(), read;
    lun_run_length length;
    c.decay = LUN_DECAY_LINEAR;
    lun_run_params p = run_params(scratch("run"), 0);
    p.length.hours = 1;
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    p.length = (lun_run_length){.epochs = 3};
    OK(lun_train_run(dev, dataset, &c, &p));
    OK(lun_train_config_load(scratch("run"), &read, &length));
    ck_assert_uint_eq(read.decay_steps, 3 * PER_EPOCH);
    p.length = (lun_run_length){.epochs = 4};
    p.resume = 1;
    OK(lun_train_run(dev, dataset, &read, &p));
    check_log(scratch("run/log.jsonl"), &read, 4);
}
END_TEST

/* --init starts the averages too. */
START_TEST(a_start_from_a_file)
{
    lun_train_config c = small();
    lun_run_params p = run_params(scratch("first"), 3);
    OK(lun_train_run(dev, dataset, &c, &p));
    char init[1024];
    snprintf(init, sizeof init, "%s", checkpoint("first", 3, ""));
    c.ema_count = 1;
    c.ema_rate[0] = 0.9;
    p = run_params(scratch("second"), 1);
    p.init = init;
    OK(lun_train_run(dev, dataset, &c, &p));
    lun_trainer *a = make(dev, &c), *b = make(dev, &c);
    OK(lun_trainer_init(a, init));
    OK(lun_trainer_load(b, checkpoint("second", 0, ""), checkpoint("second", 0, ".optimizer")));
    OK(lun_trainer_load_average(b, 0, checkpoint("second", 0, ".ema-0.9")));
    const size_t tensor = (size_t)lun_store_find(lun_trainer_store(a), "output.weight");
    float *x = slot_of(a, tensor, LUN_SLOT_VALUE), *y = slot_of(b, tensor, LUN_SLOT_EMA);
    ck_assert(x[3] == y[3] && x[5] == y[5]);
    free(x);
    free(y);
    lun_trainer_destroy(&a);
    lun_trainer_destroy(&b);
}
END_TEST

/* The strips of a run with averages are drawn with the first one, or with the weights where that is asked for. */
START_TEST(strips_are_drawn_with_the_average)
{
    lun_train_config c = small();
    c.ema_count = 1;
    c.ema_rate[0] = 0.5;
    lun_picture strip[3];
    for (int k = 0; k < 3; k++) {
        static const char *const folders[] = {"average", "raw", "none"};
        char name[64];
        c.ema_count = k < 2;
        lun_run_params p = run_params(scratch(folders[k]), PER_EPOCH);
        p.sample_every = 1;
        p.raw_samples = k == 1;
        OK(lun_train_run(dev, dataset, &c, &p));
        snprintf(name, sizeof name, "%s/samples/epoch-00001.png", folders[k]);
        OK(lun_picture_load(scratch(name), 0, &strip[k]));
    }
    const size_t bytes = (size_t)strip[0].width * (size_t)strip[0].height * 3;
    ck_assert_int_ne(memcmp(strip[0].pixels, strip[1].pixels, bytes), 0);
    ck_assert_int_eq(memcmp(strip[1].pixels, strip[2].pixels, bytes), 0);
    for (int k = 0; k < 3; k++)
        lun_picture_free(&strip[k]);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("optimizer");
    TCase *tc = tcase_create("optimizer");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, learning_rates);
    tcase_add_test(tc, rates_of_averages);
    tcase_add_test(tc, config_refusals);
    tcase_add_test(tc, parts_of_a_batch);
    tcase_add_test(tc, batch_norms_in_parts_are_warned_of);
    tcase_add_test(tc, moments_are_corrected_by_the_steps_number);
    tcase_add_test(tc, looking_changes_no_bit);
    tcase_add_test(tc, averages_start_as_the_weights);
    tcase_add_test(tc, a_run_with_everything_goes_on_bit_for_bit);
    tcase_add_test(tc, averages_are_part_of_their_checkpoint);
    tcase_add_test(tc, averages_of_another_step_or_rate_are_refused);
    tcase_add_test(tc, a_decay_ends_with_the_run);
    tcase_add_test(tc, a_start_from_a_file);
    tcase_add_test(tc, strips_are_drawn_with_the_average);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
