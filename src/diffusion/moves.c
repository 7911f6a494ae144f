#include "moves.h"

#include <math.h>
#include <stdlib.h>

lun_status lun_moves_allocate(int count, lun_moves *out)
{
    *out = (lun_moves){.count = count, .steps = count};
    out->move = lun_calloc((size_t)count, sizeof *out->move, "a sampler's moves");
    return out->move ? LUN_OK : LUN_ERR_MEMORY;
}

void lun_moves_free(lun_moves *moves)
{
    free(moves->move);
    free(moves->times);
    *moves = (lun_moves){0};
}

void lun_move_set(float coef[8], double a, double b, double c, double d, double e, double s)
{
    const double values[8] = {a, b, c, d, e, s};
    for (int k = 0; k < 8; k++)
        coef[k] = (float)values[k];
}

const char *lun_sampler_kind_name(lun_sampler_kind kind)
{
    static const char *const names[LUN_SAMPLER_KINDS] = {"ancestral", "ddim", "dpm", "heun"};
    return (unsigned)kind < LUN_SAMPLER_KINDS ? names[kind] : NULL;
}

static lun_status check(const lun_sampler_params *p)
{
    if ((unsigned)p->kind >= LUN_SAMPLER_KINDS)
        return lun_fail(LUN_ERR_USAGE, "there is no sampler number %d", (int)p->kind);
    if ((unsigned)p->clip > LUN_CLIP_MODE_XT)
        return lun_fail(LUN_ERR_USAGE, "there is no way of clipping number %d", (int)p->clip);
    if ((unsigned)p->prediction > LUN_PREDICTION_V)
        return lun_fail(LUN_ERR_USAGE, "there is no prediction number %d", (int)p->prediction);
    if ((unsigned)p->variance > LUN_VARIANCE_LEARNED)
        return lun_fail(LUN_ERR_USAGE, "there is no variance number %d", (int)p->variance);
    const char *name = lun_sampler_kind_name(p->kind);
    /* Both go on from predicted ends: pictures that were cut to size are not where those lead. */
    if ((p->kind == LUN_SAMPLER_DPM || p->kind == LUN_SAMPLER_HEUN) && p->clip == LUN_CLIP_MODE_XT)
        return lun_fail(LUN_ERR_USAGE, "the %s sampler can clamp the predicted end (x0), not the picture (xt)", name);
    if (p->kind != LUN_SAMPLER_ANCESTRAL && p->variance != LUN_VARIANCE_SMALL)
        return lun_fail(LUN_ERR_USAGE, "the %s sampler has no variance to choose", name);
    if (p->kind != LUN_SAMPLER_DDIM && (p->eta != 0 || p->raw_eps))
        return lun_fail(LUN_ERR_USAGE, "eta is the ddim sampler's, not of %s", name);
    if (!(p->eta >= 0 && p->eta <= 1))
        return lun_fail(LUN_ERR_USAGE, "eta %g; it lies from 0 to 1", p->eta);
    if (p->kind != LUN_SAMPLER_HEUN && p->steps != 0 && p->steps != p->schedule->steps)
        return lun_fail(LUN_ERR_USAGE, "the %s sampler takes its steps from the schedule", name);
    return LUN_OK;
}

lun_status lun_moves_create(const lun_sampler_params *params, lun_moves *out)
{
    LUN_TRY(check(params));
    switch (params->kind) {
    case LUN_SAMPLER_ANCESTRAL: return lun_moves_ancestral(params, out);
    case LUN_SAMPLER_DDIM: return lun_moves_ddim(params, out);
    case LUN_SAMPLER_DPM: return lun_moves_dpm(params, out);
    case LUN_SAMPLER_HEUN: return lun_moves_heun(params, out);
    }
    return LUN_ERR_INTERNAL;
}
