/* Preset auto: a configuration made for the folder and the device. */
#ifndef LUN_ADVISE_H
#define LUN_ADVISE_H

#include "data_options.h"

typedef struct advise_args {
    const char *folder;
    const data_args *data;
    int width, height, batch; /* wishes; 0: none */
    uint64_t steps, epochs;   /* at most one */
    double hours;
} advise_args;

/* With dev NULL nothing is timed or said: a stand-in, to check options against. Else look at the pictures, time some
 * networks and say what was chosen. *steps: the run's length, *seconds (may be NULL): what a step of it takes.
 * LUN_ERR_DATA for a folder without pictures. */
lun_status advise(lun_device *dev, const advise_args *args, lun_train_config *config, uint64_t *steps, double *seconds);

#endif
