/* The failover core, step by step: which actions each event leads to, rendered as one line per action. */
#include "tests/lib/failover_rig.h"
#include "tests/lib/golden.h"

#include "controller/core/failover_table.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void test_dead_master_is_replaced(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_link_down(b, 0, ERR_CLOSED);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_string_equal(rig_actions(b), "PROBE:0 PROBE:1 PROBE:2");
    rig_link_down(b, 0, ERR_REFUSED);
    assert_string_equal(rig_actions(b), "");
    rig_tell(b, 1, rig_replica_info(b, 1, 140, false));
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM); /* the other witness has not spoken */
    rig_tell(b, 2, rig_replica_info(b, 2, 150, false));
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.state, TOPOLOGY_SEALING);
    assert_int_equal(b->f.proposed.epoch, 2);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_DEAD);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PROBE:0 SEAL:1 SEAL:2 PUBLISH");
    assert_null(topology_route(&b->f.route)); /* a hold */
    rig_sealed(b, 1, 140);
    assert_string_equal(rig_actions(b), "");
    rig_sealed(b, 2, 150);
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3"); /* the larger offset */
    assert_int_equal(b->f.proposed.start_offset, 150);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PROMOTE:2");
    rig_promoted(b, 2, 150);
    assert_string_equal(rig_actions(b), "PUBLISH REPLICATE:1 UNPAUSE:2 COMMIT");
    assert_string_equal(topology_route(&b->f.route)->host, "10.0.0.3");
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_FAILOVER);
    assert_string_equal(b->update.history.from.host, "10.0.0.1");
    rig_committed(b);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_int_equal(b->f.record.state, TOPOLOGY_STABLE);
    assert_string_equal(b->f.record.epochs[1].repl_id, RIG_REPL_2);
    assert_int_equal(b->f.record.epochs[1].start_offset, 150);
    free(b);
}

static void test_replica_with_its_link_up_contradicts(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_link_down(b, 0, ERR_CLOSED);
    rig_link_down(b, 0, ERR_REFUSED);
    rig_tell(b, 1, rig_replica_info(b, 1, 100, false));
    rig_tell(b, 2, rig_replica_info(b, 2, 100, true));
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    b->now_us = failover_deadline_us(&b->f);
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
    assert_string_equal(rig_actions(b), "PROBE:0 PROBE:1 PROBE:2");
    free(b);
}

static void test_dropped_connection_is_no_failover(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_link_down(b, 0, ERR_CLOSED);
    rig_link_up(b, 0);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    rig_tell(b, 0, rig_master_info(0, 120));
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_string_equal(rig_actions(b), "PUBLISH"); /* proxies that doubted may go on */
    assert_int_equal(b->f.record.epoch, 1);
    free(b);
}

static void test_silence_and_refused_login_only_suspect(void **state)
{
    static const int reasons[] = {ERR_TIMEOUT, ERR_UNREACHABLE, ERR_AUTH, ERR_PROTOCOL};
    (void)state;
    for (size_t k = 0; k < sizeof(reasons) / sizeof(reasons[0]); k++) {
        struct rig *b = rig_watching(3);
        rig_link_down(b, 0, reasons[k]);
        rig_tell(b, 1, rig_replica_info(b, 1, 100, false));
        rig_tell(b, 2, rig_replica_info(b, 2, 100, false));
        assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
        for (int tick = 0; tick < 20; tick++) {
            b->now_us = failover_deadline_us(&b->f);
            rig_step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
        }
        assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
        assert_true(strlen(b->f.waiting) > 0); /* and says so */
        free(b);
    }
}

static void test_restarted_master_is_not_trusted(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_link_down(b, 0, ERR_CLOSED);
    rig_link_up(b, 0);
    struct info fresh = rig_master_info(0, 0);
    snprintf(fresh.run_id, sizeof(fresh.run_id), "%s", RIG_ID("d"));
    snprintf(fresh.repl_id, sizeof(fresh.repl_id), "%s", RIG_ID("9"));
    rig_tell(b, 0, fresh);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_RESTARTED);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "SEAL:0 SEAL:1 SEAL:2 PUBLISH");
    struct info seal = rig_sealed_info(0, 999999);
    snprintf(seal.run_id, sizeof(seal.run_id), "%s", RIG_ID("d"));
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 0, .epoch = 2, .info = &seal});
    rig_sealed(b, 1, 100);
    rig_sealed(b, 2, 90);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.2");
    free(b);
}

static void test_single_member_is_waited_for_and_taken_back(void **state)
{
    struct rig *b = rig_watching(1);
    (void)state;
    rig_link_down(b, 0, ERR_CLOSED);
    rig_link_down(b, 0, ERR_REFUSED);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    rig_committed(b);
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_null(topology_route(&b->f.route));
    assert_non_null(strstr(b->f.waiting, "10.0.0.1:6379: not reachable"));
    rig_link_up(b, 0);
    assert_string_equal(rig_actions(b), "SEAL:0");
    struct info back = rig_sealed_info(0, 0);
    snprintf(back.run_id, sizeof(back.run_id), "%s", RIG_ID("d"));
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 0, .epoch = 2, .info = &back});
    assert_int_equal(b->f.phase, FAILOVER_CHOICE); /* nobody else could have better data */
    assert_string_equal(b->f.proposed.members[0].run_id, RIG_ID("d"));
    free(b);
}

static void test_restarted_member_waits_for_one_that_may_have_the_data(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    rig_link_down(b, 1, ERR_CLOSED);
    rig_link_down(b, 1, ERR_REFUSED);
    rig_committed(b);                             /* that it doesn't serve reads any more */
    assert_int_equal(b->f.phase, FAILOVER_WATCH); /* a lost replica is no trigger */
    rig_link_down(b, 0, ERR_CLOSED);
    rig_link_down(b, 0, ERR_REFUSED);
    rig_committed(b);
    rig_link_up(b, 0);
    struct info back = rig_sealed_info(0, 0);
    snprintf(back.run_id, sizeof(back.run_id), "%s", RIG_ID("d"));
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 0, .epoch = 2, .info = &back});
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_non_null(strstr(b->f.waiting, "10.0.0.1:6379: restarted"));
    assert_non_null(strstr(b->f.waiting, "10.0.0.2:6379: not reachable"));
    rig_link_up(b, 1);
    rig_sealed(b, 1, 100);
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.2");
    free(b);
}

static void test_standby_does_nothing_and_takes_over_half_done_work(void **state)
{
    struct rig *b = rig_watching(3);
    struct topology_instance half;
    (void)state;
    rig_lead(b, 0);
    assert_int_equal(b->f.phase, FAILOVER_IDLE);
    rig_kill_master(b);
    assert_int_equal(b->update.n, 0);
    half = b->f.record; /* the dead leader had committed its choice */
    half.state = TOPOLOGY_PROMOTING;
    half.epoch = 2;
    memset(&half.master, 0, sizeof(half.master));
    half.candidate = half.members[1].address;
    half.start_offset = 100;
    struct topology_epoch row = {.epoch = 2, .start_offset = 100};
    topology_epoch_append(&half, &row);
    rig_read_record(b, &half);
    assert_int_equal(b->f.phase, FAILOVER_IDLE);
    rig_lead(b, 8);
    assert_int_equal(b->f.phase, FAILOVER_PROMOTE);
    assert_string_equal(rig_actions(b), "PROMOTE:1");
    rig_promoted(b, 1, 100);
    assert_string_equal(rig_actions(b), "PUBLISH REPLICATE:2 UNPAUSE:1 COMMIT");
    free(b);
}

/* The master is dead, and member 1 told to be the next one, rather than 2. */
static struct rig *rig_promoting(void)
{
    struct rig *b = rig_watching(3);
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 100);
    rig_sealed(b, 2, 90);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PROMOTE:1");
    return b;
}

static void test_candidate_that_dies_is_replaced_by_another(void **state)
{
    struct rig *b = rig_promoting();
    (void)state;
    rig_step(
        b, (struct failover_event){.type = FAILOVER_ON_PROMOTED, .member = 1, .epoch = 2, .err = ERR_CLOSED});
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.epoch, 3);
    assert_int_equal(b->f.proposed.state, TOPOLOGY_SEALING);
    rig_link_down(b, 1, ERR_CLOSED);
    rig_link_down(b, 1, ERR_REFUSED);
    rig_committed(b);
    assert_string_equal(rig_actions(b), "PROBE:0 PROBE:1 SEAL:2 PUBLISH");
    rig_sealed(b, 2, 90);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3");
    free(b);
}

/* Its answer decides as long as it can be reached; nothing spins meanwhile. */
static void test_candidate_that_is_slow_is_waited_for_at_leisure(void **state)
{
    struct rig *b = rig_promoting();
    int ticks = 0;
    (void)state;
    for (int64_t end_us = b->now_us + 4 * 1000 * 1000; b->now_us < end_us; ticks++) {
        int64_t at_us = failover_deadline_us(&b->f);
        assert_true(at_us > b->now_us);
        b->now_us = at_us;
        rig_step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
        assert_int_equal(b->f.phase, FAILOVER_PROMOTE);
    }
    assert_in_range(ticks, 2, 200);
    rig_promoted(b, 1, 100);
    assert_int_equal(b->f.phase, FAILOVER_FINISH);
    free(b);
}

static void test_lost_race_reads_the_record_again(void **state)
{
    struct rig *b = rig_watching(3);
    struct topology_instance other;
    (void)state;
    rig_kill_master(b);
    other = b->f.proposed; /* another leader did the same */
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_COMMIT_FAILED, .err = ERR_BAD_VERSION});
    assert_int_equal(b->f.phase, FAILOVER_RELOAD);
    assert_string_equal(rig_actions(b), "RELOAD");
    rig_read_record(b, &other);
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_string_equal(rig_actions(b), "PROBE:0 SEAL:1 SEAL:2 PUBLISH");
    free(b);
}

static void test_answers_to_an_earlier_epoch_are_ignored(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_kill_master(b);
    rig_committed(b);
    struct info info = rig_sealed_info(1, 100);
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 1, .epoch = 1, .info = &info});
    assert_false(b->f.members[1].sealed);
    rig_step(b,
             (struct failover_event){.type = FAILOVER_ON_PROMOTED, .member = 1, .epoch = 1, .info = &info});
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    free(b);
}

static void test_returning_master_is_sealed_recorded_and_replicates(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 100);
    rig_sealed(b, 2, 90);
    rig_committed(b);
    rig_promoted(b, 1, 100);
    rig_committed(b);
    b->now_us += 5000000;
    rig_link_up(b, 0);
    rig_tell(b, 0, rig_master_info(0, 130)); /* the same process was cut off and went on writing */
    assert_string_equal(rig_actions(b), "SEAL:0");
    rig_sealed(b, 0, 130);
    assert_string_equal(rig_actions(b), "HISTORY REPLICATE:0");
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_REJOINED);
    assert_int_equal(b->update.history.lost_bytes, 30);
    free(b);
}

/* It was asked while nothing could come back from it (a cut in one direction): the answer is lost, the order
 * was carried out. */
static void test_master_detached_by_a_seal_that_nobody_saw_is_recorded_too(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_order(b, (struct failover_command){.type = FAILOVER_COMMAND_FAILOVER, .by = "ops"});
    rig_committed(b);
    assert_string_equal(rig_actions(b), "SEAL:0 SEAL:1 SEAL:2 PUBLISH");
    rig_sealed(b, 1, 100);
    rig_sealed(b, 2, 90);
    rig_pass(b, 1100000); /* waited for, in vain */
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    rig_committed(b);
    rig_promoted(b, 1, 100);
    assert_string_equal(rig_actions(b), "PUBLISH REPLICATE:2 UNPAUSE:1 COMMIT"); /* 0: not before its seal */
    rig_committed(b);
    rig_link_down(b, 0, ERR_TIMEOUT);
    rig_step(b, (struct failover_event){
                    .type = FAILOVER_ON_SEALED, .member = 0, .epoch = b->f.record.epoch, .err = ERR_TIMEOUT});
    b->now_us += 5000000;
    rig_link_up(b, 0);
    rig_tell(b, 0, rig_sealed_info(0, 130));
    assert_string_equal(rig_actions(b), "SEAL:0");
    rig_sealed(b, 0, 130);
    assert_string_equal(rig_actions(b), "HISTORY REPLICATE:0");
    assert_int_equal(b->update.history.lost_bytes, 30);
    free(b);
}

static void test_demoted_master_is_replaced(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_tell(b, 0, rig_sealed_info(0, 100)); /* a deposed leader's seal arrived late */
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_DEMOTED);
    free(b);
}

static void test_resynced_replica_is_registered_again(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    struct info back = rig_replica_info(b, 2, 120, true);
    snprintf(back.run_id, sizeof(back.run_id), "%s", RIG_ID("e"));
    rig_tell(b, 2, back);
    assert_int_equal(b->f.phase, FAILOVER_REPAIR);
    assert_string_equal(b->f.proposed.members[2].run_id, RIG_ID("e"));
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_MEMBER);
    rig_committed(b);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    free(b);
}

static void test_new_replica_is_registered(void **state)
{
    struct rig *b = rig_watching(2);
    (void)state;
    struct info info = rig_master_info(0, 100);
    info.n_replicas = 1;
    info.replicas[0].online = true;
    snprintf(info.replicas[0].address.host, sizeof(info.replicas[0].address.host), "127.0.0.1");
    info.replicas[0].address.port = 7000;
    rig_tell(b, 0, info);
    assert_string_equal(rig_actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.n_members, 3);
    assert_string_equal(b->f.proposed.members[2].address.host, "10.0.0.1"); /* seen from outside */
    free(b);
}

static void test_hint_probes_then_confirms(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    b->now_us += 10;
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_HINT, .epoch = 1});
    assert_string_equal(rig_actions(b), "PROBE:0");
    b->now_us += 10;
    rig_tell(b, 0, rig_master_info(0, 100));
    assert_string_equal(rig_actions(b), "PUBLISH");
    rig_tell(b, 0, rig_master_info(0, 100));
    assert_string_equal(rig_actions(b), "");
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_HINT, .epoch = 0});
    assert_string_equal(rig_actions(b), "PUBLISH"); /* it follows an older epoch */
    free(b);
}

static void test_switched_off_failover_only_reports(void **state)
{
    struct rig *b = rig_watching(3);
    struct topology_instance off;
    (void)state;
    off = b->f.record;
    off.policy.auto_failover = false;
    rig_read_record(b, &off);
    rig_kill_master(b);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_non_null(strstr(b->f.waiting, "auto_failover is off"));
    assert_int_equal(b->f.record.epoch, 1);
    free(b);
}

static void test_silent_member_is_not_waited_for_beyond_the_limit(void **state)
{
    struct rig *b = rig_watching(3);
    (void)state;
    rig_kill_master(b);
    rig_committed(b);
    rig_sealed(b, 1, 100);
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    b->now_us = failover_deadline_us(&b->f);
    rig_step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.2");
    free(b);
}

/* The dump is a golden file; ARCHITECTURE.md shows the same lines. */
static void test_table_dump(void **state)
{
    static char dump[16384];
    size_t at = 0;
    (void)state;
    at += (size_t)snprintf(dump, sizeof(dump),
                           "| row | phase | on | condition | does | next |\n|---|---|---|---|---|---|\n");
    uint32_t before = 0;
    for (uint32_t k = 0; k < failover_table_rows; k++) {
        char line[512];
        assert_true(failover_table[k].number > before); /* in order, unique */
        before = failover_table[k].number;
        failover_row_format(&failover_table[k], line, sizeof(line));
        at += (size_t)snprintf(dump + at, sizeof(dump) - at, "%s\n", line);
        assert_true(at < sizeof(dump));
    }
    golden_compare("failover_table.md", dump, at);
    FILE *file = fopen("ARCHITECTURE.md", "r");
    assert_non_null(file);
    static char document[256 * 1024];
    document[fread(document, 1, sizeof(document) - 1, file)] = '\0';
    fclose(file);
    if (!strstr(document, dump))
        fail_msg("ARCHITECTURE.md does not show tests/golden/failover_table.md as it is");
}

static void test_every_phase_is_reachable(void **state)
{
    (void)state;
    for (int p = 0; p < FAILOVER_PHASES; p++) {
        bool found = p == FAILOVER_IDLE;
        for (uint32_t k = 0; k < failover_table_rows; k++)
            found = found || (failover_table[k].next == (enum failover_phase)p &&
                              failover_table[k].phases != (1u << p));
        if (!found)
            fail_msg("no row leads to %s", failover_phase_name((enum failover_phase)p));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_dead_master_is_replaced),
        cmocka_unit_test(test_replica_with_its_link_up_contradicts),
        cmocka_unit_test(test_dropped_connection_is_no_failover),
        cmocka_unit_test(test_silence_and_refused_login_only_suspect),
        cmocka_unit_test(test_restarted_master_is_not_trusted),
        cmocka_unit_test(test_single_member_is_waited_for_and_taken_back),
        cmocka_unit_test(test_restarted_member_waits_for_one_that_may_have_the_data),
        cmocka_unit_test(test_standby_does_nothing_and_takes_over_half_done_work),
        cmocka_unit_test(test_candidate_that_dies_is_replaced_by_another),
        cmocka_unit_test(test_candidate_that_is_slow_is_waited_for_at_leisure),
        cmocka_unit_test(test_lost_race_reads_the_record_again),
        cmocka_unit_test(test_answers_to_an_earlier_epoch_are_ignored),
        cmocka_unit_test(test_returning_master_is_sealed_recorded_and_replicates),
        cmocka_unit_test(test_master_detached_by_a_seal_that_nobody_saw_is_recorded_too),
        cmocka_unit_test(test_demoted_master_is_replaced),
        cmocka_unit_test(test_resynced_replica_is_registered_again),
        cmocka_unit_test(test_new_replica_is_registered),
        cmocka_unit_test(test_hint_probes_then_confirms),
        cmocka_unit_test(test_switched_off_failover_only_reports),
        cmocka_unit_test(test_silent_member_is_not_waited_for_beyond_the_limit),
        cmocka_unit_test(test_table_dump),
        cmocka_unit_test(test_every_phase_is_reachable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
