/* Writing a model into a file that someone else begins and commits: the run folder's checkpoints. Private. */
#ifndef LUN_MODEL_FILE_H
#define LUN_MODEL_FILE_H

#include <lunette/checkpoint.h>
#include <lunette/model.h>

/* Metadata ("lunette.model", "lunette.step", with info->ema "lunette.ema"), declarations and data of the whole store,
 * with num_batches_tracked = info->batches_tracked at every batch norm. Trained parameters are taken from `slot`
 * (LUN_SLOT_VALUE or an average). The writer must not have begun its data. After a failure discard it. */
lun_status lun_model_write(lun_store *store, lun_slot slot, const lun_model_file_info *info,
                           lun_safetensors_writer *writer);
/* lun_model_load with the trained parameters put into `slot`; all else, unless that is LUN_SLOT_VALUE, is checked and
 * left as it is. */
lun_status lun_model_load_slot(lun_store *store, lun_slot slot, const char *path);

#endif
