#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <zlib.h>

#include <lunette/checkpoint.h>

#include "base/base.h"
#include "base/file.h"
#include "json.h"

struct tensor {
    const char *name; /* owned by writer->names */
    lun_safetensors_dtype dtype;
    int rank;
    int64_t dims[LUN_SAFETENSORS_MAX_RANK];
    uint64_t begin, bytes; /* from the start of the data */
    uint32_t crc;
};

struct lun_safetensors_writer {
    lun_file *file;
    json_t *metadata; /* the caller's */
    json_t *names;    /* name -> null: a set that also owns the names */
    struct tensor *tensors;
    size_t count, room;
    uint64_t total; /* bytes of data declared */
    size_t header;  /* bytes of JSON and padding on the disk; 0 before the first data() */
    size_t at;      /* the tensor at turn, and how much of it is written */
    uint64_t filled;
    bool broken;
};

lun_status lun_safetensors_writer_create(const char *path, lun_safetensors_writer **out)
{
    lun_safetensors_writer *writer = lun_calloc(1, sizeof *writer, "a safetensors writer");
    if (!writer)
        return LUN_ERR_MEMORY;
    lun_status status = LUN_OK;
    writer->metadata = json_object();
    writer->names = json_object();
    if (!writer->metadata || !writer->names)
        status = lun_fail(LUN_ERR_MEMORY, "out of memory for a safetensors writer");
    else
        status = lun_file_create(path, &writer->file);
    if (status != LUN_OK) {
        lun_safetensors_writer_discard(writer);
        return status;
    }
    *out = writer;
    return LUN_OK;
}

void lun_safetensors_writer_discard(lun_safetensors_writer *writer)
{
    if (!writer)
        return;
    lun_file_discard(writer->file);
    json_decref(writer->metadata);
    json_decref(writer->names);
    free(writer->tensors);
    free(writer);
}

/* Every failure marks the writer, so that a caller who overlooks one cannot commit a file that lacks something. */
static lun_status broken(lun_safetensors_writer *writer, lun_status status)
{
    writer->broken = true;
    return status;
}

/* jansson took neither a name nor a text: for lack of memory, or because it is not UTF-8. */
static lun_status not_taken(const char *path, const char *what, const char *text)
{
    if (lun_json_refused())
        return lun_fail(LUN_ERR_MEMORY, "%s: out of memory for its header", path);
    return lun_fail(LUN_ERR_USAGE, "%s: %s '%.200s' is not UTF-8", path, what, text);
}

lun_status lun_safetensors_writer_metadata(lun_safetensors_writer *writer, const char *key, const char *value)
{
    const char *path = lun_file_path(writer->file);
    if (strcmp(key, "lunette.crc32") == 0 || strcmp(key, "lunette.header_crc32") == 0)
        return broken(writer, lun_fail(LUN_ERR_USAGE, "%s: metadata key '%s' is the writer's own", path, key));
    if (writer->header && !json_object_get(writer->metadata, key))
        return broken(writer, lun_fail(LUN_ERR_USAGE, "%s: metadata key '%.100s' comes after the data", path, key));
    json_t *text = json_string(value);
    /* json_string() and json_object_set_new() refuse what is not UTF-8 and take over the reference in any case. */
    if (!text || json_object_set_new(writer->metadata, key, text) != 0)
        return broken(writer, not_taken(path, "metadata", key));
    return LUN_OK;
}

lun_status lun_safetensors_writer_declare(lun_safetensors_writer *writer, const char *name, lun_safetensors_dtype dtype,
                                          int rank, const int64_t *dims)
{
    const char *path = lun_file_path(writer->file), *fault = NULL;
    const size_t size = lun_safetensors_dtype_size(dtype);
    const uint64_t limit = (UINT64_C(1) << 53) - 1;
    uint64_t count = 1;
    if (writer->header)
        fault = "is declared after the first data";
    else if (strcmp(name, "__metadata__") == 0)
        fault = "is a name the format keeps for itself";
    else if (json_object_get(writer->names, name))
        fault = "is declared twice";
    else if (!size)
        fault = "has an unknown type";
    else if (rank < 0 || rank > LUN_SAFETENSORS_MAX_RANK || (rank && !dims))
        fault = "has more than 8 dimensions or a negative number of them";
    for (int i = 0; i < rank && !fault; i++) {
        if (dims[i] < 0)
            fault = "has a negative dimension";
        else if (dims[i] && count > limit / (uint64_t)dims[i])
            fault = "is too large";
        else
            count *= (uint64_t)dims[i];
    }
    if (!fault && writer->total % size)
        fault = "would not begin at a multiple of its element size; declare wide types first";
    if (!fault && (count > limit / size || count * size > limit - writer->total))
        fault = "is too large";
    if (fault)
        return broken(writer, lun_fail(LUN_ERR_USAGE, "%s: tensor '%.200s' %s", path, name, fault));

    if (writer->count == writer->room) {
        const size_t room = writer->room ? writer->room * 2 : 64;
        struct tensor *more = lun_realloc(writer->tensors, room, sizeof *more, "a tensor table");
        if (!more)
            return broken(writer, LUN_ERR_MEMORY);
        writer->tensors = more;
        writer->room = room;
    }
    if (json_object_set_new(writer->names, name, json_null()) != 0)
        return broken(writer, not_taken(path, "tensor name", name));
    struct tensor *tensor = &writer->tensors[writer->count++];
    *tensor = (struct tensor){.dtype = dtype, .rank = rank, .begin = writer->total, .bytes = count * size};
    tensor->name = json_object_iter_key(json_object_iter_at(writer->names, name));
    for (int i = 0; i < rank; i++)
        tensor->dims[i] = dims[i];
    writer->total += tensor->bytes;
    return LUN_OK;
}

/* Add `value` under `key`, taking over the reference; false when memory is out or the text is not UTF-8. */
static bool add(json_t *object, const char *key, json_t *value)
{
    return value && json_object_set_new(object, key, value) == 0;
}

static json_t *entry_json(const struct tensor *tensor)
{
    json_t *entry = json_object(), *shape = json_array(), *offsets = json_array();
    bool good = entry && shape && offsets;
    for (int i = 0; i < tensor->rank && good; i++)
        good = json_array_append_new(shape, json_integer(tensor->dims[i])) == 0;
    good = good && json_array_append_new(offsets, json_integer((json_int_t)tensor->begin)) == 0 &&
           json_array_append_new(offsets, json_integer((json_int_t)(tensor->begin + tensor->bytes))) == 0;
    good = good && add(entry, "dtype", json_string(lun_safetensors_dtype_name(tensor->dtype))) &&
           json_object_set(entry, "shape", shape) == 0 && json_object_set(entry, "data_offsets", offsets) == 0;
    json_decref(shape);
    json_decref(offsets);
    if (!good) {
        json_decref(entry);
        return NULL;
    }
    return entry;
}

static json_t *hex(uint32_t value)
{
    char text[9];
    snprintf(text, sizeof text, "%08lx", (unsigned long)value);
    return json_string(text);
}

static bool build_tensors(const lun_safetensors_writer *writer, json_t *root, json_t *crcs)
{
    for (size_t i = 0; i < writer->count; i++) {
        const struct tensor *tensor = &writer->tensors[i];
        if (!add(root, tensor->name, entry_json(tensor)) || !add(crcs, tensor->name, hex(tensor->crc)))
            return false;
    }
    return true;
}

/* The header as it stands now: length, JSON, spaces up to a multiple of 8. Its length depends on no CRC. */
static lun_status build_header(const lun_safetensors_writer *writer, unsigned char **out, size_t *bytes)
{
    static const char before[] = "\"lunette.header_crc32\":\"";
    (void)lun_json_refused(); /* what was refused before has been told */
    json_t *root = json_object(), *metadata = json_copy(writer->metadata), *crcs = json_object();
    char *list = NULL, *text = NULL;
    unsigned char *header = NULL;
    lun_status status = LUN_ERR_MEMORY;
    bool good = root && metadata && crcs && json_object_set(root, "__metadata__", metadata) == 0;
    good = good && build_tensors(writer, root, crcs);
    good = good && (list = json_dumps(crcs, JSON_COMPACT)) && add(metadata, "lunette.crc32", json_string(list)) &&
           add(metadata, "lunette.header_crc32", json_string("00000000")) && (text = json_dumps(root, JSON_COMPACT));
    good = !lun_json_refused() && good;
    const size_t length = text ? strlen(text) : 0, padded = (length + 7) / 8 * 8;
    if (!good || !(header = lun_malloc(padded + 8, 1, "a safetensors header"))) {
        lun_fail(LUN_ERR_MEMORY, "%s: out of memory for its header", lun_file_path(writer->file));
    } else if (padded > LUN_SAFETENSORS_MAX_HEADER) {
        status = lun_fail(LUN_ERR_USAGE, "%s: a header of %zu bytes, the format allows %d", lun_file_path(writer->file),
                          padded, LUN_SAFETENSORS_MAX_HEADER);
    } else {
        char digits[9];
        for (int i = 0; i < 8; i++)
            header[i] = (unsigned char)((uint64_t)padded >> 8 * i);
        memcpy(header + 8, text, length);
        memset(header + 8 + length, ' ', padded - length);
        /* Its quotes would be escaped inside another string, so that this text is found where it was put. */
        unsigned char *at = memmem(header + 8, padded, before, sizeof before - 1);
        snprintf(digits, sizeof digits, "%08lx", (unsigned long)crc32_z(0, header + 8, padded));
        memcpy(at + sizeof before - 1, digits, 8);
        *out = header;
        *bytes = padded + 8;
        header = NULL;
        status = LUN_OK;
    }
    free(header);
    free(text);
    free(list);
    json_decref(crcs);
    json_decref(metadata);
    json_decref(root);
    return status;
}

static lun_status begin_data(lun_safetensors_writer *writer)
{
    unsigned char *header = NULL;
    size_t bytes = 0;
    if (writer->header)
        return LUN_OK;
    LUN_TRY(build_header(writer, &header, &bytes));
    const lun_status status = lun_file_write(writer->file, header, bytes);
    free(header);
    if (status == LUN_OK)
        writer->header = bytes;
    return status;
}

static void skip_full(lun_safetensors_writer *writer)
{
    while (writer->at < writer->count && writer->filled == writer->tensors[writer->at].bytes) {
        writer->at++;
        writer->filled = 0;
    }
}

lun_status lun_safetensors_writer_data(lun_safetensors_writer *writer, const void *data, size_t bytes)
{
    if (writer->broken)
        return lun_fail(LUN_ERR_USAGE, "%s: written to after a failure", lun_file_path(writer->file));
    const lun_status begun = begin_data(writer);
    if (begun != LUN_OK)
        return broken(writer, begun);
    if (!bytes)
        return LUN_OK;
    skip_full(writer);
    if (writer->at == writer->count)
        return broken(writer, lun_fail(LUN_ERR_USAGE, "%s: more data than was declared", lun_file_path(writer->file)));
    struct tensor *tensor = &writer->tensors[writer->at];
    if (bytes > tensor->bytes - writer->filled)
        return broken(writer, lun_fail(LUN_ERR_USAGE, "%s: tensor '%.200s': more data than it holds",
                                       lun_file_path(writer->file), tensor->name));
    const lun_status status = lun_file_write(writer->file, data, bytes);
    if (status != LUN_OK)
        return broken(writer, status);
    tensor->crc = (uint32_t)crc32_z(tensor->crc, data, bytes);
    writer->filled += bytes;
    return LUN_OK;
}

static lun_status check_complete(lun_safetensors_writer *writer)
{
    if (writer->broken)
        return lun_fail(LUN_ERR_USAGE, "%s: committed after a failure", lun_file_path(writer->file));
    skip_full(writer);
    if (writer->at < writer->count)
        return broken(writer, lun_fail(LUN_ERR_USAGE, "%s: tensor '%.200s' lacks data", lun_file_path(writer->file),
                                       writer->tensors[writer->at].name));
    return LUN_OK;
}

lun_status lun_safetensors_writer_digest(lun_safetensors_writer *writer, uint64_t *digest)
{
    LUN_TRY(check_complete(writer));
    uint64_t hash = LUN_HASH_START;
    for (size_t i = 0; i < writer->count; i++) {
        const struct tensor *tensor = &writer->tensors[i];
        hash = lun_hash_text(hash, tensor->name);
        hash = lun_hash_text(hash, lun_safetensors_dtype_name(tensor->dtype));
        hash = lun_hash(hash, &tensor->rank, sizeof tensor->rank);
        hash = lun_hash(hash, tensor->dims, sizeof tensor->dims);
        hash = lun_hash(hash, &tensor->crc, sizeof tensor->crc);
    }
    *digest = hash;
    return LUN_OK;
}

/* Put the header with the CRCs in the place of the first one. */
static lun_status finish_header(lun_safetensors_writer *writer)
{
    unsigned char *header = NULL;
    size_t bytes = 0;
    LUN_TRY(check_complete(writer));
    LUN_TRY(begin_data(writer));
    LUN_TRY(build_header(writer, &header, &bytes));
    lun_status status = LUN_OK;
    if (bytes != writer->header)
        status = lun_fail(LUN_ERR_USAGE, "%s: metadata changed its length after the data began",
                          lun_file_path(writer->file));
    else
        status = lun_file_patch(writer->file, 0, header, bytes);
    free(header);
    return status;
}

lun_status lun_safetensors_writer_commit(lun_safetensors_writer *writer)
{
    lun_status status = finish_header(writer);
    if (status == LUN_OK) {
        status = lun_file_commit(writer->file);
        writer->file = NULL;
    }
    lun_safetensors_writer_discard(writer);
    return status;
}
