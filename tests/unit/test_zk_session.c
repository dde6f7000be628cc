/* The ZooKeeper session against a real server: calls, watches, multis; test_zk_session_trouble.c has the
 * rest. */
#include "tests/lib/zk_peer.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* ---- calls -----------------------------------------------------------------------------------------------
 */

static void test_folders_are_there_when_connected(void **state)
{
    struct zk_peer p;
    struct zk_answer a = {0};

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/deep/er");
    assert_int_equal(zk_children(p.zk, "/", NULL, zk_peer_on_children, &a), 0);
    assert_int_equal(zk_peer_await(&p, &a), 0);
    assert_string_equal(a.text, "controllers election history instances ports proxies");
    assert_true(zk_session_id(p.zk) != 0);
    assert_int_equal(zk_session_timeout_ms(p.zk), ZK_PEER_TIMEOUT_MS);
    assert_non_null(strstr(zk_session_hosts(p.zk), "/deep/er"));
    zk_peer_end(&p);
}

static void test_default_chroot(void **state)
{
    struct zk_peer p, root;
    struct zk_answer a;

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "");
    assert_int_equal(zk_peer_do_create(&p, "/instances/here", "", 0, &a), 0);
    assert_string_equal(a.text, "/instances/here");
    zk_peer_open_fresh(&root, p.loop, "/");
    assert_int_equal(zk_peer_do_get(&root, "/mr-redis/instances/here", &a), 0);
    assert_int_equal(zk_peer_do_delete(&p, "/instances/here", -1), 0);
    zk_session_close(root.zk, ZK_PEER_PATIENCE_MS);
    zk_peer_end(&p);
}

static void test_create_get_set_delete(void **state)
{
    struct zk_peer p;
    struct zk_answer a;

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/crud");
    assert_int_equal(zk_peer_do_create(&p, "/instances/cart", "one", 0, &a), 0);
    assert_string_equal(a.text, "/instances/cart");
    assert_int_equal(zk_peer_do_create(&p, "/instances/cart", "two", 0, &a), ERR_EXISTS);
    assert_int_equal(zk_peer_do_create(&p, "/nowhere/cart", "two", 0, &a), ERR_NOT_FOUND);
    assert_int_equal(zk_peer_do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "one");
    assert_int_equal(a.stat.version, 0);
    assert_true(a.stat.czxid > 0 && a.stat.czxid == a.stat.mzxid);
    assert_int_equal(zk_peer_do_set(&p, "/instances/cart", "three", 0, &a), 0);
    assert_int_equal(a.stat.version, 1);
    assert_true(a.stat.mzxid > a.stat.czxid);
    assert_int_equal(zk_peer_do_set(&p, "/instances/cart", "four", 0, &a), ERR_BAD_VERSION);
    assert_int_equal(zk_peer_do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "three");
    assert_int_equal(zk_peer_do_create(&p, "/instances/cart/x", "", 0, &a), 0);
    assert_int_equal(zk_peer_do_get(&p, "/instances/cart/x", &a), 0);
    assert_string_equal(a.text, "");
    assert_int_equal(zk_peer_do_delete(&p, "/instances/cart", -1), ERR_NOT_EMPTY);
    assert_int_equal(zk_peer_do_delete(&p, "/instances/cart/x", 7), ERR_BAD_VERSION);
    assert_int_equal(zk_peer_do_delete(&p, "/instances/cart/x", 0), 0);
    assert_int_equal(zk_peer_do_delete(&p, "/instances/cart", -1), 0);
    assert_int_equal(zk_peer_do_get(&p, "/instances/cart", &a), ERR_NOT_FOUND);
    a = (struct zk_answer){0};
    assert_int_equal(zk_sync(p.zk, zk_peer_on_done, &a), 0);
    assert_int_equal(zk_peer_await(&p, &a), 0);
    zk_peer_end(&p);
}

static void test_sequential_and_ephemeral(void **state)
{
    struct zk_peer p, other;
    struct zk_answer a, watched = {0};

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/eph");
    zk_peer_open_fresh(&other, p.loop, "/eph");
    assert_int_equal(zk_peer_do_create(&p, "/election/c_", "me", ZK_EPHEMERAL | ZK_SEQUENTIAL, &a), 0);
    assert_string_equal(a.text, "/election/c_0000000000");
    assert_int_equal(zk_peer_do_create(&other, "/election/c_", "you", ZK_EPHEMERAL | ZK_SEQUENTIAL, &a), 0);
    assert_string_equal(a.text, "/election/c_0000000001");
    assert_int_equal(zk_peer_do_create(&p, "/election/c_0000000000/x", "", 0, &a), ERR_INVALID);

    assert_int_equal(
        zk_exists(other.zk, "/election/c_0000000000", zk_peer_on_watch, zk_peer_on_stat, &watched), 0);
    assert_int_equal(zk_peer_await(&other, &watched), 0);
    assert_true(watched.stat.ephemeral_owner == zk_session_id(p.zk));
    zk_session_close(p.zk, ZK_PEER_PATIENCE_MS); /* a clean close takes the ephemerals with it at once */
    assert_true(wait_until(other.loop, zk_peer_has_fired, &watched, ZK_PEER_PATIENCE_MS));
    assert_string_equal(watched.fired_path, "/election/c_0000000000");
    assert_int_equal(zk_peer_do_get(&other, "/election/c_0000000000", &a), ERR_NOT_FOUND);
    zk_peer_end(&other);
}

static void test_watches_fire_once(void **state)
{
    struct zk_peer p;
    struct zk_answer a, get = {0}, children = {0}, missing = {0};

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/watch");
    assert_int_equal(zk_peer_do_create(&p, "/instances/a", "1", 0, &a), 0);
    assert_int_equal(zk_get(p.zk, "/instances/a", zk_peer_on_watch, zk_peer_on_data, &get), 0);
    assert_int_equal(zk_children(p.zk, "/instances", zk_peer_on_watch, zk_peer_on_children, &children), 0);
    assert_int_equal(zk_exists(p.zk, "/instances/b", zk_peer_on_watch, zk_peer_on_stat, &missing), 0);
    assert_int_equal(zk_peer_await(&p, &missing), ERR_NOT_FOUND);
    assert_int_equal(get.calls + children.calls, 2);
    assert_string_equal(children.text, "a");

    assert_int_equal(zk_peer_do_set(&p, "/instances/a", "2", -1, &a), 0);
    assert_true(wait_until(p.loop, zk_peer_has_fired, &get, ZK_PEER_PATIENCE_MS));
    assert_string_equal(get.fired_path, "/instances/a");
    assert_int_equal(zk_peer_do_create(&p, "/instances/b", "", 0, &a), 0);
    assert_true(wait_until(p.loop, zk_peer_has_fired, &missing, ZK_PEER_PATIENCE_MS));
    assert_true(wait_until(p.loop, zk_peer_has_fired, &children, ZK_PEER_PATIENCE_MS));
    assert_string_equal(children.fired_path, "/instances");

    assert_int_equal(zk_peer_do_set(&p, "/instances/a", "3", -1, &a), 0);
    assert_int_equal(zk_peer_do_delete(&p, "/instances/b", -1), 0);
    assert_int_equal(zk_peer_do_get(&p, "/instances/a", &a), 0); /* whatever would fire has fired by now */
    assert_int_equal(get.fired + missing.fired + children.fired, 3);

    /* A failed get watches nothing. */
    get = (struct zk_answer){0};
    assert_int_equal(zk_get(p.zk, "/instances/none", zk_peer_on_watch, zk_peer_on_data, &get), 0);
    assert_int_equal(zk_peer_await(&p, &get), ERR_NOT_FOUND);
    assert_int_equal(zk_peer_do_create(&p, "/instances/none", "", 0, &a), 0);
    assert_int_equal(zk_peer_do_get(&p, "/instances/none", &a), 0);
    assert_int_equal(get.fired, 0);
    zk_peer_end(&p);
}

static void test_multi_succeeds_as_a_whole(void **state)
{
    struct zk_peer p;
    struct zk_answer a;
    const struct zk_op ops[] = {
        {.kind = ZK_OP_CHECK, .path = "/election/me", .version = -1},
        {.kind = ZK_OP_SET, .path = "/instances/cart", .data = "new", .len = 3, .version = 0},
        {.kind = ZK_OP_CREATE, .path = "/history/e_", .data = "h", .len = 1, .flags = ZK_SEQUENTIAL},
        {.kind = ZK_OP_DELETE, .path = "/ports/6100", .version = -1},
    };

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/multi");
    assert_int_equal(zk_peer_do_create(&p, "/election/me", "", ZK_EPHEMERAL, &a), 0);
    assert_int_equal(zk_peer_do_create(&p, "/instances/cart", "old", 0, &a), 0);
    assert_int_equal(zk_peer_do_create(&p, "/ports/6100", "", 0, &a), 0);
    assert_int_equal(zk_peer_do_multi(&p, ops, 4, &a), 0);
    assert_int_equal(a.failed, -1);
    assert_int_equal(a.op_stats[1].version, 1);
    assert_string_equal(a.op_paths[2], "/history/e_0000000000");
    struct zk_stat committed = a.op_stats[1];
    assert_int_equal(zk_peer_do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "new");
    assert_true(a.stat.mzxid == committed.mzxid);
    assert_int_equal(zk_peer_do_get(&p, "/ports/6100", &a), ERR_NOT_FOUND);
    zk_peer_end(&p);
}

static void test_multi_names_the_op_that_failed(void **state)
{
    struct zk_peer p;
    struct zk_answer a;
    struct zk_op ops[] = {
        {.kind = ZK_OP_CHECK, .path = "/election/me", .version = -1},
        {.kind = ZK_OP_SET, .path = "/instances/cart", .data = "new", .len = 3, .version = 0},
        {.kind = ZK_OP_CREATE, .path = "/ports/6100", .data = "", .len = 0},
    };

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/multifail");
    assert_int_equal(zk_peer_do_create(&p, "/instances/cart", "old", 0, &a), 0);
    assert_int_equal(zk_peer_do_multi(&p, ops, 3, &a), ERR_NOT_FOUND);
    assert_int_equal(a.failed, 0);
    assert_int_equal(zk_peer_do_create(&p, "/election/me", "", 0, &a), 0);
    ops[1].version = 5;
    assert_int_equal(zk_peer_do_multi(&p, ops, 3, &a), ERR_BAD_VERSION);
    assert_int_equal(a.failed, 1);
    ops[1].version = 0;
    assert_int_equal(zk_peer_do_create(&p, "/ports/6100", "", 0, &a), 0);
    assert_int_equal(zk_peer_do_multi(&p, ops, 3, &a), ERR_EXISTS);
    assert_int_equal(a.failed, 2);
    assert_int_equal(zk_peer_do_get(&p, "/instances/cart", &a), 0);
    assert_string_equal(a.text, "old"); /* nothing of it was done */
    zk_peer_end(&p);
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
    struct zk_peer p;
    struct zk_answer a;

    (void)state;
    zk_peer_open_fresh(&p, loop_create(false), "/order");
    assert_int_equal(zk_peer_do_create(&p, "/instances/0", "0", 0, &a), 0);
    assert_int_equal(zk_peer_do_create(&p, "/instances/1", "1", 0, &a), 0);
    for (int i = 0; i < c.expected; i++)
        assert_int_equal(zk_get(p.zk, i % 2 == 0 ? "/instances/0" : "/instances/1", NULL, on_numbered, &c),
                         0);
    assert_true(wait_until(p.loop, is_counted, &c, ZK_PEER_PATIENCE_MS));
    zk_peer_end(&p);
}

static void test_bad_arguments(void **state)
{
    static const char *const bad[] = {
        "",     "host",     ":2181",  "h:",     "h:0",      "h:65536", "h:21x",   "h:1,",
        ",h:1", "h:1,,h:2", "h:1/a/", "h:1//a", "h:1/a//b", "h h:1",   "/chroot", "h:999999999999999999999"};
    struct loop *loop = loop_create(false);
    struct zk_session_config config = {NULL, ZK_PEER_TIMEOUT_MS, NULL, NULL};
    struct zk_session *zk = NULL;
    struct zk_op op = {.kind = ZK_OP_CHECK, .path = "relative"};
    struct zk_peer p;
    struct zk_answer a = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        config.hosts = bad[i];
        assert_int_equal(zk_session_open(&zk, loop, &config), ERR_INVALID);
    }
    config.hosts = "h:1";
    config.timeout_ms = 0;
    assert_int_equal(zk_session_open(&zk, loop, &config), ERR_INVALID);
    loop_destroy(loop);

    zk_peer_open_fresh(&p, loop_create(false), "/args");
    assert_int_equal(zk_get(p.zk, "relative", NULL, zk_peer_on_data, &a), ERR_INVALID);
    assert_int_equal(zk_get(p.zk, "/trailing/", NULL, zk_peer_on_data, &a), ERR_INVALID);
    assert_int_equal(zk_multi(p.zk, &op, 1, zk_peer_on_multi, &a), ERR_INVALID);
    assert_int_equal(zk_multi(p.zk, &op, 0, zk_peer_on_multi, &a), ERR_INVALID);
    assert_int_equal(a.calls, 0);
    zk_peer_end(&p);
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
    };

    zk_peer_server = zk_server_start();
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    zk_server_stop(zk_peer_server);
    return failed;
}
