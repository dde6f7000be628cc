/* Who asks for a large reply now, and who a moment later; and how newcomers begin. */
#include "proxy/core/newcomers.h"
#include "proxy/core/window.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { MANY = 100, KB64 = 64 * 1024, SEATS = WINDOW_BYTES / KB64 };

/* Each has had a reply of so many bytes. */
static void had(struct window *w, struct window_seat *seats, int n, uint64_t bytes)
{
    for (int i = 0; i < n; i++) {
        assert_true(window_enter(w, &seats[i]));
        (void)window_reply(w, &seats[i], bytes / 2);
        (void)window_reply(w, &seats[i], bytes - bytes / 2);
    }
}

static int enter(struct window *w, struct window_seat *seats, int n)
{
    int entered = 0;

    for (int i = 0; i < n; i++)
        if (seats[i].takes == 0)
            entered += window_enter(w, &seats[i]);
    return entered;
}

static void test_small_replies_need_no_seat(void **state)
{
    struct window w = {0};
    struct window_seat seats[MANY] = {{0}};

    (void)state;
    assert_int_equal(enter(&w, seats, MANY), MANY); /* nothing is known of them */
    had(&w, seats, MANY, WINDOW_LARGE - 1);
    assert_int_equal(enter(&w, seats, MANY), MANY);
    assert_int_equal(w.bytes, 0);
}

static void test_as_many_ask_for_large_ones_as_there_is_room_for(void **state)
{
    struct window w = {0};
    struct window_seat seats[MANY] = {{0}};

    (void)state;
    had(&w, seats, MANY, KB64);
    assert_int_equal(enter(&w, seats, MANY), SEATS);
    assert_false(window_enter(&w, &seats[SEATS]));
    assert_true(window_reply(&w, &seats[3], 1)); /* the first byte gives it back */
    assert_false(window_reply(&w, &seats[3], KB64));
    assert_true(window_enter(&w, &seats[SEATS]));
    assert_false(window_enter(&w, &seats[3])); /* it asks again: others are before it */
    assert_true(window_leave(&w, &seats[5]));
    assert_false(window_leave(&w, &seats[5]));
    assert_true(window_leave(&w, &seats[6]));
    assert_true(window_enter(&w, &seats[3]));
    for (int i = 0; i < MANY; i++)
        (void)window_leave(&w, &seats[i]);
    assert_int_equal(w.bytes, 0);
}

/* Whatever they had last: some may always ask. */
static void test_the_largest_have_seats_too(void **state)
{
    struct window w = {0};
    struct window_seat seats[MANY] = {{0}};

    (void)state;
    had(&w, seats, MANY, (uint64_t)512 * 1024 * 1024);
    assert_int_equal(enter(&w, seats, MANY), WINDOW_BYTES / WINDOW_SEAT_MAX);
    assert_true(window_reply(&w, &seats[0], 10));
    assert_true(window_enter(&w, &seats[50]));
    assert_true(window_enter(&w, &seats[0])); /* what it had last was small */
}

static void test_newcomers_begin_as_the_others_are(void **state)
{
    struct newcomers n = {0};

    (void)state;
    assert_false(newcomers_come(&n, 0, 0, 5));
    assert_false(newcomers_come(&n, NEWCOMERS_REQUESTS - 1, NEWCOMERS_REQUESTS - 1, 5)); /* too few to tell */
    assert_true(newcomers_come(&n, 100, 25, 5));
    assert_true(newcomers_come(&n, 100, 25, 5));
    assert_true(newcomers_come(&n, 150, 25, 5)); /* too few again: as before */
    assert_false(newcomers_come(&n, 200, 25, 5));
    assert_false(newcomers_come(&n, 1000000, 150000, 5));
    assert_true(newcomers_come(&n, 1000064, 150064, 5));
    assert_true(newcomers_come(&n, 1000064, 150064, NEWCOMERS_FRESH_MS));
    assert_false(newcomers_come(&n, 1000065, 150064, NEWCOMERS_FRESH_MS + 1)); /* that is long ago */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_replies_need_no_seat),
        cmocka_unit_test(test_as_many_ask_for_large_ones_as_there_is_room_for),
        cmocka_unit_test(test_the_largest_have_seats_too),
        cmocka_unit_test(test_newcomers_begin_as_the_others_are),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
