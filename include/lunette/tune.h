/* Tuning: which candidate computes an op fastest on this device, measured once and remembered.
 *
 * An op (one description: kind, shapes, attributes) can have several candidates. The tuner runs each that the device
 * accepts on normal random data of the op's full size, holds its result against that of a candidate that sums products
 * directly, never chooses one whose error is beyond the bound of its class (src/lower/accuracy.c), and takes the
 * fastest of the others.
 *
 * What was chosen is kept in a text file of the cache folder (include/lunette/device.h), one a device: a line an op,
 * for people to read. It counts only for the same device name, driver, number of units, width of vectors, version of
 * lunette and kernel texts; nothing is kept while $LUNETTE_KERNELS is set. A line that is not understood is ignored,
 * and a candidate that a device does not take is passed over: a wrong file can make a run slower but not wrong.
 * Deleting the file forgets everything.
 *
 * Objects belong to one thread at a time. Any number of processes may use the file.
 */
#ifndef LUNETTE_TUNE_H
#define LUNETTE_TUNE_H

#include "device.h"

#ifdef __cplusplus
extern "C" {
#endif

/* For whoever starts something: whether to measure. */
typedef enum lun_tune_mode {
    LUN_TUNE_OFF,   /* the device's own choices */
    LUN_TUNE_KNOWN, /* what is remembered, and the device's own choices for the rest */
    LUN_TUNE_AUTO,  /* measure what is not remembered */
    LUN_TUNE_FORCE  /* measure everything anew */
} lun_tune_mode;

/* The choices known for one device: hand it to lun_compile_params.tuning. */
typedef struct lun_tuning lun_tuning;

/* With what is remembered for the device; nothing for null and check, which have nothing to tune. Does not keep the
 * device. */
LUN_API lun_status lun_tuning_open(const lun_device *dev, lun_tuning **out);
LUN_API void lun_tuning_close(lun_tuning **tuning);
/* How many ops have a choice. */
LUN_API size_t lun_tuning_count(const lun_tuning *tuning);
/* The candidate chosen for an op of this description, or NULL. An op of a graph that keeps what it makes of its
 * parameters (lun_compile_params.keep) has " kept" after it. Valid until the next tuning of the same object. */
LUN_API const char *lun_tuning_candidate(const lun_tuning *tuning, const char *op);
/* The file that remembers; NULL where nothing is remembered. */
LUN_API const char *lun_tuning_path(const lun_tuning *tuning);

typedef struct lun_tune_progress {
    int op, ops; /* the op at turn, from 0; how many are measured in all */
    double elapsed_s;
    const char *description, *candidate; /* candidate: "" between candidates */
} lun_tune_progress;

/* One candidate of one op. */
typedef struct lun_tune_try {
    const char *candidate;
    double seconds;      /* of the best run; NaN when it was not timed */
    double error, bound; /* RMS of the difference from the reference over the RMS of that; NaN when not compared */
    const char *note;    /* why it was not timed or may not be chosen; NULL: nothing against it */
} lun_tune_try;

typedef struct lun_tune_result {
    const char *kind, *description;
    int count;           /* ops of this description in the graph */
    double flops, bytes; /* of one run by the direct method */
    const char *chosen;
    int remembered; /* nothing was measured now; the only try is what was remembered, with its time */
    const lun_tune_try *tries;
    int tries_count;
} lun_tune_result;

/* How to tune; all zero is a good start. Callbacks may be NULL; what they are given is gone when they return. */
typedef struct lun_tune_params {
    int force;      /* measure what is remembered, too */
    double seconds; /* begin no op after this much time; 0: 50. The ops that cost a graph most come first. */
    int (*progress)(void *payload, const lun_tune_progress *progress); /* non-zero: stop here, keeping what is known */
    void (*result)(void *payload, const lun_tune_result *result);      /* after each op that has a choice */
    void *payload;
} lun_tune_params;

#ifdef __cplusplus
}
#endif
#endif
