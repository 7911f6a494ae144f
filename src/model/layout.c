/* Which network a neighbour's program can be, beyond the names of its tensors. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "build.h"
#include "interop.h"

/* All reasons in one line. */
typedef struct reasons {
    char text[700];
    size_t length;
} reasons;

static void reason(reasons *r, const char *format, ...) LUN_PRINTF(2, 3);
static void reason(reasons *r, const char *format, ...)
{
    va_list args;
    const size_t size = sizeof r->text;
    if (r->length && r->length < size)
        r->length += (size_t)snprintf(r->text + r->length, size - r->length, "; ");
    va_start(args, format);
    if (r->length < size)
        r->length += (size_t)vsnprintf(r->text + r->length, size - r->length, format, args);
    va_end(args);
}

/* norm_eps is compared as the float that it is. */
static void need_norms(reasons *r, const lun_model_config *c, float eps)
{
    if (c->groups != 32)
        reason(r, "group norms of %d groups (always 32 there)", c->groups);
    if (c->norm_eps != eps)
        reason(r, "norm_eps %g (always %g there)", (double)c->norm_eps, (double)eps);
}

static void need_time(reasons *r, const lun_model_config *c, bool cos_first, int shift)
{
    if ((c->time_cos_first != 0) != cos_first)
        reason(r, "time as %s (always %s there)", c->time_cos_first ? "[cos | sin]" : "[sin | cos]",
               cos_first ? "[cos | sin]" : "[sin | cos]");
    if (c->time_shift != shift)
        reason(r, "frequencies of time divided by half - %d (always half - %d there)", c->time_shift, shift);
}

static bool rescaled(const lun_model_config *c)
{
    return c->time_rescale && c->steps != 1000;
}

static void check_guided(reasons *r, const lun_model_config *c)
{
    need_norms(r, c, 1e-5f);
    need_time(r, c, true, 0);
    if (c->asymmetric_pad && !c->resample_blocks)
        reason(r, "strided convolutions padded right and bottom only");
}

static void check_port(reasons *r, const lun_model_config *c)
{
    need_norms(r, c, 1e-6f);
    need_time(r, c, false, 1);
    if (c->resample_blocks)
        reason(r, "residual blocks between levels");
    else if (!c->asymmetric_pad)
        reason(r, "strided convolutions padded on all sides");
    if (c->scale_shift)
        reason(r, "time as scale and shift");
    if (rescaled(c))
        reason(r, "steps told as t 1000 / %d", c->steps);
    if (c->classes)
        reason(r, "classes");
    if (lun_diffusers_head_dim(c) != 0)
        reason(r, "attention of more than one head");
    if (c->channels[0] != c->time_dim)
        reason(r, "a time of %d channels with %d in the first convolution", c->time_dim, c->channels[0]);
    for (int i = 0; i < c->levels; i++)
        if (c->channels[i] % c->time_dim) {
            reason(r, "%d channels at level %d, not a multiple of %d", c->channels[i], i, c->time_dim);
            break;
        }
}

static void check_diffusers(reasons *r, const lun_model_config *c)
{
    if (rescaled(c))
        reason(r, "steps told as t 1000 / %d", c->steps);
    if (lun_diffusers_head_dim(c) < 0)
        reason(r, "%d heads of different widths", c->heads);
    if (c->channels[0] != c->time_dim)
        reason(r, "a time of %d channels with %d in the first convolution", c->time_dim, c->channels[0]);
}

lun_status lun_layout_check(const lun_model_config *c, lun_naming layout)
{
    static const char *const programs[] = {"lunette", "guided-diffusion", "the DDPM port", "diffusers' UNet2DModel"};
    reasons r = {.length = 0};
    LUN_TRY(lun_model_check(c));
    if ((unsigned)layout > LUN_NAMING_DIFFUSERS)
        return lun_fail(LUN_ERR_USAGE, "there is no layout number %d", (int)layout);
    if (layout == LUN_NAMING_OWN)
        return LUN_OK;
    if (c->network == LUN_NOTEBOOK)
        return lun_fail(LUN_ERR_USAGE,
                        "the notebook network cannot be %s: no layout but lunette's (PyTorch's tutorial) holds it",
                        programs[layout]);
    switch (layout) {
    case LUN_NAMING_GUIDED: check_guided(&r, c); break;
    case LUN_NAMING_DDPM: check_port(&r, c); break;
    default: check_diffusers(&r, c); break;
    }
    return r.length ? lun_fail(LUN_ERR_USAGE, "this network cannot be that of %s: %s", programs[layout], r.text)
                    : LUN_OK;
}
