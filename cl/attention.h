/* Arguments of the attention kernels, and how their scratch lies.
 *
 * A pixel has a row of 3 C channels in qkv: head h's q begins at channel h head_step, its k at k_first and its v at
 * v_first beyond that. In dst and ddst (C channels a pixel) head h begins at h width; lse and delta have a number a
 * head and pixel: (n pixels + pixel) heads + h. */
#ifndef ATTENTION_H
#define ATTENTION_H

struct attention_args {
    int rows;                   /* N pixels */
    int pixels;                 /* of an image, H W: as many queries and keys */
    int channels, heads, width; /* C; C = heads width */
    int head_step, k_first, v_first;
    float scale; /* of the scores: 1 / sqrt(width) */
    /* attention.cl: an item makes so many channels of a head's row (at most ATTENTION_COLUMNS); items a row. */
    int columns, pieces;
    /* cpu/attention.cl: a task is some blocks of ATTENTION_BLOCK pixels of one image and head, `chunks` tasks are all;
     * `slots` items share the tasks, each with scratch of its own. */
    int blocks, chunks, tasks, slots;
    int slot_floats;
};

/* Queries, and keys, that are dealt with at a time: S of that size stays in the nearest caches. A multiple of every MR
 * and every NR. */
#define ATTENTION_BLOCK 96

#endif
