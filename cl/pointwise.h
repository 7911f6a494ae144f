/* Arguments of the kernels for convolutions with 1x1 filters, stride 1 and no padding: matrix products of pixels.
 *
 *     forward, data gradient   dst[r, k] = bias[k] + sum over c of src[r, c] W[c, k]
 *     weight gradient          dW[c, k] = sum over r of big[r, c] small[r, k]
 *
 * Pixels lie `pitch` floats apart. */
#ifndef POINTWISE_H
#define POINTWISE_H

struct pointwise_args {
    int rows; /* pixels of all pictures */
    int src_c, src_pitch, dst_c, dst_pitch;
    int has_bias, relu;
    int stream;          /* dst is too large to be found in a cache later */
    int depth_block;     /* of src_c, the piece of a panel that is used on all rows of an item before the next */
    int panels_per_item; /* of 2 LANES columns */
};

/* Rows that an item works on; a multiple of every MR. */
#define POINTWISE_ROWS 120

struct pointwise_wgrad_args {
    int rows;
    int big_c, big_pitch, small_c, small_pitch;
    int lines;       /* channels of `big` that an item owns, a multiple of LINES (lane.h) */
    int panels;      /* of 2 LANES channels of `small`, that it owns */
    int depth_block; /* rows packed at a time */
};

#endif
