/* Durability strict, with a real master and its replica behind: who waits for the replica, who doesn't, and
 * what is said when it doesn't answer, or the master is lost first. */
#include "common/loop.h"
#include "tests/lib/proxy_rig.h"
#include "tests/lib/wait.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#define assert_begins proxy_rig_assert_begins
#define ask           proxy_rig_ask
#define send_         proxy_rig_send
#define reply         proxy_rig_reply

enum { CLIENTS = 20, LARGE = 300 * 1000 };

static bool is_acknowledged(void *ctx)
{
    return strcmp(ask(ctx, "SET again 1"), "OK") == 0;
}

/* Until a write is acknowledged again. */
static void wait_acknowledged(struct proxy_rig *r, redisContext *c)
{
    assert_true(wait_until(r->loop, is_acknowledged, c, WAIT_MS));
}

struct held {
    struct proxy_rig *r;
    const struct redis_server *at;
    const char *key;
};

static bool has_key(void *ctx)
{
    const struct held *h = ctx;
    redisReply *answer = redis_server_command(h->at, "EXISTS %s", h->key);
    bool has = answer && answer->integer == 1;

    freeReplyObject(answer);
    return has;
}

/* The master has executed what sets that key; and everything that it has said was seen by the proxy. */
static void wait_executed(struct proxy_rig *r, const char *key)
{
    struct held h = {r, r->master, key};
    redisContext *other = proxy_rig_connect(r);

    assert_true(wait_until(r->loop, has_key, &h, WAIT_MS));
    for (int i = 0; i < 2; i++)
        assert_string_equal(ask(other, "ECHO x"), "x");
    redisFree(other);
}

static bool has_reply(const redisContext *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* ---- replicas answer ------------------------------------------------------------------------------------
 */

static void test_writes_are_answered_once_the_replica_has_them(void **state)
{
    struct proxy_rig r;
    char key[32];

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r);
    for (int i = 0; i < 50; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_string_equal(ask(c, "SET %s v", key), "OK");
        struct held h = {&r, r.replica, key};
        assert_true(has_key(&h));
    }
    assert_true(proxy_rig_stats(&r).batches >= 50);
    assert_int_equal(proxy_rig_stats(&r).shorts, 0);
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_every_kind_of_write_is_held_and_keeps_its_order(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r), *other = proxy_rig_connect(&r);
    for (int round = 0; round < 20; round++) {
        send_(c, "SET a %d", round);
        send_(c, "GET a");
        send_(c, "PING");
        send_(c, "MULTI");
        send_(c, "INCR n");
        send_(c, "GET a");
        send_(c, "EXEC");
        send_(c, "EVAL %s 1 s", "return redis.call('INCR', KEYS[1])");
        send_(c, "RPUSH q x");
        send_(c, "BLPOP q 0");
        send_(c, "MGET a n");
        send_(c, "SETT a");
        char text[16];
        snprintf(text, sizeof(text), "%d", round);
        assert_string_equal(reply(c), "OK");
        assert_string_equal(reply(c), text);
        assert_string_equal(reply(c), "PONG");
        assert_string_equal(reply(c), "OK");
        assert_string_equal(reply(c), "QUEUED");
        assert_string_equal(reply(c), "QUEUED");
        assert_string_equal(reply(c), "array");
        snprintf(text, sizeof(text), "%d", round + 1);
        assert_string_equal(reply(c), text);
        assert_string_equal(reply(c), "1");
        assert_string_equal(reply(c), "array");
        assert_string_equal(reply(c), "array");
        assert_begins(reply(c), "ERR unknown command");
        assert_string_equal(ask(other, "GET n"), text);
    }
    redisFree(c);
    redisFree(other);
    proxy_rig_stop(&r);
}

static void test_many_clients_share_the_acknowledgements(void **state)
{
    struct proxy_rig r;
    redisContext *c[CLIENTS];

    (void)state;
    proxy_rig_start_strict(&r);
    for (int i = 0; i < CLIENTS; i++)
        c[i] = proxy_rig_connect(&r);
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < CLIENTS; i++) {
            send_(c[i], "SET k%d %d", i, round);
            send_(c[i], "GET k%d", i);
            send_(c[i], "STRLEN other");
        }
        for (int i = 0; i < CLIENTS; i++) {
            char text[16];
            snprintf(text, sizeof(text), "%d", round);
            assert_string_equal(reply(c[i]), "OK");
            assert_string_equal(reply(c[i]), text);
            assert_string_equal(reply(c[i]), "0");
        }
    }
    uint64_t batches = proxy_rig_stats(&r).batches;
    assert_true(batches >= 50 && batches < 50 * CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        redisFree(c[i]);
    proxy_rig_stop(&r);
}

/* ---- replicas don't -------------------------------------------------------------------------------------
 */

static void test_without_acknowledgement_it_is_said_so_and_only_reads_of_it_wait(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r), *reader = proxy_rig_connect(&r), *other = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "MSET b 1 c 2"), "OK");
    redis_server_suspend(r.replica);
    send_(c, "SET a 1");
    wait_executed(&r, "a");
    send_(reader, "GET a");
    assert_string_equal(ask(other, "GET b"), "1");
    assert_string_equal(ask(other, "MGET b c"), "array");
    assert_string_equal(ask(other, "PING"), "PONG");
    assert_string_equal(ask(other, "PUBLISH channel x"), "0");
    assert_false(has_reply(c));
    assert_false(has_reply(reader));
    assert_begins(reply(c), "MRDURABILITY applied on the master of instance cart, but only 0 of 1 replicas");
    assert_begins(reply(reader), "MRDURABILITY what this read would tell");
    /* It stays so for whoever asks later; what others have written long ago doesn't. */
    assert_begins(ask(other, "GET a"), "MRDURABILITY ");
    assert_begins(ask(other, "KEYS *"), "MRDURABILITY ");
    assert_string_equal(ask(other, "GET c"), "2");
    assert_string_equal(ask(c, "PING"), "PONG");
    assert_int_equal(proxy_rig_stats(&r).shorts, 4);
    redis_server_resume(r.replica);
    wait_acknowledged(&r, c);
    assert_string_equal(ask(other, "GET a"), "1");
    assert_string_equal(ask(other, "DBSIZE"), "4");
    redisFree(c);
    redisFree(reader);
    redisFree(other);
    proxy_rig_stop(&r);
}

static void test_connections_of_their_own_are_told_the_same(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r), *blocked = proxy_rig_connect(&r);
    send_(blocked, "BLPOP q 0");
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redis_server_suspend(r.replica);
    send_(c, "MULTI");
    send_(c, "INCR a");
    send_(c, "EXEC");
    send_(c, "PING");
    send_(c, "EVAL %s 0", "redis.call('RPUSH', 'q', 'x') return 7");
    send_(c, "MULTI");
    send_(c, "GET b");
    send_(c, "EXEC");
    assert_string_equal(reply(c), "OK");
    assert_string_equal(reply(c), "QUEUED");
    assert_begins(reply(c), "MRDURABILITY applied");
    assert_string_equal(reply(c), "PONG");
    assert_begins(reply(c), "MRDURABILITY applied");
    assert_string_equal(reply(c), "OK");
    assert_string_equal(reply(c), "QUEUED");
    assert_begins(reply(c), "MRDURABILITY what");
    assert_begins(reply(blocked), "MRDURABILITY applied");
    redis_server_resume(r.replica);
    wait_acknowledged(&r, c);
    assert_string_equal(ask(blocked, "LLEN q"), "0");
    redisFree(c);
    redisFree(blocked);
    proxy_rig_stop(&r);
}

static void test_large_replies_wait_too(void **state)
{
    struct proxy_rig r;
    static char large[LARGE];

    (void)state;
    proxy_rig_start_strict(&r);
    memset(large, 'x', sizeof(large));
    redisContext *c = proxy_rig_connect(&r), *sharing = proxy_rig_connect(&r);
    for (int round = 0; round < 2; round++) {
        assert_string_equal(ask(c, "SET big %b", large, sizeof(large)), "OK");
        assert_string_equal(ask(c, "SET large %b", large, sizeof(large)), "OK");
        assert_string_equal(ask(c, "SET middle %b", large, (size_t)60000), "OK");
        if (round == 1)
            redis_server_suspend(r.replica);
        send_(c, "GETDEL big");
        send_(c, "ECHO end");
        send_(sharing, "GETDEL middle");
        send_(sharing, "GETDEL large");
        send_(sharing, "ECHO end");
        redisReply *answers[3];
        for (int i = 0; i < 3; i++)
            assert_int_equal(redisGetReply(i == 0 ? c : sharing, (void **)&answers[i]), REDIS_OK);
        assert_string_equal(reply(c), "end");
        assert_string_equal(reply(sharing), "end");
        for (int i = 0; i < 3; i++) {
            if (round == 1)
                assert_begins(answers[i]->str, "MRDURABILITY applied");
            else
                assert_int_equal(answers[i]->len, i == 1 ? 60000 : LARGE);
            freeReplyObject(answers[i]);
        }
    }
    redis_server_resume(r.replica);
    redisFree(c);
    redisFree(sharing);
    proxy_rig_stop(&r);
}

/* ---- the master is lost ---------------------------------------------------------------------------------
 */

/* A shared one, a reader of it, one of its own in a transaction: each with a reply that is held. */
static void hold_some(struct proxy_rig *r, redisContext *c[4])
{
    for (int i = 0; i < 4; i++)
        c[i] = proxy_rig_connect(r);
    assert_string_equal(ask(c[0], "SET old 1"), "OK");
    assert_string_equal(ask(c[2], "WATCH old"), "OK");
    assert_string_equal(ask(c[2], "UNWATCH"), "OK");
    redis_server_suspend(r->replica);
    send_(c[0], "SET a 1");
    send_(c[0], "GET old");
    send_(c[2], "MULTI");
    send_(c[2], "SET b 1");
    send_(c[2], "EXEC");
    send_(c[2], "GET old");
    wait_executed(r, "a");
    wait_executed(r, "b");
    send_(c[1], "GET a");
    send_(c[3], "GET old");
    assert_string_equal(reply(c[3]), "1");
    assert_false(has_reply(c[0]));
    assert_false(has_reply(c[1]));
}

static void check_lost(redisContext *c[4])
{
    assert_begins(reply(c[0]), "MRUNKNOWN executed on the master of instance cart, which was lost");
    assert_string_equal(reply(c[0]), "1");
    assert_string_equal(reply(c[1]), "nil"); /* what the new master has */
    assert_string_equal(reply(c[2]), "OK");
    assert_string_equal(reply(c[2]), "QUEUED");
    assert_begins(reply(c[2]), "MRUNKNOWN ");
    assert_string_equal(reply(c[2]), "1");
    for (int i = 0; i < 4; i++)
        redisFree(c[i]);
}

static void test_what_is_held_is_never_passed_on_when_the_master_dies(void **state)
{
    struct proxy_rig r;
    redisContext *c[4];

    (void)state;
    proxy_rig_start_strict(&r);
    hold_some(&r, c);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    redis_server_kill(r.replica, SIGKILL); /* what its kernel has of the old master must not count */
    redis_server_restart(r.replica, NULL);
    redis_server_do(r.replica, "SET old 1");
    r.route.acks = 0;
    r.route.durability = TOPOLOGY_ASYNC;
    proxy_rig_promote(&r);
    check_lost(c);
    proxy_rig_stop(&r);
}

static void test_what_is_held_is_never_passed_on_when_the_route_leads_elsewhere(void **state)
{
    struct proxy_rig r;
    redisContext *c[4];
    struct redis_server *other = redis_server_start(NULL);

    (void)state;
    proxy_rig_start_strict(&r);
    hold_some(&r, c);
    redis_server_do(other, "SET old 1");
    proxy_rig_apply(&r, ROUTE_HELD, NULL);
    redis_server_resume(r.replica); /* too late: the old master's word counts no more */
    r.route.durability = TOPOLOGY_ASYNC;
    proxy_rig_apply(&r, ROUTE_SERVING, other);
    check_lost(c);
    redis_server_stop(other);
    proxy_rig_stop(&r);
}

static void test_acknowledgements_come_from_the_next_master_then(void **state)
{
    struct proxy_rig r;
    struct redis_server *third = redis_server_start(NULL);

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redis_server_do(third, "REPLICAOF %s %d", r.replica->address.host, r.replica->address.port);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    wait_acknowledged(&r, c);
    assert_string_equal(ask(c, "GET a"), "1");
    struct held h = {&r, third, "again"};
    assert_true(has_key(&h));
    redisFree(c);
    redis_server_stop(third);
    proxy_rig_stop(&r);
}

/* The process at the master's address is another one, which the replica follows: its word is about its own
 * history.
 */
static void test_a_process_that_comes_back_confirms_nothing_of_the_one_before(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r), *own = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redis_server_suspend(r.replica);
    send_(c, "SET b 1");
    send_(own, "EVAL %s 0", "return redis.call('SET', 'c', 1)");
    wait_executed(&r, "b");
    wait_executed(&r, "c");
    redis_server_kill(r.master, SIGKILL);
    redis_server_restart(r.master, NULL);
    redis_server_resume(r.replica);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_confirm(&r);
    assert_begins(reply(c), "MRUNKNOWN ");
    assert_begins(reply(own), "MRUNKNOWN ");
    wait_acknowledged(&r, c);
    assert_string_equal(ask(c, "EXISTS a b c"), "0");
    redisFree(c);
    redisFree(own);
    proxy_rig_stop(&r);
}

static void test_a_lost_ack_connection_is_as_a_lost_master(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redis_server_suspend(r.replica);
    send_(c, "SET a 2");
    wait_executed(&r, "a");
    redis_server_do(r.master, "CLIENT KILL TYPE normal SKIPME yes");
    proxy_rig_wait_broken(&r, 1);
    assert_begins(reply(c), "MRUNKNOWN ");
    redis_server_resume(r.replica);
    proxy_rig_confirm(&r);
    wait_acknowledged(&r, c);
    assert_string_equal(ask(c, "GET a"), "2");
    redisFree(c);
    proxy_rig_stop(&r);
}

/* ---- policy, switchover, users --------------------------------------------------------------------------
 */

static void test_switched_live_between_async_and_strict(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *own = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(own, "MULTI"), "OK");
    proxy_rig_be_strict(&r, 1);
    assert_string_equal(ask(c, "SET a 2"), "OK");
    assert_string_equal(ask(own, "SET b 1"), "QUEUED");
    redis_server_suspend(r.replica);
    assert_begins(ask(own, "EXEC"), "MRDURABILITY ");
    send_(c, "SET a 3");
    wait_executed(&r, "a");
    assert_false(has_reply(c));
    proxy_rig_be_strict(&r, 0);
    send_(c, "SET a 4"); /* answered at once, but behind the one before */
    redis_server_resume(r.replica);
    assert_string_equal(reply(c), "OK");
    assert_string_equal(reply(c), "OK");
    redis_server_suspend(r.replica);
    assert_string_equal(ask(c, "SET a 5"), "OK");
    assert_string_equal(ask(own, "GET a"), "5");
    redis_server_resume(r.replica);
    redisFree(c);
    redisFree(own);
    proxy_rig_stop(&r);
}

static void test_the_end_of_the_proxy_waits_for_what_is_held(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redis_server_suspend(r.replica);
    send_(c, "SET b 1");
    wait_executed(&r, "b");
    proxy_rig_wait_drained(&r);
    assert_begins(reply(c), "MRDURABILITY ");
    assert_string_equal(reply(c), "closed");
    redis_server_resume(r.replica);
    redisFree(c);
    proxy_rig_stop(&r);
}

static bool nobody_waits(void *ctx)
{
    (void)ctx;
    return false;
}

static void test_a_switchover_waits_for_what_is_held(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r), *own = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redis_server_suspend(r.replica);
    send_(c, "SET b 2");
    send_(own, "EVAL %s 0", "redis.call('SET', 'c', 3) return 3");
    wait_executed(&r, "b");
    wait_executed(&r, "c");
    proxy_rig_pause(&r, 10000);
    (void)wait_until(r.loop, nobody_waits, NULL, 100);
    assert_int_equal(r.n_held, 0);
    redis_server_resume(r.replica);
    proxy_rig_wait_held(&r);
    assert_string_equal(reply(c), "OK");
    assert_string_equal(reply(own), "3");
    send_(c, "GET b");
    proxy_rig_exchange(&r);
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    assert_string_equal(reply(c), "2");
    wait_acknowledged(&r, c);
    assert_int_equal(proxy_rig_stats(&r).unknown, 0);
    redisFree(c);
    redisFree(own);
    proxy_rig_stop(&r);
}

static void test_who_may_publish_acknowledges_for_all(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redis_server_do(r.master, "ACL SETUSER writer on >w ~* +@all -publish");
    redis_server_do(r.master, "ACL SETUSER app on >a ~* &* +@all");
    redis_server_do(r.master, "ACL SETUSER default on >d");
    redis_server_do(r.replica, "CONFIG SET masterauth d");
    redisContext *writer = proxy_rig_connect(&r), *app = proxy_rig_connect(&r);
    assert_begins(ask(writer, "SET a 1"), "NOAUTH ");
    assert_string_equal(ask(writer, "AUTH writer w"), "OK");
    assert_begins(ask(writer, "SET a 1"), "MRDURABILITY "); /* it may not, and nobody else is here */
    assert_string_equal(ask(app, "AUTH app a"), "OK");
    assert_string_equal(ask(app, "SET b 1"), "OK");
    assert_string_equal(ask(writer, "SET a 2"), "OK");
    redisFree(writer);
    redisFree(app);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writes_are_answered_once_the_replica_has_them),
        cmocka_unit_test(test_every_kind_of_write_is_held_and_keeps_its_order),
        cmocka_unit_test(test_many_clients_share_the_acknowledgements),
        cmocka_unit_test(test_without_acknowledgement_it_is_said_so_and_only_reads_of_it_wait),
        cmocka_unit_test(test_connections_of_their_own_are_told_the_same),
        cmocka_unit_test(test_large_replies_wait_too),
        cmocka_unit_test(test_what_is_held_is_never_passed_on_when_the_master_dies),
        cmocka_unit_test(test_what_is_held_is_never_passed_on_when_the_route_leads_elsewhere),
        cmocka_unit_test(test_acknowledgements_come_from_the_next_master_then),
        cmocka_unit_test(test_a_process_that_comes_back_confirms_nothing_of_the_one_before),
        cmocka_unit_test(test_a_lost_ack_connection_is_as_a_lost_master),
        cmocka_unit_test(test_switched_live_between_async_and_strict),
        cmocka_unit_test(test_the_end_of_the_proxy_waits_for_what_is_held),
        cmocka_unit_test(test_a_switchover_waits_for_what_is_held),
        cmocka_unit_test(test_who_may_publish_acknowledges_for_all),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
