/* The kernel texts as C functions, one table an instruction set (kernels.c is compiled once for each). Private. */
#ifndef LUN_CPU_KERNELS_H
#define LUN_CPU_KERNELS_H

/* p: buffers with their offsets added; args: the kernel's struct; item: which piece. */
typedef void lun_cpu_kernel_fn(void *const *p, const void *args, int item);

typedef struct lun_cpu_kernel {
    const char *name;
    lun_cpu_kernel_fn *run;
} lun_cpu_kernel;

/* Ended by a NULL name. Which of them exist depends on what the compiler can build: see cpu.c. */
extern const lun_cpu_kernel lun_cpu_kernels_baseline[];
extern const lun_cpu_kernel lun_cpu_kernels_avx2[];
extern const lun_cpu_kernel lun_cpu_kernels_avx512[];

#endif
