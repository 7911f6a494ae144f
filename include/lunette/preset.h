/* Presets: a network, pictures of a size, and how to train one on the other. */
#ifndef LUNETTE_PRESET_H
#define LUNETTE_PRESET_H

#include "train.h"

#ifdef __cplusplus
extern "C" {
#endif

/* As published where something was; all names are those that the options of `lunette train` have. 0 and NULL: none. */
typedef struct lun_preset {
    const char *name;  /* "ddpm-cifar10" */
    const char *about; /* what it is, in a few words */
    lun_model_config model;
    int height, width;
    int batch; /* of one step, on however many machines */
    /* The diffusion process over model.steps time steps, and what is asked of the network. */
    const char *schedule;         /* "linear" from beta_first to beta_last, or "cosine" */
    double beta_first, beta_last; /* linear */
    const char *prediction;       /* "eps" or "v" */
    lun_loss_type loss;
    double min_snr; /* gamma */
    /* The optimiser. */
    const char *optimizer; /* "adam" or "adamw" */
    double lr, beta1, beta2, eps, weight_decay;
    uint64_t warmup;        /* steps in which the learning rate rises to lr */
    double clip_norm;       /* of the gradient */
    double ema;             /* rate of the moving average of the weights */
    const char *ema_warmup; /* "power": min(ema, 1 - n^(-3/4)) after n steps */
    /* The pictures. */
    const char *crop; /* "stretch" or "centre" */
    int flip;
    int labels; /* sub-folders are classes */
    /* The length that the results were published for, or a sensible one; one of the two. */
    uint64_t steps, epochs;
} lun_preset;

LUN_API size_t lun_preset_count(void);
/* In the order of their cost. Fills *out; `index` is below the count. */
LUN_API void lun_preset_at(size_t index, lun_preset *out);
/* LUN_ERR_USAGE with the names there are. */
LUN_API lun_status lun_preset_named(const char *name, lun_preset *out);

#ifdef __cplusplus
}
#endif
#endif
