/* When a proxy's connection to a server is lost, and when the server only doesn't read. */
#include "common/loop.h"
#include "common/tcp.h"
#include "proxy/backend.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { GONE_MS = 400, CHUNK = 64 * 1024 };

/* A backend, and the socket of the server that it is connected to. */
struct pair {
    struct loop *loop;
    struct backend *backend;
    int listener, server;
    bool is_connected, has_ended;
    uint64_t received;
};

static void pair_on_event(void *owner, enum backend_event event, int err)
{
    struct pair *p = owner;
    char data[CHUNK];
    ssize_t n;

    assert_int_equal(err, 0);
    p->is_connected = p->is_connected || event == BACKEND_CONNECTED;
    if (event != BACKEND_READABLE)
        return;
    n = backend_read(p->backend, data, sizeof(data));
    p->has_ended = p->has_ended || n == 0 || n == ERR_CONNECTION;
    p->received += n > 0 ? (uint64_t)n : 0;
    if (p->has_ended)
        backend_want(p->backend, false, false);
}

static bool pair_is_connected(void *ctx)
{
    return ((struct pair *)ctx)->is_connected;
}

static bool pair_has_ended(void *ctx)
{
    return ((struct pair *)ctx)->has_ended;
}

static bool pair_has_received(void *ctx)
{
    return ((struct pair *)ctx)->received > 0;
}

static struct tcp_info pair_info(const struct pair *p)
{
    struct tcp_info info;
    socklen_t len = sizeof(info);

    memset(&info, 0, sizeof(info));
    assert_int_equal(getsockopt(backend_fd(p->backend), IPPROTO_TCP, TCP_INFO, &info, &len), 0);
    return info;
}

/* The window is full, and has been for longer than a server may be silent: by now the kernel's probes come
 * less often than that. */
static bool pair_is_stuck(void *ctx)
{
    struct pair *p = ctx;
    struct tcp_info info = pair_info(p);

    return p->has_ended || (info.tcpi_backoff >= 2 && info.tcpi_last_ack_recv > GONE_MS);
}

static void pair_open(struct pair *p)
{
    struct topology_address address;

    *p = (struct pair){.loop = loop_create(true)};
    p->listener = test_peer_listen(4, &address);
    p->backend = backend_open(loop_ev(p->loop), &address, loop_now_us(p->loop), pair_on_event, p);
    assert_non_null(p->backend);
    backend_set_gone_ms(p->backend, GONE_MS);
    p->server = test_peer_accept(p->loop, p->listener);
    assert_true(wait_until(p->loop, pair_is_connected, p, WAIT_MS));
    backend_want(p->backend, true, false);
}

static void pair_close(struct pair *p)
{
    backend_close(p->backend);
    close(p->server);
    close(p->listener);
    loop_destroy(p->loop);
}

/* Until nothing more is taken. */
static void pair_fill(struct pair *p)
{
    static const char data[CHUNK];
    const struct buf_span span = {data, sizeof(data)};

    while (backend_write(p->backend, &span, 1) > 0)
        ;
    assert_true(tcp_waiting_bytes(backend_fd(p->backend)) > 0);
}

/* As if the server's host had vanished: its kernel sees none of our packets any more. */
static void pair_vanish(struct pair *p)
{
    struct sock_filter nothing = BPF_STMT(BPF_RET | BPF_K, 0);
    struct sock_fprog program = {.len = 1, .filter = &nothing};

    assert_int_equal(setsockopt(p->server, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof(program)), 0);
}

static void test_a_server_that_does_not_read_is_not_lost(void **state)
{
    struct pair p;
    char data[CHUNK];

    (void)state;
    pair_open(&p);
    pair_fill(&p);
    assert_true(wait_until(p.loop, pair_is_stuck, &p, WAIT_MS));
    assert_false(p.has_ended);
    assert_false(tcp_host_is_gone(backend_fd(p.backend), GONE_MS));
    /* It reads again, and answers. */
    while (recv(p.server, data, sizeof(data), MSG_DONTWAIT) > 0)
        ;
    assert_int_equal(send(p.server, "+PONG\r\n", 7, 0), 7);
    assert_true(wait_until(p.loop, pair_has_received, &p, WAIT_MS));
    assert_false(p.has_ended);
    pair_close(&p);
}

static void test_a_host_that_vanished_is_lost(void **state)
{
    const struct buf_span span = {"*1\r\n$4\r\nPING\r\n", 14};
    struct pair p;

    (void)state;
    pair_open(&p);
    pair_vanish(&p);
    assert_int_equal(backend_write(p.backend, &span, 1), 14);
    assert_true(wait_until(p.loop, pair_has_ended, &p, WAIT_MS));
    assert_true(pair_info(&p).tcpi_last_ack_recv >= GONE_MS);
    pair_close(&p);
}

static void test_a_host_that_vanished_with_its_buffers_full_is_lost(void **state)
{
    struct pair p;

    (void)state;
    pair_open(&p);
    pair_fill(&p);
    assert_true(wait_until(p.loop, pair_is_stuck, &p, WAIT_MS));
    assert_false(p.has_ended);
    pair_vanish(&p);
    assert_true(wait_until(p.loop, pair_has_ended, &p, WAIT_MS));
    pair_close(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_server_that_does_not_read_is_not_lost),
        cmocka_unit_test(test_a_host_that_vanished_is_lost),
        cmocka_unit_test(test_a_host_that_vanished_with_its_buffers_full_is_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
