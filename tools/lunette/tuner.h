/* What a person sees of tuning: the live line while it lasts, and one line about it afterwards. */
#ifndef LUN_TUNER_H
#define LUN_TUNER_H

#include "args.h"

extern const char *const tune_names[]; /* "off", "known", "auto", "force": of lun_tune_mode, ended by NULL */
/* For the help: what the modes mean, and where the file lies. */
#define TUNE_NOTE "Which kernel computes an op is measured once: 'lunette tune --help' says where that is remembered."

typedef struct tuner_view {
    bool (*stopped)(void); /* NULL: never */
    bool said;
    double started, seconds;
    int measured; /* ops */
    bool failed;
} tuner_view;

/* Callbacks for lun_tune_params, whose payload is then a tuner_view. */
int tuner_progress(void *payload, const lun_tune_progress *progress);
void tuner_result(void *payload, const lun_tune_result *result);
/* Say how it went, if anything was measured. */
void tuner_end(tuner_view *view);

/* The choices for `mode`; NULL with LUN_TUNE_OFF. */
lun_status open_tuning(const lun_device *dev, int mode, lun_tuning **out);

#endif
