/* The failover core with durability strict (safety.md §5): the arithmetic, loss by order, membership,
 * settings. */
#include "tests/lib/failover_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rig *strict(uint32_t n, uint32_t acks)
{
    struct rig *b = rig_watching(n);
    b->f.record.policy.durability = TOPOLOGY_STRICT;
    b->f.record.policy.acks = acks;
    return b;
}

/* The replica is gone; that it serves no reads any more is committed first. */
static void lose(struct rig *b, int member)
{
    rig_link_down(b, member, ERR_REFUSED);
    if (b->f.phase == FAILOVER_REPAIR)
        rig_committed(b);
}

static struct failover_command order(enum failover_command_type type)
{
    return (struct failover_command){.type = type, .by = "ann"};
}

static struct failover_command set(const struct rig *b, enum topology_durability durability, uint32_t acks)
{
    struct failover_command c = order(FAILOVER_COMMAND_SET);
    c.policy = b->f.record.policy;
    c.policy.durability = durability;
    c.policy.acks = acks;
    return c;
}

/* ---- the arithmetic -------------------------------------------------------------------------------------
 */

static void test_a_dead_master_is_counted_and_one_missing_replica_blocks(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    lose(b, 2);
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 100);
    assert_string_equal(rig_actions(b), ""); /* an async instance would promote now */
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_true(rig_reports(b, "event=failover.waiting"));
    assert_true(rig_reports(b, "needed=2 have=1"));
    assert_true(rig_reports(b, "--allow-data-loss cart"));
    assert_non_null(strstr(b->f.waiting,
                           "needs 2 of 3 registered members (acks 1), has 1: 10.0.0.1:6379: not "
                           "reachable; 10.0.0.2:6379: its data counts; 10.0.0.3:6379: not reachable"));
    rig_link_up(b, 2);
    assert_string_equal(rig_actions(b), "SEAL:2");
    rig_sealed(b, 2, 90);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.2");
    rig_committed(b);
    rig_promoted(b, 1, 100);
    rig_committed(b);
    assert_int_equal(b->f.record.n_members, 3); /* the dead one stays, and counts */
    free(b);
}

static void test_two_acks_spare_one(void **state)
{
    struct rig *b = strict(3, 2);
    (void)state;
    lose(b, 2);
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 100);
    assert_string_equal(rig_actions(b), "COMMIT");
    free(b);
}

static void test_explain_shows_the_arithmetic(void **state)
{
    static struct failover_plan plan;
    struct rig *b = strict(3, 1);
    (void)state;
    failover_explain(&b->f, NULL, b->now_us, b->wall_ms, NULL, NULL, &plan);
    assert_true(plan.ready);
    assert_int_equal(plan.n_needed, 2);
    assert_int_equal(plan.n_have, 2);
    assert_string_equal(plan.lines[3],
                        "durability strict: needs 2 of 3 registered members (3 - acks 1), has 2");
    lose(b, 1);
    failover_explain(&b->f, NULL, b->now_us, b->wall_ms, NULL, NULL, &plan);
    assert_false(plan.ready);
    assert_int_equal(plan.n_have, 1);
    assert_non_null(strstr(plan.verdict, "needs 2 of 3 registered members (acks 1), has 1"));
    assert_non_null(strstr(plan.lines[4], "--allow-data-loss would promote"));
    struct failover_command c = order(FAILOVER_COMMAND_FAILOVER);
    c.data_loss_allowed = true;
    failover_explain(&b->f, &c, b->now_us, b->wall_ms, NULL, NULL, &plan);
    assert_true(plan.ready);
    free(b);
}

static void test_a_switchover_counts_too(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    lose(b, 1);
    struct failover_command c = order(FAILOVER_COMMAND_SWITCHOVER);
    c.target = b->f.record.members[2].address;
    assert_int_equal(rig_order(b, c), 1); /* the master and the target are two of three */
    assert_string_equal(rig_actions(b), "HOLD");
    free(b);
    b = strict(3, 1);
    lose(b, 1);
    b->f.record.members[2].run_id[0] = 'f';
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    free(b);
}

/* ---- loss by order --------------------------------------------------------------------------------------
 */

static void test_loss_that_was_ordered_is_in_history(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    rig_tell(b, 0, rig_master_info(0, 160)); /* what it had when it was last heard */
    lose(b, 2);
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 100);
    struct failover_command c = order(FAILOVER_COMMAND_FAILOVER);
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    c.data_loss_allowed = true;
    assert_int_equal(rig_order(b, c), 1);
    assert_string_equal(rig_actions(b), "COMMIT");
    rig_committed(b);
    rig_sealed(b, 1, 100);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.failover.lost_bytes, 60);
    rig_committed(b);
    rig_promoted(b, 1, 100);
    assert_int_equal(b->update.history.lost_bytes, 60);
    assert_non_null(strstr(b->update.history.evidence,
                           "loss of data allowed by ann; loss taken: needed 2 of 3 "
                           "members, had 1; 10.0.0.1:6379 at 160; 10.0.0.3:6379 at 100"));
    rig_committed(b);
    assert_int_equal(rig_answered(b), 0);
    free(b);
}

static void test_an_order_that_loses_nothing_says_nothing_of_loss(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    struct failover_command c = order(FAILOVER_COMMAND_FAILOVER);
    c.data_loss_allowed = true;
    assert_int_equal(rig_order(b, c), 1);
    rig_committed(b);
    for (int k = 0; k < 3; k++)
        rig_sealed(b, k, 100);
    assert_null(strstr(b->f.proposed.failover.evidence, "loss taken"));
    assert_int_equal(b->f.proposed.failover.lost_bytes, 0);
    free(b);
}

/* ---- membership -----------------------------------------------------------------------------------------
 */

/* A partial synchronization is up before it has brought what the process before it had acknowledged. */
static void test_a_new_incarnation_counts_once_it_has_reached_the_master(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    lose(b, 2);
    b->now_us += 1000;
    rig_link_up(b, 2);
    struct info info = rig_replica_info(b, 2, 100, true);
    memset(info.run_id, 'f', TOPOLOGY_RUN_ID_LEN);
    b->now_us += 1000;
    rig_tell(b, 2, info);
    assert_string_equal(rig_actions(b), ""); /* the master has not been heard since */
    b->now_us += 1000;
    rig_tell(b, 0, rig_master_info(0, 180));
    assert_string_equal(rig_actions(b), "");
    info.offset = 179;
    rig_tell(b, 2, info);
    assert_string_equal(rig_actions(b), "");
    info.offset = 180;
    rig_tell(b, 2, info);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.members[2].run_id[0], 'f');
    free(b);
}

static void test_a_replica_is_registered_before_it_is_online(void **state)
{
    (void)state;
    for (int k = 0; k < 2; k++) {
        struct rig *b = k == 0 ? strict(2, 1) : rig_watching(2);
        struct info info = rig_master_info(0, 100);
        info.n_replicas = 1;
        assert_int_equal(topology_address_parse("10.0.0.9:6379", &info.replicas[0].address), 0);
        rig_tell(b, 0, info);
        assert_string_equal(rig_actions(b), k == 0 ? "COMMIT" : "");
        assert_int_equal(k == 0 ? b->f.proposed.n_members : 3, 3);
        free(b);
    }
}

static struct info master_with(uint32_t n, int64_t offset)
{
    struct info info = rig_master_info(0, offset);
    for (uint32_t k = 0; k < n; k++) {
        struct info_replica *r = &info.replicas[info.n_replicas++];
        snprintf(r->address.host, sizeof(r->address.host), "10.0.0.%u", k + 2);
        r->address.port = 6379;
        r->online = true;
    }
    return info;
}

static void test_a_member_is_forgotten_once_the_others_have_all_it_had(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    struct failover_command c = order(FAILOVER_COMMAND_FORGET);
    c.target = b->f.record.members[2].address;
    rig_tell(b, 0, master_with(2, 100));
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "the master feeds it"));
    lose(b, 2);
    b->now_us += 1000;
    rig_tell(b, 0, master_with(1, 180));
    rig_tell(b, 1, rig_replica_info(b, 1, 170, true));
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b),
                           "acks 1 needs 1 other replica that have reached the master's offset since it "
                           "left, cart has 0 of 1"));
    rig_tell(b, 1, rig_replica_info(b, 1, 180, true));
    assert_int_equal(rig_order(b, c), 1);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.n_members, 2);
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_MEMBER);
    assert_non_null(strstr(b->update.history.evidence, "forgotten by ann: 10.0.0.3:6379"));
    rig_committed(b);
    assert_int_equal(rig_answered(b), 0);
    assert_non_null(strstr(rig_answer(b), "with acks 1 a failover needs all 1 replicas"));
    c.target = b->f.record.members[1].address; /* then the promise could not be kept */
    lose(b, 1);
    rig_tell(b, 0, master_with(0, 180));
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    c.target = b->f.record.members[0].address;
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "it is the master"));
    assert_int_equal(topology_address_parse("10.0.0.77:6379", &c.target), 0);
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "10.0.0.77:6379 is not a member of cart"));
    free(b);
}

static void test_an_async_member_is_forgotten_when_it_is_apart(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    struct failover_command c = order(FAILOVER_COMMAND_FORGET);
    c.target = b->f.record.members[1].address;
    lose(b, 1);
    rig_tell(b, 0, master_with(0, 100));
    assert_int_equal(rig_order(b, c), 1);
    assert_int_equal(b->f.proposed.n_members, 1);
    free(b);
}

/* What was reached below one master says nothing about the next one. */
static void test_a_new_master_begins_with_nobody_in_step(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    rig_tell(b, 0, master_with(1, 100));
    rig_tell(b, 1, rig_replica_info(b, 1, 100, true));
    assert_true(b->f.members[1].reached_us != 0);
    assert_true(b->f.members[2].apart_us != 0);
    struct topology_instance next = b->f.record;
    next.epoch = 2;
    next.master = next.members[1].address;
    b->version++;
    rig_read_record(b, &next);
    for (int k = 0; k < 3; k++) {
        assert_int_equal(b->f.members[k].reached_us, 0);
        assert_int_equal(b->f.members[k].apart_us, 0);
    }
    free(b);
}

/* ---- settings -------------------------------------------------------------------------------------------
 */

static void test_strict_is_recorded_then_told(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_STRICT, 1)), 1);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_true(rig_reports(b, "event=durability.note"));
    assert_non_null(strstr(b->update.history.evidence, "durability async -> strict"));
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PUBLISH ANSWER");
    assert_int_equal(b->f.route.policy.durability, TOPOLOGY_STRICT);
    assert_non_null(strstr(rig_answer(b), "needs all 2 replicas: while one is away none is possible"));
    free(b);
    b = rig_watching(3);
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_STRICT, 2)), 1);
    rig_committed(b);
    assert_null(strstr(rig_answer(b), "note"));
    free(b);
}

static void test_the_end_of_strict_is_told_then_recorded(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_ASYNC, 1)), 1);
    assert_string_equal(rig_actions(b), "PUBLISH COMMIT");
    assert_int_equal(b->f.route.policy.durability, TOPOLOGY_ASYNC);
    assert_int_equal(b->f.record.policy.durability, TOPOLOGY_STRICT);
    struct topology_instance record = b->f.record; /* the commit lost a race: it is strict still */
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_COMMIT_FAILED, .err = ERR_BAD_VERSION});
    assert_string_equal(rig_actions(b), "RELOAD ANSWER");
    b->version++;
    rig_read_record(b, &record);
    assert_string_equal(rig_actions(b), "PUBLISH");
    assert_int_equal(b->f.route.policy.durability, TOPOLOGY_STRICT);
    rig_read_record(b, &record);
    assert_string_equal(rig_actions(b), ""); /* once */
    free(b);
}

static void test_strict_needs_its_replicas(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_STRICT, 2)), ERR_REJECTED);
    assert_string_equal(rig_answer(b),
                        "durability strict with acks 2 needs 2 registered replicas, cart has 1");
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_STRICT, 1)), 1);
    free(b);
    b = rig_watching(1);
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_STRICT, 1)), ERR_REJECTED);
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_ASYNC, 15)), 1); /* means nothing while async */
    free(b);
}

/* A failover would count on copies that earlier writes never had. */
static void test_acks_are_not_raised_while_strict(void **state)
{
    struct rig *b = strict(3, 1);
    (void)state;
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_STRICT, 2)), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "acks can't be raised from 1 to 2 while strict"));
    b->f.record.policy.acks = 2;
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_STRICT, 1)), 1);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_dead_master_is_counted_and_one_missing_replica_blocks),
        cmocka_unit_test(test_two_acks_spare_one),
        cmocka_unit_test(test_explain_shows_the_arithmetic),
        cmocka_unit_test(test_a_switchover_counts_too),
        cmocka_unit_test(test_loss_that_was_ordered_is_in_history),
        cmocka_unit_test(test_an_order_that_loses_nothing_says_nothing_of_loss),
        cmocka_unit_test(test_a_new_incarnation_counts_once_it_has_reached_the_master),
        cmocka_unit_test(test_a_replica_is_registered_before_it_is_online),
        cmocka_unit_test(test_a_member_is_forgotten_once_the_others_have_all_it_had),
        cmocka_unit_test(test_an_async_member_is_forgotten_when_it_is_apart),
        cmocka_unit_test(test_a_new_master_begins_with_nobody_in_step),
        cmocka_unit_test(test_strict_is_recorded_then_told),
        cmocka_unit_test(test_the_end_of_strict_is_told_then_recorded),
        cmocka_unit_test(test_strict_needs_its_replicas),
        cmocka_unit_test(test_acks_are_not_raised_while_strict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
