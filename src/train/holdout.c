#include "holdout.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/philox.h"
#include "step.h"

#define LEAST_MEASUREMENTS 64
#define MOST_MEASUREMENTS  1024
#define SEED               0 /* of its own noise: not the run's */

struct lun_holdout {
    const lun_dataset *dataset;
    size_t measurements, elements; /* elements of one picture */
    int batch, steps;
    uint32_t *pictures; /* of each measurement */
    uint32_t *places;   /* of each measurement's time step: a permutation */
    lun_graph *graph;
    lun_plan *plans[2]; /* on the weights; on their first moving average, NULL without any */
    lun_value images, time, labels, rows, each;
    float *x, *losses; /* a batch: the images; their losses */
    int32_t *t, *label;
    uint32_t *noise;
    uint32_t *index;
};

size_t lun_holdout_measurements(size_t count)
{
    if (count >= MOST_MEASUREMENTS)
        return MOST_MEASUREMENTS;
    return count * ((LEAST_MEASUREMENTS + count - 1) / count);
}

size_t lun_holdout_picture(size_t count, size_t m)
{
    return count > MOST_MEASUREMENTS ? m * count / MOST_MEASUREMENTS : m % count;
}

static lun_status record(lun_holdout *h, const lun_train_config *c)
{
    const int batch = h->batch, channels = c->model.image_channels;
    const lun_desc numbers = lun_typed(lun_image(batch, 1, 1, 1), LUN_I32);
    lun_objective objective = lun_train_objective(c);
    objective.min_snr = 0; /* a plain mean compares */
    objective.learned_variance = 0;
    lun_schedule schedule;
    LUN_TRY(lun_train_schedule(c, &schedule));
    lun_graph *g = h->graph;
    h->images = lun_graph_input(g, "images", lun_image(batch, channels, c->height, c->width));
    h->time = lun_graph_input(g, "time", numbers);
    h->labels = c->model.classes > 0 ? lun_graph_input(g, "labels", numbers) : -1;
    h->rows = lun_graph_input(g, "noise_rows", lun_typed(lun_image(batch, LUN_RANDOM_ROW, 1, 1), LUN_U32));
    const lun_value eps = lun_randn(g, h->rows, channels, c->height, c->width);
    const lun_value noisy = lun_objective_noisy(g, &schedule, h->images, eps, h->time);
    const lun_model_inputs inputs = {
        .x = noisy, .t = h->time, .labels = h->labels, .dropout = -1, .norm = LUN_NORM_EVAL};
    const lun_value predicted = lun_model_apply(g, &c->model, &inputs);
    lun_objective_loss(g, &schedule, &objective, predicted, h->images, noisy, eps, h->time, -1, &h->each);
    lun_schedule_free(&schedule);
    lun_graph_output(g, h->each);
    return lun_graph_check(g);
}

static lun_status build(lun_holdout *h, lun_device *dev, lun_store *store, const lun_train_config *c,
                        const uint32_t *pictures, size_t count, const lun_compile_params *compile)
{
    const size_t batch = (size_t)h->batch;
    h->pictures = lun_malloc(h->measurements, sizeof *h->pictures, "the held-out pictures");
    h->places = lun_malloc(h->measurements, sizeof *h->places, "the held-out pictures");
    h->x = lun_malloc(batch * h->elements, sizeof *h->x, "a batch of held-out pictures");
    h->losses = lun_malloc(batch, sizeof *h->losses, "a batch of held-out pictures");
    h->label = lun_malloc(batch, sizeof *h->label, "a batch of held-out pictures");
    h->t = lun_malloc(batch, sizeof *h->t, "a batch of held-out pictures");
    h->index = lun_malloc(batch, sizeof *h->index, "a batch of held-out pictures");
    h->noise = lun_malloc(batch * LUN_RANDOM_ROW, sizeof *h->noise, "a batch of held-out pictures");
    if (!h->pictures || !h->places || !h->x || !h->losses || !h->label || !h->t || !h->index || !h->noise)
        return LUN_ERR_MEMORY;
    for (size_t m = 0; m < h->measurements; m++)
        h->pictures[m] = pictures[lun_holdout_picture(count, m)];
    lun_random_permutation(SEED, UINT64_MAX, (uint32_t)h->measurements, h->places);
    LUN_TRY(lun_graph_create(store, &h->graph));
    LUN_TRY(record(h, c));
    lun_compile_params params = compile ? *compile : (lun_compile_params){0};
    params.values = LUN_SLOT_VALUE;
    LUN_TRY(lun_graph_compile(h->graph, dev, &params, &h->plans[0]));
    params.values = LUN_SLOT_EMA;
    return c->ema_count > 0 ? lun_graph_compile(h->graph, dev, &params, &h->plans[1]) : LUN_OK;
}

lun_status lun_holdout_create(lun_device *dev, lun_store *store, const lun_train_config *config,
                              const lun_dataset *dataset, const uint32_t *pictures, size_t count,
                              const lun_compile_params *compile, lun_holdout **out)
{
    if (count < 1)
        return lun_fail(LUN_ERR_DATA, "no picture is held out");
    lun_holdout *h = lun_calloc(1, sizeof *h, "the held-out pictures");
    if (!h)
        return LUN_ERR_MEMORY;
    h->dataset = dataset;
    h->measurements = lun_holdout_measurements(count);
    h->elements = (size_t)config->model.image_channels * (size_t)config->height * (size_t)config->width;
    /* What fits into memory while training fits here. */
    h->batch = (int)lun_min_i64(config->batch / config->accumulate, (int64_t)h->measurements);
    h->steps = config->model.steps;
    const lun_status status = build(h, dev, store, config, pictures, count, compile);
    if (status != LUN_OK) {
        lun_holdout_destroy(&h);
        return status;
    }
    *out = h;
    return LUN_OK;
}

void lun_holdout_destroy(lun_holdout **holdout)
{
    lun_holdout *h = holdout ? *holdout : NULL;
    if (!h)
        return;
    lun_plan_destroy(&h->plans[0]);
    lun_plan_destroy(&h->plans[1]);
    lun_graph_destroy(&h->graph);
    free(h->pictures);
    free(h->places);
    free(h->x);
    free(h->losses);
    free(h->label);
    free(h->t);
    free(h->noise);
    free(h->index);
    free(h);
    *holdout = NULL;
}

/* Measurements [first, first + batch); beyond the last one the first again, to fill the one compiled shape. */
static lun_status predict(lun_holdout *h, lun_plan *plan, size_t first)
{
    for (int i = 0; i < h->batch; i++) {
        const size_t m = first + (size_t)i < h->measurements ? first + (size_t)i : 0;
        h->index[i] = h->pictures[m];
        h->t[i] = (int32_t)((2 * (int64_t)h->places[m] + 1) * h->steps / (2 * (int64_t)h->measurements));
        h->label[i] = lun_dataset_label(h->dataset, h->pictures[m]);
        lun_random_row(SEED, LUN_RANDOM_HOLDOUT, m, 0, h->noise + i * LUN_RANDOM_ROW);
    }
    LUN_TRY(lun_dataset_images(h->dataset, h->index, (size_t)h->batch, h->x));
    LUN_TRY(lun_plan_write(plan, h->images, h->x));
    LUN_TRY(lun_plan_write(plan, h->time, h->t));
    LUN_TRY(lun_plan_write(plan, h->rows, h->noise));
    if (h->labels >= 0)
        LUN_TRY(lun_plan_write(plan, h->labels, h->label));
    LUN_TRY(lun_plan_run(plan));
    return lun_plan_read(plan, h->each, h->losses);
}

bool lun_holdout_averages(const lun_holdout *h)
{
    return h->plans[1] != NULL;
}

/* Summed on the host, so that measurements that only fill a batch up count for nothing, and the sum does not depend on
 * how the batches fall. */
lun_status lun_holdout_measure(lun_holdout *h, bool average, double *loss)
{
    lun_plan *plan = h->plans[average];
    double sum = 0;
    if (!plan)
        return lun_fail(LUN_ERR_USAGE, "there is no moving average to measure");
    for (size_t first = 0; first < h->measurements; first += (size_t)h->batch) {
        LUN_TRY(predict(h, plan, first));
        for (int i = 0; i < h->batch && first + (size_t)i < h->measurements; i++)
            sum += (double)h->losses[i];
    }
    *loss = sum / (double)h->measurements;
    return LUN_OK;
}
