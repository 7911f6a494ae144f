/* Presets, and what a training configuration may be. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <lunette/preset.h>

#include "base/base.h"
#include "config.h"

static bool is(const char *name, const char *other)
{
    return name && strcmp(name, other) == 0;
}

lun_status lun_train_preset(const char *name, lun_train_config *out)
{
    lun_preset p;
    LUN_TRY(lun_preset_named(name, &p));
    lun_train_config config = {.model = p.model,
                               .height = p.height,
                               .width = p.width,
                               .beta_first = p.beta_first,
                               .beta_last = p.beta_last,
                               .loss = p.loss,
                               .huber_delta = 1.0f,
                               .min_snr = p.min_snr,
                               .bound_scale = 1,
                               .batch = p.batch,
                               .accumulate = 1,
                               .optimizer = is(p.optimizer, "adamw") ? LUN_ADAMW : LUN_ADAM,
                               .lr = p.lr,
                               .beta1 = p.beta1,
                               .beta2 = p.beta2,
                               .eps = p.eps,
                               .weight_decay = p.weight_decay,
                               .warmup = p.warmup,
                               .clip_norm = p.clip_norm,
                               .ema_count = p.ema > 0,
                               .ema_rate = {p.ema},
                               .ema_warmup = is(p.ema_warmup, "power") ? LUN_EMA_WARMUP_POWER : LUN_EMA_WARMUP_NONE,
                               .seed = 0,
                               .data = {.crop = is(p.crop, "centre") ? LUN_CROP_CENTRE : LUN_CROP_STRETCH,
                                        .flip = p.flip,
                                        .labels = p.labels}};
    for (int i = 0; i < LUN_SCHEDULE_KINDS; i++)
        if (is(p.schedule, lun_schedule_kind_name((lun_schedule_kind)i)))
            config.schedule = (lun_schedule_kind)i;
    for (int i = 0; i < LUN_PREDICTIONS; i++)
        if (is(p.prediction, lun_prediction_name((lun_prediction)i)))
            config.prediction = (lun_prediction)i;
    snprintf(config.preset, sizeof config.preset, "%s", p.name);
    *out = config;
    return LUN_OK;
}

/* Steps that a double counts exactly. */
#define MOST_STEPS ((uint64_t)1 << 52)

static lun_status check_schedule(const lun_train_config *c)
{
    if ((unsigned)c->optimizer > LUN_ADAMW)
        return lun_fail(LUN_ERR_USAGE, "there is no optimiser number %d", (int)c->optimizer);
    if ((unsigned)c->decay > LUN_DECAY_COSINE)
        return lun_fail(LUN_ERR_USAGE, "there is no decay number %d", (int)c->decay);
    if (c->warmup > MOST_STEPS || c->decay_steps > MOST_STEPS)
        return lun_fail(LUN_ERR_USAGE, "warm-up of %" PRIu64 " steps, decay to step %" PRIu64 ": too many", c->warmup,
                        c->decay_steps);
    if (c->decay == LUN_DECAY_CONSTANT && c->decay_steps != 0)
        return lun_fail(LUN_ERR_USAGE, "a constant learning rate has no step at which its decay ends");
    if (c->decay != LUN_DECAY_CONSTANT && c->decay_steps != 0 && c->decay_steps <= c->warmup)
        return lun_fail(LUN_ERR_USAGE, "the decay ends at step %" PRIu64 ", before the warm-up of %" PRIu64 " steps",
                        c->decay_steps, c->warmup);
    if (!(c->lr_end >= 0 && c->lr_end <= c->lr))
        return lun_fail(LUN_ERR_USAGE, "the learning rate decays from %g to %g: the end must be 0 to %g", c->lr,
                        c->lr_end, c->lr);
    if (!(c->clip_norm >= 0 && c->clip_norm <= FLT_MAX) || (c->clip_norm > 0 && !((float)c->clip_norm > 0)))
        return lun_fail(LUN_ERR_USAGE, "the gradient's norm clipped at %g: must be finite and above 0, or 0 for never",
                        c->clip_norm);
    return LUN_OK;
}

static lun_status check_averages(const lun_train_config *c)
{
    char text[LUN_RATE_TEXT];
    if (c->ema_count < 0 || c->ema_count > LUN_MAX_EMA)
        return lun_fail(LUN_ERR_USAGE, "%d moving averages: must be 0 to %d", c->ema_count, LUN_MAX_EMA);
    if ((unsigned)c->ema_warmup > LUN_EMA_WARMUP_RAMP)
        return lun_fail(LUN_ERR_USAGE, "there is no warm-up number %d of moving averages", (int)c->ema_warmup);
    for (int i = 0; i < c->ema_count; i++) {
        if (!lun_rate_text(c->ema_rate[i], text) || !((float)(1 - c->ema_rate[i]) > 0))
            return lun_fail(LUN_ERR_USAGE,
                            "a moving average's rate %.17g: must be above 0 and below 1, with at most 15 decimals",
                            c->ema_rate[i]);
        for (int j = 0; j < i; j++)
            if (c->ema_rate[i] == c->ema_rate[j])
                return lun_fail(LUN_ERR_USAGE, "the moving average's rate %s is given twice", text);
    }
    return LUN_OK;
}

static lun_status check_objective(const lun_train_config *c)
{
    if (!lun_schedule_kind_name(c->schedule) || !lun_prediction_name(c->prediction))
        return lun_fail(LUN_ERR_USAGE, "there is no schedule number %d or no prediction number %d", (int)c->schedule,
                        (int)c->prediction);
    if (!(c->beta_first > 0 && c->beta_first <= c->beta_last && c->beta_last < 1))
        return lun_fail(LUN_ERR_USAGE, "schedule %g to %g: needs 0 < first <= last < 1", c->beta_first, c->beta_last);
    if (c->schedule == LUN_SCHEDULE_SCALED && !(c->beta_last * 1000 / c->model.steps < 1))
        return lun_fail(LUN_ERR_USAGE, "schedule %g to %g, scaled to %d steps, ends at %g: must be below 1",
                        c->beta_first, c->beta_last, c->model.steps, c->beta_last * 1000 / c->model.steps);
    if ((unsigned)c->loss > LUN_HUBER)
        return lun_fail(LUN_ERR_USAGE, "there is no loss number %d", (int)c->loss);
    if (!isfinite(c->huber_delta) || (c->loss == LUN_HUBER && !(c->huber_delta > 0)))
        return lun_fail(LUN_ERR_USAGE, "Huber delta %g: must be finite and above 0", (double)c->huber_delta);
    if (!(c->min_snr >= 0 && c->min_snr <= FLT_MAX) || (c->min_snr > 0 && !((float)c->min_snr > 0)))
        return lun_fail(LUN_ERR_USAGE, "min-SNR gamma %g: must be finite and above 0, or 0 for no weights", c->min_snr);
    if (!(c->bound_scale >= 0 && c->bound_scale <= FLT_MAX))
        return lun_fail(LUN_ERR_USAGE, "bound scale %g: must be finite and at least 0", c->bound_scale);
    return LUN_OK;
}

static lun_status check_labels(const lun_train_config *c)
{
    if (c->data.labels && c->model.classes == 0)
        return lun_fail(LUN_ERR_USAGE, "labels: the network of preset %s takes no classes", c->preset);
    if (!c->data.labels && c->model.classes > 0)
        return lun_fail(LUN_ERR_USAGE, "a network with %d classes is trained with labels", c->model.classes);
    if (c->data.label_dropout > 0 && !c->model.null_class)
        return lun_fail(LUN_ERR_USAGE, "label dropout %g: the network has no label for none", c->data.label_dropout);
    return LUN_OK;
}

lun_status lun_train_config_check(const lun_train_config *c)
{
    LUN_TRY(lun_model_config_check(&c->model, c->height, c->width));
    if (!memchr(c->preset, 0, sizeof c->preset))
        return lun_fail(LUN_ERR_USAGE, "the preset's name does not end");
    if (c->height > 4096 || c->width > 4096)
        return lun_fail(LUN_ERR_USAGE, "pictures of %d x %d: at most 4096 a side", c->height, c->width);
    LUN_TRY(check_objective(c));
    if (c->batch < 1 || c->batch > 4096)
        return lun_fail(LUN_ERR_USAGE, "batch %d: must be 1 to 4096", c->batch);
    if (c->accumulate < 1 || c->accumulate > c->batch || c->batch % c->accumulate)
        return lun_fail(LUN_ERR_USAGE, "a batch of %d in %d parts: their number must divide it", c->batch,
                        c->accumulate);
    /* The device computes in float32: what is above 0 and finite has to be so there. */
    if (!(c->lr > 0 && c->lr <= FLT_MAX && (float)c->lr > 0))
        return lun_fail(LUN_ERR_USAGE, "learning rate %g: must be finite and above 0", c->lr);
    if (!(c->beta1 >= 0 && c->beta1 < 1) || !(c->beta2 >= 0 && c->beta2 < 1))
        return lun_fail(LUN_ERR_USAGE, "Adam's betas %g, %g: must be in [0, 1)", c->beta1, c->beta2);
    if (!(c->eps > 0 && c->eps <= FLT_MAX && (float)c->eps > 0) ||
        !(c->weight_decay >= 0 && c->weight_decay <= FLT_MAX))
        return lun_fail(LUN_ERR_USAGE, "Adam's eps %g and weight decay %g: must be finite, above 0 and at least 0",
                        c->eps, c->weight_decay);
    LUN_TRY(check_schedule(c));
    LUN_TRY(check_averages(c));
    LUN_TRY(lun_data_config_check(&c->data));
    LUN_TRY(check_labels(c));
    if (c->model.image_channels != 1 && c->model.image_channels != 3 && c->model.image_channels != 4)
        return lun_fail(LUN_ERR_USAGE, "pictures of %d channels: 1, 3 or 4 are possible", c->model.image_channels);
    return LUN_OK;
}
