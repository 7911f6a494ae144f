#include "memory.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base.h"

/* The number after `key` at the start of a line ("" : the first number of the file); false where there is none, as for
 * the "max" of a group without a limit. */
static bool read_number(const char *path, const char *key, uint64_t *out)
{
    char line[512];
    bool found = false;
    FILE *file = fopen(path, "re");
    while (file && !found && fgets(line, sizeof line, file)) {
        const size_t length = strlen(key);
        if (strncmp(line, key, length) == 0)
            found = sscanf(line + length, "%" SCNu64, out) == 1;
    }
    if (file)
        fclose(file);
    return found;
}

/* The two generations of control groups call the same things by other names. */
typedef struct group_files {
    const char *folder, *limit, *usage, *cached;
} group_files;

static const group_files unified = {"", "memory.max", "memory.current", "inactive_file "};
static const group_files separate = {"/memory", "memory.limit_in_bytes", "memory.usage_in_bytes",
                                     "total_inactive_file "};

/* What one group leaves; UINT64_MAX where it says nothing. */
static uint64_t left_in(const char *folder, const group_files *files)
{
    char path[1200];
    uint64_t limit = 0, usage = 0, cached = 0;
    snprintf(path, sizeof path, "%s/%s", folder, files->limit);
    if (!read_number(path, "", &limit))
        return UINT64_MAX;
    snprintf(path, sizeof path, "%s/%s", folder, files->usage);
    if (!read_number(path, "", &usage))
        return UINT64_MAX;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (read_number(path, files->cached, &cached))
        usage -= cached < usage ? cached : usage;
    return limit > usage ? limit - usage : 0;
}

/* A group and all above it. In a container the path may be one of the host's, of which only the root is to be seen. */
static uint64_t left_in_groups(const char *groups, const group_files *files, const char *path)
{
    char folder[1000];
    uint64_t least = UINT64_MAX;
    const int root = snprintf(folder, sizeof folder, "%s%s", groups, files->folder);
    const int end = snprintf(folder, sizeof folder, "%s%s%s", groups, files->folder, path);
    if (root < 0 || end < 0 || (size_t)end >= sizeof folder)
        return least;
    for (char *cut = folder + end; cut; cut = strrchr(folder + root, '/')) {
        *cut = 0;
        const uint64_t left = left_in(folder, files);
        least = left < least ? left : least;
    }
    return least;
}

/* Does the list "cpu,memory" name the memory? */
static bool names_memory(const char *list, size_t length)
{
    while (length > 0) {
        const char *comma = memchr(list, ',', length);
        const size_t word = comma ? (size_t)(comma - list) : length;
        if (word == 6 && memcmp(list, "memory", 6) == 0)
            return true;
        list += comma ? word + 1 : word;
        length -= comma ? word + 1 : word;
    }
    return false;
}

uint64_t lun_memory_available_in(const char *proc, const char *groups)
{
    char path[1200], line[1200];
    uint64_t available = 0;
    snprintf(path, sizeof path, "%s/meminfo", proc);
    if (!read_number(path, "MemAvailable:", &available) || available > UINT64_MAX / 1024)
        return 0;
    available *= 1024;
    snprintf(path, sizeof path, "%s/self/cgroup", proc);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        const char *kinds = strchr(line, ':'), *group = kinds ? strchr(kinds + 1, ':') : NULL;
        if (!group)
            continue;
        const size_t length = (size_t)(group - kinds - 1);
        uint64_t left = UINT64_MAX;
        if (length == 0)
            left = left_in_groups(groups, &unified, group + 1);
        else if (names_memory(kinds + 1, length))
            left = left_in_groups(groups, &separate, group + 1);
        available = left < available ? left : available;
    }
    if (file)
        fclose(file);
    return available;
}

uint64_t lun_memory_available(void)
{
    return lun_memory_available_in("/proc", "/sys/fs/cgroup");
}
