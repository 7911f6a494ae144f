/* Candidates on made-up operands: planned, run and held against each other. See tune.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/philox.h"
#include "lower/accuracy.h"
#include "tune_trial.h"

#define LEAST_TIME 2e-3 /* seconds that are timed as one: shorter ops are run several times */
#define MOST_RUNS  64
#define PIECE      262144 /* floats compared at a time */
/* Normals repeat after a prime number of floats, so that no shape meets the same ones at the same places. */
#define PERIOD   262147
#define NAN_BITS 0x7fc00000u

/* ---- Memory ---- */

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

lun_status lun_tuner_make_buffers(tuner *t, const task *jobs, size_t count)
{
    size_t operand[LUN_OP_MAX_SRC] = {0}, result = 0;
    for (size_t j = 0; j < count; j++) {
        const lun_op *op = &jobs[j].op.op;
        for (int s = 0; s < op->nsrc; s++)
            operand[s] = lun_src_span(op, s) > operand[s] ? lun_src_span(op, s) : operand[s];
        result = place_of(op, op->ndst) > result ? place_of(op, op->ndst) : result;
    }
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

void lun_tuner_free_buffers(tuner *t)
{
    for (int s = 0; s < LUN_OP_MAX_SRC; s++)
        lun_buffer_destroy(&t->operand[s]);
    lun_buffer_destroy(&t->result);
    lun_buffer_destroy(&t->workspace);
    lun_buffer_destroy(&t->kept);
    free(t->reference);
    free(t->piece);
}

/* ---- Running ---- */

bool lun_tuner_show(tuner *t, const char *candidate)
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
lun_status lun_tuner_run(tuner *t, contender *trial, bool kept, int runs, double *seconds)
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

lun_status lun_tuner_run_again(tuner *t, contender *trial, bool kept)
{
    int runs = 1;
    double seconds = 0;
    if (trial->best < LEAST_TIME)
        runs = trial->best * MOST_RUNS < LEAST_TIME ? MOST_RUNS : (int)(LEAST_TIME / trial->best) + 1;
    LUN_TRY(lun_tuner_run(t, trial, kept, runs, &seconds));
    trial->best = fmin(trial->best, seconds);
    return LUN_OK;
}

bool lun_tuner_only_this(const tuner *t, lun_status status)
{
    return t->dev->lost == LUN_OK && status != LUN_OK;
}

void lun_tuner_give_up(contender *trial)
{
    snprintf(trial->note, sizeof trial->note, "fails: %.60s", lun_error_detail());
    lun_log(LUN_LOG_DEBUG, "tuning: %s: %s", trial->name, lun_error_detail());
    lun_op_plan_destroy(&trial->plan);
    trial->best = NAN;
}

lun_status lun_tuner_plan(tuner *t, const lun_op *op, bool with_hopeless, contender *trials, int *count)
{
    *count = 0;
    for (const lun_candidate *c = lun_candidates(op->kind); c->name && *count < MAX_TRIALS; c++) {
        contender *one = &trials[*count];
        memset(one, 0, sizeof *one);
        one->name = c->name;
        one->best = one->error = one->bound = NAN;
        const hopeless *known = with_hopeless ? NULL : lun_tuner_find_hopeless(t, op, c->name);
        if (known) {
            snprintf(one->note, sizeof one->note, "skipped: %.0f times slower on such an op", known->ratio);
            ++*count;
            continue;
        }
        const lun_status status = lun_op_plan_create(t->dev, op, c->name, &one->plan);
        if (status == LUN_UNSUPPORTED)
            continue;
        if (status != LUN_OK) {
            if (!lun_tuner_only_this(t, status))
                return status;
            lun_tuner_give_up(one);
        }
        ++*count;
    }
    return LUN_OK;
}

void lun_tuner_unplan(contender *trials, int count)
{
    for (int i = 0; i < count; i++)
        lun_op_plan_destroy(&trials[i].plan);
}

/* ---- Checking ---- */

lun_status lun_tuner_first_run(tuner *t, const task *job, contender *trial)
{
    LUN_TRY(lun_buffer_fill((lun_place){t->result, 0}, NAN_BITS, place_of(&job->op.op, job->op.op.ndst)));
    return lun_tuner_run(t, trial, job->op.kept, 1, &trial->best);
}

lun_status lun_tuner_keep_reference(tuner *t, const task *job)
{
    return lun_buffer_read((lun_place){t->result, 0}, t->reference, place_of(&job->op.op, job->op.op.ndst));
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

lun_status lun_tuner_check(tuner *t, const task *job, contender *trial, const char *reference)
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
