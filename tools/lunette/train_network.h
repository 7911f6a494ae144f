/* The options of lunette train that say which network is trained, and on what. */
#ifndef LUN_TRAIN_NETWORK_H
#define LUN_TRAIN_NETWORK_H

#include "common.h"

typedef struct objective_args {
    int steps, schedule, prediction, blocks, heads, head_width, groups, attention[LUN_MODEL_MAX_LEVELS],
        attention_count;
    bool steps_given, schedule_given, prediction_given, blocks_given, heads_given, head_width_given, groups_given,
        attention_given, dropout_given, huber_delta_given, min_snr_given, bound_scale_given;
    bool learned_variance, loss_aware;
    double dropout, min_snr, bound_scale;
    float huber_delta;
} objective_args;

/* Entries of an option table; o: an objective_args. */
#define OBJECTIVE_OPTIONS(o)                                                                                           \
    {.name = "--huber-delta",                                                                                          \
     .type = ARG_FLOAT,                                                                                                \
     .value = &(o).huber_delta,                                                                                        \
     .min = 1e-6,                                                                                                      \
     .max = 1e6,                                                                                                       \
     .given = &(o).huber_delta_given,                                                                                  \
     .meta = "D",                                                                                                      \
     .help = "of --loss huber: linear beyond D (1)"},                                                                  \
        {.name = "--diffusion-steps",                                                                                  \
         .type = ARG_INT,                                                                                              \
         .value = &(o).steps,                                                                                          \
         .min = 1,                                                                                                     \
         .max = 1000000,                                                                                               \
         .given = &(o).steps_given,                                                                                    \
         .meta = "T",                                                                                                  \
         .help = "time steps of the process (notebook 300, others 1000)"},                                             \
        {.name = "--schedule",                                                                                         \
         .type = ARG_CHOICE,                                                                                           \
         .value = &(o).schedule,                                                                                       \
         .choices = schedule_names,                                                                                    \
         .given = &(o).schedule_given,                                                                                 \
         .meta = "KIND",                                                                                               \
         .help = "of the noise: linear, scaled (linear, whatever T), cosine, sigmoid"},                                \
        {.name = "--prediction",                                                                                       \
         .type = ARG_CHOICE,                                                                                           \
         .value = &(o).prediction,                                                                                     \
         .choices = prediction_names,                                                                                  \
         .given = &(o).prediction_given,                                                                               \
         .meta = "WHAT",                                                                                               \
         .help = "what the network predicts: eps (the noise), x0 (the picture), v"},                                   \
        {.name = "--min-snr",                                                                                          \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(o).min_snr,                                                                                        \
         .max = 1e9,                                                                                                   \
         .given = &(o).min_snr_given,                                                                                  \
         .meta = "G",                                                                                                  \
         .help = "weigh the loss by min(SNR, G), usually 5; 0: every time step alike"},                                \
        {.name = "--loss-aware",                                                                                       \
         .type = ARG_FLAG,                                                                                             \
         .value = &(o).loss_aware,                                                                                     \
         .help = "train time steps more often where losses are large (see below)"},                                    \
        {.name = "--learned-variance",                                                                                 \
         .type = ARG_FLAG,                                                                                             \
         .value = &(o).learned_variance,                                                                               \
         .help = "of a UNet: it learns the variance too, by the hybrid objective"},                                    \
        {.name = "--bound-scale",                                                                                      \
         .type = ARG_DOUBLE,                                                                                           \
         .value = &(o).bound_scale,                                                                                    \
         .max = 1e6,                                                                                                   \
         .given = &(o).bound_scale_given,                                                                              \
         .meta = "S",                                                                                                  \
         .help = "the variational bound's part in that (1)"},                                                          \
        {.name = "--blocks",                                                                                           \
         .type = ARG_INT,                                                                                              \
         .value = &(o).blocks,                                                                                         \
         .min = 1,                                                                                                     \
         .max = 64,                                                                                                    \
         .given = &(o).blocks_given,                                                                                   \
         .meta = "N",                                                                                                  \
         .help = "of a UNet: residual blocks a level"},                                                                \
        {.name = "--attention",                                                                                        \
         .type = ARG_INTS,                                                                                             \
         .value = (o).attention,                                                                                       \
         .min = 0,                                                                                                     \
         .max = LUN_MODEL_MAX_LEVELS,                                                                                  \
         .count = &(o).attention_count,                                                                                \
         .given = &(o).attention_given,                                                                                \
         .meta = "L,...",                                                                                              \
         .help = "of a UNet: levels with attention, 0 the largest maps"},                                              \
        {.name = "--heads",                                                                                            \
         .type = ARG_INT,                                                                                              \
         .value = &(o).heads,                                                                                          \
         .min = 1,                                                                                                     \
         .max = 65536,                                                                                                 \
         .given = &(o).heads_given,                                                                                    \
         .meta = "N",                                                                                                  \
         .help = "of attention; or:"},                                                                                 \
        {.name = "--head-width",                                                                                       \
         .type = ARG_INT,                                                                                              \
         .value = &(o).head_width,                                                                                     \
         .min = 1,                                                                                                     \
         .max = 65536,                                                                                                 \
         .given = &(o).head_width_given,                                                                               \
         .meta = "N",                                                                                                  \
         .help = "channels of a head"},                                                                                \
        {.name = "--groups",                                                                                           \
         .type = ARG_INT,                                                                                              \
         .value = &(o).groups,                                                                                         \
         .min = 1,                                                                                                     \
         .max = 65536,                                                                                                 \
         .given = &(o).groups_given,                                                                                   \
         .meta = "N",                                                                                                  \
         .help = "of a UNet: groups of its norms (32)"},                                                               \
    {                                                                                                                  \
        .name = "--dropout", .type = ARG_DOUBLE, .value = &(o).dropout, .max = 0.99, .given = &(o).dropout_given,      \
        .meta = "P", .help = "of a UNet: share of a residual block's values that a step leaves out"                    \
    }

/* Put them over the preset's; the channels are set already. LUN_ERR_USAGE for what the network has not. */
lun_status objective_apply(const objective_args *o, lun_train_config *c);
/* LUN_ERR_USAGE where one says otherwise than the run in `out` was started with. */
lun_status objective_check_same(const objective_args *o, const char *out, const lun_train_config *c);
/* A line of what is asked of the network, unless that is the noise of the linear schedule and no more. */
void objective_say(const lun_train_config *c);

#endif
