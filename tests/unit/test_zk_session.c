/* The ZooKeeper session against a real server: calls, watches, multis, lost connections, expiry, closing. */
#include "common/log.h"
#include "common/loop.h"
#include "common/zk_session.h"
#include "tests/lib/wait.h"
#include "tests/lib/zk_server.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 1000, PATIENCE_MS = 20000 };

static struct zk_server *server;

/* A session and all that was heard from it. */
struct peer {
    struct loop *loop;
    struct zk_session *zk;
    char states[64]; /* one letter each: c connected, C connected and fresh, s suspended, e expired */
    enum zk_session_state awaited;
    bool close_on_expired;
};

/* One call's answer. */
struct answer {
    struct loop *loop;
    int calls;
    int err;
    char text[256]; /* data, created path, or the children joined by blanks */
    struct zk_stat stat;
    int failed;
    struct zk_stat op_stats[8];
    char op_paths[8][64];
    int fired; /* watches */
    char fired_path[64];
};

static void on_state(void *ctx, enum zk_session_state state, bool fresh)
{
    static const char letters[] = "kcse";
    struct peer *p = ctx;
    size_t len = strlen(p->states);

    assert_true(len + 1 < sizeof(p->states));
    assert_true(!fresh || state == ZK_CONNECTED);
    p->states[len] = fresh ? 'C' : letters[state];
    if (state == ZK_EXPIRED && p->close_on_expired) {
        zk_session_close(p->zk, 0);
        p->zk = NULL;
    }
}

static bool is_in_state(void *ctx)
{
    struct peer *p = ctx;

    return p->zk != NULL && zk_session_state(p->zk) == p->awaited;
}

static bool is_closed(void *ctx)
{
    return ((struct peer *)ctx)->zk == NULL;
}

static bool is_answered(void *ctx)
{
    return ((struct answer *)ctx)->calls > 0;
}

static bool has_fired(void *ctx)
{
    return ((struct answer *)ctx)->fired > 0;
}

static void await_state(struct peer *p, enum zk_session_state state)
{
    p->awaited = state;
    assert_true(wait_until(p->loop, is_in_state, p, PATIENCE_MS));
}

static void open_at(struct peer *p, struct loop *loop, const char *hosts)
{
    struct zk_session_config config = {hosts, TIMEOUT_MS, on_state, p};

    memset(p, 0, sizeof(*p));
    p->loop = loop;
    assert_int_equal(zk_session_open(&p->zk, loop, &config), 0);
}

/* Each test has a chroot of its own on the shared server. */
static void open_fresh(struct peer *p, struct loop *loop, const char *chroot)
{
    char hosts[128];

    (void)snprintf(hosts, sizeof(hosts), "%s%s", zk_server_hosts(server), chroot);
    open_at(p, loop, hosts);
    await_state(p, ZK_CONNECTED);
    assert_string_equal(p->states, "C");
}

static void end(struct peer *p)
{
    zk_session_close(p->zk, PATIENCE_MS);
    loop_destroy(p->loop);
}

/* ---- answers ---------------------------------------------------------------------------------------------
 */

static void on_done(void *ctx, int err)
{
    struct answer *a = ctx;

    a->calls++;
    a->err = err;
}

static void on_stat(void *ctx, int err, const struct zk_stat *stat)
{
    struct answer *a = ctx;

    on_done(a, err);
    assert_true((err == 0) == (stat != NULL));
    if (stat != NULL)
        a->stat = *stat;
}

static void on_path(void *ctx, int err, const char *path)
{
    struct answer *a = ctx;

    on_done(a, err);
    assert_true((err == 0) == (path != NULL));
    (void)snprintf(a->text, sizeof(a->text), "%s", path != NULL ? path : "");
}

static void on_data(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat)
{
    struct answer *a = ctx;

    on_stat(a, err, stat);
    a->text[0] = '\0';
    if (err == 0) {
        assert_int_equal(data[len], '\0');
        (void)snprintf(a->text, sizeof(a->text), "%s", data);
    }
}

static int compare_names(const void *x, const void *y)
{
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

static void on_children(void *ctx, int err, const char *const *names, size_t n, const struct zk_stat *stat)
{
    struct answer *a = ctx;
    const char *sorted[16];
    size_t len = 0;

    on_stat(a, err, stat);
    assert_true(n <= 16);
    if (n > 0)
        memcpy(sorted, names, n * sizeof(*names));
    qsort(sorted, n, sizeof(*sorted), compare_names);
    a->text[0] = '\0';
    for (size_t i = 0; i < n; i++)
        len += (size_t)snprintf(a->text + len, sizeof(a->text) - len, "%s%s", i > 0 ? " " : "", sorted[i]);
}

static void on_multi(void *ctx, int err, const struct zk_multi_result *result)
{
    struct answer *a = ctx;

    on_done(a, err);
    a->failed = result->failed;
    for (size_t i = 0; i < result->n && err == 0; i++) {
        a->op_stats[i] = result->stats[i];
        (void)snprintf(a->op_paths[i], sizeof(a->op_paths[i]), "%s",
                       result->paths[i] != NULL ? result->paths[i] : "");
    }
}

static void on_watch(void *ctx, const char *path)
{
    struct answer *a = ctx;

    a->fired++;
    (void)snprintf(a->fired_path, sizeof(a->fired_path), "%s", path);
}

static int await(struct peer *p, struct answer *a)
{
    assert_true(wait_until(p->loop, is_answered, a, PATIENCE_MS));
    assert_int_equal(a->calls, 1);
    return a->err;
}

static int do_create(struct peer *p, const char *path, const char *data, int flags, struct answer *a)
{
    *a = (struct answer){0};
    assert_int_equal(zk_create(p->zk, path, data, strlen(data), flags, on_path, a), 0);
    return await(p, a);
}

static int do_get(struct peer *p, const char *path, struct answer *a)
{
    *a = (struct answer){0};
    assert_int_equal(zk_get(p->zk, path, NULL, on_data, a), 0);
    return await(p, a);
}

static int do_set(struct peer *p, const char *path, const char *data, int32_t version, struct answer *a)
{
    *a = (struct answer){0};
    assert_int_equal(zk_set(p->zk, path, data, strlen(data), version, on_stat, a), 0);
    return await(p, a);
}

static int do_delete(struct peer *p, const char *path, int32_t version)
{
    struct answer a = {0};

    assert_int_equal(zk_delete(p->zk, path, version, on_done, &a), 0);
    return await(p, &a);
}

static int do_multi(struct peer *p, const struct zk_op *ops, size_t n, struct answer *a)
{
    *a = (struct answer){0};
    assert_int_equal(zk_multi(p->zk, ops, n, on_multi, a), 0);
    return await(p, a);
}

/* ---- calls -----------------------------------------------------------------------------------------------
 */

static void test_folders_are_there_when_connected(void **state)
{
    struct peer p;
    struct answer a = {0};

    (void)state;
    open_fresh(&p, loop_create(false), "/deep/er");
    assert_int_equal(zk_children(p.zk, "/", NULL, on_children, &a), 0);
    assert_int_equal(await(&p, &a), 0);
    assert_string_equal(a.text, "controllers election history instances ports proxies");
    assert_true(zk_session_id(p.zk) != 0);
    assert_int_equal(zk_session_timeout_ms(p.zk), TIMEOUT_MS);
    assert_non_null(strstr(zk_session_hosts(p.zk), "/deep/er"));
    end(&p);
}

static void test_default_chroot(void **state)
{
    struct peer p, root;
    struct answer a;

    (void)state;
    open_fresh(&p, loop_create(false), "");
    assert_int_equal(do_create(&p, "/instances/here", "", 0, &a), 0);
    assert_string_equal(a.text, "/instances/here");
    open_fresh(&root, p.loop, "/");
    assert_int_equal(do_get(&root, "/mr-redis/instances/here", &a), 0);
    assert_int_equal(do_delete(&p, "/instances/here", -1), 0);
    zk_session_close(root.zk, PATIENCE_MS);
    end(&p);
}

static void test_create_get_set_delete(void **state)
{
    struct peer p;
    struct answer a;

    (void)state;
    open_fresh(&p, loop_create(false), "/crud");
    assert_int_equal(do_create(&p, "/instances/cart", "one", 0, &a), 0);
    assert_string_equal(a.text, "/instances/cart");
    assert_int_equal(do_create(&p, "/instances/cart", "two", 0, &a), ERR_EXISTS);
    assert_int_equal(do_create(&p, "/nowhere/cart", "two", 0, &a), ERR_NOT_FOUND);
    assert_int_equal(do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "one");
    assert_int_equal(a.stat.version, 0);
    assert_true(a.stat.czxid > 0 && a.stat.czxid == a.stat.mzxid);
    assert_int_equal(do_set(&p, "/instances/cart", "three", 0, &a), 0);
    assert_int_equal(a.stat.version, 1);
    assert_true(a.stat.mzxid > a.stat.czxid);
    assert_int_equal(do_set(&p, "/instances/cart", "four", 0, &a), ERR_BAD_VERSION);
    assert_int_equal(do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "three");
    assert_int_equal(do_create(&p, "/instances/cart/x", "", 0, &a), 0);
    assert_int_equal(do_get(&p, "/instances/cart/x", &a), 0);
    assert_string_equal(a.text, "");
    assert_int_equal(do_delete(&p, "/instances/cart", -1), ERR_NOT_EMPTY);
    assert_int_equal(do_delete(&p, "/instances/cart/x", 7), ERR_BAD_VERSION);
    assert_int_equal(do_delete(&p, "/instances/cart/x", 0), 0);
    assert_int_equal(do_delete(&p, "/instances/cart", -1), 0);
    assert_int_equal(do_get(&p, "/instances/cart", &a), ERR_NOT_FOUND);
    a = (struct answer){0};
    assert_int_equal(zk_sync(p.zk, on_done, &a), 0);
    assert_int_equal(await(&p, &a), 0);
    end(&p);
}

static void test_sequential_and_ephemeral(void **state)
{
    struct peer p, other;
    struct answer a, watched = {0};

    (void)state;
    open_fresh(&p, loop_create(false), "/eph");
    open_fresh(&other, p.loop, "/eph");
    assert_int_equal(do_create(&p, "/election/c_", "me", ZK_EPHEMERAL | ZK_SEQUENTIAL, &a), 0);
    assert_string_equal(a.text, "/election/c_0000000000");
    assert_int_equal(do_create(&other, "/election/c_", "you", ZK_EPHEMERAL | ZK_SEQUENTIAL, &a), 0);
    assert_string_equal(a.text, "/election/c_0000000001");
    assert_int_equal(do_create(&p, "/election/c_0000000000/x", "", 0, &a), ERR_INVALID);

    assert_int_equal(zk_exists(other.zk, "/election/c_0000000000", on_watch, on_stat, &watched), 0);
    assert_int_equal(await(&other, &watched), 0);
    assert_true(watched.stat.ephemeral_owner == zk_session_id(p.zk));
    zk_session_close(p.zk, PATIENCE_MS); /* a clean close takes the ephemerals with it at once */
    assert_true(wait_until(other.loop, has_fired, &watched, PATIENCE_MS));
    assert_string_equal(watched.fired_path, "/election/c_0000000000");
    assert_int_equal(do_get(&other, "/election/c_0000000000", &a), ERR_NOT_FOUND);
    end(&other);
}

static void test_watches_fire_once(void **state)
{
    struct peer p;
    struct answer a, get = {0}, children = {0}, missing = {0};

    (void)state;
    open_fresh(&p, loop_create(false), "/watch");
    assert_int_equal(do_create(&p, "/instances/a", "1", 0, &a), 0);
    assert_int_equal(zk_get(p.zk, "/instances/a", on_watch, on_data, &get), 0);
    assert_int_equal(zk_children(p.zk, "/instances", on_watch, on_children, &children), 0);
    assert_int_equal(zk_exists(p.zk, "/instances/b", on_watch, on_stat, &missing), 0);
    assert_int_equal(await(&p, &missing), ERR_NOT_FOUND);
    assert_int_equal(get.calls + children.calls, 2);
    assert_string_equal(children.text, "a");

    assert_int_equal(do_set(&p, "/instances/a", "2", -1, &a), 0);
    assert_true(wait_until(p.loop, has_fired, &get, PATIENCE_MS));
    assert_string_equal(get.fired_path, "/instances/a");
    assert_int_equal(do_create(&p, "/instances/b", "", 0, &a), 0);
    assert_true(wait_until(p.loop, has_fired, &missing, PATIENCE_MS));
    assert_true(wait_until(p.loop, has_fired, &children, PATIENCE_MS));
    assert_string_equal(children.fired_path, "/instances");

    assert_int_equal(do_set(&p, "/instances/a", "3", -1, &a), 0);
    assert_int_equal(do_delete(&p, "/instances/b", -1), 0);
    assert_int_equal(do_get(&p, "/instances/a", &a), 0); /* whatever would fire has fired by now */
    assert_int_equal(get.fired + missing.fired + children.fired, 3);

    /* A failed get watches nothing. */
    get = (struct answer){0};
    assert_int_equal(zk_get(p.zk, "/instances/none", on_watch, on_data, &get), 0);
    assert_int_equal(await(&p, &get), ERR_NOT_FOUND);
    assert_int_equal(do_create(&p, "/instances/none", "", 0, &a), 0);
    assert_int_equal(do_get(&p, "/instances/none", &a), 0);
    assert_int_equal(get.fired, 0);
    end(&p);
}

static void test_multi_succeeds_as_a_whole(void **state)
{
    struct peer p;
    struct answer a;
    const struct zk_op ops[] = {
        {.kind = ZK_OP_CHECK, .path = "/election/me", .version = -1},
        {.kind = ZK_OP_SET, .path = "/instances/cart", .data = "new", .len = 3, .version = 0},
        {.kind = ZK_OP_CREATE, .path = "/history/e_", .data = "h", .len = 1, .flags = ZK_SEQUENTIAL},
        {.kind = ZK_OP_DELETE, .path = "/ports/6100", .version = -1},
    };

    (void)state;
    open_fresh(&p, loop_create(false), "/multi");
    assert_int_equal(do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(do_create(&p, "/instances/cart", "old", 0, &a), 0);
    assert_int_equal(do_create(&p, "/ports/6100", "", 0, &a), 0);
    assert_int_equal(do_multi(&p, ops, 4, &a), 0);
    assert_int_equal(a.failed, -1);
    assert_int_equal(a.op_stats[1].version, 1);
    assert_string_equal(a.op_paths[2], "/history/e_0000000000");
    struct zk_stat committed = a.op_stats[1];
    assert_int_equal(do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "new");
    assert_true(a.stat.mzxid == committed.mzxid);
    assert_int_equal(do_get(&p, "/ports/6100", &a), ERR_NOT_FOUND);
    end(&p);
}

static void test_multi_names_the_op_that_failed(void **state)
{
    struct peer p;
    struct answer a;
    struct zk_op ops[] = {
        {.kind = ZK_OP_CHECK, .path = "/election/me", .version = -1},
        {.kind = ZK_OP_SET, .path = "/instances/cart", .data = "new", .len = 3, .version = 0},
        {.kind = ZK_OP_CREATE, .path = "/ports/6100", .data = "", .len = 0},
    };

    (void)state;
    open_fresh(&p, loop_create(false), "/multifail");
    assert_int_equal(do_create(&p, "/instances/cart", "old", 0, &a), 0);
    assert_int_equal(do_multi(&p, ops, 3, &a), ERR_NOT_FOUND);
    assert_int_equal(a.failed, 0);
    assert_int_equal(do_create(&p, "/election/me", "", 0, &a), 0);
    ops[1].version = 5;
    assert_int_equal(do_multi(&p, ops, 3, &a), ERR_BAD_VERSION);
    assert_int_equal(a.failed, 1);
    ops[1].version = 0;
    assert_int_equal(do_create(&p, "/ports/6100", "", 0, &a), 0);
    assert_int_equal(do_multi(&p, ops, 3, &a), ERR_EXISTS);
    assert_int_equal(a.failed, 2);
    assert_int_equal(do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "old"); /* nothing of it was done */
    end(&p);
}

struct counter {
    int expected, done;
};

static void on_numbered(void *ctx, int err, const char *data, size_t len, const struct zk_stat *stat)
{
    struct counter *c = ctx;

    (void)stat;
    (void)len;
    assert_int_equal(err, 0);
    assert_int_equal(strtol(data, NULL, 10), c->done % 2);
    c->done++;
}

static bool is_counted(void *ctx)
{
    struct counter *c = ctx;

    return c->done == c->expected;
}

static void test_answers_come_in_the_order_of_the_calls(void **state)
{
    struct counter c = {.expected = 2000};
    struct peer p;
    struct answer a;

    (void)state;
    open_fresh(&p, loop_create(false), "/order");
    assert_int_equal(do_create(&p, "/instances/0", "0", 0, &a), 0);
    assert_int_equal(do_create(&p, "/instances/1", "1", 0, &a), 0);
    for (int i = 0; i < c.expected; i++)
        assert_int_equal(zk_get(p.zk, i % 2 == 0 ? "/instances/0" : "/instances/1", NULL, on_numbered, &c),
                         0);
    assert_true(wait_until(p.loop, is_counted, &c, PATIENCE_MS));
    end(&p);
}

static void test_bad_arguments(void **state)
{
    static const char *const bad[] = {
        "",     "host",     ":2181",  "h:",     "h:0",      "h:65536", "h:21x",   "h:1,",
        ",h:1", "h:1,,h:2", "h:1/a/", "h:1//a", "h:1/a//b", "h h:1",   "/chroot", "h:999999999999999999999"};
    struct loop *loop = loop_create(false);
    struct zk_session_config config = {NULL, TIMEOUT_MS, NULL, NULL};
    struct zk_session *zk = NULL;
    struct zk_op op = {.kind = ZK_OP_CHECK, .path = "relative"};
    struct peer p;
    struct answer a = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        config.hosts = bad[i];
        assert_int_equal(zk_session_open(&zk, loop, &config), ERR_INVALID);
    }
    config.hosts = "h:1";
    config.timeout_ms = 0;
    assert_int_equal(zk_session_open(&zk, loop, &config), ERR_INVALID);
    loop_destroy(loop);

    open_fresh(&p, loop_create(false), "/args");
    assert_int_equal(zk_get(p.zk, "relative", NULL, on_data, &a), ERR_INVALID);
    assert_int_equal(zk_get(p.zk, "/trailing/", NULL, on_data, &a), ERR_INVALID);
    assert_int_equal(zk_multi(p.zk, &op, 1, on_multi, &a), ERR_INVALID);
    assert_int_equal(zk_multi(p.zk, &op, 0, on_multi, &a), ERR_INVALID);
    assert_int_equal(a.calls, 0);
    end(&p);
}

/* ---- trouble ---------------------------------------------------------------------------------------------
 */

static void test_server_restarts_within_the_timeout(void **state)
{
    struct zk_session_config config = {NULL, 30000, on_state, NULL};
    struct zk_server *own = zk_server_start();
    struct peer p = {.loop = loop_create(false)};
    struct answer a, watched = {0}, lost = {0};
    int64_t id;

    (void)state;
    config.hosts = zk_server_hosts(own);
    config.ctx = &p;
    assert_int_equal(zk_session_open(&p.zk, p.loop, &config), 0);
    await_state(&p, ZK_CONNECTED);
    id = zk_session_id(p.zk);
    assert_int_equal(do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(zk_get(p.zk, "/election/me", on_watch, on_data, &watched), 0);
    assert_int_equal(await(&p, &watched), 0);

    zk_server_kill(own);
    if (zk_get(p.zk, "/election/me", on_watch, on_data, &lost) == 0)
        assert_int_equal(await(&p, &lost), ERR_CONNECTION);
    await_state(&p, ZK_SUSPENDED);
    assert_int_equal(zk_get(p.zk, "/election/me", NULL, on_data, &a), ERR_CONNECTION);
    zk_server_restart(own);
    await_state(&p, ZK_CONNECTED);
    assert_string_equal(p.states, "Csc");
    assert_true(zk_session_id(p.zk) == id);
    assert_int_equal(do_set(&p, "/election/me", "x", -1, &a), 0); /* the ephemeral is still ours */
    assert_true(wait_until(p.loop, has_fired, &watched, PATIENCE_MS));
    assert_int_equal(lost.fired, 0);
    end(&p);
    zk_server_stop(own);
}

/* The server starts over, and makes enough transactions to accept those who knew it before: their sessions
 * are expired. */
static void forget_all_sessions(struct zk_server *own, struct peer *p)
{
    struct peer other;
    struct answer a;

    zk_server_kill(own);
    await_state(p, ZK_SUSPENDED);
    zk_server_restart_empty(own);
    open_at(&other, p->loop, zk_server_hosts(own));
    await_state(&other, ZK_CONNECTED);
    for (int i = 0; i < 40; i++)
        assert_int_equal(do_create(&other, "/history/e_", "", ZK_SEQUENTIAL, &a), 0);
    zk_session_close(other.zk, PATIENCE_MS);
}

static void test_expiry_opens_a_new_session(void **state)
{
    struct zk_server *own = zk_server_start();
    struct peer p;
    struct answer a, watched = {0};
    int64_t id;

    (void)state;
    open_at(&p, loop_create(false), zk_server_hosts(own));
    await_state(&p, ZK_CONNECTED);
    id = zk_session_id(p.zk);
    assert_int_equal(do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(zk_get(p.zk, "/election/me", on_watch, on_data, &watched), 0);
    assert_int_equal(await(&p, &watched), 0);

    forget_all_sessions(own, &p);
    await_state(&p, ZK_CONNECTED);
    assert_string_equal(p.states, "CseC");
    assert_true(zk_session_id(p.zk) != id);
    /* The folders were made again, the ephemeral and its watch are gone. */
    assert_int_equal(do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(do_set(&p, "/election/me", "x", -1, &a), 0);
    assert_int_equal(watched.fired, 0);
    end(&p);
    zk_server_stop(own);
}

static void test_closing_from_within_the_expiry(void **state)
{
    struct zk_server *own = zk_server_start();
    struct peer p;

    (void)state;
    open_at(&p, loop_create(false), zk_server_hosts(own));
    await_state(&p, ZK_CONNECTED);
    p.close_on_expired = true;
    forget_all_sessions(own, &p);
    assert_true(wait_until(p.loop, is_closed, &p, PATIENCE_MS));
    assert_string_equal(p.states, "Cse");
    loop_destroy(p.loop);
    zk_server_stop(own);
}

/* Calls that the dying connection may or may not have carried all end, each exactly once. */
static void test_calls_under_way_end_when_the_connection_is_lost(void **state)
{
    enum { CALLS = 500 };
    static struct answer answers[CALLS];
    struct zk_server *own = zk_server_start();
    struct peer p;
    const struct zk_op op = {.kind = ZK_OP_CHECK, .path = "/instances", .version = -1};
    int sent = 0, lost = 0;

    (void)state;
    open_at(&p, loop_create(false), zk_server_hosts(own));
    await_state(&p, ZK_CONNECTED);
    zk_server_kill(own);
    for (int i = 0; i < CALLS; i++) {
        memset(&answers[i], 0, sizeof(answers[i]));
        int err = i % 2 == 0 ? zk_get(p.zk, "/instances", on_watch, on_data, &answers[i])
                             : zk_multi(p.zk, &op, 1, on_multi, &answers[i]);
        assert_int_equal(err, 0); /* the loop hasn't turned: it can't know yet */
        sent++;
    }
    await_state(&p, ZK_SUSPENDED);
    for (int i = 0; i < sent; i++)
        lost += await(&p, &answers[i]) == ERR_CONNECTION;
    assert_int_equal(lost, sent);
    zk_server_restart(own);
    await_state(&p, ZK_CONNECTED);
    for (int i = 0; i < sent; i++)
        assert_int_equal(answers[i].calls, 1);
    end(&p);
    zk_server_stop(own);
}

static void test_closing_with_calls_under_way(void **state)
{
    struct peer p;
    struct answer never = {0};

    (void)state;
    open_fresh(&p, loop_create(false), "/closing");
    for (int i = 0; i < 100; i++)
        assert_int_equal(zk_get(p.zk, "/instances", on_watch, on_data, &never), 0);
    end(&p);
    assert_int_equal(never.calls + never.fired, 0);
}

static void close_here(void *ctx, int err)
{
    struct peer *p = ctx;

    assert_int_equal(err, 0);
    zk_session_close(p->zk, PATIENCE_MS);
    p->zk = NULL;
}

static void test_closing_from_within_an_answer(void **state)
{
    struct peer p;
    struct answer never = {0};

    (void)state;
    open_fresh(&p, loop_create(false), "/within");
    assert_int_equal(zk_sync(p.zk, close_here, &p), 0);
    assert_int_equal(zk_sync(p.zk, on_done, &never), 0);
    assert_true(wait_until(p.loop, is_closed, &p, PATIENCE_MS));
    loop_destroy(p.loop);
    assert_int_equal(never.calls, 0);
}

static void test_unreachable_server(void **state)
{
    char hosts[64];
    struct peer p;
    struct answer a = {0};
    int64_t begun_us;

    (void)state;
    (void)snprintf(hosts, sizeof(hosts), "127.0.0.1:%u", zk_server_free_port());
    open_at(&p, loop_create(false), hosts);
    assert_int_equal(zk_get(p.zk, "/instances", NULL, on_data, &a), ERR_CONNECTION);
    wait_for(p.loop, 300);
    assert_string_equal(p.states, "");
    assert_int_equal(zk_session_state(p.zk), ZK_CONNECTING);
    begun_us = loop_clock_us();
    zk_session_close(p.zk, 0); /* doesn't wait: its thread finishes by itself */
    assert_true(loop_clock_us() - begun_us < 5000000);
    loop_destroy(p.loop);
}

static void test_a_server_that_comes_up_later(void **state)
{
    struct zk_server *own = zk_server_start();
    struct peer p;

    (void)state;
    zk_server_kill(own);
    open_at(&p, loop_create(false), zk_server_hosts(own));
    wait_for(p.loop, 100);
    zk_server_restart(own);
    await_state(&p, ZK_CONNECTED);
    assert_string_equal(p.states, "C");
    end(&p);
    zk_server_stop(own);
}

static void test_a_name_that_does_not_resolve(void **state)
{
    struct peer p;

    (void)state;
    open_at(&p, loop_create(false), "no-such-host.invalid:2181");
    wait_for(p.loop, 100);
    assert_int_equal(zk_session_state(p.zk), ZK_CONNECTING);
    end(&p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_folders_are_there_when_connected),
        cmocka_unit_test(test_default_chroot),
        cmocka_unit_test(test_create_get_set_delete),
        cmocka_unit_test(test_sequential_and_ephemeral),
        cmocka_unit_test(test_watches_fire_once),
        cmocka_unit_test(test_multi_succeeds_as_a_whole),
        cmocka_unit_test(test_multi_names_the_op_that_failed),
        cmocka_unit_test(test_answers_come_in_the_order_of_the_calls),
        cmocka_unit_test(test_bad_arguments),
        cmocka_unit_test(test_server_restarts_within_the_timeout),
        cmocka_unit_test(test_expiry_opens_a_new_session),
        cmocka_unit_test(test_closing_from_within_the_expiry),
        cmocka_unit_test(test_calls_under_way_end_when_the_connection_is_lost),
        cmocka_unit_test(test_closing_with_calls_under_way),
        cmocka_unit_test(test_closing_from_within_an_answer),
        cmocka_unit_test(test_unreachable_server),
        cmocka_unit_test(test_a_server_that_comes_up_later),
        cmocka_unit_test(test_a_name_that_does_not_resolve),
    };

    server = zk_server_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    zk_server_stop(server);
    return failed;
}
