/* When the proxy's thread waits for its turn, and when it doesn't. */
#include "proxy/core/turns.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS ((int64_t)1000)

/* Turns of so many clients each, one every gap_us, for span_us. Returns how often it changed its mind. */
static int goes_on(struct turns *t, int64_t *now_us, int64_t span_us, int64_t gap_us, uint32_t clients)
{
    int64_t until_us = *now_us + span_us;
    int changes = 0;

    for (; *now_us < until_us; *now_us += gap_us)
        changes += turns_end(t, clients, *now_us);
    return changes;
}

static void test_many_busy_clients_make_it_wait(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    (void)state;
    assert_int_equal(goes_on(&t, &now_us, 55 * MS, 100, 3), 0);
    assert_false(t.waits); /* not at once */
    assert_int_equal(goes_on(&t, &now_us, 1000 * MS, 100, 3), 1);
    assert_true(t.waits);
    assert_int_equal(goes_on(&t, &now_us, 1000 * MS, 500, 20), 0); /* fewer turns, of more clients */
    assert_true(t.waits);
}

static void test_one_alone_never_does_however_busy(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    (void)state;
    assert_int_equal(goes_on(&t, &now_us, 1000 * MS, 20, 1), 0);
    assert_false(t.waits);
}

static void test_many_clients_that_ask_rarely_dont_either(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    (void)state;
    assert_int_equal(goes_on(&t, &now_us, 1000 * MS, 2500, 10), 0); /* 4,000 a second */
    assert_false(t.waits);
}

static void test_a_burst_is_over_before_it_counts(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    (void)state;
    for (int k = 0; k < 10; k++) {
        assert_int_equal(goes_on(&t, &now_us, 30 * MS, 100, 5), 0);
        assert_int_equal(goes_on(&t, &now_us, 40 * MS, 10 * MS, 1), 0);
    }
    assert_false(t.waits);
}

static void test_it_stops_when_they_become_few_or_slow(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    (void)state;
    assert_int_equal(goes_on(&t, &now_us, 200 * MS, 100, 3), 1);
    assert_int_equal(goes_on(&t, &now_us, 55 * MS, 100, 1), 0);
    assert_true(t.waits);
    assert_int_equal(goes_on(&t, &now_us, 100 * MS, 100, 1), 1);
    assert_false(t.waits);
    assert_int_equal(goes_on(&t, &now_us, 200 * MS, 100, 3), 1);
    assert_int_equal(goes_on(&t, &now_us, 100 * MS, 1500, 3), 1); /* 2,000 a second */
    assert_false(t.waits);
}

/* The first request after a rest must find it ready to take its turn. */
static void test_a_rest_ends_it_at_once(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    (void)state;
    assert_int_equal(goes_on(&t, &now_us, 200 * MS, 100, 3), 1);
    assert_true(t.waits);
    assert_true(turns_end(&t, 1, now_us + 40 * MS));
    assert_false(t.waits);
}

/* What came before a rest is no reason to begin after it. */
static void test_a_rest_begins_nothing(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    (void)state;
    for (int k = 0; k < 10; k++) {
        assert_int_equal(goes_on(&t, &now_us, 15 * MS, 50, 5), 0);
        now_us += 50 * MS;
    }
    assert_false(t.waits);
}

static void test_turns_without_clients_count_for_nothing(void **state)
{
    struct turns t = {0};
    int64_t now_us = 1;
    int changes = 0;
    (void)state;
    for (int k = 0; k < 10000; k++, now_us += 50)
        changes += turns_end(&t, k % 4 == 0 ? 3 : 0, now_us);
    assert_int_equal(changes, 1);
    assert_true(t.waits);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_many_busy_clients_make_it_wait),
        cmocka_unit_test(test_one_alone_never_does_however_busy),
        cmocka_unit_test(test_many_clients_that_ask_rarely_dont_either),
        cmocka_unit_test(test_a_burst_is_over_before_it_counts),
        cmocka_unit_test(test_it_stops_when_they_become_few_or_slow),
        cmocka_unit_test(test_a_rest_ends_it_at_once),
        cmocka_unit_test(test_a_rest_begins_nothing),
        cmocka_unit_test(test_turns_without_clients_count_for_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
