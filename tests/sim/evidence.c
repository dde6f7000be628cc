/* An independent look at each intent: was what it claims really so? From the world's truth, not from what the
 * controllers saw of it.
 *
 * Asked when the leader decides: what it relies on may be as old as a message takes, and its clock may run at
 * another rate than the world's. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <string.h>

enum {
    EVIDENCE_RATE_SLACK = 10,        /* of eleven: a clock that is ten percent fast */
    EVIDENCE_TRANSIT_US = 60000,     /* news under way */
    EVIDENCE_KNOCK_US = 500000,      /* from a knock to the end of the next */
    EVIDENCE_VOTE_SLACK_US = 600000, /* others may have begun to ask later, their word may be older */
    EVIDENCE_VOTE_AGE_US = 2500000,
    EVIDENCE_ASKED_US = 1000000,
    EVIDENCE_FED_US = 1000000,    /* a fed replica hears its master at least once in this time */
    EVIDENCE_STEADY_US = 4000000, /* what was so for so long was seen by everybody who could */
};

static bool evidence_is_automatic(enum topology_verdict v)
{
    return v != TOPOLOGY_VERDICT_MANUAL && v != TOPOLOGY_VERDICT_PLANNED;
}

/* For how long the path had carried no answer, unless that ended more than age_us ago. */
static int64_t evidence_quiet_us(const struct sim *s, int controller, int redis, int64_t age_us)
{
    const struct sim_path *path = &s->paths[controller][redis];
    int64_t from_us = path->quiet_us ? path->quiet_us : path->from_us;
    int64_t to_us = path->quiet_us ? s->world.now_us : path->to_us;
    int64_t resumed_us = s->controllers[controller].resumed_us;
    if (from_us == 0 || s->world.now_us - to_us > age_us)
        return 0;
    if (resumed_us > from_us) /* what it didn't see, it can't have counted */
        from_us = resumed_us;
    return to_us > from_us ? to_us - from_us : 0;
}

/* The same, as it was when the controller crashed: its vote may have been given just before. */
static int64_t evidence_quiet_at_crash_us(const struct sim *s, int controller, int redis, int64_t age_us)
{
    const struct sim_path *path = &s->paths[controller][redis];
    const struct sim_controller *c = &s->controllers[controller];
    int64_t from_us = path->quiet_us ? path->quiet_us : path->from_us;
    if (from_us == 0 || c->crashed_us == 0 || s->world.now_us - c->crashed_us > age_us)
        return 0;
    from_us = c->crashed_from_us > from_us ? c->crashed_from_us : from_us;
    return c->crashed_us > from_us ? c->crashed_us - from_us : 0;
}

/* For how long it has been stopped, or was until lately: a knock tells what was so when it was tried. */
static int64_t evidence_stop_us(const struct sim *s, const struct sim_redis *r)
{
    if (r->stopped_us)
        return s->world.now_us - r->stopped_us;
    int64_t age_us = s->cuts || r->off ? EVIDENCE_KNOCK_US : EVIDENCE_TRANSIT_US;
    return s->world.now_us - r->stop_to_us < age_us ? r->stop_to_us - r->stop_from_us : 0;
}

static bool evidence_sees_little(const struct sim *s, int controller)
{
    int open = 0, silent = 0;
    for (int r = 0; r < SIM_REDISES; r++) {
        open += s->controllers[controller].links[r].open;
        silent += s->controllers[controller].links[r].silent;
    }
    return silent * 2 > open;
}

/* It has known for longer than a vote counts that it sees hardly anybody. */
static bool evidence_has_doubts(const struct sim *s, int controller)
{
    const struct outlook *o = &s->controllers[controller].outlook;
    return evidence_sees_little(s, controller) && o->trust.distrusted &&
           sim_clock_us(s, controller) - o->distrusted_us > EVIDENCE_VOTE_AGE_US / 2;
}

/* Controllers that can have agreed. sure: only those that see most members well, which the leader may not be.
 */
static uint32_t evidence_agreeing(const struct sim *s, int leader, int redis, int64_t needed_us, bool sure)
{
    bool gone = !s->redis[redis].alive && !s->redis[redis].off;
    uint32_t n = 0;
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        int64_t slack_us = c == leader ? 0 : EVIDENCE_VOTE_SLACK_US;
        int64_t age_us = c == leader ? EVIDENCE_TRANSIT_US : EVIDENCE_VOTE_AGE_US;
        if (sure && evidence_has_doubts(s, c))
            continue;
        int64_t quiet_us = evidence_quiet_us(s, c, redis, age_us);
        int64_t before_us = evidence_quiet_at_crash_us(s, c, redis, age_us);
        n += c == leader || gone || (quiet_us > before_us ? quiet_us : before_us) >= needed_us - slack_us;
    }
    return n;
}

/* A replica that the leader could ask all the time and that its master fed all the time. */
static int evidence_fed_replica(const struct sim *s, int controller, const struct topology_instance *from,
                                int master)
{
    int64_t steady_us = s->world.now_us - EVIDENCE_STEADY_US;
    for (uint32_t k = 0; k < from->n_members; k++) {
        int redis = sim_redis_at(&from->members[k].address);
        const struct sim_redis *r = &s->redis[redis];
        const struct sim_path *path = &s->paths[controller][redis];
        const struct sim_link *l = &s->controllers[controller].links[redis];
        if (redis == master || !r->alive || r->stopped_us || r->is_master || !r->link_up ||
            r->follows != master || !s->redis[master].pings || r->said != HEALTH_SAID_OK)
            continue;
        if (path->quiet_us == 0 && path->to_us < steady_us && l->up && !l->silent &&
            s->world.now_us - r->heard_us < EVIDENCE_FED_US && r->gap_to_us < steady_us)
            return redis;
    }
    return -1;
}

/* Controllers that the newest survey asked, as long as it counts: one may have left since. */
static uint32_t evidence_asked(const struct sim *s, int controller, int instance, uint32_t registered)
{
    const struct health_votes *votes = &s->controllers[controller].failover[instance].votes;
    bool counts = sim_clock_us(s, controller) - votes->asked_us < EVIDENCE_ASKED_US;
    return counts && votes->n_controllers > registered ? votes->n_controllers : registered;
}

static void evidence_check_silence(struct sim *s, int controller, int instance,
                                   const struct topology_instance *from, enum topology_verdict verdict,
                                   int master)
{
    const struct sim_redis *r = &s->redis[master];
    const char *name = topology_verdict_name(verdict);
    bool hung = verdict == TOPOLOGY_VERDICT_HUNG;
    int64_t limit_us =
        (int64_t)(hung ? from->policy.hung_after_ms : from->policy.unreachable_after_ms) * 1000;
    int64_t needed_us = limit_us * EVIDENCE_RATE_SLACK / 11 - EVIDENCE_TRANSIT_US;
    int64_t quiet_us = evidence_quiet_us(s, controller, master, EVIDENCE_TRANSIT_US);
    uint32_t n = s->controllers[controller].outlook.trust.n_controllers;
    uint32_t agree = evidence_agreeing(s, controller, master, needed_us, false);
    if (quiet_us < needed_us)
        world_fail(&s->world, "evidence", "i%d: c%d says %s, but %d had been silent to it for %lld ms only",
                   instance, controller, name, master, (long long)quiet_us / 1000);
    if (hung && evidence_stop_us(s, r) < (s->cuts || r->off ? 1 : needed_us))
        world_fail(&s->world, "evidence", "i%d: c%d says HUNG, but %d had been stopped for %lld ms only",
                   instance, controller, master, (long long)evidence_stop_us(s, r) / 1000);
    if (agree * 2 <= n)
        world_fail(&s->world, "majority", "i%d: c%d says %s of %d, as %u of %u controllers could", instance,
                   controller, name, master, agree, n);
    uint32_t sure = evidence_agreeing(s, controller, master, needed_us, true);
    uint32_t asked = evidence_asked(s, controller, instance, n);
    if (evidence_sees_little(s, controller) && (asked < 3 || agree < asked) && sure * 2 <= asked)
        world_fail(&s->world, "distrust",
                   "i%d: c%d says %s of %d, but it sees hardly anybody, %u of %u could agree, %u of them see "
                   "well",
                   instance, controller, name, master, agree, n, sure);
    int fed = evidence_fed_replica(s, controller, from, master);
    if (fed >= 0)
        world_fail(&s->world, "witness", "i%d: c%d says %s of %d, but its replica %d hears it all the time",
                   instance, controller, name, master, fed);
}

static void evidence_check_planned(struct sim *s, int controller, int instance,
                                   const struct topology_instance *from, const struct topology_instance *to,
                                   int master)
{
    const struct sim_witness *w = &s->witness[instance];
    const struct sim_redis *r = &s->redis[master];
    int target = sim_redis_at(&to->failover.target);
    if (target < 0 || target == master) {
        world_fail(&s->world, "switchover", "i%d: c%d switches from %d to %d", instance, controller, master,
                   target);
        return;
    }
    if (!r->alive || !invariants_trusted(s, from, master) || !invariants_trusted(s, from, target))
        return; /* one of them died just now: nothing can be asked of it, and it will not be chosen */
    if (s->zk.nodes[instance].record.epoch != from->epoch)
        return; /* it stood still while another switched: its commit will be refused */
    for (uint32_t k = 0; k < w->n_acked; k++) {
        if (sim_redis_has(&r->data, w->acked[k]) && !sim_redis_has(&s->redis[target].data, w->acked[k])) {
            world_fail(&s->world, "switchover",
                       "i%d: c%d switches to %d, which lacks acknowledged write %u of master %d", instance,
                       controller, target, w->acked[k], master);
            return;
        }
    }
}

static void evidence_check_restraint(struct sim *s, int instance, const struct topology_instance *from,
                                     const struct topology_instance *to)
{
    int64_t now_ms = sim_wall_ms(s);
    enum topology_verdict verdict = to->failover.verdict;
    if (!from->policy.auto_failover)
        world_fail(&s->world, "restraint", "i%d: auto_failover is off", instance);
    if (from->pause.owner[0] != '\0' && (from->pause.until_ms == 0 || from->pause.until_ms > now_ms))
        world_fail(&s->world, "restraint", "i%d: %s although it is paused", instance,
                   topology_verdict_name(verdict));
    if (s->maintenance.owner[0] != '\0' && s->maintenance.until_ms == 0 &&
        now_ms - s->maintenance.since_ms > 1000)
        world_fail(&s->world, "restraint", "i%d: %s although everything is paused", instance,
                   topology_verdict_name(verdict));
    if (from->cooldown.strikes == 0 || verdict == TOPOLOGY_VERDICT_RESTARTED ||
        verdict == TOPOLOGY_VERDICT_DEMOTED)
        return; /* restraint.h: those two don't wait, or what is at that address spreads */
    int64_t wait_ms = from->policy.cooldown_ms;
    for (uint32_t k = 1; k < from->cooldown.strikes && wait_ms < TOPOLOGY_COOLDOWN_MAX_MS; k++)
        wait_ms *= 2;
    wait_ms = wait_ms < TOPOLOGY_COOLDOWN_MAX_MS ? wait_ms : TOPOLOGY_COOLDOWN_MAX_MS;
    if (now_ms >= from->failover.at_ms + wait_ms)
        return;
    if (verdict != TOPOLOGY_VERDICT_DEAD || from->cooldown.bypassed)
        world_fail(&s->world, "restraint", "i%d: %s %lld ms after the last failover, cooldown %lld ms%s",
                   instance, topology_verdict_name(verdict), (long long)(now_ms - from->failover.at_ms),
                   (long long)wait_ms, from->cooldown.bypassed ? ", bypassed before" : "");
}

void evidence_check(struct sim *s, int controller, int instance, const struct topology_instance *from,
                    const struct topology_instance *to)
{
    enum topology_verdict verdict = to->failover.verdict;
    int master = sim_redis_at(&from->master);
    assert(from->state == TOPOLOGY_STABLE && to->state == TOPOLOGY_SEALING && master >= 0);
    const struct sim_redis *r = &s->redis[master];
    bool lives = (r->alive || r->off) && invariants_trusted(s, from, master);
    if (evidence_is_automatic(verdict))
        evidence_check_restraint(s, instance, from, to);
    switch (verdict) {
    case TOPOLOGY_VERDICT_DEAD:
    case TOPOLOGY_VERDICT_RESTARTED:
        if (lives && !r->off)
            world_fail(&s->world, "evidence", "i%d: c%d says %s, but the registered process of %d lives",
                       instance, controller, topology_verdict_name(verdict), master);
        break;
    case TOPOLOGY_VERDICT_HUNG:
    case TOPOLOGY_VERDICT_UNREACHABLE:
        if (lives)
            evidence_check_silence(s, controller, instance, from, verdict, master);
        break;
    case TOPOLOGY_VERDICT_PLANNED:
        evidence_check_planned(s, controller, instance, from, to, master);
        break;
    case TOPOLOGY_VERDICT_DEMOTED: /* invariants_on_commit knows when that may be */
    case TOPOLOGY_VERDICT_MANUAL:
        break;
    case TOPOLOGY_VERDICT_NONE:
        world_fail(&s->world, "evidence", "i%d: c%d has no verdict", instance, controller);
        break;
    }
}
