/* F(4x4, 2x2): conv2d and conv2d_transpose of 4x4 filters with stride 2, as 2x2 phases. */
#define WINOGRAD_OUT  4
#define WINOGRAD_TAPS 2
#include "cpu/winograd_gather.h"
