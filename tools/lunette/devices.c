/* lunette devices */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "common.h"
#include "device/auto.h"
#include "live.h"

typedef struct listing {
    bool json;
    json_t *rows;
    int count;
    lun_device_info first_gpu, opencl_cpu, cpu;
} listing;

static const char *type_name(lun_device_type type)
{
    return type == LUN_DEVICE_CPU ? "cpu" : type == LUN_DEVICE_GPU ? "gpu" : "other";
}

static void add(void *payload, const lun_device_info *info)
{
    listing *l = payload;
    l->count++;
    const bool opencl = strncmp(info->spec, "opencl", 6) == 0;
    lun_device_info *keep = info->type == LUN_DEVICE_GPU             ? &l->first_gpu
                            : opencl && info->type == LUN_DEVICE_CPU ? &l->opencl_cpu
                            : strcmp(info->spec, "cpu") == 0         ? &l->cpu
                                                                     : NULL;
    if (keep && !keep->spec[0])
        *keep = *info;
    if (l->json) {
        json_array_append_new(l->rows, json_pack("{s:s, s:s, s:s, s:s, s:s, s:i, s:I, s:I}", "spec", info->spec, "name",
                                                 info->name, "platform", info->platform, "driver", info->driver, "type",
                                                 type_name(info->type), "units", info->units, "memory_bytes",
                                                 (json_int_t)info->memory_bytes, "max_alloc_bytes",
                                                 (json_int_t)info->max_alloc_bytes));
        return;
    }
    char memory[32];
    printf("%-9s  %-5s  %3d units  %8s  %s; %s%s%s\n", info->spec, type_name(info->type), info->units,
           info->memory_bytes ? bytes_text((double)info->memory_bytes, memory, sizeof memory) : "-", info->name,
           info->platform, info->driver[0] ? "; driver " : "", info->driver);
}

/* What "auto" would open, as far as that is known without measuring; "" if not. */
static void find_auto(const listing *l, char spec[32])
{
    spec[0] = 0;
    if (l->first_gpu.spec[0])
        snprintf(spec, 32, "%s", l->first_gpu.spec);
    else if (!l->opencl_cpu.spec[0] || !l->cpu.spec[0])
        snprintf(spec, 32, "%s", l->cpu.spec[0] ? l->cpu.spec : l->opencl_cpu.spec);
    else if (!lun_auto_remembered(&l->opencl_cpu, &l->cpu, spec))
        spec[0] = 0;
}

int lun_cmd_devices(int argc, char **argv)
{
    bool json = false;
    const arg_option options[] = {
        {.name = "--json",
         .type = ARG_FLAG,
         .value = &json,
         .help = "one JSON object: devices (spec, name, platform, driver, ...), auto"},
        {0},
    };
    const arg_command command = {
        .usage = "devices [--json]",
        .about = "List what can compute here, the best first. The first column is what --device takes.",
        .notes = "Besides these, --device takes auto (a GPU if there is one, else the faster of OpenCL-on-CPU and "
                 "plain C, measured\n"
                 "once and remembered), null (plans and counts, computes nothing) and check[:A,B] (two devices side by "
                 "side).\n\n"
                 "example:\n  lunette devices --json",
        .options = options,
    };
    int positionals = 0, exit_code = 0;
    if (arg_begin(&command, argc, argv, NULL, &positionals, &exit_code))
        return exit_code;
    listing l = {.json = json, .rows = json ? json_array() : NULL};
    char automatic[32];
    lun_device_list(add, &l);
    find_auto(&l, automatic);
    if (json)
        return print_json(json_pack("{s:s, s:o, s:s?}", "lunette", lun_version(), "devices", l.rows, "auto",
                                    automatic[0] ? automatic : NULL),
                          2);
    if (l.count == 0)
        printf("no device\n");
    else if (automatic[0])
        printf("auto is %s\n", automatic);
    else
        printf("auto is measured when it is first used\n");
    return finish_output();
}
