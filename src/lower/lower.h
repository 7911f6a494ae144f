/* Lowering: from an op to kernel launches. Private.
 *
 * Written once for every device that runs the kernel texts under cl/. An op has candidates, best first and the most
 * general last; each fills a lun_lowering or declines with LUN_UNSUPPORTED and a one-line reason. A device says what
 * it is in lun_caps. The plain-C device runs the same texts compiled by the C compiler, so cl/ (except cl/gpu) is
 * written in the subset described in cl/kernel.h.
 */
#ifndef LUN_LOWER_H
#define LUN_LOWER_H

#include "op/op.h"

typedef struct lun_caps {
    bool gpu;           /* many small work-items in step: one element an item; otherwise large pieces, one an item */
    bool groups;        /* runs kernels with work-groups, local memory and barriers (cl/gpu) */
    bool gemm;          /* has an external matrix product (CLBlast) */
    int lanes;          /* width of the vector unit in floats: 1, 4, 8, 16 */
    int units;          /* compute units or threads; may steer piece sizes, never results */
    size_t max_group;   /* largest work-group, 0 without groups */
    size_t local_bytes; /* local memory, 0 without groups */
    size_t max_alloc;   /* largest single buffer */
    double launch_s;    /* seconds that one launch may be predicted to take, because others wait meanwhile; 0: any */
} lun_caps;

typedef enum lun_space { LUN_SPACE_SRC, LUN_SPACE_DST, LUN_SPACE_WORKSPACE, LUN_SPACE_KEPT } lun_space;

typedef struct lun_launch_buffer {
    lun_space space;
    int index;     /* operand number; 0 for the workspace and for what is kept */
    size_t offset; /* bytes */
} lun_launch_buffer;

#define LUN_LAUNCH_MAX_BUFFERS 8
#define LUN_LAUNCH_MAX_ARGS    160

/* Row-major C = A B (+ C): A is m x k, or k x m read transposed; likewise B k x n. Buffers 0, 1, 2 are A, B, C;
 * leading dimensions in elements. */
typedef struct lun_gemm_args {
    int64_t m, n, k, lda, ldb, ldc;
    bool trans_a, trans_b;
    float beta; /* 0 or 1 */
} lun_gemm_args;

typedef struct lun_launch {
    const char *file; /* "elementwise.cl", under cl/; NULL for an external matrix product */
    const char *kernel;
    char options[64]; /* -D macros beyond those that a device always gives; "" mostly. Ignored by plain C. */
    int buffers;
    lun_launch_buffer buffer[LUN_LAUNCH_MAX_BUFFERS];
    size_t args_bytes; /* one struct by value, of int32, uint32 and float members only */
    _Alignas(8) unsigned char args[LUN_LAUNCH_MAX_ARGS];
    int64_t items; /* work-items; a multiple of group where group > 0 */
    int group;     /* 0: items are independent and the device picks; else the exact work-group size (cl/gpu only) */
    double work;   /* how much of the op's arithmetic the launch does; 0: those of one kernel share it by their items */
    bool prepare;  /* reads sources that may stay the same from run to run, writes what is kept */
    lun_gemm_args gemm; /* where file is NULL */
} lun_launch;

#define LUN_MAX_LAUNCHES 64

typedef struct lun_lowering {
    int count;
    size_t workspace;                    /* bytes of scratch; contents need not survive from one run to the next */
    size_t kept;                         /* bytes that the prepare launches write and the others only read */
    lun_launch launch[LUN_MAX_LAUNCHES]; /* last, so that a plan can keep only those in use */
} lun_lowering;

typedef struct lun_candidate {
    const char *name; /* "panel", "tile", "im2col_gemm", "direct", "plain" */
    lun_status (*lower)(const lun_op *op, const lun_caps *caps, lun_lowering *out);
    /* A rule of thumb where nothing has been measured: for this op, before all others. NULL: never. */
    bool (*suits)(const lun_op *op, const lun_caps *caps);
} lun_candidate;

/* The candidates of a kind, best first but for those that suit an op, ended by one whose name is NULL. */
const lun_candidate *lun_candidates(lun_op_kind kind);

/* For the files of this folder. lun_emit returns the next launch with everything zero but file, kernel and items. What
 * does not fit (a launch, a buffer, a struct of arguments) is counted all the same, and the front door refuses it. */
lun_launch *lun_emit(lun_lowering *out, const char *file, const char *kernel, int64_t items);
/* The same for a launch that turns sources, mostly a filter, into another form in the kept memory. It reads sources and
 * kept memory only, writes kept memory only, and comes before every other launch. Who owns the plan runs it again only
 * when those sources have changed, or before every run where it has no memory to keep the result in. */
lun_launch *lun_emit_prepare(lun_lowering *out, const char *file, const char *kernel, int64_t items);
void lun_emit_buffer(lun_launch *launch, lun_launch_buffer buffer);
void lun_emit_src(lun_launch *launch, int index);
void lun_emit_dst(lun_launch *launch, int index);
void lun_emit_workspace(lun_launch *launch, size_t offset);
void lun_emit_kept(lun_launch *launch, size_t offset);
#define lun_emit_args(launch, struct_value) lun_emit_args_(launch, &(struct_value), sizeof(struct_value))
void lun_emit_args_(lun_launch *launch, const void *args, size_t bytes);
/* Book scratch, aligned to 256 bytes; returns its offset for lun_emit_workspace. */
size_t lun_book(lun_lowering *out, size_t bytes);
/* The same for kept memory and lun_emit_kept. */
size_t lun_book_kept(lun_lowering *out, size_t bytes);

/* How a device likes n independent elements cut: elements an item (fixed by n and the kind of device, never by the
 * thread count, so that results cannot depend on it). */
int64_t lun_grain(const lun_caps *caps, int64_t n);

/* Cost of any op by the direct method (what it asks for, not what a candidate does); bytes: each operand read or
 * written once. */
void lun_op_cost(const lun_op *op, double *flops, double *bytes);

/* parts.c. What launch `index` of the op's lowering takes on a slow device of caps->units, in seconds: an upper bound
 * for most. */
double lun_launch_seconds(const lun_op *op, const lun_lowering *lowering, int index, const lun_caps *caps);
/* The launch is to be enqueued so many items at a time, in order: a multiple of `group`, at least one group, and no
 * more than is predicted to take caps->launch_s; all of them where that is 0. An item of a matrix product is a row of
 * C. Items are independent, so no result depends on this. */
int64_t lun_launch_items(const lun_op *op, const lun_lowering *lowering, int index, const lun_caps *caps,
                         int64_t group);

#endif
