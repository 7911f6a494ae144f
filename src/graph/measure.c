#include "graph/measure.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "graph.h"

#define PIECE      65537     /* numbers that are made up; the rest repeats them */
#define UPDATE     (1 << 22) /* elements of the store that stand for all, in an update */
#define LEAST_TIME 3e-3      /* seconds timed as one: shorter ops run several times */
#define MOST_RUNS  16
#define ENOUGH     0.25 /* seconds: an op that takes longer is timed once */

/* Equal steps are measured once. */
typedef struct group {
    int step, count;
    double cost; /* of all its steps: only for their order */
} group;

typedef struct bench {
    lun_device *dev;
    size_t limit;
    lun_buffer *real[LUN_OP_MAX_SRC], *whole[LUN_OP_MAX_SRC]; /* sources of real and of whole numbers */
    lun_buffer *dst[LUN_OP_MAX_DST], *workspace;
    float *piece;
} bench;

static bool is_product(lun_op_kind kind)
{
    return kind == LUN_OP_CONV2D || kind == LUN_OP_CONV2D_TRANSPOSE || kind == LUN_OP_CONV2D_WGRAD ||
           kind == LUN_OP_ATTENTION || kind == LUN_OP_ATTENTION_BACKWARD;
}

void lun_plan_list(const lun_plan *plan, lun_op_time *times)
{
    for (int i = 0; i < plan->step_count; i++) {
        const lun_plan_step *step = &plan->steps[i];
        times[i] = (lun_op_time){.kind = lun_op_info_of(step->op.kind)->name,
                                 .product = is_product(step->op.kind),
                                 .flops = step->plan->flops,
                                 .bytes = step->plan->bytes,
                                 .seconds = NAN};
    }
}

/* ---- Memory ---- */

static size_t align_up(size_t bytes)
{
    return (bytes + LUN_ALIGN - 1) / LUN_ALIGN * LUN_ALIGN;
}

/* Numbers from 0.25 to 1.25: neither sums that vanish nor roots of what is negative, which some machines take longer
 * for. */
static void make_up(float *values, size_t count)
{
    uint32_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * UINT32_C(1664525) + UINT32_C(1013904223);
        values[i] = 0.25f + (float)(state >> 8) * 0x1p-24f;
    }
}

static lun_status fill_real(bench *b, lun_buffer *buffer)
{
    size_t done = PIECE * sizeof(float) < buffer->bytes ? PIECE * sizeof(float) : buffer->bytes;
    LUN_TRY(lun_buffer_write((lun_place){buffer, 0}, b->piece, done));
    while (done < buffer->bytes) {
        const size_t more = done < buffer->bytes - done ? done : buffer->bytes - done;
        LUN_TRY(lun_buffer_copy((lun_place){buffer, done}, (lun_place){buffer, 0}, more));
        done += more;
    }
    return LUN_OK;
}

/* At least that large; what is new is filled, with zeros where `real` is not set: an index, a slot of a ring. */
static lun_status ensure(bench *b, lun_buffer **buffer, size_t bytes, bool real)
{
    bytes = align_up(bytes);
    if (bytes == 0 || (*buffer && (*buffer)->bytes >= bytes))
        return LUN_OK;
    lun_buffer_destroy(buffer);
    LUN_TRY(lun_buffer_create(b->dev, bytes, buffer));
    return real ? fill_real(b, *buffer) : lun_buffer_fill((lun_place){*buffer, 0}, 0, bytes);
}

static size_t bytes_of(const lun_buffer *buffer)
{
    return buffer ? buffer->bytes : 0;
}

static size_t held(const bench *b)
{
    size_t bytes = bytes_of(b->workspace);
    for (int s = 0; s < LUN_OP_MAX_SRC; s++)
        bytes += bytes_of(b->real[s]) + bytes_of(b->whole[s]);
    for (int d = 0; d < LUN_OP_MAX_DST; d++)
        bytes += bytes_of(b->dst[d]);
    return bytes;
}

static void release(bench *b)
{
    for (int s = 0; s < LUN_OP_MAX_SRC; s++) {
        lun_buffer_destroy(&b->real[s]);
        lun_buffer_destroy(&b->whole[s]);
    }
    for (int d = 0; d < LUN_OP_MAX_DST; d++)
        lun_buffer_destroy(&b->dst[d]);
    lun_buffer_destroy(&b->workspace);
}

static size_t memory_of(const lun_op_plan *plan)
{
    const lun_op_info *info = lun_op_info_of(plan->op.kind);
    size_t bytes = align_up(plan->workspace);
    for (int s = 0; s < plan->op.nsrc; s++)
        bytes += align_up(lun_src_span(&plan->op, s));
    for (int d = 0; d < plan->op.ndst; d++)
        bytes += info->alias[d] ? 0 : align_up(lun_dst_span(&plan->op, d));
    return bytes;
}

static lun_status bind(bench *b, lun_op_plan *plan)
{
    const lun_op_info *info = lun_op_info_of(plan->op.kind);
    lun_place src[LUN_OP_MAX_SRC] = {{NULL, 0}}, dst[LUN_OP_MAX_DST] = {{NULL, 0}};
    for (int s = 0; s < plan->op.nsrc; s++) {
        const bool real = plan->op.src[s].dtype == LUN_F32;
        lun_buffer **buffer = real ? &b->real[s] : &b->whole[s];
        LUN_TRY(ensure(b, buffer, lun_src_span(&plan->op, s), real));
        src[s].buffer = *buffer;
    }
    for (int d = 0; d < plan->op.ndst; d++) {
        if (!info->alias[d])
            LUN_TRY(ensure(b, &b->dst[d], lun_dst_span(&plan->op, d), false));
        dst[d] = info->alias[d] ? src[info->alias[d] - 1] : (lun_place){b->dst[d], 0};
    }
    LUN_TRY(ensure(b, &b->workspace, plan->workspace, false));
    return lun_op_plan_bind(plan, src, dst, (lun_place){b->workspace, 0});
}

/* ---- Timing ---- */

static lun_status run_for(bench *b, lun_op_plan *plan, int runs, double *seconds)
{
    const double start = lun_clock();
    for (int i = 0; i < runs; i++)
        LUN_TRY(lun_op_plan_run(plan));
    LUN_TRY(lun_device_finish(b->dev));
    *seconds = (lun_clock() - start) / runs;
    return LUN_OK;
}

/* The first run touches memory and may compile. */
static lun_status time_plan(bench *b, lun_op_plan *plan, double *seconds)
{
    double first = 0, best = INFINITY;
    LUN_TRY(bind(b, plan));
    LUN_TRY(lun_device_finish(b->dev));
    LUN_TRY(run_for(b, plan, 1, &first));
    for (int i = 0; i < 2; i++) {
        double took = 0;
        const double guess = best < first ? best : first;
        const int runs = guess < LEAST_TIME ? (int)fmin(MOST_RUNS, ceil(LEAST_TIME / fmax(guess, 1e-7))) : 1;
        LUN_TRY(run_for(b, plan, runs, &took));
        best = fmin(best, took);
        if (best > ENOUGH)
            break;
    }
    *seconds = best;
    return LUN_OK;
}

/* An update of the store with fewer elements; *part of the real one. */
static lun_status shorten(const lun_plan_step *step, lun_op *op, double *part)
{
    *op = step->op;
    *part = 1;
    const int64_t all = lun_count(step->op.src[0].shape);
    if (step->chunk < 0 || all <= UPDATE)
        return LUN_OK;
    for (int s = 0; s < op->nsrc; s++)
        if (lun_count(op->src[s].shape) == all)
            op->src[s].shape.c = UPDATE;
    *part = (double)UPDATE / (double)all;
    return lun_op_infer(op);
}

static lun_status measure_step(bench *b, const lun_plan_step *step, double *seconds)
{
    lun_op op;
    double part = 1;
    lun_op_plan *plan = NULL;
    LUN_TRY(shorten(step, &op, &part));
    lun_status status = lun_op_plan_create(b->dev, &op, step->candidate, &plan);
    if (status == LUN_UNSUPPORTED)
        status = lun_op_plan_create(b->dev, &op, NULL, &plan);
    if (status == LUN_UNSUPPORTED) /* the trainer would say so */
        return LUN_OK;
    if (status == LUN_OK && memory_of(plan) <= b->limit) {
        if (held(b) > b->limit - memory_of(plan)) /* buffers of earlier ops serve where there is room for both */
            release(b);
        status = time_plan(b, plan, seconds);
        *seconds /= part;
    }
    lun_op_plan_destroy(&plan);
    if (status == LUN_ERR_MEMORY && b->dev->lost == LUN_OK) {
        *seconds = NAN;
        return LUN_OK;
    }
    return status;
}

/* ---- All of them ---- */

static int by_cost(const void *a, const void *b)
{
    const group *x = a, *y = b;
    return x->cost != y->cost ? (x->cost < y->cost ? 1 : -1) : x->step - y->step;
}

static bool same_op(const lun_plan_step *a, const lun_plan_step *b)
{
    return a->op.kind == b->op.kind && strcmp(a->description, b->description) == 0 &&
           strcmp(a->candidate, b->candidate) == 0 && a->fallback == b->fallback;
}

/* group_of: by step. Returns how many there are. */
static int make_groups(const lun_plan *plan, group *groups, int *group_of)
{
    int count = 0;
    for (int i = 0; i < plan->step_count; i++) {
        int g = 0;
        while (g < count && !same_op(&plan->steps[groups[g].step], &plan->steps[i]))
            g++;
        if (g == count)
            groups[count++] = (group){.step = i};
        group_of[i] = g;
        groups[g].count++;
        /* Eight or so FLOPs take as long as a byte. */
        groups[g].cost += plan->steps[i].plan->flops + 8 * plan->steps[i].plan->bytes;
    }
    return count;
}

static lun_status measure(bench *b, const lun_plan *plan, const lun_measure_params *params, group *groups, int count,
                          double *seconds)
{
    const double start = lun_clock();
    for (int g = 0; g < count; g++) {
        const lun_plan_step *step = &plan->steps[groups[g].step];
        if (params->progress && params->progress(params->payload, g, count))
            break;
        if (step->fallback)
            continue;
        if (g > 0 && lun_clock() - start > params->seconds)
            break;
        LUN_TRY(measure_step(b, step, &seconds[groups[g].step]));
    }
    return LUN_OK;
}

lun_status lun_plan_measure(const lun_plan *plan, lun_device *dev, const lun_measure_params *params, lun_op_time *times)
{
    const size_t steps = (size_t)plan->step_count;
    bench b = {.dev = dev, .limit = params->memory};
    group *groups = lun_calloc(steps, sizeof *groups, "measuring");
    int *group_of = lun_malloc(steps, sizeof *group_of, "measuring");
    int *leader = lun_malloc(steps, sizeof *leader, "measuring"); /* by group, in the order found */
    double *seconds = lun_malloc(steps, sizeof *seconds, "measuring");
    lun_status status = LUN_ERR_MEMORY;
    b.piece = lun_malloc(PIECE, sizeof *b.piece, "measuring");
    if (groups && group_of && leader && seconds && b.piece) {
        make_up(b.piece, PIECE);
        const int count = make_groups(plan, groups, group_of);
        for (int g = 0; g < count; g++)
            leader[g] = groups[g].step;
        for (size_t i = 0; i < steps; i++)
            seconds[i] = NAN;
        qsort(groups, (size_t)count, sizeof *groups, by_cost);
        status = measure(&b, plan, params, groups, count, seconds);
        lun_plan_list(plan, times);
        for (size_t i = 0; i < steps; i++)
            times[i].seconds = seconds[leader[group_of[i]]];
    }
    release(&b);
    free(b.piece);
    free(seconds);
    free(leader);
    free(group_of);
    free(groups);
    return status;
}
