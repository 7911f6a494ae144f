/* How the pictures of training are varied: the draws. Purpose AUGMENT, the number of the sample; draw 0 of it is for
 * the mirror, draw 1 for the window. */
#include "base/philox.h"
#include "dataset.h"

enum { SUB_FLIP, SUB_WINDOW };

bool lun_augment_flip(const lun_augment *a, uint64_t number)
{
    return lun_random_u32(a->seed, LUN_RANDOM_AUGMENT, number, SUB_FLIP, 0) >> 31;
}

void lun_augment_window(const lun_augment *a, uint64_t number, int room_x, int room_y, int *x, int *y)
{
    *x = (int)lun_random_below(a->seed, LUN_RANDOM_AUGMENT, number, SUB_WINDOW, 0, (uint32_t)room_x + 1);
    *y = (int)lun_random_below(a->seed, LUN_RANDOM_AUGMENT, number, SUB_WINDOW, 1, (uint32_t)room_y + 1);
}
