/* DPM-Solver++ 2M: Lu et al. 2022 ("DPM-Solver++: fast solver for guided sampling of diffusion probabilistic models"),
 * algorithm 2. With alpha = sqrt(abar), sigma = sqrt(1 - abar), lambda = ln(alpha / sigma), from s to the next step n,
 * h = lambda_n - lambda_s, m0 the end predicted at s and m1 the one at the step before, q:
 *     first order   x = sigma_n / sigma_s x - alpha_n (e^-h - 1) m0
 *     second order  the same with m0 + (m0 - m1) / (2 r) for m0, r = (lambda_s - lambda_q) / h
 * The first step has no m1. At the last one sigma is 0, h has no end and first order gives m0 itself. The memory is the
 * predicted end. */
#include "moves.h"

#include <math.h>

static double lambda(double abar)
{
    return 0.5 * log(abar / (1 - abar));
}

lun_status lun_moves_dpm(const lun_sampler_params *params, lun_moves *out)
{
    const lun_schedule *s = params->schedule;
    lun_moves moves;
    LUN_TRY(lun_moves_allocate(s->steps, &moves));
    moves.has_memory = true;
    for (int k = 0; k < moves.count; k++) {
        const int i = s->steps - 1 - k;
        const lun_reading r = lun_reading_of(params->prediction, s->abar[i]);
        lun_move *m = &moves.move[k];
        m->t = s->timestep[i];
        m->left = i;
        lun_move_set(m->memory, r.a, r.b, 1, 0, 0, 0);
        if (i == 0) {
            lun_move_set(m->coef, r.a, r.b, 1, 0, 0, 0);
            continue;
        }
        const double h = lambda(s->abar[i - 1]) - lambda(s->abar[i]);
        const double ends = -sqrt(s->abar[i - 1]) * expm1(-h), rest = sqrt((1 - s->abar[i - 1]) / (1 - s->abar[i]));
        const double half = k > 0 ? 0.5 * h / (lambda(s->abar[i]) - lambda(s->abar[i + 1])) : 0; /* 1 / (2 r) */
        lun_move_set(m->coef, r.a, r.b, ends * (1 + half), rest, 0, -ends * half);
    }
    *out = moves;
    return LUN_OK;
}
