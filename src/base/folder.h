/* Folders that appear whole or not at all. Private.
 *
 * A new folder is filled as `.NAME.tmp.PID` beside NAME and renamed when it is complete and on the disk. What dead
 * processes left is removed when the same NAME is next written. Failures are LUN_ERR_STORAGE. */
#ifndef LUN_FOLDER_H
#define LUN_FOLDER_H

#include <lunette/status.h>

typedef struct lun_folder lun_folder;

/* Begin the folder `path`, in a directory that exists. A name that is there already fails here or at the commit, and is
 * never replaced (but for an empty folder). */
lun_status lun_folder_create(const char *path, lun_folder **out);
/* Where to write meanwhile, with lun_file and below lun_folder_add's folders; lives as long as the lun_folder. */
const char *lun_folder_place(const lun_folder *folder);
/* A folder in it. */
lun_status lun_folder_add(lun_folder *folder, const char *name);
/* Frees `folder` in every case; on failure nothing is left. */
lun_status lun_folder_commit(lun_folder *folder);
/* Remove what was written, and free. NULL is allowed. Keeps the error detail. */
void lun_folder_discard(lun_folder *folder);

#endif
