/* Held replies: exact moments, and random runs against a master and replicas that are played. */
#include "tests/fuzz/durable_model.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

enum { SEEDS = 3000, DICE_MAX = 9000 };

static void test_nothing_is_passed_on_too_early_lost_doubled_or_reordered(void **state)
{
    static uint8_t dice[DICE_MAX];
    struct dm totals = {0};

    (void)state;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        uint64_t x = seed * 0x9E3779B97F4A7C15ULL + 1;
        size_t n = 200 + seed % (DICE_MAX - 200);
        for (size_t i = 0; i < n; i++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            dice[i] = (uint8_t)(x >> 24);
        }
        if (seed % 1000 == 1)
            print_message("seeds from %llu\n", (unsigned long long)seed);
        durable_model_run(dice, n, &totals);
    }
    print_message("released %llu, short %llu, gone %llu, inline %llu\n", (unsigned long long)totals.released,
                  (unsigned long long)totals.shorts, (unsigned long long)totals.gone,
                  (unsigned long long)totals.inlines);
    assert_true(totals.released > 10000 && totals.shorts > 1000 && totals.gone > 100 &&
                totals.inlines > 1000);
}

/* ---- exact moments --------------------------------------------------------------------------------------
 */

struct rig {
    struct durable d;
    struct durable_user users[3];
    uint32_t acks;
};

static void rig_init(struct rig *r, uint32_t acks)
{
    *r = (struct rig){0};
    durable_set(&r->d, true, acks);
    assert_true(durable_blocks(&r->d));
    durable_opened(&r->d);
    assert_false(durable_blocks(&r->d));
}

static void rig_free(struct rig *r)
{
    for (int i = 0; i < 3; i++)
        durable_leave(&r->d, &r->users[i]);
    durable_lost(&r->d);
    struct durable_step step;
    do
        durable_step(&r->d, &step);
    while (step.fate != DURABLE_WAITS);
    durable_free(&r->d);
}

static void rig_hold(struct rig *r, int user, uint64_t needs, uint8_t touch, const char *reply)
{
    struct durable_note note = {.touch = touch};

    assert_int_equal(durable_hold(&r->d, &r->users[user], needs, &note, (struct buf_span){NULL, 0},
                                  (struct buf_span){reply, strlen(reply)}),
                     0);
}

static void rig_write(struct rig *r, int user, const char *key, const char *reply)
{
    uint16_t slot = key ? durable_slot(key, strlen(key)) : (uint16_t)DURABLE_ANY;

    durable_mark(&r->d, slot);
    durable_unmark(&r->d, slot, true);
    rig_hold(r, user, durable_write_needs(&r->d), DURABLE_WRITES, reply);
}

static bool rig_reads(const struct rig *r, const char *key)
{
    return durable_read_needs(&r->d, key ? durable_slot(key, strlen(key)) : (uint16_t)DURABLE_ANY) == 0;
}

static int rig_send(struct rig *r)
{
    return durable_send(&r->d, &r->acks);
}

/* "fate:user:reply" of all that can be done now. */
static const char *rig_steps(struct rig *r)
{
    static const char *const fates[] = {"waits", "ok", "short", "gone"};
    static char text[256];
    struct durable_step step;
    size_t at = 0;

    text[0] = '\0';
    for (durable_step(&r->d, &step); step.fate != DURABLE_WAITS; durable_step(&r->d, &step))
        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s:%d:%.*s ", fates[step.fate],
                               step.user ? (int)(step.user - r->users) : -1, (int)step.reply.len,
                               step.reply.data);
    return text;
}

static void test_a_write_waits_for_the_marker_that_was_sent_after_its_reply(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 2);
    assert_int_equal(rig_send(&r), -1);
    rig_write(&r, 0, "a", "A");
    assert_int_equal(rig_send(&r), 0);
    assert_int_equal(r.acks, 2);
    rig_write(&r, 1, "b", "B"); /* behind the marker */
    assert_string_equal(rig_steps(&r), "");
    durable_acked(&r.d, 0, 2);
    assert_string_equal(rig_steps(&r), "ok:0:A ");
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 3);
    assert_string_equal(rig_steps(&r), "ok:1:B ");
    assert_int_equal(rig_send(&r), -1);
    rig_free(&r);
}

static void test_a_later_batch_releases_the_earlier_ones(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 1);
    rig_write(&r, 0, "a", "A");
    assert_int_equal(rig_send(&r), 0);
    rig_write(&r, 1, "b", "B");
    assert_int_equal(rig_send(&r), 1);
    durable_acked(&r.d, 1, 1);
    assert_string_equal(rig_steps(&r), "ok:0:A ok:1:B ");
    durable_acked(&r.d, 0, 0); /* late, and short: nothing is left of it */
    assert_string_equal(rig_steps(&r), "");
    assert_true(rig_reads(&r, "a"));
    rig_free(&r);
}

static void test_too_few_replicas_and_reads_of_it_wait_until_there_are_enough(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 1);
    rig_write(&r, 0, "a", "A");
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 0);
    assert_string_equal(rig_steps(&r), "short:0:A ");
    assert_int_equal(r.d.got, 0);
    assert_int_equal(r.d.wanted, 1);
    assert_true(rig_reads(&r, "b"));
    uint64_t needs = durable_read_needs(&r.d, durable_slot("a", 1));
    assert_int_equal(needs, r.d.next); /* another batch */
    rig_hold(&r, 1, needs, DURABLE_READS, "a=A");
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 1);
    assert_string_equal(rig_steps(&r), "ok:1:a=A ");
    assert_true(rig_reads(&r, "a"));
    assert_true(rig_reads(&r, NULL));
    rig_free(&r);
}

static void test_reads_wait_only_for_what_they_may_have_seen(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 1);
    durable_mark(&r.d, durable_slot("a", 1)); /* on its way: may have been executed */
    assert_false(rig_reads(&r, "a"));
    assert_false(rig_reads(&r, NULL));
    assert_true(rig_reads(&r, "b"));
    durable_unmark(&r.d, durable_slot("a", 1), false); /* it was refused */
    assert_true(rig_reads(&r, "a"));
    assert_true(rig_reads(&r, NULL));
    rig_write(&r, 0, "a", "A");
    uint64_t needs = durable_read_needs(&r.d, durable_slot("a", 1));
    assert_int_equal(rig_send(&r), 0);
    assert_int_equal(durable_read_needs(&r.d, durable_slot("a", 1)), needs); /* that marker covers it, too */
    rig_write(&r, 0, NULL, "FLUSHALL");
    assert_false(rig_reads(&r, "b"));
    durable_acked(&r.d, 0, 1);
    assert_string_equal(rig_steps(&r), "ok:0:A ");
    assert_false(rig_reads(&r, "b"));
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 1);
    assert_string_equal(rig_steps(&r), "ok:0:FLUSHALL ");
    assert_true(rig_reads(&r, "b"));
    rig_free(&r);
}

static void test_what_comes_behind_a_held_reply_of_the_same_client_waits_behind_it(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 1);
    rig_write(&r, 0, "a", "A");
    rig_hold(&r, 0, 0, DURABLE_NOTHING, "PONG");
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 0);
    assert_string_equal(rig_steps(&r), "short:0:A ok:0:PONG ");
    rig_free(&r);
}

static void test_batches_grow_with_the_load(void **state)
{
    struct rig r;
    int sent = 0;

    (void)state;
    rig_init(&r, 1);
    for (int i = 0; i < 100; i++) {
        rig_write(&r, 0, "a", "x");
        sent += rig_send(&r) >= 0;
    }
    assert_int_equal(sent, DURABLE_CONNS); /* no more at a time */
    rig_free(&r);
    rig_init(&r, 1);
    for (int i = 0; i < 40; i++)
        rig_write(&r, 0, "a", "x");
    assert_int_equal(rig_send(&r), 0);
    for (int i = 0; i < 9; i++)
        rig_write(&r, 0, "a", "x");
    assert_int_equal(rig_send(&r), -1); /* a fifth of what waits: not yet */
    rig_write(&r, 0, "a", "x");
    assert_int_equal(rig_send(&r), 1);
    rig_free(&r);
}

static void test_a_lost_master_gives_everything_back_in_order(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 1);
    rig_write(&r, 0, "a", "A");
    assert_int_equal(rig_send(&r), 0);
    rig_write(&r, 1, "b", "B");
    rig_write(&r, 2, "c", "C");
    durable_leave(&r.d, &r.users[1]);
    durable_lost(&r.d);
    assert_string_equal(rig_steps(&r), "gone:0:A gone:-1:B gone:2:C ");
    assert_int_equal(r.users[0].held + r.users[2].held, 0);
    assert_true(durable_blocks(&r.d));
    /* It may still be the same master; the batch that was under way is never answered. */
    assert_int_equal(durable_read_needs(&r.d, durable_slot("a", 1)), r.d.next);
    durable_renew(&r.d);
    assert_true(rig_reads(&r, "a"));
    durable_opened(&r.d);
    rig_write(&r, 0, "a", "A2");
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 1);
    assert_string_equal(rig_steps(&r), "ok:0:A2 ");
    rig_free(&r);
}

static void test_a_lone_client_is_confirmed_on_its_own_connection(void **state)
{
    struct rig r;
    uint16_t a = durable_slot("a", 1);

    (void)state;
    rig_init(&r, 2);
    assert_int_equal(durable_begin_inline(&r.d, 1, &r.acks), 0); /* nothing is written */
    durable_mark(&r.d, a);
    assert_int_equal(durable_begin_inline(&r.d, 2, &r.acks), 0); /* somebody would wait behind it */
    uint64_t batch = durable_begin_inline(&r.d, 1, &r.acks);
    assert_true(batch > 0 && batch < r.d.next);
    assert_int_equal(r.acks, 2);
    assert_int_equal(durable_begin_inline(&r.d, 1, &r.acks), 0); /* one at a time */
    durable_unmark_inline(&r.d, a, batch);
    assert_int_equal(durable_write_needs_inline(&r.d, batch), batch);
    assert_int_equal(durable_read_needs(&r.d, a), batch);
    rig_hold(&r, 0, batch, DURABLE_WRITES, "A");
    assert_int_equal(rig_send(&r), -1); /* nothing is due */
    rig_write(&r, 0, "b", "B");         /* over another connection: not covered */
    assert_int_equal(rig_send(&r), 0);
    /* What comes now isn't covered by that one, whose answer would count for all before it. */
    assert_int_equal(durable_write_needs_inline(&r.d, batch), r.d.next);
    durable_acked_inline(&r.d, batch, 2);
    assert_string_equal(rig_steps(&r), "ok:0:A ");
    assert_true(rig_reads(&r, "a"));
    assert_false(rig_reads(&r, "b"));
    durable_acked(&r.d, 0, 2);
    assert_string_equal(rig_steps(&r), "ok:0:B ");
    rig_free(&r);
}

static void test_what_was_asked_inline_and_is_lost_is_asked_again(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 1);
    durable_mark(&r.d, durable_slot("a", 1));
    uint64_t batch = durable_begin_inline(&r.d, 1, &r.acks);
    durable_unmark_inline(&r.d, durable_slot("a", 1), batch);
    rig_hold(&r, 0, batch, DURABLE_WRITES, "A");
    durable_lost_inline(&r.d, batch);
    assert_int_equal(durable_write_needs_inline(&r.d, batch), r.d.next); /* it covers nothing more */
    durable_acked_inline(&r.d, batch, 1);                                /* of another time */
    assert_string_equal(rig_steps(&r), "");
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 1);
    assert_string_equal(rig_steps(&r), "ok:0:A ");
    assert_true(rig_reads(&r, "a"));
    rig_free(&r);
}

static void test_asynchronous_again_holds_nothing_new_and_keeps_what_is_held(void **state)
{
    struct rig r;

    (void)state;
    rig_init(&r, 1);
    rig_write(&r, 0, "a", "A");
    durable_set(&r.d, false, 1);
    assert_int_equal(durable_write_needs(&r.d), 0);
    assert_true(rig_reads(&r, "a"));
    assert_string_equal(rig_steps(&r), "");
    assert_int_equal(rig_send(&r), 0);
    durable_acked(&r.d, 0, 1);
    assert_string_equal(rig_steps(&r), "ok:0:A ");
    rig_free(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_write_waits_for_the_marker_that_was_sent_after_its_reply),
        cmocka_unit_test(test_a_later_batch_releases_the_earlier_ones),
        cmocka_unit_test(test_too_few_replicas_and_reads_of_it_wait_until_there_are_enough),
        cmocka_unit_test(test_reads_wait_only_for_what_they_may_have_seen),
        cmocka_unit_test(test_what_comes_behind_a_held_reply_of_the_same_client_waits_behind_it),
        cmocka_unit_test(test_batches_grow_with_the_load),
        cmocka_unit_test(test_a_lost_master_gives_everything_back_in_order),
        cmocka_unit_test(test_a_lone_client_is_confirmed_on_its_own_connection),
        cmocka_unit_test(test_what_was_asked_inline_and_is_lost_is_asked_again),
        cmocka_unit_test(test_asynchronous_again_holds_nothing_new_and_keeps_what_is_held),
        cmocka_unit_test(test_nothing_is_passed_on_too_early_lost_doubled_or_reordered),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
