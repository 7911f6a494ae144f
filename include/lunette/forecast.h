/* What a run will cost, told before it is begun. Memory is what the run then takes, to the byte: everything is compiled
 * as for the run, on a stand-in for the device that holds nothing. Time is an estimate from single ops that are timed.
 */
#ifndef LUNETTE_FORECAST_H
#define LUNETTE_FORECAST_H

#include "train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Bytes. All but the last lie on the device. */
typedef struct lun_memory_need {
    uint64_t weights; /* with what is kept beside them but not trained */
    uint64_t gradients;
    uint64_t moments;     /* Adam's two */
    uint64_t averages;    /* moving averages of the weights */
    uint64_t activations; /* the arena of the step */
    uint64_t inputs;      /* a batch, constants, the ring of losses */
    uint64_t workspace;
    uint64_t holdout; /* measuring the held-out pictures */
    uint64_t samples; /* the sampler of the strips */
    uint64_t device;  /* the sum of all these: what lun_device_memory() says during the run */
    uint64_t batches; /* read ahead, in the host's memory */
} lun_memory_need;

typedef struct lun_forecast_params {
    lun_tuning *tuning; /* choices that the run will find; NULL: none */
    int strips;         /* the run draws sample strips */
    size_t held;        /* pictures whose loss is measured and that are not trained on */
    int only_memory;    /* no largest batch, no time */
    double seconds;     /* to spend on timing ops; 0: nothing is timed */
    /* Called now and then while something takes time; non-zero ends the timing. May be NULL. */
    int (*progress)(void *payload, const char *what, int done, int of);
    void *payload;
} lun_forecast_params;

typedef struct lun_forecast {
    uint64_t parameters;
    double flops_per_image; /* of a training step, direct method: what each picture of a batch adds */
    double flops_per_step;  /* with what does not depend on the batch */
    lun_memory_need need;
    int need_exact;     /* 0: the batch is beyond what a graph can hold; need is that of small batches, carried on */
    uint64_t available; /* bytes: of a GPU its memory, else what the system has left now; 0: not known */
    uint64_t max_alloc; /* bytes of one buffer; 0: no limit */
    int fits;           /* need.device (and batches, where the device's memory is the host's) within 15/16 of that */
    char reason[200];   /* why a run of this batch is refused whatever there is free; "" */
    int largest_batch;  /* that fits in one part; 0: none; -1: not asked for; at most 4096 */
    double step_s;      /* estimate for one step; NaN: none. A batch that does not fit is taken to be computed in parts.
                         */
    int timed_batch;    /* the batch whose ops were timed, and carried on from there to the run's (a part's) */
    double timed_share; /* of step_s that comes from ops which were timed; the rest is from others of their kind */
    size_t ops;         /* of a step */
} lun_forecast;

/* Fill *out for a configuration on a device. LUN_UNSUPPORTED: the device declines an op;
 * LUN_ERR_USAGE: no such configuration, or the check device. */
LUN_API lun_status lun_forecast_run(lun_device *dev, const lun_train_config *config, const lun_forecast_params *params,
                                    lun_forecast *out);

#ifdef __cplusplus
}
#endif
#endif
