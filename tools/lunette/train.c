/* lunette train */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "advise.h"
#include "base/base.h"
#include "base/file.h"
#include "checkpoint/runfolder.h"
#include "common.h"
#include "data_options.h"
#include "device/cache.h"
#include "live.h"
#include "train_network.h"
#include "train_update.h"
#include "tuner.h"

typedef struct train_args {
    const char *folder, *out, *preset, *device, *init, *cache;
    data_args data;
    int tune, size[2], batch, threads, sample_every, holdout_every, log_every, keep, clip, norm, loss,
        channels[LUN_MODEL_MAX_LEVELS], levels;
    bool size_given, batch_given, lr_given, seed_given, channels_given, preset_given, loss_given;
    bool epochs_given, steps_given, hours_given, checkpoint_given;
    bool sample_every_given, holdout_every_given;
    bool resume, quiet, allow_fallback, no_cache, no_doctor;
    uint64_t epochs, steps, seed, checkpoint_every;
    double hours;
    double lr;
    int weights;
    update_args update;
    objective_args objective;
    bool clip_given;
} train_args;

/* What a run with preset auto does so many times. */
#define STRIPS       20
#define MEASUREMENTS 100

static const char *const weights_names[] = {"ema", "raw", NULL};

/* ---- Interrupts
 * ----------------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t caught;

/* The first signal asks the loop to finish its step and save; the next one of any of these kinds ends the process at
 * once. */
static void on_signal(int number)
{
    caught = number;
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    signal(SIGHUP, SIG_DFL);
}

static void catch_signals(void)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    for (size_t i = 0; i < LUN_COUNT(numbers); i++) {
        /* What a parent has silenced (nohup, a shell's background job) stays so. */
        if (signal(numbers[i], on_signal) == SIG_IGN)
            signal(numbers[i], SIG_IGN);
    }
}

/* ---- Progress
 * ------------------------------------------------------------------------------------------------------------- */

typedef struct watch {
    const lun_device *dev;
    lun_run_progress last;
    bool memory_said;
    tuner_view tuner;
} watch;

static bool is_caught(void)
{
    return caught != 0;
}

static int on_progress(void *payload, const lun_run_progress *p)
{
    watch *w = payload;
    char head[80], left[32], done[64];
    if (!w->memory_said) {
        size_t now = 0, peak = 0;
        tuner_end(&w->tuner);
        lun_device_memory(w->dev, &now, &peak);
        say("memory: %s on the device", bytes_text((double)now, done, sizeof done));
        w->memory_said = true;
    }
    if (p->last_step)
        snprintf(done, sizeof done, "%" PRIu64 "/%" PRIu64, p->step, p->last_step);
    else
        snprintf(done, sizeof done, "%" PRIu64, p->step);
    duration_text(p->left_s, left, sizeof left);
    char held[64] = "";
    if (isfinite(p->holdout_loss) && isfinite(p->holdout_average))
        snprintf(held, sizeof held, "  held out %.4f, averaged %.4f", (double)p->holdout_loss,
                 (double)p->holdout_average);
    else if (isfinite(p->holdout_loss))
        snprintf(held, sizeof held, "  held out %.4f", (double)p->holdout_loss);
    if (p->logged && !live_terminal())
        say("step %s  epoch %" PRIu64 "  loss %.4f%s  %.1f images/s  %s left", done, p->epoch, (double)p->loss, held,
            p->images_per_s, left);
    snprintf(head, sizeof head, "step %s", done);
    if (isfinite(p->loss))
        live_show(head, "  epoch %" PRIu64 "  loss %.4f%s  %.1f images/s  %s left%s%s", p->epoch, (double)p->loss, held,
                  p->images_per_s, left, p->event ? "  " : "", p->event ? p->event : "");
    else
        live_show(head, "  epoch %" PRIu64 "%s%s", p->epoch, p->event ? "  " : "", p->event ? p->event : "");
    w->last = *p;
    return caught != 0;
}

/* ---- Configuration
 * -------------------------------------------------------------------------------------------------------- */

/* "64", or "96x64" */
static const char *size_text(int width, int height, char *text, size_t size)
{
    if (width == height)
        snprintf(text, size, "%d", width);
    else
        snprintf(text, size, "%dx%d", width, height);
    return text;
}

/* On --resume the run's own configuration counts; an option that says otherwise is a mistake. */
static lun_status check_same(const train_args *a, const lun_train_config *c)
{
    LUN_TRY(update_check_same(&a->update, a->out, c));
    LUN_TRY(objective_check_same(&a->objective, a->out, c));
    if (a->preset_given && strcmp(a->preset, c->preset) != 0)
        return run_differs(a->out, "--preset", a->preset, c->preset);
    if (a->size_given && (a->size[0] != c->width || a->size[1] != c->height)) {
        char left[24], right[24];
        return run_differs(a->out, "--size", size_text(a->size[0], a->size[1], left, sizeof left),
                           size_text(c->width, c->height, right, sizeof right));
    }
    LUN_TRY(data_args_check_same(&a->data, a->out, c));
    LUN_TRY(run_check_number(a->out, "--batch", a->batch_given, a->batch, c->batch));
    LUN_TRY(run_check_number(a->out, "--lr", a->lr_given, a->lr, c->lr));
    if (a->seed_given && a->seed != c->seed) {
        char left[24], right[24];
        snprintf(left, sizeof left, "%" PRIu64, a->seed);
        snprintf(right, sizeof right, "%" PRIu64, c->seed);
        return run_differs(a->out, "--seed", left, right);
    }
    if (a->loss_given && a->loss != (int)c->loss)
        return run_differs(a->out, "--loss", loss_names[a->loss], loss_names[c->loss]);
    if (a->channels_given && (a->levels != c->model.levels ||
                              memcmp(a->channels, c->model.channels, sizeof(int) * (size_t)a->levels) != 0)) {
        char left[128], right[128];
        lun_model_config given = {.levels = a->levels};
        memcpy(given.channels, a->channels, sizeof(int) * (size_t)a->levels);
        return run_differs(a->out, "--channels", channels_text(&given, left, sizeof left),
                           channels_text(&c->model, right, sizeof right));
    }
    return LUN_OK;
}

static bool wants_advice(const train_args *a)
{
    return !a->resume && strcmp(a->preset, LUN_PRESET_AUTO) == 0;
}

/* What the preset says of the run and, unless an option does, of its length. `dev`: for preset auto. */
static lun_status preset_config(const train_args *a, lun_device *dev, lun_train_config *c, lun_run_length *length)
{
    const bool own_length = !a->epochs_given && !a->steps_given;
    lun_preset preset;
    if (wants_advice(a)) {
        const advise_args wishes = {.folder = a->folder,
                                    .data = &a->data,
                                    .width = a->size_given ? a->size[0] : 0,
                                    .height = a->size_given ? a->size[1] : 0,
                                    .batch = a->batch_given ? a->batch : 0,
                                    .steps = a->steps,
                                    .epochs = a->epochs,
                                    .hours = a->hours};
        uint64_t steps = 0;
        LUN_TRY(advise(dev, &wishes, c, &steps, NULL));
        if (!a->epochs_given) /* with --hours too: the learning rate's decay has to end somewhere */
            length->steps = steps;
        return LUN_OK;
    }
    LUN_TRY(lun_train_preset(a->preset, c));
    LUN_TRY(lun_preset_named(a->preset, &preset));
    if (own_length && !a->hours_given) {
        length->steps = preset.steps;
        length->epochs = preset.epochs;
    }
    return LUN_OK;
}

/* The preset's with what the options say. */
static lun_status new_config(const train_args *a, lun_device *dev, lun_train_config *out, lun_run_length *length)
{
    lun_train_config c;
    LUN_TRY(preset_config(a, dev, &c, length));
    if (a->size_given) {
        c.width = a->size[0];
        c.height = a->size[1];
    }
    LUN_TRY(data_args_apply(&a->data, &c.data));
    if (a->batch_given)
        c.batch = a->batch;
    if (a->lr_given)
        c.lr = a->lr;
    if (a->loss_given)
        c.loss = (lun_loss_type)a->loss;
    if (a->channels_given)
        set_channels(&c.model, a->channels, a->levels);
    LUN_TRY(objective_apply(&a->objective, &c));
    /* How many classes there are the pictures will tell. */
    if (c.data.labels && c.model.network != LUN_NOTEBOOK) {
        c.model.classes = 1;
        c.model.null_class = c.data.label_dropout > 0;
    }
    c.seed = a->seed;
    LUN_TRY(update_apply(&a->update, &c));
    LUN_TRY(lun_train_config_check(&c));
    if (c.decay != LUN_DECAY_CONSTANT && c.decay_steps == 0 && length->epochs == 0 && length->steps == 0)
        return lun_fail(LUN_ERR_USAGE, "--hours does not say by which step the learning rate has decayed: give "
                                       "--decay-steps, or --decay constant");
    *out = c;
    return LUN_OK;
}

static lun_status make_config(const train_args *a, lun_device *dev, lun_train_config *out, lun_run_length *length)
{
    if (a->resume) {
        if (!lun_runfolder_holds_run(a->out))
            return lun_fail(LUN_ERR_USAGE, "%s: holds no run to go on with", a->out);
        lun_run_length recorded;
        LUN_TRY(lun_train_config_load(a->out, out, &recorded));
        if (!a->epochs_given && !a->steps_given && !a->hours_given)
            *length = recorded;
        return check_same(a, out);
    }
    struct stat st; /* what is no folder is a matter for check_out() */
    if (stat(a->out, &st) == 0 && S_ISDIR(st.st_mode) && lun_runfolder_holds_run(a->out))
        return lun_fail(LUN_ERR_USAGE, "%s: already holds a run; go on with --resume or choose another folder", a->out);
    return new_config(a, dev, out, length);
}

/* A file to start from must fit the network. */
static lun_status check_init(const train_args *a, const lun_train_config *c)
{
    if (a->init) {
        lun_model_file_info info;
        LUN_TRY(lun_model_inspect(a->init, &info));
        const lun_model_config *m = &info.config;
        if (m->network != c->model.network)
            return lun_fail(LUN_ERR_CHECKPOINT,
                            "%s does not fit the network: it is of kind %s, the run's %s (--preset)", a->init,
                            lun_network_name(m->network), lun_network_name(c->model.network));
        if (m->image_channels != c->model.image_channels)
            return lun_fail(LUN_ERR_CHECKPOINT,
                            "%s does not fit the pictures: it draws %d channels, they have %d (--channels-in)", a->init,
                            m->image_channels, c->model.image_channels);
        if (m->levels != c->model.levels ||
            memcmp(m->channels, c->model.channels, sizeof(int) * (size_t)m->levels) != 0) {
            char left[128], right[128];
            return lun_fail(LUN_ERR_CHECKPOINT,
                            "%s does not fit the network: its channels are %s, the run's %s (--channels)", a->init,
                            channels_text(m, left, sizeof left), channels_text(&c->model, right, sizeof right));
        }
    }
    return LUN_OK;
}

/* Before anything is looked at. */
static lun_status check_options(const train_args *a)
{
    if (a->epochs_given + a->steps_given + a->hours_given > 1)
        return lun_fail(LUN_ERR_USAGE, "--epochs, --steps and --hours exclude each other: give one");
    if (a->no_cache && a->cache)
        return lun_fail(LUN_ERR_USAGE, "--cache and --no-cache exclude each other: give one");
    if (a->resume && a->init)
        return lun_fail(LUN_ERR_USAGE, "--init and --resume exclude each other: a run goes on from its own checkpoint");
    if (a->init && wants_advice(a))
        return lun_fail(LUN_ERR_USAGE, "--init: give the --preset whose network %s holds", a->init);
    return check_computes(a->device);
}

static lun_status check_config(const train_args *a, const lun_train_config *c)
{
    if (a->data.label_dropout_given && !c->data.labels)
        return lun_fail(LUN_ERR_USAGE, "--label-dropout: only with --labels");
    const int shift = c->model.levels - 1;
    if (c->model.network == LUN_NOTEBOOK && a->sample_every > 0 && a->norm == 1 &&
        (c->height >> shift) * (c->width >> shift) < 2)
        return lun_fail(
            LUN_ERR_USAGE,
            "the network's deepest maps have one pixel at this size, too few for sample strips with batch statistics: "
            "give --norm-mode eval or --sample-every 0");
    return LUN_OK;
}

static lun_status check_folder(const char *folder)
{
    struct stat st;
    if (stat(folder, &st) != 0)
        return lun_fail(LUN_ERR_USAGE, "%s: no such folder of pictures", folder);
    return S_ISDIR(st.st_mode) ? LUN_OK : lun_fail(LUN_ERR_USAGE, "%s: not a folder", folder);
}

/* The folder must be there and writable before hours are spent. */
static lun_status check_out(const char *out)
{
    LUN_TRY(lun_make_dirs(out));
    char *path = lun_format("%s/config.json", out); /* begun and discarded: a file of that name stays as it is */
    lun_file *file = NULL;
    if (!path)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_file_create(path, &file);
    if (status == LUN_OK)
        lun_file_discard(file);
    free(path);
    return status;
}

/* ---- The run
 * -------------------------------------------------------------------------------------------------------------- */

static void say_start(const train_args *a, const lun_train_config *c, const lun_dataset *dataset, size_t held,
                      const lun_device *dev, const lun_run_params *p)
{
    char text[400], channels[128];
    device_text(dev, a->device, text, sizeof text);
    say("device: %s", text);
    say("data: %zu pictures at %dx%d, %s, from %s, %zu skipped", lun_dataset_count(dataset), c->width, c->height,
        channels_name(c->model.image_channels), a->folder, lun_dataset_skipped(dataset));
    if (c->data.crop != LUN_CROP_STRETCH || c->data.flip)
        say("pictures: %s%s", crop_names[c->data.crop], c->data.flip ? ", mirrored by chance" : "");
    if (held)
        say("held out: %zu pictures (--holdout %s)", held, short_number(c->data.holdout, text, sizeof text));
    if (lun_dataset_classes(dataset))
        say("classes: %d, %s to %s; %g of the samples are told none", lun_dataset_classes(dataset),
            lun_dataset_class_name(dataset, 0), lun_dataset_class_name(dataset, lun_dataset_classes(dataset) - 1),
            c->data.label_dropout);
    if (lun_dataset_cache(dataset))
        say("cache: %s", lun_dataset_cache(dataset));
    say("model: %s, channels %s, %" PRIu64 " parameters", c->preset,
        channels_text(&c->model, channels, sizeof channels), lun_model_parameters(&c->model, NULL));
    objective_say(c);
    const uint64_t per_epoch = (lun_dataset_count(dataset) - held) / (uint64_t)c->batch;
    if (p->length.steps)
        snprintf(text, sizeof text, "%" PRIu64 " steps", p->length.steps);
    else if (p->length.epochs)
        snprintf(text, sizeof text, "%" PRIu64 " epochs", p->length.epochs);
    else
        snprintf(text, sizeof text, "%g hours", p->length.hours);
    say("run: %s to %s, %" PRIu64 " steps of %d pictures an epoch, lr %g, seed %" PRIu64,
        a->resume ? "resumed, going on" : "new", text, per_epoch, c->batch, c->lr, c->seed);
    update_say(c);
}

static int say_end(const train_args *a, const watch *w)
{
    lun_checkpoint newest = {.step = w->last.step};
    char time[32];
    live_clear();
    live_quiet(false);
    if (lun_runfolder_newest(a->out, false, &newest) != LUN_OK)
        lun_log(LUN_LOG_WARN, "%s", lun_error_detail());
    if (caught)
        say("stopped at step %" PRIu64 " by signal %d and saved; --resume goes on: %s", newest.step, (int)caught,
            newest.weights ? newest.weights : a->out);
    else if (isfinite(w->last.loss) && w->last.step)
        say("done: %" PRIu64 " steps, loss %.4f, %s: %s", newest.step, (double)w->last.loss,
            duration_text(w->last.elapsed_s, time, sizeof time), newest.weights ? newest.weights : a->out);
    else
        say("done: nothing was left to do: %s", newest.weights ? newest.weights : a->out);
    live_quiet(a->quiet);
    if (!caught)
        say("pictures: lunette sample %s --out grid.png; see also %s/samples and %s/loss.png", a->out, a->out, a->out);
    lun_checkpoint_free(&newest);
    return caught ? 128 + (int)caught : 0;
}

/* Epochs between what is done now and then: of a preset auto, whose epochs may be short and many, `times` in the run.
 */
static int interval(const lun_train_config *c, bool given, int epochs, uint64_t per_epoch, const lun_run_length *length,
                    int times)
{
    if (given || strcmp(c->preset, LUN_PRESET_AUTO) != 0 || epochs == 0)
        return epochs;
    const uint64_t all = length->epochs ? length->epochs : length->steps / per_epoch;
    return (int)lun_max_i64(1, (int64_t)(all / (uint64_t)times));
}

static lun_status run_on(const train_args *a, lun_device **dev, int *exit_code)
{
    lun_train_config config;
    lun_dataset *dataset = NULL;
    size_t held = 0;
    lun_run_length length = {a->steps, a->epochs, a->hours};
    char *cache = NULL;
    LUN_TRY(make_config(a, *dev, &config, &length));
    LUN_TRY(check_config(a, &config));
    LUN_TRY(check_folder(a->folder));
    if (!a->resume) {
        LUN_TRY(data_args_channels(&a->data, a->folder, &config.model.image_channels));
        LUN_TRY(lun_train_config_check(&config));
    }
    LUN_TRY(check_init(a, &config));
    const bool made = !lun_file_exists(a->out);
    LUN_TRY(check_out(a->out));

    lun_status status = LUN_OK;
    const bool notebook = config.model.network == LUN_NOTEBOOK;
    watch w = {.last = {.loss = NAN}, .tuner = {.stopped = is_caught}};
    const lun_tune_params tuner = {.progress = tuner_progress, .result = tuner_result, .payload = &w.tuner};
    if (!a->no_cache)
        cache = a->cache ? lun_strdup(a->cache) : lun_cache_folder();
    if (a->cache && !cache)
        return LUN_ERR_MEMORY;
    /* The seed experiment ignores orientation, and so does everything after it. */
    const lun_dataset_params data = {.folder = a->folder,
                                     .width = config.width,
                                     .height = config.height,
                                     .fit = lun_train_fit(&config),
                                     .channels = config.model.image_channels,
                                     .labels = config.data.labels,
                                     .threads = a->threads,
                                     .cache = cache};
    lun_run_params params = {.folder = a->out,
                             .resume = a->resume,
                             .init = a->init,
                             .length = length,
                             .sample_every = a->sample_every,
                             .holdout_every = a->holdout_every,
                             .log_every = a->log_every,
                             .checkpoint_every = a->checkpoint_every,
                             .keep = a->keep,
                             .clip = notebook || a->clip_given ? (lun_clip_mode)a->clip : LUN_CLIP_MODE_X0,
                             .norm = notebook && a->norm ? LUN_NORM_BATCH : LUN_NORM_EVAL,
                             .raw_samples = a->weights == 1,
                             .allow_fallback = a->allow_fallback,
                             .tune = (lun_tune_mode)a->tune,
                             .vet = !a->no_doctor,
                             .tuner = &tuner,
                             .progress = on_progress,
                             .payload = &w};
    LUN_TRY_GOTO(status, done, lun_dataset_open(&data, &dataset));
    if (!a->resume && config.data.labels) {
        config.model.classes = lun_dataset_classes(dataset);
        LUN_TRY_GOTO(status, done, lun_train_config_check(&config));
    }
    LUN_TRY_GOTO(status, done, count_held(dataset, config.data.holdout, &held));
    const size_t per_epoch = (lun_dataset_count(dataset) - held) / (size_t)config.batch;
    if (per_epoch == 0) {
        status =
            lun_fail(LUN_ERR_DATA, "%s: %zu usable pictures%s are fewer than one batch of %d; give --batch", a->folder,
                     lun_dataset_count(dataset) - held, held ? " that are not held out" : "", config.batch);
        goto done;
    }
    if (params.log_every == 0) /* a line an epoch, of small and of large data sets too */
        params.log_every = per_epoch > 50 ? 50 : (int)per_epoch;
    params.sample_every = interval(&config, a->sample_every_given, a->sample_every, per_epoch, &length, STRIPS);
    params.holdout_every =
        interval(&config, a->holdout_every_given, a->holdout_every, per_epoch, &length, MEASUREMENTS);
    if (!*dev)
        LUN_TRY_GOTO(status, done, open_device(a->device, a->threads, dev));
    w.dev = *dev;
    say_start(a, &config, dataset, held, *dev, &params);
    catch_signals();
    status = lun_train_run(*dev, dataset, &config, &params);
    live_clear();
    if (status == LUN_OK)
        *exit_code = say_end(a, &w);
done:
    if (status != LUN_OK && made)
        rmdir(a->out); /* only if nothing was written into it */
    lun_dataset_close(&dataset);
    free(cache);
    return status;
}

static lun_status run(const train_args *a, int *exit_code)
{
    lun_device *dev = NULL;
    LUN_TRY(check_options(a));
    if (wants_advice(a)) {
        lun_train_config config;
        lun_run_length length = {0};
        LUN_TRY(check_folder(a->folder));
        LUN_TRY(make_config(a, NULL, &config, &length)); /* seconds go into the real one */
        LUN_TRY(open_device(a->device, a->threads, &dev));
    }
    const lun_status status = run_on(a, &dev, exit_code);
    lun_device_close(&dev);
    return status;
}

int lun_cmd_train(int argc, char **argv)
{
    train_args a = {.preset = LUN_PRESET_AUTO,
                    .device = "auto",
                    .sample_every = 5,
                    .holdout_every = 5,
                    .keep = 2,
                    .checkpoint_every = 250,
                    .clip = LUN_CLIP_MODE_XT,
                    .norm = 1,
                    .tune = LUN_TUNE_AUTO};
    const arg_option options[] = {
        {.name = "--out",
         .type = ARG_TEXT,
         .value = &a.out,
         .meta = "RUN",
         .help = "the run folder: a new one, or with --resume an old one"},
        {.name = "--preset",
         .type = ARG_TEXT,
         .value = &a.preset,
         .given = &a.preset_given,
         .meta = "NAME",
         .help = "auto (the default): made for FOLDER and the device; or " PRESETS},
        {.name = "--device",
         .type = ARG_TEXT,
         .value = &a.device,
         .meta = "DEVICE",
         .help = "auto (the default), cpu, opencl[:I], check; see lunette devices"},
        {.name = "--size",
         .type = ARG_SIZE,
         .value = a.size,
         .min = 2,
         .max = 4096,
         .given = &a.size_given,
         .meta = "N|WxH",
         .help = "pixels, a side or across and down (the preset's); divisible by 2 for each level but one"},
        DATA_OPTIONS(&a.data),
        {.name = "--batch",
         .type = ARG_INT,
         .value = &a.batch,
         .min = 1,
         .max = 4096,
         .given = &a.batch_given,
         .meta = "N",
         .help = "pictures a step (the preset's); what is left of an epoch is skipped"},
        {.name = "--epochs",
         .type = ARG_U64,
         .value = &a.epochs,
         .min = 1,
         .max = 1e12,
         .given = &a.epochs_given,
         .meta = "N",
         .help = "end after N epochs in all (notebook 500); or:"},
        {.name = "--steps",
         .type = ARG_U64,
         .value = &a.steps,
         .min = 1,
         .max = 1e15,
         .given = &a.steps_given,
         .meta = "N",
         .help = "end after N optimiser steps in all (the other presets'); or:"},
        {.name = "--hours",
         .type = ARG_DOUBLE,
         .value = &a.hours,
         .min = 1e-4,
         .max = 1e5,
         .given = &a.hours_given,
         .meta = "H",
         .help = "end after H hours of this start (auto 1)"},
        {.name = "--lr",
         .type = ARG_DOUBLE,
         .value = &a.lr,
         .min = 1e-12,
         .max = 1e3,
         .given = &a.lr_given,
         .meta = "R",
         .help = "learning rate (the preset's)"},
        UPDATE_OPTIONS(a.update),
        {.name = "--seed",
         .type = ARG_U64,
         .value = &a.seed,
         .given = &a.seed_given,
         .meta = "S",
         .help = "of all that is random (0)"},
        {.name = "--channels",
         .type = ARG_INTS,
         .value = a.channels,
         .min = 1,
         .max = LUN_MODEL_MAX_LEVELS,
         .count = &a.levels,
         .given = &a.channels_given,
         .meta = "A,B,...",
         .help = "of the levels, 1 to 8 (the preset's)"},
        {.name = "--loss",
         .type = ARG_CHOICE,
         .value = &a.loss,
         .choices = loss_names,
         .given = &a.loss_given,
         .meta = "KIND",
         .help = "l1 (notebook's), l2 (the others'), huber"},
        OBJECTIVE_OPTIONS(a.objective),
        {.name = "--init",
         .type = ARG_TEXT,
         .value = &a.init,
         .meta = "FILE",
         .help = "start from this model's weights"},
        {.name = "--resume", .type = ARG_FLAG, .value = &a.resume, .help = "go on from RUN's newest sound checkpoint"},
        {.name = "--sample-every",
         .type = ARG_INT,
         .value = &a.sample_every,
         .min = 0,
         .max = 1e9,
         .given = &a.sample_every_given,
         .meta = "EPOCHS",
         .help = "epochs between sample strips (5; auto: 20 in all); 0: none"},
        {.name = "--holdout-every",
         .type = ARG_INT,
         .value = &a.holdout_every,
         .min = 0,
         .max = 1e9,
         .given = &a.holdout_every_given,
         .meta = "EPOCHS",
         .help = "epochs between measurements of held-out pictures (5; auto: 100 in all); 0: none"},
        {.name = "--clip",
         .type = ARG_CHOICE,
         .value = &a.clip,
         .choices = clip_names,
         .given = &a.clip_given,
         .meta = "MODE",
         .help = "of the sample strips: xt (notebook's default), x0 (the others'), none"},
        {.name = "--norm-mode",
         .type = ARG_CHOICE,
         .value = &a.norm,
         .choices = norm_names,
         .meta = "MODE",
         .help = "of the sample strips: train (the default), eval; for notebook only"},
        {.name = "--weights",
         .type = ARG_CHOICE,
         .value = &a.weights,
         .choices = weights_names,
         .meta = "WHICH",
         .help = "of the sample strips: ema, the first moving average if there is one (the default), raw"},
        {.name = "--checkpoint-every",
         .type = ARG_U64,
         .value = &a.checkpoint_every,
         .max = 1e15,
         .given = &a.checkpoint_given,
         .meta = "N",
         .help = "steps between checkpoints (250); 0: only at the end"},
        {.name = "--keep",
         .type = ARG_INT,
         .value = &a.keep,
         .min = 1,
         .max = 1e6,
         .meta = "N",
         .help = "checkpoints to keep (2)"},
        {.name = "--log-every",
         .type = ARG_INT,
         .value = &a.log_every,
         .min = 1,
         .max = 1e9,
         .meta = "N",
         .help = "steps between log lines (an epoch, at most 50)"},
        {.name = "--threads",
         .type = ARG_INT,
         .value = &a.threads,
         .min = 1,
         .max = MAX_THREADS,
         .meta = "N",
         .help = "of the cpu device and of reading pictures (all cores)"},
        {.name = "--cache",
         .type = ARG_TEXT,
         .value = &a.cache,
         .meta = "DIR",
         .help = "where decoded pictures are kept (see below)"},
        {.name = "--no-cache",
         .type = ARG_FLAG,
         .value = &a.no_cache,
         .help = "keep them in memory; read no cache and write none"},
        {.name = "--tune",
         .type = ARG_CHOICE,
         .value = &a.tune,
         .choices = tune_names,
         .meta = "MODE",
         .help = "auto (the default): measure kernels that are not remembered; known, force, off"},
        {.name = "--no-doctor",
         .type = ARG_FLAG,
         .value = &a.no_doctor,
         .help = "trust the device's kernels without holding them against plain C first"},
        {.name = "--allow-fallback",
         .type = ARG_FLAG,
         .value = &a.allow_fallback,
         .help = "let plain C compute what the device cannot"},
        {.name = "--quiet", .type = ARG_FLAG, .value = &a.quiet, .help = "print warnings and the last line only"},
        {0},
    };
    const arg_command command = {
        .usage = "train FOLDER --out RUN [options]",
        .about = "Train a diffusion model on the pictures (PNG, JPEG) in FOLDER and below it. RUN receives "
                 "config.json, log.jsonl,\n"
                 "loss.png, data.png, forward.png, samples/ and checkpoints/.",
        .notes =
            "A preset says everything that no option says. auto looks at the pictures' number and size, times some "
            "UNets "
            "on the device\n"
            "and takes the widest that sees enough pictures in an hour, or in --hours. notebook trains the tutorial's "
            "network; the\n"
            "others are UNets with group norms and attention. Ctrl-C ends after the step at hand and saves (exit 130); "
            "a "
            "second one leaves\n"
            "at once. --resume takes everything that decides the numbers from RUN, and the length too unless one "
            "is given. On the\n"
            "same device the result is that of a run without a break, bit for bit.\n\n"
            "With --ema, checkpoints hold each moving average as a model file of its own beside the weights, and "
            "lunette sample\n"
            "draws with the first. --ema-warmup power forgets the initial weights at once: the rate is at most 1 - "
            "n^(-3/4) after\n"
            "n steps; ramp keeps the average's half-life within a twentieth of n. --accumulate changes the result by "
            "rounding only,\n"
            "but not where a network has batch norms, as notebook has: there it warns.\n\n"
            "--learned-variance doubles the network's output; the loss is then that of the mean plus --bound-scale "
            "times "
            "the variational\n"
            "bound, which teaches the variance alone (Nichol and Dhariwal 2021). --loss-aware draws a time step in "
            "proportion to the\n"
            "root mean square of its last ten losses, and weighs it so that the expected loss stays the same; every "
            "step then waits\n"
            "for the one before it. With --labels the network learns a class for each sub-folder, and where "
            "--label-dropout is above 0\n"
            "also to do without (lunette sample --class N --guidance S).\n\n"
            "Before the first step the kernels of each op are timed, less than a minute in all, unless that is "
            "remembered: --tune\n"
            "known takes what is remembered and measures nothing, force measures everything anew, off leaves the "
            "choice to the\n"
            "device. See lunette tune --help, also for where it is remembered. --resume keeps what the run was "
            "begun with.\n\n"
            "Once for a device, driver and network the kernels are held against plain C in a step with two "
            "pictures; one that\n"
            "computes wrongly is not used. See lunette doctor --help.\n\n" DATA_NOTES
            "Pictures are decoded once and kept, 1 to 4 bytes a pixel at the run's size, in a file pictures-* in the "
            "cache folder:\n"
            "$LUNETTE_CACHE, else $XDG_CACHE_HOME/lunette, else ~/.cache/lunette. The next run on the same folder "
            "decodes only what\n"
            "has another name, size or time; the file is read as it is needed and may be larger than memory. "
            "Remove it whenever\n"
            "you like (rm ~/.cache/lunette/pictures-*).\n\n"
            "example:\n  lunette craters craters && lunette train craters --out run --hours 0.2",
        .options = options,
        .min_positionals = 1,
        .max_positionals = 1,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, &a.folder, &positionals, &exit_code))
        return exit_code;
    if (!a.out)
        return report(lun_fail(LUN_ERR_USAGE, "--out RUN is missing; usage: lunette %s", command.usage));
    if (a.quiet) {
        live_quiet(true);
        log_warnings_only();
    }
    const lun_status status = run(&a, &exit_code);
    live_clear();
    return status == LUN_OK ? exit_code : report(status);
}
