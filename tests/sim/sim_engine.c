/* What controller/engine.c does with an update, done to the models: each action in its order. */
#include "tests/sim/sim.h"

#include "controller/core/failover_table.h"

#include <assert.h>
#include <string.h>

static void engine_on_not_committed(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen)
        return;
    struct failover_event event = {.type = FAILOVER_ON_COMMIT_FAILED, .err = ERR_CONNECTION};
    sim_controller_tell(s, e->who, e->target, &event);
}

static void engine_commit(struct sim *s, int controller, int instance)
{
    struct sim_controller *c = &s->controllers[controller];
    struct failover *f = &c->failover[instance];
    struct zk_request q;
    ablations_change_commit(s, &f->record, &f->proposed);
    q.op = ZK_OP_COMMIT;
    q.client = controller;
    q.instance = instance;
    q.czxid = c->leading;
    q.version = f->version;
    q.record = f->proposed;
    if (sim_zk_send(s, &q))
        return;
    struct world_event *e = world_after(&s->world, 0, engine_on_not_committed);
    e->who = controller;
    e->target = instance;
    e->gen = c->life;
}

static void engine_note(struct sim *s, int controller, int instance)
{
    struct zk_request q;
    q.op = ZK_OP_NOTE;
    q.client = controller;
    q.instance = instance;
    q.czxid = s->controllers[controller].leading;
    (void)sim_zk_send(s, &q); /* no event comes back, whatever becomes of it */
}

static void engine_publish(struct sim *s, int controller, int instance, const struct topology_instance *route)
{
    struct sim_controller *c = &s->controllers[controller];
    const struct failover *f = &c->failover[instance];
    struct message m;
    memset(&m, 0, sizeof(m));
    message_from_instance(route, &m);
    m.revision = (uint64_t)f->revision;
    m.term = c->leading;
    m.seq = ++c->seq;
    invariants_on_publish(s, controller, &m);
    sim_proxy_publish(s, controller, &m);
}

/* What an engine that does not wait for its commits would do. */
static void engine_hurry(struct sim *s, int controller, int instance)
{
    const struct failover *f = &s->controllers[controller].failover[instance];
    const struct topology_instance *next = &f->proposed;
    bool intent = next->state == TOPOLOGY_SEALING && s->ablation == ABLATE_INTENT;
    for (int k = 0; intent && k < (int)next->n_members; k++)
        sim_link_command(s, controller, sim_redis_at(&next->members[k].address), SIM_SEAL, next->epoch, -1);
    if (next->state != TOPOLOGY_PROMOTING)
        return;
    if (s->ablation == ABLATE_CHOICE)
        sim_link_command(s, controller, sim_redis_at(&next->candidate), SIM_PROMOTE, next->epoch, -2);
    else if (s->ablation == ABLATE_ROUTE)
        engine_publish(s, controller, instance, next);
}

static void engine_member(struct sim *s, int controller, int redis, const struct failover_action *a)
{
    switch (a->type) {
    case FAILOVER_DO_PROBE:
        sim_link_nudge(s, controller, redis);
        sim_link_command(s, controller, redis, SIM_INFO, 0, 0);
        break;
    case FAILOVER_DO_SEAL:
        sim_link_command(s, controller, redis, SIM_SEAL, a->epoch, -1);
        break;
    case FAILOVER_DO_PROMOTE:
        sim_link_command(s, controller, redis, SIM_PROMOTE, a->epoch, -2);
        break;
    case FAILOVER_DO_REPLICATE:
        sim_link_command(s, controller, redis, SIM_REPLICATE, a->epoch, sim_redis_at(&a->target));
        break;
    case FAILOVER_DO_SURVEY:
        sim_votes_survey(s, controller, s->redis[redis].instance, redis);
        break;
    case FAILOVER_DO_PAUSE:
        sim_link_command(s, controller, redis, SIM_PAUSE, a->epoch, (int)a->limit_ms);
        break;
    case FAILOVER_DO_UNPAUSE:
        sim_link_command(s, controller, redis, SIM_UNPAUSE, a->epoch, 0);
        break;
    case FAILOVER_DO_DONATE:
        faults_on_donation(s, s->redis[redis].instance, redis);
        sim_link_command(s, controller, redis, SIM_DONATE, a->epoch, (int)a->limit_ms);
        break;
    case FAILOVER_DO_FENCE:
        sim_fencing_order(s, controller, redis, &a->fence);
        break;
    default:
        assert(!"an action of a member that the engine does not know");
    }
}

static void engine_action(struct sim *s, int controller, int instance, const struct failover_action *a)
{
    struct sim_controller *c = &s->controllers[controller];
    const struct failover *f = &c->failover[instance];
    if (a->type != FAILOVER_DO_REPORT && a->type != FAILOVER_DO_PROBE)
        world_trace(&s->world, "  c%d i%d does %s member=%d epoch=%llu", controller, instance,
                    failover_action_name(a->type), a->member, (unsigned long long)a->epoch);
    invariants_on_action(s, controller, instance, a);
    switch (a->type) {
    case FAILOVER_DO_COMMIT:
        engine_commit(s, controller, instance);
        engine_hurry(s, controller, instance);
        break;
    case FAILOVER_DO_HISTORY:
        engine_note(s, controller, instance);
        break;
    case FAILOVER_DO_PUBLISH:
        engine_publish(s, controller, instance, &f->route);
        break;
    case FAILOVER_DO_HOLD:
        sim_operator_hold(s, controller, instance, a);
        break;
    case FAILOVER_DO_ANSWER:
        sim_operator_on_answer(s, controller, instance, a);
        break;
    case FAILOVER_DO_RELOAD: {
        struct zk_request q;
        q.op = ZK_OP_GET;
        q.client = controller;
        q.instance = instance;
        q.watch = q.sync = true;
        q.czxid = 0;
        (void)sim_zk_send(s, &q); /* when not connected, everything is read on the next connection */
        break;
    }
    case FAILOVER_DO_REPORT:
        world_trace(&s->world, "  c%d i%d says row=%u %s", controller, instance,
                    s->update.reports[a->report].row, s->update.reports[a->report].text);
        break;
    default:
        assert(a->member >= 0 && a->member < (int)f->record.n_members);
        engine_member(s, controller, sim_redis_at(&f->record.members[a->member].address), a);
    }
}

static void engine_on_tick(struct sim *s, struct world_event *e)
{
    struct sim_controller *c = &s->controllers[e->who];
    if (sim_controller_defers(s, e->who, e) || c->ticks[e->target] != e->gen || c->life != e->number)
        return;
    c->tick_at[e->target] = 0;
    struct failover_event event = {.type = FAILOVER_ON_TICK};
    sim_controller_tell(s, e->who, e->target, &event);
    int64_t deadline_us = failover_deadline_us(&c->failover[e->target]);
    bool late = deadline_us != 0 && deadline_us <= sim_clock_us(s, e->who);
    c->late[e->target] = late ? c->late[e->target] + 1 : 0;
    if (c->late[e->target] > 20)
        world_fail(&s->world, "deadline", "c%d i%d phase %s: ticks in a row leave the deadline in the past",
                   e->who, e->target, failover_phase_name(c->failover[e->target].phase));
}

static void engine_arm(struct sim *s, int controller, int instance)
{
    struct sim_controller *c = &s->controllers[controller];
    int64_t deadline_us = failover_deadline_us(&c->failover[instance]);
    if (deadline_us == c->tick_at[instance])
        return;
    c->tick_at[instance] = deadline_us;
    c->ticks[instance]++;
    if (deadline_us == 0)
        return;
    int64_t at_us = sim_clock_at_us(s, controller, deadline_us);
    if (at_us <= s->world.now_us)
        at_us = s->world.now_us + 1000;
    struct world_event *e = world_at(&s->world, at_us, engine_on_tick);
    e->who = controller;
    e->target = instance;
    e->gen = c->ticks[instance];
    e->number = c->life;
}

/* ---- a crash between any two actions --------------------------------------------------------------------
 */

enum { ENGINE_FROM_US = 2500000, ENGINE_BACK_US = 3000000 };

static void engine_on_back(struct sim *s, struct world_event *e)
{
    if (!s->controllers[e->who].alive)
        sim_controller_start(s, e->who);
}

static void engine_on_doom(struct sim *s, struct world_event *e)
{
    s->controllers[e->who].doomed = false;
    if (s->controllers[e->who].alive)
        sim_controller_crash(s, e->who);
    world_after(&s->world, ENGINE_BACK_US, engine_on_back)->who = e->who;
}

/* `sim --crashes`: is it before this that the leader's life ends? */
bool sim_engine_is_doomed(struct sim *s, int controller, const char *what)
{
    struct sim_controller *c = &s->controllers[controller];
    if (c->doomed)
        return true;
    /* Once all is well only who serves reads still changes. */
    if (!c->leading || s->world.now_us < ENGINE_FROM_US || s->settled_us != 0)
        return false;
    if (++s->actions != s->crash_at)
        return false;
    c->doomed = true;
    s->quiet = false;
    for (int i = 0; i < s->n_instances; i++)
        s->witness[i].never = s->witness[i].never && s->story == SIM_RESTRAINT;
    world_trace(&s->world, "c%d crashes before action %u, %s", controller, s->actions, what);
    world_after(&s->world, 0, engine_on_doom)->who = controller;
    return true;
}

static bool engine_is_doomed(struct sim *s, int controller, const struct failover_action *a)
{
    if (a->type == FAILOVER_DO_PROBE || a->type == FAILOVER_DO_REPORT || a->type == FAILOVER_DO_ANSWER)
        return s->controllers[controller].doomed;
    return sim_engine_is_doomed(s, controller, failover_action_name(a->type));
}

void sim_engine_run(struct sim *s, int controller, int instance)
{
    struct sim_controller *c = &s->controllers[controller];
    struct failover *f = &c->failover[instance];
    for (uint32_t k = 0; k < failover_table_rows; k++) {
        if (s->update.taken >> k & 1)
            s->stats->rows[k]++;
    }
    for (uint32_t k = 0; k < s->update.n; k++) {
        if (engine_is_doomed(s, controller, &s->update.actions[k]))
            return;
        engine_action(s, controller, instance, &s->update.actions[k]);
    }
    for (uint32_t k = 0; f->has_record && k < f->record.n_members; k++) {
        int redis = sim_redis_at(&f->record.members[k].address);
        if (redis < 0 || !s->redis[redis].exists)
            world_fail(&s->world, "members", "the record names a member that never was");
        else if (!c->links[redis].open)
            sim_link_open(s, controller, redis);
    }
    for (int m = 0; f->has_record && m < s->n_members[instance]; m++) {
        struct topology_address a;
        sim_redis_address(sim_redis_index(instance, m), &a);
        if (topology_member_find(&f->record, &a) < 0)
            sim_link_close(s, controller, sim_redis_index(instance, m));
    }
    engine_arm(s, controller, instance);
}
