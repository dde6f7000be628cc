/* Clients that ask for large replies, with a real redis-server: how many at once, and what becomes of those
 * who wait when the master is lost. */
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

#include <cmocka.h>

#define ask   proxy_rig_ask
#define send_ proxy_rig_send

enum { MIB = 1024 * 1024, WHO = 10, AT_ONCE = 4 /* WINDOW_BYTES of it */ };

#define COUNTS "EVAL %s 0", "redis.call('incr','n') return redis.call('get','big')"

/* The next reply: true when it is the whole value, false when its outcome is unknown. */
static bool is_answered(redisContext *c)
{
    redisReply *reply = NULL;

    assert_int_equal(redisGetReply(c, (void **)&reply), REDIS_OK);
    bool answered = reply->type == REDIS_REPLY_STRING;
    if (answered)
        assert_int_equal(reply->len, MIB - 1);
    else
        proxy_rig_assert_begins(reply->str, "MRUNKNOWN ");
    freeReplyObject(reply);
    return answered;
}

static bool is_replicated(void *ctx)
{
    const struct proxy_rig *r = ctx;
    redisReply *reply = redis_server_command(r->replica, "STRLEN big");
    bool is = reply && reply->integer == MIB - 1;

    freeReplyObject(reply);
    return is;
}

/* All ask, and are answered: each has a connection of its own for a while, as long as nobody takes a second.
 */
static void all_read(redisContext **who, int n)
{
    for (int i = 0; i < n; i++)
        send_(who[i], "GET big");
    for (int i = 0; i < n; i++)
        assert_true(is_answered(who[i]));
}

static void start(struct proxy_rig *r, redisContext **who, int n)
{
    char *value = calloc(1, MIB);

    assert_non_null(value);
    proxy_rig_start(r, WAIT_MS);
    memset(value, 'v', MIB - 1);
    redis_server_do(r->master, "SET big %s", value);
    free(value);
    assert_true(wait_until(r->loop, is_replicated, r, WAIT_MS));
    for (int i = 0; i < n; i++)
        who[i] = proxy_rig_connect(r);
    all_read(who, n);
}

static void stop(struct proxy_rig *r, redisContext **who, int n)
{
    for (int i = 0; i < n; i++)
        redisFree(who[i]);
    proxy_rig_stop(r);
}

/* Connections to the master that clients have for themselves, or share. */
static uint64_t masters(struct proxy_rig *r)
{
    return proxy_rig_stats(r).masters;
}

/* Sends them all the script while the master is stopped; returns when the proxy has read that. */
static void ask_a_stopped_master(struct proxy_rig *r, redisContext **who)
{
    all_read(who, WHO);
    uint64_t bytes = proxy_rig_stats(r).received_bytes;
    redis_server_suspend(r->master);
    for (int i = 0; i < WHO; i++)
        bytes += send_(who[i], COUNTS);
    proxy_rig_wait_received(r, bytes);
}

static void test_all_have_their_turn(void **state)
{
    struct proxy_rig r;
    redisContext *who[WHO];

    (void)state;
    start(&r, who, WHO);
    for (int round = 0; round < 5; round++) {
        ask_a_stopped_master(&r, who);
        redis_server_resume(r.master);
        for (int i = 0; i < WHO; i++)
            assert_true(is_answered(who[i]));
    }
    assert_string_equal(ask(who[0], "GET n"), "50");
    assert_int_equal(proxy_rig_stats(&r).unknown, 0);
    stop(&r, who, WHO);
}

/* Those who waited had asked nothing yet: the next master is asked, and answers. */
static void test_who_waits_is_answered_by_the_next_master(void **state)
{
    struct proxy_rig r;
    redisContext *who[WHO];
    int unknown = 0;

    (void)state;
    start(&r, who, WHO);
    ask_a_stopped_master(&r, who);
    proxy_rig_promote(&r);
    for (int i = 0; i < WHO; i++)
        unknown += !is_answered(who[i]);
    assert_int_equal(unknown, AT_ONCE);
    assert_string_equal(ask(who[0], "GET n"), "6"); /* of the rest */
    redis_server_resume(r.master);
    stop(&r, who, WHO);
}

/* One that goes leaves its place to the next. */
static void test_a_client_that_leaves_gives_its_place_back(void **state)
{
    struct proxy_rig r;
    redisContext *who[WHO];

    (void)state;
    start(&r, who, WHO);
    ask_a_stopped_master(&r, who);
    for (int i = 0; i < WHO - 1; i++) {
        redisFree(who[i]);
        who[i] = NULL;
    }
    redis_server_resume(r.master);
    assert_true(is_answered(who[WHO - 1]));
    stop(&r, who, WHO);
}

/* What is blocked in Redis, or says nothing, takes no place from those who read. */
static void test_who_waits_in_redis_has_no_place(void **state)
{
    struct proxy_rig r;
    redisContext *who[WHO];

    (void)state;
    start(&r, who, WHO);
    for (int i = 0; i < WHO - 1; i++) {
        if (i % 2)
            send_(who[i], "BLPOP list%d 0", i);
        else
            send_(who[i], "CLIENT REPLY OFF");
    }
    for (int round = 0; round < 3; round++)
        all_read(&who[WHO - 1], 1);
    stop(&r, who, WHO);
}

/* More than is read in a turn, from each of many: all of it is read, in whichever turn. */
static void test_much_from_many_at_once(void **state)
{
    enum { CROWD = 60, EACH = 20, VALUE = 4000 };
    struct proxy_rig r;
    redisContext *who[CROWD];
    static char value[VALUE + 1];

    (void)state;
    memset(value, 'w', VALUE);
    proxy_rig_start(&r, WAIT_MS);
    for (int i = 0; i < CROWD; i++) {
        who[i] = proxy_rig_connect(&r);
        assert_string_equal(ask(who[i], "PING"), "PONG");
    }
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < CROWD; i++)
            for (int k = 0; k < EACH; k++)
                assert_int_equal(redisAppendCommand(who[i], "APPEND k%d %s", i, value), REDIS_OK);
        for (int i = 0, done = 0; i < CROWD; i += done)
            assert_int_equal(redisBufferWrite(who[i], &done), REDIS_OK);
        for (int i = 0; i < CROWD; i++)
            for (int k = 1; k <= EACH; k++)
                assert_int_equal(strtol(proxy_rig_reply(who[i]), NULL, 10), VALUE * (round * EACH + k));
    }
    for (int i = 0; i < CROWD; i++)
        redisFree(who[i]);
    proxy_rig_stop(&r);
}

/* What is known to have a large reply is asked for on a connection of its client's own at once; when it has
 * become small, that is learnt, too. */
static void test_nobody_asks_twice_for_what_is_known_to_be_large(void **state)
{
    struct proxy_rig r;
    redisContext *who[1];

    (void)state;
    start(&r, who, 1);
    all_read(&who[0], 1); /* from here on */
    uint64_t before = masters(&r), replayed = proxy_rig_stats(&r).replayed;
    redisContext *one = proxy_rig_connect(&r), *two = proxy_rig_connect(&r);
    assert_string_equal(ask(one, "EXISTS big"), "1");
    assert_int_equal(masters(&r), before); /* it shares for that */
    all_read(&one, 1);
    all_read(&two, 1);
    assert_int_equal(masters(&r), before + 2);
    assert_int_equal(proxy_rig_stats(&r).replayed, replayed);
    redis_server_do(r.master, "SET big 1");
    redisContext *three = proxy_rig_connect(&r), *four = proxy_rig_connect(&r);
    assert_string_equal(ask(three, "GET big"), "1");
    assert_int_equal(masters(&r), before + 3);
    assert_string_equal(ask(four, "GET big"), "1");
    assert_int_equal(masters(&r), before + 3);
    redisFree(one);
    redisFree(two);
    redisFree(three);
    redisFree(four);
    stop(&r, who, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_have_their_turn),
        cmocka_unit_test(test_who_waits_is_answered_by_the_next_master),
        cmocka_unit_test(test_a_client_that_leaves_gives_its_place_back),
        cmocka_unit_test(test_who_waits_in_redis_has_no_place),
        cmocka_unit_test(test_much_from_many_at_once),
        cmocka_unit_test(test_nobody_asks_twice_for_what_is_known_to_be_large),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
