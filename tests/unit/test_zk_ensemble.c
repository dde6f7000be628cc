/* The controllers' store on an ensemble of three: one server down, the quorum lost, the quorum back. */
#include "tests/lib/zk_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

enum { SESSION_MS = 3000, SLACK_MS = 500 };

static struct zk_server *servers[ZK_SERVER_ENSEMBLE];
static struct zk_rig_peer a, b;

static void open_peer(struct zk_rig_peer *p, const char *id)
{
    struct topology_controller self = zk_rig_self_of(id);
    struct zk_store_config config = zk_rig_config(p, &self);

    config.session_timeout_ms = SESSION_MS;
    memset(p, 0, sizeof(*p));
    assert_int_equal(zk_store_open(&p->store, zk_rig_loop, &config), 0);
}

static int begin(void **state)
{
    (void)state;
    zk_rig_loop = loop_create(false);
    zk_server_start_ensemble(servers);
    (void)snprintf(zk_rig_hosts, sizeof(zk_rig_hosts), "%s,%s,%s/mr", zk_server_hosts(servers[0]),
                   zk_server_hosts(servers[1]), zk_server_hosts(servers[2]));
    open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_stands_by, &b);
    return 0;
}

static int end(void **state)
{
    (void)state;
    zk_rig_close_peer(&a);
    zk_rig_close_peer(&b);
    for (int k = 0; k < ZK_SERVER_ENSEMBLE; k++)
        zk_server_stop(servers[k]);
    loop_destroy(zk_rig_loop);
    return 0;
}

static struct zk_rig_peer *leader(void)
{
    return a.role == ELECTION_LEADER ? &a : b.role == ELECTION_LEADER ? &b : NULL;
}

static bool one_leads(void *ctx)
{
    (void)ctx;
    return (a.role == ELECTION_LEADER) != (b.role == ELECTION_LEADER);
}

static bool nobody_leads(void *ctx)
{
    (void)ctx;
    return leader() == NULL;
}

/* A connection to a server that goes is made to another one: what is under way meanwhile may fail. */
static bool commits(void *ctx)
{
    struct topology_instance i = zk_rig_instance_of("cart");

    i.epoch = *(uint64_t *)ctx;
    return one_leads(NULL) && zk_rig_commit(leader(), &i, leader()->last_version, NULL) == 0;
}

static void commit_epoch(uint64_t epoch)
{
    ZK_RIG_AWAIT(commits, &epoch);
    ZK_RIG_AWAIT_THAT(.peer = &a, .epoch = epoch);
    ZK_RIG_AWAIT_THAT(.peer = &b, .epoch = epoch);
}

static void test_one_server_down(void **state)
{
    (void)state;
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    ZK_RIG_AWAIT_THAT(.peer = &b, .records = 1);
    for (int k = 0; k < ZK_SERVER_ENSEMBLE; k++) { /* each of them: one is the ensemble's leader */
        zk_server_kill(servers[k]);
        commit_epoch((uint64_t)k + 2);
        zk_server_restart(servers[k]);
    }
    commit_epoch(5);
}

static void test_the_quorum_is_lost_and_comes_back(void **state)
{
    struct topology_instance i = zk_rig_instance_of("cart");

    (void)state;
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    ZK_RIG_AWAIT_THAT(.peer = &b, .records = 1);
    zk_server_kill(servers[0]);
    commit_epoch(2);
    struct zk_rig_peer *last = leader();
    int64_t before_us = loop_clock_us();
    zk_server_kill(servers[1]);
    ZK_RIG_AWAIT(nobody_leads, NULL);
    int64_t took_ms = (loop_clock_us() - before_us) / 1000;
    print_message("stepped down after %lld ms, session timeout %d ms\n", (long long)took_ms, SESSION_MS);
    assert_in_range(took_ms, 0, SESSION_MS * 2 / 3 + SLACK_MS);
    i.epoch = 3;
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    int err = zk_rig_commit(last, &i, last->last_version, NULL); /* out of touch, or knows that it was */
    assert_true(err == ERR_CONNECTION || err == ERR_DEPOSED);
    wait_for(zk_rig_loop, SESSION_MS + 500); /* nor does anybody when the sessions would be over */
    assert_true(nobody_leads(NULL));
    assert_int_equal(a.last.epoch, 2);

    zk_server_relaunch(servers[1]);
    ZK_RIG_AWAIT(one_leads, NULL);
    assert_int_equal(leader()->last.epoch, 2); /* nothing is lost, nothing was slipped in */
    assert_string_equal(leader()->last.name, "cart");
    commit_epoch(3);
    zk_server_restart(servers[0]);
    commit_epoch(4);
}

/* Nothing breaks, nobody answers: only the clock tells. */
static void test_the_servers_fall_silent(void **state)
{
    (void)state;
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    int64_t before_us = loop_clock_us();
    for (int k = 0; k < ZK_SERVER_ENSEMBLE; k++)
        zk_server_suspend(servers[k]);
    ZK_RIG_AWAIT(nobody_leads, NULL);
    int64_t took_ms = (loop_clock_us() - before_us) / 1000;
    print_message("stepped down after %lld ms of silence, session timeout %d ms\n", (long long)took_ms,
                  SESSION_MS);
    assert_in_range(took_ms, 0, SESSION_MS * 2 / 3 + SLACK_MS);
    for (int k = 0; k < ZK_SERVER_ENSEMBLE; k++)
        zk_server_resume(servers[k]);
    ZK_RIG_AWAIT(one_leads, NULL);
    commit_epoch(2);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_one_server_down),
        TEST(test_the_quorum_is_lost_and_comes_back),
        TEST(test_the_servers_fall_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
