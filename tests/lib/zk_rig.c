#include "tests/lib/zk_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct zk_server *server;
char zk_rig_hosts[256];
struct loop *zk_rig_loop;
struct zk_session *zk_rig_hand;
struct zk_rig_answer zk_rig_answer;

static void on_role(void *ctx, enum election_role role, uint64_t term, const char *leader)
{
    struct zk_rig_peer *p = ctx;

    assert_true((role == ELECTION_LEADER) == (term != 0));
    p->role = role;
    p->term = term;
    p->roles++;
    if (role == ELECTION_LEADER) {
        p->records_when_leading = p->records;
        p->maintenance_when_leading = p->maintenance.owner[0] != '\0';
    }
    (void)snprintf(p->leader, sizeof(p->leader), "%s", leader);
}

static void on_record(void *ctx, const struct topology_instance *record, int32_t version, int64_t revision)
{
    struct zk_rig_peer *p = ctx;

    p->records++;
    p->last = *record;
    p->last_version = version;
    p->last_revision = revision;
}

static void on_corrupt(void *ctx, const char *name, const char *why)
{
    struct zk_rig_peer *p = ctx;

    (void)snprintf(p->corrupt, sizeof(p->corrupt), "%s", name);
    (void)snprintf(p->why, sizeof(p->why), "%s", why);
}

static void on_removed(void *ctx, const char *name)
{
    struct zk_rig_peer *p = ctx;

    (void)snprintf(p->removed, sizeof(p->removed), "%s", name);
}

static void on_connected(void *ctx, bool connected)
{
    struct zk_rig_peer *p = ctx;

    assert_true(connected != p->connected);
    p->connected = connected;
}

static void on_who(void *ctx, const struct topology_controller *list, size_t n)
{
    struct zk_rig_peer *p = ctx;

    p->controllers_told++;
    p->n_controllers = n;
    for (size_t k = 0; k < n && k < 8; k++)
        p->controllers[k] = list[k];
}

static void on_where(void *ctx, const char *const *ids, size_t n)
{
    struct zk_rig_peer *p = ctx;

    p->proxies_told++;
    p->n_proxies = n;
    for (size_t k = 0; k < n && k < 8; k++)
        (void)snprintf(p->proxies[k], sizeof(p->proxies[k]), "%s", ids[k]);
}

static void on_maintenance(void *ctx, const struct topology_pause *pause)
{
    struct zk_rig_peer *p = ctx;

    p->maintenance_told++;
    p->maintenance = *pause;
}

/* ---- conditions --------------------------------------------------------------------------------------- */

bool zk_rig_leads(void *ctx)
{
    return ((struct zk_rig_peer *)ctx)->role == ELECTION_LEADER;
}

bool zk_rig_stands_by(void *ctx)
{
    const struct zk_rig_peer *p = ctx;

    return p->role == ELECTION_STANDBY && p->leader[0] != '\0';
}

bool zk_rig_is_out(void *ctx)
{
    return ((struct zk_rig_peer *)ctx)->role == ELECTION_OUT;
}

static bool zk_rig_is_answered(void *ctx)
{
    (void)ctx;
    return zk_rig_answer.calls > 0;
}

bool zk_rig_has_come(void *ctx)
{
    const struct zk_rig_expected *x = ctx;

    return x->peer->records >= x->records &&
           (x->corrupt == NULL || strcmp(x->peer->corrupt, x->corrupt) == 0) &&
           (x->removed == NULL || strcmp(x->peer->removed, x->removed) == 0) &&
           (x->leader == NULL || strcmp(x->peer->leader, x->leader) == 0) &&
           (x->epoch == 0 || x->peer->last.epoch == x->epoch);
}

/* ---- peers and calls ---------------------------------------------------------------------------------- */

struct topology_controller zk_rig_self_of(const char *id)
{
    struct topology_controller c = {.host = "127.0.0.1", .pub_port = 7701, .http_port = 7700, .version = "1"};

    (void)snprintf(c.id, sizeof(c.id), "%s", id);
    c.ingest_port = 7702;
    c.vote_port = 7703;
    c.started_ms = 1700000000000;
    return c;
}

struct zk_store_config zk_rig_config(struct zk_rig_peer *p, const struct topology_controller *self)
{
    return (struct zk_store_config){
        .hosts = zk_rig_hosts,
        .session_timeout_ms = ZK_RIG_TIMEOUT_MS,
        .self = self,
        .port_low = ZK_RIG_PORT_LOW,
        .port_high = ZK_RIG_PORT_HIGH,
        .ctx = p,
        .on_role = on_role,
        .on_record = on_record,
        .on_corrupt = on_corrupt,
        .on_removed = on_removed,
        .on_connected = on_connected,
        .on_controllers = on_who,
        .on_proxies = on_where,
        .on_maintenance = on_maintenance,
    };
}

void zk_rig_open_peer(struct zk_rig_peer *p, const char *id)
{
    struct topology_controller self = zk_rig_self_of(id);
    struct zk_store_config config = zk_rig_config(p, &self);

    memset(p, 0, sizeof(*p));
    assert_int_equal(zk_store_open(&p->store, zk_rig_loop, &config), 0);
}

void zk_rig_close_peer(struct zk_rig_peer *p)
{
    zk_store_close(p->store, WAIT_MS);
    p->store = NULL;
}

struct topology_instance zk_rig_instance_of(const char *name)
{
    struct topology_instance i = {.port = ZK_RIG_PORT_LOW, .epoch = 1, .n_members = 1};

    (void)snprintf(i.name, sizeof(i.name), "%s", name);
    topology_policy_default(&i.policy);
    assert_int_equal(topology_address_parse("127.0.0.1:6379", &i.members[0].address), 0);
    i.master = i.members[0].address;
    return i;
}

struct topology_history zk_rig_history_of(enum topology_history_kind kind, uint64_t epoch)
{
    struct topology_history h = {.kind = kind, .epoch = epoch, .at_ms = 1700000000000};

    assert_int_equal(topology_address_parse("127.0.0.1:6379", &h.from), 0);
    (void)snprintf(h.evidence, sizeof(h.evidence), "test");
    return h;
}

void zk_rig_on_commit(void *ctx, int err, int32_t version, int64_t revision)
{
    struct zk_rig_answer *a = ctx;

    a->calls++;
    a->err = err;
    a->version = version;
    a->revision = revision;
}

void zk_rig_on_create(void *ctx, int err, uint16_t port)
{
    struct zk_rig_answer *a = ctx;

    a->calls++;
    a->err = err;
    a->port = port;
    a->records_before = a->peer->records;
}

void zk_rig_on_done(void *ctx, int err)
{
    struct zk_rig_answer *a = ctx;

    a->calls++;
    a->err = err;
}

void zk_rig_on_history(void *ctx, int err, const struct topology_history *entries, size_t n)
{
    struct zk_rig_answer *a = ctx;

    zk_rig_on_done(a, err);
    a->n = n;
    assert_true(n <= 128);
    if (n > 0)
        memcpy(a->history, entries, n * sizeof(*entries));
}

void zk_rig_on_controllers(void *ctx, int err, const struct topology_controller *list, size_t n)
{
    struct zk_rig_answer *a = ctx;

    zk_rig_on_done(a, err);
    a->n = n;
    assert_true(n <= 8);
    if (n > 0)
        memcpy(a->controllers, list, n * sizeof(*list));
}

void zk_rig_on_proxies(void *ctx, int err, const struct topology_proxy *list, size_t n)
{
    struct zk_rig_answer *a = ctx;

    zk_rig_on_done(a, err);
    a->n = n;
    assert_true(n <= 8);
    if (n > 0)
        memcpy(a->proxies, list, n * sizeof(*list));
}

/* The zk_rig_outcome of a call that was begun with err. */
int zk_rig_outcome(int err)
{
    if (err != 0)
        return err;
    ZK_RIG_AWAIT(zk_rig_is_answered, NULL);
    assert_int_equal(zk_rig_answer.calls, 1);
    return zk_rig_answer.err;
}

int zk_rig_commit(struct zk_rig_peer *p, const struct topology_instance *i, int32_t version,
                  const struct topology_history *h)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(zk_store_commit(p->store, i, version, h, zk_rig_on_commit, &zk_rig_answer));
}

int zk_rig_create(struct zk_rig_peer *p, const char *name)
{
    struct topology_instance i = zk_rig_instance_of(name);
    struct topology_history h = zk_rig_history_of(TOPOLOGY_HISTORY_ADOPTED, 1);

    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    zk_rig_answer.peer = p;
    i.port = 0; /* ignored */
    return zk_rig_outcome(zk_store_create(p->store, &i, &h, zk_rig_on_create, &zk_rig_answer));
}

int zk_rig_delete(struct zk_rig_peer *p, const char *name, uint16_t port, int32_t version)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(zk_store_delete(p->store, name, port, version, zk_rig_on_done, &zk_rig_answer));
}

int zk_rig_read_history(struct zk_rig_peer *p, const char *name, size_t limit)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(zk_store_read_history(p->store, name, limit, zk_rig_on_history, &zk_rig_answer));
}

/* ---- somebody else's zk_rig_hand in ZooKeeper --------------------------------------------------------- */

static bool zk_rig_hand_is_connected(void *ctx)
{
    (void)ctx;
    return zk_session_state(zk_rig_hand) == ZK_CONNECTED;
}

void zk_rig_on_path(void *ctx, int err, const char *path)
{
    (void)path;
    zk_rig_on_done(ctx, err);
}

static void zk_rig_on_stat(void *ctx, int err, const struct zk_stat *stat)
{
    (void)stat;
    zk_rig_on_done(ctx, err);
}

static void on_children(void *ctx, int err, const char *const *names, size_t n, const struct zk_stat *stat)
{
    (void)names;
    (void)stat;
    ((struct zk_rig_answer *)ctx)->n = n;
    zk_rig_on_done(ctx, err);
}

int zk_rig_hand_create(const char *path, const char *data)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(
        zk_create(zk_rig_hand, path, data, strlen(data), 0, zk_rig_on_path, &zk_rig_answer));
}

int zk_rig_hand_set(const char *path, const char *data)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(zk_set(zk_rig_hand, path, data, strlen(data), -1, zk_rig_on_stat, &zk_rig_answer));
}

int zk_rig_hand_delete(const char *path)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(zk_delete(zk_rig_hand, path, -1, zk_rig_on_done, &zk_rig_answer));
}

int zk_rig_hand_count(const char *path)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(zk_children(zk_rig_hand, path, NULL, on_children, &zk_rig_answer)) == 0
               ? (int)zk_rig_answer.n
               : -1;
}

int zk_rig_begin(void **state)
{
    struct zk_session_config config = {zk_rig_hosts, ZK_RIG_TIMEOUT_MS, NULL, NULL};
    static int number;

    (void)state;
    zk_rig_loop = loop_create(false);
    (void)snprintf(zk_rig_hosts, sizeof(zk_rig_hosts), "%s/t%d", zk_server_hosts(server), ++number);
    assert_int_equal(zk_session_open(&zk_rig_hand, zk_rig_loop, &config), 0);
    ZK_RIG_AWAIT(zk_rig_hand_is_connected, NULL);
    return 0;
}

int zk_rig_end(void **state)
{
    (void)state;
    zk_session_close(zk_rig_hand, WAIT_MS);
    loop_destroy(zk_rig_loop);
    return 0;
}

int zk_rig_begin_group(void **state)
{
    (void)state;
    server = zk_server_start();
    return 0;
}

int zk_rig_end_group(void **state)
{
    (void)state;
    zk_server_stop(server);
    return 0;
}
