/* What becomes of a run whose numbers break: see LUN_RUN_FAULTS and what follows it in run.h. The device has let
 * nothing be updated then (lun_graph_health), so the trainer still has the values of before the step. */
#include "run.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/base.h"

lun_status lun_run_watch_loss(lun_run *r, uint64_t step, double loss)
{
    lun_run_health *h = &r->health;
    double mean = 0, square = 0;
    for (int i = 0; i < LUN_RUN_WINDOW; i++)
        mean += h->window[i] / LUN_RUN_WINDOW;
    for (int i = 0; i < LUN_RUN_WINDOW; i++)
        square += (h->window[i] - mean) * (h->window[i] - mean) / LUN_RUN_WINDOW;
    const double above = (loss - mean) / sqrt(square);
    const bool known = h->window_count >= LUN_RUN_WINDOW;
    /* Once in a window: what is out of line for longer is said once. */
    const bool said = h->spike_said_at > 0 && h->window_count - h->spike_said_at < LUN_RUN_WINDOW;
    h->window[h->window_count++ % LUN_RUN_WINDOW] = loss;
    if (!known || said || !(above > LUN_RUN_SPIKE))
        return LUN_OK;
    h->spike_said_at = h->window_count;
    return lun_run_event(
        r, step, "the loss of step %" PRIu64 ", %.4g, is %.1f standard deviations above the mean of the last %d, %.4g",
        step, loss, above, LUN_RUN_WINDOW, mean);
}

/* NaN is one number here. */
static bool same_number(float a, float b)
{
    return a == b || (isnan(a) && isnan(b));
}

static bool same_answer(const lun_step_report *a, const lun_step_report *b)
{
    return same_number(a->loss, b->loss) && same_number(a->grad_norm, b->grad_norm);
}

/* Step `step`, one of those done, has had two answers. */
static lun_status note_fault(lun_run *r, uint64_t step)
{
    lun_run_health *h = &r->health;
    h->faults = h->faults > 0 && step - h->fault_step < LUN_RUN_FAULT_SPAN ? h->faults + 1 : 1;
    h->fault_step = step;
    if (h->faults >= LUN_RUN_FAULTS)
        return lun_fail(LUN_ERR_DEVICE,
                        "step %" PRIu64
                        " had two answers from the same numbers, case %d within %d steps: %s or its memory "
                        "errs",
                        step, h->faults, LUN_RUN_FAULT_SPAN, lun_device_get_info(r->dev)->name);
    return lun_run_event(r, step - 1,
                         "step %" PRIu64 " had two answers from the same numbers, first loss %g and gradient norm %g: "
                         "%s or its memory errs; the run goes on",
                         step, (double)h->first.loss, (double)h->first.grad_norm, lun_device_get_info(r->dev)->name);
}

lun_status lun_run_judge(lun_run *r, const float *images)
{
    lun_run_health *h = &r->health;
    for (;;) {
        const lun_status status = lun_run_drain(r);
        const uint64_t step = lun_trainer_step(r->trainer);
        if (status == LUN_OK) {
            h->again = false;
            return note_fault(r, step);
        }
        if (status != LUN_ERR_DIVERGED || same_answer(&h->first, &h->other))
            break;
        LUN_TRY(note_fault(r, step + 1));
        h->first = h->other;
        LUN_TRY(lun_trainer_run(r->trainer, images));
    }
    if (!h->unsound)
        return LUN_ERR_INTERNAL; /* not reached: only a step that was not finite comes here */
    char what[400];
    LUN_TRY(lun_trainer_trace(r->trainer, images, what, sizeof what));
    return lun_fail(LUN_ERR_DIVERGED, "the %s of step %" PRIu64 " is not finite%s%s",
                    isfinite(h->other.loss) ? "gradient" : "loss", lun_trainer_step(r->trainer) + 1,
                    what[0] ? ", and of its values first " : "", what);
}

/* The trainer as the newest checkpoint has it, or as it began. */
static lun_status go_back(lun_run *r)
{
    lun_checkpoint newest;
    LUN_TRY(lun_runfolder_newest(r->params->folder, true, &newest));
    const lun_status status = newest.weights ? lun_run_load(r, &newest) : lun_trainer_restart(r->trainer);
    r->saved_step = newest.weights ? newest.step : UINT64_MAX;
    lun_checkpoint_free(&newest);
    return status;
}

lun_status lun_run_recover(lun_run *r)
{
    lun_run_health *h = &r->health;
    const uint64_t bad = lun_trainer_step(r->trainer) + 1, position = lun_trainer_position(r->trainer);
    char why[600];
    snprintf(why, sizeof why, "%s", lun_error_detail());
    if (h->unsound && !h->again) {
        h->unsound = false;
        h->again = true;
        h->first = h->other;
        lun_log(LUN_LOG_WARN, "%s (loss %g, gradient norm %g); nothing was updated, and the step is done again", why,
                (double)h->first.loss, (double)h->first.grad_norm);
        return LUN_OK;
    }
    h->unsound = h->again = false;
    if (h->rollbacks >= LUN_RUN_ROLLBACKS)
        return lun_fail(LUN_ERR_DIVERGED, "%s; the run has gone back %d times", why, h->rollbacks);
    h->rollbacks++;
    LUN_TRY(go_back(r));
    const uint64_t step = lun_trainer_step(r->trainer);
    lun_trainer_skip(r->trainer, position + LUN_RUN_SKIP - lun_trainer_position(r->trainer));
    LUN_TRY(lun_runfolder_truncate_log(r->folder, step));
    lun_history_cut(&r->history, step);
    r->loss_sum = r->norm_sum = 0;
    r->loss_count = h->window_count = h->spike_said_at = 0;
    r->logged_step = step;
    r->logged_at = lun_clock();
    return lun_run_event(r, step,
                         "%s; the run goes back from step %" PRIu64 " to %" PRIu64
                         " and on with other pictures and noise (%d of %d times)",
                         why, bad, step, h->rollbacks, LUN_RUN_ROLLBACKS);
}
