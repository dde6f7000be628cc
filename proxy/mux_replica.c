/* Shared connections to replicas: who reads from which, and when one that failed is tried again.
 *
 *   client ─► mux_replica_of() ─► core/reading chooses ─┬─► its connection, if it is open
 *                                                       └─► none: the master serves, meanwhile it is
 * connected */
#include "common/log.h"
#include "proxy/client.h"
#include "proxy/core/reading.h"
#include "proxy/mux_private.h"

void mux_replica_failed(struct mux *m)
{
    struct instance *i = m->instance;
    char text[TOPOLOGY_ADDRESS_MAX + 1];

    m->failures++;
    m->retry_us = mux_now_us(m) + reading_retry_us(m->failures);
    i->readers_changed++;
    if (m->failures == 1)
        log_info("event=replica.lost instance=%s member=%s say=\"others serve what was read there\"",
                 i->route.name, topology_address_format(&m->target, text));
}

void mux_replica_ready(struct mux *m)
{
    m->instance->readers_changed++;
    list_for_each(node, &m->instance->muxes) mux_touch_waiting(list_entry(node, struct mux, node));
}

bool mux_replica_may_connect(const struct mux *m)
{
    const struct instance *i = m->instance;

    return !m->refused && i->env.pause == SESSION_FLOWS && i->route.state == ROUTE_SERVING &&
           mux_now_us(m) >= m->retry_us && reading_is_listed(&i->route, &m->target);
}

/* Its last attempt, or its connection, failed, and it hasn't come back since. */
static bool mux_replica_is_avoided(const struct mux *m)
{
    return m->refused || (m->failures > 0 && !(m->current && m->current->ready));
}

struct mux *mux_replica_of(struct instance *i, const struct session *s, uint32_t number)
{
    uint32_t avoid = 0;
    int k;

    while ((k = reading_choose(&i->route, i->shard->zone, number, avoid)) >= 0) {
        struct mux *m = mux_find(i, s, &i->route.readers[k].address);
        if (m && !mux_replica_is_avoided(m))
            return m;
        if (m) /* it is tried again meanwhile */
            (void)mux_want(m);
        avoid |= 1U << k;
    }
    return NULL;
}

const struct topology_address *mux_target(const struct mux *m)
{
    return &m->target;
}

void mux_forget_replicas(struct instance *i)
{
    i->readers_changed++;
    list_for_each(node, &i->muxes)
    {
        struct mux *m = list_entry(node, struct mux, node);
        if (!mux_is_replica(m))
            continue;
        m->failures = 0;
        m->retry_us = 0;
        if (i->route.state != ROUTE_SERVING || reading_is_listed(&i->route, &m->target))
            continue;
        list_for_each(each, &m->conns) mux_close(list_entry(each, struct mux_conn, node), false);
        mux_free(m);
    }
}
