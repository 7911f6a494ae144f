/* Ancestral sampling: one compiled step, run from the last time step to the first. Pictures stay on the device between
 * steps. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/diffusion.h>

#include "base/base.h"
#include "base/philox.h"

/* Seconds after which a caller who watches is given a device that has caught up. */
#define CATCH_UP 0.1

/* The step, once with normals drawn on the device and once with given ones. */
typedef struct one_step {
    lun_graph *graph;
    lun_plan *plan; /* NULL until it is needed */
    lun_value x, t, coef, rows, z, result;
} one_step;

struct lun_sampler {
    lun_store *store;
    lun_device *device;
    lun_model_config config;
    lun_sampler_params params;
    lun_compile_params compile;
    lun_schedule schedule; /* arrays borrowed */
    one_step drawn, given;
    lun_graph *start_graph; /* x_T */
    lun_plan *start_plan;
    lun_value start_rows, start;
    int32_t *t;     /* (batch) */
    uint32_t *rows; /* (batch, 8) */
    float *images;  /* (batch, C, H, W) */
};

static lun_desc picture(const lun_sampler *s)
{
    return lun_image(s->params.batch, s->config.image_channels, s->params.height, s->params.width);
}

static lun_desc row_desc(const lun_sampler *s)
{
    return lun_typed(lun_image(s->params.batch, LUN_RANDOM_ROW, 1, 1), LUN_U32);
}

static lun_status step_compile(lun_sampler *s, bool given, one_step *out)
{
    if (out->plan)
        return LUN_OK;
    const lun_desc desc = picture(s);
    LUN_TRY(lun_graph_create(s->store, &out->graph));
    lun_graph *g = out->graph;
    out->x = lun_graph_input(g, "x", desc);
    out->t = lun_graph_input(g, "t", lun_typed(lun_image(s->params.batch, 1, 1, 1), LUN_I32));
    out->coef = lun_graph_input(g, "coef", lun_image(1, 8, 1, 1));
    if (given) {
        out->z = lun_graph_input(g, "z", desc);
    } else {
        out->rows = lun_graph_input(g, "rows", row_desc(s));
        out->z = lun_randn(g, out->rows, (int)desc.shape.c, (int)desc.shape.h, (int)desc.shape.w);
    }
    const lun_value eps = lun_model_forward(g, &s->config, out->x, out->t, s->params.norm);
    out->result = lun_sample_step(g, out->x, eps, out->z, out->coef, s->params.clip);
    lun_graph_output(g, out->result);
    const lun_status status = lun_graph_compile(g, s->device, &s->compile, &out->plan);
    if (status != LUN_OK)
        lun_graph_destroy(&out->graph);
    return status;
}

static lun_status start_compile(lun_sampler *s)
{
    const lun_shape shape = picture(s).shape;
    LUN_TRY(lun_graph_create(NULL, &s->start_graph));
    s->start_rows = lun_graph_input(s->start_graph, "rows", row_desc(s));
    s->start = lun_randn(s->start_graph, s->start_rows, (int)shape.c, (int)shape.h, (int)shape.w);
    lun_graph_output(s->start_graph, s->start);
    return lun_graph_compile(s->start_graph, s->device, &s->compile, &s->start_plan);
}

static lun_status check(const lun_model_config *config, const lun_sampler_params *p)
{
    LUN_TRY(lun_model_config_check(config, p->height, p->width));
    if (p->batch < 1)
        return lun_fail(LUN_ERR_USAGE, "a batch of %d pictures", p->batch);
    if (p->norm != LUN_NORM_EVAL && p->norm != LUN_NORM_BATCH)
        return lun_fail(LUN_ERR_USAGE, "sampling takes the running or the batch's statistics and changes none");
    const int shift = config->levels - 1;
    if (p->norm == LUN_NORM_BATCH && (int64_t)p->batch * (p->height >> shift) * (p->width >> shift) < 2)
        return lun_fail(
            LUN_ERR_USAGE,
            "batch statistics need more than one value a channel at the deepest level; draw more pictures at a time");
    for (int i = 0; i < p->schedule->steps; i++)
        if (p->schedule->timestep[i] < 0 || p->schedule->timestep[i] >= config->steps)
            return lun_fail(LUN_ERR_USAGE, "the schedule has time step %d, the network's are 0 to %d",
                            p->schedule->timestep[i], config->steps - 1);
    return LUN_OK;
}

lun_status lun_sampler_create(lun_store *store, lun_device *dev, const lun_model_config *config,
                              const lun_sampler_params *params, const lun_compile_params *compile, lun_sampler **out)
{
    LUN_TRY(check(config, params));
    LUN_TRY(lun_desc_check(lun_image(params->batch, config->image_channels, params->height, params->width)));
    lun_sampler *s = lun_calloc(1, sizeof *s, "a sampler");
    if (!s)
        return LUN_ERR_MEMORY;
    s->store = store;
    s->device = dev;
    s->config = *config;
    s->params = *params;
    s->schedule = *params->schedule;
    if (compile)
        s->compile = *compile;
    s->compile.keep = 1; /* one step runs hundreds of times */
    const size_t batch = (size_t)params->batch;
    s->t = lun_malloc(batch, sizeof *s->t, "time steps");
    s->rows = lun_malloc(batch, LUN_RANDOM_ROW * sizeof *s->rows, "random rows");
    s->images = lun_malloc((size_t)lun_count(picture(s).shape), sizeof *s->images, "pictures");
    lun_status status = s->t && s->rows && s->images ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = start_compile(s);
    if (status == LUN_OK)
        status = step_compile(s, false, &s->drawn);
    if (status != LUN_OK) {
        lun_sampler_destroy(&s);
        return status;
    }
    s->compile.tune = NULL; /* what is compiled later takes what is known then */
    *out = s;
    return LUN_OK;
}

void lun_sampler_destroy(lun_sampler **sampler)
{
    if (!sampler || !*sampler)
        return;
    lun_sampler *s = *sampler;
    one_step *steps[] = {&s->drawn, &s->given};
    for (size_t i = 0; i < LUN_COUNT(steps); i++) {
        lun_plan_destroy(&steps[i]->plan);
        lun_graph_destroy(&steps[i]->graph);
    }
    lun_plan_destroy(&s->start_plan);
    lun_graph_destroy(&s->start_graph);
    free(s->t);
    free(s->rows);
    free(s->images);
    free(s);
    *sampler = NULL;
}

static void fill_rows(lun_sampler *s, const uint64_t *seeds, uint32_t sub)
{
    for (int k = 0; k < s->params.batch; k++)
        lun_random_row(seeds[k], LUN_RANDOM_SAMPLER, 0, sub, s->rows + (size_t)k * LUN_RANDOM_ROW);
}

static lun_status begin(lun_sampler *s, const one_step *step, const lun_sampler_run *run)
{
    if (run->start)
        return lun_plan_write(step->plan, step->x, run->start);
    fill_rows(s, run->seeds, 0);
    LUN_TRY(lun_plan_write(s->start_plan, s->start_rows, s->rows));
    LUN_TRY(lun_plan_run(s->start_plan));
    LUN_TRY(lun_plan_read(s->start_plan, s->start, s->images));
    return lun_plan_write(step->plan, step->x, s->images);
}

/* Enqueue step i of the schedule; afterwards x is x_{i-1}. */
static lun_status advance(lun_sampler *s, const one_step *step, const lun_sampler_run *run, int i)
{
    float coef[8];
    lun_schedule_ancestral(&s->schedule, i, s->params.clip, coef);
    for (int k = 0; k < s->params.batch; k++)
        s->t[k] = s->schedule.timestep[i];
    LUN_TRY(lun_plan_write(step->plan, step->t, s->t));
    LUN_TRY(lun_plan_write(step->plan, step->coef, coef));
    if (run->noise) {
        const size_t size = (size_t)lun_count(picture(s).shape);
        LUN_TRY(lun_plan_write(step->plan, step->z, run->noise + (size_t)(s->schedule.steps - 1 - i) * size));
    } else {
        fill_rows(s, run->seeds, (uint32_t)i + 1);
        LUN_TRY(lun_plan_write(step->plan, step->rows, s->rows));
    }
    LUN_TRY(lun_plan_run(step->plan));
    return lun_plan_copy(step->plan, step->x, step->result);
}

lun_status lun_sampler_draw(lun_sampler *s, const lun_sampler_run *run, float *images)
{
    if (!run->seeds && (!run->start || !run->noise))
        return lun_fail(LUN_ERR_USAGE, "sampling without seeds needs both the start and the noise");
    one_step *step = run->noise ? &s->given : &s->drawn;
    LUN_TRY(step_compile(s, run->noise != NULL, step));
    LUN_TRY(begin(s, step, run));
    double caught_up = lun_clock();
    for (int i = s->schedule.steps - 1; i >= 0; i--) {
        LUN_TRY(advance(s, step, run, i));
        if (!run->progress)
            continue;
        const bool wanted = run->want && run->want(run->payload, i);
        if (wanted) {
            LUN_TRY(lun_plan_read(step->plan, step->x, s->images));
        } else if (lun_clock() - caught_up > CATCH_UP) {
            LUN_TRY(lun_device_finish(s->device));
            caught_up = lun_clock();
        }
        if (run->progress(run->payload, i, wanted ? s->images : NULL))
            break;
    }
    LUN_TRY(lun_plan_read(step->plan, step->x, s->images));
    const size_t count = (size_t)lun_count(picture(s).shape), each = count / (size_t)s->params.batch;
    for (size_t e = 0; e < count; e++)
        if (!isfinite(s->images[e]))
            return lun_fail(LUN_ERR_DIVERGED, "picture %zu of the batch is not finite", e / each);
    memcpy(images, s->images, count * sizeof *images);
    return LUN_OK;
}
