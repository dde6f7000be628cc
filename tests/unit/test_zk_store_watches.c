/* The controllers' store against a real ZooKeeper: who is there, maintenance, leaders that go. */
#include "common/core/pause_codec.h"
#include "tests/lib/zk_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static struct zk_rig_peer a, b, c;

/* ---- controllers -------------------------------------------------------------------------------------- */

struct seen {
    const struct zk_rig_peer *peer;
    const char *ids;    /* "a b" */
    uint16_t http_port; /* of the first; 0: any */
};

static bool sees_controllers(void *ctx)
{
    const struct seen *x = ctx;
    char ids[512] = "";
    size_t len = 0;

    for (size_t k = 0; k < x->peer->n_controllers; k++)
        len += (size_t)snprintf(ids + len, sizeof(ids) - len, "%s%s", k > 0 ? " " : "",
                                x->peer->controllers[k].id);
    return strcmp(ids, x->ids) == 0 &&
           (x->http_port == 0 || x->peer->controllers[0].http_port == x->http_port);
}

static void await_controllers(const struct zk_rig_peer *peer, const char *ids, uint16_t http_port)
{
    ZK_RIG_AWAIT(sees_controllers, &((struct seen){peer, ids, http_port}));
}

static void test_controllers_come_go_and_change(void **state)
{
    struct topology_controller changed = zk_rig_self_of("a");

    (void)state;
    zk_rig_open_peer(&b, "b");
    await_controllers(&b, "b", 0);
    zk_rig_open_peer(&a, "a");
    await_controllers(&a, "a b", 0);
    await_controllers(&b, "a b", 7700);
    changed.http_port = 1234; /* only a value changes, again and again */
    assert_int_equal(zk_store_set_self(a.store, &changed), 0);
    await_controllers(&b, "a b", 1234);
    changed.http_port = 1235;
    assert_int_equal(zk_store_set_self(a.store, &changed), 0);
    await_controllers(&b, "a b", 1235);
    assert_int_equal(zk_rig_hand_create("/controllers/x", "garbage"), 0);
    assert_int_equal(zk_rig_hand_create("/controllers/bad name", "garbage"), 0);
    zk_rig_open_peer(&c, "c");
    await_controllers(&b, "a b c", 0);
    int told = b.controllers_told;
    assert_int_equal(zk_rig_hand_delete("/controllers/x"), 0); /* nothing that was told changes */
    zk_rig_close_peer(&a);
    await_controllers(&b, "b c", 0);
    assert_int_equal(b.controllers_told, told + 1);
    zk_rig_close_peer(&c);
    await_controllers(&b, "b", 0);
    zk_rig_close_peer(&b);
}

/* ---- proxies ------------------------------------------------------------------------------------------ */

static bool sees_proxies(void *ctx)
{
    return a.n_proxies == *(size_t *)ctx;
}

static void await_proxies(size_t n)
{
    ZK_RIG_AWAIT(sees_proxies, &n);
}

static void test_proxies_by_name(void **state)
{
    (void)state;
    assert_int_equal(zk_rig_hand_create("/proxies/host-2", "what is in it does not matter"), 0);
    zk_rig_open_peer(&a, "a");
    await_proxies(1);
    assert_string_equal(a.proxies[0], "host-2");
    assert_int_equal(zk_rig_hand_create("/proxies/host-1", ""), 0);
    await_proxies(2);
    assert_string_equal(a.proxies[0], "host-1"); /* sorted */
    assert_int_equal(zk_rig_hand_delete("/proxies/host-2"), 0);
    await_proxies(1);
    assert_int_equal(zk_rig_hand_delete("/proxies/host-1"), 0);
    await_proxies(0);
    zk_rig_close_peer(&a);
}

static bool are_made(void *ctx)
{
    return zk_rig_answer.calls == *(int *)ctx;
}

static void test_a_thousand_proxies_are_not_read_a_thousand_times(void **state)
{
    enum { MANY = 1000 };
    char path[64];
    int many = MANY;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    await_proxies(0);
    int told = a.proxies_told;
    int64_t before_us = loop_clock_us();
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    for (int n = 0; n < MANY; n++) {
        (void)snprintf(path, sizeof(path), "/proxies/host-%d", n);
        assert_int_equal(zk_create(zk_rig_hand, path, "", 0, 0, zk_rig_on_path, &zk_rig_answer), 0);
    }
    ZK_RIG_AWAIT(are_made, &many);
    await_proxies(MANY);
    assert_in_range(a.proxies_told - told, 1, 2 + (loop_clock_us() - before_us) / 50000);
    zk_rig_close_peer(&a);
}

static bool is_connected(void *ctx)
{
    return zk_session_state(ctx) == ZK_CONNECTED;
}

/* A server that has forgotten everything takes those who knew it before only after it has made as many
 * transactions as they have seen; then it tells them that their sessions have expired. */
static void forget_all_sessions(struct zk_server *own)
{
    struct zk_session_config config = {zk_rig_hosts, ZK_RIG_TIMEOUT_MS, NULL, NULL};
    struct zk_session *other;
    int n = 100;

    zk_server_restart_empty(own);
    assert_int_equal(zk_session_open(&other, zk_rig_loop, &config), 0);
    ZK_RIG_AWAIT(is_connected, other);
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    for (int k = 0; k < n; k++)
        assert_int_equal(
            zk_create(other, "/history/e_", "", 0, ZK_SEQUENTIAL, zk_rig_on_path, &zk_rig_answer), 0);
    ZK_RIG_AWAIT(are_made, &n);
    zk_session_close(other, WAIT_MS);
}

/* What the store knows is right again after a lost and after an expired session. */
static void test_after_a_lost_and_an_expired_session(void **state)
{
    struct zk_server *own = zk_server_start();

    (void)state;
    (void)snprintf(zk_rig_hosts, sizeof(zk_rig_hosts), "%s/lost", zk_server_hosts(own));
    zk_rig_open_peer(&a, "a");
    zk_rig_open_peer(&b, "b");
    await_controllers(&a, "a b", 0);
    await_controllers(&b, "a b", 0);
    zk_server_kill(own);
    ZK_RIG_AWAIT(zk_rig_is_out, &a);
    assert_int_equal(a.n_controllers, 2); /* what was known stays */
    zk_rig_close_peer(&b);
    zk_server_restart(own);
    await_controllers(&a, "a", 0); /* once b's session has expired */
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    zk_server_kill(own);
    ZK_RIG_AWAIT(zk_rig_is_out, &a);
    forget_all_sessions(own);
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    zk_rig_open_peer(&b, "b");
    await_controllers(&a, "a b", 0); /* the watches work again */
    await_controllers(&b, "a b", 0);
    zk_rig_close_peer(&b);
    await_controllers(&a, "a", 0);
    zk_rig_close_peer(&a);
    zk_server_stop(own);
}

/* ---- maintenance -------------------------------------------------------------------------------------- */

struct paused {
    const struct zk_rig_peer *peer;
    const char *owner;
};

static bool is_paused_by(void *ctx)
{
    const struct paused *x = ctx;

    return x->peer->maintenance_told > 0 && strcmp(x->peer->maintenance.owner, x->owner) == 0;
}

static void await_paused_by(const struct zk_rig_peer *peer, const char *owner)
{
    ZK_RIG_AWAIT(is_paused_by, &((struct paused){peer, owner}));
}

static int set_maintenance(struct zk_rig_peer *p, const struct topology_pause *pause)
{
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    return zk_rig_outcome(zk_store_set_maintenance(p->store, pause, zk_rig_on_done, &zk_rig_answer));
}

static void test_maintenance_of_all_instances(void **state)
{
    const struct topology_pause anna = {.owner = "anna@host",
                                        .reason = "racks",
                                        .since_ms = 5,
                                        .until_ms = 9},
                                bert = {.owner = "bert@host", .since_ms = 6};

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    await_paused_by(&a, "");
    assert_int_equal(a.maintenance_told, 1);
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_stands_by, &b);
    assert_int_equal(set_maintenance(&b, &anna), ERR_DEPOSED);
    assert_int_equal(set_maintenance(&a, NULL), 0); /* nothing to end */
    assert_int_equal(set_maintenance(&a, &anna), 0);
    await_paused_by(&a, "anna@host");
    await_paused_by(&b, "anna@host");
    assert_string_equal(b.maintenance.reason, "racks");
    assert_int_equal(b.maintenance.since_ms, 5);
    assert_int_equal(b.maintenance.until_ms, 9);
    assert_int_equal(set_maintenance(&a, &bert), 0);
    await_paused_by(&b, "bert@host");
    zk_rig_close_peer(&a); /* it outlives the leader, and the next one knows before it leads */
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    assert_true(b.maintenance_when_leading);
    zk_rig_open_peer(&a, "a");
    await_paused_by(&a, "bert@host");
    assert_int_equal(zk_rig_hand_set("/pause", "{\"v\":1,"), 0); /* unreadable: it stays as it was */
    assert_int_equal(zk_rig_hand_delete("/pause"), 0);
    await_paused_by(&a, "");
    await_paused_by(&b, "");
    assert_int_equal(set_maintenance(&b, &anna), 0); /* made again */
    await_paused_by(&a, "anna@host");
    assert_int_equal(set_maintenance(&b, NULL), 0);
    await_paused_by(&a, "");
    zk_rig_close_peer(&a);
    zk_rig_close_peer(&b);
}

static void test_an_unreadable_pause_does_not_keep_anybody_from_leading(void **state)
{
    (void)state;
    assert_int_equal(zk_rig_hand_create("/pause", "garbage"), 0);
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(a.maintenance_told, 0);
    const struct topology_pause anna = {.owner = "anna@host", .since_ms = 5};
    assert_int_equal(set_maintenance(&a, &anna), 0);
    await_paused_by(&a, "anna@host");
    zk_rig_close_peer(&a);
}

/* ---- leaders that go ---------------------------------------------------------------------------------- */

static void test_an_unfit_leader_makes_way(void **state)
{
    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    zk_store_set_fit(a.store, false);
    wait_for(zk_rig_loop, 100);
    assert_int_equal(a.role, ELECTION_LEADER); /* nobody else stands */
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    ZK_RIG_AWAIT_THAT(.peer = &a, .leader = "b");
    assert_int_equal(a.role, ELECTION_STANDBY);
    assert_int_equal(zk_rig_hand_count("/election"), 1); /* a doesn't even queue */
    assert_true(zk_store_leader_term(a.store) == b.term);

    zk_store_set_fit(a.store, true);
    zk_rig_open_peer(&c, "c");
    ZK_RIG_AWAIT(zk_rig_stands_by, &c);
    zk_store_set_fit(b.store, false);
    assert_int_equal(b.role, ELECTION_LEADER); /* not inside the call */
    ZK_RIG_AWAIT(zk_rig_stands_by, &b);
    ZK_RIG_AWAIT_THAT(.peer = &b, .leader = a.role == ELECTION_LEADER ? "a" : b.leader);
    zk_rig_close_peer(&a);
    ZK_RIG_AWAIT(zk_rig_leads, &c);
    zk_rig_close_peer(&c); /* nobody is left but the unfit one */
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    zk_rig_close_peer(&b);
}

static void test_a_standby_removes_a_dead_leaders_node(void **state)
{
    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_stands_by, &b);
    zk_rig_open_peer(&c, "c");
    ZK_RIG_AWAIT(zk_rig_stands_by, &c);
    uint64_t term = a.term;
    assert_true(zk_store_leader_term(c.store) == term);
    zk_store_leader_gone(b.store, term + 1); /* of another term: no */
    zk_store_leader_gone(a.store, term);     /* by the leader itself: no */
    assert_int_equal(zk_rig_hand_count("/election"), 3);
    zk_store_leader_gone(c.store, term); /* both standbys at once; a is well, but its leadership is over */
    zk_store_leader_gone(b.store, term);
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    ZK_RIG_AWAIT(zk_rig_stands_by, &a); /* it queues up again */
    assert_true(b.term > term);
    struct topology_instance i = zk_rig_instance_of("cart");
    assert_int_equal(zk_rig_commit(&a, &i, 0, NULL), ERR_DEPOSED);
    zk_store_leader_gone(c.store, term); /* late: another leads */
    assert_int_equal(zk_rig_hand_count("/election"), 3);
    assert_int_equal(b.role, ELECTION_LEADER);
    zk_rig_close_peer(&a);
    zk_rig_close_peer(&b);
    zk_rig_close_peer(&c);
}

static void test_closing_with_reads_under_way(void **state)
{
    const struct topology_pause anna = {.owner = "anna@host", .since_ms = 5};

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    assert_int_equal(zk_store_set_maintenance(a.store, &anna, zk_rig_on_done, &zk_rig_answer), 0);
    zk_store_set_fit(a.store, false);
    zk_rig_close_peer(&a);
    wait_for(zk_rig_loop, 20);
    assert_int_equal(zk_rig_answer.calls, 0);
    assert_int_equal(a.role, ELECTION_LEADER);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ZK_RIG_TEST(test_controllers_come_go_and_change),
        ZK_RIG_TEST(test_proxies_by_name),
        ZK_RIG_TEST(test_a_thousand_proxies_are_not_read_a_thousand_times),
        ZK_RIG_TEST(test_after_a_lost_and_an_expired_session),
        ZK_RIG_TEST(test_maintenance_of_all_instances),
        ZK_RIG_TEST(test_an_unreadable_pause_does_not_keep_anybody_from_leading),
        ZK_RIG_TEST(test_an_unfit_leader_makes_way),
        ZK_RIG_TEST(test_a_standby_removes_a_dead_leaders_node),
        ZK_RIG_TEST(test_closing_with_reads_under_way),
    };
    return cmocka_run_group_tests(tests, zk_rig_begin_group, zk_rig_end_group);
}
