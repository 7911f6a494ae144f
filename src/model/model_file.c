/* Model files: what they hold, and whether it is what a network wants. The tensors must be those of the configuration
 * in the metadata (metadata.c), all of them and no others; without metadata the network is told from them. */
#include "model_file.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "build.h"
#include "interop.h"
#include "metadata.h"
#include "tell.h"

#define TRACKED     ".num_batches_tracked"
#define RUNNING_VAR ".running_var"

/* Of a file that does not say: the published experiments'. */
#define UNKNOWN_BETA_FIRST 1e-4
#define UNKNOWN_BETA_LAST  0.02

/* Problems told one by one; the rest is counted. */
#define MAX_SHOWN 10

/* ---- Finding tensors --------------------------------------------------------------------------------------------- */

static bool is_float(lun_safetensors_dtype dtype)
{
    return dtype == LUN_ST_F32 || dtype == LUN_ST_F16 || dtype == LUN_ST_BF16 || dtype == LUN_ST_F64;
}

static bool is_integer(lun_safetensors_dtype dtype)
{
    return !is_float(dtype) && dtype != LUN_ST_BOOL;
}

bool lun_model_tracked_name(const char *name, char *out, size_t size)
{
    const size_t length = strlen(name), tail = strlen(RUNNING_VAR);
    if (length < tail || strcmp(name + length - tail, RUNNING_VAR) != 0)
        return false;
    snprintf(out, size, "%.*s" TRACKED, (int)(length - tail), name);
    return true;
}

/* ---- Does the file hold what is wanted? -------------------------------------------------------------------------- */

/* A file beside a list of parameters. Problems are collected into one line. */
typedef struct match {
    const lun_safetensors *file;
    bool *used; /* by tensor of the file */
    char text[800];
    size_t length;
    int problems, shown;
} match;

static void problem(match *m, const char *format, ...) LUN_PRINTF(2, 3);
static void problem(match *m, const char *format, ...)
{
    m->problems++;
    if (m->shown == MAX_SHOWN)
        return;
    const size_t before = m->length;
    if (m->length)
        m->length += (size_t)snprintf(m->text + m->length, sizeof m->text - m->length, "; ");
    va_list args;
    va_start(args, format);
    if (m->length < sizeof m->text)
        m->length += (size_t)vsnprintf(m->text + m->length, sizeof m->text - m->length, format, args);
    va_end(args);
    m->shown++;
    /* What does not fit is counted and not shown in half. */
    if (m->length >= sizeof m->text) {
        m->length = before;
        m->text[before] = '\0';
        m->shown--;
    }
}

static void dims_text(const int64_t *dims, int rank, char *text, size_t size)
{
    size_t at = (size_t)snprintf(text, size, "(");
    for (int i = 0; i < rank && at < size; i++)
        at += (size_t)snprintf(text + at, size - at, i ? ", %" PRId64 : "%" PRId64, dims[i]);
    if (at < size)
        snprintf(text + at, size - at, ")");
}

static void match_part(match *m, const lun_model_param *p, int part)
{
    const char *name = p->part[part];
    const int64_t index = lun_model_find(m->file, name);
    if (index < 0) {
        problem(m, "%s is missing", name);
        return;
    }
    const lun_safetensors_entry *entry = lun_safetensors_info(m->file, (size_t)index);
    m->used[index] = true;
    if (entry->rank != p->rank || memcmp(entry->dims, p->dims, (size_t)p->rank * sizeof *p->dims) != 0) {
        char is[96], wanted[96];
        dims_text(entry->dims, entry->rank, is, sizeof is);
        dims_text(p->dims, p->rank, wanted, sizeof wanted);
        problem(m, "%s is %s and should be %s", name, is, wanted);
    } else if (!is_float(entry->dtype)) {
        problem(m, "%s is of type %s", name, lun_safetensors_dtype_name(entry->dtype));
    }
}

static bool match_one(void *payload, const lun_model_param *p)
{
    match *m = payload;
    for (int i = 0; i < p->parts; i++)
        match_part(m, p, i);
    char name[160];
    if (lun_model_tracked_name(p->info.name, name, sizeof name)) {
        /* PyTorch before 0.4.1 wrote none. */
        const int64_t tracked = lun_model_find(m->file, name);
        if (tracked >= 0) {
            const lun_safetensors_entry *count = lun_safetensors_info(m->file, (size_t)tracked);
            m->used[tracked] = true;
            if (count->count != 1 || !is_integer(count->dtype))
                problem(m, "%s is not one integer", name);
        }
    }
    return true;
}

static lun_status match_begin(match *m, const lun_safetensors *file)
{
    *m = (match){.file = file};
    m->used = lun_calloc(lun_safetensors_count(file), sizeof *m->used, "a list of tensors");
    return m->used ? LUN_OK : LUN_ERR_MEMORY;
}

static lun_status match_verdict(const match *m)
{
    char more[32] = "";
    if (!m->problems)
        return LUN_OK;
    if (m->problems > m->shown)
        snprintf(more, sizeof more, "; and %d more", m->problems - m->shown);
    return lun_fail(LUN_ERR_CHECKPOINT, "%s does not fit the network: %s%s", lun_safetensors_path(m->file), m->text,
                    more);
}

static lun_status match_end(match *m)
{
    for (size_t i = 0; i < lun_safetensors_count(m->file); i++)
        if (!m->used[i])
            problem(m, "%.80s does not belong there", lun_safetensors_info(m->file, i)->name);
    free(m->used);
    return match_verdict(m);
}

/* ---- What a file describes --------------------------------------------------------------------------------------- */

static const lun_model_file_info unknown = {.beta_first = UNKNOWN_BETA_FIRST, .beta_last = UNKNOWN_BETA_LAST};

/* What metadata or, in a folder of diffusers, config.json say; else what names and shapes suggest. */
static lun_status configure(const lun_safetensors *file, const lun_diffusers_parts *parts, const lun_model_hints *hints,
                            lun_model_file_info *info)
{
    const bool unet = info->naming != LUN_NAMING_OWN, says = lun_safetensors_metadata(file, "lunette.model") != NULL;
    const bool folder = parts && parts->config;
    lun_model_file_info read = unknown;
    if (folder && info->naming != LUN_NAMING_DIFFUSERS)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: its tensors have not the names of diffusers' UNet2DModel",
                        lun_safetensors_path(file));
    if (hints && (says || folder || !unet))
        return lun_fail(LUN_ERR_USAGE, "%s: %s; nothing can be said about it by options", lun_safetensors_path(file),
                        unet ? "says itself how its attention and its norms are divided"
                             : "is no network with attention");
    if (folder)
        LUN_TRY(lun_diffusers_read(parts, &read));
    if (says && unet) {
        LUN_TRY(lun_model_metadata_read(file, info));
        return folder ? lun_diffusers_agree(parts, info, &read) : LUN_OK;
    }
    if (folder) {
        read.naming = info->naming;
        *info = read;
        return LUN_OK;
    }
    info->assumed = unet;
    return lun_model_tell(file, info->naming, hints, info);
}

static lun_status inspect(const lun_safetensors *file, const lun_diffusers_parts *parts, const lun_model_hints *hints,
                          lun_model_file_info *info)
{
    info->naming = lun_model_tell_naming(file);
    LUN_TRY(configure(file, parts, hints, info));
    /* The whole list, so that what a caller allocates for this configuration is no more than what the file holds. */
    match m;
    LUN_TRY(match_begin(&m, file));
    lun_model_visit(&info->config, info->naming, match_one, &m);
    LUN_TRY(match_end(&m));
    const bool unet = info->naming != LUN_NAMING_OWN;
    if (!unet || !lun_safetensors_metadata(file, "lunette.model"))
        LUN_TRY(lun_model_metadata_read(file, info));
    if (unet)
        return LUN_OK;
    const int64_t tracked = lun_model_find(file, "downs.0.bnorm1" TRACKED);
    if (tracked >= 0) {
        int64_t count = 0;
        LUN_TRY(lun_safetensors_read_i64(file, (size_t)tracked, &count, 1));
        info->batches_tracked = count > 0 ? (uint64_t)count : 0;
    }
    return LUN_OK;
}

lun_status lun_model_open(const char *path, const lun_model_hints *hints, lun_safetensors **file,
                          lun_model_file_info *out)
{
    lun_diffusers_parts parts = {NULL};
    lun_safetensors *opened = NULL;
    lun_model_file_info info = unknown;
    bool folder = false;
    LUN_TRY(lun_diffusers_look(path, &folder));
    if (folder)
        LUN_TRY(lun_diffusers_find(path, &parts));
    lun_status status = lun_safetensors_open(parts.weights ? parts.weights : path, &opened);
    if (status == LUN_OK)
        status = inspect(opened, &parts, hints, &info);
    lun_diffusers_parts_free(&parts);
    if (status != LUN_OK) {
        lun_safetensors_close(opened);
        return status;
    }
    *file = opened;
    *out = info;
    return LUN_OK;
}

lun_status lun_model_inspect(const char *path, lun_model_file_info *out)
{
    lun_safetensors *file = NULL;
    LUN_TRY(lun_model_open(path, NULL, &file, out));
    lun_safetensors_close(file);
    return LUN_OK;
}

/* ---- Loading ----------------------------------------------------------------------------------------------------- */

static size_t largest(const lun_store *store)
{
    size_t count = 1;
    for (size_t i = 0; i < lun_store_count(store); i++)
        count = (size_t)lun_max_i64((int64_t)count, lun_count(lun_store_info(store, i)->desc.shape));
    return count;
}

/* The parameters of a file on their way into a store. */
typedef struct loading {
    lun_store *store;
    lun_slot slot; /* of the trained parameters */
    match m;       /* of the store with the file's network; `used` by parameter of the store */
    bool check;    /* the first walk only compares */
    float *values, *piece;
    lun_status status;
} loading;

static void compare_entry(loading *l, const lun_model_param *p)
{
    const int index = lun_store_find(l->store, p->info.name);
    if (index < 0) {
        problem(&l->m, "%s does not belong there", p->info.name);
        return;
    }
    const lun_desc is = p->info.desc, wanted = lun_store_info(l->store, (size_t)index)->desc;
    l->m.used[index] = true;
    if (is.layout != wanted.layout || !lun_shape_equal(is.shape, wanted.shape)) {
        char left[96], right[96];
        dims_text((const int64_t[]){is.shape.n, is.shape.c, is.shape.h, is.shape.w}, 4, left, sizeof left);
        dims_text((const int64_t[]){wanted.shape.n, wanted.shape.c, wanted.shape.h, wanted.shape.w}, 4, right,
                  sizeof right);
        problem(&l->m, "%s is %s and should be %s", p->info.name, left, right);
    }
}

void lun_model_move_rows(const lun_model_param *p, int part, void *whole, void *piece, size_t element, bool gather)
{
    const size_t rows = (size_t)p->dims[0], width = (size_t)lun_count(p->info.desc.shape) / (3 * rows) * element;
    const size_t c = rows / (size_t)p->heads;
    for (size_t row = 0; row < rows; row++) {
        char *in_whole = (char *)whole + ((row / c * 3 + (size_t)part) * c + row % c) * width;
        char *in_piece = (char *)piece + row * width;
        memcpy(gather ? in_piece : in_whole, gather ? in_whole : in_piece, width);
    }
}

static bool load_one(void *payload, const lun_model_param *p)
{
    loading *l = payload;
    if (l->check) {
        compare_entry(l, p);
        return true;
    }
    if (p->info.role != LUN_ROLE_PARAM && l->slot != LUN_SLOT_VALUE)
        return true;
    const size_t count = (size_t)lun_count(p->info.desc.shape) / (size_t)p->parts;
    for (int i = 0; i < p->parts && l->status == LUN_OK; i++) {
        float *to = p->parts == 1 ? l->values : l->piece;
        l->status = lun_safetensors_read_f32(l->m.file, (size_t)lun_model_find(l->m.file, p->part[i]), to, count);
        if (l->status == LUN_OK && p->parts > 1)
            lun_model_move_rows(p, i, l->values, l->piece, sizeof *l->values, false);
    }
    if (l->status == LUN_OK)
        l->status = lun_store_write(l->store, (size_t)lun_store_find(l->store, p->info.name), l->slot, l->values);
    return l->status == LUN_OK;
}

static lun_status compare(loading *l, const lun_model_file_info *info)
{
    l->m.used = lun_calloc(lun_store_count(l->store) + 1, sizeof *l->m.used, "a list of parameters");
    if (!l->m.used)
        return LUN_ERR_MEMORY;
    l->check = true;
    lun_model_visit(&info->config, LUN_NAMING_OWN, load_one, l);
    l->check = false;
    for (size_t i = 0; i < lun_store_count(l->store); i++)
        if (!l->m.used[i])
            problem(&l->m, "%s is missing", lun_store_info(l->store, i)->name);
    free(l->m.used);
    return match_verdict(&l->m);
}

static lun_status load(lun_store *store, lun_slot slot, const lun_safetensors *file, const lun_model_file_info *info)
{
    loading l = {.store = store, .slot = slot, .m = {.file = file}};
    LUN_TRY(compare(&l, info));
    LUN_TRY(lun_safetensors_verify(file, 0));
    l.values = lun_malloc(largest(store), sizeof *l.values, "a tensor");
    l.piece = lun_malloc(largest(store), sizeof *l.piece, "a tensor");
    l.status = l.values && l.piece ? LUN_OK : LUN_ERR_MEMORY;
    if (l.status == LUN_OK)
        lun_model_visit(&info->config, info->naming, load_one, &l);
    free(l.values);
    free(l.piece);
    return l.status;
}

lun_status lun_model_load_slot(lun_store *store, lun_slot slot, const char *path)
{
    lun_safetensors *file = NULL;
    lun_model_file_info info;
    LUN_TRY(lun_model_open(path, NULL, &file, &info));
    const lun_status status = load(store, slot, file, &info);
    lun_safetensors_close(file);
    return status;
}

lun_status lun_model_load(lun_store *store, const char *path)
{
    return lun_model_load_slot(store, LUN_SLOT_VALUE, path);
}

/* ---- Saving ------------------------------------------------------------------------------------------------------ */

static bool put_param(void *payload, const lun_model_param *p)
{
    lun_model_putting *w = payload;
    if (w->trained_only && p->info.role != LUN_ROLE_PARAM)
        return true;
    const int index = lun_store_find(w->store, p->info.name);
    const size_t count = (size_t)lun_count(p->info.desc.shape) / (size_t)p->parts;
    if (index < 0 || !lun_shape_equal(lun_store_info(w->store, (size_t)index)->desc.shape, p->info.desc.shape)) {
        w->status = lun_fail(LUN_ERR_USAGE, "the store has no parameter %s of this network", p->info.name);
        return false;
    }
    if (w->values)
        w->status = lun_store_read(w->store, (size_t)index, p->info.role == LUN_ROLE_PARAM ? w->slot : LUN_SLOT_VALUE,
                                   w->values);
    for (size_t e = 0; w->values && w->finite && w->status == LUN_OK && e < count * (size_t)p->parts; e++)
        if (!isfinite(w->values[e]))
            w->status = lun_fail(LUN_ERR_DIVERGED, "%s is no longer finite", p->info.name);
    for (int i = 0; i < p->parts && w->status == LUN_OK; i++) {
        if (!w->values) {
            char name[LUN_NAME_BYTES + 16];
            snprintf(name, sizeof name, "%s%s", w->prefix, p->part[i]);
            w->status = lun_safetensors_writer_declare(w->writer, name, LUN_ST_F32, p->rank, p->dims);
            continue;
        }
        if (p->parts > 1)
            lun_model_move_rows(p, i, w->values, w->piece, sizeof *w->values, true);
        w->status =
            lun_safetensors_writer_data(w->writer, p->parts > 1 ? w->piece : w->values, count * sizeof *w->values);
    }
    return w->status == LUN_OK;
}

lun_status lun_model_put_names(lun_model_putting *w, const lun_model_config *config, lun_naming naming)
{
    w->values = NULL;
    w->status = LUN_OK;
    lun_model_visit(config, naming, put_param, w);
    return w->status;
}

lun_status lun_model_put_values(lun_model_putting *w, const lun_model_config *config, lun_naming naming)
{
    w->values = lun_malloc(largest(w->store), sizeof *w->values, "a tensor");
    w->piece = lun_malloc(largest(w->store), sizeof *w->piece, "a tensor");
    w->status = w->values && w->piece ? LUN_OK : LUN_ERR_MEMORY;
    if (w->status == LUN_OK)
        lun_model_visit(config, naming, put_param, w);
    free(w->values);
    free(w->piece);
    w->values = w->piece = NULL;
    return w->status;
}

static lun_status write_values(lun_store *store, lun_slot slot, const lun_model_file_info *info,
                               lun_safetensors_writer *writer)
{
    const size_t count = lun_store_count(store);
    const int64_t tracked = (int64_t)info->batches_tracked;
    char name[160];
    lun_model_putting w = {.store = store, .slot = slot, .writer = writer, .prefix = "", .finite = true};
    /* The 8-byte integers first: every tensor has to lie at a multiple of its element size. */
    for (size_t i = 0; i < count; i++)
        if (lun_model_tracked_name(lun_store_info(store, i)->name, name, sizeof name))
            LUN_TRY(lun_safetensors_writer_declare(writer, name, LUN_ST_I64, 0, NULL));
    LUN_TRY(lun_model_put_names(&w, &info->config, info->naming));
    for (size_t i = 0; i < count; i++)
        if (lun_model_tracked_name(lun_store_info(store, i)->name, name, sizeof name))
            LUN_TRY(lun_safetensors_writer_data(writer, &tracked, sizeof tracked));
    return lun_model_put_values(&w, &info->config, info->naming);
}

lun_status lun_model_write(lun_store *store, lun_slot slot, const lun_model_file_info *info,
                           lun_safetensors_writer *writer)
{
    LUN_TRY(lun_model_check(&info->config));
    if (!lun_schedule_kind_name(info->schedule) || !lun_prediction_name(info->prediction))
        return lun_fail(LUN_ERR_USAGE, "there is no schedule number %d or prediction number %d", (int)info->schedule,
                        (int)info->prediction);
    LUN_TRY(lun_model_metadata_write(info, writer));
    return write_values(store, slot, info, writer);
}

lun_status lun_model_save(lun_store *store, const lun_model_file_info *info, const char *id, const char *path)
{
    lun_safetensors_writer *writer = NULL;
    LUN_TRY(lun_safetensors_writer_create(path, &writer));
    lun_status status = LUN_OK;
    if (id)
        status = lun_safetensors_writer_metadata(writer, "lunette.id", id);
    if (status == LUN_OK)
        status = lun_model_write(store, LUN_SLOT_VALUE, info, writer);
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(writer);
        return status;
    }
    return lun_safetensors_writer_commit(writer);
}
