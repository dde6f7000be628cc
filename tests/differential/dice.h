/* Seeded chance: the same seed, the same course. */
#ifndef MR_TESTS_DIFFERENTIAL_DICE_H
#define MR_TESTS_DIFFERENTIAL_DICE_H

#include <stdbool.h>
#include <stdint.h>

struct dice {
    uint64_t state;
};

static inline uint64_t dice_next(struct dice *d)
{
    uint64_t x = (d->state += 0x9E3779B97F4A7C15ULL);

    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
    return x ^ (x >> 31);
}

/* 0 … n-1 */
static inline unsigned dice_below(struct dice *d, unsigned n)
{
    return (unsigned)(dice_next(d) % n);
}

/* True once in n. */
static inline bool dice_once_in(struct dice *d, unsigned n)
{
    return dice_below(d, n) == 0;
}

#endif
