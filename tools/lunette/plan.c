/* lunette plan: what a run will cost, before it is begun. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "advise.h"
#include "base/base.h"
#include "common.h"
#include "data/picture.h"
#include "live.h"
#include "tuner.h"

/* To spend on timing ops. */
#define SECONDS 10.0
/* Between strips, as train has them by default; a shorter run makes no sampler. */
#define STRIP_EPOCHS 5

typedef struct plan_args {
    const char *names[2]; /* PRESET, FOLDER */
    const char *device;
    int given, batch, size, threads;
    bool batch_given, size_given, epochs_given, steps_given, hours_given, quick, json;
    uint64_t epochs, steps;
    double hours;
} plan_args;

typedef struct planned {
    lun_preset preset;
    lun_train_config config;
    lun_forecast forecast;
    uint64_t pictures, per_epoch, steps; /* 0: without a folder, or length */
    size_t tuned;                        /* ops whose choice is remembered */
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

/* Preset auto: what train would choose for the folder. */
static lun_status choose_config(const plan_args *a, lun_device *dev, planned *p)
{
    const data_args data = {0};
    const advise_args wishes = {.folder = a->names[1],
                                .data = &data,
                                .width = a->size_given ? a->size : 0,
                                .height = a->size_given ? a->size : 0,
                                .batch = a->batch_given ? a->batch : 0,
                                .steps = a->steps,
                                .epochs = a->epochs,
                                .hours = a->hours};
    p->preset = (lun_preset){.name = LUN_PRESET_AUTO, .about = "made for these pictures and this device"};
    return advise(dev, &wishes, &p->config, &p->preset.steps, NULL);
}

static bool wants_advice(const plan_args *a)
{
    return strcmp(a->names[0], LUN_PRESET_AUTO) == 0;
}

static lun_status check_options(const plan_args *a)
{
    if (a->epochs_given && a->steps_given)
        return lun_fail(LUN_ERR_USAGE, "--epochs and --steps exclude each other: give one");
    if (a->hours_given && !wants_advice(a))
        return lun_fail(LUN_ERR_USAGE, "--hours goes with preset auto: the others have their length");
    if (a->hours_given && (a->epochs_given || a->steps_given))
        return lun_fail(LUN_ERR_USAGE, "--epochs, --steps and --hours exclude each other: give one");
    if (wants_advice(a) && a->given < 2)
        return lun_fail(LUN_ERR_USAGE, "preset auto is made for a folder of pictures: give FOLDER too");
    return LUN_OK;
}

static lun_status make_config(const plan_args *a, lun_device *dev, planned *p)
{
    if (wants_advice(a))
        return choose_config(a, dev, p);
    LUN_TRY(lun_preset_named(a->names[0], &p->preset));
    LUN_TRY(lun_train_preset(a->names[0], &p->config));
    if (a->batch_given)
        p->config.batch = a->batch;
    if (a->size_given)
        p->config.width = p->config.height = a->size;
    return lun_train_config_check(&p->config);
}

/* Names only: what is damaged shows when the run reads it. */
static lun_status count_pictures(const char *path, uint64_t *count)
{
    struct stat st;
    lun_folder folder;
    if (stat(path, &st) != 0)
        return lun_fail(LUN_ERR_USAGE, "%s: no such folder of pictures", path);
    if (!S_ISDIR(st.st_mode))
        return lun_fail(LUN_ERR_USAGE, "%s: not a folder", path);
    LUN_TRY(lun_folder_scan(path, &folder));
    *count = folder.count;
    lun_folder_free(&folder);
    return *count > 0 ? LUN_OK : lun_fail(LUN_ERR_DATA, "%s: no pictures (PNG, JPEG) in it", path);
}

static lun_status find_length(const plan_args *a, planned *p)
{
    if (a->given > 1) {
        LUN_TRY(count_pictures(a->names[1], &p->pictures));
        p->per_epoch = p->pictures / (uint64_t)p->config.batch;
        if (p->per_epoch == 0)
            return lun_fail(LUN_ERR_DATA, "%s: %" PRIu64 " pictures are fewer than one batch of %d; give --batch",
                            a->names[1], p->pictures, p->config.batch);
    }
    const bool own = !a->epochs_given && !a->steps_given;
    const uint64_t epochs = own ? p->preset.epochs : a->epochs;
    p->steps = own ? p->preset.steps : a->steps;
    if (p->steps == 0)
        p->steps = epochs * p->per_epoch;
    return LUN_OK;
}

static lun_status forecast(lun_device *dev, bool only_memory, double seconds, planned *p)
{
    lun_tuning *tuning = NULL;
    LUN_TRY(open_tuning(dev, LUN_TUNE_KNOWN, &tuning));
    const bool strips = p->per_epoch == 0 || p->steps / p->per_epoch >= STRIP_EPOCHS;
    const lun_forecast_params params = {

        .tuning = tuning, .strips = strips, .only_memory = only_memory, .seconds = seconds, .progress = show_progress};
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
    return json_pack("{s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "weights", (json_int_t)n->weights,
                     "gradients", (json_int_t)n->gradients, "moments", (json_int_t)n->moments, "averages",
                     (json_int_t)n->averages, "activations", (json_int_t)n->activations, "inputs",
                     (json_int_t)n->inputs, "workspace", (json_int_t)n->workspace, "samples", (json_int_t)n->samples,
                     "device", (json_int_t)n->device, "batches", (json_int_t)n->batches);
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
    json_object_set_new(json, "pictures", count_or_null(p->pictures));
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
    printf("memory of a batch of %d%s\n", p->config.batch,
           p->forecast.need_exact ? "" : ", carried on from small batches");
    print_bytes("weights", n->weights, "");
    print_bytes("gradients", n->gradients, "");
    print_bytes("moments", n->moments, "Adam's");
    if (n->averages)
        print_bytes("averages", n->averages, "");
    print_bytes("activations", n->activations, "");
    print_bytes("workspace", n->workspace, "");
    print_bytes("inputs", n->inputs, "a batch, constants");
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
        printf("largest batch that fits: %d%s\n", f->largest_batch, f->largest_batch == 4096 ? " or more" : "");
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
           f->timed_batch, f->timed_batch < p->config.batch ? ", carried on to this one" : "", 100 * f->timed_share);
    printf("  kernels: %s\n", p->tuned
                                  ? "as remembered (lunette tune), else the device's own choice"
                                  : "the device's own choice; what train measures before its first step is faster");
    if (p->pictures)
        printf("data: %" PRIu64 " pictures, %" PRIu64 " steps an epoch\n", p->pictures, p->per_epoch);
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
        printf("data: %" PRIu64 " pictures, %" PRIu64 " steps an epoch\n", p->pictures, p->per_epoch);
}

static lun_status plan_one(const plan_args *a)
{
    planned p = {.pictures = 0};
    lun_device *dev = NULL;
    lun_status status = LUN_OK;
    LUN_TRY(check_options(a));
    if (!wants_advice(a)) { /* mistakes show before a device is opened */
        LUN_TRY(make_config(a, NULL, &p));
        LUN_TRY(find_length(a, &p));
    }
    LUN_TRY(open_device(a->device, a->threads, &dev));
    device_text(dev, a->device, p.device, sizeof p.device);
    if (wants_advice(a)) {
        LUN_TRY_GOTO(status, done, make_config(a, dev, &p));
        LUN_TRY_GOTO(status, done, find_length(a, &p));
    }
    LUN_TRY_GOTO(status, done, forecast(dev, false, a->quick ? 0 : SECONDS, &p));
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
    LUN_TRY(open_device(a->device, a->threads, &dev));
    if (!a->json)
        printf("%-13s %12s %8s %9s %6s %10s\n", "preset", "parameters", "size", "GFLOP", "batch", "memory");
    for (size_t i = 0; i < lun_preset_count() && status == LUN_OK; i++) {
        planned p = {.pictures = 0};
        lun_preset_at(i, &p.preset);
        device_text(dev, a->device, p.device, sizeof p.device);
        status = lun_train_preset(p.preset.name, &p.config);
        if (status == LUN_OK)
            status = forecast(dev, true, 0, &p);
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

int lun_cmd_plan(int argc, char **argv)
{
    plan_args a = {.device = "auto"};
    const arg_option options[] = {
        {.name = "--batch",
         .type = ARG_INT,
         .value = &a.batch,
         .min = 1,
         .max = 4096,
         .given = &a.batch_given,
         .meta = "N",
         .help = "pictures a step (the preset's)"},
        {.name = "--size",
         .type = ARG_INT,
         .value = &a.size,
         .min = 2,
         .max = 4096,
         .given = &a.size_given,
         .meta = "N",
         .help = "pixels a side (the preset's)"},
        {.name = "--epochs",
         .type = ARG_U64,
         .value = &a.epochs,
         .min = 1,
         .max = 1e12,
         .given = &a.epochs_given,
         .meta = "N",
         .help = "of the run (the preset's length); or:"},
        {.name = "--steps",
         .type = ARG_U64,
         .value = &a.steps,
         .min = 1,
         .max = 1e15,
         .given = &a.steps_given,
         .meta = "N",
         .help = "of the run"},
        {.name = "--hours",
         .type = ARG_DOUBLE,
         .value = &a.hours,
         .min = 1e-4,
         .max = 1e5,
         .given = &a.hours_given,
         .meta = "H",
         .help = "that a run with preset auto may take (1)"},
        {.name = "--device",
         .type = ARG_TEXT,
         .value = &a.device,
         .meta = "DEVICE",
         .help = "auto (the default), cpu, opencl[:I]"},
        THREADS_OPTION(&a.threads),
        {.name = "--quick", .type = ARG_FLAG, .value = &a.quick, .help = "time nothing: counts and memory only"},
        {.name = "--json", .type = ARG_FLAG, .value = &a.json, .help = "one JSON value"},
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
                 "FOLDER is searched as by train; its pictures are counted, not read.\n\n"
                 "example:\n  lunette plan small my-pictures --epochs 100",
        .options = options,
        .max_positionals = 2,
    };
    int exit_code = 0;
    if (arg_begin(&command, argc, argv, a.names, &a.given, &exit_code))
        return exit_code;
    if (a.json)
        live_quiet(true);
    if (a.given == 0 && (a.batch_given || a.size_given || a.epochs_given || a.steps_given))
        return report(lun_fail(LUN_ERR_USAGE, "--batch, --size, --epochs and --steps go with a PRESET"));
    const lun_status status = a.given ? plan_one(&a) : plan_all(&a);
    return status == LUN_OK ? finish_output() : report(status);
}
