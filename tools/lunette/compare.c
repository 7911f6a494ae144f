/* lunette compare: how close pictures are to others, and whether they repeat them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lunette/measure.h>

#include "base/base.h"
#include "base/philox.h"
#include "common.h"
#include "compare.h"
#include "data/picture.h"
#include "data_options.h"
#include "live.h"

#define SHOWN       20  /* lines of nearest pictures */
#define SCALE_COUNT 256 /* pictures of B whose own nearest are looked for */
#define MAX_PAIRS   512

/* ---- Measuring ---- */

/* `count` of the pictures from[0..have) of a gallery (NULL: all of them), by chance unless that is all; a fresh copy.
 */
static lun_status choose(const comparison *c, const gallery *g, const uint32_t *from, size_t have, uint64_t salt,
                         size_t count, uint8_t **pixels)
{
    const size_t bytes = compare_bytes(g);
    uint32_t *chosen = lun_malloc(have, sizeof *chosen, "pictures to compare");
    *pixels = lun_malloc(count, bytes, "pictures to compare");
    if (!chosen || !*pixels) {
        free(chosen);
        return LUN_ERR_MEMORY;
    }
    if (count < have)
        lun_random_permutation(c->args->seed, salt, (uint32_t)have, chosen);
    for (size_t i = 0; i < count; i++) {
        const size_t at = count < have ? chosen[i] : i;
        memcpy(*pixels + i * bytes, g->pixels + (from ? from[at] : at) * bytes, bytes);
    }
    free(chosen);
    return LUN_OK;
}

static lun_status distance_of(const comparison *c, uint8_t *a, uint8_t *b, lun_sliced *out)
{
    const lun_sliced_params params = {
        .directions = c->args->directions, .seed = c->args->seed, .threads = c->args->threads};
    const lun_picture_set left = {a, c->count, c->width, c->height, c->channels},
                          right = {b, c->count, c->width, c->height, c->channels};
    return lun_sliced_wasserstein(&left, &right, &params, out);
}

static lun_status measure_distances(comparison *c)
{
    uint8_t *a = NULL, *b = NULL, *trained = NULL;
    const size_t others = c->b.set.count - c->held, of_b = c->held ? c->held : others;
    c->count = c->a.set.count < of_b ? c->a.set.count : of_b;
    lun_status status = choose(c, &c->a, NULL, c->a.set.count, 1, c->count, &a);
    if (status == LUN_OK)
        status = choose(c, &c->b, c->order, of_b, 2, c->count, &b);
    if (status == LUN_OK)
        status = distance_of(c, a, b, &c->distance);
    /* What the pictures trained on themselves reach, at the same count. */
    c->has_baseline = c->held > 0 && others >= c->count;
    if (status == LUN_OK && c->has_baseline)
        status = choose(c, &c->b, c->order + c->held, others, 3, c->count, &trained);
    if (status == LUN_OK && c->has_baseline)
        status = distance_of(c, trained, b, &c->baseline);
    free(a);
    free(b);
    free(trained);
    return status;
}

static int by_distance(const void *x, const void *y)
{
    const ranked *a = x, *b = y;
    if (a->distance != b->distance)
        return a->distance < b->distance ? -1 : 1;
    return (a->picture > b->picture) - (a->picture < b->picture);
}

/* Among the pictures of B that are not held out. */
static lun_status find_nearest(comparison *c)
{
    const size_t count = c->a.set.count, others = c->b.set.count - c->held;
    const int threads = c->args->threads;
    uint8_t *pixels = NULL;
    c->nearest = lun_malloc(count, sizeof *c->nearest, "the nearest pictures");
    c->by_distance = lun_malloc(count, sizeof *c->by_distance, "the nearest pictures");
    if (!c->nearest || !c->by_distance)
        return LUN_ERR_MEMORY;
    LUN_TRY(choose(c, &c->b, c->order + c->held, others, 0, others, &pixels));
    const lun_picture_set among = {pixels, others, c->width, c->height, c->channels};
    lun_status status = lun_nearest_find(&c->a.set, 0, 1, count, &among, 0, threads, c->nearest);
    c->own_median = NAN;
    if (status == LUN_OK && others > 1) {
        lun_nearest own[SCALE_COUNT];
        double distances[SCALE_COUNT];
        const size_t step = (others + SCALE_COUNT - 1) / SCALE_COUNT, some = (others + step - 1) / step;
        status = lun_nearest_find(&among, 0, step, some, &among, 1, threads, own);
        for (size_t i = 0; i < some && status == LUN_OK; i++)
            distances[i] = own[i].distance;
        if (status == LUN_OK)
            c->own_median = median(distances, some);
    }
    free(pixels);
    LUN_TRY(status);
    for (size_t i = 0; i < count; i++) {
        c->nearest[i].index = c->order[c->held + c->nearest[i].index];
        c->by_distance[i] = (ranked){c->nearest[i].distance, (uint32_t)i};
    }
    qsort(c->by_distance, count, sizeof *c->by_distance, by_distance);
    return LUN_OK;
}

static double median_distance(const comparison *c)
{
    const size_t count = c->a.set.count;
    return (c->by_distance[(count - 1) / 2].distance + c->by_distance[count / 2].distance) / 2;
}

/* ---- Results ---- */

/* Picture i of a gallery, mirrored or not, into the left or the right half of (channels, height, 2 width). */
static void to_half(const gallery *g, size_t i, bool mirrored, int half, float *dst)
{
    const size_t width = (size_t)g->set.width, height = (size_t)g->set.height, channels = (size_t)g->set.channels;
    const uint8_t *src = g->pixels + i * compare_bytes(g);
    for (size_t c = 0; c < channels; c++) {
        for (size_t y = 0; y < height; y++) {
            for (size_t x = 0; x < width; x++) {
                const size_t from = y * width + (mirrored ? width - 1 - x : x);
                dst[(c * height + y) * 2 * width + (size_t)half * width + x] =
                    (float)src[from * channels + c] / 127.5f - 1;
            }
        }
    }
}

/* Each picture of A and, right of it without a gap, its nearest; the closest pairs first. */
static lun_status write_pairs(const comparison *c)
{
    const size_t count = c->a.set.count < MAX_PAIRS ? c->a.set.count : MAX_PAIRS, elements = 2 * compare_bytes(&c->a);
    float *images = lun_malloc(count, elements * sizeof *images, "the pairs");
    if (!images)
        return LUN_ERR_MEMORY;
    for (size_t k = 0; k < count; k++) {
        const uint32_t i = c->by_distance[k].picture;
        to_half(&c->a, i, false, 0, images + k * elements);
        to_half(&c->b, c->nearest[i].index, c->nearest[i].mirrored, 1, images + k * elements);
    }
    char seed[24];
    const lun_png_text texts[] = {{"Software", "lunette " LUN_VERSION},
                                  {"Title", "pictures, and right of each the nearest of the others"},
                                  {"seed", seed}};
    snprintf(seed, sizeof seed, "%llu", (unsigned long long)c->args->seed);
    lun_picture sheet;
    lun_status status =
        lun_picture_from_floats(images, count, c->channels, c->height, 2 * c->width, (int)ceil(sqrt((double)count / 2)),
                                2 * GRID_GAP, c->width < 64 ? (63 + c->width) / c->width : 1, &sheet);
    free(images);
    LUN_TRY(status);
    status = lun_png_write(c->args->out, &sheet, texts, LUN_COUNT(texts));
    lun_picture_free(&sheet);
    return status;
}

static void print_line(const char *name, const comparison *c, double value, double baseline)
{
    printf("  %-16s %10.4g", name, value);
    if (c->has_baseline)
        printf(" %10.4g", baseline);
    printf("\n");
}

static int print_text(const comparison *c)
{
    const compare_args *a = c->args;
    printf("sliced Wasserstein distance, %zu of %zu pictures to %zu of %zu%s, %dx%d %s, %d directions\n", c->count,
           c->a.set.count, c->count, c->held ? c->held : c->b.set.count, c->held ? " held out" : "", c->width,
           c->height, channels_name(c->channels), a->directions);
    if (c->has_baseline)
        printf("  %-16s %10s %10s\n", "", "these", "trained on");
    print_line("whole pictures", c, c->distance.pixels, c->baseline.pixels);
    for (int i = 0; i < c->distance.levels; i++) {
        char name[40];
        snprintf(name, sizeof name, "patches %dx%d", c->distance.level[i].width, c->distance.level[i].height);
        print_line(name, c, c->distance.level[i].distance, c->baseline.level[i].distance);
    }
    if (c->distance.levels)
        print_line("patches, mean", c, c->distance.patches, c->baseline.patches);
    const size_t count = c->a.set.count, shown = count < SHOWN ? count : SHOWN;
    printf("nearest of %zu pictures%s (root mean square, 0 to 255)\n", c->b.set.count - c->held,
           c->held ? " trained on" : "");
    for (size_t k = 0; k < shown; k++) {
        const lun_nearest *n = &c->nearest[c->by_distance[k].picture];
        printf("  %-16s %10.2f  %s%s\n", c->a.names[c->by_distance[k].picture], n->distance, c->b.names[n->index],
               n->mirrored ? ", mirrored" : "");
    }
    if (shown < count)
        printf("  and %zu farther ones (--json lists all)\n", count - shown);
    printf("  median %.2f", median_distance(c));
    if (isfinite(c->own_median))
        printf("; of those pictures to their own nearest %.2f", c->own_median);
    printf("\n");
    if (a->out)
        printf("%s\n", a->out);
    return finish_output();
}

static json_t *real_or_null(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}

static json_t *sliced_json(const lun_sliced *s)
{
    json_t *levels = json_array();
    for (int i = 0; i < s->levels; i++)
        json_array_append_new(levels, json_pack("{s:i, s:i, s:o}", "width", s->level[i].width, "height",
                                                s->level[i].height, "distance", real_or_null(s->level[i].distance)));
    return json_pack("{s:o, s:o, s:o}", "pixels", real_or_null(s->pixels), "patches", levels, "patches_mean",
                     real_or_null(s->patches));
}

/* A name that is no UTF-8 cannot stand in JSON: NULL then. */
static json_t *name_json(const char *name)
{
    json_t *text = json_string(name);
    return text ? text : json_null();
}

static json_t *result_json(const comparison *c)
{
    json_t *nearest = json_array();
    for (size_t i = 0; i < c->a.set.count; i++) {
        const lun_nearest *n = &c->nearest[i];
        json_array_append_new(nearest, json_pack("{s:o, s:o, s:b, s:o}", "picture", name_json(c->a.names[i]), "nearest",
                                                 name_json(c->b.names[n->index]), "mirrored", n->mirrored, "distance",
                                                 real_or_null(n->distance)));
    }
    json_t *root =
        json_pack("{s:i, s:i, s:i, s:I, s:I, s:I, s:I, s:i}", "width", c->width, "height", c->height, "channels",
                  c->channels, "pictures", (json_int_t)c->a.set.count, "others", (json_int_t)c->b.set.count, "held_out",
                  (json_int_t)c->held, "compared", (json_int_t)c->count, "directions", c->args->directions);
    if (!root) {
        json_decref(nearest);
        return NULL;
    }
    json_object_set_new(root, "distance", sliced_json(&c->distance));
    json_object_set_new(root, "trained_on", c->has_baseline ? sliced_json(&c->baseline) : json_null());
    json_object_set_new(root, "nearest_median", real_or_null(median_distance(c)));
    json_object_set_new(root, "own_median", real_or_null(c->own_median));
    json_object_set_new(root, "nearest", nearest);
    return root;
}

static lun_status run(comparison *c)
{
    if (lun_holdout_check(c->args->holdout) != LUN_OK)
        return lun_fail(LUN_ERR_USAGE, "--holdout: %s", lun_error_detail());
    LUN_TRY(compare_load_a(c));
    LUN_TRY(compare_load_b(c));
    LUN_TRY(measure_distances(c));
    LUN_TRY(find_nearest(c));
    return c->args->out ? write_pairs(c) : LUN_OK;
}

int lun_cmd_compare(int argc, char **argv)
{
    compare_args a = {.directions = 512};
    const arg_option options[] = {
        {.name = "--size",
         .type = ARG_SIZE,
         .value = a.size,
         .min = 1,
         .max = 4096,
         .given = &a.size_given,
         .meta = "N|WxH",
         .help = "bring all pictures to this size (that of A's first)"},
        {.name = "--crop",
         .type = ARG_CHOICE,
         .value = &a.crop,
         .choices = (const char *const[]){"stretch", "centre", NULL},
         .meta = "HOW",
         .help = "to that size: stretch (the default), centre; see lunette train --help"},
        {.name = "--channels-in",
         .type = ARG_CHOICE,
         .value = &a.channels,
         .choices = channel_names,
         .given = &a.channels_given,
         .meta = "KIND",
         .help = "compare as grey, rgb, rgba, or auto for what A holds (auto)"},
        {.name = "--grid",
         .type = ARG_SIZE,
         .value = a.grid,
         .min = 1,
         .max = 1000,
         .given = &a.grid_given,
         .meta = "CxR",
         .help = "A is a grid of C x R pictures, drawn by lunette sample"},
        {.name = "--holdout",
         .type = ARG_DOUBLE,
         .value = &a.holdout,
         .max = 1e6,
         .given = &a.holdout_given,
         .meta = "X",
         .help = "as the run had it: distances to what it held out, nearest of what it trained on"},
        {.name = "--out",
         .type = ARG_TEXT,
         .value = &a.out,
         .meta = "PAIRS.png",
         .help = "each picture beside its nearest"},
        {.name = "--directions",
         .type = ARG_INT,
         .value = &a.directions,
         .min = 1,
         .max = 65536,
         .meta = "N",
         .help = "that distances are measured along (512)"},
        {.name = "--seed",
         .type = ARG_U64,
         .value = &a.seed,
         .meta = "S",
         .help = "of directions, places and choices (0)"},
        {.name = "--json", .type = ARG_FLAG, .value = &a.json, .help = "all of it as JSON"},
        {.name = "--threads",
         .type = ARG_INT,
         .value = &a.threads,
         .min = 1,
         .max = MAX_THREADS,
         .meta = "N",
         .help = "all cores; the result does not depend on it"},
        {.name = "--cache",
         .type = ARG_TEXT,
         .value = &a.cache,
         .meta = "DIR",
         .help = "where B's decoded pictures are kept"},
        {.name = "--no-cache", .type = ARG_FLAG, .value = &a.no_cache, .help = "keep them in memory"},
        {0},
    };
    const arg_command command = {
        .usage = "compare A B [options]",
        .about = "How close the pictures of A (a folder, or a PNG) are to those of the folder B, and how near each of "
                 "them is to one\n"
                 "of B: whether a model draws such pictures, and whether it draws them by heart.",
        .notes = "The sliced Wasserstein distance is taken between equal counts: of the larger set as many as the "
                 "smaller has are chosen by\n"
                 "the seed. Both sets are projected onto random directions and sorted; it is the mean distance between "
                 "what comes to stand\n"
                 "beside each other. Once for whole pictures (pixels from 0 to 1), and, as in Karras et al. 2018, for "
                 "7x7 patches of each\n"
                 "level of a Laplacian pyramid, times 1000: coarse shapes to fine texture. Lower is closer. Values "
                 "compare only at the same\n"
                 "count, size and number of channels; with --holdout, 'trained on' is what real pictures reach.\n\n"
                 "The nearest picture is that of least root mean square difference, plain or mirrored. Distances far "
                 "below what the\n"
                 "pictures of B have among themselves are copies.\n\n"
                 "example:\n  lunette sample run --out samples/ --count 20 && lunette compare samples pictures "
                 "--holdout 5 --out pairs.png",
        .options = options,
        .min_positionals = 2,
        .max_positionals = 2,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, a.paths, &positionals, &exit_code))
        return exit_code;
    if (a.no_cache && a.cache)
        return report(lun_fail(LUN_ERR_USAGE, "--cache and --no-cache exclude each other: give one"));
    log_warnings_only();
    comparison c = {.args = &a, .fit = a.crop ? LUN_FIT_CROP : LUN_FIT_STRETCH};
    const lun_status status = run(&c);
    if (status == LUN_OK)
        exit_code = a.json ? print_json(result_json(&c), 2) : print_text(&c);
    compare_free(&c.a);
    compare_free(&c.b);
    free(c.order);
    free(c.nearest);
    free(c.by_distance);
    return status == LUN_OK ? exit_code : report(status);
}
