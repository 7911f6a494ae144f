/* A network on tensors from a file: what any other framework can be held against. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/checkpoint.h>
#include <lunette/model.h>

#include "base/base.h"
#include "model_file.h"

typedef struct batch {
    lun_shape shape; /* of x */
    lun_shape out;   /* of target and what the network gives */
    float *x, *target;
    int32_t *t, *labels; /* labels: NULL where there are none */
} batch;

static void batch_free(batch *b)
{
    free(b->x);
    free(b->target);
    free(b->t);
    free(b->labels);
}

/* ---- Reading IN -------------------------------------------------------------------------------------------------- */

static lun_status need(const lun_safetensors *file, const char *name, lun_safetensors_dtype dtype, int rank,
                       const lun_safetensors_entry **entry, size_t *index)
{
    const char *path = lun_safetensors_path(file);
    const int64_t found = lun_safetensors_find(file, name);
    if (found < 0)
        return lun_fail(LUN_ERR_DATA, "%s has no tensor %s", path, name);
    const lun_safetensors_entry *e = lun_safetensors_info(file, (size_t)found);
    if (e->dtype != dtype || e->rank != rank)
        return lun_fail(LUN_ERR_DATA, "%s: %s is %s with %d dimensions; it must be %s with %d", path, name,
                        lun_safetensors_dtype_name(e->dtype), e->rank, lun_safetensors_dtype_name(dtype), rank);
    *entry = e;
    *index = (size_t)found;
    return LUN_OK;
}

static lun_status read_floats(const lun_safetensors *file, size_t index, float **out)
{
    const lun_safetensors_entry *entry = lun_safetensors_info(file, index);
    float *values = lun_malloc((size_t)entry->count, sizeof *values, entry->name);
    if (!values)
        return LUN_ERR_MEMORY;
    lun_status status = lun_safetensors_read_f32(file, index, values, (size_t)entry->count);
    for (int64_t i = 0; i < entry->count && status == LUN_OK; i++)
        if (!isfinite(values[i]))
            status = lun_fail(LUN_ERR_DATA, "%s: element %" PRId64 " of %s is not finite", lun_safetensors_path(file),
                              i, entry->name);
    if (status != LUN_OK) {
        free(values);
        return status;
    }
    *out = values;
    return LUN_OK;
}

/* Integers from 0 to below `bound`; `what` they are called in a message. */
static lun_status read_integers(const lun_safetensors *file, size_t index, int bound, const char *what, int32_t **out)
{
    const lun_safetensors_entry *entry = lun_safetensors_info(file, index);
    const size_t count = (size_t)entry->count;
    int64_t *wide = lun_malloc(count, sizeof *wide, entry->name);
    int32_t *narrow = lun_malloc(count, sizeof *narrow, entry->name);
    lun_status status = wide && narrow ? lun_safetensors_read_i64(file, index, wide, count) : LUN_ERR_MEMORY;
    for (size_t i = 0; i < count && status == LUN_OK; i++) {
        if (wide[i] < 0 || wide[i] >= bound)
            status = lun_fail(LUN_ERR_DATA, "%s: element %zu of %s is %" PRId64 "; this network's %s are 0 to %d",
                              lun_safetensors_path(file), i, entry->name, wide[i], what, bound - 1);
        else
            narrow[i] = (int32_t)wide[i];
    }
    free(wide);
    if (status != LUN_OK) {
        free(narrow);
        return status;
    }
    *out = narrow;
    return LUN_OK;
}

static lun_status read_batch(const lun_safetensors *file, const lun_model_config *config, bool grad, bool statistics,
                             batch *b)
{
    const char *path = lun_safetensors_path(file);
    const lun_safetensors_entry *x = NULL, *t = NULL, *target = NULL, *labels = NULL;
    size_t x_index = 0, t_index = 0, target_index = 0, labels_index = 0;
    for (size_t i = 0; i < lun_safetensors_count(file); i++) {
        const char *name = lun_safetensors_info(file, i)->name;
        const bool label = config->classes && strcmp(name, "labels") == 0;
        if (strcmp(name, "x") != 0 && strcmp(name, "t") != 0 && strcmp(name, "target") != 0 && !label)
            return lun_fail(LUN_ERR_DATA, "%s: a tensor '%.80s'; it may hold x, t and target%s", path, name,
                            config->classes ? ", and labels" : "");
    }
    LUN_TRY(need(file, "x", LUN_ST_F32, 4, &x, &x_index));
    LUN_TRY(need(file, "t", LUN_ST_I64, 1, &t, &t_index));
    if (grad)
        LUN_TRY(need(file, "target", LUN_ST_F32, 4, &target, &target_index));
    /* Without labels every picture is of the null class, where there is one. */
    if (config->classes && (!config->null_class || lun_safetensors_find(file, "labels") >= 0))
        LUN_TRY(need(file, "labels", LUN_ST_I64, 1, &labels, &labels_index));

    if (x->count < 1 || x->count > INT32_MAX)
        return lun_fail(LUN_ERR_DATA, "%s: x has %" PRId64 " elements", path, x->count);
    if (x->dims[1] != config->image_channels)
        return lun_fail(LUN_ERR_DATA, "%s: x has %" PRId64 " channels, this network takes %d", path, x->dims[1],
                        config->image_channels);
    if (lun_model_config_check(config, (int)x->dims[2], (int)x->dims[3]) != LUN_OK)
        return lun_fail(LUN_ERR_DATA, "%s: x: %s", path, lun_error_detail());
    if (t->dims[0] != x->dims[0])
        return lun_fail(LUN_ERR_DATA, "%s: %" PRId64 " time steps for %" PRId64 " pictures", path, t->dims[0],
                        x->dims[0]);
    if (labels && labels->dims[0] != x->dims[0])
        return lun_fail(LUN_ERR_DATA, "%s: %" PRId64 " labels for %" PRId64 " pictures", path, labels->dims[0],
                        x->dims[0]);
    const int out_channels = lun_model_output_channels(config);
    const int64_t out[4] = {x->dims[0], out_channels, x->dims[2], x->dims[3]};
    if (target && memcmp(target->dims, out, sizeof out) != 0)
        return lun_fail(LUN_ERR_DATA, "%s: target is not shaped like %s", path,
                        config->learned_sigma ? "this network's output, mean and variance" : "x");
    if (statistics && config->network == LUN_NOTEBOOK &&
        (x->dims[0] * x->dims[2] * x->dims[3]) >> (2 * (config->levels - 1)) < 2)
        return lun_fail(
            LUN_ERR_DATA,
            "%s: batch statistics need more than one value a channel at the deepest level; give more pictures", path);

    b->shape = lun_shape4(x->dims[0], x->dims[1], x->dims[2], x->dims[3]);
    b->out = lun_shape4(out[0], out[1], out[2], out[3]);
    LUN_TRY(read_floats(file, x_index, &b->x));
    LUN_TRY(read_integers(file, t_index, config->steps, "steps", &b->t));
    if (labels)
        LUN_TRY(read_integers(file, labels_index, config->classes + (config->null_class != 0), "labels", &b->labels));
    if (grad)
        LUN_TRY(read_floats(file, target_index, &b->target));
    return LUN_OK;
}

/* ---- Writing OUT ------------------------------------------------------------------------------------------------- */

typedef struct result {
    lun_shape shape;
    const float *y;
    float loss;
} result;

/* Declare one tensor in the first round, write it in the second. */
static lun_status put(lun_safetensors_writer *writer, bool second, const char *name, int rank, const int64_t *dims,
                      const float *data, size_t count)
{
    return second ? lun_safetensors_writer_data(writer, data, count * sizeof *data)
                  : lun_safetensors_writer_declare(writer, name, LUN_ST_F32, rank, dims);
}

static lun_status write_result(const char *path, const result *r, lun_store *store, const lun_model_file_info *info,
                               bool grad)
{
    const int64_t dims[4] = {r->shape.n, r->shape.c, r->shape.h, r->shape.w};
    lun_safetensors_writer *writer = NULL;
    LUN_TRY(lun_safetensors_writer_create(path, &writer));
    lun_model_putting gradients = {
        .store = store, .slot = LUN_SLOT_GRAD, .writer = writer, .prefix = "grad.", .trained_only = true};
    lun_status status = LUN_OK;
    for (int round = 0; round < 2 && status == LUN_OK; round++) {
        status = put(writer, round, "y", 4, dims, r->y, (size_t)lun_count(r->shape));
        if (status == LUN_OK && grad)
            status = put(writer, round, "loss", 0, NULL, &r->loss, 1);
        if (status == LUN_OK && grad)
            status = round ? lun_model_put_values(&gradients, &info->config, info->naming)
                           : lun_model_put_names(&gradients, &info->config, info->naming);
    }
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(writer);
        return status;
    }
    return lun_safetensors_writer_commit(writer);
}

/* ---- Computing --------------------------------------------------------------------------------------------------- */

typedef struct network {
    lun_store *store;
    lun_graph *graph;
    lun_plan *plan;
    lun_value x, t, labels, target, y, loss;
} network;

static void network_close(network *n)
{
    lun_plan_destroy(&n->plan);
    lun_graph_destroy(&n->graph);
    lun_store_destroy(&n->store);
}

static lun_status network_open(lun_device *dev, const lun_predict_params *params, const lun_model_config *config,
                               const batch *b, lun_norm_mode norm, network *n)
{
    const lun_desc per_picture = lun_typed(lun_image(b->shape.n, 1, 1, 1), LUN_I32);
    const lun_compile_params compile = {.allow_fallback = params->allow_fallback, .tuning = params->tuning};
    LUN_TRY(lun_store_create(&n->store));
    LUN_TRY(lun_graph_create(n->store, &n->graph));
    n->x = lun_graph_input(n->graph, "x", (lun_desc){LUN_F32, LUN_IMAGE, b->shape});
    n->t = lun_graph_input(n->graph, "t", per_picture);
    n->labels = b->labels ? lun_graph_input(n->graph, "labels", per_picture) : -1;
    n->y = lun_model_apply(n->graph, config,
                           &(lun_model_inputs){.x = n->x, .t = n->t, .labels = n->labels, .dropout = -1, .norm = norm});
    lun_graph_output(n->graph, n->y);
    if (params->grad) {
        n->target = lun_graph_input(n->graph, "target", (lun_desc){LUN_F32, LUN_IMAGE, b->out});
        n->loss = lun_loss(n->graph, n->y, n->target, params->loss, params->huber_delta);
        lun_graph_output(n->graph, n->loss);
        lun_graph_backward(n->graph, n->loss);
    }
    LUN_TRY(lun_graph_check(n->graph));
    LUN_TRY(lun_store_allocate(n->store, dev, params->grad));
    LUN_TRY(lun_model_load(n->store, params->model));
    return lun_graph_compile(n->graph, dev, &compile, &n->plan);
}

static lun_status compute(const lun_predict_params *params, const network *n, const batch *b, float *y, float *loss)
{
    LUN_TRY(lun_plan_write(n->plan, n->x, b->x));
    LUN_TRY(lun_plan_write(n->plan, n->t, b->t));
    if (b->labels)
        LUN_TRY(lun_plan_write(n->plan, n->labels, b->labels));
    if (params->grad)
        LUN_TRY(lun_plan_write(n->plan, n->target, b->target));
    LUN_TRY(lun_plan_run(n->plan));
    LUN_TRY(lun_plan_read(n->plan, n->y, y));
    if (params->grad)
        LUN_TRY(lun_plan_read(n->plan, n->loss, loss));
    return LUN_OK;
}

lun_status lun_predict(lun_device *dev, const lun_predict_params *params)
{
    lun_model_file_info info;
    LUN_TRY(lun_model_inspect(params->model, &info));
    const bool grad = params->grad != 0;
    const lun_norm_mode norm = params->norm == LUN_PREDICT_NORM_DEFAULT ? (grad ? LUN_NORM_BATCH : LUN_NORM_EVAL)
                               : params->norm == LUN_PREDICT_NORM_EVAL  ? LUN_NORM_EVAL
                                                                        : LUN_NORM_BATCH;

    lun_safetensors *file = NULL;
    batch b = {0};
    network n = {0};
    float *y = NULL, loss = 0;
    lun_status status = lun_safetensors_open(params->in, &file);
    if (status == LUN_OK)
        status = read_batch(file, &info.config, grad, norm == LUN_NORM_BATCH, &b);
    lun_safetensors_close(file);
    /* These tensors are data, whatever their container is called elsewhere. */
    if (status == LUN_ERR_CHECKPOINT)
        status = lun_fail(LUN_ERR_DATA, "%s", lun_error_detail());
    if (status == LUN_OK && !(y = lun_malloc((size_t)lun_count(b.out), sizeof *y, "y")))
        status = LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = network_open(dev, params, &info.config, &b, norm, &n);
    if (status == LUN_OK)
        status = compute(params, &n, &b, y, &loss);
    if (status == LUN_OK)
        status = write_result(params->out, &(result){b.out, y, loss}, n.store, &info, grad);
    network_close(&n);
    batch_free(&b);
    free(y);
    return status;
}
