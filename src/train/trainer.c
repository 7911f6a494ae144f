/* One training step as a graph: noising, network, loss, gradients, and the update: norm, Adam, moving averages.
 *
 * With accumulation there are two graphs over one store. The first runs for each micro-batch and adds its gradients to
 * LUN_SLOT_SUM; the loss's gradient is weighted so that the sum is that of the mean over the whole batch. The second
 * runs once and updates. */
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
    lun_graph *graph, *update_graph; /* the latter NULL without accumulation, and its plan */
    lun_plan *plan, *update_plan;
    lun_step_values values; /* of a micro-batch */
    lun_value ring, slot, first;
    lun_value hyper, norm_ring, norm_slot, weights; /* of the update; -1: not there */
    uint32_t *rows;                                 /* micro-batch x LUN_RANDOM_ROW, reused all the time */
    float *losses;                                  /* the ring on the host */
    lun_order order;
    int32_t *labels; /* (batch) of the next step */
    /* With loss_aware: whose draws, and what was drawn for the last step (batch). */
    lun_time_sampler *times;
    int32_t *time;
    float *time_weight, *each;
    int waiting; /* micro-batch whose losses the plan still holds; -1: none */
    bool drawn;  /* the last step's losses have not been told to `times` */
};

/* Pictures in a micro-batch. */
static int micro_batch(const lun_train_config *c)
{
    return c->batch / c->accumulate;
}

uint64_t lun_trainer_steps_per_epoch(const lun_trainer *trainer)
{
    return trainer->images_count / (uint64_t)trainer->config.batch;
}

static void record_update(lun_trainer *t, lun_graph *g, lun_slot gradient)
{
    const lun_train_config *c = &t->config;
    lun_value scale = -1, norm = -1;
    t->hyper = lun_graph_input(g, "hyper", lun_image(1, 4, 1, 1));
    if (c->clip_norm > 0) {
        t->norm_slot = lun_graph_input(g, "norm_slot", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
        t->norm_ring = lun_graph_state(g, "norms", lun_image(1, LUN_TRAINER_RING, 1, 1));
        scale = lun_graph_clip(g, gradient, c->clip_norm, &norm);
        lun_store_at(g, t->norm_ring, norm, t->norm_slot);
    }
    lun_graph_adam_from(g, gradient, scale, t->hyper, c->beta1, c->beta2, c->eps, c->weight_decay,
                        c->optimizer == LUN_ADAMW);
    if (c->ema_count > 0) {
        t->weights = lun_graph_input(g, "average_weights", lun_image(1, LUN_MAX_EMA, 1, 1));
        lun_graph_ema(g, t->weights, c->ema_count);
    }
}

static lun_status record(lun_trainer *t)
{
    const lun_train_config *c = &t->config;
    lun_graph *g = t->graph;
    LUN_TRY(lun_step_record(g, c, micro_batch(c), &t->values));
    t->slot = lun_graph_input(g, "slot", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
    t->ring = lun_graph_state(g, "losses", lun_image(1, LUN_TRAINER_RING * c->accumulate, 1, 1));
    lun_store_at(g, t->ring, t->values.loss, t->slot);
    lun_graph_backward_weighted(g, t->values.loss, 1.0 / c->accumulate);
    if (t->update_graph) {
        t->first = lun_graph_input(g, "first", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
        lun_graph_accumulate(g, t->first);
        record_update(t, t->update_graph, LUN_SLOT_SUM);
        LUN_TRY(lun_graph_check(t->update_graph));
    } else {
        record_update(t, g, LUN_SLOT_GRAD);
    }
    return lun_graph_check(g);
}

/* What is kept with a model but not trained are batch norms' running statistics. */
static void warn_of_batch_norm(const lun_trainer *t)
{
    for (size_t i = 0; i < lun_store_count(t->store); i++) {
        if (lun_store_info(t->store, i)->role != LUN_ROLE_BUFFER)
            continue;
        lun_log(LUN_LOG_WARN,
                "this network has batch norms: in %d parts a batch of %d is normalised by the statistics of %d "
                "pictures at a time, so the result is not that of the whole batch",
                t->config.accumulate, t->config.batch, micro_batch(&t->config));
        return;
    }
}

/* Averages begin as the weights are. */
static lun_status start_averages(lun_trainer *t)
{
    for (int r = 0; r < t->config.ema_count; r++)
        LUN_TRY(lun_store_copy(t->store, (lun_slot)(LUN_SLOT_EMA + r), LUN_SLOT_VALUE));
    return LUN_OK;
}

static lun_status make_times(lun_trainer *t)
{
    const size_t batch = (size_t)t->config.batch;
    t->waiting = -1;
    if (!t->config.loss_aware)
        return LUN_OK;
    t->time = lun_calloc(batch, sizeof *t->time, "time steps");
    t->time_weight = lun_calloc(batch, sizeof *t->time_weight, "time steps");
    t->each = lun_calloc(batch, sizeof *t->each, "time steps");
    return t->time && t->time_weight && t->each ? lun_time_sampler_create(t->config.model.steps, &t->times)
                                                : LUN_ERR_MEMORY;
}

static lun_status build(lun_trainer *t, lun_device *dev, const lun_compile_params *compile)
{
    t->first = t->norm_ring = t->norm_slot = t->weights = -1;
    t->rows = lun_calloc((size_t)micro_batch(&t->config) * LUN_RANDOM_ROW, sizeof *t->rows, "random rows");
    t->losses = lun_calloc((size_t)t->config.accumulate * LUN_TRAINER_RING, sizeof *t->losses, "losses");
    t->labels = lun_calloc((size_t)t->config.batch, sizeof *t->labels, "labels");
    if (!t->rows || !t->losses || !t->labels)
        return LUN_ERR_MEMORY;
    LUN_TRY(make_times(t));
    LUN_TRY(lun_order_init(&t->order, t->config.seed, t->images_count, (size_t)t->config.batch));
    LUN_TRY(lun_store_create(&t->store));
    LUN_TRY(lun_graph_create(t->store, &t->graph));
    if (t->config.accumulate > 1)
        LUN_TRY(lun_graph_create(t->store, &t->update_graph));
    LUN_TRY(record(t));
    LUN_TRY(lun_store_allocate(t->store, dev, 1));
    LUN_TRY(lun_store_init(t->store, t->config.seed));
    LUN_TRY(start_averages(t));
    if (t->config.accumulate > 1)
        warn_of_batch_norm(t);
    LUN_TRY(lun_graph_compile(t->graph, dev, compile, &t->plan));
    return t->update_graph ? lun_graph_compile(t->update_graph, dev, compile, &t->update_plan) : LUN_OK;
}

lun_status lun_trainer_create(lun_device *dev, const lun_train_config *config, size_t images_count,
                              const lun_compile_params *compile, lun_trainer **out)
{
    LUN_TRY(lun_train_config_check(config));
    if (images_count < (size_t)config->batch || images_count > UINT32_MAX)
        return lun_fail(LUN_ERR_DATA, "%zu pictures are fewer than one batch of %d", images_count, config->batch);
    if (config->decay != LUN_DECAY_CONSTANT && config->decay_steps == 0)
        return lun_fail(LUN_ERR_USAGE, "the learning rate decays, but by which step is not said");
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
    lun_plan_destroy(&t->update_plan);
    lun_graph_destroy(&t->graph);
    lun_graph_destroy(&t->update_graph);
    lun_store_destroy(&t->store);
    free(t->rows);
    free(t->losses);
    free(t->labels);
    free(t->time);
    free(t->time_weight);
    free(t->each);
    lun_time_sampler_destroy(&t->times);
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
lun_plan *lun_trainer_update_plan(lun_trainer *trainer)
{
    return trainer->update_plan;
}
void lun_trainer_visit(const lun_trainer *t, void (*visit)(void *payload, const lun_plan_op *op), void *payload)
{
    lun_plan_visit(t->plan, visit, payload);
    if (t->update_plan)
        lun_plan_visit(t->update_plan, visit, payload);
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
    const lun_model_config *m = &t->config.model;
    if (m->classes == 0)
        return LUN_OK;
    for (int i = 0; i < t->config.batch; i++)
        if (labels[i] < 0 || labels[i] >= m->classes + (m->null_class != 0))
            return lun_fail(LUN_ERR_USAGE, "label %d: this network knows %d classes%s", (int)labels[i], m->classes,
                            m->null_class ? " and none" : "");
    memcpy(t->labels, labels, (size_t)t->config.batch * sizeof *labels);
    return LUN_OK;
}

/* ---- Loss-aware time steps: a step's draws depend on the losses of all steps before it --------------------------- */

/* Fetch the losses of the micro-batch that ran last. */
static lun_status fetch_losses(lun_trainer *t)
{
    if (t->waiting < 0)
        return LUN_OK;
    LUN_TRY(lun_plan_read(t->plan, t->values.each, t->each + (size_t)t->waiting * (size_t)micro_batch(&t->config)));
    t->waiting = -1;
    return LUN_OK;
}

/* Tell the sampler of the last step; after that its state is all there is to keep. */
static lun_status settle_times(lun_trainer *t)
{
    LUN_TRY(fetch_losses(t));
    if (t->drawn)
        lun_time_sampler_update(t->times, t->time, t->each, t->config.batch);
    t->drawn = false;
    return LUN_OK;
}

static lun_status draw_times(lun_trainer *t)
{
    LUN_TRY(settle_times(t));
    lun_time_sampler_draw(t->times, t->config.seed, t->step * (uint64_t)t->config.batch, t->config.batch, t->time,
                          t->time_weight);
    return LUN_OK;
}

/* Rows for micro-batch `part`: a picture's randomness is that of its place in the whole batch. */
static lun_status write_rows(lun_trainer *t, lun_value value, lun_purpose purpose, int part)
{
    const int count = micro_batch(&t->config);
    const uint64_t first = t->step * (uint64_t)t->config.batch + (uint64_t)part * (uint64_t)count;
    for (int i = 0; i < count; i++)
        lun_random_row(t->config.seed, purpose, first + (uint64_t)i, 0, t->rows + i * LUN_RANDOM_ROW);
    return lun_plan_write(t->plan, value, t->rows);
}

static lun_status write_part(lun_trainer *t, const float *images, int part)
{
    const lun_train_config *c = &t->config;
    const size_t each = (size_t)c->model.image_channels * (size_t)c->height * (size_t)c->width;
    const int32_t slot = (int32_t)(t->step % LUN_TRAINER_RING) * c->accumulate + part, first = part == 0;
    const size_t from = (size_t)part * (size_t)micro_batch(c);
    const lun_step_values *v = &t->values;
    if (v->time_rows >= 0) {
        LUN_TRY(write_rows(t, v->time_rows, LUN_RANDOM_TIMESTEP, part));
    } else {
        LUN_TRY(fetch_losses(t));
        LUN_TRY(lun_plan_write(t->plan, v->time, t->time + from));
        LUN_TRY(lun_plan_write(t->plan, v->weights, t->time_weight + from));
    }
    LUN_TRY(write_rows(t, v->noise_rows, LUN_RANDOM_NOISE, part));
    if (v->dropout_rows >= 0)
        LUN_TRY(write_rows(t, v->dropout_rows, LUN_RANDOM_DROPOUT, part));
    if (v->labels >= 0)
        LUN_TRY(lun_plan_write(t->plan, v->labels, t->labels + from));
    LUN_TRY(lun_plan_write(t->plan, v->images, images + from * each));
    LUN_TRY(lun_plan_write(t->plan, t->slot, &slot));
    return t->update_plan ? lun_plan_write(t->plan, t->first, &first) : LUN_OK;
}

static lun_status write_update(lun_trainer *t, lun_plan *plan)
{
    const lun_train_config *c = &t->config;
    const double done = (double)(t->step + 1);
    const float hyper[4] = {(float)lun_train_lr(c, t->step + 1), (float)(1.0 - pow(c->beta1, done)),
                            (float)sqrt(1.0 - pow(c->beta2, done)), 0.0f};
    float weights[LUN_MAX_EMA] = {0};
    const int32_t slot = (int32_t)(t->step % LUN_TRAINER_RING);
    for (int r = 0; r < c->ema_count; r++)
        weights[r] = (float)(1 - lun_train_ema_decay(c->ema_rate[r], c->ema_warmup, t->step + 1));
    LUN_TRY(lun_plan_write(plan, t->hyper, hyper));
    if (t->norm_slot >= 0)
        LUN_TRY(lun_plan_write(plan, t->norm_slot, &slot));
    return t->weights >= 0 ? lun_plan_write(plan, t->weights, weights) : LUN_OK;
}

lun_status lun_trainer_run(lun_trainer *t, const float *images)
{
    if (t->step - t->drained >= LUN_TRAINER_RING)
        return lun_fail(LUN_ERR_INTERNAL, "%d steps without reading their losses", LUN_TRAINER_RING);
    LUN_TRY(write_update(t, t->update_plan ? t->update_plan : t->plan));
    if (t->times)
        LUN_TRY(draw_times(t));
    for (int part = 0; part < t->config.accumulate; part++) {
        LUN_TRY(write_part(t, images, part));
        LUN_TRY(lun_plan_run(t->plan));
        t->waiting = t->times ? part : -1;
    }
    t->drawn = t->times != NULL;
    if (t->update_plan)
        LUN_TRY(lun_plan_run(t->update_plan));
    t->step++;
    return LUN_OK;
}

/* The mean over a step's micro-batches. */
static float loss_of(const lun_trainer *t, uint64_t step)
{
    const int parts = t->config.accumulate;
    const float *losses = t->losses + step % LUN_TRAINER_RING * (uint64_t)parts;
    double sum = 0;
    for (int part = 0; part < parts; part++)
        sum += (double)losses[part];
    return (float)(sum / parts);
}

lun_status lun_trainer_reports(lun_trainer *t, lun_step_report reports[LUN_TRAINER_RING], int *count)
{
    float norms[LUN_TRAINER_RING];
    LUN_TRY(lun_plan_read(t->plan, t->ring, t->losses));
    if (t->norm_ring >= 0)
        LUN_TRY(lun_plan_read(t->update_plan ? t->update_plan : t->plan, t->norm_ring, norms));
    int n = 0;
    for (; t->drained < t->step; t->drained++) {
        const float loss = loss_of(t, t->drained);
        const float norm = t->norm_ring >= 0 ? norms[t->drained % LUN_TRAINER_RING] : NAN;
        if (!isfinite(loss))
            return lun_fail(LUN_ERR_DIVERGED, "the loss of step %" PRIu64 " is not finite", t->drained + 1);
        if (t->norm_ring >= 0 && !isfinite(norm))
            return lun_fail(LUN_ERR_DIVERGED, "the gradient of step %" PRIu64 " is not finite", t->drained + 1);
        reports[n++] = (lun_step_report){loss, norm, lun_train_lr(&t->config, t->drained + 1)};
    }
    *count = n;
    return LUN_OK;
}

lun_status lun_trainer_losses(lun_trainer *t, float losses[LUN_TRAINER_RING], int *count)
{
    lun_step_report reports[LUN_TRAINER_RING];
    int n = 0;
    LUN_TRY(lun_trainer_reports(t, reports, &n));
    for (int i = 0; i < n; i++)
        losses[i] = reports[i].loss;
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
                                .batches_tracked = t->tracked_before + t->step * (uint64_t)t->config.accumulate,
                                .beta_first = t->config.beta_first,
                                .beta_last = t->config.beta_last,
                                .schedule = t->config.schedule,
                                .prediction = t->config.prediction};
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

/* The losses by time step of a run that is aware of them, at the end of the optimiser's file. */
#define TIME_HISTORY "time.history" /* (steps, LUN_TIME_HISTORY) */
#define TIME_KNOWN   "time.known"   /* (steps) */

static lun_status declare_times(const lun_trainer *t, lun_safetensors_writer *writer)
{
    const int64_t dims[2] = {t->config.model.steps, LUN_TIME_HISTORY};
    if (!t->times)
        return LUN_OK;
    LUN_TRY(lun_safetensors_writer_declare(writer, TIME_HISTORY, LUN_ST_F32, 2, dims));
    return lun_safetensors_writer_declare(writer, TIME_KNOWN, LUN_ST_I32, 1, dims);
}

/* Room for a state: the history, then what is known. */
static float *times_room(const lun_trainer *t, int32_t **known)
{
    const size_t steps = (size_t)t->config.model.steps;
    float *history = lun_calloc(steps * (LUN_TIME_HISTORY + 1), sizeof *history, "the time steps' losses");
    *known = history ? lun_calloc(steps, sizeof **known, "the time steps' losses") : NULL;
    if (*known)
        return history;
    free(history);
    return NULL;
}

static lun_status write_times(lun_trainer *t, lun_safetensors_writer *writer)
{
    const size_t steps = (size_t)t->config.model.steps;
    int32_t *known = NULL;
    if (!t->times)
        return LUN_OK;
    LUN_TRY(settle_times(t));
    float *history = times_room(t, &known);
    if (!history)
        return LUN_ERR_MEMORY;
    lun_time_sampler_save(t->times, history, known);
    lun_status status = lun_safetensors_writer_data(writer, history, steps * LUN_TIME_HISTORY * sizeof *history);
    if (status == LUN_OK)
        status = lun_safetensors_writer_data(writer, known, steps * sizeof *known);
    free(history);
    free(known);
    return status;
}

/* Where a tensor of the state lies in the file. */
static lun_status find_times(const lun_safetensors *file, const char *name, lun_safetensors_dtype dtype, int64_t count,
                             size_t *index)
{
    const int64_t at = lun_safetensors_find(file, name);
    const lun_safetensors_entry *entry = at < 0 ? NULL : lun_safetensors_info(file, (size_t)at);
    if (!entry || entry->dtype != dtype || entry->count != count)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s is missing, or of another run", lun_safetensors_path(file), name);
    *index = (size_t)at;
    return LUN_OK;
}

static lun_status load_times(lun_trainer *t, const lun_safetensors *file)
{
    const int64_t steps = t->config.model.steps;
    size_t at[2] = {0, 0};
    int32_t *known = NULL;
    if (!t->times)
        return LUN_OK;
    LUN_TRY(find_times(file, TIME_HISTORY, LUN_ST_F32, steps * LUN_TIME_HISTORY, &at[0]));
    LUN_TRY(find_times(file, TIME_KNOWN, LUN_ST_I32, steps, &at[1]));
    float *history = times_room(t, &known);
    int64_t *wide = history ? lun_calloc((size_t)steps, sizeof *wide, "the time steps' losses") : NULL;
    lun_status status = wide ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = lun_safetensors_read_f32(file, at[0], history, (size_t)steps * LUN_TIME_HISTORY);
    if (status == LUN_OK)
        status = lun_safetensors_read_i64(file, at[1], wide, (size_t)steps);
    for (int64_t i = 0; i < steps && status == LUN_OK; i++)
        known[i] = (int32_t)wide[i];
    if (status == LUN_OK)
        status = lun_time_sampler_load(t->times, history, known);
    free(history);
    free(known);
    free(wide);
    t->waiting = -1;
    t->drawn = false;
    return status;
}

lun_status lun_trainer_write(lun_trainer *t, lun_safetensors_writer *weights, lun_safetensors_writer *optimizer)
{
    const lun_model_file_info info = lun_trainer_file_info(t);
    LUN_TRY(lun_model_write(t->store, LUN_SLOT_VALUE, &info, weights));
    LUN_TRY(each_moment(t, declare_moment, optimizer));
    LUN_TRY(declare_times(t, optimizer));
    LUN_TRY(each_moment(t, write_moment, optimizer));
    return write_times(t, optimizer);
}

lun_status lun_trainer_write_average(lun_trainer *t, int index, lun_safetensors_writer *writer)
{
    lun_model_file_info info = lun_trainer_file_info(t);
    info.ema = t->config.ema_rate[index];
    return lun_model_write(t->store, (lun_slot)(LUN_SLOT_EMA + index), &info, writer);
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
    if (status == LUN_OK)
        status = load_times(t, file);
    lun_safetensors_close(file);
    if (status == LUN_OK) {
        const uint64_t batches = info.step * (uint64_t)t->config.accumulate;
        t->step = t->drained = info.step;
        t->tracked_before = info.batches_tracked > batches ? info.batches_tracked - batches : 0;
    }
    return status;
}

lun_status lun_trainer_load_average(lun_trainer *t, int index, const char *path)
{
    lun_model_file_info info;
    if (index < 0 || index >= t->config.ema_count)
        return lun_fail(LUN_ERR_USAGE, "there is no moving average %d", index);
    LUN_TRY(lun_model_inspect(path, &info));
    if (info.step != t->step || info.ema != t->config.ema_rate[index])
        return lun_fail(LUN_ERR_CHECKPOINT,
                        "%s is of step %" PRIu64 " and rate %g; wanted are step %" PRIu64 " and rate %g", path,
                        info.step, info.ema, t->step, t->config.ema_rate[index]);
    return lun_model_load_slot(t->store, (lun_slot)(LUN_SLOT_EMA + index), path);
}

lun_status lun_trainer_init(lun_trainer *t, const char *model_path)
{
    lun_model_file_info info;
    LUN_TRY(lun_model_inspect(model_path, &info));
    LUN_TRY(lun_model_load(t->store, model_path));
    /* Far from the end of the file's 64 bits, whatever it says. */
    t->tracked_before = info.batches_tracked < UINT64_MAX / 4 ? info.batches_tracked : 0;
    return start_averages(t);
}
