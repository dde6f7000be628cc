/* Verdicts from silence: what makes UNREACHABLE and HUNG, and everything that must not (safety.md §2). */
#include "controller/core/outlook.h"
#include "tests/lib/failover_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdlib.h>
#include <string.h>

enum { TICK_US = 100000 };

/* What differs between one silence and another. */
struct silence {
    enum health_knock knock;
    bool replicas_fed;
    uint32_t controllers;
    enum health_view_kind others; /* what each other controller says */
};

/* The world for `us`: probes answered by the replicas, knocks, surveys answered. Ends early with a verdict.
 */
static void live(struct rig *b, const struct silence *s, int64_t us)
{
    int64_t end_us = b->now_us + us, silent_us = b->f.health[0].mute_us;
    static int64_t offset = 1000;
    while (b->now_us < end_us && b->f.phase != FAILOVER_INTENT) {
        rig_pass(b, TICK_US);
        if (b->f.phase == FAILOVER_INTENT)
            return;
        rig_knock(b, 0, s->knock);
        offset += s->replicas_fed ? 14 : 0;
        for (int k = 1; k < (int)b->f.record.n_members && b->f.phase != FAILOVER_INTENT; k++)
            rig_tell(b, k, rig_replica_info(b, k, offset, true));
        if (b->f.phase != FAILOVER_INTENT && b->f.surveying)
            rig_vote(b, s->controllers - 1, s->others, b->now_us - silent_us - 50000);
    }
}

static struct rig *silent_master(const struct silence *s)
{
    struct rig *b = rig_watching(3);
    b->trust.n_controllers = s->controllers;
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_PINGS, .member = 0});
    for (int k = 1; k < 3; k++)
        rig_tell(b, k, rig_replica_info(b, k, 100, true));
    b->now_us += 150000;
    rig_mute(b, 0, b->now_us - 150000);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    return b;
}

static int64_t verdict_after_ms(const struct rig *b, int64_t mute_us)
{
    return (b->now_us - mute_us) / 1000;
}

static void test_unreachable_master_is_replaced_at_its_limit(void **state)
{
    const struct silence s = {
        .knock = HEALTH_KNOCK_NO_ANSWER, .controllers = 3, .others = HEALTH_VIEW_UNREACHABLE};
    struct rig *b = silent_master(&s);
    int64_t mute_us = b->f.health[0].mute_us;
    (void)state;
    live(b, &s, 5000000);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_UNREACHABLE);
    assert_in_range(verdict_after_ms(b, mute_us), 1500, 1600);
    assert_non_null(strstr(b->f.proposed.failover.evidence, "agree 3"));
    /* The old master's link is up as far as we know: it is sealed, but nobody waits for it. */
    rig_committed(b);
    assert_string_equal(rig_actions(b), "SEAL:0 SEAL:1 SEAL:2 PUBLISH");
    rig_sealed(b, 1, 100);
    rig_sealed(b, 2, 100);
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    free(b);
}

static void test_hung_master_is_replaced_at_its_limit(void **state)
{
    const struct silence s = {.knock = HEALTH_KNOCK_ACCEPTED, .controllers = 3, .others = HEALTH_VIEW_HUNG};
    struct rig *b = silent_master(&s);
    int64_t mute_us = b->f.health[0].mute_us;
    (void)state;
    live(b, &s, 5000000);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_HUNG);
    assert_in_range(verdict_after_ms(b, mute_us), 3000, 3100);
    free(b);
}

/* Each is all of the evidence but one piece. */
static void test_incomplete_evidence_never_triggers(void **state)
{
    static const struct silence cases[] = {
        {HEALTH_KNOCK_NO_ANSWER, true, 3, HEALTH_VIEW_UNREACHABLE}, /* replicas still hear from it */
        {HEALTH_KNOCK_ACCEPTED, true, 3, HEALTH_VIEW_HUNG},         /* the same: BUSY for us, say */
        {HEALTH_KNOCK_NO_ANSWER, false, 3, HEALTH_VIEW_ANSWERS},    /* it is our network */
        {HEALTH_KNOCK_NO_ANSWER, false, 3, HEALTH_VIEW_UNKNOWN},    /* nobody else knows */
        {HEALTH_KNOCK_NO_ANSWER, false, 2, HEALTH_VIEW_ANSWERS},    /* one of two is no majority */
        {HEALTH_KNOCK_REFUSED, false, 3, HEALTH_VIEW_REFUSED},      /* that is for the link to say */
    };
    (void)state;
    for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
        struct rig *b = silent_master(&cases[k]);
        live(b, &cases[k], 20000000);
        if (b->f.phase != FAILOVER_CONFIRM)
            fail_msg("case %zu: phase %s, %s", k, failover_phase_name(b->f.phase),
                     b->f.proposed.failover.evidence);
        assert_int_equal(b->f.record.epoch, 1);
        assert_true(strlen(b->f.waiting) > 0); /* and it says what is missing */
        free(b);
    }
}

/* Its host was away; the process that has just come back has had no time to answer yet. */
static void test_a_host_that_comes_back_does_not_hang(void **state)
{
    const struct silence away = {
        .knock = HEALTH_KNOCK_NO_ANSWER, .controllers = 3, .others = HEALTH_VIEW_ANSWERS};
    const struct silence back = {
        .knock = HEALTH_KNOCK_ACCEPTED, .controllers = 3, .others = HEALTH_VIEW_HUNG};
    struct rig *b = silent_master(&away);
    (void)state;
    live(b, &away, 8000000);
    live(b, &back, 2000000);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    live(b, &back, 1500000); /* but one that goes on like that does */
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_HUNG);
    free(b);
}

/* A full synchronization is no link that is up, but its bytes come from a master that lives. */
static void test_a_synchronizing_replica_is_a_witness(void **state)
{
    const struct silence s = {.knock = HEALTH_KNOCK_NO_ANSWER, .controllers = 1};
    struct rig *b = silent_master(&s);
    struct info syncing = rig_replica_info(b, 1, 100, false);
    (void)state;
    syncing.syncing = true;
    syncing.sync_io_s = 0;
    for (int tick = 0; tick < 50; tick++) {
        rig_pass(b, TICK_US);
        rig_knock(b, 0, HEALTH_KNOCK_NO_ANSWER);
        rig_tell(b, 1, syncing);
        rig_tell(b, 2, rig_replica_info(b, 2, 100, false));
        assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    }
    syncing.sync_io_s = 5; /* its bytes have stopped, too */
    rig_tell(b, 2, rig_replica_info(b, 2, 100, false));
    rig_tell(b, 1, syncing);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    free(b);
}

static void test_stall_below_the_limit_is_forgotten(void **state)
{
    const struct silence s = {.knock = HEALTH_KNOCK_ACCEPTED, .controllers = 3, .others = HEALTH_VIEW_HUNG};
    struct rig *b = silent_master(&s);
    (void)state;
    for (int round = 0; round < 5; round++) { /* a fork now and then adds up to nothing */
        live(b, &s, 2700000);
        assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
        rig_step(b, (struct failover_event){.type = FAILOVER_ON_HEARD, .member = 0});
        rig_tell(b, 0, rig_master_info(0, 500));
        assert_int_equal(b->f.phase, FAILOVER_WATCH);
        b->now_us += 150000;
        rig_mute(b, 0, b->now_us - 150000);
    }
    free(b);
}

static void test_a_stalled_loop_starts_the_clock_again(void **state)
{
    const struct silence s = {.knock = HEALTH_KNOCK_ACCEPTED, .controllers = 3, .others = HEALTH_VIEW_HUNG};
    struct rig *b = silent_master(&s);
    (void)state;
    live(b, &s, 2500000);
    b->now_us += 60000000; /* we were stopped for a minute */
    b->trust.since_us = b->now_us;
    live(b, &s, 2800000);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    live(b, &s, 500000);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    free(b);
}

static void test_nothing_heard_in_a_late_turn_proves_death(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    b->now_us += 60000000;
    b->trust.since_us = b->now_us;
    rig_kill_master(b); /* 1 ms later: this turn is not late any more */
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    free(b);
    b = rig_watching(3);
    b->now_us += 60000000;
    b->trust.since_us = b->now_us + 1000; /* all of it is heard in the late turn itself */
    rig_kill_master(b);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_int_equal(b->f.record.epoch, 1);
    free(b);
}

static void test_own_view_does_not_count_when_most_members_are_silent(void **state)
{
    const struct silence s = {
        .knock = HEALTH_KNOCK_NO_ANSWER, .controllers = 3, .others = HEALTH_VIEW_UNREACHABLE};
    struct rig *b = silent_master(&s);
    (void)state;
    b->trust.distrusted = true;
    b->trust.n_controllers = 2; /* one other sees it too: one of two */
    const struct silence two = {
        .knock = HEALTH_KNOCK_NO_ANSWER, .controllers = 2, .others = HEALTH_VIEW_UNREACHABLE};
    live(b, &two, 10000000);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    b->trust.n_controllers = 3; /* both others see it: a majority without us */
    live(b, &s, 1000000);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    free(b);
}

static void test_answers_of_any_kind_are_life(void **state)
{
    static const enum health_said said[] = {HEALTH_SAID_BUSY,   HEALTH_SAID_LOADING, HEALTH_SAID_MASTERDOWN,
                                            HEALTH_SAID_NOAUTH, HEALTH_SAID_MISCONF, HEALTH_SAID_OTHER};
    (void)state;
    for (size_t k = 0; k < sizeof(said) / sizeof(said[0]); k++) {
        struct rig *b = rig_watching(3);
        rig_step(b, (struct failover_event){.type = FAILOVER_ON_HEARD, .member = 0, .said = said[k]});
        rig_pass(b, 60000000);
        for (int replica = 1; replica < 3; replica++)
            rig_tell(b, replica, rig_replica_info(b, replica, 100, true));
        assert_int_equal(b->f.phase, FAILOVER_WATCH);
        assert_int_equal(b->f.record.epoch, 1);
        free(b);
    }
}

static void test_degraded_master_is_reported_once_and_its_recovery_too(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_HEARD, .member = 0, .said = HEALTH_SAID_MISCONF});
    assert_string_equal(rig_actions(b), "HISTORY");
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_DEGRADED);
    rig_tell(b, 1, rig_replica_info(b, 1, 120, true));
    assert_string_equal(rig_actions(b), "");
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_HEARD, .member = 0});
    assert_string_equal(rig_actions(b), "HISTORY");
    assert_non_null(strstr(b->update.history.evidence, "well again"));
    /* A script is no degradation before it has run for long. */
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_HEARD, .member = 0, .said = HEALTH_SAID_BUSY});
    assert_string_equal(rig_actions(b), "");
    b->now_us += 6000000;
    rig_tell(b, 1, rig_replica_info(b, 1, 130, true));
    assert_string_equal(rig_actions(b), "HISTORY");
    free(b);
}

static void test_without_any_reachable_replica_nobody_is_sealed(void **state)
{
    const struct silence s = {.knock = HEALTH_KNOCK_NO_ANSWER, .controllers = 1};
    struct rig *b = silent_master(&s);
    (void)state;
    rig_mute(b, 1, b->now_us);
    rig_mute(b, 2, b->now_us);
    for (int tick = 0; tick < 100; tick++) {
        rig_pass(b, TICK_US);
        for (int k = 0; k < 3; k++)
            rig_knock(b, k, HEALTH_KNOCK_NO_ANSWER);
    }
    assert_int_equal(b->f.phase,
                     FAILOVER_CONFIRM); /* its clients may reach it: they are not held for nothing */
    free(b);
}

static void test_view_answers_what_is_seen(void **state)
{
    struct health_member m = {.link = HEALTH_LINK_UP};
    struct health_trust trust = {.n_controllers = 3};
    struct health_view v;
    (void)state;
    health_view(&m, &trust, 5000000, &v);
    assert_int_equal(v.kind, HEALTH_VIEW_ANSWERS);
    m.mute_us = 3000000;
    health_view(&m, &trust, 5000000, &v);
    assert_int_equal(v.kind, HEALTH_VIEW_UNKNOWN); /* no knock has ended */
    m.knock = HEALTH_KNOCK_ACCEPTED;
    health_view(&m, &trust, 5000000, &v);
    assert_int_equal(v.kind, HEALTH_VIEW_HUNG);
    assert_int_equal(v.silent_us, 2000000);
    m.knock = HEALTH_KNOCK_NO_ANSWER;
    trust.since_us = 4500000;
    trust.distrusted = true;
    health_view(&m, &trust, 5000000, &v);
    assert_int_equal(v.kind, HEALTH_VIEW_UNREACHABLE);
    assert_int_equal(v.silent_us, 500000);
    assert_true(v.distrusted);
    m = (struct health_member){.link = HEALTH_LINK_REFUSED};
    health_view(&m, &trust, 5000000, &v);
    assert_int_equal(v.kind, HEALTH_VIEW_REFUSED);
}

static void test_outlook_distrusts_resigns_and_returns(void **state)
{
    struct outlook o;
    struct health_votes votes = {.n_controllers = 3, .n = 2, .views = {{.kind = HEALTH_VIEW_ANSWERS}}};
    (void)state;
    outlook_init(&o);
    outlook_on_controllers(&o, 3);
    for (int k = 0; k < 3; k++)
        outlook_on_member(&o, 1, false, 1000000);
    outlook_on_silence(&o, true, 1000000);
    assert_false(o.trust.distrusted); /* one of three */
    outlook_on_silence(&o, true, 1000000);
    assert_true(o.trust.distrusted);
    assert_false(outlook_resigns(&o, true, 9000000)); /* nobody has said that he sees more */
    outlook_on_votes(&o, &votes);
    assert_false(outlook_resigns(&o, true, 2999999));
    assert_false(outlook_resigns(&o, false, 3000000));
    assert_true(outlook_resigns(&o, true, 3000000));
    assert_false(outlook_resigns(&o, true, 3000001)); /* once */
    assert_false(outlook_may_lead(&o, 3000001));
    assert_true(outlook_may_lead(&o, 13000000)); /* somebody has to, even so */
    outlook_on_silence(&o, false, 14000000);
    assert_false(o.trust.distrusted);
    assert_true(outlook_may_lead(&o, 14000000));
    outlook_on_lag(&o, OUTLOOK_LAG_US - 1, 15000000);
    assert_int_equal(o.trust.since_us, 0);
    outlook_on_lag(&o, OUTLOOK_LAG_US, 15000000);
    assert_int_equal(o.trust.since_us, 15000000);
    outlook_on_member(&o, -1, true, 16000000);
    assert_int_equal(o.n_members, 2);
    assert_int_equal(o.n_silent, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_unreachable_master_is_replaced_at_its_limit),
        cmocka_unit_test(test_hung_master_is_replaced_at_its_limit),
        cmocka_unit_test(test_incomplete_evidence_never_triggers),
        cmocka_unit_test(test_a_host_that_comes_back_does_not_hang),
        cmocka_unit_test(test_a_synchronizing_replica_is_a_witness),
        cmocka_unit_test(test_stall_below_the_limit_is_forgotten),
        cmocka_unit_test(test_a_stalled_loop_starts_the_clock_again),
        cmocka_unit_test(test_nothing_heard_in_a_late_turn_proves_death),
        cmocka_unit_test(test_own_view_does_not_count_when_most_members_are_silent),
        cmocka_unit_test(test_answers_of_any_kind_are_life),
        cmocka_unit_test(test_degraded_master_is_reported_once_and_its_recovery_too),
        cmocka_unit_test(test_without_any_reachable_replica_nobody_is_sealed),
        cmocka_unit_test(test_view_answers_what_is_seen),
        cmocka_unit_test(test_outlook_distrusts_resigns_and_returns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
