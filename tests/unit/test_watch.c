/* The thread that looks on while a device works, on a device whose calls take as long as the test wants. */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <check.h>

#include "device/driver.h"

#define OK(expr)           ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define NOT_OK(expr, want) ck_assert_msg((expr) == (want), "%s: %s", #expr, lun_error_detail())

/* The wall clock may be set while somebody waits: the kernel's then is not the one that was read. */
int __real_clock_gettime(clockid_t clock, struct timespec *now);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);
static atomic_long set_by; /* seconds */
static atomic_long looks;  /* how often any clock was read */

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
    const int error = __real_clock_gettime(clock, now);
    now->tv_sec += clock == CLOCK_REALTIME ? atomic_load(&set_by) : 0;
    atomic_fetch_add(&looks, 1);
    return error;
}

static double takes; /* seconds, of a wait and of closing */

static void sleep_for(double seconds)
{
    const struct timespec time = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    (void)nanosleep(&time, NULL);
}

static lun_status slow_finish(lun_device *dev)
{
    (void)dev;
    sleep_for(takes);
    return LUN_OK;
}

static void slow_close(lun_device *dev)
{
    (void)dev;
    sleep_for(takes);
}

static const lun_driver slow = {.name = "slow", .finish = slow_finish, .close = slow_close};

static atomic_int hung;
static char what_hung[64];
static void note(void *payload, const char *what)
{
    ck_assert_ptr_eq(payload, &hung);
    snprintf(what_hung, sizeof what_hung, "%s", what);
    atomic_fetch_add(&hung, 1);
}

static lun_device *open_slow(double seconds)
{
    lun_device *dev = calloc(1, sizeof *dev);
    dev->driver = &slow;
    atomic_store(&hung, 0);
    what_hung[0] = 0;
    OK(lun_device_watch(dev, seconds, note, &hung));
    return dev;
}

START_TEST(a_call_that_does_not_return_is_told_once)
{
    lun_device *dev = open_slow(0.2);
    takes = 1;
    OK(lun_device_finish(dev));
    OK(lun_device_finish(dev));
    ck_assert_int_eq(atomic_load(&hung), 1);
    ck_assert_str_eq(what_hung, "waiting for it");
    takes = 0;
    lun_device_close(&dev);
    ck_assert_int_eq(atomic_load(&hung), 1);
}
END_TEST

START_TEST(many_short_calls_are_no_long_one)
{
    lun_device *dev = open_slow(1);
    takes = 0.05;
    for (int i = 0; i < 40; i++)
        OK(lun_device_finish(dev));
    sleep_for(1.5); /* nor is no call at all */
    takes = 0;
    lun_device_close(&dev);
    ck_assert_int_eq(atomic_load(&hung), 0);
}
END_TEST

START_TEST(closing_may_hang_too)
{
    lun_device *dev = open_slow(0.2);
    takes = 1;
    lun_device_close(&dev);
    ck_assert_int_eq(atomic_load(&hung), 1);
    ck_assert_str_eq(what_hung, "closing it");
}
END_TEST

/* While the process is stopped no time passes for the device. */
START_TEST(a_stopped_process_blames_nobody)
{
    const pid_t child = fork();
    if (child == 0) {
        lun_device *dev = open_slow(2);
        takes = 1;
        (void)lun_device_finish(dev);
        _exit(atomic_load(&hung));
    }
    sleep_for(0.3);
    ck_assert_int_eq(kill(child, SIGSTOP), 0);
    sleep_for(3);
    ck_assert_int_eq(kill(child, SIGCONT), 0);
    int state = -1;
    ck_assert_int_eq(waitpid(child, &state, 0), child);
    ck_assert_msg(WIFEXITED(state) && WEXITSTATUS(state) == 0, "%d", state);
}
END_TEST

/* Set back by an hour, a call that hangs is told of in its time, no later; set forward, no earlier, and without a
 * thread that does nothing but look. */
START_TEST(the_wall_clock_may_be_set)
{
    for (int way = 0; way < 2; way++) {
        atomic_store(&set_by, way ? -3600 : 3600); /* what was read, less what the kernel then waits by */
        lun_device *dev = open_slow(0.4);
        takes = 0.2;
        const long before = atomic_load(&looks);
        OK(lun_device_finish(dev));
        ck_assert_int_eq(atomic_load(&hung), 0);
        ck_assert_int_lt(atomic_load(&looks) - before, 100);
        takes = 1;
        OK(lun_device_finish(dev));
        ck_assert_int_eq(atomic_load(&hung), 1);
        takes = 0;
        lun_device_close(&dev);
    }
    atomic_store(&set_by, 0);
}
END_TEST

START_TEST(what_is_refused)
{
    lun_device *dev = open_slow(1);
    NOT_OK(lun_device_watch(dev, 1, note, &hung), LUN_ERR_USAGE);
    takes = 0;
    lun_device_close(&dev);
    lun_device other = {.driver = &slow};
    static const double times[] = {0, -1, NAN};
    for (int i = 0; i < 3; i++)
        NOT_OK(lun_device_watch(&other, times[i], note, &hung), LUN_ERR_USAGE);
    NOT_OK(lun_device_watch(&other, 1, NULL, NULL), LUN_ERR_USAGE);
    NOT_OK(lun_device_watch(NULL, 1, note, &hung), LUN_ERR_USAGE);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("watch");
    TCase *tc = tcase_create("watch");
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, a_call_that_does_not_return_is_told_once);
    tcase_add_test(tc, many_short_calls_are_no_long_one);
    tcase_add_test(tc, closing_may_hang_too);
    tcase_add_test(tc, a_stopped_process_blames_nobody);
    tcase_add_test(tc, the_wall_clock_may_be_set);
    tcase_add_test(tc, what_is_refused);
    suite_add_tcase(s, tc);
    SRunner *runner = srunner_create(s);
    srunner_run_all(runner, CK_ENV);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
