#include "step.h"

#include "base/base.h"
#include "base/philox.h"

lun_status lun_train_schedule(const lun_train_config *c, lun_schedule *out)
{
    return lun_schedule_create(c->schedule, c->model.steps, c->beta_first, c->beta_last, out);
}

lun_objective lun_train_objective(const lun_train_config *c)
{
    return (lun_objective){.prediction = c->prediction,
                           .loss = c->loss,
                           .huber_delta = c->huber_delta,
                           .min_snr = c->min_snr,
                           .learned_variance = c->model.learned_sigma,
                           .bound_scale = c->bound_scale};
}

lun_status lun_step_record(lun_graph *g, const lun_train_config *c, int batch, lun_step_values *out)
{
    const lun_desc rows = lun_typed(lun_image(batch, LUN_RANDOM_ROW, 1, 1), LUN_U32);
    const lun_desc numbers = lun_typed(lun_image(batch, 1, 1, 1), LUN_I32);
    const lun_objective objective = lun_train_objective(c);
    const int channels = c->model.image_channels;
    lun_schedule schedule;
    LUN_TRY(lun_train_schedule(c, &schedule));
    *out = (lun_step_values){.time_rows = -1, .time = -1, .weights = -1, .dropout_rows = -1, .labels = -1, .each = -1};
    out->images = lun_graph_input(g, "images", lun_image(batch, channels, c->height, c->width));
    if (c->loss_aware) {
        out->time = lun_graph_input(g, "time", numbers);
        out->weights = lun_graph_input(g, "time_weights", lun_image(batch, 1, 1, 1));
    } else {
        out->time_rows = lun_graph_input(g, "time_rows", rows);
    }
    out->noise_rows = lun_graph_input(g, "noise_rows", rows);
    if (c->model.dropout > 0)
        out->dropout_rows = lun_graph_input(g, "dropout_rows", rows);
    if (c->model.classes > 0)
        out->labels = lun_graph_input(g, "labels", numbers);

    const lun_value time =
        c->loss_aware ? out->time : lun_randint(g, out->time_rows, 1, 1, 1, (uint32_t)c->model.steps);
    const lun_value eps = lun_randn(g, out->noise_rows, channels, c->height, c->width);
    const lun_value noisy = lun_objective_noisy(g, &schedule, out->images, eps, time);
    const lun_model_inputs inputs = {
        .x = noisy, .t = time, .labels = out->labels, .dropout = out->dropout_rows, .norm = LUN_NORM_TRAIN};
    const lun_value predicted = lun_model_apply(g, &c->model, &inputs);
    out->loss = lun_objective_loss(g, &schedule, &objective, predicted, out->images, noisy, eps, time, out->weights,
                                   c->loss_aware ? &out->each : NULL);
    lun_schedule_free(&schedule);
    if (out->each >= 0)
        lun_graph_output(g, out->each);
    return lun_graph_check(g);
}
