/* A run from inside: what its parts share. Private.
 *
 *   run.c             what is settled before the first step, the loop, and tries with a device opened anew
 *   run_make.c        trainer and sampler, in the memory there is
 *   run_record.c      config.json
 *   run_log.c         log.jsonl, and what the caller is shown
 *   run_checkpoint.c  saving and loading
 *   run_look.c        held-out pictures and sample strips
 *   run_health.c      steps that are not finite, and losses out of line
 */
#ifndef LUN_TRAIN_RUN_H
#define LUN_TRAIN_RUN_H

#include <stdbool.h>

#include <lunette/train.h>

#include "checkpoint/json.h"
#include "checkpoint/runfolder.h"
#include "config.h"
#include "holdout.h"
#include "report.h"
#include "trainer.h"

/* A step that is not finite is done again from the same state. Another answer then means that the device errs, which is
 * said, and with the third within FAULT_SPAN steps the run ends. The same means that the numbers do: the run goes back
 * to its newest checkpoint, or its start, and on with what comes SKIP batches after the step, ROLLBACKS times at most.
 */
#define LUN_RUN_FAULTS     3
#define LUN_RUN_FAULT_SPAN 1000
#define LUN_RUN_SKIP       200
#define LUN_RUN_ROLLBACKS  3
/* How often in a row a device that failed is opened anew. */
#define LUN_RUN_REOPENS 3
/* A loss is out of line that many standard deviations above the mean of the last so many. */
#define LUN_RUN_SPIKE  6.0
#define LUN_RUN_WINDOW 128

typedef struct lun_run_health {
    bool unsound;                 /* the next step was not finite; the trainer has been rewound to it */
    bool again;                   /* it is being done again */
    lun_step_report first, other; /* what it gave at first, and the last time */
    int faults, rollbacks;        /* of this start */
    uint64_t fault_step;          /* the last one */
    double window[LUN_RUN_WINDOW];
    uint64_t window_count;  /* losses that it has seen */
    uint64_t spike_said_at; /* of these, when a spike was last told of */
} lun_run_health;

#define LUN_RUN_SHOW_EVERY 0.25 /* seconds between calls of progress */

typedef struct lun_run {
    lun_device *dev;
    const lun_dataset *dataset;
    lun_train_config own; /* the configuration, nothing left open in it */
    const lun_train_config *config;
    const lun_run_params *params;
    lun_runfolder *folder;
    lun_run_record record;
    lun_trainer *trainer;
    lun_sampler *sampler; /* of the strips; NULL without any */
    uint32_t *pictures;   /* the data set's: those held out, then those to train on */
    size_t held_count, train_count;
    lun_holdout *holdout;                 /* NULL: none is held out, or none measured */
    double holdout_loss, holdout_average; /* as last measured, of the weights and of their first moving average */
    uint64_t holdout_step;
    lun_tuning *tuning; /* NULL: not asked for */
    lun_schedule schedule;
    lun_history history;
    uint64_t last_step;               /* UINT64_MAX: only the clock ends the run */
    uint64_t saved_step;              /* of the newest checkpoint; UINT64_MAX: none */
    double started, elapsed_before;   /* of this start; of the starts before it */
    double spent;                     /* by tries on a device that failed, of this start too */
    char crowded[400];                /* why the device ran out of memory in the last try; "" if it did not */
    bool pin;                         /* the record's kernels are to be used */
    double shown;                     /* when progress was last called */
    uint64_t first_step, logged_step; /* of this start; of the last log line */
    double logged_at, drained_at;
    double loss_sum, norm_sum, loss; /* since the last log line; of that line */
    double lr;                       /* of the last step that is known */
    uint64_t loss_count;
    double rate;     /* pictures a second, of that line */
    bool stop, save; /* asked for: to end; a checkpoint */
    lun_run_health health;
} lun_run;

/* ---- run_make.c ---- */

/* Trainer, and where they are wanted holdout and sampler. Where memory lacks, the batch is computed in more parts
 * (own.accumulate, in the record too); LUN_ERR_MEMORY where that would be another computation, naming the batch that
 * there is room for. */
lun_status lun_run_make(lun_run *r);
void lun_run_unmake(lun_run *r);

/* ---- run_record.c ---- */

/* A new run's record, or the old one's after a check that it can go on here. *pin: use the recorded candidates. */
lun_status lun_run_prepare_record(lun_run *r, bool *pin);
lun_status lun_run_write_record(lun_run *r);
/* For lun_compile_params.pin; payload: the record's candidates. */
const char *lun_run_pinned(void *payload, const char *op);
/* Record the device and the kernels that the trainer has; no kernels where the run was stopped while they were
 * measured: what it has then is not what it is to go on with. */
lun_status lun_run_note_kernels(lun_run *r);
/* For lun_trainer_visit(); payload: where the candidates go. */
void lun_run_note_candidate(void *payload, const lun_plan_op *op);
/* Of ops that the record names no kernel for. */
void lun_run_warn_unrecorded(const lun_run *r);

/* ---- run_log.c ---- */

/* Call progress. event: as in lun_run_progress. */
void lun_run_show(lun_run *r, bool logged, const char *event);
/* Take the earlier starts' log lines into the chart's history; also the time they took. */
lun_status lun_run_read_history(lun_run *r);
/* A warning, and an object {"step", "event"} in log.jsonl. */
lun_status lun_run_event(lun_run *r, uint64_t step, const char *format, ...) LUN_PRINTF(3, 4);
/* Take the losses of the steps so far into the next log line; waits for them. LUN_ERR_DIVERGED with health.unsound. */
lun_status lun_run_drain(lun_run *r);
/* Drain, and write a line if there is a step that none has told of. */
lun_status lun_run_log_line(lun_run *r);

/* ---- run_checkpoint.c ---- */

/* Nothing where this step is saved already. */
lun_status lun_run_save(lun_run *r);
/* Weights, optimiser state and averages of a checkpoint. */
lun_status lun_run_load(lun_run *r, const lun_checkpoint *c);

/* ---- run_look.c ---- */

/* Nothing where no pictures are held out, or none measured. */
lun_status lun_run_make_holdout(lun_run *r);
/* The next log line tells the result. */
lun_status lun_run_measure_holdout(lun_run *r);
lun_status lun_run_make_sampler(lun_run *r);
/* samples/epoch-00005.png: one picture, ten panels along the reverse process. */
lun_status lun_run_sample(lun_run *r);
/* The strip of the step that a run goes on from, where it was due and a stop left it out. */
lun_status lun_run_sample_missed(lun_run *r);

/* ---- run_health.c ---- */

/* Tell of a loss that is out of line. step: optimiser steps done with it. */
lun_status lun_run_watch_loss(lun_run *r, uint64_t step, double loss);
/* After a step with health.again, on its pictures: what does it say? LUN_OK: go on; LUN_ERR_DIVERGED: the numbers are
 * at fault; LUN_ERR_DEVICE: too many faults of the device. */
lun_status lun_run_judge(lun_run *r, const float *images);
/* After LUN_ERR_DIVERGED: prepare to do the step again, or go back. LUN_OK: the loop may begin anew. */
lun_status lun_run_recover(lun_run *r);

#endif
