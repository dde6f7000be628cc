/* Durability strict, when the master is another one: what a client is told by the proxy itself keeps its
 * place among replies that are held; and nothing is read from who is no master.
 *
 *   pipelined: SET GET SET GET SET GET ─► all held ─► the master dies ─► unknown, GET again, unknown, GET
 * again … the next master's replies are held, and released at once */
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

enum { PAIRS = 3 };

struct calls {
    const struct redis_server *at;
    const char *word; /* of the command */
    int least;
};

static bool has_taken(void *ctx)
{
    const struct calls *c = ctx;
    char find[64];
    redisReply *stats = redis_server_command(c->at, "INFO commandstats");

    snprintf(find, sizeof(find), "cmdstat_%s:calls=", c->word);
    const char *found = stats && stats->str ? strstr(stats->str, find) : NULL;
    bool enough = found && strtol(found + strlen(find), NULL, 10) >= c->least;
    freeReplyObject(stats);
    return enough;
}

/* The server has executed so many; and the proxy has seen all that it said. */
static void wait_taken(struct proxy_rig *r, const struct redis_server *at, const char *word, int least)
{
    struct calls c = {at, word, least};
    redisContext *other = proxy_rig_connect(r);

    assert_true(wait_until(r->loop, has_taken, &c, WAIT_MS));
    for (int i = 0; i < 2; i++)
        assert_string_equal(proxy_rig_ask(other, "ECHO x"), "x");
    redisFree(other);
}

/* The server has a replica that has acknowledged something: WAIT counts it only from then on. */
static bool is_followed(void *ctx)
{
    redisReply *info = redis_server_command(ctx, "INFO replication");
    const char *replica = info && info->str ? strstr(info->str, "state=online,offset=") : NULL;
    bool counts = replica && strtol(replica + strlen("state=online,offset="), NULL, 10) > 0;

    freeReplyObject(info);
    return counts;
}

static bool is_counted(void *ctx)
{
    return strcmp(proxy_rig_ask(ctx, "SET again 1"), "OK") == 0;
}

static void test_own_answers_stand_between_held_ones(void **state)
{
    struct proxy_rig r;
    struct redis_server *third = redis_server_start(NULL);

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_be_strict(&r, 1);
    redis_server_do(third, "REPLICAOF %s %d", r.replica->address.host, r.replica->address.port);
    assert_true(wait_until(r.loop, is_followed, r.replica, WAIT_MS));
    redisContext *c = proxy_rig_connect(&r), *other = proxy_rig_connect(&r);
    assert_true(wait_until(r.loop, is_counted, other, WAIT_MS));
    assert_string_equal(proxy_rig_ask(c, "WATCH a"), "OK"); /* so it has a connection of its own */
    assert_string_equal(proxy_rig_ask(c, "UNWATCH"), "OK");

    redis_server_suspend(r.replica);
    for (int i = 0; i < PAIRS; i++)
        redisAppendCommand(c, "SET a %d", i);
    for (int i = 0; i < PAIRS; i++) {
        redisAppendCommand(c, "INCR n");
        redisAppendCommand(c, "GET a");
    }
    int done = 0;
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    wait_taken(&r, r.master, "get", PAIRS);
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);

    /* Nobody acknowledges yet for the next master; a write of that key keeps the reads waiting. */
    struct redis_server *next = r.replica;
    redis_server_suspend(third);
    redis_server_resume(next);
    proxy_rig_send(other, "SET a new");
    proxy_rig_promote(&r);
    wait_taken(&r, next, "get", PAIRS);
    redis_server_resume(third);

    for (int i = 0; i < PAIRS; i++)
        assert_true(strncmp(proxy_rig_reply(c), "MRUNKNOWN ", 10) == 0);
    for (int i = 0; i < PAIRS; i++) {
        assert_true(strncmp(proxy_rig_reply(c), "MRUNKNOWN ", 10) == 0);
        const char *read = proxy_rig_reply(c);
        assert_true(strcmp(read, "2") == 0 || strcmp(read, "new") == 0); /* whichever came first */
    }
    assert_string_equal(proxy_rig_reply(other), "OK");
    redisFree(c);
    redisFree(other);
    redis_server_stop(third);
    proxy_rig_stop(&r);
}

/* A proxy that starts with the routes of its cache file, say. */
static void test_nothing_is_read_from_a_master_that_came_back_as_a_replica(void **state)
{
    struct proxy_rig r;

    (void)state;
    proxy_rig_start(&r, WAIT_MS);
    proxy_rig_be_strict(&r, 1);
    redisContext *c = proxy_rig_connect(&r);
    assert_string_equal(proxy_rig_ask(c, "SET a 1"), "OK");
    redis_server_kill(r.master, SIGKILL);
    proxy_rig_wait_broken(&r, 1);
    redis_server_restart(r.master, NULL);
    redis_server_do(r.master, "SET a old");
    redis_server_do(r.master, "REPLICAOF 127.0.0.1 1");
    proxy_rig_confirm(&r); /* who says so hasn't heard either */
    proxy_rig_send(c, "GET a");
    proxy_rig_wait_broken(&r, 2);
    proxy_rig_promote(&r);
    assert_string_equal(proxy_rig_reply(c), "1");
    redisFree(c);
    proxy_rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_own_answers_stand_between_held_ones),
        cmocka_unit_test(test_nothing_is_read_from_a_master_that_came_back_as_a_replica),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
