/* The vector unit in a handful of names, for kernels that keep a register tile: OpenCL's floatN, the compiler's
 * intrinsics, or plain float. LANES floats a lane; MR rows of two lanes are a tile that fits the registers:
 * MR * 2 accumulators, two lanes of the panel and one broadcast.
 *
 * lane_madd is a fused multiply-add wherever the instruction set has one. */
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

#elif defined(__AVX512F__)

#include <immintrin.h>
#define LANES              16
#define MR                 8
typedef __m512 lane;
#define lane_load(p)       _mm512_loadu_ps(p)
#define lane_store(p, v)   _mm512_storeu_ps(p, v)
#define lane_splat(x)      _mm512_set1_ps(x)
#define lane_madd(a, b, c) _mm512_fmadd_ps(a, b, c)

#elif defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>
#define LANES              8
#define MR                 6
typedef __m256 lane;
#define lane_load(p)       _mm256_loadu_ps(p)
#define lane_store(p, v)   _mm256_storeu_ps(p, v)
#define lane_splat(x)      _mm256_set1_ps(x)
#define lane_madd(a, b, c) _mm256_fmadd_ps(a, b, c)

#elif defined(__SSE2__)

#include <emmintrin.h>
#define LANES              4
#define MR                 6
typedef __m128 lane;
#define lane_load(p)       _mm_loadu_ps(p)
#define lane_store(p, v)   _mm_storeu_ps(p, v)
#define lane_splat(x)      _mm_set1_ps(x)
#define lane_madd(a, b, c) _mm_add_ps(_mm_mul_ps(a, b), c)

#elif defined(__ARM_NEON)

#include <arm_neon.h>
#define LANES              4
#define MR                 8
typedef float32x4_t lane;
#define lane_load(p)       vld1q_f32(p)
#define lane_store(p, v)   vst1q_f32(p, v)
#define lane_splat(x)      vdupq_n_f32(x)
#define lane_madd(a, b, c) vfmaq_f32(c, a, b)

#else

#define LANES              1
#define MR                 4
typedef float lane;
#define lane_load(p)       (*(p))
#define lane_store(p, v)   (*(p) = (v))
#define lane_splat(x)      (x)
#define lane_madd(a, b, c) ((a) * (b) + (c))

#endif

/* OpenCL and the C compilers that have the intrinsics know + - * on their vectors. */
#define lane_add(a, b) ((a) + (b))
#define lane_sub(a, b) ((a) - (b))
#define lane_mul(a, b) ((a) * (b))

#define NR (2 * LANES)

/* ROWS(X): X(0) ... X(MR - 1), so that a tile's accumulators are named variables and stay in registers. */
#if MR == 8
#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#elif MR == 6
#define ROWS(X) X(0) X(1) X(2) X(3) X(4) X(5)
#else
#define ROWS(X) X(0) X(1) X(2) X(3)
#endif

#endif
