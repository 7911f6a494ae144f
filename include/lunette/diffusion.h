/* Schedules, objectives and samplers. */
#ifndef LUNETTE_DIFFUSION_H
#define LUNETTE_DIFFUSION_H

#include "model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Schedules
 * ------------------------------------------------------------------------------------------------------------- */

/* All arrays have `steps` entries, computed in double. abar_t = product of (1 - beta); abar_{-1} = 1. The normal
 * q(x_{t-1} | x_t, x_0) has the mean mean_x0_t x_0 + mean_xt_t x_t and the variance posterior_variance_t = beta_t (1 -
 * abar_{t-1}) / (1 - abar_t), which is 0 at t = 0. timestep[i] is what the network is told at step i: i itself, or the
 * original step after respacing. */
typedef struct lun_schedule {
    int steps;
    double *beta, *abar, *posterior_variance;
    int *timestep;
    double *mean_x0, *mean_xt; /* beta sqrt(abar_{t-1}) / (1 - abar), (1 - abar_{t-1}) sqrt(1 - beta) / (1 - abar) */
    /* Log variances of the reverse process: of posterior_variance, whose entry 0 is taken from entry 1, and of beta,
     * whose entry 0 is posterior_variance_1 ("fixed small" and "fixed large" of Ho et al.). ln 1e-20 at t = 0 where
     * there is no entry 1. */
    double *log_variance_small, *log_variance_large;
} lun_schedule;

/* first and last are for the linear two. 1 to 1000000 steps; LUN_ERR_USAGE unless 0 < first <= last < 1 after scaling.
 * The caller frees. */
LUN_API lun_status lun_schedule_create(lun_schedule_kind kind, int steps, double first, double last, lun_schedule *out);
/* beta from `first` to `last` in equal steps, both included; no rescaling with T. 0 < first <= last < 1. */
LUN_API lun_status lun_schedule_linear(int steps, double first, double last, lun_schedule *out);
LUN_API void lun_schedule_free(lun_schedule *schedule);

/* Keep `count` of the steps: stride (T-1)/(count-1), positions rounded half to even from an accumulated float (Nichol
 * and Dhariwal 2021, respace.py with one section); beta'_i = 1 - abar_{s_i} / abar_{s_{i-1}}, everything else from
 * those. 1 <= count <= steps; count = 1 keeps only step 0, as the original code does. */
LUN_API lun_status lun_schedule_respace(const lun_schedule *full, int count, lun_schedule *out);
/* Keep the steps of a list: ascending numbers from 0 to steps - 1. */
LUN_API lun_status lun_schedule_keep(const lun_schedule *full, const int *kept, int count, lun_schedule *out);
/* Keep what a text says:
 *   "N"         lun_schedule_respace
 *   "N,M,.."    so many of equal sections, each rounded as above; the first ones are a step longer where they do not
 *               divide
 *   "ddimN"     every k-th step from 0, k the least stride that gives N of them; LUN_ERR_USAGE if none does
 *   "linspaceN" N + 1 positions evenly from 0 to steps - 1, rounded half to even, without the first: what diffusers'
 *               multistep solvers keep by default. N < steps. */
LUN_API lun_status lun_schedule_select(const lun_schedule *full, const char *text, lun_schedule *out);

/* ---- Objectives
 * ------------------------------------------------------------------------------------------------------------ */

/* The table of lun_noise: (steps, 2, 1, 1) floats sqrt(abar), sqrt(1 - abar). `table` has room for 2 * steps. */
LUN_API void lun_schedule_noise_table(const lun_schedule *schedule, float *table);
/* The same with -sqrt(1 - abar): lun_noise of (eps, x0) with it is v. */
LUN_API void lun_schedule_velocity_table(const lun_schedule *schedule, float *table);
/* min-SNR weights of the loss (Hang et al. 2023), (steps, 1, 1, 1): with SNR = abar / (1 - abar), min(SNR, gamma)
 * divided by SNR for eps, by 1 for x0, by SNR + 1 for v. */
LUN_API void lun_schedule_snr_table(const lun_schedule *schedule, lun_prediction prediction, double gamma,
                                    float *table);
/* The table of lun_variational, (steps, 8, 1, 1). */
LUN_API void lun_schedule_bound_table(const lun_schedule *schedule, lun_prediction prediction, float *table);

/* All zero: the mean of |eps - eps'| (L1). */
typedef struct lun_objective {
    lun_prediction prediction;
    lun_loss_type loss;
    float huber_delta; /* with LUN_HUBER */
    double min_snr;    /* gamma, usually 5; 0: every t counts alike */
    /* The network has twice the channels and learns the range of the variance: the hybrid objective of Nichol and
     * Dhariwal 2021, the loss plus bound_scale times the variational bound's part, whose gradient reaches the variance
     * only. bound_scale is 1, or T / 1000 where their "rescaled" loss is meant. */
    int learned_variance;
    double bound_scale;
} lun_objective;

/* Record x_t of pictures x0 with noise eps at steps t (N, 1, 1, 1) i32. */
LUN_API lun_value lun_objective_noisy(lun_graph *graph, const lun_schedule *schedule, lun_value x0, lun_value eps,
                                      lun_value t);
/* Record the loss (1, 1, 1, 1) of what the network made of xt. weights (N, 1, 1, 1) multiply the samples' shares of the
 * mean (lun_time_sampler_draw); -1: none. each, unless NULL, receives the samples' own losses (N, 1, 1, 1), before
 * those weights: for lun_time_sampler_update. The schedule is the whole one, t a number of its steps. */
LUN_API lun_value lun_objective_loss(lun_graph *graph, const lun_schedule *schedule, const lun_objective *objective,
                                     lun_value pred, lun_value x0, lun_value xt, lun_value eps, lun_value t,
                                     lun_value weights, lun_value *each);

/* ---- Which steps are trained
 *
 * Loss-aware draws (Nichol and Dhariwal 2021, section 3.3): p_t in proportion to the root of the mean square of the
 * last LUN_TIME_HISTORY losses at t, with 0.001 of the uniform distribution mixed in; samples weigh 1 / (T p_t), so
 * that the expected loss stays what it is. Until every t has its losses, draws are uniform: those of lun_randint with
 * the same row. The draw for a sample depends on (seed, its number) and on the updates so far; who wants a run to
 * repeat has to update at fixed steps. */
#define LUN_TIME_HISTORY 10
typedef struct lun_time_sampler lun_time_sampler;

LUN_API lun_status lun_time_sampler_create(int steps, lun_time_sampler **out);
LUN_API void lun_time_sampler_destroy(lun_time_sampler **sampler);
/* t and weight for samples first .. first + count - 1. */
LUN_API void lun_time_sampler_draw(lun_time_sampler *sampler, uint64_t seed, uint64_t first, int count, int32_t *t,
                                   float *weight);
/* Losses of samples at their t; one that is not finite, or whose t does not exist, is left out. */
LUN_API void lun_time_sampler_update(lun_time_sampler *sampler, const int32_t *t, const float *loss, int count);
/* Is every t known well enough? */
LUN_API int lun_time_sampler_ready(const lun_time_sampler *sampler);
/* The state: history (steps, LUN_TIME_HISTORY), oldest first, and how many of each row are known (steps).
 * LUN_ERR_CHECKPOINT, and nothing changed, for what cannot be one. */
LUN_API void lun_time_sampler_save(const lun_time_sampler *sampler, float *history, int32_t *known);
LUN_API lun_status lun_time_sampler_load(lun_time_sampler *sampler, const float *history, const int32_t *known);

/* ---- Samplers
 * -------------------------------------------------------------------------------------------------------------- */

/* Coefficients of lun_sample_step for ancestral sampling at step i with the given clip mode, for a network that
 * predicts eps: the mean of p(x_{t-1} | x_t), from eps directly or, with LUN_CLIP_MODE_X0, through the clamped x0, and
 * sqrt(posterior variance) for z (0 at i = 0). */
LUN_API void lun_schedule_ancestral(const lun_schedule *schedule, int i, lun_clip_mode clip, float coef[8]);

typedef enum lun_sampler_kind {
    LUN_SAMPLER_ANCESTRAL, /* Ho et al. 2020 */
    LUN_SAMPLER_DDIM,      /* Song et al. 2021 */
    LUN_SAMPLER_DPM,       /* DPM-Solver++ 2M (Lu et al. 2022), midpoint; first order at the first and the last step */
    LUN_SAMPLER_HEUN       /* Heun's method on the noise levels of Karras et al. 2022 (rho = 7), two evaluations a step
                              but the last; between the training's steps t is interpolated in the logarithm of the
                              noise level */
} lun_sampler_kind;
#define LUN_SAMPLER_KINDS 4
/* "ancestral", "ddim", "dpm", "heun"; NULL for any other number. */
LUN_API const char *lun_sampler_kind_name(lun_sampler_kind kind);

/* Variance of the ancestral sampler: the two logs of lun_schedule, or between them what the network says in the second
 * half of its channels: exp(f large + (1 - f) small), f = (v + 1) / 2, v not clamped, large being ln beta. */
typedef enum lun_variance { LUN_VARIANCE_SMALL, LUN_VARIANCE_LARGE, LUN_VARIANCE_LEARNED } lun_variance;

/* A network that is not lun_model_apply's own. */
typedef struct lun_denoiser {
    /* Record it: x (N, channels, H, W), t (N, 1, 1, 1) i32, labels (N, 1, 1, 1) i32 or -1 without classes; the result
     * has `channels` or twice as many channels. */
    lun_value (*record)(void *payload, lun_graph *graph, lun_value x, lun_value t, lun_value labels,
                        lun_norm_mode norm);
    void *payload; /* lives as long as the sampler */
    int channels;
    int steps;      /* t is 0..steps-1 */
    int classes;    /* labels are 0..classes-1; 0: takes none */
    int null_label; /* with classes: the label that means none of them, below `classes` or not; -1: there is none */
} lun_denoiser;

/* Fields that are 0 or NULL mean: the seed experiment's sampling. */
typedef struct lun_sampler_params {
    int batch; /* pictures drawn at a time */
    int height, width;
    lun_clip_mode clip;           /* of the predicted end, or of the picture after each step (not dpm, heun) */
    lun_norm_mode norm;           /* EVAL or BATCH */
    const lun_schedule *schedule; /* borrowed; respaced already if wanted. Heun takes the whole one. */
    lun_sampler_kind kind;
    lun_prediction prediction;
    lun_variance variance; /* ancestral */
    double eta;            /* ddim: 0 draws no noise after the first, 1 as much as ancestral sampling */
    int raw_eps; /* ddim: keep the network's eps where x0 was clamped; otherwise eps is what leads to the clamped x0 */
    int steps;   /* heun: noise levels; 0: as many as the schedule has steps */
    /* Classifier-free guidance (Ho and Salimans 2022): eps_u + guidance (eps_c - eps_u), the network evaluated once on
     * twice the batch (one batch, where its statistics are used); eps_u is that of the null label, which the network
     * must have. Not 0 or 1, which are without. */
    double guidance;
    const lun_denoiser *denoiser; /* borrowed; NULL: lun_model_apply of the configuration */
} lun_sampler_params;

typedef struct lun_sampler lun_sampler;

/* Record and compile one denoising step for an allocated, filled store; every step of a drawing is that one with other
 * coefficients. The store's values may change between draws; they are never written. `config` may be NULL with
 * params->denoiser. `compile` (may be NULL) is copied; what its payload points to must live as long as the sampler. */
LUN_API lun_status lun_sampler_create(lun_store *store, lun_device *dev, const lun_model_config *config,
                                      const lun_sampler_params *params, const lun_compile_params *compile,
                                      lun_sampler **out);
LUN_API void lun_sampler_destroy(lun_sampler **sampler);
/* Steps of a drawing, as `remaining` below counts them. */
LUN_API int lun_sampler_steps(const lun_sampler *sampler);
/* Labels that its network knows are 0 .. this - 1, and the null label if it has one; 0: it takes none. */
LUN_API int lun_sampler_classes(const lun_sampler *sampler);

typedef struct lun_sampler_run {
    /* One a picture (batch of them): picture k's noise depends on seeds[k] alone. The normals are those of
     * (seeds[k], LUN_RANDOM_SAMPLER, 0, sub): sub 0 for x_T, sub i + 1 for z when i steps remain after this one. May be
     * NULL when start is given, and noise too where the sampler draws any. */
    const uint64_t *seeds;
    const float *start; /* NULL, or (batch, C, H, W): x_T given */
    const float *noise; /* NULL, or (steps, batch, C, H, W): z of every step given, in order of use (first for the
                           highest t); ignored by samplers that draw none */
    /* Called after every step is enqueued (the device is at most about a tenth of a second behind) with how many steps
     * remain; `images` (batch, C, H, W) is filled only when want(payload, remaining) said so, and NULL otherwise.
     * Return non-zero to stop early (LUN_OK, the pictures as they are). Both may be NULL. */
    int (*want)(void *payload, int remaining);
    int (*progress)(void *payload, int remaining, const float *images);
    void *payload;
    const int32_t *labels; /* (batch), 0..classes-1 or the null label; NULL: the null label for all, if there is one */
    /* Unless NULL: picture k starts between x_T of seeds[k] and of seeds_to[k], on the arc that joins them (Shoemake
     * 1985), mix[k] of the way from the first; later noise is that of seeds[k]. */
    const uint64_t *seeds_to;
    const double *mix;
} lun_sampler_run;

/* Draw; `images` (batch, C, H, W) float, roughly in [-1, 1]. LUN_ERR_DIVERGED if a picture is not finite. Waits. */
LUN_API lun_status lun_sampler_draw(lun_sampler *sampler, const lun_sampler_run *run, float *images);

#ifdef __cplusplus
}
#endif
#endif
