/* One instance in one worker thread: its listener, its clients, and when they may connect to the master.
 *
 *            ┌─ mux->waiting: requests that can share a connection ──(the same)──► mux_pump()
 *            ┌─ queue: wants a master ──(not held, no doubt, back-off over, ≤ N at once)──► client_connect()
 *   clients ─┤
 *            └─ timed: something ends if nothing happens (hold_ms, a connect, a drain): one timer for all
 *
 * A broken connection puts the master in doubt: nobody connects until the next instance_apply(). */
#ifndef MR_PROXY_INSTANCE_H
#define MR_PROXY_INSTANCE_H

#include "common/core/list.h"
#include "proxy/bulk.h"
#include "proxy/core/session.h"
#include "proxy/core/window.h"
#include "proxy/gather.h"
#include "proxy/silence.h"
#include "proxy/standby.h"
#include "proxy/switchover.h"

#include <ev.h>

struct acks;
struct limits;
struct limits_share;
struct loop;
struct instance;
struct listener;
struct ports;
struct schedule;

enum {
    SHARD_BUFFER = 80 * 1024, /* the one read buffer of a thread */
    /* Of requests in a turn, and then whoever is next: the server's answers to the first are passed on, and
     * what it is to be sent still is in the cache. */
    SHARD_TURN_BYTES = 256 * 1024,
    INSTANCE_CONNECTING_MAX = 64 /* at once: a server's listen backlog must not overflow */
};

/* Counters of an instance in one thread, read by the control thread. */
struct instance_counts {
    struct session_counts session;
    atomic_uint_least64_t clients, accepted;
    atomic_uint_least64_t received_bytes, sent_bytes;    /* from and to clients */
    atomic_uint_least64_t batched_reads, batched_writes; /* of clients: together with others (batch.h) */
    atomic_uint_least64_t masters;                       /* connections to a master now */
    atomic_uint_least64_t replicas;                      /* the same to replicas that clients read from */
    atomic_uint_least64_t memory_bytes, held_bytes;      /* in buffers now; of that: waits for a master */
};

/* What everything in one thread shares. */
struct shard {
    struct loop *loop;
    struct ev_loop *ev;
    char *buffer; /* SHARD_BUFFER bytes */
    struct bulk bulk;
    struct gather gather;
    struct schedule *schedule;
    const char *bind; /* IP literal */
    const char *zone; /* of this proxy; "": it has none */
    int hold_ms, ack_ms;
    struct ports *ports; /* other threads listen on the same ports; NULL: none do */
    struct limits *limits;
    struct session_clock clock; /* tally.h */
    int64_t stamped_us;         /* the turn in which clock.written_us was read */
    uint32_t n_clients, last_client_id;
    uint32_t n_arrived,
        n_arrived_own;     /* clients that were read in this turn; with connections of their own */
    uint32_t last_arrived; /* the last of them; 0: one that sends very many requests at once (spin.h) */
    size_t reply_bytes;    /* of servers, read in this turn */
    size_t turn_bytes;     /* of requests, read in this turn */
    struct list unread;    /* clients that have sent something, for which the turn had no room */
    bool draining;
    struct list dirty; /* clients to settle at the end of the turn */
    struct list flush; /* shared connections to write to, after that */
    struct list acks;  /* instances whose held replies are to be looked after, after that */
    void (*on_broken)(struct shard *shard, const struct route *route);
    void (*on_switched)(struct shard *shard, const struct route *route, int64_t took_us);
    void (*on_listen_failed)(struct shard *shard, const struct route *route, int err);
    void (*on_held)(struct shard *shard, const struct route *route, uint64_t number);
    void (*on_silent)(struct shard *shard, const struct route *route);
};

struct instance {
    struct list node; /* in the worker's table */
    struct shard *shard;
    struct route route;
    struct session_env env;
    struct instance_counts counts;
    struct listener *listener;
    struct acks *acks;          /* NULL: it has never been strict */
    struct limits_share *share; /* NULL: out of memory; then it has no limits */
    struct list clients, queue, timed, muxes;
    uint32_t n_muxes, n_replica_muxes;
    uint32_t
        readers_changed;  /* grows, from 1, whenever a client might read from another replica than before */
    struct window window; /* of those with connections to the master of their own; … */
    struct list window_queue; /* … who waits for a place there (client_window.c) */
    struct standby standby;
    ev_timer timer;
    uint32_t connecting;
    uint32_t failures;      /* in a row, of this route */
    int64_t retry_us;       /* no connection before; 0: now */
    uint64_t switched;      /* newest epoch that on_switched() was called for, … */
    uint32_t switched_acks; /* … and for how many acknowledgements replies were held then */
    int64_t told_us;        /* when a refusal was last logged; 0: never */
    bool doubt;
    bool planned; /* a switchover was prepared, and the epoch is past the one that it was to end */
    struct switchover switchover;
    struct silence silence;
};

/* Any thread; NULL when out of memory. Its counts may be read by that thread until the instance is freed. */
struct instance *instance_new(void);
void instance_open(struct instance *i, struct shard *shard, const struct route *route);
/* posted_us: when the control thread handed the route over. Older routes are ignored. */
void instance_apply(struct instance *i, const struct route *route, int64_t posted_us);
/* Requests that were kept back are sent again, as far as the route allows. */
void instance_resume(struct instance *i);
/* The instance is gone: pending requests are answered with -MRNOROUTE, its clients closed; frees. */
void instance_drop(struct instance *i);
void instance_drain(struct instance *i);
/* Closes the clients as they are. */
void instance_hang_up(struct instance *i);
/* The same, and frees. */
void instance_free(struct instance *i);

/* ---- for its clients --------------------------------------------------------------------------------------
 */
/* The connection to the master broke, or could not be made, or it isn't a master. */
void instance_doubt(struct instance *i);
/* The master answers as one. */
void instance_trust(struct instance *i);
/* Connections to the master may be made now. */
bool instance_may_connect(const struct instance *i);
/* Connects those that wait, as far as it is allowed now; looks after the timer. */
void instance_pump(struct instance *i);

/* Settles all that something happened to: at the end of a turn. */
void shard_settle(struct shard *shard);
uint32_t shard_now_ms(const struct shard *shard);

#endif
