/* Bytes and sockets of the data path with a real redis-server behind it: large values, slow readers, broken
 * input, listeners that come and go, and the end of the worker. */
#include "common/loop.h"
#include "tests/lib/proxy_rig.h"
#include "tests/lib/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

#define assert_begins proxy_rig_assert_begins
#define ask           proxy_rig_ask

enum { MIB = 1024 * 1024 };

static long resident_kib(void)
{
    long pages = 0;
    FILE *f = fopen("/proc/self/statm", "re");

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
    (void)fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

/* Sanitizers keep freed memory for a while: then only the behaviour is checked. */
static bool memory_counts(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
}

static void say(int fd, const char *text)
{
    proxy_rig_write(fd, text, strlen(text));
}

static void begin_set(int fd, const char *key, long size)
{
    char head[96];
    int len =
        snprintf(head, sizeof(head), "*3\r\n$3\r\nSET\r\n$%zu\r\n%s\r\n$%ld\r\n", strlen(key), key, size);

    proxy_rig_write(fd, head, (size_t)len);
}

static void write_mib(int fd, int n)
{
    static char chunk[MIB];

    memset(chunk, 'v', sizeof(chunk));
    for (int i = 0; i < n; i++)
        proxy_rig_write(fd, chunk, sizeof(chunk));
}

/* The next line that the proxy sends. */
static const char *line(int fd)
{
    static char text[512];
    size_t n = 0;

    while (n + 1 < sizeof(text) && proxy_rig_read(fd, text + n, 1) == 1 && text[n++] != '\n')
        ;
    text[n] = '\0';
    return text;
}

static void test_large_values_stream_in_constant_memory(void **state)
{
    enum { SIZE = 200 };
    struct proxy_rig r;
    char *chunk = malloc(MIB);

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    int fd = proxy_rig_dial(&r);
    long before = resident_kib();
    begin_set(fd, "big", (long)SIZE * MIB);
    write_mib(fd, SIZE);
    say(fd, "\r\n");
    assert_string_equal(line(fd), "+OK\r\n");
    /* A slow reader: Redis' reply waits in sockets and in Redis, not here. */
    say(fd, "GET big\r\n");
    struct pollfd p = {.fd = fd, .events = POLLIN};
    assert_int_equal(poll(&p, 1, WAIT_MS), 1);
    wait_for(r.loop, 100);
    if (memory_counts())
        assert_in_range(resident_kib() - before, 0, 8 * 1024);
    char want[32];
    (void)snprintf(want, sizeof(want), "$%ld\r\n", (long)SIZE * MIB);
    assert_string_equal(line(fd), want);
    for (int i = 0; i < SIZE; i++) {
        assert_int_equal(proxy_rig_read(fd, chunk, MIB), MIB);
        assert_true(chunk[0] == 'v' && chunk[MIB - 1] == 'v');
    }
    assert_string_equal(line(fd), "\r\n");
    if (memory_counts())
        assert_in_range(resident_kib() - before, 0, 8 * 1024);
    close(fd);
    free(chunk);
    proxy_rig_stop(&r);
}

/* Much of them isn't seen by the proxy, and parts of that meet a full socket. */
static void test_large_values_arrive_as_they_were(void **state)
{
    enum { WHO = 3, SIZE = 20 * MIB + 4321 };
    struct proxy_rig r;
    char *value = malloc(SIZE), *got = malloc(SIZE + 2), head[32];
    int fd[WHO], n;
    uint32_t x = 1;

    (void)state;
    assert_true(value && got);
    for (int i = 0; i < SIZE; i++) {
        x = x * 1664525 + 1013904223;
        value[i] = (char)(x >> 24);
    }
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    for (int i = 0; i < WHO; i++) {
        fd[i] = proxy_rig_dial(&r);
        begin_set(fd[i], i % 2 ? "odd" : "even", SIZE);
    }
    for (int at = 0; at < SIZE; at += n) { /* in pieces of all sizes, all at the same time */
        n = at % 7 * 30011 + 1;
        n = n < SIZE - at ? n : SIZE - at;
        for (int i = 0; i < WHO; i++)
            proxy_rig_write(fd[i], value + at, (size_t)n);
    }
    for (int i = 0; i < WHO; i++) {
        say(fd[i], "\r\nGET even\r\n");
        assert_string_equal(line(fd[i]), "+OK\r\n");
    }
    assert_string_equal(proxy_rig_ask(c, "STRLEN odd"), "20975841");
    int len = snprintf(head, sizeof(head), "$%d\r\n", SIZE);
    for (int i = 0; i < WHO; i++) { /* the last ones don't read for a while */
        assert_string_equal(line(fd[i]), head);
        assert_int_equal(proxy_rig_read(fd[i], got, SIZE + 2), SIZE + 2);
        assert_memory_equal(got, value, SIZE);
        close(fd[i]);
    }
    assert_true(proxy_rig_stats(&r).received_bytes >= (uint64_t)WHO * SIZE);
    assert_true(proxy_rig_stats(&r).sent_bytes >= (uint64_t)WHO * (SIZE + 2 + (uint64_t)len));
    redisFree(c);
    free(value);
    free(got);
    proxy_rig_stop(&r);
}

/* How many PINGs the master has had. */
static long pings(const struct proxy_rig *r)
{
    redisReply *reply = redis_server_command(r->master, "INFO commandstats");
    const char *at = reply->str ? strstr(reply->str, "cmdstat_ping:calls=") : NULL;
    long n = at ? strtol(at + strlen("cmdstat_ping:calls="), NULL, 10) : 0;

    freeReplyObject(reply);
    return n;
}

/* Closes the connection that clients share. */
static void kill_shared(const struct proxy_rig *r)
{
    redisReply *reply = redis_server_command(r->master, "CLIENT LIST");
    char *row = reply->str ? strstr(reply->str, " cmd=ping ") : NULL;

    if (!row && reply->str)
        row = strstr(reply->str, " cmd=get ");
    assert_non_null(row);
    while (row > reply->str && row[-1] != '\n')
        row--;
    assert_memory_equal(row, "id=", 3);
    redis_server_do(r->master, "CLIENT KILL ID %ld", strtol(row + 3, NULL, 10));
    freeReplyObject(reply);
}

/* So that who shares a connection has its turns: between any two strides the master answers there. */
static void test_a_very_large_request_lets_others_have_their_turn(void **state)
{
    enum { MANY = 64, STRIDES = (MANY * MIB - SESSION_STRIDE_END) / SESSION_STRIDE / 2 };
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(proxy_rig_ask(c, "SET small 1"), "OK");
    long before = pings(&r);
    int fd = proxy_rig_dial(&r);
    begin_set(fd, "big", (long)MANY * MIB);
    write_mib(fd, MANY / 2);
    assert_string_equal(proxy_rig_ask(c, "GET small"), "1");
    kill_shared(&r); /* and what was to be answered there never will be: the body goes on */
    write_mib(fd, MANY / 2);
    say(fd, "\r\nSTRLEN big\r\n");
    assert_string_equal(line(fd), "+OK\r\n");
    assert_string_equal(line(fd), ":67108864\r\n");
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_confirm(&r);
    assert_string_equal(proxy_rig_ask(c, "GET small"), "1");
    begin_set(fd, "big", (long)MANY * MIB);
    write_mib(fd, MANY);
    say(fd, "\r\nSTRLEN big\r\n");
    assert_string_equal(line(fd), "+OK\r\n");
    assert_string_equal(line(fd), ":67108864\r\n");
    assert_true(pings(&r) - before >= STRIDES);
    redisFree(c);
    close(fd);
    proxy_rig_stop(&r);
}

static void test_a_large_request_cut_by_a_kill_says_so_and_the_client_stays(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    int fd = proxy_rig_dial(&r);
    begin_set(fd, "big", 100L * MIB);
    write_mib(fd, 40);
    redis_server_kill(r.master, SIGKILL);
    write_mib(fd, 20);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    write_mib(fd, 40);
    say(fd, "\r\nEXISTS big\r\n");
    const char *text = line(fd);
    assert_begins(text, "-MRUNKNOWN ");
    assert_non_null(strstr(text, "it was not executed"));
    assert_string_equal(line(fd), ":0\r\n");
    close(fd);
    proxy_rig_stop(&r);
}

static void test_half_of_a_large_reply_cannot_be_repaired(void **state)
{
    struct proxy_rig r;
    char *chunk = malloc(MIB);

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    int fd = proxy_rig_dial(&r);
    redisContext *other = proxy_rig_connect(&r);
    assert_string_equal(ask(other, "SET a 1"), "OK");
    begin_set(fd, "big", 100L * MIB);
    write_mib(fd, 100);
    say(fd, "\r\nGET big\r\n");
    assert_string_equal(line(fd), "+OK\r\n");
    assert_int_equal(proxy_rig_read(fd, chunk, MIB), MIB);
    redis_server_kill(r.master, SIGKILL);
    size_t got = 0, n;
    while ((n = proxy_rig_read(fd, chunk, MIB)) > 0)
        got += n;
    assert_true(got < 99UL * MIB);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    assert_string_equal(ask(other, "PING"), "PONG"); /* only that client was closed */
    close(fd);
    free(chunk);
    redisFree(other);
    proxy_rig_stop(&r);
}

static void test_a_client_that_is_not_read_does_not_fill_the_memory(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_apply(&r, ROUTE_HELD, NULL);
    int fd = proxy_rig_dial(&r);
    long before = resident_kib(), sent = 0;
    char chunk[16 * 1024];
    memset(chunk, '\n', sizeof(chunk));
    for (size_t i = 0; i + 8 <= sizeof(chunk); i += 8)
        memcpy(chunk + i, "INCR ab\n", 8);
    /* Until nothing is taken any more. */
    struct pollfd p = {.fd = fd, .events = POLLOUT};
    while (sent < 64L * MIB && poll(&p, 1, 200) == 1) {
        ssize_t n = send(fd, chunk + sent % 8, sizeof(chunk) - 8, MSG_DONTWAIT);
        if (n > 0)
            sent += n;
    }
    assert_true(sent < 64L * MIB);
    if (memory_counts())
        assert_in_range(resident_kib() - before, 0, 24 * 1024);
    close(fd);
    proxy_rig_stop(&r);
}

static void test_malformed_requests_hurt_nobody_else(void **state)
{
    struct proxy_rig r;
    char rest[16];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *other = proxy_rig_connect(&r);
    assert_string_equal(ask(other, "SET a 1"), "OK");
    int fd = proxy_rig_dial(&r);
    say(fd, "\r\n*0\r\n*-1\r\nget \"a\"\r\n*1\r\n+PING\r\n");
    assert_string_equal(line(fd), "$1\r\n");
    assert_string_equal(line(fd), "1\r\n");
    assert_begins(line(fd), "-ERR Protocol error: expected '$', got '+'");
    assert_int_equal(proxy_rig_read(fd, rest, sizeof(rest)), 0);
    close(fd);
    fd = proxy_rig_dial(&r);
    say(fd, "POST / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_int_equal(proxy_rig_read(fd, rest, sizeof(rest)), 0);
    close(fd);
    fd = proxy_rig_dial(&r);
    say(fd, "*3\r\n$3\r\nSET\r\n$1\r\nz\r\n$1000000\r\nhalf"); /* and gone */
    close(fd);
    assert_string_equal(ask(other, "EXISTS z"), "0");
    assert_string_equal(ask(other, "QUIT"), "OK");
    assert_string_equal(ask(other, "PING"), "closed");
    assert_int_equal(r.broken, 0);
    redisFree(other);
    proxy_rig_stop(&r);
}

static bool port_is_free(uint16_t port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    /* Past connections may linger; a listener may not. */
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    bool free_now = bind(fd, (const struct sockaddr *)&address, sizeof(address)) == 0 && listen(fd, 1) == 0;
    close(fd);
    return free_now;
}

static bool rig_port_is_free(void *ctx)
{
    const struct proxy_rig *r = ctx;

    return port_is_free(r->route.port);
}

static void test_a_dropped_instance_says_so_and_frees_its_port(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *idle = proxy_rig_connect(&r), *waiting = proxy_rig_connect(&r);
    assert_string_equal(ask(idle, "PING"), "PONG");
    assert_string_equal(ask(waiting, "PING"), "PONG");
    proxy_rig_send(waiting, "BLPOP q 0");
    while (strcmp(redis_server_info(r.master, "blocked_clients"), "1") != 0)
        wait_for(r.loop, 1);
    worker_drop(r.worker, "cart");
    assert_begins(proxy_rig_reply(waiting), "MRNOROUTE instance cart is not served here any more");
    assert_string_equal(ask(waiting, "PING"), "closed");
    assert_string_equal(ask(idle, "PING"), "closed");
    assert_true(wait_until(r.loop, rig_port_is_free, &r, WAIT_MS));
    assert_int_equal(proxy_rig_stats(&r).clients, 0);
    redisFree(idle);
    redisFree(waiting);
    /* It may come back, as another one. */
    r.route.epoch = 0;
    r.switched_epoch = 0;
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "PING"), "PONG");
    assert_int_equal(proxy_rig_stats(&r).accepted, 1);
    redisFree(c);
    proxy_rig_stop(&r);
}

static bool rig_listen_failed(void *ctx)
{
    const struct proxy_rig *r = ctx;

    return r->listen_failed > 0;
}

static void test_a_port_in_use_is_reported_and_tried_again(void **state)
{
    struct proxy_rig r;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    socklen_t len = sizeof(address);

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    assert_int_equal(bind(fd, (const struct sockaddr *)&address, len), 0);
    assert_int_equal(listen(fd, 1), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&address, &len), 0);
    r.route.port = ntohs(address.sin_port);
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    assert_true(wait_until(r.loop, rig_listen_failed, &r, WAIT_MS));
    close(fd);
    redisContext *c = NULL;
    for (int i = 0; i < WAIT_MS / 10 && (!c || c->err); i++) {
        if (c)
            redisFree(c);
        wait_for(r.loop, 10);
        c = redisConnect("127.0.0.1", r.route.port);
    }
    assert_string_equal(ask(c, "PING"), "PONG");
    redisFree(c);
    proxy_rig_stop(&r);
}

static void test_draining_finishes_what_was_begun(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *idle = proxy_rig_connect(&r), *busy = proxy_rig_connect(&r);
    assert_string_equal(ask(idle, "PING"), "PONG");
    assert_string_equal(ask(busy, "SET a 1"), "OK");
    proxy_rig_send(busy, "BLPOP q 0");
    while (strcmp(redis_server_info(r.master, "blocked_clients"), "1") != 0)
        wait_for(r.loop, 1);
    redis_server_do(r.master, "CLIENT PAUSE 200 WRITE");
    redisReply *pushed = redis_server_command(r.master, "LPUSH q x"); /* after the pause */
    assert_non_null(pushed);
    freeReplyObject(pushed);
    proxy_rig_wait_drained(&r);
    assert_string_equal(proxy_rig_reply(busy), "array");
    assert_string_equal(ask(busy, "PING"), "closed");
    assert_string_equal(ask(idle, "PING"), "closed");
    assert_true(port_is_free(r.route.port));
    redisFree(idle);
    redisFree(busy);
    proxy_rig_stop(&r);
}

static void test_a_leaving_client_stops_waiting_for_elements(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    proxy_rig_send(c, "BLPOP q 0");
    while (strcmp(redis_server_info(r.master, "blocked_clients"), "1") != 0)
        wait_for(r.loop, 1);
    redisFree(c);
    while (strcmp(redis_server_info(r.master, "blocked_clients"), "0") != 0)
        wait_for(r.loop, 1);
    redis_server_do(r.master, "LPUSH q x");
    c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "LLEN q"), "1");
    redisFree(c);
    /* Requests before a half-close are answered all the same. */
    int fd = proxy_rig_dial(&r);
    say(fd, "LLEN q\r\nPING\r\n");
    assert_int_equal(shutdown(fd, SHUT_WR), 0);
    assert_string_equal(line(fd), ":1\r\n");
    assert_string_equal(line(fd), "+PONG\r\n");
    assert_string_equal(line(fd), "");
    close(fd);
    proxy_rig_stop(&r);
}

static void test_resp3_pushes_and_big_nested_replies_pass(void **state)
{
    struct proxy_rig r;
    char text[64];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    int fd = proxy_rig_dial(&r);
    say(fd, "HELLO 3\r\n");
    assert_begins(line(fd), "%7\r\n");
    while (strcmp(line(fd), "$7\r\n") != 0 || strcmp(line(fd), "modules\r\n") != 0)
        ;
    assert_string_equal(line(fd), "*0\r\n");
    say(fd, "CLIENT TRACKING ON\r\nGET a\r\n");
    assert_string_equal(line(fd), "+OK\r\n");
    assert_string_equal(line(fd), "_\r\n");
    redis_server_do(r.master, "SET a 1");
    assert_int_equal(proxy_rig_read(fd, text, 31), 31);
    assert_memory_equal(text, ">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\na\r", 31);
    assert_string_equal(line(fd), "\n");
    redis_server_kill(r.master, SIGKILL);
    assert_begins(line(fd), ">2\r\n");
    assert_string_equal(line(fd), "$10\r\n");
    assert_string_equal(line(fd), "invalidate\r\n");
    assert_string_equal(line(fd), "_\r\n");
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    say(fd, "EVAL \"local t={} for i=1,20000 do t[i]={i,'x'} end return t\" 0\r\nPING\r\n");
    assert_string_equal(line(fd), "*20000\r\n");
    for (int i = 0; i < 20000; i++)
        for (int j = 0; j < 4; j++)
            assert_begins(line(fd), j == 0 ? "*2" : j == 1 ? ":" : j == 2 ? "$1" : "x");
    assert_string_equal(line(fd), "+PONG\r\n");
    close(fd);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_large_values_stream_in_constant_memory),
        cmocka_unit_test(test_large_values_arrive_as_they_were),
        cmocka_unit_test(test_a_very_large_request_lets_others_have_their_turn),
        cmocka_unit_test(test_a_large_request_cut_by_a_kill_says_so_and_the_client_stays),
        cmocka_unit_test(test_half_of_a_large_reply_cannot_be_repaired),
        cmocka_unit_test(test_a_client_that_is_not_read_does_not_fill_the_memory),
        cmocka_unit_test(test_malformed_requests_hurt_nobody_else),
        cmocka_unit_test(test_a_dropped_instance_says_so_and_frees_its_port),
        cmocka_unit_test(test_a_port_in_use_is_reported_and_tried_again),
        cmocka_unit_test(test_draining_finishes_what_was_begun),
        cmocka_unit_test(test_a_leaving_client_stops_waiting_for_elements),
        cmocka_unit_test(test_resp3_pushes_and_big_nested_replies_pass),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
