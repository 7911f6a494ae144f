/* What goes wrong when, and what is counted of it. */
#include <unistd.h>

#include "stub.h"

long stub_calls, stub_events, stub_launches, stub_longest, stub_flip_at;
unsigned stub_flip_bit;
uint64_t stub_hash = UINT64_C(0xcbf29ce484222325);
char stub_flipped[160];

static long live, fail_at, hang_at, hangs;
static bool fail_on, fail_status;
static cl_int fail_error;
static const char *hang, *says;
static char fired[160];

/* For a test that opens devices in its own process. */
EXPORT long stub_live(void);
EXPORT long stub_live(void)
{
    return live;
}

cl_int stub_fault(const char *call)
{
    const long n = ++stub_calls;
    if (hang && strcmp(hang, call) == 0 && ++hangs >= hang_at)
        for (;;)
            (void)pause();
    if (!fail_at || fail_status || (fail_on ? n < fail_at : n != fail_at))
        return CL_SUCCESS;
    if (!fired[0])
        snprintf(fired, sizeof fired, "%s", call);
    return fail_error;
}

bool stub_event_fails(void)
{
    if (++stub_events != fail_at || !fail_status)
        return false;
    snprintf(fired, sizeof fired, "%s", "the status of an event");
    return true;
}

void *stub_make(size_t bytes)
{
    void *object = calloc(1, bytes);
    if (!object)
        abort();
    *(cl_icd_dispatch **)object = &stub_table;
    live++;
    return object;
}

void stub_drop(void *object)
{
    live--;
    free(object);
}

long stub_number(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text ? atol(text) : otherwise;
}

bool stub_says(const char *word)
{
    return says && strcmp(says, word) == 0;
}

__attribute__((constructor)) static void begin(void)
{
    const char *error = getenv("STUB_ERROR");
    fail_at = stub_number("STUB_AT", 0);
    fail_on = getenv("STUB_ON") != NULL;
    hang = getenv("STUB_HANG");
    hang_at = stub_number("STUB_HANG_AT", 1);
    says = getenv("STUB_SAYS");
    stub_flip_at = stub_number("STUB_FLIP", 0);
    stub_flip_bit = (unsigned)stub_number("STUB_BIT", 0) & 31;
    fail_status = error && strcmp(error, "status") == 0;
    fail_error = error && strcmp(error, "memory") == 0 ? CL_MEM_OBJECT_ALLOCATION_FAILURE
                 : error && strcmp(error, "lost") == 0 ? CL_INVALID_COMMAND_QUEUE
                                                       : CL_OUT_OF_RESOURCES;
}

__attribute__((destructor)) static void end(void)
{
    const char *path = getenv("STUB_REPORT");
    FILE *file = path ? fopen(path, "w") : NULL;
    if (!file)
        return;
    fprintf(file,
            "stub calls %ld\nstub events %ld\nstub launches %ld\nstub longest %ld\nstub live %ld\nstub read %016llx\n",
            stub_calls, stub_events, stub_launches, stub_longest, live, (unsigned long long)stub_hash);
    if (fired[0])
        fprintf(file, "stub fired %s\n", fired);
    if (stub_flipped[0])
        fprintf(file, "stub flipped %s\n", stub_flipped);
    fclose(file);
}
