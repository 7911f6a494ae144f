/* Work in numbered pieces, done by several threads. Private to src/data. */
#ifndef LUN_DATA_WORKERS_H
#define LUN_DATA_WORKERS_H

#include <stddef.h>

/* Call work(payload, thread, piece) for every piece of 0..pieces-1, each once, by `threads` threads (0: one for each
 * processor), which are numbered from 0; at most LUN_MAX_WORKERS, and no more than there are pieces. Returns when all
 * are done. Where no thread can be had the caller's own does everything. */
#define LUN_MAX_WORKERS 64
void lun_workers_run(int threads, size_t pieces, void (*work)(void *payload, int thread, size_t piece), void *payload);
/* How many threads that will be. */
int lun_workers_count(int threads, size_t pieces);

#endif
