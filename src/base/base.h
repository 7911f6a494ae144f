/* What every tier may use: error helpers, checked sizes, hashing, the clock. Private. */
#ifndef LUN_BASE_H
#define LUN_BASE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lunette/status.h>

/* Return from the calling function if `expr` failed. */
#define LUN_TRY(expr)                                                                                                  \
    do {                                                                                                               \
        lun_status lun_try_s_ = (expr);                                                                                \
        if (lun_try_s_ != LUN_OK)                                                                                      \
            return lun_try_s_;                                                                                         \
    } while (0)

/* The same, with a jump to a clean-up label; `status` must be a lun_status of the calling function. */
#define LUN_TRY_GOTO(status, label, expr)                                                                              \
    do {                                                                                                               \
        (status) = (expr);                                                                                             \
        if ((status) != LUN_OK)                                                                                        \
            goto label;                                                                                                \
    } while (0)

#define LUN_COUNT(array) (sizeof(array) / sizeof((array)[0]))

static inline int64_t lun_min_i64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}
static inline int64_t lun_max_i64(int64_t a, int64_t b)
{
    return a > b ? a : b;
}
static inline int64_t lun_ceil_div(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}
static inline int64_t lun_round_up(int64_t a, int64_t b)
{
    return lun_ceil_div(a, b) * b;
}

/* Multiplication and addition of sizes; false on overflow, *out then untouched. */
static inline bool lun_mul_size(size_t a, size_t b, size_t *out)
{
    if (a != 0 && b > SIZE_MAX / a)
        return false;
    *out = a * b;
    return true;
}

static inline bool lun_add_size(size_t a, size_t b, size_t *out)
{
    if (b > SIZE_MAX - a)
        return false;
    *out = a + b;
    return true;
}

/* malloc/calloc/realloc that record LUN_ERR_MEMORY's detail ("out of memory (N bytes for WHAT)") when they return NULL.
 * A count or size of zero is served as one byte. Free with free(). */
void *lun_malloc(size_t count, size_t size, const char *what);
void *lun_calloc(size_t count, size_t size, const char *what);

/* Memory for a buffer of a device, aligned to 256 bytes; NULL (no detail) where there is none. What is large lies in
 * huge pages where the system has them for those who ask: kernels touch hundreds of places that are pages apart, and
 * what translates their addresses has room for few. Free with free(). */
void *lun_alloc_pages(size_t bytes);
void *lun_realloc(void *old, size_t count, size_t size, const char *what);
char *lun_strdup(const char *text);
/* printf into a fresh string; NULL when memory is out. */
char *lun_format(const char *format, ...) LUN_PRINTF(1, 2);

/* A rate above 0 and below 1 in decimal, "0.9999": the shortest text that means it, whatever the locale, with at most
 * 15 digits after the point; false where none does. And back: only such texts, and as they are written. */
#define LUN_RATE_TEXT 24
bool lun_rate_text(double rate, char text[LUN_RATE_TEXT]);
bool lun_rate_parse(const char *text, double *rate);

/* FNV-1a, 64 bit; pass LUN_HASH_START, or a former result to go on. */
#define LUN_HASH_START UINT64_C(0xcbf29ce484222325)
uint64_t lun_hash(uint64_t hash, const void *data, size_t bytes);
uint64_t lun_hash_text(uint64_t hash, const char *text);

/* Seconds of a clock that never jumps. */
double lun_clock(void);

#endif
