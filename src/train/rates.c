/* Numbers of a step that follow from its number: the learning rate, and how fast moving averages move. */
#include <math.h>

#include <lunette/train.h>

double lun_train_lr(const lun_train_config *c, uint64_t step)
{
    if (step < c->warmup)
        return c->lr * (double)step / (double)c->warmup;
    if (c->decay == LUN_DECAY_CONSTANT || step <= c->warmup)
        return c->lr;
    const uint64_t done = step - 1 - c->warmup, all = c->decay_steps > c->warmup ? c->decay_steps - c->warmup : 1;
    if (done >= all)
        return c->lr_end;
    const double p = (double)done / (double)all;
    const double left = c->decay == LUN_DECAY_LINEAR ? 1 - p : 0.5 * (1 + cos(3.14159265358979323846 * p));
    return c->lr_end + (c->lr - c->lr_end) * left;
}

double lun_train_ema_decay(double rate, lun_ema_warmup warmup, uint64_t step)
{
    const double n = (double)step;
    if (step == 0)
        return 0;
    switch (warmup) {
    case LUN_EMA_WARMUP_NONE: break;
    case LUN_EMA_WARMUP_POWER: return fmin(rate, 1 - pow(n, -0.75));
    case LUN_EMA_WARMUP_RAMP: return fmin(rate, exp2(-1 / (0.05 * n)));
    }
    return rate;
}
