/* Stacks large enough, whatever limit the command was started under. */
#ifndef LUN_STACK_H
#define LUN_STACK_H

/* Run a command and return its exit code. Where the limit of the stack (ulimit -s) is below 8 MiB it runs in a thread
 * with a stack of that size, and where the C library can be told so, the threads that it and the drivers start get such
 * stacks, too: a driver's compiler needs megabytes and crashes without. Where there is no such thread the command runs
 * as it is. */
int stack_run(int (*run)(int argc, char **argv), int argc, char **argv);

#endif
