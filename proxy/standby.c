#include "proxy/standby.h"

#include "common/loop.h"
#include "proxy/instance.h"

#define STANDBY_RETRY_S 1.0

static void standby_close(struct standby *s)
{
    backend_close(s->backend);
    s->backend = NULL;
}

static void standby_on_backend(void *owner, enum backend_event event, int err)
{
    struct instance *i = owner;

    (void)err;
    if (event == BACKEND_CONNECTED) {
        backend_want(i->standby.backend, true, false);
        return;
    }
    /* It is asked nothing: whatever there is to be read is a goodbye. */
    standby_close(&i->standby);
    ev_timer_stop(i->shard->ev, &i->standby.timer);
    ev_timer_set(&i->standby.timer, STANDBY_RETRY_S, 0.);
    ev_timer_start(i->shard->ev, &i->standby.timer);
}

static void standby_on_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    (void)ev;
    (void)revents;
    standby_look(timer->data);
}

void standby_init(struct instance *i)
{
    ev_timer_init(&i->standby.timer, standby_on_timer, 0., 0.);
    i->standby.timer.data = i;
}

void standby_stop(struct instance *i)
{
    ev_timer_stop(i->shard->ev, &i->standby.timer);
    standby_close(&i->standby);
}

/* In a failover the standby is kept until the next route says who is master. */
void standby_look(struct instance *i)
{
    struct standby *s = &i->standby;
    const struct topology_address *next = i->route.n_replicas > 0 ? &i->route.replicas[0] : NULL;

    if (i->route.state != ROUTE_SERVING || ev_is_active(&s->timer))
        return;
    if (s->backend && (!next || !topology_address_equal(backend_address(s->backend), next)))
        standby_close(s);
    if (next && !s->backend)
        s->backend = backend_open(i->shard->ev, next, loop_now_us(i->shard->loop), standby_on_backend, i);
}

struct backend *standby_take(struct instance *i, backend_event_fn on_event, void *owner)
{
    struct standby *s = &i->standby;
    struct backend *b = s->backend;

    if (!b || !backend_is_connected(b) || !topology_address_equal(backend_address(b), &i->route.master))
        return NULL;
    s->backend = NULL;
    backend_give(b, on_event, owner);
    return b;
}
