/* lunette train */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/base.h"
#include "base/file.h"
#include "common.h"
#include "device/cache.h"
#include "interrupt.h"
#include "live.h"
#include "train_args.h"
#include "train_view.h"

static const char *const weights_names[] = {"ema", "raw", NULL};

static bool is_caught(void)
{
    return interrupt_caught() != 0;
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

static lun_status run_on(const train_args *a, lun_device **dev, int *exit_code)
{
    lun_train_config config;
    lun_dataset *dataset = NULL;
    size_t held = 0;
    lun_run_length length = {a->steps, a->epochs, a->hours};
    char *cache = NULL;
    LUN_TRY(train_make_config(a, *dev, &config, &length));
    LUN_TRY(train_check_config(a, &config));
    LUN_TRY(train_check_folder(a->folder));
    if (!a->resume) {
        LUN_TRY(data_args_channels(&a->data, a->folder, &config.model.image_channels));
        LUN_TRY(lun_train_config_check(&config));
    }
    LUN_TRY(train_check_init(a, &config));
    const bool made = !lun_file_exists(a->out);
    LUN_TRY(check_out(a->out));

    lun_status status = LUN_OK;
    const bool notebook = config.model.network == LUN_NOTEBOOK;
    train_view w = {.last = {.loss = NAN}, .tuner = {.stopped = is_caught}};
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
                             .progress = train_on_progress,
                             /* What the two devices of a check differ in is to be seen, and no failure of one. */
                             .reopen = strncmp(a->device, "check", 5) == 0 ? NULL : train_on_reopen,
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
    params.sample_every = train_sample_interval(a, &config, per_epoch, &length);
    params.holdout_every = train_holdout_interval(a, &config, per_epoch, &length);
    if (!*dev)
        LUN_TRY_GOTO(status, done, open_device(a->device, a->threads, dev));
    w.dev = *dev;
    w.device = dev;
    w.args = a;
    LUN_TRY_GOTO(status, done, train_watch_device(&w));
    train_say_start(a, &config, dataset, held, *dev, &params);
    interrupt_catch_end(); /* before this there is nothing to save */
    status = lun_train_run(*dev, dataset, &config, &params);
    live_clear();
    if (status == LUN_OK)
        *exit_code = train_say_end(a, &w);
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
    interrupt_catch_save();
    LUN_TRY(train_check_options(a));
    if (train_wants_advice(a)) {
        lun_train_config config;
        lun_run_length length = {0};
        LUN_TRY(train_check_folder(a->folder));
        LUN_TRY(train_make_config(a, NULL, &config, &length)); /* seconds go into the real one */
        LUN_TRY(open_device(a->device, a->threads, &dev));
    }
    const lun_status status = run_on(a, &dev, exit_code);
    lun_device_close(&dev);
    return status;
}

int lun_cmd_train(int argc, char **argv)
{
    train_args a = {RUN_DEFAULTS, .preset = LUN_PRESET_AUTO, .device = "auto",
                    .keep = 2,    .checkpoint_every = 250,   .clip = LUN_CLIP_MODE_XT,
                    .norm = 1,    .tune = LUN_TUNE_AUTO};
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
        DEVICE_OPTION(&a.device, ", check"),
        RUN_OPTIONS(a),
        {.name = "--init",
         .type = ARG_TEXT,
         .value = &a.init,
         .meta = "FILE",
         .help = "start from this model's weights"},
        {.name = "--resume", .type = ARG_FLAG, .value = &a.resume, .help = "go on from RUN's newest sound checkpoint"},
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
        HANG_OPTION(&a.hang_timeout),
        FALLBACK_OPTION(&a.allow_fallback),
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
            "UNets on the device\n"
            "and takes the widest that sees enough pictures in an hour, or in --hours. notebook trains the tutorial's "
            "network; the\n"
            "others are UNets with group norms and attention. Ctrl-C ends after the step at hand and saves (exit 130), "
            "so does TERM\n"
            "(143), and hang-up (129) unless it is ignored, as under nohup; a second signal leaves at once. USR1 saves "
            "and goes on.\n"
            "--resume takes everything that decides the numbers from RUN, and the length too unless one is given. On "
            "the same device\n"
            "the result is that of a run without a break, bit for bit.\n\n"
            "A step whose loss or gradient is not finite changes nothing and is done again. Another answer then means "
            "that the device\n"
            "errs (exit 5 at the third); the same sends the run back to its newest checkpoint, three times at most "
            "(exit 8).\n\n"
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
