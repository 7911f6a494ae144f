/* Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011) and what is drawn from it.
 *
 * There is no generator with state. Every draw is a function of
 *     key     = the 64-bit seed (low word, high word)
 *     counter = { block, number low, number high, purpose << 24 | sub }
 * where `number` says which item the draw is for (the global sample number in training, the image seed when
 * sampling, the parameter index at initialisation), `sub` which of several draws for it (the sampler's step),
 * and `block` counts groups of four 32-bit results. So threads, batch split, device and resuming cannot change a draw.
 */
#ifndef LUN_PHILOX_H
#define LUN_PHILOX_H

#include <stdint.h>

typedef enum lun_purpose {
    LUN_RANDOM_INIT = 1,
    LUN_RANDOM_SHUFFLE = 2,
    LUN_RANDOM_AUGMENT = 3,
    LUN_RANDOM_TIMESTEP = 4,
    LUN_RANDOM_NOISE = 5,
    LUN_RANDOM_SAMPLER = 6,
    LUN_RANDOM_CRATERS = 7,
    LUN_RANDOM_TEST = 8,
    LUN_RANDOM_TUNE = 9,
    LUN_RANDOM_DROPOUT = 10,
    LUN_RANDOM_LABEL = 16,   /* which samples are told no class */
    LUN_RANDOM_HOLDOUT = 17, /* the noise that held-out pictures are measured with */
    LUN_RANDOM_MEASURE = 18  /* directions and places of the sliced Wasserstein distance */
} lun_purpose;

void lun_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

/* Results 4*block .. 4*block+3 of the stream (seed, purpose, number, sub); sub < 2^24. */
void lun_random_block(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t block,
                      uint32_t out[4]);
/* Result `index` alone. */
uint32_t lun_random_u32(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t index);
/* A draw x as a float in (0, 1): (2 * (x >> 9) + 1) * 2^-24, exact, never 0 or 1. */
static inline float lun_uniform_of(uint32_t x)
{
    return (float)(2 * (x >> 9) + 1) * 0x1p-24f;
}
/* Result `index` so. */
float lun_random_uniform(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t index);
/* Result `index` in 0..bound-1: the high word of x * bound. */
uint32_t lun_random_below(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t index,
                          uint32_t bound);

/* What the device ops `randint` and `randn` read, one row of LUN_RANDOM_ROW words per sample:
 * { key low, key high, number low, number high, purpose << 24 | sub, 0, 0, 0 }. */
#define LUN_RANDOM_ROW 8
void lun_random_row(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t row[LUN_RANDOM_ROW]);

/* Fill order[0..count-1] with the permutation of epoch `epoch` (Fisher-Yates). */
void lun_random_permutation(uint64_t seed, uint64_t epoch, uint32_t count, uint32_t *order);

#endif
