/* A program as a stranger writes it: only what `meson install` and pkg-config give. Plans a training run on the null
 * device. */
#include <lunette/lunette.h>
#include <stdio.h>
#include <string.h>

static int failed(const char *what)
{
    fprintf(stderr, "installed: %s: %s\n", what, lun_error_detail());
    return 1;
}

int main(int argc, char **argv)
{
    lun_device *device = NULL;
    lun_trainer *trainer = NULL;
    lun_train_config config;
    size_t now = 0, peak = 0;

    if (argc != 2 || strcmp(argv[1], lun_version()) != 0) {
        fprintf(stderr, "installed: the library says %s\n", lun_version());
        return 1;
    }
    if (lun_train_preset("no such preset", &config) != LUN_ERR_USAGE || lun_error_detail()[0] == 0)
        return failed("an unknown preset is accepted");
    if (lun_train_preset("notebook", &config) != LUN_OK)
        return failed("lun_train_preset");
    if (lun_device_open("null", NULL, &device) != LUN_OK)
        return failed("lun_device_open");
    if (lun_trainer_create(device, &config, 98, NULL, &trainer) != LUN_OK)
        return failed("lun_trainer_create");
    lun_device_memory(device, &now, &peak);
    /* weights, gradients and two moments of 62,438,883 parameters */
    if (peak < (size_t)62438883 * 4 * 4) {
        fprintf(stderr, "installed: %zu bytes cannot be the notebook network's training\n", peak);
        return 1;
    }
    printf("lunette %s plans %.2f GB\n", lun_version(), (double)peak / 1e9);
    lun_trainer_destroy(&trainer);
    lun_device_close(&device);
    return 0;
}
