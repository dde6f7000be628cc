/* Several replicas to read from: spread over all, the nearest first, and what each is told. */
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

static bool is_linked(void *ctx)
{
    return strcmp(redis_server_info(ctx, "master_link_status"), "up") == 0;
}

static struct redis_server *another_replica(struct proxy_rig *r)
{
    struct redis_server *s = redis_server_start(NULL);

    redis_server_do(s, "REPLICAOF %s %d", r->master->address.host, r->master->address.port);
    assert_true(wait_until(r->loop, is_linked, s, WAIT_MS));
    return s;
}

static void let_read_two(struct proxy_rig *r, enum topology_reads reads, const struct redis_server *second)
{
    r->route.reads = reads;
    r->route.n_readers = 2;
    r->route.readers[0] = (struct topology_reader){.address = r->replica->address, .zone = "there"};
    r->route.readers[1] = (struct topology_reader){.address = second->address, .zone = "here"};
    proxy_rig_apply(r, ROUTE_SERVING, r->master);
}

struct both {
    redisContext **c;
    const struct redis_server *a, *b;
};

/* Each client reads once: half of them at each replica? */
static bool is_spread(void *ctx)
{
    const struct both *both = ctx;
    long a = calls(both->a, "get"), b = calls(both->b, "get");

    for (int i = 0; i < CLIENTS; i++)
        (void)ask(both->c[i], "GET k");
    return calls(both->a, "get") == a + CLIENTS / 2 && calls(both->b, "get") == b + CLIENTS / 2;
}

static void test_clients_are_spread_over_replicas(void **state)
{
    struct proxy_rig r;
    redisContext *c[CLIENTS];

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    struct redis_server *second = another_replica(&r);
    struct both both = {c, r.replica, second};
    let_read_two(&r, TOPOLOGY_READS_REPLICA, second);
    for (int i = 0; i < CLIENTS; i++)
        c[i] = proxy_rig_connect(&r);
    assert_true(wait_until(r.loop, is_spread, &both, WAIT_MS));
    assert_int_equal(proxy_rig_stats(&r).replicas, 2);
    for (int i = 0; i < CLIENTS; i++)
        redisFree(c[i]);
    proxy_rig_stop(&r);
    redis_server_stop(second);
}

static void test_the_nearest_first_then_any_then_the_master(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    struct redis_server *near = another_replica(&r);
    let_read_two(&r, TOPOLOGY_READS_NEAREST, near);
    redisContext *c = proxy_rig_connect(&r), *d = proxy_rig_connect(&r);
    wait_served_by(&r, c, near);
    wait_served_by(&r, d, near);
    redis_server_kill(near, SIGKILL);
    wait_served_by(&r, c, r.replica);
    wait_served_by(&r, d, r.replica);
    redis_server_kill(r.replica, SIGKILL);
    wait_served_by(&r, c, r.master);
    redis_server_restart(near, NULL);
    wait_served_by(&r, c, near);
    assert_int_equal(proxy_rig_stats(&r).unknown, 0);
    redisFree(c);
    redisFree(d);
    proxy_rig_stop(&r);
    redis_server_stop(near);
}

/* Each user, database and protocol has connections of its own to a replica, too. */
static void test_a_replica_is_told_who_reads(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_let_read(&r, TOPOLOGY_READS_REPLICA);
    redisContext *c = proxy_rig_connect(&r), *d = proxy_rig_connect(&r);
    assert_string_equal(ask(c, "SET k zero"), "OK");
    assert_string_equal(ask(d, "SELECT 3"), "OK");
    assert_string_equal(ask(d, "SET k three"), "OK");
    wait_in_step(&r);
    wait_served_by(&r, c, r.replica);
    wait_served_by(&r, d, r.replica);
    assert_string_equal(ask(c, "GET k"), "zero");
    assert_string_equal(ask(d, "GET k"), "three");
    assert_string_equal(ask(d, "SELECT 0"), "OK");
    assert_string_equal(ask(d, "GET k"), "zero");
    wait_served_by(&r, d, r.replica);
    assert_string_equal(ask(d, "GET k"), "zero");
    redisFree(c);
    redisFree(d);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_are_spread_over_replicas),
        cmocka_unit_test(test_the_nearest_first_then_any_then_the_master),
        cmocka_unit_test(test_a_replica_is_told_who_reads),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
