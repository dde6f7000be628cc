/* Planned switchovers with real redis-servers behind the proxy's workers; the test plays the controller.
 * Under load no client may see an error, and no write may be lost or doubled. */
#include "common/loop.h"
#include "tests/lib/proxy_rig.h"
#include "tests/lib/wait.h"

#include <hiredis/hiredis.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define assert_begins proxy_rig_assert_begins
#define ask           proxy_rig_ask
#define send_         proxy_rig_send
#define reply         proxy_rig_reply

/* ---- load -------------------------------------------------------------------------------------------------
 */

enum { CLIENTS = 6, DEPTH = 16 };

/* A thread of its own: no cmocka in it. Counts with INCR, DEPTH requests at a time; every third time in a
 * transaction. */
struct counter {
    pthread_t thread;
    uint16_t port;
    unsigned number;
    atomic_bool stop;
    atomic_uint rounds;
    long long count;
    char problem[200];
};

static void counter_take(struct counter *c, redisContext *to, bool is_exec)
{
    redisReply *r = NULL;

    if (redisGetReply(to, (void **)&r) != REDIS_OK) {
        snprintf(c->problem, sizeof(c->problem), "closed: %s", to->errstr);
        return;
    }
    if (is_exec) {
        bool ok = r->type == REDIS_REPLY_ARRAY && r->elements == 2;
        c->count += 2;
        if (!ok || r->element[1]->integer != c->count)
            snprintf(c->problem, sizeof(c->problem), "EXEC: type %d %s, want %lld", r->type,
                     r->str ? r->str : "", c->count);
    } else if (r->type == REDIS_REPLY_INTEGER) {
        if (r->integer != ++c->count)
            snprintf(c->problem, sizeof(c->problem), "INCR: %lld, want %lld", r->integer, c->count);
    } else {
        snprintf(c->problem, sizeof(c->problem), "type %d: %s", r->type, r->str ? r->str : "");
    }
    freeReplyObject(r);
}

static void counter_skip(struct counter *c, redisContext *to, const char *want)
{
    redisReply *r = NULL;

    if (redisGetReply(to, (void **)&r) != REDIS_OK)
        snprintf(c->problem, sizeof(c->problem), "closed: %s", to->errstr);
    else if (!r->str || strcmp(r->str, want) != 0)
        snprintf(c->problem, sizeof(c->problem), "%s instead of %s", r->str ? r->str : "?", want);
    freeReplyObject(r);
}

/* MULTI and the rest in turns, so that it is open when the pause comes. */
static void counter_transact(struct counter *c, redisContext *to)
{
    redisAppendCommand(to, "MULTI");
    counter_skip(c, to, "OK");
    for (int i = 0; i < 2 && !c->problem[0]; i++) {
        redisAppendCommand(to, "INCR n%u", c->number);
        counter_skip(c, to, "QUEUED");
    }
    if (c->problem[0])
        return;
    redisAppendCommand(to, "EXEC");
    counter_take(c, to, true);
}

static void *counter_run(void *ctx)
{
    struct counter *c = ctx;
    const struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    redisContext *to = redisConnect("127.0.0.1", c->port);

    if (!to || to->err || redisSetTimeout(to, limit) != REDIS_OK)
        snprintf(c->problem, sizeof(c->problem), "can't connect");
    while (!atomic_load(&c->stop) && !c->problem[0]) {
        if (atomic_fetch_add(&c->rounds, 1) % 3 == 2) {
            counter_transact(c, to);
            continue;
        }
        for (int i = 0; i < DEPTH; i++)
            redisAppendCommand(to, "INCR n%u", c->number);
        for (int i = 0; i < DEPTH && !c->problem[0]; i++)
            counter_take(c, to, false);
    }
    redisFree(to);
    return NULL;
}

static void counters_start(struct counter *all, const struct proxy_rig *r)
{
    for (unsigned i = 0; i < CLIENTS; i++) {
        all[i] = (struct counter){.port = r->route.port, .number = i};
        assert_int_equal(pthread_create(&all[i].thread, NULL, counter_run, &all[i]), 0);
    }
}

/* Each has got further since. */
static bool counters_moved(void *ctx)
{
    struct counter *all = ctx;

    for (unsigned i = 0; i < CLIENTS; i++)
        if (!all[i].problem[0] && atomic_load(&all[i].rounds) < 30)
            return false;
    for (unsigned i = 0; i < CLIENTS; i++)
        atomic_store(&all[i].rounds, 0);
    return true;
}

static void counters_wait(struct counter *all, struct proxy_rig *r)
{
    assert_true(wait_until(r->loop, counters_moved, all, WAIT_MS));
}

static void counters_stop(struct counter *all, const struct redis_server *master)
{
    for (unsigned i = 0; i < CLIENTS; i++)
        atomic_store(&all[i].stop, true);
    for (unsigned i = 0; i < CLIENTS; i++) {
        char want[32];
        assert_int_equal(pthread_join(all[i].thread, NULL), 0);
        assert_string_equal(all[i].problem, "");
        redisReply *n = redis_server_command(master, "GET n%u", i);
        (void)snprintf(want, sizeof(want), "%lld", all[i].count);
        assert_non_null(n);
        assert_string_equal(n->str, want);
        freeReplyObject(n);
    }
}

static void test_nobody_sees_a_switchover_under_load(void **state)
{
    struct counter all[CLIENTS];
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_two(&r, WAIT_MS);
    counters_start(all, &r);
    for (int i = 0; i < 5; i++) { /* there and back again */
        counters_wait(all, &r);
        proxy_rig_pause(&r, WAIT_MS);
        proxy_rig_wait_held(&r);
        proxy_rig_exchange(&r);
        if (i % 2 == 0) { /* as a controller does it: nobody serves while it is sealed */
            r.route.state = ROUTE_HELD;
            proxy_rig_apply(&r, ROUTE_HELD, NULL);
            r.route.epoch--;
        }
        proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    }
    counters_wait(all, &r);
    counters_stop(all, r.master);
    assert_int_equal(r.broken, 0);
    proxy_rig_stop(&r);
}

static void test_a_switchover_that_is_rolled_back_goes_unnoticed(void **state)
{
    struct counter all[CLIENTS];
    struct proxy_rig r;

    (void)state;
    proxy_rig_start_two(&r, WAIT_MS);
    counters_start(all, &r);
    counters_wait(all, &r);
    proxy_rig_pause(&r, WAIT_MS);
    proxy_rig_pause(&r, WAIT_MS); /* said twice */
    proxy_rig_wait_held(&r);
    proxy_rig_confirm(&r);
    counters_wait(all, &r);
    /* It comes back although the route isn't said again. */
    proxy_rig_pause(&r, 200);
    proxy_rig_wait_held(&r);
    counters_wait(all, &r);
    counters_stop(all, r.master);
    proxy_rig_stop(&r);
}

/* ---- single clients ---------------------------------------------------------------------------------------
 */

static void test_while_it_is_prepared_nothing_reaches_the_master(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    redis_server_suspend(r.master); /* so that one is in flight for certain */
    send_(c, "INCR a");
    wait_for(r.loop, 20);
    proxy_rig_pause(&r, WAIT_MS);
    wait_for(r.loop, 50);
    assert_int_equal(r.n_held, 0);
    send_(c, "INCR a");
    redis_server_resume(r.master);
    assert_string_equal(reply(c), "2"); /* what was in flight is answered */
    proxy_rig_wait_held(&r);
    redisContext *late = proxy_rig_connect(&r);
    send_(late, "INCR a");
    wait_for(r.loop, 50);
    redisReply *a = redis_server_command(r.master, "GET a");
    assert_string_equal(a->str, "2");
    freeReplyObject(a);
    proxy_rig_exchange(&r);
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    int sum = atoi(reply(c)); // NOLINT(cert-err34-c)
    sum += atoi(reply(late)); // NOLINT(cert-err34-c)
    assert_int_equal(sum, 3 + 4);
    assert_int_equal(proxy_rig_stats(&r).unknown + proxy_rig_stats(&r).rejected, 0);
    redisFree(c);
    redisFree(late);
    proxy_rig_stop(&r);
}

static void test_an_open_transaction_is_finished_before(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *watching = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "MULTI"), "OK");
    assert_string_equal(ask(c, "INCR a"), "QUEUED");
    assert_string_equal(ask(watching, "WATCH b"), "OK");
    proxy_rig_pause(&r, WAIT_MS);
    wait_for(r.loop, 50);
    assert_int_equal(r.n_held, 0);
    assert_string_equal(ask(c, "INCR a"), "QUEUED");
    assert_string_equal(ask(c, "EXEC"), "array");
    proxy_rig_wait_held(&r); /* who only watches isn't waited for */
    send_(c, "MULTI");
    send_(watching, "MULTI");
    proxy_rig_exchange(&r);
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    assert_string_equal(reply(c), "OK");
    assert_string_equal(ask(c, "INCR a"), "QUEUED");
    assert_string_equal(ask(c, "EXEC"), "array");
    assert_string_equal(ask(c, "GET a"), "3");
    assert_string_equal(reply(watching), "OK");
    assert_string_equal(ask(watching, "SET b 1"), "QUEUED");
    assert_string_equal(ask(watching, "EXEC"), "nil");
    redisFree(c);
    redisFree(watching);
    proxy_rig_stop(&r);
}

static void test_an_open_transaction_is_not_waited_for_for_ever(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *back = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "MULTI"), "OK");
    assert_string_equal(ask(c, "INCR a"), "QUEUED");
    proxy_rig_pause(&r, 3000);
    proxy_rig_wait_held(&r); /* after half of it */
    proxy_rig_exchange(&r);
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    assert_string_equal(ask(c, "INCR a"), "QUEUED");
    assert_begins(ask(c, "EXEC"), "EXECABORT ");
    assert_string_equal(ask(c, "EXISTS a"), "0");
    /* Rolled back instead, it goes on where it was. */
    assert_string_equal(ask(back, "MULTI"), "OK");
    assert_string_equal(ask(back, "INCR b"), "QUEUED");
    proxy_rig_pause(&r, 3000);
    proxy_rig_wait_held(&r);
    send_(back, "INCR b");
    assert_string_equal(reply(back), "QUEUED");
    assert_string_equal(ask(back, "EXEC"), "array");
    assert_string_equal(ask(back, "GET b"), "2");
    redisFree(c);
    redisFree(back);
    proxy_rig_stop(&r);
}

static void wait_blocked(struct proxy_rig *r, const struct redis_server *s, const char *n)
{
    while (strcmp(redis_server_info(s, "blocked_clients"), n) != 0)
        wait_for(r->loop, 1);
}

static void test_blocked_clients_and_subscribers_move_along(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *timed = proxy_rig_connect(&r), *sub = proxy_rig_connect(&r);
    send_(c, "BLPOP q 0");
    send_(c, "LPUSH p x"); /* waits in Redis, behind the blocked one */
    send_(timed, "BLPOP other 1.5");
    send_(sub, "SUBSCRIBE news");
    assert_string_equal(reply(sub), "subscribe news -");
    wait_blocked(&r, r.master, "2");
    proxy_rig_pause(&r, WAIT_MS);
    proxy_rig_wait_held(&r);
    proxy_rig_exchange(&r); /* Redis ends them with -UNBLOCKED */
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    wait_blocked(&r, r.master, "2");
    redis_server_do(r.master, "RPUSH q one");
    assert_string_equal(reply(c), "array");
    assert_string_equal(reply(c), "1");
    assert_string_equal(reply(timed), "nil");
    redisReply *number = NULL;
    for (long long n = 0; n < 1; n = number->integer) {
        freeReplyObject(number);
        number = redis_server_command(r.master, "PUBLISH news two");
    }
    freeReplyObject(number);
    assert_string_equal(reply(sub), "message news two");
    redisFree(c);
    redisFree(timed);
    redisFree(sub);
    proxy_rig_stop(&r);
}

/* The route is there before the old master has ended its blocked clients. */
static void test_blocked_clients_move_before_they_are_unblocked(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    send_(c, "BLPOP q 0");
    wait_blocked(&r, r.master, "1");
    proxy_rig_pause(&r, WAIT_MS);
    proxy_rig_wait_held(&r);
    proxy_rig_promote(&r);
    wait_blocked(&r, r.replica, "1");
    redis_server_do(r.replica, "RPUSH q one");
    assert_string_equal(reply(c), "array");
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_waiting_is_bounded_by_hold_ms(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, 200);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    proxy_rig_pause(&r, WAIT_MS);
    proxy_rig_wait_held(&r);
    assert_begins(ask(c, "INCR a"), "MRHOLD held longer than 200 ms");
    proxy_rig_confirm(&r);
    assert_string_equal(ask(c, "INCR a"), "2");
    redisFree(c);
    proxy_rig_stop(&r);
}

/* ---- a master that hangs ----------------------------------------------------------------------------------
 */

static void test_a_silent_master_is_hinted_at(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *blocked = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    send_(blocked, "BLPOP q 0");
    wait_for(r.loop, 900);
    assert_int_equal(r.silent, 0); /* idle and blocked clients await nothing */
    redis_server_suspend(r.master);
    int64_t before_us = loop_clock_us();
    send_(c, "INCR a");
    proxy_rig_wait_silent(&r, 1);
    assert_true(loop_clock_us() - before_us >= 450000);
    proxy_rig_wait_silent(&r, 2);
    assert_true(loop_clock_us() - before_us >= 1450000);
    assert_int_equal(r.broken, 0);
    redis_server_resume(r.master);
    assert_string_equal(reply(c), "2");
    redisFree(c);
    redisFree(blocked);
    proxy_rig_stop(&r);
}

/* It was stopped, replaced, and goes on: what it says then doesn't count. */
static void test_a_master_that_resumes_acknowledges_nothing(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(c, "WAIT 1 10000"), "1");
    redis_server_suspend(r.master);
    send_(c, "SET a 2");
    wait_for(r.loop, 20);
    redis_server_do(r.replica, "REPLICAOF NO ONE");
    proxy_rig_apply(&r, ROUTE_SERVING, r.replica);
    redis_server_resume(r.master);
    assert_begins(reply(c), "MRUNKNOWN ");
    assert_string_equal(ask(c, "GET a"), "1");
    redisFree(c);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nobody_sees_a_switchover_under_load),
        cmocka_unit_test(test_a_switchover_that_is_rolled_back_goes_unnoticed),
        cmocka_unit_test(test_while_it_is_prepared_nothing_reaches_the_master),
        cmocka_unit_test(test_an_open_transaction_is_finished_before),
        cmocka_unit_test(test_an_open_transaction_is_not_waited_for_for_ever),
        cmocka_unit_test(test_blocked_clients_and_subscribers_move_along),
        cmocka_unit_test(test_blocked_clients_move_before_they_are_unblocked),
        cmocka_unit_test(test_waiting_is_bounded_by_hold_ms),
        cmocka_unit_test(test_a_silent_master_is_hinted_at),
        cmocka_unit_test(test_a_master_that_resumes_acknowledges_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
