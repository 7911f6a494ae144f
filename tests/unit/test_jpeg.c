/* What JPEG files can be beyond those that cameras write: many scans, other numbers of components, 12 bits, lossless,
 * arithmetic coding, any sampling; and the orientation in their EXIF. */
#include <lunette/data.h>

#include <check.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#ifdef LUN_HAVE_JPEG
/* jpeglib.h needs stdio.h before it. */
#include <jpeglib.h>
#endif

#include "base/base.h"
#include "data/picture.h"
#include "scratch.h"

#ifdef LUN_HAVE_JPEG
/* Refused with a reason, and the output untouched. */
static void refuse(const char *path, const char *reason)
{
    lun_picture out = {-1, -2, NULL, -3};
    const lun_status status = lun_picture_load(path, 1, &out);
    ck_assert_msg(status == LUN_ERR_DATA, "%s: %s", path, lun_status_name(status));
    ck_assert_msg(strstr(lun_error_detail(), reason) != NULL, "'%s' lacks '%s'", lun_error_detail(), reason);
    ck_assert(out.width == -1 && out.height == -2 && out.pixels == NULL);
}

static long peak_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* A legal progressive JPEG of one block in `scans` scans: a DC scan, then the coefficients 1 to 63 one by one, then a
 * bit more of each. Every scan is one zero bit. */
static size_t many_scans(int scans, uint8_t *out)
{
    static const uint8_t head[] = {0xff, 0xd8,                                         /* SOI */
                                   0xff, 0xc2, 0, 11, 8,    0, 8, 0, 8, 1, 1, 0x11, 0, /* SOF2: 8 x 8, grey */
                                   0xff, 0xc4, 0, 20, 0x00, 1, 0, 0, 0, 0, 0, 0,    0,
                                   0,    0,    0, 0,  0,    0, 0, 0, 0, /* DHT: DC, category 0 is "0" */
                                   0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0,    0,
                                   0,    0,    0, 0,  0,    0, 0, 0, 0, /* DHT: AC, end of block is "0" */
                                   0xff, 0xdb, 0, 67, 0};
    size_t n = sizeof head;
    memcpy(out, head, n);
    memset(out + n, 1, 64);
    n += 64;
    for (int s = 0; s < scans; s++) {
        const uint8_t k = (uint8_t)(s == 0 ? 0 : (s - 1) % 63 + 1);
        const uint8_t approximation = s == 0 ? 0 : s <= 63 ? 0x01 : 0x10;
        const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0x00, k, k, approximation, 0x7f};
        memcpy(out + n, scan, sizeof scan);
        n += sizeof scan;
    }
    out[n++] = 0xff;
    out[n++] = 0xd9;
    return n;
}

START_TEST(scans_are_limited)
{
    uint8_t data[4096];
    lun_picture out = {0};
    const char *path = scratch("scans.jpg");
    put_file(path, data, many_scans(100, data));
    ck_assert_msg(lun_picture_load(path, 0, &out) == LUN_OK, "%s", lun_error_detail());
    ck_assert(out.width == 8 && out.height == 8 && out.pixels[0] == 128 && out.pixels[191] == 128);
    lun_picture_free(&out);
    put_file(path, data, many_scans(102, data));
    refuse(path, "more than 100 scans");
    unlink(path);
}
END_TEST

/* A progressive JPEG up to its first scan: `components` of the full size, and zeros up to `room` bytes. */
static size_t jpeg_of(int components, unsigned width, unsigned height, uint8_t *out, size_t room)
{
    static const uint8_t tables[] = {0xff, 0xc4, 0, 20, 0x00, 1, 0, 0, 0,    0,    0, 0,  0, 0,
                                     0,    0,    0, 0,  0,    0, 0, 0, 0xff, 0xdb, 0, 67, 0};
    size_t n = 0;
    memset(out, 0, room);
    out[n++] = 0xff;
    out[n++] = 0xd8;
    memcpy(out + n, tables, sizeof tables);
    n += sizeof tables;
    memset(out + n, 1, 64);
    n += 64;
    const uint8_t frame[] = {0xff,
                             0xc2,
                             0,
                             (uint8_t)(8 + 3 * components),
                             8,
                             (uint8_t)(height >> 8),
                             (uint8_t)height,
                             (uint8_t)(width >> 8),
                             (uint8_t)width,
                             (uint8_t)components};
    memcpy(out + n, frame, sizeof frame);
    n += sizeof frame;
    for (int c = 0; c < components; c++) {
        out[n++] = (uint8_t)(c + 1);
        out[n++] = 0x11;
        out[n++] = 0;
    }
    const uint8_t scan[] = {0xff, 0xda, 0, (uint8_t)(6 + 2 * components), (uint8_t)components};
    memcpy(out + n, scan, sizeof scan);
    n += sizeof scan;
    for (int c = 0; c < components; c++) {
        out[n++] = (uint8_t)(c + 1);
        out[n++] = 0;
    }
    out[n++] = 0;
    out[n++] = 0;
    out[n] = 0;
    return room;
}

/* Two components are no colours that anybody knows; the coefficients of the largest picture in four are more than is
 * allowed, and are not allocated. */
START_TEST(jpegs_that_are_not_decoded)
{
    static uint8_t data[40000];
    const char *path = scratch("odd.jpg");
    const long before = peak_kib();
    put_file(path, data, jpeg_of(2, 8, 8, data, 300));
    refuse(path, "2 components in an unknown colour space");
    put_file(path, data, jpeg_of(4, 16384, 4096, data, sizeof data));
    refuse(path, "decoding needs more than 512 MiB");
    unlink(path);
    ck_assert_int_lt(peak_kib() - before, 16 * 1024);
}
END_TEST
/* ---- Frames that this program's libjpeg may or may not know
 * ------------------------------------------------------------------------------------------- */

/* The bits of a scan, first one highest, with a zero byte behind each 0xff. */
typedef struct bits {
    uint8_t *out;
    size_t count;
    unsigned held, length;
} bits;

static void put_bits(bits *b, unsigned value, unsigned length)
{
    b->held = b->held << length | value;
    b->length += length;
    while (b->length >= 8) {
        b->length -= 8;
        b->out[b->count++] = (uint8_t)(b->held >> b->length);
        if (b->out[b->count - 1] == 0xff)
            b->out[b->count++] = 0;
    }
    b->held &= (1u << b->length) - 1;
}

/* A difference as JPEG writes it: how many bits it has, here in four bits, and these. */
static void put_difference(bits *b, int difference)
{
    unsigned size = 0;
    while (abs(difference) >> size)
        size++;
    put_bits(b, size, 4);
    if (size)
        put_bits(b, (unsigned)(difference > 0 ? difference : difference + (1 << size) - 1), size);
}

/* A grey picture of one component: in lossless coding (frame type 3), each pixel predicted by its left neighbour; or in
 * 12 bits (type 1), one block of the middle grey. */
static size_t odd_frame(int type, const uint8_t *pixels, int width, int height, uint8_t *out)
{
    const uint8_t head[] = {
        0xff, 0xd8, 0xff, (uint8_t)(0xc0 + type), 0, 11, type == 1 ? 12 : 8, 0, (uint8_t)height, 0, (uint8_t)width, 1,
        1,    0x11, 0};
    /* Sizes 0 to 8 in codes of four bits; and for blocks a table whose only code is the end of one. */
    static const uint8_t sizes[] = {0xff, 0xc4, 0, 28, 0x00, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0,
                                    0,    0,    0, 0,  0,    0, 0, 1, 2, 3, 4, 5, 6, 7, 8};
    static const uint8_t ends[] = {0xff, 0xc4, 0, 20, 0x10, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0};
    static const uint8_t divisors[] = {0xff, 0xdb, 0, 67, 0};
    const uint8_t scan[] = {0xff, 0xda, 0, 8, 1, 1, 0x00, type == 3, type == 3 ? 0 : 63, 0};
    bits b = {.out = out};
    memcpy(out, head, sizeof head);
    b.count = sizeof head;
    memcpy(out + b.count, sizes, sizeof sizes);
    b.count += sizeof sizes;
    if (type == 1) {
        memcpy(out + b.count, ends, sizeof ends);
        b.count += sizeof ends;
        memcpy(out + b.count, divisors, sizeof divisors);
        memset(out + b.count + sizeof divisors, 1, 64);
        b.count += sizeof divisors + 64;
    }
    memcpy(out + b.count, scan, sizeof scan);
    b.count += sizeof scan;
    if (type == 1) {
        put_difference(&b, 0);
        put_bits(&b, 0, 1);
    }
    for (int i = 0; type == 3 && i < width * height; i++)
        put_difference(&b, pixels[i] - (i == 0 ? 128 : i % width ? pixels[i - 1] : pixels[i - width]));
    put_bits(&b, 0x7f, 7);
    out[b.count++] = 0xff;
    out[b.count++] = 0xd9;
    return b.count;
}

START_TEST(twelve_bits_are_refused)
{
    uint8_t data[512];
    const char *path = scratch("twelve.jpg");
    put_file(path, data, odd_frame(1, NULL, 8, 8, data));
    refuse(path, "precision 12");
}
END_TEST

/* Newer libraries decode it, and then to the last bit. */
START_TEST(lossless_is_refused_or_right)
{
    enum { W = 13, H = 9 };
    uint8_t pixels[W * H], data[1024];
    lun_picture out = {0};
    const char *path = scratch("lossless.jpg");
    for (int i = 0; i < W * H; i++)
        pixels[i] = (uint8_t)(lun_hash(LUN_HASH_START, &i, sizeof i) >> 20 & 255);
    put_file(path, data, odd_frame(3, pixels, W, H, data));
    if (lun_picture_load(path, 0, &out) != LUN_OK) {
        refuse(path, "Unsupported JPEG process");
        return;
    }
    ck_assert(out.width == W && out.height == H);
    for (int i = 0; i < 3 * W * H; i++)
        ck_assert_int_eq(out.pixels[i], pixels[i / 3]);
    lun_picture_free(&out);
}
END_TEST

/* ---- Samplings and coders, through libjpeg's own compressor
 * ----------------------------------------------------------------------------------------------- */

typedef struct factors {
    int h, v; /* of the luminance; the colours have 1 */
} factors;

static void write_jpeg(const char *path, const uint8_t *rgb, int width, int height, factors f, bool arithmetic)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    FILE *file = fopen(path, "wb");
    ck_assert_ptr_nonnull(file);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = (JDIMENSION)width;
    jpeg.image_height = (JDIMENSION)height;
    jpeg.input_components = 3;
    jpeg.in_color_space = JCS_RGB;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 90, TRUE);
    jpeg.comp_info[0].h_samp_factor = f.h;
    jpeg.comp_info[0].v_samp_factor = f.v;
#ifdef C_ARITH_CODING_SUPPORTED
    jpeg.arith_code = arithmetic;
#else
    (void)arithmetic;
#endif
    jpeg_start_compress(&jpeg, TRUE);
    while (jpeg.next_scanline < jpeg.image_height) {
        uint8_t row[3 * 128];
        JSAMPROW rows[1] = {row};
        memcpy(row, rgb + (size_t)jpeg.next_scanline * (size_t)width * 3, (size_t)width * 3);
        jpeg_write_scanlines(&jpeg, rows, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    ck_assert_int_eq(fclose(file), 0);
}

static const factors all_factors[] = {{1, 1}, {2, 1}, {1, 2}, {2, 2}, {4, 1}, {1, 4}, {4, 2}, {3, 1}};

/* Without colour the samplings hold the same: every one gives the pixels of 4:4:4, at sizes that fill no block. */
START_TEST(samplings_agree_on_grey)
{
    static const int sizes[][2] = {{37, 29}, {1, 1}, {3, 5}, {65, 17}, {33, 1}};
    static uint8_t rgb[128 * 64 * 3];
    for (size_t s = 0; s < LUN_COUNT(sizes); s++) {
        const int w = sizes[s][0], h = sizes[s][1];
        lun_picture want = {0};
        for (int i = 0; i < w * h; i++)
            memset(rgb + 3 * i, i % w * 7 + i / w * 5, 3);
        for (size_t k = 0; k < LUN_COUNT(all_factors); k++) {
            lun_picture got = {0};
            const char *path = scratch("sampled.jpg");
            write_jpeg(path, rgb, w, h, all_factors[k], false);
            ck_assert_msg(lun_picture_load(path, 0, &got) == LUN_OK, "%s", lun_error_detail());
            ck_assert(got.width == w && got.height == h);
            if (k == 0) {
                want = got;
                continue;
            }
            ck_assert_mem_eq(got.pixels, want.pixels, (size_t)w * (size_t)h * 3);
            lun_picture_free(&got);
        }
        lun_picture_free(&want);
    }
}
END_TEST

/* Colours stay where they were. Far from their edge a block is flat, and its mean is coded in steps of 3 / 8: with the
 * rounding of each conversion, luminance and chrominance err by at most 1.2 each, and a colour by 1.2 (1 + 1.772) + 0.5
 * < 4. */
START_TEST(samplings_keep_colours)
{
    enum { W = 96, H = 48 };
    static const uint8_t left[3] = {200, 40, 30}, right[3] = {20, 60, 210};
    static uint8_t rgb[W * H * 3];
    for (int i = 0; i < W * H; i++)
        memcpy(rgb + 3 * i, i % W < W / 2 ? left : right, 3);
    for (size_t k = 0; k < LUN_COUNT(all_factors); k++) {
        lun_picture got = {0};
        const char *path = scratch("coloured.jpg");
        write_jpeg(path, rgb, W, H, all_factors[k], false);
        ck_assert_msg(lun_picture_load(path, 0, &got) == LUN_OK, "%s", lun_error_detail());
        for (int c = 0; c < 3; c++) {
            const uint8_t *row = got.pixels + (size_t)(H / 2) * W * 3;
            ck_assert_int_le(abs(row[3 * 8 + c] - left[c]), 4);
            ck_assert_int_le(abs(row[3 * (W - 8) + c] - right[c]), 4);
        }
        lun_picture_free(&got);
    }
}
END_TEST

/* Both coders keep the coefficients as they are. */
#ifdef C_ARITH_CODING_SUPPORTED
START_TEST(arithmetic_coding_is_read)
{
    enum { W = 37, H = 29 };
    static uint8_t rgb[W * H * 3];
    for (size_t i = 0; i < sizeof rgb; i++)
        rgb[i] = (uint8_t)(lun_hash(LUN_HASH_START, &i, sizeof i) >> 20);
    for (size_t k = 0; k < LUN_COUNT(all_factors); k++) {
        lun_picture got[2] = {{0}, {0}};
        size_t bytes[2];
        for (int a = 0; a < 2; a++) {
            const char *path = scratch("coded.jpg");
            write_jpeg(path, rgb, W, H, all_factors[k], a == 1);
            free(get_file(path, &bytes[a]));
            ck_assert_msg(lun_picture_load(path, 0, &got[a]) == LUN_OK, "%s", lun_error_detail());
        }
        ck_assert_uint_ne(bytes[0], bytes[1]);
        ck_assert_mem_eq(got[0].pixels, got[1].pixels, sizeof rgb);
        lun_picture_free(&got[0]);
        lun_picture_free(&got[1]);
    }
}
END_TEST
#endif
#endif

/* Both byte orders, and every damage by a prefix or one byte: a value from 0 to 8, nothing read outside (the copy is of
 * the exact size, for the sanitizer to watch). */
START_TEST(exif_is_parsed_with_care)
{
    static const uint8_t little[] = {'E', 'x', 'i', 'f', 0, 0, 'I',  'I', 42, 0, 8, 0, 0, 0, 2, 0, 0x0f, 1, 2, 0, 1, 0,
                                     0,   0,   'x', 0,   0, 0, 0x12, 1,   3,  0, 1, 0, 0, 0, 6, 0, 0,    0, 0, 0, 0, 0};
    static const uint8_t big[] = {'E', 'x',  'i', 'f', 0, 0, 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1,
                                  1,   0x12, 0,   3,   0, 0, 0,   1,   0, 8,  0, 0, 0, 0, 0, 0};
    ck_assert_int_eq(lun_exif_orientation(little, sizeof little), 6);
    ck_assert_int_eq(lun_exif_orientation(big, sizeof big), 8);
    ck_assert_int_eq(lun_exif_orientation(NULL, 0), 0);
    for (size_t count = 0; count < sizeof little; count++) {
        uint8_t *copy = malloc(count ? count : 1);
        memcpy(copy, little, count);
        const int got = lun_exif_orientation(copy, count);
        ck_assert_int_eq(got, count >= 6 + 8 + 2 + 24 ? 6 : 0);
        free(copy);
    }
    for (size_t i = 0; i < sizeof big; i++) {
        for (int v = 0; v < 256; v++) {
            uint8_t *copy = malloc(sizeof big);
            memcpy(copy, big, sizeof big);
            copy[i] = (uint8_t)v;
            const int got = lun_exif_orientation(copy, sizeof big);
            ck_assert(got >= 0 && got <= 8);
            if (i >= 16 && i < 24) /* another tag, another type than SHORT, another count than 1 */
                ck_assert_int_eq(got, v == big[i] ? 8 : 0);
            free(copy);
        }
    }
}
END_TEST

static void teardown(void)
{
    scratch_remove();
}

int main(void)
{
    Suite *suite = suite_create("jpeg");
    TCase *tests = tcase_create("jpeg");
    tcase_set_timeout(tests, 60);
    tcase_add_unchecked_fixture(tests, scratch_make, teardown);
#ifdef LUN_HAVE_JPEG
    tcase_add_test(tests, scans_are_limited);
    tcase_add_test(tests, jpegs_that_are_not_decoded);
    tcase_add_test(tests, twelve_bits_are_refused);
    tcase_add_test(tests, lossless_is_refused_or_right);
    tcase_add_test(tests, samplings_agree_on_grey);
    tcase_add_test(tests, samplings_keep_colours);
#ifdef C_ARITH_CODING_SUPPORTED
    tcase_add_test(tests, arithmetic_coding_is_read);
#endif
#endif
    tcase_add_test(tests, exif_is_parsed_with_care);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
