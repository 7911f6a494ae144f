#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base.h"

static _Thread_local char detail[1024];

const char *lun_status_name(lun_status status)
{
    switch (status) {
    case LUN_OK: return "ok";
    case LUN_ERR_INTERNAL: return "internal";
    case LUN_ERR_USAGE: return "usage";
    case LUN_ERR_DATA: return "data";
    case LUN_ERR_CHECKPOINT: return "checkpoint";
    case LUN_ERR_DEVICE: return "device";
    case LUN_ERR_MEMORY: return "memory";
    case LUN_ERR_STORAGE: return "storage";
    case LUN_ERR_DIVERGED: return "diverged";
    case LUN_UNSUPPORTED: return "unsupported";
    }
    return "unknown";
}

const char *lun_error_detail(void)
{
    return detail;
}

/* One line stays one line, and a file name cannot drive the terminal: control characters become '?'. */
static void tame(char *text)
{
    for (; *text; text++) {
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            *text = '?';
    }
}

lun_status lun_fail(lun_status status, const char *format, ...)
{
    /* Formatted aside first: an argument may be the old detail itself. */
    char text[sizeof detail];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    tame(text);
    memcpy(detail, text, sizeof text);
    return status;
}

static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static lun_log_fn *log_sink;
static void *log_payload;
static lun_log_level log_max;

void lun_log_set(lun_log_fn *sink, void *payload, lun_log_level max_level)
{
    pthread_mutex_lock(&log_lock);
    log_sink = sink;
    log_payload = payload;
    log_max = max_level;
    pthread_mutex_unlock(&log_lock);
}

void lun_log(lun_log_level level, const char *format, ...)
{
    pthread_mutex_lock(&log_lock);
    if (log_sink && level <= log_max) {
        char line[2048];
        va_list args;
        va_start(args, format);
        vsnprintf(line, sizeof line, format, args);
        va_end(args);
        tame(line);
        log_sink(log_payload, level, line);
    }
    pthread_mutex_unlock(&log_lock);
}

const char *lun_version(void)
{
    return LUN_VERSION;
}
