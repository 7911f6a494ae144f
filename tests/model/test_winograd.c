/* The accuracy gate: the whole network with a minimal (Winograd) algorithm wherever one is possible, against PyTorch's
 * float64. Small networks' layers would seldom get one by themselves, so every convolution is pinned. */
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "golden.h"

/* The promise for the forward pass, whatever candidates are chosen. */
#define FORWARD_GATE 5e-5
/* What direct convolutions are held to (test_model.c). To first order a network's error is a sum over its ops: each
 * op's own rounding error times how strongly the result depends on it there. A minimal algorithm's errors are at most
 * `amplification` times the direct method's (derived in src/lower/accuracy.c) and the other ops' are as they were, so
 * the sum grows by no more. The networks' inputs keep clear of the kinks of ReLU, and the loss has none. */
#define GRADIENT_BOUND 1e-4
#define LOSS_BOUND     1e-5

typedef struct family {
    const char *gather, *wgrad; /* candidates */
    double amplification;       /* of its largest tile */
    bool stride2;               /* it has kernels for the 4x4 layers of stride 2, too */
} family;

static const family families[] = {{"winograd_4x4", "winograd_4x4", 10.78, true},
                                  {"winograd_2x2", "winograd_2x2", 1.67, false},
                                  {"winograd_4x4_deep", "winograd_4x4", 10.78, true},
                                  {"winograd_2x2_deep", "winograd_2x2", 1.67, false}};

#define MAX_DECLINED 64

typedef struct pinning {
    const family *family;
    char asked[128]; /* the last op for which a candidate was named */
    char declined[MAX_DECLINED][128];
    int declined_count;
    /* counted by `count_op` */
    int minimal[3], all[3];
} pinning;

/* The kind of convolution an op is: 0 to 2, or -1 for any other. */
static int convolution(const char *op)
{
    static const char *const kinds[] = {"conv2d ", "conv2d_transpose ", "conv2d_wgrad "};
    for (int k = 0; k < 3; k++)
        if (strncmp(op, kinds[k], strlen(kinds[k])) == 0)
            return k;
    return -1;
}

static const char *pin(void *payload, const char *op)
{
    pinning *p = payload;
    const int kind = convolution(op);
    for (int i = 0; i < p->declined_count; i++)
        if (strcmp(p->declined[i], op) == 0)
            return NULL;
    if (kind < 0)
        return NULL;
    ck_assert_uint_lt(strlen(op), sizeof p->asked);
    strcpy(p->asked, op);
    return kind == 2 ? p->family->wgrad : p->family->gather;
}

/* Compile with the family's candidate for every convolution that it is possible for: what is declined is found by
 * trying. */
static void compile_pinned(network *n, pinning *p)
{
    const lun_compile_params compile = {.pin = pin, .payload = p};
    lun_status status;
    while ((status = lun_graph_compile(n->graph, golden_device, &compile, &n->plan)) == LUN_ERR_USAGE) {
        ck_assert_msg(strstr(lun_error_detail(), "cannot be used"), "%s", lun_error_detail());
        ck_assert_int_lt(p->declined_count, MAX_DECLINED);
        strcpy(p->declined[p->declined_count++], p->asked);
    }
    ck_assert_msg(status == LUN_OK, "%s", lun_error_detail());
    ck_assert_uint_eq(lun_plan_get_info(n->plan).launches_fallback, 0);
}

static void count_op(void *payload, const lun_plan_op *op)
{
    pinning *p = payload;
    const int kind = convolution(op->description);
    if (kind < 0)
        return;
    p->all[kind]++;
    p->minimal[kind] += strcmp(op->candidate, kind == 2 ? p->family->wgrad : p->family->gather) == 0;
}

/* Of a network with so many down blocks: conv0 and two 3x3 layers a block, one 4x4 layer a block. The data gradient of
 * a convolution is a transposed one and the other way round; conv0's is not needed. */
static void all_are_minimal(const pinning *p, int downs, bool train)
{
    const int layers3 = 1 + 4 * downs, layers4 = p->family->stride2 ? downs : 0; /* layers4: of each direction */
    ck_assert_int_eq(p->minimal[0], layers3 + layers4 + (train ? layers4 : 0));
    ck_assert_int_eq(p->minimal[1], layers4 + (train ? layers3 - 1 + layers4 : 0));
    ck_assert_int_eq(p->minimal[2], train ? layers3 + 2 * layers4 : 0);
}

static void *input(const char *file, const char *name, size_t count)
{
    lun_safetensors *in = golden_open(file);
    void *values = golden_floats(in, name, count);
    lun_safetensors_close(in);
    return values;
}

static int32_t *time_steps(const char *file, int64_t n)
{
    lun_safetensors *in = golden_open(file);
    size_t count = 0;
    int64_t *wide = golden_integers(in, "t", &count);
    ck_assert_uint_eq(count, (size_t)n);
    int32_t *t = malloc(count * sizeof *t);
    ck_assert_ptr_nonnull(t);
    for (size_t i = 0; i < count; i++)
        t[i] = (int32_t)wide[i];
    free(wide);
    lun_safetensors_close(in);
    return t;
}

/* The largest relative error of a parameter's gradient. */
static double worst_gradient(const network *n, const lun_safetensors *want, char name[96])
{
    double worst = 0;
    size_t gradients = 0;
    for (size_t i = 0; i < lun_store_count(n->store); i++) {
        const lun_param_info *info = lun_store_info(n->store, i);
        if (info->role != LUN_ROLE_PARAM)
            continue;
        char key[160];
        const size_t count = (size_t)lun_count(info->desc.shape);
        snprintf(key, sizeof key, "grad.train.l2.%s", info->name);
        float *wanted = golden_floats(want, key, count), *got = malloc(count * sizeof *got);
        MUST(lun_store_read(n->store, i, LUN_SLOT_GRAD, got));
        const double error = relative(got, wanted, count);
        if (!(error <= worst)) {
            worst = error;
            snprintf(name, 96, "%s", info->name);
        }
        free(wanted);
        free(got);
        gradients++;
    }
    ck_assert_uint_gt(gradients, 40);
    return worst;
}

static void hold(const char *name, lun_shape shape, const family *f)
{
    char file[3][64];
    static const char *const parts[] = {"model", "in", "out"};
    for (int i = 0; i < 3; i++)
        snprintf(file[i], sizeof file[i], "%s.%s.safetensors", name, parts[i]);
    const char *const model = golden_path(file[0]), *const in = golden_path(file[1]);
    lun_safetensors *want = golden_open(golden_path(file[2]));
    const size_t count = (size_t)lun_count(shape);
    float *x = input(in, "x", count), *target = input(in, "target", count), *y = malloc(count * sizeof *y);
    ck_assert_ptr_nonnull(y);
    int32_t *t = time_steps(in, shape.n);

    for (int train = 0; train <= 1; train++) {
        network n = network_open(model, shape, train ? LUN_NORM_BATCH : LUN_NORM_EVAL);
        static pinning p;
        p = (pinning){.family = f};
        if (train) {
            n.target = lun_graph_input(n.graph, "target", (lun_desc){LUN_F32, LUN_IMAGE, shape});
            n.loss = lun_loss(n.graph, n.y, n.target, LUN_L2, 0);
            lun_graph_output(n.graph, n.loss);
            lun_graph_backward(n.graph, n.loss);
        }
        MUST(lun_graph_check(n.graph));
        MUST(lun_store_allocate(n.store, golden_device, train));
        MUST(lun_model_load(n.store, model));
        compile_pinned(&n, &p);
        lun_plan_visit(n.plan, count_op, &p);
        all_are_minimal(&p, n.info.config.levels - 1, train);
        MUST(lun_plan_write(n.plan, n.x, x));
        MUST(lun_plan_write(n.plan, n.t, t));
        if (train)
            MUST(lun_plan_write(n.plan, n.target, target));
        MUST(lun_plan_run(n.plan));
        MUST(lun_plan_read(n.plan, n.y, y));

        float *wanted = golden_floats(want, train ? "y.train" : "y.eval", count);
        const double forward = relative(y, wanted, count);
        free(wanted);
        printf("%s %s, %s: %d of %d conv2d, %d of %d transposed, %d of %d weight gradients; forward %.2e", name,
               train ? "train" : "eval", f->gather, p.minimal[0], p.all[0], p.minimal[1], p.all[1], p.minimal[2],
               p.all[2], forward);
        ck_assert_msg(!!(forward <= FORWARD_GATE), "%s: forward differs by %g", f->gather, forward);
        if (train) {
            char worst_name[96] = "";
            float loss = NAN;
            MUST(lun_plan_read(n.plan, n.loss, &loss));
            const double loss_want = golden_scalar(want, "loss.train.l2"), error = fabs(loss - loss_want) / loss_want;
            const double worst = worst_gradient(&n, want, worst_name), bound = GRADIENT_BOUND * f->amplification;
            printf(", loss %.2e, gradients %.2e (%s)", error, worst, worst_name);
            ck_assert_msg(!!(error <= LOSS_BOUND * f->amplification), "%s: the loss differs by %g", f->gather, error);
            ck_assert_msg(!!(worst <= bound), "%s: the gradient of %s differs by %g", f->gather, worst_name, worst);
        }
        printf("\n");
        network_close(&n);
    }
    free(x);
    free(t);
    free(y);
    free(target);
    lun_safetensors_close(want);
}

START_TEST(minimal_algorithms_pass_the_gate)
{
    const family *f = &families[_i];
    hold("small", (lun_shape){3, 3, 16, 16}, f);
    hold("deep", (lun_shape){3, 3, 32, 32}, f);
}
END_TEST

void add_winograd_tests(TCase *group)
{
    tcase_add_loop_test(group, minimal_algorithms_pass_the_gate, 0, (int)(sizeof families / sizeof families[0]));
}
