/* A monitor that watches one member, and what it said: for the tests of the monitor. Failures fail the test.
 */
#ifndef MR_TESTS_LIB_WATCHED_H
#define MR_TESTS_LIB_WATCHED_H

#include "controller/monitor.h"

/* All zeros, but for the deadline and for what shall happen inside the callbacks. */
struct watched {
    struct loop *loop;
    struct monitor *monitor;
    struct monitor_member *member; /* NULL: unwatched */
    int reply_timeout_ms;          /* 0: 5000 */
    int ups, downs, infos, last_down;
    struct info info;
    bool unwatch_on_up, unwatch_on_down, unwatch_on_info, unwatch_on_done, seal_on_up;
    bool unwatch_on_mute, unwatch_on_heard, unwatch_on_knock;
    /* silence and words */
    int mutes, heards, knocks, pings; /* pings: 1 every second, -1 refused, 0 not said */
    int64_t mute_since_us, mute_told_us;
    enum health_knock knock;
    enum health_said said;
    char words[160];
    /* the last order */
    int done, err;
    bool has_info;
    struct info order_info;
    char text[160];
    int64_t wanted_offset;
    bool (*condition)(const struct watched *w);
};

/* Watches address with a monitor and a loop of their own; deadlines of 5 s. */
void watched_open(struct watched *w, const struct topology_address *address, int interval_ms);
/* The same with that connect deadline. */
void watched_open_within(struct watched *w, const struct topology_address *address, int interval_ms,
                         int connect_timeout_ms);
void watched_end(struct watched *w);
/* auth NULL: none. */
void watched_with(struct watched *w, const struct topology_address *address,
                  const struct topology_auth *auth);
void watched_unwatch(struct watched *w);
void watched_wait(struct watched *w, bool (*condition)(const struct watched *));
/* A monitor_done_fn; ctx is the struct watched. */
void watched_on_done(void *ctx, int err, const struct info *info, const char *text);
/* Gives the order and waits for its end. */
void watched_order(struct watched *w, void (*give)(struct monitor_member *, monitor_done_fn, void *));
void watched_replicate(struct watched *w, const struct topology_address *target);
void watched_wait_done(struct watched *w);

#endif
