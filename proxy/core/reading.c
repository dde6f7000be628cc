#include "proxy/core/reading.h"

#include <assert.h>
#include <string.h>

/* Those that can be had: bit k of the result is r->readers[k]. */
static uint32_t reading_candidates(const struct route *r, const char *zone, uint32_t avoid)
{
    uint32_t all = 0, near = 0;

    for (uint32_t k = 0; k < r->n_readers; k++) {
        if ((avoid & (1U << k)) || topology_address_equal(&r->readers[k].address, &r->master))
            continue;
        all |= 1U << k;
        if (zone[0] != '\0' && strcmp(zone, r->readers[k].zone) == 0)
            near |= 1U << k;
    }
    return r->reads == TOPOLOGY_READS_NEAREST && near != 0 ? near : all;
}

/* How many bits are set; the compiler's own would need its library. */
static uint32_t reading_count(uint32_t set)
{
    uint32_t n = 0;

    for (; set != 0; set &= set - 1)
        n++;
    return n;
}

int reading_choose(const struct route *r, const char *zone, uint32_t number, uint32_t avoid)
{
    assert(r && zone && r->n_readers <= TOPOLOGY_MEMBERS_MAX);
    uint32_t candidates = r->state == ROUTE_SERVING ? reading_candidates(r, zone, avoid) : 0;

    if (candidates == 0)
        return -1;
    uint32_t skip = number % reading_count(candidates);
    for (; skip > 0; skip--)
        candidates &= candidates - 1;
    return __builtin_ctz(candidates);
}

bool reading_is_listed(const struct route *r, const struct topology_address *a)
{
    assert(r && a);
    for (uint32_t k = 0; k < r->n_readers; k++)
        if (topology_address_equal(&r->readers[k].address, a) && !topology_address_equal(&r->master, a))
            return true;
    return false;
}

int64_t reading_retry_us(uint32_t failures)
{
    assert(failures > 0);
    int64_t us = failures < 10 ? READING_RETRY_MIN_US << (failures - 1) : READING_RETRY_MAX_US;

    return us < READING_RETRY_MAX_US ? us : READING_RETRY_MAX_US;
}
