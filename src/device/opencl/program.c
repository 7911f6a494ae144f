/* Programs: from a kernel text to something that runs, through two caches: in this process one program a (file,
 * options), and on disk the driver's binary. Nothing that goes wrong with a binary is an error: the text is compiled
 * instead. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base.h"
#include "base/file.h"
#include "device/cache.h"
#include "device/kernel_texts.h"
#include "opencl.h"

#define MAX_TEXT     ((size_t)4 << 20)
#define MAX_INCLUDES 32
#define LOG_LINES    6
#define LOG_CHARS    600
#define MAX_LOG      ((size_t)64 << 20) /* a driver may say anything */

/* ---- texts ---- */

typedef struct text_builder {
    const char *folder;
    char *text;
    size_t length;
    char *seen[MAX_INCLUDES];
    int seen_count, depth;
} text_builder;

static lun_status append(text_builder *b, const char *text, size_t length)
{
    char *more = lun_realloc(b->text, b->length + length + 1, 1, "a kernel text");
    if (!more)
        return LUN_ERR_MEMORY;
    b->text = more;
    memcpy(b->text + b->length, text, length);
    b->length += length;
    b->text[b->length] = 0;
    return LUN_OK;
}

/* The name in a line `#include "name"`, in fresh memory; *name NULL for any other line. */
static lun_status included_name(const char *line, size_t length, char **name)
{
    static const char directive[] = "#include \"";
    const size_t skip = sizeof directive - 1;
    *name = NULL;
    while (length > 0 && isspace((unsigned char)*line)) {
        line++;
        length--;
    }
    if (length <= skip || memcmp(line, directive, skip) != 0)
        return LUN_OK;
    const char *end = memchr(line + skip, '"', length - skip);
    if (!end)
        return LUN_OK;
    *name = lun_format("%.*s", (int)(end - line - (ptrdiff_t)skip), line + skip);
    return *name ? LUN_OK : LUN_ERR_MEMORY;
}

/* The rule of tools/embed.py: each local header is pasted in once, where it is first included. Headers lie in the
 * folder itself. */
static lun_status paste(text_builder *b, const char *file)
{
    char *path = lun_format("%s/%s", b->folder, file);
    char *own = NULL;
    lun_status status = path ? LUN_OK : LUN_ERR_MEMORY;
    if (status == LUN_OK)
        status = lun_file_read(path, MAX_TEXT, LUN_ERR_USAGE, &own, NULL);
    free(path);
    b->depth++;
    for (const char *line = own; status == LUN_OK && *line;) {
        const char *newline = strchr(line, '\n');
        const size_t length = newline ? (size_t)(newline - line) + 1 : strlen(line);
        char *name;
        status = included_name(line, length, &name);
        if (status == LUN_OK && !name) {
            status = append(b, line, length);
        } else if (status == LUN_OK) {
            bool seen = false;
            for (int i = 0; i < b->seen_count; i++)
                seen = seen || strcmp(b->seen[i], name) == 0;
            if (!seen && (b->seen_count == MAX_INCLUDES || b->depth > MAX_INCLUDES)) {
                status = lun_fail(LUN_ERR_USAGE, "%s/%s: more than %d headers", b->folder, file, MAX_INCLUDES);
            } else if (!seen) {
                b->seen[b->seen_count++] = name;
                status = paste(b, name);
                name = NULL;
            }
        }
        free(name);
        line += length;
    }
    b->depth--;
    free(own);
    return status;
}

/* In fresh memory. */
static lun_status source_text(const lun_opencl *cl, const char *file, char **out)
{
    if (!cl->folder) {
        for (const lun_kernel_text *t = lun_kernel_texts; t->file; t++) {
            if (strcmp(t->file, file) == 0) {
                *out = lun_strdup(t->text);
                return *out ? LUN_OK : LUN_ERR_MEMORY;
            }
        }
        return lun_fail(LUN_ERR_INTERNAL, "OpenCL: there is no kernel text %s", file);
    }
    text_builder b = {.folder = cl->folder};
    lun_status status = paste(&b, file);
    if (status == LUN_OK && !b.text)
        status = lun_fail(LUN_ERR_USAGE, "%s/%s is empty", cl->folder, file);
    for (int i = 0; i < b.seen_count; i++)
        free(b.seen[i]);
    if (status == LUN_OK)
        *out = b.text;
    else
        free(b.text);
    return status;
}

/* ---- compiling ---- */

/* One line of the first lines of the log, however long it is; false if it is empty. */
static bool first_lines(const lun_opencl *cl, cl_program program, char line[LOG_CHARS])
{
    size_t bytes = 0, at = 0;
    int lines = 0;
    snprintf(line, LOG_CHARS, "the compiler's log is empty");
    if (clGetProgramBuildInfo(program, cl->id, CL_PROGRAM_BUILD_LOG, 0, NULL, &bytes) != CL_SUCCESS || bytes < 2)
        return false;
    if (bytes > MAX_LOG) {
        snprintf(line, LOG_CHARS, "the compiler's log is too long, %zu bytes", bytes);
        return true;
    }
    char *log = malloc(bytes + 1);
    if (log && clGetProgramBuildInfo(program, cl->id, CL_PROGRAM_BUILD_LOG, bytes, log, NULL) == CL_SUCCESS) {
        log[bytes] = 0;
        for (const char *c = log; *c && at + 4 < LOG_CHARS && lines < LOG_LINES; c++) {
            if (*c != '\n' && *c != '\r') {
                line[at++] = *c;
            } else if (at > 0 && line[at - 1] != ' ') {
                memcpy(line + at, " | ", 3);
                at += 3;
                lines++;
            }
        }
        if (at > 0)
            line[at] = 0;
    }
    free(log);
    return at > 0;
}

static lun_status build_source(const lun_opencl *cl, const char *file, const char *options, const char *text,
                               cl_program *out)
{
    cl_int error;
    cl_program program = clCreateProgramWithSource(cl->context, 1, &text, NULL, &error);
    LUN_TRY(lun_opencl_check(error, "clCreateProgramWithSource", file));
    error = clBuildProgram(program, 1, &cl->id, options, NULL, NULL);
    char log[LOG_CHARS];
    const bool said = first_lines(cl, program, log);
    if (error == CL_SUCCESS && said)
        lun_log(LUN_LOG_DEBUG, "OpenCL: %s: %s", file, log);
    if (error != CL_SUCCESS) {
        (void)clReleaseProgram(program);
        return lun_fail(LUN_ERR_DEVICE, "OpenCL: %s does not compile for %s (%s): %s: %s", file, cl->dev->info.name,
                        options, lun_opencl_error_name(error), log);
    }
    *out = program;
    return LUN_OK;
}

static cl_program build_binary(const lun_opencl *cl, const char *options, const char *binary, size_t bytes)
{
    const unsigned char *data = (const unsigned char *)binary;
    cl_int error, sound = CL_SUCCESS;
    cl_program program = clCreateProgramWithBinary(cl->context, 1, &cl->id, &bytes, &data, &sound, &error);
    if (error == CL_SUCCESS && sound == CL_SUCCESS &&
        clBuildProgram(program, 1, &cl->id, options, NULL, NULL) == CL_SUCCESS)
        return program;
    if (program)
        (void)clReleaseProgram(program);
    return NULL;
}

static void store_binary(const char *key, cl_program program)
{
    size_t bytes = 0;
    if (clGetProgramInfo(program, CL_PROGRAM_BINARY_SIZES, sizeof bytes, &bytes, NULL) != CL_SUCCESS || bytes == 0)
        return;
    unsigned char *binary = malloc(bytes);
    if (binary && clGetProgramInfo(program, CL_PROGRAM_BINARIES, sizeof binary, &binary, NULL) == CL_SUCCESS)
        lun_cache_store("opencl", key, binary, bytes);
    free(binary);
}

lun_status lun_opencl_program_get(lun_opencl *cl, const char *file, const char *extra, size_t group, cl_program *out)
{
    char options[sizeof((lun_opencl_program *)0)->options];
    const int wrote = snprintf(options, sizeof options, "-cl-std=CL1.2 -DGROUP=%zu -DLANES=%d%s%s", group,
                               cl->dev->caps.lanes, extra[0] ? " " : "", extra);
    if (wrote < 0 || (size_t)wrote >= sizeof options || strlen(file) >= sizeof((lun_opencl_program *)0)->file)
        return lun_fail(LUN_ERR_INTERNAL, "OpenCL: %s: options or name too long", file);
    for (lun_opencl_program *p = cl->programs; p; p = p->next) {
        if (strcmp(p->file, file) == 0 && strcmp(p->options, options) == 0) {
            *out = p->program;
            return LUN_OK;
        }
    }

    char *text = NULL, *key = NULL, *binary = NULL;
    size_t bytes = 0;
    cl_program program = NULL;
    const double start = lun_clock();
    lun_opencl_program *entry = lun_calloc(1, sizeof *entry, "a program");
    lun_status status = entry ? source_text(cl, file, &text) : LUN_ERR_MEMORY;
    if (status == LUN_OK) {
        key = lun_format("%s\n%s\n%s\n%s\n%s\n%s", file, options, cl->platform_name, cl->dev->info.name,
                         cl->dev->info.driver, text);
        if (!key)
            status = LUN_ERR_MEMORY;
    }
    if (status == LUN_OK && !cl->keeps_binaries && lun_cache_load("opencl", key, &binary, &bytes)) {
        program = build_binary(cl, options, binary, bytes);
        if (!program)
            lun_log(LUN_LOG_DEBUG, "OpenCL: the driver refuses the cached binary of %s", file);
    }
    const bool cached = program != NULL;
    if (status == LUN_OK && !program) {
        status = build_source(cl, file, options, text, &program);
        if (status == LUN_OK && !cl->keeps_binaries)
            store_binary(key, program);
    }
    free(binary);
    free(key);
    free(text);
    if (status != LUN_OK) {
        free(entry);
        return status;
    }
    lun_log(LUN_LOG_DEBUG, "OpenCL: %s %s %s in %.2f s", cached ? "loaded" : "compiled", file, options,
            lun_clock() - start);
    strcpy(entry->file, file);
    strcpy(entry->options, options);
    entry->program = program;
    entry->next = cl->programs;
    cl->programs = entry;
    *out = program;
    return LUN_OK;
}

void lun_opencl_programs_release(lun_opencl *cl)
{
    while (cl->programs) {
        lun_opencl_program *next = cl->programs->next;
        (void)clReleaseProgram(cl->programs->program);
        free(cl->programs);
        cl->programs = next;
    }
}
