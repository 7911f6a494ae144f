/* How much memory there is left for this process. Private. */
#ifndef LUN_MEMORY_H
#define LUN_MEMORY_H

#include <stdint.h>

/* Bytes that can still be taken without anything being swapped out: what the kernel calls available, or less where a
 * control group of this process has a limit. What it has cached of files counts as free. 0: not known. */
uint64_t lun_memory_available(void);

/* The same with other files, for tests: `proc` stands for /proc and `groups` for /sys/fs/cgroup. */
uint64_t lun_memory_available_in(const char *proc, const char *groups);

#endif
