/* The nearest picture of another set. */
#include <lunette/measure.h>

#include <math.h>
#include <stdlib.h>

#include "base/base.h"
#include "workers.h"

typedef struct search {
    const lun_picture_set *a, *b;
    size_t first, step;
    bool not_itself;
    uint8_t *mirrored; /* a picture for each thread */
    lun_nearest *out;
} search;

static size_t elements_of(const lun_picture_set *s)
{
    return (size_t)s->width * (size_t)s->height * (size_t)s->channels;
}

static void mirror(const lun_picture_set *s, const uint8_t *src, uint8_t *dst)
{
    const size_t channels = (size_t)s->channels, width = (size_t)s->width;
    for (int y = 0; y < s->height; y++, src += width * channels, dst += width * channels) {
        for (size_t x = 0; x < width; x++) {
            for (size_t c = 0; c < channels; c++)
                dst[x * channels + c] = src[(width - 1 - x) * channels + c];
        }
    }
}

/* The sum of squares, given up once it reaches `limit`. A block's sum fits 32 bits: 4096 * 255^2 < 2^28.1. */
static uint64_t difference(const uint8_t *a, const uint8_t *b, size_t count, uint64_t limit)
{
    uint64_t sum = 0;
    for (size_t at = 0; at < count && sum < limit; at += 4096) {
        const size_t end = at + 4096 < count ? at + 4096 : count;
        uint32_t block = 0;
        for (size_t i = at; i < end; i++) {
            const int d = (int)a[i] - (int)b[i];
            block += (uint32_t)(d * d);
        }
        sum += block;
    }
    return sum;
}

static void find_one(void *payload, int thread, size_t n)
{
    search *s = payload;
    const size_t elements = elements_of(s->a), i = s->first + n * s->step;
    const uint8_t *plain = s->a->pixels + i * elements;
    uint8_t *other = s->mirrored + (size_t)thread * elements;
    uint64_t best = UINT64_MAX;
    lun_nearest nearest = {0};
    mirror(s->a, plain, other); /* |mirror(a) - b| = |a - mirror(b)| */
    for (size_t k = 0; k < s->b->count; k++) {
        if (s->not_itself && k == i)
            continue;
        for (int mirrored = 0; mirrored < 2; mirrored++) {
            const uint64_t sum = difference(mirrored ? other : plain, s->b->pixels + k * elements, elements, best);
            if (sum < best) {
                best = sum;
                nearest.index = k;
                nearest.mirrored = mirrored;
            }
        }
    }
    nearest.distance = sqrt((double)best / (double)elements);
    s->out[n] = nearest;
}

lun_status lun_nearest_find(const lun_picture_set *a, size_t first, size_t step, size_t count, const lun_picture_set *b,
                            int not_itself, int threads, lun_nearest *out)
{
    if (a->width != b->width || a->height != b->height || a->channels != b->channels || a->width < 1 || a->height < 1 ||
        a->channels < 1)
        return lun_fail(LUN_ERR_USAGE, "the nearest of pictures of another size or number of channels");
    if (b->count < 1 || (not_itself && b->count < 2))
        return lun_fail(LUN_ERR_USAGE, "the nearest of no picture");
    if (count == 0)
        return LUN_OK;
    if (first >= a->count || (count > 1 && (step < 1 || (a->count - 1 - first) / step < count - 1)))
        return lun_fail(LUN_ERR_USAGE, "%zu pictures from number %zu on: there are %zu", count, first, a->count);
    search s = {.a = a, .b = b, .first = first, .step = step, .not_itself = not_itself != 0, .out = out};
    s.mirrored = lun_malloc((size_t)lun_workers_count(threads, count), elements_of(a), "pictures to compare");
    if (!s.mirrored)
        return LUN_ERR_MEMORY;
    lun_workers_run(threads, count, find_one, &s);
    free(s.mirrored);
    return LUN_OK;
}
