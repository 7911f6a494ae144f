#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "bench_ops.h"

/* The table is in order of execution: gradients begin with that of the loss, and last come the updates. */
static const char *direction_of(op_table *t, const char *kind)
{
    static const char *const updates[] = {"accumulate", "sum_squares", "clip_norm", "adam", "ema"};
    for (size_t i = 0; i < LUN_COUNT(updates); i++)
        t->update = t->update || strcmp(kind, updates[i]) == 0;
    if (t->update)
        return "update";
    t->backward = t->backward || strstr(kind, "_backward") != NULL;
    if (!t->backward)
        return "forward";
    return strstr(kind, "wgrad") ? "weight" : "data";
}

static void add_op(void *payload, const lun_plan_op *op)
{
    op_table *t = payload;
    if (t->count == t->room) {
        const size_t room = t->room ? 2 * t->room : 128;
        op_row *rows = lun_realloc(t->rows, room, sizeof *rows, "ops");
        if (!rows) {
            t->failed = true;
            return;
        }
        t->rows = rows;
        t->room = room;
    }
    /* A description is the op's name, its operands' shapes and its attributes. */
    const char *shape = strchr(op->description, ' ');
    op_row row = {.kind = lun_strdup(op->kind),
                  .shape = lun_strdup(shape ? shape + 1 : ""),
                  .candidate = lun_strdup(op->candidate),
                  .direction = direction_of(t, op->kind),
                  .flops = op->flops * t->runs,
                  .bytes = op->bytes * t->runs,
                  .seconds = op->seconds * t->runs,
                  .count = t->runs,
                  .fallback = op->fallback};
    t->failed = t->failed || !row.kind || !row.shape || !row.candidate;
    t->rows[t->count++] = row;
    t->seconds += row.seconds;
    t->flops += row.flops;
    t->bytes += row.bytes;
}

lun_status measure_more_ops(lun_plan *plan, int repeats, int runs, op_table *table)
{
    table->runs = runs;
    LUN_TRY(lun_plan_profile(plan, repeats, add_op, table));
    return table->failed ? LUN_ERR_MEMORY : LUN_OK;
}

lun_status measure_ops(lun_plan *plan, int repeats, int runs, op_table *out)
{
    *out = (op_table){.rows = NULL};
    return measure_more_ops(plan, repeats, runs, out);
}

void free_ops(op_table *t)
{
    for (size_t i = 0; i < t->count; i++) {
        free(t->rows[i].kind);
        free(t->rows[i].shape);
        free(t->rows[i].candidate);
    }
    free(t->rows);
    *t = (op_table){.rows = NULL};
}

static double rate(double amount, double seconds)
{
    return seconds > 0 ? amount / seconds : 0;
}

/* ---- JSON
 * ----------------------------------------------------------------------------------------------------------------- */

/* What does not apply is null. */
static json_t *ratio(double part, double whole, double scale)
{
    return whole > 0 ? json_real(scale * part / whole) : json_null();
}

static json_t *known(double value, double scale)
{
    return value > 0 ? json_real(scale * value) : json_null();
}

static json_t *row_json(const op_row *r, const op_limits *l)
{
    const double flops = rate(r->flops, r->seconds), bytes = rate(r->bytes, r->seconds);
    return json_pack("{s:s, s:s, s:s, s:s, s:f, s:f, s:f, s:o, s:f, s:f, s:o, s:b}", "kind", r->kind, "direction",
                     r->direction, "shape", r->shape, "candidate", r->candidate, "ms", 1e3 * r->seconds, "gflop",
                     1e-9 * r->flops, "gflop_s", 1e-9 * flops, "percent_of_peak", ratio(flops, l->flops, 100), "mb",
                     1e-6 * r->bytes, "gb_s", 1e-9 * bytes, "percent_of_copy", ratio(bytes, l->copy, 100), "fallback",
                     (int)r->fallback);
}

void ops_to_json(json_t *root, const op_table *t, const op_limits *l)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < t->count; i++)
        json_array_append_new(rows, row_json(&t->rows[i], l));
    const double floor = l->flops > 0 ? t->flops / l->flops : 0;
    json_object_set_new(root, "ops_s", json_real(t->seconds));
    json_object_set_new(root, "gflop", json_real(1e-9 * t->flops));
    json_object_set_new(root, "peak_gflop_s", known(l->flops, 1e-9));
    json_object_set_new(root, "copy_gb_s", known(l->copy, 1e-9));
    json_object_set_new(root, "floor_s", known(floor, 1));
    json_object_set_new(root, "step_over_floor", ratio(l->step_s, floor, 1));
    json_object_set_new(root, "ops", rows);
}

/* ---- For people
 * ----------------------------------------------------------------------------------------------------------- */

static int by_name(const void *a, const void *b)
{
    const op_row *x = a, *y = b;
    int order = strcmp(x->kind, y->kind);
    order = order ? order : strcmp(x->direction, y->direction);
    order = order ? order : strcmp(x->shape, y->shape);
    return order ? order : strcmp(x->candidate, y->candidate);
}

static int by_time(const void *a, const void *b)
{
    const double x = ((const op_row *)a)->seconds, y = ((const op_row *)b)->seconds;
    return (x < y) - (x > y);
}

/* Join equal rows; the rest of the table is freed. */
static void join_rows(op_table *t)
{
    size_t used = 0;
    qsort(t->rows, t->count, sizeof *t->rows, by_name);
    for (size_t i = 0; i < t->count; i++) {
        op_row *r = &t->rows[i], *last = used ? &t->rows[used - 1] : NULL;
        if (!last || by_name(last, r) != 0) {
            t->rows[used++] = *r;
            continue;
        }
        last->seconds += r->seconds;
        last->flops += r->flops;
        last->bytes += r->bytes;
        last->count += r->count;
        free(r->kind);
        free(r->shape);
        free(r->candidate);
    }
    t->count = used;
    qsort(t->rows, t->count, sizeof *t->rows, by_time);
}

/* "-" where the whole is not known. */
static const char *percent_text(double part, double whole, char text[16])
{
    snprintf(text, 16, "%s", "-");
    if (whole > 0)
        snprintf(text, 16, "%.1f", 100 * part / whole);
    return text;
}

void print_ops(op_table *t, const op_limits *l)
{
    char peak[16], copy[16];
    if (t->count == 0)
        return;
    join_rows(t);
    printf("%9s %4s %9s %6s %9s %7s %6s  %-8s %s\n", "ms", "ops", "GFLOP/s", "% peak", "MB", "GB/s", "% copy", "for",
           "op");
    for (size_t k = 0; k < t->count; k++) {
        const op_row *r = &t->rows[k];
        const double flops = rate(r->flops, r->seconds), bytes = rate(r->bytes, r->seconds);
        printf("%9.3f %4d %9.1f %6s %9.2f %7.2f %6s  %-8s %s %s [%s%s]\n", 1e3 * r->seconds, r->count, 1e-9 * flops,
               percent_text(flops, l->flops, peak), 1e-6 * r->bytes, 1e-9 * bytes, percent_text(bytes, l->copy, copy),
               r->direction, r->kind, r->shape, r->candidate, r->fallback ? ", fallback" : "");
    }
    printf("sum of ops %.5f s beside a measured step of %.5f s: %.1f %% of it\n", t->seconds, l->step_s,
           100 * t->seconds / l->step_s);
    printf("%.4g GFLOP by the direct method, %.4g MB a step", 1e-9 * t->flops, 1e-6 * t->bytes);
    if (l->flops > 0)
        printf("; measured peak %.1f GFLOP/s", 1e-9 * l->flops);
    if (l->copy > 0)
        printf(", copying %.2f GB/s", 1e-9 * l->copy);
    printf("\n");
    if (l->flops > 0)
        printf("floor of the direct method %.5f s; step over floor %.3f\n", t->flops / l->flops,
               l->step_s * l->flops / t->flops);
}
