/* What the command line of lunette train says. */
#ifndef TRAIN_ARGS_H
#define TRAIN_ARGS_H

#include "data_options.h"
#include "train_network.h"
#include "train_update.h"

typedef struct train_args {
    const char *folder, *out, *preset, *device, *init, *cache;
    data_args data;
    int tune, size[2], batch, threads, sample_every, holdout_every, log_every, keep, clip, norm, loss,
        channels[LUN_MODEL_MAX_LEVELS], levels;
    bool size_given, batch_given, lr_given, seed_given, channels_given, preset_given, loss_given;
    bool epochs_given, steps_given, hours_given, checkpoint_given;
    bool sample_every_given, holdout_every_given;
    bool resume, quiet, allow_fallback, no_cache, no_doctor;
    uint64_t epochs, steps, seed, checkpoint_every;
    double hours;
    double lr;
    int weights;
    update_args update;
    objective_args objective;
    bool clip_given, hang_timeout_given;
    double hang_timeout;
} train_args;

/* A new run with preset auto. */
bool train_wants_advice(const train_args *a);
/* The configuration and the length: of a new run, or with --resume of the old one, after a check that no option says
 * otherwise. `dev` is for preset auto; with NULL it is a stand-in, to check options against. */
lun_status train_make_config(const train_args *a, lun_device *dev, lun_train_config *out, lun_run_length *length);
/* Options that go together with each other, before anything is looked at; and with the configuration. */
lun_status train_check_options(const train_args *a);
lun_status train_check_config(const train_args *a, const lun_train_config *c);
/* The file to start from, if one is given, fits the network. */
lun_status train_check_init(const train_args *a, const lun_train_config *c);

#endif
