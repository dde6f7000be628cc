/* The controllers' store against a real ZooKeeper: election, lost sessions, opening and closing. */
#include "tests/lib/zk_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- election ----------------------------------------------------------------------------------------- */

static void test_one_leads_and_the_next_takes_over(void **state)
{
    struct zk_rig_peer a, b, c;
    uint64_t first_term;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_string_equal(a.leader, "a");
    assert_true(zk_store_is_connected(a.store));
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_stands_by, &b);
    zk_rig_open_peer(&c, "c");
    ZK_RIG_AWAIT(zk_rig_stands_by, &c);
    assert_string_equal(b.leader, "a");
    assert_string_equal(zk_store_leader(c.store), "a");
    first_term = a.term;

    zk_rig_close_peer(&a); /* a clean zk_rig_hand-over */
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    assert_true(b.term > first_term);
    ZK_RIG_AWAIT_THAT(.peer = &c, .leader = "b");
    assert_int_equal(c.role, ELECTION_STANDBY);
    zk_rig_close_peer(&c); /* not the leader: nothing changes for b */
    assert_int_equal(zk_rig_create(&b, "cart"), 0);
    assert_int_equal(b.role, ELECTION_LEADER);
    zk_rig_close_peer(&b);
}

static void test_a_new_leader_has_read_all_records_first(void **state)
{
    struct zk_rig_peer a, b;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "one"), 0);
    assert_int_equal(zk_rig_create(&a, "two"), 0);
    zk_rig_close_peer(&a);
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    assert_int_equal(b.records_when_leading, 2);
    zk_rig_close_peer(&b);
}

static void test_a_deposed_leader_cannot_write(void **state)
{
    struct topology_instance i = zk_rig_instance_of("cart");
    struct topology_history h = zk_rig_history_of(TOPOLOGY_HISTORY_REJOINED, 1);
    struct zk_rig_peer a, b;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_stands_by, &b);
    assert_int_equal(zk_rig_commit(&b, &i, 0, NULL), ERR_DEPOSED); /* it doesn't lead */
    assert_int_equal(zk_store_append_history(b.store, "cart", &h), ERR_DEPOSED);
    assert_int_equal(zk_rig_create(&b, "other"), ERR_DEPOSED);

    /* Somebody takes a's candidacy away; the commit is sent before a can have noticed. */
    char node[64];
    (void)snprintf(node, sizeof(node), "/election/c_%010d", 0);
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    struct zk_rig_answer deleted = {0};
    assert_int_equal(zk_delete(zk_rig_hand, node, -1, zk_rig_on_done, &deleted), 0);
    int err = 0;
    for (int n = 0; n < 1000 && err == 0; n++) {
        err = zk_rig_commit(&a, &i, n, NULL);
        i.epoch++;
    }
    assert_int_equal(err, ERR_DEPOSED);
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    ZK_RIG_AWAIT(zk_rig_stands_by, &a); /* it queues up again */
    assert_string_equal(a.leader, "b");
    zk_rig_close_peer(&b);
    zk_rig_close_peer(&a);
}

static void test_the_election_survives_a_lost_and_an_expired_session(void **state)
{
    struct zk_server *own = zk_server_start();
    struct zk_rig_peer a;
    uint64_t first_term;

    (void)state;
    (void)snprintf(zk_rig_hosts, sizeof(zk_rig_hosts), "%s/lost", zk_server_hosts(own));
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    first_term = a.term;
    zk_server_kill(own);
    ZK_RIG_AWAIT(zk_rig_is_out, &a);
    assert_string_equal(a.leader, "");
    struct topology_instance i = zk_rig_instance_of("cart");
    assert_int_equal(zk_store_commit(a.store, &i, 0, NULL, zk_rig_on_commit, &zk_rig_answer), ERR_CONNECTION);
    zk_store_reload(a.store, "cart"); /* answered once ZooKeeper is back */
    int before = a.records;
    zk_server_restart(own);
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_true(a.term == first_term || a.term > first_term);
    ZK_RIG_AWAIT_THAT(.peer = &a, .records = before + 1);
    assert_int_equal(zk_rig_commit(&a, &i, 0, NULL), 0);
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    assert_int_equal(
        zk_rig_outcome(zk_store_read_controllers(a.store, zk_rig_on_controllers, &zk_rig_answer)), 0);
    assert_int_equal(zk_rig_answer.n, 1);
    zk_rig_close_peer(&a);
    zk_server_stop(own);
}

/* ---- edges -------------------------------------------------------------------------------------------- */

/* Stopped for longer than the session may be silent: it asks before it acts, even if ZooKeeper kept its
 * place. */
static void test_a_leader_that_stood_still_asks_before_it_acts(void **state)
{
    struct topology_instance i = zk_rig_instance_of("cart");
    struct zk_rig_peer a;
    uint64_t term;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    term = a.term;
    zk_store_on_lag(a.store, ZK_RIG_TIMEOUT_MS * 1000 / 3 - 1);
    assert_int_equal(a.role, ELECTION_LEADER);
    zk_store_on_lag(a.store, ZK_RIG_TIMEOUT_MS * 1000 / 3);
    assert_int_not_equal(a.role, ELECTION_LEADER); /* at once, before anything else of this turn */
    assert_int_equal(zk_store_commit(a.store, &i, 0, NULL, zk_rig_on_commit, &zk_rig_answer), ERR_DEPOSED);
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_true(a.term == term);
    zk_rig_close_peer(&a);
}

static void test_bad_arguments(void **state)
{
    struct topology_controller self = zk_rig_self_of("bad id");
    static struct zk_rig_peer nobody;
    struct zk_store_config config = zk_rig_config(&nobody, &self);
    struct zk_store *store;

    (void)state;
    config.port_low = 2;
    config.port_high = 1;
    assert_int_equal(zk_store_open(&store, zk_rig_loop, &config), ERR_INVALID);
    self = zk_rig_self_of("a");
    assert_int_equal(zk_store_open(&store, zk_rig_loop, &config), ERR_INVALID);
    config.port_high = 3;
    config.hosts = "no-port";
    assert_int_equal(zk_store_open(&store, zk_rig_loop, &config), ERR_INVALID);
}

/* Closing with everything under way: nothing is called back, nothing leaks (the sanitizers look). */
static void test_closing_in_the_middle(void **state)
{
    struct topology_instance i = zk_rig_instance_of("cart"), j = zk_rig_instance_of("other");
    struct topology_history h = zk_rig_history_of(TOPOLOGY_HISTORY_REJOINED, 1);
    struct zk_rig_peer a;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    assert_int_equal(zk_store_commit(a.store, &i, 0, &h, zk_rig_on_commit, &zk_rig_answer), 0);
    assert_int_equal(zk_store_append_history(a.store, "cart", &h), 0);
    assert_int_equal(zk_store_create(a.store, &j, &h, zk_rig_on_create, &zk_rig_answer), 0);
    assert_int_equal(zk_store_delete(a.store, "cart", 6100, 1, zk_rig_on_done, &zk_rig_answer), 0);
    assert_int_equal(zk_store_read_history(a.store, "cart", 5, zk_rig_on_history, &zk_rig_answer), 0);
    assert_int_equal(zk_store_read_proxies(a.store, zk_rig_on_proxies, &zk_rig_answer), 0);
    zk_store_reload(a.store, "cart");
    zk_rig_close_peer(&a);
    zk_rig_open_peer(&a, "a"); /* and at once after opening */
    zk_rig_close_peer(&a);
    assert_int_equal(zk_rig_answer.calls, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ZK_RIG_TEST(test_one_leads_and_the_next_takes_over),
        ZK_RIG_TEST(test_a_new_leader_has_read_all_records_first),
        ZK_RIG_TEST(test_a_deposed_leader_cannot_write),
        ZK_RIG_TEST(test_the_election_survives_a_lost_and_an_expired_session),
        ZK_RIG_TEST(test_a_leader_that_stood_still_asks_before_it_acts),
        ZK_RIG_TEST(test_bad_arguments),
        ZK_RIG_TEST(test_closing_in_the_middle),
    };
    return cmocka_run_group_tests(tests, zk_rig_begin_group, zk_rig_end_group);
}
