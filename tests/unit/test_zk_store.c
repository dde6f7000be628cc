/* The controllers' store against a real ZooKeeper: election, fenced writes, ports, records, history. */
#include "common/loop.h"
#include "common/zk_session.h"
#include "controller/zk_store.h"
#include "tests/lib/wait.h"
#include "tests/lib/zk_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 1000, PORT_LOW = 6100, PORT_HIGH = 6103, NAMES_MAX = 2048 };

static struct zk_server *server;
static char hosts[128]; /* with the running test's chroot */

/* What one controller heard. */
struct peer {
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
};

struct answer {
    int calls, err;
    int32_t version;
    int64_t revision;
    uint16_t port;
    size_t n;
    struct topology_history history[128];
    struct topology_controller controllers[8];
    struct topology_proxy proxies[8];
    int records_before; /* told to `peer` when the answer came */
    struct peer *peer;
};

static struct loop *loop;
static struct answer answer; /* of the call under way: too large for comfort on the stack */

static void on_role(void *ctx, enum election_role role, uint64_t term, const char *leader)
{
    struct peer *p = ctx;

    assert_true((role == ELECTION_LEADER) == (term != 0));
    p->role = role;
    p->term = term;
    p->roles++;
    if (role == ELECTION_LEADER)
        p->records_when_leading = p->records;
    (void)snprintf(p->leader, sizeof(p->leader), "%s", leader);
}

static void on_record(void *ctx, const struct topology_instance *record, int32_t version, int64_t revision)
{
    struct peer *p = ctx;

    p->records++;
    p->last = *record;
    p->last_version = version;
    p->last_revision = revision;
}

static void on_corrupt(void *ctx, const char *name, const char *why)
{
    struct peer *p = ctx;

    (void)snprintf(p->corrupt, sizeof(p->corrupt), "%s", name);
    (void)snprintf(p->why, sizeof(p->why), "%s", why);
}

static void on_removed(void *ctx, const char *name)
{
    struct peer *p = ctx;

    (void)snprintf(p->removed, sizeof(p->removed), "%s", name);
}

static void on_connected(void *ctx, bool connected)
{
    struct peer *p = ctx;

    assert_true(connected != p->connected);
    p->connected = connected;
}

/* ---- conditions ------------------------------------------------------------------------------------------
 */

static bool leads(void *ctx)
{
    return ((struct peer *)ctx)->role == ELECTION_LEADER;
}

static bool stands_by(void *ctx)
{
    const struct peer *p = ctx;

    return p->role == ELECTION_STANDBY && p->leader[0] != '\0';
}

static bool is_out(void *ctx)
{
    return ((struct peer *)ctx)->role == ELECTION_OUT;
}

static bool is_answered(void *ctx)
{
    (void)ctx;
    return answer.calls > 0;
}

struct expected {
    const struct peer *peer;
    int records;
    const char *corrupt, *removed, *leader;
    uint64_t epoch; /* of the last record */
};

static bool has_come(void *ctx)
{
    const struct expected *x = ctx;

    return x->peer->records >= x->records &&
           (x->corrupt == NULL || strcmp(x->peer->corrupt, x->corrupt) == 0) &&
           (x->removed == NULL || strcmp(x->peer->removed, x->removed) == 0) &&
           (x->leader == NULL || strcmp(x->peer->leader, x->leader) == 0) &&
           (x->epoch == 0 || x->peer->last.epoch == x->epoch);
}

#define AWAIT(condition, ctx) assert_true(wait_until(loop, condition, ctx, WAIT_MS))
#define AWAIT_THAT(...)       AWAIT(has_come, &((struct expected){__VA_ARGS__}))

/* ---- peers and calls -------------------------------------------------------------------------------------
 */

static struct topology_controller self_of(const char *id)
{
    struct topology_controller c = {.host = "127.0.0.1", .pub_port = 7701, .http_port = 7700, .version = "1"};

    (void)snprintf(c.id, sizeof(c.id), "%s", id);
    c.ingest_port = 7702;
    c.vote_port = 7703;
    c.started_ms = 1700000000000;
    return c;
}

static void open_peer(struct peer *p, const char *id)
{
    struct topology_controller self = self_of(id);
    struct zk_store_config config = {
        .hosts = hosts,
        .session_timeout_ms = TIMEOUT_MS,
        .self = &self,
        .port_low = PORT_LOW,
        .port_high = PORT_HIGH,
        .ctx = p,
        .on_role = on_role,
        .on_record = on_record,
        .on_corrupt = on_corrupt,
        .on_removed = on_removed,
        .on_connected = on_connected,
    };

    memset(p, 0, sizeof(*p));
    assert_int_equal(zk_store_open(&p->store, loop, &config), 0);
}

static void close_peer(struct peer *p)
{
    zk_store_close(p->store, WAIT_MS);
    p->store = NULL;
}

static struct topology_instance instance_of(const char *name)
{
    struct topology_instance i = {.port = PORT_LOW, .epoch = 1, .n_members = 1};

    (void)snprintf(i.name, sizeof(i.name), "%s", name);
    topology_policy_default(&i.policy);
    assert_int_equal(topology_address_parse("127.0.0.1:6379", &i.members[0].address), 0);
    i.master = i.members[0].address;
    return i;
}

static struct topology_history history_of(enum topology_history_kind kind, uint64_t epoch)
{
    struct topology_history h = {.kind = kind, .epoch = epoch, .at_ms = 1700000000000};

    assert_int_equal(topology_address_parse("127.0.0.1:6379", &h.from), 0);
    (void)snprintf(h.evidence, sizeof(h.evidence), "test");
    return h;
}

static void on_commit(void *ctx, int err, int32_t version, int64_t revision)
{
    struct answer *a = ctx;

    a->calls++;
    a->err = err;
    a->version = version;
    a->revision = revision;
}

static void on_create(void *ctx, int err, uint16_t port)
{
    struct answer *a = ctx;

    a->calls++;
    a->err = err;
    a->port = port;
    a->records_before = a->peer->records;
}

static void on_done(void *ctx, int err)
{
    struct answer *a = ctx;

    a->calls++;
    a->err = err;
}

static void on_history(void *ctx, int err, const struct topology_history *entries, size_t n)
{
    struct answer *a = ctx;

    on_done(a, err);
    a->n = n;
    assert_true(n <= 128);
    if (n > 0)
        memcpy(a->history, entries, n * sizeof(*entries));
}

static void on_controllers(void *ctx, int err, const struct topology_controller *list, size_t n)
{
    struct answer *a = ctx;

    on_done(a, err);
    a->n = n;
    assert_true(n <= 8);
    if (n > 0)
        memcpy(a->controllers, list, n * sizeof(*list));
}

static void on_proxies(void *ctx, int err, const struct topology_proxy *list, size_t n)
{
    struct answer *a = ctx;

    on_done(a, err);
    a->n = n;
    assert_true(n <= 8);
    if (n > 0)
        memcpy(a->proxies, list, n * sizeof(*list));
}

/* The outcome of a call that was begun with err. */
static int outcome(int err)
{
    if (err != 0)
        return err;
    AWAIT(is_answered, NULL);
    assert_int_equal(answer.calls, 1);
    return answer.err;
}

static int do_commit(struct peer *p, const struct topology_instance *i, int32_t version,
                     const struct topology_history *h)
{
    memset(&answer, 0, sizeof(answer));
    return outcome(zk_store_commit(p->store, i, version, h, on_commit, &answer));
}

static int do_create(struct peer *p, const char *name)
{
    struct topology_instance i = instance_of(name);
    struct topology_history h = history_of(TOPOLOGY_HISTORY_ADOPTED, 1);

    memset(&answer, 0, sizeof(answer));
    answer.peer = p;
    i.port = 0; /* ignored */
    return outcome(zk_store_create(p->store, &i, &h, on_create, &answer));
}

static int do_delete(struct peer *p, const char *name, uint16_t port, int32_t version)
{
    memset(&answer, 0, sizeof(answer));
    return outcome(zk_store_delete(p->store, name, port, version, on_done, &answer));
}

static int do_read_history(struct peer *p, const char *name, size_t limit)
{
    memset(&answer, 0, sizeof(answer));
    return outcome(zk_store_read_history(p->store, name, limit, on_history, &answer));
}

/* ---- somebody else's hand in ZooKeeper -------------------------------------------------------------------
 */

static struct zk_session *hand;

static bool hand_is_connected(void *ctx)
{
    (void)ctx;
    return zk_session_state(hand) == ZK_CONNECTED;
}

static void on_path(void *ctx, int err, const char *path)
{
    (void)path;
    on_done(ctx, err);
}

static void on_stat(void *ctx, int err, const struct zk_stat *stat)
{
    (void)stat;
    on_done(ctx, err);
}

static void on_children(void *ctx, int err, const char *const *names, size_t n, const struct zk_stat *stat)
{
    (void)names;
    (void)stat;
    ((struct answer *)ctx)->n = n;
    on_done(ctx, err);
}

static int hand_create(const char *path, const char *data)
{
    memset(&answer, 0, sizeof(answer));
    return outcome(zk_create(hand, path, data, strlen(data), 0, on_path, &answer));
}

static int hand_set(const char *path, const char *data)
{
    memset(&answer, 0, sizeof(answer));
    return outcome(zk_set(hand, path, data, strlen(data), -1, on_stat, &answer));
}

static int hand_delete(const char *path)
{
    memset(&answer, 0, sizeof(answer));
    return outcome(zk_delete(hand, path, -1, on_done, &answer));
}

static int hand_count(const char *path)
{
    memset(&answer, 0, sizeof(answer));
    return outcome(zk_children(hand, path, NULL, on_children, &answer)) == 0 ? (int)answer.n : -1;
}

/* Each test has a chroot of its own on the shared server. */
static int begin(void **state)
{
    struct zk_session_config config = {hosts, TIMEOUT_MS, NULL, NULL};
    static int number;

    (void)state;
    loop = loop_create(false);
    (void)snprintf(hosts, sizeof(hosts), "%s/t%d", zk_server_hosts(server), ++number);
    assert_int_equal(zk_session_open(&hand, loop, &config), 0);
    AWAIT(hand_is_connected, NULL);
    return 0;
}

static int end(void **state)
{
    (void)state;
    zk_session_close(hand, WAIT_MS);
    loop_destroy(loop);
    return 0;
}

/* ---- election --------------------------------------------------------------------------------------------
 */

static void test_one_leads_and_the_next_takes_over(void **state)
{
    struct peer a, b, c;
    uint64_t first_term;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_string_equal(a.leader, "a");
    assert_true(zk_store_is_connected(a.store));
    open_peer(&b, "b");
    AWAIT(stands_by, &b);
    open_peer(&c, "c");
    AWAIT(stands_by, &c);
    assert_string_equal(b.leader, "a");
    assert_string_equal(zk_store_leader(c.store), "a");
    first_term = a.term;

    close_peer(&a); /* a clean hand-over */
    AWAIT(leads, &b);
    assert_true(b.term > first_term);
    AWAIT_THAT(.peer = &c, .leader = "b");
    assert_int_equal(c.role, ELECTION_STANDBY);
    close_peer(&c); /* not the leader: nothing changes for b */
    assert_int_equal(do_create(&b, "cart"), 0);
    assert_int_equal(b.role, ELECTION_LEADER);
    close_peer(&b);
}

static void test_a_new_leader_has_read_all_records_first(void **state)
{
    struct peer a, b;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(do_create(&a, "one"), 0);
    assert_int_equal(do_create(&a, "two"), 0);
    close_peer(&a);
    open_peer(&b, "b");
    AWAIT(leads, &b);
    assert_int_equal(b.records_when_leading, 2);
    close_peer(&b);
}

static void test_a_deposed_leader_cannot_write(void **state)
{
    struct topology_instance i = instance_of("cart");
    struct topology_history h = history_of(TOPOLOGY_HISTORY_REJOINED, 1);
    struct peer a, b;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(do_create(&a, "cart"), 0);
    open_peer(&b, "b");
    AWAIT(stands_by, &b);
    assert_int_equal(do_commit(&b, &i, 0, NULL), ERR_DEPOSED); /* it doesn't lead */
    assert_int_equal(zk_store_append_history(b.store, "cart", &h), ERR_DEPOSED);
    assert_int_equal(do_create(&b, "other"), ERR_DEPOSED);

    /* Somebody takes a's candidacy away; the commit is sent before a can have noticed. */
    char node[64];
    (void)snprintf(node, sizeof(node), "/election/c_%010d", 0);
    memset(&answer, 0, sizeof(answer));
    struct answer deleted = {0};
    assert_int_equal(zk_delete(hand, node, -1, on_done, &deleted), 0);
    int err = 0;
    for (int n = 0; n < 1000 && err == 0; n++) {
        err = do_commit(&a, &i, n, NULL);
        i.epoch++;
    }
    assert_int_equal(err, ERR_DEPOSED);
    AWAIT(leads, &b);
    AWAIT(stands_by, &a); /* it queues up again */
    assert_string_equal(a.leader, "b");
    close_peer(&b);
    close_peer(&a);
}

static void test_the_election_survives_a_lost_and_an_expired_session(void **state)
{
    struct zk_server *own = zk_server_start();
    struct peer a;
    uint64_t first_term;

    (void)state;
    (void)snprintf(hosts, sizeof(hosts), "%s/lost", zk_server_hosts(own));
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(do_create(&a, "cart"), 0);
    first_term = a.term;
    zk_server_kill(own);
    AWAIT(is_out, &a);
    assert_string_equal(a.leader, "");
    struct topology_instance i = instance_of("cart");
    assert_int_equal(zk_store_commit(a.store, &i, 0, NULL, on_commit, &answer), ERR_CONNECTION);
    zk_store_reload(a.store, "cart"); /* answered once ZooKeeper is back */
    int before = a.records;
    zk_server_restart(own);
    AWAIT(leads, &a);
    assert_true(a.term == first_term || a.term > first_term);
    AWAIT_THAT(.peer = &a, .records = before + 1);
    assert_int_equal(do_commit(&a, &i, 0, NULL), 0);
    memset(&answer, 0, sizeof(answer));
    assert_int_equal(outcome(zk_store_read_controllers(a.store, on_controllers, &answer)), 0);
    assert_int_equal(answer.n, 1);
    close_peer(&a);
    zk_server_stop(own);
}

/* ---- records ---------------------------------------------------------------------------------------------
 */

static void test_commit_is_compare_and_set(void **state)
{
    struct topology_history h = history_of(TOPOLOGY_HISTORY_FAILOVER, 2);
    struct topology_instance i;
    struct peer a, b;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    open_peer(&b, "b");
    AWAIT(stands_by, &b);
    assert_int_equal(do_create(&a, "cart"), 0);
    assert_int_equal(answer.records_before, 1); /* the record came first */
    assert_int_equal(a.last_version, 0);
    i = a.last;
    i.epoch = 2;
    assert_int_equal(do_commit(&a, &i, 0, &h), 0);
    assert_int_equal(answer.version, 1);
    assert_true(answer.revision > a.last_revision || a.last_version == 1);
    int64_t revision = answer.revision;
    AWAIT_THAT(.peer = &b, .epoch = 2);
    assert_int_equal(b.last_version, 1);
    assert_true(b.last_revision == revision);
    assert_int_equal(do_commit(&a, &i, 0, &h), ERR_BAD_VERSION);
    i = instance_of("nobody");
    assert_int_equal(do_commit(&a, &i, 0, NULL), ERR_NOT_FOUND);
    i.n_members = 0;
    assert_int_equal(do_commit(&a, &i, 0, NULL), ERR_INVALID);
    assert_int_equal(do_read_history(&b, "cart", 10), 0);
    assert_int_equal(answer.n, 2); /* the refused ones left none */
    assert_int_equal(answer.history[0].kind, TOPOLOGY_HISTORY_FAILOVER);
    assert_int_equal(answer.history[1].kind, TOPOLOGY_HISTORY_ADOPTED);
    close_peer(&a);
    close_peer(&b);
}

static void test_reload_tells_even_what_has_not_changed(void **state)
{
    struct peer a;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(do_create(&a, "cart"), 0);
    int before = a.records;
    zk_store_reload(a.store, "cart");
    zk_store_reload(a.store, "unheard-of");
    zk_store_reload(a.store, "not a name");
    AWAIT_THAT(.peer = &a, .records = before + 1);
    close_peer(&a);
}

static void test_a_corrupt_record_is_set_aside(void **state)
{
    struct peer a;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(do_create(&a, "good"), 0);
    assert_int_equal(hand_create("/instances/bad", "{\"v\":1,"), 0);
    AWAIT_THAT(.peer = &a, .corrupt = "bad");
    assert_true(a.why[0] != '\0');
    assert_int_equal(hand_create("/instances/bad name", ""), 0); /* ignored */

    /* A new leader sets it aside, too, and leads for the others. */
    close_peer(&a);
    open_peer(&a, "b");
    AWAIT(leads, &a);
    assert_string_equal(a.corrupt, "bad");
    assert_int_equal(a.records, 1);
    assert_string_equal(a.last.name, "good");

    /* A record under another's name. */
    char text[TOPOLOGY_TEXT_MAX];
    struct topology_instance other = instance_of("other");
    assert_true(topology_encode_instance(&other, text, sizeof(text)) > 0);
    a.why[0] = '\0';
    assert_int_equal(hand_set("/instances/bad", text), 0);
    AWAIT_THAT(.peer = &a, .corrupt = "bad");
    /* Repaired by hand. */
    (void)snprintf(other.name, sizeof(other.name), "bad");
    other.epoch = 7;
    assert_true(topology_encode_instance(&other, text, sizeof(text)) > 0);
    assert_int_equal(hand_set("/instances/bad", text), 0);
    AWAIT_THAT(.peer = &a, .epoch = 7);
    assert_int_equal(hand_delete("/instances/bad"), 0);
    AWAIT_THAT(.peer = &a, .removed = "bad");
    close_peer(&a);
}

static void test_a_thousand_instances(void **state)
{
    enum { MANY = 1000 };
    struct peer a;
    struct answer made = {0};
    char path[128], text[TOPOLOGY_TEXT_MAX];

    (void)state;
    for (int n = 0; n < MANY; n++) {
        struct topology_instance i = instance_of("x");

        (void)snprintf(i.name, sizeof(i.name), "instance-%d", n);
        (void)snprintf(path, sizeof(path), "/instances/%s", i.name);
        ssize_t len = topology_encode_instance(&i, text, sizeof(text));
        assert_true(len > 0);
        assert_int_equal(zk_create(hand, path, text, (size_t)len, 0, on_path, &made), 0);
    }
    assert_int_equal(hand_count("/instances"), MANY); /* answered after all of them */
    assert_int_equal(made.calls, MANY);
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(a.records_when_leading, MANY);
    assert_int_equal(a.records, MANY);
    assert_int_equal(hand_delete("/instances/instance-500"), 0);
    AWAIT_THAT(.peer = &a, .removed = "instance-500");
    assert_int_equal(a.records, MANY); /* the others were left alone */
    close_peer(&a);
}

/* ---- ports and instances ---------------------------------------------------------------------------------
 */

static void test_ports_are_claimed_once_and_freed(void **state)
{
    struct peer a;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(hand_create("/ports/6101", "somebody"), 0);
    assert_int_equal(do_create(&a, "one"), 0);
    assert_int_equal(answer.port, 6100);
    assert_int_equal(a.last.port, 6100);
    assert_int_equal(do_create(&a, "one"), ERR_EXISTS);
    assert_int_equal(do_create(&a, "two"), 0);
    assert_int_equal(answer.port, 6102);
    assert_int_equal(do_create(&a, "three"), 0);
    assert_int_equal(do_create(&a, "four"), ERR_EXHAUSTED);

    assert_int_equal(do_delete(&a, "two", 6102, 5), ERR_BAD_VERSION);
    assert_int_equal(do_delete(&a, "nobody", 6102, 0), ERR_NOT_FOUND);
    assert_int_equal(do_delete(&a, "two", 6102, 0), 0);
    AWAIT_THAT(.peer = &a, .removed = "two");
    assert_int_equal(do_create(&a, "four"), 0);
    assert_int_equal(answer.port, 6102);
    /* Its port was removed by hand: it can be deleted nevertheless. */
    assert_int_equal(hand_delete("/ports/6102"), 0);
    assert_int_equal(do_delete(&a, "four", 6102, 0), 0);
    assert_int_equal(hand_count("/ports"), 3);
    close_peer(&a);
}

static void on_raced(void *ctx, int err, uint16_t port)
{
    struct answer *all = ctx;

    assert_int_equal(err, 0);
    all->calls++;
    all->n |= (size_t)1 << (port - PORT_LOW);
}

static bool all_raced(void *ctx)
{
    return ((struct answer *)ctx)->calls == 4;
}

static void test_creates_at_once_get_different_ports(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    static struct answer all;
    struct peer a;

    (void)state;
    memset(&all, 0, sizeof(all));
    open_peer(&a, "a");
    AWAIT(leads, &a);
    for (int n = 0; n < 4; n++) {
        struct topology_instance i = instance_of(names[n]);

        assert_int_equal(zk_store_create(a.store, &i, NULL, on_raced, &all), 0);
    }
    AWAIT(all_raced, &all);
    assert_int_equal(all.n, 0xf);
    close_peer(&a);
}

static bool history_is_gone(void *ctx)
{
    (void)ctx;
    return hand_count("/history") == 0;
}

static void test_deleting_takes_the_history_and_a_leftover_does_no_harm(void **state)
{
    struct peer a;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(hand_create("/history/cart", ""), 0); /* left from an earlier instance of that name */
    assert_int_equal(do_create(&a, "cart"), 0);
    assert_int_equal(hand_count("/history/cart"), 1);
    assert_int_equal(do_delete(&a, "cart", 6100, 0), 0);
    assert_true(history_is_gone(NULL) || wait_until(loop, history_is_gone, NULL, WAIT_MS));
    close_peer(&a);
}

/* ---- history, controllers, proxies -----------------------------------------------------------------------
 */

static bool history_is_trimmed(void *ctx)
{
    (void)ctx;
    return hand_count("/history/cart") == 100;
}

static void test_history_is_newest_first_and_trimmed(void **state)
{
    struct topology_history h = history_of(TOPOLOGY_HISTORY_REJOINED, 0);
    struct peer a;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(do_create(&a, "cart"), 0);
    for (h.epoch = 1; h.epoch <= 110; h.epoch++)
        assert_int_equal(zk_store_append_history(a.store, "cart", &h), 0);
    assert_true(wait_until(loop, history_is_trimmed, NULL, WAIT_MS));
    assert_int_equal(do_read_history(&a, "cart", 200), 0);
    assert_int_equal(answer.n, 100);
    for (size_t n = 0; n < answer.n; n++)
        assert_int_equal(answer.history[n].epoch, 110 - n);
    assert_int_equal(hand_create("/history/cart/e_9999999999", "garbage"), 0);
    assert_int_equal(do_read_history(&a, "cart", 3), 0);
    assert_int_equal(answer.n, 2); /* what can't be read is left out */
    assert_int_equal(answer.history[0].epoch, 110);
    assert_int_equal(do_read_history(&a, "nobody", 3), ERR_NOT_FOUND);
    assert_int_equal(do_read_history(&a, "not a name", 3), ERR_INVALID);

    /* The folder is removed by hand: a commit makes it again rather than fail. */
    struct topology_instance i = a.last;
    assert_int_equal(do_delete(&a, "cart", 6100, 0), 0);
    assert_true(wait_until(loop, history_is_gone, NULL, WAIT_MS));
    assert_int_equal(do_create(&a, "cart"), 0);
    assert_int_equal(hand_delete("/history/cart/e_0000000000"), 0);
    assert_int_equal(hand_delete("/history/cart"), 0);
    h.epoch = 1;
    assert_int_equal(do_commit(&a, &i, 0, &h), 0);
    assert_int_equal(answer.version, 1);
    assert_int_equal(do_read_history(&a, "cart", 3), 0);
    assert_int_equal(answer.n, 1);
    close_peer(&a);
}

struct registered {
    struct peer *reader;
    const char *id;
    uint16_t http_port;
};

static bool is_registered(void *ctx)
{
    const struct registered *r = ctx;

    memset(&answer, 0, sizeof(answer));
    if (outcome(zk_store_read_controllers(r->reader->store, on_controllers, &answer)) != 0)
        return false;
    for (size_t n = 0; n < answer.n; n++) {
        if (strcmp(answer.controllers[n].id, r->id) == 0 && answer.controllers[n].http_port == r->http_port)
            return true;
    }
    return false;
}

static void test_who_is_there(void **state)
{
    struct topology_proxy proxy = {.id = "host-1", .version = "1", .bind = "127.0.0.1", .threads = 2};
    struct topology_controller changed = self_of("b");
    char text[TOPOLOGY_TEXT_MAX];
    struct peer a, b;

    (void)state;
    open_peer(&b, "b");
    AWAIT(leads, &b);
    open_peer(&a, "a");
    AWAIT(stands_by, &a);
    AWAIT(is_registered, (&(struct registered){&a, "a", 7700}));
    AWAIT(is_registered, (&(struct registered){&a, "b", 7700}));
    assert_int_equal(answer.n, 2);
    assert_string_equal(answer.controllers[0].id, "a"); /* sorted */
    changed.http_port = 1234;
    assert_int_equal(zk_store_set_self(b.store, &changed), 0);
    AWAIT(is_registered, (&(struct registered){&a, "b", 1234}));
    changed = self_of("c");
    assert_int_equal(zk_store_set_self(b.store, &changed), ERR_INVALID);

    assert_true(topology_encode_proxy(&proxy, text, sizeof(text)) > 0);
    assert_int_equal(hand_create("/proxies/host-1", text), 0);
    assert_int_equal(hand_create("/proxies/host-2", "garbage"), 0);
    memset(&answer, 0, sizeof(answer));
    assert_int_equal(outcome(zk_store_read_proxies(a.store, on_proxies, &answer)), 0);
    assert_int_equal(answer.n, 1);
    assert_string_equal(answer.proxies[0].id, "host-1");
    assert_int_equal(answer.proxies[0].threads, 2);
    close_peer(&a);
    close_peer(&b);
}

/* A controller that comes back before its former session has timed out finds its own name taken. */
static void test_a_former_run_still_holds_the_name(void **state)
{
    struct topology_controller old = self_of("a");
    struct peer a;
    char text[TOPOLOGY_TEXT_MAX];

    (void)state;
    old.http_port = 1;
    assert_true(topology_encode_controller(&old, text, sizeof(text)) > 0);
    assert_int_equal(hand_create("/controllers/a", text), 0);
    open_peer(&a, "a");
    AWAIT(leads, &a); /* that doesn't wait for the name */
    assert_int_equal(hand_delete("/controllers/a"), 0);
    AWAIT(is_registered, (&(struct registered){&a, "a", 7700}));
    close_peer(&a);
}

/* ---- edges -----------------------------------------------------------------------------------------------
 */

static void test_bad_arguments(void **state)
{
    struct topology_controller self = self_of("bad id");
    struct zk_store_config config = {.hosts = hosts,
                                     .session_timeout_ms = TIMEOUT_MS,
                                     .self = &self,
                                     .port_low = 2,
                                     .port_high = 1,
                                     .on_record = on_record,
                                     .on_corrupt = on_corrupt,
                                     .on_removed = on_removed};
    struct zk_store *store;

    (void)state;
    assert_int_equal(zk_store_open(&store, loop, &config), ERR_INVALID);
    self = self_of("a");
    assert_int_equal(zk_store_open(&store, loop, &config), ERR_INVALID);
    config.port_high = 3;
    config.hosts = "no-port";
    assert_int_equal(zk_store_open(&store, loop, &config), ERR_INVALID);
}

/* Closing with everything under way: nothing is called back, nothing leaks (the sanitizers look). */
static void test_closing_in_the_middle(void **state)
{
    struct topology_instance i = instance_of("cart"), j = instance_of("other");
    struct topology_history h = history_of(TOPOLOGY_HISTORY_REJOINED, 1);
    struct peer a;

    (void)state;
    open_peer(&a, "a");
    AWAIT(leads, &a);
    assert_int_equal(do_create(&a, "cart"), 0);
    memset(&answer, 0, sizeof(answer));
    assert_int_equal(zk_store_commit(a.store, &i, 0, &h, on_commit, &answer), 0);
    assert_int_equal(zk_store_append_history(a.store, "cart", &h), 0);
    assert_int_equal(zk_store_create(a.store, &j, &h, on_create, &answer), 0);
    assert_int_equal(zk_store_delete(a.store, "cart", 6100, 1, on_done, &answer), 0);
    assert_int_equal(zk_store_read_history(a.store, "cart", 5, on_history, &answer), 0);
    assert_int_equal(zk_store_read_proxies(a.store, on_proxies, &answer), 0);
    zk_store_reload(a.store, "cart");
    close_peer(&a);
    open_peer(&a, "a"); /* and at once after opening */
    close_peer(&a);
    assert_int_equal(answer.calls, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_leads_and_the_next_takes_over),
        TEST(test_a_new_leader_has_read_all_records_first),
        TEST(test_a_deposed_leader_cannot_write),
        TEST(test_the_election_survives_a_lost_and_an_expired_session),
        TEST(test_commit_is_compare_and_set),
        TEST(test_reload_tells_even_what_has_not_changed),
        TEST(test_a_corrupt_record_is_set_aside),
        TEST(test_a_thousand_instances),
        TEST(test_ports_are_claimed_once_and_freed),
        TEST(test_creates_at_once_get_different_ports),
        TEST(test_deleting_takes_the_history_and_a_leftover_does_no_harm),
        TEST(test_history_is_newest_first_and_trimmed),
        TEST(test_who_is_there),
        TEST(test_a_former_run_still_holds_the_name),
        TEST(test_bad_arguments),
        TEST(test_closing_in_the_middle),
    };

    server = zk_server_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    zk_server_stop(server);
    return failed;
}
