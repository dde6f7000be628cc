/* The supervised PUB child: delivery, the frame that kills it, and how it ends. */
#include "common/loop.h"
#include "controller/publisher.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <errno.h>
#include <nanomsg/pubsub.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SEEN_MAX = 2048 };

struct fixture {
    struct loop *loop;
    struct publisher *publisher;
    struct nn_link *sub;
    int endpoint;            /* of sub */
    unsigned seen[SEEN_MAX]; /* how often each number arrived */
    int newest;
    int restarted, wanted_restarts, wanted;
};

static const struct nn_link_key key = {.len = 16, .bytes = "0123456789abcdef"};

static void fixture_on_message(void *ctx, const char *data, size_t len)
{
    struct fixture *f = ctx;
    int n = atoi(data);

    assert_true(len > 0 && n >= 0 && n < SEEN_MAX);
    f->seen[n]++;
    f->newest = n;
}

static void fixture_on_restarted(void *ctx)
{
    ((struct fixture *)ctx)->restarted++;
}

static int publish(struct fixture *f, int n)
{
    char text[16];
    int len = snprintf(text, sizeof text, "%d", n);

    return publisher_send(f->publisher, text, (size_t)len);
}

static void fixture_open(struct fixture *f, const struct nn_link_key *k)
{
    struct publisher_config config = {
        .host = "127.0.0.1", .key = k, .on_restarted = fixture_on_restarted, .ctx = f};

    memset(f, 0, sizeof *f);
    f->loop = loop_create(false);
    assert_int_equal(publisher_open(&f->publisher, f->loop, &config), 0);
    assert_int_not_equal(publisher_port(f->publisher), 0);
}

static void fixture_connect(struct fixture *f)
{
    char url[40];

    (void)snprintf(url, sizeof url, "tcp://127.0.0.1:%u", publisher_port(f->publisher));
    assert_int_equal(nn_link_connect(f->sub, url, &f->endpoint), 0);
}

static void fixture_subscribe(struct fixture *f, const struct nn_link_key *k)
{
    assert_int_equal(nn_link_open(&f->sub, f->loop, NN_SUB, k, fixture_on_message, f), 0);
    fixture_connect(f);
}

static void fixture_end(struct fixture *f)
{
    publisher_close(f->publisher);
    nn_link_close(f->sub);
    loop_destroy(f->loop);
}

static bool has_seen(void *ctx)
{
    struct fixture *f = ctx;

    return f->seen[f->wanted] > 0;
}

static void wait_seen(struct fixture *f, int n)
{
    f->wanted = n;
    assert_true(wait_until(f->loop, has_seen, f, WAIT_MS));
}

/* PUB says nothing to those who are not connected yet: repeat 0 until it arrives. nanomsg's own reconnecting
 * may get stuck when peers die one after the other; a subscriber has to look after that, as proxies do. */
static void wait_connected(struct fixture *f)
{
    f->wanted = 0;
    for (int tries = 1; !f->seen[0]; tries++) {
        assert_true(tries < WAIT_MS / 10);
        if (tries % 100 == 0) {
            nn_link_disconnect(f->sub, f->endpoint);
            fixture_connect(f);
        }
        assert_int_equal(publish(f, 0), 0);
        (void)wait_until(f->loop, has_seen, f, 10);
    }
}

static bool has_restarted(void *ctx)
{
    struct fixture *f = ctx;

    return f->restarted >= f->wanted_restarts;
}

static void wait_restarted(struct fixture *f, int n)
{
    f->wanted_restarts = n;
    assert_true(wait_until(f->loop, has_restarted, f, WAIT_MS));
}

/* The publisher's child is the only child of this process. */
static pid_t child_of(pid_t pid)
{
    char path[64];
    int child = 0;
    FILE *file;

    (void)snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)pid, (int)pid);
    file = fopen(path, "re");
    assert_non_null(file);
    if (fscanf(file, "%d", &child) != 1)
        child = 0;
    (void)fclose(file);
    return child;
}

static bool is_gone(void *ctx)
{
    return wait_process_is_gone(*(pid_t *)ctx);
}

static void test_signed_messages_arrive(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, &key);
    fixture_subscribe(&f, &key);
    wait_connected(&f);
    for (int i = 1; i <= 200; i++)
        assert_int_equal(publish(&f, i), 0);
    wait_seen(&f, 200);
    for (int i = 1; i <= 200; i++)
        assert_int_equal(f.seen[i], 1);
    assert_int_equal(nn_link_dropped(f.sub), 0);
    assert_int_equal(publisher_restarts(f.publisher), 0);
    fixture_end(&f);
}

static void test_sizes(void **state)
{
    struct fixture f;
    char *large = calloc(1, PUBLISHER_MESSAGE_MAX + 1);

    (void)state;
    memset(large, '7', 1);
    fixture_open(&f, NULL);
    fixture_subscribe(&f, NULL);
    wait_connected(&f);
    assert_int_equal(publisher_send(f.publisher, large, PUBLISHER_MESSAGE_MAX), 0);
    wait_seen(&f, 7);
    assert_int_equal(publisher_send(f.publisher, large, PUBLISHER_MESSAGE_MAX + 1), ERR_TOO_LARGE);
    fixture_end(&f);
    free(large);
}

/* Greets as a subscriber, then sends a message, which no subscriber does. */
static void send_stray_frame(uint16_t port)
{
    static const char greeting[8] = {0, 'S', 'P', 0, 0, 0x21, 0, 0},
                      frame[13] = {0, 0, 0, 0, 0, 0, 0, 5, 's', 't', 'r', 'a', 'y'};
    char theirs[8];
    int fd = test_peer_connect(port);

    assert_int_equal(send(fd, greeting, sizeof greeting, MSG_NOSIGNAL), sizeof greeting);
    assert_int_equal(recv(fd, theirs, sizeof theirs, MSG_WAITALL), sizeof theirs);
    assert_int_equal(send(fd, frame, sizeof frame, MSG_NOSIGNAL), sizeof frame);
    while (recv(fd, theirs, sizeof theirs, 0) > 0) /* until it is dead */
        continue;
    close(fd);
}

static void test_stray_frame_kills_only_the_child(void **state)
{
    struct fixture f;
    uint16_t port;
    pid_t before, after;

    (void)state;
    fixture_open(&f, &key);
    fixture_subscribe(&f, &key);
    wait_connected(&f);
    assert_int_equal(publish(&f, 1), 0);
    wait_seen(&f, 1);
    port = publisher_port(f.publisher);
    before = child_of(getpid());
    assert_true(before > 0);
    send_stray_frame(port);
    assert_int_equal(publish(&f, 2), 0); /* while it is dead */
    wait_restarted(&f, 1);
    assert_int_equal(publish(&f, 3), 0);
    wait_seen(&f, 3);
    wait_seen(&f, 2);
    assert_true(f.seen[1] >= 2); /* announced again */
    after = child_of(getpid());
    assert_true(after > 0 && after != before);
    assert_true(wait_process_is_gone(before));
    assert_int_equal(publisher_port(f.publisher), port);
    assert_int_equal(publisher_restarts(f.publisher), 1);
    fixture_end(&f);
    assert_true(wait_process_is_gone(after));
}

static void test_it_survives_a_series_of_deaths(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    fixture_subscribe(&f, NULL);
    for (int i = 1; i <= 4; i++) {
        assert_int_equal(kill(child_of(getpid()), SIGKILL), 0);
        wait_restarted(&f, i);
    }
    assert_int_equal(publish(&f, 9), 0);
    wait_connected(&f);
    wait_seen(&f, 9);
    assert_int_equal(publisher_restarts(f.publisher), 4);
    fixture_end(&f);
}

/* More than the ring while the child is down: the oldest are lost, and it is said. */
static void test_overflow_is_told(void **state)
{
    struct fixture f;
    int lost = 0;

    (void)state;
    fixture_open(&f, NULL);
    fixture_subscribe(&f, NULL);
    wait_connected(&f);
    assert_int_equal(kill(child_of(getpid()), SIGSTOP), 0);
    for (int i = 1; i < SEEN_MAX; i++)
        lost += publish(&f, i) == ERR_BUSY;
    assert_true(lost > 0);
    assert_int_equal(kill(child_of(getpid()), SIGCONT), 0);
    wait_seen(&f, SEEN_MAX - 1);
    for (int i = SEEN_MAX - PUBLISHER_RING; i < SEEN_MAX; i++)
        assert_int_equal(f.seen[i], 1);
    fixture_end(&f);
}

static void test_signals_of_the_group_are_the_parents_business(void **state)
{
    struct fixture f;

    (void)state;
    fixture_open(&f, NULL);
    fixture_subscribe(&f, NULL);
    wait_connected(&f);
    assert_int_equal(kill(child_of(getpid()), SIGTERM), 0);
    assert_int_equal(kill(child_of(getpid()), SIGINT), 0);
    assert_int_equal(publish(&f, 5), 0);
    wait_seen(&f, 5);
    /* The last words before a clean end arrive too. */
    assert_int_equal(publish(&f, 6), 0);
    publisher_close(f.publisher);
    f.publisher = NULL;
    wait_seen(&f, 6);
    fixture_end(&f);
}

static void test_the_child_dies_with_its_parent(void **state)
{
    int pipes[2];
    pid_t parent, child = 0;
    struct loop *loop = loop_create(false);

    (void)state;
    assert_int_equal(pipe(pipes), 0);
    parent = fork();
    assert_true(parent >= 0);
    if (parent == 0) {
        struct publisher_config config = {.host = "127.0.0.1"};
        struct publisher *p = NULL;
        struct loop *own = loop_create(false);

        if (publisher_open(&p, own, &config) != 0)
            _exit(1);
        child = child_of(getpid());
        (void)!write(pipes[1], &child, sizeof child);
        (void)pause();
        _exit(0);
    }
    assert_int_equal(read(pipes[0], &child, sizeof child), sizeof child);
    assert_true(child > 0);
    assert_false(wait_process_is_gone(child));
    assert_int_equal(kill(parent, SIGKILL), 0);
    assert_int_equal(waitpid(parent, NULL, 0), parent);
    assert_true(wait_until(loop, is_gone, &child, WAIT_MS));
    close(pipes[0]);
    close(pipes[1]);
    loop_destroy(loop);
}

static void test_what_can_not_be_bound_is_an_error(void **state)
{
    struct publisher_config config = {.host = "127.0.0.1"};
    struct topology_address taken;
    int fd = test_peer_listen(1, &taken);
    struct loop *loop = loop_create(false);
    struct publisher *p = NULL;

    (void)state;
    config.port = taken.port;
    assert_int_equal(publisher_open(&p, loop, &config), ERR_EXISTS);
    config.host = "nowhere";
    assert_int_equal(publisher_open(&p, loop, &config), ERR_INVALID);
    assert_int_equal(child_of(getpid()), 0);
    close(fd);
    loop_destroy(loop);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signed_messages_arrive),
        cmocka_unit_test(test_sizes),
        cmocka_unit_test(test_stray_frame_kills_only_the_child),
        cmocka_unit_test(test_it_survives_a_series_of_deaths),
        cmocka_unit_test(test_overflow_is_told),
        cmocka_unit_test(test_signals_of_the_group_are_the_parents_business),
        cmocka_unit_test(test_the_child_dies_with_its_parent),
        cmocka_unit_test(test_what_can_not_be_bound_is_an_error),
    };

    publisher_child_main_if_asked(argc, argv);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
