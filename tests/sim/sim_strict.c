/* Durability `strict`: what replicas acknowledge, what WAIT counts, what a proxy may then tell its client.
 *
 *   write done ─► marker, WAIT k ─► master: k attached replicas, registered or not, have acknowledged the
 * marker? yes ─► acknowledged, promised: no failover may lose it, unless it is ordered to not in time ─► the
 * client is told so; nothing is promised replica applies ─► REPLCONF ACK ─► master
 *
 * Of instances that are async from beginning to end nothing of this happens. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    STRICT_LOOK_US = 1500,
    STRICT_LOOK_MAX_US = 25000,
    STRICT_WAIT_US = 1000000,
    STRICT_LATE_CALM_US = 6000000
};

/* ---- replicas ------------------------------------------------------------------------------------------ */

static void strict_on_replica_ack(struct sim *s, struct world_event *e)
{
    struct sim_redis *m = &s->redis[e->who];
    if (!m->alive || m->process != e->gen || sim_redis_defers(s, e->who, e))
        return;
    if (s->redis[e->target].link != e->number || !sim_redis_is_attached(s, e->target, e->who))
        return;
    if (m->acked[e->target] < e->x)
        m->acked[e->target] = e->x;
}

void sim_strict_on_applied(struct sim *s, int replica)
{
    const struct sim_redis *r = &s->redis[replica];
    if (!s->strict[r->instance] || r->follows < 0 || !r->link_up)
        return;
    int64_t at = sim_network_at(s, SIM_PLACE_REDIS + replica, SIM_PLACE_REDIS + r->follows, NULL);
    struct world_event *e = world_at(&s->world, at, strict_on_replica_ack);
    e->who = r->follows;
    e->gen = r->attached_to;
    e->target = replica;
    e->number = r->link;
    e->x = r->data.offset;
}

void sim_strict_on_attached(struct sim *s, int replica)
{
    const struct sim_redis *r = &s->redis[replica];
    s->redis[r->follows].acked[replica] = 0;
    sim_strict_on_applied(s, replica);
}

/* ---- WAIT ---------------------------------------------------------------------------------------------- */

enum strict_outcome { STRICT_DONE, STRICT_SHORT, STRICT_LOST };

static void strict_on_waited(struct sim *s, struct world_event *e)
{
    sim_proxy_on_waited(s, e->who, e->target, (uint32_t)e->kind, e->z >> 32 == STRICT_DONE, (int)e->y,
                        (uint64_t)e->x, e->number, (uint32_t)e->z);
}

static uint32_t strict_count(const struct sim *s, int redis, int64_t offset)
{
    uint32_t n = 0;
    for (int k = 0; k < SIM_REDISES; k++)
        n += sim_redis_is_attached(s, k, redis) && s->redis[redis].acked[k] >= offset;
    return n;
}

/* Looks until enough replicas have acknowledged, or the time is up. */
static void strict_on_look(struct sim *s, struct world_event *e)
{
    struct strict_wait *w = (struct strict_wait *)e->data;
    const struct sim_redis *r = &s->redis[w->redis];
    if (r->off || (r->alive && r->process == w->process && sim_redis_defers(s, w->redis, e)))
        return;
    enum strict_outcome outcome = STRICT_LOST;
    if (r->alive && r->process == w->process && r->is_master) {
        if (w->marker == 0)
            w->marker = s->ablation == ABLATE_MARKER ? 1 : sim_redis_mark(s, w->redis);
        outcome = strict_count(s, w->redis, w->marker) >= w->acks ? STRICT_DONE : STRICT_SHORT;
        if (outcome == STRICT_SHORT && s->world.now_us < w->until_us) {
            struct world_event *next = world_after(&s->world, w->look_us, strict_on_look);
            w->look_us = w->look_us * 2 < STRICT_LOOK_MAX_US ? w->look_us * 2 : STRICT_LOOK_MAX_US;
            next->data = e->data;
            e->data = NULL;
            return;
        }
    }
    int64_t at = sim_network_at(s, SIM_PLACE_REDIS + w->redis, SIM_PLACE_PROXY + w->proxy, NULL);
    struct world_event *answer = world_at(&s->world, at, strict_on_waited);
    answer->who = w->proxy;
    answer->target = w->instance;
    answer->number = w->write;
    answer->kind = (int)w->acks;
    answer->x = (int64_t)w->epoch;
    answer->y = w->redis;
    answer->z = (int64_t)((uint64_t)outcome << 32 | w->connection);
}

void sim_strict_wait(struct sim *s, const struct strict_wait *wait)
{
    struct strict_wait *w = (struct strict_wait *)malloc(sizeof(*w));
    if (!w)
        abort();
    *w = *wait;
    int64_t at = sim_network_at(s, SIM_PLACE_PROXY + w->proxy, SIM_PLACE_REDIS + w->redis, NULL);
    w->until_us = at + STRICT_WAIT_US;
    w->marker = 0;
    w->look_us = STRICT_LOOK_US;
    world_at(&s->world, at, strict_on_look)->data = w;
}

/* ---- the promise --------------------------------------------------------------------------------------- */

static bool strict_loss_is_ordered(const struct topology_instance *i)
{
    return i->failover.data_loss_allowed && i->failover.epoch == i->epoch;
}

bool sim_strict_promises(const struct sim *s, int instance, uint64_t epoch, uint32_t acks)
{
    const struct topology_instance *truth = &s->zk.nodes[instance].record;
    return truth->policy.durability == TOPOLOGY_STRICT && acks >= truth->policy.acks && acks > 0 &&
           (epoch >= truth->epoch || !strict_loss_is_ordered(truth));
}

/* The end of the promise, and a loss that was ordered, end what was promised. */
void sim_strict_on_commit(struct sim *s, int instance, const struct topology_instance *to)
{
    struct sim_witness *w = &s->witness[instance];
    if (to->policy.durability == TOPOLOGY_STRICT &&
        !(strict_loss_is_ordered(to) && to->state != TOPOLOGY_STABLE))
        return;
    for (uint32_t k = 0; s->strict[instance] && k < w->n_acked; k++)
        w->must_survive[k] = false;
}

static void strict_check(struct sim *s, int instance, int redis, uint32_t from, uint64_t epoch)
{
    const struct sim_witness *w = &s->witness[instance];
    for (uint32_t k = from; k < w->n_acked; k++) {
        if (!w->must_survive[k] || sim_redis_has(&s->redis[redis].data, w->acked[k]))
            continue;
        world_fail(
            &s->world, "durable",
            "i%d epoch %llu: master %d lacks write %u, which enough replicas had acknowledged in epoch %llu",
            instance, (unsigned long long)epoch, redis, w->acked[k], (unsigned long long)w->acked_epoch[k]);
        return;
    }
}

void sim_strict_on_promoted(struct sim *s, int instance, int redis, uint64_t epoch)
{
    if (s->strict[instance])
        strict_check(s, instance, redis, 0, epoch);
}

void sim_strict_on_ack(struct sim *s, int instance, uint64_t epoch)
{
    const struct sim_witness *w = &s->witness[instance];
    uint64_t served = w->served_epoch;
    assert(w->n_acked > 0);
    s->stats->promised += w->must_survive[w->n_acked - 1];
    if (served <= epoch || served >= SIM_EPOCHS || w->candidate[served] < 0)
        return;
    const struct sim_redis *r = &s->redis[w->candidate[served]];
    if (r->alive && !r->tainted)
        strict_check(s, instance, w->candidate[served], w->n_acked - 1, served);
}

/* Nobody may be promoted any more, though all are back: an operator takes the loss. */
bool sim_strict_is_stuck(const struct sim *s, int instance)
{
    return s->strict[instance] && s->calm && s->world.now_us - s->calm_us > STRICT_LATE_CALM_US &&
           s->zk.nodes[instance].record.state == TOPOLOGY_SEALING;
}
