/* Signals during a long command. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include <stdbool.h>

/* From now on: the first of interrupt, TERM and hang-up is only noted, and the second ends the process at once with
 * exit code 128 + its number; USR1 is noted apart. What a parent has silenced (nohup, a shell's background job) stays
 * silenced. */
void interrupt_catch(void);
/* The number of the first signal that asks to end, or 0. */
int interrupt_caught(void);
/* Whether USR1 has come since the last call. */
bool interrupt_asked_to_save(void);

#endif
