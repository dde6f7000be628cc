/* A client's socket, its session and its backend, shared or (while it needs one) its own: moves bytes.
 *
 * Nothing is written when something happens, but once at the end of the loop's turn: client_settle(). */
#ifndef MR_PROXY_CLIENT_H
#define MR_PROXY_CLIENT_H

#include "common/core/list.h"
#include "proxy/core/session.h"
#include "proxy/core/shared.h"
#include "proxy/core/window.h"
#include "proxy/tally.h"

#include <ev.h>

struct backend;
struct instance;
struct shard;

struct client {
    ev_io io;
    struct instance *instance;
    struct backend *backend;  /* its own; NULL: none */
    struct mux *mux;          /* that it shares; NULL: not looked for yet */
    struct mux *reads;        /* the same for what it reads from a replica, … */
    uint32_t readers_seen;    /* … valid while this is instance->readers_changed */
    struct mux_conn *slow_on; /* whose large reply it doesn't read; NULL: none */
    struct shared_user user;
    struct list node; /* of instance->clients */
    struct list dirty, queue, timed, awaiting;
    struct list unread;      /* of shard->unread */
    struct list in_queue;    /* of instance->window_queue */
    struct window_seat seat; /* client_window.c */
    struct tally tally;
    struct list *queued; /* the list that `queue` is in, if it is in one */
    int64_t heard_us;    /* silence.h: from its backend, or since when a reply is due */
    uint32_t id;
    bool blocked;    /* the backend's socket is full */
    bool broken;     /* its own socket is */
    bool strides;    /* a part of its large body went to its own backend: the next waits in mux_echo() */
    bool sends_much; /* more at once than gather.h has room for */
    bool gathered;   /* what it gets is written with that of others (mux_replies.c) */
    bool stays;      /* with a connection of its own: no shared one can serve it */
    bool in_flight;  /* switchover.h */
    bool at_replica; /* its own backend leads to a replica */
    bool
        shuns_replicas; /* one failed it: as long as it has connections of its own, they lead to the master */
    struct session session;
};

/* Takes the descriptor. ERR_NOMEM (then it is closed). */
int client_open(struct instance *instance, int fd) MR_MUST_CHECK;
void client_close(struct client *c, const char *reason);
/* Connects to instance->route.master, or, when it only reads, to a replica. False: that failed at once. */
bool client_connect(struct client *c);
/* The route leads elsewhere: in-flight requests are resolved, the connection is reset. */
void client_detach(struct client *c);
/* Before that, and only when the master was left in order: takes what it has sent already. */
void client_read_out(struct client *c);
/* At a turn's end: of those for whom it had no room, as many as it has. */
void client_read_unread(struct shard *shard);
/* The proxy ends: what the client has sent until now is the last that is served. */
void client_drain(struct client *c);
/* Its deadline may have passed. */
void client_tick(struct client *c, int64_t now_us);
/* A shared connection brought bytes for it: written at once, as far as they can be. */
void client_pass(struct client *c, const char *data, size_t len);
/* They were: `wrote` as of net_write(). What wasn't taken waits. */
void client_passed(struct client *c, const char *data, size_t len, ssize_t wrote);
/* Something happened to it: settled at the end of the turn. */
void client_touch(struct client *c);
/* Writes, connects, closes, as the session wants; may free c. */
void client_settle(struct client *c);

#endif
