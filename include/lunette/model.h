/* Networks: graphs with PyTorch's parameter names, and their files.
 *
 * A network is described by a lun_model_config, recorded into a graph by lun_model_forward, and kept in a
 * safetensors file whose metadata carries the configuration. `load_state_dict(strict=True)` of the PyTorch network
 * accepts the file.
 */
#ifndef LUNETTE_MODEL_H
#define LUNETTE_MODEL_H

#include "graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LUN_MODEL_MAX_LEVELS 8

/* The tutorial UNet ("notebook"): channels[0] after conv0, one down block and one up block between neighbours. */
typedef struct lun_model_config {
    int image_channels;                 /* 3 */
    int levels;                         /* entries of channels, at least 2 */
    int channels[LUN_MODEL_MAX_LEVELS]; /* 64, 128, 256, 512, 1024 */
    int time_dim;                       /* 32; even, at least 4 */
    int steps;                          /* T: time steps are 0..T-1 */
} lun_model_config;

/* The published network: 62,438,883 parameters. */
LUN_API lun_model_config lun_model_config_notebook(void);
/* Can this network take pictures of that size? Height and width must be divisible by 2^(levels-1). LUN_ERR_USAGE with
 * the rule. */
LUN_API lun_status lun_model_config_check(const lun_model_config *config, int height, int width);

typedef enum lun_norm_mode {
    LUN_NORM_EVAL,  /* running statistics */
    LUN_NORM_BATCH, /* the batch's own statistics; the running ones stay as they are: sampling in training mode */
    LUN_NORM_TRAIN  /* the batch's own, and the running ones are updated */
} lun_norm_mode;

/* Record the network: x (N, image_channels, H, W), t (N, 1, 1, 1) i32 -> the predicted noise, shaped like x. Adds its
 * parameters to the graph's store the first time, in the order of PyTorch's state_dict. LUN_NORM_TRAIN needs more than
 * one value a channel at the deepest level, N (H / 2^(levels-1)) (W / 2^(levels-1)) > 1; LUN_NORM_BATCH with a single
 * one gives the norm's bias. */
LUN_API lun_value lun_model_forward(lun_graph *graph, const lun_model_config *config, lun_value x, lun_value t,
                                    lun_norm_mode mode);

/* What a model file says besides its tensors. */
typedef struct lun_model_file_info {
    lun_model_config config;
    int height, width;            /* of the training pictures; 0 when the file does not say */
    uint64_t step;                /* optimiser steps taken; 0 when unknown */
    uint64_t batches_tracked;     /* PyTorch's num_batches_tracked of the batch norms */
    char preset[32];              /* "" when unknown */
    double beta_first, beta_last; /* of the linear schedule */
    double ema; /* rate of the moving average that its weights are; 0: the weights themselves, or it does not say */
} lun_model_file_info;

/* Read what a file describes without loading it. The network is told from the tensors' names and shapes (both families
 * of the notebook network: downs/ups and downstream/upstream), all of which are there and fit when this returns LUN_OK;
 * the rest from lunette's metadata, whose configuration must agree. Without metadata steps, beta_first and beta_last
 * are the published experiment's. LUN_ERR_CHECKPOINT if it is no network that lunette knows. */
LUN_API lun_status lun_model_inspect(const char *path, lun_model_file_info *out);
/* Fill an allocated store, whose parameters a graph has declared, from a file. Everything is checked before anything is
 * written, checksums included where the file has them: missing, extra and misshapen tensors are listed (up to ten),
 * LUN_ERR_CHECKPOINT. F32, F16, BF16 and F64 are taken; the num_batches_tracked of a batch norm may be absent. Waits.
 */
LUN_API lun_status lun_model_load(lun_store *store, const char *path);
/* Write the store as a model file: PyTorch's names and shapes, `num_batches_tracked` included, configuration in the
 * metadata, a checksum per tensor, atomically (checkpoint.h). `id` (may be NULL) is stored as metadata "lunette.id".
 * LUN_ERR_DIVERGED, and no file, where a value is not finite. */
LUN_API lun_status lun_model_save(lun_store *store, const lun_model_file_info *info, const char *id, const char *path);

/* ---- Predicting: parity with any other framework, from file to file
 * ------------------------------------------------------ */

typedef enum lun_predict_norm {
    LUN_PREDICT_NORM_DEFAULT, /* batch statistics with `grad`, running ones without */
    LUN_PREDICT_NORM_EVAL,
    LUN_PREDICT_NORM_TRAIN /* batch statistics; nothing is written to the running ones */
} lun_predict_norm;

typedef struct lun_predict_params {
    const char *model; /* a model file */
    const char *in; /* safetensors: x (N, C, H, W) F32, t (N) I64 and, with grad, target like x; finite; nothing else */
    const char *out; /* safetensors, written: y and, with grad, loss (rank 0) and grad.NAME for every parameter,
                        PyTorch's shape */
    int grad;
    lun_loss_type loss; /* with grad */
    float huber_delta;  /* with LUN_HUBER */
    lun_predict_norm norm;
    int allow_fallback; /* lun_compile_params */
    lun_tuning *tuning; /* lun_compile_params */
} lun_predict_params;

/* Run a model on the tensors of a file. LUN_ERR_CHECKPOINT: the model; LUN_ERR_DATA: the tensors, steps outside 0..T-1
 * included (T is 300 where the model file does not say). Waits. */
LUN_API lun_status lun_predict(lun_device *dev, const lun_predict_params *params);

#ifdef __cplusplus
}
#endif
#endif
