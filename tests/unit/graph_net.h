/* For the tests of the graph tier: a device for each test, and a small network with every kind of join. */
#ifndef LUN_GRAPH_NET_H
#define LUN_GRAPH_NET_H

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/philox.h"
#include "graph/graph.h"

#define OK(expr)           ck_assert_msg((expr) == LUN_OK, "%s: %s", #expr, lun_error_detail())
#define NOT_OK(expr, want) ck_assert_int_eq((expr), (want))

static lun_device *dev; /* plain C, one thread; opened for each test */

static inline void open_cpu(void)
{
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &dev));
}

static inline void close_cpu(void)
{
    size_t now = 1;
    lun_device_memory(dev, &now, NULL);
    ck_assert_uint_eq(now, 0);
    lun_device_close(&dev);
}

static inline void draw(float *values, size_t count, uint64_t number)
{
    for (size_t i = 0; i < count; i++)
        values[i] = 2 * lun_random_uniform(5, LUN_RANDOM_TEST, number, 0, (uint32_t)i) - 1;
}

static inline lun_init uniform(float bound)
{
    return (lun_init){LUN_INIT_UNIFORM, bound};
}

static inline lun_value filter(lun_graph *g, const char *name, int k, int c, int r, float bound)
{
    return lun_graph_param(g, name, lun_filter(k, c, r, r), 4, LUN_ROLE_PARAM, uniform(bound));
}

static inline lun_value vector(lun_graph *g, const char *name, int c, lun_role role, lun_init init)
{
    return lun_graph_param(g, name, lun_image(1, c, 1, 1), 1, role, init);
}

/* A small network with every kind of join: a skip, a channel vector, a shared activation. */
typedef struct net {
    lun_store *store;
    lun_graph *graph;
    lun_value x, t, target, y, loss;
} net;

#define N      2
#define SIZE   6
#define PIXELS (SIZE * SIZE)

static inline void record_net(net *m, bool backward)
{
    OK(lun_store_create(&m->store));
    OK(lun_graph_create(m->store, &m->graph));
    lun_graph *g = m->graph;
    m->x = lun_graph_input(g, "x", lun_image(N, 3, SIZE, SIZE));
    m->t = lun_graph_input(g, "t", lun_typed(lun_image(N, 1, 1, 1), LUN_I32));
    m->target = lun_graph_input(g, "target", lun_image(N, 3, SIZE, SIZE));
    const lun_value time = lun_relu(
        g, lun_linear(g, lun_time_embed(g, m->t, 10, 8),
                      lun_graph_param(g, "time.weight", lun_filter(4, 8, 1, 1), 2, LUN_ROLE_PARAM, uniform(0.5f)),
                      vector(g, "time.bias", 4, LUN_ROLE_PARAM, uniform(0.5f))));
    lun_value h = lun_conv2d(g, m->x, filter(g, "conv.weight", 4, 3, 3, 0.4f),
                             vector(g, "conv.bias", 4, LUN_ROLE_PARAM, uniform(0.4f)), 1, 1);
    h = lun_batch_norm(g, lun_relu(g, h), vector(g, "norm.weight", 4, LUN_ROLE_PARAM, (lun_init){LUN_INIT_ONE, 0}),
                       vector(g, "norm.bias", 4, LUN_ROLE_PARAM, uniform(0.5f)),
                       vector(g, "norm.running_mean", 4, LUN_ROLE_BUFFER, (lun_init){LUN_INIT_ZERO, 0}),
                       vector(g, "norm.running_var", 4, LUN_ROLE_BUFFER, (lun_init){LUN_INIT_ONE, 0}), 1e-5f, 0.1f, 1,
                       1);
    const lun_value skip = lun_add_channel(g, h, time);
    h = lun_relu(g, lun_conv2d(g, skip, filter(g, "down.weight", 6, 4, 4, 0.2f),
                               vector(g, "down.bias", 6, LUN_ROLE_PARAM, uniform(0.2f)), 2, 1));
    h = lun_conv2d_transpose(g, h, filter(g, "up.weight", 6, 4, 4, 0.2f),
                             vector(g, "up.bias", 4, LUN_ROLE_PARAM, uniform(0.2f)), 2, 1, 0);
    h = lun_concat(g, h, skip);
    m->y = lun_conv2d(g, h, filter(g, "out.weight", 3, 8, 1, 0.4f),
                      vector(g, "out.bias", 3, LUN_ROLE_PARAM, uniform(0.4f)), 1, 0);
    m->loss = lun_loss(g, m->y, m->target, LUN_L2, 1);
    lun_graph_output(g, m->loss);
    if (backward)
        lun_graph_backward(g, m->loss);
    OK(lun_graph_check(g));
}

static inline void start_net(net *m, lun_device *on)
{
    OK(lun_store_allocate(m->store, on, 1));
    OK(lun_store_init(m->store, 1));
}

static inline void feed_net(const net *m, lun_plan *plan)
{
    float x[N * 3 * PIXELS], target[N * 3 * PIXELS];
    const int32_t t[N] = {3, 7};
    draw(x, LUN_COUNT(x), 100);
    draw(target, LUN_COUNT(target), 101);
    OK(lun_plan_write(plan, m->x, x));
    OK(lun_plan_write(plan, m->t, t));
    OK(lun_plan_write(plan, m->target, target));
}

static inline void end_net(net *m)
{
    lun_graph_destroy(&m->graph);
    lun_store_destroy(&m->store);
}

static inline float run_loss(const net *m, lun_plan *plan)
{
    float loss = NAN;
    OK(lun_plan_run(plan));
    OK(lun_plan_read(plan, m->loss, &loss));
    ck_assert(isfinite(loss));
    return loss;
}

static inline size_t elements(const lun_store *store, size_t i)
{
    return (size_t)lun_count(lun_store_info(store, i)->desc.shape);
}

static inline float *read_slot(lun_store *store, size_t i, lun_slot slot)
{
    float *values = malloc(elements(store, i) * sizeof *values);
    ck_assert_ptr_nonnull(values);
    OK(lun_store_read(store, i, slot, values));
    return values;
}

#endif
