/* Telling a network from a file. Private to the model tier. */
#ifndef LUN_MODEL_TELL_H
#define LUN_MODEL_TELL_H

#include <lunette/checkpoint.h>
#include <lunette/model.h>

/* The tensor of that name, or of the notebook network's other family (downstream/upstream for downs/ups), or of
 * diffusers' attention of 2022 (query, key, value, proj_attn); else -1. */
int64_t lun_model_find(const lun_safetensors *file, const char *name);
/* In whose names the file speaks; LUN_NAMING_OWN for anything that is no UNet. */
lun_naming lun_model_tell_naming(const lun_safetensors *file);
/* The configuration that names and shapes suggest, and the kind of schedule, the rest as `hints` (may be NULL) and then
 * lun_model_inspect say of files without metadata; it has passed lun_model_check. Whether every tensor is there and
 * fits is not looked at, and other members of `out` are not changed. LUN_ERR_CHECKPOINT. */
lun_status lun_model_tell(const lun_safetensors *file, lun_naming naming, const lun_model_hints *hints,
                          lun_model_file_info *out);

#endif
