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
    lun_value scale = -1, clipped = -1;
    t->hyper = lun_graph_input(g, "hyper", lun_image(1, 4, 1, 1));
    t->norm_slot = lun_graph_input(g, "norm_slot", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
    t->norm_ring = lun_graph_state(g, "norms", lun_image(1, LUN_TRAINER_RING, 1, 1));
    t->health = lun_graph_state(g, "health", lun_image(1, 1, 1, 1));
    if (c->ema_count > 0)
        t->weights = lun_graph_input(g, "average_weights", lun_image(1, LUN_MAX_EMA, 1, 1));
    const lun_value squares = lun_graph_squares(g, gradient);
    if (c->clip_norm > 0)
        scale = lun_graph_clip_squares(g, squares, c->clip_norm, &clipped);
    /* From here on what a step that is not sound may not change takes its numbers from what `health` lets pass. */
    lun_value hyper = t->hyper, weights = t->weights;
    const lun_value norm =
        lun_graph_health(g, squares, t->health, t->norm_slot, &hyper, c->ema_count > 0 ? &weights : NULL);
    lun_store_at(g, t->norm_ring, norm, t->norm_slot);
    lun_graph_adam_from(g, gradient, scale, hyper, c->beta1, c->beta2, c->eps, c->weight_decay,
                        c->optimizer == LUN_ADAMW);
    if (c->ema_count > 0)
        lun_graph_ema(g, weights, c->ema_count);
    lun_graph_settle(g, hyper);
}

static lun_status record(lun_trainer *t)
{
    const lun_train_config *c = &t->config;
    lun_graph *g = t->graph;
    LUN_TRY(lun_step_record(g, c, micro_batch(c), &t->values));
    t->slot = lun_graph_input(g, "slot", lun_typed(lun_image(1, 1, 1, 1), LUN_I32));
    t->ring = lun_graph_state(g, "losses", lun_image(1, LUN_TRAINER_RING * c->accumulate, 1, 1));
    lun_store_at(g, t->ring, t->values.loss, t->slot);
    lun_graph_backward_guarded(g, t->values.loss, 1.0 / c->accumulate);
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
void lun_trainer_warn(const lun_trainer *t)
{
    for (size_t i = 0; t->config.accumulate > 1 && i < lun_store_count(t->store); i++) {
        if (lun_store_info(t->store, i)->role != LUN_ROLE_BUFFER)
            continue;
        lun_log(LUN_LOG_WARN,
                "this network has batch norms: in %d parts a batch of %d is normalised by the statistics of %d "
                "pictures at a time, so the result is not that of the whole batch",
                t->config.accumulate, t->config.batch, micro_batch(&t->config));
        return;
    }
}

lun_status lun_trainer_start_averages(lun_trainer *t)
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
    t->first = t->weights = -1;
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
    LUN_TRY(lun_trainer_start_averages(t));
    LUN_TRY(lun_store_keep_safe(t->store));
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

uint64_t lun_trainer_drained(const lun_trainer *trainer)
{
    return trainer->drained;
}

uint64_t lun_trainer_position(const lun_trainer *trainer)
{
    return trainer->step + trainer->skipped;
}

void lun_trainer_skip(lun_trainer *trainer, uint64_t batches)
{
    trainer->skipped += batches;
}

void lun_trainer_next(lun_trainer *t, uint32_t *index)
{
    lun_order_at(&t->order, lun_trainer_position(t), index);
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

/* What runs last in a step. */
static lun_plan *last_plan(const lun_trainer *t)
{
    return t->update_plan ? t->update_plan : t->plan;
}

/* Fetch the losses of the micro-batch that ran last. */
static lun_status fetch_losses(lun_trainer *t)
{
    if (t->waiting < 0)
        return LUN_OK;
    LUN_TRY(lun_plan_read(t->plan, t->values.each, t->each + (size_t)t->waiting * (size_t)micro_batch(&t->config)));
    t->waiting = -1;
    return LUN_OK;
}

lun_status lun_trainer_settle_times(lun_trainer *t)
{
    float health = 0;
    LUN_TRY(fetch_losses(t));
    if (t->drawn)
        LUN_TRY(lun_plan_read(last_plan(t), t->health, &health));
    if (t->drawn && health == 0) /* a step that changed nothing is not told of */
        lun_time_sampler_update(t->times, t->time, t->each, t->config.batch);
    t->drawn = false;
    return LUN_OK;
}

static lun_status draw_times(lun_trainer *t)
{
    LUN_TRY(lun_trainer_settle_times(t));
    lun_time_sampler_draw(t->times, t->config.seed, lun_trainer_position(t) * (uint64_t)t->config.batch,
                          t->config.batch, t->time, t->time_weight);
    return LUN_OK;
}

/* Rows for micro-batch `part`: a picture's randomness is that of its place in the whole batch. */
static lun_status write_rows(lun_trainer *t, lun_value value, lun_purpose purpose, int part)
{
    const int count = micro_batch(&t->config);
    const uint64_t first = lun_trainer_position(t) * (uint64_t)t->config.batch + (uint64_t)part * (uint64_t)count;
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
    LUN_TRY(lun_plan_write(plan, t->norm_slot, &slot));
    return t->weights >= 0 ? lun_plan_write(plan, t->weights, weights) : LUN_OK;
}

/* One step; `run` is lun_plan_run, or looks at what it runs. */
static lun_status run_step(lun_trainer *t, const float *images, lun_status (*run)(lun_plan *plan, void *payload),
                           void *payload)
{
    LUN_TRY(write_update(t, last_plan(t)));
    if (t->times)
        LUN_TRY(draw_times(t));
    for (int part = 0; part < t->config.accumulate; part++) {
        LUN_TRY(write_part(t, images, part));
        LUN_TRY(run(t->plan, payload));
        t->waiting = t->times ? part : -1;
    }
    t->drawn = t->times != NULL;
    return t->update_plan ? run(t->update_plan, payload) : LUN_OK;
}

static lun_status just_run(lun_plan *plan, void *payload)
{
    (void)payload;
    return lun_plan_run(plan);
}

lun_status lun_trainer_run(lun_trainer *t, const float *images)
{
    if (t->step - t->drained >= LUN_TRAINER_RING)
        return lun_fail(LUN_ERR_INTERNAL, "%d steps without reading their losses", LUN_TRAINER_RING);
    LUN_TRY(run_step(t, images, just_run, NULL));
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
    float norms[LUN_TRAINER_RING], health = 0;
    LUN_TRY(lun_plan_read(t->plan, t->ring, t->losses));
    LUN_TRY(lun_plan_read(last_plan(t), t->norm_ring, norms));
    LUN_TRY(lun_plan_read(last_plan(t), t->health, &health));
    int n = 0;
    for (; t->drained < t->step; t->drained++) {
        const uint64_t slot = t->drained % LUN_TRAINER_RING;
        const lun_step_report report = {loss_of(t, t->drained), norms[slot], lun_train_lr(&t->config, t->drained + 1)};
        if ((double)health == (double)(slot + 1) || !isfinite(report.loss) || !isfinite(report.grad_norm)) {
            t->bad = report;
            break;
        }
        reports[n++] = report;
    }
    if (n == 0 && t->drained < t->step)
        return lun_fail(LUN_ERR_DIVERGED, "the %s of step %" PRIu64 " is not finite",
                        isfinite(t->bad.loss) ? "gradient" : "loss", t->drained + 1);
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

/* ---- After a step that is not finite
 * --------------------------------------------------------------------------------------- */

lun_status lun_trainer_rewind(lun_trainer *t, lun_step_report *bad)
{
    const float sound = 0;
    LUN_TRY(lun_plan_write(last_plan(t), t->health, &sound));
    t->step = t->drained;
    t->waiting = -1;
    t->drawn = false;
    *bad = t->bad;
    return LUN_OK;
}

typedef struct finding {
    char *text;
    size_t size;
} finding;

static lun_status run_and_look(lun_plan *plan, void *payload)
{
    finding *f = payload;
    return f->text[0] ? lun_plan_run(plan) : lun_plan_trace(plan, f->text, f->size);
}

lun_status lun_trainer_trace(lun_trainer *t, const float *images, char *text, size_t size)
{
    finding f = {text, size};
    lun_step_report ignored;
    text[0] = 0;
    LUN_TRY(run_step(t, images, run_and_look, &f));
    return lun_trainer_rewind(t, &ignored);
}

lun_status lun_trainer_restart(lun_trainer *t)
{
    LUN_TRY(lun_store_init(t->store, t->config.seed));
    LUN_TRY(lun_store_clear(t->store, LUN_SLOT_M));
    LUN_TRY(lun_store_clear(t->store, LUN_SLOT_V));
    LUN_TRY(lun_trainer_start_averages(t));
    LUN_TRY(lun_store_keep_safe(t->store));
    if (t->times) {
        lun_time_sampler_destroy(&t->times);
        LUN_TRY(lun_time_sampler_create(t->config.model.steps, &t->times));
    }
    t->step = t->drained = t->tracked_before = 0;
    t->waiting = -1;
    t->drawn = false;
    return LUN_OK;
}
