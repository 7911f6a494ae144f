#include <lunette/forecast.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/memory.h"
#include "device/shadow.h"
#include "graph/graph.h"
#include "graph/measure.h"
#include "holdout.h"
#include "trainer.h"

#define MOST_BATCH 4096 /* of a configuration */
/* What timing may hold at a time: of what is left, and in any case. */
#define TIMING_SHARE 4
#define TIMING_BYTES ((uint64_t)1 << 30)
/* A timed op runs about three times, and half of all FLOPs or fewer are in ops that differ. */
#define RUNS_OF_ALL 1.5

typedef struct forecaster {
    lun_device *dev;
    const lun_train_config *config;
    const lun_forecast_params *params;
    lun_forecast *out;
} forecaster;

/* A batch in so many parts of so many pictures each. */
typedef struct pieces {
    int micro, parts;
} pieces;

/* What beside the trainer a run has. */
typedef enum extent { TRAINER_ONLY, WHOLE_RUN } extent;

/* A run that is planned and never begun. */
typedef struct dry_run {
    lun_device *shadow;
    lun_trainer *trainer;
    lun_holdout *holdout;
    lun_sampler *sampler;
    uint64_t holdout_bytes, sampler_bytes;
} dry_run;

static bool tell(const forecaster *f, const char *what, int done, int of)
{
    return f->params->progress && f->params->progress(f->params->payload, what, done, of);
}

/* ---- Memory ---- */

static void end_run(dry_run *run)
{
    lun_sampler_destroy(&run->sampler);
    lun_holdout_destroy(&run->holdout);
    lun_trainer_destroy(&run->trainer);
    lun_device_close(&run->shadow);
}

/* As lun_train_run has them. */
static lun_status plan_strips(const lun_train_config *c, const lun_compile_params *compile, dry_run *run)
{
    const int shift = c->model.levels - 1;
    lun_compile_params values = *compile;
    lun_schedule schedule;
    values.values = c->ema_count > 0 ? LUN_SLOT_EMA : LUN_SLOT_VALUE;
    LUN_TRY(lun_train_schedule(c, &schedule));
    const lun_sampler_params params = {
        .batch = 1,
        .height = c->height,
        .width = c->width,
        /* As the command has it by default; maps of one pixel have no batch statistics. */
        .norm = c->model.network == LUN_NOTEBOOK && (c->height >> shift) * (c->width >> shift) > 1 ? LUN_NORM_BATCH
                                                                                                   : LUN_NORM_EVAL,
        .schedule = &schedule,
        .prediction = c->prediction,
        .variance = c->model.learned_sigma ? LUN_VARIANCE_LEARNED : LUN_VARIANCE_SMALL};
    const lun_status status =
        lun_sampler_create(lun_trainer_store(run->trainer), run->shadow, &c->model, &params, &values, &run->sampler);
    lun_schedule_free(&schedule);
    return status;
}

/* Which pictures they are does not matter. */
static lun_status plan_holdout(const forecaster *f, const lun_train_config *c, const lun_compile_params *compile,
                               dry_run *run)
{
    uint32_t *pictures = lun_calloc(f->params->held, sizeof *pictures, "the held-out pictures");
    if (!pictures)
        return LUN_ERR_MEMORY;
    const lun_status status = lun_holdout_create(run->shadow, lun_trainer_store(run->trainer), c, NULL, pictures,
                                                 f->params->held, compile, &run->holdout);
    free(pictures);
    return status;
}

static uint64_t bytes_now(const dry_run *run)
{
    size_t now = 0;
    lun_device_memory(run->shadow, &now, NULL);
    return now;
}

/* As lun_train_run makes it. Whatever was begun is to be ended with end_run, on failure too. */
static lun_status plan_run(const forecaster *f, pieces batch, bool unlimited, extent what, dry_run *run)
{
    lun_train_config c = *f->config;
    const lun_compile_params compile = {.tuning = f->params->tuning};
    c.batch = batch.micro * batch.parts;
    c.accumulate = batch.parts;
    c.decay = LUN_DECAY_CONSTANT; /* where it ends may not be known yet, and costs nothing */
    c.decay_steps = 0;
    *run = (dry_run){.shadow = NULL};
    LUN_TRY(lun_device_shadow(f->dev, unlimited, &run->shadow));
    LUN_TRY(lun_trainer_create(run->shadow, &c, (size_t)c.batch, &compile, &run->trainer));
    if (what == TRAINER_ONLY)
        return LUN_OK;
    const uint64_t trainer = bytes_now(run);
    if (f->params->held > 0)
        LUN_TRY(plan_holdout(f, &c, &compile, run));
    run->holdout_bytes = bytes_now(run) - trainer;
    if (f->params->strips)
        LUN_TRY(plan_strips(&c, &compile, run));
    run->sampler_bytes = bytes_now(run) - trainer - run->holdout_bytes;
    return LUN_OK;
}

/* As src/train/feed.c reads ahead: at most three batches, of 64 MiB together, and one in use. */
static uint64_t batches_bytes(const lun_train_config *c, int batch)
{
    const uint64_t one =
        (uint64_t)batch * (uint64_t)c->model.image_channels * (uint64_t)c->height * (uint64_t)c->width * sizeof(float);
    const uint64_t ahead = ((uint64_t)64 << 20) / one;
    return one * (1 + (ahead < 3 ? ahead : 3));
}

static void add_plan(const lun_plan *plan, lun_memory_need *need)
{
    if (!plan)
        return;
    const lun_plan_info info = lun_plan_get_info(plan);
    need->activations += info.activation_bytes;
    need->inputs += info.fixed_bytes;
    need->workspace += info.workspace_bytes;
}

static void add_need(const forecaster *f, const dry_run *run, pieces batch, lun_memory_need *need)
{
    const lun_store *store = lun_trainer_store(run->trainer);
    *need = (lun_memory_need){.weights = lun_store_bytes(store, LUN_SLOT_VALUE) + lun_store_bytes(store, LUN_SLOT_SAFE),
                              .gradients = lun_store_bytes(store, LUN_SLOT_GRAD) + lun_store_bytes(store, LUN_SLOT_SUM),
                              .moments = lun_store_bytes(store, LUN_SLOT_M) + lun_store_bytes(store, LUN_SLOT_V),
                              .holdout = run->holdout_bytes,
                              .samples = run->sampler_bytes,
                              .device = bytes_now(run),
                              .batches = batches_bytes(f->config, batch.micro * batch.parts)};
    for (int r = 0; r < LUN_MAX_EMA; r++)
        need->averages += lun_store_bytes(store, (lun_slot)(LUN_SLOT_EMA + r));
    add_plan(lun_trainer_plan(run->trainer), need);
    add_plan(lun_trainer_update_plan(run->trainer), need);
}

static lun_status need_of(const forecaster *f, pieces batch, bool unlimited, lun_memory_need *need, double *flops)
{
    dry_run run;
    lun_status status = plan_run(f, batch, unlimited, WHOLE_RUN, &run);
    if (status == LUN_OK) {
        const lun_plan *update = lun_trainer_update_plan(run.trainer);
        add_need(f, &run, batch, need);
        *flops = batch.parts * lun_plan_get_info(lun_trainer_plan(run.trainer)).flops +
                 (update ? lun_plan_get_info(update).flops : 0);
    }
    end_run(&run);
    return status;
}

/* Too large: for a buffer of this device, or for the numbers of a tensor. */
static bool is_too_large(lun_status status)
{
    return status == LUN_ERR_MEMORY || status == LUN_ERR_USAGE;
}

static bool host_memory(const lun_device *dev)
{
    return lun_device_get_info(dev)->type == LUN_DEVICE_CPU;
}

static bool fits(const forecaster *f, const lun_memory_need *need)
{
    const uint64_t bytes = need->device + (host_memory(f->dev) ? need->batches : 0);
    /* What the driver and the program itself take is not in the sum. */
    return f->out->available == 0 || bytes <= f->out->available - f->out->available / 16;
}

/* The configuration's batch. */
static pieces own_batch(const forecaster *f)
{
    return (pieces){f->config->batch / f->config->accumulate, f->config->accumulate};
}

/* small: what one and two pictures at a time need, in as many parts. */
static lun_status need_of_batch(forecaster *f, const lun_memory_need small[2], const double flops[2])
{
    lun_forecast *o = f->out;
    const pieces batch = own_batch(f);
    o->need_exact = 1;
    lun_status status = need_of(f, batch, false, &o->need, &o->flops_per_step);
    if (status == LUN_OK || !is_too_large(status))
        return status;
    snprintf(o->reason, sizeof o->reason, "%s", lun_error_detail());
    status = need_of(f, batch, true, &o->need, &o->flops_per_step);
    if (status == LUN_OK || !is_too_large(status))
        return status;
    const uint64_t more = (uint64_t)(batch.micro - 1);
#define CARRY_ON(part) o->need.part = small[0].part + more * (small[1].part - small[0].part)
    o->need = small[0];
    CARRY_ON(activations);
    CARRY_ON(inputs);
    o->need.workspace = small[1].workspace;
    o->need.device = small[0].device +
                     more * (small[1].activations + small[1].inputs - small[0].activations - small[0].inputs) +
                     small[1].workspace - small[0].workspace;
    o->need.batches = batches_bytes(f->config, f->config->batch);
#undef CARRY_ON
    o->flops_per_step = flops[0] + (double)more * (flops[1] - flops[0]);
    o->need_exact = 0;
    return LUN_OK;
}

static lun_status try_batch(forecaster *f, int batch, bool *good, uint64_t *bytes)
{
    lun_memory_need need;
    double flops;
    const lun_status status = need_of(f, (pieces){batch, 1}, false, &need, &flops);
    *good = status == LUN_OK && fits(f, &need);
    if (status == LUN_OK)
        *bytes = need.device;
    return is_too_large(status) ? LUN_OK : status;
}

/* Memory grows by about the same with each picture, so the first guess is good; then halving. */
static lun_status find_largest(forecaster *f, const lun_memory_need small[2])
{
    lun_forecast *o = f->out;
    int good = 1, bad = MOST_BATCH + 1; /* 1 has been found to fit */
    const uint64_t slope = small[1].device > small[0].device ? small[1].device - small[0].device : 1;
    double guess = o->available ? ((double)(o->available - o->available / 16) - (double)small[0].device) / (double)slope
                                : (double)MOST_BATCH;
    for (int round = 0; bad - good > 1; round++) {
        int next = good + (bad - good) / 2;
        if (round < 4 && guess > good && guess < bad)
            next = (int)guess;
        next = next <= good ? good + 1 : next >= bad ? bad - 1 : next;
        bool fine = false;
        uint64_t bytes = 0;
        if (tell(f, "largest batch", round, 0))
            break;
        LUN_TRY(try_batch(f, next, &fine, &bytes));
        *(fine ? &good : &bad) = next;
        /* From here along the same slope; what was refused without a number says nothing. */
        if (bytes > 0 && o->available)
            guess = (double)next + ((double)(o->available - o->available / 16) - (double)bytes) / (double)slope;
        if (fine && guess < (double)good + 1)
            guess = good + 1;
    }
    o->largest_batch = good;
    return LUN_OK;
}

/* ---- Time ---- */

/* The ops of a step, with times where they were measured: first those of each part, then those that only a batch in
 * several parts has, once behind the last. */
typedef struct op_list {
    pieces batch;
    size_t count, each; /* in all; of a part */
    lun_op_time *times;
} op_list;

typedef struct timing_view {
    const forecaster *f;
    int part, parts;
} timing_view;

static int timing_progress(void *payload, int done, int of)
{
    const timing_view *view = payload;
    return tell(view->f, "timing ops", view->part * of + done, view->parts * of);
}

static lun_status measure_or_list(const forecaster *f, const lun_plan *plan, double seconds, const timing_view *view,
                                  lun_op_time *times)
{
    const uint64_t share = f->out->available ? f->out->available / TIMING_SHARE : TIMING_BYTES;
    const lun_measure_params params = {.seconds = seconds,
                                       .memory = (size_t)(share < TIMING_BYTES ? share : TIMING_BYTES),
                                       .progress = timing_progress,
                                       .payload = (void *)view};
    if (seconds >= 0)
        return lun_plan_measure(plan, f->dev, &params, times);
    lun_plan_list(plan, times);
    return LUN_OK;
}

/* seconds < 0: list only. */
static lun_status list_ops(const forecaster *f, pieces batch, double seconds, const timing_view *view, op_list *out)
{
    dry_run run;
    lun_status status = plan_run(f, batch, seconds < 0, TRAINER_ONLY, &run);
    *out = (op_list){.batch = batch};
    if (status == LUN_OK) {
        const lun_plan *plan = lun_trainer_plan(run.trainer), *update = lun_trainer_update_plan(run.trainer);
        out->each = lun_plan_get_info(plan).nodes;
        out->count = out->each + (update ? lun_plan_get_info(update).nodes : 0);
        out->times = lun_calloc(out->count, sizeof *out->times, "ops");
        if (!out->times)
            status = LUN_ERR_MEMORY;
        else
            status = measure_or_list(f, plan, seconds, view, out->times);
        if (status == LUN_OK && update) /* few ops, and the dearest is timed in any case */
            status = measure_or_list(f, update, seconds / 10, view, out->times + out->each);
    }
    end_run(&run);
    if (status != LUN_OK) {
        free(out->times);
        out->times = NULL;
    }
    return status;
}

static double cost(const lun_op_time *op)
{
    return op->product ? op->flops : op->bytes;
}

/* The op's time in the run's batch: along the line through two batches, but no less than the larger one's and no more
 * than in proportion. `small` may be NULL. */
static double carry_on(const lun_op_time *want, const lun_op_time *large, const lun_op_time *small)
{
    const double base = cost(large), ratio = base > 0 ? cost(want) / base : 1;
    if (!small || !(small->seconds > 0) || !(base > cost(small)))
        return large->seconds * ratio;
    const double slope = (large->seconds - small->seconds) / (base - cost(small));
    const double line = large->seconds + slope * (cost(want) - base);
    return fmin(fmax(line, large->seconds), large->seconds * fmax(ratio, 1));
}

static bool same_ops(const op_list *a, const op_list *b)
{
    for (size_t i = 0; a->count == b->count && i < a->count; i++)
        if (strcmp(a->times[i].kind, b->times[i].kind) != 0)
            return false;
    return a->count == b->count;
}

/* Seconds for each unit of cost: of the kind, else of all products or of all others, else of everything. */
static double rate_of(const op_list *from, const lun_op_time *op)
{
    double seconds[3] = {0}, costs[3] = {0};
    for (size_t i = 0; i < from->count; i++) {
        const lun_op_time *o = &from->times[i];
        if (!(o->seconds > 0))
            continue;
        const bool like[3] = {strcmp(o->kind, op->kind) == 0, o->product == op->product, true};
        for (int k = 0; k < 3; k++) {
            seconds[k] += like[k] ? o->seconds : 0;
            /* Where nothing of its class is known, a byte is taken for ten FLOPs. */
            costs[k] += !like[k] ? 0 : k < 2 ? cost(o) : o->flops + 10 * o->bytes;
        }
    }
    if (costs[0] > 0)
        return seconds[0] / costs[0];
    if (costs[1] > 0)
        return seconds[1] / costs[1];
    return costs[2] > 0 ? seconds[2] / costs[2] * (op->product ? 1 : 10) : 0;
}

/* `want` is the step in question; the other two are what was timed. */
static void sum_up(lun_forecast *o, const op_list *want, const op_list *large, const op_list *small)
{
    double total = 0, timed = 0;
    const bool alike = same_ops(want, large), pair = alike && small->times && same_ops(large, small);
    for (size_t i = 0; i < want->count; i++) {
        const int runs = i < want->each ? want->batch.parts : 1;
        if (alike && large->times[i].seconds > 0) {
            const double t = carry_on(&want->times[i], &large->times[i], pair ? &small->times[i] : NULL);
            timed += runs * t;
            total += runs * t;
        } else {
            total += runs * cost(&want->times[i]) * rate_of(large, &want->times[i]);
        }
    }
    o->step_s = total;
    o->timed_share = total > 0 ? timed / total : 0;
    o->timed_batch = large->batch.micro;
    o->ops = want->count;
}

/* The largest batch whose ops, or an even one of which and of half of which the ops, the time suffices for. */
static int batch_to_time(const forecaster *f, int batch, const op_list *probe)
{
    const double per_image = f->out->flops_per_image;
    double rate = 0;
    for (size_t i = 0; i < probe->count; i++)
        if (probe->times[i].seconds > 0 && probe->times[i].product)
            rate = fmax(rate, probe->times[i].flops / probe->times[i].seconds);
    const double most = rate * f->params->seconds / (RUNS_OF_ALL * fmax(per_image, 1));
    if (most >= batch || batch <= 2)
        return batch;
    const int even = (int)(most / 1.5) / 2 * 2; /* the half is timed, too */
    return even < 2 ? 2 : even;
}

static lun_status estimate(forecaster *f)
{
    lun_forecast *o = f->out;
    const bool lacking = !o->need_exact || o->reason[0] || (!o->fits && o->largest_batch > 0);
    pieces batch = own_batch(f);
    if (lacking && o->largest_batch > 0 && o->largest_batch < batch.micro)
        batch.micro = o->largest_batch;
    /* What is timed is a part, and the same whatever number of them there is, if there are several. */
    const int parts = batch.parts > 1 ? 2 : 1;
    op_list probe = {0}, want = {0}, large = {0}, small = {0};
    timing_view view = {f, 0, 1};
    lun_status status = LUN_OK;
    LUN_TRY_GOTO(status, done, list_ops(f, (pieces){1, parts}, f->params->seconds / 20, &view, &probe));
    const int timed = batch_to_time(f, batch.micro, &probe);
    const bool pair = timed < batch.micro;
    view.parts = pair ? 2 : 1;
    LUN_TRY_GOTO(status, done, list_ops(f, batch, -1, &view, &want));
    LUN_TRY_GOTO(status, done,
                 list_ops(f, (pieces){timed, parts}, f->params->seconds * (pair ? 2 : 3) / 3, &view, &large));
    view.part = 1;
    if (pair)
        LUN_TRY_GOTO(status, done, list_ops(f, (pieces){timed / 2, parts}, f->params->seconds / 3, &view, &small));
    sum_up(o, &want, &large, &small);
    o->step_s *= (double)f->config->batch / (batch.micro * batch.parts);
done:
    free(probe.times);
    free(want.times);
    free(large.times);
    free(small.times);
    return status;
}

lun_status lun_forecast_run(lun_device *dev, const lun_train_config *config, const lun_forecast_params *params,
                            lun_forecast *out)
{
    lun_forecast o = {.largest_batch = -1, .step_s = NAN};
    forecaster f = {dev, config, params, &o};
    lun_memory_need small[2];
    double flops[2];
    LUN_TRY(lun_train_config_check(config));
    o.parameters = lun_model_parameters(&config->model, NULL);
    o.max_alloc = lun_device_get_info(dev)->max_alloc_bytes;
    o.available = lun_device_get_info(dev)->memory_bytes;
    if (host_memory(dev)) {
        const uint64_t left = lun_memory_available();
        o.available = left && (!o.available || left < o.available) ? left : o.available;
    }
    /* Without the limit of one buffer, so that a small device gets its answer and not an error. */
    for (int i = 0; i < 2; i++)
        LUN_TRY(need_of(&f, (pieces){i + 1, config->accumulate}, true, &small[i], &flops[i]));
    o.flops_per_image = (flops[1] - flops[0]) / config->accumulate;
    LUN_TRY(need_of_batch(&f, small, flops));
    o.fits = !o.reason[0] && o.need_exact && fits(&f, &o.need);
    if (!params->only_memory) {
        bool one = false;
        uint64_t bytes = 0;
        LUN_TRY(try_batch(&f, 1, &one, &bytes));
        o.largest_batch = 0;
        if (one)
            LUN_TRY(find_largest(&f, small));
        if (params->seconds > 0)
            LUN_TRY(estimate(&f));
    }
    *out = o;
    return LUN_OK;
}
