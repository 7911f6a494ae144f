/* Programs, kernels and launches. */
#include "device/kernel_texts.h"
#include "stub.h"

static const lun_cpu_text *text_named(const char *file)
{
    for (const lun_cpu_text *t = lun_cpu_baseline_texts; file && t->file; t++)
        if (strcmp(t->file, file) == 0)
            return t;
    return NULL;
}

static cl_program create_from_source(cl_context context, cl_uint count, const char **texts, const size_t *lengths,
                                     cl_int *error)
{
    (void)context, (void)count, (void)lengths;
    MAKE(clCreateProgramWithSource);
    cl_program program = stub_make(sizeof *program);
    for (const lun_kernel_text *t = lun_kernel_texts; t->file; t++)
        if (strcmp(t->text, texts[0]) == 0)
            program->file = t->file;
    program->text = text_named(program->file);
    return program;
}

static cl_program create_from_binary(cl_context context, cl_uint count, const cl_device_id *devices,
                                     const size_t *lengths, const unsigned char **binaries, cl_int *sound,
                                     cl_int *error)
{
    char name[64];
    (void)context, (void)count, (void)devices;
    MAKE(clCreateProgramWithBinary);
    cl_program program = stub_make(sizeof *program);
    snprintf(name, sizeof name, "%.*s", (int)lengths[0], (const char *)binaries[0]);
    for (const lun_kernel_text *t = lun_kernel_texts; t->file; t++)
        if (strcmp(t->file, name) == 0)
            program->file = t->file;
    program->text = text_named(program->file);
    if (sound)
        *sound = program->file ? CL_SUCCESS : CL_INVALID_BINARY;
    return program;
}

static bool builds(const char *how)
{
    const char *wanted = getenv("STUB_BUILD");
    return wanted && strcmp(wanted, how) == 0;
}

/* Lines of a compiler that talks a lot, with what terminals take for commands, some of them of a hundred thousand
 * characters. */
static char *long_log(size_t bytes)
{
    static const char line[] = "text.cl:1:1: error: \033[31mno such thing\033[0m\r\n\t\a\n";
    char *log = malloc(bytes + 1);
    if (!log)
        abort();
    for (size_t i = 0; i < bytes; i++)
        log[i] = i % 200000 < 100000 ? line[i % (sizeof line - 1)] : 'x';
    log[bytes] = 0;
    return log;
}

static cl_int build(cl_program program, cl_uint count, const cl_device_id *devices, const char *options,
                    void(CL_CALLBACK *notify)(cl_program, void *), void *user)
{
    (void)count, (void)devices, (void)options, (void)notify, (void)user;
    CALL(clBuildProgram);
    return program->file && !builds("fails") ? CL_SUCCESS : CL_BUILD_PROGRAM_FAILURE;
}

static cl_int get_build_info(cl_program program, cl_device_id of, cl_program_build_info what, size_t room, void *out,
                             size_t *needed)
{
    (void)of;
    CALL(clGetProgramBuildInfo);
    if (what != CL_PROGRAM_BUILD_LOG)
        return CL_INVALID_VALUE;
    if (!program->file)
        return stub_answer_text("not one of the texts that the stub knows", room, out, needed);
    const long bytes = getenv("STUB_BUILD") ? stub_number("STUB_LOG", 0) : 0;
    if (bytes < 0) {
        *needed = SIZE_MAX;
        return out ? CL_INVALID_VALUE : CL_SUCCESS;
    }
    char *log = long_log((size_t)bytes);
    const cl_int error = stub_answer_text(log, room, out, needed);
    free(log);
    return error;
}

static cl_int get_program_info(cl_program program, cl_program_info what, size_t room, void *out, size_t *needed)
{
    CALL(clGetProgramInfo);
    const char *name = program->file ? program->file : "";
    if (what == CL_PROGRAM_BINARY_SIZES)
        return NUMBER(size_t, strlen(name));
    if (what != CL_PROGRAM_BINARIES || room < sizeof(unsigned char *))
        return CL_INVALID_VALUE;
    memcpy(*(unsigned char **)out, name, strlen(name));
    return CL_SUCCESS;
}

static cl_int release_program(cl_program program)
{
    stub_drop(program);
    return stub_fault("clReleaseProgram");
}

static cl_kernel create_kernel(cl_program program, const char *name, cl_int *error)
{
    MAKE(clCreateKernel);
    lun_cpu_kernel_fn *run = NULL;
    for (const lun_cpu_kernel *k = program->text ? program->text->kernels : NULL; k && k->name; k++)
        if (strcmp(k->name, name) == 0)
            run = k->run;
    if (!run && (!program->file || program->text)) {
        if (error)
            *error = CL_INVALID_KERNEL_NAME;
        return NULL;
    }
    cl_kernel kernel = stub_make(sizeof *kernel);
    kernel->run = run;
    return kernel;
}

static cl_int release_kernel(cl_kernel kernel)
{
    stub_drop(kernel);
    return stub_fault("clReleaseKernel");
}

static cl_int get_group_info(cl_kernel kernel, cl_device_id of, cl_kernel_work_group_info what, size_t room, void *out,
                             size_t *needed)
{
    (void)kernel, (void)of;
    CALL(clGetKernelWorkGroupInfo);
    return what == CL_KERNEL_WORK_GROUP_SIZE ? NUMBER(size_t, stub_kernel_group()) : CL_INVALID_VALUE;
}

static cl_int set_arg(cl_kernel kernel, cl_uint index, size_t bytes, const void *value)
{
    CALL(clSetKernelArg);
    if (index >= MAX_ARGS || bytes > ARG_MAX_BYTES)
        return CL_INVALID_ARG_INDEX;
    memcpy(kernel->value[index], value, bytes);
    kernel->bytes[index] = bytes;
    if (index >= kernel->count)
        kernel->count = index + 1;
    return CL_SUCCESS;
}

/* Of all words that the launch has changed in these buffers to something else than zero (one bit of which may mean next
 * to nothing), make the middle one wrong. */
static void flip(cl_mem *mems, unsigned count)
{
    size_t changed = 0, seen = 0;
    for (int turn = 0; turn < 2; turn++) {
        for (unsigned b = 0; b < count; b++) {
            for (size_t i = 0; mems[b]->before && i + 4 <= mems[b]->bytes; i += 4) {
                uint32_t word;
                memcpy(&word, mems[b]->data + i, 4);
                if (word == 0 || memcmp(&word, mems[b]->before + i, 4) == 0)
                    continue;
                changed += turn == 0;
                if (turn == 1 && seen++ == changed / 2) {
                    snprintf(stub_flipped, sizeof stub_flipped, "launch %ld: one of %zu words, %08x", stub_launches,
                             changed, word);
                    word ^= UINT32_C(1) << stub_flip_bit;
                    memcpy(mems[b]->data + i, &word, 4);
                    return;
                }
            }
        }
    }
}

/* Arguments as cl/kernel.h has them: a buffer and an offset for each operand, the struct if there is one, the number of
 * items. */
static cl_int enqueue_kernel(cl_command_queue queue, cl_kernel kernel, cl_uint dimensions, const size_t *offset,
                             const size_t *global, const size_t *local, cl_uint waits, const cl_event *list,
                             cl_event *event)
{
    void *p[MAX_ARGS];
    cl_mem mems[MAX_ARGS];
    unsigned arg = 0, count = 0;
    cl_uint items = 0;
    (void)queue, (void)waits, (void)list;
    CALL(clEnqueueNDRangeKernel);
    if (dimensions != 1)
        return CL_INVALID_WORK_DIMENSION;
    if (local[0] < 1 || local[0] > stub_group() || local[0] > stub_kernel_group() || global[0] % local[0] != 0)
        return CL_INVALID_WORK_GROUP_SIZE;
    if (local[0] > stub_along())
        return CL_INVALID_WORK_ITEM_SIZE;
    if (!kernel->run)
        return CL_INVALID_OPERATION;
    if (kernel->count < 1 || kernel->bytes[kernel->count - 1] != sizeof items)
        return CL_INVALID_KERNEL_ARGS;
    memcpy(&items, kernel->value[kernel->count - 1], sizeof items);
    const unsigned operands = (kernel->count - 1) / 2;
    for (; count < operands; arg += 2, count++) {
        cl_ulong start;
        memcpy(&mems[count], kernel->value[arg], sizeof mems[count]);
        memcpy(&start, kernel->value[arg + 1], sizeof start);
        if (start > mems[count]->bytes)
            return CL_INVALID_KERNEL_ARGS;
        p[count] = mems[count]->data + start;
    }
    const cl_uint begin = offset && offset[0] < items ? (cl_uint)offset[0] : offset ? items : 0;
    const cl_uint end = global[0] < items - begin ? begin + (cl_uint)global[0] : items;
    if ((long)(end - begin) > stub_longest)
        stub_longest = (long)(end - begin);
    const bool flips = ++stub_launches == stub_flip_at;
    for (unsigned b = 0; b < count && flips; b++) {
        if (!mems[b]->before && (mems[b]->before = malloc(mems[b]->bytes)))
            memcpy(mems[b]->before, mems[b]->data, mems[b]->bytes);
    }
    for (cl_uint item = begin; item < end; item++)
        kernel->run(p, kernel->value[arg], (int)item);
    if (flips)
        flip(mems, count);
    for (unsigned b = 0; b < count && flips; b++) {
        free(mems[b]->before);
        mems[b]->before = NULL;
    }
    stub_give_event(event);
    return CL_SUCCESS;
}

void stub_enter_program(cl_icd_dispatch *table)
{
    table->clCreateProgramWithSource = create_from_source;
    table->clCreateProgramWithBinary = create_from_binary;
    table->clReleaseProgram = release_program;
    table->clBuildProgram = build;
    table->clGetProgramInfo = get_program_info;
    table->clGetProgramBuildInfo = get_build_info;
    table->clCreateKernel = create_kernel;
    table->clReleaseKernel = release_kernel;
    table->clSetKernelArg = set_arg;
    table->clGetKernelWorkGroupInfo = get_group_info;
    table->clEnqueueNDRangeKernel = enqueue_kernel;
}
