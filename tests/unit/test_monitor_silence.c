/* Who answers, how, and since when not: against real servers that are stopped, busy, full or out of reach,
 * and against pretended ones. The program has a network of its own where it may, to take it away. */
#include "common/loop.h"
#include "tests/lib/fake_redis.h"
#include "tests/lib/fake_server.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"
#include "tests/lib/watched.h"

#include <arpa/inet.h>
#include <hiredis/hiredis.h>
#include <net/if.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

static bool has_own_network;

/* The loopback interface of this program's own network. */
static void network_set(bool up)
{
    struct ifreq request = {.ifr_name = "lo", .ifr_flags = up ? IFF_UP : 0};
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);

    assert_true(has_own_network && fd >= 0);
    assert_int_equal(ioctl(fd, SIOCSIFFLAGS, &request), 0);
    close(fd);
}

static bool has_info(const struct watched *w)
{
    return w->infos > 0;
}

static bool is_mute(const struct watched *w)
{
    return w->mutes > 0;
}

static bool is_heard(const struct watched *w)
{
    return w->heards > 0;
}

static bool is_denied(const struct watched *w)
{
    return w->last_down == ERR_AUTH;
}

static bool is_refused(const struct watched *w)
{
    return w->last_down == ERR_REFUSED;
}

static bool is_gone(const struct watched *w)
{
    return w->member == NULL;
}

static bool is_knocked_thrice(const struct watched *w)
{
    return w->knocks >= 3;
}

static bool is_told_of_pings(const struct watched *w)
{
    return w->pings != 0;
}

static void watch_master(struct watched *w, const struct topology_address *address)
{
    watched_open(w, address, 1000);
    monitor_set_eager(w->member, true);
    watched_wait(w, has_info);
}

/* A command on a connection of its own, sent; its answer is for later. */
static redisContext *ask(const struct redis_server *s, const char *command)
{
    redisContext *c = redisConnect(s->address.host, s->address.port);
    int done = 0;

    assert_true(c && c->err == 0);
    assert_int_equal(redisAppendCommand(c, command), REDIS_OK);
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    return c;
}

/* From the mute member's stop to on_mute, and what since_us says of it. */
static void check_mute_times(const struct watched *w, int64_t stopped_us, int period_ms)
{
    int64_t asked_us = w->mute_since_us - stopped_us, told_us = w->mute_told_us - w->mute_since_us;

    assert_true(asked_us > -20 * 1000);                        /* on its way when it was stopped */
    assert_true(asked_us < (int64_t)(period_ms + 250) * 1000); /* 250: this machine may be busy */
    assert_true(told_us >= MONITOR_MUTE_MS * 1000);
    assert_true(told_us < (MONITOR_MUTE_MS + 250) * 1000);
}

static void test_a_stopped_master_is_mute_until_it_goes_on(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    int64_t stopped_us;
    int knocks;

    (void)state;
    watch_master(&w, &s->address);
    wait_for(w.loop, 300);
    assert_int_equal(w.mutes + w.heards + w.knocks, 0); /* nothing is worth a word while all is well */
    stopped_us = loop_clock_us();
    redis_server_suspend(s);
    watched_wait(&w, is_mute);
    check_mute_times(&w, stopped_us, 50);
    watched_wait(&w, is_knocked_thrice);
    assert_int_equal(w.knock, HEALTH_KNOCK_ACCEPTED); /* its kernel does */
    assert_int_equal(w.mutes, 1);
    redis_server_resume(s);
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_OK);
    knocks = w.knocks;
    wait_for(w.loop, 300);
    assert_int_equal(w.knocks, knocks);
    assert_int_equal(w.mutes, 1);
    assert_int_equal(w.heards, 1);
    assert_int_equal(w.ups, 1); /* the connection outlived it */
    assert_int_equal(w.downs, 0);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_a_stopped_replica_is_mute_after_its_poll(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    int64_t stopped_us;

    (void)state;
    watched_open(&w, &s->address, 200);
    watched_wait(&w, has_info);
    stopped_us = loop_clock_us();
    redis_server_suspend(s);
    watched_wait(&w, is_mute);
    check_mute_times(&w, stopped_us, 200);
    redis_server_resume(s);
    watched_wait(&w, is_heard);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_the_end_of_a_stopped_process_ends_the_silence(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    int knocks;

    (void)state;
    watch_master(&w, &s->address);
    redis_server_suspend(s);
    watched_wait(&w, is_mute);
    redis_server_kill(s, SIGKILL);
    watched_wait(&w, is_refused);
    knocks = w.knocks;
    wait_for(w.loop, 300);
    assert_int_equal(w.knocks, knocks);
    assert_int_equal(w.mutes, 1);
    assert_int_equal(w.heards, 0);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_a_short_sleep_is_mute_and_costs_no_connection(void **state)
{
    struct redis_server *s = redis_server_start((const char *[]){"--enable-debug-command", "yes", NULL});
    struct watched w = {0};
    redisContext *c;

    (void)state;
    watch_master(&w, &s->address);
    c = ask(s, "DEBUG SLEEP 1");
    watched_wait(&w, is_mute);
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_OK);
    assert_true(w.knocks > 0);
    assert_int_equal(w.knock, HEALTH_KNOCK_ACCEPTED);
    assert_int_equal(w.ups, 1);
    assert_int_equal(w.downs, 0);
    redisFree(c);
    watched_end(&w);
    redis_server_stop(s);
}

/* BUSY to PING and INFO alike: it lives. */
static void test_a_looping_script_is_busy_and_never_mute(void **state)
{
    struct redis_server *s = redis_server_start((const char *[]){"--busy-reply-threshold", "100", NULL});
    struct watched w = {0};
    redisContext *c;

    (void)state;
    watch_master(&w, &s->address);
    c = ask(s, "EVAL while(true)do(function()end)()end 0");
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_BUSY);
    assert_ptr_equal(strstr(w.words, "BUSY"), w.words);
    w.heards = w.infos = 0;
    wait_for(w.loop, 1200); /* with a poll among the pings */
    assert_int_equal(w.heards, 0);
    redis_server_do(s, "SCRIPT KILL");
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_OK);
    assert_int_equal(w.mutes, 0);
    assert_int_equal(w.downs, 0);
    redisFree(c);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_a_changed_password_is_no_silence(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    redisReply *reply;

    (void)state;
    watch_master(&w, &s->address);
    redis_server_do(s, "CONFIG SET requirepass other");
    wait_for(w.loop, 200);
    assert_int_equal(w.downs + w.heards + w.mutes, 0); /* who is in, stays in */
    reply = redis_server_command(s, "PING");
    assert_ptr_equal(strstr(reply->str, "NOAUTH"), reply->str);
    freeReplyObject(reply);
    redis_server_kill(s, SIGKILL);
    redis_server_restart(s, (const char *[]){"--requirepass", "other", NULL});
    watched_wait(&w, is_denied);
    wait_for(w.loop, 200);
    assert_int_equal(w.last_down, ERR_AUTH);
    assert_int_equal(w.mutes + w.knocks + w.heards, 0);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_max_clients_is_an_answer(void **state)
{
    struct redis_server *s = redis_server_start((const char *[]){"--maxclients", "1", NULL});
    redisContext *first = ask(s, "PING");
    struct watched w = {0};

    (void)state;
    watched_open(&w, &s->address, 1000);
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_MAXCLIENTS);
    assert_int_equal(w.last_down, ERR_AUTH);
    wait_for(w.loop, 200);
    assert_true(w.downs > 1);
    assert_int_equal(w.heards, 1); /* once is enough */
    assert_int_equal(w.mutes, 0);
    w.heards = 0;
    redisFree(first);
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_OK);
    watched_wait(&w, has_info);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_a_master_without_memory(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};

    (void)state;
    watched_open(&w, &s->address, 20);
    watched_wait(&w, has_info);
    redis_server_do(s, "CONFIG SET maxmemory 102400");
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_OOM);
    w.heards = 0;
    redis_server_do(s, "CONFIG SET maxmemory-policy allkeys-lru");
    watched_wait(&w, is_heard);
    assert_int_equal(w.said, HEALTH_SAID_OK);
    watched_end(&w);
    redis_server_stop(s);
}

/* Connection attempts that pass their deadline are silence too, without ever having been connected. */
static void test_nobody_answers_the_first_connect(void **state)
{
    struct topology_address address;
    int listener = test_peer_listen(0, &address), full[4];
    struct watched w = {0};
    int64_t began_us = loop_clock_us();

    (void)state;
    for (size_t i = 0; i < sizeof full / sizeof full[0]; i++) { /* until its queue is full */
        full[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(address.port)};
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        (void)connect(full[i], (struct sockaddr *)&a, sizeof a);
    }
    watched_open_within(&w, &address, 1000, 300);
    watched_wait(&w, is_mute);
    assert_int_equal(w.last_down, ERR_TIMEOUT);
    assert_true(w.mute_since_us >= began_us && w.mute_told_us - w.mute_since_us >= 300 * 1000);
    watched_wait(&w, is_knocked_thrice);
    assert_int_equal(w.knock, HEALTH_KNOCK_NO_ANSWER);
    assert_true(loop_clock_us() - w.mute_told_us >= 3 * MONITOR_KNOCK_MS * 1000);
    assert_true(w.downs > 1);
    assert_int_equal(w.mutes, 1); /* a silence, not one an attempt */
    for (size_t i = 0; i < sizeof full / sizeof full[0]; i++)
        close(full[i]);
    watched_end(&w);
    close(listener);
}

static bool is_accepted(const struct watched *w)
{
    return w->knock == HEALTH_KNOCK_ACCEPTED;
}

/* The network is away for so long that TCP's own repetitions are seconds apart, and comes back: the member is
 * heard over a new connection long before. */
static void test_the_network_goes_away_and_comes_back(void **state)
{
    struct redis_server *s;
    struct watched w = {.reply_timeout_ms = 30 * 1000}; /* it shall not be what helps */
    int64_t back_us;

    (void)state;
    if (!has_own_network)
        skip();
    s = redis_server_start(NULL);
    watch_master(&w, &s->address);
    network_set(false);
    watched_wait(&w, is_mute);
    watched_wait(&w, is_knocked_thrice);
    assert_int_equal(w.knock, HEALTH_KNOCK_NO_ANSWER);
    wait_for(w.loop, 3000);
    assert_int_equal(w.heards, 0);
    assert_int_equal(w.downs, 0); /* kept: a silence within the limits costs no connection */
    network_set(true);
    back_us = loop_clock_us();
    watched_wait(&w, is_accepted);
    watched_wait(&w, is_heard);
    assert_true(loop_clock_us() - back_us < 1500 * 1000); /* TCP would repeat 6.2 s after the loss */
    assert_int_equal(w.said, HEALTH_SAID_OK);
    assert_int_equal(w.mutes, 1);
    assert_int_equal(w.downs, 1);
    assert_int_equal(w.last_down, ERR_TIMEOUT);
    assert_int_equal(w.ups, 2);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_pings_every_second_or_not(void **state)
{
    struct redis_server *s = redis_server_start(
        (const char *[]){"--user", "watcher", "on", ">secret", "+@all", "-config", "~*", NULL});
    struct topology_auth auth = {.user = "watcher", .password = "secret"};
    struct watched w = {0};

    (void)state;
    watched_open(&w, &s->address, 20);
    watched_wait(&w, is_told_of_pings);
    assert_int_equal(w.pings, 1);
    watched_unwatch(&w);
    w.pings = 0;
    watched_with(&w, &s->address, &auth);
    watched_wait(&w, is_told_of_pings);
    assert_int_equal(w.pings, -1);
    assert_int_equal(w.heards, 0); /* its settings are no illness */
    w.pings = 0;
    redis_server_do(s, "ACL SETUSER watcher +config");
    watched_wait(&w, is_told_of_pings); /* tried again */
    assert_int_equal(w.pings, 1);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_unwatch_inside_each_callback_of_a_silence(void **state)
{
    struct redis_server *s = redis_server_start(NULL);

    (void)state;
    for (int i = 0; i < 3; i++) {
        struct watched w = {
            .unwatch_on_mute = i == 0, .unwatch_on_knock = i == 1, .unwatch_on_heard = i == 2};

        watch_master(&w, &s->address);
        redis_server_suspend(s);
        watched_wait(&w, is_mute);
        if (w.member)
            monitor_seal(w.member, watched_on_done, &w); /* its reply is what is heard first, perhaps */
        watched_wait(&w, i == 2 ? is_knocked_thrice : is_gone);
        redis_server_resume(s);
        watched_wait(&w, is_gone);
        wait_for(w.loop, 200);
        assert_int_equal(w.mutes, 1);
        assert_int_equal(w.heards, i == 2);
        assert_int_equal(w.knocks > 0, i > 0);
        assert_int_equal(w.done, 0); /* the order went with the member */
        watched_end(&w);
    }
    redis_server_stop(s);
}

/* ---- pretended ones -------------------------------------------------------------------------------------
 */

struct pretended {
    struct fake_group group;
    struct fake_server *server;
    struct topology_address address;
};

static void pretended_open(struct pretended *p, struct loop *loop)
{
    fake_group_init(&p->group, (const int[]){6379}, 1);
    p->server = fake_server_open(loop, &p->group.members[0], &p->address);
}

static void test_every_kind_of_word(void **state)
{
    static const struct {
        const char *refusal;
        enum health_said said;
    } cases[] = {
        {"LOADING Redis is loading the dataset in memory", HEALTH_SAID_LOADING},
        {"MISCONF Redis is configured to save RDB snapshots", HEALTH_SAID_MISCONF},
        {"MASTERDOWN Link with MASTER is down", HEALTH_SAID_MASTERDOWN},
        {"NOPERM this user has no permissions", HEALTH_SAID_NOAUTH},
        {"ERR something else", HEALTH_SAID_OTHER},
        {NULL, HEALTH_SAID_OK},
    };
    struct topology_address nobody = {.host = "127.0.0.1", .port = redis_server_free_port()};
    struct pretended p;
    struct watched w = {0};

    (void)state;
    watched_open(&w, &nobody, 20); /* for its loop, on which the pretended one lives */
    watched_unwatch(&w);
    pretended_open(&p, w.loop);
    watched_with(&w, &p.address, NULL);
    monitor_set_eager(w.member, true);
    watched_wait(&w, has_info);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        w.heards = 0;
        p.group.members[0].refusal = cases[i].refusal;
        watched_wait(&w, is_heard);
        assert_int_equal(w.said, cases[i].said);
        assert_string_equal(w.words, cases[i].refusal ? cases[i].refusal : "");
        w.infos = 0;
        watched_wait(&w, has_info); /* INFO is answered all the while, which changes nothing */
        wait_for(w.loop, 60);
        assert_int_equal(w.heards, 1);
    }
    assert_int_equal(w.mutes, 0);
    watched_unwatch(&w);
    fake_server_close(p.server);
    watched_end(&w);
}

static void many_on_up(void *owner)
{
    ++*(int *)owner;
}

static void many_on_down(void *owner, int err, const char *text)
{
    (void)owner;
    fail_msg("link down: %d %s", err, text);
}

static void many_on_info(void *owner, const struct info *info)
{
    (void)owner;
    assert_int_equal(info->role, INFO_ROLE_MASTER);
}

static int many_ups, many_wanted;

static bool is_many_up(void *ctx)
{
    (void)ctx;
    return many_ups == many_wanted;
}

/* How many pings n masters get in a second. */
static uint64_t count_pings(int n)
{
    const struct monitor_config config = {
        .on_link_up = many_on_up, .on_link_down = many_on_down, .on_info = many_on_info};
    const struct topology_auth none = {.user = ""};
    struct loop *loop = loop_create(false);
    struct monitor *monitor;
    struct monitor_member *member;
    struct pretended p;
    uint64_t before;

    pretended_open(&p, loop);
    assert_int_equal(monitor_open(&monitor, loop, &config), 0);
    many_ups = 0;
    many_wanted = n;
    for (int i = 0; i < n; i++) {
        assert_int_equal(monitor_watch(monitor, "one of many", &p.address, &none, &many_ups, &member), 0);
        monitor_set_eager(member, true);
    }
    assert_true(wait_until(loop, is_many_up, NULL, WAIT_MS));
    wait_for(loop, 100);
    before = p.group.members[0].n_pings;
    wait_for(loop, 1000);
    before = p.group.members[0].n_pings - before;
    monitor_close(monitor);
    fake_server_close(p.server);
    loop_destroy(loop);
    return before;
}

static void test_pings_stay_within_their_budget(void **state)
{
    uint64_t few = count_pings(3), many = count_pings(1000);

    (void)state;
    assert_in_range(few, 20, 66); /* every 50 ms each; a busy machine makes it fewer */
    assert_in_range(many, MONITOR_PINGS_A_SECOND / 4, MONITOR_PINGS_A_SECOND * 11 / 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stopped_master_is_mute_until_it_goes_on),
        cmocka_unit_test(test_a_stopped_replica_is_mute_after_its_poll),
        cmocka_unit_test(test_the_end_of_a_stopped_process_ends_the_silence),
        cmocka_unit_test(test_a_short_sleep_is_mute_and_costs_no_connection),
        cmocka_unit_test(test_a_looping_script_is_busy_and_never_mute),
        cmocka_unit_test(test_a_changed_password_is_no_silence),
        cmocka_unit_test(test_max_clients_is_an_answer),
        cmocka_unit_test(test_a_master_without_memory),
        cmocka_unit_test(test_nobody_answers_the_first_connect),
        cmocka_unit_test(test_the_network_goes_away_and_comes_back),
        cmocka_unit_test(test_pings_every_second_or_not),
        cmocka_unit_test(test_unwatch_inside_each_callback_of_a_silence),
        cmocka_unit_test(test_every_kind_of_word),
        cmocka_unit_test(test_pings_stay_within_their_budget),
    };

    has_own_network = unshare(CLONE_NEWNET) == 0 || unshare(CLONE_NEWUSER | CLONE_NEWNET) == 0;
    if (has_own_network)
        network_set(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
