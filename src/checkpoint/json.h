/* jansson with the limits and the messages lunette wants. Private.
 *
 * Nothing here depends on the locale: jansson undoes the decimal point of strtod() and printf(). Every failure is
 * one line, "WHAT: KEY ...", with the status the caller chose in `from`. Out of memory is LUN_ERR_MEMORY. */
#ifndef LUN_JSON_H
#define LUN_JSON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include <lunette/status.h>

/* Whose text it is, for messages, and what a fault in it is. */
typedef struct lun_json_from {
    const char *what; /* "run/config.json" */
    lun_status kind;
} lun_json_from;

/* What a text may hold, checked before it is given to the parser, whose memory grows with it. */
typedef struct lun_json_limits {
    size_t bytes, values; /* values: what commas and brackets allow, keys not counted */
    int depth;
    bool plain; /* outside strings only brackets, colons, commas, digits and white space: no sign, point, exponent or
                   word */
} lun_json_limits;

/* 16 MiB, a million values, 16 levels: for configurations and log lines. */
extern const lun_json_limits lun_json_usual;

/* Parse exactly `bytes` bytes: one object, UTF-8, no key twice, no trailing text. Release with json_decref(). */
lun_status lun_json_parse(lun_json_from from, const char *text, size_t bytes, const lun_json_limits *limits,
                          json_t **out);
/* The file `path` (regular, within lun_json_usual) parsed; from.what is `path`. */
lun_status lun_json_read(const char *path, lun_status kind, json_t **out);

/* Was jansson refused memory on this thread since this was last asked? A tree made since then may lack something. What
 * does not go through lun_json_text() has to ask. */
bool lun_json_refused(void);

/* Two-space indent (0: one line), the order of insertion, reals with 17 digits. free() it. NULL when memory is out:
 * also when it was while the tree was made, or `json` is NULL because of that. */
char *lun_json_text(const json_t *json, int indent);

bool lun_json_has(const json_t *object, const char *key);
/* Fails on a key that is not in the list ended by NULL. */
lun_status lun_json_check_keys(lun_json_from from, const json_t *object, const char *const *keys);

/* A member that must be there, of the right type and in [min, max]. Strings and members are borrowed from the object.
 */
lun_status lun_json_get_string(lun_json_from from, const json_t *object, const char *key, const char **out);
lun_status lun_json_get_int(lun_json_from from, const json_t *object, const char *key, int64_t min, int64_t max,
                            int64_t *out);
/* An integer is taken too. Never NaN or infinite. */
lun_status lun_json_get_real(lun_json_from from, const json_t *object, const char *key, double min, double max,
                             double *out);
lun_status lun_json_get_bool(lun_json_from from, const json_t *object, const char *key, bool *out);
/* All of 64 bits: an integer, or a string of decimal digits as lun_json_u64() makes of numbers from 2^53 on. */
lun_status lun_json_get_u64(lun_json_from from, const json_t *object, const char *key, uint64_t *out);
lun_status lun_json_get_object(lun_json_from from, const json_t *object, const char *key, json_t **out);
lun_status lun_json_get_array(lun_json_from from, const json_t *object, const char *key, json_t **out);

/* Values to store; other readers hold numbers as doubles, so integers from 2^53 on become strings. */
json_t *lun_json_u64(uint64_t value);
/* NaN and infinity become null: JSON has no word for them. */
json_t *lun_json_real(double value);

#endif
