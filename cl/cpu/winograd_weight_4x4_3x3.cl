/* F(3x3, 4x4): weight gradient of 3x3 filters with stride 1. */
#define WINOGRAD_OUT  4
#define WINOGRAD_TAPS 3
#include "cpu/winograd_weight.h"
