#include "common/core/pause_codec.h"
#include "common/core/topology_codec.h"
#include "tests/lib/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define RUN_A "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
#define RUN_B "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
#define RUN_C "cccccccccccccccccccccccccccccccccccccccc"
#define REPL  "0123456789abcdef0123456789abcdef01234567"

static char text[TOPOLOGY_TEXT_MAX];
static char why[256];

static struct topology_address address(const char *words)
{
    struct topology_address a;
    assert_int_equal(topology_address_parse(words, &a), 0);
    return a;
}

static struct topology_instance stable(void)
{
    struct topology_instance i = {.name = "cart", .port = 6101, .epoch = 3, .n_members = 3, .n_epochs = 2};
    topology_policy_default(&i.policy);
    i.members[0] = (struct topology_member){.address = address("10.0.0.1:6379"), .run_id = RUN_A};
    i.members[1] = (struct topology_member){.address = address("10.0.0.2:6379"),
                                            .run_id = RUN_B,
                                            .priority = TOPOLOGY_PREFER_NOT,
                                            .zone = "eu-1b",
                                            .serves_reads = true};
    i.members[2] = (struct topology_member){.address = address("[fd00::3]:6379"), .run_id = RUN_C};
    i.master = i.members[0].address;
    i.epochs[0] = (struct topology_epoch){.epoch = 1, .repl_id = REPL, .start_offset = 0};
    i.epochs[1] = (struct topology_epoch){.epoch = 3, .repl_id = RUN_B, .start_offset = 9007199254740993};
    i.failover = (struct topology_failover){
        .at_ms = 1795384683412,
        .verdict = TOPOLOGY_VERDICT_DEAD,
        .epoch = 3,
        .old_master = address("10.0.0.2:6379"),
        .evidence = "connection closed, reconnect refused, 2 of 2 replicas lost their link",
        .timeline = {.detect_us = 812,
                     .commit_us = 2410,
                     .seal_us = 301,
                     .fence_us = -1,
                     .promote_us = 245,
                     .publish_us = 37},
    };
    return i;
}

static struct topology_instance promoting(void)
{
    struct topology_instance i = stable();
    i.state = TOPOLOGY_PROMOTING;
    i.epoch = 4;
    i.master = (struct topology_address){.port = 0};
    i.candidate = i.members[1].address;
    i.start_offset = 120400;
    i.failover.epoch = 4;
    i.failover.timeline = (struct topology_timeline){900, -1, -1, -1, -1, -1};
    return i;
}

/* As adopted: nothing but what can't be left out, and a password. */
static struct topology_instance adopted(void)
{
    struct topology_instance i = {.name = "sessions", .port = 6102, .n_members = 1};
    topology_policy_default(&i.policy);
    i.policy.durability = TOPOLOGY_STRICT;
    i.policy.acks = 2;
    i.policy.max_lag_bytes = INT64_MAX;
    i.policy.reads = TOPOLOGY_READS_REPLICA;
    i.policy.auto_failover = false;
    i.members[0].address = address("127.0.0.1:7000");
    i.master = i.members[0].address;
    strcpy(i.auth.user, "mr");
    strcpy(i.auth.password, "p\"a\\s\tsw\xc3\xb6rd");
    return i;
}

static struct topology_instance fenced(void)
{
    struct topology_instance i = stable();
    i.policy.fence = TOPOLOGY_FENCE_ACL;
    strcpy(i.policy.fence_user, "app");
    i.failover.timeline.fence_us = 498;
    return i;
}

/* encode → golden file → decode → encode gives the same text: nothing is lost on the way. */
static void check_instance(const struct topology_instance *i, const char *golden)
{
    ssize_t len = topology_encode_instance(i, text, sizeof text);
    assert_true(len > 0);
    golden_compare(golden, text, (size_t)len);
    struct topology_instance back;
    int err = topology_decode_instance(text, (size_t)len, &back, why, sizeof why);
    if (err != 0)
        fail_msg("%s: %s", golden, why);
    char again[TOPOLOGY_TEXT_MAX];
    assert_int_equal(topology_encode_instance(&back, again, sizeof again), len);
    assert_string_equal(again, text);
}

static void test_instances(void **state)
{
    (void)state;
    struct topology_instance i = stable();
    check_instance(&i, "instance_stable.json");
    i = fenced();
    check_instance(&i, "instance_fenced.json");
    i = promoting();
    check_instance(&i, "instance_promoting.json");
    i = adopted();
    check_instance(&i, "instance_adopted.json");
    i = stable();
    i.state = TOPOLOGY_SEALING;
    i.epoch = 4;
    i.master.port = 0;
    check_instance(&i, "instance_sealing.json");
    i = stable();
    i.failover.verdict = TOPOLOGY_VERDICT_PLANNED;
    i.failover.target = i.members[0].address;
    i.failover.target_offset = 120400;
    i.failover.data_loss_allowed = true;
    i.cooldown = (struct topology_cooldown){.strikes = 2, .bypassed = true};
    i.pause = (struct topology_pause){
        .owner = "ops", .reason = "kernel upgrade", .since_ms = 1795384683412, .until_ms = 1795391883412};
    check_instance(&i, "instance_paused.json");
}

static void test_pause_of_all(void **state)
{
    (void)state;
    struct topology_pause p = {.owner = "ops", .reason = "power works", .since_ms = 1}, back;
    ssize_t len = topology_encode_pause(&p, text, sizeof text);
    assert_true(len > 0);
    assert_string_equal(text,
                        "{\"v\":1,\"pause\":{\"owner\":\"ops\",\"reason\":\"power works\",\"since_ms\":1}}");
    assert_int_equal(topology_decode_pause(text, (size_t)len, &back, why, sizeof why), 0);
    assert_memory_equal(&back, &p, sizeof p);
    assert_int_equal(topology_decode_pause("{\"v\":1}", 7, &back, why, sizeof why), 0);
    assert_string_equal(back.owner, "");
    assert_int_equal(
        topology_decode_pause("{\"v\":1,\"pause\":{\"owner\":\"\"}}", 28, &back, why, sizeof why),
        ERR_INVALID);
}

static void test_instance_fields_come_back(void **state)
{
    (void)state;
    struct topology_instance i = promoting();
    struct topology_instance back;
    ssize_t len = topology_encode_instance(&i, text, sizeof text);
    assert_true(len > 0);
    assert_int_equal(topology_decode_instance(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.name, "cart");
    assert_int_equal(back.port, 6101);
    assert_int_equal(back.state, TOPOLOGY_PROMOTING);
    assert_int_equal(back.epoch, 4);
    assert_false(topology_address_is_set(&back.master));
    assert_true(topology_address_equal(&back.candidate, &i.candidate));
    assert_int_equal(back.start_offset, 120400);
    assert_int_equal(back.n_members, 3);
    assert_string_equal(back.members[1].zone, "eu-1b");
    assert_int_equal(back.members[1].priority, TOPOLOGY_PREFER_NOT);
    assert_true(back.members[1].serves_reads && !back.members[2].serves_reads);
    assert_string_equal(back.members[2].address.host, "fd00::3");
    assert_int_equal(back.n_epochs, 2);
    assert_true(back.epochs[1].start_offset == 9007199254740993); /* exact beyond a double's 53 bits */
    assert_int_equal(back.failover.timeline.detect_us, 900);
    assert_int_equal(back.failover.timeline.commit_us, -1);
    i = adopted();
    len = topology_encode_instance(&i, text, sizeof text);
    assert_int_equal(topology_decode_instance(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.auth.user, "mr");
    assert_string_equal(back.auth.password, i.auth.password);
    assert_int_equal(back.policy.acks, 2);
    assert_false(back.policy.auto_failover);
    assert_true(back.policy.max_lag_bytes == INT64_MAX);
    assert_int_equal(back.policy.reads, TOPOLOGY_READS_REPLICA);
    assert_int_equal(back.failover.epoch, 0);
}

static void test_defaults_fill_what_is_absent(void **state)
{
    (void)state;
    static const char least[] = "{\"v\":1,\"name\":\"x\",\"port\":1,\"state\":\"stable\",\"epoch\":0,"
                                "\"master\":\"1.1.1.1:1\",\"members\":[{\"address\":\"1.1.1.1:1\"}],"
                                "\"somebody\":{\"newer\":[1,2.5,null]}}";
    struct topology_instance i;
    assert_int_equal(topology_decode_instance(least, strlen(least), &i, why, sizeof why), 0);
    struct topology_policy defaults;
    topology_policy_default(&defaults);
    assert_int_equal(i.policy.unreachable_after_ms, defaults.unreachable_after_ms);
    assert_int_equal(i.policy.acks, 1);
    assert_true(i.policy.auto_failover);
    assert_int_equal(i.policy.reads, TOPOLOGY_READS_MASTER);
    assert_int_equal(i.policy.fence, TOPOLOGY_FENCE_NONE);
    assert_string_equal(i.policy.fence_user, "");
    assert_false(i.members[0].serves_reads);
    assert_int_equal(i.n_epochs, 0);
    assert_string_equal(i.members[0].run_id, "");
    assert_string_equal(i.auth.password, "");
}

/* The largest legal value fits TOPOLOGY_TEXT_MAX, whatever has to be escaped in it. */
static void test_largest_instance_fits(void **state)
{
    (void)state;
    struct topology_instance i = stable();
    memset(i.name, 'n', TOPOLOGY_NAME_MAX);
    i.n_members = TOPOLOGY_MEMBERS_MAX;
    for (uint32_t k = 0; k < i.n_members; k++) {
        struct topology_member *m = &i.members[k];
        m->address = address("[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
        m->address.port -= (uint16_t)k;
        memcpy(m->run_id, RUN_A, sizeof m->run_id);
        m->priority = TOPOLOGY_PREFER_NOT;
        memset(m->zone, 'z', TOPOLOGY_ZONE_MAX);
        m->serves_reads = true;
    }
    i.master = i.members[0].address;
    i.epoch = INT64_MAX;
    i.n_epochs = TOPOLOGY_EPOCHS_MAX;
    for (uint32_t k = 0; k < i.n_epochs; k++)
        i.epochs[k] = (struct topology_epoch){INT64_MAX - TOPOLOGY_EPOCHS_MAX + k, REPL, INT64_MAX};
    i.failover.epoch = INT64_MAX;
    i.failover.timeline =
        (struct topology_timeline){INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX};
    memset(i.failover.evidence, '\1', TOPOLOGY_EVIDENCE_MAX);
    i.policy.fence = TOPOLOGY_FENCE_ACL;
    memset(i.policy.fence_user, 'f', TOPOLOGY_FENCE_USER_MAX);
    memset(i.auth.user, '\1', TOPOLOGY_USER_MAX);
    memset(i.auth.password, '\1', TOPOLOGY_PASSWORD_MAX);
    ssize_t len = topology_encode_instance(&i, text, sizeof text);
    assert_true(len > 0);
    struct topology_instance back;
    assert_int_equal(topology_decode_instance(text, (size_t)len, &back, why, sizeof why), 0);
    assert_memory_equal(back.auth.password, i.auth.password, sizeof i.auth.password);
    /* one byte short is said, not cut off */
    assert_int_equal(topology_encode_instance(&i, text, (size_t)len), ERR_TOO_LARGE);
    assert_string_equal(text, "");
    assert_int_equal(topology_encode_instance(&i, text, (size_t)len + 1), len);
}

static void test_nothing_unreadable_is_written(void **state)
{
    (void)state;
    struct topology_instance i = stable();
    i.master.port = 0;
    assert_int_equal(topology_encode_instance(&i, text, sizeof text), ERR_INVALID);
    i = stable();
    strcpy(i.auth.password, "\xff\xfe");
    assert_int_equal(topology_encode_instance(&i, text, sizeof text), ERR_INVALID);
    /* words of a redis-server may be cut in the middle of a character: they still make a readable znode */
    i = stable();
    strcpy(i.failover.evidence, "said caf\xc3");
    ssize_t len = topology_encode_instance(&i, text, sizeof text);
    assert_true(len > 0);
    struct topology_instance back;
    assert_int_equal(topology_decode_instance(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.failover.evidence, "said caf?");
}

/* The stable instance's text with `from` replaced by `to`. */
static size_t spoiled(char *out, size_t size, const char *from, const char *to)
{
    struct topology_instance i = stable();
    assert_true(topology_encode_instance(&i, text, sizeof text) > 0);
    char *at = strstr(text, from);
    if (at == NULL)
        fail_msg("%s is not in the text", from);
    int len = snprintf(out, size, "%.*s%s%s", (int)(at - text), text, to, at + strlen(from));
    assert_true(len > 0 && (size_t)len < size);
    return (size_t)len;
}

static void test_hostile_fields_are_named(void **state)
{
    (void)state;
    static const struct {
        const char *from, *to;
        int err;
        const char *says;
    } cases[] = {
        {"\"v\":1", "\"v\":2", ERR_VERSION, "newer"},
        {"\"v\":1", "\"v\":0", ERR_INVALID, "v: "},
        {"\"v\":1", "\"v\":\"1\"", ERR_INVALID, "v: "},
        {"\"v\":1,", "", ERR_INVALID, "v: is missing"},
        {"\"v\":1,", "\"v\":1,\"v\":1,", ERR_INVALID, "duplicate"},
        {"\"name\":\"cart\"", "\"name\":7", ERR_INVALID, "name: must be a string"},
        {"\"cart\"", "\"ca/rt\"", ERR_INVALID, "name must be"},
        {"\"cart\"", "\"ca\\u0000rt\"", ERR_INVALID, "not JSON"},
        {"\"cart\"", "\"ca\xffrt\"", ERR_INVALID, "not JSON"},
        {"6101", "65536", ERR_INVALID, "port: "},
        {"6101", "-1", ERR_INVALID, "port: "},
        {"6101", "6101.0", ERR_INVALID, "port: "},
        {"6101", "99999999999999999999999", ERR_INVALID, "not JSON"},
        {"6101", "1e400", ERR_INVALID, "not JSON"},
        {"\"state\":\"stable\"", "\"state\":\"calm\"", ERR_INVALID, "state: "},
        {"\"epoch\":3,\"master\"", "\"epoch\":-3,\"master\"", ERR_INVALID, "epoch: "},
        {"\"master\":\"10.0.0.1:6379\"", "\"master\":\"redis:6379\"", ERR_INVALID, "master: \"redis:6379\""},
        {"\"master\":\"10.0.0.1:6379\"", "\"master\":\"10.0.0.9:6379\"", ERR_INVALID, "not a member"},
        {"\"members\":[", "\"members\":[5,", ERR_INVALID, "members[0].address: is missing"},
        {"\"members\":[", "\"members\":{},\"x\":[", ERR_INVALID, "members: must be an array"},
        {"\"address\":\"10.0.0.2:6379\"", "\"address\":null", ERR_INVALID, "members[1].address"},
        {"\"prefer_not\"", "\"never\"", ERR_INVALID, "members[1].priority"},
        {RUN_C, RUN_C "c", ERR_INVALID, "members[2].run_id: is 41 bytes"},
        {"eu-1b", "eu-1b-but-a-name-that-is-much-too-long-for-a-zone", ERR_INVALID, "members[1].zone"},
        {"\"start_offset\":0", "\"start_offset\":-1", ERR_INVALID, "epochs[0].start_offset"},
        {"\"failover\":{", "\"failover\":7,\"x\":{", ERR_INVALID, "failover: must be an object"},
        {"\"DEAD\"", "\"GONE\"", ERR_INVALID, "failover.verdict"},
        {"\"seal_us\":301", "\"seal_us\":-301", ERR_INVALID, "timeline.seal_us"},
        {"\"async\"", "\"lazy\"", ERR_INVALID, "policy.durability"},
        {"\"acks\":1", "\"acks\":4294967296", ERR_INVALID, "policy.acks"},
        {"\"reads\":\"master\"", "\"reads\":\"slave\"", ERR_INVALID, "policy.reads"},
        {"\"serves_reads\":true", "\"serves_reads\":1", ERR_INVALID, "members[1].serves_reads"},
        {"\"auto_failover\":true", "\"fence\":\"wall\"", ERR_INVALID, "policy.fence: must be none or acl"},
        {"\"auto_failover\":true", "\"fence\":\"acl\"", ERR_INVALID, "fence acl needs fence_user"},
        {"\"auto_failover\":true", "\"fence_user\":\"a b\"", ERR_INVALID, "fence_user must be"},
        {"\"auto_failover\":true", "\"fence_user\":\"default\"", ERR_INVALID, "can't be the default user"},
        {"\"auto_failover\":true", "\"auto_failover\":1", ERR_INVALID, "policy.auto_failover"},
        {"\"policy\":", "\"auth\":{\"user\":\"u\"},\"policy\":", ERR_INVALID, "auth.password: is missing"},
    };
    static char bad[TOPOLOGY_TEXT_MAX];
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        size_t len = spoiled(bad, sizeof bad, cases[k].from, cases[k].to);
        struct topology_instance i;
        int err = topology_decode_instance(bad, len, &i, why, sizeof why);
        if (err != cases[k].err || strstr(why, cases[k].says) == NULL)
            fail_msg("%s → %s: %s \"%s\"", cases[k].from, cases[k].to, err_name(err), why);
        assert_int_equal(topology_decode_instance(bad, len, &i, NULL, 0), cases[k].err);
    }
}

static void test_hostile_bytes(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "", " ", "null", "[]", "7", "\"v\"", "{", "{}", "{\"v\":1}", "\xef\xbb\xbf{}", "{\"v\":1}{\"v\":1}"};
    struct topology_instance i;
    for (size_t k = 0; k < sizeof texts / sizeof texts[0]; k++) {
        assert_int_equal(topology_decode_instance(texts[k], strlen(texts[k]), &i, why, sizeof why),
                         ERR_INVALID);
        assert_true(strlen(why) > 0);
    }
    assert_int_equal(topology_decode_instance(NULL, 0, &i, why, sizeof why), ERR_INVALID);
    static char bomb[TOPOLOGY_TEXT_MAX + 1];
    memset(bomb, '[', sizeof bomb);
    assert_int_equal(topology_decode_instance(bomb, TOPOLOGY_TEXT_MAX, &i, why, sizeof why), ERR_INVALID);
    assert_int_equal(topology_decode_instance(bomb, sizeof bomb, &i, why, sizeof why), ERR_INVALID);
    assert_non_null(strstr(why, "at most 32768"));
    /* every truncation of a good text */
    struct topology_instance good = stable();
    ssize_t len = topology_encode_instance(&good, text, sizeof text);
    for (ssize_t cut = 0; cut < len; cut++)
        assert_int_equal(topology_decode_instance(text, (size_t)cut, &i, why, sizeof why), ERR_INVALID);
}

static void test_too_many_members(void **state)
{
    (void)state;
    int len = snprintf(text, sizeof text,
                       "{\"v\":1,\"name\":\"x\",\"port\":1,\"state\":\"stable\",\"epoch\":0,"
                       "\"master\":\"1.1.1.1:1\",\"members\":[");
    for (int k = 1; k <= TOPOLOGY_MEMBERS_MAX + 1; k++)
        len += snprintf(text + len, sizeof text - (size_t)len, "%s{\"address\":\"1.1.1.1:%d\"}",
                        k > 1 ? "," : "", k);
    len += snprintf(text + len, sizeof text - (size_t)len, "]}");
    struct topology_instance i;
    assert_int_equal(topology_decode_instance(text, (size_t)len, &i, why, sizeof why), ERR_INVALID);
    assert_string_equal(why, "members: has 17 elements, at most 16 are allowed");
}

/* ---- history, controllers, proxies --------------------------------------------------------------------- */

static void check_history(const struct topology_history *h, const char *golden)
{
    ssize_t len = topology_encode_history(h, text, sizeof text);
    assert_true(len > 0);
    golden_compare(golden, text, (size_t)len);
    struct topology_history back;
    assert_int_equal(topology_decode_history(text, (size_t)len, &back, why, sizeof why), 0);
    assert_int_equal(back.kind, h->kind);
    assert_true(topology_address_equal(&back.to, &h->to));
    char again[TOPOLOGY_TEXT_MAX];
    assert_int_equal(topology_encode_history(&back, again, sizeof again), len);
    assert_string_equal(again, text);
}

static void test_history(void **state)
{
    (void)state;
    struct topology_history failover = {
        .kind = TOPOLOGY_HISTORY_FAILOVER,
        .at_ms = 1795384683412,
        .epoch = 3,
        .term = 4294967313,
        .row = 14,
        .from = address("10.0.0.2:6379"),
        .to = address("10.0.0.1:6379"),
        .verdict = TOPOLOGY_VERDICT_DEAD,
        .timeline = {812, 2410, 301, -1, 245, 37},
        .evidence = "connection closed, reconnect refused",
    };
    check_history(&failover, "history_failover.json");
    struct topology_history rejoined = {
        .kind = TOPOLOGY_HISTORY_REJOINED,
        .at_ms = 1795384699000,
        .epoch = 3,
        .term = 4294967313,
        .row = 30,
        .from = address("10.0.0.2:6379"),
        .to = address("10.0.0.1:6379"),
        .lost_bytes = 214,
        .evidence = "came back as a master",
    };
    check_history(&rejoined, "history_rejoined.json");
}

static void test_history_refused(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"v\":1,\"at_ms\":1,\"epoch\":1}", "kind: is missing"},
        {"{\"v\":1,\"kind\":\"party\",\"at_ms\":1,\"epoch\":1}", "kind: \"party\""},
        {"{\"v\":1,\"kind\":\"member\",\"at_ms\":\"now\",\"epoch\":1}", "at_ms"},
        {"{\"v\":1,\"kind\":\"member\",\"at_ms\":1,\"epoch\":1,\"from\":\"x\"}", "from"},
        {"{\"v\":1,\"kind\":\"member\",\"at_ms\":1,\"epoch\":1,\"timeline\":[]}", "timeline"},
        {"{\"v\":1,\"kind\":\"member\",\"at_ms\":1,\"epoch\":1,\"row\":4294967296}", "row"},
    };
    struct topology_history h;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        int err = topology_decode_history(cases[k].text, strlen(cases[k].text), &h, why, sizeof why);
        assert_int_equal(err, ERR_INVALID);
        if (strstr(why, cases[k].says) == NULL)
            fail_msg("%s: %s", cases[k].text, why);
    }
}

static void test_controller(void **state)
{
    (void)state;
    const struct topology_controller c = {
        .id = "ctl-1",
        .host = "10.0.0.7",
        .pub_port = 7701,
        .ingest_port = 7702,
        .vote_port = 7703,
        .http_port = 7700,
        .version = "0.1.0",
        .started_ms = 1795384000000,
    };
    ssize_t len = topology_encode_controller(&c, text, sizeof text);
    assert_true(len > 0);
    golden_compare("controller.json", text, (size_t)len);
    struct topology_controller back;
    assert_int_equal(topology_decode_controller(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.id, c.id);
    assert_string_equal(back.host, c.host);
    assert_int_equal(back.pub_port, c.pub_port);
    assert_int_equal(back.ingest_port, c.ingest_port);
    assert_int_equal(back.vote_port, c.vote_port);
    assert_int_equal(back.http_port, c.http_port);
    assert_string_equal(back.version, c.version);
    assert_true(back.started_ms == c.started_ms);
    static const char named[] =
        "{\"v\":1,\"id\":\"c\",\"host\":\"ctl.example\",\"pub_port\":1,\"ingest_port\":2,"
        "\"vote_port\":3,\"http_port\":4}";
    assert_int_equal(topology_decode_controller(named, strlen(named), &back, why, sizeof why), ERR_INVALID);
    assert_string_equal(why, "host: \"ctl.example\" is not an IP address");
    static const char closed[] = "{\"v\":1,\"id\":\"c\",\"host\":\"::1\",\"pub_port\":0,\"ingest_port\":2,"
                                 "\"vote_port\":3,\"http_port\":4}";
    assert_int_equal(topology_decode_controller(closed, strlen(closed), &back, why, sizeof why), ERR_INVALID);
    assert_non_null(strstr(why, "pub_port"));
    /* one that takes part in no surveys */
    struct topology_controller mute = c;
    mute.vote_port = 0;
    len = topology_encode_controller(&mute, text, sizeof text);
    assert_true(len > 0);
    assert_null(strstr(text, "vote_port"));
    assert_int_equal(topology_decode_controller(text, (size_t)len, &back, why, sizeof why), 0);
    assert_int_equal(back.vote_port, 0);
}

static void test_proxy(void **state)
{
    (void)state;
    const struct topology_proxy p = {.id = "host-17",
                                     .version = "0.1.0",
                                     .bind = "127.0.0.1",
                                     .threads = 2,
                                     .started_ms = 1795384000001,
                                     .http = "127.0.0.1:7710"};
    ssize_t len = topology_encode_proxy(&p, text, sizeof text);
    assert_true(len > 0);
    golden_compare("proxy.json", text, (size_t)len);
    struct topology_proxy back;
    assert_int_equal(topology_decode_proxy(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.id, p.id);
    assert_string_equal(back.bind, p.bind);
    assert_int_equal(back.threads, 2);
    static const char named[] = "{\"v\":1,\"id\":\"a b\",\"bind\":\"127.0.0.1\"}";
    assert_int_equal(topology_decode_proxy(named, strlen(named), &back, why, sizeof why), ERR_INVALID);
    assert_non_null(strstr(why, "id: "));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_instances),
        cmocka_unit_test(test_pause_of_all),
        cmocka_unit_test(test_instance_fields_come_back),
        cmocka_unit_test(test_defaults_fill_what_is_absent),
        cmocka_unit_test(test_largest_instance_fits),
        cmocka_unit_test(test_nothing_unreadable_is_written),
        cmocka_unit_test(test_hostile_fields_are_named),
        cmocka_unit_test(test_hostile_bytes),
        cmocka_unit_test(test_too_many_members),
        cmocka_unit_test(test_history),
        cmocka_unit_test(test_history_refused),
        cmocka_unit_test(test_controller),
        cmocka_unit_test(test_proxy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
