/* Running and checking candidates, for the tuner. Private to tune.c, tune_probe.c and tune_trial.c. */
#ifndef LUN_DEVICE_TUNE_TRIAL_H
#define LUN_DEVICE_TUNE_TRIAL_H

#include "device/tune.h"

#define MAX_TRIALS  16
#define HOPELESS    8.0 /* times the fastest: not tried on other ops of the class */
#define PROBE_FLOPS 2e8 /* below, an op is its own probe */

/* A candidate of the op at turn. */
typedef struct contender {
    const char *name;
    lun_op_plan *plan; /* NULL: not run, and the note says why */
    double best;       /* seconds; NaN before the first run */
    double error, bound;
    char note[80];
    bool wrong, slow;
} contender;

/* A candidate that is not run on ops of this class any more. */
typedef struct hopeless {
    uint64_t class;
    const char *name;
    double ratio;
} hopeless;

typedef struct task {
    lun_tune_op op;
    int count;
    char text[LUN_TUNE_TEXT];
    double flops, bytes;
} task;

typedef struct tuner {
    lun_device *dev;
    const lun_tune_params *params;
    double (*clock)(void);
    double started, budget;
    lun_buffer *operand[LUN_OP_MAX_SRC], *result, *workspace, *kept;
    float *reference, *piece;
    hopeless hopeless[64];
    int hopeless_count;
    uint64_t probed[64];
    int probed_count;
    lun_tune_progress progress;
    bool stop;
} tuner;

/* ---- tune_trial.c ---- */

/* Operands of made-up numbers and room for results, once, for the largest of all ops. To be freed on failure too. */
lun_status lun_tuner_make_buffers(tuner *t, const task *jobs, size_t count);
void lun_tuner_free_buffers(tuner *t);
/* Tell the caller's progress; true: it wants to stop. */
bool lun_tuner_show(tuner *t, const char *candidate);
/* Plans of the candidates that the device takes; the hopeless of the class have none, unless they are asked for. */
lun_status lun_tuner_plan(tuner *t, const lun_op *op, bool with_hopeless, contender *trials, int *count);
void lun_tuner_unplan(contender *trials, int count);
/* *seconds: one of `runs` runs. Waits. */
lun_status lun_tuner_run(tuner *t, contender *trial, bool kept, int runs, double *seconds);
lun_status lun_tuner_run_again(tuner *t, contender *trial, bool kept);
/* The first run, into a result of NaNs, so that what is not written is seen. */
lun_status lun_tuner_first_run(tuner *t, const task *job, contender *trial);
/* The result of the last run as t->reference, and held against it: sets error, bound and wrong, and says what is wrong.
 */
lun_status lun_tuner_keep_reference(tuner *t, const task *job);
lun_status lun_tuner_check(tuner *t, const task *job, contender *trial, const char *reference);
/* Did the candidate fail in a way that the others need not? The device is as good as before then. */
bool lun_tuner_only_this(const tuner *t, lun_status status);
void lun_tuner_give_up(contender *trial);

/* ---- tune_probe.c ---- */

const hopeless *lun_tuner_find_hopeless(const tuner *t, const lun_op *op, const char *name);
void lun_tuner_note_hopeless(tuner *t, const lun_op *op, const contender *trials, int count);
/* Find the hopeless of a class by a small op of it, once for each class. */
lun_status lun_tuner_probe(tuner *t, const lun_tune_op *full);

#endif
