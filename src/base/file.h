/* Files that last: whole or not at all, and on the disk when the call returns. Private.
 *
 * A new file is written as `.NAME.tmp.PID` in the directory of NAME, locked with flock() while it is open. Commit
 * flushes, syncs the file, checks close(), renames it over NAME and syncs the directory: whoever opens NAME sees
 * the former file or the whole new one, also after a crash or a power cut. Readers of the former file keep it (a
 * new inode takes its name). Names left behind by dead processes are removed when the same NAME is next written.
 *
 * Every failure is LUN_ERR_STORAGE (but for lun_file_read(), whose caller chooses) with the path and the
 * system's reason. After a failed sync nothing is retried on the same file: Linux reports such an error once and then
 * believes the pages clean (PostgreSQL, "fsyncgate", 2018). A caller retries with a new lun_file.
 *
 * A program that may meet a file size limit must ignore SIGXFSZ; a library must not, and the default action kills.
 * A lun_file belongs to one thread at a time; distinct ones are independent.
 */
#ifndef LUN_FILE_H
#define LUN_FILE_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <lunette/status.h>

typedef struct lun_file lun_file;

/* openat() that no signal ends, with O_CLOEXEC and O_NOCTTY. -1 and errno on failure. */
int lun_open_at(int dir, const char *name, int flags, mode_t mode);
/* opendir() that no signal ends. */
DIR *lun_open_dir(const char *path);
/* All of the bytes, at `offset`; 0 or an errno. */
int lun_write_at(int fd, const void *data, size_t bytes, uint64_t offset);

/* Begin the file `path`. Nothing is visible under that name before lun_file_commit(). Fails when the directory is
 * missing or not writable, when another live lun_file writes the same path, and when `path` is something else than
 * a regular file (a directory, a pipe, a device: those are never replaced). */
lun_status lun_file_create(const char *path, lun_file **out);

/* Keep it from other users (mode 0600), also once it is committed. */
lun_status lun_file_make_private(lun_file *file);

/* Append bytes (buffered). The first failure sticks: later calls and the commit fail too. */
lun_status lun_file_write(lun_file *file, const void *data, size_t bytes);

/* Overwrite bytes already written, at `offset` from the start; the end does not move. offset + bytes beyond what
 * has been written is LUN_ERR_INTERNAL. */
lun_status lun_file_patch(lun_file *file, uint64_t offset, const void *data, size_t bytes);

/* Bytes written so far. */
uint64_t lun_file_size(const lun_file *file);

/* The path given to lun_file_create(); lives as long as the lun_file. */
const char *lun_file_path(const lun_file *file);

/* Make it last. Frees `file` in every case; on failure the temporary file is gone and the former file under
 * this name is as it was, with one exception: when only the last step, the sync of the directory, fails, the new file
 * is in place but may not survive a power cut. */
lun_status lun_file_commit(lun_file *file);

/* The same, and the new file opened for reading in *fd: what was written, whoever replaces that name next. On failure
 * *fd is untouched. */
lun_status lun_file_commit_open(lun_file *file, int *fd);

/* Give up: remove the temporary file and free. NULL is allowed. Keeps the error detail. */
void lun_file_discard(lun_file *file);

/* Remove the temporary files that dead processes left in `directory`, for whatever NAME. Best effort, silent. */
void lun_file_sweep(const char *directory);

/* The whole regular file `path` as bytes plus a terminating zero that is not counted. A missing file, one that is not
 * regular (a pipe never blocks), one above max_bytes and one that shrinks while it is read fail as `error_kind`;
 * LUN_ERR_MEMORY where memory is out. Free *text with free(). `bytes` may be NULL. */
lun_status lun_file_read(const char *path, size_t max_bytes, lun_status error_kind, char **text, size_t *bytes);

/* A file is a regular one; other: a device, a pipe, a socket. */
typedef enum lun_path_kind { LUN_PATH_MISSING, LUN_PATH_FOLDER, LUN_PATH_FILE, LUN_PATH_OTHER } lun_path_kind;

/* What `path` leads to, links followed; nowhere: LUN_PATH_MISSING. Fails as `error_kind` with the system's reason where
 * that cannot be told: a disk that does not answer must not look like a missing file. */
lun_status lun_path_look(const char *path, lun_status error_kind, lun_path_kind *kind);

/* Is there a directory entry of this name (of whatever kind)? Yes, too, where that cannot be told: what may be there is
 * better refused than overwritten or passed over. */
bool lun_file_exists(const char *path);
/* The same for `name` in `folder`; needs no memory, and so cannot fail. */
bool lun_file_exists_in(const char *folder, const char *name);
/* Both, but LUN_ERR_STORAGE where that cannot be told. */
lun_status lun_file_look(const char *path, bool *there);
lun_status lun_file_look_in(const char *folder, const char *name, bool *there);

/* Make the directory `path` and what is missing above it (mode 0755 less the umask). An existing one is a success. */
lun_status lun_make_dirs(const char *path);

/* Append `line` and a newline with one write() where the system takes them at once (O_APPEND, created when missing), so
 * that a reader following the file sees whole lines. `line` holds no newline. A write that stops half-way is taken
 * back. Not synced. */
lun_status lun_append_line(const char *path, const char *line);

#endif
