#include "train_network.h"

#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "live.h"

static const char *option_of_unets(const objective_args *o)
{
    if (o->learned_variance)
        return "--learned-variance";
    if (o->blocks_given)
        return "--blocks";
    if (o->attention_given)
        return "--attention";
    if (o->heads_given)
        return "--heads";
    if (o->head_width_given)
        return "--head-width";
    if (o->groups_given)
        return "--groups";
    return o->dropout_given ? "--dropout" : NULL;
}

static lun_status apply_unet(const objective_args *o, lun_model_config *m)
{
    if (o->heads_given && o->head_width_given)
        return lun_fail(LUN_ERR_USAGE, "--heads and --head-width exclude each other: give one");
    if (o->blocks_given)
        m->blocks = o->blocks;
    if (o->heads_given)
        m->heads = o->heads;
    if (o->head_width_given) {
        m->heads = 0;
        m->head_width = o->head_width;
    }
    if (o->groups_given)
        m->groups = o->groups;
    if (o->dropout_given)
        m->dropout = (float)o->dropout;
    if (o->learned_variance)
        m->learned_sigma = 1;
    if (o->attention_given)
        memset(m->attention, 0, sizeof m->attention);
    for (int i = 0; o->attention_given && i < o->attention_count; i++) {
        if (o->attention[i] >= m->levels)
            return lun_fail(LUN_ERR_USAGE, "--attention: there is no level %d; the network has 0 to %d",
                            o->attention[i], m->levels - 1);
        m->attention[o->attention[i]] = 1;
    }
    return LUN_OK;
}

lun_status objective_apply(const objective_args *o, lun_train_config *c)
{
    if (c->model.network == LUN_NOTEBOOK && option_of_unets(o))
        return lun_fail(LUN_ERR_USAGE, "%s: the network of preset %s has none", option_of_unets(o), c->preset);
    if (o->huber_delta_given && c->loss != LUN_HUBER)
        return lun_fail(LUN_ERR_USAGE, "--huber-delta: only with --loss huber");
    if (c->model.network != LUN_NOTEBOOK)
        LUN_TRY(apply_unet(o, &c->model));
    if (o->bound_scale_given && !c->model.learned_sigma)
        return lun_fail(LUN_ERR_USAGE, "--bound-scale: only with --learned-variance");
    if (o->steps_given)
        c->model.steps = o->steps;
    if (o->schedule_given)
        c->schedule = (lun_schedule_kind)o->schedule;
    if (o->prediction_given)
        c->prediction = (lun_prediction)o->prediction;
    if (o->huber_delta_given)
        c->huber_delta = o->huber_delta;
    if (o->min_snr_given)
        c->min_snr = o->min_snr;
    if (o->bound_scale_given)
        c->bound_scale = o->bound_scale;
    if (o->loss_aware)
        c->loss_aware = 1;
    return LUN_OK;
}

static const char *levels_text(const int *has, char *text, size_t size)
{
    size_t used = 0;
    snprintf(text, size, "none");
    for (int i = 0; i < LUN_MODEL_MAX_LEVELS; i++)
        if (has[i] && used < size)
            used += (size_t)snprintf(text + used, size - used, "%s%d", used ? "," : "", i);
    return text;
}

lun_status objective_check_same(const objective_args *o, const char *out, const lun_train_config *c)
{
    const lun_model_config *m = &c->model;
    LUN_TRY(run_check_number(out, "--diffusion-steps", o->steps_given, o->steps, m->steps));
    if (o->schedule_given && o->schedule != (int)c->schedule)
        return run_differs(out, "--schedule", schedule_names[o->schedule], schedule_names[c->schedule]);
    if (o->prediction_given && o->prediction != (int)c->prediction)
        return run_differs(out, "--prediction", prediction_names[o->prediction], prediction_names[c->prediction]);
    LUN_TRY(
        run_check_number(out, "--huber-delta", o->huber_delta_given, (double)o->huber_delta, (double)c->huber_delta));
    LUN_TRY(run_check_number(out, "--min-snr", o->min_snr_given, o->min_snr, c->min_snr));
    LUN_TRY(run_check_number(out, "--bound-scale", o->bound_scale_given, o->bound_scale, c->bound_scale));
    LUN_TRY(run_check_number(out, "--blocks", o->blocks_given, o->blocks, m->blocks));
    LUN_TRY(run_check_number(out, "--heads", o->heads_given, o->heads, m->heads));
    LUN_TRY(run_check_number(out, "--head-width", o->head_width_given, o->head_width, m->heads ? 0 : m->head_width));
    LUN_TRY(run_check_number(out, "--groups", o->groups_given, o->groups, m->groups));
    LUN_TRY(run_check_number(out, "--dropout", o->dropout_given, (double)(float)o->dropout, (double)m->dropout));
    int given[LUN_MODEL_MAX_LEVELS] = {0}, recorded[LUN_MODEL_MAX_LEVELS];
    char left[64], right[64];
    for (int i = 0; i < LUN_MODEL_MAX_LEVELS; i++)
        recorded[i] = m->attention[i] != 0;
    for (int i = 0; i < o->attention_count; i++)
        if (o->attention[i] < LUN_MODEL_MAX_LEVELS)
            given[o->attention[i]] = 1;
    if (o->attention_given && memcmp(given, recorded, sizeof given) != 0)
        return run_differs(out, "--attention", levels_text(given, left, sizeof left),
                           levels_text(recorded, right, sizeof right));
    if (o->learned_variance && !m->learned_sigma)
        return lun_fail(LUN_ERR_USAGE, "--learned-variance: the run in %s was started without it", out);
    if (o->loss_aware && !c->loss_aware)
        return lun_fail(LUN_ERR_USAGE, "--loss-aware: the run in %s was started without it", out);
    return LUN_OK;
}

void objective_say(const lun_train_config *c)
{
    char text[320], *const end = text + sizeof text, *at = text;
    at += snprintf(at, (size_t)(end - at), "%s of %d steps, %s", schedule_names[c->schedule], c->model.steps,
                   prediction_names[c->prediction]);
    if (c->min_snr > 0)
        at += snprintf(at, (size_t)(end - at), ", min-SNR weights %g", c->min_snr);
    if (c->model.learned_sigma)
        at += snprintf(at, (size_t)(end - at), ", learned variance (bound times %g)", c->bound_scale);
    if (c->loss_aware)
        at += snprintf(at, (size_t)(end - at), ", time steps by their losses");
    if (c->model.dropout > 0)
        at += snprintf(at, (size_t)(end - at), ", dropout %g", (double)c->model.dropout);
    if (c->model.network != LUN_NOTEBOOK || c->schedule != LUN_SCHEDULE_LINEAR || c->prediction || c->min_snr > 0 ||
        c->loss_aware)
        say("objective: %s, loss %s", text, loss_names[c->loss]);
}
