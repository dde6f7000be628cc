/* What requests do to data, and to which keys. */
#include "common/core/resp.h"
#include "proxy/core/touch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* "SET a 1" as clients send it. */
static size_t request(const char *words, char *out, size_t size)
{
    char copy[256], *save = NULL;
    size_t at = 0, n = 0;

    for (const char *p = words; *p; p++)
        n += *p == ' ';
    snprintf(copy, sizeof(copy), "%s", words);
    at += (size_t)snprintf(out + at, size - at, "*%zu\r\n", n + 1);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
        at += (size_t)snprintf(out + at, size - at, "$%zu\r\n%s\r\n", strlen(w), w);
    return at;
}

static enum durable_touch look(const char *bytes, size_t len, uint16_t *slot)
{
    struct resp_request framer;
    size_t used = 0;

    resp_request_init(&framer);
    assert_int_equal(resp_request_feed(&framer, bytes, len, &used), RESP_END);
    return touch_of(&framer, bytes, len, slot);
}

static void check(const char *words, enum durable_touch touch, int slot)
{
    char bytes[512];
    uint16_t at = 0;

    assert_int_equal(look(bytes, request(words, bytes, sizeof(bytes)), &at), touch);
    if (at != slot)
        fail_msg("%s: slot %u, not %d", words, at, slot);
}

static int slot_of(const char *key)
{
    return durable_slot(key, strlen(key));
}

static void test_what_and_where(void **state)
{
    (void)state;
    check("SET a 1", DURABLE_WRITES, slot_of("a"));
    check("get a", DURABLE_READS, slot_of("a"));
    check("XGROUP CREATE s g $", DURABLE_WRITES, slot_of("s"));
    check("OBJECT ENCODING a", DURABLE_READS, slot_of("a"));
    check("DEL a", DURABLE_WRITES, slot_of("a"));
    check("DEL a b", DURABLE_WRITES, DURABLE_ANY);
    check("MSET a 1", DURABLE_WRITES, slot_of("a"));
    check("MSET a 1 b 2", DURABLE_WRITES, DURABLE_ANY);
    check("BLPOP q 5", DURABLE_WRITES, slot_of("q"));
    check("BLPOP q r 5", DURABLE_WRITES, DURABLE_ANY);
    check("MGET a", DURABLE_READS, slot_of("a"));
    check("MGET a b", DURABLE_READS, TOUCH_KEYS);
    check("KEYS *", DURABLE_READS, DURABLE_ANY);
    check("FLUSHALL", DURABLE_WRITES, DURABLE_ANY);
    check("EVAL x 1 a", DURABLE_WRITES, DURABLE_ANY);
    check("FCALL f 1 a", DURABLE_WRITES, DURABLE_ANY);
    check("EVAL_RO x 1 a", DURABLE_READS, DURABLE_ANY);
    check("SORT a STORE b", DURABLE_WRITES, DURABLE_ANY);
    check("MODULE.COMMAND a", DURABLE_WRITES, DURABLE_ANY);
    check("PING", DURABLE_NOTHING, DURABLE_ANY);
    check("PUBLISH a b", DURABLE_NOTHING, DURABLE_ANY);
    check("SUBSCRIBE a", DURABLE_NOTHING, DURABLE_ANY);
    check("EXEC", DURABLE_NOTHING, DURABLE_ANY);
    check("SET", DURABLE_WRITES, DURABLE_ANY); /* it has no key */
}

static void test_inline_and_cut_requests_may_be_about_any_key(void **state)
{
    uint16_t slot = 0;
    char bytes[64];
    struct resp_request framer;
    size_t used = 0, len = request("SET key 1", bytes, sizeof(bytes));

    (void)state;
    assert_int_equal(look("SET a 1\r\n", 9, &slot), DURABLE_WRITES);
    assert_int_equal(slot, DURABLE_ANY);
    resp_request_init(&framer);
    assert_int_equal(resp_request_feed(&framer, bytes, len, &used), RESP_END);
    for (size_t n = 0; n < len; n++) {
        assert_int_equal(touch_of(&framer, bytes, n, &slot), DURABLE_WRITES);
        assert_true(slot == DURABLE_ANY || (slot == slot_of("key") && n >= 20));
    }
}

static void test_a_read_of_several_keys_waits_for_those_only(void **state)
{
    struct durable d = {0};
    char bytes[128];
    size_t len = request("MGET a b c", bytes, sizeof(bytes));

    (void)state;
    durable_set(&d, true, 1);
    durable_opened(&d);
    assert_int_equal(touch_read_needs(&d, TOUCH_KEYS, bytes, len), 0);
    durable_mark(&d, durable_slot("x", 1));
    assert_int_equal(touch_read_needs(&d, TOUCH_KEYS, bytes, len), 0);
    assert_int_equal(touch_read_needs(&d, TOUCH_KEYS, NULL, 0), d.next);
    assert_int_equal(touch_read_needs(&d, DURABLE_ANY, bytes, len), d.next);
    durable_mark(&d, durable_slot("c", 1));
    assert_int_equal(touch_read_needs(&d, TOUCH_KEYS, bytes, len), d.next);
    durable_unmark(&d, durable_slot("c", 1), false);
    assert_int_equal(touch_read_needs(&d, TOUCH_KEYS, bytes, len), 0);
    durable_unmark(&d, durable_slot("x", 1), true);
    durable_free(&d);
}

static void test_one_with_a_key_does_nothing_when_it_fails(void **state)
{
    const uint16_t slot = durable_slot("a", 1);

    (void)state;
    assert_int_equal(touch_answered(DURABLE_WRITES, slot, false), DURABLE_WRITES);
    assert_int_equal(touch_answered(DURABLE_WRITES, slot, true), DURABLE_READS);
    assert_int_equal(touch_answered(DURABLE_WRITES, DURABLE_ANY, true), DURABLE_WRITES);
    assert_int_equal(touch_answered(DURABLE_READS, slot, true), DURABLE_READS);
    assert_int_equal(touch_answered(DURABLE_NOTHING, 0, true), DURABLE_NOTHING);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_and_where),
        cmocka_unit_test(test_inline_and_cut_requests_may_be_about_any_key),
        cmocka_unit_test(test_a_read_of_several_keys_waits_for_those_only),
        cmocka_unit_test(test_one_with_a_key_does_nothing_when_it_fails),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
