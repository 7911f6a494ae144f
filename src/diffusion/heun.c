/* Heun's method on the noise levels of Karras, Aittala, Aila, Laine 2022 ("Elucidating the design space of
 * diffusion-based generative models"), algorithm 1 without churn, for networks of discrete steps.
 *
 * There the picture is X = x / alpha with noise of level s = sigma / alpha; levels are (largest^(1/7) + i / (N - 1)
 * (least^(1/7) - largest^(1/7)))^7 and then 0, the largest and the least being the schedule's. With D the predicted
 * end, u the next level and r = u / s:
 *     Euler        X' = X + (u - s) (X - D) / s = r X + (1 - r) D
 *     correction   X'' = X + (u - s) / 2 ((X - D) / s + (X' - D') / u) = W + (1 - 1 / r) / 2 (X' - D'),
 *                  W = ((1 + r) X + (1 - r) D) / 2
 * The step to level 0 is Euler's alone: X' = D. The state here is x = alpha X, alpha = 1 / sqrt(1 + s^2), which is what
 * the network takes; the memory is W times the next alpha. A level between two steps' is told as the time that a line
 * through their logarithms gives. */
#include "moves.h"

#include <math.h>
#include <stdlib.h>

#define RHO 7

static double level_of(const lun_schedule *s, int i)
{
    return sqrt((1 - s->abar[i]) / s->abar[i]);
}

static double time_of(const lun_schedule *s, double level)
{
    int high = 1;
    if (s->steps == 1)
        return s->timestep[0];
    while (high < s->steps - 1 && level_of(s, high) < level)
        high++;
    const double a = log(level_of(s, high - 1)), b = log(level_of(s, high));
    const double share = fmin(fmax((log(level) - a) / (b - a), 0), 1);
    return s->timestep[high - 1] + share * (s->timestep[high] - s->timestep[high - 1]);
}

static double alpha_of(double level)
{
    return 1 / sqrt(1 + level * level);
}

static void set_moves(const lun_sampler_params *params, const double *level, lun_moves *moves)
{
    lun_move *m = moves->move;
    for (int i = 0; i < moves->steps; i++) {
        const double s = level[i], u = level[i + 1], alpha = alpha_of(s), next = alpha_of(u), r = u / s;
        const lun_reading from = lun_reading_of(params->prediction, alpha * alpha);
        m->t = i;
        m->left = u > 0 ? -1 : 0;
        lun_move_set(m->coef, from.a, from.b, next * (1 - r), next * r / alpha, 0, 0);
        lun_move_set(m->memory, from.a, from.b, next * (1 - r) / 2, next * (1 + r) / (2 * alpha), 0, 0);
        m++;
        if (u > 0) {
            const lun_reading to = lun_reading_of(params->prediction, next * next);
            const double share = (1 - 1 / r) / 2;
            m->t = i + 1;
            m->left = moves->steps - 1 - i;
            lun_move_set(m->coef, to.a, to.b, -share * next, share, 0, 1);
            m++; /* the memory has served: zeros */
        }
    }
}

lun_status lun_moves_heun(const lun_sampler_params *params, lun_moves *out)
{
    const lun_schedule *s = params->schedule;
    const int steps = params->steps ? params->steps : s->steps;
    if (steps < 1 || steps > 100000)
        return lun_fail(LUN_ERR_USAGE, "%d noise levels; the heun sampler takes 1 to 100000", steps);
    lun_moves moves;
    double *level = lun_malloc((size_t)steps + 1, sizeof *level, "noise levels");
    if (!level)
        return LUN_ERR_MEMORY;
    lun_status status = lun_moves_allocate(2 * steps - 1, &moves);
    if (status == LUN_OK && !(moves.times = lun_malloc((size_t)steps, sizeof *moves.times, "noise levels")))
        status = LUN_ERR_MEMORY;
    if (status != LUN_OK) {
        free(level);
        lun_moves_free(&moves);
        return status;
    }
    const double largest = pow(level_of(s, s->steps - 1), 1.0 / RHO), least = pow(level_of(s, 0), 1.0 / RHO);
    for (int i = 0; i < steps; i++) {
        level[i] = pow(largest + (steps > 1 ? (double)i / (steps - 1) : 0) * (least - largest), RHO);
        moves.times[i] = time_of(s, level[i]);
    }
    level[steps] = 0;
    moves.steps = steps;
    moves.has_memory = true;
    set_moves(params, level, &moves);
    free(level);
    *out = moves;
    return LUN_OK;
}
