#include "proxy/core/histogram.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

static struct histogram_sum read_all(const struct histogram *h)
{
    struct histogram_sum sum = {0};

    histogram_read(h, &sum);
    return sum;
}

static void test_an_empty_one_says_nothing(void **state)
{
    struct histogram_sum sum = {0};

    (void)state;
    histogram_read(NULL, &sum);
    assert_int_equal(histogram_total(&sum), 0);
    assert_int_equal(histogram_quantile_us(&sum, 999), 0);
    assert_int_equal(histogram_below(&sum, HISTOGRAM_OCTAVES), 0);
}

/* Whatever took v is told as something that is off by an eighth at most. */
static void test_each_value_is_told_nearly(void **state)
{
    (void)state;
    for (uint64_t v = 0; v < 1ULL << HISTOGRAM_OCTAVES; v += 1 + v / 7) {
        struct histogram h = {0};
        histogram_add(&h, (uint32_t)v);
        struct histogram_sum sum = read_all(&h);
        uint64_t told = histogram_quantile_us(&sum, 500), off = told > v ? told - v : v - told;
        assert_true(off <= v / 8 + (v < 8));
        assert_int_equal(sum.sum_us, v);
    }
}

static void test_edges(void **state)
{
    struct histogram h = {0};

    (void)state;
    histogram_add(&h, 0);
    histogram_add(&h, 3);
    histogram_add(&h, 4);
    histogram_add(&h, 1023);
    histogram_add(&h, 1024);
    histogram_add(&h, (1U << HISTOGRAM_OCTAVES) - 1);
    histogram_add(&h, 1U << HISTOGRAM_OCTAVES);
    histogram_add(&h, UINT32_MAX);
    struct histogram_sum sum = read_all(&h);
    assert_int_equal(histogram_total(&sum), 8);
    assert_int_equal(histogram_below(&sum, 2), 2);
    assert_int_equal(histogram_below(&sum, 3), 3);
    assert_int_equal(histogram_below(&sum, 10), 4);
    assert_int_equal(histogram_below(&sum, 11), 5);
    assert_int_equal(histogram_below(&sum, HISTOGRAM_OCTAVES), 6);
    assert_int_equal(histogram_quantile_us(&sum, 1000), 1U << HISTOGRAM_OCTAVES);
}

static int by_value(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return *x < *y ? -1 : *x > *y;
}

static void test_quantiles_are_near_those_of_the_sorted_values(void **state)
{
    enum { N = 20000 };
    static uint32_t values[N];
    static const unsigned per_mille[] = {1, 100, 500, 900, 990, 999, 1000};
    struct histogram h = {0};
    uint32_t seed = 4711;

    (void)state;
    for (int i = 0; i < N; i++) {
        seed = seed * 1664525 + 1013904223;
        values[i] = 50 + (seed >> 16) % 400 + (i % 200 == 0 ? 20000 : 0);
        histogram_add(&h, values[i]);
    }
    qsort(values, N, sizeof(values[0]), by_value);
    struct histogram_sum sum = read_all(&h);
    for (size_t k = 0; k < sizeof(per_mille) / sizeof(per_mille[0]); k++) {
        uint64_t exact = values[N / 1000 * per_mille[k] - 1];
        uint64_t told = histogram_quantile_us(&sum, per_mille[k]);
        assert_in_range(told, exact - exact / 4, exact + exact / 4);
    }
}

static void test_several_add_up_and_the_past_is_taken_away(void **state)
{
    struct histogram a = {0}, b = {0};
    struct histogram_sum then = {0}, now = {0};

    (void)state;
    histogram_add(&a, 100);
    histogram_add(&b, 100);
    histogram_read(&a, &then);
    histogram_read(&b, &then);
    histogram_add(&b, 9000);
    histogram_read(&a, &now);
    histogram_read(&b, &now);
    assert_int_equal(histogram_total(&now), 3);
    assert_true(histogram_is_later(&now, &then));
    assert_false(histogram_is_later(&then, &now));
    histogram_subtract(&now, &then);
    assert_int_equal(histogram_total(&now), 1);
    assert_int_equal(now.sum_us, 9000);
    assert_in_range(histogram_quantile_us(&now, 500), 8192, 10240);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_empty_one_says_nothing),
        cmocka_unit_test(test_each_value_is_told_nearly),
        cmocka_unit_test(test_edges),
        cmocka_unit_test(test_quantiles_are_near_those_of_the_sorted_values),
        cmocka_unit_test(test_several_add_up_and_the_past_is_taken_away),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
