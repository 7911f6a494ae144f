/* lunette compare: the two sets of pictures. compare_pictures.c loads them, compare.c measures. */
#ifndef COMPARE_H
#define COMPARE_H

#include <lunette/lunette.h>
#include <lunette/measure.h>

typedef struct compare_args {
    const char *paths[2], *out, *cache;
    int size[2], grid[2], grid_count, crop, channels, directions, threads;
    uint64_t seed;
    double holdout;
    bool size_given, grid_given, channels_given, holdout_given, json, no_cache;
} compare_args;

/* Pictures in memory, with names. */
typedef struct gallery {
    lun_picture_set set;
    uint8_t *pixels;
    char **names;
} gallery;

typedef struct ranked {
    double distance;
    uint32_t picture; /* of A */
} ranked;

typedef struct comparison {
    const compare_args *args;
    lun_fit fit;
    int width, height, channels;
    gallery a, b;
    uint32_t *order; /* of B: held out, then the others */
    size_t held;
    size_t count; /* pictures of each set that the distances are between */
    lun_sliced distance, baseline;
    bool has_baseline;
    lun_nearest *nearest; /* of each picture of A; index: of B */
    ranked *by_distance;
    double own_median; /* from a picture of B to its nearest other; NaN of one picture */
} comparison;

/* A set's memory; of a picture its bytes. */
void compare_free(gallery *g);
size_t compare_bytes(const gallery *g);
/* Set A is a folder, or one file with a grid of pictures as lunette sample writes it; it decides size and channels. Set
 * B, a folder, is loaded as A is, and divided into held out and others. Errors name the path. */
lun_status compare_load_a(comparison *c);
lun_status compare_load_b(comparison *c);

#endif
