/* F(4x4, 2x2), filter-stationary: the phases of 4x4 filters with stride 2. */
#define WINOGRAD_OUT  4
#define WINOGRAD_TAPS 2
#include "cpu/winograd_deep_kernels.h"
