/* What every kernel text includes: one text for OpenCL C 1.2 and for C11.
 *
 * A kernel works on one `item` of many independent ones; how much an item is, its arguments say (a GPU gets one
 * element an item, a CPU a long piece). The text is plain C over `GLOBAL` pointers, with f_* for the few functions
 * whose names differ; f_madd is a b + c, fused wherever the instruction set can. Longer functions are in special.h. A
 * kernel with n buffers and one struct of arguments is written
 *
 *     KERNEL2(relu, struct flat_args, GLOBAL const float *src, GLOBAL float *dst)
 *     {
 *         ... uses src, dst, arg, item ...
 *     }
 *
 * The struct lies in a header beside the text, shared with the host code that fills it; its members are int, uint and
 * float only, so host and device agree on it. Buffers come as (buffer, byte offset) pairs: no sub-buffers needed.
 */
#ifndef KERNEL_H
#define KERNEL_H

#ifdef __OPENCL_C_VERSION__

#define GLOBAL __global
#ifndef f_sqrt
#if defined(__clang__) && LANES > 1 /* sqrt may be a call until late, and a loop with a call stays scalar */
#define f_sqrt(x) __builtin_sqrtf(x)
#else
#define f_sqrt(x) sqrt(x)
#endif
#endif
#define f_abs(x)         fabs(x)
#define f_max(a, b)      fmax(a, b)
#define f_min(a, b)      fmin(a, b)
#define f_log(x)         log(x)
#define f_madd(a, b, c)  ((a) * (b) + (c)) /* contraction is on by default in OpenCL C */
#define bits_to_float(x) as_float(x)
#define float_to_bits(x) as_uint(x)
#define mul_high(a, b)   mul_hi((uint)(a), (uint)(b))

/* Local size of the item kernels; the host sets it and rounds the global size up to it. */
#ifndef GROUP
#define GROUP 1
#endif
/* An item of a CPU is a long piece computed in vectors: neighbouring items must not be made the lanes of one, as some
 * CPU drivers do, which then gather every operand. */
#if LANES > 1
#define IN_VECTORS_(n) __attribute__((vec_type_hint(float##n)))
#define ITEM_OF_(n)    IN_VECTORS_(n)
#define VECTORS_       ITEM_OF_(LANES)
#else
#define VECTORS_
#endif
#define ITEMS_ __attribute__((reqd_work_group_size(GROUP, 1, 1))) VECTORS_ WIDE
#define P_(n)  __global char *p##n, const ulong o##n
#define B_(n)  (__global void *)(p##n + o##n)

#define KERNEL_(name, args_t, wrapped, passed, ...)                                                                    \
    WIDE static void name##_item(__VA_ARGS__, const args_t arg, const int item);                                       \
    __kernel ITEMS_ void name wrapped                                                                                  \
    {                                                                                                                  \
        if (get_global_id(0) < items)                                                                                  \
            name##_item passed;                                                                                        \
    }                                                                                                                  \
    static void name##_item(__VA_ARGS__, const args_t arg, const int item)

#define TAIL_(args_t)              const args_t arg, const uint items
#define IT_                        arg, (int)get_global_id(0)
#define KERNEL1(name, args_t, ...) KERNEL_(name, args_t, (P_(0), TAIL_(args_t)), (B_(0), IT_), __VA_ARGS__)
#define KERNEL2(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (P_(0), P_(1), TAIL_(args_t)), (B_(0), B_(1), IT_), __VA_ARGS__)
#define KERNEL3(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (P_(0), P_(1), P_(2), TAIL_(args_t)), (B_(0), B_(1), B_(2), IT_), __VA_ARGS__)
#define KERNEL4(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (P_(0), P_(1), P_(2), P_(3), TAIL_(args_t)), (B_(0), B_(1), B_(2), B_(3), IT_), __VA_ARGS__)
#define KERNEL5(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (P_(0), P_(1), P_(2), P_(3), P_(4), TAIL_(args_t)),                                          \
            (B_(0), B_(1), B_(2), B_(3), B_(4), IT_), __VA_ARGS__)
#define KERNEL6(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (P_(0), P_(1), P_(2), P_(3), P_(4), P_(5), TAIL_(args_t)),                                   \
            (B_(0), B_(1), B_(2), B_(3), B_(4), B_(5), IT_), __VA_ARGS__)
#define KERNEL7(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (P_(0), P_(1), P_(2), P_(3), P_(4), P_(5), P_(6), TAIL_(args_t)),                            \
            (B_(0), B_(1), B_(2), B_(3), B_(4), B_(5), B_(6), IT_), __VA_ARGS__)
#define KERNEL8(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (P_(0), P_(1), P_(2), P_(3), P_(4), P_(5), P_(6), P_(7), TAIL_(args_t)),                     \
            (B_(0), B_(1), B_(2), B_(3), B_(4), B_(5), B_(6), B_(7), IT_), __VA_ARGS__)

#else /* C11: kernel(p, arg, item), p[i] with the offset already added */

#include <math.h>
#include <stdint.h>
#include <string.h>

#define GLOBAL
#define f_sqrt(x)   sqrtf(x)
#define f_abs(x)    fabsf(x)
#define f_max(a, b) fmaxf(a, b)
#define f_min(a, b) fminf(a, b)
#define f_log(x)    logf(x)
#if defined(__FMA__) || defined(__ARM_FEATURE_FMA)
#define f_madd(a, b, c) __builtin_fmaf(a, b, c)
#else
#define f_madd(a, b, c) ((a) * (b) + (c))
#endif

#ifndef uint
#define uint uint32_t
#endif

static inline float bits_to_float(uint32_t x)
{
    float f;
    memcpy(&f, &x, sizeof f);
    return f;
}

static inline uint32_t float_to_bits(float f)
{
    uint32_t x;
    memcpy(&x, &f, sizeof x);
    return x;
}

static inline uint32_t mul_high(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

#define KERNEL_(name, args_t, passed, ...)                                                                             \
    static inline void name##_item(__VA_ARGS__, const args_t arg, const int item);                                     \
    static void name(void *const *p, const void *args, int item)                                                       \
    {                                                                                                                  \
        args_t arg;                                                                                                    \
        memcpy(&arg, args, sizeof arg);                                                                                \
        name##_item passed;                                                                                            \
    }                                                                                                                  \
    static inline void name##_item(__VA_ARGS__, const args_t arg, const int item)

#define KERNEL1(name, args_t, ...) KERNEL_(name, args_t, (p[0], arg, item), __VA_ARGS__)
#define KERNEL2(name, args_t, ...) KERNEL_(name, args_t, (p[0], p[1], arg, item), __VA_ARGS__)
#define KERNEL3(name, args_t, ...) KERNEL_(name, args_t, (p[0], p[1], p[2], arg, item), __VA_ARGS__)
#define KERNEL4(name, args_t, ...) KERNEL_(name, args_t, (p[0], p[1], p[2], p[3], arg, item), __VA_ARGS__)
#define KERNEL5(name, args_t, ...) KERNEL_(name, args_t, (p[0], p[1], p[2], p[3], p[4], arg, item), __VA_ARGS__)
#define KERNEL6(name, args_t, ...) KERNEL_(name, args_t, (p[0], p[1], p[2], p[3], p[4], p[5], arg, item), __VA_ARGS__)
#define KERNEL7(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (p[0], p[1], p[2], p[3], p[4], p[5], p[6], arg, item), __VA_ARGS__)
#define KERNEL8(name, args_t, ...)                                                                                     \
    KERNEL_(name, args_t, (p[0], p[1], p[2], p[3], p[4], p[5], p[6], p[7], arg, item), __VA_ARGS__)

#endif

/* Before a function that an INDEPENDENT loop stands in. clang for a CPU with AVX-512 prefers half of its registers, as
 * suited the first such CPUs, and cuts even what is written as 16 floats in two, unless the function says that it wants
 * them; that a loop is to be made of as many, INDEPENDENT says. */
#if defined(__OPENCL_C_VERSION__) && defined(__clang__) && defined(__x86_64__) && defined(LANES)
#define WIDE __attribute__((min_vector_width(32 * LANES)))
#else
#define WIDE
#endif

/* Before a loop none of whose turns reads what another writes, though dst may be src itself (updates in place):
 * compilers that vectorise loops then need no overlap check, which in-place calls would fail. */
#if defined(__clang__) && defined(__OPENCL_C_VERSION__) && LANES > 1 /* a CPU, by whatever name */
#define PRAGMA_(text) _Pragma(#text)
#define IN_LANES_(n)  PRAGMA_(clang loop vectorize(assume_safety) vectorize_width(n))
#define INDEPENDENT   IN_LANES_(LANES)
#elif defined(__clang__) && !defined(__OPENCL_C_VERSION__)
#define INDEPENDENT _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__) && !defined(__OPENCL_C_VERSION__)
#define INDEPENDENT _Pragma("GCC ivdep")
#else
#define INDEPENDENT
#endif
#ifdef __clang__
#pragma clang diagnostic ignored "-Wpass-failed" /* a loop left scalar is no one's error */
#endif

#define i_min(a, b) ((a) < (b) ? (a) : (b))
#define i_max(a, b) ((a) > (b) ? (a) : (b))

#endif
