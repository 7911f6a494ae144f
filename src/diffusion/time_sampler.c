/* Which steps to train: more of those whose losses are large. The contract is in diffusion.h. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/diffusion.h>

#include "base/base.h"
#include "base/philox.h"

#define UNIFORM_SHARE 0.001

struct lun_time_sampler {
    int steps, full; /* full: rows that have their whole history */
    float *history;  /* (steps, LUN_TIME_HISTORY), oldest first */
    int32_t *known;  /* (steps): entries of the row */
    double *share;   /* (steps): p_t, and */
    double *upto;    /* the sum of p up to and with t; both of the last draw */
    bool stale;
};

lun_status lun_time_sampler_create(int steps, lun_time_sampler **out)
{
    if (steps < 1)
        return lun_fail(LUN_ERR_USAGE, "%d time steps to draw from", steps);
    lun_time_sampler *s = lun_calloc(1, sizeof *s, "the time steps' losses");
    if (!s)
        return LUN_ERR_MEMORY;
    s->steps = steps;
    s->stale = true;
    s->history = lun_calloc((size_t)steps, LUN_TIME_HISTORY * sizeof *s->history, "the time steps' losses");
    s->known = lun_calloc((size_t)steps, sizeof *s->known, "the time steps' losses");
    s->share = lun_calloc((size_t)steps, sizeof *s->share, "the time steps' losses");
    s->upto = lun_calloc((size_t)steps, sizeof *s->upto, "the time steps' losses");
    if (!s->history || !s->known || !s->share || !s->upto) {
        lun_time_sampler_destroy(&s);
        return LUN_ERR_MEMORY;
    }
    *out = s;
    return LUN_OK;
}

void lun_time_sampler_destroy(lun_time_sampler **sampler)
{
    if (!sampler || !*sampler)
        return;
    free((*sampler)->history);
    free((*sampler)->known);
    free((*sampler)->share);
    free((*sampler)->upto);
    free(*sampler);
    *sampler = NULL;
}

int lun_time_sampler_ready(const lun_time_sampler *s)
{
    return s->full == s->steps;
}

static void refresh(lun_time_sampler *s)
{
    double sum = 0;
    for (int t = 0; t < s->steps; t++) {
        double square = 0;
        for (int k = 0; k < LUN_TIME_HISTORY; k++) {
            const double loss = (double)s->history[t * LUN_TIME_HISTORY + k];
            square += loss * loss;
        }
        s->share[t] = sqrt(square / LUN_TIME_HISTORY);
        sum += s->share[t];
    }
    double upto = 0;
    for (int t = 0; t < s->steps; t++) {
        /* Losses that are all zero say nothing. */
        const double p = sum > 0 ? s->share[t] / sum : 1.0 / s->steps;
        s->share[t] = (1 - UNIFORM_SHARE) * p + UNIFORM_SHARE / s->steps;
        upto += s->share[t];
        s->upto[t] = upto;
    }
    s->stale = false;
}

/* The first t below whose end `u` lies. */
static int find(const lun_time_sampler *s, double u)
{
    int low = 0, high = s->steps - 1; /* the last one also takes what rounding leaves */
    while (low < high) {
        const int middle = low + (high - low) / 2;
        if (u < s->upto[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

void lun_time_sampler_draw(lun_time_sampler *s, uint64_t seed, uint64_t first, int count, int32_t *t, float *weight)
{
    const bool ready = lun_time_sampler_ready(s);
    if (ready && s->stale)
        refresh(s);
    for (int i = 0; i < count; i++) {
        const uint64_t number = first + (uint64_t)i;
        if (ready) {
            const uint32_t x = lun_random_u32(seed, LUN_RANDOM_TIMESTEP, number, 0, 0);
            t[i] = find(s, ((double)x + 0.5) * 0x1p-32);
            weight[i] = (float)(1 / (s->steps * s->share[t[i]]));
        } else {
            t[i] = (int32_t)lun_random_below(seed, LUN_RANDOM_TIMESTEP, number, 0, 0, (uint32_t)s->steps);
            weight[i] = 1;
        }
    }
}

void lun_time_sampler_update(lun_time_sampler *s, const int32_t *t, const float *loss, int count)
{
    for (int i = 0; i < count; i++) {
        if (t[i] < 0 || t[i] >= s->steps || !isfinite(loss[i]))
            continue;
        float *row = s->history + (size_t)t[i] * LUN_TIME_HISTORY;
        if (s->known[t[i]] == LUN_TIME_HISTORY) {
            memmove(row, row + 1, (LUN_TIME_HISTORY - 1) * sizeof *row);
            row[LUN_TIME_HISTORY - 1] = loss[i];
        } else {
            row[s->known[t[i]]++] = loss[i];
            s->full += s->known[t[i]] == LUN_TIME_HISTORY;
        }
        s->stale = true;
    }
}

void lun_time_sampler_save(const lun_time_sampler *s, float *history, int32_t *known)
{
    memcpy(history, s->history, (size_t)s->steps * LUN_TIME_HISTORY * sizeof *history);
    memcpy(known, s->known, (size_t)s->steps * sizeof *known);
}

lun_status lun_time_sampler_load(lun_time_sampler *s, const float *history, const int32_t *known)
{
    int full = 0;
    for (int t = 0; t < s->steps; t++) {
        if (known[t] < 0 || known[t] > LUN_TIME_HISTORY)
            return lun_fail(LUN_ERR_CHECKPOINT, "step %d has %d losses; at most %d are kept", t, (int)known[t],
                            LUN_TIME_HISTORY);
        for (int k = 0; k < LUN_TIME_HISTORY; k++)
            if (!isfinite(history[t * LUN_TIME_HISTORY + k]))
                return lun_fail(LUN_ERR_CHECKPOINT, "a loss of step %d is not finite", t);
        full += known[t] == LUN_TIME_HISTORY;
    }
    memcpy(s->history, history, (size_t)s->steps * LUN_TIME_HISTORY * sizeof *history);
    memcpy(s->known, known, (size_t)s->steps * sizeof *known);
    s->full = full;
    s->stale = true;
    return LUN_OK;
}
