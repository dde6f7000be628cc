/* When the proxy's thread looks on instead of sleeping, and when it doesn't. */
#include "proxy/core/spin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* One client asks and is answered n times, a round takes round_us. Returns in how many rounds the thread
 * slept before the answer. */
static int rounds(struct spin *s, int64_t *now_us, int n, uint64_t client, int64_t round_us)
{
    int slept = 0;

    for (int i = 0; i < n; i++) {
        bool spins = spin_turn(s, 1, client, false, *now_us);
        int64_t answer_us = *now_us + round_us / 2;
        for (; spins && *now_us < answer_us; *now_us += 2)
            spins = spin_turn(s, 0, 0, false, *now_us);
        slept += !spins;
        *now_us = answer_us;
        spins = spin_turn(s, 0, 0, true, *now_us);
        for (int64_t next_us = *now_us + round_us / 2; *now_us < next_us; *now_us += 2)
            if (spins)
                spins = spin_turn(s, 0, 0, false, *now_us);
    }
    return slept;
}

static void test_a_lone_client_that_asks_at_once_is_looked_for(void **state)
{
    struct spin s = {0};
    int64_t now_us = 1000000;

    (void)state;
    assert_int_equal(rounds(&s, &now_us, SPIN_IN_ROW, 7, 60), SPIN_IN_ROW);
    assert_int_equal(rounds(&s, &now_us, 100, 7, 60), 0);
    assert_true(s.spins);
    /* It stops: one last look. */
    assert_true(spin_turn(&s, 0, 0, false, now_us + SPIN_US / 2));
    assert_false(spin_turn(&s, 0, 0, false, now_us + SPIN_US));
    assert_false(spin_turn(&s, 0, 0, false, now_us + SPIN_US + 1));
}

static void test_who_takes_his_time_is_not(void **state)
{
    struct spin s = {0};
    int64_t now_us = 1000000;

    (void)state;
    assert_int_equal(rounds(&s, &now_us, 1000, 7, SPIN_TIGHT_US + 10), 1000);
    assert_int_equal(rounds(&s, &now_us, 1000, 7, 2000), 1000);
}

/* As on one processor, where the server can't answer meanwhile. */
static void test_what_is_in_vain_is_rare(void **state)
{
    struct spin s = {0};
    int64_t now_us = 1000000;
    int n = 16 * SPIN_IN_ROW, looked;

    (void)state;
    looked = n - rounds(&s, &now_us, n, 7, 2 * SPIN_US + 20);
    assert_int_equal(looked, 0); /* each look ended before the answer … */
    s = (struct spin){0};
    int begun = 0;
    for (int i = 0; i < n; i++) {
        begun += spin_turn(&s, 1, 7, false, now_us);
        now_us += 2 * SPIN_US;
        assert_false(spin_turn(&s, 0, 0, false, now_us));
    }
    assert_in_range(begun, 1, n / SPIN_IN_ROW); /* … and there were few */
}

static void test_two_are_not_alone(void **state)
{
    struct spin s = {0};
    int64_t now_us = 1000000;

    (void)state;
    (void)rounds(&s, &now_us, 2 * SPIN_IN_ROW, 7, 60);
    assert_true(s.spins);
    assert_false(spin_turn(&s, 1, 8, false, now_us)); /* another one */
    for (int i = 0; i < 1000; i++, now_us += 20)
        assert_false(spin_turn(&s, 1, 7 + (uint64_t)(i & 1), i & 1, now_us));
    (void)rounds(&s, &now_us, 2 * SPIN_IN_ROW, 7, 60);
    assert_true(s.spins);
    assert_false(spin_turn(&s, 2, 7, false, now_us)); /* two at once */
}

static void test_who_does_not_wait_for_answers_is_not(void **state)
{
    struct spin s = {0};
    int64_t now_us = 1000000;

    (void)state;
    (void)rounds(&s, &now_us, 2 * SPIN_IN_ROW, 7, 60);
    assert_true(s.spins);
    for (int i = 0; i < 1000; i++, now_us += 20)
        assert_false(spin_turn(&s, 1, 0, i & 1, now_us));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_lone_client_that_asks_at_once_is_looked_for),
        cmocka_unit_test(test_who_takes_his_time_is_not),
        cmocka_unit_test(test_what_is_in_vain_is_rare),
        cmocka_unit_test(test_two_are_not_alone),
        cmocka_unit_test(test_who_does_not_wait_for_answers_is_not),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
