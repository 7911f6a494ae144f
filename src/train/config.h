/* config.json of a run folder. Private. */
#ifndef LUN_TRAIN_CONFIG_H
#define LUN_TRAIN_CONFIG_H

#include <jansson.h>

#include <lunette/train.h>

#include "checkpoint/json.h"

/* What a run remembers beside its configuration, so that going on gives the same bits. */
typedef struct lun_run_record {
    lun_train_config config;
    lun_run_length length;
    char version[16];
    char device[160], driver[128]; /* name and driver of the device that the run started on, or that has other kernels
                                      since it found too little memory there */
    uint64_t dataset_hash;
    uint64_t dataset_count;
    json_t *classes;    /* their names, in order; owned; NULL without labels */
    json_t *candidates; /* {"op description": "candidate"}; owned; NULL where the run was stopped while
                           they were being measured */
} lun_run_record;

/* The part about the pictures, its key "data" in config.json. Reading checks it as lun_data_config_check() does. */
json_t *lun_data_config_json(const lun_data_config *config);
lun_status lun_data_config_read(lun_json_from from, const json_t *object, lun_data_config *out);
lun_status lun_data_config_check(const lun_data_config *config);

/* The text of config.json; free() it. NULL when memory is out. */
char *lun_run_record_text(const lun_run_record *record);
/* Read FOLDER/config.json. LUN_ERR_USAGE when it is missing or wrong. Release with lun_run_record_free. */
lun_status lun_run_record_read(const char *folder, lun_run_record *out);
void lun_run_record_free(lun_run_record *record);

#endif
