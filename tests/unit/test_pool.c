/* The pool of threads: every item once, whatever the numbers, and nobody still at work when a round is over. */
#include <check.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include "base/base.h"
#include "base/philox.h"
#include "device/cpu/pool.h"

#define OK(expr) ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())

#define MOST 3000

typedef struct round {
    atomic_int seen[MOST]; /* how often each item ran in this round */
    atomic_int open;       /* 0: an item that runs now runs too late */
    atomic_int late;
    int work; /* of an item */
} round_state;

static void item(void *payload, int i)
{
    round_state *r = payload;
    volatile double sink = 0;
    for (int k = 0; k < r->work; k++)
        sink = sink + k;
    if (!atomic_load(&r->open))
        atomic_fetch_add(&r->late, 1);
    atomic_fetch_add(&r->seen[i], 1);
}

static void rest(long microseconds)
{
    nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000}, NULL);
}

/* Rounds of all sizes, at once one after the other and with breaks in which the workers go to sleep. */
START_TEST(every_item_once)
{
    static const int thread_counts[] = {1, 2, 3, 8};
    round_state *r = calloc(1, sizeof *r);
    lun_pool *pool = NULL;
    ck_assert_ptr_nonnull(r);
    OK(lun_pool_create(thread_counts[_i], &pool));
    ck_assert_int_le(lun_pool_threads(pool), thread_counts[_i]);
    for (uint32_t k = 0; k < 800; k++) {
        uint32_t draw[4];
        lun_random_block(1, LUN_RANDOM_TEST, (uint64_t)_i, 0, k, draw);
        const int items = (int)(draw[0] % (draw[1] % 8 ? 40 : MOST));
        r->work = draw[2] % 16 ? (int)(draw[2] >> 4) % 50 : 3000;
        atomic_store(&r->open, 1);
        lun_pool_run(pool, items, item, r);
        atomic_store(&r->open, 0);
        for (int i = 0; i < items; i++)
            ck_assert_int_eq(atomic_exchange(&r->seen[i], 0), 1);
        if (draw[3] % 16 == 0)
            rest((long)(draw[3] >> 4) % 400);
    }
    for (int i = 0; i < MOST; i++)
        ck_assert_int_eq(atomic_load(&r->seen[i]), 0);
    ck_assert_int_eq(atomic_load(&r->late), 0);
    lun_pool_destroy(&pool);
    ck_assert_ptr_null(pool);
    free(r);
}
END_TEST

/* A worker that sleeps through all rounds, or never got one, must hear of the end. */
START_TEST(pools_come_and_go)
{
    for (int k = 0; k < 60; k++) {
        round_state *r = calloc(1, sizeof *r);
        lun_pool *pool = NULL;
        ck_assert_ptr_nonnull(r);
        OK(lun_pool_create(1 + k % 5, &pool));
        if (k % 7 == 0)
            rest(200);
        atomic_store(&r->open, 1);
        for (int round = 0; round < k % 3; round++)
            lun_pool_run(pool, 20, item, r);
        if (k % 2)
            rest(k);
        lun_pool_destroy(&pool);
        for (int i = 0; i < 20; i++)
            ck_assert_int_eq(atomic_load(&r->seen[i]), k % 3);
        free(r);
    }
    lun_pool_destroy(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tc = tcase_create("pool");
    tcase_set_timeout(tc, 120);
    tcase_add_loop_test(tc, every_item_once, 0, 4);
    tcase_add_test(tc, pools_come_and_go);
    suite_add_tcase(suite, tc);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
