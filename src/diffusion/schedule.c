/* The linear schedule, respacing, and the coefficients of ancestral sampling.
 *
 * Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, equations 4, 6, 7, 11 and 15; respacing: Nichol
 * and Dhariwal, "Improved denoising diffusion probabilistic models", 2021, and respace.py of their code. All in double.
 */
#include <math.h>
#include <stdlib.h>

#include <lunette/diffusion.h>

#include "base/base.h"

#define MAX_STEPS 1000000

static lun_status allocate(int steps, lun_schedule *s)
{
    *s = (lun_schedule){.steps = steps};
    s->beta = lun_malloc((size_t)steps, sizeof *s->beta, "a schedule");
    s->abar = lun_malloc((size_t)steps, sizeof *s->abar, "a schedule");
    s->posterior_variance = lun_malloc((size_t)steps, sizeof *s->posterior_variance, "a schedule");
    s->timestep = lun_malloc((size_t)steps, sizeof *s->timestep, "a schedule");
    if (s->beta && s->abar && s->posterior_variance && s->timestep)
        return LUN_OK;
    lun_schedule_free(s);
    return LUN_ERR_MEMORY;
}

static double abar_before(const lun_schedule *s, int i)
{
    return i > 0 ? s->abar[i - 1] : 1.0;
}

/* beta -> the rest */
static void derive(lun_schedule *s)
{
    double abar = 1;
    for (int i = 0; i < s->steps; i++) {
        const double before = abar;
        abar *= 1 - s->beta[i];
        s->abar[i] = abar;
        s->posterior_variance[i] = s->beta[i] * (1 - before) / (1 - abar);
    }
}

lun_status lun_schedule_linear(int steps, double first, double last, lun_schedule *out)
{
    if (steps < 1 || steps > MAX_STEPS)
        return lun_fail(LUN_ERR_USAGE, "a schedule of %d steps; it takes 1 to %d", steps, MAX_STEPS);
    if (!(first > 0 && first <= last && last < 1))
        return lun_fail(LUN_ERR_USAGE, "betas from %g to %g; they must rise and lie between 0 and 1", first, last);
    lun_schedule s;
    LUN_TRY(allocate(steps, &s));
    for (int i = 0; i < steps; i++) {
        s.beta[i] = steps == 1 ? first : first + (last - first) * i / (steps - 1);
        s.timestep[i] = i;
    }
    derive(&s);
    *out = s;
    return LUN_OK;
}

void lun_schedule_free(lun_schedule *schedule)
{
    if (!schedule)
        return;
    free(schedule->beta);
    free(schedule->abar);
    free(schedule->posterior_variance);
    free(schedule->timestep);
    *schedule = (lun_schedule){0};
}

lun_status lun_schedule_respace(const lun_schedule *full, int count, lun_schedule *out)
{
    if (count < 1 || count > full->steps)
        return lun_fail(LUN_ERR_USAGE, "%d sampling steps; this schedule has 1 to %d", count, full->steps);
    lun_schedule s;
    LUN_TRY(allocate(count, &s));
    const double stride = count > 1 ? (double)(full->steps - 1) / (count - 1) : 1;
    double position = 0, before = 1;
    for (int i = 0; i < count; i++) {
        /* Half to even (the rounding mode of every C program that does not change it), and the sum, not i * stride: the
         * original's lists to the last entry. */
        const int kept = (int)lun_min_i64((int64_t)nearbyint(position), full->steps - 1);
        s.timestep[i] = full->timestep[kept];
        s.beta[i] = 1 - full->abar[kept] / before;
        before = full->abar[kept];
        position += stride;
    }
    derive(&s);
    *out = s;
    return LUN_OK;
}

void lun_schedule_noise_table(const lun_schedule *schedule, float *table)
{
    for (int i = 0; i < schedule->steps; i++) {
        table[2 * i] = (float)sqrt(schedule->abar[i]);
        table[2 * i + 1] = (float)sqrt(1 - schedule->abar[i]);
    }
}

void lun_schedule_ancestral(const lun_schedule *schedule, int i, lun_clip_mode clip, float coef[8])
{
    const double beta = schedule->beta[i], abar = schedule->abar[i], before = abar_before(schedule, i);
    double a = 0, b = 0, c = 0, d = 0, e = 0;
    if (clip == LUN_CLIP_MODE_X0) {
        a = 1 / sqrt(abar);
        b = -sqrt(1 / abar - 1);
        c = beta * sqrt(before) / (1 - abar);
        d = (1 - before) * sqrt(1 - beta) / (1 - abar);
    } else {
        /* The same mean without the way over x0, whose coefficients grow at high t. */
        d = 1 / sqrt(1 - beta);
        e = -beta / (sqrt(1 - abar) * sqrt(1 - beta));
    }
    const double values[8] = {a, b, c, d, e, i > 0 ? sqrt(schedule->posterior_variance[i]) : 0};
    for (int k = 0; k < 8; k++)
        coef[k] = (float)values[k];
}
