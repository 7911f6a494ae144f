/* The kernel texts as C functions: a table an instruction set, made by tools/embed.py and compiled once for each.
 * Private. */
#ifndef LUN_CPU_KERNELS_H
#define LUN_CPU_KERNELS_H

/* p: buffers with their offsets added; args: the kernel's struct; item: which piece. */
typedef void lun_cpu_kernel_fn(void *const *p, const void *args, int item);

typedef struct lun_cpu_kernel {
    const char *name; /* NULL ends a table */
    lun_cpu_kernel_fn *run;
} lun_cpu_kernel;

typedef struct lun_cpu_text {
    const char *file; /* under cl/; NULL ends a table */
    const lun_cpu_kernel *kernels;
} lun_cpu_text;

/* Which of them exist depends on what the compiler can build: see cpu.c. */
extern const lun_cpu_text lun_cpu_baseline_texts[];
extern const lun_cpu_text lun_cpu_avx2_texts[];
extern const lun_cpu_text lun_cpu_avx512_texts[];

/* What the generated sources call theirs: lun_cpu_ISA_NAME. */
#define LUN_CPU_NAME(name)        LUN_CPU_NAME_(LUN_CPU_ISA, name)
#define LUN_CPU_NAME_(isa, name)  LUN_CPU_NAME__(isa, name)
#define LUN_CPU_NAME__(isa, name) lun_cpu_##isa##_##name

#endif
