/* Who asks for a large reply now, and who a moment later. */
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
        assert_true(window_enter(w, &seats[i], 0));
        (void)window_reply(w, &seats[i], bytes / 2);
        (void)window_reply(w, &seats[i], bytes - bytes / 2);
    }
}

static int enter(struct window *w, struct window_seat *seats, int n)
{
    int entered = 0;

    for (int i = 0; i < n; i++)
        if (seats[i].takes == 0)
            entered += window_enter(w, &seats[i], 0);
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
    assert_false(window_enter(&w, &seats[SEATS], 0));
    assert_true(window_reply(&w, &seats[3], 1)); /* the first byte gives it back */
    assert_false(window_reply(&w, &seats[3], KB64));
    assert_true(window_enter(&w, &seats[SEATS], 0));
    assert_false(window_enter(&w, &seats[3], 0)); /* it asks again: others are before it */
    assert_true(window_leave(&w, &seats[5]));
    assert_false(window_leave(&w, &seats[5]));
    assert_true(window_leave(&w, &seats[6]));
    assert_true(window_enter(&w, &seats[3], 0));
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
    assert_true(window_enter(&w, &seats[50], 0));
    assert_true(window_enter(&w, &seats[0], 0)); /* what it had last was small */
}

static void test_what_is_known_of_a_request_counts(void **state)
{
    enum { FIT = WINDOW_BYTES / 100000 };
    struct window w = {0};
    struct window_seat seats[FIT + 1] = {{0}};

    (void)state;
    for (int i = 0; i < FIT; i++)
        assert_true(window_enter(&w, &seats[i], 100000));
    assert_false(window_enter(&w, &seats[FIT], 100000));
    assert_true(window_enter(&w, &seats[FIT], WINDOW_LARGE - 1));
    assert_true(window_leave(&w, &seats[0]));
    assert_true(window_enter(&w, &seats[0], 100000));
    assert_int_equal(w.bytes, FIT * 100000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_replies_need_no_seat),
        cmocka_unit_test(test_as_many_ask_for_large_ones_as_there_is_room_for),
        cmocka_unit_test(test_the_largest_have_seats_too),
        cmocka_unit_test(test_what_is_known_of_a_request_counts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
