/* The threads of one process share a port; two processes don't, whoever comes first. */
#include "proxy/ports.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/test_peer.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { BACKLOG = 16, PROCESSES = 8, ROUNDS = 50 };

static const char *const here = "127.0.0.1";

/* Struct ports are what two processes don't have in common: so two of them are two proxies. */
static void test_a_port_is_shared_by_threads_and_by_nobody_else(void **state)
{
    struct ports *one = ports_create(), *two = ports_create();
    uint16_t port = (uint16_t)redis_server_free_port();
    int first = ports_listen(one, here, port, BACKLOG), second = ports_listen(one, here, port, BACKLOG);

    (void)state;
    assert_true(first >= 0 && second >= 0);
    assert_int_equal(ports_listen(two, here, port, BACKLOG), -1);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(ports_listen(two, "0.0.0.0", port, BACKLOG), -1);
    assert_int_equal(errno, EADDRINUSE);
    assert_int_equal(ports_listen(NULL, here, port, BACKLOG), -1);
    ports_leave(one, port, first);
    assert_int_equal(ports_listen(two, here, port, BACKLOG), -1); /* the other thread isn't done yet */
    first = ports_listen(one, here, port, BACKLOG);
    assert_true(first >= 0);
    ports_leave(one, port, first);
    ports_leave(one, port, second);
    first = ports_listen(two, here, port, BACKLOG);
    assert_true(first >= 0);
    ports_leave(two, port, first);
    ports_free(one);
    ports_free(two);
}

/* A proxy of one thread has the port to itself, too. */
static void test_a_port_of_one_thread_is_not_shared(void **state)
{
    struct ports *two = ports_create();
    uint16_t port = (uint16_t)redis_server_free_port();
    int first = ports_listen(NULL, here, port, BACKLOG);

    (void)state;
    assert_true(first >= 0);
    assert_int_equal(ports_listen(two, here, port, BACKLOG), -1);
    assert_int_equal(errno, EADDRINUSE);
    ports_leave(NULL, port, first);
    ports_free(two);
}

/* The old proxy has stopped listening, but still has a client; then closes it first (TIME_WAIT). */
static void test_a_port_is_free_while_old_connections_end(void **state)
{
    struct ports *old = ports_create(), *new = ports_create();
    uint16_t port = (uint16_t)redis_server_free_port();
    int listener = ports_listen(old, here, port, BACKLOG), client = test_peer_connect(port), taken;

    (void)state;
    do
        taken = accept(listener, NULL, NULL);
    while (taken < 0 && errno == EAGAIN);
    assert_true(taken >= 0);
    ports_leave(old, port, listener);
    for (int i = 0; i < 2; i++) {
        listener = ports_listen(new, here, port, BACKLOG);
        assert_true(listener >= 0);
        ports_leave(new, port, listener);
        close(i == 0 ? taken : client);
    }
    ports_free(old);
    ports_free(new);
}

/* A process that tries at the same moment as the others, and holds what it got until they have tried. Its
 * answer is its exit status. */
static void try_and_tell(uint16_t port, int go, int tried, int done)
{
    struct ports *p = ports_create();
    char byte;

    if (!p || read(go, &byte, 1) != 0)
        _exit(2);
    int fd = ports_listen(p, here, port, BACKLOG);
    if (write(tried, "", 1) != 1 || read(done, &byte, 1) != 0)
        _exit(2);
    _exit(fd >= 0);
}

static unsigned winners_of(uint16_t port)
{
    int go[2], tried[2], done[2], status;
    unsigned winners = 0;
    char byte;

    assert_true(pipe(go) == 0 && pipe(tried) == 0 && pipe(done) == 0);
    for (int i = 0; i < PROCESSES; i++) {
        pid_t pid = fork();
        assert_true(pid >= 0);
        if (pid > 0)
            continue;
        close(go[1]);
        close(done[1]);
        try_and_tell(port, go[0], tried[1], done[0]);
    }
    close(go[1]); /* off they go */
    for (int i = 0; i < PROCESSES; i++)
        assert_int_equal(read(tried[0], &byte, 1), 1);
    close(done[1]);
    for (int i = 0; i < PROCESSES; i++) {
        assert_true(wait(&status) > 0);
        assert_true(WIFEXITED(status) && WEXITSTATUS(status) < 2);
        winners += WEXITSTATUS(status);
    }
    close(go[0]);
    close(tried[0]);
    close(tried[1]);
    close(done[0]);
    return winners;
}

static void test_of_those_that_come_at_once_at_most_one_listens(void **state)
{
    unsigned all = 0;

    (void)state;
    for (int i = 0; i < ROUNDS; i++) {
        unsigned winners = winners_of((uint16_t)redis_server_free_port());
        assert_true(winners <= 1); /* none: each was in the way of another; they try again */
        all += winners;
    }
    assert_true(all > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_port_is_shared_by_threads_and_by_nobody_else),
        cmocka_unit_test(test_a_port_of_one_thread_is_not_shared),
        cmocka_unit_test(test_a_port_is_free_while_old_connections_end),
        cmocka_unit_test(test_of_those_that_come_at_once_at_most_one_listens),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
