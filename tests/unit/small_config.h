/* A network small enough to train in a test. */
#ifndef SMALL_CONFIG_H
#define SMALL_CONFIG_H

#include <string.h>

#include <check.h>
#include <lunette/train.h>

#define OK(expr)           ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define NOT_OK(expr, want) ck_assert_msg((expr) == (want), "%s: %s", #expr, lun_error_detail())

enum { SIDE = 8, BATCH = 4 };

static inline lun_train_config small(void)
{
    lun_train_config c;
    OK(lun_train_preset("notebook", &c));
    c.model.levels = 2;
    memset(c.model.channels, 0, sizeof c.model.channels);
    c.model.channels[0] = 8;
    c.model.channels[1] = 16;
    c.model.steps = 25;
    c.width = c.height = SIDE;
    c.batch = BATCH;
    c.seed = UINT64_C(0xfedcba9876543210);
    return c;
}

#endif
