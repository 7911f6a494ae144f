/* Presets, and what a training configuration may be. */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include <lunette/preset.h>

#include "base/base.h"

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
                               .batch = p.batch,
                               .lr = p.lr,
                               .beta1 = p.beta1,
                               .beta2 = p.beta2,
                               .eps = p.eps,
                               .weight_decay = p.weight_decay,
                               .seed = 0};
    snprintf(config.preset, sizeof config.preset, "%s", p.name);
    *out = config;
    return LUN_OK;
}

lun_status lun_train_config_check(const lun_train_config *c)
{
    LUN_TRY(lun_model_config_check(&c->model, c->height, c->width));
    if (!memchr(c->preset, 0, sizeof c->preset))
        return lun_fail(LUN_ERR_USAGE, "the preset's name does not end");
    if (c->height > 4096 || c->width > 4096)
        return lun_fail(LUN_ERR_USAGE, "pictures of %d x %d: at most 4096 a side", c->height, c->width);
    if ((unsigned)c->loss > LUN_HUBER)
        return lun_fail(LUN_ERR_USAGE, "there is no loss number %d", (int)c->loss);
    if (c->batch < 1 || c->batch > 4096)
        return lun_fail(LUN_ERR_USAGE, "batch %d: must be 1 to 4096", c->batch);
    if (!(c->beta_first > 0 && c->beta_first <= c->beta_last && c->beta_last < 1))
        return lun_fail(LUN_ERR_USAGE, "schedule %g to %g: needs 0 < first <= last < 1", c->beta_first, c->beta_last);
    /* The device computes in float32: what is above 0 and finite has to be so there. */
    if (!(c->lr > 0 && c->lr <= FLT_MAX && (float)c->lr > 0))
        return lun_fail(LUN_ERR_USAGE, "learning rate %g: must be finite and above 0", c->lr);
    if (!(c->beta1 >= 0 && c->beta1 < 1) || !(c->beta2 >= 0 && c->beta2 < 1))
        return lun_fail(LUN_ERR_USAGE, "Adam's betas %g, %g: must be in [0, 1)", c->beta1, c->beta2);
    if (!(c->eps > 0 && c->eps <= FLT_MAX && (float)c->eps > 0) ||
        !(c->weight_decay >= 0 && c->weight_decay <= FLT_MAX))
        return lun_fail(LUN_ERR_USAGE, "Adam's eps %g and weight decay %g: must be finite, above 0 and at least 0",
                        c->eps, c->weight_decay);
    if (!isfinite(c->huber_delta) || (c->loss == LUN_HUBER && !(c->huber_delta > 0)))
        return lun_fail(LUN_ERR_USAGE, "Huber delta %g: must be finite and above 0", (double)c->huber_delta);
    return LUN_OK;
}
