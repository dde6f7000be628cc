/* The data path with real redis-servers behind it: kills, promotions and demotions under clients that stay.
 */
#include "common/loop.h"
#include "tests/lib/proxy_rig.h"
#include "tests/lib/wait.h"

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define assert_begins proxy_rig_assert_begins
#define ask           proxy_rig_ask
#define send_         proxy_rig_send
#define reply         proxy_rig_reply

/* Requests that waited for a master, or were sent again: the client's own connection may be found broken only
 * when one was written to it. */
static bool one_waits(void *ctx)
{
    struct worker_stats stats = proxy_rig_stats(ctx);

    return stats.held + stats.replayed > 0;
}

static void test_a_killed_master_is_replaced_and_the_client_stays(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(c, "WAIT 1 10000"), "1");
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    assert_int_equal(r.broken_epoch, 1);
    send_(c, "GET a"); /* is held: the answer comes from the next master */
    assert_true(wait_until(r.loop, one_waits, &r, WAIT_MS));
    proxy_rig_promote(&r);
    assert_string_equal(reply(c), "1");
    assert_string_equal(ask(c, "SET b 2"), "OK");
    assert_int_equal(r.broken, 1);
    struct worker_stats stats = proxy_rig_stats(&r);
    assert_int_equal(stats.held + stats.replayed, 1);
    redisFree(c);
    proxy_rig_stop(&r);
}

/* A pipeline of reads and writes at the moment of the kill: each reply in its place. */
static void test_a_deep_pipeline_keeps_its_order_over_a_kill(void **state)
{
    enum { DEPTH = 10000 };
    struct proxy_rig r;
    unsigned unknown = 0, ok = 0;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET x y"), "OK");
    assert_string_equal(ask(c, "WAIT 1 10000"), "1");
    redis_server_suspend(r.master); /* so that many are in flight when it dies */
    for (int i = 0; i < DEPTH; i++) {
        if (i % 3 == 0)
            assert_int_equal(redisAppendCommand(c, "SET k%d v", i), REDIS_OK);
        else
            assert_int_equal(redisAppendCommand(c, "ECHO %d", i), REDIS_OK);
    }
    for (int done = 0; !done;)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    for (int i = 0; i < DEPTH; i++) {
        char want[16];
        const char *got = reply(c);
        (void)snprintf(want, sizeof(want), "%d", i);
        if (i % 3 != 0)
            assert_string_equal(got, want);
        else if (strcmp(got, "OK") == 0)
            ok++;
        else
            assert_begins(got, "MRUNKNOWN "), unknown++;
    }
    assert_int_equal(ok + unknown, (DEPTH + 2) / 3);
    assert_int_equal(proxy_rig_stats(&r).unknown, unknown);
    assert_string_equal(ask(c, "GET x"), "y");
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_transactions_over_a_kill(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *open = proxy_rig_connect(&r), *watching = proxy_rig_connect(&r);
    assert_string_equal(ask(open, "MULTI"), "OK");
    assert_string_equal(ask(open, "SET a 1"), "QUEUED");
    assert_string_equal(ask(watching, "WATCH a"), "OK");
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    assert_string_equal(ask(open, "SET b 1"), "QUEUED");
    assert_begins(ask(open, "EXEC"),
                  "EXECABORT Transaction discarded because of: the master of instance cart changed");
    assert_string_equal(ask(open, "EXISTS a b"), "0");
    assert_string_equal(ask(watching, "GET a"), "nil");
    assert_string_equal(ask(watching, "MULTI"), "OK");
    assert_string_equal(ask(watching, "SET a 2"), "QUEUED");
    assert_string_equal(ask(watching, "EXEC"), "nil");
    assert_string_equal(ask(watching, "MULTI"), "OK");
    assert_string_equal(ask(watching, "SET a 3"), "QUEUED");
    assert_string_equal(ask(watching, "EXEC"), "array");
    assert_string_equal(ask(open, "GET a"), "3");
    redisFree(open);
    redisFree(watching);
    proxy_rig_stop(&r);
}

static void test_subscribers_are_subscribed_again(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *p = proxy_rig_connect(&r);
    send_(c, "SUBSCRIBE news sport");
    assert_string_equal(reply(c), "subscribe news -");
    assert_string_equal(reply(c), "subscribe sport -");
    send_(p, "PSUBSCRIBE n*");
    assert_string_equal(reply(p), "psubscribe n* -");
    redis_server_do(r.master, "PUBLISH news one");
    assert_string_equal(reply(c), "message news one");
    assert_string_equal(reply(p), "array");
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    /* Nobody has asked for anything: they are there by themselves. */
    redisReply *number = NULL;
    for (long long n = 0; n < 2; n = number->integer) {
        freeReplyObject(number);
        number = redis_server_command(r.replica, "PUBLISH news two");
        assert_non_null(number);
    }
    freeReplyObject(number);
    assert_string_equal(reply(c), "message news two");
    send_(c, "UNSUBSCRIBE");
    for (const char *text = reply(c); strncmp(text, "unsub", 5) != 0; text = reply(c))
        assert_string_equal(text, "message news two");
    assert_memory_equal(reply(c), "unsubscribe ", 12);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redisFree(c);
    redisFree(p);
    proxy_rig_stop(&r);
}

static void test_blocked_clients_are_unblocked(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    send_(c, "BLPOP q 0");
    while (strcmp(redis_server_info(r.master, "blocked_clients"), "1") != 0)
        wait_for(r.loop, 1);
    /* A demotion: Redis itself says that nothing was taken, and closes; it is sent to the next master. */
    redis_server_do(r.master, "REPLICAOF %s %d", r.replica->address.host, r.replica->address.port);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    while (strcmp(redis_server_info(r.replica, "blocked_clients"), "1") != 0)
        wait_for(r.loop, 1);
    redis_server_do(r.replica, "LPUSH q x");
    assert_string_equal(reply(c), "array");
    send_(c, "BLPOP other 0");
    while (strcmp(redis_server_info(r.replica, "blocked_clients"), "1") != 0)
        wait_for(r.loop, 1);
    redis_server_kill(r.replica, SIGKILL);
    assert_begins(reply(c), "UNBLOCKED force unblock from blocking operation, instance state changed");
    redis_server_do(r.master, "REPLICAOF NO ONE");
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    assert_string_equal(ask(c, "PING"), "PONG");
    redisFree(c);
    proxy_rig_stop(&r);
}

/* The route still leads to a master that was demoted: nobody sees -READONLY. */
static void test_a_demoted_master_is_not_believed(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *tx = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(c, "WAIT 1 10000"), "1");
    assert_string_equal(ask(tx, "MULTI"), "OK");
    redis_server_do(r.replica, "REPLICAOF NO ONE");
    redis_server_do(r.master, "REPLICAOF %s %d", r.replica->address.host, r.replica->address.port);
    assert_string_equal(ask(tx, "INCR a"), "QUEUED");
    assert_begins(ask(tx, "EXEC"), "EXECABORT ");
    proxy_rig_wait_broken(&r, 1);
    send_(c, "INCR a");
    send_(c, "GET a");
    proxy_rig_confirm(&r); /* wrong, but harmless: doubted again, by whom that master refuses now */
    proxy_rig_wait_broken(&r, 2);
    proxy_rig_apply(&r, ROUTE_SERVING, r.replica);
    assert_string_equal(reply(c), "2");
    assert_string_equal(reply(c), "2");
    assert_string_equal(ask(tx, "INCR a"), "3");
    redisFree(c);
    redisFree(tx);
    proxy_rig_stop(&r);
}

static void test_a_hung_master_is_left_when_the_route_says_so(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *reader = proxy_rig_connect(&r), *writer = proxy_rig_connect(&r);
    assert_string_equal(ask(writer, "SET a 1"), "OK");
    assert_string_equal(ask(writer, "WAIT 1 10000"), "1");
    assert_string_equal(ask(reader, "GET a"), "1");
    redis_server_suspend(r.master);
    send_(reader, "GET a");
    send_(writer, "SET a 2");
    proxy_rig_wait_silent(&r, 1); /* half a second in flight: by now both are */
    proxy_rig_promote(&r);
    assert_string_equal(reply(reader), "1");
    assert_begins(reply(writer), "MRUNKNOWN ");
    assert_string_equal(ask(writer, "SET a 3"), "OK");
    assert_int_equal(r.broken, 0);
    redisFree(reader);
    redisFree(writer);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_stop(&r);
}

static void test_a_held_route_holds_and_then_says_no(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, 300);
    redisContext *old = proxy_rig_connect(&r);
    assert_string_equal(ask(old, "SET a 1"), "OK");
    proxy_rig_apply(&r, ROUTE_HELD, NULL);
    redisContext *new = proxy_rig_connect(&r);
    assert_begins(ask(new, "GET a"), "MRHOLD held longer than 300 ms: instance cart has no master (epoch 2)");
    assert_begins(ask(old, "GET a"), "MRHOLD held longer than 300 ms: instance cart has no master (epoch 2)");
    r.route.hold_ms = WAIT_MS; /* the route's own limit goes before */
    proxy_rig_apply(&r, ROUTE_HELD, NULL);
    send_(new, "GET a");
    send_(old, "INCR a");
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    assert_begins(reply(old), "2");
    (void)reply(new);
    assert_int_equal(proxy_rig_stats(&r).unknown, 0);
    redisFree(old);
    redisFree(new);
    proxy_rig_stop(&r);
}

static void test_the_connection_is_made_again_on_the_new_master(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SELECT 5"), "OK");
    assert_string_equal(ask(c, "CLIENT SETNAME shop"), "OK");
    const char *sha = ask(c, "SCRIPT LOAD %s", "return redis.call('GET', KEYS[1])");
    char hex[41];
    (void)snprintf(hex, sizeof(hex), "%s", sha);
    assert_string_equal(ask(c, "SET a five"), "OK");
    assert_string_equal(ask(c, "WAIT 1 10000"), "1");
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    redis_server_do(r.replica, "SCRIPT FLUSH");
    proxy_rig_promote(&r);
    assert_string_equal(ask(c, "EVALSHA %s 1 a", hex), "five");
    assert_string_equal(ask(c, "GET a"), "five");
    assert_string_equal(ask(c, "CLIENT GETNAME"), "shop");
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_a_login_that_is_refused_closes_the_client(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redis_server_do(r.master, "ACL SETUSER shop on >pw ~* +@all");
    redisContext *c = proxy_rig_connect(&r);
    /* A shared connection stays, and breaks with its master. */
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(c, "AUTH shop pw"), "OK");
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    assert_string_equal(ask(c, "GET a"), "closed");
    redisFree(c);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_killed_master_is_replaced_and_the_client_stays),
        cmocka_unit_test(test_a_deep_pipeline_keeps_its_order_over_a_kill),
        cmocka_unit_test(test_transactions_over_a_kill),
        cmocka_unit_test(test_subscribers_are_subscribed_again),
        cmocka_unit_test(test_blocked_clients_are_unblocked),
        cmocka_unit_test(test_a_demoted_master_is_not_believed),
        cmocka_unit_test(test_a_hung_master_is_left_when_the_route_says_so),
        cmocka_unit_test(test_a_held_route_holds_and_then_says_no),
        cmocka_unit_test(test_the_connection_is_made_again_on_the_new_master),
        cmocka_unit_test(test_a_login_that_is_refused_closes_the_client),
    };

    int failed = cmocka_run_group_tests_name("many sockets in a system call", tests, NULL, NULL);
    proxy_rig_plain = true;
    return failed + cmocka_run_group_tests_name("one socket in a system call", tests, NULL, NULL);
}
