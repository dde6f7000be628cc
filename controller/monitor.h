/* One persistent link to every member of every instance: what each says of itself, and orders to it.
 *
 *   redis_link ─up─► INFO server + INFO replication ─► on_info ─► every interval_ms: INFO replication
 *   a master: PING every 50 ms ─► no answer for MONITOR_MUTE_MS ─► on_mute ─► knocks ─► … ─► on_heard
 *
 * Polling is spread over slots of 10 ms (a burst of pings fakes time-outs), with one poll under way per
 * member at most; death is seen by the connection, not by polling. Nothing here is O(all members) per event.
 */
#ifndef MR_CONTROLLER_MONITOR_H
#define MR_CONTROLLER_MONITOR_H

#include "controller/core/fence.h"
#include "controller/core/health.h"

#include <stdbool.h>

struct loop;
struct monitor;
struct monitor_member;

/* `owner` is what monitor_watch() was given. None runs inside a call of this module. */
struct monitor_config {
    int interval_ms;        /* between polls of a member; 0: 1000 */
    int connect_timeout_ms; /* 0: 1000 */
    /* 0: 5000. Longer than any silence that shall be judged: a member at maxclients takes no other
     * connection in its place. */
    int reply_timeout_ms;
    int reconnect_min_ms, reconnect_max_ms; /* 0: 10, 1000 */
    const char *client_name;                /* CLIENT SETNAME on the members; copied; NULL: "mr-controller" */
    void (*on_link_up)(void *owner);
    /* Also for every failed attempt; err and text as in redis_link.h's on_down. */
    void (*on_link_down)(void *owner, int err, const char *text);
    /* Borrowed. Complete: run_id and version of the current connection's process are always in it. */
    void (*on_info)(void *owner, const struct info *info);
    /* These may be NULL.
     * Asked at since_us and nothing answered for MONITOR_MUTE_MS since; said once a silence. From then on
     * fresh connections are tried (knocks), each for MONITOR_KNOCK_MS at most, until it is heard. Also for a
     * member whose connection attempts pass their deadline. */
    void (*on_mute)(void *owner, int64_t since_us);
    /* It answered: after a silence, or otherwise than before (text: the error's words, "" when it is well).
     */
    void (*on_heard)(void *owner, enum health_said said, const char *text);
    void (*on_knock)(void *owner, enum health_knock how);
    /* CONFIG SET repl-ping-replica-period 1 was accepted, or not; then it is tried again now and then. */
    void (*on_pings)(void *owner, bool every_second);
};

enum {
    MONITOR_MUTE_MS = 150,         /* an answer that takes longer is worth a suspicion, nothing more */
    MONITOR_KNOCK_MS = 250,        /* a connection attempt's limit while knocking */
    MONITOR_PINGS_A_SECOND = 5000, /* over all eager members: that many masters share 50 ms … 500 ms */
};

/* ERR_NOMEM, ERR_INVALID. */
int monitor_open(struct monitor **out, struct loop *loop, const struct monitor_config *config) MR_MUST_CHECK;
void monitor_close(struct monitor *m); /* unwatches all; no callback after this */

/* label ("cart 10.0.0.3:6379": instance and address) is for log lines; copied, as are address and auth.
 * Changed credentials: unwatch and watch again. ERR_INVALID, ERR_NOMEM. */
int monitor_watch(struct monitor *m, const char *label, const struct topology_address *address,
                  const struct topology_auth *auth, void *owner, struct monitor_member **out) MR_MUST_CHECK;
/* No callback for it after this, those of orders under way included. Safe inside its callbacks. */
void monitor_unwatch(struct monitor_member *member);
bool monitor_is_up(const struct monitor_member *member);
/* An eager member (a master) is pinged every 50 ms while there are few of them (MONITOR_PINGS_A_SECOND),
 * staggered; others answer INFO every interval_ms. */
void monitor_set_eager(struct monitor_member *member, bool eager);

/* Up: INFO replication now (→ on_info), unless one is under way. Down: reconnect now. */
void monitor_probe(struct monitor_member *member);

/* How an order ended, exactly once, never inside the call.
 * err 0: done; info is the member's state right after it (borrowed; NULL for monitor_replicate).
 * ERR_CONNECTION: the link was down, nothing was sent. ERR_CLOSED, ERR_TIMEOUT, …: it broke, the outcome is
 * unknown. ERR_REPLY: the member refused; ERR_PROTOCOL: it answered nonsense. text: the member's or the
 * system's words, "" when err is 0; borrowed. */
typedef void (*monitor_done_fn)(void *ctx, int err, const struct info *info, const char *text);

/* MULTI; REPLICAOF 127.0.0.1 1; INFO replication; EXEC: detaches the member, info has its final offset. */
void monitor_seal(struct monitor_member *member, monitor_done_fn done, void *ctx);
/* MULTI; REPLICAOF NO ONE; INFO replication; EXEC. err 0 only when the member then says role:master. */
void monitor_promote(struct monitor_member *member, monitor_done_fn done, void *ctx);
/* CONFIG SET masteruser and masterauth when the instance has credentials (a refusal is logged and tolerated),
 * then REPLICAOF target. */
void monitor_replicate(struct monitor_member *member, const struct topology_address *target,
                       monitor_done_fn done, void *ctx);

/* The instance's min_replicas_to_write and min_replicas_max_lag, now and on each new connection; 0 where it
 * was 0 before leaves the server's own configuration alone. */
void monitor_set_min_replicas(struct monitor_member *member, uint32_t min_replicas, uint32_t max_lag_s);

/* CLIENT PAUSE limit_ms WRITE; INFO replication: from then on it takes no write; info is of after that. */
void monitor_pause(struct monitor_member *member, int64_t limit_ms, monitor_done_fn done, void *ctx);
void monitor_unpause(struct monitor_member *member); /* CLIENT UNPAUSE; nobody is told */
/* As monitor_promote(), with CLIENT PAUSE limit_ms WRITE in the same transaction: others may replicate from
 * it, nobody may write. */
void monitor_donate(struct monitor_member *member, int64_t limit_ms, monitor_done_fn done, void *ctx);

/* As monitor_done_fn; and those of fence_next(). open (err 0): the template may log in itself.
 */
typedef void (*monitor_fenced_fn)(void *ctx, int err, bool open, const char *text);
/* Makes its ACL what the fence wants (core/fence.h); order is copied. */
void monitor_fence(struct monitor_member *member, const struct fence_order *order, monitor_fenced_fn done,
                   void *ctx);

#endif
