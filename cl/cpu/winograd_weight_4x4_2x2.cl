/* F(2x2, 4x4) on the four phases of 4x4 filters with stride 2: their weight gradient. */
#define WINOGRAD_OUT  4
#define WINOGRAD_TAPS 2
#include "cpu/winograd_weight.h"
