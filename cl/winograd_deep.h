/* Arguments of the filter-stationary Winograd kernels for CPUs: forward convolution and data gradient of layers with
 * few tiles and a large filter, whose transformed filter (up to four times the filter's bytes) is better never written
 * to memory.
 *
 * 3x3 filters with stride 1: `phases` is 1. 4x4 filters with stride 2: each dimension falls into two phases q, of the
 * source for conv2d (their results add up: `gathered`), of the destination for conv2d_transpose, with filters of two
 * taps each. In one dimension, for phase q and tile t:
 *
 *     reads    source pixels t OUT src_step + src_first[q] + i src_step, i = 0 .. OUT + TAPS - 2
 *     taps     filter rows tap_first[q] + a tap_step, a = 0 .. TAPS - 1
 *     writes   (t OUT + j) dst_step + dst_first[q], j = 0 .. OUT - 1
 */
#ifndef WINOGRAD_DEEP_H
#define WINOGRAD_DEEP_H

/* Source channels transformed and multiplied at a time. */
#define WINOGRAD_DEEP_CHUNK 64
/* Tiles that an item of winograd_deep_tiles transforms; a multiple of every MR. */
#define WINOGRAD_DEEP_TILES 24

struct winograd_deep_args {
    int src_h, src_w, src_c, src_pitch; /* pitch: floats from one pixel to the next */
    int dst_h, dst_w, dst_c, dst_pitch;
    int tiles_h, tiles_w, tiles; /* of one phase; tiles = N tiles_h tiles_w */
    int block, blocks;           /* tiles of a piece of work, a multiple of every MR or all there are */
    int chunks;                  /* of src_c */
    int phases, gathered;
    int src_step, src_first_h0, src_first_h1, src_first_w0, src_first_w1;
    int dst_step, dst_first_h0, dst_first_h1, dst_first_w0, dst_first_w1;
    int tap_step, tap_first0, tap_first1;
    int kernel_w;   /* the filter's columns */
    int transposed; /* the filter's rows are destination channels */
    int has_bias, relu;
    int moments;       /* stride of the moments (norm.h) of dst that are left, whole panels; 0: none */
    int moments_tiles; /* of so many tiles each, a divisor of `block` */
    int stream;        /* V is too large to be found in a cache later */
    int tasks, slots;  /* pieces of work, and the items that share them out */
    int slot_floats;   /* scratch of one item */
};

#endif
