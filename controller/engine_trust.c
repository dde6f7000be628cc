/* Does this controller trust its own eyes, and what do the others see?
 *
 *   members' silence, loop lag, controllers, votes ─► outlook ─► event.trust of every event, on_unfit
 *   SURVEY ─► voters ─► votes ─► FAILOVER_ON_SURVEYED
 */
#include "common/log.h"
#include "common/loop.h"
#include "controller/engine_instance.h"
#include "controller/voters.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

/* ---- the outlook ----------------------------------------------------------------------------------------
 */

static void engine_trust_say(struct engine *e)
{
    const struct outlook *o = &e->outlook;
    if (o->trust.distrusted == e->distrusted)
        return;
    e->distrusted = o->trust.distrusted;
    if (e->distrusted)
        engine_say(e, "", FAILOVER_ERROR,
                   "event=outlook.distrusted silent=%u members=%u say=\"most members went silent at once: it "
                   "is this controller's network\" next=\"no verdict by its own view until they are heard\"",
                   o->n_silent, o->n_members);
    else
        engine_say(e, "", FAILOVER_INFO, "event=outlook.trusted silent=%u members=%u", o->n_silent,
                   o->n_members);
}

void engine_trust_weigh(struct engine *e)
{
    int64_t now_us = loop_now_us(e->loop);
    engine_trust_say(e);
    if (outlook_resigns(&e->outlook, e->term != 0, now_us)) {
        e->unfit = true;
        engine_say(e, "", FAILOVER_ERROR,
                   "event=outlook.resigned term=%" PRIu64
                   " say=\"others see members that are silent here\" next=\"another controller leads\"",
                   e->term);
        if (e->config.on_unfit)
            e->config.on_unfit(e->config.ctx, false);
    } else if (e->unfit && outlook_may_lead(&e->outlook, now_us)) {
        e->unfit = false;
        engine_say(e, "", FAILOVER_INFO, "event=outlook.fit next=\"it may lead again\"");
        if (e->config.on_unfit)
            e->config.on_unfit(e->config.ctx, true);
    }
    ev_timer_stop(loop_ev(e->loop), &e->outlook_deadline);
    int64_t left_us = outlook_deadline_us(&e->outlook) - now_us;
    if (left_us <= 0) /* none, or nothing came of it: time alone changes nothing any more */
        return;
    ev_timer_set(&e->outlook_deadline, (double)left_us / 1e6 + 0.001, 0.);
    ev_timer_start(loop_ev(e->loop), &e->outlook_deadline);
}

static void engine_on_outlook_deadline(struct ev_loop *ev, ev_timer *timer, int revents)
{
    (void)ev;
    (void)revents;
    engine_trust_weigh(timer->data);
}

void engine_trust_open(struct engine *e)
{
    outlook_init(&e->outlook);
    ev_init(&e->outlook_deadline, engine_on_outlook_deadline);
    e->outlook_deadline.data = e;
}

void engine_trust_close(struct engine *e)
{
    ev_timer_stop(loop_ev(e->loop), &e->outlook_deadline);
}

void engine_on_lag(struct engine *e, int64_t lag_us)
{
    engine_say(e, "", FAILOVER_WARN,
               "event=loop.late late_ms=%" PRId64
               " say=\"this process was stopped or had no CPU\" next=\"what seemed silent meanwhile does not "
               "count\"",
               lag_us / 1000);
    outlook_on_lag(&e->outlook, lag_us, loop_now_us(e->loop));
    engine_trust_weigh(e);
}

void engine_on_controllers(struct engine *e, uint32_t n)
{
    if (n != e->outlook.trust.n_controllers)
        log_info("event=controllers.changed n=%u", n);
    outlook_on_controllers(&e->outlook, n);
    engine_trust_weigh(e);
}

void engine_on_maintenance(struct engine *e, const struct topology_pause *pause)
{
    static const struct topology_pause none;
    bool was_on = e->maintenance.owner[0] != '\0';
    e->maintenance = pause ? *pause : none;
    if (e->maintenance.owner[0] != '\0')
        engine_say(e, "", FAILOVER_WARN,
                   "event=maintenance.on owner=%s reason=\"%s\" until_ms=%" PRId64
                   " next=\"no automatic failover of any instance until it ends\"",
                   e->maintenance.owner, e->maintenance.reason, e->maintenance.until_ms);
    else if (was_on)
        engine_say(e, "", FAILOVER_INFO, "event=maintenance.off");
}

/* ---- what others see ------------------------------------------------------------------------------------
 */

void engine_set_voters(struct engine *e, struct voters *voters)
{
    e->voters = voters;
}

void engine_view(const struct engine *e, const char *instance, const struct topology_address *member,
                 struct health_view *out)
{
    const struct engine_instance *i = engine_lookup(e, instance);
    int k = i ? topology_member_find(&i->failover.record, member) : -1;
    memset(out, 0, sizeof(*out));
    out->kind = HEALTH_VIEW_UNKNOWN;
    out->distrusted = e->outlook.trust.distrusted;
    if (k >= 0)
        health_view(&i->failover.health[k], &e->outlook.trust, loop_now_us(e->loop), out);
}

/* A survey ends: the core learns of it, unless the one it is about is not the master any more. */
static void engine_surveyed(struct engine_order *o, const struct health_votes *votes)
{
    struct engine_instance *i = o->instance;
    struct failover_event outcome = {.votes = votes};
    if (i && topology_address_equal(&o->about, &i->failover.record.master))
        engine_order_answer(o, &outcome);
    else
        engine_order_free(o);
}

static struct engine_order *engine_survey_find(const struct engine_instance *i,
                                               const struct topology_address *about)
{
    list_for_each(node, &i->orders)
    {
        struct engine_order *o = list_entry(node, struct engine_order, node);
        if (o->bearer == ENGINE_BY_VOTERS && topology_address_equal(&o->about, about))
            return o;
    }
    return NULL;
}

static void engine_on_survey_unasked(void *ctx)
{
    struct engine_order *o = ctx;
    struct health_votes nobody = {.asked_us = o->asked_us};
    if (o->instance)
        nobody.n_controllers = o->instance->engine->outlook.trust.n_controllers;
    engine_surveyed(o, &nobody);
}

void engine_survey(struct engine_instance *i, const struct failover_action *a)
{
    struct engine *e = i->engine;
    assert(a->member >= 0 && a->member < (int)i->failover.record.n_members);
    const struct topology_address *about = &i->failover.record.members[a->member].address;
    bool under_way = engine_survey_find(i, about) != NULL; /* its answer is this one's, too */
    int err = under_way ? 0 : e->voters ? voters_survey(e->voters, i->name, about) : ERR_NOT_FOUND;
    if (err != 0 && e->voters)
        log_warn("event=survey.unsent instance=%s reason=%s next=\"counts as unanswered\"", i->name,
                 err_name(err));
    struct engine_order *o =
        engine_order_new(i, err == 0 ? ENGINE_BY_VOTERS : ENGINE_BY_LOOP, FAILOVER_ON_SURVEYED, a);
    if (err != 0)
        engine_later(e, engine_on_survey_unasked, o);
}

void engine_on_votes(struct engine *e, const char *instance, const struct topology_address *member,
                     const struct health_votes *votes)
{
    struct engine_instance *i = engine_lookup(e, instance);
    struct engine_order *o;
    uint32_t n = 0;
    outlook_on_votes(&e->outlook, votes);
    engine_trust_weigh(e);
    if (!i)
        return;
    list_for_each(node, &i->orders)
    {
        const struct engine_order *waiting = list_entry(node, struct engine_order, node);
        if (waiting->bearer == ENGINE_BY_VOTERS && topology_address_equal(&waiting->about, member))
            n++;
    }
    /* Counted first: what a step asks anew is not answered by these votes. New orders are at the end. */
    for (; n > 0 && (o = engine_survey_find(i, member)) != NULL; n--)
        engine_surveyed(o, votes);
}
