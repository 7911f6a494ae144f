#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include <lunette/checkpoint.h>

#include "base/base.h"
#include "scratch.h"

#define ck_contains(part)                                                                                              \
    ck_assert_msg(strstr(lun_error_detail(), (part)) != NULL, "'%s' lacks '%s'", lun_error_detail(), part)

/* A file from a header text and `data` bytes (values 0, 1, 2, ...). */
static const char *make(const char *header, size_t header_bytes, size_t data)
{
    const char *path = scratch("made.safetensors");
    unsigned char *bytes = calloc(8 + header_bytes + data + 1, 1);
    for (int i = 0; i < 8; i++)
        bytes[i] = (unsigned char)((uint64_t)header_bytes >> 8 * i);
    memcpy(bytes + 8, header, header_bytes);
    for (size_t i = 0; i < data; i++)
        bytes[8 + header_bytes + i] = (unsigned char)i;
    put_file(path, bytes, 8 + header_bytes + data);
    free(bytes);
    return path;
}

static lun_status try_open(const char *path)
{
    lun_safetensors *file = NULL;
    const lun_status status = lun_safetensors_open(path, &file);
    ck_assert((status == LUN_OK) == (file != NULL));
    if (status != LUN_OK) {
        ck_contains(path);
        ck_assert_ptr_null(strchr(lun_error_detail(), '\n'));
    }
    lun_safetensors_close(file);
    return status;
}

#define ONE(entry)               "{\"ten\":" entry "}"
#define E(dtype, shape, offsets) "{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" offsets "}"
#define DEEP                     "[[[[[[[[[[]]]]]]]]]]"

/* Every rule of the header once broken: the text, the bytes of data, and what the message must hold. */
static const struct {
    const char *header;
    size_t data;
    const char *says;
} hostile[] = {
    {"[]", 0, "begin with '{'"},
    {"42", 0, "begin with '{'"},
    {" {}", 0, "begin with '{'"},
    {"{} x", 0, "0x78"},
    {"{}{}", 0, "JSON"},
    {"{}\v", 0, "0x0b"},
    {"{", 0, "header of 1 bytes"},
    {"{ ", 0, "JSON"},
    {"{,}", 0, "JSON"},
    {"{\"a\":[}", 0, "JSON"},
    {"{\"a", 0, "JSON"},
    {"{\"a\":" DEEP "}", 0, "levels deep"},
    {"{\"a\":[[[[[[[[0]]]]]]]]}", 0, "levels deep"}, /* nine */
    {"{\"a\":[[[[[[[0]]]]]]]}", 0, "not an object"}, /* eight */
    {ONE(E("F32", "[1]", "[0,4]")), 3, "beyond the end"},
    {ONE(E("F32", "[1]", "[0,4]")), 5, "1 bytes after"},
    {"{}", 1, "1 bytes after"},
    {ONE(E("F32", "[1]", "[4,8]")), 8, "hole"},
    {ONE(E("F32", "[1]", "[4,0]")), 4, "ends before it begins"},
    {ONE(E("F32", "[2]", "[0,4]")), 4, "not that of its shape"},
    {ONE(E("F32", "[1]", "[0,8]")), 8, "not that of its shape"},
    {ONE(E("F32", "[]", "[0,0]")), 0, "not that of its shape"},
    {ONE(E("F64", "[1]", "[0,4]")), 4, "not that of its shape"},
    {ONE(E("F32", "[0]", "[4,4]")), 4, "hole"},
    {"{\"a\":" E("F32", "[2]", "[0,8]") ",\"b\":" E("F32", "[1]", "[4,8]") "}", 8, "'b': its data overlaps"},
    {"{\"a\":" E("F32", "[1]", "[0,4]") ",\"b\":" E("F32", "[1]", "[0,4]") "}", 4, "'b': its data overlaps"},
    {"{\"a\":" E("F32", "[1]", "[0,4]") ",\"b\":" E("F32", "[1]", "[8,12]") "}", 12, "'b': a hole"},
    {"{\"a\":" E("F32", "[1]", "[0,4]") ",\"b\":" E("F32", "[0]", "[2,2]") "}", 4, "overlaps"},
    {"{\"a\":" E("F32", "[1]", "[0,4]") ",\"a\":" E("F32", "[1]", "[0,4]") "}", 4, "duplicate"},
    {"{\"a\":" E("F32", "[1]", "[0,4]") ",\"\\u0061\":" E("F32", "[1]", "[4,8]") "}", 8, "duplicate"},
    {ONE("{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "duplicate"},
    {ONE("{\"dtype\":\"F32\",\"shape\":[1],\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "duplicate"},
    {ONE("{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4],\"extra\":\"x\"}"), 4, "a key besides"},
    {ONE("{\"dtype\":\"F32\",\"shape\":[1]}"), 0, "are needed"},
    {ONE("{\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "are needed"},
    {ONE("{\"dtype\":1,\"shape\":[1],\"data_offsets\":[0,4]}"), 4, "are needed"},
    {ONE("{}"), 0, "are needed"},
    {ONE("[]"), 0, "not an object"},
    {ONE("\"x\""), 0, "not an object"},
    {ONE("7"), 0, "not an object"},
    {ONE(E("f32", "[1]", "[0,4]")), 4, "unsupported dtype f32 for tensor 'ten'"},
    {ONE(E("F8_E4M3", "[4]", "[0,4]")), 4, "unsupported dtype F8_E4M3"},
    {ONE(E("F4", "[8]", "[0,4]")), 4, "unsupported dtype F4"},
    {ONE(E("", "[1]", "[0,4]")), 4, "unsupported dtype"},
    {ONE(E("F32", "[1,1,1,1,1,1,1,1,1]", "[0,4]")), 4, "more than 8"},
    {ONE(E("F32", "[-1]", "[0,4]")), 4, "plain integers"},
    {ONE(E("F32", "[-0]", "[0,0]")), 0, "plain integers"},
    {ONE(E("F32", "[1.0]", "[0,4]")), 4, "plain integers"},
    {ONE(E("F32", "[1e0]", "[0,4]")), 4, "plain integers"},
    {ONE(E("F32", "[01]", "[0,4]")), 4, "JSON"},
    {ONE(E("F32", "[+1]", "[0,4]")), 4, "plain integers"},
    {ONE(E("F32", "[true]", "[0,4]")), 4, "plain integers"},
    {ONE(E("F32", "[null]", "[0,4]")), 4, "plain integers"},
    {ONE(E("F32", "[\"1\"]", "[0,4]")), 4, "a dimension"},
    {ONE(E("F32", "[[1]]", "[0,4]")), 4, "a dimension"},
    {ONE(E("F32", "[9007199254740992]", "[0,4]")), 4, "a dimension"},
    {ONE(E("F32", "[18446744073709551616]", "[0,4]")), 4, "JSON"},
    {ONE(E("F32", "[4294967296,4294967296]", "[0,0]")), 0, "overflows"},
    {ONE(E("F32", "[4611686018427387904]", "[0,0]")), 0, "a dimension"},
    {ONE(E("F32", "[8388608,1073741824]", "[0,0]")), 0, "overflows"},
    {ONE(E("F64", "[2305843009213693952]", "[0,0]")), 0, "a dimension"},
    {ONE(E("F32", "[1]", "[0]")), 4, "two non-negative"},
    {ONE(E("F32", "[1]", "[0,4,4]")), 4, "two non-negative"},
    {ONE(E("F32", "[1]", "[0,\"4\"]")), 4, "two non-negative"},
    {ONE(E("F32", "[1]", "[0,9007199254740992]")), 4, "two non-negative"},
    {ONE(E("F32", "[1]", "[0,9007199254740991]")), 4, "beyond the end"},
    {"{\"__metadata__\":[]}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":\"x\"}", 0, "__metadata__ is not an object"},
    {"{\"__metadata__\":{\"a\":1}}", 0, "'a' is not a string"},
    {"{\"__metadata__\":{\"a\":{}}}", 0, "'a' is not a string"},
    {"{\"__metadata__\":{\"a\":\"\",\"a\":\"\"}}", 0, "duplicate"},
    {"{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate"},
    {"{\"__metadata__\":" E("F32", "[1]", "[0,4]") "}", 4, "'shape' is not a string"},
    {"{\"a\\u0000b\":" E("F32", "[1]", "[0,4]") "}", 4, "JSON"},
    {"{\"a\x01\":" E("F32", "[1]", "[0,4]") "}", 4, "JSON"},
    {"{\"\\ud800\":" E("F32", "[1]", "[0,4]") "}", 4, "JSON"},
    {"{\"\xc0\xaf\":" E("F32", "[1]", "[0,4]") "}", 4, "JSON"},
    {"{\"\xed\xa0\x80\":" E("F32", "[1]", "[0,4]") "}", 4, "JSON"},
    {"{\"\xff\":" E("F32", "[1]", "[0,4]") "}", 4, "JSON"},
    {"{\"\xe2\x82\":" E("F32", "[1]", "[0,4]") "}", 4, "JSON"},
};

START_TEST(broken_headers_are_refused)
{
    for (size_t i = 0; i < LUN_COUNT(hostile); i++) {
        const lun_status status = try_open(make(hostile[i].header, strlen(hostile[i].header), hostile[i].data));
        ck_assert_msg(status == LUN_ERR_CHECKPOINT, "case %zu: %s", i, hostile[i].header);
        ck_assert_msg(strstr(lun_error_detail(), hostile[i].says) != NULL, "case %zu: '%s' lacks '%s'", i,
                      lun_error_detail(), hostile[i].says);
    }
    ck_assert_int_eq(try_open(make("{}\0", 3, 0)), LUN_ERR_CHECKPOINT);
    ck_contains("0x00");
}
END_TEST

START_TEST(unusual_headers_are_accepted)
{
    static const struct {
        const char *header;
        size_t data, count;
    } cases[] = {
        {"{}", 0, 0},
        {"{}  \t\r\n", 0, 0},
        {"{ \"__metadata__\" : { } }", 0, 0},
        {ONE(E("F32", "[]", "[0,4]")), 4, 1},
        {ONE(E("F32", "[0]", "[0,0]")), 0, 1},
        {ONE(E("F32", "[0,9007199254740991]", "[0,0]")), 0, 1},
        {ONE(E("U8", "[1,1,1,1,1,1,1,3]", "[0,3]")), 3, 1},
        {"{\"\":" E("F32", "[1]", "[0,4]") "}", 4, 1},
        {"{\"b\":" E("F32", "[1]", "[1,5]") ",\"a\":" E("U8", "[1]", "[0,1]") "}", 5, 2}, /* unsorted, unaligned */
        {"{\"b\":" E("F32", "[1]", "[0,4]") ",\"z\":" E("F32", "[0]", "[0,0]") ",\"y\":" E("F32", "[0]", "[4,4]") "}",
         4, 3},
    };
    for (size_t i = 0; i < LUN_COUNT(cases); i++) {
        lun_safetensors *file = NULL;
        const char *path = make(cases[i].header, strlen(cases[i].header), cases[i].data);
        ck_assert_msg(lun_safetensors_open(path, &file) == LUN_OK, "case %zu: %s", i, lun_error_detail());
        ck_assert_uint_eq(lun_safetensors_count(file), cases[i].count);
        ck_assert_int_eq(lun_safetensors_verify(file, 0), LUN_OK);
        ck_assert_int_eq(lun_safetensors_verify(file, 1), LUN_ERR_CHECKPOINT);
        for (size_t t = 0; t < cases[i].count; t++) {
            unsigned char data[16];
            const lun_safetensors_entry *entry = lun_safetensors_info(file, t);
            ck_assert_int_eq(lun_safetensors_find(file, entry->name), (int64_t)t);
            ck_assert_int_eq(lun_safetensors_read(file, t, data, (size_t)entry->bytes), LUN_OK);
            for (size_t b = 0; b < entry->bytes; b++)
                ck_assert_uint_eq(data[b], entry->offset - 8 - strlen(cases[i].header) + b);
        }
        ck_assert_ptr_null(lun_safetensors_info(file, cases[i].count));
        ck_assert_int_eq(lun_safetensors_find(file, "not there"), -1);
        lun_safetensors_close(file);
    }
}
END_TEST

/* Lengths that lie; files that are something else. */
START_TEST(lies_and_other_files)
{
    static const unsigned char lengths[][8] = {{0},
                                               {1},
                                               {3},
                                               {0x01, 0xe1, 0xf5, 0x05},
                                               {0, 0xe1, 0xf5, 0x05},
                                               {0, 0, 0, 0, 1},
                                               {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
                                               {0, 0, 0, 0, 0, 0, 0, 0x80}};
    unsigned char bytes[10] = "........{}";
    const char *path = scratch("lie");
    for (size_t i = 0; i < LUN_COUNT(lengths); i++) {
        memcpy(bytes, lengths[i], 8);
        put_file(path, bytes, sizeof bytes);
        ck_assert_int_eq(try_open(path), LUN_ERR_CHECKPOINT);
    }
    for (size_t size = 0; size < sizeof bytes; size++) {
        put_file(path, bytes, size);
        ck_assert_int_eq(try_open(path), LUN_ERR_CHECKPOINT);
    }
    /* Beyond the file by one byte */
    memcpy(bytes, lengths[2], 8);
    put_file(path, bytes, sizeof bytes);
    ck_assert_int_eq(try_open(path), LUN_ERR_CHECKPOINT);
    ck_contains("truncated: a header of 3 bytes in a file of 10");
    /* 100,000,001 bytes announced, and there (a hole) */
    memcpy(bytes, lengths[3], 8);
    put_file(path, bytes, sizeof bytes);
    ck_assert_int_eq(truncate(path, 100000009), 0);
    ck_assert_int_eq(try_open(path), LUN_ERR_CHECKPOINT);
    ck_contains("allows 100000000");

    put_file(path, "PK\3\4\0\0\10\10\0\0\0\0\0\0", 14);
    ck_assert_int_eq(try_open(path), LUN_ERR_CHECKPOINT);
    ck_contains("a PyTorch pickle, never read here");
    put_file(path, "\200\2\212\12l\374\234\106\371 j\250P\31.", 16);
    ck_assert_int_eq(try_open(path), LUN_ERR_CHECKPOINT);
    ck_contains("PyTorch pickle");
    put_file(path, "\200\4N.", 4);
    ck_assert_int_eq(try_open(path), LUN_ERR_CHECKPOINT);
    ck_contains("PyTorch pickle");

    ck_assert_int_eq(mkfifo(scratch("pipe"), 0600), 0);
    ck_assert_int_eq(try_open(scratch("pipe")), LUN_ERR_CHECKPOINT);
    ck_assert_int_eq(try_open(scratch_dir), LUN_ERR_CHECKPOINT);
    ck_assert_int_eq(try_open("/dev/zero"), LUN_ERR_CHECKPOINT);
    ck_assert_int_eq(try_open(scratch("none")), LUN_ERR_USAGE);
}
END_TEST

/* A million and more of keys, of brackets; a string of 20 MB: an answer in time, in bounded memory. */
START_TEST(giant_headers)
{
    const size_t size = (size_t)20 << 20;
    char *text = malloc(size + 64);
    size_t at = 0;
    text[at++] = '{';
    for (int i = 0; i < 1200000; i++)
        at += (size_t)snprintf(text + at, 32, "\"%d\":[],", i);
    text[at - 1] = '}';
    ck_assert_int_eq(try_open(make(text, at, 0)), LUN_ERR_CHECKPOINT);
    ck_contains("values");
    memset(text, '[', size);
    memcpy(text, "{\"a\":", 5);
    ck_assert_int_eq(try_open(make(text, size, 0)), LUN_ERR_CHECKPOINT);
    ck_contains("deep");
    memset(text, 's', size);
    memcpy(text, "{\"", 2);
    memcpy(text + size - 2, "\"}", 2);
    ck_assert_int_eq(try_open(make(text, size, 0)), LUN_ERR_CHECKPOINT);
    free(text);
}
END_TEST

static void write_small(const char *path)
{
    lun_safetensors_writer *writer = NULL;
    const int64_t dims[4] = {2, 1, 3, 1}, none[2] = {0, 4}, three[1] = {3};
    const float weight[6] = {1, -2, 3.5f, 0, NAN, INFINITY}, scale = 0.25f;
    const int64_t step = INT64_MIN + 1;
    const unsigned char tail[3] = {1, 2, 3};
    ck_assert_int_eq(lun_safetensors_writer_create(path, &writer), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_metadata(writer, "config", "{\"a\":\"b\"}"), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "step", LUN_ST_I64, 0, NULL), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "none", LUN_ST_F32, 2, none), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "conv.weight", LUN_ST_F32, 4, dims), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "scale \"\xc3\xa9\"", LUN_ST_F32, 0, NULL), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "tail", LUN_ST_U8, 1, three), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "end", LUN_ST_U8, 2, none), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_metadata(writer, "seed", "1"), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_metadata(writer, "seed", "42"), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_data(writer, &step, sizeof step), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_data(writer, NULL, 0), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_data(writer, weight, 7), LUN_OK); /* in pieces */
    ck_assert_int_eq(lun_safetensors_writer_data(writer, (const char *)weight + 7, 17), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_data(writer, &scale, sizeof scale), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_data(writer, tail, sizeof tail), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_metadata(writer, "seed", "43"), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_commit(writer), LUN_OK);
}

START_TEST(what_is_written_is_read)
{
    lun_safetensors *file = NULL;
    const char *path = scratch("small.safetensors");
    write_small(path);
    ck_assert_int_eq(lun_safetensors_open(path, &file), LUN_OK);
    ck_assert_int_eq(lun_safetensors_verify(file, 1), LUN_OK);
    ck_assert_uint_eq(lun_safetensors_count(file), 6);
    ck_assert_str_eq(lun_safetensors_path(file), path);
    ck_assert_str_eq(lun_safetensors_metadata(file, "seed"), "43");
    ck_assert_str_eq(lun_safetensors_metadata(file, "config"), "{\"a\":\"b\"}");
    ck_assert_ptr_null(lun_safetensors_metadata(file, "other"));
    ck_assert_uint_eq(lun_safetensors_metadata_count(file), 4);
    const char *value = NULL;
    ck_assert_str_eq(lun_safetensors_metadata_at(file, 0, &value), "config");
    ck_assert_str_eq(value, "{\"a\":\"b\"}");
    ck_assert_ptr_null(lun_safetensors_metadata_at(file, 4, &value));

    float weight[6], one;
    int64_t step, three[3];
    const int64_t at = lun_safetensors_find(file, "conv.weight");
    ck_assert_int_ge(at, 0);
    const lun_safetensors_entry *entry = lun_safetensors_info(file, (size_t)at);
    ck_assert_int_eq(entry->rank, 4);
    ck_assert(entry->dims[0] == 2 && entry->dims[1] == 1 && entry->dims[2] == 3 && entry->dims[3] == 1);
    ck_assert_int_eq(entry->offset % 8, 0);
    ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)at, weight, 6), LUN_OK);
    ck_assert(weight[0] == 1 && weight[1] == -2 && weight[2] == 3.5f && weight[3] == 0 && isnan(weight[4]) &&
              isinf(weight[5]));
    ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)at, weight, 5), LUN_ERR_INTERNAL);
    ck_assert_int_eq(lun_safetensors_read_f32(file, 6, weight, 6), LUN_ERR_INTERNAL);
    ck_assert_int_eq(lun_safetensors_read_i64(file, (size_t)at, &step, 1), LUN_ERR_INTERNAL);
    const size_t scalar = (size_t)lun_safetensors_find(file, "step");
    ck_assert_int_eq(lun_safetensors_read_i64(file, scalar, &step, 1), LUN_OK);
    ck_assert_int_eq(step, INT64_MIN + 1);
    ck_assert_int_eq(lun_safetensors_read_f32(file, scalar, &one, 1), LUN_ERR_CHECKPOINT);
    ck_contains("'step' is I64");
    ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, "scale \"\xc3\xa9\""), &one, 1),
                     LUN_OK);
    ck_assert_float_eq(one, 0.25f);
    ck_assert_int_eq(lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, "tail"), three, 3), LUN_OK);
    ck_assert(three[0] == 1 && three[1] == 2 && three[2] == 3);
    ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, "none"), weight, 0), LUN_OK);
    lun_safetensors_close(file);
    lun_safetensors_close(NULL);
}
END_TEST

/* Load everything, save it again: the same bytes. */
START_TEST(save_load_save_is_the_same)
{
    lun_safetensors *file = NULL;
    lun_safetensors_writer *writer = NULL;
    write_small(scratch("one"));
    ck_assert_int_eq(lun_safetensors_open(scratch("one"), &file), LUN_OK);
    /* Over the file that is open for reading: the reader keeps its own. */
    for (int round = 0; round < 2; round++) {
        ck_assert_int_eq(lun_safetensors_writer_create(scratch(round ? "one" : "two"), &writer), LUN_OK);
        for (size_t i = 0; i < lun_safetensors_metadata_count(file); i++) {
            const char *value = NULL, *key = lun_safetensors_metadata_at(file, i, &value);
            if (strncmp(key, "lunette.", 8) != 0)
                ck_assert_int_eq(lun_safetensors_writer_metadata(writer, key, value), LUN_OK);
        }
        for (size_t i = 0; i < lun_safetensors_count(file); i++) {
            const lun_safetensors_entry *entry = lun_safetensors_info(file, i);
            ck_assert_int_eq(
                lun_safetensors_writer_declare(writer, entry->name, entry->dtype, entry->rank, entry->dims), LUN_OK);
        }
        for (size_t i = 0; i < lun_safetensors_count(file); i++) {
            unsigned char data[64];
            const size_t bytes = (size_t)lun_safetensors_info(file, i)->bytes;
            ck_assert_int_eq(lun_safetensors_read(file, i, data, bytes), LUN_OK);
            ck_assert_int_eq(lun_safetensors_writer_data(writer, data, bytes), LUN_OK);
        }
        ck_assert_int_eq(lun_safetensors_writer_commit(writer), LUN_OK);
    }
    lun_safetensors_close(file);
    size_t a = 0, b = 0;
    char *one = get_file(scratch("one"), &a), *two = get_file(scratch("two"), &b);
    ck_assert_uint_eq(a, b);
    ck_assert_mem_eq(one, two, a);
    free(one);
    free(two);
    ck_assert_int_eq(count_entries(scratch_dir), 2);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    size_t bytes = 0;
    write_small(scratch("whole"));
    char *data = get_file(scratch("whole"), &bytes);
    for (size_t cut = 0; cut < bytes; cut++) {
        put_file(scratch("cut"), data, cut);
        ck_assert_msg(try_open(scratch("cut")) == LUN_ERR_CHECKPOINT, "cut at %zu of %zu", cut, bytes);
    }
    put_file(scratch("cut"), data, bytes);
    ck_assert_int_eq(try_open(scratch("cut")), LUN_OK);
    free(data);
}
END_TEST

/* Flip each bit of the file. In the data, the CRC must name the tensor that holds it. */
START_TEST(every_flipped_bit_is_seen)
{
    size_t bytes = 0;
    write_small(scratch("whole"));
    char *data = get_file(scratch("whole"), &bytes);
    lun_safetensors *whole = NULL, *file = NULL;
    ck_assert_int_eq(lun_safetensors_open(scratch("whole"), &whole), LUN_OK);
    const size_t first = (size_t)lun_safetensors_info(whole, 0)->offset;
    const char *path = scratch("flipped");
    put_file(path, data, bytes);
    const int fd = open(path, O_RDWR);
    ck_assert_int_ge(fd, 0);
    for (size_t bit = 0; bit < bytes * 8; bit++) {
        const char flipped = (char)(data[bit / 8] ^ 1 << bit % 8);
        ck_assert_int_eq(pwrite(fd, &flipped, 1, (off_t)(bit / 8)), 1);
        file = NULL;
        lun_status status = lun_safetensors_open(path, &file);
        ck_assert(status == LUN_OK || status == LUN_ERR_CHECKPOINT);
        if (status == LUN_OK)
            status = lun_safetensors_verify(file, 1);
        lun_safetensors_close(file);
        ck_assert_msg(status == LUN_ERR_CHECKPOINT, "bit %zu of byte %zu is not seen", bit % 8, bit / 8);
        for (size_t i = 0; i < lun_safetensors_count(whole) && bit / 8 >= first; i++) {
            const lun_safetensors_entry *entry = lun_safetensors_info(whole, i);
            char named[64];
            snprintf(named, sizeof named, "tensor '%s'", entry->name);
            if (bit / 8 >= entry->offset && bit / 8 < entry->offset + entry->bytes)
                ck_contains(named);
        }
        ck_assert_int_eq(pwrite(fd, &data[bit / 8], 1, (off_t)(bit / 8)), 1);
    }
    close(fd);
    ck_assert_int_eq(lun_safetensors_open(path, &file), LUN_OK);
    ck_assert_int_eq(lun_safetensors_verify(file, 1), LUN_OK);
    lun_safetensors_close(file);
    lun_safetensors_close(whole);
    free(data);
}
END_TEST

START_TEST(a_file_that_changes_is_noticed)
{
    lun_safetensors *file = NULL;
    unsigned char three[3];
    const char *path = scratch("small");
    write_small(path);
    ck_assert_int_eq(lun_safetensors_open(path, &file), LUN_OK);
    const size_t tail = (size_t)lun_safetensors_find(file, "tail"), step = (size_t)lun_safetensors_find(file, "step");
    const off_t size = (off_t)(lun_safetensors_info(file, tail)->offset + 3);
    int64_t value = 0;
    ck_assert_int_eq(truncate(path, size - 1), 0);
    ck_assert_int_eq(lun_safetensors_read(file, tail, three, 3), LUN_ERR_CHECKPOINT);
    ck_assert_int_eq(lun_safetensors_read_i64(file, step, &value, 1), LUN_ERR_CHECKPOINT);
    ck_contains("size changed");
    ck_assert_int_eq(truncate(path, size + 1), 0);
    ck_assert_int_eq(lun_safetensors_read(file, tail, three, 3), LUN_ERR_CHECKPOINT);
    ck_assert_int_eq(lun_safetensors_verify(file, 0), LUN_ERR_CHECKPOINT);
    lun_safetensors_close(file);
}
END_TEST

START_TEST(offsets_above_four_gibibytes)
{
    const uint64_t large = (UINT64_C(5) << 30) + 4;
    char header[256];
    lun_safetensors *file = NULL;
    const int length = snprintf(
        header, sizeof header,
        "{\"large\":" E("U8", "[%llu]", "[0,%llu]") ",\"small\":" E("F32", "[2]", "[%llu,%llu]") "}",
        (unsigned long long)large, (unsigned long long)large, (unsigned long long)large, (unsigned long long)large + 8);
    const char *path = make(header, (size_t)length, 0);
    const float values[2] = {1.5f, -2.5f};
    float got[2];
    const int fd = open(path, O_WRONLY);
    if (pwrite(fd, values, sizeof values, (off_t)(8 + (uint64_t)length + large)) == sizeof values) {
        ck_assert_int_eq(lun_safetensors_open(path, &file), LUN_OK);
        const int64_t small = lun_safetensors_find(file, "small");
        ck_assert_uint_eq(lun_safetensors_info(file, 0)->bytes, large);
        ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)small, got, 2), LUN_OK);
        ck_assert_mem_eq(got, values, sizeof got);
        lun_safetensors_close(file);
    }
    close(fd);
}
END_TEST

/* tests/unit/safetensors/NAME.safetensors; meson test says where the sources are. */
static const char *committed(const char *name)
{
    static char path[1024];
    const char *source = getenv("LUN_TEST_SOURCE");
    snprintf(path, sizeof path, "%s/safetensors/%s.safetensors", source ? source : "tests/unit", name);
    return path;
}

START_TEST(files_of_the_python_library)
{
    static const char *const floats[] = {"f64", "f32", "f16", "bf16"}, *const integers[] = {"i64", "i32", "i16",
                                                                                            "i8",  "u8",  "bool"};
    lun_safetensors *file = NULL;
    float value[54];
    int64_t number[6];
    ck_assert_msg(lun_safetensors_open(committed("types"), &file) == LUN_OK, "%s", lun_error_detail());
    ck_assert_uint_eq(lun_safetensors_count(file), 13);
    ck_assert_int_eq(lun_safetensors_verify(file, 0), LUN_OK);
    for (size_t k = 0; k < LUN_COUNT(floats); k++) {
        ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, floats[k]), value, 6),
                         LUN_OK);
        for (int i = 0; i < 6; i++)
            ck_assert_float_eq(value[i], (float)(i - 2));
    }
    for (size_t k = 0; k < LUN_COUNT(integers); k++) {
        ck_assert_int_eq(lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, integers[k]), number, 6),
                         LUN_OK);
        for (int i = 0; i < 6; i++)
            ck_assert_int_eq(number[i], k < 4 ? i - 2 : k == 4 ? i : i % 2);
    }
    ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, "scalar"), value, 1), LUN_OK);
    ck_assert_float_eq(value[0], 7.25f);
    ck_assert_int_ge(lun_safetensors_find(file, "gr\xc3\xb6\xc3\x9f"
                                                "e/\"quoted\""),
                     0);
    ck_assert_int_eq(lun_safetensors_info(file, (size_t)lun_safetensors_find(file, "empty"))->bytes, 0);
    ck_assert_str_eq(lun_safetensors_metadata(file, "\xc3\xbc"
                                                    "ber"),
                     "\n\t\"\\");
    lun_safetensors_close(file);

    ck_assert_int_eq(lun_safetensors_open(committed("state_dict"), &file), LUN_OK);
    ck_assert_int_eq(lun_safetensors_read_f32(file, (size_t)lun_safetensors_find(file, "0.weight"), value, 54), LUN_OK);
    for (int i = 0; i < 54; i++)
        ck_assert_float_eq(value[i], (float)i / 8);
    ck_assert_int_eq(
        lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, "1.num_batches_tracked"), number, 1), LUN_OK);
    ck_assert_int_eq(number[0], 0);
    lun_safetensors_close(file);

    ck_assert_int_eq(lun_safetensors_open(committed("unsigned"), &file), LUN_OK);
    ck_assert_int_eq(lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, "u16"), number, 3), LUN_OK);
    ck_assert_int_eq(number[2], 2);
    ck_assert_int_eq(lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, "u32"), number, 3), LUN_OK);
    ck_assert_int_eq(number[2], UINT32_MAX);
    ck_assert_int_eq(lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, "u64"), number, 2), LUN_OK);
    ck_assert_int_eq(number[1], INT64_MAX);
    ck_assert_int_eq(lun_safetensors_read_i64(file, (size_t)lun_safetensors_find(file, "too large"), number, 1),
                     LUN_ERR_CHECKPOINT);
    lun_safetensors_close(file);
}
END_TEST

/* Every bfloat16 and half pattern against arithmetic that shares no code with the reader's. */
START_TEST(halves_convert_exactly)
{
    const int64_t dims[1] = {65536};
    static uint16_t patterns[65536];
    static float got[65536];
    lun_safetensors_writer *writer = NULL;
    lun_safetensors *file = NULL;
    for (int i = 0; i < 65536; i++)
        patterns[i] = (uint16_t)i;
    ck_assert_int_eq(lun_safetensors_writer_create(scratch("halves"), &writer), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "f16", LUN_ST_F16, 1, dims), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_declare(writer, "bf16", LUN_ST_BF16, 1, dims), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_data(writer, patterns, sizeof patterns), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_data(writer, patterns, sizeof patterns), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_commit(writer), LUN_OK);
    ck_assert_int_eq(lun_safetensors_open(scratch("halves"), &file), LUN_OK);
    for (size_t t = 0; t < 2; t++) {
        const int digits = t ? 7 : 10, bias = t ? 127 : 15, top = t ? 255 : 31;
        ck_assert_int_eq(lun_safetensors_read_f32(file, t, got, 65536), LUN_OK);
        for (int i = 0; i < 65536; i++) {
            const int exponent = (i >> digits) & top, mantissa = i & ((1 << digits) - 1);
            double want =
                exponent ? ldexp(1 + ldexp(mantissa, -digits), exponent - bias) : ldexp(mantissa, 1 - bias - digits);
            if (exponent == top)
                want = mantissa ? NAN : INFINITY;
            if (i & 0x8000)
                want = -want;
            if (isnan(want))
                ck_assert(isnan(got[i]));
            else
                ck_assert_msg((double)got[i] == want && !signbit(got[i]) == !signbit(want), "pattern %04x: %g, not %g",
                              i, (double)got[i], want);
        }
    }
    lun_safetensors_close(file);
}
END_TEST

START_TEST(wrong_calls_of_the_writer)
{
    const int64_t two[1] = {2}, negative[1] = {-1}, huge[2] = {(int64_t)1 << 40, (int64_t)1 << 40};
    const char data[16] = {0};
    static const char *const says[] = {"keeps for itself",
                                       "twice",
                                       "negative",
                                       "too large",
                                       "more than 8",
                                       "wide types",
                                       "UTF-8",
                                       "UTF-8",
                                       "own",
                                       "more data than was declared",
                                       "more data than it holds",
                                       "lacks data",
                                       "after the first data",
                                       "comes after",
                                       "unknown type",
                                       "changed its length"};
    for (size_t i = 0; i < LUN_COUNT(says); i++) {
        lun_safetensors_writer *w = NULL;
        ck_assert_int_eq(lun_safetensors_writer_create(scratch("wrong"), &w), LUN_OK);
        ck_assert_int_eq(lun_safetensors_writer_metadata(w, "key", "1"), LUN_OK);
        ck_assert_int_eq(lun_safetensors_writer_declare(w, "a", LUN_ST_U8, 1, two), LUN_OK);
        lun_status status = LUN_OK;
        switch (i) {
        case 0: status = lun_safetensors_writer_declare(w, "__metadata__", LUN_ST_U8, 1, two); break;
        case 1: status = lun_safetensors_writer_declare(w, "a", LUN_ST_U8, 1, two); break;
        case 2: status = lun_safetensors_writer_declare(w, "b", LUN_ST_U8, 1, negative); break;
        case 3: status = lun_safetensors_writer_declare(w, "b", LUN_ST_U8, 2, huge); break;
        case 4: status = lun_safetensors_writer_declare(w, "b", LUN_ST_U8, 9, huge); break;
        case 5: status = lun_safetensors_writer_declare(w, "b", LUN_ST_F32, 1, two); break;
        case 6: status = lun_safetensors_writer_declare(w, "\xff", LUN_ST_U8, 1, two); break;
        case 7: status = lun_safetensors_writer_metadata(w, "b", "\xff"); break;
        case 8: status = lun_safetensors_writer_metadata(w, "lunette.crc32", "{}"); break;
        case 9:
            lun_safetensors_writer_data(w, data, 2);
            status = lun_safetensors_writer_data(w, data, 1);
            break;
        case 10: status = lun_safetensors_writer_data(w, data, 3); break;
        case 12:
            lun_safetensors_writer_data(w, data, 2);
            status = lun_safetensors_writer_declare(w, "b", LUN_ST_U8, 1, two);
            break;
        case 13:
            lun_safetensors_writer_data(w, data, 2);
            status = lun_safetensors_writer_metadata(w, "late", "x");
            break;
        case 14: status = lun_safetensors_writer_declare(w, "b", (lun_safetensors_dtype)99, 1, two); break;
        case 15:
            lun_safetensors_writer_data(w, data, 2);
            ck_assert_int_eq(lun_safetensors_writer_metadata(w, "key", "longer than any padding"), LUN_OK);
            status = LUN_ERR_USAGE;
            break;
        default: lun_safetensors_writer_data(w, data, 1); status = LUN_ERR_USAGE;
        }
        ck_assert_int_eq(status, LUN_ERR_USAGE);
        if (i != 11 && i != 15)
            ck_contains(says[i]);
        ck_assert_int_eq(lun_safetensors_writer_commit(w), LUN_ERR_USAGE);
        if (i == 11 || i == 15)
            ck_contains(says[i]);
        ck_assert_int_eq(count_entries(scratch_dir), 0);
    }
    lun_safetensors_writer *w = NULL;
    ck_assert_int_eq(lun_safetensors_writer_create(scratch("no/such"), &w), LUN_ERR_STORAGE);
    ck_assert_ptr_null(w);
    lun_safetensors_writer_discard(NULL);
    /* Without any tensor: a file still. */
    ck_assert_int_eq(lun_safetensors_writer_create(scratch("wrong"), &w), LUN_OK);
    ck_assert_int_eq(lun_safetensors_writer_commit(w), LUN_OK);
    ck_assert_int_eq(try_open(scratch("wrong")), LUN_OK);
}
END_TEST

START_TEST(a_full_disk_keeps_the_former_checkpoint)
{
    const char *path = scratch("small");
    write_small(path);
    size_t before = 0, after = 0;
    char *old = get_file(path, &before);
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit limit = {100000, 100000};
        const int64_t dims[1] = {1 << 16};
        static float data[1 << 16];
        lun_safetensors_writer *writer = NULL;
        signal(SIGXFSZ, SIG_IGN);
        setrlimit(RLIMIT_FSIZE, &limit);
        if (lun_safetensors_writer_create(path, &writer) != LUN_OK ||
            lun_safetensors_writer_declare(writer, "a", LUN_ST_F32, 1, dims) != LUN_OK)
            _exit(1);
        if (lun_safetensors_writer_data(writer, data, sizeof data) != LUN_ERR_STORAGE)
            _exit(2);
        _exit(lun_safetensors_writer_commit(writer) != LUN_OK ? 0 : 3);
    }
    int how = 0;
    waitpid(child, &how, 0);
    ck_assert(WIFEXITED(how));
    ck_assert_int_eq(WEXITSTATUS(how), 0);
    char *now = get_file(path, &after);
    ck_assert_uint_eq(before, after);
    ck_assert_mem_eq(old, now, before);
    free(old);
    free(now);
    ck_assert_int_eq(count_entries(scratch_dir), 1);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("safetensors");
    TCase *tests = tcase_create("safetensors");
    tcase_add_checked_fixture(tests, scratch_make, scratch_remove);
    tcase_add_test(tests, broken_headers_are_refused);
    tcase_add_test(tests, unusual_headers_are_accepted);
    tcase_add_test(tests, lies_and_other_files);
    tcase_add_test(tests, giant_headers);
    tcase_add_test(tests, what_is_written_is_read);
    tcase_add_test(tests, save_load_save_is_the_same);
    tcase_add_test(tests, every_truncation_is_refused);
    tcase_add_test(tests, every_flipped_bit_is_seen);
    tcase_add_test(tests, a_file_that_changes_is_noticed);
    tcase_add_test(tests, offsets_above_four_gibibytes);
    tcase_add_test(tests, files_of_the_python_library);
    tcase_add_test(tests, halves_convert_exactly);
    tcase_add_test(tests, wrong_calls_of_the_writer);
    tcase_add_test(tests, a_full_disk_keeps_the_former_checkpoint);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
