/* Controllers' stores, and somebody else's hand, on a real ZooKeeper: what the tests of zk_store share.
 *
 * Each test has a chroot of its own on the group's server. Functions fail the running cmocka test instead of
 * returning errors. */
#ifndef MR_TESTS_LIB_ZK_RIG_H
#define MR_TESTS_LIB_ZK_RIG_H

#include "common/loop.h"
#include "common/zk_session.h"
#include "controller/zk_store.h"
#include "tests/lib/wait.h"
#include "tests/lib/zk_server.h"

enum { ZK_RIG_TIMEOUT_MS = 1000, ZK_RIG_PORT_LOW = 6100, ZK_RIG_PORT_HIGH = 6103 };

/* What one controller heard. */
struct zk_rig_peer {
    struct zk_store *store;
    enum election_role role;
    uint64_t term;
    char leader[TOPOLOGY_NAME_MAX + 1];
    bool connected;
    int roles; /* changes told */
    int records, records_when_leading;
    struct topology_instance last;
    int32_t last_version;
    int64_t last_revision;
    char corrupt[TOPOLOGY_NAME_MAX + 1], why[256];
    char removed[TOPOLOGY_NAME_MAX + 1];
    int controllers_told, proxies_told, maintenance_told; /* how often */
    size_t n_controllers, n_proxies;
    struct topology_controller controllers[8];
    char proxies[8][TOPOLOGY_NAME_MAX + 1]; /* the first ones */
    struct topology_pause maintenance;
    bool maintenance_when_leading; /* it knew of one when it began to lead */
};

struct zk_rig_answer {
    int calls, err;
    int32_t version;
    int64_t revision;
    uint16_t port;
    size_t n;
    struct topology_history history[128];
    struct topology_controller controllers[8];
    struct topology_proxy proxies[8];
    int records_before; /* told to `peer` when the answer came */
    struct zk_rig_peer *peer;
};

extern struct loop *zk_rig_loop;
extern char zk_rig_hosts[256];             /* with the running test's chroot */
extern struct zk_session *zk_rig_hand;     /* somebody else */
extern struct zk_rig_answer zk_rig_answer; /* of the call under way: too large for comfort on the stack */

/* ---- waiting ------------------------------------------------------------------------------------------ */

/* ctx: struct zk_rig_peer. */
bool zk_rig_leads(void *ctx);
bool zk_rig_stands_by(void *ctx); /* and knows who leads */
bool zk_rig_is_out(void *ctx);

struct zk_rig_expected {
    const struct zk_rig_peer *peer;
    int records;
    const char *corrupt, *removed, *leader;
    uint64_t epoch; /* of the last record */
};

bool zk_rig_has_come(void *ctx); /* ctx: struct zk_rig_expected */

#define ZK_RIG_AWAIT(condition, ctx) assert_true(wait_until(zk_rig_loop, condition, ctx, WAIT_MS))
#define ZK_RIG_AWAIT_THAT(...)       ZK_RIG_AWAIT(zk_rig_has_come, &((struct zk_rig_expected){__VA_ARGS__}))

/* ---- peers and calls ---------------------------------------------------------------------------------- */

struct topology_controller zk_rig_self_of(const char *id);
/* p and self are borrowed; p is to be zeroed by the caller. */
struct zk_store_config zk_rig_config(struct zk_rig_peer *p, const struct topology_controller *self);
void zk_rig_open_peer(struct zk_rig_peer *p, const char *id);
void zk_rig_close_peer(struct zk_rig_peer *p);
struct topology_instance zk_rig_instance_of(const char *name);
struct topology_history zk_rig_history_of(enum topology_history_kind kind, uint64_t epoch);

/* Callbacks that note the answer in ctx, a struct zk_rig_answer. */
void zk_rig_on_commit(void *ctx, int err, int32_t version, int64_t revision);
void zk_rig_on_create(void *ctx, int err, uint16_t port);
void zk_rig_on_done(void *ctx, int err);
void zk_rig_on_history(void *ctx, int err, const struct topology_history *entries, size_t n);
void zk_rig_on_controllers(void *ctx, int err, const struct topology_controller *list, size_t n);
void zk_rig_on_proxies(void *ctx, int err, const struct topology_proxy *list, size_t n);
void zk_rig_on_path(void *ctx, int err, const char *path);
/* The outcome of a call on zk_rig_answer that was begun with err. */
int zk_rig_outcome(int err);

/* Each gives the outcome; what came is in zk_rig_answer. */
int zk_rig_commit(struct zk_rig_peer *p, const struct topology_instance *i, int32_t version,
                  const struct topology_history *h);
int zk_rig_create(struct zk_rig_peer *p, const char *name);
int zk_rig_delete(struct zk_rig_peer *p, const char *name, uint16_t port, int32_t version);
int zk_rig_read_history(struct zk_rig_peer *p, const char *name, size_t limit);

int zk_rig_hand_create(const char *path, const char *data);
int zk_rig_hand_set(const char *path, const char *data);
int zk_rig_hand_delete(const char *path);
int zk_rig_hand_count(const char *path); /* of children; -1 when it is not there */

/* ---- running ------------------------------------------------------------------------------------------ */

int zk_rig_begin(void **state);
int zk_rig_end(void **state);
int zk_rig_begin_group(void **state);
int zk_rig_end_group(void **state);

#define ZK_RIG_TEST(f) cmocka_unit_test_setup_teardown(f, zk_rig_begin, zk_rig_end)

#endif
