/* Would a failover find enough members, when is that news; and when are proxies asked again whether they
 * hold. */
#include "controller/core/promise.h"
#include "controller/core/readiness.h"
#include "tests/lib/failover_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct readiness judge(const struct rig *b)
{
    struct readiness r;
    readiness_judge(&b->f.record, b->f.health, &r);
    return r;
}

static void test_async_needs_one(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    struct readiness r = judge(b);
    assert_true(r.ready);
    assert_int_equal(r.needed, 1);
    assert_int_equal(r.have, 2);
    assert_int_equal(r.candidates, 2);
    assert_string_equal(r.missing, "");
    rig_link_down(b, 2, ERR_REFUSED);
    r = judge(b);
    assert_true(r.ready);
    assert_string_equal(r.missing, "10.0.0.3:6379 down");
    rig_mute(b, 1, b->now_us);
    r = judge(b);
    assert_false(r.ready);
    assert_int_equal(r.have, 0);
    assert_string_equal(r.missing, "10.0.0.2:6379 silent, 10.0.0.3:6379 down");
    free(b);
}

static void test_strict_needs_all_but_acks(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    b->f.record.policy.durability = TOPOLOGY_STRICT;
    b->f.record.policy.acks = 1;
    struct readiness r = judge(b);
    assert_true(r.ready);
    assert_int_equal(r.needed, 2);
    assert_int_equal(r.have, 2);
    struct info stranger = rig_replica_info(b, 2, 100, true);
    memset(stranger.run_id, 'f', TOPOLOGY_RUN_ID_LEN);
    rig_link_down(b, 2, ERR_CLOSED);
    rig_link_up(b, 2);
    assert_string_equal(judge(b).missing, "10.0.0.3:6379 not heard yet");
    b->f.health[2].info = stranger;
    b->f.health[2].info_known = true;
    r = judge(b);
    assert_false(r.ready);
    assert_int_equal(r.have, 1);
    assert_string_equal(r.missing, "10.0.0.3:6379 restarted: its data is not trusted");
    b->f.record.policy.acks = 2;
    assert_true(judge(b).ready);
    b->f.record.members[1].priority = TOPOLOGY_MUST_NOT; /* its data counts, but nobody could lead */
    r = judge(b);
    assert_int_equal(r.have, 1);
    assert_int_equal(r.candidates, 0);
    assert_false(r.ready);
    assert_non_null(strstr(r.missing, "nobody that counts may be master"));
    free(b);
}

static void test_only_what_lasts_is_news(void **state)
{
    struct readiness_watch w = {0};
    int64_t now_us = 1000000;
    (void)state;
    assert_int_equal(readiness_watch_step(&w, true, now_us), READINESS_SAME); /* as expected */
    assert_int_equal(readiness_watch_step(&w, false, now_us), READINESS_SAME);
    assert_int_equal(readiness_watch_step(&w, false, now_us + READINESS_LOST_US - 1), READINESS_SAME);
    assert_int_equal(readiness_watch_step(&w, true, now_us + READINESS_LOST_US), READINESS_SAME);
    now_us += READINESS_LOST_US + 1;
    assert_int_equal(readiness_watch_step(&w, false, now_us), READINESS_SAME); /* counts anew */
    now_us += READINESS_LOST_US;
    assert_int_equal(readiness_watch_step(&w, false, now_us), READINESS_LOST);
    assert_int_equal(readiness_watch_step(&w, false, now_us + READINESS_LOST_US), READINESS_SAME);
    assert_int_equal(readiness_watch_step(&w, true, now_us), READINESS_SAME);
    assert_int_equal(readiness_watch_step(&w, true, now_us + READINESS_BACK_US), READINESS_BACK);
    assert_int_equal(readiness_watch_step(&w, true, now_us + 2 * READINESS_BACK_US), READINESS_SAME);
}

/* ---- the leader's events ---- */

static const char *report_of(const struct rig *b)
{
    return b->update.n_reports > 0 ? b->update.reports[0].text : "";
}

/* Who serves reads may have changed, too: that is committed first. */
static void hear_master(struct rig *b)
{
    rig_tell(b, 0, rig_master_info(0, 100));
    if (b->f.phase == FAILOVER_REPAIR)
        rig_committed(b);
}

static void test_a_leader_says_so(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    b->f.record.policy.durability = TOPOLOGY_STRICT;
    rig_link_down(b, 2, ERR_REFUSED);
    rig_committed(b); /* it serves no reads any more */
    assert_string_equal(report_of(b), "");
    b->now_us += READINESS_LOST_US;
    hear_master(b);
    assert_non_null(strstr(report_of(b), "event=readiness.lost instance=cart needed=2 have=1 "
                                         "missing=\"10.0.0.3:6379 down\""));
    b->now_us += READINESS_LOST_US;
    hear_master(b);
    assert_string_equal(report_of(b), ""); /* once */
    rig_link_up(b, 2);
    rig_tell(b, 2, rig_replica_info(b, 2, 100, true));
    b->now_us += READINESS_BACK_US;
    hear_master(b);
    assert_non_null(strstr(report_of(b), "event=readiness.back instance=cart needed=2 have=2"));
    rig_lead(b, 0);
    rig_link_down(b, 2, ERR_REFUSED);
    b->now_us += READINESS_LOST_US;
    hear_master(b);
    assert_string_equal(report_of(b), ""); /* a standby has nothing to say */
    free(b);
}

static void test_an_instance_of_one_is_not_told_each_time(void **state)
{
    struct rig *b = rig_watching(1);
    (void)state;
    b->now_us += READINESS_LOST_US;
    hear_master(b);
    b->now_us += READINESS_LOST_US;
    hear_master(b);
    assert_string_equal(report_of(b), "");
    free(b);
}

/* ---- who holds ---- */

static void test_proxies_are_asked_until_all_hold(void **state)
{
    struct promise p = {0};
    int64_t now_us = 5000000;
    bool ask;
    (void)state;
    assert_int_equal(promise_step(&p, 1, 3, now_us, &ask), PROMISE_SAME);
    assert_false(ask); /* their acknowledgements may be on their way */
    assert_int_equal(promise_step(&p, 1, 3, now_us + PROMISE_ASK_US, &ask), PROMISE_SAME);
    assert_true(ask);
    assert_int_equal(promise_step(&p, 2, 3, now_us + 2 * PROMISE_ASK_US, &ask), PROMISE_SAME);
    assert_false(ask);
    assert_int_equal(promise_step(&p, 2, 3, now_us + 3 * PROMISE_ASK_US, &ask), PROMISE_SAME);
    assert_true(ask);
    assert_int_equal(promise_step(&p, 2, 3, now_us + PROMISE_LATE_US, &ask), PROMISE_LATE);
    assert_int_equal(promise_step(&p, 2, 3, now_us + PROMISE_LATE_US + 1, &ask), PROMISE_SAME);
    assert_int_equal(promise_step(&p, 3, 3, now_us + PROMISE_LATE_US + 2, &ask), PROMISE_IN_FORCE);
    assert_false(ask);
    assert_int_equal(promise_step(&p, 3, 3, now_us + PROMISE_LATE_US + 3, &ask), PROMISE_SAME);
    assert_int_equal(promise_step(&p, 3, 4, now_us + PROMISE_LATE_US + 4, &ask),
                     PROMISE_SAME); /* a new one */
    assert_int_equal(promise_step(&p, 4, 4, now_us + PROMISE_LATE_US + 5, &ask), PROMISE_SAME);
}

static void test_repetitions_become_rare(void **state)
{
    struct promise p = {0};
    int64_t last_us = 0, longest_us = 0;
    bool ask;
    int asked = 0;
    (void)state;
    for (int64_t now_us = 1000000; now_us < 301000000; now_us += 100000) {
        (void)promise_step(&p, 0, 1, now_us, &ask);
        if (!ask)
            continue;
        if (last_us != 0 && now_us - last_us > longest_us)
            longest_us = now_us - last_us;
        last_us = now_us;
        asked++;
    }
    assert_in_range(asked, 10, 16);
    assert_int_equal(longest_us, PROMISE_ASK_MAX_US);
    assert_int_equal(promise_step(&p, 0, 0, 400000000, &ask), PROMISE_IN_FORCE); /* nobody is there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_async_needs_one),
        cmocka_unit_test(test_strict_needs_all_but_acks),
        cmocka_unit_test(test_only_what_lasts_is_news),
        cmocka_unit_test(test_a_leader_says_so),
        cmocka_unit_test(test_an_instance_of_one_is_not_told_each_time),
        cmocka_unit_test(test_proxies_are_asked_until_all_hold),
        cmocka_unit_test(test_repetitions_become_rare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
