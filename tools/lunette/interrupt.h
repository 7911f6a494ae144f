/* Signals during a long command. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include <stdbool.h>

/* What a parent has silenced (nohup, a shell's background job) stays silenced by both of these.
 *
 * From now on the first of interrupt, TERM and hang-up is only noted, and the second ends the process at once with exit
 * code 128 + its number. */
void interrupt_catch_end(void);
/* From now on USR1 is only noted. */
void interrupt_catch_save(void);
/* The number of the first signal that asks to end, or 0. */
int interrupt_caught(void);
/* Whether USR1 has come since the last call. */
bool interrupt_asked_to_save(void);

#endif
