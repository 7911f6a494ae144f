/* lunette craters: the data set that lunette draws itself. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
#include "common.h"
#include "live.h"

/* File names have four digits, so that their order is that of the numbers. */
#define MAX_COUNT 10000

static lun_status write_one(const char *path, uint64_t seed, int index, int size)
{
    char number[24], seed_text[24];
    snprintf(number, sizeof number, "%d", index);
    snprintf(seed_text, sizeof seed_text, "%" PRIu64, seed);
    const lun_png_text texts[] = {
        {"Software", "lunette " LUN_VERSION}, {"Title", "crater field"}, {"seed", seed_text}, {"index", number}};
    lun_picture picture;
    LUN_TRY(lun_craters_draw(seed, (uint32_t)index, size, &picture));
    const lun_status status = lun_png_write(path, &picture, texts, LUN_COUNT(texts));
    lun_picture_free(&picture);
    return status;
}

/* All names are looked at before the first picture is drawn. */
static lun_status check_free(const char *folder, int count)
{
    for (int i = 0; i < count; i++) {
        char *path = lun_format("%s/crater-%04d.png", folder, i);
        if (!path)
            return LUN_ERR_MEMORY;
        const bool there = lun_file_exists(path);
        const lun_status status =
            there ? lun_fail(LUN_ERR_USAGE, "%s: exists already; choose another folder", path) : LUN_OK;
        free(path);
        LUN_TRY(status);
    }
    return LUN_OK;
}

static lun_status draw_all(const char *folder, int count, int size, uint64_t seed)
{
    LUN_TRY(check_free(folder, count));
    LUN_TRY(lun_make_dirs(folder));
    for (int i = 0; i < count; i++) {
        char *path = lun_format("%s/crater-%04d.png", folder, i);
        if (!path)
            return LUN_ERR_MEMORY;
        const lun_status status = write_one(path, seed, i, size);
        free(path);
        LUN_TRY(status);
        live_show("craters", "  %d/%d", i + 1, count);
    }
    return LUN_OK;
}

int lun_cmd_craters(int argc, char **argv)
{
    int count = 98, size = 64;
    uint64_t seed = 0;
    const arg_option options[] = {
        {.name = "--count",
         .type = ARG_INT,
         .value = &count,
         .min = 1,
         .max = MAX_COUNT,
         .meta = "N",
         .help = "pictures (98)"},
        {.name = "--size",
         .type = ARG_INT,
         .value = &size,
         .min = LUN_CRATERS_SIZE_MIN,
         .max = LUN_CRATERS_SIZE_MAX,
         .meta = "N",
         .help = "pixels a side (64)"},
        {.name = "--seed",
         .type = ARG_U64,
         .value = &seed,
         .meta = "S",
         .help = "another seed is another data set (0)"},
        {0},
    };
    const arg_command command = {
        .usage = "craters FOLDER [--count N] [--size N] [--seed S]",
        .about = "Draw a data set to try things on: FOLDER/crater-0000.png and so on, shaded fields of craters made "
                 "from a height\n"
                 "model. The same seed gives the same bytes everywhere. No file is replaced.",
        .notes = "example:\n  lunette craters craters --count 98 --size 64 --seed 1",
        .options = options,
        .min_positionals = 1,
        .max_positionals = 1,
    };
    const char *folder = NULL;
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, &folder, &positionals, &exit_code))
        return exit_code;
    if (!*folder)
        return report(lun_fail(LUN_ERR_USAGE, "FOLDER is empty"));
    const lun_status status = draw_all(folder, count, size, seed);
    live_clear();
    if (status != LUN_OK)
        return report(status);
    printf("%d pictures of %dx%d in %s\n", count, size, size, folder);
    return finish_output();
}
