/* Candidates become pixels: found in the cache or decoded, chunk by chunk, by several threads. Private to src/data. */
#ifndef LUN_DATA_LOADING_H
#define LUN_DATA_LOADING_H

#include <stdatomic.h>

#include "dataset.h"
#include "patience.h"
#include "pixel_cache.h"

#define LUN_LOADING_NONE SIZE_MAX

/* What the threads share. Entry i is written by the thread that took number i and read after they have ended. */
typedef struct lun_loading {
    const lun_dataset_params *params;
    lun_folder folder;
    int channels;
    size_t bytes;             /* of a picture of the asked size: the least that one takes */
    size_t total;             /* bytes of the pixels loaded so far */
    char *path, *key;         /* of the cache; NULL: none is wanted */
    lun_pixel_cache old;      /* as it was found */
    size_t *match;            /* the candidate's place in it, or LUN_LOADING_NONE */
    lun_pixel_entry *entries; /* of the candidates that are usable */
    char **reasons;           /* NULL: usable, as far as is known */
    bool *longer;             /* the file goes on behind its picture */
    bool judged;              /* what is skipped, and what is odd, has been said */
    lun_patience *patience;

    /* The chunk at hand: candidates [next, end) are to be loaded; the pixels of candidate i go to pixels[i - first]. */
    size_t first, end;
    uint8_t **pixels; /* of each; NULL where it is not usable */
    atomic_size_t next;
    atomic_int readers; /* threads at it */
    atomic_int failed;  /* a lun_status that ends the whole: memory ran out */
    atomic_flag said;   /* that pixels in the cache are damaged */
    pthread_mutex_t big;
} lun_loading;

/* Decode candidate `i` into fresh pixels, NULL where it is not usable: its reason is then known. */
lun_status lun_loading_decode(lun_loading *l, size_t i, uint8_t **pixels);

/* Load every candidate, without gaps where one is unusable: into `all`, which has room for every candidate, or with
 * NULL into `writer`. */
lun_status lun_loading_run(lun_loading *l, uint8_t **all, lun_pixel_writer *writer);

/* Log what is skipped, in the order of names, and what is odd; LUN_ERR_DATA if too much is unusable. Says it once. */
lun_status lun_loading_judge(lun_loading *l, size_t *usable);

/* LUN_ERR_MEMORY for more bytes than are a good idea: more than that is swapped or gets the process killed, whatever
 * malloc() promises. */
lun_status lun_loading_check_memory(const lun_loading *l, double needed);

#endif
