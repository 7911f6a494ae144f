/* Candidates that are far behind cost the most to measure: all are first tried on a small op, and who is hopeless there
 * is not run at full size, for any op of the same kind, filter and stride. See tune.c. */
#include <math.h>
#include <string.h>

#include "base/base.h"
#include "lower/accuracy.h"
#include "tune_trial.h"

#define PROBE_ROUNDS 5  /* of which the first two are for all */
#define PROBE_C      32 /* channels, pixels a side and pixels in all of a probe at most: few channels and many pixels, */
#define PROBE_SIDE   32   /* so that what a candidate does with the filter before it starts counts as little as in an */
#define PROBE_PIXELS 4096 /* op of full size */

/* ---- What is known of a class ---- */

static uint64_t class_of(const lun_op *op)
{
    const lun_shape f = op->kind == LUN_OP_CONV2D_WGRAD ? op->dst[0].shape : op->src[1].shape;
    const lun_conv_attrs *a = &op->attrs.conv;
    const int32_t parts[] = {(int32_t)op->kind, (int32_t)f.h, (int32_t)f.w, a->stride_h, a->stride_w};
    return lun_hash(LUN_HASH_START, parts, sizeof parts);
}

const hopeless *lun_tuner_find_hopeless(const tuner *t, const lun_op *op, const char *name)
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

void lun_tuner_note_hopeless(tuner *t, const lun_op *op, const contender *trials, int count)
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
        if (i != direct && ratio > HOPELESS && t->hopeless_count < (int)LUN_COUNT(t->hopeless) &&
            !lun_tuner_find_hopeless(t, op, trials[i].name))
            t->hopeless[t->hopeless_count++] = (hopeless){class_of(op), trials[i].name, ratio};
    }
}

/* ---- The probe ---- */

/* A verdict counts for every op of the class, and one run of a probe takes less than a turn of another process on its
 * processor: who looks hopeless is heard again, at other moments. */
static lun_status run_probe(tuner *t, const lun_op *op, bool kept, contender *trials, int count)
{
    for (int round = 0; round < PROBE_ROUNDS && !t->stop; round++) {
        const double limit = HOPELESS * fastest_of(trials, count);
        for (int i = 0; i < count && !lun_tuner_show(t, trials[i].name); i++) {
            double seconds = NAN;
            if (!trials[i].plan || (round > 1 && trials[i].best <= limit))
                continue;
            const lun_status status = lun_tuner_run(t, &trials[i], kept, 1, &seconds);
            if (status == LUN_OK)
                trials[i].best = fmin(trials[i].best, seconds);
            else if (lun_tuner_only_this(t, status))
                lun_tuner_give_up(&trials[i]);
            else
                return status;
        }
    }
    if (!t->stop)
        lun_tuner_note_hopeless(t, op, trials, count);
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

lun_status lun_tuner_probe(tuner *t, const lun_tune_op *full)
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
    lun_status status = lun_tuner_plan(t, &op, true, trials, &count);
    if (status == LUN_OK && count > 1)
        status = run_probe(t, &op, full->kept, trials, count);
    lun_tuner_unplan(trials, count);
    return status;
}
