#include <check.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/base.h"
#include "data/picture.h"

/* The folder of this file: tests/unit/pictures/generate.py says what cases.txt holds. */
static const char *cases_folder;
static char scratch[256];

typedef struct bytes {
    uint8_t *data;
    size_t count;
} bytes;

static const char *path_in(const char *folder, const char *name)
{
    static char text[4][1024];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(text[turn], sizeof text[turn], "%s/%s", folder, name);
    return text[turn];
}

static bytes slurp(const char *path)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    bytes b = {malloc(1 << 20), 0};
    b.count = fread(b.data, 1, 1 << 20, file);
    ck_assert_uint_lt(b.count, 1 << 20);
    fclose(file);
    return b;
}

static void spill(const char *path, const void *data, size_t count)
{
    FILE *file = fopen(path, "wb");
    ck_assert_msg(file != NULL, "cannot write %s", path);
    ck_assert_uint_eq(fwrite(data, 1, count, file), count);
    ck_assert_int_eq(fclose(file), 0);
}

static lun_picture read_ppm(const char *path)
{
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "cannot open %s", path);
    lun_picture p = {0};
    ck_assert_int_eq(fscanf(file, "P6 %d %d 255", &p.width, &p.height), 2);
    ck_assert_int_eq(fgetc(file), '\n');
    const size_t count = (size_t)p.width * (size_t)p.height * 3;
    p.pixels = malloc(count);
    ck_assert_uint_eq(fread(p.pixels, 1, count, file), count);
    fclose(file);
    p.channels = 3;
    return p;
}

/* The source of the resized pictures; the same generator is in generate.py. */
static lun_picture noise_of(int channels, int width, int height)
{
    const size_t count = (size_t)width * (size_t)height * (size_t)channels;
    lun_picture p = {width, height, malloc(count), channels};
    uint32_t seed = 1;
    for (size_t i = 0; i < count; i++) {
        seed = seed * 1664525u + 1013904223u;
        p.pixels[i] = (uint8_t)(seed >> 24);
    }
    return p;
}

static lun_picture noise(int width, int height)
{
    return noise_of(3, width, height);
}

static void compare(const char *what, const lun_picture *got, const char *expected, int tolerance)
{
    lun_picture want = read_ppm(path_in(cases_folder, expected));
    ck_assert_msg(got->width == want.width && got->height == want.height && got->channels == 3,
                  "%s: %d x %d x %d, not %d x %d", what, got->width, got->height, got->channels, want.width,
                  want.height);
    for (size_t i = 0; i < (size_t)want.width * (size_t)want.height * 3; i++) {
        const int error = abs(got->pixels[i] - want.pixels[i]);
        ck_assert_msg(error <= tolerance, "%s: byte %zu is %d, not %d", what, i, got->pixels[i], want.pixels[i]);
    }
    lun_picture_free(&want);
}

/* Refused with a reason, and the output untouched. */
static void refuse(const char *path, const char *reason)
{
    lun_picture out = {-1, -2, NULL, -3};
    const lun_status status = lun_picture_load(path, 1, &out);
    ck_assert_msg(status == LUN_ERR_DATA, "%s: %s", path, lun_status_name(status));
    ck_assert_msg(strstr(lun_error_detail(), reason) != NULL, "'%s' lacks '%s'", lun_error_detail(), reason);
    ck_assert_msg(strncmp(lun_error_detail(), path, strlen(path)) == 0, "'%s' lacks the path", lun_error_detail());
    ck_assert(out.width == -1 && out.height == -2 && out.pixels == NULL);
}

static bool is_jpeg(const char *name)
{
    return strstr(name, ".jpg") != NULL;
}

#ifdef LUN_HAVE_JPEG
static const bool have_jpeg = true;
#else
static const bool have_jpeg = false;
#endif

START_TEST(listed_cases)
{
    FILE *list = fopen(path_in(cases_folder, "cases.txt"), "r");
    ck_assert_ptr_nonnull(list);
    char line[256], name[128], result[128];
    int loads = 0, bad = 0, fits = 0;
    while (fgets(line, sizeof line, list)) {
        int tolerance = 0, orient = 0, w = 0, h = 0, new_w = 0, new_h = 0;
        lun_picture got = {0};
        if (sscanf(line, "load %127s %127s %d %d", name, result, &tolerance, &orient) == 4) {
            if (is_jpeg(name) && !have_jpeg) {
                refuse(path_in(cases_folder, name), "built without JPEG support");
            } else {
                const lun_status status = lun_picture_load(path_in(cases_folder, name), orient, &got);
                ck_assert_msg(status == LUN_OK, "%s", lun_error_detail());
                compare(name, &got, result, tolerance);
            }
            loads++;
        } else if (strncmp(line, "bad ", 4) == 0) {
            result[0] = 0;
            ck_assert_int_ge(sscanf(line, "bad %127s %127s", name, result), 1);
            for (char *c = result; *c; c++)
                *c = *c == '_' ? ' ' : *c;
            refuse(path_in(cases_folder, name), result);
            bad++;
        } else if (sscanf(line, "fit %127s %d %d %d %d %127s", name, &w, &h, &new_w, &new_h, result) == 6) {
            lun_picture src = noise(w, h);
            const bool stretch = strcmp(name, "stretch") == 0;
            ck_assert_int_eq(lun_picture_fit(&src, stretch ? LUN_FIT_STRETCH : LUN_FIT_CROP, new_w, new_h, &got),
                             LUN_OK);
            compare(result, &got, result, 0);
            if (stretch) {
                lun_picture_free(&got);
                ck_assert_int_eq(lun_picture_resize(&src, new_w, new_h, &got), LUN_OK);
                compare(result, &got, result, 0);
            }
            lun_picture_free(&src);
            fits++;
        } else {
            ck_abort_msg("a line of cases.txt is not understood: %s", line);
        }
        lun_picture_free(&got);
    }
    fclose(list);
    ck_assert_int_ge(loads, 70);
    ck_assert_int_ge(bad, 13);
    ck_assert_int_ge(fits, 24);
}
END_TEST

/* Grey and RGBA, against Pillow, by their hashes. */
START_TEST(other_channels)
{
    FILE *list = fopen(path_in(cases_folder, "channels.txt"), "r");
    ck_assert_ptr_nonnull(list);
    char line[256], name[128];
    int loads = 0, fits = 0;
    while (fgets(line, sizeof line, list)) {
        int channels = 0, found = 0, w = 0, h = 0, new_w = 0, new_h = 0;
        uint64_t hash = 0;
        lun_picture got = {0};
        if (sscanf(line, "load %127s %d %d %" SCNx64, name, &channels, &found, &hash) == 4) {
            const char *path = path_in(cases_folder, name);
            ck_assert_msg(lun_picture_load_as(path, 0, channels, &got) == LUN_OK, "%s", lun_error_detail());
            lun_picture as_found = {0};
            ck_assert_int_eq(lun_picture_load_as(path, 0, 0, &as_found), LUN_OK);
            ck_assert_msg(as_found.channels == found, "%s has %d channels, not %d", name, as_found.channels, found);
            lun_picture_free(&as_found);
            loads++;
        } else if (sscanf(line, "fit %127s %d %d %d %d %d %" SCNx64, name, &channels, &w, &h, &new_w, &new_h, &hash) ==
                   7) {
            lun_picture src = noise_of(channels, w, h);
            const lun_fit fit = strcmp(name, "stretch") == 0 ? LUN_FIT_STRETCH : LUN_FIT_CROP;
            ck_assert_int_eq(lun_picture_fit(&src, fit, new_w, new_h, &got), LUN_OK);
            ck_assert(got.width == new_w && got.height == new_h);
            lun_picture_free(&src);
            fits++;
        } else {
            ck_abort_msg("a line of channels.txt is not understood: %s", line);
        }
        ck_assert_int_eq(got.channels, channels);
        const size_t count = (size_t)got.width * (size_t)got.height * (size_t)channels;
        ck_assert_msg(lun_hash(LUN_HASH_START, got.pixels, count) == hash, "other pixels: %s", line);
        lun_picture_free(&got);
    }
    fclose(list);
    ck_assert_int_ge(loads, 33);
    ck_assert_int_ge(fits, 24);
    lun_picture untouched = {-1, -2, NULL, -3};
    ck_assert_int_eq(lun_picture_load_as(path_in(cases_folder, "rgb8.png"), 0, 2, &untouched), LUN_ERR_USAGE);
    ck_assert_int_eq(untouched.channels, -3);
}
END_TEST

/* LUN_FIT_COVER is LUN_FIT_CROP before the cut. */
START_TEST(cover_holds_the_crop)
{
    static const int sizes[][4] = {{40, 20, 10, 10}, {20, 40, 10, 10}, {37, 29, 12, 8}, {8, 8, 8, 8}, {5, 19, 8, 8}};
    for (size_t i = 0; i < LUN_COUNT(sizes); i++) {
        const int w = sizes[i][2], h = sizes[i][3];
        lun_picture src = noise_of(i % 2 ? 4 : 3, sizes[i][0], sizes[i][1]), cover, crop, cut;
        ck_assert_int_eq(lun_picture_fit(&src, LUN_FIT_COVER, w, h, &cover), LUN_OK);
        ck_assert_int_eq(lun_picture_fit(&src, LUN_FIT_CROP, w, h, &crop), LUN_OK);
        ck_assert(cover.width == w || cover.height == h);
        ck_assert_int_eq(
            lun_picture_crop(&cover, lun_picture_half(cover.width - w), lun_picture_half(cover.height - h), w, h, &cut),
            LUN_OK);
        ck_assert_mem_eq(cut.pixels, crop.pixels, (size_t)w * (size_t)h * (size_t)crop.channels);
        lun_picture_free(&src);
        lun_picture_free(&cover);
        lun_picture_free(&crop);
        lun_picture_free(&cut);
    }
    /* No longer than four windows. */
    lun_picture src = noise(3, 1000), cover;
    ck_assert_int_eq(lun_picture_fit(&src, LUN_FIT_COVER, 9, 7, &cover), LUN_OK);
    ck_assert(cover.width == 9 && cover.height == 28);
    lun_picture_free(&cover);
    lun_picture_free(&src);
}
END_TEST

/* Decode from memory, as if it were a file. */
static lun_status decode_bytes(const char *name, uint8_t *data, size_t count, lun_picture *out)
{
    lun_decode decode = {.orient = 1, .channels = 3, .file_bytes = count};
    FILE *file = fmemopen(data, count, "rb");
    ck_assert_ptr_nonnull(file);
    const lun_status status = is_jpeg(name) ? lun_jpeg_decode(file, &decode, out) : lun_png_decode(file, &decode, out);
    fclose(file);
    return status;
}

/* No prefix of a picture is a picture. */
START_TEST(prefixes_are_refused)
{
    static const char *const names[] = {"rgb8.png",     "palette8-trns-i.png",  "grey16.png",
                                        "one.png",      "jpeg-grey.jpg",        "jpeg-420.jpg",
                                        "orient-6.jpg", "jpeg-progressive.jpg", "jpeg-cmyk-plain.jpg"};
    for (size_t n = 0; n < LUN_COUNT(names); n++) {
        bytes whole = slurp(path_in(cases_folder, names[n]));
        lun_picture out = {0};
        for (size_t count = 1; count < whole.count; count++)
            ck_assert_msg(decode_bytes(names[n], whole.data, count, &out) == LUN_ERR_DATA,
                          "%zu bytes of %s are a picture", count, names[n]);
        ck_assert_ptr_null(out.pixels);
        ck_assert_int_eq(decode_bytes(names[n], whole.data, whole.count, &out),
                         is_jpeg(names[n]) && !have_jpeg ? LUN_ERR_DATA : LUN_OK);
        lun_picture_free(&out);
        free(whole.data);
    }
}
END_TEST

/* Any bit flipped: a picture or a reason, never a crash, and never memory for what is not there. */
START_TEST(flipped_bits_do_no_harm)
{
    static const char *const names[] = {"rgba8.png", "palette8-trns-i.png", "jpeg-grey.jpg", "jpeg-progressive.jpg",
                                        "orient-6.jpg"};
    for (size_t n = 0; n < LUN_COUNT(names); n++) {
        bytes b = slurp(path_in(cases_folder, names[n]));
        /* The last four bytes of a PNG are the checksum of its empty end, which libpng 1.6.48 no longer looks at. */
        const size_t counted = is_jpeg(names[n]) ? b.count * 8 : (b.count - 4) * 8;
        size_t refused = 0;
        for (size_t bit = 0; bit < b.count * 8; bit++) {
            lun_picture out = {0};
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            const lun_status status = decode_bytes(names[n], b.data, b.count, &out);
            b.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
            ck_assert_msg(status == LUN_OK || status == LUN_ERR_DATA, "bit %zu of %s: %s", bit, names[n],
                          lun_error_detail());
            refused += status != LUN_OK && bit < counted;
            lun_picture_free(&out);
        }
        /* A PNG has checksums. Only the name of its tRNS chunk can change unseen: into an unknown one to be ignored. */
        const size_t unseen = strstr(names[n], "trns") ? 32 : 0;
        ck_assert_msg(is_jpeg(names[n]) || refused + unseen >= counted, "%zu of %zu flips of %s were found", refused,
                      counted, names[n]);
        ck_assert_uint_gt(refused, 0);
        free(b.data);
    }
}
END_TEST

static long peak_kib(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return usage.ru_maxrss;
}

/* Headers that promise hundreds of megabytes cost next to nothing. */
START_TEST(lies_take_no_memory)
{
    const long before = peak_kib();
    refuse(path_in(cases_folder, "bad-lie.png"), "cannot lie in");
    refuse(path_in(cases_folder, "bad-area.png"), "16384 x 4097");
    if (have_jpeg) {
        static const char *const names[] = {"jpeg-420.jpg", "jpeg-progressive.jpg"};
        static const struct {
            unsigned size;
            const char *reason;
        } lies[] = {{65500, "65500 x 65500 pixels, outside"}, {8192, "8192 x 8192 pixels cannot lie in"}};
        for (size_t n = 0; n < LUN_COUNT(names); n++) {
            bytes b = slurp(path_in(cases_folder, names[n]));
            size_t at = 2; /* walk the segments to the frame header */
            while (b.data[at + 1] != 0xc0 && b.data[at + 1] != 0xc2)
                at += 2 + (size_t)(b.data[at + 2] << 8 | b.data[at + 3]);
            for (size_t k = 0; k < LUN_COUNT(lies); k++) {
                b.data[at + 5] = b.data[at + 7] = (uint8_t)(lies[k].size >> 8);
                b.data[at + 6] = b.data[at + 8] = (uint8_t)lies[k].size;
                spill(path_in(scratch, "lie"), b.data, b.count);
                refuse(path_in(scratch, "lie"), lies[k].reason);
            }
            free(b.data);
        }
        unlink(path_in(scratch, "lie"));
    }
    ck_assert_int_lt(peak_kib() - before, 16 * 1024);
}
END_TEST

START_TEST(wrong_arguments_are_refused)
{
    lun_picture src = noise(4, 3), out = {0};
    ck_assert_int_eq(lun_picture_resize(&src, 0, 4, &out), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_resize(&src, 4, -1, &out), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_resize(&src, 16385, 1, &out), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_resize(&src, 16384, 16384, &out), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_resize(&src, 2, 2, &src), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_resize(&out, 2, 2, &src), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_crop(&src, 1, 1, 4, 2, &out), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_crop(&src, -1, 0, 1, 1, &out), LUN_ERR_USAGE);
    ck_assert_int_eq(lun_picture_crop(&src, INT32_MAX, 0, 1, 1, &out), LUN_ERR_USAGE);
    ck_assert_ptr_null(out.pixels);
    ck_assert_int_eq(lun_picture_crop(&src, 1, 1, 3, 2, &out), LUN_OK);
    ck_assert_mem_eq(out.pixels, src.pixels + (1 * 4 + 1) * 3, 9);
    ck_assert_mem_eq(out.pixels + 9, src.pixels + (2 * 4 + 1) * 3, 9);
    lun_picture_free(&out);
    lun_picture_free(&src);
    lun_picture_free(NULL);
}
END_TEST

int main(void)
{
    static char folder[512];
    const char *root = getenv("LUN_TEST_SOURCE");
    snprintf(folder, sizeof folder, "%s/pictures", root ? root : "tests/unit");
    cases_folder = folder;
    const char *temporary = getenv("TMPDIR");
    snprintf(scratch, sizeof scratch, "%.200s/lunette-pictures-XXXXXX", temporary ? temporary : "/tmp");
    if (!mkdtemp(scratch)) {
        perror(scratch);
        return EXIT_FAILURE;
    }
    Suite *suite = suite_create("pictures");
    TCase *tests = tcase_create("pictures");
    tcase_set_timeout(tests, 60);
    tcase_add_test(tests, lies_take_no_memory); /* first: it watches the peak */
    tcase_add_test(tests, listed_cases);
    tcase_add_test(tests, other_channels);
    tcase_add_test(tests, cover_holds_the_crop);
    tcase_add_test(tests, prefixes_are_refused);
    tcase_add_test(tests, flipped_bits_do_no_harm);
    tcase_add_test(tests, wrong_arguments_are_refused);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    rmdir(scratch);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
