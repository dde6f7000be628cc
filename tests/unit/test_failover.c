/* The failover core, step by step: which actions each event leads to, rendered as one line per action. */
#include "controller/core/failover.h"
#include "controller/core/failover_table.h"
#include "tests/lib/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RUN(c)    c c c c c c c c c c
#define RUN_ID(c) RUN(c) RUN(c) RUN(c) RUN(c)

/* One instance of three members, one core, and what the executor would have to do. */
struct bench {
    struct failover f;
    struct failover_update update;
    int64_t now_us;
    int32_t version;
    int64_t revision;
};

static const char *const run_ids[] = {RUN_ID("a"), RUN_ID("b"), RUN_ID("c")};
static const char *const repl_1 = RUN_ID("1");
static const char *const repl_2 = RUN_ID("2");

static struct topology_instance sample(uint32_t n_members)
{
    struct topology_instance i;
    memset(&i, 0, sizeof(i));
    snprintf(i.name, sizeof(i.name), "cart");
    i.port = 6101;
    i.epoch = 1;
    topology_policy_default(&i.policy);
    for (uint32_t k = 0; k < n_members; k++) {
        struct topology_member *m = &i.members[i.n_members++];
        snprintf(m->address.host, sizeof(m->address.host), "10.0.0.%u", k + 1);
        m->address.port = 6379;
        snprintf(m->run_id, sizeof(m->run_id), "%s", run_ids[k]);
    }
    i.master = i.members[0].address;
    struct topology_epoch row = {.epoch = 1};
    snprintf(row.repl_id, sizeof(row.repl_id), "%s", repl_1);
    topology_epoch_append(&i, &row);
    return i;
}

static void step(struct bench *b, struct failover_event event)
{
    event.now_us = b->now_us;
    event.wall_ms = 1700000000000;
    failover_step(&b->f, &event, &b->update);
}

/* "COMMIT SEAL:1 SEAL:2 PUBLISH", reports left out. */
static const char *actions(const struct bench *b)
{
    static char text[512];
    size_t at = 0;
    text[0] = '\0';
    for (uint32_t k = 0; k < b->update.n; k++) {
        const struct failover_action *a = &b->update.actions[k];
        if (a->type == FAILOVER_DO_REPORT)
            continue;
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s", at ? " " : "",
                               failover_action_name(a->type));
        if (a->member >= 0 && a->type != FAILOVER_DO_HISTORY)
            at += (size_t)snprintf(text + at, sizeof(text) - at, ":%d", a->member);
    }
    return text;
}

static void link_up(struct bench *b, int member)
{
    step(b, (struct failover_event){.type = FAILOVER_ON_LINK_UP, .member = member});
}

static void link_down(struct bench *b, int member, int err)
{
    step(b, (struct failover_event){.type = FAILOVER_ON_LINK_DOWN, .member = member, .err = err});
}

static struct info master_info(int member, int64_t offset)
{
    struct info info;
    info_init(&info);
    info.role = INFO_ROLE_MASTER;
    snprintf(info.run_id, sizeof(info.run_id), "%s", run_ids[member]);
    snprintf(info.repl_id, sizeof(info.repl_id), "%s", repl_1);
    info.offset = offset;
    return info;
}

static struct info replica_info(const struct bench *b, int member, int64_t offset, bool up)
{
    struct info info = master_info(member, offset);
    info.role = INFO_ROLE_REPLICA;
    info.master = b->f.record.members[0].address;
    info.master_link_up = up;
    return info;
}

static struct info sealed_info(int member, int64_t offset)
{
    struct info info = master_info(member, offset);
    info.role = INFO_ROLE_REPLICA;
    snprintf(info.master.host, sizeof(info.master.host), "127.0.0.1");
    info.master.port = 1;
    return info;
}

static void tell(struct bench *b, int member, struct info info)
{
    step(b, (struct failover_event){.type = FAILOVER_ON_INFO, .member = member, .info = &info});
}

static void committed(struct bench *b)
{
    step(b, (struct failover_event){
                .type = FAILOVER_ON_COMMITTED, .version = ++b->version, .revision = ++b->revision});
}

static void sealed(struct bench *b, int member, int64_t offset)
{
    struct info info = sealed_info(member, offset);
    step(b, (struct failover_event){
                .type = FAILOVER_ON_SEALED, .member = member, .epoch = b->f.record.epoch, .info = &info});
}

static void promoted(struct bench *b, int member, int64_t offset)
{
    struct info info = master_info(member, offset);
    snprintf(info.repl_id, sizeof(info.repl_id), "%s", repl_2);
    snprintf(info.repl_id2, sizeof(info.repl_id2), "%s", repl_1);
    info.second_offset = offset + 1;
    step(b, (struct failover_event){
                .type = FAILOVER_ON_PROMOTED, .member = member, .epoch = b->f.record.epoch, .info = &info});
}

static void lead(struct bench *b, uint64_t term)
{
    step(b, (struct failover_event){.type = FAILOVER_ON_LEAD, .term = term});
}

static void read_record(struct bench *b, const struct topology_instance *record)
{
    b->revision += 10;
    step(b,
         (struct failover_event){
             .type = FAILOVER_ON_RECORD, .record = record, .version = b->version, .revision = b->revision});
}

/* A leader that watches a healthy instance of n members. */
static struct bench *watching(uint32_t n)
{
    struct bench *b = calloc(1, sizeof(*b));
    struct topology_instance i = sample(n);
    assert_non_null(b);
    failover_init(&b->f);
    b->now_us = 1000000;
    read_record(b, &i);
    assert_int_equal(b->f.phase, FAILOVER_IDLE);
    for (uint32_t k = 0; k < n; k++) {
        link_up(b, (int)k);
        tell(b, (int)k, k == 0 ? master_info(0, 100) : replica_info(b, (int)k, 100, true));
    }
    lead(b, 7);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_string_equal(actions(b), "");
    return b;
}

static void kill_master(struct bench *b)
{
    b->now_us += 1000;
    link_down(b, 0, ERR_CLOSED);
    link_down(b, 0, ERR_REFUSED);
    for (int k = 1; k < (int)b->f.record.n_members; k++)
        tell(b, k, replica_info(b, k, 100, false));
}

static void test_dead_master_is_replaced(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    link_down(b, 0, ERR_CLOSED);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_string_equal(actions(b), "PROBE:0 PROBE:1 PROBE:2");
    link_down(b, 0, ERR_REFUSED);
    assert_string_equal(actions(b), "");
    tell(b, 1, replica_info(b, 1, 140, false));
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM); /* the other witness has not spoken */
    tell(b, 2, replica_info(b, 2, 150, false));
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_string_equal(actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.state, TOPOLOGY_SEALING);
    assert_int_equal(b->f.proposed.epoch, 2);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_DEAD);
    committed(b);
    assert_string_equal(actions(b), "PROBE:0 SEAL:1 SEAL:2 PUBLISH");
    assert_null(topology_route(&b->f.route)); /* a hold */
    sealed(b, 1, 140);
    assert_string_equal(actions(b), "");
    sealed(b, 2, 150);
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3"); /* the larger offset */
    assert_int_equal(b->f.proposed.start_offset, 150);
    committed(b);
    assert_string_equal(actions(b), "PROMOTE:2");
    promoted(b, 2, 150);
    assert_string_equal(actions(b), "PUBLISH REPLICATE:1 COMMIT");
    assert_string_equal(topology_route(&b->f.route)->host, "10.0.0.3");
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_FAILOVER);
    assert_string_equal(b->update.history.from.host, "10.0.0.1");
    committed(b);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_int_equal(b->f.record.state, TOPOLOGY_STABLE);
    assert_string_equal(b->f.record.epochs[1].repl_id, repl_2);
    assert_int_equal(b->f.record.epochs[1].start_offset, 150);
    free(b);
}

static void test_replica_with_its_link_up_contradicts(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    link_down(b, 0, ERR_CLOSED);
    link_down(b, 0, ERR_REFUSED);
    tell(b, 1, replica_info(b, 1, 100, false));
    tell(b, 2, replica_info(b, 2, 100, true));
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    b->now_us = failover_deadline_us(&b->f);
    step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
    assert_string_equal(actions(b), "PROBE:0 PROBE:1 PROBE:2");
    free(b);
}

static void test_dropped_connection_is_no_failover(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    link_down(b, 0, ERR_CLOSED);
    link_up(b, 0);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    tell(b, 0, master_info(0, 120));
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    assert_string_equal(actions(b), "PUBLISH"); /* proxies that doubted may go on */
    assert_int_equal(b->f.record.epoch, 1);
    free(b);
}

static void test_silence_and_refused_login_only_suspect(void **state)
{
    static const int reasons[] = {ERR_TIMEOUT, ERR_UNREACHABLE, ERR_AUTH, ERR_PROTOCOL};
    (void)state;
    for (size_t k = 0; k < sizeof(reasons) / sizeof(reasons[0]); k++) {
        struct bench *b = watching(3);
        link_down(b, 0, reasons[k]);
        tell(b, 1, replica_info(b, 1, 100, false));
        tell(b, 2, replica_info(b, 2, 100, false));
        assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
        for (int tick = 0; tick < 20; tick++) {
            b->now_us = failover_deadline_us(&b->f);
            step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
        }
        assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
        assert_true(strlen(b->f.waiting) > 0); /* and says so */
        free(b);
    }
}

static void test_restarted_master_is_not_trusted(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    link_down(b, 0, ERR_CLOSED);
    link_up(b, 0);
    struct info fresh = master_info(0, 0);
    snprintf(fresh.run_id, sizeof(fresh.run_id), "%s", RUN_ID("d"));
    snprintf(fresh.repl_id, sizeof(fresh.repl_id), "%s", RUN_ID("9"));
    tell(b, 0, fresh);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_RESTARTED);
    committed(b);
    assert_string_equal(actions(b), "SEAL:0 SEAL:1 SEAL:2 PUBLISH");
    struct info seal = sealed_info(0, 999999);
    snprintf(seal.run_id, sizeof(seal.run_id), "%s", RUN_ID("d"));
    step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 0, .epoch = 2, .info = &seal});
    sealed(b, 1, 100);
    sealed(b, 2, 90);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.2");
    free(b);
}

static void test_single_member_is_waited_for_and_taken_back(void **state)
{
    struct bench *b = watching(1);
    (void)state;
    link_down(b, 0, ERR_CLOSED);
    link_down(b, 0, ERR_REFUSED);
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    committed(b);
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_null(topology_route(&b->f.route));
    assert_non_null(strstr(b->f.waiting, "10.0.0.1:6379: not reachable"));
    link_up(b, 0);
    assert_string_equal(actions(b), "SEAL:0");
    struct info back = sealed_info(0, 0);
    snprintf(back.run_id, sizeof(back.run_id), "%s", RUN_ID("d"));
    step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 0, .epoch = 2, .info = &back});
    assert_int_equal(b->f.phase, FAILOVER_CHOICE); /* nobody else could have better data */
    assert_string_equal(b->f.proposed.members[0].run_id, RUN_ID("d"));
    free(b);
}

static void test_restarted_member_waits_for_one_that_may_have_the_data(void **state)
{
    struct bench *b = watching(2);
    (void)state;
    link_down(b, 1, ERR_CLOSED);
    link_down(b, 1, ERR_REFUSED);
    assert_int_equal(b->f.phase, FAILOVER_WATCH); /* a lost replica is no trigger */
    link_down(b, 0, ERR_CLOSED);
    link_down(b, 0, ERR_REFUSED);
    committed(b);
    link_up(b, 0);
    struct info back = sealed_info(0, 0);
    snprintf(back.run_id, sizeof(back.run_id), "%s", RUN_ID("d"));
    step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 0, .epoch = 2, .info = &back});
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_non_null(strstr(b->f.waiting, "10.0.0.1:6379: restarted"));
    assert_non_null(strstr(b->f.waiting, "10.0.0.2:6379: not reachable"));
    link_up(b, 1);
    sealed(b, 1, 100);
    assert_int_equal(b->f.phase, FAILOVER_CHOICE);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.2");
    free(b);
}

static void test_standby_does_nothing_and_takes_over_half_done_work(void **state)
{
    struct bench *b = watching(3);
    struct topology_instance half;
    (void)state;
    lead(b, 0);
    assert_int_equal(b->f.phase, FAILOVER_IDLE);
    kill_master(b);
    assert_int_equal(b->update.n, 0);
    half = b->f.record; /* the dead leader had committed its choice */
    half.state = TOPOLOGY_PROMOTING;
    half.epoch = 2;
    memset(&half.master, 0, sizeof(half.master));
    half.candidate = half.members[1].address;
    half.start_offset = 100;
    struct topology_epoch row = {.epoch = 2, .start_offset = 100};
    topology_epoch_append(&half, &row);
    read_record(b, &half);
    assert_int_equal(b->f.phase, FAILOVER_IDLE);
    lead(b, 8);
    assert_int_equal(b->f.phase, FAILOVER_PROMOTE);
    assert_string_equal(actions(b), "PROMOTE:1");
    promoted(b, 1, 100);
    assert_string_equal(actions(b), "PUBLISH REPLICATE:2 COMMIT");
    free(b);
}

static void test_candidate_that_dies_is_replaced_by_another(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    kill_master(b);
    committed(b);
    sealed(b, 1, 100);
    sealed(b, 2, 90);
    committed(b);
    assert_string_equal(actions(b), "PROMOTE:1");
    step(b,
         (struct failover_event){.type = FAILOVER_ON_PROMOTED, .member = 1, .epoch = 2, .err = ERR_CLOSED});
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.epoch, 3);
    assert_int_equal(b->f.proposed.state, TOPOLOGY_SEALING);
    link_down(b, 1, ERR_CLOSED);
    link_down(b, 1, ERR_REFUSED);
    committed(b);
    assert_string_equal(actions(b), "PROBE:0 PROBE:1 SEAL:2 PUBLISH");
    sealed(b, 2, 90);
    assert_string_equal(b->f.proposed.candidate.host, "10.0.0.3");
    free(b);
}

static void test_lost_race_reads_the_record_again(void **state)
{
    struct bench *b = watching(3);
    struct topology_instance other;
    (void)state;
    kill_master(b);
    other = b->f.proposed; /* another leader did the same */
    step(b, (struct failover_event){.type = FAILOVER_ON_COMMIT_FAILED, .err = ERR_BAD_VERSION});
    assert_int_equal(b->f.phase, FAILOVER_RELOAD);
    assert_string_equal(actions(b), "RELOAD");
    read_record(b, &other);
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    assert_string_equal(actions(b), "PROBE:0 SEAL:1 SEAL:2 PUBLISH");
    free(b);
}

static void test_answers_to_an_earlier_epoch_are_ignored(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    kill_master(b);
    committed(b);
    struct info info = sealed_info(1, 100);
    step(b, (struct failover_event){.type = FAILOVER_ON_SEALED, .member = 1, .epoch = 1, .info = &info});
    assert_false(b->f.members[1].sealed);
    step(b, (struct failover_event){.type = FAILOVER_ON_PROMOTED, .member = 1, .epoch = 1, .info = &info});
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    free(b);
}

static void test_returning_master_is_sealed_recorded_and_replicates(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    kill_master(b);
    committed(b);
    sealed(b, 1, 100);
    sealed(b, 2, 90);
    committed(b);
    promoted(b, 1, 100);
    committed(b);
    b->now_us += 5000000;
    link_up(b, 0);
    tell(b, 0, master_info(0, 130)); /* the same process was cut off and went on writing */
    assert_string_equal(actions(b), "SEAL:0");
    sealed(b, 0, 130);
    assert_string_equal(actions(b), "HISTORY REPLICATE:0");
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_REJOINED);
    assert_int_equal(b->update.history.lost_bytes, 30);
    free(b);
}

static void test_demoted_master_is_replaced(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    tell(b, 0, sealed_info(0, 100)); /* a deposed leader's seal arrived late */
    assert_int_equal(b->f.phase, FAILOVER_INTENT);
    assert_int_equal(b->f.proposed.failover.verdict, TOPOLOGY_VERDICT_DEMOTED);
    free(b);
}

static void test_resynced_replica_is_registered_again(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    struct info back = replica_info(b, 2, 120, true);
    snprintf(back.run_id, sizeof(back.run_id), "%s", RUN_ID("e"));
    tell(b, 2, back);
    assert_int_equal(b->f.phase, FAILOVER_REPAIR);
    assert_string_equal(b->f.proposed.members[2].run_id, RUN_ID("e"));
    assert_int_equal(b->update.history.kind, TOPOLOGY_HISTORY_MEMBER);
    committed(b);
    assert_int_equal(b->f.phase, FAILOVER_WATCH);
    free(b);
}

static void test_new_replica_is_registered(void **state)
{
    struct bench *b = watching(2);
    (void)state;
    struct info info = master_info(0, 100);
    info.n_replicas = 1;
    info.replicas[0].online = true;
    snprintf(info.replicas[0].address.host, sizeof(info.replicas[0].address.host), "127.0.0.1");
    info.replicas[0].address.port = 7000;
    tell(b, 0, info);
    assert_string_equal(actions(b), "COMMIT");
    assert_int_equal(b->f.proposed.n_members, 3);
    assert_string_equal(b->f.proposed.members[2].address.host, "10.0.0.1"); /* seen from outside */
    free(b);
}

static void test_hint_probes_then_confirms(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    b->now_us += 10;
    step(b, (struct failover_event){.type = FAILOVER_ON_HINT, .epoch = 1});
    assert_string_equal(actions(b), "PROBE:0");
    b->now_us += 10;
    tell(b, 0, master_info(0, 100));
    assert_string_equal(actions(b), "PUBLISH");
    tell(b, 0, master_info(0, 100));
    assert_string_equal(actions(b), "");
    step(b, (struct failover_event){.type = FAILOVER_ON_HINT, .epoch = 0});
    assert_string_equal(actions(b), "PUBLISH"); /* it follows an older epoch */
    free(b);
}

static void test_switched_off_failover_only_reports(void **state)
{
    struct bench *b = watching(3);
    struct topology_instance off;
    (void)state;
    off = b->f.record;
    off.policy.auto_failover = false;
    read_record(b, &off);
    kill_master(b);
    assert_int_equal(b->f.phase, FAILOVER_CONFIRM);
    assert_non_null(strstr(b->f.waiting, "auto_failover is off"));
    assert_int_equal(b->f.record.epoch, 1);
    free(b);
}

static void test_silent_member_is_not_waited_for_beyond_the_limit(void **state)
{
    struct bench *b = watching(3);
    (void)state;
    kill_master(b);
    committed(b);
    sealed(b, 1, 100);
    assert_int_equal(b->f.phase, FAILOVER_SEAL);
    b->now_us = failover_deadline_us(&b->f);
    step(b, (struct failover_event){.type = FAILOVER_ON_TICK});
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
        cmocka_unit_test(test_lost_race_reads_the_record_again),
        cmocka_unit_test(test_answers_to_an_earlier_epoch_are_ignored),
        cmocka_unit_test(test_returning_master_is_sealed_recorded_and_replicates),
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
