/* Training beyond the notebook: UNets, schedules, predictions, objectives, labels, dropout, loss-aware time steps; and
 * that a run with all of it goes on bit for bit. */
#include "small_run.h"

#include <math.h>

#include <lunette/preset.h>

#include "base/base.h"

#define ELEMENTS (3 * SIDE * SIDE)
enum { STEPS = 3 }; /* of the process: few, so that each soon has its ten losses */

static lun_dataset *labelled; /* two classes of six pictures */

static lun_train_config unet(void)
{
    lun_train_config c;
    OK(lun_train_preset("tiny", &c));
    c.model.levels = 2;
    memset(c.model.channels, 0, sizeof c.model.channels);
    memset(c.model.attention, 0, sizeof c.model.attention);
    c.model.channels[0] = c.model.time_dim = 8;
    c.model.channels[1] = 16;
    c.model.groups = c.model.head_width = 8;
    c.model.steps = STEPS;
    c.width = c.height = SIDE;
    c.batch = BATCH;
    c.warmup = 2;
    c.data.crop = LUN_CROP_CENTRE;
    c.seed = UINT64_C(0xfedcba9876543210);
    return c;
}

/* Everything that has something to remember, or that draws. */
static lun_train_config everything(void)
{
    lun_train_config c = unet();
    c.accumulate = 2;
    c.model.dropout = 0.25f;
    c.model.learned_sigma = 1;
    c.model.classes = 2;
    c.model.null_class = 1;
    c.data.labels = 1;
    c.data.label_dropout = 0.3;
    c.loss_aware = 1;
    c.loss = LUN_HUBER;
    c.huber_delta = 0.5f;
    return c;
}

static void setup_family(void)
{
    char from[1200], to[1200];
    setup();
    mkdir(scratch("classes"), 0755);
    mkdir(scratch("classes/first"), 0755);
    mkdir(scratch("classes/second"), 0755);
    for (int i = 0; i < PICTURES; i++) {
        snprintf(from, sizeof from, "%s/%03d.png", scratch("pictures"), i);
        snprintf(to, sizeof to, "%s/%s/%03d.png", scratch("classes"), i < PICTURES / 2 ? "first" : "second", i);
        size_t bytes = 0;
        char *data = get_file(from, &bytes);
        put_file(to, data, bytes);
        free(data);
    }
    const lun_dataset_params params = {
        .folder = scratch("classes"), .width = SIDE, .height = SIDE, .fit = LUN_FIT_CROP, .labels = 1, .threads = 1};
    OK(lun_dataset_open(&params, &labelled));
}

static void teardown_family(void)
{
    lun_dataset_close(&labelled);
    teardown();
}

/* One step on the pictures 0 to BATCH - 1. */
static lun_step_report step_on(lun_trainer *t, const int32_t *labels)
{
    float images[BATCH * ELEMENTS];
    uint32_t index[BATCH] = {0, 1, 2, 3};
    lun_step_report reports[LUN_TRAINER_RING];
    int count = 0;
    OK(lun_dataset_images(dataset, index, BATCH, images));
    if (labels)
        OK(lun_trainer_labels(t, labels));
    OK(lun_trainer_run(t, images));
    OK(lun_trainer_reports(t, reports, &count));
    ck_assert_int_eq(count, 1);
    return reports[0];
}

static lun_step_report first_step(const lun_train_config *c, const int32_t *labels)
{
    lun_trainer *t = make(dev, c);
    const lun_step_report report = step_on(t, labels);
    lun_trainer_destroy(&t);
    return report;
}

static void near(double got, double want, double relative)
{
    ck_assert_msg(fabs(got - want) <= relative * fabs(want), "%.9g, not %.9g", got, want);
}

/* ---- Configurations --------------------------------------------------------------------------------------------- */

START_TEST(every_preset_can_be_trained)
{
    ck_assert_uint_ge(lun_preset_count(), 6);
    for (size_t i = 0; i < lun_preset_count(); i++) {
        lun_preset p;
        lun_train_config c;
        lun_preset_at(i, &p);
        OK(lun_train_preset(p.name, &c));
        OK(lun_train_config_check(&c));
        ck_assert_str_eq(c.preset, p.name);
        ck_assert_str_eq(lun_schedule_kind_name(c.schedule), p.schedule);
        ck_assert_str_eq(lun_prediction_name(c.prediction), p.prediction);
        ck_assert(c.lr == p.lr && c.min_snr == p.min_snr && c.warmup == p.warmup && c.clip_norm == p.clip_norm);
        ck_assert(c.ema_count == (p.ema > 0) && c.ema_rate[0] == p.ema && c.data.flip == p.flip);
        ck_assert((p.steps > 0) != (p.epochs > 0));
        ck_assert_uint_gt(lun_model_parameters(&c.model, NULL), 0);
    }
}
END_TEST

START_TEST(what_does_not_go_together)
{
    static const struct {
        const char *says;
        int field;
        double value;
    } wrong[] = {{"schedule number", 0, LUN_SCHEDULE_KINDS},
                 {"prediction number", 1, LUN_PREDICTIONS},
                 {"min-SNR", 2, -1},
                 {"min-SNR", 2, NAN},
                 {"bound scale", 3, INFINITY},
                 {"trained with labels", 4, 0},
                 {"takes no classes", 5, 0},
                 {"no label for none", 6, 0},
                 {"scaled to 1 steps", 7, 1}};
    const lun_train_config right = everything();
    OK(lun_train_config_check(&right));
    for (size_t i = 0; i < LUN_COUNT(wrong); i++) {
        lun_train_config c = everything();
        switch (wrong[i].field) {
        case 0: c.schedule = (lun_schedule_kind)wrong[i].value; break;
        case 1: c.prediction = (lun_prediction)wrong[i].value; break;
        case 2: c.min_snr = wrong[i].value; break;
        case 3: c.bound_scale = wrong[i].value; break;
        case 4:
            c.data.labels = 0;
            c.data.label_dropout = 0;
            break;
        case 5: c.model.classes = c.model.null_class = 0; break;
        case 6: c.model.null_class = 0; break;
        default: c.schedule = LUN_SCHEDULE_SCALED; c.model.steps = (int)wrong[i].value;
        }
        NOT_OK(lun_train_config_check(&c), LUN_ERR_USAGE);
        ck_assert_msg(strstr(lun_error_detail(), wrong[i].says) != NULL, "%s", lun_error_detail());
    }
}
END_TEST

/* ---- The objective ---------------------------------------------------------------------------------------------- */

/* Each says something else of the same network on the same pictures with the same noise. */
START_TEST(every_choice_reaches_the_step)
{
    lun_train_config c[8];
    double loss[8];
    for (size_t i = 0; i < LUN_COUNT(c); i++)
        c[i] = unet();
    c[1].schedule = LUN_SCHEDULE_LINEAR;
    c[2].prediction = LUN_PREDICTION_EPS;
    c[3].prediction = LUN_PREDICTION_X0;
    c[4].min_snr = 0;
    c[5].loss = LUN_HUBER;
    c[5].huber_delta = 0.1f;
    c[6].model.learned_sigma = 1;
    c[7].loss = LUN_L1;
    for (size_t i = 0; i < LUN_COUNT(c); i++) {
        loss[i] = (double)first_step(&c[i], NULL).loss;
        ck_assert(isfinite(loss[i]) && loss[i] > 0);
        for (size_t k = 0; k < i; k++)
            ck_assert_msg(loss[i] != loss[k], "%zu and %zu", i, k);
    }
    /* The last convolution is zero at the start: what is predicted is 0, and the loss of x0 the pictures' mean square.
     */
    lun_train_config plain = unet();
    plain.prediction = LUN_PREDICTION_X0;
    plain.min_snr = 0;
    float images[BATCH * ELEMENTS];
    uint32_t index[BATCH] = {0, 1, 2, 3};
    double sum = 0;
    OK(lun_dataset_images(dataset, index, BATCH, images));
    for (int e = 0; e < BATCH * ELEMENTS; e++)
        sum += (double)images[e] * (double)images[e];
    near((double)first_step(&plain, NULL).loss, sum / (BATCH * ELEMENTS), 1e-5);
}
END_TEST

/* With group norms a batch in parts is the batch, whatever else is drawn. No layer starts as zero, so all of it
 * counts. */
START_TEST(parts_are_the_whole)
{
    lun_train_config c = everything();
    c.model.start = LUN_START_TORCH;
    c.loss_aware = 0;
    c.clip_norm = 1e9;
    const int32_t labels[BATCH] = {0, 1, 2, 1};
    lun_step_report reports[3];
    for (int i = 0; i < 3; i++) {
        c.accumulate = 1 << i;
        reports[i] = first_step(&c, labels);
        near((double)reports[i].loss, (double)reports[0].loss, 1e-5);
        near((double)reports[i].grad_norm, (double)reports[0].grad_norm, 1e-4);
    }
}
END_TEST

/* Draws by losses, too: weights that hardly move, so that rounding stays what it is. */
START_TEST(loss_aware_parts_are_the_whole)
{
    lun_train_config c = everything(), parts = everything();
    c.model.start = parts.model.start = LUN_START_TORCH;
    c.lr = parts.lr = 1e-12;
    c.accumulate = 1;
    lun_trainer *a = make(dev, &c), *b = make(dev, &parts);
    double least = INFINITY, most = 0;
    for (int i = 0; i < 20; i++) {
        const double whole = (double)step_on(a, NULL).loss;
        near((double)step_on(b, NULL).loss, whole, 1e-5);
        least = fmin(least, whole);
        most = fmax(most, whole);
    }
    ck_assert(most > 1.1 * least);
    lun_trainer_destroy(&a);
    lun_trainer_destroy(&b);
}
END_TEST

/* A network that has been trained a little hears what class it is told. */
START_TEST(labels_and_dropout_reach_the_network)
{
    lun_train_config c = everything();
    c.loss_aware = 0;
    c.lr = 1e-2;
    c.warmup = 0;
    static const int32_t labels[][BATCH] = {{0, 0, 0, 0}, {1, 1, 1, 1}, {2, 2, 2, 2}};
    double loss[4];
    for (int k = 0; k < 4; k++) {
        c.model.dropout = k == 3 ? 0 : 0.25f;
        lun_trainer *t = make(dev, &c);
        for (int i = 0; i < 4; i++)
            step_on(t, labels[0]);
        loss[k] = (double)step_on(t, labels[k % 3]).loss;
        lun_trainer_destroy(&t);
    }
    ck_assert(loss[0] != loss[1] && loss[0] != loss[2] && loss[1] != loss[2] && loss[0] != loss[3]);

    lun_trainer *t = make(dev, &c);
    NOT_OK(lun_trainer_labels(t, (const int32_t[BATCH]){0, 1, 3, 0}), LUN_ERR_USAGE);
    NOT_OK(lun_trainer_labels(t, (const int32_t[BATCH]){-1, 1, 2, 0}), LUN_ERR_USAGE);
    lun_trainer_destroy(&t);
}
END_TEST

/* Until every time step is known the draws are those of a run that does not look, with weights of one. After that they
 * are not. */
START_TEST(loss_aware_steps_begin_uniform)
{
    lun_train_config plain = unet(), aware = unet();
    aware.loss_aware = 1;
    plain.min_snr = aware.min_snr = 0; /* losses of the time steps that differ much */
    plain.prediction = aware.prediction = LUN_PREDICTION_X0;
    lun_trainer *a = make(dev, &plain), *b = make(dev, &aware);
    int differ = 0;
    for (int i = 0; i < 30; i++) {
        const double x = (double)step_on(a, NULL).loss, y = (double)step_on(b, NULL).loss;
        if (i < LUN_TIME_HISTORY * STEPS / BATCH) /* fewer losses than there must be */
            near(y, x, 1e-4);
        differ += fabs(x - y) > 1e-3 * x;
    }
    ck_assert_int_gt(differ, 10);
    lun_trainer_destroy(&a);
    lun_trainer_destroy(&b);
}
END_TEST

/* ---- Runs ------------------------------------------------------------------------------------------------------- */

static lun_run_params run_params(const char *folder, uint64_t count)
{
    return (lun_run_params){.folder = folder,
                            .length = {.steps = count},
                            .log_every = 2,
                            .keep = 2,
                            .clip = LUN_CLIP_MODE_X0,
                            .norm = LUN_NORM_EVAL};
}

/* Broken off after steps of which the time steps' losses are not yet, and are already all known. */
START_TEST(a_run_goes_on_bit_for_bit)
{
    const lun_train_config c = everything();
    static const int stops[] = {5, 17};
    lun_run_params p = run_params(scratch("whole"), 24);
    OK(lun_train_run(dev, labelled, &c, &p));
    for (size_t i = 0; i < LUN_COUNT(stops); i++) {
        char name[16];
        snprintf(name, sizeof name, "parts%zu", i);
        p = run_params(scratch(name), (uint64_t)stops[i]);
        p.sample_every = 2;
        p.checkpoint_every = 3;
        OK(lun_train_run(dev, labelled, &c, &p));
        p = run_params(scratch(name), 24);
        p.resume = 1;
        OK(lun_train_run(dev, labelled, &c, &p));
        same_checkpoint("whole", name, 24);
        char other[64];
        snprintf(other, sizeof other, "%s/checkpoints/step-00000024.ema-0.999.safetensors", name);
        char *path = lun_strdup(scratch(other));
        same_file(path, scratch("whole/checkpoints/step-00000024.ema-0.999.safetensors"));
        free(path);
    }
    lun_model_file_info info;
    OK(lun_model_inspect(checkpoint("whole", 24, ""), &info));
    ck_assert(info.schedule == LUN_SCHEDULE_COSINE && info.prediction == LUN_PREDICTION_V && info.step == 24);
    ck_assert(info.config.classes == 2 && info.config.null_class && info.config.learned_sigma);
    ck_assert(info.config.dropout == 0.25f);
    /* Both classes were told, and none. */
    float moment[3 * 32];
    lun_safetensors *file = NULL;
    OK(lun_safetensors_open(checkpoint("whole", 24, ".optimizer"), &file));
    const int64_t at = lun_safetensors_find(file, "exp_avg.label_emb.weight");
    ck_assert(at >= 0 && lun_safetensors_info(file, (size_t)at)->count == 3 * 32);
    OK(lun_safetensors_read_f32(file, (size_t)at, moment, 3 * 32));
    lun_safetensors_close(file);
    for (int k = 0; k < 3; k++) {
        double size = 0;
        for (int e = 0; e < 32; e++)
            size += fabs((double)moment[k * 32 + e]);
        ck_assert_msg(size > 0, "label %d was never told", k);
    }
}
END_TEST

/* Every part of the configuration is recorded, and is what the next start has. */
START_TEST(records_survive)
{
    lun_train_config c = everything(), read;
    c.schedule = LUN_SCHEDULE_SIGMOID;
    c.prediction = LUN_PREDICTION_X0;
    c.min_snr = 3.25;
    c.bound_scale = 0.75;
    lun_run_params p = run_params(scratch("kept"), 1);
    OK(lun_train_run(dev, labelled, &c, &p));
    lun_run_length length;
    OK(lun_train_config_load(scratch("kept"), &read, &length));
    ck_assert(read.schedule == c.schedule && read.prediction == c.prediction && read.min_snr == c.min_snr);
    ck_assert(read.bound_scale == c.bound_scale && read.loss_aware == 1 && read.loss == LUN_HUBER);
    ck_assert(read.huber_delta == c.huber_delta && read.model.classes == 2 && read.model.null_class == 1);
    /* Other ways are another run. */
    c.prediction = LUN_PREDICTION_V;
    p.resume = 1;
    NOT_OK(lun_train_run(dev, labelled, &c, &p), LUN_ERR_USAGE);
    /* Pictures with other classes, or none. */
    c = everything();
    c.model.classes = 3;
    p = run_params(scratch("three"), 1);
    NOT_OK(lun_train_run(dev, labelled, &c, &p), LUN_ERR_USAGE);
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
}
END_TEST

/* An optimiser's file without the time steps' losses does not go on a run that needs them. */
START_TEST(lost_losses_are_missed)
{
    lun_train_config without = unet(), with = unet();
    with.loss_aware = 1;
    lun_run_params p = run_params(scratch("without"), 2);
    OK(lun_train_run(dev, dataset, &without, &p));
    lun_trainer *t = make(dev, &with);
    char *optimizer = lun_strdup(checkpoint("without", 2, ".optimizer"));
    NOT_OK(lun_trainer_load(t, checkpoint("without", 2, ""), optimizer), LUN_ERR_CHECKPOINT);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "time.history"));
    free(optimizer);
    lun_trainer_destroy(&t);
}
END_TEST

/* A copy of a file of float32 tensors with the first element of one changed, and right checksums. */
static void change_one(const char *from, const char *to, const char *name, float value)
{
    lun_safetensors *file = NULL;
    lun_safetensors_writer *writer = NULL;
    OK(lun_safetensors_open(from, &file));
    OK(lun_safetensors_writer_create(to, &writer));
    for (size_t i = 0; i < lun_safetensors_count(file); i++) {
        const lun_safetensors_entry *e = lun_safetensors_info(file, i);
        OK(lun_safetensors_writer_declare(writer, e->name, e->dtype, e->rank, e->dims));
    }
    for (size_t i = 0; i < lun_safetensors_count(file); i++) {
        const lun_safetensors_entry *e = lun_safetensors_info(file, i);
        float *data = malloc((size_t)e->bytes);
        ck_assert_ptr_nonnull(data);
        OK(lun_safetensors_read(file, i, data, (size_t)e->bytes));
        if (strcmp(e->name, name) == 0)
            data[0] = value;
        OK(lun_safetensors_writer_data(writer, data, (size_t)e->bytes));
        free(data);
    }
    OK(lun_safetensors_writer_commit(writer));
    lun_safetensors_close(file);
}

/* Adam's moments are finite, and the squares not below 0: nothing goes on from others. */
START_TEST(moments_that_cannot_be)
{
    static const struct {
        const char *name;
        float value;
        lun_status want;
    } cases[] = {{"exp_avg.time_embed.0.weight", NAN, LUN_ERR_CHECKPOINT},
                 {"exp_avg.time_embed.0.weight", INFINITY, LUN_ERR_CHECKPOINT},
                 {"exp_avg.time_embed.0.weight", -1, LUN_OK},
                 {"exp_avg_sq.time_embed.0.weight", NAN, LUN_ERR_CHECKPOINT},
                 {"exp_avg_sq.time_embed.0.weight", -1e-30f, LUN_ERR_CHECKPOINT},
                 {"exp_avg_sq.time_embed.0.weight", 1, LUN_OK}};
    const lun_train_config c = unet();
    const lun_run_params p = run_params(scratch("moments"), 2);
    OK(lun_train_run(dev, dataset, &c, &p));
    char *optimizer = lun_strdup(checkpoint("moments", 2, ".optimizer")), *other = lun_strdup(scratch("other"));
    lun_trainer *t = make(dev, &c);
    for (size_t i = 0; i < LUN_COUNT(cases); i++) {
        change_one(optimizer, other, cases[i].name, cases[i].value);
        NOT_OK(lun_trainer_load(t, checkpoint("moments", 2, ""), other), cases[i].want);
        if (cases[i].want != LUN_OK)
            ck_assert_msg(strstr(lun_error_detail(), cases[i].name) != NULL, "%s", lun_error_detail());
    }
    free(optimizer);
    free(other);
    lun_trainer_destroy(&t);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("family");
    TCase *group = tcase_create("family");
    tcase_add_checked_fixture(group, setup_family, teardown_family);
    tcase_set_timeout(group, 120);
    tcase_add_test(group, every_preset_can_be_trained);
    tcase_add_test(group, what_does_not_go_together);
    tcase_add_test(group, every_choice_reaches_the_step);
    tcase_add_test(group, parts_are_the_whole);
    tcase_add_test(group, loss_aware_parts_are_the_whole);
    tcase_add_test(group, labels_and_dropout_reach_the_network);
    tcase_add_test(group, loss_aware_steps_begin_uniform);
    tcase_add_test(group, a_run_goes_on_bit_for_bit);
    tcase_add_test(group, records_survive);
    tcase_add_test(group, lost_losses_are_missed);
    tcase_add_test(group, moments_that_cannot_be);
    suite_add_tcase(suite, group);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
