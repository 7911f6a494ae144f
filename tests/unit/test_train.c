/* The trainer and whole runs, on a network small enough to train here: 8x8 pictures, channels 8 and 16, batches of 4.
 */
#include "small_run.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>

#include "base/philox.h"

static void step(lun_trainer *t)
{
    uint32_t index[BATCH];
    float images[BATCH * 3 * SIDE * SIDE];
    lun_trainer_next(t, index);
    OK(lun_dataset_images(dataset, index, BATCH, images));
    OK(lun_trainer_run(t, images));
}

static void steps(lun_trainer *t, int count)
{
    float losses[LUN_TRAINER_RING];
    int got = 0;
    for (int i = 0; i < count; i++) {
        step(t);
        OK(lun_trainer_losses(t, losses, &got));
        ck_assert_int_eq(got, 1);
        ck_assert(losses[0] > 0 && losses[0] < 10);
    }
}

/* Values and both moments of every tensor, bit for bit. */
static void same_state(lun_trainer *a, lun_trainer *b)
{
    lun_store *s = lun_trainer_store(a), *r = lun_trainer_store(b);
    size_t trained = 0;
    ck_assert_uint_eq(lun_trainer_step(a), lun_trainer_step(b));
    ck_assert_uint_eq(lun_store_count(s), lun_store_count(r));
    for (size_t i = 0; i < lun_store_count(s); i++) {
        const lun_param_info *info = lun_store_info(s, i);
        const size_t count = (size_t)lun_count(info->desc.shape);
        static const lun_slot slots[] = {LUN_SLOT_VALUE, LUN_SLOT_M, LUN_SLOT_V};
        float *x = malloc(count * sizeof *x), *y = malloc(count * sizeof *y);
        for (int k = 0; k < (info->role == LUN_ROLE_PARAM ? 3 : 1); k++) {
            OK(lun_store_read(s, i, slots[k], x));
            OK(lun_store_read(r, i, slots[k], y));
            ck_assert_msg(memcmp(x, y, count * sizeof *x) == 0, "%s differs in slot %d", info->name, k);
            trained += k == 1;
        }
        free(x);
        free(y);
    }
    ck_assert_uint_gt(trained, 10);
}

static void poison(lun_trainer *t, const char *name, lun_slot slot, float value)
{
    lun_store *s = lun_trainer_store(t);
    const int index = lun_store_find(s, name);
    ck_assert_int_ge(index, 0);
    const size_t count = (size_t)lun_count(lun_store_info(s, (size_t)index)->desc.shape);
    float *data = malloc(count * sizeof *data);
    OK(lun_store_read(s, (size_t)index, slot, data));
    data[count - 1] = value;
    OK(lun_store_write(s, (size_t)index, slot, data));
    free(data);
}

/* ---- The trainer ------------------------------------------------------------------------------------------------ */

START_TEST(preset_is_the_seed_experiment)
{
    lun_train_config c;
    OK(lun_train_preset("notebook", &c));
    OK(lun_train_config_check(&c));
    static const int channels[] = {64, 128, 256, 512, 1024};
    ck_assert_int_eq(c.model.levels, 5);
    ck_assert_int_eq(memcmp(c.model.channels, channels, sizeof channels), 0);
    ck_assert_int_eq(c.model.image_channels, 3);
    ck_assert_int_eq(c.model.time_dim, 32);
    ck_assert_int_eq(c.model.steps, 300);
    ck_assert(c.width == 64 && c.height == 64 && c.batch == 16 && c.loss == LUN_L1);
    ck_assert(c.beta_first == 1e-4 && c.beta_last == 0.02);
    ck_assert(c.lr == 1e-3 && c.beta1 == 0.9 && c.beta2 == 0.999 && c.eps == 1e-8 && c.weight_decay == 0);
    NOT_OK(lun_train_preset("notebok", &c), LUN_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(lun_error_detail(), "notebook"));
}
END_TEST

START_TEST(order_is_the_permutation_without_the_partial_batch)
{
    const lun_train_config c = small();
    lun_trainer *t = make(dev, &c);
    ck_assert_uint_eq(lun_trainer_steps_per_epoch(t), PER_EPOCH);
    uint32_t order[PICTURES], before[PICTURES] = {0};
    int moved = 0;
    for (uint64_t epoch = 0; epoch < 4; epoch++) {
        lun_random_permutation(c.seed, epoch, PICTURES, order);
        moved += memcmp(order, before, sizeof order) != 0;
        memcpy(before, order, sizeof order);
        for (int s = 0; s < PER_EPOCH; s++) {
            uint32_t index[BATCH], again[BATCH];
            lun_trainer_next(t, index);
            lun_trainer_next(t, again); /* asking changes nothing */
            ck_assert_int_eq(memcmp(index, again, sizeof index), 0);
            ck_assert_int_eq(memcmp(index, order + s * BATCH, sizeof index), 0);
            step(t);
        }
    }
    ck_assert_int_eq(moved, 4);
    lun_trainer_destroy(&t);
    ck_assert_ptr_null(t);
}
END_TEST

START_TEST(losses_come_once_and_in_order)
{
    const lun_train_config c = small();
    lun_trainer *one = make(dev, &c), *many = make(dev, &c);
    float each[150], losses[LUN_TRAINER_RING], images[BATCH * 3 * SIDE * SIDE] = {0};
    int count = -1, at = 0;
    OK(lun_trainer_losses(many, losses, &count));
    ck_assert_int_eq(count, 0);
    for (int i = 0; i < 150; i++) {
        step(one);
        OK(lun_trainer_losses(one, losses, &count));
        ck_assert_int_eq(count, 1);
        each[i] = losses[0];
    }
    static const int rounds[] = {LUN_TRAINER_RING, 1, LUN_TRAINER_RING, 21};
    for (size_t r = 0; r < sizeof rounds / sizeof *rounds; r++) {
        for (int i = 0; i < rounds[r]; i++)
            step(many);
        if (rounds[r] == LUN_TRAINER_RING)
            NOT_OK(lun_trainer_run(many, images), LUN_ERR_INTERNAL); /* the ring is full: nothing may be lost */
        OK(lun_trainer_losses(many, losses, &count));
        ck_assert_int_eq(count, rounds[r]);
        ck_assert_int_eq(memcmp(losses, each + at, (size_t)count * sizeof *losses), 0);
        at += count;
    }
    ck_assert_int_eq(at, 150);
    ck_assert(each[149] < each[0]);
    same_state(one, many); /* and two trainers of one seed are equal */
    lun_trainer_destroy(&one);
    lun_trainer_destroy(&many);
}
END_TEST

START_TEST(the_seed_decides_and_threads_do_not)
{
    lun_train_config c = small();
    lun_trainer *one = make(dev, &c);
    steps(one, 5);
    for (int threads = 2; threads <= 3; threads++) {
        lun_device *other = NULL;
        OK(lun_device_open("cpu", &(lun_device_params){.threads = threads}, &other));
        lun_trainer *t = make(other, &c);
        steps(t, 5);
        same_state(one, t);
        lun_trainer_destroy(&t);
        lun_device_close(&other);
    }
    /* a seed that differs in its high word only */
    c.seed ^= UINT64_C(1) << 63;
    lun_trainer *t = make(dev, &c);
    float a[8], b[8];
    const int index = lun_store_find(lun_trainer_store(t), "conv0.bias");
    OK(lun_store_read(lun_trainer_store(one), (size_t)index, LUN_SLOT_VALUE, a));
    OK(lun_store_read(lun_trainer_store(t), (size_t)index, LUN_SLOT_VALUE, b));
    ck_assert_int_ne(memcmp(a, b, sizeof a), 0);
    lun_trainer_destroy(&t);
    lun_trainer_destroy(&one);
}
END_TEST

START_TEST(what_is_not_finite_is_told_and_not_written)
{
    static const struct {
        const char *name;
        lun_slot slot;
        float value;
    } cases[] = {{"output.bias", LUN_SLOT_VALUE, NAN},
                 {"downs.0.bnorm1.running_var", LUN_SLOT_VALUE, INFINITY},
                 {"conv0.weight", LUN_SLOT_M, NAN},
                 {"conv0.weight", LUN_SLOT_V, INFINITY}};
    const lun_train_config c = small();
    mkdir(scratch("run"), 0755);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        lun_trainer *t = make(dev, &c);
        lun_safetensors_writer *weights = NULL, *optimizer = NULL;
        steps(t, 1);
        poison(t, cases[i].name, cases[i].slot, cases[i].value);
        OK(lun_safetensors_writer_create(scratch("run/a.safetensors"), &weights));
        OK(lun_safetensors_writer_create(scratch("run/b.safetensors"), &optimizer));
        NOT_OK(lun_trainer_write(t, weights, optimizer), LUN_ERR_DIVERGED);
        ck_assert_ptr_nonnull(strstr(lun_error_detail(), cases[i].name));
        lun_safetensors_writer_discard(weights);
        lun_safetensors_writer_discard(optimizer);
        ck_assert_int_eq(count_entries(scratch("run")), 0);
        if (i == 0) {
            float losses[LUN_TRAINER_RING];
            int count = -7;
            step(t);
            NOT_OK(lun_trainer_losses(t, losses, &count), LUN_ERR_DIVERGED);
            ck_assert_ptr_nonnull(strstr(lun_error_detail(), "step 2"));
            ck_assert_int_eq(count, -7);
        }
        lun_trainer_destroy(&t);
    }
}
END_TEST

/* ---- Configurations --------------------------------------------------------------------------------------------- */

START_TEST(config_refusals)
{
    for (int wrong = 0; wrong < 24; wrong++) {
        lun_train_config c = small();
        OK(lun_train_config_check(&c));
        switch (wrong) {
        case 0: c.width = 9; break;
        case 1: c.height = 0; break;
        case 2: c.batch = 0; break;
        case 3: c.batch = 4097; break;
        case 4: c.lr = 0; break;
        case 5: c.lr = NAN; break;
        case 6: c.lr = 1e39; break; /* not a float32 */
        case 7: c.lr = 1e-60; break;
        case 8: c.beta1 = 1; break;
        case 9: c.beta2 = -0.1; break;
        case 10: c.beta2 = NAN; break;
        case 11: c.eps = 0; break;
        case 12: c.eps = 1e-60; break;
        case 13: c.weight_decay = -1; break;
        case 14: c.weight_decay = INFINITY; break;
        case 15: c.beta_first = 0; break;
        case 16: c.beta_last = 1; break;
        case 17: c.beta_first = 0.03; break;
        case 18: c.model.levels = 1; break;
        case 19: c.model.channels[1] = 0; break;
        case 20: c.model.time_dim = 5; break;
        case 21: c.model.steps = 0; break;
        case 22: c.loss = LUN_HUBER, c.huber_delta = 0; break;
        case 23: c.loss = (lun_loss_type)3; break;
        }
        lun_trainer *t = NULL;
        ck_assert_msg(lun_train_config_check(&c) == LUN_ERR_USAGE, "case %d", wrong);
        NOT_OK(lun_trainer_create(dev, &c, PICTURES, NULL, &t), LUN_ERR_USAGE);
        ck_assert_ptr_null(t);
    }
    const lun_train_config c = small();
    lun_trainer *t = NULL;
    NOT_OK(lun_trainer_create(dev, &c, BATCH - 1, NULL, &t), LUN_ERR_DATA);
    ck_assert_ptr_null(t);
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

static void run_to(const char *folder, uint64_t count, int resume)
{
    const lun_train_config c = small();
    lun_run_params p = run_params(folder, count);
    p.resume = resume;
    OK(lun_train_run(dev, dataset, &c, &p));
}

/* The log's steps rise, its times do not fall, and its last line is of step `last`. */
static void check_log(const char *path, int last)
{
    char *text = get_file(path, NULL);
    int before = 0;
    double time = 0;
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        json_error_t error;
        json_t *json = json_loads(line, JSON_REJECT_DUPLICATES, &error);
        ck_assert_msg(json != NULL, "%s", line);
        const int at = (int)json_integer_value(json_object_get(json, "step"));
        ck_assert_int_gt(at, before);
        ck_assert_int_eq((int)json_integer_value(json_object_get(json, "epoch")), (at - 1) / PER_EPOCH);
        ck_assert(json_real_value(json_object_get(json, "loss")) > 0);
        ck_assert(json_real_value(json_object_get(json, "images_per_s")) > 0);
        ck_assert(json_real_value(json_object_get(json, "elapsed_s")) >= time);
        time = json_real_value(json_object_get(json, "elapsed_s"));
        before = at;
        json_decref(json);
    }
    ck_assert_int_eq(before, last);
    free(text);
}

START_TEST(a_run_is_its_trainer_and_loads_back)
{
    const lun_train_config c = small();
    run_to(scratch("run"), 6, 0);
    lun_trainer *by_hand = make(dev, &c), *loaded = make(dev, &c);
    steps(by_hand, 6);
    OK(lun_trainer_load(loaded, checkpoint("run", 6, ""), checkpoint("run", 6, ".optimizer")));
    same_state(by_hand, loaded);
    steps(by_hand, 5);
    steps(loaded, 5);
    same_state(by_hand, loaded);
    lun_model_file_info info;
    OK(lun_model_inspect(checkpoint("run", 6, ""), &info));
    ck_assert(info.step == 6 && info.batches_tracked == 6 && info.config.steps == 25 && info.width == SIDE);
    ck_assert_str_eq(info.preset, "notebook");
    /* moments of another network, and a weights file for an optimiser's */
    NOT_OK(lun_trainer_load(loaded, checkpoint("run", 6, ""), checkpoint("run", 6, "")), LUN_ERR_CHECKPOINT);
    lun_trainer_destroy(&by_hand);
    lun_trainer_destroy(&loaded);
}
END_TEST

START_TEST(resuming_sampling_and_saving_change_no_bit)
{
    const lun_train_config c = small();
    run_to(scratch("whole"), 10, 0);
    check_log(scratch("whole/log.jsonl"), 10);

    /* 6, then 4 more, with strips and checkpoints on the way in another rhythm */
    lun_run_params p = run_params(scratch("parts"), 6);
    p.sample_every = 1;
    p.log_every = 1;
    p.checkpoint_every = 5;
    OK(lun_train_run(dev, dataset, &c, &p));
    char *log = get_file(scratch("parts/log.jsonl"), NULL);
    FILE *more = fopen(scratch("parts/log.jsonl"), "a");
    fputs("{\"step\": 7, \"epoch\": 3, \"loss\": 0.5, \"images_per_s\": 1, \"elapsed_s\": 9}\n{\"step\": 8, \"ep",
          more);
    fclose(more);
    free(log);
    p.folder = scratch("parts");
    p.length.steps = 10;
    p.resume = 1;
    OK(lun_train_run(dev, dataset, &c, &p));
    same_checkpoint("whole", "parts", 10);
    check_log(scratch("parts/log.jsonl"), 10);
    ck_assert_int_eq(count_entries(scratch("parts/samples")), 5);
    ck_assert_int_eq(count_entries(scratch("parts/checkpoints")), 4);
    lun_train_config read;
    lun_run_length length;
    OK(lun_train_config_load(scratch("parts"), &read, &length));
    ck_assert_uint_eq(length.steps, 10);
    ck_assert_uint_eq(read.seed, c.seed);

    /* nothing is left to do */
    OK(lun_train_run(dev, dataset, &c, &p));
    same_checkpoint("whole", "parts", 10);
}
END_TEST

static int stop_at_three(void *payload, const lun_run_progress *p)
{
    *(int *)payload += p->event == NULL;
    return p->step >= 3;
}

START_TEST(a_stop_is_saved)
{
    const lun_train_config c = small();
    int calls = 0;
    run_to(scratch("whole"), 8, 0);
    lun_run_params p = run_params(scratch("stopped"), 8);
    p.log_every = 1;
    p.sample_every = 1;
    p.progress = stop_at_three;
    p.payload = &calls;
    OK(lun_train_run(dev, dataset, &c, &p));
    ck_assert_int_ge(calls, 3);
    ck_assert_int_eq(access(checkpoint("stopped", 3, ""), R_OK), 0);
    run_to(scratch("stopped"), 8, 1);
    same_checkpoint("whole", "stopped", 8);
}
END_TEST

/* ---- Measuring kernels before the first step ---- */

typedef struct measuring {
    int passes, stop;
} measuring;

static int on_measuring(void *payload, const lun_tune_progress *p)
{
    measuring *m = payload;
    m->passes += p->op == 0 && !p->candidate[0];
    return m->stop;
}

static lun_run_params tuned_params(const char *folder, lun_tune_params *tuner, measuring *m)
{
    lun_run_params p = run_params(folder, 2);
    *tuner = (lun_tune_params){.seconds = 1e-9, .progress = on_measuring, .payload = m};
    p.tune = LUN_TUNE_AUTO;
    p.tuner = tuner;
    return p;
}

static void check_kernels_recorded(const char *config, bool wanted)
{
    json_error_t error;
    json_t *record = json_load_file(config, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(record != NULL, "%s", error.text);
    ck_assert_int_eq(json_object_size(json_object_get(record, "candidates")) > 0, wanted);
    json_decref(record);
}

START_TEST(a_stop_while_measuring_records_no_kernels)
{
    const lun_train_config c = small();
    setenv("LUNETTE_CACHE", scratch("cache"), 1);
    measuring m = {.stop = 1};
    lun_tune_params tuner;
    lun_run_params p = tuned_params(scratch("measured"), &tuner, &m);
    OK(lun_train_run(dev, dataset, &c, &p));
    ck_assert_int_eq(m.passes, 1);
    ck_assert_int_eq(access(checkpoint("measured", 0, ""), R_OK), 0);
    check_kernels_recorded(scratch("measured/config.json"), false);

    /* Going on measures, and keeps to what it then has. */
    m = (measuring){0};
    p.resume = 1;
    OK(lun_train_run(dev, dataset, &c, &p));
    ck_assert_int_eq(m.passes, 1);
    check_kernels_recorded(scratch("measured/config.json"), true);
    p.length.steps = 4;
    OK(lun_train_run(dev, dataset, &c, &p));
    ck_assert_int_eq(m.passes, 1);
    unsetenv("LUNETTE_CACHE");
}
END_TEST

/* What time was too short for is not measured after the rest has been found right: it would run unchecked. */
START_TEST(nothing_is_measured_after_vetting)
{
    const lun_train_config c = small();
    setenv("LUNETTE_CACHE", scratch("cache"), 1);
    measuring m = {0};
    lun_tune_params tuner;
    lun_run_params p = tuned_params(scratch("vetted"), &tuner, &m);
    p.vet = 1;
    OK(lun_train_run(dev, dataset, &c, &p));
    ck_assert_int_eq(m.passes, 1);
    check_kernels_recorded(scratch("vetted/config.json"), true);
    unsetenv("LUNETTE_CACHE");
}
END_TEST

START_TEST(a_start_from_a_file)
{
    lun_train_config c = small();
    run_to(scratch("first"), 3, 0);
    c.seed = 5;
    char init[1024];
    snprintf(init, sizeof init, "%s", checkpoint("first", 3, ""));
    lun_run_params p = run_params(scratch("whole"), 4);
    p.init = init;
    OK(lun_train_run(dev, dataset, &c, &p));
    lun_model_file_info info;
    OK(lun_model_inspect(checkpoint("whole", 4, ""), &info));
    ck_assert(info.step == 4 && info.batches_tracked == 7);

    /* Stopped before its first own checkpoint, it goes on from the same weights, without the file. */
    p.folder = scratch("killed");
    OK(lun_train_run(dev, dataset, &c, &p));
    ck_assert_int_eq(unlink(checkpoint("killed", 4, "")), 0);
    ck_assert_int_eq(unlink(init), 0);
    p.folder = scratch("killed");
    p.init = NULL;
    p.resume = 1;
    OK(lun_train_run(dev, dataset, &c, &p));
    same_checkpoint("whole", "killed", 4);
}
END_TEST

START_TEST(a_run_that_diverges_leaves_its_checkpoint)
{
    lun_train_config c = small();
    run_to(scratch("first"), 3, 0);
    char init[1024];
    snprintf(init, sizeof init, "%s", checkpoint("first", 3, ""));
    for (int every = 0; every < 2; every++) {
        c.lr = every ? 1e38 : 1e10;
        const char *name = every ? "every" : "end";
        lun_run_params p = run_params(scratch(name), 40);
        p.init = init;
        p.checkpoint_every = (uint64_t)every;
        p.keep = 1;
        NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_DIVERGED);
        ck_assert_ptr_nonnull(strstr(lun_error_detail(), "untouched"));
        lun_checkpoint newest;
        OK(lun_runfolder_newest(scratch(name), true, &newest));
        ck_assert_ptr_nonnull(newest.weights);
        ck_assert_uint_le(newest.step, (uint64_t)every * 39);
        /* whole and finite: it loads */
        lun_trainer *t = make(dev, &c);
        OK(lun_trainer_load(t, newest.weights, newest.optimizer));
        lun_trainer_destroy(&t);
        lun_checkpoint_free(&newest);
        char folder[64];
        snprintf(folder, sizeof folder, "%s/checkpoints", name);
        ck_assert_int_eq(count_entries(scratch(folder)), 2);
    }
}
END_TEST

static struct rlimit old_limit;

static int fill_disk(void *payload, const lun_run_progress *p)
{
    (void)payload;
    struct rlimit limit = {.rlim_cur = 4096, .rlim_max = old_limit.rlim_max};
    if (p->step == 3)
        setrlimit(RLIMIT_FSIZE, &limit);
    return 0;
}

/* A file that cannot grow stands for a disk that is full. */
START_TEST(a_full_disk_leaves_the_older_checkpoint)
{
    const lun_train_config c = small();
    lun_run_params p = run_params(scratch("run"), 8);
    p.log_every = 1;
    p.checkpoint_every = 2;
    p.keep = 1;
    p.progress = fill_disk;
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
    const lun_status status = lun_train_run(dev, dataset, &c, &p);
    setrlimit(RLIMIT_FSIZE, &old_limit);
    signal(SIGXFSZ, old);
    NOT_OK(status, LUN_ERR_STORAGE);
    lun_checkpoint newest;
    OK(lun_runfolder_newest(scratch("run"), true, &newest));
    ck_assert_uint_eq(newest.step, 2);
    lun_checkpoint_free(&newest);
    ck_assert_int_eq(count_entries(scratch("run/checkpoints")), 2);
    run_to(scratch("whole"), 8, 0);
    run_to(scratch("run"), 8, 1);
    same_checkpoint("whole", "run", 8);
}
END_TEST

/* The last panel of a strip is the finished picture, whatever the number of steps; a strip has ten panels, or one a
 * step. */
START_TEST(strips_end_with_the_picture)
{
    static const int lengths[] = {7, 25, 30, 39};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        lun_train_config c = small();
        char name[96], folder[32];
        c.model.steps = lengths[i];
        snprintf(folder, sizeof folder, "run%d", lengths[i]);
        lun_run_params p = run_params(scratch(folder), PER_EPOCH);
        p.sample_every = 1;
        OK(lun_train_run(dev, dataset, &c, &p));
        snprintf(name, sizeof name, "%s/samples/epoch-00001.png", folder);
        lun_picture strip, last;
        OK(lun_picture_load(scratch(name), 0, &strip));
        const int panels = lengths[i] < 10 ? lengths[i] : 10, side = 64; /* 8x8 magnified */
        ck_assert_int_eq(strip.width, panels * (side + 2) + 2);
        ck_assert_int_eq(strip.height, side + 4);

        lun_trainer *t = make(dev, &c);
        lun_sampler *sampler = NULL;
        lun_schedule schedule;
        float image[3 * SIDE * SIDE];
        const uint64_t seed = c.seed + 1;
        OK(lun_trainer_load(t, checkpoint(folder, PER_EPOCH, ""), checkpoint(folder, PER_EPOCH, ".optimizer")));
        OK(lun_schedule_linear(c.model.steps, c.beta_first, c.beta_last, &schedule));
        const lun_sampler_params params = {.batch = 1,
                                           .height = SIDE,
                                           .width = SIDE,
                                           .clip = LUN_CLIP_MODE_XT,
                                           .norm = LUN_NORM_BATCH,
                                           .schedule = &schedule};
        OK(lun_sampler_create(lun_trainer_store(t), dev, &c.model, &params, NULL, &sampler));
        OK(lun_sampler_draw(sampler, &(lun_sampler_run){.seeds = &seed}, image));
        OK(lun_picture_from_floats(image, 1, 3, SIDE, SIDE, 1, 2, 8, &last));
        const size_t row = (size_t)last.width * 3;
        for (int y = 0; y < last.height; y++)
            ck_assert_int_eq(memcmp(strip.pixels + ((size_t)y + 1) * (size_t)strip.width * 3 - row,
                                    last.pixels + (size_t)y * row, row),
                             0);
        lun_picture_free(&strip);
        lun_picture_free(&last);
        lun_sampler_destroy(&sampler);
        lun_schedule_free(&schedule);
        lun_trainer_destroy(&t);
    }
}
END_TEST

START_TEST(runs_that_cannot_be)
{
    lun_train_config c = small();
    lun_run_params p = run_params(scratch("run"), 4);
    p.keep = 0;
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    p.keep = 1;
    p.length.hours = NAN;
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    p.length.hours = 0;
    c.width = c.height = 16; /* the data set is 8x8: reading it would overrun */
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    c = small();
    c.model.image_channels = 1;
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    c = small();
    c.batch = PICTURES + 1;
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_DATA);
    c = small();
    p.sample_every = 1;
    p.norm = LUN_NORM_TRAIN; /* sampling never writes the running statistics */
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);

    /* what failed at its start left no run behind */
    ck_assert(!lun_runfolder_holds_run(scratch("run")));
    p = run_params(scratch("run"), 2);
    OK(lun_train_run(dev, dataset, &c, &p));
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    p.resume = 1;
    p.init = scratch("x.safetensors");
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    p.init = NULL;
    c.lr = 2e-3; /* not what the run was started with */
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_USAGE);
    c = small();
    draw_folder(scratch("others"), PICTURES + 1, SIDE);
    lun_dataset *others = open_folder(scratch("others"), SIDE);
    NOT_OK(lun_train_run(dev, others, &c, &p), LUN_ERR_DATA);
    lun_dataset_close(&others);
    put_file(scratch("file"), "", 0);
    p = run_params(scratch("file"), 2);
    NOT_OK(lun_train_run(dev, dataset, &c, &p), LUN_ERR_STORAGE);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("train");
    TCase *tc = tcase_create("train");
    tcase_add_checked_fixture(tc, setup, teardown);
    tcase_set_timeout(tc, 120);
    tcase_add_test(tc, preset_is_the_seed_experiment);
    tcase_add_test(tc, order_is_the_permutation_without_the_partial_batch);
    tcase_add_test(tc, losses_come_once_and_in_order);
    tcase_add_test(tc, the_seed_decides_and_threads_do_not);
    tcase_add_test(tc, what_is_not_finite_is_told_and_not_written);
    tcase_add_test(tc, config_refusals);
    tcase_add_test(tc, a_run_is_its_trainer_and_loads_back);
    tcase_add_test(tc, resuming_sampling_and_saving_change_no_bit);
    tcase_add_test(tc, a_stop_is_saved);
    tcase_add_test(tc, a_stop_while_measuring_records_no_kernels);
    tcase_add_test(tc, nothing_is_measured_after_vetting);
    tcase_add_test(tc, a_start_from_a_file);
    tcase_add_test(tc, a_run_that_diverges_leaves_its_checkpoint);
    tcase_add_test(tc, a_full_disk_leaves_the_older_checkpoint);
    tcase_add_test(tc, strips_end_with_the_picture);
    tcase_add_test(tc, runs_that_cannot_be);
    suite_add_tcase(suite, tc);
    return run_suite(suite);
}
