/* Arguments of the Winograd weight gradient. */
#ifndef WINOGRAD_WGRAD_H
#define WINOGRAD_WGRAD_H

struct winograd_wgrad_args {
    int big_h, big_w, big_c;
    int small_h, small_w, small_c;
    int pad_h, pad_w;
    int tiles_h, tiles_w, tiles;
    int block;             /* tiles transformed at a time */
    int channels_per_task; /* of `big`; a multiple of every MR and LANES */
    int panels_per_task;
    int tasks, slots;
    int slot_floats;
};

#endif
