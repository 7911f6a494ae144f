/* What is remembered between runs, in the cache folder (include/lunette/device.h says which). Private.
 *
 * An entry is a file NAME-HASH under the folder: a magic line, the whole key, and the payload with its length and hash.
 * It is written aside and renamed, so a reader sees a whole entry or none. An entry whose magic, key, lengths or hash
 * are not what they should be counts as missing and is written anew by whoever asked. Nothing here can fail: without a
 * cache things are only slower. Any thread, any number of processes.
 */
#ifndef LUN_CACHE_H
#define LUN_CACHE_H

#include <stdbool.h>
#include <stddef.h>

/* The folder in fresh memory, NULL when there is none. It may not exist yet. */
char *lun_cache_folder(void);

/* True and the payload in fresh memory (with a zero byte after it) if the entry is there and sound. */
bool lun_cache_load(const char *name, const char *key, char **payload, size_t *bytes);

/* Best effort. */
void lun_cache_store(const char *name, const char *key, const void *payload, size_t bytes);

/* Files of plain text, for people to read and for additions by several processes: NAME-HASH.txt, without the head of an
 * entry. What is in them is checked by whoever reads them.
 *
 * The path of the text of `key` in fresh memory; NULL when there is no cache folder. */
char *lun_cache_text_path(const char *name, const char *key);
/* The file's text in fresh memory; NULL when it is missing, unreadable or too large. */
char *lun_cache_text_load(const char *path);
/* Replace the file by what `merge` makes of its text (NULL when there is none): a fresh string, or NULL for leaving
 * things as they are. Processes come one after the other, so that none loses what another has just written. Best
 * effort. */
void lun_cache_text_update(const char *path, char *(*merge)(void *payload, const char *old), void *payload);

#endif
