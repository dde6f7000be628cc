/* What can go wrong, one thing at a time. stories.c draws when and how often. All of it ends when calm
 * begins. */
#include "tests/sim/faults.h"

#include <assert.h>
#include <string.h>

/* ---- Redis --------------------------------------------------------------------------------------------- */

static void faults_on_start(struct sim *s, struct world_event *e)
{
    if (!s->redis[e->who].alive && !s->redis[e->who].gone)
        sim_redis_start(s, e->who, (enum redis_restart)e->kind);
}

static void faults_restart_after(struct sim *s, int redis, int64_t delay_us)
{
    struct world_event *e = world_after(&s->world, delay_us, faults_on_start);
    e->who = redis;
    e->kind = (int)world_between(&s->world, REDIS_SAME, REDIS_NO_OFFSET);
}

/* Back at once, soon, later, or only when calm begins. */
void faults_kill(struct sim *s, int redis)
{
    if (!s->redis[redis].alive)
        return;
    sim_redis_kill(s, redis);
    switch (world_between(&s->world, 0, 3)) {
    case 0:
        faults_restart_after(s, redis, world_between(&s->world, 300, 5000));
        break;
    case 1:
        faults_restart_after(s, redis, world_between(&s->world, 5000, 300000));
        break;
    case 2:
        faults_restart_after(s, redis, world_between(&s->world, 300000, 3000000));
        break;
    default:
        break;
    }
}

int faults_master(const struct sim *s, int instance)
{
    const struct topology_instance *record = &s->zk.nodes[instance].record;
    const struct topology_address *to = topology_route(record);
    return to ? sim_redis_at(to) : -1;
}

int faults_replica(struct sim *s, int instance)
{
    int first = (int)world_between(&s->world, 0, s->n_members[instance] - 1);
    for (int k = 0; k < s->n_members[instance]; k++) {
        int redis = sim_redis_index(instance, (first + k) % s->n_members[instance]);
        if (redis != faults_master(s, instance))
            return redis;
    }
    return -1;
}

/* Shorter than any limit, by any controller's clock. */
int64_t faults_stall_max_us(const struct sim *s, int instance)
{
    const struct topology_policy *p = &s->zk.nodes[instance].record.policy;
    uint32_t limit_ms =
        p->hung_after_ms < p->unreachable_after_ms ? p->hung_after_ms : p->unreachable_after_ms;
    int64_t most_us = (int64_t)limit_ms * 1000 * 10 / 11 - 100000;
    /* What the others have noticed up to half a second later counts beside the silence that the blind one
     * counts (health.c, vote_slack_us). */
    if (s->blind >= 0)
        most_us -= 500000;
    return most_us > 1000 ? most_us : 1000;
}

/* ---- network, controllers, ZooKeeper ------------------------------------------------------------------- */

static void faults_on_zk_back(struct sim *s, struct world_event *e)
{
    (void)e;
    sim_zk_set_up(s, true);
}

static void faults_on_controller_back(struct sim *s, struct world_event *e)
{
    if (!s->controllers[e->who].alive)
        sim_controller_start(s, e->who);
    else
        sim_controller_pause(s, e->who, false);
}

static void faults_crash(struct sim *s, int controller)
{
    if (!s->controllers[controller].alive)
        return;
    sim_controller_crash(s, controller);
    world_after(&s->world, world_between(&s->world, 1000, 4000000), faults_on_controller_back)->who =
        controller;
}

void faults_stale_until(struct sim *s, int64_t until_us)
{
    if (until_us > s->stale_until_us)
        s->stale_until_us = until_us;
}

static void faults_pause(struct sim *s, int controller)
{
    if (!s->controllers[controller].alive)
        return;
    sim_controller_pause(s, controller, true);
    int64_t for_us = world_between(&s->world, 1000, 5000000);
    world_after(&s->world, for_us, faults_on_controller_back)->who = controller;
    faults_stale_until(s, s->world.now_us + for_us + 1000000);
}

static void faults_on_mended(struct sim *s, struct world_event *e)
{
    (void)e;
    sim_monitor_refresh(s);
}

void sim_network_cut(struct sim *s, int from, int to, int64_t until_us)
{
    if (from == to || s->cut_until[from][to] >= until_us)
        return;
    s->cut_until[from][to] = until_us;
    s->cuts++;
    faults_stale_until(s, until_us + 1000000);
    sim_monitor_refresh(s);
    (void)world_at(&s->world, until_us, faults_on_mended);
}

/* Both ways, or one of them. */
void faults_cut_pair(struct sim *s, int a, int b, int64_t for_us)
{
    int64_t until_us = s->world.now_us + for_us;
    int ways = (int)world_between(&s->world, 0, 3);
    world_trace(&s->world, "places %d and %d are cut %s until %.6f", a, b,
                ways == 0   ? "one way"
                : ways == 1 ? "the other way"
                            : "both ways",
                (double)(until_us - 1000000) / 1e6);
    if (ways != 1)
        sim_network_cut(s, a, b, until_us);
    if (ways != 0)
        sim_network_cut(s, b, a, until_us);
}

static int faults_place(struct sim *s)
{
    return (int)world_between(&s->world, 0, SIM_PLACES - 1);
}

/* Two groups of places that do not hear each other; one way only, sometimes. */
static void faults_split(struct sim *s, int64_t for_us)
{
    uint32_t side = 0;
    int64_t until_us = s->world.now_us + for_us;
    bool one_way = world_chance(&s->world, 300);
    uint32_t weight = (uint32_t)world_between(&s->world, 150, 850);
    for (int k = 0; k < SIM_PLACES; k++)
        side |= (uint32_t)world_chance(&s->world, weight) << k;
    world_trace(&s->world, "places are split, mask %x, %s, until %.6f", side,
                one_way ? "one way" : "both ways", (double)(until_us - 1000000) / 1e6);
    for (int a = 0; a < SIM_PLACES; a++) {
        for (int b = 0; b < SIM_PLACES; b++) {
            if ((side >> a & 1) != (side >> b & 1) && (!one_way || (side >> a & 1)))
                sim_network_cut(s, a, b, until_us);
        }
    }
}

void faults_blind(struct sim *s, int controller, int64_t for_us)
{
    uint32_t weight = (uint32_t)world_between(&s->world, 500, 1000);
    world_trace(&s->world, "c%d loses sight of most members", controller);
    for (int r = 0; r < SIM_REDISES; r++) {
        if (s->redis[r].exists && world_chance(&s->world, weight))
            faults_cut_pair(s, controller, SIM_PLACE_REDIS + r, for_us);
    }
}

/* ---- a process that lives but does not do its work ----------------------------------------------------- */

static void faults_on_continue(struct sim *s, struct world_event *e)
{
    if (s->redis[e->who].stops == e->gen)
        sim_redis_stop(s, e->who, false);
}

void faults_stop(struct sim *s, int redis, int64_t for_us)
{
    if (redis < 0 || !s->redis[redis].alive || s->redis[redis].stopped_us)
        return;
    sim_redis_stop(s, redis, true);
    faults_stale_until(s, s->world.now_us + for_us + 1000000);
    struct world_event *e = world_after(&s->world, for_us, faults_on_continue);
    e->who = redis;
    e->gen = s->redis[redis].stops;
}

static void faults_on_well(struct sim *s, struct world_event *e)
{
    if (s->redis[e->who].process == e->gen && !s->redis[e->who].loading)
        sim_redis_say(s, e->who, HEALTH_SAID_OK);
}

void faults_say(struct sim *s, int redis, enum health_said said, int64_t for_us)
{
    if (redis < 0 || !s->redis[redis].alive || s->redis[redis].loading)
        return;
    sim_redis_say(s, redis, said);
    struct world_event *e = world_after(&s->world, for_us, faults_on_well);
    e->who = redis;
    e->gen = s->redis[redis].process;
}

static void faults_switch_off(struct sim *s, int redis)
{
    if (redis < 0 || !s->redis[redis].alive)
        return;
    sim_redis_switch_off(s, redis);
    if (world_chance(&s->world, 700))
        faults_restart_after(s, redis, world_between(&s->world, 500000, 8000000));
}

/* ---- all together -------------------------------------------------------------------------------------- */

static int faults_leader(struct sim *s)
{
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        if (s->controllers[c].leading)
            return c;
    }
    return (int)world_between(&s->world, 0, SIM_CONTROLLERS - 1);
}

static void faults_on_kill_ahead(struct sim *s, struct world_event *e)
{
    if (!s->calm)
        faults_kill(s, e->who);
}

static void faults_kill_ahead(struct sim *s, int instance, int master)
{
    const struct topology_instance *record = &s->zk.nodes[instance].record;
    for (uint32_t k = 0; k < record->n_members; k++) {
        int redis = sim_redis_at(&record->members[k].address);
        if (redis != master && record->members[k].priority != TOPOLOGY_MUST_NOT)
            faults_stop(s, redis, world_between(&s->world, 250000, 900000));
    }
    world_after(&s->world, world_between(&s->world, 50000, 240000), faults_on_kill_ahead)->who = master;
}

static void faults_on_kill_master(struct sim *s, struct world_event *e)
{
    int master = faults_master(s, e->who);
    if (!s->calm && master >= 0)
        faults_kill(s, master);
}

/* From the other members, both ways; the control plane still sees it. */
static void faults_isolate(struct sim *s, int instance, int alone, int64_t for_us)
{
    for (int k = 0; k < s->n_members[instance]; k++) {
        int redis = sim_redis_index(instance, k);
        if (redis == alone)
            continue;
        sim_network_cut(s, SIM_PLACE_REDIS + alone, SIM_PLACE_REDIS + redis, s->world.now_us + for_us);
        sim_network_cut(s, SIM_PLACE_REDIS + redis, SIM_PLACE_REDIS + alone, s->world.now_us + for_us);
    }
}

static void faults_kill_twice(struct sim *s, int instance)
{
    int alone = faults_replica(s, instance);
    int64_t for_us = world_between(&s->world, 300000, 2000000);
    if (alone >= 0)
        faults_isolate(s, instance, alone, for_us);
    int64_t first_us = world_between(&s->world, 50000, 250000);
    world_after(&s->world, first_us, faults_on_kill_master)->who = instance;
    world_after(&s->world, first_us + world_between(&s->world, 20000, for_us), faults_on_kill_master)->who =
        instance;
}

static void faults_on_back_behind(struct sim *s, struct world_event *e)
{
    if (s->calm || !s->redis[e->who].alive)
        return;
    sim_redis_kill(s, e->who);
    struct world_event *back = world_after(&s->world, world_between(&s->world, 300, 5000), faults_on_start);
    back->who = e->who;
    back->kind = REDIS_OLD;
}

static void faults_kill_behind(struct sim *s, int instance)
{
    int behind = faults_replica(s, instance), master = faults_master(s, instance);
    if (behind < 0 || !s->redis[behind].alive)
        return;
    sim_redis_save(s, behind);
    for (int k = 0; k < s->n_members[instance]; k++) {
        int redis = sim_redis_index(instance, k);
        if (redis != behind && redis != master)
            faults_isolate(s, instance, redis, world_between(&s->world, 800000, 2500000));
    }
    int64_t back_us = world_between(&s->world, 200000, 700000);
    world_after(&s->world, back_us, faults_on_back_behind)->who = behind;
    world_after(&s->world, back_us + world_between(&s->world, 5000, 450000), faults_on_kill_master)->who =
        instance;
}

static void faults_do_redis(struct sim *s, enum fault fault, int instance)
{
    int any = sim_redis_index(instance, (int)world_between(&s->world, 0, s->n_members[instance] - 1));
    int master = faults_master(s, instance);
    switch (fault) {
    case FAULT_SAVE:
        if (s->redis[any].alive)
            sim_redis_save(s, any);
        break;
    case FAULT_KILL_ALL:
        for (int k = 0; k < s->n_members[instance]; k++)
            faults_kill(s, sim_redis_index(instance, k));
        break;
    case FAULT_KILL_MASTER:
        if (master >= 0)
            faults_kill(s, master);
        break;
    case FAULT_KILL_AHEAD:
        if (master >= 0)
            faults_kill_ahead(s, instance, master);
        break;
    case FAULT_KILL_TWICE:
        faults_kill_twice(s, instance);
        break;
    case FAULT_KILL_BEHIND:
        faults_kill_behind(s, instance);
        break;
    case FAULT_KILL_REPLICA:
        any = faults_replica(s, instance);
        if (any >= 0)
            faults_kill(s, any);
        break;
    case FAULT_STOP_MASTER:
        faults_stop(s, master, world_between(&s->world, 1000, 6000000));
        break;
    case FAULT_STOP_ANY:
        faults_stop(s, any, world_between(&s->world, 1000, 6000000));
        break;
    case FAULT_STALL:
        faults_stop(s, any, world_between(&s->world, 1000, faults_stall_max_us(s, instance)));
        break;
    case FAULT_BUSY:
        faults_say(s, any, HEALTH_SAID_BUSY, world_between(&s->world, 1000, 5000000));
        break;
    case FAULT_MISCONF:
        faults_say(s, any, HEALTH_SAID_MISCONF, world_between(&s->world, 1000, 5000000));
        break;
    case FAULT_OFF_MASTER:
        faults_switch_off(s, master);
        break;
    case FAULT_OFF_ANY:
        faults_switch_off(s, any);
        break;
    default:
        assert(!"not a fault of a process");
    }
}

static void faults_flap(struct sim *s, struct world_event *e)
{
    if (s->calm)
        return;
    faults_cut_pair(s, e->who, e->target, world_between(&s->world, 1000, 900000));
    if (e->kind == 0)
        return;
    struct world_event *next = world_after(&s->world, world_between(&s->world, 1000, 1500000), faults_flap);
    next->who = e->who;
    next->target = e->target;
    next->kind = e->kind - 1;
}

static void faults_do_network(struct sim *s, enum fault fault)
{
    int a = faults_place(s), b = faults_place(s);
    if (fault == FAULT_SPLIT) {
        faults_split(s, world_between(&s->world, 1000, 8000000));
    } else if (fault == FAULT_BLIND) {
        faults_blind(s, a % SIM_CONTROLLERS, world_between(&s->world, 1000, 6000000));
    } else if (fault == FAULT_CUT) {
        faults_cut_pair(s, a, b, world_between(&s->world, 1000, 4000000));
    } else {
        struct world_event *e = world_after(&s->world, 0, faults_flap);
        e->who = a;
        e->target = b;
        e->kind = (int)world_between(&s->world, 2, 6);
    }
}

static void faults_do_controller(struct sim *s, enum fault fault, int controller)
{
    switch (fault) {
    case FAULT_ZK_AWAY:
        sim_zk_set_up(s, false);
        (void)world_after(&s->world, world_between(&s->world, 1000, 4000000), faults_on_zk_back);
        break;
    case FAULT_ZK_EXPIRE:
        sim_zk_expire(s, (int)world_between(&s->world, 0, SIM_ZK_CLIENTS - 1));
        break;
    case FAULT_ZK_BREAK:
        if (s->controllers[controller].alive && !s->controllers[controller].paused)
            sim_zk_client_break(s, controller);
        break;
    case FAULT_CRASH:
    case FAULT_CRASH_LEADER:
        faults_crash(s, controller);
        break;
    case FAULT_PAUSE:
    case FAULT_PAUSE_LEADER:
        faults_pause(s, controller);
        break;
    case FAULT_RESIGN:
        sim_controller_resign(s, controller);
        world_after(&s->world, world_between(&s->world, 60000, 2000000), faults_on_controller_back)->who =
            controller;
        break;
    case FAULT_DELETE_LEADER:
        sim_zk_delete_leader(s);
        break;
    default:
        assert(!"not a fault of the control plane");
    }
}

static void faults_do_operator(struct sim *s, enum fault fault, int instance)
{
    if (fault == FAULT_SET) {
        sim_zk_touch(s, instance, world_chance(&s->world, 600));
    } else if (fault == FAULT_SWITCHOVER) {
        sim_operator_order(s, instance, FAILOVER_COMMAND_SWITCHOVER);
    } else if (fault == FAULT_FORGET) {
        sim_operator_order(s, instance, FAILOVER_COMMAND_FORGET);
    } else if (fault == FAULT_MAINTENANCE) {
        world_trace(&s->world, "everything is paused");
        memcpy(s->maintenance.owner, "operator", 9);
        s->maintenance.since_ms = sim_wall_ms(s);
        s->maintenance.until_ms =
            world_chance(&s->world, 500) ? 0 : sim_wall_ms(s) + world_between(&s->world, 10, 5000);
    } else {
        sim_operator_order(s, instance,
                           (enum failover_command_type)world_between(&s->world, FAILOVER_COMMAND_SWITCHOVER,
                                                                     FAILOVER_COMMAND_SET));
    }
}

void faults_do(struct sim *s, enum fault fault)
{
    int controller = (int)world_between(&s->world, 0, SIM_CONTROLLERS - 1);
    int instance = (int)world_between(&s->world, 0, s->n_instances - 1);
    if (fault == FAULT_CRASH_LEADER || fault == FAULT_PAUSE_LEADER || fault == FAULT_RESIGN)
        controller = faults_leader(s);
    if (fault <= FAULT_LAST_OF_REDIS)
        faults_do_redis(s, fault, instance);
    else if (fault <= FAULT_LAST_OF_NETWORK)
        faults_do_network(s, fault);
    else if (fault <= FAULT_LAST_OF_CONTROLLERS)
        faults_do_controller(s, fault, controller);
    else
        faults_do_operator(s, fault, instance);
}

/* Everything that was broken is mended; one process may stay dead for good. */
void faults_mend(struct sim *s)
{
    world_trace(&s->world, "calm begins");
    s->calm = true;
    s->loss_permille = 0;
    sim_zk_set_up(s, true);
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        if (!s->controllers[c].alive)
            sim_controller_start(s, c);
        sim_controller_pause(s, c, false);
    }
    bool one_stays = world_chance(&s->world, 150);
    for (int r = 0; r < SIM_REDISES; r++) {
        if (!s->redis[r].exists)
            continue;
        sim_redis_stop(s, r, false);
        if (!s->redis[r].loading)
            sim_redis_say(s, r, HEALTH_SAID_OK);
        if (s->redis[r].alive)
            continue;
        if (one_stays) {
            world_trace(&s->world, "redis %d stays dead", r);
            s->redis[r].gone = true;
            s->gone_for_good = true;
            one_stays = false;
        } else {
            faults_restart_after(s, r, world_between(&s->world, 300, 500000));
        }
    }
    for (int i = 0; i < s->n_instances; i++)
        sim_zk_touch(s, i, true);
    sim_operator_mend(s);
}
