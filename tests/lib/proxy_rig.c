#include "tests/lib/proxy_rig.h"

#include "common/log.h"
#include "common/loop.h"
#include "tests/lib/wait.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

static void proxy_rig_on_broken(void *ctx, const char *instance, uint64_t epoch,
                                const struct topology_address *master)
{
    struct proxy_rig *r = ctx;

    assert_string_equal(instance, "cart");
    assert_true(topology_address_is_set(master));
    r->broken++;
    r->broken_epoch = epoch;
}

static void proxy_rig_on_switched(void *ctx, const char *instance, uint64_t epoch, uint32_t acks,
                                  int64_t took_us)
{
    struct proxy_rig *r = ctx;

    assert_string_equal(instance, "cart");
    assert_true(took_us >= 0);
    if (epoch != r->switched_epoch || acks != r->switched_acks)
        r->n_switched = 0;
    assert_true(epoch >= r->switched_epoch);
    r->switched_epoch = epoch;
    r->switched_acks = acks;
    r->n_switched++;
    assert_true(r->n_switched <= (r->second ? 2 : 1)); /* each tells once */
}

static void proxy_rig_on_held(void *ctx, const char *instance, uint64_t epoch, uint64_t number)
{
    struct proxy_rig *r = ctx;

    assert_string_equal(instance, "cart");
    assert_int_equal(epoch, r->route.epoch);
    if (number == r->pauses)
        r->n_held++;
    assert_true(r->n_held <= (r->second ? 2 : 1));
}

static void proxy_rig_on_silent(void *ctx, const char *instance, uint64_t epoch,
                                const struct topology_address *master)
{
    struct proxy_rig *r = ctx;

    assert_string_equal(instance, "cart");
    assert_true(epoch <= r->route.epoch);
    assert_true(topology_address_is_set(master));
    r->silent++;
}

static void proxy_rig_on_listen_failed(void *ctx, const char *instance, uint16_t port, int err)
{
    struct proxy_rig *r = ctx;

    assert_string_equal(instance, "cart");
    assert_int_equal(port, r->route.port);
    assert_true(err > 0);
    r->listen_failed++;
}

static void proxy_rig_on_drained(void *ctx)
{
    struct proxy_rig *r = ctx;

    r->drained = true;
}

static bool proxy_rig_is_switched(void *ctx)
{
    const struct proxy_rig *r = ctx;

    return r->switched_epoch == r->route.epoch && r->n_switched == (r->second ? 2 : 1);
}

static void proxy_rig_tell(struct proxy_rig *r)
{
    worker_apply(r->worker, &r->route);
    if (r->second)
        worker_apply(r->second, &r->route);
}

void proxy_rig_apply(struct proxy_rig *r, enum route_state state, const struct redis_server *master)
{
    r->route.state = state;
    r->route.epoch++;
    r->route.revision++;
    r->route.master = master ? master->address : (struct topology_address){0};
    proxy_rig_tell(r);
    if (state == ROUTE_SERVING)
        assert_true(wait_until(r->loop, proxy_rig_is_switched, r, WAIT_MS));
}

void proxy_rig_let_read(struct proxy_rig *r, enum topology_reads reads)
{
    r->route.reads = reads;
    r->route.n_readers = 1;
    r->route.readers[0] = (struct topology_reader){.address = r->replica->address, .zone = "here"};
    proxy_rig_apply(r, ROUTE_SERVING, r->master);
}

static bool proxy_rig_is_counted(void *ctx)
{
    const struct proxy_rig *r = ctx;
    redisContext *c = redisConnect(r->master->address.host, r->master->address.port);

    assert_non_null(c);
    freeReplyObject(redisCommand(c, "PUBLISH rig x"));
    redisReply *reply = redisCommand(c, "WAIT 1 10");
    bool counted = reply && reply->integer == 1;
    freeReplyObject(reply);
    redisFree(c);
    return counted;
}

void proxy_rig_be_strict(struct proxy_rig *r, uint32_t acks)
{
    if (acks > 0)
        assert_true(wait_until(r->loop, proxy_rig_is_counted, r, WAIT_MS));
    r->route.durability = acks > 0 ? TOPOLOGY_STRICT : TOPOLOGY_ASYNC;
    r->route.acks = acks;
    r->route.revision++;
    proxy_rig_tell(r);
}

void proxy_rig_start_strict(struct proxy_rig *r)
{
    proxy_rig_start(r, WAIT_MS);
    proxy_rig_be_strict(r, 1);
}

void proxy_rig_confirm(struct proxy_rig *r)
{
    proxy_rig_tell(r);
}

void proxy_rig_pause(struct proxy_rig *r, uint32_t limit_ms)
{
    r->pauses++;
    r->n_held = 0;
    worker_pause(r->worker, r->route.name, r->route.epoch, r->pauses, limit_ms);
    if (r->second)
        worker_pause(r->second, r->route.name, r->route.epoch, r->pauses, limit_ms);
}

static bool proxy_rig_is_held(void *ctx)
{
    const struct proxy_rig *r = ctx;

    return r->n_held == (r->second ? 2 : 1);
}

void proxy_rig_wait_held(struct proxy_rig *r)
{
    assert_true(wait_until(r->loop, proxy_rig_is_held, r, WAIT_MS));
}

static bool proxy_rig_is_in_step(void *ctx)
{
    const struct proxy_rig *r = ctx;
    char offset[32];

    (void)snprintf(offset, sizeof(offset), "%s", redis_server_info(r->master, "master_repl_offset"));
    return strcmp(redis_server_info(r->replica, "slave_repl_offset"), offset) == 0;
}

void proxy_rig_exchange(struct proxy_rig *r)
{
    redis_server_do(r->master, "CLIENT PAUSE 60000 WRITE");
    assert_true(wait_until(r->loop, proxy_rig_is_in_step, r, WAIT_MS));
    redis_server_do(r->master, "REPLICAOF 127.0.0.1 1");
    redis_server_do(r->replica, "REPLICAOF NO ONE");
    redis_server_do(r->master, "REPLICAOF %s %d", r->replica->address.host, r->replica->address.port);
    redis_server_do(r->master, "CLIENT UNPAUSE");
    struct redis_server *old = r->master;
    r->master = r->replica;
    r->replica = old;
}

void proxy_rig_promote(struct proxy_rig *r)
{
    redis_server_do(r->replica, "REPLICAOF NO ONE");
    proxy_rig_apply(r, ROUTE_SERVING, r->replica);
}

struct proxy_rig_count {
    struct proxy_rig *rig;
    unsigned broken, silent;
};

static bool proxy_rig_is_broken(void *ctx)
{
    const struct proxy_rig_count *c = ctx;

    return c->rig->broken >= c->broken && c->rig->silent >= c->silent;
}

void proxy_rig_wait_silent(struct proxy_rig *r, unsigned count)
{
    struct proxy_rig_count c = {r, 0, count};

    assert_true(wait_until(r->loop, proxy_rig_is_broken, &c, WAIT_MS));
}

void proxy_rig_wait_broken(struct proxy_rig *r, unsigned count)
{
    struct proxy_rig_count c = {r, count, 0};

    assert_true(wait_until(r->loop, proxy_rig_is_broken, &c, WAIT_MS));
}

static bool proxy_rig_is_drained(void *ctx)
{
    const struct proxy_rig *r = ctx;

    return r->drained;
}

void proxy_rig_wait_drained(struct proxy_rig *r)
{
    worker_drain(r->worker, WAIT_MS, proxy_rig_on_drained, r);
    assert_true(wait_until(r->loop, proxy_rig_is_drained, r, WAIT_MS));
}

struct worker_stats proxy_rig_stats(struct proxy_rig *r)
{
    struct worker_stats stats;

    assert_null(r->second);
    worker_read_stats(r->worker, "cart", &stats);
    return stats;
}

static bool proxy_rig_in_sync(void *ctx)
{
    const struct proxy_rig *r = ctx;

    return strcmp(redis_server_info(r->replica, "master_link_status"), "up") == 0;
}

bool proxy_rig_plain;

void proxy_rig_start_limited(struct proxy_rig *r, int hold_ms, int threads,
                             const struct limits_config *limits)
{
    memset(r, 0, sizeof(*r));
    r->limits = limits_open(limits);
    assert_non_null(r->limits);
    r->ports = threads > 1 ? ports_create() : NULL;
    log_init("test", "data", LOG_LEVEL_ERROR);
    (void)signal(SIGPIPE, SIG_IGN); // NOLINT(bugprone-signal-handler)
    r->loop = loop_create(false);
    assert_non_null(r->loop);
    r->master = redis_server_start(NULL);
    r->replica = redis_server_start(NULL);
    redis_server_do(r->master, "CONFIG SET repl-diskless-sync-delay 0");
    redis_server_do(r->replica, "REPLICAOF %s %d", r->master->address.host, r->master->address.port);
    assert_true(wait_until(r->loop, proxy_rig_in_sync, r, WAIT_MS));
    struct worker_config config = {.control = r->loop,
                                   .bind = "127.0.0.1",
                                   .zone = "here",
                                   .ports = r->ports,
                                   .limits = r->limits,
                                   .hold_ms = hold_ms,
                                   .ack_ms = PROXY_RIG_ACK_MS,
                                   .waits = true,
                                   .io_uring = !proxy_rig_plain,
                                   .on_broken = proxy_rig_on_broken,
                                   .on_switched = proxy_rig_on_switched,
                                   .on_listen_failed = proxy_rig_on_listen_failed,
                                   .on_held = proxy_rig_on_held,
                                   .on_silent = proxy_rig_on_silent,
                                   .ctx = r};
    assert_int_equal(worker_start(&r->worker, &config), 0);
    if (threads == 2)
        assert_int_equal(worker_start(&r->second, &config), 0);
    (void)snprintf(r->route.name, sizeof(r->route.name), "cart");
    r->route.port = redis_server_free_port();
    proxy_rig_apply(r, ROUTE_SERVING, r->master);
    assert_int_equal(r->listen_failed, 0);
}

static void proxy_rig_start_with(struct proxy_rig *r, int hold_ms, int threads)
{
    const struct limits_config limits = {.data = {.request_bytes = LIMITS_REQUEST_BYTES,
                                                  .held_bytes = LIMITS_HELD_BYTES,
                                                  .reply_bytes = SESSION_OUT_LIMIT}};

    proxy_rig_start_limited(r, hold_ms, threads, &limits);
}

void proxy_rig_start(struct proxy_rig *r, int hold_ms)
{
    proxy_rig_start_with(r, hold_ms, 1);
}

void proxy_rig_start_two(struct proxy_rig *r, int hold_ms)
{
    proxy_rig_start_with(r, hold_ms, 2);
}

void proxy_rig_stop(struct proxy_rig *r)
{
    worker_stop(r->worker);
    worker_stop(r->second);
    limits_close(r->limits);
    ports_free(r->ports);
    redis_server_stop(r->master);
    redis_server_stop(r->replica);
    loop_destroy(r->loop);
}

redisContext *proxy_rig_connect(const struct proxy_rig *r)
{
    const struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    redisContext *c = redisConnect("127.0.0.1", r->route.port);

    assert_non_null(c);
    assert_int_equal(c->err, 0);
    assert_int_equal(redisSetTimeout(c, limit), REDIS_OK);
    return c;
}

size_t proxy_rig_send(redisContext *c, const char *fmt, ...)
{
    char *text = NULL;
    int done = 0;
    va_list ap;

    va_start(ap, fmt);
    int len = redisvFormatCommand(&text, fmt, ap);
    va_end(ap);
    assert_true(len > 0);
    assert_int_equal(redisAppendFormattedCommand(c, text, (size_t)len), REDIS_OK);
    redisFreeCommand(text);
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    return (size_t)len;
}

struct received {
    struct proxy_rig *rig;
    uint64_t bytes;
};

static bool proxy_rig_has_received(void *ctx)
{
    const struct received *it = ctx;

    return proxy_rig_stats(it->rig).received_bytes >= it->bytes;
}

void proxy_rig_wait_received(struct proxy_rig *r, uint64_t bytes)
{
    struct received it = {r, bytes};

    assert_true(wait_until(r->loop, proxy_rig_has_received, &it, WAIT_MS));
}

const char *proxy_rig_reply(redisContext *c)
{
    static char text[256];
    redisReply *reply = NULL;

    if (redisGetReply(c, (void **)&reply) != REDIS_OK)
        return "closed";
    if (reply->type == REDIS_REPLY_INTEGER)
        (void)snprintf(text, sizeof(text), "%lld", reply->integer);
    else if (reply->type == REDIS_REPLY_NIL)
        (void)snprintf(text, sizeof(text), "nil");
    else if (reply->type == REDIS_REPLY_ARRAY && reply->elements == 3 && reply->element[0]->str &&
             reply->element[1]->str)
        (void)snprintf(text, sizeof(text), "%s %s %s", reply->element[0]->str, reply->element[1]->str,
                       reply->element[2]->str ? reply->element[2]->str : "-");
    else
        (void)snprintf(text, sizeof(text), "%s", reply->str ? reply->str : "array");
    freeReplyObject(reply);
    return text;
}

const char *proxy_rig_ask(redisContext *c, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int rc = redisvAppendCommand(c, fmt, ap);
    va_end(ap);
    assert_int_equal(rc, REDIS_OK);
    return proxy_rig_reply(c);
}

void proxy_rig_assert_begins(const char *text, const char *begin)
{
    if (strncmp(text, begin, strlen(begin)) != 0)
        fail_msg("\"%s\" does not begin with \"%s\"", text, begin);
}

int proxy_rig_dial(const struct proxy_rig *r)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(r->route.port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    const struct timeval limit = {.tv_sec = WAIT_MS / 1000};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)), 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)), 0);
    assert_int_equal(connect(fd, (const struct sockaddr *)&address, sizeof(address)), 0);
    return fd;
}

void proxy_rig_receive_buffer(int fd, int bytes)
{
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof(bytes)), 0);
}

void proxy_rig_write(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);
        assert_true(n > 0);
        data += n;
        len -= (size_t)n;
    }
}

size_t proxy_rig_read(int fd, char *data, size_t len)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = read(fd, data + got, len - got);
        if (n <= 0)
            break;
        got += (size_t)n;
    }
    return got;
}
