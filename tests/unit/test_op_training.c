/* The shape rules, every refusal, of the ops around a network: tables, objectives, losses, random numbers, the update.
 */
#include <math.h>

#include "op_rules.h"
#include "scratch.h"

START_TEST(table_rules)
{
    const lun_desc x = lun_image(4, 3, 8, 8);
    ACCEPTED(OP(EMBED, I32(4), lun_image(300, 32, 1, 1)), lun_image(4, 32, 1, 1));
    REFUSED(OP(EMBED, lun_image(4, 1, 1, 1), lun_image(300, 32, 1, 1)), "index must be int32");
    REFUSED(OP(EMBED, lun_typed(V(4), LUN_I32), lun_image(300, 32, 1, 1)), "index is");
    REFUSED(OP(EMBED, I32(4), lun_image(300, 32, 2, 1)), "table is");
    ACCEPTED(OP(NOISE, x, x, I32(4), lun_image(300, 2, 1, 1)), x);
    REFUSED(OP(NOISE, x, lun_image(4, 3, 8, 9), I32(4), lun_image(300, 2, 1, 1)), "eps is");
    REFUSED(OP(NOISE, x, x, I32(3), lun_image(300, 2, 1, 1)), "t is");
    REFUSED(OP(NOISE, x, x, I32(4), lun_image(300, 3, 1, 1)), "table is");
    REFUSED(OP(NOISE, x, x, lun_image(4, 1, 1, 1), lun_image(300, 2, 1, 1)), "t must be int32");
    ACCEPTED(OP(STORE, V(100), V(1), I32(1)), V(100));
    REFUSED(OP(STORE, lun_image(2, 50, 1, 1), V(1), I32(1)), "ring");
    REFUSED(OP(STORE, V(100), V(2), I32(1)), "value");
    REFUSED(OP(STORE, V(100), V(1), I32(2)), "slot");

    lun_op step = OP(SAMPLE_STEP, x, x, x, V(8));
    step.attrs.sample.clip = LUN_CLIP_XT;
    ACCEPTED(step, x);
    step.attrs.sample.clip = (lun_clip)3;
    REFUSED(step, "clip mode number 3");
    REFUSED(OP(SAMPLE_STEP, x, x, V(3), V(8)), "z is");
    REFUSED(OP(SAMPLE_STEP, x, V(3), x, V(8)), "eps is");
    REFUSED(OP(SAMPLE_STEP, x, x, x, V(7)), "coef is");
    /* Twice the channels: a prediction with a variance behind it. */
    step = OP(SAMPLE_STEP, x, lun_image(4, 6, 8, 8), x, V(8));
    ACCEPTED(step, x);
    step.attrs.sample.learned = true;
    ACCEPTED(step, x);
    step.src[1] = x;
    REFUSED(step, "channels of its own");
    REFUSED(OP(SAMPLE_STEP, x, lun_image(4, 9, 8, 8), x, V(8)), "eps is");
    REFUSED(OP(SAMPLE_STEP, x, lun_image(4, 6, 8, 9), x, V(8)), "eps is");
}
END_TEST

START_TEST(objective_rules)
{
    const lun_desc x = lun_image(4, 3, 8, 8), wide = lun_image(4, 6, 8, 8), each = lun_image(4, 1, 1, 1);
    const lun_desc table = lun_image(300, 8, 1, 1);
    ACCEPTED(OP(LOSS_EACH, x, x), each);
    ACCEPTED(OP(LOSS_EACH, wide, x), each);
    ACCEPTED(OP(LOSS_EACH, wide, x, each), each);
    REFUSED(OP(LOSS_EACH, x, wide), "more channels");
    REFUSED(OP(LOSS_EACH, wide, lun_image(4, 3, 8, 7)), "target is");
    REFUSED(OP(LOSS_EACH, wide, x, V(4)), "weight is");
    lun_op loss = OP(LOSS_EACH, x, x);
    loss.attrs.loss.kind = LUN_LOSS_HUBER;
    REFUSED(loss, "delta");
    loss.attrs.loss.kind = (lun_loss_kind)3;
    REFUSED(loss, "loss number 3");
    ACCEPTED(OP(LOSS_EACH_BACKWARD, wide, x, each), wide);
    ACCEPTED(OP(LOSS_EACH_BACKWARD, wide, x, each, each), wide);
    REFUSED(OP(LOSS_EACH_BACKWARD, wide, x, V(1)), "deach is");

    ACCEPTED(OP(WEIGHTED_MEAN, each, each), V(1));
    REFUSED(OP(WEIGHTED_MEAN, each, V(4)), "weights is");
    REFUSED(OP(WEIGHTED_MEAN, x, each), "values is");
    ACCEPTED(OP(WEIGHTED_MEAN_BACKWARD, each, V(1)), each);
    REFUSED(OP(WEIGHTED_MEAN_BACKWARD, each, each), "dmean is");

    lun_op bound = OP(VARIATIONAL, wide, x, x, I32(4), table);
    bound.attrs.variational.scale = 1;
    ACCEPTED(bound, each);
    bound.attrs.variational.scale = NAN;
    REFUSED(bound, "not finite");
    REFUSED(OP(VARIATIONAL, x, x, x, I32(4), table), "no two halves");
    REFUSED(OP(VARIATIONAL, wide, wide, x, I32(4), table), "x0 is");
    REFUSED(OP(VARIATIONAL, wide, x, wide, I32(4), table), "xt is");
    REFUSED(OP(VARIATIONAL, wide, x, x, I32(3), table), "t is");
    REFUSED(OP(VARIATIONAL, wide, x, x, I32(4), lun_image(300, 7, 1, 1)), "table is");
    ACCEPTED(OP(VARIATIONAL_BACKWARD, wide, x, x, I32(4), table, each), wide);
    REFUSED(OP(VARIATIONAL_BACKWARD, wide, x, x, I32(4), table, V(4)), "deach is");

    lun_op guide = OP(GUIDE, wide, V(1));
    guide.attrs.guide.channels = 3;
    ACCEPTED(guide, wide);
    guide.attrs.guide.channels = 7;
    REFUSED(guide, "do not lie in 6");
    guide.attrs.guide.channels = 0;
    REFUSED(guide, "do not lie in 6");
    guide = OP(GUIDE, lun_image(3, 6, 8, 8), V(1));
    guide.attrs.guide.channels = 3;
    REFUSED(guide, "no two halves");
    guide = OP(GUIDE, wide, V(2));
    guide.attrs.guide.channels = 3;
    REFUSED(guide, "scale is");
}
END_TEST

START_TEST(loss_and_adam_rules)
{
    const lun_desc x = lun_image(4, 3, 8, 8), f = lun_filter(4, 3, 8, 8);
    lun_op loss = OP(LOSS, x, x), back = OP(LOSS_BACKWARD, x, x, V(1));
    for (int kind = 0; kind < 3; kind++) {
        loss.attrs.loss = back.attrs.loss = (lun_loss_attrs){(lun_loss_kind)kind, 0.5f};
        ACCEPTED(loss, V(1));
        ACCEPTED(back, x);
    }
    loss.attrs.loss.delta = back.attrs.loss.delta = 0;
    REFUSED(loss, "delta");
    REFUSED(back, "delta");
    loss.attrs.loss.kind = back.attrs.loss.kind = (lun_loss_kind)3;
    REFUSED(loss, "loss number 3");
    REFUSED(back, "loss number 3");
    REFUSED(OP(LOSS, x, f), "target must be an image");
    REFUSED(OP(LOSS_BACKWARD, x, V(3), V(1)), "target is");
    REFUSED(OP(LOSS_BACKWARD, x, x, V(2)), "dloss is");

    const lun_adam_attrs good = {.beta1 = 0.9, .beta2 = 0.999, .eps = 1e-8};
    lun_op adam = OP(ADAM, f, f, f, f, V(4));
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f);
    static const char *const names[] = {"param", "grad", "m is", "v is", "hyper is"};
    for (int i = 1; i < 5; i++) {
        lun_op bad = adam;
        bad.src[i] = i < 4 ? lun_filter(4, 3, 8, 7) : V(5);
        REFUSED(bad, names[i]);
    }
    adam.attrs.adam.beta1 = 1;
    REFUSED(adam, "betas");
    adam.attrs.adam = good;
    adam.attrs.adam.beta2 = -0.1;
    REFUSED(adam, "betas");
    adam.attrs.adam = good;
    adam.attrs.adam.eps = 0;
    REFUSED(adam, "eps");
    adam.attrs.adam = good;
    adam.attrs.adam.weight_decay = -1;
    REFUSED(adam, "weight decay");
    adam = OP(ADAM, f, f, f, f, V(4), V(1));
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f);
    adam.src[5] = V(2);
    REFUSED(adam, "scale is");
    adam = OP(ADAM, f, f, f, f, V(4), V(4), f);
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f, f);
    adam.src[5] = V(1);
    REFUSED(adam, "weights is");
    adam = OP(ADAM, f, f, f, f, V(4), V(4), f, V(1));
    adam.attrs.adam = good;
    ACCEPTED(adam, f, f, f, f);
    adam.src[6] = V(1);
    REFUSED(adam, "the average");
    adam.src[6] = f;
    adam.src[7] = V(3);
    REFUSED(adam, "scale is");
}
END_TEST

START_TEST(update_rules)
{
    const lun_desc f = lun_filter(4, 3, 8, 8), x = lun_image(1, 777, 1, 1);
    ACCEPTED(OP(ACCUMULATE, f, f, I32(1)), f);
    REFUSED(OP(ACCUMULATE, f, x, I32(1)), "grad must be");
    REFUSED(OP(ACCUMULATE, x, V(776), I32(1)), "grad is");
    REFUSED(OP(ACCUMULATE, x, x, I32(2)), "first is");
    REFUSED(OP(ACCUMULATE, x, x, V(1)), "first must be");
    lun_op squares = OP(SUM_SQUARES, f, V(64));
    squares.attrs.squares.slot = 63;
    ACCEPTED(squares, V(64));
    squares.attrs.squares.slot = 64;
    REFUSED(squares, "slot 64");
    squares.attrs.squares.slot = -1;
    REFUSED(squares, "slot -1");
    REFUSED(OP(SUM_SQUARES, f, lun_image(2, 32, 1, 1)), "parts is");
    lun_op clip = OP(CLIP_NORM, V(64));
    clip.attrs.clip.limit = 1;
    ACCEPTED(clip, V(1), V(1));
    clip.attrs.clip.limit = 0;
    REFUSED(clip, "limit 0");
    clip.attrs.clip.limit = (float)INFINITY;
    REFUSED(clip, "limit inf");
    ACCEPTED(OP(EMA, x, V(4), x), x);
    ACCEPTED(OP(EMA, f, V(4), f, f, f, f), f, f, f, f);
    REFUSED(OP(EMA, f, V(3), f), "weights is");
    REFUSED(OP(EMA, f, V(4), f, x), "average must be");
    REFUSED(OP(EMA, x, V(4), x, x, V(776)), "average is");
    lun_op seed = OP(LOSS_SEED, V(1));
    seed.attrs.seed.weight = 0.5f;
    ACCEPTED(seed, V(1));
    seed.attrs.seed.weight = 0;
    REFUSED(seed, "weight 0");
    seed.attrs.seed.weight = NAN;
    REFUSED(seed, "weight nan");
    REFUSED(OP(LOSS_SEED, V(2)), "loss is");
    ACCEPTED(OP(HEALTH, V(64), V(1), I32(1), V(4)), V(1), V(4), V(1));
    ACCEPTED(OP(HEALTH, V(3), V(1), I32(1), V(4), V(4)), V(1), V(4), V(1), V(4));
    REFUSED(OP(HEALTH, V(64), V(2), I32(1), V(4)), "state is");
    REFUSED(OP(HEALTH, V(64), V(1), V(1), V(4)), "slot must be");
    REFUSED(OP(HEALTH, V(64), V(1), I32(1), V(3)), "hyper is");
    REFUSED(OP(HEALTH, V(64), V(1), I32(1), V(4), V(5)), "weights is");
    ACCEPTED(OP(SETTLE, x, x, V(4)), x, x);
    REFUSED(OP(SETTLE, x, V(776), V(4)), "safe is");
    REFUSED(OP(SETTLE, x, x, V(3)), "hyper is");
}
END_TEST

START_TEST(random_rules)
{
    lun_op integers = OP(RANDINT, ROWS(4)), normals = OP(RANDN, ROWS(4));
    normals.attrs.random = (lun_random_attrs){.c = 3, .h = 8, .w = 9};
    integers.attrs.random = (lun_random_attrs){.c = 1, .h = 1, .w = 1, .bound = 300};
    ACCEPTED(normals, lun_image(4, 3, 8, 9));
    ACCEPTED(integers, I32(4));
    integers.attrs.random.bound = 0x80000000u;
    ACCEPTED(integers, I32(4));
    integers.attrs.random.bound++;
    REFUSED(integers, "bound");
    integers.attrs.random.bound = 0;
    REFUSED(integers, "bound");
    normals.attrs.random.w = 0;
    REFUSED(normals, "size 3x8x0");
    normals.attrs.random = (lun_random_attrs){.c = 1 << 15, .h = 1 << 15, .w = 1 << 15};
    REFUSED(normals, "below 2^31");
    normals.attrs.random.c = -1;
    REFUSED(normals, "size");
    REFUSED(OP(RANDN, lun_image(4, 8, 1, 1)), "rows must be uint32");
    REFUSED(OP(RANDINT, lun_typed(lun_image(4, 7, 1, 1), LUN_U32)), "bound");
    REFUSED(OP(RANDN, lun_typed(lun_image(4, 7, 1, 1), LUN_U32)), "rows is");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("op training");
    TCase *tests = tcase_create("op training");
    tcase_add_test(tests, table_rules);
    tcase_add_test(tests, objective_rules);
    tcase_add_test(tests, loss_and_adam_rules);
    tcase_add_test(tests, update_rules);
    tcase_add_test(tests, random_rules);
    suite_add_tcase(suite, tests);
    return run_suite(suite);
}
