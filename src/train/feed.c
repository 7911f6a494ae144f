#include "feed.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/philox.h"
#include "base/wait.h"

#define AHEAD       3
#define AHEAD_BYTES ((size_t)64 << 20)
#define ASK_EVERY   0.25 /* seconds, while nothing comes */
#define PATIENCE    60.0
#define GRACE       5.0 /* seconds for the batch at hand when it ends */

/* ---- The order
 * ------------------------------------------------------------------------------------------------------------- */

lun_status lun_order_init(lun_order *order, uint64_t seed, size_t count, size_t batch)
{
    *order = (lun_order){.seed = seed, .epoch = UINT64_MAX, .count = count, .batch = batch};
    order->pictures = lun_calloc(count, sizeof *order->pictures, "the order of an epoch");
    return order->pictures ? LUN_OK : LUN_ERR_MEMORY;
}

void lun_order_free(lun_order *order)
{
    free(order->pictures);
    *order = (lun_order){.epoch = UINT64_MAX};
}

void lun_order_at(lun_order *order, uint64_t step, uint32_t *index)
{
    const uint64_t per_epoch = order->count / order->batch, epoch = step / per_epoch;
    if (epoch != order->epoch) {
        lun_random_permutation(order->seed, epoch, (uint32_t)order->count, order->pictures);
        order->epoch = epoch;
    }
    memcpy(index, order->pictures + step % per_epoch * order->batch, sizeof *index * order->batch);
}

/* ---- The batches
 * ----------------------------------------------------------------------------------------------------------- */

/* A ring of buffers: the one handed out last, and behind it those that the thread has filled. */
struct lun_feed {
    lun_feed_params params; /* dataset and pictures: its own */
    lun_dataset *dataset;
    uint32_t *pictures;
    lun_order order;
    uint64_t step; /* of the batch to be made next */
    uint32_t *index;
    float *buffers[AHEAD + 1];
    int32_t *labels[AHEAD + 1]; /* NULL without */
    int slots;

    pthread_t thread;
    bool threaded;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    /* Under the lock. */
    uint64_t made, taken;    /* batches */
    bool stop, ended, alone; /* alone: nobody waits for the thread, which has to free all this */
    lun_status status;       /* ends the thread */
    char *detail;
};

static void release(lun_feed *f)
{
    pthread_cond_destroy(&f->changed);
    pthread_mutex_destroy(&f->lock);
    for (int i = 0; i < f->slots; i++)
        free(f->buffers[i]);
    for (int i = 0; i <= AHEAD; i++)
        free(f->labels[i]);
    free(f->index);
    free(f->pictures);
    free(f->detail);
    lun_order_free(&f->order);
    lun_dataset_close(&f->dataset);
    free(f);
}

bool lun_feed_drops_label(uint64_t seed, uint64_t number, double label_dropout)
{
    return (double)lun_random_uniform(seed, LUN_RANDOM_LABEL, number, 0, 0) < label_dropout;
}

/* Make the next batch; one thread at a time. */
static lun_status make(lun_feed *f, int slot)
{
    const lun_feed_params *p = &f->params;
    const uint64_t first = f->step * (uint64_t)p->batch;
    lun_order_at(&f->order, f->step, f->index);
    for (size_t i = 0; p->pictures && i < p->batch; i++)
        f->index[i] = p->pictures[f->index[i]];
    LUN_TRY(lun_dataset_draw(p->dataset, &p->augment, first, f->index, p->batch, f->buffers[slot]));
    for (size_t i = 0; f->labels[slot] && i < p->batch; i++)
        f->labels[slot][i] = lun_feed_drops_label(p->seed, first + i, p->label_dropout)
                                 ? lun_dataset_classes(p->dataset)
                                 : lun_dataset_label(p->dataset, f->index[i]);
    f->step++;
    return LUN_OK;
}

static void *work(void *payload)
{
    lun_feed *f = payload;
    pthread_mutex_lock(&f->lock);
    while (!f->stop && f->status == LUN_OK) {
        /* The buffer of batch taken - 1 is in use until the next is asked for. */
        if (f->made - f->taken + 1 >= (uint64_t)f->slots) {
            pthread_cond_wait(&f->changed, &f->lock);
            continue;
        }
        const int slot = (int)(f->made % (uint64_t)f->slots);
        pthread_mutex_unlock(&f->lock);
        const lun_status status = make(f, slot);
        char *detail = status == LUN_OK ? NULL : lun_strdup(lun_error_detail());
        pthread_mutex_lock(&f->lock);
        f->status = status;
        f->detail = detail;
        f->made += status == LUN_OK;
        pthread_cond_signal(&f->changed);
    }
    f->ended = true;
    pthread_cond_signal(&f->changed);
    const bool alone = f->alone;
    pthread_mutex_unlock(&f->lock);
    if (alone)
        release(f);
    return NULL;
}

static lun_status build(lun_feed *f)
{
    const lun_feed_params *p = &f->params;
    int width = 0, height = 0;
    lun_dataset_size(p->dataset, &width, &height);
    const size_t channels = (size_t)lun_dataset_channels(p->dataset);
    const size_t elements = p->batch * channels * (size_t)height * (size_t)width;
    LUN_TRY(lun_order_init(&f->order, p->seed, p->count, p->batch));
    if (p->pictures) {
        f->pictures = lun_malloc(p->count, sizeof *f->pictures, "the pictures of a run");
        if (!f->pictures)
            return LUN_ERR_MEMORY;
        memcpy(f->pictures, p->pictures, p->count * sizeof *f->pictures);
        f->params.pictures = f->pictures;
    }
    f->index = lun_malloc(p->batch, sizeof *f->index, "a batch");
    if (!f->index)
        return LUN_ERR_MEMORY;
    const size_t fit = AHEAD_BYTES / (elements * sizeof(float));
    const int wanted = 1 + (fit >= AHEAD ? AHEAD : fit > 1 ? (int)fit : 1);
    for (; f->slots < wanted; f->slots++) {
        f->buffers[f->slots] = lun_malloc(elements, sizeof(float), "a batch");
        if (!f->buffers[f->slots])
            return LUN_ERR_MEMORY;
    }
    for (int i = 0; i < wanted && lun_dataset_classes(p->dataset); i++) {
        f->labels[i] = lun_malloc(p->batch, sizeof *f->labels[i], "a batch");
        if (!f->labels[i])
            return LUN_ERR_MEMORY;
    }
    f->threaded = pthread_create(&f->thread, NULL, work, f) == 0;
    return LUN_OK;
}

lun_status lun_feed_start(const lun_feed_params *params, lun_feed **out)
{
    const size_t all = lun_dataset_count(params->dataset), count = params->pictures ? params->count : all;
    if (params->batch < 1 || count < params->batch || count > UINT32_MAX)
        return lun_fail(LUN_ERR_DATA, "%zu pictures are fewer than one batch of %zu", count, params->batch);
    for (size_t i = 0; params->pictures && i < count; i++) {
        if (params->pictures[i] >= all)
            return lun_fail(LUN_ERR_USAGE, "picture %zu of a data set of %zu", (size_t)params->pictures[i], all);
    }
    lun_feed *f = lun_calloc(1, sizeof *f, "batches");
    if (!f)
        return LUN_ERR_MEMORY;
    f->params = *params;
    f->params.count = count;
    f->params.augment.seed = params->seed;
    f->step = params->step;
    f->dataset = lun_dataset_hold(params->dataset);
    pthread_mutex_init(&f->lock, NULL);
    lun_cond_init(&f->changed);
    const lun_status status = build(f);
    if (status != LUN_OK) {
        lun_feed_stop(&f);
        return status;
    }
    *out = f;
    return LUN_OK;
}

/* Until there is a batch, an error, or no wish to wait; with the lock held. False: none of the first two. */
static bool wait_for_batch(lun_feed *f)
{
    const lun_feed_params *p = &f->params;
    const double begun = lun_clock(), patience = p->patience > 0 ? p->patience : PATIENCE;
    int said = 0;
    while (f->made == f->taken && f->status == LUN_OK) {
        const double until = lun_clock() + ASK_EVERY;
        while (f->made == f->taken && f->status == LUN_OK && lun_cond_wait_until(&f->changed, &f->lock, until)) {
        }
        const double passed = lun_clock() - begun;
        if (f->made != f->taken || f->status != LUN_OK || passed < ASK_EVERY)
            continue;
        pthread_mutex_unlock(&f->lock);
        if (passed >= patience * (said + 1)) {
            const char *cache = lun_dataset_cache(p->dataset);
            said++;
            lun_log(LUN_LOG_WARN, "no pictures for %.0f s: the disk of %s may hang", passed,
                    cache ? cache : "the data set");
        }
        const bool enough = p->waiting && p->waiting(p->payload);
        pthread_mutex_lock(&f->lock);
        if (enough && f->made == f->taken && f->status == LUN_OK)
            return false;
    }
    return true;
}

lun_status lun_feed_next(lun_feed *f, lun_feed_batch *batch)
{
    if (!f->threaded) {
        LUN_TRY(make(f, 0));
        *batch = (lun_feed_batch){f->buffers[0], f->labels[0]};
        return LUN_OK;
    }
    lun_status status = LUN_OK;
    pthread_mutex_lock(&f->lock);
    if (!wait_for_batch(f)) {
        *batch = (lun_feed_batch){NULL, NULL};
    } else if (f->made == f->taken) {
        status = f->detail ? lun_fail(f->status, "%s", f->detail) : f->status;
    } else {
        const int slot = (int)(f->taken++ % (uint64_t)f->slots);
        *batch = (lun_feed_batch){f->buffers[slot], f->labels[slot]};
    }
    pthread_cond_signal(&f->changed);
    pthread_mutex_unlock(&f->lock);
    return status;
}

void lun_feed_stop(lun_feed **feed)
{
    lun_feed *f = feed ? *feed : NULL;
    if (!f)
        return;
    *feed = NULL;
    if (f->threaded) {
        const double until = lun_clock() + GRACE;
        pthread_mutex_lock(&f->lock);
        f->stop = true;
        pthread_cond_signal(&f->changed);
        while (!f->ended && lun_cond_wait_until(&f->changed, &f->lock, until)) {
        }
        f->alone = !f->ended;
        const pthread_t thread = f->thread;
        const bool ended = f->ended;
        pthread_mutex_unlock(&f->lock);
        if (!ended) {
            pthread_detach(thread);
            return;
        }
        pthread_join(thread, NULL);
    }
    release(f);
}
