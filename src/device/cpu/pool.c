#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/base.h"

/* A round is one call of lun_pool_run. Workers sleep between rounds; within one, items are handed out by a counter,
 * several at a time when there are many. Which thread takes which item never matters: kernels are cut by shape alone.
 */
struct lun_pool {
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    unsigned round;  /* under lock */
    int busy;        /* workers still in this round; under lock */
    bool quit;       /* under lock */
    int items, grab; /* of this round: written under lock before it starts */
    void (*body)(void *payload, int item);
    void *payload;
    atomic_uint next; /* unsigned: every thread may add `grab` once beyond `items` */
    int workers;
    pthread_t worker[];
};

static void take_items(lun_pool *pool)
{
    const unsigned items = (unsigned)pool->items, grab = (unsigned)pool->grab;
    for (;;) {
        const unsigned first = atomic_fetch_add_explicit(&pool->next, grab, memory_order_relaxed);
        if (first >= items)
            return;
        const int last = (int)(items - first < grab ? items : first + grab);
        for (int i = (int)first; i < last; i++)
            pool->body(pool->payload, i);
    }
}

static void *work(void *argument)
{
    lun_pool *pool = argument;
    unsigned seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (pool->round == seen && !pool->quit)
            pthread_cond_wait(&pool->start, &pool->lock);
        if (pool->quit)
            break;
        seen = pool->round;
        pthread_mutex_unlock(&pool->lock);
        take_items(pool);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0)
            pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

lun_status lun_pool_create(int threads, lun_pool **out)
{
    lun_pool *pool = lun_calloc(1, sizeof *pool + sizeof(pthread_t) * (size_t)threads, "the thread pool");
    if (!pool)
        return LUN_ERR_MEMORY;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->start, NULL);
    pthread_cond_init(&pool->done, NULL);
    while (pool->workers < threads - 1) {
        if (pthread_create(&pool->worker[pool->workers], NULL, work, pool) != 0) {
            lun_log(LUN_LOG_WARN, "only %d of %d threads could be started", pool->workers + 1, threads);
            break;
        }
        pool->workers++;
    }
    *out = pool;
    return LUN_OK;
}

void lun_pool_destroy(lun_pool **pool_ptr)
{
    lun_pool *pool = pool_ptr ? *pool_ptr : NULL;
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->quit = true;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 0; i < pool->workers; i++)
        pthread_join(pool->worker[i], NULL);
    pthread_cond_destroy(&pool->done);
    pthread_cond_destroy(&pool->start);
    pthread_mutex_destroy(&pool->lock);
    free(pool);
    *pool_ptr = NULL;
}

int lun_pool_threads(const lun_pool *pool)
{
    return pool->workers + 1;
}

void lun_pool_run(lun_pool *pool, int items, void (*body)(void *payload, int item), void *payload)
{
    if (items <= 1 || pool->workers == 0) {
        for (int i = 0; i < items; i++)
            body(payload, i);
        return;
    }
    pthread_mutex_lock(&pool->lock);
    pool->items = items;
    pool->grab = (int)lun_max_i64(1, items / ((pool->workers + 1) * 16));
    pool->body = body;
    pool->payload = payload;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->busy = pool->workers;
    pool->round++;
    pthread_cond_broadcast(&pool->start);
    pthread_mutex_unlock(&pool->lock);
    take_items(pool);
    pthread_mutex_lock(&pool->lock);
    while (pool->busy > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}
