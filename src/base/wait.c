#include "wait.h"

#include <time.h>
#include <unistd.h>

#include "base.h"

/* Without a choice of clocks the wall clock is waited for, in steps of a second at most: that long a jump is felt. */
#if defined(_POSIX_CLOCK_SELECTION) && _POSIX_CLOCK_SELECTION > 0
#define CLOCK CLOCK_MONOTONIC
#define STEP  1e6
#else
#define CLOCK CLOCK_REALTIME
#define STEP  1.0
#endif

void lun_cond_init(pthread_cond_t *cond)
{
#if defined(_POSIX_CLOCK_SELECTION) && _POSIX_CLOCK_SELECTION > 0
    pthread_condattr_t attributes;
    (void)pthread_condattr_init(&attributes);
    (void)pthread_condattr_setclock(&attributes, CLOCK);
    (void)pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
#else
    (void)pthread_cond_init(cond, NULL);
#endif
}

bool lun_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, double until)
{
    double left = until - lun_clock();
    struct timespec at;
    if (!(left > 0))
        return false;
    left = left < STEP ? left : STEP;
    (void)clock_gettime(CLOCK, &at);
    const double end = (double)at.tv_nsec * 1e-9 + left;
    at.tv_sec += (time_t)end;
    at.tv_nsec = (long)((end - (double)(time_t)end) * 1e9);
    (void)pthread_cond_timedwait(cond, mutex, &at);
    return lun_clock() < until;
}
