/* Arguments of resample.cl. */
#ifndef RESAMPLE_H
#define RESAMPLE_H

/* dst is `pixels` x `channels`, its lines dst_w long. An item does `rows` pixels and `width` channels; `blocks` items
 * lie beside each other. */
struct resample_args {
    int pixels, dst_w, channels, rows, width, blocks;
    float scale;
};

/* src is src_h x src_w planes of `rows` x `columns`, dst dst_w a line of them, transposed. `down` x `across` tiles of
 * FILTER_TILE make a plane. last_h, last_w: R - 1 and S - 1 of the smaller of the two. */
struct filter_args {
    int rows, columns, src_h, src_w, dst_w, last_h, last_w, down, across;
};

#endif
