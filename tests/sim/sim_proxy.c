/* Proxies and their clients: routes by message, by gap and silence from ZooKeeper; writes to the route's
 * master.
 *
 *   PUB (loss, delay, twice) ──► term, seq ──► next ──► route ──► writes ──► acknowledged: remembered
 *                                          └─► gap, new term, silence ──► ZooKeeper ──► route
 */
#include "tests/sim/sim.h"

#include <stdlib.h>
#include <string.h>

enum {
    PROXY_SILENCE_US = 1000000,
    PROXY_TICK_US = 250000,
    PROXY_HINT_US = 500000,
    PROXY_WRITE_MIN_US = 30000,
    PROXY_WRITE_MAX_US = 250000,
};

/* ---- routes -------------------------------------------------------------------------------------------- */

static void proxy_apply(struct sim *s, int proxy, int instance, const struct sim_route *route)
{
    struct sim_route *mine = &s->proxies[proxy].routes[instance];
    if (route->epoch < mine->epoch || route->revision < mine->revision)
        return;
    if (route->master != mine->master || route->epoch != mine->epoch)
        world_trace(&s->world, "proxy %d i%d routes to %d epoch=%llu", proxy, instance, route->master,
                    (unsigned long long)route->epoch);
    mine->epoch = route->epoch;
    mine->revision = route->revision;
    mine->master = route->master;
    mine->doubt = false;
}

static void proxy_read(struct sim *s, int proxy, int instance)
{
    struct sim_proxy *p = &s->proxies[proxy];
    struct zk_request q;
    if (p->reading[instance]) {
        p->again[instance] = true;
        return;
    }
    q.op = ZK_OP_GET;
    q.client = SIM_CONTROLLERS + proxy;
    q.instance = instance;
    q.watch = false;
    q.sync = true;
    q.czxid = 0;
    p->reading[instance] = sim_zk_send(s, &q);
    p->again[instance] = !p->reading[instance];
}

static void proxy_read_all(struct sim *s, int proxy)
{
    for (int i = 0; i < s->n_instances; i++)
        proxy_read(s, proxy, i);
}

void sim_proxy_on_session(struct sim *s, int proxy, bool up)
{
    if (up)
        proxy_read_all(s, proxy);
}

void sim_proxy_on_reply(struct sim *s, int proxy, const struct zk_pending *p, const struct zk_reply *reply)
{
    struct sim_proxy *me = &s->proxies[proxy];
    if (p->op != ZK_OP_GET)
        return;
    me->reading[p->instance] = false;
    if (reply->err == 0) {
        const struct topology_address *to = topology_route(&reply->record);
        struct sim_route route = {
            .epoch = reply->record.epoch, .revision = reply->revision, .master = to ? sim_redis_at(to) : -1};
        proxy_apply(s, proxy, p->instance, &route);
    }
    if (me->again[p->instance] && reply->err == 0)
        proxy_read(s, proxy, p->instance);
}

static void proxy_on_message(struct sim *s, struct world_event *e)
{
    struct sim_proxy *p = &s->proxies[e->who];
    uint64_t term = (uint64_t)e->x, seq = (uint64_t)e->y;
    if (term < p->term)
        return;
    p->heard_us = s->world.now_us;
    bool is_beat = e->target < 0;
    bool is_next = term == p->term && seq == p->seq + (is_beat ? 0 : 1);
    if (term == p->term && seq < p->seq + (is_beat ? 0 : 1))
        return; /* late or twice */
    p->term = term;
    p->seq = seq;
    if (!is_beat)
        proxy_apply(s, e->who, e->target, (const struct sim_route *)e->data);
    if (!is_next)
        proxy_read_all(s, e->who);
}

void sim_proxy_publish(struct sim *s, int controller, uint64_t term, uint64_t seq, int instance,
                       const struct sim_route *route)
{
    for (int p = 0; p < SIM_PROXIES; p++) {
        int copies = world_chance(&s->world, s->loss_permille)   ? 0
                     : world_chance(&s->world, s->loss_permille) ? 2
                                                                 : 1;
        for (; copies > 0; copies--) {
            int64_t at = sim_network_at(s, controller, SIM_PLACE_PROXY + p, NULL);
            struct world_event *e = world_at(&s->world, at, proxy_on_message);
            e->who = p;
            e->target = instance;
            e->x = (int64_t)term;
            e->y = (int64_t)seq;
            if (!route)
                continue;
            e->data = malloc(sizeof(*route));
            if (!e->data)
                abort();
            memcpy(e->data, route, sizeof(*route));
        }
    }
}

/* ---- hints and the watchdog ---------------------------------------------------------------------------- */

static void proxy_on_hint(struct sim *s, struct world_event *e)
{
    if (sim_controller_defers(s, e->who, e) || !s->controllers[e->who].leading)
        return;
    struct failover_event event = {.type = FAILOVER_ON_HINT, .epoch = (uint64_t)e->x};
    sim_controller_tell(s, e->who, e->target, &event);
}

static void proxy_hint(struct sim *s, int proxy, int instance)
{
    struct sim_route *route = &s->proxies[proxy].routes[instance];
    route->hinted_us = s->world.now_us;
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        struct world_event *e =
            world_at(&s->world, sim_network_at(s, SIM_PLACE_PROXY + proxy, c, NULL), proxy_on_hint);
        e->who = c;
        e->target = instance;
        e->x = (int64_t)route->epoch;
    }
}

static void proxy_on_tick(struct sim *s, struct world_event *e)
{
    struct sim_proxy *p = &s->proxies[e->who];
    world_after(&s->world, PROXY_TICK_US, proxy_on_tick)->who = e->who;
    if (s->world.now_us - p->heard_us > PROXY_SILENCE_US) {
        p->heard_us = s->world.now_us;
        proxy_read_all(s, e->who);
    }
    for (int i = 0; i < s->n_instances; i++) {
        if (p->again[i])
            proxy_read(s, e->who, i);
        if (p->routes[i].doubt && s->world.now_us - p->routes[i].hinted_us > PROXY_HINT_US)
            proxy_hint(s, e->who, i);
    }
}

/* ---- clients ------------------------------------------------------------------------------------------- */

static void proxy_on_written(struct sim *s, struct world_event *e)
{
    struct sim_route *route = &s->proxies[e->who].routes[e->target];
    if (e->kind) {
        route->acked_us = s->world.now_us;
        invariants_on_ack(s, e->target, e->number);
    } else if (route->epoch == (uint64_t)e->x && !route->doubt) {
        route->doubt = true;
        proxy_hint(s, e->who, e->target);
    }
}

static void proxy_on_write(struct sim *s, struct world_event *e)
{
    int redis = (int)e->y;
    bool done = sim_redis_write(s, redis, e->number);
    if (done)
        invariants_on_write(s, e->target, (uint64_t)e->x, redis);
    struct world_event *answer =
        world_at(&s->world, sim_network_at(s, SIM_PLACE_REDIS + redis, SIM_PLACE_PROXY + e->who, NULL),
                 proxy_on_written);
    answer->who = e->who;
    answer->target = e->target;
    answer->number = e->number;
    answer->kind = done;
    answer->x = e->x;
}

static void proxy_on_client(struct sim *s, struct world_event *e)
{
    int64_t pause_us = world_between(&s->world, PROXY_WRITE_MIN_US, PROXY_WRITE_MAX_US);
    struct world_event *next = world_after(&s->world, pause_us, proxy_on_client);
    next->who = e->who;
    next->target = e->target;
    const struct sim_route *route = &s->proxies[e->who].routes[e->target];
    if (route->master < 0 || route->doubt)
        return;
    int64_t at = sim_network_at(s, SIM_PLACE_PROXY + e->who, SIM_PLACE_REDIS + route->master, NULL);
    struct world_event *write = world_at(&s->world, at, proxy_on_write);
    write->who = e->who;
    write->target = e->target;
    write->number = ++s->witness[e->target].next_write;
    write->x = (int64_t)route->epoch;
    write->y = route->master;
}

void sim_proxy_start(struct sim *s, int proxy)
{
    struct sim_proxy *p = &s->proxies[proxy];
    memset(p, 0, sizeof(*p));
    p->heard_us = s->world.now_us;
    for (int i = 0; i < s->n_instances; i++) {
        p->routes[i].master = -1;
        struct world_event *e =
            world_after(&s->world, world_between(&s->world, 100000, 300000), proxy_on_client);
        e->who = proxy;
        e->target = i;
    }
    sim_zk_client_start(s, SIM_CONTROLLERS + proxy);
    world_after(&s->world, world_between(&s->world, 1, PROXY_TICK_US), proxy_on_tick)->who = proxy;
}
