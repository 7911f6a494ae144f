#include "pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/base.h"

/* A round is one call of lun_pool_run. Items are handed out by a counter, several at a time when there are many. Which
 * thread takes which item never matters: kernels are cut by shape alone.
 *
 * A step is a hundred rounds, some of them of microseconds, and to wake a sleeping thread takes longer than that. So
 * a thread that waits looks at memory for a while before it sleeps; and a round is over when its items are done,
 * whether or not every worker has noticed it. A worker counts itself `inside` before it looks whether a round is open,
 * and the caller closes the round before it looks who is inside (both in one order for all, sequentially consistent),
 * so that the caller sees everyone who may still touch the round's fields. */
struct lun_pool {
    int items, grab; /* of this round: written while it is closed and nobody is inside */
    void (*body)(void *payload, int item);
    void *payload;
    _Alignas(64) atomic_uint next; /* unsigned: every thread may add `grab` once beyond `items` */
    _Alignas(64) atomic_uint round;
    atomic_bool open, quit;
    atomic_int inside, sleepers;
    atomic_bool caller_sleeps;
    pthread_mutex_t lock; /* of going to sleep */
    pthread_cond_t start, done;
    int workers;
    pthread_t worker[];
};

/* Some 100 microseconds: longer than most that the caller does by itself between rounds. */
#define LOOKS 3000

static void pause_a_little(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

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

static bool called(lun_pool *pool, unsigned seen)
{
    return atomic_load(&pool->round) != seen || atomic_load(&pool->quit);
}

static void wait_for_round(lun_pool *pool, unsigned seen)
{
    for (int i = 0; i < LOOKS; i++) {
        if (called(pool, seen))
            return;
        pause_a_little();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_fetch_add(&pool->sleepers, 1); /* before the last look: the caller looks here after it has called */
    while (!called(pool, seen))
        pthread_cond_wait(&pool->start, &pool->lock);
    atomic_fetch_sub(&pool->sleepers, 1);
    pthread_mutex_unlock(&pool->lock);
}

static void *work(void *argument)
{
    lun_pool *pool = argument;
    unsigned seen = 0;
    for (;;) {
        wait_for_round(pool, seen);
        if (atomic_load(&pool->quit))
            return NULL;
        seen = atomic_load(&pool->round);
        atomic_fetch_add(&pool->inside, 1);
        if (atomic_load(&pool->open))
            take_items(pool);
        if (atomic_fetch_sub(&pool->inside, 1) == 1 && atomic_load(&pool->caller_sleeps)) {
            pthread_mutex_lock(&pool->lock);
            pthread_cond_signal(&pool->done);
            pthread_mutex_unlock(&pool->lock);
        }
    }
}

static void wait_for_workers(lun_pool *pool)
{
    for (int i = 0; i < LOOKS; i++) {
        if (atomic_load(&pool->inside) == 0)
            return;
        pause_a_little();
    }
    pthread_mutex_lock(&pool->lock);
    atomic_store(&pool->caller_sleeps, true); /* before the last look, as above */
    while (atomic_load(&pool->inside) > 0)
        pthread_cond_wait(&pool->done, &pool->lock);
    atomic_store(&pool->caller_sleeps, false);
    pthread_mutex_unlock(&pool->lock);
}

lun_status lun_pool_create(int threads, lun_pool **out)
{
    const size_t bytes = sizeof(lun_pool) + sizeof(pthread_t) * (size_t)threads;
    lun_pool *pool = aligned_alloc(_Alignof(lun_pool), (size_t)lun_round_up((int64_t)bytes, _Alignof(lun_pool)));
    if (!pool)
        return lun_fail(LUN_ERR_MEMORY, "out of memory (the thread pool)");
    *pool = (lun_pool){.items = 0};
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
    atomic_store(&pool->quit, true);
    pthread_mutex_lock(&pool->lock);
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
    pool->items = items;
    pool->grab = (int)lun_max_i64(1, items / ((pool->workers + 1) * 16));
    pool->body = body;
    pool->payload = payload;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    atomic_store(&pool->open, true);
    atomic_fetch_add(&pool->round, 1);
    if (atomic_load(&pool->sleepers) > 0) {
        pthread_mutex_lock(&pool->lock);
        pthread_cond_broadcast(&pool->start);
        pthread_mutex_unlock(&pool->lock);
    }
    take_items(pool);
    atomic_store(&pool->open, false);
    wait_for_workers(pool);
}
