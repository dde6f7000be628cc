/* One data-path thread: its own loop, its own listeners, clients and backends; nothing shared.
 *
 *   control thread (main loop)                         worker threads
 *   subscriber, routes ── worker_apply/worker_drop ──► listener ─ client ─ session ─ backend ──► Redis
 *                      ◄── on_broken, on_switched, … ──
 *
 * Calls come from the control thread and return at once; callbacks run on the control thread's loop. */
#ifndef MR_PROXY_WORKER_H
#define MR_PROXY_WORKER_H

#include "proxy/core/route.h"

struct histogram_sum;
struct limits;
struct loop;
struct ports;
struct worker;

/* Counters of one instance in one worker, or of all of them. */
struct worker_stats {
    uint64_t clients;                       /* connected now */
    uint64_t accepted;                      /* since the start */
    uint64_t requests;                      /* requests answered by a backend */
    uint64_t held;                          /* requests that waited for a route */
    uint64_t replayed;                      /* read-only requests sent again */
    uint64_t unknown;                       /* -MRUNKNOWN given */
    uint64_t batches;                       /* acknowledgements asked for, and answered (durability strict) */
    uint64_t shorts;                        /* -MRDURABILITY given */
    uint64_t rejected;                      /* -MRHOLD, -MRNOROUTE, -MRLIMIT given */
    uint64_t received_bytes, sent_bytes;    /* from and to clients, since the start */
    uint64_t batched_reads, batched_writes; /* of clients, that shared a system call with others */
    uint64_t masters;                       /* connections to a master now */
    uint64_t replicas;                      /* the same to replicas that clients read from */
    uint64_t replica_reads;                 /* of the requests: answered by a replica */
    uint64_t memory_bytes, held_bytes;      /* in buffers now; of that: waits for a master */
};

struct worker_config {
    struct loop *control; /* the control thread's loop */
    const char *bind;     /* IP literal that the listeners bind */
    const char *zone;     /* of this proxy; NULL or "": it has none; outlives the worker */
    struct ports
        *ports; /* the same for all workers of the process, outlives them; NULL: there is one worker */
    struct limits *limits; /* the same for all workers of the process; outlives them */
    bool waits;            /* schedule.h; false: it is scheduled as any other thread */
    bool may_move;         /* likewise; it is the only worker of the process */
    bool io_uring;         /* use it, if the kernel lets (batch.h) */
    int hold_ms;           /* longest wait for a route, unless the route says otherwise */
    int ack_ms;            /* longest wait for replicas' acknowledgements (durability strict) */
    /* A connection to the route's master broke or could not be made, or it answered -READONLY. The worker
     * makes no new connection for that instance until the next worker_apply() of it, at the same epoch or a
     * later one. Called once per doubt, not per client. */
    void (*on_broken)(void *ctx, const char *instance, uint64_t epoch, const struct topology_address *master);
    /* All of this worker's connections of the instance follow `epoch` now, and replies are held for that many
     * acknowledgements (route_acks()). took_us: since worker_apply(). */
    void (*on_switched)(void *ctx, const char *instance, uint64_t epoch, uint32_t acks, int64_t took_us);
    /* Nothing of the instance is in flight in this worker, and nothing is sent until the next worker_apply()
     * or the limit: once for each worker_pause() that counted, its number repeated. */
    void (*on_held)(void *ctx, const char *instance, uint64_t epoch, uint64_t number);
    /* The route's master is connected, but a reply has been due for half a second. At most once a second. */
    void (*on_silent)(void *ctx, const char *instance, uint64_t epoch, const struct topology_address *master);
    /* The port can't be listened on (err: errno). Retried with back-off by the worker. */
    void (*on_listen_failed)(void *ctx, const char *instance, uint16_t port, int err);
    void *ctx;
};

int worker_start(struct worker **out, const struct worker_config *config) MR_MUST_CHECK;
/* New, changed or confirmed route (copied). A route equal to the current one confirms it: a worker in doubt
 * may connect again. Opens the listener of a new instance. An older epoch or revision is ignored. */
void worker_apply(struct worker *w, const struct route *r);
/* A planned switchover of the instance is being prepared, if that is the epoch it serves from: nothing new is
 * sent to the master until the next worker_apply() of the instance, or for limit_ms (> 0) at most. number:
 * > 0, another one each time. */
void worker_pause(struct worker *w, const char *instance, uint64_t epoch, uint64_t number, uint32_t limit_ms);
/* The instance is gone: its listener closes, its clients get -MRNOROUTE for what is pending and are closed.
 */
void worker_drop(struct worker *w, const char *instance);
/* Stop accepting, finish what is in flight, close; on_done runs on the control loop when the last client is
 * gone or limit_ms have passed. */
void worker_drain(struct worker *w, int limit_ms, void (*on_done)(void *ctx), void *ctx);
/* Ends the thread (after a drain, or at once) and frees. */
void worker_stop(struct worker *w);
/* instance NULL: the sum over all. Safe from the control thread at any time (relaxed counters). */
void worker_read_stats(struct worker *w, const char *instance, struct worker_stats *out);
/* Adds to *out how long requests of that instance took: from their arrival to their reply. */
void worker_read_latency(struct worker *w, const char *instance, struct histogram_sum *out);
/* The same: how long replies were held until replicas had acknowledged. */
void worker_read_held_time(struct worker *w, const char *instance, struct histogram_sum *out);

#endif
