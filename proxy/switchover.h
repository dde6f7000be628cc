/* A planned switchover as one instance in one thread sees it: nothing new is sent to the present master, and
 * it is told when nothing is in flight any more.
 *
 *   switchover_begin() ─► FINISHING ──(half the limit)──► STILL ──(the limit: no news)──► goes on by itself
 *                             └──────────┬─────────────────┘
 *                        nothing in flight: on_held()          instance_apply(): switchover_end()
 *
 * In the first half a transaction that was begun may end (core/session.h). Connections stay open. */
#ifndef MR_PROXY_SWITCHOVER_H
#define MR_PROXY_SWITCHOVER_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct client;
struct instance;

struct switchover {
    uint64_t number; /* of the order that was heard last; 0: none is under way */
    int64_t still_us, until_us;
    uint32_t in_flight; /* clients that have something in flight */
    bool told;          /* on_held() was called with this number */
    ev_timer timer;
};

void switchover_init(struct instance *i);
/* Ignored unless the instance serves from that epoch. Repeated with another number: on_held() is called
 * again, and the limit begins anew, but not the first half. posted_us: when the control thread gave the
 * order. */
void switchover_begin(struct instance *i, uint64_t epoch, uint64_t number, uint32_t limit_ms,
                      int64_t posted_us);
/* Requests may be sent again (the sessions aren't told). True when one was under way and on_held() called. */
bool switchover_end(struct instance *i);
/* Something may have changed for the client; it is closed. */
void switchover_look(struct client *c);
void switchover_forget(struct client *c);
/* A connection that clients share may have nothing in flight any more. */
void switchover_check(struct instance *i);

#endif
