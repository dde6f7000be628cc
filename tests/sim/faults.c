/* What goes wrong, drawn from the seed: each story has its own faults, all of them end when calm begins. */
#include "tests/sim/sim.h"

#include <assert.h>
#include <string.h>

enum { FAULTS_FIRST_US = 1500000, FAULTS_LAST_US = 9000000, FAULTS_MAX = 14 };

enum fault {
    FAULT_KILL_MASTER,
    FAULT_KILL_REPLICA,
    FAULT_KILL_ALL, /* of one instance, at the same moment */
    FAULT_SAVE,
    FAULT_ZK_AWAY,
    FAULT_ZK_EXPIRE,
    FAULT_ZK_BREAK,
    FAULT_CRASH,
    FAULT_PAUSE,
    FAULT_CRASH_LEADER,
    FAULT_PAUSE_LEADER,
    FAULT_CUT,
    FAULT_SET,
    FAULT_RESIGN,
    FAULT_DELETE_LEADER,
};

/* ---- Redis --------------------------------------------------------------------------------------------- */

static void faults_on_start(struct sim *s, struct world_event *e)
{
    if (!s->redis[e->who].alive)
        sim_redis_start(s, e->who, (enum redis_restart)e->kind);
}

static void faults_restart_after(struct sim *s, int redis, int64_t delay_us)
{
    struct world_event *e = world_after(&s->world, delay_us, faults_on_start);
    e->who = redis;
    e->kind = (int)world_between(&s->world, REDIS_SAME, REDIS_NO_OFFSET);
}

/* Back at once, soon, later, or only when calm begins. */
static void faults_kill(struct sim *s, int redis)
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

static int faults_master(const struct sim *s, int instance)
{
    const struct topology_instance *record = &s->zk.nodes[instance].record;
    const struct topology_address *to = topology_route(record);
    return to ? sim_redis_at(to) : -1;
}

static int faults_replica(struct sim *s, int instance)
{
    int first = (int)world_between(&s->world, 0, s->n_members[instance] - 1);
    for (int k = 0; k < s->n_members[instance]; k++) {
        int redis = sim_redis_index(instance, (first + k) % s->n_members[instance]);
        if (redis != faults_master(s, instance))
            return redis;
    }
    return -1;
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

static void faults_stale_until(struct sim *s, int64_t until_us)
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

static void faults_cut(struct sim *s)
{
    int a = (int)world_between(&s->world, 0, SIM_PLACES - 1),
        b = (int)world_between(&s->world, 0, SIM_PLACES - 1);
    int64_t until_us = s->world.now_us + world_between(&s->world, 1000, 3000000);
    world_trace(&s->world, "places %d and %d are cut until %.6f", a, b, (double)(until_us - 1000000) / 1e6);
    s->cut_until[a][b] = s->cut_until[b][a] = until_us;
    faults_stale_until(s, until_us + 1000000);
}

static int faults_leader(struct sim *s)
{
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        if (s->controllers[c].leading)
            return c;
    }
    return (int)world_between(&s->world, 0, SIM_CONTROLLERS - 1);
}

/* ---- stories ------------------------------------------------------------------------------------------- */

static void faults_do_redis(struct sim *s, enum fault fault, int instance)
{
    int redis = fault == FAULT_KILL_REPLICA ? faults_replica(s, instance) : faults_master(s, instance);
    if (fault == FAULT_SAVE) {
        int any = sim_redis_index(instance, (int)world_between(&s->world, 0, s->n_members[instance] - 1));
        if (s->redis[any].alive)
            sim_redis_save(s, any);
    } else if (fault == FAULT_KILL_ALL) {
        for (int k = 0; k < s->n_members[instance]; k++)
            faults_kill(s, sim_redis_index(instance, k));
    } else if (redis >= 0) {
        faults_kill(s, redis);
    }
}

static void faults_on_fault(struct sim *s, struct world_event *e)
{
    enum fault fault = (enum fault)e->kind;
    int controller = (int)world_between(&s->world, 0, SIM_CONTROLLERS - 1);
    if (fault == FAULT_CRASH_LEADER || fault == FAULT_PAUSE_LEADER || fault == FAULT_RESIGN)
        controller = faults_leader(s);
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
    case FAULT_CUT:
        faults_cut(s);
        break;
    case FAULT_SET:
        sim_zk_touch(s, (int)world_between(&s->world, 0, s->n_instances - 1), world_chance(&s->world, 600));
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
        faults_do_redis(s, fault, (int)world_between(&s->world, 0, s->n_instances - 1));
        break;
    }
}

static enum fault faults_draw(struct sim *s)
{
    static const enum fault quiet[] = {
        FAULT_KILL_REPLICA, FAULT_SAVE,         FAULT_ZK_AWAY, FAULT_ZK_EXPIRE,    FAULT_ZK_BREAK,
        FAULT_CRASH,        FAULT_CRASH_LEADER, FAULT_PAUSE,   FAULT_PAUSE_LEADER, FAULT_CUT,
        FAULT_CUT,          FAULT_SET,          FAULT_RESIGN,  FAULT_DELETE_LEADER};
    static const enum fault redis[] = {FAULT_KILL_MASTER, FAULT_KILL_MASTER, FAULT_KILL_REPLICA,
                                       FAULT_KILL_ALL, FAULT_SAVE};
    if (s->story == SIM_RESTRAINT)
        return quiet[world_between(&s->world, 0, (int)(sizeof(quiet) / sizeof(quiet[0])) - 1)];
    if (s->story == SIM_REDIS_CHAOS || world_chance(&s->world, 400))
        return redis[world_between(&s->world, 0, (int)(sizeof(redis) / sizeof(redis[0])) - 1)];
    return quiet[world_between(&s->world, 0, (int)(sizeof(quiet) / sizeof(quiet[0])) - 1)];
}

/* One master dies, once, while all else is well. */
static void faults_on_only_one(struct sim *s, struct world_event *e)
{
    int instance = (int)world_between(&s->world, 0, s->n_instances - 1);
    (void)e;
    if (world_chance(&s->world, 300))
        sim_redis_save(s, faults_master(s, instance));
    invariants_on_fault(s, instance);
    faults_kill(s, faults_master(s, instance));
}

/* Everything that was broken is mended; one process may stay dead for good. */
static void faults_on_calm(struct sim *s, struct world_event *e)
{
    (void)e;
    world_trace(&s->world, "calm begins");
    s->calm = true;
    s->loss_permille = 0;
    memset(s->cut_until, 0, sizeof(s->cut_until));
    sim_zk_set_up(s, true);
    for (int c = 0; c < SIM_CONTROLLERS; c++) {
        if (!s->controllers[c].alive)
            sim_controller_start(s, c);
        sim_controller_pause(s, c, false);
    }
    bool one_stays = world_chance(&s->world, 150);
    for (int r = 0; r < SIM_REDISES; r++) {
        if (!s->redis[r].exists || s->redis[r].alive)
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
}

void faults_plan(struct sim *s)
{
    int64_t last_us = FAULTS_FIRST_US;
    if (s->story == SIM_ONE_FAULT) {
        last_us = world_between(&s->world, FAULTS_FIRST_US, FAULTS_FIRST_US + 1000000);
        (void)world_after(&s->world, last_us, faults_on_only_one);
    } else {
        int64_t n = world_between(&s->world, 1, FAULTS_MAX);
        for (int64_t k = 0; k < n; k++) {
            int64_t at_us = world_between(&s->world, FAULTS_FIRST_US, FAULTS_LAST_US);
            /* Faults that come together are the ones that find something. */
            if (k > 0 && world_chance(&s->world, 500))
                at_us = last_us + world_between(&s->world, 0, 20000);
            if (at_us > last_us)
                last_us = at_us;
            world_after(&s->world, at_us, faults_on_fault)->kind = (int)faults_draw(s);
        }
    }
    (void)world_after(&s->world, last_us + world_between(&s->world, 100000, 3000000), faults_on_calm);
}
