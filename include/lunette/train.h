/* Training: one loop, written against the graph. */
#ifndef LUNETTE_TRAIN_H
#define LUNETTE_TRAIN_H

#include "data.h"
#include "diffusion.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Everything that decides the numbers of a run; config.json holds it. */
typedef struct lun_train_config {
    char preset[32]; /* "notebook" */
    lun_model_config model;
    int height, width;
    double beta_first, beta_last; /* linear schedule over model.steps */
    lun_loss_type loss;
    float huber_delta;
    int batch; /* whole batches only: the rest of an epoch is skipped */
    double lr, beta1, beta2, eps, weight_decay;
    uint64_t seed;
} lun_train_config;

/* What a preset (preset.h) says of a run. Unknown names: LUN_ERR_USAGE listing the known. */
LUN_API lun_status lun_train_preset(const char *name, lun_train_config *out);
LUN_API lun_status lun_train_config_check(const lun_train_config *config);

/* One optimiser step at a time, compiled for a device. Randomness of step s, picture i of the batch depends on (seed,
 * global sample number s * batch + i) alone. */
typedef struct lun_trainer lun_trainer;

/* `images_count`: pictures of the data set (at least one batch). The store is created inside and belongs to the
 * trainer. */
LUN_API lun_status lun_trainer_create(lun_device *dev, const lun_train_config *config, size_t images_count,
                                      const lun_compile_params *compile, lun_trainer **out);
LUN_API void lun_trainer_destroy(lun_trainer **trainer);
LUN_API lun_store *lun_trainer_store(lun_trainer *trainer);
LUN_API lun_plan *lun_trainer_plan(lun_trainer *trainer);
LUN_API uint64_t lun_trainer_step(const lun_trainer *trainer); /* optimiser steps done */
LUN_API uint64_t lun_trainer_steps_per_epoch(const lun_trainer *trainer);
/* The pictures of the next step: `index` has room for config.batch. */
LUN_API void lun_trainer_next(lun_trainer *trainer, uint32_t *index);
/* Enqueue one step on pictures (batch, C, H, W) in [-1, 1]. Does not wait. */
LUN_API lun_status lun_trainer_run(lun_trainer *trainer, const float *images);
/* Losses of the steps since the last call, oldest first; waits. *count is at most LUN_TRAINER_RING; call at least that
 * often. LUN_ERR_DIVERGED if one is not finite. */
#define LUN_TRAINER_RING 64
LUN_API lun_status lun_trainer_losses(lun_trainer *trainer, float losses[LUN_TRAINER_RING], int *count);
/* Weights and optimiser state from a pair of files as a run folder holds them (the caller has checked that they belong
 * together); training goes on from their step. On LUN_ERR_CHECKPOINT the trainer may be half filled: destroy it. */
LUN_API lun_status lun_trainer_load(lun_trainer *trainer, const char *model_path, const char *optimizer_path);

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
    double images_per_s, elapsed_s, left_s;
    int logged;        /* a log line has just been written */
    const char *event; /* NULL, or what is being done: "sampling", "saving" */
} lun_run_progress;

/* A whole run into a folder (config.json, log.jsonl, loss.png, samples/, forward.png, data.png, checkpoints/). */
typedef struct lun_run_params {
    const char *folder; /* of the run */
    int resume;         /* go on from its newest valid checkpoint */
    const char *init; /* model file to start from, kept as the checkpoint of step 0; NULL: the seed's weights; not with
                         resume */
    lun_run_length length;     /* recorded, so that a resumed run knows where it was going */
    int sample_every;          /* epochs between sample strips; 0 never */
    int log_every;             /* steps between log lines */
    uint64_t checkpoint_every; /* steps; 0: only at the end */
    int keep;                  /* checkpoints to keep, at least 1 */
    lun_clip_mode clip;        /* of the periodic samples */
    lun_norm_mode norm;
    int allow_fallback;
    lun_tune_mode tune;           /* before the first step; what a resumed run has recorded counts all the same */
    const lun_tune_params *tuner; /* its callbacks and its time; NULL: none, and the usual */
    /* Called after every log line and about four times a second between them; non-zero asks to stop (a checkpoint is
     * saved). */
    int (*progress)(void *payload, const lun_run_progress *progress);
    void *payload;
} lun_run_params;

/* Data set and device are borrowed. The data set has the configuration's size; with `resume` the configuration is the
 * run's own (lun_train_config_load). LUN_ERR_DIVERGED when a loss or a weight is no longer finite: nothing is saved
 * then, and the former checkpoint stands. LUN_ERR_STORAGE when a file cannot be written; checkpoints already there
 * stand too. */
LUN_API lun_status lun_train_run(lun_device *dev, const lun_dataset *dataset, const lun_train_config *config,
                                 const lun_run_params *params);

#ifdef __cplusplus
}
#endif
#endif
