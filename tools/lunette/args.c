#include "args.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"

int report(lun_status status)
{
    fflush(stdout);
    fprintf(stderr, "lunette: error: %s\n", *lun_error_detail() ? lun_error_detail() : lun_status_name(status));
    return status == LUN_UNSUPPORTED ? LUN_ERR_DEVICE : (int)status;
}

/* ---- Values
 * ------------------------------------------------------------------------------------------------------------- */

/* Digits only, with a leading '-' where the range allows it: no spaces, '+', exponents or rest. */
static bool parse_integer(const char *text, bool negative_allowed, int64_t *out)
{
    const char *p = text;
    if (*p == '-' && negative_allowed)
        p++;
    if (*p < '0' || *p > '9')
        return false;
    for (const char *q = p; *q; q++) {
        if (*q < '0' || *q > '9')
            return false;
    }
    errno = 0;
    *out = strtoll(text, NULL, 10);
    return errno == 0;
}

static bool parse_u64(const char *text, uint64_t *out)
{
    for (const char *q = text; *q; q++) {
        if (*q < '0' || *q > '9')
            return false;
    }
    errno = 0;
    *out = strtoull(text, NULL, 10);
    return *text && errno == 0;
}

/* A decimal number; the locale is never set, so the point is a point. */
static bool parse_number(const char *text, double *out)
{
    if (!*text || text[strspn(text, "0123456789.eE+-")])
        return false;
    char *end = NULL;
    *out = strtod(text, &end);
    return end != text && *end == 0 && isfinite(*out) && text[0] != '+';
}

static lun_status wrong(const arg_option *option, const char *text, const char *want)
{
    return lun_fail(LUN_ERR_USAGE, "%s %s: must be %s", option->name, text, want);
}

static lun_status wrong_range(const arg_option *option, const char *text, const char *kind)
{
    if (option->max > 0)
        return lun_fail(LUN_ERR_USAGE, "%s %s: must be %s from %.15g to %.15g", option->name, text, kind, option->min,
                        option->max);
    return lun_fail(LUN_ERR_USAGE, "%s %s: must be %s of at least %.15g", option->name, text, kind, option->min);
}

static lun_status parse_ints(const arg_option *option, const char *text)
{
    int values[32], count = 0;
    const char *p = text;
    for (;;) {
        char part[16];
        const size_t length = strcspn(p, ",");
        int64_t value = 0;
        if (length == 0 || length >= sizeof part || count == (int)option->max)
            return lun_fail(LUN_ERR_USAGE, "%s %s: must be at most %d whole numbers separated by commas", option->name,
                            text, (int)option->max);
        memcpy(part, p, length);
        part[length] = 0;
        if (!parse_integer(part, false, &value) || value < (int64_t)option->min || value > INT32_MAX)
            return lun_fail(LUN_ERR_USAGE, "%s %s: '%s' is not a whole number of at least %d", option->name, text, part,
                            (int)option->min);
        values[count++] = (int)value;
        if (!p[length])
            break;
        p += length + 1;
    }
    memcpy(option->value, values, sizeof(int) * (size_t)count);
    *option->count = count;
    return LUN_OK;
}

static lun_status parse_doubles(const arg_option *option, const char *text)
{
    double values[8];
    int count = 0;
    const char *p = text;
    for (;;) {
        char part[40];
        const size_t length = strcspn(p, ",");
        double value = 0;
        if (length == 0 || length >= sizeof part || count == (int)option->max || count == (int)LUN_COUNT(values))
            return lun_fail(LUN_ERR_USAGE, "%s %s: must be at most %d numbers separated by commas", option->name, text,
                            (int)option->max);
        memcpy(part, p, length);
        part[length] = 0;
        if (!parse_number(part, &value) || value < option->min)
            return lun_fail(LUN_ERR_USAGE, "%s %s: '%s' is not a number of at least %.15g", option->name, text, part,
                            option->min);
        values[count++] = value;
        if (!p[length])
            break;
        p += length + 1;
    }
    memcpy(option->value, values, sizeof(double) * (size_t)count);
    *option->count = count;
    return LUN_OK;
}

static lun_status parse_size(const arg_option *option, const char *text)
{
    char part[2][16];
    const char *cross = strchr(text, 'x');
    const size_t first = cross ? (size_t)(cross - text) : strlen(text);
    int64_t side[2];
    snprintf(part[0], sizeof part[0], "%.*s", (int)(first < 15 ? first : 15), text);
    snprintf(part[1], sizeof part[1], "%s", cross ? cross + 1 : part[0]);
    for (int i = 0; i < 2; i++) {
        if (!parse_integer(part[i], false, &side[i]) || (double)side[i] < option->min || (double)side[i] > option->max)
            return wrong_range(option, text, "a whole number, or two as WxH,");
    }
    ((int *)option->value)[0] = (int)side[0];
    ((int *)option->value)[1] = (int)side[1];
    return LUN_OK;
}

static lun_status parse_choice(const arg_option *option, const char *text)
{
    char list[256] = "";
    for (int i = 0; option->choices[i]; i++) {
        if (strcmp(option->choices[i], text) == 0) {
            *(int *)option->value = i;
            return LUN_OK;
        }
        snprintf(list + strlen(list), sizeof list - strlen(list), "%s%s", i ? ", " : "", option->choices[i]);
    }
    return lun_fail(LUN_ERR_USAGE, "%s %s: must be one of %s", option->name, text, list);
}

static lun_status set_value(const arg_option *option, const char *text)
{
    int64_t integer = 0;
    uint64_t big = 0;
    double number = 0;
    switch (option->type) {
    case ARG_FLAG: break;
    case ARG_INT:
        if (!parse_integer(text, option->min < 0, &integer) || (double)integer < option->min ||
            (double)integer > option->max)
            return wrong_range(option, text, "a whole number");
        *(int *)option->value = (int)integer;
        break;
    case ARG_U64:
        if (!parse_u64(text, &big) || (double)big < option->min || (option->max > 0 && (double)big > option->max))
            return wrong_range(option, text, "a whole number");
        *(uint64_t *)option->value = big;
        break;
    case ARG_FLOAT:
    case ARG_DOUBLE:
        if (!parse_number(text, &number) || number < option->min || number > option->max)
            return wrong_range(option, text, "a number");
        if (option->type == ARG_FLOAT)
            *(float *)option->value = (float)number;
        else
            *(double *)option->value = number;
        break;
    case ARG_TEXT:
        if (!*text)
            return wrong(option, "''", "given");
        *(const char **)option->value = text;
        break;
    case ARG_CHOICE: return parse_choice(option, text);
    case ARG_INTS: return parse_ints(option, text);
    case ARG_U64_TWO: break; /* arg_parse */
    case ARG_DOUBLES: return parse_doubles(option, text);
    case ARG_SIZE: return parse_size(option, text);
    }
    return LUN_OK;
}

/* ---- Lines
 * -------------------------------------------------------------------------------------------------------------- */

int arg_distance(const char *a, const char *b)
{
    int row[64];
    const int length = (int)strlen(b);
    if (length > 62 || strlen(a) > 62)
        return 99;
    for (int j = 0; j <= length; j++)
        row[j] = j;
    for (int i = 1; a[i - 1]; i++) {
        int corner = row[0];
        row[0] = i;
        for (int j = 1; j <= length; j++) {
            const int change = corner + (a[i - 1] != b[j - 1]);
            corner = row[j];
            row[j] = corner + 1 < row[j - 1] + 1 ? corner + 1 : row[j - 1] + 1;
            if (change < row[j])
                row[j] = change;
        }
    }
    return row[length];
}

static lun_status unknown_option(const arg_command *command, const char *name)
{
    const char *near = NULL;
    int best = 3;
    for (const arg_option *o = command->options; o->name; o++) {
        const int d = arg_distance(name, o->name);
        if (d < best) {
            best = d;
            near = o->name;
        }
    }
    if (near)
        return lun_fail(LUN_ERR_USAGE, "unknown option %s (did you mean %s?)", name, near);
    return lun_fail(LUN_ERR_USAGE, "unknown option %s", name);
}

lun_status arg_parse(const arg_command *command, int argc, char **argv, const char **positional, int *positionals,
                     bool *help)
{
    enum { MAX_OPTIONS = 128 };
    bool seen[MAX_OPTIONS] = {false};
    bool options_ended = false;
    *positionals = 0;
    *help = false;
    for (int i = 1; i < argc; i++) {
        const char *word = argv[i];
        if (options_ended || word[0] != '-' || word[1] == 0) {
            if (*positionals == command->max_positionals)
                return lun_fail(LUN_ERR_USAGE, "unexpected argument '%s'; usage: lunette %s", word, command->usage);
            positional[(*positionals)++] = word;
            continue;
        }
        if (strcmp(word, "--") == 0) {
            options_ended = true;
            continue;
        }
        if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
            *help = true;
            return LUN_OK;
        }
        const char *equals = strchr(word, '=');
        char name[64];
        const size_t length = equals ? (size_t)(equals - word) : strlen(word);
        snprintf(name, sizeof name, "%.*s", (int)(length < sizeof name ? length : sizeof name - 1), word);
        const arg_option *option = command->options;
        while (option->name && strcmp(option->name, name) != 0)
            option++;
        if (!option->name)
            return unknown_option(command, name);
        const ptrdiff_t index = option - command->options;
        if (index < MAX_OPTIONS && seen[index])
            return lun_fail(LUN_ERR_USAGE, "%s is given twice", name);
        if (index < MAX_OPTIONS)
            seen[index] = true;
        if (option->given)
            *option->given = true;
        if (option->type == ARG_FLAG) {
            if (equals)
                return lun_fail(LUN_ERR_USAGE, "%s takes no value", name);
            *(bool *)option->value = true;
            continue;
        }
        if (option->type == ARG_U64_TWO) {
            uint64_t *two = option->value;
            if (equals || i + 2 >= argc || !parse_u64(argv[i + 1], &two[0]) || !parse_u64(argv[i + 2], &two[1]))
                return lun_fail(LUN_ERR_USAGE, "%s needs two whole numbers (%s)", name, option->meta);
            i += 2;
            continue;
        }
        if (!equals && i + 1 == argc)
            return lun_fail(LUN_ERR_USAGE, "%s needs a value (%s)", name, option->meta);
        const lun_status status = set_value(option, equals ? equals + 1 : argv[++i]);
        if (status != LUN_OK)
            return status;
    }
    if (*positionals < command->min_positionals)
        return lun_fail(LUN_ERR_USAGE, "usage: lunette %s", command->usage);
    return LUN_OK;
}

void arg_help(const arg_command *command)
{
    printf("usage: lunette %s\n\n%s\n", command->usage, command->about);
    if (command->options->name)
        printf("\noptions:\n");
    for (const arg_option *o = command->options; o->name; o++) {
        char left[64];
        snprintf(left, sizeof left, "%s%s%s", o->name, o->meta ? " " : "", o->meta ? o->meta : "");
        if (strlen(left) > 24)
            printf("  %s\n  %-24s  %s\n", left, "", o->help);
        else
            printf("  %-24s  %s\n", left, o->help);
    }
    if (command->notes)
        printf("\n%s\n", command->notes);
}

bool arg_begin(const arg_command *command, int argc, char **argv, const char **positional, int *positionals,
               int *exit_code)
{
    bool help = false;
    const lun_status status = arg_parse(command, argc, argv, positional, positionals, &help);
    if (status != LUN_OK) {
        *exit_code = report(status);
        return true;
    }
    if (help) {
        arg_help(command);
        *exit_code = fflush(stdout) == 0 && !ferror(stdout) ? 0 : LUN_ERR_STORAGE;
        return true;
    }
    return false;
}
