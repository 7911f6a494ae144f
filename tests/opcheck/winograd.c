/* What a Winograd candidate may be off by.
 *
 * y = A' [ sum over c of U . V ] A with U = G g G' and V = B' d B, every product and sum rounded (u = 2^-24). Roundings
 * being as good as random, independent errors add up by their squares. For one of the 36 points:
 *
 *   transforms     V is the result of two passes of at most 4 roundings, each at most u times what the absolute values
 * give, so it is off by about sqrt(8) u |B'| |d| |B|; U by sqrt(8) u |G| |g| |G'| (1/6, 1/12, 1/24 being rounded too)
 *   products       summed over c (over tiles for the weight gradient): n + 1 roundings, sqrt(n + 1) u sum |U| |V|
 *   back           two passes of at most 5 roundings: sqrt(10) u sum |U| |V| at the point, before A scales it
 *
 *   e = u [ (sqrt(n + 1) + sqrt(10)) sum |U| |V| + sqrt(8) sum ( |G||g||G'| |V| + |U| |B'||d||B| ) ]
 *
 * and an output is off by the root of the sum over points of (its coefficient in A . e)^2. Asked for is c = 6 times
 * that, and u |y| for the last rounding. It is some ten times the direct method's bound: the price of F(4x4, 3x3). */
#include <stdlib.h>
#include <string.h>

#include "opcheck.h"

enum { SIDE = 6, POINTS = SIDE * SIDE };

/* B', G for filters of 3 and of 4, A' for outputs of 4 and of 3, rows of SIDE: points 0, 1, -1, 2, -2, infinity. */
static const double in_matrix[] = {4, 0,  -5, 0, 1, 0, 0, -4, -4, 1,  1, 0, 0, 4, -4, -1, 1, 0,
                                   0, -2, -1, 2, 1, 0, 0, 2,  -1, -2, 1, 0, 0, 4, 0,  -5, 0, 1};
static const double filter3[] = {1. / 4,  0,        0,       0, 0, 0, -1. / 6, -1. / 6, -1. / 6, 0, 0, 0,
                                 -1. / 6, 1. / 6,   -1. / 6, 0, 0, 0, 1. / 24, 1. / 12, 1. / 6,  0, 0, 0,
                                 1. / 24, -1. / 12, 1. / 6,  0, 0, 0, 0,       0,       1,       0, 0, 0};
static const double filter4[] = {1. / 4,  0,        0,       0,       0, 0, -1. / 6, -1. / 6, -1. / 6, -1. / 6, 0, 0,
                                 -1. / 6, 1. / 6,   -1. / 6, 1. / 6,  0, 0, 1. / 24, 1. / 12, 1. / 6,  1. / 3,  0, 0,
                                 1. / 24, -1. / 12, 1. / 6,  -1. / 3, 0, 0, 0,       0,       0,       1,       0, 0};
static const double out4[] = {1, 1, 1, 1, 1, 0, 0, 1, -1, 2, -2, 0, 0, 1, 1, 4, 4, 0, 0, 1, -1, 8, -8, 1};
static const double out3[] = {1, 1, 1, 1, 1, 0, 0, 1, -1, 2, -2, 0, 0, 1, 1, 4, 4, 1};

/* A transformed tile: what it is, and what absolute values everywhere give. */
typedef struct transformed {
    double value[POINTS], size[POINTS];
} transformed;

/* M from M': M is `rows` x `columns`, `from` columns x columns. */
static transformed transform(const double *matrix, int columns, const double *from)
{
    transformed t;
    double half[POINTS], half_size[POINTS];
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < columns; j++) {
            half[i * SIDE + j] = half_size[i * SIDE + j] = 0;
            for (int k = 0; k < columns; k++) {
                const double term = matrix[i * SIDE + k] * from[k * columns + j];
                half[i * SIDE + j] += term;
                half_size[i * SIDE + j] += fabs(term);
            }
        }
    for (int i = 0; i < SIDE; i++)
        for (int j = 0; j < SIDE; j++) {
            t.value[i * SIDE + j] = t.size[i * SIDE + j] = 0;
            for (int k = 0; k < columns; k++) {
                t.value[i * SIDE + j] += half[i * SIDE + k] * matrix[j * SIDE + k];
                t.size[i * SIDE + j] += half_size[i * SIDE + k] * fabs(matrix[j * SIDE + k]);
            }
        }
    return t;
}

/* sum |U| |V| and sum (|U|~ |V| + |U| |V|~) of each point. */
typedef struct products {
    double sum[POINTS], transforms[POINTS];
} products;

static void add_products(products *p, const transformed *u, const transformed *v)
{
    for (int e = 0; e < POINTS; e++) {
        p->sum[e] += fabs(u->value[e]) * fabs(v->value[e]);
        p->transforms[e] += u->size[e] * fabs(v->value[e]) + fabs(u->value[e]) * v->size[e];
    }
}

/* The error, in standard deviations of one, of output (i, j) of A' M A. */
static double output_error(const products *p, double terms, const double *matrix, int i, int j)
{
    double square = 0;
    for (int e = 0; e < POINTS; e++) {
        const double error = (sqrt(terms + 1) + sqrt(10)) * p->sum[e] + sqrt(8) * p->transforms[e];
        const double scale = matrix[i * SIDE + e / SIDE] * matrix[j * SIDE + e % SIDE];
        square += scale * scale * error * error;
    }
    return OC_U * sqrt(square);
}

static double at(const double *data, lun_shape s, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return h < 0 || h >= s.h || w < 0 || w >= s.w ? 0 : data[((n * s.c + c) * s.h + h) * s.w + w];
}

static transformed input_tile(const double *data, lun_shape s, int64_t n, int64_t c, int64_t y, int64_t x)
{
    double d[POINTS];
    for (int i = 0; i < POINTS; i++)
        d[i] = at(data, s, n, c, y + i / SIDE, x + i % SIDE);
    return transform(in_matrix, SIDE, d);
}

static void gather_error(const oc_case *c, double *error)
{
    const bool transposed = c->op.kind == LUN_OP_CONV2D_TRANSPOSE;
    const lun_conv_attrs a = c->op.attrs.conv;
    const lun_shape src = c->op.src[0].shape, filter = c->op.src[1].shape, dst = c->op.dst[0].shape;
    /* The data gradient is the convolution with the filter turned round and its channels exchanged. */
    const int64_t pad_h = transposed ? 2 - a.pad_h : a.pad_h, pad_w = transposed ? 2 - a.pad_w : a.pad_w;
    transformed *u = oc_alloc((size_t)(dst.c * src.c), sizeof *u), *v = oc_alloc((size_t)src.c, sizeof *v);
    for (int64_t k = 0; k < dst.c; k++)
        for (int64_t ch = 0; ch < src.c; ch++) {
            double g[9];
            for (int t = 0; t < 9; t++)
                g[t] = transposed ? at(c->src[1], filter, ch, k, 2 - t / 3, 2 - t % 3)
                                  : at(c->src[1], filter, k, ch, t / 3, t % 3);
            u[k * src.c + ch] = transform(filter3, 3, g);
        }
    for (int64_t n = 0; n < dst.n; n++)
        for (int64_t y = 0; y < dst.h; y += 4)
            for (int64_t x = 0; x < dst.w; x += 4) {
                for (int64_t ch = 0; ch < src.c; ch++)
                    v[ch] = input_tile(c->src[0], src, n, ch, y - pad_h, x - pad_w);
                for (int64_t k = 0; k < dst.c; k++) {
                    products p = {{0}, {0}};
                    for (int64_t ch = 0; ch < src.c; ch++)
                        add_products(&p, &u[k * src.c + ch], &v[ch]);
                    const double bias = c->op.nsrc > 2 ? OC_U * fabs(c->src[2][k]) : 0;
                    for (int i = 0; i < 16; i++)
                        if (y + i / 4 < dst.h && x + i % 4 < dst.w)
                            error[((n * dst.c + k) * dst.h + y + i / 4) * dst.w + x + i % 4] =
                                output_error(&p, (double)src.c, out4, i / 4, i % 4) + bias;
                }
            }
    free(u);
    free(v);
}

static void wgrad_error(const oc_case *c, double *error)
{
    const lun_conv_attrs a = c->op.attrs.conv;
    const lun_shape big = c->op.src[0].shape, small = c->op.src[1].shape;
    products *p = oc_alloc((size_t)(small.c * big.c), sizeof *p);
    transformed *v = oc_alloc((size_t)big.c, sizeof *v);
    int64_t tiles = 0;
    for (int64_t n = 0; n < small.n; n++)
        for (int64_t y = 0; y < small.h; y += 4)
            for (int64_t x = 0; x < small.w; x += 4, tiles++) {
                for (int64_t ch = 0; ch < big.c; ch++)
                    v[ch] = input_tile(c->src[0], big, n, ch, y - a.pad_h, x - a.pad_w);
                for (int64_t k = 0; k < small.c; k++) {
                    double d[16];
                    for (int i = 0; i < 16; i++)
                        d[i] = at(c->src[1], small, n, k, y + i / 4, x + i % 4);
                    const transformed w = transform(filter4, 4, d);
                    for (int64_t ch = 0; ch < big.c; ch++)
                        add_products(&p[k * big.c + ch], &w, &v[ch]);
                }
            }
    for (int64_t i = 0; i < small.c * big.c; i++)
        for (int r = 0; r < 9; r++)
            error[i * 9 + r] = output_error(&p[i], (double)tiles, out3, r / 3, r % 3);
    free(p);
    free(v);
}

bool oc_winograd_bound(const oc_case *c, const char *candidate, double *bound)
{
    if (strcmp(candidate, "winograd_4x4") != 0)
        return false;
    if (c->op.kind == LUN_OP_CONV2D_WGRAD)
        wgrad_error(c, bound);
    else
        gather_error(c, bound);
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        bound[i] = 6 * bound[i] + OC_U * fabs(c->want[0][i]);
    return true;
}
