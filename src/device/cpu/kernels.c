/* Compiled once an instruction set, with LUN_CPU_TABLE naming the table and the compiler's flags choosing lane.h's
 * branch. */
#include "kernels.h"

#include "kernel_table.h"
