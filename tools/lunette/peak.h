/* The float32 multiply-add peak of this machine's CPU, measured. */
#ifndef LUN_PEAK_H
#define LUN_PEAK_H

/* Multiplications and additions a second (a fused multiply-add is two), over `threads` threads that touch registers
 * only: the ceiling of every kernel on a CPU. The best of several runs, about half a second in all. 0 where no fused
 * multiply-add of this processor is known here. */
double peak_flops(int threads);

#endif
