/* The loss of held-out pictures: against a straight computation, the same whatever the batch, seed and time; and a run
 * that never trains on them. */
#include "small_run.h"

#include <math.h>

#include "base/base.h"
#include "base/philox.h"
#include "train/feed.h"
#include "train/holdout.h"

#define ELEMENTS (3 * SIDE * SIDE)

static void draw(const char *folder, int i, uint32_t scene)
{
    char name[60];
    lun_picture picture;
    snprintf(name, sizeof name, "%s/%03d.png", folder, i);
    OK(lun_craters_draw(7, scene, SIDE, &picture));
    OK(lun_png_write(scratch(name), &picture, NULL, 0));
    lun_picture_free(&picture);
}

START_TEST(measurements_are_dealt_out)
{
    static const size_t counts[] = {1, 2, 11, 63, 64, 65, 1000, 1024, 1025, 5000};
    for (size_t i = 0; i < LUN_COUNT(counts); i++) {
        const size_t n = counts[i], m = lun_holdout_measurements(n);
        ck_assert(m >= 64 && m <= 1024 && (n > 1024 || m % n == 0) && (n < 64 || n > 1024 || m == n));
        size_t last = 0;
        for (size_t k = 0; k < m; k++) {
            const size_t picture = lun_holdout_picture(n, k);
            ck_assert_uint_lt(picture, n);
            ck_assert(n <= 1024 ? picture == k % n : k == 0 || picture > last);
            last = picture;
        }
    }
}
END_TEST

/* One measurement by itself: |eps(x_t, t) - eps|, from the parts. */
static double straight(lun_store *store, const lun_train_config *c, uint32_t picture, int t, uint64_t number)
{
    lun_graph *g = NULL;
    lun_plan *plan = NULL;
    lun_schedule schedule;
    float table[2 * 25], image[ELEMENTS], eps[ELEMENTS], predicted[ELEMENTS];
    uint32_t row[LUN_RANDOM_ROW];
    const int32_t time = t;
    OK(lun_schedule_linear(c->model.steps, c->beta_first, c->beta_last, &schedule));
    lun_schedule_noise_table(&schedule, table);
    lun_schedule_free(&schedule);
    OK(lun_dataset_images(dataset, &picture, 1, image));
    lun_random_row(0, LUN_RANDOM_HOLDOUT, number, 0, row);
    OK(lun_graph_create(store, &g));
    const lun_value rows = lun_graph_constant(g, "rows", lun_typed(lun_image(1, LUN_RANDOM_ROW, 1, 1), LUN_U32), row);
    const lun_value x = lun_graph_input(g, "x", lun_image(1, 3, SIDE, SIDE));
    const lun_value at = lun_graph_constant(g, "t", lun_typed(lun_image(1, 1, 1, 1), LUN_I32), &time);
    const lun_value noise = lun_randn(g, rows, 3, SIDE, SIDE);
    const lun_value answer = lun_model_forward(g, &c->model, x, at, LUN_NORM_EVAL);
    lun_graph_output(g, noise);
    lun_graph_output(g, answer);
    OK(lun_graph_compile(g, dev, NULL, &plan));
    OK(lun_plan_write(plan, x, image)); /* once for the noise alone */
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, noise, eps));
    for (int i = 0; i < ELEMENTS; i++)
        image[i] = table[2 * t] * image[i] + table[2 * t + 1] * eps[i];
    OK(lun_plan_write(plan, x, image));
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, answer, predicted));
    double sum = 0;
    for (int i = 0; i < ELEMENTS; i++) {
        const double d = (double)predicted[i] - (double)eps[i];
        sum += c->loss == LUN_L1 ? fabs(d) : d * d;
    }
    lun_plan_destroy(&plan);
    lun_graph_destroy(&g);
    return sum / ELEMENTS;
}

static void train_some(lun_trainer *t, int count)
{
    float losses[LUN_TRAINER_RING], images[BATCH * ELEMENTS];
    uint32_t index[BATCH];
    int got = 0;
    for (int i = 0; i < count; i++) {
        lun_trainer_next(t, index);
        OK(lun_dataset_images(dataset, index, BATCH, images));
        OK(lun_trainer_run(t, images));
        OK(lun_trainer_losses(t, losses, &got));
    }
}

START_TEST(the_loss_is_what_it_says)
{
    static const uint32_t held[] = {2, 5, 10};
    lun_train_config c = small();
    for (int kind = 0; kind < 2; kind++) {
        double loss[4], sum = 0;
        lun_trainer *t = NULL;
        lun_holdout *h = NULL;
        c.loss = kind ? LUN_L2 : LUN_L1;
        OK(lun_trainer_create(dev, &c, PICTURES, NULL, &t));
        train_some(t, 5);
        lun_store *store = lun_trainer_store(t);
        OK(lun_holdout_create(dev, store, &c, dataset, held, 3, NULL, &h));
        OK(lun_holdout_measure(h, false, &loss[0]));
        OK(lun_holdout_measure(h, false, &loss[1]));
        ck_assert(loss[0] == loss[1]);

        const size_t measurements = lun_holdout_measurements(3);
        uint32_t places[128];
        ck_assert_uint_eq(measurements, 66);
        lun_random_permutation(0, UINT64_MAX, (uint32_t)measurements, places);
        for (size_t m = 0; m < measurements; m++)
            sum += straight(store, &c, held[m % 3], (int)((places[m] + 0.5) * c.model.steps / (double)measurements), m);
        ck_assert_msg(fabs(loss[0] - sum / (double)measurements) < 1e-5 * loss[0], "%.9g is not %.9g", loss[0],
                      sum / (double)measurements);

        /* Another batch, another seed: the same but for rounding; and training goes on as if nothing had been. */
        lun_train_config other = c;
        lun_holdout *h7 = NULL;
        other.batch = 7;
        other.seed++;
        OK(lun_holdout_create(dev, store, &other, dataset, held, 3, NULL, &h7));
        OK(lun_holdout_measure(h7, false, &loss[2]));
        ck_assert(fabs(loss[2] - loss[0]) < 1e-5 * loss[0]);
        lun_holdout_destroy(&h7);

        lun_trainer *plain = NULL;
        OK(lun_trainer_create(dev, &c, PICTURES, NULL, &plain));
        train_some(plain, 8);
        train_some(t, 3);
        for (size_t i = 0; i < lun_store_count(store); i++) {
            const size_t count = (size_t)lun_count(lun_store_info(store, i)->desc.shape);
            float *a = malloc(count * sizeof *a), *b = malloc(count * sizeof *b);
            OK(lun_store_read(store, i, LUN_SLOT_VALUE, a));
            OK(lun_store_read(lun_trainer_store(plain), i, LUN_SLOT_VALUE, b));
            ck_assert_mem_eq(a, b, count * sizeof *a);
            free(a);
            free(b);
        }
        /* It sees the weights as they are now. */
        OK(lun_holdout_measure(h, false, &loss[3]));
        ck_assert(loss[3] != loss[0]);
        lun_holdout_destroy(&h);
        lun_holdout_destroy(&h);
        lun_trainer_destroy(&plain);
        lun_trainer_destroy(&t);
    }
}
END_TEST

static void copy_slot(lun_store *store, lun_slot from, lun_store *into, lun_slot to)
{
    for (size_t i = 0; i < lun_store_count(store); i++) {
        const lun_param_info *info = lun_store_info(store, i);
        const bool trained = info->role == LUN_ROLE_PARAM;
        float *data = malloc((size_t)lun_count(info->desc.shape) * sizeof *data);
        OK(lun_store_read(store, i, trained ? from : LUN_SLOT_VALUE, data));
        OK(lun_store_write(into, i, trained ? to : LUN_SLOT_VALUE, data));
        free(data);
    }
}

/* With a moving average its loss is that of a network that has it for weights, the other one is not touched by it, and
 * a batch in parts is measured in parts. */
START_TEST(averages_are_measured_too)
{
    static const uint32_t held[] = {2, 5, 10};
    lun_train_config c = small(), plain = small();
    double loss[2], again[2], only = 0;
    lun_trainer *t = NULL, *other = NULL;
    lun_holdout *h = NULL, *of_other = NULL;
    c.ema_count = 2;
    c.ema_rate[0] = 0.75;
    c.ema_rate[1] = 0.5;
    OK(lun_trainer_create(dev, &c, PICTURES, NULL, &t));
    OK(lun_trainer_create(dev, &plain, PICTURES, NULL, &other));
    OK(lun_holdout_create(dev, lun_trainer_store(t), &c, dataset, held, 3, NULL, &h));
    OK(lun_holdout_create(dev, lun_trainer_store(other), &plain, dataset, held, 3, NULL, &of_other));
    ck_assert(lun_holdout_averages(h) && !lun_holdout_averages(of_other));
    NOT_OK(lun_holdout_measure(of_other, true, &only), LUN_ERR_USAGE);
    /* An average begins as the weights are. */
    OK(lun_holdout_measure(h, false, &loss[0]));
    OK(lun_holdout_measure(h, true, &loss[1]));
    ck_assert(loss[0] == loss[1]);
    train_some(t, 6);
    for (int average = 0; average < 2; average++) {
        OK(lun_holdout_measure(h, average, &loss[average]));
        copy_slot(lun_trainer_store(t), average ? LUN_SLOT_EMA : LUN_SLOT_VALUE, lun_trainer_store(other),
                  LUN_SLOT_VALUE);
        OK(lun_holdout_measure(of_other, false, &only));
        ck_assert_msg(only == loss[average], "%.17g is not %.17g", loss[average], only);
    }
    ck_assert(loss[0] != loss[1]);
    lun_holdout_destroy(&h);
    c.accumulate = BATCH;
    OK(lun_holdout_create(dev, lun_trainer_store(t), &c, dataset, held, 3, NULL, &h));
    for (int average = 0; average < 2; average++) {
        OK(lun_holdout_measure(h, average, &again[average]));
        ck_assert(fabs(again[average] - loss[average]) < 1e-5 * loss[average]);
    }
    lun_holdout_destroy(&h);
    lun_holdout_destroy(&of_other);
    lun_trainer_destroy(&t);
    lun_trainer_destroy(&other);
}
END_TEST

static lun_run_params run_params(const char *folder, uint64_t count)
{
    return (lun_run_params){.folder = folder,
                            .length = {.steps = count},
                            .log_every = 1,
                            .keep = 2,
                            .clip = LUN_CLIP_MODE_XT,
                            .norm = LUN_NORM_BATCH};
}

/* What a log's lines say under `key`, by step; NaN where they don't. The last step. */
static int read_log(const char *path, const char *key, double value[64])
{
    char *text = get_file(path, NULL), quoted[40];
    int last = 0;
    snprintf(quoted, sizeof quoted, "\"%s\": ", key);
    for (int i = 0; i < 64; i++)
        value[i] = NAN;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *step = strstr(line, "\"step\": "), *at = strstr(line, quoted);
        last = atoi(step + 8);
        ck_assert_int_lt(last, 64);
        if (at)
            value[last] = atof(at + strlen(quoted));
    }
    free(text);
    return last;
}

/* What is held out has no say in training: other pictures in its place give the same weights, and another loss. */
START_TEST(held_out_is_never_trained_on)
{
    lun_train_config c = small();
    c.data = (lun_data_config){.flip = 1, .holdout = 4};
    mkdir(scratch("others"), 0755);
    for (int i = 0; i < PICTURES; i++)
        draw("others", i, (uint32_t)(i % 4 == 3 ? i + 100 : i));
    lun_dataset *others = open_folder(scratch("others"), SIDE);
    const char *runs[] = {scratch("one"), scratch("two"), scratch("three")};
    double losses[3][64];
    for (int k = 0; k < 3; k++) {
        lun_run_params p = run_params(runs[k], 9);
        p.holdout_every = k == 2 ? 0 : 2;
        OK(lun_train_run(dev, k == 1 ? others : dataset, &c, &p));
        char log[600];
        snprintf(log, sizeof log, "%s/log.jsonl", runs[k]);
        ck_assert_int_eq(read_log(log, "holdout_loss", losses[k]), 9);
    }
    /* 9 pictures are trained on, 2 steps an epoch: measured after 4, 8 and at the end. */
    for (int step = 1; step <= 9; step++) {
        const bool wanted = step == 4 || step == 8 || step == 9;
        ck_assert(isfinite(losses[0][step]) == wanted && isnan(losses[2][step]));
        ck_assert(!wanted || (losses[0][step] > 0 && losses[0][step] != losses[1][step]));
    }
    char a[700], b[700];
    for (int k = 1; k < 3; k++) {
        snprintf(a, sizeof a, "%s/checkpoints/step-00000009.safetensors", runs[0]);
        snprintf(b, sizeof b, "%s/checkpoints/step-00000009.safetensors", runs[k]);
        same_file(a, b);
    }
    /* In two starts: the same weights, and the same losses but for those at the end of a start. */
    lun_run_params p = run_params(scratch("four"), 5);
    p.holdout_every = 2;
    OK(lun_train_run(dev, dataset, &c, &p));
    p.resume = 1;
    p.folder = scratch("four");
    p.length.steps = 9;
    OK(lun_train_run(dev, dataset, &c, &p));
    snprintf(b, sizeof b, "%s", scratch("four/checkpoints/step-00000009.safetensors"));
    same_file(a, b);
    double again[64];
    ck_assert_int_eq(read_log(scratch("four/log.jsonl"), "holdout_loss", again), 9);
    ck_assert(again[4] == losses[0][4] && again[8] == losses[0][8] && again[9] == losses[0][9]);
    ck_assert(isfinite(again[5]));

    /* Another split is another run; and there must be both sides. */
    lun_train_config wrong = c;
    wrong.data.holdout = 0.5;
    p.folder = scratch("four");
    NOT_OK(lun_train_run(dev, dataset, &wrong, &p), LUN_ERR_USAGE);
    p = run_params(scratch("five"), 2);
    wrong.data.holdout = 100;
    NOT_OK(lun_train_run(dev, dataset, &wrong, &p), LUN_ERR_DATA);
    wrong.data.holdout = 2;
    wrong.batch = 7; /* six are left */
    NOT_OK(lun_train_run(dev, dataset, &wrong, &p), LUN_ERR_DATA);
    wrong = c;
    wrong.model.image_channels = 4;
    NOT_OK(lun_train_run(dev, dataset, &wrong, &p), LUN_ERR_USAGE);
    lun_dataset_close(&others);
}
END_TEST

/* Pictures cropped at random, mirrored and held out. */
static lun_train_config varied(void)
{
    lun_train_config c = small();
    c.width = 12;
    c.data = (lun_data_config){.crop = LUN_CROP_RANDOM, .flip = 1, .holdout = 4};
    return c;
}

static lun_dataset *open_varied(const lun_train_config *c)
{
    lun_dataset *d = NULL;
    const lun_dataset_params params = {.folder = scratch("pictures"),
                                       .width = c->width,
                                       .height = c->height,
                                       .fit = lun_train_fit(c),
                                       .channels = c->model.image_channels,
                                       .threads = 1};
    OK(lun_dataset_open(&params, &d));
    return d;
}

/* Grey and RGBA, not square, cropped at random: trained, resumed to the same bits, sampled, drawn. */
START_TEST(channels_and_rectangles)
{
    for (int channels = 1; channels <= 4; channels += 3) {
        lun_train_config c = varied();
        c.model.image_channels = channels;
        c.data.holdout = 0.3;
        lun_dataset *d = open_varied(&c);
        char whole[40], parts[40], a[1100], b[1100];
        snprintf(whole, sizeof whole, "whole%d", channels);
        snprintf(parts, sizeof parts, "parts%d", channels);
        lun_run_params p = run_params(scratch(whole), 6);
        p.sample_every = 1;
        p.holdout_every = 1;
        OK(lun_train_run(dev, d, &c, &p));
        p = run_params(scratch(parts), 3);
        OK(lun_train_run(dev, d, &c, &p));
        p = run_params(scratch(parts), 6);
        p.resume = 1;
        OK(lun_train_run(dev, d, &c, &p));
        snprintf(a, sizeof a, "%s/%s/checkpoints/step-00000006.safetensors", scratch_dir, whole);
        snprintf(b, sizeof b, "%s/%s/checkpoints/step-00000006.safetensors", scratch_dir, parts);
        same_file(a, b);
        lun_model_file_info info;
        OK(lun_model_inspect(a, &info));
        ck_assert(info.config.image_channels == channels && info.width == 12 && info.height == SIDE);
        static const char *const pictures[] = {"data.png", "forward.png", "samples/epoch-00001.png"};
        for (size_t i = 0; i < LUN_COUNT(pictures); i++) {
            lun_picture strip;
            snprintf(a, sizeof a, "%s/%s/%s", scratch_dir, whole, pictures[i]);
            OK(lun_picture_load_as(a, 0, 0, &strip));
            ck_assert_int_eq(strip.channels, channels);
            lun_picture_free(&strip);
        }
        lun_dataset_close(&d);
    }
}
END_TEST

/* A batch in parts is drawn as the whole one: the same pictures, windows, mirrors, noise and time steps in the same
 * order. The learning rate is so small that the weights stay, and each part's loss is that of a trainer whose batch it
 * is. */
START_TEST(parts_see_what_the_whole_batch_would)
{
    for (int parts = 1; parts <= BATCH; parts *= 2) {
        enum { STEPS = 5 };
        lun_train_config c = varied(), part = varied();
        c.accumulate = parts;
        part.batch = BATCH / parts;
        c.lr = part.lr = 1e-12;
        lun_dataset *d = open_varied(&c);
        char folder[20], log[40];
        double losses[64];
        snprintf(folder, sizeof folder, "parts%d", parts);
        snprintf(log, sizeof log, "parts%d/log.jsonl", parts);
        lun_run_params p = run_params(scratch(folder), STEPS);
        OK(lun_train_run(dev, d, &c, &p));
        ck_assert_int_eq(read_log(scratch(log), "loss", losses), STEPS);

        uint32_t pictures[PICTURES];
        size_t held = 0;
        OK(lun_holdout_split(d, c.data.holdout, pictures, &held));
        const lun_feed_params feeding = {.dataset = d,
                                         .pictures = pictures + held,
                                         .count = PICTURES - held,
                                         .batch = BATCH,
                                         .seed = c.seed,
                                         .augment = {.flip = 1, .window = 1}};
        lun_feed *feed = NULL;
        lun_feed_batch batch;
        lun_trainer *t = NULL;
        OK(lun_feed_start(&feeding, &feed));
        OK(lun_trainer_create(dev, &part, PICTURES - held, NULL, &t));
        for (int step = 1; step <= STEPS; step++) {
            float got[LUN_TRAINER_RING];
            int count = 0;
            double mean = 0;
            OK(lun_feed_next(feed, &batch));
            for (int k = 0; k < parts; k++) {
                OK(lun_trainer_run(t, batch.images + (size_t)(k * part.batch * 3 * c.height * c.width)));
                OK(lun_trainer_losses(t, got, &count));
                mean += (double)got[0] / parts;
            }
            ck_assert_msg(fabs(losses[step] - mean) <= 1e-6 * mean, "step %d in %d parts: %.9g, not %.9g", step, parts,
                          losses[step], mean);
        }
        lun_trainer_destroy(&t);
        lun_feed_stop(&feed);
        lun_dataset_close(&d);
    }
}
END_TEST

/* All of it at once, and stopped in the middle of an epoch. */
START_TEST(everything_goes_on_bit_for_bit)
{
    lun_train_config c = varied();
    c.optimizer = LUN_ADAMW;
    c.weight_decay = 0.01;
    c.warmup = 3;
    c.decay = LUN_DECAY_COSINE;
    c.clip_norm = 0.5;
    c.ema_count = 2;
    c.ema_rate[0] = 0.5;
    c.ema_rate[1] = 0.9;
    c.accumulate = 2;
    lun_dataset *d = open_varied(&c);
    lun_run_params p = run_params(scratch("whole"), 0);
    /* 9 pictures are trained on, 2 steps an epoch: a decay without an end of its own ends there too. */
    p.length.steps = 0;
    p.length.epochs = 6;
    p.holdout_every = 1;
    p.sample_every = 2;
    OK(lun_train_run(dev, d, &c, &p));
    lun_train_config read;
    OK(lun_train_config_load(scratch("whole"), &read, NULL));
    ck_assert_uint_eq(read.decay_steps, 12);

    p = run_params(scratch("parts"), 5);
    OK(lun_train_run(dev, d, &read, &p));
    p = run_params(scratch("parts"), 12);
    p.resume = 1;
    p.holdout_every = 1;
    OK(lun_train_run(dev, d, &read, &p));
    same_checkpoint("whole", "parts", 12);
    same_file(checkpoint("whole", 12, ".ema-0.5"), checkpoint("parts", 12, ".ema-0.5"));
    same_file(checkpoint("whole", 12, ".ema-0.9"), checkpoint("parts", 12, ".ema-0.9"));
    static const char *const keys[] = {"loss", "lr", "grad_norm", "holdout_loss", "holdout_loss_ema"};
    for (size_t k = 0; k < LUN_COUNT(keys); k++) {
        double a[64], b[64];
        ck_assert_int_eq(read_log(scratch("whole/log.jsonl"), keys[k], a), 12);
        ck_assert_int_eq(read_log(scratch("parts/log.jsonl"), keys[k], b), 12);
        for (int step = 1; step <= 12; step++) {
            const bool measured = k < 3 || step % 2 == 0;
            ck_assert_msg(isfinite(a[step]) == measured, "%s of step %d", keys[k], step);
            ck_assert_msg(step <= 5 && k >= 3 ? isnan(b[step]) : !measured || a[step] == b[step],
                          "%s of step %d: %g, %g", keys[k], step, a[step], b[step]);
        }
    }
    lun_dataset_close(&d);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("holdout");
    TCase *tests = tcase_create("holdout");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, measurements_are_dealt_out);
    tcase_add_test(tests, the_loss_is_what_it_says);
    tcase_add_test(tests, averages_are_measured_too);
    tcase_add_test(tests, held_out_is_never_trained_on);
    tcase_add_test(tests, channels_and_rectangles);
    tcase_add_test(tests, parts_see_what_the_whole_batch_would);
    tcase_add_test(tests, everything_goes_on_bit_for_bit);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
