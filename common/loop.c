#include "common/loop.h"

#include "common/log.h"

#include <assert.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <time.h>

/* One turn:  poll ─► on_check (reads the clock; were we late?) ─► watchers' callbacks ─► on_prepare (runs
 * what was deferred) ─► poll. libev's check and prepare watchers mark those two places; priorities make them
 * first and last. */

enum { LOOP_SIGNALS_MAX = 8 };

struct loop_call {
    void (*fn)(void *p);
    void *p;
};

struct loop_wakeup {
    struct loop_wakeup *next;
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop_signal {
    ev_signal watcher;
    void (*fn)(void *ctx);
    void *ctx;
};

struct loop {
    struct ev_loop *ev;
    bool is_main;
    bool stopping;
    int64_t now_us;
    ev_check check;
    ev_prepare prepare;
    ev_async async;

    ev_timer pulse; /* a turn at least every lag_period_us: what took longer was lateness */
    int64_t lag_period_us, lag_threshold_us;
    void (*on_lag)(void *ctx, int64_t lag_us);
    void *lag_ctx;

    struct loop_call *deferred;
    size_t n_deferred, deferred_size;

    struct loop_signal signals[LOOP_SIGNALS_MAX];
    size_t n_signals;

    pthread_mutex_t lock; /* guards the four below */
    bool closing;
    struct loop_wakeup *first;
    struct loop_wakeup **last;
};

int64_t loop_clock_us(void)
{
    struct timespec ts;
    int rc = clock_gettime(CLOCK_MONOTONIC, &ts);

    assert(rc == 0);
    (void)rc;
    /* + 1: in a container the clock may have just begun, and 0 means "never" all over the code. */
    return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000 + 1;
}

int64_t loop_wall_ms(void)
{
    struct timespec ts;

    (void)clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

static void loop_run_deferred(struct loop *loop)
{
    /* A deferred call may defer another one, which moves the array: so by index, and until all are done. */
    for (size_t i = 0; i < loop->n_deferred; i++) {
        struct loop_call call = loop->deferred[i];

        call.fn(call.p);
    }
    loop->n_deferred = 0;
}

static void loop_run_wakeups(struct loop *loop)
{
    struct loop_wakeup *all;

    pthread_mutex_lock(&loop->lock);
    all = loop->first;
    loop->first = NULL;
    loop->last = &loop->first;
    pthread_mutex_unlock(&loop->lock);

    while (all != NULL) {
        struct loop_wakeup *w = all;

        all = w->next;
        w->fn(w->ctx);
        free(w);
    }
}

static void loop_on_check(struct ev_loop *ev, ev_check *w, int revents)
{
    struct loop *loop = w->data;
    int64_t before_us = loop->now_us;

    (void)ev;
    (void)revents;
    loop->now_us = loop_clock_us();
    if (loop->on_lag == NULL)
        return;
    /* The turn before and the wait together; libev calls its highest priority first, so nobody has looked at
     * this turn's events or timers yet. */
    int64_t lag_us = loop->now_us - before_us - loop->lag_period_us;
    if (lag_us >= loop->lag_threshold_us)
        loop->on_lag(loop->lag_ctx, lag_us);
}

static void loop_on_pulse(struct ev_loop *ev, ev_timer *w, int revents)
{
    (void)ev; /* that it ends the wait is all that it is for */
    (void)w;
    (void)revents;
}

static void loop_on_prepare(struct ev_loop *ev, ev_prepare *w, int revents)
{
    (void)ev;
    (void)revents;
    loop_run_deferred(w->data);
}

static void loop_on_async(struct ev_loop *ev, ev_async *w, int revents)
{
    (void)ev;
    (void)revents;
    loop_run_wakeups(w->data);
}

struct loop *loop_create(bool is_main)
{
    struct loop *loop = calloc(1, sizeof(*loop));

    if (loop == NULL)
        return NULL;
    /* Never libev's default loop, not even for the main thread: it reaps every child of the process
     * (waitpid(-1)), whoever started it, and hides the exit status from its owner. */
    loop->ev = ev_loop_new(EVFLAG_AUTO | EVFLAG_NOENV);
    if (loop->ev == NULL) {
        free(loop);
        return NULL;
    }
    loop->is_main = is_main;
    loop->now_us = loop_clock_us();
    loop->last = &loop->first;
    pthread_mutex_init(&loop->lock, NULL);

    ev_check_init(&loop->check, loop_on_check);
    ev_set_priority(&loop->check, EV_MAXPRI);
    loop->check.data = loop;
    ev_check_start(loop->ev, &loop->check);
    ev_prepare_init(&loop->prepare, loop_on_prepare);
    ev_set_priority(&loop->prepare, EV_MINPRI);
    loop->prepare.data = loop;
    ev_prepare_start(loop->ev, &loop->prepare);
    ev_async_init(&loop->async, loop_on_async);
    loop->async.data = loop;
    ev_async_start(loop->ev, &loop->async);
    ev_init(&loop->pulse, loop_on_pulse);

    /* A peer that went away is an error of write(2), not the end of the program. */
    if (is_main)
        (void)signal(SIGPIPE, SIG_IGN); // NOLINT(bugprone-signal-handler)
    return loop;
}

void loop_destroy(struct loop *loop)
{
    if (loop == NULL)
        return;
    pthread_mutex_lock(&loop->lock);
    loop->closing = true;
    pthread_mutex_unlock(&loop->lock);
    loop_run_wakeups(loop);
    loop_run_deferred(loop);

    for (size_t i = 0; i < loop->n_signals; i++)
        ev_signal_stop(loop->ev, &loop->signals[i].watcher);
    ev_timer_stop(loop->ev, &loop->pulse);
    ev_async_stop(loop->ev, &loop->async);
    ev_prepare_stop(loop->ev, &loop->prepare);
    ev_check_stop(loop->ev, &loop->check);
    ev_loop_destroy(loop->ev);
    pthread_mutex_destroy(&loop->lock);
    free(loop->deferred);
    free(loop);
}

struct ev_loop *loop_ev(struct loop *loop)
{
    return loop->ev;
}

int64_t loop_now_us(const struct loop *loop)
{
    return loop->now_us;
}

void loop_defer(struct loop *loop, void (*fn)(void *p), void *p)
{
    assert(fn != NULL);
    if (loop->n_deferred == loop->deferred_size) {
        size_t size = loop->deferred_size == 0 ? 64 : loop->deferred_size * 2;
        struct loop_call *grown = realloc(loop->deferred, size * sizeof(*grown));

        if (grown == NULL) {
            /* The caller has an object on the stack that it can neither free nor keep. */
            log_error("event=loop.nomem say=\"out of memory while closing something; giving up\"");
            abort();
        }
        loop->deferred = grown;
        loop->deferred_size = size;
    }
    loop->deferred[loop->n_deferred].fn = fn;
    loop->deferred[loop->n_deferred].p = p;
    loop->n_deferred++;
}

static void loop_on_signal_event(struct ev_loop *ev, ev_signal *w, int revents)
{
    struct loop_signal *s = w->data;

    (void)ev;
    (void)revents;
    s->fn(s->ctx);
}

int loop_on_signal(struct loop *loop, int signum, void (*fn)(void *ctx), void *ctx)
{
    struct loop_signal *s;

    assert(fn != NULL);
    if (!loop->is_main || signum <= 0 || signum >= NSIG)
        return ERR_INVALID;
    if (loop->n_signals == LOOP_SIGNALS_MAX)
        return ERR_TOO_LARGE;
    s = &loop->signals[loop->n_signals++];
    s->fn = fn;
    s->ctx = ctx;
    ev_signal_init(&s->watcher, loop_on_signal_event, signum);
    s->watcher.data = s;
    ev_signal_start(loop->ev, &s->watcher);
    return 0;
}

int loop_wake(struct loop *loop, void (*fn)(void *ctx), void *ctx)
{
    struct loop_wakeup *w = malloc(sizeof(*w));
    bool closing;

    assert(fn != NULL);
    if (w == NULL)
        return ERR_NOMEM;
    w->next = NULL;
    w->fn = fn;
    w->ctx = ctx;
    pthread_mutex_lock(&loop->lock);
    closing = loop->closing;
    if (!closing) {
        *loop->last = w;
        loop->last = &w->next;
        /* Under the lock: afterwards the loop may be gone already. */
        ev_async_send(loop->ev, &loop->async);
    }
    pthread_mutex_unlock(&loop->lock);
    if (closing) {
        free(w);
        return ERR_CANCELLED;
    }
    return 0;
}

void loop_on_lag(struct loop *loop, int64_t threshold_us, void (*fn)(void *ctx, int64_t lag_us), void *ctx)
{
    assert(threshold_us >= 8000 && fn != NULL);
    assert(loop->on_lag == NULL);
    loop->on_lag = fn;
    loop->lag_ctx = ctx;
    loop->lag_threshold_us = threshold_us;
    loop->lag_period_us = threshold_us / 8;
    loop->pulse.repeat = (double)loop->lag_period_us / 1e6;
    ev_timer_again(loop->ev, &loop->pulse);
}

void loop_run(struct loop *loop)
{
    /* Not having run is no lag. */
    loop->now_us = loop_clock_us();
    while (!loop->stopping)
        ev_run(loop->ev, 0);
    loop->stopping = false; /* it may be run again */
    loop_run_deferred(loop);
}

void loop_stop(struct loop *loop)
{
    loop->stopping = true;
    ev_break(loop->ev, EVBREAK_ONE);
}
