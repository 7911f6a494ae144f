/* Integers, normals and dropout's masks from Philox4x32-10, bit-equal on every device and to src/base/philox.c.
 *
 * A row (base/philox.h) is { key low, key high, number low, number high, purpose << 24 | sub, 0, 0, 0 }; block b of a
 * sample has the counter { b, row[2], row[3], row[4] } and gives four words x0..x3 for elements 4b .. 4b + 3, elements
 * counted in the order c, h, w. Storage is N H W C.
 *
 *   randint: the high word of x times bound.
 *   randn:   Box and Muller (1958): elements 4b, 4b + 1 = r(x0) cos(a(x1)), r(x0) sin(a(x1)); the next
 *            two from x2, x3;
 *            r(x) = sqrt(-2 ln v), a(x) = 2 pi v, v = (2 (x >> 9) + 1) 2^-24. |z| is at most sqrt(2 ln 2^24) = 5.77.
 *   dropout: an element is dropped where its word is below the threshold.
 *
 * Library functions, division and square root may differ in their last bits between devices, and so may a product and a
 * sum that are fused. So randn uses float + - * with fusing off, integers and exact conversions, and nothing else. No
 * intermediate value other than 0 is below 2^-126, so flushing denormals changes nothing. The polynomials are minimax
 * fits (Remez); z is within 1.3e-6 of the formula in double precision, for all 2^23 radii and 2^23 angles
 * (tests/unit/test_normals.c).
 *
 * An item does `grain` blocks of one sample, RANDOM_BLOCKS at a time in loops that a CPU's compiler vectorises; on a
 * GPU both are 1.
 */
#include "kernel.h"
#include "random.h"

#ifdef __OPENCL_C_VERSION__
#pragma OPENCL FP_CONTRACT OFF
#endif

#ifndef RANDOM_BLOCKS
#ifdef __OPENCL_C_VERSION__
#define RANDOM_BLOCKS 1
#else
#define RANDOM_BLOCKS 16
#endif
#endif
#if RANDOM_BLOCKS > 1
#include "words.h"
#endif

/* Block numbers x[0] .. become words: j of block number x[lane] at x[j * RANDOM_BLOCKS + lane]. `stream` is added to
 * the row's sub. */
static inline void random_blocks(uint *x, GLOBAL const uint *row, const uint stream)
{
#if RANDOM_BLOCKS == 1
    uint c0 = x[0], c1 = row[2], c2 = row[3], c3 = row[4] + stream, key0 = row[0], key1 = row[1];
    for (int round = 0; round < 10; round++) {
        const uint high0 = mul_high(0xD2511F53u, c0), high2 = mul_high(0xCD9E8D57u, c2);
        const uint low0 = 0xD2511F53u * c0, low2 = 0xCD9E8D57u * c2;
        c0 = high2 ^ c1 ^ key0;
        c1 = low2;
        c2 = high0 ^ c3 ^ key1;
        c3 = low0;
        key0 += 0x9E3779B9u;
        key1 += 0xBB67AE85u;
    }
    x[0] = c0;
    x[1] = c1;
    x[2] = c2;
    x[3] = c3;
#else
    for (int i = 0; i < RANDOM_BLOCKS; i += LANES) {
        words c0 = words_load(x + i), c1 = words_splat(row[2]), c2 = words_splat(row[3]);
        words c3 = words_splat(row[4] + stream);
        uint key0 = row[0], key1 = row[1];
        for (int round = 0; round < 10; round++) {
            words high0, low0, high2, low2;
            words_product(c0, 0xD2511F53u, high0, low0) words_product(c2, 0xCD9E8D57u, high2, low2) c0 =
                words_xor(high2, c1, words_splat(key0));
            c1 = low2;
            c2 = words_xor(high0, c3, words_splat(key1));
            c3 = low0;
            key0 += 0x9E3779B9u;
            key1 += 0xBB67AE85u;
        }
        words_store(x + i, c0);
        words_store(x + RANDOM_BLOCKS + i, c1);
        words_store(x + 2 * RANDOM_BLOCKS + i, c2);
        words_store(x + 3 * RANDOM_BLOCKS + i, c3);
    }
#endif
}

/* The words of blocks `first`, first + 1, .. */
static inline void random_words(uint *x, GLOBAL const uint *row, const uint first)
{
    for (int i = 0; i < RANDOM_BLOCKS; i++)
        x[i] = first + (uint)i;
    random_blocks(x, row, 0);
}

/* r(x). 2^24 v is an odd integer below 2^24, exact in float; it is split as m 2^e with m from sqrt(1/2) to sqrt(2), and
 * ln v = (e - 24) ln 2 + ln(1 + f), f = m - 1, ln(1 + f) = f - f^2 / 2 + f^3 P(f). */
static inline float random_radius(const uint x)
{
    const uint bits = float_to_bits((float)(int)(2u * (x >> 9) + 1u));
    const int e = (int)(bits - 0x3f3504f3u) >> 23;
    const float f = bits_to_float(bits - ((uint)e << 23)) - 1.0f, k = (float)(e - 24), q = f * f;
    float p = 0x1.1457c4p-4f;
    p = p * f - 0x1.de3c1cp-4f;
    p = p * f + 0x1.e6f062p-4f;
    p = p * f - 0x1.fc2206p-4f;
    p = p * f + 0x1.233768p-3f;
    p = p * f - 0x1.555c4ep-3f;
    p = p * f + 0x1.99a4b6p-3f;
    p = p * f - 0x1.000006p-2f;
    p = p * f + 0x1.555548p-2f;
    /* ln 2 is in two parts: k times the larger is exact. */
    const float small = (k * 0x1.7f7d1cp-20f + f * q * p) - 0.5f * q;
    const float s = -2.0f * (k * 0x1.62e4p-1f + (f + small));
    /* 1 / sqrt(s) from a guess in the exponent (Lomont 2003) and Newton, then sqrt(s) = s / sqrt(s), corrected once. */
    const float half_s = 0.5f * s;
    float y = bits_to_float(0x5f3759dfu - (float_to_bits(s) >> 1));
    y = y * (1.5f - half_s * y * y);
    y = y * (1.5f - half_s * y * y);
    y = y * (1.5f - half_s * y * y);
    const float r = s * y;
    return r + 0.5f * y * (s - r * r);
}

/* Sine and cosine of a(x): the nearest quarter turn, and pi/2 t with |t| <= 1/2 away from it. */
static inline void random_turn(const uint x, float *cosine, float *sine)
{
    const int v = (int)(2u * (x >> 9) + 1u), quarter = (v + 0x200000) >> 22;
    const float t = (float)(v - (quarter << 22)) * 0x1p-22f, q = t * t;
    const float s =
        t * 0x1.921fb6p+0f + t * (q * (-0x1.4abbc0p-1f + q * (0x1.466032p-4f - q * 0x1.2dd048p-8f)) - 0x1.777a5cp-25f);
    const float c = 1.0f + q * (-0x1.3bd3ccp+0f + q * (0x1.03c1dep-2f + q * (-0x1.55c664p-6f + q * 0x1.d9f7bcp-11f)));
    const int odd = quarter & 1;
    const float a = odd ? s : c, b = odd ? c : s;
    *cosine = (quarter + 1) & 2 ? -a : a;
    *sine = quarter & 2 ? -b : b;
}

/* Where an item's elements go. Walks c, h, w without divisions. */
struct random_place {
    int q, c; /* pixel, channel */
};

static inline struct random_place random_start(const struct random_args arg, const int block)
{
    struct random_place place;
    place.c = 4 * block / arg.pixels;
    place.q = 4 * block - place.c * arg.pixels;
    return place;
}

static inline struct random_place random_next(struct random_place place, const int pixels)
{
    place.q++;
    if (place.q == pixels) {
        place.q = 0;
        place.c++;
    }
    return place;
}

KERNEL2(randint, struct random_args, GLOBAL const uint *rows, GLOBAL int *dst)
{
    uint x[4 * RANDOM_BLOCKS];
    const int n = item / arg.pieces, first = item % arg.pieces * arg.grain,
              end = first + i_min(arg.grain, arg.blocks - first);
    GLOBAL int *to = dst + n * arg.channels * arg.pixels;
    struct random_place at = random_start(arg, first);
    for (int b = first; b < end; b += RANDOM_BLOCKS) {
        random_words(x, rows + 8 * n, (uint)b);
        const int lanes = RANDOM_BLOCKS == 1 ? 1 : i_min(RANDOM_BLOCKS, end - b); /* 1 keeps x in registers */
        for (int i = 0; i < lanes; i++)
            for (int j = 0; j < 4; j++) {
                if (at.c < arg.channels)
                    to[at.q * arg.channels + at.c] = (int)mul_high(x[j * RANDOM_BLOCKS + i], arg.bound);
                at = random_next(at, arg.pixels);
            }
    }
}

KERNEL2(randn, struct random_args, GLOBAL const uint *rows, GLOBAL float *dst)
{
    uint x[4 * RANDOM_BLOCKS];
    float z[4 * RANDOM_BLOCKS];
    const int n = item / arg.pieces, first = item % arg.pieces * arg.grain,
              end = first + i_min(arg.grain, arg.blocks - first);
    GLOBAL float *to = dst + n * arg.channels * arg.pixels;
    struct random_place at = random_start(arg, first);
    for (int b = first; b < end; b += RANDOM_BLOCKS) {
        random_words(x, rows + 8 * n, (uint)b);
        for (int pair = 0; pair < 4; pair += 2)
            for (int i = 0; i < RANDOM_BLOCKS; i++) {
                float cosine, sine;
                const float r = random_radius(x[pair * RANDOM_BLOCKS + i]);
                random_turn(x[(pair + 1) * RANDOM_BLOCKS + i], &cosine, &sine);
                z[pair * RANDOM_BLOCKS + i] = r * cosine;
                z[(pair + 1) * RANDOM_BLOCKS + i] = r * sine;
            }
        const int lanes = RANDOM_BLOCKS == 1 ? 1 : i_min(RANDOM_BLOCKS, end - b); /* 1 keeps x in registers */
        for (int i = 0; i < lanes; i++)
            for (int j = 0; j < 4; j++) {
                if (at.c < arg.channels)
                    to[at.q * arg.channels + at.c] = z[j * RANDOM_BLOCKS + i];
                at = random_next(at, arg.pixels);
            }
    }
}

/* `lanes` channels of one pixel. Multiplied, not chosen: NaN stays NaN. */
static inline void dropout_some(GLOBAL const float *src, GLOBAL float *dst, const uint *word, const uint threshold,
                                const float scale, const int lanes)
{
    for (int i = 0; i < lanes; i++)
        dst[i] = src[i] * (word[i] < threshold ? 0.0f : scale);
}

/* All RANDOM_BLOCKS of them. */
static inline void dropout_all(GLOBAL const float *src, GLOBAL float *dst, const uint *word, const uint threshold,
                               const float scale)
{
#if RANDOM_BLOCKS > 1
    for (int i = 0; i < RANDOM_BLOCKS; i += LANES)
        lane_store(dst + i, lane_mul(lane_load(src + i), words_keep(words_load(word + i), threshold, scale)));
#else
    dropout_some(src, dst, word, threshold, scale, 1);
#endif
}

/* Channel by channel through storage, RANDOM_BLOCKS channels side by side. Where samples have a multiple of four pixels
 * a block is four pixels of one channel, and each block is computed once; else (few pixels) once for each element. */
KERNEL3(dropout, struct dropout_args, GLOBAL const float *src, GLOBAL const uint *rows, GLOBAL float *dst)
{
    uint x[4 * RANDOM_BLOCKS], word[RANDOM_BLOCKS];
    const int n = item / arg.pieces, piece = item % arg.pieces, run = arg.pixels % 4 == 0 ? 4 : 1;
    const int c0 = piece % arg.blocks * arg.width, c1 = i_min(c0 + arg.width, arg.channels);
    const int q0 = piece / arg.blocks * arg.height, q1 = i_min(q0 + arg.height, arg.pixels);
    for (int q = q0; q < q1; q += run)
        for (int c = c0; c < c1; c += RANDOM_BLOCKS) {
            const int at = (n * arg.pixels + q) * arg.channels + c, lanes = i_min(RANDOM_BLOCKS, c1 - c);
            for (int i = 0; i < RANDOM_BLOCKS; i++)
                x[i] = ((uint)(c + i) * (uint)arg.pixels + (uint)q) / 4u;
            random_blocks(x, rows + 8 * n, arg.stream);
            for (int j = 0; j < run; j++) {
                GLOBAL const float *from = src + at + j * arg.channels;
                GLOBAL float *to = dst + at + j * arg.channels;
                const uint *own = x + j * RANDOM_BLOCKS;
                if (run == 1) {
                    for (int i = 0; i < RANDOM_BLOCKS; i++)
                        word[i] = x[((uint)(c + i) * (uint)arg.pixels + (uint)q) % 4u * RANDOM_BLOCKS + i];
                    own = word;
                }
                if (lanes == RANDOM_BLOCKS)
                    dropout_all(from, to, own, arg.threshold, arg.scale);
                else
                    dropout_some(from, to, own, arg.threshold, arg.scale, lanes);
            }
        }
}
