/* lunette doctor: hold a device against plain C. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/doctor.h>

#include "base/base.h"
#include "common.h"
#include "live.h"

static const char *const uses[] = {"both", "train", "sample", NULL};
enum { BOTH, TRAIN, SAMPLE };

typedef struct doctor_args {
    const char *device, *candidate;
    network_args network;
    int use, threads;
    bool all, json;
    double hang_timeout;
} doctor_args;

typedef struct examination {
    const doctor_args *args;
    lun_train_config config;
    char *model;
    char device[32];
    char device_line[400];
    bool announced;
    double started, patience;
    json_t *rows;
    lun_tuning *tuning;
    /* the group of one kind and kernel that is being gathered for print_group */
    char kind[32], candidate[32];
    int ops;
    double worst;
    bool headed;
} examination;

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
    signal(SIGINT, SIG_DFL);
}

/* What is examined, once it is clear that it can be. */
static void announce(examination *e)
{
    const doctor_args *a = e->args;
    char channels[128];
    if (e->announced || a->json)
        return;
    e->announced = true;
    say("device: %s", e->device_line);
    say("against plain C: %schannels %s, batch %d, %dx%d",
        a->use == TRAIN    ? "a training step, "
        : a->use == SAMPLE ? "a denoising step, "
                           : "a training and a denoising step, ",
        channels_text(&e->config.model, channels, sizeof channels), e->config.batch, e->config.width, e->config.height);
}

static int on_progress(void *payload, const char *candidate, int round, int rounds)
{
    examination *e = payload;
    announce(e);
    char head[48], time[32];
    snprintf(head, sizeof head, "doctor %d/%d", round + 1, rounds);
    live_show(head, "  %s  %s", duration_text(lun_clock() - e->started, time, sizeof time), candidate);
    return caught != 0;
}

/* What 'lunette tune' has found fastest is what runs take; sampling's ops have a name of their own there. */
static const char *on_choice(void *payload, const char *op)
{
    const examination *e = payload;
    char kept[280];
    const char *name = lun_tuning_candidate(e->tuning, op);
    snprintf(kept, sizeof kept, "%s kept", op);
    return name ? name : lun_tuning_candidate(e->tuning, kept);
}

/* ---- What it found ----------------------------------------------------------------------------------------------- */

static void print_group(examination *e)
{
    if (e->ops == 0)
        return;
    if (!e->headed)
        say("  %-20s %-18s %5s  %s", "op", "kernel", "ops", "worst difference, of what rounding may do");
    e->headed = true;
    say("  %-20s %-18s %5d  %.2g %%", e->kind, e->candidate, e->ops, 100 * e->worst);
    e->ops = 0;
}

/* The same examination of that kernel alone. */
static void print_wrong(const examination *e, const lun_doctor_finding *f)
{
    const network_args *n = &e->args->network;
    char channels[128];
    say("WRONG: %s by %s", f->description, f->candidate);
    say("  %s", f->detail);
    say("  again: lunette doctor --device %s%s%s%s%s --batch %d --size %d --candidate %s", e->device,
        n->model ? " --model " : "", n->model ? n->model : "", n->channels_given ? " --channels " : "",
        n->channels_given ? channels_text(&e->config.model, channels, sizeof channels) : "", e->config.batch,
        e->config.width, f->candidate);
}

static void on_result(void *payload, const lun_doctor_finding *f)
{
    examination *e = payload;
    live_clear();
    if (e->args->json) {
        json_array_append_new(e->rows,
                              json_pack("{s:s, s:s, s:s, s:i, s:b, s:o, s:s?}", "kind", f->kind, "op", f->description,
                                        "kernel", f->candidate, "count", f->count, "right", f->detail == NULL, "share",
                                        isfinite(f->share) ? json_real(f->share) : json_null(), "detail", f->detail));
        return;
    }
    if (strcmp(e->kind, f->kind) != 0 || strcmp(e->candidate, f->candidate) != 0) {
        print_group(e);
        snprintf(e->kind, sizeof e->kind, "%s", f->kind);
        snprintf(e->candidate, sizeof e->candidate, "%s", f->candidate);
        e->worst = 0;
    }
    if (f->detail) {
        print_wrong(e, f);
        return;
    }
    e->ops++;
    e->worst = fmax(e->worst, f->share);
}

static lun_status on_opened(void *payload, lun_device *dev)
{
    const examination *e = payload;
    return watch_device(dev, e->patience, "");
}

static lun_status examine(examination *e, lun_doctor_verdict *verdict)
{
    const doctor_args *a = e->args;
    lun_device *dev = NULL;
    LUN_TRY(network_config(&a->network, &e->config, &e->model));
    LUN_TRY(check_computes(a->device));
    LUN_TRY(open_watched(a->device, a->threads, a->hang_timeout, &dev));
    e->patience = hang_patience(dev, a->hang_timeout);
    lun_status status = lun_tuning_open(dev, &e->tuning);
    device_text(dev, a->device, e->device_line, sizeof e->device_line);
    snprintf(e->device, sizeof e->device, "%s", lun_device_get_info(dev)->spec);
    lun_device_close(&dev); /* it is opened anew beside plain C */
    const lun_doctor_params params = {.config = &e->config,
                                      .model = e->model,
                                      .train = a->use != SAMPLE,
                                      .sample = a->use != TRAIN,
                                      .all = a->all || a->candidate,
                                      .candidate = a->candidate,
                                      .threads = a->threads,
                                      .choice = on_choice,
                                      .opened = on_opened,
                                      .progress = on_progress,
                                      .result = on_result,
                                      .payload = e};
    signal(SIGINT, on_signal);
    e->started = lun_clock();
    if (status == LUN_OK)
        status = lun_doctor(e->device, &params, verdict);
    return status;
}

static int tell(examination *e, const lun_doctor_verdict *v)
{
    char time[32];
    const bool sound = v->wrong == 0;
    const int exit_code = caught ? 128 + (int)caught : sound ? 0 : LUN_ERR_DEVICE;
    if (e->args->json) {
        json_t *rows = e->rows;
        e->rows = NULL;
        const int printed = print_json(json_pack("{s:s, s:s, s:i, s:i, s:f, s:b, s:o}", "lunette", lun_version(),
                                                 "device", e->device, "kernels", v->kernels, "wrong", v->wrong, "worst",
                                                 v->worst, "complete", !caught, "ops", rows),
                                       1);
        return exit_code ? exit_code : printed;
    }
    print_group(e);
    duration_text(lun_clock() - e->started, time, sizeof time);
    if (sound)
        say("%s: all %d kernels of these ops are right%s (%s)", e->device, v->kernels,
            caught ? ", of those that were reached" : "", time);
    else
        say("%s: %d of %d kernels of these ops are WRONG (%s)", e->device, v->wrong, v->kernels, time);
    const int lost = finish_output();
    return exit_code ? exit_code : lost;
}

int lun_cmd_doctor(int argc, char **argv)
{
    doctor_args a = {.device = "auto", .network.preset = "notebook", .hang_timeout = HANG_USUAL};
    const arg_option options[] = {
        DEVICE_OPTION(&a.device, ""),
        THREADS_OPTION(&a.threads),
        HANG_OPTION(&a.hang_timeout),
        NETWORK_OPTIONS(a.network),
        {.name = "--for",
         .type = ARG_CHOICE,
         .value = &a.use,
         .choices = uses,
         .meta = "WORK",
         .help = "both (the default), train, sample"},
        {.name = "--all",
         .type = ARG_FLAG,
         .value = &a.all,
         .help = "every kernel that the device has for an op, not only those it would take; slow"},
        {.name = "--candidate",
         .type = ARG_TEXT,
         .value = &a.candidate,
         .meta = "NAME",
         .help = "this kernel, wherever the device has it"},
        {.name = "--json", .type = ARG_FLAG, .value = &a.json, .help = "one JSON object"},
        {0},
    };
    const arg_command command = {
        .usage = "doctor [options]",
        .about =
            "Check that a device computes rightly: a training step and a denoising step of a network run on it and "
            "in plain C,\n"
            "op by op from the same numbers, at full size.",
        .notes = "What two right results may differ by is what rounding explains; a result is wrong above 100 % of "
                 "that. Takes twice\n"
                 "the memory of a run. Exit code 5 when something is wrong.\n\n"
                 "'train' does the same in small before its first step and remembers it: files doctor-*.txt of the "
                 "cache folder.\n\n"
                 "examples:\n  lunette doctor --device opencl\n  lunette doctor --model run --batch 4 --all",
        .options = options,
        .min_positionals = 0,
        .max_positionals = 0,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, NULL, &positionals, &exit_code))
        return exit_code;
    examination e = {.args = &a, .rows = json_array()};
    lun_doctor_verdict verdict = {0};
    if (a.json)
        live_quiet(true);
    const lun_status status = examine(&e, &verdict);
    live_clear();
    exit_code = status == LUN_OK ? tell(&e, &verdict) : report(status);
    json_decref(e.rows);
    lun_tuning_close(&e.tuning);
    free(e.model);
    return exit_code;
}
