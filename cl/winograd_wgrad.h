/* The Winograd weight gradient on CPUs: how its scratch lies, and its arguments.
 *
 *     dW[stride a + q, c, k] = sum over o of big[stride (o + a) - pad + q, c] small[o, k],  a < WINOGRAD_TAPS
 *
 * For each of the stride x stride phases q this is a correlation of TAPS x TAPS taps with every stride-th pixel of
 * `big`. Both sides are cut into tiles of OUT x OUT pixels of `small` and transformed; at each of the POINTS points
 * remains a matrix product over tiles, dU = V' W, and dW is the transform of dU summed over all tiles, in order.
 *
 *     V   [block][point][group][tile][LINES]     blocks of `lines` channels of one phase, in groups of LINES:
 *                                                block = phase * (blocks a phase) + i
 *     W   [panel][point][tile][2 LANES]          panels of columns of `small`
 *     dU  [task][point][lines][panels_per_task * 2 LANES]   task = block * (groups of panels) + group
 *
 * A point's part of each ends with WINOGRAD_SKEW floats that nobody uses, without which the same element of every
 * point would lie in one set of the first-level cache. */
#ifndef WINOGRAD_WGRAD_H
#define WINOGRAD_WGRAD_H

#define WINOGRAD_SKEW  16
#define WINOGRAD_RUN   8 /* tiles that an item of winograd_wgrad_tiles transforms */
#define WINOGRAD_LINES 8 /* of dU, that an item of winograd_wgrad_gradient turns into dW */

struct winograd_wgrad_args {
    int big_h, big_w, big_c, big_pitch; /* pitch: floats from one pixel to the next */
    int small_h, small_w, small_c, small_pitch;
    int pad_h, pad_w, stride;
    int tiles_h, tiles_w;
    int first_tile, tiles; /* of this round, counted over all pictures */
    int room;              /* tiles that a point's part of V and W has room for */
    int blocks, lines;     /* blocks of all phases; lines is a multiple of every MR and of LANES */
    int panels, panels_per_task;
    int stream;       /* V and W are too large to be found in a cache later */
    int begun;        /* dU holds the sum over earlier rounds */
    int tasks, slots; /* slots: items of winograd_wgrad_deep, which share the tasks */
};

#endif
