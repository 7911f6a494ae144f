#include <lunette/picture_out.h>

#include <png.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"

#define SIDE_MAX 1000000 /* libpng's own default limit, for readers too */

typedef struct target {
    lun_file *file;
    lun_status status; /* what a callback has already recorded */
    bool refused;      /* memory */
} target;

static png_voidp on_malloc(png_structp png, png_alloc_size_t bytes)
{
    target *t = png_get_mem_ptr(png);
    void *p = malloc(bytes);
    t->refused = t->refused || !p;
    return p;
}

static void on_free(png_structp png, png_voidp p)
{
    (void)png;
    free(p);
}

static void on_write(png_structp png, png_bytep data, size_t bytes)
{
    target *t = png_get_io_ptr(png);
    t->status = lun_file_write(t->file, data, bytes);
    if (t->status != LUN_OK)
        png_longjmp(png, 1);
}

/* Nothing is flushed before the commit; libpng's own flush would take its io pointer for a FILE. */
static void on_flush(png_structp png)
{
    (void)png;
}

static void on_error(png_structp png, png_const_charp message)
{
    target *t = png_get_error_ptr(png);
    t->status = t->refused ? lun_fail(LUN_ERR_MEMORY, "out of memory (a PNG encoder)")
                           : lun_fail(LUN_ERR_INTERNAL, "libpng: %s", message);
    png_longjmp(png, 1);
}

static void on_warning(png_structp png, png_const_charp message)
{
    (void)png;
    lun_log(LUN_LOG_DEBUG, "libpng: %s", message);
}

static bool key_is_good(const char *key)
{
    const size_t length = key == NULL ? 0 : strlen(key);
    if (length < 1 || length > 79 || key[0] == ' ' || key[length - 1] == ' ')
        return false;
    for (size_t i = 0; i < length; i++) {
        const unsigned char c = (unsigned char)key[i];
        if (c < 32 || (c > 126 && c < 161) || (c == ' ' && key[i + 1] == ' '))
            return false;
    }
    return true;
}

/* Read one code point, 0xFFFD for a byte that starts none (RFC 3629: no surrogates, none longer than need be). */
static const unsigned char *next_code(const unsigned char *at, uint32_t *code)
{
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    const int length = at[0] < 0x80 ? 1 : at[0] < 0xC2 ? 0 : at[0] < 0xE0 ? 2 : at[0] < 0xF0 ? 3 : at[0] < 0xF5 ? 4 : 0;
    *code = length == 1 ? at[0] : at[0] & (0x7Fu >> length);
    for (int k = 1; k < length; k++) {
        if ((at[k] & 0xC0) != 0x80) { /* the terminating zero too */
            *code = 0xFFFD;
            return at + 1;
        }
        *code = *code << 6 | (at[k] & 0x3F);
    }
    if (length == 0 || *code < least[length] || (*code >= 0xD800 && *code < 0xE000) || *code > 0x10FFFF) {
        *code = 0xFFFD;
        return at + 1;
    }
    return at + length;
}

/* The chunk for one text; its `text` is fresh memory. Two passes: what does the value hold, then the bytes. */
static lun_status text_of(const lun_png_text *in, png_text *out)
{
    if (!key_is_good(in->key) || in->value == NULL)
        return lun_fail(LUN_ERR_USAGE,
                        "a PNG text needs a value and a key of 1 to 79 Latin-1 characters, single spaces inside");
    bool latin = true;
    size_t wide = 0, narrow = 0;
    uint32_t code;
    for (const unsigned char *at = (const unsigned char *)in->value; *at != 0; narrow++) {
        at = next_code(at, &code);
        latin = latin && (code == '\n' || (code >= 32 && code < 127) || (code >= 160 && code < 256));
        wide += code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
    }
    unsigned char *text = lun_malloc((latin ? narrow : wide) + 1, 1, "a PNG text");
    if (text == NULL)
        return LUN_ERR_MEMORY;
    unsigned char *to = text;
    for (const unsigned char *at = (const unsigned char *)in->value; *at != 0;) {
        at = next_code(at, &code);
        if (latin || code < 0x80) {
            *to++ = (unsigned char)code;
            continue;
        }
        if (code >= 0x10000) {
            *to++ = (unsigned char)(0xF0 | code >> 18);
            *to++ = (unsigned char)(0x80 | (code >> 12 & 0x3F));
        } else if (code >= 0x800) {
            *to++ = (unsigned char)(0xE0 | code >> 12);
        }
        *to++ = (unsigned char)(code >= 0x800 ? 0x80 | (code >> 6 & 0x3F) : 0xC0 | code >> 6);
        *to++ = (unsigned char)(0x80 | (code & 0x3F));
    }
    *to = 0;
    out->compression = latin ? PNG_TEXT_COMPRESSION_NONE : PNG_ITXT_COMPRESSION_NONE;
    out->key = (char *)(uintptr_t)in->key; /* libpng copies it; its type lacks the const */
    out->text = (char *)text;
    out->text_length = latin ? narrow : 0;
    out->itxt_length = latin ? 0 : wide;
    return LUN_OK;
}

/* Alone in its function, so that no local is changed between setjmp and longjmp. */
static lun_status encode(png_structp png, png_infop info, target *t, const lun_picture *picture, png_textp texts,
                         size_t count)
{
    if (setjmp(png_jmpbuf(png)))
        return t->status != LUN_OK ? t->status : lun_fail(LUN_ERR_INTERNAL, "libpng failed without a word");
    png_set_write_fn(png, t, on_write, on_flush);
    png_set_user_limits(png, SIDE_MAX, SIDE_MAX);
    const int color = picture->channels == 1   ? PNG_COLOR_TYPE_GRAY
                      : picture->channels == 3 ? PNG_COLOR_TYPE_RGB
                                               : PNG_COLOR_TYPE_RGB_ALPHA;
    png_set_IHDR(png, info, (png_uint_32)picture->width, (png_uint_32)picture->height, 8, color, PNG_INTERLACE_NONE,
                 PNG_COMPRESSION_TYPE_DEFAULT, PNG_FILTER_TYPE_DEFAULT);
    if (count > 0)
        png_set_text(png, info, texts, (int)count);
    png_write_info(png, info);
    for (int y = 0; y < picture->height; y++)
        png_write_row(png, picture->pixels + (size_t)y * (size_t)picture->width * (size_t)picture->channels);
    png_write_end(png, info);
    return LUN_OK;
}

static lun_status write_file(const char *path, const lun_picture *picture, png_textp texts, size_t count)
{
    target t = {.status = LUN_OK};
    lun_status status;
    png_infop info = NULL;
    png_structp png =
        png_create_write_struct_2(PNG_LIBPNG_VER_STRING, &t, on_error, on_warning, &t, on_malloc, on_free);
    if (png != NULL)
        info = png_create_info_struct(png);
    if (info == NULL) {
        status = lun_fail(LUN_ERR_MEMORY, "out of memory (a PNG encoder)");
    } else {
        status = lun_file_create(path, &t.file);
        if (status == LUN_OK) {
            status = encode(png, info, &t, picture, texts, count);
            if (status == LUN_OK)
                status = lun_file_commit(t.file);
            else
                lun_file_discard(t.file);
        }
    }
    png_destroy_write_struct(&png, &info);
    return status;
}

lun_status lun_png_write(const char *path, const lun_picture *picture, const lun_png_text *texts, size_t count)
{
    if (path == NULL || picture == NULL || picture->pixels == NULL || (texts == NULL && count > 0))
        return lun_fail(LUN_ERR_USAGE, "a PNG needs a path and a picture");
    if (picture->width < 1 || picture->height < 1 || picture->width > SIDE_MAX || picture->height > SIDE_MAX)
        return lun_fail(LUN_ERR_USAGE, "a PNG of %d x %d pixels cannot be written", picture->width, picture->height);
    if (picture->channels != 1 && picture->channels != 3 && picture->channels != 4)
        return lun_fail(LUN_ERR_USAGE, "a PNG of %d channels cannot be written: 1, 3 or 4 can", picture->channels);
    if (count > 1000)
        return lun_fail(LUN_ERR_USAGE, "%zu texts are too many for a PNG", count);
    png_text *list = lun_calloc(count, sizeof *list, "the texts of a PNG");
    if (list == NULL)
        return LUN_ERR_MEMORY;
    lun_status status = LUN_OK;
    for (size_t i = 0; i < count && status == LUN_OK; i++)
        status = text_of(&texts[i], &list[i]);
    if (status == LUN_OK)
        status = write_file(path, picture, list, count);
    for (size_t i = 0; i < count; i++)
        free(list[i].text);
    free(list);
    return status;
}
