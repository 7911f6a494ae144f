/* The batches of a run in their order, varied and labelled, read ahead of the step by a thread of its own, so that no
 * step waits for the disk. Private.
 *
 * The order of the pictures depends on (seed, step) alone: whole batches of a fresh permutation each epoch; how a
 * picture is varied depends on the seed and the number of the sample. The thread only runs ahead of it, by as many
 * batches as fit into 64 MiB, at most three; without it (the system allows no more) each batch is made when it is asked
 * for, with the same numbers.
 */
#ifndef LUN_FEED_H
#define LUN_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lunette/data.h>

/* Which pictures a step takes. */
typedef struct lun_order {
    uint64_t seed, epoch;
    size_t count, batch;
    uint32_t *pictures; /* the permutation of `epoch` */
} lun_order;

/* `count` is at least `batch` and below 2^32. Release with lun_order_free, on failure too. */
lun_status lun_order_init(lun_order *order, uint64_t seed, size_t count, size_t batch);
void lun_order_free(lun_order *order);
/* The pictures of step `step` (0: the first) into index[0..batch). */
void lun_order_at(lun_order *order, uint64_t step, uint32_t *index);

typedef struct lun_feed lun_feed;

typedef struct lun_feed_params {
    const lun_dataset *dataset;
    const uint32_t *pictures; /* those to train on, copied; NULL: all */
    size_t count;             /* of them, with NULL it does not matter */
    size_t batch;
    uint64_t seed, step; /* begin with the batch of `step` */
    lun_augment
        augment; /* picture i of the batch of step s is sample number s * batch + i; the seed is taken from above */
    double label_dropout;
    /* Called a few times a second while lun_feed_next() waits for a picture, as on a disk that hangs; not 0: wait no
     * longer. May be NULL. */
    int (*waiting)(void *payload);
    void *payload;
    double patience; /* seconds of waiting after which that is said, again and again; 0: a minute */
} lun_feed_params;

typedef struct lun_feed_batch {
    const float *images;   /* (batch, channels, height, width) */
    const int32_t *labels; /* (batch): a class, or for samples that are told none the number of classes; NULL of a data
                              set without labels */
} lun_feed_batch;

/* Is sample `number` told no class? Depends on (seed, number) alone. */
bool lun_feed_drops_label(uint64_t seed, uint64_t number, double label_dropout);

lun_status lun_feed_start(const lun_feed_params *params, lun_feed **out);
/* The next batch, which stays until the next call; without images where `waiting` has ended the wait. What went wrong
 * while it was read fails here, and here only. */
lun_status lun_feed_next(lun_feed *feed, lun_feed_batch *batch);
/* End the thread (it finishes the batch at hand) and free; *feed may be NULL. A thread that a disk holds for more than
 * some seconds is left to itself, and frees what it uses when it is let go. */
void lun_feed_stop(lun_feed **feed);

#endif
