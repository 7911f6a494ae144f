#include "step.h"

#include "base/base.h"
#include "base/philox.h"

lun_status lun_step_record(lun_graph *g, const lun_train_config *c, int batch, lun_step_values *out)
{
    const lun_desc rows = lun_typed(lun_image(batch, LUN_RANDOM_ROW, 1, 1), LUN_U32);
    const int channels = c->model.image_channels;
    const lun_objective objective = {.prediction = LUN_PREDICTION_EPS,
                                     .loss = c->loss,
                                     .huber_delta = c->huber_delta,
                                     .learned_variance = c->model.learned_sigma,
                                     .bound_scale = 1};
    lun_schedule schedule;
    LUN_TRY(lun_schedule_linear(c->model.steps, c->beta_first, c->beta_last, &schedule));
    *out = (lun_step_values){.dropout_rows = -1, .labels = -1};
    out->images = lun_graph_input(g, "images", lun_image(batch, channels, c->height, c->width));
    out->time_rows = lun_graph_input(g, "time_rows", rows);
    out->noise_rows = lun_graph_input(g, "noise_rows", rows);
    if (c->model.dropout > 0)
        out->dropout_rows = lun_graph_input(g, "dropout_rows", rows);
    if (c->model.classes > 0)
        out->labels = lun_graph_input(g, "labels", lun_typed(lun_image(batch, 1, 1, 1), LUN_I32));

    const lun_value time = lun_randint(g, out->time_rows, 1, 1, 1, (uint32_t)c->model.steps);
    const lun_value eps = lun_randn(g, out->noise_rows, channels, c->height, c->width);
    const lun_value noisy = lun_objective_noisy(g, &schedule, out->images, eps, time);
    const lun_model_inputs inputs = {
        .x = noisy, .t = time, .labels = out->labels, .dropout = out->dropout_rows, .norm = LUN_NORM_TRAIN};
    const lun_value predicted = lun_model_apply(g, &c->model, &inputs);
    out->loss = lun_objective_loss(g, &schedule, &objective, predicted, out->images, noisy, eps, time, -1, NULL);
    lun_schedule_free(&schedule);
    return lun_graph_check(g);
}
