#include "patience.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/base.h"
#include "base/wait.h"

typedef struct slot {
    char name[256]; /* "" while nothing is read */
    double since;
    int said;
} slot;

struct lun_patience {
    const char *folder;
    double seconds;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t ended;
    /* Under the lock. */
    bool end;
    slot slots[LUN_PATIENCE_SLOTS];
};

/* With the lock held; a line is written without it. */
static void look(lun_patience *p, slot *s)
{
    char name[sizeof s->name];
    const double passed = lun_clock() - s->since;
    if (!s->name[0] || passed < p->seconds * (s->said + 1))
        return;
    s->said++;
    snprintf(name, sizeof name, "%s", s->name);
    pthread_mutex_unlock(&p->lock);
    lun_log(LUN_LOG_WARN, "still waiting for %s in %s, after %.0f s: its disk may hang", name, p->folder, passed);
    pthread_mutex_lock(&p->lock);
}

static void *look_on(void *payload)
{
    lun_patience *p = payload;
    const double tick = p->seconds < 4 ? p->seconds / 4 : 1;
    pthread_mutex_lock(&p->lock);
    while (!p->end) {
        const double until = lun_clock() + tick;
        while (!p->end && lun_cond_wait_until(&p->ended, &p->lock, until)) {
        }
        for (int i = 0; i < LUN_PATIENCE_SLOTS && !p->end; i++)
            look(p, &p->slots[i]);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

lun_patience *lun_patience_start(const char *folder, double seconds)
{
    lun_patience *p = lun_calloc(1, sizeof *p, "looking on while files are read");
    if (!p)
        return NULL;
    p->folder = folder;
    p->seconds = seconds;
    pthread_mutex_init(&p->lock, NULL);
    lun_cond_init(&p->ended);
    if (pthread_create(&p->thread, NULL, look_on, p) == 0)
        return p;
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p);
    return NULL;
}

void lun_patience_reads(lun_patience *p, int number, const char *name)
{
    if (!p)
        return;
    slot *s = &p->slots[number % LUN_PATIENCE_SLOTS];
    pthread_mutex_lock(&p->lock);
    snprintf(s->name, sizeof s->name, "%s", name ? name : "");
    s->since = lun_clock();
    s->said = 0;
    pthread_mutex_unlock(&p->lock);
}

void lun_patience_stop(lun_patience **patience)
{
    lun_patience *p = *patience;
    if (!p)
        return;
    pthread_mutex_lock(&p->lock);
    p->end = true;
    pthread_cond_signal(&p->ended);
    pthread_mutex_unlock(&p->lock);
    pthread_join(p->thread, NULL);
    pthread_cond_destroy(&p->ended);
    pthread_mutex_destroy(&p->lock);
    free(p);
    *patience = NULL;
}
