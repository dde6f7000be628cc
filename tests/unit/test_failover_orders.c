/* What operators order: switchover, forced failover, policy, pause, ack; donors; cooldowns (safety.md §4.3,
 * §6, §7). */
#include "tests/lib/failover_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void held(struct rig *b, uint32_t n_held, uint32_t n_awaited, const char *missing)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_HELD,
                                        .epoch = b->f.record.epoch,
                                        .n_held = n_held,
                                        .n_awaited = n_awaited,
                                        .text = missing});
}

static void paused(struct rig *b, int64_t offset)
{
    struct info info = rig_master_info(0, offset);
    rig_step(b, (struct failover_event){
                    .type = FAILOVER_ON_PAUSED, .member = 0, .epoch = b->f.record.epoch, .info = &info});
}

static struct failover_command to_member(enum failover_command_type type, const struct rig *b, int member)
{
    struct failover_command c = {.type = type, .by = "ops"};
    if (member >= 0)
        c.target = b->f.record.members[member].address;
    return c;
}

/* ---- switchover -----------------------------------------------------------------------------------------
 */

static void test_switchover_holds_drains_and_promotes_the_target(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    assert_int_equal(rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, 2)), 1);
    assert_string_equal(rig_actions(b), "HOLD");
    held(b, 0, 2, "web-1, web-2");
    assert_string_equal(rig_actions(b), "");
    held(b, 2, 2, "");
    assert_string_equal(rig_actions(b), "PAUSE:0");
    assert_int_equal(b->f.record.state, TOPOLOGY_STABLE); /* nothing durable yet */
    paused(b, 500);
    assert_string_equal(rig_actions(b), "PROBE:2");
    b->now_us += 1000;
    rig_tell(b, 2, rig_replica_info(b, 2, 480, true));
    assert_int_equal(b->f.phase, FAILOVER_DRAIN); /* 20 bytes are missing */
    b->now_us += 1000;
    rig_tell(b, 2, rig_replica_info(b, 2, 500, true));
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_PLANNED);
    assert_int_equal(b->f.proposed.failover.target_offset, 500);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "SEAL:0 SEAL:1 SEAL:2 PUBLISH");
    rig_sealed(b, 0, 514); /* a replication ping more: no data */
    rig_sealed(b, 1, 500);
    rig_sealed(b, 2, 500);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3");
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PROMOTE:2");
    rig_promoted(b, 2, 500);
    assert_string_equal(rig_actions(b),
                        "PUBLISH REPLICATE:0 REPLICATE:1 UNPAUSE:0 UNPAUSE:1 UNPAUSE:2 COMMIT");
    rig_committed(b);
    assert_int_equal(rig_answered(b), 0);
    assert_int_equal(b->f.record.cooldown.strikes, 0); /* planned ones don't count */
    free(b);
}

/* Simulator seed 446220: cut off together with a proxy, it takes writes again once its pause has ended. */
static void test_switchover_whose_master_is_lost_unsealed_is_recorded_as_an_emergency(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, 2));
    held(b, 2, 2, "");
    paused(b, 500);
    b->now_us += 1000;
    rig_tell(b, 2, rig_replica_info(b, 2, 500, true));
    rig_committed(b);
    assert_string_equal(rig_actions(b), "SEAL:0 SEAL:1 SEAL:2 PUBLISH");
    rig_sealed(b, 1, 500);
    rig_sealed(b, 2, 500);
    rig_link_down(b, 0, ERR_CLOSED);
    rig_link_down(b, 0, ERR_REFUSED);
    assert_int_equal(b->f.proposed.state, TOPOLOGY_PROMOTING);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3"); /* still whom the operator named */
    assert_int_equal(b->f.record.failover.verdict, TOPOLOGY_VERDICT_PLANNED);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_UNREACHABLE);
    assert_non_null(
        strstr(b->f.proposed.failover.evidence, "the old master was lost before it could be sealed"));
    rig_committed(b);
    rig_promoted(b, 2, 500);
    assert_int_equal(b->update.history.verdict, TOPOLOGY_VERDICT_UNREACHABLE);
    rig_committed(b);
    assert_non_null(strstr(rig_answer(b), "it ended as a failover"));
    assert_int_equal(rig_answered(b), 0);
    free(b);
}

static void test_switchover_goes_on_without_a_host_that_does_not_answer(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, -1));
    held(b, 1, 2, "web-2");
    assert_int_equal(b->f.phase, FAILOVER_HOLD);
    b->now_us = failover_deadline_us(&b->f);
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
    assert_string_equal(rig_actions(b), "PAUSE:0");
    paused(b, 100);
    b->now_us += 1000;
    rig_tell(b, 1, rig_replica_info(b, 1, 100, true));
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_non_null(strstr(b->f.proposed.failover.evidence, "1 of 2 hosts held, not web-2"));
    free(b);
}

static void check_rolled_back(struct rig *b, const char *why)
{
    assert_int_equal(rig_answered(b), ERR_TIMEOUT);
    assert_non_null(strstr(rig_answer(b), why));
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_ROLLBACK);
    assert_int_equal(b->f.record.epoch, 1);
    assert_true(topology_address_equal(&b->f.route.master, &b->f.record.master));
    assert_int_equal(b->f.order.id, 0);
}

static void test_switchover_rolls_back_at_its_limit(void **state)
{
    struct rig *b = rig_watching(2);
    struct failover_command c = to_member(FAILOVER_COMMAND_SWITCHOVER, b, 1);
    (void)state;
    c.limit_ms = 300;
    rig_order(b, c);
    held(b, 0, 0, "");
    paused(b, 500);
    for (int k = 0; k < 400 && b->f.phase == FAILOVER_DRAIN; k++) { /* the target never catches up */
        b->now_us += 1000;
        rig_tell(b, 1, rig_replica_info(b, 1, 480, true));
    }
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_string_equal(rig_actions(b), "UNPAUSE:0 PUBLISH HISTORY ANSWER");
    check_rolled_back(b, "time limit");
    free(b);
}

static void test_switchover_rolls_back_when_its_ends_fail(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, 1));
    rig_link_down(b, 1, ERR_CLOSED);
    check_rolled_back(b, "target can't be reached");
    rig_committed(b); /* that it doesn't serve reads any more */
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    free(b);

    b = rig_watching(2);
    rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, 1));
    held(b, 0, 0, "");
    rig_step(b,
             (struct failover_event){.type = FAILOVER_ON_PAUSED, .member = 0, .epoch = 1, .err = ERR_REPLY});
    check_rolled_back(b, "CLIENT PAUSE");
    free(b);

    b = rig_watching(2);
    rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, 1));
    rig_link_down(b, 0, ERR_CLOSED); /* the master dies meanwhile: that is the usual business then */
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_int_equal(rig_answered(b), ERR_TIMEOUT);
    rig_link_down(b, 0, ERR_REFUSED);
    b->now_us += 100;
    rig_tell(b, 1, rig_replica_info(b, 1, 100, false));
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    free(b);
}

static void test_impossible_switchovers_are_refused_with_the_reason(void **state)
{
    struct rig *b = rig_watching(3);
    struct failover_command c = to_member(FAILOVER_COMMAND_SWITCHOVER, b, 0);
    (void)state;
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "is the master already"));
    c.target.port = 1;
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "is not a member"));
    rig_tell(b, 2, rig_replica_info(b, 2, 100, false));
    rig_committed(b); /* that it doesn't serve reads any more */
    assert_int_equal(rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, 2)), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "not linked"));
    b->f.record.members[1].priority = TOPOLOGY_MUST_NOT;
    assert_int_equal(rig_order(b, to_member(FAILOVER_COMMAND_SWITCHOVER, b, 1)), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "must_not"));
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    free(b);
}

/* ---- forced failover ------------------------------------------------------------------------------------
 */

static void test_forced_failover_replaces_a_healthy_master_without_loss(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    assert_int_equal(rig_order(b, to_member(FAILOVER_COMMAND_FAILOVER, b, -1)), 1);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_MANUAL);
    rig_committed(b);
    rig_sealed(b, 0, 900); /* the old master has more: it gives first */
    rig_sealed(b, 1, 800);
    assert_int_equal(b->f.phase, FAILOVER_DONOR);
    assert_string_equal(rig_actions(b), "DONATE:0");
    struct info given = rig_master_info(0, 900);
    snprintf(given.repl_id, sizeof(given.repl_id), "%s", RIG_ID("7"));
    snprintf(given.repl_id2, sizeof(given.repl_id2), "%s", RIG_REPL_1);
    given.second_offset = 901;
    rig_step(b,
             (struct failover_event){.type = FAILOVER_ON_DONATING, .member = 0, .epoch = 2, .info = &given});
    assert_string_equal(rig_actions(b), "REPLICATE:1");
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_REPLICATING, .member = 1, .epoch = 2});
    struct info taken = rig_master_info(1, 890);
    taken.role = INFO_ROLE_REPLICA;
    taken.master = b->f.record.members[0].address;
    taken.master_link_up = true;
    snprintf(taken.repl_id, sizeof(taken.repl_id), "%s", RIG_ID("7"));
    snprintf(taken.repl_id2, sizeof(taken.repl_id2), "%s", RIG_REPL_1);
    taken.second_offset = 801;
    rig_tell(b, 1, taken);
    assert_int_equal(b->f.phase, FAILOVER_DONOR);
    taken.offset = 900;
    rig_tell(b, 1, taken);
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_string_equal(rig_actions(b), "SEAL:0 SEAL:1 PUBLISH UNPAUSE:0");
    given.role = INFO_ROLE_REPLICA;
    given.offset = 914; /* a ping more */
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 0, .epoch = 2, .info = &given});
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 1, .epoch = 2, .info = &taken});
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.2");
    assert_int_equal(b->f.proposed.start_offset, 900);
    free(b);
}

static void test_forbidden_member_that_is_ahead_gives_or_is_given_up(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    b->f.record.members[1].priority = TOPOLOGY_MUST_NOT;
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 700);
    rig_sealed(b, 2, 600);
    assert_string_equal(rig_actions(b), "DONATE:1");
    rig_step(
        b, (struct failover_event){.type = FAILOVER_ON_DONATING, .member = 1, .epoch = 2, .err = ERR_REPLY});
    assert_int_equal(b->f.phase, FAILOVER_SEAL); /* without it, and said so */
    rig_sealed(b, 1, 700);
    rig_sealed(b, 2, 600);
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3");
    free(b);
    /* Level with the best there is nothing to give. */
    b = rig_watching(3);
    b->f.record.members[1].priority = TOPOLOGY_MUST_NOT;
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 700);
    rig_sealed(b, 2, 700);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3");
    free(b);
}

static void test_loss_is_taken_only_when_allowed(void **state)
{
    struct rig *b = rig_watching(2);
    struct failover_command c = to_member(FAILOVER_COMMAND_FAILOVER, b, -1);
    (void)state;
    rig_kill_master(b);
    rig_committed(b);
    struct info other = rig_sealed_info(1, 100); /* another process at the replica's address */
    snprintf(other.run_id, sizeof(other.run_id), "%s", RIG_ID("e"));
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 1, .epoch = 2, .info = &other});
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "restarted"));
    c.data_loss_allowed = true;
    assert_int_equal(rig_order(b, c), 1);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    rig_committed(b);
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 1, .epoch = 3, .info = &other});
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_true(b->f.proposed.failover.data_loss_allowed);
    assert_non_null(strstr(b->f.proposed.failover.evidence, "loss of data allowed by ops"));
    free(b);
}

/* ---- restraint ------------------------------------------------------------------------------------------
 */

static void fail_over(struct rig *b, int from, int to)
{
    b->now_us += 1000;
    rig_link_down(b, from, ERR_CLOSED);
    rig_link_down(b, from, ERR_REFUSED);
    for (int k = 0; k < (int)b->f.record.n_members; k++)
        if (k != from)
            rig_tell(b, k, rig_replica_info(b, k, 100, false));
    if (b->f.phase != FAILOVER_INTENT)
        return;
    rig_committed(b);
    for (int k = 0; k < (int)b->f.record.n_members; k++)
        if (k != from)
            rig_sealed(b, k, k == to ? 200 : 100);
    rig_committed(b);
    rig_promoted(b, to, 200);
    rig_committed(b);
}

/* The old master is back as a replica. */
static void rejoin(struct rig *b, int member, int master)
{
    rig_link_up(b, member);
    struct info info = rig_master_info(member, 200);
    info.role = INFO_ROLE_REPLICA;
    info.master = b->f.record.members[master].address;
    info.master_link_up = true;
    snprintf(info.repl_id, sizeof(info.repl_id), "%s", RIG_REPL_2);
    rig_tell(b, member, info);
}

static void test_cooldown_bypassed_once_by_death_then_holds_until_acked(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    fail_over(b, 0, 1);
    assert_int_equal(b->f.record.epoch, 2);
    assert_int_equal(b->f.record.cooldown.strikes, 1);
    rejoin(b, 0, 1);
    fail_over(b, 1, 2);
    assert_int_equal(b->f.record.epoch, 3); /* DEAD may bypass it once */
    assert_true(b->f.record.cooldown.bypassed);
    rejoin(b, 1, 2);
    b->wall_ms += 60000; /* twice as long now */
    fail_over(b, 2, 1);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_int_equal(b->f.record.epoch, 3);
    assert_non_null(strstr(b->f.waiting, "cooldown after 2 failovers"));
    assert_int_equal(rig_order(b, (struct failover_command){.type = FAILOVER_COMMAND_ACK, .by = "ops"}), 1);
    rig_committed(b);
    assert_int_equal(b->f.record.cooldown.strikes, 0);
    rig_pass(b, 1000000);
    for (int k = 0; k < 2; k++)
        rig_tell(b, k, rig_replica_info(b, k, 100, false));
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    free(b);
}

static void test_cooldown_ends_by_itself(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    fail_over(b, 0, 1);
    rejoin(b, 0, 1);
    fail_over(b, 1, 2);
    rejoin(b, 1, 2);
    b->wall_ms += 120000;
    fail_over(b, 2, 1);
    assert_int_equal(b->f.record.epoch, 4);
    free(b);
}

static void test_paused_instance_is_left_alone_until_resumed_or_expired(void **state)
{
    struct rig *b = rig_watching(3);
    struct failover_command c = {.type = FAILOVER_COMMAND_PAUSE, .by = "ops"};
    (void)state;
    snprintf(c.pause.owner, sizeof(c.pause.owner), "ops");
    snprintf(c.pause.reason, sizeof(c.pause.reason), "kernel upgrade");
    c.pause.until_ms = b->wall_ms + 7200000;
    assert_int_equal(rig_order(b, c), 1);
    rig_committed(b);
    assert_int_equal(rig_answered(b), 0);
    fail_over(b, 0, 1);
    assert_int_equal(b->f.record.epoch, 1);
    assert_non_null(strstr(b->f.waiting, "paused by ops: kernel upgrade"));
    b->wall_ms += 7200000;
    rig_pass(b, 200000);
    for (int k = 1; k < 3; k++)
        rig_tell(b, k, rig_replica_info(b, k, 100, false));
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    free(b);
    /* The same for all instances at once. */
    struct topology_pause all = {.owner = "ops"};
    b = rig_watching(3);
    b->maintenance = &all;
    fail_over(b, 0, 1);
    assert_int_equal(b->f.record.epoch, 1);
    free(b);
}

static void test_policy_is_checked_committed_and_published(void **state)
{
    struct rig *b = rig_watching(2);
    struct failover_command c = {.type = FAILOVER_COMMAND_SET, .by = "ops", .policy = b->f.record.policy};
    (void)state;
    c.policy.hung_after_ms = 9000;
    c.n_labels = 1;
    c.labels[0] = b->f.record.members[1];
    c.labels[0].priority = TOPOLOGY_PREFER;
    snprintf(c.labels[0].zone, sizeof(c.labels[0].zone), "eu-1");
    assert_int_equal(rig_order(b, c), 1);
    assert_string_equal(rig_actions(b), "COMMIT");
    rig_committed(b);
    assert_int_equal(rig_answered(b), 0);
    assert_int_equal(b->f.record.policy.hung_after_ms, 9000);
    assert_int_equal(b->f.record.members[1].priority, TOPOLOGY_PREFER);
    c.labels[0].address.port = 1;
    assert_int_equal(rig_order(b, c), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "is not a member"));
    free(b);
}

static void test_orders_are_answered_in_every_phase(void **state)
{
    struct rig *b = rig_watching(3);
    struct failover_command c = {.type = FAILOVER_COMMAND_ACK};
    (void)state;
    rig_kill_master(b);
    assert_int_equal(rig_order(b, c), ERR_BUSY); /* INTENT */
    rig_committed(b);
    assert_int_equal(rig_order(b, c), ERR_BUSY); /* SEAL */
    rig_sealed(b, 1, 100);
    rig_sealed(b, 2, 100);
    assert_int_equal(rig_order(b, c), ERR_BUSY); /* CHOICE */
    rig_committed(b);
    assert_int_equal(rig_order(b, c), ERR_BUSY); /* PROMOTE */
    rig_lead(b, 0);
    assert_int_equal(rig_order(b, c), ERR_DEPOSED);
    free(b);
}

static void test_lost_commit_answers_the_order(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_order(b, (struct failover_command){.type = FAILOVER_COMMAND_ACK});
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_COMMIT_FAILED, .err = ERR_CONNECTION});
    assert_int_equal(rig_answered(b), ERR_BUSY);
    free(b);
}

static void test_explain_tells_who_is_next_and_what_is_missing(void **state)
{
    struct rig *b = rig_watching(3);
    static struct failover_plan plan;
    (void)state;
    failover_explain(&b->f, NULL, b->now_us, b->wall_ms, &b->trust, NULL, &plan);
    assert_true(plan.ready);
    assert_int_equal(plan.target, 1);
    assert_int_equal(plan.n_countable, 3);
    rig_link_down(b, 1, ERR_REFUSED);
    rig_link_down(b, 2, ERR_REFUSED);
    failover_explain(&b->f, NULL, b->now_us, b->wall_ms, &b->trust, NULL, &plan);
    assert_false(plan.ready);
    assert_non_null(strstr(plan.verdict, "10.0.0.2:6379: not reachable"));
    assert_int_equal(plan.n_reachable, 1);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_switchover_holds_drains_and_promotes_the_target),
        cmocka_unit_test(test_switchover_whose_master_is_lost_unsealed_is_recorded_as_an_emergency),
        cmocka_unit_test(test_switchover_goes_on_without_a_host_that_does_not_answer),
        cmocka_unit_test(test_switchover_rolls_back_at_its_limit),
        cmocka_unit_test(test_switchover_rolls_back_when_its_ends_fail),
        cmocka_unit_test(test_impossible_switchovers_are_refused_with_the_reason),
        cmocka_unit_test(test_forced_failover_replaces_a_healthy_master_without_loss),
        cmocka_unit_test(test_forbidden_member_that_is_ahead_gives_or_is_given_up),
        cmocka_unit_test(test_loss_is_taken_only_when_allowed),
        cmocka_unit_test(test_cooldown_bypassed_once_by_death_then_holds_until_acked),
        cmocka_unit_test(test_cooldown_ends_by_itself),
        cmocka_unit_test(test_paused_instance_is_left_alone_until_resumed_or_expired),
        cmocka_unit_test(test_policy_is_checked_committed_and_published),
        cmocka_unit_test(test_orders_are_answered_in_every_phase),
        cmocka_unit_test(test_lost_commit_answers_the_order),
        cmocka_unit_test(test_explain_tells_who_is_next_and_what_is_missing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
