/* Denoising diffusion implicit models: Song, Meng, Ermon 2021, equation 12, with sigma = eta times that of equation 16.
 *     x_p = sqrt(abar_p) x0 + sqrt(1 - abar_p - sigma^2) eps + sigma z
 * p is the step before in the schedule, abar_p = 1 at the end. Where x0 is clamped, eps is the one that leads from
 * there to x_t, (x_t - sqrt(abar) x0) / sqrt(1 - abar), as in the code of Nichol and Dhariwal; with raw_eps the
 * network's. */
#include "moves.h"

#include <math.h>

lun_status lun_moves_ddim(const lun_sampler_params *params, lun_moves *out)
{
    const lun_schedule *s = params->schedule;
    lun_moves moves;
    LUN_TRY(lun_moves_allocate(s->steps, &moves));
    moves.has_noise = params->eta > 0;
    for (int k = 0; k < moves.count; k++) {
        const int i = s->steps - 1 - k;
        const double abar = s->abar[i], before = i > 0 ? s->abar[i - 1] : 1;
        const double sigma = params->eta * sqrt((1 - before) / (1 - abar)) * sqrt(1 - abar / before);
        const double end = sqrt(before), noise = sqrt(fmax(1 - before - sigma * sigma, 0));
        const lun_reading r = lun_reading_of(params->prediction, abar);
        lun_move *m = &moves.move[k];
        m->t = s->timestep[i];
        m->left = i;
        if (params->clip != LUN_CLIP_MODE_X0)
            lun_move_set(m->coef, 0, 0, 0, end * r.a + noise * r.p, end * r.b + noise * r.q, sigma);
        else if (params->raw_eps)
            lun_move_set(m->coef, r.a, r.b, end, noise * r.p, noise * r.q, sigma);
        else
            lun_move_set(m->coef, r.a, r.b, end - noise * sqrt(abar / (1 - abar)), noise / sqrt(1 - abar), 0, sigma);
    }
    *out = moves;
    return LUN_OK;
}
