/* The leader's process is killed or stopped: real processes, a real ZooKeeper, two standbys.
 *
 * The leader is this program again: test_takeover --leader HOSTS. */
#include "common/loop.h"
#include "controller/leader_watch.h"
#include "controller/voters.h"
#include "controller/zk_store.h"
#include "tests/lib/wait.h"
#include "tests/lib/zk_server.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

enum { SESSION_MS = 10000 };

struct controller {
    struct zk_store *store;
    struct leader_watch *watch;
    struct voters *voters;
    struct topology_controller self;
    enum election_role role;
    char leader[TOPOLOGY_NAME_MAX + 1];
    size_t n_controllers;
    bool announces; /* its leadership, on stdout */
};

static struct loop *loop;

static void on_role(void *ctx, enum election_role role, uint64_t term, const char *leader)
{
    struct controller *c = ctx;

    (void)term;
    if (role == ELECTION_LEADER && c->announces)
        assert_int_equal(write(STDOUT_FILENO, "!", 1), 1);
    c->role = role;
    (void)snprintf(c->leader, sizeof(c->leader), "%s", leader);
    if (role == ELECTION_STANDBY)
        leader_watch_set_leader(c->watch, leader, zk_store_leader_term(c->store));
    else
        leader_watch_set_leader(c->watch, "", 0);
}

static void on_gone(void *ctx, const char *id, uint64_t term)
{
    struct controller *c = ctx;

    assert_string_equal(id, "leader");
    zk_store_leader_gone(c->store, term);
}

static void on_controllers(void *ctx, const struct topology_controller *list, size_t n)
{
    struct controller *c = ctx;

    c->n_controllers = n;
    voters_set_peers(c->voters, list, n);
    assert_int_equal(leader_watch_set_controllers(c->watch, list, n), 0);
}

static void on_view(void *ctx, const char *instance, const struct topology_address *member,
                    struct health_view *out)
{
    (void)ctx;
    (void)instance;
    (void)member;
    out->kind = HEALTH_VIEW_UNKNOWN;
}

static void on_votes(void *ctx, const char *instance, const struct topology_address *member,
                     const struct health_votes *votes)
{
    (void)ctx;
    (void)instance;
    (void)member;
    (void)votes;
}

static void on_record(void *ctx, const struct topology_instance *record, int32_t version, int64_t revision)
{
    (void)ctx;
    (void)record;
    (void)version;
    (void)revision;
}

static void on_corrupt(void *ctx, const char *name, const char *why)
{
    (void)ctx;
    (void)name;
    (void)why;
}

static void on_removed(void *ctx, const char *name)
{
    (void)ctx;
    (void)name;
}

static int open_controller(struct controller *c, const char *id, const char *hosts)
{
    struct voters_config voters = {
        .id = id, .host = "127.0.0.1", .view = on_view, .on_votes = on_votes, .ctx = c};
    struct zk_store_config store = {
        .hosts = hosts,
        .session_timeout_ms = SESSION_MS,
        .self = &c->self,
        .port_low = 6100,
        .port_high = 6200,
        .ctx = c,
        .on_role = on_role,
        .on_record = on_record,
        .on_corrupt = on_corrupt,
        .on_removed = on_removed,
        .on_controllers = on_controllers,
    };
    int err = voters_open(&c->voters, loop, &voters);

    c->self =
        (struct topology_controller){.host = "127.0.0.1", .pub_port = 1, .ingest_port = 1, .http_port = 1};
    (void)snprintf(c->self.id, sizeof(c->self.id), "%s", id);
    if (err == 0)
        c->self.vote_port = voters_port(c->voters);
    if (err == 0)
        err = leader_watch_open(&c->watch, loop, on_gone, c);
    if (err == 0)
        err = zk_store_open(&c->store, loop, &store);
    return err;
}

static void close_controller(struct controller *c)
{
    zk_store_close(c->store, WAIT_MS);
    leader_watch_close(c->watch);
    voters_close(c->voters);
}

static int lead(const char *hosts)
{
    static struct controller first;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a crashed test leaves no leader behind */
    first.announces = true;
    loop = loop_create(true);
    if (loop == NULL || open_controller(&first, "leader", hosts) != 0)
        return 1;
    loop_run(loop);
    return 0;
}

/* ---- the process that leads --------------------------------------------------------------------------- */

static struct zk_server *server;
static struct controller b, c;
static pid_t leader;

static bool has_said_so(void *ctx)
{
    char byte;

    return read(*(int *)ctx, &byte, 1) == 1;
}

/* Returns once it leads. */
static void start_leader(const char *hosts)
{
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    (void)fflush(NULL);
    leader = fork();
    assert_true(leader >= 0);
    if (leader == 0) {
        (void)dup2(fds[1], STDOUT_FILENO);
        (void)execl("/proc/self/exe", "test_takeover", "--leader", hosts, (char *)NULL);
        _exit(127);
    }
    (void)close(fds[1]);
    assert_true(wait_until(loop, has_said_so, &fds[0], WAIT_MS));
    (void)close(fds[0]);
}

static void end_leader(void)
{
    if (leader == 0)
        return;
    assert_int_equal(kill(leader, SIGKILL), 0);
    assert_int_equal(waitpid(leader, NULL, 0), leader);
    leader = 0;
}

static bool stands_by(void *ctx)
{
    const struct controller *s = ctx;

    return s->role == ELECTION_STANDBY && strcmp(s->leader, "leader") == 0 && s->n_controllers == 3;
}

static int begin(void **state)
{
    static int number;
    char hosts[128];

    (void)state;
    loop = loop_create(false);
    (void)snprintf(hosts, sizeof(hosts), "%s/t%d", zk_server_hosts(server), ++number);
    start_leader(hosts);
    memset(&b, 0, sizeof(b));
    memset(&c, 0, sizeof(c));
    assert_int_equal(open_controller(&b, "b", hosts), 0);
    assert_int_equal(open_controller(&c, "c", hosts), 0);
    assert_true(wait_until(loop, stands_by, &b, WAIT_MS));
    assert_true(wait_until(loop, stands_by, &c, WAIT_MS));
    wait_for(loop, 100); /* the connections to the leader stand */
    return 0;
}

static int end(void **state)
{
    (void)state;
    close_controller(&b);
    close_controller(&c);
    end_leader();
    loop_destroy(loop);
    return 0;
}

/* ---- tests -------------------------------------------------------------------------------------------- */

static bool one_took_over(void *ctx)
{
    const char *next = b.role == ELECTION_LEADER ? "b" : "c";

    (void)ctx;
    return (b.role == ELECTION_LEADER) != (c.role == ELECTION_LEADER) && strcmp(b.leader, next) == 0 &&
           strcmp(c.leader, next) == 0;
}

static void test_a_killed_leader_is_replaced_before_its_session_ends(void **state)
{
    int64_t before_us = loop_clock_us();

    (void)state;
    end_leader();
    assert_true(wait_until(loop, one_took_over, NULL, WAIT_MS));
    int64_t took_ms = (loop_clock_us() - before_us) / 1000;
    print_message("took over after %lld ms, session timeout %d ms\n", (long long)took_ms, SESSION_MS);
    assert_in_range(took_ms, 0, SESSION_MS / 3);
}

static void test_a_stopped_leader_is_the_sessions_matter(void **state)
{
    (void)state;
    assert_int_equal(kill(leader, SIGSTOP), 0);
    wait_for(loop, 2000);
    assert_true(stands_by(&b)); /* its candidacy is left alone */
    assert_true(stands_by(&c));
    assert_int_equal(kill(leader, SIGCONT), 0);
    wait_for(loop, 300);
    assert_true(stands_by(&b));
    end_leader(); /* it had led on all the time: its end is seen as ever */
    assert_true(wait_until(loop, one_took_over, NULL, SESSION_MS / 2));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, begin, end)

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_killed_leader_is_replaced_before_its_session_ends),
        TEST(test_a_stopped_leader_is_the_sessions_matter),
    };

    if (argc == 3 && strcmp(argv[1], "--leader") == 0)
        return lead(argv[2]);
    server = zk_server_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    zk_server_stop(server);
    return failed;
}
