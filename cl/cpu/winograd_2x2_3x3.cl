/* F(2x2, 3x3): conv2d and conv2d_transpose of 3x3 filters with stride 1. */
#define WINOGRAD_OUT  2
#define WINOGRAD_TAPS 3
#include "cpu/winograd_gather.h"
