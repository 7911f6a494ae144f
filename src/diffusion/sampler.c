/* Sampling: one compiled step, run once a move from the last time step to the first (moves.h). Pictures stay on the
 * device between moves.
 *
 * Guided sampling runs on twice the batch, the second half being told the null label. Both halves have one start and
 * one noise, and guidance gives both one prediction, so that they stay equal and nothing has to be copied from one to
 * the other. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/diffusion.h>

#include "base/base.h"
#include "base/philox.h"
#include "graph/graph.h"
#include "moves.h"

/* Seconds after which a caller who watches is given a device that has caught up. */
#define CATCH_UP 0.1

/* The step, once with normals drawn on the device and once with given ones; samplers without noise have the first. */
typedef struct one_step {
    lun_graph *graph;
    lun_plan *plan; /* NULL until it is needed */
    lun_value x, t, labels, coef, rows, z, result;
    lun_value memory, memory_coef, next_memory;
} one_step;

struct lun_sampler {
    lun_store *store;
    lun_device *device;
    lun_model_config config;
    lun_denoiser denoiser;
    lun_sampler_params params;
    lun_compile_params compile;
    lun_moves moves;
    bool guided;
    int rows_count; /* pictures of the step: the batch, or twice as many */
    one_step drawn, given;
    lun_graph *start_graph; /* x_T */
    lun_plan *start_plan;
    lun_value start_rows, start;
    int32_t *t, *labels; /* (rows_count) */
    uint32_t *rows;      /* (rows_count, 8) */
    float *images;       /* (rows_count, C, H, W) */
};

static lun_desc pictures(const lun_sampler *s, int count)
{
    return lun_image(count, s->denoiser.channels, s->params.height, s->params.width);
}

static size_t batch_elements(const lun_sampler *s)
{
    return (size_t)lun_count(pictures(s, s->params.batch).shape);
}

static lun_desc row_desc(int count)
{
    return lun_typed(lun_image(count, LUN_RANDOM_ROW, 1, 1), LUN_U32);
}

static lun_value record_model(void *payload, lun_graph *graph, lun_value x, lun_value t, lun_value labels,
                              lun_norm_mode norm)
{
    return lun_model_apply(graph, payload,
                           &(lun_model_inputs){.x = x, .t = t, .labels = labels, .dropout = -1, .norm = norm});
}

/* ---- The step
 * -------------------------------------------------------------------------------------------------------------- */

static lun_value record_prediction(const lun_sampler *s, one_step *step)
{
    lun_graph *g = step->graph;
    const int channels = s->denoiser.channels;
    lun_value pred = s->denoiser.record(s->denoiser.payload, g, step->x, step->t, step->labels, s->params.norm);
    const int64_t got = lun_graph_desc(g, pred).shape.c;
    if (lun_graph_check(g) == LUN_OK && got != channels && got != 2 * channels)
        return lun_graph_fail(g, LUN_ERR_USAGE, "a network that predicts %d channels of pictures with %d", (int)got,
                              channels);
    if (lun_graph_check(g) == LUN_OK && s->moves.learned && got == channels)
        return lun_graph_fail(g, LUN_ERR_USAGE, "this network has learned no variance");
    if (s->guided) {
        const float scale = (float)s->params.guidance;
        pred = lun_guide(g, pred, lun_graph_constant(g, "guidance", lun_image(1, 1, 1, 1), &scale), channels);
    }
    return pred;
}

static lun_status step_compile(lun_sampler *s, bool given, one_step *out)
{
    if (out->plan)
        return LUN_OK;
    const int count = s->rows_count;
    const lun_desc desc = pictures(s, count), numbers = lun_typed(lun_image(count, 1, 1, 1), LUN_I32);
    LUN_TRY(lun_graph_create(s->store, &out->graph));
    lun_graph *g = out->graph;
    lun_graph_times(g, s->moves.times, s->moves.times ? s->moves.steps : 0);
    out->x = lun_graph_input(g, "x", desc);
    out->t = lun_graph_input(g, "t", numbers);
    out->labels = s->denoiser.classes > 0 ? lun_graph_input(g, "labels", numbers) : -1;
    out->coef = lun_graph_input(g, "coef", lun_image(1, 8, 1, 1));
    if (s->moves.has_memory) {
        out->z = out->memory = lun_graph_input(g, "memory", desc);
        out->memory_coef = lun_graph_input(g, "memory_coef", lun_image(1, 8, 1, 1));
    } else if (!s->moves.has_noise) {
        out->z = out->x; /* its coefficient is 0 */
    } else if (given) {
        out->z = lun_graph_input(g, "z", desc);
    } else {
        out->rows = lun_graph_input(g, "rows", row_desc(count));
        out->z = lun_randn(g, out->rows, (int)desc.shape.c, (int)desc.shape.h, (int)desc.shape.w);
    }
    const lun_value pred = record_prediction(s, out);
    out->result = s->moves.learned ? lun_sample_step_learned(g, out->x, pred, out->z, out->coef, s->params.clip)
                                   : lun_sample_step(g, out->x, pred, out->z, out->coef, s->params.clip);
    lun_graph_output(g, out->result);
    if (s->moves.has_memory) {
        out->next_memory = lun_sample_step(g, out->x, pred, out->z, out->memory_coef, s->params.clip);
        lun_graph_output(g, out->next_memory);
    }
    const lun_status status = lun_graph_compile(g, s->device, &s->compile, &out->plan);
    if (status != LUN_OK)
        lun_graph_destroy(&out->graph);
    return status;
}

static lun_status start_compile(lun_sampler *s)
{
    const lun_shape shape = pictures(s, s->params.batch).shape;
    LUN_TRY(lun_graph_create(NULL, &s->start_graph));
    s->start_rows = lun_graph_input(s->start_graph, "rows", row_desc(s->params.batch));
    s->start = lun_randn(s->start_graph, s->start_rows, (int)shape.c, (int)shape.h, (int)shape.w);
    lun_graph_output(s->start_graph, s->start);
    return lun_graph_compile(s->start_graph, s->device, &s->compile, &s->start_plan);
}

/* ---- Beginning and end
 * ------------------------------------------------------------------------------------------------------ */

static lun_status check_model(const lun_model_config *config, const lun_sampler_params *p)
{
    LUN_TRY(lun_model_config_check(config, p->height, p->width));
    const int shift = config->levels - 1;
    if (config->network == LUN_NOTEBOOK && p->norm == LUN_NORM_BATCH &&
        (int64_t)p->batch * (p->height >> shift) * (p->width >> shift) < 2)
        return lun_fail(
            LUN_ERR_USAGE,
            "batch statistics need more than one value a channel at the deepest level; draw more pictures at a time");
    return LUN_OK;
}

/* A guidance of 0 is none asked for, and 1 changes nothing. */
static bool guides(const lun_sampler_params *p)
{
    return p->guidance != 0 && p->guidance != 1;
}

static lun_status check(const lun_denoiser *denoiser, const lun_sampler_params *p)
{
    if (p->batch < 1 || p->batch > INT32_MAX / 2)
        return lun_fail(LUN_ERR_USAGE, "a batch of %d pictures", p->batch);
    if (p->norm != LUN_NORM_EVAL && p->norm != LUN_NORM_BATCH)
        return lun_fail(LUN_ERR_USAGE, "sampling takes the running or the batch's statistics and changes none");
    for (int i = 0; i < p->schedule->steps; i++)
        if (p->schedule->timestep[i] < 0 || p->schedule->timestep[i] >= denoiser->steps)
            return lun_fail(LUN_ERR_USAGE, "the schedule has time step %d, the network's are 0 to %d",
                            p->schedule->timestep[i], denoiser->steps - 1);
    if (!isfinite(p->guidance))
        return lun_fail(LUN_ERR_USAGE, "guidance %g is not finite", p->guidance);
    if (p->guidance != 0 && denoiser->classes < 1)
        return lun_fail(LUN_ERR_USAGE, "guidance: this network takes no labels");
    if (guides(p) && denoiser->null_label < 0)
        return lun_fail(LUN_ERR_USAGE, "guidance: this network was never trained without a label");
    return LUN_OK;
}

static lun_status build(lun_sampler *s)
{
    const size_t count = (size_t)s->rows_count;
    LUN_TRY(lun_desc_check(pictures(s, s->rows_count)));
    LUN_TRY(lun_moves_create(&s->params, &s->moves));
    s->t = lun_malloc(count, sizeof *s->t, "time steps");
    s->labels = lun_malloc(count, sizeof *s->labels, "labels");
    s->rows = lun_malloc(count, LUN_RANDOM_ROW * sizeof *s->rows, "random rows");
    s->images = lun_malloc((size_t)lun_count(pictures(s, s->rows_count).shape), sizeof *s->images, "pictures");
    if (!s->t || !s->labels || !s->rows || !s->images)
        return LUN_ERR_MEMORY;
    LUN_TRY(start_compile(s));
    return step_compile(s, false, &s->drawn);
}

lun_status lun_sampler_create(lun_store *store, lun_device *dev, const lun_model_config *config,
                              const lun_sampler_params *params, const lun_compile_params *compile, lun_sampler **out)
{
    if (!params->denoiser && !config)
        return lun_fail(LUN_ERR_USAGE, "a sampler without a network");
    if (!params->denoiser)
        LUN_TRY(check_model(config, params));
    lun_sampler *s = lun_calloc(1, sizeof *s, "a sampler");
    if (!s)
        return LUN_ERR_MEMORY;
    s->store = store;
    s->device = dev;
    s->params = *params;
    if (config)
        s->config = *config;
    s->denoiser = params->denoiser ? *params->denoiser
                                   : (lun_denoiser){.record = record_model,
                                                    .payload = &s->config,
                                                    .channels = s->config.image_channels,
                                                    .steps = s->config.steps,
                                                    .classes = s->config.classes,
                                                    .null_label = s->config.null_class ? s->config.classes : -1};
    s->guided = guides(params);
    if (compile)
        s->compile = *compile;
    s->compile.keep = 1; /* one step runs hundreds of times */
    lun_status status = check(&s->denoiser, params);
    if (status == LUN_OK) {
        s->rows_count = s->guided ? 2 * params->batch : params->batch;
        status = build(s);
    }
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
    lun_moves_free(&s->moves);
    free(s->t);
    free(s->labels);
    free(s->rows);
    free(s->images);
    free(s);
    *sampler = NULL;
}

int lun_sampler_steps(const lun_sampler *sampler)
{
    return sampler->moves.steps;
}

int lun_sampler_classes(const lun_sampler *sampler)
{
    return sampler->denoiser.classes;
}

/* ---- Drawing
 * --------------------------------------------------------------------------------------------------------------- */

/* Rows of `count` pictures, the batch again and again. */
static void fill_rows(lun_sampler *s, const uint64_t *seeds, uint32_t sub, int count)
{
    for (int k = 0; k < count; k++)
        lun_random_row(seeds[k % s->params.batch], LUN_RANDOM_SAMPLER, 0, sub, s->rows + (size_t)k * LUN_RANDOM_ROW);
}

/* Write pictures of the batch to an input that may have them twice. */
static lun_status write_batch(lun_sampler *s, const one_step *step, lun_value value, const float *images)
{
    if (!s->guided)
        return lun_plan_write(step->plan, value, images);
    const size_t count = batch_elements(s);
    memmove(s->images, images, count * sizeof *images);
    memcpy(s->images + count, s->images, count * sizeof *images);
    return lun_plan_write(step->plan, value, s->images);
}

static lun_status draw_start(lun_sampler *s, const uint64_t *seeds, float *images)
{
    fill_rows(s, seeds, 0, s->params.batch);
    LUN_TRY(lun_plan_write(s->start_plan, s->start_rows, s->rows));
    LUN_TRY(lun_plan_run(s->start_plan));
    return lun_plan_read(s->start_plan, s->start, images);
}

/* a = the point `mix` of the way from a to b on the arc between them: sin((1 - m) w) / sin(w) a + sin(m w) / sin(w) b,
 * w their angle. The ends are a and b to the last bit. */
static void mix_arc(float *a, const float *b, double mix, size_t count)
{
    double aa = 0, bb = 0, ab = 0;
    for (size_t i = 0; i < count; i++) {
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
        ab += (double)a[i] * (double)b[i];
    }
    const double angle = acos(fmin(fmax(ab / sqrt(aa * bb), -1), 1)), whole = sin(angle);
    const bool flat = !(whole > 1e-6); /* one direction, or opposite ones: no arc to go along */
    const double of_a = flat ? 1 - mix : sin((1 - mix) * angle) / whole;
    const double of_b = flat ? mix : sin(mix * angle) / whole;
    for (size_t i = 0; i < count; i++)
        a[i] = (float)(of_a * (double)a[i] + of_b * (double)b[i]);
}

static lun_status draw_between(lun_sampler *s, const lun_sampler_run *run)
{
    const size_t count = batch_elements(s), each = count / (size_t)s->params.batch;
    float *other = lun_malloc(count, sizeof *other, "pictures");
    if (!other)
        return LUN_ERR_MEMORY;
    const lun_status status = draw_start(s, run->seeds_to, other);
    for (int k = 0; k < s->params.batch && status == LUN_OK; k++)
        mix_arc(s->images + (size_t)k * each, other + (size_t)k * each, run->mix[k], each);
    free(other);
    return status;
}

static lun_status write_labels(lun_sampler *s, const one_step *step, const lun_sampler_run *run)
{
    if (s->denoiser.classes < 1)
        return run->labels ? lun_fail(LUN_ERR_USAGE, "this network takes no labels") : LUN_OK;
    const int none = s->denoiser.null_label;
    if (!run->labels && none < 0)
        return lun_fail(LUN_ERR_USAGE, "this network needs a label for every picture");
    for (int k = 0; k < s->rows_count; k++) {
        const bool given = run->labels && k < s->params.batch;
        s->labels[k] = given ? run->labels[k] : none;
        if (s->labels[k] < 0 || (s->labels[k] >= s->denoiser.classes && s->labels[k] != none))
            return lun_fail(LUN_ERR_USAGE, "label %d; labels are 0 to %d", (int)s->labels[k], s->denoiser.classes - 1);
    }
    return lun_plan_write(step->plan, step->labels, s->labels);
}

static lun_status begin(lun_sampler *s, const one_step *step, const lun_sampler_run *run)
{
    LUN_TRY(write_labels(s, step, run));
    if (s->moves.has_memory) { /* not read at first, but 0 times what lies there must be 0 */
        memset(s->images, 0, (size_t)lun_count(pictures(s, s->rows_count).shape) * sizeof *s->images);
        LUN_TRY(lun_plan_write(step->plan, step->memory, s->images));
    }
    if (run->start)
        return write_batch(s, step, step->x, run->start);
    LUN_TRY(draw_start(s, run->seeds, s->images));
    if (run->seeds_to)
        LUN_TRY(draw_between(s, run));
    return write_batch(s, step, step->x, s->images);
}

/* Enqueue a move; afterwards x is the next one. */
static lun_status advance(lun_sampler *s, const one_step *step, const lun_sampler_run *run, const lun_move *move)
{
    for (int k = 0; k < s->rows_count; k++)
        s->t[k] = move->t;
    LUN_TRY(lun_plan_write(step->plan, step->t, s->t));
    LUN_TRY(lun_plan_write(step->plan, step->coef, move->coef));
    if (s->moves.has_memory) {
        LUN_TRY(lun_plan_write(step->plan, step->memory_coef, move->memory));
    } else if (s->moves.has_noise && run->noise) {
        const size_t place = (size_t)(s->moves.steps - 1 - move->left);
        LUN_TRY(write_batch(s, step, step->z, run->noise + place * batch_elements(s)));
    } else if (s->moves.has_noise) {
        fill_rows(s, run->seeds, (uint32_t)move->left + 1, s->rows_count);
        LUN_TRY(lun_plan_write(step->plan, step->rows, s->rows));
    }
    LUN_TRY(lun_plan_run(step->plan));
    if (s->moves.has_memory)
        LUN_TRY(lun_plan_copy(step->plan, step->memory, step->next_memory));
    return lun_plan_copy(step->plan, step->x, step->result);
}

static lun_status check_run(const lun_sampler *s, const lun_sampler_run *run)
{
    if (!run->seeds && (!run->start || (s->moves.has_noise && !run->noise)))
        return lun_fail(LUN_ERR_USAGE, "sampling without seeds needs both the start and the noise");
    if (!run->seeds_to)
        return LUN_OK;
    if (!run->mix || run->start)
        return lun_fail(LUN_ERR_USAGE, "between seeds: it takes how far, and no start of its own");
    for (int k = 0; k < s->params.batch; k++)
        if (!isfinite(run->mix[k]))
            return lun_fail(LUN_ERR_USAGE, "between seeds: %g is no part of the way", run->mix[k]);
    return LUN_OK;
}

lun_status lun_sampler_draw(lun_sampler *s, const lun_sampler_run *run, float *images)
{
    LUN_TRY(check_run(s, run));
    const bool given = s->moves.has_noise && run->noise;
    one_step *step = given ? &s->given : &s->drawn;
    LUN_TRY(step_compile(s, given, step));
    LUN_TRY(begin(s, step, run));
    double caught_up = lun_clock();
    for (int k = 0; k < s->moves.count; k++) {
        const int left = s->moves.move[k].left;
        LUN_TRY(advance(s, step, run, &s->moves.move[k]));
        if (!run->progress || left < 0)
            continue;
        const bool wanted = run->want && run->want(run->payload, left);
        if (wanted) {
            LUN_TRY(lun_plan_read(step->plan, step->x, s->images));
        } else if (lun_clock() - caught_up > CATCH_UP) {
            LUN_TRY(lun_device_finish(s->device));
            caught_up = lun_clock();
        }
        if (run->progress(run->payload, left, wanted ? s->images : NULL))
            break;
    }
    LUN_TRY(lun_plan_read(step->plan, step->x, s->images));
    const size_t count = batch_elements(s), each = count / (size_t)s->params.batch;
    for (size_t e = 0; e < count; e++)
        if (!isfinite(s->images[e]))
            return lun_fail(LUN_ERR_DIVERGED, "picture %zu of the batch is not finite", e / each);
    memcpy(images, s->images, count * sizeof *images);
    return LUN_OK;
}
