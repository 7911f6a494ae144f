/* opens [TIMES [STUB]]: opens the first OpenCL device, trains a step on it and closes it, again and again. What the
 * host holds and what the driver holds must not grow. On the platform of icd.c every object is counted; of another
 * driver only the process's memory is told. */
#include <dlfcn.h>
#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lunette/lunette.h>

/* Of the stub's library, which the loader has opened; NULL: another driver. */
static long (*stub_live)(void);

static void find_stub(const char *library)
{
    void *handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
    void *symbol = handle ? dlsym(handle, "stub_live") : NULL;
    memcpy(&stub_live, &symbol, sizeof stub_live);
}

static int failed(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, lun_error_detail());
    return 1;
}

static long resident_kib(void)
{
    long pages = 0, resident = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%ld %ld", &pages, &resident) != 2)
        resident = 0;
    if (file)
        fclose(file);
    return resident * (sysconf(_SC_PAGESIZE) / 1024);
}

/* One step, so that there are programs, kernels, buffers and events, too. */
static int once(bool step)
{
    lun_device *dev = NULL;
    if (lun_device_open("opencl", NULL, &dev) != LUN_OK)
        return failed("open");
    lun_trainer *trainer = NULL;
    lun_train_config config;
    lun_status status = LUN_OK;
    if (step) {
        static const float pictures[2 * 3 * 8 * 8];
        status = lun_train_preset("notebook", &config);
        config.model.levels = 2;
        config.model.channels[0] = config.model.channels[1] = 4;
        config.width = config.height = 8;
        config.batch = 2;
        if (status == LUN_OK)
            status = lun_trainer_create(dev, &config, 2, NULL, &trainer);
        if (status == LUN_OK)
            status = lun_trainer_run(trainer, pictures);
    }
    if (status == LUN_OK)
        status = lun_device_finish(dev);
    if (status != LUN_OK)
        (void)failed("step");
    lun_trainer_destroy(&trainer);
    lun_device_close(&dev);
    return status != LUN_OK;
}

int main(int argc, char **argv)
{
    const int times = argc > 1 ? atoi(argv[1]) : 1000;
    size_t before = 0;
    /* Freed blocks that are kept aside count as held. Those of a thread: GLIBC_TUNABLES=glibc.malloc.tcache_count=0. */
    (void)mallopt(M_MXFAST, 0);
    long resident = 0;
    for (int i = 0; i < times; i++) {
        if (once(i % 10 == 0))
            return 1;
        if (i == 0 && argc > 2)
            find_stub(argv[2]);
        if (stub_live && stub_live() != 0) {
            fprintf(stderr, "after %d: %ld objects of the driver are left\n", i + 1, stub_live());
            return 1;
        }
        if (i == 20 || i == times - 1) {
            const struct mallinfo2 heap = mallinfo2();
            const size_t now = heap.uordblks + heap.hblkhd;
            if (i == 20) {
                before = now;
                resident = resident_kib();
            } else if (argc > 2 && now > before) {
                fprintf(stderr, "after %d: %zu bytes are held, after 21 it was %zu\n", i + 1, now, before);
                return 1;
            }
        }
    }
    if (argc > 2 && !stub_live) {
        fprintf(stderr, "the stub's library was not opened\n");
        return 1;
    }
    resident = resident_kib() - resident;
    printf("%d opened and closed; %zu bytes held; resident %+ld KiB since the 21st\n", times, before, resident);
    return stub_live && resident > 1024;
}
