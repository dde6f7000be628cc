/* Which replica a client reads from. */
#include "proxy/core/reading.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
/* cmocka wants the four above first */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>

/* Readers 10.0.0.2, 10.0.0.3, … in these zones; the master is 10.0.0.1. */
static struct route route_of(enum topology_reads reads, const char *const *zones)
{
    struct route r = {.state = ROUTE_SERVING, .reads = reads, .master = {"10.0.0.1", 6379}};

    for (; zones[r.n_readers]; r.n_readers++) {
        struct topology_reader *reader = &r.readers[r.n_readers];
        (void)snprintf(reader->address.host, sizeof(reader->address.host), "10.0.0.%u", r.n_readers + 2);
        reader->address.port = 6379;
        (void)snprintf(reader->zone, sizeof(reader->zone), "%s", zones[r.n_readers]);
    }
    return r;
}

/* Who is chosen for the clients 0 to 5: "012012"; "-" where nobody is. */
static const char *chosen(const struct route *r, const char *zone, uint32_t avoid)
{
    static char text[7];

    for (uint32_t number = 0; number < 6; number++) {
        int k = reading_choose(r, zone, number, avoid);
        text[number] = k < 0 ? '-' : (char)('0' + k);
    }
    return text;
}

static void test_clients_are_spread_over_all(void **state)
{
    struct route r = route_of(TOPOLOGY_READS_REPLICA, (const char *[]){"a", "b", "", NULL});

    (void)state;
    assert_string_equal(chosen(&r, "", 0), "012012");
    assert_string_equal(chosen(&r, "a", 0), "012012"); /* only "nearest" looks at zones */
    r.reads = TOPOLOGY_READS_MASTER;                   /* the client said READONLY */
    assert_string_equal(chosen(&r, "a", 0), "012012");
}

static void test_the_same_zone_comes_first(void **state)
{
    struct route r = route_of(TOPOLOGY_READS_NEAREST, (const char *[]){"a", "b", "a", NULL});

    (void)state;
    assert_string_equal(chosen(&r, "a", 0), "020202");
    assert_string_equal(chosen(&r, "b", 0), "111111");
    assert_string_equal(chosen(&r, "c", 0), "012012"); /* none there: any */
    assert_string_equal(chosen(&r, "", 0), "012012");  /* who has no zone is as near to all */
}

static void test_who_failed_is_avoided(void **state)
{
    struct route r = route_of(TOPOLOGY_READS_NEAREST, (const char *[]){"a", "b", "a", NULL});

    (void)state;
    assert_string_equal(chosen(&r, "a", 1 << 0), "222222");
    assert_string_equal(chosen(&r, "a", 1 << 0 | 1 << 2), "111111");
    assert_string_equal(chosen(&r, "a", 7), "------");
}

static void test_without_readers_the_master_serves(void **state)
{
    struct route r = route_of(TOPOLOGY_READS_REPLICA, (const char *[]){NULL});

    (void)state;
    assert_string_equal(chosen(&r, "a", 0), "------");
    r = route_of(TOPOLOGY_READS_REPLICA, (const char *[]){"a", NULL});
    r.state = ROUTE_HELD;
    assert_string_equal(chosen(&r, "a", 0), "------");
    r.state = ROUTE_SERVING;
    r.master = r.readers[0].address; /* promoted: it is no replica */
    assert_string_equal(chosen(&r, "a", 0), "------");
    assert_false(reading_is_listed(&r, &r.master));
}

static void test_only_listed_ones_are_read_from(void **state)
{
    struct route r = route_of(TOPOLOGY_READS_REPLICA, (const char *[]){"a", "b", NULL});
    struct topology_address other = {"10.0.0.9", 6379};

    (void)state;
    assert_true(reading_is_listed(&r, &r.readers[1].address));
    assert_false(reading_is_listed(&r, &other));
    assert_false(reading_is_listed(&r, &r.master));
}

static void test_retries_become_rare(void **state)
{
    int64_t before_us = 0;

    (void)state;
    assert_int_equal(reading_retry_us(1), READING_RETRY_MIN_US);
    for (uint32_t k = 1; k < 40; k++) {
        assert_true(reading_retry_us(k) >= before_us && reading_retry_us(k) <= READING_RETRY_MAX_US);
        before_us = reading_retry_us(k);
    }
    assert_int_equal(before_us, READING_RETRY_MAX_US);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clients_are_spread_over_all),
        cmocka_unit_test(test_the_same_zone_comes_first),
        cmocka_unit_test(test_who_failed_is_avoided),
        cmocka_unit_test(test_without_readers_the_master_serves),
        cmocka_unit_test(test_only_listed_ones_are_read_from),
        cmocka_unit_test(test_retries_become_rare),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
