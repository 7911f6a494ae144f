/* A pool of threads for loops of independent items. Private. */
#ifndef LUN_CPU_POOL_H
#define LUN_CPU_POOL_H

#include <lunette/status.h>

typedef struct lun_pool lun_pool;

/* `threads` at least 1, the calling thread included. Fewer are started where the system refuses (logged). */
lun_status lun_pool_create(int threads, lun_pool **out);
void lun_pool_destroy(lun_pool **pool);
int lun_pool_threads(const lun_pool *pool);
/* Call body(payload, i) once for every i in 0..items-1, on any thread in any order, and wait for all of them. One
 * caller at a time. */
void lun_pool_run(lun_pool *pool, int items, void (*body)(void *payload, int item), void *payload);

#endif
