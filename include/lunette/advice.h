/* What plain `lunette train FOLDER` trains: a UNet, an objective and a length that suit the pictures there are and what
 * the device computes in the time there is. */
#ifndef LUNETTE_ADVICE_H
#define LUNETTE_ADVICE_H

#include "train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The name that such a configuration has for a preset. */
#define LUN_PRESET_AUTO "auto"

typedef struct lun_advice_params {
    size_t pictures; /* to train on, at least 1 */
    int side;        /* the median of their shorter sides, pixels: lun_folder_look() */
    int channels;    /* of the pictures to draw: 1, 3 or 4 */
    /* Wishes; 0: advised. */
    int width, height, batch;
    uint64_t steps, epochs; /* the length; at most one of the two */
    double hours;           /* that the run may take; 0: one */
    lun_tuning *tuning;     /* choices of kernels that are remembered; NULL: none */
    int (*progress)(void *payload, const char *what, int done, int of); /* as lun_forecast_params has it; may be NULL */
    void *payload;
} lun_advice_params;

typedef struct lun_advice {
    lun_train_config config; /* with classes 0; its preset is LUN_PRESET_AUTO */
    uint64_t steps;          /* the run's length */
    double step_s;           /* estimate for one */
} lun_advice;

/* The narrowest network and everything else, at once and whatever the device: what options can be checked against. */
LUN_API lun_status lun_advise_untimed(const lun_advice_params *params, lun_advice *out);
/* Time the networks in question, some seconds each, and choose. LUN_ERR_USAGE for sizes that no network takes,
 * LUN_ERR_MEMORY where not even one picture at a time fits, and what lun_forecast_run() fails with. */
LUN_API lun_status lun_advise(lun_device *dev, const lun_advice_params *params, lun_advice *out);

#ifdef __cplusplus
}
#endif
#endif
