/* Writing a model into a file that someone else begins and commits: the run folder's checkpoints. Private. */
#ifndef LUN_MODEL_FILE_H
#define LUN_MODEL_FILE_H

#include <lunette/checkpoint.h>
#include <lunette/model.h>

/* Metadata ("lunette.model", "lunette.step"), declarations and data of the whole store, with num_batches_tracked =
 * info->batches_tracked at every batch norm. The writer must not have begun its data. After a failure discard it. */
lun_status lun_model_write(lun_store *store, const lun_model_file_info *info, lun_safetensors_writer *writer);

#endif
