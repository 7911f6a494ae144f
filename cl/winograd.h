/* Arguments of the Winograd kernels (Lavin and Gray, "Fast algorithms for convolutional neural networks", 2016) that
 * compute conv2d and conv2d_transpose. With TAPS and OUT as in winograd_transform.h, the filter is square, of stride *
 * TAPS taps a side, so a stride of 2 falls into two phases a side, each of which is a convolution with stride 1. In one
 * dimension, with pad p and for a destination j of stride 1 in its phase:
 *
 *     conv2d            dst[j]            = sum over q < stride, a of src[stride (j + a) - p + q] w[stride a + q]
 *     conv2d_transpose  dst[stride j + r] = sum over a of src[j + (r + p) / stride - (TAPS - 1) + a]
 *                                                         w[q + stride (TAPS - 1 - a)],   q = (r + p) % stride
 *
 * So conv2d has stride^2 phases of the source, which lie behind one another in the depth of one product, and
 * conv2d_transpose stride^2 phases of the destination, which are tasks with a filter each. */
#ifndef WINOGRAD_H
#define WINOGRAD_H

struct winograd_args {
    int src_h, src_w, src_c, src_pitch; /* pitch: floats from one pixel to the next */
    int dst_h, dst_w, dst_c, dst_pitch;
    int stride, pad_h, pad_w;
    int transposed;
    int has_bias, relu;
    int moments;                 /* stride of the moments (norm.h) of dst that are left, whole panels; 0: none */
    int moments_tiles;           /* of so many tiles each, a divisor of `block` */
    int tiles_h, tiles_w, tiles; /* of one phase of the destination; tiles = N tiles_h tiles_w */
    int phase_depth;             /* src_c; rounded up to whole lanes where phases of the source share the depth */
    int depth_block;             /* depth of the piece of a panel that is used on all tiles before the next */
    int block;                   /* tiles transformed at a time, a multiple of MR */
    int panels_per_task;         /* panels of 2 LANES output channels computed from one transformed block ... */
    int panels_per_pass;         /* ... so many at a time */
    int stream;                  /* dst is too large to be found in a cache later */
    int tasks, slots;            /* pieces of work, and the items that share them out */
    int slot_floats;             /* scratch of one item */
};

/* U = G g G', packed [phase of the destination][panel][point][depth][width]. */
struct winograd_filter_args {
    int src_c, dst_c;
    int stride, pad_h, pad_w;
    int phase_depth;
    int width;      /* of a panel: 2 LANES */
    int transposed; /* the filter's channels swap roles */
    int stream;     /* U is written past the caches */
};

/* Channels of the source that an item of winograd_filter transforms. */
#define WINOGRAD_FILTER_CHANNELS 16

/* Floats between points and the like: a cache line more than they need, for distances of 2^k would send what is written
 * or read together to one set of a cache. */
#define WINOGRAD_SPACED(floats) ((floats) + 16)

#endif
