/* Operators' orders and their answers; planned holds and which proxies hold.
 *
 *   seed ─► order ─► leader's core ─► … ─► ANSWER, exactly one; or the engine's, when leadership ends
 *   HOLD ─► proxies ─► HELD each ─► the core is told how many hold, and who is missing */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

enum { OPERATOR_PATIENCE_US = 25000000 };

/* ---- orders -------------------------------------------------------------------------------------------- */

static int operator_leader(const struct sim *s)
{
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        const struct sim_controller *k = &s->controllers[c];
        if (k->leading && k->alive && !k->paused && sim_zk_candidate_leads(s, k->leading))
            return c;
    }
    return -1;
}

static void operator_draw_target(struct sim *s, int instance, struct topology_address *out)
{
    int any = sim_redis_index(instance, (int)world_between(&s->world, 0, s->n_members[instance] - 1));
    if (world_chance(&s->world, 500))
        sim_redis_address(any, out);
}

static void operator_draw_durability(struct sim *s, const struct topology_instance *record,
                                     struct topology_policy *policy)
{
    policy->durability = world_chance(&s->world, 800) ? TOPOLOGY_STRICT : TOPOLOGY_ASYNC;
    if (policy->durability == TOPOLOGY_STRICT)
        policy->acks =
            (uint32_t)world_between(&s->world, 1, record->n_members > 1 ? record->n_members - 1 : 1);
}

static void operator_draw_fence(struct topology_policy *policy, bool on)
{
    policy->fence = on ? TOPOLOGY_FENCE_ACL : TOPOLOGY_FENCE_NONE;
    memcpy(policy->fence_user, "app", 4);
}

static void operator_draw_policy(struct sim *s, int instance, struct failover_command *order)
{
    static const enum topology_priority labels[] = {TOPOLOGY_NEUTRAL, TOPOLOGY_PREFER, TOPOLOGY_PREFER_NOT,
                                                    TOPOLOGY_MUST_NOT};
    const struct topology_instance *record = &s->zk.nodes[instance].record;
    order->policy = record->policy;
    order->policy.cooldown_ms = (uint32_t)world_between(&s->world, 0, 3000);
    order->policy.auto_failover = s->story != SIM_CHAOS || world_chance(&s->world, 700);
    if (s->story == SIM_STRICT)
        operator_draw_durability(s, record, &order->policy);
    if (s->fence[instance] && world_chance(&s->world, 500))
        operator_draw_fence(&order->policy, world_chance(&s->world, 700));
    if (world_chance(&s->world, 500)) {
        uint32_t k = (uint32_t)world_between(&s->world, 0, (int64_t)record->n_members - 1);
        order->n_labels = 1;
        order->labels[0] = record->members[k];
        order->labels[0].priority = labels[world_between(&s->world, 0, s->story == SIM_CHAOS ? 3 : 2)];
    }
}

static void operator_draw_order(struct sim *s, int instance, struct failover_command *order)
{
    switch (order->type) {
    case FAILOVER_COMMAND_SWITCHOVER:
        operator_draw_target(s, instance, &order->target);
        order->limit_ms = s->quiet || world_chance(&s->world, 500) ? 0 : world_between(&s->world, 1, 4000);
        break;
    case FAILOVER_COMMAND_FAILOVER:
        operator_draw_target(s, instance, &order->target);
        order->data_loss_allowed = world_chance(&s->world, s->story == SIM_STRICT ? 100 : 300);
        break;
    case FAILOVER_COMMAND_PAUSE:
        memcpy(order->pause.owner, "operator", 9);
        memcpy(order->pause.reason, "the simulation wants it", 24);
        order->pause.since_ms = sim_wall_ms(s);
        order->pause.until_ms =
            world_chance(&s->world, 300) ? 0 : sim_wall_ms(s) + world_between(&s->world, 10, 5000);
        break;
    case FAILOVER_COMMAND_SET:
        operator_draw_policy(s, instance, order);
        break;
    case FAILOVER_COMMAND_FORGET:
        operator_draw_target(s, instance, &order->target);
        break;
    case FAILOVER_COMMAND_RESUME:
    case FAILOVER_COMMAND_ACK:
        break;
    }
}

static void operator_give(struct sim *s, int controller, int instance, struct failover_command *order)
{
    static const char *const names[] = {"switchover", "failover", "pause", "resume", "ack", "set", "forget"};
    struct sim_order *slot = NULL;
    for (int k = 0; !slot && k < SIM_ORDERS; k++) {
        if (s->controllers[controller].orders[instance][k].id == 0)
            slot = &s->controllers[controller].orders[instance][k];
    }
    if (!slot)
        return;
    order->id = ++s->order_ids;
    memcpy(order->by, "operator", 9);
    *slot = (struct sim_order){.id = order->id, .at_us = s->world.now_us};
    s->stats->orders++;
    s->witness[instance].sets += order->type == FAILOVER_COMMAND_SET;
    char text[TOPOLOGY_ADDRESS_MAX + 1];
    world_trace(&s->world, "an operator orders c%d: %s of i%d, to %s%s (order %llu)", controller,
                names[order->type], instance, topology_address_format(&order->target, text),
                order->data_loss_allowed ? ", data may be lost" : "", (unsigned long long)order->id);
    struct failover_event event = {.type = FAILOVER_ON_COMMAND, .command = order};
    sim_controller_tell(s, controller, instance, &event);
}

void sim_operator_order(struct sim *s, int instance, enum failover_command_type type)
{
    int leader = operator_leader(s);
    struct failover_command order;
    memset(&order, 0, sizeof(order));
    order.type = type;
    operator_draw_order(s, instance, &order);
    if (leader >= 0 && s->zk.nodes[instance].record.n_members > 0)
        operator_give(s, leader, instance, &order);
}

void sim_operator_fence(struct sim *s, int instance, bool on)
{
    int leader = operator_leader(s);
    const struct topology_instance *record = &s->zk.nodes[instance].record;
    struct failover_command order;
    if (leader < 0 || topology_is_fenced(record) == on)
        return;
    memset(&order, 0, sizeof(order));
    order.type = FAILOVER_COMMAND_SET;
    order.policy = record->policy;
    operator_draw_fence(&order.policy, on);
    operator_give(s, leader, instance, &order);
}

void sim_operator_mend(struct sim *s)
{
    static const enum failover_command_type mending[] = {FAILOVER_COMMAND_RESUME, FAILOVER_COMMAND_ACK};
    int leader = operator_leader(s);
    struct failover_command order;
    memset(&s->maintenance, 0, sizeof(s->maintenance));
    for (int i = 0; leader >= 0 && i < s->n_instances; i++) {
        const struct topology_instance *record = &s->zk.nodes[i].record;
        for (int k = 0; k < 2; k++) {
            if (k == 0 ? record->pause.owner[0] == '\0' : record->cooldown.strikes == 0)
                continue;
            memset(&order, 0, sizeof(order));
            order.type = mending[k];
            operator_give(s, leader, i, &order);
        }
        if (!sim_strict_is_stuck(s, i))
            continue;
        memset(&order, 0, sizeof(order));
        order.type = FAILOVER_COMMAND_FAILOVER;
        order.data_loss_allowed = true;
        operator_give(s, leader, i, &order);
    }
}

void sim_operator_on_answer(struct sim *s, int controller, int instance, const struct failover_action *a)
{
    struct sim_order *orders = s->controllers[controller].orders[instance];
    world_trace(&s->world, "  c%d i%d answers order %llu: %s, %s", controller, instance,
                (unsigned long long)a->command, a->err ? err_name(a->err) : "done",
                s->update.reports[a->report].text);
    *(a->err ? &s->stats->answers_refused : &s->stats->answers_done) += 1;
    for (int k = 0; k < SIM_ORDERS; k++) {
        if (orders[k].id == a->command) {
            orders[k].id = 0;
            return;
        }
    }
    world_fail(&s->world, "answers", "c%d i%d answers order %llu, which does not wait", controller, instance,
               (unsigned long long)a->command);
}

void sim_operator_on_lost(struct sim *s, int controller)
{
    memset(s->controllers[controller].orders, 0, sizeof(s->controllers[controller].orders));
    memset(s->controllers[controller].holds, 0, sizeof(s->controllers[controller].holds));
}

uint64_t sim_operator_unanswered(const struct sim *s)
{
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        for (int i = 0; i < SIM_INSTANCES; i++) {
            for (int k = 0; k < SIM_ORDERS; k++) {
                const struct sim_order *o = &s->controllers[c].orders[i][k];
                if (o->id != 0 && s->world.now_us - o->at_us > OPERATOR_PATIENCE_US)
                    return o->id;
            }
        }
    }
    return 0;
}

/* ---- holds --------------------------------------------------------------------------------------------- */

static void operator_tell_held(struct sim *s, int controller, int instance)
{
    const struct sim_hold *h = &s->controllers[controller].holds[instance];
    char missing[32] = "";
    size_t at = 0;
    uint32_t n_held = 0, n_awaited = 0;
    for (int p = 0; p < SIM_PROXIES; p++) {
        bool awaited = h->awaited >> p & 1, held = h->held >> p & 1;
        n_awaited += awaited;
        n_held += awaited && held;
        if (awaited && !held)
            at += (size_t)snprintf(missing + at, sizeof(missing) - at, "%sp%d", at ? ", " : "", p);
    }
    struct failover_event event = {.type = FAILOVER_ON_HELD,
                                   .epoch = h->epoch,
                                   .n_held = n_held,
                                   .n_awaited = n_awaited,
                                   .text = missing};
    sim_controller_tell(s, controller, instance, &event);
}

static void operator_on_hold(struct sim *s, struct world_event *e)
{
    const struct sim_controller *c = &s->controllers[e->who];
    if (sim_controller_defers(s, e->who, e) || c->life != e->gen)
        return;
    if (c->holds[e->target].open && c->holds[e->target].epoch == (uint64_t)e->x)
        operator_tell_held(s, e->who, e->target);
}

void sim_operator_hold(struct sim *s, int controller, int instance, const struct failover_action *a)
{
    struct sim_controller *c = &s->controllers[controller];
    const struct failover *f = &c->failover[instance];
    c->holds[instance] =
        (struct sim_hold){.open = true, .epoch = f->record.epoch, .awaited = sim_zk_proxies(s)};
    if (s->ablation == ABLATE_PAUSE)
        c->holds[instance].held = c->holds[instance].awaited;
    struct message m;
    memset(&m, 0, sizeof(m));
    message_from_instance(&f->record, &m);
    m.type = MESSAGE_HOLD;
    m.limit_ms = (uint32_t)a->limit_ms;
    m.revision = (uint64_t)f->revision;
    m.term = c->leading;
    m.seq = ++c->seq;
    sim_proxy_publish(s, controller, &m);
    struct world_event *e = world_after(&s->world, 0, operator_on_hold);
    e->who = controller;
    e->target = instance;
    e->gen = c->life;
    e->x = (int64_t)f->record.epoch;
}

static void operator_on_held(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e))
        return;
    struct sim_hold *h = &s->controllers[e->who].holds[e->target];
    if (!h->open || h->epoch != (uint64_t)e->x || !s->controllers[e->who].leading)
        return;
    h->held |= 1u << e->kind;
    operator_tell_held(s, e->who, e->target);
}

void sim_operator_on_held(struct sim *s, int proxy, int instance, uint64_t epoch)
{
    const struct sim_proxy *p = &s->proxies[proxy];
    int leader = p->book.leader[0] == 'c' ? p->book.leader[1] - '0' : -1;
    if (leader < 0 || leader >= SIM_CONTROLLERS || world_chance(&s->world, s->loss_permille))
        return;
    struct world_event *e =
        world_at(&s->world, sim_network_at(s, SIM_PLACE_PROXY + proxy, leader, NULL), operator_on_held);
    e->who = leader;
    e->target = instance;
    e->kind = proxy;
    e->x = (int64_t)epoch;
}
