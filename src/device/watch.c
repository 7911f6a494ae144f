/* A thread that looks on while a device works: lun_device_watch. */
#include <pthread.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/wait.h"
#include "device/driver.h"

typedef struct lun_watch {
    lun_device *dev;
    double seconds;
    void (*hung)(void *payload, const char *what);
    void *payload;
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t ended;
    bool end;
} lun_watch;

/* Wait for `seconds`, or for the end: then true. */
static bool rest(lun_watch *w, double seconds)
{
    const double until = lun_clock() + seconds;
    (void)pthread_mutex_lock(&w->mutex);
    while (!w->end && lun_cond_wait_until(&w->ended, &w->mutex, until)) {
    }
    const bool end = w->end;
    (void)pthread_mutex_unlock(&w->mutex);
    return end;
}

static void *look_on(void *payload)
{
    lun_watch *w = payload;
    const double tick = w->seconds < 1 ? w->seconds / 4 : 0.25;
    unsigned long seen = 0;
    double stuck = 0, before = lun_clock();
    while (!rest(w, tick)) {
        const unsigned long calls = atomic_load_explicit(&w->dev->calls, memory_order_acquire);
        const double now = lun_clock();
        /* While the process was stopped, the device had no chance to be noticed: a long rest counts as two. */
        const double passed = now - before < 2 * tick ? now - before : 2 * tick;
        before = now;
        stuck = calls % 2 == 1 && calls == seen ? stuck + passed : 0;
        seen = calls;
        if (stuck >= w->seconds) {
            w->hung(w->payload, atomic_load_explicit(&w->dev->doing, memory_order_relaxed));
            break;
        }
    }
    return NULL;
}

lun_status lun_device_watch(lun_device *dev, double seconds, void (*hung)(void *payload, const char *what),
                            void *payload)
{
    if (!dev || !hung || !(seconds > 0) || dev->watch)
        return lun_fail(LUN_ERR_USAGE, "lun_device_watch: no device, nothing to call, no time, or watched already");
    lun_watch *w = lun_calloc(1, sizeof *w, "a watch");
    if (!w)
        return LUN_ERR_MEMORY;
    *w = (lun_watch){.dev = dev, .seconds = seconds, .hung = hung, .payload = payload};
    (void)pthread_mutex_init(&w->mutex, NULL);
    lun_cond_init(&w->ended);
    if (pthread_create(&w->thread, NULL, look_on, w) != 0) {
        free(w);
        return lun_fail(LUN_ERR_MEMORY, "no thread to watch a device with");
    }
    dev->watch = w;
    return LUN_OK;
}

lun_status lun_device_watch_as(lun_device *dev, const lun_device *other)
{
    const lun_watch *w = other->watch;
    return w ? lun_device_watch(dev, w->seconds, w->hung, w->payload) : LUN_OK;
}

void lun_device_unwatch(lun_device *dev)
{
    lun_watch *w = dev->watch;
    if (!w)
        return;
    (void)pthread_mutex_lock(&w->mutex);
    w->end = true;
    (void)pthread_cond_signal(&w->ended);
    (void)pthread_mutex_unlock(&w->mutex);
    (void)pthread_join(w->thread, NULL);
    (void)pthread_cond_destroy(&w->ended);
    (void)pthread_mutex_destroy(&w->mutex);
    free(w);
    dev->watch = NULL;
}
