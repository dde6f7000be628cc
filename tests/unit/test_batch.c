/* Many sockets in one system call: the same results as one by one, which the same tests see. */
#include "proxy/batch.h"

#include "proxy/net.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { ROOM = 64, FILL = 4096 };

/* near[k] is what the batch is given, far[k] the other end. */
struct pairs {
    struct batch *batch;
    int near[BATCH_MAX], far[BATCH_MAX];
    struct batch_item items[BATCH_MAX];
    char rooms[BATCH_MAX][ROOM];
};

static struct batch *opened(void)
{
    int why = 0;
    struct batch *b = batch_open(&why);

    if (!b)
        print_message("no io_uring here: %s\n", strerror(why));
    return b;
}

static int set_up_with(void **state, struct batch *batch)
{
    struct pairs *p = calloc(1, sizeof(*p));

    assert_non_null(p);
    p->batch = batch;
    (void)signal(SIGPIPE, SIG_DFL); // NOLINT(bugprone-signal-handler)
    for (int k = 0; k < BATCH_MAX; k++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds), 0);
        p->near[k] = fds[0];
        p->far[k] = fds[1];
        p->items[k] = (struct batch_item){.fd = fds[0], .data = p->rooms[k], .len = ROOM, .result = 7};
    }
    *state = p;
    return 0;
}

static int set_up(void **state)
{
    return set_up_with(state, opened());
}

static int set_up_plain(void **state)
{
    return set_up_with(state, NULL);
}

static int tear_down(void **state)
{
    struct pairs *p = *state;

    for (int k = 0; k < BATCH_MAX; k++) {
        close(p->near[k]);
        if (p->far[k] >= 0)
            close(p->far[k]);
    }
    batch_close(p->batch);
    free(p);
    return 0;
}

static void hang_up(struct pairs *p, int k)
{
    close(p->far[k]);
    p->far[k] = -1;
}

static void say(const struct pairs *p, int k)
{
    char text[ROOM];
    int len = snprintf(text, sizeof(text), "this is %d", k);

    assert_int_equal(write(p->far[k], text, (size_t)len), len);
}

static void test_each_reads_its_own(void **state)
{
    struct pairs *p = *state;

    for (int n = 1; n <= BATCH_MAX; n++) {
        for (int k = 0; k < n; k++)
            say(p, k);
        batch_read(p->batch, p->items, n);
        for (int k = 0; k < n; k++) {
            char want[ROOM];
            assert_int_equal(p->items[k].result, snprintf(want, sizeof(want), "this is %d", k));
            assert_memory_equal(p->rooms[k], want, (size_t)p->items[k].result);
        }
    }
}

static void test_what_has_nothing_ended_or_broke_is_told_apart(void **state)
{
    struct pairs *p = *state;
    int bad = p->items[3].fd;

    say(p, 0);
    hang_up(p, 2);
    p->items[3].fd = -1;
    p->items[4].len = 4;
    say(p, 4);
    batch_read(p->batch, p->items, 6);
    assert_int_equal(p->items[0].result, strlen("this is 0"));
    assert_int_equal(p->items[1].result, ERR_BUSY);
    assert_int_equal(p->items[2].result, 0);
    assert_int_equal(p->items[3].result, ERR_CONNECTION);
    assert_int_equal(p->items[4].result, 4);
    assert_int_equal(p->items[5].result, ERR_BUSY);
    p->items[3].fd = bad;
    p->items[4].len = ROOM;
    batch_read(p->batch, p->items, 6);
    assert_int_equal(p->items[3].result, ERR_BUSY);
    assert_int_equal(p->items[4].result, strlen("this is 4") - 4);
}

static void test_each_writes_its_own(void **state)
{
    struct pairs *p = *state;

    for (int n = 1; n <= BATCH_MAX; n++) {
        for (int k = 0; k < n; k++)
            p->items[k].len = (size_t)snprintf(p->rooms[k], ROOM, "%d of %d", k, n);
        batch_write(p->batch, p->items, n);
        for (int k = 0; k < n; k++) {
            char got[ROOM];
            assert_int_equal(p->items[k].result, p->items[k].len);
            assert_int_equal(read(p->far[k], got, sizeof(got)), p->items[k].len);
            assert_memory_equal(got, p->rooms[k], p->items[k].len);
        }
    }
}

/* One whose other end is gone must not end the process, and one that is full must not make the others wait.
 */
static void test_full_and_gone_ones_stop_nobody(void **state)
{
    struct pairs *p = *state;
    char fill[FILL] = "";

    while (write(p->near[1], fill, sizeof(fill)) > 0)
        ;
    hang_up(p, 2);
    batch_write(p->batch, p->items, 4);
    assert_int_equal(p->items[0].result, ROOM);
    assert_int_equal(p->items[1].result, ERR_BUSY);
    assert_int_equal(p->items[2].result, ERR_CONNECTION);
    assert_int_equal(p->items[3].result, ROOM);
}

static void test_it_takes_what_there_is_room_for(void **state)
{
    struct pairs *p = *state;
    size_t much = 8 * 1024 * 1024;
    char *data = calloc(1, much);

    assert_non_null(data);
    for (int k = 0; k < 2; k++)
        p->items[k] = (struct batch_item){.fd = p->near[k], .data = data, .len = much};
    batch_write(p->batch, p->items, 2);
    for (int k = 0; k < 2; k++)
        assert_true(p->items[k].result > 0 && (size_t)p->items[k].result < much);
    free(data);
}

static void test_none_is_nothing(void **state)
{
    struct pairs *p = *state;

    batch_read(p->batch, p->items, 0);
    batch_write(p->batch, p->items, 0);
    assert_int_equal(p->items[0].result, 7);
}

#define BOTH(test)                                                                                           \
    cmocka_unit_test_setup_teardown(test, set_up, tear_down),                                                \
        cmocka_unit_test_setup_teardown(test, set_up_plain, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        BOTH(test_each_reads_its_own),
        BOTH(test_what_has_nothing_ended_or_broke_is_told_apart),
        BOTH(test_each_writes_its_own),
        BOTH(test_full_and_gone_ones_stop_nobody),
        BOTH(test_it_takes_what_there_is_room_for),
        BOTH(test_none_is_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
