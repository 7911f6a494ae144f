/* Arguments of the convolution kernels. Images lie N H W C, filters R S C K. A pitch is the floats from one pixel to
 * the next: the image's channels, or more where these are a part of a wider image's.
 *
 * Forward and data gradient are one computation, a gather over taps:
 *
 *     dst[n, gy dst_step_h + dst_first_h, gx dst_step_w + dst_first_w, :] = bias +
 *         sum over taps (i, j) of src[n, gy src_step_h + off_h + i off_step_h, gx src_step_w + off_w + j off_step_w, :]
 * W[tap]
 *
 * with tap (i, j) the filter position (r, s) = (first_r + i step_r, first_s + j step_s), and zero outside the source.
 * conv2d is one such gather: dst_step 1, src_step = stride, off = -pad, off_step 1. Its data gradient
 * (conv2d_transpose) with stride t is t x t of them, one a phase of the destination: dst_step = t, src_step 1, off_step
 * -1, every t-th filter row. */
#ifndef CONV2D_H
#define CONV2D_H

struct conv2d_gather_args {
    int rows; /* N grid_h grid_w */
    int grid_h, grid_w;
    int src_h, src_w, src_c, src_pitch;
    int dst_h, dst_w, dst_c, dst_pitch;
    int dst_step_h, dst_step_w, dst_first_h, dst_first_w;
    int src_step_h, src_step_w;
    int taps_h, taps_w; /* may be 0: then dst = bias */
    int off_h, off_w, off_step_h, off_step_w;
    int first_r, first_s, step_r, step_s;
    int kernel_h, kernel_w; /* the whole filter's R, S */
    int has_bias;
    int relu;            /* negative results become 0; NaN stays */
    int transposed;      /* W[tap] maps the filter's K to C (conv2d_transpose) instead of C to K */
    int panels_per_item; /* conv2d_panel: panels; conv2d_direct: channels of dst */
    /* conv2d_panel: the stride of the moments (norm.h) of dst that each block of rows leaves, whole panels; 0: none.
     * first_moments: the place of the first block's. */
    int moments, first_moments;
};

/* conv2d_transpose from its definition: every phase in one launch, for strides with too many of them. */
struct conv2d_phases_args {
    int src_h, src_w, src_c, src_pitch;
    int dst_h, dst_w, dst_c, dst_pitch;
    int kernel_h, kernel_w;
    int stride_h, stride_w, pad_h, pad_w;
    int has_bias, relu;
    int channels_per_item;
};

/* Rows (destination pixels) an item of the panel kernels works on; a multiple of every MR. */
#define CONV2D_ROW_BLOCK 120
/* Depth of the piece of a panel that is used over and over before the next: 256 x 32 floats are 32 KiB. */
#define CONV2D_DEPTH_BLOCK 256

/* Panels: filter columns in groups of `width`, packed [panel][r s][src_c][width], zero beyond dst_c; after them `src_c`
 * zeros, which stand for pixels outside the source. */
struct conv2d_pack_args {
    int taps; /* R S */
    int src_c, dst_c;
    int width; /* 2 LANES */
    int transposed;
};

/* dW[r, s, c, k] = sum over n, oy, ox of big[n, oy stride - pad + r, ox stride - pad + s, c] small[n, oy, ox, k] */
struct conv2d_wgrad_args {
    int rows; /* N small_h small_w */
    int big_h, big_w, big_c, big_pitch;
    int small_h, small_w, small_c, small_pitch;
    int stride_h, stride_w, pad_h, pad_w;
    int kernel_h, kernel_w;
    int channels_per_item; /* conv2d_wgrad_panel: channels of big, a multiple of every MR; conv2d_wgrad_direct: of small
                            */
    int chunks;            /* gpu only: parts the rows are cut into; partial results are summed by a second kernel */
    int rows_per_chunk;
};

/* Rows of `small` that an item packs at a time. */
#define CONV2D_WGRAD_ROWS 256

/* Few pixels and a large filter, which is read where it lies and once (cl/cpu/conv2d_few.cl). `big` (with C channels)
 * and `small` (with K) are the images of conv2d_wgrad_args in all three directions, and `rows` the pixels of small.
 *
 * Forward and data gradient leave, for each tap,
 *     products[part][row][column],   column < stride
 * the filter's tap times the row's pixel of big (forward, `parts` sums a tap of `depth` channels each) or of small
 * (data gradient, one sum a tap); rows that do not meet big with this tap are left out. Then the products are added up
 * at each pixel of dst. Forward, columns are channels but for the last panel's, which are the last NR channels, so that
 * whole lanes are read: the first `overlap` of them are there twice. */
struct conv2d_few_args {
    int rows;
    int big_h, big_w, big_c, big_pitch;
    int small_h, small_w, small_c, small_pitch;
    int stride_h, stride_w, pad_h, pad_w;
    int kernel_h, kernel_w;
    int parts, depth;      /* forward: of the channels of big, each with a sum of its own */
    int slices, per_slice; /* data and weight gradient: of the channels of big */
    int stride, overlap;
    int gathered; /* conv2d_few_sum: dst is small (forward), not big */
    int has_bias, relu;
    int moments; /* conv2d_few_sum: the stride of the moments (norm.h) that each block leaves, whole panels; 0: none */
};

/* As many rows at most, */
#define CONV2D_FEW_ROWS 64
/* as many products that a pixel adds up, */
#define CONV2D_FEW_TERMS 64
/* as many channels multiplied at a time, and pixels of dst and panels added up by an item. */
#define CONV2D_FEW_DEPTH  64
#define CONV2D_FEW_BLOCK  16
#define CONV2D_FEW_PANELS 8

struct conv2d_sum_args {
    int count, chunks;
    int per_item;
};

/* im2col: col[row, (r S + s) C + c]; rows first_row .. first_row + rows - 1 of N Ho Wo. src: the image that is not
 * columns, also where it is written. */
struct im2col_args {
    int first_row, rows;
    int src_h, src_w, src_c, src_pitch;
    int out_h, out_w;
    int kernel_h, kernel_w;
    int stride_h, stride_w, pad_h, pad_w;
    int has_bias, relu;
    int count, per_item;
};

#endif
