/* What this machine's CPU can do at best, measured: float32 multiply-adds, and copying memory. */
#ifndef LUN_PEAK_H
#define LUN_PEAK_H

/* Multiplications and additions a second (a fused multiply-add is two), over `threads` threads that touch registers
 * only: the ceiling of every kernel on a CPU. The best of several runs, about half a second in all. 0 where no fused
 * multiply-add of this processor is known here. */
double peak_flops(int threads);

/* Bytes a second, read and written ones counted, while `threads` threads copy buffers of many times the caches' size:
 * what a kernel can do at best that computes next to nothing. The best of several runs, about half a second in all;
 * takes as much memory as is copied (at most 512 MiB) while it runs. 0 where there is no memory for it. */
double peak_copy(int threads);

#endif
