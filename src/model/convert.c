/* From one layout to another: tensors as bytes, a parameter at a time. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
#include "base/folder.h"
#include "build.h"
#include "checkpoint/json.h"
#include "interop.h"
#include "metadata.h"
#include "model_file.h"
#include "tell.h"

/* One parameter in both layouts. */
typedef struct move {
    lun_model_param from, to;
    char tracked[LUN_NAME_BYTES + 24]; /* the num_batches_tracked beside it, or "" */
} move;

typedef struct moving {
    const lun_safetensors *file;
    lun_model_file_info info; /* of what is written; info.naming is resolved */
    lun_naming naming;        /* of the file */
    move *moves;
    size_t count, room;
    size_t at;   /* in the second walk */
    bool folder; /* what is read is one of diffusers */
    char *kept;  /* its scheduler, where there is something to keep */
    lun_status status;
} moving;

/* ---- The list ---------------------------------------------------------------------------------------------------- */

/* The walk's strings end with the call; in the notebook network's only naming info.name is part[0]. */
static bool list_from(void *payload, const lun_model_param *p)
{
    moving *m = payload;
    if (m->count == m->room) {
        const size_t room = m->room ? 2 * m->room : 256;
        move *moves = lun_realloc(m->moves, room, sizeof *moves, "a list of tensors");
        if (!moves) {
            m->status = LUN_ERR_MEMORY;
            return false;
        }
        m->moves = moves;
        m->room = room;
    }
    move *one = &m->moves[m->count++];
    one->from = *p;
    one->from.info.name = NULL;
    if (!lun_model_tracked_name(p->info.name, one->tracked, sizeof one->tracked))
        one->tracked[0] = '\0';
    return true;
}

static bool list_to(void *payload, const lun_model_param *p)
{
    moving *m = payload;
    if (m->at == m->count)
        return false;
    m->moves[m->at].to = *p;
    m->moves[m->at++].to.info.name = NULL;
    return true;
}

static lun_status list(moving *m)
{
    const lun_model_config *config = &m->info.config;
    lun_model_visit(config, m->naming, list_from, m);
    LUN_TRY(m->status);
    lun_model_visit(config, m->info.naming, list_to, m);
    return m->at == m->count ? LUN_OK : lun_fail(LUN_ERR_INTERNAL, "a network of two lengths");
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------- */

/* Opening the file has found every tensor. */
static const lun_safetensors_entry *entry_of(const moving *m, const char *name, size_t *index)
{
    const int64_t at = lun_model_find(m->file, name);
    if (index)
        *index = at < 0 ? 0 : (size_t)at;
    return at < 0 ? NULL : lun_safetensors_info(m->file, (size_t)at);
}

/* q, k and v become one tensor of one type. */
static lun_status check_types(const moving *m)
{
    for (size_t i = 0; i < m->count; i++) {
        const move *one = &m->moves[i];
        for (int part = 1; part < one->from.parts; part++)
            if (entry_of(m, one->from.part[part], NULL)->dtype != entry_of(m, one->from.part[0], NULL)->dtype)
                return lun_fail(LUN_ERR_CHECKPOINT, "%s: %s and %s are of different types",
                                lun_safetensors_path(m->file), one->from.part[0], one->from.part[part]);
    }
    return LUN_OK;
}

static lun_status copy_tensor(const moving *m, lun_safetensors_writer *writer, size_t index)
{
    const size_t bytes = (size_t)lun_safetensors_info(m->file, index)->bytes;
    void *data = lun_malloc(bytes, 1, "a tensor");
    if (!data)
        return LUN_ERR_MEMORY;
    lun_status status = lun_safetensors_read(m->file, index, data, bytes);
    if (status == LUN_OK)
        status = lun_safetensors_writer_data(writer, data, bytes);
    free(data);
    return status;
}

/* The whole from its pieces, or from one tensor. */
static lun_status gather(const moving *m, const move *one, size_t element, char *whole, char *piece)
{
    for (int part = 0; part < one->from.parts; part++) {
        size_t index = 0;
        const size_t bytes = (size_t)entry_of(m, one->from.part[part], &index)->bytes;
        LUN_TRY(lun_safetensors_read(m->file, index, one->from.parts == 1 ? whole : piece, bytes));
        if (one->from.parts > 1)
            lun_model_move_rows(&one->from, part, whole, piece, element, false);
    }
    return LUN_OK;
}

static lun_status rearrange(const moving *m, lun_safetensors_writer *writer, const move *one, size_t element)
{
    const size_t bytes = (size_t)lun_count(one->from.info.desc.shape) * element;
    char *whole = lun_malloc(bytes, 1, "a tensor"), *piece = lun_malloc(bytes / 3, 1, "a tensor");
    lun_status status = whole && piece ? gather(m, one, element, whole, piece) : LUN_ERR_MEMORY;
    for (int part = 0; part < one->to.parts && status == LUN_OK; part++) {
        if (one->to.parts > 1)
            lun_model_move_rows(&one->to, part, whole, piece, element, true);
        status = lun_safetensors_writer_data(writer, one->to.parts > 1 ? piece : whole, bytes / (size_t)one->to.parts);
    }
    free(whole);
    free(piece);
    return status;
}

static lun_status write_param(const moving *m, lun_safetensors_writer *writer, const move *one, size_t element)
{
    if (one->from.parts != one->to.parts)
        return rearrange(m, writer, one, element);
    for (int part = 0; part < one->from.parts; part++) {
        size_t index = 0;
        entry_of(m, one->from.part[part], &index);
        LUN_TRY(copy_tensor(m, writer, index));
    }
    return LUN_OK;
}

/* The counts of a notebook network's batch norms; PyTorch before 0.4.1 wrote none. */
static lun_status tracked(const moving *m, lun_safetensors_writer *writer, bool declare, size_t element)
{
    static const int64_t never = 0;
    for (size_t i = 0; i < m->count; i++) {
        size_t index = 0;
        const char *const name = m->moves[i].tracked;
        const lun_safetensors_entry *entry = *name ? entry_of(m, name, &index) : NULL;
        if (!*name || (entry ? lun_safetensors_dtype_size(entry->dtype) : sizeof never) != element)
            continue;
        if (declare)
            LUN_TRY(lun_safetensors_writer_declare(writer, name, entry ? entry->dtype : LUN_ST_I64,
                                                   entry ? entry->rank : 0, entry ? entry->dims : NULL));
        else
            LUN_TRY(entry ? copy_tensor(m, writer, index) : lun_safetensors_writer_data(writer, &never, sizeof never));
    }
    return LUN_OK;
}

/* Wide types first: every tensor has to lie at a multiple of its element size. Of one size as lun_model_write has
 * them. */
static lun_status write_tensors(const moving *m, lun_safetensors_writer *writer, bool declare)
{
    for (size_t element = 8; element; element /= 2) {
        LUN_TRY(tracked(m, writer, declare, element));
        for (size_t i = 0; i < m->count; i++) {
            const move *one = &m->moves[i];
            const lun_safetensors_dtype dtype = entry_of(m, one->from.part[0], NULL)->dtype;
            if (lun_safetensors_dtype_size(dtype) != element)
                continue;
            for (int part = 0; declare && part < one->to.parts; part++)
                LUN_TRY(lun_safetensors_writer_declare(writer, one->to.part[part], dtype, one->to.rank, one->to.dims));
            if (!declare)
                LUN_TRY(write_param(m, writer, one, element));
        }
    }
    return LUN_OK;
}

/* The file's own, in its order, with the configuration as it is now. */
static lun_status write_metadata(const moving *m, lun_safetensors_writer *writer)
{
    char *model = lun_model_metadata_text(&m->info);
    lun_status status = model ? LUN_OK : LUN_ERR_MEMORY;
    for (size_t i = 0; i < lun_safetensors_metadata_count(m->file) && status == LUN_OK; i++) {
        const char *value = NULL, *key = lun_safetensors_metadata_at(m->file, i, &value);
        if (strcmp(key, "lunette.crc32") == 0 || strcmp(key, "lunette.header_crc32") == 0)
            continue;
        if (m->folder && strcmp(key, LUN_DIFFUSERS_KEPT) == 0 && !(value = m->kept))
            continue;
        if (strcmp(key, "lunette.model") == 0)
            value = model;
        status = lun_safetensors_writer_metadata(writer, key, value);
    }
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "lunette.model", model);
    if (status == LUN_OK && m->kept)
        status = lun_safetensors_writer_metadata(writer, LUN_DIFFUSERS_KEPT, m->kept);
    /* diffusers wants to be told whose shapes these are. */
    if (status == LUN_OK)
        status = lun_safetensors_writer_metadata(writer, "format", "pt");
    free(model);
    return status;
}

static lun_status write_file(const moving *m, const char *path)
{
    lun_safetensors_writer *writer = NULL;
    LUN_TRY(lun_safetensors_writer_create(path, &writer));
    lun_status status = write_metadata(m, writer);
    if (status == LUN_OK)
        status = write_tensors(m, writer, true);
    if (status == LUN_OK)
        status = write_tensors(m, writer, false);
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(writer);
        return status;
    }
    return lun_safetensors_writer_commit(writer);
}

/* ---- diffusers' folder --------------------------------------------------------------------------------------------
 */

/* Takes over `json`. */
static lun_status write_json(const lun_folder *folder, const char *name, json_t *json)
{
    lun_file *file = NULL;
    char *text = lun_json_text(json, 2), *path = lun_format("%s/%s", lun_folder_place(folder), name);
    lun_status status = text && path ? lun_file_create(path, &file) : lun_fail(LUN_ERR_MEMORY, "out of memory (JSON)");
    if (status == LUN_OK)
        status = lun_file_write(file, text, strlen(text));
    if (status == LUN_OK)
        status = lun_file_write(file, "\n", 1);
    if (status == LUN_OK)
        status = lun_file_commit(file);
    else
        lun_file_discard(file);
    json_decref(json);
    free(text);
    free(path);
    return status;
}

static lun_status write_weights(const moving *m, const lun_folder *folder)
{
    char *path = lun_format("%s/unet/" LUN_DIFFUSERS_WEIGHTS, lun_folder_place(folder));
    if (!path)
        return LUN_ERR_MEMORY;
    const lun_status status = write_file(m, path);
    free(path);
    return status;
}

static lun_status fill_folder(const moving *m, lun_folder *folder)
{
    LUN_TRY(lun_folder_add(folder, "unet"));
    LUN_TRY(lun_folder_add(folder, "scheduler"));
    LUN_TRY(write_weights(m, folder));
    LUN_TRY(write_json(folder, "unet/config.json", lun_diffusers_unet_json(&m->info)));
    const char *kept = m->folder ? m->kept : lun_safetensors_metadata(m->file, LUN_DIFFUSERS_KEPT);
    json_t *scheduler = lun_diffusers_kept(kept, &m->info),
           *index = scheduler ? lun_diffusers_index_json(scheduler) : NULL;
    const lun_status status = write_json(folder, "scheduler/scheduler_config.json", scheduler);
    if (status == LUN_OK)
        return write_json(folder, "model_index.json", index);
    json_decref(index);
    return status;
}

static lun_status write_folder(const moving *m, const char *path)
{
    lun_folder *folder = NULL;
    LUN_TRY(lun_folder_create(path, &folder));
    const lun_status status = fill_folder(m, folder);
    if (status != LUN_OK) {
        lun_folder_discard(folder);
        return status;
    }
    return lun_folder_commit(folder);
}

/* ---- All of it ----------------------------------------------------------------------------------------------------
 */

static lun_status keep_scheduler(moving *m, const char *path)
{
    lun_diffusers_parts parts = {NULL};
    LUN_TRY(lun_diffusers_look(path, &m->folder));
    if (!m->folder)
        return LUN_OK;
    LUN_TRY(lun_diffusers_find(path, &parts));
    const lun_status status = lun_diffusers_keep(&parts, &m->info, &m->kept);
    lun_diffusers_parts_free(&parts);
    return status;
}

static lun_status convert(moving *m, const lun_convert_params *params)
{
    m->naming = m->info.naming;
    LUN_TRY(keep_scheduler(m, params->from));
    LUN_TRY(lun_layout_check(&m->info.config, params->layout));
    if (params->layout == LUN_NAMING_DIFFUSERS)
        LUN_TRY(lun_diffusers_check(&m->info));
    m->info.naming = params->layout == LUN_NAMING_OWN ? lun_model_own_naming(m->info.config.network) : params->layout;
    bool there = false;
    LUN_TRY(lun_file_look(params->to, &there));
    if (there)
        return lun_fail(LUN_ERR_USAGE, "%s exists already: name a file or folder that does not", params->to);
    LUN_TRY(lun_safetensors_verify(m->file, 0));
    LUN_TRY(list(m));
    LUN_TRY(check_types(m));
    return m->info.naming == LUN_NAMING_DIFFUSERS ? write_folder(m, params->to) : write_file(m, params->to);
}

lun_status lun_model_convert(const lun_convert_params *params, lun_model_file_info *out)
{
    const lun_model_hints *h = &params->hints;
    const bool hinted = h->heads || h->head_width || h->order || h->groups;
    lun_safetensors *file = NULL;
    moving m = {.status = LUN_OK};
    if (h->heads < 0 || h->head_width < 0 || h->groups < 0 || h->order < 0 || h->order > 1 + LUN_QKV_SPLIT ||
        (h->heads && h->head_width))
        return lun_fail(LUN_ERR_USAGE, "heads of attention are told by their number or by their width");
    LUN_TRY(lun_model_open(params->from, hinted ? h : NULL, &file, &m.info));
    m.file = file;
    const lun_status status = convert(&m, params);
    lun_safetensors_close(file);
    free(m.moves);
    free(m.kept);
    if (status == LUN_OK && out)
        *out = m.info;
    return status;
}
