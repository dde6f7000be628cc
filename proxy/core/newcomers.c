#include "proxy/core/newcomers.h"

#include <assert.h>

bool newcomers_come(struct newcomers *n, uint64_t requests, uint64_t large, uint32_t since_ms)
{
    assert(requests >= n->requests && large >= n->large);
    uint64_t all = requests - n->requests, of_them = large - n->large;

    if (all >= NEWCOMERS_REQUESTS)
        *n = (struct newcomers){
            .requests = requests, .large = large, .guess = of_them >= all / NEWCOMERS_LARGE_PART};
    return n->guess && since_ms <= NEWCOMERS_FRESH_MS;
}
