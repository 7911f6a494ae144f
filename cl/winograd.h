/* Arguments of the Winograd kernels for 3x3 filters with stride 1 (Lavin and Gray, "Fast algorithms for convolutional
 * neural networks", 2016): F(4x4, 3x3) for forward and data gradient, F(3x3, 4x4) for the weight gradient, both on 6x6
 * tiles with the points 0, 1, -1, 2, -2 and infinity. */
#ifndef WINOGRAD_H
#define WINOGRAD_H

/* dst tile (ty, tx) reads src rows 4 ty - pad_h .. 4 ty - pad_h + 5, columns likewise. */
struct winograd_args {
    int src_h, src_w, src_c;
    int dst_h, dst_w, dst_c;
    int pad_h, pad_w;
    int tiles_h, tiles_w, tiles; /* tiles = N tiles_h tiles_w */
    int has_bias;
    int block;           /* tiles transformed at a time, a multiple of every MR */
    int panels_per_task; /* panels of 2 LANES output channels computed from one transformed block */
    int tasks, slots;    /* pieces of work, and the items that share them out */
    int slot_floats;     /* scratch of one item */
};

/* U = G g G', packed [panel][point][src_c][width]. */
struct winograd_filter_args {
    int src_c, dst_c;
    int width;      /* of a panel: 2 LANES */
    int transposed; /* data gradient: the filter's channels swap roles and it is turned by 180 degrees */
};

/* Input channels that an item of winograd_filter transforms. */
#define WINOGRAD_FILTER_CHANNELS 16

#endif
