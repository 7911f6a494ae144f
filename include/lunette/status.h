/* Status codes, the error detail, and the log.
 *
 * Every function of lunette that can fail returns a lun_status. Nothing in the library exits,
 * aborts or prints: what went wrong is one line of text, kept per thread, and read with
 * lun_error_detail(). On failure the outputs of a function are untouched.
 */
#ifndef LUNETTE_STATUS_H
#define LUNETTE_STATUS_H

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define LUN_API                               __attribute__((visibility("default")))
#define LUN_PRINTF(format_index, first_index) __attribute__((format(printf, format_index, first_index)))
#else
#define LUN_API
#define LUN_PRINTF(format_index, first_index)
#endif

/* The values are the exit codes of the lunette command. */
typedef enum lun_status {
    LUN_OK = 0,
    LUN_ERR_INTERNAL = 1,   /* a bug in lunette */
    LUN_ERR_USAGE = 2,      /* a wrong argument or configuration */
    LUN_ERR_DATA = 3,       /* pictures or tensors that cannot be used */
    LUN_ERR_CHECKPOINT = 4, /* a checkpoint that is damaged or does not fit */
    LUN_ERR_DEVICE = 5,     /* a device or its driver failed */
    LUN_ERR_MEMORY = 6,     /* host or device memory ran out */
    LUN_ERR_STORAGE = 7,    /* a file could not be written */
    LUN_ERR_DIVERGED = 8,   /* the numbers are no longer finite */
    LUN_UNSUPPORTED = 64    /* a device declined an op; the detail is its reason. Never an exit code. */
} lun_status;

/* A short name ("usage", "data", ...); never NULL. */
LUN_API const char *lun_status_name(lun_status status);

/* The one-line detail of the last failure on this thread, "" if there was none.
 * Valid until the next failing call on this thread; control characters are replaced by '?'. */
LUN_API const char *lun_error_detail(void);

/* Record a failure on this thread and return `status`. The text is cut at about 1 KiB. For callbacks
 * handed to lunette and for programs built on it. */
LUN_API lun_status lun_fail(lun_status status, const char *format, ...) LUN_PRINTF(2, 3);

typedef enum lun_log_level {
    LUN_LOG_WARN, /* something a user must know: a fallback, a skipped file */
    LUN_LOG_INFO, /* what is being done, a few lines a run */
    LUN_LOG_DEBUG /* candidates chosen, programs compiled */
} lun_log_level;

/* `line` has no newline. Called from whichever thread logs, one call at a time; it may not log itself. */
typedef void lun_log_fn(void *payload, lun_log_level level, const char *line);

/* Install the sink for messages up to `max_level`; NULL (the start state) discards everything. */
LUN_API void lun_log_set(lun_log_fn *sink, void *payload, lun_log_level max_level);

LUN_API void lun_log(lun_log_level level, const char *format, ...) LUN_PRINTF(2, 3);

/* "0.1.0" */
LUN_API const char *lun_version(void);

#ifdef __cplusplus
}
#endif
#endif
