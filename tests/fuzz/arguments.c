/* Any bytes as a command line: words end with a zero byte. Options of every type; a value that is taken must lie in its
 * range. */
#include "fuzz.h"
#include "lunette/args.h"

#define WORDS 32

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const choices[] = {"off", "known", "auto", NULL};
    char *text = malloc(size + 1), *argv[WORDS + 2] = {"command"};
    FUZZ_CHECK(text);
    if (size)
        memcpy(text, data, size);
    text[size] = 0;
    int argc = 1;
    for (size_t at = 0; at < size && argc <= WORDS; at += strlen(text + at) + 1)
        argv[argc++] = text + at;

    bool flag = false, given = false, help = false;
    int number = 5, choice = 0, list[4] = {0}, count = 0, positionals = 0;
    uint64_t big = 7;
    float single = 1;
    double real = 2;
    const char *word = NULL, *positional[2];
    const arg_option options[] = {
        {.name = "--flag", .type = ARG_FLAG, .value = &flag, .help = "h"},
        {.name = "--number", .type = ARG_INT, .value = &number, .min = 1, .max = 9, .meta = "N", .help = "h"},
        {.name = "--big", .type = ARG_U64, .value = &big, .meta = "N", .help = "h"},
        {.name = "--single", .type = ARG_FLOAT, .value = &single, .min = 0, .max = 1, .meta = "X", .help = "h"},
        {.name = "--real", .type = ARG_DOUBLE, .value = &real, .min = -4, .max = 1e9, .meta = "X", .help = "h"},
        {.name = "--word", .type = ARG_TEXT, .value = &word, .given = &given, .meta = "W", .help = "h"},
        {.name = "--choice", .type = ARG_CHOICE, .value = &choice, .choices = choices, .meta = "C", .help = "h"},
        {.name = "--list",
         .type = ARG_INTS,
         .value = list,
         .min = 1,
         .max = 4,
         .count = &count,
         .meta = "L",
         .help = "h"},
        {0},
    };
    const arg_command command = {
        .usage = "command", .about = "a", .options = options, .min_positionals = 0, .max_positionals = 2};
    const lun_status status = arg_parse(&command, argc, argv, positional, &positionals, &help);
    FUZZ_CHECK(status == LUN_OK || status == LUN_ERR_USAGE);
    if (status == LUN_OK) {
        FUZZ_CHECK(number >= 1 && number <= 9 && choice >= 0 && choice <= 2);
        FUZZ_CHECK(single >= 0 && single <= 1 && real >= -4 && real <= 1e9);
        FUZZ_CHECK(count >= 0 && count <= 4 && positionals >= 0 && positionals <= 2);
        FUZZ_CHECK(given == (word != NULL) && (!word || word[0]));
        for (int i = 0; i < count; i++)
            FUZZ_CHECK(list[i] >= 1);
    }
    free(text);
    return 0;
}
