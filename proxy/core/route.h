/* Where an instance's requests go: the value that the control side hands to the worker threads. Pure. */
#ifndef MR_PROXY_CORE_ROUTE_H
#define MR_PROXY_CORE_ROUTE_H

#include "common/core/message.h"

enum route_state {
    ROUTE_SERVING, /* connect to master */
    ROUTE_HELD,    /* nobody may serve now: requests wait (a promotion is under way) */
};

struct route {
    char name[TOPOLOGY_NAME_MAX + 1];
    uint16_t port; /* to listen on */
    enum route_state state;
    uint64_t epoch;
    uint64_t revision;              /* mzxid of the instance znode it comes from; grows only */
    struct topology_address master; /* port 0 while HELD and nobody is known */
    uint32_t n_replicas;
    struct topology_address replicas[TOPOLOGY_MEMBERS_MAX];
    enum topology_durability durability;
    uint32_t acks;
    uint32_t hold_ms; /* 0: the proxy's --hold-ms */
    enum topology_reads reads;
    char fence_user[TOPOLOGY_FENCE_USER_MAX + 1];         /* who logs in as it, does as the epoch's; "" */
    uint32_t n_readers;                                   /* 0 while HELD */
    struct topology_reader readers[TOPOLOGY_MEMBERS_MAX]; /* replicas that clients may read from */
};

/* For how many replicas' acknowledgements replies of writes are held; 0: they are not (async). */
static inline uint32_t route_acks(const struct route *r)
{
    return r->durability == TOPOLOGY_STRICT ? r->acks : 0;
}

/* From the durable record; false when it isn't fit to serve from (then *out is unspecified). */
bool route_from_instance(const struct topology_instance *i, uint64_t revision, struct route *out);
/* From a ROUTE or HOLD message. A HOLD doesn't say who the replicas are and how requests are treated: that
 * is taken from `known` (NULL: nothing is known; may be *out). */
void route_from_message(const struct message *m, const struct route *known, struct route *out);
/* The ROUTE or HOLD message that says the same; term and seq are 0. */
void route_to_message(const struct route *r, struct message *out);

#endif
