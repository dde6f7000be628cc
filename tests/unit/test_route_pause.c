/* The route book and planned switchovers, and a master that is silent. */
#include "tests/lib/route_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define MS ((int64_t)1000)

#define step(...)    route_world_step(__VA_ARGS__)
#define tick(...)    route_world_tick(__VA_ARGS__)
#define wake(...)    route_world_wake(__VA_ARGS__)
#define simple(...)  route_world_simple(__VA_ARGS__)
#define beat(...)    route_world_beat(__VA_ARGS__)
#define message(...) route_world_message(__VA_ARGS__)
#define record(...)  route_world_record(__VA_ARGS__)
#define broken(...)  route_world_broken(__VA_ARGS__)
#define settle(...)  route_world_settle(__VA_ARGS__)

static const char *const A = ROUTE_WORLD_A, *const B = "10.0.0.2:6379";

static const char *pause_(struct route_world *w, uint64_t seq, uint64_t epoch, uint64_t revision,
                          uint32_t limit_ms)
{
    struct message m = {.type = MESSAGE_HOLD,
                        .term = 7,
                        .seq = seq,
                        .instance = "cart",
                        .port = 6100,
                        .epoch = epoch,
                        .revision = revision,
                        .limit_ms = limit_ms};
    return step(w, (struct route_event){.type = ROUTE_EVENT_MESSAGE, .message = &m});
}

static const char *held(struct route_world *w, uint64_t number)
{
    return step(w,
                (struct route_event){.type = ROUTE_EVENT_HELD, .name = "cart", .epoch = 1, .number = number});
}

static const char *silent(struct route_world *w, uint64_t epoch, const char *master)
{
    struct topology_address a = route_world_address(master);
    return step(
        w, (struct route_event){.type = ROUTE_EVENT_SILENT, .name = "cart", .epoch = epoch, .master = &a});
}

static void test_all_workers_hold_then_the_leader_is_told(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(pause_(w, 4, 1, 10, 3000), "pause cart e1 #1 3000ms row 50; ");
    assert_string_equal(held(w, 1), "");
    assert_int_equal(w->b.row, ROUTE_ROW_PAUSING);
    assert_string_equal(held(w, 1), "held cart e1 row 52; ");
    assert_string_equal(held(w, 1), ""); /* once */
    assert_string_equal(message(w, MESSAGE_HOLD, 7, 5, "cart", 2, 11, NULL),
                        "apply cart held - e2 r11 row 18; ");
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 6, "cart", 2, 12, B),
                        "apply cart 10.0.0.2:6379 e2 r12 row 13; ");
    assert_string_equal(held(w, 1), "");
    assert_string_equal(tick(w, 500 * MS), "");
    assert_true(route_book_deadline_us(&w->b) > w->now); /* nothing is left of it */
}

static void test_said_again_it_is_answered_again(void **state)
{
    struct route_world *w = *state;

    settle(w);
    pause_(w, 4, 1, 10, 900);
    held(w, 1);
    assert_string_equal(pause_(w, 5, 1, 10, 900), "pause cart e1 #2 900ms row 50; ");
    assert_string_equal(held(w, 1), ""); /* late, about the first one */
    assert_string_equal(held(w, 2), "");
    assert_string_equal(held(w, 2), "held cart e1 row 52; ");
}

static void test_rolled_back_by_the_same_route(void **state)
{
    struct route_world *w = *state;

    settle(w);
    pause_(w, 4, 1, 10, 900);
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 5, "cart", 1, 10, A),
                        "confirm cart 10.0.0.1:6379 e1 r10 row 12; ");
    assert_string_equal(held(w, 1), "");
    assert_int_equal(w->b.row, ROUTE_ROW_PAUSING);
}

/* Reading again what the pause was said about is no news; anything newer is. */
static void test_only_news_ends_it(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(pause_(w, 5, 1, 12, 900), "pause cart e1 #1 900ms row 50; read row 8; "); /* a gap */
    assert_string_equal(record(w, "cart", 1, 12, A), "");
    assert_string_equal(simple(w, ROUTE_EVENT_READ_DONE), "");
    held(w, 1);
    assert_string_equal(held(w, 1), "held cart e1 row 52; ");
    assert_string_equal(record(w, "cart", 2, 13, B), "apply cart 10.0.0.2:6379 e2 r13 row 13; ");
}

static void test_without_news_it_goes_on(void **state)
{
    struct route_world *w = *state;

    settle(w);
    pause_(w, 4, 1, 10, 600);
    assert_string_equal(tick(w, 599 * MS), "");
    assert_string_equal(wake(w), "confirm cart 10.0.0.1:6379 e1 r10 row 54; ");
    assert_string_equal(held(w, 1), "");
    pause_(w, 5, 1, 10, UINT32_MAX);
    assert_true(strstr(w->text, "60000ms") != NULL);
}

static void test_of_another_route_it_is_ignored(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(pause_(w, 4, 2, 11, 900), "");
    assert_int_equal(w->b.row, ROUTE_ROW_PAUSE_OTHER);
    assert_string_equal(pause_(w, 5, 1, 9, 900), "");
    assert_string_equal(pause_(w, 5, 1, 10, 900), ""); /* a duplicate */
    assert_int_equal(w->b.row, ROUTE_ROW_DUPLICATE);
    message(w, MESSAGE_HOLD, 7, 6, "cart", 2, 11, NULL);
    assert_string_equal(pause_(w, 7, 2, 11, 900), ""); /* nobody serves */
    message(w, MESSAGE_DROP, 7, 8, "cart", 0, 15, NULL);
    assert_string_equal(pause_(w, 9, 2, 15, 900), "");
    assert_string_equal(held(w, 1), "");
}

/* The master is demoted, connections break: the next route settles that, nothing before it. */
static void test_doubts_neither_end_it_nor_are_lost(void **state)
{
    struct route_world *w = *state;

    settle(w);
    broken(w, "cart", 1, A);
    pause_(w, 4, 1, 10, 900);
    assert_string_equal(broken(w, "cart", 1, A), "");
    assert_int_equal(w->b.row, ROUTE_ROW_PAUSE_BROKEN);
    for (int i = 0; i < 4; i++) { /* past the time at which it would be confirmed */
        assert_string_equal(tick(w, 200 * MS), "");
        assert_string_equal(beat(w, 7, 4), "");
    }
    assert_string_equal(tick(w, 100 * MS), "confirm cart 10.0.0.1:6379 e1 r10 row 54; ");
}

static void test_a_silent_master_is_hinted_at_once_a_second(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(silent(w, 1, A), "hint cart 10.0.0.1:6379 row 35; ");
    assert_string_equal(silent(w, 1, A), ""); /* the other worker */
    assert_int_equal(w->b.row, ROUTE_ROW_SILENT_KNOWN);
    for (int i = 0; i < 4; i++) {
        w->now += 250 * MS;
        beat(w, 7, 3);
    }
    assert_string_equal(silent(w, 2, A), "");
    assert_string_equal(silent(w, 1, B), "");
    assert_string_equal(silent(w, 1, A), "hint cart 10.0.0.1:6379 row 35; ");
    w->now += 500 * MS;
    beat(w, 7, 3);
    w->now += 500 * MS;
    beat(w, 7, 3);
    pause_(w, 4, 1, 10, 900);
    assert_string_equal(silent(w, 1, A), ""); /* its writes are paused */
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, route_world_setup, route_world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_all_workers_hold_then_the_leader_is_told),
        TEST(test_said_again_it_is_answered_again),
        TEST(test_rolled_back_by_the_same_route),
        TEST(test_only_news_ends_it),
        TEST(test_without_news_it_goes_on),
        TEST(test_of_another_route_it_is_ignored),
        TEST(test_doubts_neither_end_it_nor_are_lost),
        TEST(test_a_silent_master_is_hinted_at_once_a_second),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
