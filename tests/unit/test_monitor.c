/* The monitor against real servers: what they say, the orders, and refusals of every kind. */
#include "common/loop.h"
#include "controller/monitor.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/test_peer.h"
#include "tests/lib/wait.h"
#include "tests/lib/watched.h"

#include <hiredis/hiredis.h>
#include <poll.h>
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

static void test_info_comes_with_the_link_and_then_regularly(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};

    (void)state;
    watched_open(&w, &s->address, 20);
    watched_wait(&w, has_info);
    assert_int_equal(w.ups, 1);
    assert_int_equal(w.info.role, INFO_ROLE_MASTER);
    assert_string_equal(w.info.run_id, redis_server_info(s, "run_id"));
    assert_true(monitor_is_up(w.member));
    watched_wait(&w, has_five_infos);
    assert_int_equal(w.ups, 1);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_ping_period_is_set(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    redisReply *reply;

    (void)state;
    watched_open(&w, &s->address, 20);
    watched_wait(&w, has_five_infos);
    reply = redis_server_command(s, "CONFIG GET repl-ping-replica-period");
    assert_non_null(reply);
    assert_int_equal(reply->elements, 2);
    assert_string_equal(reply->element[1]->str, "1");
    freeReplyObject(reply);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_probe_asks_now_and_reconnects_now(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    char run_id[TOPOLOGY_RUN_ID_LEN + 1];

    (void)state;
    watched_open(&w, &s->address, 50000); /* no poll but the probes' */
    watched_wait(&w, has_info);
    wait_for(w.loop, 30); /* its slot is the first one: polled once more */
    (void)snprintf(run_id, sizeof run_id, "%s", w.info.run_id);
    for (int i = 0; i < 10; i++)
        monitor_probe(w.member); /* one answer for all: at most one is under way */
    w.infos = 0;
    watched_wait(&w, has_info);
    wait_for(w.loop, 30);
    assert_int_equal(w.infos, 1);
    redis_server_kill(s, SIGKILL);
    watched_wait(&w, is_refused);
    assert_false(monitor_is_up(w.member));
    redis_server_restart(s, NULL);
    w.infos = 0;
    monitor_probe(w.member);
    watched_wait(&w, has_info);
    assert_string_not_equal(w.info.run_id, run_id); /* another process: asked anew */
    watched_end(&w);
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
    watched_open(&wa, &a->address, 10);
    watched_open(&wb, &b->address, 10);
    watched_wait(&wa, has_info);
    watched_wait(&wb, has_info);
    watched_replicate(&wa, &master->address);
    assert_int_equal(wa.err, 0);
    watched_replicate(&wb, &master->address);
    watched_wait(&wa, is_synced);
    watched_wait(&wb, is_synced);
    for (int i = 0; i < 50; i++)
        redis_server_do(master, "SET key:%d value", i);
    /* Not WAIT: on a fresh connection it counts whoever has acknowledged nothing. */
    wa.wanted_offset = wb.wanted_offset = atoll(redis_server_info(master, "master_repl_offset"));
    watched_wait(&wa, has_offset);
    watched_wait(&wb, has_offset);
    redis_server_kill(master, SIGKILL);

    watched_order(&wa, monitor_seal);
    assert_int_equal(wa.err, 0);
    assert_true(wa.has_info);
    assert_int_equal(wa.order_info.role, INFO_ROLE_REPLICA);
    assert_false(wa.order_info.master_link_up);
    assert_int_equal(strlen(wa.order_info.run_id), TOPOLOGY_RUN_ID_LEN);
    offset = wa.order_info.offset;
    assert_true(offset >= wa.wanted_offset);
    watched_order(&wb, monitor_seal);
    assert_int_equal(wb.order_info.offset, offset);
    assert_string_equal(wb.order_info.repl_id, wa.order_info.repl_id);

    watched_order(&wa, monitor_promote);
    assert_int_equal(wa.err, 0);
    assert_int_equal(wa.order_info.role, INFO_ROLE_MASTER);
    assert_int_equal(wa.order_info.second_offset, offset + 1);
    assert_string_equal(wa.order_info.repl_id2, wb.order_info.repl_id);

    watched_replicate(&wb, &a->address);
    assert_int_equal(wb.err, 0);
    memset(&wb.info, 0, sizeof wb.info);
    watched_wait(&wb, is_synced);
    assert_true(topology_address_equal(&wb.info.master, &a->address));
    assert_string_equal(redis_server_info(a, "sync_full"), "0");
    assert_string_equal(redis_server_info(a, "sync_partial_ok"), "1");
    assert_string_equal(redis_server_info(b, "db0"), "keys=50,expires=0,avg_ttl=0");
    watched_end(&wa);
    watched_end(&wb);
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
    watched_open(&w, &s->address, 10);
    watched_wait(&w, has_info);
    watched_order(&w, monitor_seal);
    assert_int_equal(w.err, 0);
    reply = redis_server_command(s, "SET a b");
    assert_int_equal(reply->type, REDIS_REPLY_ERROR);
    assert_ptr_equal(strstr(reply->str, "READONLY"), reply->str);
    freeReplyObject(reply);
    watched_order(&w, monitor_seal); /* idempotent */
    assert_int_equal(w.err, 0);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_orders_in_on_link_up_know_the_run_id(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {.seal_on_up = true};

    (void)state;
    watched_open(&w, &s->address, 1000);
    watched_wait(&w, is_done);
    assert_int_equal(w.err, 0);
    assert_string_equal(w.order_info.run_id, redis_server_info(s, "run_id"));
    watched_end(&w);
    redis_server_stop(s);
}

static void test_orders_to_a_member_that_is_down(void **state)
{
    struct topology_address nobody = {.host = "127.0.0.1", .port = redis_server_free_port()};
    struct watched w = {0};

    (void)state;
    watched_open(&w, &nobody, 10);
    watched_wait(&w, is_refused);
    watched_order(&w, monitor_seal);
    assert_int_equal(w.err, ERR_CONNECTION);
    assert_false(w.has_info);
    assert_true(w.text[0] != '\0');
    watched_replicate(&w, &nobody);
    assert_int_equal(w.err, ERR_CONNECTION);
    /* Unwatched before the answer: none comes. */
    w.done = 0;
    monitor_promote(w.member, watched_on_done, &w);
    watched_unwatch(&w);
    wait_for(w.loop, 20);
    assert_int_equal(w.done, 0);
    watched_end(&w);
}

static void test_break_while_an_order_is_under_way(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};

    (void)state;
    watched_open(&w, &s->address, 50000);
    watched_wait(&w, has_info);
    redis_server_suspend(s);
    monitor_seal(w.member, watched_on_done, &w);
    wait_for(w.loop, 20);
    redis_server_kill(s, SIGKILL);
    watched_wait(&w, is_done);
    watched_wait(&w, is_down);
    assert_int_equal(w.err, ERR_CLOSED);
    assert_int_equal(w.done, 1);
    watched_end(&w);
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
    watched_open(&w, &s->address, 10);
    watched_unwatch(&w);
    watched_with(&w, &s->address, &auth);
    watched_wait(&w, has_info);
    watched_order(&w, monitor_seal);
    assert_int_equal(w.err, ERR_REPLY);
    assert_ptr_equal(strstr(w.text, "NOPERM"), w.text); /* not the EXECABORT that follows from it */
    watched_order(&w, monitor_promote);
    assert_int_equal(w.err, ERR_REPLY);
    watched_replicate(&w, &s->address); /* CONFIG SET is refused as well, which is only logged */
    assert_int_equal(w.err, ERR_REPLY);
    assert_ptr_equal(strstr(w.text, "NOPERM"), w.text);
    assert_true(monitor_is_up(w.member));
    watched_end(&w);
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
    watched_open(&w, &replica->address, 10);
    watched_wait(&w, is_down);
    assert_int_equal(w.last_down, ERR_AUTH);
    watched_unwatch(&w);
    w.last_down = 0;
    w.downs = 0;
    watched_with(&w, &replica->address, &wrong);
    watched_wait(&w, is_down);
    assert_int_equal(w.last_down, ERR_AUTH);
    watched_unwatch(&w);
    watched_with(&w, &replica->address, &auth);
    watched_wait(&w, has_info);
    watched_replicate(&w, &master->address);
    assert_int_equal(w.err, 0);
    watched_wait(&w, is_synced);
    watched_end(&w);
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
    watched_open(&w, &s->address, 10);
    watched_wait(&w, is_loading);
    assert_int_equal(w.downs, 0);
    watched_order(&w, monitor_seal);
    assert_int_equal(w.err, ERR_REPLY);
    assert_ptr_equal(strstr(w.text, "LOADING"), w.text);
    redis_server_do(s, "CONFIG SET key-load-delay 0");
    watched_wait(&w, has_loaded);
    assert_int_equal(w.downs, 0);
    watched_order(&w, monitor_seal);
    assert_int_equal(w.err, 0);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_nonsense_inside_exec(void **state)
{
    static const char login[] = "+OK\r\n",
                      infos[] = "+PONG\r\n-ERR no\r\n-ERR no\r\n-ERR no\r\n-ERR no\r\n+OK\r\n*0\r\n";
    static const char answers[] = "+OK\r\n+QUEUED\r\n+QUEUED\r\n*1\r\n+OK\r\n";
    struct topology_address address;
    int listener = test_peer_listen(4, &address), fd;
    struct watched w = {0};

    (void)state;
    watched_open(&w, &address, 50000);
    fd = test_peer_accept(w.loop, listener);
    assert_int_equal(send(fd, login, sizeof login - 1, MSG_NOSIGNAL), sizeof login - 1);
    while (w.ups == 0)
        ev_run(loop_ev(w.loop), EVRUN_ONCE);
    assert_int_equal(send(fd, infos, sizeof infos - 1, MSG_NOSIGNAL), sizeof infos - 1);
    monitor_seal(w.member, watched_on_done, &w);
    wait_for(w.loop, 10); /* the order is on its way before its answer */
    assert_int_equal(send(fd, answers, sizeof answers - 1, MSG_NOSIGNAL), sizeof answers - 1);
    watched_wait(&w, is_done);
    assert_int_equal(w.err, ERR_PROTOCOL);
    assert_int_equal(w.infos, 0);
    watched_end(&w);
    close(fd);
    close(listener);
}

/* A SET of another client, sent; whether it was answered is for later. */
static redisContext *set_elsewhere(const struct redis_server *s)
{
    redisContext *c = redisConnect(s->address.host, s->address.port);
    int done = 0;

    assert_true(c && c->err == 0);
    assert_int_equal(redisAppendCommand(c, "SET written elsewhere"), REDIS_OK);
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
    return c;
}

static bool is_answered(const redisContext *c)
{
    struct pollfd readable = {.fd = c->fd, .events = POLLIN};

    return poll(&readable, 1, 0) > 0;
}

static void check_set_is_done(redisContext *c)
{
    void *reply = NULL;

    assert_int_equal(redisGetReply(c, &reply), REDIS_OK); /* waits for it */
    assert_int_equal(((redisReply *)reply)->type, REDIS_REPLY_STATUS);
    freeReplyObject(reply);
    redisFree(c);
}

static void pause_writes(struct monitor_member *member, monitor_done_fn done, void *ctx)
{
    monitor_pause(member, 60 * 1000, done, ctx);
}

static void donate(struct monitor_member *member, monitor_done_fn done, void *ctx)
{
    monitor_donate(member, 60 * 1000, done, ctx);
}

static void test_pause_holds_writers_until_unpause(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    redisContext *c;
    int64_t offset;

    (void)state;
    watched_open(&w, &s->address, 20);
    watched_wait(&w, has_info);
    watched_order(&w, pause_writes);
    assert_int_equal(w.err, 0);
    assert_true(w.has_info);
    assert_int_equal(w.order_info.role, INFO_ROLE_MASTER);
    offset = w.order_info.offset;
    c = set_elsewhere(s);
    w.infos = 0;
    watched_wait(&w, has_five_infos); /* it is polled all the while */
    assert_false(is_answered(c));
    assert_int_equal(w.info.offset, offset);
    monitor_unpause(w.member);
    wait_for(w.loop, 20);
    check_set_is_done(c);
    assert_int_equal(w.mutes, 0);
    watched_end(&w);
    redis_server_stop(s);
}

static void test_a_pause_ends_by_itself(void **state)
{
    struct redis_server *s = redis_server_start(NULL);
    struct watched w = {0};
    redisContext *c;

    (void)state;
    watched_open(&w, &s->address, 20);
    watched_wait(&w, has_info);
    monitor_pause(w.member, 300, watched_on_done, &w);
    watched_wait_done(&w);
    c = set_elsewhere(s);
    wait_for(w.loop, 50);
    assert_false(is_answered(c));
    check_set_is_done(c);
    watched_end(&w);
    redis_server_stop(s);
}

/* What it holds can be copied, and nobody adds to it. */
static void test_donate_feeds_others_and_takes_no_write(void **state)
{
    struct redis_server *master = redis_server_start(NULL), *donor = redis_server_start(NULL),
                        *other = redis_server_start(NULL);
    struct watched wd = {0}, wo = {0};
    redisContext *c;

    (void)state;
    watched_open(&wd, &donor->address, 10);
    watched_open(&wo, &other->address, 10);
    watched_wait(&wd, has_info);
    watched_wait(&wo, has_info);
    redis_server_do(master, "SET key value");
    watched_replicate(&wd, &master->address);
    watched_wait(&wd, is_synced);
    redis_server_kill(master, SIGKILL);
    watched_order(&wd, donate);
    assert_int_equal(wd.err, 0);
    assert_int_equal(wd.order_info.role, INFO_ROLE_MASTER);
    c = set_elsewhere(donor);
    watched_replicate(&wo, &donor->address);
    watched_wait(&wo, is_synced);
    assert_string_equal(redis_server_info(other, "db0"), "keys=1,expires=0,avg_ttl=0");
    assert_false(is_answered(c));
    monitor_unpause(wd.member);
    wait_for(wd.loop, 20);
    check_set_is_done(c);
    watched_end(&wd);
    watched_end(&wo);
    redis_server_stop(master);
    redis_server_stop(donor);
    redis_server_stop(other);
}

static void test_refused_pauses(void **state)
{
    struct redis_server *s = redis_server_start(
        (const char *[]){"--user", "watcher", "on", ">secret", "+@all", "-client|pause", "~*", NULL});
    struct topology_auth auth = {.user = "watcher", .password = "secret"};
    struct watched w = {0};

    (void)state;
    watched_open(&w, &s->address, 10);
    watched_unwatch(&w);
    watched_with(&w, &s->address, &auth);
    watched_wait(&w, has_info);
    redis_server_do(s, "REPLICAOF 127.0.0.1 1");
    watched_order(&w, pause_writes);
    assert_int_equal(w.err, ERR_REPLY);
    assert_false(w.has_info);
    assert_ptr_equal(strstr(w.text, "NOPERM"), w.text);
    watched_order(&w, donate);
    assert_int_equal(w.err, ERR_REPLY);
    assert_ptr_equal(strstr(w.text, "NOPERM"), w.text);
    assert_string_equal(redis_server_info(s, "role"), "slave"); /* never one that anybody may write to */
    redis_server_kill(s, SIGKILL);
    watched_wait(&w, is_refused);
    watched_order(&w, pause_writes);
    assert_int_equal(w.err, ERR_CONNECTION);
    monitor_unpause(w.member); /* nobody to tell, nothing to undo */
    watched_end(&w);
    redis_server_stop(s);
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

        watched_open(&w, i == 2 ? &nobody : &s->address, 10);
        watched_wait(&w, is_gone);
        wait_for(w.loop, 30);
        assert_int_equal(w.done, i == 3);
        watched_end(&w);
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
        cmocka_unit_test(test_pause_holds_writers_until_unpause),
        cmocka_unit_test(test_a_pause_ends_by_itself),
        cmocka_unit_test(test_donate_feeds_others_and_takes_no_write),
        cmocka_unit_test(test_refused_pauses),
        cmocka_unit_test(test_unwatch_inside_each_callback),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
