/* Proxies and their clients: the real route book decides; one worker each connects, writes, and doubts.
 *
 *   PUB (loss, delay, twice) ─► route_book ─► APPLY ─► worker ─► writes ─► acknowledged: remembered
 *   ZooKeeper (reads, watches) ─┘   ▲ └─► HINT ─► leader   │
 *                                   └────── BROKEN ◄───────┘ refused, closed, -READONLY
 */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PROXY_WRITE_MIN_US = 30000, PROXY_WRITE_MAX_US = 250000, PROXY_ALONE = 1, PROXY_PAUSED_US = 5000 };

static void proxy_step(struct sim *s, int proxy, struct route_event *event);

static int proxy_instance(const char *name)
{
    assert(name[0] == 'i' && name[1] >= '0' && name[1] < '0' + SIM_INSTANCES);
    return name[1] - '0';
}

/* ---- actions of the book ------------------------------------------------------------------------------- */

static void proxy_on_hint(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e) || !s->controllers[e->who].leading)
        return;
    struct failover_event event = {.type = FAILOVER_ON_HINT, .epoch = (uint64_t)e->x};
    sim_controller_tell(s, e->who, e->target, &event);
}

static void proxy_hint(struct sim *s, int proxy, const struct route *route)
{
    const struct sim_proxy *p = &s->proxies[proxy];
    int leader = p->book.leader[0] == 'c' ? p->book.leader[1] - '0' : -1;
    if (leader < 0 || leader >= SIM_CONTROLLERS || world_chance(&s->world, s->loss_permille))
        return;
    struct world_event *e =
        world_at(&s->world, sim_network_at(s, SIM_PLACE_PROXY + proxy, leader, NULL), proxy_on_hint);
    e->who = leader;
    e->target = proxy_instance(route->name);
    e->x = (int64_t)route->epoch;
}

/* What was in flight on it has no answer any more: its clients are told that the outcome is unknown. */
static void proxy_drop_connection(const struct sim *s, struct sim_worker *w)
{
    if (s->ablation == ABLATE_RETRY && w->in_flight > 0)
        w->again = w->newest;
    w->process = 0;
    w->in_flight = 0;
    if (s->ablation != ABLATE_RESET)
        w->connection++;
}

static void proxy_apply(struct sim *s, int proxy, const struct route *route)
{
    int instance = proxy_instance(route->name);
    struct sim_worker *w = &s->proxies[proxy].workers[instance];
    int master = route->state == ROUTE_SERVING ? sim_redis_at(&route->master) : -1;
    if (master != w->master || route->epoch != w->epoch || w->doubt)
        world_trace(&s->world, "proxy %d i%d routes to %d epoch=%llu", proxy, instance, master,
                    (unsigned long long)route->epoch);
    if (master != w->master)
        proxy_drop_connection(s, w);
    w->master = master;
    w->acks = route_acks(route);
    w->epoch = route->epoch;
    w->doubt = false;
    w->hold_until_us = 0;
}

/* A planned hold: nothing more is sent; once nothing is in flight, HELD. */
static bool proxy_is_held(const struct sim *s, const struct sim_worker *w)
{
    return w->hold_until_us > s->world.now_us;
}

static void proxy_say_held(struct sim *s, int proxy, int instance)
{
    struct sim_worker *w = &s->proxies[proxy].workers[instance];
    if (!proxy_is_held(s, w) || w->in_flight > 0 || w->held)
        return;
    char name[8];
    w->held = true;
    snprintf(name, sizeof(name), "i%d", instance);
    struct route_event event = {.type = ROUTE_EVENT_HELD, .name = name, .epoch = w->epoch, .number = w->hold};
    proxy_step(s, proxy, &event);
}

static void proxy_on_idle(struct sim *s, struct world_event *e)
{
    proxy_say_held(s, e->who, e->target);
}

static void proxy_hold(struct sim *s, int proxy, const struct route_action *a)
{
    int instance = proxy_instance(a->entry->route.name);
    struct sim_worker *w = &s->proxies[proxy].workers[instance];
    if (s->ablation == ABLATE_PAUSE)
        return;
    world_trace(&s->world, "proxy %d i%d holds for %u ms, %u in flight", proxy, instance, a->limit_ms,
                w->in_flight);
    w->hold = a->number;
    w->hold_until_us = s->world.now_us + (int64_t)a->limit_ms * 1000;
    w->held = false;
    struct world_event *e = world_after(&s->world, 0, proxy_on_idle);
    e->who = proxy;
    e->target = instance;
}

static bool proxy_read_one(struct sim *s, int proxy, int instance, bool watch, uint64_t alone)
{
    struct zk_request q;
    q.op = ZK_OP_GET;
    q.client = SIM_CONTROLLERS + proxy;
    q.instance = instance;
    q.watch = watch;
    q.sync = true;
    q.czxid = alone;
    return sim_zk_send(s, &q);
}

static void proxy_read(struct sim *s, int proxy, bool watch)
{
    struct sim_proxy *p = &s->proxies[proxy];
    bool sent = true;
    p->reads_left = 0;
    for (int i = 0; i < s->n_instances; i++) {
        sent = sent && proxy_read_one(s, proxy, i, watch, 0);
        p->reads_left += sent;
    }
    p->read_failed = !sent;
    assert(sent); /* the book reads only while the store is up */
}

static void proxy_do(struct sim *s, int proxy, const struct route_action *a)
{
    switch (a->type) {
    case ROUTE_ACTION_APPLY:
        proxy_apply(s, proxy, &a->entry->route);
        break;
    case ROUTE_ACTION_READ:
        proxy_read(s, proxy, a->watch);
        break;
    case ROUTE_ACTION_HINT:
        proxy_hint(s, proxy, &a->entry->route);
        break;
    case ROUTE_ACTION_DROP: /* no instance is ever deleted here */
        world_fail(&s->world, "routes", "proxy %d drops %s", proxy, a->name);
        break;
    case ROUTE_ACTION_PAUSE:
        proxy_hold(s, proxy, a);
        break;
    case ROUTE_ACTION_HELD:
        sim_operator_on_held(s, proxy, proxy_instance(a->entry->route.name), a->epoch);
        break;
    case ROUTE_ACTION_RECONNECT:
    case ROUTE_ACTION_FOLLOW:
    case ROUTE_ACTION_ACK:
        break;
    }
}

static void proxy_on_tick(struct sim *s, struct world_event *e)
{
    struct sim_proxy *p = &s->proxies[e->who];
    struct route_event event = {.type = ROUTE_EVENT_TICK};
    if (p->ticks != e->gen)
        return;
    p->tick_at = 0;
    proxy_step(s, e->who, &event);
}

static void proxy_step(struct sim *s, int proxy, struct route_event *event)
{
    struct sim_proxy *p = &s->proxies[proxy];
    event->now_us = s->world.now_us;
    if (route_book_step(&p->book, event) != 0)
        abort(); /* out of memory */
    for (size_t k = 0; k < p->book.n_actions; k++)
        proxy_do(s, proxy, &p->book.actions[k]);
    int64_t deadline_us = route_book_deadline_us(&p->book);
    if (deadline_us == p->tick_at)
        return;
    p->tick_at = deadline_us;
    int64_t at_us = deadline_us > s->world.now_us ? deadline_us : s->world.now_us + 500;
    struct world_event *e = world_at(&s->world, at_us, proxy_on_tick);
    e->who = proxy;
    e->gen = ++p->ticks;
}

/* ---- what the book is told ----------------------------------------------------------------------------- */

void sim_proxy_on_session(struct sim *s, int proxy, bool up)
{
    struct route_event event = {.type = up ? ROUTE_EVENT_STORE_UP : ROUTE_EVENT_STORE_LOST};
    s->proxies[proxy].reads_left = 0;
    if (s->proxies[proxy].book.store_up != up)
        proxy_step(s, proxy, &event);
}

void sim_proxy_on_watch(struct sim *s, int proxy, int instance)
{
    (void)proxy_read_one(s, proxy, instance, true, PROXY_ALONE); /* when away: all is read once it is back */
}

void sim_proxy_on_reply(struct sim *s, int proxy, const struct zk_pending *p, const struct zk_reply *reply)
{
    struct sim_proxy *me = &s->proxies[proxy];
    struct route route;
    struct route_event event = {.type = ROUTE_EVENT_RECORD, .route = &route};
    bool alone = p->czxid == PROXY_ALONE;
    if (p->op != ZK_OP_GET || (!alone && me->reads_left == 0))
        return;
    me->reads_left -= !alone;
    if (reply->err == 0) {
        if (route_from_instance(&reply->record, (uint64_t)reply->revision, &route))
            proxy_step(s, proxy, &event);
        else
            world_fail(&s->world, "routes", "proxy %d can't serve from i%d's record", proxy, p->instance);
    }
    if (alone || !me->book.reading)
        return;
    me->read_failed |= reply->err != 0;
    if (me->reads_left > 0)
        return;
    event.type = me->read_failed ? ROUTE_EVENT_READ_FAILED : ROUTE_EVENT_READ_DONE;
    event.route = NULL;
    proxy_step(s, proxy, &event);
}

static void proxy_on_message(struct sim *s, struct world_event *e)
{
    struct route_event event = {.type = ROUTE_EVENT_MESSAGE, .message = (const struct message *)e->data};
    proxy_step(s, e->who, &event);
}

void sim_proxy_publish(struct sim *s, int controller, const struct message *m)
{
    struct sim_controller *c = &s->controllers[controller];
    for (int p = 0; p < SIM_PROXIES; p++) {
        /* A connection that was cut for long is given up, with what was sent on it. */
        bool cut = s->cut_until[controller][SIM_PLACE_PROXY + p] > s->world.now_us;
        bool lost = world_chance(&s->world, cut ? 500 : s->loss_permille);
        bool twice = world_chance(&s->world, s->loss_permille);
        for (int copies = lost ? 0 : twice ? 2 : 1; copies > 0; copies--) {
            int64_t at =
                sim_network_at(s, controller, SIM_PLACE_PROXY + p, twice ? NULL : &c->to_proxy_at[p]);
            struct world_event *e = world_at(&s->world, at, proxy_on_message);
            e->who = p;
            e->data = malloc(sizeof(*m));
            if (!e->data)
                abort();
            memcpy(e->data, m, sizeof(*m));
        }
    }
}

static void proxy_doubt(struct sim *s, int proxy, int instance)
{
    struct sim_worker *w = &s->proxies[proxy].workers[instance];
    char name[8];
    struct topology_address master;
    proxy_drop_connection(s, w);
    if (w->doubt || w->master < 0)
        return;
    w->doubt = true;
    snprintf(name, sizeof(name), "i%d", instance);
    sim_redis_address(w->master, &master);
    struct route_event event = {
        .type = ROUTE_EVENT_BROKEN, .name = name, .epoch = w->epoch, .master = &master};
    proxy_step(s, proxy, &event);
}

/* ---- the worker and its client ------------------------------------------------------------------------- */

static void proxy_on_fin(struct sim *s, struct world_event *e)
{
    const struct sim_worker *w = &s->proxies[e->who].workers[s->redis[e->target].instance];
    if (w->master == e->target && w->process == e->gen)
        proxy_doubt(s, e->who, s->redis[e->target].instance);
}

void sim_proxy_on_death(struct sim *s, int redis, int64_t after_us)
{
    for (int p = 0; p < SIM_PROXIES; p++) {
        const struct sim_worker *w = &s->proxies[p].workers[s->redis[redis].instance];
        if (w->master != redis || w->process != s->redis[redis].process)
            continue;
        int64_t at = sim_network_at(s, SIM_PLACE_REDIS + redis, SIM_PLACE_PROXY + p, NULL);
        struct world_event *e = world_at(&s->world, at + after_us, proxy_on_fin);
        e->who = p;
        e->target = redis;
        e->gen = s->redis[redis].process;
    }
}

enum proxy_outcome { PROXY_BROKEN, PROXY_DONE, PROXY_REFUSED };

/* The client is told that its write was done. */
static void proxy_acknowledge(struct sim *s, int proxy, int instance, uint64_t epoch, int redis,
                              uint32_t write, uint32_t acks)
{
    const struct sim_worker *w = &s->proxies[proxy].workers[instance];
    invariants_on_ack(s, proxy, instance, epoch, redis, write, acks);
    if (w->master >= 0 && w->master != redis)
        world_fail(&s->world, "late answer",
                   "proxy %d i%d acknowledges write %u of %d although it routes to %d in epoch %llu", proxy,
                   instance, write, redis, w->master, (unsigned long long)w->epoch);
}

/* Of each other write of a strict instance a second client of this proxy has read: its reply has come right
 * behind the write's, and is held with it, for it shows what isn't acknowledged. */
static bool proxy_is_read(const struct sim_worker *w, uint32_t write)
{
    return w->acks > 0 && write % 2 == 0;
}

/* The answer to a WAIT: its reply has been held meanwhile. */
void sim_proxy_on_waited(struct sim *s, int proxy, int instance, uint32_t acks, bool done, int redis,
                         uint64_t epoch, uint32_t write, uint32_t connection)
{
    struct sim_worker *w = &s->proxies[proxy].workers[instance];
    if (w->connection != connection)
        return;
    if (w->in_flight > 0)
        w->in_flight--;
    if (done)
        proxy_acknowledge(s, proxy, instance, epoch, redis, write, acks);
    else
        s->stats->shorts++;
    if (done && proxy_is_read(w, write))
        invariants_on_shown(s, instance, epoch, write, acks);
    proxy_say_held(s, proxy, instance);
}

static bool proxy_holds(struct sim *s, const struct world_event *e)
{
    const struct sim_worker *w = &s->proxies[e->who].workers[e->target];
    if (s->ablation == ABLATE_SHOW && proxy_is_read(w, e->number))
        invariants_on_shown(s, e->target, (uint64_t)e->x, e->number, w->acks);
    if (w->acks == 0 || s->ablation == ABLATE_HOLD)
        return false;
    struct strict_wait wait = {.proxy = e->who,
                               .instance = e->target,
                               .redis = (int)e->y,
                               .process = e->gen,
                               .connection = (uint32_t)e->z,
                               .write = e->number,
                               .acks = w->acks,
                               .epoch = (uint64_t)e->x};
    sim_strict_wait(s, &wait);
    return true;
}

static void proxy_on_written(struct sim *s, struct world_event *e)
{
    struct sim_worker *w = &s->proxies[e->who].workers[e->target];
    if (w->connection != (uint32_t)e->z)
        return; /* that connection was dropped: nobody hears the answer */
    if (e->kind == PROXY_DONE) {
        w->acked_us = s->world.now_us;
        if (w->master == (int)e->y)
            w->process = e->gen;
        if (proxy_holds(s, e))
            return;
    }
    if (w->in_flight > 0)
        w->in_flight--;
    if (e->kind == PROXY_DONE) {
        uint32_t claimed = s->ablation == ABLATE_HOLD ? w->acks : 0;
        proxy_acknowledge(s, e->who, e->target, (uint64_t)e->x, (int)e->y, e->number, claimed);
    } else if (e->kind == PROXY_BROKEN && w->epoch == (uint64_t)e->x) {
        if (s->quiet)
            world_fail(&s->world, "nobody notices",
                       "proxy %d i%d: write %u failed at %d, nothing but a switchover "
                       "goes on",
                       e->who, e->target, e->number, (int)e->y);
        proxy_doubt(s, e->who, e->target);
    }
    proxy_say_held(s, e->who, e->target);
}

/* The write is at the server, over the connection to the process e->gen; 0: over a new one. */
static void proxy_on_write(struct sim *s, struct world_event *e)
{
    int redis = (int)e->y;
    const struct sim_redis *r = &s->redis[redis];
    bool there = r->alive && (e->gen == 0 || e->gen == r->process);
    if (r->off || (there && sim_redis_defers(s, redis, e)))
        return;
    struct world_event *next = NULL;
    if (there && r->paused_until_us > s->world.now_us) { /* it waits in the server */
        next = world_after(&s->world, PROXY_PAUSED_US, proxy_on_write);
        next->gen = r->process;
    } else {
        bool twice = there && sim_redis_has(&r->data, e->number);
        bool done = there && sim_redis_write(s, redis, e->number);
        if (done && twice)
            world_fail(&s->world, "executed once", "proxy %d i%d: write %u is done again, by %d", e->who,
                       e->target, e->number, redis);
        if (done)
            invariants_on_write(s, e->target, (uint64_t)e->x, redis);
        int64_t at = sim_network_at(s, SIM_PLACE_REDIS + redis, SIM_PLACE_PROXY + e->who, NULL);
        next = world_at(&s->world, at, proxy_on_written);
        next->gen = r->process;
        next->kind = done ? PROXY_DONE : there && r->is_master && !r->loading ? PROXY_REFUSED : PROXY_BROKEN;
    }
    next->who = e->who;
    next->target = e->target;
    next->number = e->number;
    next->x = e->x;
    next->y = e->y;
    next->z = e->z;
}

static void proxy_on_client(struct sim *s, struct world_event *e)
{
    int64_t pause_us = s->strict[e->target]
                           ? world_between(&s->world, PROXY_WRITE_MIN_US / 2, PROXY_WRITE_MAX_US / 2)
                           : world_between(&s->world, PROXY_WRITE_MIN_US, PROXY_WRITE_MAX_US);
    struct world_event *next = world_after(&s->world, pause_us, proxy_on_client);
    next->who = e->who;
    next->target = e->target;
    struct sim_worker *w = &s->proxies[e->who].workers[e->target];
    if (w->master < 0 || w->doubt || proxy_is_held(s, w))
        return;
    int64_t at = sim_network_at(s, SIM_PLACE_PROXY + e->who, SIM_PLACE_REDIS + w->master, NULL);
    struct world_event *write = world_at(&s->world, at, proxy_on_write);
    write->who = e->who;
    write->target = e->target;
    write->number = w->again ? w->again : ++s->witness[e->target].next_write;
    w->newest = write->number;
    w->again = 0;
    write->gen = w->process;
    write->x = (int64_t)w->epoch;
    write->y = w->master;
    write->z = w->connection;
    w->in_flight++;
}

void sim_proxy_start(struct sim *s, int proxy)
{
    struct sim_proxy *p = &s->proxies[proxy];
    memset(p, 0, sizeof(*p));
    route_book_init(&p->book, 1, s->world.now_us);
    for (int i = 0; i < s->n_instances; i++) {
        p->workers[i].master = -1;
        struct world_event *e =
            world_after(&s->world, world_between(&s->world, 100000, 300000), proxy_on_client);
        e->who = proxy;
        e->target = i;
    }
    sim_zk_client_start(s, SIM_CONTROLLERS + proxy);
    struct route_event event = {.type = ROUTE_EVENT_TICK};
    proxy_step(s, proxy, &event);
}

void sim_proxy_end(struct sim *s, int proxy)
{
    route_book_free(&s->proxies[proxy].book);
}
