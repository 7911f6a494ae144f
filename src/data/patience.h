/* Says which file is waited for where a disk does not answer. Private to src/data.
 *
 * A thread looks on while others read. Nothing is ended or given up: whether a disk comes back nobody can know, and a
 * read that hangs in the kernel cannot be called off. */
#ifndef LUN_DATA_PATIENCE_H
#define LUN_DATA_PATIENCE_H

/* Seconds after which a file is named, and again after as many more. */
#define LUN_PATIENCE 60.0
/* Readers at a time. */
#define LUN_PATIENCE_SLOTS 64

typedef struct lun_patience lun_patience;

/* folder: what names are relative to; borrowed. NULL, which all of these take, where there is no memory or thread for
 * it. */
lun_patience *lun_patience_start(const char *folder, double seconds);
/* Reader `slot` begins with `name` now; NULL: it has ended. From any thread. */
void lun_patience_reads(lun_patience *patience, int slot, const char *name);
void lun_patience_stop(lun_patience **patience);

#endif
