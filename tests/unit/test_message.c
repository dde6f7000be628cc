#include "common/core/message.h"
#include "tests/lib/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static char text[MESSAGE_TEXT_MAX];

static struct topology_address address(const char *words)
{
    struct topology_address a;
    assert_int_equal(topology_address_parse(words, &a), 0);
    return a;
}

static struct topology_instance sample(void)
{
    struct topology_instance i = {.name = "cart", .port = 6101, .epoch = 3, .n_members = 3};
    topology_policy_default(&i.policy);
    i.policy.hold_ms = 2500;
    i.policy.reads = TOPOLOGY_READS_NEAREST;
    i.members[0].address = address("10.0.0.1:6379");
    i.members[1].address = address("10.0.0.2:6379");
    i.members[2].address = address("[fd00::3]:6379");
    i.master = i.members[1].address;
    i.members[0].serves_reads = i.members[2].serves_reads = true;
    strcpy(i.members[2].zone, "eu-1c");
    strcpy(i.auth.user, "mr");
    strcpy(i.auth.password, "sesame");
    return i;
}

static void check(const struct message *m, const char *golden)
{
    ssize_t len = message_encode(m, text, sizeof text);
    assert_true(len > 0);
    golden_compare(golden, text, (size_t)len);
    struct message back;
    assert_int_equal(message_decode(text, (size_t)len, &back), 0);
    assert_int_equal(back.type, m->type);
    assert_true(back.term == m->term);
    assert_true(back.seq == m->seq);
    char again[MESSAGE_TEXT_MAX];
    assert_int_equal(message_encode(&back, again, sizeof again), len);
    assert_string_equal(again, text);
}

static void test_route(void **state)
{
    (void)state;
    struct topology_instance i = sample();
    struct message m;
    message_from_instance(&i, &m);
    assert_int_equal(m.type, MESSAGE_ROUTE);
    assert_string_equal(m.instance, "cart");
    assert_true(topology_address_equal(&m.master, &i.master));
    assert_int_equal(m.n_replicas, 2);
    assert_true(topology_address_equal(&m.replicas[0], &i.members[0].address));
    assert_true(topology_address_equal(&m.replicas[1], &i.members[2].address));
    assert_int_equal(m.hold_ms, 2500);
    assert_int_equal(m.reads, TOPOLOGY_READS_NEAREST);
    assert_int_equal(m.n_readers, 2);
    assert_true(topology_address_equal(&m.readers[1].address, &i.members[2].address));
    assert_string_equal(m.readers[1].zone, "eu-1c");
    m.term = 4294967313;
    m.seq = 7;
    m.revision = 4294967400;
    check(&m, "message_route.json");
    assert_null(strstr(text, "sesame")); /* secrets never travel */
}

static void test_a_strict_route_and_its_ack(void **state)
{
    (void)state;
    struct topology_instance i = sample();
    i.policy.durability = TOPOLOGY_STRICT;
    i.policy.acks = 2;
    struct message m, back;
    message_from_instance(&i, &m);
    m.term = 4294967313;
    m.seq = 8;
    m.revision = 4294967401;
    check(&m, "message_route_strict.json");
    assert_int_equal(message_decode(text, strlen(text), &back), 0);
    assert_int_equal(back.durability, TOPOLOGY_STRICT);
    assert_int_equal(back.acks, 2);
    struct message ack = {.type = MESSAGE_ACK,
                          .term = 5,
                          .seq = 8,
                          .id = "host-17",
                          .instance = "cart",
                          .epoch = 3,
                          .acks = 2,
                          .took_us = 412};
    check(&ack, "message_ack_strict.json");
    assert_int_equal(message_decode(text, strlen(text), &back), 0);
    assert_int_equal(back.acks, 2);
}

static void test_a_fenced_route(void **state)
{
    (void)state;
    struct topology_instance i = sample();
    struct message m, back;
    strcpy(i.policy.fence_user, "app"); /* named, but not switched on */
    message_from_instance(&i, &m);
    assert_string_equal(m.fence_user, "");
    i.policy.fence = TOPOLOGY_FENCE_ACL;
    message_from_instance(&i, &m);
    m.term = 4294967313;
    m.seq = 9;
    m.revision = 4294967402;
    check(&m, "message_route_fenced.json");
    assert_int_equal(message_decode(text, strlen(text), &back), 0);
    assert_string_equal(back.fence_user, "app");
}

static void test_route_while_promoting_is_the_candidate(void **state)
{
    (void)state;
    struct topology_instance i = sample();
    i.state = TOPOLOGY_PROMOTING;
    i.master.port = 0;
    i.candidate = i.members[2].address;
    struct message m;
    message_from_instance(&i, &m);
    assert_int_equal(m.type, MESSAGE_ROUTE);
    assert_true(topology_address_equal(&m.master, &i.members[2].address));
    assert_int_equal(m.n_replicas, 2);
    assert_int_equal(m.n_readers, 0); /* whose data is how old isn't known yet */
}

/* From a leader that doesn't know of them. */
static void test_a_route_without_readers_is_read_from_its_master(void **state)
{
    static const char old[] = "{\"v\":1,\"type\":\"route\",\"term\":1,\"seq\":1,\"revision\":1,\"instance\":"
                              "\"cart\",\"port\":6101,\"epoch\":3,\"master\":\"10.0.0.2:6379\",\"replicas\":"
                              "[\"10.0.0.1:6379\"],\"durability\":\"async\",\"acks\":1,\"hold_ms\":0}";
    struct message m;
    (void)state;
    assert_int_equal(message_decode(old, strlen(old), &m), 0);
    assert_int_equal(m.reads, TOPOLOGY_READS_MASTER);
    assert_int_equal(m.n_readers, 0);
}

static void test_the_others(void **state)
{
    (void)state;
    struct topology_instance i = sample();
    i.state = TOPOLOGY_SEALING;
    i.master.port = 0;
    struct message hold;
    message_from_instance(&i, &hold);
    assert_int_equal(hold.type, MESSAGE_HOLD);
    hold.term = 5;
    hold.seq = 8;
    hold.revision = 99;
    check(&hold, "message_hold.json");
    struct message drop = {.type = MESSAGE_DROP, .term = 5, .seq = 9, .revision = 100, .port = 6101};
    strcpy(drop.instance, "cart");
    check(&drop, "message_drop.json");
    struct message beat = {.type = MESSAGE_BEAT, .term = 5, .seq = 9, .revision = 100, .id = "ctl-1"};
    check(&beat, "message_beat.json");
    struct message ack = {
        .type = MESSAGE_ACK, .term = 5, .seq = 8, .id = "host-17", .epoch = 3, .took_us = 412};
    strcpy(ack.instance, "cart");
    check(&ack, "message_ack.json");
    struct message hint = {.type = MESSAGE_HINT, .term = 5, .seq = 8, .id = "host-17", .epoch = 3};
    strcpy(hint.instance, "cart");
    hint.master = address("10.0.0.2:6379");
    check(&hint, "message_hint.json");
}

static void test_a_switchover(void **state)
{
    (void)state;
    struct message hold = {.type = MESSAGE_HOLD,
                           .term = 5,
                           .seq = 8,
                           .revision = 99,
                           .instance = "cart",
                           .port = 6101,
                           .epoch = 3,
                           .limit_ms = 2000};
    check(&hold, "message_hold_switchover.json");
    struct message back;
    assert_int_equal(message_decode(text, strlen(text), &back), 0);
    assert_int_equal(back.limit_ms, 2000);
    struct message held = {
        .type = MESSAGE_HELD, .term = 5, .seq = 8, .id = "host-17", .instance = "cart", .epoch = 3};
    check(&held, "message_held.json");
    assert_int_equal(message_decode(text, strlen(text), &back), 0);
    assert_string_equal(back.id, "host-17");
    assert_int_equal(back.epoch, 3);
}

static void test_a_survey_and_its_vote(void **state)
{
    (void)state;
    struct message survey = {.type = MESSAGE_SURVEY, .seq = 41, .id = "ctl-1", .instance = "cart"};
    survey.master = address("10.0.0.2:6379");
    check(&survey, "message_survey.json");
    struct message vote = {.type = MESSAGE_VOTE,
                           .seq = 41,
                           .id = "ctl-2",
                           .instance = "cart",
                           .view = "unreachable",
                           .silent_us = 1512345,
                           .distrusted = true};
    vote.master = survey.master;
    check(&vote, "message_vote.json");
    struct message back;
    assert_int_equal(message_decode(text, strlen(text), &back), 0);
    assert_string_equal(back.view, "unreachable");
    assert_int_equal(back.silent_us, 1512345);
    assert_true(back.distrusted);
    assert_true(topology_address_equal(&back.master, &survey.master));
}

static void test_largest_route_fits(void **state)
{
    (void)state;
    struct message m = {.type = MESSAGE_ROUTE, .term = INT64_MAX, .seq = INT64_MAX, .revision = INT64_MAX};
    memset(m.instance, 'n', TOPOLOGY_NAME_MAX);
    m.port = UINT16_MAX;
    m.epoch = INT64_MAX;
    m.master = address("[1111:2222:3333:4444:5555:6666:7777:8888]:65535");
    m.n_replicas = TOPOLOGY_MEMBERS_MAX;
    for (uint32_t k = 0; k < m.n_replicas; k++)
        m.replicas[k] = m.master;
    m.reads = TOPOLOGY_READS_NEAREST;
    m.n_readers = TOPOLOGY_MEMBERS_MAX;
    for (uint32_t k = 0; k < m.n_readers; k++) {
        m.readers[k].address = m.master;
        memset(m.readers[k].zone, 'z', TOPOLOGY_ZONE_MAX);
    }
    m.durability = TOPOLOGY_STRICT;
    m.acks = TOPOLOGY_MEMBERS_MAX - 1;
    m.hold_ms = UINT32_MAX;
    ssize_t len = message_encode(&m, text, sizeof text);
    assert_true(len > 0);
    struct message back;
    assert_int_equal(message_decode(text, (size_t)len, &back), 0);
    assert_int_equal(back.n_replicas, TOPOLOGY_MEMBERS_MAX);
    assert_int_equal(back.n_readers, TOPOLOGY_MEMBERS_MAX);
    assert_int_equal(message_encode(&m, text, 100), ERR_TOO_LARGE);
    m.term = UINT64_MAX;
    assert_int_equal(message_encode(&m, text, sizeof text), ERR_TOO_LARGE);
}

#define ROUTE                                                                                                \
    "{\"v\":1,\"type\":\"route\",\"term\":1,\"seq\":1,\"revision\":1,\"instance\":\"a\",\"port\":1,"         \
    "\"epoch\":1,\"master\":\"1.1.1.1:1\""

#define VOTE                                                                                                 \
    "{\"v\":1,\"type\":\"vote\",\"term\":0,\"seq\":1,\"id\":\"c\",\"instance\":\"a\",\"master\":\"1.1.1.1:"  \
    "1\""
#define HOLD                                                                                                 \
    "{\"v\":1,\"type\":\"hold\",\"term\":1,\"seq\":1,\"revision\":1,\"instance\":\"a\",\"port\":1,"          \
    "\"epoch\":1"

static void test_hostile_messages(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        int err;
    } cases[] = {
        {ROUTE ",\"replicas\":[],\"durability\":\"async\"}", 0},
        {ROUTE "}", 0}, /* defaults */
        {ROUTE ",\"news\":{\"deep\":[1]}}", 0},
        {ROUTE ",\"port\":2}", ERR_INVALID}, /* a duplicate */
        {ROUTE ",\"replicas\":[1]}", ERR_INVALID},
        {ROUTE ",\"replicas\":[\"x\"]}", ERR_INVALID},
        {ROUTE ",\"replicas\":{}}", ERR_INVALID},
        {ROUTE ",\"acks\":-1}", ERR_INVALID},
        {ROUTE ",\"durability\":\"maybe\"}", ERR_INVALID},
        {ROUTE ",\"durability\":\"strict\"}", 0},
        {ROUTE ",\"durability\":\"strict\",\"acks\":15}", 0},
        {ROUTE ",\"durability\":\"strict\",\"acks\":0}", ERR_INVALID},
        {ROUTE ",\"durability\":\"strict\",\"acks\":16}", ERR_INVALID},
        {ROUTE, ERR_INVALID},
        {"{\"v\":2,\"type\":\"route\"}", ERR_VERSION},
        {"{\"v\":1,\"type\":\"gossip\",\"term\":\"odd\"}", ERR_NOT_FOUND},
        {"{\"v\":1,\"type\":7}", ERR_INVALID},
        {"{\"v\":1}", ERR_INVALID},
        {"{\"v\":1,\"type\":\"beat\",\"term\":1,\"seq\":1,\"revision\":1,\"id\":\"\"}", ERR_INVALID},
        {"{\"v\":1,\"type\":\"beat\",\"term\":1,\"seq\":-1,\"revision\":1,\"id\":\"c\"}", ERR_INVALID},
        {"{\"v\":1,\"type\":\"beat\",\"term\":1,\"revision\":1,\"id\":\"c\"}", ERR_INVALID},
        {"{\"v\":1,\"type\":\"beat\",\"term\":9223372036854775808,\"seq\":1,\"revision\":1,\"id\":\"c\"}",
         ERR_INVALID},
        {"{\"v\":1,\"type\":\"ack\",\"term\":1,\"seq\":1,\"id\":\"h\",\"instance\":\"../x\",\"epoch\":1,"
         "\"took_us\":1}",
         ERR_INVALID},
        {"{\"v\":1,\"type\":\"ack\",\"term\":1,\"seq\":1,\"id\":\"h\",\"instance\":\"x\",\"epoch\":1,"
         "\"took_us\":1,\"acks\":-1}",
         ERR_INVALID},
        {HOLD "}", 0},
        {HOLD ",\"limit_ms\":-1}", ERR_INVALID},
        {HOLD ",\"limit_ms\":4294967296}", ERR_INVALID},
        {VOTE ",\"view\":\"hung\",\"silent_us\":0}", 0},
        {VOTE ",\"view\":\"psychic\",\"silent_us\":0}", 0}, /* of a newer version: the receiver looks it up */
        {VOTE ",\"view\":\"sixteen letters!\",\"silent_us\":0}", ERR_INVALID},
        {VOTE ",\"view\":\"hung\",\"silent_us\":-1}", ERR_INVALID},
        {VOTE ",\"view\":\"hung\",\"silent_us\":0,\"distrusted\":1}", ERR_INVALID},
        {VOTE ",\"view\":\"hung\"}", ERR_INVALID},
        {VOTE "}", ERR_INVALID},
        {"{\"v\":1,\"type\":\"survey\",\"term\":0,\"seq\":1,\"id\":\"c\",\"instance\":\"a\"}", ERR_INVALID},
        {"{\"v\":1,\"type\":\"held\",\"term\":1,\"seq\":1,\"instance\":\"a\",\"epoch\":1}", ERR_INVALID},
        {"", ERR_INVALID},
        {"\x00\x01\x02", ERR_INVALID},
        {"[[[[[[[[", ERR_INVALID},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct message m;
        int err = message_decode(cases[k].text, strlen(cases[k].text), &m);
        if (err != cases[k].err)
            fail_msg("%s: %s", cases[k].text, err_name(err));
    }
    static char long_text[MESSAGE_TEXT_MAX + 1];
    memset(long_text, ' ', sizeof long_text);
    struct message m;
    assert_int_equal(message_decode(long_text, sizeof long_text, &m), ERR_INVALID);
}

static void test_type_names(void **state)
{
    (void)state;
    assert_string_equal(message_type_name(MESSAGE_ROUTE), "route");
    assert_string_equal(message_type_name(MESSAGE_HINT), "hint");
    assert_string_equal(message_type_name(MESSAGE_HELD), "held");
    assert_string_equal(message_type_name(MESSAGE_VOTE), "vote");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_route),
        cmocka_unit_test(test_a_strict_route_and_its_ack),
        cmocka_unit_test(test_a_fenced_route),
        cmocka_unit_test(test_route_while_promoting_is_the_candidate),
        cmocka_unit_test(test_the_others),
        cmocka_unit_test(test_a_switchover),
        cmocka_unit_test(test_a_survey_and_its_vote),
        cmocka_unit_test(test_a_route_without_readers_is_read_from_its_master),
        cmocka_unit_test(test_largest_route_fits),
        cmocka_unit_test(test_hostile_messages),
        cmocka_unit_test(test_type_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
