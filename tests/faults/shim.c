/* Preloaded before the command under test: makes one of its calls fail, and watches what it holds.
 *
 * Only calls made by the command itself count (FAULT_FROM=own), or those that its codec libraries make for it
 * (libs: jansson, libpng, libjpeg, zlib; all: both): the caller's address decides. What libc, drivers and the loader
 * call for themselves passes through.
 *
 *   FAULT_KIND    alloc   malloc, calloc, realloc, aligned_alloc, fdopen, fdopendir: NULL, ENOMEM
 *                 thread  pthread_create, pthread_mutex_init, pthread_cond_init: EAGAIN
 *                 eio     every call on files: EIO
 *                 enospc  calls that need room: ENOSPC
 *                 eintr   calls that a signal may interrupt: EINTR
 *                 short   read, pread, write, pwrite: half of what was asked for
 *                 term    no call fails, but SIGTERM comes right before it: any of the above, and all on files
 *                 usr1    the same with SIGUSR1
 *                 hang    opening, reading and looking never return, as on a disk that does not answer
 *   FAULT_AT      the number of the call that fails, from 1; 0: none
 *   FAULT_PATH    only calls on paths with this in them count
 *   FAULT_ON      set: every one after it fails, too
 *   FAULT_CLOCK   wall    the wall clock is a day ahead or late, in turns, at each call that reads it
 *                 leap    the clock that cannot be set is 1000 s further before every 50th call, as after a sleep
 *                 fast    it goes a hundred times as fast, also for who waits for a time of it
 *   FAULT_LIBS    LOW:HIGH, hexadecimal: calls from between these addresses of the program are its libraries' (the
 *                 functions through which it gives them memory)
 *   FAULT_REPORT  where to say, at exit, how many calls there were, which failed, and what is still held
 *   FAULT_TRACE   set: of what a library holds the report names the command's own function that asked for it (slow)
 *
 * Held are memory, streams and descriptors that the calls above have given to the command or its libraries. A close
 * that "fails" closes. fsync() never reaches the disk: what it would do there is not looked at, and thousands of runs
 * have to be quick. glibc only. */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
/* The next definition of the function being wrapped. */
#define REAL(name)                                                                                                     \
    static __typeof__(&name) real;                                                                                     \
    if (!real)                                                                                                         \
    *(void **)&real = dlsym(RTLD_NEXT, #name)
#define CALLER ((uintptr_t)__builtin_return_address(0))

extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t count, size_t size);
extern void *__libc_realloc(void *old, size_t size);
extern void *__libc_memalign(size_t alignment, size_t size);
extern void __libc_free(void *p);

/* What a call is: bits, so that each kind of fault picks its own. */
enum {
    ALLOC = 1,
    THREAD = 2,
    OPEN = 4,
    CREATE = 8,
    READ = 16,
    WRITE = 32,
    SYNC = 64,
    CLOSE = 128,
    LOOK = 256,
    MOVE = 512, /* and the making of folders */
    REMOVE = 1024,
    BYTES = 2048, /* beside READ or WRITE: the system calls, which may do a part */
    ALL = 4095
};
enum { OWN = 1, LIBS = 2 };

static unsigned wanted, from = OWN;
static long fail_at;
static bool fail_on, shorten, watching, trace, clock_set, clock_leaps, clock_fast, hangs;
static int fail_errno, fail_signal;
static const char *report_path, *only_path;
static void say(const char *text);
static pid_t owner;
static atomic_long calls, clock_calls;
static char fired[512];
static atomic_flag fired_once = ATOMIC_FLAG_INIT;

/* ---- whose call it is ---- */

static struct {
    uintptr_t low, high;
    int class;
} ranges[32];
static int range_count;
static uintptr_t program_base;

static int note_object(struct dl_phdr_info *info, size_t size, void *payload)
{
    static const char *const libs[] = {"/libjansson.so", "/libpng", "/libjpeg.so", "/libz.so"};
    bool *first = payload;
    int class = *first ? OWN : 0;
    (void)size;
    if (*first)
        program_base = info->dlpi_addr;
    *first = false;
    for (size_t i = 0; i < sizeof libs / sizeof *libs && info->dlpi_name; i++)
        class |= strstr(info->dlpi_name, libs[i]) ? LIBS : 0;
    for (int i = 0; i < info->dlpi_phnum && class; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && range_count < 32) {
            ranges[range_count].low = info->dlpi_addr + p->p_vaddr;
            ranges[range_count].high = info->dlpi_addr + p->p_vaddr + p->p_memsz;
            ranges[range_count++].class = class;
        }
    }
    return 0;
}

static uintptr_t libs_low, libs_high;

static int class_of(uintptr_t caller)
{
    if (caller - program_base >= libs_low && caller - program_base < libs_high)
        return LIBS;
    for (int i = 0; i < range_count; i++)
        if (caller >= ranges[i].low && caller < ranges[i].high)
            return ranges[i].class;
    return 0;
}

/* The nearest `count` callers that belong to the command, innermost first. Returns how many there are. */
static int own_callers(uintptr_t *own, int count)
{
    void *frames[48];
    const int depth = backtrace(frames, 48);
    int found = 0;
    for (int i = 0; i < depth && found < count; i++)
        if (class_of((uintptr_t)frames[i]) == OWN)
            own[found++] = (uintptr_t)frames[i];
    return found;
}

/* ---- what is held: a hash table of addresses, open addressing ---- */

#define HELD_MAX (1u << 18)
static struct {
    uintptr_t p, caller;
    size_t bytes;
} held[HELD_MAX];
static pthread_mutex_t held_lock = PTHREAD_MUTEX_INITIALIZER;
static size_t held_count;

static size_t home_of(uintptr_t p)
{
    return (size_t)((p >> 4) * UINT64_C(0x9E3779B97F4A7C15) >> 46) & (HELD_MAX - 1);
}

static void hold(void *p, size_t bytes, uintptr_t caller)
{
    if (!p || !watching)
        return;
    if (trace && class_of(caller) != OWN)
        own_callers(&caller, 1);
    pthread_mutex_lock(&held_lock);
    if (held_count < HELD_MAX / 2) {
        size_t i = home_of((uintptr_t)p);
        while (held[i].p && held[i].p != (uintptr_t)p)
            i = (i + 1) & (HELD_MAX - 1);
        held_count += held[i].p ? 0 : 1;
        held[i].p = (uintptr_t)p;
        held[i].bytes = bytes;
        held[i].caller = caller;
    }
    pthread_mutex_unlock(&held_lock);
}

static void let_go(void *p)
{
    if (!p || !watching)
        return;
    pthread_mutex_lock(&held_lock);
    size_t i = home_of((uintptr_t)p);
    while (held[i].p && held[i].p != (uintptr_t)p)
        i = (i + 1) & (HELD_MAX - 1);
    if (held[i].p) {
        held_count--;
        /* Close the gap: whatever could not lie nearer to its home because of it moves up. */
        for (size_t j = (i + 1) & (HELD_MAX - 1); held[j].p; j = (j + 1) & (HELD_MAX - 1)) {
            const size_t home = home_of(held[j].p);
            if (((j - home) & (HELD_MAX - 1)) >= ((j - i) & (HELD_MAX - 1))) {
                held[i] = held[j];
                i = j;
            }
        }
        held[i].p = 0;
    }
    pthread_mutex_unlock(&held_lock);
}

/* ---- descriptors: the path of each that the command has opened ---- */

#define FD_MAX 1024
static char fd_path[FD_MAX][240];
static bool fd_stream[FD_MAX]; /* a stream owns it and is held in its place */

static void note_fd(int fd, int dir, const char *path)
{
    if (fd < 0 || fd >= FD_MAX)
        return;
    char folder[120] = "";
    fd_stream[fd] = false;
    if (*path != '/' && dir >= 0 && dir < FD_MAX && fd_path[dir][0])
        snprintf(folder, sizeof folder, "%.118s/", fd_path[dir]);
    snprintf(fd_path[fd], sizeof fd_path[fd], "%s%.110s", folder, path);
}

static const char *path_of(int fd)
{
    return fd >= 0 && fd < FD_MAX && fd_path[fd][0] ? fd_path[fd] : "?";
}

/* What a path means that is relative to a descriptor. */
static const char *path_in(int dir, const char *path, char full[512])
{
    if (*path == '/' || dir == AT_FDCWD)
        return path;
    snprintf(full, 512, "%s/%.200s", path_of(dir), path);
    return full;
}

/* ---- the fault ---- */

/* Does this call fail? Sets errno then. */
static bool fault(unsigned what, const char *call, const char *path, uintptr_t caller)
{
    if (!(what & wanted) || !(class_of(caller) & from) || (only_path && !strstr(path, only_path)))
        return false;
    const long n = atomic_fetch_add(&calls, 1) + 1;
    if (fail_at == 0 || (fail_on ? n < fail_at : n != fail_at))
        return false;
    if (!atomic_flag_test_and_set(&fired_once)) {
        uintptr_t own[6];
        const int count = own_callers(own, 6);
        size_t used = (size_t)snprintf(fired, sizeof fired, "%s %.200s", call, path);
        for (int i = 0; i < count; i++)
            used +=
                (size_t)snprintf(fired + used, sizeof fired - used, " @%#lx", (unsigned long)(own[i] - program_base));
        char text[sizeof fired + 16];
        snprintf(text, sizeof text, "fired %s\n", fired);
        say(text); /* the command may not live to its end */
    }
    while (hangs)
        pause(); /* handlers run, and it goes on */
    if (fail_signal) {
        const int kept = errno;
        raise(fail_signal);
        errno = kept;
        return false;
    }
    errno = fail_errno;
    return true;
}

/* The report as it stands; replaced at exit, if it comes to that. */
static void say(const char *text)
{
    const long fd = report_path ? syscall(SYS_openat, AT_FDCWD, report_path, O_WRONLY | O_CREAT | O_TRUNC, 0644) : -1;
    if (fd >= 0) {
        (void)!syscall(SYS_write, fd, text, strlen(text));
        syscall(SYS_close, fd);
    }
}

__attribute__((constructor)) static void begin(void)
{
    static const struct {
        const char *name;
        unsigned calls;
        int error, signal;
    } kinds[] = {
        {"alloc", ALLOC, ENOMEM, 0},
        {"thread", THREAD, EAGAIN, 0},
        {"eio", OPEN | CREATE | READ | WRITE | SYNC | CLOSE | LOOK | MOVE | REMOVE, EIO, 0},
        {"enospc", CREATE | WRITE | SYNC | CLOSE | MOVE, ENOSPC, 0},
        {"eintr", OPEN | CREATE | BYTES | SYNC | CLOSE, EINTR, 0},
        {"short", BYTES, 0, 0},
        {"term", ALL, 0, SIGTERM},
        {"usr1", ALL, 0, SIGUSR1},
        {"hang", OPEN | READ | LOOK, 0, 0},
    };
    const char *kind = getenv("FAULT_KIND"), *at = getenv("FAULT_AT"), *whose = getenv("FAULT_FROM");
    void *frame;
    bool first = true;
    (void)backtrace(&frame, 1); /* loads what it needs now, and not from inside a call */
    dl_iterate_phdr(note_object, &first);
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds && kind; i++) {
        if (strcmp(kind, kinds[i].name) == 0) {
            wanted = kinds[i].calls;
            fail_errno = kinds[i].error;
            fail_signal = kinds[i].signal;
        }
    }
    hangs = kind && strcmp(kind, "hang") == 0;
    only_path = getenv("FAULT_PATH");
    shorten = kind && strcmp(kind, "short") == 0;
    fail_at = at ? atol(at) : 0;
    fail_on = getenv("FAULT_ON") != NULL;
    from = !whose || strcmp(whose, "own") == 0 ? OWN : strcmp(whose, "libs") == 0 ? LIBS : OWN | LIBS;
    trace = getenv("FAULT_TRACE") != NULL;
    unsigned long low = 0, high = 0;
    if (getenv("FAULT_LIBS") && sscanf(getenv("FAULT_LIBS"), "%lx:%lx", &low, &high) == 2) {
        libs_low = low;
        libs_high = high;
    }
    const char *clock = getenv("FAULT_CLOCK");
    clock_set = clock && strcmp(clock, "wall") == 0;
    clock_leaps = clock && strcmp(clock, "leap") == 0;
    clock_fast = clock && strcmp(clock, "fast") == 0;
    report_path = getenv("FAULT_REPORT");
    owner = getpid();
    watching = true;
}

__attribute__((destructor)) static void end(void)
{
    char text[8192];
    size_t used, shown = 0;
    if (!report_path || getpid() != owner)
        return;
    watching = false;
    used = (size_t)snprintf(text, sizeof text, "calls %ld\n", atomic_load(&calls));
    if (fired[0])
        used += (size_t)snprintf(text + used, sizeof text - used, "fired %s\n", fired);
    if (clock_set || clock_leaps)
        used += (size_t)snprintf(text + used, sizeof text - used, "clock %ld\n", atomic_load(&clock_calls));
    for (size_t i = 0; i < HELD_MAX && held_count; i++) {
        if (held[i].p && shown++ < 20)
            used += (size_t)snprintf(text + used, sizeof text - used, "held %#lx %zu\n",
                                     (unsigned long)(held[i].caller - program_base), held[i].bytes);
    }
    used += (size_t)snprintf(text + used, sizeof text - used, "blocks %zu\n", held_count);
    for (int fd = 3, count = 0; fd < FD_MAX && count < 10; fd++) {
        if (fd_path[fd][0] && !fd_stream[fd] && ++count)
            used += (size_t)snprintf(text + used, sizeof text - used, "open %.230s\n", fd_path[fd]);
    }
    say(text);
}

/* ---- clocks ---- */

/* By how much a clock is wrong that the command reads. */
static time_t clock_error(clockid_t clock, uintptr_t caller)
{
    if (!class_of(caller) || !(clock == CLOCK_REALTIME ? clock_set : clock == CLOCK_MONOTONIC && clock_leaps))
        return 0;
    const long n = atomic_fetch_add(&clock_calls, 1) + 1;
    return clock_set ? n % 2 ? 86400 : -86400 : n / 50 * 1000;
}

#define FASTER 100

static int64_t ns_of(const struct timespec *t)
{
    return (int64_t)t->tv_sec * 1000000000 + t->tv_nsec;
}

static struct timespec of_ns(int64_t ns)
{
    return (struct timespec){.tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000};
}

EXPORT int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime);
    const int error = real(clock, now);
    now->tv_sec += clock_error(clock, CALLER);
    if (clock_fast && clock == CLOCK_MONOTONIC && class_of(CALLER))
        *now = of_ns(ns_of(now) * FASTER); /* good for years of running */
    return error;
}

/* What waits until a time of the fast clock. The plain name may find a version of it from before there were others. */
EXPORT int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    if (!real)
        *(void **)&real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real)
        *(void **)&real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    if (!clock_fast || !class_of(CALLER))
        return real(condition, mutex, until);
    const struct timespec at = of_ns(ns_of(until) / FASTER);
    return real(condition, mutex, &at);
}

EXPORT int gettimeofday(struct timeval *now, void *zone)
{
    REAL(gettimeofday);
    const int error = real(now, zone);
    now->tv_sec += clock_error(CLOCK_REALTIME, CALLER);
    return error;
}

EXPORT time_t time(time_t *now)
{
    REAL(time);
    const time_t t = real(NULL) + clock_error(CLOCK_REALTIME, CALLER);
    if (now)
        *now = t;
    return t;
}

/* ---- memory ---- */

EXPORT void *malloc(size_t size)
{
    if (fault(ALLOC, "malloc", "", CALLER))
        return NULL;
    void *p = __libc_malloc(size);
    if (class_of(CALLER))
        hold(p, size, CALLER);
    return p;
}

EXPORT void *calloc(size_t count, size_t size)
{
    if (fault(ALLOC, "calloc", "", CALLER))
        return NULL;
    void *p = __libc_calloc(count, size);
    if (class_of(CALLER))
        hold(p, count * size, CALLER);
    return p;
}

EXPORT void *realloc(void *old, size_t size)
{
    if (fault(ALLOC, "realloc", "", CALLER))
        return NULL;
    let_go(old); /* before another thread can be given the address */
    void *p = __libc_realloc(old, size);
    if (!p && size > 0)
        hold(old, 0, CALLER);
    else if (class_of(CALLER))
        hold(p, size, CALLER);
    return p;
}

EXPORT void *aligned_alloc(size_t alignment, size_t size)
{
    if (fault(ALLOC, "aligned_alloc", "", CALLER))
        return NULL;
    void *p = __libc_memalign(alignment, size);
    if (class_of(CALLER))
        hold(p, size, CALLER);
    return p;
}

EXPORT void free(void *p)
{
    let_go(p);
    __libc_free(p);
}

/* ---- threads ---- */

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *), void *payload)
{
    REAL(pthread_create);
    return fault(THREAD, "pthread_create", "", CALLER) ? EAGAIN : real(thread, attributes, run, payload);
}

EXPORT int pthread_mutex_init(pthread_mutex_t *mutex, const pthread_mutexattr_t *attributes)
{
    REAL(pthread_mutex_init);
    return fault(THREAD, "pthread_mutex_init", "", CALLER) ? EAGAIN : real(mutex, attributes);
}

EXPORT int pthread_cond_init(pthread_cond_t *condition, const pthread_condattr_t *attributes)
{
    REAL(pthread_cond_init);
    return fault(THREAD, "pthread_cond_init", "", CALLER) ? EAGAIN : real(condition, attributes);
}

/* ---- descriptors ---- */

static unsigned opens(int flags)
{
    return flags & (O_WRONLY | O_RDWR | O_CREAT) ? CREATE : OPEN;
}

EXPORT int open64(const char *path, int flags, ...)
{
    REAL(open64);
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if (fault(opens(flags), "open", path, CALLER))
        return -1;
    const int fd = real(path, flags, mode);
    if (class_of(CALLER))
        note_fd(fd, -1, path);
    return fd;
}

EXPORT int openat64(int dir, const char *path, int flags, ...)
{
    REAL(openat64);
    va_list rest;
    va_start(rest, flags);
    const mode_t mode = flags & O_CREAT ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    char full[512];
    if (fault(opens(flags), "openat", path_in(dir, path, full), CALLER))
        return -1;
    const int fd = real(dir, path, flags, mode);
    if (class_of(CALLER))
        note_fd(fd, dir, path);
    return fd;
}

EXPORT int close(int fd)
{
    REAL(close);
    const bool fails = fault(CLOSE, "close", path_of(fd), CALLER);
    if (fd >= 0 && fd < FD_MAX)
        fd_path[fd][0] = 0;
    const int result = real(fd);
    if (fails)
        errno = fail_errno;
    return fails ? -1 : result;
}

/* How much of `bytes` a call may move: all, or half where it is the one to be cut short. */
#define MOVES(what, call, invocation)                                                                                  \
    if (fault(what, #call, path_of(fd), CALLER)) {                                                                     \
        if (!shorten)                                                                                                  \
            return -1;                                                                                                 \
        bytes = bytes > 1 ? bytes / 2 : bytes;                                                                         \
    }                                                                                                                  \
    return invocation

EXPORT ssize_t read(int fd, void *data, size_t bytes)
{
    REAL(read);
    MOVES(READ | BYTES, read, real(fd, data, bytes));
}

EXPORT ssize_t pread64(int fd, void *data, size_t bytes, off64_t offset)
{
    REAL(pread64);
    MOVES(READ | BYTES, pread, real(fd, data, bytes, offset));
}

EXPORT ssize_t write(int fd, const void *data, size_t bytes)
{
    REAL(write);
    MOVES(WRITE | BYTES, write, real(fd, data, bytes));
}

EXPORT ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t offset)
{
    REAL(pwrite64);
    MOVES(WRITE | BYTES, pwrite, real(fd, data, bytes, offset));
}

EXPORT int fsync(int fd)
{
    return fault(SYNC, "fsync", path_of(fd), CALLER) ? -1 : 0;
}

/* A call that does all or nothing. */
#define WHOLE(what, name, shown, path, type, bad, parameters, arguments)                                               \
    EXPORT type name parameters                                                                                        \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        return fault(what, shown, path, CALLER) ? bad : real arguments;                                                \
    }

WHOLE(WRITE, ftruncate64, "ftruncate", path_of(fd), int, -1, (int fd, off64_t size), (fd, size))
WHOLE(LOOK, fstat64, "fstat", path_of(fd), int, -1, (int fd, struct stat64 *st), (fd, st))
WHOLE(LOOK, stat64, "stat", path, int, -1, (const char *path, struct stat64 *st), (path, st))
WHOLE(LOOK, lstat64, "lstat", path, int, -1, (const char *path, struct stat64 *st), (path, st))
WHOLE(LOOK, fstatat64, "fstatat", path_in(dir, path, (char[512]){0}), int, -1,
      (int dir, const char *path, struct stat64 *st, int flags), (dir, path, st, flags))
WHOLE(LOOK, statvfs64, "statvfs", path, int, -1, (const char *path, struct statvfs64 *st), (path, st))
WHOLE(LOOK, faccessat, "faccessat", path_in(dir, path, (char[512]){0}), int, -1,
      (int dir, const char *path, int mode, int flags), (dir, path, mode, flags))
WHOLE(LOOK, flock, "flock", path_of(fd), int, -1, (int fd, int operation), (fd, operation))
WHOLE(WRITE, fchmod, "fchmod", path_of(fd), int, -1, (int fd, mode_t mode), (fd, mode))
WHOLE(MOVE, mkdir, "mkdir", path, int, -1, (const char *path, mode_t mode), (path, mode))
WHOLE(MOVE, mkdirat, "mkdirat", path_in(dir, path, (char[512]){0}), int, -1, (int dir, const char *path, mode_t mode),
      (dir, path, mode))
WHOLE(MOVE, rename, "rename", new_path, int, -1, (const char *old_path, const char *new_path), (old_path, new_path))
WHOLE(MOVE, renameat, "renameat", path_in(new_dir, new_path, (char[512]){0}), int, -1,
      (int old_dir, const char *old_path, int new_dir, const char *new_path), (old_dir, old_path, new_dir, new_path))
WHOLE(REMOVE, unlink, "unlink", path, int, -1, (const char *path), (path))
WHOLE(REMOVE, unlinkat, "unlinkat", path_in(dir, path, (char[512]){0}), int, -1, (int dir, const char *path, int flags),
      (dir, path, flags))
WHOLE(REMOVE, rmdir, "rmdir", path, int, -1, (const char *path), (path))

/* ---- streams ---- */

EXPORT FILE *fopen64(const char *path, const char *mode)
{
    REAL(fopen64);
    if (fault(*mode == 'r' ? OPEN : CREATE, "fopen", path, CALLER))
        return NULL;
    FILE *stream = real(path, mode);
    if (stream && class_of(CALLER)) {
        note_fd(fileno(stream), -1, path);
        fd_stream[fileno(stream)] = true;
    }
    if (class_of(CALLER))
        hold(stream, sizeof(FILE), CALLER);
    return stream;
}

EXPORT FILE *fdopen(int fd, const char *mode)
{
    REAL(fdopen);
    if (fault(ALLOC, "fdopen", path_of(fd), CALLER))
        return NULL;
    FILE *stream = real(fd, mode);
    if (class_of(CALLER))
        hold(stream, sizeof(FILE), CALLER);
    return stream;
}

EXPORT int fclose(FILE *stream)
{
    REAL(fclose);
    const int fd = fileno(stream);
    const bool fails = fault(CLOSE, "fclose", path_of(fd), CALLER);
    if (fd >= 0 && fd < FD_MAX)
        fd_path[fd][0] = 0;
    const int result = real(stream); /* its memory is freed, and so let go */
    if (fails)
        errno = fail_errno;
    return fails ? EOF : result;
}

/* glibc's mark of a stream that has failed, which ferror() reads. */
static void mark_failed(FILE *stream)
{
    stream->_flags |= 0x20;
}

EXPORT size_t fread(void *data, size_t size, size_t count, FILE *stream)
{
    REAL(fread);
    if (fault(READ, "fread", path_of(fileno(stream)), CALLER)) {
        mark_failed(stream);
        return 0;
    }
    return real(data, size, count, stream);
}

EXPORT char *fgets(char *text, int size, FILE *stream)
{
    REAL(fgets);
    if (fault(READ, "fgets", path_of(fileno(stream)), CALLER)) {
        mark_failed(stream);
        return NULL;
    }
    return real(text, size, stream);
}

WHOLE(LOOK, fseek, "fseek", path_of(fileno(stream)), int, -1, (FILE * stream, long offset, int whence),
      (stream, offset, whence))

/* ---- folders ---- */

EXPORT DIR *opendir(const char *path)
{
    REAL(opendir);
    if (fault(OPEN, "opendir", path, CALLER))
        return NULL;
    DIR *stream = real(path);
    if (class_of(CALLER))
        hold(stream, 0, CALLER);
    return stream;
}

EXPORT DIR *fdopendir(int fd)
{
    REAL(fdopendir);
    if (fault(ALLOC, "fdopendir", path_of(fd), CALLER))
        return NULL;
    DIR *stream = real(fd);
    if (stream && fd >= 0 && fd < FD_MAX)
        fd_stream[fd] = true;
    if (class_of(CALLER))
        hold(stream, 0, CALLER);
    return stream;
}

EXPORT int closedir(DIR *stream)
{
    REAL(closedir);
    const int fd = dirfd(stream);
    if (fd >= 0 && fd < FD_MAX)
        fd_path[fd][0] = 0;
    return real(stream);
}

WHOLE(READ, readdir64, "readdir", path_of(dirfd(stream)), struct dirent64 *, NULL, (DIR * stream), (stream))
WHOLE(OPEN, scandir64, "scandir", path, int, -1,
      (const char *path, struct dirent64 ***list, int (*filter)(const struct dirent64 *),
       int (*compare)(const struct dirent64 **, const struct dirent64 **)),
      (path, list, filter, compare))

EXPORT char *realpath(const char *path, char *resolved)
{
    REAL(realpath);
    if (fault(LOOK, "realpath", path, CALLER))
        return NULL;
    char *full = real(path, resolved);
    if (full != resolved && class_of(CALLER))
        hold(full, 0, CALLER);
    return full;
}
