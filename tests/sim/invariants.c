/* What must hold, whatever happens: design safety.md §1–§5, checked where each thing happens. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

void invariants_create(struct sim *s)
{
    for (int i = 0; i < SIM_INSTANCES; i++) {
        struct sim_witness *w = &s->witness[i];
        memset(w->candidate, -1, sizeof(w->candidate));
        memset(w->writer, -1, sizeof(w->writer));
        w->committed_epoch = s->zk.nodes[i].record.epoch;
        w->next_write = w->n_acked = 0;
        w->changed = false;
        w->served_epoch = w->committed_epoch;
        w->planned_epoch = 0;
        w->sets = 0;
        w->never = false;
    }
}

static int invariants_member(const struct topology_instance *i, const struct topology_address *a)
{
    int member = topology_member_find(i, a);
    return member < 0 ? -1 : sim_redis_at(a);
}

/* ---- the durable record -------------------------------------------------------------------------------- */

static const char *invariants_transition(const struct topology_instance *from,
                                         const struct topology_instance *to)
{
    static const char illegal[] = "this transition is not in the procedure";
    if (to->epoch < from->epoch)
        return "the epoch went back";
    if (to->epoch > from->epoch + 1)
        return "the epoch skipped one";
    bool new_intent = to->epoch == from->epoch + 1;
    if (new_intent)
        return to->state == TOPOLOGY_SEALING ? NULL : "a new epoch begins with SEALING";
    if (from->state == TOPOLOGY_STABLE && to->state == TOPOLOGY_STABLE)
        return topology_address_equal(&from->master, &to->master) ? NULL
                                                                  : "the master changed without an epoch";
    if (from->state == TOPOLOGY_SEALING && to->state == TOPOLOGY_PROMOTING)
        return NULL;
    if (from->state == TOPOLOGY_PROMOTING && to->state == TOPOLOGY_STABLE)
        return topology_address_equal(&from->candidate, &to->master) ? NULL
                                                                     : "another than the candidate is master";
    return illegal;
}

/* Evidence may be as old as a controller was stopped or a message under way; older is no evidence. */
enum { INVARIANTS_STALE_US = 1200000 };

static void invariants_on_demoted(struct sim *s, int instance, const struct topology_instance *before)
{
    int master = sim_redis_at(&before->master);
    if (before->state != TOPOLOGY_STABLE || master < 0)
        return; /* a failover already under way has no master to be well */
    const struct sim_redis *r = &s->redis[master];
    if (r->master_since_us == 0 || !invariants_trusted(s, before, master))
        return;
    if (s->world.now_us - r->master_since_us > INVARIANTS_STALE_US && s->world.now_us > s->stale_until_us)
        world_fail(&s->world, "healthy master", "i%d: %d has been master since %.6f and is failed over",
                   instance, master, (double)(r->master_since_us - 1000000) / 1e6);
}

/* What an operator has set stays, whatever else is committed. */
static void invariants_on_policy(struct sim *s, const struct zk_request *q,
                                 const struct topology_instance *from)
{
    if (q->record.policy.auto_failover != from->policy.auto_failover && s->witness[q->instance].sets == 0)
        world_fail(&s->world, "lost update", "i%d: c%d switches auto_failover %s, which nobody ordered",
                   q->instance, q->client, q->record.policy.auto_failover ? "on" : "off");
}

void invariants_on_commit(struct sim *s, const struct zk_request *q, const struct zk_node *before,
                          bool known_to_lead)
{
    const struct topology_instance *from = &before->record, *to = &q->record;
    struct sim_witness *w = &s->witness[q->instance];
    char why[200];
    char a[TOPOLOGY_ADDRESS_MAX + 1], b[TOPOLOGY_ADDRESS_MAX + 1];
    world_trace(&s->world, "zk: c%d commits i%d %s epoch=%llu master=%s candidate=%s offset=%lld version=%d",
                q->client, q->instance, topology_state_name(to->state), (unsigned long long)to->epoch,
                topology_address_format(&to->master, a), topology_address_format(&to->candidate, b),
                (long long)to->start_offset, before->version + 1);
    if (!known_to_lead)
        world_fail(&s->world, "leader only", "c%d committed to i%d without leading", q->client, q->instance);
    if (topology_check(to, why, sizeof(why)) != 0)
        world_fail(&s->world, "record", "i%d: %s", q->instance, why);
    const char *wrong = invariants_transition(from, to);
    if (wrong)
        world_fail(&s->world, "procedure", "i%d %s epoch %llu -> %s epoch %llu: %s", q->instance,
                   topology_state_name(from->state), (unsigned long long)from->epoch,
                   topology_state_name(to->state), (unsigned long long)to->epoch, wrong);
    if (to->epoch >= SIM_EPOCHS)
        world_fail(&s->world, "restraint", "i%d reached epoch %llu", q->instance,
                   (unsigned long long)to->epoch);
    if (s->world.failed)
        return;
    w->committed_epoch = to->epoch;
    for (uint32_t k = 0; k < from->n_members; k++)
        s->redis[sim_redis_at(&from->members[k].address)].forgotten |=
            topology_member_find(to, &from->members[k].address) < 0;
    for (uint32_t k = 0; k < to->n_members; k++)
        s->redis[sim_redis_at(&to->members[k].address)].forgotten = false;
    sim_strict_on_commit(s, q->instance, to);
    invariants_on_policy(s, q, from);
    if (to->epoch > from->epoch) {
        enum topology_verdict verdict = to->failover.verdict;
        w->changed |= verdict != TOPOLOGY_VERDICT_MANUAL && verdict != TOPOLOGY_VERDICT_PLANNED;
        if (verdict == TOPOLOGY_VERDICT_DEMOTED)
            invariants_on_demoted(s, q->instance, from);
        if (from->state == TOPOLOGY_STABLE)
            s->stats->verdicts[verdict]++;
        s->stats->failovers++;
    }
    if (to->state == TOPOLOGY_PROMOTING)
        invariants_check_choice(s, q, from);
    if (from->state == TOPOLOGY_PROMOTING && to->state == TOPOLOGY_STABLE) {
        s->stats->promotions++;
        s->redis[invariants_member(to, &to->master)].tainted = false; /* whatever it holds is the truth now */
    }
}

/* ---- actions ------------------------------------------------------------------------------------------- */

static void invariants_on_promote(struct sim *s, int controller, int instance,
                                  const struct failover_action *a, int redis, bool leads)
{
    const struct topology_instance *truth = &s->zk.nodes[instance].record;
    const struct sim_witness *w = &s->witness[instance];
    if (a->epoch >= SIM_EPOCHS || w->candidate[a->epoch] != redis)
        world_fail(&s->world, "committed intent", "c%d promotes %d in epoch %llu, whose candidate is %d",
                   controller, redis, (unsigned long long)a->epoch,
                   a->epoch < SIM_EPOCHS ? w->candidate[a->epoch] : -1);
    else if (leads && (truth->state != TOPOLOGY_PROMOTING || truth->epoch != a->epoch ||
                       sim_redis_at(&truth->candidate) != redis))
        world_fail(&s->world, "committed intent",
                   "c%d promotes %d in epoch %llu, but the record is %s epoch %llu", controller, redis,
                   (unsigned long long)a->epoch, topology_state_name(truth->state),
                   (unsigned long long)truth->epoch);
}

static void invariants_on_replicate(struct sim *s, int controller, int instance,
                                    const struct failover_action *a, int redis)
{
    const struct topology_instance *truth = &s->zk.nodes[instance].record;
    int target = sim_redis_at(&a->target);
    const struct topology_address *to = topology_route(truth);
    if (target == redis)
        world_fail(&s->world, "replicate", "c%d makes %d a replica of itself", controller, redis);
    else if (truth->state == TOPOLOGY_SEALING && target >= 0 &&
             s->redis[target].paused_until_us > s->world.now_us)
        return; /* it donates: the chosen one catches up from it */
    else if (!to || target != sim_redis_at(to))
        world_fail(&s->world, "replicate", "c%d points %d at %d, but the record is %s, master %d", controller,
                   redis, target, topology_state_name(truth->state), to ? sim_redis_at(to) : -1);
}

/* Whose final state does the leader know as it chooses? */
static void invariants_note_sealed(struct sim *s, int controller, int instance)
{
    struct sim_controller *c = &s->controllers[controller];
    const struct failover *f = &c->failover[instance];
    c->known_sealed[instance] = 0;
    for (uint32_t k = 0; k < f->proposed.n_members; k++) {
        /* Row 53 and 56: it had its chance to give. */
        bool passed_over = f->donation.failed && f->proposed.members[k].priority == TOPOLOGY_MUST_NOT;
        c->known_sealed[instance] |= (uint32_t)(f->members[k].sealed && !passed_over) << k;
    }
}

/* A leader whose election node is there and lowest is the only writer: the record is what it believes, unless
 * its own commit has been done and not been answered yet. */
void invariants_on_action(struct sim *s, int controller, int instance, const struct failover_action *a)
{
    const struct sim_controller *c = &s->controllers[controller];
    const struct failover *f = &c->failover[instance];
    const struct zk_node *truth = &s->zk.nodes[instance];
    static const enum failover_action_type harmless[] = {
        FAILOVER_DO_PROBE, FAILOVER_DO_REPORT, FAILOVER_DO_RELOAD, FAILOVER_DO_SURVEY, FAILOVER_DO_ANSWER};
    for (size_t k = 0; k < sizeof(harmless) / sizeof(harmless[0]); k++) {
        if (a->type == harmless[k])
            return;
    }
    if (f->term == 0 || c->leading == 0) {
        world_fail(&s->world, "leader only", "c%d does %s without leading", controller,
                   failover_action_name(a->type));
        return;
    }
    bool leads = sim_zk_candidate_leads(s, f->term) && f->version == truth->version;
    int redis = a->member >= 0 ? sim_redis_at(&f->record.members[a->member].address) : -1;
    if (a->type == FAILOVER_DO_COMMIT && f->proposed.state == TOPOLOGY_SEALING &&
        f->record.state == TOPOLOGY_STABLE)
        evidence_check(s, controller, instance, &f->record, &f->proposed);
    else if (a->type == FAILOVER_DO_COMMIT && f->proposed.state == TOPOLOGY_PROMOTING)
        invariants_note_sealed(s, controller, instance);
    else if (a->type == FAILOVER_DO_PROMOTE)
        invariants_on_promote(s, controller, instance, a, redis, leads);
    else if (a->type == FAILOVER_DO_REPLICATE && leads)
        invariants_on_replicate(s, controller, instance, a, redis);
    else if (a->type == FAILOVER_DO_SEAL && leads && truth->record.state == TOPOLOGY_STABLE &&
             sim_redis_at(&truth->record.master) == redis)
        world_fail(&s->world, "seal", "c%d seals %d, the master of a STABLE record", controller, redis);
    else if (a->type == FAILOVER_DO_SEAL && leads && truth->record.state == TOPOLOGY_PROMOTING)
        world_fail(&s->world, "seal", "c%d seals %d while %s is PROMOTING", controller, redis,
                   truth->record.name);
}

/* ---- the end: all is well again, or somebody says why not ---------------------------------------------- */

static int invariants_leader(const struct sim *s)
{
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        if (s->controllers[c].leading && sim_zk_candidate_leads(s, s->controllers[c].leading))
            return c;
    }
    return -1;
}

static bool invariants_members_settled(const struct sim *s, int instance, int master, char *why, size_t size)
{
    for (int m = 0; m < s->n_members[instance]; m++) {
        int redis = sim_redis_index(instance, m);
        const struct sim_redis *r = &s->redis[redis];
        if (r->forgotten)
            continue; /* nobody cares what becomes of it */
        if (!r->gone && !invariants_trusted(s, &s->zk.nodes[instance].record, redis)) {
            snprintf(why, size, "i%d: the process of %d is not registered", instance, redis);
            return false;
        }
        if (!r->gone && !sim_fence_settled(s, redis)) {
            snprintf(why, size, "i%d: the ACL of %d is not as the fence wants it", instance, redis);
            return false;
        }
        if (r->gone || redis == master)
            continue;
        if (!r->alive || r->is_master || r->follows != master || !r->link_up) {
            snprintf(why, size, "i%d: %d is %s of %d, link %s, sealed in epoch %llu", instance, redis,
                     r->is_master ? "master" : "replica", r->follows, r->link_up ? "up" : "down",
                     (unsigned long long)r->sealed_epoch);
            return false;
        }
    }
    return true;
}

static bool invariants_instance_settled(struct sim *s, int leader, int instance, char *why, size_t size)
{
    const struct topology_instance *truth = &s->zk.nodes[instance].record;
    const struct failover *f = &s->controllers[leader].failover[instance];
    int master = sim_redis_at(&truth->master);
    /* REPAIR: who serves reads may change at any time. */
    bool watches = f->phase == FAILOVER_WATCH || f->phase == FAILOVER_REPAIR;
    if (truth->state != TOPOLOGY_STABLE || !watches || f->waiting[0] != '\0') {
        snprintf(why, size, "i%d is %s, its leader c%d in %s: %s", instance,
                 topology_state_name(truth->state), leader, failover_phase_name(f->phase),
                 f->waiting[0] ? f->waiting : "(says nothing)");
        return false;
    }
    if (!s->redis[master].alive || !s->redis[master].is_master || s->redis[master].loading) {
        snprintf(why, size, "i%d: its master %d does not serve", instance, master);
        return false;
    }
    if (!invariants_members_settled(s, instance, master, why, size))
        return false;
    for (int p = 0; p < SIM_PROXIES; p++) {
        const struct sim_worker *w = &s->proxies[p].workers[instance];
        if (w->master != master || w->doubt || s->world.now_us - w->acked_us > 1000000) {
            snprintf(why, size, "i%d: proxy %d routes to %d (%s) instead of %d", instance, p, w->master,
                     w->doubt ? "in doubt" : "no doubt", master);
            return false;
        }
    }
    return true;
}

bool invariants_settled(struct sim *s, char *why, size_t why_size)
{
    int leader = invariants_leader(s);
    if (leader < 0) {
        snprintf(why, why_size, "nobody leads");
        return false;
    }
    for (int i = 0; i < s->n_instances; i++) {
        if (!invariants_instance_settled(s, leader, i, why, why_size))
            return false;
    }
    return true;
}

/* END_ECHO_US: what was delayed by the last faults still arrives. */
enum {
    END_PERIOD_US = 200000,
    END_MEND_US = 1000000,
    END_ECHO_US = 5200000,
    END_LIMIT_US = 35000000,
    END_STAYS_US = 1500000
};

static bool invariants_says_why_not(const struct sim *s)
{
    int leader = invariants_leader(s);
    for (int i = 0; leader >= 0 && i < s->n_instances; i++) {
        if (s->controllers[leader].failover[i].waiting[0] != '\0')
            return true;
    }
    return false;
}

/* Calm: within END_LIMIT_US all is well, and stays so. */
void invariants_watch_end(struct sim *s)
{
    char why[400];
    if (s->world.now_us - s->checked_us < END_PERIOD_US)
        return;
    s->checked_us = s->world.now_us;
    uint64_t unanswered = sim_operator_unanswered(s);
    if (unanswered)
        world_fail(&s->world, "answers", "order %llu is not answered", (unsigned long long)unanswered);
    if (!s->calm) {
        s->calm_us = s->world.now_us;
        return;
    }
    int64_t calm_for_us = s->world.now_us - s->calm_us;
    /* Not with the last look: what that has begun could not be seen through. */
    if (s->settled_us == 0 && calm_for_us < END_LIMIT_US && calm_for_us % END_MEND_US < END_PERIOD_US)
        sim_operator_mend(s);
    if (s->world.now_us - s->calm_us < END_ECHO_US)
        return;
    if (invariants_settled(s, why, sizeof(why))) {
        if (s->settled_us == 0) {
            s->settled_us = s->world.now_us;
            world_trace(&s->world, "settled");
        }
        if (s->world.now_us - s->settled_us < END_STAYS_US)
            return;
        for (int i = 0; i < s->n_instances; i++) {
            if (s->witness[i].never && s->witness[i].changed)
                world_fail(&s->world, "restraint", "i%d failed over although its master was well", i);
            invariants_check_survivors(s, i);
        }
        s->done = true;
        return;
    }
    if (s->settled_us)
        world_fail(&s->world, "stays settled", "it was well, and is not any more: %s", why);
    if (s->world.now_us - s->calm_us < END_LIMIT_US)
        return;
    if (s->gone_for_good && invariants_says_why_not(s)) {
        s->stats->waiting++;
        s->done = true;
        return;
    }
    for (int i = 0; i < s->n_instances; i++)
        invariants_check_survivors(s, i);
    world_fail(&s->world, "settles", "%d s after the last fault: %s", END_LIMIT_US / 1000000, why);
}
