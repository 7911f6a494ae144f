/* What a run looks at now and then: the loss of the held-out pictures, and a strip of samples. Both read the weights
 * and write nothing that training reads. */
#include "run.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"

lun_status lun_run_make_holdout(lun_run *r)
{
    const lun_compile_params compile = {.allow_fallback = r->params->allow_fallback, .tuning = r->tuning};
    if (r->held_count == 0 || r->params->holdout_every <= 0)
        return LUN_OK;
    return lun_holdout_create(r->dev, lun_trainer_store(r->trainer), r->config, r->dataset, r->pictures, r->held_count,
                              &compile, &r->holdout);
}

/* Reads the weights and writes nothing that training reads. The next log line tells the result. */
lun_status lun_run_measure_holdout(lun_run *r)
{
    lun_run_show(r, false, "measuring the held-out pictures");
    LUN_TRY(lun_holdout_measure(r->holdout, false, &r->holdout_loss));
    if (lun_holdout_averages(r->holdout))
        LUN_TRY(lun_holdout_measure(r->holdout, true, &r->holdout_average));
    r->holdout_step = lun_trainer_step(r->trainer);
    if (!isfinite(r->holdout_loss)) /* as with a strip: the losses of training tell whether it is lost */
        lun_log(LUN_LOG_WARN, "the held-out pictures' loss after step %" PRIu64 " is not finite", r->holdout_step);
    return LUN_OK;
}

static bool draws_average(const lun_run *r)
{
    return r->config->ema_count > 0 && !r->params->raw_samples;
}

#define STRIP_PANELS 10

typedef struct strip {
    lun_run *run;
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
    if (lun_clock() - s->run->shown >= LUN_RUN_SHOW_EVERY)
        lun_run_show(s->run, false, "sampling");
    return s->run->stop;
}

lun_status lun_run_make_sampler(lun_run *r)
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

static char *strip_path(const lun_run *r)
{
    const uint64_t epoch = lun_trainer_step(r->trainer) / lun_trainer_steps_per_epoch(r->trainer);
    return lun_format("%s/samples/epoch-%05" PRIu64 ".png", r->params->folder, epoch);
}

lun_status lun_run_sample_missed(lun_run *r)
{
    const uint64_t step = lun_trainer_step(r->trainer);
    const int every = r->params->sample_every;
    if (!r->sampler || step == 0 || every < 1 ||
        step % (lun_trainer_steps_per_epoch(r->trainer) * (uint64_t)every) != 0)
        return LUN_OK;
    char *path = strip_path(r);
    if (!path)
        return LUN_ERR_MEMORY;
    const bool there = lun_file_exists(path);
    free(path);
    return there ? LUN_OK : lun_run_sample(r);
}

/* samples/epoch-00005.png: one picture, ten panels along the reverse process. Sampling reads the weights and writes
 * nothing that training reads. */
lun_status lun_run_sample(lun_run *r)
{
    const lun_train_config *c = r->config;
    const uint64_t epoch = lun_trainer_step(r->trainer) / lun_trainer_steps_per_epoch(r->trainer);
    lun_run_show(r, false, "sampling");
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
    char *path = strip_path(r);
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
