/* What a Winograd candidate may be off by.
 *
 * F(m, r) takes m results of a convolution with r taps from s = m + r - 1 products, in both dimensions at once:
 * y = A' [ sum over c of U . V ] A with U = G g G' and V = B' d B. A candidate's name says m, the op says r:
 *
 *                                     results and taps        winograd_4x4, _deep    winograd_2x2, _deep
 *   3x3, stride 1     both gathers    m x m, 3 x 3            F(4x4, 3x3)            F(2x2, 3x3)
 *                     wgrad           3 x 3, m x m            F(3x3, 4x4)            F(3x3, 2x2)
 *   4x4, stride 2     both gathers    m x m, 2 x 2            F(4x4, 2x2)
 *                     wgrad           2 x 2, m x m            F(2x2, 4x4)
 *
 * With stride 2 a picture falls into phases, the pixels 2 j - pad + q for q = 0, 1 in both dimensions, and the filter
 * into the taps 2 a + q: four convolutions with stride 1. Forward they are summed, so c runs over phases and channels;
 * the data gradient has one for each phase of its result, the weight gradient one for each phase of the filter.
 *
 * Every product and sum is rounded, u = 2^-24. Roundings being as good as random, independent errors add up by their
 * squares, and a term that passes n of them is off by sqrt(n) u times itself.
 *
 *   a pass of a transform   In a row of t coefficients that are not zero a term passes at most t - 1 additions; a
 * product if one of them is no power of two; and the rounding of the coefficient if one is no float (1/6, 1/12, 1/24).
 * That is the row's r_i, and r_i + r_j for point (i, j), which two passes give. So V is off by sqrt(r_i + r_j) u
 * |B'||d||B|, U by sqrt(r_i + r_j) u |G||g||G'|, independently in every channel (tile, for the weight gradient).
 *   products                of n in any order and any grouping a term passes at most n roundings: its product and n - 1
 *                           additions
 *   back                    the same r_k + r_l for output (k, l), rows of A', of what the point has summed up
 *
 *   e^2 = u^2 [ (n + r_k + r_l) (sum |U||V|)^2 + (r_i + r_j) sum ( (|G||g||G'| |V|)^2 + (|U| |B'||d||B|)^2 ) ]
 *
 * and the output is off by the root of the sum over points of (its coefficient in A . e)^2. Asked for is c = 6 times
 * that, and u |y| for the last rounding. F(4x4, 3x3) has some ten times the direct method's bound: that is its price.
 * Clamping at zero brings two numbers no further apart. */
#include <stdlib.h>
#include <string.h>

#include "opcheck.h"

enum { SIDE = 6, POINTS = SIDE * SIDE };

typedef struct matrix {
    int rows, columns;
    double at[SIDE][SIDE];
    double roundings[SIDE]; /* of a row */
} matrix;

/* B', G and A' of F(m, r). */
typedef struct minimal {
    int m, r, side;
    matrix in, filter, out;
} minimal;

static void count_roundings(matrix *a)
{
    for (int i = 0; i < a->rows; i++) {
        int terms = 0, exponent;
        bool rounds = false, rounded = false;
        for (int k = 0; k < a->columns; k++) {
            const double value = a->at[i][k];
            terms += value != 0;
            rounds = rounds || (value != 0 && frexp(fabs(value), &exponent) != 0.5);
            rounded = rounded || (double)(float)value != value;
        }
        a->roundings[i] = terms - 1 + rounds + rounded;
    }
}

/* From the points, as cl/winograd_transform.h says: with M the product of all x - a_i, row i of B' is M / (x - a_i), of
 * G the powers of a_i over the product of all other a_i - a_k, column i of A' the powers; the last point is infinity.
 */
static minimal minimal_of(int m, int r)
{
    static const double point[] = {0, 1, -1, 2, -2};
    const int side = m + r - 1, finite = side - 1;
    minimal f = {.m = m,
                 .r = r,
                 .side = side,
                 .in = {side, side, {{0}}, {0}},
                 .filter = {side, r, {{0}}, {0}},
                 .out = {m, side, {{0}}, {0}}};
    for (int i = 0; i < side; i++) {
        double *row = f.in.at[i], n = 1;
        row[0] = 1; /* coefficients, the constant first; the product grows by one factor at a time */
        for (int k = 0, degree = 0; k < finite; k++) {
            if (k == i)
                continue;
            for (int d = ++degree; d >= 0; d--)
                row[d] = (d > 0 ? row[d - 1] : 0) - point[k] * row[d];
            n *= i < finite ? point[i] - point[k] : 1;
        }
        for (int k = 0; k < r; k++)
            f.filter.at[i][k] = i < finite ? pow(point[i], k) / n : k == r - 1;
        for (int k = 0; k < m; k++)
            f.out.at[k][i] = i < finite ? pow(point[i], k) : k == m - 1;
    }
    count_roundings(&f.in);
    count_roundings(&f.filter);
    count_roundings(&f.out);
    return f;
}

/* A transformed tile: what it is, and the square of what it is off by in units of u. */
typedef struct transformed {
    double value[POINTS], variance[POINTS];
} transformed;

/* a x a' of x, `columns` x `columns` of a. */
static void transform(const matrix *a, double x[SIDE][SIDE], transformed *t)
{
    double half[SIDE][SIDE] = {{0}}, half_size[SIDE][SIDE] = {{0}};
    for (int i = 0; i < a->rows; i++)
        for (int k = 0; k < a->columns; k++)
            for (int j = 0; j < a->columns && a->at[i][k] != 0; j++) {
                half[i][j] += a->at[i][k] * x[k][j];
                half_size[i][j] += fabs(a->at[i][k] * x[k][j]);
            }
    for (int i = 0; i < a->rows; i++)
        for (int j = 0; j < a->rows; j++) {
            double value = 0, size = 0;
            for (int k = 0; k < a->columns; k++) {
                value += half[i][k] * a->at[j][k];
                size += half_size[i][k] * fabs(a->at[j][k]);
            }
            t->value[i * a->rows + j] = value;
            t->variance[i * a->rows + j] = (a->roundings[i] + a->roundings[j]) * size * size;
        }
}

/* Of each point, sum U V, sum |U||V| and the variance that the transforms bring. */
typedef struct products {
    double n, value[POINTS], sum[POINTS], variance[POINTS];
} products;

static void add_products(products *p, int points, const transformed *u, const transformed *v)
{
    p->n++;
    for (int e = 0; e < points; e++) {
        p->value[e] += u->value[e] * v->value[e];
        p->sum[e] += fabs(u->value[e] * v->value[e]);
        p->variance[e] += u->variance[e] * v->value[e] * v->value[e] + u->value[e] * u->value[e] * v->variance[e];
    }
}

/* The bound of output (k, l), element `index` of the destination. NaN, which no error stays below, if the transforms do
 * not give what the reference does: the bound would be that of something else. */
static double output_bound(const oc_case *c, const minimal *f, const products *p, int k, int l, int64_t index,
                           double bias)
{
    const double terms = p->n + f->out.roundings[k] + f->out.roundings[l];
    double square = 0, value = bias;
    for (int i = 0; i < f->side; i++)
        for (int j = 0; j < f->side; j++) {
            const int e = i * f->side + j;
            const double scale = f->out.at[k][i] * f->out.at[l][j];
            square += scale * scale * (terms * p->sum[e] * p->sum[e] + p->variance[e]);
            value += scale * p->value[e];
        }
    if (c->op.attrs.conv.relu)
        value = fmax(value, 0);
    const double deviation = OC_U * (sqrt(square) + fabs(bias));
    if (!(fabs(value - c->want[0][index]) <= 1e-6 * deviation)) /* in double */
        return NAN;
    return 6 * deviation + OC_U * fabs(c->want[0][index]);
}

/* --- tiles --- */
/* One dimension of a phase: tile pixel i of the tile at j0 is source pixel first + step (j0 + i), and tap b of the
 * phase is tap tap_first + tap_step b of the filter. */
typedef struct walk {
    int64_t first, step, tap_first, tap_step;
} walk;

/* Phase q of what conv2d and the weight gradient read. */
static walk walk_source(int stride, int pad, int q)
{
    return (walk){q - pad, stride, q, stride};
}

/* Phase q of what conv2d_transpose writes, the pixels stride j + q. Pixel d meets source pixel e with tap t where
 * d + pad = stride e + t, so with all e to (q + pad) / stride + j, and the filter turned round. */
static walk walk_result(int stride, int pad, int q, int taps)
{
    return (walk){(q + pad) / stride - (taps - 1), 1, stride * (taps - 1) + (q + pad) % stride, -stride};
}

static double at(const double *data, lun_shape s, int64_t n, int64_t c, int64_t h, int64_t w)
{
    return h < 0 || h >= s.h || w < 0 || w >= s.w ? 0 : data[((n * s.c + c) * s.h + h) * s.w + w];
}

/* The transformed tile at (y, x) of a phase of a picture. */
static void take_tile(const matrix *a, const double *data, lun_shape s, int64_t n, int64_t c, const walk *h,
                      const walk *w, int64_t y, int64_t x, transformed *t)
{
    double d[SIDE][SIDE];
    for (int i = 0; i < a->columns; i++)
        for (int j = 0; j < a->columns; j++)
            d[i][j] = at(data, s, n, c, h->first + h->step * (y + i), w->first + w->step * (x + j));
    transform(a, d, t);
}

/* One phase of the result: pixels stride_h j + first_h, likewise w; sums over `phases` phases of the source. */
static void gather_phase(const oc_case *c, const minimal *f, const walk *walk_h, const walk *walk_w, int phases,
                         int64_t stride_h, int64_t first_h, int64_t stride_w, int64_t first_w, double *bound)
{
    const bool transposed = c->op.kind == LUN_OP_CONV2D_TRANSPOSE;
    const lun_shape src = c->op.src[0].shape, filter = c->op.src[1].shape, dst = c->op.dst[0].shape;
    const int64_t high = (dst.h - first_h + stride_h - 1) / stride_h,
                  wide = (dst.w - first_w + stride_w - 1) / stride_w;
    const int64_t tiles_h = (high + f->m - 1) / f->m, tiles_w = (wide + f->m - 1) / f->m,
                  tiles = dst.n * tiles_h * tiles_w;
    const int64_t depth = phases * src.c;
    if (tiles <= 0)
        return;
    transformed *u = oc_alloc((size_t)depth, sizeof *u), *v = oc_alloc((size_t)(tiles * depth), sizeof *v);
    for (int64_t t = 0; t < tiles; t++)
        for (int64_t i = 0; i < depth; i++)
            take_tile(&f->in, c->src[0], src, t / (tiles_h * tiles_w), i % src.c, &walk_h[i / src.c],
                      &walk_w[i / src.c], t / tiles_w % tiles_h * f->m, t % tiles_w * f->m, &v[t * depth + i]);
    for (int64_t k = 0; k < dst.c; k++) {
        for (int64_t i = 0; i < depth; i++) {
            const walk *h = &walk_h[i / src.c], *w = &walk_w[i / src.c];
            double g[SIDE][SIDE];
            for (int a = 0; a < f->r; a++)
                for (int b = 0; b < f->r; b++)
                    g[a][b] = at(c->src[1], filter, transposed ? i % src.c : k, transposed ? k : i % src.c,
                                 h->tap_first + h->tap_step * a, w->tap_first + w->tap_step * b);
            transform(&f->filter, g, &u[i]);
        }
        const double bias = c->op.nsrc > 2 ? c->src[2][k] : 0;
        for (int64_t t = 0; t < tiles; t++) {
            const int64_t y = t / tiles_w % tiles_h * f->m, x = t % tiles_w * f->m;
            products p = {0};
            for (int64_t i = 0; i < depth; i++)
                add_products(&p, f->side * f->side, &u[i], &v[t * depth + i]);
            for (int i = 0; i < f->m && y + i < high; i++)
                for (int j = 0; j < f->m && x + j < wide; j++) {
                    const int64_t index =
                        ((t / (tiles_h * tiles_w) * dst.c + k) * dst.h + stride_h * (y + i) + first_h) * dst.w +
                        stride_w * (x + j) + first_w;
                    bound[index] = output_bound(c, f, &p, i, j, index, bias);
                }
        }
    }
    free(u);
    free(v);
}

static void gather_bound(const oc_case *c, const minimal *f, int stride, double *bound)
{
    const lun_conv_attrs a = c->op.attrs.conv;
    walk h[4], w[4];
    for (int q = 0; q < stride * stride; q++)
        if (c->op.kind == LUN_OP_CONV2D) {
            h[q] = walk_source(stride, a.pad_h, q / stride);
            w[q] = walk_source(stride, a.pad_w, q % stride);
        } else {
            h[q] = walk_result(stride, a.pad_h, q / stride, f->r);
            w[q] = walk_result(stride, a.pad_w, q % stride, f->r);
            gather_phase(c, f, &h[q], &w[q], 1, stride, q / stride, stride, q % stride, bound);
        }
    if (c->op.kind == LUN_OP_CONV2D)
        gather_phase(c, f, h, w, stride * stride, 1, 0, 1, 0, bound);
}

static void wgrad_bound(const oc_case *c, const minimal *f, int stride, double *bound)
{
    const lun_conv_attrs a = c->op.attrs.conv;
    const lun_shape big = c->op.src[0].shape, small = c->op.src[1].shape, filter = c->op.dst[0].shape;
    const walk whole = walk_source(1, 0, 0);
    const int64_t tiles_h = (small.h + f->r - 1) / f->r, tiles_w = (small.w + f->r - 1) / f->r,
                  tiles = small.n * tiles_h * tiles_w;
    transformed *u = oc_alloc((size_t)(tiles * small.c), sizeof *u), *v = oc_alloc((size_t)(tiles * big.c), sizeof *v);
    for (int64_t i = 0; i < tiles * small.c; i++) {
        const int64_t t = i % tiles;
        take_tile(&f->filter, c->src[1], small, t / (tiles_h * tiles_w), i / tiles, &whole, &whole,
                  t / tiles_w % tiles_h * f->r, t % tiles_w * f->r, &u[i]);
    }
    for (int q = 0; q < stride * stride; q++) {
        const walk h = walk_source(stride, a.pad_h, q / stride), w = walk_source(stride, a.pad_w, q % stride);
        for (int64_t i = 0; i < tiles * big.c; i++) {
            const int64_t t = i % tiles;
            take_tile(&f->in, c->src[0], big, t / (tiles_h * tiles_w), i / tiles, &h, &w, t / tiles_w % tiles_h * f->r,
                      t % tiles_w * f->r, &v[i]);
        }
        for (int64_t i = 0; i < small.c * big.c; i++) {
            products p = {0};
            for (int64_t t = 0; t < tiles; t++)
                add_products(&p, f->side * f->side, &u[i / big.c * tiles + t], &v[i % big.c * tiles + t]);
            for (int k = 0; k < f->m; k++)
                for (int l = 0; l < f->m; l++) {
                    const int64_t index =
                        (i * filter.h + h.tap_first + h.tap_step * k) * filter.w + w.tap_first + w.tap_step * l;
                    bound[index] = output_bound(c, f, &p, k, l, index, 0);
                }
        }
    }
    free(u);
    free(v);
}

bool oc_winograd_bound(const oc_case *c, const char *candidate, double *bound)
{
    const bool wgrad = c->op.kind == LUN_OP_CONV2D_WGRAD;
    const int stride = c->op.attrs.conv.stride_h, taps = (int)(wgrad ? c->op.dst[0] : c->op.src[1]).shape.h / stride;
    int side;
    if (strncmp(candidate, "winograd_", 9) != 0)
        return false;
    side = atoi(candidate + 9); /* "4x4", "2x2_deep" */
    if (wgrad) {
        const minimal f = minimal_of(taps, side);
        wgrad_bound(c, &f, stride, bound);
    } else {
        const minimal f = minimal_of(side, taps);
        gather_bound(c, &f, stride, bound);
    }
    return true;
}
