/* The data path with real redis-servers behind it: a worker in this process, kills and promotions done here.
 */
#include "common/log.h"
#include "common/loop.h"
#include "proxy/worker.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/wait.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

/* One instance with a master and a replica, and one worker in front of it. */
struct rig {
    struct loop *loop;
    struct worker *worker;
    struct redis_server *master, *replica;
    struct route route;
    unsigned broken, switched, listen_failed;
    uint64_t broken_epoch, switched_epoch;
    bool drained;
};

static void rig_on_broken(void *ctx, const char *instance, uint64_t epoch,
                          const struct topology_address *master)
{
    struct rig *r = ctx;

    assert_string_equal(instance, "cart");
    assert_true(topology_address_is_set(master));
    r->broken++;
    r->broken_epoch = epoch;
}

static void rig_on_switched(void *ctx, const char *instance, uint64_t epoch, int64_t took_us)
{
    struct rig *r = ctx;

    assert_string_equal(instance, "cart");
    assert_true(took_us >= 0);
    r->switched++;
    r->switched_epoch = epoch;
}

static void rig_on_listen_failed(void *ctx, const char *instance, uint16_t port, int err)
{
    struct rig *r = ctx;

    (void)instance;
    (void)port;
    assert_true(err > 0);
    r->listen_failed++;
}

static bool rig_is_switched(void *ctx)
{
    const struct rig *r = ctx;
    return r->switched_epoch == r->route.epoch;
}

static bool rig_is_broken(void *ctx)
{
    const struct rig *r = ctx;
    return r->broken > 0;
}

static void rig_apply(struct rig *r, enum route_state state, const struct redis_server *master)
{
    r->route.state = state;
    r->route.epoch++;
    r->route.revision++;
    r->route.master = master ? master->address : (struct topology_address){0};
    worker_apply(r->worker, &r->route);
    if (state == ROUTE_SERVING)
        assert_true(wait_until(r->loop, rig_is_switched, r, WAIT_MS));
}

static void rig_replicate(struct rig *r)
{
    redis_server_do(r->replica, "REPLICAOF %s %d", r->master->address.host, r->master->address.port);
    while (strcmp(redis_server_info(r->replica, "master_link_status"), "up") != 0)
        usleep(1000);
}

static void rig_start(struct rig *r, int hold_ms)
{
    memset(r, 0, sizeof(*r));
    log_init("test", "data", LOG_LEVEL_WARN);
    signal(SIGPIPE, SIG_IGN); // NOLINT(bugprone-signal-handler)
    r->loop = loop_create(false);
    r->master = redis_server_start(NULL);
    r->replica = redis_server_start(NULL);
    rig_replicate(r);
    struct worker_config config = {.control = r->loop,
                                   .bind = "127.0.0.1",
                                   .hold_ms = hold_ms,
                                   .on_broken = rig_on_broken,
                                   .on_switched = rig_on_switched,
                                   .on_listen_failed = rig_on_listen_failed,
                                   .ctx = r};
    assert_int_equal(worker_start(&r->worker, &config), 0);
    strcpy(r->route.name, "cart"); // NOLINT(clang-analyzer-security.insecureAPI.strcpy)
    r->route.port = redis_server_free_port();
    rig_apply(r, ROUTE_SERVING, r->master);
}

static void rig_stop(struct rig *r)
{
    worker_stop(r->worker);
    redis_server_stop(r->master);
    redis_server_stop(r->replica);
    loop_destroy(r->loop);
}

static redisContext *rig_connect(const struct rig *r)
{
    redisContext *c = redisConnect("127.0.0.1", r->route.port);

    assert_non_null(c);
    assert_int_equal(c->err, 0);
    return c;
}

/* The reply as one line of text. */
static const char *ask(redisContext *c, const char *fmt, ...)
{
    static char text[256];
    va_list ap;

    va_start(ap, fmt);
    redisReply *reply = redisvCommand(c, fmt, ap);
    va_end(ap);
    if (!reply)
        return "closed";
    if (reply->type == REDIS_REPLY_INTEGER)
        snprintf(text, sizeof(text), "%lld", reply->integer);
    else if (reply->type == REDIS_REPLY_NIL)
        snprintf(text, sizeof(text), "nil");
    else
        snprintf(text, sizeof(text), "%s", reply->str ? reply->str : "array");
    freeReplyObject(reply);
    return text;
}

static void promote(struct rig *r)
{
    redis_server_do(r->replica, "REPLICAOF NO ONE");
    rig_apply(r, ROUTE_SERVING, r->replica);
}

static void test_a_killed_master_is_replaced_and_the_client_stays(void **state)
{
    struct rig r;

    (void)state;
    rig_start(&r, 10000);
    redisContext *c = rig_connect(&r);
    assert_string_equal(ask(c, "SET a 1"), "OK");
    assert_string_equal(ask(c, "WAIT 1 1000"), "1");
    redis_server_kill(r.master, SIGKILL);
    assert_true(wait_until(r.loop, rig_is_broken, &r, WAIT_MS));
    assert_int_equal(r.broken_epoch, 1);
    /* Held: the request is written now, the answer comes from the next master. */
    assert_int_equal(redisAppendCommand(c, "GET a"), REDIS_OK);
    int done = 0;
    assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    promote(&r);
    redisReply *reply = NULL;
    assert_int_equal(redisGetReply(c, (void **)&reply), REDIS_OK);
    assert_string_equal(reply->str, "1");
    freeReplyObject(reply);
    assert_string_equal(ask(c, "SET b 2"), "OK");
    assert_int_equal(r.broken, 1);
    redisFree(c);
    rig_stop(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_killed_master_is_replaced_and_the_client_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
