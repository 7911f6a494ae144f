/* Schedules and samplers. */
#ifndef LUNETTE_DIFFUSION_H
#define LUNETTE_DIFFUSION_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* All arrays have `steps` entries, computed in double. abar_t = product of (1 - beta); abar_{-1} = 1.
 * posterior_variance_t = beta_t (1 - abar_{t-1}) / (1 - abar_t). timestep[i] is what the network is told at step i: i
 * itself, or the original step after respacing. */
typedef struct lun_schedule {
    int steps;
    double *beta, *abar, *posterior_variance;
    int *timestep;
} lun_schedule;

/* beta from `first` to `last` in equal steps, both included; no rescaling with T. 0 < first <= last < 1. */
LUN_API lun_status lun_schedule_linear(int steps, double first, double last, lun_schedule *out);
LUN_API void lun_schedule_free(lun_schedule *schedule);
/* Keep `count` of the steps: stride (T-1)/(count-1), positions rounded half to even from an accumulated float (Nichol
 * and Dhariwal 2021, respace.py with one section); beta'_i = 1 - abar_{s_i} / abar_{s_{i-1}}, everything else from
 * those. 1 <= count <= steps; count = 1 keeps only step 0, as the original code does. */
LUN_API lun_status lun_schedule_respace(const lun_schedule *full, int count, lun_schedule *out);
/* The table of lun_noise: (steps, 2, 1, 1) floats sqrt(abar), sqrt(1 - abar). `table` has room for 2 * steps. */
LUN_API void lun_schedule_noise_table(const lun_schedule *schedule, float *table);
/* Coefficients of lun_sample_step for ancestral sampling at step i with the given clip mode: the mean of
 * p(x_{t-1} | x_t), from eps directly or, with LUN_CLIP_MODE_X0, through the clamped x0, and sqrt(posterior variance)
 * for z (0 at i = 0). */
LUN_API void lun_schedule_ancestral(const lun_schedule *schedule, int i, lun_clip_mode clip, float coef[8]);

typedef struct lun_sampler_params {
    int batch; /* pictures drawn at a time */
    int height, width;
    lun_clip_mode clip;
    lun_norm_mode norm;           /* EVAL or BATCH */
    const lun_schedule *schedule; /* borrowed; respaced already if wanted */
} lun_sampler_params;

typedef struct lun_sampler lun_sampler;

/* Record and compile one denoising step for an allocated, filled store. The store's values may change between draws;
 * they are never written. `compile` (may be NULL) is copied; what its payload points to must live as long as the
 * sampler. */
LUN_API lun_status lun_sampler_create(lun_store *store, lun_device *dev, const lun_model_config *config,
                                      const lun_sampler_params *params, const lun_compile_params *compile,
                                      lun_sampler **out);
LUN_API void lun_sampler_destroy(lun_sampler **sampler);

typedef struct lun_sampler_run {
    /* One a picture (batch of them): picture k's noise depends on seeds[k] alone. The normals are those of
     * (seeds[k], LUN_RANDOM_SAMPLER, 0, sub): sub 0 for x_T, sub i + 1 for z at step i of the schedule. May be NULL
     * when both start and noise are given. */
    const uint64_t *seeds;
    const float *start; /* NULL, or (batch, C, H, W): x_T given */
    const float
        *noise; /* NULL, or (steps, batch, C, H, W): z of every step given, in order of use (first for the highest t) */
    /* Called after every step is enqueued (the device is at most about a tenth of a second behind) with how many steps
     * remain; `images` (batch, C, H, W) is filled only when want(payload, remaining) said so, and NULL otherwise.
     * Return non-zero to stop early (LUN_OK, the pictures as they are). Both may be NULL. */
    int (*want)(void *payload, int remaining);
    int (*progress)(void *payload, int remaining, const float *images);
    void *payload;
} lun_sampler_run;

/* Draw; `images` (batch, C, H, W) float, roughly in [-1, 1]. LUN_ERR_DIVERGED if a picture is not finite. Waits. */
LUN_API lun_status lun_sampler_draw(lun_sampler *sampler, const lun_sampler_run *run, float *images);

#ifdef __cplusplus
}
#endif
#endif
