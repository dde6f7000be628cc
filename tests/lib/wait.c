#include "tests/lib/wait.h"

#include "common/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>

static void wait_on_timer(struct ev_loop *ev, ev_timer *w, int revents)
{
    (void)ev;
    (void)w;
    (void)revents;
}

bool wait_until(struct loop *loop, bool (*condition)(void *ctx), void *ctx, int timeout_ms)
{
    int64_t end_us = loop_clock_us() + (int64_t)timeout_ms * 1000;
    bool holds;
    ev_timer timer;

    ev_timer_init(&timer, wait_on_timer, 0.01, 0.01);
    ev_timer_start(loop_ev(loop), &timer);
    while (!(holds = condition(ctx)) && loop_clock_us() < end_us)
        ev_run(loop_ev(loop), EVRUN_ONCE);
    ev_timer_stop(loop_ev(loop), &timer);
    return holds;
}

static bool wait_never(void *ctx)
{
    (void)ctx;
    return false;
}

void wait_for(struct loop *loop, int ms)
{
    (void)wait_until(loop, wait_never, NULL, ms);
}

bool wait_process_is_gone(int pid)
{
    char path[40], state = 'Z';
    FILE *f;

    if (kill(pid, 0) != 0 && errno == ESRCH)
        return true;
    (void)snprintf(path, sizeof path, "/proc/%d/stat", pid);
    f = fopen(path, "re");
    if (!f)
        return true;
    if (fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
        state = 'Z';
    (void)fclose(f);
    return state == 'Z';
}
