/* Are the machine's OpenCL drivers ("ICDs") to be trusted with this process? Some crash when the loader asks them for
 * their devices or opens one, some never answer. So a child asks and opens first, and where it does not come back whole
 * each driver is asked in a child of its own; those that crash are named and left out. What has been found is
 * remembered for these drivers, so that a start costs nothing; a fault only for an hour, since a card may have been
 * asleep or another's. LUNETTE_PROBE: how many seconds they have to answer; 0: nobody is asked first. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/base.h"
#include "device/cache.h"
#include "opencl.h"

#define MAX_ICDS     64
#define ASK_SECONDS  60   /* unless LUNETTE_PROBE says */
#define HELD_SECONDS 3600 /* so long a fault is held against a driver */
#define VENDORS      "OCL_ICD_VENDORS"
#define VENDORS_PATH "/etc/OpenCL/vendors"

typedef struct icd {
    char *name;  /* "pocl.icd" */
    bool broken; /* to be left out */
} icd;

static struct {
    const char *folder;
    icd list[MAX_ICDS];
    int count;
    bool none; /* the loader itself is not to be called */
    unsigned seconds;
} icds;

static int by_name(const void *a, const void *b)
{
    return strcmp(((const icd *)a)->name, ((const icd *)b)->name);
}

/* The folder's drivers; none where the loader is told another way. */
static void list_icds(void)
{
    const char *given = getenv(VENDORS);
    icds.folder = given && given[0] ? given : VENDORS_PATH;
    DIR *folder = opendir(icds.folder);
    if (!folder)
        return;
    for (struct dirent *entry = readdir(folder); entry && icds.count < MAX_ICDS; entry = readdir(folder)) {
        const size_t length = strlen(entry->d_name);
        if (length > 4 && strcmp(entry->d_name + length - 4, ".icd") == 0 &&
            (icds.list[icds.count].name = lun_strdup(entry->d_name)))
            icds.count++;
    }
    closedir(folder);
    qsort(icds.list, (size_t)icds.count, sizeof *icds.list, by_name);
}

/* What the answer may depend on: settings of the loader, and each driver's file with size and time. */
static char *make_key(void)
{
    static const char *const settings[] = {VENDORS, "OCL_ICD_FILENAMES", "LD_LIBRARY_PATH", "LD_PRELOAD"};
    char *key = lun_format("drivers of %s, asked and opened", icds.folder);
    for (size_t i = 0; key && i < LUN_COUNT(settings); i++) {
        const char *value = getenv(settings[i]);
        char *longer = lun_format("%s\n%s=%s", key, settings[i], value ? value : "");
        free(key);
        key = longer;
    }
    for (int i = 0; key && i < icds.count; i++) {
        struct stat st = {0};
        char *path = lun_format("%s/%s", icds.folder, icds.list[i].name);
        if (path)
            (void)stat(path, &st);
        char *longer = lun_format("%s\n%s %lld %lld.%09ld", key, icds.list[i].name, (long long)st.st_size,
                                  (long long)st.st_mtim.tv_sec, (long)st.st_mtim.tv_nsec);
        free(path);
        free(key);
        key = longer;
    }
    return key;
}

/* As open.c does: some drivers touch the card here first. */
static void open_and_close(cl_platform_id platform, cl_device_id id)
{
    const cl_context_properties properties[] = {CL_CONTEXT_PLATFORM, (cl_context_properties)platform, 0};
    cl_bool available = CL_FALSE;
    if (clGetDeviceInfo(id, CL_DEVICE_AVAILABLE, sizeof available, &available, NULL) != CL_SUCCESS || !available)
        return;
    cl_context context = clCreateContext(properties, 1, &id, NULL, NULL, NULL);
    if (!context)
        return;
    cl_command_queue queue = clCreateCommandQueue(context, id, 0, NULL);
    if (queue)
        (void)clReleaseCommandQueue(queue);
    (void)clReleaseContext(context);
}

static void ask(void)
{
    cl_platform_id platforms[32];
    cl_uint count = 0;
    if (clGetPlatformIDs(32, platforms, &count) != CL_SUCCESS)
        return;
    for (cl_uint p = 0; p < count && p < 32; p++) {
        cl_device_id ids[64];
        cl_uint found = 0;
        char name[256];
        if (clGetDeviceIDs(platforms[p], CL_DEVICE_TYPE_ALL, 64, ids, &found) != CL_SUCCESS)
            continue;
        for (cl_uint d = 0; d < found && d < 64; d++) {
            (void)clGetDeviceInfo(ids[d], CL_DEVICE_NAME, sizeof name, name, NULL);
            open_and_close(platforms[p], ids[d]);
        }
    }
}

/* In a child, with that folder of drivers (NULL: as it is). "": it came back; else what became of it. */
static const char *ask_in_child(const char *folder, char text[64])
{
    text[0] = 0;
    const pid_t child = fork();
    if (child == 0) {
        const struct rlimit no_core = {0, 0};
        const int null = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)setrlimit(RLIMIT_CORE, &no_core);
        if (null >= 0) {
            (void)dup2(null, STDOUT_FILENO);
            (void)dup2(null, STDERR_FILENO);
        }
        if (folder)
            (void)setenv(VENDORS, folder, 1);
        (void)signal(SIGALRM, SIG_DFL);
        (void)alarm(icds.seconds);
        ask();
        _exit(0);
    }
    int state = 0;
    if (child < 0) /* no child can be had: as without asking */
        return text;
    while (waitpid(child, &state, 0) < 0)
        if (errno != EINTR)
            return text;
    if (WIFSIGNALED(state) && WTERMSIG(state) == SIGALRM)
        snprintf(text, 64, "does not answer within %u seconds", icds.seconds);
    else if (WIFSIGNALED(state))
        snprintf(text, 64, "crashes (signal %d)", WTERMSIG(state));
    else if (WIFEXITED(state) && WEXITSTATUS(state) != 0)
        snprintf(text, 64, "ends the process (exit %d)", WEXITSTATUS(state));
    return text;
}

/* A folder of links to the drivers that are wanted; NULL without a place for it. See remove_folder(). */
static char *make_folder(bool (*wanted)(int index, int only), int only)
{
    const char *base = getenv("TMPDIR");
    char *folder = lun_format("%s/lunette-icds-XXXXXX", base && base[0] ? base : "/tmp");
    char *real = realpath(icds.folder, NULL);
    if (!folder || !real || !mkdtemp(folder)) {
        free(folder);
        free(real);
        return NULL;
    }
    for (int i = 0; i < icds.count; i++) {
        char *to = lun_format("%s/%s", real, icds.list[i].name), *at = lun_format("%s/%s", folder, icds.list[i].name);
        if (wanted(i, only) && to && at && symlink(to, at) != 0)
            lun_log(LUN_LOG_DEBUG, "OpenCL: no link %s", at);
        free(to);
        free(at);
    }
    free(real);
    return folder;
}

static void remove_folder(char *folder)
{
    for (int i = 0; i < icds.count; i++) {
        char *at = lun_format("%s/%s", folder, icds.list[i].name);
        if (at)
            (void)unlink(at);
        free(at);
    }
    (void)rmdir(folder);
    free(folder);
}

static bool is_only(int index, int only)
{
    return index == only;
}

static bool is_sound(int index, int only)
{
    (void)only;
    return !icds.list[index].broken;
}

/* What is remembered: nothing where all is well. Else a line with the time, in seconds, then a line "NAME: what it
 * does" for each driver that is broken; one "*: .." where none of them is by itself, but asking all is no good. */
static char *find_out(void)
{
    char text[64], *report = NULL;
    const char *together = ask_in_child(NULL, text);
    if (!together[0])
        return lun_strdup("");
    report = lun_format("%lld\n", (long long)time(NULL));
    const size_t none = report ? strlen(report) : 0;
    char *all = report ? lun_format("%s*: %s\n", report, together) : NULL;
    for (int i = 0; i < icds.count && report; i++) {
        char *folder = make_folder(is_only, i);
        const char *alone = folder ? ask_in_child(folder, text) : "";
        if (alone[0]) {
            char *longer = lun_format("%s%s: %s\n", report, icds.list[i].name, alone);
            free(report);
            report = longer;
        }
        if (folder)
            remove_folder(folder);
    }
    if (report && strlen(report) > none) {
        free(all);
        return report;
    }
    free(report);
    return all;
}

/* Of a clock that was set meanwhile nothing is believed. */
static bool still_holds(const char *report)
{
    const long long age = (long long)time(NULL) - atoll(report);
    return !report[0] || (age >= 0 && age < HELD_SECONDS);
}

static void heed(char *report)
{
    char *rest = NULL;
    for (char *line = strtok_r(report, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
        char *what = strstr(line, ": ");
        if (!what)
            continue;
        *what = 0;
        icds.none = icds.none || strcmp(line, "*") == 0;
        for (int i = 0; i < icds.count; i++)
            icds.list[i].broken = icds.list[i].broken || strcmp(icds.list[i].name, line) == 0;
        if (strcmp(line, "*") == 0)
            lun_log(LUN_LOG_WARN, "OpenCL, asked for its devices, %s: it is left out", what + 2);
        else
            lun_log(LUN_LOG_WARN, "the OpenCL driver %s/%s, asked for its devices, %s: it is left out", icds.folder,
                    line, what + 2);
    }
}

/* The loader reads its folder once, at the first call. */
static void load_sound_ones(void)
{
    int broken = 0;
    for (int i = 0; i < icds.count; i++)
        broken += icds.list[i].broken;
    if (broken == 0 || icds.none)
        return;
    char *before = getenv(VENDORS) ? lun_strdup(getenv(VENDORS)) : NULL;
    char *folder = broken < icds.count ? make_folder(is_sound, 0) : NULL;
    icds.none = !folder || setenv(VENDORS, folder, 1) != 0;
    if (!icds.none) {
        cl_uint count = 0;
        (void)clGetPlatformIDs(0, NULL, &count);
    }
    if (before)
        (void)setenv(VENDORS, before, 1);
    else
        (void)unsetenv(VENDORS);
    free(before);
    if (folder)
        remove_folder(folder);
}

static void probe(void)
{
    const char *wanted = getenv("LUNETTE_PROBE");
    if (wanted && strcmp(wanted, "0") == 0)
        return;
    const int seconds = wanted ? atoi(wanted) : 0;
    icds.seconds = seconds > 0 ? (unsigned)seconds : ASK_SECONDS;
    list_icds();
    char *key = make_key(), *report = NULL;
    size_t bytes = 0;
    if (key && (!lun_cache_load("icd", key, &report, &bytes) || !still_holds(report))) {
        free(report);
        report = find_out();
        if (report)
            lun_cache_store("icd", key, report, strlen(report));
    }
    if (report)
        heed(report);
    load_sound_ones();
    free(report);
    free(key);
    for (int i = 0; i < icds.count; i++)
        free(icds.list[i].name);
    icds.count = 0;
}

bool lun_opencl_usable(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, probe);
    return !icds.none;
}
