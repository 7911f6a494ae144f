/* Waiting on a condition for so long, whatever is done to the wall clock meanwhile. Private. */
#ifndef LUN_WAIT_H
#define LUN_WAIT_H

#include <pthread.h>
#include <stdbool.h>

/* A condition for lun_cond_wait_until(); destroyed like any other. */
void lun_cond_init(pthread_cond_t *cond);
/* Wait, with the mutex held, until the condition is signalled or lun_clock() says `until`; like any wait it may end by
 * itself. False when that time has come. */
bool lun_cond_wait_until(pthread_cond_t *cond, pthread_mutex_t *mutex, double until);

#endif
