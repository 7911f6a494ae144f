/* What surrounds an optimiser's step, over flat arrays; the formulas are in src/op/op.h. An item is a contiguous piece:
 * one element on a GPU, thousands on a CPU; of sum_squares a number of spans, and of clip_norm, loss_seed and health
 * there is one.
 *
 * sum_squares keeps its sums in private variables and joins them in pairs, so that the result repeats bit for bit
 * whatever the number of threads, and its error grows as that of a tree.
 */
#include "kernel.h"
#include "update.h"

#ifndef SQUARE_COLUMNS
#ifdef __OPENCL_C_VERSION__
#define SQUARE_COLUMNS 1
#else
#define SQUARE_COLUMNS 256
#endif
#endif

/* An item's columns, of those left. A constant where it is 1, so that private arrays become registers. */
#define SQUARE_WIDTH(left) (SQUARE_COLUMNS == 1 ? 1 : i_min(arg.width, left))

KERNEL3(accumulate, struct update_args, GLOBAL float *sum, GLOBAL const float *grad, GLOBAL const int *first)
{
    const int start = item * arg.grain, end = start + i_min(arg.grain, arg.count - start);
    if (first[0] != 0) {
        INDEPENDENT
        for (int i = start; i < end; i++)
            sum[i] = grad[i];
    } else {
        INDEPENDENT
        for (int i = start; i < end; i++)
            sum[i] += grad[i];
    }
}

WIDE static inline void square_span(float *sum, GLOBAL const float *x, const int width)
{
    INDEPENDENT
    for (int c = 0; c < width; c++)
        sum[c] += x[c] * x[c];
}

/* partial[item] = the item's part of the sum of squares. */
KERNEL2(sum_squares, struct squares_args, GLOBAL const float *src, GLOBAL float *partial)
{
    float sum[SQUARE_COLUMNS];
    for (int c = 0; c < SQUARE_COLUMNS; c++)
        sum[c] = 0.0f;
    for (int k = 0; k < arg.steps; k++) {
        const uint span = (uint)item * (uint)arg.first + (uint)k * (uint)arg.step;
        if (span >= (uint)arg.spans)
            break;
        const int at = (int)span * arg.width, width = SQUARE_WIDTH(arg.count - at);
        if (width == SQUARE_COLUMNS)
            square_span(sum, src + at, SQUARE_COLUMNS);
        else
            square_span(sum, src + at, width);
    }
    for (int wide = SQUARE_COLUMNS / 2; wide > 0; wide /= 2) /* pairwise; SQUARE_COLUMNS is a power of two */
        for (int c = 0; c < wide; c++)
            sum[c] += sum[c + wide];
    partial[item] = sum[0];
}

/* A norm that is not a number leaves the scale at 1: the gradient says so itself. */
KERNEL3(clip_norm, struct clip_args, GLOBAL const float *parts, GLOBAL float *scale, GLOBAL float *norm)
{
    float sum = 0.0f;
    for (int i = 0; i < arg.parts; i++)
        sum += parts[i];
    const float size = f_sqrt(sum), ratio = arg.limit / (size + 1e-6f);
    scale[item] = ratio < 1.0f ? ratio : 1.0f;
    norm[item] = size;
}

/* Weights that are all zero change nothing, whatever the parameters are. */
#define EMA_BEGIN                                                                                                      \
    const float w0 = weights[0], w1 = weights[1], w2 = weights[2], w3 = weights[3];                                    \
    const int none = w0 == 0.0f && w1 == 0.0f && w2 == 0.0f && w3 == 0.0f;                                             \
    const int first = item * arg.grain, count = i_min(arg.grain, arg.count - first);                                   \
    const int end = none ? first : first + count;                                                                      \
    (void)w1, (void)w2, (void)w3
#define EMA_MOVE(average, weight) average[i] += weight * (param[i] - average[i])

KERNEL3(ema1, struct update_args, GLOBAL const float *param, GLOBAL const float *weights, GLOBAL float *a0)
{
    EMA_BEGIN;
    INDEPENDENT
    for (int i = first; i < end; i++)
        EMA_MOVE(a0, w0);
}

KERNEL4(ema2, struct update_args, GLOBAL const float *param, GLOBAL const float *weights, GLOBAL float *a0,
        GLOBAL float *a1)
{
    EMA_BEGIN;
    INDEPENDENT
    for (int i = first; i < end; i++) {
        EMA_MOVE(a0, w0);
        EMA_MOVE(a1, w1);
    }
}

KERNEL5(ema3, struct update_args, GLOBAL const float *param, GLOBAL const float *weights, GLOBAL float *a0,
        GLOBAL float *a1, GLOBAL float *a2)
{
    EMA_BEGIN;
    INDEPENDENT
    for (int i = first; i < end; i++) {
        EMA_MOVE(a0, w0);
        EMA_MOVE(a1, w1);
        EMA_MOVE(a2, w2);
    }
}

KERNEL6(ema4, struct update_args, GLOBAL const float *param, GLOBAL const float *weights, GLOBAL float *a0,
        GLOBAL float *a1, GLOBAL float *a2, GLOBAL float *a3)
{
    EMA_BEGIN;
    INDEPENDENT
    for (int i = first; i < end; i++) {
        EMA_MOVE(a0, w0);
        EMA_MOVE(a1, w1);
        EMA_MOVE(a2, w2);
        EMA_MOVE(a3, w3);
    }
}

/* By the bits: a compiler that was told to expect no such numbers could answer otherwise. */
static inline int is_finite(const float x)
{
    return (float_to_bits(x) & 0x7f800000u) != 0x7f800000u;
}

KERNEL2(loss_seed, struct seed_args, GLOBAL const float *loss, GLOBAL float *dst)
{
    dst[item] = is_finite(loss[item]) ? arg.weight : bits_to_float(0x7fc00000u);
}

/* The state after this step; the norm in norm[0]. */
static inline float health_state(GLOBAL const float *parts, GLOBAL float *state, GLOBAL const int *slot,
                                 GLOBAL float *norm, const int count)
{
    float sum = 0.0f, now = state[0];
    for (int i = 0; i < count; i++)
        sum += parts[i];
    if (now == 0.0f && !is_finite(sum))
        now = (float)(slot[0] + 1);
    state[0] = now;
    norm[0] = f_sqrt(sum);
    return now;
}

static inline void health_hyper(GLOBAL const float *hyper, GLOBAL float *passed, const float state)
{
    for (int i = 0; i < 3; i++)
        passed[i] = hyper[i];
    passed[3] = state != 0.0f ? 1.0f : hyper[3];
}

KERNEL6(health, struct health_args, GLOBAL const float *parts, GLOBAL float *state, GLOBAL const int *slot,
        GLOBAL const float *hyper, GLOBAL float *passed, GLOBAL float *norm)
{
    (void)item;
    health_hyper(hyper, passed, health_state(parts, state, slot, norm, arg.parts));
}

KERNEL8(health_averages, struct health_args, GLOBAL const float *parts, GLOBAL float *state, GLOBAL const int *slot,
        GLOBAL const float *hyper, GLOBAL float *passed, GLOBAL float *norm, GLOBAL const float *weights,
        GLOBAL float *passed_weights)
{
    (void)item;
    const float now = health_state(parts, state, slot, norm, arg.parts);
    health_hyper(hyper, passed, now);
    for (int i = 0; i < 4; i++)
        passed_weights[i] = now != 0.0f ? 0.0f : weights[i];
}

KERNEL3(settle, struct update_args, GLOBAL float *value, GLOBAL float *safe, GLOBAL const float *hyper)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    if (hyper[3] == 1.0f) {
        INDEPENDENT
        for (int i = first; i < end; i++)
            value[i] = safe[i];
    } else {
        INDEPENDENT
        for (int i = first; i < end; i++)
            safe[i] = value[i];
    }
}
