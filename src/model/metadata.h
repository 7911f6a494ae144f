/* The metadata of model files. Private. */
#ifndef LUN_MODEL_METADATA_H
#define LUN_MODEL_METADATA_H

#include <lunette/checkpoint.h>
#include <lunette/model.h>

/* Fill *info with what the file says, if it does; info->naming, and for the notebook network info->config, are known by
 * then and must agree. LUN_ERR_CHECKPOINT. */
lun_status lun_model_metadata_read(const lun_safetensors *file, lun_model_file_info *info);
/* The value of metadata "lunette.model". free() it; NULL when memory is out. */
char *lun_model_metadata_text(const lun_model_file_info *info);
/* All of it, into a file that has been begun. */
lun_status lun_model_metadata_write(const lun_model_file_info *info, lun_safetensors_writer *writer);

#endif
