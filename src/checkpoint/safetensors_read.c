#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zlib.h>

#include <lunette/checkpoint.h>

#include "base/base.h"
#include "base/file.h"
#include "json.h"

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "the tensors' bytes are little-endian and are copied as they are"
#endif

#define CHUNK    65536 /* bytes; a multiple of every element size */
#define READ_MAX ((size_t)1 << 30)

static const lun_json_limits header_limits = {
    .bytes = LUN_SAFETENSORS_MAX_HEADER, .values = (size_t)1 << 20, .depth = 8, .plain = true};

struct lun_safetensors {
    char *path;
    int fd;
    uint64_t size;    /* of the file, at opening */
    uint64_t header;  /* bytes of JSON */
    json_t *json;     /* owns the names and the metadata */
    json_t *metadata; /* borrowed; NULL without one */
    size_t count;
    lun_safetensors_entry *entries; /* by offset */
    size_t *by_name;                /* indices of entries, by strcmp */
};

static const struct {
    const char *name;
    size_t size;
} dtypes[] = {
    [LUN_ST_BOOL] = {"BOOL", 1}, [LUN_ST_U8] = {"U8", 1},   [LUN_ST_I8] = {"I8", 1},     [LUN_ST_U16] = {"U16", 2},
    [LUN_ST_I16] = {"I16", 2},   [LUN_ST_F16] = {"F16", 2}, [LUN_ST_BF16] = {"BF16", 2}, [LUN_ST_U32] = {"U32", 4},
    [LUN_ST_I32] = {"I32", 4},   [LUN_ST_F32] = {"F32", 4}, [LUN_ST_U64] = {"U64", 8},   [LUN_ST_I64] = {"I64", 8},
    [LUN_ST_F64] = {"F64", 8},
};

const char *lun_safetensors_dtype_name(lun_safetensors_dtype dtype)
{
    return (size_t)dtype < LUN_COUNT(dtypes) ? dtypes[dtype].name : "?";
}

size_t lun_safetensors_dtype_size(lun_safetensors_dtype dtype)
{
    return (size_t)dtype < LUN_COUNT(dtypes) ? dtypes[dtype].size : 0;
}

/* `bytes` bytes at `offset`, all of them. */
static lun_status read_at(const lun_safetensors *file, uint64_t offset, void *dst, size_t bytes)
{
    unsigned char *out = dst;
    while (bytes) {
        const ssize_t got = pread(file->fd, out, bytes < READ_MAX ? bytes : READ_MAX, (off_t)offset);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: cannot read: %s", file->path, strerror(errno));
        if (got == 0)
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: became shorter while being read", file->path);
        out += got;
        bytes -= (size_t)got;
        offset += (uint64_t)got;
    }
    return LUN_OK;
}

static lun_status check_size(const lun_safetensors *file)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: cannot inspect: %s", file->path, strerror(errno));
    if ((uint64_t)st.st_size != file->size)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: its size changed while being read", file->path);
    return LUN_OK;
}

/* Bytes 0.. of something PyTorch's own torch.save() makes: a zip archive, or formerly a bare pickle. */
static bool is_pickle(const unsigned char *head, size_t bytes)
{
    return (bytes >= 4 && memcmp(head, "PK\3\4", 4) == 0) ||
           (bytes >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5);
}

static lun_status read_header(lun_safetensors *file, char **text)
{
    unsigned char head[9] = {0};
    const size_t there = file->size < sizeof head ? (size_t)file->size : sizeof head;
    uint64_t length = 0;
    LUN_TRY(read_at(file, 0, head, there));
    if ((there < sizeof head || head[8] != '{') && is_pickle(head, there))
        return lun_fail(
            LUN_ERR_CHECKPOINT,
            "%s: a PyTorch pickle, never read here, since it can run anything; where it is trusted: python3 -c "
            "'import sys, torch; from safetensors.torch import save_file; "
            "d = torch.load(sys.argv[1], \"cpu\", weights_only=True); "
            "save_file({k: v.contiguous().clone() for k, v in d.get(\"state_dict\", d).items()}, "
            "sys.argv[2])' IN OUT.safetensors",
            file->path);
    if (file->size < 8)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: not a safetensors file: only %llu bytes", file->path,
                        (unsigned long long)file->size);
    for (int i = 7; i >= 0; i--)
        length = length << 8 | head[i];
    if (length > LUN_SAFETENSORS_MAX_HEADER)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: not a safetensors file: a header of %llu bytes, the format allows %d",
                        file->path, (unsigned long long)length, LUN_SAFETENSORS_MAX_HEADER);
    if (length > file->size - 8)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: truncated: a header of %llu bytes in a file of %llu", file->path,
                        (unsigned long long)length, (unsigned long long)file->size);
    if (length < 2)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: not a safetensors file: a header of %llu bytes", file->path,
                        (unsigned long long)length);
    if (head[8] != '{')
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: not a safetensors file: the header does not begin with '{'",
                        file->path);
    char *header = lun_malloc((size_t)length, 1, "a safetensors header");
    if (!header)
        return LUN_ERR_MEMORY;
    const lun_status status = read_at(file, 8, header, (size_t)length);
    if (status != LUN_OK) {
        free(header);
        return status;
    }
    file->header = length;
    *text = header;
    return LUN_OK;
}

/* A plain integer below 2^53; the scan has refused signs, points and exponents. */
static bool plain_integer(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0 || json_integer_value(value) >= (json_int_t)1 << 53)
        return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

static lun_status tensor_fault(const lun_safetensors *file, const char *name, const char *fault)
{
    return lun_fail(LUN_ERR_CHECKPOINT, "%s: tensor '%.200s': %s", file->path, name, fault);
}

/* One entry, all but its place among the others. entry->offset is still relative to the data. */
static lun_status parse_entry(const lun_safetensors *file, const char *name, json_t *json, lun_safetensors_entry *entry)
{
    if (!json_is_object(json))
        return tensor_fault(file, name, "its entry is not an object");
    const json_t *dtype = json_object_get(json, "dtype"), *shape = json_object_get(json, "shape"),
                 *offsets = json_object_get(json, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(offsets))
        return tensor_fault(file, name, "dtype (a string), shape and data_offsets (arrays) are needed");
    if (json_object_size(json) != 3)
        return tensor_fault(file, name, "a key besides dtype, shape and data_offsets");

    size_t type = 0;
    while (type < LUN_COUNT(dtypes) && strcmp(dtypes[type].name, json_string_value(dtype)) != 0)
        type++;
    if (type == LUN_COUNT(dtypes))
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: unsupported dtype %.40s for tensor '%.200s'", file->path,
                        json_string_value(dtype), name);

    if (json_array_size(shape) > LUN_SAFETENSORS_MAX_RANK)
        return tensor_fault(file, name, "more than 8 dimensions");
    uint64_t count = 1, dim = 0, begin = 0, end = 0;
    for (size_t i = 0; i < json_array_size(shape); i++) {
        if (!plain_integer(json_array_get(shape, i), &dim))
            return tensor_fault(file, name, "a dimension that is not a non-negative integer below 2^53");
        /* Below 2^53 every product that stays so is exact, and times 8 bytes it fits 64 bits. */
        if (dim && count > ((UINT64_C(1) << 53) - 1) / dim)
            return tensor_fault(file, name, "the product of its shape overflows");
        count *= dim;
        entry->dims[i] = (int64_t)dim;
    }
    if (json_array_size(offsets) != 2 || !plain_integer(json_array_get(offsets, 0), &begin) ||
        !plain_integer(json_array_get(offsets, 1), &end))
        return tensor_fault(file, name, "data_offsets must be two non-negative integers below 2^53");
    if (end < begin)
        return tensor_fault(file, name, "its data ends before it begins");
    if (end > file->size - 8 - file->header)
        return tensor_fault(file, name, "its data lies beyond the end of the file (truncated?)");
    if (end - begin != count * dtypes[type].size)
        return tensor_fault(file, name, "the size of its data is not that of its shape and type");
    entry->name = name;
    entry->dtype = (lun_safetensors_dtype)type;
    entry->rank = (int)json_array_size(shape);
    entry->count = (int64_t)count;
    entry->offset = begin;
    entry->bytes = end - begin;
    return LUN_OK;
}

static int compare_offsets(const void *a, const void *b)
{
    const lun_safetensors_entry *x = a, *y = b;
    if (x->offset != y->offset)
        return x->offset < y->offset ? -1 : 1;
    /* A tensor without elements lies before the one that begins where it does. */
    if (x->bytes != y->bytes)
        return x->bytes < y->bytes ? -1 : 1;
    return strcmp(x->name, y->name);
}

struct named {
    const char *name;
    size_t index;
};

static int compare_names(const void *a, const void *b)
{
    return strcmp(((const struct named *)a)->name, ((const struct named *)b)->name);
}

static lun_status index_names(lun_safetensors *file)
{
    struct named *named = lun_malloc(file->count, sizeof *named, "tensor names");
    file->by_name = lun_malloc(file->count, sizeof *file->by_name, "tensor names");
    if (!named || !file->by_name) {
        free(named);
        return LUN_ERR_MEMORY;
    }
    for (size_t i = 0; i < file->count; i++)
        named[i] = (struct named){file->entries[i].name, i};
    qsort(named, file->count, sizeof *named, compare_names);
    for (size_t i = 0; i < file->count; i++)
        file->by_name[i] = named[i].index;
    free(named);
    return LUN_OK;
}

static lun_status parse_header(lun_safetensors *file)
{
    file->metadata = json_object_get(file->json, "__metadata__");
    if (file->metadata && !json_is_object(file->metadata))
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: __metadata__ is not an object", file->path);
    for (void *at = json_object_iter(file->metadata); at; at = json_object_iter_next(file->metadata, at)) {
        if (!json_is_string(json_object_iter_value(at)))
            return lun_fail(LUN_ERR_CHECKPOINT, "%s: __metadata__: the value of '%.100s' is not a string", file->path,
                            json_object_iter_key(at));
    }
    const size_t count = json_object_size(file->json) - (file->metadata ? 1 : 0);
    file->entries = lun_calloc(count, sizeof *file->entries, "a tensor table");
    if (!file->entries)
        return LUN_ERR_MEMORY;
    for (void *at = json_object_iter(file->json); at; at = json_object_iter_next(file->json, at)) {
        if (json_object_iter_value(at) != file->metadata)
            LUN_TRY(
                parse_entry(file, json_object_iter_key(at), json_object_iter_value(at), &file->entries[file->count++]));
    }
    qsort(file->entries, file->count, sizeof *file->entries, compare_offsets);
    uint64_t position = 0;
    for (size_t i = 0; i < file->count; i++) {
        lun_safetensors_entry *entry = &file->entries[i];
        if (entry->offset != position)
            return tensor_fault(file, entry->name,
                                entry->offset < position ? "its data overlaps another tensor's"
                                                         : "a hole before its data");
        position += entry->bytes;
        entry->offset += 8 + file->header;
    }
    if (position != file->size - 8 - file->header)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: %llu bytes after the last tensor", file->path,
                        (unsigned long long)(file->size - 8 - file->header - position));
    return index_names(file);
}

lun_status lun_safetensors_open(const char *path, lun_safetensors **out)
{
    lun_status status = LUN_ERR_MEMORY;
    struct stat st;
    char *text = NULL;
    lun_safetensors *file = lun_calloc(1, sizeof *file, "a safetensors file");
    if (!file)
        return LUN_ERR_MEMORY;
    file->fd = -1;
    if (!(file->path = lun_strdup(path)))
        goto done;
    /* O_NONBLOCK: opening a pipe must not wait for a writer. */
    file->fd = lun_open_at(AT_FDCWD, path, O_RDONLY | O_NONBLOCK, 0);
    if (file->fd < 0) {
        const bool missing = errno == ENOENT || errno == ENOTDIR;
        status = lun_fail(missing ? LUN_ERR_USAGE : LUN_ERR_CHECKPOINT, "%s: cannot open: %s", path, strerror(errno));
        goto done;
    }
    if (fstat(file->fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        status = lun_fail(LUN_ERR_CHECKPOINT, "%s: not a regular file", path);
        goto done;
    }
    file->size = (uint64_t)st.st_size;
    LUN_TRY_GOTO(status, done, read_header(file, &text));
    const lun_json_from from = {file->path, LUN_ERR_CHECKPOINT};
    LUN_TRY_GOTO(status, done, lun_json_parse(from, text, (size_t)file->header, &header_limits, &file->json));
    LUN_TRY_GOTO(status, done, parse_header(file));
    LUN_TRY_GOTO(status, done, check_size(file));
    *out = file;
    file = NULL;
done:
    free(text);
    lun_safetensors_close(file);
    return status;
}

void lun_safetensors_close(lun_safetensors *file)
{
    if (!file)
        return;
    if (file->fd >= 0)
        close(file->fd);
    json_decref(file->json);
    free(file->entries);
    free(file->by_name);
    free(file->path);
    free(file);
}

const char *lun_safetensors_path(const lun_safetensors *file)
{
    return file->path;
}

size_t lun_safetensors_count(const lun_safetensors *file)
{
    return file->count;
}

const lun_safetensors_entry *lun_safetensors_info(const lun_safetensors *file, size_t index)
{
    return index < file->count ? &file->entries[index] : NULL;
}

int64_t lun_safetensors_find(const lun_safetensors *file, const char *name)
{
    size_t low = 0, high = file->count;
    while (low < high) {
        const size_t middle = low + (high - low) / 2;
        const int order = strcmp(name, file->entries[file->by_name[middle]].name);
        if (order == 0)
            return (int64_t)file->by_name[middle];
        if (order < 0)
            high = middle;
        else
            low = middle + 1;
    }
    return -1;
}

const char *lun_safetensors_metadata(const lun_safetensors *file, const char *key)
{
    return json_string_value(json_object_get(file->metadata, key));
}

size_t lun_safetensors_metadata_count(const lun_safetensors *file)
{
    return json_object_size(file->metadata);
}

const char *lun_safetensors_metadata_at(const lun_safetensors *file, size_t index, const char **value)
{
    void *at = json_object_iter(file->metadata);
    while (at && index--)
        at = json_object_iter_next(file->metadata, at);
    if (!at)
        return NULL;
    if (value)
        *value = json_string_value(json_object_iter_value(at));
    return json_object_iter_key(at);
}

static lun_status check_request(const lun_safetensors *file, size_t index, uint64_t have, bool as_bytes)
{
    if (index >= file->count)
        return lun_fail(LUN_ERR_INTERNAL, "%s: has no tensor %zu", file->path, index);
    const lun_safetensors_entry *entry = &file->entries[index];
    if (have != (as_bytes ? entry->bytes : (uint64_t)entry->count))
        return lun_fail(LUN_ERR_INTERNAL, "%s: tensor '%.200s' read with a wrong size", file->path, entry->name);
    return LUN_OK;
}

lun_status lun_safetensors_read(const lun_safetensors *file, size_t index, void *dst, size_t bytes)
{
    LUN_TRY(check_request(file, index, bytes, true));
    LUN_TRY(read_at(file, file->entries[index].offset, dst, bytes));
    return check_size(file);
}

/* IEEE half to float, exact: the exponent is rebiased, a subnormal is scaled by 2^-24. */
static float half_to_float(uint16_t half)
{
    const uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = (half >> 10) & 31u, mantissa = half & 0x3ffu;
    uint32_t bits;
    float value;
    if (exponent == 0) {
        value = (float)mantissa * 0x1p-24f;
        return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | mantissa << 13;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float bfloat16_to_float(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* memcpy throughout: nothing says that the bytes of the file are aligned. */
static bool convert_f32(lun_safetensors_dtype dtype, const unsigned char *src, float *dst, size_t count)
{
    uint16_t half;
    double wide;
    switch (dtype) {
    case LUN_ST_F32: memcpy(dst, src, count * sizeof *dst); return true;
    case LUN_ST_F16:
        for (size_t i = 0; i < count; i++) {
            memcpy(&half, src + 2 * i, 2);
            dst[i] = half_to_float(half);
        }
        return true;
    case LUN_ST_BF16:
        for (size_t i = 0; i < count; i++) {
            memcpy(&half, src + 2 * i, 2);
            dst[i] = bfloat16_to_float(half);
        }
        return true;
    case LUN_ST_F64:
        for (size_t i = 0; i < count; i++) {
            memcpy(&wide, src + 8 * i, 8);
            dst[i] = (float)wide;
        }
        return true;
    default: return false;
    }
}

#define WIDEN(type)                                                                                                    \
    for (size_t i = 0; i < count; i++) {                                                                               \
        type value;                                                                                                    \
        memcpy(&value, src + i * sizeof value, sizeof value);                                                          \
        dst[i] = (int64_t)value;                                                                                       \
    }                                                                                                                  \
    return NULL

/* NULL, or what is wrong. */
static const char *convert_i64(lun_safetensors_dtype dtype, const unsigned char *src, int64_t *dst, size_t count)
{
    switch (dtype) {
    case LUN_ST_I64: memcpy(dst, src, count * sizeof *dst); return NULL;
    case LUN_ST_BOOL:
        for (size_t i = 0; i < count; i++) {
            if (src[i] > 1)
                return "a BOOL that is neither 0 nor 1";
            dst[i] = src[i];
        }
        return NULL;
    case LUN_ST_U64:
        for (size_t i = 0; i < count; i++) {
            uint64_t value;
            memcpy(&value, src + 8 * i, 8);
            if (value > INT64_MAX)
                return "an integer above 2^63-1";
            dst[i] = (int64_t)value;
        }
        return NULL;
    case LUN_ST_U8: WIDEN(uint8_t);
    case LUN_ST_I8: WIDEN(int8_t);
    case LUN_ST_U16: WIDEN(uint16_t);
    case LUN_ST_I16: WIDEN(int16_t);
    case LUN_ST_U32: WIDEN(uint32_t);
    case LUN_ST_I32: WIDEN(int32_t);
    default: return "not of an integer type";
    }
}

lun_status lun_safetensors_read_f32(const lun_safetensors *file, size_t index, float *dst, size_t count)
{
    unsigned char chunk[CHUNK];
    LUN_TRY(check_request(file, index, count, false));
    const lun_safetensors_entry *entry = &file->entries[index];
    if (entry->dtype == LUN_ST_F32)
        return lun_safetensors_read(file, index, dst, count * sizeof *dst);
    const size_t size = dtypes[entry->dtype].size;
    if (!convert_f32(entry->dtype, chunk, dst, 0))
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: tensor '%.200s' is %s, a floating-point type is needed", file->path,
                        entry->name, dtypes[entry->dtype].name);
    for (size_t done = 0; done < count;) {
        const size_t now = count - done < CHUNK / size ? count - done : CHUNK / size;
        LUN_TRY(read_at(file, entry->offset + done * size, chunk, now * size));
        convert_f32(entry->dtype, chunk, dst + done, now);
        done += now;
    }
    return check_size(file);
}

lun_status lun_safetensors_read_i64(const lun_safetensors *file, size_t index, int64_t *dst, size_t count)
{
    unsigned char chunk[CHUNK];
    LUN_TRY(check_request(file, index, count, false));
    const lun_safetensors_entry *entry = &file->entries[index];
    const size_t size = dtypes[entry->dtype].size;
    const char *fault = convert_i64(entry->dtype, chunk, dst, 0);
    for (size_t done = 0; done < count && !fault;) {
        const size_t now = count - done < CHUNK / size ? count - done : CHUNK / size;
        LUN_TRY(read_at(file, entry->offset + done * size, chunk, now * size));
        fault = convert_i64(entry->dtype, chunk, dst + done, now);
        done += now;
    }
    if (fault)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: tensor '%.200s' (%s): %s", file->path, entry->name,
                        dtypes[entry->dtype].name, fault);
    return check_size(file);
}

static bool parse_hex8(const char *text, uint32_t *out)
{
    uint32_t value = 0;
    if (strlen(text) != 8 || strspn(text, "0123456789abcdef") != 8)
        return false;
    for (int i = 0; i < 8; i++)
        value = value << 4 | (uint32_t)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
    *out = value;
    return true;
}

/* The header's own CRC, its digits read as zeros. They are found by the exact text the writer gives them; inside
 * another string that text cannot occur, since its quotes would be escaped. */
static lun_status verify_header(const lun_safetensors *file, const char *recorded)
{
    static const char before[] = "\"lunette.header_crc32\":\"";
    uint32_t want = 0;
    char *text = lun_malloc((size_t)file->header, 1, "a safetensors header");
    if (!text)
        return LUN_ERR_MEMORY;
    lun_status status = read_at(file, 8, text, (size_t)file->header);
    if (status == LUN_OK) {
        char *at = memmem(text, (size_t)file->header, before, sizeof before - 1);
        bool good = at && parse_hex8(recorded, &want) && (size_t)(text + file->header - at) >= sizeof before - 1 + 8;
        if (good) {
            memset(at + sizeof before - 1, '0', 8);
            good = crc32_z(0, (const unsigned char *)text, (size_t)file->header) == want;
        }
        if (!good)
            status = lun_fail(LUN_ERR_CHECKPOINT,
                              "%s: the header does not match its CRC: damaged, or changed by a program that "
                              "kept lunette.header_crc32 in its metadata",
                              file->path);
    }
    free(text);
    return status;
}

static lun_status verify_tensor(const lun_safetensors *file, const lun_safetensors_entry *entry, const json_t *crcs)
{
    unsigned char chunk[CHUNK];
    uint32_t want = 0;
    uLong crc = 0;
    const char *recorded = json_string_value(json_object_get(crcs, entry->name));
    if (!recorded || !parse_hex8(recorded, &want))
        return tensor_fault(file, entry->name, "has no CRC, though the file has some");
    for (uint64_t done = 0; done < entry->bytes;) {
        const size_t now = entry->bytes - done < CHUNK ? (size_t)(entry->bytes - done) : CHUNK;
        LUN_TRY(read_at(file, entry->offset + done, chunk, now));
        crc = crc32_z(crc, chunk, now);
        done += now;
    }
    return crc == want ? LUN_OK : tensor_fault(file, entry->name, "damaged: its data does not match its CRC");
}

lun_status lun_safetensors_verify(const lun_safetensors *file, int require)
{
    const char *header = lun_safetensors_metadata(file, "lunette.header_crc32"),
               *list = lun_safetensors_metadata(file, "lunette.crc32");
    if (!header && !list && !require)
        return check_size(file);
    if (!header || !list)
        return lun_fail(LUN_ERR_CHECKPOINT, "%s: has no CRCs of header and tensors", file->path);
    LUN_TRY(verify_header(file, header));
    json_t *crcs = NULL;
    lun_status status =
        lun_json_parse((lun_json_from){file->path, LUN_ERR_CHECKPOINT}, list, strlen(list), &header_limits, &crcs);
    if (status == LUN_OK && json_object_size(crcs) != file->count)
        status = lun_fail(LUN_ERR_CHECKPOINT, "%s: %zu CRCs for %zu tensors", file->path, json_object_size(crcs),
                          file->count);
    for (size_t i = 0; i < file->count && status == LUN_OK; i++)
        status = verify_tensor(file, &file->entries[i], crcs);
    json_decref(crcs);
    return status == LUN_OK ? check_size(file) : status;
}
