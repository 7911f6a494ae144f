/* One training step as a graph: noising, network, loss, gradients, Adam. */
#include "trainer.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/philox.h"
#include "feed.h"
#include "model/model_file.h"
#include "step.h"

struct lun_trainer {
    lun_train_config config;
    size_t images_count;
    uint64_t step;           /* optimiser steps done */
    uint64_t drained;        /* steps whose losses have been handed out */
    uint64_t tracked_before; /* batches that a model's batch norms had seen before step 0: those of --init */
    lun_store *store;
    lun_graph *graph;
    lun_plan *plan;
    lun_step_values values;
    lun_value hyper, ring, slot;
    uint32_t *rows; /* batch x LUN_RANDOM_ROW, reused every step */
    lun_order order;
};

uint64_t lun_trainer_steps_per_epoch(const lun_trainer *trainer)
{
    return trainer->images_count / (uint64_t)trainer->config.batch;
}

static lun_status record(lun_trainer *t)
{
    const lun_train_config *c = &t->config;
    lun_graph *g = t->graph;
    LUN_TRY(lun_step_record(g, c, c->batch, &t->values));
    t->hyper = lun_graph_input(g, "hyper", lun_image(1, 4, 1, 1));
    t->slot = lun_graph_input(g, "slot", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
    t->ring = lun_graph_state(g, "losses", lun_image(1, LUN_TRAINER_RING, 1, 1));
    lun_store_at(g, t->ring, t->values.loss, t->slot);
    lun_graph_backward(g, t->values.loss);
    lun_graph_adam(g, t->hyper, c->beta1, c->beta2, c->eps, c->weight_decay, 0);
    return lun_graph_check(g);
}

static lun_status build(lun_trainer *t, lun_device *dev, const lun_compile_params *compile)
{
    t->rows = lun_calloc((size_t)t->config.batch * LUN_RANDOM_ROW, sizeof *t->rows, "random rows");
    if (!t->rows)
        return LUN_ERR_MEMORY;
    LUN_TRY(lun_order_init(&t->order, t->config.seed, t->images_count, (size_t)t->config.batch));
    LUN_TRY(lun_store_create(&t->store));
    LUN_TRY(lun_graph_create(t->store, &t->graph));
    LUN_TRY(record(t));
    LUN_TRY(lun_store_allocate(t->store, dev, 1));
    LUN_TRY(lun_store_init(t->store, t->config.seed));
    return lun_graph_compile(t->graph, dev, compile, &t->plan);
}

lun_status lun_trainer_create(lun_device *dev, const lun_train_config *config, size_t images_count,
                              const lun_compile_params *compile, lun_trainer **out)
{
    LUN_TRY(lun_train_config_check(config));
    if (images_count < (size_t)config->batch || images_count > UINT32_MAX)
        return lun_fail(LUN_ERR_DATA, "%zu pictures are fewer than one batch of %d", images_count, config->batch);
    lun_trainer *t = lun_calloc(1, sizeof *t, "the trainer");
    if (!t)
        return LUN_ERR_MEMORY;
    t->config = *config;
    t->images_count = images_count;
    const lun_status status = build(t, dev, compile);
    if (status != LUN_OK) {
        lun_trainer_destroy(&t);
        return status;
    }
    *out = t;
    return LUN_OK;
}

void lun_trainer_destroy(lun_trainer **trainer)
{
    lun_trainer *t = trainer ? *trainer : NULL;
    if (!t)
        return;
    lun_plan_destroy(&t->plan);
    lun_graph_destroy(&t->graph);
    lun_store_destroy(&t->store);
    free(t->rows);
    lun_order_free(&t->order);
    free(t);
    *trainer = NULL;
}

lun_store *lun_trainer_store(lun_trainer *trainer)
{
    return trainer->store;
}
lun_plan *lun_trainer_plan(lun_trainer *trainer)
{
    return trainer->plan;
}
uint64_t lun_trainer_step(const lun_trainer *trainer)
{
    return trainer->step;
}

void lun_trainer_next(lun_trainer *t, uint32_t *index)
{
    lun_order_at(&t->order, t->step, index);
}

lun_status lun_trainer_labels(lun_trainer *t, const int32_t *labels)
{
    return t->values.labels >= 0 ? lun_plan_write(t->plan, t->values.labels, labels) : LUN_OK;
}

static lun_status write_rows(lun_trainer *t, lun_value value, lun_purpose purpose)
{
    const uint64_t first = t->step * (uint64_t)t->config.batch;
    for (int i = 0; i < t->config.batch; i++)
        lun_random_row(t->config.seed, purpose, first + (uint64_t)i, 0, t->rows + i * LUN_RANDOM_ROW);
    return lun_plan_write(t->plan, value, t->rows);
}

lun_status lun_trainer_run(lun_trainer *t, const float *images)
{
    if (t->step - t->drained >= LUN_TRAINER_RING)
        return lun_fail(LUN_ERR_INTERNAL, "%d steps without reading their losses", LUN_TRAINER_RING);
    const double done = (double)(t->step + 1);
    const float hyper[4] = {(float)t->config.lr, (float)(1.0 - pow(t->config.beta1, done)),
                            (float)sqrt(1.0 - pow(t->config.beta2, done)), 0.0f};
    const int32_t slot = (int32_t)(t->step % LUN_TRAINER_RING);
    LUN_TRY(write_rows(t, t->values.time_rows, LUN_RANDOM_TIMESTEP));
    LUN_TRY(write_rows(t, t->values.noise_rows, LUN_RANDOM_NOISE));
    if (t->values.dropout_rows >= 0)
        LUN_TRY(write_rows(t, t->values.dropout_rows, LUN_RANDOM_DROPOUT));
    LUN_TRY(lun_plan_write(t->plan, t->values.images, images));
    LUN_TRY(lun_plan_write(t->plan, t->hyper, hyper));
    LUN_TRY(lun_plan_write(t->plan, t->slot, &slot));
    LUN_TRY(lun_plan_run(t->plan));
    t->step++;
    return LUN_OK;
}

lun_status lun_trainer_losses(lun_trainer *t, float losses[LUN_TRAINER_RING], int *count)
{
    float ring[LUN_TRAINER_RING];
    LUN_TRY(lun_plan_read(t->plan, t->ring, ring));
    int n = 0;
    for (; t->drained < t->step; t->drained++) {
        const float loss = ring[t->drained % LUN_TRAINER_RING];
        if (!isfinite(loss))
            return lun_fail(LUN_ERR_DIVERGED, "the loss of step %" PRIu64 " is not finite", t->drained + 1);
        losses[n++] = loss;
    }
    *count = n;
    return LUN_OK;
}

/* ---- Files
 * -------------------------------------------------------------------------------------------------------------- */

/* The optimiser's file: Adam's moments under PyTorch's words. */
static const struct {
    const char *prefix;
    lun_slot slot;
} moments[] = {{"exp_avg.", LUN_SLOT_M}, {"exp_avg_sq.", LUN_SLOT_V}};

static int dims_of(const lun_param_info *info, int64_t dims[4])
{
    const lun_shape s = info->desc.shape;
    if (info->rank == 1) {
        dims[0] = s.c;
    } else {
        dims[0] = s.n;
        dims[1] = s.c;
        dims[2] = s.h;
        dims[3] = s.w;
    }
    return info->rank;
}

lun_model_file_info lun_trainer_file_info(const lun_trainer *t)
{
    lun_model_file_info info = {.config = t->config.model,
                                .height = t->config.height,
                                .width = t->config.width,
                                .step = t->step,
                                .batches_tracked = t->tracked_before + t->step,
                                .beta_first = t->config.beta_first,
                                .beta_last = t->config.beta_last};
    memcpy(info.preset, t->config.preset, sizeof info.preset);
    return info;
}

/* Call `visit` for every moment of every trained parameter, in the file's order. */
static lun_status each_moment(lun_trainer *t,
                              lun_status (*visit)(lun_trainer *t, size_t index, lun_slot slot, const char *name,
                                                  void *payload),
                              void *payload)
{
    for (size_t m = 0; m < LUN_COUNT(moments); m++) {
        for (size_t i = 0; i < lun_store_count(t->store); i++) {
            const lun_param_info *info = lun_store_info(t->store, i);
            if (info->role != LUN_ROLE_PARAM)
                continue;
            char *name = lun_format("%s%s", moments[m].prefix, info->name);
            if (!name)
                return LUN_ERR_MEMORY;
            const lun_status status = visit(t, i, moments[m].slot, name, payload);
            free(name);
            LUN_TRY(status);
        }
    }
    return LUN_OK;
}

static lun_status declare_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    (void)slot;
    int64_t dims[4];
    const int rank = dims_of(lun_store_info(t->store, index), dims);
    return lun_safetensors_writer_declare(payload, name, LUN_ST_F32, rank, dims);
}

static lun_status write_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    const size_t count = (size_t)lun_count(lun_store_info(t->store, index)->desc.shape);
    float *data = lun_malloc(count, sizeof *data, "a tensor");
    if (!data)
        return LUN_ERR_MEMORY;
    lun_status status = lun_store_read(t->store, index, slot, data);
    for (size_t e = 0; e < count && status == LUN_OK; e++) {
        if (!isfinite(data[e]))
            status = lun_fail(LUN_ERR_DIVERGED, "%s is no longer finite", name);
    }
    if (status == LUN_OK)
        status = lun_safetensors_writer_data(payload, data, count * sizeof *data);
    free(data);
    return status;
}

lun_status lun_trainer_write(lun_trainer *t, lun_safetensors_writer *weights, lun_safetensors_writer *optimizer)
{
    const lun_model_file_info info = lun_trainer_file_info(t);
    LUN_TRY(lun_model_write(t->store, &info, weights));
    LUN_TRY(each_moment(t, declare_moment, optimizer));
    return each_moment(t, write_moment, optimizer);
}

static lun_status check_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    (void)slot;
    const lun_safetensors *file = payload;
    const int64_t at = lun_safetensors_find(file, name);
    if (at < 0)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s is missing", lun_safetensors_path(file), name);
    int64_t dims[4];
    const int rank = dims_of(lun_store_info(t->store, index), dims);
    const lun_safetensors_entry *entry = lun_safetensors_info(file, (size_t)at);
    if (entry->dtype != LUN_ST_F32 || entry->rank != rank ||
        memcmp(entry->dims, dims, sizeof *dims * (size_t)rank) != 0)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s has another shape or type than this network's",
                        lun_safetensors_path(file), name);
    return LUN_OK;
}

static lun_status load_moment(lun_trainer *t, size_t index, lun_slot slot, const char *name, void *payload)
{
    const lun_safetensors *file = payload;
    const size_t count = (size_t)lun_count(lun_store_info(t->store, index)->desc.shape);
    float *data = lun_malloc(count, sizeof *data, "a tensor");
    if (!data)
        return LUN_ERR_MEMORY;
    lun_status status = lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, name), data, count);
    for (size_t e = 0; e < count && status == LUN_OK; e++) {
        if (!isfinite(data[e]) || (slot == LUN_SLOT_V && data[e] < 0))
            status = lun_fail(LUN_ERR_CHECKPOINT, "%s: %s holds a value that Adam cannot have",
                              lun_safetensors_path(file), name);
    }
    if (status == LUN_OK)
        status = lun_store_write(t->store, index, slot, data);
    free(data);
    return status;
}

lun_status lun_trainer_load(lun_trainer *t, const char *model_path, const char *optimizer_path)
{
    lun_model_file_info info;
    LUN_TRY(lun_model_inspect(model_path, &info));
    if (info.step > UINT64_MAX / 2 / (uint64_t)t->config.batch)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: step %" PRIu64 " is out of range", model_path, info.step);
    lun_safetensors *file = NULL;
    LUN_TRY(lun_safetensors_open(optimizer_path, &file));
    lun_status status = each_moment(t, check_moment, file);
    if (status == LUN_OK)
        status = lun_model_load(t->store, model_path);
    if (status == LUN_OK)
        status = each_moment(t, load_moment, file);
    lun_safetensors_close(file);
    if (status == LUN_OK) {
        t->step = t->drained = info.step;
        t->tracked_before = info.batches_tracked > info.step ? info.batches_tracked - info.step : 0;
    }
    return status;
}

lun_status lun_trainer_init(lun_trainer *t, const char *model_path)
{
    lun_model_file_info info;
    LUN_TRY(lun_model_inspect(model_path, &info));
    LUN_TRY(lun_model_load(t->store, model_path));
    /* Far from the end of the file's 64 bits, whatever it says. */
    t->tracked_before = info.batches_tracked < UINT64_MAX / 4 ? info.batches_tracked : 0;
    return LUN_OK;
}
