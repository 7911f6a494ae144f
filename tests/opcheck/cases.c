#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "opcheck.h"
#include "reference.h"

uint64_t oc_seed = 1;

/* splitmix64 */
static uint64_t next(oc_rng *rng)
{
    uint64_t z = rng->state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

uint32_t oc_u32(oc_rng *rng)
{
    return (uint32_t)(next(rng) >> 32);
}
int oc_below(oc_rng *rng, int bound)
{
    return (int)(((uint64_t)oc_u32(rng) * (uint64_t)bound) >> 32);
}
double oc_real(oc_rng *rng)
{
    return ((double)oc_u32(rng) + 0.5) * 0x1p-31 - 1;
}

void *oc_alloc(size_t count, size_t size)
{
    void *memory = lun_calloc(count, size, "opcheck");
    if (memory == NULL) {
        fprintf(stderr, "opcheck: %s\n", lun_error_detail());
        exit(LUN_ERR_MEMORY);
    }
    return memory;
}

int oc_source(oc_case *c, lun_desc desc)
{
    const int s = c->op.nsrc++;
    const size_t count = (size_t)lun_count(desc.shape);
    c->op.src[s] = desc;
    c->bits[s] = oc_alloc(count, sizeof(uint32_t));
    c->src[s] = oc_alloc(count, sizeof(double));
    return s;
}

void oc_set_float(oc_case *c, int s, int64_t at, double value)
{
    const float rounded = (float)value;
    memcpy(&c->bits[s][at], &rounded, sizeof rounded);
    c->src[s][at] = (double)rounded;
}

void oc_fill_ints(oc_case *c, int s, oc_rng *rng, int low, int high)
{
    for (int64_t i = 0; i < oc_src_count(c, s); i++)
        oc_set_float(c, s, i, low + oc_below(rng, high - low + 1));
}

void oc_fill_reals(oc_case *c, int s, oc_rng *rng, double centre, double spread)
{
    for (int64_t i = 0; i < oc_src_count(c, s); i++)
        oc_set_float(c, s, i, centre + spread * oc_real(rng));
}

void oc_fill_indices(oc_case *c, int s, oc_rng *rng, int low, int high)
{
    for (int64_t i = 0; i < oc_src_count(c, s); i++) {
        const int value = low + oc_below(rng, high - low + 1);
        c->bits[s][i] = (uint32_t)value;
        c->src[s][i] = value;
    }
}

void oc_dest(oc_case *c, lun_shape shape)
{
    c->shape[c->ndst++] = shape;
}
oc_layout oc_turn(int index)
{
    return (oc_layout)(index % OC_LAYOUTS);
}

int oc_exact_limit(int64_t terms)
{
    int limit = 4;
    while (limit > 1 && (int64_t)limit * limit * terms > 1 << 24)
        limit--;
    return limit;
}

/* Channels that fill no vector and such that do, so that vectors lie askew and even. In place all operands have one
 * pitch; else different ones, and some of those that may have one have none. */
bool oc_pitch(oc_case *c, int index)
{
    static const int more[] = {1, 16, 3, 64, 61};
    const lun_op_info *info = lun_op_info_of(c->op.kind);
    const bool one = c->layout == OC_INPLACE;
    int given = 0, number = index;
    for (int i = 0; i < c->op.nsrc + c->op.ndst; i++) {
        const bool is_src = i < c->op.nsrc;
        const int k = is_src ? i : i - c->op.nsrc;
        if (!((is_src ? info->pitched_src : info->pitched_dst) >> k & 1u))
            continue;
        const int64_t channels = is_src ? c->op.src[k].shape.c : c->op.dst[k].shape.c;
        const int pitch = (int)channels + more[(one ? index : number) % (int)LUN_COUNT(more)];
        const bool left_out = !one && number++ % 4 == 3 && (is_src || given > 0);
        if (left_out)
            continue;
        *(is_src ? &c->op.src_pitch[k] : &c->op.dst_pitch[k]) = pitch;
        given++;
    }
    return given > 0;
}

double oc_sum_factor(double terms)
{
    return fmin(6 * sqrt(terms), terms);
}

/* --- pairs --- */
#define MAX_VALUES 16
typedef struct cover {
    const void *key;
    oc_set set;
    int count;
    int (*values)[OC_MAX_DIMS];
    struct cover *next;
} cover;

static cover *covers;

static cover *cover_make(const void *key, const oc_dim *dims, int ndims, int ncases, uint64_t seed,
                         bool (*usable)(const int *value, oc_set set), oc_set set)
{
    enum { TRIES = 40, DRAWS = 4000 };
    cover *made = oc_alloc(1, sizeof *made);
    made->key = key;
    made->set = set;
    made->values = oc_alloc((size_t)ncases, sizeof *made->values);
    bool(*seen)[MAX_VALUES][OC_MAX_DIMS][MAX_VALUES] = oc_alloc(OC_MAX_DIMS, sizeof *seen);
    oc_rng rng = {seed};
    for (; made->count < ncases; made->count++) {
        int best[OC_MAX_DIMS] = {0}, most = -1;
        for (int tries = 0, draws = 0; tries < TRIES && draws < DRAWS; draws++) {
            int pick[OC_MAX_DIMS], value[OC_MAX_DIMS], fresh = 0;
            for (int i = 0; i < ndims; i++) {
                pick[i] = oc_below(&rng, dims[i].count);
                value[i] = dims[i].values[pick[i]];
            }
            if (!usable(value, set))
                continue;
            tries++;
            for (int i = 0; i < ndims; i++)
                for (int j = 0; j < i; j++)
                    fresh += !seen[i][pick[i]][j][pick[j]];
            if (fresh > most) {
                most = fresh;
                memcpy(best, pick, sizeof best);
            }
        }
        if (most < 0) {
            fprintf(stderr, "opcheck: no usable shape among the values given\n");
            exit(LUN_ERR_INTERNAL);
        }
        for (int i = 0; i < ndims; i++) {
            made->values[made->count][i] = dims[i].values[best[i]];
            for (int j = 0; j < i; j++)
                seen[i][best[i]][j][best[j]] = true;
        }
    }
    free(seen);
    made->next = covers;
    covers = made;
    return made;
}

void oc_cover(const void *key, const oc_dim *dims, int ndims, int ncases, uint64_t seed,
              bool (*usable)(const int *value, oc_set set), oc_set set, int index, int *value)
{
    cover *found = covers;
    while (found != NULL && (found->key != key || found->set != set))
        found = found->next;
    if (found == NULL)
        found = cover_make(key, dims, ndims, ncases, seed, usable, set);
    memcpy(value, found->values[index], (size_t)ndims * sizeof *value);
}

void oc_forget_covers(void)
{
    while (covers != NULL) {
        cover *gone = covers;
        covers = gone->next;
        free(gone->values);
        free(gone);
    }
}

/* --- a case --- */
void oc_free(oc_case *c)
{
    for (int s = 0; s < LUN_OP_MAX_SRC; s++) {
        free(c->bits[s]);
        free(c->src[s]);
    }
    for (int d = 0; d < LUN_OP_MAX_DST; d++) {
        free(c->want[d]);
        free(c->mag[d]);
        free(c->bound[d]);
    }
    free(c->certain);
    memset(c, 0, sizeof *c);
}

static lun_status refer(const oc_op *op, oc_case *c)
{
    for (int d = 0; d < c->op.ndst; d++) {
        const size_t count = (size_t)lun_count(c->op.dst[d].shape);
        c->want[d] = oc_alloc(count, sizeof(double));
        c->mag[d] = oc_alloc(count, sizeof(double));
        c->bound[d] = oc_alloc(count, sizeof(double));
        for (size_t i = 0; i < count; i++)
            c->mag[d][i] = 1;
    }
    ref_op(&c->op, (const double *const *)c->src, c->want, c->mag);
    if (!c->exact)
        op->bound(c);
    return oc_vacuous(c);
}

lun_status oc_make(const oc_op *op, oc_set set, int index, uint64_t seed, bool reference, oc_case *c)
{
    /* Small cases can come out vacuous by chance (one element, zero): draw other data, a few times. */
    enum { REDRAWS = 8 };
    lun_status status = LUN_OK;
    for (int draw = 0; draw < REDRAWS; draw++) {
        memset(c, 0, sizeof *c);
        c->op.kind = op->kind;
        c->max_zero = 0.3f;
        oc_rng rng = {seed * UINT64_C(0x2545f4914f6cdd1d) + (uint64_t)op->kind * 1000003 + (uint64_t)index * 8191 +
                      (uint64_t)draw};
        next(&rng);
        op->make(c, set, index, &rng);
        status = lun_op_infer(&c->op);
        if (status == LUN_OK && c->op.ndst != c->ndst)
            status = lun_fail(LUN_ERR_INTERNAL, "the op has %d destinations, the case expects %d", c->op.ndst, c->ndst);
        for (int d = 0; status == LUN_OK && d < c->ndst; d++)
            if (!lun_shape_equal(c->op.dst[d].shape, c->shape[d]))
                status = lun_fail(LUN_ERR_INTERNAL, "shape of destination %d is %dx%dx%dx%d, not %dx%dx%dx%d", d,
                                  (int)c->op.dst[d].shape.n, (int)c->op.dst[d].shape.c, (int)c->op.dst[d].shape.h,
                                  (int)c->op.dst[d].shape.w, (int)c->shape[d].n, (int)c->shape[d].c, (int)c->shape[d].h,
                                  (int)c->shape[d].w);
        if (status != LUN_OK || !reference)
            return status;
        status = refer(op, c);
        if (status == LUN_OK || draw + 1 == REDRAWS)
            return status;
        oc_free(c);
    }
    return status;
}
