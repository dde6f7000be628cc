#include "proxy/core/route.h"

#include <assert.h>
#include <string.h>

bool route_from_instance(const struct topology_instance *i, uint64_t revision, struct route *out)
{
    char why[160];

    assert(i && out);
    if (topology_check(i, why, sizeof(why)) != 0)
        return false;
    memset(out, 0, sizeof(*out));
    memcpy(out->name, i->name, sizeof(out->name));
    out->port = i->port;
    out->epoch = i->epoch;
    out->revision = revision;
    out->durability = i->policy.durability;
    out->acks = i->policy.acks;
    out->hold_ms = i->policy.hold_ms;

    const struct topology_address *to = topology_route(i);
    out->state = to ? ROUTE_SERVING : ROUTE_HELD;
    if (to)
        out->master = *to;
    for (uint32_t m = 0; m < i->n_members; m++)
        if (!to || !topology_address_equal(&i->members[m].address, to))
            out->replicas[out->n_replicas++] = i->members[m].address;
    return true;
}
