/* Measuring candidates: see include/lunette/tune.h.
 *
 * An op at full size is what a step runs, so that is what is timed; candidates take turns, so that a busy moment of the
 * machine hits all of them, and the best of a few runs counts. Candidates that are far behind cost the most to measure:
 * all are first tried on a small op, and who is hopeless there is not run at full size, for any op of the same kind,
 * filter and stride. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/philox.h"
#include "device/tune.h"
#include "lower/accuracy.h"

#define SECONDS      50.0
#define MAX_TRIALS   16
#define ROUNDS       3
#define TOO_SLOW     1.6 /* times the fastest, in the best of two runs: not timed again */
#define HOPELESS     8.0 /* times the fastest: not tried on other ops of the class */
#define PROBE_ROUNDS 5   /* of which the first two are for all */
#define PROBE_FLOPS  2e8 /* below, an op is its own probe */
#define PROBE_C      32 /* channels, pixels a side and pixels in all of a probe at most: few channels and many pixels, */
#define PROBE_SIDE   32   /* so that what a candidate does with the filter before it starts counts as little as in an */
#define PROBE_PIXELS 4096 /* op of full size */
#define LEAST_TIME   2e-3 /* seconds that are timed as one: shorter ops are run several times */
#define MOST_RUNS    64
#define PIECE        262144 /* floats compared at a time */
/* Normals repeat after a prime number of floats, so that no shape meets the same ones at the same places. */
#define PERIOD   262147
#define NAN_BITS 0x7fc00000u

typedef struct contender {
    const char *name;
    lun_op_plan *plan; /* NULL: not run, and the note says why */
    double best;       /* seconds; NaN before the first run */
    double error, bound;
    char note[80];
    bool wrong, slow;
} contender;

/* A candidate that is not run on ops of this class any more. */
typedef struct hopeless {
    uint64_t class;
    const char *name;
    double ratio;
} hopeless;

typedef struct task {
    lun_tune_op op;
    int count;
    char text[LUN_TUNE_TEXT];
    double flops, bytes;
} task;

typedef struct tuner {
    lun_device *dev;
    const lun_tune_params *params;
    double (*clock)(void);
    double started, budget;
    lun_buffer *operand[LUN_OP_MAX_SRC], *result, *workspace, *kept;
    float *reference, *piece;
    size_t reference_room;
    hopeless hopeless[64];
    int hopeless_count;
    uint64_t probed[64];
    int probed_count;
    lun_tune_progress progress;
    bool stop;
} tuner;

/* ---- what is known of a class ---- */

static uint64_t class_of(const lun_op *op)
{
    const lun_shape f = op->kind == LUN_OP_CONV2D_WGRAD ? op->dst[0].shape : op->src[1].shape;
    const lun_conv_attrs *a = &op->attrs.conv;
    const int32_t parts[] = {(int32_t)op->kind, (int32_t)f.h, (int32_t)f.w, a->stride_h, a->stride_w};
    return lun_hash(LUN_HASH_START, parts, sizeof parts);
}

static const hopeless *find_hopeless(const tuner *t, const lun_op *op, const char *name)
{
    const uint64_t class = class_of(op);
    for (int i = 0; i < t->hopeless_count; i++) {
        if (t->hopeless[i].class == class && strcmp(t->hopeless[i].name, name) == 0)
            return &t->hopeless[i];
    }
    return NULL;
}

static double fastest_of(const contender *trials, int count)
{
    double fastest = INFINITY;
    for (int i = 0; i < count; i++)
        fastest = fmin(fastest, trials[i].best); /* fmin leaves NaN out */
    return fastest;
}

static void note_hopeless(tuner *t, const lun_op *op, const contender *trials, int count, double limit)
{
    const double fastest = fastest_of(trials, count);
    double fastest_direct = INFINITY;
    int direct = -1; /* the best that can be the reference: without any, the next ops could not be tuned */
    for (int i = 0; i < count; i++) {
        if (trials[i].best < fastest_direct && lun_amplification(op, trials[i].name) == 1) {
            fastest_direct = trials[i].best;
            direct = i;
        }
    }
    for (int i = 0; i < count; i++) {
        const double ratio = trials[i].best / fastest;
        if (i != direct && ratio > limit && t->hopeless_count < (int)LUN_COUNT(t->hopeless) &&
            !find_hopeless(t, op, trials[i].name))
            t->hopeless[t->hopeless_count++] = (hopeless){class_of(op), trials[i].name, ratio};
    }
}

/* ---- memory ---- */

static lun_status ensure(tuner *t, lun_buffer **buffer, size_t bytes)
{
    bytes = (bytes + 255) / 256 * 256;
    if (bytes == 0 || (*buffer && (*buffer)->bytes >= bytes))
        return LUN_OK;
    lun_buffer_destroy(buffer);
    return lun_buffer_create(t->dev, bytes, buffer);
}

/* Box and Muller, in double. */
static void draw_normals(float *values, size_t count, uint32_t operand)
{
    for (size_t i = 0; i < count; i += 4) {
        uint32_t words[4];
        lun_random_block(1, LUN_RANDOM_TUNE, operand, 0, (uint32_t)(i / 4), words);
        for (size_t k = 0; k < 4 && i + k < count; k += 2) {
            const double radius = sqrt(-2 * log((double)lun_uniform_of(words[k])));
            const double angle = 6.283185307179586 * (double)lun_uniform_of(words[k + 1]);
            values[i + k] = (float)(radius * cos(angle));
            if (i + k + 1 < count)
                values[i + k + 1] = (float)(radius * sin(angle));
        }
    }
}

static lun_status fill_normals(tuner *t, int operand)
{
    lun_buffer *buffer = t->operand[operand];
    size_t done = PERIOD * sizeof(float) < buffer->bytes ? PERIOD * sizeof(float) : buffer->bytes;
    draw_normals(t->piece, done / sizeof(float), (uint32_t)operand);
    LUN_TRY(lun_buffer_write((lun_place){buffer, 0}, t->piece, done));
    while (done < buffer->bytes) {
        const size_t more = done < buffer->bytes - done ? done : buffer->bytes - done;
        LUN_TRY(lun_buffer_copy((lun_place){buffer, done}, (lun_place){buffer, 0}, more));
        done += more;
    }
    return LUN_OK;
}

/* Where destination `d` begins in the buffer of results and in the reference, and behind the last, where they end. */
static size_t place_of(const lun_op *op, int d)
{
    size_t end = 0;
    for (int i = 0; i < d; i++)
        end += (lun_dst_span(op, i) + 255) / 256 * 256;
    return end;
}

/* Once, for the largest of all ops. */
static lun_status make_buffers(tuner *t, const task *jobs, size_t count)
{
    size_t operand[LUN_OP_MAX_SRC] = {0}, result = 0;
    for (size_t j = 0; j < count; j++) {
        const lun_op *op = &jobs[j].op.op;
        for (int s = 0; s < op->nsrc; s++)
            operand[s] = lun_src_span(op, s) > operand[s] ? lun_src_span(op, s) : operand[s];
        result = place_of(op, op->ndst) > result ? place_of(op, op->ndst) : result;
    }
    t->reference_room = result;
    t->reference = lun_malloc(result, 1, "tuning");
    t->piece = lun_malloc(PIECE > PERIOD ? PIECE : PERIOD, sizeof *t->piece, "tuning");
    if (!t->reference || !t->piece)
        return LUN_ERR_MEMORY;
    LUN_TRY(ensure(t, &t->result, result));
    for (int s = 0; s < LUN_OP_MAX_SRC; s++) {
        LUN_TRY(ensure(t, &t->operand[s], operand[s]));
        if (t->operand[s])
            LUN_TRY(fill_normals(t, s));
    }
    return LUN_OK;
}

static void free_buffers(tuner *t)
{
    for (int s = 0; s < LUN_OP_MAX_SRC; s++)
        lun_buffer_destroy(&t->operand[s]);
    lun_buffer_destroy(&t->result);
    lun_buffer_destroy(&t->workspace);
    lun_buffer_destroy(&t->kept);
    free(t->reference);
    free(t->piece);
}

/* ---- running ---- */

static bool show(tuner *t, const char *candidate)
{
    t->progress.candidate = candidate;
    t->progress.elapsed_s = t->clock() - t->started;
    if (t->params->progress && t->params->progress(t->params->payload, &t->progress))
        t->stop = true;
    return t->stop;
}

/* Bound where the operands are; what it prepares is made at once. */
static lun_status bind(tuner *t, lun_op_plan *plan, bool kept)
{
    lun_place src[LUN_OP_MAX_SRC] = {{NULL, 0}}, dst[LUN_OP_MAX_DST] = {{NULL, 0}};
    for (int s = 0; s < plan->op.nsrc; s++)
        src[s].buffer = t->operand[s];
    for (int d = 0; d < plan->op.ndst; d++)
        dst[d] = (lun_place){t->result, place_of(&plan->op, d)};
    kept = kept && plan->kept > 0;
    LUN_TRY(ensure(t, &t->workspace, plan->workspace - (kept ? plan->kept : 0)));
    if (!kept)
        return lun_op_plan_bind(plan, src, dst, (lun_place){t->workspace, 0});
    LUN_TRY(ensure(t, &t->kept, plan->kept));
    LUN_TRY(lun_op_plan_bind_kept(plan, src, dst, (lun_place){t->workspace, 0}, (lun_place){t->kept, 0}));
    return lun_op_plan_prepare(plan);
}

/* Bound anew each time: buffers are shared among the candidates, and may have been replaced by larger ones. */
static lun_status run_for(tuner *t, contender *trial, bool kept, int runs, double *seconds)
{
    LUN_TRY(bind(t, trial->plan, kept));
    LUN_TRY(lun_device_finish(t->dev));
    const double start = t->clock();
    for (int i = 0; i < runs; i++)
        LUN_TRY(lun_op_plan_run(trial->plan));
    LUN_TRY(lun_device_finish(t->dev));
    *seconds = (t->clock() - start) / runs;
    return LUN_OK;
}

static lun_status run_once_more(tuner *t, contender *trial, bool kept)
{
    int runs = 1;
    double seconds = 0;
    if (trial->best < LEAST_TIME)
        runs = trial->best * MOST_RUNS < LEAST_TIME ? MOST_RUNS : (int)(LEAST_TIME / trial->best) + 1;
    LUN_TRY(run_for(t, trial, kept, runs, &seconds));
    trial->best = fmin(trial->best, seconds);
    return LUN_OK;
}

/* Did the candidate fail in a way that the others need not? The device is as good as before then. */
static bool only_this_one(const tuner *t, lun_status status)
{
    return t->dev->lost == LUN_OK && status != LUN_OK;
}

static void give_up(contender *trial)
{
    snprintf(trial->note, sizeof trial->note, "fails: %.60s", lun_error_detail());
    lun_log(LUN_LOG_DEBUG, "tuning: %s: %s", trial->name, lun_error_detail());
    lun_op_plan_destroy(&trial->plan);
    trial->best = NAN;
}

/* Plans of the candidates that the device takes. */
static lun_status plan_trials(tuner *t, const lun_op *op, bool with_hopeless, contender *trials, int *count)
{
    *count = 0;
    for (const lun_candidate *c = lun_candidates(op->kind); c->name && *count < MAX_TRIALS; c++) {
        contender *one = &trials[*count];
        memset(one, 0, sizeof *one);
        one->name = c->name;
        one->best = one->error = one->bound = NAN;
        const hopeless *known = with_hopeless ? NULL : find_hopeless(t, op, c->name);
        if (known) {
            snprintf(one->note, sizeof one->note, "skipped: %.0f times slower on such an op", known->ratio);
            ++*count;
            continue;
        }
        const lun_status status = lun_op_plan_create(t->dev, op, c->name, &one->plan);
        if (status == LUN_UNSUPPORTED)
            continue;
        if (status != LUN_OK) {
            if (!only_this_one(t, status))
                return status;
            give_up(one);
        }
        ++*count;
    }
    return LUN_OK;
}

static void free_trials(contender *trials, int count)
{
    for (int i = 0; i < count; i++)
        lun_op_plan_destroy(&trials[i].plan);
}

/* ---- the probe ---- */

/* A verdict counts for every op of the class, and one run of a probe takes less than a turn of another process on its
 * processor: who looks hopeless is heard again, at other moments. */
static lun_status run_probe(tuner *t, const lun_op *op, bool kept, contender *trials, int count)
{
    for (int round = 0; round < PROBE_ROUNDS && !t->stop; round++) {
        const double limit = HOPELESS * fastest_of(trials, count);
        for (int i = 0; i < count && !show(t, trials[i].name); i++) {
            double seconds = NAN;
            if (!trials[i].plan || (round > 1 && trials[i].best <= limit))
                continue;
            const lun_status status = run_for(t, &trials[i], kept, 1, &seconds);
            if (status == LUN_OK)
                trials[i].best = fmin(trials[i].best, seconds);
            else if (only_this_one(t, status))
                give_up(&trials[i]);
            else
                return status;
        }
    }
    if (!t->stop)
        note_hopeless(t, op, trials, count, HOPELESS);
    return LUN_OK;
}

static void cap(int64_t *value, int64_t most)
{
    *value = lun_min_i64(*value, most);
}

/* An op of the same class with few pictures, few channels and small maps, which lie dense. */
static lun_status shrink(lun_op *op)
{
    lun_conv_attrs *a = &op->attrs.conv;
    lun_shape *x = &op->src[0].shape, *y = &op->src[1].shape;
    const lun_shape small = op->kind == LUN_OP_CONV2D ? op->dst[0].shape : op->kind == LUN_OP_CONV2D_WGRAD ? *y : *x;
    const int64_t pictures =
        lun_max_i64(1, PROBE_PIXELS / (lun_min_i64(small.h, PROBE_SIDE) * lun_min_i64(small.w, PROBE_SIDE)));
    const int less_h = (int)lun_max_i64(0, small.h - PROBE_SIDE), less_w = (int)lun_max_i64(0, small.w - PROBE_SIDE);
    memset(op->src_pitch, 0, sizeof op->src_pitch);
    memset(op->dst_pitch, 0, sizeof op->dst_pitch);
    cap(&x->n, pictures);
    cap(&x->c, PROBE_C);
    cap(&y->c, PROBE_C);
    if (op->kind == LUN_OP_CONV2D_TRANSPOSE) {
        x->h -= less_h;
        x->w -= less_w;
        a->out_h -= less_h * a->stride_h;
        a->out_w -= less_w * a->stride_w;
    } else {
        x->h -= less_h * a->stride_h;
        x->w -= less_w * a->stride_w;
    }
    if (op->kind == LUN_OP_CONV2D_WGRAD) {
        cap(&y->n, pictures);
        y->h -= less_h;
        y->w -= less_w;
    } else {
        cap(&y->n, PROBE_C);
    }
    if (op->nsrc > 2)
        cap(&op->src[2].shape.c, PROBE_C);
    return lun_op_infer(op);
}

/* Find the hopeless of a class by a small op of it. */
static lun_status probe(tuner *t, const lun_tune_op *full)
{
    lun_op op = full->op;
    const uint64_t class = class_of(&op);
    for (int i = 0; i < t->probed_count; i++) {
        if (t->probed[i] == class)
            return LUN_OK;
    }
    double flops = 0, bytes = 0;
    lun_op_cost(&op, &flops, &bytes);
    if (flops < PROBE_FLOPS || t->probed_count == (int)LUN_COUNT(t->probed))
        return LUN_OK;
    t->probed[t->probed_count++] = class;
    if (shrink(&op) != LUN_OK)
        return LUN_OK;
    contender trials[MAX_TRIALS];
    int count = 0;
    lun_status status = plan_trials(t, &op, true, trials, &count);
    if (status == LUN_OK && count > 1)
        status = run_probe(t, &op, full->kept, trials, count);
    free_trials(trials, count);
    return status;
}

/* ---- one op ---- */

/* The first of the direct class, that the others are held against; NULL when it cannot be run. */
static contender *pick_reference(const lun_op *op, contender *trials, int count)
{
    for (int i = 0; i < count; i++) {
        if (trials[i].plan && lun_amplification(op, trials[i].name) == 1)
            return &trials[i];
    }
    return NULL;
}

/* The first run, into a result of NaNs, so that what is not written is seen. */
static lun_status first_run(tuner *t, const task *job, contender *trial)
{
    LUN_TRY(lun_buffer_fill((lun_place){t->result, 0}, NAN_BITS, place_of(&job->op.op, job->op.op.ndst)));
    return run_for(t, trial, job->op.kept, 1, &trial->best);
}

/* Between the pixels of a result with a pitch must still be NaNs. */
static lun_status compare(tuner *t, const lun_op *op, int d, double *error)
{
    const size_t count = lun_dst_span(op, d) / sizeof(float), from = place_of(op, d);
    const size_t pitch = op->dst_pitch[d] ? (size_t)op->dst_pitch[d] : count;
    const size_t own = op->dst_pitch[d] ? (size_t)op->dst[d].shape.c : count;
    const float *reference = t->reference + from / sizeof(float);
    double difference = 0, size = 0;
    for (size_t first = 0; first < count; first += PIECE) {
        const size_t n = count - first < PIECE ? count - first : PIECE;
        LUN_TRY(lun_buffer_read((lun_place){t->result, from + first * sizeof(float)}, t->piece, n * sizeof(float)));
        size_t column = first % pitch;
        for (size_t i = 0; i < n; i++) {
            const bool between = column >= own;
            column = column + 1 < pitch ? column + 1 : 0;
            if (between) {
                difference = isnan(t->piece[i]) ? difference : INFINITY;
                continue;
            }
            const double want = (double)reference[first + i], off = (double)t->piece[i] - want;
            difference += off * off;
            size += want * want;
        }
    }
    *error = sqrt(difference / size);
    return LUN_OK;
}

static lun_status check_trial(tuner *t, const task *job, contender *trial, const char *reference)
{
    const lun_op *op = &job->op.op;
    bool right = true;
    for (int d = op->ndst - 1; d >= 0 && right; d--) { /* the result itself last: it is what is told */
        trial->bound = d == 0 ? lun_error_bound(op, trial->name, reference)
                              : lun_statistics_error_bound(op, trial->name, reference);
        LUN_TRY(compare(t, op, d, &trial->error));
        right = trial->error <= trial->bound; /* NaN is not */
    }
    if (right)
        return LUN_OK;
    trial->wrong = true;
    snprintf(trial->note, sizeof trial->note, "never: error beyond the bound of its class");
    lun_log(LUN_LOG_WARN, "%s: the candidate %s is off by %.2g where %.2g is allowed; it is not used", job->text,
            trial->name, trial->error, trial->bound);
    return LUN_OK;
}

/* Run each once, and hold the results against the reference's. */
static lun_status warm_up(tuner *t, const task *job, contender *trials, int count, contender *reference)
{
    double fastest = INFINITY;
    LUN_TRY(first_run(t, job, reference));
    LUN_TRY(lun_buffer_read((lun_place){t->result, 0}, t->reference, place_of(&job->op.op, job->op.op.ndst)));
    LUN_TRY(check_trial(t, job, reference, reference->name)); /* NaNs in it, or nothing but zeros */
    for (int i = 0; i < count && !t->stop; i++) {
        contender *one = &trials[i];
        if (!one->plan)
            continue;
        lun_status status = LUN_OK;
        if (one != reference) {
            if (show(t, one->name))
                break;
            status = first_run(t, job, one);
            if (status == LUN_OK)
                status = check_trial(t, job, one, reference->name);
        }
        /* A first run may have compiled, touched its memory for the first time, or been interrupted. */
        if (status == LUN_OK && !one->wrong && one->best > TOO_SLOW * fastest)
            status = run_once_more(t, one, job->op.kept);
        if (status != LUN_OK) {
            if (one == reference || !only_this_one(t, status))
                return status;
            give_up(one);
            continue;
        }
        if (one->wrong)
            continue;
        one->slow = one->best > TOO_SLOW * fastest;
        fastest = fmin(fastest, one->best);
    }
    return LUN_OK;
}

/* Rounds in which the candidates still in question take turns, until one leads clearly or the time is used up. */
static lun_status race(tuner *t, const task *job, contender *trials, int count, double allowed)
{
    const double begin = t->clock();
    for (int round = 0; round < ROUNDS && !t->stop; round++) {
        double fastest = INFINITY;
        int left = 0;
        for (int i = 0; i < count; i++) {
            if (!trials[i].plan || trials[i].wrong || trials[i].slow)
                continue;
            LUN_TRY(run_once_more(t, &trials[i], job->op.kept));
            fastest = fmin(fastest, trials[i].best);
        }
        for (int i = 0; i < count; i++) {
            if (!trials[i].plan || trials[i].wrong || trials[i].slow)
                continue;
            trials[i].slow = trials[i].best > (round == 0 ? 1.5 : 1.15) * fastest;
            left += !trials[i].slow;
        }
        if ((left < 2 && round > 0) || t->clock() - begin > allowed)
            break;
    }
    return LUN_OK;
}

static const contender *choose(const contender *trials, int count)
{
    const contender *chosen = NULL;
    for (int i = 0; i < count; i++) {
        if (trials[i].plan && !trials[i].wrong && trials[i].best > 0 && (!chosen || trials[i].best < chosen->best))
            chosen = &trials[i];
    }
    return chosen;
}

static void tell(const tuner *t, const task *job, const contender *trials, int count, const char *chosen,
                 bool remembered)
{
    lun_tune_try tries[MAX_TRIALS];
    for (int i = 0; i < count; i++)
        tries[i] = (lun_tune_try){trials[i].name, trials[i].best, trials[i].error, trials[i].bound,
                                  trials[i].note[0] ? trials[i].note : NULL};
    const lun_tune_result result = {.kind = lun_op_info_of(job->op.op.kind)->name,
                                    .description = job->text,
                                    .count = job->count,
                                    .flops = job->flops,
                                    .bytes = job->bytes,
                                    .chosen = chosen,
                                    .remembered = remembered,
                                    .tries = tries,
                                    .tries_count = count};
    if (t->params->result)
        t->params->result(t->params->payload, &result);
}

static lun_status measure(tuner *t, const task *job, contender *trials, int count, double allowed, lun_tuning *tuning)
{
    contender *reference = pick_reference(&job->op.op, trials, count);
    if (!reference || count < 2) /* nothing to choose, or nothing to hold it against: the device's own choice stays */
        return LUN_OK;
    LUN_TRY(warm_up(t, job, trials, count, reference));
    if (reference->wrong)
        return LUN_OK;
    LUN_TRY(race(t, job, trials, count, allowed));
    if (t->stop)
        return LUN_OK;
    note_hopeless(t, &job->op.op, trials, count, HOPELESS);
    const contender *chosen = choose(trials, count);
    if (!chosen)
        return LUN_OK;
    LUN_TRY(lun_tuning_set(tuning, job->text, chosen->name, chosen->best));
    tell(t, job, trials, count, chosen->name, false);
    return LUN_OK;
}

static lun_status tune_job(tuner *t, const task *job, int left, lun_tuning *tuning)
{
    contender trials[MAX_TRIALS];
    int count = 0;
    LUN_TRY(probe(t, &job->op));
    if (t->stop)
        return LUN_OK;
    lun_status status = plan_trials(t, &job->op.op, false, trials, &count);
    /* A fair share of the time that is left, and more for the ops that come first, which cost most. */
    const double allowed = fmax(0.05, 2 * (t->budget - (t->clock() - t->started)) / left);
    if (status == LUN_OK)
        status = measure(t, job, trials, count, allowed, tuning);
    free_trials(trials, count);
    return status;
}

/* ---- all ops ---- */

static bool has_choice(const lun_op *op)
{
    const lun_candidate *c = lun_candidates(op->kind);
    return c[0].name && c[1].name && isfinite(lun_error_bound(op, c[0].name, c[0].name));
}

static int by_cost(const void *a, const void *b)
{
    const task *x = a, *y = b;
    const double left = x->count * x->flops, right = y->count * y->flops;
    return left != right ? (left < right) - (left > right) : strcmp(x->text, y->text);
}

/* Every op that has a choice, once. */
static size_t gather(const lun_tune_op *ops, size_t count, task *jobs)
{
    size_t used = 0;
    for (size_t i = 0; i < count; i++) {
        if (!has_choice(&ops[i].op))
            continue;
        char text[LUN_TUNE_TEXT];
        lun_tune_describe(&ops[i], text);
        size_t k = 0;
        while (k < used && strcmp(jobs[k].text, text) != 0)
            k++;
        if (k == used) {
            jobs[used] = (task){.op = ops[i]};
            memcpy(jobs[used].text, text, sizeof text);
            lun_op_cost(&ops[i].op, &jobs[used].flops, &jobs[used].bytes);
            used++;
        }
        jobs[k].count++;
    }
    return used;
}

/* Move what is known already behind the rest, and say it; returns how many are to be measured. */
static size_t set_aside(const tuner *t, task *jobs, size_t count, const lun_tuning *tuning)
{
    size_t open = 0;
    for (size_t j = 0; j < count; j++) {
        const char *known = t->params->force ? NULL : lun_tuning_candidate(tuning, jobs[j].text);
        if (known) {
            const contender one = {
                .name = known, .best = lun_tuning_seconds(tuning, jobs[j].text), .error = NAN, .bound = NAN};
            tell(t, &jobs[j], &one, 1, known, true);
            continue;
        }
        const task swap = jobs[open];
        jobs[open++] = jobs[j];
        jobs[j] = swap;
    }
    return open;
}

static lun_status tune_jobs(tuner *t, const task *jobs, size_t count, lun_tuning *tuning)
{
    lun_status status = make_buffers(t, jobs, count);
    if (status == LUN_ERR_MEMORY) {
        lun_log(LUN_LOG_WARN, "too little memory for tuning: %s", lun_error_detail());
        return LUN_OK;
    }
    t->progress.ops = (int)count;
    for (size_t j = 0; j < count && status == LUN_OK; j++) {
        t->progress.op = (int)j;
        t->progress.description = jobs[j].text;
        if (show(t, ""))
            break;
        if (t->clock() - t->started > t->budget) {
            lun_log(LUN_LOG_INFO, "tuning: %.0f s are used up; %zu of %zu ops keep the device's own choice", t->budget,
                    count - j, count);
            break;
        }
        status = tune_job(t, &jobs[j], (int)(count - j), tuning);
        /* Only the op at turn has failed: its candidates need more memory than there is. */
        if (status == LUN_ERR_MEMORY && t->dev->lost == LUN_OK) {
            lun_log(LUN_LOG_WARN, "%s is not tuned: %s", jobs[j].text, lun_error_detail());
            status = LUN_OK;
        }
    }
    return status;
}

lun_status lun_tune_ops_by(lun_device *dev, const lun_tune_op *ops, size_t count, const lun_tune_params *params,
                           lun_tuning *tuning, double (*clock)(void))
{
    if (!dev || !params || !tuning)
        return lun_fail(LUN_ERR_INTERNAL, "tuning: no device, parameters or table");
    if (!lun_tunable(dev) || count == 0)
        return LUN_OK;
    task *jobs = lun_calloc(count, sizeof *jobs, "tuning");
    tuner *t = lun_calloc(1, sizeof *t, "tuning");
    lun_status status = jobs && t ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK) {
        t->dev = dev;
        t->params = params;
        t->clock = clock;
        t->started = clock();
        t->budget = params->seconds > 0 ? params->seconds : SECONDS;
        size_t open = gather(ops, count, jobs);
        qsort(jobs, open, sizeof *jobs, by_cost);
        open = set_aside(t, jobs, open, tuning);
        if (open > 0) {
            status = tune_jobs(t, jobs, open, tuning);
            free_buffers(t);
            lun_tuning_keep(tuning);
        }
    }
    free(t);
    free(jobs);
    return status;
}

lun_status lun_tune_ops(lun_device *dev, const lun_tune_op *ops, size_t count, const lun_tune_params *params,
                        lun_tuning *tuning)
{
    return lun_tune_ops_by(dev, ops, count, params, tuning, lun_clock);
}
