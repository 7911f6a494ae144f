/* A data set from the inside. Private to src/data: dataset_open.c makes it, dataset.c reads it. */
#ifndef LUN_DATA_DATASET_H
#define LUN_DATA_DATASET_H

#include <stdatomic.h>

#include "picture.h"

struct lun_dataset {
    int width, height, orient;
    lun_fit fit;
    size_t count, skipped;
    size_t bytes; /* of one picture */
    char **names;
    uint64_t hash;

    uint8_t *pixels; /* all of them; NULL: they lie in the cache, and what follows says where */
    char *path;      /* of the cache */
    int file, folder;
    uint64_t pixels_at;
    size_t *slots;    /* place in the file; NULL: picture i is the i-th */
    uint64_t *hashes; /* of the pixels */
    /* What may still change while many threads read. */
    atomic_uchar *checked; /* pictures whose hash has been found right */
    atomic_flag *said;     /* that the cache is damaged */
};

/* Decode NAME in the open folder and bring it to the data set's size. `decode` must be ended by the caller, as after
 * lun_picture_decode(). */
lun_status lun_dataset_decode(int folder, const char *name, lun_decode *decode, lun_fit fit, int width, int height,
                              lun_picture *out);

#endif
