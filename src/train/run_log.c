/* What a run says on the way: log.jsonl, and the progress that its caller is shown. */
#include "run.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"

static double elapsed(const lun_run *r)
{
    return r->elapsed_before + lun_clock() - r->started;
}

void lun_run_show(lun_run *r, bool logged, const char *event)
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
        const double left = r->params->length.hours * 3600 - r->spent - (now - r->started);
        if (!(p.left_s < left))
            p.left_s = left > 0 ? left : 0;
    }
    r->shown = now;
    const int wish = r->params->progress(r->params->payload, &p);
    r->stop = r->stop || wish & LUN_RUN_STOP;
    r->save = r->save || wish & LUN_RUN_SAVE;
}

/* Take the earlier starts' log lines into the chart's history; also the time they took. */
lun_status lun_run_read_history(lun_run *r)
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
        const lun_status parsed = lun_json_parse(from, line, length, &lun_json_usual, &object);
        if (parsed == LUN_ERR_MEMORY)
            status = parsed; /* and not a line that is wrong */
        if (parsed == LUN_OK && lun_json_get_real(from, object, "step", 0, 1e15, &step) == LUN_OK &&
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

lun_status lun_run_event(lun_run *r, uint64_t step, const char *format, ...)
{
    char text[900];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    lun_log(LUN_LOG_WARN, "%s", text);
    json_t *line = json_pack("{s:o, s:s}", "step", lun_json_u64(step), "event", text);
    char *packed = line ? lun_json_text(line, 0) : NULL;
    json_decref(line);
    if (!packed)
        return lun_fail(LUN_ERR_MEMORY, "out of memory (log.jsonl)");
    const lun_status status = lun_runfolder_append_log(r->folder, packed);
    free(packed);
    return status;
}

lun_status lun_run_drain(lun_run *r)
{
    lun_step_report reports[LUN_TRAINER_RING];
    int count = 0;
    do { /* a step that is not finite is told of by a call of its own */
        const lun_status status = lun_trainer_reports(r->trainer, reports, &count);
        if (status == LUN_ERR_DIVERGED) {
            r->health.unsound = true;
            LUN_TRY(lun_trainer_rewind(r->trainer, &r->health.other));
            return lun_fail(status, "the %s of step %" PRIu64 " is not finite",
                            isfinite(r->health.other.loss) ? "gradient" : "loss", lun_trainer_step(r->trainer) + 1);
        }
        LUN_TRY(status);
        const uint64_t done = lun_trainer_drained(r->trainer);
        for (int i = 0; i < count; i++) {
            r->loss_sum += (double)reports[i].loss;
            r->norm_sum += (double)reports[i].grad_norm;
            r->lr = reports[i].lr;
            LUN_TRY(lun_run_watch_loss(r, done - (uint64_t)(count - 1 - i), (double)reports[i].loss));
        }
        r->loss_count += (uint64_t)count;
    } while (count > 0);
    r->drained_at = lun_clock();
    return LUN_OK;
}

/* What is not finite is left out of a line. */
static json_t *known(double value)
{
    return isfinite(value) ? lun_json_real(value) : NULL;
}

lun_status lun_run_log_line(lun_run *r)
{
    LUN_TRY(lun_run_drain(r));
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
    char *text = lun_json_text(line, 0);
    json_decref(line);
    if (!text)
        return LUN_ERR_MEMORY;
    lun_status status = lun_runfolder_append_log(r->folder, text);
    free(text);
    if (status == LUN_OK)
        status = lun_history_add(&r->history, &kept);
    if (status == LUN_OK)
        lun_run_show(r, true, NULL);
    return status;
}
