/* diffusers' folders and their JSON. Private to the model tier and to what asks where a model's tensors lie.
 *
 * A pipeline's folder: model_index.json, unet/config.json, unet/diffusion_pytorch_model.safetensors,
 * scheduler/scheduler_config.json. A model's: the two of unet/ alone. */
#ifndef LUN_MODEL_INTEROP_H
#define LUN_MODEL_INTEROP_H

#include <stdbool.h>

#include <jansson.h>

#include <lunette/model.h>

#include "checkpoint/json.h"

/* Paths. weights NULL: no such folder; scheduler NULL: none in it. */
typedef struct lun_diffusers_parts {
    char *weights, *config, *scheduler;
} lun_diffusers_parts;

#define LUN_DIFFUSERS_WEIGHTS "diffusion_pytorch_model.safetensors"

/* Does it look like one? No file is read, and a run's folder is none, nor is what is missing. LUN_ERR_STORAGE where
 * that cannot be told. */
lun_status lun_diffusers_look(const char *path, bool *is_one);
/* LUN_ERR_CHECKPOINT for a pipeline without a UNet2DModel, and for a folder that lacks a part. The weights are whatever
 * takes their place: a pickle too, for the reader to refuse. */
lun_status lun_diffusers_find(const char *path, lun_diffusers_parts *out);
void lun_diffusers_parts_free(lun_diffusers_parts *parts);

/* config, height, width and the schedule as config.json and scheduler_config.json (where there is one) say; other
 * members stay. LUN_ERR_CHECKPOINT with the file and the key. */
lun_status lun_diffusers_read(const lun_diffusers_parts *parts, lun_model_file_info *info);
/* diffusers' words, by lun_schedule_kind (NULL: none; its own sigmoid is another schedule) and lun_prediction. */
extern const char *const lun_diffusers_schedules[LUN_SCHEDULE_KINDS];
extern const char *const lun_diffusers_predictions[LUN_PREDICTIONS];
/* The scheduler alone, from its JSON. */
lun_status lun_diffusers_read_scheduler(lun_json_from from, json_t *root, lun_model_file_info *info);
/* Do metadata and the folder's JSON, read with the former, describe one network and schedule? LUN_ERR_CHECKPOINT with
 * the first key that differs. */
lun_status lun_diffusers_agree(const lun_diffusers_parts *parts, const lun_model_file_info *said,
                               const lun_model_file_info *read);

/* Has diffusers this schedule? LUN_ERR_USAGE. */
lun_status lun_diffusers_check(const lun_model_file_info *info);
/* What goes into the folder's three JSON files, for a network that lun_layout_check and lun_diffusers_check have
 * passed. New objects; NULL when memory is out. */
json_t *lun_diffusers_unet_json(const lun_model_file_info *info);
json_t *lun_diffusers_scheduler_json(const lun_model_file_info *info);
/* scheduler: the former's object, whose class is named. */
json_t *lun_diffusers_index_json(const json_t *scheduler);

/* What samplers are told and training does not depend on (which variance, which clipping, which class) is kept on the
 * way through lunette: as this metadata, where it is not what lunette writes by itself. */
#define LUN_DIFFUSERS_KEPT "diffusers.scheduler"
/* The scheduler of a folder as such a text (free() it), or NULL where there is nothing to keep. `info` is what the
 * folder was read as. */
lun_status lun_diffusers_keep(const lun_diffusers_parts *parts, const lun_model_file_info *info, char **text);
/* The scheduler to write for `info`: the kept one, if there is one (`text` may be NULL) and it describes that schedule;
 * else lunette's. A new object; NULL when memory is out. */
json_t *lun_diffusers_kept(const char *text, const lun_model_file_info *info);

/* attention_head_dim that gives every attention of the network its heads: channels of a head, 0 for one head (null
 * there), -1 where no number does. */
int lun_diffusers_head_dim(const lun_model_config *config);

#endif
