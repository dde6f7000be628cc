#include "proxy/silence.h"

#include "common/loop.h"
#include "proxy/acks.h"
#include "proxy/client.h"
#include "proxy/instance.h"
#include "proxy/mux.h"

static void silence_on_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct instance *i = timer->data;
    struct silence *s = &i->silence;
    int64_t now_us = loop_now_us(i->shard->loop);
    int64_t since_us = mux_silent_since_us(i), acks_us = acks_silent_since_us(i);

    (void)revents;
    if (acks_us > 0 && (since_us == 0 || acks_us < since_us))
        since_us = acks_us;
    if (list_empty(&s->awaiting) && since_us == 0) {
        ev_timer_stop(ev, timer);
        return;
    }
    bool silent = since_us > 0 && now_us - since_us >= SILENCE_AFTER_US;
    list_for_each(node, &s->awaiting)
    {
        const struct client *c = list_entry(node, const struct client, awaiting);
        bool unread = session_is_slow(&c->session); /* the client is slow, not the master */
        silent = silent || (!unread && now_us - c->heard_us >= SILENCE_AFTER_US);
    }
    /* A switchover pauses the master: then silence is meant. */
    if (!silent || i->doubt || i->env.pause != SESSION_FLOWS || i->route.state != ROUTE_SERVING ||
        (s->told_us != 0 && now_us - s->told_us < SILENCE_EVERY_US))
        return;
    s->told_us = now_us;
    i->shard->on_silent(i->shard, &i->route);
}

void silence_init(struct instance *i)
{
    list_init(&i->silence.awaiting);
    ev_timer_init(&i->silence.timer, silence_on_timer, 0., (double)SILENCE_AFTER_US / 2e6);
    i->silence.timer.data = i;
}

void silence_stop(struct instance *i)
{
    ev_timer_stop(i->shard->ev, &i->silence.timer);
}

void silence_heard(struct client *c)
{
    c->heard_us = loop_now_us(c->instance->shard->loop);
}

void silence_begin(struct instance *i)
{
    if (!ev_is_active(&i->silence.timer))
        ev_timer_again(i->shard->ev, &i->silence.timer);
}

void silence_look(struct client *c)
{
    struct instance *i = c->instance;

    if (c->at_replica || !session_awaits_reply(&c->session)) { /* a replica is the controllers' business */
        list_remove(&c->awaiting);
        return;
    }
    if (!list_empty(&c->awaiting))
        return;
    silence_heard(c); /* the wait begins */
    list_push_back(&i->silence.awaiting, &c->awaiting);
    silence_begin(i);
}
