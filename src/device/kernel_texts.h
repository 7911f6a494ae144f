/* The kernel texts embedded in the library (made from cl/ by tools/embed.py at build time). Private. */
#ifndef LUN_KERNEL_TEXTS_H
#define LUN_KERNEL_TEXTS_H

typedef struct lun_kernel_text {
    const char *file; /* "elementwise.cl", "cpu/conv2d.cl": relative to cl/, includes already pasted in */
    const char *text;
} lun_kernel_text;

/* Ended by one whose file is NULL. */
extern const lun_kernel_text lun_kernel_texts[];

#endif
