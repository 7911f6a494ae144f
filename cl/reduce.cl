/* Sums in a fixed order: one pass sums chunks of rows, further passes sum the results in the same way until one is
 * left. Chunks depend on the shape and the kind of device only, so a sum repeats bit for bit whatever the number of
 * threads, and its error grows as that of a tree. Storage is rows x columns, columns contiguous (N H W C: a row is a
 * pixel).
 *
 * An item is a chunk of rows and up to REDUCE_COLUMNS columns, kept in private variables: one column on a GPU
 * (neighbouring items read neighbouring columns), whole rows mostly on a CPU.
 */
#include "kernel.h"
#include "reduce.h"

#ifndef REDUCE_COLUMNS
#ifdef __OPENCL_C_VERSION__
#define REDUCE_COLUMNS 1
#else
#define REDUCE_COLUMNS 256
#endif
#endif

/* An item's columns, of those left. A constant where it is 1, so that private arrays become registers. */
#define REDUCE_WIDTH(left) (REDUCE_COLUMNS == 1 ? 1 : i_min(arg.width, left))

KERNEL2(sum_rows, struct sum_args, GLOBAL const float *src, GLOBAL float *dst)
{
    float sum[REDUCE_COLUMNS];
    const int c0 = item % arg.blocks * arg.width, place = item / arg.blocks; /* group * chunks + chunk */
    const int group = place / arg.chunks, row = place % arg.chunks * arg.chunk, rows = i_min(arg.chunk, arg.rows - row);
    const int stride = arg.pitch, width = REDUCE_WIDTH(arg.columns - c0);
    GLOBAL const float *from = src + (group * arg.rows + row) * stride + c0;
    GLOBAL float *to = dst + place * arg.columns + c0;
    for (int c = 0; c < width; c++)
        sum[c] = 0.0f;
    /* Four rows a turn, far apart: the sums are loaded and stored once for four, and a core that fetches ahead by
     * stream has four of them. */
    const int quarter = rows / 4, apart = quarter * stride;
    for (int r = 0; r < quarter; r++) {
        GLOBAL const float *x = from + r * stride;
        INDEPENDENT
        for (int c = 0; c < width; c++)
            sum[c] += (x[c] + x[apart + c]) + (x[2 * apart + c] + x[3 * apart + c]);
    }
    for (int r = 4 * quarter; r < rows; r++) {
        INDEPENDENT
        for (int c = 0; c < width; c++)
            sum[c] += from[r * stride + c];
    }
    for (int c = 0; c < width; c++)
        to[c] = sum[c] * arg.scale;
}

static inline float reduce_loss(const float d, const int kind, const float delta)
{
    const float size = f_abs(d), square = d * d;
    const float huber = size > delta ? delta * (size - 0.5f * delta) : 0.5f * square;
    return kind == 0 ? size : kind == 1 ? square : huber;
}

static inline void reduce_loss_span(float *sum, GLOBAL const float *pred, GLOBAL const float *target, const int width,
                                    const int kind, const float delta)
{
    for (int c = 0; c < width; c++)
        sum[c] += reduce_loss(pred[c] - target[c], kind, delta);
}

/* partial[item] = the item's part of the sum of the loss over all elements. */
KERNEL3(loss_sum, struct loss_args, GLOBAL const float *pred, GLOBAL const float *target, GLOBAL float *partial)
{
    float sum[REDUCE_COLUMNS];
    for (int c = 0; c < REDUCE_COLUMNS; c++)
        sum[c] = 0.0f;
    for (int k = 0; k < arg.steps; k++) {
        const uint span = (uint)item * (uint)arg.first + (uint)k * (uint)arg.step;
        if (span >= (uint)arg.spans)
            break;
        const int at = (int)span * arg.width, width = REDUCE_WIDTH(arg.count - at);
        if (width == REDUCE_COLUMNS)
            reduce_loss_span(sum, pred + at, target + at, REDUCE_COLUMNS, arg.kind, arg.delta);
        else
            reduce_loss_span(sum, pred + at, target + at, width, arg.kind, arg.delta);
    }
    for (int wide = REDUCE_COLUMNS / 2; wide > 0; wide /= 2) /* pairwise; REDUCE_COLUMNS is a power of two */
        for (int c = 0; c < wide; c++)
            sum[c] += sum[c + wide];
    partial[item] = sum[0];
}
