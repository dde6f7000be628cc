/* Maintenance pauses as JSON: the znode /pause. */
#include "common/core/pause_codec.h"
#include "tests/lib/golden.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char text[4096], why[256];

static const struct topology_pause sample = {.owner = "anna@host-7",
                                             .reason = "new switches in rack 4",
                                             .since_ms = 1795384683412,
                                             .until_ms = 1795391883412};

static void test_the_znode(void **state)
{
    struct topology_pause back;
    ssize_t len = topology_encode_pause(&sample, text, sizeof text);

    (void)state;
    assert_true(len > 0);
    golden_compare("pause.json", text, (size_t)len);
    assert_int_equal(topology_decode_pause(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.owner, sample.owner);
    assert_string_equal(back.reason, sample.reason);
    assert_int_equal(back.since_ms, sample.since_ms);
    assert_int_equal(back.until_ms, sample.until_ms);
    assert_int_equal(topology_encode_pause(&sample, text, 20), ERR_TOO_LARGE);
}

static void test_until_resumed(void **state)
{
    struct topology_pause p = {.owner = "anna", .since_ms = 1}, back;
    ssize_t len = topology_encode_pause(&p, text, sizeof text);

    (void)state;
    assert_string_equal(text, "{\"v\":1,\"pause\":{\"owner\":\"anna\",\"reason\":\"\",\"since_ms\":1}}");
    assert_int_equal(topology_decode_pause(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.owner, "anna");
    assert_int_equal(back.since_ms, 1);
    assert_int_equal(back.until_ms, 0);
}

static void test_nobody_pauses(void **state)
{
    struct topology_pause nobody = {.owner = ""}, back = sample;
    ssize_t len = topology_encode_pause(&nobody, text, sizeof text);

    (void)state;
    assert_string_equal(text, "{\"v\":1}");
    assert_int_equal(topology_decode_pause(text, (size_t)len, &back, why, sizeof why), 0);
    assert_string_equal(back.owner, "");
    assert_int_equal(back.since_ms, 0);
}

#define PAUSE(fields) "{\"v\":1,\"pause\":{" fields "}}"

static void test_hostile_texts(void **state)
{
    static const struct {
        const char *text;
        int err;
    } cases[] = {
        {PAUSE("\"owner\":\"a\",\"since_ms\":0,\"news\":[1]"), 0},
        {"{\"v\":2}", ERR_VERSION},
        {PAUSE("\"owner\":\"\""), ERR_INVALID},
        {PAUSE("\"since_ms\":0"), ERR_INVALID},
        {PAUSE("\"owner\":\"a\",\"since_ms\":\"0\""), ERR_INVALID},
        {PAUSE("\"owner\":\"a\",\"until_ms\":-1"), ERR_INVALID},
        {PAUSE("\"owner\":7"), ERR_INVALID},
        {"{\"v\":1,\"pause\":true}", ERR_INVALID},
        {"", ERR_INVALID},
        {"[]", ERR_INVALID},
    };

    (void)state;
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        struct topology_pause p;

        why[0] = '\0';
        int err = topology_decode_pause(cases[k].text, strlen(cases[k].text), &p, why, sizeof why);
        if (err != cases[k].err || (err == 0) != (why[0] == '\0'))
            fail_msg("%s: %s, %s", cases[k].text, err_name(err), why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_znode),
        cmocka_unit_test(test_until_resumed),
        cmocka_unit_test(test_nobody_pauses),
        cmocka_unit_test(test_hostile_texts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
