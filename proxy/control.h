/* The proxy's control side: runs the route book's actions against ZooKeeper, nanomsg and the workers.
 *
 *   snapshot, directory (ZooKeeper) ─┐                  ┌─► workers (routes)
 *   subscriber (nanomsg) ────────────┼─► route book ────┼─► subscriber (hints, acks)
 *   workers (doubts, switches) ──────┘                  └─► snapshot (re-reads), cache file
 *
 * The only caller of route_book_step(). Everything runs on the main loop. */
#ifndef MR_PROXY_CONTROL_H
#define MR_PROXY_CONTROL_H

#include "common/nn_link.h"
#include "proxy/core/route_book.h"
#include "proxy/limits.h"
#include "proxy/worker.h"

struct control;
struct histogram_sum;

struct control_config {
    const char *zk, *id, *bind; /* borrowed for as long as it is open */
    const char *zone;           /* likewise; NULL or "": it has none */
    const char *cache_path;     /* NULL: none */
    struct nn_link_key key;
    int threads, hold_ms, ack_ms;
    bool waits, io_uring; /* worker.h */
    struct limits_config limits;
    int unreachable_ms; /* > 0 */
    /* ZooKeeper could not be reached within unreachable_ms of the start, and no route is known. */
    void (*on_unreachable)(void *ctx);
    void *ctx;
};

enum { CONTROL_SESSION_MS = 6000, CONTROL_THREADS_MAX = 64 };

/* Starts everything: the cached routes are served at once, the rest as it is heard. ERR_INVALID (the --zk
 * text), ERR_NOMEM, ERR_IO. */
int control_open(struct control **out, struct loop *loop, const struct control_config *config) MR_MUST_CHECK;
/* Stops accepting, finishes what is in flight; on_done once every worker is empty or limit_ms have passed. */
void control_drain(struct control *c, int limit_ms, void (*on_done)(void *ctx), void *ctx);
/* Ends the workers and frees all. */
void control_close(struct control *c);
/* Where its HTTP pages are, "host:port": said in /proxies/<id>. Before the loop runs. */
void control_set_http(struct control *c, const char *address);

/* For the status pages. */
const struct route_book *control_book(const struct control *c);
const struct control_config *control_configured(const struct control *c);
void control_read_stats(struct control *c, const char *instance, struct worker_stats *out);
void control_read_latency(struct control *c, const char *instance, struct histogram_sum *out);
/* The same: how long replies were held until replicas had acknowledged. */
void control_read_held_time(struct control *c, const char *instance, struct histogram_sum *out);
bool control_is_registered(const struct control *c); /* /proxies/<id> is ours */
size_t control_controllers(const struct control *c); /* subscribed to */
uint64_t control_garbled(const struct control *c);   /* messages ignored: signature, size, content */

#endif
