/* JPEG through libjpeg's row interface, and the one EXIF value that matters here. */
#include <string.h>

#include "picture.h"

static unsigned read_16(const uint8_t *p, bool big_endian)
{
    return big_endian ? (unsigned)p[0] << 8 | p[1] : (unsigned)p[1] << 8 | p[0];
}

static uint32_t read_32(const uint8_t *p, bool big_endian)
{
    return big_endian ? (uint32_t)read_16(p, true) << 16 | read_16(p + 2, true)
                      : (uint32_t)read_16(p + 2, false) << 16 | read_16(p, false);
}

/* "Exif\0\0", then a TIFF header whose first directory may hold tag 0x0112 as one SHORT. Only that directory is read,
 * front to back, so there is nothing to go round in. */
int lun_exif_orientation(const uint8_t *data, size_t bytes)
{
    if (bytes < 6 + 8 || memcmp(data, "Exif\0", 6) != 0)
        return 0;
    const uint8_t *tiff = data + 6;
    const size_t size = bytes - 6;
    const bool big_endian = tiff[0] == 'M';
    if (memcmp(tiff, big_endian ? "MM" : "II", 2) != 0 || read_16(tiff + 2, big_endian) != 42)
        return 0;
    const uint32_t offset = read_32(tiff + 4, big_endian);
    if (offset > size - 2)
        return 0;
    const size_t entries = read_16(tiff + offset, big_endian), room = (size - offset - 2) / 12;
    for (size_t i = 0; i < entries && i < room; i++) {
        const uint8_t *entry = tiff + offset + 2 + 12 * i;
        if (read_16(entry, big_endian) != 0x0112)
            continue;
        const unsigned value = read_16(entry + 8, big_endian);
        const bool sound = read_16(entry + 2, big_endian) == 3 && read_32(entry + 4, big_endian) == 1;
        return sound && value >= 1 && value <= 8 ? (int)value : 0;
    }
    return 0;
}

#ifndef LUN_HAVE_JPEG

int lun_jpeg_version(void)
{
    return 0;
}

lun_status lun_jpeg_decode(FILE *file, lun_decode *decode, lun_picture *out)
{
    (void)file, (void)decode, (void)out;
    return lun_fail(LUN_ERR_DATA, "a JPEG picture, and lunette was built without JPEG support");
}

#else

#include <setjmp.h>
#include <stdlib.h>

/* jpeglib.h needs stdio.h and stddef.h before it. */
#include <jpeglib.h>

#include <jerror.h>

/* 80,000 progressive scans of a few bytes are a legal file that takes hours. */
#define MAX_SCANS  100

/* For the coefficients of pictures in several scans; the largest picture without subsampling needs 384 MiB. */
#define MAX_MEMORY (512L << 20)

int lun_jpeg_version(void)
{
#ifdef LIBJPEG_TURBO_VERSION_NUMBER
    return LIBJPEG_TURBO_VERSION_NUMBER;
#else
    return JPEG_LIB_VERSION;
#endif
}

/* All that lives across the jump is in here and reached through a pointer that does not change. */
typedef struct jpeg_job {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    FILE *file;
    lun_decode *decode;
    uint8_t *row;
    lun_picture picture;
    lun_status status;
    jmp_buf jump;
} jpeg_job;

static void on_error(j_common_ptr common)
{
    jpeg_job *job = common->client_data;
    char text[JMSG_LENGTH_MAX];
    common->err->format_message(common, text);
    if (common->err->msg_code == JERR_OUT_OF_MEMORY)
        job->status = lun_fail(LUN_ERR_MEMORY, "out of memory (reading a JPEG)");
    else if (common->err->msg_code == JERR_NO_BACKING_STORE)
        job->status = lun_fail(LUN_ERR_DATA, "decoding needs more than %ld MiB", MAX_MEMORY >> 20);
    else
        job->status = lun_fail(LUN_ERR_DATA, "%s", text);
    longjmp(job->jump, 1);
}

/* A warning means that what follows is made up by the decoder: grey blocks must not be trained on. */
static void on_message(j_common_ptr common, int level)
{
    if (level < 0)
        on_error(common);
}

static void on_output(j_common_ptr common)
{
    (void)common;
}

static void on_progress(j_common_ptr common)
{
    jpeg_job *job = common->client_data;
    if (job->jpeg.input_scan_number > MAX_SCANS) {
        job->status = lun_fail(LUN_ERR_DATA, "more than %d scans", MAX_SCANS);
        longjmp(job->jump, 1);
    }
}

/* Where pixel (x, y) of the file goes: start + x * dx + y * dy, in pixels of the upright picture. */
typedef struct placement {
    int width, height;
    ptrdiff_t start, dx, dy;
} placement;

static placement place(int orientation, int width, int height)
{
    const ptrdiff_t w = width, h = height;
    switch (orientation) {
    case 2: return (placement){width, height, w - 1, -1, w};
    case 3: return (placement){width, height, w * h - 1, -1, -w};
    case 4: return (placement){width, height, w * (h - 1), 1, -w};
    case 5: return (placement){height, width, 0, h, 1};
    case 6: return (placement){height, width, h - 1, h, -1};
    case 7: return (placement){height, width, w * h - 1, -h, -1};
    case 8: return (placement){height, width, h * (w - 1), -h, 1};
    default: return (placement){width, height, 0, 1, w};
    }
}

static int find_orientation(const struct jpeg_decompress_struct *jpeg)
{
    for (jpeg_saved_marker_ptr marker = jpeg->marker_list; marker; marker = marker->next) {
        const int orientation = lun_exif_orientation(marker->data, marker->data_length);
        if (orientation)
            return orientation;
    }
    return 1;
}

/* One row of what libjpeg gives, of 1, 3 or 4 components (the last is ink), to its place. */
static void put_row(const jpeg_job *job, const placement *at, ptrdiff_t y)
{
    const struct jpeg_decompress_struct *jpeg = &job->jpeg;
    const int components = jpeg->output_components, channels = job->picture.channels;
    const unsigned flip = jpeg->saw_Adobe_marker ? 0 : 255;
    const uint8_t *src = job->row;
    for (ptrdiff_t x = 0; x < (ptrdiff_t)jpeg->output_width; x++, src += components) {
        uint8_t *dst = job->picture.pixels + (at->start + x * at->dx + y * at->dy) * channels;
        uint8_t rgb[3];
        if (components == 3) {
            memcpy(rgb, src, 3);
        } else if (components == 1) {
            memset(rgb, src[0], 3);
        } else {
            for (int c = 0; c < 3; c++)
                rgb[c] = lun_mul_255(src[c] ^ flip, src[3] ^ flip);
        }
        lun_pixels_convert(rgb, 3, dst, channels, 1);
    }
}

static lun_status read_picture(jpeg_job *job)
{
    struct jpeg_decompress_struct *jpeg = &job->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg->mem->max_memory_to_use = MAX_MEMORY;
    job->progress.progress_monitor = on_progress;
    jpeg->progress = &job->progress;
    jpeg_stdio_src(jpeg, job->file);
    if (job->decode->orient)
        jpeg_save_markers(jpeg, JPEG_APP0 + 1, 0xffff);
    jpeg_read_header(jpeg, TRUE);

    switch (jpeg->jpeg_color_space) {
    case JCS_GRAYSCALE: jpeg->out_color_space = JCS_GRAYSCALE; break;
    case JCS_YCbCr:
    case JCS_RGB: jpeg->out_color_space = JCS_RGB; break;
    case JCS_CMYK:
    case JCS_YCCK: jpeg->out_color_space = JCS_CMYK; break;
    default: return lun_fail(LUN_ERR_DATA, "a JPEG of %d components in an unknown colour space", jpeg->num_components);
    }
    job->decode->found = jpeg->out_color_space == JCS_GRAYSCALE ? 1 : 3;
    job->decode->shorter_side = (int)lun_min_i64(jpeg->image_width, jpeg->image_height); /* at most 65535 */
    if (job->decode->header_only)
        return LUN_OK;
    /* Huffman coding spends at least a bit on each 8x8 block of each component: pixels / 512 bytes, and a quarter of
     * that where no component has the full size. Arithmetic coding has no such bound, but no photograph is below it. */
    const uint64_t width = jpeg->image_width, height = jpeg->image_height;
    LUN_TRY(lun_decode_begin(job->decode, width, height, width * height / 2048));

    jpeg_start_decompress(jpeg);
    const placement at = place(job->decode->orient ? find_orientation(jpeg) : 1, (int)width, (int)height);
    const int channels = job->decode->channels ? job->decode->channels : job->decode->found;
    LUN_TRY(lun_picture_alloc(at.width, at.height, channels, &job->picture));
    job->row = lun_malloc(jpeg->output_width, (size_t)jpeg->output_components, "a row of a picture");
    if (!job->row)
        return LUN_ERR_MEMORY;
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW rows[1] = {job->row};
        const ptrdiff_t y = (ptrdiff_t)jpeg->output_scanline;
        if (jpeg_read_scanlines(jpeg, rows, 1) != 1)
            return lun_fail(LUN_ERR_DATA, "ends early");
        put_row(job, &at, y);
    }
    jpeg_finish_decompress(jpeg);
    return LUN_OK;
}

static lun_status guarded(jpeg_job *job)
{
    if (setjmp(job->jump))
        return job->status;
    return read_picture(job);
}

lun_status lun_jpeg_decode(FILE *file, lun_decode *decode, lun_picture *out)
{
    jpeg_job job = {.file = file, .decode = decode};
    job.jpeg.err = jpeg_std_error(&job.errors);
    job.jpeg.client_data = &job;
    job.errors.error_exit = on_error;
    job.errors.emit_message = on_message;
    job.errors.output_message = on_output;
    const lun_status status = guarded(&job);
    jpeg_destroy_decompress(&job.jpeg);
    free(job.row);
    if (status == LUN_OK)
        *out = job.picture;
    else
        lun_picture_free(&job.picture);
    return status;
}

#endif
