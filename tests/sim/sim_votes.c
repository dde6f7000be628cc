/* Surveys among the controllers, and each one's outlook with what follows from it.
 *
 *   SURVEY ─► question ─► health_view() of each other one ─► answer ─┐ all have answered, or 100 ms
 *   SURVEYED ◄───────────────────────────────────────────────────────┘
 *   silence, lag, numbers, votes ─► outlook ─► resign, come back */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { VOTES_DEADLINE_US = 100000 };

static void votes_end(struct sim *s, int controller, int instance)
{
    struct sim_controller *c = &s->controllers[controller];
    struct sim_survey *survey = &c->surveys[instance];
    survey->open = false;
    survey->number++;
    struct health_votes votes = survey->votes;
    ablations_change_votes(s, &votes);
    outlook_on_votes(&c->outlook, &votes);
    struct failover_event event = {.type = FAILOVER_ON_SURVEYED, .votes = &votes};
    const struct topology_address *master =
        c->failover[instance].has_record ? &c->failover[instance].record.master : NULL;
    if (master && topology_address_is_set(master) && sim_redis_at(master) == survey->redis)
        (void)sim_link_tell(s, controller, survey->redis, &event);
    sim_votes_check(s, controller);
}

static void votes_on_deadline(struct sim *s, struct world_event *e)
{
    const struct sim_survey *survey = &s->controllers[e->who].surveys[e->target];
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen)
        return;
    if (survey->open && survey->number == e->number)
        votes_end(s, e->who, e->target);
}

static void votes_on_answer(struct sim *s, struct world_event *e)
{
    struct sim_survey *survey = &s->controllers[e->who].surveys[e->target];
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen)
        return;
    if (!survey->open || survey->number != e->number)
        return; /* late */
    memcpy(&survey->votes.views[survey->votes.n++], e->data, sizeof(survey->votes.views[0]));
    if (survey->votes.n == survey->asked)
        votes_end(s, e->who, e->target);
}

static void votes_on_question(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    int asker = e->kind, redis = (int)e->x;
    const struct failover *f = &s->controllers[e->who].failover[e->target];
    struct topology_address address;
    struct health_trust trust;
    struct health_view *view = (struct health_view *)calloc(1, sizeof(*view));
    if (!view)
        abort();
    sim_redis_address(redis, &address);
    int member = f->has_record ? topology_member_find(&f->record, &address) : -1;
    sim_votes_trust(s, e->who, &trust);
    if (member >= 0)
        health_view(&f->health[member], &trust, sim_clock_us(s, e->who), view);
    if (world_chance(&s->world, s->loss_permille)) {
        free(view);
        return;
    }
    struct world_event *answer = world_at(&s->world, sim_network_at(s, e->who, asker, NULL), votes_on_answer);
    answer->who = asker;
    answer->target = e->target;
    answer->gen = e->gen;
    answer->number = e->number;
    answer->data = view;
}

void sim_votes_survey(struct sim *s, int controller, int instance, int redis)
{
    struct sim_controller *c = &s->controllers[controller];
    struct sim_survey *survey = &c->surveys[instance];
    if (survey->open && survey->redis == redis)
        return; /* its answer will do for this one, too */
    survey->open = true;
    survey->number++;
    survey->redis = redis;
    survey->asked = 0;
    memset(&survey->votes, 0, sizeof(survey->votes));
    survey->votes.asked_us = sim_clock_us(s, controller);
    survey->votes.n_controllers = c->outlook.trust.n_controllers;
    for (int k = 0; k < SIM_CONTROLLERS; k++) {
        if (k == controller || !s->controllers[k].alive)
            continue;
        survey->asked++;
        if (world_chance(&s->world, s->loss_permille))
            continue;
        struct world_event *e =
            world_at(&s->world, sim_network_at(s, controller, k, NULL), votes_on_question);
        e->who = k;
        e->target = instance;
        e->kind = controller;
        e->gen = c->life;
        e->number = survey->number;
        e->x = redis;
    }
    struct world_event *e = world_after(&s->world, survey->asked ? VOTES_DEADLINE_US : 0, votes_on_deadline);
    e->who = controller;
    e->target = instance;
    e->gen = c->life;
    e->number = survey->number;
}

/* ---- outlook ------------------------------------------------------------------------------------------- */

void sim_votes_trust(const struct sim *s, int controller, struct health_trust *out)
{
    *out = s->controllers[controller].outlook.trust;
    ablations_change_trust(s, out);
}

static void votes_on_outlook(struct sim *s, struct world_event *e)
{
    struct sim_controller *c = &s->controllers[e->who];
    if (sim_controller_defers(s, e->who, e) || c->life != e->gen || c->outlook_ticks != e->number)
        return;
    sim_votes_check(s, e->who);
}

void sim_votes_check(struct sim *s, int controller)
{
    struct sim_controller *c = &s->controllers[controller];
    int64_t now_us = sim_clock_us(s, controller);
    if (outlook_resigns(&c->outlook, c->leading != 0, now_us) && s->ablation != ABLATE_DISTRUST) {
        sim_controller_step_down(s, controller, true);
    } else if (c->unfit && outlook_may_lead(&c->outlook, now_us)) {
        sim_controller_step_down(s, controller, false);
    }
    int64_t at_us = outlook_deadline_us(&c->outlook);
    if (at_us == 0 || at_us <= now_us)
        return;
    struct world_event *e = world_at(&s->world, sim_clock_at_us(s, controller, at_us), votes_on_outlook);
    e->who = controller;
    e->gen = c->life;
    e->number = ++c->outlook_ticks;
}

static void votes_on_number(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen)
        return;
    outlook_on_controllers(&s->controllers[e->who].outlook, sim_zk_controllers(s));
}

/* Each that is connected to ZooKeeper hears of it. */
void sim_votes_on_controllers(struct sim *s)
{
    for (int k = 0; k < SIM_CONTROLLERS; k++) {
        if (!s->zk.clients[k].up)
            continue;
        struct world_event *e =
            world_at(&s->world, sim_network_at(s, SIM_PLACE_ZK, k, NULL), votes_on_number);
        e->who = k;
        e->gen = s->controllers[k].life;
    }
}
