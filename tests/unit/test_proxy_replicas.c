/* Reads that replicas answer, with real redis-servers behind: who answers what, in which order, and that
 * nobody sees an error when a replica can't answer any more. */
#include "common/loop.h"
#include "tests/lib/proxy_rig.h"
#include "tests/lib/served.h"
#include "tests/lib/wait.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define ask   proxy_rig_ask
#define send_ proxy_rig_send
#define reply proxy_rig_reply

#define calls          served_calls
#define wait_served_by served_wait_by
#define wait_in_step   served_wait_in_step

enum { CLIENTS = 40 };

/* Another client's request is answered by the master: so the proxy has passed on all that was sent before. */
static void wait_until_seen(struct proxy_rig *r)
{
    redisContext *other = proxy_rig_connect(r);

    for (int i = 0; i < 2; i++)
        assert_string_equal(ask(other, "PING"), "PONG");
    redisFree(other);
}

/* ---- who answers ----------------------------------------------------------------------------------------
 */

static void test_reads_go_to_the_replica_and_writes_to_the_master(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k v"), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c, r.replica);
    long at_master = calls(r.master, "get"), reads = (long)proxy_rig_stats(&r).replica_reads;
    for (int i = 0; i < 20; i++) {
        assert_string_equal(ask(c, "GET k"), "v");
        assert_string_equal(ask(c, "SET other %d", i), "OK");
        assert_string_equal(ask(c, "EXISTS k"), "1");
        assert_string_equal(ask(c, "EVAL_RO %s 1 k", "return redis.call('GET', KEYS[1])"), "v");
    }
    assert_int_equal(calls(r.master, "get"), at_master);
    assert_int_equal(calls(r.master, "exists"), 0);
    assert_int_equal(calls(r.replica, "eval_ro"), 20);
    assert_int_equal(proxy_rig_stats(&r).replica_reads, reads + 60);
    assert_int_equal(proxy_rig_stats(&r).replicas, 1);
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_only_what_any_server_can_answer_goes_to_a_replica(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r);
    wait_served_by(&r, c, r.replica);
    (void)ask(c, "DBSIZE");
    (void)ask(c, "SCAN 0");
    (void)ask(c, "KEYS *");
    (void)ask(c, "PING");
    (void)ask(c, "EVAL %s 0", "return 1");
    assert_int_equal(calls(r.master, "dbsize"), 1);
    assert_int_equal(calls(r.master, "scan"), 1);
    assert_int_equal(calls(r.master, "keys"), 1);
    assert_int_equal(calls(r.master, "eval"), 1);
    assert_int_equal(calls(r.replica, "dbsize") + calls(r.replica, "scan") + calls(r.replica, "keys"), 0);
    /* Inside of a transaction the master reads. */
    long at_replica = calls(r.replica, "get");
    assert_string_equal(ask(c, "MULTI"), "OK");
    assert_string_equal(ask(c, "GET k"), "QUEUED");
    assert_string_equal(ask(c, "EXEC"), "array");
    assert_int_equal(calls(r.replica, "get"), at_replica);
    redisFree(c);
    proxy_rig_stop(&r);
}

/* A replica that is frozen after the write: its answer would be the old one. What a client has under way at
 * the master keeps what follows there, and a write waits for the reads before it. */
static void test_pipelines_of_both_answer_in_order(void **state)
{
    struct proxy_rig r;
    char text[32];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c[CLIENTS];
    for (int i = 0; i < CLIENTS; i++)
        c[i] = proxy_rig_connect(&r);
    wait_served_by(&r, c[0], r.replica);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            send_(c[i], "STRLEN k%d", i);
            send_(c[i], "ECHO e%d", round);
            send_(c[i], "SET k%d %d", i, round);
            send_(c[i], "GET none%d", i);
            send_(c[i], "INCR n%d", i);
            send_(c[i], "EXISTS none");
        }
        for (int i = 0; i < CLIENTS; i++) {
            assert_true(strlen(reply(c[i])) == 1);
            (void)snprintf(text, sizeof(text), "e%d", round);
            assert_string_equal(reply(c[i]), text);
            assert_string_equal(reply(c[i]), "OK");
            assert_string_equal(reply(c[i]), "nil");
            (void)snprintf(text, sizeof(text), "%d", round + 1);
            assert_string_equal(reply(c[i]), text);
            assert_string_equal(reply(c[i]), "0");
        }
    }
    assert_true(calls(r.replica, "strlen") > 0);
    for (int i = 0; i < CLIENTS; i++)
        redisFree(c[i]);
    proxy_rig_stop(&r);
}

static void test_a_write_waits_for_the_reads_before_it(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k old"), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c, r.replica);
    redis_server_suspend(r.replica);
    send_(c, "GET k");
    send_(c, "SET k new");
    send_(c, "GET k");
    wait_until_seen(&r);
    redis_server_resume(r.replica);
    assert_string_equal(reply(c), "old");
    assert_string_equal(reply(c), "OK");
    assert_string_equal(reply(c), "new"); /* it followed the write to the master */
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_clients_say_where_they_read(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_MASTER);
    redisContext *c = proxy_rig_connect(&r), *other = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "READONLY"), "OK");
    wait_served_by(&r, c, r.replica);
    wait_served_by(&r, other, r.master);
    assert_string_equal(ask(c, "READWRITE"), "OK");
    wait_served_by(&r, c, r.master);
    assert_string_equal(ask(c, "READONLY"), "OK");
    wait_served_by(&r, c, r.replica);
    assert_string_equal(ask(c, "RESET"), "RESET");
    wait_served_by(&r, c, r.master);
    assert_true(strstr(ask(c, "READONLY now"), "wrong number of arguments") != NULL);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    assert_string_equal(ask(c, "READWRITE"), "OK");
    wait_served_by(&r, c, r.master);
    wait_served_by(&r, other, r.replica);
    redisFree(c);
    redisFree(other);
    proxy_rig_stop(&r);
}

static void test_what_a_client_said_survives_a_promotion(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_MASTER);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "READONLY"), "OK");
    wait_served_by(&r, c, r.replica);
    proxy_rig_exchange(&r);
    r.route.n_readers = 0; /* as a controller has it: nobody is fit at first */
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    wait_served_by(&r, c, r.master);
    proxy_rig_let_read(&r, TOPOLOGY_READS_MASTER);
    wait_served_by(&r, c, r.replica);
    redisFree(c);
    proxy_rig_stop(&r);
}

static char *large_value(char letter)
{
    enum { LARGE = 100 * 1000 };
    char *value = malloc(LARGE + 1);

    assert_non_null(value);
    memset(value, letter, LARGE);
    value[LARGE] = '\0';
    return value;
}

static void check_large(redisContext *c, const char *key, const char *value)
{
    redisReply *r = redisCommand(c, "GET %s", key);

    assert_non_null(r);
    assert_string_equal(r->str, value);
    freeReplyObject(r);
}

/* Large replies come over a connection of the client's own: to the replica, as long as it only reads. */
static void test_large_replies_come_from_the_replica(void **state)
{
    struct proxy_rig r;
    char *old = large_value('o'), *new = large_value('n');

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r), *d = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET large %s", old), "OK");
    wait_in_step(&r);
    wait_served_by(&r, d, r.replica);
    long at_master = calls(r.master, "get"), at_replica = calls(r.replica, "get");
    for (int i = 0; i < 5; i++)
        check_large(d, "large", old);
    assert_int_equal(calls(r.master, "get"), at_master);
    assert_true(calls(r.replica, "get") >= at_replica + 5);
    /* Its own connection moves with what it says. */
    send_(d, "GET large");
    send_(d, "INCR n");
    send_(d, "SET large %s", new);
    send_(d, "GET large");
    redisReply *first = NULL, *last = NULL;
    assert_int_equal(redisGetReply(d, (void **)&first), REDIS_OK);
    assert_string_equal(first->str, old);
    assert_string_equal(reply(d), "1");
    assert_string_equal(reply(d), "OK");
    assert_int_equal(redisGetReply(d, (void **)&last), REDIS_OK);
    assert_string_equal(last->str, new);
    freeReplyObject(first);
    freeReplyObject(last);
    wait_in_step(&r);
    redis_server_suspend(r.replica);
    send_(d, "GET large");
    wait_until_seen(&r);
    redis_server_kill(r.replica, SIGKILL);
    assert_int_equal(redisGetReply(d, (void **)&last), REDIS_OK);
    assert_string_equal(last->str, new);
    freeReplyObject(last);
    check_large(d, "large", new);
    assert_int_equal(r.broken, 0);
    assert_int_equal(proxy_rig_stats(&r).unknown, 0);
    redisFree(c);
    redisFree(d);
    free(old);
    free(new);
    proxy_rig_stop(&r);
}

/* ---- a replica that can't answer ------------------------------------------------------------------------
 */

static void test_nobody_sees_a_replica_die(void **state)
{
    struct proxy_rig r;
    redisContext *c[CLIENTS];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    for (int i = 0; i < CLIENTS; i++)
        c[i] = proxy_rig_connect(&r);
    assert_string_equal(ask(c[0], "SET k v"), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c[0], r.replica);
    redis_server_suspend(r.replica); /* what is sent now is in flight for certain */
    for (int i = 0; i < CLIENTS; i++) {
        send_(c[i], "GET k");
        send_(c[i], "SET k%d v", i);
        send_(c[i], "GET k%d", i);
    }
    wait_until_seen(&r);
    redis_server_kill(r.replica, SIGKILL);
    for (int i = 0; i < CLIENTS; i++) {
        assert_string_equal(reply(c[i]), "v");
        assert_string_equal(reply(c[i]), "OK");
        assert_string_equal(reply(c[i]), "v");
    }
    wait_served_by(&r, c[0], r.master);
    assert_int_equal(r.broken, 0); /* the master is not in doubt */
    assert_int_equal(proxy_rig_stats(&r).unknown, 0);
    assert_true(proxy_rig_stats(&r).replayed > 0);
    redis_server_restart(r.replica, NULL);
    wait_served_by(&r, c[0], r.replica); /* it is found again without a new route */
    for (int i = 0; i < CLIENTS; i++)
        redisFree(c[i]);
    proxy_rig_stop(&r);
}

static void test_refusals_are_not_shown(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k v"), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c, r.replica);
    redis_server_do(r.replica, "CONFIG SET replica-serve-stale-data no");
    redis_server_do(r.replica, "REPLICAOF 127.0.0.1 1"); /* -MASTERDOWN */
    for (int i = 0; i < 50; i++) {
        send_(c, "GET k");
        send_(c, "STRLEN k");
        send_(c, "INCR n");
        assert_string_equal(reply(c), "v");
        assert_string_equal(reply(c), "1");
        assert_int_equal(atoi(reply(c)), i + 1);
    }
    assert_int_equal(r.broken, 0);
    redis_server_do(r.replica, "REPLICAOF %s %d", r.master->address.host, r.master->address.port);
    wait_served_by(&r, c, r.replica);
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_a_script_that_only_the_master_knows(void **state)
{
    static const char script[] = "return redis.call('GET', KEYS[1])";
    struct proxy_rig r;
    char sha[64];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k v"), "OK");
    (void)snprintf(sha, sizeof(sha), "%s", ask(c, "SCRIPT LOAD %s", script));
    wait_served_by(&r, c, r.replica);
    for (int i = 0; i < 3; i++)
        assert_string_equal(ask(c, "EVALSHA_RO %s 1 k", sha), "v");
    assert_int_equal(calls(r.master, "evalsha_ro"), 3);
    redisFree(c);
    proxy_rig_stop(&r);
}

/* Until a route says otherwise: the replica isn't what is in doubt. */
static void test_reads_go_on_while_the_master_is_in_doubt(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r), *writer = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k v"), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c, r.replica);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    send_(writer, "SET k new");
    for (int i = 0; i < 20; i++)
        assert_string_equal(ask(c, "GET k"), "v");
    r.route.n_readers = 0;
    proxy_rig_promote(&r);
    assert_string_equal(reply(writer), "OK");
    assert_string_equal(ask(c, "GET k"), "new");
    redisFree(c);
    redisFree(writer);
    proxy_rig_stop(&r);
}

/* A replica that takes no more connections: large replies, which need one of the client's own, come from the
 * master. */
static void test_a_full_replica_is_shunned(void **state)
{
    struct proxy_rig r;
    char *value = large_value('x');

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET large %s", value), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c, r.replica);
    redisContext *last = redisConnect(r.replica->address.host, r.replica->address.port);
    assert_string_equal(ask(last, "CONFIG SET maxclients 1"), "OK");
    for (int i = 0; i < 3; i++)
        check_large(c, "large", value);
    assert_string_equal(ask(last, "CONFIG SET maxclients 1000"), "OK");
    assert_true(calls(r.master, "get") > 0);
    assert_int_equal(r.broken, 0);
    redisFree(last);
    redisFree(c);
    free(value);
    proxy_rig_stop(&r);
}

/* ---- routes ---------------------------------------------------------------------------------------------
 */

static void test_a_route_takes_reads_from_a_replica(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k v"), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c, r.replica);
    redis_server_suspend(r.replica);
    send_(c, "GET k"); /* it would wait for ever */
    wait_until_seen(&r);
    r.route.n_readers = 0;
    r.route.revision++;
    proxy_rig_confirm(&r);
    assert_string_equal(reply(c), "v");
    redis_server_resume(r.replica);
    wait_served_by(&r, c, r.master);
    redisFree(c);
    proxy_rig_stop(&r);
}

/* What is read while the roles are exchanged comes from a member that the newest route lets be read, and
 * every reply is the request's own. */
static void test_reads_flow_through_a_switchover(void **state)
{
    struct proxy_rig r;
    redisContext *c[CLIENTS];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = proxy_rig_connect(&r);
        assert_string_equal(ask(c[i], "SET k%d %d", i, i), "OK");
    }
    wait_in_step(&r);
    wait_served_by(&r, c[0], r.replica);
    for (int i = 0; i < CLIENTS; i++)
        send_(c[i], "GET k%d", i);
    proxy_rig_pause(&r, WAIT_MS);
    for (int i = 0; i < CLIENTS; i++) {
        send_(c[i], "GET k%d", i);
        send_(c[i], "INCR k%d", i);
    }
    proxy_rig_wait_held(&r);
    proxy_rig_exchange(&r);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    for (int i = 0; i < CLIENTS; i++) {
        assert_int_equal(atoi(reply(c[i])), i);
        assert_int_equal(atoi(reply(c[i])), i);
        assert_int_equal(atoi(reply(c[i])), i + 1);
    }
    assert_int_equal(r.broken, 0);
    wait_served_by(&r, c[0], r.replica);
    redis_server_do(r.replica, "CONFIG RESETSTAT");
    r.route.n_readers = 0; /* the old master is ousted: from now on nothing is read there */
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    for (int i = 0; i < CLIENTS; i++)
        assert_int_equal(atoi(ask(c[i], "GET k%d", i)), i + 1);
    assert_int_equal(calls(r.replica, "get"), 0);
    for (int i = 0; i < CLIENTS; i++)
        redisFree(c[i]);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_go_to_the_replica_and_writes_to_the_master),
        cmocka_unit_test(test_only_what_any_server_can_answer_goes_to_a_replica),
        cmocka_unit_test(test_pipelines_of_both_answer_in_order),
        cmocka_unit_test(test_a_write_waits_for_the_reads_before_it),
        cmocka_unit_test(test_clients_say_where_they_read),
        cmocka_unit_test(test_large_replies_come_from_the_replica),
        cmocka_unit_test(test_what_a_client_said_survives_a_promotion),
        cmocka_unit_test(test_nobody_sees_a_replica_die),
        cmocka_unit_test(test_refusals_are_not_shown),
        cmocka_unit_test(test_a_script_that_only_the_master_knows),
        cmocka_unit_test(test_reads_go_on_while_the_master_is_in_doubt),
        cmocka_unit_test(test_a_full_replica_is_shunned),
        cmocka_unit_test(test_a_route_takes_reads_from_a_replica),
        cmocka_unit_test(test_reads_flow_through_a_switchover),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
