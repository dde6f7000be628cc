/* One libev loop with one notion of "now": CLOCK_MONOTONIC, read once per turn.
 *
 * Every shell module of a program shares the loop of its thread. Not thread-safe, but for loop_wake(). */
#ifndef MR_COMMON_LOOP_H
#define MR_COMMON_LOOP_H

#include "common/core/err.h"

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

struct loop;

/* The main thread passes is_main = true: it gets the signals, and SIGPIPE is ignored from then on. NULL when
 * out of memory or descriptors. ev_child does not work here (libev's would reap everybody's children): wait
 * for SIGCHLD by loop_on_signal() and call waitpid() with your own child's id. */
struct loop *loop_create(bool is_main);
/* Runs everything deferred, then frees. Not from inside loop_run(). */
void loop_destroy(struct loop *loop);

struct ev_loop *loop_ev(struct loop *loop);
/* Monotonic microseconds at the start of this turn; never 0, never goes back. (ev_now() is the wall clock.)
 */
int64_t loop_now_us(const struct loop *loop);
/* The monotonic clock read now: for measuring a span inside one turn. */
int64_t loop_clock_us(void);
/* Wall clock, Unix milliseconds: for texts that people read, never for a decision. */
int64_t loop_wall_ms(void);

/* Calls fn(p) at the end of this turn: how an object frees itself while its callbacks are on the stack. */
void loop_defer(struct loop *loop, void (*fn)(void *p), void *p);

/* Calls fn(ctx) on the loop's thread for each signum until the loop is destroyed. ERR_INVALID when the loop
 * isn't the main thread's, ERR_TOO_LARGE after eight of them. */
int loop_on_signal(struct loop *loop, int signum, void (*fn)(void *ctx), void *ctx) MR_MUST_CHECK;

/* From any thread: fn(ctx) runs on the loop's thread, in the order of the calls, once each.
 * Takes no ownership. ERR_NOMEM, or ERR_CANCELLED once the loop is being destroyed. */
int loop_wake(struct loop *loop, void (*fn)(void *ctx), void *ctx) MR_MUST_CHECK;

/* fn(ctx, lag_us) runs first in every turn that began at least threshold_us later than it should have, before
 * anything else of that turn is handled: the process was stopped (SIGSTOP, a frozen machine), got no CPU, or
 * the turn before took that long. lag_us: how long it was deaf, give or take an eighth of the threshold
 * (a timer of that period bounds what a turn may wait). One for each loop; not from inside fn. */
void loop_on_lag(struct loop *loop, int64_t threshold_us, void (*fn)(void *ctx, int64_t lag_us), void *ctx);

void loop_run(struct loop *loop);  /* until loop_stop() */
void loop_stop(struct loop *loop); /* at the end of this turn */

#endif
