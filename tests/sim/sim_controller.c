/* A controller process: the election core, one failover core an instance, and what feeds them.
 *
 * A paused process keeps what arrives and handles it, late, once it goes on: as after SIGSTOP and SIGCONT. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <string.h>

enum { CONTROLLER_BEAT_US = 250000, CONTROLLER_RETRY_US = 1000 };

static void controller_elect(struct sim *s, int controller, const struct election_event *event);

bool sim_controller_defers(struct sim *s, int controller, struct world_event *e)
{
    struct sim_controller *c = &s->controllers[controller];
    if (!c->alive)
        return true; /* it ends here */
    if (!c->paused)
        return false;
    world_inbox_put(&s->world, &c->inbox, e);
    return true;
}

void sim_controller_tell(struct sim *s, int controller, int instance, const struct failover_event *event)
{
    struct sim_controller *c = &s->controllers[controller];
    struct failover *f = &c->failover[instance];
    assert(c->alive && !c->paused);
    struct failover_event now = *event;
    struct health_trust trust;
    sim_votes_trust(s, controller, &trust);
    now.now_us = sim_clock_us(s, controller);
    now.wall_ms = ablations_wall_ms(s);
    now.trust = &trust;
    now.maintenance = s->maintenance.owner[0] ? &s->maintenance : NULL;
    enum failover_phase before = f->phase;
    ablations_before_step(s, f);
    failover_step(f, &now, &s->update);
    ablations_after_step(s, &now, f);
    if (s->world.tracing && ((event->type != FAILOVER_ON_INFO && event->type != FAILOVER_ON_KNOCK) ||
                             s->update.n > 0 || f->phase != before))
        world_trace_line(&s->world, "c%d i%d %s member=%d err=%s: %s -> %s row=%u", controller, instance,
                         failover_event_name(event->type), event->member,
                         event->err ? err_name(event->err) : "0", failover_phase_name(before),
                         failover_phase_name(f->phase), s->update.row);
    sim_engine_run(s, controller, instance);
}

/* ---- leadership ---------------------------------------------------------------------------------------- */

static void controller_lead(struct sim *s, int controller, uint64_t term)
{
    struct sim_controller *c = &s->controllers[controller];
    world_trace(&s->world, "c%d %s term=%llu", controller, term ? "leads" : "leads no more",
                (unsigned long long)(term ? term : c->leading));
    c->leading = term;
    c->reloading = false;
    if (term == 0)
        sim_operator_on_lost(s, controller);
    if (term && term != c->seq_term) { /* a suspended leader may lead again in the same term: seq goes on */
        c->seq_term = term;
        c->seq = 0;
    }
    for (int i = 0; i < s->n_instances; i++) {
        struct failover_event event = {.type = FAILOVER_ON_LEAD, .term = term};
        sim_controller_tell(s, controller, i, &event);
    }
}

static void controller_read(struct sim *s, int controller, int instance, uint64_t term)
{
    struct zk_request q;
    q.op = ZK_OP_GET;
    q.client = controller;
    q.instance = instance;
    q.watch = true;
    q.sync = term != 0;
    q.czxid = term;
    (void)sim_zk_send(s, &q); /* when not connected, everything is read on the next connection */
}

static void controller_on_retry(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen)
        return;
    struct election_event event = {.type = ELECTION_ON_FAILED, .err = ERR_CONNECTION};
    controller_elect(s, e->who, &event);
}

static uint64_t controller_czxid(const char *node)
{
    uint64_t value = 0;
    for (const char *p = node + 2; *p; p++)
        value = value * 10 + (uint64_t)(*p - '0');
    return value;
}

static void controller_elect_action(struct sim *s, int controller, const struct election_update *update)
{
    static const enum zk_op ops[] = {
        [ELECTION_DO_LIST] = ZK_OP_LIST,     [ELECTION_DO_CREATE] = ZK_OP_ENLIST,
        [ELECTION_DO_WATCH] = ZK_OP_EXISTS,  [ELECTION_DO_DELETE] = ZK_OP_REMOVE,
        [ELECTION_DO_REMOVE] = ZK_OP_REMOVE,
    };
    if (update->action == ELECTION_DO_NOTHING)
        return;
    struct zk_request q;
    q.op = ops[update->action];
    q.client = controller;
    q.instance = -1;
    bool removes = update->action == ELECTION_DO_DELETE || update->action == ELECTION_DO_REMOVE;
    bool named = removes || update->action == ELECTION_DO_WATCH;
    q.czxid = named ? controller_czxid(update->node) : 0;
    if (sim_zk_send(s, &q) || removes)
        return;
    struct world_event *e = world_after(&s->world, CONTROLLER_RETRY_US, controller_on_retry);
    e->who = controller;
    e->gen = s->controllers[controller].life;
}

static void controller_elect(struct sim *s, int controller, const struct election_event *event)
{
    struct sim_controller *c = &s->controllers[controller];
    struct election_update update;
    uint64_t before = c->election.term;
    election_step(&c->election, event, &update);
    controller_elect_action(s, controller, &update);
    if (c->election.term == before)
        return;
    if (c->leading)
        controller_lead(s, controller, 0);
    c->reloading = c->election.term != 0;
    memset(c->known, 0, sizeof(c->known));
    for (int i = 0; c->reloading && i < s->n_instances; i++)
        controller_read(s, controller, i, c->election.term);
}

/* ---- what ZooKeeper tells ------------------------------------------------------------------------------ */

void sim_controller_on_session(struct sim *s, int controller, bool up, bool expired)
{
    struct election_event event = {.type = ELECTION_ON_SUSPENDED};
    if (up) {
        for (int i = 0; i < s->n_instances; i++)
            controller_read(s, controller, i, 0);
        event.type = ELECTION_ON_SESSION;
        event.session = s->zk.clients[controller].session;
    } else if (expired) {
        event.type = ELECTION_ON_EXPIRED;
    }
    controller_elect(s, controller, &event);
}

static void controller_on_record(struct sim *s, int controller, const struct zk_pending *p,
                                 const struct zk_reply *reply)
{
    struct sim_controller *c = &s->controllers[controller];
    if (reply->err)
        return; /* the connection is gone; the next one reads everything */
    struct failover_event event = {.type = FAILOVER_ON_RECORD,
                                   .record = &reply->record,
                                   .version = reply->version,
                                   .revision = reply->revision};
    sim_controller_tell(s, controller, p->instance, &event);
    if (!c->reloading || p->czxid != c->election.term)
        return;
    c->known[p->instance] = true;
    for (int i = 0; i < s->n_instances; i++) {
        if (!c->known[i])
            return;
    }
    controller_lead(s, controller, c->election.term);
}

void sim_controller_on_reply(struct sim *s, int controller, const struct zk_pending *p,
                             const struct zk_reply *reply)
{
    struct election_event vote = {.err = reply->err, .entries = reply->entries, .n = reply->n};
    struct failover_event event = {.err = reply->err, .version = reply->version, .revision = reply->revision};
    switch (p->op) {
    case ZK_OP_GET:
        controller_on_record(s, controller, p, reply);
        break;
    case ZK_OP_COMMIT:
        event.type = reply->err ? FAILOVER_ON_COMMIT_FAILED : FAILOVER_ON_COMMITTED;
        sim_controller_tell(s, controller, p->instance, &event);
        break;
    case ZK_OP_LIST:
        vote.type = reply->err ? ELECTION_ON_FAILED : ELECTION_ON_LIST;
        controller_elect(s, controller, &vote);
        break;
    case ZK_OP_ENLIST:
        vote.type = ELECTION_ON_CREATED;
        controller_elect(s, controller, &vote);
        break;
    case ZK_OP_EXISTS:
        vote.type = ELECTION_ON_CHANGED;
        if (reply->err)
            controller_elect(s, controller, &vote);
        break;
    case ZK_OP_NOTE:
    case ZK_OP_REMOVE:
    case ZK_OP_PING:
    case ZK_OP_CONNECT:
        break;
    }
}

void sim_controller_on_watch(struct sim *s, int controller, int instance)
{
    struct election_event event = {.type = ELECTION_ON_CHANGED};
    if (instance >= 0)
        controller_read(s, controller, instance, 0);
    else
        controller_elect(s, controller, &event);
}

/* ---- the process --------------------------------------------------------------------------------------- */

static void controller_on_beat(struct sim *s, struct world_event *e)
{
    struct sim_controller *c = &s->controllers[e->who];
    if (sim_controller_defers(s, e->who, e) || c->life != e->gen)
        return;
    struct world_event *next = world_after(&s->world, CONTROLLER_BEAT_US, controller_on_beat);
    next->who = e->who;
    next->gen = e->gen;
    if (!c->leading)
        return;
    struct message m;
    memset(&m, 0, sizeof(m));
    m.type = MESSAGE_BEAT;
    m.term = c->leading;
    m.seq = c->seq;
    memcpy(m.id, (const char[]){'c', (char)('0' + e->who), '\0'}, 3);
    sim_proxy_publish(s, e->who, &m);
}

void sim_controller_start(struct sim *s, int controller)
{
    struct sim_controller *c = &s->controllers[controller];
    assert(!c->alive);
    world_trace(&s->world, "c%d starts", controller);
    c->alive = true;
    c->paused = false;
    c->life++;
    c->leading = c->seq_term = 0;
    c->reloading = false;
    c->inbox = (struct world_inbox){NULL, NULL};
    c->unfit = false;
    c->paused_us = 0;
    c->resumed_us = s->world.now_us;
    outlook_init(&c->outlook);
    for (int i = 0; i < SIM_INSTANCES; i++)
        c->surveys[i].open = false;
    memset(c->tick_at, 0, sizeof(c->tick_at));
    memset(c->late, 0, sizeof(c->late));
    election_init(&c->election);
    for (int i = 0; i < s->n_instances; i++)
        failover_init(&c->failover[i]);
    sim_zk_client_start(s, controller);
    struct world_event *e = world_after(&s->world, CONTROLLER_BEAT_US, controller_on_beat);
    e->who = controller;
    e->gen = c->life;
}

void sim_controller_end(struct sim *s, int controller)
{
    world_inbox_clear(&s->world, &s->controllers[controller].inbox);
}

void sim_controller_step_down(struct sim *s, int controller, bool down)
{
    struct sim_controller *c = &s->controllers[controller];
    struct election_event event = {.type = down ? ELECTION_ON_YIELD : ELECTION_ON_FIT};
    world_trace(&s->world, "c%d %s", controller, down ? "is unfit to lead" : "may lead again");
    c->unfit = down;
    controller_elect(s, controller, &event);
}

/* A standby's connection to the leader broke, and another one is refused. */
static void controller_on_leader_gone(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e) || s->controllers[e->who].life != e->gen)
        return;
    struct election_event event = {.type = ELECTION_ON_LEADER_GONE, .czxid = (uint64_t)e->x};
    controller_elect(s, e->who, &event);
}

static void controller_tell_gone(struct sim *s, int controller)
{
    for (int k = 0; k < SIM_CONTROLLERS; k++) {
        if (k == controller || !s->controllers[k].alive || sim_network_is_cut(s, controller, k))
            continue;
        struct world_event *e =
            world_at(&s->world, sim_network_at(s, controller, k, NULL), controller_on_leader_gone);
        e->who = k;
        e->gen = s->controllers[k].life;
        e->x = (int64_t)s->controllers[controller].election.term;
    }
}

void sim_controller_crash(struct sim *s, int controller)
{
    struct sim_controller *c = &s->controllers[controller];
    assert(c->alive);
    world_trace(&s->world, "c%d crashes", controller);
    if (c->election.term)
        controller_tell_gone(s, controller);
    c->alive = c->paused = false;
    c->crashed_us = s->world.now_us;
    c->crashed_from_us = c->resumed_us;
    c->life++;
    c->leading = 0;
    world_inbox_clear(&s->world, &c->inbox);
    sim_operator_on_lost(s, controller);
    sim_link_close_all(s, controller);
    sim_zk_client_stop(s, controller, world_chance(&s->world, 300));
}

static void controller_on_exit(struct sim *s, struct world_event *e)
{
    if (s->controllers[e->who].alive && s->controllers[e->who].life == e->gen)
        sim_controller_crash(s, e->who);
}

void sim_controller_resign(struct sim *s, int controller)
{
    struct sim_controller *c = &s->controllers[controller];
    struct election_event event = {.type = ELECTION_ON_RESIGN};
    if (!c->alive || c->paused)
        return;
    world_trace(&s->world, "c%d resigns", controller);
    controller_elect(s, controller, &event);
    struct world_event *e = world_after(&s->world, world_between(&s->world, 100, 50000), controller_on_exit);
    e->who = controller;
    e->gen = c->life;
}

void sim_controller_pause(struct sim *s, int controller, bool paused)
{
    struct sim_controller *c = &s->controllers[controller];
    if (!c->alive || c->paused == paused)
        return;
    world_trace(&s->world, "c%d %s", controller, paused ? "is stopped" : "goes on");
    c->paused = paused;
    if (paused) {
        c->paused_us = s->world.now_us;
        return;
    }
    if ((s->world.now_us - c->paused_us) * c->rate_permille / 1000 >= OUTLOOK_LAG_US)
        c->resumed_us = s->world.now_us;
    /* The late turn is noticed before anything of it is handled. */
    outlook_on_lag(&c->outlook, (s->world.now_us - c->paused_us) * c->rate_permille / 1000,
                   sim_clock_us(s, controller));
    world_inbox_run(s, &s->world, &c->inbox);
    if (!c->alive)
        return;
    if (!s->zk.up)
        sim_zk_client_break(s, controller);
}
