/* Arguments of elementwise.cl. Counts are elements; an item does `grain` of `count`, starting at item * grain. */
#ifndef ELEMENTWISE_H
#define ELEMENTWISE_H

struct flat_args {
    int count, grain;
};

/* The same on images, some of which lie with more than their channels from one pixel to the next: of `pixels` pixels an
 * item takes `rows`, of their channels `width`; `blocks` items lie beside each other. The pitches of the sources and of
 * the destination; b's is not used where there is one source. */
struct pitched_args {
    int pixels, channels, rows, width, blocks, a_pitch, b_pitch, dst_pitch;
};

/* Images seen as pixels x channels. Of each sample's `pixels` an item takes `rows`, of the channels `width`;
 * `blocks` items lie beside each other and `pieces` items make a sample. */
struct channel_args {
    int pixels, channels, rows, width, blocks, pieces;
};

/* Copy `channels` channels of every one of `pixels` pixels from channel src_first of src_channels to dst_first of
 * dst_channels, which are the floats from one pixel to the next. Cut as above, without samples. */
struct copy_args {
    int pixels, channels, src_first, src_channels, dst_first, dst_channels, rows, width, blocks;
};

struct embed_args {
    int steps, channels, width, blocks; /* table rows; their length; an item's part; items a row */
};

/* The gradient of a table: an item does `width` of `channels` columns of one row, `blocks` items a row. */
struct embed_backward_args {
    int batch, rows, channels, width, blocks;
};

struct noise_args {
    int count, grain, pieces, steps; /* elements a sample; an item's; items a sample; table rows */
};

struct sample_args {
    int count, grain, clip; /* clip: enum lun_clip */
};

/* eps has twice the channels. Of `pixels` pixels and `channels` channels an item takes rows x width; `blocks` items lie
 * beside each other. */
struct sample_wide_args {
    int pixels, channels, rows, width, blocks, clip, learned;
};

struct store_args {
    int slots;
};

struct loss_backward_args {
    int count, grain, kind; /* kind: enum lun_loss_kind */
    float delta, scale;     /* scale: 1 / count */
};

#endif
