#include "controller/core/failover.h"
#include "controller/core/view.h"
#include "tests/lib/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define RUN_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define RUN_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define RUN_C "cccccccccccccccccccccccccccccccccccccccc"
#define REPL  "0123456789abcdef0123456789abcdef01234567"

static struct topology_address address(const char *words)
{
    struct topology_address a;
    assert_int_equal(topology_address_parse(words, &a), 0);
    return a;
}

static const int64_t now_us = 900000000, wall_ms = 1795384700000;

/* A failover core's memory of three members: after a failover to .1, with .2 not yet back and .3 following.
 */
static void observe(struct failover *f)
{
    failover_init(f);
    f->phase = FAILOVER_WATCH;
    f->term = 77;
    f->has_record = true;
    f->revision = 4294967400;
    struct topology_instance *i = &f->record;
    *i = (struct topology_instance){.name = "cart", .port = 6101, .epoch = 3, .n_members = 3, .n_epochs = 1};
    topology_policy_default(&i->policy);
    i->policy.reads = TOPOLOGY_READS_REPLICA;
    i->members[0] = (struct topology_member){.address = address("10.0.0.1:6379"), .run_id = RUN_A};
    i->members[1] = (struct topology_member){.address = address("10.0.0.2:6379"), .run_id = RUN_B};
    i->members[2] = (struct topology_member){
        .address = address("10.0.0.3:6379"), .run_id = RUN_C, .priority = TOPOLOGY_PREFER, .zone = "eu-1c"};
    i->members[2].serves_reads = true;
    i->master = i->members[0].address;
    i->epochs[0] = (struct topology_epoch){.epoch = 3, .repl_id = REPL, .start_offset = 1000};
    strcpy(i->auth.user, "mr");
    strcpy(i->auth.password, "sesame");
    i->failover = (struct topology_failover){
        .at_ms = 1795384683412,
        .verdict = TOPOLOGY_VERDICT_DEAD,
        .epoch = 3,
        .old_master = i->members[1].address,
        .evidence = "connection closed, reconnect refused",
        .timeline = {.detect_us = 812,
                     .commit_us = 2410,
                     .seal_us = 301,
                     .fence_us = -1,
                     .promote_us = 245,
                     .publish_us = 37},
    };
    for (int k = 0; k < 3; k++) {
        f->health[k].link = HEALTH_LINK_UP;
        f->health[k].info_known = true;
        info_init(&f->health[k].info);
        strcpy(f->health[k].info.repl_id, REPL);
        strcpy(f->health[k].info.version, "7.0.15");
        memcpy(f->health[k].info.run_id, i->members[k].run_id, sizeof i->members[k].run_id);
    }
    f->health[0].info.role = INFO_ROLE_MASTER;
    f->health[0].info.offset = 5000;
    f->health[1].link = HEALTH_LINK_REFUSED;
    f->health[1].info_known = false;
    f->health[2].info.role = INFO_ROLE_REPLICA;
    f->health[2].info.offset = 4800;
    f->health[2].info.master = i->master;
    f->health[2].info.master_link_up = true;
}

static struct view_instance view_of(const struct failover *f)
{
    return (struct view_instance){.record = &f->record,
                                  .failover = f,
                                  .revision = f->revision,
                                  .acked = VIEW_UNKNOWN,
                                  .slowest_us = VIEW_UNKNOWN,
                                  .now_us = now_us,
                                  .wall_ms = wall_ms,
                                  .readiness =
                                      f->record.state == TOPOLOGY_STABLE ? VIEW_READY : VIEW_NOT_READY,
                                  .next = f->record.state == TOPOLOGY_STABLE ? 2 : -1,
                                  .verdict = "NOT READY: a failover is under way"};
}

static struct view_topology topology_of(const struct view_instance *v)
{
    return (struct view_topology){.revision = 4294967401,
                                  .leader = "ctl-1",
                                  .source = "ctl-2",
                                  .zookeeper_is_up = true,
                                  .proxies = 48,
                                  .instances = v,
                                  .n_instances = 1};
}

static void compare(const char *golden, char *text, size_t len)
{
    assert_non_null(text);
    assert_int_equal(strlen(text), len);
    assert_null(strstr(text, "sesame"));
    golden_compare(golden, text, len);
    free(text);
}

/* The members of the only instance of a topology, parsed; *root is to be freed. */
static json_t *members_of(const struct failover *f, json_t **root)
{
    struct view_instance v = view_of(f);
    struct view_topology t = topology_of(&v);
    size_t len;
    char *text = view_topology(&t, &len);
    assert_non_null(text);
    *root = json_loadb(text, len, 0, NULL);
    assert_non_null(*root);
    free(text);
    return json_object_get(json_array_get(json_object_get(*root, "instances"), 0), "members");
}

static void expect_member(const struct failover *f, int member, const char *role, const char *state,
                          const char *note)
{
    json_t *root;
    json_t *object = json_array_get(members_of(f, &root), (size_t)member);
    assert_string_equal(json_string_value(json_object_get(object, "role")), role);
    assert_string_equal(json_string_value(json_object_get(object, "state")), state);
    const char *words = json_string_value(json_object_get(object, "note"));
    if (note == NULL ? words != NULL : words == NULL || strstr(words, note) == NULL)
        fail_msg("member %d: note \"%s\", wanted \"%s\"", member, words ? words : "", note ? note : "");
    json_decref(root);
}

static void test_topology(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    struct view_instance v = view_of(&f);
    v.acked = 47;
    v.slowest_us = 11204;
    v.missing = "host-7";
    struct view_topology t = topology_of(&v);
    const struct view_set_aside broken = {.name = "basket", .why = "members: has 17 elements"};
    t.set_aside = &broken;
    t.n_set_aside = 1;
    size_t len;
    char *text = view_topology(&t, &len);
    compare("view_topology.json", text, len);
    text = view_instances(&t, &len);
    compare("view_instances.json", text, len);
    text = view_instance(&v, 48, &len);
    compare("view_instance.json", text, len);
}

static void test_empty_and_leaderless(void **state)
{
    (void)state;
    struct view_topology t = {.source = "ctl-2", .proxies = VIEW_UNKNOWN};
    size_t len;
    char *text = view_topology(&t, &len);
    assert_string_equal(text, "{\"revision\":0,\"leader\":null,\"source\":\"ctl-2\",\"zookeeper\":\"down\","
                              "\"instances\":[],\"set_aside\":[]}");
    free(text);
    text = view_instances(&t, &len);
    assert_string_equal(text, "{\"instances\":[]}");
    free(text);
}

/* Straight from ZooKeeper: nobody asked the members. */
static void test_record_alone(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    struct view_instance v = view_of(&f);
    v.failover = NULL;
    v.readiness = VIEW_READINESS_UNKNOWN;
    struct view_topology t = topology_of(&v);
    t.source = "zookeeper";
    size_t len;
    char *text = view_topology(&t, &len);
    compare("view_topology_zookeeper.json", text, len);
    text = view_instance(&v, VIEW_UNKNOWN, &len);
    assert_non_null(text);
    assert_null(strstr(text, "observed"));
    free(text);
}

static void test_promoting(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    f.phase = FAILOVER_PROMOTE;
    f.record.state = TOPOLOGY_PROMOTING;
    f.record.epoch = f.record.failover.epoch = 4;
    f.record.master.port = 0;
    f.record.candidate = f.record.members[2].address;
    f.record.start_offset = 4800;
    f.record.failover.old_master = f.record.members[0].address;
    f.record.failover.timeline = (struct topology_timeline){900, -1, -1, -1, -1, -1};
    f.health[0].link = HEALTH_LINK_REFUSED;
    f.members[2].sealed = true;
    strcpy(f.waiting, "10.0.0.2:6379 may hold newer data");
    struct view_instance v = view_of(&f);
    struct view_topology t = topology_of(&v);
    size_t len;
    char *text = view_topology(&t, &len);
    compare("view_topology_promoting.json", text, len);
}

static void test_members_are_named_for_what_they_are(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    expect_member(&f, 0, "master", "up", NULL);
    expect_member(&f, 1, "ousted", "down", "link refused");
    expect_member(&f, 2, "replica", "up", NULL);

    /* the old master is back, as a master of its own, then as a replica */
    f.health[1].link = HEALTH_LINK_UP;
    f.health[1].info_known = true;
    f.health[1].info.role = INFO_ROLE_MASTER;
    expect_member(&f, 1, "ousted", "up", "calls itself a master");
    f.health[1].info.role = INFO_ROLE_REPLICA;
    f.health[1].info.master = f.record.master;
    expect_member(&f, 1, "replica", "up", NULL);
    f.health[1].info.syncing = true;
    expect_member(&f, 1, "replica", "up", "full synchronization");

    f.phase = FAILOVER_CONFIRM;
    f.health[0].link = HEALTH_LINK_CLOSED;
    expect_member(&f, 0, "master", "suspect", "link closed");
    f.health[0].link = HEALTH_LINK_UP;
    expect_member(&f, 0, "master", "suspect", NULL);
    f.phase = FAILOVER_WATCH;

    f.health[2].link = HEALTH_LINK_DENIED;
    expect_member(&f, 2, "replica", "suspect", "check user and password");
    f.health[2].link = HEALTH_LINK_SILENT;
    expect_member(&f, 2, "replica", "down", "link silent");
    f.health[2].link = HEALTH_LINK_UP;
    strcpy(f.health[2].info.run_id, RUN_A);
    expect_member(&f, 2, "replica", "up", "restarted");
    strcpy(f.health[2].info.run_id, RUN_C);
    f.health[2].info.loading = true;
    expect_member(&f, 2, "replica", "up", "loading");
    f.health[2].info.loading = false;
    f.health[2].info.master = f.record.members[1].address;
    expect_member(&f, 2, "replica", "up", "follows 10.0.0.2:6379");
}

/* What a member answers, or that it does not, is seen and said. */
static void test_what_members_say(void **state)
{
    (void)state;
    static struct failover f;
    static const struct {
        enum health_said said;
        const char *note;
    } cases[] = {
        {HEALTH_SAID_BUSY, "BUSY"},       {HEALTH_SAID_MISCONF, "MISCONF"},
        {HEALTH_SAID_OOM, "OOM"},         {HEALTH_SAID_MAXCLIENTS, "maxclients"},
        {HEALTH_SAID_NOAUTH, "password"}, {HEALTH_SAID_MASTERDOWN, "MASTERDOWN"},
        {HEALTH_SAID_OTHER, "error"},
    };
    json_t *root;
    observe(&f);
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        f.health[0].said = cases[k].said;
        expect_member(&f, 0, "master", "up", cases[k].note);
        const json_t *member = json_array_get(members_of(&f, &root), 0);
        assert_string_equal(json_string_value(json_object_get(member, "said")),
                            health_said_name(cases[k].said));
        json_decref(root);
    }
    f.health[0].said = HEALTH_SAID_OK;
    f.health[0].mute_us = now_us - 2340000;
    expect_member(&f, 0, "master", "suspect", "silent for 2.3 s");
    f.health[0].knock = HEALTH_KNOCK_ACCEPTED;
    expect_member(&f, 0, "master", "suspect", "takes connections");
    f.health[0].knock = HEALTH_KNOCK_NO_ANSWER;
    expect_member(&f, 0, "master", "suspect", "does not answer");
    const json_t *member = json_array_get(members_of(&f, &root), 0);
    assert_int_equal(json_integer_value(json_object_get(member, "mute_ms")), 2340);
    json_decref(root);
}

/* The field of the only instance of a topology; *root is to be freed. */
static json_t *field_of(struct view_instance *v, const char *key, json_t **root)
{
    struct view_topology t = topology_of(v);
    size_t len;
    char *text = view_topology(&t, &len);
    assert_non_null(text);
    *root = json_loadb(text, len, 0, NULL);
    assert_non_null(*root);
    free(text);
    return json_object_get(json_array_get(json_object_get(*root, "instances"), 0), key);
}

static void expect_int(struct view_instance *v, const char *key, const char *inner, int64_t wanted)
{
    json_t *root;
    const json_t *value = json_object_get(field_of(v, key, &root), inner);
    assert_true(json_is_integer(value));
    assert_int_equal(json_integer_value(value), wanted);
    json_decref(root);
}

static void expect_none(struct view_instance *v, const char *key)
{
    json_t *root;
    assert_null(field_of(v, key, &root));
    json_decref(root);
}

static void test_pause_and_cooldown_are_shown_while_they_last(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    struct view_instance v = view_of(&f);
    expect_none(&v, "pause");
    expect_none(&v, "cooldown");
    f.record.pause = (struct topology_pause){
        .owner = "ann@ops", .reason = "new kernel", .since_ms = wall_ms - 1000, .until_ms = wall_ms + 1};
    expect_int(&v, "pause", "until", wall_ms + 1);
    f.record.pause.until_ms = wall_ms;
    expect_none(&v, "pause");
    v.wall_ms = 0; /* no clock: nothing is over */
    expect_int(&v, "pause", "until", wall_ms);
    v.wall_ms = wall_ms;
    f.record.pause.until_ms = 0;
    expect_int(&v, "pause", "since", wall_ms - 1000);

    f.record.failover.at_ms = wall_ms - 60000;
    f.record.cooldown.strikes = 1;
    expect_none(&v, "cooldown");
    f.record.cooldown.strikes = 2;
    expect_int(&v, "cooldown", "until", wall_ms + 60000);
    expect_int(&v, "cooldown", "strikes", 2);
    f.record.cooldown.strikes = UINT32_MAX;
    expect_int(&v, "cooldown", "until", wall_ms - 60000 + TOPOLOGY_COOLDOWN_MAX_MS);
    f.record.policy.cooldown_ms = 0;
    expect_none(&v, "cooldown");
}

static void test_candidates_are_counted(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    struct view_instance v = view_of(&f);
    expect_int(&v, "readiness", "candidates", 1);
    f.health[2].mute_us = 1;
    expect_int(&v, "readiness", "candidates", 0);
    f.health[2].mute_us = 0;
    f.record.members[2].priority = TOPOLOGY_MUST_NOT;
    expect_int(&v, "readiness", "candidates", 0);
}

/* Paused, cooling down, all instances in maintenance, and a failover that would not work. */
static void test_restrained(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    f.health[2].mute_us = now_us - 1700000;
    f.health[2].knock = HEALTH_KNOCK_ACCEPTED;
    f.health[0].said = HEALTH_SAID_MISCONF;
    f.record.cooldown.strikes = 2;
    f.record.cooldown.bypassed = true;
    f.record.policy.auto_failover = false;
    f.record.pause = (struct topology_pause){
        .owner = "ann@ops-1", .reason = "kernel upgrade of rack 4", .since_ms = wall_ms - 9000};
    struct view_instance v = view_of(&f);
    v.readiness = VIEW_NOT_READY;
    v.next = -1;
    strcpy(v.verdict, "NOT READY: it is paused by ann@ops-1 and no replica answers; start 10.0.0.2:6379");
    v.acked = 48;
    v.slowest_us = 2041;
    struct view_topology t = topology_of(&v);
    const struct topology_pause all = {
        .owner = "joe@ops-2", .reason = "network", .since_ms = wall_ms - 1000, .until_ms = wall_ms + 7200000};
    t.pause = &all;
    t.wall_ms = wall_ms;
    size_t len;
    char *text = view_topology(&t, &len);
    compare("view_topology_restrained.json", text, len);
}

static void test_plan(void **state)
{
    (void)state;
    static struct failover f;
    static struct failover_plan plan;
    observe(&f);
    plan = (struct failover_plan){.ready = true,
                                  .target = 2,
                                  .n_members = 3,
                                  .n_reachable = 2,
                                  .n_countable = 2,
                                  .n_needed = 1,
                                  .n_have = 1,
                                  .n_lines = 2};
    strcpy(plan.verdict, "READY: 10.0.0.3:6379 would become master");
    strcpy(plan.lines[0], "10.0.0.3:6379 has epoch 3 up to 4800, 200 bytes behind the master");
    strcpy(plan.lines[1], "10.0.0.2:6379 said \xff and does not count: link refused");
    size_t len;
    char *text = view_plan(&f.record, &plan, NULL, &len);
    compare("view_plan.json", text, len);
    plan.ready = false;
    plan.target = -1;
    strcpy(plan.verdict, "NOT READY: 10.0.0.2:6379 may hold newer data; start it, or --allow-data-loss");
    text = view_plan(&f.record, &plan, "refused", &len);
    compare("view_plan_refused.json", text, len);
}

static void test_a_replica_is_never_ahead(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    f.health[2].info.offset = 6000;
    json_t *root;
    json_t *object = json_array_get(members_of(&f, &root), 2);
    assert_int_equal(json_integer_value(json_object_get(object, "lag_bytes")), 0);
    assert_int_equal(json_integer_value(json_object_get(object, "offset")), 6000);
    json_decref(root);
    f.health[0].info_known = false;
    object = json_array_get(members_of(&f, &root), 2);
    assert_true(json_is_null(json_object_get(object, "lag_bytes")));
    json_decref(root);
}

static void test_hostile_words_are_shown_as_text(void **state)
{
    (void)state;
    static struct failover f;
    observe(&f);
    strcpy(f.health[0].info.version, "\xff\"}]");
    strcpy(f.waiting, "said \xc3");
    struct view_instance v = view_of(&f);
    size_t len;
    char *text = view_instance(&v, 1, &len);
    assert_non_null(text);
    json_t *root = json_loadb(text, len, 0, NULL);
    assert_non_null(root);
    assert_string_equal(json_string_value(json_object_get(root, "waiting")), "said ?");
    json_decref(root);
    free(text);
}

static void test_history(void **state)
{
    (void)state;
    const struct topology_history failover = {
        .kind = TOPOLOGY_HISTORY_FAILOVER,
        .at_ms = 1795384683412,
        .epoch = 3,
        .term = 77,
        .row = 14,
        .from = address("10.0.0.2:6379"),
        .to = address("10.0.0.1:6379"),
        .verdict = TOPOLOGY_VERDICT_DEAD,
        .timeline = {812, 2410, 301, -1, 245, -1},
        .evidence = "connection closed, reconnect refused",
    };
    const struct topology_history rejoined = {.kind = TOPOLOGY_HISTORY_REJOINED,
                                              .at_ms = 1795384699000,
                                              .epoch = 3,
                                              .term = 77,
                                              .row = 30,
                                              .from = failover.from,
                                              .to = failover.to,
                                              .lost_bytes = 214};
    struct topology_history switchover = failover, forced = failover;
    switchover.verdict = TOPOLOGY_VERDICT_PLANNED;
    switchover.timeline.fence_us = 498; /* of a fenced instance: one span more, and all are known */
    switchover.timeline.publish_us = 37;
    strcpy(switchover.evidence, "mrctl switchover by ann@ops-1");
    forced.verdict = TOPOLOGY_VERDICT_MANUAL;
    strcpy(forced.evidence, "mrctl failover by ann@ops-1");
    const struct topology_history rollback = {.kind = TOPOLOGY_HISTORY_ROLLBACK,
                                              .at_ms = 1795384700000,
                                              .epoch = 3,
                                              .term = 77,
                                              .row = 96,
                                              .from = failover.from,
                                              .to = failover.to,
                                              .evidence = "host-7 did not say that it holds"};
    const struct topology_history policy = {.kind = TOPOLOGY_HISTORY_POLICY,
                                            .at_ms = 1795384701000,
                                            .epoch = 3,
                                            .term = 77,
                                            .row = 97,
                                            .evidence = "cooldown_ms 60000 → 5000 by ann@ops-1"};
    const struct topology_history degraded = {.kind = TOPOLOGY_HISTORY_DEGRADED,
                                              .at_ms = 1795384702000,
                                              .epoch = 3,
                                              .term = 77,
                                              .row = 98,
                                              .from = failover.to,
                                              .evidence = "MISCONF: it can't save and refuses writes"};
    const struct view_history entries[] = {{"cart", &failover}, {"cart", &rejoined}, {"cart", &switchover},
                                           {"cart", &forced},   {"cart", &rollback}, {"cart", &policy},
                                           {"cart", &degraded}};
    size_t len;
    char *text = view_history(entries, sizeof entries / sizeof entries[0], &len);
    compare("view_history.json", text, len);
}

static void test_lists(void **state)
{
    (void)state;
    size_t len;
    const struct topology_controller c1 = {.id = "ctl-1",
                                           .host = "10.0.0.7",
                                           .pub_port = 7701,
                                           .ingest_port = 7702,
                                           .vote_port = 7703,
                                           .http_port = 7700,
                                           .version = "0.1.0",
                                           .started_ms = 1795384000000};
    struct topology_controller c2 = c1;
    strcpy(c2.id, "ctl-2");
    strcpy(c2.host, "fd00::8");
    const struct view_controller controllers[] = {{&c1, true}, {&c2, false}};
    char *text = view_controllers(controllers, 2, &len);
    compare("view_controllers.json", text, len);

    const struct topology_proxy p = {
        .id = "host-17", .version = "0.1.0", .bind = "127.0.0.1", .threads = 2, .started_ms = 1795384000001};
    struct topology_proxy q = p;
    strcpy(q.id, "host-18");
    strcpy(q.http, "127.0.0.1:7710");
    const struct view_proxy proxies[] = {{&p, 1}, {&q, VIEW_UNKNOWN}};
    text = view_proxies(proxies, 2, &len);
    compare("view_proxies.json", text, len);
    text = view_proxies(NULL, 0, &len);
    assert_string_equal(text, "{\"proxies\":[]}");
    free(text);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topology),
        cmocka_unit_test(test_empty_and_leaderless),
        cmocka_unit_test(test_record_alone),
        cmocka_unit_test(test_promoting),
        cmocka_unit_test(test_members_are_named_for_what_they_are),
        cmocka_unit_test(test_what_members_say),
        cmocka_unit_test(test_pause_and_cooldown_are_shown_while_they_last),
        cmocka_unit_test(test_candidates_are_counted),
        cmocka_unit_test(test_restrained),
        cmocka_unit_test(test_plan),
        cmocka_unit_test(test_a_replica_is_never_ahead),
        cmocka_unit_test(test_hostile_words_are_shown_as_text),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_lists),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
