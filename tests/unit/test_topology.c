#include "common/core/topology.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define RUN_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define RUN_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

static struct topology_address address(const char *text)
{
    struct topology_address a;
    assert_int_equal(topology_address_parse(text, &a), 0);
    return a;
}

/* One master, one replica, one promotion behind it. */
static struct topology_instance sample(void)
{
    struct topology_instance i = {.name = "cart", .port = 6101, .epoch = 2, .n_members = 2, .n_epochs = 1};
    topology_policy_default(&i.policy);
    i.members[0] = (struct topology_member){.address = address("10.0.0.1:6379"), .run_id = RUN_A};
    i.members[1] = (struct topology_member){.address = address("10.0.0.2:6379"), .run_id = RUN_B};
    i.epochs[0] = (struct topology_epoch){.epoch = 2, .repl_id = RUN_A, .start_offset = 17};
    i.master = i.members[0].address;
    return i;
}

static void test_names(void **state)
{
    (void)state;
    static const char *const legal[] = {"a", "cart", "A.b_c-9", "...", "-", "0"};
    static const char *const illegal[] = {"", ".", "..", "a b", "a/b", "caf\xc3\xa9", "a\n", "a:b", "*"};
    for (size_t k = 0; k < sizeof legal / sizeof legal[0]; k++)
        assert_int_equal(topology_name_check(legal[k]), 0);
    for (size_t k = 0; k < sizeof illegal / sizeof illegal[0]; k++)
        assert_int_equal(topology_name_check(illegal[k]), ERR_INVALID);
    char text[TOPOLOGY_NAME_MAX + 2];
    memset(text, 'x', sizeof text);
    text[TOPOLOGY_NAME_MAX] = '\0';
    assert_int_equal(topology_name_check(text), 0);
    text[TOPOLOGY_NAME_MAX] = 'x';
    text[TOPOLOGY_NAME_MAX + 1] = '\0';
    assert_int_equal(topology_name_check(text), ERR_INVALID);
}

static void test_addresses_have_one_spelling(void **state)
{
    (void)state;
    static const char *const pairs[][2] = {
        {"10.0.0.1:6379", "10.0.0.1:6379"},
        {"127.0.0.1:1", "127.0.0.1:1"},
        {"[::1]:65535", "[::1]:65535"},
        {"[0:0:0:0:0:0:0:1]:6379", "[::1]:6379"},
        {"[FE80::A]:6379", "[fe80::a]:6379"},
        {"[ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255]:65535",
         "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
    };
    for (size_t k = 0; k < sizeof pairs / sizeof pairs[0]; k++) {
        char text[TOPOLOGY_ADDRESS_MAX + 1];
        struct topology_address a = address(pairs[k][0]);
        assert_string_equal(topology_address_format(&a, text), pairs[k][1]);
        struct topology_address again = address(text);
        assert_true(topology_address_equal(&a, &again));
    }
    struct topology_address none = {.port = 0};
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    assert_string_equal(topology_address_format(&none, text), "-");
    assert_false(topology_address_is_set(&none));
}

static void test_addresses_refused(void **state)
{
    (void)state;
    static const char *const illegal[] = {
        "",           ":",           "10.0.0.1",        "10.0.0.1:",     "10.0.0.1:0",  "10.0.0.1:65536",
        "1.2.3:1",    "1.2.3.4.5:1", "10.0.0.1:+1",     "10.0.0.1: 1",   "10.0.0.1:01", "10.0.0.1:999999",
        "::1:6379",   "[::1]",       "[::1]6379",       "[::1:6379",     "[]:6379",     "[:6379",
        "redis:6379", " 1.2.3.4:1",  "[10.0.0.1]:6379", "[::1%lo]:6379", "256.1.1.1:1", "010.0.0.1:1",
    };
    for (size_t k = 0; k < sizeof illegal / sizeof illegal[0]; k++) {
        struct topology_address a = {.port = 7};
        if (topology_address_parse(illegal[k], &a) != ERR_INVALID)
            fail_msg("\"%s\" was taken for an address", illegal[k]);
        assert_int_equal(a.port, 7); /* untouched on failure */
    }
    char longest[400];
    memset(longest, '1', sizeof longest - 1);
    longest[sizeof longest - 1] = '\0';
    struct topology_address a;
    assert_int_equal(topology_address_parse(longest, &a), ERR_INVALID);
}

static void test_words_both_ways(void **state)
{
    (void)state;
    enum topology_verdict verdict = TOPOLOGY_VERDICT_NONE;
    for (int k = TOPOLOGY_VERDICT_NONE; k <= TOPOLOGY_VERDICT_MANUAL; k++) {
        assert_int_equal(topology_verdict_parse(topology_verdict_name((enum topology_verdict)k), &verdict),
                         0);
        assert_int_equal(verdict, k);
    }
    enum topology_state s = TOPOLOGY_STABLE;
    for (int k = TOPOLOGY_STABLE; k <= TOPOLOGY_PROMOTING; k++) {
        assert_int_equal(topology_state_parse(topology_state_name((enum topology_state)k), &s), 0);
        assert_int_equal(s, k);
    }
    enum topology_priority p = TOPOLOGY_NEUTRAL;
    for (int k = TOPOLOGY_NEUTRAL; k <= TOPOLOGY_MUST_NOT; k++) {
        assert_int_equal(topology_priority_parse(topology_priority_name((enum topology_priority)k), &p), 0);
        assert_int_equal(p, k);
    }
    enum topology_history_kind h = TOPOLOGY_HISTORY_ADOPTED;
    for (int k = TOPOLOGY_HISTORY_ADOPTED; k <= TOPOLOGY_HISTORY_MEMBER; k++) {
        const char *word = topology_history_kind_name((enum topology_history_kind)k);
        assert_int_equal(topology_history_kind_parse(word, &h), 0);
        assert_int_equal(h, k);
    }
    enum topology_durability d = TOPOLOGY_ASYNC;
    assert_int_equal(topology_durability_parse("strict", &d), 0);
    assert_int_equal(d, TOPOLOGY_STRICT);
    assert_int_equal(topology_durability_parse("Strict", &d), ERR_INVALID);
    assert_int_equal(topology_state_parse("", &s), ERR_INVALID);
    assert_string_equal(topology_verdict_name(TOPOLOGY_VERDICT_DEAD), "DEAD");
    assert_string_equal(topology_priority_name(TOPOLOGY_PREFER_NOT), "prefer_not");
}

static void test_route_follows_the_state(void **state)
{
    (void)state;
    struct topology_instance i = sample();
    assert_ptr_equal(topology_route(&i), &i.master);
    i.state = TOPOLOGY_SEALING;
    i.master.port = 0;
    assert_null(topology_route(&i));
    i.state = TOPOLOGY_PROMOTING;
    i.candidate = i.members[1].address;
    assert_ptr_equal(topology_route(&i), &i.candidate);
    assert_int_equal(topology_member_find(&i, &i.candidate), 1);
    struct topology_address stranger = address("10.0.0.3:6379");
    assert_int_equal(topology_member_find(&i, &stranger), -1);
}

static void test_epoch_table_keeps_the_newest(void **state)
{
    (void)state;
    struct topology_instance i = {.n_epochs = 0};
    for (uint64_t epoch = 1; epoch <= TOPOLOGY_EPOCHS_MAX + 3; epoch++)
        topology_epoch_append(&i, &(struct topology_epoch){.epoch = epoch, .repl_id = RUN_A});
    assert_int_equal(i.n_epochs, TOPOLOGY_EPOCHS_MAX);
    assert_int_equal(i.epochs[0].epoch, 4);
    assert_int_equal(i.epochs[TOPOLOGY_EPOCHS_MAX - 1].epoch, TOPOLOGY_EPOCHS_MAX + 3);
}

/* ---- topology_check: each rule, broken alone ------------------------------------------------------------
 */

static void no_name(struct topology_instance *i)
{
    i->name[0] = '\0';
}
static void no_port(struct topology_instance *i)
{
    i->port = 0;
}
static void no_members(struct topology_instance *i)
{
    i->n_members = 0;
}
static void many_members(struct topology_instance *i)
{
    i->n_members = TOPOLOGY_MEMBERS_MAX + 1;
}
static void twins(struct topology_instance *i)
{
    i->members[1].address = i->members[0].address;
}
static void host_name(struct topology_instance *i)
{
    strcpy(i->members[1].address.host, "redis-2");
}
static void short_run_id(struct topology_instance *i)
{
    i->members[1].run_id[12] = '\0';
}
static void odd_zone(struct topology_instance *i)
{
    strcpy(i->members[1].zone, "rack 7");
}
static void no_master(struct topology_instance *i)
{
    i->master.port = 0;
}
static void foreign_master(struct topology_instance *i)
{
    i->master.port++;
}
static void sealing_with_master(struct topology_instance *i)
{
    i->state = TOPOLOGY_SEALING;
}
static void stable_with_candidate(struct topology_instance *i)
{
    i->candidate = i->members[1].address;
}
static void promoting_nobody(struct topology_instance *i)
{
    i->state = TOPOLOGY_PROMOTING;
}
static void foreign_candidate(struct topology_instance *i)
{
    i->state = TOPOLOGY_PROMOTING;
    i->candidate = address("10.9.9.9:1");
}
static void stable_with_offset(struct topology_instance *i)
{
    i->start_offset = 5;
}
static void epochs_fall(struct topology_instance *i)
{
    i->epochs[1] = i->epochs[0];
    i->epochs[1].epoch--; /* equal is legal: a master may rename its history */
    i->n_epochs = 2;
}
static void epoch_beyond(struct topology_instance *i)
{
    i->epochs[0].epoch = 3;
}
static void epoch_row_zero(struct topology_instance *i)
{
    i->epochs[0].epoch = 0;
}
static void odd_repl_id(struct topology_instance *i)
{
    i->epochs[0].repl_id[0] = 'X';
}
static void negative_offset(struct topology_instance *i)
{
    i->epochs[0].start_offset = -1;
}
static void failover_beyond(struct topology_instance *i)
{
    i->failover.epoch = 3;
}
static void strict_without_acks(struct topology_instance *i)
{
    i->policy.durability = TOPOLOGY_STRICT;
    i->policy.acks = 0;
}
static void huge_lag(struct topology_instance *i)
{
    i->policy.max_lag_bytes = UINT64_MAX;
}

static void test_check_names_the_broken_rule(void **state)
{
    (void)state;
    static const struct {
        void (*break_it)(struct topology_instance *i);
        const char *says;
    } rules[] = {
        {no_name, "name must be"},
        {no_port, "no port"},
        {no_members, "no members"},
        {many_members, "at most 16"},
        {twins, "10.0.0.1:6379 is listed twice"},
        {host_name, "member 2 has no legal address"},
        {short_run_id, "10.0.0.2:6379: run_id"},
        {odd_zone, "zone"},
        {no_master, "stable but has no master"},
        {foreign_master, "master is not a member"},
        {sealing_with_master, "sealing but has a master"},
        {stable_with_candidate, "stable but has a candidate"},
        {promoting_nobody, "promoting but has no candidate"},
        {foreign_candidate, "candidate is not a member"},
        {stable_with_offset, "start_offset"},
        {epochs_fall, "must not go back"},
        {epoch_beyond, "beyond the instance's epoch 2"},
        {epoch_row_zero, "must not go back"},
        {odd_repl_id, "repl_id"},
        {negative_offset, "negative"},
        {failover_beyond, "failover's epoch 3"},
        {strict_without_acks, "acks"},
        {huge_lag, "max_lag_bytes"},
    };
    char why[160];
    struct topology_instance good = sample();
    assert_int_equal(topology_check(&good, why, sizeof why), 0);
    assert_string_equal(why, "");
    for (size_t k = 0; k < sizeof rules / sizeof rules[0]; k++) {
        struct topology_instance i = sample();
        rules[k].break_it(&i);
        assert_int_equal(topology_check(&i, why, sizeof why), ERR_INVALID);
        if (strstr(why, rules[k].says) == NULL)
            fail_msg("rule %zu says \"%s\", wanted \"%s\"", k, why, rules[k].says);
        assert_int_equal(topology_check(&i, NULL, 0), ERR_INVALID);
    }
}

static void test_check_takes_every_state(void **state)
{
    (void)state;
    char why[160];
    struct topology_instance i = sample();
    i.state = TOPOLOGY_SEALING;
    i.master.port = 0;
    assert_int_equal(topology_check(&i, why, sizeof why), 0);
    i.state = TOPOLOGY_PROMOTING;
    i.candidate = i.members[1].address;
    i.start_offset = 1234;
    assert_int_equal(topology_check(&i, why, sizeof why), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_addresses_have_one_spelling),
        cmocka_unit_test(test_addresses_refused),
        cmocka_unit_test(test_words_both_ways),
        cmocka_unit_test(test_route_follows_the_state),
        cmocka_unit_test(test_epoch_table_keeps_the_newest),
        cmocka_unit_test(test_check_names_the_broken_rule),
        cmocka_unit_test(test_check_takes_every_state),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
