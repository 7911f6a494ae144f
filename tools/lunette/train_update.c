#include "train_update.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "live.h"

/* "--ema 0" is none, over a preset that has some. */
static int averages(const update_args *u)
{
    return u->ema_count == 1 && u->ema[0] == 0 ? 0 : u->ema_count;
}

lun_status update_apply(const update_args *u, lun_train_config *c)
{
    if (u->optimizer_given)
        c->optimizer = (lun_optimizer_kind)u->optimizer;
    if (u->betas_given && u->betas_count != 2)
        return lun_fail(LUN_ERR_USAGE, "--betas: two numbers, as 0.9,0.999");
    if (u->betas_given) {
        c->beta1 = u->betas[0];
        c->beta2 = u->betas[1];
    }
    if (u->weight_decay_given)
        c->weight_decay = u->weight_decay;
    if (u->clip_norm_given)
        c->clip_norm = u->clip_norm;
    if (u->warmup_given)
        c->warmup = u->warmup;
    if (u->decay_given)
        c->decay = (lun_decay)u->decay;
    if (c->decay == LUN_DECAY_CONSTANT && (u->decay_steps_given || u->lr_end_given))
        return lun_fail(LUN_ERR_USAGE, "%s: only with --decay linear or cosine",
                        u->decay_steps_given ? "--decay-steps" : "--lr-end");
    if (u->decay_steps_given)
        c->decay_steps = u->decay_steps;
    if (u->lr_end_given)
        c->lr_end = u->lr_end;
    if (u->decay_given && c->decay == LUN_DECAY_CONSTANT)
        c->decay_steps = 0;
    if (u->ema_given) {
        c->ema_count = averages(u);
        memset(c->ema_rate, 0, sizeof c->ema_rate);
        memcpy(c->ema_rate, u->ema, sizeof(double) * (size_t)c->ema_count);
    }
    if (u->ema_warmup_given)
        c->ema_warmup = (lun_ema_warmup)u->ema_warmup;
    if (u->ema_warmup_given && c->ema_count == 0)
        return lun_fail(LUN_ERR_USAGE, "--ema-warmup: only with --ema");
    if (u->accumulate_given && u->micro_batch_given)
        return lun_fail(LUN_ERR_USAGE, "--accumulate and --micro-batch exclude each other: give one");
    if (u->accumulate_given)
        c->accumulate = u->accumulate;
    if (u->micro_batch_given && c->batch % u->micro_batch)
        return lun_fail(LUN_ERR_USAGE, "--micro-batch %d: does not divide the batch of %d", u->micro_batch, c->batch);
    if (u->micro_batch_given)
        c->accumulate = c->batch / u->micro_batch;
    return LUN_OK;
}

static lun_status check_name(const char *out, const char *option, bool given, const char *const *names, int value,
                             int recorded)
{
    return !given || value == recorded ? LUN_OK : run_differs(out, option, names[value], names[recorded]);
}

lun_status update_check_same(const update_args *u, const char *out, const lun_train_config *c)
{
    LUN_TRY(check_name(out, "--optimizer", u->optimizer_given, optimizer_names, u->optimizer, (int)c->optimizer));
    LUN_TRY(run_check_number(out, "--weight-decay", u->weight_decay_given, u->weight_decay, c->weight_decay));
    LUN_TRY(run_check_number(out, "--clip-norm", u->clip_norm_given, u->clip_norm, c->clip_norm));
    LUN_TRY(run_check_number(out, "--warmup", u->warmup_given, (double)u->warmup, (double)c->warmup));
    LUN_TRY(check_name(out, "--decay", u->decay_given, decay_names, u->decay, (int)c->decay));
    LUN_TRY(
        run_check_number(out, "--decay-steps", u->decay_steps_given, (double)u->decay_steps, (double)c->decay_steps));
    LUN_TRY(run_check_number(out, "--lr-end", u->lr_end_given, u->lr_end, c->lr_end));
    LUN_TRY(run_check_number(out, "--accumulate", u->accumulate_given, u->accumulate, c->accumulate));
    LUN_TRY(run_check_number(out, "--micro-batch", u->micro_batch_given, u->micro_batch, c->batch / c->accumulate));
    LUN_TRY(check_name(out, "--ema-warmup", u->ema_warmup_given, ema_warmup_names, u->ema_warmup, (int)c->ema_warmup));
    const double betas[2] = {c->beta1, c->beta2};
    char left[160], right[160];
    if (u->betas_given && (u->betas_count != 2 || memcmp(u->betas, betas, sizeof betas) != 0))
        return run_differs(out, "--betas", rates_text(u->betas, u->betas_count, left, sizeof left),
                           rates_text(betas, 2, right, sizeof right));
    if (u->ema_given &&
        (averages(u) != c->ema_count || memcmp(u->ema, c->ema_rate, sizeof(double) * (size_t)averages(u)) != 0))
        return run_differs(out, "--ema", averages(u) ? rates_text(u->ema, u->ema_count, left, sizeof left) : "0",
                           c->ema_count ? rates_text(c->ema_rate, c->ema_count, right, sizeof right) : "none");
    return LUN_OK;
}

void update_say(const lun_train_config *c)
{
    char text[800] = "", rates[160], *const end = text + sizeof text, *at = text;
    if (c->optimizer == LUN_ADAMW)
        at += snprintf(at, (size_t)(end - at), ", AdamW, weight decay %g", c->weight_decay);
    else if (c->weight_decay > 0)
        at += snprintf(at, (size_t)(end - at), ", weight decay %g", c->weight_decay);
    if (c->warmup)
        at += snprintf(at, (size_t)(end - at), ", warm-up of %" PRIu64 " steps", c->warmup);
    if (c->decay != LUN_DECAY_CONSTANT)
        at += snprintf(at, (size_t)(end - at), ", %s decay to %g", decay_names[c->decay], c->lr_end);
    if (c->decay_steps)
        at += snprintf(at, (size_t)(end - at), " at step %" PRIu64, c->decay_steps);
    if (c->clip_norm > 0)
        at += snprintf(at, (size_t)(end - at), ", gradient clipped at norm %g", c->clip_norm);
    if (c->ema_count)
        at += snprintf(at, (size_t)(end - at), ", moving average%s %s", c->ema_count > 1 ? "s" : "",
                       rates_text(c->ema_rate, c->ema_count, rates, sizeof rates));
    if (c->accumulate > 1)
        at += snprintf(at, (size_t)(end - at), ", %d x %d pictures", c->accumulate, c->batch / c->accumulate);
    if (at > text)
        say("update: %s", text + 2);
}
