/* What a new instance's record looks like. Pure. */
#ifndef MR_CONTROLLER_CORE_PLACEMENT_H
#define MR_CONTROLLER_CORE_PLACEMENT_H

#include "controller/core/info.h"

/* The record of an instance taken over from a running master: its connected replicas become members, its
 * present replication history is epoch 1. The port stays 0: the store claims it. ERR_REJECTED with a sentence
 * in why when that server can't be a master (it is a replica, still loading, has too many replicas, …). */
int placement_adopt(const char *name, const struct topology_address *master, const struct topology_auth *auth,
                    const struct info *info, struct topology_instance *out, char *why,
                    size_t why_size) MR_MUST_CHECK;

/* The first of low..high for which taken[port] is false; 0: all are taken. taken has 65536 entries. */
uint16_t placement_port(const bool *taken, uint16_t low, uint16_t high);

/* A replica on the master's own host shows up there as 127.0.0.1; everybody else reaches it at the master's
 * host. */
struct topology_address placement_seen_from_outside(const struct topology_address *master,
                                                    const struct topology_address *replica);

#endif
