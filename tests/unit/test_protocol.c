/* What a file goes through before it is there: calls to the system from this program's own objects are recorded and
 * made to fail here (the linker's --wrap). A power cut keeps what was synced before it, so the order is what is
 * promised: bytes, their sync, the name, the directory's sync, and only then does anything older go. */
#include <errno.h>
#include <fcntl.h>

#include "base/base.h"
#include "base/file.h"
#include "checkpoint/runfolder.h"
#include "scratch.h"

#define OK(expr) ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define ck_contains(part)                                                                                              \
    ck_assert_msg(strstr(lun_error_detail(), (part)) != NULL, "'%s' lacks '%s'", lun_error_detail(), part)

/* The trace: a letter a call, and what it was done to. w: write, s: sync of a file, d: of a directory, r: rename,
 * u: unlink, c: close of a file that was written to. */
enum { MOST = 4096 };
static struct {
    char what;
    char name[64];
    int fd;
} trace[MOST];
static int traced;

/* The next call of that letter fails with this errno, as often as that. -1: it writes one byte only. */
static char failing;
static int failure, times;

static void forget(void)
{
    traced = 0;
    failing = 0;
}

static void note(char what, int fd, const char *name)
{
    if (traced == MOST)
        return;
    const char *slash = strrchr(name, '/');
    trace[traced].what = what;
    trace[traced].fd = fd;
    snprintf(trace[traced++].name, sizeof trace[0].name, "%.63s", slash ? slash + 1 : name);
}

static bool fails(char what)
{
    if (failing != what || times == 0 || failure < 0)
        return false;
    times--;
    errno = failure;
    return true;
}

static void fail_next(char what, int error, int count)
{
    failing = what;
    failure = error;
    times = count;
}

#define DECLARE(type, name, parameters)                                                                                \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters

#define WRITES(name, offset_type)                                                                                      \
    DECLARE(ssize_t, name, (int fd, const void *data, size_t bytes, offset_type offset));                              \
    ssize_t __wrap_##name(int fd, const void *data, size_t bytes, offset_type offset)                                  \
    {                                                                                                                  \
        note('w', fd, "");                                                                                             \
        if (fails('w'))                                                                                                \
            return -1;                                                                                                 \
        return __real_##name(fd, data, failing == 'w' && failure < 0 && bytes > 1 ? 1 : bytes, offset);                \
    }
WRITES(pwrite, off_t)
WRITES(pwrite64, off_t)

DECLARE(int, fsync, (int fd));
int __wrap_fsync(int fd)
{
    struct stat st;
    const char what = fstat(fd, &st) == 0 && S_ISDIR(st.st_mode) ? 'd' : 's';
    note(what, fd, "");
    return fails(what) ? -1 : __real_fsync(fd);
}

DECLARE(int, renameat, (int from, const char *old, int to, const char *name));
int __wrap_renameat(int from, const char *old, int to, const char *name)
{
    note('r', from, name);
    return fails('r') ? -1 : __real_renameat(from, old, to, name);
}

DECLARE(int, unlinkat, (int dir, const char *name, int flags));
int __wrap_unlinkat(int dir, const char *name, int flags)
{
    note('u', dir, name);
    return __real_unlinkat(dir, name, flags);
}

DECLARE(int, unlink, (const char *name));
int __wrap_unlink(const char *name)
{
    note('u', -1, name);
    return __real_unlink(name);
}

DECLARE(int, close, (int fd));
int __wrap_close(int fd)
{
    bool written = false;
    for (int i = traced - 1; i >= 0 && !(trace[i].what == 'c' && trace[i].fd == fd); i--)
        written = written || (trace[i].what == 'w' && trace[i].fd == fd);
    if (!written)
        return __real_close(fd);
    note('c', fd, "");
    if (!fails('c'))
        return __real_close(fd);
    const int error = errno;
    __real_close(fd); /* gone, whatever it says */
    errno = error;
    return -1;
}

/* The trace as letters; several writes in a row are one. */
static const char *story(void)
{
    static char text[MOST + 1];
    int n = 0;
    for (int i = 0; i < traced; i++)
        if (trace[i].what != 'w' || n == 0 || text[n - 1] != 'w')
            text[n++] = trace[i].what;
    text[n] = 0;
    return text;
}

static lun_status write_file(const char *path, const char *text, size_t bytes)
{
    lun_file *file = NULL;
    LUN_TRY(lun_file_create(path, &file));
    lun_file_write(file, text, bytes);
    return lun_file_commit(file);
}

static void holds(const char *path, const char *want)
{
    char *text = get_file(path, NULL);
    ck_assert_str_eq(text, want);
    free(text);
    ck_assert_int_eq(count_entries(scratch_dir), 1);
}

START_TEST(bytes_are_synced_before_the_name)
{
    forget();
    OK(write_file(scratch("a"), "new", 3));
    ck_assert_str_eq(story(), "wscrd");
    ck_assert_int_eq(trace[0].fd, trace[1].fd); /* the file that was written is the one that was synced */
    ck_assert_str_eq(trace[3].name, "a");
    holds(scratch("a"), "new");
}
END_TEST

/* Whatever fails before the rename leaves the former file, says so, and leaves nothing else. A sync that failed is not
 * tried again: the kernel tells of lost pages once. */
START_TEST(a_failure_keeps_the_former_file)
{
    static const struct {
        char what;
        int error;
        const char *says;
    } cases[] = {{'w', ENOSPC, "cannot write"}, {'w', EDQUOT, "cannot write"}, {'w', EIO, "cannot write"},
                 {'s', EIO, "cannot sync"},     {'s', ENOSPC, "cannot sync"},  {'c', EIO, "cannot close"},
                 {'r', EXDEV, "cannot rename"}, {'r', EACCES, "cannot rename"}};
    OK(write_file(scratch("a"), "old", 3));
    for (size_t i = 0; i < LUN_COUNT(cases); i++) {
        forget();
        fail_next(cases[i].what, cases[i].error, 1);
        ck_assert_int_eq(write_file(scratch("a"), "new", 3), LUN_ERR_STORAGE);
        ck_contains(cases[i].says);
        ck_contains(strerror(cases[i].error));
        ck_contains("/a: ");
        ck_assert_int_eq(times, 0);
        int syncs = 0, removals = 0;
        for (const char *p = story(); *p; p++) {
            syncs += *p == 's';
            removals += *p == 'u';
        }
        ck_assert_int_le(syncs, 1);
        ck_assert_int_eq(removals, 1);
        forget();
        holds(scratch("a"), "old");
    }
    OK(write_file(scratch("a"), "new", 3)); /* a new file, once it is possible again */
    holds(scratch("a"), "new");
}
END_TEST

/* After the rename the file is there; that its name may not survive a power cut is still an error. */
START_TEST(a_directory_that_cannot_be_synced)
{
    OK(write_file(scratch("a"), "old", 3));
    forget();
    fail_next('d', EIO, 1);
    ck_assert_int_eq(write_file(scratch("a"), "new", 3), LUN_ERR_STORAGE);
    ck_contains("sync its directory");
    forget();
    holds(scratch("a"), "new");
    fail_next('d', EINVAL, 1); /* file systems that do not sync directories */
    OK(write_file(scratch("a"), "newer", 5));
    forget();
    holds(scratch("a"), "newer");
}
END_TEST

START_TEST(interruptions_and_short_writes_go_on)
{
    static const char calls[] = {'w', 's', 'd'};
    for (size_t i = 0; i < LUN_COUNT(calls); i++) {
        forget();
        fail_next(calls[i], EINTR, 3);
        OK(write_file(scratch("a"), "interrupted", 11));
        ck_assert_int_eq(times, 0);
        forget();
        holds(scratch("a"), "interrupted");
    }
    forget();
    fail_next('c', EINTR, 1); /* the descriptor is released: never closed twice */
    OK(write_file(scratch("a"), "closed", 6));
    forget();
    holds(scratch("a"), "closed");
    fail_next('w', -1, 0);
    OK(write_file(scratch("a"), "byte by byte", 12));
    ck_assert_int_ge(traced, 12);
    forget();
    holds(scratch("a"), "byte by byte");
}
END_TEST

static lun_status save(const lun_runfolder *run, uint64_t step, int keep)
{
    const int64_t dims[1] = {4};
    const float values[4] = {(float)step, 1, 2, 3};
    lun_safetensors_writer *weights = NULL, *optimizer = NULL;
    LUN_TRY(lun_runfolder_checkpoint_begin(run, step, &weights, &optimizer));
    lun_safetensors_writer_declare(weights, "weight", LUN_ST_F32, 1, dims);
    lun_safetensors_writer_declare(optimizer, "m.weight", LUN_ST_F32, 1, dims);
    lun_safetensors_writer_data(optimizer, values, sizeof values);
    lun_safetensors_writer_data(weights, values, sizeof values);
    return lun_runfolder_checkpoint_commit(run, step, weights, optimizer, keep);
}

/* Position in the trace of a call on a name, or -1. */
static int when(char what, const char *name)
{
    for (int i = 0; i < traced; i++)
        if (trace[i].what == what && strcmp(trace[i].name, name) == 0)
            return i;
    return -1;
}

/* A checkpoint is there with its weights; the optimiser's file is named before, each name is synced, and the older
 * checkpoint goes last. */
START_TEST(a_checkpoint_replaces_another)
{
    lun_runfolder *run = NULL;
    OK(lun_runfolder_open(scratch("run"), false, &run));
    OK(save(run, 1, 1));
    forget();
    OK(save(run, 2, 1));
    const int optimizer = when('r', "step-00000002.optimizer.safetensors"),
              weights = when('r', "step-00000002.safetensors");
    const int gone = when('u', "step-00000001.safetensors");
    ck_assert_int_ge(optimizer, 0);
    ck_assert_int_gt(weights, optimizer);
    ck_assert_int_gt(gone, weights);
    bool synced = false, named = false;
    for (int i = 0; i < gone; i++) {
        synced = synced || (trace[i].what == 'd' && i > optimizer && i < weights);
        named = named || (trace[i].what == 'd' && i > weights);
    }
    ck_assert_msg(synced && named, "%s", story());

    /* Nothing older goes where the newer one could not be written. */
    static const char calls[] = {'w', 's', 'c', 'r', 'd'};
    for (size_t i = 0; i < LUN_COUNT(calls); i++) {
        forget();
        fail_next(calls[i], EIO, 1);
        ck_assert_int_eq(save(run, 3, 1), LUN_ERR_STORAGE);
        ck_assert_int_eq(times, 0);
        ck_assert_int_eq(when('u', "step-00000002.safetensors"), -1);
        lun_checkpoint found;
        OK(lun_runfolder_newest(scratch("run"), true, &found));
        ck_assert_uint_ge(found.step, 2);
        lun_checkpoint_free(&found);
    }
    forget();
    OK(save(run, 4, 1));
    ck_assert_int_ge(when('u', "step-00000002.safetensors"), 0);
    lun_runfolder_close(run);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("protocol");
    TCase *tests = tcase_create("protocol");
    tcase_add_checked_fixture(tests, scratch_make, scratch_remove);
    tcase_add_test(tests, bytes_are_synced_before_the_name);
    tcase_add_test(tests, a_failure_keeps_the_former_file);
    tcase_add_test(tests, a_directory_that_cannot_be_synced);
    tcase_add_test(tests, interruptions_and_short_writes_go_on);
    tcase_add_test(tests, a_checkpoint_replaces_another);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
