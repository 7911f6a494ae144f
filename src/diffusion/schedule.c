/* Schedules, and the coefficients that follow from them.
 *
 * Ho, Jain, Abbeel, "Denoising diffusion probabilistic models", 2020, equations 4, 6, 7, 11 and 15; cosine: Nichol and
 * Dhariwal, "Improved denoising diffusion probabilistic models", 2021, equation 17; sigmoid: Jabri, Fleet, Chen,
 * "Scalable adaptive computation for iterative generation", 2022; v: Salimans and Ho, "Progressive distillation for
 * fast sampling", 2022; min-SNR: Hang et al., "Efficient diffusion training via min-SNR weighting", 2023. All in
 * double.
 */
#include "schedule.h"

#include <math.h>
#include <stdlib.h>

#define MAX_STEPS 1000000
#define MOST_BETA 0.999

lun_status lun_schedule_allocate(int steps, lun_schedule *s)
{
    *s = (lun_schedule){.steps = steps};
    double **const arrays[] = {&s->beta,
                               &s->abar,
                               &s->posterior_variance,
                               &s->mean_x0,
                               &s->mean_xt,
                               &s->log_variance_small,
                               &s->log_variance_large};
    bool all = true;
    for (size_t i = 0; i < LUN_COUNT(arrays); i++) {
        *arrays[i] = lun_malloc((size_t)steps, sizeof **arrays[i], "a schedule");
        all = all && *arrays[i];
    }
    s->timestep = lun_malloc((size_t)steps, sizeof *s->timestep, "a schedule");
    if (all && s->timestep)
        return LUN_OK;
    lun_schedule_free(s);
    return LUN_ERR_MEMORY;
}

void lun_schedule_derive(lun_schedule *s)
{
    double abar = 1;
    for (int i = 0; i < s->steps; i++) {
        const double before = abar, beta = s->beta[i];
        abar *= 1 - beta;
        s->abar[i] = abar;
        s->posterior_variance[i] = beta * (1 - before) / (1 - abar);
        s->mean_x0[i] = beta * sqrt(before) / (1 - abar);
        s->mean_xt[i] = (1 - before) * sqrt(1 - beta) / (1 - abar);
    }
    for (int i = 0; i < s->steps; i++) {
        /* Nothing is drawn at the last step; the logarithm is there for a network to learn it. */
        const double first = s->steps > 1 ? s->posterior_variance[1] : 1e-20;
        s->log_variance_small[i] = log(i > 0 ? s->posterior_variance[i] : first);
        s->log_variance_large[i] = log(i > 0 ? s->beta[i] : first);
    }
}

static lun_status check_steps(int steps)
{
    if (steps < 1 || steps > MAX_STEPS)
        return lun_fail(LUN_ERR_USAGE, "a schedule of %d steps; it takes 1 to %d", steps, MAX_STEPS);
    return LUN_OK;
}

/* beta_i = 1 - shape((i + 1) / T) / shape(i / T), at most MOST_BETA */
static lun_status from_shape(int steps, double (*shape)(double u), lun_schedule *out)
{
    LUN_TRY(check_steps(steps));
    lun_schedule s;
    LUN_TRY(lun_schedule_allocate(steps, &s));
    for (int i = 0; i < steps; i++) {
        s.beta[i] = fmin(1 - shape((double)(i + 1) / steps) / shape((double)i / steps), MOST_BETA);
        s.timestep[i] = i;
    }
    lun_schedule_derive(&s);
    *out = s;
    return LUN_OK;
}

static double cosine(double u)
{
    const double c = cos((u + 0.008) / 1.008 * (3.14159265358979323846 / 2));
    return c * c;
}

static double logistic(double x)
{
    return 1 / (1 + exp(-x));
}

/* (v_e - logistic(u (e - s) + s)) / (v_e - v_s), s = -3, e = 3; it falls from 1 to 0. */
static double sigmoid(double u)
{
    return (logistic(3) - logistic(6 * u - 3)) / (logistic(3) - logistic(-3));
}

lun_status lun_schedule_create(lun_schedule_kind kind, int steps, double first, double last, lun_schedule *out)
{
    switch (kind) {
    case LUN_SCHEDULE_LINEAR: return lun_schedule_linear(steps, first, last, out);
    case LUN_SCHEDULE_SCALED:
        LUN_TRY(check_steps(steps));
        return lun_schedule_linear(steps, first * 1000 / steps, last * 1000 / steps, out);
    case LUN_SCHEDULE_COSINE: return from_shape(steps, cosine, out);
    case LUN_SCHEDULE_SIGMOID: return from_shape(steps, sigmoid, out);
    }
    return lun_fail(LUN_ERR_USAGE, "there is no schedule number %d", (int)kind);
}

lun_status lun_schedule_linear(int steps, double first, double last, lun_schedule *out)
{
    LUN_TRY(check_steps(steps));
    if (!(first > 0 && first <= last && last < 1))
        return lun_fail(LUN_ERR_USAGE, "betas from %g to %g; they must rise and lie between 0 and 1", first, last);
    lun_schedule s;
    LUN_TRY(lun_schedule_allocate(steps, &s));
    for (int i = 0; i < steps; i++) {
        s.beta[i] = steps == 1 ? first : first + (last - first) * i / (steps - 1);
        s.timestep[i] = i;
    }
    lun_schedule_derive(&s);
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
    free(schedule->mean_x0);
    free(schedule->mean_xt);
    free(schedule->log_variance_small);
    free(schedule->log_variance_large);
    *schedule = (lun_schedule){0};
}

/* ---- Tables for the device
 * ------------------------------------------------------------------------------------------------- */

void lun_schedule_noise_table(const lun_schedule *schedule, float *table)
{
    for (int i = 0; i < schedule->steps; i++) {
        table[2 * i] = (float)sqrt(schedule->abar[i]);
        table[2 * i + 1] = (float)sqrt(1 - schedule->abar[i]);
    }
}

void lun_schedule_velocity_table(const lun_schedule *schedule, float *table)
{
    lun_schedule_noise_table(schedule, table);
    for (int i = 0; i < schedule->steps; i++)
        table[2 * i + 1] = -table[2 * i + 1];
}

void lun_schedule_snr_table(const lun_schedule *schedule, lun_prediction prediction, double gamma, float *table)
{
    for (int i = 0; i < schedule->steps; i++) {
        const double snr = schedule->abar[i] / (1 - schedule->abar[i]), least = fmin(snr, gamma);
        const double by = prediction == LUN_PREDICTION_EPS ? snr : prediction == LUN_PREDICTION_X0 ? 1 : snr + 1;
        table[i] = (float)(least / by);
    }
}

lun_reading lun_reading_of(lun_prediction prediction, double abar)
{
    const double signal = sqrt(abar), noise = sqrt(1 - abar);
    switch (prediction) {
    case LUN_PREDICTION_EPS: break;
    case LUN_PREDICTION_X0: return (lun_reading){0, 1, 1 / noise, -signal / noise};
    case LUN_PREDICTION_V: return (lun_reading){signal, -noise, noise, signal};
    }
    return (lun_reading){1 / signal, -sqrt(1 / abar - 1), 0, 1};
}

void lun_schedule_bound_table(const lun_schedule *schedule, lun_prediction prediction, float *table)
{
    for (int i = 0; i < schedule->steps; i++) {
        const lun_reading r = lun_reading_of(prediction, schedule->abar[i]);
        const double low = schedule->log_variance_small[i];
        const double row[8] = {r.a, r.b, schedule->mean_x0[i], low, log(schedule->beta[i]) - low};
        for (int k = 0; k < 8; k++)
            table[8 * i + k] = (float)row[k];
    }
}
