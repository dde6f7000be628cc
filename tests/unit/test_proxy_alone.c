/* Durability strict, when a client is alone: its acknowledgement is asked for on the connection that its
 * requests take. With a real master and its replica behind. */
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

enum { DEEP = 500 };

static bool has_reply(const redisContext *c)
{
    char byte;

    return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

/* Hears all that the master is told from now on. */
static redisContext *listen_in(const struct proxy_rig *r)
{
    redisContext *c = redisConnect(r->master->address.host, r->master->address.port);

    assert_true(c && !c->err);
    assert_string_equal(ask(c, "MONITOR"), "OK");
    return c;
}

/* Of what was published until now: how much came from `own` (the first that did, if that is empty yet), how
 * much over other connections. */
static void count_published(const struct proxy_rig *r, redisContext *listener, char own[64], unsigned n[2])
{
    char from[64];

    n[0] = n[1] = 0;
    redis_server_do(r->master, "ECHO until-now");
    for (const char *text = reply(listener); !strstr(text, "until-now"); text = reply(listener)) {
        if (!strstr(text, "\"PUBLISH\""))
            continue;
        assert_int_equal(sscanf(text, "%*s [0 %63[^]]", from), 1);
        if (own[0] == '\0')
            snprintf(own, sizeof(from), "%s", from);
        n[strcmp(own, from) != 0]++;
    }
}

/* The master's number of the only connection that waits for replicas; 0: there is none. */
static unsigned long waiting_id(const struct proxy_rig *r)
{
    redisReply *list = redis_server_command(r->master, "CLIENT LIST TYPE normal");
    char *rest = NULL;
    unsigned long id = 0;

    assert_true(list && list->str);
    for (const char *row = strtok_r(list->str, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest)) {
        if (!strstr(row, " flags=b ") || !strstr(row, " cmd=wait "))
            continue;
        assert_int_equal(id, 0);
        id = strtoul(row + strlen("id="), NULL, 10);
    }
    freeReplyObject(list);
    return id;
}

static bool waits(void *ctx)
{
    return waiting_id(ctx) > 0;
}

static bool is_acknowledged(void *ctx)
{
    return strcmp(ask(ctx, "SET again 1"), "OK") == 0;
}

static bool has_key(const struct redis_server *s, const char *key)
{
    redisReply *answer = redis_server_command(s, "EXISTS %s", key);
    bool has = answer && answer->integer == 1;

    freeReplyObject(answer);
    return has;
}

/* A client is alone, and its SET of "a" waits for a replica that stands still; "b" is 1. */
static redisContext *begin_waiting(struct proxy_rig *r)
{
    proxy_rig_start_strict(r);
    redisContext *c = proxy_rig_connect(r);
    assert_string_equal(ask(c, "SET b 1"), "OK");
    redis_server_suspend(r->replica);
    send_(c, "SET a 1");
    assert_true(wait_until(r->loop, waits, r, WAIT_MS));
    return c;
}

static void test_alone_nothing_but_its_own_connection_is_asked(void **state)
{
    struct proxy_rig r;
    char key[32], own[64] = "";
    unsigned published[2];

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET first 1"), "OK"); /* once all connections are there */
    uint64_t before = proxy_rig_stats(&r).batches;
    redisContext *listener = listen_in(&r);
    for (int i = 0; i < 20; i++) {
        snprintf(key, sizeof(key), "k%d", i);
        assert_string_equal(ask(c, "SET %s v", key), "OK");
        assert_true(has_key(r.replica, key));
        assert_string_equal(ask(c, "GET %s", key), "v");
        assert_string_equal(ask(c, "DEL none"), "0");
    }
    assert_int_equal(proxy_rig_stats(&r).batches - before, 40);
    count_published(&r, listener, own, published);
    assert_int_equal(published[0], 40);
    assert_int_equal(published[1], 0);
    redisContext *second = proxy_rig_connect(&r);
    assert_string_equal(ask(second, "PING"), "PONG");
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(second, "SET b 1"), "OK");
    count_published(&r, listener, own, published);
    assert_int_equal(published[0], 0);
    assert_int_equal(published[1], 2);
    redisFree(second);
    redisFree(listener);
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_alone_it_may_send_many_at_once(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_strict(&r);
    redisContext *c = proxy_rig_connect(&r);
    for (int i = 0; i < DEEP; i++) {
        send_(c, "INCR n");
        send_(c, "GET n");
    }
    for (int i = 1; i <= DEEP; i++) {
        char number[16];
        snprintf(number, sizeof(number), "%d", i);
        assert_string_equal(reply(c), number);
        assert_string_equal(reply(c), number);
    }
    assert_int_equal(proxy_rig_stats(&r).shorts, 0);
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_who_comes_does_not_wait_behind_it(void **state)
{
    struct proxy_rig r;

    (void)state;
    redisContext *c = begin_waiting(&r);
    redisContext *other = proxy_rig_connect(&r);
    assert_string_equal(ask(other, "GET b"), "1");
    assert_false(has_reply(c)); /* it was quicker than the WAIT */
    assert_begins(ask(other, "GET a"), "MRDURABILITY ");
    assert_begins(reply(c), "MRDURABILITY applied on the master of instance cart, but only 0 of 1 replicas");
    redis_server_resume(r.replica);
    assert_true(wait_until(r.loop, is_acknowledged, c, WAIT_MS));
    assert_string_equal(ask(other, "GET a"), "1");
    redisFree(other);
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_a_connection_that_breaks_behind_its_replies_is_asked_for_elsewhere(void **state)
{
    struct proxy_rig r;

    (void)state;
    redisContext *c = begin_waiting(&r);
    /* Only the one that waits. */
    unsigned long id = waiting_id(&r);
    assert_int_not_equal(id, 0);
    redis_server_do(r.master, "CLIENT KILL ID %lu", id);
    redis_server_resume(r.replica);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_confirm(&r);
    assert_string_equal(reply(c), "OK"); /* the ack connections had it confirmed */
    assert_true(has_key(r.replica, "a"));
    assert_string_equal(ask(c, "GET a"), "1");
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_what_it_waits_for_is_lost_with_its_master(void **state)
{
    struct proxy_rig r;

    (void)state;
    redisContext *c = begin_waiting(&r);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    assert_begins(reply(c), "MRUNKNOWN ");
    redis_server_resume(r.replica);
    redisFree(c);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_alone_nothing_but_its_own_connection_is_asked),
        cmocka_unit_test(test_alone_it_may_send_many_at_once),
        cmocka_unit_test(test_who_comes_does_not_wait_behind_it),
        cmocka_unit_test(test_a_connection_that_breaks_behind_its_replies_is_asked_for_elsewhere),
        cmocka_unit_test(test_what_it_waits_for_is_lost_with_its_master),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
