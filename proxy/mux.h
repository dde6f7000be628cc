/* The connections that clients of one instance in one thread share (core/shared.h decides; this moves bytes).
 *
 *   client ─► mux_take() ─┐                                 ┌─► mux_on_reply() ─► client_pass()
 *   client ─► mux_take() ─┼─► core/shared ─(end of turn)─► master
 *   session ─► mux_share() ┘
 *
 * One mux for each user, database, protocol version and target (the master, or a replica that clients read
 * from), with one connection that takes requests. A connection that was found to be no master's, or whose
 * next reply nobody reads, is retired: it takes no more, and is closed once it is empty. */
#ifndef MR_PROXY_MUX_H
#define MR_PROXY_MUX_H

#include "common/core/list.h"
#include "proxy/core/shared.h"

#include <stdint.h>
#include <sys/types.h>

struct client;
struct instance;
struct mux;
struct shard;

enum {
    MUX_KEYS_MAX = 16,     /* of one instance and thread: clients of others have connections of their own */
    MUX_REPLICAS_MAX = 64, /* that lead to replicas, likewise: clients of others read from the master */
};

/* The one that serves such a client; NULL: none can. It lives as long as the instance. */
struct mux *mux_of(struct instance *i, const struct session *s);
/* The same for what such a client reads from a replica, as the route has it: the client with that number
 * reads from there now. NULL: it reads from the master. Valid until instance->readers_changed changes. */
struct mux *mux_replica_of(struct instance *i, const struct session *s, uint32_t number);
/* The replica that it leads to. */
const struct topology_address *mux_target(const struct mux *m);
/* Its master doesn't take what such connections have to be told: each client is to find out by itself. */
bool mux_is_refused(const struct mux *m);
/* Requests can be taken now. */
bool mux_is_open(const struct mux *m);
/* It could be of use: connected soon, if it isn't. True: that is new. */
bool mux_want(struct mux *m);
/* Takes what it can of the bytes that the client sent; returns how many. */
size_t mux_take(struct mux *m, struct client *c, const char *data, size_t len);
/* Takes what it can of the requests that wait in the client's session; false: none. */
bool mux_share(struct mux *m, struct client *c);
/* A part of the client's large body went to the master over a connection of its own: the client waits, by
 * `queue` and `strides`, until the master has answered somebody who asked after that. So the master reads no
 * more at once than that part, and those who share a connection have their turn. False: nobody shares one. */
bool mux_echo(struct instance *i, struct client *c);
/* Where clients wait for mux_is_open(). */
struct list *mux_waiting(struct mux *m);
/* Another client comes: it is not to wait behind what was asked for inline (durable.h). */
void mux_make_way(struct instance *i);
/* The client is closed; or it has taken replies. */
void mux_leave(struct client *c);
void mux_drained(struct client *c);

/* ---- for its instance -----------------------------------------------------------------------------------
 */
/* Somebody waits for a connection, or one has to be looked after: instance_pump() is to be called again. */
bool mux_needs_time(const struct instance *i);
/* Connects where somebody waits, and it is allowed. */
void mux_pump(struct instance *i);
void mux_tick(struct instance *i, int64_t now_us);
/* The route leads elsewhere: what is in flight goes back to the sessions. read_out: what the old master has
 * sent already counts. */
void mux_switch(struct instance *i, bool read_out);
/* The master may be another one, or is to be tried again. */
void mux_forgive(struct instance *i);
/* There is a new route: replicas that it doesn't name aren't read from any more, the others are tried again.
 */
void mux_forget_replicas(struct instance *i);
/* Everything goes back to the sessions, all connections are closed. */
void mux_close_all(struct instance *i);
/* The instance has no clients any more. */
void mux_free_all(struct instance *i);
uint64_t mux_in_flight(const struct instance *i);
/* Since when, if at all, a reply has been due without a sign of life; 0: none is. */
int64_t mux_silent_since_us(const struct instance *i);
/* Writes what was taken: at the end of a turn. */
void mux_settle(struct shard *shard);

#endif
