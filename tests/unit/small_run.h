/* For tests of training: a folder of eleven small pictures, plain C, trainers and what runs leave behind. */
#ifndef SMALL_RUN_H
#define SMALL_RUN_H

#include "scratch.h"
#include "small_config.h"

#include <lunette/picture_out.h>

#include "checkpoint/runfolder.h"
#include "model/model_file.h"
#include "train/config.h"
#include "train/trainer.h"

enum { PICTURES = 11, PER_EPOCH = PICTURES / BATCH };

static lun_device *dev; /* plain C, one thread */
static lun_dataset *dataset;

static inline void draw_folder(const char *folder, int count, int size)
{
    mkdir(folder, 0755);
    for (int i = 0; i < count; i++) {
        char path[1200];
        lun_picture picture;
        snprintf(path, sizeof path, "%s/%03d.png", folder, i);
        OK(lun_craters_draw(7, (uint32_t)i, size, &picture));
        OK(lun_png_write(path, &picture, NULL, 0));
        lun_picture_free(&picture);
    }
}

static inline lun_dataset *open_folder(const char *folder, int size)
{
    lun_dataset *opened = NULL;
    OK(lun_dataset_open(&(lun_dataset_params){.folder = folder, .width = size, .height = size, .threads = 1}, &opened));
    return opened;
}

static inline void setup(void)
{
    scratch_make();
    draw_folder(scratch("pictures"), PICTURES, SIDE);
    dataset = open_folder(scratch("pictures"), SIDE);
    OK(lun_device_open("cpu", &(lun_device_params){.threads = 1}, &dev));
}

static inline void teardown(void)
{
    size_t now = 1;
    lun_device_memory(dev, &now, NULL);
    ck_assert_uint_eq(now, 0);
    lun_device_close(&dev);
    lun_dataset_close(&dataset);
    scratch_remove();
}

static inline lun_trainer *make(lun_device *device, const lun_train_config *c)
{
    lun_trainer *t = NULL;
    OK(lun_trainer_create(device, c, lun_dataset_count(dataset), NULL, &t));
    return t;
}

static inline const char *checkpoint(const char *run, int count, const char *tail)
{
    char name[200];
    snprintf(name, sizeof name, "%s/checkpoints/step-%08d%s.safetensors", run, count, tail);
    return scratch(name);
}

static inline void same_file(const char *a, const char *b)
{
    size_t m = 0, n = 0;
    char *x = get_file(a, &m), *y = get_file(b, &n);
    ck_assert_msg(m == n && memcmp(x, y, m) == 0, "%s and %s differ", a, b);
    free(x);
    free(y);
}

static inline void same_checkpoint(const char *a, const char *b, int count)
{
    same_file(checkpoint(a, count, ""), checkpoint(b, count, ""));
    same_file(checkpoint(a, count, ".optimizer"), checkpoint(b, count, ".optimizer"));
}

#endif
