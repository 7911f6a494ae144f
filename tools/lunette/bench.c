/* lunette bench: a network on made-up pictures. Every step is waited for and timed by itself, the median
 * counts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench_ops.h"
#include "common.h"
#include "live.h"
#include "peak.h"
#include "tuner.h"

#define WARM_UP 2

typedef struct bench {
    const char *mode, *device_spec;
    network_args network;
    int steps, threads, tune, accumulate, ema_count;
    double clip_norm, hang_timeout, ema[LUN_MAX_EMA];
    bool json, clip_given, ema_given, allow_fallback;
    lun_device *dev;
    lun_tuning *tuning;
    tuner_view tuner;
    lun_train_config config;
    double *times; /* (steps) */
    int timed;
    double step_s;
} bench;

static lun_status prepare(bench *b)
{
    LUN_TRY(network_config(&b->network, &b->config, NULL));
    b->config.accumulate = b->accumulate;
    if (b->clip_given)
        b->config.clip_norm = b->clip_norm;
    if (b->ema_given) {
        b->config.ema_count = b->ema_count == 1 && b->ema[0] == 0 ? 0 : b->ema_count; /* "--ema 0" is none */
        memcpy(b->config.ema_rate, b->ema, sizeof b->ema);
    }
    LUN_TRY(lun_train_config_check(&b->config));
    b->times = lun_calloc((size_t)b->steps, sizeof *b->times, "times");
    if (!b->times)
        return LUN_ERR_MEMORY;
    LUN_TRY(open_watched(b->device_spec, b->threads, b->hang_timeout, &b->dev));
    return open_tuning(b->dev, b->tune, &b->tuning);
}

/* ---- Training
 * ------------------------------------------------------------------------------------------------------------- */

static size_t picture_floats(const lun_train_config *c)
{
    return (size_t)c->batch * (size_t)c->model.image_channels * (size_t)c->height * (size_t)c->width;
}

/* Pictures uniform in [-1, 1]. */
static float *make_images(const bench *b)
{
    const size_t count = picture_floats(&b->config);
    float *images = lun_malloc(count, sizeof *images, "pictures");
    uint32_t state = 1;
    for (size_t i = 0; images && i < count; i++) {
        state = state * UINT32_C(1664525) + UINT32_C(1013904223);
        images[i] = (float)(state >> 8) * 0x1p-23f - 1.0f;
    }
    return images;
}

static lun_status time_training(bench *b, lun_trainer *trainer, const float *images)
{
    float losses[LUN_TRAINER_RING];
    int count = 0;
    for (int i = 0; i < WARM_UP + b->steps; i++) {
        const double start = lun_clock();
        LUN_TRY(lun_trainer_run(trainer, images));
        LUN_TRY(lun_trainer_losses(trainer, losses, &count)); /* waits */
        if (i >= WARM_UP)
            b->times[b->timed++] = lun_clock() - start;
        live_show("bench", "  step %d/%d", i + 1, WARM_UP + b->steps);
    }
    live_clear();
    b->step_s = median(b->times, (size_t)b->timed);
    return LUN_OK;
}

static lun_tune_params tune_params(bench *b)
{
    return (lun_tune_params){
        .force = b->tune == LUN_TUNE_FORCE, .progress = tuner_progress, .result = tuner_result, .payload = &b->tuner};
}

static lun_compile_params compile_params(const bench *b, const lun_tune_params *tune)
{
    return (lun_compile_params){
        .allow_fallback = b->allow_fallback, .tuning = b->tuning, .tune = b->tune >= LUN_TUNE_AUTO ? tune : NULL};
}

static lun_status with_trainer(bench *b, lun_status (*after)(bench *b, lun_trainer *trainer))
{
    lun_trainer *trainer = NULL;
    const lun_tune_params tune = tune_params(b);
    const lun_compile_params compile = compile_params(b, &tune);
    LUN_TRY(lun_trainer_create(b->dev, &b->config, (size_t)b->config.batch, &compile, &trainer));
    tuner_end(&b->tuner);
    float *images = make_images(b);
    lun_status status = images ? time_training(b, trainer, images) : LUN_ERR_MEMORY;
    if (status == LUN_OK && after)
        status = after(b, trainer);
    free(images);
    lun_trainer_destroy(&trainer);
    return status;
}

/* ---- Sampling
 * ------------------------------------------------------------------------------------------------------------- */

typedef struct stopwatch {
    bench *bench;
    double last; /* end of the step before; 0: none of this draw */
    int seen;
} stopwatch;

/* The device is waited for after each step, so that the time between two calls is a step's. */
static int step_done(void *payload, int remaining, const float *images)
{
    stopwatch *w = payload;
    bench *b = w->bench;
    (void)remaining, (void)images;
    if (lun_device_finish(b->dev) != LUN_OK)
        return 1; /* the draw meets the same error */
    const double now = lun_clock();
    if (w->last > 0 && ++w->seen > WARM_UP)
        b->times[b->timed++] = now - w->last;
    live_show("bench", "  step %d/%d", b->timed, b->steps);
    w->last = lun_clock();
    return b->timed == b->steps;
}

static lun_status draw_until_done(bench *b, lun_sampler *sampler)
{
    const lun_train_config *c = &b->config;
    float *images = lun_malloc(picture_floats(c), sizeof *images, "pictures");
    uint64_t *seeds = lun_calloc((size_t)c->batch, sizeof *seeds, "seeds");
    int32_t *labels = lun_calloc((size_t)c->batch, sizeof *labels, "labels");
    stopwatch watch = {.bench = b};
    const lun_sampler_run run = {
        .seeds = seeds, .labels = c->model.classes > 0 ? labels : NULL, .progress = step_done, .payload = &watch};
    lun_status status = images && seeds && labels ? LUN_OK : LUN_ERR_MEMORY;
    for (int k = 0; k < c->batch && seeds; k++)
        seeds[k] = (uint64_t)k;
    /* A draw has as many steps as the model; the first of each is not timed. */
    while (status == LUN_OK && b->timed < b->steps) {
        watch.last = 0;
        status = lun_sampler_draw(sampler, &run, images);
    }
    live_clear();
    free(images);
    free(seeds);
    free(labels);
    return status;
}

static lun_status bench_sample(bench *b)
{
    lun_store *store = NULL;
    lun_sampler *sampler = NULL;
    lun_schedule schedule = {0};
    const lun_train_config *c = &b->config;
    lun_status status = LUN_OK;
    LUN_TRY_GOTO(status, done, lun_store_create(&store));
    LUN_TRY_GOTO(status, done, lun_model_declare(store, &c->model));
    LUN_TRY_GOTO(status, done, lun_store_allocate(store, b->dev, 0));
    LUN_TRY_GOTO(status, done, lun_store_init(store, 0));
    LUN_TRY_GOTO(status, done, lun_train_schedule(c, &schedule));
    const lun_sampler_params params = {.batch = c->batch,
                                       .height = c->height,
                                       .width = c->width,
                                       .clip = LUN_CLIP_MODE_XT,
                                       .norm = LUN_NORM_EVAL,
                                       .schedule = &schedule,
                                       .prediction = c->prediction,
                                       .variance = c->model.learned_sigma ? LUN_VARIANCE_LEARNED : LUN_VARIANCE_SMALL};
    const lun_tune_params tune = tune_params(b);
    const lun_compile_params compile = compile_params(b, &tune);
    LUN_TRY_GOTO(status, done, lun_sampler_create(store, b->dev, &c->model, &params, &compile, &sampler));
    tuner_end(&b->tuner);
    status = draw_until_done(b, sampler);
    b->step_s = median(b->times, (size_t)b->timed);
done:
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&schedule);
    lun_store_destroy(&store);
    return status;
}

/* ---- The answer
 * ----------------------------------------------------------------------------------------------------------- */

static const char *network_name(const bench *b)
{
    return b->network.model ? b->network.model : b->network.preset;
}

static json_t *answer(const bench *b)
{
    const lun_device_info *info = lun_device_get_info(b->dev);
    char name[200];
    snprintf(name, sizeof name, "%s: %s", info->spec, info->name);
    return json_pack("{s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:s, s:i, s:f, s:f, s:I}", "lunette", lun_version(),
                     "mode", b->mode, "network", network_name(b), "device", name, "batch", b->config.batch, "size",
                     b->config.width, "steps", b->steps, "threads", info->units, "tune", tune_names[b->tune],
                     "tuned_ops", (int)lun_tuning_count(b->tuning), "step_s", b->step_s, "images_per_s",
                     b->config.batch / b->step_s, "peak_bytes", (json_int_t)peak_bytes(b->dev));
}

static void print_answer(const bench *b)
{
    char text[400], memory[32];
    device_text(b->dev, b->device_spec, text, sizeof text);
    printf("device: %s\n", text);
    printf("kernels: %s\n", b->tune == LUN_TUNE_OFF ? "the device's own choice"
                            : lun_tuning_count(b->tuning) == 0
                                ? "the device's own choice; nothing is remembered (--tune auto)"
                                : "as remembered ('lunette tune'), else the device's own choice");
    printf("%s, %s, batch %d, %dx%d: %.5f s a step (median of %d), %.3f images/s, peak memory %s\n", b->mode,
           network_name(b), b->config.batch, b->config.width, b->config.height, b->step_s, b->steps,
           b->config.batch / b->step_s, bytes_text((double)peak_bytes(b->dev), memory, sizeof memory));
}

static lun_status profile(bench *b, lun_trainer *trainer)
{
    op_table table;
    const lun_device_info *info = lun_device_get_info(b->dev);
    lun_plan *const update = lun_trainer_update_plan(trainer);
    lun_status status = measure_ops(lun_trainer_plan(trainer), b->steps, b->config.accumulate, &table);
    if (status == LUN_OK && update)
        status = measure_more_ops(update, b->steps, 1, &table);
    if (status == LUN_OK) {
        json_t *root = b->json ? answer(b) : NULL;
        if (!b->json)
            print_answer(b); /* before the buffers below count as its memory */
        const bool cpu = info->type == LUN_DEVICE_CPU;
        const op_limits limits = {
            .flops = cpu ? peak_flops(info->units) : 0, .copy = cpu ? peak_copy(info->units) : 0, .step_s = b->step_s};
        if (b->json) {
            ops_to_json(root, &table, &limits);
            print_json(root, 1);
        } else {
            print_ops(&table, &limits);
        }
    }
    free_ops(&table);
    return status;
}

static lun_status run(bench *b)
{
    lun_status status = prepare(b);
    if (status == LUN_OK && strcmp(b->mode, "ops") == 0) {
        status = with_trainer(b, profile);
    } else if (status == LUN_OK) {
        status = strcmp(b->mode, "train") == 0 ? with_trainer(b, NULL) : bench_sample(b);
        if (status == LUN_OK && b->json)
            print_json(answer(b), 0);
        else if (status == LUN_OK)
            print_answer(b);
    }
    lun_tuning_close(&b->tuning);
    lun_device_close(&b->dev);
    free(b->times);
    return status;
}

int lun_cmd_bench(int argc, char **argv)
{
    bench b = {.device_spec = "auto",
               .network.preset = "notebook",
               .accumulate = 1,
               .steps = 5,
               .tune = LUN_TUNE_KNOWN,
               .hang_timeout = HANG_USUAL};
    const arg_option options[] = {
        NETWORK_OPTIONS(b.network),
        {.name = "--accumulate",
         .type = ARG_INT,
         .value = &b.accumulate,
         .min = 1,
         .max = 4096,
         .meta = "K",
         .help = "a training step's batch in K parts (1)"},
        {.name = "--clip-norm",
         .type = ARG_DOUBLE,
         .value = &b.clip_norm,
         .max = 1e30,
         .given = &b.clip_given,
         .meta = "R",
         .help = "clip the gradient's norm; 0: don't (the preset's)"},
        {.name = "--ema",
         .type = ARG_DOUBLES,
         .value = b.ema,
         .max = LUN_MAX_EMA,
         .count = &b.ema_count,
         .given = &b.ema_given,
         .meta = "RATE,..",
         .help = "with moving averages of the weights; 0: none (the preset's)"},
        DEVICE_OPTION(&b.device_spec, ""),
        {.name = "--steps",
         .type = ARG_INT,
         .value = &b.steps,
         .min = 1,
         .max = 100000,
         .meta = "N",
         .help = "steps to time (5), after two that are not"},
        THREADS_OPTION(&b.threads),
        {.name = "--tune",
         .type = ARG_CHOICE,
         .value = &b.tune,
         .choices = tune_names,
         .meta = "MODE",
         .help = "known (the default): kernels as remembered; auto or force: tune first; off: as the device has them"},
        HANG_OPTION(&b.hang_timeout),
        FALLBACK_OPTION(&b.allow_fallback),
        {.name = "--json", .type = ARG_FLAG, .value = &b.json, .help = "one JSON object"},
        {0},
    };
    const arg_command command = {
        .usage = "bench train|sample|ops [options]",
        .about = "Time a network on made-up pictures: whole training steps, denoising steps (evaluation "
                 "mode), or every op\n"
                 "of a training step by itself. A step is waited for before the next begins; the median counts.",
        .notes = "peak_bytes is the process's peak on a CPU device and the device memory held at most on others. "
                 "percent_of_peak\n"
                 "compares with a loop of multiply-adds in registers on every thread, percent_of_copy (bytes read and "
                 "written) with\n"
                 "copying buffers much larger than the caches; both measured on the spot, null on devices that are no "
                 "CPU. FLOPs are\n"
                 "those of the direct method and bytes those of the operands, whatever the candidate does: a small op "
                 "may find its\n"
                 "operands in a cache and exceed 100 %. The floor is the direct method's FLOPs at that peak.\n\n"
                 "example:\n  lunette bench train --batch 16 --steps 5 --json",
        .options = options,
        .min_positionals = 1,
        .max_positionals = 1,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, &b.mode, &positionals, &exit_code))
        return exit_code;
    if (strcmp(b.mode, "train") != 0 && strcmp(b.mode, "sample") != 0 && strcmp(b.mode, "ops") != 0)
        return report(lun_fail(LUN_ERR_USAGE, "bench '%s': must be train, sample or ops", b.mode));
    if (b.json)
        live_quiet(true);
    const lun_status status = run(&b);
    return status == LUN_OK ? finish_output() : report(status);
}
