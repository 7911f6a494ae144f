/* lunette tune, and what other commands show of tuning. */
#include <inttypes.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "common.h"
#include "live.h"
#include "tuner.h"

const char *const tune_names[] = {"off", "known", "auto", "force", NULL};

/* ---- What is seen of it
 * --------------------------------------------------------------------------------------------------------- */

int tuner_progress(void *payload, const lun_tune_progress *p)
{
    tuner_view *view = payload;
    char head[48], time[32];
    if (!view->said)
        say("tuning: measuring which kernels are fastest here, %d ops; this is remembered", p->ops);
    view->said = true;
    view->seconds = p->elapsed_s;
    snprintf(head, sizeof head, "tuning op %d/%d", p->op + 1, p->ops);
    live_show(head, "  %s  %s %s", duration_text(p->elapsed_s, time, sizeof time), p->description, p->candidate);
    return view->stopped && view->stopped();
}

void tuner_result(void *payload, const lun_tune_result *r)
{
    tuner_view *view = payload;
    if (r->remembered)
        return;
    view->measured++;
}

void tuner_end(tuner_view *view)
{
    char time[32];
    live_clear();
    if (view->measured > 0)
        say("tuned: %d ops in %s ('lunette tune' shows them)", view->measured,
            duration_text(view->seconds, time, sizeof time));
}

lun_status open_tuning(const lun_device *dev, int mode, lun_tuning **out)
{
    return mode == LUN_TUNE_OFF ? LUN_OK : lun_tuning_open(dev, out);
}

/* ---- lunette tune
 * --------------------------------------------------------------------------------------------------------------- */

static const char *const uses[] = {"train", "sample", NULL};

typedef struct tune_args {
    const char *device;
    network_args network;
    int use, threads;
    double seconds, hang_timeout;
    bool json, missing;
} tune_args;

typedef struct tuning_run {
    const tune_args *args;
    lun_train_config config;
    lun_device *dev;
    lun_tuning *tuning;
    tuner_view view;
    json_t *rows;
    int ops, rejected;
    double chosen_s, first_s; /* of one step's ops: with what was chosen, and with the first candidate that was timed */
} tuning_run;

static volatile sig_atomic_t caught;

static void on_signal(int number)
{
    caught = number;
    signal(SIGINT, SIG_DFL);
}

static bool is_caught(void)
{
    return caught != 0;
}

static int on_progress(void *payload, const lun_tune_progress *p)
{
    return tuner_progress(&((tuning_run *)payload)->view, p);
}

static json_t *number(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *row_json(const lun_tune_result *r)
{
    json_t *tries = json_array();
    for (int i = 0; i < r->tries_count; i++) {
        const lun_tune_try *t = &r->tries[i];
        json_array_append_new(tries,
                              json_pack("{s:s, s:o, s:o, s:o, s:o, s:s?}", "candidate", t->candidate, "ms",
                                        number(1e3 * t->seconds), "gflop_s", number(1e-9 * r->flops / t->seconds),
                                        "error", number(t->error), "bound", number(t->bound), "note", t->note));
    }
    return json_pack("{s:s, s:s, s:i, s:f, s:s, s:b, s:o}", "kind", r->kind, "op", r->description, "count", r->count,
                     "gflop", 1e-9 * r->flops, "chosen", r->chosen, "remembered", r->remembered, "tries", tries);
}

static void print_row(const lun_tune_result *r)
{
    say("%s%s%.0d%s", r->description, r->count > 1 ? "  x" : "", r->count > 1 ? r->count : 0,
        r->remembered ? "  (remembered)" : "");
    for (int i = 0; i < r->tries_count; i++) {
        const lun_tune_try *t = &r->tries[i];
        char ms[24] = "-", rate[24] = "-", error[48] = "-";
        if (isfinite(t->seconds)) {
            snprintf(ms, sizeof ms, "%.3f", 1e3 * t->seconds);
            snprintf(rate, sizeof rate, "%.1f", 1e-9 * r->flops / t->seconds);
        }
        if (isfinite(t->bound))
            snprintf(error, sizeof error, "%.2g of %.2g", t->error, t->bound);
        say("  %c %-18s %10s %9s  %-18s%s%s", strcmp(t->candidate, r->chosen) == 0 ? '*' : ' ', t->candidate, ms, rate,
            error, t->note ? " " : "", t->note ? t->note : "");
    }
}

static void on_result(void *payload, const lun_tune_result *r)
{
    tuning_run *run = payload;
    double first = NAN, chosen = NAN;
    tuner_result(&run->view, r);
    for (int i = 0; i < r->tries_count; i++) {
        const lun_tune_try *t = &r->tries[i];
        if (!isfinite(first))
            first = t->seconds;
        if (strcmp(t->candidate, r->chosen) == 0)
            chosen = t->seconds;
        run->rejected += t->note && !(t->error <= t->bound) && isfinite(t->bound);
    }
    run->chosen_s += r->count * chosen;
    run->first_s += r->count * first;
    run->ops++;
    if (run->args->json) {
        json_array_append_new(run->rows, row_json(r));
        return;
    }
    if (run->ops == 1)
        say("    %-18s %10s %9s  %s", "candidate", "ms", "GFLOP/s", "error of its bound");
    print_row(r);
}

/* Compiling measures; what was compiled is not run. */
static lun_status tune_training(tuning_run *run, const lun_compile_params *compile)
{
    lun_trainer *trainer = NULL;
    LUN_TRY(lun_trainer_create(run->dev, &run->config, (size_t)run->config.batch, compile, &trainer));
    lun_trainer_destroy(&trainer);
    return LUN_OK;
}

static lun_status tune_sampling(tuning_run *run, const lun_compile_params *compile)
{
    lun_store *store = NULL;
    lun_sampler *sampler = NULL;
    lun_schedule schedule = {.steps = 0};
    const lun_train_config *c = &run->config;
    lun_status status = LUN_OK;
    LUN_TRY_GOTO(status, done, lun_store_create(&store));
    LUN_TRY_GOTO(status, done, lun_model_declare(store, &c->model));
    LUN_TRY_GOTO(status, done, lun_store_allocate(store, run->dev, 0));
    LUN_TRY_GOTO(status, done, lun_train_schedule(c, &schedule));
    const lun_sampler_params params = {.batch = c->batch,
                                       .height = c->height,
                                       .width = c->width,
                                       .norm = LUN_NORM_EVAL,
                                       .schedule = &schedule,
                                       .prediction = c->prediction,
                                       .variance = c->model.learned_sigma ? LUN_VARIANCE_LEARNED : LUN_VARIANCE_SMALL};
    status = lun_sampler_create(store, run->dev, &c->model, &params, compile, &sampler);
done:
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&schedule);
    lun_store_destroy(&store);
    return status;
}

static void say_end(const tuning_run *run)
{
    char time[32];
    if (run->ops == 0) {
        say("nothing to tune on this device");
        return;
    }
    say("%d ops measured in %s%s; those of one step take %.1f ms as chosen, %.1f ms with the first candidates (direct "
        "convolutions)",
        run->view.measured, duration_text(run->view.seconds, time, sizeof time), caught ? " (stopped)" : "",
        1e3 * run->chosen_s, 1e3 * run->first_s);
    if (run->rejected > 0)
        say("%d candidates gave wrong results and are not used", run->rejected);
    if (lun_tuning_path(run->tuning))
        say("remembered in %s", lun_tuning_path(run->tuning));
    else
        say("not remembered: there is no cache folder, or LUNETTE_KERNELS is set");
}

static json_t *end_json(tuning_run *run)
{
    const lun_device_info *info = lun_device_get_info(run->dev);
    const lun_train_config *c = &run->config;
    json_t *rows = run->rows;
    run->rows = NULL;
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:f, s:f, s:f, s:i, s:s?, s:o}", "lunette", lun_version(), "for",
                     uses[run->args->use], "device", info->spec, "name", info->name, "batch", c->batch, "size",
                     c->width, "seconds", run->view.seconds, "chosen_ms", 1e3 * run->chosen_s, "first_ms",
                     1e3 * run->first_s, "rejected", run->rejected, "file", lun_tuning_path(run->tuning), "ops", rows);
}

static lun_status run_tuning(tuning_run *run)
{
    const tune_args *a = run->args;
    char text[400], channels[128];
    LUN_TRY(network_config(&a->network, &run->config, NULL));
    LUN_TRY(open_watched(a->device, a->threads, a->hang_timeout, &run->dev));
    LUN_TRY(lun_tuning_open(run->dev, &run->tuning));
    device_text(run->dev, a->device, text, sizeof text);
    say("device: %s", text);
    say("tuning for %s: channels %s, batch %d, %dx%d", a->use ? "sampling" : "training",
        channels_text(&run->config.model, channels, sizeof channels), run->config.batch, run->config.width,
        run->config.height);
    const lun_tune_params tune = {
        .force = !a->missing, .seconds = a->seconds, .progress = on_progress, .result = on_result, .payload = run};
    const lun_compile_params compile = {.allow_fallback = 1, .tuning = run->tuning, .tune = &tune};
    signal(SIGINT, on_signal);
    return a->use ? tune_sampling(run, &compile) : tune_training(run, &compile);
}

int lun_cmd_tune(int argc, char **argv)
{
    tune_args a = {.device = "auto", .network.preset = "notebook", .seconds = 50, .hang_timeout = HANG_USUAL};
    const arg_option options[] = {
        {.name = "--for",
         .type = ARG_CHOICE,
         .value = &a.use,
         .choices = uses,
         .meta = "WORK",
         .help = "train (the default) or sample: other batches and filters that stay are other ops"},
        DEVICE_OPTION(&a.device, ""),
        THREADS_OPTION(&a.threads),
        HANG_OPTION(&a.hang_timeout),
        NETWORK_OPTIONS(a.network),
        {.name = "--seconds",
         .type = ARG_DOUBLE,
         .value = &a.seconds,
         .min = 1,
         .max = 1e5,
         .meta = "S",
         .help = "begin no op after S seconds (50); the dearest come first"},
        {.name = "--missing",
         .type = ARG_FLAG,
         .value = &a.missing,
         .help = "measure only what is not remembered, and show what is"},
        {.name = "--json", .type = ARG_FLAG, .value = &a.json, .help = "one JSON object"},
        {0},
    };
    const arg_command command = {
        .usage = "tune [options]",
        .about =
            "Measure which of its kernels computes each op of a network fastest on a device, and remember it. 'train' "
            "does the\n"
            "same before its first step where nothing is remembered; 'sample', 'predict' and 'bench' take what is "
            "remembered.",
        .notes =
            "Each candidate runs on random data of full size. Its result is held against that of a kernel that sums "
            "products\n"
            "directly: error is the RMS difference over the RMS of the result, and beyond the bound of its class a "
            "candidate is never\n"
            "chosen. Of the others the fastest is (*). GFLOP/s are those of the direct method, whatever the candidate "
            "does.\n\n"
            "The choices lie in the files tuning-*.txt of the cache folder: $LUNETTE_CACHE, else "
            "$XDG_CACHE_HOME/lunette, else\n"
            "~/.cache/lunette. They are text, one line an op, for one device, driver, number of threads and build of "
            "lunette. To\n"
            "forget them remove the files (rm ~/.cache/lunette/tuning-*), or lines. Compiled OpenCL kernels lie there "
            "as\n"
            "opencl-*; all of the folder may be removed at any time. A run goes on with the kernels that it was begun "
            "with\n"
            "(config.json), whatever is measured later.\n\n"
            "examples:\n  lunette tune --device cpu --batch 16 --size 64\n  lunette tune --for sample --model run "
            "--batch 4",
        .options = options,
        .min_positionals = 0,
        .max_positionals = 0,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, NULL, &positionals, &exit_code))
        return exit_code;
    tuning_run run = {.args = &a, .view = {.stopped = is_caught}, .rows = json_array()};
    if (a.json)
        live_quiet(true);
    lun_status status = run_tuning(&run);
    live_clear();
    if (status == LUN_OK && a.json)
        exit_code = print_json(end_json(&run), 1);
    else if (status == LUN_OK)
        say_end(&run);
    json_decref(run.rows);
    lun_tuning_close(&run.tuning);
    lun_device_close(&run.dev);
    if (status != LUN_OK)
        return report(status);
    return exit_code ? exit_code : caught ? 128 + (int)caught : finish_output();
}
