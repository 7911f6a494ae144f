/* attention, attention_backward.
 *
 * Bound, with u = 2^-24, F(T) = min(6 sqrt(T), T) the factor of u |W||X| that a sum of T terms is allowed (conv2d.c), T
 * pixels, D channels a head.
 *
 *   scores    s_j = a (q, k_j) is off by e_j = (F(D) + 3) u a |q||k_j|: the sum, a's own rounding and two products.
 *   P         exp(x) is within 3 ulp, 6 u (OpenCL's promise). x = s_j - m, or - lse, is rounded once: u (|s_j| + |m|),
 * and |m|, |lse| are at most the largest |s| and ln T. Where blocks of keys fade to a new maximum, once every 16 keys
 * at worst, each fading is another such exp, and their arguments add up to twice the largest |s| at most: p_j is off by
 * E_j p_j, E_j = e_j + u (4 max |s| + ln T + 12 + 6 F(T / 16)). sum       E = sum over j of p_j E_j, and F(T) u for
 * adding up. ln of it, which is lse less the maximum, is off by as much, and by 6 u ln T of its own; lse is rounded: C
 * = E + F(T) u + u (2 |lse| + 6 ln T + 4). dst       sum of p_j v_j over the sum: |v_j| p_j E_j added up, and (C + F(T)
 * u) sum of p_j |v_j|, and u |dst|.
 *
 * Backward lse and dst are given, so p_ij is off by E_ij p_ij, E_ij = e_ij + u (2 |s_ij| + 2 |lse_i| + 8); products of
 * ddst with v and with dst by (F(D) + 1) u times their sizes. So g_ij = p_ij (x - delta), x = (ddst_i, v_j), is off by
 *     p_ij [ (E_ij + 3 u) |x - delta| + (F(D) + 1) u (|ddst||v| + |ddst||dst|) ]
 * and a sum over T of g_ij times some y by the sum of that times |y|, and (F(T) + 4) u sum of |g y|.
 *
 * Below exp(-80) a kernel may give exp(-80): 1e-30 is always allowed. */
#include <stdlib.h>

#include "opcheck.h"
#include "reference.h"

typedef enum flavour {
    PLAIN,
    PEAKED, /* few keys count */
    FAR,    /* scores far from zero: exp of them is not finite */
    EQUAL,  /* all keys are the same: every p is 1 / T */
    ONE     /* one key for each query, and nothing of the others; D is at least 40 */
} flavour;

/* N, heads, D, H, W, flavour. More than one block of pixels, blocks that are cut short, panels that are. */
static const int shapes[][6] = {
    {1, 1, 1, 1, 2, PLAIN},    {2, 1, 3, 3, 3, PLAIN},    {1, 2, 5, 4, 4, EQUAL},    {2, 4, 16, 4, 4, PEAKED},
    {1, 3, 33, 5, 7, FAR},     {3, 2, 64, 4, 4, PLAIN},   {1, 1, 64, 8, 8, ONE},     {1, 4, 32, 8, 8, FAR},
    {2, 1, 80, 7, 9, PEAKED},  {1, 1, 257, 5, 5, PLAIN},  {1, 1, 512, 4, 4, PEAKED}, {1, 2, 64, 11, 9, PLAIN},
    {1, 1, 40, 14, 14, ONE},   {1, 1, 8, 16, 16, EQUAL},  {1, 1, 65, 10, 10, FAR},   {2, 1, 16, 2, 97, PLAIN},
    {1, 1, 2, 24, 44, PEAKED}, {5, 3, 7, 1, 1, PLAIN},    {1, 17, 3, 3, 5, PLAIN},   {1, 1, 24, 1, 96, PLAIN},
    {1, 1, 31, 5, 25, PEAKED}, {1, 1, 600, 3, 11, PLAIN},
};
static const int tiny[][6] = {{1, 2, 5, 5, 8, PLAIN}, {1, 1, 40, 3, 3, PEAKED}};
/* More than one block of the panel kernels, too much for the others under Oclgrind. */
static const int tiny_panel[][6] = {{1, 1, 9, 4, 25, PLAIN}};
static const int large[][6] = {{1, 1, 3, 64, 64, FAR}, {1, 2, 96, 16, 16, PLAIN}};
static const int grad[][6] = {{1, 1, 2, 2, 2, PLAIN}, {2, 2, 3, 3, 2, PLAIN}, {1, 3, 1, 1, 4, PEAKED}};
static const int layers[][6] = {
    {16, 1, 256, 16, 16, PLAIN}, {2, 6, 64, 32, 32, PLAIN}, {16, 12, 64, 8, 8, PLAIN}, {1, 1, 64, 64, 64, PLAIN}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return 2 * COUNT(shapes);
    case OC_TINY: return COUNT(tiny) + COUNT(tiny_panel);
    case OC_LONG: return COUNT(large) + 60;
    case OC_PERF: return COUNT(layers);
    default: return 2 * COUNT(grad);
    }
}

static const int *choose(oc_set set, int index, oc_rng *rng, int random[6])
{
    random[0] = 1 + oc_below(rng, 3);
    random[1] = 1 + oc_below(rng, 4);
    random[2] = 1 + oc_below(rng, 130);
    random[3] = 1 + oc_below(rng, 20);
    random[4] = 1 + oc_below(rng, 20);
    random[5] = oc_below(rng, 4);
    switch (set) {
    case OC_SUITE: return shapes[index / 2];
    case OC_TINY: return index < COUNT(tiny) ? tiny[index] : tiny_panel[index - COUNT(tiny)];
    case OC_PERF: return layers[index];
    case OC_GRAD: return grad[index / 2];
    default: return index < COUNT(large) ? large[index] : random;
    }
}

/* 0, 1, 2: a channel of q, k, v. */
static int part_of(const oc_case *c, int64_t channel)
{
    const int64_t channels = c->op.src[0].shape.c / 3, width = channels / c->op.attrs.attention.heads;
    return (int)(c->op.attrs.attention.split ? channel / channels : channel / width % 3);
}

static void fill_qkv(oc_case *c, flavour kind, oc_rng *rng)
{
    const lun_shape s = c->op.src[0].shape;
    const int64_t pixels = s.h * s.w, shift = kind == ONE ? 1 + oc_below(rng, (int)pixels - 1) : 0;
    const int64_t channels = s.c / 3, width = channels / c->op.attrs.attention.heads;
    for (int64_t plane = 0; plane < s.n * s.c; plane++) {
        const int part = part_of(c, plane % s.c);
        for (int64_t i = 0; i < pixels; i++) {
            double value = (part == 2 ? 0.2 : 0) + oc_real(rng) * (part == 2 ? 1 : 1.5);
            if (part < 2 && kind == PEAKED)
                value *= 2.5;
            if (part < 2 && kind == FAR)
                value += part == 0 ? 3 : 20;
            if (part == 1 && kind == EQUAL && i > 0)
                value = c->src[0][plane * pixels];
            if (part == 1 && kind == ONE)
                value = value < 0 ? -1 : 1;
            oc_set_float(c, 0, plane * pixels + i, value);
        }
    }
    if (kind != ONE)
        return;
    /* Query i is 60 times key i + shift. */
    for (int64_t plane = 0; plane < s.n * s.c; plane++) {
        const int64_t of_key = plane + (c->op.attrs.attention.split ? channels : width);
        for (int64_t i = 0; part_of(c, plane % s.c) == 0 && i < pixels; i++)
            oc_set_float(c, 0, plane * pixels + i, 60 * c->src[0][of_key * pixels + (i + shift) % pixels]);
    }
}

static flavour begin(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    int random[6];
    const int *s = choose(set, index, rng, random);
    c->op.attrs.attention.heads = s[1];
    c->op.attrs.attention.split = index % 2 == 1;
    c->layout = oc_turn(index / 2 + index % 2);
    c->only = set == OC_TINY && index >= COUNT(tiny) ? "panel" : NULL;
    oc_source(c, lun_image(s[0], 3 * (int64_t)s[1] * s[2], s[3], s[4]));
    fill_qkv(c, (flavour)s[5], rng);
    return (flavour)s[5];
}

static lun_shape result_of(const oc_case *c)
{
    const lun_shape s = c->op.src[0].shape;
    return lun_shape4(s.n, s.c / 3, s.h, s.w);
}

static lun_shape lse_of(const oc_case *c)
{
    const lun_shape s = c->op.src[0].shape;
    return lun_shape4(s.n, c->op.attrs.attention.heads, s.h, s.w);
}

static void make_forward(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    begin(c, set, index, rng);
    oc_dest(c, result_of(c));
    oc_dest(c, lse_of(c));
}

/* dst and lse as the forward would have left them, rounded. */
static void make_backward(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const flavour kind = begin(c, set, index, rng);
    const lun_desc result = {LUN_F32, LUN_IMAGE, result_of(c)}, lse = {LUN_F32, LUN_IMAGE, lse_of(c)};
    const int64_t pixels = result.shape.h * result.shape.w;
    oc_source(c, result);
    oc_fill_reals(c, oc_source(c, result), rng, 0.1, 1);
    oc_source(c, lse);
    if (set == OC_PERF) { /* the time does not hang on it */
        oc_fill_reals(c, 1, rng, 0, 0.1);
        oc_fill_reals(c, 3, rng, log((double)pixels), 0.1);
    } else {
        double *dst[2], *mag[2] = {NULL, NULL};
        lun_op forward = {.kind = LUN_OP_ATTENTION, .attrs = c->op.attrs, .nsrc = 1, .src = {c->op.src[0]}};
        for (int d = 0; d < 2; d++)
            dst[d] = oc_alloc((size_t)lun_count((d == 0 ? result : lse).shape), sizeof(double));
        if (lun_op_infer(&forward) == LUN_OK)
            ref_op(&forward, (const double *const *)c->src, dst, mag);
        for (int d = 0; d < 2; d++) {
            for (int64_t i = 0; i < lun_count((d == 0 ? result : lse).shape); i++)
                oc_set_float(c, d == 0 ? 1 : 3, i, dst[d][i]);
            free(dst[d]);
        }
    }
    /* Where one key is all that counts, or there is only one, dq and dk cancel. */
    c->max_zero = kind == ONE || pixels == 1 ? 0.7f : 0.3f;
    oc_dest(c, c->op.src[0].shape);
}

/* --- bounds --- */
typedef struct head {
    const double *q, *k, *v; /* [channel][pixel] */
    int64_t first[3];        /* elements of qkv where they begin */
    int64_t width, pixels;
    double scale, of_width, of_pixels; /* F(D), F(T) */
} head;

static head find(const oc_case *c, int64_t line)
{
    const lun_shape s = c->op.src[0].shape;
    const int64_t heads = c->op.attrs.attention.heads, pixels = s.h * s.w, channels = s.c / 3, width = channels / heads;
    const int64_t n = line / heads, h = line % heads;
    head a = {.width = width,
              .pixels = pixels,
              .scale = 1 / sqrt((double)width),
              .of_width = oc_sum_factor((double)width),
              .of_pixels = oc_sum_factor((double)pixels)};
    for (int part = 0; part < 3; part++)
        a.first[part] =
            (n * s.c + (c->op.attrs.attention.split ? part * channels + h * width : (3 * h + part) * width)) * pixels;
    a.q = c->src[0] + a.first[0];
    a.k = c->src[0] + a.first[1];
    a.v = c->src[0] + a.first[2];
    return a;
}

/* (x_i, y_j) and the sum of the products' sizes. */
static double product(const head *a, const double *x, int64_t i, const double *y, int64_t j, double *size)
{
    double sum = 0;
    *size = 0;
    for (int64_t d = 0; d < a->width; d++) {
        const double term = x[d * a->pixels + i] * y[d * a->pixels + j];
        sum += term;
        *size += fabs(term);
    }
    return sum;
}

static void bound_forward(oc_case *c)
{
    for (int64_t line = 0; line < c->op.src[0].shape.n * c->op.attrs.attention.heads; line++) {
        const head a = find(c, line);
        const double log_pixels = log((double)a.pixels);
        double *s = oc_alloc((size_t)a.pixels, sizeof *s), *e = oc_alloc((size_t)a.pixels, sizeof *e);
        for (int64_t i = 0; i < a.pixels; i++) {
            const double lse = c->want[1][line * a.pixels + i];
            double largest = 0, mean = 0;
            for (int64_t j = 0; j < a.pixels; j++) {
                s[j] = a.scale * product(&a, a.q, i, a.k, j, &e[j]);
                largest = fmax(largest, fabs(s[j]));
            }
            const double common =
                OC_U * (4 * largest + log_pixels + 12 + 6 * oc_sum_factor((double)(a.pixels + 15) / 16));
            for (int64_t j = 0; j < a.pixels; j++) {
                e[j] = exp(s[j] - lse) * ((a.of_width + 3) * OC_U * a.scale * e[j] + common); /* p E */
                mean += e[j];
            }
            const double of_sum = mean + OC_U * (a.of_pixels + 2 * fabs(lse) + 6 * log_pixels + 4);
            c->bound[1][line * a.pixels + i] = of_sum;
            for (int64_t d = 0; d < a.width; d++) {
                const int64_t at = (line * a.width + d) * a.pixels + i;
                double error = (of_sum + a.of_pixels * OC_U) * c->mag[0][at] + OC_U * fabs(c->want[0][at]) + 1e-30;
                for (int64_t j = 0; j < a.pixels; j++)
                    error += e[j] * fabs(a.v[d * a.pixels + j]);
                c->bound[0][at] = error;
            }
        }
        free(s);
        free(e);
    }
}

static void bound_backward(oc_case *c)
{
    for (int64_t line = 0; line < c->op.src[0].shape.n * c->op.attrs.attention.heads; line++) {
        const head a = find(c, line);
        const double *result = c->src[1] + line * a.width * a.pixels, *d = c->src[2] + line * a.width * a.pixels;
        double *dq = c->bound[0] + a.first[0], *dk = c->bound[0] + a.first[1], *dv = c->bound[0] + a.first[2];
        for (int64_t i = 0; i < a.pixels; i++) {
            const double lse = c->src[3][line * a.pixels + i];
            double delta_size;
            const double delta = product(&a, result, i, d, i, &delta_size);
            for (int64_t j = 0; j < a.pixels; j++) {
                double s_size, x_size;
                const double s = a.scale * product(&a, a.q, i, a.k, j, &s_size);
                const double x = product(&a, d, i, a.v, j, &x_size) - delta, p = exp(s - lse);
                const double e = (a.of_width + 3) * OC_U * a.scale * s_size + OC_U * (2 * fabs(s) + 2 * fabs(lse) + 8);
                const double sum = (a.of_pixels + 4) * OC_U;
                const double g =
                    a.scale * p * ((e + 3 * OC_U + sum) * fabs(x) + (a.of_width + 1) * OC_U * (x_size + delta_size));
                for (int64_t w = 0; w < a.width; w++) {
                    const int64_t at_i = w * a.pixels + i, at_j = w * a.pixels + j;
                    dq[at_i] += g * fabs(a.k[at_j]);
                    dk[at_j] += g * fabs(a.q[at_i]);
                    dv[at_j] += p * (e + sum) * fabs(d[at_i]);
                }
            }
        }
    }
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] += OC_U * fabs(c->want[0][i]) + 1e-30;
}

const oc_op oc_attention = {.kind = LUN_OP_ATTENTION, .count = count, .make = make_forward, .bound = bound_forward};
const oc_op oc_attention_backward = {
    .kind = LUN_OP_ATTENTION_BACKWARD, .count = count, .make = make_backward, .bound = bound_backward};
