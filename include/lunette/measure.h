/* How close two sets of pictures are, and whether one repeats the other.
 *
 * Everything here depends on the pictures and the seed alone: not on threads, nor on the machine beyond the last bits
 * of its logarithm and cosine. No function keeps state.
 */
#ifndef LUNETTE_MEASURE_H
#define LUNETTE_MEASURE_H

#include <stddef.h>
#include <stdint.h>

#include "data.h"
#include "status.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Pictures of one size, (count, height, width, channels) as a data set keeps them; borrowed. */
typedef struct lun_picture_set {
    const uint8_t *pixels;
    size_t count;
    int width, height, channels;
} lun_picture_set;

#define LUN_SLICED_MAX_LEVELS 12

typedef struct lun_sliced_params {
    int directions; /* 1 to 65536; 512 is what Karras et al. take */
    uint64_t seed;
    int threads; /* 0: one for each processor */
} lun_sliced_params;

typedef struct lun_sliced_level {
    int width, height;
    double distance;
} lun_sliced_level;

typedef struct lun_sliced {
    double pixels; /* between whole pictures, each number of them v / 255 */
    int levels;    /* of the pyramid, from the full size down; 0 where a side is shorter than 7 */
    lun_sliced_level level[LUN_SLICED_MAX_LEVELS]; /* between patches, times 1000 */
    double patches;                                /* the levels' mean; NaN without levels */
} lun_sliced;

/* The sliced Wasserstein distance of two sets of as many vectors x_i and y_i of R^d, over directions u_k (normal
 * deviates scaled to length 1; Rabin et al. 2011): mean over k of  mean over i of |a_(i) - b_(i)|,   a_(i) the i-th
 * smallest of <u_k, x_i>, b_(i) of <u_k, y_i>, that is, the mean over directions of the first Wasserstein distance of
 * what the sets are along them. It is 0 for equal sets; for different samples of one thing it falls as the count grows:
 * compare values of equal counts only.
 *
 *   pixels   of whole pictures: what is where, brightness and colour
 *   level    of patches, as in Karras et al. 2018 (Progressive Growing of GANs, section 5): 7 x 7 patches at 128 random
 *            places of each picture (fewer above 8192 pictures: 2^20 in all), the same places in both sets, from each
 *            level of the Laplacian pyramid (Burt and Adelson 1983: halved as long as both sides stay at least 16;
 * filter 1 4 6 4 1, borders mirrored about the outermost pixel; the last level is the small picture itself). Every
 *            channel of a set's patches is shifted and scaled to mean 0 and variance 1 (by 0 where it does not vary).
 *            Level by level, from coarse shapes to fine texture, wherever they are
 *
 * LUN_ERR_USAGE unless both sets have the same size, channels and count, at least 1, and `params` is in range;
 * LUN_ERR_MEMORY. Needs about 5 bytes for each number of the pictures of both sets and 196 for each channel of a patch.
 */
LUN_API lun_status lun_sliced_wasserstein(const lun_picture_set *a, const lun_picture_set *b,
                                          const lun_sliced_params *params, lun_sliced *out);

typedef struct lun_nearest {
    size_t index;    /* of set b */
    int mirrored;    /* it is nearest mirrored left to right */
    double distance; /* square root of the mean of (a - b)^2 over all pixels and channels, 0 to 255 */
} lun_nearest;

/* For pictures first, first + step, ... of `a`, `count` of them, the nearest of `b`, plain or mirrored (the plain one
 * of equals, and the first). `not_itself` not 0: a and b are the same set, and a picture is not compared with the one
 * of its own index, neither plain nor mirrored; b needs two then. LUN_ERR_USAGE for sets that do not fit each other or
 * an index outside; LUN_ERR_MEMORY. */
LUN_API lun_status lun_nearest_find(const lun_picture_set *a, size_t first, size_t step, size_t count,
                                    const lun_picture_set *b, int not_itself, int threads, lun_nearest *out);

#ifdef __cplusplus
}
#endif
#endif
