/* A run from inside: what its parts share. Private.
 *
 *   run.c             what is settled before the first step, and the loop
 *   run_record.c      config.json
 *   run_log.c         log.jsonl, and what the caller is shown
 *   run_checkpoint.c  saving and loading
 *   run_look.c        held-out pictures and sample strips
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
    double shown;                     /* when progress was last called */
    uint64_t first_step, logged_step; /* of this start; of the last log line */
    double logged_at, drained_at;
    double loss_sum, norm_sum, loss; /* since the last log line; of that line */
    double lr;                       /* of the last step that is known */
    uint64_t loss_count;
    double rate;     /* pictures a second, of that line */
    bool stop, save; /* asked for: to end; a checkpoint */
} lun_run;

/* ---- run_record.c ---- */

/* A new run's record, or the old one's after a check that it can go on here. *pin: use the recorded candidates. */
lun_status lun_run_prepare_record(lun_run *r, bool *pin);
lun_status lun_run_write_record(lun_run *r);
/* For lun_compile_params.pin; payload: the record's candidates. */
const char *lun_run_pinned(void *payload, const char *op);
/* For lun_trainer_visit(); payload: where the candidates go. */
void lun_run_note_candidate(void *payload, const lun_plan_op *op);
/* Of ops that the record names no kernel for. */
void lun_run_warn_unrecorded(const lun_run *r);

/* ---- run_log.c ---- */

/* Call progress. event: as in lun_run_progress. */
void lun_run_show(lun_run *r, bool logged, const char *event);
/* Take the earlier starts' log lines into the chart's history; also the time they took. */
lun_status lun_run_read_history(lun_run *r);
/* Take the losses of the steps so far into the next log line; waits for them. */
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

#endif
