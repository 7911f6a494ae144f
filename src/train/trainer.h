/* The trainer's private side.
 *
 *   trainer.c        recording, compiling and running a step
 *   trainer_files.c  its state in files
 */
#ifndef LUN_TRAINER_H
#define LUN_TRAINER_H

#include <lunette/checkpoint.h>
#include <lunette/train.h>

#include "feed.h"
#include "step.h"

struct lun_trainer {
    lun_train_config config;
    size_t images_count;
    uint64_t step;           /* optimiser steps done */
    uint64_t drained;        /* steps whose losses have been handed out */
    uint64_t skipped;        /* batches that were never trained on: those of a stretch where the numbers broke */
    lun_step_report bad;     /* of step `drained`, where reports ended with it */
    uint64_t tracked_before; /* batches that a model's batch norms had seen before step 0: those of --init */
    lun_store *store;
    lun_graph *graph, *update_graph; /* the latter NULL without accumulation, and its plan */
    lun_plan *plan, *update_plan;
    lun_step_values values; /* of a micro-batch */
    lun_value ring, slot, first;
    lun_value hyper, norm_ring, norm_slot, health; /* of the update */
    lun_value weights;                             /* of it too; -1: no averages */
    uint32_t *rows;                                /* micro-batch x LUN_RANDOM_ROW, reused all the time */
    float *losses;                                 /* the ring on the host */
    lun_order order;
    int32_t *labels; /* (batch) of the next step */
    /* With loss_aware: whose draws, and what was drawn for the last step (batch). */
    lun_time_sampler *times;
    int32_t *time;
    float *time_weight, *each;
    int waiting; /* micro-batch whose losses the plan still holds; -1: none */
    bool drawn;  /* the last step's losses have not been told to `times` */
};

lun_model_file_info lun_trainer_file_info(const lun_trainer *trainer);
/* Start from a model file's weights and running statistics instead of the seed's: step 0, moments zero. */
lun_status lun_trainer_init(lun_trainer *trainer, const char *model_path);
/* Declare and write weights and optimiser state; the writers are neither committed nor discarded here. LUN_ERR_DIVERGED
 * where a value is not finite: such a file would displace a sound one. */
lun_status lun_trainer_write(lun_trainer *trainer, lun_safetensors_writer *weights, lun_safetensors_writer *optimizer);
/* The same for moving average number `index`, as a model file. */
lun_status lun_trainer_write_average(lun_trainer *trainer, int index, lun_safetensors_writer *writer);
/* Once a run: warn where micro-batches change more than rounding, in a network with batch norms. */
void lun_trainer_warn(const lun_trainer *trainer);
/* Every op of a step in order of execution: lun_plan_visit over all that runs. */
void lun_trainer_visit(const lun_trainer *trainer, void (*visit)(void *payload, const lun_plan_op *op), void *payload);

/* ---- Steps that are not finite ----
 * The device itself lets no such step change anything, nor the steps after it (lun_graph_health), until the host has
 * seen it: reports then say LUN_ERR_DIVERGED, and the trainer's values are those of before that step. */

/* After LUN_ERR_DIVERGED from reports: go back to before that step, whose loss and norm go to *bad. Waits. Run again,
 * the step computes the same from the same. */
lun_status lun_trainer_rewind(lun_trainer *trainer, lun_step_report *bad);
/* Run the next step op by op, on its pictures, and say in `text` which value is the first that is not finite: "" if
 * none is. Waits after each op. For a step that is known not to be finite: nothing changes but, where it turns out
 * sound, what it trains. The trainer is at the same step again afterwards. */
lun_status lun_trainer_trace(lun_trainer *trainer, const float *images, char *text, size_t size);
/* Everything as after lun_trainer_create(), but for what has been skipped. */
lun_status lun_trainer_restart(lun_trainer *trainer);
/* From now on steps take the pictures and the randomness of steps that many later. */
void lun_trainer_skip(lun_trainer *trainer, uint64_t batches);
/* Steps whose reports have been handed out. */
uint64_t lun_trainer_drained(const lun_trainer *trainer);
/* The number of the next batch: steps done and batches skipped. */
uint64_t lun_trainer_position(const lun_trainer *trainer);

/* ---- trainer.c, for trainer_files.c ---- */

/* Averages begin as the weights are. */
lun_status lun_trainer_start_averages(lun_trainer *t);
/* Tell the sampler of time steps of the last step; after that its state is all there is to keep. */
lun_status lun_trainer_settle_times(lun_trainer *t);

#endif
