#include "philox.h"

static uint32_t mul_hi(uint32_t a, uint32_t b)
{
    return (uint32_t)(((uint64_t)a * b) >> 32);
}

void lun_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
    uint32_t c0 = counter[0], c1 = counter[1], c2 = counter[2], c3 = counter[3];
    uint32_t k0 = key[0], k1 = key[1];
    for (int round = 0; round < 10; round++) {
        const uint32_t hi0 = mul_hi(0xD2511F53u, c0), lo0 = 0xD2511F53u * c0;
        const uint32_t hi1 = mul_hi(0xCD9E8D57u, c2), lo1 = 0xCD9E8D57u * c2;
        c0 = hi1 ^ c1 ^ k0;
        c1 = lo1;
        c2 = hi0 ^ c3 ^ k1;
        c3 = lo0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void lun_random_row(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t row[LUN_RANDOM_ROW])
{
    row[0] = (uint32_t)seed;
    row[1] = (uint32_t)(seed >> 32);
    row[2] = (uint32_t)number;
    row[3] = (uint32_t)(number >> 32);
    row[4] = (uint32_t)purpose << 24 | (sub & 0xffffffu);
    row[5] = row[6] = row[7] = 0;
}

void lun_random_block(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t block,
                      uint32_t out[4])
{
    uint32_t row[LUN_RANDOM_ROW];
    lun_random_row(seed, purpose, number, sub, row);
    const uint32_t counter[4] = {block, row[2], row[3], row[4]};
    lun_philox(counter, row, out);
}

uint32_t lun_random_u32(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t index)
{
    uint32_t out[4];
    lun_random_block(seed, purpose, number, sub, index / 4, out);
    return out[index % 4];
}

float lun_random_uniform(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t index)
{
    return lun_uniform_of(lun_random_u32(seed, purpose, number, sub, index));
}

uint32_t lun_random_below(uint64_t seed, lun_purpose purpose, uint64_t number, uint32_t sub, uint32_t index,
                          uint32_t bound)
{
    return mul_hi(lun_random_u32(seed, purpose, number, sub, index), bound);
}

void lun_random_permutation(uint64_t seed, uint64_t epoch, uint32_t count, uint32_t *order)
{
    for (uint32_t i = 0; i < count; i++)
        order[i] = i;
    for (uint32_t i = count; i > 1; i--) {
        const uint32_t j = lun_random_below(seed, LUN_RANDOM_SHUFFLE, epoch, 0, count - i, i);
        const uint32_t swap = order[i - 1];
        order[i - 1] = order[j];
        order[j] = swap;
    }
}
