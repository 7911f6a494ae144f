/* A whole training run in a folder: resuming, logging, sampling, saving. The numbers come from trainer.c. */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/train.h>

#include "base/base.h"
#include "base/file.h"
#include "base/memory.h"
#include "checkpoint/json.h"
#include "checkpoint/runfolder.h"
#include "config.h"
#include "feed.h"
#include "holdout.h"
#include "report.h"
#include "trainer.h"
#include "vetting.h"

#define STRIP_PANELS 10
#define SHOW_EVERY   0.25 /* seconds between calls of progress */

typedef struct run_state {
    lun_device *dev;
    const lun_dataset *dataset;
    lun_train_config own; /* the configuration, nothing left open in it */
    const lun_train_config *config;
    const lun_run_params *params;
    lun_runfolder *folder;
    lun_run_record record;
    lun_trainer *trainer;
    lun_sampler *sampler; /* of the strips; NULL without any */
    uint32_t *pictures;   /* the data set's: those held out, then those to train on */
    size_t held_count, train_count;
    lun_holdout *holdout;                 /* NULL: none is held out, or none measured */
    double holdout_loss, holdout_average; /* as last measured, of the weights and of their first moving average */
    uint64_t holdout_step;
    lun_tuning *tuning; /* NULL: not asked for */
    lun_schedule schedule;
    lun_history history;
    uint64_t last_step;               /* UINT64_MAX: only the clock ends the run */
    uint64_t saved_step;              /* of the newest checkpoint; UINT64_MAX: none */
    double started, elapsed_before;   /* of this start; of the starts before it */
    double shown;                     /* when progress was last called */
    uint64_t first_step, logged_step; /* of this start; of the last log line */
    double logged_at, drained_at;
    double loss_sum, norm_sum, loss; /* since the last log line; of that line */
    double lr;                       /* of the last step that is known */
    uint64_t loss_count;
    double rate; /* pictures a second, of that line */
    bool stop;
} run_state;

static double elapsed(const run_state *r)
{
    return r->elapsed_before + lun_clock() - r->started;
}

static void show(run_state *r, bool logged, const char *event)
{
    if (!r->params->progress)
        return;
    const uint64_t step = lun_trainer_step(r->trainer);
    const double now = lun_clock();
    lun_run_progress p = {.step = step,
                          .last_step = r->last_step == UINT64_MAX ? 0 : r->last_step,
                          .epoch = step / lun_trainer_steps_per_epoch(r->trainer),
                          .loss = (float)r->loss,
                          .holdout_loss = (float)r->holdout_loss,
                          .holdout_average = (float)r->holdout_average,
                          .images_per_s = r->rate,
                          .elapsed_s = elapsed(r),
                          .left_s = NAN,
                          .logged = logged,
                          .event = event};
    /* A log line may be minutes away: until there is one, what is known so far. */
    if (!isfinite(r->loss) && r->loss_count > 0) {
        p.loss = (float)(r->loss_sum / (double)r->loss_count);
        p.images_per_s = (double)r->loss_count * r->config->batch / fmax(r->drained_at - r->logged_at, 1e-9);
    }
    /* From all the time of this start: strips and checkpoints take theirs in what is to come, too. */
    if (step > r->first_step && r->last_step != UINT64_MAX && step <= r->last_step)
        p.left_s = (double)(r->last_step - step) * (now - r->started) / (double)(step - r->first_step);
    if (r->params->length.hours > 0) {
        const double left = r->params->length.hours * 3600 - (now - r->started);
        if (!(p.left_s < left))
            p.left_s = left > 0 ? left : 0;
    }
    r->shown = now;
    if (r->params->progress(r->params->payload, &p))
        r->stop = true;
}

/* ---- config.json
 * --------------------------------------------------------------------------------------------------------- */

static const char *pinned(void *payload, const char *op)
{
    const json_t *candidates = payload;
    return candidates ? json_string_value(json_object_get(candidates, op)) : NULL;
}

static void note_candidate(void *payload, const lun_plan_op *op)
{
    if (!op->fallback)
        json_object_set_new(payload, op->description, json_string(op->candidate));
}

/* Ops that the record names no kernel for: an older build merged neighbours otherwise. */
typedef struct unrecorded {
    const json_t *candidates;
    int count;
} unrecorded;

static void count_unrecorded(void *payload, const lun_plan_op *op)
{
    unrecorded *u = payload;
    u->count += !op->fallback && !json_object_get(u->candidates, op->description);
}

static void warn_unrecorded(const run_state *r)
{
    unrecorded u = {.candidates = r->record.candidates};
    if (u.candidates)
        lun_trainer_visit(r->trainer, count_unrecorded, &u);
    if (u.count)
        lun_log(LUN_LOG_WARN,
                "config.json names no kernel for %d op%s of this run; it goes on within rounding, not bit for bit",
                u.count, u.count == 1 ? "" : "s");
}

static lun_status write_record(run_state *r)
{
    char *text = lun_run_record_text(&r->record);
    if (!text)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_runfolder_write_text(r->folder, "config.json", text);
    free(text);
    return status;
}

/* What is being gone on with has to be what was begun. Compared as text, so that no field can be forgotten. */
static lun_status check_same_config(const run_state *r)
{
    lun_run_record mine = r->record;
    mine.config = *r->config;
    char *then = lun_run_record_text(&r->record), *now = lun_run_record_text(&mine);
    lun_status status = then && now ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK && strcmp(then, now) != 0)
        status = lun_fail(LUN_ERR_USAGE, "%s: the run was started with another configuration (config.json)",
                          r->params->folder);
    free(then);
    free(now);
    return status;
}

static lun_status note_classes(run_state *r)
{
    const int count = lun_dataset_classes(r->dataset);
    if (count > 0 && !(r->record.classes = json_array()))
        return lun_fail(LUN_ERR_MEMORY, "out of memory (config.json)");
    for (int k = 0; k < count; k++) {
        const char *name = lun_dataset_class_name(r->dataset, k);
        if (json_array_append_new(r->record.classes, json_string(name)) != 0)
            return lun_fail(LUN_ERR_DATA, "the class %.200s cannot be recorded: its name is no UTF-8", name);
    }
    return LUN_OK;
}

/* A new run's record, or the old one's after a check that it can go on here. *pin: use the recorded candidates. */
static lun_status prepare_record(run_state *r, bool *pin)
{
    const lun_device_info *info = lun_device_get_info(r->dev);
    char device[sizeof r->record.device];
    snprintf(device, sizeof device, "%.120s %.30s", info->name, info->platform);
    *pin = false;
    if (!r->params->resume) {
        r->record.config = *r->config;
        snprintf(r->record.version, sizeof r->record.version, "%s", lun_version());
        snprintf(r->record.device, sizeof r->record.device, "%s", device);
        snprintf(r->record.driver, sizeof r->record.driver, "%s", info->driver);
        r->record.dataset_count = lun_dataset_count(r->dataset);
        r->record.dataset_hash = lun_dataset_hash(r->dataset);
        return note_classes(r);
    }
    LUN_TRY(lun_run_record_read(r->params->folder, &r->record));
    LUN_TRY(check_same_config(r));
    if (r->record.dataset_hash != lun_dataset_hash(r->dataset))
        return lun_fail(LUN_ERR_DATA,
                        "%s: the run was started on other pictures (%" PRIu64 " then, %zu now, or changed ones)",
                        r->params->folder, r->record.dataset_count, lun_dataset_count(r->dataset));
    if (strcmp(r->record.device, device) != 0 || strcmp(r->record.driver, info->driver) != 0)
        lun_log(LUN_LOG_WARN, "the run was started on %s (%s); it goes on within rounding, not bit for bit",
                r->record.device, r->record.driver);
    else if (strcmp(r->record.version, lun_version()) != 0)
        lun_log(LUN_LOG_WARN, "the run was started by lunette %s; it goes on within rounding, not bit for bit",
                r->record.version);
    else
        *pin = true;
    return LUN_OK;
}

/* ---- Log
 * ------------------------------------------------------------------------------------------------------------------ */

/* Take the earlier starts' log lines into the chart's history; also the time they took. */
static lun_status read_history(run_state *r)
{
    char *path = lun_format("%s/log.jsonl", r->params->folder);
    if (!path)
        return LUN_ERR_MEMORY;
    char *text = NULL;
    lun_status status = LUN_OK;
    if (lun_file_exists(path))
        status = lun_file_read(path, SIZE_MAX / 2, LUN_ERR_STORAGE, &text, NULL);
    for (char *line = text; line && *line && status == LUN_OK;) {
        const size_t length = strcspn(line, "\n");
        json_t *object = NULL;
        double step = 0, loss = 0;
        const lun_json_from from = {path, LUN_ERR_STORAGE};
        if (lun_json_parse(from, line, length, &lun_json_usual, &object) == LUN_OK &&
            lun_json_get_real(from, object, "step", 0, 1e15, &step) == LUN_OK &&
            lun_json_get_real(from, object, "loss", -1e30, 1e30, &loss) == LUN_OK) {
            lun_history_line kept = {step, loss, NAN, NAN};
            if (lun_json_has(object, "holdout_loss"))
                lun_json_get_real(from, object, "holdout_loss", -1e30, 1e30, &kept.holdout);
            if (lun_json_has(object, "holdout_loss_ema"))
                lun_json_get_real(from, object, "holdout_loss_ema", -1e30, 1e30, &kept.average);
            status = lun_history_add(&r->history, &kept);
            if (isfinite(kept.holdout))
                r->holdout_loss = kept.holdout;
            if (isfinite(kept.average))
                r->holdout_average = kept.average;
            lun_json_get_real(from, object, "elapsed_s", 0, 1e12, &r->elapsed_before);
        }
        json_decref(object);
        line += length + (line[length] == '\n');
    }
    free(text);
    free(path);
    return status;
}

static lun_status drain(run_state *r)
{
    lun_step_report reports[LUN_TRAINER_RING];
    int count = 0;
    LUN_TRY(lun_trainer_reports(r->trainer, reports, &count));
    for (int i = 0; i < count; i++) {
        r->loss_sum += (double)reports[i].loss;
        r->norm_sum += (double)reports[i].grad_norm;
        r->lr = reports[i].lr;
    }
    r->loss_count += (uint64_t)count;
    r->drained_at = lun_clock();
    return LUN_OK;
}

/* What is not finite is left out of a line. */
static json_t *known(double value)
{
    return isfinite(value) ? lun_json_real(value) : NULL;
}

static lun_status log_line(run_state *r)
{
    LUN_TRY(drain(r));
    if (r->loss_count == 0)
        return LUN_OK;
    const uint64_t step = lun_trainer_step(r->trainer);
    const bool measured = r->holdout && r->holdout_step == step;
    const double now = lun_clock();
    r->loss = r->loss_sum / (double)r->loss_count;
    r->rate = (double)(step - r->logged_step) * r->config->batch / fmax(now - r->logged_at, 1e-9);
    const lun_history_line kept = {(double)step, r->loss, measured ? r->holdout_loss : NAN,
                                   measured ? r->holdout_average : NAN};
    json_t *norm = r->config->clip_norm > 0 ? lun_json_real(r->norm_sum / (double)r->loss_count) : NULL;
    json_t *line = json_pack("{s:o, s:o, s:o, s:o*, s:o*, s:o, s:o*, s:o, s:o}", "step", lun_json_u64(step), "epoch",
                             lun_json_u64((step - 1) / lun_trainer_steps_per_epoch(r->trainer)), "loss",
                             lun_json_real(r->loss), "holdout_loss", known(kept.holdout), "holdout_loss_ema",
                             known(kept.average), "lr", lun_json_real(r->lr), "grad_norm", norm, "images_per_s",
                             lun_json_real(r->rate), "elapsed_s", lun_json_real(elapsed(r)));
    r->logged_step = step;
    r->logged_at = now;
    r->loss_sum = r->norm_sum = 0;
    r->loss_count = 0;
    char *text = line ? lun_json_text(line, 0) : NULL;
    json_decref(line);
    if (!text)
        return LUN_ERR_MEMORY;
    lun_status status = lun_runfolder_append_log(r->folder, text);
    free(text);
    if (status == LUN_OK)
        status = lun_history_add(&r->history, &kept);
    if (status == LUN_OK)
        show(r, true, NULL);
    return status;
}

/* ---- Held-out pictures
 * ---------------------------------------------------------------------------------------------------- */

static lun_status split(run_state *r)
{
    const size_t count = lun_dataset_count(r->dataset);
    r->pictures = lun_malloc(count, sizeof *r->pictures, "the pictures of a run");
    if (!r->pictures)
        return LUN_ERR_MEMORY;
    LUN_TRY(lun_holdout_split(r->dataset, r->config->data.holdout, r->pictures, &r->held_count));
    r->train_count = count - r->held_count;
    return LUN_OK;
}

static lun_status make_holdout(run_state *r)
{
    const lun_compile_params compile = {.allow_fallback = r->params->allow_fallback, .tuning = r->tuning};
    if (r->held_count == 0 || r->params->holdout_every <= 0)
        return LUN_OK;
    return lun_holdout_create(r->dev, lun_trainer_store(r->trainer), r->config, r->dataset, r->pictures, r->held_count,
                              &compile, &r->holdout);
}

/* Reads the weights and writes nothing that training reads. The next log line tells the result. */
static lun_status measure_holdout(run_state *r)
{
    show(r, false, "measuring the held-out pictures");
    LUN_TRY(lun_holdout_measure(r->holdout, false, &r->holdout_loss));
    if (lun_holdout_averages(r->holdout))
        LUN_TRY(lun_holdout_measure(r->holdout, true, &r->holdout_average));
    r->holdout_step = lun_trainer_step(r->trainer);
    if (!isfinite(r->holdout_loss)) /* as with a strip: the losses of training tell whether it is lost */
        lun_log(LUN_LOG_WARN, "the held-out pictures' loss after step %" PRIu64 " is not finite", r->holdout_step);
    return LUN_OK;
}

/* ---- Checkpoints and samples
 * ------------------------------------------------------------------------------------------------ */

/* What the numbers of the classes mean: metadata "lunette.classes", a JSON array of their names. */
static lun_status write_classes(const run_state *r, lun_safetensors_writer *weights)
{
    if (!r->record.classes)
        return LUN_OK;
    char *text = lun_json_text(r->record.classes, 0);
    if (!text)
        return lun_fail(LUN_ERR_MEMORY, "out of memory for a model's metadata");
    const lun_status status = lun_safetensors_writer_metadata(weights, "lunette.classes", text);
    free(text);
    return status;
}

static lun_status save(run_state *r)
{
    const uint64_t step = lun_trainer_step(r->trainer);
    if (r->saved_step == step)
        return LUN_OK;
    show(r, false, "saving");
    const int count = r->config->ema_count;
    lun_safetensors_writer *weights = NULL, *optimizer = NULL, *averages[LUN_MAX_EMA] = {NULL};
    LUN_TRY(lun_runfolder_checkpoint_begin_with(r->folder, step, r->config->ema_rate, count, &weights, &optimizer,
                                                averages));
    lun_status status = write_classes(r, weights);
    if (status == LUN_OK)
        status = lun_trainer_write(r->trainer, weights, optimizer);
    for (int i = 0; i < count && status == LUN_OK; i++) {
        status = write_classes(r, averages[i]);
        if (status == LUN_OK)
            status = lun_trainer_write_average(r->trainer, i, averages[i]);
    }
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(weights);
        lun_safetensors_writer_discard(optimizer);
        for (int i = 0; i < count; i++)
            lun_safetensors_writer_discard(averages[i]);
        return status;
    }
    LUN_TRY(
        lun_runfolder_checkpoint_commit_with(r->folder, step, weights, optimizer, averages, count, r->params->keep));
    r->saved_step = step;
    return lun_report_loss(r->params->folder, &r->history, r->config);
}

/* Weights, optimiser state and averages of a checkpoint. */
static lun_status load(run_state *r, const lun_checkpoint *c)
{
    LUN_TRY(lun_trainer_load(r->trainer, c->weights, c->optimizer));
    for (int i = 0; i < r->config->ema_count; i++) {
        int at = 0;
        while (at < c->averages && c->rate[at] != r->config->ema_rate[i])
            at++;
        if (at == c->averages)
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: its checkpoint has no moving average of rate %g", c->weights,
                            r->config->ema_rate[i]);
        LUN_TRY(lun_trainer_load_average(r->trainer, i, c->average[at]));
    }
    return LUN_OK;
}

static bool draws_average(const run_state *r)
{
    return r->config->ema_count > 0 && !r->params->raw_samples;
}

typedef struct strip {
    run_state *run;
    float *panels;
    size_t elements;
    int count, taken; /* panels */
} strip;

/* Evenly spaced, the last one finished: of 300 steps those after which 270, 240, .. 0 remain. */
static int strip_wants(void *payload, int remaining)
{
    const strip *s = payload;
    return s->taken < s->count &&
           remaining == (int)((int64_t)(s->count - 1 - s->taken) * s->run->schedule.steps / s->count);
}

static int strip_takes(void *payload, int remaining, const float *images)
{
    strip *s = payload;
    (void)remaining;
    if (images)
        memcpy(s->panels + (size_t)s->taken++ * s->elements, images, s->elements * sizeof *images);
    if (lun_clock() - s->run->shown >= SHOW_EVERY)
        show(s->run, false, "sampling");
    return s->run->stop;
}

static lun_status make_sampler(run_state *r)
{
    const lun_train_config *c = r->config;
    const lun_sampler_params params = {.batch = 1,
                                       .height = c->height,
                                       .width = c->width,
                                       .clip = r->params->clip,
                                       .norm = r->params->norm,
                                       .schedule = &r->schedule,
                                       .prediction = c->prediction,
                                       .variance = c->model.learned_sigma ? LUN_VARIANCE_LEARNED : LUN_VARIANCE_SMALL};
    const lun_compile_params compile = {.allow_fallback = r->params->allow_fallback,
                                        .values = draws_average(r) ? LUN_SLOT_EMA : LUN_SLOT_VALUE,
                                        .tuning = r->tuning};
    return lun_sampler_create(lun_trainer_store(r->trainer), r->dev, &c->model, &params, &compile, &r->sampler);
}

/* samples/epoch-00005.png: one picture, ten panels along the reverse process. Sampling reads the weights and writes
 * nothing that training reads. */
static lun_status sample(run_state *r)
{
    const lun_train_config *c = r->config;
    const uint64_t epoch = lun_trainer_step(r->trainer) / lun_trainer_steps_per_epoch(r->trainer);
    show(r, false, "sampling");
    strip s = {.run = r, .elements = (size_t)c->model.image_channels * (size_t)c->height * (size_t)c->width};
    s.count = r->schedule.steps < STRIP_PANELS ? r->schedule.steps : STRIP_PANELS;
    s.panels = lun_calloc((STRIP_PANELS + 1) * s.elements, sizeof *s.panels, "a sample strip");
    if (!s.panels)
        return LUN_ERR_MEMORY;
    const uint64_t seed = c->seed + epoch;
    /* A class that the seed decides, where the network has to be told one. */
    const int32_t label = c->model.classes > 0 ? (int32_t)(seed % (uint64_t)c->model.classes) : 0;
    const lun_sampler_run run = {.seeds = &seed,
                                 .want = strip_wants,
                                 .progress = strip_takes,
                                 .payload = &s,
                                 .labels = c->model.classes > 0 && !c->model.null_class ? &label : NULL};
    lun_status status = lun_sampler_draw(r->sampler, &run, s.panels + STRIP_PANELS * s.elements);
    const bool whole = status == LUN_OK && s.taken == s.count;
    if (status == LUN_ERR_DIVERGED) {
        /* Young weights can draw what is not finite without training being lost: its own losses tell that. */
        lun_log(LUN_LOG_WARN, "no sample strip after epoch %" PRIu64 ": %s", epoch, lun_error_detail());
        status = LUN_OK;
    }
    char *path = lun_format("%s/samples/epoch-%05" PRIu64 ".png", r->params->folder, epoch);
    if (status == LUN_OK && !path)
        status = LUN_ERR_MEMORY;
    if (status == LUN_OK && whole) {
        const lun_report_facts facts = {.model = c->preset,
                                        .step = lun_trainer_step(r->trainer),
                                        .seed = seed,
                                        .sampler = "ancestral",
                                        .steps = r->schedule.steps,
                                        .clip = r->params->clip,
                                        .norm = r->params->norm,
                                        .ema = draws_average(r) ? c->ema_rate[0] : 0};
        status = lun_report_strip(path, s.panels, s.taken, c->model.image_channels, c->height, c->width, &facts);
    }
    free(path);
    free(s.panels);
    return status;
}

/* ---- The run
 * ---------------------------------------------------------------------------------------------------------------- */

static int on_tune(void *payload, const lun_tune_progress *progress)
{
    run_state *r = payload;
    const lun_tune_params *tuner = r->params->tuner;
    if (tuner && tuner->progress && tuner->progress(tuner->payload, progress))
        r->stop = true;
    return r->stop;
}

static void on_tuned(void *payload, const lun_tune_result *result)
{
    const run_state *r = payload;
    const lun_tune_params *tuner = r->params->tuner;
    if (tuner && tuner->result)
        tuner->result(tuner->payload, result);
}

static lun_status make_trainer(run_state *r, json_t *pins)
{
    const lun_run_params *p = r->params;
    const lun_tune_params tune = {.force = p->tune == LUN_TUNE_FORCE,
                                  .seconds = p->tuner ? p->tuner->seconds : 0,
                                  .progress = on_tune,
                                  .result = on_tuned,
                                  .payload = r};
    if (p->tune != LUN_TUNE_OFF)
        LUN_TRY(lun_tuning_open(r->dev, &r->tuning));
    const lun_compile_params compile = {.allow_fallback = p->allow_fallback,
                                        .pin = pins ? pinned : NULL,
                                        .payload = pins,
                                        .tuning = r->tuning,
                                        .tune = p->tune == LUN_TUNE_AUTO || p->tune == LUN_TUNE_FORCE ? &tune : NULL};
    return lun_trainer_create(r->dev, r->config, r->train_count, &compile, &r->trainer);
}

/* Where the run ends in steps; UINT64_MAX: only the clock says. */
static uint64_t find_last_step(const lun_run_length *length, uint64_t per_epoch)
{
    uint64_t last = length->steps ? length->steps : UINT64_MAX;
    if (length->epochs && length->epochs <= UINT64_MAX / per_epoch && length->epochs * per_epoch < last)
        last = length->epochs * per_epoch;
    return last;
}

/* A decay to the end of the run gets the step at which that is: so it stays, however long the run then is. */
static lun_status resolve_decay(run_state *r)
{
    const size_t batch = (size_t)r->own.batch;
    if (r->train_count < batch)
        return lun_fail(LUN_ERR_DATA, "%zu pictures are fewer than one batch of %zu", r->train_count, batch);
    r->last_step = find_last_step(&r->params->length, r->train_count / batch);
    if (r->own.decay == LUN_DECAY_CONSTANT)
        return LUN_OK;
    if (r->own.decay_steps == 0 && r->last_step == UINT64_MAX)
        return lun_fail(LUN_ERR_USAGE, "a learning rate that decays has to know its last step, and the run's length "
                                       "does not say it");
    if (r->own.decay_steps == 0)
        r->own.decay_steps = r->last_step;
    else if (r->last_step > r->own.decay_steps)
        lun_log(LUN_LOG_WARN, "the learning rate reaches its end, %g, at step %" PRIu64 "; the run goes on after that",
                r->own.lr_end, r->own.decay_steps);
    return lun_train_config_check(&r->own);
}

/* Checking holds the run twice, on the device and in plain C, and each operand once more on its way between them: 2.7
 * times the run's memory for the notebook network. */
static bool room_to_vet(const run_state *r)
{
    size_t now = 0, peak = 0;
    lun_device_memory(r->dev, &now, &peak);
    const uint64_t left = lun_memory_available();
    if (left == 0 || left / 3 >= now)
        return true;
    lun_log(LUN_LOG_WARN,
            "the kernels are not checked against plain C: that takes about %.1f GB and %.1f are free ('lunette doctor' "
            "tries it)",
            3e-9 * (double)now, 1e-9 * (double)left);
    return false;
}

/* A device may compute wrongly: what it would train with is held against plain C, once, and what is wrong goes another
 * way. */
static lun_status vet_kernels(run_state *r)
{
    json_t *kernels = json_object(), *detours = NULL;
    if (!kernels)
        return lun_fail(LUN_ERR_MEMORY, "out of memory (a list of kernels)");
    lun_trainer_visit(r->trainer, note_candidate, kernels);
    lun_status status = LUN_OK;
    if (!lun_vetted(r->dev, r->config, kernels) && room_to_vet(r)) {
        lun_trainer_destroy(&r->trainer); /* its memory may be needed */
        status = lun_vet(r->dev, r->config, kernels, &detours);
        if (status == LUN_OK)
            status = make_trainer(r, detours);
    }
    json_decref(detours);
    json_decref(kernels);
    return status;
}

static lun_status start(run_state *r)
{
    const lun_run_params *p = r->params;
    bool pin = false;
    LUN_TRY(split(r));
    LUN_TRY(resolve_decay(r));
    LUN_TRY(lun_runfolder_open(p->folder, p->resume != 0, &r->folder));
    LUN_TRY(prepare_record(r, &pin));
    LUN_TRY(make_trainer(r, pin ? r->record.candidates : NULL));
    if (pin)
        warn_unrecorded(r);
    else if (p->vet)
        LUN_TRY(vet_kernels(r));
    lun_trainer_warn(r->trainer);
    LUN_TRY(make_holdout(r));
    LUN_TRY(lun_train_schedule(r->config, &r->schedule));
    const uint64_t per_epoch = lun_trainer_steps_per_epoch(r->trainer);
    /* Compiled now, so that what cannot be sampled is refused before hours are spent, and before there is a run. */
    if (p->sample_every > 0 && r->last_step / per_epoch >= (uint64_t)p->sample_every)
        LUN_TRY(make_sampler(r));

    r->saved_step = UINT64_MAX;
    if (p->resume) {
        lun_checkpoint newest;
        LUN_TRY(lun_runfolder_newest(p->folder, true, &newest));
        lun_status status = LUN_OK;
        if (newest.weights) {
            status = load(r, &newest);
            r->saved_step = newest.step;
        } else {
            lun_log(LUN_LOG_WARN, "%s holds no checkpoint yet: starting over from its configuration", p->folder);
        }
        lun_checkpoint_free(&newest);
        LUN_TRY(status);
        LUN_TRY(lun_runfolder_truncate_log(r->folder, lun_trainer_step(r->trainer)));
        LUN_TRY(read_history(r));
        /* The chart is drawn after a checkpoint: whatever stopped the run may have come between them. */
        if (r->saved_step != UINT64_MAX)
            LUN_TRY(lun_report_loss(p->folder, &r->history, r->config));
    }
    if (p->init && r->saved_step == UINT64_MAX) {
        /* Kept as the checkpoint of step 0, and before config.json: whatever stops the run, going on does not need that
         * file again and never begins from other weights. */
        LUN_TRY(lun_trainer_init(r->trainer, p->init));
        LUN_TRY(save(r));
    }
    const bool longer = memcmp(&r->record.length, &p->length, sizeof p->length) != 0;
    r->record.length = p->length;
    if (p->resume && r->record.candidates && longer)
        LUN_TRY(write_record(r));
    if (!p->resume || !r->record.candidates) {
        r->record.candidates = json_object();
        lun_trainer_visit(r->trainer, note_candidate, r->record.candidates);
        LUN_TRY(lun_report_data(p->folder, r->dataset, r->config));
        LUN_TRY(lun_report_forward(p->folder, r->dev, r->dataset, r->config));
        LUN_TRY(write_record(r)); /* last: a folder that has it has the rest */
    }
    return LUN_OK;
}

static lun_status loop(run_state *r)
{
    const lun_run_params *p = r->params;
    const lun_train_config *c = r->config;
    const uint64_t per_epoch = lun_trainer_steps_per_epoch(r->trainer);
    const uint64_t log_every = p->log_every > 0 ? (uint64_t)p->log_every : 1;
    const lun_feed_params feeding = {.dataset = r->dataset,
                                     .pictures = r->pictures + r->held_count,
                                     .count = r->train_count,
                                     .batch = (size_t)c->batch,
                                     .seed = c->seed,
                                     .step = lun_trainer_step(r->trainer),
                                     .augment = {.flip = c->data.flip, .window = c->data.crop == LUN_CROP_RANDOM},
                                     .label_dropout = c->data.label_dropout};
    lun_feed *feed = NULL;
    lun_feed_batch batch = {0};
    lun_status status = LUN_OK;
    LUN_TRY(lun_feed_start(&feeding, &feed));
    r->started = r->logged_at = r->drained_at = lun_clock();
    r->first_step = r->logged_step = lun_trainer_step(r->trainer);
    while (status == LUN_OK && !r->stop && lun_trainer_step(r->trainer) < r->last_step &&
           !(p->length.hours > 0 && lun_clock() - r->started >= p->length.hours * 3600)) {
        LUN_TRY_GOTO(status, done, lun_feed_next(feed, &batch));
        if (batch.labels)
            LUN_TRY_GOTO(status, done, lun_trainer_labels(r->trainer, batch.labels));
        LUN_TRY_GOTO(status, done, lun_trainer_run(r->trainer, batch.images));
        const uint64_t step = lun_trainer_step(r->trainer);
        const bool last = step == r->last_step;
        const bool measure = r->holdout && !r->stop && (last || step % (per_epoch * (uint64_t)p->holdout_every) == 0);
        if (measure) {
            /* Its time is not training time. */
            LUN_TRY_GOTO(status, done, drain(r));
            const double before = lun_clock();
            LUN_TRY_GOTO(status, done, measure_holdout(r));
            r->logged_at += lun_clock() - before;
        }
        if (step % log_every == 0 || last || measure)
            LUN_TRY_GOTO(status, done, log_line(r));
        /* Steps are only enqueued: waiting now and then keeps what is shown true, and a stop or the clock's end near.
         */
        else if (step % (LUN_TRAINER_RING / 2) == 0 || lun_clock() - r->drained_at >= SHOW_EVERY)
            LUN_TRY_GOTO(status, done, drain(r));
        if (lun_clock() - r->shown >= SHOW_EVERY)
            show(r, false, NULL);
        /* The time that a strip or a checkpoint takes is not training time. */
        if (!r->stop && p->sample_every > 0 && step % (per_epoch * (uint64_t)p->sample_every) == 0) {
            LUN_TRY_GOTO(status, done, log_line(r));
            const double before = lun_clock();
            LUN_TRY_GOTO(status, done, sample(r));
            r->logged_at += lun_clock() - before;
        }
        if (p->checkpoint_every > 0 && step % p->checkpoint_every == 0) {
            LUN_TRY_GOTO(status, done, log_line(r));
            const double before = lun_clock();
            LUN_TRY_GOTO(status, done, save(r));
            r->logged_at += lun_clock() - before;
        }
    }
    /* The clock has ended it: the last step was not known to be the last. */
    if (r->holdout && !r->stop && lun_trainer_step(r->trainer) > r->first_step &&
        r->holdout_step != lun_trainer_step(r->trainer))
        LUN_TRY_GOTO(status, done, measure_holdout(r));
    LUN_TRY_GOTO(status, done, log_line(r));
    LUN_TRY_GOTO(status, done, save(r));
done:
    lun_feed_stop(&feed);
    if (status == LUN_ERR_DIVERGED && r->saved_step != UINT64_MAX)
        return lun_fail(status, "%s; the checkpoint of step %" PRIu64 " is untouched; a lower learning rate may help",
                        lun_error_detail(), r->saved_step);
    if (status == LUN_ERR_DIVERGED)
        return lun_fail(status, "%s; a lower learning rate may help", lun_error_detail());
    return status;
}

/* What would make a run fail late, or its record unreadable. */
static lun_status check_params(const lun_dataset *dataset, const lun_train_config *config, const lun_run_params *params)
{
    int width = 0, height = 0;
    if (params->keep < 1)
        return lun_fail(LUN_ERR_USAGE, "at least one checkpoint must be kept");
    if (!(params->length.hours >= 0 && params->length.hours <= 1e9))
        return lun_fail(LUN_ERR_USAGE, "%g hours: must be 0 (no limit) to 1e9", params->length.hours);
    if (params->resume && params->init)
        return lun_fail(LUN_ERR_USAGE, "a run goes on from its own checkpoint or starts from a file, not both");
    LUN_TRY(lun_train_config_check(config));
    if (config->model.image_channels != lun_dataset_channels(dataset))
        return lun_fail(LUN_ERR_USAGE, "the pictures have %d channels, the network takes %d",
                        lun_dataset_channels(dataset), config->model.image_channels);
    if ((lun_dataset_classes(dataset) > 0) != (config->data.labels != 0))
        return lun_fail(LUN_ERR_USAGE, "the pictures have %d classes, the configuration asks for %s",
                        lun_dataset_classes(dataset), config->data.labels ? "labels" : "none");
    if (lun_dataset_classes(dataset) != config->model.classes)
        return lun_fail(LUN_ERR_USAGE, "the pictures have %d classes, the network %d", lun_dataset_classes(dataset),
                        config->model.classes);
    lun_dataset_size(dataset, &width, &height);
    if (width != config->width || height != config->height)
        return lun_fail(LUN_ERR_USAGE, "the pictures are %d x %d, the configuration says %d x %d", width, height,
                        config->width, config->height);
    return LUN_OK;
}

lun_status lun_train_run(lun_device *dev, const lun_dataset *dataset, const lun_train_config *config,
                         const lun_run_params *params)
{
    LUN_TRY(check_params(dataset, config, params));
    run_state r = {.dev = dev,
                   .dataset = dataset,
                   .own = *config,
                   .params = params,
                   .started = lun_clock(),
                   .loss = NAN,
                   .holdout_loss = NAN,
                   .holdout_average = NAN};
    r.config = &r.own;
    lun_status status = start(&r);
    if (status == LUN_OK)
        status = loop(&r);
    lun_holdout_destroy(&r.holdout);
    lun_sampler_destroy(&r.sampler);
    lun_trainer_destroy(&r.trainer);
    lun_tuning_close(&r.tuning);
    lun_schedule_free(&r.schedule);
    lun_history_free(&r.history);
    lun_run_record_free(&r.record);
    free(r.pictures);
    lun_runfolder_close(r.folder);
    return status;
}

lun_status lun_train_config_load(const char *folder, lun_train_config *out, lun_run_length *length)
{
    lun_run_record record;
    LUN_TRY(lun_run_record_read(folder, &record));
    *out = record.config;
    if (length)
        *length = record.length;
    lun_run_record_free(&record);
    return LUN_OK;
}
