/* A session through lost connections, expiry, closing at every moment, and servers that are not there. */
#include "common/log.h"
#include "tests/lib/zk_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- trouble ---------------------------------------------------------------------------------------------
 */

static void test_server_restarts_within_the_timeout(void **state)
{
    struct zk_session_config config = {NULL, 30000, zk_peer_on_state, NULL};
    struct zk_server *own = zk_server_start();
    struct zk_peer p = {.loop = loop_create(false)};
    struct zk_answer a, watched = {0}, lost = {0};
    int64_t id;

    (void)state;
    config.hosts = zk_server_hosts(own);
    config.ctx = &p;
    assert_int_equal(zk_session_open(&p.zk, p.loop, &config), 0);
    zk_peer_await_state(&p, ZK_CONNECTED);
    id = zk_session_id(p.zk);
    assert_int_equal(zk_peer_do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(zk_get(p.zk, "/election/me", zk_peer_on_watch, zk_peer_on_data, &watched), 0);
    assert_int_equal(zk_peer_await(&p, &watched), 0);

    zk_server_kill(own);
    if (zk_get(p.zk, "/election/me", zk_peer_on_watch, zk_peer_on_data, &lost) == 0)
        assert_int_equal(zk_peer_await(&p, &lost), ERR_CONNECTION);
    zk_peer_await_state(&p, ZK_SUSPENDED);
    assert_int_equal(zk_get(p.zk, "/election/me", NULL, zk_peer_on_data, &a), ERR_CONNECTION);
    zk_server_restart(own);
    zk_peer_await_state(&p, ZK_CONNECTED);
    assert_string_equal(p.states, "Csc");
    assert_true(zk_session_id(p.zk) == id);
    assert_int_equal(zk_peer_do_set(&p, "/election/me", "x", -1, &a), 0); /* the ephemeral is still ours */
    assert_true(wait_until(p.loop, zk_peer_has_fired, &watched, ZK_PEER_PATIENCE_MS));
    assert_int_equal(lost.fired, 0);
    zk_peer_end(&p);
    zk_server_stop(own);
}

/* The server starts over, and makes enough transactions to accept those who knew it before: their sessions
 * are expired. */
static void forget_all_sessions(struct zk_server *own, struct zk_peer *p)
{
    struct zk_peer other;
    struct zk_answer a;

    zk_server_kill(own);
    zk_peer_await_state(p, ZK_SUSPENDED);
    zk_server_restart_empty(own);
    zk_peer_open_at(&other, p->loop, zk_server_hosts(own));
    zk_peer_await_state(&other, ZK_CONNECTED);
    for (int i = 0; i < 40; i++)
        assert_int_equal(zk_peer_do_create(&other, "/history/e_", "", ZK_SEQUENTIAL, &a), 0);
    zk_session_close(other.zk, ZK_PEER_PATIENCE_MS);
}

static void test_expiry_opens_a_new_session(void **state)
{
    struct zk_server *own = zk_server_start();
    struct zk_peer p;
    struct zk_answer a, watched = {0};
    int64_t id;

    (void)state;
    zk_peer_open_at(&p, loop_create(false), zk_server_hosts(own));
    zk_peer_await_state(&p, ZK_CONNECTED);
    id = zk_session_id(p.zk);
    assert_int_equal(zk_peer_do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(zk_get(p.zk, "/election/me", zk_peer_on_watch, zk_peer_on_data, &watched), 0);
    assert_int_equal(zk_peer_await(&p, &watched), 0);

    forget_all_sessions(own, &p);
    zk_peer_await_state(&p, ZK_CONNECTED);
    assert_string_equal(p.states, "CseC");
    assert_true(zk_session_id(p.zk) != id);
    /* The folders were made again, the ephemeral and its watch are gone. */
    assert_int_equal(zk_peer_do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(zk_peer_do_set(&p, "/election/me", "x", -1, &a), 0);
    assert_int_equal(watched.fired, 0);
    zk_peer_end(&p);
    zk_server_stop(own);
}

static void test_closing_from_within_the_expiry(void **state)
{
    struct zk_server *own = zk_server_start();
    struct zk_peer p;

    (void)state;
    zk_peer_open_at(&p, loop_create(false), zk_server_hosts(own));
    zk_peer_await_state(&p, ZK_CONNECTED);
    p.close_on_expired = true;
    forget_all_sessions(own, &p);
    assert_true(wait_until(p.loop, zk_peer_is_closed, &p, ZK_PEER_PATIENCE_MS));
    assert_string_equal(p.states, "Cse");
    loop_destroy(p.loop);
    zk_server_stop(own);
}

/* Calls that the dying connection may or may not have carried all zk_peer_end, each exactly once. */
static void test_calls_under_way_end_when_the_connection_is_lost(void **state)
{
    enum { CALLS = 500 };
    static struct zk_answer answers[CALLS];
    struct zk_server *own = zk_server_start();
    struct zk_peer p;
    const struct zk_op op = {.kind = ZK_OP_CHECK, .path = "/instances", .version = -1};
    int sent = 0, lost = 0;

    (void)state;
    zk_peer_open_at(&p, loop_create(false), zk_server_hosts(own));
    zk_peer_await_state(&p, ZK_CONNECTED);
    zk_server_kill(own);
    for (int i = 0; i < CALLS; i++) {
        memset(&answers[i], 0, sizeof(answers[i]));
        int err = i % 2 == 0 ? zk_get(p.zk, "/instances", zk_peer_on_watch, zk_peer_on_data, &answers[i])
                             : zk_multi(p.zk, &op, 1, zk_peer_on_multi, &answers[i]);
        assert_int_equal(err, 0); /* the loop hasn't turned: it can't know yet */
        sent++;
    }
    zk_peer_await_state(&p, ZK_SUSPENDED);
    for (int i = 0; i < sent; i++)
        lost += zk_peer_await(&p, &answers[i]) == ERR_CONNECTION;
    assert_int_equal(lost, sent);
    zk_server_restart(own);
    zk_peer_await_state(&p, ZK_CONNECTED);
    for (int i = 0; i < sent; i++)
        assert_int_equal(answers[i].calls, 1);
    zk_peer_end(&p);
    zk_server_stop(own);
}

static void test_closing_with_calls_under_way(void **state)
{
    struct zk_peer p;
    struct zk_answer never = {0};

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/closing");
    for (int i = 0; i < 100; i++)
        assert_int_equal(zk_get(p.zk, "/instances", zk_peer_on_watch, zk_peer_on_data, &never), 0);
    zk_peer_end(&p);
    assert_int_equal(never.calls + never.fired, 0);
}

static void close_here(void *ctx, int err)
{
    struct zk_peer *p = ctx;

    assert_int_equal(err, 0);
    zk_session_close(p->zk, ZK_PEER_PATIENCE_MS);
    p->zk = NULL;
}

static void test_closing_from_within_an_answer(void **state)
{
    struct zk_peer p;
    struct zk_answer never = {0};

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/within");
    assert_int_equal(zk_sync(p.zk, close_here, &p), 0);
    assert_int_equal(zk_sync(p.zk, zk_peer_on_done, &never), 0);
    assert_true(wait_until(p.loop, zk_peer_is_closed, &p, ZK_PEER_PATIENCE_MS));
    loop_destroy(p.loop);
    assert_int_equal(never.calls, 0);
}

static void test_unreachable_server(void **state)
{
    char hosts[64];
    struct zk_peer p;
    struct zk_answer a = {0};
    int64_t begun_us;

    (void)state;
    (void)snprintf(hosts, sizeof(hosts), "127.0.0.1:%u", zk_server_free_port());
    zk_peer_open_at(&p, loop_create(false), hosts);
    assert_int_equal(zk_get(p.zk, "/instances", NULL, zk_peer_on_data, &a), ERR_CONNECTION);
    wait_for(p.loop, 300);
    assert_string_equal(p.states, "");
    assert_int_equal(zk_session_state(p.zk), ZK_CONNECTING);
    begun_us = loop_clock_us();
    zk_session_close(p.zk, 0); /* doesn't wait: its thread finishes by itself */
    assert_true(loop_clock_us() - begun_us < 5000000);
    loop_destroy(p.loop);
}

static void test_a_server_that_comes_up_later(void **state)
{
    struct zk_server *own = zk_server_start();
    struct zk_peer p;

    (void)state;
    zk_server_kill(own);
    zk_peer_open_at(&p, loop_create(false), zk_server_hosts(own));
    wait_for(p.loop, 100);
    zk_server_restart(own);
    zk_peer_await_state(&p, ZK_CONNECTED);
    assert_string_equal(p.states, "C");
    zk_peer_end(&p);
    zk_server_stop(own);
}

static void test_a_name_that_does_not_resolve(void **state)
{
    struct zk_peer p;

    (void)state;
    zk_peer_open_at(&p, loop_create(false), "no-such-host.invalid:2181");
    wait_for(p.loop, 100);
    assert_int_equal(zk_session_state(p.zk), ZK_CONNECTING);
    zk_peer_end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_server_restarts_within_the_timeout),
        cmocka_unit_test(test_expiry_opens_a_new_session),
        cmocka_unit_test(test_closing_from_within_the_expiry),
        cmocka_unit_test(test_calls_under_way_end_when_the_connection_is_lost),
        cmocka_unit_test(test_closing_with_calls_under_way),
        cmocka_unit_test(test_closing_from_within_an_answer),
        cmocka_unit_test(test_unreachable_server),
        cmocka_unit_test(test_a_server_that_comes_up_later),
        cmocka_unit_test(test_a_name_that_does_not_resolve),
    };

    zk_peer_server = zk_server_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    zk_server_stop(zk_peer_server);
    return failed;
}
