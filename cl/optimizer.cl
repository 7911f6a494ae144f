/* Adam and AdamW in one pass over flat arrays; the formula is in src/op/op.h. An item is a contiguous piece: one
 * element on a GPU, thousands on a CPU. hyper = { lr, 1 - beta1^step, sqrt(1 - beta2^step), skip }; where skip is 1
 * nothing changes. adam_scaled: with scale[0] times the gradient, as clipping by its norm wants it. adam_average: a
 * moving average of the parameters follows in the same pass, by weights[0]. */
#include "kernel.h"
#include "optimizer.h"

/* The gradient's expression is put in as text, so that the kernel without a scale rounds as it always has; `follow` is
 * what else is done with the new value. */
#define ADAM(gradient, follow)                                                                                         \
    const int first = item * arg.grain, count = i_min(arg.grain, arg.count - first);                                   \
    const int end = hyper[3] == 1.0f ? first : first + count;                                                          \
    const float lr = hyper[0], rate = lr / hyper[1], root = hyper[2];                                                  \
    const float shrink = arg.decoupled ? lr * arg.weight_decay : 0.0f, pull = arg.decoupled ? 0.0f : arg.weight_decay; \
    INDEPENDENT                                                                                                        \
    for (int i = first; i < end; i++) {                                                                                \
        const float p = param[i] - shrink * param[i];                                                                  \
        const float g = gradient + pull * p;                                                                           \
        const float mean = arg.beta1 * m[i] + arg.rest1 * g;                                                           \
        const float square = arg.beta2 * v[i] + arg.rest2 * g * g;                                                     \
        m[i] = mean;                                                                                                   \
        v[i] = square;                                                                                                 \
        const float moved = p - rate * mean / (f_sqrt(square) / root + arg.eps);                                       \
        param[i] = moved;                                                                                              \
        follow                                                                                                         \
    }
#define NOTHING
#define AVERAGE average[i] += weight * (moved - average[i]);

KERNEL5(adam, struct adam_args, GLOBAL float *param, GLOBAL const float *grad, GLOBAL float *m, GLOBAL float *v,
        GLOBAL const float *hyper){ADAM(grad[i], NOTHING)}

KERNEL6(adam_scaled, struct adam_args, GLOBAL float *param, GLOBAL const float *grad, GLOBAL float *m, GLOBAL float *v,
        GLOBAL const float *hyper, GLOBAL const float *scale)
{
    const float share = scale[0];
    ADAM(share * grad[i], NOTHING)
}

KERNEL7(adam_average, struct adam_args, GLOBAL float *param, GLOBAL const float *grad, GLOBAL float *m, GLOBAL float *v,
        GLOBAL const float *hyper, GLOBAL const float *weights, GLOBAL float *average)
{
    const float weight = weights[0];
    ADAM(grad[i], AVERAGE)
}

KERNEL8(adam_scaled_average, struct adam_args, GLOBAL float *param, GLOBAL const float *grad, GLOBAL float *m,
        GLOBAL float *v, GLOBAL const float *hyper, GLOBAL const float *scale, GLOBAL const float *weights,
        GLOBAL float *average)
{
    const float share = scale[0], weight = weights[0];
    ADAM(share * grad[i], AVERAGE)
}
