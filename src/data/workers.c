#include "workers.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <unistd.h>

#include "base/base.h"

typedef struct crew {
    void (*work)(void *payload, int thread, size_t piece);
    void *payload;
    size_t pieces;
    atomic_size_t next;
} crew;

typedef struct worker {
    crew *crew;
    int number;
} worker;

static void *run(void *payload)
{
    const worker *w = payload;
    size_t piece;
    while ((piece = atomic_fetch_add(&w->crew->next, 1)) < w->crew->pieces)
        w->crew->work(w->crew->payload, w->number, piece);
    return NULL;
}

int lun_workers_count(int threads, size_t pieces)
{
    int64_t count = threads > 0 ? threads : (int64_t)sysconf(_SC_NPROCESSORS_ONLN);
    count = lun_min_i64(lun_max_i64(count, 1), LUN_MAX_WORKERS);
    return pieces < (size_t)count ? pieces > 0 ? (int)pieces : 1 : (int)count;
}

void lun_workers_run(int threads, size_t pieces, void (*work)(void *payload, int thread, size_t piece), void *payload)
{
    crew c = {.work = work, .payload = payload, .pieces = pieces};
    worker workers[LUN_MAX_WORKERS];
    pthread_t others[LUN_MAX_WORKERS];
    const int count = lun_workers_count(threads, pieces);
    int started = 0;
    atomic_init(&c.next, 0);
    for (int i = 0; i < count; i++)
        workers[i] = (worker){&c, i};
    while (started < count - 1 && pthread_create(&others[started], NULL, run, &workers[started + 1]) == 0)
        started++;
    run(&workers[0]);
    for (int i = 0; i < started; i++)
        pthread_join(others[i], NULL);
}
