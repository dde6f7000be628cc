#include "controller/core/orders.h"

#include <assert.h>

static const struct {
    const char *name;
    enum failover_event_type answer;
} orders_kinds[ORDERS_KINDS] = {
    [ORDERS_SEAL] = {"seal", FAILOVER_ON_SEALED},
    [ORDERS_FENCE] = {"fence", FAILOVER_ON_FENCED},
    [ORDERS_PROMOTE] = {"promote", FAILOVER_ON_PROMOTED},
    [ORDERS_REPLICATE] = {"replicate", FAILOVER_ON_REPLICATING},
    [ORDERS_PAUSE] = {"pause", FAILOVER_ON_PAUSED},
    [ORDERS_DONATE] = {"donate", FAILOVER_ON_DONATING},
};

void orders_note(struct orders_count counts[ORDERS_KINDS], enum failover_event_type answer, int err,
                 int64_t took_us)
{
    assert(counts && took_us >= 0);
    for (int k = 0; k < ORDERS_KINDS; k++) {
        if (orders_kinds[k].answer != answer)
            continue;
        counts[k].failed += err != 0;
        counts[k].done += err == 0;
        counts[k].took_us += err == 0 ? took_us : 0;
        return;
    }
}

const char *orders_name(enum orders_kind kind)
{
    assert(kind < ORDERS_KINDS);
    return orders_kinds[kind].name;
}
