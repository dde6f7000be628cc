/* How long things took: a log-linear histogram of microseconds, of fixed size. Pure.
 *
 *   0 1 2 3 │ 4 5 6 7 │ 8 10 12 14 │ 16 20 24 28 │ … │ 2^29 … 2^30 │ more
 *   exact     each power of two in four: what is told is off by an eighth at most
 *
 * One thread adds, any thread may read at the same time: relaxed atomics, so what is read may be some
 * additions old, and its sum may fit its counts only nearly. */
#ifndef MR_PROXY_CORE_HISTOGRAM_H
#define MR_PROXY_CORE_HISTOGRAM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum {
    HISTOGRAM_OCTAVES = 30, /* below 2^30 us, some 18 minutes; the last bucket has what took longer */
    HISTOGRAM_BUCKETS = 4 * (HISTOGRAM_OCTAVES - 1) + 1,
};

/* All zeroes is an empty one; less than 1 KB. */
struct histogram {
    atomic_uint_least64_t counts[HISTOGRAM_BUCKETS], sum_us;
};

/* What was read: of one, or of several together. */
struct histogram_sum {
    uint64_t counts[HISTOGRAM_BUCKETS], sum_us;
};

/* Only ever by the same thread. */
void histogram_add(struct histogram *h, uint32_t took_us);

/* Adds what h holds to *out; h NULL: nothing. */
void histogram_read(const struct histogram *h, struct histogram_sum *out);
/* Nothing of `older` is missing in `h`. */
bool histogram_is_later(const struct histogram_sum *h, const struct histogram_sum *older);
/* What came between two readings of the same ones, the older taken away
 * (histogram_is_later()). */
void histogram_subtract(struct histogram_sum *from, const struct histogram_sum *older);
uint64_t histogram_total(const struct histogram_sum *h);
/* How many took less than 2^octave microseconds; octave is 2 to HISTOGRAM_OCTAVES. */
uint64_t histogram_below(const struct histogram_sum *h, unsigned octave);
/* The time within which that many of a thousand (1 to 1000) were done, in microseconds, interpolated within
 * its bucket; 0 when there are none. */
uint64_t histogram_quantile_us(const struct histogram_sum *h, unsigned per_mille);

#endif
