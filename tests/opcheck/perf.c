/* perf: how long an op takes with each candidate. support: which candidate takes which op, or why not. kernels: what
 * the cases launch. */
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "setup.h"

static lun_status time_case(const oc_options *options, const oc_case *c, const char *candidate, int *failures)
{
    const double at_least = options->set == OC_TINY ? 0.02 : 0.3;
    char text[128];
    oc_setup u;
    LUN_TRY(oc_setup_create(options->dev, c, candidate, &u));
    lun_op_describe(&c->op, text, sizeof text);
    lun_status status = oc_setup_write(&u);
    int runs = 1;
    double seconds = 0;
    if (status == LUN_OK)
        status = lun_op_plan_run(u.plan); /* warm */
    if (status == LUN_OK)
        status = lun_device_finish(options->dev);
    while (status == LUN_OK) {
        const double start = lun_clock();
        for (int i = 0; i < runs && status == LUN_OK; i++)
            status = lun_op_plan_run(u.plan);
        if (status == LUN_OK)
            status = lun_device_finish(options->dev);
        seconds = lun_clock() - start;
        if (seconds >= at_least)
            break;
        runs = seconds > 0 ? (int)fmin(fmax(1.2 * at_least / seconds, 2) * runs, 1e6) : 2 * runs;
    }
    if (status == LUN_OK) {
        const double one = seconds / runs;
        printf("%-44s %-14s %10.4f ms %8.2f GFLOP/s %8.2f GB/s\n", text, candidate, one * 1e3,
               u.plan->flops / one * 1e-9, u.plan->bytes / one * 1e-9);
        fflush(stdout);
    } else {
        printf("FAIL perf %s %s: %s\n", text, candidate, lun_error_detail());
        ++*failures;
    }
    oc_setup_destroy(&u);
    return LUN_OK;
}

int oc_mode_perf(const oc_options *options)
{
    int failures = 0, timed = 0;
    const oc_set set = options->set == OC_TINY ? OC_TINY : OC_PERF;
    for (int o = 0; o < oc_op_count; o++) {
        if (!oc_chosen(options, oc_ops[o]))
            continue;
        for (int i = 0; i < oc_ops[o]->count(set); i++) {
            if (options->index >= 0 && i != options->index)
                continue;
            oc_case c;
            if (oc_make(oc_ops[o], set, i, options->seed, false, &c) != LUN_OK) {
                printf("FAIL perf %s case %d: %s\n", lun_op_info_of(oc_ops[o]->kind)->name, i, lun_error_detail());
                failures++;
                oc_free(&c);
                continue;
            }
            for (const lun_candidate *k = lun_candidates(c.op.kind); k->name != NULL; k++) {
                if (!oc_candidate_chosen(options, k->name))
                    continue;
                const lun_status status = time_case(options, &c, k->name, &failures);
                if (status == LUN_OK) {
                    timed++;
                } else if (status != LUN_UNSUPPORTED) {
                    printf("FAIL perf %s %s: %s\n", lun_op_info_of(c.op.kind)->name, k->name, lun_error_detail());
                    failures++;
                }
            }
            oc_free(&c);
        }
    }
    if (timed == 0)
        printf("FAIL perf: nothing was timed\n");
    return failures == 0 && timed > 0 ? 0 : 1;
}

int oc_mode_support(const oc_options *options)
{
    int failures = 0;
    for (int o = 0; o < oc_op_count; o++) {
        const oc_op *op = oc_ops[o];
        if (!oc_chosen(options, op))
            continue;
        for (const lun_candidate *k = lun_candidates(op->kind); k->name != NULL; k++) {
            int ready = 0, cases = 0;
            char reason[160] = "";
            if (!oc_candidate_chosen(options, k->name))
                continue;
            for (int i = 0; i < op->count(options->set); i++) {
                if (options->index >= 0 && i != options->index)
                    continue;
                oc_case c;
                lun_op_plan *plan = NULL;
                lun_status status = oc_make(op, options->set, i, options->seed, false, &c);
                if (status == LUN_OK)
                    status = lun_op_plan_create(options->dev, &c.op, k->name, &plan);
                cases++;
                if (status == LUN_OK)
                    ready++;
                else if (reason[0] == 0)
                    snprintf(reason, sizeof reason, "%s", lun_error_detail());
                failures += status != LUN_OK && status != LUN_UNSUPPORTED;
                lun_op_plan_destroy(&plan);
                oc_free(&c);
            }
            printf("%-20s %-10s %-14s ready %3d of %3d  %s\n", lun_op_info_of(op->kind)->name, options->dev->info.spec,
                   k->name, ready, cases, reason);
        }
    }
    return failures == 0 ? 0 : 1;
}

/* A line for what it is but for its numbers, as "= conv2d relu stats of 3 for 2"; one a launch: the kernel's name in
 * its text. */
static void print_kernels(const oc_options *options, const oc_case *c)
{
    char text[300];
    lun_op_describe(&c->op, text, sizeof text);
    printf("= ");
    for (char *word = strtok(text, " "); word != NULL; word = strtok(NULL, " "))
        if (strpbrk(word, "0123456789") == NULL || word == text)
            printf("%s ", word);
    printf("of %d for %d\n", c->op.nsrc, c->op.ndst);
    for (const lun_candidate *k = lun_candidates(c->op.kind); k->name != NULL; k++) {
        lun_lowering lowering = {0};
        if (!oc_tries(options, c, k->name) || k->lower(&c->op, &options->dev->caps, &lowering) != LUN_OK)
            continue;
        for (int l = 0; l < lowering.count; l++)
            if (lowering.launch[l].file != NULL)
                printf("%s\n", lowering.launch[l].kernel);
    }
}

int oc_mode_kernels(const oc_options *options)
{
    int failures = 0;
    for (int o = 0; o < oc_op_count; o++) {
        for (int i = 0; oc_chosen(options, oc_ops[o]) && i < oc_ops[o]->count(options->set); i++) {
            oc_case c;
            if (oc_make(oc_ops[o], options->set, i, options->seed, false, &c) != LUN_OK)
                failures++;
            else
                print_kernels(options, &c);
            if (oc_tries_pitched(options, i) && oc_pitch(&c, i))
                print_kernels(options, &c);
            oc_free(&c);
        }
    }
    return failures == 0 ? 0 : 1;
}
