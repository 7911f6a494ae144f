/* A data set from the inside. Private to src/data: dataset_open.c makes it, dataset.c reads it. */
#ifndef LUN_DATA_DATASET_H
#define LUN_DATA_DATASET_H

#include <stdatomic.h>

#include "picture.h"

typedef struct lun_extent {
    int width, height;
} lun_extent;

struct lun_dataset {
    int width, height, channels, orient;
    lun_fit fit;
    size_t count, skipped;
    size_t bytes; /* of one picture as it is shown */
    char **names;
    uint64_t hash;
    bool alike;          /* all pictures are the same */
    atomic_int holders;  /* who has to close it, see lun_dataset_hold() */
    lun_extent *extents; /* of the pictures as they are kept; NULL: all are width x height */
    char **classes;      /* NULL without labels */
    int class_count;
    int *labels;

    uint8_t **pictures; /* their pixels; NULL: they lie in the cache, and what follows says where */
    char *path;         /* of the cache */
    int file, folder;
    uint64_t *offsets;
    uint64_t *hashes; /* of the pixels */
    /* What may still change while many threads read. */
    atomic_uchar *checked; /* pictures whose hash has been found right */
    atomic_flag *said;     /* that the cache is damaged */
};

/* The size of picture `i` as it is kept. */
static inline lun_extent lun_dataset_extent(const lun_dataset *d, size_t i)
{
    return d->extents ? d->extents[i] : (lun_extent){d->width, d->height};
}

/* The draws of sample `number`: is it mirrored; where its window lies, 0..room in each direction. */
bool lun_augment_flip(const lun_augment *augment, uint64_t number);
void lun_augment_window(const lun_augment *augment, uint64_t number, int room_x, int room_y, int *x, int *y);

/* The classes of a data set whose names are known. */
lun_status lun_dataset_find_classes(lun_dataset *dataset);
void lun_dataset_free_classes(lun_dataset *dataset);

/* Decode NAME in the open folder and bring it to the data set's size and channels. `decode` must be ended by the
 * caller, as after lun_picture_decode(). */
lun_status lun_dataset_decode(int folder, const char *name, lun_decode *decode, lun_fit fit, int width, int height,
                              lun_picture *out);

#endif
