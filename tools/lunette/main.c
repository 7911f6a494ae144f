/* lunette: train small image-diffusion models and draw pictures with them. One file a subcommand. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "args.h"

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *about;
} commands[] = {
    {"train", lun_cmd_train, "train a model on a folder of pictures"},
    {"sample", lun_cmd_sample, "draw new pictures with a trained model"},
    {"devices", lun_cmd_devices, "list what can compute on this machine"},
    {"bench", lun_cmd_bench, "time training, sampling or single ops"},
    {"predict", lun_cmd_predict, "run a model on given tensors, with gradients if asked"},
    {"craters", lun_cmd_craters, "draw a data set of craters to try things on"},
    {"info", lun_cmd_info, "say what is in a model file"},
};

static void usage(FILE *to)
{
    fprintf(to, "usage: lunette COMMAND [arguments]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++)
        fprintf(to, "  %-9s %s\n", commands[i].name, commands[i].about);
    fprintf(to, "\n'lunette COMMAND --help' explains one. 'lunette --version' prints the version.\n"
                "Exit codes: 0 done, 1 internal error, 2 usage, 3 data, 4 checkpoint, 5 device, 6 memory, 7 storage, 8 diverged.\n");
}

static void print_log(void *payload, lun_log_level level, const char *line)
{
    (void)payload;
    fprintf(stderr, "lunette: %s%s\n", level == LUN_LOG_WARN ? "warning: " : "", line);
}

int main(int argc, char **argv)
{
    /* A closed pipe or a full file is an error of the write that meets it, not a reason to die in mid-training. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    const char *debug = getenv("LUNETTE_LOG");
    lun_log_set(print_log, NULL, debug && strcmp(debug, "debug") == 0 ? LUN_LOG_DEBUG : LUN_LOG_INFO);
    if (argc < 2) {
        usage(stderr);
        return LUN_ERR_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("lunette %s\n", lun_version());
        return 0;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    }
    return report(lun_fail(LUN_ERR_USAGE, "unknown command '%s'; 'lunette --help' lists them", argv[1]));
}
