/* Building networks. Private to the model tier.
 *
 * A network is written once, as a function that declares layers and applies them, block by block. Run on a graph it
 * records; run without one it only tells a visitor what it declares. So the list of parameters that files, counts and
 * conversions go by cannot differ from the network that runs.
 *
 * In a function that builds a block: first declare all layers, in the order of PyTorch's state_dict; then return -1 if
 * build->graph is NULL; then record. */
#ifndef LUN_MODEL_BUILD_H
#define LUN_MODEL_BUILD_H

#include <stdbool.h>

#include <lunette/model.h>

#define LUN_NAME_BYTES 128
#define LUN_NAMINGS    3 /* guided, ddpm, diffusers: lun_naming less one. The notebook network has the first only. */

/* A parameter, and how a file holds it. */
typedef struct lun_model_param {
    lun_param_info info; /* name: in the store, that is in the family's own naming */
    int parts;           /* tensors in the file: 1, or 3 where q, k and v are apart */
    char part[3][LUN_NAME_BYTES];
    int rank; /* of each */
    int64_t dims[4];
    /* With three parts: row (h 3 + p) c + i of the parameter is row h c + i of part p, for h below `heads` and i below
     * c = dims[0] / heads. 1 with LUN_QKV_SPLIT. */
    int heads;
} lun_model_param;

/* Both names live during the call; false ends the walk. */
typedef bool (*lun_model_visitor)(void *payload, const lun_model_param *param);

/* Every parameter and buffer in order (num_batches_tracked, one integer that stays on the host, is left out), as files
 * of that naming hold them. `config` has passed lun_model_check. False if the visitor said so. */
bool lun_model_visit(const lun_model_config *config, lun_naming naming, lun_model_visitor visit, void *payload);
/* Is this a network at all? LUN_ERR_USAGE with the rule that is broken. */
lun_status lun_model_check(const lun_model_config *config);
/* What LUN_NAMING_OWN means for it; LUN_NAMING_OWN for a network with one naming only. */
lun_naming lun_model_own_naming(lun_network network);

typedef struct lun_build {
    const lun_model_config *config;
    lun_graph *graph; /* NULL: only tell */
    lun_naming naming;
    lun_model_visitor visit; /* NULL with a graph */
    void *payload;
    bool stopped; /* the visitor wants no more */
    lun_norm_mode norm;
    lun_value dropout; /* rows, or -1 */
    char prefix[LUN_NAMINGS][64];
} lun_build;

/* A layer's name after the prefix, in each naming. */
typedef struct lun_label {
    const char *name[LUN_NAMINGS];
    const char *apart[LUN_NAMINGS][3]; /* if given: instead, q, k and v each with a name of its own */
} lun_label;

typedef struct lun_layer {
    lun_value weight, bias;
} lun_layer;

/* What every layer begins with. */
typedef enum lun_begin {
    LUN_BEGIN_USUAL,
    LUN_BEGIN_LAST /* the last of a residual branch, or of the network: lun_start says what */
} lun_begin;

/* Convolution from `in` to `out` channels with kernel^2 filters. */
lun_layer lun_declare_conv(lun_build *b, const lun_label *label, int in, int out, int kernel, lun_begin begin);
/* Transposed; its weight is (in, out, kernel, kernel). */
lun_layer lun_declare_conv_transpose(lun_build *b, const lun_label *label, int in, int out, int kernel);
lun_layer lun_declare_linear(lun_build *b, const lun_label *label, int in, int out);
/* Attention's layers on pixels: Conv1d, Conv2d or Linear in files, depending on the naming. `copies` outputs of `out`
 * channels each: 3 for q, k and v. */
lun_layer lun_declare_pointwise(lun_build *b, const lun_label *label, int in, int out, int copies, int heads,
                                lun_begin begin);
/* Group norm's weight and bias. */
lun_layer lun_declare_norm(lun_build *b, const lun_label *label, int channels);
/* (count, dim, 1, 1) */
lun_value lun_declare_table(lun_build *b, const lun_label *label, int count, int dim);

typedef struct lun_batch_norm_layer {
    lun_value weight, bias, mean, variance;
} lun_batch_norm_layer;
lun_batch_norm_layer lun_declare_batch_norm(lun_build *b, const lun_label *label, int channels);

/* Recording with declared layers; not without a graph. */
lun_value lun_build_conv(lun_build *b, lun_layer layer, lun_value x, int stride, int pad);
/* Of x at twice the size, with stride 1. In training as one convolution with sums of the filter; a network that only
 * samples does better to keep the filter itself, prepared, from run to run. */
lun_value lun_build_conv_upsampled(lun_build *b, lun_layer layer, lun_value x, int pad);
lun_value lun_build_linear(lun_build *b, lun_layer layer, lun_value x);
lun_value lun_build_group_norm(lun_build *b, lun_layer layer, lun_value x);
lun_value lun_build_batch_norm(lun_build *b, const lun_batch_norm_layer *layer, lun_value x);
lun_value lun_build_dropout(lun_build *b, lun_value x);

/* A configuration's network; `in` is not looked at without a graph. */
lun_value lun_model_build(lun_build *b, const lun_model_inputs *in);
/* By family. */
lun_value lun_notebook_build(lun_build *b, const lun_model_inputs *in);
lun_value lun_unet_build(lun_build *b, const lun_model_inputs *in);
lun_status lun_notebook_check(const lun_model_config *config);
lun_status lun_unet_check(const lun_model_config *config);

#endif
