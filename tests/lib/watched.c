#include "tests/lib/watched.h"

#include "common/loop.h"
#include "tests/lib/wait.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

void watched_unwatch(struct watched *w)
{
    monitor_unwatch(w->member);
    w->member = NULL;
}

void watched_on_done(void *ctx, int err, const struct info *info, const char *text)
{
    struct watched *w = ctx;

    w->done++;
    w->err = err;
    w->has_info = info != NULL;
    if (info)
        w->order_info = *info;
    (void)snprintf(w->text, sizeof w->text, "%s", text);
    if (w->unwatch_on_done)
        watched_unwatch(w);
}

static void watched_on_up(void *owner)
{
    struct watched *w = owner;

    w->ups++;
    if (w->seal_on_up)
        monitor_seal(w->member, watched_on_done, w);
    if (w->unwatch_on_up)
        watched_unwatch(w);
}

static void watched_on_down(void *owner, int err, const char *text)
{
    struct watched *w = owner;

    assert_true(text[0] != '\0');
    w->downs++;
    w->last_down = err;
    if (w->unwatch_on_down)
        watched_unwatch(w);
}

static void watched_on_info(void *owner, const struct info *info)
{
    struct watched *w = owner;

    w->infos++;
    w->info = *info;
    assert_int_equal(strlen(info->run_id), TOPOLOGY_RUN_ID_LEN);
    assert_true(info->version[0] != '\0');
    if (w->unwatch_on_info)
        watched_unwatch(w);
}

static void watched_on_mute(void *owner, int64_t since_us)
{
    struct watched *w = owner;

    w->mutes++;
    w->mute_since_us = since_us;
    w->mute_told_us = loop_now_us(w->loop);
    assert_true(since_us > 0 && since_us <= w->mute_told_us);
    if (w->unwatch_on_mute)
        watched_unwatch(w);
}

static void watched_on_heard(void *owner, enum health_said said, const char *text)
{
    struct watched *w = owner;

    w->heards++;
    w->said = said;
    (void)snprintf(w->words, sizeof w->words, "%s", text);
    assert_int_equal(text[0] == '\0', said == HEALTH_SAID_OK);
    if (w->unwatch_on_heard)
        watched_unwatch(w);
}

static void watched_on_knock(void *owner, enum health_knock how)
{
    struct watched *w = owner;

    assert_int_not_equal(how, HEALTH_KNOCK_UNKNOWN);
    w->knocks++;
    w->knock = how;
    if (w->unwatch_on_knock)
        watched_unwatch(w);
}

static void watched_on_pings(void *owner, bool every_second)
{
    struct watched *w = owner;

    w->pings = every_second ? 1 : -1;
}

void watched_with(struct watched *w, const struct topology_address *address, const struct topology_auth *auth)
{
    const struct topology_auth none = {.user = ""};

    assert_int_equal(monitor_watch(w->monitor, "test", address, auth ? auth : &none, w, &w->member), 0);
}

void watched_open_within(struct watched *w, const struct topology_address *address, int interval_ms,
                         int connect_timeout_ms)
{
    struct monitor_config config = {.interval_ms = interval_ms,
                                    .connect_timeout_ms = connect_timeout_ms,
                                    .reply_timeout_ms = w->reply_timeout_ms ? w->reply_timeout_ms : 5000,
                                    .reconnect_min_ms = 5,
                                    .reconnect_max_ms = 20,
                                    .on_link_up = watched_on_up,
                                    .on_link_down = watched_on_down,
                                    .on_info = watched_on_info,
                                    .on_mute = watched_on_mute,
                                    .on_heard = watched_on_heard,
                                    .on_knock = watched_on_knock,
                                    .on_pings = watched_on_pings};

    w->loop = loop_create(false);
    assert_int_equal(monitor_open(&w->monitor, w->loop, &config), 0);
    watched_with(w, address, NULL);
}

void watched_open(struct watched *w, const struct topology_address *address, int interval_ms)
{
    watched_open_within(w, address, interval_ms, 5000);
}

void watched_end(struct watched *w)
{
    monitor_close(w->monitor);
    loop_destroy(w->loop);
}

static bool watched_holds(void *ctx)
{
    const struct watched *w = ctx;

    return w->condition(w);
}

void watched_wait(struct watched *w, bool (*condition)(const struct watched *))
{
    w->condition = condition;
    assert_true(wait_until(w->loop, watched_holds, w, WAIT_MS));
}

static bool watched_is_done(const struct watched *w)
{
    return w->done > 0;
}

void watched_wait_done(struct watched *w)
{
    watched_wait(w, watched_is_done);
    assert_int_equal(w->done, 1);
}

void watched_order(struct watched *w, void (*give)(struct monitor_member *, monitor_done_fn, void *))
{
    w->done = 0;
    give(w->member, watched_on_done, w);
    assert_int_equal(w->done, 0); /* never inside the call */
    watched_wait_done(w);
}

void watched_replicate(struct watched *w, const struct topology_address *target)
{
    w->done = 0;
    monitor_replicate(w->member, target, watched_on_done, w);
    watched_wait_done(w);
}
