/* Which proxies hold the replies of a strict instance (controller/core/promise.h).
 *
 *   record: strict, acks ─► what is awaited of the registered proxies
 *   ingest ─ ACK with acks ─► held ─┐
 *   every second ───────────────────┴─► promise_step() ─► the route is told again; in force, late ─► log,
 * on_event
 */
#include "common/log.h"
#include "common/loop.h"
#include "controller/announcer.h"
#include "controller/engine_instance.h"

#include <assert.h>
#include <string.h>

static const double strict_period_s = 1.0;

static bool engine_strict_is_due(const struct engine_instance *i)
{
    const struct topology_instance *record = &i->failover.record;
    return i->engine->term != 0 && i->corrupt[0] == '\0' && i->failover.has_record &&
           topology_is_strict(record);
}

static void engine_strict_begin(struct engine_instance *i)
{
    struct engine_strict *s = &i->strict;
    engine_set_clear(&s->held);
    memset(&s->promise, 0, sizeof(s->promise));
    s->acks = i->failover.record.policy.acks;
    if (s->on)
        return;
    s->on = true;
    list_push_back(&i->engine->strict, &s->node);
}

void engine_strict_end(struct engine_instance *i)
{
    struct engine_strict *s = &i->strict;
    engine_set_clear(&s->held);
    if (!s->on)
        return;
    s->on = false;
    list_remove(&s->node);
}

void engine_strict_sync(struct engine_instance *i)
{
    if (!engine_strict_is_due(i))
        engine_strict_end(i);
    else if (!i->strict.on || i->strict.acks != i->failover.record.policy.acks ||
             i->strict.term != i->engine->term)
        engine_strict_begin(i);
    i->strict.term = i->engine->term;
}

void engine_strict_count(struct engine_instance *i)
{
    const struct engine_proxies *t = &i->engine->proxies;
    i->strict.shown.n = engine_set_common(&i->strict.held, &t->registered);
    (void)engine_proxies_missing(t, &i->strict.held, i->strict.shown.missing);
}

/* As often as something changes, and once a second. */
static void engine_strict_weigh(struct engine_instance *i)
{
    const struct engine_proxies *t = &i->engine->proxies;
    const struct failover *f = &i->failover;
    uint32_t n = engine_set_common(&i->strict.held, &t->registered);
    bool ask = false;
    if (t->list_no == 0)
        return; /* who is there isn't known yet */
    switch (promise_step(&i->strict.promise, n, t->n_registered, loop_now_us(i->engine->loop), &ask)) {
    case PROMISE_IN_FORCE:
        engine_say(i->engine, i->name, FAILOVER_INFO,
                   "event=durability.in_force instance=%s acks=%u proxies=%u", i->name, i->strict.acks,
                   t->n_registered);
        engine_note_change(i);
        break;
    case PROMISE_LATE:
        engine_strict_count(i);
        engine_say(
            i->engine, i->name, FAILOVER_WARN,
            "event=durability.not_held instance=%s acks=%u held=%u of=%u missing=\"%s\" next=\"look at those "
            "proxies: what goes through them may be acknowledged without waiting\"",
            i->name, i->strict.acks, n, t->n_registered, i->strict.shown.missing);
        break;
    case PROMISE_SAME:
        break;
    }
    /* Not in a switchover: a route ends its hold. */
    if (ask && (f->phase == FAILOVER_WATCH || f->phase == FAILOVER_CONFIRM))
        announcer_publish(i->engine->config.announcer, &f->record, f->revision);
}

void engine_strict_ack(struct engine_instance *i, const struct engine_proxy *p, uint64_t epoch, uint32_t acks)
{
    if (!i->strict.on || epoch > i->failover.record.epoch)
        return;
    if (acks < i->strict.acks)
        engine_set_remove(&i->strict.held, p->slot);
    else if (!engine_set_add(&i->strict.held, p->slot))
        return;
    engine_strict_weigh(i);
}

static void engine_strict_on_timer(struct ev_loop *ev, ev_timer *timer, int revents)
{
    struct engine *e = timer->data;
    (void)ev;
    (void)revents;
    list_for_each(node, &e->strict)
        engine_strict_weigh(list_entry(node, struct engine_instance, strict.node));
}

void engine_strict_open(struct engine *e)
{
    list_init(&e->strict);
    ev_timer_init(&e->strict_timer, engine_strict_on_timer, strict_period_s, strict_period_s);
    e->strict_timer.data = e;
    ev_timer_start(loop_ev(e->loop), &e->strict_timer);
}

void engine_strict_close(struct engine *e)
{
    ev_timer_stop(loop_ev(e->loop), &e->strict_timer);
}
