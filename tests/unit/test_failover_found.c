/* What the simulator found in the failover core: each history once more, by hand and short. */
#include "controller/core/failover.h"
#include "controller/core/select.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEN(c) c c c c c c c c c c
#define ID(c)  TEN(c) TEN(c) TEN(c) TEN(c)

static const char *const run_ids[] = {ID("a"), ID("b")};

/* A master and a replica, STABLE in epoch 2. */
static struct topology_instance sample(void)
{
    struct topology_instance i;
    memset(&i, 0, sizeof(i));
    snprintf(i.name, sizeof(i.name), "cart");
    i.port = 6101;
    i.epoch = 2;
    topology_policy_default(&i.policy);
    for (uint32_t k = 0; k < 2; k++) {
        struct topology_member *m = &i.members[i.n_members++];
        snprintf(m->address.host, sizeof(m->address.host), "10.0.0.%u", k + 1);
        m->address.port = 6379;
        snprintf(m->run_id, sizeof(m->run_id), "%s", run_ids[k]);
    }
    i.master = i.members[0].address;
    struct topology_epoch row = {.epoch = 2, .repl_id = ID("2"), .start_offset = 50};
    topology_epoch_append(&i, &row);
    return i;
}

static struct info info_of(int member, enum info_role role, const char *repl_id, int64_t offset)
{
    struct info info;
    info_init(&info);
    info.role = role;
    snprintf(info.run_id, sizeof(info.run_id), "%s", run_ids[member]);
    snprintf(info.repl_id, sizeof(info.repl_id), "%s", repl_id);
    info.offset = offset;
    return info;
}

static enum topology_verdict judge(const struct topology_instance *i, const struct health_member *members,
                                   int64_t since_us, bool *suspect)
{
    struct health_judgement j;
    static const struct health_votes no_votes;
    static const struct health_trust trusted = {.n_controllers = 1};
    health_judge(i, members, &no_votes, &trusted, since_us, since_us, &j);
    *suspect = j.suspect;
    return j.verdict;
}

/* A new leader had last asked the master while it was still sealed, before another leader promoted it. */
static void test_answer_from_before_the_promotion_proves_nothing(void **state)
{
    struct topology_instance i = sample();
    struct health_member members[2];
    bool suspect = false;
    (void)state;
    memset(members, 0, sizeof(members));
    members[0] = (struct health_member){.link = HEALTH_LINK_UP,
                                        .info_known = true,
                                        .info_at_us = 1000,
                                        .info = info_of(0, INFO_ROLE_REPLICA, ID("2"), 60)};
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_NONE);
    assert_true(suspect);
    members[0].info_at_us = 2000; /* asked again: still a replica, and in the promotion's own history */
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_DEMOTED);
    /* It was on its way when the promotion gave the history its new name. */
    members[0].info = info_of(0, INFO_ROLE_REPLICA, ID("1"), 50);
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_NONE);
    members[0].info_at_us = 2000 + 1000000; /* nothing is on its way for so long */
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_DEMOTED);
}

static void test_run_id_heard_before_the_suspicion_proves_nothing(void **state)
{
    struct topology_instance i = sample();
    struct health_member members[2];
    bool suspect = false;
    (void)state;
    memset(members, 0, sizeof(members));
    members[0] = (struct health_member){.link = HEALTH_LINK_UP,
                                        .info_known = true,
                                        .info_at_us = 1000,
                                        .info = info_of(1, INFO_ROLE_MASTER, ID("2"), 60)};
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_NONE);
    assert_true(suspect);
    members[0].info_at_us = 2000;
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_RESTARTED);
}

static void test_refusal_from_before_the_suspicion_proves_nothing(void **state)
{
    struct topology_instance i = sample();
    struct health_member members[2];
    bool suspect = false;
    (void)state;
    memset(members, 0, sizeof(members));
    members[0] = (struct health_member){.link = HEALTH_LINK_REFUSED, .tried_at_us = 1000};
    members[1] = (struct health_member){.link = HEALTH_LINK_REFUSED, .tried_at_us = 1000};
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_NONE);
    assert_true(suspect);
    members[0].tried_at_us = 2000;
    assert_int_equal(judge(&i, members, 2000, &suspect), TOPOLOGY_VERDICT_DEAD);
}

/* Everybody else restarted; the last master kept its process and data, but Redis gave its history a new id
 * when the first replica came. An old copy with a known id must not win over it. */
static void test_last_master_wins_the_last_resort(void **state)
{
    struct topology_instance i = sample();
    struct select_member members[2];
    struct select_result result;
    (void)state;
    i.state = TOPOLOGY_SEALING;
    i.failover.old_master = i.master;
    memset(&i.master, 0, sizeof(i.master));
    for (int k = 0; k < 2; k++)
        members[k] = (struct select_member){.sealed = true};
    members[0].info = info_of(0, INFO_ROLE_REPLICA, ID("9"), 700);
    members[1].info = info_of(1, INFO_ROLE_REPLICA, ID("2"), 60);
    memset(members[1].info.run_id, 'e', TOPOLOGY_RUN_ID_LEN);
    select_choose(&i, members, NULL, &result);
    assert_true(result.last_resort);
    assert_int_equal(result.chosen, 0);
}

static void step(struct failover *f, struct failover_event event, struct failover_update *update)
{
    event.now_us = 5000000;
    failover_step(f, &event, update);
}

/* The master came back empty at once; its replica had begun to synchronize with it when it was sealed. Its
 * own data is whole: without it nobody could ever be promoted. */
static void test_replica_sealed_in_mid_synchronization_is_promoted(void **state)
{
    struct failover *f = calloc(1, sizeof(*f));
    struct failover_update *update = calloc(1, sizeof(*update));
    struct topology_instance i = sample();
    (void)state;
    assert_true(f && update);
    i.state = TOPOLOGY_SEALING;
    i.failover.old_master = i.master;
    memset(&i.master, 0, sizeof(i.master));
    failover_init(f);
    step(f, (struct failover_event){.type = FAILOVER_ON_RECORD, .record = &i, .revision = 10}, update);
    struct info syncing = info_of(1, INFO_ROLE_REPLICA, ID("2"), 60),
                empty = info_of(0, INFO_ROLE_MASTER, ID("7"), 0);
    syncing.syncing = true;
    memset(empty.run_id, 'e', TOPOLOGY_RUN_ID_LEN);
    const struct info *infos[] = {&empty, &syncing};
    for (int k = 0; k < 2; k++) {
        step(f, (struct failover_event){.type = FAILOVER_ON_LINK_UP, .member = k}, update);
        step(f, (struct failover_event){.type = FAILOVER_ON_INFO, .member = k, .info = infos[k]}, update);
    }
    step(f, (struct failover_event){.type = FAILOVER_ON_LEAD, .term = 3}, update);
    assert_int_equal(f->phase, FAILOVER_SEAL);
    syncing.syncing = false; /* the seal ended it */
    for (int k = 0; k < 2; k++)
        step(f,
             (struct failover_event){.type = FAILOVER_ON_SEALED, .member = k, .epoch = 2, .info = infos[k]},
             update);
    assert_int_equal(f->phase, FAILOVER_CHOICE);
    assert_string_equal(f->proposed.candidate.host, "10.0.0.2");
    free(update);
    free(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_from_before_the_promotion_proves_nothing),
        cmocka_unit_test(test_run_id_heard_before_the_suspicion_proves_nothing),
        cmocka_unit_test(test_refusal_from_before_the_suspicion_proves_nothing),
        cmocka_unit_test(test_last_master_wins_the_last_resort),
        cmocka_unit_test(test_replica_sealed_in_mid_synchronization_is_promoted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
