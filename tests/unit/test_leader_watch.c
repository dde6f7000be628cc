/* The connection to the leader: what counts as its death, and what does not. */
#include "common/loop.h"
#include "controller/leader_watch.h"
#include "controller/voters.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static struct loop *loop;
static struct leader_watch *watch;
static int gone;
static char gone_id[TOPOLOGY_NAME_MAX + 1];
static uint64_t gone_term;
static bool close_when_gone;

static void on_gone(void *ctx, const char *id, uint64_t term)
{
    assert_ptr_equal(ctx, &gone);
    gone++;
    gone_term = term;
    (void)snprintf(gone_id, sizeof(gone_id), "%s", id);
    if (close_when_gone) {
        leader_watch_close(watch);
        watch = NULL;
    }
}

static bool is_gone(void *ctx)
{
    return gone >= *(int *)ctx;
}

static void await_gone(int times)
{
    assert_true(wait_until(loop, is_gone, &times, WAIT_MS));
}

/* A leader is a listener here; it speaks no protocol, so it has no vote port. */
static int listen_as(const char *id, struct topology_controller *c)
{
    struct topology_address address;
    int fd = test_peer_listen(8, &address);

    memset(c, 0, sizeof(*c));
    (void)snprintf(c->id, sizeof(c->id), "%s", id);
    (void)snprintf(c->host, sizeof(c->host), "%s", address.host);
    c->http_port = address.port;
    return fd;
}

static int begin(void **state)
{
    (void)state;
    loop = loop_create(false);
    gone = 0;
    close_when_gone = false;
    return leader_watch_open(&watch, loop, on_gone, &gone);
}

static int end(void **state)
{
    (void)state;
    leader_watch_close(watch);
    loop_destroy(loop);
    return 0;
}

static void set_controllers(const struct topology_controller *list, size_t n)
{
    assert_int_equal(leader_watch_set_controllers(watch, list, n), 0);
}

static void test_a_process_that_ends(void **state)
{
    struct topology_controller a;
    int listener = listen_as("a", &a), fd;

    (void)state;
    set_controllers(&a, 1);
    leader_watch_set_leader(watch, "a", 77);
    fd = test_peer_accept(loop, listener);
    wait_for(loop, 300); /* longer than a brief connection */
    assert_int_equal(gone, 0);
    (void)close(listener); /* as the kernel does at the end of a process: the listener and the connection */
    (void)close(fd);
    await_gone(1);
    assert_string_equal(gone_id, "a");
    assert_int_equal(gone_term, 77);
    await_gone(2); /* told again, in case ZooKeeper was away */
    leader_watch_set_leader(watch, "", 0);
    int told = gone;
    wait_for(loop, 250);
    assert_int_equal(gone, told);
}

static void test_a_process_that_is_killed_with_answers_unread(void **state)
{
    const struct linger hard = {.l_onoff = 1, .l_linger = 0};
    struct topology_controller a;
    int listener = listen_as("a", &a), fd;

    (void)state;
    leader_watch_set_leader(watch, "a", 77); /* known before it is registered */
    set_controllers(&a, 1);
    fd = test_peer_accept(loop, listener);
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    (void)close(listener);
    (void)close(fd);          /* RST */
    set_controllers(NULL, 0); /* its registration may go first */
    await_gone(1);
    assert_int_equal(gone_term, 77);
}

/* Refused from the beginning: a wrong address, or a leader that died before we saw it. */
static void test_a_refusal_alone_is_no_proof(void **state)
{
    struct topology_controller a;
    int listener = listen_as("a", &a);

    (void)state;
    (void)close(listener);
    set_controllers(&a, 1);
    leader_watch_set_leader(watch, "a", 77);
    wait_for(loop, 350);
    assert_int_equal(gone, 0);
}

static void test_a_connection_that_only_breaks(void **state)
{
    struct topology_controller a;
    int listener = listen_as("a", &a);

    (void)state;
    set_controllers(&a, 1);
    leader_watch_set_leader(watch, "a", 77);
    for (int n = 0; n < 3; n++) /* an HTTP server ends idle connections now and then */
        (void)close(test_peer_accept(loop, listener));
    int fd = test_peer_accept(loop, listener); /* it is made again */
    wait_for(loop, 50);
    assert_int_equal(gone, 0);
    (void)close(fd);
    (void)close(listener);
}

/* A stopped process: its kernel takes connections, and nobody answers. */
static void test_a_leader_that_is_stopped(void **state)
{
    struct topology_controller a;
    int listener = listen_as("a", &a);

    (void)state;
    set_controllers(&a, 1);
    leader_watch_set_leader(watch, "a", 77);
    wait_for(loop, 400);
    assert_int_equal(gone, 0);
    (void)close(listener);
    await_gone(1);
}

static void test_the_proof_belongs_to_its_term_and_address(void **state)
{
    struct topology_controller list[2];
    int first = listen_as("a", &list[0]), second = listen_as("b", &list[1]), fd;

    (void)state;
    set_controllers(list, 2);
    leader_watch_set_leader(watch, "a", 77);
    (void)close(test_peer_accept(loop, first));
    (void)close(first);
    leader_watch_set_leader(watch, "a", 78); /* it leads again, and has not been seen in this term */
    wait_for(loop, 250);
    assert_int_equal(gone, 0);
    leader_watch_set_leader(watch, "b", 79);
    fd = test_peer_accept(loop, second);
    list[1].http_port = list[0].http_port; /* moved to where nobody listens */
    set_controllers(list, 2);
    (void)close(fd);
    wait_for(loop, 250);
    assert_int_equal(gone, 0);
    (void)close(second);
}

static void on_view(void *ctx, const char *instance, const struct topology_address *member,
                    struct health_view *out)
{
    (void)ctx;
    (void)instance;
    (void)member;
    out->kind = HEALTH_VIEW_ANSWERS;
}

static int votes_told;
static uint32_t votes_n;

static void on_votes(void *ctx, const char *instance, const struct topology_address *member,
                     const struct health_votes *votes)
{
    (void)ctx;
    (void)instance;
    (void)member;
    votes_told++;
    votes_n = votes->n;
}

static bool votes_are_told(void *ctx)
{
    return votes_told >= *(int *)ctx;
}

/* The vote port of a real controller keeps us as it keeps the others, and still answers them. */
static void test_the_vote_port_takes_us(void **state)
{
    struct voters_config config = {.host = "127.0.0.1", .view = on_view, .on_votes = on_votes};
    struct topology_controller a = {.id = "a", .host = "127.0.0.1", .http_port = 1};
    struct topology_address member = {.host = "10.0.0.1", .port = 1};
    struct voters *asked, *asking;

    (void)state;
    config.id = "a";
    assert_int_equal(voters_open(&asked, loop, &config), 0);
    config.id = "b";
    assert_int_equal(voters_open(&asking, loop, &config), 0);
    a.vote_port = voters_port(asked);
    set_controllers(&a, 1);
    leader_watch_set_leader(watch, "a", 77);
    voters_set_peers(asking, &a, 1);
    wait_for(loop, 1300); /* nanomsg ends a connection without a greeting after a second */
    votes_told = 0;
    votes_n = 0;
    for (int n = 1; n <= 50 && votes_n == 0; n++) {
        assert_int_equal(voters_survey(asking, "cart", &member), 0);
        assert_true(wait_until(loop, votes_are_told, &n, WAIT_MS));
    }
    assert_int_equal(votes_n, 1);
    assert_int_equal(voters_ignored(asked), 0);
    assert_int_equal(gone, 0);
    voters_close(asked);
    await_gone(1);
    voters_close(asking);
}

static void test_closing_inside_the_callback(void **state)
{
    struct topology_controller a;
    int listener = listen_as("a", &a);

    (void)state;
    close_when_gone = true;
    set_controllers(&a, 1);
    leader_watch_set_leader(watch, "a", 77);
    (void)close(test_peer_accept(loop, listener));
    (void)close(listener);
    await_gone(1);
    wait_for(loop, 150);
    assert_int_equal(gone, 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_process_that_ends),         TEST(test_a_process_that_is_killed_with_answers_unread),
        TEST(test_a_refusal_alone_is_no_proof), TEST(test_a_connection_that_only_breaks),
        TEST(test_a_leader_that_is_stopped),    TEST(test_the_proof_belongs_to_its_term_and_address),
        TEST(test_the_vote_port_takes_us),      TEST(test_closing_inside_the_callback),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
