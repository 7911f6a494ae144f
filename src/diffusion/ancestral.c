/* Ancestral sampling: x_{t-1} = mean + sigma z. Ho et al. 2020, algorithm 2; the learned variance: Nichol and Dhariwal
 * 2021, equation 15. */
#include "moves.h"

#include <math.h>

void lun_schedule_ancestral(const lun_schedule *schedule, int i, lun_clip_mode clip, float coef[8])
{
    const double beta = schedule->beta[i], abar = schedule->abar[i], before = i > 0 ? schedule->abar[i - 1] : 1;
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
    lun_move_set(coef, a, b, c, d, e, i > 0 ? sqrt(schedule->posterior_variance[i]) : 0);
}

/* The same mean from other predictions. */
static void mean_of(const lun_schedule *schedule, int i, lun_clip_mode clip, lun_prediction prediction, float coef[8])
{
    const lun_reading r = lun_reading_of(prediction, schedule->abar[i]);
    const double c = schedule->mean_x0[i], d = schedule->mean_xt[i];
    if (clip == LUN_CLIP_MODE_X0)
        lun_move_set(coef, r.a, r.b, c, d, 0, 0);
    else
        lun_move_set(coef, 0, 0, 0, c * r.a + d, c * r.b, 0);
}

lun_status lun_moves_ancestral(const lun_sampler_params *params, lun_moves *out)
{
    const lun_schedule *s = params->schedule;
    lun_moves moves;
    LUN_TRY(lun_moves_allocate(s->steps, &moves));
    moves.has_noise = true;
    moves.learned = params->variance == LUN_VARIANCE_LEARNED;
    for (int k = 0; k < moves.count; k++) {
        const int i = s->steps - 1 - k;
        lun_move *m = &moves.move[k];
        m->t = s->timestep[i];
        m->left = i;
        if (params->prediction == LUN_PREDICTION_EPS)
            lun_schedule_ancestral(s, i, params->clip, m->coef);
        else
            mean_of(s, i, params->clip, params->prediction, m->coef);
        const double low = s->log_variance_small[i], range = log(s->beta[i]) - low;
        if (i == 0)
            continue; /* no noise at the end */
        switch (params->variance) {
        case LUN_VARIANCE_SMALL: m->coef[5] = (float)sqrt(s->posterior_variance[i]); break;
        case LUN_VARIANCE_LARGE: m->coef[5] = (float)exp(s->log_variance_large[i] / 2); break;
        case LUN_VARIANCE_LEARNED: /* (low + range (v + 1) / 2) / 2 */
            m->coef[5] = 1;
            m->coef[6] = (float)(low / 2 + range / 4);
            m->coef[7] = (float)(range / 4);
            break;
        }
    }
    *out = moves;
    return LUN_OK;
}
