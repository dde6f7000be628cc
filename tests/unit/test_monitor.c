/* The monitor against real servers: what they say, the orders, and refusals of every kind. */
#include "common/loop.h"
#include "controller/monitor.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

struct watched {
    struct loop *loop;
    struct monitor *monitor;
    struct monitor_member *member;
    int ups, downs, infos, last_down;
    struct info info;
    bool unwatch_on_up, unwatch_on_down, unwatch_on_info, unwatch_on_done, seal_on_up;
    /* the last order */
    int done, err;
    bool has_info;
    struct info order_info;
    char text[160];
    int64_t wanted_offset;
    bool (*condition)(const struct watched *w);
};

static void unwatch(struct watched *w)
{
    monitor_unwatch(w->member);
    w->member = NULL;
}

static void watched_on_done(void *ctx, int err, const struct info *info, const char *text)
{
    struct watched *w = ctx;

    w->done++;
    w->err = err;
    w->has_info = info != NULL;
    if (info)
        w->order_info = *info;
    (void)snprintf(w->text, sizeof w->text, "%s", text);
    if (w->unwatch_on_done)
        unwatch(w);
}

static void watched_on_up(void *owner)
{
    struct watched *w = owner;

    w->ups++;
    if (w->seal_on_up)
        monitor_seal(w->member, watched_on_done, w);
    if (w->unwatch_on_up)
        unwatch(w);
}

static void watched_on_down(void *owner, int err, const char *text)
{
    struct watched *w = owner;

    assert_true(text[0] != '\0');
    w->downs++;
    w->last_down = err;
    if (w->unwatch_on_down)
        unwatch(w);
}

static void watched_on_info(void *owner, const struct info *info)
{
    struct watched *w = owner;

    w->infos++;
    w->info = *info;
    assert_int_equal(strlen(info->run_id), TOPOLOGY_RUN_ID_LEN);
    assert_true(info->version[0] != '\0');
    if (w->unwatch_on_info)
        unwatch(w);
}

static void watch_with(struct watched *w, const struct topology_address *address,
                       const struct topology_auth *auth)
{
    const struct topology_auth none = {.user = ""};

    assert_int_equal(monitor_watch(w->monitor, "test", address, auth ? auth : &none, w, &w->member), 0);
}

static void watch_open(struct watched *w, const struct topology_address *address, int interval_ms)
{
    struct monitor_config config = {.interval_ms = interval_ms,
                                    .connect_timeout_ms = 5000,
                                    .reply_timeout_ms = 5000,
                                    .reconnect_min_ms = 5,
                                    .reconnect_max_ms = 20,
                                    .on_link_up = watched_on_up,
                                    .on_link_down = watched_on_down,
                                    .on_info = watched_on_info};

    w->loop = loop_create(false);
    assert_int_equal(monitor_open(&w->monitor, w->loop, &config), 0);
    watch_with(w, address, NULL);
}

static void watch_end(struct watched *w)
{
    monitor_close(w->monitor);
    loop_destroy(w->loop);
}

static bool holds(void *ctx)
{
    const struct watched *w = ctx;

    return w->condition(w);
}

static void wait_holds(struct watched *w, bool (*condition)(const struct watched *))
{
    w->condition = condition;
    assert_true(wait_until(w->loop, holds, w, WAIT_MS));
}

static bool has_info(const struct watched *w)
{
    return w->infos > 0;
}

static bool has_five_infos(const struct watched *w)
{
    return w->infos >= 5;
}

static bool is_done(const struct watched *w)
{
    return w->done > 0;
}

static bool is_down(const struct watched *w)
{
    return w->downs > 0;
}

static bool is_refused(const struct watched *w)
{
    return w->last_down == ERR_REFUSED;
}

static bool is_synced(const struct watched *w)
{
    return w->info.role == INFO_ROLE_REPLICA && w->info.master_link_up;
}

static bool has_offset(const struct watched *w)
{
    return w->info.offset >= w->wanted_offset;
}

static bool is_gone(const struct watched *w)
{
    return w->member == NULL;
}

static void order(struct watched *w, void (*give)(struct monitor_member *, monitor_done_fn, void *))
{
    w->done = 0;
    give(w->member, watched_on_done, w);
    assert_int_equal(w->done, 0); /* never inside the call */
    wait_holds(w, is_done);
    assert_int_equal(w->done, 1);
}

static void replicate(struct watched *w, const struct topology_address *target)
{
    w->done = 0;
    monitor_replicate(w->member, target, watched_on_done, w);
    wait_holds(w, is_done);
}

static void test_info_comes_with_the_link_and_then_regularly(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};

    (void)state;
    watch_open(&w, &s->address, 20);
    wait_holds(&w, has_info);
    assert_int_equal(w.ups, 1);
    assert_int_equal(w.info.role, INFO_ROLE_MASTER);
    assert_string_equal(w.info.run_id, redis_server_info(s, "run_id"));
    assert_true(monitor_is_up(w.member));
    wait_holds(&w, has_five_infos);
    assert_int_equal(w.ups, 1);
    watch_end(&w);
    redis_server_stop(s);
}

static void test_ping_period_is_set(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    redisReply *reply;

    (void)state;
    watch_open(&w, &s->address, 20);
    wait_holds(&w, has_five_infos);
    reply = redis_server_command(s, "CONFIG GET repl-ping-replica-period");
    assert_non_null(reply);
    assert_int_equal(reply->elements, 2);
    assert_string_equal(reply->element[1]->str, "1");
    freeReplyObject(reply);
    watch_end(&w);
    redis_server_stop(s);
}

static void test_probe_asks_now_and_reconnects_now(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    char run_id[TOPOLOGY_RUN_ID_LEN + 1];

    (void)state;
    watch_open(&w, &s->address, 50000); /* no poll but the probes' */
    wait_holds(&w, has_info);
    wait_for(w.loop, 30); /* its slot is the first one: polled once more */
    (void)snprintf(run_id, sizeof run_id, "%s", w.info.run_id);
    for (int i = 0; i < 10; i++)
        monitor_probe(w.member); /* one answer for all: at most one is under way */
    w.infos = 0;
    wait_holds(&w, has_info);
    wait_for(w.loop, 30);
    assert_int_equal(w.infos, 1);
    redis_server_kill(s, SIGKILL);
    wait_holds(&w, is_refused);
    assert_false(monitor_is_up(w.member));
    redis_server_restart(s, NULL);
    w.infos = 0;
    monitor_probe(w.member);
    wait_holds(&w, has_info);
    assert_string_not_equal(w.info.run_id, run_id); /* another process: asked anew */
    watch_end(&w);
    redis_server_stop(s);
}

/* The heart of a failover: seal keeps history and offset, promotion starts there, and the others follow
 * without a full synchronization. */
static void test_seal_promote_replicate_needs_no_full_sync(void **state)
{
    struct redis_server *master = redis_server_start(NULL), *a = redis_server_start(NULL),
                        *b = redis_server_start(NULL);
    struct watched wa = {0}, wb = {0};
    int64_t offset;

    (void)state;
    watch_open(&wa, &a->address, 10);
    watch_open(&wb, &b->address, 10);
    wait_holds(&wa, has_info);
    wait_holds(&wb, has_info);
    replicate(&wa, &master->address);
    assert_int_equal(wa.err, 0);
    replicate(&wb, &master->address);
    wait_holds(&wa, is_synced);
    wait_holds(&wb, is_synced);
    for (int i = 0; i < 50; i++)
        redis_server_do(master, "SET key:%d value", i);
    /* Not WAIT: on a fresh connection it counts whoever has acknowledged nothing. */
    wa.wanted_offset = wb.wanted_offset = atoll(redis_server_info(master, "master_repl_offset"));
    wait_holds(&wa, has_offset);
    wait_holds(&wb, has_offset);
    redis_server_kill(master, SIGKILL);

    order(&wa, monitor_seal);
    assert_int_equal(wa.err, 0);
    assert_true(wa.has_info);
    assert_int_equal(wa.order_info.role, INFO_ROLE_REPLICA);
    assert_false(wa.order_info.master_link_up);
    assert_int_equal(strlen(wa.order_info.run_id), TOPOLOGY_RUN_ID_LEN);
    offset = wa.order_info.offset;
    assert_true(offset >= wa.wanted_offset);
    order(&wb, monitor_seal);
    assert_int_equal(wb.order_info.offset, offset);
    assert_string_equal(wb.order_info.repl_id, wa.order_info.repl_id);

    order(&wa, monitor_promote);
    assert_int_equal(wa.err, 0);
    assert_int_equal(wa.order_info.role, INFO_ROLE_MASTER);
    assert_int_equal(wa.order_info.second_offset, offset + 1);
    assert_string_equal(wa.order_info.repl_id2, wb.order_info.repl_id);

    replicate(&wb, &a->address);
    assert_int_equal(wb.err, 0);
    memset(&wb.info, 0, sizeof wb.info);
    wait_holds(&wb, is_synced);
    assert_true(topology_address_equal(&wb.info.master, &a->address));
    assert_string_equal(redis_server_info(a, "sync_full"), "0");
    assert_string_equal(redis_server_info(a, "sync_partial_ok"), "1");
    assert_string_equal(redis_server_info(b, "db0"), "keys=50,expires=0,avg_ttl=0");
    watch_end(&wa);
    watch_end(&wb);
    redis_server_stop(master);
    redis_server_stop(a);
    redis_server_stop(b);
}

static void test_a_living_master_can_be_sealed(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    redisReply *reply;

    (void)state;
    watch_open(&w, &s->address, 10);
    wait_holds(&w, has_info);
    order(&w, monitor_seal);
    assert_int_equal(w.err, 0);
    reply = redis_server_command(s, "SET a b");
    assert_int_equal(reply->type, REDIS_REPLY_ERROR);
    assert_ptr_equal(strstr(reply->str, "READONLY"), reply->str);
    freeReplyObject(reply);
    order(&w, monitor_seal); /* idempotent */
    assert_int_equal(w.err, 0);
    watch_end(&w);
    redis_server_stop(s);
}

static void test_orders_in_on_link_up_know_the_run_id(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {.seal_on_up = true};

    (void)state;
    watch_open(&w, &s->address, 1000);
    wait_holds(&w, is_done);
    assert_int_equal(w.err, 0);
    assert_string_equal(w.order_info.run_id, redis_server_info(s, "run_id"));
    watch_end(&w);
    redis_server_stop(s);
}

static void test_orders_to_a_member_that_is_down(void **state)
{
    struct topology_address nobody = {.host = "127.0.0.1", .port = redis_server_free_port()};
    struct watched w = {0};

    (void)state;
    watch_open(&w, &nobody, 10);
    wait_holds(&w, is_refused);
    order(&w, monitor_seal);
    assert_int_equal(w.err, ERR_CONNECTION);
    assert_false(w.has_info);
    assert_true(w.text[0] != '\0');
    replicate(&w, &nobody);
    assert_int_equal(w.err, ERR_CONNECTION);
    /* Unwatched before the answer: none comes. */
    w.done = 0;
    monitor_promote(w.member, watched_on_done, &w);
    unwatch(&w);
    wait_for(w.loop, 20);
    assert_int_equal(w.done, 0);
    watch_end(&w);
}

static void test_break_while_an_order_is_under_way(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};

    (void)state;
    watch_open(&w, &s->address, 50000);
    wait_holds(&w, has_info);
    assert_int_equal(kill(s->pid, SIGSTOP), 0);
    monitor_seal(w.member, watched_on_done, &w);
    wait_for(w.loop, 20);
    redis_server_kill(s, SIGKILL);
    wait_holds(&w, is_done);
    wait_holds(&w, is_down);
    assert_int_equal(w.err, ERR_CLOSED);
    assert_int_equal(w.done, 1);
    watch_end(&w);
    redis_server_stop(s);
}

/* Every kind of refusal has the member's own words. */
static void test_refused_orders(void **state)
{
    struct redis_server *s = redis_server_start(
        (const char *[]){"--user", "watcher", "on", ">secret", "+@all", "-replicaof", "-config", "~*", NULL});
    struct topology_auth auth = {.user = "watcher", .password = "secret"};
    struct watched w = {0};

    (void)state;
    watch_open(&w, &s->address, 10);
    unwatch(&w);
    watch_with(&w, &s->address, &auth);
    wait_holds(&w, has_info);
    order(&w, monitor_seal);
    assert_int_equal(w.err, ERR_REPLY);
    assert_ptr_equal(strstr(w.text, "NOPERM"), w.text); /* not the EXECABORT that follows from it */
    order(&w, monitor_promote);
    assert_int_equal(w.err, ERR_REPLY);
    replicate(&w, &s->address); /* CONFIG SET is refused as well, which is only logged */
    assert_int_equal(w.err, ERR_REPLY);
    assert_ptr_equal(strstr(w.text, "NOPERM"), w.text);
    assert_true(monitor_is_up(w.member));
    watch_end(&w);
    redis_server_stop(s);
}

static void test_replicate_hands_the_credentials_over(void **state)
{
    const char *const with_password[] = {"--requirepass", "secret", NULL};
    struct redis_server *master = redis_server_start(with_password),
                        *replica = redis_server_start(with_password);
    struct topology_auth auth = {.password = "secret"}, wrong = {.password = "wrong"};
    struct watched w = {0};

    (void)state;
    watch_open(&w, &replica->address, 10);
    wait_holds(&w, is_down);
    assert_int_equal(w.last_down, ERR_AUTH);
    unwatch(&w);
    w.last_down = 0;
    w.downs = 0;
    watch_with(&w, &replica->address, &wrong);
    wait_holds(&w, is_down);
    assert_int_equal(w.last_down, ERR_AUTH);
    unwatch(&w);
    watch_with(&w, &replica->address, &auth);
    wait_holds(&w, has_info);
    replicate(&w, &master->address);
    assert_int_equal(w.err, 0);
    wait_holds(&w, is_synced);
    watch_end(&w);
    redis_server_stop(master);
    redis_server_stop(replica);
}

static bool is_loading(const struct watched *w)
{
    return w->infos > 0 && w->info.loading;
}

static bool has_loaded(const struct watched *w)
{
    return w->infos > 0 && !w->info.loading;
}

/* A process that reads its data answers INFO, says so, and refuses to be sealed. */
static void test_a_loading_member(void **state)
{
    static const char *const slowly[] = {"--key-load-delay", "20000",
                                         "--loading-process-events-interval-bytes", "1024", NULL};
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};

    (void)state;
    for (int i = 0; i < 1000; i++)
        redis_server_do(s, "SET key:%d %s", i, "a value that makes the file a few dozen kilobytes long");
    redis_server_do(s, "SAVE");
    redis_server_restart(s, slowly); /* 20 s of loading, unless it is told to hurry */
    watch_open(&w, &s->address, 10);
    wait_holds(&w, is_loading);
    assert_int_equal(w.downs, 0);
    order(&w, monitor_seal);
    assert_int_equal(w.err, ERR_REPLY);
    assert_ptr_equal(strstr(w.text, "LOADING"), w.text);
    redis_server_do(s, "CONFIG SET key-load-delay 0");
    wait_holds(&w, has_loaded);
    assert_int_equal(w.downs, 0);
    order(&w, monitor_seal);
    assert_int_equal(w.err, 0);
    watch_end(&w);
    redis_server_stop(s);
}

static void test_nonsense_inside_exec(void **state)
{
    static const char login[] = "+OK\r\n", infos[] = "-ERR no\r\n-ERR no\r\n-ERR no\r\n-ERR no\r\n";
    static const char answers[] = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n+OK\r\n";
    struct topology_address address;
    int listener = test_peer_listen(4, &address), fd;
    struct watched w = {0};

    (void)state;
    watch_open(&w, &address, 50000);
    fd = test_peer_accept(w.loop, listener);
    assert_int_equal(send(fd, login, sizeof login - 1, MSG_NOSIGNAL), sizeof login - 1);
    while (w.ups == 0)
        ev_run(loop_ev(w.loop), EVRUN_ONCE);
    assert_int_equal(send(fd, infos, sizeof infos - 1, MSG_NOSIGNAL), sizeof infos - 1);
    monitor_seal(w.member, watched_on_done, &w);
    wait_for(w.loop, 10); /* the order is on its way before its answer */
    assert_int_equal(send(fd, answers, sizeof answers - 1, MSG_NOSIGNAL), sizeof answers - 1);
    wait_holds(&w, is_done);
    assert_int_equal(w.err, ERR_PROTOCOL);
    assert_int_equal(w.infos, 0);
    watch_end(&w);
    close(fd);
    close(listener);
}

static void test_unwatch_inside_each_callback(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct topology_address nobody = {.host = "127.0.0.1", .port = redis_server_free_port()};

    (void)state;
    for (int i = 0; i < 4; i++) {
        struct watched w = {.unwatch_on_up = i == 0,
                            .unwatch_on_info = i == 1,
                            .unwatch_on_down = i == 2,
                            .unwatch_on_done = i == 3,
                            .seal_on_up = i != 2};

        watch_open(&w, i == 2 ? &nobody : &s->address, 10);
        wait_holds(&w, is_gone);
        wait_for(w.loop, 30);
        assert_int_equal(w.done, i == 3);
        watch_end(&w);
    }
    redis_server_stop(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_info_comes_with_the_link_and_then_regularly),
        cmocka_unit_test(test_ping_period_is_set),
        cmocka_unit_test(test_probe_asks_now_and_reconnects_now),
        cmocka_unit_test(test_seal_promote_replicate_needs_no_full_sync),
        cmocka_unit_test(test_a_living_master_can_be_sealed),
        cmocka_unit_test(test_orders_in_on_link_up_know_the_run_id),
        cmocka_unit_test(test_orders_to_a_member_that_is_down),
        cmocka_unit_test(test_break_while_an_order_is_under_way),
        cmocka_unit_test(test_refused_orders),
        cmocka_unit_test(test_replicate_hands_the_credentials_over),
        cmocka_unit_test(test_a_loading_member),
        cmocka_unit_test(test_nonsense_inside_exec),
        cmocka_unit_test(test_unwatch_inside_each_callback),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
