/* Clients that share connections, with real redis-servers behind: who shares, who doesn't, and that nobody
 * has to wait for another one that doesn't read. */
#include "common/loop.h"
#include "proxy/batch.h"
#include "proxy/client.h"
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

enum { CLIENTS = 40, MIB = 1024 * 1024 };

/* Connections of clients at the server, those of its own replicas and the asking one left out. */
static int connections(const struct redis_server *s)
{
    return atoi(redis_server_info(s, "connected_clients")) - 1;
}

struct count {
    const struct redis_server *server;
    int n;
};

static bool has_connections(void *ctx)
{
    const struct count *c = ctx;

    return connections(c->server) == c->n;
}

static void wait_connections(struct proxy_rig *r, const struct redis_server *s, int n)
{
    struct count count = {s, n};

    assert_true(wait_until(r->loop, has_connections, &count, WAIT_MS));
}

static void test_many_clients_share_one_connection(void **state)
{
    struct proxy_rig r;
    redisContext *c[CLIENTS];
    char key[16], value[16];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    for (int i = 0; i < CLIENTS; i++) {
        c[i] = proxy_rig_connect(&r);
        for (int k = 0; k < 10; k++)
            send_(c[i], "SET k%d v%d", i, k);
        send_(c[i], "GET k%d", i);
    }
    for (int i = 0; i < CLIENTS; i++)
        for (int k = 0; k < 10; k++)
            assert_string_equal(reply(c[i]), "OK");
    for (int i = 0; i < CLIENTS; i++)
        assert_string_equal(reply(c[i]), "v9");
    assert_int_equal(connections(r.master), 1);
    for (int i = 0; i < CLIENTS; i++) {
        (void)snprintf(key, sizeof(key), "k%d", i);
        (void)snprintf(value, sizeof(value), "w%d", i);
        assert_string_equal(ask(c[i], "SET %s %s", key, value), "OK");
        assert_string_equal(ask(c[i], "GET %s", key), value);
        redisFree(c[i]);
    }
    assert_int_equal(connections(r.master), 1);
    proxy_rig_stop(&r);
}

/* What client libraries say at the beginning doesn't cost them a connection of their own; another user,
 * database or protocol means another shared one. */
static void test_clients_with_the_same_state_share(void **state)
{
    struct proxy_rig r;
    redisContext *c[4];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    for (int i = 0; i < 4; i++) {
        c[i] = proxy_rig_connect(&r);
        assert_string_equal(ask(c[i], "CLIENT SETNAME lib%d", i), "OK");
        assert_string_equal(ask(c[i], "SELECT %d", i / 2), "OK");
        assert_string_equal(ask(c[i], "SET k db%d", i / 2), "OK");
    }
    wait_connections(&r, r.master, 2);
    for (int i = 0; i < 4; i++) {
        char name[16], db[16];
        (void)snprintf(name, sizeof(name), "lib%d", i);
        (void)snprintf(db, sizeof(db), "db%d", i / 2);
        assert_string_equal(ask(c[i], "GET k"), db);
        assert_string_equal(ask(c[i], "CLIENT GETNAME"), name); /* over one of its own */
        assert_string_equal(ask(c[i], "GET k"), db);
    }
    wait_connections(&r, r.master, 2); /* given back after a while */
    for (int i = 0; i < 4; i++)
        redisFree(c[i]);
    proxy_rig_stop(&r);
}

static void test_who_has_state_of_its_own_does_not_share(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *tx = proxy_rig_connect(&r), *blocked = proxy_rig_connect(&r), *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(tx, "MULTI"), "OK");
    assert_string_equal(ask(tx, "INCR a"), "QUEUED");
    send_(blocked, "BLPOP q 0");
    assert_string_equal(ask(c, "INCR a"), "2");
    assert_string_equal(ask(c, "RPUSH other x"), "1");
    assert_string_equal(ask(tx, "EXEC"), "array");
    assert_string_equal(ask(c, "GET a"), "3");
    assert_int_equal(connections(r.master), 3);
    assert_string_equal(ask(c, "RPUSH q x"), "1");
    assert_string_equal(reply(blocked), "array");
    assert_string_equal(ask(tx, "GET a"), "3");
    wait_connections(&r, r.master, 1);
    assert_string_equal(ask(tx, "GET a"), "3");
    assert_string_equal(ask(blocked, "GET a"), "3");
    redisFree(tx);
    redisFree(blocked);
    redisFree(c);
    proxy_rig_stop(&r);
}

static long resident_kib(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long pages = 0;

    assert_non_null(f);
    assert_int_equal(fscanf(f, "%*d %ld", &pages), 1);
    (void)fclose(f);
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

static bool memory_counts(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return false;
#else
    return true;
#endif
}

static void test_clients_that_do_not_read_large_replies_stop_nobody(void **state)
{
    enum { SLOW = 100 };
    struct proxy_rig r;
    int slow[SLOW];
    char *large = malloc(MIB), head[64];

    (void)state;
    assert_non_null(large);
    memset(large, 'x', MIB);
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET large %b", large, (size_t)MIB), "OK");
    assert_string_equal(ask(c, "SET small 1"), "OK");
    long before_kib = resident_kib();
    for (int i = 0; i < SLOW; i++) {
        slow[i] = proxy_rig_dial(&r);
        for (int k = 0; k < 8; k++)
            proxy_rig_write(slow[i], "GET large\r\n", 11);
    }
    for (int i = 0; i < 2000; i++)
        assert_string_equal(ask(c, "GET small"), "1");
    if (memory_counts())
        assert_true(resident_kib() - before_kib < 16 * 1024);
    /* They do read, later: nothing is missing. */
    for (int i = 0; i < SLOW; i += 33)
        for (int k = 0; k < 8; k++) {
            assert_int_equal(proxy_rig_read(slow[i], head, 10), 10);
            assert_memory_equal(head, "$1048576\r\n", 10);
            assert_int_equal(proxy_rig_read(slow[i], large, MIB), MIB);
            assert_int_equal(proxy_rig_read(slow[i], head, 2), 2);
        }
    for (int i = 0; i < SLOW; i++)
        close(slow[i]);
    assert_int_equal(r.broken, 0);
    redisFree(c);
    free(large);
    proxy_rig_stop(&r);
}

/* Each reply is small enough to be shared, but they are many. */
static void test_clients_that_do_not_read_many_replies_take_no_memory(void **state)
{
    enum { SLOW = 50, EACH = 120, SIZE = 15000 };
    struct proxy_rig r;
    int slow[SLOW];
    char *text = malloc(SIZE), many[EACH * 10], head[16];

    (void)state;
    assert_non_null(text);
    memset(text, 'x', SIZE);
    for (int k = 0; k < EACH; k++)
        memcpy(many + (size_t)k * 7, "GET k\r\n", 7);
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k %b", text, (size_t)SIZE), "OK");
    assert_string_equal(ask(c, "SET small 1"), "OK");
    long before_kib = resident_kib();
    for (int i = 0; i < SLOW; i++) {
        slow[i] = proxy_rig_dial(&r);
        proxy_rig_receive_buffer(slow[i], 128 * 1024);
        proxy_rig_write(slow[i], many, (size_t)EACH * 7);
    }
    for (int i = 0; i < 1000; i++)
        assert_string_equal(ask(c, "GET small"), "1");
    if (memory_counts())
        assert_true(resident_kib() - before_kib < 20 * 1024);
    for (int k = 0; k < EACH; k++) { /* nothing is missing */
        assert_int_equal(proxy_rig_read(slow[0], head, 8), 8);
        assert_memory_equal(head, "$15000\r\n", 8);
        assert_int_equal(proxy_rig_read(slow[0], text, SIZE), SIZE);
        assert_int_equal(proxy_rig_read(slow[0], head, 2), 2);
    }
    for (int i = 0; i < SLOW; i++)
        close(slow[i]);
    assert_int_equal(r.broken, 0);
    redisFree(c);
    free(text);
    proxy_rig_stop(&r);
}

static void test_a_deep_pipeline_stops_nobody(void **state)
{
    enum { DEPTH = 10000 };
    struct proxy_rig r;
    int done = 0;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redisContext *deep = proxy_rig_connect(&r), *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET n 0"), "OK");
    for (int i = 0; i < DEPTH; i++)
        assert_int_equal(redisAppendCommand(deep, "INCR n"), REDIS_OK);
    while (!done)
        assert_int_equal(redisBufferWrite(deep, &done), REDIS_OK);
    assert_string_equal(ask(c, "PING"), "PONG");
    for (int i = 1; i <= DEPTH; i++)
        assert_int_equal(atoi(reply(deep)), i);
    redisFree(deep);
    redisFree(c);
    proxy_rig_stop(&r);
}

/* Some send all that they have before they read: with Redis alone that works. */
static void test_who_sends_everything_first_is_served(void **state)
{
    enum { N = 3000, SIZE = 10000, HEAD = 22, REPLY = SIZE + 10 };
    struct proxy_rig r;
    char *request = malloc(HEAD + SIZE + 2), got[REPLY];
    long before_kib;

    (void)state;
    assert_non_null(request);
    memset(request, 'x', HEAD + SIZE);
    memcpy(request, "*2\r\n$4\r\nECHO\r\n$10000\r\n", HEAD);
    memcpy(request + HEAD + SIZE, "\r\n", 2);
    proxy_rig_start(&r, WAIT_MS);
    int fd = proxy_rig_dial(&r);
    before_kib = resident_kib();
    for (int i = 0; i < N; i++)
        proxy_rig_write(fd, request, HEAD + SIZE + 2);
    if (memory_counts())
        assert_true(resident_kib() - before_kib < 8 * 1024);
    for (int i = 0; i < N; i++) {
        assert_int_equal(proxy_rig_read(fd, got, REPLY), REPLY);
        assert_memory_equal(got, "$10000\r\nx", 9);
    }
    close(fd);
    free(request);
    proxy_rig_stop(&r);
}

/* A write that answers at length can't be asked for again: its reply comes over the shared connection, and
 * whoever doesn't take it is left out of the next. */
static void test_a_large_reply_of_a_write_is_waited_for_a_while(void **state)
{
    struct proxy_rig r;
    char *large = malloc(16 * MIB);

    (void)state;
    assert_non_null(large);
    memset(large, 'x', 16 * MIB);
    proxy_rig_start(&r, WAIT_MS);
    redisContext *c = proxy_rig_connect(&r), *reads = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a %b", large, (size_t)16 * MIB), "OK");
    assert_string_equal(ask(c, "SET b %b", large, (size_t)16 * MIB), "OK");
    redisReply *whole = redisCommand(reads, "GETDEL a");
    assert_non_null(whole);
    assert_int_equal(whole->len, 16 * MIB);
    freeReplyObject(whole);
    int slow = proxy_rig_dial(&r);
    proxy_rig_write(slow, "GETDEL b\r\n", 10);
    while (strcmp(ask(reads, "EXISTS b"), "0") != 0)
        wait_for(r.loop, 1);
    wait_connections(&r, r.master, 1); /* that client was closed, and the connection that it held up */
    assert_string_equal(ask(reads, "PING"), "PONG");
    assert_int_equal(r.broken, 0);
    close(slow);
    redisFree(c);
    redisFree(reads);
    free(large);
    proxy_rig_stop(&r);
}

static void test_the_next_master_is_connected_before_it_is_needed(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    r.route.n_replicas = 1;
    r.route.replicas[0] = r.replica->address;
    proxy_rig_apply(&r, ROUTE_SERVING, r.master);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    wait_connections(&r, r.replica, 2); /* the link of its master is one */
    assert_string_equal(ask(c, "WAIT 1 10000"), "1");
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    proxy_rig_promote(&r);
    assert_string_equal(ask(c, "GET a"), "1");
    redisFree(c);
    proxy_rig_stop(&r);
}

/* Route after route while requests are on their way: each reply once, in order, at who asked. */
static void test_many_route_changes_lose_and_mix_up_nothing(void **state)
{
    enum { CHANGES = 60, BATCH = 30, WHO = 8 };
    struct proxy_rig r;
    redisContext *c[WHO];
    unsigned unknown = 0;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redis_server_do(r.replica, "REPLICAOF NO ONE"); /* both would serve */
    for (int i = 0; i < WHO; i++)
        c[i] = proxy_rig_connect(&r);
    for (int change = 0; change < CHANGES; change++) {
        for (int k = 0; k < BATCH; k++)
            for (int i = 0; i < WHO; i++)
                send_(c[i], k % 3 == 2 ? "SET k%d %d" : "ECHO %d-%d", i, change * BATCH + k);
        proxy_rig_apply(&r, ROUTE_SERVING, change % 2 == 0 ? r.replica : r.master);
        for (int i = 0; i < WHO; i++)
            for (int k = 0; k < BATCH; k++) {
                char want[32];
                const char *got = reply(c[i]);
                (void)snprintf(want, sizeof(want), "%d-%d", i, change * BATCH + k);
                if (k % 3 != 2)
                    assert_string_equal(got, want);
                else if (strcmp(got, "OK") != 0)
                    assert_memory_equal(got, "MRUNKNOWN ", 10), unknown++;
            }
    }
    assert_int_equal(proxy_rig_stats(&r).unknown, unknown);
    assert_int_equal(r.broken, 0);
    for (int i = 0; i < WHO; i++)
        redisFree(c[i]);
    proxy_rig_stop(&r);
}

static bool is_busy(void *ctx)
{
    return strncmp(ask(ctx, "GET a"), "BUSY", 4) == 0;
}

/* A connection of its own can't be told the database then; its client gets what Redis says, and may end the
 * script. */
static void test_a_script_that_runs_closes_nobody(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    redis_server_do(r.master, "CONFIG SET busy-reply-threshold 10");
    redisContext *c = proxy_rig_connect(&r), *other = proxy_rig_connect(&r);
    redisContext *script = redisConnect(r.master->address.host, r.master->address.port);
    assert_string_equal(ask(c, "SELECT 5"), "OK");
    assert_string_equal(ask(c, "SET a 1"), "OK");
    send_(script, "EVAL %s 0", "while true do end");
    assert_true(wait_until(r.loop, is_busy, c, WAIT_MS));
    assert_string_equal(ask(other, "SELECT 5"),
                        "BUSY Redis is busy running a script. You can only call SCRIPT KILL or "
                        "SHUTDOWN NOSAVE.");
    assert_string_equal(ask(c, "MULTI"), "OK");
    (void)ask(c, "SET a 2");
    assert_memory_equal(ask(c, "EXEC"), "EXECABORT ", 10);
    assert_string_equal(ask(c, "SCRIPT KILL"), "OK");
    assert_non_null(strstr(reply(script), "killed by user"));
    assert_string_equal(ask(c, "GET a"), "1");
    assert_int_equal(r.broken, 0);
    redisFree(c);
    redisFree(other);
    redisFree(script);
    proxy_rig_stop(&r);
}

static void test_an_idle_client_is_small(void **state)
{
    (void)state;
    assert_in_range(sizeof(struct client), 1, 512);
}

/* What comes from many at once, and what goes to them: in few system calls, where there is io_uring. */
static void test_many_are_read_and_answered_together(void **state)
{
    enum { WHO = 40, DEEP = 3 };
    struct proxy_rig r;
    redisContext *who[WHO];
    struct batch *here = NULL;
    int why = 0;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    for (int i = 0; i < WHO; i++) {
        who[i] = proxy_rig_connect(&r);
        assert_string_equal(ask(who[i], "SET k%d %d", i, i), "OK");
    }
    uint64_t bytes = proxy_rig_stats(&r).received_bytes;
    redis_server_suspend(r.master);
    for (int i = 0; i < WHO; i++)
        for (int k = 0; k < DEEP; k++)
            bytes += send_(who[i], k == 1 ? "GET k%d" : "INCR k%d", i);
    proxy_rig_wait_received(&r, bytes);
    redis_server_resume(r.master);
    for (int i = 0; i < WHO; i++)
        for (int k = 0; k < DEEP; k++)
            assert_int_equal(strtol(reply(who[i]), NULL, 10), k == 2 ? i + 2 : i + 1);
    struct worker_stats stats = proxy_rig_stats(&r);
    if ((here = batch_open(&why)) != NULL)
        assert_true(stats.batched_writes >= WHO / 2); /* what the last turn takes may be few */
    else
        assert_int_equal(stats.batched_writes + stats.batched_reads, 0);
    batch_close(here);
    for (int i = 0; i < WHO; i++)
        redisFree(who[i]);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_clients_share_one_connection),
        cmocka_unit_test(test_many_are_read_and_answered_together),
        cmocka_unit_test(test_clients_with_the_same_state_share),
        cmocka_unit_test(test_who_has_state_of_its_own_does_not_share),
        cmocka_unit_test(test_clients_that_do_not_read_large_replies_stop_nobody),
        cmocka_unit_test(test_clients_that_do_not_read_many_replies_take_no_memory),
        cmocka_unit_test(test_a_deep_pipeline_stops_nobody),
        cmocka_unit_test(test_who_sends_everything_first_is_served),
        cmocka_unit_test(test_a_large_reply_of_a_write_is_waited_for_a_while),
        cmocka_unit_test(test_the_next_master_is_connected_before_it_is_needed),
        cmocka_unit_test(test_many_route_changes_lose_and_mix_up_nothing),
        cmocka_unit_test(test_a_script_that_runs_closes_nobody),
        cmocka_unit_test(test_an_idle_client_is_small),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
