/* The options of lunette train that say what an optimiser's step does. */
#ifndef LUN_TRAIN_UPDATE_H
#define LUN_TRAIN_UPDATE_H

#include "common.h"

typedef struct update_args {
    int optimizer, decay, ema_warmup, ema_count, betas_count, accumulate, micro_batch;
    bool optimizer_given, decay_given, ema_warmup_given, ema_given, betas_given, accumulate_given, micro_batch_given,
        weight_decay_given, clip_norm_given, warmup_given, decay_steps_given, lr_end_given;
    uint64_t warmup, decay_steps;
    double weight_decay, clip_norm, lr_end, betas[2], ema[LUN_MAX_EMA];
} update_args;

/* Entries of an option table; u: an update_args. */
#define UPDATE_OPTIONS(u)                                                                                              \
    {.name = "--optimizer",                                                                                            \
     .type = ARG_CHOICE,                                                                                               \
     .value = &(u).optimizer,                                                                                          \
     .choices = optimizer_names,                                                                                       \
     .given = &(u).optimizer_given,                                                                                    \
     .meta = "KIND",                                                                                                   \
     .help = "adam, adamw (the preset's)"},                                                                            \
        {.name = "--betas",                                                                                            \
         .type = ARG_DOUBLES,                                                                                          \
         .value = (u).betas,                                                                                           \
         .max = 2,                                                                                                     \
         .count = &(u).betas_count,                                                                                    \
         .given = &(u).betas_given,                                                                                    \
         .meta = "B1,B2",                                                                                              \
         .help = "of its moments (0.9,0.999)"},                                                                        \
        {.name = "--weight-decay",                                                                                     \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(u).weight_decay,                                                                                   \
         .max = 1e6,                                                                                                   \
         .given = &(u).weight_decay_given,                                                                             \
         .meta = "R",                                                                                                  \
         .help = "added to the gradient, or with adamw taken off the weights (the preset's)"},                         \
        {.name = "--warmup",                                                                                           \
         .type = ARG_U64,                                                                                              \
         .value = &(u).warmup,                                                                                         \
         .max = 1e12,                                                                                                  \
         .given = &(u).warmup_given,                                                                                   \
         .meta = "N",                                                                                                  \
         .help = "steps in which the learning rate rises to --lr (the preset's)"},                                     \
        {.name = "--decay",                                                                                            \
         .type = ARG_CHOICE,                                                                                           \
         .value = &(u).decay,                                                                                          \
         .choices = decay_names,                                                                                       \
         .given = &(u).decay_given,                                                                                    \
         .meta = "KIND",                                                                                               \
         .help = "of the learning rate after that: constant, linear, cosine (the preset's)"},                          \
        {.name = "--decay-steps",                                                                                      \
         .type = ARG_U64,                                                                                              \
         .value = &(u).decay_steps,                                                                                    \
         .min = 1,                                                                                                     \
         .max = 1e12,                                                                                                  \
         .given = &(u).decay_steps_given,                                                                              \
         .meta = "N",                                                                                                  \
         .help = "the step at which it has decayed (the run's last)"},                                                 \
        {.name = "--lr-end",                                                                                           \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(u).lr_end,                                                                                         \
         .max = 1e3,                                                                                                   \
         .given = &(u).lr_end_given,                                                                                   \
         .meta = "R",                                                                                                  \
         .help = "what it decays to (0)"},                                                                             \
        {.name = "--clip-norm",                                                                                        \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(u).clip_norm,                                                                                      \
         .max = 1e30,                                                                                                  \
         .given = &(u).clip_norm_given,                                                                                \
         .meta = "R",                                                                                                  \
         .help = "shrink the gradient to this norm at most, and log its norm (0: neither)"},                           \
        {.name = "--ema",                                                                                              \
         .type = ARG_DOUBLES,                                                                                          \
         .value = (u).ema,                                                                                             \
         .max = LUN_MAX_EMA,                                                                                           \
         .count = &(u).ema_count,                                                                                      \
         .given = &(u).ema_given,                                                                                      \
         .meta = "RATE,..",                                                                                            \
         .help = "moving averages of the weights, as 0.9999; up to four; 0: none (the preset's)"},                     \
        {.name = "--ema-warmup",                                                                                       \
         .type = ARG_CHOICE,                                                                                           \
         .value = &(u).ema_warmup,                                                                                     \
         .choices = ema_warmup_names,                                                                                  \
         .given = &(u).ema_warmup_given,                                                                               \
         .meta = "KIND",                                                                                               \
         .help = "how young averages move: none, power, ramp (the preset's; see below)"},                              \
        {.name = "--accumulate",                                                                                       \
         .type = ARG_INT,                                                                                              \
         .value = &(u).accumulate,                                                                                     \
         .min = 1,                                                                                                     \
         .max = 4096,                                                                                                  \
         .given = &(u).accumulate_given,                                                                               \
         .meta = "K",                                                                                                  \
         .help = "compute a batch in K parts, in a Kth of the memory (1); or:"},                                       \
    {                                                                                                                  \
        .name = "--micro-batch", .type = ARG_INT, .value = &(u).micro_batch, .min = 1, .max = 4096,                    \
        .given = &(u).micro_batch_given, .meta = "N", .help = "in parts of N pictures"                                 \
    }

/* Put them over the preset's; the batch is set already. */
lun_status update_apply(const update_args *u, lun_train_config *c);
/* LUN_ERR_USAGE where one says otherwise than the run in `out` was started with. */
lun_status update_check_same(const update_args *u, const char *out, const lun_train_config *c);
/* A line of what an update does beyond plain Adam at one learning rate; none where it doesn't. */
void update_say(const lun_train_config *c);

#endif
