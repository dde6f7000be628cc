/* A connection to the member that is likely to be master next, open before it is needed: one an instance and
 * thread, made once the present master is connected. Nothing is sent on it. */
#ifndef MR_PROXY_STANDBY_H
#define MR_PROXY_STANDBY_H

#include "proxy/backend.h"

#include <ev.h>

struct instance;

struct standby {
    struct backend *backend; /* NULL: none */
    ev_timer timer;          /* the next attempt */
};

void standby_init(struct instance *i);
void standby_stop(struct instance *i);
/* The route changed, or its master is connected. */
void standby_look(struct instance *i);
/* The connection, if it leads to the present master and is open; its events go to the new owner from now on.
 * NULL: there is none. */
struct backend *standby_take(struct instance *i, backend_event_fn on_event, void *owner);

#endif
