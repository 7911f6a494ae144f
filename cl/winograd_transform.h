/* The one-dimensional transforms of Winograd's minimal filtering, F(WINOGRAD_OUT, WINOGRAD_TAPS), on lanes; applied
 * along both sides of a tile they give the two-dimensional ones. Which one is said by two macros before this is
 * included:
 *
 *     OUT TAPS   side   points
 *      4    3      6    0, 1, -1, 2, -2, infinity
 *      2    3      4    0, 1, -1, infinity
 *      4    2      5    0, 1, -1, 2, infinity
 *
 * With the finite points a_i, M(x) the product of all x - a_i and N_i that of a_i - a_k over the others (Winograd,
 * "Arithmetic complexity of computations", 1980; Lavin and Gray, 2016): row i of B' holds the coefficients of
 * M(x) / (x - a_i), the last one those of M; row i of G is (1, a_i, a_i^2, ...) / N_i, the last one (0, ..., 0, 1);
 * column i of A' is (1, a_i, a_i^2, ...), the last one (0, ..., 0, 1). The weight gradient is F(TAPS, OUT): the same
 * B', a G for OUT values and an A' for TAPS.
 *
 *     INPUT_TRANSFORM(p, step)            side values at p, p + step, ... times B', in place
 *     FILTER_TRANSFORM(o, so, i, si)      TAPS values at i, i + si, ... to side values at o, o + so, ...
 *     SMALL_TRANSFORM(o, so, i, si)       OUT values to side values: the weight gradient's `small` tile
 *     OUTPUT_TRANSFORM(o, so, i, si)      side values to OUT
 *     GRADIENT_TRANSFORM(o, so, i, si)    side values to TAPS: the weight gradient
 *
 * Source and result may not overlap but for INPUT_TRANSFORM. */
#ifndef WINOGRAD_TRANSFORM_H
#define WINOGRAD_TRANSFORM_H

#include "lane.h"

#define WINOGRAD_SIDE   (WINOGRAD_OUT + WINOGRAD_TAPS - 1)
#define WINOGRAD_POINTS (WINOGRAD_SIDE * WINOGRAD_SIDE)

#if WINOGRAD_OUT == 4 && WINOGRAD_TAPS == 3

#define INPUT_TRANSFORM(p, step)                                                                                       \
    {                                                                                                                  \
        const lane d0 = (p)[0], d1 = (p)[step], d2 = (p)[2 * (step)], d3 = (p)[3 * (step)], d4 = (p)[4 * (step)];      \
        const lane even = lane_madd(lane_splat(-4.0f), d2, d4), odd = lane_madd(lane_splat(-4.0f), d1, d3);            \
        const lane low = lane_sub(d4, d2), high = lane_mul(lane_splat(2.0f), lane_sub(d3, d1));                        \
        (p)[0] = lane_madd(lane_splat(4.0f), d0, lane_madd(lane_splat(-5.0f), d2, d4));                                \
        (p)[5 * (step)] = lane_madd(lane_splat(4.0f), d1, lane_madd(lane_splat(-5.0f), d3, (p)[5 * (step)]));          \
        (p)[step] = lane_add(even, odd);                                                                               \
        (p)[2 * (step)] = lane_sub(even, odd);                                                                         \
        (p)[3 * (step)] = lane_add(low, high);                                                                         \
        (p)[4 * (step)] = lane_sub(low, high);                                                                         \
    }
#define FILTER_TRANSFORM(o, so, i, si)                                                                                 \
    {                                                                                                                  \
        const lane g0 = (i)[0], g1 = (i)[si], g2 = (i)[2 * (si)];                                                      \
        const lane outer = lane_mul(lane_splat(-1.0f / 6.0f), lane_add(g0, g2));                                       \
        const lane inner = lane_mul(lane_splat(-1.0f / 6.0f), g1);                                                     \
        const lane wide = lane_madd(lane_splat(1.0f / 24.0f), g0, lane_mul(lane_splat(1.0f / 6.0f), g2));              \
        const lane middle = lane_mul(lane_splat(1.0f / 12.0f), g1);                                                    \
        (o)[0] = lane_mul(lane_splat(0.25f), g0);                                                                      \
        (o)[so] = lane_add(outer, inner);                                                                              \
        (o)[2 * (so)] = lane_sub(outer, inner);                                                                        \
        (o)[3 * (so)] = lane_add(wide, middle);                                                                        \
        (o)[4 * (so)] = lane_sub(wide, middle);                                                                        \
        (o)[5 * (so)] = g2;                                                                                            \
    }
#define SMALL_TRANSFORM(o, so, i, si)                                                                                  \
    {                                                                                                                  \
        const lane w0 = (i)[0], w1 = (i)[si], w2 = (i)[2 * (si)], w3 = (i)[3 * (si)];                                  \
        const lane even = lane_add(w0, w2), odd = lane_add(w1, w3);                                                    \
        const lane even2 = lane_madd(lane_splat(4.0f), w2, w0);                                                        \
        const lane odd2 = lane_mul(lane_splat(2.0f), lane_madd(lane_splat(4.0f), w3, w1));                             \
        (o)[0] = lane_mul(lane_splat(0.25f), w0);                                                                      \
        (o)[so] = lane_mul(lane_splat(-1.0f / 6.0f), lane_add(even, odd));                                             \
        (o)[2 * (so)] = lane_mul(lane_splat(-1.0f / 6.0f), lane_sub(even, odd));                                       \
        (o)[3 * (so)] = lane_mul(lane_splat(1.0f / 24.0f), lane_add(even2, odd2));                                     \
        (o)[4 * (so)] = lane_mul(lane_splat(1.0f / 24.0f), lane_sub(even2, odd2));                                     \
        (o)[5 * (so)] = w3;                                                                                            \
    }
#define OUTPUT_TRANSFORM(o, so, i, si)                                                                                 \
    {                                                                                                                  \
        const lane s1 = lane_add((i)[si], (i)[2 * (si)]), s2 = lane_add((i)[3 * (si)], (i)[4 * (si)]);                 \
        const lane d1 = lane_sub((i)[si], (i)[2 * (si)]), d2 = lane_sub((i)[3 * (si)], (i)[4 * (si)]);                 \
        (o)[0] = lane_add((i)[0], lane_add(s1, s2));                                                                   \
        (o)[so] = lane_madd(lane_splat(2.0f), d2, d1);                                                                 \
        (o)[2 * (so)] = lane_madd(lane_splat(4.0f), s2, s1);                                                           \
        (o)[3 * (so)] = lane_add(lane_madd(lane_splat(8.0f), d2, d1), (i)[5 * (si)]);                                  \
    }
#define GRADIENT_TRANSFORM(o, so, i, si)                                                                               \
    {                                                                                                                  \
        const lane s1 = lane_add((i)[si], (i)[2 * (si)]), s2 = lane_add((i)[3 * (si)], (i)[4 * (si)]);                 \
        const lane d1 = lane_sub((i)[si], (i)[2 * (si)]), d2 = lane_sub((i)[3 * (si)], (i)[4 * (si)]);                 \
        (o)[0] = lane_add((i)[0], lane_add(s1, s2));                                                                   \
        (o)[so] = lane_madd(lane_splat(2.0f), d2, d1);                                                                 \
        (o)[2 * (so)] = lane_add(lane_madd(lane_splat(4.0f), s2, s1), (i)[5 * (si)]);                                  \
    }

#elif WINOGRAD_OUT == 2 && WINOGRAD_TAPS == 3

#define INPUT_TRANSFORM(p, step)                                                                                       \
    {                                                                                                                  \
        const lane d1 = (p)[step], d2 = (p)[2 * (step)];                                                               \
        (p)[0] = lane_sub(d2, (p)[0]);                                                                                 \
        (p)[3 * (step)] = lane_sub((p)[3 * (step)], d1);                                                               \
        (p)[step] = lane_add(d2, d1);                                                                                  \
        (p)[2 * (step)] = lane_sub(d2, d1);                                                                            \
    }
#define FILTER_TRANSFORM(o, so, i, si)                                                                                 \
    {                                                                                                                  \
        const lane g0 = (i)[0], g1 = (i)[si], g2 = (i)[2 * (si)];                                                      \
        const lane outer = lane_mul(lane_splat(0.5f), lane_add(g0, g2)), inner = lane_mul(lane_splat(0.5f), g1);       \
        (o)[0] = lane_sub(lane_splat(0.0f), g0);                                                                       \
        (o)[so] = lane_add(outer, inner);                                                                              \
        (o)[2 * (so)] = lane_sub(outer, inner);                                                                        \
        (o)[3 * (so)] = g2;                                                                                            \
    }
#define SMALL_TRANSFORM(o, so, i, si)                                                                                  \
    {                                                                                                                  \
        const lane w0 = (i)[0], w1 = (i)[si];                                                                          \
        (o)[0] = lane_sub(lane_splat(0.0f), w0);                                                                       \
        (o)[so] = lane_mul(lane_splat(0.5f), lane_add(w0, w1));                                                        \
        (o)[2 * (so)] = lane_mul(lane_splat(0.5f), lane_sub(w0, w1));                                                  \
        (o)[3 * (so)] = w1;                                                                                            \
    }
#define OUTPUT_TRANSFORM(o, so, i, si)                                                                                 \
    {                                                                                                                  \
        (o)[0] = lane_add((i)[0], lane_add((i)[si], (i)[2 * (si)]));                                                   \
        (o)[so] = lane_add(lane_sub((i)[si], (i)[2 * (si)]), (i)[3 * (si)]);                                           \
    }
#define GRADIENT_TRANSFORM(o, so, i, si)                                                                               \
    {                                                                                                                  \
        const lane s = lane_add((i)[si], (i)[2 * (si)]);                                                               \
        (o)[0] = lane_add((i)[0], s);                                                                                  \
        (o)[so] = lane_sub((i)[si], (i)[2 * (si)]);                                                                    \
        (o)[2 * (so)] = lane_add(s, (i)[3 * (si)]);                                                                    \
    }

#elif WINOGRAD_OUT == 4 && WINOGRAD_TAPS == 2

#define INPUT_TRANSFORM(p, step)                                                                                       \
    {                                                                                                                  \
        const lane d1 = (p)[step], d2 = (p)[2 * (step)], d3 = (p)[3 * (step)];                                         \
        const lane low = lane_sub(d3, d1), high = lane_sub(d3, d2);                                                    \
        (p)[0] = lane_madd(lane_splat(2.0f), lane_sub((p)[0], d2), low);                                               \
        (p)[4 * (step)] = lane_madd(lane_splat(-2.0f), low, lane_sub((p)[4 * (step)], d2));                            \
        (p)[step] = lane_madd(lane_splat(-2.0f), d1, high);                                                            \
        (p)[2 * (step)] = lane_madd(lane_splat(2.0f), lane_sub(d1, d2), high);                                         \
        (p)[3 * (step)] = low;                                                                                         \
    }
#define FILTER_TRANSFORM(o, so, i, si)                                                                                 \
    {                                                                                                                  \
        const lane g0 = (i)[0], g1 = (i)[si];                                                                          \
        (o)[0] = lane_mul(lane_splat(0.5f), g0);                                                                       \
        (o)[so] = lane_mul(lane_splat(-0.5f), lane_add(g0, g1));                                                       \
        (o)[2 * (so)] = lane_mul(lane_splat(-1.0f / 6.0f), lane_sub(g0, g1));                                          \
        (o)[3 * (so)] = lane_mul(lane_splat(1.0f / 6.0f), lane_madd(lane_splat(2.0f), g1, g0));                        \
        (o)[4 * (so)] = g1;                                                                                            \
    }
#define SMALL_TRANSFORM(o, so, i, si)                                                                                  \
    {                                                                                                                  \
        const lane w0 = (i)[0], w1 = (i)[si], w2 = (i)[2 * (si)], w3 = (i)[3 * (si)];                                  \
        const lane even = lane_add(w0, w2), odd = lane_add(w1, w3);                                                    \
        const lane even2 = lane_madd(lane_splat(4.0f), w2, w0), odd2 = lane_madd(lane_splat(4.0f), w3, w1);            \
        (o)[0] = lane_mul(lane_splat(0.5f), w0);                                                                       \
        (o)[so] = lane_mul(lane_splat(-0.5f), lane_add(even, odd));                                                    \
        (o)[2 * (so)] = lane_mul(lane_splat(-1.0f / 6.0f), lane_sub(even, odd));                                       \
        (o)[3 * (so)] = lane_mul(lane_splat(1.0f / 6.0f), lane_madd(lane_splat(2.0f), odd2, even2));                   \
        (o)[4 * (so)] = w3;                                                                                            \
    }
#define OUTPUT_TRANSFORM(o, so, i, si)                                                                                 \
    {                                                                                                                  \
        const lane s1 = lane_add((i)[si], (i)[2 * (si)]), d1 = lane_sub((i)[si], (i)[2 * (si)]), m3 = (i)[3 * (si)];   \
        (o)[0] = lane_add((i)[0], lane_add(s1, m3));                                                                   \
        (o)[so] = lane_madd(lane_splat(2.0f), m3, d1);                                                                 \
        (o)[2 * (so)] = lane_madd(lane_splat(4.0f), m3, s1);                                                           \
        (o)[3 * (so)] = lane_add(lane_madd(lane_splat(8.0f), m3, d1), (i)[4 * (si)]);                                  \
    }
#define GRADIENT_TRANSFORM(o, so, i, si)                                                                               \
    {                                                                                                                  \
        const lane s1 = lane_add((i)[si], (i)[2 * (si)]), d1 = lane_sub((i)[si], (i)[2 * (si)]), m3 = (i)[3 * (si)];   \
        (o)[0] = lane_add((i)[0], lane_add(s1, m3));                                                                   \
        (o)[so] = lane_add(lane_madd(lane_splat(2.0f), m3, d1), (i)[4 * (si)]);                                        \
    }

#else
#error "no such transform"
#endif

#endif
