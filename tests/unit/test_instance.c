/* An instance of the proxy in the test's own thread, so that it is known what comes in the same turn of the
 * loop. The masters are sockets of the test. */
#include "proxy/instance.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/limits.h"
#include "proxy/schedule.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/wait.h"

#include <arpa/inet.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct bench {
    struct shard shard;
    struct schedule schedule;
    struct instance *instance;
    struct route route;
    ev_prepare prepare;
    int listener, master, client; /* of the test: the master's two, and the client's end */
    uint16_t master_port;
    char text[512];
};

static void on_broken(struct shard *shard, const struct route *route)
{
    (void)shard;
    fail_msg("%s came into doubt", route->name);
}

static void on_switched(struct shard *shard, const struct route *route, int64_t took_us)
{
    (void)shard;
    assert_true(route->epoch > 0 && took_us >= 0);
}

static void on_listen_failed(struct shard *shard, const struct route *route, int err)
{
    (void)shard;
    fail_msg("%s: %s", route->name, strerror(err));
}

static void on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
    (void)ev;
    (void)revents;
    shard_settle(w->data);
}

static int dial(uint16_t port)
{
    struct sockaddr_in to = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&to, sizeof(to)), 0);
    return fd;
}

static int listen_at(uint16_t *port)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(at);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
    assert_int_equal(listen(fd, 8), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    *port = ntohs(at.sin_port);
    return fd;
}

static bool is_readable(void *ctx)
{
    struct pollfd p = {.fd = *(int *)ctx, .events = POLLIN};

    return poll(&p, 1, 0) == 1;
}

/* Runs the loop until something has come, and returns it. */
static const char *hear(struct bench *b, int fd)
{
    assert_true(wait_until(b->shard.loop, is_readable, &fd, WAIT_MS));
    ssize_t n = read(fd, b->text, sizeof(b->text) - 1);
    assert_true(n >= 0);
    b->text[n] = '\0';
    return b->text;
}

static void say(int fd, const char *text)
{
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
}

static int setup(void **state)
{
    struct bench *b = calloc(1, sizeof(*b));
    const struct limits_config limits = {
        .data = {.request_bytes = LIMITS_REQUEST_BYTES, .reply_bytes = SESSION_OUT_LIMIT}};

    assert_non_null(b);
    log_init("test", "instance", LOG_LEVEL_ERROR);
    (void)signal(SIGPIPE, SIG_IGN); // NOLINT(bugprone-signal-handler)
    b->shard = (struct shard){.loop = loop_create(false),
                              .buffer = malloc(SHARD_BUFFER),
                              .bind = "127.0.0.1",
                              .hold_ms = WAIT_MS,
                              .limits = limits_open(&limits),
                              .on_broken = on_broken,
                              .on_switched = on_switched,
                              .on_listen_failed = on_listen_failed};
    b->instance = instance_new();
    assert_true(b->shard.loop && b->shard.buffer && b->shard.limits && b->instance);
    b->shard.ev = loop_ev(b->shard.loop);
    schedule_init(&b->schedule, &b->shard, false, false);
    list_init(&b->shard.unread);
    list_init(&b->shard.dirty);
    list_init(&b->shard.flush);
    ev_prepare_init(&b->prepare, on_prepare);
    b->prepare.data = &b->shard;
    ev_prepare_start(b->shard.ev, &b->prepare);
    b->listener = listen_at(&b->master_port);
    b->route = (struct route){
        .name = "cart", .port = redis_server_free_port(), .state = ROUTE_SERVING, .epoch = 1, .revision = 1};
    b->route.master = (struct topology_address){.host = "127.0.0.1", .port = b->master_port};
    instance_open(b->instance, &b->shard, &b->route);
    b->client = dial(b->route.port);
    say(b->client, "SET a 1\r\n");
    assert_true(wait_until(b->shard.loop, is_readable, &b->listener, WAIT_MS));
    b->master = accept(b->listener, NULL, NULL);
    assert_true(b->master >= 0);
    assert_string_equal(hear(b, b->master), "SET a 1\r\n");
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct bench *b = *state;

    instance_free(b->instance);
    ev_prepare_stop(b->shard.ev, &b->prepare);
    loop_destroy(b->shard.loop);
    limits_close(b->shard.limits);
    free(b->shard.buffer);
    close(b->listener);
    close(b->master);
    close(b->client);
    free(b);
    return 0;
}

static void apply(void *ctx)
{
    struct bench *b = ctx;

    instance_apply(b->instance, &b->route, loop_clock_us());
}

/* The old master was stopped, has been replaced, and goes on: its +OK and the new route come together. */
static void test_a_reply_that_comes_with_the_next_route_is_not_believed(void **state)
{
    struct bench *b = *state;
    uint16_t port;
    int next = listen_at(&port);

    say(b->master, "+OK\r\n");
    b->route.epoch++;
    b->route.revision++;
    b->route.master.port = port;
    assert_int_equal(loop_wake(b->shard.loop, apply, b), 0);
    assert_memory_equal(hear(b, b->client), "-MRUNKNOWN ", 11);
    assert_true(wait_until(b->shard.loop, is_readable, &b->master, WAIT_MS)); /* it was reset */
    close(next);
}

static void test_a_reply_that_comes_alone_is_believed(void **state)
{
    struct bench *b = *state;

    say(b->master, "+OK\r\n");
    assert_string_equal(hear(b, b->client), "+OK\r\n");
    /* The same route again changes nothing, whatever comes with it. */
    say(b->client, "SET a 2\r\n");
    assert_string_equal(hear(b, b->master), "SET a 2\r\n");
    say(b->master, "+OK\r\n");
    assert_int_equal(loop_wake(b->shard.loop, apply, b), 0);
    assert_string_equal(hear(b, b->client), "+OK\r\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_reply_that_comes_with_the_next_route_is_not_believed, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_a_reply_that_comes_alone_is_believed, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
