/* Which replicas may serve reads: the judgement, the delay before one comes back, and what is committed. */
#include "controller/core/reader.h"
#include "tests/lib/failover_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { S = 1000 * 1000 };

/* ---- the judgement --------------------------------------------------------------------------------------
 */

/* Member 1 of a watched instance, with its INFO or the policy changed by `change`. */
static enum reader_fitness judge(void (*change)(struct rig *b, struct health_member *replica), bool serves)
{
    struct rig *b = rig_watching(2);
    if (change)
        change(b, &b->f.health[1]);
    enum reader_fitness fitness =
        reader_judge(&b->f.record, b->f.health, 1, serves, b->trust.distrusted, b->now_us);
    free(b);
    return fitness;
}

static void is_down(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->link = HEALTH_LINK_REFUSED;
}
static void is_new(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->link = HEALTH_LINK_UNKNOWN;
}
static void has_not_answered(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->info_known = false;
}
static void is_mute_for_a_moment(struct rig *b, struct health_member *replica)
{
    replica->mute_us = b->now_us - S / 2;
}
static void is_mute(struct rig *b, struct health_member *replica)
{
    b->now_us += 2 * S;
    replica->mute_us = b->now_us - S;
}
static void is_mute_to_one_that_doubts(struct rig *b, struct health_member *replica)
{
    is_mute(b, replica);
    b->trust.distrusted = true;
}
static void is_mute_for_long(struct rig *b, struct health_member *replica)
{
    b->now_us += 6 * S;
    replica->mute_us = b->now_us - 5 * S;
    replica->link = HEALTH_LINK_SILENT;
    b->trust.distrusted = true;
}
static void has_lost_its_master(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->info.master_link_up = false;
}
static void loads(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->info.loading = true;
}
static void syncs(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->info.syncing = true;
}
static void is_another_process(struct rig *b, struct health_member *replica)
{
    (void)b;
    snprintf(replica->info.run_id, sizeof(replica->info.run_id), "%s", RIG_ID("d"));
}
static void follows_another(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->info.master.port = 1;
}
static void calls_itself_master(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->info.role = INFO_ROLE_MASTER;
}
static void lags_40(struct rig *b, struct health_member *replica)
{
    b->f.record.policy.max_lag_bytes = 60;
    replica->behind_bytes = 40;
}
static void lags_61(struct rig *b, struct health_member *replica)
{
    b->f.record.policy.max_lag_bytes = 60;
    replica->behind_bytes = 61;
}
static void lags_without_limit(struct rig *b, struct health_member *replica)
{
    (void)b;
    replica->behind_bytes = INT64_MAX;
}
static void lags_nobody_knows_how_much(struct rig *b, struct health_member *replica)
{
    b->f.record.policy.max_lag_bytes = 1;
    replica->behind_bytes = -1;
}
static void is_in_a_failover(struct rig *b, struct health_member *replica)
{
    (void)replica;
    b->f.record.state = TOPOLOGY_SEALING;
}

static void test_judgement(void **state)
{
    static const struct {
        void (*change)(struct rig *b, struct health_member *replica);
        bool serves;
        enum reader_fitness fitness;
    } rows[] = {
        {NULL, false, READER_FIT},
        {NULL, true, READER_FIT},
        {is_down, true, READER_UNFIT},
        {is_new, true, READER_UNKNOWN},
        {has_not_answered, true, READER_UNKNOWN},
        {is_mute_for_a_moment, true, READER_UNKNOWN},
        {is_mute, true, READER_UNFIT},
        {is_mute_to_one_that_doubts, true, READER_UNKNOWN},
        {is_mute_for_long, true, READER_UNFIT},
        {has_lost_its_master, true, READER_UNFIT},
        {loads, true, READER_UNFIT},
        {syncs, true, READER_UNFIT},
        {is_another_process, true, READER_UNFIT},
        {follows_another, true, READER_UNFIT},
        {calls_itself_master, true, READER_UNFIT},
        {lags_40, true, READER_FIT}, /* it goes on with what would not let it begin */
        {lags_40, false, READER_UNFIT},
        {lags_61, true, READER_UNFIT},
        {lags_without_limit, false, READER_FIT},
        {lags_nobody_knows_how_much, true, READER_UNKNOWN},
        {is_in_a_failover, true, READER_UNFIT},
    };
    (void)state;
    for (size_t k = 0; k < sizeof(rows) / sizeof(rows[0]); k++) {
        enum reader_fitness fitness = judge(rows[k].change, rows[k].serves);
        if (fitness != rows[k].fitness)
            fail_msg("row %zu: %d instead of %d", k, (int)fitness, (int)rows[k].fitness);
    }
}

static void test_the_master_is_no_reader(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    assert_int_equal(reader_judge(&b->f.record, b->f.health, 0, false, false, b->now_us), READER_UNFIT);
    free(b);
}

/* What was written between the two's answers is no lag. */
static void test_lag_counts_from_what_was_known_before(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    rig_tell(b, 0, rig_master_info(0, 1000));
    assert_int_equal(b->f.health[1].behind_bytes, 0);
    rig_tell(b, 1, rig_replica_info(b, 1, 993, true));
    assert_int_equal(b->f.health[1].behind_bytes, 7);
    rig_tell(b, 0, rig_master_info(0, 5000));
    assert_int_equal(b->f.health[1].behind_bytes, 7);
    rig_tell(b, 1, rig_replica_info(b, 1, 5001, true)); /* it has more than the master told of */
    assert_int_equal(b->f.health[1].behind_bytes, 0);
    rig_link_down(b, 0, ERR_CLOSED);
    rig_tell(b, 1, rig_replica_info(b, 1, 5001, true));
    assert_int_equal(b->f.health[1].behind_bytes, -1);
    free(b);
}

/* ---- coming and going -----------------------------------------------------------------------------------
 */

static void test_it_comes_after_a_while_and_goes_at_once(void **state)
{
    struct reader_watch w = {0};
    (void)state;
    assert_false(reader_watch_step(&w, READER_FIT, false, 10 * S));
    assert_false(reader_watch_step(&w, READER_FIT, false, 11 * S - 1));
    assert_true(reader_watch_step(&w, READER_FIT, false, 11 * S));
    assert_true(reader_watch_step(&w, READER_FIT, true, 11 * S + 1));
    assert_false(reader_watch_step(&w, READER_UNFIT, true, 11 * S + 2));
}

static void test_a_break_begins_the_wait_anew(void **state)
{
    struct reader_watch w = {0};
    (void)state;
    assert_false(reader_watch_step(&w, READER_FIT, false, 10 * S));
    assert_false(reader_watch_step(&w, READER_UNFIT, false, 10 * S + S / 2));
    assert_false(reader_watch_step(&w, READER_FIT, false, 10 * S + S / 2 + 1));
    assert_false(reader_watch_step(&w, READER_FIT, false, 11 * S + S / 2));
    assert_true(reader_watch_step(&w, READER_FIT, false, 11 * S + S / 2 + 1));
}

/* How long it has to be fit after the fall at at_us, having come in_us before that. */
static int64_t wait_after(struct reader_watch *w, int64_t *at_us, int64_t in_us)
{
    assert_true(reader_watch_step(w, READER_FIT, true, *at_us));
    *at_us += in_us;
    assert_false(reader_watch_step(w, READER_UNFIT, true, *at_us));
    int64_t from_us = ++*at_us;
    while (!reader_watch_step(w, READER_FIT, false, *at_us))
        *at_us += S / 10;
    return *at_us - from_us;
}

static void test_who_wavers_waits_longer_each_time(void **state)
{
    struct reader_watch w = {0};
    int64_t at_us = 10 * S;
    (void)state;
    for (int64_t want_us = 2 * S; want_us < 60 * S; want_us *= 2)
        assert_int_equal(wait_after(&w, &at_us, S), want_us);
    assert_int_equal(wait_after(&w, &at_us, S), 60 * S);
    assert_int_equal(wait_after(&w, &at_us, S), 60 * S);
    assert_int_equal(wait_after(&w, &at_us, 61 * S), 1 * S); /* it was well for a minute */
}

/* A failover looks at it many times before the record says that it no longer serves. */
static void test_a_fall_counts_once_however_often_it_is_seen(void **state)
{
    struct reader_watch w = {0};
    int64_t at_us = 10 * S;
    (void)state;
    assert_true(reader_watch_step(&w, READER_FIT, true, at_us++));
    for (int k = 0; k < 20; k++)
        assert_false(reader_watch_step(&w, READER_UNFIT, true, at_us++));
    assert_true(reader_watch_step(&w, READER_UNKNOWN, true, at_us++));
    assert_false(reader_watch_step(&w, READER_UNFIT, true, at_us++));
    assert_false(reader_watch_step(&w, READER_UNFIT, false, at_us++));
    assert_false(reader_watch_step(&w, READER_FIT, false, at_us));
    assert_false(reader_watch_step(&w, READER_FIT, false, at_us + 2 * S - 1));
    assert_true(reader_watch_step(&w, READER_FIT, false, at_us + 2 * S));
}

static void test_what_is_unknown_changes_nothing(void **state)
{
    struct reader_watch w = {0};
    (void)state;
    assert_true(reader_watch_step(&w, READER_UNKNOWN, true, 10 * S));
    assert_false(reader_watch_step(&w, READER_UNKNOWN, false, 11 * S));
    assert_true(reader_watch_step(&w, READER_FIT, true, 12 * S)); /* another leader had let it: no wait */
}

/* ---- in the core ----------------------------------------------------------------------------------------
 */

static void tell_all(struct rig *b, int64_t lag_bytes)
{
    rig_tell(b, 0, rig_master_info(0, 1000));
    rig_tell(b, 1, rig_replica_info(b, 1, 1000 - lag_bytes, true));
}

static void test_readers_are_committed_and_published(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    b->f.record.policy.max_lag_bytes = 100;
    tell_all(b, 0);
    assert_string_equal(rig_actions(b), "");
    tell_all(b, 101);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_false(b->update.actions[b->update.n - 1].has_history);
    assert_false(b->f.proposed.members[1].serves_reads);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PUBLISH");
    struct topology_reader readers[TOPOLOGY_MEMBERS_MAX];
    assert_int_equal(topology_readers(&b->f.route, readers), 0);
    b->now_us += 10 * S;
    tell_all(b, 0); /* the wait begins here */
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    b->now_us += 2 * S;
    tell_all(b, 0);
    assert_int_equal(b->f.phase, FAILOVER_REPAIR);
    assert_true(b->f.proposed.members[1].serves_reads);
    rig_committed(b);
    assert_int_equal(topology_readers(&b->f.route, readers), 1);
    assert_true(topology_address_equal(&readers[0].address, &b->f.record.members[1].address));
    free(b);
}

static void test_offsets_that_move_within_the_limit_cost_nothing(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    b->f.record.policy.max_lag_bytes = 100;
    for (int k = 0; k < 200; k++) {
        b->now_us += S / 10;
        tell_all(b, k % 100);
        assert_string_equal(rig_actions(b), "");
    }
    free(b);
}

/* A lag that crosses the limit with every second INFO: it leaves once, and stays out. */
static void test_a_lag_about_the_limit_is_no_flapping(void **state)
{
    struct rig *b = rig_watching(2);
    unsigned commits = 0;
    (void)state;
    b->f.record.policy.max_lag_bytes = 100;
    for (int k = 0; k < 600; k++) {
        b->now_us += S / 10;
        tell_all(b, k % 2 ? 99 : 101);
        if (b->f.phase == FAILOVER_REPAIR) {
            commits++;
            rig_committed(b);
        }
    }
    assert_int_equal(commits, 1);
    free(b);
}

static void test_a_new_leader_keeps_what_it_finds(void **state)
{
    struct rig *b = calloc(1, sizeof(*b));
    struct topology_instance i = rig_sample(2);
    (void)state;
    assert_non_null(b);
    failover_init(&b->f);
    b->now_us = 10 * S;
    b->trust.n_controllers = 1;
    rig_read_record(b, &i);
    rig_lead(b, 7);
    rig_link_up(b, 0);
    rig_tell(b, 0, rig_master_info(0, 100));
    rig_link_up(b, 1); /* not asked yet */
    assert_true(b->f.record.members[1].serves_reads);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    rig_tell(b, 1, rig_replica_info(b, 1, 100, true));
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    free(b);
}

static void test_an_intent_ends_all_reading(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_kill_master(b);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    for (int k = 0; k < 3; k++)
        assert_false(b->f.proposed.members[k].serves_reads);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_judgement),
        cmocka_unit_test(test_the_master_is_no_reader),
        cmocka_unit_test(test_lag_counts_from_what_was_known_before),
        cmocka_unit_test(test_it_comes_after_a_while_and_goes_at_once),
        cmocka_unit_test(test_a_break_begins_the_wait_anew),
        cmocka_unit_test(test_who_wavers_waits_longer_each_time),
        cmocka_unit_test(test_a_fall_counts_once_however_often_it_is_seen),
        cmocka_unit_test(test_what_is_unknown_changes_nothing),
        cmocka_unit_test(test_readers_are_committed_and_published),
        cmocka_unit_test(test_offsets_that_move_within_the_limit_cost_nothing),
        cmocka_unit_test(test_a_lag_about_the_limit_is_no_flapping),
        cmocka_unit_test(test_a_new_leader_keeps_what_it_finds),
        cmocka_unit_test(test_an_intent_ends_all_reading),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
