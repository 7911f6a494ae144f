/* What lunette bench ops tells: every op of a step by itself, against what this machine can do at best. */
#ifndef LUN_BENCH_OPS_H
#define LUN_BENCH_OPS_H

#include <jansson.h>

#include <lunette/lunette.h>

typedef struct op_row {
    char *kind, *shape, *candidate;
    const char *direction; /* "forward", "data", "weight", "update" */
    double flops, bytes, seconds;
    int count; /* ops that share the row; their figures are summed */
    bool fallback;
} op_row;

typedef struct op_table {
    op_row *rows;
    size_t count, room;
    double flops, bytes, seconds;  /* of all */
    int runs;                      /* of the plan at hand in a step */
    bool backward, update, failed; /* while it is filled */
} op_table;

/* What is measured beside the ops; 0 where it is not known. */
typedef struct op_limits {
    double flops;  /* a second: peak_flops() */
    double copy;   /* bytes a second: peak_copy() */
    double step_s; /* the whole step, not op by op */
} op_limits;

/* Run the plan op by op, one that a step runs `runs` times; release with free_ops, on failure too. */
lun_status measure_ops(lun_plan *plan, int repeats, int runs, op_table *out);
/* Add those of another plan of the step. */
lun_status measure_more_ops(lun_plan *plan, int repeats, int runs, op_table *table);
void free_ops(op_table *table);

/* Add the table to a JSON object, an entry an op in order of execution. */
void ops_to_json(json_t *root, const op_table *table, const op_limits *limits);
/* Print it, ops of one kind, shape, direction and candidate on one line, the dearest first. Changes the table. */
void print_ops(op_table *table, const op_limits *limits);

#endif
