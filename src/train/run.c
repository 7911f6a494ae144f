/* A whole training run in a folder: what is settled before the first step, and the loop. The numbers come from
 * trainer.c. */
#include "run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "feed.h"

static lun_status split(lun_run *r)
{
    const size_t count = lun_dataset_count(r->dataset);
    r->pictures = lun_malloc(count, sizeof *r->pictures, "the pictures of a run");
    if (!r->pictures)
        return LUN_ERR_MEMORY;
    LUN_TRY(lun_holdout_split(r->dataset, r->config->data.holdout, r->pictures, &r->held_count));
    r->train_count = count - r->held_count;
    return LUN_OK;
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
static lun_status resolve_decay(lun_run *r)
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

static lun_status start(lun_run *r)
{
    const lun_run_params *p = r->params;
    LUN_TRY(split(r));
    LUN_TRY(resolve_decay(r));
    LUN_TRY(lun_runfolder_open(p->folder, p->resume != 0, &r->folder));
    LUN_TRY(lun_run_prepare_record(r, &r->pin));
    LUN_TRY(lun_train_schedule(r->config, &r->schedule));
    const int parts = r->own.accumulate;
    LUN_TRY(lun_run_make(r));
    const bool apart = r->own.accumulate != parts;

    r->saved_step = UINT64_MAX;
    if (p->resume) {
        lun_checkpoint newest;
        LUN_TRY(lun_runfolder_newest(p->folder, true, &newest));
        lun_status status = LUN_OK;
        if (newest.weights) {
            status = lun_run_load(r, &newest);
            r->saved_step = newest.step;
        } else {
            lun_log(LUN_LOG_WARN, "%s holds no checkpoint yet: starting over from its configuration", p->folder);
        }
        lun_checkpoint_free(&newest);
        LUN_TRY(status);
        LUN_TRY(lun_runfolder_truncate_log(r->folder, lun_trainer_step(r->trainer)));
        LUN_TRY(lun_run_read_history(r));
        /* The chart is drawn after a checkpoint: whatever stopped the run may have come between them. */
        if (r->saved_step != UINT64_MAX)
            LUN_TRY(lun_report_loss(p->folder, &r->history, r->config));
    }
    if (p->init && r->saved_step == UINT64_MAX) {
        /* Kept as the checkpoint of step 0, and before config.json: whatever stops the run, going on does not need that
         * file again and never begins from other weights. */
        LUN_TRY(lun_trainer_init(r->trainer, p->init));
        LUN_TRY(lun_run_save(r));
    }
    const bool longer = memcmp(&r->record.length, &p->length, sizeof p->length) != 0;
    r->record.length = p->length;
    if (p->resume && r->record.candidates && longer && !apart)
        LUN_TRY(lun_run_write_record(r));
    if (!p->resume || !r->record.candidates || apart) {
        LUN_TRY(lun_run_note_kernels(r));
        LUN_TRY(lun_report_data(p->folder, r->dataset, r->config));
        LUN_TRY(lun_report_forward(p->folder, r->dev, r->dataset, r->config));
        LUN_TRY(lun_run_write_record(r)); /* last: a folder that has it has the rest */
    }
    return LUN_OK;
}

/* While no batch comes: a stop is heard then, too. */
static int on_waiting(void *payload)
{
    lun_run *r = payload;
    lun_run_show(r, false, "waiting for pictures");
    return r->stop;
}

/* From the trainer's step to the end of the run, or to a failure. */
static lun_status do_steps(lun_run *r)
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
                                     .step = lun_trainer_position(r->trainer),
                                     .augment = {.flip = c->data.flip, .window = c->data.crop == LUN_CROP_RANDOM},
                                     .label_dropout = c->data.label_dropout,
                                     .waiting = on_waiting,
                                     .payload = r};
    lun_feed *feed = NULL;
    lun_feed_batch batch = {0};
    lun_status status = LUN_OK;
    const double begun = lun_clock();
    LUN_TRY(lun_run_sample_missed(r));
    r->logged_at += lun_clock() - begun;
    LUN_TRY(lun_feed_start(&feeding, &feed));
    while (status == LUN_OK && !r->stop && lun_trainer_step(r->trainer) < r->last_step &&
           !(p->length.hours > 0 && r->spent + lun_clock() - r->started >= p->length.hours * 3600)) {
        LUN_TRY_GOTO(status, done, lun_feed_next(feed, &batch));
        if (!batch.images)
            break;
        if (batch.labels)
            LUN_TRY_GOTO(status, done, lun_trainer_labels(r->trainer, batch.labels));
        LUN_TRY_GOTO(status, done, lun_trainer_run(r->trainer, batch.images));
        if (r->health.again)
            LUN_TRY_GOTO(status, done, lun_run_judge(r, batch.images));
        const uint64_t step = lun_trainer_step(r->trainer);
        const bool last = step == r->last_step;
        const bool measure = r->holdout && !r->stop && (last || step % (per_epoch * (uint64_t)p->holdout_every) == 0);
        if (measure) {
            /* Its time is not training time. */
            LUN_TRY_GOTO(status, done, lun_run_drain(r));
            const double before = lun_clock();
            LUN_TRY_GOTO(status, done, lun_run_measure_holdout(r));
            r->logged_at += lun_clock() - before;
        }
        if (step % log_every == 0 || last || measure)
            LUN_TRY_GOTO(status, done, lun_run_log_line(r));
        /* Steps are only enqueued: waiting now and then keeps what is shown true, and a stop or the clock's end near.
         */
        else if (step % (LUN_TRAINER_RING / 2) == 0 || lun_clock() - r->drained_at >= LUN_RUN_SHOW_EVERY)
            LUN_TRY_GOTO(status, done, lun_run_drain(r));
        if (lun_clock() - r->shown >= LUN_RUN_SHOW_EVERY)
            lun_run_show(r, false, NULL);
        /* The time that a strip or a checkpoint takes is not training time. */
        if (!r->stop && p->sample_every > 0 && step % (per_epoch * (uint64_t)p->sample_every) == 0) {
            LUN_TRY_GOTO(status, done, lun_run_log_line(r));
            const double before = lun_clock();
            LUN_TRY_GOTO(status, done, lun_run_sample(r));
            r->logged_at += lun_clock() - before;
        }
        const bool asked = r->save && !r->stop;
        if (asked || (p->checkpoint_every > 0 && step % p->checkpoint_every == 0)) {
            LUN_TRY_GOTO(status, done, lun_run_log_line(r));
            const double before = lun_clock();
            LUN_TRY_GOTO(status, done, lun_run_save(r));
            r->logged_at += lun_clock() - before;
            r->save = false;
            if (asked)
                lun_log(LUN_LOG_INFO, "saved step %" PRIu64 " as asked", step);
        }
    }
    /* The clock has ended it: the last step was not known to be the last. */
    if (r->holdout && !r->stop && lun_trainer_step(r->trainer) > r->first_step &&
        r->holdout_step != lun_trainer_step(r->trainer))
        LUN_TRY_GOTO(status, done, lun_run_measure_holdout(r));
    LUN_TRY_GOTO(status, done, lun_run_log_line(r));
    LUN_TRY_GOTO(status, done, lun_run_save(r));
done:
    lun_feed_stop(&feed);
    return status;
}

static lun_status loop(lun_run *r)
{
    r->started = r->logged_at = r->drained_at = lun_clock();
    r->first_step = r->logged_step = lun_trainer_step(r->trainer);
    lun_status status = do_steps(r);
    while (status == LUN_ERR_DIVERGED) {
        status = lun_run_recover(r);
        if (status == LUN_OK)
            status = do_steps(r);
        else
            break;
    }
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

/* One try, on a device that is in order. */
static lun_status attempt(lun_run *r)
{
    r->config = &r->own;
    r->started = lun_clock();
    lun_status status = start(r);
    if (status == LUN_OK)
        status = loop(r);
    lun_run_unmake(r);
    lun_tuning_close(&r->tuning);
    lun_schedule_free(&r->schedule);
    lun_history_free(&r->history);
    lun_run_record_free(&r->record);
    free(r->pictures);
    lun_runfolder_close(r->folder);
    return status;
}

static lun_run begin(lun_device *dev, const lun_dataset *dataset, const lun_run_params *params)
{
    return (lun_run){.dev = dev,
                     .dataset = dataset,
                     .params = params,
                     .loss = NAN,
                     .holdout_loss = NAN,
                     .holdout_average = NAN,
                     .saved_step = UINT64_MAX};
}

/* A device that has failed is opened anew, and the run goes on from its newest checkpoint. */
lun_status lun_train_run(lun_device *dev, const lun_dataset *dataset, const lun_train_config *config,
                         const lun_run_params *params)
{
    lun_run_params now = *params;
    LUN_TRY(check_params(dataset, config, params));
    lun_run r = begin(dev, dataset, &now);
    r.own = *config;
    lun_status status = attempt(&r);
    uint64_t saved = r.saved_step;
    for (int failures = 1; status != LUN_OK && params->reopen && !r.stop && lun_device_state(dev) != LUN_OK;
         failures++) {
        char why[600];
        snprintf(why, sizeof why, "%s", lun_error_detail());
        if (failures > LUN_RUN_REOPENS)
            return lun_fail(status, "%s; the device has been opened anew %d times without a checkpoint in between", why,
                            LUN_RUN_REOPENS);
        lun_log(LUN_LOG_WARN, "%s; the device is opened anew, and the run goes on from its newest checkpoint", why);
        LUN_TRY(params->reopen(params->payload, &dev));
        const lun_run last = r;
        r = begin(dev, dataset, &now);
        r.own = *config;
        r.spent = last.spent + lun_clock() - last.started;
        r.health.faults = last.health.faults;
        r.health.fault_step = last.health.fault_step;
        r.health.rollbacks = last.health.rollbacks;
        if (status == LUN_ERR_MEMORY)
            snprintf(r.crowded, sizeof r.crowded, "%.390s", why);
        now.resume = lun_runfolder_holds_run(now.folder);
        if (now.resume) {
            now.init = NULL;
            LUN_TRY(lun_train_config_load(now.folder, &r.own, NULL));
        }
        status = attempt(&r);
        if (r.saved_step != saved)
            failures = 0;
        saved = r.saved_step;
    }
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
