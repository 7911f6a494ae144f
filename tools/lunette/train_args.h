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
    bool clip_given;
    double hang_timeout;
} train_args;

/* Entries of an option table; a: a train_args. All that decides what a run computes and how long, but preset, device
 * and what it starts from. */
#define RUN_OPTIONS(a)                                                                                                 \
    {.name = "--size",                                                                                                 \
     .type = ARG_SIZE,                                                                                                 \
     .value = (a).size,                                                                                                \
     .min = 2,                                                                                                         \
     .max = 4096,                                                                                                      \
     .given = &(a).size_given,                                                                                         \
     .meta = "N|WxH",                                                                                                  \
     .help = "pixels, a side or across and down (the preset's); divisible by 2 for each level but one"},               \
        DATA_OPTIONS(&(a).data),                                                                                       \
        {.name = "--batch",                                                                                            \
         .type = ARG_INT,                                                                                              \
         .value = &(a).batch,                                                                                          \
         .min = 1,                                                                                                     \
         .max = 4096,                                                                                                  \
         .given = &(a).batch_given,                                                                                    \
         .meta = "N",                                                                                                  \
         .help = "pictures a step (the preset's); what is left of an epoch is skipped"},                               \
        {.name = "--epochs",                                                                                           \
         .type = ARG_U64,                                                                                              \
         .value = &(a).epochs,                                                                                         \
         .min = 1,                                                                                                     \
         .max = 1e12,                                                                                                  \
         .given = &(a).epochs_given,                                                                                   \
         .meta = "N",                                                                                                  \
         .help = "end after N epochs in all (notebook 500); or:"},                                                     \
        {.name = "--steps",                                                                                            \
         .type = ARG_U64,                                                                                              \
         .value = &(a).steps,                                                                                          \
         .min = 1,                                                                                                     \
         .max = 1e15,                                                                                                  \
         .given = &(a).steps_given,                                                                                    \
         .meta = "N",                                                                                                  \
         .help = "end after N optimiser steps in all (the other presets'); or:"},                                      \
        {.name = "--hours",                                                                                            \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(a).hours,                                                                                          \
         .min = 1e-4,                                                                                                  \
         .max = 1e5,                                                                                                   \
         .given = &(a).hours_given,                                                                                    \
         .meta = "H",                                                                                                  \
         .help = "end after H hours of this start (auto 1)"},                                                          \
        {.name = "--lr",                                                                                               \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(a).lr,                                                                                             \
         .min = 1e-12,                                                                                                 \
         .max = 1e3,                                                                                                   \
         .given = &(a).lr_given,                                                                                       \
         .meta = "R",                                                                                                  \
         .help = "learning rate (the preset's)"},                                                                      \
        UPDATE_OPTIONS((a).update),                                                                                    \
        {.name = "--seed",                                                                                             \
         .type = ARG_U64,                                                                                              \
         .value = &(a).seed,                                                                                           \
         .given = &(a).seed_given,                                                                                     \
         .meta = "S",                                                                                                  \
         .help = "of all that is random (0)"},                                                                         \
        {.name = "--channels",                                                                                         \
         .type = ARG_INTS,                                                                                             \
         .value = (a).channels,                                                                                        \
         .min = 1,                                                                                                     \
         .max = LUN_MODEL_MAX_LEVELS,                                                                                  \
         .count = &(a).levels,                                                                                         \
         .given = &(a).channels_given,                                                                                 \
         .meta = "A,B,...",                                                                                            \
         .help = "of the levels, 1 to 8 (the preset's)"},                                                              \
        {.name = "--loss",                                                                                             \
         .type = ARG_CHOICE,                                                                                           \
         .value = &(a).loss,                                                                                           \
         .choices = loss_names,                                                                                        \
         .given = &(a).loss_given,                                                                                     \
         .meta = "KIND",                                                                                               \
         .help = "l1 (notebook's), l2 (the others'), huber"},                                                          \
        OBJECTIVE_OPTIONS((a).objective),                                                                              \
        {.name = "--sample-every",                                                                                     \
         .type = ARG_INT,                                                                                              \
         .value = &(a).sample_every,                                                                                   \
         .min = 0,                                                                                                     \
         .max = 1e9,                                                                                                   \
         .given = &(a).sample_every_given,                                                                             \
         .meta = "EPOCHS",                                                                                             \
         .help = "epochs between sample strips (5; auto: 20 in all); 0: none"},                                        \
    {                                                                                                                  \
        .name = "--holdout-every", .type = ARG_INT, .value = &(a).holdout_every, .min = 0, .max = 1e9,                 \
        .given = &(a).holdout_every_given, .meta = "EPOCHS",                                                           \
        .help = "epochs between measurements of held-out pictures (5; auto: 100 in all); 0: none"                      \
    }

/* Of RUN_OPTIONS, what train does without them. */
#define RUN_DEFAULTS .sample_every = 5, .holdout_every = 5, .hang_timeout = HANG_USUAL

/* A new run with preset auto. */
bool train_wants_advice(const train_args *a);
/* The configuration and the length of a new run: the preset's with what the options say. *length: as the options have
 * it, on entry. `dev` as below. */
lun_status train_new_config(const train_args *a, lun_device *dev, lun_train_config *out, lun_run_length *length);
/* The configuration and the length: of a new run, or with --resume of the old one, after a check that no option says
 * otherwise. `dev` is for preset auto; with NULL it is a stand-in, to check options against. */
lun_status train_make_config(const train_args *a, lun_device *dev, lun_train_config *out, lun_run_length *length);
/* Epochs between what is done now and then: with preset auto, whose epochs may be short and many, as often as suits the
 * run, unless an option says otherwise. */
int train_sample_interval(const train_args *a, const lun_train_config *c, uint64_t per_epoch,
                          const lun_run_length *length);
int train_holdout_interval(const train_args *a, const lun_train_config *c, uint64_t per_epoch,
                           const lun_run_length *length);
/* Options that go together with each other, before anything is looked at; and with the configuration. */
/* There is such a folder of pictures. */
lun_status train_check_folder(const char *folder);
lun_status train_check_length(const train_args *a);
lun_status train_check_options(const train_args *a);
lun_status train_check_config(const train_args *a, const lun_train_config *c);
/* The file to start from, if one is given, fits the network. */
lun_status train_check_init(const train_args *a, const lun_train_config *c);

#endif
