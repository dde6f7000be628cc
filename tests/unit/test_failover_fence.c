/* fence=acl in the core: who is sent a FENCE when, what waits for it, how it is turned on and off. */
#include "tests/lib/failover_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fenced_as(struct rig *b, int member, int err, bool open, const char *text)
{
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_FENCED,
                                        .member = member,
                                        .epoch = b->f.record.epoch,
                                        .err = err,
                                        .open = open,
                                        .text = text});
}

static void fenced(struct rig *b, int member)
{
    fenced_as(b, member, 0, false, "");
}

/* The order of the FENCE to that member in the last update: "app-e1", "nobody of app in 1", "" none. */
static const char *ordered(const struct rig *b, int member)
{
    static char text[96];
    text[0] = '\0';
    for (uint32_t k = 0; k < b->update.n; k++) {
        const struct failover_action *a = &b->update.actions[k];
        if (a->type == FAILOVER_DO_FENCE && a->member == member)
            snprintf(text, sizeof(text), a->fence.keep ? "%s-e%llu" : "nobody of %s in %llu", a->fence.user,
                     (unsigned long long)a->fence.epoch);
    }
    return text;
}

static struct failover_command set(const struct rig *b, enum topology_fence fence, const char *user)
{
    struct failover_command c = {.type = FAILOVER_COMMAND_SET, .by = "ops", .policy = b->f.record.policy};
    c.policy.fence = fence;
    snprintf(c.policy.fence_user, sizeof(c.policy.fence_user), "%s", user);
    return c;
}

/* The member says that it follows the second one. */
static void follows_second(struct rig *b, int member)
{
    struct info info = rig_replica_info(b, member, 500, true);
    info.master = b->f.record.members[1].address;
    rig_tell(b, member, info);
}

/* Three members, all of them fenced in epoch 1. */
static struct rig *fenced_rig(void)
{
    struct rig *b = rig_watching(3);
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_FENCE_ACL, "app")), 1);
    assert_string_equal(rig_actions(b), "FENCE:0");
    fenced(b, 0);
    assert_string_equal(rig_actions(b), "COMMIT");
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PUBLISH ANSWER FENCE:1 FENCE:2");
    assert_int_equal(rig_answered(b), 0);
    fenced(b, 1);
    fenced(b, 2);
    assert_string_equal(rig_actions(b), "");
    return b;
}

static void test_turned_on_it_is_tried_on_the_master_first(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_FENCE_ACL, "app")), 1); /* no answer yet */
    assert_int_equal(b->f.phase, FAILOVER_FENCE);
    assert_string_equal(ordered(b, 0), "app-e1");
    fenced_as(b, 0, ERR_REPLY, false, "NOPERM no such permission");
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_int_equal(rig_answered(b), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "10.0.0.1:6379 can't be fenced with fence_user=app: NOPERM"));
    assert_int_equal(b->f.record.policy.fence, TOPOLOGY_FENCE_NONE);

    rig_order(b, set(b, TOPOLOGY_FENCE_ACL, "app"));
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_FENCE_ACL, "app")), ERR_BUSY); /* one at a time */
    assert_int_equal(b->f.phase, FAILOVER_FENCE);
    fenced_as(b, 0, 0, true, "");
    assert_int_equal(b->f.proposed.policy.fence, TOPOLOGY_FENCE_ACL);
    assert_non_null(strstr(b->update.history.evidence, "fence none -> acl, fence_user app"));
    assert_true(rig_reports(b, "event=fence.note"));
    rig_committed(b);
    assert_non_null(strstr(rig_answer(b), "ACL SETUSER app off"));
    free(b);
}

static void test_turned_on_while_the_master_falls_silent(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_order(b, set(b, TOPOLOGY_FENCE_ACL, "app"));
    rig_pass(b, 4 * 1000 * 1000);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    fenced(b, 0); /* late: it changes nothing */
    assert_int_equal(b->f.record.policy.fence, TOPOLOGY_FENCE_NONE);
    assert_string_equal(rig_actions(b), "");

    rig_order(b, set(b, TOPOLOGY_FENCE_ACL, "app"));
    rig_kill_master(b);
    assert_int_not_equal(b->f.phase, FAILOVER_FENCE); /* the failover isn't held up */
    free(b);
}

static void test_a_failover_fences_the_sealed_and_then_the_candidate(void **state)
{
    struct rig *b = fenced_rig();
    (void)state;
    rig_kill_master(b);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PROBE:0 SEAL:1 SEAL:2 PUBLISH");
    rig_sealed(b, 1, 500);
    assert_string_equal(rig_actions(b), "FENCE:1");
    assert_string_equal(ordered(b, 1), "nobody of app in 2");
    rig_sealed(b, 2, 400);
    assert_string_equal(ordered(b, 2), "nobody of app in 2"); /* and the choice didn't wait for the answers */
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    rig_committed(b);
    assert_string_equal(rig_actions(b), ""); /* the candidate's FENCE is under way: one at a time */
    fenced(b, 1);
    assert_string_equal(rig_actions(b), "FENCE:1");
    assert_string_equal(ordered(b, 1), "app-e2");
    fenced(b, 2);
    assert_string_equal(rig_actions(b), "");
    int64_t chosen_us = b->f.phase_at_us;
    b->now_us += 700;
    fenced(b, 1);
    assert_string_equal(rig_actions(b), "PROMOTE:1"); /* only now */
    int64_t waited_us = b->now_us - chosen_us;
    assert_true(waited_us >= 700);
    rig_promoted(b, 1, 500);
    assert_int_equal(b->update.history.timeline.fence_us, waited_us);
    assert_int_equal(b->f.proposed.failover.timeline.fence_us, waited_us);
    rig_committed(b);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_string_equal(ordered(b, 2), ""); /* it has not been seen to follow yet */
    follows_second(b, 2);
    assert_string_equal(ordered(b, 2), "app-e2");
    free(b);
}

static void test_a_refused_fence_delays_no_promotion(void **state)
{
    struct rig *b = fenced_rig();
    (void)state;
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 500);
    fenced(b, 1);
    rig_sealed(b, 2, 400);
    rig_committed(b);
    assert_string_equal(ordered(b, 1), "app-e2");
    fenced_as(b, 1, ERR_NOT_FOUND, false, "it has no such ACL user");
    assert_true(rig_reports(b, "event=fence.failed instance=cart member=10.0.0.2:6379"));
    assert_non_null(strstr(rig_actions(b), "PROMOTE:1"));
    rig_promoted(b, 1, 500);
    rig_committed(b);
    fenced(b, 2);
    assert_string_equal(ordered(b, 1), "");
    rig_pass(b, 31 * 1000 * 1000); /* tried again now and then, said once */
    assert_true(b->f.members[1].fence.pending);
    fenced_as(b, 1, ERR_NOT_FOUND, false, "it has no such ACL user");
    assert_false(rig_reports(b, "event=fence.failed"));
    rig_pass(b, 31 * 1000 * 1000);
    fenced(b, 1);
    assert_true(rig_reports(b, "event=fence.back"));
    free(b);
}

static void test_another_leader_goes_on_with_the_same(void **state)
{
    struct rig *b = fenced_rig();
    struct topology_instance record = b->f.record;
    (void)state;
    rig_lead(b, 0);
    record.state = TOPOLOGY_PROMOTING;
    record.epoch = 2;
    record.candidate = record.members[1].address;
    record.failover.epoch = 2;
    record.failover.old_master = record.master;
    memset(&record.master, 0, sizeof(record.master));
    rig_read_record(b, &record);
    rig_lead(b, 78);
    assert_string_equal(ordered(b, 1), "app-e2"); /* whatever the one before it has done */
    assert_null(strstr(rig_actions(b), "PROMOTE"));
    assert_string_equal(ordered(b, 0), "");
    fenced(b, 1);
    assert_string_equal(rig_actions(b), "PROMOTE:1");
    rig_promoted(b, 1, 500);
    assert_int_equal(b->update.history.timeline.fence_us, -1); /* the other one's part of it is not known */
    free(b);
}

/* It leads before it has heard from the master since that was promoted. */
static void test_a_new_leader_with_old_news_leaves_the_master_alone(void **state)
{
    struct rig *b = fenced_rig();
    struct topology_instance record = b->f.record;
    (void)state;
    rig_lead(b, 0);
    follows_second(b, 2);
    record.epoch = 2;
    record.master = record.members[1].address;
    rig_read_record(b, &record);
    assert_int_equal(b->f.health[1].info.role, INFO_ROLE_REPLICA);
    b->now_us += 1000;
    rig_lead(b, 78);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_string_equal(ordered(b, 1), "");
    assert_string_equal(ordered(b, 2), "app-e2");
    rig_tell(b, 1, rig_master_info(1, 500));
    assert_string_equal(ordered(b, 1), "app-e2");
    free(b);
}

static void test_who_comes_back_is_fenced_with_its_seal(void **state)
{
    struct rig *b = fenced_rig();
    (void)state;
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 500);
    fenced(b, 1);
    rig_sealed(b, 2, 500);
    fenced(b, 2);
    rig_committed(b);
    fenced(b, 1);
    rig_promoted(b, 1, 500);
    rig_committed(b);
    rig_link_up(b, 0); /* the deposed one; maybe it went on all the while */
    assert_string_equal(ordered(b, 0), "");
    rig_tell(b, 0, rig_master_info(0, 700));
    assert_non_null(strstr(rig_actions(b), "SEAL:0"));
    assert_string_equal(ordered(b, 0), "");
    rig_sealed(b, 0, 700);
    assert_string_equal(ordered(b, 0), "nobody of app in 2");
    assert_null(strstr(rig_actions(b), "REPLICATE")); /* its clients are cut first */
    fenced(b, 0);
    assert_string_equal(rig_actions(b), "REPLICATE:0");
    follows_second(b, 0);
    assert_string_equal(ordered(b, 0), "app-e2");
    fenced(b, 0);

    rig_link_down(b, 0, ERR_CLOSED); /* a restarted one may have lost it */
    rig_link_up(b, 0);
    assert_string_equal(ordered(b, 0), "");
    follows_second(b, 0);
    assert_string_equal(ordered(b, 0), "app-e2");
    free(b);
}

/* Whoever must not be master but is ahead is one for a while, and is fenced when that is over; who takes its
 * data isn't pointed at it before it is fenced. */
static void test_a_donor_is_fenced_when_it_is_sealed_again(void **state)
{
    struct rig *b = fenced_rig();
    (void)state;
    b->f.record.members[1].priority = TOPOLOGY_MUST_NOT;
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 2, 400);
    rig_sealed(b, 1, 500);
    assert_string_equal(rig_actions(b), "DONATE:1");
    struct info donor = rig_master_info(1, 500);
    rig_step(b,
             (struct failover_event){.type = FAILOVER_ON_DONATING, .member = 1, .epoch = 2, .info = &donor});
    assert_string_equal(rig_actions(b), "");
    fenced(b, 2);
    assert_string_equal(rig_actions(b), "REPLICATE:2");
    assert_string_equal(ordered(b, 1), "");
    rig_pass(b, 30 * 1000);
    assert_string_equal(rig_actions(b), "PROBE:2"); /* it was told once */
    struct info info = rig_replica_info(b, 2, 500, true);
    info.master = b->f.record.members[1].address;
    rig_tell(b, 2, info);
    assert_non_null(strstr(rig_actions(b), "SEAL:1 SEAL:2"));
    rig_sealed(b, 1, 500);
    assert_string_equal(ordered(b, 1), "nobody of app in 2");
    rig_sealed(b, 2, 500);
    assert_string_equal(ordered(b, 2), "nobody of app in 2"); /* again: it may be another one's word by now */
    free(b);
}

static void test_acls_are_looked_at_again(void **state)
{
    struct rig *b = fenced_rig();
    (void)state;
    rig_pass(b, 9 * 1000 * 1000);
    assert_false(b->f.members[0].fence.pending);
    rig_pass(b, 2 * 1000 * 1000);
    for (int k = 0; k < 3; k++)
        assert_true(b->f.members[k].fence.pending);
    assert_string_equal(rig_actions(b), "FENCE:0 FENCE:1 FENCE:2");
    b->now_us += 120 * 1000 * 1000;
    rig_tell(b, 0, rig_master_info(0, 100));
    assert_string_equal(rig_actions(b), ""); /* not over and over while one is under way */
    free(b);
}

static void test_turned_off_only_if_somebody_can_log_in_then(void **state)
{
    struct rig *b = fenced_rig();
    (void)state;
    assert_int_equal(rig_order(b, set(b, TOPOLOGY_FENCE_ACL, "other")), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "fence_user can't be changed"));
    rig_order(b, set(b, TOPOLOGY_FENCE_NONE, "app"));
    assert_string_equal(ordered(b, 0), "app-e1");
    fenced_as(b, 0, 0, false, "");
    assert_int_equal(rig_answered(b), ERR_REJECTED);
    assert_non_null(strstr(rig_answer(b), "ACL SETUSER app on"));
    assert_int_equal(b->f.record.policy.fence, TOPOLOGY_FENCE_ACL);

    rig_order(b, set(b, TOPOLOGY_FENCE_NONE, "app"));
    fenced_as(b, 0, 0, true, "");
    rig_committed(b);
    assert_int_equal(rig_answered(b), 0);
    assert_int_equal(b->f.record.policy.fence, TOPOLOGY_FENCE_NONE);
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 500);
    rig_sealed(b, 2, 500);
    assert_string_equal(rig_actions(b), "COMMIT"); /* nobody is fenced any more */
    free(b);
}

static void test_explain_and_login_names(void **state)
{
    struct rig *b = fenced_rig();
    struct failover_plan plan;
    char login[TOPOLOGY_USER_MAX + 1];
    bool said = false;
    (void)state;
    assert_string_equal(topology_fence_login(&b->f.record, login), "app-e1");
    rig_pass(b, 31 * 1000 * 1000);
    fenced_as(b, 2, ERR_REPLY, false, "NOPERM");
    failover_explain(&b->f, NULL, b->now_us, b->wall_ms, &b->trust, NULL, &plan);
    assert_true(plan.ready); /* it forbids nothing */
    for (uint32_t k = 0; k < plan.n_lines; k++)
        said |= strcmp(plan.lines[k], "10.0.0.3:6379 can't be fenced: NOPERM") == 0;
    assert_true(said);
    rig_kill_master(b);
    rig_committed(b);
    assert_string_equal(topology_fence_login(&b->f.record, login),
                        ""); /* nobody's while members are sealed */
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turned_on_it_is_tried_on_the_master_first),
        cmocka_unit_test(test_turned_on_while_the_master_falls_silent),
        cmocka_unit_test(test_a_failover_fences_the_sealed_and_then_the_candidate),
        cmocka_unit_test(test_a_refused_fence_delays_no_promotion),
        cmocka_unit_test(test_another_leader_goes_on_with_the_same),
        cmocka_unit_test(test_a_new_leader_with_old_news_leaves_the_master_alone),
        cmocka_unit_test(test_who_comes_back_is_fenced_with_its_seal),
        cmocka_unit_test(test_a_donor_is_fenced_when_it_is_sealed_again),
        cmocka_unit_test(test_acls_are_looked_at_again),
        cmocka_unit_test(test_turned_off_only_if_somebody_can_log_in_then),
        cmocka_unit_test(test_explain_and_login_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
