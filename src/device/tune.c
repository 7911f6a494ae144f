/* Measuring candidates: see include/lunette/tune.h.
 *
 * An op at full size is what a step runs, so that is what is timed; candidates take turns, so that a busy moment of the
 * machine hits all of them, and the best of a few runs counts.
 *
 *   tune.c        the race of an op's candidates, and all ops in turn
 *   tune_probe.c  who is hopeless, found on small ops
 *   tune_trial.c  planning, running and checking one candidate
 *   tuning.c      the table of choices and its file */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/tune.h"
#include "lower/accuracy.h"
#include "tune_trial.h"

#define SECONDS  50.0
#define ROUNDS   3
#define TOO_SLOW 1.6 /* times the fastest, in the best of two runs: not timed again */

/* ---- One op ---- */

/* The first of the direct class, that the others are held against; NULL when it cannot be run. */
static contender *pick_reference(const lun_op *op, contender *trials, int count)
{
    for (int i = 0; i < count; i++) {
        if (trials[i].plan && lun_amplification(op, trials[i].name) == 1)
            return &trials[i];
    }
    return NULL;
}

/* Run each once, and hold the results against the reference's. */
static lun_status warm_up(tuner *t, const task *job, contender *trials, int count, contender *reference)
{
    double fastest = INFINITY;
    LUN_TRY(lun_tuner_first_run(t, job, reference));
    LUN_TRY(lun_tuner_keep_reference(t, job));
    LUN_TRY(lun_tuner_check(t, job, reference, reference->name)); /* NaNs in it, or nothing but zeros */
    for (int i = 0; i < count && !t->stop; i++) {
        contender *one = &trials[i];
        if (!one->plan)
            continue;
        lun_status status = LUN_OK;
        if (one != reference) {
            if (lun_tuner_show(t, one->name))
                break;
            status = lun_tuner_first_run(t, job, one);
            if (status == LUN_OK)
                status = lun_tuner_check(t, job, one, reference->name);
        }
        /* A first run may have compiled, touched its memory for the first time, or been interrupted. */
        if (status == LUN_OK && !one->wrong && one->best > TOO_SLOW * fastest)
            status = lun_tuner_run_again(t, one, job->op.kept);
        if (status != LUN_OK) {
            if (one == reference || !lun_tuner_only_this(t, status))
                return status;
            lun_tuner_give_up(one);
            continue;
        }
        if (one->wrong)
            continue;
        one->slow = one->best > TOO_SLOW * fastest;
        fastest = fmin(fastest, one->best);
    }
    return LUN_OK;
}

/* Rounds in which the candidates still in question take turns, until one leads clearly or the time is used up. */
static lun_status race(tuner *t, const task *job, contender *trials, int count, double allowed)
{
    const double begin = t->clock();
    for (int round = 0; round < ROUNDS && !t->stop; round++) {
        double fastest = INFINITY;
        int left = 0;
        for (int i = 0; i < count; i++) {
            if (!trials[i].plan || trials[i].wrong || trials[i].slow)
                continue;
            LUN_TRY(lun_tuner_run_again(t, &trials[i], job->op.kept));
            fastest = fmin(fastest, trials[i].best);
        }
        for (int i = 0; i < count; i++) {
            if (!trials[i].plan || trials[i].wrong || trials[i].slow)
                continue;
            trials[i].slow = trials[i].best > (round == 0 ? 1.5 : 1.15) * fastest;
            left += !trials[i].slow;
        }
        if ((left < 2 && round > 0) || t->clock() - begin > allowed)
            break;
    }
    return LUN_OK;
}

static const contender *choose(const contender *trials, int count)
{
    const contender *chosen = NULL;
    for (int i = 0; i < count; i++) {
        if (trials[i].plan && !trials[i].wrong && trials[i].best > 0 && (!chosen || trials[i].best < chosen->best))
            chosen = &trials[i];
    }
    return chosen;
}

static void tell(const tuner *t, const task *job, const contender *trials, int count, const char *chosen,
                 bool remembered)
{
    lun_tune_try tries[MAX_TRIALS];
    for (int i = 0; i < count; i++)
        tries[i] = (lun_tune_try){trials[i].name, trials[i].best, trials[i].error, trials[i].bound,
                                  trials[i].note[0] ? trials[i].note : NULL};
    const lun_tune_result result = {.kind = lun_op_info_of(job->op.op.kind)->name,
                                    .description = job->text,
                                    .count = job->count,
                                    .flops = job->flops,
                                    .bytes = job->bytes,
                                    .chosen = chosen,
                                    .remembered = remembered,
                                    .tries = tries,
                                    .tries_count = count};
    if (t->params->result)
        t->params->result(t->params->payload, &result);
}

static lun_status measure(tuner *t, const task *job, contender *trials, int count, double allowed, lun_tuning *tuning)
{
    contender *reference = pick_reference(&job->op.op, trials, count);
    if (!reference || count < 2) /* nothing to choose, or nothing to hold it against: the device's own choice stays */
        return LUN_OK;
    LUN_TRY(warm_up(t, job, trials, count, reference));
    if (reference->wrong)
        return LUN_OK;
    LUN_TRY(race(t, job, trials, count, allowed));
    if (t->stop)
        return LUN_OK;
    lun_tuner_note_hopeless(t, &job->op.op, trials, count);
    const contender *chosen = choose(trials, count);
    if (!chosen)
        return LUN_OK;
    LUN_TRY(lun_tuning_set(tuning, job->text, chosen->name, chosen->best));
    tell(t, job, trials, count, chosen->name, false);
    return LUN_OK;
}

static lun_status tune_job(tuner *t, const task *job, int left, lun_tuning *tuning)
{
    contender trials[MAX_TRIALS];
    int count = 0;
    LUN_TRY(lun_tuner_probe(t, &job->op));
    if (t->stop)
        return LUN_OK;
    lun_status status = lun_tuner_plan(t, &job->op.op, false, trials, &count);
    /* A fair share of the time that is left, and more for the ops that come first, which cost most. */
    const double allowed = fmax(0.05, 2 * (t->budget - (t->clock() - t->started)) / left);
    if (status == LUN_OK)
        status = measure(t, job, trials, count, allowed, tuning);
    lun_tuner_unplan(trials, count);
    return status;
}

/* ---- All ops ---- */

static bool has_choice(const lun_op *op)
{
    const lun_candidate *c = lun_candidates(op->kind);
    return c[0].name && c[1].name && isfinite(lun_error_bound(op, c[0].name, c[0].name));
}

static int by_cost(const void *a, const void *b)
{
    const task *x = a, *y = b;
    const double left = x->count * x->flops, right = y->count * y->flops;
    return left != right ? (left < right) - (left > right) : strcmp(x->text, y->text);
}

/* Every op that has a choice, once. */
static size_t gather(const lun_tune_op *ops, size_t count, task *jobs)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (!has_choice(&ops[i].op))
            continue;
        char text[LUN_TUNE_TEXT];
        lun_tune_describe(&ops[i], text);
        size_t k = 0;
        while (k < used && strcmp(jobs[k].text, text) != 0)
            k++;
        if (k == used) {
            jobs[used] = (task){.op = ops[i]};
            memcpy(jobs[used].text, text, sizeof text);
            lun_op_cost(&ops[i].op, &jobs[used].flops, &jobs[used].bytes);
            used++;
        }
        jobs[k].count++;
    }
    return used;
}

/* Move what is known already behind the rest, and say it; returns how many are to be measured. */
static size_t set_aside(const tuner *t, task *jobs, size_t count, const lun_tuning *tuning)
{
    size_t open = 0;
    for (size_t j = 0; j < count; j++) {
        const char *known = t->params->force ? NULL : lun_tuning_candidate(tuning, jobs[j].text);
        if (known) {
            const contender one = {
                .name = known, .best = lun_tuning_seconds(tuning, jobs[j].text), .error = NAN, .bound = NAN};
            tell(t, &jobs[j], &one, 1, known, true);
            continue;
        }
        const task swap = jobs[open];
        jobs[open++] = jobs[j];
        jobs[j] = swap;
    }
    return open;
}

static lun_status tune_jobs(tuner *t, const task *jobs, size_t count, lun_tuning *tuning)
{
    lun_status status = lun_tuner_make_buffers(t, jobs, count);
    if (status == LUN_ERR_MEMORY) {
        lun_log(LUN_LOG_WARN, "too little memory for tuning: %s", lun_error_detail());
        return LUN_OK;
    }
    t->progress.ops = (int)count;
    for (size_t j = 0; j < count && status == LUN_OK; j++) {
        t->progress.op = (int)j;
        t->progress.description = jobs[j].text;
        if (lun_tuner_show(t, ""))
            break;
        if (t->clock() - t->started > t->budget) {
            lun_log(LUN_LOG_INFO,
                    "tuning: %.0f s are used up; %zu of %zu ops keep the device's own choice ('lunette tune --seconds' "
                    "takes longer)",
                    t->budget, count - j, count);
            break;
        }
        status = tune_job(t, &jobs[j], (int)(count - j), tuning);
        /* Only the op at turn has failed: its candidates need more memory than there is. */
        if (status == LUN_ERR_MEMORY && t->dev->lost == LUN_OK) {
            lun_log(LUN_LOG_WARN, "%s is not tuned: %s", jobs[j].text, lun_error_detail());
            status = LUN_OK;
        }
    }
    return status;
}

lun_status lun_tune_ops_by(lun_device *dev, const lun_tune_op *ops, size_t count, const lun_tune_params *params,
                           lun_tuning *tuning, double (*clock)(void))
{
    if (!dev || !params || !tuning)
        return lun_fail(LUN_ERR_INTERNAL, "tuning: no device, parameters or table");
    if (!lun_tunable(dev) || count == 0)
        return LUN_OK;
    task *jobs = lun_calloc(count, sizeof *jobs, "tuning");
    tuner *t = lun_calloc(1, sizeof *t, "tuning");
    lun_status status = jobs && t ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK) {
        t->dev = dev;
        t->params = params;
        t->clock = clock;
        t->started = clock();
        t->budget = params->seconds > 0 ? params->seconds : SECONDS;
        size_t open = gather(ops, count, jobs);
        qsort(jobs, open, sizeof *jobs, by_cost);
        open = set_aside(t, jobs, open, tuning);
        if (open > 0) {
            status = tune_jobs(t, jobs, open, tuning);
            lun_tuner_free_buffers(t);
            lun_tuning_keep(tuning);
        }
    }
    free(t);
    free(jobs);
    return status;
}

lun_status lun_tune_ops(lun_device *dev, const lun_tune_op *ops, size_t count, const lun_tune_params *params,
                        lun_tuning *tuning)
{
    return lun_tune_ops_by(dev, ops, count, params, tuning, lun_clock);
}
