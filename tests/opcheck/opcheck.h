/* opcheck: every op of every device against a naive float64 reference.
 *
 * A case is an op with its operands' data, in the API's order (N C H W). The reference (reference.h) turns it into what
 * each element of each destination must be and into the magnitude |W||X| behind it; the op's file (conv2d.c, ...) turns
 * these into a bound per element, derived in a comment there; device.c runs it on a device and compare.c judges.
 *
 * To add an op: its loops in reference_*.c, its cases and bound in a file here, a line in oc_ops (main.c).
 */
#ifndef OPCHECK_H
#define OPCHECK_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "device/driver.h"

/* Of the data and the shapes; from --seed. */
extern uint64_t oc_seed;

/* What destinations and workspaces hold before a run: a NaN. */
#define OC_UNWRITTEN 0x7fc0dead

/* Unit round-off of float32. */
#define OC_U 0x1p-24

/* Numbers for tests: not the library's Philox, which is itself under test. */
typedef struct oc_rng {
    uint64_t state;
} oc_rng;

uint32_t oc_u32(oc_rng *rng);
int oc_below(oc_rng *rng, int bound); /* 0..bound-1 */
double oc_real(oc_rng *rng);          /* uniform in -1..1, never 0 */

typedef enum oc_set {
    OC_SUITE, /* what meson test runs */
    OC_TINY,  /* small, but two work-groups or more in each dimension: for Oclgrind */
    OC_LONG,  /* by hand: many random shapes, and the layers of the notebook network */
    OC_PERF,  /* the layers of the notebook network at the size that is timed */
    OC_GRAD,  /* at most a few hundred numbers: for finite differences */
    OC_SETS
} oc_set;

/* Where operands lie: each in a buffer of its own at a multiple of 256 bytes; all in one buffer, as the planner places
 * them; all in one buffer at odd multiples of 4 bytes; destination 0 on top of a source, where the op allows it. */
typedef enum oc_layout { OC_APART, OC_ARENA, OC_ODD, OC_INPLACE } oc_layout;
#define OC_LAYOUTS 4

typedef struct oc_case {
    lun_op op;
    oc_layout layout;
    bool exact;     /* integer data, every partial sum representable: tolerance 0 */
    float max_zero; /* share of zeros that destination 0 may have, not counting elements that nothing contributes to */
    const char *only; /* the one candidate that the case is for, where another would take too long; NULL: all */
    bool constant;    /* destination 0 may be constant */
    bool passes;      /* results are passed on or not: they may all be zero, or all NaN */
    bool nans;        /* a NaN in the reference is meant: the device must give one too */
    bool like_cpu;    /* must equal the cpu device bit for bit */
    uint64_t golden;  /* lun_hash of destination 0 in API order, on every device for ever; 0: not recorded */
    lun_shape shape[LUN_OP_MAX_DST]; /* what the destinations must be, from the case's own formula */
    int ndst;
    uint32_t *bits[LUN_OP_MAX_SRC]; /* the data: float32 or integers */
    double *src[LUN_OP_MAX_SRC];    /* the same numbers */
    double *want[LUN_OP_MAX_DST], *mag[LUN_OP_MAX_DST], *bound[LUN_OP_MAX_DST];
    double *certain; /* of destination 0: beyond this it is certainly a bug; NULL where not derived */
} oc_case;

typedef struct oc_op {
    lun_op_kind kind;
    int (*count)(oc_set set);
    /* Fill op (kind is set), shape, ndst and the data of case `index`. */
    void (*make)(oc_case *c, oc_set set, int index, oc_rng *rng);
    /* Fill bound[] from want, mag and src; not called for exact cases, whose bound is zero. */
    void (*bound)(oc_case *c);
    /* May be NULL. Candidates of another algorithm have a bound of their own, for exact cases too: fill bound[] of
     * destination 0 and return true, or return false for the common one. */
    bool (*bound_of)(const oc_case *c, const char *candidate, double *bound);
    /* May be NULL, else with bound_of: bound[] of destination 1, which is made of destination 0, from its `bound`. */
    void (*follow)(const oc_case *c, const double *bound, double *second);
} oc_op;

extern const oc_op oc_conv2d, oc_conv2d_transpose, oc_conv2d_wgrad, oc_channel_sum, oc_spatial_sum, oc_batch_norm,
    oc_batch_norm_backward, oc_group_norm, oc_group_norm_backward, oc_scale_shift, oc_scale_shift_backward, oc_silu,
    oc_silu_backward, oc_gelu, oc_gelu_backward, oc_dropout, oc_relu, oc_relu_backward, oc_add, oc_add_channel,
    oc_concat, oc_slice, oc_embed, oc_noise, oc_loss, oc_loss_backward, oc_adam, oc_randint, oc_randn, oc_sample_step,
    oc_store, oc_embed_backward, oc_upsample2, oc_pool2, oc_attention, oc_attention_backward, oc_loss_each,
    oc_loss_each_backward, oc_weighted_mean, oc_weighted_mean_backward, oc_variational, oc_variational_backward,
    oc_guide, oc_accumulate, oc_sum_squares, oc_clip_norm, oc_ema, oc_loss_seed, oc_health, oc_settle,
    oc_upsample2_filter, oc_pool2_filter;
/* winograd.c: bound_of of the convolutions. */
bool oc_winograd_bound(const oc_case *c, const char *candidate, double *bound);
extern const oc_op *const oc_ops[];
extern const int oc_op_count;

typedef struct oc_options {
    const char *device, *op, *candidate, *skip; /* skip: a candidate not to try */
    bool as_gpu, as_cpu;                        /* lower as for that, whatever the device is */
    int lanes;                                  /* lower for vectors of so many floats; 0: the device's own */
    int index;                                  /* -1: all */
    uint64_t seed;
    oc_set set;
    bool verbose;
    /* twin: what must agree bit for bit. Of cpu, itself with another number of threads, in every case; of other
     * devices, cpu, in like_cpu cases. NULL: none. */
    lun_device *dev, *twin;
} oc_options;

/* --- cases.c: for the files that make cases --- */
/* Allocation that ends the program when memory is out: a test has nothing else to do then. */
void *oc_alloc(size_t count, size_t size);
/* Add a source; its data is zero until filled. Returns its number. */
int oc_source(oc_case *c, lun_desc desc);
void oc_fill_ints(oc_case *c, int s, oc_rng *rng, int low, int high); /* floats with whole values */
void oc_fill_reals(oc_case *c, int s, oc_rng *rng, double centre, double spread);
void oc_fill_indices(oc_case *c, int s, oc_rng *rng, int low, int high); /* an I32 source */
void oc_set_float(oc_case *c, int s, int64_t at, double value);
void oc_dest(oc_case *c, lun_shape shape);
static inline int64_t oc_src_count(const oc_case *c, int s)
{
    return lun_count(c->op.src[s].shape);
}
/* The layout of case `index`: each in turn. */
oc_layout oc_turn(int index);
/* Whole values so small that `terms` products of two of them sum exactly in float32. */
int oc_exact_limit(int64_t terms);
/* Give operands of a made case pitches, where the op's kind may have them, and otherwise leave it: the results must be
 * the same. Which operands and which pitches, `index` decides. False: none has one. */
bool oc_pitch(oc_case *c, int index);
/* min(6 sqrt(K), K): the factor of u |W||X| that K roundings are allowed. */
double oc_sum_factor(double terms);

typedef struct oc_dim {
    const int *values;
    int count;
} oc_dim;
#define OC_DIM(...)                                                                                                    \
    {                                                                                                                  \
        (const int[]){__VA_ARGS__}, (int)(sizeof((const int[]){__VA_ARGS__}) / sizeof(int))                            \
    }
#define OC_MAX_DIMS 16
/* Choice `index` of a seeded greedy selection that covers pairs of values: value numbers into `choice`. `usable` says
 * whether a choice is legal and cheap enough. Cached under `key`. */
void oc_cover(const void *key, const oc_dim *dims, int ndims, int ncases, uint64_t seed,
              bool (*usable)(const int *value, oc_set set), oc_set set, int index, int *value);
void oc_forget_covers(void);

/* Make, infer and (with `reference`) compute want, mag, bound. LUN_OK, or the failure with its detail. */
lun_status oc_make(const oc_op *op, oc_set set, int index, uint64_t seed, bool reference, oc_case *c);
void oc_free(oc_case *c);

/* --- device.c --- */
/* Run the case with one candidate, `runs` times. got[d]: fresh arrays in API order, freed by the caller.
 * LUN_UNSUPPORTED: declined. Any breach of the contract (canary, changed source, runs that differ) is LUN_ERR_INTERNAL
 * with its detail. */
lun_status oc_run(lun_device *dev, const oc_case *c, const char *candidate, int runs, uint32_t *got[LUN_OP_MAX_DST]);

/* --- compare.c --- */
/* LUN_OK, or LUN_ERR_INTERNAL with worst index, got, want and bound. *ratio: the largest error in terms of its bound.
 */
lun_status oc_compare(const oc_case *c, uint32_t *const *got, double *ratio);
/* The reference must say something: not constant, not mostly zero. */
lun_status oc_vacuous(const oc_case *c);

/* --- the modes: exit codes --- */
int oc_mode_test(const oc_options *options);
int oc_mode_grad(const oc_options *options);
int oc_mode_perf(const oc_options *options);
int oc_mode_support(const oc_options *options);
int oc_mode_kernels(const oc_options *options);
bool oc_candidate_chosen(const oc_options *options, const char *name);
/* Whether the candidate is chosen and the case is made for it. */
bool oc_tries(const oc_options *options, const oc_case *c, const char *candidate);
/* Whether it is tried with pitches, too. */
bool oc_tries_pitched(const oc_options *options, int index);
bool oc_chosen(const oc_options *options, const oc_op *op);

#endif
