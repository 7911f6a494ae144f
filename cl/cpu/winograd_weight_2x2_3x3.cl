/* F(3x3, 2x2): weight gradient of 3x3 filters with stride 1. */
#define WINOGRAD_OUT  2
#define WINOGRAD_TAPS 3
#include "cpu/winograd_weight.h"
