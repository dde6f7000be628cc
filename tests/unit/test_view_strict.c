/* What is shown of a strict instance, and the controllers' metrics. */
#include "controller/core/orders.h"
#include "tests/lib/golden.h"
#include "tests/lib/view_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* A strict instance of three, one replica of which is down, after a failover that an operator took the loss
 * of. */
static struct rig *strict(void)
{
    struct rig *b = rig_watching(3);
    struct topology_instance *i = &b->f.record;
    i->policy.durability = TOPOLOGY_STRICT;
    i->failover = (struct topology_failover){.at_ms = 1700000000000,
                                             .verdict = TOPOLOGY_VERDICT_MANUAL,
                                             .epoch = 1,
                                             .old_master = i->members[1].address,
                                             .evidence = "ordered by ann, loss of data allowed",
                                             .lost_bytes = 214,
                                             .timeline.fence_us = -1};
    rig_link_down(b, 1, ERR_REFUSED);
    return b;
}

static struct view_instance view_of(const struct rig *b)
{
    struct view_instance v = view_rig_instance(b);
    v.holding = 47;
    v.not_holding = "host-7";
    v.readiness = VIEW_NOT_READY;
    strcpy(v.verdict, "NOT READY: nobody may be promoted: needs 2 of 3 registered members (acks 1), has 1");
    return v;
}

static struct view_topology topology_of(const struct view_instance *v)
{
    struct view_topology t = view_rig_topology(v);
    t.proxies = 48;
    return t;
}

/* One proxy doesn't hold yet, and a failover would be refused. */
static void test_what_is_missing_is_shown(void **state)
{
    struct rig *b = strict();
    struct view_instance v = view_of(b);
    struct view_topology t = topology_of(&v);
    size_t len;
    (void)state;
    char *text = view_topology(&t, &len);
    assert_non_null(text);
    golden_compare("view_topology_strict.json", text, len);
    json_t *root = json_loadb(text, len, 0, NULL);
    const json_t *readiness =
        json_object_get(json_array_get(json_object_get(root, "instances"), 0), "readiness");
    assert_int_equal(json_integer_value(json_object_get(readiness, "needed")), 2);
    assert_int_equal(json_integer_value(json_object_get(readiness, "have")), 1);
    assert_string_equal(json_string_value(json_object_get(readiness, "missing")), "10.0.0.2:6379 down");
    json_decref(root);
    free(text);
    free(b);
}

static void test_metrics(void **state)
{
    struct rig *b = strict();
    struct view_instance v = view_of(b);
    struct view_topology t = topology_of(&v);
    struct orders_count counts[ORDERS_KINDS] = {{0}};
    size_t len;
    (void)state;
    orders_note(counts, FAILOVER_ON_SEALED, 0, 300);
    orders_note(counts, FAILOVER_ON_SEALED, 0, 1200000);
    orders_note(counts, FAILOVER_ON_FENCED, 0, 812);
    orders_note(counts, FAILOVER_ON_FENCED, ERR_NOT_FOUND, 700);
    orders_note(counts, FAILOVER_ON_REPLICATING, ERR_CLOSED, 9);
    orders_note(counts, FAILOVER_ON_COMMITTED, 0, 5); /* no order to a member */
    v.orders = counts;
    char *text = view_metrics(&t, &len);
    assert_non_null(text);
    golden_compare("view_metrics.txt", text, len);
    free(text);
    free(b);
}

/* From the record alone nothing is known of members. */
static void test_metrics_of_a_record(void **state)
{
    struct rig *b = rig_watching(3);
    struct view_instance v = view_of(b);
    struct view_topology t = topology_of(&v);
    size_t len;
    (void)state;
    v.failover = NULL;
    v.readiness = VIEW_READINESS_UNKNOWN;
    t.proxies = VIEW_UNKNOWN;
    char *text = view_metrics(&t, &len);
    assert_non_null(text);
    assert_int_equal(strlen(text), len);
    assert_non_null(strstr(text, "mr_instance_members{instance=\"cart\"} 3\n"));
    assert_non_null(strstr(text, "mr_instance_strict_acks{instance=\"cart\"} 0\n"));
    assert_null(strstr(text, "mr_instance_failover_ready{"));
    assert_null(strstr(text, "mr_instance_failover_have{"));
    assert_null(strstr(text, "mr_instance_proxies_holding{"));
    assert_null(strstr(text, "mr_controller_proxies"));
    assert_null(strstr(text, "mr_instance_orders_total{"));
    free(text);
    free(b);
}

/* The text grows with them. */
static void test_metrics_of_many(void **state)
{
    enum { MANY = 500 };
    static struct view_instance many[MANY];
    struct rig *b = strict();
    struct view_topology t = topology_of(many);
    size_t len, n = 0;
    (void)state;
    for (int k = 0; k < MANY; k++)
        many[k] = view_of(b);
    t.n_instances = MANY;
    char *text = view_metrics(&t, &len);
    assert_non_null(text);
    for (const char *at = text; (at = strstr(at, "mr_instance_epoch{")) != NULL; at++)
        n++;
    assert_int_equal(n, MANY);
    assert_int_equal(text[len - 1], '\n');
    free(text);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_missing_is_shown),
        cmocka_unit_test(test_metrics),
        cmocka_unit_test(test_metrics_of_a_record),
        cmocka_unit_test(test_metrics_of_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
