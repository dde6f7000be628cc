/* The proxy's control side as a whole: events in, rendered actions out. */
#include "tests/lib/golden.h"
#include "tests/lib/route_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MS ((int64_t)1000)

#define address(...)    route_world_address(__VA_ARGS__)
#define step(...)       route_world_step(__VA_ARGS__)
#define tick(...)       route_world_tick(__VA_ARGS__)
#define wake(...)       route_world_wake(__VA_ARGS__)
#define simple(...)     route_world_simple(__VA_ARGS__)
#define beat(...)       route_world_beat(__VA_ARGS__)
#define message(...)    route_world_message(__VA_ARGS__)
#define make_route(...) route_world_make_route(__VA_ARGS__)
#define record(...)     route_world_record(__VA_ARGS__)
#define broken(...)     route_world_broken(__VA_ARGS__)
#define switched(...)   route_world_switched(__VA_ARGS__)
#define settle(...)     route_world_settle(__VA_ARGS__)

static const char *const A = ROUTE_WORLD_A, *const B = "10.0.0.2:6379", *const C = "10.0.0.3:6379";

static void test_start(void **state)
{
    settle(*state);
}

static void test_next_message_switches(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(message(w, MESSAGE_HOLD, 7, 4, "cart", 2, 11, NULL),
                        "apply cart held - e2 r11 row 18; ");
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 5, "cart", 2, 12, B),
                        "apply cart 10.0.0.2:6379 e2 r12 row 13; ");
    /* STABLE is committed afterwards: the same route at a newer revision. */
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 6, "cart", 2, 13, B),
                        "confirm cart 10.0.0.2:6379 e2 r13 row 12; ");
    assert_string_equal(beat(w, 7, 6), "");
    assert_int_equal(w->b.row, ROUTE_ROW_BEAT);
}

static void test_duplicate_and_late_messages(void **state)
{
    struct route_world *w = *state;

    settle(w);
    message(w, MESSAGE_ROUTE, 7, 4, "cart", 2, 12, B);
    /* The publisher's child was restarted and announced its ring again. */
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 3, "cart", 1, 10, A), "");
    assert_int_equal(w->b.row, ROUTE_ROW_DUPLICATE);
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 4, "cart", 2, 12, B), "");
    assert_int_equal(w->b.row, ROUTE_ROW_DUPLICATE);
    assert_string_equal(beat(w, 7, 3), "");
    assert_int_equal(w->b.row, ROUTE_ROW_BEAT_LATE);
    /* In sequence, but about the past: the re-read was faster. */
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 5, "cart", 1, 10, A), "");
    assert_string_equal(message(w, MESSAGE_HOLD, 7, 6, "cart", 2, 11, NULL), "");
    assert_int_equal(w->b.seq, 6);
}

static void test_gap(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 5, "cart", 2, 12, B),
                        "apply cart 10.0.0.2:6379 e2 r12 row 13; read row 8; ");
    /* What is read while a gap shows is read again afterwards, spaced. */
    assert_string_equal(beat(w, 7, 6), "");
    assert_int_equal(w->b.row, ROUTE_ROW_BEAT_AHEAD);
    assert_string_equal(record(w, "cart", 2, 12, B), "");
    assert_string_equal(simple(w, ROUTE_EVENT_READ_DONE), "");
    assert_string_equal(wake(w), "read row 4; ");
}

static void test_terms(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(message(w, MESSAGE_ROUTE, 6, 99, "cart", 9, 99, C), "");
    assert_int_equal(w->b.row, ROUTE_ROW_OLD_TERM);
    assert_string_equal(message(w, MESSAGE_ROUTE, 8, 1, "cart", 2, 12, B),
                        "apply cart 10.0.0.2:6379 e2 r12 row 13; read row 2; ");
    assert_string_equal(beat(w, 8, 1), "follow ctl-1 row 3; ");
    assert_string_equal(beat(w, 7, 50), "");
    assert_int_equal(w->b.row, ROUTE_ROW_OLD_TERM);
    assert_int_equal(w->b.seq, 1);
}

static void test_unknown_instances_are_added(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 4, "shop", 1, 20, C),
                        "apply shop 10.0.0.3:6379 e1 r20 row 10; ");
    assert_string_equal(message(w, MESSAGE_HOLD, 7, 5, "user", 3, 21, NULL),
                        "apply user held - e3 r21 row 10; ");
    assert_int_equal(w->b.table.n, 3);
}

static void test_drop(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(message(w, MESSAGE_DROP, 7, 4, "cart", 0, 9, NULL), "read row 16; ");
    simple(w, ROUTE_EVENT_READ_FAILED);
    assert_string_equal(message(w, MESSAGE_DROP, 7, 5, "cart", 0, 15, NULL), "drop cart row 16; ");
    assert_int_equal(w->b.table.n, 0);
    assert_string_equal(message(w, MESSAGE_DROP, 7, 6, "cart", 0, 15, NULL), "");
}

/* A record read before the deletion arrives after it: the second read drops it again. */
static void test_drop_while_reading(void **state)
{
    struct route_world *w = *state;

    settle(w);
    message(w, MESSAGE_ROUTE, 7, 9, "shop", 1, 20, C);
    assert_true(w->b.reading);
    assert_string_equal(message(w, MESSAGE_DROP, 7, 10, "cart", 0, 21, NULL), "drop cart row 16; ");
    assert_string_equal(record(w, "cart", 1, 10, A), "apply cart 10.0.0.1:6379 e1 r10 row 10; ");
    assert_string_equal(record(w, "shop", 1, 20, C), "");
    simple(w, ROUTE_EVENT_READ_DONE);
    w->now += 100 * MS;
    assert_string_equal(beat(w, 7, 10), "read row 16; ");
    record(w, "shop", 1, 20, C);
    assert_string_equal(simple(w, ROUTE_EVENT_READ_DONE), "drop cart row 20; ");
}

static void test_missing_records_are_dropped(void **state)
{
    struct route_world *w = *state;

    settle(w);
    message(w, MESSAGE_ROUTE, 7, 4, "shop", 1, 20, C);
    message(w, MESSAGE_ROUTE, 7, 6, "user", 1, 21, C); /* gap: read */
    assert_true(w->b.reading);
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 7, "fresh", 1, 22, C),
                        "apply fresh 10.0.0.3:6379 e1 r22 row 10; ");
    record(w, "user", 1, 21, C);
    step(w, (struct route_event){.type = ROUTE_EVENT_BAD_RECORD, .name = "cart"});
    /* cart is there but corrupt, fresh came meanwhile: both stay. */
    assert_string_equal(simple(w, ROUTE_EVENT_READ_DONE), "drop shop row 20; ");
    assert_int_equal(w->b.table.n, 3);
}

static void test_failed_read_drops_nothing_and_is_repeated(void **state)
{
    struct route_world *w = *state;

    settle(w);
    beat(w, 7, 4);
    assert_true(w->b.reading);
    assert_string_equal(simple(w, ROUTE_EVENT_READ_FAILED), "");
    assert_int_equal(w->b.table.n, 1);
    w->now += 400 * MS;
    assert_string_equal(beat(w, 7, 4), "");
    assert_string_equal(wake(w), "read row 23; ");
}

static void test_silence_and_return(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(tick(w, 999 * MS), "");
    assert_string_equal(wake(w), "reconnect row 40; read watch row 40; ");
    assert_true(w->b.silent);
    record(w, "cart", 1, 10, A);
    simple(w, ROUTE_EVENT_READ_DONE);
    /* It still learns changes, by watches. */
    assert_string_equal(record(w, "cart", 2, 12, B), "apply cart 10.0.0.2:6379 e2 r12 row 13; ");
    assert_string_equal(wake(w), "reconnect row 41; ");
    assert_string_equal(simple(w, ROUTE_EVENT_STORE_MOVED), "read watch row 26; ");
    simple(w, ROUTE_EVENT_READ_FAILED);
    /* The store is away too: nothing but reconnects, ever slower. */
    simple(w, ROUTE_EVENT_STORE_LOST);
    int64_t before = w->now;
    for (int i = 0; i < 10; i++)
        assert_string_equal(wake(w), "reconnect row 41; ");
    assert_true(w->now - before > 30000 * MS);
    assert_int_equal(w->b.table.n, 1);
    assert_string_equal(simple(w, ROUTE_EVENT_STORE_UP), "read watch row 23; ");
    simple(w, ROUTE_EVENT_READ_DONE);
    w->now += 200 * MS;
    assert_string_equal(beat(w, 7, 3), "read row 9; ");
    assert_false(w->b.silent);
}

static void test_doubt_is_hinted_and_confirmed_by_the_leader(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(broken(w, "cart", 1, A), "hint cart 10.0.0.1:6379 row 30; ");
    /* The other worker saw it too. */
    assert_string_equal(broken(w, "cart", 1, A), "");
    assert_int_equal(w->b.row, ROUTE_ROW_DOUBT_KNOWN);
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 4, "cart", 1, 10, A),
                        "confirm cart 10.0.0.1:6379 e1 r10 row 12; ");
    /* It breaks again at once: asked again, after a while. */
    assert_string_equal(broken(w, "cart", 1, A), "");
    assert_int_equal(w->b.row, ROUTE_ROW_DOUBT_AGAIN);
    assert_string_equal(wake(w), "hint cart 10.0.0.1:6379 row 34; ");
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 5, "cart", 2, 12, B),
                        "apply cart 10.0.0.2:6379 e2 r12 row 13; ");
    /* A late doubt about the old route changes nothing. */
    assert_string_equal(broken(w, "cart", 1, A), "");
    assert_string_equal(broken(w, "cart", 2, A), "");
    assert_string_equal(broken(w, "nobody", 1, A), "");
    assert_string_equal(broken(w, "cart", 2, B), "hint cart 10.0.0.2:6379 row 30; ");
}

static void test_reading_the_same_record_settles_no_doubt(void **state)
{
    struct route_world *w = *state;

    settle(w);
    broken(w, "cart", 1, A);
    beat(w, 7, 4);
    assert_string_equal(record(w, "cart", 1, 10, A), "");
    assert_string_equal(simple(w, ROUTE_EVENT_READ_DONE), "");
    assert_string_equal(tick(w, ROUTE_CONFIRM_US), "confirm cart 10.0.0.1:6379 e1 r10 row 33; ");
}

/* Nobody answers: the broken connection is retried with a back-off, and the leader asked no faster. */
static void test_doubts_while_silent(void **state)
{
    struct route_world *w = *state;
    int64_t last = 0, waits[12];

    settle(w);
    simple(w, ROUTE_EVENT_STORE_LOST);
    wake(w);
    assert_true(w->b.silent);
    for (int i = 0; i < 12; i++) {
        broken(w, "cart", 1, A);
        last = w->now;
        while (!strstr(wake(w), "confirm cart"))
            ;
        waits[i] = w->now - last;
    }
    assert_int_equal(waits[0], ROUTE_CONFIRM_SILENT_US);
    assert_int_equal(waits[1], 2 * ROUTE_CONFIRM_SILENT_US);
    assert_int_equal(waits[11], ROUTE_CONFIRM_SILENT_MAX_US);
    /* After a calm time it starts anew. */
    w->now += ROUTE_CALM_US + 1;
    tick(w, 0);
    assert_string_equal(broken(w, "cart", 1, A), "hint cart 10.0.0.1:6379 row 30; ");
}

static void test_held_instances_have_no_doubts(void **state)
{
    struct route_world *w = *state;

    settle(w);
    message(w, MESSAGE_HOLD, 7, 4, "cart", 2, 11, NULL);
    assert_string_equal(broken(w, "cart", 2, A), "");
}

static void test_ack_when_all_workers_switched(void **state)
{
    struct route_world *w = *state;

    settle(w);
    message(w, MESSAGE_ROUTE, 7, 4, "cart", 2, 12, B);
    assert_string_equal(switched(w, "cart", 1, 50), "");
    assert_string_equal(switched(w, "cart", 2, 900), "");
    assert_string_equal(switched(w, "cart", 2, 300), "ack cart e2 900us row 42; ");
    assert_string_equal(switched(w, "cart", 2, 300), ""); /* a confirmation was applied */
    assert_string_equal(switched(w, "nobody", 2, 300), "");
}

static void test_a_strict_route_is_acknowledged_as_such_and_again_when_told_again(void **state)
{
    struct route_world *w = *state;

    settle(w);
    switched(w, "cart", 1, 50);
    assert_string_equal(switched(w, "cart", 1, 50), "ack cart e1 50us row 42; ");
    w->acks = 2;
    message(w, MESSAGE_ROUTE, 7, 4, "cart", 1, 12, A);
    w->acks = 0;
    assert_string_equal(switched(w, "cart", 1, 70),
                        ""); /* one worker says that it follows the route before */
    w->acks = 2;
    assert_string_equal(switched(w, "cart", 1, 90), "");
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 5, "cart", 1, 12, A),
                        "confirm cart 10.0.0.1:6379 e1 r12 row 12; "); /* not all of them yet */
    assert_string_equal(switched(w, "cart", 1, 70), "ack cart e1 90us acks 2 row 42; ");
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 6, "cart", 1, 12, A),
                        "confirm cart 10.0.0.1:6379 e1 r12 row 12; ack cart e1 90us acks 2 row 44; ");
    w->acks = 0;
    message(w, MESSAGE_ROUTE, 7, 7, "cart", 1, 13, A);
    switched(w, "cart", 1, 50);
    assert_string_equal(switched(w, "cart", 1, 60), "ack cart e1 60us row 42; ");
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 8, "cart", 1, 13, A),
                        "confirm cart 10.0.0.1:6379 e1 r13 row 12; "); /* of an async one nobody asks */
    w->acks = 2;
    message(w, MESSAGE_ROUTE, 7, 9, "cart", 1, 14, A);
    switched(w, "cart", 1, 50);
    assert_string_equal(switched(w, "cart", 1, 40), "ack cart e1 50us acks 2 row 42; ");
}

static void test_made_anew_with_the_same_name(void **state)
{
    struct route_world *w = *state;

    settle(w);
    message(w, MESSAGE_ROUTE, 7, 4, "cart", 5, 12, B);
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 5, "cart", 1, 30, C),
                        "drop cart row 14; apply cart 10.0.0.3:6379 e1 r30 row 14; ");
    /* The same revision can't have a lower epoch. */
    assert_string_equal(message(w, MESSAGE_ROUTE, 7, 6, "cart", 0, 30, A), "");
}

/* Somebody put an empty ZooKeeper in place: its zxids and terms are lower than all that we know. */
static void test_store_replaced(void **state)
{
    struct route_world *w = *state;

    settle(w);
    beat(w, 700, 1);
    message(w, MESSAGE_ROUTE, 700, 2, "cart", 5, 1200, B);
    /* The re-read may have been overtaken by the message, so its older record proves nothing… */
    assert_string_equal(record(w, "cart", 1, 10, A), "");
    assert_int_equal(w->b.row, ROUTE_ROW_OLDER);
    simple(w, ROUTE_EVENT_READ_DONE);
    simple(w, ROUTE_EVENT_STORE_LOST);
    assert_string_equal(simple(w, ROUTE_EVENT_STORE_UP), "read row 24; ");
    /* …nor does what a watch brought, which knows of no sync… */
    struct route stale = make_route("cart", 1, 4, A);
    assert_string_equal(step(w, (struct route_event){.type = ROUTE_EVENT_RECORD, .route = &stale}), "");
    /* …but one that began after it does. */
    assert_string_equal(record(w, "cart", 1, 4, A),
                        "drop cart row 15; apply cart 10.0.0.1:6379 e1 r4 row 15; ");
    simple(w, ROUTE_EVENT_READ_DONE);
    w->now += 100 * MS;
    assert_string_equal(beat(w, 2, 1), "follow ctl-1 row 2; read row 2; ");
}

static void test_cache_is_overruled(void **state)
{
    struct route_world *w = *state;
    struct route r = make_route("cart", 1, 10, A), gone = make_route("gone", 1, 5, B);

    assert_string_equal(step(w, (struct route_event){.type = ROUTE_EVENT_CACHED, .route = &r}),
                        "apply cart 10.0.0.1:6379 e1 r10 row 27; ");
    step(w, (struct route_event){.type = ROUTE_EVENT_CACHED, .route = &gone});
    simple(w, ROUTE_EVENT_STORE_UP);
    assert_string_equal(record(w, "cart", 3, 20, C), "apply cart 10.0.0.3:6379 e3 r20 row 13; ");
    /* The cache is read at the start only; later it never overrules. */
    assert_string_equal(step(w, (struct route_event){.type = ROUTE_EVENT_CACHED, .route = &r}), "");
    assert_string_equal(simple(w, ROUTE_EVENT_READ_DONE), "drop gone row 20; ");
}

static void test_proxies_own_messages_are_ignored(void **state)
{
    struct route_world *w = *state;

    settle(w);
    assert_string_equal(message(w, MESSAGE_ACK, 9, 9, "cart", 9, 9, NULL), "");
    assert_string_equal(message(w, MESSAGE_HINT, 9, 9, "cart", 9, 9, A), "");
    assert_int_equal(w->b.term, 7);
}

/* Any order of events: nothing is lost, no instance's revision goes back, the deadline never stands still. */
static void test_random_events(void **state)
{
    struct route_world *w = *state;
    const char *names[] = {"a", "b", "c", "d"}, *masters[] = {A, B, C};
    unsigned seed = 20261122;

    print_message("seed %u\n", seed);
    for (int i = 0; i < 20000; i++) {
        const char *name = names[rand_r(&seed) % 4], *master = masters[rand_r(&seed) % 3];
        uint64_t term = 1 + (uint64_t)i / 4000, seq = (uint64_t)rand_r(&seed) % 64;
        uint64_t revision = 1 + (uint64_t)(rand_r(&seed) % 1000), epoch = revision / 10;
        struct route_entry *e = route_table_find(&w->b.table, name);
        uint64_t before = e ? e->route.revision : 0;
        switch (rand_r(&seed) % 9) {
        case 0:
            beat(w, term, seq);
            break;
        case 1:
            message(w, MESSAGE_ROUTE, term, seq, name, epoch, revision, master);
            break;
        case 2:
            message(w, MESSAGE_HOLD, term, seq, name, epoch, revision, NULL);
            break;
        case 3:
            message(w, MESSAGE_DROP, term, seq, name, 0, revision, NULL);
            before = 0;
            break;
        case 4:
            record(w, name, epoch, revision, master);
            if (w->b.row == ROUTE_ROW_REPLACED)
                before = 0;
            break;
        case 5:
            if (w->b.reading)
                simple(w, rand_r(&seed) % 3 ? ROUTE_EVENT_READ_DONE : ROUTE_EVENT_READ_FAILED);
            before = 0;
            break;
        case 6:
            broken(w, name, e ? e->route.epoch : 1, e && e->route.master.port ? masters[0] : master);
            break;
        case 7:
            simple(w, rand_r(&seed) % 2 ? ROUTE_EVENT_STORE_UP : ROUTE_EVENT_STORE_LOST);
            break;
        default:
            tick(w, (int64_t)(rand_r(&seed) % 400) * MS);
        }
        e = route_table_find(&w->b.table, name);
        if (e)
            assert_true(e->route.revision >= before);
        step(w, (struct route_event){.type = ROUTE_EVENT_TICK});
        assert_true(route_book_deadline_us(&w->b) > w->now);
    }
}

/* The rows as people read them, in the log and in the documents. */
static void test_rows(void **state)
{
#define ROW(number, name, text) "| " #number " | " #name " | " text " |\n"
    static const char rows[] = "| row | name | means |\n|---|---|---|\n" ROUTE_ROW_LIST(ROW);
#undef ROW
    (void)state;
    golden_compare("route_rows.md", rows, sizeof(rows) - 1);
    assert_string_equal(route_row_text(ROUTE_ROW_GAP),
                        "messages before it were missed: used, and read again");
}

static void test_route_from_instance(void **state)
{
    struct topology_instance i = {.name = "cart", .port = 6100, .epoch = 4, .n_members = 3};
    struct route r;

    (void)state;
    topology_policy_default(&i.policy);
    i.policy.hold_ms = 77;
    i.members[0].address = address(A);
    i.members[1].address = address(B);
    i.members[2].address = address(C);
    i.master = address(B);
    assert_true(route_from_instance(&i, 12, &r));
    assert_int_equal(r.state, ROUTE_SERVING);
    assert_int_equal(r.revision, 12);
    assert_int_equal(r.epoch, 4);
    assert_int_equal(r.hold_ms, 77);
    assert_true(topology_address_equal(&r.master, &i.master));
    assert_int_equal(r.n_replicas, 2);

    i.state = TOPOLOGY_SEALING;
    i.master = address(NULL);
    assert_true(route_from_instance(&i, 13, &r));
    assert_int_equal(r.state, ROUTE_HELD);
    assert_false(topology_address_is_set(&r.master));
    assert_int_equal(r.n_replicas, 3);

    i.state = TOPOLOGY_PROMOTING;
    i.candidate = address(C);
    assert_true(route_from_instance(&i, 14, &r));
    assert_int_equal(r.state, ROUTE_SERVING);
    assert_true(topology_address_equal(&r.master, &i.candidate));

    i.port = 0;
    assert_false(route_from_instance(&i, 15, &r));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, route_world_setup, route_world_teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_start),
        TEST(test_next_message_switches),
        TEST(test_duplicate_and_late_messages),
        TEST(test_gap),
        TEST(test_terms),
        TEST(test_unknown_instances_are_added),
        TEST(test_drop),
        TEST(test_drop_while_reading),
        TEST(test_missing_records_are_dropped),
        TEST(test_failed_read_drops_nothing_and_is_repeated),
        TEST(test_silence_and_return),
        TEST(test_doubt_is_hinted_and_confirmed_by_the_leader),
        TEST(test_reading_the_same_record_settles_no_doubt),
        TEST(test_doubts_while_silent),
        TEST(test_held_instances_have_no_doubts),
        TEST(test_ack_when_all_workers_switched),
        TEST(test_a_strict_route_is_acknowledged_as_such_and_again_when_told_again),
        TEST(test_made_anew_with_the_same_name),
        TEST(test_store_replaced),
        TEST(test_cache_is_overruled),
        TEST(test_proxies_own_messages_are_ignored),
        TEST(test_random_events),
        cmocka_unit_test(test_rows),
        cmocka_unit_test(test_route_from_instance),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
