/* Takes over a running master: look at it once, then create the instance.
 *
 *   adopt_start ─► connect, log in ─► INFO ─► placement_adopt (decides) ─► zk_store_create ─► done
 */
#ifndef MR_CONTROLLER_ADOPT_H
#define MR_CONTROLLER_ADOPT_H

#include "common/core/topology.h"

struct adopter;
struct loop;
struct zk_store;

struct adopt_request {
    char name[TOPOLOGY_NAME_MAX + 1];
    struct topology_address master;
    struct topology_auth auth;
};

/* err 0: port is the instance's. Otherwise ERR_REFUSED, ERR_AUTH, ERR_PROTOCOL, ERR_TIMEOUT, … (the server),
 * ERR_REJECTED (it can't be a master), ERR_EXISTS, ERR_EXHAUSTED, ERR_DEPOSED, ERR_CONNECTION (the store);
 * message says it for people and what to do; borrowed. */
typedef void (*adopt_done_fn)(void *ctx, int err, const char *message, uint16_t port);

/* port_low, port_high: the range that the store claims from, for messages. */
int adopter_open(struct adopter **out, struct loop *loop, struct zk_store *store, uint16_t port_low,
                 uint16_t port_high) MR_MUST_CHECK;
void adopter_close(struct adopter *a); /* those under way end without a callback */
/* Calls back exactly once, later, within a few seconds. ERR_NOMEM. */
int adopt_start(struct adopter *a, const struct adopt_request *request, adopt_done_fn done,
                void *ctx) MR_MUST_CHECK;

#endif
