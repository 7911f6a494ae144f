/* lunette bench: the notebook network on made-up pictures. Every step is waited for and timed by itself, the median
 * counts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "common.h"
#include "live.h"
#include "peak.h"

#define WARM_UP 2

typedef struct bench {
    const char *mode, *device_spec;
    int batch, size, steps, threads, channels[LUN_MODEL_MAX_LEVELS], levels;
    bool json, channels_given, allow_fallback;
    lun_device *dev;
    lun_train_config config;
    double *times; /* (steps) */
    int timed;
    double step_s;
} bench;

static lun_status prepare(bench *b)
{
    LUN_TRY(lun_train_preset("notebook", &b->config));
    b->config.batch = b->batch;
    b->config.width = b->config.height = b->size;
    if (b->channels_given) {
        memset(b->config.model.channels, 0, sizeof b->config.model.channels);
        memcpy(b->config.model.channels, b->channels, sizeof(int) * (size_t)b->levels);
        b->config.model.levels = b->levels;
    }
    LUN_TRY(lun_train_config_check(&b->config));
    b->times = lun_calloc((size_t)b->steps, sizeof *b->times, "times");
    if (!b->times)
        return LUN_ERR_MEMORY;
    return open_device(b->device_spec, b->threads, &b->dev);
}

/* ---- Training
 * ------------------------------------------------------------------------------------------------------------- */

/* Pictures uniform in [-1, 1]. */
static float *make_images(const bench *b)
{
    const size_t count = (size_t)b->batch * (size_t)b->config.model.image_channels * (size_t)b->size * (size_t)b->size;
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

static lun_status with_trainer(bench *b, lun_status (*after)(bench *b, lun_trainer *trainer))
{
    lun_trainer *trainer = NULL;
    const lun_compile_params compile = {.allow_fallback = b->allow_fallback};
    LUN_TRY(lun_trainer_create(b->dev, &b->config, (size_t)b->batch, &compile, &trainer));
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
    const size_t count = (size_t)b->batch * (size_t)b->config.model.image_channels * (size_t)b->size * (size_t)b->size;
    float *images = lun_malloc(count, sizeof *images, "pictures");
    uint64_t *seeds = lun_calloc((size_t)b->batch, sizeof *seeds, "seeds");
    stopwatch watch = {.bench = b};
    const lun_sampler_run run = {.seeds = seeds, .progress = step_done, .payload = &watch};
    lun_status status = images && seeds ? LUN_OK : LUN_ERR_MEMORY;
    for (int k = 0; k < b->batch && seeds; k++)
        seeds[k] = (uint64_t)k;
    /* A draw has as many steps as the model; the first of each is not timed. */
    while (status == LUN_OK && b->timed < b->steps) {
        watch.last = 0;
        status = lun_sampler_draw(sampler, &run, images);
    }
    live_clear();
    free(images);
    free(seeds);
    return status;
}

static lun_status bench_sample(bench *b)
{
    lun_store *store = NULL;
    lun_graph *graph = NULL;
    lun_sampler *sampler = NULL;
    lun_schedule schedule = {.steps = 0};
    const lun_model_config *model = &b->config.model;
    lun_status status = LUN_OK;
    LUN_TRY_GOTO(status, done, lun_store_create(&store));
    LUN_TRY_GOTO(status, done, lun_graph_create(store, &graph));
    const lun_value x = lun_graph_input(graph, "x", lun_image(b->batch, model->image_channels, b->size, b->size));
    const lun_value t = lun_graph_input(graph, "t", lun_typed(lun_image(b->batch, 1, 1, 1), LUN_I32));
    lun_model_forward(graph, model, x, t, LUN_NORM_EVAL);
    LUN_TRY_GOTO(status, done, lun_graph_check(graph));
    LUN_TRY_GOTO(status, done, lun_store_allocate(store, b->dev, 0));
    LUN_TRY_GOTO(status, done, lun_store_init(store, 0));
    LUN_TRY_GOTO(status, done, lun_schedule_linear(model->steps, b->config.beta_first, b->config.beta_last, &schedule));
    const lun_sampler_params params = {.batch = b->batch,
                                       .height = b->size,
                                       .width = b->size,
                                       .clip = LUN_CLIP_MODE_XT,
                                       .norm = LUN_NORM_EVAL,
                                       .schedule = &schedule};
    const lun_compile_params compile = {.allow_fallback = b->allow_fallback};
    LUN_TRY_GOTO(status, done, lun_sampler_create(store, b->dev, model, &params, &compile, &sampler));
    status = draw_until_done(b, sampler);
    b->step_s = median(b->times, (size_t)b->timed);
done:
    lun_sampler_destroy(&sampler);
    lun_schedule_free(&schedule);
    lun_graph_destroy(&graph);
    lun_store_destroy(&store);
    return status;
}

/* ---- Ops
 * ------------------------------------------------------------------------------------------------------------------ */

typedef struct op_row {
    char *kind, *shape, *candidate;
    double flops, bytes, seconds;
    bool fallback;
} op_row;

typedef struct op_table {
    op_row *rows;
    size_t count, room;
    double seconds, flops;
    bool failed;
} op_table;

static void add_op(void *payload, const lun_plan_op *op)
{
    op_table *t = payload;
    if (t->count == t->room) {
        const size_t room = t->room ? 2 * t->room : 128;
        op_row *rows = lun_realloc(t->rows, room, sizeof *rows, "ops");
        if (!rows) {
            t->failed = true;
            return;
        }
        t->rows = rows;
        t->room = room;
    }
    /* A description is the op's name, its operands' shapes and its attributes. */
    const char *shape = strchr(op->description, ' ');
    op_row row = {.kind = lun_strdup(op->kind),
                  .shape = lun_strdup(shape ? shape + 1 : ""),
                  .candidate = lun_strdup(op->candidate),
                  .flops = op->flops,
                  .bytes = op->bytes,
                  .seconds = op->seconds,
                  .fallback = op->fallback};
    t->failed = t->failed || !row.kind || !row.shape || !row.candidate;
    t->rows[t->count++] = row;
    t->seconds += op->seconds;
    t->flops += op->flops;
}

static void free_ops(op_table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->rows[i].kind);
        free(t->rows[i].shape);
        free(t->rows[i].candidate);
    }
    free(t->rows);
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const op_row *)a)->seconds, y = ((const op_row *)b)->seconds;
    return (x < y) - (x > y);
}

/* NULL-able real: what does not apply is null. */
static json_t *share(double part, double whole)
{
    return whole > 0 ? json_real(100 * part / whole) : json_null();
}

static json_t *ops_json(const op_table *t, double peak)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < t->count; i++) {
        const op_row *r = &t->rows[i];
        const double rate = r->seconds > 0 ? r->flops / r->seconds : 0;
        json_array_append_new(rows, json_pack("{s:s, s:s, s:s, s:f, s:f, s:o, s:f, s:b}", "kind", r->kind, "shape",
                                              r->shape, "candidate", r->candidate, "ms", 1e3 * r->seconds, "gflop_s",
                                              1e-9 * rate, "percent_of_peak", share(rate, peak), "gb_s",
                                              r->seconds > 0 ? 1e-9 * r->bytes / r->seconds : 0, "fallback",
                                              (int)r->fallback));
    }
    return rows;
}

/* Ops of one kind, shape and candidate on one line, the dearest first. */
static void print_ops(op_table *t, double peak)
{
    size_t used = 0;
    int *count = lun_calloc(t->count, sizeof *count, "a table");
    if (!count)
        return;
    for (size_t i = 0; i < t->count; i++) {
        op_row *r = &t->rows[i];
        size_t k = 0;
        while (k < used && (strcmp(t->rows[k].kind, r->kind) != 0 || strcmp(t->rows[k].shape, r->shape) != 0 ||
                            strcmp(t->rows[k].candidate, r->candidate) != 0))
            k++;
        if (k == used) {
            const op_row swap = t->rows[k];
            t->rows[k] = *r;
            *r = swap;
            used++;
        } else {
            t->rows[k].seconds += r->seconds;
            t->rows[k].flops += r->flops;
        }
        /* How many share the line, kept in `bytes`, which the table does not show. */
        t->rows[k].bytes = (double)++count[k];
    }
    free(count);
    qsort(t->rows, used, sizeof *t->rows, by_time);
    printf("%9s %4s %9s %6s  %s\n", "ms", "ops", "GFLOP/s", "% peak", "op");
    for (size_t k = 0; k < used; k++) {
        const op_row *r = &t->rows[k];
        const double rate = r->seconds > 0 ? r->flops / r->seconds : 0;
        char percent[16] = "-";
        if (peak > 0)
            snprintf(percent, sizeof percent, "%.1f", 100 * rate / peak);
        printf("%9.3f %4.0f %9.1f %6s  %s %s [%s%s]\n", 1e3 * r->seconds, r->bytes, 1e-9 * rate, percent, r->kind,
               r->shape, r->candidate, r->fallback ? ", fallback" : "");
    }
}

/* ---- The answer
 * ----------------------------------------------------------------------------------------------------------- */

static json_t *answer(const bench *b)
{
    const lun_device_info *info = lun_device_get_info(b->dev);
    char name[200];
    snprintf(name, sizeof name, "%s: %s", info->spec, info->name);
    return json_pack("{s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:f, s:f, s:I}", "lunette", lun_version(), "mode", b->mode,
                     "device", name, "batch", b->batch, "size", b->size, "steps", b->steps, "threads", info->units,
                     "step_s", b->step_s, "images_per_s", b->batch / b->step_s, "peak_bytes",
                     (json_int_t)peak_bytes(b->dev));
}

static void print_answer(const bench *b)
{
    char text[400], memory[32];
    device_text(b->dev, b->device_spec, text, sizeof text);
    printf("device: %s\n", text);
    printf("%s, batch %d, %dx%d: %.5f s a step (median of %d), %.3f images/s, peak memory %s\n", b->mode, b->batch,
           b->size, b->size, b->step_s, b->steps, b->batch / b->step_s,
           bytes_text((double)peak_bytes(b->dev), memory, sizeof memory));
}

static lun_status profile(bench *b, lun_trainer *trainer)
{
    op_table table = {.rows = NULL};
    const lun_device_info *info = lun_device_get_info(b->dev);
    lun_status status = lun_plan_profile(lun_trainer_plan(trainer), b->steps, add_op, &table);
    if (status == LUN_OK && table.failed)
        status = LUN_ERR_MEMORY;
    if (status == LUN_OK) {
        const double peak = info->type == LUN_DEVICE_CPU ? peak_flops(info->units) : 0;
        if (b->json) {
            json_t *root = answer(b);
            json_object_set_new(root, "ops_s", json_real(table.seconds));
            json_object_set_new(root, "gflop", json_real(1e-9 * table.flops));
            json_object_set_new(root, "peak_gflop_s", peak > 0 ? json_real(1e-9 * peak) : json_null());
            json_object_set_new(root, "ops", ops_json(&table, peak));
            print_json(root, 1);
        } else {
            print_answer(b);
            print_ops(&table, peak);
            printf("sum of ops %.5f s beside a measured step of %.5f s; %.3g GFLOP a step", table.seconds, b->step_s,
                   1e-9 * table.flops);
            if (peak > 0)
                printf("; measured peak %.1f GFLOP/s", 1e-9 * peak);
            printf("\n");
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
    lun_device_close(&b->dev);
    free(b->times);
    return status;
}

int lun_cmd_bench(int argc, char **argv)
{
    bench b = {.device_spec = "auto", .batch = 16, .size = 64, .steps = 5};
    const arg_option options[] = {
        {.name = "--batch",
         .type = ARG_INT,
         .value = &b.batch,
         .min = 1,
         .max = 4096,
         .meta = "N",
         .help = "pictures a step (16)"},
        {.name = "--size",
         .type = ARG_INT,
         .value = &b.size,
         .min = 2,
         .max = 4096,
         .meta = "N",
         .help = "pixels a side (64)"},
        {.name = "--channels",
         .type = ARG_INTS,
         .value = b.channels,
         .min = 1,
         .max = LUN_MODEL_MAX_LEVELS,
         .count = &b.levels,
         .given = &b.channels_given,
         .meta = "A,B,...",
         .help = "of the levels (64,128,256,512,1024)"},
        {.name = "--device",
         .type = ARG_TEXT,
         .value = &b.device_spec,
         .meta = "DEVICE",
         .help = "auto (the default), cpu, opencl[:I]"},
        {.name = "--steps",
         .type = ARG_INT,
         .value = &b.steps,
         .min = 1,
         .max = 100000,
         .meta = "N",
         .help = "steps to time (5), after two that are not"},
        {.name = "--threads",
         .type = ARG_INT,
         .value = &b.threads,
         .min = 1,
         .max = MAX_THREADS,
         .meta = "N",
         .help = "of the cpu device (all cores)"},
        {.name = "--allow-fallback",
         .type = ARG_FLAG,
         .value = &b.allow_fallback,
         .help = "let plain C compute what the device cannot"},
        {.name = "--json", .type = ARG_FLAG, .value = &b.json, .help = "one JSON object"},
        {0},
    };
    const arg_command command = {
        .usage = "bench train|sample|ops [options]",
        .about = "Time the notebook network on made-up pictures: whole training steps, denoising steps (evaluation "
                 "mode), or every op\n"
                 "of a training step by itself. A step is waited for before the next begins; the median counts.",
        .notes = "peak_bytes is the process's peak on a CPU device and the device memory held at most on others. "
                 "percent_of_peak\n"
                 "compares with a loop of multiply-adds in registers on every thread, measured on the spot; null on "
                 "devices that\n"
                 "are no CPU. FLOPs are those of the direct method, whatever the candidate does.\n\n"
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
