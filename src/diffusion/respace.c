/* Fewer steps: parts of a schedule.
 *
 * Nichol and Dhariwal, "Improved denoising diffusion probabilistic models", 2021, and respace.py of their code, whose
 * lists these are to the last entry: positions are sums, not products, and halves round to even. */
#include "schedule.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

lun_status lun_schedule_keep(const lun_schedule *full, const int *kept, int count, lun_schedule *out)
{
    if (count < 1 || count > full->steps)
        return lun_fail(LUN_ERR_USAGE, "%d sampling steps; this schedule has 1 to %d", count, full->steps);
    for (int i = 0; i < count; i++)
        if (kept[i] < 0 || kept[i] >= full->steps || (i > 0 && kept[i] <= kept[i - 1]))
            return lun_fail(LUN_ERR_USAGE, "step %d of the list is %d; they must rise and lie in 0 to %d", i, kept[i],
                            full->steps - 1);
    lun_schedule s;
    LUN_TRY(lun_schedule_allocate(count, &s));
    double before = 1;
    for (int i = 0; i < count; i++) {
        s.timestep[i] = full->timestep[kept[i]];
        s.beta[i] = 1 - full->abar[kept[i]] / before;
        before = full->abar[kept[i]];
    }
    lun_schedule_derive(&s);
    *out = s;
    return LUN_OK;
}

/* `count` of the `size` steps from `first`, both ends included where there are two. */
static void keep_section(int first, int size, int count, int *kept)
{
    const double stride = count > 1 ? (double)(size - 1) / (count - 1) : 1;
    double position = 0;
    for (int i = 0; i < count; i++) {
        /* nearbyint rounds half to even: the rounding mode of every C program that does not change it. */
        kept[i] = first + (int)lun_min_i64((int64_t)nearbyint(position), size - 1);
        position += stride;
    }
}

lun_status lun_schedule_respace(const lun_schedule *full, int count, lun_schedule *out)
{
    if (count < 1 || count > full->steps)
        return lun_fail(LUN_ERR_USAGE, "%d sampling steps; this schedule has 1 to %d", count, full->steps);
    int *kept = lun_malloc((size_t)count, sizeof *kept, "a list of steps");
    if (!kept)
        return LUN_ERR_MEMORY;
    keep_section(0, full->steps, count, kept);
    const lun_status status = lun_schedule_keep(full, kept, count, out);
    free(kept);
    return status;
}

static lun_status bad_text(const char *text)
{
    return lun_fail(LUN_ERR_USAGE, "steps '%s': must be a number, numbers separated by commas, ddimN or linspaceN",
                    text);
}

/* A whole number of digits alone, at most a million, up to a comma or the end; *end behind it. */
static bool parse_count(const char *text, const char **end, int *out)
{
    int64_t value = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9' && value <= 1000000; p++)
        value = 10 * value + (*p - '0');
    *end = p;
    *out = (int)value;
    return p > text && (*p == 0 || *p == ',') && value <= 1000000;
}

static bool is_list(const char *text)
{
    int value = 0;
    for (;; text++) {
        if (!parse_count(text, &text, &value))
            return false;
        if (!*text)
            return true;
    }
}

static lun_status keep_sections(const lun_schedule *full, const char *text, int *kept, int *count)
{
    int sections = 1, start = 0;
    for (const char *p = text; *p; p++)
        sections += *p == ',';
    *count = 0;
    for (int i = 0; i < sections; i++) {
        const int size = full->steps / sections + (i < full->steps % sections);
        int wanted = 0;
        parse_count(text, &text, &wanted);
        text += *text == ',';
        if (wanted > size)
            return lun_fail(LUN_ERR_USAGE, "section %d of the steps has %d of them, fewer than %d", i + 1, size,
                            wanted);
        keep_section(start, size, wanted, kept + *count);
        start += size;
        *count += wanted;
    }
    return LUN_OK;
}

static lun_status keep_ddim(const lun_schedule *full, int wanted, int *kept)
{
    for (int stride = 1; stride <= full->steps && wanted > 0; stride++) {
        if ((full->steps - 1) / stride + 1 != wanted)
            continue;
        for (int i = 0; i < wanted; i++)
            kept[i] = i * stride;
        return LUN_OK;
    }
    return lun_fail(LUN_ERR_USAGE, "no whole stride keeps %d of %d steps", wanted, full->steps);
}

static lun_status keep_linspace(const lun_schedule *full, int wanted, int *kept)
{
    if (wanted < 1 || wanted >= full->steps)
        return lun_fail(LUN_ERR_USAGE, "linspace%d: of %d steps it keeps 1 to %d", wanted, full->steps,
                        full->steps - 1);
    for (int i = 0; i < wanted; i++)
        kept[i] = (int)nearbyint((i + 1) * ((double)(full->steps - 1) / wanted));
    return LUN_OK;
}

lun_status lun_schedule_select(const lun_schedule *full, const char *text, lun_schedule *out)
{
    static const char *const prefixes[] = {"ddim", "linspace"};
    const char *end = NULL;
    int *kept = lun_malloc((size_t)full->steps, sizeof *kept, "a list of steps"), count = 0;
    if (!kept)
        return LUN_ERR_MEMORY;
    lun_status status;
    size_t which = 0;
    while (which < LUN_COUNT(prefixes) && strncmp(text, prefixes[which], strlen(prefixes[which])) != 0)
        which++;
    if (which == LUN_COUNT(prefixes))
        status = is_list(text) ? keep_sections(full, text, kept, &count) : bad_text(text);
    else if (!parse_count(text + strlen(prefixes[which]), &end, &count) || *end)
        status = bad_text(text);
    else
        status = which == 0 ? keep_ddim(full, count, kept) : keep_linspace(full, count, kept);
    if (status == LUN_OK)
        status = lun_schedule_keep(full, kept, count, out);
    free(kept);
    return status;
}
