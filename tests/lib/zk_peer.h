/* One ZooKeeper session under test on a loop of its own, and the answers to its calls; for tests of
 * zk_session.
 *
 * Failures fail the running cmocka test. The on_ functions are callbacks whose ctx is the peer or the answer.
 */
#ifndef MR_TESTS_LIB_ZK_PEER_H
#define MR_TESTS_LIB_ZK_PEER_H

#include "common/loop.h"
#include "common/zk_session.h"
#include "tests/lib/wait.h"
#include "tests/lib/zk_server.h"

enum { ZK_PEER_TIMEOUT_MS = 1000, ZK_PEER_PATIENCE_MS = 20000 };

/* A session and all that was heard from it. */
struct zk_peer {
    struct loop *loop;
    struct zk_session *zk;
    char states[64]; /* one letter each: c connected, C connected and fresh, s suspended, e expired */
    enum zk_session_state awaited;
    bool close_on_expired;
};

/* One call's answer. */
struct zk_answer {
    struct loop *loop;
    int calls;
    int err;
    char text[256]; /* data, created path, or the children joined by blanks */
    struct zk_stat stat;
    int failed;
    struct zk_stat op_stats[8];
    char op_paths[8][64];
    int fired; /* watches */
    char fired_path[64];
};

extern struct zk_server *zk_peer_server; /* of the program's tests */

void zk_peer_on_state(void *ctx, enum zk_session_state state, bool fresh);
bool zk_peer_is_in_state(void *ctx);
bool zk_peer_is_closed(void *ctx);
bool zk_peer_is_answered(void *ctx);
bool zk_peer_has_fired(void *ctx);
void zk_peer_await_state(struct zk_peer *p, enum zk_session_state state);
void zk_peer_open_at(struct zk_peer *p, struct loop *loop, const char *hosts);
void zk_peer_open_fresh(struct zk_peer *p, struct loop *loop, const char *chroot);
void zk_peer_end(struct zk_peer *p);
void zk_peer_on_done(void *ctx, int err);
void zk_peer_on_stat(void *ctx, int err, const struct zk_stat *stat);
void zk_peer_on_path(void *ctx, int err, const char *path);
void zk_peer_on_data(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat);
int zk_peer_compare_names(const void *x, const void *y);
void zk_peer_on_children(void *ctx, int err, const char *const *names, size_t n, const struct zk_stat *stat);
void zk_peer_on_multi(void *ctx, int err, const struct zk_multi_result *result);
void zk_peer_on_watch(void *ctx, const char *path);
int zk_peer_await(struct zk_peer *p, struct zk_answer *a);
int zk_peer_do_create(struct zk_peer *p, const char *path, const char *data, int flags, struct zk_answer *a);
int zk_peer_do_get(struct zk_peer *p, const char *path, struct zk_answer *a);
int zk_peer_do_set(struct zk_peer *p, const char *path, const char *data, int32_t version,
                   struct zk_answer *a);
int zk_peer_do_delete(struct zk_peer *p, const char *path, int32_t version);
int zk_peer_do_multi(struct zk_peer *p, const struct zk_op *ops, size_t n, struct zk_answer *a);

#endif
