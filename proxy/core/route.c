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
    out->reads = i->policy.reads;
    if (topology_is_fenced(i))
        memcpy(out->fence_user, i->policy.fence_user, sizeof(out->fence_user));
    out->n_readers = topology_readers(i, out->readers);

    const struct topology_address *to = topology_route(i);
    out->state = to ? ROUTE_SERVING : ROUTE_HELD;
    if (to)
        out->master = *to;
    for (uint32_t m = 0; m < i->n_members; m++)
        if (!to || !topology_address_equal(&i->members[m].address, to))
            out->replicas[out->n_replicas++] = i->members[m].address;
    return true;
}

void route_from_message(const struct message *m, const struct route *known, struct route *out)
{
    struct route r = {0};

    assert(m->type == MESSAGE_ROUTE || m->type == MESSAGE_HOLD);
    assert(m->n_replicas <= TOPOLOGY_MEMBERS_MAX && m->n_readers <= TOPOLOGY_MEMBERS_MAX);
    if (m->type == MESSAGE_HOLD && known) {
        r = *known;
        memset(&r.master, 0, sizeof(r.master));
        r.n_readers = 0;
    }
    memcpy(r.name, m->instance, sizeof(r.name));
    r.port = m->port;
    r.epoch = m->epoch;
    r.revision = m->revision;
    r.state = ROUTE_HELD;
    if (m->type == MESSAGE_ROUTE) {
        r.state = ROUTE_SERVING;
        r.master = m->master;
        r.n_replicas = m->n_replicas;
        memcpy(r.replicas, m->replicas, sizeof(r.replicas));
        r.durability = m->durability;
        r.acks = m->acks;
        r.hold_ms = m->hold_ms;
        r.reads = m->reads;
        r.n_readers = m->n_readers;
        memcpy(r.readers, m->readers, sizeof(r.readers));
        memcpy(r.fence_user, m->fence_user, sizeof(r.fence_user));
    }
    *out = r;
}

void route_to_message(const struct route *r, struct message *out)
{
    assert(r->n_replicas <= TOPOLOGY_MEMBERS_MAX);
    memset(out, 0, sizeof(*out));
    out->type = r->state == ROUTE_SERVING ? MESSAGE_ROUTE : MESSAGE_HOLD;
    memcpy(out->instance, r->name, sizeof(out->instance));
    out->port = r->port;
    out->epoch = r->epoch;
    out->revision = r->revision;
    out->master = r->master;
    out->n_replicas = r->n_replicas;
    memcpy(out->replicas, r->replicas, sizeof(out->replicas));
    out->durability = r->durability;
    out->acks = r->acks;
    out->hold_ms = r->hold_ms;
    out->reads = r->reads;
    out->n_readers = r->n_readers;
    memcpy(out->readers, r->readers, sizeof(out->readers));
    memcpy(out->fence_user, r->fence_user, sizeof(out->fence_user));
}
