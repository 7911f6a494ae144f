/* What several subcommands do: open a device and say which, find and load a model, answer in JSON. */
#ifndef LUN_COMMON_H
#define LUN_COMMON_H

#include <jansson.h>

#include "args.h"

extern const char *const clip_names[]; /* of lun_clip_mode, ended by NULL */
extern const char *const norm_names[]; /* "eval", "train": LUN_NORM_EVAL and LUN_NORM_BATCH */
extern const char *const loss_names[]; /* of lun_loss_type */

#define MAX_THREADS 1024
/* --threads, the same wherever a device is opened; place: int *. */
#define THREADS_OPTION(place)                                                                                          \
    {                                                                                                                  \
        .name = "--threads", .type = ARG_INT, .value = place, .min = 1, .max = MAX_THREADS, .meta = "N",               \
        .help = "of the cpu device (all cores)"                                                                        \
    }

/* Open the device; the caller closes it. */
lun_status open_device(const char *spec, int threads, lun_device **out);
/* LUN_ERR_USAGE for "null", whose results are not worth a file. */
lun_status check_computes(const char *spec);
/* "opencl:0: NAME (PLATFORM, 2 units), chosen automatically" */
void device_text(const lun_device *dev, const char *asked, char *text, size_t size);

/* The model that PATH means: itself, a file or a folder of diffusers, or the newest sound checkpoint of the run folder
 * PATH. free() it. */
lun_status find_model(const char *path, char **file);

/* A model in device memory, ready to be sampled. */
typedef struct loaded_model {
    lun_model_file_info info;
    lun_store *store;
} loaded_model;
lun_status load_model(const char *file, lun_device *dev, loaded_model *out);
void free_model(loaded_model *model);

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
