/* What must hold of data and of who may write it: choices, promotions, acknowledgements, survivors. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <string.h>

/* ---- the choice ---------------------------------------------------------------------------------------- */

/* Sealed, and the leader that chose had got the answer. */
static bool invariants_is_known_sealed(const struct sim *s, const struct zk_request *q, int member)
{
    struct topology_address address = q->record.members[member].address;
    return (s->controllers[q->client].known_sealed[q->instance] >> member & 1) &&
           s->redis[sim_redis_at(&address)].sealed_epoch == q->record.epoch;
}

/* The epoch whose promotion began the history that the data stands in. */
static uint64_t invariants_lineage(const struct sim *s, const struct redis_data *d)
{
    const uint64_t n = sizeof(s->id_epoch) / sizeof(s->id_epoch[0]);
    uint64_t own = d->id < n ? s->id_epoch[d->id] : 0;
    return own ? own : d->id2 < n ? s->id_epoch[d->id2] : 0;
}

/* A master that renames its history and dies before its INFO has told so leaves replicas that nobody can tell
 * from those of a stranger. */
static bool invariants_is_recorded(const struct sim *s, const struct topology_instance *i, int redis)
{
    struct info info;
    sim_redis_info(s, redis, &info);
    for (uint32_t k = 0; k < i->n_epochs; k++) {
        const char *id = i->epochs[k].repl_id;
        if (id[0] == '\0' || strcmp(id, info.repl_id) == 0 || strcmp(id, info.repl_id2) == 0)
            return true;
    }
    return false;
}

/* Could this member, sealed for the epoch, have been chosen, and does it hold writes that the candidate
 * lacks? */
static bool invariants_is_better(const struct sim *s, const struct zk_request *q,
                                 const struct topology_instance *before, int member, int redis,
                                 const struct sim_redis *candidate)
{
    const struct sim_redis *r = &s->redis[redis];
    char run_id[TOPOLOGY_RUN_ID_LEN + 1];
    sim_redis_run_id(s, redis, run_id);
    if (!r->alive || r->tainted || !invariants_is_known_sealed(s, q, member) ||
        strcmp(run_id, before->members[member].run_id) != 0 || r->data.n <= candidate->data.n ||
        !invariants_is_recorded(s, before, redis) ||
        invariants_lineage(s, &r->data) < invariants_lineage(s, &candidate->data))
        return false; /* what goes beyond an older history was lost before */
    for (uint32_t k = 0; k < candidate->data.n; k++) {
        if (r->data.writes[k].id != candidate->data.writes[k].id)
            return false;
    }
    return true;
}

bool invariants_trusted(const struct sim *s, const struct topology_instance *i, int redis)
{
    struct topology_address a;
    char run_id[TOPOLOGY_RUN_ID_LEN + 1];
    sim_redis_address(redis, &a);
    int member = topology_member_find(i, &a);
    sim_redis_run_id(s, redis, run_id);
    return member >= 0 && strcmp(run_id, i->members[member].run_id) == 0;
}

static bool invariants_lacks(const struct sim_redis *r, const struct sim_redis *other)
{
    for (uint32_t k = 0; k < other->data.n; k++) {
        if (!sim_redis_has(&r->data, other->data.writes[k].id))
            return true;
    }
    return false;
}

/* An acknowledged write that the candidate lacks though its history is not newer; 0: none. */
static uint32_t invariants_newer(const struct sim *s, const struct zk_request *q,
                                 const struct topology_instance *before, int member, int redis,
                                 const struct sim_redis *candidate)
{
    const struct sim_redis *r = &s->redis[redis];
    const struct sim_witness *w = &s->witness[r->instance];
    if (!r->alive || r->tainted || candidate->tainted || !invariants_is_known_sealed(s, q, member) ||
        !invariants_trusted(s, before, redis))
        return 0;
    uint64_t lineage = invariants_lineage(s, &candidate->data);
    for (uint32_t k = 0; k < w->n_acked; k++) {
        if (w->acked_epoch[k] >= lineage && sim_redis_has(&r->data, w->acked[k]) &&
            !sim_redis_has(&candidate->data, w->acked[k]))
            return w->acked[k];
    }
    return 0;
}

void invariants_check_choice(struct sim *s, const struct zk_request *q,
                             const struct topology_instance *before)
{
    struct sim_witness *w = &s->witness[q->instance];
    uint64_t epoch = q->record.epoch;
    int chosen = sim_redis_at(&q->record.candidate);
    assert(epoch < SIM_EPOCHS);
    if (w->candidate[epoch] >= 0)
        world_fail(&s->world, "one candidate", "i%d epoch %llu: %d and then %d", q->instance,
                   (unsigned long long)epoch, w->candidate[epoch], chosen);
    w->candidate[epoch] = chosen;
    const struct sim_redis *c = &s->redis[chosen];
    if (!c->alive || c->sealed_epoch != epoch || !invariants_trusted(s, &q->record, chosen))
        return; /* it died or was replaced since its seal: the promotion will fail */
    if (s->redis[chosen].is_master || s->redis[chosen].follows >= 0)
        world_fail(&s->world, "sealed", "i%d epoch %llu: %d was chosen but never left its place", q->instance,
                   (unsigned long long)epoch, chosen);
    if (q->record.failover.verdict == TOPOLOGY_VERDICT_MANUAL && q->record.failover.data_loss_allowed)
        return; /* the operator's choice */
    for (int k = 0; k < (int)before->n_members; k++) {
        int redis = sim_redis_at(&before->members[k].address);
        if (redis == chosen)
            continue;
        if (invariants_is_better(s, q, before, k, redis, c))
            world_fail(&s->world, "best candidate",
                       "i%d epoch %llu: %d with %u writes was chosen, but %d, sealed and trusted, has %u",
                       q->instance, (unsigned long long)epoch, chosen, c->data.n, redis,
                       s->redis[redis].data.n);
        uint32_t lost = invariants_newer(s, q, before, k, redis, c);
        if (lost)
            world_fail(&s->world, "newest lineage",
                       "i%d epoch %llu: %d was chosen, but %d, sealed and trusted, has acknowledged write %u "
                       "of as new an epoch",
                       q->instance, (unsigned long long)epoch, chosen, redis, lost);
        if (c->tainted && s->redis[redis].alive && !s->redis[redis].tainted &&
            invariants_is_known_sealed(s, q, k) && invariants_trusted(s, before, redis) &&
            invariants_lineage(s, &s->redis[redis].data) >= invariants_lineage(s, &c->data) &&
            invariants_is_recorded(s, before, redis) && invariants_lacks(c, &s->redis[redis]))
            world_fail(&s->world, "trusted candidate",
                       "i%d epoch %llu: restarted %d was chosen although %d kept its data", q->instance,
                       (unsigned long long)epoch, chosen, redis);
    }
}

/* ---- orders as they are carried out -------------------------------------------------------------------- */

/* A switchover is done: what its old master acknowledged must be there. */
void invariants_on_promoted(struct sim *s, int redis, uint64_t epoch)
{
    int instance = s->redis[redis].instance;
    struct sim_witness *w = &s->witness[instance];
    const struct topology_instance *truth = &s->zk.nodes[instance].record;
    if (epoch <= w->served_epoch)
        return;
    uint64_t before = w->served_epoch;
    w->served_epoch = epoch;
    sim_strict_on_promoted(s, instance, redis, epoch);
    if (truth->failover.verdict != TOPOLOGY_VERDICT_PLANNED || truth->failover.epoch != epoch ||
        truth->state == TOPOLOGY_SEALING)
        return;
    int old = sim_redis_at(&truth->failover.old_master);
    if (old < 0 || s->redis[old].tainted || !invariants_trusted(s, truth, old) || s->redis[redis].tainted)
        return; /* something died meanwhile: that can cost what it costs without a switchover, too */
    if (redis != sim_redis_at(&truth->failover.target) && s->redis[old].sealed_epoch != epoch)
        return; /* neither of the two can be reached: as any failover */
    w->planned_epoch = epoch;
    w->before_planned = before;
    w->sealed_before = s->redis[old].sealed_epoch == epoch;
    for (uint32_t k = 0; k < w->n_acked; k++) {
        if (sim_redis_has(&s->redis[old].data, w->acked[k]) &&
            !sim_redis_has(&s->redis[redis].data, w->acked[k])) {
            world_fail(&s->world, "switchover loses nothing",
                       "i%d epoch %llu: %d was promoted without acknowledged write %u of %d", instance,
                       (unsigned long long)epoch, redis, w->acked[k], old);
            return;
        }
    }
}

/* An acknowledgement of before a switchover that arrives after it. */
void invariants_check_planned(struct sim *s, int instance, uint64_t epoch, uint32_t id)
{
    const struct sim_witness *w = &s->witness[instance];
    const struct topology_instance *truth = &s->zk.nodes[instance].record;
    const struct topology_address *master = topology_route(truth);
    if (w->planned_epoch == 0 || !w->sealed_before || epoch >= w->planned_epoch ||
        epoch < w->before_planned || truth->epoch != w->planned_epoch || !master)
        return;
    if (!sim_redis_has(&s->redis[sim_redis_at(master)].data, id))
        world_fail(&s->world, "switchover loses nothing",
                   "i%d: write %u of epoch %llu is acknowledged after the switchover of epoch %llu, whose "
                   "master lacks it",
                   instance, id, (unsigned long long)epoch, (unsigned long long)w->planned_epoch);
}

void invariants_on_order(struct sim *s, int redis, enum sim_command command, uint64_t epoch)
{
    int instance = s->redis[redis].instance;
    const struct sim_witness *w = &s->witness[instance];
    if (command == SIM_SEAL && epoch > w->committed_epoch)
        world_fail(&s->world, "committed intent",
                   "%d is sealed for epoch %llu, i%d's record is of epoch %llu", redis,
                   (unsigned long long)epoch, instance, (unsigned long long)w->committed_epoch);
    if (command != SIM_PROMOTE)
        return;
    if (epoch >= SIM_EPOCHS || w->candidate[epoch] != redis)
        world_fail(&s->world, "committed intent", "%d is promoted in epoch %llu, whose candidate is %d",
                   redis, (unsigned long long)epoch, epoch < SIM_EPOCHS ? w->candidate[epoch] : -1);
    uint64_t id = s->redis[redis].data.id;
    if (id < sizeof(s->id_epoch) / sizeof(s->id_epoch[0]) && s->id_epoch[id] < epoch)
        s->id_epoch[id] = epoch;
    invariants_on_promoted(s, redis, epoch);
    sim_fence_on_promote(s, redis, epoch);
}

/* A route names a master that the record has named, in that epoch. */
void invariants_on_publish(struct sim *s, int controller, const struct message *m)
{
    int instance = m->instance[1] - '0';
    const struct sim_witness *w = &s->witness[instance];
    int master = topology_address_is_set(&m->master) ? sim_redis_at(&m->master) : -1;
    if (master >= 0)
        sim_fence_on_publish(s, m);
    if (master < 0 || m->epoch >= SIM_EPOCHS || m->epoch <= 1)
        return;
    if (w->candidate[m->epoch] != master)
        world_fail(&s->world, "route", "c%d publishes %d for i%d epoch %llu, whose candidate is %d",
                   controller, master, instance, (unsigned long long)m->epoch, w->candidate[m->epoch]);
}

/* ---- data ---------------------------------------------------------------------------------------------- */

void invariants_on_write(struct sim *s, int instance, uint64_t epoch, int redis)
{
    struct sim_witness *w = &s->witness[instance];
    s->stats->writes++;
    if (epoch >= SIM_EPOCHS)
        return;
    if (w->writer[epoch] >= 0 && w->writer[epoch] != redis)
        world_fail(&s->world, "one master", "i%d epoch %llu: %d and %d both took writes", instance,
                   (unsigned long long)epoch, w->writer[epoch], redis);
    w->writer[epoch] = redis;
}

/* A client knows of that write. */
static void invariants_remember(struct sim *s, int instance, uint64_t epoch, uint32_t id, bool must_survive)
{
    struct sim_witness *w = &s->witness[instance];
    if (w->n_acked == sizeof(w->acked) / sizeof(w->acked[0]))
        return;
    w->must_survive[w->n_acked] = must_survive;
    w->acked_epoch[w->n_acked] = epoch;
    w->acked[w->n_acked++] = id;
    if (s->strict[instance])
        sim_strict_on_ack(s, instance, epoch);
}

void invariants_on_ack(struct sim *s, int proxy, int instance, uint64_t epoch, int redis, uint32_t id,
                       uint32_t acks)
{
    struct sim_worker *worker = &s->proxies[proxy].workers[instance];
    if (epoch < worker->acked_epoch && redis != worker->acked_redis)
        world_fail(&s->world, "epochs overlap",
                   "proxy %d i%d acknowledges write %u of epoch %llu after one of epoch %llu", proxy,
                   instance, id, (unsigned long long)epoch, (unsigned long long)worker->acked_epoch);
    worker->acked_epoch = epoch;
    worker->acked_redis = redis;
    if (!s->redis[redis].tainted) /* one that came back by itself, to a proxy that is cut off with it */
        invariants_check_planned(s, instance, epoch, id);
    invariants_remember(s, instance, epoch, id,
                        s->story == SIM_RESTRAINT || (s->story == SIM_SWITCHOVER && s->quiet) ||
                            sim_strict_promises(s, instance, epoch, acks));
}

void invariants_on_shown(struct sim *s, int instance, uint64_t epoch, uint32_t id, uint32_t acks)
{
    const struct sim_witness *w = &s->witness[instance];
    for (uint32_t k = w->n_acked; k-- > 0;) {
        if (w->acked[k] == id)
            return; /* it was acknowledged, too */
    }
    invariants_remember(s, instance, epoch, id, sim_strict_promises(s, instance, epoch, acks));
}

void invariants_on_fault(struct sim *s, int instance)
{
    struct sim_witness *w = &s->witness[instance];
    for (uint32_t k = 0; k < w->n_acked; k++) {
        for (int m = 0; m < s->n_members[instance]; m++) {
            const struct sim_redis *r = &s->redis[sim_redis_index(instance, m)];
            w->must_survive[k] |=
                r->alive && !r->is_master && r->link_up && sim_redis_has(&r->data, w->acked[k]);
        }
    }
}

void invariants_check_survivors(struct sim *s, int instance)
{
    const struct sim_witness *w = &s->witness[instance];
    int master = sim_redis_at(&s->zk.nodes[instance].record.master);
    for (uint32_t k = 0; k < w->n_acked; k++) {
        if (w->must_survive[k] && !sim_redis_has(&s->redis[master].data, w->acked[k])) {
            world_fail(&s->world, "no loss", "i%d: acknowledged write %u is not on master %d any more",
                       instance, w->acked[k], master);
            return;
        }
    }
}
