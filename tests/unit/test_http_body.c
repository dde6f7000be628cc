#include "controller/http_body.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static const int64_t wall_ms = 1795384700000;

static struct http_body body;
static char why[512];

static int order(enum failover_command_type type, const char *text)
{
    return http_body_order(type, text, strlen(text), wall_ms, &body, why, sizeof why);
}

static struct topology_instance record(void)
{
    struct topology_instance i = {.name = "cart", .port = 6101, .epoch = 1, .n_members = 2};
    topology_policy_default(&i.policy);
    assert_int_equal(topology_address_parse("10.0.0.1:6379", &i.members[0].address), 0);
    assert_int_equal(topology_address_parse("10.0.0.2:6379", &i.members[1].address), 0);
    strcpy(i.members[1].zone, "eu-1a");
    i.master = i.members[0].address;
    return i;
}

static int set(const char *text)
{
    struct topology_instance i = record();
    return http_body_set(&i, text, strlen(text), &body, why, sizeof why);
}

static void refused(int err, const char *text, const char *wanted)
{
    if (err != ERR_INVALID || strstr(why, wanted) == NULL)
        fail_msg("%s: %d \"%s\", wanted \"%s\"", text, err, why, wanted);
}

static void test_orders(void **state)
{
    (void)state;
    assert_int_equal(order(FAILOVER_COMMAND_SWITCHOVER, ""), 0);
    assert_int_equal(body.command.type, FAILOVER_COMMAND_SWITCHOVER);
    assert_int_equal(body.command.target.port, 0);
    assert_int_equal(body.command.limit_ms, 0);
    assert_false(body.dry_run);

    assert_int_equal(order(FAILOVER_COMMAND_SWITCHOVER, "{\"to\":\"[::1]:7000\",\"limit_ms\":900,"
                                                        "\"dry_run\":true,\"by\":\"ann@ops-1\"}"),
                     0);
    assert_string_equal(body.command.target.host, "::1");
    assert_int_equal(body.command.target.port, 7000);
    assert_int_equal(body.command.limit_ms, 900);
    assert_string_equal(body.command.by, "ann@ops-1");
    assert_true(body.dry_run);

    assert_int_equal(order(FAILOVER_COMMAND_FAILOVER, "{\"allow_data_loss\":true}"), 0);
    assert_true(body.command.data_loss_allowed);
    assert_int_equal(order(FAILOVER_COMMAND_FAILOVER, "{}"), 0);
    assert_false(body.command.data_loss_allowed);

    assert_int_equal(order(FAILOVER_COMMAND_FORGET, "{\"member\":\"10.0.0.3:6379\",\"by\":\"ann\"}"), 0);
    assert_string_equal(body.command.target.host, "10.0.0.3");
}

static void test_pauses(void **state)
{
    (void)state;
    assert_int_equal(order(FAILOVER_COMMAND_PAUSE, "{}"), 0);
    assert_string_equal(body.command.pause.owner, "unknown"); /* "" would be no pause */
    assert_int_equal(body.command.pause.since_ms, wall_ms);
    assert_int_equal(body.command.pause.until_ms, 0);
    assert_int_equal(
        order(FAILOVER_COMMAND_PAUSE,
              "{\"by\":\"ann\",\"for_ms\":7200000,\"reason\":\"a \\\"new\\\" \\\\ kernel \xc3\xa9\"}"),
        0);
    assert_string_equal(body.command.pause.owner, "ann");
    assert_string_equal(body.command.pause.reason, "a 'new' ' kernel \xc3\xa9");
    assert_int_equal(body.command.pause.until_ms, wall_ms + 7200000);
    assert_int_equal(order(FAILOVER_COMMAND_RESUME, "{\"by\":\"ann\"}"), 0);
    assert_string_equal(body.command.pause.owner, "");
}

static void test_odd_orders_are_refused(void **state)
{
    (void)state;
    static const struct {
        enum failover_command_type type;
        const char *text, *wanted;
    } cases[] = {
        {FAILOVER_COMMAND_SWITCHOVER, "{", "not JSON"},
        {FAILOVER_COMMAND_SWITCHOVER, "[]", "object"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"to\":1}", "to"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"to\":\"here\"}", "to: \"here\""},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"limit_ms\":99}",
         "limit_ms: must be a whole number from 100 to 60000"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"limit_ms\":60001}", "limit_ms"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"limit_ms\":\"900\"}", "limit_ms"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"dry_run\":1}", "dry_run: must be true or false"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"allow_data_loss\":true}", "\"allow_data_loss\" is no key"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"TO\":\"1.1.1.1:1\"}", "it knows to, limit_ms, dry_run, by"},
        {FAILOVER_COMMAND_SWITCHOVER, "{\"to\":\"1.1.1.1:1\",\"to\":\"1.1.1.1:2\"}", "not JSON"},
        {FAILOVER_COMMAND_FAILOVER, "{\"limit_ms\":900}", "limit_ms"},
        {FAILOVER_COMMAND_PAUSE, "{\"for_ms\":0}", "for_ms"},
        {FAILOVER_COMMAND_PAUSE, "{\"for_ms\":99999999999}", "for_ms"},
        {FAILOVER_COMMAND_PAUSE, "{\"reason\":\"a\\nb\"}", "reason: must have no control"},
        {FAILOVER_COMMAND_PAUSE, "{\"by\":\"a\\u007f\"}", "by"},
        {FAILOVER_COMMAND_PAUSE, "{\"dry_run\":true}", "dry_run"},
        {FAILOVER_COMMAND_ACK, "{\"reason\":\"x\"}", "reason"},
        {FAILOVER_COMMAND_FORGET, "{}", "member: is missing"},
        {FAILOVER_COMMAND_FORGET, "{\"member\":\"here\"}", "member: \"here\""},
        {FAILOVER_COMMAND_FORGET, "{\"to\":\"1.1.1.1:1\"}", "it knows member, by"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        refused(order(cases[k].type, cases[k].text), cases[k].text, cases[k].wanted);
    char text[256];
    (void)snprintf(text, sizeof text, "{\"reason\":\"%0*d\"}", TOPOLOGY_REASON_MAX + 1, 0);
    refused(order(FAILOVER_COMMAND_PAUSE, text), text, "at most 128");
}

static void test_settings(void **state)
{
    (void)state;
    assert_int_equal(set("{\"policy\":{\"acks\":2,\"unreachable_after_ms\":900,\"hung_after_ms\":901,"
                         "\"cooldown_ms\":0,\"min_replicas_to_write\":1,\"min_replicas_max_lag\":3,"
                         "\"hold_ms\":4,\"max_lag_bytes\":9223372036854775807,\"auto_failover\":false,"
                         "\"reads\":\"nearest\",\"durability\":\"async\"},\"by\":\"ann\"}"),
                     0);
    const struct topology_policy *p = &body.command.policy;
    assert_int_equal(body.command.type, FAILOVER_COMMAND_SET);
    assert_int_equal(p->acks, 2);
    assert_int_equal(p->unreachable_after_ms, 900);
    assert_int_equal(p->hung_after_ms, 901);
    assert_int_equal(p->cooldown_ms, 0);
    assert_int_equal(p->min_replicas_to_write, 1);
    assert_int_equal(p->min_replicas_max_lag, 3);
    assert_int_equal(p->hold_ms, 4);
    assert_int_equal(p->max_lag_bytes, INT64_MAX);
    assert_int_equal(p->reads, TOPOLOGY_READS_NEAREST);
    assert_false(p->auto_failover);
    assert_int_equal(body.command.n_labels, 0);
    assert_string_equal(body.command.by, "ann");

    assert_int_equal(set("{\"policy\":{\"durability\":\"strict\",\"acks\":2}}"), 0);
    assert_int_equal(p->durability, TOPOLOGY_STRICT);
    assert_int_equal(p->acks, 2);

    assert_int_equal(set("{\"policy\":{\"fence\":\"acl\",\"fence_user\":\"app\"}}"), 0);
    assert_int_equal(p->fence, TOPOLOGY_FENCE_ACL);
    assert_string_equal(p->fence_user, "app");

    /* What is not named stays as it is. */
    assert_int_equal(set("{\"members\":[{\"address\":\"10.0.0.2:6379\",\"priority\":\"prefer_not\"}]}"), 0);
    assert_int_equal(body.command.n_labels, 1);
    assert_string_equal(body.command.labels[0].address.host, "10.0.0.2");
    assert_int_equal(body.command.labels[0].priority, TOPOLOGY_PREFER_NOT);
    assert_string_equal(body.command.labels[0].zone, "eu-1a");
    assert_int_equal(p->unreachable_after_ms, 1500);
    assert_true(p->auto_failover);
    assert_int_equal(set("{\"members\":[{\"address\":\"10.0.0.2:6379\",\"zone\":\"\"},"
                         "{\"address\":\"10.0.0.1:6379\",\"zone\":\"eu-1b\"}]}"),
                     0);
    assert_int_equal(body.command.n_labels, 2);
    assert_string_equal(body.command.labels[0].zone, "");
    assert_string_equal(body.command.labels[1].zone, "eu-1b");
}

static void test_odd_settings_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"", "nothing is to be set"},
        {"{\"policy\":{},\"members\":[]}", "nothing is to be set"},
        {"{\"port\":6100}", "\"port\" can't be set"},
        {"{\"policy\":7}", "policy: must be an object"},
        {"{\"policy\":{\"ack\":1}}", "\"ack\" is no policy key: there are durability, acks"},
        {"{\"policy\":{\"acks\":0}}", "policy.acks: must be a whole number from 1 to 15"},
        {"{\"policy\":{\"acks\":16}}", "policy.acks"},
        {"{\"policy\":{\"unreachable_after_ms\":99}}",
         "policy.unreachable_after_ms: must be a whole number from 100"},
        {"{\"policy\":{\"hung_after_ms\":3600001}}", "to 3600000"},
        {"{\"policy\":{\"cooldown_ms\":3600001}}", "policy.cooldown_ms"},
        {"{\"policy\":{\"max_lag_bytes\":-1}}", "policy.max_lag_bytes"},
        {"{\"policy\":{\"reads\":\"slave\"}}", "policy.reads: must be master, replica or nearest"},
        {"{\"policy\":{\"reads\":true}}", "policy.reads"},
        {"{\"policy\":{\"hold_ms\":1.5}}", "policy.hold_ms"},
        {"{\"policy\":{\"auto_failover\":\"off\"}}", "policy.auto_failover: must be true or false"},
        {"{\"policy\":{\"fence\":\"maybe\"}}", "policy.fence: must be none or acl"},
        {"{\"policy\":{\"fence\":true}}", "policy.fence"},
        {"{\"policy\":{\"fence\":\"acl\"}}", "fence acl needs fence_user"},
        {"{\"policy\":{\"fence_user\":7}}", "policy.fence_user"},
        {"{\"policy\":{\"fence_user\":\"a-name-of-more-than-forty-characters-is-too-much\"}}", "at most 40"},
        {"{\"policy\":{\"fence_user\":\"default\"}}", "can't be the default user"},
        {"{\"policy\":{\"durability\":\"maybe\"}}", "policy.durability: must be async or strict"},
        {"{\"members\":{}}", "members: must be an array"},
        {"{\"members\":[7]}", "members[0]: must be an object"},
        {"{\"members\":[{\"zone\":\"x\"}]}", "members[0].address: is missing"},
        {"{\"members\":[{\"address\":\"10.0.0.9:6379\",\"zone\":\"x\"}]}",
         "10.0.0.9:6379 is no member of cart"},
        {"{\"members\":[{\"address\":\"10.0.0.1:6379\",\"role\":\"master\"}]}",
         "\"role\" is no key of a member"},
        {"{\"members\":[{\"address\":\"10.0.0.1:6379\",\"priority\":\"high\"}]}", "members[0].priority"},
        {"{\"members\":[{\"address\":\"10.0.0.1:6379\",\"zone\":\"a b\"}]}", "zone must be"},
        {"{\"members\":[{\"address\":\"10.0.0.1:6379\"},{\"address\":\"10.0.0.1:6379\"}]}",
         "members[1].address: 10.0.0.1:6379 is named twice"},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++)
        refused(set(cases[k].text), cases[k].text, cases[k].wanted);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_orders),
        cmocka_unit_test(test_pauses),
        cmocka_unit_test(test_odd_orders_are_refused),
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_odd_settings_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
