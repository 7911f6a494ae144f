/* Writing a model into a file that someone else begins and commits: the run folder's checkpoints, predict's results.
 * Private. */
#ifndef LUN_MODEL_FILE_H
#define LUN_MODEL_FILE_H

#include <stdbool.h>

#include <lunette/checkpoint.h>
#include <lunette/model.h>

#include "build.h"

/* Open a model, a file or a folder of diffusers, and learn what it is, as lun_model_inspect does. `hints` (may be NULL)
 * are for a file that does not say; LUN_ERR_USAGE where it does. The caller closes *file. */
lun_status lun_model_open(const char *path, const lun_model_hints *hints, lun_safetensors **file,
                          lun_model_file_info *out);

/* "NAME.running_var" -> "NAME.num_batches_tracked"; false for other names. */
bool lun_model_tracked_name(const char *name, char *out, size_t size);
/* Row (h 3 + part) c + i of `whole` and row h c + i of `piece` are one (lun_model_param, three parts): copy to the
 * piece (gather) or from it. `element`: bytes. */
void lun_model_move_rows(const lun_model_param *p, int part, void *whole, void *piece, size_t element, bool gather);

/* Metadata ("lunette.model", "lunette.step", with info->ema "lunette.ema"), declarations and data of the network's
 * parameters in info->naming, with num_batches_tracked = info->batches_tracked at every batch norm. Trained parameters
 * are taken from `slot` (LUN_SLOT_VALUE or an average). The writer must not have begun its data. After a failure
 * discard it. */
lun_status lun_model_write(lun_store *store, lun_slot slot, const lun_model_file_info *info,
                           lun_safetensors_writer *writer);
/* lun_model_load with the trained parameters put into `slot`; all else, unless that is LUN_SLOT_VALUE, is checked and
 * left as it is. */
lun_status lun_model_load_slot(lun_store *store, lun_slot slot, const char *path);

/* One slot of a network's parameters: declared in lun_model_put_names, written in lun_model_put_values, in the same
 * order. */
typedef struct lun_model_putting {
    lun_store *store;
    lun_slot slot; /* of the trained parameters; of the others LUN_SLOT_VALUE */
    lun_safetensors_writer *writer;
    const char *prefix;    /* before every name */
    bool finite;           /* LUN_ERR_DIVERGED for a value that is not */
    bool trained_only;     /* LUN_ROLE_PARAM alone */
    float *values, *piece; /* the rest is theirs */
    lun_status status;
} lun_model_putting;
lun_status lun_model_put_names(lun_model_putting *w, const lun_model_config *config, lun_naming naming);
lun_status lun_model_put_values(lun_model_putting *w, const lun_model_config *config, lun_naming naming);

#endif
