/* Networks: graphs with PyTorch's parameter names, and their files.
 *
 * A network is described by a lun_model_config, recorded into a graph by lun_model_apply, and kept in a safetensors
 * file whose metadata carries the configuration. `load_state_dict(strict=True)` of the PyTorch network accepts the
 * file: the tutorial's for "notebook", ermongroup/ddim's port of Ho's network for "ddpm", guided-diffusion's for "adm".
 */
#ifndef LUNETTE_MODEL_H
#define LUNETTE_MODEL_H

#include "graph.h"

#ifdef __cplusplus
extern "C" {
#endif

#define LUN_MODEL_MAX_LEVELS 8

/* The families. LUN_DDPM and LUN_ADM are one network with the options below; the family decides in whose names its
 * files are written and what is assumed of a file that does not say. */
typedef enum lun_network {
    LUN_NOTEBOOK, /* the tutorial UNet: channels[0] after conv0, one down and one up block between neighbours */
    LUN_DDPM,     /* Ho, Jain and Abbeel 2020 */
    LUN_ADM       /* Nichol and Dhariwal 2021; Dhariwal and Nichol 2021 */
} lun_network;

/* How the weights of a UNet start. */
typedef enum lun_start {
    /* PyTorch's: weights and biases uniform in +-1 / sqrt(fan_in), embeddings standard normal; but zero for the last
     * convolution of every residual block, attention's projection and the output (guided-diffusion). */
    LUN_START_ZERO_LAST,
    /* Variance scaling by the mean of fan_in and fan_out, uniform in +-sqrt(6 scale / (fan_in + fan_out)), with scale 1
     * but 1e-10 for those three kinds of layers; biases zero (Ho). */
    LUN_START_FAN_AVG,
    LUN_START_TORCH /* PyTorch's everywhere (diffusers) */
} lun_start;

/* All zero but for the first five members is the notebook network. */
typedef struct lun_model_config {
    int image_channels;                 /* 3 */
    int levels;                         /* entries of channels, at least 2 (UNets: 1) */
    int channels[LUN_MODEL_MAX_LEVELS]; /* 64, 128, 256, 512, 1024; of a UNet: base channels times multiplier */
    int time_dim;                       /* of the sinusoids; even, at least 4; of a UNet: the base channels */
    int steps;                          /* T: time steps are 0..T-1 */

    lun_network network;
    /* The rest is for LUN_DDPM and LUN_ADM. */
    int blocks;                          /* residual blocks of a level on the way down; one more on the way up */
    int attention[LUN_MODEL_MAX_LEVELS]; /* 1: after every residual block of that level. The middle has it always. */
    int heads;                           /* of attention; 0: head_width decides */
    int head_width;                      /* channels of a head, where heads is 0 */
    lun_qkv_order qkv_order;             /* of the 3C channels of `qkv` */
    int groups;                          /* of the group norms: 32 */
    float norm_eps;                      /* 1e-6 (Ho), 1e-5 (ADM) */
    int scale_shift;                     /* time enters as norm(h) (1 + scale) + shift; else h + time before the norm */
    int resample_blocks; /* between levels: residual blocks that pool or repeat; else a convolution with stride 2, and
                            repeating before a convolution */
    int asymmetric_pad;  /* that strided convolution pads right and bottom only (TensorFlow's SAME), else all sides */
    int learned_sigma;   /* twice the channels at the output: the mean's, then the variance's */
    int classes;         /* labels 0..classes-1; 0: none */
    int null_class;      /* with classes: label `classes` means none of them, for guidance */
    float dropout;       /* before the last convolution of every residual block */
    int time_cos_first;  /* the sinusoids: [cos | sin]; else [sin | cos] */
    int time_shift;      /* their frequencies are exp(-k ln(10000) / (time_dim / 2 - time_shift)): 1 (Ho), 0 (ADM) */
    int time_rescale;    /* steps are told as t 1000 / T (improved-diffusion); else as t */
    lun_start start;
} lun_model_config;

/* The published notebook network: 62,438,883 parameters. */
LUN_API lun_model_config lun_model_config_notebook(void);
/* A published network by name: notebook; ddpm-cifar10, ddpm-256; iddpm-cifar10, iddpm-64; adm-64, adm-128, adm-256,
 * adm-256-uncond, adm-512; small (64x64: what unet.cu and diffusion.cu train). LUN_ERR_USAGE with the names. */
LUN_API lun_status lun_model_config_named(const char *name, lun_model_config *out);
/* "notebook", "ddpm", "adm" */
LUN_API const char *lun_network_name(lun_network network);
/* Channels of the network's output: image_channels, twice that with learned_sigma. */
LUN_API int lun_model_output_channels(const lun_model_config *config);
/* Can this network take pictures of that size? Height and width must be divisible by 2^(levels-1). LUN_ERR_USAGE with
 * the rule. */
LUN_API lun_status lun_model_config_check(const lun_model_config *config, int height, int width);
/* How many trained numbers a network has, without memory for them. `tensors` (may be NULL): in how many tensors its
 * model file holds them. 0 for a configuration that lun_model_config_check would refuse whatever the size. */
LUN_API uint64_t lun_model_parameters(const lun_model_config *config, uint64_t *tensors);

typedef enum lun_norm_mode {
    LUN_NORM_EVAL,  /* running statistics */
    LUN_NORM_BATCH, /* the batch's own statistics; the running ones stay as they are: sampling in training mode */
    LUN_NORM_TRAIN  /* the batch's own, and the running ones are updated */
} lun_norm_mode;

typedef struct lun_model_inputs {
    lun_value x; /* (N, image_channels, H, W) */
    lun_value t; /* (N, 1, 1, 1) i32 */
    /* (N, 1, 1, 1) i32, for a network with classes; others take -1. -1 with null_class: the null class throughout. */
    lun_value labels;
    /* (N, 8, 1, 1) u32 as lun_random_row makes them; -1: no dropout, as in sampling. Every place of the network draws
     * its own numbers from the one row of a picture. */
    lun_value dropout;
    lun_norm_mode norm; /* of batch norms; with LUN_NORM_TRAIN other networks are recorded as suits training, too */
} lun_model_inputs;

/* Record the network: what it predicts, (N, lun_model_output_channels, H, W). Adds its parameters to the graph's store
 * the first time, in the order of PyTorch's state_dict. LUN_NORM_TRAIN of the notebook network needs more than one
 * value a channel at the deepest level, N (H / 2^(levels-1)) (W / 2^(levels-1)) > 1; LUN_NORM_BATCH with a single one
 * gives the norm's bias. */
LUN_API lun_value lun_model_apply(lun_graph *graph, const lun_model_config *config, const lun_model_inputs *inputs);
/* The same without labels and dropout. */
LUN_API lun_value lun_model_forward(lun_graph *graph, const lun_model_config *config, lun_value x, lun_value t,
                                    lun_norm_mode mode);

/* Add the network's parameters to a store, as recording it does: for a store that is to be loaded or initialised before
 * anything is recorded. LUN_ERR_USAGE if the configuration is none. */
LUN_API lun_status lun_model_declare(lun_store *store, const lun_model_config *config);

/* In whose names, shapes and pieces a file holds a UNet. */
typedef enum lun_naming {
    LUN_NAMING_OWN,      /* the family's first: LUN_NAMING_DDPM for LUN_DDPM, LUN_NAMING_GUIDED for LUN_ADM */
    LUN_NAMING_GUIDED,   /* guided-diffusion and improved-diffusion: input_blocks.0.0.weight; qkv in one */
    LUN_NAMING_DDPM,     /* ermongroup/ddim: conv_in.weight, temb.dense.0.weight; q, k and v apart */
    LUN_NAMING_DIFFUSERS /* UNet2DModel: conv_in.weight, time_embedding.linear_1.weight; q, k and v apart */
} lun_naming;

/* How much noise there is at each of the T steps (diffusion.h makes the numbers). */
typedef enum lun_schedule_kind {
    LUN_SCHEDULE_LINEAR, /* beta from first to last in equal steps */
    LUN_SCHEDULE_SCALED, /* the same with first and last times 1000 / steps: Ho et al.'s process in other lengths */
    LUN_SCHEDULE_COSINE, /* Nichol and Dhariwal 2021: abar like cos^2((u + 0.008) / 1.008 pi / 2), beta at most 0.999 */
    LUN_SCHEDULE_SIGMOID /* Jabri et al. 2022: abar falls like a logistic function from -3 to 3; beta at most 0.999 */
} lun_schedule_kind;
#define LUN_SCHEDULE_KINDS 4
/* "linear", "scaled", "cosine", "sigmoid"; NULL for any other number. */
LUN_API const char *lun_schedule_kind_name(lun_schedule_kind kind);

/* What a network predicts of x_t = sqrt(abar) x_0 + sqrt(1 - abar) eps; v = sqrt(abar) eps - sqrt(1 - abar) x_0
 * (Salimans and Ho 2022). */
typedef enum lun_prediction { LUN_PREDICTION_EPS, LUN_PREDICTION_X0, LUN_PREDICTION_V } lun_prediction;
#define LUN_PREDICTIONS 3
/* "eps", "x0", "v"; NULL for any other number. */
LUN_API const char *lun_prediction_name(lun_prediction prediction);

/* What a model file says besides its tensors. */
typedef struct lun_model_file_info {
    lun_model_config config;
    lun_naming naming;            /* of the file's tensors; never LUN_NAMING_OWN for a UNet's file that was read */
    int height, width;            /* of the training pictures; 0 when the file does not say */
    uint64_t step;                /* optimiser steps taken; 0 when unknown */
    uint64_t batches_tracked;     /* PyTorch's num_batches_tracked of the batch norms */
    char preset[32];              /* "" when unknown */
    double beta_first, beta_last; /* of the linear two schedules; the others have no parameters */
    lun_schedule_kind schedule;
    lun_prediction prediction;
    double ema;  /* rate of the moving average that its weights are; 0: the weights themselves, or it does not say */
    int assumed; /* a UNet's file that does not say what its tensors do not show */
} lun_model_file_info;

/* Read what a file describes without loading it, or a folder that diffusers saved: that of a pipeline with a
 * UNet2DModel, or that of the model. There unet/config.json and scheduler/scheduler_config.json say what the tensors do
 * not show; an option or a schedule that lunette's networks do not have is LUN_ERR_CHECKPOINT, and so is a folder whose
 * configuration and metadata (a file that lunette wrote) disagree.
 *
 * The network is told from the tensors' names and shapes (both families
 * of the notebook network: downs/ups and downstream/upstream; UNets in any lun_naming), all of which are there and fit
 * when this returns LUN_OK; the rest from lunette's metadata, whose configuration must agree. Without metadata it is
 * what was published: T is 300 for the notebook network and 1000 for UNets, beta_first and beta_last are 1e-4 and 0.02,
 * the schedule is linear, eps is predicted, there are 32 groups, no dropout, no null class, and
 *   Ho's, in LUN_NAMING_DDPM or LUN_NAMING_DIFFUSERS: one head, norm_eps 1e-6, asymmetric_pad, [sin | cos], time_shift;
 *   OpenAI's, in LUN_NAMING_GUIDED, or with scale_shift or resample_blocks: norm_eps 1e-5, [cos | sin];
 *     with resample_blocks heads of 64 in LUN_QKV_HEADS order, but LUN_QKV_SPLIT in a network of adm-64's widths and
 *     four heads in one of adm-128's; without, improved-diffusion's four heads, T = 4000 and time_rescale. The cosine
 *     schedule in the latter and in adm-64's widths.
 * LUN_ERR_CHECKPOINT if it is no network that lunette knows. */
LUN_API lun_status lun_model_inspect(const char *path, lun_model_file_info *out);
/* Fill an allocated store, in which the network is declared, from a file or a folder of diffusers. Everything is
 * checked before anything is written, checksums included where the file has them: missing, extra and misshapen tensors
 * are listed (up to ten), LUN_ERR_CHECKPOINT. F32, F16, BF16 and F64 are taken; the num_batches_tracked of a batch norm
 * may be absent. Waits.
 */
LUN_API lun_status lun_model_load(lun_store *store, const char *path);
/* Write the store as a model file: PyTorch's names and shapes, those of info->naming, `num_batches_tracked` included,
 * configuration in the metadata, a checksum per tensor, atomically (checkpoint.h). `id` (may be NULL) is stored as
 * metadata "lunette.id". LUN_ERR_DIVERGED, and no file, where a value is not finite. */
LUN_API lun_status lun_model_save(lun_store *store, const lun_model_file_info *info, const char *id, const char *path);

/* ---- Files of the neighbours
 * ------------------------------------------------------------------------------------------------------------------ */

/* What no tensor shows, of a file that does not say it; 0: not given, so what lun_model_inspect assumes. */
typedef struct lun_model_hints {
    int heads;      /* of attention */
    int head_width; /* channels of a head, in place of heads */
    int order;      /* 1 + lun_qkv_order of `qkv`; where q, k and v are apart, of what is written */
    int groups;     /* of the group norms */
} lun_model_hints;

typedef struct lun_convert_params {
    const char *from; /* a model file, or a folder of diffusers */
    /* A file; with LUN_NAMING_DIFFUSERS a folder, which DDPMPipeline.from_pretrained takes. Nothing of that name may be
     * there. */
    const char *to;
    lun_naming layout; /* LUN_NAMING_OWN: lunette's */
    lun_model_hints hints;
} lun_convert_params;

/* Can a layout hold this network? Not whether its names do, which they do for every UNet, but whether the programs that
 * read it would compute the same: LUN_ERR_USAGE with all that they cannot. The notebook network has lunette's alone. */
LUN_API lun_status lun_layout_check(const lun_model_config *config, lun_naming layout);
/* Write a model in another layout. Tensors are moved and never computed with: their bytes and types stay, and so does
 * the metadata; back in the former layout a file that lunette wrote is the same, byte for byte. Checksums are compared
 * first, where there are some. `out` (may be NULL): what was written. The new file or folder appears whole or not at
 * all. LUN_ERR_CHECKPOINT: from; LUN_ERR_USAGE: a layout that cannot hold the network, hints about what the file says
 * itself, or a `to` that is there already; LUN_ERR_STORAGE. */
LUN_API lun_status lun_model_convert(const lun_convert_params *params, lun_model_file_info *out);

/* ---- Predicting: parity with any other framework, from file to file
 * ------------------------------------------------------ */

typedef enum lun_predict_norm {
    LUN_PREDICT_NORM_DEFAULT, /* batch statistics with `grad`, running ones without */
    LUN_PREDICT_NORM_EVAL,
    LUN_PREDICT_NORM_TRAIN /* batch statistics; nothing is written to the running ones */
} lun_predict_norm;

typedef struct lun_predict_params {
    const char *model; /* a model file */
    /* safetensors: x (N, C, H, W) F32, t (N) I64, for a network with classes labels (N) I64, and with grad target,
     * shaped like the network's output; finite; nothing else */
    const char *in;
    /* safetensors, written: y and, with grad, loss (rank 0) and grad.NAME for every tensor of the model file that holds
     * parameters, shaped like it */
    const char *out;
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
