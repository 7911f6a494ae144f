/* What a run computes with: trainer, held-out pictures, sampler; in less memory where there is too little. */
#include <stdio.h>

#include "base/base.h"
#include "base/memory.h"
#include "run.h"
#include "vetting.h"

static int on_tune(void *payload, const lun_tune_progress *progress)
{
    lun_run *r = payload;
    const lun_tune_params *tuner = r->params->tuner;
    if (tuner && tuner->progress && tuner->progress(tuner->payload, progress))
        r->stop = true;
    return r->stop;
}

static void on_tuned(void *payload, const lun_tune_result *result)
{
    const lun_run *r = payload;
    const lun_tune_params *tuner = r->params->tuner;
    if (tuner && tuner->result)
        tuner->result(tuner->payload, result);
}

/* measure: what is not remembered, where the run's mode asks for it. */
static lun_status make_trainer(lun_run *r, json_t *pins, bool measure)
{
    const lun_run_params *p = r->params;
    const lun_tune_params tune = {.force = p->tune == LUN_TUNE_FORCE,
                                  .seconds = p->tuner ? p->tuner->seconds : 0,
                                  .progress = on_tune,
                                  .result = on_tuned,
                                  .payload = r};
    if (p->tune != LUN_TUNE_OFF && !r->tuning)
        LUN_TRY(lun_tuning_open(r->dev, &r->tuning));
    measure = measure && (p->tune == LUN_TUNE_AUTO || p->tune == LUN_TUNE_FORCE);
    const lun_compile_params compile = {.allow_fallback = p->allow_fallback,
                                        .pin = pins ? lun_run_pinned : NULL,
                                        .payload = pins,
                                        .tuning = r->tuning,
                                        .tune = measure ? &tune : NULL};
    return lun_trainer_create(r->dev, r->config, r->train_count, &compile, &r->trainer);
}

/* Checking holds the run twice, on the device and in plain C, and each operand once more on its way between them: 2.7
 * times the run's memory for the notebook network. */
static bool room_to_vet(const lun_run *r)
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
static lun_status vet_kernels(lun_run *r)
{
    json_t *kernels = json_object(), *detours = NULL;
    if (!kernels)
        return lun_fail(LUN_ERR_MEMORY, "out of memory (a list of kernels)");
    lun_trainer_visit(r->trainer, lun_run_note_candidate, kernels);
    lun_status status = LUN_OK;
    if (!lun_vetted(r->dev, r->config, kernels) && room_to_vet(r)) {
        lun_trainer_destroy(&r->trainer); /* its memory may be needed */
        status = lun_vet(r->dev, r->config, kernels, &detours);
        if (status == LUN_OK) /* with what has been vetted: measuring might choose others */
            status = make_trainer(r, detours, false);
    }
    json_decref(detours);
    json_decref(kernels);
    return status;
}

/* Trainer and what goes with it. All is compiled before the first step, so that what cannot be computed is refused
 * before hours are spent, and before there is a run. trial: to see whether there is memory for it. */
static lun_status make(lun_run *r, bool trial)
{
    const lun_run_params *p = r->params;
    LUN_TRY(make_trainer(r, r->pin ? r->record.candidates : NULL, !trial));
    if (r->pin)
        lun_run_warn_unrecorded(r);
    else if (p->vet && !trial && !r->stop)
        LUN_TRY(vet_kernels(r));
    LUN_TRY(lun_run_make_holdout(r));
    if (p->sample_every > 0 && r->last_step / lun_trainer_steps_per_epoch(r->trainer) >= (uint64_t)p->sample_every)
        LUN_TRY(lun_run_make_sampler(r));
    return LUN_OK;
}

void lun_run_unmake(lun_run *r)
{
    lun_holdout_destroy(&r->holdout);
    lun_sampler_destroy(&r->sampler);
    lun_trainer_destroy(&r->trainer);
}

/* Did memory run out in a way that leaves the device in order? */
static bool lacks_memory(const lun_run *r, lun_status status)
{
    return status == LUN_ERR_MEMORY && lun_device_state(r->dev) == LUN_OK;
}

/* Does the network normalise by the statistics of a batch? It then has running ones. */
static lun_status find_batch_norms(const lun_train_config *c, bool *has)
{
    lun_store *store = NULL;
    lun_graph *graph = NULL;
    lun_step_values values;
    *has = false;
    lun_status status = lun_store_create(&store);
    if (status == LUN_OK)
        status = lun_graph_create(store, &graph);
    if (status == LUN_OK)
        status = lun_step_record(graph, c, 1, &values);
    for (size_t i = 0; status == LUN_OK && i < lun_store_count(store); i++)
        *has = *has || lun_store_info(store, i)->role == LUN_ROLE_BUFFER;
    lun_graph_destroy(&graph);
    lun_store_destroy(&store);
    return status;
}

/* The next larger number of parts that leaves at most half as many pictures in one, rounded up; 0: there is none. */
static int more_parts(const lun_train_config *c)
{
    const int now = c->batch / c->accumulate;
    for (int parts = c->accumulate + 1; parts <= c->batch; parts++)
        if (c->batch % parts == 0 && c->batch / parts <= (now + 1) / 2)
            return parts;
    return 0;
}

/* The batch in more parts, until they fit: the same result within rounding. */
static lun_status make_in_parts(lun_run *r, const char *why)
{
    const int before = r->own.batch / r->own.accumulate;
    lun_status status = LUN_ERR_MEMORY;
    while (lacks_memory(r, status)) {
        const int parts = more_parts(&r->own);
        if (parts == 0)
            return lun_fail(LUN_ERR_MEMORY, "%s; there is not even room for one picture at a time", why);
        r->own.accumulate = parts;
        lun_run_unmake(r);
        status = make(r, false);
    }
    LUN_TRY(status);
    r->record.config.accumulate = r->own.accumulate;
    lun_log(LUN_LOG_WARN,
            "%s; there is no room for %d pictures at a time: each batch of %d is computed in %d parts of %d, with the "
            "same result within rounding (--accumulate %d)",
            why, before, r->own.batch, r->own.accumulate, r->own.batch / r->own.accumulate, r->own.accumulate);
    return LUN_OK;
}

/* Parts would be another computation: say which batch there is room for. */
static lun_status name_batch(lun_run *r, const char *why)
{
    const int wanted = r->own.batch;
    lun_status status = LUN_ERR_MEMORY;
    while (lacks_memory(r, status) && r->own.batch > r->own.accumulate) {
        r->own.batch = r->own.batch / 2 / r->own.accumulate * r->own.accumulate;
        if (r->own.batch == 0)
            r->own.batch = r->own.accumulate;
        lun_run_unmake(r);
        status = make(r, true);
    }
    lun_run_unmake(r);
    if (lacks_memory(r, status))
        return lun_fail(LUN_ERR_MEMORY, "%s; there is no room for a smaller batch either", why);
    LUN_TRY(status);
    return lun_fail(LUN_ERR_MEMORY,
                    "%s; this network has batch norms, so that a batch of %d in parts would be another computation; "
                    "there is room for --batch %d",
                    why, wanted, r->own.batch);
}

lun_status lun_run_make(lun_run *r)
{
    char why[400];
    bool norms = false;
    LUN_TRY(find_batch_norms(r->config, &norms));
    /* A device that gives memory only when it is used has said so too late; with batch norms it gets another chance. */
    const bool known = r->crowded[0] && !norms;
    lun_status status = known ? lun_fail(LUN_ERR_MEMORY, "%s", r->crowded) : make(r, false);
    if (lacks_memory(r, status)) {
        snprintf(why, sizeof why, "%s", lun_error_detail());
        r->pin = false; /* other shapes have other kernels */
        status = norms ? name_batch(r, why) : make_in_parts(r, why);
    }
    LUN_TRY(status);
    lun_trainer_warn(r->trainer);
    return LUN_OK;
}
