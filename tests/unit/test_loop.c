/* The loop: order of what is deferred and handed over, signals, the clock. */
#include "common/loop.h"

#include "tests/lib/wait.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
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

/* ---- lateness --------------------------------------------------------------------------------------------
 */

enum { LATE_US = 80000, STALL_MS = 200 };

static void on_lag(void *ctx, int64_t lag_us)
{
    struct scene *s = ctx;

    note(s, 'L');
    s->seen_us = lag_us;
}

static void on_due(struct ev_loop *ev, ev_timer *w, int revents)
{
    struct scene *s = w->data;

    (void)ev;
    (void)revents;
    note(s, 't');
    loop_stop(s->loop);
}

static void on_slow(void *ctx)
{
    struct scene *s = ctx;
    int64_t until_us = loop_clock_us() + STALL_MS * 1000;

    note(s, 'w');
    while (loop_clock_us() < until_us)
        ; /* a callback that takes long */
}

static void test_a_slow_turn_is_told_before_anything_of_the_next(void **state)
{
    struct scene s = {.loop = loop_create(false)};
    ev_timer due;

    (void)state;
    loop_on_lag(s.loop, LATE_US, on_lag, &s);
    ev_timer_init(&due, on_due, STALL_MS / 2000.0, 0.);
    due.data = &s;
    ev_set_priority(&due, EV_MAXPRI);
    ev_timer_start(loop_ev(s.loop), &due);
    assert_int_equal(loop_wake(s.loop, on_slow, &s), 0);
    loop_run(s.loop);
    assert_string_equal(s.trail, "wLt");
    assert_in_range(s.seen_us, STALL_MS * 1000 - LATE_US / 8, 60 * 1000 * 1000);
    loop_destroy(s.loop);
}

static void test_waiting_is_not_lateness(void **state)
{
    struct scene s = {.loop = loop_create(false)};
    ev_timer due;

    (void)state;
    loop_on_lag(s.loop, (int64_t)5000 * 1000, on_lag, &s); /* no machine is that slow */
    ev_timer_init(&due, on_due, STALL_MS / 1000.0, 0.);
    due.data = &s;
    ev_timer_start(loop_ev(s.loop), &due);
    loop_run(s.loop);
    assert_string_equal(s.trail, "t");
    loop_destroy(s.loop);
}

struct watched_pipe {
    ev_io io;
    struct scene *scene;
};

static void on_readable(struct ev_loop *ev, ev_io *w, int revents)
{
    struct watched_pipe *p = w->data;
    char c;

    (void)ev;
    (void)revents;
    if (read(w->fd, &c, 1) == 1)
        note(p->scene, c);
    loop_stop(p->scene->loop);
}

static void on_first_turn(void *ctx)
{
    const int *out = ctx;

    if (write(*out, "r", 1) != 1)
        _exit(1);
}

/* The child of the next test: says 'r' when its loop turns, then what happened, in order, until the pipe
 * spoke. */
static void run_watcher(int in, int out)
{
    struct scene s = {.loop = loop_create(false)};
    struct watched_pipe p = {.scene = &s};

    loop_on_lag(s.loop, LATE_US, on_lag, &s);
    ev_io_init(&p.io, on_readable, in, EV_READ);
    p.io.data = &p;
    ev_io_start(loop_ev(s.loop), &p.io);
    if (loop_wake(s.loop, on_first_turn, &out) != 0)
        _exit(1);
    loop_run(s.loop);
    _exit(write(out, s.trail, strlen(s.trail) + 1) > 0 ? 0 : 1);
}

static void test_having_been_stopped_is_told_before_what_came_meanwhile(void **state)
{
    struct loop *loop = loop_create(false);
    int in[2], out[2], status;
    char ready, trail[64] = "";

    (void)state;
    assert_int_equal(pipe(in), 0);
    assert_int_equal(pipe(out), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        run_watcher(in[0], out[1]);
    assert_int_equal(read(out[0], &ready, 1), 1);
    assert_int_equal(kill(child, SIGSTOP), 0);
    assert_int_equal(waitpid(child, &status, WUNTRACED), child);
    assert_true(WIFSTOPPED(status));
    assert_int_equal(write(in[1], "p", 1), 1);
    wait_for(loop, STALL_MS);
    assert_int_equal(kill(child, SIGCONT), 0);
    assert_true(read(out[0], trail, sizeof(trail) - 1) > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    /* A busy machine may have made it late before it was stopped, too. */
    size_t len = strlen(trail);
    assert_true(len >= 2);
    assert_string_equal(trail + len - 2, "Lp");
    for (int i = 0; i < 2; i++) {
        (void)close(in[i]);
        (void)close(out[i]);
    }
    loop_destroy(loop);
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
        cmocka_unit_test(test_a_slow_turn_is_told_before_anything_of_the_next),
        cmocka_unit_test(test_waiting_is_not_lateness),
        cmocka_unit_test(test_having_been_stopped_is_told_before_what_came_meanwhile),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
