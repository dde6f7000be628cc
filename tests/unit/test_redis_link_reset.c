/* What redis_link leaves behind when it gives a command up: nothing. */
#include "common/loop.h"
#include "common/redis_link.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <errno.h>
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { BIG = 8 * 1024 * 1024 };

struct probe {
    bool is_up;
    int reply_err;
};

static void probe_on_up(void *ctx)
{
    ((struct probe *)ctx)->is_up = true;
}

static void probe_on_down(void *ctx, int reason, const char *text)
{
    (void)ctx;
    (void)reason;
    (void)text;
}

static void probe_on_reply(void *ctx, int err, const redisReply *reply)
{
    (void)reply;
    ((struct probe *)ctx)->reply_err = err;
}

static bool probe_is_up(void *ctx)
{
    return ((struct probe *)ctx)->is_up;
}

static bool probe_has_reply(void *ctx)
{
    return ((struct probe *)ctx)->reply_err != 0;
}

/* While the network is cut, or the server stopped, a command waits in our send queue. */
static void test_what_was_given_up_is_not_delivered(void **state)
{
    struct probe p = {0};
    struct topology_address address;
    int listener = test_peer_listen(16, &address);
    struct redis_link_config config = {.address = address,
                                       .client_name = "mr-test",
                                       .connect_timeout_ms = 5000,
                                       .reply_timeout_ms = 50,
                                       .reconnect_min_ms = 60000,
                                       .reconnect_max_ms = 60000,
                                       .on_up = probe_on_up,
                                       .on_down = probe_on_down,
                                       .ctx = &p};
    struct loop *loop = loop_create(false);
    struct redis_link *link = NULL;
    char *big = malloc(BIG + 1), got[65536];
    ssize_t n, total = 0;

    (void)state;
    assert_non_null(big);
    memset(big, 'x', BIG);
    big[BIG] = '\0';
    assert_int_equal(redis_link_open(&link, loop, &config), 0);
    int peer = test_peer_accept(loop, listener);
    assert_true(write(peer, "+OK\r\n", 5) == 5); /* to the login; nothing is read */
    assert_true(wait_until(loop, probe_is_up, &p, WAIT_MS));
    assert_int_equal(redis_link_command(link, probe_on_reply, &p, 2, (const char *[]){"ECHO", big}), 0);
    assert_true(wait_until(loop, probe_has_reply, &p, WAIT_MS));
    assert_int_equal(p.reply_err, ERR_TIMEOUT);
    while ((n = read(peer, got, sizeof(got))) > 0 || (n < 0 && errno == EINTR))
        total += n > 0 ? n : 0;
    assert_int_equal(n, -1);
    assert_int_equal(errno, ECONNRESET);
    assert_true(total < BIG);
    redis_link_close(link);
    loop_destroy(loop);
    free(big);
    close(peer);
    close(listener);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_what_was_given_up_is_not_delivered)};

    return cmocka_run_group_tests(tests, NULL, NULL);
}
