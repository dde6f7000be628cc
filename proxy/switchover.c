#include "proxy/switchover.h"

#include "common/log.h"
#include "common/loop.h"
#include "proxy/acks.h"
#include "proxy/client.h"
#include "proxy/instance.h"
#include "proxy/mux.h"

#include <assert.h>

static void switchover_count(struct client *c, bool in_flight)
{
    struct switchover *s = &c->instance->switchover;

    if (c->in_flight == in_flight)
        return;
    c->in_flight = in_flight;
    s->in_flight += in_flight ? 1 : (uint32_t)-1;
}

static void switchover_tell(struct instance *i)
{
    struct switchover *s = &i->switchover;

    if (s->number == 0 || s->told || s->in_flight > 0 || mux_in_flight(i) > 0 || acks_held(i) > 0)
        return;
    s->told = true;
    i->shard->on_held(i->shard, &i->route, s->number);
}

void switchover_check(struct instance *i)
{
    switchover_tell(i);
}

static void switchover_look_at_all(struct instance *i)
{
    list_for_each(node, &i->clients)
    {
        struct client *c = list_entry(node, struct client, node);
        switchover_count(c, session_is_in_flight(&c->session));
        client_touch(c); /* what waits now has a deadline */
    }
    switchover_tell(i);
}

void switchover_look(struct client *c)
{
    if (c->instance->switchover.number == 0)
        return;
    switchover_count(c, session_is_in_flight(&c->session));
    switchover_tell(c->instance);
}

void switchover_forget(struct client *c)
{
    switchover_count(c, false);
    switchover_tell(c->instance);
}

static void switchover_arm(struct instance *i)
{
    struct switchover *s = &i->switchover;
    int64_t at_us = i->env.pause == SESSION_FINISHING ? s->still_us : s->until_us;
    int64_t wait_us = at_us - loop_clock_us();

    ev_timer_stop(i->shard->ev, &s->timer);
    ev_timer_set(&s->timer, wait_us > 0 ? (double)wait_us / 1e6 : 0., 0.);
    ev_timer_start(i->shard->ev, &s->timer);
}

static void switchover_on_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct instance *i = timer->data;
    struct switchover *s = &i->switchover;

    (void)ev;
    (void)revents;
    assert(s->number != 0);
    if (loop_clock_us() >= s->until_us) {
        log_warn("event=switchover.no_news instance=%s epoch=%llu in_flight=%u say=\"neither a new route nor "
                 "the old one again was heard in time: requests go to the old master again\"",
                 i->route.name, (unsigned long long)i->route.epoch, s->in_flight);
        (void)switchover_end(i);
        instance_resume(i);
        return;
    }
    if (loop_clock_us() >= s->still_us && i->env.pause == SESSION_FINISHING) {
        i->env.pause = SESSION_STILL;
        switchover_look_at_all(i);
    }
    switchover_arm(i);
}

void switchover_init(struct instance *i)
{
    ev_timer_init(&i->switchover.timer, switchover_on_timer, 0., 0.);
    i->switchover.timer.data = i;
}

void switchover_begin(struct instance *i, uint64_t epoch, uint64_t number, uint32_t limit_ms,
                      int64_t posted_us)
{
    struct switchover *s = &i->switchover;

    assert(number > 0 && limit_ms > 0);
    if (i->route.epoch != epoch || i->route.state != ROUTE_SERVING)
        return;
    if (s->number == 0) {
        i->env.pause = SESSION_FINISHING;
        s->still_us = posted_us + (int64_t)limit_ms * 500;
    }
    s->until_us = posted_us + (int64_t)limit_ms * 1000;
    s->number = number;
    s->told = false;
    switchover_look_at_all(i);
    switchover_arm(i);
}

bool switchover_end(struct instance *i)
{
    struct switchover *s = &i->switchover;
    bool held = s->number != 0 && s->told;

    ev_timer_stop(i->shard->ev, &s->timer);
    s->number = 0;
    s->told = false;
    s->in_flight = 0;
    if (i->env.pause != SESSION_FLOWS)
        list_for_each(node, &i->clients) list_entry(node, struct client, node)->in_flight = false;
    i->env.pause = SESSION_FLOWS;
    return held;
}
