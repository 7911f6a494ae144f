/* PNG through libpng's row interface. */
#include <png.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include "picture.h"

/* No ancillary chunk but tRNS is kept, so these bound what the few chunks that are read may take. */
#define CHUNK_BYTES 4000000
#define CHUNK_COUNT 16

/* Deflate makes at most 1032 bytes from one; a little more is allowed for. */
#define DEFLATE_RATIO 1040

/* All that lives across the jump is in here and reached through a pointer that does not change. */
typedef struct png_job {
    FILE *file;
    lun_decode *decode;
    png_structp png;
    png_infop info;
    uint8_t *row;
    lun_picture picture;
    lun_status status;
    char warning[128];
    jmp_buf jump;
} png_job;

static void PNGCBAPI on_error(png_structp png, png_const_charp text)
{
    png_job *job = png_get_error_ptr(png);
    /* libpng tells what is wrong with a header in a warning, and then only that it is wrong. */
    if (job->status == LUN_OK)
        job->status = lun_fail(LUN_ERR_DATA, "%s%s%s", text, job->warning[0] ? ": " : "", job->warning);
    longjmp(job->jump, 1);
}

static void PNGCBAPI on_warning(png_structp png, png_const_charp text)
{
    png_job *job = png_get_error_ptr(png);
    /* A chunk that says which pixels can be seen is not one to do without. */
    if (strncmp(text, "tRNS", 4) == 0)
        on_error(png, text);
    if (!job->warning[0])
        snprintf(job->warning, sizeof job->warning, "%s", text);
}

static png_voidp PNGCBAPI on_malloc(png_structp png, png_alloc_size_t bytes)
{
    png_job *job = png_get_mem_ptr(png);
    void *p = lun_malloc(bytes, 1, "reading a PNG");
    if (!p)
        job->status = LUN_ERR_MEMORY;
    return p;
}

static void PNGCBAPI on_free(png_structp png, png_voidp p)
{
    (void)png;
    free(p);
}

static lun_status read_picture(png_job *job)
{
    png_structp png = job->png;
    png_infop info = job->info;
    png_init_io(png, job->file);
    png_set_user_limits(png, LUN_PICTURE_MAX_SIDE, LUN_PICTURE_MAX_SIDE);
    png_set_chunk_malloc_max(png, CHUNK_BYTES);
    png_set_chunk_cache_max(png, CHUNK_COUNT);
    png_set_keep_unknown_chunks(png, PNG_HANDLE_CHUNK_NEVER, NULL, -1);
    png_read_info(png, info);

    const bool alpha =
        (png_get_color_type(png, info) & PNG_COLOR_MASK_ALPHA) || png_get_valid(png, info, PNG_INFO_tRNS);
    job->decode->found = alpha ? 4 : png_get_color_type(png, info) & PNG_COLOR_MASK_COLOR ? 3 : 1;
    const uint64_t width = png_get_image_width(png, info), height = png_get_image_height(png, info);
    job->decode->shorter_side = (int)lun_min_i64((int64_t)width, (int64_t)height); /* within the limits set above */
    if (job->decode->header_only)
        return LUN_OK;
    const int want = job->decode->channels ? job->decode->channels : job->decode->found;
    const uint64_t pixel_bits = (uint64_t)png_get_bit_depth(png, info) * png_get_channels(png, info);
    LUN_TRY(lun_decode_begin(job->decode, width, height, width * height * pixel_bits / 8 / DEFLATE_RATIO));

    png_set_expand(png);
    png_set_scale_16(png);
    png_set_gray_to_rgb(png);
    const int passes = png_set_interlace_handling(png);
    png_read_update_info(png, info);
    const size_t bytes = png_get_rowbytes(png, info);
    const int have = png_get_channels(png, info);
    if ((have != 3 && have != 4) || bytes != width * (size_t)have)
        return lun_fail(LUN_ERR_INTERNAL, "libpng gives %d channels in %zu bytes a row", have, bytes);

    /* An interlaced picture is filled pass by pass, so what libpng gives has to stay until the last. */
    const bool whole = passes > 1 && have != want;
    uint8_t *pixels = lun_malloc((size_t)(width * height), (size_t)(whole && have > want ? have : want), "a picture");
    if (!pixels)
        return LUN_ERR_MEMORY;
    job->picture = (lun_picture){(int)width, (int)height, pixels, want};
    if (have != want && !whole && !(job->row = lun_malloc(bytes, 1, "a row of a picture")))
        return LUN_ERR_MEMORY;

    for (int pass = 0; pass < passes; pass++) {
        for (size_t y = 0; y < height; y++) {
            if (job->row) {
                png_read_row(png, job->row, NULL);
                lun_pixels_convert(job->row, have, pixels + y * width * (size_t)want, want, width);
            } else {
                png_read_row(png, pixels + y * bytes, NULL);
            }
        }
    }
    png_read_end(png, NULL);
    const off_t end = ftello(job->file);
    job->decode->longer = end >= 0 && (uint64_t)end < job->decode->file_bytes;
    if (whole) {
        lun_pixels_convert(pixels, have, pixels, want, (size_t)(width * height));
        uint8_t *shrunk = have > want ? realloc(pixels, (size_t)(width * height) * (size_t)want) : NULL;
        if (shrunk)
            job->picture.pixels = shrunk;
    }
    return LUN_OK;
}

static lun_status guarded(png_job *job)
{
    if (setjmp(job->jump))
        return job->status;
    return read_picture(job);
}

lun_status lun_png_decode(FILE *file, lun_decode *decode, lun_picture *out)
{
    png_job job = {.file = file, .decode = decode};
    /* Creating must not jump: libpng catches its own errors there and returns NULL. */
    job.png = png_create_read_struct_2(PNG_LIBPNG_VER_STRING, &job, on_error, on_warning, &job, on_malloc, on_free);
    if (job.png)
        job.info = png_create_info_struct(job.png);
    lun_status status = LUN_OK;
    if (job.info)
        status = guarded(&job);
    else
        status = lun_fail(LUN_ERR_MEMORY, "libpng could not be started");
    png_destroy_read_struct(&job.png, &job.info, NULL);
    free(job.row);
    if (status == LUN_OK)
        *out = job.picture;
    else
        lun_picture_free(&job.picture);
    return status;
}
