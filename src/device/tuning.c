/* The table of choices and its file: see include/lunette/tune.h.
 *
 *     lunette tuning 1
 *     NAME | PLATFORM | DRIVER | ... (one line: what the choices are for)
 *     # ... (any number of comments)
 *     CANDIDATE <tab> MILLISECONDS ms <tab> OP
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/cache.h"
#include "device/tune.h"

#define MAGIC   "lunette tuning 1"
#define COMMENT "# The candidate chosen for each op, and its time. Deleting this file, or a line of it, forgets it.\n"

typedef struct choice {
    char *op;
    const char *candidate; /* of the table of candidates */
    double seconds;
    bool fresh; /* set since the opening */
} choice;

struct lun_tuning {
    char *key, *path; /* path: NULL where nothing is remembered */
    choice *choices;
    size_t count, room;
};

bool lun_tunable(const lun_device *dev)
{
    return strcmp(dev->driver->name, "null") != 0 && strcmp(dev->driver->name, "check") != 0;
}

void lun_tune_describe(const lun_tune_op *op, char text[LUN_TUNE_TEXT])
{
    lun_op_describe(&op->op, text, LUN_TUNE_TEXT - 8);
    if (op->kept)
        strcat(text, " kept");
}

/* ---- the table ---- */

static choice *find(const lun_tuning *tuning, const char *op)
{
    for (size_t i = 0; tuning && i < tuning->count; i++) {
        if (strcmp(tuning->choices[i].op, op) == 0)
            return &tuning->choices[i];
    }
    return NULL;
}

/* The candidate of that name among those of the op's kind, which is the description's first word; else NULL. */
static const char *known_candidate(const char *op, const char *name, size_t length)
{
    const size_t word = strcspn(op, " ");
    for (int kind = 0; kind < LUN_OP_KIND_COUNT; kind++) {
        const char *own = lun_op_info_of((lun_op_kind)kind)->name;
        if (strlen(own) != word || memcmp(own, op, word) != 0)
            continue;
        for (const lun_candidate *c = lun_candidates((lun_op_kind)kind); c->name; c++) {
            if (strlen(c->name) == length && memcmp(c->name, name, length) == 0)
                return c->name;
        }
    }
    return NULL;
}

static lun_status put(lun_tuning *tuning, const char *op, const char *candidate, double seconds, bool fresh)
{
    choice *c = find(tuning, op);
    if (!c) {
        if (tuning->count == tuning->room) {
            const size_t room = tuning->room ? 2 * tuning->room : 64;
            choice *more = lun_realloc(tuning->choices, room, sizeof *more, "the table of choices");
            if (!more)
                return LUN_ERR_MEMORY;
            tuning->choices = more;
            tuning->room = room;
        }
        char *own = lun_strdup(op);
        if (!own)
            return LUN_ERR_MEMORY;
        c = &tuning->choices[tuning->count++];
        c->op = own;
    }
    c->candidate = candidate;
    c->seconds = seconds;
    c->fresh = fresh;
    return LUN_OK;
}

lun_status lun_tuning_set(lun_tuning *tuning, const char *op, const char *candidate, double seconds)
{
    const char *known = known_candidate(op, candidate, strlen(candidate));
    if (!known)
        return lun_fail(LUN_ERR_INTERNAL, "tuning: %s has no candidate %s", op, candidate);
    return put(tuning, op, known, seconds, true);
}

size_t lun_tuning_count(const lun_tuning *tuning)
{
    return tuning ? tuning->count : 0;
}

const char *lun_tuning_candidate(const lun_tuning *tuning, const char *op)
{
    const choice *c = find(tuning, op);
    return c ? c->candidate : NULL;
}

double lun_tuning_seconds(const lun_tuning *tuning, const char *op)
{
    const choice *c = find(tuning, op);
    return c ? c->seconds : (double)NAN;
}

const char *lun_tuning_path(const lun_tuning *tuning)
{
    return tuning->path;
}

/* ---- the file ---- */

/* One line of a file into the table; whatever is not exactly as it is written is left out. */
static lun_status take_line(lun_tuning *tuning, const char *line, size_t length)
{
    char text[LUN_TUNE_TEXT + 96];
    if (length >= sizeof text || memchr(line, 0, length))
        return LUN_OK;
    memcpy(text, line, length);
    text[length] = 0;
    char *ms = strchr(text, '\t'), *op = ms ? strchr(ms + 1, '\t') : NULL, *end = NULL;
    if (text[0] == '#' || !op || strchr(op + 1, '\t') || strlen(op + 1) >= LUN_TUNE_TEXT)
        return LUN_OK;
    *ms++ = 0;
    *op++ = 0;
    const double milliseconds = strtod(ms, &end);
    const char *candidate = known_candidate(op, text, strlen(text));
    if (end == ms || strcmp(end, " ms") != 0 || !(milliseconds >= 0 && milliseconds < 1e9) || !candidate)
        return LUN_OK;
    return put(tuning, op, candidate, 1e-3 * milliseconds, false);
}

/* The rest of `text` behind `line` and its newline, or NULL if it does not begin so. */
static const char *after_line(const char *text, const char *line)
{
    const size_t length = strlen(line);
    return text && strncmp(text, line, length) == 0 && text[length] == '\n' ? text + length + 1 : NULL;
}

/* What a file says, into an empty table; nothing where it is not for this key. */
static lun_status take_text(lun_tuning *tuning, const char *text)
{
    for (const char *line = after_line(after_line(text, MAGIC), tuning->key); line && *line;) {
        const size_t length = strcspn(line, "\n");
        LUN_TRY(take_line(tuning, line, length));
        line += length + (line[length] == '\n');
    }
    return LUN_OK;
}

static int by_op(const void *a, const void *b)
{
    return strcmp(((const choice *)a)->op, ((const choice *)b)->op);
}

static void release(lun_tuning *tuning)
{
    for (size_t i = 0; i < tuning->count; i++)
        free(tuning->choices[i].op);
    free(tuning->choices);
    tuning->choices = NULL;
    tuning->count = tuning->room = 0;
}

static char *merge(void *payload, const char *old)
{
    const lun_tuning *tuning = payload;
    lun_tuning all = {.key = tuning->key};
    char *text = NULL;
    lun_status status = take_text(&all, old);
    for (size_t i = 0; i < tuning->count && status == LUN_OK; i++) {
        const choice *c = &tuning->choices[i];
        if (c->fresh)
            status = put(&all, c->op, c->candidate, c->seconds, true);
    }
    const size_t room = strlen(all.key) + sizeof MAGIC + sizeof COMMENT + all.count * (LUN_TUNE_TEXT + 96) + 8;
    if (status == LUN_OK)
        text = lun_malloc(room, 1, "the table of choices");
    if (text) {
        if (all.count > 1)
            qsort(all.choices, all.count, sizeof *all.choices, by_op);
        size_t used = (size_t)snprintf(text, room, "%s\n%s\n%s", MAGIC, all.key, COMMENT);
        for (size_t i = 0; i < all.count; i++) {
            const choice *c = &all.choices[i];
            used +=
                (size_t)snprintf(text + used, room - used, "%s\t%.4f ms\t%s\n", c->candidate, 1e3 * c->seconds, c->op);
        }
    }
    release(&all);
    return text;
}

void lun_tuning_keep(lun_tuning *tuning)
{
    bool fresh = false;
    for (size_t i = 0; i < tuning->count; i++)
        fresh = fresh || tuning->choices[i].fresh;
    if (fresh && tuning->path)
        lun_cache_text_update(tuning->path, merge, tuning);
}

/* ---- opening ---- */

char *lun_device_key(const lun_device *dev)
{
    const lun_device_info *i = &dev->info;
    char *key = lun_format("%s | %s | %s | %d units | %d lanes | %s%s| lunette %s | kernels %s", i->name, i->platform,
                           i->driver, i->units, dev->caps.lanes, dev->caps.groups ? "groups " : "",
                           dev->caps.gemm ? "gemm " : "", lun_version(), lun_kernel_hash);
    for (char *c = key; c && *c; c++) {
        if ((unsigned char)*c < ' ')
            *c = ' ';
    }
    return key;
}

bool lun_foreign_kernels(void)
{
    const char *kernels = getenv("LUNETTE_KERNELS");
    return kernels && *kernels;
}

lun_status lun_tuning_open(const lun_device *dev, lun_tuning **out)
{
    if (!dev || !out)
        return lun_fail(LUN_ERR_USAGE, "lun_tuning_open: no device or no result");
    lun_tuning *tuning = lun_calloc(1, sizeof *tuning, "the table of choices");
    lun_status status = tuning ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK && lun_tunable(dev)) {
        tuning->key = lun_device_key(dev);
        if (!tuning->key)
            status = LUN_ERR_MEMORY;
        else if (!lun_foreign_kernels())
            tuning->path = lun_cache_text_path("tuning", tuning->key);
    }
    if (status == LUN_OK && tuning->path) {
        char *text = lun_cache_text_load(tuning->path);
        status = take_text(tuning, text);
        free(text);
    }
    if (status != LUN_OK) {
        lun_tuning_close(&tuning);
        return status;
    }
    *out = tuning;
    return LUN_OK;
}

void lun_tuning_close(lun_tuning **tuning)
{
    if (!tuning || !*tuning)
        return;
    release(*tuning);
    free((*tuning)->key);
    free((*tuning)->path);
    free(*tuning);
    *tuning = NULL;
}
