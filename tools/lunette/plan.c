/* lunette plan: what a run will cost, before it is begun. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "common.h"
#include "data/picture.h"
#include "live.h"
#include "train_args.h"
#include "tuner.h"

/* To spend on timing ops. */
#define SECONDS 10.0

typedef struct plan_args {
    const char *names[2]; /* PRESET, FOLDER */
    int given;
    bool quick, json;
    train_args run;
} plan_args;

typedef struct planned {
    lun_preset preset;
    lun_train_config config;
    lun_forecast forecast;
    lun_run_length length;
    uint64_t pictures, held, per_epoch, steps; /* 0: without a folder, or length */
    size_t tuned;                              /* ops whose choice is remembered */
    char device[400];
} planned;

static int show_progress(void *payload, const char *what, int done, int of)
{
    (void)payload;
    if (of > 0)
        live_show("plan", "  %s %d/%d", what, done, of);
    else
        live_show("plan", "  %s", what);
    return 0;
}

static lun_status check_options(const plan_args *a)
{
    if (train_wants_advice(&a->run) && a->given < 2)
        return lun_fail(LUN_ERR_USAGE, "preset auto is made for a folder of pictures: give FOLDER too");
    if (a->run.data.labels && a->given < 2)
        return lun_fail(LUN_ERR_USAGE, "--labels: how many classes there are FOLDER tells; give it too");
    return train_check_length(&a->run);
}

/* Names are in order of their bytes: those that begin alike lie together. */
static int count_classes(const lun_folder *folder)
{
    int classes = 0;
    for (size_t i = 0; i < folder->count; i++) {
        const char *name = folder->names[i], *slash = strchr(name, '/');
        const size_t length = slash ? (size_t)(slash - name) + 1 : 0;
        classes += length > 0 && (i == 0 || strncmp(folder->names[i - 1], name, length) != 0);
    }
    return classes;
}

/* Names only: what is damaged shows when the run reads it. */
static lun_status count_pictures(const plan_args *a, planned *p)
{
    const char *path = a->names[1];
    lun_folder folder;
    LUN_TRY(train_check_folder(path));
    LUN_TRY(lun_folder_scan(path, &folder));
    p->pictures = folder.count;
    p->held = 0;
    for (size_t i = 0; i < folder.count; i++)
        p->held += lun_holdout_takes(p->config.data.holdout, folder.names[i], i) != 0;
    if (p->config.model.classes == 1) /* asked for; how many is not known before */
        p->config.model.classes = count_classes(&folder);
    lun_folder_free(&folder);
    if (p->pictures == 0)
        return lun_fail(LUN_ERR_DATA, "%s: no pictures (PNG, JPEG) in it", path);
    LUN_TRY(lun_holdout_check_counts(p->config.data.holdout, (size_t)p->pictures, (size_t)p->held));
    if (a->run.data.labels && p->config.model.classes < 2)
        return lun_fail(LUN_ERR_DATA, "%s: --labels wants two sub-folders with pictures at least", path);
    return LUN_OK;
}

/* `dev`: for preset auto; NULL: a stand-in, to check options against. */
static lun_status combine_options(const plan_args *a, lun_device *dev, planned *p)
{
    p->length = (lun_run_length){a->run.steps, a->run.epochs, a->run.hours};
    LUN_TRY(train_new_config(&a->run, dev, &p->config, &p->length));
    return train_check_config(&a->run, &p->config);
}

/* As lunette train will have it. */
static lun_status make_config(const plan_args *a, lun_device *dev, planned *p)
{
    LUN_TRY(combine_options(a, dev, p));
    if (train_wants_advice(&a->run)) {
        p->preset = (lun_preset){.name = LUN_PRESET_AUTO, .about = "made for these pictures and this device"};
        p->length.hours = 0; /* they have become steps */
    } else {
        LUN_TRY(lun_preset_named(a->names[0], &p->preset));
    }
    if (a->given < 2) {
        p->held = p->config.data.holdout > 0 ? (uint64_t)p->config.batch : 0; /* enough to fill one */
        return LUN_OK;
    }
    LUN_TRY(count_pictures(a, p));
    LUN_TRY(data_args_channels(&a->run.data, a->names[1], &p->config.model.image_channels));
    LUN_TRY(lun_train_config_check(&p->config));
    p->per_epoch = (p->pictures - p->held) / (uint64_t)p->config.batch;
    if (p->per_epoch == 0)
        return lun_fail(LUN_ERR_DATA, "%s: %" PRIu64 " pictures%s are fewer than one batch of %d; give --batch",
                        a->names[1], p->pictures - p->held, p->held ? " that are not held out" : "", p->config.batch);
    return LUN_OK;
}

static void find_length(planned *p)
{
    if (p->length.steps)
        p->steps = p->length.steps;
    else if (p->length.epochs)
        p->steps = p->length.epochs * p->per_epoch;
    else if (isfinite(p->forecast.step_s))
        p->steps = (uint64_t)(3600 * p->length.hours / p->forecast.step_s);
}

/* Does the run draw strips? Without a folder nobody knows how many epochs it has. */
static bool has_strips(const plan_args *a, const planned *p)
{
    if (p->per_epoch == 0)
        return a->run.sample_every > 0;
    const int every = train_sample_interval(&a->run, &p->config, p->per_epoch, &p->length);
    const bool timed = p->length.steps == 0 && p->length.epochs == 0;
    const uint64_t epochs = p->length.epochs ? p->length.epochs : p->length.steps / p->per_epoch;
    return every > 0 && (timed || epochs >= (uint64_t)every);
}

static lun_status forecast(const plan_args *a, lun_device *dev, bool only_memory, double seconds, planned *p)
{
    lun_tuning *tuning = NULL;
    LUN_TRY(open_tuning(dev, LUN_TUNE_KNOWN, &tuning));
    const lun_forecast_params params = {.tuning = tuning,
                                        .strips = has_strips(a, p),
                                        .held = a->run.holdout_every > 0 ? (size_t)p->held : 0,
                                        .only_memory = only_memory,
                                        .seconds = seconds,
                                        .progress = show_progress};
    const lun_status status = lun_forecast_run(dev, &p->config, &params, &p->forecast);
    p->tuned = lun_tuning_count(tuning);
    lun_tuning_close(&tuning);
    live_clear();
    return status;
}

/* ---- One preset ---- */

static json_t *number_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *count_or_null(uint64_t value)
{
    return value > 0 ? json_integer((json_int_t)value) : json_null();
}

static json_t *need_json(const lun_memory_need *n)
{
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)n->weights,
                     "gradients", (json_int_t)n->gradients, "moments", (json_int_t)n->moments, "averages",
                     (json_int_t)n->averages, "activations", (json_int_t)n->activations, "inputs",
                     (json_int_t)n->inputs, "workspace", (json_int_t)n->workspace, "holdout", (json_int_t)n->holdout,
                     "samples", (json_int_t)n->samples, "device", (json_int_t)n->device, "batches",
                     (json_int_t)n->batches);
}

static json_t *plan_json(const planned *p)
{
    const lun_forecast *f = &p->forecast;
    json_t *json = json_pack(
        "{s:s, s:s, s:s, s:i, s:i, s:i, s:I, s:f, s:o, s:b, s:I, s:I, s:b, s:s}", "lunette", lun_version(), "preset",
        p->preset.name, "device", p->device, "height", p->config.height, "width", p->config.width, "batch",
        p->config.batch, "parameters", (json_int_t)f->parameters, "gflop_per_image", 1e-9 * f->flops_per_image,
        "memory", need_json(&f->need), "memory_exact", f->need_exact, "available_bytes", (json_int_t)f->available,
        "max_alloc_bytes", (json_int_t)f->max_alloc, "fits", f->fits, "refused", f->reason);
    if (!json)
        return NULL;
    json_object_set_new(json, "largest_batch", f->largest_batch >= 0 ? json_integer(f->largest_batch) : json_null());
    json_object_set_new(json, "step_s", number_or_null(f->step_s));
    json_object_set_new(json, "timed_batch", f->timed_batch ? json_integer(f->timed_batch) : json_null());
    json_object_set_new(json, "timed_share", isfinite(f->step_s) ? json_real(f->timed_share) : json_null());
    json_object_set_new(json, "accumulate", json_integer(p->config.accumulate));
    json_object_set_new(json, "pictures", count_or_null(p->pictures));
    json_object_set_new(json, "held_out", count_or_null(p->pictures ? p->held : 0));
    json_object_set_new(json, "steps_per_epoch", count_or_null(p->per_epoch));
    json_object_set_new(json, "steps", count_or_null(p->steps));
    json_object_set_new(json, "run_s", number_or_null(p->steps ? (double)p->steps * f->step_s : NAN));
    return json;
}

static void print_bytes(const char *what, uint64_t bytes, const char *note)
{
    char text[32];
    printf("  %-12s %9s%s%s\n", what, bytes_text((double)bytes, text, sizeof text), note[0] ? "  " : "", note);
}

static void print_memory(const planned *p)
{
    const lun_memory_need *n = &p->forecast.need;
    char note[80];
    printf("memory of a batch of %d", p->config.batch);
    if (p->config.accumulate > 1)
        printf(" in %d parts", p->config.accumulate);
    printf("%s\n", p->forecast.need_exact ? "" : ", carried on from small batches");
    print_bytes("weights", n->weights, "");
    print_bytes("gradients", n->gradients, "");
    print_bytes("moments", n->moments, "Adam's");
    if (n->averages)
        print_bytes("averages", n->averages, "");
    print_bytes("activations", n->activations, "");
    print_bytes("workspace", n->workspace, "");
    print_bytes("inputs", n->inputs, "a batch, constants");
    if (n->holdout)
        print_bytes("held out", n->holdout, "to measure those pictures' loss");
    if (n->samples)
        print_bytes("samples", n->samples, "to draw sample strips");
    print_bytes("in all", n->device, "on the device");
    char ahead[32];
    snprintf(note, sizeof note, "and %s of the host's for batches read ahead",
             bytes_text((double)n->batches, ahead, sizeof ahead));
    printf("  %s\n", note);
}

static void print_fit(const planned *p)
{
    const lun_forecast *f = &p->forecast;
    char text[32];
    if (f->reason[0])
        printf("a batch of %d is refused: %s\n", p->config.batch, f->reason);
    else if (!f->available)
        printf("how much memory there is, is not known\n");
    else
        printf("a batch of %d %s: %s are there, of which a sixteenth is left for other things\n", p->config.batch,
               f->fits ? "fits" : "does not fit", bytes_text((double)f->available, text, sizeof text));
    if (f->largest_batch == 0)
        printf("largest batch that fits: none, not even one picture\n");
    else if (f->largest_batch > 0)
        printf("largest batch that fits%s: %d%s\n", p->config.accumulate > 1 ? " in one part" : "", f->largest_batch,
               f->largest_batch == 4096 ? " or more" : "");
}

static void print_data(const planned *p)
{
    printf("data: %" PRIu64 " pictures, ", p->pictures);
    if (p->held)
        printf("%" PRIu64 " of them held out, ", p->held);
    printf("%" PRIu64 " steps an epoch\n", p->per_epoch);
}

static void print_time(const planned *p)
{
    const lun_forecast *f = &p->forecast;
    char text[32];
    if (!isfinite(f->step_s))
        return;
    printf("time, estimated: %.3g s a step, %.3g images/s\n", f->step_s, p->config.batch / f->step_s);
    printf("  from the step's ops, each timed alone in a batch of %d%s; %.0f %% of it is timed, the rest goes by like "
           "ops\n",
           f->timed_batch, f->timed_batch < p->config.batch / p->config.accumulate ? ", carried on to this one" : "",
           100 * f->timed_share);
    printf("  kernels: %s\n", p->tuned
                                  ? "as remembered (lunette tune), else the device's own choice"
                                  : "the device's own choice; what train measures before its first step is faster");
    if (p->pictures)
        print_data(p);
    if (p->steps) {
        const double seconds = (double)p->steps * f->step_s;
        printf("run: %" PRIu64 " steps", p->steps);
        if (p->per_epoch)
            printf(" (%.4g epochs)", (double)p->steps / (double)p->per_epoch);
        if (seconds < 86400)
            printf(": about %s", duration_text(seconds, text, sizeof text));
        else
            printf(": about %.3g days", seconds / 86400);
        printf(", without sample strips and checkpoints\n");
    }
}

static void print_plan(const planned *p)
{
    const lun_forecast *f = &p->forecast;
    char channels[128];
    printf("preset: %s, %s\n", p->preset.name, p->preset.about);
    printf("model: %dx%d, channels %s, %" PRIu64 " parameters, %.4g GFLOP an image and step\n", p->config.width,
           p->config.height, channels_text(&p->config.model, channels, sizeof channels), f->parameters,
           1e-9 * f->flops_per_image);
    printf("device: %s\n", p->device);
    print_memory(p);
    print_fit(p);
    print_time(p);
    if (!isfinite(f->step_s) && p->pictures)
        print_data(p);
}

static lun_status plan_one(const plan_args *a)
{
    planned p = {.pictures = 0};
    lun_device *dev = NULL;
    lun_status status = LUN_OK;
    LUN_TRY(check_options(a));
    /* Mistakes show before a device is opened. */
    LUN_TRY(train_wants_advice(&a->run) ? combine_options(a, NULL, &p) : make_config(a, NULL, &p));
    LUN_TRY(open_watched(a->run.device, a->run.threads, a->run.hang_timeout, &dev));
    device_text(dev, a->run.device, p.device, sizeof p.device);
    if (train_wants_advice(&a->run))
        LUN_TRY_GOTO(status, done, make_config(a, dev, &p));
    LUN_TRY_GOTO(status, done, forecast(a, dev, false, a->quick ? 0 : SECONDS, &p));
    find_length(&p);
    if (a->json)
        print_json(plan_json(&p), 1);
    else
        print_plan(&p);
done:
    lun_device_close(&dev);
    return status;
}

/* ---- All presets ---- */

static void print_row(const planned *p)
{
    const lun_forecast *f = &p->forecast;
    char size[32], memory[32];
    snprintf(size, sizeof size, "%dx%d", p->config.width, p->config.height);
    printf("%-13s %12" PRIu64 " %8s %9.4g %6d %s%9s  %s\n", p->preset.name, f->parameters, size,
           1e-9 * f->flops_per_image, p->config.batch, f->need_exact ? " " : "~",
           bytes_text((double)f->need.device, memory, sizeof memory), p->preset.about);
}

static lun_status plan_all(const plan_args *a)
{
    lun_device *dev = NULL;
    lun_status status = LUN_OK;
    json_t *rows = a->json ? json_array() : NULL;
    LUN_TRY(open_watched(a->run.device, a->run.threads, a->run.hang_timeout, &dev));
    if (!a->json)
        printf("%-13s %12s %8s %9s %6s %10s\n", "preset", "parameters", "size", "GFLOP", "batch", "memory");
    for (size_t i = 0; i < lun_preset_count() && status == LUN_OK; i++) {
        planned p = {.pictures = 0};
        lun_preset_at(i, &p.preset);
        device_text(dev, a->run.device, p.device, sizeof p.device);
        status = lun_train_preset(p.preset.name, &p.config);
        if (status == LUN_OK)
            status = forecast(a, dev, true, 0, &p);
        if (status == LUN_OK && a->json)
            json_array_append_new(rows, plan_json(&p));
        else if (status == LUN_OK)
            print_row(&p);
    }
    if (status == LUN_OK && a->json)
        print_json(rows, 1);
    else
        json_decref(rows);
    if (status == LUN_OK && !a->json)
        printf("GFLOP: an image and step; memory: of that batch, on the device. 'lunette plan PRESET FOLDER' says "
               "more.\n");
    lun_device_close(&dev);
    return status;
}

/* An option of a run, on the line of a table of all. */
static const char *given_option(const arg_option *options)
{
    for (const arg_option *o = options; o->name; o++)
        if (o->given && *o->given)
            return o->name;
    return NULL;
}

int lun_cmd_plan(int argc, char **argv)
{
    plan_args a = {.run = {RUN_DEFAULTS, .device = "auto", .preset_given = true}};
    const arg_option options[] = {
        DEVICE_OPTION(&a.run.device, ""),
        THREADS_OPTION(&a.run.threads),
        HANG_OPTION(&a.run.hang_timeout),
        {.name = "--quick", .type = ARG_FLAG, .value = &a.quick, .help = "time nothing: counts and memory only"},
        {.name = "--json", .type = ARG_FLAG, .value = &a.json, .help = "one JSON value"},
        RUN_OPTIONS(a.run),
        {0},
    };
    const arg_command command = {
        .usage = "plan [PRESET [FOLDER]] [options]",
        .about = "Say what training with a preset will cost on a device, before anything is allocated: parameters, "
                 "memory, the largest\n"
                 "batch that fits, and the time of a step and of the run. Without PRESET: a table of all. Preset\n"
                 "auto is what train FOLDER does by itself.",
        .notes = "Memory is what the run then takes, to the byte, on the device; the program and its driver come on "
                 "top. Time is an\n"
                 "estimate: the step's ops are timed one by one for about ten seconds, in a smaller batch where the "
                 "whole takes longer.\n"
                 "FOLDER is searched as by train; its pictures are counted, not read (auto looks at their headers).\n\n"
                 "The options from --size on are those of train, which says more of them.\n\n"
                 "example:\n  lunette plan small my-pictures --epochs 100\n"
                 "  lunette plan ddpm-256 my-pictures --batch 16 --accumulate 16 --ema 0.9999 --holdout 10",
        .options = options,
        .max_positionals = 2,
    };
    int exit_code = 0;
    if (arg_begin(&command, argc, argv, a.names, &a.given, &exit_code))
        return exit_code;
    if (a.json)
        live_quiet(true);
    const char *option = a.given ? NULL : given_option(options);
    if (option)
        return report(lun_fail(LUN_ERR_USAGE, "%s goes with a PRESET", option));
    a.run.preset = a.names[0];
    a.run.folder = a.names[1];
    const lun_status status = a.given ? plan_one(&a) : plan_all(&a);
    return status == LUN_OK ? finish_output() : report(status);
}
