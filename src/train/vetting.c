/* Vetting: see vetting.h. The file:
 *
 *     lunette doctor 1
 *     NAME | PLATFORM | DRIVER | ... (one line: what the verdicts are for)
 *     right|wrong <tab> CANDIDATE <tab> OP
 */
#include "vetting.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "device/cache.h"
#include "device/tune.h"

#define MAGIC    "lunette doctor 1"
#define PICTURES 2

typedef enum opinion { UNKNOWN, RIGHT, WRONG } opinion;

/* A kernel of an op. */
typedef struct judged {
    char *op, *candidate;
    opinion opinion;
    bool used;  /* by the plan: the first `used` entry of an op is what would run */
    bool fresh; /* found now */
} judged;

typedef struct vetting {
    lun_device *dev;
    const lun_train_config *config;
    judged *list;
    size_t count, room;
    bool examining_others;
    lun_status status; /* of taking findings */
} vetting;

/* ---- The list ---------------------------------------------------------------------------------------------------- */

/* Whether the description of an op on `few` pictures says the same as one on `many`: operands may begin with the number
 * of pictures, others begin with a number that happens to be that. */
static bool same_op(const char *of_few, int few, const char *of_many, int many)
{
    char little[16], much[16];
    const size_t digits_few = (size_t)snprintf(little, sizeof little, "%dx", few),
                 digits_many = (size_t)snprintf(much, sizeof much, "%dx", many);
    const char *a = of_few, *b = of_many;
    while (*a && *b) {
        const size_t word_a = strcspn(a, " "), word_b = strcspn(b, " ");
        if ((word_a != word_b || memcmp(a, b, word_a) != 0) &&
            (strncmp(a, little, digits_few) != 0 || strncmp(b, much, digits_many) != 0 ||
             word_a - digits_few != word_b - digits_many ||
             memcmp(a + digits_few, b + digits_many, word_a - digits_few) != 0))
            return false;
        a += word_a + (a[word_a] == ' ');
        b += word_b + (b[word_b] == ' ');
    }
    return !*a && !*b;
}

static judged *find(vetting *v, const char *op, const char *candidate)
{
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->list[i].op, op) == 0 && strcmp(v->list[i].candidate, candidate) == 0)
            return &v->list[i];
    return NULL;
}

static judged *put(vetting *v, const char *op, const char *candidate)
{
    judged *known = find(v, op, candidate);
    if (known)
        return known;
    if (v->count == v->room) {
        const size_t room = v->room ? 2 * v->room : 64;
        judged *more = lun_realloc(v->list, room, sizeof *more, "verdicts");
        if (!more)
            return NULL;
        v->list = more;
        v->room = room;
    }
    judged j = {.op = lun_strdup(op), .candidate = lun_strdup(candidate)};
    if (!j.op || !j.candidate) {
        free(j.op);
        free(j.candidate);
        return NULL;
    }
    v->list[v->count] = j;
    return &v->list[v->count++];
}

static void release(vetting *v)
{
    for (size_t i = 0; i < v->count; i++) {
        free(v->list[i].op);
        free(v->list[i].candidate);
    }
    free(v->list);
    v->list = NULL;
    v->count = v->room = 0;
}

static lun_status add_used(vetting *v, const json_t *kernels)
{
    const char *op;
    json_t *candidate;
    json_object_foreach((json_t *)kernels, op, candidate)
    {
        judged *j = put(v, op, json_string_value(candidate));
        if (!j)
            return LUN_ERR_MEMORY;
        j->used = true;
    }
    return LUN_OK;
}

/* ---- The file ---------------------------------------------------------------------------------------------------- */

static const char *after_line(const char *text, const char *line)
{
    const size_t length = strlen(line);
    return text && strncmp(text, line, length) == 0 && text[length] == '\n' ? text + length + 1 : NULL;
}

/* Verdicts of a file, where none is known yet; of any line that is not as it is written nothing is taken. */
static lun_status take_text(vetting *v, const char *key, const char *text)
{
    for (const char *line = after_line(after_line(text, MAGIC), key); line && *line;) {
        const size_t length = strcspn(line, "\n");
        char word[8], candidate[64], op[256];
        int end = 0;
        if (length < sizeof op &&
            sscanf(line, "%7[a-z]\t%63[a-z_0-9]\t%255[^\n\t]%n", word, candidate, op, &end) == 3 &&
            (size_t)end == length && (strcmp(word, "right") == 0 || strcmp(word, "wrong") == 0)) {
            judged *j = put(v, op, candidate);
            if (!j)
                return LUN_ERR_MEMORY;
            if (j->opinion == UNKNOWN)
                j->opinion = word[0] == 'r' ? RIGHT : WRONG;
        }
        line += length + (line[length] == '\n');
    }
    return LUN_OK;
}

typedef struct writing {
    vetting *vetting;
    const char *key;
} writing;

static int by_op(const void *a, const void *b)
{
    const judged *x = a, *y = b;
    const int ops = strcmp(x->op, y->op);
    return ops ? ops : strcmp(x->candidate, y->candidate);
}

static char *merge(void *payload, const char *old)
{
    const writing *w = payload;
    vetting all = {0};
    lun_status status = LUN_OK;
    for (size_t i = 0; i < w->vetting->count && status == LUN_OK; i++) {
        const judged *j = &w->vetting->list[i];
        judged *mine = j->fresh ? put(&all, j->op, j->candidate) : NULL;
        if (mine)
            mine->opinion = j->opinion;
        else if (j->fresh)
            status = LUN_ERR_MEMORY;
    }
    if (status == LUN_OK)
        status = take_text(&all, w->key, old);
    if (all.count > 1)
        qsort(all.list, all.count, sizeof *all.list, by_op);
    const size_t room = strlen(w->key) + sizeof MAGIC + all.count * (256 + 64 + 16) + 8;
    char *text = status == LUN_OK ? lun_malloc(room, 1, "verdicts") : NULL;
    size_t used = text ? (size_t)snprintf(text, room, "%s\n%s\n", MAGIC, w->key) : 0;
    for (size_t i = 0; i < all.count && text; i++)
        if (all.list[i].opinion != UNKNOWN)
            used += (size_t)snprintf(text + used, room - used, "%s\t%s\t%s\n",
                                     all.list[i].opinion == RIGHT ? "right" : "wrong", all.list[i].candidate,
                                     all.list[i].op);
    release(&all);
    return text;
}

/* ---- Examining --------------------------------------------------------------------------------------------------- */

/* Kernels are chosen for a micro-batch. */
static int many_pictures(const lun_train_config *config)
{
    return config->batch / config->accumulate;
}

static int few_pictures(const lun_train_config *config)
{
    return many_pictures(config) < PICTURES ? many_pictures(config) : PICTURES;
}

static const char *on_choice(void *payload, const char *op)
{
    vetting *v = payload;
    const char *chosen = NULL;
    for (size_t i = 0; i < v->count && !chosen; i++)
        if (v->list[i].used && same_op(op, few_pictures(v->config), v->list[i].op, many_pictures(v->config)))
            chosen = v->list[i].candidate;
    return chosen;
}

/* The finding on few pictures is a verdict on the same op with many. */
static void on_finding(void *payload, const lun_doctor_finding *f)
{
    vetting *v = payload;
    const size_t count = v->count; /* entries that are added below are not looked at again */
    for (size_t i = 0; i < count && v->status == LUN_OK; i++) {
        if (!v->list[i].used ||
            !same_op(f->description, few_pictures(v->config), v->list[i].op, many_pictures(v->config)))
            continue;
        judged *j = find(v, v->list[i].op, f->candidate);
        if (!j && v->examining_others) {
            j = put(v, v->list[i].op, f->candidate);
            v->status = j ? LUN_OK : LUN_ERR_MEMORY;
        }
        if (j && j->opinion == UNKNOWN) {
            j->opinion = f->detail ? WRONG : RIGHT;
            j->fresh = true;
            if (f->detail)
                lun_log(LUN_LOG_WARN, "%s", f->detail);
        }
    }
}

/* What hangs here hangs the run. */
static lun_status on_opened(void *payload, lun_device *dev)
{
    const vetting *v = payload;
    return lun_device_watch_as(dev, v->dev);
}

static lun_status examine(vetting *v, bool others)
{
    lun_train_config few = *v->config;
    few.batch = few_pictures(v->config) * few.accumulate;
    const lun_device_info *info = lun_device_get_info(v->dev);
    const lun_doctor_params params = {.config = &few,
                                      .train = 1,
                                      .all = others,
                                      .threads = info->units,
                                      .choice = on_choice,
                                      .opened = on_opened,
                                      .result = on_finding,
                                      .payload = v};
    lun_doctor_verdict verdict;
    v->examining_others = others;
    LUN_TRY(lun_doctor(info->spec, &params, &verdict));
    return v->status;
}

static int count_used(const vetting *v, opinion wanted)
{
    int count = 0;
    for (size_t i = 0; i < v->count; i++)
        count += v->list[i].used && v->list[i].opinion == wanted;
    return count;
}

/* ---- Around what is wrong ---------------------------------------------------------------------------------------- */

/* A right kernel for the op of `wrong`, in the order in which a device would try them. */
static const char *right_kernel(vetting *v, const judged *wrong)
{
    const size_t word = strcspn(wrong->op, " ");
    for (int kind = 0; kind < LUN_OP_KIND_COUNT; kind++) {
        const char *name = lun_op_info_of((lun_op_kind)kind)->name;
        if (strlen(name) != word || memcmp(name, wrong->op, word) != 0)
            continue;
        for (const lun_candidate *c = lun_candidates((lun_op_kind)kind); c->name; c++) {
            const judged *j = find(v, wrong->op, c->name);
            if (j && j->opinion == RIGHT)
                return j->candidate;
        }
    }
    return NULL;
}

static lun_status go_round(vetting *v, json_t *detours)
{
    for (size_t i = 0; i < v->count; i++) {
        const judged *j = &v->list[i];
        if (!j->used || j->opinion != WRONG)
            continue;
        const char *other = right_kernel(v, j);
        if (!other)
            return lun_fail(LUN_ERR_DEVICE,
                            "%s computes %s wrongly by every kernel it has; take another device ('lunette doctor')",
                            v->dev->info.spec, j->op);
        lun_log(LUN_LOG_WARN, "%s computes %s wrongly by the kernel %s; %s is used in its place", v->dev->info.spec,
                j->op, j->candidate, other);
        json_object_set_new(detours, j->op, json_string(other));
    }
    return LUN_OK;
}

/* Examine what is not known, and where that is wrong the other kernels. */
static lun_status find_out(vetting *v, bool *examined)
{
    if (count_used(v, UNKNOWN) > 0) {
        *examined = true;
        LUN_TRY(examine(v, false));
    }
    bool stuck = false;
    for (size_t i = 0; i < v->count; i++)
        stuck = stuck || (v->list[i].used && v->list[i].opinion == WRONG && !right_kernel(v, &v->list[i]));
    if (stuck) {
        *examined = true;
        LUN_TRY(examine(v, true));
    }
    return LUN_OK;
}

/* Where the verdicts for this device lie, and for what; path NULL: nowhere. */
static lun_status recall(vetting *v, char **key, char **path)
{
    *key = lun_device_key(v->dev);
    if (!*key)
        return LUN_ERR_MEMORY;
    *path = lun_foreign_kernels() ? NULL : lun_cache_text_path("doctor", *key);
    char *text = *path ? lun_cache_text_load(*path) : NULL;
    const lun_status status = take_text(v, *key, text);
    free(text);
    return status;
}

bool lun_vetted(lun_device *dev, const lun_train_config *config, const json_t *kernels)
{
    if (!lun_tunable(dev))
        return true;
    vetting v = {.dev = dev, .config = config};
    char *key = NULL, *path = NULL;
    const bool known = add_used(&v, kernels) == LUN_OK && recall(&v, &key, &path) == LUN_OK &&
                       count_used(&v, RIGHT) == (int)json_object_size(kernels);
    free(path);
    free(key);
    release(&v);
    return known;
}

static lun_status vet(vetting *v, const json_t *kernels, char **key, char **path, json_t *detours)
{
    const double start = lun_clock();
    bool examined = false;
    LUN_TRY(add_used(v, kernels));
    LUN_TRY(recall(v, key, path));
    LUN_TRY(find_out(v, &examined));
    const int right = count_used(v, RIGHT), wrong = count_used(v, WRONG);
    if (examined) {
        writing w = {v, *key};
        if (*path)
            lun_cache_text_update(*path, merge, &w);
        lun_log(LUN_LOG_INFO, "%d kernels checked against plain C in %.1f s: %d right, %d wrong", right + wrong,
                lun_clock() - start, right, wrong);
    }
    return go_round(v, detours);
}

lun_status lun_vet(lun_device *dev, const lun_train_config *config, const json_t *kernels, json_t **detours)
{
    vetting v = {.dev = dev, .config = config};
    char *key = NULL, *path = NULL;
    json_t *object = json_object();
    lun_status status = object ? vet(&v, kernels, &key, &path, object) : LUN_ERR_MEMORY;
    free(path);
    free(key);
    release(&v);
    /* Memory for a second network may be missing where there is enough for one. */
    if (status == LUN_ERR_MEMORY && dev->lost == LUN_OK) {
        lun_log(LUN_LOG_WARN, "the kernels are not checked against plain C: %s", lun_error_detail());
        status = LUN_OK;
    }
    if (status != LUN_OK) {
        json_decref(object);
        return status;
    }
    *detours = object;
    return LUN_OK;
}
