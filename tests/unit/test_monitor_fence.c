/* The fence's orders against real servers. */
#include "controller/monitor.h"
#include "tests/lib/redis_server.h"
#include "tests/lib/watched.h"

#include <hiredis/hiredis.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static bool open_told;

static bool has_info(const struct watched *w)
{
    return w->infos > 0;
}

static bool is_up_again(const struct watched *w)
{
    return w->ups > 1;
}

static void on_fenced(void *ctx, int err, bool open, const char *text)
{
    open_told = open;
    watched_on_done(ctx, err, NULL, text);
}

static void order_in(struct watched *w, uint64_t term, uint64_t epoch, bool keep)
{
    struct fence_order o = {.user = "app", .epoch = epoch, .term = term, .keep = keep};
    w->done = 0;
    monitor_fence(w->member, &o, on_fenced, w);
    assert_int_equal(w->done, 0); /* never inside the call */
    watched_wait_done(w);
}

static void order(struct watched *w, uint64_t epoch, bool keep)
{
    order_in(w, 9, epoch, keep);
}

/* ACL USERS, joined; without marks, or (marks) only these. */
static const char *users_of(const struct redis_server *s, bool marks)
{
    static char text[8192];
    redisReply *r = redis_server_command(s, "ACL USERS");
    size_t at = 0;
    assert_non_null(r);
    assert_int_equal(r->type, REDIS_REPLY_ARRAY);
    text[0] = '\0';
    for (size_t k = 0; k < r->elements; k++)
        if ((strncmp(r->element[k]->str, "mr-fence-", 9) == 0) == marks)
            at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? " " : "", r->element[k]->str);
    freeReplyObject(r);
    return text;
}

static const char *users(const struct redis_server *s)
{
    return users_of(s, false);
}

/* A connection that is logged in as that user; NULL: refused. */
static redisContext *login(const struct redis_server *s, const char *user)
{
    redisContext *c = redisConnect(s->address.host, s->address.port);
    assert_true(c && c->err == 0);
    redisReply *r = redisCommand(c, "AUTH %s secret", user);
    assert_non_null(r);
    bool refused = r->type == REDIS_REPLY_ERROR;
    freeReplyObject(r);
    if (!refused)
        return c;
    redisFree(c);
    return NULL;
}

static bool is_cut(redisContext *c)
{
    redisReply *r = redisCommand(c, "PING");
    bool cut = r == NULL;
    freeReplyObject(r);
    redisFree(c);
    return cut;
}

static struct redis_server *start(struct watched *w)
{
    struct redis_server *s = redis_server_start(NULL);
    redis_server_do(s, "ACL SETUSER app on >secret ~cart:* &* +@all -@dangerous");
    watched_open(w, &s->address, 20);
    watched_wait(w, has_info);
    return s;
}

static void test_an_epoch_comes_and_goes(void **state)
{
    struct watched w = {0};
    struct redis_server *s = start(&w);
    (void)state;
    order(&w, 7, true);
    assert_int_equal(w.err, 0);
    assert_true(open_told);
    assert_string_equal(users(s), "app app-e7 default");
    redisContext *c = login(s, "app-e7");
    assert_non_null(c);
    redisReply *r = redisCommand(c, "SET cart:1 x");
    assert_int_equal(r->type, REDIS_REPLY_STATUS);
    freeReplyObject(r);
    r = redisCommand(c, "SET other x");
    assert_non_null(strstr(r->str, "NOPERM"));
    freeReplyObject(r);

    order(&w, 7, true); /* again: who is logged in doesn't notice */
    assert_int_equal(w.err, 0);
    redis_server_do(s, "ACL SETUSER app ~other");
    order(&w, 7, true); /* the template was changed: neither */
    r = redisCommand(c, "SET other x");
    assert_int_equal(r->type, REDIS_REPLY_STATUS);
    freeReplyObject(r);

    order(&w, 8, true);
    assert_string_equal(users(s), "app app-e8 default");
    assert_true(is_cut(c));
    assert_null(login(s, "app-e7"));
    order_in(&w, 8, 7, true); /* a deposed controller's */
    assert_int_equal(w.err, ERR_DEPOSED);
    order_in(&w, 8, 8, false);
    assert_int_equal(w.err, ERR_DEPOSED);
    assert_string_equal(users(s), "app app-e8 default");
    watched_end(&w);
    redis_server_stop(s);
}

static void test_nobody_is_let_in(void **state)
{
    struct watched w = {0};
    struct redis_server *s = start(&w);
    (void)state;
    order(&w, 7, true);
    redisContext *e7 = login(s, "app-e7"), *template = login(s, "app");
    assert_true(e7 && template);
    redis_server_do(s, "ACL SETUSER app off");
    order(&w, 8, false);
    assert_int_equal(w.err, 0);
    assert_false(open_told);
    assert_string_equal(users(s), "app default");
    assert_true(is_cut(e7));
    assert_true(is_cut(template)); /* off alone would have left it */
    assert_null(login(s, "app-e7"));
    assert_null(login(s, "app-e8"));
    order_in(&w, 8, 7, true); /* a deposed controller's would let in whom it knows */
    assert_int_equal(w.err, ERR_DEPOSED);
    assert_null(login(s, "app-e7"));
    order(&w, 8, true);
    redisContext *e8 = login(s, "app-e8");
    assert_non_null(e8);
    order(&w, 8, false); /* sealed after all, in the same epoch */
    assert_true(is_cut(e8));
    assert_null(login(s, "app-e8"));
    watched_end(&w);
    redis_server_stop(s);
}

/* Whoever leads next takes the one before it the connection over which something may still come. */
static void test_a_newer_leader_cuts_the_older_ones_connection(void **state)
{
    struct watched old = {0}, new = {0};
    struct redis_server *s = start(&old);
    char mark[64];
    (void)state;
    watched_open(&new, &s->address, 20);
    watched_wait(&new, has_info);
    redisContext *other = redisConnect(s->address.host, s->address.port); /* one before that */
    redisReply *r = redisCommand(other, "CLIENT ID");
    assert_int_equal(r->type, REDIS_REPLY_INTEGER);
    redis_server_do(s, "ACL SETUSER mr-fence-3-%lld reset", r->integer);
    freeReplyObject(r);
    order_in(&old, 9, 7, true);
    assert_int_equal(old.err, 0);
    assert_true(is_cut(other));
    assert_int_equal(strncmp(users_of(s, true), "mr-fence-9-", 11), 0);
    (void)snprintf(mark, sizeof(mark), "%s", users_of(s, true));
    order_in(&old, 9, 7, true);
    assert_string_equal(users_of(s, true), mark); /* it stays */
    assert_int_equal(old.downs, 0);

    order_in(&new, 10, 8, true);
    assert_int_equal(new.err, 0);
    assert_string_equal(users(s), "app app-e8 default");
    assert_int_equal(strncmp(users_of(s, true), "mr-fence-10-", 12), 0);
    watched_wait(&old, is_up_again);
    assert_int_equal(new.downs, 0);
    order_in(&old, 9, 7, true);
    assert_int_equal(old.err, ERR_DEPOSED);
    assert_string_equal(users(s), "app app-e8 default");
    watched_end(&old);
    watched_end(&new);
    redis_server_stop(s);
}

static void test_very_many_epochs_at_once(void **state)
{
    struct watched w = {0};
    struct redis_server *s = start(&w);
    (void)state;
    for (int k = 1; k <= 150; k++)
        redis_server_do(s, "ACL SETUSER app-e%d on >secret +@all", k);
    order(&w, 151, true);
    assert_int_equal(w.err, 0);
    assert_string_equal(users(s), "app app-e151 default");
    watched_end(&w);
    redis_server_stop(s);
}

static void test_refusals_and_lost_connections(void **state)
{
    struct watched w = {0};
    struct redis_server *s = start(&w);
    (void)state;
    redis_server_do(s, "ACL DELUSER app");
    order(&w, 7, true);
    assert_int_equal(w.err, ERR_NOT_FOUND);
    assert_non_null(strstr(w.text, "no such ACL user"));
    order(&w, 7, false); /* needs none */
    assert_int_equal(w.err, 0);
    redis_server_do(s, "ACL SETUSER app on >secret +@all");
    redis_server_do(s, "ACL SETUSER default -client|id");
    order(&w, 8, true);
    assert_int_equal(w.err, ERR_REPLY);
    assert_non_null(strstr(w.text, "client|id"));
    redis_server_do(s, "ACL SETUSER default +client|id");
    redis_server_do(s, "ACL SETUSER default -acl|setuser"); /* may look, but not touch */
    order(&w, 8, true);
    assert_int_equal(w.err, ERR_REPLY);
    assert_non_null(strstr(w.text, "NOPERM"));
    struct fence_order o = {.user = "app", .epoch = 9, .term = 9, .keep = true};
    redis_server_suspend(s);
    w.done = 0;
    monitor_fence(w.member, &o, on_fenced, &w);
    redis_server_kill(s, SIGKILL);
    watched_wait_done(&w);
    assert_true(w.err == ERR_CLOSED || w.err == ERR_IO);
    order(&w, 9, true); /* not connected */
    assert_int_equal(w.err, ERR_CONNECTION);
    w.done = 0;
    monitor_fence(w.member, &o, on_fenced, &w);
    watched_unwatch(&w);
    watched_end(&w);
    assert_int_equal(w.done, 0);
    redis_server_stop(s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_epoch_comes_and_goes),
        cmocka_unit_test(test_nobody_is_let_in),
        cmocka_unit_test(test_a_newer_leader_cuts_the_older_ones_connection),
        cmocka_unit_test(test_very_many_epochs_at_once),
        cmocka_unit_test(test_refusals_and_lost_connections),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
