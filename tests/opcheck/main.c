#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "opcheck.h"

static const char help[] =
    "usage: opcheck [test|grad|perf|support|kernels] [options]\n"
    "  test      every op, every candidate that accepts, against the float64 reference (the default)\n"
    "  grad      the gradient rules against finite differences and exact adjoints; needs no device\n"
    "  perf      time every candidate\n"
    "  support   which candidate takes which cases, or the first reason why not\n"
    "  kernels   what the cases are (=), and the name of each kernel that they launch\n"
    "  --device SPEC   cpu (default), opencl, opencl:I, check\n"
    "  --op NAME  --candidate NAME  --case INDEX  --seed S\n"
    "  --skip NAME  a candidate to leave out\n"
    "  --as-gpu  lower as for a GPU: one element an item;  --as-cpu  as for a CPU: long pieces, the panel kernels\n"
    "  --lanes N  as for vectors of N floats: 1, 4, 8, 16 (opencl)\n"
    "  --tiny    few small cases, two work-groups or items and more a dimension (Oclgrind)\n"
    "  --long    many random shapes and the layers of the notebook network: by hand\n"
    "  --verbose the candidates' refusals, and what the library logs\n"
    "$LUNETTE_ISA chooses the instruction set of cpu.\n"
    "exit: 0 passed, 1 failed, 2 usage, 77 no such device here\n";

const oc_op *const oc_ops[] = {
#define X(KIND, name) &oc_##name,
    LUN_OP_KINDS(X)
#undef X
};
const int oc_op_count = (int)(sizeof oc_ops / sizeof oc_ops[0]);

bool oc_chosen(const oc_options *options, const oc_op *op)
{
    return options->op == NULL || strcmp(options->op, lun_op_info_of(op->kind)->name) == 0;
}

bool oc_candidate_chosen(const oc_options *options, const char *name)
{
    return (options->candidate == NULL || strcmp(options->candidate, name) == 0) &&
           (options->skip == NULL || strcmp(options->skip, name) != 0);
}

bool oc_tries(const oc_options *options, const oc_case *c, const char *candidate)
{
    return oc_candidate_chosen(options, candidate) && (c->only == NULL || strcmp(c->only, candidate) == 0);
}

/* Oclgrind is slow: there one case. */
bool oc_tries_pitched(const oc_options *options, int index)
{
    return options->set != OC_TINY || index == 0;
}

static bool has_chosen_candidate(const oc_options *options, const oc_op *op)
{
    for (const lun_candidate *k = lun_candidates(op->kind); k->name != NULL; k++)
        if (oc_candidate_chosen(options, k->name))
            return true;
    return options->candidate == NULL; /* an op without any candidate is to fail */
}

/* Open --device, and let it pass for another kind of device where asked: the kernels of a GPU, one element an item, or
 * of another vector width, then run here too. */
static lun_status open_device(oc_options *options)
{
    LUN_TRY(lun_device_open(options->device, NULL, &options->dev));
    if (options->as_gpu || options->as_cpu)
        options->dev->caps.gpu = options->as_gpu;
    if (options->lanes > 0)
        options->dev->caps.lanes = options->lanes;
    return LUN_OK;
}

/* --- test --- */
typedef struct tally {
    int cases, runs, failures, by_candidate[16];
    double worst;
} tally;

static void complain(const oc_options *options, const oc_case *c, const char *candidate, int index, tally *t)
{
    char text[128] = "";
    const char *op = lun_op_info_of(c->op.kind)->name;
    if (c->op.ndst > 0)
        lun_op_describe(&c->op, text, sizeof text);
    t->failures++;
    char lanes[24] = "";
    if (options->lanes > 0)
        snprintf(lanes, sizeof lanes, " --lanes %d", options->lanes);
    printf("FAIL %s [%s%s layout %d]: %s\n     opcheck test --device %s --op %s%s%s --case %d --seed %llu%s%s%s\n",
           text, options->dev->info.spec, c->exact ? " exact" : "", (int)c->layout, lun_error_detail(), options->device,
           op, candidate != NULL ? " --candidate " : "", candidate != NULL ? candidate : "", index,
           (unsigned long long)options->seed,
           options->set == OC_TINY   ? " --tiny"
           : options->set == OC_LONG ? " --long"
                                     : "",
           options->as_gpu   ? " --as-gpu"
           : options->as_cpu ? " --as-cpu"
                             : "",
           lanes);
    fflush(stdout);
}

static bool on_cpu(const oc_options *options)
{
    return strcmp(options->device, "cpu") == 0;
}

/* Three threads, or fewer than the device has: pieces then fall to other threads, and sums must not notice. */
static lun_status open_twin(oc_options *options)
{
    const lun_device_params params = {.threads = on_cpu(options) ? (options->dev->info.units == 3 ? 2 : 3) : 0};
    return lun_device_open("cpu", &params, &options->twin);
}

static lun_status compare_with_twin(const oc_options *options, const oc_case *c, const char *candidate,
                                    uint32_t *const *got)
{
    uint32_t *want[LUN_OP_MAX_DST] = {NULL};
    LUN_TRY(oc_run(options->twin, c, on_cpu(options) ? candidate : NULL, 1, want));
    lun_status status = LUN_OK;
    for (int d = 0; d < c->op.ndst; d++)
        for (int64_t i = 0; status == LUN_OK && i < lun_count(c->op.dst[d].shape); i++)
            if (want[d][i] != got[d][i])
                status = lun_fail(LUN_ERR_INTERNAL, "dst%d element %d is %08x, but %08x on cpu with %d threads", d,
                                  (int)i, got[d][i], want[d][i], options->twin->info.units);
    for (int d = 0; d < LUN_OP_MAX_DST; d++)
        free(want[d]);
    return status;
}

static lun_status check_golden(const oc_case *c, uint32_t *const *got)
{
    const uint64_t hash = lun_hash(LUN_HASH_START, got[0], (size_t)lun_count(c->op.dst[0].shape) * 4);
    if (c->golden != 0 && hash != c->golden)
        return lun_fail(LUN_ERR_INTERNAL, "hash 0x%016llx, recorded 0x%016llx", (unsigned long long)hash,
                        (unsigned long long)c->golden);
    return LUN_OK;
}

/* A lost device stays lost until it is opened anew. */
static lun_status revive(oc_options *options)
{
    if (options->dev->lost != LUN_OK) {
        lun_device_close(&options->dev);
        LUN_TRY(open_device(options));
    }
    if (options->twin != NULL && options->twin->lost != LUN_OK) {
        lun_device_close(&options->twin);
        LUN_TRY(open_twin(options));
    }
    return LUN_OK;
}

/* A bound of an algorithm's own, and whose it is. It takes longer to find than most results, so it is kept for the next
 * candidate: "NAME_deep" is NAME's arithmetic in another order of loops, which the bound does not know. */
typedef struct own_bound {
    double *at, *second; /* of destinations 0 and 1; NULL: none yet, or none */
    char name[32];
} own_bound;

static void forget_bound(own_bound *own)
{
    free(own->at);
    free(own->second);
    own->at = own->second = NULL;
}

static void name_algorithm(const char *candidate, char name[32])
{
    const size_t length = strlen(candidate), tail = strlen("_deep");
    const bool deep = length > tail && strcmp(candidate + length - tail, "_deep") == 0;
    snprintf(name, 32, "%.*s", (int)(deep ? length - tail : length), candidate);
}

/* Judge one candidate's result by the bound that its algorithm has. */
static lun_status judge(const oc_op *op, oc_case *c, const char *candidate, uint32_t *const *got, own_bound *own,
                        double *ratio)
{
    if (op->bound_of == NULL)
        return oc_compare(c, got, ratio);
    char name[32];
    name_algorithm(candidate, name);
    const bool kept = own->at != NULL && strcmp(own->name, name) == 0;
    if (!kept) {
        forget_bound(own);
        own->at = oc_alloc((size_t)lun_count(c->op.dst[0].shape), sizeof(double));
        snprintf(own->name, sizeof own->name, "%s", name);
        if (!op->bound_of(c, candidate, own->at))
            forget_bound(own);
        if (own->at != NULL && op->follow != NULL && c->op.ndst > 1) {
            own->second = oc_alloc((size_t)lun_count(c->op.dst[1].shape), sizeof(double));
            op->follow(c, own->at, own->second);
        }
    }
    if (own->at == NULL)
        return oc_compare(c, got, ratio);
    double *common = c->bound[0], *second = c->bound[1], *certain = c->certain;
    const bool exact = c->exact;
    c->bound[0] = own->at;
    if (own->second != NULL)
        c->bound[1] = own->second;
    c->certain = NULL;
    c->exact = false;
    lun_status status = oc_vacuous(c);
    if (status == LUN_OK)
        status = oc_compare(c, got, ratio);
    c->bound[0] = common;
    c->bound[1] = second;
    c->certain = certain;
    c->exact = exact;
    return status;
}

/* Would the candidate that is left out have been the one to take this case? */
static bool left_to_skipped(const oc_options *options, const oc_case *c)
{
    lun_op_plan *plan = NULL;
    const bool taken =
        options->skip != NULL && lun_op_plan_create(options->dev, &c->op, options->skip, &plan) == LUN_OK;
    lun_op_plan_destroy(&plan);
    return taken;
}

/* Run a case with one candidate and judge the results, which are the caller's to free. LUN_UNSUPPORTED: it declines. */
static lun_status run_case(const oc_options *options, const oc_op *op, oc_case *c, const char *candidate, int runs,
                           own_bound *own, tally *t, int number, uint32_t *got[LUN_OP_MAX_DST])
{
    double ratio = 0;
    lun_status status = oc_run(options->dev, c, candidate, runs, got);
    if (status == LUN_UNSUPPORTED)
        return status;
    if (status == LUN_OK)
        status = judge(op, c, candidate, got, own, &ratio);
    if (status == LUN_OK)
        status = check_golden(c, got);
    t->runs++;
    t->by_candidate[number < 15 ? number : 15]++;
    t->worst = fmax(t->worst, ratio);
    return status;
}

/* The same case where operands are channels of wider images: no candidate may decline it for that. Plain C computes
 * the same to the last bit (an external matrix product may take another path). */
static lun_status run_pitched(const oc_options *options, const oc_op *op, const oc_case *c, const char *candidate,
                              own_bound *own, tally *t, int number, uint32_t *const *dense)
{
    uint32_t *got[LUN_OP_MAX_DST] = {NULL};
    oc_case pitched = *c;
    lun_status status = run_case(options, op, &pitched, candidate, 1, own, t, number, got);
    if (status == LUN_UNSUPPORTED)
        status = lun_fail(LUN_ERR_INTERNAL, "declined with a pitch only: %s", lun_error_detail());
    for (int d = 0; d < c->op.ndst && on_cpu(options); d++)
        for (int64_t i = 0; status == LUN_OK && i < lun_count(c->op.dst[d].shape); i++)
            if (got[d][i] != dense[d][i])
                status = lun_fail(LUN_ERR_INTERNAL, "dst%d element %d is %08x, but %08x where all lies dense", d,
                                  (int)i, got[d][i], dense[d][i]);
    for (int d = 0; d < LUN_OP_MAX_DST; d++)
        free(got[d]);
    return status;
}

static void test_case(oc_options *options, const oc_op *op, int index, tally *t)
{
    oc_case c;
    int accepted = 0, asked = 0;
    own_bound own = {0};
    if (oc_make(op, options->set, index, options->seed, true, &c) != LUN_OK) {
        complain(options, &c, NULL, index, t);
        oc_free(&c);
        return;
    }
    t->cases++;
    int number = 0;
    for (const lun_candidate *k = lun_candidates(op->kind); k->name != NULL; k++, number++) {
        if (!oc_tries(options, &c, k->name))
            continue;
        uint32_t *got[LUN_OP_MAX_DST] = {NULL};
        asked++;
        lun_status status = run_case(options, op, &c, k->name, options->set == OC_TINY ? 1 : 2, &own, t, number, got);
        if (status == LUN_UNSUPPORTED) {
            if (options->verbose)
                printf("     %s case %d: %s declines: %s\n", lun_op_info_of(op->kind)->name, index, k->name,
                       lun_error_detail());
            continue;
        }
        accepted++;
        if (status == LUN_OK && (c.like_cpu || on_cpu(options)))
            status = compare_with_twin(options, &c, k->name, got);
        if (status != LUN_OK)
            complain(options, &c, k->name, index, t);
        oc_case pitched = c;
        if (status == LUN_OK && oc_tries_pitched(options, index) && oc_pitch(&pitched, index) &&
            run_pitched(options, op, &pitched, k->name, &own, t, number, got) != LUN_OK)
            complain(options, &pitched, k->name, index, t);
        for (int d = 0; d < LUN_OP_MAX_DST; d++)
            free(got[d]);
        if (revive(options) != LUN_OK) {
            fprintf(stderr, "opcheck: the device is lost: %s\n", lun_error_detail());
            exit(LUN_ERR_DEVICE);
        }
    }
    forget_bound(&own);
    if (accepted == 0 && options->candidate == NULL && c.only == NULL && !left_to_skipped(options, &c)) {
        if (asked == 0)
            lun_fail(LUN_ERR_INTERNAL, "the op has no candidate");
        complain(options, &c, NULL, index, t);
    }
    oc_free(&c);
}

int oc_mode_test(const oc_options *given)
{
    oc_options options = *given;
    int failures = 0, runs = 0;
    const double start = lun_clock();
    for (int o = 0; o < oc_op_count; o++) {
        const oc_op *op = oc_ops[o];
        tally t = {0};
        if (!oc_chosen(&options, op) || !has_chosen_candidate(&options, op))
            continue;
        for (int i = 0; i < op->count(options.set); i++)
            if (options.index < 0 || i == options.index)
                test_case(&options, op, i, &t);
        printf("%-20s %-9s %3d cases, %3d runs (", lun_op_info_of(op->kind)->name, options.dev->info.spec, t.cases,
               t.runs);
        int number = 0;
        for (const lun_candidate *k = lun_candidates(op->kind); k->name != NULL; k++, number++)
            printf("%s%s %d", number > 0 ? ", " : "", k->name, t.by_candidate[number < 15 ? number : 15]);
        printf("), worst %.3f of the bound%s\n", t.worst, t.failures > 0 ? "  FAILED" : "");
        fflush(stdout);
        if (t.runs == 0 && t.failures == 0) {
            printf("FAIL %s: no case ran\n", lun_op_info_of(op->kind)->name);
            failures++;
        }
        failures += t.failures;
        runs += t.runs;
    }
    if (runs == 0) {
        printf("FAIL: no case ran\n");
        failures++;
    }
    printf("%s (%s, %s): %d runs, %d failures, seed %llu, %.1f s\n", options.dev->info.spec, options.dev->info.name,
           options.dev->info.platform, runs, failures, (unsigned long long)options.seed, lun_clock() - start);
    lun_device_close(&options.twin);
    lun_device_close(&options.dev);
    return failures == 0 ? 0 : 1;
}

/* --- the command line --- */
static int usage(const char *what, const char *value)
{
    fprintf(stderr, "opcheck: %s %s (see opcheck --help)\n", what, value);
    return LUN_ERR_USAGE;
}

static bool parse_number(const char *text, uint64_t most, uint64_t *out)
{
    char *end;
    if (text[0] < '0' || text[0] > '9')
        return false;
    *out = strtoull(text, &end, 10);
    return *end == 0 && *out <= most;
}

static void note_opencl(void *payload, const lun_device_info *info)
{
    if (strncmp(info->spec, "opencl", 6) == 0)
        *(bool *)payload = true;
}

static void show(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    (void)level;
    fprintf(stderr, "log: %s\n", line);
}

int main(int argc, char **argv)
{
    oc_options options = {.device = "cpu", .index = -1, .seed = 1};
    const char *mode = "test";
    int first = 1;
    if (argc > 1 && argv[1][0] != '-')
        mode = argv[first++];
    for (int i = first; i < argc; i++) {
        const char *flag = argv[i];
        uint64_t number;
        if (strcmp(flag, "--help") == 0) {
            fputs(help, stdout);
            return 0;
        }
        if (strcmp(flag, "--tiny") == 0 || strcmp(flag, "--long") == 0) {
            options.set = flag[2] == 't' ? OC_TINY : OC_LONG;
            continue;
        }
        if (strcmp(flag, "--as-gpu") == 0 || strcmp(flag, "--as-cpu") == 0) {
            options.as_gpu = flag[5] == 'g';
            options.as_cpu = !options.as_gpu;
            continue;
        }
        if (strcmp(flag, "--verbose") == 0) {
            options.verbose = true;
            lun_log_set(show, NULL, LUN_LOG_DEBUG);
            continue;
        }
        if (strcmp(flag, "--device") != 0 && strcmp(flag, "--op") != 0 && strcmp(flag, "--candidate") != 0 &&
            strcmp(flag, "--case") != 0 && strcmp(flag, "--seed") != 0 && strcmp(flag, "--skip") != 0 &&
            strcmp(flag, "--lanes") != 0)
            return usage("unknown option", flag);
        if (++i == argc)
            return usage("no value for", flag);
        if (strcmp(flag, "--device") == 0) {
            options.device = argv[i];
        } else if (strcmp(flag, "--op") == 0) {
            options.op = argv[i];
        } else if (strcmp(flag, "--candidate") == 0) {
            options.candidate = argv[i];
        } else if (strcmp(flag, "--skip") == 0) {
            options.skip = argv[i];
        } else if (strcmp(flag, "--lanes") == 0) {
            if (!parse_number(argv[i], 16, &number) || (number != 1 && number != 4 && number != 8 && number != 16))
                return usage("not a number of lanes:", argv[i]);
            options.lanes = (int)number;
        } else if (strcmp(flag, "--case") == 0) {
            if (!parse_number(argv[i], 1000000, &number))
                return usage("not a case:", argv[i]);
            options.index = (int)number;
        } else if (!parse_number(argv[i], UINT64_MAX, &options.seed)) {
            return usage("not a seed:", argv[i]);
        }
    }
    bool known = options.op == NULL;
    for (int o = 0; o < oc_op_count; o++)
        known = known || oc_chosen(&options, oc_ops[o]);
    if (!known)
        return usage("no such op:", options.op);
    int (*run)(const oc_options *) = strcmp(mode, "test") == 0      ? oc_mode_test
                                     : strcmp(mode, "grad") == 0    ? oc_mode_grad
                                     : strcmp(mode, "perf") == 0    ? oc_mode_perf
                                     : strcmp(mode, "support") == 0 ? oc_mode_support
                                     : strcmp(mode, "kernels") == 0 ? oc_mode_kernels
                                                                    : NULL;
    if (run == NULL)
        return usage("no such mode:", mode);
    if (options.lanes > 0 && strncmp(options.device, "opencl", 6) != 0)
        return usage("--lanes is for opencl, plain C's are compiled in ($LUNETTE_ISA), not for", options.device);
    oc_seed = options.seed;
    unsetenv("LUNETTE_DECLINE"); /* the suite is about what a device can, not what it was told to leave */
    if (run != oc_mode_grad) {
        bool found = strncmp(options.device, "opencl", 6) != 0;
        if (!found)
            lun_device_list(note_opencl, &found);
        if (!found) {
            printf("SKIP: no OpenCL device here\n");
            return 77;
        }
        lun_status status = open_device(&options);
        if (status == LUN_OK && run == oc_mode_test)
            status = open_twin(&options);
        if (status == LUN_ERR_USAGE && on_cpu(&options) && getenv("LUNETTE_ISA") != NULL) {
            printf("SKIP: %s\n", lun_error_detail());
            return 77;
        }
        if (status != LUN_OK) {
            fprintf(stderr, "opcheck: %s\n", lun_error_detail());
            return LUN_ERR_DEVICE;
        }
    }
    const int code = run(&options);
    if (run != oc_mode_test) /* which closes its own: it may have reopened them */
        lun_device_close(&options.dev);
    oc_forget_covers();
    return code;
}
