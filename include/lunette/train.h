/* Training: one loop, written against the graph. */
#ifndef LUNETTE_TRAIN_H
#define LUNETTE_TRAIN_H

#include "data.h"
#include "diffusion.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum lun_optimizer_kind { LUN_ADAM, LUN_ADAMW } lun_optimizer_kind;

/* What becomes of the learning rate after the warm-up. */
typedef enum lun_decay { LUN_DECAY_CONSTANT, LUN_DECAY_LINEAR, LUN_DECAY_COSINE } lun_decay;

/* Young moving averages. n: optimiser steps done.
 * NONE   the rate from the first step on; the initial weights fade away (Ho et al. 2020)
 * POWER  min(rate, 1 - n^(-3/4)), as diffusers does with use_ema_warmup: the first step replaces the initial weights
 * RAMP   the average's half-life is at most a twentieth of what has been seen (Karras et al. 2022) */
typedef enum lun_ema_warmup { LUN_EMA_WARMUP_NONE, LUN_EMA_WARMUP_POWER, LUN_EMA_WARMUP_RAMP } lun_ema_warmup;

/* How a folder's pictures become what is trained on. All zero: stretched to the size, as they are, every one of them.
 */
typedef enum lun_crop {
    LUN_CROP_STRETCH, /* LUN_FIT_STRETCH */
    LUN_CROP_CENTRE,  /* LUN_FIT_CROP */
    LUN_CROP_RANDOM   /* LUN_FIT_COVER, and the window at a random place each time */
} lun_crop;

typedef struct lun_data_config {
    lun_crop crop;
    int flip;             /* mirror every other picture, by chance */
    double holdout;       /* pictures never trained on: lun_holdout_split() */
    int labels;           /* not 0: the sub-folders are classes, told to the network */
    double label_dropout; /* share of the samples that are told no class, so that guidance has something to compare */
} lun_data_config;

/* Everything that decides the numbers of a run; config.json holds it. */
typedef struct lun_train_config {
    char preset[32]; /* "notebook" */
    lun_model_config model;
    int height, width;
    /* The process over model.steps time steps, and what is asked of the network (lun_objective). With
     * model.learned_sigma it learns the variance's range too. */
    double beta_first, beta_last; /* of the linear two schedules; 0 < first <= last < 1 whatever the kind */
    lun_schedule_kind schedule;
    lun_prediction prediction;
    lun_loss_type loss;
    float huber_delta;
    double min_snr;     /* gamma of the loss's weights; 0: every t counts alike */
    double bound_scale; /* of the variational bound's part, with learned_sigma: 1 */
    int loss_aware; /* t is drawn in proportion to the losses so far (lun_time_sampler); a step then waits for the one
                       before it */
    int batch;      /* whole batches only: the rest of an epoch is skipped */
    int accumulate; /* micro-batches that a batch is computed in, one after the other: 1 to batch, a divisor of it */
    lun_optimizer_kind optimizer;
    double lr, beta1, beta2, eps, weight_decay;
    uint64_t warmup; /* steps in which the learning rate rises evenly to lr; 0: none */
    lun_decay decay;
    uint64_t decay_steps; /* optimiser step at which the decay has reached its end, above warmup; with a constant rate
                             0; else 0 stands for the end of the run, which lun_train_run then fills in */
    double lr_end;        /* what the learning rate decays to, 0 to lr */
    double clip_norm;     /* most that the gradient's global norm may be; 0: neither clipped nor measured */
    int ema_count;        /* moving averages of the weights, 0 to LUN_MAX_EMA */
    double ema_rate[LUN_MAX_EMA]; /* of each, distinct, above 0 and below 1, with at most 15 decimals */
    lun_ema_warmup ema_warmup;
    uint64_t seed;
    lun_data_config data;
} lun_train_config;

/* The fit to open the run's pictures with. */
LUN_API lun_fit lun_train_fit(const lun_train_config *config);

/* What a preset (preset.h) says of a run. Unknown names: LUN_ERR_USAGE listing the known. A preset with labels has a
 * network of as many classes as were published; set model.classes to those of the pictures. */
LUN_API lun_status lun_train_preset(const char *name, lun_train_config *out);
LUN_API lun_status lun_train_config_check(const lun_train_config *config);
/* The whole schedule. The caller frees. */
LUN_API lun_status lun_train_schedule(const lun_train_config *config, lun_schedule *out);
/* The learning rate of optimiser step `step` (1: the first): lr step / warmup up to the warm-up's last step, then with
 * p = (step - 1 - warmup) / (decay_steps - warmup), at most 1, lr_end + (lr - lr_end) (1 - p), or (1 + cos(pi p)) / 2
 * for (1 - p). */
LUN_API double lun_train_lr(const lun_train_config *config, uint64_t step);
/* The rate of decay of a moving average of `rate` in optimiser step `step` (1: the first). */
LUN_API double lun_train_ema_decay(double rate, lun_ema_warmup warmup, uint64_t step);

/* One optimiser step at a time, compiled for a device: the gradient of each micro-batch, and one update. Randomness of
 * step s, picture i of the batch depends on (seed, global sample number s * batch + i) alone. */
typedef struct lun_trainer lun_trainer;

/* `images_count`: pictures to train on (at least one batch). The store is created inside and belongs to the
 * trainer. */
LUN_API lun_status lun_trainer_create(lun_device *dev, const lun_train_config *config, size_t images_count,
                                      const lun_compile_params *compile, lun_trainer **out);
LUN_API void lun_trainer_destroy(lun_trainer **trainer);
LUN_API lun_store *lun_trainer_store(lun_trainer *trainer);
/* What runs for each micro-batch; without accumulation the update too. */
LUN_API lun_plan *lun_trainer_plan(lun_trainer *trainer);
/* What runs once a step after them; NULL without accumulation. */
LUN_API lun_plan *lun_trainer_update_plan(lun_trainer *trainer);
LUN_API uint64_t lun_trainer_step(const lun_trainer *trainer); /* optimiser steps done */
LUN_API uint64_t lun_trainer_steps_per_epoch(const lun_trainer *trainer);
/* The pictures of the next step, of 0..images_count - 1: `index` has room for config.batch. */
LUN_API void lun_trainer_next(lun_trainer *trainer, uint32_t *index);
/* For a network with classes: those (batch) of the pictures of the steps from now on, 0..classes-1 or, with null_class,
 * `classes`. At first all are 0. LUN_ERR_USAGE outside; other networks ignore them. */
LUN_API lun_status lun_trainer_labels(lun_trainer *trainer, const int32_t *labels);
/* Enqueue one step on pictures (batch, C, H, W) in [-1, 1]. Does not wait, but for the steps before it with loss_aware.
 */
LUN_API lun_status lun_trainer_run(lun_trainer *trainer, const float *images);
/* Losses of the steps since the last call, oldest first; waits. *count is at most LUN_TRAINER_RING; call at least that
 * often. LUN_ERR_DIVERGED if one is not finite. */
#define LUN_TRAINER_RING 64
LUN_API lun_status lun_trainer_losses(lun_trainer *trainer, float losses[LUN_TRAINER_RING], int *count);
/* The same with all that is known of these steps. Also LUN_ERR_DIVERGED for a gradient whose norm is not finite. Steps
 * before the one that is not finite are told of first, by an earlier call. Such a step and those after it have changed
 * nothing of the trainer's values. */
typedef struct lun_step_report {
    float loss;      /* mean over the batch */
    float grad_norm; /* before clipping */
    double lr;
} lun_step_report;
LUN_API lun_status lun_trainer_reports(lun_trainer *trainer, lun_step_report reports[LUN_TRAINER_RING], int *count);
/* Weights and optimiser state from a pair of files as a run folder holds them (the caller has checked that they belong
 * together); training goes on from their step. On LUN_ERR_CHECKPOINT the trainer may be half filled: destroy it. */
LUN_API lun_status lun_trainer_load(lun_trainer *trainer, const char *model_path, const char *optimizer_path);
/* Moving average number `index` from its file, after lun_trainer_load. LUN_ERR_CHECKPOINT where that is of another step
 * or rate. */
LUN_API lun_status lun_trainer_load_average(lun_trainer *trainer, int index, const char *path);

/* When a run ends; 0 is no such limit, and the first that is met counts. */
typedef struct lun_run_length {
    uint64_t steps;  /* optimiser steps in all */
    uint64_t epochs; /* the same in epochs */
    double hours;    /* wall-clock hours of one start */
} lun_run_length;

/* The configuration and (unless NULL) the length that RUN/config.json records. LUN_ERR_USAGE where it is missing or
 * wrong. */
LUN_API lun_status lun_train_config_load(const char *folder, lun_train_config *out, lun_run_length *length);

typedef struct lun_run_progress {
    uint64_t step, last_step; /* 0 when the end is not known in steps */
    uint64_t epoch;           /* whole epochs done; log.jsonl numbers the epoch that a step belongs to, from 0 */
    float loss;               /* of the last log line; before the first the mean so far; NaN before any is known */
    float holdout_loss;       /* as last measured; NaN before, and without pictures held out */
    float holdout_average;    /* the same with the first moving average's weights; NaN also without one */
    double images_per_s, elapsed_s, left_s;
    int logged;        /* a log line has just been written */
    const char *event; /* NULL, or what is being done: "sampling", "saving" */
} lun_run_progress;

/* What lun_run_params.progress answers: one or both of the others, or go on. */
enum {
    LUN_RUN_GO_ON = 0,
    LUN_RUN_STOP = 1, /* finish the step at hand, save and end */
    LUN_RUN_SAVE = 2  /* save after the step at hand and go on */
};

/* A whole run into a folder (config.json, log.jsonl, loss.png, samples/, forward.png, data.png, checkpoints/). */
typedef struct lun_run_params {
    const char *folder; /* of the run */
    int resume;         /* go on from its newest valid checkpoint */
    const char *init; /* model file to start from, kept as the checkpoint of step 0; NULL: the seed's weights; not with
                         resume */
    lun_run_length length; /* recorded, so that a resumed run knows where it was going */
    int sample_every;      /* epochs between sample strips; 0 never */
    int holdout_every; /* epochs between measurements of the held-out pictures' loss, the end counts too; 0: never */
    int log_every;     /* steps between log lines */
    uint64_t checkpoint_every; /* steps; 0: only at the end */
    int keep;                  /* checkpoints to keep, at least 1 */
    lun_clip_mode clip;        /* of the periodic samples */
    lun_norm_mode norm;
    int raw_samples; /* they are drawn with the weights themselves, not with the first moving average */
    int allow_fallback;
    lun_tune_mode tune; /* before the first step; what a resumed run has recorded counts all the same */
    int vet; /* hold the device's kernels against plain C before the first step, where that is not remembered; wrong
                ones are not used (doctor.h) */
    const lun_tune_params *tuner; /* its callbacks and its time; NULL: none, and the usual */
    /* Called after every log line and about four times a second between them. */
    int (*progress)(void *payload, const lun_run_progress *progress);
    /* Close the device that the run has been given, which has failed, and open it anew: *dev, the caller's as before.
     * The run then goes on from its newest checkpoint, three times in a row at most. NULL: it ends. */
    lun_status (*reopen)(void *payload, lun_device **dev);
    void *payload; /* of both */
} lun_run_params;

/* Data set and device are borrowed. The data set has the configuration's size, channels, fit and labels; with `resume`
 * the configuration is the run's own (lun_train_config_load). LUN_ERR_DIVERGED when losses or weights are no longer
 * finite though the run has gone back three times: nothing is saved then, and the former checkpoint stands.
 * LUN_ERR_STORAGE when a file cannot be written; checkpoints already there stand too. */
LUN_API lun_status lun_train_run(lun_device *dev, const lun_dataset *dataset, const lun_train_config *config,
                                 const lun_run_params *params);

#ifdef __cplusplus
}
#endif
#endif
