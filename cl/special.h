/* exp, the logistic function and the normal distribution, in float32.
 *
 * Made of + - * /, comparisons and integers alone: compilers vectorise them in a loop, which a call of a library would
 * end, and every device has the same formula. u = 2^-24. Bounds hold with a b + c fused or not and with a division of
 * 2.5 ulp (5 u), which OpenCL allows. NaN gives NaN. Results below 2^-126 may be flushed.
 *
 * f_exp. Outside -87 .. 87 it gives the value there, so neither it nor its inverse leaves the normal numbers: sums with
 * 1 and products with the argument (the functions below) are then right to 2^-125 times the argument. x = k ln 2 + r,
 * |r| <= ln 2 / 2, ln 2 in two parts, of which k times the larger is exact and so is x minus that. r errs by u |r| and
 * 2^-31: exp(r) by 0.35 u and a bit. exp(r) = 1 + t, t = r + r^2 P(r), P minimax (Remez), off by 0.07 u; t errs by 2 u
 * |t| <= 0.83 u, the last sum rounds once, and exp(r) >= 0.707 turns absolute into relative errors: |f_exp / exp - 1|
 * <= 3 u (tests/unit/test_special.c: all of one octave, and samples of the rest).
 */
#ifndef SPECIAL_H
#define SPECIAL_H

#include "kernel.h"

/* For x from -87 to 88 only; beyond that nothing is promised but that a NaN stays one. */
static inline float f_exp_within(const float within)
{
    const float shifted = f_madd(within, 0x1.715476p+0f, 0x1.8p+23f); /* its low bits are the nearest integer */
    const float k = shifted - 0x1.8p+23f;
    const float r = f_madd(k, -0x1.7f7d1cp-20f, f_madd(k, -0x1.62e4p-1f, within));
    float p = 0x1.6a2416p-10f;
    p = f_madd(p, r, 0x1.1239f4p-7f);
    p = f_madd(p, r, 0x1.5558f2p-5f);
    p = f_madd(p, r, 0x1.555492p-3f);
    p = f_madd(p, r, 0x1.fffffcp-2f);
    /* A product, not a sum in the exponent: a NaN must stay one. */
    return (1.0f + f_madd(r * r, p, r)) * bits_to_float((float_to_bits(shifted) + 127u) << 23);
}

static inline float f_exp(const float x)
{
    return f_exp_within(x > 87.0f ? 87.0f : x < -87.0f ? -87.0f : x);
}

/* 1 / (1 + exp(-x)), within 9 u of itself: 1 + exp(-x) has 4 u. */
static inline float f_sigmoid(const float x)
{
    return 1.0f / (1.0f + f_exp(-x));
}

/* x sigmoid(x), within 9 u of itself. */
static inline float f_silu(const float x)
{
    return x / (1.0f + f_exp(-x));
}

/* Its derivative s (1 + q), s = sigmoid(x), q = x (1 - s) = x s exp(-x), within u s (14 |q| + 11 |1 + q|). */
static inline float f_silu_slope(const float x)
{
    const float e = f_exp(-x), s = 1.0f / (1.0f + e);
    return s * f_madd(x * s, e, 1.0f); /* x s first: x e could overflow */
}

/* The distribution function of the normal distribution, and its density exp(-x^2 / 2) / sqrt(2 pi) into *density.
 *
 * With a = |x| the tail beyond a is exp(-a^2 / 2) g(a), g = exp(a^2 / 2) erfc(a / sqrt 2) / 2, and g = t Q(t), t = 1 /
 * (1 + 0.375 a), is smooth for t in 0 .. 1, a polynomial found by Remez' method for a up to 13.2, where the exponent
 * ends; off by 2 u. The exponent errs by u a^2 / 2, t by 7 u, g by at most 2.2 times that and 4 u; so the tail is
 * within u (26 + a^2 / 2) of itself, above 0 the result within that of the tail and one rounding; the density is within
 * u (5 + a^2 / 2) of itself. */
static inline float f_normal(const float x, float *density)
{
    const float a = f_abs(x), e = f_exp(-0.5f * a * a), t = 1.0f / f_madd(a, 0.375f, 1.0f);
    float q = -0x1.acf286p-6f;
    q = f_madd(q, t, 0x1.b10d18p-4f);
    q = f_madd(q, t, -0x1.01a45ap-3f);
    q = f_madd(q, t, -0x1.cf2aa6p-7f);
    q = f_madd(q, t, 0x1.d0fcd6p-5f);
    q = f_madd(q, t, 0x1.2a33b8p-4f);
    q = f_madd(q, t, 0x1.0e6742p-3f);
    q = f_madd(q, t, 0x1.317fe2p-3f);
    q = f_madd(q, t, 0x1.326e8cp-3f);
    const float tail = e * (t * q);
    *density = 0x1.988454p-2f * e;
    return x < 0.0f ? tail : 1.0f - tail;
}

#endif
