/* An OpenCL driver that crashes as soon as the loader asks it anything. */
#include <stdlib.h>

__attribute__((visibility("default"))) void *clGetExtensionFunctionAddress(const char *name);

void *clGetExtensionFunctionAddress(const char *name)
{
    (void)name;
    abort();
}
