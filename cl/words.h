/* Vectors of LANES 32-bit integers in a handful of names, as lane.h has floats: OpenCL's uintN, the compiler's
 * intrinsics, or plain uint. words_product gives both halves of 32 by 32 bits; words_keep is the lane that has `value`
 * where v >= least (unsigned), else 0. */
#ifndef WORDS_H
#define WORDS_H

#include "lane.h"

#ifdef __OPENCL_C_VERSION__

#if LANES == 16
typedef uint16 words;
typedef ulong8 pairs;
#define as_pairs(v)                 as_ulong8(v)
#define as_words(v)                 as_uint16(v)
#define words_load(p)               vload16(0, p)
#define words_store(p, v)           vstore16(v, 0, p)
#define words_keep(v, least, value) as_float16(as_uint16(lane_splat(value)) & as_uint16((v) >= words_splat(least)))
#elif LANES == 8
typedef uint8 words;
typedef ulong4 pairs;
#define as_pairs(v)                 as_ulong4(v)
#define as_words(v)                 as_uint8(v)
#define words_load(p)               vload8(0, p)
#define words_store(p, v)           vstore8(v, 0, p)
#define words_keep(v, least, value) as_float8(as_uint8(lane_splat(value)) & as_uint8((v) >= words_splat(least)))
#elif LANES == 4
typedef uint4 words;
typedef ulong2 pairs;
#define as_pairs(v)                 as_ulong2(v)
#define as_words(v)                 as_uint4(v)
#define words_load(p)               vload4(0, p)
#define words_store(p, v)           vstore4(v, 0, p)
#define words_keep(v, least, value) as_float4(as_uint4(lane_splat(value)) & as_uint4((v) >= words_splat(least)))
#else
typedef uint words;
#define words_load(p)               (*(p))
#define words_store(p, v)           (*(p) = (v))
#define words_keep(v, least, value) ((v) >= (least) ? (value) : 0.0f)
#endif
#define words_splat(x)     ((words)(x))
#define words_xor(a, b, c) ((a) ^ (b) ^ (c))
#if LANES > 1 && defined(__clang__) && defined(__x86_64__)
/* PoCL's mul_hi is made of products of 16 bits; these are one instruction each. For the store see lane_put: words are
 * kept in private arrays only. */
typedef words words_anywhere __attribute__((aligned(4)));
#undef words_store
#define words_store(p, v) (*(__private words_anywhere *)(p) = (v))
#define words_product(v, k, high, low)                                                                                 \
    {                                                                                                                  \
        const pairs even = (as_pairs(v) & 0xffffffffUL) * (ulong)(k), odd = (as_pairs(v) >> 32) * (ulong)(k);          \
        high = as_words((even >> 32) | (odd & 0xffffffff00000000UL));                                                  \
        low = (v) * (k);                                                                                               \
    }
#else
#define words_product(v, k, high, low)                                                                                 \
    {                                                                                                                  \
        high = mul_hi(v, words_splat(k));                                                                              \
        low = (v) * (k);                                                                                               \
    }
#endif

#elif defined(__AVX512F__)

#include <immintrin.h>
typedef __m512i words;
#define words_load(p)      _mm512_loadu_si512(p)
#define words_store(p, v)  _mm512_storeu_si512(p, v)
#define words_splat(x)     _mm512_set1_epi32((int)(x))
#define words_xor(a, b, c) _mm512_ternarylogic_epi32(a, b, c, 0x96)
#define words_keep(v, least, value)                                                                                    \
    _mm512_maskz_mov_ps(_mm512_cmpge_epu32_mask(v, words_splat(least)), lane_splat(value))
#define words_product(v, k, high, low)                                                                                 \
    {                                                                                                                  \
        const words by = words_splat(k), even = _mm512_mul_epu32(v, by);                                               \
        const words odd = _mm512_mul_epu32(_mm512_srli_epi64(v, 32), by);                                              \
        low = _mm512_mullo_epi32(v, by);                                                                               \
        high = _mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);                                      \
    }

#elif defined(__AVX2__) && defined(__FMA__)

#include <immintrin.h>
typedef __m256i words;
#define words_load(p)      _mm256_loadu_si256((const __m256i *)(p))
#define words_store(p, v)  _mm256_storeu_si256((__m256i *)(p), v)
#define words_splat(x)     _mm256_set1_epi32((int)(x))
#define words_xor(a, b, c) _mm256_xor_si256(_mm256_xor_si256(a, b), c)
#define words_keep(v, least, value)                                                                                    \
    _mm256_andnot_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(words_splat((least) ^ 0x80000000u), words_flip(v))),       \
                     lane_splat(value))
#define words_flip(v) _mm256_xor_si256(v, words_splat(0x80000000u)) /* only signed numbers can be compared */
#define words_product(v, k, high, low)                                                                                 \
    {                                                                                                                  \
        const words by = words_splat(k), even = _mm256_mul_epu32(v, by);                                               \
        const words odd = _mm256_mul_epu32(_mm256_srli_epi64(v, 32), by);                                              \
        low = _mm256_mullo_epi32(v, by);                                                                               \
        high = _mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);                                             \
    }

#elif defined(__SSE2__)

#include <emmintrin.h>
typedef __m128i words;
#define words_load(p)      _mm_loadu_si128((const __m128i *)(p))
#define words_store(p, v)  _mm_storeu_si128((__m128i *)(p), v)
#define words_splat(x)     _mm_set1_epi32((int)(x))
#define words_xor(a, b, c) _mm_xor_si128(_mm_xor_si128(a, b), c)
#define words_keep(v, least, value)                                                                                    \
    _mm_andnot_ps(_mm_castsi128_ps(_mm_cmpgt_epi32(words_splat((least) ^ 0x80000000u), words_flip(v))),                \
                  lane_splat(value))
#define words_flip(v) _mm_xor_si128(v, words_splat(0x80000000u)) /* only signed numbers can be compared */
#define words_product(v, k, high, low)                                                                                 \
    {                                                                                                                  \
        const words by = words_splat(k), even = _mm_mul_epu32(v, by);                                                  \
        const words odd = _mm_mul_epu32(_mm_srli_epi64(v, 32), by);                                                    \
        low = _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0x88), _mm_shuffle_epi32(odd, 0x88));                         \
        high = _mm_unpacklo_epi32(_mm_shuffle_epi32(even, 0xdd), _mm_shuffle_epi32(odd, 0xdd));                        \
    }

#elif defined(__ARM_NEON)

#include <arm_neon.h>
typedef uint32x4_t words;
#define words_load(p)      vld1q_u32(p)
#define words_store(p, v)  vst1q_u32(p, v)
#define words_splat(x)     vdupq_n_u32(x)
#define words_xor(a, b, c) veorq_u32(veorq_u32(a, b), c)
#define words_keep(v, least, value)                                                                                    \
    vreinterpretq_f32_u32(vandq_u32(vcgeq_u32(v, words_splat(least)), vreinterpretq_u32_f32(lane_splat(value))))
#define words_product(v, k, high, low)                                                                                 \
    {                                                                                                                  \
        const words by = words_splat(k);                                                                               \
        const uint32x4_t first = vreinterpretq_u32_u64(vmull_u32(vget_low_u32(v), vget_low_u32(by)));                  \
        const uint32x4_t last = vreinterpretq_u32_u64(vmull_u32(vget_high_u32(v), vget_high_u32(by)));                 \
        low = vuzpq_u32(first, last).val[0];                                                                           \
        high = vuzpq_u32(first, last).val[1];                                                                          \
    }

#else

typedef uint words;
#define words_load(p)               (*(p))
#define words_store(p, v)           (*(p) = (v))
#define words_splat(x)              (x)
#define words_xor(a, b, c)          ((a) ^ (b) ^ (c))
#define words_keep(v, least, value) ((v) >= (least) ? (value) : 0.0f)
#define words_product(v, k, high, low)                                                                                 \
    {                                                                                                                  \
        high = mul_high(k, v);                                                                                         \
        low = (k) * (v);                                                                                               \
    }

#endif

#endif
