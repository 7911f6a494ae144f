/* The sliced Wasserstein distance: descriptors, directions, sorting. */
#include <lunette/measure.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/philox.h"
#include "workers.h"

#define PATCH        7
#define PATCHES      128
#define MOST_PATCHES ((size_t)1 << 20)
#define LEAST_SIDE   16 /* of a level of the pyramid */
#define BLOCK        16 /* directions at a time, so that a descriptor is read once for all of them */

/* What the draws are for; the number of the draw's item is below. */
enum { SUB_PLACES = 0, SUB_DIRECTIONS = 1000 };

/* ---- Distance between two sets of descriptors
 * ----------------------------------------------------------------------------------- */

typedef struct job {
    const float *set[2]; /* (count, dims) */
    size_t count, dims;
    uint64_t seed;
    uint32_t sub;
    int directions;
    float *scratch;   /* for each thread: BLOCK x dims directions, 2 x BLOCK x count projections, count to sort with */
    double *distance; /* of each direction */
} job;

static size_t scratch_of(const job *j)
{
    return BLOCK * j->dims + (2 * BLOCK + 1) * j->count;
}

/* Direction k, into every BLOCK-th place. Box and Muller's two normals from two draws each. */
static void direct(const job *j, int k, float *to)
{
    double square = 0;
    uint32_t words[4] = {0};
    double second = 0;
    for (size_t d = 0; d < j->dims; d++) {
        double value = second;
        if (d % 2 == 0) {
            if (d % 4 == 0)
                lun_random_block(j->seed, LUN_RANDOM_MEASURE, (uint64_t)k, j->sub, (uint32_t)(d / 4), words);
            const uint32_t *w = words + d % 4;
            const double radius = sqrt(-2 * log(((double)w[0] + 0.5) * 0x1p-32));
            const double angle = 2 * 3.14159265358979323846 * (((double)w[1] + 0.5) * 0x1p-32);
            value = radius * cos(angle);
            second = radius * sin(angle);
        }
        to[d * BLOCK] = (float)value;
        square += value * value;
    }
    const float scale = (float)(1 / sqrt(square));
    for (size_t d = 0; d < j->dims; d++)
        to[d * BLOCK] *= scale;
}

/* (count, dims) times (dims, BLOCK): to (BLOCK, count). Each sum runs over d in order, whatever the compiler makes of
 * the loop over directions. */
static void project(const float *set, size_t count, size_t dims, const float *directions, float *to)
{
    for (size_t i = 0; i < count; i++, set += dims) {
        float sum[BLOCK] = {0};
        for (size_t d = 0; d < dims; d++) {
            const float x = set[d], *u = directions + d * BLOCK;
            for (int k = 0; k < BLOCK; k++)
                sum[k] += x * u[k];
        }
        for (int k = 0; k < BLOCK; k++)
            to[(size_t)k * count + i] = sum[k];
    }
}

/* Sort by the bits of the numbers, 11 at a time: a float's order is that of its bits once the sign is seen to. */
static void sort_floats(float *values, float *other, size_t count)
{
    size_t starts[3][2048] = {{0}};
    uint32_t *from = (uint32_t *)(void *)values, *to = (uint32_t *)(void *)other;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        bits ^= bits >> 31 ? UINT32_MAX : UINT32_C(1) << 31;
        memcpy(&from[i], &bits, sizeof bits);
        starts[0][bits & 2047]++;
        starts[1][bits >> 11 & 2047]++;
        starts[2][bits >> 22]++;
    }
    for (int pass = 0; pass < 3; pass++) {
        size_t at = 0;
        for (int k = 0; k < 2048; k++) {
            const size_t here = starts[pass][k];
            starts[pass][k] = at;
            at += here;
        }
    }
    for (int pass = 0; pass < 3; pass++) {
        for (size_t i = 0; i < count; i++)
            to[starts[pass][from[i] >> 11 * pass & 2047]++] = from[i];
        uint32_t *swap = from;
        from = to;
        to = swap;
    }
    /* Three passes: what is sorted lies in `other`. */
    for (size_t i = 0; i < count; i++) {
        const uint32_t bits = from[i] ^ (from[i] >> 31 ? UINT32_C(1) << 31 : UINT32_MAX);
        float value;
        memcpy(&value, &bits, sizeof value);
        values[i] = value;
    }
}

static void measure_block(void *payload, int thread, size_t block)
{
    job *j = payload;
    const int first = (int)block * BLOCK;
    const int end = first + BLOCK < j->directions ? first + BLOCK : j->directions;
    float *directions = j->scratch + (size_t)thread * scratch_of(j);
    float *projected[2] = {directions + BLOCK * j->dims, directions + BLOCK * j->dims + BLOCK * j->count};
    float *other = projected[1] + BLOCK * j->count;
    for (int k = first; k < first + BLOCK; k++)
        direct(j, k, directions + (k - first));
    for (int s = 0; s < 2; s++)
        project(j->set[s], j->count, j->dims, directions, projected[s]);
    for (int k = first; k < end; k++) {
        float *x = projected[0] + (size_t)(k - first) * j->count, *y = projected[1] + (size_t)(k - first) * j->count;
        double sum = 0;
        sort_floats(x, other, j->count);
        sort_floats(y, other, j->count);
        for (size_t i = 0; i < j->count; i++)
            sum += fabs((double)x[i] - (double)y[i]);
        j->distance[k] = sum / (double)j->count;
    }
}

/* `sub` sets this distance's directions off from the others'. */
static lun_status distance_of(const float *a, const float *b, size_t count, size_t dims, uint32_t sub,
                              const lun_sliced_params *params, double *out)
{
    job j = {.set = {a, b},
             .count = count,
             .dims = dims,
             .seed = params->seed,
             .sub = sub,
             .directions = params->directions};
    const size_t blocks = ((size_t)params->directions + BLOCK - 1) / BLOCK;
    j.scratch = lun_malloc((size_t)lun_workers_count(params->threads, blocks) * scratch_of(&j), sizeof *j.scratch,
                           "projections");
    j.distance = lun_malloc((size_t)params->directions, sizeof *j.distance, "projections");
    if (!j.scratch || !j.distance) {
        free(j.scratch);
        free(j.distance);
        return LUN_ERR_MEMORY;
    }
    lun_workers_run(params->threads, blocks, measure_block, &j);
    double sum = 0;
    for (int k = 0; k < params->directions; k++)
        sum += j.distance[k];
    *out = sum / params->directions;
    free(j.scratch);
    free(j.distance);
    return LUN_OK;
}

/* ---- The pyramid
 * ---------------------------------------------------------------------------------------------------------- */

static const float filter[5] = {1.0f / 16, 4.0f / 16, 6.0f / 16, 4.0f / 16, 1.0f / 16};

/* Index i of `count`, mirrored about the outermost ones. */
static int mirrored(int i, int count)
{
    if (count == 1)
        return 0;
    i = i < 0 ? -i : i;
    return i >= count ? 2 * (count - 1) - i : i;
}

/* One plane. Filter src (height, width) and keep every second pixel: dst (ceil(height / 2), ceil(width / 2)); `middle`
 * has room for height * ceil(width / 2). */
static void shrink(const float *src, int width, int height, float *middle, float *dst)
{
    const int half_w = (width + 1) / 2, half_h = (height + 1) / 2;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < half_w; x++) {
            float sum = 0;
            for (int k = -2; k <= 2; k++)
                sum += filter[k + 2] * src[(size_t)y * (size_t)width + (size_t)mirrored(2 * x + k, width)];
            middle[(size_t)y * (size_t)half_w + (size_t)x] = sum;
        }
    }
    for (int y = 0; y < half_h; y++) {
        for (int x = 0; x < half_w; x++) {
            float sum = 0;
            for (int k = -2; k <= 2; k++)
                sum += filter[k + 2] * middle[(size_t)mirrored(2 * y + k, height) * (size_t)half_w + (size_t)x];
            dst[(size_t)y * (size_t)half_w + (size_t)x] = sum;
        }
    }
}

/* dst (height, width) -= src (ceil(height / 2), ceil(width / 2)) put to every second pixel among zeros, filtered, times
 * 4: times 2 in each direction. `middle` as for shrink(). */
static void subtract_grown(const float *src, int width, int height, float *middle, float *dst)
{
    const int half_w = (width + 1) / 2;
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < half_w; x++) {
            float sum = 0;
            for (int k = -2; k <= 2; k++) {
                const int from = mirrored(y + k, height);
                if (from % 2 == 0)
                    sum += 2 * filter[k + 2] * src[(size_t)(from / 2) * (size_t)half_w + (size_t)x];
            }
            middle[(size_t)y * (size_t)half_w + (size_t)x] = sum;
        }
    }
    for (int y = 0; y < height; y++) {
        for (int x = 0; x < width; x++) {
            float sum = 0;
            for (int k = -2; k <= 2; k++) {
                const int from = mirrored(x + k, width);
                if (from % 2 == 0)
                    sum += 2 * filter[k + 2] * middle[(size_t)y * (size_t)half_w + (size_t)(from / 2)];
            }
            dst[(size_t)y * (size_t)width + (size_t)x] -= sum;
        }
    }
}

/* ---- Descriptors
 * ---------------------------------------------------------------------------------------------------------- */

/* Of all pictures of both sets, level by level: planes (2 count channels, height, width). */
typedef struct pyramid {
    size_t planes;
    int width, height;
    float *now, *next, *middle;
} pyramid;

static size_t plane_of(int width, int height)
{
    return (size_t)width * (size_t)height;
}

/* `now` becomes the level's Laplacian and `next` what remains, unless the level is the last. */
static void split_level(pyramid *p)
{
    const size_t whole = plane_of(p->width, p->height), half = plane_of((p->width + 1) / 2, (p->height + 1) / 2);
    for (size_t i = 0; i < p->planes; i++) {
        shrink(p->now + i * whole, p->width, p->height, p->middle, p->next + i * half);
        subtract_grown(p->next + i * half, p->width, p->height, p->middle, p->now + i * whole);
    }
}

static size_t patches_of(size_t count)
{
    return count * PATCHES <= MOST_PATCHES ? PATCHES : count >= MOST_PATCHES ? 1 : MOST_PATCHES / count;
}

/* The patches of one set, (count * patches, channels * PATCH * PATCH), each channel brought to mean 0 and variance 1.
 */
static void describe(const pyramid *p, size_t first_plane, size_t count, int channels, int level, uint64_t seed,
                     float *to)
{
    const size_t patches = patches_of(count), area = PATCH * PATCH, dims = (size_t)channels * area;
    for (size_t i = 0; i < count; i++) {
        const float *planes = p->now + (first_plane + i * (size_t)channels) * plane_of(p->width, p->height);
        for (size_t k = 0; k < patches; k++) {
            float *patch = to + (i * patches + k) * dims;
            const uint32_t sub = SUB_PLACES + (uint32_t)level, draw = 2 * (uint32_t)k;
            const uint32_t room_x = (uint32_t)(p->width - PATCH + 1), room_y = (uint32_t)(p->height - PATCH + 1);
            const size_t x = lun_random_below(seed, LUN_RANDOM_MEASURE, i, sub, draw, room_x);
            const size_t y = lun_random_below(seed, LUN_RANDOM_MEASURE, i, sub, draw + 1, room_y);
            for (size_t c = 0; c < (size_t)channels; c++) {
                const float *from = planes + c * plane_of(p->width, p->height) + y * (size_t)p->width + x;
                for (size_t row = 0; row < PATCH; row++)
                    memcpy(patch + c * area + row * PATCH, from + row * (size_t)p->width, PATCH * sizeof *patch);
            }
        }
    }
    const size_t all = count * patches;
    for (size_t c = 0; c < (size_t)channels; c++) {
        double mean = 0, variance = 0;
        for (size_t i = 0; i < all; i++) {
            for (size_t e = 0; e < area; e++)
                mean += (double)to[i * dims + c * area + e];
        }
        mean /= (double)(all * area);
        for (size_t i = 0; i < all; i++) {
            for (size_t e = 0; e < area; e++) {
                const double d = (double)to[i * dims + c * area + e] - mean;
                variance += d * d;
            }
        }
        variance /= (double)(all * area);
        /* What varies by rounding alone does not vary. */
        const double scale = variance > 1e-12 ? 1 / sqrt(variance) : 0;
        for (size_t i = 0; i < all; i++) {
            for (size_t e = 0; e < area; e++) {
                float *value = &to[i * dims + c * area + e];
                *value = (float)(((double)*value - mean) * scale);
            }
        }
    }
}

static lun_status measure_levels(pyramid *p, size_t count, int channels, const lun_sliced_params *params,
                                 lun_sliced *out)
{
    const size_t dims = (size_t)channels * PATCH * PATCH, elements = count * patches_of(count) * dims;
    if (p->width < PATCH || p->height < PATCH)
        return LUN_OK;
    float *a = lun_malloc(elements, sizeof *a, "patches"), *b = lun_malloc(elements, sizeof *b, "patches");
    lun_status status = a && b ? LUN_OK : LUN_ERR_MEMORY;
    double sum = 0;
    for (bool last = false; status == LUN_OK && !last;) {
        const int half_w = (p->width + 1) / 2, half_h = (p->height + 1) / 2, level = out->levels;
        last = half_w < LEAST_SIDE || half_h < LEAST_SIDE || level + 1 == LUN_SLICED_MAX_LEVELS;
        if (!last)
            split_level(p);
        describe(p, 0, count, channels, level, params->seed, a);
        describe(p, count * (size_t)channels, count, channels, level, params->seed, b);
        lun_sliced_level *to = &out->level[out->levels++];
        *to = (lun_sliced_level){p->width, p->height, 0};
        status = distance_of(a, b, count * patches_of(count), dims, SUB_DIRECTIONS + 1 + (uint32_t)level, params,
                             &to->distance);
        to->distance *= 1000;
        sum += to->distance;
        float *swap = p->now;
        p->now = p->next;
        p->next = swap;
        p->width = half_w;
        p->height = half_h;
    }
    if (out->levels > 0)
        out->patches = sum / out->levels;
    free(a);
    free(b);
    return status;
}

/* Planes of v / 255, picture by picture, channel by channel. */
static void to_planes(const lun_picture_set *s, float *dst)
{
    const size_t area = plane_of(s->width, s->height), channels = (size_t)s->channels;
    const uint8_t *src = s->pixels;
    for (size_t i = 0; i < s->count; i++, src += area * channels, dst += area * channels) {
        for (size_t c = 0; c < channels; c++) {
            for (size_t e = 0; e < area; e++)
                dst[c * area + e] = (float)src[e * channels + c] / 255.0f;
        }
    }
}

static lun_status measure(const lun_picture_set *a, const lun_picture_set *b, const lun_sliced_params *params,
                          pyramid *p, lun_sliced *out)
{
    const size_t dims = plane_of(a->width, a->height) * (size_t)a->channels;
    size_t bytes = 0;
    if (!lun_mul_size(2 * sizeof(float), dims, &bytes) || !lun_mul_size(bytes, a->count, &bytes))
        return lun_fail(LUN_ERR_MEMORY, "%zu pictures are too many to compare", a->count);
    p->now = lun_malloc(bytes, 1, "pictures to compare");
    p->next =
        lun_malloc(p->planes * plane_of((a->width + 1) / 2, (a->height + 1) / 2), sizeof(float), "pictures to compare");
    p->middle = lun_malloc(plane_of((a->width + 1) / 2, a->height), sizeof(float), "pictures to compare");
    if (!p->now || !p->next || !p->middle)
        return LUN_ERR_MEMORY;
    to_planes(a, p->now);
    to_planes(b, p->now + a->count * dims);
    LUN_TRY(distance_of(p->now, p->now + a->count * dims, a->count, dims, SUB_DIRECTIONS, params, &out->pixels));
    return measure_levels(p, a->count, a->channels, params, out);
}

lun_status lun_sliced_wasserstein(const lun_picture_set *a, const lun_picture_set *b, const lun_sliced_params *params,
                                  lun_sliced *out)
{
    if (a->width != b->width || a->height != b->height || a->channels != b->channels || a->count != b->count ||
        a->count < 1 || a->width < 1 || a->height < 1 || a->channels < 1 || a->channels > 4)
        return lun_fail(LUN_ERR_USAGE, "a distance between sets of pictures that differ in size, channels or number");
    if (params->directions < 1 || params->directions > 65536)
        return lun_fail(LUN_ERR_USAGE, "%d directions: 1 to 65536 are possible", params->directions);
    lun_sliced result = {.patches = NAN};
    pyramid p = {.planes = 2 * a->count * (size_t)a->channels, .width = a->width, .height = a->height};
    const lun_status status = measure(a, b, params, &p, &result);
    free(p.now);
    free(p.next);
    free(p.middle);
    if (status == LUN_OK)
        *out = result;
    return status;
}
