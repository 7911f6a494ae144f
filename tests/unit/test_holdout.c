/* The loss of held-out pictures: against a straight computation, the same whatever the batch, seed and time; and a run
 * that never trains on them. */
#include "scratch.h"
#include "small_config.h"

#include <math.h>

#include <lunette/picture_out.h>

#include "base/base.h"
#include "base/philox.h"
#include "train/holdout.h"

enum { PICTURES = 11, ELEMENTS = 3 * SIDE * SIDE };

static lun_device *dev; /* plain C, one thread */
static lun_dataset *dataset;

static void draw(const char *folder, int i, uint32_t scene)
{
    char name[60];
    lun_picture picture;
    snprintf(name, sizeof name, "%s/%03d.png", folder, i);
    OK(lun_craters_draw(7, scene, SIDE, &picture));
    OK(lun_png_write(scratch(name), &picture, NULL, 0));
    lun_picture_free(&picture);
}

static lun_dataset *open_set(const char *folder)
{
    lun_dataset *d = NULL;
    OK(lun_dataset_open(&(lun_dataset_params){.folder = scratch(folder), .width = SIDE, .height = SIDE, .threads = 1},
                        &d));
    return d;
}

static void setup(void)
{
    scratch_make();
    mkdir(scratch("pictures"), 0755);
    for (int i = 0; i < PICTURES; i++)
        draw("pictures", i, (uint32_t)i);
    dataset = open_set("pictures");
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &dev));
}

static void teardown(void)
{
    size_t now = 1;
    lun_device_memory(dev, &now, NULL);
    ck_assert_uint_eq(now, 0);
    lun_device_close(&dev);
    lun_dataset_close(&dataset);
    scratch_remove();
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
        OK(lun_holdout_measure(h, &loss[0]));
        OK(lun_holdout_measure(h, &loss[1]));
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
        OK(lun_holdout_measure(h7, &loss[2]));
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
        OK(lun_holdout_measure(h, &loss[3]));
        ck_assert(loss[3] != loss[0]);
        lun_holdout_destroy(&h);
        lun_holdout_destroy(&h);
        lun_trainer_destroy(&plain);
        lun_trainer_destroy(&t);
    }
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

static void same_file(const char *a, const char *b)
{
    size_t m = 0, n = 0;
    char *x = get_file(a, &m), *y = get_file(b, &n);
    ck_assert_msg(m == n && memcmp(x, y, m) == 0, "%s and %s differ", a, b);
    free(x);
    free(y);
}

/* The held-out losses of a log, by step; NaN where there is none. */
static int read_log(const char *path, double holdout[64])
{
    char *text = get_file(path, NULL);
    int last = 0;
    for (int i = 0; i < 64; i++)
        holdout[i] = NAN;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        const char *step = strstr(line, "\"step\": "), *loss = strstr(line, "\"holdout_loss\": ");
        last = atoi(step + 8);
        ck_assert_int_lt(last, 64);
        if (loss)
            holdout[last] = atof(loss + 16);
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
    lun_dataset *others = open_set("others");
    const char *runs[] = {scratch("one"), scratch("two"), scratch("three")};
    double losses[3][64];
    for (int k = 0; k < 3; k++) {
        lun_run_params p = run_params(runs[k], 9);
        p.holdout_every = k == 2 ? 0 : 2;
        OK(lun_train_run(dev, k == 1 ? others : dataset, &c, &p));
        char log[600];
        snprintf(log, sizeof log, "%s/log.jsonl", runs[k]);
        ck_assert_int_eq(read_log(log, losses[k]), 9);
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
    ck_assert_int_eq(read_log(scratch("four/log.jsonl"), again), 9);
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

/* Grey and RGBA, not square, cropped at random: trained, resumed to the same bits, sampled, drawn. */
START_TEST(channels_and_rectangles)
{
    for (int channels = 1; channels <= 4; channels += 3) {
        lun_train_config c = small();
        c.model.image_channels = channels;
        c.width = 12;
        c.data = (lun_data_config){.crop = LUN_CROP_RANDOM, .flip = 1, .holdout = 0.3};
        lun_dataset *d = NULL;
        const lun_dataset_params params = {.folder = scratch("pictures"),
                                           .width = c.width,
                                           .height = c.height,
                                           .fit = lun_train_fit(&c),
                                           .channels = channels,
                                           .threads = 1};
        OK(lun_dataset_open(&params, &d));
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

int main(void)
{
    Suite *suite = suite_create("holdout");
    TCase *tests = tcase_create("holdout");
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_set_timeout(tests, 120);
    tcase_add_test(tests, measurements_are_dealt_out);
    tcase_add_test(tests, the_loss_is_what_it_says);
    tcase_add_test(tests, held_out_is_never_trained_on);
    tcase_add_test(tests, channels_and_rectangles);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
