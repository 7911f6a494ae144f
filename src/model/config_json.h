/* A network's configuration as JSON, in model files and run folders. Private. */
#ifndef LUN_MODEL_CONFIG_JSON_H
#define LUN_MODEL_CONFIG_JSON_H

#include <lunette/model.h>

#include "checkpoint/json.h"

/* {"kind": "notebook", "image_channels": 3, "channels": [64, ...], "time_dim": 32, "steps": 300}; for UNets every other
 * member of lun_model_config under its own name, with "attention" the numbers of the levels that have it, "qkv_order"
 * "heads" or "split", "start" "zero-last", "fan-avg" or "torch". A new object; NULL when memory is out. */
json_t *lun_model_config_to_json(const lun_model_config *config);
/* The reverse: all members and no others, and lun_model_check has passed. */
lun_status lun_model_config_from_json(lun_json_from from, const json_t *object, lun_model_config *out);
/* The shortest decimal that is this float: 1e-06 and not 9.99999997e-07. A new number; NULL when memory is out. */
json_t *lun_json_float(float value);

#endif
