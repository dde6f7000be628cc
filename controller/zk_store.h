/* ZooKeeper as the controllers use it: election, instance records, history, who is there, maintenance.
 *
 *   zk_session ─► election core ─► on_role           /instances (each watched) ─► on_record, on_corrupt,
 * on_removed engine ─ commit ─► multi{ check own election znode, set record at its version[, create history
 * entry] }
 *
 * It executes and decides nothing; leadership is the election core's. When we become leader the store syncs
 * and re-reads every record and the maintenance pause first and reports on_role(LEADER) after the last of
 * them, so that the engine acts on fresh records. Callbacks run on the loop, never inside a call of this
 * module. */
#ifndef MR_CONTROLLER_ZK_STORE_H
#define MR_CONTROLLER_ZK_STORE_H

#include "common/core/topology_codec.h"
#include "controller/core/election.h"

struct loop;
struct zk_store;

struct zk_store_config {
    const char *hosts; /* as zk_session_config */
    int session_timeout_ms;
    const struct topology_controller *self; /* registered in /controllers/<id>; copied */
    uint16_t port_low, port_high;           /* for new instances */
    void *ctx;
    /* Every change of role, term or leader. LEADER only after the re-read; OUT and STANDBY at once. leader:
     * id of the present leader, "" while nobody is known. */
    void (*on_role)(void *ctx, enum election_role role, uint64_t term, const char *leader);
    void (*on_record)(void *ctx, const struct topology_instance *record, int32_t version, int64_t revision);
    void (*on_corrupt)(void *ctx, const char *name, const char *why);
    void (*on_removed)(void *ctx, const char *name);
    /* ZooKeeper is (not) heard from. */
    void (*on_connected)(void *ctx, bool connected);
    /* The registered controllers, this one included: at first and whenever they change. Borrowed, sorted by
     * id; one whose znode can't be read is left out. May be NULL, as the next two. */
    void (*on_controllers)(void *ctx, const struct topology_controller *list, size_t n);
    /* The same for the ids of the registered proxies. */
    void (*on_proxies)(void *ctx, const char *const *ids, size_t n);
    /* Maintenance of all instances, at first and whenever it changes; an owner of "" when there is none.
     * Borrowed. One that can't be read is logged, and what was told before stays. */
    void (*on_maintenance)(void *ctx, const struct topology_pause *pause);
};

int zk_store_open(struct zk_store **out, struct loop *loop,
                  const struct zk_store_config *config) MR_MUST_CHECK;
/* Gives up leadership and closes the session cleanly, waiting at most wait_ms. No callback after this. */
void zk_store_close(struct zk_store *s, int wait_ms);
/* Endpoints that became known after opening (ports chosen by the system): registers them (again). */
int zk_store_set_self(struct zk_store *s, const struct topology_controller *self) MR_MUST_CHECK;
/* The loop stood still for lag_us. From a third of the session timeout on the two thirds without a word from
 * ZooKeeper may be over unnoticed (safety.md §3): on_role(OUT) inside this call, then the election is asked
 * again. */
void zk_store_on_lag(struct zk_store *s, int64_t lag_us);
bool zk_store_is_connected(const struct zk_store *s);
const char *zk_store_leader(const struct zk_store *s); /* "" while nobody is known */
/* The leader's term, also to standbys: what leader_watch.h ties a connection to. 0 while nobody is known. */
uint64_t zk_store_leader_term(const struct zk_store *s);
/* Not fit: gives up leadership and stands aside as long as somebody else stands (election.h); fit at first.
 */
void zk_store_set_fit(struct zk_store *s, bool fit);
/* The leader of that term has died (leader_watch.h): removes its election znode, if we are a standby and it
 * still is the leader. Who takes over is told by on_role. */
void zk_store_leader_gone(struct zk_store *s, uint64_t term);

/* err: 0; ERR_DEPOSED: our election znode is gone; ERR_BAD_VERSION: the record changed meanwhile;
 * ERR_NOT_FOUND: it was deleted; ERR_CONNECTION: the outcome is unknown. version, revision: the record's new
 * ones. */
typedef void (*zk_store_commit_fn)(void *ctx, int err, int32_t version, int64_t revision);
int zk_store_commit(struct zk_store *s, const struct topology_instance *record, int32_t version,
                    const struct topology_history *history, zk_store_commit_fn done, void *ctx) MR_MUST_CHECK;
/* A history entry alone, under the same check of leadership; best effort, a failure is logged. */
int zk_store_append_history(struct zk_store *s, const char *name,
                            const struct topology_history *history) MR_MUST_CHECK;
/* Syncs and reads one record again → on_record, on_corrupt or on_removed; as soon as ZooKeeper is back when
 * it is away. */
void zk_store_reload(struct zk_store *s, const char *name);

/* Claims the lowest free port of the range and creates the instance, its port and its history in one multi.
 * record->port is ignored. err: ERR_EXISTS, ERR_EXHAUSTED, ERR_DEPOSED, ERR_CONNECTION, …; port: the claimed
 * one. The record itself arrives by on_record before done is called. */
typedef void (*zk_store_create_fn)(void *ctx, int err, uint16_t port);
int zk_store_create(struct zk_store *s, const struct topology_instance *record,
                    const struct topology_history *history, zk_store_create_fn done, void *ctx) MR_MUST_CHECK;
/* Removes instance and port in one multi; its history afterwards. */
typedef void (*zk_store_done_fn)(void *ctx, int err);
int zk_store_delete(struct zk_store *s, const char *name, uint16_t port, int32_t version,
                    zk_store_done_fn done, void *ctx) MR_MUST_CHECK;

/* Pauses automatic failovers of all instances, or (NULL) ends that. As a commit: fenced, err as there. It
 * arrives by on_maintenance as well, before or after done. */
int zk_store_set_maintenance(struct zk_store *s, const struct topology_pause *pause, zk_store_done_fn done,
                             void *ctx) MR_MUST_CHECK;

/* Newest first, at most limit; entries that can't be read are left out. */
typedef void (*zk_store_history_fn)(void *ctx, int err, const struct topology_history *entries, size_t n);
int zk_store_read_history(struct zk_store *s, const char *name, size_t limit, zk_store_history_fn done,
                          void *ctx) MR_MUST_CHECK;
typedef void (*zk_store_controllers_fn)(void *ctx, int err, const struct topology_controller *list, size_t n);
int zk_store_read_controllers(struct zk_store *s, zk_store_controllers_fn done, void *ctx) MR_MUST_CHECK;
typedef void (*zk_store_proxies_fn)(void *ctx, int err, const struct topology_proxy *list, size_t n);
int zk_store_read_proxies(struct zk_store *s, zk_store_proxies_fn done, void *ctx) MR_MUST_CHECK;

#endif
