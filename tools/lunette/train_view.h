/* What lunette train prints: how a run begins, goes and ends. */
#ifndef TRAIN_VIEW_H
#define TRAIN_VIEW_H

#include "train_args.h"
#include "tuner.h"

typedef struct train_view {
    const lun_device *dev;
    lun_device **device; /* the command's: dev, or what takes its place */
    const train_args *args;
    lun_run_progress last;
    bool memory_said;
    tuner_view tuner;
    char if_hung[4200]; /* for watch_device() */
} train_view;

void train_say_start(const train_args *a, const lun_train_config *c, const lun_dataset *dataset, size_t held,
                     const lun_device *dev, const lun_run_params *p);
/* For lun_run_params.progress; payload: a train_view. */
int train_on_progress(void *payload, const lun_run_progress *p);
/* Look on whether the device answers. */
lun_status train_watch_device(train_view *w);
/* For lun_run_params.reopen. */
lun_status train_on_reopen(void *payload, lun_device **dev);
/* Returns the exit code of a run that has ended well, or by a signal. */
int train_say_end(const train_args *a, const train_view *w);

#endif
