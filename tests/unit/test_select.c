/* Who may be promoted, and who is the best of them: safety.md §4.3. INFO parsing and adoption beside it. */
#include "controller/core/placement.h"
#include "controller/core/select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#define TEN(c) c c c c c c c c c c
#define ID(c)  TEN(c) TEN(c) TEN(c) TEN(c)

struct table {
    struct topology_instance i;
    struct select_member m[3];
};

static void add_epoch(struct topology_instance *i, uint64_t epoch, const char *repl_id, int64_t start)
{
    struct topology_epoch row = {.epoch = epoch, .start_offset = start};
    snprintf(row.repl_id, sizeof(row.repl_id), "%s", repl_id);
    topology_epoch_append(i, &row);
}

/* Three trusted, sealed members of epoch 1's history at offset 100. */
static struct table sample(void)
{
    static const char *const ids[] = {ID("a"), ID("b"), ID("c")};
    struct table t;
    memset(&t, 0, sizeof(t));
    snprintf(t.i.name, sizeof(t.i.name), "cart");
    add_epoch(&t.i, 1, ID("1"), 0);
    for (uint32_t k = 0; k < 3; k++) {
        struct topology_member *m = &t.i.members[t.i.n_members++];
        snprintf(m->address.host, sizeof(m->address.host), "10.0.0.%u", k + 1);
        m->address.port = 6379;
        snprintf(m->run_id, sizeof(m->run_id), "%s", ids[k]);
        info_init(&t.m[k].info);
        t.m[k].sealed = true;
        t.m[k].info.role = INFO_ROLE_REPLICA;
        t.m[k].info.offset = 100;
        snprintf(t.m[k].info.run_id, sizeof(t.m[k].info.run_id), "%s", ids[k]);
        snprintf(t.m[k].info.repl_id, sizeof(t.m[k].info.repl_id), "%s", ID("1"));
    }
    return t;
}

static int choose(struct table *t)
{
    struct select_result result;
    select_choose(&t->i, t->m, NULL, &result);
    assert_true(strlen(result.reason) > 0);
    assert_true(result.chosen >= 0 || !result.last_resort);
    return result.chosen;
}

static void test_larger_offset_wins(void **state)
{
    struct table t = sample();
    (void)state;
    t.m[2].info.offset = 101;
    assert_int_equal(choose(&t), 2);
}

static void test_newer_history_wins_over_a_larger_offset(void **state)
{
    struct table t = sample();
    (void)state;
    add_epoch(&t.i, 2, ID("2"), 90);
    snprintf(t.m[1].info.repl_id, sizeof(t.m[1].info.repl_id), "%s", ID("2"));
    t.m[1].info.offset = 95;
    t.m[0].info.offset = 5000; /* went on writing in epoch 1, alone */
    assert_int_equal(choose(&t), 1);
    assert_int_equal(select_lineage(&t.i, &t.m[0].info), 1);
    assert_int_equal(select_lineage(&t.i, &t.m[1].info), 2);
}

static void test_unnamed_promotion_is_recognized_by_where_it_branched_off(void **state)
{
    struct table t = sample();
    (void)state;
    add_epoch(&t.i, 2, "",
              100); /* chosen, promoted, published; the leader died before it could record the id */
    snprintf(t.m[1].info.repl_id, sizeof(t.m[1].info.repl_id), "%s", ID("7"));
    snprintf(t.m[1].info.repl_id2, sizeof(t.m[1].info.repl_id2), "%s", ID("1"));
    t.m[1].info.second_offset = 101;
    t.m[1].info.offset = 104;
    t.m[0].info.offset = 900;
    assert_int_equal(select_lineage(&t.i, &t.m[1].info), 2);
    assert_int_equal(choose(&t), 1);
    t.m[1].info.second_offset = 60; /* branched off elsewhere: somebody else's promotion */
    assert_int_equal(select_lineage(&t.i, &t.m[1].info), 1);
}

static void test_unknown_history_is_not_countable(void **state)
{
    struct table t = sample();
    (void)state;
    snprintf(t.m[0].info.repl_id, sizeof(t.m[0].info.repl_id), "%s", ID("9"));
    t.m[0].info.offset = 1000000;
    assert_string_equal(select_refusal(&t.i, 0, &t.m[0]),
                        "its replication id is in no row of the epoch table");
    assert_int_not_equal(choose(&t), 0);
}

/* It followed a restarted master: what it wrote after the branch makes it longer, not more complete. */
static void test_bytes_after_a_branch_do_not_count(void **state)
{
    struct table t = sample();
    (void)state;
    snprintf(t.m[0].info.repl_id, sizeof(t.m[0].info.repl_id), "%s", ID("9"));
    snprintf(t.m[0].info.repl_id2, sizeof(t.m[0].info.repl_id2), "%s", ID("1"));
    t.m[0].info.second_offset = 91;
    t.m[0].info.offset = 500;
    t.m[1].info.offset = 110;
    t.m[2].info.offset = 100;
    assert_int_equal(select_lineage(&t.i, &t.m[0].info), 1);
    assert_int_equal(choose(&t), 1);
}

static void test_refusals(void **state)
{
    struct table t = sample();
    (void)state;
    assert_null(select_refusal(&t.i, 0, &t.m[0]));
    t.m[0].sealed = false;
    assert_string_equal(select_refusal(&t.i, 0, &t.m[0]), "not sealed");
    t.m[0].may_return = true;
    assert_string_equal(select_refusal(&t.i, 0, &t.m[0]), "not reachable");
    t.m[1].info.loading = true;
    assert_string_equal(select_refusal(&t.i, 1, &t.m[1]), "loading its data set");
    t.m[1].info.loading = false;
    t.m[1].info.replica_priority = 0;
    assert_string_equal(select_refusal(&t.i, 1, &t.m[1]), "replica-priority is 0");
    t.i.members[2].priority = TOPOLOGY_MUST_NOT;
    assert_string_equal(select_refusal(&t.i, 2, &t.m[2]), "labelled must_not");
    snprintf(t.m[2].info.run_id, sizeof(t.m[2].info.run_id), "%s", ID("f"));
    assert_string_equal(select_refusal(&t.i, 2, &t.m[2]), "restarted: its data is not trusted");
    assert_int_equal(choose(&t), -1);
}

static void test_labels_then_zone_then_run_id_break_ties(void **state)
{
    struct table t = sample();
    (void)state;
    assert_int_equal(choose(&t), 0); /* the smallest run_id */
    t.i.failover.old_master = t.i.members[0].address;
    t.m[0].sealed = false;
    t.m[0].may_return = true;
    snprintf(t.i.members[0].zone, sizeof(t.i.members[0].zone), "east");
    snprintf(t.i.members[2].zone, sizeof(t.i.members[2].zone), "east");
    assert_int_equal(choose(&t), 2);
    t.i.members[1].priority = TOPOLOGY_PREFER;
    assert_int_equal(choose(&t), 1);
    t.i.members[1].priority = TOPOLOGY_PREFER_NOT;
    assert_int_equal(choose(&t), 2);
}

static void test_last_resort_needs_everybody(void **state)
{
    struct table t = sample();
    struct select_result result;
    (void)state;
    for (int k = 0; k < 3; k++) {
        snprintf(t.m[k].info.run_id, sizeof(t.m[k].info.run_id), "%s", ID("f"));
        snprintf(t.m[k].info.repl_id, sizeof(t.m[k].info.repl_id), "%s", ID("9"));
    }
    t.m[1].sealed = false;
    t.m[1].may_return = true;
    assert_int_equal(choose(&t), -1); /* the missing one may have the data */
    t.m[1].sealed = true;
    t.i.failover.old_master = t.i.members[2].address;
    select_choose(&t.i, t.m, NULL, &result);
    assert_true(result.last_resort);
    assert_int_equal(result.chosen, 2); /* the one that served */
    snprintf(t.m[0].info.repl_id, sizeof(t.m[0].info.repl_id), "%s", ID("1"));
    assert_int_equal(choose(&t), 0); /* it came back with the data it had */
}

/* ---- strict: N - acks of all that are registered ---- */

static struct select_result choose_strict(struct table *t, uint32_t acks)
{
    struct select_result result;
    t->i.policy.durability = TOPOLOGY_STRICT;
    t->i.policy.acks = acks;
    select_choose(&t->i, t->m, NULL, &result);
    return result;
}

static void test_strict_needs_all_but_acks_of_the_registered(void **state)
{
    struct table t = sample();
    (void)state;
    struct select_result r = choose_strict(&t, 1);
    assert_int_equal(r.needed, 2);
    assert_int_equal(r.have, 3);
    assert_int_not_equal(r.chosen, -1);
    t.m[0].sealed = false;
    t.m[0].may_return = true;
    r = choose_strict(&t, 1);
    assert_int_equal(r.have, 2);
    assert_int_not_equal(r.chosen, -1);
    snprintf(t.m[1].info.run_id, sizeof(t.m[1].info.run_id), "%s", ID("f")); /* it restarted */
    r = choose_strict(&t, 1);
    assert_int_equal(r.chosen, -1);
    assert_int_equal(r.have, 1);
    assert_string_equal(r.reason,
                        "needs 2 of 3 registered members (acks 1), has 1: 10.0.0.1:6379: not reachable; "
                        "10.0.0.2:6379: restarted: its data is not trusted; 10.0.0.3:6379: its data "
                        "counts");
    r = choose_strict(&t, 2); /* two replicas had each acknowledged write */
    assert_int_equal(r.needed, 1);
    assert_int_equal(r.chosen, 2);
    t.i.failover.data_loss_allowed = true;
    r = choose_strict(&t, 1);
    assert_int_equal(r.chosen, 2);
    assert_int_equal(r.needed, 2);
    assert_int_equal(r.have, 1);
    t.i.policy.durability = TOPOLOGY_ASYNC;
    assert_int_equal(select_needed(&t.i), 1);
}

static void test_strict_counts_only_who_is_no_further_than_the_chosen(void **state)
{
    struct table t = sample();
    struct select_donation donation = {.failed = true};
    struct select_result r = {.chosen = -1};
    (void)state;
    t.i.members[2].priority = TOPOLOGY_MUST_NOT;
    t.m[2].info.offset = 150;
    t.m[0].sealed = false;
    r = choose_strict(&t, 1);
    assert_int_equal(r.chosen, 1);
    assert_int_equal(r.donor, 2); /* it gives first: then everybody's data is there */
    assert_int_equal(r.have, 2);
    select_choose(&t.i, t.m, &donation, &r);
    assert_int_equal(r.chosen, -1); /* what it alone has may have been promised */
    assert_int_equal(r.have, 1);
    t.m[0].sealed = true;
    select_choose(&t.i, t.m, &donation, &r);
    assert_int_not_equal(r.chosen, -1); /* two others have all that was */
    assert_int_equal(r.have, 2);
    snprintf(donation.repl_id, sizeof(donation.repl_id), "%s", ID("7"));
    donation = (struct select_donation){.offset = 150};
    snprintf(donation.repl_id, sizeof(donation.repl_id), "%s", ID("7"));
    snprintf(donation.known_id, sizeof(donation.known_id), "%s", ID("1"));
    donation.known_below = 151;
    for (int k = 1; k < 3; k++) { /* given and taken; the donor has pinged since */
        snprintf(t.m[k].info.repl_id, sizeof(t.m[k].info.repl_id), "%s", ID("7"));
        t.m[k].info.offset = k == 1 ? 150 : 164;
    }
    snprintf(t.m[2].info.repl_id2, sizeof(t.m[2].info.repl_id2), "%s", ID("1"));
    t.m[2].info.second_offset = 151;
    t.m[0].sealed = false;
    select_choose(&t.i, t.m, &donation, &r);
    assert_int_equal(r.chosen, 1);
    assert_int_equal(r.have, 2);
}

static void test_strict_knows_no_last_resort(void **state)
{
    struct table t = sample();
    (void)state;
    for (int k = 0; k < 3; k++)
        snprintf(t.m[k].info.run_id, sizeof(t.m[k].info.run_id), "%s", ID("f"));
    assert_int_not_equal(choose(&t), -1);
    assert_int_equal(choose_strict(&t, 1).chosen, -1);
    t.i.failover.data_loss_allowed = true;
    assert_true(choose_strict(&t, 1).last_resort);
}

static void test_strict_switchover_counts_pings_as_nothing(void **state)
{
    struct table t = sample();
    struct select_donation donation = {.in_step = true};
    struct select_result r;
    (void)state;
    t.i.failover.verdict = TOPOLOGY_VERDICT_PLANNED;
    t.i.failover.old_master = t.i.members[0].address;
    t.i.failover.target = t.i.members[2].address;
    t.i.failover.target_offset = 100;
    t.m[0].info.offset = 114; /* paused since the target was in step */
    t.m[1].sealed = false;
    choose_strict(&t, 1);
    select_choose(&t.i, t.m, &donation, &r);
    assert_int_equal(r.chosen, 2);
    assert_int_equal(r.have, 2);
    t.m[0].sealed = false;
    select_choose(&t.i, t.m, &donation, &r);
    assert_int_equal(r.chosen, -1);
}

/* A total order: whatever the members, comparing is antisymmetric and the choice is the same from both ends.
 */
static void test_comparator_is_antisymmetric(void **state)
{
    struct table t = sample();
    unsigned seed = 12345;
    (void)state;
    for (int round = 0; round < 2000; round++) {
        for (int k = 0; k < 3; k++) {
            seed = seed * 1103515245u + 12345u;
            t.m[k].info.offset = 90 + (seed >> 16) % 20;
            t.i.members[k].priority = (enum topology_priority)((seed >> 8) % 3);
        }
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++) {
                int ab = select_compare(&t.i, a, &t.m[a], b, &t.m[b]);
                int ba = select_compare(&t.i, b, &t.m[b], a, &t.m[a]);
                assert_true((ab < 0 && ba > 0) || (ab > 0 && ba < 0) || (ab == 0 && ba == 0 && a == b));
            }
    }
}

/* ---- INFO -----------------------------------------------------------------------------------------------
 */

static void parse(struct info *info, const char *text)
{
    assert_int_equal(info_parse(text, strlen(text), info), 0);
}

static void test_info_of_a_replica(void **state)
{
    struct info info;
    (void)state;
    info_init(&info);
    parse(&info, "# Server\r\nredis_version:7.0.15\r\nrun_id:" ID("a") "\r\n");
    parse(
        &info,
        "# Replication\r\nrole:slave\r\nmaster_host:10.0.0.1\r\nmaster_port:6379\r\nmaster_link_status:up\r\n"
        "master_last_io_seconds_ago:3\r\nmaster_sync_in_progress:0\r\nslave_repl_offset:140\r\n"
        "slave_priority:100\r\nmaster_replid:" ID("1") "\r\nmaster_replid2:" ID(
            "0") "\r\nmaster_repl_offset:140\r\nsecond_repl_offset:-1\r\n");
    assert_int_equal(info.role, INFO_ROLE_REPLICA);
    assert_string_equal(info.run_id, ID("a")); /* kept from the first section */
    assert_string_equal(info.master.host, "10.0.0.1");
    assert_true(info.master_link_up);
    assert_int_equal(info.master_last_io_s, 3);
    assert_int_equal(info.offset, 140);
    assert_int_equal(info.second_offset, -1);
    parse(&info, "# Replication\r\nrole:slave\r\nmaster_host:redis-1.example\r\nmaster_port:6379\r\n"
                 "slave_repl_offset:1\r\nmaster_repl_offset:150\r\n");
    assert_false(topology_address_is_set(&info.master)); /* a name can't be compared */
    assert_int_equal(info.offset, 150);                  /* a synchronization cut short says 1 */
}

static void test_info_of_a_master(void **state)
{
    struct info info;
    (void)state;
    info_init(&info);
    parse(&info,
          "# "
          "Replication\nrole:master\nconnected_slaves:3\nslave0:ip=10.0.0.2,port=6379,state=online,offset=90,"
          "lag=0\n"
          "slave1:ip=::1,port=7001,state=wait_bgsave,offset=0,lag=0\nslave2:ip=bad,port=1,state=online\n"
          "master_repl_offset:100\n");
    assert_int_equal(info.role, INFO_ROLE_MASTER);
    assert_int_equal(info.n_replicas, 2);
    assert_true(info.replicas[0].online);
    assert_int_equal(info.replicas[0].offset, 90);
    assert_string_equal(info.replicas[1].address.host, "::1");
    assert_false(info.replicas[1].online);
    parse(&info, "# Replication\nrole:master\nmaster_repl_offset:120\n");
    assert_int_equal(info.n_replicas, 0); /* a new section replaces the list */
}

static void test_info_refuses_what_is_no_info(void **state)
{
    struct info info;
    (void)state;
    info_init(&info);
    assert_int_equal(info_parse("", 0, &info), ERR_INVALID);
    assert_int_equal(info_parse("hello\r\n", 7, &info), ERR_INVALID);
    assert_int_equal(info_parse("role:master", 11, &info), 0); /* cut before its newline */
    assert_int_equal(info.role, INFO_ROLE_MASTER);
}

/* ---- adoption -------------------------------------------------------------------------------------------
 */

static void test_adoption(void **state)
{
    struct topology_address master;
    struct topology_auth auth = {.user = "", .password = "secret"};
    struct topology_instance out;
    struct info info;
    char why[200];
    (void)state;
    assert_int_equal(topology_address_parse("10.0.0.1:6379", &master), 0);
    info_init(&info);
    info.role = INFO_ROLE_MASTER;
    snprintf(info.run_id, sizeof(info.run_id), "%s", ID("a"));
    snprintf(info.repl_id, sizeof(info.repl_id), "%s", ID("1"));
    info.n_replicas = 2;
    assert_int_equal(topology_address_parse("127.0.0.1:6380", &info.replicas[0].address), 0);
    assert_int_equal(topology_address_parse("10.0.0.2:6379", &info.replicas[1].address), 0);
    assert_int_equal(placement_adopt("cart", &master, &auth, &info, &out, why, sizeof(why)), 0);
    assert_int_equal(out.n_members, 3);
    assert_string_equal(out.members[1].address.host, "10.0.0.1"); /* on the master's host */
    assert_string_equal(out.auth.password, "secret");
    assert_int_equal(out.n_epochs, 1);
    out.port = 6100;
    assert_int_equal(topology_check(&out, why, sizeof(why)), 0);
    info.role = INFO_ROLE_REPLICA;
    assert_int_equal(topology_address_parse("10.0.0.9:6379", &info.master), 0);
    assert_int_equal(placement_adopt("cart", &master, &auth, &info, &out, why, sizeof(why)), ERR_REJECTED);
    assert_string_equal(why, "10.0.0.1:6379 is a replica of 10.0.0.9:6379: adopt its master");
    info.role = INFO_ROLE_MASTER;
    info.loading = true;
    assert_int_equal(placement_adopt("cart", &master, &auth, &info, &out, why, sizeof(why)), ERR_REJECTED);
    assert_non_null(strstr(why, "loading"));
}

static void test_ports(void **state)
{
    static bool taken[65536];
    (void)state;
    assert_int_equal(placement_port(taken, 6100, 6102), 6100);
    taken[6100] = taken[6102] = true;
    assert_int_equal(placement_port(taken, 6100, 6102), 6101);
    taken[6101] = true;
    assert_int_equal(placement_port(taken, 6100, 6102), 0);
    assert_int_equal(placement_port(taken, 65535, 65535), 65535);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_larger_offset_wins),
        cmocka_unit_test(test_newer_history_wins_over_a_larger_offset),
        cmocka_unit_test(test_unnamed_promotion_is_recognized_by_where_it_branched_off),
        cmocka_unit_test(test_unknown_history_is_not_countable),
        cmocka_unit_test(test_bytes_after_a_branch_do_not_count),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_labels_then_zone_then_run_id_break_ties),
        cmocka_unit_test(test_last_resort_needs_everybody),
        cmocka_unit_test(test_comparator_is_antisymmetric),
        cmocka_unit_test(test_strict_needs_all_but_acks_of_the_registered),
        cmocka_unit_test(test_strict_counts_only_who_is_no_further_than_the_chosen),
        cmocka_unit_test(test_strict_knows_no_last_resort),
        cmocka_unit_test(test_strict_switchover_counts_pings_as_nothing),
        cmocka_unit_test(test_info_of_a_replica),
        cmocka_unit_test(test_info_of_a_master),
        cmocka_unit_test(test_info_refuses_what_is_no_info),
        cmocka_unit_test(test_adoption),
        cmocka_unit_test(test_ports),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
