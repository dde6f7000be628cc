/* A worker of the proxy in this process, in front of a real master and its replica; the test plays the
 * control side and the client. Everything blocks; what does not work is a failed assertion of the test. */
#ifndef MR_TESTS_LIB_PROXY_RIG_H
#define MR_TESTS_LIB_PROXY_RIG_H

#include "proxy/limits.h"
#include "proxy/ports.h"
#include "proxy/worker.h"
#include "tests/lib/redis_server.h"

struct redisContext;

enum { PROXY_RIG_ACK_MS = 400 };

struct proxy_rig {
    struct loop *loop; /* the control thread's: runs only inside of the waiting functions below */
    struct worker *worker, *second; /* second: NULL, but for proxy_rig_start_two() */
    struct limits *limits;
    struct ports *ports; /* of two workers */
    struct redis_server *master, *replica;
    struct route route; /* as last applied; instance "cart" */
    unsigned broken, listen_failed, silent;
    uint64_t broken_epoch, switched_epoch;
    uint32_t switched_acks;
    unsigned n_switched; /* workers that follow switched_epoch and hold for switched_acks */
    uint64_t pauses;     /* proxy_rig_pause()s so far: the number of the last */
    unsigned n_held;     /* workers that have answered it */
    bool drained;
};

/* Those that are started next use no io_uring. */
extern bool proxy_rig_plain;
/* hold_ms: as --hold-ms. The replica is in sync, the route leads to the master. */
void proxy_rig_start(struct proxy_rig *r, int hold_ms);
/* The same with two threads. */
void proxy_rig_start_two(struct proxy_rig *r, int hold_ms);
/* The same with one thread or two, and other limits. */
void proxy_rig_start_limited(struct proxy_rig *r, int hold_ms, int threads,
                             const struct limits_config *limits);
void proxy_rig_stop(struct proxy_rig *r);

/* Another epoch: master NULL means that nobody is known (held). A serving route is waited for. */
void proxy_rig_apply(struct proxy_rig *r, enum route_state state, const struct redis_server *master);
/* Another epoch of the same master, with that policy, and the replica as one that may be read from. The
 * workers' zone and the replica's are "here". */
void proxy_rig_let_read(struct proxy_rig *r, enum topology_reads reads);
/* Another epoch of the same master with durability strict (acks 0: async), once the replica is counted by
 * WAIT. Acknowledgements are waited for PROXY_RIG_ACK_MS. */
void proxy_rig_be_strict(struct proxy_rig *r, uint32_t acks);
/* proxy_rig_start(WAIT_MS), and strict with one acknowledgement. */
void proxy_rig_start_strict(struct proxy_rig *r);
/* The same route once more. */
void proxy_rig_confirm(struct proxy_rig *r);
/* The replica becomes master, and the route leads to it. */
void proxy_rig_promote(struct proxy_rig *r);
/* A planned switchover begins: the workers are told; and waited for, until nothing is in flight. */
void proxy_rig_pause(struct proxy_rig *r, uint32_t limit_ms);
void proxy_rig_wait_held(struct proxy_rig *r);
/* What a controller does then: pauses the master's writes, waits for the replica to be in step, and exchanges
 * their roles. The route isn't changed. */
void proxy_rig_exchange(struct proxy_rig *r);
void proxy_rig_wait_silent(struct proxy_rig *r, unsigned count);
void proxy_rig_wait_broken(struct proxy_rig *r, unsigned count);
void proxy_rig_wait_drained(struct proxy_rig *r);
struct worker_stats proxy_rig_stats(struct proxy_rig *r);
/* Until the proxy has read so many bytes from clients, since its start. */
void proxy_rig_wait_received(struct proxy_rig *r, uint64_t bytes);

/* Through the proxy. */
struct redisContext *proxy_rig_connect(const struct proxy_rig *r);
/* One command's reply as text, valid until the next call: "closed" when the connection is, "nil", "array". */
const char *proxy_rig_ask(struct redisContext *c, const char *fmt, ...);
/* Sends without waiting for the reply; proxy_rig_reply() takes the next one. Returns how many bytes. */
size_t proxy_rig_send(struct redisContext *c, const char *fmt, ...);
const char *proxy_rig_reply(struct redisContext *c);
/* That a reply begins so. */
void proxy_rig_assert_begins(const char *text, const char *begin);

/* Bytes without a client library. */
int proxy_rig_dial(const struct proxy_rig *r);
/* How much the kernel keeps for who doesn't read. Two of loopback's segments (64 KB) or more: a window of
 * less is opened by the sender's persist timer only, which takes 0.2 s a time, and minutes when it was shut
 * long. */
void proxy_rig_receive_buffer(int fd, int bytes);
void proxy_rig_write(int fd, const char *data, size_t len);
/* Reads until `len` bytes have come or the end; returns how many. */
size_t proxy_rig_read(int fd, char *data, size_t len);

#endif
