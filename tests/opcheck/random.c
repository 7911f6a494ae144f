/* randint, randn, dropout.
 *
 * randint is integers: tolerance 0 against base/philox.h. randn must be bit-equal on every device (each case is
 * compared with the cpu device) and within 2e-6 of the float64 Box-Muller formula in reference_rest.c: the polynomials'
 * error, about 4 ulp of radius and angle at |z| up to 5.8. */
#include "base/philox.h"
#include "opcheck.h"

/* N, C, H, W: odd, so that blocks of four are cut short and cross rows and channels. */
static const int shapes[][4] = {
    {1, 1, 1, 1},   {1, 1, 1, 3},   {2, 3, 5, 7},   {3, 1, 17, 19},   {5, 65, 3, 2}, {16, 1, 1, 1},
    {2, 3, 32, 32}, {1, 2, 65, 64}, {7, 4, 13, 11}, {1, 3, 129, 131}, {4, 5, 1, 2},  {2, 31, 33, 1},
};
static const int tiny[][4] = {{2, 3, 11, 13}, {5, 2, 5, 5}};
static const int layers[][4] = {{16, 3, 64, 64}};
/* For dropout: maps of a multiple of four pixels and others, channels beside multiples of 16. */
static const int dropped[][4] = {
    {1, 1, 1, 1},   {2, 5, 1, 3},    {2, 3, 5, 7},   {3, 16, 4, 4},  {5, 65, 3, 2}, {16, 33, 1, 1},  {2, 31, 8, 9},
    {1, 129, 6, 6}, {2, 64, 32, 32}, {7, 4, 13, 11}, {1, 3, 64, 66}, {4, 5, 1, 2},  {2, 4100, 2, 2}, {3, 257, 3, 3},
};
static const int large[][4] = {{16, 128, 64, 64}, {16, 256, 16, 16}};
#define COUNT(array) ((int)(sizeof(array) / sizeof((array)[0])))

/* Hashes of randn's results for seed 1, recorded on plain C: every device, instruction set and release gives these
 * bits. */
static const uint64_t recorded[COUNT(shapes)] = {
    0x6759de8309736309, 0xf171b4d5ab06fd35, 0x8fabb4dd3366f6a2, 0x9a1cdc3801e5a839,
    0x9fa4cff60e470a1d, 0x0178ed8f770a3d2d, 0x3107fd29b8fa7599, 0xe334cc66c1c0c1e1,
    0xba8ce2cd7978b084, 0x01e2f1f8ced02e67, 0xc3c0df89f7e4a4b0, 0xc9d67ffcaf4ceec3,
};

static int count(oc_set set)
{
    switch (set) {
    case OC_SUITE: return COUNT(shapes);
    case OC_TINY: return COUNT(tiny);
    case OC_LONG: return COUNT(layers) + 60;
    case OC_PERF: return COUNT(layers);
    default: return 0;
    }
}

static lun_desc rows_desc(int n)
{
    return lun_typed(lun_image(n, LUN_RANDOM_ROW, 1, 1), LUN_U32);
}

static void fill_rows(oc_case *c, int rows, int count_, oc_rng *rng)
{
    for (int n = 0; n < count_; n++) {
        /* Every word of the row in use: numbers and seeds beyond 32 bits, all purposes, a sub. */
        /* One draw a statement: what a compiler draws first within one is its own affair. */
        uint64_t seed = oc_u32(rng);
        seed = seed << 32 | oc_u32(rng);
        uint64_t number = oc_u32(rng);
        number = number << 32 | oc_u32(rng);
        const uint32_t sub = oc_u32(rng);
        uint32_t row[LUN_RANDOM_ROW];
        lun_random_row(seed, (lun_purpose)(1 + oc_below(rng, 8)), number, sub, row);
        for (int i = 0; i < LUN_RANDOM_ROW; i++) {
            c->bits[rows][n * LUN_RANDOM_ROW + i] = row[i];
            c->src[rows][n * LUN_RANDOM_ROW + i] = row[i];
        }
    }
}

static void make(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    const int random[4] = {1 + oc_below(rng, 16), 1 + oc_below(rng, 30), 1 + oc_below(rng, 60), 1 + oc_below(rng, 60)};
    const int *s = set == OC_SUITE         ? shapes[index]
                   : set == OC_TINY        ? tiny[index]
                   : index < COUNT(layers) ? layers[index]
                                           : random;
    static const uint32_t bounds[] = {300, 7, 1000, 0x80000000u, 65537};
    lun_random_attrs *a = &c->op.attrs.random;
    a->c = s[1];
    a->h = s[2];
    a->w = s[3];
    c->layout = oc_turn(index);
    c->max_zero = 0.6f; /* small bounds */
    const int rows = oc_source(c, rows_desc(s[0]));
    fill_rows(c, rows, s[0], rng);
    if (c->op.kind == LUN_OP_RANDINT) {
        a->bound = bounds[index % COUNT(bounds)];
        c->exact = true;
    } else {
        c->like_cpu = true;
        if (set == OC_SUITE && oc_seed == 1)
            c->golden = recorded[index];
    }
    oc_dest(c, lun_shape4(s[0], s[1], s[2], s[3]));
}

/* The rows as above. Every p has cases with whole numbers, exact where 1 / (1 - p) is a power of two; NaN stays where
 * it is, dropped or not. */
static void make_dropout(oc_case *c, oc_set set, int index, oc_rng *rng)
{
    static const float ps[] = {0.5f, 0.1f, 0.75f, 0, 0.9f};
    static const int few[][4] = {{2, 3, 2, 2}, {1, 4, 1, 3}};
    const int random[4] = {1 + oc_below(rng, 16), 1 + oc_below(rng, 60), 1 + oc_below(rng, 40), 1 + oc_below(rng, 40)};
    const int *s = set == OC_SUITE        ? dropped[index]
                   : set == OC_TINY       ? tiny[index]
                   : set == OC_GRAD       ? few[index]
                   : index < COUNT(large) ? large[index]
                                          : random;
    lun_dropout_attrs *a = &c->op.attrs.dropout;
    a->p = ps[index % COUNT(ps)];
    a->stream = index % 3 == 0 ? 0 : (uint32_t)oc_below(rng, 1 << 20);
    c->layout = oc_turn(index);
    c->exact = a->p == 0.5f || a->p == 0.75f || a->p == 0;
    c->max_zero = 1;
    c->like_cpu = true;
    const int src = oc_source(c, lun_image(s[0], s[1], s[2], s[3])), rows = oc_source(c, rows_desc(s[0]));
    if (c->exact && set != OC_GRAD)
        oc_fill_ints(c, src, rng, 1, 100);
    else
        oc_fill_reals(c, src, rng, 0.3, 1);
    const int64_t elements = oc_src_count(c, src);
    if (set == OC_SUITE && elements > 40) {
        c->nans = true;
        for (int64_t i = 0; i < elements; i += 37)
            oc_set_float(c, src, i, (double)NAN);
    }
    fill_rows(c, rows, s[0], rng);
    c->constant = elements < 8;
    oc_dest(c, lun_shape4(s[0], s[1], s[2], s[3]));
}

static int count_dropout(oc_set set)
{
    switch (set) {
    case OC_SUITE: return COUNT(dropped);
    case OC_GRAD: return 2;
    case OC_LONG: return COUNT(large) + 60;
    case OC_PERF: return COUNT(large);
    default: return COUNT(tiny);
    }
}

/* The factor 1 / (1 - p) is rounded, and so is the product. */
static void bound_dropout(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = isnan(c->want[0][i]) ? 0 : 2.5 * OC_U * fabs(c->want[0][i]);
}

static void bound(oc_case *c)
{
    for (int64_t i = 0; i < lun_count(c->op.dst[0].shape); i++)
        c->bound[0][i] = 2e-6;
}

const oc_op oc_randint = {.kind = LUN_OP_RANDINT, .count = count, .make = make, .bound = bound};
const oc_op oc_randn = {.kind = LUN_OP_RANDN, .count = count, .make = make, .bound = bound};
const oc_op oc_dropout = {.kind = LUN_OP_DROPOUT, .count = count_dropout, .make = make_dropout, .bound = bound_dropout};
