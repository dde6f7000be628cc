/* redis_link against real servers, and against peers that refuse, are silent, hang up or talk nonsense. */
#include "common/loop.h"
#include "common/redis_link.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <arpa/inet.h>
#include <errno.h>
#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

enum { DOWNS_MAX = 256 };

/* What one link reported, in order. */
struct probe {
    struct loop *loop;
    struct redis_link *link;
    int ups, downs;
    int reasons[DOWNS_MAX];
    char text[256];
    int reply_err, replies;
    char reply[256];
    bool close_on_up, close_on_down, close_on_reply;
    int wanted_ups, wanted_downs, wanted_replies;
};

static void probe_close(struct probe *p)
{
    redis_link_close(p->link);
    p->link = NULL;
}

static void probe_on_up(void *ctx)
{
    struct probe *p = ctx;

    p->ups++;
    assert_true(redis_link_is_up(p->link));
    if (p->close_on_up)
        probe_close(p);
}

static void probe_on_down(void *ctx, int reason, const char *text)
{
    struct probe *p = ctx;

    assert_false(redis_link_is_up(p->link));
    if (p->downs < DOWNS_MAX)
        p->reasons[p->downs] = reason;
    p->downs++;
    (void)snprintf(p->text, sizeof p->text, "%s", text);
    if (p->close_on_down)
        probe_close(p);
}

static void probe_on_reply(void *ctx, int err, const redisReply *reply)
{
    struct probe *p = ctx;

    p->reply_err = err;
    p->replies++;
    assert_true((err == 0) == (reply != NULL));
    (void)snprintf(p->reply, sizeof p->reply, "%s", reply && reply->str ? reply->str : "");
    if (p->close_on_reply && p->link)
        probe_close(p);
}

static bool is_satisfied(void *ctx)
{
    struct probe *p = ctx;

    return p->ups >= p->wanted_ups && p->downs >= p->wanted_downs && p->replies >= p->wanted_replies;
}

static void wait_counts(struct probe *p, int ups, int downs, int replies)
{
    p->wanted_ups = ups;
    p->wanted_downs = downs;
    p->wanted_replies = replies;
    assert_true(wait_until(p->loop, is_satisfied, p, WAIT_MS));
}

static struct redis_link_config config_for(struct probe *p, const struct topology_address *address)
{
    return (struct redis_link_config){.address = *address,
                                      .client_name = "mr-test",
                                      .connect_timeout_ms = 5000,
                                      .reply_timeout_ms = 5000,
                                      .reconnect_min_ms = 5,
                                      .reconnect_max_ms = 50,
                                      .on_up = probe_on_up,
                                      .on_down = probe_on_down,
                                      .ctx = p};
}

static void probe_open(struct probe *p, const struct redis_link_config *config)
{
    p->loop = loop_create(false);
    assert_non_null(p->loop);
    assert_int_equal(redis_link_open(&p->link, p->loop, config), 0);
}

static void probe_end(struct probe *p)
{
    if (p->link)
        probe_close(p);
    loop_destroy(p->loop);
}

static void probe_command(struct probe *p, const char *a, const char *b)
{
    assert_int_equal(redis_link_command(p->link, probe_on_reply, p, b ? 2 : 1, (const char *[]){a, b}), 0);
}

static struct topology_address loopback(uint16_t port)
{
    struct topology_address a = {.host = "127.0.0.1", .port = port};

    return a;
}

static void test_commands_are_answered_in_order(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct probe p = {0};
    struct redis_link_config config = config_for(&p, &s->address);

    (void)state;
    probe_open(&p, &config);
    assert_int_equal(redis_link_command(p.link, NULL, NULL, 1, (const char *[]){"PING"}), ERR_CONNECTION);
    wait_counts(&p, 1, 0, 0);
    probe_command(&p, "CLIENT", "GETNAME");
    wait_counts(&p, 1, 0, 1);
    assert_int_equal(p.reply_err, 0);
    assert_string_equal(p.reply, "mr-test");
    for (int i = 0; i < 100; i++)
        probe_command(&p, "PING", NULL);
    probe_command(&p, "ECHO", "last");
    assert_int_equal(p.replies, 1); /* never inside the call */
    wait_counts(&p, 1, 0, 102);
    assert_string_equal(p.reply, "last");
    probe_command(&p, "NOSUCH", NULL);
    wait_counts(&p, 1, 0, 103);
    assert_int_equal(p.reply_err, 0);
    assert_ptr_equal(strstr(p.reply, "ERR unknown command"), p.reply);
    assert_int_equal(p.downs, 0);
    probe_end(&p);
    redis_server_stop(s);
}

static void test_kill_is_closed_then_refused_then_up_again(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct probe p = {0};
    struct redis_link_config config = config_for(&p, &s->address);

    (void)state;
    config.reconnect_min_ms = config.reconnect_max_ms =
        3000 * 1000; /* so that only the first attempt is at once */
    probe_open(&p, &config);
    wait_counts(&p, 1, 0, 0);
    redis_server_kill(s, SIGKILL);
    probe_command(&p, "PING", NULL);
    wait_counts(&p, 1, 2, 1);
    assert_int_equal(p.reasons[0], ERR_CLOSED);
    assert_int_equal(p.reasons[1], ERR_REFUSED);
    assert_int_equal(p.reply_err, ERR_CLOSED);
    redis_server_restart(s, NULL);
    redis_link_nudge(p.link);
    wait_counts(&p, 2, 2, 1);
    probe_end(&p);
    redis_server_stop(s);
}

static void test_refused_is_retried_with_back_off(void **state)
{
    struct probe p = {0};
    struct topology_address nobody;
    int fd = test_peer_listen(1, &nobody);
    struct redis_link_config config = config_for(&p, &nobody);

    (void)state;
    close(fd);
    probe_open(&p, &config);
    wait_counts(&p, 0, 5, 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(p.reasons[i], ERR_REFUSED);
    assert_string_equal(p.text, strerror(ECONNREFUSED));
    probe_end(&p);
}

static void test_wrong_password_is_told_in_the_servers_words(void **state)
{
    struct redis_server *s = redis_server_start((const char *[]){"--requirepass", "right", NULL});
    struct probe none = {0}, wrong = {0}, right = {0};
    struct redis_link_config config = config_for(&none, &s->address);

    (void)state;
    probe_open(&none, &config);
    wait_counts(&none, 0, 2, 0);
    assert_int_equal(none.reasons[0], ERR_AUTH);
    assert_ptr_equal(strstr(none.text, "NOAUTH"), none.text);
    probe_end(&none);

    config = config_for(&wrong, &s->address);
    (void)snprintf(config.auth.password, sizeof config.auth.password, "wrong");
    probe_open(&wrong, &config);
    wait_counts(&wrong, 0, 2, 0);
    assert_int_equal(wrong.reasons[1], ERR_AUTH);
    assert_ptr_equal(strstr(wrong.text, "WRONGPASS"), wrong.text);
    probe_end(&wrong);

    config = config_for(&right, &s->address);
    (void)snprintf(config.auth.password, sizeof config.auth.password, "right");
    probe_open(&right, &config);
    wait_counts(&right, 1, 0, 0);
    assert_int_equal(right.downs, 0);
    probe_end(&right);
    redis_server_stop(s);
}

static void test_acl_user_logs_in(void **state)
{
    struct redis_server *s =
        redis_server_start((const char *[]){"--user", "watcher", "on", ">secret", "+@all", "~*", NULL});
    struct probe p = {0};
    struct redis_link_config config = config_for(&p, &s->address);

    (void)state;
    (void)snprintf(config.auth.user, sizeof config.auth.user, "watcher");
    (void)snprintf(config.auth.password, sizeof config.auth.password, "secret");
    probe_open(&p, &config);
    wait_counts(&p, 1, 0, 0);
    probe_command(&p, "ACL", "WHOAMI");
    wait_counts(&p, 1, 0, 1);
    assert_string_equal(p.reply, "watcher");
    /* Deleting the user cuts its connections, and the reconnect is refused. */
    redis_server_do(s, "ACL DELUSER watcher");
    wait_counts(&p, 1, 2, 1);
    assert_int_equal(p.reasons[0], ERR_CLOSED);
    assert_int_equal(p.reasons[1], ERR_AUTH);
    probe_end(&p);
    redis_server_stop(s);
}

static void test_max_clients_is_a_refusal_not_a_death(void **state)
{
    struct redis_server *s = redis_server_start((const char *[]){"--maxclients", "1", NULL});
    struct probe first = {0}, second = {0};
    struct redis_link_config config = config_for(&first, &s->address);

    (void)state;
    config.reply_timeout_ms = 60 * 1000;
    probe_open(&first, &config);
    wait_counts(&first, 1, 0, 0);
    config = config_for(&second, &s->address);
    probe_open(&second, &config);
    wait_counts(&second, 0, 1, 0);
    assert_int_equal(second.reasons[0], ERR_AUTH);
    assert_non_null(strstr(second.text, "max number of clients"));
    probe_end(&second);
    probe_end(&first);
    redis_server_stop(s);
}

static void test_silent_listener_passes_the_login_deadline(void **state)
{
    struct probe p = {0};
    struct topology_address address;
    int fd = test_peer_listen(16, &address);
    struct redis_link_config config = config_for(&p, &address);

    (void)state;
    config.connect_timeout_ms = 50;
    probe_open(&p, &config);
    wait_counts(&p, 0, 2, 0);
    assert_int_equal(p.reasons[0], ERR_TIMEOUT);
    assert_non_null(strstr(p.text, "did not answer the login in 50 ms"));
    probe_end(&p);
    close(fd);
}

static void test_connect_into_a_full_backlog_times_out(void **state)
{
    struct probe p = {0};
    struct topology_address address;
    int fd = test_peer_listen(0, &address);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(address.port)};
    int fillers[4];
    struct redis_link_config config = config_for(&p, &address);

    (void)state;
    for (size_t i = 0; i < 4; i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)connect(fillers[i], (struct sockaddr *)&a,
                      sizeof a); /* the kernel drops what the backlog can't take */
    }
    config.connect_timeout_ms = 100;
    probe_open(&p, &config);
    wait_counts(&p, 0, 1, 0);
    assert_int_equal(p.reasons[0], ERR_TIMEOUT);
    assert_string_equal(p.text, "no answer to the connect in 100 ms");
    probe_end(&p);
    for (size_t i = 0; i < 4; i++)
        close(fillers[i]);
    close(fd);
}

static void test_stopped_server_passes_the_reply_deadline(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct probe p = {0};
    struct redis_link_config config = config_for(&p, &s->address);

    (void)state;
    config.reply_timeout_ms = 100;
    probe_open(&p, &config);
    wait_counts(&p, 1, 0, 0);
    wait_for(p.loop, 250); /* silence without a question is fine */
    assert_int_equal(p.downs, 0);
    redis_server_suspend(s);
    probe_command(&p, "PING", NULL);
    wait_counts(&p, 1, 1, 1);
    assert_int_equal(p.reasons[0], ERR_TIMEOUT);
    assert_int_equal(p.reply_err, ERR_TIMEOUT);
    assert_string_equal(p.text, "no reply in 100 ms");
    redis_server_resume(s);
    wait_counts(&p, 2, 1, 1);
    probe_end(&p);
    redis_server_stop(s);
}

/* Our own stall of several deadlines must not look like the server's silence. */
static void test_own_stall_is_not_the_servers_silence(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct probe p = {0};
    struct redis_link_config config = config_for(&p, &s->address);
    int64_t until_us;

    (void)state;
    config.reply_timeout_ms = 100;
    probe_open(&p, &config);
    wait_counts(&p, 1, 0, 0);
    probe_command(&p, "PING", NULL);
    ev_run(loop_ev(p.loop), EVRUN_NOWAIT); /* sent */
    until_us = loop_clock_us() + 300000;
    while (loop_clock_us() < until_us)
        continue;
    wait_counts(&p, 1, 0, 1);
    assert_int_equal(p.reply_err, 0);
    assert_int_equal(p.downs, 0);
    probe_end(&p);
    redis_server_stop(s);
}

static void talk_nonsense(const char *said, size_t len, const char *expected)
{
    struct probe p = {0};
    struct topology_address address;
    int listener = test_peer_listen(16, &address), fd;
    struct redis_link_config config = config_for(&p, &address);

    probe_open(&p, &config);
    fd = test_peer_accept(p.loop, listener);
    assert_int_equal(write(fd, said, len), len);
    wait_counts(&p, 0, 1, 0);
    assert_int_equal(p.reasons[0], ERR_PROTOCOL);
    assert_non_null(strstr(p.text, "does not speak Redis' protocol"));
    assert_non_null(strstr(p.text, expected));
    probe_end(&p);
    close(fd);
    close(listener);
}

static void test_peers_that_are_no_redis(void **state)
{
    const char http[] = "HTTP/1.1 400 Bad Request\r\n\r\n", ssh[] = "SSH-2.0-OpenSSH_9.2\r\n",
               nul[] = "\0\0\0\0";
    const char huge[] = "*2000000000\r\n",
               deep[] = "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n";

    (void)state;
    talk_nonsense(http, sizeof http - 1, "\"H\"");
    talk_nonsense(ssh, sizeof ssh - 1, "\"S\"");
    talk_nonsense(nul, sizeof nul - 1, "\\x00");
    talk_nonsense(huge, sizeof huge - 1, "");
    talk_nonsense(deep, sizeof deep - 1, "");
}

/* hiredis' own asynchronous half would abort the process here. */
static void test_unasked_reply_is_a_protocol_error(void **state)
{
    struct probe p = {0};
    struct topology_address address;
    int listener = test_peer_listen(16, &address), fd;
    struct redis_link_config config = config_for(&p, &address);

    (void)state;
    probe_open(&p, &config);
    fd = test_peer_accept(p.loop, listener);
    assert_int_equal(write(fd, "+OK\r\n+OK\r\n", 10), 10);
    wait_counts(&p, 1, 1, 0);
    assert_int_equal(p.reasons[0], ERR_PROTOCOL);
    assert_non_null(strstr(p.text, "nobody asked for"));
    probe_end(&p);
    close(fd);
    close(listener);
}

static void test_endless_reply_is_cut_off(void **state)
{
    static char megabyte[1048576];
    struct probe p = {0};
    struct topology_address address;
    int listener = test_peer_listen(16, &address), fd;
    struct redis_link_config config = config_for(&p, &address);
    struct loop *loop;

    (void)state;
    memset(megabyte, 'x', sizeof megabyte);
    probe_open(&p, &config);
    loop = p.loop;
    fd = test_peer_accept(p.loop, listener);
    assert_int_equal(write(fd, "$536870912\r\n", 12), 12);
    while (p.downs == 0) {
        (void)!send(fd, megabyte, sizeof megabyte, MSG_NOSIGNAL | MSG_DONTWAIT);
        ev_run(loop_ev(loop), EVRUN_NOWAIT);
    }
    assert_int_equal(p.reasons[0], ERR_PROTOCOL);
    assert_non_null(strstr(p.text, "more than 4 MiB"));
    probe_end(&p);
    close(fd);
    close(listener);
}

/* -LOADING, -MASTERDOWN and the like are answers: the process lives. */
static void test_busy_answers_to_the_login_are_up(void **state)
{
    static const char *const answers[] = {
        "-LOADING Redis is loading the dataset in memory\r\n", "-MASTERDOWN Link with MASTER is down\r\n",
        "-BUSY Redis is busy\r\n", "-NOPERM this user has no permissions\r\n", NULL};

    (void)state;
    for (size_t i = 0; answers[i]; i++) {
        struct probe p = {0};
        struct topology_address address;
        int listener = test_peer_listen(16, &address), fd;
        struct redis_link_config config = config_for(&p, &address);

        probe_open(&p, &config);
        fd = test_peer_accept(p.loop, listener);
        assert_int_equal(write(fd, answers[i], strlen(answers[i])), strlen(answers[i]));
        wait_counts(&p, 1, 0, 0);
        probe_end(&p);
        close(fd);
        close(listener);
    }
}

/* The peer hangs up right after each accept: that must not become a busy loop. */
static void test_hang_up_before_the_login_backs_off(void **state)
{
    struct probe p = {0};
    struct topology_address address;
    int listener = test_peer_listen(16, &address);
    struct redis_link_config config = config_for(&p, &address);

    (void)state;
    config.reconnect_min_ms = config.reconnect_max_ms = 3000 * 1000;
    probe_open(&p, &config);
    close(test_peer_accept(p.loop, listener));
    wait_counts(&p, 0, 1, 0);
    assert_int_equal(p.reasons[0], ERR_CLOSED);
    wait_for(p.loop, 100);
    assert_int_equal(p.downs, 1);
    assert_int_equal(accept4(listener, NULL, NULL, SOCK_CLOEXEC), -1);
    probe_end(&p);
    close(listener);
}

static bool is_closed(void *ctx)
{
    return ((struct probe *)ctx)->link == NULL;
}

static void test_close_inside_callbacks(void **state)
{
    struct redis_server *s = redis_server_start(NULL);

    (void)state;
    for (int i = 0; i < 5; i++) {
        struct probe p = {
            .close_on_up = i == 0, .close_on_down = i == 1 || i == 4, .close_on_reply = i >= 2 && i < 4};
        struct topology_address nobody = loopback(redis_server_free_port());
        struct redis_link_config config = config_for(&p, i == 4 ? &nobody : &s->address);

        probe_open(&p, &config);
        if (i > 0 && i < 4) {
            wait_counts(&p, 1, 0, 0);
            probe_command(&p, "PING", NULL);
            probe_command(&p, "PING", NULL);
        }
        if (i == 1 || i == 3) { /* on_down; a reply callback told of the break */
            redis_server_kill(s, SIGKILL);
            redis_server_restart(s, NULL);
        }
        assert_true(wait_until(p.loop, is_closed, &p, WAIT_MS));
        assert_int_equal(p.replies, i == 2 || i == 3 ? 1 : p.replies); /* none after the close */
        probe_end(&p);
    }
    redis_server_stop(s);
}

static void test_close_before_the_first_turn(void **state)
{
    struct probe p = {0};
    struct topology_address nobody = loopback(1);
    struct redis_link_config config = config_for(&p, &nobody);

    (void)state;
    probe_open(&p, &config);
    probe_close(&p);
    wait_for(p.loop, 20);
    assert_int_equal(p.downs, 0);
    probe_end(&p);
}

static void test_bad_configuration_is_refused(void **state)
{
    struct probe p = {0};
    struct topology_address name = {.host = "localhost", .port = 6379}, zero = {.host = "127.0.0.1"};
    struct redis_link_config config = config_for(&p, &name);
    struct loop *loop = loop_create(false);

    (void)state;
    assert_int_equal(redis_link_open(&p.link, loop, &config), ERR_INVALID);
    config = config_for(&p, &zero);
    assert_int_equal(redis_link_open(&p.link, loop, &config), ERR_INVALID);
    config.address.port = 1;
    config.connect_timeout_ms = 0;
    assert_int_equal(redis_link_open(&p.link, loop, &config), ERR_INVALID);
    loop_destroy(loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands_are_answered_in_order),
        cmocka_unit_test(test_kill_is_closed_then_refused_then_up_again),
        cmocka_unit_test(test_refused_is_retried_with_back_off),
        cmocka_unit_test(test_wrong_password_is_told_in_the_servers_words),
        cmocka_unit_test(test_acl_user_logs_in),
        cmocka_unit_test(test_max_clients_is_a_refusal_not_a_death),
        cmocka_unit_test(test_silent_listener_passes_the_login_deadline),
        cmocka_unit_test(test_connect_into_a_full_backlog_times_out),
        cmocka_unit_test(test_stopped_server_passes_the_reply_deadline),
        cmocka_unit_test(test_own_stall_is_not_the_servers_silence),
        cmocka_unit_test(test_peers_that_are_no_redis),
        cmocka_unit_test(test_unasked_reply_is_a_protocol_error),
        cmocka_unit_test(test_endless_reply_is_cut_off),
        cmocka_unit_test(test_busy_answers_to_the_login_are_up),
        cmocka_unit_test(test_hang_up_before_the_login_backs_off),
        cmocka_unit_test(test_close_inside_callbacks),
        cmocka_unit_test(test_close_before_the_first_turn),
        cmocka_unit_test(test_bad_configuration_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
