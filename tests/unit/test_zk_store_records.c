/* The controllers' store against a real ZooKeeper: fenced writes, ports, records, history. */
#include "tests/lib/zk_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- records ------------------------------------------------------------------------------------------ */

static void test_commit_is_compare_and_set(void **state)
{
    struct topology_history h = zk_rig_history_of(TOPOLOGY_HISTORY_FAILOVER, 2);
    struct topology_instance i;
    struct zk_rig_peer a, b;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_stands_by, &b);
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    assert_int_equal(zk_rig_answer.records_before, 1); /* the record came first */
    assert_int_equal(a.last_version, 0);
    i = a.last;
    i.epoch = 2;
    assert_int_equal(zk_rig_commit(&a, &i, 0, &h), 0);
    assert_int_equal(zk_rig_answer.version, 1);
    assert_true(zk_rig_answer.revision > a.last_revision || a.last_version == 1);
    int64_t revision = zk_rig_answer.revision;
    ZK_RIG_AWAIT_THAT(.peer = &b, .epoch = 2);
    assert_int_equal(b.last_version, 1);
    assert_true(b.last_revision == revision);
    assert_int_equal(zk_rig_commit(&a, &i, 0, &h), ERR_BAD_VERSION);
    i = zk_rig_instance_of("nobody");
    assert_int_equal(zk_rig_commit(&a, &i, 0, NULL), ERR_NOT_FOUND);
    i.n_members = 0;
    assert_int_equal(zk_rig_commit(&a, &i, 0, NULL), ERR_INVALID);
    assert_int_equal(zk_rig_read_history(&b, "cart", 10), 0);
    assert_int_equal(zk_rig_answer.n, 2); /* the refused ones left none */
    assert_int_equal(zk_rig_answer.history[0].kind, TOPOLOGY_HISTORY_FAILOVER);
    assert_int_equal(zk_rig_answer.history[1].kind, TOPOLOGY_HISTORY_ADOPTED);
    zk_rig_close_peer(&a);
    zk_rig_close_peer(&b);
}

static void test_reload_tells_even_what_has_not_changed(void **state)
{
    struct zk_rig_peer a;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    int before = a.records;
    zk_store_reload(a.store, "cart");
    zk_store_reload(a.store, "unheard-of");
    zk_store_reload(a.store, "not a name");
    ZK_RIG_AWAIT_THAT(.peer = &a, .records = before + 1);
    zk_rig_close_peer(&a);
}

static void test_a_corrupt_record_is_set_aside(void **state)
{
    struct zk_rig_peer a;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "good"), 0);
    assert_int_equal(zk_rig_hand_create("/instances/bad", "{\"v\":1,"), 0);
    ZK_RIG_AWAIT_THAT(.peer = &a, .corrupt = "bad");
    assert_true(a.why[0] != '\0');
    assert_int_equal(zk_rig_hand_create("/instances/bad name", ""), 0); /* ignored */

    /* A new leader sets it aside, too, and zk_rig_leads for the others. */
    zk_rig_close_peer(&a);
    zk_rig_open_peer(&a, "b");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_string_equal(a.corrupt, "bad");
    assert_int_equal(a.records, 1);
    assert_string_equal(a.last.name, "good");

    /* A record under another's name. */
    char text[TOPOLOGY_TEXT_MAX];
    struct topology_instance other = zk_rig_instance_of("other");
    assert_true(topology_encode_instance(&other, text, sizeof(text)) > 0);
    a.why[0] = '\0';
    assert_int_equal(zk_rig_hand_set("/instances/bad", text), 0);
    ZK_RIG_AWAIT_THAT(.peer = &a, .corrupt = "bad");
    /* Repaired by zk_rig_hand. */
    (void)snprintf(other.name, sizeof(other.name), "bad");
    other.epoch = 7;
    assert_true(topology_encode_instance(&other, text, sizeof(text)) > 0);
    assert_int_equal(zk_rig_hand_set("/instances/bad", text), 0);
    ZK_RIG_AWAIT_THAT(.peer = &a, .epoch = 7);
    assert_int_equal(zk_rig_hand_delete("/instances/bad"), 0);
    ZK_RIG_AWAIT_THAT(.peer = &a, .removed = "bad");
    zk_rig_close_peer(&a);
}

static void test_a_thousand_instances(void **state)
{
    enum { MANY = 1000 };
    struct zk_rig_peer a;
    struct zk_rig_answer made = {0};
    char path[128], text[TOPOLOGY_TEXT_MAX];

    (void)state;
    for (int n = 0; n < MANY; n++) {
        struct topology_instance i = zk_rig_instance_of("x");

        (void)snprintf(i.name, sizeof(i.name), "instance-%d", n);
        (void)snprintf(path, sizeof(path), "/instances/%s", i.name);
        ssize_t len = topology_encode_instance(&i, text, sizeof(text));
        assert_true(len > 0);
        assert_int_equal(zk_create(zk_rig_hand, path, text, (size_t)len, 0, zk_rig_on_path, &made), 0);
    }
    assert_int_equal(zk_rig_hand_count("/instances"), MANY); /* answered after all of them */
    assert_int_equal(made.calls, MANY);
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(a.records_when_leading, MANY);
    assert_int_equal(a.records, MANY);
    assert_int_equal(zk_rig_hand_delete("/instances/instance-500"), 0);
    ZK_RIG_AWAIT_THAT(.peer = &a, .removed = "instance-500");
    assert_int_equal(a.records, MANY); /* the others were left alone */
    zk_rig_close_peer(&a);
}

/* ---- ports and instances ------------------------------------------------------------------------------ */

static void test_ports_are_claimed_once_and_freed(void **state)
{
    struct zk_rig_peer a;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_hand_create("/ports/6101", "somebody"), 0);
    assert_int_equal(zk_rig_create(&a, "one"), 0);
    assert_int_equal(zk_rig_answer.port, 6100);
    assert_int_equal(a.last.port, 6100);
    assert_int_equal(zk_rig_create(&a, "one"), ERR_EXISTS);
    assert_int_equal(zk_rig_create(&a, "two"), 0);
    assert_int_equal(zk_rig_answer.port, 6102);
    assert_int_equal(zk_rig_create(&a, "three"), 0);
    assert_int_equal(zk_rig_create(&a, "four"), ERR_EXHAUSTED);

    assert_int_equal(zk_rig_delete(&a, "two", 6102, 5), ERR_BAD_VERSION);
    assert_int_equal(zk_rig_delete(&a, "nobody", 6102, 0), ERR_NOT_FOUND);
    assert_int_equal(zk_rig_delete(&a, "two", 6102, 0), 0);
    ZK_RIG_AWAIT_THAT(.peer = &a, .removed = "two");
    assert_int_equal(zk_rig_create(&a, "four"), 0);
    assert_int_equal(zk_rig_answer.port, 6102);
    /* Its port was removed by hand: it can be deleted nevertheless. */
    assert_int_equal(zk_rig_hand_delete("/ports/6102"), 0);
    assert_int_equal(zk_rig_delete(&a, "four", 6102, 0), 0);
    assert_int_equal(zk_rig_hand_count("/ports"), 3);
    zk_rig_close_peer(&a);
}

static void on_raced(void *ctx, int err, uint16_t port)
{
    struct zk_rig_answer *all = ctx;

    assert_int_equal(err, 0);
    all->calls++;
    all->n |= (size_t)1 << (port - ZK_RIG_PORT_LOW);
}

static bool all_raced(void *ctx)
{
    return ((struct zk_rig_answer *)ctx)->calls == 4;
}

static void test_creates_at_once_get_different_ports(void **state)
{
    static const char *const names[] = {"a", "b", "c", "d"};
    static struct zk_rig_answer all;
    struct zk_rig_peer a;

    (void)state;
    memset(&all, 0, sizeof(all));
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    for (int n = 0; n < 4; n++) {
        struct topology_instance i = zk_rig_instance_of(names[n]);

        assert_int_equal(zk_store_create(a.store, &i, NULL, on_raced, &all), 0);
    }
    ZK_RIG_AWAIT(all_raced, &all);
    assert_int_equal(all.n, 0xf);
    zk_rig_close_peer(&a);
}

static bool history_is_gone(void *ctx)
{
    (void)ctx;
    return zk_rig_hand_count("/history") == 0;
}

static void test_deleting_takes_the_history_and_a_leftover_does_no_harm(void **state)
{
    struct zk_rig_peer a;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_hand_create("/history/cart", ""),
                     0); /* left from an earlier instance of that name */
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    assert_int_equal(zk_rig_hand_count("/history/cart"), 1);
    assert_int_equal(zk_rig_delete(&a, "cart", 6100, 0), 0);
    assert_true(history_is_gone(NULL) || wait_until(zk_rig_loop, history_is_gone, NULL, WAIT_MS));
    zk_rig_close_peer(&a);
}

/* ---- history, controllers, proxies -------------------------------------------------------------------- */

static bool history_is_trimmed(void *ctx)
{
    (void)ctx;
    return zk_rig_hand_count("/history/cart") == 100;
}

static void test_history_is_newest_first_and_trimmed(void **state)
{
    struct topology_history h = zk_rig_history_of(TOPOLOGY_HISTORY_REJOINED, 0);
    struct zk_rig_peer a;

    (void)state;
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a);
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    for (h.epoch = 1; h.epoch <= 110; h.epoch++)
        assert_int_equal(zk_store_append_history(a.store, "cart", &h), 0);
    assert_true(wait_until(zk_rig_loop, history_is_trimmed, NULL, WAIT_MS));
    assert_int_equal(zk_rig_read_history(&a, "cart", 200), 0);
    assert_int_equal(zk_rig_answer.n, 100);
    for (size_t n = 0; n < zk_rig_answer.n; n++)
        assert_int_equal(zk_rig_answer.history[n].epoch, 110 - n);
    assert_int_equal(zk_rig_hand_create("/history/cart/e_9999999999", "garbage"), 0);
    assert_int_equal(zk_rig_read_history(&a, "cart", 3), 0);
    assert_int_equal(zk_rig_answer.n, 2); /* what can't be read is left out */
    assert_int_equal(zk_rig_answer.history[0].epoch, 110);
    assert_int_equal(zk_rig_read_history(&a, "nobody", 3), ERR_NOT_FOUND);
    assert_int_equal(zk_rig_read_history(&a, "not a name", 3), ERR_INVALID);

    /* The folder is removed by hand: a commit makes it again rather than fail. */
    struct topology_instance i = a.last;
    assert_int_equal(zk_rig_delete(&a, "cart", 6100, 0), 0);
    assert_true(wait_until(zk_rig_loop, history_is_gone, NULL, WAIT_MS));
    assert_int_equal(zk_rig_create(&a, "cart"), 0);
    assert_int_equal(zk_rig_hand_delete("/history/cart/e_0000000000"), 0);
    assert_int_equal(zk_rig_hand_delete("/history/cart"), 0);
    h.epoch = 1;
    assert_int_equal(zk_rig_commit(&a, &i, 0, &h), 0);
    assert_int_equal(zk_rig_answer.version, 1);
    assert_int_equal(zk_rig_read_history(&a, "cart", 3), 0);
    assert_int_equal(zk_rig_answer.n, 1);
    zk_rig_close_peer(&a);
}

struct registered {
    struct zk_rig_peer *reader;
    const char *id;
    uint16_t http_port;
};

static bool is_registered(void *ctx)
{
    const struct registered *r = ctx;

    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    if (zk_rig_outcome(zk_store_read_controllers(r->reader->store, zk_rig_on_controllers, &zk_rig_answer)) !=
        0)
        return false;
    for (size_t n = 0; n < zk_rig_answer.n; n++) {
        if (strcmp(zk_rig_answer.controllers[n].id, r->id) == 0 &&
            zk_rig_answer.controllers[n].http_port == r->http_port)
            return true;
    }
    return false;
}

static void test_who_is_there(void **state)
{
    struct topology_proxy proxy = {.id = "host-1", .version = "1", .bind = "127.0.0.1", .threads = 2};
    struct topology_controller changed = zk_rig_self_of("b");
    char text[TOPOLOGY_TEXT_MAX];
    struct zk_rig_peer a, b;

    (void)state;
    zk_rig_open_peer(&b, "b");
    ZK_RIG_AWAIT(zk_rig_leads, &b);
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_stands_by, &a);
    ZK_RIG_AWAIT(is_registered, (&(struct registered){&a, "a", 7700}));
    ZK_RIG_AWAIT(is_registered, (&(struct registered){&a, "b", 7700}));
    assert_int_equal(zk_rig_answer.n, 2);
    assert_string_equal(zk_rig_answer.controllers[0].id, "a"); /* sorted */
    changed.http_port = 1234;
    assert_int_equal(zk_store_set_self(b.store, &changed), 0);
    ZK_RIG_AWAIT(is_registered, (&(struct registered){&a, "b", 1234}));
    changed = zk_rig_self_of("c");
    assert_int_equal(zk_store_set_self(b.store, &changed), ERR_INVALID);

    assert_true(topology_encode_proxy(&proxy, text, sizeof(text)) > 0);
    assert_int_equal(zk_rig_hand_create("/proxies/host-1", text), 0);
    assert_int_equal(zk_rig_hand_create("/proxies/host-2", "garbage"), 0);
    memset(&zk_rig_answer, 0, sizeof(zk_rig_answer));
    assert_int_equal(zk_rig_outcome(zk_store_read_proxies(a.store, zk_rig_on_proxies, &zk_rig_answer)), 0);
    assert_int_equal(zk_rig_answer.n, 1);
    assert_string_equal(zk_rig_answer.proxies[0].id, "host-1");
    assert_int_equal(zk_rig_answer.proxies[0].threads, 2);
    zk_rig_close_peer(&a);
    zk_rig_close_peer(&b);
}

/* A controller that comes back before its former session has timed out finds its own name taken. */
static void test_a_former_run_still_holds_the_name(void **state)
{
    struct topology_controller old = zk_rig_self_of("a");
    struct zk_rig_peer a;
    char text[TOPOLOGY_TEXT_MAX];

    (void)state;
    old.http_port = 1;
    assert_true(topology_encode_controller(&old, text, sizeof(text)) > 0);
    assert_int_equal(zk_rig_hand_create("/controllers/a", text), 0);
    zk_rig_open_peer(&a, "a");
    ZK_RIG_AWAIT(zk_rig_leads, &a); /* that doesn't wait for the name */
    assert_int_equal(zk_rig_hand_delete("/controllers/a"), 0);
    ZK_RIG_AWAIT(is_registered, (&(struct registered){&a, "a", 7700}));
    zk_rig_close_peer(&a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        ZK_RIG_TEST(test_commit_is_compare_and_set),
        ZK_RIG_TEST(test_reload_tells_even_what_has_not_changed),
        ZK_RIG_TEST(test_a_corrupt_record_is_set_aside),
        ZK_RIG_TEST(test_a_thousand_instances),
        ZK_RIG_TEST(test_ports_are_claimed_once_and_freed),
        ZK_RIG_TEST(test_creates_at_once_get_different_ports),
        ZK_RIG_TEST(test_deleting_takes_the_history_and_a_leftover_does_no_harm),
        ZK_RIG_TEST(test_history_is_newest_first_and_trimmed),
        ZK_RIG_TEST(test_who_is_there),
        ZK_RIG_TEST(test_a_former_run_still_holds_the_name),
    };
    return cmocka_run_group_tests(tests, zk_rig_begin_group, zk_rig_end_group);
}
