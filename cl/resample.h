/* Arguments of resample.cl. */
#ifndef RESAMPLE_H
#define RESAMPLE_H

/* dst is `pixels` x `channels`, its lines dst_w long. An item does `rows` pixels and `width` channels; `blocks` items
 * lie beside each other. */
struct resample_args {
    int pixels, dst_w, channels, rows, width, blocks;
    float scale;
};

#endif
