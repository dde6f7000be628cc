/* An asynchronous ZooKeeper session on a libev loop.
 *
 * libzookeeper-mt calls back on its own thread; this module copies the data and hands it to the loop's
 * thread, so that every callback below runs there, in order. After an expiry it opens a new handle by
 * itself (same callbacks); ephemerals and watches are gone then and are the owner's to make again.
 * A lost connection or expired session ends the calls under way with ERR_CONNECTION (the outcome is
 * unknown) or ERR_SESSION. Nothing here blocks the loop (zookeeper_close runs on a thread of its own).
 * Sources: ZooKeeper C binding docs; the design's pitfalls.md. */
#ifndef MR_COMMON_ZK_SESSION_H
#define MR_COMMON_ZK_SESSION_H

#include "common/core/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loop;
struct zk_session;

enum zk_session_state {
    ZK_CONNECTING, /* never connected yet, or the first connect of a new handle */
    ZK_CONNECTED,
    ZK_SUSPENDED, /* connection lost (the library says so at 2/3 of the timeout): leaders stop acting */
    ZK_EXPIRED,   /* the session is over; a new handle is being opened, CONNECTED follows */
};

struct zk_session_config {
    const char *hosts; /* "h1:2181,h2:2181/chroot"; without a chroot "/mr-redis" is used. Copied */
    int timeout_ms;    /* session timeout asked for */
    /* fresh: a new session (first connect, or after an expiry), not a reconnect of the same one. */
    void (*on_state)(void *ctx, enum zk_session_state state, bool fresh);
    void *ctx;
};

/* What a znode's Stat says; czxid of an election node is the leader's term, mzxid a revision. */
struct zk_stat {
    int64_t czxid, mzxid, pzxid;
    int32_t version;
    int32_t n_children;
    int64_t ephemeral_owner;
};

/* One-shot watch: fired once when the znode or its children change, or never if the session expires first.
 * Session events are not delivered here. */
typedef void (*zk_watch_fn)(void *ctx, const char *path);

/* Results; err is 0, ERR_NOT_FOUND, ERR_EXISTS, ERR_BAD_VERSION, ERR_NOT_EMPTY, ERR_AUTH, ERR_CONNECTION,
 * ERR_SESSION, … Data and names are borrowed for the call; data isn't NUL-terminated by contract but a NUL
 * always follows it. */
typedef void (*zk_done_fn)(void *ctx, int err);
typedef void (*zk_stat_fn)(void *ctx, int err, const struct zk_stat *stat);
typedef void (*zk_path_fn)(void *ctx, int err, const char *path);
typedef void (*zk_data_fn)(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat);
typedef void (*zk_children_fn)(void *ctx, int err, const char *const *names, size_t n,
                               const struct zk_stat *stat);

enum zk_op_kind { ZK_OP_CHECK, ZK_OP_SET, ZK_OP_CREATE, ZK_OP_DELETE };
enum { ZK_EPHEMERAL = 1, ZK_SEQUENTIAL = 2 };
struct zk_op {
    enum zk_op_kind kind;
    const char *path;
    const char *data; /* SET, CREATE */
    size_t len;
    int32_t version; /* CHECK, SET, DELETE; -1: any */
    int flags;       /* CREATE: ZK_EPHEMERAL | ZK_SEQUENTIAL */
};
/* failed: index of the op that made the multi fail, or -1; err is that op's. stats[i] is filled for SET ops,
 * paths[i] (created name) for CREATE ops. */
struct zk_multi_result {
    size_t n;
    int failed;
    const struct zk_stat *stats;
    const char *const *paths;
};
typedef void (*zk_multi_fn)(void *ctx, int err, const struct zk_multi_result *result);

/* Starts connecting; keeps trying for ever. Makes the chroot and its standing folders
 * (/election /controllers /instances /ports /proxies /history) on the first connect, before CONNECTED is
 * reported. ERR_INVALID when the host list does not parse. */
int zk_session_open(struct zk_session **out, struct loop *loop,
                    const struct zk_session_config *config) MR_MUST_CHECK;
/* No callback runs after this returns. The session is closed cleanly (ephemerals go at once) on a helper
 * thread; waits for it at most wait_ms. */
void zk_session_close(struct zk_session *zk, int wait_ms);

enum zk_session_state zk_session_state(const struct zk_session *zk);
int64_t zk_session_id(const struct zk_session *zk);
/* The timeout that the server granted, ms; the configured one before the first connect. */
int zk_session_timeout_ms(const struct zk_session *zk);
const char *zk_session_hosts(const struct zk_session *zk); /* as configured, for messages */

/* Each returns 0 and calls back exactly once later, or returns a code and never calls back
 * (ERR_CONNECTION while not connected, ERR_NOMEM, ERR_INVALID). watch may be NULL; it gets the same ctx. */
int zk_get(struct zk_session *zk, const char *path, zk_watch_fn watch, zk_data_fn done,
           void *ctx) MR_MUST_CHECK;
int zk_exists(struct zk_session *zk, const char *path, zk_watch_fn watch, zk_stat_fn done,
              void *ctx) MR_MUST_CHECK;
int zk_children(struct zk_session *zk, const char *path, zk_watch_fn watch, zk_children_fn done,
                void *ctx) MR_MUST_CHECK;
int zk_create(struct zk_session *zk, const char *path, const char *data, size_t len, int flags,
              zk_path_fn done, void *ctx) MR_MUST_CHECK;
int zk_set(struct zk_session *zk, const char *path, const char *data, size_t len, int32_t version,
           zk_stat_fn done, void *ctx) MR_MUST_CHECK;
int zk_delete(struct zk_session *zk, const char *path, int32_t version, zk_done_fn done,
              void *ctx) MR_MUST_CHECK;
int zk_multi(struct zk_session *zk, const struct zk_op *ops, size_t n, zk_multi_fn done,
             void *ctx) MR_MUST_CHECK;
/* Flushes the leader's log to the server we are connected to, so that later reads are not stale. */
int zk_sync(struct zk_session *zk, zk_done_fn done, void *ctx) MR_MUST_CHECK;

#endif
