/* Where the proxy's thread goes: to the Redis that keeps it busy, and nowhere else. */
#include "proxy/core/beside.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#define MS ((int64_t)1000)

/* One that serves: where Redis runs when it answers, and what a turn is. */
struct load {
    struct beside beside;
    int64_t now_us, gap_us;
    int redis; /* processor; BESIDE_ANYWHERE: on another host, or nothing is answered */
    uint32_t clients, processors;
    size_t bytes;
    int asked;
};

static void load_init(struct load *l)
{
    *l = (struct load){.now_us = 1, .gap_us = 100, .redis = 1, .clients = 3, .processors = 2, .bytes = 300};
    beside_init(&l->beside);
}

/* Returns how often it went elsewhere. */
static int goes_on(struct load *l, int64_t span_us)
{
    int64_t until_us = l->now_us + span_us;
    int moves = 0;

    for (; l->now_us < until_us; l->now_us += l->gap_us) {
        if (beside_asks(&l->beside)) {
            l->asked++;
            beside_answered(&l->beside, l->redis, l->processors);
        }
        moves += beside_turn(&l->beside, l->clients, l->bytes, l->now_us);
    }
    return moves;
}

static void test_a_busy_one_goes_to_redis_and_follows_it(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    assert_int_equal(goes_on(&l, 14 * MS), 0); /* not at once */
    assert_int_equal(l.beside.processor, BESIDE_ANYWHERE);
    assert_int_equal(goes_on(&l, 1000 * MS), 1);
    assert_int_equal(l.beside.processor, 1);
    l.redis = 0;
    assert_int_equal(goes_on(&l, 1000 * MS), 1);
    assert_int_equal(l.beside.processor, 0);
}

static void test_it_asks_once_a_look(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    assert_int_equal(goes_on(&l, 1000 * MS), 1);
    assert_in_range(l.asked, 150, 200);
    l.redis = BESIDE_ANYWHERE; /* no answer is an answer */
    l.asked = 0;
    assert_int_equal(goes_on(&l, 1000 * MS), 1);
    assert_in_range(l.asked, 150, 200);
}

/* The kernel tries where Redis is best, too: looks that disagree keep the thread where it is. */
static void test_a_redis_that_wanders_is_not_followed(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    for (int k = 0; k < 100; k++) {
        l.redis = k % 2;
        assert_int_equal(goes_on(&l, 9 * MS), 0);
    }
}

static void test_who_is_not_busy_goes_nowhere(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    l.gap_us = 1000; /* 3,000 a second */
    assert_int_equal(goes_on(&l, 1000 * MS), 0);
    assert_int_equal(l.asked, 0);
}

static void test_it_leaves_when_it_is_not_busy_any_more(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    assert_int_equal(goes_on(&l, 100 * MS), 1);
    l.gap_us = 1000;
    assert_int_equal(goes_on(&l, 100 * MS), 1);
    assert_int_equal(l.beside.processor, BESIDE_ANYWHERE);
}

/* Two are faster at it. */
static void test_where_much_is_copied_it_goes_nowhere(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    l.bytes = 3 * (BESIDE_BYTES + 1);
    assert_int_equal(goes_on(&l, 1000 * MS), 0);
    l.bytes = 3 * BESIDE_BYTES;
    assert_int_equal(goes_on(&l, 1000 * MS), 1);
    l.bytes = 3 * (BESIDE_BYTES + 1);
    assert_int_equal(goes_on(&l, 1000 * MS), 1);
    assert_int_equal(l.beside.processor, BESIDE_ANYWHERE);
}

static void test_only_of_two_processors_one_is_chosen(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    for (l.processors = 1; l.processors < 9; l.processors++)
        if (l.processors != BESIDE_PROCESSORS)
            assert_int_equal(goes_on(&l, 200 * MS), 0);
    l.processors = BESIDE_PROCESSORS;
    assert_int_equal(goes_on(&l, 200 * MS), 1);
    l.processors = 1; /* somebody decided for it */
    assert_int_equal(goes_on(&l, 200 * MS), 1);
    assert_int_equal(l.beside.processor, BESIDE_ANYWHERE);
}

static void test_a_redis_elsewhere_is_not_followed(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    l.redis = BESIDE_ANYWHERE;
    assert_int_equal(goes_on(&l, 1000 * MS), 0);
}

static void test_a_rest_ends_it(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    assert_false(beside_rest(&l.beside, l.now_us)); /* it is nowhere yet */
    assert_int_equal(goes_on(&l, 100 * MS), 1);
    assert_false(beside_rest(&l.beside, l.now_us));
    assert_true(beside_rest(&l.beside, l.now_us + 2 * BESIDE_LOOK_US));
    assert_int_equal(l.beside.processor, BESIDE_ANYWHERE);
    assert_false(beside_rest(&l.beside, l.now_us + 4 * BESIDE_LOOK_US));
}

/* What was seen before a rest is no reason to go after it. */
static void test_a_rest_begins_nothing(void **state)
{
    struct load l;
    (void)state;
    load_init(&l);
    for (int k = 0; k < 100; k++) {
        assert_int_equal(goes_on(&l, 12 * MS), 0);
        l.now_us += 2 * BESIDE_LOOK_US;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_busy_one_goes_to_redis_and_follows_it),
        cmocka_unit_test(test_it_asks_once_a_look),
        cmocka_unit_test(test_a_redis_that_wanders_is_not_followed),
        cmocka_unit_test(test_who_is_not_busy_goes_nowhere),
        cmocka_unit_test(test_it_leaves_when_it_is_not_busy_any_more),
        cmocka_unit_test(test_where_much_is_copied_it_goes_nowhere),
        cmocka_unit_test(test_only_of_two_processors_one_is_chosen),
        cmocka_unit_test(test_a_redis_elsewhere_is_not_followed),
        cmocka_unit_test(test_a_rest_ends_it),
        cmocka_unit_test(test_a_rest_begins_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
