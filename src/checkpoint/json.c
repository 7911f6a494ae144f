#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
#include "json.h"

/* jansson does not tell a lack of memory from a fault in a text, nor a tree from one that lacks what there was no room
 * for. So its memory comes from here: malloc() with a mark, on the thread that asks. */
static _Thread_local bool refused;

static void *malloc_for_jansson(size_t bytes)
{
    void *p = malloc(bytes);
    refused = refused || !p;
    return p;
}

__attribute__((constructor)) static void begin(void)
{
    json_set_alloc_funcs(malloc_for_jansson, free);
}

bool lun_json_refused(void)
{
    const bool was = refused;
    refused = false;
    return was;
}

const lun_json_limits lun_json_usual = {.bytes = (size_t)16 << 20, .values = 1000000, .depth = 16, .plain = false};

/* One pass over the bytes before the parser allocates anything. It need not understand JSON: what it lets through is
 * still parsed, and text that fools it is not JSON. */
static lun_status scan(lun_json_from from, const char *text, size_t bytes, const lun_json_limits *limits)
{
    size_t values = 1;
    int depth = 0;
    bool string = false;
    if (bytes > limits->bytes)
        return lun_fail(from.kind, "%s: %zu bytes of JSON, at most %zu are allowed", from.what, bytes, limits->bytes);
    for (size_t i = 0; i < bytes; i++) {
        const char c = text[i];
        if (string) {
            if (c == '\\')
                i++;
            else if (c == '"')
                string = false;
            continue;
        }
        switch (c) {
        case '"': string = true; break;
        case '{':
        case '[':
            values++;
            if (++depth > limits->depth)
                return lun_fail(from.kind, "%s: nested more than %d levels deep", from.what, limits->depth);
            break;
        case '}':
        case ']': depth--; break;
        case ',': values++; break;
        case ':':
        case ' ':
        case '\t':
        case '\n':
        case '\r': break;
        default:
            if (limits->plain && (c < '0' || c > '9'))
                return lun_fail(from.kind, "%s: byte 0x%02x at %zu: outside strings only plain integers are allowed",
                                from.what, (unsigned char)c, i);
        }
    }
    if (values > limits->values)
        return lun_fail(from.kind, "%s: more than %zu values", from.what, limits->values);
    return LUN_OK;
}

lun_status lun_json_parse(lun_json_from from, const char *text, size_t bytes, const lun_json_limits *limits,
                          json_t **out)
{
    json_error_t error;
    LUN_TRY(scan(from, text, bytes, limits));
    const bool before = lun_json_refused(); /* a tree may be in the making */
    json_t *json = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    const bool lacking = lun_json_refused();
    refused = before;
    if (lacking) {
        json_decref(json);
        return lun_fail(LUN_ERR_MEMORY, "%s: out of memory for its JSON", from.what);
    }
    if (!json)
        return lun_fail(from.kind, "%s: not valid JSON: %s (line %d, column %d)", from.what, error.text, error.line,
                        error.column);
    if (!json_is_object(json)) {
        json_decref(json);
        return lun_fail(from.kind, "%s: not a JSON object", from.what);
    }
    *out = json;
    return LUN_OK;
}

lun_status lun_json_read(const char *path, lun_status kind, json_t **out)
{
    char *text = NULL;
    size_t bytes = 0;
    LUN_TRY(lun_file_read(path, lun_json_usual.bytes, kind, &text, &bytes));
    const lun_json_from from = {path, kind};
    const lun_status status = lun_json_parse(from, text, bytes, &lun_json_usual, out);
    free(text);
    return status;
}

char *lun_json_text(const json_t *json, int indent)
{
    const size_t flags = JSON_REAL_PRECISION(17) | (indent ? JSON_INDENT((size_t)indent) : 0);
    char *text = json ? json_dumps(json, flags) : NULL;
    if (lun_json_refused()) {
        free(text);
        text = NULL;
    }
    if (!text)
        lun_fail(LUN_ERR_MEMORY, "out of memory for JSON text");
    return text;
}

bool lun_json_has(const json_t *object, const char *key)
{
    return json_object_get(object, key) != NULL;
}

lun_status lun_json_check_keys(lun_json_from from, const json_t *object, const char *const *keys)
{
    /* The iterator functions take a pointer to non-const and change nothing. */
    json_t *walk = (json_t *)(uintptr_t)object;
    for (void *at = json_object_iter(walk); at; at = json_object_iter_next(walk, at)) {
        const char *key = json_object_iter_key(at);
        const char *const *known = keys;
        while (*known && strcmp(*known, key) != 0)
            known++;
        if (!*known)
            return lun_fail(from.kind, "%s: unknown key '%.100s'", from.what, key);
    }
    return LUN_OK;
}

static const char *type_name(const json_t *json)
{
    static const char *const names[] = {"an object",     "an array", "a string", "an integer",
                                        "a real number", "true",     "false",    "null"};
    const size_t type = (size_t)json_typeof(json);
    return type < LUN_COUNT(names) ? names[type] : "something else";
}

static lun_status member(lun_json_from from, const json_t *object, const char *key, json_t **out)
{
    json_t *value = json_object_get(object, key);
    if (!value)
        return lun_fail(from.kind, "%s: '%s' is missing", from.what, key);
    *out = value;
    return LUN_OK;
}

static lun_status wrong_type(lun_json_from from, const char *key, const char *wanted, const json_t *value)
{
    return lun_fail(from.kind, "%s: '%s' must be %s, not %s", from.what, key, wanted, type_name(value));
}

lun_status lun_json_get_string(lun_json_from from, const json_t *object, const char *key, const char **out)
{
    json_t *value = NULL;
    LUN_TRY(member(from, object, key, &value));
    if (!json_is_string(value))
        return wrong_type(from, key, "a string", value);
    *out = json_string_value(value);
    return LUN_OK;
}

lun_status lun_json_get_int(lun_json_from from, const json_t *object, const char *key, int64_t min, int64_t max,
                            int64_t *out)
{
    json_t *value = NULL;
    LUN_TRY(member(from, object, key, &value));
    if (!json_is_integer(value))
        return wrong_type(from, key, "an integer", value);
    const int64_t number = json_integer_value(value);
    if (number < min || number > max)
        return lun_fail(from.kind, "%s: '%s' is %lld, must lie between %lld and %lld", from.what, key,
                        (long long)number, (long long)min, (long long)max);
    *out = number;
    return LUN_OK;
}

lun_status lun_json_get_real(lun_json_from from, const json_t *object, const char *key, double min, double max,
                             double *out)
{
    json_t *value = NULL;
    LUN_TRY(member(from, object, key, &value));
    if (!json_is_number(value))
        return wrong_type(from, key, "a number", value);
    const double number = json_number_value(value);
    if (!(number >= min && number <= max) || !isfinite(number))
        return lun_fail(from.kind, "%s: '%s' is %g, must lie between %g and %g", from.what, key, number, min, max);
    *out = number;
    return LUN_OK;
}

lun_status lun_json_get_bool(lun_json_from from, const json_t *object, const char *key, bool *out)
{
    json_t *value = NULL;
    LUN_TRY(member(from, object, key, &value));
    if (!json_is_boolean(value))
        return wrong_type(from, key, "true or false", value);
    *out = json_is_true(value);
    return LUN_OK;
}

lun_status lun_json_get_u64(lun_json_from from, const json_t *object, const char *key, uint64_t *out)
{
    json_t *value = NULL;
    LUN_TRY(member(from, object, key, &value));
    if (json_is_integer(value) && json_integer_value(value) >= 0) {
        *out = (uint64_t)json_integer_value(value);
        return LUN_OK;
    }
    const char *text = json_string_value(value);
    if (text && *text && strspn(text, "0123456789") == strlen(text) && strlen(text) <= 20) {
        errno = 0;
        const unsigned long long number = strtoull(text, NULL, 10);
        if (!errno) {
            *out = number;
            return LUN_OK;
        }
    }
    return lun_fail(from.kind, "%s: '%s' must be an integer between 0 and 2^64-1", from.what, key);
}

lun_status lun_json_get_object(lun_json_from from, const json_t *object, const char *key, json_t **out)
{
    json_t *value = NULL;
    LUN_TRY(member(from, object, key, &value));
    if (!json_is_object(value))
        return wrong_type(from, key, "an object", value);
    *out = value;
    return LUN_OK;
}

lun_status lun_json_get_array(lun_json_from from, const json_t *object, const char *key, json_t **out)
{
    json_t *value = NULL;
    LUN_TRY(member(from, object, key, &value));
    if (!json_is_array(value))
        return wrong_type(from, key, "an array", value);
    *out = value;
    return LUN_OK;
}

json_t *lun_json_u64(uint64_t value)
{
    if (value < UINT64_C(1) << 53)
        return json_integer((json_int_t)value);
    char digits[24];
    size_t at = sizeof digits;
    digits[--at] = 0;
    for (; value; value /= 10)
        digits[--at] = (char)('0' + value % 10);
    return json_string(digits + at);
}

json_t *lun_json_real(double value)
{
    return isfinite(value) ? json_real(value) : json_null();
}
