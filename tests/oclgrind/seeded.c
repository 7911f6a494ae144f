/* Kernels with one known fault each, so that Oclgrind's silence about ours means something.
 *
 *     seeded good | barrier | store | divergent | uninitialised
 *
 * Runs the kernel of that name: each group of 16 work-items reverses its part of the source in local memory. Exit 0
 * when it has run, whatever Oclgrind says about it; 77 without an OpenCL device. */
#define CL_TARGET_OPENCL_VERSION 120
#include <CL/cl.h>
#include <stdio.h>
#include <string.h>

#define GROUP 16
#define COUNT 64

static const char text[] =
    "__kernel void good(__global const float *src, __global float *dst, __local float *part)\n"
    "{\n"
    "    const int i = get_local_id(0), n = get_local_size(0);\n"
    "    part[i] = src[get_global_id(0)];\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    dst[get_global_id(0)] = part[n - 1 - i];\n"
    "}\n"
    "__kernel void barrier_removed(__global const float *src, __global float *dst, __local float *part)\n"
    "{\n"
    "    const int i = get_local_id(0), n = get_local_size(0);\n"
    "    part[i] = src[get_global_id(0)];\n"
    "    dst[get_global_id(0)] = part[n - 1 - i];\n"
    "}\n"
    "__kernel void store_off_by_one(__global const float *src, __global float *dst, __local float *part)\n"
    "{\n"
    "    const int i = get_local_id(0), n = get_local_size(0);\n"
    "    part[i] = src[get_global_id(0)];\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    dst[get_global_id(0) + 1] = part[n - 1 - i];\n"
    "}\n"
    "__kernel void barrier_divergent(__global const float *src, __global float *dst, __local float *part)\n"
    "{\n"
    "    const int i = get_local_id(0), n = get_local_size(0);\n"
    "    part[i] = src[get_global_id(0)];\n"
    "    if (i < n / 2)\n"
    "        barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    dst[get_global_id(0)] = part[i];\n"
    "}\n"
    "__kernel void local_uninitialised(__global const float *src, __global float *dst, __local float *part)\n"
    "{\n"
    "    const int i = get_local_id(0), n = get_local_size(0);\n"
    "    if (i > 0)\n"
    "        part[i] = src[get_global_id(0)];\n"
    "    barrier(CLK_LOCAL_MEM_FENCE);\n"
    "    if (part[n - 1 - i] > 0.5f)\n"
    "        dst[get_global_id(0)] = 1.0f;\n"
    "    else\n"
    "        dst[get_global_id(0)] = 0.0f;\n"
    "}\n";

static const struct {
    const char *name, *kernel;
} kernels[] = {
    {"good", "good"},
    {"barrier", "barrier_removed"},
    {"store", "store_off_by_one"},
    {"divergent", "barrier_divergent"},
    {"uninitialised", "local_uninitialised"},
};

static int failed(cl_int error, const char *what)
{
    if (error != CL_SUCCESS)
        fprintf(stderr, "seeded: %s: OpenCL error %d\n", what, (int)error);
    return error != CL_SUCCESS;
}

int main(int argc, char **argv)
{
    const char *kernel_name = NULL;
    for (size_t i = 0; argc == 2 && i < sizeof kernels / sizeof kernels[0]; i++)
        if (strcmp(argv[1], kernels[i].name) == 0)
            kernel_name = kernels[i].kernel;
    if (kernel_name == NULL) {
        fprintf(stderr, "usage: seeded good|barrier|store|divergent|uninitialised\n");
        return 2;
    }

    cl_platform_id platform;
    cl_device_id device;
    cl_int error;
    if (clGetPlatformIDs(1, &platform, NULL) != CL_SUCCESS ||
        clGetDeviceIDs(platform, CL_DEVICE_TYPE_ALL, 1, &device, NULL) != CL_SUCCESS)
        return 77;
    cl_context context = clCreateContext(NULL, 1, &device, NULL, NULL, &error);
    if (failed(error, "clCreateContext"))
        return 1;
    cl_command_queue queue = clCreateCommandQueue(context, device, 0, &error);
    if (failed(error, "clCreateCommandQueue"))
        return 1;
    const char *source = text;
    cl_program program = clCreateProgramWithSource(context, 1, &source, NULL, &error);
    if (failed(error, "clCreateProgramWithSource") ||
        failed(clBuildProgram(program, 1, &device, "-cl-std=CL1.2", NULL, NULL), "clBuildProgram"))
        return 1;
    cl_kernel kernel = clCreateKernel(program, kernel_name, &error);
    if (failed(error, "clCreateKernel"))
        return 1;

    float host[COUNT];
    for (int i = 0; i < COUNT; i++)
        host[i] = (float)i;
    cl_mem src = clCreateBuffer(context, CL_MEM_READ_ONLY | CL_MEM_COPY_HOST_PTR, sizeof host, host, &error);
    if (failed(error, "clCreateBuffer"))
        return 1;
    cl_mem dst = clCreateBuffer(context, CL_MEM_WRITE_ONLY, sizeof host, NULL, &error);
    if (failed(error, "clCreateBuffer"))
        return 1;
    const size_t global = COUNT, local = GROUP;
    if (failed(clSetKernelArg(kernel, 0, sizeof src, &src), "clSetKernelArg") ||
        failed(clSetKernelArg(kernel, 1, sizeof dst, &dst), "clSetKernelArg") ||
        failed(clSetKernelArg(kernel, 2, GROUP * sizeof(float), NULL), "clSetKernelArg") ||
        failed(clEnqueueNDRangeKernel(queue, kernel, 1, NULL, &global, &local, 0, NULL, NULL),
               "clEnqueueNDRangeKernel"))
        return 1;
    (void)clFinish(queue); /* a faulty kernel may fail here: that is the point */

    clReleaseMemObject(dst);
    clReleaseMemObject(src);
    clReleaseKernel(kernel);
    clReleaseProgram(program);
    clReleaseCommandQueue(queue);
    clReleaseContext(context);
    return 0;
}
