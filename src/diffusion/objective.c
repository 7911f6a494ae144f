/* What a network is asked for, recorded: noised pictures, targets, losses. */
#include "schedule.h"

#include <stdlib.h>

#include "graph/graph.h"

/* A constant table with `columns` floats a step. */
static lun_value table(lun_graph *graph, const char *name, const lun_schedule *schedule, int columns,
                       void (*fill)(const lun_schedule *schedule, const lun_objective *objective, float *values),
                       const lun_objective *objective)
{
    float *values = lun_malloc((size_t)schedule->steps, (size_t)columns * sizeof *values, "a table of the schedule");
    if (!values)
        return lun_graph_keep(graph, LUN_ERR_MEMORY);
    fill(schedule, objective, values);
    const lun_value value = lun_graph_constant(graph, name, lun_image(schedule->steps, columns, 1, 1), values);
    free(values);
    return value;
}

static void fill_noise(const lun_schedule *schedule, const lun_objective *objective, float *values)
{
    (void)objective;
    lun_schedule_noise_table(schedule, values);
}
static void fill_velocity(const lun_schedule *schedule, const lun_objective *objective, float *values)
{
    (void)objective;
    lun_schedule_velocity_table(schedule, values);
}
static void fill_snr(const lun_schedule *schedule, const lun_objective *objective, float *values)
{
    lun_schedule_snr_table(schedule, objective->prediction, objective->min_snr, values);
}
static void fill_bound(const lun_schedule *schedule, const lun_objective *objective, float *values)
{
    lun_schedule_bound_table(schedule, objective->prediction, values);
}

lun_value lun_objective_noisy(lun_graph *graph, const lun_schedule *schedule, lun_value x0, lun_value eps, lun_value t)
{
    return lun_noise(graph, x0, eps, t, table(graph, "noise_table", schedule, 2, fill_noise, NULL));
}

static lun_value target(lun_graph *graph, const lun_schedule *schedule, const lun_objective *objective, lun_value x0,
                        lun_value eps, lun_value t)
{
    switch (objective->prediction) {
    case LUN_PREDICTION_EPS: break;
    case LUN_PREDICTION_X0: return x0;
    case LUN_PREDICTION_V:
        return lun_noise(graph, eps, x0, t, table(graph, "velocity_table", schedule, 2, fill_velocity, NULL));
    }
    return eps;
}

static lun_value ones(lun_graph *graph, int64_t n)
{
    float *values = lun_malloc((size_t)n, sizeof *values, "weights");
    if (!values)
        return lun_graph_keep(graph, LUN_ERR_MEMORY);
    for (int64_t i = 0; i < n; i++)
        values[i] = 1;
    const lun_value value = lun_graph_constant(graph, "weights", lun_image(n, 1, 1, 1), values);
    free(values);
    return value;
}

lun_value lun_objective_loss(lun_graph *graph, const lun_schedule *schedule, const lun_objective *o, lun_value pred,
                             lun_value x0, lun_value xt, lun_value eps, lun_value t, lun_value weights, lun_value *each)
{
    const lun_value wanted = target(graph, schedule, o, x0, eps, t);
    const bool snr = o->min_snr > 0;
    if (each)
        *each = -1;
    if (!snr && !o->learned_variance && weights == -1 && !each) /* one pass over all elements */
        return lun_loss(graph, pred, wanted, o->loss, o->huber_delta);
    const lun_value by_t = snr ? lun_embed(graph, t, table(graph, "snr_table", schedule, 1, fill_snr, o)) : -1;
    lun_value losses = lun_loss_each(graph, pred, wanted, by_t, o->loss, o->huber_delta);
    if (o->learned_variance)
        losses =
            lun_add(graph, losses,
                    lun_variational(graph, pred, x0, xt, t, table(graph, "bound_table", schedule, 8, fill_bound, o),
                                    (float)o->bound_scale));
    if (each)
        *each = losses;
    return lun_weighted_mean(graph, losses, weights == -1 ? ones(graph, lun_graph_desc(graph, t).shape.n) : weights);
}
