#include "stack.h"

#include <pthread.h>
#include <stddef.h>
#include <sys/resource.h>

#define ENOUGH ((size_t)8 << 20)

typedef struct call {
    int (*run)(int argc, char **argv);
    int argc;
    char **argv;
    int code;
} call;

static void *carry_out(void *payload)
{
    call *c = payload;
    c->code = c->run(c->argc, c->argv);
    return NULL;
}

int stack_run(int (*run)(int argc, char **argv), int argc, char **argv)
{
    struct rlimit limit;
    call c = {run, argc, argv, 0};
    pthread_attr_t attributes;
    pthread_t thread;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY || limit.rlim_cur >= ENOUGH ||
        pthread_attr_init(&attributes) != 0)
        return run(argc, argv);
    int error = pthread_attr_setstacksize(&attributes, ENOUGH);
#ifdef LUN_HAVE_DEFAULT_STACK
    if (error == 0)
        (void)pthread_setattr_default_np(&attributes); /* of glibc, whose default is the limit */
#endif
    if (error == 0)
        error = pthread_create(&thread, &attributes, carry_out, &c);
    (void)pthread_attr_destroy(&attributes);
    if (error != 0)
        return run(argc, argv);
    (void)pthread_join(thread, NULL);
    return c.code;
}
