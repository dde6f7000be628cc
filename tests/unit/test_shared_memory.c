/* What an empty shared connection keeps in memory, and for how long. */
#include "proxy/core/shared.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

enum { LITTLE = 100, MUCH = 2 * SHARED_KEEP_MAX };

static void asks(struct shared *sh, size_t bytes)
{
    static char request[MUCH];

    assert_int_equal(shared_begin(sh, request, bytes, 1), 0);
    assert_int_equal(shared_span(sh).len, bytes);
    shared_wrote(sh, bytes);
}

static void is_answered(struct shared *sh)
{
    const char *text = "+OK\r\n";
    size_t len = 5;
    struct shared_step step;

    while (len > 0)
        shared_take_reply(sh, 0, &text, &len, &step);
    assert_int_equal(shared_count(sh), 0);
}

/* It is for those who come soon after, and given back when none do. */
static void test_much_is_given_back_when_nothing_comes(void **state)
{
    struct shared sh = {0};

    (void)state;
    assert_false(shared_may_rest(&sh));
    asks(&sh, MUCH);
    assert_false(shared_may_rest(&sh));
    shared_rest(&sh);
    shared_rest(&sh); /* it is in use */
    is_answered(&sh);
    size_t bytes = shared_memory_bytes(&sh);
    assert_true(bytes > MUCH && shared_may_rest(&sh));
    asks(&sh, MUCH);
    is_answered(&sh);
    assert_int_equal(shared_memory_bytes(&sh), bytes);
    shared_rest(&sh); /* something came since the last time */
    assert_int_equal(shared_memory_bytes(&sh), bytes);
    shared_rest(&sh);
    assert_int_equal(shared_memory_bytes(&sh), 0);
    assert_false(shared_may_rest(&sh));
    asks(&sh, LITTLE);
    is_answered(&sh);
    shared_free(&sh);
}

/* Of hundreds of instances with few requests none needs a timer for that. */
static void test_little_stays(void **state)
{
    struct shared sh = {0};

    (void)state;
    asks(&sh, LITTLE);
    is_answered(&sh);
    size_t bytes = shared_memory_bytes(&sh);
    assert_in_range(bytes, 1, SHARED_KEEP_MAX);
    assert_false(shared_may_rest(&sh));
    shared_rest(&sh);
    shared_rest(&sh);
    assert_int_equal(shared_memory_bytes(&sh), bytes);
    shared_free(&sh);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_much_is_given_back_when_nothing_comes),
        cmocka_unit_test(test_little_stays),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
