/* What is known of the sizes of replies. */
#include "proxy/core/large.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_what_was_large_is_known_until_it_was_small(void **state)
{
    struct large l = {NULL};

    (void)state;
    assert_int_equal(large_expects(&l, "GET a", 5), 0);
    large_note(&l, "GET a", 5, 3, false);
    assert_null(l.places); /* small replies cost nothing */
    large_note(&l, "GET a", 5, 70000, true);
    assert_int_equal(large_expects(&l, "GET a", 5), 70000);
    assert_int_equal(large_expects(&l, "GET b", 5), 0);
    assert_int_equal(large_expects(&l, "STRLEN a", 8), 0); /* the request counts, not the key */
    large_note(&l, "GET b", 5, 3, false);
    assert_int_equal(large_expects(&l, "GET a", 5), 70000);
    large_note(&l, "GET a", 5, (uint64_t)5 << 30, true);
    assert_int_equal(large_expects(&l, "GET a", 5), UINT32_MAX);
    large_note(&l, "GET a", 5, 3, false);
    assert_int_equal(large_expects(&l, "GET a", 5), 0);
    large_free(&l);
    assert_int_equal(large_expects(&l, "GET a", 5), 0);
    large_free(&l);
}

/* Of many the newest are known, and none is taken for another. */
static void test_many(void **state)
{
    enum { MANY = 100 * LARGE_PLACES };
    struct large l = {NULL};
    int known = 0;

    (void)state;
    for (int i = 0; i < MANY; i++) {
        char request[32];
        int len = snprintf(request, sizeof(request), "GET key:%d", i);
        assert_int_equal(large_expects(&l, request, (size_t)len), 0);
        large_note(&l, request, (size_t)len, (uint64_t)i + 1, true);
        assert_int_equal(large_expects(&l, request, (size_t)len), i + 1);
    }
    for (int i = MANY - LARGE_PLACES; i < MANY; i++) {
        char request[32];
        int len = snprintf(request, sizeof(request), "GET key:%d", i);
        uint32_t bytes = large_expects(&l, request, (size_t)len);
        assert_true(bytes == 0 || bytes == (uint32_t)i + 1);
        known += bytes > 0;
    }
    assert_in_range(known, LARGE_PLACES / 2, LARGE_PLACES); /* 1 - 1/e of them, if the hash spreads them */
    large_free(&l);
}

static void test_long_requests_are_not_looked_at(void **state)
{
    char request[LARGE_REQUEST_MAX + 1];
    struct large l = {NULL};

    (void)state;
    memset(request, 'x', sizeof(request));
    large_note(&l, request, sizeof(request), 70000, true);
    assert_null(l.places);
    large_note(&l, request, sizeof(request) - 1, 70000, true);
    assert_int_equal(large_expects(&l, request, sizeof(request) - 1), 70000);
    assert_int_equal(large_expects(&l, request, sizeof(request) - 2), 0);
    assert_int_equal(large_expects(&l, request, sizeof(request)), 0);
    large_free(&l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_was_large_is_known_until_it_was_small),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_long_requests_are_not_looked_at),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
