/* The graph tier from inside: what a graph, a store, a placement and a plan are. Private.
 *
 *   record.c    values and nodes; every node goes through lun_op_infer
 *   backward.c  lun_graph_backward, and the lun_backward_* of op/op.h
 *   fuse.c      neighbouring ops made into one, in a copy of the graph that a plan owns
 *   views.c     in that copy, concat and slice without copies
 *   place.c     which nodes run, where each value lies, and the checker of that
 *   compile.c   op plans, fallback, buffers
 *   run.c       write, run, read, copy, profile
 *   trace.c     a run that looks for what is not finite
 *   store.c     parameters with gradients, moments and averages
 *   update.c    recording what works on the whole store: Adam, accumulation, clipping, averages
 *   dump.c      a listing for people
 *
 * Order of execution is order of recording. A value is written once, by its producer, except for what lies in a
 * state or in the store: in-place ops change that, and nodes recorded later see the change.
 */
#ifndef LUN_GRAPH_PRIVATE_H
#define LUN_GRAPH_PRIVATE_H

#include <stdio.h>

#include <lunette/graph.h>

#include "base/base.h"
#include "device/driver.h"
#include "op/op.h"

#define LUN_ALIGN 256 /* bytes; every placed tensor starts on a multiple */

typedef enum lun_source {
    LUN_SOURCE_TEMP, /* a node's result */
    LUN_SOURCE_INPUT,
    LUN_SOURCE_CONSTANT,
    LUN_SOURCE_STATE,
    LUN_SOURCE_PARAM
} lun_source;

typedef struct lun_tensor {
    lun_desc desc;
    lun_source source;
    int node;    /* the producer, or -1; a LUN_SOURCE_TEMP without one is gone (fuse.c) */
    int root;    /* the value whose storage this is: itself, or for an in-place result the state or parameter, or for a
                    view the wide value (views.c) */
    int first;   /* of a view: the channel of the wide value at which it begins; else 0 */
    int param;   /* LUN_SOURCE_PARAM: number in the store, else -1 */
    int grad_of; /* the parameter in whose gradient slot this value lies, or -1 */
    bool output;
    char *name; /* NULL for nodes' results */
    void *data; /* LUN_SOURCE_CONSTANT: contents in storage order */
} lun_tensor;

typedef struct lun_node {
    lun_op op;
    lun_value src[LUN_OP_MAX_SRC];
    lun_value dst[LUN_OP_MAX_DST];
    /* An op over the whole store, Adam's step for one: compile.c makes an op for each of the store's chunks, which are
     * known only once the store has its memory. Their operand i is the slot operand[i] of the chunk or, where that is
     * LUN_OWN_OPERAND, the next of `src`. */
    bool whole_store;
    bool untrained; /* with whole_store: over the pieces that are not trained instead */
    int operands;
    signed char operand[LUN_OP_MAX_SRC];
} lun_node;

#define LUN_OWN_OPERAND (-1)
/* Partial results of an op that sums over the store, one a chunk. */
#define LUN_STORE_PARTS 64

struct lun_graph {
    lun_store *store;
    lun_tensor *tensors;
    lun_node *nodes;
    int tensor_count, node_count, tensor_room, node_room;
    lun_value *param_value; /* by number in the store; -1: not in this graph */
    int param_count;
    int backward_start; /* the first node of the backward pass, or -1 */
    double *times;      /* lun_graph_times; NULL: 0, 1, .. */
    int time_count;
    lun_status error;
    char detail[512];
};

/* Keep the first error of a graph. The first form keeps what lun_error_detail() says now. Returns -1. */
lun_value lun_graph_keep(lun_graph *graph, lun_status status);
lun_value lun_graph_fail(lun_graph *graph, lun_status status, const char *format, ...) LUN_PRINTF(3, 4);
/* Append a node; returns its first destination, or -1 with the error kept. `attrs` may be NULL. */
lun_value lun_graph_record(lun_graph *graph, lun_op_kind kind, const lun_attrs *attrs, const lun_value *src, int nsrc);

/* Room for one more node; false with the error kept. */
bool lun_graph_node_room(lun_graph *graph);

/* A copy with neighbouring ops merged, for one plan. Values have the same numbers, those that are no more have no
 * producer, and new ones come after them. Names and constants' contents are borrowed from `recorded`. */
lun_status lun_graph_fuse(const lun_graph *recorded, lun_graph **out);
void lun_graph_free_fused(lun_graph **graph);
/* Remove nodes from such a copy; gone: by node. */
void lun_graph_compact(lun_graph *graph, const bool *gone);
/* In such a copy, let sources of concats and results of slices be views where all who touch them can. On an error the
 * copy is of no more use. */
lun_status lun_graph_make_views(lun_graph *graph);

/* Is the value some channels of a wider one? */
static inline bool lun_is_view(const lun_graph *graph, lun_value value)
{
    const int root = graph->tensors[value].root;
    return root != value && graph->tensors[root].source == LUN_SOURCE_TEMP;
}

/* ---- The store ----
 * Each slot is one flat arena, cut into chunks where the device limits one buffer. In it every entry starts on
 * LUN_ALIGN bytes and belongs to one chunk; the padding is zero and stays so. Trained entries come first; the chunks
 * after store->trained_chunks hold the LUN_ROLE_BUFFER entries and exist only for LUN_SLOT_VALUE and, where a graph
 * asks for it, LUN_SLOT_SAFE. */

#define LUN_SLOTS (LUN_SLOT_LAST + 1)

typedef struct lun_store_entry {
    lun_param_info info;
    char *name;
    int chunk;
    size_t offset; /* bytes in the chunk */
} lun_store_entry;

typedef struct lun_store_chunk {
    size_t bytes;
    lun_buffer *buffer[LUN_SLOTS]; /* by slot; NULL where there is none */
} lun_store_chunk;

struct lun_store {
    lun_store_entry *entries;
    int count, room;
    lun_device *device; /* NULL until lun_store_allocate */
    bool training;
    unsigned wanted;  /* bit s: slot s is wanted beyond those that training always has */
    uint64_t version; /* changes whenever a value may have */
    lun_store_chunk *chunks;
    int chunk_count, trained_chunks;
};

/* The entry of that name, added if new; the number in *index. */
lun_status lun_store_enter(lun_store *store, const lun_param_info *info, int *index);
/* A graph will work on this slot. LUN_ERR_USAGE where the store has its memory already, without this slot. */
lun_status lun_store_want(lun_store *store, lun_slot slot);
/* Of an allocated store; the slot must exist for the entry. */
lun_place lun_store_place(const lun_store *store, int index, lun_slot slot);

/* ---- Placement ---- */

typedef enum lun_region {
    LUN_REGION_NONE,  /* result of a node that does not run */
    LUN_REGION_ARENA, /* shared in time */
    LUN_REGION_FIXED, /* inputs, constants, states, outputs */
    LUN_REGION_STORE  /* a parameter or a final gradient */
} lun_region;

typedef struct lun_spot {
    lun_region region;
    int pool;
    size_t offset;
    int first, last; /* nodes: the one that writes it and the last that reads it; -1 before all */
    bool inplace;    /* takes over the storage of one of its node's sources */
} lun_spot;

typedef struct lun_pools {
    size_t *bytes;
    int count;
    size_t total;
} lun_pools;

typedef struct lun_placement {
    lun_spot *spot; /* by value */
    bool *live;     /* by node: something that is kept depends on it */
    lun_pools arena, fixed;
    size_t saved_bytes, temporary_bytes;
} lun_placement;

/* Place a graph without errors. `max_alloc`: the most bytes of one pool, 0 for no limit; LUN_ERR_MEMORY if a tensor
 * alone is larger. */
lun_status lun_placement_create(const lun_graph *graph, size_t max_alloc, lun_placement **out);
void lun_placement_destroy(lun_placement **placement);
/* Play the graph through and see that every node finds its operands unharmed, and that no result lands on an operand
 * that the op does not allow. Shares nothing with the placing itself. LUN_ERR_INTERNAL with the first violation. */
lun_status lun_placement_check(const lun_graph *graph, const lun_placement *placement, size_t max_alloc);

/* ---- Plans ---- */

typedef struct lun_plan_step {
    lun_op op;
    int node, chunk; /* chunk: of the store, for whole_store nodes; else -1 */
    lun_op_plan *plan;
    bool fallback;    /* plan is of plan->cpu */
    bool keepable;    /* what the plan prepares depends on parameters and constants alone */
    lun_buffer *kept; /* what it has prepared, on its own device; NULL: made again in every run */
    char *description, *candidate;
    lun_place src[LUN_OP_MAX_SRC], dst[LUN_OP_MAX_DST];         /* on the plan's device */
    lun_place cpu_src[LUN_OP_MAX_SRC], cpu_dst[LUN_OP_MAX_DST]; /* fallback only: on plan->cpu */
} lun_plan_step;

struct lun_plan {
    const lun_graph *recorded; /* what was compiled */
    lun_graph *graph;          /* its fused copy: what runs */
    lun_device *device;
    lun_device *cpu; /* for fallback; NULL when nothing falls back */
    lun_placement *placement;
    lun_slot values; /* stands for the trained parameters' values */
    int value_count; /* of the graph, when it was compiled */
    bool *readable;  /* by value */
    lun_plan_step *steps;
    int step_count;
    bool changes_store;          /* a run changes values of the store */
    uint64_t prepared;           /* version of the store that the kept memory was made from; 0: of none */
    lun_buffer **arena, **fixed; /* by pool */
    lun_buffer *workspace;
    lun_buffer *cpu_operands, *cpu_workspace;
    void *staging; /* host: permuted inputs, and operands on their way to plain C */
    lun_plan_info info;
};

/* The parts of lun_plan_run (run.c): what is kept, made anew where the store's values have changed, and a note of it
 * where this run changes them; then each step. */
lun_status lun_plan_begin(lun_plan *plan);
lun_status lun_plan_run_step(lun_plan *plan, lun_plan_step *step);

/* Where a value of a compiled plan lies. */
lun_place lun_plan_place(const lun_plan *plan, lun_value value);

/* Nodes with shapes, lifetimes and places; with a plan (else NULL) as compiled, with candidates; without, as placed
 * with no limit. */
lun_status lun_graph_dump(const lun_graph *graph, const lun_plan *plan, FILE *file);

#endif
