/* What the files of the shared connections (mux*.c) know of each other; nobody else includes this.
 *
 *   mux.c: keys, requests, replies, connecting      mux_ends.c: time, routes, ends, the turn's end
 *   mux_replica.c: those that lead to replicas      mux_echo.c: large bodies beside them
 *   mux_replies.c: what many clients get at once */
#ifndef MR_PROXY_MUX_PRIVATE_H
#define MR_PROXY_MUX_PRIVATE_H

#include "common/core/list.h"
#include "proxy/core/shared.h"
#include "proxy/instance.h"
#include "proxy/mux.h"
#include "proxy/tally.h"

#define MUX_CONNECT_TIMEOUT_US ((int64_t)1000000)
/* For the replies behind a refused request, or for a client to read its own. */
#define MUX_RETIRED_US ((int64_t)SESSION_DRAIN_MS * 1000)

struct mux {
    struct list node; /* of instance->muxes */
    struct instance *instance;
    struct mux_conn *current; /* that takes requests, or will; NULL: none */
    struct mux_conn *crowded; /* takes none: it has much to swallow; NULL: none */
    struct list conns;        /* all of them */
    struct list waiting;      /* clients, by `queue` */
    struct buf key;           /* what its connections are told first */
    uint32_t key_replies;
    struct topology_address target; /* a replica that clients read from; port 0: whoever is master */
    /* Of a replica: */
    uint32_t failures; /* in a row */
    int64_t retry_us;  /* no connection before; 0: now */
    bool refused;
    int64_t busy_us; /* refused only because of a script that runs, since; 0: not */
    bool wanted;     /* it had a connection: so the next master is connected without being asked */
};

struct mux_conn {
    struct list node, dirty;
    struct mux *mux;
    struct backend *backend;
    struct shared shared;
    struct tally tally;
    struct list echoes;  /* clients that wait for `echo`, by `queue` */
    uint64_t echo;       /* of shared_echo(); 0: none was asked for */
    struct client *slow; /* doesn't read its large reply: the connection isn't read either */
    uint64_t epoch;
    int64_t heard_us;   /* or since when a reply is due */
    int64_t retired_us; /* 0: it isn't */
    int64_t slow_us;
    bool ready;   /* has been told its key */
    bool blocked; /* the socket is full */
};

/* What was read from a connection goes to many clients; on the stack of mux_feed(). */
struct mux_replies {
    struct mux_conn *conn;
    const char *from; /* what was read: it stays until all is written */
    size_t len;
    int n;
    struct client *clients[BATCH_MAX];
    struct batch_item items[BATCH_MAX];
};

static inline bool mux_is_replica(const struct mux *m)
{
    return topology_address_is_set(&m->target);
}
int64_t mux_now_us(const struct mux *m);
uint32_t mux_now_ms(const struct mux *m);
void mux_touch_waiting(struct mux *m);
/* The one with that key and target; made when there is none, as long as their number allows. */
struct mux *mux_find(struct instance *i, const struct session *s, const struct topology_address *target);
void mux_retire(struct mux_conn *conn);
/* Its requests go back to their sessions. unsent: nothing that is pending was executed. */
void mux_close(struct mux_conn *conn, bool unsent);
/* The same, of a connection that broke. */
void mux_lose(struct mux_conn *conn, const char *what, bool unsent);
/* It has no connection, and nobody waits for one. */
void mux_free(struct mux *m);
/* Requests were taken: before that, `n` were in flight. */
void mux_taken(struct mux_conn *conn, uint64_t n);
/* What is unsent, as far as the server takes it. */
void mux_write(struct mux_conn *conn);
/* What was asked for by mux_echo() is answered, or never will be: its clients go on. */
void mux_echo_end(struct mux_conn *conn);
/* False: the connection is gone. */
bool mux_feed(struct mux_conn *conn, const char *data, size_t len);
/* The client was given a reply, or the `part` of one. */
void mux_passed(struct mux_conn *conn, struct client *c, bool part);

/* ---- mux_replies.c ---- */
/* The step's bytes are for that client. False: pass them yourself, what it was given before is written. */
bool mux_replies_add(struct mux_replies *r, struct client *c, const struct shared_step *step);
void mux_replies_write(struct mux_replies *r);

/* ---- mux_replica.c ---- */
/* It can't be used, or not any more: it is left alone for a while. */
void mux_replica_failed(struct mux *m);
/* It can be used from now on: clients that wait for the master, too, may read from it. */
void mux_replica_ready(struct mux *m);
/* A connection to it may be made now. */
bool mux_replica_may_connect(const struct mux *m);

#endif
