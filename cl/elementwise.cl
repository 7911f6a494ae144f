/* Ops that make each element from those at its own place. Storage is N H W C. The formulas are in src/op/op.h.
 *
 * An item is a contiguous piece: one element on a GPU, so that neighbours touch neighbouring memory; thousands on a
 * CPU, in loops that compilers vectorise. dst may be src (see INDEPENDENT). Comparisons are written so that NaN passes
 * through.
 */
#include "kernel.h"
#include "elementwise.h"
#include "special.h"

KERNEL2(relu, struct flat_args, GLOBAL const float *src, GLOBAL float *dst)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    INDEPENDENT
    for (int i = first; i < end; i++)
        dst[i] = src[i] < 0.0f ? 0.0f : src[i];
}

/* `result` is what relu gave. */
KERNEL3(relu_backward, struct flat_args, GLOBAL const float *result, GLOBAL const float *ddst, GLOBAL float *dsrc)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    INDEPENDENT
    for (int i = first; i < end; i++) {
        const float d = ddst[i]; /* read in any case: a plain blend vectorises, a guarded load does not */
        dsrc[i] = result[i] <= 0.0f ? 0.0f : d;
    }
}

KERNEL3(add, struct flat_args, GLOBAL const float *a, GLOBAL const float *b, GLOBAL float *dst)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    INDEPENDENT
    for (int i = first; i < end; i++)
        dst[i] = a[i] + b[i];
}

/* The three above on images with pitches. */
#define PITCHED_ROWS                                                                                                   \
    const int row = item / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);                            \
    const int c0 = item % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);                         \
    for (int r = row; r < row + rows; r++)

KERNEL2(relu_pitched, struct pitched_args, GLOBAL const float *src, GLOBAL float *dst)
{
    PITCHED_ROWS
    {
        GLOBAL const float *x = src + r * arg.a_pitch + c0;
        GLOBAL float *y = dst + r * arg.dst_pitch + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            y[c] = x[c] < 0.0f ? 0.0f : x[c];
    }
}

KERNEL3(relu_backward_pitched, struct pitched_args, GLOBAL const float *result, GLOBAL const float *ddst,
        GLOBAL float *dsrc)
{
    PITCHED_ROWS
    {
        GLOBAL const float *y = result + r * arg.a_pitch + c0, *dy = ddst + r * arg.b_pitch + c0;
        GLOBAL float *dx = dsrc + r * arg.dst_pitch + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++) {
            const float d = dy[c];
            dx[c] = y[c] <= 0.0f ? 0.0f : d;
        }
    }
}

KERNEL3(add_pitched, struct pitched_args, GLOBAL const float *a, GLOBAL const float *b, GLOBAL float *dst)
{
    PITCHED_ROWS
    {
        GLOBAL const float *x = a + r * arg.a_pitch + c0, *y = b + r * arg.b_pitch + c0;
        GLOBAL float *z = dst + r * arg.dst_pitch + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            z[c] = x[c] + y[c];
    }
}

#undef PITCHED_ROWS

KERNEL3(add_channel, struct channel_args, GLOBAL const float *src, GLOBAL const float *bias, GLOBAL float *dst)
{
    const int n = item / arg.pieces, piece = item % arg.pieces;
    const int row = piece / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);
    const int c0 = piece % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    GLOBAL const float *b = bias + n * arg.channels + c0;
    for (int r = 0; r < rows; r++) {
        const int at = (n * arg.pixels + row + r) * arg.channels + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            dst[at + c] = src[at + c] + b[c];
    }
}

/* concat is two of these, slice is one. */
KERNEL2(copy_channels, struct copy_args, GLOBAL const float *src, GLOBAL float *dst)
{
    const int row = item / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);
    const int c0 = item % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    for (int r = 0; r < rows; r++) {
        GLOBAL const float *from = src + (row + r) * arg.src_channels + arg.src_first + c0;
        GLOBAL float *to = dst + (row + r) * arg.dst_channels + arg.dst_first + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            to[c] = from[c];
    }
}

KERNEL3(embed, struct embed_args, GLOBAL const int *index, GLOBAL const float *table, GLOBAL float *dst)
{
    const int n = item / arg.blocks, c0 = item % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    const int row = i_max(0, i_min(index[n], arg.steps - 1));
    INDEPENDENT
    for (int c = c0; c < c0 + width; c++)
        dst[n * arg.channels + c] = table[row * arg.channels + c];
}

/* An item looks through the whole batch for those that point to its row: no two items add to one number. */
KERNEL3(embed_backward, struct embed_backward_args, GLOBAL const int *index, GLOBAL const float *ddst,
        GLOBAL float *dtable)
{
    const int row = item / arg.blocks, c0 = item % arg.blocks * arg.width;
    const int width = i_min(arg.width, arg.channels - c0);
    GLOBAL float *to = dtable + row * arg.channels + c0;
    for (int c = 0; c < width; c++)
        to[c] = 0.0f;
    for (int n = 0; n < arg.batch; n++) {
        if (i_max(0, i_min(index[n], arg.rows - 1)) != row)
            continue;
        GLOBAL const float *from = ddst + n * arg.channels + c0;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            to[c] += from[c];
    }
}

KERNEL5(noise, struct noise_args, GLOBAL const float *x0, GLOBAL const float *eps, GLOBAL const int *t,
        GLOBAL const float *table, GLOBAL float *dst)
{
    const int n = item / arg.pieces, from = item % arg.pieces * arg.grain;
    const int first = n * arg.count + from, end = first + i_min(arg.grain, arg.count - from);
    const int row = i_max(0, i_min(t[n], arg.steps - 1));
    const float a = table[2 * row], b = table[2 * row + 1];
    INDEPENDENT
    for (int i = first; i < end; i++)
        dst[i] = a * x0[i] + b * eps[i];
}

#define CLAMP(v) ((v) < -1.0f ? -1.0f : (v) > 1.0f ? 1.0f : (v))

KERNEL5(sample_step, struct sample_args, GLOBAL const float *x, GLOBAL const float *eps, GLOBAL const float *z,
        GLOBAL const float *coef, GLOBAL float *dst)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    const float a = coef[0], b = coef[1], c = coef[2], d = coef[3], e = coef[4], s = coef[5];
    const int clip_x0 = arg.clip == 1, clip_xt = arg.clip == 2;
    INDEPENDENT
    for (int i = first; i < end; i++) {
        const float xt = x[i], noise = eps[i], raw = a * xt + b * noise;
        const float x0 = clip_x0 ? CLAMP(raw) : raw;
        const float next = c * x0 + d * xt + e * noise + s * z[i];
        dst[i] = clip_xt ? CLAMP(next) : next;
    }
}

/* The same with eps of twice the channels: the prediction, and behind it what it says of the variance. */
KERNEL5(sample_step_wide, struct sample_wide_args, GLOBAL const float *x, GLOBAL const float *eps,
        GLOBAL const float *z, GLOBAL const float *coef, GLOBAL float *dst)
{
    const int row = item / arg.blocks * arg.rows, rows = i_min(arg.rows, arg.pixels - row);
    const int c0 = item % arg.blocks * arg.width, width = i_min(arg.width, arg.channels - c0);
    const float a = coef[0], b = coef[1], c = coef[2], d = coef[3], e = coef[4], s = coef[5];
    const float level = coef[6], slope = coef[7];
    for (int r = row; r < row + rows; r++) {
        const int at = r * arg.channels + c0;
        GLOBAL const float *pred = eps + 2 * r * arg.channels + c0, *v = pred + arg.channels;
        for (int i = 0; i < width; i++) {
            const float xt = x[at + i], noise = pred[i], raw = a * xt + b * noise;
            const float x0 = arg.clip == 1 ? CLAMP(raw) : raw;
            const float spread = arg.learned ? s * f_exp(level + slope * v[i]) : s;
            const float next = c * x0 + d * xt + e * noise + spread * z[at + i];
            dst[at + i] = arg.clip == 2 ? CLAMP(next) : next;
        }
    }
}

KERNEL3(store, struct store_args, GLOBAL const float *value, GLOBAL const int *slot, GLOBAL float *ring)
{
    const int at = slot[0] + item; /* one item: item is 0 */
    if (at >= 0 && at < arg.slots)
        ring[at] = value[0];
}

KERNEL4(loss_backward, struct loss_backward_args, GLOBAL const float *pred, GLOBAL const float *target,
        GLOBAL const float *dloss, GLOBAL float *dpred)
{
    const int first = item * arg.grain, end = first + i_min(arg.grain, arg.count - first);
    const float g = dloss[0] * arg.scale, limit = arg.kind == 2 ? arg.delta : 0.0f;
    if (arg.kind == 0) {
        INDEPENDENT
        for (int i = first; i < end; i++) {
            const float d = pred[i] - target[i];
            dpred[i] = d > 0.0f ? g : d < 0.0f ? -g : g * d; /* 0 at 0, and NaN stays NaN */
        }
    } else if (arg.kind == 1) {
        INDEPENDENT
        for (int i = first; i < end; i++)
            dpred[i] = 2.0f * (pred[i] - target[i]) * g;
    } else {
        INDEPENDENT
        for (int i = first; i < end; i++) {
            const float d = pred[i] - target[i];
            dpred[i] = (d > limit ? limit : d < -limit ? -limit : d) * g;
        }
    }
}
