/* The vector unit in a handful of names, for kernels that keep a register tile: OpenCL's floatN, the compiler's
 * intrinsics, or plain float. LANES floats a lane; MR rows of two lanes are a tile that fits the registers:
 * MR * 2 accumulators, two lanes of the panel and one broadcast.
 *
 * lane_madd is a fused multiply-add wherever the instruction set has one; lane_relu is x < 0 ? 0 : x, so NaN stays (the
 * maximum of 0 and x gives x, its second operand, where one is NaN). */
#ifndef LANE_H
#define LANE_H

#include "kernel.h"

#ifdef __OPENCL_C_VERSION__

#ifndef LANES
#define LANES 16
#endif
#if LANES == 16
typedef float16 lane;
#define lane_load(p)     vload16(0, p)
#define lane_store(p, v) vstore16(v, 0, p)
#define MR               8
#elif LANES == 8
typedef float8 lane;
#define lane_load(p)     vload8(0, p)
#define lane_store(p, v) vstore8(v, 0, p)
#define MR               6
#elif LANES == 4
typedef float4 lane;
#define lane_load(p)     vload4(0, p)
#define lane_store(p, v) vstore4(v, 0, p)
#define MR               6
#elif LANES == 1
typedef float lane;
#define lane_load(p)     (*(p))
#define lane_store(p, v) (*(p) = (v))
#define MR               4
#else
#error "LANES is 1, 4, 8 or 16: the host packs panels of 2 LANES columns"
#endif
#define lane_splat(x)      ((lane)(x))
#define lane_madd(a, b, c) ((a) * (b) + (c)) /* contraction is on by default in OpenCL C */
#if LANES > 1 && defined(__clang__) && defined(__x86_64__)
/* PoCL's vstore is three stores of parts, and a lane that is loaded soon after would wait until all are in the cache.
 */
typedef lane lane_anywhere __attribute__((aligned(4)));
static void __attribute__((overloadable)) lane_put(__global float *p, const lane v)
{
    *(__global lane_anywhere *)p = v;
}
static void __attribute__((overloadable)) lane_put(__private float *p, const lane v)
{
    *(__private lane_anywhere *)p = v;
}
#undef lane_store
#define lane_store(p, v) lane_put(p, v)
#endif
#if LANES == 4 /* the same, which Oclgrind can follow: half a vector is a shuffle with places that mean nothing */
#define lane_even(a, b) ((lane)((a).s0, (a).s2, (b).s0, (b).s2))
#define lane_odd(a, b)  ((lane)((a).s1, (a).s3, (b).s1, (b).s3))
#elif LANES > 1
#define lane_even(a, b) ((lane)((a).even, (b).even))
#define lane_odd(a, b)  ((lane)((a).odd, (b).odd))
#endif
#define lane_relu(x) ((x) < 0.0f ? lane_splat(0.0f) : (x))

#elif defined(__AVX512F__)

#include <immintrin.h>
#define LANES              16
#define MR                 8
typedef __m512 lane;
#define lane_load(p)       _mm512_loadu_ps(p)
#define lane_store(p, v)   _mm512_storeu_ps(p, v)
#define lane_splat(x)      _mm512_set1_ps(x)
#define lane_madd(a, b, c) _mm512_fmadd_ps(a, b, c)
#define lane_even(a, b)                                                                                                \
    _mm512_permutex2var_ps(a, _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30), b)
#define lane_odd(a, b)                                                                                                 \
    _mm512_permutex2var_ps(a, _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31), b)
#define lane_relu(x) _mm512_max_ps(_mm512_setzero_ps(), x)

#elif defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>
#define LANES              8
#define MR                 6
typedef __m256 lane;
#define lane_load(p)       _mm256_loadu_ps(p)
#define lane_store(p, v)   _mm256_storeu_ps(p, v)
#define lane_splat(x)      _mm256_set1_ps(x)
#define lane_madd(a, b, c) _mm256_fmadd_ps(a, b, c)
#define lane_quarters_(v)  _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xd8))
#define lane_even(a, b)    lane_quarters_(_mm256_shuffle_ps(a, b, 0x88))
#define lane_odd(a, b)     lane_quarters_(_mm256_shuffle_ps(a, b, 0xdd))
#define lane_relu(x)       _mm256_max_ps(_mm256_setzero_ps(), x)

#elif defined(__SSE2__)

#include <emmintrin.h>
#define LANES              4
#define MR                 6
typedef __m128 lane;
#define lane_load(p)       _mm_loadu_ps(p)
#define lane_store(p, v)   _mm_storeu_ps(p, v)
#define lane_splat(x)      _mm_set1_ps(x)
#define lane_madd(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)
#define lane_even(a, b)    _mm_shuffle_ps(a, b, 0x88)
#define lane_odd(a, b)     _mm_shuffle_ps(a, b, 0xdd)
#define lane_relu(x)       _mm_max_ps(_mm_setzero_ps(), x)

#elif defined(__ARM_NEON)

#include <arm_neon.h>
#define LANES              4
#define MR                 8
typedef float32x4_t lane;
#define lane_load(p)       vld1q_f32(p)
#define lane_store(p, v)   vst1q_f32(p, v)
#define lane_splat(x)      vdupq_n_f32(x)
#define lane_madd(a, b, c) vfmaq_f32(c, a, b)
#define lane_even(a, b)    vuzpq_f32(a, b).val[0]
#define lane_odd(a, b)     vuzpq_f32(a, b).val[1]
#define lane_relu(x)       vbslq_f32(vcltq_f32(x, vdupq_n_f32(0.0f)), vdupq_n_f32(0.0f), x)

#else

#define LANES              1
#define MR                 4
typedef float lane;
#define lane_load(p)       (*(p))
#define lane_store(p, v)   (*(p) = (v))
#define lane_splat(x)      (x)
#define lane_madd(a, b, c) ((a) * (b) + (c))
#define lane_relu(x)       ((x) < 0.0f ? 0.0f : (x))

#endif

/* OpenCL and the C compilers that have the intrinsics know + - * on their vectors. */
#define lane_add(a, b) ((a) + (b))
#define lane_sub(a, b) ((a) - (b))
#define lane_mul(a, b) ((a) * (b))

/* r[i][j] = r[j][i] of LANES lanes. The position of a float is the word (i, j) of two indices' bits; every round turns
 * it by one. */
static inline void lane_transpose(lane *r)
{
#if LANES > 1
    for (int bits = LANES; bits > 1; bits /= 2) {
        lane even[LANES / 2], odd[LANES / 2];
        for (int i = 0; i < LANES / 2; i++) {
            even[i] = lane_even(r[2 * i], r[2 * i + 1]);
            odd[i] = lane_odd(r[2 * i], r[2 * i + 1]);
        }
        for (int i = 0; i < LANES / 2; i++) {
            r[i] = even[i];
            r[i + LANES / 2] = odd[i];
        }
    }
#else
    (void)r;
#endif
}

/* The sum of each of LANES lanes, as one lane. They are overwritten. */
static inline lane lane_sums(lane *r)
{
#if LANES > 1
    for (int count = LANES; count > 1; count /= 2)
        for (int i = 0; i < count / 2; i++)
            r[i] = lane_add(lane_even(r[2 * i], r[2 * i + 1]), lane_odd(r[2 * i], r[2 * i + 1]));
#endif
    return r[0];
}

/* Said of the line at p, which need not exist, a few hundred cycles before it is read or written. lane_later_read: long
 * before, for the second-level cache. */
#if defined(__OPENCL_C_VERSION__) && defined(__clang__) && (defined(__x86_64__) || defined(__aarch64__))
#define lane_soon_read(p)    __builtin_prefetch((const void *)(size_t)(p), 0)
#define lane_later_read(p)   __builtin_prefetch((const void *)(size_t)(p), 0, 2)
#define lane_soon_written(p) __builtin_prefetch((const void *)(size_t)(p), 1)
#elif defined(__GNUC__) && !defined(__OPENCL_C_VERSION__)
#define lane_soon_read(p)    __builtin_prefetch(p, 0)
#define lane_later_read(p)   __builtin_prefetch(p, 0, 2)
#define lane_soon_written(p) __builtin_prefetch(p, 1)
#else
#define lane_soon_read(p)
#define lane_later_read(p)
#define lane_soon_written(p)
#endif

#define NR (2 * LANES)

/* The fewest floats that are both whole lanes and whole rows of a tile. */
#if LANES % MR == 0
#define LINES LANES
#elif LANES == 8
#define LINES 24
#elif MR % LANES == 0
#define LINES MR
#else
#define LINES 12
#endif

/* ROWS(X): X(0) ... X(MR - 1), so that a tile's accumulators are named variables and stay in registers. */
#if MR == 8
#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#elif MR == 6
#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#else
#define ROWS(X) X(0) X(1) X(2) X(3)
#endif

/* lane_stream(p, v) stores a lane past the caches: for results that these have lost before they are read, since lines
 * that are not in a cache are otherwise read before they are written. Only for whole lines, written at once, a lane
 * (LANES_ARE_LINES) or the two of a panel's row (PAIRS_ARE_LINES), at a multiple of one (line_begins): parts of a line
 * go to memory one by one, two to four times as slow as plain stores. A kernel that did so ends with lane_stream_end(),
 * before which others may not see it. */
#define LINE_FLOATS     16 /* of a cache line */
#define LANES_ARE_LINES (LANES % LINE_FLOATS == 0)
#define PAIRS_ARE_LINES (NR % LINE_FLOATS == 0)
#define line_begins(p)  ((size_t)(p) % (sizeof(float) * LINE_FLOATS) == 0)
#define lane_leave(p, v, past)                                                                                         \
    do {                                                                                                               \
        if (past)                                                                                                      \
            lane_stream(p, v);                                                                                         \
        else                                                                                                           \
            lane_store(p, v);                                                                                          \
    } while (0)
#if LANES > 1 && defined(__OPENCL_C_VERSION__) && defined(__clang__) && defined(__x86_64__)
#define lane_stream(p, v) __builtin_nontemporal_store(v, (__global lane *)(p))
#define lane_stream_end() __builtin_ia32_sfence()
#elif !defined(__OPENCL_C_VERSION__) && defined(__SSE2__)
#if LANES == 16
#define lane_stream(p, v) _mm512_stream_ps(p, v)
#elif LANES == 8
#define lane_stream(p, v) _mm256_stream_ps(p, v)
#else
#define lane_stream(p, v) _mm_stream_ps(p, v)
#endif
#define lane_stream_end() _mm_sfence()
#else
#define lane_stream(p, v) lane_store(p, v)
#define lane_stream_end()
#endif

#endif
