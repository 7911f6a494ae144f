/* What several subcommands do: open a device and say which, find and load a model, answer in JSON. */
#ifndef LUN_COMMON_H
#define LUN_COMMON_H

#include <jansson.h>

#include "args.h"

extern const char *const clip_names[];       /* of lun_clip_mode, ended by NULL */
extern const char *const norm_names[];       /* "eval", "train": LUN_NORM_EVAL and LUN_NORM_BATCH */
extern const char *const loss_names[];       /* of lun_loss_type */
extern const char *const schedule_names[];   /* of lun_schedule_kind */
extern const char *const prediction_names[]; /* of lun_prediction */
extern const char *const optimizer_names[];  /* of lun_optimizer_kind */
extern const char *const decay_names[];      /* of lun_decay */
extern const char *const ema_warmup_names[]; /* of lun_ema_warmup */

/* Of the help; lun_preset_named() knows them. */
#define PRESETS "notebook, tiny, small, ddpm-cifar10, ddpm-256, adm-64"

#define GRID_GAP 2 /* pixels between the pictures of a grid */

#define MAX_THREADS 1024
/* --device and --allow-fallback, the same wherever a device is opened; place: const char **, bool *; more: a literal,
 * ", check" where the check device serves. */
#define DEVICE_OPTION(place, more)                                                                                     \
    {                                                                                                                  \
        .name = "--device", .type = ARG_TEXT, .value = place, .meta = "DEVICE",                                        \
        .help = "auto (the default), cpu, opencl[:I]" more "; see lunette devices"                                     \
    }
#define FALLBACK_OPTION(place)                                                                                         \
    {                                                                                                                  \
        .name = "--allow-fallback", .type = ARG_FLAG, .value = place,                                                  \
        .help = "let plain C compute what the device cannot"                                                           \
    }
/* --hang-timeout, likewise; place: double *, HANG_USUAL before. */
#define HANG_USUAL (-1.0)
#define HANG_OPTION(place)                                                                                             \
    {                                                                                                                  \
        .name = "--hang-timeout", .type = ARG_DOUBLE, .value = place, .min = 0, .max = 1e6, .meta = "S",               \
        .help = "seconds in which the device must answer, else exit 5 (GPUs 600); 0: for ever (others)"                \
    }
/* --threads, the same wherever a device is opened; place: int *. */
#define THREADS_OPTION(place)                                                                                          \
    {                                                                                                                  \
        .name = "--threads", .type = ARG_INT, .value = place, .min = 1, .max = MAX_THREADS, .meta = "N",               \
        .help = "of the cpu device (all cores)"                                                                        \
    }

/* Which network, batch and picture size a command works on where it has no pictures. */
typedef struct network_args {
    const char *preset, *model; /* model: RUN|FILE, or NULL */
    int batch, size, channels[LUN_MODEL_MAX_LEVELS], levels;
    bool batch_given, size_given, preset_given, channels_given;
} network_args;
/* Its options; place: network_args, with the preset's name set. */
#define NETWORK_OPTIONS(place)                                                                                         \
    {.name = "--model",                                                                                                \
     .type = ARG_TEXT,                                                                                                 \
     .value = &(place).model,                                                                                          \
     .meta = "RUN|FILE",                                                                                               \
     .help = "the network and the picture size of this model"},                                                        \
        {.name = "--preset",                                                                                           \
         .type = ARG_TEXT,                                                                                             \
         .value = &(place).preset,                                                                                     \
         .given = &(place).preset_given,                                                                               \
         .meta = "NAME",                                                                                               \
         .help = "or those of a preset (notebook): " PRESETS},                                                         \
        {.name = "--channels",                                                                                         \
         .type = ARG_INTS,                                                                                             \
         .value = (place).channels,                                                                                    \
         .min = 1,                                                                                                     \
         .max = LUN_MODEL_MAX_LEVELS,                                                                                  \
         .count = &(place).levels,                                                                                     \
         .given = &(place).channels_given,                                                                             \
         .meta = "A,B,...",                                                                                            \
         .help = "of the levels (the preset's)"},                                                                      \
        {.name = "--batch",                                                                                            \
         .type = ARG_INT,                                                                                              \
         .value = &(place).batch,                                                                                      \
         .min = 1,                                                                                                     \
         .max = 4096,                                                                                                  \
         .given = &(place).batch_given,                                                                                \
         .meta = "N",                                                                                                  \
         .help = "pictures at a time (the preset's)"},                                                                 \
    {                                                                                                                  \
        .name = "--size", .type = ARG_INT, .value = &(place).size, .min = 2, .max = 4096,                              \
        .given = &(place).size_given, .meta = "N", .help = "pixels a side (the preset's)"                              \
    }
/* Other channels for a network, whose other options stay as they are where they still mean something. */
void set_channels(lun_model_config *config, const int *channels, int levels);
/* The configuration they mean, checked. *file (may be NULL) is the model's file, for the caller to free, or NULL. */
lun_status network_config(const network_args *args, lun_train_config *out, char **file);

/* Open the device; the caller closes it. */
lun_status open_device(const char *spec, int threads, lun_device **out);
/* Seconds that the device has for an answer, 0: for ever, where --hang-timeout is `asked`. */
double hang_patience(const lun_device *dev, double asked);
/* From now on the command ends with exit 5 and one line where the device does not answer for so long; 0: never. `after`
 * ends the line, and must stay. One device at a time. */
lun_status watch_device(lun_device *dev, double patience, const char *after);
/* Both of these and open_device(). */
lun_status open_watched(const char *spec, int threads, double asked, lun_device **out);
/* LUN_ERR_USAGE for "null", whose results are not worth a file. */
lun_status check_computes(const char *spec);
/* "opencl:0: NAME (PLATFORM, 2 units), chosen automatically" */
void device_text(const lun_device *dev, const char *asked, char *text, size_t size);

/* The model that PATH means: itself, a file or a folder of diffusers, or the newest sound checkpoint of the run folder
 * PATH. free() it. */
lun_status find_model(const char *path, char **file);
/* The same with a choice among what a checkpoint has: "raw" the weights themselves, "ema" the first moving average, or
 * an average's rate; NULL: the first average if there is one, else the weights. */
lun_status find_weights(const char *path, const char *which, char **file);

/* A model in device memory, ready to be sampled. */
typedef struct loaded_model {
    lun_model_file_info info;
    lun_store *store;
} loaded_model;
lun_status load_model(const char *file, lun_device *dev, loaded_model *out);
void free_model(loaded_model *model);

/* As few digits as give the same number back; returns text. */
const char *short_number(double value, char *text, size_t size);
/* "0.9999,0.999" */
const char *rates_text(const double *rates, int count, char *text, size_t size);

/* On --resume: LUN_ERR_USAGE "OPTION GIVEN: the run in OUT was started with RECORDED". */
lun_status run_differs(const char *out, const char *option, const char *given, const char *recorded);
lun_status run_check_number(const char *out, const char *option, bool given, double value, double recorded);

/* "64,128,256" */
const char *channels_text(const lun_model_config *config, char *text, size_t size);

/* The most memory the process (a CPU device) or the device (others) has held since the start. */
uint64_t peak_bytes(const lun_device *dev);

/* Print one JSON value on a line (several lines with indent > 0) and release it. Reals have six digits. */
int print_json(json_t *json, int indent);

/* Flush standard output; LUN_ERR_STORAGE's exit code when something was lost, for commands whose output is their
 * result. */
int finish_output(void);

double median(double *values, size_t count); /* sorts them */

#endif
