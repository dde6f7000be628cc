#include "proxy/core/histogram.h"

#include <assert.h>
#include <stddef.h>

static_assert(sizeof(struct histogram) <= 1024, "one of them for each instance and thread");

static unsigned histogram_bucket(uint32_t us)
{
    if (us < 4)
        return us;
    unsigned octave = 31 - (unsigned)__builtin_clz(us);
    if (octave >= HISTOGRAM_OCTAVES)
        return HISTOGRAM_BUCKETS - 1;
    return 4 * (octave - 1) + ((us >> (octave - 2)) & 3);
}

/* The least value of that bucket. */
static uint64_t histogram_floor_us(unsigned bucket)
{
    if (bucket < 4)
        return bucket;
    return (uint64_t)(4 + bucket % 4) << (bucket / 4 - 1);
}

static void histogram_count(atomic_uint_least64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void histogram_add(struct histogram *h, uint32_t took_us)
{
    assert(h);
    histogram_count(&h->counts[histogram_bucket(took_us)], 1);
    histogram_count(&h->sum_us, took_us);
}

void histogram_read(const struct histogram *h, struct histogram_sum *out)
{
    assert(out);
    if (!h)
        return;
    for (size_t k = 0; k < HISTOGRAM_BUCKETS; k++)
        out->counts[k] += atomic_load_explicit(&h->counts[k], memory_order_relaxed);
    out->sum_us += atomic_load_explicit(&h->sum_us, memory_order_relaxed);
}

bool histogram_is_later(const struct histogram_sum *h, const struct histogram_sum *older)
{
    for (size_t k = 0; k < HISTOGRAM_BUCKETS; k++)
        if (h->counts[k] < older->counts[k])
            return false;
    return true;
}

void histogram_subtract(struct histogram_sum *from, const struct histogram_sum *older)
{
    for (size_t k = 0; k < HISTOGRAM_BUCKETS; k++) {
        assert(from->counts[k] >= older->counts[k]);
        from->counts[k] -= older->counts[k];
    }
    from->sum_us -= older->sum_us;
}

uint64_t histogram_total(const struct histogram_sum *h)
{
    uint64_t total = 0;

    for (size_t k = 0; k < HISTOGRAM_BUCKETS; k++)
        total += h->counts[k];
    return total;
}

uint64_t histogram_below(const struct histogram_sum *h, unsigned octave)
{
    uint64_t below = 0;

    assert(octave >= 2 && octave <= HISTOGRAM_OCTAVES);
    for (size_t k = 0; k < (size_t)4 * (octave - 1); k++)
        below += h->counts[k];
    return below;
}

uint64_t histogram_quantile_us(const struct histogram_sum *h, unsigned per_mille)
{
    uint64_t total = histogram_total(h), before = 0;
    unsigned k = 0;

    assert(per_mille >= 1 && per_mille <= 1000);
    if (total == 0)
        return 0;
    uint64_t rank = total / 1000 * per_mille + (total % 1000 * per_mille + 999) / 1000;
    for (; before + h->counts[k] < rank; k++)
        before += h->counts[k];
    if (k == HISTOGRAM_BUCKETS - 1)
        return histogram_floor_us(k);
    uint64_t width = histogram_floor_us(k + 1) - histogram_floor_us(k);
    /* As if they were spread evenly: the middle of its own share. */
    double share = ((double)(rank - before) - 0.5) / (double)h->counts[k];
    return histogram_floor_us(k) + (uint64_t)((double)width * share);
}
