#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base.h"

void *lun_realloc(void *old, size_t count, size_t size, const char *what)
{
    size_t bytes = 0;
    void *p = NULL;
    if (lun_mul_size(count, size, &bytes))
        p = realloc(old, bytes ? bytes : 1);
    if (!p)
        lun_fail(LUN_ERR_MEMORY, "out of memory (%zu x %zu bytes for %s)", count, size, what);
    return p;
}

void *lun_malloc(size_t count, size_t size, const char *what)
{
    return lun_realloc(NULL, count, size, what);
}

void *lun_calloc(size_t count, size_t size, const char *what)
{
    void *p = calloc(count ? count : 1, size ? size : 1);
    if (!p)
        lun_fail(LUN_ERR_MEMORY, "out of memory (%zu x %zu bytes for %s)", count, size, what);
    return p;
}

#define HUGE_PAGE ((size_t)2 << 20) /* on most machines; elsewhere an alignment like any other */

void *lun_alloc_pages(size_t bytes)
{
    const size_t align = bytes >= 2 * HUGE_PAGE ? HUGE_PAGE : 256;
    if (bytes > SIZE_MAX - align)
        return NULL;
    void *pages = aligned_alloc(align, (bytes + align - 1) / align * align);
#ifdef MADV_HUGEPAGE
    if (pages && align == HUGE_PAGE)
        (void)madvise(pages, (bytes + align - 1) / align * align, MADV_HUGEPAGE); /* only advice: it may be refused */
#endif
    return pages;
}

char *lun_strdup(const char *text)
{
    size_t bytes = strlen(text) + 1;
    char *copy = lun_malloc(bytes, 1, "a name");
    if (copy)
        memcpy(copy, text, bytes);
    return copy;
}

char *lun_format(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    va_end(args);
    char *text = lun_malloc(length < 0 ? SIZE_MAX : (size_t)length + 1, 1, "a string");
    if (text)
        vsnprintf(text, (size_t)length + 1, format, again);
    va_end(again);
    return text;
}

bool lun_rate_text(double rate, char text[LUN_RATE_TEXT])
{
    double unit = 10;
    for (int digits = 1; digits <= 15 && rate > 0 && rate < 1; digits++, unit *= 10) {
        const double whole = round(rate * unit); /* below 2^53, so the quotient is the double nearest to the text */
        if (whole / unit == rate) {
            snprintf(text, LUN_RATE_TEXT, "0.%0*lld", digits, (long long)whole);
            return true;
        }
    }
    return false;
}

bool lun_rate_parse(const char *text, double *rate)
{
    double whole = 0, unit = 1;
    char again[LUN_RATE_TEXT];
    if (strlen(text) < 3 || strlen(text) > 17 || text[0] != '0' || text[1] != '.' ||
        text[2 + strspn(text + 2, "0123456789")])
        return false;
    for (const char *digit = text + 2; *digit; digit++) {
        whole = whole * 10 + (*digit - '0');
        unit *= 10;
    }
    if (!lun_rate_text(whole / unit, again) || strcmp(again, text) != 0)
        return false;
    *rate = whole / unit;
    return true;
}

uint64_t lun_hash(uint64_t hash, const void *data, size_t bytes)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < bytes; i++)
        hash = (hash ^ p[i]) * UINT64_C(0x100000001b3);
    return hash;
}

/* The terminating zero is hashed too, so that ("ab", "c") and ("a", "bc") differ. */
uint64_t lun_hash_text(uint64_t hash, const char *text)
{
    return lun_hash(hash, text, strlen(text) + 1);
}

double lun_clock(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
