/* The engine: which proxies hold the replies of a strict instance, and who is asked again. */
#include "tests/unit/engine_played.h"

static const char *const three[] = {"host-1", "host-2", "host-3"};

static struct engine_view view(void)
{
    struct engine_view v;

    assert_true(engine_find(play.engine, "shop", &v));
    return v;
}

/* The record becomes that, and the core watches. */
static void make(enum topology_durability durability, uint32_t acks, uint64_t epoch, int64_t revision)
{
    struct topology_instance shop = instance_of(1, 3, epoch);

    shop.policy.durability = durability;
    shop.policy.acks = acks;
    script(FAILOVER_ON_RECORD, FAILOVER_WATCH, FAILOVER_DO_PUBLISH);
    read_record(&shop, revision);
    play.trail[0] = '\0';
}

static void ack(const char *proxy, uint64_t epoch, uint32_t acks)
{
    engine_on_ack(play.engine, proxy, "shop", epoch, acks, 100);
}

static void test_proxies_that_hold_are_counted(void **state)
{
    (void)state;
    engine_on_proxies(play.engine, three, 3);
    assert_null(view().strict);
    make(TOPOLOGY_STRICT, 1, 5, 11);
    assert_int_equal(view().strict->n, 0);
    assert_string_equal(view().strict->missing, "host-1, host-2, host-3");
    ack("host-1", 5, 1);
    ack("host-1", 5, 1);
    ack("host-2", 5, 0); /* it follows the epoch, but doesn't hold: one of an older version */
    assert_int_equal(view().strict->n, 1);
    assert_string_equal(view().strict->missing, "host-2, host-3");
    assert_null(strstr(play.said, "durability.in_force"));
    ack("host-2", 5, 2); /* waits for more than it has to */
    ack("host-3", 4, 1); /* told before the last failover: it still holds */
    assert_int_equal(view().strict->n, 3);
    assert_non_null(strstr(play.said, "shop:durability.in_force;"));
    ack("host-3", 5, 0);
    assert_string_equal(view().strict->missing, "host-3");
}

static void test_a_failover_changes_nothing_another_policy_does(void **state)
{
    (void)state;
    engine_on_proxies(play.engine, three, 3);
    make(TOPOLOGY_STRICT, 1, 5, 11);
    ack("host-1", 5, 1);
    make(TOPOLOGY_STRICT, 1, 6, 12);
    assert_int_equal(view().strict->n, 1);
    make(TOPOLOGY_STRICT, 2, 6, 13);
    assert_int_equal(view().strict->n, 0);
    ack("host-1", 6, 1);
    assert_int_equal(view().strict->n, 0);
    ack("host-1", 6, 2);
    assert_int_equal(view().strict->n, 1);
    make(TOPOLOGY_ASYNC, 2, 6, 14);
    assert_null(view().strict);
    ack("host-1", 6, 2); /* late */
    make(TOPOLOGY_STRICT, 2, 6, 15);
    assert_int_equal(view().strict->n, 0);
}

static void test_only_a_leader_knows(void **state)
{
    (void)state;
    engine_on_proxies(play.engine, three, 3);
    make(TOPOLOGY_STRICT, 1, 5, 11);
    ack("host-1", 5, 1);
    engine_on_lead(play.engine, 0);
    assert_null(view().strict);
    engine_on_lead(play.engine, 43);
    assert_int_equal(view().strict->n, 0); /* they are asked again */
    engine_on_corrupt(play.engine, "shop", "not JSON");
    ack("host-1", 5, 1);
    assert_null(view().strict);
}

static void test_nobody_inherits_that_another_proxy_holds(void **state)
{
    const char *const two[] = {"host-2", "host-3"}, *const other[] = {"host-2", "host-3", "host-4"};

    (void)state;
    engine_on_proxies(play.engine, three, 3);
    make(TOPOLOGY_STRICT, 1, 5, 11);
    for (int k = 0; k < 3; k++)
        ack(three[k], 5, 1);
    engine_on_proxies(play.engine, two, 2);
    engine_on_proxies(play.engine, other, 3);
    assert_int_equal(view().strict->n, 2);
    assert_string_equal(view().strict->missing, "host-4");
}

static bool is_asked(void *ctx)
{
    (void)ctx;
    return strstr(play.trail, "publish 5;") != NULL;
}

static void test_the_route_is_told_again_until_all_hold(void **state)
{
    (void)state;
    engine_on_proxies(play.engine, three, 3);
    make(TOPOLOGY_STRICT, 1, 5, 11);
    ack("host-1", 5, 1);
    assert_true(wait_until(play.loop, is_asked, NULL, WAIT_MS));
    ack("host-2", 5, 1);
    ack("host-3", 5, 1);
    assert_non_null(strstr(play.said, "shop:durability.in_force;"));
    assert_null(strstr(play.said, "durability.not_held"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_proxies_that_hold_are_counted, open_scene, close_scene),
        cmocka_unit_test_setup_teardown(test_a_failover_changes_nothing_another_policy_does, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_only_a_leader_knows, open_scene, close_scene),
        cmocka_unit_test_setup_teardown(test_nobody_inherits_that_another_proxy_holds, open_scene,
                                        close_scene),
        cmocka_unit_test_setup_teardown(test_the_route_is_told_again_until_all_hold, open_scene, close_scene),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
