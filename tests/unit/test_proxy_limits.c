/* The proxy's limits and counters with real clients and servers. */
#include "common/loop.h"
#include "proxy/core/histogram.h"
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
#include <unistd.h>

#include <cmocka.h>

#define ask   proxy_rig_ask
#define send_ proxy_rig_send
#define reply proxy_rig_reply

static struct limits_config limits_of(uint64_t request_bytes, uint64_t held_bytes)
{
    return (struct limits_config){
        .data = {.request_bytes = request_bytes, .held_bytes = held_bytes, .reply_bytes = SESSION_OUT_LIMIT}};
}

static void start(struct proxy_rig *r, int threads, struct limits_config limits)
{
    proxy_rig_start_limited(r, WAIT_MS, threads, &limits);
}

/* The error that a client is given as it comes; "" when it is served. */
static void greeted(const struct proxy_rig *r, const char *wanted)
{
    redisContext *c = proxy_rig_connect(r);
    const char *text = ask(c, "PING");

    if (wanted[0] == '\0')
        assert_string_equal(text, "PONG");
    else if (!strstr(text, wanted) || strncmp(text, "MRLIMIT ", 8) != 0)
        fail_msg("'%s' does not name '%s'", text, wanted);
    redisFree(c);
}

static bool is_alone(void *ctx)
{
    return proxy_rig_stats(ctx).clients <= 1;
}

static void test_clients(void **state)
{
    struct proxy_rig r;
    struct limits_config limits = limits_of(100000, 0);

    (void)state;
    limits.clients = 2;
    start(&r, 1, limits);
    redisContext *a = proxy_rig_connect(&r), *b = proxy_rig_connect(&r);
    assert_string_equal(ask(a, "PING"), "PONG");
    assert_string_equal(ask(b, "PING"), "PONG");
    greeted(&r, "2 clients at most (--max-clients");
    assert_int_equal(proxy_rig_stats(&r).rejected, 1);
    assert_string_equal(ask(a, "PING"), "PONG");
    redisFree(b);
    assert_true(wait_until(r.loop, is_alone, &r, WAIT_MS));
    greeted(&r, "");
    redisFree(a);
    proxy_rig_stop(&r);
}

/* Whichever thread a client comes to. */
static void test_clients_of_an_instance_in_two_threads(void **state)
{
    enum { N = 8 };
    struct proxy_rig r;
    struct limits_config limits = limits_of(100000, 0);
    redisContext *c[N];

    (void)state;
    limits.clients_instance = N;
    start(&r, 2, limits);
    for (int k = 0; k < N; k++) {
        c[k] = proxy_rig_connect(&r);
        assert_string_equal(ask(c[k], "PING"), "PONG");
    }
    for (int k = 0; k < N; k++)
        greeted(&r, "8 clients of instance cart at most (--max-clients");
    for (int k = 0; k < N; k++)
        redisFree(c[k]);
    proxy_rig_stop(&r);
}

static void test_connections_a_second(void **state)
{
    struct proxy_rig r;
    struct limits_config limits = limits_of(100000, 0);

    (void)state;
    limits.connects_per_s = 1;
    start(&r, 1, limits);
    greeted(&r, "");
    greeted(&r, "instance cart takes 1 new connections a second here (--max-connects-per-s");
    proxy_rig_stop(&r);
}

static void test_a_large_request(void **state)
{
    enum { LARGE = 300000 };
    struct proxy_rig r;
    char *large = calloc(1, LARGE);

    (void)state;
    assert_non_null(large);
    start(&r, 1, limits_of(LARGE, 0));
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a %b", large, (size_t)LARGE - 100), "OK");
    const char *text = ask(c, "SET a %b", large, (size_t)LARGE);
    assert_memory_equal(text, "MRLIMIT ", 8);
    assert_non_null(strstr(text, "300000 bytes at most (--max-request-bytes"));
    assert_string_equal(ask(c, "STRLEN a"), "299900");
    /* Pipelined, its neighbours are served. */
    send_(c, "SET b 1");
    send_(c, "SET b %b", large, (size_t)LARGE);
    send_(c, "GET b");
    assert_string_equal(reply(c), "OK");
    assert_memory_equal(reply(c), "MRLIMIT ", 8);
    assert_string_equal(reply(c), "1");
    assert_int_equal(proxy_rig_stats(&r).rejected, 2);
    redisFree(c);
    free(large);
    proxy_rig_stop(&r);
}

struct held {
    struct proxy_rig *rig;
    uint64_t bytes;
};

static bool is_held(void *ctx)
{
    const struct held *h = ctx;

    return proxy_rig_stats(h->rig).held_bytes >= h->bytes;
}

/* A connection that is shared keeps a little. */
static bool holds_nothing(void *ctx)
{
    struct worker_stats stats = proxy_rig_stats(ctx);

    return stats.held_bytes == 0 && stats.memory_bytes < 4096;
}

static void test_held_bytes(void **state)
{
    enum { SIZE = 10000, HELD = 50000 };
    struct proxy_rig r;
    char value[SIZE];
    int refused = 0;

    (void)state;
    memset(value, 'x', sizeof(value));
    start(&r, 1, limits_of(100000, HELD));
    redisContext *c[10];
    for (int k = 0; k < 10; k++)
        c[k] = proxy_rig_connect(&r);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 0);
    proxy_rig_apply(&r, ROUTE_HELD, NULL);
    for (int k = 0; k < 10; k++) {
        struct held held = {&r, (uint64_t)(k < 4 ? k + 1 : 5) * SIZE};
        send_(c[k], "SET %d %b", k, value, sizeof(value));
        assert_true(wait_until(r.loop, is_held, &held, WAIT_MS));
    }
    for (int k = 5; k < 10; k++) {
        const char *text = reply(c[k]);
        assert_memory_equal(text, "MRLIMIT ", 8);
        assert_non_null(strstr(text, "50000 bytes wait for the master of instance cart already "
                                     "(--max-held-bytes"));
        refused++;
    }
    assert_in_range(proxy_rig_stats(&r).held_bytes, HELD, HELD + 1000);
    assert_true(proxy_rig_stats(&r).memory_bytes >= HELD);
    assert_int_equal(proxy_rig_stats(&r).rejected, refused);
    proxy_rig_promote(&r);
    for (int k = 0; k < 5; k++)
        assert_string_equal(reply(c[k]), "OK");
    assert_string_equal(ask(c[9], "EXISTS 0 1 2 3 4 5 6 7 8 9"), "5");
    for (int k = 0; k < 10; k++)
        redisFree(c[k]);
    assert_true(wait_until(r.loop, holds_nothing, &r, WAIT_MS));
    proxy_rig_stop(&r);
}

static bool is_refused(void *ctx)
{
    return proxy_rig_stats(ctx).rejected > 0;
}

/* Replies to writes, which can't be asked for again, of clients that read none: who is beyond what all of
 * them may fill ends, and is told so behind what it had got until then. */
static void test_unread_bytes(void **state)
{
    /* The kernel takes two or three hundred KB of the 1.5 MB of each. */
    enum { SLOW = 40, EACH = 100, SIZE = 15000, REPLY = SIZE + 10, BYTES = 500000 };
    static const char script[] = "EVAL \"return redis.call('GET', 'k')\" 0\r\n"; /* who knows what it does */
    struct proxy_rig r;
    struct limits_config limits = limits_of(100000000, 0);
    char value[SIZE] = "", got[REPLY + 1] = "", many[EACH * sizeof(script)] = "";
    int slow[SLOW], replies = 0, refused = 0;

    (void)state;
    for (int k = 0; k < EACH; k++)
        memcpy(many + (size_t)k * (sizeof(script) - 1), script, sizeof(script));
    limits.data.unread_bytes = BYTES;
    start(&r, 1, limits);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k %b", value, (size_t)SIZE), "OK");
    for (int k = 0; k < SLOW; k++) {
        slow[k] = proxy_rig_dial(&r);
        proxy_rig_receive_buffer(slow[k], 128 * 1024);
        proxy_rig_write(slow[k], many, strlen(many));
    }
    assert_true(wait_until(r.loop, is_refused, &r, WAIT_MS));
    assert_string_equal(ask(c, "STRLEN k"), "15000");
    assert_true(proxy_rig_stats(&r).memory_bytes < BYTES + SLOW * 2 * (SESSION_OUT_TIGHT + REPLY));
    for (int k = 0; k < SLOW; k++) {
        size_t len;
        for (int n = 0; n < EACH; n++, replies++) {
            len = proxy_rig_read(slow[k], got, REPLY);
            if (len < REPLY || memcmp(got, "$15000\r\n", 8) != 0) {
                got[len] = '\0';
                assert_memory_equal(got, "-MRLIMIT ", 9);
                assert_non_null(strstr(got, "--max-unread-bytes"));
                refused++;
                break;
            }
        }
        close(slow[k]);
    }
    assert_int_equal(refused, proxy_rig_stats(&r).rejected);
    assert_in_range(replies, SLOW, SLOW * EACH - refused);
    redisFree(c);
    proxy_rig_stop(&r);
}

/* A reply may be here before it is counted. */
static bool is_counted(void *ctx)
{
    struct worker_stats stats = proxy_rig_stats(ctx);

    return stats.requests == 102 && stats.sent_bytes >= 100 * 5 + 5 + 4;
}

static void test_counters(void **state)
{
    struct proxy_rig r;
    struct histogram_sum sum = {0};

    (void)state;
    start(&r, 1, limits_of(100000, 0));
    redisContext *c = proxy_rig_connect(&r);
    for (int k = 0; k < 100; k++)
        assert_string_equal(ask(c, "SET a 1"), "OK"); /* 27 and 5 bytes: over a shared connection */
    assert_string_equal(ask(c, "MULTI"), "OK");       /* and over its own */
    assert_string_equal(ask(c, "EXEC"), "array");
    assert_true(wait_until(r.loop, is_counted, &r, WAIT_MS));
    struct worker_stats stats = proxy_rig_stats(&r);
    assert_int_equal(stats.requests, 102);
    assert_int_equal(stats.received_bytes, 100 * 27 + 15 + 14);
    assert_int_equal(stats.sent_bytes, 100 * 5 + 5 + 4);
    assert_int_equal(stats.masters, 2);
    assert_int_equal(stats.clients, 1);
    worker_read_latency(r.worker, "cart", &sum);
    assert_int_equal(histogram_total(&sum), 102);
    assert_true(sum.sum_us > 0 && histogram_quantile_us(&sum, 500) < (uint64_t)WAIT_MS * 1000);
    /* A master that is stopped for 50 ms makes one request that slow. */
    redis_server_suspend(r.master);
    send_(c, "GET a");
    wait_for(r.loop, 50);
    redis_server_resume(r.master);
    assert_string_equal(reply(c), "1");
    sum = (struct histogram_sum){0};
    worker_read_latency(r.worker, "cart", &sum);
    assert_true(histogram_quantile_us(&sum, 1000) >= 32768);
    redisFree(c);
    assert_true(wait_until(r.loop, holds_nothing, &r, WAIT_MS));
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients),
        cmocka_unit_test(test_clients_of_an_instance_in_two_threads),
        cmocka_unit_test(test_connections_a_second),
        cmocka_unit_test(test_a_large_request),
        cmocka_unit_test(test_held_bytes),
        cmocka_unit_test(test_unread_bytes),
        cmocka_unit_test(test_counters),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
