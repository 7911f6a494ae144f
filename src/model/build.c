#include "build.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/base.h"
#include "graph/graph.h"

#define BATCH_NORM_EPS      1e-5f
#define BATCH_NORM_MOMENTUM 0.1f

lun_naming lun_model_own_naming(lun_network network)
{
    switch (network) {
    case LUN_DDPM: return LUN_NAMING_DDPM;
    case LUN_ADM: return LUN_NAMING_GUIDED;
    default: return LUN_NAMING_OWN;
    }
}

/* ---- One parameter ----------------------------------------------------------------------------------------------- */

/* How files hold a weight: the rank of its tensor in each naming. */
typedef struct file_form {
    int rank[LUN_NAMINGS];
    int heads; /* of a weight, or its bias, that may be in three parts */
} file_form;

static const file_form vector_form = {.rank = {1, 1, 1}}, matrix_form = {.rank = {2, 2, 2}},
                       filter_form = {.rank = {4, 4, 4}};

static int column(const lun_build *b, lun_naming naming)
{
    const lun_naming named = naming == LUN_NAMING_OWN ? lun_model_own_naming(b->config->network) : naming;
    return named == LUN_NAMING_OWN ? 0 : (int)named - 1;
}

static void fill_parts(const lun_build *b, const lun_label *label, const char *suffix, const file_form *form,
                       lun_model_param *p)
{
    const int c = column(b, b->naming);
    const lun_shape s = p->info.desc.shape;
    const bool apart = label->apart[c][0] != NULL;
    p->parts = apart ? 3 : 1;
    p->heads = form->heads;
    for (int i = 0; i < p->parts; i++)
        snprintf(p->part[i], sizeof p->part[i], "%s%s%s", b->prefix[c], apart ? label->apart[c][i] : label->name[c],
                 suffix);
    p->rank = form->rank[c];
    const int64_t rows = (p->info.rank == 1 ? s.c : s.n) / p->parts;
    const int64_t dims[4] = {rows, s.c, s.h, s.w};
    for (int d = 0; d < p->rank; d++)
        p->dims[d] = dims[d];
}

static lun_value declare(lun_build *b, const lun_label *label, const char *suffix, lun_desc desc, int rank,
                         lun_role role, lun_init init, const file_form *form)
{
    if (b->stopped)
        return -1;
    const int own = column(b, LUN_NAMING_OWN);
    char name[LUN_NAME_BYTES];
    snprintf(name, sizeof name, "%s%s%s", b->prefix[own], label->name[own], suffix);
    if (b->graph)
        return lun_graph_param(b->graph, name, desc, rank, role, init);
    lun_model_param p = {.info = {.name = name, .desc = desc, .rank = rank, .role = role, .init = init}};
    fill_parts(b, label, suffix, form, &p);
    b->stopped = !b->visit(b->payload, &p);
    return -1;
}

/* ---- Layers ------------------------------------------------------------------------------------------------------ */

static lun_init uniform(double bound)
{
    return (lun_init){LUN_INIT_UNIFORM, (float)bound};
}

/* Weight and bias. */
static lun_layer make_layer(lun_build *b, const lun_label *label, lun_desc weight, int rank, int bias, double fan_in,
                            double fan_out, lun_begin begin, const file_form *form)
{
    static const lun_init zero = {LUN_INIT_ZERO, 0};
    lun_init w = uniform(1 / sqrt(fan_in)), v = w;
    if (b->config->start == LUN_START_FAN_AVG) {
        w = uniform(sqrt(6 * (begin == LUN_BEGIN_LAST ? 1e-10 : 1) / (fan_in + fan_out)));
        v = zero;
    } else if (b->config->start == LUN_START_ZERO_LAST && begin == LUN_BEGIN_LAST) {
        w = v = zero;
    }
    const file_form flat = {.rank = {1, 1, 1}, .heads = form->heads};
    const lun_value first = declare(b, label, ".weight", weight, rank, LUN_ROLE_PARAM, w, form);
    return (lun_layer){first, declare(b, label, ".bias", lun_image(1, bias, 1, 1), 1, LUN_ROLE_PARAM, v, &flat)};
}

lun_layer lun_declare_conv(lun_build *b, const lun_label *label, int in, int out, int kernel, lun_begin begin)
{
    const double area = (double)kernel * kernel;
    return make_layer(b, label, lun_filter(out, in, kernel, kernel), 4, out, in * area, out * area, begin,
                      &filter_form);
}

lun_layer lun_declare_conv_transpose(lun_build *b, const lun_label *label, int in, int out, int kernel)
{
    /* PyTorch's fan_in is dimension 1 times the kernel's area here too, although dimension 1 is the outputs. */
    const double area = (double)kernel * kernel;
    return make_layer(b, label, lun_filter(in, out, kernel, kernel), 4, out, out * area, in * area, LUN_BEGIN_USUAL,
                      &filter_form);
}

lun_layer lun_declare_linear(lun_build *b, const lun_label *label, int in, int out)
{
    return make_layer(b, label, lun_filter(out, in, 1, 1), 2, out, in, out, LUN_BEGIN_USUAL, &matrix_form);
}

lun_layer lun_declare_pointwise(lun_build *b, const lun_label *label, int in, int out, int copies, int heads,
                                lun_begin begin)
{
    const file_form form = {.rank = {3, 4, 2}, .heads = heads};
    return make_layer(b, label, lun_filter(copies * out, in, 1, 1), 2, copies * out, in, out, begin, &form);
}

lun_layer lun_declare_norm(lun_build *b, const lun_label *label, int channels)
{
    const lun_desc desc = lun_image(1, channels, 1, 1);
    const lun_value weight =
        declare(b, label, ".weight", desc, 1, LUN_ROLE_PARAM, (lun_init){LUN_INIT_ONE, 0}, &vector_form);
    return (lun_layer){weight,
                       declare(b, label, ".bias", desc, 1, LUN_ROLE_PARAM, (lun_init){LUN_INIT_ZERO, 0}, &vector_form)};
}

lun_value lun_declare_table(lun_build *b, const lun_label *label, int count, int dim)
{
    return declare(b, label, ".weight", lun_image(count, dim, 1, 1), 2, LUN_ROLE_PARAM, (lun_init){LUN_INIT_NORMAL, 1},
                   &matrix_form);
}

lun_batch_norm_layer lun_declare_batch_norm(lun_build *b, const lun_label *label, int channels)
{
    static const struct {
        const char *suffix;
        lun_role role;
        lun_init_kind init;
    } parts[] = {{".weight", LUN_ROLE_PARAM, LUN_INIT_ONE},
                 {".bias", LUN_ROLE_PARAM, LUN_INIT_ZERO},
                 {".running_mean", LUN_ROLE_BUFFER, LUN_INIT_ZERO},
                 {".running_var", LUN_ROLE_BUFFER, LUN_INIT_ONE}};
    lun_value value[LUN_COUNT(parts)];
    for (size_t i = 0; i < LUN_COUNT(parts); i++)
        value[i] = declare(b, label, parts[i].suffix, lun_image(1, channels, 1, 1), 1, parts[i].role,
                           (lun_init){parts[i].init, 0}, &vector_form);
    return (lun_batch_norm_layer){value[0], value[1], value[2], value[3]};
}

/* ---- Recording --------------------------------------------------------------------------------------------------- */

lun_value lun_build_conv(lun_build *b, lun_layer layer, lun_value x, int stride, int pad)
{
    return lun_conv2d(b->graph, x, layer.weight, layer.bias, stride, pad);
}

lun_value lun_build_conv_upsampled(lun_build *b, lun_layer layer, lun_value x, int pad)
{
    if (b->norm == LUN_NORM_TRAIN)
        return lun_conv2d_upsampled(b->graph, x, layer.weight, layer.bias, pad);
    return lun_build_conv(b, layer, lun_upsample2(b->graph, x), 1, pad);
}

lun_value lun_build_linear(lun_build *b, lun_layer layer, lun_value x)
{
    return lun_linear(b->graph, x, layer.weight, layer.bias);
}

lun_value lun_build_group_norm(lun_build *b, lun_layer layer, lun_value x)
{
    return lun_group_norm(b->graph, x, layer.weight, layer.bias, b->config->groups, b->config->norm_eps);
}

lun_value lun_build_batch_norm(lun_build *b, const lun_batch_norm_layer *layer, lun_value x)
{
    return lun_batch_norm(b->graph, x, layer->weight, layer->bias, layer->mean, layer->variance, BATCH_NORM_EPS,
                          BATCH_NORM_MOMENTUM, b->norm != LUN_NORM_EVAL, b->norm == LUN_NORM_TRAIN);
}

lun_value lun_build_dropout(lun_build *b, lun_value x)
{
    if (b->dropout == -1 || !(b->config->dropout > 0))
        return x;
    return lun_dropout(b->graph, x, b->dropout, b->config->dropout);
}

/* ---- Any network ------------------------------------------------------------------------------------------------- */

lun_value lun_model_build(lun_build *b, const lun_model_inputs *in)
{
    return b->config->network == LUN_NOTEBOOK ? lun_notebook_build(b, in) : lun_unet_build(b, in);
}

bool lun_model_visit(const lun_model_config *config, lun_naming naming, lun_model_visitor visit, void *payload)
{
    lun_build b = {.config = config, .naming = naming, .visit = visit, .payload = payload, .dropout = -1};
    lun_model_build(&b, NULL);
    return !b.stopped;
}

typedef struct sum {
    uint64_t elements, tensors;
} sum;

static bool add_param(void *payload, const lun_model_param *p)
{
    sum *s = payload;
    if (p->info.role == LUN_ROLE_PARAM) {
        s->elements += (uint64_t)lun_count(p->info.desc.shape);
        s->tensors += (uint64_t)p->parts;
    }
    return true;
}

uint64_t lun_model_parameters(const lun_model_config *config, uint64_t *tensors)
{
    sum s = {0};
    if (lun_model_check(config) == LUN_OK)
        lun_model_visit(config, LUN_NAMING_OWN, add_param, &s);
    if (tensors)
        *tensors = s.tensors;
    return s.elements;
}

typedef struct entering {
    lun_store *store;
    lun_status status;
} entering;

static bool enter(void *payload, const lun_model_param *p)
{
    entering *e = payload;
    int index = -1;
    e->status = lun_store_enter(e->store, &p->info, &index);
    return e->status == LUN_OK;
}

lun_status lun_model_declare(lun_store *store, const lun_model_config *config)
{
    entering e = {.store = store, .status = LUN_OK};
    LUN_TRY(lun_model_check(config));
    lun_model_visit(config, LUN_NAMING_OWN, enter, &e);
    return e.status;
}
