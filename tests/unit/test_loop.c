/* The loop: order of what is deferred and handed over, signals, the clock. */
#include "common/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct scene {
    struct loop *loop;
    char trail[64]; /* one letter for each thing that happened */
    int n;
    int64_t seen_us;
};

static void note(struct scene *s, char letter)
{
    size_t len = strlen(s->trail);

    assert_true(len + 1 < sizeof(s->trail));
    s->trail[len] = letter;
}

static void on_deferred_late(void *p)
{
    note(p, 'l');
}

static void on_deferred(void *p)
{
    struct scene *s = p;

    note(s, 'd');
    loop_defer(s->loop, on_deferred_late, s);
    loop_stop(s->loop);
}

static void on_wake(void *ctx)
{
    struct scene *s = ctx;

    loop_defer(s->loop, on_deferred, s);
    note(s, 'w');
    s->seen_us = loop_now_us(s->loop);
}

static void test_deferred_runs_after_the_callback(void **state)
{
    struct scene s = {.loop = loop_create(false)};

    (void)state;
    assert_non_null(s.loop);
    assert_int_equal(loop_wake(s.loop, on_wake, &s), 0);
    loop_run(s.loop);
    assert_string_equal(s.trail, "wdl");
    loop_destroy(s.loop);
}

static void test_destroy_runs_what_is_deferred(void **state)
{
    struct scene s = {.loop = loop_create(false)};

    (void)state;
    assert_int_equal(loop_wake(s.loop, on_wake, &s), 0);
    loop_destroy(s.loop);
    assert_string_equal(s.trail, "wdl");
}

static void test_stop_before_run(void **state)
{
    struct loop *loop = loop_create(false);

    (void)state;
    loop_stop(loop);
    loop_run(loop); /* returns at once */
    loop_destroy(loop);
}

enum { HANDED_OVER = 20000 };

struct handed {
    struct scene *scene;
    int number;
};

static void on_handed(void *ctx)
{
    struct handed *h = ctx;

    assert_int_equal(h->number, h->scene->n);
    if (++h->scene->n == HANDED_OVER)
        loop_stop(h->scene->loop);
    free(h);
}

static void *hand_over(void *p)
{
    struct scene *s = p;

    for (int i = 0; i < HANDED_OVER; i++) {
        struct handed *h = malloc(sizeof(*h));

        h->scene = s;
        h->number = i;
        if (loop_wake(s->loop, on_handed, h) != 0)
            abort();
    }
    return NULL;
}

static void test_wake_from_another_thread_keeps_the_order(void **state)
{
    struct scene s = {.loop = loop_create(false)};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, hand_over, &s), 0);
    loop_run(s.loop);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(s.n, HANDED_OVER);
    loop_destroy(s.loop);
}

static void on_signal(void *ctx)
{
    struct scene *s = ctx;

    note(s, 's');
    loop_stop(s->loop);
}

static void test_signals_belong_to_the_main_loop(void **state)
{
    struct scene s = {.loop = loop_create(true)};
    struct loop *other = loop_create(false);

    (void)state;
    assert_int_equal(loop_on_signal(other, SIGUSR1, on_signal, &s), ERR_INVALID);
    assert_int_equal(loop_on_signal(s.loop, 0, on_signal, &s), ERR_INVALID);
    assert_int_equal(loop_on_signal(s.loop, SIGUSR1, on_signal, &s), 0);
    assert_int_equal(raise(SIGUSR1), 0);
    loop_run(s.loop);
    assert_string_equal(s.trail, "s");
    loop_destroy(other);
    loop_destroy(s.loop);
}

static void test_writing_to_a_gone_peer_is_an_error_not_a_signal(void **state)
{
    struct loop *loop = loop_create(true);
    int fds[2];

    (void)state;
    assert_int_equal(pipe(fds), 0);
    assert_int_equal(close(fds[0]), 0);
    assert_int_equal(write(fds[1], "x", 1), -1);
    assert_int_equal(close(fds[1]), 0);
    loop_destroy(loop);
}

static void test_now_is_read_once_a_turn(void **state)
{
    struct scene s = {.loop = loop_create(false)};
    int64_t before = loop_clock_us();

    (void)state;
    assert_true(before > 0);
    assert_int_equal(loop_wake(s.loop, on_wake, &s), 0);
    loop_run(s.loop);
    assert_true(s.seen_us >= before);
    assert_int_equal(loop_now_us(s.loop), s.seen_us); /* nothing has turned since */
    assert_true(loop_clock_us() >= s.seen_us);
    assert_true(loop_wall_ms() > 1600000000000);
    loop_destroy(s.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_deferred_runs_after_the_callback),
        cmocka_unit_test(test_destroy_runs_what_is_deferred),
        cmocka_unit_test(test_stop_before_run),
        cmocka_unit_test(test_wake_from_another_thread_keeps_the_order),
        cmocka_unit_test(test_signals_belong_to_the_main_loop),
        cmocka_unit_test(test_writing_to_a_gone_peer_is_an_error_not_a_signal),
        cmocka_unit_test(test_now_is_read_once_a_turn),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
